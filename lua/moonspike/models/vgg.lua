-- Plain convolutional networks: VGGSNN and its relatives, VGG-11, VGG9, any of the kind, and 7B-wideNet.

local nn = require "moonspike.nn"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Module = require "moonspike.nn.module"
local maker = require "moonspike.models.maker"
local geometry = require "moonspike.models.geometry"
local parts = require "moonspike.models.parts"

local vgg = {}

-- Names in the published checkpoints. Each is a function of i, the number of the convolution from 0, and of entry, its place from 0 in
-- the list of convolutions and pools (conv = 1 entry there, or as many as `entries` says).
local names = {
  trt = {
    conv = function(i) return ("layers.%d.conv2d_layer.module.0"):format(i) end, norm = function(i) return ("layers.%d.conv2d_layer.module.1"):format(i) end,
    neuron = function(i) return ("layers.%d.lif"):format(i) end, pool = function(i) return ("layers.%d.maxpool2d_layer"):format(i) end,
    out = function(convolutions) return ("layers.%d.module"):format(convolutions + 1) end,
  },
  tet = {
    entries = 1, conv = function(_, e) return ("features.%d.fwd.module.0"):format(e) end, norm = function(_, e) return ("features.%d.fwd.module.1"):format(e) end,
    neuron = function(_, e) return ("features.%d.act"):format(e) end, pool = function(_, e) return ("features.%d"):format(e) end, out = "classifier.module",
  },
  tks = {
    entries = 1, conv = function(_, e) return ("feature.%d.conv"):format(e) end, norm = function(_, e) return ("feature.%d.bn"):format(e) end,
    neuron = function(_, e) return ("feature.%d.node"):format(e) end, pool = function(_, e) return ("feature.%d"):format(e) end, out = "fc.1",
  },
  imp = {
    entries = 2, conv = function(_, e) return ("features.%d.conv.module"):format(e) end, norm = function(_, e) return ("features.%d.bn"):format(e) end,
    neuron = function(_, e) return ("features.%d"):format(e + 1) end, pool = function(_, e) return ("features.%d"):format(e) end,
    drop = "classifier.module.0", out = "classifier.module.1",
  },
  nda = {
    entries = 3, conv = function(_, e) return ("features.%d.ann_module"):format(e) end, norm = function(_, e) return ("features.%d"):format(e + 1) end,
    neuron = function(_, e) return ("features.%d"):format(e + 2) end, pool = function(_, e) return ("features.%d"):format(e) end,
    global = "avgpool", out = "classifier.0.module",
  },
  tab = {
    entries = 3, conv = function(_, e) return ("features.%d.module"):format(e) end, norm = function(_, e) return ("features.%d"):format(e + 1) end,
    neuron = function(_, e) return ("features.%d"):format(e + 2) end, pool = function(_, e) return ("features.%d"):format(e) end,
    hidden_drop = "fc1.module.0", hidden = "fc1.module.1", drop = "fc2.module.0", out = "fc2.module.1",
  },
  plain = { -- of an nn.Sequential
    entries = 3, conv = function(_, e) return tostring(e) end, norm = function(_, e) return tostring(e + 1) end,
    neuron = function(_, e) return tostring(e + 2) end, pool = function(_, e) return tostring(e) end,
    out = function(_, e) return tostring(e + 1) end, -- behind nn.Flatten
  },
}

