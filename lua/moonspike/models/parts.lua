-- What the published networks are put together from: chains of named parts, residual blocks, and a base class that checks its input and,
-- where the published code does, walks through time itself. A part's name may hold dots: it is the name in the published checkpoint.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Module = require "moonspike.nn.module"
local sharing = require "moonspike.nn.sharing"
local geometry = require "moonspike.models.geometry"

local parts = {}

-- ---- one step at a time ----

-- What neurons hand on while a network walks through time: membranes by neuron, so a neuron that stands in several places shares its own.
-- groups > 1: the channels go through a neuron in that many groups, one after the other.
local function fresh_state(groups) return { groups = groups, t = 0, membranes = {}, counts = {}, sites = {} } end

-- Spikes of one time step, counted over all calls of the neuron in it.
local function tally(neuron, state)
  local counts = rawget(neuron, "counts")
  if not counts then return end
  local rows, sum = state.counts[neuron] or {}, counts:sum(1):unsqueeze(1)
  rows[state.t] = rows[state.t] and rows[state.t] + sum or sum
  state.counts[neuron] = rows
  state.sites[neuron] = (state.sites[neuron] or 0) + neuron._sites
end

local function fire(neuron, x, state)
  if not state then return (neuron(x)) end
  local s, v
  if state.groups > 1 then
    s, v = sharing.SharedChannels.pass(neuron, state.groups, x, state.membranes[neuron])
  else
    s, v = neuron(x, state.membranes[neuron])
  end
  state.membranes[neuron] = v
  tally(neuron, state)
  return s
end

-- ---- chains and blocks ----

-- A part: { name, module }, { name, module, neuron = true }, or { name, module, neuron = true, shared = true } for a neuron that belongs
-- to somebody else. They are looked up by name when they run, so that a user may replace one: net["fc"] = nn.Linear(512, 7).
local function add(self, list, part)
  local name, module = part[1], part[2]
  if not part.shared then self[name] = module end
  list[#list + 1] = { name = name, neuron = part.neuron, shared = part.shared and module or nil }
end

local function run(self, list, x, state)
  for _, part in ipairs(list) do
    local module = part.shared or rawget(self, part.name)
    if part.neuron then
      x = fire(module, x, state)
    elseif module.walks then
      x = module(x, state)
    else
      x = (module(x))
    end
  end
  return x
end

local function measure(self, list, name, size, visit)
  for _, part in ipairs(list) do
    if not part.neuron then
      local why
      size, why = geometry.walk(rawget(self, part.name), name == "" and part.name or name .. "." .. part.name, size, visit)
      if not size then return nil, why end
    end
  end
  return size
end

local Chain = Module "Chain"
parts.Chain = Chain
Chain.walks = true

function Chain:init(list)
  rawset(self, "_run", {})
  for _, part in ipairs(list or {}) do add(self, self._run, part) end
end

function Chain:append(...)
  for _, part in ipairs { ... } do add(self, self._run, part) end
  return self
end

function Chain:forward(x, state) return run(self, self._run, x, state) end
function Chain:_measure(name, size, visit) return measure(self, self._run, name, size, visit) end

local joins = {
  ADD = function(y, x) return y + x end,
  AND = function(y, x) return y * x end,
  IAND = function(y, x) return x * (1 - y) end,
}

local Block = Module "Block"
parts.Block = Block
Block.walks = true

-- { main = parts, shortcut = parts or nil, join = "ADD", neuron = part or nil }
function Block:init(spec)
  rawset(self, "_main", {})
  rawset(self, "_shortcut", {})
  rawset(self, "_last", {})
  self.join = spec.join
  for _, part in ipairs(spec.main) do add(self, self._main, part) end
  for _, part in ipairs(spec.shortcut or {}) do add(self, self._shortcut, part) end
  if spec.neuron then add(self, self._last, spec.neuron) end
end

function Block:forward(x, state)
  local y = run(self, self._main, x, state)
  return run(self, self._last, joins[self.join](y, run(self, self._shortcut, x, state)), state)
end

function Block:_measure(name, size, visit)
  local out, why = measure(self, self._main, name, size, visit)
  if not out then return nil, why end
  local also, reason = measure(self, self._shortcut, name, size, visit)
  if not also then return nil, reason end
  if table.concat(out, "x") ~= table.concat(also, "x") then
    return nil, ("%s (Block): its branches give %s and %s"):format(name, table.concat(out, "x"), table.concat(also, "x"))
  end
  return out
end

function Block:extra() return self.join end

-- ---- networks ----

local Net = Module("Net", Chain)
parts.Net = Net

-- Called when all parts are there. opt: the options that maker.read read; walk: { steps, groups } where the network walks through time
-- itself, once: the number of parts in front that see a still image once.
function parts.finish(self, opt, walk)
  self.classes, self.T = opt.classes, opt.T
  self.input = { opt.channels, opt.size[1], opt.size[2] }
  self.once, self.steps, self.groups = walk.once or 0, walk.steps or false, walk.groups or 1
  rawset(self, "_fits", {})
  local out, why = self:_measure("", self.input)
  if not out then o.fail("%s: size: %s, from images of %s", self:class(), why, o.shape(self.input)) end
end

local function check(self, x)
  local size = o.is_tensor(x) and x.shape
  if not size or #size ~= 5 then
    o.fail("%s: x: expected [T, N, %d, H, W], got %s", self:class(), self.input[1], o.show(x))
  end
  local c, h, w = size[3], size[4], size[5]
  local key = c * 0x100000000 + h * 0x10000 + w
  if self._fits[key] then return size end
  local out, why = self:_measure("", { c, h, w })
  if not out then o.fail("%s: x: %s, from %s; made for images of %s", self:class(), why, o.shape(x), o.shape(self.input)) end
  self._fits[key] = true
  return size
end

function Net:forward(x)
  local size = check(self, x)
  if self.once == 0 and not self.steps then return run(self, self._run, x) end
  local T, still = size[1], x:is_expanded(1)
  if still then x = x:narrow(1, 1, 1) end
  local head = table.move(self._run, 1, self.once, 1, {})
  local rest = table.move(self._run, self.once + 1, #self._run, 1, {})
  x = run(self, head, x)
  if not self.steps then
    if still then
      local s = x.shape
      s[1] = T
      x = x:expand(s)
    end
    return run(self, rest, x)
  end
  local state, outputs = fresh_state(self.groups), {}
  for t = 1, T do
    state.t = t
    outputs[t] = run(self, rest, still and x or x:narrow(1, t, 1), state)
  end
  for neuron, rows in next, state.counts do
    rawset(neuron, "counts", core.ops.cat(rows, 1))
    rawset(neuron, "_sites", state.sites[neuron])
  end
  return core.ops.cat(outputs, 1)
end

-- Multiply-accumulates of a forward pass of one sample over T steps, by layer: a list of { name, macs }. What sees a still image once
-- counts once.
function Net:macs(T)
  local list, stem = {}, {}
  for i = 1, self.once do stem[self._run[i].name] = true end
  self:_measure("", self.input, function(name, n) list[#list + 1] = { name, stem[name] and n or n * (T or self.T) } end)
  return list
end

doc.set(Chain.append, "net:append({ name, module }, ...) -> net\n\nAdds parts at the end. A neuron is { name, module, neuron = true }.")
doc.set(Net.macs, "net:macs([T]) -> list of { name, n }\n\nMultiply-accumulates of one sample over T steps, layer by layer.")

return parts
