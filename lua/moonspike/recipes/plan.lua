-- What a recipe would do: data, network, settings, size, and how long it would take, from steps on random input. Nothing is trained or written.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local geometry = require "moonspike.models.geometry"
local build = require "moonspike.recipes.build"
local schema = require "moonspike.recipes.schema"

local plan = {}

local Plan = { __name = "plan" }
Plan.__index = Plan

local function grouped(n) return (("%d"):format(n):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")) end

local function duration(seconds)
  if seconds < 120 then return ("%.3g s"):format(seconds) end
  if seconds < 7200 then return ("%.3g minutes"):format(seconds / 60) end
  if seconds < 172800 then return ("%.3g hours"):format(seconds / 3600) end
  return ("%.3g days"):format(seconds / 86400)
end

local function bytes(n)
  if n < 1 << 20 then return ("%.3g KiB"):format(n / (1 << 10)) end
  return n < 1 << 30 and ("%.3g MiB"):format(n / (1 << 20)) or ("%.3g GiB"):format(n / (1 << 30))
end

-- { "TRT", lambda = 1e-5 } -> 'TRT { lambda = 1e-05 }'
local function shown(v)
  local rest = schema.copy(v)
  local name = type(rest[1]) == "string" and table.remove(rest, 1)
  local text = next(rest) ~= nil and schema.text(rest) or nil
  return name and (text and name .. " " .. text or name) or text or "{}"
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

-- Seconds of training steps and of an evaluation's forward pass on random input, and the peak of memory.
local function measure(job, recipe, facts, count)
  local n, size = math.min(recipe.batch, facts.samples), facts.input
  local device = core.device.current()
  local y = core.tensor.randint(0, facts.classes, { n }, { key = 1 }):long()
  local x = core.tensor.rand(recipe.random_T or recipe.T, n, size[1], size[2], size[3])
  if facts.still then x = x:narrow(1, 1, 1):expand(recipe.random_T or recipe.T, n, size[1], size[2], size[3]) end
  local step, times = build.step(job, recipe), {}
  core.device.reset_peak()
  job.net:train()
  for i = 1, count + 2 do -- the first two make what is kept
    local start = core.system.clock()
    local value = step(job.random_T and job.random_T(x) or x, y)
    value:item()
    if i > 2 then times[#times + 1] = core.system.clock() - start end
  end
  local peak = core.device.memory(device).peak
  job.net:eval()
  local pass, was <close> = {}, autograd.guard(false)
  for i = 1, 3 do
    local start = core.system.clock()
    job.net(x:narrow(1, 1, recipe.T)):sum():item()
    pass[i] = core.system.clock() - start
  end
  return { step = median(times), least = times[1], most = times[#times], pass = median(pass) / n, peak = peak }
end

local still = { FashionMNIST = true, CIFAR10 = true, CIFAR100 = true, ImageNet100 = true, ImageFolder = true }

local spec = { steps = o.integer(20, { from = 0 }) }

function plan.plan(recipe, opts)
  local opt = o.read("plan", opts, spec)
  recipe = schema.read("plan: recipe", recipe)
  local self = setmetatable({ recipe = recipe, device = core.device.current() }, Plan)
  local done, train, validation, test = pcall(build.data, recipe)
  if not done then
    local why = o.reason(train)
    if not why:find("not found", 1, true) then o.fail("%s", why) end
    self.missing, train = why:gsub("^recipe: ", ""), nil
  end
  local facts = build.facts(recipe, train, test, validation)
  facts.still = still[recipe.dataset[1]] ~= nil
  self.facts, self.data = facts, train and train:summary()
  if train then
    for _, set in ipairs { train, test, validation } do set:close() end
  end
  local job = build.trainer(recipe, facts)
  local whole = recipe.drop_last and facts.samples // recipe.batch or math.ceil(facts.samples / recipe.batch)
  self.steps_per_epoch, self.macs = whole, 0
  self.parameters, self.regularised, self.tensors = geometry.count(job.net)
  for _, layer in ipairs(job.net:macs(recipe.T)) do self.macs = self.macs + layer[2] end
  self.class = job.net:class()
  self.criterion, self.optimizer = tostring(job.criterion), tostring(job.optimizer)
  if opt.steps > 0 then self:measure(opt.steps) end
  return self
end

function Plan:measure(steps)
  o.check("measure", "steps", steps, o.integer(o.required, { from = 1 }))
  local recipe, facts = self.recipe, self.facts
  self.timing = measure(build.trainer(recipe, facts), recipe, facts, steps)
  local judged = facts.tested + facts.validated + (recipe.train_ce and facts.samples or 0)
  local passes = math.ceil(recipe.epochs / recipe.every) * judged
  self.expected = recipe.epochs * self.steps_per_epoch * self.timing.step + passes * self.timing.pass
  return self:timed()
end

local function line(label, ...) return ("  %-13s %s"):format(label, string.format(...)) end

function Plan:timed()
  local t = self.timing
  return line("measured", "%.4g ms a step (%.4g to %.4g) on %s with random input; peak of memory %s", 1000 * t.step, 1000 * t.least, 1000 * t.most,
    self.device, bytes(t.peak)) .. "\n" ..
    line("expected", "%s with its evaluations, without what the data cost; random input makes the event-driven engines slower or faster than real spikes do",
      duration(self.expected))
end

function Plan:__tostring()
  local r, facts, out = self.recipe, self.facts, {}
  local function add(...) out[#out + 1] = line(...) end
  out[1] = ("%s: %s"):format(r.name or "recipe", r.title)
  if r.published then
    add("published", "%.2f %%%s%s", r.published, r.spread and (" +- %.2f"):format(r.spread) or "", r.paper and ", " .. r.paper or "")
  end
  if r.source then add("source", "%s", r.source) end
  add("data", "%s", self.data or ("%s, %d training and %d test samples of [%s], %d classes: not here"):format(r.dataset[1], facts.samples,
    facts.tested, table.concat(facts.input, ", "), facts.classes))
  for _, key in ipairs { "dataset", "train", "test" } do
    if next(r[key]) then add(key, "%s", shown(r[key])) end
  end
  if r.validation > 0 then add("validation", "%g of the training part", r.validation) end
  if r.samples then add("samples", "%d for training", r.samples) end
  add("time steps", "%d%s", r.T, r.random_T and (" in tests; 1 to %d at random for each batch in training"):format(r.random_T) or "")
  add("network", "%s, class %s", shown(r.network), self.class)
  add("parameters", "%s, of which loss.TRT would regularise %s in %d tensors", grouped(self.parameters), grouped(self.regularised), self.tensors)
  add("operations", "%.4g multiply-accumulates of a sample over T steps (%.4g FLOPs)", self.macs, 2 * self.macs)
  add("loss", "%s", self.criterion)
  add("optimizer", "%s", (self.optimizer:gsub("\n", "\n" .. (" "):rep(16))))
  add("schedule", "%s%s", shown(r.schedule), r.warmup > 0 and (" behind %d epochs of warm-up from %g of the rate"):format(r.warmup, r.warmup_factor) or "")
  add("training", "%d epochs of %d steps, batches of %d, %s, seed %d", r.epochs, self.steps_per_epoch, r.batch, r.precision, r.seed)
  add("judged", "every %s, argmax of %s; the run's figure: %s", r.every == 1 and "epoch" or r.every .. " epochs",
    r.answer == "mean" and "the mean logits" or "the last step's logits", ({ best = "best test accuracy of all epochs (chosen on the test set)",
      last = "test accuracy after the last epoch", validation = "test accuracy of the epoch that the validation part chose" })[r.select])
  if r.tune then
    local values = {}
    for i = 2, #r.tune do values[i - 1] = o.show(r.tune[i]) end
    add("tuned", "%s on the validation part: %s", r.tune[1], table.concat(values, ", "))
  end
  for i, text in ipairs(r.deviations) do add(i == 1 and "deviations" or "", "%s", text) end
  if self.missing then add("missing", "%s", (self.missing:gsub("\n", "\n" .. (" "):rep(16)))) end
  if self.timing then out[#out + 1] = self:timed() end
  return table.concat(out, "\n")
end

doc.set(plan.plan, [[
    recipes.plan(recipe[, { steps = 20 }]) -> plan

    What recipes.train would do, as a table that prints itself: data (also where they are not there), network, parameters, operations, loss,
    optimizer, deviations from the publication. The time comes from so many training steps on random input (0: none), whose network is
    thrown away. plan:measure(20) times so many steps of a plan that was made without, and gives the lines that tell.]])

return plan
