-- ms.plot: pictures as PNG and SVG through gnuplot, always with the numbers beside them as CSV, and small ones in the terminal.

local doc = require "moonspike.doc"
local lines = require "moonspike.plot.lines"
local landscape = require "moonspike.plot.landscape"
local spikes = require "moonspike.plot.spikes"
local terminal = require "moonspike.plot.terminal"

local plot = {
  learning_curves = require "moonspike.plot.curves", bars = require "moonspike.plot.bars", histogram = require("moonspike.plot.histogram").histogram,
  heatmap = require "moonspike.plot.heatmap", contour = landscape.contour, surface = landscape.surface, confusion = require "moonspike.plot.confusion",
  raster = spikes.raster, trace = spikes.trace,
  images = require "moonspike.plot.images", terminal = terminal,
}

local common = [[


    Options of every picture: file (its name ends in .png or .svg), title, width and height in pixels. The numbers go to a .csv of the same
    name. -> file[, notes], or nil, message: notes name what is not finite and so not drawn; without gnuplot the numbers are written and the
    message says what to install.]]

doc.set(plot.learning_curves, [[
    ms.plot.learning_curves(rows, file[, title or { title =, smooth =, quantity = "published", legend =, width =, height = }])

    Loss and accuracy over epochs. rows: those of a log (ms.log.read), with the fields epoch, train_loss, test_loss, train_accuracy,
    test_accuracy, of which some may lack; a list of such rows, the runs of several seeds: their mean, and one standard deviation (n - 1)
    as a band; { name = rows or runs, ... } for several in one plot, sorted by name, or { { name, rows or runs }, ... } in that order.
    quantity: "published" draws train_loss beside test_loss, as Figures 3, S1 and S2 of arXiv 2506.19256 do: the full loss with its
    regulariser beside the cross entropy, not the same quantity. "same" draws the field train_ce in its place, the cross entropy of the
    mean logits (ms.evaluate(net, train)), beside test_loss.
    smooth: "published" is s[1] = x[1], s[i] = 0.5 s[i-1] + 0.5 x[i], which the authors apply to loss and accuracy; a number from 0 to
    below 1 takes the place of the first 0.5; none by default.]] .. common)
doc.set(plot.bars, [[
    ms.plot.bars({ { name =, y = {...}[, spread = {...}] }, ... }, { file =, categories = {...}, xlabel =, ylabel = })

    Bars side by side, one of each series in each category (firing rates by layer of several checkpoints). runs = { {...}, ... } in
    place of y: mean and one standard deviation (n - 1) over runs.]] .. common)
doc.set(plot.histogram, [[
    ms.plot.histogram(x, { file =, bins = 50, range = { low, high }, log = false, share = false, xlabel = "value" })

    x: a tensor of any shape, a list of numbers, { name = either, ... } or { { name, either }, ... }, in the same bins, from the least to
    the largest value or over range; what lies outside is named. share: percent of the values in place of their number; log: that axis.]] .. common)
doc.set(plot.heatmap, [[
    ms.plot.heatmap(matrix, { file =, x = {...}, y = {...}, xlabel =, ylabel =, unit =, log = false, line = { x =, y =, name = } })

    matrix: a tensor [rows, columns] or a list of rows, the first one lowest; x and y: the coordinates of columns and rows, which grow
    (1, 2, ... by default). Cells are equally large whatever the distances. line is drawn over it in these coordinates: with Fisher
    information over epochs and time steps the information centroid (Figure 4 of arXiv 2506.19256). log: of the colours.]] .. common)
doc.set(plot.contour, [[
    ms.plot.contour(matrix, { file =, x =, y =, xlabel =, ylabel =, unit =, log = false, levels = 10 })

    Lines of equal value (loss over two directions: Figure 2 of arXiv 2506.19256). matrix, x, y as for heatmap; levels: about how many, or a list
    of values that grow.]] .. common)
doc.set(plot.surface, [[
    ms.plot.surface(matrix, { file =, x =, y =, xlabel =, ylabel =, unit =, log = false })

    The same as a surface; log: its height.]] .. common)
