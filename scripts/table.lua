-- Runs recipes with several seeds and writes the table: published figure, best epoch, last epoch, chosen on validation, mean and spread.
--   moonspike scripts/table.lua --recipes fashion1000-sdt,fashion1000-trt --seeds 1,2,3 --out runs/table
-- May be stopped and started again: finished runs are kept, others are gone on with. OUT/table.md and OUT/table.csv are written after each run.
local ms = require "moonspike"
local series = require "moonspike.recipes.series"

local usage = [[
usage: moonspike scripts/table.lua --recipes NAME[,NAME...] [options]
  --recipes NAMES   names that scripts/train.lua --list shows, or Lua files, with commas between; "NAME*": all that begin so
  --seeds N[,N...]  the seeds of each (1,2,3)
  --tune-seeds N    with how many of them the values of a recipe's key "tune" are tried (1)
  --set KEY=VALUE   another value for all of them; may be repeated
  --out FOLDER      (runs/table)
  --device NAME     cpu, cuda or auto (auto)
  --verbose         what each run prints]]

local function fail(message, ...)
  io.stderr:write("table: ", message:format(...), "\n")
  os.exit(2)
end

local function try(f, ...)
  local result = table.pack(pcall(f, ...))
  if result[1] then return table.unpack(result, 2, result.n) end
  fail("%s", (tostring(result[2]):gsub("^[^\n]-%.lua:%d+: ", "")))
end

local opt, changes, i = { device = "auto", seeds = "1,2,3", out = "runs/table", ["tune-seeds"] = "1" }, {}, 1
while arg[i] do
  local name = arg[i]:match "^%-%-(.+)$"
  if name == "help" or arg[i] == "-h" then
    print(usage)
    os.exit(0)
  elseif name == "verbose" then
    opt.verbose = true
  elseif name == "set" or name == "recipes" or opt[name] then
    i = i + 1
    if not arg[i] then fail("--%s: expected a value, got nothing", name) end
    if name == "set" then
      local key, value = arg[i]:match "^([^=]+)=(.*)$"
      if not key then fail("--set: expected KEY=VALUE, got '%s'", arg[i]) end
      changes[key] = value
    else
      opt[name] = arg[i]
    end
  else
    fail("unknown option '%s' (--help lists them)", arg[i])
  end
  i = i + 1
end
if not opt.recipes then fail "--recipes: expected names, got nothing" end

local seeds = {}
for word in (opt.seeds .. ","):gmatch "(.-)," do
  seeds[#seeds + 1] = math.tointeger(tonumber(word)) or fail("--seeds: expected integers with commas between, got '%s'", opt.seeds)
end
local tune_seeds = math.tointeger(tonumber(opt["tune-seeds"]))
if not tune_seeds or tune_seeds < 1 then fail("--tune-seeds: expected an integer >= 1, got '%s'", opt["tune-seeds"]) end

local recipes = {}
for word in (opt.recipes .. ","):gmatch "(.-)," do
  local start = word:match "^(.*)%*$"
  local found = #recipes
  for _, name in ipairs(start and ms.recipes.list() or { word }) do
    if not start or name:sub(1, #start) == start then recipes[#recipes + 1] = try(ms.recipes.get, name, changes) end
  end
  if #recipes == found then fail("--recipes: no recipe begins with '%s'", start) end
end

try(ms.device, opt.device)
local done, runs = {}, 0
for k, recipe in ipairs(recipes) do
  local function report(entry)
    done[k] = entry
    local text, csv = series.write(done)
    try(ms.system.mkdir, opt.out)
    try(ms.system.write_file, opt.out .. "/table.md", text)
    try(ms.system.write_file, opt.out .. "/table.csv", csv)
    runs = runs + 1
    print(("%s: %d of %d seeds, %d of %d values tried, %d failed"):format(recipe.name, #entry.results, #seeds, #entry.tried,
      recipe.tune and #recipe.tune - 1 or 0, #entry.failures))
  end
  series.seeds(recipe, { out = opt.out, seeds = seeds, tune_seeds = tune_seeds, report = report, print = opt.verbose and print or nil })
end
print()
print((series.write(done)))
print(opt.out .. "/table.md, " .. opt.out .. "/table.csv")
