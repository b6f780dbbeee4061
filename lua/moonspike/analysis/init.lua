-- ms.analysis: the analyses of TRT's paper.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local fisher = require "moonspike.analysis.fisher"

local analysis = { fisher = fisher.fisher, centroid = fisher.centroid }

return o.named(doc.set(analysis, "ms.analysis: fisher, centroid (information over time)."), "analysis")
