-- ms.analysis: the analyses of TRT's paper, and what else networks do beside being right.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local fisher = require "moonspike.analysis.fisher"
local landscape = require "moonspike.analysis.landscape"
local firing = require "moonspike.analysis.firing"

local analysis = {
  fisher = fisher.fisher, centroid = fisher.centroid, landscape = landscape.landscape, read_landscape = landscape.read,
  firing_rates = firing.firing_rates, dead_neurons = firing.dead_neurons, activity = require("moonspike.analysis.activity").activity,
  energy = require "moonspike.analysis.energy",
}

return o.named(doc.set(analysis, [[
    ms.analysis: the analyses of TRT's paper, and what else networks do beside being right

      fisher, centroid            information over time (Figure 4)
      landscape, read_landscape   loss around the weights, and how sharp it is (Figure 2)
      firing_rates                spikes by layer and time step, several checkpoints side by side (Figures 5, S3, S4)
      dead_neurons                neurons that never fire, and those that always do
      activity                    spikes and membranes of a batch
      energy                      of what ms.evaluate counted, and of the same network without spikes]]), "analysis")
