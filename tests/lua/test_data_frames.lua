-- From events to frames, augmentation of events, events from still images, and their files.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"

local data, fashion = ms.data, "/usr/share/datasets/fashion-mnist/"

local function column(values, dtype) return ms.tensor(values, { dtype = dtype or "int64" }) end

-- 4 x 2 pixels, 11 events.
local function stream()
  return {
    t = column { 0, 3, 4, 10, 12, 25, 26, 31, 38, 40, 41 }, x = column { 0, 1, 1, 2, 2, 0, 3, 3, 3, 0, 0 },
    y = column({ 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0 }, "uint8"), p = column({ 1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 1 }, "uint8"),
    width = 4, height = 2,
  }
end

TestFrames = {}

function TestFrames:test_number()
  local frames = data.integrate(stream(), { preset = "sj-number", T = 4 })
  lu.assertEquals(frames.dtype, ms.zeros(1).dtype)
  lu.assertEquals(frames.shape, { 4, 2, 2, 4 })
  lu.assertEquals(frames:totable(), {
    { { { 0, 1, 0, 0 }, { 0, 0, 0, 0 } }, { { 1, 0, 0, 0 }, { 0, 0, 0, 0 } } },
    { { { 0, 1, 0, 0 }, { 0, 0, 0, 0 } }, { { 0, 0, 0, 0 }, { 0, 0, 1, 0 } } },
    { { { 0, 0, 0, 0 }, { 1, 0, 0, 0 } }, { { 0, 0, 0, 0 }, { 0, 0, 1, 0 } } },
    { { { 0, 0, 0, 1 }, { 0, 0, 0, 0 } }, { { 2, 0, 0, 1 }, { 0, 0, 0, 1 } } },
  })
  lu.assertEquals(data.integrate(stream()).shape, { 10, 2, 2, 4 })
end

function TestFrames:test_presets_and_options()
  local trt = data.integrate(stream(), { preset = "trt-code", T = 4 })
  lu.assertEquals({ trt.dtype, trt.shape }, { "uint8", { 4, 2, 4, 2 } })
  lu.assertEquals(trt[1]:totable(), { { { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 } }, { { 255, 0 }, { 255, 0 }, { 0, 0 }, { 0, 0 } } })
  lu.assertEquals(data.integrate(stream(), { duration_us = 10 }).shape, { 5, 2, 2, 4 })
  lu.assertEquals(data.integrate(stream(), { preset = "sj-time", T = 4 }):sum { 2, 3, 4 }:totable(), { 3, 2, 2, 4 })
  lu.assertEquals(data.integrate(stream(), { T = 1, bin = { 1, 2 }, polarity = "merged" }):totable(), { { { { 6, 5 } } } })
  lu.assertEquals(data.integrate(stream(), { T = 1, bin = 1, polarity = "difference" }):item(), 3)
  local presets = data.frame_presets()
  lu.assertEquals(presets["trt-code"], { layout = "etf", size = 48, alpha = true, split = "event-bins", polarity = "dead", post = "max",
    dtype = "uint8", T = 10 })
  lu.assertEquals(presets["sj-duration"].duration_us, 100000)
end

function TestFrames:test_bad_arguments()
  s.raises("preset: expected one of sj-number, sj-time", data.integrate, stream(), { preset = "x" })
  s.raises("unknown option 'bins'", data.integrate, stream(), { bins = 3 })
  s.raises("T: expected 1 to 65536, got 0", data.integrate, stream(), { T = 0 })
  s.raises("no events in its window of 5 to 10 us", data.integrate, stream(), { preset = "sj-time", T = 8 })
  local function with(key, value)
    local e = stream()
    e[key] = value
    return e
  end
  s.raises("events.x: expected a tensor [n] of int64 or uint8, got nil", data.integrate, with("x", nil))
  s.raises("events.x: expected a tensor [n] of int64 or uint8, got float32 [11]", data.integrate, with("x", ms.zeros(11)))
  s.raises("events.p: expected [11], as t, got int64 [2]", data.integrate, with("p", column { 1, 0 }))
  s.raises("events.x[1]: expected 0 to 65535, got -1", data.integrate, with("x", column { -1, 1, 1, 2, 2, 0, 3, 3, 3, 0, 0 }))
  s.raises("event 6: expected x below 3 and y below 2, got 3, 1", data.integrate, with("width", 3))
  s.raises("events.width: expected 1 to 65536, got 0", data.integrate, with("width", 0))
