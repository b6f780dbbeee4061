-- The networks of the published methods: parameters as counted there, names, initial values, sizes, and the parts that are new in them.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local parts = require "moonspike.models.parts"
local regularised = require("moonspike.loss.regularised").parameters
local nn, models = ms.nn, ms.models

local function elements(list)
  local n = 0
  for _, p in ipairs(list) do n = n + p:numel() end
  return n
end

-- An image repeated over T.
local function still(net, T, n, size)
  return ms.randn(1, n, net.input[1], size, size):expand(T, n, net.input[1], size, size)
end

local function parameter(net, wanted)
  for name, p in net:named_parameters() do
    if name == wanted then return p end
  end
  lu.fail("no parameter " .. wanted)
end

TestCounts = {}

-- name, classes, parameters, regularised elements and tensors where they are published.
local counts = {
  { "resnet19", 10, 12630858, 12625280, 42 }, { "resnet19", 100, 12653988, 12648320, 42 }, { "resnet19-tet", 10, 12630858, 12625280, 42 },
  { "resnet19-128", 10, 12697994 }, { "resnet19-128", 100, 12721124 }, { "resnet19-tdbn", 10, 12697994 }, { "resnet19-tdbn", 100, 12721124 },
  { "resnet19-tab", 10, 14695638 },
  { "vggsnn", 10, 9268746, 9265984, 17 }, { "vggsnn", 101, 9688165, 9685312, 17 }, { "vggsnn-tet", 10, 9271498 }, { "vggsnn-tet", 101, 9690917 },
  { "vggsnn-woap", 10, 9271498 }, { "vggsnn-tks", 10, 9268746 }, { "vggsnn-tks", 101, 9688165 }, { "vggsnn-imp", 101, 10612597 },
  { "sew-resnet34-trt", 100, 21335972, 21327360, 73 }, { "sew-resnet34", 100, 21335972, 21327360, 73 }, { "sew-resnet18-trt", 100, 11227812 },
  { "sew-resnet18", 100, 11227812 }, { "7b-widenet", 10, 1192218 },
  { "efficientlif", 10, 12585866 }, { "efficientlif", 100, 12632036 }, { "efficientlif-layer", 10, 26108042 }, { "efficientlif-layer", 100, 26154212 },
  { "efficientlif-channel", 10, 26108042 }, { "efficientlif-channel", 100, 26154212 }, { "efficientlif-both", 10, 26108042 },
  { "efficientlif-both", 100, 26154212 }, { "resnet19-tic", 10, 26108042 }, { "resnet19-tic", 100, 26154212 }, { "vgg11-nda", 10, 9230538 },
}

function TestCounts:test_as_published()
  for _, row in ipairs(counts) do
    local d = models.describe(row[1], { classes = row[2] })
    local label = row[1] .. " " .. row[2]
    lu.assertEquals(d.parameters, row[3], label)
    lu.assertEquals({ row[4] and d.regularised, row[4] and d.tensors }, { row[4], row[5] }, label)
  end
  lu.assertEquals(models.describe("resnet19").gammas, 5312)
end

