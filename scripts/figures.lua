-- Draws the figures of arXiv 2506.19256 for trained runs (scripts/train.lua, recipes.train), and what else tells about a network.
--   moonspike scripts/figures.lua --run runs/trt
--   moonspike scripts/figures.lua --run runs/sdt --run runs/trt --only curves,firing --out runs/compared
-- Pictures and the CSV of their numbers go to --out, the folder figures of the first run by default, and report.html beside them.
-- A landscape is kept point by point: stopped, it goes on.
local ms = require "moonspike"
local analysis, plot = ms.analysis, ms.plot
local fail, try = ms.arguments.fail, ms.arguments.try

local kinds = { "curves", "fisher", "landscape", "firing", "energy", "weights", "confusion", "activity", "samples", "strength", "monitor" }
local opt = ms.arguments {
  usage = "moonspike scripts/figures.lua --run FOLDER [options]", { "run", {}, "the folder of a run; may be repeated" },
  { "only", table.concat(kinds, ","), "which" }, { "out", "", "folder of the pictures (RUN/figures)" }, { "format", "png", "of the pictures", choices = { "png", "svg" } },
  { "points", 21, "of a landscape along each direction", from = 5 }, { "reach", 1.0, "of a landscape to either side, in filter norms", from = 0.01 },
  { "samples", 1000, "training samples of a landscape, 0: all", from = 0 }, { "batches", 101, "of the Fisher information", from = 1 },
  { "estimator", "batch", "of the Fisher information", choices = { "batch", "per_sample" } }, { "weights", "best", "best (by what the recipe selects by), last, epoch10 ..." }, { "device", "auto", "cpu, cuda or auto" },
}
if #opt.run == 0 then fail "--run: expected the folder of a run, got nothing" end
try("--device", ms.device, opt.device)

local runs, known, wanted = {}, {}, {}
for _, kind in ipairs(kinds) do known[kind] = true end
for _, word in ipairs(ms.arguments.list("--only", opt.only)) do
  if not known[word] then fail("--only: expected some of %s, got '%s'", table.concat(kinds, ","), word) end
  wanted[word] = true
end
local last = {} -- how many folders have this name: those of a table are all seed1, seed2 ...
local function name_of(folder) return folder:gsub("/+$", ""):match "[^/]*$" end
for _, folder in ipairs(opt.run) do last[name_of(folder)] = (last[name_of(folder)] or 0) + 1 end
for i, folder in ipairs(opt.run) do
  runs[i] = try("--run", ms.recipes.open, folder, { weights = opt.weights })
  local name = name_of(folder)
  runs[i].name = last[name] == 1 and name or folder:gsub("^[./]+", ""):gsub("/+$", ""):gsub("/+", "-")
end
local out = opt.out ~= "" and opt.out or opt.run[1] .. "/figures"
try("--out", ms.system.mkdir, out)

