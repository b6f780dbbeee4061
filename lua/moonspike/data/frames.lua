-- From events to frames, augmentation of events, and events from still images.

local core = require "moonspike.core"
local doc = require "moonspike.doc"

local frames = {}

for _, name in ipairs { "integrate", "read_frames", "frame_presets", "augment_events", "synthesize", "make_events" } do
  frames[name] = core.data[name]
end

function frames.event_drop(events, opts)
  local opt = {}
  for key, value in pairs(opts or {}) do opt[key] = value end
  opt.drop = opt.drop or "any"
  return core.data.augment_events(events, opt)
end

doc.set(frames.event_drop, [[
    data.event_drop(events, { drop = "any", released = false, seed = nil, sample = 0 }) -> events

    EventDrop (Gu, Sng, Hu, Yu 2021): drops an interval of time, an area or a share of the events, or nothing, one of the four at random.
    released: as the authors' code. The same seed (the default follows ms.manual_seed) and sample give the same result.]])

return frames
