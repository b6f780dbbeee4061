-- Spikes are computed when they are read, and kept as bits: nothing of that is visible but in print(net), in speed and in memory.

package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local ms = require "moonspike"
local core = require "moonspike.core"
local lu = require "luaunit"
local s = require "support"
local nn = ms.nn

local function network()
  ms.manual_seed(3)
  return nn.Sequential { nn.Conv2d(1, 8, 3, { padding = 1, bias = false }), nn.BatchNorm2d(8), nn.LIF(), nn.AvgPool2d(2),
    nn.Conv2d(8, 8, 3, { padding = 1, bias = false }), nn.BatchNorm2d(8), nn.LIF(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(8 * 4, 3) }
end

local function batch() return ms.rand(2, 4, 1, 8, 8) * 3 end

TestSpikes = {}

function TestSpikes:test_print_says_what_fused()
  local net = network()
  net(batch())
  local text = tostring(net)
  lu.assertStrContains(text, "fused: into the neuron")
  local _, n = text:gsub("fused: normalisation", "")
  lu.assertEquals(n, 2)
  local other = nn.Sequential { nn.LIF(), nn.AvgPool2d(3) }
  other(ms.rand(2, 4, 8, 9, 9))
  lu.assertStrContains(tostring(other), "not fused: only windows of 2x2, stride 2, no padding fit the neuron's row")
end

-- What reads the spikes of every neuron as bytes before the network goes on.
local function read_all(net)
  local seen = {}
  for i, module in ipairs { net[3], net[7] } do
    local forward = module.forward
    rawset(module, "forward", function(self, x, v0)
      local spikes, v = forward(self, x, v0)
      seen[i] = spikes:clone():detach()
      return spikes, v
    end)
  end
  return seen
end

function TestSpikes:test_reading_changes_nothing()
  local x, gradients, rates, logits = batch(), {}, {}, {}
  for i = 1, 2 do
    local net = network()
    if i == 2 then read_all(net) end
    local y = net(x)
    y:pow(2):sum():backward()
    logits[i], rates[i] = y:detach(), { net[3]:rate(), net[7]:rate() }
    gradients[i] = {}
    for _, p in ipairs(net:parameters()) do table.insert(gradients[i], p.grad) end
  end
  lu.assertEquals(rates[1], rates[2])
  lu.assertTrue(rates[1][1] > 0)
  s.near(logits[1], logits[2]:totable(), 1e-4)
  for k, g in ipairs(gradients[1]) do s.near(g, gradients[2][k]:totable(), 1e-3) end
end

function TestSpikes:test_rates_and_firing_rate()
  local net, x = network(), batch()
  local seen = read_all(net)
  net:eval()
  net(x)
  local expected = (seen[1]:sum():item() + seen[2]:sum():item()) / (seen[1]:numel() + seen[2]:numel())
  local plain, given = network(), false
  local _, _, rate = ms.evaluate(plain:eval(), function()
    if given then return nil end
    given = true
    return x, ms.tensor({ 0, 1, 2, 0 }, { dtype = "int64" })
  end)
  lu.assertAlmostEquals(rate, expected, 1e-6)
end

function TestSpikes:test_gradient_of_spikes()
  local lif, conv = nn.LIF(), nn.Conv2d(8, 4, 3, { bias = false })
  local x = (ms.rand(2, 2, 8, 6, 6) * 2):requires_grad_()
  local spikes = lif(x)
  local loss = conv(spikes):sum()
  local g = core.autograd.grad(loss, { spikes })[1]
  local plain = spikes:detach():to("float32"):requires_grad_()
  conv(plain):sum():backward()
  s.near(g, plain.grad:totable(), 1e-5)
end

function TestSpikes:test_writes_after_the_call()
  local lif, x = nn.LIF(), ms.full({ 2, 1, 8, 2, 2 }, 2)
  local spikes, v = lif(x)
  x:zero_()
  lu.assertEquals(spikes:sum():item(), 64)
  lu.assertEquals(v:sum():item(), 0)
  ms.no_grad(function() spikes:fill_(0) end)
  lu.assertEquals(spikes:sum():item(), 0)
end

os.exit(lu.LuaUnit.run())
