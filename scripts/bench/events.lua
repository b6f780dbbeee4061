-- Our side of events.py: moonspike scripts/bench/events.lua make FILE EVENTS | serve FILE FRAMES
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local ms = require "moonspike"
local protocol = require "protocol"
local task, path, more = table.unpack(arg)

-- A texture, whose recording has about as many events as are wanted.
local function make(wanted)
  local rows = {}
  for y = 1, 32 do
    rows[y] = {}
    for x = 1, 32 do rows[y][x] = math.floor(127.5 + 127.5 * math.sin(x * x / 40 + y / 2) * math.cos(y * y / 50 - x / 3)) end
  end
  local image, low, high = ms.tensor(rows, { dtype = "uint8" }), 1024, 1 << 18
  while high - low > 64 do
    local threshold = (low + high) // 2
    local n = ms.data.synthesize(image, { profile = "rcls", threshold = threshold }).t.shape[1]
    if n > wanted then low = threshold else high = threshold end
  end
  local events = ms.data.synthesize(image, { profile = "rcls", threshold = high })
  assert(ms.data.write_events(path, events, { format = "aedat2" }))
end

-- name -> options; the others say what the frames are in SpikingJelly's words
local cases = {
  number = { preset = "sj-number" }, time = { preset = "sj-time" }, uint8 = { preset = "sj-number", dtype = "uint8" },
  bin48 = { preset = "sj-number", bin = 48 }, ["trt-code"] = { preset = "trt-code" }, ["trt-paper"] = { preset = "trt-paper" },
}

if task == "make" then
  make(tonumber(more))
else
  local benches = {}
  for name, opt in pairs(cases) do
    benches[name] = function() return assert(ms.data.read_frames(path, opt)) end
  end
  benches.read = function() return assert(ms.data.read_events(path)) end
  for _, name in ipairs { "number", "time" } do -- for the comparison
    local file <close> = assert(io.open(more .. "." .. name, "wb"))
    file:write(ms.data.read_frames(path, cases[name]):contiguous():bytes())
  end
  -- As protocol.serve, with the processor's time beside the wall's: nothing here runs in a second thread.
  protocol.say { events = ms.data.read_events(path).t.shape[1] }
  for line in io.lines() do
    local name, n = line:match "^run (%S+) (%d+)$"
    if not name then break end
    local wall, cpu = {}, {}
    for i = 1, tonumber(n) do
      local start, busy = ms.system.clock(), os.clock()
      benches[name]()
      wall[i], cpu[i] = ms.system.clock() - start, os.clock() - busy
    end
    protocol.say { wall = wall, cpu = cpu }
  end
end
