-- Recordings of event cameras: files in, tensors out, and back.

local core = require "moonspike.core"

local events = {}

for _, name in ipairs { "read_events", "write_events", "read_gesture_labels", "read_gesture_trials" } do
  events[name] = core.data[name]
end

return events
