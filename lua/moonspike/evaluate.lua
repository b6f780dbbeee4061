-- ms.evaluate: accuracy, loss, firing rate and synaptic operations of a network over a data set.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local energy = require "moonspike.analysis.energy"
local autograd = require "moonspike.autograd"
local monitor = require "moonspike.monitor"
local Module = require "moonspike.nn.module"
local evaluating = require "moonspike.nn.evaluating"

local BATCHES = 64
local spec = { synops = o.boolean(true), over = o.choice("mean", { "mean", "last" }), criterion = o.callable(nil) }

local function product(sizes, first)
  local n = 1
  for i = first, #sizes do n = n * sizes[i] end
  return n
end

-- Layers in order of first use, with their operations so far. Spikes in: non-zero inputs times the outputs each reaches.
-- Real values in: every product counts as a multiply-accumulate (MAC), whatever its value. macs: the products of one sample at one step.
local function counter(net)
  local names, list, of = {}, {}, {}
  for name, module in net:named_modules() do names[module] = name end
  local function trace(module, x, synops, options)
    local entry = of[module]
    if not entry then
      entry = { name = names[module] or module:class(), input = x.dtype == "spike" and "spikes" or "reals", operations = 0 }
      of[module] = entry
      list[#list + 1] = entry
    end
    entry.module, entry.reals = module, entry.reals or 0 -- its output is not known yet: settled after the call
    if x.dtype == "spike" then
      local _, reached = synops(x, module.weight, options)
      entry.operations = entry.operations + reached
    else
      entry.reals = entry.reals + 1
    end
  end
  local function settle()
    for _, entry in ipairs(list) do
      local module = entry.module
      if module then
        local weight, shape = module.weight.shape, module._shape -- [T, N, ...] or [N, ...]
        local inputs, own = product(weight, 2), #weight == 4 and 3 or 1 -- of one output; its dimensions: C, H, W or features
        entry.macs = inputs * product(shape, #shape - own + 1)
        entry.operations = entry.operations + entry.reals * inputs * product(shape, 1)
        entry.module, entry.reals = nil, nil
      end
    end
  end
  return list, trace, settle
end

local Details = { __name = "evaluation" }
Details.__index = Details
function Details:__tostring()
  local text = {}
  for _, layer in ipairs(self) do
    if layer.input == "reals" then text[#text + 1] = ("%s %.4g"):format(layer.name, layer.operations) end
  end
  local used = self[1] and energy(self)
  return ("MACs of layers fed reals: %s%s"):format(#text > 0 and table.concat(text, ", ") or "none",
    used and ("; energy %.4g uJ, without spikes %.4g uJ"):format(used.spiking, used.ann) or "")
end

-- Layers report to trace (nil: to whom they did) until the end of the block.
local function tracing(trace)
  local was = monitor.trace
  monitor.trace = trace or was
  return setmetatable({}, { __close = function() monitor.trace = was end })
end

local function evaluate(net, loader, opts)
  if not Module._is_module(net) then o.fail("evaluate: net: expected a module, got %s", o.show(net)) end
  o.check("evaluate", "loader", loader, o.loader)
  local opt = o.read("evaluate", opts, spec)
  local mode <close> = evaluating(net)
  local grad <close> = autograd.guard(false)
  local layers, trace, settle = counter(net)
  local traced <close> = tracing(opt.synops and trace)
  local samples, correct, loss, spikes, sites, waiting = 0, 0, 0, 0, 0, {}
  local function read() -- the values of some batches at once: a device is not waited for after each
    for _, batch in ipairs(waiting) do
      correct, loss = correct + batch[2]:item(), loss + batch[3]:item() * batch[1]
      spikes, sites = spikes + (batch[4] and batch[4]:item() or 0), sites + batch[5]
    end
    waiting = {}
  end
  for x, y in loader do
    monitor.begin()
    local logits = net(x)
    local all = logits
    if logits:dim() == 2 then logits = logits:unsqueeze(1) end
    if opt.over == "last" then logits = logits:narrow(1, -1, 1) end
    local value, _, right = core.nn.classification_loss(logits, y, { over = "mean", ce = 1, mse = 0 })
    if opt.criterion then
      value = opt.criterion(all, y)
      if not o.is_tensor(value) or value:numel() ~= 1 then
        o.fail("evaluate: criterion: expected a tensor of one element as result, got %s", o.show(value))
      end
    end
    local n = y.shape[1]
    samples = samples + n
    waiting[#waiting + 1] = { n, right, value, monitor.fired_sum() }
    if #waiting == BATCHES then read() end
    settle()
  end
  read()
  if samples == 0 then o.fail "evaluate: loader: expected at least one batch, got none" end
  local synops = 0
  for _, layer in ipairs(layers) do
    layer.operations = layer.operations / samples
    if layer.input == "spikes" then synops = synops + layer.operations end
  end
  return correct / samples, loss / samples, sites > 0 and spikes / sites or 0, synops, setmetatable(layers, Details)
end

return doc.set(evaluate, [[
    ms.evaluate(net, loader[, { synops = true, over = "mean", criterion = nil }]) -> accuracy, loss, firing rate, synaptic operations per sample, layers

    In evaluation mode, without recording; every module's mode is restored afterwards. accuracy: argmax of the logits' mean over t (over = "last":
    of the last step's logits, as loss.LTS is meant); loss: cross entropy of the same, or the mean over samples of criterion(logits, y); firing rate: spikes per neuron and time step over all neurons; synaptic operations: for each
    Conv2d and Linear fed spikes, non-zero inputs times the outputs each reaches, summed over t. Layers fed real values are
    multiply-accumulates and stand apart, in the fifth value: a list of { name, input = "spikes" | "reals", operations, macs }
    (a static image that is computed once counts T times); macs: all products of one sample at one time step. ms.analysis.energy(layers) has
    the energy that print(layers) names.]])
