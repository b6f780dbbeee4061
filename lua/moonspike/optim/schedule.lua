-- Learning rate schedules in closed form: the rate at step t is a function of t and the rate the optimizer was made with,
-- so a schedule is resumed by setting t. Values equal PyTorch's.

local o = require "moonspike.options"
local doc = require "moonspike.doc"

local schedule = {}

local Base = {}

function Base:apply()
  for _, group in ipairs(self.optimizer.param_groups) do
    group.lr = self:value(group.initial_lr, self.t)
  end
end

-- Once per epoch (or per step, as you count).
function Base:step()
  self.t = self.t + 1
  self:apply()
end

-- The rate now, of group i (1).
function Base:get_lr(i)
  local group = self.optimizer.param_groups[i or 1]
  if not group then o.fail("get_lr: group: expected 1 to %d, got %s", #self.optimizer.param_groups, o.show(i)) end
  return group.lr
end

function Base:state_dict() return { t = self.t } end

function Base:load_state_dict(dict)
  if type(dict) ~= "table" or not math.tointeger(dict.t) then
    o.fail("load_state_dict: dict: expected { t = integer }, got %s", o.show(dict))
  end
  self.t = math.tointeger(dict.t)
  self:apply()
end

local function class(name, spec, value)
  local new = setmetatable({ name = name, value = value }, { __index = Base })
  local mt = { __name = "optim." .. name, class = new, __index = new }
  getmetatable(new).__name = "class " .. name
  getmetatable(new).__call = function(_, optimizer, opts)
    if type(optimizer) ~= "table" or type(optimizer.param_groups) ~= "table" then
      o.fail("%s: optimizer: expected an optimizer, got %s", name, o.show(optimizer))
    end
    local self = setmetatable({ optimizer = optimizer, t = 0 }, mt)
    for key, v in pairs(o.read(name, opts, spec)) do self[key] = v end
    for _, group in ipairs(optimizer.param_groups) do
      group.initial_lr = group.initial_lr or group.lr
    end
    if self.check then self:check() end
    self:apply()
    return self
  end
  schedule[name] = new
  return new
end

local whole = { from = 1 }

class("StepLR", { step_size = o.integer(o.required, whole), gamma = o.number(0.1) }, function(self, base, t)
  return base * self.gamma ^ (t // self.step_size)
end)

local function ascending(v)
  if type(v) ~= "table" then return false end
  for i, m in ipairs(v) do
    if not math.tointeger(m) or m < 0 or i > 1 and m <= v[i - 1] then return false end
  end
  return #v > 0
end

local milestones = o.where(o.required, "ascending integers", ascending)

class("MultiStepLR", { milestones = milestones, gamma = o.number(0.1) }, function(self, base, t)
  local passed = 0
  for _, m in ipairs(self.milestones) do
    if t >= m then passed = passed + 1 end
  end
  return base * self.gamma ^ passed
end)

class("CosineAnnealingLR", { T_max = o.integer(o.required, whole), eta_min = o.number(0, { from = 0 }) }, function(self, base, t)
  return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * t / self.T_max)) / 2
end)

class("LinearWarmup", { steps = o.integer(5, whole), start_factor = o.number(1 / 3, { above = 0, to = 1 }) }, function(self, base, t)
  local done = math.min(t / self.steps, 1)
  return base * (self.start_factor + (1 - self.start_factor) * done)
end)

local Sequential = class("SequentialLR", {
  schedulers = o.where(o.required, "a list of schedules", function(v) return type(v) == "table" and #v > 0 end),
  milestones = milestones,
}, function(self, base, t)
  local i, start = 1, 0
  for j, m in ipairs(self.milestones) do
    if t >= m then i, start = j + 1, m end
  end
  return self.schedulers[i]:value(base, t - start)
end)

function Sequential:check()
  if #self.milestones ~= #self.schedulers - 1 then
    o.fail("SequentialLR: milestones: expected %d (one fewer than schedulers), got %d", #self.schedulers - 1, #self.milestones)
  end
end

local shared = "\n\n    sched:step() after each epoch, sched:get_lr([group]), sched:state_dict(). The base rate is the optimizer's at the start."
doc.set(schedule.StepLR, "optim.StepLR(opt, { step_size, gamma = 0.1 })\n\n    base * gamma^(t // step_size)." .. shared)
doc.set(schedule.MultiStepLR, "optim.MultiStepLR(opt, { milestones = { 10, 20 }, gamma = 0.1 })\n\n    base * gamma^(milestones passed)." .. shared)
doc.set(schedule.CosineAnnealingLR, "optim.CosineAnnealingLR(opt, { T_max, eta_min = 0 })\n\n" ..
  "    eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2." .. shared)
doc.set(schedule.LinearWarmup, "optim.LinearWarmup(opt, { steps = 5, start_factor = 1/3 })\n\n" ..
  "    From base * start_factor to base over `steps` steps (PyTorch's LinearLR with end_factor 1)." .. shared)
doc.set(schedule.SequentialLR, "optim.SequentialLR(opt, { schedulers = { warmup, cosine }, milestones = { 5 } })\n\n" ..
  "    One schedule after the other, each starting at t = 0 at its milestone." .. shared)

return schedule
