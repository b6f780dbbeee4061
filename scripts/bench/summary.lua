-- What step.lua answered, for people. usage: ... step.lua ... | moonspike summary.lua NAME ...   (of the runs that it was asked for)
-- MOST is the milliseconds that the fastest of them may take.
local ms = require "moonspike"

local about = assert(io.read "l", "no answer")
local first = ms.json.decode(about)
if first.unavailable then
  print("not available: " .. first.unavailable)
  os.exit(true)
end
print(("%d parameters, loss %s"):format(first.parameters, table.concat(first.losses, " ")))
local fastest
for _, name in ipairs(arg) do
  local answer = ms.json.decode(assert(io.read "l", name .. ": no answer"))
  local t = answer.times
  table.sort(t)
  print(("%-9s %d runs: median %.3f ms, %.3f to %.3f; peak memory %.0f MiB"):format(name, #t, 1e3 * t[#t // 2 + 1], 1e3 * t[1], 1e3 * t[#t],
    answer.device_peak / 2 ^ 20))
  fastest = math.min(fastest or math.huge, 1e3 * t[#t // 2 + 1])
end
local most = tonumber(os.getenv "MOST")
if most then print(("asked: at most %g ms, %s"):format(most, fastest <= most and "reached" or "MISSED")) end
