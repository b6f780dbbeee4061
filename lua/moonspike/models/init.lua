-- moonspike.models: the networks of the published methods, by name.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local geometry = require "moonspike.models.geometry"
local resnet = require "moonspike.models.resnet"
local vgg = require "moonspike.models.vgg"

local models = {}

for _, part in ipairs { resnet, vgg } do
  for name, class in pairs(part) do models[name] = class end
end

local trt = "github.com/ZBX05/Temporal-Regularization-Training @ 95b5ecb"
local tet = "github.com/Gus-Lab/temporal_efficient_training @ f9bde41"
local sew = "github.com/fangwei123456/Spike-Element-Wise-ResNet @ cfc547c"
local imp = "github.com/AmazingLab/amazing-cls @ f862525, configured in github.com/StephenTaylor1998/IMP-SNN @ db05f3e"
local tab = "github.com/HaiyanJiang/SNN-TAB @ f9b94ce"
local efficient = "github.com/Intelligent-Computing-Lab-Yale/EfficientLIF-Net @ 0d8c872"
local tic = "github.com/Intelligent-Computing-Lab-Yale/Exploring-Temporal-Information-Dynamics-in-Spiking-Neural-Networks @ f37f1c8"

-- name -> { class, options, what it is, source }
local zoo = {
  ["resnet19"] = { "ResNet19", {}, "ResNet-19 of TRT (as TET, LocalZO and SLT)", trt },
  ["resnet19-128"] = { "ResNet19", { stem = 128 }, "ResNet-19 of TRT with a stem of 128 channels", trt },
  ["resnet19-tet"] = { "ResNet19", { variant = "tet" }, "ResNet-19 of TET, LocalZO and SLT: PyTorch's initial values", tet },
  ["resnet19-tdbn"] = { "ResNet19", { variant = "tdbn" }, "ResNet-19 of STBP-tdBN",
    "arXiv 2011.05280 as recalled (no official code); tdBN as in github.com/thiswinex/STBP-simple" },
  ["resnet19-tab"] = { "ResNet19", { variant = "tab" }, "ResNet-19 of TAB as intended (the published code does not run)", tab },
  ["resnet19-tic"] = { "ResNet19", { variant = "tic" }, "ResNet-19 of the temporal information study", tic },
  ["efficientlif"] = { "EfficientLIFNet", {}, "EfficientLIF-Net's ResNet-19, nothing shared", efficient },
  ["efficientlif-layer"] = { "EfficientLIFNet", { share = "layer" }, "EfficientLIF-Net, membranes shared by the layers of a stage", efficient },
  ["efficientlif-channel"] = { "EfficientLIFNet", { share = "channel" }, "EfficientLIF-Net, membranes shared by two groups of channels", efficient },
  ["efficientlif-both"] = { "EfficientLIFNet", { share = "both" }, "EfficientLIF-Net, membranes shared by layers and channels", efficient },
  ["sew-resnet18"] = { "SEWResNet", {}, "SEW-ResNet-18", sew },
  ["sew-resnet34"] = { "SEWResNet", { depth = 34 }, "SEW-ResNet-34", sew },
  ["sew-resnet18-trt"] = { "SEWResNet", { variant = "trt", classes = 100 }, "SEW-ResNet-18 as TRT builds it", trt },
  ["sew-resnet34-trt"] = { "SEWResNet", { variant = "trt", depth = 34, classes = 100 }, "SEW-ResNet-34 as TRT builds it", trt },
  ["sew-resnet18-imp"] = { "SEWResNet", { variant = "imp", classes = 100 }, "SEW-ResNet-18 of IMP + LTS", imp },
  ["7b-widenet"] = { "WideNet7B", {}, "7B-wideNet of SEW-ResNet", sew },
  ["vggsnn"] = { "VGGSNN", {}, "VGGSNN of TRT", trt },
  ["vggsnn-tet"] = { "VGGSNN", { variant = "tet" }, "VGGSNN of TET", tet },
  ["vggsnn-woap"] = { "VGGSNN", { variant = "tet", pooling = false }, "VGGSNN of TET without pooling", tet },
  ["vggsnn-tks"] = { "VGGSNN", { variant = "tks" }, "VGG_SNN of TKS",
    "github.com/Brain-Cog-Lab/TKS @ 52401db, github.com/BrainCog-X/Brain-Cog @ 3998fd5" },
  ["vggsnn-imp"] = { "VGGSNN", { variant = "imp", classes = 101 }, "VGGSNN of IMP + TET-S", imp },
  ["vgg11-nda"] = { "VGG11", {}, "VGG-11 of NDA", "github.com/Intelligent-Computing-Lab-Yale/NDA_SNN @ d355bcb" },
  ["vgg9-tab"] = { "VGG9", {}, "VGG9 of TAB", tab },
}