doc.set(plot.confusion, [[
    ms.plot.confusion(matrix, { file =, classes = {...}, numbers = "percent" })

    matrix: counts by true class (rows, the first one on top) and predicted class (columns), as ms.confusion gives them. Colours and numbers are
    percent of the true class; numbers = "count" writes counts, "none" nothing, the default beyond 20 classes.]] .. common)
doc.set(plot.raster, [[
    ms.plot.raster(spikes, { file =, xlabel = "time step", ylabel = "neuron" })

    A dot at (t, neuron) for each spike. spikes: a tensor [T, neurons] or [T, C, H, W] of one sample; both axes count from 1, neurons in
    the order of memory.]] .. common)
doc.set(plot.trace, [[
    ms.plot.trace(v, { file =, neurons = { 1, 2, 3, 4 }, threshold =, spikes =, xlabel = "time step", ylabel = "membrane" })

    Membranes over time, a panel for each of neurons (counted from 1; the first four by default). v, and spikes, where they are marked:
    tensors [T, neurons] or [T, C, H, W] of one sample. threshold: a dashed line.]] .. common)
doc.set(plot.images, [[
    ms.plot.images(x, { file =, names = {...}, columns =, events = false, each = false, unit = })

    x: a tensor [n, H, W] (feature maps) or [n, C, H, W]: one channel in grey, three in colour, with events = true two, OFF and ON: ON
    red, OFF blue. All share one scale, which the picture states; each = true: each has its own. Bytes are drawn as they are.]] .. common)

local terminal_note = " width: in characters; that of the terminal by default, else 80."
doc.set(terminal.plot, [[
    ms.plot.terminal.plot([x, ]y[, { width =, height = 12 }])

    Prints a line through the points in braille, between its least and largest values. x, y: lists of numbers or tensors [n].]] .. terminal_note)
doc.set(terminal.hist, [[
    ms.plot.terminal.hist(x[, { bins = 12, range =, width = }])

    Prints a histogram of what ms.plot.histogram takes: the lower edge of each bin, a bar, the number of values.]] .. terminal_note)
doc.set(terminal.raster, [[
    ms.plot.terminal.raster(spikes[, { width =, height = 16 }])

    Prints spikes [T, neurons] or [T, C, H, W]: time to the right, neurons downwards, two a line; several share a place where there is no
    room, which is marked when one of them fires.]] .. terminal_note)
doc.set(terminal.image, [[
    ms.plot.terminal.image(x[, { events = false, width = }])

    Prints x [H, W] or [C, H, W] as ms.plot.images would colour it: in pixels where the terminal says that it knows kitty's protocol or
    sixel, else as half blocks in colour, and as letters where the output is no terminal.]] .. terminal_note)
doc.set(terminal, [[
    ms.plot.terminal: plot  hist  raster  image

    Small pictures out of characters, printed.]])

return doc.set(setmetatable(plot, { __call = function(_, opts) return lines(opts) end }), [[
    ms.plot{ file = "a.png", panels = { panel, ... }, columns =, title =, width =, height = }
    panel = { title =, xlabel =, ylabel =, legend =, whole_x =, xnames =, xlog =, ylog =, xrange =, yrange =, spread = "band", series = { series, ... } }
    series = { name =, x =, y =, spread =, runs =, draw = "both", colour =, dash = }

    Lines in panels side by side, or in so many columns. x, y, spread (drawn as a band, or as bars): lists of numbers or tensors [n]; runs = { {...}, ... } or a
    tensor [runs, n] in place of y: mean and one standard deviation (n - 1). draw: "both" (a line with markers), "line", "points", "steps".
    colour and dash: positions in the lists of the style, by default that of the series. legend: "top right" ..., "above", "none"; by
    default the corner with fewest points. whole_x: tics at integers only; xnames = {...}: words at x = 1, 2, ... xrange, yrange: { low, high }.
    Other pictures: ms.plot.learning_curves bars histogram heatmap contour surface confusion raster trace images; ms.plot.terminal.]] .. common)
