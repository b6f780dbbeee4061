-- Stateless layers. Each accepts [T, N, ...] and [N, ...]: all time steps are served in one call.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local monitor = require "moonspike.monitor"
local Module = require "moonspike.nn.module"
local parameter = require "moonspike.nn.parameter"
local init = require "moonspike.nn.initialise"

local layers = {}
local size_rule = o.integer(nil, { from = 1 })

local function both(v) -- 2 -> { 2, 2 }
  if type(v) == "table" then return { math.tointeger(v[1]), math.tointeger(v[2]) } end
  v = math.tointeger(v)
  return { v, v }
end

local function pair_text(v) return v[1] == v[2] and tostring(v[1]) or ("%dx%d"):format(v[1], v[2]) end

-- ---- Conv2d, Linear ----

local function default_weight(tensor, key) init.kaiming_uniform_(tensor, { a = math.sqrt(5) }, key) end

local function default_bias(fan_in)
  local bound = 1 / math.sqrt(fan_in)
  return function(tensor, key) init.uniform_(tensor, -bound, bound, key) end
end

local Conv2d = Module "Conv2d"
layers.Conv2d = Conv2d

local conv_spec = {
  stride = o.pair(1, { from = 1 }), padding = o.pair(0, { from = 0 }), dilation = o.pair(1, { from = 1 }),
  groups = o.integer(1, { from = 1 }), bias = o.boolean(true),
}

function Conv2d:init(cin, cout, kernel_size, opts)
  self.in_channels = o.check("Conv2d", "in_channels", cin, size_rule)
  self.out_channels = o.check("Conv2d", "out_channels", cout, size_rule)
  self.kernel_size = both(o.check("Conv2d", "kernel_size", kernel_size, o.pair(nil, { from = 1 })))
  local opt = o.read("Conv2d", opts, conv_spec)
  if cin % opt.groups ~= 0 or cout % opt.groups ~= 0 then
    o.fail("Conv2d: groups: expected a divisor of %d and %d, got %d", cin, cout, opt.groups)
  end
  self.options = { stride = both(opt.stride), padding = both(opt.padding), dilation = both(opt.dilation), groups = opt.groups }
  local kh, kw = self.kernel_size[1], self.kernel_size[2]
  local per_group = self.in_channels // opt.groups
  self.weight = parameter.Parameter({ self.out_channels, per_group, kh, kw }, default_weight)
  if opt.bias then self.bias = parameter.Parameter({ self.out_channels }, default_bias(per_group * kh * kw)) end
end

function Conv2d:forward(x) return monitor.computed(self, core.nn.conv2d(x, self.weight, self.bias, self.options), x) end
function Conv2d:synops(x) return core.nn.conv2d_synops(x, self.weight, self.options) end

