-- ms.evaluate: accuracy, loss, firing rate and synaptic operations of a network over a data set.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local energy = require "moonspike.analysis.energy"
local operations = require "moonspike.analysis.operations"
local autograd = require "moonspike.autograd"
local monitor = require "moonspike.monitor"
local Module = require "moonspike.nn.module"
local evaluating = require "moonspike.nn.evaluating"
local position = require "moonspike.data.position"

local BATCHES = 64
local spec = { synops = o.boolean(true), over = o.choice("mean", { "mean", "last" }), criterion = o.callable(nil) }

-- Time steps of [T, N, ...] of images or features; 1 of [N, ...].
local function steps_of(x) return o.is_tensor(x) and x:dim() % 2 == 1 and x.shape[1] or 1 end

-- An observer of the layers of net, and the list of them in order of first use, with their operations so far; what a layer does with spikes
-- and with reals, at different places of the net, stands apart.
local function counter(net)
  local names, list, of = {}, {}, {}
  for name, module in net:named_modules() do names[module] = name end
  local observer = {}
  function observer:computed(layer, y, x)
    local done = operations(layer, y, x)
    local calls = of[layer] or { steps = 0, most = 0 }
    of[layer] = calls
    local entry = calls[done.input]
    if not entry then
      entry = { name = names[layer] or layer:class(), input = done.input, operations = 0, calls = calls }
      calls[done.input] = entry
      list[#list + 1] = entry
    end
    calls.steps, calls.most = calls.steps + done.steps, math.max(calls.most, done.steps)
    entry.products = (entry.products or 0) + done.products * done.steps
    if done.input == "reals" then
      entry.operations = entry.operations + done.count
    else
      entry.reached = entry.reached and entry.reached + done.count or done.count
    end
  end
  -- A pass of T steps has ended. A layer's calls cover all steps once for each place at which it stands, together in one call or one after
  -- the other in a net that walks through time; fewer where it is computed once for all steps.
  function observer:passed(T)
    for _, calls in next, of do T = math.max(T, calls.most) end
    for _, entry in ipairs(list) do
      if entry.products then
        local macs = entry.products / math.min(T, entry.calls.steps)
        entry.macs, entry.products = math.tointeger(macs) or macs, nil
      end
    end
    for _, calls in next, of do calls.steps, calls.most = 0, 0 end
  end
  return observer, list
end

local function settle(list, samples)
  for _, layer in ipairs(list) do
    layer.operations = (layer.operations + (layer.reached and layer.reached:item() or 0)) / samples
    layer.reached, layer.calls = nil, nil
  end
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

local function evaluate(net, loader, opts)
  if not Module._is_module(net) then o.fail("evaluate: net: expected a module, got %s", o.show(net)) end
  o.check("evaluate", "loader", loader, o.loader)
  local opt = o.read("evaluate", opts, spec)
  local mode <close> = evaluating(net)
  local back <close> = position.keep(loader)
  local grad <close> = autograd.guard(false)
  local observer, layers = counter(net)
  local observed <close> = opt.synops and monitor.observing(observer) or nil
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
    observer:passed(math.max(steps_of(x), steps_of(logits)))
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
  end
  read()
  if samples == 0 then o.fail "evaluate: loader: expected at least one batch, got none" end
  settle(layers, samples)
  local synops = 0
  for _, layer in ipairs(layers) do
    if layer.input == "spikes" then synops = synops + layer.operations end
  end
  return correct / samples, loss / samples, sites > 0 and spikes / sites or 0, synops, setmetatable(layers, Details)
end

return doc.set(evaluate, [[
    ms.evaluate(net, loader[, { synops = true, over = "mean", criterion = nil }]) -> accuracy, loss, firing rate, synaptic operations per sample, layers

    In evaluation mode, without recording; modes of modules, random numbers and the loader's position are afterwards as before, so that it may
    be called at any point of a training, with the training set too. accuracy: argmax of the logits' mean over t (over = "last":
    of the last step's logits, as loss.LTS is meant); loss: cross entropy of the same, or the mean over samples of criterion(logits, y); firing rate: spikes per neuron and time step over all neurons; synaptic operations: for each
    Conv2d and Linear fed spikes, non-zero inputs times the outputs each reaches, summed over t. Layers fed real values are
    multiply-accumulates and stand apart, in the fifth value: a list of { name, input = "spikes" | "reals", operations, macs }
    (a static image that is computed once counts T times; a layer that is fed both at different places is listed twice); macs: all products of one
    sample at one time step, at all places where the layer stands. ms.analysis.energy(layers) has
    the energy that print(layers) names.]])
