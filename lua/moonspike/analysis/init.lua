-- ms.analysis: what networks do beside being right.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local firing = require "moonspike.analysis.firing"

local analysis = {}

analysis.firing_rates = firing.firing_rates
analysis.dead_neurons = firing.dead_neurons
analysis.activity = require("moonspike.analysis.activity").activity
analysis.energy = require "moonspike.analysis.energy"

return doc.set(o.named(analysis, "analysis"), [[
    ms.analysis: what networks do beside being right

      firing_rates   spikes by layer and time step, several checkpoints side by side
      dead_neurons   neurons that never fire, and those that always do
      activity       spikes and membranes of a batch
      energy         of what ms.evaluate counted, and of the same network without spikes]])
