-- moonspike.data: sets of labelled images and recordings, and what reads and shapes them.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

require "moonspike.data.parts"
require "moonspike.data.describe"

local data = { read_idx = core.data.read_idx, crc32 = core.data.crc32, order = core.data.order }

for _, part in ipairs { "still", "own", "folders", "recordings", "events", "arrays", "images", "frames", "mix" } do
  for name, value in pairs(require("moonspike.data." .. part)) do data[name] = value end
end

data.augment = require "moonspike.data.augment".augment
data.splits = require "moonspike.data.splits"

doc.set(data, "ms.data: " .. table.concat(o.keys(data), " "))

return o.named(data, "data")
