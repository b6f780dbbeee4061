-- Residual networks: ResNet-19 and its relatives, EfficientLIF-Net, SEW-ResNet.

local nn = require "moonspike.nn"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Module = require "moonspike.nn.module"
local maker = require "moonspike.models.maker"
local geometry = require "moonspike.models.geometry"
local parts = require "moonspike.models.parts"

local resnet = {}

-- ---- names in the checkpoints of the published codes ----

local function stage_block(stage, index) return ("layer%d.%d"):format(stage, index - 1) end

-- stem_*: of the network; block(stage, index in the stage, running number): a block's name; the others are names inside a block.
local names = {
  trt = {
    stem_conv = "layers.0.conv2d_layer.module.0", stem_norm = "layers.0.conv2d_layer.module.1", stem_neuron = "layers.0.lif",
    stem_pool = "layers.0.maxpool2d_layer", block = function(_, _, k) return "layers." .. k end,
    conv1 = "conv2d_layer_1.module.0", norm1 = "conv2d_layer_1.module.1", neuron1 = "lif_1",
    conv2 = "conv2d_layer_2.module.0", norm2 = "conv2d_layer_2.module.1", neuron2 = "lif_2",
    conv3 = "downsample_layer.module.0", norm3 = "downsample_layer.module.1", pool = "adaptive_avgpool_layer", flatten = "flatten",
    hidden = "layers.10.fc.module", hidden_neuron = "layers.10.lif", out = "layers.11.module",
  },
  tet = {
    stem_conv = "conv1", stem_norm = "bn1.bn", stem_neuron = "spike", block = stage_block,
    conv1 = "conv1", norm1 = "bn1.bn", neuron1 = "spike1", conv2 = "conv2", norm2 = "bn2.bn", neuron2 = "spike2",
    conv3 = "downsample.layer.module", norm3 = "downsample.bn.bn", pool = "avgpool", flatten = "flatten",
    hidden = "fc1", hidden_neuron = "spike_fc1", out = "fc2",
  },
  tab = {
    stem_conv = "conv1.conv.module", stem_norm = "conv1.bn", stem_neuron = "sn1", block = stage_block,
    conv1 = "conv1.conv.module", norm1 = "conv1.bn", neuron1 = "lif1", conv2 = "conv2.conv.module", norm2 = "conv2.bn", neuron2 = "lif2",
    conv3 = "downsample.conv.module", norm3 = "downsample.bn", pool = "avgpool", flatten = "flatten",
    hidden_drop = "fc1.module.0", hidden = "fc1.module.1", out_drop = "fc2.module.0", out = "fc2.module.1",
  },
  efficient = {
    stem_conv = "conv1", stem_norm = "bn1", stem_neuron = "lif_input", block = stage_block,
    conv1 = "conv1", norm1 = "bn1", neuron1 = "lif1", conv2 = "conv2", norm2 = "bn2", neuron2 = "lif2",
    conv3 = "shortcut.0", norm3 = "shortcut.1", pool = "avgpool", flatten = "flatten", out = "fc1",
  },
  sew = {
    stem_conv = "conv1", stem_norm = "bn1", stem_neuron = "sn1", stem_pool = "maxpool", block = stage_block,
    conv1 = "conv1.module.0", norm1 = "conv1.module.1", neuron1 = "sn1", conv2 = "conv2.module.0", norm2 = "conv2.module.1", neuron2 = "sn2",
    conv3 = "downsample.0.module.0", norm3 = "downsample.0.module.1", neuron3 = "downsample.1", pool = "avgpool", flatten = "flatten",
    out = "fc",
  },
}
names.trt_sew = setmetatable({
  conv3 = "downsample_layer.0.module.0", norm3 = "downsample_layer.0.module.1", neuron3 = "downsample_layer.1",
}, { __index = names.trt })

-- ---- blocks ----

