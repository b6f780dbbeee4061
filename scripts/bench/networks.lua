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

-- unit: channels of the first layer.
local function resnet19(unit)
  unit = unit or 64
  local net = nn.Sequential { conv(3, unit, 3, 1), nn.BatchNorm2d(unit), nn.LIF() }
  local cin = unit
  for _, b in ipairs { { 2, 1 }, { 2, 1 }, { 2, 1 }, { 4, 2 }, { 4, 1 }, { 4, 1 }, { 8, 2 }, { 8, 1 } } do
    net:add(block(cin, b[1] * unit, b[2]))
    cin = b[1] * unit
  end
  for _, m in ipairs { nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, 4 * unit), nn.LIF(), nn.Linear(4 * unit, 10) } do
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

-- conv-BN-LIF-conv-BN-LIF, plus the input or its 1x1 convolution behind a LIF: sums of spikes, no neuron behind them.
local function sew_block(cin, cout, stride)
  local shortcut
  if stride ~= 1 or cin ~= cout then
    shortcut = nn.Sequential { conv(cin, cout, 1, stride), nn.BatchNorm2d(cout), nn.LIF() }
  end
  return nn.Residual {
    main = nn.Sequential {
      conv(cin, cout, 3, stride), nn.BatchNorm2d(cout), nn.LIF(), conv(cout, cout, 3, 1), nn.BatchNorm2d(cout), nn.LIF(),
    },
    shortcut = shortcut,
  }
end

local function sew34()
  local net, cin = nn.Sequential { conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.LIF(), nn.MaxPool2d(3, { stride = 2, padding = 1 }) }, 64
  for i, stage in ipairs { { 64, 3 }, { 128, 4 }, { 256, 6 }, { 512, 3 } } do
    for j = 1, stage[2] do
      net:add(sew_block(cin, stage[1], i > 1 and j == 1 and 2 or 1))
      cin = stage[1]
    end
  end
  for _, m in ipairs { nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 100) } do net:add(m) end
  return net
end

-- static: one image is repeated over T.
networks.resnet19 = { make = resnet19, T = 4, batch = 8, input = { 3, 32, 32 }, static = true, parameters = 12630858,
  loss = function() return ms.loss.TET() end }
networks.vggsnn = { make = vggsnn, T = 10, batch = 4, input = { 2, 48, 48 }, static = false, parameters = 9268746,
  loss = function() return ms.loss.TET() end }
networks.fashion = { make = fashion, T = 4, batch = 64, input = { 1, 28, 28 }, static = true, parameters = 50282,
  loss = function(net) return ms.loss.TRT(net) end }

networks.sew34 = { make = sew34, T = 4, batch = 64, input = { 3, 224, 224 }, static = true, parameters = 21335972, classes = 100,
  loss = function(net) return ms.loss.TRT(net) end }

-- "resnet19", or "resnet19.T6" for another number of steps. BATCH changes the batch, SIZE the side of the images (for a quick trial on a
-- slow device; nets with a flattening layer refuse another size), LOSS=trt takes TRT's loss for every network.
function networks.find(case)
  local name, T = case:match "^(%w+)%.T(%d+)$"
  local base = networks[name or case]
  if type(base) ~= "table" then return nil end
  local spec = {}
  for key, value in pairs(base) do spec[key] = value end
  spec.T = tonumber(T) or spec.T
  spec.batch = tonumber(os.getenv "BATCH") or spec.batch
  local size = tonumber(os.getenv "SIZE")
  if size then spec.input = { spec.input[1], size, size } end
  if os.getenv "LOSS" == "trt" then spec.loss = function(net) return ms.loss.TRT(net) end end
  return spec
end

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
  local y = ms.randint(0, spec.classes or 10, { n })
  if spec.static then
    local image = ms.randn(1, n, c, h, w)
    return image:expand(spec.T, n, c, h, w), y, image
  end
  local x = ms.randn(spec.T, n, c, h, w)
  return x, y, x
end

return networks
