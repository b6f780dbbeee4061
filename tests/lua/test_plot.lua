-- The numbers behind every picture (its table, and what gnuplot is given), what is named in place of being drawn, and the refusals.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local plot = ms.plot

local folder = s.folder()
local nan, inf = 0 / 0, math.huge
local gnuplot = os.execute "gnuplot --version >/dev/null 2>&1"

-- Draws into `name` and gives the table and the notes; where gnuplot is, the picture has to be there.
local function drawn(name, f, ...)
  local args = table.pack(...)
  local opts = args[args.n]
  if type(opts) == "table" and opts.file == true then opts.file = folder .. "/" .. name end
  local file, why = f(table.unpack(args, 1, args.n))
  if gnuplot then
    lu.assertEquals(file, folder .. "/" .. name, why)
    local start = s.read(file):sub(1, 5)
    lu.assertEquals(start, name:find "svg$" and "<?xml" or "\137PNG\r")
  else
    lu.assertStrContains(why, "gnuplot is not installed (apt-get install gnuplot-nox)")
  end
  return s.read(folder .. "/" .. name:sub(1, -5) .. ".csv"), gnuplot and why or nil
end

-- The script that gnuplot would be given, from a program of that name which draws nothing.
local fake = folder .. "/bin"
os.execute(("mkdir -p %s/nothing"):format(fake))
s.write(fake .. "/gnuplot", ([[#!/bin/sh
[ "$1" = --version ] && exit 0
cp "$2" %s/script.gp && : > "$3"
]]):format(folder))
os.execute("chmod +x " .. fake .. "/gnuplot")

local function script_of(text)
  s.write(folder .. "/given.lua", 'local ms = require "moonspike"\nlocal plot, nan = ms.plot, 0 / 0\n' .. text)
  local code, said = s.run(folder .. "/given.lua", ("PATH=%s:$PATH"):format(fake), folder)
  lu.assertEquals(code, 0, said)
  return s.read(folder .. "/script.gp")
end

local function block(script, name) return script:match("%$" .. name .. " << EOD\n(.-)\nEOD") end

TestLines = {}

function TestLines:test_table()
  lu.assertEquals(drawn("lines.png", plot, { file = folder .. "/lines.png", panels = { { title = "loss", series = {
    { name = 'a "quoted", one', x = { 1, 2, 3 }, y = ms.tensor { 4, 5, 6 } }, { name = "two\nlines", x = { 1, 2 }, y = { 0.1, 1e-9 }, draw = "steps" } } } } }),
    'panel,series,x,y\n"loss","a ""quoted"", one",1,4\n"loss","a ""quoted"", one",2,5\n"loss","a ""quoted"", one",3,6\n"loss","two\nlines",1,0.1\n"loss","two\nlines",2,1e-09\n')
end

function TestLines:test_runs_and_spreads()
  local text = drawn("runs.svg", plot, { file = folder .. "/runs.svg", panels = { { spread = "bars", series = {
    { name = "r", x = { 1, 2 }, runs = { { 1, 2 }, { 3, 2 }, { 5, 8 } } }, { name = "s", x = { 1 }, y = { 7 }, spread = { 0.5 } }, { name = "n", x = { 1 }, y = { 7 } },
    { name = "one", x = { 1 }, runs = { { 3 } } } } } } })
  lu.assertEquals(text, ('panel,series,x,y,spread\n"","r",1,3,2\n"","r",2,4,%.10g\n"","s",1,7,0.5\n"","n",1,7,""\n"","one",1,3,""\n'):format(math.sqrt(12)))
end

function TestLines:test_what_is_not_drawn_is_named()
  local text, notes = drawn("holes.png", plot, { file = folder .. "/holes.png", panels = {
    { title = "loss", ylog = true, series = { { name = "TRT", x = { 1, 2, 3, 4, 5 }, y = { nan, 1, inf, -inf, 0 } }, { name = "fine", x = { 1 }, y = { 2 } } } },
    { title = "rate", series = { { name = "none", x = { 1 }, y = { nan } } } } } })
  lu.assertStrContains(text, '"loss","TRT",1,nan\n"loss","TRT",2,1\n"loss","TRT",3,inf\n"loss","TRT",4,-inf\n"loss","TRT",5,0\n')
  if gnuplot then
    lu.assertEquals(notes, "3 values of series 'TRT' in 'loss' are not finite and not drawn; 1 value of series 'TRT' in 'loss' is not positive on a logarithmic axis "
      .. "and not drawn; 1 value of series 'none' in 'rate' is not finite and not drawn")
  end
end

