-- moonspike.nn: modules, layers, neurons, initialisers.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local parameter = require "moonspike.nn.parameter"

local nn = {
  Module = require "moonspike.nn.module",
  Parameter = parameter.Parameter,
  Buffer = parameter.Buffer,
  init = require "moonspike.nn.initialise",
  functional = core.nn,
  set_fusion = core.nn.set_fusion,
}

for _, part in ipairs { "layers", "norm", "norm_time", "containers", "neurons", "surrogate", "sharing", "published" } do
  for name, value in pairs(require("moonspike.nn." .. part)) do
    nn[name] = value
  end
end

function nn.is_module(v) return nn.Module._is_module(v) end

nn.utils = {
  clip_grad_norm = core.nn.clip_grad_norm,
  clip_grad_value = core.nn.clip_grad_value,
}

doc.set(nn, [[
    ms.nn: modules.
      base         Module Parameter Buffer
      layers       Conv2d Linear AvgPool2d MaxPool2d AdaptiveAvgPool2d Flatten Dropout Identity
      norms        BatchNorm2d BatchNorm1d tdBN TEBN TAB BNTT
      neurons      LIF IF PLIF published LocalZO learnable_v0
      containers   Sequential Residual SharedMembrane SharedChannels
      initialisers init.kaiming_normal_ ... init.trt
      functions    functional.conv2d ... (what the layers call), utils.clip_grad_norm, utils.clip_grad_value]])
doc.set(nn.functional, "ms.nn.functional: " .. table.concat(o.keys(nn.functional), " ") .. ". What the layers call; help(ms.nn.functional.conv2d)")
doc.set(nn.utils, "ms.nn.utils: clip_grad_norm clip_grad_value")
doc.set(nn.init, "ms.nn.init: " .. table.concat(o.keys(nn.init), " ") .. ". Initialisers, which fill a tensor in place.")
doc.set(nn.is_module, "nn.is_module(v) -> boolean")

return o.named(nn, "nn")