-- conv-norm-neuron-conv-norm, plus the input or its 1x1 convolution, neuron; or, sew: a neuron at the end of each branch and none behind.
-- shared: the neuron that stands in both places, if it belongs to the stage.
local function block(make, name, naming, cout, stride, sew, shared)
  local cin, h, w = table.unpack(make.at)
  local out = { cout, geometry.window(h, 3, stride, 1), geometry.window(w, 3, stride, 1) }
  local function neuron(place)
    if shared then return { place, shared, neuron = true, shared = true } end
    return { place, make:neuron(name .. "." .. place, out), neuron = true }
  end
  local spec = { join = sew or "ADD", main = {
    { naming.conv1, make:conv(cin, cout, 3, stride) }, { naming.norm1, make:norm(cout) }, neuron(naming.neuron1),
    { naming.conv2, make:conv(cout, cout, 3, 1) }, { naming.norm2, make:norm(cout, not sew) },
  } }
  local last = neuron(naming.neuron2)
  if stride ~= 1 or cin ~= cout then
    spec.shortcut = { { naming.conv3, make:conv(cin, cout, 1, stride) }, { naming.norm3, make:norm(cout, not sew) } }
    if sew then table.insert(spec.shortcut, neuron(naming.neuron3)) end
  end
  if sew then table.insert(spec.main, last) else spec.neuron = last end
  make.at = out
  return parts.Block(spec)
end

-- ---- the whole ----

