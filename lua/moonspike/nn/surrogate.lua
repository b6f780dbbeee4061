-- Surrogates that are drawn rather than computed: functions(u) -> ds/dh for the option surrogate of a neuron.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

local surrogate = {}

local spec = {
  m = o.integer(5, { from = 1 }), delta = o.number(0.5, { above = 0 }),
  sample = o.where(nil, "a function(size, options) -> tensor", function(v) return type(v) == "function" end),
}

function surrogate.LocalZO(opts)
  local opt = o.read("LocalZO", opts, spec)
  local sample = opt.sample or core.tensor.randn
  return function(u)
    local near, sum = u:abs() / opt.delta, nil
    for _ = 1, opt.m do
      local z = sample(u.shape, { device = u.device }):abs()
      local term = z * near:lt(z)
      sum = sum and sum:add_(term) or term
    end
    return sum / (2 * opt.delta * opt.m)
  end
end

doc.set(surrogate.LocalZO, [[
    nn.LocalZO{ m = 5, delta = 0.5, sample = ms.randn } -> function(u) -> g

    The surrogate of LocalZO (Mukhoty et al. 2023, "Direct Training of SNN using Local Zeroth Order Method"): for each neuron, step and
    backward call the mean of m draws |z| [|u| < delta |z|] / (2 delta), z normal. nn.LIF{ surrogate = "localzo", alpha = delta } is the
    same with m = 5. Its mean over z is the surrogate "gaussian" of width delta, which draws nothing.
    sample(size, options) draws from another distribution.]])

return surrogate
