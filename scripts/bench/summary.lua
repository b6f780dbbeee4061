-- What step.lua answered, for people. usage: ... step.lua ... | moonspike summary.lua NAME ...   (of the runs that it was asked for)
local ms = require "moonspike"

local about = assert(io.read "l", "no answer")
local first = ms.json.decode(about)
if first.unavailable then
  print("not available: " .. first.unavailable)
  os.exit(true)
end
print(("%d parameters, loss %s"):format(first.parameters, table.concat(first.losses, " ")))
for _, name in ipairs(arg) do
  local answer = ms.json.decode(assert(io.read "l", name .. ": no answer"))
  local t = answer.times
  table.sort(t)
  print(("%-9s %d runs: median %.3f ms, %.3f to %.3f; peak memory %.0f MiB"):format(name, #t, 1e3 * t[#t // 2 + 1], 1e3 * t[1], 1e3 * t[#t],
    answer.device_peak / 2 ^ 20))
end
