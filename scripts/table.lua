-- Runs recipes with several seeds and writes the table: published figure, best epoch, last epoch, chosen on validation, mean and spread.
--   moonspike scripts/table.lua --recipes fashion1000-sdt,fashion1000-trt --seeds 1,2,3 --out runs/table
-- May be stopped and started again: finished runs are kept, others are gone on with. OUT/table.md and OUT/table.csv are written after each run.
-- The status is 1 where runs failed.
local ms = require "moonspike"
local series = require "moonspike.recipes.series"

local opt = ms.arguments {
  usage = "moonspike scripts/table.lua --recipes NAME[,NAME...] [options]",
  { "recipes", "", "names that scripts/train.lua --list shows, or Lua files, with commas between; NAME*: all that begin so" },
  { "seeds", "1,2,3", "of each" }, { "tune-seeds", 1, "with how many of them the values of a recipe's key tune are tried", from = 1 },
  { "set", {}, "KEY=VALUE: another value for all of them; may be repeated" }, { "out", "runs/table", "folder of the results" },
  { "device", "auto", "cpu, cuda or auto" }, { "verbose", false, "show what each run prints" },
}

local fail, try = ms.arguments.fail, ms.arguments.try

if opt.recipes == "" then fail "--recipes: expected names, got nothing" end
local changes = ms.arguments.pairs("--set", opt.set)
if changes.seed then fail "--set: expected no seed, since --seeds gives them" end
local seeds = ms.arguments.integers("--seeds", opt.seeds)

local recipes = {}
for _, word in ipairs(ms.arguments.list("--recipes", opt.recipes)) do
  local start = word:match "^(.*)%*$"
  local found = #recipes
  for _, name in ipairs(start and ms.recipes.list() or { word }) do
    if not start or name:sub(1, #start) == start then recipes[#recipes + 1] = try("--recipes", ms.recipes.get, name, changes) end
  end
  if #recipes == found then fail("--recipes: no recipe begins with '%s'", start) end
end

try("--device", ms.device, opt.device)
local done, failed = {}, false
for k, recipe in ipairs(recipes) do
  local function report(entry)
    done[k] = entry
    local text, csv = series.write(done)
    try("--out", ms.system.mkdir, opt.out)
    try("--out", ms.system.write_file, opt.out .. "/table.md", text)
    try("--out", ms.system.write_file, opt.out .. "/table.csv", csv)
    print(("%s: %d of %d seeds, %d of %d values tried, %d failed"):format(recipe.name, #entry.results, #seeds, #entry.tried,
      recipe.tune and #recipe.tune - 1 or 0, #entry.failures))
  end
  local entry = try("--out", series.seeds, recipe, { out = opt.out, seeds = seeds, tune_seeds = opt["tune-seeds"], report = report, print = opt.verbose and print or nil })
  failed = failed or #entry.failures > 0
end
print()
print((series.write(done)))
print(opt.out .. "/table.md, " .. opt.out .. "/table.csv")
os.exit(not failed)