-- What describe counts without drawing is what the network has and what the loss regularises.
function TestCounts:test_loss_regularises_what_is_described()
  for _, row in ipairs { { "resnet19", 10, 12630858, 12625280, 42 }, { "vggsnn", 101, 9688165, 9685312, 17 }, { "sew-resnet34-trt", 100, 21335972, 21327360, 73 } } do
    local net = models.create(row[1], { classes = row[2] })
    lu.assertEquals(elements(net:parameters()), row[3], row[1])
    local list = regularised(net, "weights+gammas")
    lu.assertEquals({ elements(list), #list }, { row[4], row[5] }, row[1])
    lu.assertEquals(#regularised(net, "all but biases"), #list, row[1]) -- the rule of the published code
    local weights = regularised(net, "weights")
    lu.assertEquals(elements(list) - elements(weights), models.describe(row[1]).gammas, row[1])
  end
end

-- SEW-ResNet-18 of IMP: beside the weights one membrane for each neuron at 224x224.
function TestCounts:test_learnable_membranes()
  local membranes = 64 * 112 * 112 + 4 * 64 * 56 * 56 + 5 * (128 * 28 * 28 + 256 * 14 * 14 + 512 * 7 * 7)
  lu.assertEquals(models.describe("sew-resnet18-imp", { classes = 100 }).parameters, 11227812 + membranes)
end

function TestCounts:test_vgg9()
  local convolutions, norms, cin, T = 0, 0, 3, 4
  for _, c in ipairs { 64, 64, 128, 128, 256, 256, 256 } do
    convolutions, norms, cin = convolutions + 9 * cin * c, norms + T * 2 * c + T, c
  end
  lu.assertEquals(models.describe("vgg9-tab").parameters, convolutions + norms + 4097 * 1024 + 1025 * 10)
end

-- Parameters that nobody will draw any more are not waited for: each call of a module would look for them in the whole net.
function TestCounts:test_a_description_leaves_nothing_to_be_drawn()
  local state = require "moonspike.nn.parameter"
  local function pending()
    collectgarbage()
    collectgarbage()
    return state.pending
  end
  local before = pending()
  models.describe "vgg11-nda"
  lu.assertEquals(pending(), before)
  local linear = nn.Linear(2, 2)
  lu.assertEquals(pending(), before + 2)
  linear.weight = nn.Parameter({ 2, 2 }, function(t) t:fill_(1) end)
  linear.bias = rawget(linear, "_lazy").bias
  lu.assertEquals(pending(), before + 2)
  lu.assertEquals(linear(ms.zeros(1, 2)).shape, { 1, 2 })
  lu.assertEquals(pending(), before)
end

TestNames = {}

function TestNames:test_as_in_the_published_checkpoints()
  for name, wanted in pairs {
    ["resnet19"] = { ["layers.0.conv2d_layer.module.0.weight"] = "64, 3, 3, 3", ["layers.0.conv2d_layer.module.1.running_var"] = "64",
      ["layers.4.conv2d_layer_1.module.0.weight"] = "256, 128, 3, 3", ["layers.4.downsample_layer.module.0.weight"] = "256, 128, 1, 1",
      ["layers.8.conv2d_layer_2.module.1.bias"] = "512", ["layers.10.fc.module.weight"] = "256, 512", ["layers.11.module.bias"] = "10" },
    ["resnet19-tet"] = { ["conv1.weight"] = "64, 3, 3, 3", ["bn1.bn.weight"] = "64", ["layer2.0.downsample.layer.module.weight"] = "256, 128, 1, 1",
      ["layer2.0.downsample.bn.bn.bias"] = "256", ["layer3.1.bn2.bn.weight"] = "512", ["fc1.weight"] = "256, 512", ["fc2.weight"] = "10, 256" },
    ["efficientlif-both"] = { ["conv1.weight"] = "128, 3, 3, 3", ["layer2.0.shortcut.0.weight"] = "512, 256, 1, 1", ["layer3.1.bn2.weight"] = "512",
      ["fc1.weight"] = "10, 512" },
    ["sew-resnet34"] = { ["conv1.weight"] = "64, 3, 7, 7", ["bn1.num_batches_tracked"] = "", ["layer2.0.downsample.0.module.1.weight"] = "128",
      ["layer4.2.conv2.module.0.weight"] = "512, 512, 3, 3", ["fc.weight"] = "1000, 512" },
    ["sew-resnet34-trt"] = { ["layers.4.downsample_layer.0.module.0.weight"] = "128, 64, 1, 1", ["layers.16.conv2d_layer_2.module.1.weight"] = "512",
      ["layers.18.module.weight"] = "100, 512" },
    ["sew-resnet18-trt"] = { ["layers.10.module.weight"] = "100, 512" },
    ["vggsnn"] = { ["layers.7.conv2d_layer.module.0.weight"] = "512, 512, 3, 3", ["layers.9.module.weight"] = "10, 4608" },
    ["vggsnn-tet"] = { ["features.0.fwd.module.0.bias"] = "64", ["features.10.fwd.module.0.weight"] = "512, 512, 3, 3", ["classifier.module.weight"] = "10, 4608" },
    ["vggsnn-woap"] = { ["features.7.fwd.module.1.weight"] = "512", ["classifier.module.weight"] = "10, 4608" },
    ["vggsnn-tks"] = { ["feature.10.conv.weight"] = "512, 512, 3, 3", ["feature.3.bn.weight"] = "256", ["fc.1.bias"] = "10" },
    ["vggsnn-imp"] = { ["features.17.conv.module.bias"] = "512", ["classifier.module.1.weight"] = "101, 4608" },
    ["vgg11-nda"] = { ["features.4.ann_module.weight"] = "128, 64, 3, 3", ["features.24.ann_module.bias"] = "512", ["features.25.weight"] = "512",
      ["classifier.0.module.weight"] = "10, 512" },
    ["vgg9-tab"] = { ["features.7.module.weight"] = "128, 64, 3, 3", ["fc1.module.1.weight"] = "1024, 4096", ["fc2.module.1.weight"] = "10, 1024" },
    ["7b-widenet"] = { ["conv.0.0.module.0.weight"] = "64, 2, 1, 1", ["conv.0.1.w"] = "1", ["conv.9.0.module.0.weight"] = "128, 64, 1, 1",
      ["conv.14.conv.1.0.module.0.weight"] = "128, 128, 3, 3", ["conv.14.conv.1.1.w"] = "1", ["out.weight"] = "10, 128" },
  } do
    local dict = models.create(name):state_dict()
    for key, shape in pairs(wanted) do
      lu.assertNotNil(dict[key], name .. " has no " .. key)
      lu.assertEquals(table.concat(dict[key].shape, ", "), shape, name .. " " .. key)
    end
  end
end

function TestNames:test_a_part_can_be_replaced()
  local net = models.ResNet19 { size = 8 }
  net["layers.11.module"] = nn.Linear(256, 7)
  lu.assertEquals(net(still(net, 2, 1, 8)).shape, { 2, 1, 7 })
end

TestValues = {}

local function deviation(t) return math.sqrt((t - t:mean()):square():mean():item()) end

function TestValues:test_initial_values()
  ms.manual_seed(3)
  local net = models.ResNet19()
  s.near(deviation(parameter(net, "layers.8.conv2d_layer_2.module.0.weight")), math.sqrt(2 / (9 * 512)), 2e-3)
  s.near(deviation(parameter(net, "layers.7.downsample_layer.module.0.weight")), math.sqrt(2 / 512), 1e-2)
  lu.assertTrue(parameter(net, "layers.10.fc.module.weight"):abs():max():item() <= 1 / math.sqrt(512))
  s.near(deviation(parameter(models.ResNet19 { variant = "tet" }, "layer3.1.conv2.weight")), 1 / math.sqrt(3 * 9 * 512), 2e-3)
  local nda = models.VGG11()
  lu.assertEquals(nda:state_dict()["features.1.weight"]:sub(0.5):abs():max():item(), 0)
  lu.assertEquals(parameter(nda, "features.24.ann_module.bias"):abs():max():item(), 0)
  local imp = models.create("sew-resnet18-imp", { size = 32 })
  s.near(deviation(parameter(imp, "fc.weight")), 0.01, 2e-2)
  lu.assertEquals(parameter(imp, "fc.bias"):abs():max():item(), 0)
  lu.assertEquals(parameter(imp, "layer4.1.conv2.module.1.weight"):abs():max():item(), 0)
  local v0 = parameter(imp, "layer1.0.sn1.v0")
  s.near({ v0:min():item(), v0:max():item(), deviation(v0) }, { -0.2, 0.2, 0.4 / math.sqrt(12) }, 2e-2)
  local both = models.SEWResNet { connect = "AND", zero_init = true, size = 32 }
  lu.assertEquals(parameter(both, "layer2.1.conv2.module.1.bias"):sub(1):abs():max():item(), 0)
end

-- Values hang on the seed and the parameter's name: another number of classes changes no convolution.
function TestValues:test_draws_go_by_name()
  local dicts = {}
  for i, classes in ipairs { 10, 20 } do
    ms.manual_seed(9)
    dicts[i] = models.VGGSNN { size = 16, classes = classes }:state_dict()
  end
  local name = "layers.6.conv2d_layer.module.0.weight"
  lu.assertEquals((dicts[1][name] - dicts[2][name]):abs():max():item(), 0)
end

TestRuns = {}

-- Every network forward and backward on images as small as it takes: every parameter has a gradient.
function TestRuns:test_forward_and_backward()
  local size = { ["vgg9-tab"] = 8, ["vgg11-nda"] = 8, ["7b-widenet"] = 128 }
  for _, name in ipairs(models.list()) do
    ms.manual_seed(1)
    local side = size[name] or name:find "vggsnn" and 16 or name:find "sew" and 32 or 8
    local net = models.create(name, { size = side, classes = 3, T = 2, scale = 1 / 8 })
    local T = side == 128 and 1 or 2
    local logits = net(still(net, T, 2, side))
    lu.assertEquals(logits.shape, { T, 2, 3 }, name)
    ms.loss.TET()(logits, ms.tensor({ 1, 2 }, { dtype = "int64" })):backward()
    for key, p in net:named_parameters() do lu.assertNotNil(p.grad, name .. " " .. key) end
    lu.assertTrue(logits:isfinite():all():item() ~= 0, name)
  end
end

local function fused(net)
  local found = {}
  for note in tostring(net):gmatch "fused: [a-z ]+" do found[note] = (found[note] or 0) + 1 end
  return found
end

function TestRuns:test_fusion()
  local net = models.ResNet19 { size = 8, scale = 1 / 8 }
  net(still(net, 2, 2, 8))
  lu.assertEquals(fused(net), { ["fused: normalisation"] = 9, ["fused: normalisation and residual"] = 8, ["fused: the input is not a normalisation"] = 1 })
  net = models.EfficientLIFNet { size = 8, scale = 1 / 8 }
  net(still(net, 2, 2, 8))
  lu.assertEquals(fused(net), { ["fused: normalisation"] = 9, ["fused: normalisation and residual"] = 8 })
end

-- Multiply-accumulates by sizes alone are those of a real pass: outputs of each layer times the inputs of one of them.
function TestRuns:test_operations()
  for _, name in ipairs { "resnet19", "sew-resnet18-trt", "vggsnn-woap", "vgg11-nda" } do
    local side = name:find "vggsnn" and 16 or 32
    local net, T = models.create(name, { size = side, scale = 1 / 8 }), 2
    net(ms.randn(T, 1, net.input[1], side, side))
    local want = {}
    for key, m in net:named_modules() do
      if m:class() == "Conv2d" or m:class() == "Linear" then
        local n = m.weight:numel() // m.weight.shape[1]
        for _, k in ipairs(rawget(m, "_shape")) do n = n * k end
        want[#want + 1] = { key, n }
      end
    end
    lu.assertEquals(net:macs(T), want, name)
  end
end

TestSharing = {}

-- A walk through time by hand, as the published code does it: conv1 and bn1 once, then t by t through the stages. fire(place, x): the
-- neuron that stands there, from the membrane that it was left with.
local function by_hand(net, x, fire)
  local first = net.bn1(net.conv1(x:narrow(1, 1, 1)))
  local outputs = {}
  for t = 1, x.shape[1] do
    local h = fire("lif_input", first)
    for stage, blocks in ipairs { 3, 3, 2 } do
      for i = 1, blocks do
        local b = net[("layer%d.%d"):format(stage, i - 1)]
        local y = b.bn2(b.conv2(fire(stage, b.bn1(b.conv1(h)), b, "lif1")))
        local cut = b["shortcut.0"] and b["shortcut.1"](b["shortcut.0"](h)) or h
        h = fire(stage, y + cut, b, "lif2")
      end
    end
    outputs[t] = net.fc1(net.avgpool(h):reshape(1, x.shape[2], 64))
  end
  return ms.cat(outputs, 1)
end

local function halves(lif, x, v)
  local c = x.shape[3] // 2
  local a, left = lif(x:narrow(3, 1, c), v)
  local b, last = lif(x:narrow(3, c + 1, c), left)
  return ms.cat({ a, b }, 3), last
end

local function whole(lif, x, v) return lif(x, v) end

function TestSharing:test_against_a_walk_by_hand()
  for share, run in pairs { none = whole, layer = whole, channel = halves, both = halves } do
    ms.manual_seed(4)
    local net = models.EfficientLIFNet { share = share, size = 16, scale = 1 / 8 }
    local x = still(net, 3, 2, 16)
    local membranes = {}
    local want = by_hand(net, x, function(place, h, block, own)
      local lif = place == "lif_input" and net.lif_input or (share == "none" or share == "channel") and block[own] or net[("layer%d_lif"):format(place)]
      local spikes
      spikes, membranes[lif] = run(lif, h, membranes[lif])
      return spikes
    end)
    local function gradient(logits)
      net:zero_grad()
      logits:square():sum():backward()
      local g = parameter(net, "layer1.0.conv1.weight").grad
      return { g:square():sum():item(), g:flatten():narrow(1, 1, 8):totable() }
    end
    local by_steps = net(x)
    lu.assertEquals(net.lif_input.counts.shape[1], 3, share)
    s.near(by_steps, want, 1e-5, share)
    s.near(gradient(by_steps), gradient(want), 1e-3, share)
  end
end

-- Neurons that always fire, whatever stands where: rates over all calls of a neuron, for each t.
function TestSharing:test_rates()
  for _, share in ipairs { "none", "layer", "channel", "both" } do
    local net = models.EfficientLIFNet { share = share, size = 8, scale = 1 / 8, neuron = function() return nn.LIF { v_threshold = -1e6 } end }
    net(still(net, 2, 2, 8))
    for _, m in net:named_modules() do
      if m.rate then lu.assertEquals({ m:rate(), m:rates() }, { 1, { 1, 1 } }, share) end
    end
    local sites = rawget(net["layer1_lif"] or net["layer1.0"].lif1, "_sites")
    lu.assertEquals(sites, 2 * 2 * (share == "none" and 16 or 32) * 4 * 4 * (net["layer1_lif"] and 6 or 1), share)
  end
end

function TestSharing:test_step_by_step()
  local net = models.EfficientLIFNet { share = "both", size = 8, scale = 1 / 8 }
  local x = still(net, 3, 2, 8)
  net(x)
  net:eval()
  local want = net(x)
  net:reset_state()
  for t = 1, 3 do s.near(net:step(x[t]), want[t], 1e-5) end
end

TestSEW = {}

function TestSEW:test_connections()
  local x = ms.bernoulli({ 2, 1, 3, 4, 4 }, 0.5)
  for _, join in ipairs { "ADD", "AND", "IAND" } do
    local conv, lif = nn.Conv2d(3, 3, 1), nn.LIF { v_threshold = 0.1 }
    local block = parts.Block { main = { { "conv", conv }, { "lif", lif, neuron = true } }, join = join }
    local y, want = lif(conv(x)):float(), nil
    if join == "ADD" then want = x + y elseif join == "AND" then want = x * y else want = x * (1 - y) end
    lu.assertEquals(block(x):float():totable(), want:totable(), join)
  end
end

-- A still image once and repeated, or repeated first: equal logits; the running variance differs by its n / (n - 1) alone.
function TestSEW:test_stem_once()
  local nets = {}
  for i, once in ipairs { true, false } do
    ms.manual_seed(6)
    nets[i] = models.SEWResNet { size = 32, classes = 5, stem_once = once, scale = 1 / 4 }
    nets[i]:parameters()
  end
  local x = still(nets[1], 3, 2, 32)
  s.near(nets[1](x), nets[2](x), 1e-5)
  lu.assertEquals(rawget(nets[1].conv1, "_shape")[1], 1)
  local n, a, b = 2 * 16 * 16, nets[1].bn1.running_var - 0.9, nets[2].bn1.running_var - 0.9
  s.near(a * ((n - 1) / n), b * ((3 * n - 1) / (3 * n)), 1e-5)
  lu.assertEquals(nets[1](x:clone()).shape, { 3, 2, 5 }) -- frames that differ: none is dropped
  lu.assertEquals(rawget(nets[1].conv1, "_shape")[1], 3)
end

TestOptions = {}

function TestOptions:test_neuron_and_norm()
  local seen, widths = {}, {}
  local net = models.VGGSNN { size = 16, T = 7,
    neuron = function(name, width, size) seen[#seen + 1] = ("%s %d %s"):format(name, width, table.concat(size, "x")) return nn.IF() end,
    norm = function(width, T, added) widths[#widths + 1] = ("%d %d %s"):format(width, T, added) return nn.tdBN(width) end }
  lu.assertEquals({ seen[1], seen[3], seen[8] }, { "layers.0.lif 64 64x16x16", "layers.2.lif 256 256x8x8", "layers.7.lif 512 512x2x2" })
  lu.assertEquals({ #widths, widths[2] }, { 8, "128 7 false" })
  lu.assertEquals(net["layers.0.lif"]:class(), "IF")
  local added = {}
  models.ResNet19 { norm = function(width, _, is) if is then added[#added + 1] = width end return nn.BatchNorm2d(width) end }
  lu.assertEquals(added, { 128, 128, 128, 128, 256, 256, 256, 256, 512, 512, 512 })
end

function TestOptions:test_scale()
  local net = models.ResNet19 { scale = 1 / 8 }
  lu.assertEquals(parameter(net, "layers.7.conv2d_layer_1.module.0.weight").shape, { 64, 32, 3, 3 })
  lu.assertEquals(parameter(net, "layers.11.module.weight").shape, { 10, 32 })
  lu.assertEquals(parameter(models.VGG9 { scale = 0.5 }, "fc1.module.1.weight").shape, { 512, 2048 })
  lu.assertEquals(parameter(models.SEWResNet { scale = 0.25, size = 32 }, "layer4.1.conv2.module.0.weight").shape, { 128, 128, 3, 3 })
  lu.assertEquals(parameter(models.WideNet7B { scale = 1 / 16 }, "out.weight").shape, { 10, 8 })
  s.raises("EfficientLIFNet: scale: expected numbers of channels that 2 divides, got 1", models.EfficientLIFNet, { share = "both", scale = 0.001 })
end

function TestOptions:test_networks_of_ones_own()
  local net = models.VGG { plan = { 4, "A", { 8, 2 }, "M" }, classes = 3 }
  lu.assertEquals(net(ms.randn(2, 1, 1, 28, 28)).shape, { 2, 1, 3 })
  lu.assertEquals(elements(net:parameters()), 9 * 4 + 8 + 9 * 4 * 8 + 16 + 8 * 3 * 3 * 3 + 3)
end

function TestOptions:test_description()
  local d = models.describe("vggsnn", { classes = 101 })
  lu.assertEquals({ d.class, d.classes, d.T, d.input, d.neurons }, { "VGGSNN", 101, 10, { 2, 48, 48 }, 8 })
  lu.assertStrContains(tostring(d), "9,688,165")
  lu.assertStrContains(tostring(d), "95b5ecb")
  lu.assertEquals(models.describe("efficientlif-layer").neurons, 4)
  for _, name in ipairs(models.list()) do lu.assertStrContains(models.describe(name).source, name:find "tdbn" and "2011.05280" or "github.com", false, false, name) end
end

function TestOptions:test_help()
  local doc = require "moonspike.doc"
  for _, name in ipairs { "create", "describe", "list", "ResNet19", "EfficientLIFNet", "SEWResNet", "VGGSNN", "VGG", "VGG9", "VGG11", "WideNet7B" } do
    lu.assertStrContains(doc.get(models[name]), "models." .. name, false, false, name)
  end
  lu.assertStrContains(doc.get(models), "ResNet19")
  lu.assertStrContains(doc.get(models.VGG { plan = { 2 }, size = 2 }), "models.VGG{")
end

TestErrors = {}

function TestErrors:test_inputs()
  local vgg = models.VGGSNN()
  s.raises("VGGSNN: x: expected [T, N, 2, H, W], got tensor [4, 2, 48, 48]", vgg, ms.zeros(4, 2, 48, 48))
  s.raises("VGGSNN: x: layers.0.conv2d_layer.module.0 (Conv2d) needs 2 channels, got 3, from [1, 1, 3, 48, 48]; made for images of [2, 48, 48]", vgg,
    ms.zeros(1, 1, 3, 48, 48))
  s.raises("VGGSNN: x: layers.9.module (Linear) needs 4608 inputs, got 512 = 512x1x1, from [1, 1, 2, 16, 16]; made for images of [2, 48, 48]", vgg,
    ms.zeros(1, 1, 2, 16, 16))
  s.raises("VGGSNN: x: layers.5.maxpool2d_layer (AvgPool2d) needs at least 2 rows, got 512x1x4", vgg, ms.zeros(1, 1, 2, 4, 16))
  s.raises("layers.4.conv2d_layer_1.module.0 (Conv2d) needs 128 channels, got 64", function()
    local net = models.ResNet19()
    net["layers.3"] = nn.Conv2d(128, 64, 1)
    net(ms.zeros(1, 1, 3, 8, 8))
  end)
end

function TestErrors:test_options()
  s.raises("VGGSNN: size: layers.5.maxpool2d_layer (AvgPool2d) needs at least 2 rows, got 512x1x1, from images of [2, 4, 4]", models.VGGSNN, { size = 4 })
  s.raises("WideNet7B: size: conv.15 (MaxPool2d) needs at least 2 rows", models.WideNet7B, { size = 64 })
  s.raises("ResNet19: classes: expected an integer >= 2, got 1", models.ResNet19, { classes = 1 })
  s.raises("ResNet19: channels: expected an integer >= 1", models.ResNet19, { channels = 0 })
  s.raises("ResNet19: size: expected an integer >= 1 and <= 65535, or a table of two, got 0", models.ResNet19, { size = 0 })
  s.raises("ResNet19: T: expected an integer >= 1", models.ResNet19, { T = 0 })
  s.raises("ResNet19: variant: expected one of 'trt', 'tet', 'tdbn', 'tab', 'tic', got 'xyz'", models.ResNet19, { variant = "xyz" })
  s.raises("ResNet19: options: expected a table, got 5", models.ResNet19, 5)
  s.raises("SEWResNet: depth: expected 18 or 34, got 50", models.SEWResNet, { depth = 50 })
  s.raises("EfficientLIFNet: share: expected one of 'none', 'layer', 'channel', 'both', got true", models.EfficientLIFNet, { share = true })
  s.raises("VGG: plan: expected a list of widths, { width, stride }, 'A' and 'M', got table", models.VGG, { plan = { "A" } })
  s.raises("ResNet19: unknown option 'blocks'", models.ResNet19, { blocks = 3 })
  for class, make in pairs { [nn.LIF] = function() return nn.LIF() end, [nn.PLIF] = function() return nn.PLIF() end } do
    lu.assertEquals(tostring(models.VGGSNN { scale = 1 / 16, neuron = class, norm = nn.TEBN }), tostring(models.VGGSNN { scale = 1 / 16, neuron = make, norm = "tebn" }))
  end
  s.raises("ResNet19: neuron: expected a function that returns a module, got one that returns nil", models.ResNet19, { neuron = function() end })
  s.raises("ResNet19: norm: expected a function that returns a module, or the name of a norm (batch, nda, tab, tdbn, tebn), got 3", models.ResNet19, { norm = 3 })
  s.raises("ResNet19: neuron: expected a function that returns a module, or the name of a published neuron (nn.published lists them), got 'lif'",
    models.ResNet19, { neuron = "lif" })
  local net = models.VGGSNN { neuron = "tks", norm = "tebn", scale = 0.05 }
  local text = tostring(net)
  lu.assertStrContains(text, "TEBN(")
  lu.assertStrContains(text, "qgate")
  s.raises("create: name: expected one of 7b-widenet, efficientlif, ", models.create, "resnet20")
  s.raises("create: options: expected a table, got 3", models.create, "resnet19", 3)
  s.raises("describe: name: expected a string, got nil", models.describe)
end

os.exit(lu.LuaUnit.run() == 0)
