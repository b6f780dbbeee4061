-- Schedules of what is no learning rate (those are in ms.optim).

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

local schedule = {}

local RandomT = { name = "RandomT" }
local mt = { __name = "schedule.RandomT", class = RandomT, __index = RandomT }
local spec = { T_max = o.integer(8, { from = 1 }), T_min = o.integer(1, { from = 1 }) }

function mt.__tostring(self) return ("schedule.RandomT { T_min = %d, T_max = %d, draws = %d }"):format(self.T_min, self.T_max, self.draws) end

-- The draw depends on the seed and on how many there were before, on nothing else.
function RandomT:draw()
  local key = core.random.key("random_T", tostring(self.draws))
  self.draws = self.draws + 1
  return core.tensor.randint(self.T_min, self.T_max + 1, { 1 }, { key = key, device = "cpu" }):item()
end

function mt.__call(self, x)
  if not o.is_tensor(x) or x:dim() < 2 or x.shape[1] < self.T_max then
    o.fail("RandomT: x: expected [T, N, ...] with at least %d time steps, got %s", self.T_max, o.show(x))
  end
  local T = self:draw()
  return x:narrow(1, 1, T), T
end

function RandomT:state_dict() return { draws = self.draws } end

function RandomT:load_state_dict(dict)
  local draws = type(dict) == "table" and math.tointeger(dict.draws)
  if not draws or draws < 0 then o.fail("load_state_dict: dict: expected { draws = integer }, got %s", o.show(dict)) end
  self.draws = draws
end

schedule.RandomT = setmetatable(RandomT, {
  __name = "class RandomT",
  __call = function(_, opts)
    local opt = o.read("RandomT", opts, spec)
    if opt.T_min > opt.T_max then o.fail("RandomT: T_min: expected at most T_max = %d, got %d", opt.T_max, opt.T_min) end
    return setmetatable({ T_min = opt.T_min, T_max = opt.T_max, draws = 0 }, mt)
  end,
})

doc.set(RandomT, [[
    ms.schedule.RandomT{ T_max = 8, T_min = 1 } -> schedule

    A number of time steps for each mini-batch, uniform from T_min to T_max, both included: the training of SLT (Anumasa et al. 2024,
    "Enhancing Training of Spiking Neural Network with Stochastic Latency"), with loss.TET. Batches are made with T_max steps:

      local slt = ms.schedule.RandomT { T_max = 8 }
      for x, y in train do step(slt(x), y) end

    slt(x) -> the first T steps of x, T; slt:draw() -> T. The draw depends on the seed and the number of draws before:
    ms.checkpoint(path, { random_T = slt, ... }) keeps it. Call it outside of a captured step, which then has one recording for each T.]])
doc.set(RandomT.draw, "slt:draw() -> T\n\n    The next number of time steps.")
doc.set(RandomT.state_dict, "slt:state_dict() -> { draws = integer }\n\n    What ms.checkpoint keeps.")
doc.set(RandomT.load_state_dict, "slt:load_state_dict(dict)\n\n    Goes on where state_dict was taken.")
doc.set(schedule, "ms.schedule: RandomT. Learning rates are in ms.optim.")

return o.named(schedule, "schedule")