-- plan: { naming, stem = { width, kernel, stride }, pool = module behind the stem or nil, widths, blocks, strides, sew, share = one neuron
-- for each stage, groups of channels, final_pool, hidden = width or nil, dropout, init_out }.
local function build(self, make, plan)
  local naming, opt = plan.naming, make.opt
  local kernel, stride = plan.stem[2], plan.stem[3]
  local width = make:channels(plan.stem[1])
  local c, h, w = table.unpack(make.at)
  make.at = { width, geometry.window(h, kernel, stride, kernel // 2), geometry.window(w, kernel, stride, kernel // 2) }
  self:append(
    { naming.stem_conv, make:conv(c, width, kernel, stride) }, { naming.stem_norm, make:norm(width) },
    { naming.stem_neuron, make:neuron(naming.stem_neuron, make.at), neuron = true })
  if plan.pool then
    self:append { naming.stem_pool, plan.pool }
    for i = 2, 3 do make.at[i] = geometry.window(make.at[i], 3, 2, 1) end
  end
  local k = 0
  for stage, channels in ipairs(plan.widths) do
    local cout, shared = make:channels(channels), nil
    if cout % (plan.groups or 1) ~= 0 then
      o.fail("%s: scale: expected numbers of channels that %d divides, got %d", self:class(), plan.groups, cout)
    end
    if plan.share then
      local name = ("layer%d_lif"):format(stage)
      shared = make:neuron(name, { cout, 0, 0 })
      self[name] = shared
    end
    for i = 1, plan.blocks[stage] do
      k = k + 1
      local name = naming.block(stage, i, k)
      self:append { name, block(make, name, naming, cout, i == 1 and plan.strides[stage] or 1, plan.sew, shared) }
    end
  end
  local last = make.at[1]
  if plan.final_pool then
    self:append { naming.pool, nn.AvgPool2d(plan.final_pool) }
    last = last * (make.at[2] // plan.final_pool) * (make.at[3] // plan.final_pool)
  else
    self:append { naming.pool, nn.AdaptiveAvgPool2d(1) }
  end
  self:append { naming.flatten, nn.Flatten() }
  local function drop(name)
    if plan.dropout then self:append { name, nn.Dropout(plan.dropout) } end
  end
  if plan.hidden then
    drop(naming.hidden_drop)
    local hidden = make:channels(plan.hidden)
    self:append { naming.hidden, nn.Linear(math.max(last, 1), hidden) }
    if naming.hidden_neuron then
      self:append { naming.hidden_neuron, make:neuron(naming.hidden_neuron, { hidden }), neuron = true }
    end
    drop(naming.out_drop)
    last = hidden
  end
  local out = nn.Linear(math.max(last, 1), opt.classes)
  if plan.init_out then plan.init_out(out) end
  self:append { plan.out_name or naming.out, out }
end

-- ---- ResNet-19 ----

local ResNet19 = Module("ResNet19", parts.Net)
resnet.ResNet19 = ResNet19

local plain = { widths = { 128, 256, 512 }, strides = { 1, 2, 2 }, hidden = 256, stem = 64 }
local steps = { widths = { 256, 512, 512 }, strides = { 2, 2, 2 }, stem = 128, once = 2, steps = true, naming = names.efficient }

local variants = {
  trt = maker.variant(plain, { naming = names.trt, neuron = maker.published "trt", kaiming = true, T = 4 }),
  tet = maker.variant(plain, { naming = names.tet, neuron = maker.published "trt", T = 4 }),
  tdbn = maker.variant(plain, { naming = names.tet, neuron = maker.published "tdbn", norm = maker.norms.tdbn, stem = 128, T = 4 }),
  tab = maker.variant(plain, { naming = names.tab, neuron = maker.published "tab", norm = maker.norms.tab, stem = 128, kaiming = true, T = 4,
    final_pool = 2, dropout = 0.25 }),
  tic = maker.variant(steps, { neuron = maker.published "tic", T = 10 }),
}

local function build_resnet19(self, opt, v)
  local make = maker.new(self:class(), opt, v)
  build(self, make, {
    naming = v.naming, stem = { opt.stem or v.stem, 3, 1 }, widths = v.widths, blocks = { 3, 3, 2 }, strides = v.strides,
    share = v.share, groups = v.groups, hidden = v.hidden, final_pool = v.final_pool, dropout = v.dropout,
  })
  parts.finish(self, opt, v)
end

function ResNet19:init(given)
  parts.Net.init(self)
  local rule = o.choice("trt", { "trt", "tet", "tdbn", "tab", "tic" })
  local v = maker.pick("ResNet19", given, rule, variants)
  local opt = maker.read("ResNet19", given, { variant = rule, stem = o.integer(nil, { from = 1, to = 65535 }) },
    { classes = 10, channels = 3, size = 32, T = v.T })
  build_resnet19(self, opt, v)
end

-- ---- EfficientLIF-Net ----

local EfficientLIFNet = Module("EfficientLIFNet", parts.Net)
resnet.EfficientLIFNet = EfficientLIFNet

local shared = maker.variant(steps, { neuron = maker.published "efficientlif-shared" })
local sharing = {
  none = maker.variant(steps, { neuron = maker.published "efficientlif", widths = { 128, 256, 512 } }),
  layer = maker.variant(shared, { share = true }),
  channel = maker.variant(shared, { groups = 2 }),
  both = maker.variant(shared, { share = true, groups = 2 }),
}

function EfficientLIFNet:init(given)
  parts.Net.init(self)
  local opt = maker.read("EfficientLIFNet", given, { share = o.choice("none", { "none", "layer", "channel", "both" }) },
    { classes = 10, channels = 3, size = 32, T = 5 })
  build_resnet19(self, opt, sharing[opt.share])
end

-- ---- SEW-ResNet ----

local SEWResNet = Module("SEWResNet", parts.Net)
resnet.SEWResNet = SEWResNet

local sew_variants = {
  sew = { naming = names.sew, neuron = maker.published "sew", kaiming = true, once = true, pool = "max" },
  trt = { naming = names.trt_sew, neuron = maker.published "trt-imagenet100", kaiming = true, once = false, pool = "max" },
  imp = { naming = names.sew, neuron = maker.learnable "imp-imagenet100", kaiming = true, once = true, pool = "avg", zero_init = true,
    narrow_out = true },
}

-- Blocks that begin as the identity: with AND the branch has to be one.
local function zero_init(self, naming, join)
  for _, child in self:named_children() do
    local norm = child:class() == "Block" and rawget(child, naming.norm2)
    if norm and norm.weight then
      nn.init.constant_(norm.weight, 0)
      if join == "AND" then nn.init.constant_(norm.bias, 1) end
    end
  end
end

local function narrow(linear)
  linear.weight = nn.Parameter({ linear.out_features, linear.in_features }, function(t, key) nn.init.normal_(t, 0, 0.01, key) end)
  linear.bias = nn.Parameter({ linear.out_features }, function(t) t:fill_(0) end)
end

function SEWResNet:init(given)
  parts.Net.init(self)
  local rule = o.choice("sew", { "sew", "trt", "imp" })
  local v = maker.pick("SEWResNet", given, rule, sew_variants)
  local opt = maker.read("SEWResNet", given, {
    variant = rule, depth = o.where(18, "18 or 34", function(n) return n == 18 or n == 34 end),
    connect = o.choice("ADD", { "ADD", "AND", "IAND" }), stem_pool = o.choice(v.pool, { "max", "avg" }),
    stem_once = o.boolean(v.once), zero_init = o.boolean(v.zero_init or false),
  }, { classes = 1000, channels = 3, size = 224, T = 4 })
  local pool = (opt.stem_pool == "max" and nn.MaxPool2d or nn.AvgPool2d)(3, { stride = 2, padding = 1 })
  local blocks = opt.depth == 18 and { 2, 2, 2, 2 } or { 3, 4, 6, 3 }
  build(self, maker.new("SEWResNet", opt, v), {
    naming = v.naming, stem = { 64, 7, 2 }, pool = pool, widths = { 64, 128, 256, 512 }, blocks = blocks, strides = { 1, 2, 2, 2 },
    sew = opt.connect, init_out = v.narrow_out and narrow or nil,
    out_name = opt.variant == "trt" and ("layers.%d.module"):format(opt.depth == 18 and 10 or 18) or nil,
  })
  if opt.zero_init then zero_init(self, v.naming, opt.connect) end
  parts.finish(self, opt, { once = opt.stem_once and 2 or 0 })
end

doc.set(ResNet19, [[
    models.ResNet19{ variant = "trt", stem = as published, classes = 10, channels = 3, size = 32, T = 4 }

    conv-norm-neuron, stages of 3, 3 and 2 residual blocks, average pooling. Variants:
      trt   stem 64, widths 128 256 512, Linear 256 with neurons, Linear; kaiming_normal over fan_out (TRT)
      tet   the same with PyTorch's initial values and the names of the TET, LocalZO and SLT codes
      tdbn  stem 128, nn.tdBN, threshold 0.5, rectangle (STBP-tdBN; neuron and optimizer as recalled, there is no official code)
      tab   stem 128, nn.TAB, two Linear behind Dropout(0.25) (as intended: the published code does not run)
      tic   stem 128, widths 256 512 512, all of stride 2, one Linear; normalises each time step by itself (TIC)]] .. maker.common)
doc.set(EfficientLIFNet, [[
    models.EfficientLIFNet{ share = "none", classes = 10, channels = 3, size = 32, T = 5 }

    ResNet-19 of EfficientLIF-Net: stem 128, all stages of stride 2. share: "none" (widths 128 256 512, hard reset); the others (256 512 512,
    soft reset) hand membranes on: "layer" from neuron layer to neuron layer of a stage, "channel" from the first half of the channels to the
    second, "both". The network walks through time: norms see one step at a time, what lies before the first neuron sees a still image once.]]
  .. maker.common)
doc.set(SEWResNet, [[
    models.SEWResNet{ variant = "sew", depth = 18, connect = "ADD", stem_pool = "max", stem_once = true, zero_init = false,
                      classes = 1000, channels = 3, size = 224, T = 4 }

    Spike-element-wise ResNet, depth 18 or 34: each branch ends in a neuron, its spikes y and the block's input x give y + x (ADD), y x (AND)
    or x (1 - y) (IAND). Variants: "sew" (IF, atan; a still image is convolved once and repeated), "trt" (LIF tau 1, triangle, the stem over
    all T), "imp" (learnable initial membranes, average pooling in the stem, zero_init, Linear from N(0, 0.01)).
    zero_init: blocks begin as the identity.]] .. maker.common)

return resnet
