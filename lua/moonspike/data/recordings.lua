-- Sets of recordings of event cameras: found in their folders, split by a convention with a name, made into frames by the threads.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Set = require "moonspike.data.set"
local find = require "moonspike.data.find"
local splits = require "moonspike.data.splits"
local cache = require "moonspike.data.cache"

local recordings = {}

-- What every set of recordings takes besides the options of all sets. nil: what the preset says.
local framing = {
  train = o.boolean(true), root = o.string(nil), T = o.integer(nil, { from = 1, to = 65536 }), preset = o.string "sj-number", duration_us = o.integer(nil, { from = 1 }),
  size = o.integer(nil, { from = 1 }), resize = o.choice(nil, { "none", "bilinear", "plain", "nearest", "LA" }), bin = o.pair(nil, { from = 1 }),
  policy = o.choice("strict", { "strict", "lenient", "oracle" }), layout = o.choice(nil, { "sj", "jaer", "etf", "trt" }), frames = o.table(nil),
  drop = o.choice("none", { "none", "time", "area", "random", "any" }), events = o.table(nil), cache = o.string(nil),
  split = o.where(nil, "the name of a split", function(v) return type(v) == "string" end), share = o.number(nil, { above = 0, below = 1 }),
  split_seed = o.integer(0),
}

local function options(extra)
  local all = {}
  for key, rule in pairs(framing) do all[key] = rule end
  for key, rule in pairs(extra or {}) do all[key] = rule end
  return Set.options(all)
end

-- list: { paths, labels (integers), names, classes, start_us, end_us (lists or nil), members (list from 1 or nil: all), split, folder, shd }.
local function make(where, name, list, opt, sensor)
  local preset = core.data.frame_presets()[opt.preset]
  if not preset then o.fail("%s: preset: expected one of %s, got '%s'", where, table.concat(o.keys(core.data.frame_presets()), ", "), opt.preset) end
  local how = { preset = opt.preset, T = opt.T, duration_us = opt.duration_us, policy = opt.policy, layout = opt.layout, resize = opt.resize,
    size = opt.size, bin = opt.bin, steps = opt.T, drop = opt.drop }
  if opt.size and not opt.resize and preset.size == 0 then how.resize = "bilinear" end
  for _, extra in ipairs { sensor or {}, opt.frames or {}, opt.events or {} } do
    for _, key in ipairs(o.keys(extra)) do how[key] = extra[key] end
  end
  if not opt.layout and preset.layout ~= "sj" and not list.npz_frames and list.paths and list.paths[1]:match "%.npz$" then
    o.fail("%s: preset: '%s' expects recordings in the orientation '%s', archives are in SpikingJelly's; layout = 'sj' takes them so", where,
      opt.preset, preset.layout)
  end
  local int = { dtype = "int64", device = "cpu" }
  local labels
  if list.shd then
    how.shd = list.shd
  else
    labels = core.tensor.tensor(list.labels, int)
    how.paths, how.labels = list.paths, labels
    if list.start_us then how.start_us, how.end_us = core.tensor.tensor(list.start_us, int), core.tensor.tensor(list.end_us, int) end
    if list.npz_frames then how.frames = true end
  end
  local done, source = pcall(core.data.event_source, how)
  if not done then o.fail("%s: %s", where, (tostring(source):gsub("^event_source: ", ""):gsub("^recordings: ", ""))) end
  labels = labels or source:labels()
  local most = labels:max():item()
  if most >= #list.classes then o.fail("%s: labels: expected 0 to %d, got %d", where, #list.classes - 1, most) end
  local parts = { name = name, source = source, labels = labels, classes = list.classes, split = list.split, folder = list.folder,
    names = function(i) return list.names and list.names[i] or tostring(i) end, notes = list.notes or {} }
  table.insert(parts.notes, ("frames by '%s', policy '%s'"):format(opt.preset, opt.policy))
  if list.members then parts.members = core.tensor.tensor(list.members, int):add(-1) end
  local post = (opt.frames or {}).post or preset.post
  parts.scale = post == "max" and 255 or 1 -- bytes that are shares of a maximum, or counts
  if not list.npz_frames then
    parts.events = function(self, i) return core.data.source_events(source, self.members[self:check_index(i)]:item() + 1) end
  end
  if opt.cache then cache.use(where, parts, list, how, opt) end
  return Set.new(where, parts, opt)