function TestLines:test_what_gnuplot_is_given()
  local script = script_of [[
    plot { file = arg[1] .. "/given.png", panels = { { whole_x = true, series = { { name = "a", x = { 1, 2, 3, 4 }, y = { 1, nan, 3, 4 }, spread = { 0.5, 1, nan, 1 } } } } } }]]
  lu.assertEquals(block(script, "p1s1"), "1 1 0.5 1.5\n\n3 3 3 3\n4 4 3 5") -- a line is broken where a value lacks
  lu.assertStrContains(script, "set xtics 1\n")
  lu.assertStrContains(script, "set terminal pngcairo noenhanced")
  -- spreads below what a logarithm has a place for end at the lowest point
  script = script_of [[
    plot { file = arg[1] .. "/given.svg", panels = { { ylog = true, series = { { name = "a", x = { 1, 2 }, y = { 1, 4 }, spread = { 2, 1 } } } } } }]]
  lu.assertEquals(block(script, "p1s1"), "1 1 1 3\n2 4 3 5")
  lu.assertStrContains(script, "set logscale y\n")
end

function TestLines:test_legend_goes_where_fewest_points_are()
  for corner, y in pairs { ["top right"] = "{ 4, 3, 2, 1 }", ["top left"] = "{ 1, 2, 3, 4 }", ["bottom right"] = "{ 1, 4, 4, 4 }" } do
    lu.assertStrContains(script_of(('plot { file = arg[1] .. "/k.png", panels = { { series = { { name = "a", x = { 1, 2, 3, 4 }, y = %s } } } } }'):format(y)),
      "set key inside vertical " .. corner, false, false)
  end
end

