-- ms.monitor: firing rates, idle neurons, membranes, surrogates, operations, gradients and weights of a network while it trains. It only looks
-- on: what it computes lies beside the step's tensors, random numbers are taken back, and nothing is read before the step has ended.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local columns = require "moonspike.columns"
local energy = require "moonspike.analysis.energy"
local running = require "moonspike.monitor"
local recorder = require "moonspike.analysis.recorder"
local Module = require "moonspike.nn.module"

-- ---- from what the recorder found to a row ----

-- The rows of all calls as { t, sites }. Those of one time step follow one another within a pass (a net that walks through time, groups of
-- channels), and passes repeat; passes of one row are a loop over time outside of the net.
local function rows_of(entry)
  local T, pass, list = entry.T, entry.pass, {}
  for call, rows in ipairs(entry.rows) do
    for _ = 1, rows do list[#list + 1] = { sites = entry.sites[call] } end
  end
  if T == 1 then T, pass = #list, #list end
  local together = pass % T == 0 and pass // T or pass
  for i, row in ipairs(list) do row.t = (i - 1) % pass // together + 1 end
  return list
end

-- Sums over all rows, and over those of each time step.
local function sums(rows, value)
  local all, each = 0, {}
  for i, row in ipairs(rows) do
    local v = value(i, row.sites)
    all, each[row.t] = all + v, (each[row.t] or 0) + v
  end
  return all, each
end

local function roots(all, each)
  for t, v in ipairs(each) do each[t] = math.sqrt(v) end
  return math.sqrt(all), each
end

local function put(row, name, key, all, each)
  row[key], row[key .. "_t"] = row[key] or {}, row[key .. "_t"] or {}
  row[key][name], row[key .. "_t"][name] = all, each
end

local function read_neurons(row, entry, lists)
  local rows = rows_of(entry)
  local sites, sites_t = sums(rows, function(_, n) return n end)
  local function mean(value) -- over sites, of what value(row, sites of the row) sums
    local all, each = sums(rows, value)
    for t, v in ipairs(each) do each[t] = v / sites_t[t] end
    return all / sites, each
  end
  if lists.spikes then put(row, entry.name, "rate", mean(function(i) return lists.spikes[i] end)) end
  if lists.reached then
    put(row, entry.name, "coverage", mean(function(i) return lists.reached[i] end))
    put(row, entry.name, "slope", mean(function(i, n) return lists.slope[i] * n end))
  end
  if lists.mean then
    local m, m_t = mean(function(i, n) return lists.mean[i] * n end)
    local square, square_t = mean(function(i, n) return (lists.variance[i] + lists.mean[i] ^ 2) * n end)
    for t, v in ipairs(m_t) do square_t[t] = math.max(0, square_t[t] - v ^ 2) end
    put(row, entry.name, "membrane", m, m_t)
    put(row, entry.name, "membrane_std", roots(math.max(0, square - m ^ 2), square_t))
  end
  if lists.dead then
    row.dead, row.saturated = row.dead or {}, row.saturated or {}
    row.dead[entry.name], row.saturated[entry.name] = lists.dead[1] / entry.neurons, lists.saturated[1] / entry.neurons
  end
end

-- A layer may be fed spikes at one place and reals at another, which cost differently.
local function read_operations(row, layers, entry, lists)
  local reached = lists.operations and 0
  for i, n in ipairs(lists.operations or {}) do reached = reached + n / entry.samples[i] end
  row.operations = row.operations or {}
  row.operations[entry.name] = (reached or 0) + (entry.products or 0)
  local function add(input, count) -- macs: no reading tells what a net without spikes would take
    if count then table.insert(layers, { name = entry.name, input = input, operations = count, macs = 0 }) end
  end
  add("spikes", reached)
  add("reals", entry.products)
end

-- What one neuron or layer adds to the row, and a layer to the list of those whose operations were counted.
local function read_entry(row, layers, entry)
  local lists = {}
  for _, key in ipairs(o.keys(entry.tensors)) do lists[key] = entry.tensors[key]:totable() end
  if entry.products or lists.operations then read_operations(row, layers, entry, lists) end
  if lists.squares then put(row, entry.name, "delta", roots(sums(rows_of(entry), function(i) return lists.squares[i] end))) end
  if entry.sites[1] then read_neurons(row, entry, lists) end
end

local function read_energy(row, layers)
  local report = energy(layers)
  row.synops, row.energy, row.energies = 0, report.spiking, {}
  for i, layer in ipairs(layers) do
    row.energies[layer.name] = (row.energies[layer.name] or 0) + report[i].spiking
    if layer.input == "spikes" then row.synops = row.synops + layer.operations end
  end
end

-- Euclidean norms of of(p) by the names of parameters, and that of all together; nil where no parameter has one.
local function norms(net, of)
  local list, total = {}, 0
  local off <close> = autograd.guard(false)
  for name, p in net:named_parameters() do
    local t = of(p)
    if t then
      list[name] = t:norm():item()
      total = total + list[name] ^ 2
    end
  end
  if next(list) then return list, math.sqrt(total) end
end

-- ---- the monitor ----

local Monitor = { __name = "monitor" }
Monitor.__index = Monitor

local of_neurons = { "dead", "firing", "membranes", "surrogate" }
local kinds = { "dead", "deltas", "firing", "gradients", "membranes", "surrogate", "synops", "weights" }

local function begin(self) -- the step that comes
  self._on = self.steps % self.every == 0
  self._recorder:begin(self._on and self._records)
end

local function reading(self)
  local wants, row = self._wants, { step = self.steps + 1 }
  local layers = {}
  for _, entry in ipairs(self._recorder:result()) do read_entry(row, layers, entry) end
  if layers[1] then read_energy(row, layers) end
  if self._neurons and not (row.rate or row.dead or row.coverage or row.membrane) then
    o.fail "monitor: step: expected that neurons of the net have run and were recorded since the last step, none was"
  end
  if wants.deltas and not row.delta then
    o.fail "monitor: step: deltas: expected a backward() through the net since the last step, there was none"
  end
  if wants.synops and not row.operations then
    o.fail "monitor: step: synops: expected that a Conv2d or Linear of the net has run and was recorded since the last step, none was"
  end
  if wants.gradients then
    row.gradients, row.gradient = norms(self._net, function(p) return p.grad end)
    if not row.gradients then
      o.fail "monitor: step: gradients: expected parameters with a gradient, none has one; call step() between backward() and zero_grad()"
    end
  end
  if wants.weights then row.weights, row.weight = norms(self._net, function(p) return p:detach() end) end
  return row
end

function Monitor:step(fields)
  if self._on == nil then o.fail "monitor: step: the monitor is closed" end
  if core.capture.inside() then o.fail "monitor: step: expected a call behind the captured step, got one inside of it" end
  local row = self._on and reading(self) or nil
  for _, key in ipairs(row and fields and o.keys(fields) or {}) do row[key] = fields[key] end
  if row and self._log then self._log(row) elseif row then table.insert(self._rows, row) end
  self.steps, self._last = self.steps + 1, row or self._last
  begin(self)
  return row
end

function Monitor:rows() return table.move(self._rows, 1, #self._rows, 1, {}) end

function Monitor:close()
  running.leave(self._recorder)
  self._on = nil
end

Monitor.__close = Monitor.close

function Monitor:__tostring()
  local row = self._last
  if not row then return ("monitor, every %d steps: no reading yet"):format(self.every) end
  local head = ("step %d"):format(row.step)
  for _, key in ipairs { "gradient", "weight" } do
    if row[key] then head = head .. ("  %s norm %.4g"):format(key, row[key]) end
  end
  if row.synops then head = head .. ("  %.4g synaptic operations, %.4g uJ"):format(row.synops, row.energy) end
  local keys, lines = {}, {}
  for _, key in ipairs { "rate", "coverage", "slope", "membrane", "membrane_std", "dead", "saturated", "delta", "operations" } do
    keys[#keys + 1] = row[key] and key or nil
  end
  for name in self._net:named_modules() do
    name = name ~= "" and name or self._net:class()
    local line, any = { name }, false
    for i, key in ipairs(keys) do
      local v = row[key][name]
      line[i + 1], any = v and ("%.4g"):format(v) or "", any or v
    end
    if any then lines[#lines + 1] = line end
  end
  if #lines > 0 then table.insert(lines, 1, { "layer", table.unpack(keys) }) end
  return head .. (#lines > 0 and "\n" .. columns(lines) or "")
end

local known = {}
for _, name in ipairs(kinds) do known[name] = true end

local spec = {
  steps = o.integer(0, { from = 0 }), every = o.integer(1, { from = 1 }),
  what = o.where({ "firing", "gradients", "weights" }, "a list of some of " .. table.concat(kinds, ", "), function(v)
    return type(v) == "table" and #v > 0 and not getmetatable(v)
  end),
  log = o.where(nil, "a log of ms.log", function(v)
    local mt = type(v) == "table" and getmetatable(v)
    return mt and mt.__name == "log"
  end),
}

local made = 0

local function monitor(net, opts)
  if not Module._is_module(net) then o.fail("monitor: net: expected a module, got %s", o.show(net)) end
  local opt = o.read("monitor", opts, spec)
  local wants, names = {}, {}
  for _, key in ipairs(o.keys(opt.what)) do
    local name = opt.what[key]
    if not (math.type(key) and known[name]) then
      o.fail("monitor: what: expected a list of some of %s, got %s", table.concat(kinds, ", "), math.type(key) and o.show(name) or ("the key '%s'"):format(key))
    end
    wants[name] = true
  end
  for name, module in net:named_modules() do names[module] = name ~= "" and name or net:class() end
  local neurons = false
  for _, name in ipairs(of_neurons) do neurons = neurons or wants[name] or false end
  made = made + 1
  local self = setmetatable({
    every = opt.every, steps = opt.steps, _net = net, _log = opt.log, _rows = {}, _wants = wants, _neurons = neurons,
    _records = neurons or wants.deltas or wants.synops or false,
    _recorder = recorder(("monitor %d"):format(made), names, wants),
  }, Monitor)
  begin(self)
  running.observe(self._recorder)
  return self
end

doc.set(Monitor.step, [[
    mon:step([fields]) -> row or nil

    Ends a training step: behind the optimizer's step and before the network runs again. Gives the reading of a step that was monitored, which is
    also in the log or in mon:rows(); fields, such as { epoch = 3 }, stand in it too.]])
doc.set(Monitor.rows, "mon:rows() -> list\n\n    The readings so far; none where a log takes them.")
doc.set(Monitor.close, "mon:close()\n\n    Looks no longer. Its rows stay.")

return doc.set(monitor, [==[
    ms.monitor(net[, { every = 1, what = { "firing", "gradients", "weights" }, log = nil, steps = 0 }]) -> mon

      local mon <close> = ms.monitor(net, { every = 50, what = { "firing", "surrogate", "deltas" }, log = ms.log "monitor.jsonl" })
      for x, y in train do
        opt:zero_grad()
        criterion(net(x), y):backward()
        opt:step()
        mon:step()
      end

    Records a network while it trains, in the steps 1, 1 + every, 1 + 2 every ...; the training ends with the same bits as without. A reading is
    a row for a log: { step = 51, rate = { ["2"] = 0.13, ... }, rate_t = { ["2"] = { 0.1, 0.16 }, ... }, ... }, by names of modules and
    parameters; _t holds the same for each time step, from 1. what:
      firing     rate: spikes of a neuron at a time step, by layer
      dead       dead and saturated: the shares of a layer's neurons that never fired in the step's samples, and that fired at every time step
                 of all of them (ms.analysis.dead_neurons has both over a data set)
      surrogate  coverage: the share of neurons and steps where the surrogate's derivative is not zero (all, where it has tails); slope: its mean
      membranes  membrane and membrane_std: mean and standard deviation before the reset
      synops     operations: of each Conv2d and Linear for one sample over all time steps, as ms.evaluate counts them; synops: their sum over
                 layers fed spikes; energies, energy: of each layer and of all, in microjoules (help(ms.analysis.energy) has the model)
      deltas     delta: norm of the loss's gradient by the output of each Conv2d and Linear (one value of a still image that is computed once)
      gradients  gradients: norm of each parameter's gradient as the optimizer saw it, gradient: of all together
      weights    weights: norm of each parameter, weight: of all together
    Passes without recording (ms.evaluate, ms.no_grad) are not looked at; several passes of a step are taken together (operations of one
    sample add up). firing costs next to nothing, gradients and weights a pass over them, deltas one over the activations, dead and synops one over
    the spikes; surrogate and membranes compute membranes once more.
    With a log each row is written there, else mon:rows() lists them. steps: how many there were before, of a training that goes on.
    mon:close(), or the end of a block as above, ends it.
    In ms.capture'd steps it works too, with mon:step() behind them: the monitored ones have a recording of their own. Only the surrogate of neurons
    that have a function in Lua for it cannot be looked at there.]==])
