-- Trains a recipe by name.
--   moonspike scripts/train.lua --list --words "cifar10 trt"
--   moonspike scripts/train.lua --recipe cifar10-resnet19-trt-T4 --dry-run
--   moonspike scripts/train.lua --recipe cifar10-resnet19-trt-T4 --set epochs=10 --set loss.lambda=1e-4 --out runs/mine
local ms = require "moonspike"

local opt = ms.arguments {
  usage = "moonspike scripts/train.lua --recipe NAME [options], or --list",
  { "recipe", "", "a name that --list shows, or a Lua file that returns a recipe" },
  { "set", {}, "KEY=VALUE: epochs=10, loss.lambda=1e-4, network.scale=0.5, loss=SDT, keep=[1,10] (JSON); may be repeated" },
  { "out", "", "folder of the results (runs/NAME)" }, { "resume", false, "go on behind the last epoch of the run in --out, or begin where there is none" },
  { "overwrite", false, "replace the run in --out" },
  { "device", "auto", "cpu, cuda or auto" }, { "dry-run", false, "tell what would be done and time it on random input; train nothing" },
  { "steps", 20, "how many steps --dry-run times", from = 0 }, { "quiet", false, "no progress" },
  { "tensorboard", false, "event files for TensorBoard in OUT/tensorboard" },
  { "monitor", "", "what is recorded in OUT/monitor.jsonl, with commas between: dead, deltas, firing, gradients, membranes, surrogate, synops, weights" },
  { "every", 50, "--monitor records every so many steps", from = 1 },
  { "list", false, "the recipes, with their published figures" }, { "words", "", "with --list: only those whose names contain these words" },
}

local fail, try = ms.arguments.fail, ms.arguments.try

if opt.list then
  for _, name in ipairs(ms.recipes.list(opt.words)) do
    local recipe = ms.recipes.get(name)
    print(("%-38s %s  %s"):format(name, recipe.published and ("%5.2f %%"):format(recipe.published) or "       ", recipe.title))
  end
  os.exit(0)
end
if opt.recipe == "" then fail "--recipe: expected a name (--list shows them), got nothing" end
local changes = ms.arguments.pairs("--set", opt.set)

try("--device", ms.device, opt.device)
local recipe = try("--recipe", ms.recipes.get, opt.recipe, changes)
if opt["dry-run"] then
  local plan = try("--dry-run", ms.recipes.plan, recipe, { steps = 0 })
  print(plan)
  io.stdout:flush()
  if opt.steps > 0 then print(try("--dry-run", plan.measure, plan, opt.steps)) end
  os.exit(0)
end
local out = opt.out ~= "" and opt.out or "runs/" .. opt.recipe:gsub("%.lua$", ""):gsub("^.*/", "")
local result = try(opt.recipe, ms.recipes.train, recipe, { out = out, resume = opt.resume, overwrite = opt.overwrite, quiet = opt.quiet, tensorboard = opt.tensorboard,
  monitor = opt.monitor ~= "" and ms.arguments.list("--monitor", opt.monitor) or nil, monitor_every = opt.every })
local function say(what, chosen)
  if chosen then print(("%-50s %6.2f %%  (epoch %d)"):format(what, 100 * chosen.test_accuracy, chosen.epoch)) end
end
say("test accuracy, best epoch (chosen on the test set)", result.best)
say("last epoch", result.last)
say("epoch chosen on the validation part", result.validation)
if result.published then print(("%-50s %6.2f %%"):format("published", result.published)) end
print(("%s/: recipe.lua log.jsonl best.safetensors last.safetensors curves.png result.json report.html; %.1f s"):format(out, result.seconds))
