-- Trains a recipe with several values of its keys, and draws what comes of it.
--   moonspike scripts/sweep.lua --recipe fashion1000-trt --over loss.eta=0,0.01,0.1 --seeds 1,2,3 --out runs/eta
--   moonspike scripts/sweep.lua --recipe fashion1000-trt --over loss.eta=0,0.1 --over loss.lambda=1e-6,1e-4 --out runs/grid      every pair
--   moonspike scripts/sweep.lua --sweep figure1-cifar100 --devices cuda:0,cuda:1                                            a ready one, on two devices
-- May be stopped and started again. OUT/sweep.csv, sweep.md and sweep.png (one axis: a line, two: a map) are written after each run.
local ms = require "moonspike"
local series = require "moonspike.recipes.series"
local ready = require "moonspike.recipes.sweeps"
local fail, try = ms.arguments.fail, ms.arguments.try

local names = {}
for name in pairs(ready) do names[#names + 1] = name end
table.sort(names)

local opt = ms.arguments {
  usage = "moonspike scripts/sweep.lua --recipe NAME --over KEY=VALUE,VALUE,... [options]",
  { "recipe", "", "a name that scripts/train.lua --list shows, or a Lua file" }, { "over", {}, "a key and its values; may be repeated: all combinations" },
  { "together", false, "the axes' first values, then their second ones ..., instead of all combinations" },
  { "sweep", "", "one that is ready: " .. table.concat(names, ", ") }, { "seeds", "1,2,3", "of each point" },
  { "set", {}, "KEY=VALUE: another value for all of them; may be repeated" },
  { "figure", "", "what is drawn; that of the recipe's key select if not given", choices = { "best", "last", "validation" } },
  { "out", "runs/sweep", "folder of the results" }, { "devices", "auto", "with commas between: a process for each, which share the points" },
  { "part", "", "I/N: only every Nth point from the Ith on, and no picture" }, { "verbose", false, "show what each run prints" },
}

local seeds = {}
for i, word in ipairs(ms.arguments.list("--seeds", opt.seeds)) do
  seeds[i] = math.tointeger(tonumber(word)) or fail("--seeds: expected integers with commas between, got '%s'", opt.seeds)
end
local name, over = opt.recipe, {}
if opt.sweep ~= "" then
  local entry = ready[opt.sweep] or fail("--sweep: expected one of %s, got '%s'", table.concat(names, ", "), opt.sweep)
  name, over = entry[1], entry[2]
elseif name == "" then
  fail "--recipe: expected a name, got nothing (or --sweep)"
end
for _, word in ipairs(opt.over) do
  local key, values = word:match "^([^=]+)=(.+)$"
  if not key then fail("--over: expected KEY=VALUE,VALUE,..., got '%s'", word) end
  local axis = { key }
  for _, value in ipairs(ms.arguments.list("--over", values)) do axis[#axis + 1] = math.tointeger(value) or tonumber(value) or value end
  over[#over + 1] = axis
end
if #over == 0 then fail "--over: expected KEY=VALUE,VALUE,..., got nothing" end
local changes = ms.arguments.pairs("--set", opt.set)
local recipe = try("--recipe", ms.recipes.get, name, changes)
local points = try("--over", series.points, recipe, over, opt.together)
local part, parts = 1, 1
if opt.part ~= "" then
  part, parts = opt.part:match "^(%d+)/(%d+)$"
  part, parts = math.tointeger(part), math.tointeger(parts)
  if not part or part < 1 or part > parts then fail("--part: expected I/N, got '%s'", opt.part) end
end
local devices = ms.arguments.list("--devices", opt.devices)
if #devices > 1 and parts > 1 then fail("--part: expected one device beside it, got %d", #devices) end

-- ---- several devices: a process for each, then what they made is read here ----

if #devices > 1 then
  local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end
  local words, i, start, wait = { quoted(arg[-1]), quoted(arg[0]) }, 1, {}, {}
  while arg[i] do
    if arg[i] == "--devices" then i = i + 1 else words[#words + 1] = quoted(arg[i]) end
    i = i + 1
  end
  for k, device in ipairs(devices) do
    start[k] = ("%s --devices %s --part %d/%d & p%d=$!"):format(table.concat(words, " "), quoted(device), k, #devices, k)
    wait[k] = ("wait $p%d || { echo %s >&2; all=1; }"):format(k, quoted("sweep: --devices: its process failed: " .. device))
  end
  local done = os.execute(table.concat(start, "\n") .. "\nall=0\n" .. table.concat(wait, "\n") .. "\nexit $all")
  if not done then fail "--devices: not all have done their part; started again, the sweep goes on with what is missing" end
end
try("--devices", ms.device, devices[1])

-- ---- results ----

local chosen = opt.figure ~= "" and opt.figure or recipe.select
local what = { best = "best epoch", last = "last epoch", validation = "chosen on validation" }
local list = {}
local function say(text) print(parts > 1 and ("%s: %s"):format(devices[1], text) or text) end

-- The picture: mean and spread over the seeds along one axis, or a map of the means over two.
local function draw(done)
  local ylabel = ("test accuracy, %% (%s)"):format(what[chosen])
  local function accuracy(entry) return series.mean(entry.results, series.figures[chosen]) end
  for _, axis in ipairs(over) do
    for i = 2, #axis do
      if not math.type(axis[i]) then return nil, ("no picture: %s has values that are no numbers"):format(axis[1]) end
    end
  end
  if #over == 1 or opt.together then
    local s = { name = ("mean of %d seeds"):format(#seeds), x = {}, y = {}, spread = {} }
    for i, point in ipairs(points) do
      local mean, deviation = accuracy(done[i])
      s.x[i], s.y[i], s.spread[i] = point.values[1], 100 * (mean or 0 / 0), 100 * (deviation or 0)
    end
    return ms.plot { file = opt.out .. "/sweep.png", title = recipe.title,
      panels = { { xlabel = over[1][1], ylabel = ylabel, series = { s }, spread = "bars", legend = "none" } } }
  end
  if #over > 2 then return nil, "no picture of more than two axes" end
  local rows, at = {}, 1
  for i = 2, #over[1] do
    rows[i - 1] = {}
    for k = 2, #over[2] do
      rows[i - 1][k - 1], at = 100 * (accuracy(done[at]) or 0 / 0), at + 1
    end
  end
  return ms.plot.heatmap(rows, { file = opt.out .. "/sweep.png", title = recipe.title, x = { table.unpack(over[2], 2) }, y = { table.unpack(over[1], 2) },
    xlabel = over[2][1], ylabel = over[1][1], unit = ylabel })
end

local function write()
  local text, csv = series.write(list)
  try("--out", ms.system.mkdir, opt.out)
  try("--out", ms.system.write_file, opt.out .. "/sweep.md", text)
  try("--out", ms.system.write_file, opt.out .. "/sweep.csv", csv)
end

for i, point in ipairs(points) do
  if (i - 1) % parts == part - 1 then
    local function report(entry)
      list[#list + (list[#list] ~= entry and 1 or 0)] = entry
      if parts == 1 then write() end
      say(("%s: %d of %d seeds, %d failed"):format(point.recipe.name, #entry.results, #seeds, #entry.failures))
    end
    point.recipe.title = point.recipe.name:match "/(.*)$"
    series.seeds(point.recipe, { out = opt.out, seeds = seeds, tune_seeds = 1, report = report, print = opt.verbose and say or nil })
  end
end
if parts > 1 then os.exit(0) end
print()
print((series.write(list)))
print(("%s/sweep.md, %s/sweep.csv"):format(opt.out, opt.out))
local picture, why = draw(list)
print(picture or why)
