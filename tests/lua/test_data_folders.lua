-- Sets of image files and CIFAR's archives, where files are looked for, and scripts/get-data.sh.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "recordings"
local ms = require "moonspike"
local core = require "moonspike.core"
local data = ms.data

local tests = arg[0]:match "^(.*)lua/[^/]*$"
local folder, same = s.folder(), s.same

local function pictures()
  for _, pair in ipairs(core.device.versions()) do
    if (pair[1] == "libjpeg-turbo" or pair[1] == "libpng") and pair[2] == "none" then lu.skip "built without libjpeg-turbo or libpng" end
  end
end

-- A picture of 3 x h x w bytes that k tells apart.
local function picture(k, h, w)
  local v = ms.arange(0, 3 * h * w) * (7 + 2 * k) + 31 * k
  return (v - (v / 256):floor() * 256):view(3, h, w):to "uint8"
end

local function write(path, k, h, w)
  assert(os.execute(("mkdir -p '%s'"):format(path:match "^(.*)/")))
  assert(data.write_image(path, picture(k, h or 20, w or 30)))
end

-- (bytes / 255 - mean) / std
local function normal(bytes, mean, std)
  local device = core.device.current()
  local function channels(v) return ms.tensor(v):view(#v, 1, 1):to(device) end
  return (bytes:to(device):float() / 255 - channels(mean)) / channels(std)
end

local mean, std = { 0.485, 0.456, 0.406 }, { 0.229, 0.224, 0.225 }

TestImageFolder = {}
function TestImageFolder:setUp()
  pictures()
  self.root = folder .. "/pictures"
  if core.system.exists(self.root) then return end
  local k = 0
  for _, part in ipairs { "train", "val" } do
    for _, class in ipairs { "Zebra", "ant" } do
      for i = 1, part == "train" and 4 or 2 do
        k = k + 1
        write(("%s/%s/%s/%s%d.png"):format(self.root, part, class, i == 3 and "deep/" or "", i), k, 20 + k, 30)
      end
    end
  end
  s.write(self.root .. "/train/ant/5.JPG", s.read(tests .. "fuzz/corpus/jpeg/420.jpg"))
  s.write(self.root .. "/train/ant/notes.txt", "no picture")
end

local function images(self, options)
  local all = { root = self.root, size = 16 }
  for key, value in pairs(options or {}) do all[key] = value end
  return data.ImageFolder(all)
end

function TestImageFolder:test_test_pictures()
  local set = images(self, { train = false, batch_size = 3, T = 2 })
  lu.assertEquals({ #set, set.classes, set.shape, set.T, set.split, set.name }, { 4, { "Zebra", "ant" }, { 3, 16, 16 }, 2, "folder val", "pictures test" })
  local x, y = s.epoch(set)
  lu.assertEquals({ x.shape, y:totable() }, { { 2, 4, 3, 16, 16 }, { 0, 0, 1, 1 } })
  for k = 1, 4 do -- short side to 16 * 256 / 224 = 18, the centre cut out
    local file = data.read_image(set.folder .. "/" .. set[k].name)
    local small = data.resize(file, { short = 18 })
    local h, w = small.shape[2], small.shape[3]
    local function half(n) -- halves to even numbers
      local v = (n - 16) / 2
      return v % 1 == 0.5 and 2 * math.floor(v / 2 + 0.5) or math.floor(v)
    end
    local want = small:narrow(2, half(h) + 1, 16):narrow(3, half(w) + 1, 16)
    same(set:raw(k)[1], want, set[k].name)
    s.near(x[2][k], normal(want, mean, std), 1e-5)
    s.near(set[k].x, x[1][k], 1e-5)
  end
  same(x[1], x[2])
  local large = images(self, { train = false, size = 112 })
  local small = data.resize(data.read_image(large.folder .. "/" .. large[1].name), { short = 128 })
  same(large:raw(1)[1], small:narrow(2, 9, 112):narrow(3, (small.shape[3] - 112) // 2 + 1, 112))
  local whole = images(self, { train = false, size = 12, shorter = 12, filter = "bicubic", mean = 0, std = 1 })
  lu.assertEquals(whole:raw(1).shape, { 1, 3, 12, 12 })
end

function TestImageFolder:test_training_pictures()
  local set = images(self)
  lu.assertEquals({ #set, set[3].name, set[4].name, set[9].name, set:counts() }, { 9, "Zebra/4.png", "Zebra/deep/3.png", "ant/deep/3.png", { 4, 5 } })
  local first, second = s.epoch(images(self, { seed = 3, workers = 0, batch_size = 2 }))
  for _, workers in ipairs { 1, 3 } do
    local other = images(self, { seed = 3, workers = workers, batch_size = 4 })
    same(s.epoch(other), first)
    second = s.epoch(other)
  end
  lu.assertFalse(ms.equal(first, second)) -- other cuts in the next epoch
  local fixed = images(self, { random = false, T = 1 })
  same(s.epoch(fixed), (s.epoch(fixed)))
  lu.assertFalse(ms.equal(s.epoch(images(self, { rand_augment = { n = 2, m = 9 }, random = false, T = 1 })), s.epoch(fixed)))
  -- a validation part sees the pictures as a test does
  local _, validation = set:cut { validation = 0.5, seed = 1 }
  local x = s.epoch(validation)
  for k = 1, #validation do s.near(x[1][k], validation[k].x, 1e-5) end
  same(x, s.epoch(validation))
  s.raises("ImageFolder: cache: expected random = false, since a cache keeps one picture of each file", images, self, { cache = folder .. "/c" })
end

function TestImageFolder:test_grey()
  local set = images(self, { train = false, grey = true, T = 1 })
  lu.assertEquals(set.shape, { 1, 16, 16 })
  s.near(s.epoch(set):select(2, 1), (set:raw(1):float() / 255 - 0.449) / 0.226, 1e-5)
  local own = images(self, { train = false, grey = true, T = 1, mean = 0.5, std = { 2 } })
  s.near(s.epoch(own):select(2, 1), (own:raw(1):float() / 255 - 0.5) / 2, 1e-5)
end

function TestImageFolder:test_cache_and_position()
  local how = { train = true, random = false, cache = folder .. "/image-cache", batch_size = 2, shuffle = true, seed = 2, T = 1 }
  local files, cached = images(self, how), nil
  how.cache = nil
  files = images(self, how)
  how.cache = folder .. "/image-cache"
  cached = images(self, how)
  same(s.epoch(cached), (s.epoch(files)))
  lu.assertEquals(#s.files(how.cache), 2)
  how.rand_augment = { n = 2, m = 9, p = 1 } -- after the pictures that are kept
  local changed = s.epoch(images(self, how))
  lu.assertFalse(ms.equal(changed, (s.epoch(cached))))
  how.cache = nil
  same(s.epoch(images(self, how)), changed)
  how.cache, how.resident = folder .. "/image-cache", true
  same(s.epoch(images(self, how)), changed)
  how.rand_augment = nil
  local here = images(self, how)
  s.epoch(here)
  local state, rest, want
  for x in here do
    if state then rest = x break end
    state = here:state_dict()
  end
  cached:load_state_dict(state)
  for x in cached do want = x break end
  same(rest, want)
  lu.assertStrContains(here:describe(), "cached in " .. how.cache .. "/pictures-")
end

function TestImageFolder:test_damage()
  local root = folder .. "/damaged"
  for _, class in ipairs { "a", "b" } do
    for i = 1, 2 do write(("%s/%s/%d.png"):format(root, class, i), i) end
  end
  local jpeg = s.read(tests .. "fuzz/corpus/jpeg/420.jpg")
  s.write(root .. "/b/3.jpg", jpeg:sub(1, 700))
  local lenient = data.ImageFolder { root = root, size = 8, train = false, batch_size = 8 }
  s.epoch(lenient)
  lu.assertEquals(lenient:repairs(), { image = 1 })
  s.raises(root .. "/b/3.jpg: damaged file: byte 700", s.epoch, data.ImageFolder { root = root, size = 8, train = false, policy = "strict" })
  s.write(root .. "/b/3.jpg", "GIF89a")
  s.raises(root .. "/b/3.jpg: ", s.epoch, lenient)
  os.remove(root .. "/b/3.jpg")
  s.raises("b/3.jpg: No such file", s.epoch, lenient)
  assert(os.execute(("ln -s gone %s/a/9.png"):format(root)))
  local left_out = data.ImageFolder { root = root, size = 8, train = false }
  lu.assertEquals(#left_out, 4)
  lu.assertStrContains(left_out:describe(), "repairs while it was listed: link 1")
  s.raises("a/9.png: a symbolic link to nothing", data.ImageFolder, { root = root, policy = "strict" })
  os.remove(root .. "/a/9.png")
  s.raises("a class without files (", function()
    assert(os.execute(("mkdir %s/c"):format(root)))
    data.ImageFolder { root = root, policy = "strict" }
  end)
end

function TestImageFolder:test_parts_and_messages()
  lu.assertEquals({ #images(self, { root = self.root .. "/val", train = true }), images(self, { root = self.root .. "/val" }).split }, { 4, "all" })
  assert(os.execute(("mkdir -p %s/half && cp -r %s/train %s/half/train"):format(folder, self.root, folder)))
  s.raises(("ImageFolder: root: expected %s/half/val or test, since there is %s/half/train"):format(folder, folder), images, self,
    { root = folder .. "/half", train = false })
  s.raises("ImageFolder: root: no folder '/nowhere'", data.ImageFolder, { root = "/nowhere" })
  s.raises("ImageFolder: root: expected a string, got nothing", data.ImageFolder, {})
  s.raises("ImageFolder: unknown option 'crop' (known: T, augment, balanced, batch_size, cache, drop_last, filter, grey, limit, mean, name, policy, ", images, self,
    { crop = 1 })
  s.raises("ImageFolder: scale: expected a table of two numbers, got 0.5", images, self, { scale = 0.5 })
  s.raises("ImageFolder: ", images, self, { scale = { 1, 0.08 } })
  s.raises("ImageFolder: ", images, self, { size = 16, shorter = 12, train = false })
  s.raises("ImageFolder: filter: expected one of 'bilinear', 'bicubic', got 'nearest'", images, self, { filter = "nearest" })
  s.raises("ImageFolder: augment: rand_augment: unknown option 'q' (known: fill,", images, self, { rand_augment = { q = 2 } })
  s.raises("ImageFolder: augment: rand_augment: expected once, got it as an option, too", images, self,
    { rand_augment = {}, augment = { "rand_augment" } })
  s.raises("ImageFolder: augment: resized_crop: expected random = false, since the files are cut at random already", images, self,
    { augment = { resized_crop = true } })
end

-- Files and the same pixels in memory: the same boxes, ops and bytes.
function TestImageFolder:test_as_in_memory()
  local root, list = folder .. "/same", {}
  for i = 1, 6 do
    list[i] = picture(i, 22, 31)
    write(("%s/a/%d.png"):format(root, i), i, 22, 31)
  end
  for _, filter in ipairs { "bilinear", "bicubic" } do
    local rand = { n = 2, m = 9, std = 0.5, p = 1 }
    local usual = { seed = 5, batch_size = 4, shuffle = true, mean = 0, std = 1, T = 1 }
    local function with(options)
      for key, value in pairs(usual) do options[key] = value end
      return options
    end
    local files = data.ImageFolder(with { root = root, size = 17, filter = filter, scale = { 0.1, 0.9 }, rand_augment = rand, augment = { flip = true } })
    local memory = data.FromTensors(with { images = ms.stack(list), labels = ms.zeros(6):long(), augment = {
      { "resized_crop", 17, filter = filter, scale = { 0.1, 0.9 } }, { "rand_augment", n = 2, m = 9, std = 0.5, p = 1 }, { "flip" } } })
    local first, second = s.epoch(files)
    lu.assertEquals(first.shape, { 1, 6, 3, 17, 17 })
    same(s.epoch(memory), first)
    second = s.epoch(files)
    same(s.epoch(memory), second)
    lu.assertFalse(ms.equal(first, second))
  end
end

-- ---- ImageNet-100 ----

TestImageNet100 = {}
function TestImageNet100:setUp()
  pictures()
  self.root = folder .. "/imagenet"
  if core.system.exists(self.root) then return end
  write(self.root .. "/one.png", 1, 8, 8)
  -- the list of CMC, one that is Kaggle's in its four parts, a mixture
  local function classes(list, where)
    local lines = {}
    for i, name in ipairs(data.imagenet100_classes(list)) do
      local path = ("%s/%s/%s"):format(self.root, where(i), name)
      lines[i] = ("mkdir -p %s && ln -f %s/one.png %s/%s_1.JPEG"):format(path, self.root, path, name)
    end
    s.write(self.root .. "/make.sh", table.concat(lines, "\n"))
    assert(os.execute("sh " .. self.root .. "/make.sh"))
  end
  classes("CMC", function() return "cmc/val" end)
  classes("Kaggle", function(i) return ("kaggle/train.X%d"):format((i - 1) % 4 + 1) end)
  classes("Kaggle", function() return "kaggle/val.X" end)
  classes("CMC", function() return "mixed/train" end)
  classes("Kaggle", function() return "mixed/train" end)
end

function TestImageNet100:test_lists()
  -- crc32 of the published lists, sorted, a name a line
  for list, want in pairs { CMC = "077c5ee9", Kaggle = "e6ef79b3" } do
    lu.assertEquals(data.crc32(table.concat(data.imagenet100_classes(list), "\n") .. "\n"), want)
  end
  s.raises("imagenet100_classes: list: expected CMC or Kaggle, got TRT", data.imagenet100_classes, "TRT")
  local cmc = data.ImageNet100 { root = self.root .. "/cmc", train = false, size = 8, limit = 50 }
  lu.assertEquals({ #cmc, cmc.classes, cmc.split, cmc[7].y, cmc.shape }, { 50, data.imagenet100_classes "CMC", "official val", 6, { 3, 8, 8 } })
  lu.assertStrContains(cmc:describe(), "the classes are those of the list 'CMC'")
  local kaggle = data.ImageNet100 { root = self.root .. "/kaggle", size = 8, batch_size = 100, T = 1 }
  lu.assertEquals({ #kaggle, kaggle.classes, kaggle.split }, { 100, data.imagenet100_classes "Kaggle", "official train" })
  local x, y = s.epoch(kaggle)
  lu.assertEquals({ x.shape, y:totable() }, { { 1, 100, 3, 8, 8 }, ms.arange(0, 100):long():totable() })
  lu.assertEquals({ kaggle[2].name, kaggle[2].class }, { kaggle.classes[2] .. "/" .. kaggle.classes[2] .. "_1.JPEG", kaggle.classes[2] })
  lu.assertStrContains(kaggle:describe(), "the classes are those of the list 'Kaggle'")
  lu.assertEquals(#data.ImageNet100 { root = self.root .. "/kaggle", train = false }, 100)
end

function TestImageNet100:test_refused()
  s.raises("ImageNet100: list_folder: expected the 100 classes of CMC's list or those of Kaggle's, got 192 classes, of which 100 are in CMC's and 100 in Kaggle's",
    data.ImageNet100, { root = self.root .. "/mixed" })
  assert(os.execute(("mv %s/kaggle/train.X3 %s/kaggle/gone"):format(self.root, self.root)))
  s.raises("train.X3", data.ImageNet100, { root = self.root .. "/kaggle" })
  assert(os.execute(("mv %s/kaggle/gone %s/kaggle/train.X3"):format(self.root, self.root)))
  local ok, why = pcall(data.ImageNet100, { root = "/nowhere" })
  lu.assertFalse(ok)
  for _, part in ipairs { "ImageNet100: the data set is not found in\n  /nowhere\n  /nowhere/imagenet100\n", "train/<wnid>/*.JPEG", "https://image-net.org/download",
    'data.imagenet100_classes "CMC"', 'root = "..."' } do
    lu.assertStrContains(why, part)
  end
end

-- ---- CIFAR ----

TestCIFAR = {}

-- Files in the official layout with n records each; pixel i of record k of file f is (i + 3 k + 5 f) mod 256.
local function cifar(name, files, n, labels)
  local root = folder .. "/" .. name
  assert(os.execute("mkdir -p " .. root))
  for f, file in ipairs(files) do
    local records = {}
    for k = 1, n do
      local pixels = {}
      for i = 0, 3071 do pixels[i + 1] = string.char((i + 3 * k + 5 * f) % 256) end
      records[k] = labels(f, k) .. table.concat(pixels)
    end
    s.write(root .. "/" .. file, table.concat(records))
  end
  return root
end

local function pixel(f, k, c, row, column) return (1024 * c + 32 * row + column + 3 * k + 5 * f) % 256 end

function TestCIFAR:test_cifar10()
  local files = {}
  for i = 1, 5 do files[i] = ("data_batch_%d.bin"):format(i) end
  files[6] = "test_batch.bin"
  local root = cifar("cifar-10-batches-bin", files, 2, function(f, k) return string.char((f + k) % 10) end)
  s.write(root .. "/batches.meta.txt", table.concat(s.cifar10, "\n") .. "\n\n")
  local set = data.CIFAR10 { root = root, batch_size = 4, T = 2, workers = 2 }
  lu.assertEquals({ #set, set.classes, set.shape, set.split, set[3].y, set[3].class }, { 10, s.cifar10, { 3, 32, 32 }, "official train", 3, "cat" })
  lu.assertEquals(set:raw(3)[1][2][4][8]:item(), pixel(2, 1, 1, 3, 7)) -- in the order of the files
  local x, y = s.epoch(set)
  lu.assertEquals({ x.shape, y:totable() }, { { 2, 10, 3, 32, 32 }, { 2, 3, 3, 4, 4, 5, 5, 6, 6, 7 } })
  s.near(x[1][3], normal(set:raw(3)[1], { 0.4914, 0.4822, 0.4465 }, { 0.2023, 0.1994, 0.2010 }), 1e-5)
  s.near(set[3].x, x[2][3], 1e-5)
  local test = data.CIFAR10 { root = folder, train = false } -- the folder above does as well
  lu.assertEquals({ #test, test[1].y, test.split }, { 2, 7, "official test" })
  -- the archive as it is downloaded
  local packed = folder .. "/packed"
  assert(os.execute(("mkdir %s && tar -C %s -czf %s/cifar-10-binary.tar.gz cifar-10-batches-bin"):format(packed, folder, packed)))
  local archive = data.CIFAR10 { root = packed, batch_size = 4, T = 2 }
  same(s.epoch(archive), x)
  lu.assertEquals({ archive:hash(), archive.classes }, { set:hash(), s.cifar10 })
  local home = s.folder()
  assert(os.execute(("mkdir %s/CIFAR10 && cp %s/*.gz %s/CIFAR10"):format(home, packed, home)))
  lu.assertEquals({ s.run("-e", "MOONSPIKE_DATA=" .. home, [["print(#require('moonspike').data.CIFAR10 {})"]]) }, { 0, "10\n" })
  s.remove(home)
  -- damage
  s.write(root .. "/data_batch_3.bin", s.read(root .. "/data_batch_3.bin"):sub(1, -10))
  s.raises("data_batch_3.bin", data.CIFAR10, { root = root })
  local lenient = data.CIFAR10 { root = root, policy = "lenient" }
  lu.assertEquals(#lenient, 9)
  lu.assertStrContains(lenient:describe(), "repairs while it was read: truncated 3064")
  s.raises("data_batch_3.bin", data.CIFAR10, { root = root, policy = "oracle" })
  os.remove(root .. "/data_batch_2.bin")
  s.raises("data_batch_2.bin", data.CIFAR10, { root = root, policy = "lenient" })
end

function TestCIFAR:test_cifar100()
  local root = cifar("cifar-100-binary", { "train.bin", "test.bin" }, 3, function(f, k) return string.char(k, 10 * f + k) end)
  local set = data.CIFAR100 { root = root, T = 1 }
  lu.assertEquals({ #set, #set.classes, set[2].y, set[2].class }, { 3, 100, 12, "12" })
  local fine, coarse = {}, {}
  for i = 1, 100 do fine[i] = "fine" .. i - 1 end
  for i = 1, 20 do coarse[i] = "coarse" .. i - 1 end
  s.write(root .. "/fine_label_names.txt", table.concat(fine, "\n") .. "\n\n")
  s.write(root .. "/coarse_label_names.txt", table.concat(coarse, "\r\n") .. "\r\n")
  local test = data.CIFAR100 { root = root, T = 1, train = false }
  lu.assertEquals({ test[2].y, test[2].class }, { 22, "fine22" })
  local rough = data.CIFAR100 { root = root, T = 1, train = false, coarse = true }
  lu.assertEquals({ rough[2].y, rough[2].class, #rough.classes, select(2, s.epoch(rough)):totable() }, { 2, "coarse2", 20, { 1, 2, 3 } })
  s.near(rough[2].x[1][1][1], (pixel(2, 2, 0, 0, 0) / 255 - 0.5071) / 0.2675, 1e-5)
  s.raises("CIFAR10: unknown option 'coarse'", data.CIFAR10, { coarse = true })
end

function TestCIFAR:test_missing()
  for name, parts in pairs {
    CIFAR10 = { "170052171 bytes, md5 c32a1d4ab5d03f1284b67883e8d87530", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "data_batch_1.bin" },
    CIFAR100 = { "168513733 bytes, md5 03b5dce01913d631647c71ecec9e9cb8", "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "train.bin" },
  } do
    for _, root in ipairs { "/nowhere", tests } do
      local ok, why = pcall(data[name], { root = root })
      lu.assertFalse(ok)
      parts[4], parts[5], parts[6] = name .. ": ", " not found in", "scripts/get-data.sh " .. name .. " gets it"
      for _, part in ipairs(parts) do lu.assertStrContains(why, part) end
    end
  end
end

-- ---- scripts/get-data.sh, with addresses on this machine ----

TestGetData = {}

local script = tests .. "../scripts/get-data.sh"

local function has(program) return os.execute("command -v " .. program .. " >/dev/null") end

function TestGetData:setUp()
  if not (has "curl" and has "unzip" and has "zip" and has "bash") then lu.skip "needs curl, zip, unzip and bash" end
  self.folder = s.folder()
  -- the host with two more sets in its list
  s.write(self.folder .. "/host", ([=[#!/bin/sh
shift
exec %s -e "require 'moonspike' local sets = require 'moonspike.data.find'.sets
sets.Small = { layout = 'a.bin', files = { { 'a.bin', bytes = 6, md5 = 'b1946ac92492d2347c6235b4d2611184', url = 'file://%s/from/a.bin' } } }
sets.Packed = { layout = 'x/1.txt', unpack = true, files = { { 'p.zip', sha256 = '$(sha256sum %s/from/p.zip | cut -d' ' -f1)', url = 'file://%s/from/p.zip' } } }
$1"
]=]):format(s.host, self.folder, self.folder, self.folder))
  assert(os.execute(("cd %s && chmod +x host && mkdir -p from/x && printf 'hello\\n' >from/a.bin && cd from && echo one >x/1.txt && zip -q p.zip x/1.txt"):format(self.folder)))
end
function TestGetData:tearDown() if self.folder then s.remove(self.folder) end end

local function get(self, arguments)
  local p <close> = io.popen(("MOONSPIKE=%s/host bash %s %s 2>&1; echo $?"):format(self.folder, script, arguments))
  local text = p:read "a"
  return tonumber(text:match "(%d+)\n$"), text
end

function TestGetData:test_names()
  local code, text = get(self, "")
  lu.assertEquals(code, 0)
  lu.assertStrContains(text, "CIFAR10 CIFAR100 CIFAR10DVS DVSGesture FashionMNIST ImageNet100 NCaltech101 NMNIST Packed SHD Small\n")
  code, text = get(self, "MNIST")
  lu.assertEquals(code, 2)
  lu.assertStrContains(text, "unknown data set MNIST (known: CIFAR10, CIFAR100,")
  for name, part in pairs { ImageNet100 = "https://image-net.org/download", DVSGesture = "By hand" } do
    code, text = get(self, name)
    lu.assertEquals(code, 1)
    lu.assertStrContains(text, part)
    lu.assertStrContains(text, name .. " cannot be downloaded by a program: see above.")
  end
end

function TestGetData:test_download_resume_checksum()
  local target = self.folder .. "/data/Small/"
  local code, text = get(self, "Small " .. self.folder .. "/data")
  lu.assertEquals({ code, s.read(target .. "a.bin") }, { 0, "hello\n" })
  lu.assertStrContains(text, "moonspike finds it with MOONSPIKE_DATA=" .. self.folder .. "/data")
  code, text = get(self, "Small " .. self.folder .. "/data")
  lu.assertEquals({ code, s.files(target) }, { 0, { "a.bin" } })
  lu.assertStrContains(text, "a.bin is there")
  -- goes on from what is there, also from everything
  for _, part in ipairs { "hel", "hello\n" } do
    os.remove(target .. "a.bin")
    s.write(target .. "a.bin.part", part)
    lu.assertEquals({ (get(self, "Small " .. self.folder .. "/data")), s.read(target .. "a.bin"), s.files(target) }, { 0, "hello\n", { "a.bin" } })
  end
  -- a wrong file is told and thrown away, so that the next run begins anew
  s.write(target .. "a.bin", "jello\n")
  s.write(target .. "a.bin.part", "jel")
  code, text = get(self, "Small " .. self.folder .. "/data")
  lu.assertEquals({ code, s.files(target) }, { 1, { "a.bin" } })
  lu.assertStrContains(text, "a.bin.part: expected 6 bytes with md5 b1946ac92492d2347c6235b4d2611184, got 6 bytes with ")
  lu.assertEquals({ (get(self, "Small " .. self.folder .. "/data")), s.read(target .. "a.bin") }, { 0, "hello\n" })
  os.remove(self.folder .. "/from/a.bin")
  lu.assertNotEquals(get(self, "Small " .. self.folder .. "/other"), 0)
end

function TestGetData:test_unpacking()
  local target = self.folder .. "/data/Packed/"
  assert(os.execute("mkdir -p " .. target .. "x"))
  s.write(target .. "x/1.txt", "o") -- of a run that was interrupted
  lu.assertEquals({ (get(self, "Packed " .. self.folder .. "/data")), s.read(target .. "x/1.txt") }, { 0, "one\n" })
  s.write(target .. "x/1.txt", "mine")
  lu.assertEquals({ (get(self, "Packed " .. self.folder .. "/data")), s.read(target .. "x/1.txt") }, { 0, "mine" }) -- not again
end

function TestGetData:test_shellcheck()
  if not has "shellcheck" then lu.skip "no shellcheck" end
  lu.assertTrue(os.execute("shellcheck " .. script))
end

local code = lu.LuaUnit.run()
s.remove(folder)
os.exit(code == 0)
