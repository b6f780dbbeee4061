-- The networks of the benchmark, from the zoo; peer_networks.py has the same under the same names: weights go over as safetensors.
local ms = require "moonspike"

local networks = {}

local function zoo(name, options)
  return function() return ms.models.create(name, options) end
end

local function fashion() return ms.models.VGG { plan = { 32, "A", 64, "A" } } end

-- unit: channels of the first layer, 64 unless a test wants a narrow network.
local function resnet19(unit) return ms.models.ResNet19 { scale = unit and unit / 64 } end

-- static: one image is repeated over T.
networks.resnet19 = { make = resnet19, T = 4, batch = 8, input = { 3, 32, 32 }, static = true, parameters = 12630858,
  loss = function() return ms.loss.TET() end }
networks.vggsnn = { make = zoo "vggsnn", T = 10, batch = 4, input = { 2, 48, 48 }, static = false, parameters = 9268746,
  loss = function() return ms.loss.TET() end }
networks.fashion = { make = fashion, T = 4, batch = 64, input = { 1, 28, 28 }, static = true, parameters = 50282,
  loss = function(net) return ms.loss.TRT(net) end }

networks.sew34 = { make = zoo("sew-resnet34-trt", { neuron = function() return ms.nn.LIF() end }), -- tau 2, as the peers
  T = 4, batch = 64, input = { 3, 224, 224 }, static = true, parameters = 21335972, classes = 100,
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