end

-- Members and the split's name, for files without parts of their own.
local function divide(where, list, opt, default)
  local files = {}
  for i, name in ipairs(list.names) do files[i] = { name = name:match "[^/]*$", label = list.labels[i] } end
  list.members, list.split = splits.apply(where, files, { split = opt.split or default, share = opt.share, split_seed = opt.split_seed, train = opt.train })
end

-- Files below a folder with one folder for each class.
local function listed(where, root, policy) return find.listed(where, { root }, { ".aedat", ".bin", ".mat", ".npz" }, policy) end

local function expect_classes(where, list, want)
  if table.concat(list.classes, " ") ~= table.concat(want, " ") then
    o.fail("%s: %s: expected the classes %s, got %s", where, list.folder, table.concat(want, ", "), table.concat(list.classes, ", "))
  end
end

-- ---- CIFAR10-DVS ----

local cifar10 = { "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck" }
local cifar10dvs_spec = options()

function recordings.CIFAR10DVS(opts)
  local opt = o.read("CIFAR10DVS", opts, cifar10dvs_spec)
  local folders = find.folders("CIFAR10DVS", opt.root)
  local root = find.first(folders, { "airplane" }) or find.missing("CIFAR10DVS", folders)
  local list = listed("CIFAR10DVS", root, opt.policy)
  expect_classes("CIFAR10DVS", list, cifar10)
  divide("CIFAR10DVS", list, opt, "trt")
  return make("CIFAR10DVS", "CIFAR10DVS " .. (opt.train and "train" or "test"), list, opt, { width = 128, height = 128 })
end

-- ---- N-Caltech101 ----

local ncaltech_spec = options()

function recordings.NCaltech101(opts)
  local opt = o.read("NCaltech101", opts, ncaltech_spec)
  local folders = find.folders("NCaltech101", opt.root)
  local root = find.first(folders, { "yin_yang" }) or find.missing("NCaltech101", folders)
  local list = listed("NCaltech101", root, opt.policy)
  divide("NCaltech101", list, opt, "spikingjelly")
  return make("NCaltech101", "NCaltech101 " .. (opt.train and "train" or "test"), list, opt, { width = 240, height = 180 })
end

-- ---- N-MNIST ----

local nmnist_spec = options { split = o.choice(nil, { "official" }), stabilize = o.boolean(false), first_saccade = o.boolean(false) }

function recordings.NMNIST(opts)
  local opt = o.read("NMNIST", opts, nmnist_spec)
  local part = opt.train and "Train" or "Test"
  local folders = find.folders("NMNIST", opt.root)
  local root = find.first(folders, { part }) or find.missing("NMNIST", folders)
  local list = listed("NMNIST", root .. "/" .. part, opt.policy)
  list.split = "official " .. part:lower()
  if opt.first_saccade then
    list.start_us, list.end_us = {}, {}
    for i = 1, #list.paths do list.start_us[i], list.end_us[i] = 0, 100000 end
  end
  return make("NMNIST", "NMNIST " .. part:lower(), list, opt, { width = 34, height = 34, stabilize = opt.stabilize })
end

-- ---- DVS128 Gesture ----

local gestures = { "hand clapping", "right hand wave", "left hand wave", "right hand clockwise", "right hand counter clockwise", "left hand clockwise",
  "left hand counter clockwise", "forearm roll", "drums", "guitar", "random other gestures" }
local gesture_spec = options { split = o.choice(nil, { "official" }), labels = o.choice("class", { "class", "spikingjelly" }) }

