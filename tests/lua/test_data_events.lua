-- Recordings of event cameras from Lua: reading, writing, windows, policies, messages.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local data = ms.data

local folder = s.folder()
local function file(name, bytes)
  local path = folder .. "/" .. name
  s.write(path, bytes)
  return path
end

local function bytes(hex) return (hex:gsub("%s", ""):gsub("%x%x", function(b) return string.char(tonumber(b, 16)) end)) end

local function columns(e) return { e.t:totable(), e.x:totable(), e.y:totable(), e.p:totable() } end

-- Golden bytes of the formats' descriptions.
local dvs = "#!AER-DAT2.0\r\n# Timestamps tick is 1 us\r\n"
  .. bytes "00000a29 000003e8 00007f00 000003eb 000000ff 000003eb 00004080 fffffffe 0000860b 00000002 00004180 00000007"
local nmnist = bytes "070f80028e 1312000bb7 1511000bc9 0a12000f35 0c09800fb7 0e09800fbf"
local gesture = "#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" .. bytes [[
  0100 0100 08000000 04000000 00000000 03000000 03000000 02000000  1b000a00 11000000  0100fe00 12000000  26001200 13000000
  0000 0100 08000000 04000000 00000000 01000000 01000000 01000000  03000000 14000000
  0100 0100 08000000 04000000 01000000 01000000 01000000 01000000  07018000 03000000]]

TestRead = {}

function TestRead:test_aedat2()
  local path = file("a.aedat", dvs)
  local e = assert(data.read_events(path, { policy = "lenient" }))
  lu.assertEquals(columns(e), { { 1000, 1003, 1003, 1003, 1003 }, { 117, 0, 127, 63, 62 }, { 107, 127, 0, 63, 63 }, { 0, 1, 0, 1, 1 } })
  lu.assertEquals({ e.width, e.height, e.repairs }, { 128, 128, { time = 2, special = 1 } })
  lu.assertEquals({ e.t.dtype, e.x.dtype, e.y.dtype, e.p.dtype }, { "int64", "int64", "int64", "uint8" })
  local oracle = assert(data.read_events(path, { policy = "oracle", layout = "trt" }))
  lu.assertEquals(oracle.t:totable(), { 1000, 1003, 1003, 4294967294, 2, 7 })
  lu.assertEquals({ oracle.x:totable(), oracle.y[1]:item() }, { { 10, 127, 0, 64, 6, 65 }, 107 })
  local none, why, status = data.read_events(path)
  lu.assertNil(none)
  lu.assertEquals(why, "read_events: " .. path .. ": damaged file: byte 65, record 3: time runs backwards, from 1003 to -2 us")
  lu.assertEquals(status, "EFORMAT")
end

function TestRead:test_atis_and_windows()
  local path = file("00001.bin", nmnist)
  local e = assert(data.read_events(path, { width = 34, height = 34 }))
  lu.assertEquals(columns(e), { { 654, 2999, 3017, 3893, 4023, 4031 }, { 7, 19, 21, 10, 12, 14 }, { 15, 18, 17, 18, 9, 9 }, { 1, 0, 0, 0, 1, 1 } })
  lu.assertEquals({ e.width, e.height, e.repairs }, { 34, 34, {} })
  lu.assertEquals(data.read_events(path, { start_us = 2999, end_us = 4023 }).t:totable(), { 2999, 3017, 3893 })
  lu.assertEquals(data.read_events(path, { width = 34, flip_x = true }).x:totable(), { 26, 14, 12, 23, 21, 19 })
  lu.assertEquals(data.read_events(path, { width = 34, height = 34, stabilize = true }).y:totable(), { 17, 20, 19, 20, 11, 11 })
end

function TestRead:test_aedat3()
  local path = file("user01_led.aedat", gesture)
  lu.assertEquals(columns(assert(data.read_events(path))), { { 17, 18, 2147483651 }, { 5, 127, 64 }, { 6, 0, 65 }, { 1, 0, 1 } })
  lu.assertEquals(data.read_events(path, { start_us = 18, end_us = 19 }).x:totable(), { 127 })
end

function TestRead:test_messages()
  local path = file("00001.bin", nmnist)
  s.raises("read_events: unknown option 'with' (known: format, policy,", data.read_events, path, { with = 34 })
  s.raises("read_events: policy: expected one of strict, lenient, oracle, got loose", data.read_events, path, { policy = "loose" })
  s.raises("read_events: width: expected 0 to 65535, got -1", data.read_events, path, { width = -1 })
  s.raises("read_events: end_us: expected more than start_us = 10, or 0, got 5", data.read_events, path, { start_us = 10, end_us = 5 })
  s.raises("read_events: start_us: expected microseconds from 0, got -1", data.read_events, path, { start_us = -1 })
  local none, why, status = data.read_events(folder .. "/none")
  lu.assertNil(none)
  lu.assertStrContains(why, "No such file")
  lu.assertEquals(status, "EIO")
  none, why = data.read_events(path, { width = 20 })
  lu.assertNil(none)
  lu.assertStrContains(why, "byte 10, record 2: event at (21, 17), outside of the sensor of 20 x 180")
  lu.assertStrContains(select(2, data.read_events(file("a.png", "\x89PNG\r\n\x1a\n"))), "it looks like a PNG image")