end

function TestFrames:test_read_frames_options()
  s.raises("width: expected 0 to 65535, got -1", data.read_frames, "x.bin", { width = -1 })
  s.raises("layout: expected one of sj, jaer, etf, trt, got x", data.read_frames, "x.bin", { layout = "x" })
end

-- Times at the ends of 64 bits: a result or an error, and nothing that C leaves undefined.
function TestFrames:test_largest_times()
  local last, first = math.maxinteger, math.mininteger
  local function at(t)
    local zeros = ms.zeros(#t):long()
    return { t = column(t), x = zeros, y = zeros, p = zeros, width = 4, height = 4 }
  end
  local x = data.integrate(at { last }, { split = "span", T = 3 })
  lu.assertEquals({ x[1]:sum():item(), x:sum():item() }, { 1, 1 })
  lu.assertEquals(data.integrate(at { last - 2, last }, { split = "span", T = 3 }):sum():item(), 2)
  lu.assertEquals(data.augment_events(at { last - 2, last }, { reverse = 1 }).t:totable(), { last - 2, last })
  s.raises("the times overflow", data.integrate, at { first, last }, { split = "time", T = 2 })
  for _, drop in ipairs { "time", "area", "random" } do
    for _, released in ipairs { false, true } do data.augment_events(at { first, last }, { drop = drop, released = released }) end
  end
end

TestAugment = {}

function TestAugment:test_drop()
  local e = stream()
  lu.assertEquals(data.augment_events(e).t:totable(), e.t:totable())
  local flipped = data.augment_events(e, { mirror = 1, flip_polarity = 1, reverse = 1 })
  lu.assertEquals(flipped.x:totable(), { 3, 3, 0, 0, 0, 3, 1, 1, 2, 2, 3 })
  lu.assertEquals(flipped.p:totable(), { 0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0 })
  lu.assertEquals(flipped.t:totable(), { 0, 1, 3, 10, 15, 16, 29, 31, 37, 38, 41 })
  lu.assertEquals({ flipped.width, flipped.height }, { 4, 2 })
  local sizes = {}
  for sample = 1, 40 do
    local a, b = data.event_drop(e, { seed = 1, sample = sample }), data.event_drop(e, { seed = 1, sample = sample })
    lu.assertEquals(a.t:totable(), b.t:totable())
    sizes[#a.t:totable()] = true
  end
  lu.assertTrue(sizes[11] and (sizes[5] or sizes[6] or sizes[7] or sizes[8]))
  -- without a seed that of the run
  local function by_run(seed)
    ms.manual_seed(seed)
    return data.event_drop(e, { drop = "random", sample = 4 }).t:totable()
  end
  local different = false
  for seed = 1, 8 do
    lu.assertEquals(by_run(seed), data.event_drop(e, { drop = "random", sample = 4, seed = seed }).t:totable())
    different = different or not ms.equal(ms.tensor(by_run(seed)), ms.tensor(by_run(99)))
  end
  lu.assertTrue(different)
  s.raises("mirror: expected 0 to 1, got 2", data.augment_events, e, { mirror = 2 })
  s.raises("drop: expected one of none, time, area, random, any, got half", data.event_drop, e, { drop = "half" })
end

TestSynthetic = {}

local function sums(t) return t:sum { 2, 3, 4 }:totable() end

function TestSynthetic:test_golden()
  if not core.system.exists(fashion) then lu.skip "needs the package dataset-fashion-mnist" end
  local image = data.read_idx(fashion .. "train-images-idx3-ubyte.gz"):narrow(1, 1, 1)
  local a = data.synthesize(image, { profile = "saccade3" })
  lu.assertEquals({ a.t.shape[1], a.p:long():sum():item(), a.width, a.height }, { 9283, 4705, 34, 34 })
  lu.assertEquals({ a.t[1]:item(), a.x[1]:item(), a.y[1]:item(), a.p[1]:item() }, { 12305, 9, 14, 0 })
  local b = data.synthesize(image:view(28, 28), { profile = "rcls" })
  lu.assertEquals(b.t.shape, { 102392 })
  lu.assertEquals(sums(data.integrate(b, { preset = "sj-time" })), { 10425, 10494, 9876, 10265, 10435, 9865, 10407, 9895, 10214, 10516 })
end

function TestSynthetic:test_bad_arguments()
  s.raises("image: expected a square [n, n] or [1, n, n] of uint8", data.synthesize, ms.zeros(3, 3))
  s.raises("image: expected a square", data.synthesize, column({ { 1, 2 } }, "uint8"))
  s.raises("profile: expected one of saccade3, rcls, got x", data.synthesize, column({ { 1 } }, "uint8"), { profile = "x" })
  s.raises("threshold: expected 256 to 1048576, got 1", data.synthesize, column({ { 1 } }, "uint8"), { threshold = 1 })
end

-- Written, read back through the reader of the real format, and into frames.
function TestSynthetic:test_files()
  local folder = s.folder()
  local images = column({ { { 9, 200 }, { 30, 255 } }, { { 255, 0 }, { 255, 0 } } }, "uint8")
  for _, case in ipairs { { "rcls", "aedat", {} }, { "saccade3", "bin", { width = 34, height = 34 } } } do
    local profile, ending, size = table.unpack(case)
    local paths = { folder .. "/0." .. ending, folder .. "/1." .. ending }
    local opt = { images = images, paths = paths, profile = profile, workers = 2, loops = 1 }
    local n, events = data.make_events(opt)
    lu.assertEquals(n, 2)
    lu.assertEquals({ data.make_events(opt) }, { 0, 0 })
    local total = 0
    for i, path in ipairs(paths) do
      local e = data.read_events(path, size)
      local want = data.synthesize(images[i], { profile = profile, loops = 1, seed = (i - 1) * 0x9e3779b9 })
      for _, key in ipairs { "t", "x", "y", "p" } do lu.assertEquals(e[key]:totable(), want[key]:totable()) end
      total = total + e.t.shape[1]
      size.T = 3
      lu.assertEquals(data.read_frames(path, size):totable(), data.integrate(e, { T = 3 }):totable())
      size.T = nil
    end
    lu.assertEquals(events, total)
  end
  local t, message, status = data.read_frames(folder .. "/none.bin")
  lu.assertNil(t)
  lu.assertStrContains(message, "none.bin: No such file")
  lu.assertEquals(status, "EIO")
  t, message = data.make_events { images = images, paths = { folder .. "/no/a", folder .. "/no/b" } }
  lu.assertNil(t)
  lu.assertStrContains(message, "No such file")
  s.raises("paths: expected a table of 2 names", data.make_events, { images = images, paths = { "a" } })
  s.raises("images: expected [n, size, size] of uint8, got nil", data.make_events, { paths = {} })
  s.remove(folder)
end

TestMakeEvents = {}
local script = assert(arg[0]:match "^(.*)tests/lua/[^/]*$") .. "scripts/make-events.lua"
function TestMakeEvents:setUp() self.folder = s.folder() end
function TestMakeEvents:tearDown() s.remove(self.folder) end

function TestMakeEvents:run(arguments)
  return s.run(script, nil, ("--root %s/idx %s"):format(self.folder, arguments))
end

function TestMakeEvents:test_folders()
  core.system.mkdir(self.folder .. "/idx")
  s.fashion(self.folder .. "/idx", 12, 3)
  local out = self.folder .. "/out"
  local code, text = self:run(("--out %s/a"):format(out))
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "train 12/12  written 12")
  lu.assertStrContains(text, "test 3/3  written 3")
  local set = data.FashionMNIST { root = self.folder .. "/idx", mean = 0, std = 1 }
  for i = 1, 12 do
    local e = data.read_events(("%s/a/Train/%d/%05d.bin"):format(out, set.labels[i]:item(), i - 1), { width = 34, height = 34 })
    lu.assertEquals(e.t:totable(), data.synthesize(set:raw(i)[1], { seed = (i - 1) * 0x9e3779b9 }).t:totable())
  end
  os.remove(("%s/a/Train/%d/00004.bin"):format(out, set.labels[5]:item()))
  code, text = self:run(("--out %s/a --part train"):format(out)) -- again: only what is missing
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "train 12/12  written 1 ")
  lu.assertNotStrContains(text, "test")
  code, text = self:run(("--out %s/b --profile rcls --limit 2 --noise 1"):format(out))
  lu.assertEquals(code, 0, text)
  local class = set.classes[set.labels[1]:item() + 1]:gsub("[^%w_-]", "_")
  lu.assertEquals(data.read_frames(("%s/b/%s/cifar10_%s_0.aedat"):format(out, class, class), { preset = "tet-pt" }).shape, { 10, 2, 128, 128 })
