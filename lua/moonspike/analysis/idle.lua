-- Neurons that never fire (dead) or fire at every step (saturated), of a layer whose spikes come batch by batch. A neuron is one element of
-- the spikes [T, N, ...] at one time step of one sample.

local o = require "moonspike.options"

local idle = {}

-- Adds spikes to tally, a table that holds what came before: fired [...], steps.
function idle.add(tally, where, name, spikes)
  local fired = spikes:ne(0):sum { 1, 2 }
  if tally.fired and o.shape(tally.fired) ~= o.shape(fired) then
    o.fail("%s: %s runs on %s and on %s: expected neurons of one size; give each place a neuron of its own", where, name,
      o.shape(tally.fired), o.shape(fired))
  end
  tally.fired = tally.fired and tally.fired + fired or fired
  tally.steps = (tally.steps or 0) + spikes.shape[1] * spikes.shape[2]
end

-- Numbers of dead and of saturated neurons, tensors [] that are not read, and of all.
function idle.count(tally)
  return tally.fired:eq(0):sum(), tally.fired:eq(tally.steps):sum(), tally.fired:numel()
end

return idle
