-- What the neurons of a network do with a batch: spikes and membranes, layer by layer.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local monitor = require "moonspike.monitor"
local Module = require "moonspike.nn.module"
local evaluating = require "moonspike.nn.evaluating"

local function activity(net, x)
  if not Module._is_module(net) then o.fail("activity: net: expected a module, got %s", o.show(net)) end
  if not o.is_tensor(x) then o.fail("activity: x: expected a tensor [T, N, ...], got %s", o.show(x)) end
  local names = {}
  for name, module in net:named_modules() do names[module] = name ~= "" and name or module:class() end
  local mode <close> = evaluating(net)
  local grad <close> = autograd.guard(false)
  local calls, out = {}, { layers = {}, spikes = {}, membranes = {}, thresholds = {} }
  local observer = { fired = function(_, neuron, spikes, input, v0)
    if names[neuron] then calls[#calls + 1] = { neuron, spikes, input, v0 } end
  end }
  local observed <close> = monitor.observing(observer)
  out.logits = net(x)
  for _, call in ipairs(calls) do
    local neuron, spikes, input, v0 = table.unpack(call, 1, 4)
    local name = names[neuron]
    if not out.spikes[name] then out.layers[#out.layers + 1] = name end
    out.spikes[name], out.membranes[name], out.thresholds[name] = spikes, neuron:membrane(input, v0), neuron._settings.threshold
  end
  return out
end

return { activity = doc.set(activity, [[
    ms.analysis.activity(net, x) -> { layers, spikes, membranes, thresholds, logits }

    What the neurons do with a batch x [T, N, ...], in evaluation mode: layers, their names in order of use; spikes[layer] and membranes[layer], the
    membrane before reset, [T, N, ...]; thresholds[layer]. A neuron that is called more than once counts with its last call. ms.plot.raster and ms.plot.trace draw a sample of
    them: a.spikes[name]:select(2, 1).]]) }
