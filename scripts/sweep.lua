-- Trains a recipe with several values of its keys, and draws what comes of it.
--   moonspike scripts/sweep.lua --recipe fashion1000-trt --over loss.eta=0,0.01,0.1 --seeds 1,2,3 --out runs/eta
--   moonspike scripts/sweep.lua --recipe fashion1000-trt --over loss.eta=0,0.1 --over loss.lambda=1e-6,1e-4 --out runs/grid      every pair
--   moonspike scripts/sweep.lua --sweep figure1-cifar100 --devices cuda:0,cuda:1                                            a ready one, on two devices
-- May be stopped and started again. OUT/sweep.csv and sweep.md are written after each run (on several devices: at the end), sweep-figure.png
-- (one axis: a line, two: a map) and its numbers, sweep-figure.csv, at the end. The status is 1 where runs failed.
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

local seeds = ms.arguments.integers("--seeds", opt.seeds)
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
if changes.seed then fail "--set: expected no seed, since --seeds gives them" end
local recipe = try("--recipe", ms.recipes.get, name, changes)
local points = try("--over", series.points, recipe, over, opt.together)
local chosen = opt.figure ~= "" and opt.figure or recipe.select
for _, point in ipairs(points) do
  if chosen == "validation" and point.recipe.validation == 0 then
    fail("--figure: expected best or last, since %s has no validation part", point.recipe.name)
  end
end
local part, parts = 1, 1
if opt.part ~= "" then
  part, parts = opt.part:match "^(%d+)/(%d+)$"
  part, parts = math.tointeger(part), math.tointeger(parts)
  if not part or part < 1 or part > parts then fail("--part: expected I/N, got '%s'", opt.part) end
end
local devices = ms.arguments.list("--devices", opt.devices)
if #devices > 1 and parts > 1 then fail("--part: expected one device beside it, got %d", #devices) end

-- ---- several devices: a process for each, then what they made is read here ----

local whole = true
if #devices > 1 then
  local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end
  local words, i, start, wait = { quoted(arg[-1]), quoted(arg[0]) }, 1, {}, {}
  while arg[i] do
    if arg[i] == "--devices" then i = i + 1 else words[#words + 1] = quoted(arg[i]) end
    i = i + 1
  end
  for k, device in ipairs(devices) do
    start[k] = ("%s --devices %s --part %d/%d & p%d=$!"):format(table.concat(words, " "), quoted(device), k, #devices, k)
    wait[k] = ("wait $p%d; [ $? -le 1 ] || { echo %s >&2; all=1; }"):format(k, quoted("sweep: --devices: its process failed: " .. device)) -- 1: runs failed
  end
  whole = os.execute(table.concat(start, "\n") .. "\nall=0\n" .. table.concat(wait, "\n") .. "\nexit $all")
else
  try("--devices", ms.device, devices[1])
end

-- ---- results ----

local what = { best = "best epoch", last = "last epoch", validation = "chosen on validation" }
local list, failed = {}, false
local function say(text) print(parts > 1 and ("%s: %s"):format(devices[1], text) or text) end

-- The places of an axis' values, by size.
local function sorted(axis)
  local order = {}
  for i = 1, #axis - 1 do order[i] = i end
  table.sort(order, function(a, b) return axis[a + 1] < axis[b + 1] or axis[a + 1] == axis[b + 1] and a < b end)
  return order
end

-- The picture: mean and spread over the seeds along one axis, or a map of the means over two.
local function draw()
  for _, axis in ipairs(over) do
    for i = 2, #axis do
      if not math.type(axis[i]) then return nil, ("no picture: %s has values that are no numbers"):format(axis[1]) end
    end
  end
  local line = #over == 1 or opt.together
  if not line and #over > 2 then return nil, "no picture of more than two axes" end
  local means, deviations, least, most = {}, {}, math.huge, 0
  for i, entry in ipairs(list) do
    local mean, deviation = series.mean(entry.results, series.figures[chosen])
    means[i], deviations[i] = 100 * (mean or 0 / 0), deviation and 100 * deviation
    least, most = math.min(least, #entry.results), math.max(most, #entry.results)
  end
  local runs = ("mean (runs: %s)"):format(least == most and most or ("%d to %d"):format(least, most))
  local ylabel, file = ("test accuracy, %% (%s)"):format(what[chosen]), opt.out .. "/sweep-figure.png"
  local order = sorted(over[1])
  if line then
    local s = { name = runs, x = {}, y = {}, spread = next(deviations) and {} or nil }
    for k, i in ipairs(order) do
      s.x[k], s.y[k] = points[i].values[1], means[i]
      if s.spread then s.spread[k] = deviations[i] or 0 / 0 end
    end
    return ms.plot { file = file, title = recipe.title, panels = { { xlabel = over[1][1], ylabel = ylabel, series = { s }, spread = "bars" } } }
  end
  local across, rows, x, y = sorted(over[2]), {}, {}, {}
  for r, i in ipairs(order) do
    rows[r], y[r] = {}, over[1][i + 1]
    for c, k in ipairs(across) do rows[r][c], x[c] = means[(i - 1) * #across + k], over[2][k + 1] end
  end
  return ms.plot.heatmap(rows, { file = file, title = ("%s: %s"):format(recipe.name, runs), x = x, y = y, xlabel = over[2][1],
    ylabel = over[1][1], unit = ("test accuracy, %% (%s)"):format(chosen) })
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
      list[i] = entry
      if parts == 1 then write() end
      say(("%s: %d of %d seeds, %d failed"):format(point.recipe.name, #entry.results, #seeds, #entry.failures))
    end
    point.recipe.title = point.recipe.name:match "/(.*)$"
    local entry = try("--out", series.seeds, point.recipe, { out = opt.out, seeds = seeds, tune_seeds = 1, report = report, print = opt.verbose and say or nil,
      read = #devices > 1 })
    failed = failed or #entry.failures > 0
    if parts > 1 then -- without a table that lists them
      for _, why in ipairs(entry.failures) do say(("%s, %s"):format(point.recipe.name, why)) end
    end
  end
end
if parts == 1 then
  print()
  print((series.write(list)))
  print(("%s/sweep.md, %s/sweep.csv"):format(opt.out, opt.out))
  local picture, why = draw()
  print(picture or why)
end
if not whole then fail "--devices: not all have done their part; started again, the sweep goes on with what is missing" end
os.exit(not failed)