local drawn = {}
local function file(name) return ("%s/%s.%s"):format(out, name, opt.format) end
local function made(path, note)
  print(path and path .. (note and " (" .. note .. ")" or "") or note)
  if path then drawn[#drawn + 1] = path end
end
-- The name of a picture of one run: with several runs their names are in it.
local function of(run, name) return file(#runs > 1 and ("%s-%s"):format(name, run.name) or name) end
local function limited(set, n) return n > 0 and n < #set and set:sample { n = n } or set end

local figures = {}

function figures.curves()
  local sets = {}
  for i, run in ipairs(runs) do sets[i] = { run.name, assert(ms.log.read(run.folder .. "/log.jsonl")) } end
  local rows = #sets == 1 and sets[1][2] or sets
  made(plot.learning_curves(rows, file "curves", { smooth = "published", title = "Figure 3" }))
  for _, set in ipairs(sets) do
    for _, row in ipairs(set[2]) do
      if row.test_loss and not row.train_ce then return print "no curves of the same quantity: the runs were not trained with train_ce = true" end
    end
  end
  made(plot.learning_curves(rows, file "curves-same", { quantity = "same", title = "training and test, the same quantity" }))
end

-- ---- Figure 4 ----

-- Epochs whose weights were kept, in order, and the file of each.
local function kept(run)
  local list = {}
  for _, epoch in ipairs(run.recipe.keep) do
    local name = ("epoch%d"):format(epoch)
    if ms.system.exists(("%s/%s.safetensors"):format(run.folder, name)) then list[#list + 1] = { epoch, name } end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  if #list == 0 then
    local rows = assert(ms.log.read(run.folder .. "/log.jsonl"))
    list[1] = { rows[#rows].epoch, "last" } -- of a run that was stopped not the recipe's
  end
  return list
end

function figures.fisher()
  for _, run in ipairs(runs) do
    local epochs, columns, centroids = {}, {}, {}
    for i, entry in ipairs(kept(run)) do
      ms.load(("%s/%s.safetensors"):format(run.folder, entry[2]), run.net)
      local information = analysis.fisher(run.net, run.train, { mode = opt.estimator, batches = opt.batches })
      epochs[i], columns[i], centroids[i] = entry[1], information.I, information.centroid
      print(("%s, epoch %d: centroid %.3f"):format(run.name, entry[1], information.centroid))
    end
    ms.load(("%s/%s.safetensors"):format(run.folder, opt.weights), run.net)
    local rows = {}
    for t = 1, #columns[1] do
      rows[t] = {}
      for i = 1, #columns do rows[t][i] = columns[i][t] end
    end
    made(plot.heatmap(rows, { file = of(run, "fisher"), title = "Figure 4: " .. run.recipe.title, x = epochs, xlabel = "epoch", ylabel = "time step",
      unit = "Fisher information", line = { x = epochs, y = centroids, name = "information centroid" } }))
  end
end

-- ---- Figure 2 ----

function figures.landscape()
  local rows = { { "run", "max", "mean", "curvature 1", "curvature 2", "largest" } }
  local lines = {}
  for i, run in ipairs(runs) do
    local set = limited(run.train, opt.samples)
    local function walk(directions)
      return analysis.landscape(run.net, set, { directions = directions, points = opt.points, from = -opt.reach, to = opt.reach, resume = true,
        file = ("%s/landscape%d-%s.jsonl"):format(out, directions, run.name), progress = true })
    end
    local line, plane = walk(1), walk(2)
    lines[i] = { name = run.name, x = line.x, y = line.z }
    local how = { x = plane.x, y = plane.y, xlabel = "direction 1", ylabel = "direction 2", unit = "cross entropy", title = "Figure 2: " .. run.recipe.title }
    for _, kind in ipairs { "contour", "surface" } do
      how.file = of(run, kind)
      made(plot[kind](plane.z, how))
    end
    local s = plane:sharpness { radius = opt.reach }
    rows[#rows + 1] = { run.name, s.max, s.mean, s.curvature[1], s.curvature[2], s.largest }
  end
  made(plot { file = file "landscape", title = "along one direction", panels = { { xlabel = "direction 1, filter norms", ylabel = "cross entropy", series = lines } } })
  print(("sharpness within %g filter norms"):format(opt.reach))
  for _, row in ipairs(rows) do
    for i, v in ipairs(row) do row[i] = type(v) == "number" and ("%.4g"):format(v) or v end
    print("  " .. table.concat(row, "\t"))
  end
end

-- ---- Figure 5 ----

function figures.firing()
  local bars, lines, most = {}, {}, 0
  for i, run in ipairs(runs) do
    local rates = analysis.firing_rates(run.net, run.test)
    print(rates)
    local layers = rates.layers
    bars[i], most = { name = run.name, y = {} }, math.max(most, #layers)
    for k, layer in ipairs(layers) do bars[i].y[k] = rates.rate[layer] end
    for k = 1, math.min(2, #layers) do -- the paper's Figure 5 has the first two
      local s = { name = ("%s, layer %d"):format(run.name, k), x = {}, y = rates.rate_t[layers[k]] }
      for t = 1, #s.y do s.x[t] = t end
      lines[#lines + 1] = s
    end
    print(analysis.dead_neurons(run.net, run.test))
  end
  local names = {}
  for k = 1, most do
    names[k] = tostring(k)
    for _, s in ipairs(bars) do s.y[k] = s.y[k] or 0 / 0 end -- a smaller network has no such layer
  end
  made(plot.bars(bars, { file = file "firing-rates", categories = names, xlabel = "layer of neurons", ylabel = "spikes of a neuron in a time step", title = "Figures S3, S4" }))
  made(plot { file = file "firing-rates-t", title = "Figure 5", panels = { { xlabel = "time step", ylabel = "spikes of a neuron", whole_x = true, legend = "above", series = lines } } })
end

function figures.energy()
  for _, run in ipairs(runs) do
    local _, _, _, _, layers = ms.evaluate(run.net, run.test)
    print(("%s\n%s"):format(run.name, tostring(analysis.energy(layers))))
  end
end

-- ---- what else tells about a network ----

function figures.weights()
  local sets = {}
  for i, run in ipairs(runs) do
    local list = {}
    for name, p in run.net:named_parameters() do
      if name:find "weight$" and p:dim() > 1 then list[#list + 1] = p:detach():reshape(-1) end
    end
    sets[i] = { run.name, ms.cat(list, 1) }
  end
  made(plot.histogram(sets, { file = file "weights", log = true, xlabel = "weight", title = "weights of convolutions and linear layers" }))
end

function figures.confusion()
  for _, run in ipairs(runs) do
    made(plot.confusion(ms.confusion(run.net, run.test), { file = of(run, "confusion"), classes = run.test.classes, title = run.recipe.title }))
  end
end

-- Spikes and membranes of the last layer of neurons, maps of the first one, for the first test sample.
function figures.activity()
  for _, run in ipairs(runs) do
    local x
    for batch in run.test do
      x = batch:narrow(2, 1, 1)
      break
    end
    local a = analysis.activity(run.net, x)
    local first, last = a.layers[1], a.layers[#a.layers]
    local spikes = a.spikes[last]:float():select(2, 1)
    made(plot.raster(spikes, { file = of(run, "raster"), title = "spikes of the last layer, first test sample" }))
    made(plot.trace(a.membranes[last]:select(2, 1), { file = of(run, "membranes"), spikes = spikes, threshold = a.thresholds[last], title = "membranes of the last layer" }))
    local maps = a.spikes[first]:float():select(2, 1):mean(1)
    if maps:dim() == 3 then
      made(plot.images(maps:narrow(1, 1, math.min(16, maps.shape[1])), { file = of(run, "maps"), unit = "firing rate", title = "first layer, mean over time" }))
    end
  end
end

function figures.samples()
  local run, pictures, names = runs[1], {}, {}
  for i = 1, math.min(8, #run.test) do
    local x = run.test:raw(i)
    pictures[i] = (run.test.frames > 1 and x:float():sum(1) or x[1]:float()):unsqueeze(1)
    names[i] = run.test[i].class
  end
  made(plot.images(ms.cat(pictures, 1), { file = file "samples", names = names, columns = 4, events = run.test.frames > 1 and run.test.shape[1] == 2, each = true,
    title = run.test.name }))
end

function figures.strength()
  for _, run in ipairs(runs) do
    local loss = run.recipe.loss
    local how = { T = run.recipe.T }
    for _, key in ipairs { "lambda", "delta", "epsilon" } do how[key] = loss[key] end
    print(("%s\n%s"):format(run.name, tostring(ms.loss.strength(run.net, how))))
  end
end

-- ---- what --monitor recorded during the training ----

local MOST = 8 -- lines of a picture
local quantities = {
  { "rate", "spikes of a neuron in a time step" }, { "dead", "share of dead neurons" }, { "saturated", "share of saturated neurons" },
  { "coverage", "share the surrogate reaches" }, { "slope", "mean slope of the surrogate" }, { "membrane", "mean membrane" },
  { "membrane_std", "deviation of membranes" }, { "delta", "norm of an output's gradient" }, { "gradients", "norm of a parameter's gradient" },
  { "gradient", "norm of the gradient" }, { "weights", "norm of a parameter" }, { "weight", "norm of the weights" }, { "operations", "operations of a sample" },
  { "synops", "synaptic operations of a sample" }, { "energies", "energy of a sample, uJ" }, { "energy", "energy of a sample, uJ" },
}

-- A line for each layer or parameter, in the network's order; of more than MOST some, evenly.
local function recorded(rows, key, net)
  if math.type(rows[1][key]) then
    local line = { name = "", x = {}, y = {} }
    for i, row in ipairs(rows) do line.x[i], line.y[i] = row.step, row[key] or 0 / 0 end
    return { line }
  end
  local lines, all = {}, {}
  local function add(name)
    if not (rows[1][key] or {})[name] then return end
    local line = { name = name, x = {}, y = {} }
    for i, row in ipairs(rows) do line.x[i], line.y[i] = row.step, row[key][name] or 0 / 0 end
    all[#all + 1] = line
  end
  for name in net:named_modules() do add(name) end
  for name in net:named_parameters() do add(name) end
  local count = math.min(MOST, #all)
  for i = 1, count do lines[i] = all[1 + (i - 1) * (#all - 1) // math.max(1, count - 1)] end
  return lines, #all
end

function figures.monitor()
  for _, run in ipairs(runs) do
    local rows = ms.log.read(run.folder .. "/monitor.jsonl")
    if not (rows and rows[1]) then print(("%s: nothing was recorded; scripts/train.lua --monitor does"):format(run.name)) end
    for _, entry in ipairs(rows and rows[1] and quantities or {}) do
      local key, unit = table.unpack(entry)
      local lines, all = recorded(rows, key, run.net)
      if lines[1] then
        made(plot { file = of(run, "monitor-" .. key), title = run.recipe.title, height = 380 + 24 * math.max(0, #lines - 2),
          panels = { { xlabel = "step", ylabel = unit, legend = #lines > 1 and "above" or "none", series = lines } } })
        if all and all > #lines then print(("  %d of %d"):format(#lines, all)) end
      end
    end
  end
end

for _, kind in ipairs(kinds) do
  if wanted[kind] then
    print(("-- %s --"):format(kind))
    figures[kind]()
  end
end
print(ms.report(opt.run, out .. "/report.html", { pictures = drawn }))