end

-- Recordings made in different ways do not meet in one folder.
function TestMakeEvents:test_settings()
  core.system.mkdir(self.folder .. "/idx")
  s.fashion(self.folder .. "/idx", 6, 3)
  local out = self.folder .. "/out"
  local function make(arguments, want)
    local code, text = self:run(("--out %s %s"):format(out, arguments))
    lu.assertEquals(code, want, text)
    return text
  end
  make("--part train --limit 2 --noise 5", 0)
  make("--limit 3 --noise 5 --workers 1", 0)
  for arguments, want in pairs {
    ["--noise 5 --threshold 60000"] = "threshold: expected 16384, with which the recordings in %s were made, got 60000", [""] = "noise: expected 5,",
    ["--noise 5 --seed 1"] = "seed: expected 0,", ["--noise 5 --profile rcls"] = "profile: expected saccade3,",
  } do lu.assertStrContains(make(arguments, 2), "make-events: --" .. want:format(out)) end
  s.write(out .. "/settings.json", (s.read(out .. "/settings.json"):gsub("FashionMNIST", "CIFAR10")))
  lu.assertStrContains(make("--noise 5", 2), "make-events: --data: expected CIFAR10,")
  os.remove(out .. "/settings.json") -- as made before there were any
  lu.assertStrContains(make("--limit 4", 0), out .. " holds recordings whose settings are not known\n")
  lu.assertFalse(core.system.exists(out .. "/settings.json"))
