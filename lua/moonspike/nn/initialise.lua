-- Initialisers, in place and named as in torch.nn.init. `key` (optional) names the draw; without it the default stream is used.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local seeding = require "moonspike.nn.seeding"

local init = {}

-- Inputs and outputs that one weight connects: [out, in, kh, kw] or [out, in].
local function fans(where, t)
  local size = t.shape
  if #size < 2 then o.fail("%s: tensor: expected 2 or more dimensions, got %s", where, o.shape(t)) end
  local field = 1
  for i = 3, #size do field = field * size[i] end
  return size[2] * field, size[1] * field
end

local function gain(name, a)
  if name == "relu" then return math.sqrt(2) end
  if name == "leaky_relu" then return math.sqrt(2 / (1 + a * a)) end
  if name == "tanh" then return 5 / 3 end
  return 1
end

local kaiming_spec = {
  a = o.number(0), mode = o.choice("fan_in", { "fan_in", "fan_out" }),
  nonlinearity = o.choice("leaky_relu", { "relu", "leaky_relu", "tanh", "linear" }),
}

-- The standard deviation that keeps the variance over a layer.
local function kaiming_std(where, t, opts)
  local opt = o.read(where, opts, kaiming_spec)
  local fan_in, fan_out = fans(where, t)
  return gain(opt.nonlinearity, opt.a) / math.sqrt(opt.mode == "fan_in" and fan_in or fan_out)
end

-- init[name](tensor, ...), without recording.
local function define(name, fn)
  init[name] = function(t, ...)
    if not o.is_tensor(t) then o.fail("%s: tensor: expected a tensor, got %s", name, o.show(t)) end
    local was <close> = autograd.guard(false)
    return (fn(t, ...))
  end
end

define("normal_", function(t, mean, std, key) return t:normal_(mean or 0, std or 1, key) end)
define("uniform_", function(t, a, b, key) return t:uniform_(a or 0, b or 1, key) end)
define("constant_", function(t, value) return t:fill_(value) end)

define("kaiming_normal_", function(t, opts, key)
  return t:normal_(0, kaiming_std("kaiming_normal_", t, opts), key)
end)

define("kaiming_uniform_", function(t, opts, key)
  local bound = math.sqrt(3) * kaiming_std("kaiming_uniform_", t, opts)
  return t:uniform_(-bound, bound, key)
end)

local xavier_spec = { gain = o.number(1) }

define("xavier_normal_", function(t, opts, key)
  local fan_in, fan_out = fans("xavier_normal_", t)
  return t:normal_(0, o.read("xavier_normal_", opts, xavier_spec).gain * math.sqrt(2 / (fan_in + fan_out)), key)
end)

define("xavier_uniform_", function(t, opts, key)
  local fan_in, fan_out = fans("xavier_uniform_", t)
  local bound = o.read("xavier_uniform_", opts, xavier_spec).gain * math.sqrt(6 / (fan_in + fan_out))
  return t:uniform_(-bound, bound, key)
end)

-- The initialisation of the published TRT code: kaiming_normal over fan_out on every Conv2d, all else as it is.
function init.trt(net)
  for name, module in net:named_modules() do
    if module:class() == "Conv2d" then
      seeding.draw(module._era, "trt/" .. name .. ".weight", function(key)
        init.kaiming_normal_(module.weight, { mode = "fan_out", nonlinearity = "relu" }, key)
      end)
    end
  end
  return net
end

for name, text in pairs {
  normal_ = "nn.init.normal_(tensor[, mean = 0[, std = 1[, key] ] ]) -> tensor",
  uniform_ = "nn.init.uniform_(tensor[, a = 0[, b = 1[, key] ] ]) -> tensor",
  constant_ = "nn.init.constant_(tensor, value) -> tensor",
  kaiming_normal_ = "nn.init.kaiming_normal_(tensor[, { a = 0, mode = 'fan_in', nonlinearity = 'leaky_relu' }[, key] ]) -> tensor\n\n" ..
    "N(0, gain^2 / fan), gain sqrt(2 / (1 + a^2)). He et al. 2015.",
  kaiming_uniform_ = "nn.init.kaiming_uniform_(tensor[, { a = 0, mode = 'fan_in', nonlinearity = 'leaky_relu' }[, key] ]) -> tensor\n\n" ..
    "U(+-gain sqrt(3 / fan)). PyTorch's default for Conv2d and Linear is a = sqrt(5), that is, U(+-1 / sqrt(fan_in)).",
  xavier_normal_ = "nn.init.xavier_normal_(tensor[, { gain = 1 }[, key] ]) -> tensor\n\nN(0, gain^2 2 / (fan_in + fan_out)).",
  xavier_uniform_ = "nn.init.xavier_uniform_(tensor[, { gain = 1 }[, key] ]) -> tensor\n\nU(+-gain sqrt(6 / (fan_in + fan_out))).",
  trt = "nn.init.trt(net) -> net\n\nkaiming_normal_ over fan_out (gain sqrt(2)) on every Conv2d, the rest as it is: the published TRT code.",
} do
  doc.set(init[name], text)
end

return init