function Conv2d:extra()
  local opt, text = self.options, { self.in_channels .. ", " .. self.out_channels, pair_text(self.kernel_size) }
  for _, key in ipairs { "stride", "padding", "dilation" } do
    local plain = key == "padding" and "0" or "1"
    if pair_text(opt[key]) ~= plain then text[#text + 1] = key .. " " .. pair_text(opt[key]) end
  end
  if opt.groups > 1 then text[#text + 1] = "groups " .. opt.groups end
  if not self._known.bias then text[#text + 1] = "no bias" end
  return table.concat(text, ", ")
end

local Linear = Module "Linear"
layers.Linear = Linear

local linear_spec = { bias = o.boolean(true) }

function Linear:init(fan_in, fan_out, opts)
  self.in_features = o.check("Linear", "in_features", fan_in, size_rule)
  self.out_features = o.check("Linear", "out_features", fan_out, size_rule)
  local opt = o.read("Linear", opts, linear_spec)
  self.weight = parameter.Parameter({ self.out_features, self.in_features }, default_weight)
  if opt.bias then self.bias = parameter.Parameter({ self.out_features }, default_bias(self.in_features)) end
end

function Linear:forward(x) return monitor.computed(self, core.nn.linear(x, self.weight, self.bias), x) end
function Linear:synops(x) return core.nn.linear_synops(x, self.weight) end

function Linear:extra()
  return ("%d, %d%s"):format(self.in_features, self.out_features, self._known.bias and "" or ", no bias")
end

-- ---- pooling ----

local avg_spec = {
  stride = o.pair(nil, { from = 1 }), padding = o.pair(0, { from = 0 }), ceil_mode = o.boolean(false),
  count_include_pad = o.boolean(true),
}
local max_spec = { stride = o.pair(nil, { from = 1 }), padding = o.pair(0, { from = 0 }), ceil_mode = o.boolean(false) }

local function pool(name, spec, run)
  local Pool = Module(name)
  function Pool:init(kernel_size, opts)
    local kernel = both(o.check(name, "kernel_size", kernel_size, o.pair(nil, { from = 1 })))
    self.options = o.read(name, opts, spec)
    self.options.kernel_size = kernel
    self.options.stride = both(self.options.stride or kernel)
    self.options.padding = both(self.options.padding)
    if 2 * self.options.padding[1] > kernel[1] or 2 * self.options.padding[2] > kernel[2] then
      o.fail("%s: padding: expected at most half of kernel_size %s, got %s", name, pair_text(kernel),
        pair_text(self.options.padding))
    end
  end
  function Pool:forward(x)
    local y, why_not = run(x, self.options)
    rawset(self, "_unfused", why_not)
    return y
  end
  function Pool:extra()
    local opt = self.options
    local text = pair_text(opt.kernel_size)
    if pair_text(opt.stride) ~= text then text = text .. ", stride " .. pair_text(opt.stride) end
    if pair_text(opt.padding) ~= "0" then text = text .. ", padding " .. pair_text(opt.padding) end
    return text
  end
  layers[name] = Pool
end
pool("AvgPool2d", avg_spec, core.nn.avg_pool2d)
pool("MaxPool2d", max_spec, core.nn.max_pool2d)

local AdaptiveAvgPool2d = Module "AdaptiveAvgPool2d"
layers.AdaptiveAvgPool2d = AdaptiveAvgPool2d

function AdaptiveAvgPool2d:init(size)
  self.size = both(o.check("AdaptiveAvgPool2d", "size", size, o.pair(nil, { from = 1 })))
end

function AdaptiveAvgPool2d:forward(x) return core.nn.adaptive_avg_pool2d(x, self.size[1], self.size[2]) end
function AdaptiveAvgPool2d:extra() return pair_text(self.size) end

-- ---- the rest ----

local Flatten = Module "Flatten"
layers.Flatten = Flatten

function Flatten:forward(x)
  local dims = x:dim()
  if dims == 5 or dims == 3 then return x:flatten(3, -1) end
  if dims == 4 or dims == 2 then return x:flatten(2, -1) end
  o.fail("Flatten: x: expected [T, N, C, H, W], [N, C, H, W] or fewer, got %s", o.shape(x))
end

local Dropout = Module "Dropout"
layers.Dropout = Dropout

function Dropout:init(p)
  self.p = o.check("Dropout", "p", p == nil and 0.5 or p, o.number(nil, { from = 0, below = 1 }))
end

function Dropout:forward(x)
  if not self.training or self.p == 0 then return x end
  return core.nn.dropout(x, self.p)
end

function Dropout:extra() return ("%g"):format(self.p) end

local Identity = Module "Identity"
layers.Identity = Identity
function Identity:forward(x) return x end

doc.set(Conv2d, [[
    nn.Conv2d(in_channels, out_channels, kernel_size[, { stride = 1, padding = 0, dilation = 1, groups = 1, bias = true }])

    x [T, N, Cin, H, W] or [N, Cin, H, W] -> [T, N, Cout, H', W']. kernel_size, stride, padding, dilation: a number or { h, w }.
    weight [Cout, Cin / groups, kh, kw] and bias [Cout], U(+-1 / sqrt(fan_in)) as in PyTorch; see nn.init.trt for the published
    TRT initialisation. A static image (expanded over T) is computed once.]])
doc.set(Conv2d.synops, "conv:synops(x) -> tensor int64 [2]\n\n    Non-zero inputs, and the outputs that they reach, summed over x.")
doc.set(Linear, [[
    nn.Linear(in_features, out_features[, { bias = true }])

    x [..., in] -> [..., out]. weight [out, in] and bias [out], U(+-1 / sqrt(in)) as in PyTorch.]])
doc.set(Linear.synops, "linear:synops(x) -> tensor int64 [2]\n\n    Non-zero inputs, and the outputs that they reach, summed over x.")
doc.set(layers.AvgPool2d, [[
    nn.AvgPool2d(kernel_size[, { stride = kernel_size, padding = 0, ceil_mode = false, count_include_pad = true }])

    x [T, N, C, H, W] or [N, C, H, W]. Spikes stay spikes: a 2x2 average of them is a small integer times 1/4.]])
doc.set(layers.MaxPool2d, [[
    nn.MaxPool2d(kernel_size[, { stride = kernel_size, padding = 0, ceil_mode = false }])

    x [T, N, C, H, W] or [N, C, H, W]. The gradient goes to the first maximum.]])
doc.set(AdaptiveAvgPool2d, [[
    nn.AdaptiveAvgPool2d(size)        size: a number or { h, w }

    x [T, N, C, H, W] or [N, C, H, W] -> [.., C, h, w].]])
doc.set(Flatten, [[
    nn.Flatten()

    [T, N, C, H, W] -> [T, N, C*H*W], [N, C, H, W] -> [N, C*H*W], in the order C, H, W.]])
doc.set(Dropout, [[
    nn.Dropout([p = 0.5])

    In training zeroes a share p of the elements, drawn anew for each time step, and scales the rest by 1 / (1 - p).]])
doc.set(Identity, "nn.Identity()\n\nx -> x.")

return layers
