-- Turns a set of still images into recordings of an event camera, in the formats and folders of the real sets.
--   moonspike scripts/make-events.lua --data FashionMNIST --out data/nmnist-fashion
--   moonspike scripts/make-events.lua --data FashionMNIST --profile rcls --limit 2000 --out data/dvs-fashion
-- saccade3: three saccades before 34 x 34 pixels, as N-MNIST: OUT/Train/<label>/00000.bin, OUT/Test/<label>/00000.bin
-- rcls:     six loops before 128 x 128 pixels, as CIFAR10-DVS: OUT/<class>/cifar10_<class>_0.aedat, without parts
-- May be stopped and started again: each file appears whole, and those that exist are left alone. What decides about them stands in OUT/settings.json.
local ms = require "moonspike"
local core = require "moonspike.core"

local fail = ms.arguments.fail

local function options()
  local opt = ms.arguments {
    usage = "moonspike scripts/make-events.lua --out FOLDER [options]",
    { "data", "FashionMNIST", "a data set of ms.data with still images of uint8" }, { "root", "", "its folder, where it is not in the usual place" },
    { "part", "", "train, test or both (saccade3: both, rcls: train)", choices = { "train", "test", "both" } },
    { "profile", "saccade3", "how the camera moves", choices = { "saccade3", "rcls" } }, { "out", "", "folder of the recordings" },
    { "limit", 0, "only the first n images of each part, 0: all", from = 0 }, { "seed", 0, "of thresholds and noise", from = 0 },
    { "noise", 0, "spurious events of each pixel a second", from = 0 }, { "threshold", 16384, "in 1/65536 of the logarithm of brightness", from = 256 },
    { "workers", 0, "threads, 0: as many as moonspike uses", from = 0 },
  }
  if opt.out == "" then fail "--out: expected a folder, got nothing" end
  if opt.part == "" then opt.part = opt.profile == "rcls" and "train" or "both" end
  return opt
end

-- Images first + 1 to first + n of a set: [n, C, H, W]
local function pictures(set, first, n)
  local list = {}
  for k = 1, n do list[k] = set:raw(first + k) end
  return ms.cat(list, 1)
end

-- Grey in the weights of ITU-R 601, rounded as Pillow does (exact: every sum fits a float); the middle square.
local function grey(images)
  local size = images.shape
  local h, w = size[#size - 1], size[#size]
  local side = math.min(h, w)
  if h > side then images = images:narrow(-2, (h - side) // 2 + 1, side) end
  if w > side then images = images:narrow(-1, (w - side) // 2 + 1, side) end
  if #size == 3 then return images end
  if size[2] == 1 then return images:select(2, 1) end
  local x = images:float()
  local sum = x:select(2, 1) * 19595 + x:select(2, 2) * 38470 + x:select(2, 3) * 7471 + 32768
  return (sum / 65536):floor():to "uint8"
end

local function open(opt, part)
  local make = rawget(ms.data, opt.data)
  if type(make) ~= "function" then fail("--data: expected a data set of ms.data, got %s", opt.data) end
  local set = ms.arguments.try("--data", make, { train = part == "train", root = opt.root ~= "" and opt.root or nil })
  if set.frames ~= 1 or set.dtype ~= "uint8" then fail("--data: %s has no still images of uint8", opt.data) end
  return set
end

-- Recordings of one folder are made alike: the settings are kept there, and others are refused.
local function keep_settings(opt)
  local path, settings = opt.out .. "/settings.json", {}
  local names = { "data", "profile", "seed", "noise", "threshold" }
  for _, name in ipairs(names) do settings[name] = opt[name] end
  local file <close> = io.open(path)
  if file then
    local before = ms.arguments.try(path, ms.json.decode, file:read "a")
    for _, name in ipairs(names) do
      if before[name] ~= opt[name] then
        fail("--%s: expected %s, with which the recordings in %s were made, got %s: choose another folder", name, before[name], opt.out, opt[name])
      end
    end
  elseif core.data.list_folder { roots = { opt.out }, extensions = { ".bin", ".aedat" } } then
    print(("%s holds recordings whose settings are not known"):format(opt.out))
  else
    ms.arguments.try("--out", ms.system.mkdir, opt.out)
    ms.arguments.try("--out", ms.system.write_file, path, ms.json.encode(settings) .. "\n")
  end
end

-- Where image i of a part goes; `count` is how many of its class there were before, in parts before too.
local function path_of(opt, set, part, i, label, count)
  if opt.profile == "saccade3" then
    local folder = ("%s/%s/%d"):format(opt.out, part == "train" and "Train" or "Test", label)
    return folder, ("%s/%05d.bin"):format(folder, i - 1)
  end
  local class = (set.classes and set.classes[label + 1] or tostring(label)):gsub("[^%w_-]", "_")
  local folder = opt.out .. "/" .. class
  return folder, ("%s/cifar10_%s_%d.aedat"):format(folder, class, count)
end

local terminal, clock = ms.system.isatty(1), ms.system.clock

local function report(state, last)
  local now = clock()
  if not last and now - state.shown < (terminal and 0.2 or 10) then return end
  state.shown = now
  local took = now - state.started
  local line = ("%s %d/%d  written %d  %.0f events each"):format(state.part, state.done, state.total, state.written,
    state.events / math.max(1, state.written))
  if last then
    line = ("%s  took %.1f s"):format(line, took)
  elseif state.done > 0 then
    line = ("%s  left %.0f s"):format(line, took / state.done * (state.total - state.done))
  end
  io.write(terminal and "\r\27[K" or "", line, (last or not terminal) and "\n" or "")
  io.flush()
end

local function convert(opt, part, set, counts)
  local labels, total = set.labels:index_select(1, set.members):totable(), #set
  if opt.limit > 0 then total = math.min(total, opt.limit) end
  local state = { part = part, done = 0, total = total, written = 0, events = 0, started = clock(), shown = clock() }
  local chunk, made = opt.profile == "rcls" and 32 or 512, {}
  for first = 0, total - 1, chunk do
    local n, paths = math.min(chunk, total - first), {}
    for k = 1, n do
      local i = first + k
      local label = labels[i]
      local folder
      folder, paths[k] = path_of(opt, set, part, i, label, counts[label] or 0)
      counts[label] = (counts[label] or 0) + 1
      if not made[folder] then made[folder] = ms.system.mkdir(folder) or fail("--out: cannot make %s", folder) end
    end
    local written, events = ms.data.make_events {
      images = grey(pictures(set, first, n)), paths = paths, profile = opt.profile, first = first, seed = opt.seed,
      noise_hz = opt.noise, threshold = opt.threshold, workers = opt.workers,
    }
    if not written then fail("%s", events) end
    state.done, state.written, state.events = state.done + n, state.written + written, state.events + events
    report(state)
  end
  report(state, true)
end

local opt = options()
if opt.workers == 0 then opt.workers = core.device.threads() end
local sets, counts = {}, {}
local parts = opt.part == "both" and { "train", "test" } or { opt.part }
for i, part in ipairs(parts) do sets[i] = open(opt, part) end
keep_settings(opt)
for i, part in ipairs(parts) do convert(opt, part, sets[i], counts) end