local function find(where, name)
  o.check(where, "name", name, o.string())
  local entry = zoo[name]
  if not entry then o.fail("%s: name: expected one of %s, got '%s'", where, table.concat(o.keys(zoo), ", "), name) end
  return entry
end

-- The names, sorted.
function models.list() return o.keys(zoo) end

-- opts: what the class of the network takes, over the options that the name stands for.
function models.create(name, opts)
  local entry = find("create", name)
  if opts ~= nil and type(opts) ~= "table" then o.fail("create: options: expected a table, got %s", o.show(opts)) end
  local all = {}
  for key, value in pairs(entry[2]) do all[key] = value end
  for key, value in pairs(opts or {}) do all[key] = value end
  return models[entry[1]](all)
end

local function grouped(n) return (tostring(n):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")) end

local Description = { __name = "model" }
Description.__index = Description

function Description:__tostring()
  return table.concat({
    ("%s: %s"):format(self.name, self.about),
    "  source        " .. self.source,
    "  class         models." .. self.class,
    ("  input         [%d, N, %s] -> [%d, N, %d]"):format(self.T, table.concat(self.input, ", "), self.T, self.classes),
    ("  parameters    %s"):format(grouped(self.parameters)),
    ("  regularised   %s by loss.TRT, in %d tensors; %s of them in tensors of one dimension (gammas)"):format(grouped(self.regularised),
      self.tensors, grouped(self.gammas)),
    ("  neurons       %d layers"):format(self.neurons),
    ("  operations    %.4g multiply-accumulates of a sample over T steps (%.4g FLOPs)"):format(self.macs, self.flops),
  }, "\n")
end

-- Builds the network, but draws no values.
function models.describe(name, opts)
  local entry = find("describe", name)
  local net = models.create(name, opts)
  local d = { name = name, about = entry[3], source = entry[4], class = entry[1], classes = net.classes, T = net.T, input = net.input,
    neurons = 0, macs = 0 }
  d.parameters, d.regularised, d.tensors, d.gammas = geometry.count(net)
  for _, layer in ipairs(net:macs()) do d.macs = d.macs + layer[2] end
  d.flops = 2 * d.macs
  for _, module in net:named_modules() do
    if module.membrane_step ~= nil then d.neurons = d.neurons + 1 end
  end
  return setmetatable(d, Description)
end

doc.set(models.list, "models.list() -> list\n\nThe names that models.create and models.describe take.")
doc.set(models.create, [[
    models.create(name[, options]) -> net

    A published network: models.create("resnet19", { classes = 100 }). The options are those of its class (models.describe(name).class), over
    the ones that the name stands for. Initial values as published, drawn under the names of the parameters.]])
doc.set(models.describe, [[
    models.describe(name[, options]) -> description

    A table that prints itself: name, about, source, class, classes, T, input { C, H, W }, parameters, regularised (elements that loss.TRT
    regularises), tensors (in how many), gammas (of these, in tensors of one dimension), neurons (layers), macs and flops of the forward
    pass of a sample over T steps.]])
doc.set(models, [[
    ms.models: list() names the published networks, describe(name) tells about one, create(name, options) makes it.
      classes   ResNet19 EfficientLIFNet SEWResNet VGGSNN VGG VGG9 VGG11 WideNet7B]])

return o.named(models, "models")
