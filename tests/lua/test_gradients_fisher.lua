-- Fisher information of a convolutional net against finite differences of its losses. In the double build alone, where neurons fire by the
-- smooth primitive of their surrogate.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local nn = ms.nn

core.device.threads(1)

TestFisher = {}

if core.device.float_width() ~= 8 then
  function TestFisher:test_smooth_build_alone() lu.skip "measured in the double-precision build (-DMS_REAL64=ON)" end
  os.exit(lu.LuaUnit.run() == 0)
end

-- The squared norm of d value() / dp over all elements of the parameters.
local function squared_norm(params, value)
  local sum = 0
  for _, p in ipairs(params) do
    local start = p:detach():clone()
    local flat = start:reshape(-1)
    for i = 1, flat:numel() do
      local function at(step)
        local moved = flat:clone()
        moved[i] = moved[i]:item() + step
        p:copy_(moved:view(table.unpack(start.shape)))
        return value()
      end
      sum = sum + ((at(1e-6) - at(-1e-6)) / 2e-6) ^ 2
    end
    p:copy_(start)
  end
  return sum
end

function TestFisher:test_conv_net()
  ms.manual_seed(3)
  local net = nn.Sequential {
    nn.Conv2d(1, 2, 3, { padding = 1 }), nn.BatchNorm2d(2), nn.PLIF(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3),
  }
  net[2].running_mean:copy_(ms.tensor { .1, -.2 })
  net[2].running_var:copy_(ms.tensor { .5, 2 })
  local x, y = ms.randn(3, 2, 1, 4, 4, { key = "x" }), ms.tensor({ 0, 2 }, { dtype = "int64" })
  local function once(_, control)
    if control == nil then return x, y end
  end
  local batch = ms.analysis.fisher(net, once, { divisor = 1 })
  local each = ms.analysis.fisher(net, once, { mode = "per_sample" })
  net:eval()
  ms.no_grad(function()
    for t = 1, 3 do
      local function loss(n) return -net(x)[{ { 1, t }, n }]:mean(1):log_softmax(-1)[y[n]:item() + 1]:item() end
      local params = net:parameters()
      s.near(batch.I[t], squared_norm(params, function() return (loss(1) + loss(2)) / 2 end), 1e-6, "batch, t = " .. t)
      local sum = 0
      for n = 1, 2 do sum = sum + squared_norm(params, function() return loss(n) end) end
      s.near(each.I[t], sum / 2, 1e-6, "per sample, t = " .. t)
    end
  end)
end

os.exit(lu.LuaUnit.run() == 0)
