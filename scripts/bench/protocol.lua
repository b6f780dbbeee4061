-- A worker of the benchmark: prints one JSON line about itself, then answers "run NAME N" with the seconds of N runs, until "quit".
local ms = require "moonspike"
local protocol = {}

local function say(value)
  io.stdout:write(ms.json.encode(value), "\n")
  io.stdout:flush()
end

protocol.say = say

-- Peak resident memory of this process in KiB, since its start or since the last reset.
function protocol.peak()
  for line in io.lines "/proc/self/status" do
    local kib = line:match "^VmHWM:%s*(%d+)"
    if kib then return tonumber(kib) end
  end
end

function protocol.reset_peak()
  local file = io.open("/proc/self/clear_refs", "w")
  if file then
    file:write "5"
    file:close()
  end
end

-- about: what to say first. benches: name -> function that does one run, or { before =, run = } where before is not timed.
function protocol.serve(about, benches)
  about.rss = protocol.peak()
  protocol.reset_peak()
  say(about)
  for line in io.lines() do
    local name, n = line:match "^run (%S+) (%d+)$"
    if not name then break end
    local bench, times = benches[name], {}
    local run, before = bench, nil
    if type(bench) == "table" then run, before = bench.run, bench.before end
    for i = 1, tonumber(n) do
      if before then before() end
      local start = ms.system.clock()
      run()
      ms.synchronize()
      times[i] = ms.system.clock() - start
    end
    say { times = times, rss_step = protocol.peak(), device_peak = ms.memory().peak }
  end
end

return protocol
