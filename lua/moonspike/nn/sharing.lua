-- Membranes shared between neurons (EfficientLIF-Net), and learnable ones for the neurons of a whole net (IMP).

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local Module = require "moonspike.nn.module"
local parameter = require "moonspike.nn.parameter"

local sharing = {}

-- ---- one membrane for the layers of a stage ----

local SharedMembrane = Module "SharedMembrane"
sharing.SharedMembrane = SharedMembrane

function SharedMembrane:init(body)
  if not Module._is_module(body) then o.fail("SharedMembrane: body: expected a module, got %s", o.show(body)) end
  self.membrane_step = false
  self.body = body
end

local function neurons_of(module)
  local list = {}
  for _, m in ipairs(module:modules()) do
    if m.membrane and m.charge_text then list[#list + 1] = m end
  end
  return list
end

function SharedMembrane:forward(x)
  if not o.is_tensor(x) or x:dim() < 2 then o.fail("SharedMembrane: x: expected [T, N, ...], got %s", o.show(x)) end
  local neurons, out, now = neurons_of(self.body), {}, nil
  local counts, sites = {}, {} -- of every neuron: spikes for each step, and how many there could be
  local box = { v = self.membrane_step and self._v or nil }
  function box.fired(neuron, spikes) -- a neuron may stand at several places of the body
    local list, row = counts[neuron] or {}, spikes:view(1, spikes:numel())
    list[now] = list[now] and list[now] + row or row
    counts[neuron], sites[neuron] = list, (sites[neuron] or 0) + neuron._sites
  end
  local done <close> = setmetatable({}, { __close = function()
    for _, neuron in ipairs(neurons) do rawset(neuron, "_share", nil) end
  end })
  for _, neuron in ipairs(neurons) do rawset(neuron, "_share", box) end
  for t = 1, x.shape[1] do
    now = t
    out[t] = (self.body(x:narrow(1, t, 1)))
  end
  for _, neuron in ipairs(neurons) do
    if counts[neuron] then
      rawset(neuron, "counts", core.ops.cat(counts[neuron], 1))
      rawset(neuron, "_sites", sites[neuron])
    end
  end
  if self.membrane_step then self._v = box.v end
  return core.ops.cat(out, 1)
end

-- ---- one membrane for groups of channels ----

local SharedChannels = Module "SharedChannels"
sharing.SharedChannels = SharedChannels

local channel_spec = { groups = o.integer(2, { from = 1 }) }

function SharedChannels:init(neuron, opts)
  if not Module._is_module(neuron) or not neuron.membrane then
    o.fail("SharedChannels: neuron: expected a neuron (nn.LIF, nn.IF, nn.PLIF), got %s", o.show(neuron))
  end
  self.groups = o.read("SharedChannels", opts, channel_spec).groups
  self.neuron = neuron
end

-- Groups follow one another like time steps: [T, N, C, ...] <-> [T groups, N, C / groups, ...].
function SharedChannels.pass(neuron, groups, x, v0)
  local size, back = x.shape, {}
  local apart = { size[1] * groups, size[2], size[3] // groups, table.unpack(size, 4) }
  local s, v = neuron(core.ops.stack(x:chunk(groups, 3), 2):reshape(table.unpack(apart)), v0)
  s = s:view(size[1], groups, table.unpack(apart, 2))
  for i = 1, groups do back[i] = s:select(2, i) end
  return core.ops.cat(back, 3), v
end

function SharedChannels:forward(x, v0)
  local size, g = x.shape, self.groups
  if #size < 3 or size[3] % g ~= 0 then
    o.fail("SharedChannels: x: expected [T, N, C, ...] with C a multiple of %d, got %s", g, o.shape(x))
  end
  local s, v = SharedChannels.pass(self.neuron, g, x, v0)
  local counts = self.neuron.counts
  rawset(self.neuron, "counts", counts:view(size[1], counts:numel() // size[1]))
  return s, v
end

function SharedChannels:extra() return ("%d groups"):format(self.groups) end

-- ---- IMP ----

local v0_spec = { range = o.number(0.2, { from = 0 }), per = o.choice("neuron", { "neuron", "channel" }) }

function sharing.learnable_v0(net, x, opts)
  if not Module._is_module(net) then o.fail("learnable_v0: net: expected a module, got %s", o.show(net)) end
  if not o.is_tensor(x) then o.fail("learnable_v0: x: expected an input of the net, got %s", o.show(x)) end
  local opt = o.read("learnable_v0", opts, v0_spec)
  local modes = {}
  for _, module in ipairs(net:modules()) do modes[module] = module.training end
  local back <close> = setmetatable({}, { __close = function()
    for module, training in next, modes do module.training = training end
  end })
  net:eval()
  do
    local was <close> = autograd.guard(false)
    net(x)
  end
  for _, neuron in ipairs(neurons_of(net)) do
    if not neuron.v0 and neuron._shape then
      local size = { 1, table.unpack(neuron._shape, 3) }
      if opt.per == "channel" then
        for i = 3, #size do size[i] = 1 end
      end
      neuron.v0 = parameter.Parameter(size, function(t, key) t:uniform_(-opt.range, opt.range, key) end)
    end
  end
  return net:to(x.device)
end

doc.set(SharedMembrane, [[
    nn.SharedMembrane(body)        x [T, N, ...] -> y [T, N, ...]

    Runs body one time step after the other with one membrane for all its neurons: each starts from what the neuron before left, the
    first one from what the last one left at the step before. Neurons of one size only: the blocks of one stage. Cross-layer sharing of
    EfficientLIF-Net (Kim et al. 2023, "Sharing Leaky-Integrate-and-Fire Neurons for Memory-Efficient Spiking Neural Networks"), whose
    neurons are nn.published "efficientlif-shared". Normalisations in body see one step at a time, as there.]])
doc.set(SharedChannels, [[
    nn.SharedChannels(neuron[, { groups = 2 }])        x [T, N, C, ...] -> spikes, membrane [N, C / groups, ...]

    Groups of channels pass through the same neurons in turn: group 2 starts from the membrane that group 1 left, group 1 from the last
    group's at the step before. Cross-channel sharing of EfficientLIF-Net; inside of nn.SharedMembrane both.]])
doc.set(sharing.learnable_v0, [[
    nn.learnable_v0(net, x[, { range = 0.2, per = "neuron" | "channel" }]) -> net

    Gives every neuron of the net a learnable initial membrane v0 [1, C, H, W] (per = "channel": [1, C, 1, 1]), from U(-range, range). x is an
    input as the net will see it, which is run once for the sizes; call it before the optimizer is made. Shen et al. 2024, "Rethinking
    the Membrane Dynamics and Optimization Objectives of Spiking Neural Networks" (IMP); nn.LIF{ v0 = "learnable",
    v0_shape = { C, H, W } } does the same for one layer.]])

return sharing
