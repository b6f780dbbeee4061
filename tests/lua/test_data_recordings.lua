-- Sets of recordings on small folders: samples, presets, batches, names, positions, and what they say of files that are missing or damaged.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "recordings"
local ms = require "moonspike"
local data = ms.data

local folder = s.folder()
local dvs = s.make(folder .. "/dvs", s.cifar10, { 0, 1, 900, 10 }, "cifar10_%s_%d.aedat", 128, 128)

local function cifar(options)
  local all = { root = dvs, T = 2, bin = 8 }
  for key, value in pairs(options or {}) do all[key] = value end
  return data.CIFAR10DVS(all)
end

local same = s.same

TestCIFAR10DVS = {}

function TestCIFAR10DVS:test_samples()
  local set = cifar { T = 3 }
  lu.assertEquals({ #set, set.T, set.shape, set.classes, set.split }, { 30, 3, { 2, 8, 8 }, s.cifar10, "trt: train" })
  -- classes in turn, by number
  for k, want in pairs { [1] = "airplane/cifar10_airplane_0.aedat", [10] = "truck/cifar10_truck_0.aedat", [12] = "automobile/cifar10_automobile_1.aedat",
    [21] = "airplane/cifar10_airplane_10.aedat" } do
    local sample = set[k]
    lu.assertEquals({ sample.name, sample.class, sample.y }, { want, want:match "^%w+", (k - 1) % 10 })
    local events = data.read_events(dvs .. "/" .. want)
    same(sample.x, data.integrate(events, { T = 3, bin = 8 }), want)
    lu.assertEquals(set:events(k).t:totable(), events.t:totable())
  end
  local test = cifar { train = false }
  lu.assertEquals({ #test, test.split, test[10].name }, { 10, "trt: test", "truck/cifar10_truck_900.aedat" })
  lu.assertEquals(#cifar { split = "spikingjelly" }, 40)
  lu.assertEquals(#cifar { split = "tebn", train = false }, 30)
end

function TestCIFAR10DVS:test_batches()
  local set = cifar { batch_size = 7, workers = 2 }
  local sizes, k = {}, 0
  for x, y in set do
    sizes[#sizes + 1] = y.shape[1]
    lu.assertEquals({ x.shape, x.dtype, y.dtype }, { { 2, y.shape[1], 2, 8, 8 }, ms.zeros(1).dtype, "int64" })
    for i = 1, y.shape[1] do
      k = k + 1
      same(x:select(2, i), set[k].x, set[k].name)
      lu.assertEquals(y[i]:item(), set[k].y)
    end
  end
  lu.assertEquals({ sizes, set.batches }, { { 7, 7, 7, 7, 2 }, 5 })
end

-- The published ways, bit for bit as their steps one after the other.
function TestCIFAR10DVS:test_presets()
  local path = dvs .. "/airplane/cifar10_airplane_0.aedat"
  for preset, by_hand in pairs {
    ["trt-code"] = function(e) return data.resize(data.integrate(e, { preset = "trt-code" }), { size = 48, alpha = true }) end,
    ["tet-pt"] = function(e) return data.resize(data.integrate(e, { preset = "tet-pt" }), { size = 48, alpha = true }) end,
    ["trt-paper"] = function(e) return data.resize(data.integrate(e, { preset = "trt-paper" }), { size = 48 }) end,
    ["sj-number"] = function(e) return data.integrate(e) end,
    ["tonic-time-bins"] = function(e) return data.integrate(e, { preset = "tonic-time-bins" }) end,
  } do
    local set = data.CIFAR10DVS { root = dvs, preset = preset, limit = 2, batch_size = 2 }
    local want = by_hand(data.read_events(path, { layout = data.frame_presets()[preset].layout }))
    same(set:raw(1), want, preset)
    local x = s.epoch(set):select(2, 1)
    same(x, want.dtype == "uint8" and want:float() / 255 or want, preset)
    same(set[1].x, x, preset)
    lu.assertTrue(x:max():item() > 0)
  end
  local half = data.CIFAR10DVS { root = dvs, preset = "trt-code", T = 4, size = 64, limit = 1 }
  lu.assertEquals({ half.T, half.shape }, { 4, { 2, 64, 64 } })
  local events = data.read_events(path)
  for resize, want in pairs {
    none = data.integrate(events, { T = 1 }), bilinear = data.resize(data.integrate(events, { T = 1 }), { size = 30 }),
    plain = data.resize(data.integrate(events, { T = 1 }), { size = 30, antialias = false }),
    nearest = data.resize(data.integrate(events, { T = 1 }), { size = 30, filter = "nearest" }),
  } do
    same(data.CIFAR10DVS { root = dvs, T = 1, size = 30, resize = resize, limit = 1 }:raw(1), want, resize)
  end
  same(data.CIFAR10DVS { root = dvs, T = 1, size = 30, limit = 1 }:raw(1), data.resize(data.integrate(events, { T = 1 }), { size = 30 }))
  -- further options of the reader and of the frames
  same(cifar { layout = "jaer", frames = { polarity = "merged", post = "clip" }, events = { flip_x = true } }:raw(1),
    data.integrate(data.read_events(path, { layout = "jaer", flip_x = true }), { T = 2, bin = 8, polarity = "merged", post = "clip" }))
  same(cifar { frames = { post = "max", dtype = "uint8" } }[1].x, data.integrate(events, { T = 2, bin = 8, post = "max", dtype = "uint8" }):float() / 255)
  same(cifar { frames = { dtype = "uint8" } }[1].x, data.integrate(events, { T = 2, bin = 8 })) -- counts stay counts
end

-- T frames, whatever the length.
function TestCIFAR10DVS:test_duration()
  local set = cifar { preset = "sj-duration", duration_us = 200, T = 3, limit = 12 }
  lu.assertEquals(set.T, 3)
  for k = 1, #set do
    local want = data.integrate(set:events(k), { preset = "sj-duration", duration_us = 200, bin = 8 })
    local n = math.min(3, want.shape[1])
    same(set[k].x:narrow(1, 1, n), want:narrow(1, 1, n))
    lu.assertTrue(n == 3 or set[k].x:narrow(1, n + 1, 3 - n):sum():item() == 0)
  end
  lu.assertTrue(cifar { preset = "sj-duration", duration_us = 400, limit = 1 }.T == 2)
end

-- What is drawn at random follows seed, epoch and sample, whoever draws it.
function TestCIFAR10DVS:test_workers_change_nothing()
  local how = { shuffle = true, batch_size = 7, drop = "any", augment = "trt-dvs", mean = 0.5, std = { 2, 3 }, seed = 3 }
  local sets = {}
  for i, workers in ipairs { 0, 1, 3 } do
    how.workers = workers
    sets[i] = cifar(how)
  end
  local first, second = s.epoch(sets[1]), s.epoch(sets[1])
  lu.assertFalse(ms.equal(first, second))
  for i = 2, 3 do
    same(s.epoch(sets[i]), first)
    same(s.epoch(sets[i]), second)
  end
end

function TestCIFAR10DVS:test_mean_transform_limit()
  local plain = s.epoch(cifar())
  local x, y = s.epoch(cifar { mean = { 1, 2 }, std = { 0.5, 4 }, transform = function(x, y) return x * 2, y + 1 end })
  s.near(x, (plain - ms.tensor { 1, 2 }:view(2, 1, 1)) / ms.tensor { 0.5, 4 }:view(2, 1, 1) * 2, 1e-6)
  lu.assertEquals(y:max():item(), 10)
  local few = cifar { limit = 10 } -- of interleaved classes one of each
  lu.assertEquals({ #few, few:counts() }, { 10, { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 } })
  lu.assertEquals({ #few:with { limit = 4 }, #few:with { limit = 40 }, #cifar():with { batch_size = 3 } }, { 4, 10, 30 })
end

function TestCIFAR10DVS:test_parts_and_hash()
  local set = cifar { drop = "time", shuffle = true, balanced = true, augment = { flip = true } }
  local list = {}
  for k = 1, #set do list[k] = set[k].name .. "\n" end
  lu.assertEquals(set:hash(), data.crc32(table.concat(list)))
  local rest, validation = set:cut { validation = 0.4, seed = 1 }
  lu.assertEquals({ #rest, #validation, validation:counts() }, { 20, 10, { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 } })
  lu.assertEquals(validation.split, "trt: train / validation 0.4, seed 1")
  local x, y = s.epoch(validation) -- in order, without chance
  for k = 1, #validation do
    same(x:select(2, k), validation[k].x)
    lu.assertEquals(y[k]:item(), validation[k].y)
  end
  lu.assertFalse(rest == set or rest:loader() == set:loader())
  local folds = set:folds { k = 3 }
  lu.assertEquals({ #folds, #folds[1][1], #folds[1][2] }, { 3, 20, 10 })
  local two = set:subset { 30, 1 }
  lu.assertEquals({ two[1].name, two[2].name, two:events(1).t:totable() }, { set[30].name, set[1].name, set:events(30).t:totable() })
end

function TestCIFAR10DVS:test_describe_and_show()
  local set = cifar { batch_size = 10 }
  local text = set:describe()
  for _, part in ipairs { "CIFAR10DVS train: 30 samples of [2, 2, 8, 8], 10 classes; 3 batches of 10, T = 2", "split trt: train (" .. set:hash() .. ")",
    "airplane 3", "truck 3", "values from 0 to ", "60 events in 0.00", " events/s (of 30 samples)", "frames by 'sj-number', policy 'strict'", "from " .. dvs } do
    lu.assertStrContains(text, part)
  end
  local png = folder .. "/shown.png"
  local lines = s.printed(set.show, set, 2, { file = png })
  lu.assertEquals(lines[1], "CIFAR10DVS train[2]: automobile, automobile/cifar10_automobile_0.aedat")
  lu.assertEquals({ lines[2]:gsub("[^\n]+", "") }, { "\n\n\n", 4 }) -- 8 rows, two to a line
  local x = set:raw(2)
  local wide = (ms.cat({ x[1], x[2] }, 3) * (255 / x:max():item()) + 0.5):long()
  local back = data.read_image(png)
  lu.assertEquals(back.shape, { 3, 8, 16 })
  lu.assertEquals({ back[1]:long():totable(), back[2]:max():item(), back[3]:long():totable() }, { wide[2]:totable(), 0, wide[1]:totable() })
  s.printed(set.show, set, 2, { file = png, frame = 2 })
  lu.assertEquals(data.read_image(png).shape, { 3, 8, 8 })
  -- ten frames of 128 columns in 80: every pixel counts for one that is shown
  local big = data.CIFAR10DVS { root = dvs, limit = 1 }
  lines = s.printed(big.show, big, 1, { width = 80 })
  local marks, columns = 0, 0
  for line in lines[2]:gmatch "[^\n]+" do
    columns = math.max(columns, #line)
    marks = marks + select(2, line:gsub("[^ ]", ""))
  end
  lu.assertTrue(columns == 80 and marks > 20, lines[2])
  s.raises("show: write_image: " .. folder .. "/no/a.png: No such file", s.printed, set.show, set, 1, { file = folder .. "/no/a.png" })
end

-- A run that goes on after a checkpoint in the middle of an epoch sees what the run that wrote it saw next.
function TestCIFAR10DVS:test_checkpoint()
  local how = { shuffle = true, batch_size = 4, drop = "any", augment = { flip = true }, seed = 5 }
  local path, net = folder .. "/state.safetensors", ms.nn.Linear(2, 2)
  local whole, seen = cifar(how), {}
  s.epoch(whole)
  for x, y in whole do
    seen[#seen + 1] = { x, y }
    if #seen == 3 then ms.checkpoint(path, { model = net, loader = whole }) end
  end
  how.seed = 17
  local other, i = cifar(how), 3
  lu.assertEquals(ms.resume(path, { model = net, loader = other }).batch, 3)
  for x, y in other do
    i = i + 1
    same(x, seen[i][1])
    same(y, seen[i][2])
  end
  lu.assertEquals(i, #seen)
  same(s.epoch(other), (s.epoch(whole)))
  -- what does not fit changes nothing
  local state = other:state_dict()
  s.raises("members: expected '", ms.resume, path, { model = net, loader = cifar { batch_size = 4, split = "spikingjelly", limit = 30 } })
  how.batch_size = 5
  local third = cifar(how)
  s.raises("batch_size: expected 4, since the state lies in the middle of an epoch, got 5", ms.resume, path, { model = net, loader = third })
  s.raises("load_state_dict: batch: expected 0 to 8, got 9", other.load_state_dict, other, { epoch = 1, batch = 9, seed = 1 })
  s.raises("load_state_dict: batch: expected 0 to 8, got -1", other.load_state_dict, other, { epoch = 1, batch = -1, seed = 1 })
  s.raises("load_state_dict: epoch: expected 1 or more, got 0", other.load_state_dict, other, { epoch = 0, batch = 0, seed = 1 })
  s.raises("load_state_dict: state: expected { epoch, batch, seed }, got table without seed", other.load_state_dict, other, { epoch = 1, batch = 0 })
  lu.assertEquals(other:state_dict(), state)
end

function TestCIFAR10DVS:test_leaving_early()
  local a, b = cifar { shuffle = true, batch_size = 10, seed = 1 }, cifar { shuffle = true, batch_size = 10, seed = 1 }
  for _ = 1, 3 do
    for _ in a do break end
    s.epoch(b)
  end
  same(s.epoch(a), (s.epoch(b)))
  local c <close> = cifar() -- and is closed with what was made ahead
  for _ in c do break end
end

-- ---- the others ----

TestOthers = {}

function TestOthers:test_ncaltech101()
  local classes = { "BACKGROUND_Google", "Faces_easy", "accordion", "yin_yang" } -- capitals first
  local root = s.make(folder .. "/caltech", classes, { 1, 2, 3 }, "%.0simage_%04d.bin", 240, 180)
  local set = data.NCaltech101 { root = root, T = 2, batch_size = 5 }
  lu.assertEquals({ #set, set.classes, set.shape, set.split }, { 12, classes, { 2, 180, 240 }, "spikingjelly: train" }) -- ceil(2.7)
  lu.assertEquals({ #data.NCaltech101 { root = root, split = "floor" }, #data.NCaltech101 { root = root, split = "floor", train = false } }, { 8, 4 })
  lu.assertEquals({ set[4].name, set[4].y }, { "Faces_easy/image_0001.bin", 1 })
  same(set[4].x, data.integrate(data.read_events(root .. "/Faces_easy/image_0001.bin"), { T = 2 }))
  -- TRT: ten frames by number, resized as tensors
  local trt = data.NCaltech101 { root = root, size = 48, limit = 3 }
  same(s.epoch(trt):select(2, 3), data.resize(data.integrate(trt:events(3)), { size = 48 }))
  s.raises("NCaltech101: split 'spikingjelly' has no test files among the 12 that were found", data.NCaltech101, { root = root, train = false })
end

function TestOthers:test_nmnist()
  local root = folder .. "/nmnist"
  for _, part in ipairs { "Train", "Test" } do s.make(root .. "/" .. part, { "0", "1" }, { 1, 2 }, "%.0s%05d.bin", 34, 34) end
  local function one(options)
    options.root, options.T = root, 2
    return data.NMNIST(options)
  end
  local path = root .. "/Test/1/00002.bin"
  local e = s.events(4, 200, 34, 34, 300000)
  assert(data.write_events(path, e))
  local set = one { train = false }
  lu.assertEquals({ #set, set.split, set[4].name, set.shape, #one {} }, { 4, "official test", "1/00002.bin", { 2, 34, 34 }, 4 })
  same(set[4].x, data.integrate(data.read_events(path, { width = 34, height = 34 }), { T = 2 }))
  local still = data.read_events(path, { width = 34, height = 34, stabilize = true })
  same(one { train = false, stabilize = true }[4].x, data.integrate(still, { T = 2 }))
  local first = data.read_events(path, { width = 34, height = 34, end_us = 100000 })
  local short = one { train = false, first_saccade = true }
  lu.assertEquals(short:events(4).t:totable(), first.t:totable())
  lu.assertTrue(#first.t:totable() < 200 and #first.t:totable() > 0)
  same(short[4].x, data.integrate(first, { T = 2 }))
  s.raises("NMNIST: split: expected one of 'official', got 'trt'", data.NMNIST, { root = root, split = "trt" })
end

function TestOthers:test_gesture()
  local root = folder .. "/gesture"
  assert(os.execute("mkdir " .. root))
  s.write(root .. "/user01_led.aedat", s.aedat3)
  s.write(root .. "/user01_led_labels.csv", "class,startTime_usec,endTime_usec\n1,17,18\n11,18,30\n3,1000,2000\n")
  s.write(root .. "/trials_to_train.txt", "user01_led.aedat\n\n")
  s.write(root .. "/trials_to_test.txt", "user02_led.aedat\n")
  local function one(options)
    options.root, options.T = root, 1
    return data.DVSGesture(options)
  end
  s.raises("user01_led.aedat: no events between start_us and end_us", s.epoch, one {})
  local set = one { policy = "lenient" }
  lu.assertEquals({ #set, #set.classes, set.classes[1], set.classes[11], set.split },
    { 3, 11, "hand clapping", "random other gestures", "official train" })
  local y = select(2, s.epoch(set))
  lu.assertEquals({ y:totable(), set[2].name, set[2].class }, { { 0, 10, 2 }, "user01_led.aedat#2", "random other gestures" })
  lu.assertEquals({ set:events(1).x:totable(), set:events(2).x:totable(), set:events(3).x:totable() }, { { 5 }, { 127 }, {} })
  lu.assertEquals({ set[1].x[2][7][6]:item(), set[1].x:sum():item(), set[2].x[1][1][128]:item(), set[3].x:sum():item() }, { 1, 1, 1, 0 })
  lu.assertStrContains(set:describe(), "random other gestures 1")
  -- folders 0 to 10 by the order of their names: 0, 1, 10, 2 ...
  local sj = one { labels = "spikingjelly", policy = "lenient" }
  lu.assertEquals(select(2, s.epoch(sj)):totable(), { 0, 2, 3 })
  lu.assertEquals({ sj.classes[1], sj.classes[3], sj[2].class, sj[3].class },
    { "hand clapping", "random other gestures", "random other gestures", set[3].class })
  s.raises("user02_led_labels.csv", data.DVSGesture, { root = root, train = false })
  s.raises("DVSGesture: labels: expected one of 'class', 'spikingjelly', got 'name'", data.DVSGesture, { root = root, labels = "name" })
  s.write(root .. "/trials_to_test.txt", "\n")
  s.raises("trials_to_test.txt: damaged file: byte 1: no names", data.DVSGesture, { root = root, train = false })
end

function TestOthers:test_shd()
  local root = folder .. "/shd"
  assert(os.execute(("mkdir %s && cp %sref/shd.h5 %s/shd_train.h5"):format(root, arg[0]:match "^(.*/)" .. "../", root)))
  local set = data.SHD { root = root, T = 2, batch_size = 3 }
  lu.assertEquals({ #set, set.shape, #set.classes, set[1].y, set[2].y, set[3].class }, { 3, { 1, 1, 700 }, 20, 19, 0, set.classes[8] })
  local x, y = s.epoch(set)
  lu.assertEquals({ x.shape, y:totable() }, { { 2, 3, 1, 1, 700 }, { 19, 0, 7 } })
  for k = 1, 3 do same(x:select(2, k), data.integrate(set:events(k), { T = 2, polarity = "merged" })) end
  lu.assertEquals({ x:sum():item(), x[1][2]:sum():item() }, { 8, 0 }) -- the second sample is silent
  lu.assertStrContains(set:describe(), "3 events in ")
  local lines = s.printed(set.show, set, 1, { width = 70, file = root .. "/a.png" })
  lu.assertEquals({ #lines[2], data.read_image(root .. "/a.png").shape }, { 70, { 3, 2, 700 } }) -- a line for each frame
  s.raises("SHD: shd_test.h5 is not found in", data.SHD, { root = root, train = false })
end

TestEventFolder = {}

function TestEventFolder:test_own_parts_and_splits()
  local root = folder .. "/own"
  s.make(root .. "/train", { "a", "b" }, { 1, 2 }, "%.0s%d.bin", 30, 20)
  local function one(options)
    for key, value in pairs { root = root, T = 2, width = 30, height = 20 } do options[key] = options[key] or value end
    return data.EventFolder(options)
  end
  s.raises("EventFolder: root: expected " .. root .. "/test or Test, since there is " .. root .. "/train", one, { train = false })
  s.make(root .. "/Test", { "a", "b" }, { 3 }, "%.0s%d.bin", 30, 20)
  local train, test = one {}, one { train = false, name = "mine" }
  lu.assertEquals({ #train, train.split, tostring(train):match "^[^:]+", #test, test.split, tostring(test):match "^[^:]+" },
    { 4, "folder train", "own train", 2, "folder Test", "mine test" })
  lu.assertEquals({ train.shape, test[2].name }, { { 2, 20, 30 }, "b/3.bin" })
  lu.assertEquals({ one { split = "tebn", train = false }.split }, { "tebn: test" })
  local flat = one { root = root .. "/train", split = "random", share = 0.5, split_seed = 4 }
  lu.assertEquals({ #flat, flat.split }, { 2, "random 0.5, seed 4: train" })
  s.raises("outside of the sensor of 25 x 20", one, { width = 25 })
  s.raises("EventFolder: root: no folder '/nowhere'", data.EventFolder, { root = "/nowhere" })
  s.raises("EventFolder: root: expected a string, got nothing", data.EventFolder, {})
end

function TestEventFolder:test_formats()
  local root = folder .. "/formats"
  assert(os.execute(("mkdir -p %s/a %s-npz/a %s-npz/b"):format(root, root, root)))
  local e = s.events(1, 50, 40, 30)
  for _, name in ipairs { "1.aedat", "2.bin", "3.npz" } do assert(data.write_events(root .. "/a/" .. name, e)) end
  local set = data.EventFolder { root = root .. "/.", split = "all", width = 128, height = 128, T = 2, limit = 3 }
  local want = data.integrate({ t = e.t, x = e.x, y = e.y, p = e.p, width = 128, height = 128 }, { T = 2 })
  for k = 1, 3 do same(set[k].x, want, set[k].name) end
  s.raises("2.bin", s.epoch, data.EventFolder { root = root, split = "all", width = 128, height = 128, format = "aedat2", limit = 3 })
  -- archives without a sensor are as large as the first needs
  root = root .. "-npz"
  data.write_npz(root .. "/a/1.npz", { t = e.t, x = e.x, y = e.y, p = e.p })
  data.write_npz(root .. "/b/2.npz", { t = e.t, x = e.x + 1, y = e.y, p = e.p })
  local archives = data.EventFolder { root = root, split = "all", T = 2, batch_size = 2 }
  local w = e.x:max():item() + 1
  lu.assertEquals(archives.shape, { 2, e.y:max():item() + 1, w })
  s.raises(("b/2.npz: expected [t, h, w, c] = [2, %d, %d, 2], as the first sample has, got [2, %d, %d, 2]"):format(archives.shape[2], w, archives.shape[2], w + 1),
    s.epoch, archives)
  lu.assertEquals(data.EventFolder { root = root, split = "all", width = 50, height = 40 }.shape, { 2, 40, 50 })
  -- they are in SpikingJelly's orientation, which TRT's code does not expect
  s.raises("EventFolder: preset: 'trt-code' expects recordings in the orientation 'etf', archives are in SpikingJelly's; layout = 'sj' takes them so",
    data.EventFolder, { root = root, split = "all", preset = "trt-code" })
  lu.assertEquals(data.EventFolder { root = root, split = "all", preset = "trt-code", layout = "sj" }.shape, { 2, 48, 48 })
end

function TestEventFolder:test_archives_of_frames()
  local root = folder .. "/frames"
  assert(os.execute(("mkdir -p %s/a %s/b"):format(root, root)))
  local whole, part = ms.arange(0, 3 * 2 * 4 * 5):view(3, 2, 4, 5), ms.randn(3, 2, 4, 5)
  data.write_npz(root .. "/a/1.npz", { frames = whole:to "uint8" })
  data.write_npz(root .. "/b/1.npz", { frames = part })
  local set = data.EventFolder { root = root, format = "frames", split = "all", batch_size = 2 }
  lu.assertEquals({ #set, set.T, set.shape }, { 2, 3, { 2, 4, 5 } })
  local x = s.epoch(set)
  same(x:select(2, 1), whole) -- counts, not divided
  same(x:select(2, 2), part)
  same(set[2].x, part)
  same(data.EventFolder { root = root, format = "frames", split = "all", size = 3 }:raw(2), data.resize(part, { size = 3 }))
  -- counts are reals where they are written so: rounded to bytes, sparse ones would be gone
  local sparse = part:gt(1):to "float32"
  data.write_npz(root .. "/b/1.npz", { frames = sparse })
  same(data.EventFolder { root = root, format = "frames", split = "all", size = 3 }:raw(2), data.resize(sparse, { size = 3 }))
  s.raises("frames/a/1.npz: expected 4 frames, got 3", data.EventFolder, { root = root, format = "frames", split = "all", T = 4 })
  lu.assertNotStrContains(set:describe(), "events/s")
  data.write_npz(root .. "/b/1.npz", { frames = ms.zeros(2, 2, 4, 5) })
  s.raises("b/1.npz: expected [t, h, w, c] = [3, 4, 5, 2], as the first sample has, got [2, 4, 5, 2]", s.epoch, set)
end

-- ---- damage ----

TestDamage = {}

local function damaged(name)
  return s.make(folder .. "/" .. name, { "a", "b" }, { 1, 2, 3 }, "%.0s%d.aedat", 128, 128)
end

-- A file that is damaged names itself, and the batch can be had when it is mended.
function TestDamage:test_in_the_middle_of_an_epoch()
  local root = damaged "middle"
  local path = root .. "/b/1.aedat"
  local good = s.read(path)
  for _, workers in ipairs { 0, 2 } do
    local function one() return data.EventFolder { root = root, split = "all", T = 2, bin = 8, batch_size = 2, workers = workers, shuffle = true, seed = 2 } end
    local want, set, got = {}, one(), {}
    for x in one() do want[#want + 1] = x end
    for _, bad in ipairs { good:sub(1, -3), false } do
      if bad then s.write(path, bad) else os.remove(path) end
      local ok, why = pcall(function()
        for x in set do got[#got + 1] = x end
      end)
      lu.assertFalse(ok)
      lu.assertStrContains(why, path)
      lu.assertStrContains(why, bad and "damaged file: byte" or "No such file")
      set:load_state_dict(set:state_dict()) -- the next loop goes on here
    end
    s.write(path, good)
    for x in set do got[#got + 1] = x end
    lu.assertEquals(#got, 3)
    for i = 1, 3 do same(got[i], want[i]) end
  end
end

function TestDamage:test_the_first_file_is_needed_to_open()
  local root = damaged "first"
  s.write(root .. "/a/1.aedat", s.aedat2)
  s.raises("EventFolder: read_events: " .. root .. "/a/1.aedat: damaged file: byte 65, record 3: time runs backwards", data.EventFolder, { root = root })
  -- and where its frames are what cannot be made
  s.write(root .. "/a/1.aedat", s.aedat2:sub(1, 41 + 3 * 8))
  s.raises("a/1.aedat: ", data.EventFolder, { root = root, preset = "sj-time", T = 10 })
  s.raises("EventFolder: list_folder: ", data.EventFolder, { root = root .. "/a" })
end

function TestDamage:test_policies()
  local root = damaged "policies"
  local path = root .. "/b/2.aedat"
  s.write(path, s.aedat2)
  local function one(policy) return data.EventFolder { root = root, split = "all", T = 2, policy = policy, batch_size = 6 } end
  local lenient = one "lenient"
  lu.assertEquals(lenient:repairs(), {})
  local x = s.epoch(lenient)
  lu.assertEquals(lenient:repairs(), { time = 2, special = 1 })
  same(x:select(2, 5), data.integrate(data.read_events(path, { policy = "lenient" }), { T = 2, policy = "lenient" }))
  lu.assertStrContains(lenient:describe(), "repairs: special 1\nrepairs: time 2")
  local oracle = s.epoch(one "oracle"):select(2, 5)
  same(oracle, data.integrate(data.read_events(path, { policy = "oracle" }), { T = 2, policy = "oracle" }))
  lu.assertEquals({ oracle:sum():item(), x:select(2, 5):sum():item() }, { 6, 5 }) -- with the special event
  s.raises(path .. ": damaged file", s.epoch, one())
  assert(os.execute(("ln -s gone %s/a/9.aedat"):format(root)))
  lu.assertStrContains(one "lenient":describe(), "repairs while it was listed: link 1\nframes by")
  s.raises("a/9.aedat: a symbolic link to nothing", one)
end

-- ---- messages ----

TestMessages = {}

function TestMessages:test_missing_sets()
  local function text(name, options)
    local ok, why = pcall(data[name], options)
    lu.assertFalse(ok)
    return why
  end
  for name, parts in pairs {
    CIFAR10DVS = { "<class>/cifar10_<class>_<0..999>.aedat", "airplane.zip, 747054427 bytes, md5 0afd5c4bf9ae06af762a77b180354fdd, https://ndownloader.figshare.com/files/7712788",
      "truck.zip, 950111954 bytes, md5 89f3922fd147d9aeff89e76a2b0b70a7, https://ndownloader.figshare.com/files/7712839", "scripts/get-data.sh CIFAR10DVS gets it" },
    NCaltech101 = { "Caltech101.zip, md5 66201824eabb0239c7ab992480b50ba3, https://data.mendeley.com/", "image_<0001...>.bin", "scripts/get-data.sh NCaltech101" },
    NMNIST = { "Train.zip, md5 20959b8e626244a1b502305a9e6e2031, https://", "Test.zip, md5 69ca8762b2fe404d9b9bad1103e97832, https://", "scripts/get-data.sh NMNIST" },
    DVSGesture = { "trials_to_train.txt and trials_to_test.txt", "By hand", "https://", "md5 8a5c71fb11e24e5ca5b11866ca6c00a1" },
    SHD = { "shd_train.h5.zip, md5 f3252aeb598ac776c1b526422d90eecb, https://zenkelab.org/datasets/shd_train.h5.zip", "scripts/get-data.sh SHD" },
  } do
    local why = text(name, { root = "/nowhere" })
    for _, part in ipairs(parts) do lu.assertStrContains(why, part) end
    for _, part in ipairs { name .. ": ", "not found in\n  /nowhere\n", 'root = "..."', "MOONSPIKE_DATA", "test_data_recordings.lua:" } do lu.assertStrContains(why, part) end
  end
  local code, out = s.run("-e", "MOONSPIKE_DATA=/here", [["require('moonspike').data.NMNIST {}"]])
  lu.assertEquals(code, 1)
  for _, part in ipairs { "  /here\n  /here/NMNIST\n", "Expected there: Train/<digit>" } do lu.assertStrContains(out, part) end
  code, out = s.run("-e", "MOONSPIKE_DATA=", [["require('moonspike').data.NMNIST {}"]])
  lu.assertStrContains(out, "(no folder: neither root nor MOONSPIKE_DATA is given)")
  lu.assertEquals(code, 1)
end

function TestMessages:test_options()
  s.raises("CIFAR10DVS: unknown option 'splits' (known: T, augment, balanced, batch_size, bin, cache, drop, drop_last, duration_us, events, frames, layout, " ..
    "limit, mean, policy, preset, resident, resize, root, seed, share, shuffle, size, split, split_seed, std, train, transform, workers)", cifar, { splits = 1 })
  for text, options in pairs {
    ["CIFAR10DVS: preset: expected one of sj-duration, sj-number, sj-time, tet-pt, tonic-event-bins, tonic-time-bins, trt-code, trt-paper, got 'trt'"] = { preset = "trt" },
    ["CIFAR10DVS: preset: expected a string, got 3"] = { preset = 3 }, ["CIFAR10DVS: T: expected an integer >= 1 and <= 65536, got 0"] = { T = 0 },
    ["CIFAR10DVS: T: expected an integer >= 1 and <= 65536, got 100000"] = { T = 100000 },
    ["CIFAR10DVS: policy: expected one of 'strict', 'lenient', 'oracle', got 'loose'"] = { policy = "loose" },
    ["CIFAR10DVS: split: expected one of all, floor, random"] = { split = "official" }, ["CIFAR10DVS: share: expected a number > 0 and < 1, got 1"] = { share = 1 },
    ["CIFAR10DVS: drop: expected one of 'none', 'time', 'area', 'random', 'any', got 'all'"] = { drop = "all" },
    ["CIFAR10DVS: resident: expected samples in memory or in a cache, got files"] = { resident = true },
    ["CIFAR10DVS: unknown option 'polarities' (known: "] = { frames = { polarities = 1 } },
    ["CIFAR10DVS: mean: expected a number or a table of 2, one for each channel, got 3"] = { mean = { 1, 2, 3 } },
    ["CIFAR10DVS: augment: unknown option 'turn'"] = { augment = { turn = 1 } }, ["CIFAR10DVS: size: expected an integer >= 1, got 0"] = { size = 0 },
  } do
    s.raises(text, function()
      for _ in cifar(options) do break end
    end)
  end
  s.raises("CIFAR10DVS train: index: expected 1 to 30, got 31", function() return cifar()[31] end)
  s.raises("CIFAR10DVS: " .. dvs .. ": expected the classes airplane, automobile,", (function()
    assert(os.execute(("mkdir %s/plane && cp %s/cat/*_0.aedat %s/plane"):format(dvs, dvs, dvs)))
    return cifar
  end)())
  assert(os.execute(("rm -r %s/plane"):format(dvs)))
end

local code = lu.LuaUnit.run()
s.remove(folder)
os.exit(code == 0)