-- SpikingJelly numbers the folders 0 to 10 in the order of their names: 0, 1, 10, 2 ...
local function by_name(count)
  local names, rank = {}, {}
  for i = 0, count - 1 do names[#names + 1] = tostring(i) end
  table.sort(names)
  for i, name in ipairs(names) do rank[tonumber(name)] = i - 1 end
  return rank
end

function recordings.DVSGesture(opts)
  local opt = o.read("DVSGesture", opts, gesture_spec)
  local folders = find.folders("DVSGesture", opt.root)
  local trials = opt.train and "trials_to_train.txt" or "trials_to_test.txt"
  local root, path = find.first(folders, { trials })
  if not root then find.missing("DVSGesture", folders) end
  local names, why = core.data.read_gesture_trials(path)
  if not names then o.fail("DVSGesture: %s", why) end
  local list = { paths = {}, labels = {}, names = {}, start_us = {}, end_us = {}, folder = root, split = "official " .. (opt.train and "train" or "test") }
  local rank = opt.labels == "spikingjelly" and by_name(#gestures) or nil
  for _, name in ipairs(names) do
    local rows
    rows, why = core.data.read_gesture_labels(("%s/%s_labels.csv"):format(root, name:match "^(.*)%.aedat$" or name))
    if not rows then o.fail("DVSGesture: %s", why) end
    for k, row in ipairs(rows) do
      local n = #list.paths + 1
      list.paths[n], list.names[n] = root .. "/" .. name, ("%s#%d"):format(name, k)
      list.labels[n] = rank and rank[row.label] or row.label
      list.start_us[n], list.end_us[n] = row.start_us, row.end_us
    end
  end
  list.classes = gestures
  if rank then
    list.classes = {}
    for label, at in pairs(rank) do list.classes[at + 1] = gestures[label + 1] end
  end
  return make("DVSGesture", "DVSGesture " .. (opt.train and "train" or "test"), list, opt, { width = 128, height = 128 })
end

-- ---- SHD ----

local shd_spec = options { split = o.choice(nil, { "official" }) }

function recordings.SHD(opts)
  local opt = o.read("SHD", opts, shd_spec)
  local file = opt.train and "shd_train.h5" or "shd_test.h5"
  local folders = find.folders("SHD", opt.root)
  local root, path = find.first(folders, { file })
  if not root then find.missing("SHD", folders, file .. " is") end
  local classes = {}
  for i = 0, 19 do classes[i + 1] = ("%s %d"):format(i < 10 and "English" or "German", i % 10) end
  return make("SHD", "SHD " .. (opt.train and "train" or "test"), { shd = path, classes = classes, folder = root,
    split = "official " .. (opt.train and "train" or "test") }, opt, { polarity = "merged" })
end

-- ---- any folder ----

local folder_spec = options { root = o.string(o.required), name = o.string(nil), width = o.integer(nil, { from = 1 }), height = o.integer(nil, { from = 1 }),
  format = o.choice("auto", { "auto", "aedat2", "aedat3", "atis", "mat5", "npz", "frames" }) }

function recordings.EventFolder(opts)
  local opt = o.read("EventFolder", opts, folder_spec)
  local root, part = opt.root, opt.train and "train" or "test"
  if not core.system.exists(root) then o.fail("EventFolder: root: no folder '%s'", root) end
  local base, own = find.part("EventFolder", root, { "train", "Train" }, { "test", "Test" }, opt.train)
  local list = listed("EventFolder", base, opt.policy)
  if own and not opt.split then
    list.split = "folder " .. own
  else
    divide("EventFolder", list, opt, "spikingjelly")
  end
  local sensor = { width = opt.width, height = opt.height }
  if opt.format == "frames" then
    for _, key in ipairs { "duration_us", "bin", "layout", "frames", "events", "width", "height" } do
      if opt[key] ~= nil then o.fail("EventFolder: %s: expected nothing beside format = 'frames', got %s", key, o.show(opt[key])) end
    end
    list.npz_frames = true
  else
    sensor.format = opt.format
  end
  return make("EventFolder", ("%s %s"):format(opt.name or root:match "([^/]+)/*$", part), list, opt, sensor)
end

-- ---- help ----

local common = [==[


    Frames (T of them, [T, N, 2, H, W], channel 0 OFF, 1 ON) are made in the loader's threads by a preset of data.frame_presets(): "sj-number" (default), "sj-time",
    "sj-duration" (with duration_us; T frames are cut or filled up), "tet-pt", "trt-code", "trt-paper" ... size = 48 resizes them, resize: bilinear (antialiased), plain,
    nearest, LA, none; bin = 48 counts into coarser pixels; frames = { ... } further options of data.integrate, events = { ... } of data.read_events.
    policy: strict (damage is an error), lenient (repaired and counted: set:repairs()), oracle (as SpikingJelly). layout: orientation of AEDAT 2.0.
    drop = "any": EventDrop (events = { released = true }: as its authors' code). cache = "folder": frames without random choices are kept there as one .npy file, and mapped into memory the next time.
    split: a convention below, or the set's own; describe() prints its name and the hash of its members. set:events(i) gives the events of a sample.
]==] .. splits.text .. Set.help

doc.set(recordings.CIFAR10DVS, [[
    data.CIFAR10DVS{ train = true, root = nil, T = 10, preset = "sj-number", split = "trt", ... } -> set

    CIFAR10-DVS (Li et al. 2017): 10,000 AEDAT 2.0 recordings of 128 x 128 pixels, or SpikingJelly's events_np archives. scripts/get-data.sh CIFAR10DVS.
    There is no official split, and published ones differ: see below.]] .. common)
doc.set(recordings.NCaltech101, [[
    data.NCaltech101{ train = true, root = nil, T = 10, preset = "sj-number", split = "spikingjelly", ... } -> set

    N-Caltech101 (Orchard et al. 2015): 8,709 ATIS recordings in 101 classes, 240 x 180 pixels. scripts/get-data.sh NCaltech101.]] .. common)
doc.set(recordings.NMNIST, [[
    data.NMNIST{ train = true, root = nil, T = 10, preset = "sj-number", stabilize = false, first_saccade = false, ... } -> set

    N-MNIST (Orchard et al. 2015): 34 x 34 pixels, three saccades. stabilize undoes their movement. scripts/get-data.sh NMNIST.]] .. common)
doc.set(recordings.DVSGesture, [[
    data.DVSGesture{ train = true, root = nil, T = 10, preset = "sj-number", labels = "class", ... } -> set

    DVS128 Gesture (Amir et al. 2017): AEDAT 3.1 with labels in csv; a sample is a window of a recording. labels = "spikingjelly" numbers the classes as that
    library does (0, 1, 10, 2 ...).]] .. common)
doc.set(recordings.SHD, [[
    data.SHD{ train = true, root = nil, T = 10, preset = "sj-number", ... } -> set

    Spiking Heidelberg Digits (Cramer et al. 2020): spikes of 700 cochlear channels as frames [T, N, 1, 1, 700]. scripts/get-data.sh SHD checks the
    archives before it unpacks them: the published checksums are theirs. HDF5 is read as h5py and PyTables write it by default (superblock 0 or 1; gzip and
    shuffle); a file in its later format is an error that says so.]] .. common)
doc.set(recordings.EventFolder, [[
    data.EventFolder{ root = "folder", train = true, T = 10, preset = "sj-number", width = nil, height = nil, format = "auto", ... } -> set

    Your own recordings: root/<class>/... with .aedat, .bin (ATIS), .mat or .npz, or root/train and root/test (Train, Test) with classes below.
    width, height: of the sensor, where the format does not say. format = "frames": npz archives of frames, as SpikingJelly caches them.]] .. common)

return recordings
