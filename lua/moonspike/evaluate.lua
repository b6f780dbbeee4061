-- ms.evaluate: accuracy, loss, firing rate and synaptic operations of a network over a data set.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local monitor = require "moonspike.monitor"
local evaluating = require "moonspike.evaluating"

local BATCHES = 64
local spec = { synops = o.boolean(true), over = o.choice("mean", { "mean", "last" }) }

-- Layers in order of first use, with their operations so far. Spikes in: non-zero inputs times the outputs each reaches.
-- Real values in: every product counts as a multiply-accumulate (MAC), whatever its value.
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
    if x.dtype == "spike" then
      local _, reached = synops(x, module.weight, options)
      entry.operations = entry.operations + reached
    else
      entry.module = module -- its output is not known yet: counted after the call
    end
  end
  -- MACs of layers fed reals: outputs times the inputs of one output.
  local function settle()
    for _, entry in ipairs(list) do
      local module = entry.module
      if module then
        local outputs, inputs = 1, module.weight:numel() // module.weight.shape[1]
        for _, n in ipairs(module._shape) do outputs = outputs * n end
        entry.operations = entry.operations + outputs * inputs
        entry.module = nil
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
  return ("MACs of layers fed reals: %s"):format(#text > 0 and table.concat(text, ", ") or "none")
end

local function evaluate(net, loader, opts)
  evaluating.check("evaluate", net, loader)
  local opt = o.read("evaluate", opts, spec)
  local mode <close> = evaluating.mode(net)
  local grad <close> = autograd.guard(false)
  local layers, trace, settle = counter(net)
  if opt.synops then monitor.trace = trace end
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
    if logits:dim() == 2 then logits = logits:unsqueeze(1) end
    if opt.over == "last" then logits = logits:narrow(1, -1, 1) end
    local value, _, right = core.nn.classification_loss(logits, y, { over = "mean", ce = 1, mse = 0 })
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
    ms.evaluate(net, loader[, { synops = true, over = "mean" }]) -> accuracy, loss, firing rate, synaptic operations per sample, layers

    In evaluation mode, without recording; every module's mode is restored afterwards. accuracy: argmax of the logits' mean over t (over = "last":
    of the last step's logits, as loss.LTS is meant); loss: cross entropy of the same; firing rate: spikes per neuron and time step over all neurons; synaptic operations: for each
    Conv2d and Linear fed spikes, non-zero inputs times the outputs each reaches, summed over t. Layers fed real values are
    multiply-accumulates and stand apart, in the fifth value: a list of { name, input = "spikes" | "reals", operations }
    (a static image that is computed once counts T times).]])