function TestLines:test_hostile_texts()
  local evil = "'; system(\"touch " .. folder .. "/touched\") # `touch " .. folder .. "/touched` %d %s @x \\ $p {/Bold x} \xff <b>&\n"
  local text, notes = drawn("evil.svg", plot, { file = folder .. "/evil.svg", title = evil, panels = { { title = evil, xlabel = evil, ylabel = evil, series = {
    { name = evil, x = { 1, 2 }, y = { 1, 2 } } } } } })
  lu.assertEquals({ notes, #text > 100 }, { nil, true })
  drawn("evil2.svg", plot.bars, { { name = evil, y = { 1, 2 } } }, { file = true, title = evil, ylabel = evil, categories = { evil, "100 %" } })
  drawn("evil3.svg", plot.confusion, { { 1, 2 }, { 3, 4 } }, { file = true, classes = { evil, "b" } })
  drawn("evil4.svg", plot.images, ms.ones(1, 2, 2), { file = true, names = { evil }, unit = evil })
  drawn("evil5.svg", plot.heatmap, { { 1 } }, { file = true, unit = evil, line = { name = evil, x = { 1 }, y = { 1 } } })
  lu.assertFalse(ms.system.exists(folder .. "/touched"))
  if gnuplot then lu.assertStrContains(s.read(folder .. "/evil2.svg"), "100 %</text>") end
end

-- Where nothing can be drawn there are axes, and the notes say why.
function TestLines:test_nothing_to_draw()
  local none = { { nan, nan }, { nan, nan } }
  for name, draw in pairs {
    bars = function(opts) return plot.bars({ { y = { nan } } }, opts) end, surface = function(opts) return plot.surface(none, opts) end,
    contour = function(opts) return plot.contour(none, opts) end, heatmap = function(opts) opts.log = true return plot.heatmap(none, opts) end,
    trace = function(opts) return plot.trace(ms.tensor { nan, nan }, opts) end, images = function(opts) return plot.images(ms.tensor(none), opts) end,
    histogram = function(opts) opts.log = true return plot.histogram({ inf }, opts) end,
  } do
    local text, notes = drawn(name .. "0.png", draw, { file = true })
    lu.assertTrue(#text > 20)
    if gnuplot then lu.assertStrContains(notes, "not finite and not drawn") end
  end
end

function TestLines:test_refusals()
  local series = { { name = "a", x = { 1, 2 }, y = { 1 } } }
  s.raises("plot: panels: expected a table, got nothing", plot, { file = "x.png" })
  s.raises("plot: panels: expected at least one, got none", plot, { file = "x.png", panels = {} })
  s.raises("plot: panel 1: series: expected at least one, got none", plot, { file = "x.png", panels = { { series = {} } } })
  s.raises("plot: file: expected a name that ends in .png or .svg, got 'x.pdf'", plot, { file = "x.pdf", panels = { { series = series } } })
  s.raises("plot: file: expected a name that ends in .png or .svg, got '.png'", plot, { file = ".png", panels = { { series = series } } })
  s.raises("plot: panel 1: series 1: y: expected 2 values as in x, got 1", plot, { file = "x.png", panels = { { series = series } } })
  local function one(more)
    local entry = { name = "a", x = { 1, 2 }, y = { 1, 2 } }
    for k, v in pairs(more) do entry[k] = v ~= "nil" and v or nil end
    return { file = "x.png", panels = { { series = { entry } } } }
  end
  s.raises("plot: panel 1: series 1: y: expected numbers, or runs in its place, got neither", plot, one { y = "nil" })
  s.raises("plot: panel 1: series 1: y: expected numbers, or runs in its place, got both", plot, one { runs = { { 1, 2 } } })
  s.raises("plot: panel 1: series 1: x: expected at least one number, got none", plot, one { x = {} })
  s.raises("plot: panel 1: series 1: x[2]: expected a number, got 'b'", plot, one { x = { 1, "b" } })
  s.raises("plot: panel 1: series 1: y: expected a list of numbers or a tensor [n], got tensor [1, 2]", plot, one { y = ms.ones(1, 2) })
  s.raises("plot: panel 1: series 1: spread: expected 2 values as in x, got 1", plot, one { spread = { 1 } })
  s.raises("plot: panel 1: series 1: runs[2]: expected 2 numbers as in the first row, got 1", plot, one { y = "nil", runs = { { 1, 2 }, { 1 } } })
  local bad = one {}
  bad.panels[1].legend = "top'; !ls"
  s.raises("plot: panel 1: legend: expected one of 'top right', 'top left'", plot, bad)
end

function TestLines:test_without_gnuplot_and_where_it_fails()
  s.write(folder .. "/plot.lua", [[
    local ms = require "moonspike"
    print(ms.plot { file = arg[1] .. "/b.png", panels = { { series = { { name = "a", x = { 1, 2 }, y = { 2, 0 / 0 } } } } } })
    print(ms.plot.raster(ms.eye(2), { file = arg[1] .. "/no/such.png" }))]])
  local _, text = s.run(folder .. "/plot.lua", "PATH=/nowhere", folder)
  lu.assertEquals(text, ("nil\tno picture: gnuplot is not installed (apt-get install gnuplot-nox); the numbers are in %s/b.csv; "
    .. "1 value of series 'a' is not finite and not drawn\nnil\twrite_file: %s/no/such.csv: No such file or directory\n"):format(folder, folder))
  lu.assertEquals(s.read(folder .. "/b.csv"), 'panel,series,x,y\n"","a",1,2\n"","a",2,nan\n')
  local old = folder .. "/broken"
  os.execute("mkdir -p " .. old)
  s.write(old .. "/gnuplot", "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho '\"x\" line 3: no memory'; exit 1\n")
  os.execute("chmod +x " .. old .. "/gnuplot")
  s.write(folder .. "/b.png", "an older picture")
  _, text = s.run(folder .. "/plot.lua", ("PATH=%s:$PATH"):format(old), folder)
  lu.assertStrContains(text, ("nil\tno picture: gnuplot failed: no memory; the numbers are in %s/b.csv; 1 value"):format(folder))
  lu.assertEquals(s.read(folder .. "/b.png"), "an older picture")
  os.execute("mkdir " .. folder .. "/folder.png")
  local file, why = plot.raster(ms.eye(2), { file = folder .. "/folder.png" })
  lu.assertNil(file)
  if gnuplot then lu.assertStrContains(why, "no picture: rename: ") end
  local left = io.popen(("ls %s | grep -c 'folder\\.[0-9]'"):format(folder)):read "n"
  lu.assertEquals(left, 0)
end

-- What cannot be written or read costs the picture, not the run that draws it; nothing is left behind.
function TestLines:test_files_that_fail()
  if not gnuplot then lu.skip "gnuplot" end
  local where = folder .. "/fails"
  local blocked = ("%s/a.%d.png.gp"):format(where, ms.system.pid()) -- the place of the script
  os.execute("mkdir -p " .. blocked)
  local file, why = plot.raster(ms.eye(2), { file = where .. "/a.png" })
  lu.assertNil(file)
  lu.assertStrMatches(why, "no picture: write_file: .*; the numbers are in " .. where .. "/a%.csv")
  s.write(fake .. "/nothing/gnuplot", "#!/bin/sh\n")
  os.execute(("chmod +x %s/nothing/gnuplot"):format(fake))
  s.write(folder .. "/svg.lua", 'print(require("moonspike").plot.images(require("moonspike").ones(1, 2, 2), { file = arg[1] .. "/b.svg" }))')
  local _, text = s.run(folder .. "/svg.lua", ("PATH=%s/nothing:$PATH"):format(fake), where)
  lu.assertStrMatches(text, "nil\tno picture: .*No such file or directory; the numbers are in .*/b%.csv\n")
  lu.assertEquals(plot.raster(ms.eye(2), { file = where .. "/-`c'd.png" }), where .. "/-`c'd.png")
  local names = {}
  for name in io.popen("LC_ALL=C ls " .. where):lines() do names[#names + 1] = name end
  lu.assertEquals(names, { "-`c'd.csv", "-`c'd.png", blocked:match "[^/]*$", "a.csv", "b.csv" })
end

TestCurves = {}

local function rows(...)
  local list = {}
  for i, loss in ipairs { ... } do list[i] = { epoch = i, train_loss = loss, train_ce = loss - 1, test_loss = loss + 1, train_accuracy = 0.25 * i, test_accuracy = 0.125 * i } end
  return list
end

function TestCurves:test_one_run()
  lu.assertEquals(drawn("it's.png", plot.learning_curves, rows(2, 1), folder .. "/it's.png", "a 'title'"), [[
panel,series,x,y
"loss","training (full loss)",1,2
"loss","training (full loss)",2,1
"loss","test (cross entropy)",1,3
"loss","test (cross entropy)",2,2
"accuracy","training",1,25
"accuracy","training",2,50
"accuracy","test",1,12.5
"accuracy","test",2,25
]])
  local text = drawn("part.png", plot.learning_curves, { { epoch = 3, train_loss = 2 } }, folder .. "/part.png")
  lu.assertEquals(text, 'panel,series,x,y\n"loss","training (full loss)",3,2\n')
end

-- The authors read the first value twice, so it stays; then each value counts for half.
function TestCurves:test_smoothing()
  local text = drawn("smooth.png", plot.learning_curves, rows(8, 4, 0), folder .. "/smooth.png", { smooth = "published" })
  lu.assertStrContains(text, '"loss","training (full loss)",1,8\n"loss","training (full loss)",2,6\n"loss","training (full loss)",3,3\n')
  lu.assertStrContains(text, '"accuracy","training",1,25\n"accuracy","training",2,37.5\n"accuracy","training",3,56.25\n')
  text = drawn("smooth.png", plot.learning_curves, rows(8, nan, 0), folder .. "/smooth.png", { smooth = 0.75 })
  lu.assertStrContains(text, '"loss","training (full loss)",1,8\n"loss","training (full loss)",2,nan\n"loss","training (full loss)",3,6\n')
  text = drawn("smooth.png", plot.learning_curves, rows(8, 4), folder .. "/smooth.png", { smooth = 0 })
  lu.assertStrContains(text, '"loss","training (full loss)",2,4\n')
  s.raises("learning_curves: smooth: expected 'published' or a number >= 0 and < 1, got 1", plot.learning_curves, rows(1), "x.png", { smooth = 1 })
end

function TestCurves:test_quantities_and_runs()
  local text = drawn("same.svg", plot.learning_curves, { TRT = { rows(2, 1), rows(4, 1, 7) }, SDT = rows(3) }, folder .. "/same.svg", { quantity = "same" })
  lu.assertStrContains(text, ('"loss","SDT, training",1,2,""\n"loss","SDT, test",1,4,""\n"loss","TRT, training",1,2,%.10g\n"loss","TRT, training",2,0,0\n"loss","TRT, test",1,4,')
    :format(math.sqrt(2)))
  lu.assertStrContains(text, '"accuracy","TRT, training",2,50,0\n')
  text = drawn("order.png", plot.learning_curves, { { "b", rows(1) }, { "a", { rows(2) } } }, folder .. "/order.png")
  lu.assertStrContains(text, '"loss","b, training (full loss)",1,1\n"loss","b, test (cross entropy)",1,2\n"loss","a, training (full loss)",1,2\n')
end

-- An epoch whose loss was not finite, out of a log: the line is interrupted there and the epoch named.
function TestCurves:test_not_finite()
  local log = ms.log(folder .. "/holes.jsonl")
  for epoch, loss in ipairs { 3, nan, 1 } do log { epoch = epoch, train_loss = loss } end
  log:close()
  local text, notes = drawn("holes.png", plot.learning_curves, ms.log.read(folder .. "/holes.jsonl"), folder .. "/holes.png")
  lu.assertEquals(text, 'panel,series,x,y\n"loss","training (full loss)",1,3\n"loss","training (full loss)",2,nan\n"loss","training (full loss)",3,1\n')
  if gnuplot then lu.assertEquals(notes, "1 value of series 'training (full loss)' is not finite and not drawn") end
  local script = script_of 'plot.learning_curves(ms.log.read(arg[1] .. "/holes.jsonl"), arg[1] .. "/holes2.png")'
  lu.assertEquals(block(script, "p1s1"), "1 3 3 3\n\n3 1 1 1")
end

function TestCurves:test_refusals()
  local f = plot.learning_curves
  s.raises("learning_curves: file: expected a name that ends in .png or .svg, got 'x.jpg'", f, rows(1), "x.jpg")
  s.raises("learning_curves: legend: expected one of 'top right', 'top left'", f, rows(1), "x.png", { legend = "left" })
  s.raises("learning_curves: width: expected an integer >= 100 and <= 10000, got 10", f, rows(1), "x.png", { width = 10 })
  s.raises("learning_curves: unknown option 'file' (known: height, legend, quantity, smooth, title, width)", f, rows(1), "x.png", { file = "y.png" })
  s.raises("learning_curves: rows: expected a list of at least one row with the field epoch, or a list of such lists, got none", f, {}, "x.png")
  s.raises("learning_curves: rows: expected a list of at least one row with the field epoch, or a list of such lists, got 3", f, 3, "x.png")
  s.raises("learning_curves: a: expected a list of at least one row", f, { a = {} }, "x.png")
  s.raises("learning_curves: rows[1]: expected a row with the field epoch, rows, or { name, rows }, got table", f, { { 1 } }, "x.png")
  s.raises("learning_curves: rows: expected fields train_loss, test_loss, train_accuracy or test_accuracy, got none of them", f, { { epoch = 1 } }, "x.png")
  s.raises("learning_curves: quantity = 'same': expected the field train_ce", f, { { epoch = 1, test_loss = 1 } }, "x.png", { quantity = "same" })
  s.raises("learning_curves: rows: expected train_loss in all of its 2 runs or in none, got it in some", f,
    { { { epoch = 1, test_loss = 1 } }, { { epoch = 1, train_loss = 1 } } }, "x.png", { quantity = "published" })
  s.raises("learning_curves: rows: expected runs with epochs in common, got none", f, { { { epoch = 1, test_loss = 1 } }, { { epoch = 2, test_loss = 1 } } }, "x.png")
end

TestBars = {}

function TestBars:test_table()
  local text, notes = drawn("bars.png", plot.bars, { { name = "SDT", runs = { { 1, 4 }, { 3, 4 } } }, { name = "TRT", y = { nan, 5 }, spread = { 1, 2 } } },
    { file = true, categories = { "LIF 1", "LIF 2" } })
  lu.assertEquals(text, ('category,series,y,spread\n"LIF 1","SDT",2,%.10g\n"LIF 2","SDT",4,0\n"LIF 1","TRT",nan,1\n"LIF 2","TRT",5,2\n'):format(math.sqrt(2)))
  if gnuplot then lu.assertEquals(notes, "1 value of series 'TRT' is not finite and not drawn") end
  _, notes = drawn("bars.svg", plot.bars, { { name = "a", y = { 1, 2 }, spread = { nan, 1 } } }, { file = true })
  if gnuplot then lu.assertEquals(notes, "1 value of the spread of series 'a' is not finite and not drawn") end
  s.raises("bars: series: expected a list of at least one { name =, y = }, got table", plot.bars, {}, { file = "x.png" })
  s.raises("bars: series 2: y: expected 2 values, one for each category, got 1", plot.bars, { { y = { 1, 2 } }, { y = { 1 } } }, { file = "x.png" })
  s.raises("bars: series 1: spread: expected 1 values, one for each category, got 2", plot.bars, { { y = { 1 }, spread = { 1, 2 } } }, { file = "x.png" })
end

function TestBars:test_places()
  local script = script_of 'plot.bars({ { name = "a", y = { 5, 6 } }, { name = "b", y = { 7, nan } } }, { file = arg[1] .. "/p.png", categories = { "x", "50 %" } })'
  lu.assertEquals({ block(script, "s1"), block(script, "s2") }, { "0.8 5 0\n1.8 6 0", "1.2 7 0" })
  lu.assertStrContains(script, "('x' 1, '50 %%' 2)")
end

function TestBars:test_histogram()
  -- [0, 1) [1, 2) [2, 3) [3, 4]: the last bin holds both of its edges
  local text, notes = drawn("hist.png", plot.histogram, ms.tensor { { 0, 0.5, 1, 3 }, { 4, nan, inf, -inf } }, { file = true, bins = 4 })
  lu.assertEquals(text, 'name,from,to,count\n"",0,1,2\n"",1,2,1\n"",2,3,0\n"",3,4,2\n')
  if gnuplot then lu.assertEquals(notes, "3 values of x are not finite and not drawn") end
  text, notes = drawn("hist.svg", plot.histogram, { b = { 0, 1, 9 }, a = ms.tensor { 1.5, 1.75 } }, { file = true, bins = 2, range = { 0, 2 }, share = true, log = true })
  lu.assertEquals(text, 'name,from,to,percent\n"a",0,1,0\n"a",1,2,100\n"b",0,1,33.33333333\n"b",1,2,33.33333333\n')
  if gnuplot then lu.assertEquals(notes, "1 value of 'b' is outside of the range and not drawn") end
  text = drawn("flat.png", plot.histogram, { { "z", { 3, 3 } } }, { file = true, bins = 1 })
  lu.assertEquals(text, 'name,from,to,count\n"z",2.5,3.5,2\n')
  text = drawn("none.png", plot.histogram, { nan }, { file = true, bins = 1 })
  lu.assertEquals(text, 'name,from,to,count\n"",0,1,0\n')
  lu.assertEquals(block(script_of 'plot.histogram({ 0, 1, 1, 2 }, { file = arg[1] .. "/o.png", bins = 2 })', "h1"), "0 0\n0 1\n1 1\n1 3\n2 3\n2 0")
  s.raises("histogram: x: expected a tensor, a list of numbers, or several of them by name, got none", plot.histogram, {}, { file = "x.png" })
  s.raises("histogram: x: expected at least one value, got a tensor [0]", plot.histogram, ms.zeros(0), { file = "x.png" })
  s.raises("histogram: w: expected at least one number, got none", plot.histogram, { w = {} }, { file = "x.png" })
  s.raises("histogram: range: expected two finite numbers, the smaller one first, got table", plot.histogram, { 1 }, { file = "x.png", range = { 2, 1 } })
end

TestMaps = {}

function TestMaps:test_heatmap()
  local text, notes = drawn("heat.png", plot.heatmap, ms.tensor { { 1, 2, 3 }, { 4, nan, 0 } },
    { file = true, x = { 20, 40, 100 }, y = { 1, 2 }, log = true, line = { name = "IC", x = { 20, 70 }, y = { 1.5, inf } } })
  lu.assertEquals(text, 'x,y,value,line\n20,1,1,""\n40,1,2,""\n100,1,3,""\n20,2,4,""\n40,2,nan,""\n100,2,0,""\n20,1.5,"","IC"\n70,inf,"","IC"\n')
  if gnuplot then
    lu.assertEquals(notes, "1 value of the matrix is not finite and not drawn; 1 value of the matrix is not positive on a logarithmic scale and not drawn; "
      .. "1 value of line 'IC' is not finite and not drawn")
  end
  -- cells are equally wide: 70 lies half way between the middles of those of 40 and 100, 10 half a cell before 20
  local script = script_of [[plot.heatmap({ { 1, 2, 3 }, { 4, nan, 6 } }, { file = arg[1] .. "/h.png", x = { 20, 40, 100 }, line = { x = { 10, 30, 70, 130 }, y = { 1, 2, 1.5, 1 } } })]]
  lu.assertEquals(block(script, "line"), "0.5 1\n1.5 2\n2.5 1.5\n3.5 1")
  lu.assertEquals(block(script, "cells"), "1 1 1\n2 1 2\n3 1 3\n\n1 2 4\n2 2 NaN\n3 2 6\n")
  lu.assertStrContains(script, "('20' 1, '40' 2, '100' 3)")
  drawn("flat.svg", plot.heatmap, { { 2, 2 } }, { file = true })
  drawn("empty.png", plot.heatmap, { { nan } }, { file = true })
end

function TestMaps:test_contour_and_surface()
  local z = { { 2, 1, 2 }, { 1, 0, nan }, { 2, 1, 2 } }
  for _, kind in ipairs { "contour", "surface" } do
    for _, ending in ipairs { ".png", ".svg" } do
      local text, notes = drawn(kind .. ending, plot[kind], z, { file = true, x = { -1, 0, 1 }, y = { -2, 0, 2 }, unit = "nats" })
      lu.assertEquals(text, "x,y,value\n-1,-2,2\n0,-2,1\n1,-2,2\n-1,0,1\n0,0,0\n1,0,nan\n-1,2,2\n0,2,1\n1,2,2\n")
      if gnuplot then lu.assertEquals(notes, "1 value of the matrix is not finite and not drawn") end
    end
    s.raises(kind .. ": matrix: expected at least 2 rows and 2 columns, got [1, 2]", plot[kind], { { 1, 2 } }, { file = "x.png" })
    s.raises(kind .. ": x: expected 2 numbers, one for each column, got 1", plot[kind], { { 1, 2 }, { 1, 2 } }, { file = "x.png", x = { 1 } })
    s.raises(kind .. ": y: expected finite numbers that grow, got 1 at place 2", plot[kind], { { 1, 2 }, { 1, 2 } }, { file = "x.png", y = { 1, 1 } })
  end
  local _, notes = drawn("level.png", plot.contour, { { 1, 2 }, { 1, 2 } }, { file = true, levels = { 9 } })
  if gnuplot then lu.assertEquals(notes, "no level lies between the least value and the largest") end
  local script = script_of 'plot.contour({ { 0, 1 }, { 2, 10 } }, { file = arg[1] .. "/c.png" })'
  lu.assertStrContains(script, "set cntrparam levels discrete 0,1,2,3,4,5,6,7,8,9,10\n")
  script = script_of 'plot.contour({ { 1, 10 }, { 100, 1000 } }, { file = arg[1] .. "/c.png", log = true, levels = 2 })'
  lu.assertStrContains(script, "set cntrparam levels discrete 10,100\n")
  script = script_of 'plot.contour({ { 0, 1 }, { 2, 10 } }, { file = arg[1] .. "/c.png", levels = { 0.1, 0.6 } })'
  lu.assertStrContains(script, "set cntrparam levels discrete 0.1,0.6\n")
  s.raises("contour: levels: expected a number of levels or a list of them that grow, got table", plot.contour, { { 1, 2 }, { 1, 2 } }, { file = "x.png", levels = { 2, 1 } })
  s.raises("heatmap: matrix: expected at least one row, got none", plot.heatmap, {}, { file = "x.png" })
  s.raises("heatmap: matrix[2]: expected 2 numbers as in the first row, got 1", plot.heatmap, { { 1, 2 }, { 1 } }, { file = "x.png" })
end

function TestMaps:test_confusion()
  local text, notes = drawn("confusion.png", plot.confusion, ms.tensor({ { 3, 1, 0 }, { 0, 0, 0 }, { 0, 1, 399 } }, { dtype = "int64" }),
    { file = true, classes = { "cat", "dog", "a, b" } })
  lu.assertEquals(text, 'true,predicted,count,percent\n"cat","cat",3,75\n"cat","dog",1,25\n"cat","a, b",0,0\n"dog","cat",0,0\n"dog","dog",0,0\n"dog","a, b",0,0\n'
    .. '"a, b","cat",0,0\n"a, b","dog",1,0.25\n"a, b","a, b",399,99.75\n')
  if gnuplot then lu.assertEquals(notes, "1 class is without samples") end
  local script = script_of 'plot.confusion({ { 3, 1 }, { 1, 299 } }, { file = arg[1] .. "/q.png" })' -- the first class is on top
  lu.assertEquals(block(script, "cells"), ("1 2 75\n2 2 25\n\n1 1 %.10g\n2 1 %.10g\n"):format(1 / 3, 299 / 3))
  for _, part in ipairs { "'75' at 1,2 ", "'25' at 2,2 ", "'<1' at 1,1 ", "'100' at 2,1 " } do lu.assertStrContains(script, part) end
  lu.assertStrContains(script_of 'plot.confusion({ { 3, 1 }, { 1, 299 } }, { file = arg[1] .. "/q.png", numbers = "count" })', "'299' at 2,1 ")
  lu.assertNotStrContains(script_of 'plot.confusion(ms.eye(21), { file = arg[1] .. "/q.png" })', "set label")
  s.raises("confusion: matrix: expected as many columns as rows, got [1, 2]", plot.confusion, { { 1, 2 } }, { file = "x.png" })
  s.raises("confusion: matrix: expected counts >= 0, got -1", plot.confusion, { { -1 } }, { file = "x.png" })
  s.raises("confusion: classes: expected 1 names, got 2", plot.confusion, { { 1 } }, { file = "x.png", classes = { "a", "b" } })
end

-- A net whose logits are its input: sample i says class said[i].
function TestMaps:test_counts_of_confusion()
  local said, labels = { 0, 2, 2, 1, 0 }, { 0, 2, 1, 1, 1 }
  local function batches()
    local i = -1
    return function()
      i = i + 2
      if i > 5 then return nil end
      local x = ms.zeros(2, math.min(2, 6 - i), 3)
      for k = i, math.min(i + 1, 5) do
        x[1][k - i + 1][(said[k] + 1) % 3 + 1] = 1 -- the first step says another class, the mean of both what is meant
        x[2][k - i + 1][said[k] + 1] = 1.5
      end
      return x, ms.tensor({ table.unpack(labels, i, math.min(i + 1, 5)) }, { dtype = "int64" })
    end
  end
  local net = ms.nn.Sequential { ms.nn.Identity() }
  local matrix = ms.confusion(net, batches())
  lu.assertEquals({ matrix.dtype, matrix:totable() }, { "int64", { { 1, 0, 0 }, { 1, 1, 1 }, { 0, 0, 1 } } })
  lu.assertEquals(ms.confusion(net, batches(), { over = "last" }):totable(), matrix:totable())
  lu.assertEquals(ms.evaluate(net, batches()), 3 / 5)
  lu.assertTrue(net.training)
  s.raises("confusion: net: expected a module, got 1", ms.confusion, 1, batches())
  s.raises("confusion: loader: expected a data set or an iterator function, got 1", ms.confusion, net, 1)
  s.raises("confusion: loader: expected at least one batch, got none", ms.confusion, net, function() end)
  labels[1] = 3
  s.raises("confusion: loader: expected labels from 0 to 2, got 3", ms.confusion, net, batches())
  lu.assertTrue(net.training)
end

TestSpikes = {}

function TestSpikes:test_raster()
  local text, notes = drawn("raster.png", plot.raster, ms.tensor { { 1, 0, nan }, { 0, 1, 1 } }, { file = true })
  lu.assertEquals(text, "step,neuron\n1,1\n2,2\n2,3\n")
  if gnuplot then lu.assertEquals(notes, "1 value of spikes is not finite and not drawn") end
  -- [T, C, H, W] as it lies in memory, out of bits
  local x = ms.zeros(2, 2, 1, 2)
  x[1][2][1][1] = 1
  x[2][1][1][2] = 1
  text = drawn("raster.svg", plot.raster, x:to "spike", { file = true })
  lu.assertEquals(text, "step,neuron\n1,3\n2,2\n")
  text, notes = drawn("silent.png", plot.raster, ms.zeros(3, 2), { file = true })
  lu.assertEquals({ text, notes }, { "step,neuron\n", gnuplot and "no spikes" or nil })
  s.raises("raster: spikes: expected one sample [T, C, H, W], got a batch [1, 2, 1, 1, 1]: x:select(2, i) takes its sample i", plot.raster, ms.zeros(1, 2, 1, 1, 1), { file = "x.png" })
  s.raises("raster: spikes: expected a tensor [T, neurons] or [T, C, H, W] of one sample, got tensor [0, 3]", plot.raster, ms.zeros(0, 3), { file = "x.png" })
end

function TestSpikes:test_trace()
  local v = ms.tensor { { 0.5, 0 }, { 1.5, nan }, { 0.25, 1 } }
  local text, notes = drawn("trace.png", plot.trace, v, { file = true, threshold = 1, spikes = v:gt(1), neurons = { 2, 1 } })
  lu.assertEquals(text, [[
panel,series,x,y
"neuron 2","membrane",1,0
"neuron 2","membrane",2,nan
"neuron 2","membrane",3,1
"neuron 2","threshold",1,1
"neuron 2","threshold",3,1
"neuron 1","membrane",1,0.5
"neuron 1","membrane",2,1.5
"neuron 1","membrane",3,0.25
"neuron 1","threshold",1,1
"neuron 1","threshold",3,1
"neuron 1","spike",2,1.65
]])
  if gnuplot then lu.assertEquals(notes, "1 value of series 'membrane' in 'neuron 2' is not finite and not drawn") end
  s.raises("trace: neurons[1]: expected 1 to 2, got 3", plot.trace, v, { file = "x.png", neurons = { 3 } })
  s.raises("trace: neurons: expected at least one, got none", plot.trace, v, { file = "x.png", neurons = {} })
  s.raises("trace: spikes: expected the shape of v, [3, 2], got [3, 1]", plot.trace, v, { file = "x.png", spikes = ms.zeros(3, 1) })
end

function TestSpikes:test_images()
  local text, notes = drawn("images.png", plot.images, ms.tensor { { { 0, 1 }, { 2, nan } } }, { file = true, names = { "map" } })
  lu.assertEquals(text, "image,channel,row,column,value\n1,1,1,1,0\n1,1,1,2,1\n1,1,2,1,2\n1,1,2,2,nan\n")
  if gnuplot then lu.assertEquals(notes, "1 value of x is not finite and not drawn") end
  -- OFF is blue and ON red, on one scale; each row of dots: column, row from above, red, green, blue
  local given = 'plot.images(ms.tensor({ 1, 0, 0, 4, 2, 0, 0, 0 }):view(2, 2, 1, 2), { file = arg[1] .. "/e.png", events = true%s })'
  local script = script_of(given:format "")
  lu.assertEquals({ block(script, "x1"), block(script, "x2") }, { "1 1 0 0 64\n2 1 255 0 0", "1 1 0 0 128\n2 1 0 0 0" })
  lu.assertStrContains(script, "'red: ON, blue: OFF; brightest: 4 events'")
  lu.assertEquals(block(script_of(given:format ", each = true"), "x2"), "1 1 0 0 255\n2 1 0 0 0")
  -- bytes stay as they are
  script = script_of 'plot.images(ms.tensor({ 10, 20, 30 }, { dtype = "uint8" }):view(1, 3, 1, 1), { file = arg[1] .. "/b.png" })'
  lu.assertEquals(block(script, "x1"), "1 1 10 20 30")
  script = script_of 'plot.images(ms.tensor({ 3 }, { dtype = "uint8" }):view(1, 1, 1), { file = arg[1] .. "/b.png" })'
  lu.assertStrContains(script, "'black: 0, white: 255'")
  if gnuplot then
    drawn("images.svg", plot.images, ms.rand(3, 3, 4, 4), { file = true })
    lu.assertStrContains(s.read(folder .. "/images.svg"), "<image image-rendering='optimizeSpeed'")
  end
  s.raises("images: x: expected 1 channel, 3, or 2 with events = true, got [1, 2, 2, 2]", plot.images, ms.zeros(1, 2, 2, 2), { file = "x.png" })
  s.raises("images: x: expected a tensor [n, H, W] (feature maps) or [n, C, H, W], got tensor [2]", plot.images, ms.zeros(2), { file = "x.png" })
  s.raises("images: x: expected at most 144 pictures, got 145; x:narrow(1, 1, 144) takes the first ones", plot.images, ms.zeros(145, 1, 1), { file = "x.png" })
  s.raises("images: names: expected 2, got 1", plot.images, ms.zeros(2, 1, 1), { file = "x.png", names = { "a" } })
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
