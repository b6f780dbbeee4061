-- What a progress bar and ms.evaluate can see of a running step without the user's help. Criteria and neurons leave references
-- here; nothing is read (and no device waits) until somebody asks.

local monitor = { stamp = 0 }

local neurons = setmetatable({}, { __mode = "k" })

-- monitor.trace: nil, or a function(module, x, synops, options) that Conv2d and Linear call (ms.evaluate counts operations).

-- A new step begins: only neurons that fire from now on count.
function monitor.begin()
  monitor.stamp = monitor.stamp + 1
  monitor.loss, monitor.correct, monitor.samples = nil, nil, nil
end

-- A criterion reports its value (a tensor without graph), its number of correct samples [1] and the batch size.
function monitor.report(loss, correct, samples)
  monitor.loss, monitor.correct, monitor.samples = loss, correct, samples
end

function monitor.fired(neuron)
  neuron._stamp = monitor.stamp
  neurons[neuron] = true
end

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
