-- ms.analysis: the analyses of TRT's paper.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local fisher = require "moonspike.analysis.fisher"
local landscape = require "moonspike.analysis.landscape"

local analysis = {
  fisher = fisher.fisher, centroid = fisher.centroid, landscape = landscape.landscape, read_landscape = landscape.read,
}

return o.named(doc.set(analysis, "ms.analysis: fisher, centroid (information over time), landscape, read_landscape (loss around the weights)."), "analysis")
