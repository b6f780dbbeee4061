-- Shared by the tests of sets of recordings: small recordings that are always the same, folders of them.
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local data = ms.data

local recordings = {}

-- n events of a sensor within `span` microseconds, in the order of time.
function recordings.events(seed, n, width, height, span)
  local state = seed * 7919 + 12345
  local function random(most)
    state = (state * 1103515245 + 12345) % 2147483648
    return state // 65536 % most
  end
  local t, x, y, p, now = {}, {}, {}, {}, 0
  for i = 1, n do
    now = now + random(math.max(1, 2 * (span or 1000) // n))
    t[i], x[i], y[i], p[i] = now, random(width), random(height), random(2)
  end
  local function int(list) return ms.tensor(list, { dtype = "int64" }) end
  return { t = int(t), x = int(x), y = int(y), p = int(p), width = width, height = height }
end

function recordings.record(path, seed, n, width, height)
  assert(data.write_events(path, recordings.events(seed, n, width, height)))
end

-- root/<class>/<name of class, number><ending>; recording k of the folder has seed k. Gives the root.
function recordings.make(root, classes, numbers, name, width, height, events)
  local k = 0
  for _, class in ipairs(classes) do
    assert(os.execute(("mkdir -p '%s/%s'"):format(root, class)))
    for _, number in ipairs(numbers) do
      k = k + 1
      recordings.record(("%s/%s/%s"):format(root, class, name:format(class, number)), k, events or 60, width, height)
    end
  end
  return root
end

-- Equal shape, type and bits, wherever they lie.
function recordings.same(got, want, what)
  lu.assertEquals({ got.shape, got.dtype }, { want.shape, want.dtype }, what)
  lu.assertTrue(ms.equal(got:to "cpu", want:to "cpu"), what)
end

-- All batches of one epoch, x and y each as one tensor.
function recordings.epoch(set)
  local xs, ys = {}, {}
  for x, y in set do xs[#xs + 1], ys[#ys + 1] = x, y end
  return ms.cat(xs, 2), ms.cat(ys, 1)
end

function recordings.files(folder)
  local list = {}
  local p <close> = io.popen(("ls -A '%s' 2>/dev/null"):format(folder))
  for name in p:lines() do list[#list + 1] = name end
  return list
end

function recordings.bytes(hex) return (hex:gsub("%s", ""):gsub("%x%x", function(b) return string.char(tonumber(b, 16)) end)) end

-- Golden bytes of the formats' descriptions: with a clock that runs backwards and a special event; with a window of 17 to 20 us and one far behind.
recordings.aedat2 = "#!AER-DAT2.0\r\n# Timestamps tick is 1 us\r\n"
  .. recordings.bytes "00000a29 000003e8 00007f00 000003eb 000000ff 000003eb 00004080 fffffffe 0000860b 00000002 00004180 00000007"
recordings.aedat3 = "#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" .. recordings.bytes [[
  0100 0100 08000000 04000000 00000000 03000000 03000000 02000000  1b000a00 11000000  0100fe00 12000000  26001200 13000000
  0000 0100 08000000 04000000 00000000 01000000 01000000 01000000  03000000 14000000
  0100 0100 08000000 04000000 01000000 01000000 01000000 01000000  07018000 03000000]]

recordings.cifar10 = { "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck" }

return setmetatable(recordings, { __index = s })
