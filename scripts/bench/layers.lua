-- Single parts: one neuron layer, one convolution at given firing rates, the regulariser. Each gives (about, benches) for protocol.serve.
local ms = require "moonspike"
local nn = ms.nn
local layers = {}

-- 2^20 neurons, forward and backward from a dense gradient. Without fusion the neuron writes its spikes at once, read or not.
function layers.lif(report)
  nn.set_fusion(false)
  local benches, rates, bytes = {}, {}, {}
  for _, T in ipairs { 4, 16 } do
    local x = ms.randn({ T, 16, 64, 32, 32 }, { requires_grad = true })
    local seed, lif = ms.randn(T, 16, 64, 32, 32), nn.LIF()
    local function step()
      x.grad = nil
      local s = lif(x)
      s:backward(seed)
    end
    step()
    step()
    rates[#rates + 1] = lif:rate()
    benches["T" .. T] = step
    -- x in and spikes out as bits; then x, the bits and the gradient in, its gradient out
    bytes["T" .. T] = x:numel() * (4 + 1 / 8 + 4 + 1 / 8 + 4 + 4)
  end
  return report { rates = rates, bytes = bytes }, benches
end

local firing = { 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5 }

-- 128 to 128 channels, 3x3, 32 images of 32x32. Spikes in the type of spikes take the engine that the table chooses; the same values as
-- float32 take the dense one.
function layers.conv(report)
  local opts = { padding = 1 }
  local w = nn.Parameter(ms.randn(128, 128, 3, 3) * (1 / 34))
  local dy = ms.randn(1, 32, 128, 32, 32)
  local benches, flops, y = {}, {}, nil
  local function add(name, x)
    benches["fwd." .. name] = function() ms.no_grad(function() y = nn.functional.conv2d(x, w, nil, opts) end) end
    benches["wgrad." .. name] = {
      before = function()
        w.grad = nil
        y = nn.functional.conv2d(x, w, nil, opts)
      end,
      run = function() y:backward(dy) end,
    }
  end
  local fire = nn.IF { v_threshold = 0.5 } -- gives its input as spikes whose density is known, as those of a network
  for _, rate in ipairs(firing) do
    local dense = ms.bernoulli({ 1, 32, 128, 32, 32 }, rate)
    add(("%g"):format(rate), (fire(dense)))
    add(("%g.dense"):format(rate), dense)
  end
  local fixed = w:detach():clone()
  local x = ms.randn({ 1, 32, 128, 32, 32 }, { requires_grad = true })
  benches.dgrad = {
    before = function()
      x.grad = nil
      y = nn.functional.conv2d(x, fixed, nil, opts)
    end,
    run = function() y:backward(dy) end,
  }
  for name, bench in pairs(benches) do -- once, so that nothing is first in a timed run
    if type(bench) == "table" then
      bench.before()
      bench.run()
    else
      bench()
    end
    flops[name] = 2.0 * 32 * 32 * 32 * 128 * 128 * 9
  end
  return report { flops = flops }, benches
end

-- Value and gradient of TRT's r(t) over the parameters of ResNet-19, T = 6.
function layers.regulariser(report, networks, save)
  local net, list, n = networks.resnet19.make(), {}, 0
  save(net, ms.zeros(1), ms.zeros(1))
  for name, p in net:named_parameters() do
    if not name:find("bias", 1, true) then list[#list + 1], n = p, n + p:numel() end
  end
  local opt, value = { lambda = 1e-5, delta = 0.25, epsilon = 1e-5, t0 = 0, T = 6 }, nil
  local function step()
    for _, p in ipairs(list) do p.grad = nil end
    value = nn.functional.trt(list, opt)
    value:backward()
    for _, p in ipairs(list) do value = p.grad end -- whoever computes it late computes it now
  end
  step()
  local r = nn.functional.trt(list, opt):item()
  return report { losses = { r }, elements = n, bytes = { step = n * 12 } }, { step = step }
end

return layers