end

-- Colours as Pillow's grey, and the middle square.
function TestMakeEvents:test_colours()
  s.write(self.folder .. "/colours.lua", ([[
    local ms = require "moonspike"
    function ms.data.Colours()
      local bytes = {}
      for i = 0, 2 * 3 * 6 * 10 - 1 do bytes[i + 1] = i * 89 %% 256 end
      return ms.data.FromTensors { images = ms.tensor(bytes, { dtype = "uint8" }):view(2, 3, 6, 10), labels = ms.tensor({ 1, 0 }, { dtype = "int64" }), classes = { "a b", "c" } }
    end
    dofile "%s"]]):format(script:sub(1, 1) == "/" and script or io.popen("pwd"):read "l" .. "/" .. script))
  local code, text = s.run(self.folder .. "/colours.lua", nil, ("--data Colours --profile rcls --out %s"):format(self.folder))
  lu.assertEquals(code, 0, text)
  for i, name in ipairs { "c/cifar10_c_0.aedat", "a_b/cifar10_a_b_0.aedat" } do
    local rows = {}
    for y = 0, 5 do
      rows[y + 1] = {}
      for x = 2, 7 do
        local function channel(c) return ((i - 1) * 180 + c * 60 + y * 10 + x) * 89 % 256 end
        rows[y + 1][x - 1] = (channel(0) * 19595 + channel(1) * 38470 + channel(2) * 7471 + 32768) >> 16
      end
    end
    local want = data.synthesize(column(rows, "uint8"), { profile = "rcls", seed = (i - 1) * 0x9e3779b9 })
    local got = data.read_events(self.folder .. "/" .. name)
    for _, key in ipairs { "t", "x", "y", "p" } do lu.assertTrue(ms.equal(got[key], want[key]), key) end
  end
end

function TestMakeEvents:test_bad_arguments()
  for _, case in ipairs {
    { "", "--out: expected a folder" }, { "--out x --limit a", "--limit: expected an integer >= 0, got 'a'" },
    { "--out x --what 1", "unknown option '--what'" }, { "--out x --data nothing", "--data: expected a data set of ms.data, got nothing" },
    { "--out x --profile y", "--profile: expected one of saccade3, rcls, got 'y'" }, { "--out x", "not found" },
    { "--out x --part y", "--part: expected one of train, test, both, got 'y'" },
  } do
    local code, text = self:run(case[1])
    lu.assertEquals(code, 2, text)
    lu.assertStrContains(text, case[2])
  end
end

os.exit(lu.LuaUnit.run() == 0)
