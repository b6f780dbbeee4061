-- Sets of image files.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Set = require "moonspike.data.set"
local find = require "moonspike.data.find"
local cache = require "moonspike.data.cache"
local augment = require "moonspike.data.augment"

local folders = { imagenet100_classes = core.data.imagenet100_classes }

local range = function(default)
  return o.where(default, "a table of two numbers", function(v) return type(v) == "table" and #v == 2 and math.type(v[1]) and math.type(v[2]) end)
end
local mean, std = { 0.485, 0.456, 0.406 }, { 0.229, 0.224, 0.225 }
local function spec(extra)
  local all = {
    train = o.boolean(true), T = Set.repeats, size = o.integer(224, { from = 1 }), shorter = o.integer(nil, { from = 1 }), random = o.boolean(nil),
    scale = range { 0.08, 1 }, ratio = range { 3 / 4, 4 / 3 }, filter = o.choice("bilinear", { "bilinear", "bicubic" }), grey = o.boolean(false),
    policy = o.choice("lenient", { "strict", "lenient", "oracle" }), rand_augment = o.table(nil), cache = o.string(nil),
    mean = Set.numbers(mean), std = Set.numbers(std),
  }
  for key, rule in pairs(extra) do all[key] = rule end
  return Set.options(all)
end

local extensions = { ".jpg", ".jpeg", ".png" }

local function make(where, name, list, opt)
  local random = opt.random
  if random == nil then random = opt.train end
  if opt.cache and random then o.fail("%s: cache: expected random = false, since a cache keeps one picture of each file", where) end
  if opt.grey then -- the usual numbers become their means
    if opt.mean == mean then opt.mean = { 0.449 } end
    if opt.std == std then opt.std = { 0.226 } end
  end
  local steps = where .. ": augment"
  if random and augment.has(steps, opt.augment, "resized_crop") then
    o.fail("%s: resized_crop: expected random = false, since the files are cut at random already", steps)
  end
  if opt.train and opt.rand_augment then
    if augment.has(steps, opt.augment, "rand_augment") then o.fail("%s: rand_augment: expected once, got it as an option, too", steps) end
    opt.augment = augment.rand_augmented(steps, opt.augment, opt.rand_augment)
  end
  local shorter = opt.shorter or opt.size * 256 // 224
  local labels = core.tensor.tensor(list.labels, { dtype = "int64", device = "cpu" })
  local how = { paths = list.paths, labels = labels, random = random, size = opt.size, shorter = shorter, scale = opt.scale, ratio = opt.ratio,
    filter = opt.filter, grey = opt.grey, policy = opt.policy }
  local done, source = pcall(core.data.image_source, how)
  if not done then o.fail("%s: %s", where, (tostring(source):gsub("^image_source: ", ""):gsub("^images: ", ""))) end
  local parts = { name = name, source = source, labels = labels, classes = list.classes, split = list.split, folder = list.folder, T = opt.T,
    names = function(i) return list.names[i] end, notes = list.notes }
  if opt.cache then cache.use(where, parts, list, how, opt) end
  return Set.new(where, parts, opt)
end

local folder_spec = spec { root = o.string(o.required), name = o.string(nil) }

function folders.ImageFolder(opts)
  local opt = o.read("ImageFolder", opts, folder_spec)
  if not core.system.exists(opt.root) then o.fail("ImageFolder: root: no folder '%s'", opt.root) end
  local part, root = opt.train and "train" or "test", opt.root
  local path, own = find.part("ImageFolder", root, { "train" }, { "val", "test" }, opt.train)
  local list = find.listed("ImageFolder", { path }, extensions, opt.policy)
  list.split = own and "folder " .. own or "all"
  return make("ImageFolder", ("%s %s"):format(opt.name or root:match "([^/]+)/*$", part), list, opt)
end

local imagenet_spec = spec { root = o.string(nil) }

function folders.ImageNet100(opts)
  local opt = o.read("ImageNet100", opts, imagenet_spec)
  local where = find.folders("ImageNet100", opt.root)
  local names = opt.train and { "train", "train.X1" } or { "val", "val.X" }
  local root, path = find.first(where, names)
  if not root then find.missing("ImageNet100", where) end
  local roots = { path }
  if path:sub(-9) == "/train.X1" then
    for i = 2, 4 do roots[i] = ("%s/train.X%d"):format(root, i) end
  end
  local list = find.listed("ImageNet100", roots, extensions, opt.policy, true)
  list.split = "official " .. (opt.train and "train" or "val")
  table.insert(list.notes, ("the classes are those of the list '%s'"):format(list.which))
  return make("ImageNet100", "ImageNet100 " .. (opt.train and "train" or "val"), list, opt)
end

local common = [==[


    Files are decoded in the loader's threads, with the pixels of Pillow. Training: a random resized crop (scale, ratio as torchvision's) to size x size; test: the short
    side to `shorter` (256 for 224), the centre cut out; random = true or false chooses. filter "bicubic" as SEW's. rand_augment = { n = 2, m = 6, std = 0.5 }: timm's
    RandAugment of training, the first step of `augment` (help "data.augment"). policy: "lenient" decodes damaged files as far as it goes and counts
    them, "strict" refuses them. cache = "folder" keeps the pictures of random = false as one .npy file, which `augment` then works on.]==] .. Set.help

doc.set(folders.ImageFolder, [[
    data.ImageFolder{ root = "folder", train = true, size = 224, T = 4, mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 }, ... } -> set

    JPEG and PNG files in root/<class>/..., or in root/train/<class> and root/val (or test)/<class>; classes in the order of their bytes.]] .. common)
doc.set(folders.ImageNet100, [[
    data.ImageNet100{ train = true, root = nil, size = 224, T = 4, ... } -> set

    train/<wnid>/*.JPEG and val/<wnid>/*.JPEG of 100 classes. Two unrelated subsets have this name (CMC's, which TRT uses, and Kaggle's ambityga/imagenet100): describe()
    says which one this is; anything else is refused.]] .. common)

return folders
