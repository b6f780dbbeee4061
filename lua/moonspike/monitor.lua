-- What a progress bar, ms.evaluate and ms.analysis can see of a running step without the user's help. Criteria and neurons leave
-- references here; nothing is read (and no device waits) until somebody asks.

local core = require "moonspike.core"

local monitor = { stamp = 0 }

local neurons = setmetatable({}, { __mode = "k" })
local observers = {}

-- A new step begins: only neurons that fire from now on count.
function monitor.begin()
  monitor.stamp = monitor.stamp + 1
  monitor.loss, monitor.correct, monitor.samples = nil, nil, nil
end

-- A criterion reports its value (a tensor without graph), its number of correct samples [1] and the batch size.
function monitor.report(loss, correct, samples)
  monitor.loss, monitor.correct, monitor.samples = loss, correct, samples
end

-- ---- observers: what neurons and layers tell, for who has the method ----

local function tell(event, ...)
  for _, observer in ipairs(observers) do
    if observer[event] then observer[event](observer, ...) end
  end
end

function monitor.observe(observer) table.insert(observers, observer) end

function monitor.leave(observer)
  for i, other in ipairs(observers) do
    if other == observer then table.remove(observers, i) end
  end
end

-- local observed <close> = monitor.observing(observer): it is told until the end of the block.
function monitor.observing(observer)
  monitor.observe(observer)
  return setmetatable({}, { __close = function() monitor.leave(observer) end })
end

-- local alone <close> = monitor.unobserved(): who observes now is told nothing until the end of the block.
function monitor.unobserved()
  local was = observers
  observers = {}
  return setmetatable({}, { __close = function() observers = was end })
end

-- A neuron was called with x [T, ...] from the membrane v0 (nil: its own) and gave spikes.
function monitor.fired(neuron, spikes, x, v0)
  neuron._stamp = monitor.stamp
  neurons[neuron] = true
  tell("fired", neuron, spikes, x, v0)
end

-- A Conv2d or Linear gave y for x.
function monitor.computed(module, y, x)
  tell("computed", module, y, x)
  return y
end

-- Captured steps, in which Lua runs once, while they are recorded: what they do for observers, as a text. Steps that do the same can be
-- replayed for each other.
function monitor.mode()
  local text = {}
  for _, observer in ipairs(observers) do
    if observer.mode then text[#text + 1] = observer:mode() end
  end
  return table.concat(text, " ")
end

-- What the criterion of a captured step reported, in tensors that outlive it.
local function reported(kept)
  if not monitor.loss then return nil end
  if not kept then
    local report = { monitor.loss:clone(), monitor.correct:clone(), monitor.samples }
    for i = 1, 2 do core.capture.keep(report[i]) end
    return report
  end
  local report = kept.report
  if report then
    report[1]:copy_(monitor.loss)
    report[2]:copy_(monitor.correct)
  end
  return report
end

-- A captured step ends: observer:ending(kept) keeps what it found in tensors that outlive the step, and returns it; kept: what it returned in
-- the run before of the same step, whose tensors are to be written again. So is what the criterion reported.
function monitor.ending(kept)
  local found = { report = reported(kept), of = {} }
  for _, observer in ipairs(observers) do
    if observer.ending then found.of[observer] = observer:ending(kept and kept.of[observer]) end
  end
  return found
end

-- The step has run or was replayed, which wrote what `kept` holds.
function monitor.ended(kept)
  monitor.report(table.unpack(kept.report or {}))
  for observer, found in next, kept.of do observer:replayed(found) end
end

-- ---- firing rates ----

-- The spikes of all neurons that fired in this step as a tensor [] (nil: none did), and neurons times steps.
function monitor.fired_sum()
  local sum, sites = nil, 0
  for neuron in next, neurons do
    if neuron._stamp == monitor.stamp and neuron.counts then
      local spikes = neuron.counts:sum()
      sum, sites = sum and sum + spikes or spikes, sites + neuron._sites
    end
  end
  return sum, sites
end

function monitor.firing()
  local sum, sites = monitor.fired_sum()
  return sum and sum:item() or 0, sites
end

return monitor
