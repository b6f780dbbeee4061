-- Trains a recipe by name.
--   moonspike scripts/train.lua --list [words]
--   moonspike scripts/train.lua --recipe cifar10-resnet19-trt-T4 --dry-run
--   moonspike scripts/train.lua --recipe cifar10-resnet19-trt-T4 --set epochs=10 --set loss.lambda=1e-4 --out runs/mine
local ms = require "moonspike"

local usage = [[
usage: moonspike scripts/train.lua --recipe NAME [options]
  --recipe NAME     a name that --list shows, or a Lua file that returns a recipe
  --set KEY=VALUE   another value: epochs=10, loss.lambda=1e-4, network.scale=0.5, loss=SDT; may be repeated
  --out FOLDER      of the results (runs/NAME)
  --resume          go on behind the last epoch of the run in --out
  --device NAME     cpu, cuda or auto (auto)
  --dry-run         tell what would be done, and time it on random input; train nothing
  --steps N         how many steps --dry-run times (20)
  --quiet           no progress
  --list [WORDS]    the recipes whose names contain the words, with their published figures]]

local function fail(message, ...)
  io.stderr:write("train: ", message:format(...), "\n")
  os.exit(2)
end

-- What f returns; what it raises ends the program in one message without a place in this file.
local function try(f, ...)
  local result = table.pack(pcall(f, ...))
  if result[1] then return table.unpack(result, 2, result.n) end
  fail("%s", (tostring(result[2]):gsub("^[^\n]-%.lua:%d+: ", "")))
end

local opt, changes, i = { device = "auto" }, {}, 1
local flags = { resume = true, ["dry-run"] = true, quiet = true }
local values = { recipe = true, out = true, device = true, steps = true, set = true }
while arg[i] do
  local name = arg[i]:match "^%-%-(.+)$"
  if name == "help" or arg[i] == "-h" then
    print(usage)
    os.exit(0)
  elseif name == "list" then
    local words = table.concat(arg, " ", i + 1)
    for _, key in ipairs(ms.recipes.list(words)) do
      local recipe = ms.recipes.get(key)
      print(("%-38s %s  %s"):format(key, recipe.published and ("%5.2f %%"):format(recipe.published) or "       ", recipe.title))
    end
    os.exit(0)
  elseif flags[name] then
    opt[name] = true
  elseif values[name] then
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
if not opt.recipe then fail "--recipe: expected a name (--list shows them), got nothing" end
local steps = tonumber(opt.steps or 20)
if not math.tointeger(steps) then fail("--steps: expected an integer, got '%s'", opt.steps) end

try(ms.device, opt.device)
local recipe = try(ms.recipes.get, opt.recipe, changes)
if opt["dry-run"] then
  print(try(ms.recipes.plan, recipe, { steps = math.tointeger(steps) }))
  os.exit(0)
end
local out = opt.out or "runs/" .. opt.recipe:gsub("%.lua$", ""):gsub("^.*/", "")
local result = try(ms.recipes.train, recipe, { out = out, resume = opt.resume, quiet = opt.quiet })
local function say(what, chosen)
  if chosen then print(("%-50s %6.2f %%  (epoch %d)"):format(what, 100 * chosen.test_accuracy, chosen.epoch)) end
end
say("test accuracy, best epoch (chosen on the test set)", result.best)
say("last epoch", result.last)
say("epoch chosen on the validation part", result.validation)
if result.published then print(("%-50s %6.2f %%"):format("published", result.published)) end
print(("%s/: recipe.lua log.jsonl best.safetensors last.safetensors curves.png result.json; %.1f s"):format(out, result.seconds))