-- plan: a list of widths (conv3-norm-neuron), { width, stride }, "A" and "M" (average and max pooling by 2).
-- v: { naming, plan, global = pooled to 1x1, hidden, dropout } and what maker.new takes.
local function build(self, opt, v)
  local make, naming = maker.new(self:class(), opt, v), v.naming
  local i, entry = 0, 0
  for _, step in ipairs(opt.plan or v.plan) do
    local c, h, w = table.unpack(make.at)
    if step == "A" or step == "M" then
      local name = naming.entries and naming.pool(i, entry) or naming.pool(i - 1)
      self:append { name, (step == "A" and nn.AvgPool2d or nn.MaxPool2d)(2) }
      make.at, entry = { c, h // 2, w // 2 }, entry + 1
    else
      local width, stride = step, 1
      if type(step) == "table" then width, stride = step[1], step[2] end
      width = make:channels(width)
      make.at = { width, geometry.window(h, 3, stride, 1), geometry.window(w, 3, stride, 1) }
      local neuron = naming.neuron(i, entry)
      self:append({ naming.conv(i, entry), make:conv(c, width, 3, stride) }, { naming.norm(i, entry), make:norm(width) },
        { neuron, make:neuron(neuron, make.at), neuron = true })
      i, entry = i + 1, entry + (naming.entries or 1)
    end
  end
  if v.global then
    self:append { naming.global, nn.AdaptiveAvgPool2d(1) }
    make.at = { make.at[1], 1, 1 }
  end
  self:append { "flatten", nn.Flatten() }
  local n = math.max(make.at[1] * make.at[2] * make.at[3], 1) -- 0 where the images are too small, which is said below
  if v.hidden then
    local hidden = make:channels(v.hidden)
    self:append({ naming.hidden_drop, nn.Dropout(v.dropout) }, { naming.hidden, nn.Linear(n, hidden) })
    n = hidden
  end
  if v.dropout then self:append { naming.drop, nn.Dropout(v.dropout) } end
  self:append { type(naming.out) == "string" and naming.out or naming.out(i, entry), nn.Linear(n, opt.classes) }
  parts.finish(self, opt, {})
end

-- ---- VGGSNN ----

local VGGSNN = Module("VGGSNN", parts.Net)
vgg.VGGSNN = VGGSNN

local pooled = { 64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A" }
local strided = { 64, { 128, 2 }, 256, { 256, 2 }, 512, { 512, 2 }, 512, { 512, 2 } }

local variants = {
  trt = { naming = names.trt, neuron = maker.published "trt", kaiming = true },
  tet = { naming = names.tet, neuron = maker.published "trt", kaiming = true, bias = true },
  tks = { naming = names.tks, neuron = maker.published "tks" },
  imp = { naming = names.imp, neuron = maker.learnable "imp-vgg", norm = maker.norms.tebn, kaiming = true, bias = true, dropout = 0.25 },
}

function VGGSNN:init(given)
  parts.Net.init(self)
  local rule = o.choice("trt", { "trt", "tet", "tks", "imp" })
  local v = maker.pick("VGGSNN", given, rule, variants)
  local opt = maker.read("VGGSNN", given, { variant = rule, pooling = o.boolean(true), conv_bias = o.boolean(v.bias or false) },
    { classes = 10, channels = 2, size = 48, T = 10 })
  build(self, opt, maker.variant(v, { bias = opt.conv_bias, plan = opt.pooling and pooled or strided }))
end

-- ---- the others ----

local VGG11 = Module("VGG11", parts.Net)
vgg.VGG11 = VGG11

function VGG11:init(given)
  parts.Net.init(self)
  build(self, maker.read("VGG11", given, {}, { classes = 10, channels = 2, size = 48, T = 10 }), {
    naming = names.nda, plan = { 64, "A", 128, "A", 256, 256, "A", 512, 512, 512, 512 }, global = true,
    neuron = maker.published "nda", norm = maker.norms.nda, kaiming = true, bias = true, zero_bias = true,
  })
end

local VGG9 = Module("VGG9", parts.Net)
vgg.VGG9 = VGG9

function VGG9:init(given)
  parts.Net.init(self)
  build(self, maker.read("VGG9", given, {}, { classes = 10, channels = 3, size = 32, T = 4 }), {
    naming = names.tab, plan = { 64, 64, "A", 128, 128, "A", 256, 256, 256, "A" }, hidden = 1024, dropout = 0.25,
    neuron = maker.published "tab", norm = maker.norms.tab, kaiming = true,
  })
end

local VGG = Module("VGG", parts.Net)
vgg.VGG = VGG

local function is_step(v)
  if v == "A" or v == "M" then return true end
  if type(v) == "table" then return #v == 2 and math.tointeger(v[1]) and v[1] > 0 and math.tointeger(v[2]) and v[2] > 0 end
  return math.type(v) and math.tointeger(v) and v > 0
end

local plan_rule = o.where(o.required, "a list of widths, { width, stride }, 'A' and 'M'", function(v)
  if type(v) ~= "table" or type(v[1]) == "string" then return false end
  for _, step in ipairs(v) do
    if not is_step(step) then return false end
  end
  return #v > 0
end)

function VGG:init(given)
  parts.Net.init(self)
  local opt = maker.read("VGG", given, { plan = plan_rule, variant = o.choice("trt", { "trt", "plain" }), conv_bias = o.boolean(false) },
    { classes = 10, channels = 1, size = 28, T = 4 })
  build(self, opt, { naming = names[opt.variant], neuron = maker.published "trt", kaiming = opt.variant == "trt", bias = opt.conv_bias })
end

-- ---- 7B-wideNet ----

local WideNet7B = Module("WideNet7B", parts.Net)
vgg.WideNet7B = WideNet7B

-- conv-norm-neuron under the name prefix: a list of parts.
local function unit(make, prefix, full, cout, kernel)
  local c, h, w = table.unpack(make.at)
  make.at = { cout, h, w }
  return { prefix .. "0.module.0", make:conv(c, cout, kernel, 1) }, { prefix .. "0.module.1", make:norm(cout) },
    { prefix .. "1", make:neuron(full .. prefix .. "1", make.at), neuron = true }
end

function WideNet7B:init(given)
  parts.Net.init(self)
  local opt = maker.read("WideNet7B", given, { connect = o.choice("ADD", { "ADD", "AND", "IAND" }) },
    { classes = 10, channels = 2, size = 128, T = 16 })
  local make, at = maker.new("WideNet7B", opt, { neuron = maker.published "sew-plif" }), -1
  local function place()
    at = at + 1
    return ("conv.%d"):format(at)
  end
  for _, channels in ipairs { 64, 64, 64, 64, 128, 128, 128 } do
    local width = make:channels(channels)
    if make.at[1] ~= width then self:append(unit(make, place() .. ".", "", width, 1)) end
    local name = place()
    local main = { unit(make, "conv.0.", name .. ".", width, 3) }
    table.move({ unit(make, "conv.1.", name .. ".", width, 3) }, 1, 3, 4, main)
    self:append({ name, parts.Block { main = main, join = opt.connect } }, { place(), nn.MaxPool2d(2) })
    make.at = { width, make.at[2] // 2, make.at[3] // 2 }
  end
  self:append({ place(), nn.Flatten() }, { "out", nn.Linear(math.max(make.at[1] * make.at[2] * make.at[3], 1), opt.classes) })
  parts.finish(self, opt, {})
end

local common = maker.common .. " x has to be of the given size."

doc.set(VGGSNN, [[
    models.VGGSNN{ variant = "trt", pooling = true, conv_bias = as published, classes = 10, channels = 2, size = 48, T = 10 }

    conv-norm-neuron of widths 64 128 A 256 256 A 512 512 A 512 512 A (A: average pooling by 2), Linear; pooling = false: every second
    convolution has stride 2 instead (VGGSNNwoAP). Variants:
      trt   convolutions without bias; kaiming_normal over fan_out (TRT)
      tet   convolutions with bias (TET)
      tks   as trt, LIF with scaled input, threshold 0.5, qgate; PyTorch's initial values (TKS)
      imp   with bias, nn.TEBN, learnable initial membranes, Dropout(0.25) before the Linear (IMP)]] .. common)
doc.set(VGG11, [[
    models.VGG11{ classes = 10, channels = 2, size = 48, T = 10 }

    NDA's VGG-11: 64 A 128 A 256 256 A 512 512 512 512, pooled to 1x1, Linear; convolutions with bias, gammas of 0.5.]] .. common)
doc.set(VGG9, [[
    models.VGG9{ classes = 10, channels = 3, size = 32, T = 4 }

    TAB's VGG9: 64 64 A 128 128 A 256 256 256 A, Dropout, Linear 1024, Dropout, Linear (no neuron between); nn.TAB.]] .. common)
doc.set(VGG, [[
    models.VGG{ plan = { 32, "A", 64, "A" }, variant = "trt", conv_bias = false, classes = 10, channels = 1, size = 28, T = 4 }

    A network of the kind of VGGSNN with layers of your own: widths, { width, stride }, "A" and "M" (average and max pooling by 2), then
    Linear. Neurons, initial values and names are those of TRT; variant "plain" has PyTorch's initial values and the names of an nn.Sequential.]] .. common)
doc.set(WideNet7B, [[
    models.WideNet7B{ connect = "ADD", classes = 10, channels = 2, size = 128, T = 16 }

    7B-wideNet of SEW-ResNet for CIFAR10-DVS: seven SEW blocks of 64 and 128 channels, each before a max pooling by 2; PLIF.]] .. common)

return vgg