end

TestWrite = {}

function TestWrite:test_there_and_back()
  local e = { t = ms.tensor({ 0, 5, 5, 90000 }, { dtype = "int64" }), x = ms.tensor({ 0, 127, 3, 4 }, { dtype = "int64" }),
    y = ms.tensor({ 127, 0, 8, 9 }, { dtype = "int64" }), p = ms.tensor({ 0, 1, 1, 0 }, { dtype = "uint8" }), width = 128, height = 128 }
  for name, options in pairs { ["w.aedat"] = false, ["w.bin"] = false, ["w.npz"] = false, w2 = { format = "aedat2" }, w5 = { format = "atis" }, wz = { format = "npz" } } do
    local path = folder .. "/" .. name
    lu.assertTrue(data.write_events(path, e, options or nil))
    local back = assert(data.read_events(path, { format = options and options.format or "auto" }))
    lu.assertEquals(columns(back), columns(e), name)
    lu.assertTrue(data.write_events(path, back, options or nil)) -- what was read can be written
  end
  local none = { t = ms.zeros(0):long(), x = ms.zeros(0):long(), y = ms.zeros(0):long(), p = ms.zeros(0):long(), width = 4, height = 4 }
  lu.assertTrue(data.write_events(folder .. "/none.npz", none))
  lu.assertEquals(assert(data.read_events(folder .. "/none.npz", { policy = "lenient" })).t.shape, { 0 })
  lu.assertEquals(#s.read(folder .. "/w2"), 41 + 4 * 8)
  lu.assertEquals(#s.read(folder .. "/w5"), 4 * 5)
end

function TestWrite:test_messages()
  local function tensor(...) return ms.tensor({ ... }, { dtype = "int64" }) end
  local function events(changes)
    local e = { t = tensor(1, 2), x = tensor(3, 4), y = tensor(5, 6), p = tensor(0, 1), width = 128, height = 128 }
    for key, value in pairs(changes) do e[key] = value end
    return e
  end
  local path = folder .. "/w.aedat"
  local function raises(text, changes, to, options) s.raises(text, data.write_events, to or path, events(changes), options) end
  raises("write_events: events.y: expected a tensor [n] of int64 or uint8, got number", { y = 3 })
  raises("write_events: events.x: expected [2], as t, got int64 [3]", { x = tensor(1, 2, 3) })
  raises("write_events: events.p[2]: expected 0 to 1, got 2", { p = tensor(0, 2) })
  raises("write_events: events.x[1]: expected 0 to 65535, got -1", { x = tensor(-1, 2) })
  raises("write_events: events.t: expected a tensor [n] of int64 or uint8, got float32 [2]", { t = ms.tensor { 1, 1.5 } })
  raises("write_events: events.width: expected 1 to 65536, got x", { width = "x" })
  raises("aedat2: event 1: expected x, y from 0 to 127", { x = tensor(3, 128) })
  raises("aedat2: event 1: expected a time after 2 that 32 bits can tell, got 1", { t = tensor(2, 1) })
  raises("atis: event 1: expected a time from 1 to 8388607 us", { t = tensor(1, 8388608) }, folder .. "/w.bin")
  raises("write_events: format: expected aedat2, atis or npz, where the name does not end", {}, folder .. "/w")
  raises("write_events: format: expected one of aedat2, atis, npz, got mat5", {}, path, { format = "mat5" })
  local none, why, status = data.write_events(folder .. "/no/w.bin", events {})
  lu.assertNil(none)
  lu.assertStrContains(why, "No such file")
  lu.assertEquals(status, "EIO")
end

TestGesture = {}

function TestGesture:test_lists()
  local labels = file("user01_led_labels.csv", "class,startTime_usec,endTime_usec\n1,17,18\r\n11,18,30\n")
  lu.assertEquals(data.read_gesture_labels(labels), { { label = 0, start_us = 17, end_us = 18 }, { label = 10, start_us = 18, end_us = 30 } })
  local trials = file("trials_to_train.txt", "user01_led.aedat\n\nuser02_lab.aedat\n")
  lu.assertEquals(data.read_gesture_trials(trials), { "user01_led.aedat", "user02_lab.aedat" })
  local none, why, status = data.read_gesture_labels(trials)
  lu.assertNil(none)
  lu.assertStrContains(why, "byte 0: expected 'class,startTime_usec,endTime_usec' in the first line")
  lu.assertEquals(status, "EFORMAT")
  lu.assertStrContains(select(2, data.read_gesture_trials(labels)), "expected the name of an .aedat file of this folder")
  lu.assertStrContains(select(2, data.read_gesture_trials(folder .. "/none")), "No such file")
end

local code = lu.LuaUnit.run()
s.remove(folder)
os.exit(code == 0)
