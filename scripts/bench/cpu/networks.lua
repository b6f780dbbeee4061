-- The networks of the benchmark, named and shaped like those of peer_networks.py: weights go over as safetensors.
local ms = require "moonspike"
local nn = ms.nn

local networks = {}

local function conv(cin, cout, k, stride)
  return nn.Conv2d(cin, cout, k, { stride = stride, padding = k // 2, bias = false })
end

-- conv-BN-LIF-conv-BN, plus the input or its 1x1 convolution, LIF.
local function block(cin, cout, stride)
  local shortcut
  if stride ~= 1 or cin ~= cout then
    shortcut = nn.Sequential { conv(cin, cout, 1, stride), nn.BatchNorm2d(cout) }
  end
  return nn.Residual {
    main = nn.Sequential {
      conv(cin, cout, 3, stride), nn.BatchNorm2d(cout), nn.LIF(), conv(cout, cout, 3, 1), nn.BatchNorm2d(cout),
    },
    shortcut = shortcut,
    neuron = nn.LIF(),
  }
end

local function resnet19()
  local net = nn.Sequential { conv(3, 64, 3, 1), nn.BatchNorm2d(64), nn.LIF() }
  local cin = 64
  for _, b in ipairs { { 128, 1 }, { 128, 1 }, { 128, 1 }, { 256, 2 }, { 256, 1 }, { 256, 1 }, { 512, 2 }, { 512, 1 } } do
    net:add(block(cin, b[1], b[2]))
    cin = b[1]
  end
  for _, m in ipairs { nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 256), nn.LIF(), nn.Linear(256, 10) } do
    net:add(m)
  end
  return net
end

local function vggsnn()
  local net, cin = nn.Sequential {}, 2
  for i, cout in ipairs { 64, 128, 256, 256, 512, 512, 512, 512 } do
    for _, m in ipairs { conv(cin, cout, 3, 1), nn.BatchNorm2d(cout), nn.LIF() } do net:add(m) end
    if i % 2 == 0 then net:add(nn.AvgPool2d(2)) end
    cin = cout
  end
  net:add(nn.Flatten())
  return net:add(nn.Linear(512 * 3 * 3, 10))
end

local function fashion()
  return nn.Sequential {
    nn.Conv2d(1, 32, 3, { padding = 1, bias = false }), nn.BatchNorm2d(32), nn.LIF(), nn.AvgPool2d(2),
    nn.Conv2d(32, 64, 3, { padding = 1, bias = false }), nn.BatchNorm2d(64), nn.LIF(), nn.AvgPool2d(2),
    nn.Flatten(), nn.Linear(64 * 7 * 7, 10),
  }
end

-- static: one image is repeated over T.
networks.resnet19 = { make = resnet19, T = 4, batch = 8, input = { 3, 32, 32 }, static = true, parameters = 12630858,
  loss = function() return ms.loss.TET() end }
networks.vggsnn = { make = vggsnn, T = 10, batch = 4, input = { 2, 48, 48 }, static = false, parameters = 9268746,
  loss = function() return ms.loss.TET() end }
networks.fashion = { make = fashion, T = 4, batch = 64, input = { 1, 28, 28 }, static = true, parameters = 50282,
  loss = function(net) return ms.loss.TRT(net) end }

function networks.count(net)
  local n = 0
  for _, p in ipairs(net:parameters()) do n = n + p:numel() end
  return n
end

-- Floating point operations of convolutions and linear layers in a forward pass that has just run, and those of the first of them.
function networks.flops(net)
  local total, first = 0, nil
  for _, m in net:named_modules() do
    local kind = m:class()
    if kind == "Conv2d" or kind == "Linear" then
      local outputs = 1
      for _, n in ipairs(rawget(m, "_shape")) do outputs = outputs * n end
      local flops = 2 * outputs * (m.weight:numel() // m.weight.shape[1])
      total, first = total + flops, first or flops
    end
  end
  return total, first
end

-- Firing rate of each neuron layer in the last forward pass, in order.
function networks.rates(net)
  local rates = {}
  for _, m in net:named_modules() do
    if m.rate then rates[#rates + 1] = m:rate() end
  end
  return rates
end

-- A repeatable input [T, N, C, H, W] and labels.
function networks.batch(spec, n)
  n = n or spec.batch
  local c, h, w = table.unpack(spec.input)
  local y = ms.randint(0, 10, { n })
  if spec.static then
    local image = ms.randn(1, n, c, h, w)
    return image:expand(spec.T, n, c, h, w), y, image
  end
  local x = ms.randn(spec.T, n, c, h, w)
  return x, y, x
end

return networks
