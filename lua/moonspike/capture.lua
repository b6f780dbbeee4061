-- ms.capture: a step is run once, recorded once, and replayed after that, for each new kind of arguments. On devices whose backend
-- has no graphs it always runs, under the same rules.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local monitor = require "moonspike.monitor"

local raw = core.capture
local capture = {}
local MOST = 16 -- recordings of one step; the one unused for longest makes room

local running -- what the step that runs now noted: modules, optimizers

-- Modules and optimizers of the core say that they take part, since a replay does not call them.
function capture.module(module)
  if running then running.modules[module] = module.training end
end

function capture.optimizer(optimizer)
  if not running or running.seen[optimizer] then return end
  running.seen[optimizer] = true
  table.insert(running.optimizers, optimizer)
end

capture.keep = raw.keep

local function fail(i, v)
  o.fail("capture: argument %d: expected a tensor, number, string, boolean or nil, got %s", i, o.show(v))
end

-- Tensors among the arguments, and a text that is the same for calls that one recording can serve.
local function read(arguments)
  local tensors, text = {}, { raw.mode(), monitor.mode() }
  for i = 1, arguments.n do
    local v = arguments[i]
    local kind = math.type(v) or type(v)
    if o.is_tensor(v) then
      tensors[#tensors + 1] = v
      text[#text + 1] = raw.describe(v)
    elseif kind == "float" then
      text[#text + 1] = ("%a"):format(v)
    elseif kind == "integer" or kind == "boolean" or kind == "nil" then
      text[#text + 1] = kind .. tostring(v)
    elseif kind == "string" then
      text[#text + 1] = ("%q"):format(v)
    else
      fail(i, v)
    end
  end
  return tensors, table.concat(text, "\n")
end

-- The arguments (or results) with other tensors in place of theirs.
local function replaced(list, tensors)
  local out, k = { n = list.n }, 0
  for i = 1, list.n do
    if o.is_tensor(list[i]) then
      k = k + 1
      out[i] = tensors[k]
    else
      out[i] = list[i]
    end
  end
  return out
end

local function modes_hold(entry)
  for module, training in next, entry.modules do
    if module.training ~= training then return false end
  end
  return true
end

local function push_settings(entry)
  for _, optimizer in ipairs(entry.optimizers) do optimizer:push() end
end

local function tensors_of(results)
  local list = {}
  for i = 1, results.n do
    local v = results[i]
    local kind = type(v)
    if o.is_tensor(v) then
      list[#list + 1] = v
    elseif kind ~= "number" and kind ~= "string" and kind ~= "boolean" and kind ~= "nil" then
      o.fail("capture: result %d: expected a tensor, number, string, boolean or nil, got %s", i, o.show(v))
    end
  end
  return list
end

-- One run of the step itself; `record` it where that is possible.
local function run(entry, step, arguments, inputs, record)
  local given = replaced(arguments, inputs)
  if record then push_settings(entry) end
  entry.modules, entry.optimizers, entry.seen = setmetatable({}, { __mode = "k" }), {}, {}
  local recording = entry.recording
  recording:begin(record)
  running = entry
  monitor.begin() -- what an earlier step left there is not of this one
  local results, made
  local ok, why = pcall(function()
    results = table.pack(step(table.unpack(given, 1, given.n)))
    made = tensors_of(results)
    entry.kept = monitor.ending(entry.kept)
  end)
  running, entry.seen = nil, nil
  if ok then
    ok, why = pcall(recording.finish, recording, made)
  else
    recording:abandon()
  end
  monitor.begin() -- what neurons and criteria left there has ended with the step
  if not ok then
    entry.runs = 0
    error(why, 0)
  end
  entry.runs, entry.results = entry.runs + 1, { n = results.n }
  for i = 1, results.n do entry.results[i] = o.is_tensor(results[i]) and raw or results[i] end -- raw: the place of a tensor
  return why
end

local Captured = { __name = "captured step" }

-- The entry that serves this call: of those whose modules had the modes that they have now one that can be replayed, else one without a graph
-- of use; else a new one.
local function choose(self, text, tensors)
  local free
  for _, entry in ipairs(self.entries) do
    if entry.text == text then
      local ready, usable = entry.recording:ready()
      local holds = modes_hold(entry)
      if ready and holds then return entry, true end
      if holds and not usable then free = free or entry end
    end
  end
  if free then return free, false end
  if #self.entries == MOST then
    local oldest = 1
    for i, entry in ipairs(self.entries) do
      if entry.used < self.entries[oldest].used then oldest = i end
    end
    local entry = table.remove(self.entries, oldest)
    if self.last == entry then self.last = nil end
    entry.recording:close()
  end
  local entry = { text = text, recording = raw.new(tensors), runs = 0, used = 0, modules = {}, optimizers = {} }
  table.insert(self.entries, entry)
  return entry, false
end

local function call(self, ...)
  local arguments = table.pack(...)
  local tensors, text = read(arguments)
  local entry, ready = choose(self, text, tensors)
  self.clock = self.clock + 1
  entry.used = self.clock
  if ready then push_settings(entry) end
  local inputs = entry.recording:inputs(tensors)
  if self.last and self.last ~= entry then self.last.recording:expire() end
  self.last = entry
  local made
  if ready then
    made = entry.recording:replay()
  else
    made = run(entry, self.step, arguments, inputs, entry.runs > 0)
  end
  monitor.ended(entry.kept)
  local out, k = {}, 0
  for i = 1, entry.results.n do
    out[i] = entry.results[i]
    if out[i] == raw then
      k = k + 1
      out[i] = made[k]
    end
  end
  return table.unpack(out, 1, entry.results.n)
end

function capture.capture(step)
  if type(step) ~= "function" then o.fail("capture: step: expected a function, got %s", o.show(step)) end
  local self = { step = step, entries = {}, clock = 0 }
  return function(...) return call(self, ...) end
end

doc.set(capture.capture, [[
    ms.capture(step) -> function

    A function of the same arguments and results that runs step once for each new kind of arguments (shapes, types, other values),
    records the second call as one graph of the device, and replays it from then on: n calls train exactly like n calls of step, and a
    replay costs one launch. On the CPU it runs step each time, under the same rules.

      local train = ms.capture(function(x, y)
        opt:zero_grad()
        local l = criterion(net(x), y)
        l:backward()
        opt:step()
        return l
      end)
      for x, y in set do sum:add_(train(x, y)) end

    Arguments and results: tensors, numbers, strings, booleans, nil. Inputs are copied into buffers of the recording. Results carry no
    graph and live until the next call, then reading them is an error: clone() what you keep, or add it to a tensor of your own. All
    else that the step makes ends with it. Weights, running statistics, learning rates (also of schedules), step counts and random
    numbers go on as if the step had run; modules may change between train() and eval(). What Lua decides inside of the step (an if, a
    counter, math.random) is decided when it is recorded. Inside of it item(), totable(), printing values, making tensors of Lua numbers
    and moving tensors between devices are errors that name the function.]])

return capture
