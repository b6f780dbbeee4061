-- What ms.monitor sees of one training step: an observer of neurons and layers (moonspike.monitor) that keeps small tensors, one value for a time
-- step of a call. Nothing is read here.

local core = require "moonspike.core"
local o = require "moonspike.options"
local autograd = require "moonspike.autograd"
local idle = require "moonspike.analysis.idle"
local operations = require "moonspike.analysis.operations"

local Recorder = {}
Recorder.__index = Recorder

local quantities = { "spikes", "reached", "slope", "mean", "variance", "squares", "operations", "dead", "saturated" }

-- wants: a set of firing, dead, surrogate, membranes, deltas, synops; names: of the modules that are looked at; id: of no other recorder.
local function new(id, names, wants)
  return setmetatable({ id = id, names = names, wants = wants, on = false, seen = {}, of = {} }, Recorder)
end

-- A step begins, which is looked at or not.
function Recorder:begin(on)
  self.on, self.seen, self.of, self.found, self.unread = on, {}, {}, nil, nil
end

local function add_call(self, module, call)
  local entry = self.of[module]
  if not entry then
    entry = { name = self.names[module], module = module, calls = {} }
    self.of[module] = entry
    table.insert(self.seen, entry)
  end
  table.insert(entry.calls, call)
  return entry
end

local function behind_time(x) -- the dimensions of a time step
  local list = {}
  for i = 2, x:dim() do list[i - 1] = i end
  return list
end

-- ---- neurons: numbers of sites, or means over the sites of a time step ----

local function look(wants, neuron, x, v0, call)
  call.spikes = wants.firing and neuron.counts or nil -- summed over channels once the step has ended: reading would run the neuron now
  if not (wants.surrogate or wants.membranes) then return end
  local h = neuron:membrane(x, v0)
  local sites = behind_time(h)
  if wants.membranes then
    local mean = h:mean(sites, true)
    call.mean, call.variance = mean:flatten(), (h - mean):square():mean(sites)
  end
  if wants.surrogate then
    local slope = neuron:slope(h)
    call.slope, call.reached = slope:mean(sites), slope:ne(0):sum(sites)
  end
end

-- Spikes are counted once the layer behind has read them: a pooling there still runs in the neuron's row.
local function count_idle(self)
  if not self.unread then return end
  local entry, spikes = table.unpack(self.unread)
  self.unread, entry.idle = nil, entry.idle or {}
  idle.add(entry.idle, "monitor: dead", entry.name, spikes)
end

function Recorder:fired(neuron, spikes, x, v0)
  local name, wants = self.names[neuron], self.wants
  if not (self.on and name and autograd.is_grad_enabled()) then return end
  if not (wants.firing or wants.dead or wants.surrogate or wants.membranes) then return end
  if wants.surrogate and core.capture.inside() and type(neuron._settings.surrogate) == "function" then
    o.fail("monitor: surrogate: that of %s is a function in Lua, which may draw random numbers, and a replay of a captured step cannot take "
      .. "them back; monitor steps that are not captured", name)
  end
  local off <close> = autograd.guard(false)
  local call = { rows = spikes.shape[1], sites = spikes:numel() }
  look(wants, neuron, x, v0, call)
  local entry = add_call(self, neuron, call)
  if wants.dead then
    count_idle(self)
    self.unread = { entry, spikes }
  end
end

-- ---- layers: operations, and squares of the gradient of their output, summed over a time step ----

function Recorder:computed(layer, y, x)
  local wants = self.wants
  if not (self.on and self.names[layer] and autograd.is_grad_enabled()) then return end
  local call = {}
  if wants.synops then
    local off <close> = autograd.guard(false)
    local entry, done = add_call(self, layer, call), operations(layer, y, x)
    if done.input == "spikes" then
      call.operations, call.samples = done.count:view(1), done.samples
    else
      entry.products = (entry.products or 0) + done.count / done.samples
    end
  end
  if not (wants.deltas and y.requires_grad) then return end
  if not wants.synops then add_call(self, layer, call) end
  core.autograd.watch(y, function(given)
    local off <close> = autograd.guard(false)
    local g <close> = given
    local timed = g:dim() % 2 == 1 -- [T, N, ...], not [N, ...]
    local squares = g:float():square()
    call.squares = timed and squares:sum(behind_time(g)) or squares:sum():view(1)
    call.rows = call.squares.shape[1]
  end)
end

-- ---- the end of the step ----

-- A pass through the net may call a neuron many times (nn.SharedMembrane), and a step may have many passes: the calls of one pass have as many
-- sites as the neuron counts at its end.
local function rows_of_a_pass(entry)
  local rows, sites = 0, 0
  for _, call in ipairs(entry.calls) do
    rows, sites = rows + call.rows, sites + call.sites
    if sites == entry.module._sites then break end
  end
  return rows
end

-- All of one module: { name, tensors, T, pass, rows, sites, neurons, products, samples }. tensors: by quantity the rows of all calls,
-- one after the other; T: time steps; pass: rows of a pass; rows: of each call (0: no gradient came). Of neurons, sites: of a row of each call;
-- neurons: how many there are. Of a layer, products: of a sample, of the calls that were fed reals (nil: none was); samples: of each call that
-- was fed spikes.
local function together(entry)
  local calls, all, longest = entry.calls, { name = entry.name, rows = {}, sites = {}, samples = {}, tensors = {} }, 0
  for k, call in ipairs(calls) do
    call.spikes = call.spikes and call.spikes:sum(2)
    all.rows[k] = call.rows or 0
    all.sites[k] = call.sites and call.sites // call.rows
    table.insert(all.samples, call.samples)
    longest = math.max(longest, all.rows[k])
  end
  if calls[1].sites then
    all.T, all.pass = entry.module.counts.shape[1], rows_of_a_pass(entry)
  else
    all.T, all.pass, all.products = longest, longest, entry.products
  end
  if entry.idle then
    local dead, saturated
    dead, saturated, all.neurons = idle.count(entry.idle)
    calls[1].dead, calls[1].saturated = dead:view(1), saturated:view(1)
  end
  for _, key in ipairs(quantities) do
    local parts = {}
    for _, call in ipairs(calls) do parts[#parts + 1] = call[key] end
    if parts[1] then all.tensors[key] = core.ops.cat(parts, 1) end
  end
  return all
end

-- What was seen, in order of use.
local function gather(self)
  local off <close> = autograd.guard(false)
  count_idle(self)
  local found = {}
  for _, entry in ipairs(self.seen) do
    local all = together(entry)
    if next(all.tensors) or all.products then found[#found + 1] = all end
  end
  return found
end

function Recorder:result()
  return self.found or gather(self)
end

-- ---- captured steps: see moonspike.monitor ----

function Recorder:mode() return self.on and self.id or "" end

function Recorder:ending(kept)
  if not self.on or #self.seen == 0 then return nil end
  local found = gather(self)
  for i, entry in ipairs(found) do
    for _, key in ipairs(o.keys(entry.tensors)) do
      if kept then kept[i].tensors[key]:copy_(entry.tensors[key]) else core.capture.keep(entry.tensors[key]) end
    end
  end
  self:begin(true)
  self.found = kept or found
  return self.found
end

function Recorder:replayed(kept) self.found = kept end

return new
