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

-- Spikes and neurons times steps of all neurons that fired in this step.
function monitor.firing()
  local spikes, sites = 0, 0
  for neuron in next, neurons do
    if neuron._stamp == monitor.stamp and neuron.counts then
      spikes = spikes + neuron.counts:sum():item()
      sites = sites + neuron._sites
    end
  end
  return spikes, sites
end

return monitor
