-- moonspike: deep spiking networks in Lua. local ms = require "moonspike"

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local seeding = require "moonspike.nn.seeding"
local checkpoint = require "moonspike.checkpoint"
local engines = require "moonspike.engines"

local ms = {}

for _, part in ipairs { core.tensor, core.ops, (require "moonspike.tensor") } do -- ms.zeros, ms.matmul, ms.sort, ...
  for name, fn in pairs(part) do ms[name] = fn end
end

ms.nn = require "moonspike.nn"
ms.models = require "moonspike.models"
ms.loss = require "moonspike.loss"
ms.optim = require "moonspike.optim"
ms.schedule = require "moonspike.schedule"
ms.data = require "moonspike.data"
ms.analysis = require "moonspike.analysis"
ms.evaluate = require "moonspike.evaluate"
ms.confusion = require "moonspike.confusion"
ms.progress = require "moonspike.progress"
ms.monitor = require "moonspike.analysis.monitor"
ms.repl = require "moonspike.repl"
ms.log = require "moonspike.log"
ms.tensorboard = require "moonspike.tensorboard"
ms.report = require "moonspike.report"
ms.plot = require "moonspike.plot"
ms.json, ms.system = core.json, core.system
ms.save, ms.load, ms.checkpoint, ms.resume = checkpoint.save, checkpoint.load, checkpoint.checkpoint, checkpoint.resume
ms.no_grad, ms.Function, ms.grad = autograd.no_grad, autograd.Function, autograd.grad
ms.set_grad_enabled, ms.is_grad_enabled = autograd.set_grad_enabled, autograd.is_grad_enabled
ms.autocast = autograd.autocast
ms.capture = require("moonspike.capture").capture
ms.recipes = require "moonspike.recipes"
ms.arguments = require "moonspike.arguments"
ms.devices, ms.memory, ms.synchronize, ms.threads = core.device.devices, core.device.memory, core.device.synchronize, core.device.threads
ms.empty_cache, ms.cuda = core.device.empty_cache, require "moonspike.cuda"
ms.engines, ms.deterministic = engines.engines, engines.deterministic
ms.doc = doc.set

function ms.manual_seed(seed)
  o.check("manual_seed", "seed", seed, o.integer())
  core.random.manual_seed(seed)
  math.randomseed(seed)
  seeding.renew()
end

-- ms.device() -> name; ms.device(name) makes it the current one.
function ms.device(name)
  if name == nil then return core.device.current() end
  o.check("device", "name", name, o.string())
  core.device.set(name)
  return core.device.current()
end

function ms.help(...) return doc.help(ms, ...) end

ms.version = "unknown"
for _, entry in ipairs(core.device.versions()) do
  if (entry[1] or entry.name) == "moonspike" then ms.version = entry[2] or entry.version end
end

doc.set(ms.manual_seed, [[
    ms.manual_seed(n)

    Seeds everything random: initial weights, shuffling, dropout, ms.randn ..., and Lua's math.random.]])
doc.set(ms.device, [[
    ms.device([name]) -> name

    The current device, on which tensors, networks and batches are made. "auto" takes a GPU where one works, else the CPU; "cuda" and
    "cuda:1" raise with the reason where it does not. ms.devices() lists them, help(ms.cuda) says more.]])
doc.set(ms.help, [[
    help(x), help "nn.LIF", help()

    Prints what x is: a function, a class, an object, a name.]])
doc.set(ms.doc, [[
    ms.doc(value, text) -> value

    Registers the text that help(value) prints.]])
doc.set(ms, [[
    moonspike: deep spiking neural networks, composed in Lua, computed in C.

      ms.zeros ones randn tensor ...   tensors; every function is also a method: x:sum(), x:matmul(y)
      ms.nn        modules, layers, neurons, containers, initialisers
      ms.models    the published networks: ResNet19 VGGSNN SEWResNet ..., list() describe(name) create(name)
      ms.loss      SDT SMSE LTS TET TET_S TRT TKS L2 Control CrossEntropy MSE
      ms.optim     SGD Adam AdamW, schedules, clipping, optimizers in Lua
      ms.schedule  RandomT: a number of time steps for each batch
      ms.data      FashionMNIST CIFAR10 CIFAR100 ImageNet100 ImageFolder NMNIST CIFAR10DVS NCaltech101 DVSGesture SHD EventFolder FromTensors Dataset ...
      ms.analysis  fisher centroid landscape read_landscape; firing_rates dead_neurons activity energy
      ms.recipes   what the papers trained, by name: list() get(name) plan(recipe) train(recipe, options)
      ms.manual_seed  device  devices  cuda  capture  no_grad  grad  Function  autocast
      ms.progress  evaluate  confusion  monitor  log  plot  tensorboard  report  arguments  save  load  checkpoint  resume  engines  deterministic

    Positions count from 1 (dimensions, t[i], net[1]); indices inside tensors from 0 (labels, argmax), as in files and in PyTorch.
    Time comes first: [T, N, C, H, W]. help(x) explains x, help "nn.LIF" too.]])
doc.set(debug.getmetatable(core.tensor.empty(0)), [==[
    A tensor: elements of one dtype ("float32", "bfloat16", "spike", "uint8", "int64") on one device.

    t[i] selects (from 1, or -1 from the end), t[{ {1, 2}, {}, 3 }] keeps ranges and selects; t[...] = number, table or tensor writes.
    + - * / ^ work by element and broadcast; compare with t:lt(u), t:eq(u) ...; t == u says whether they are the same tensor.
    Fields: shape, dtype, device, grad, requires_grad, is_leaf, name. #t is the first size, t:item() the number in a tensor of one
    element, t:totable() all of them. Every function of ms that takes a tensor first is a method: t:sum(2), t:matmul(u); those that
    end in _ change t. help(t.sum) explains one, Tab after t: lists them.]==])
doc.set(ms.json, "ms.json: encode(value[, options]) -> text, decode(text) -> value, array(list), null")
doc.set(ms.system, "ms.system: " .. table.concat(o.keys(ms.system), " "))

return ms
