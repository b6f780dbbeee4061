-- Sets of still images in memory.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Set = require "moonspike.data.set"
local find = require "moonspike.data.find"

local still = {}

local function in_memory(where, name, images, labels, classes, opt, extra)
  images, labels = images:to "cpu", labels:to "cpu" -- where the workers cut batches
  if labels.dtype == "uint8" then labels = labels:long() end
  local parts = { name = name, source = core.data.source { samples = images, labels = labels }, labels = labels, classes = classes, T = opt.T,
    samples_in_memory = function() return images:dim() == 3 and images:unsqueeze(2) or images end }
  for key, value in pairs(extra or {}) do parts[key] = value end
  return Set.new(where, parts, opt)
end

-- ---- your own ----

local tensors_spec = Set.options { T = Set.repeats, name = o.string "images", classes = o.table(nil),
  images = o.where(o.required, "a tensor [n, h, w], [n, c, h, w] or [n, t, c, h, w]", o.is_tensor),
  labels = o.where(o.required, "a tensor [n]", o.is_tensor) }

function still.FromTensors(opts)
  local opt = o.read("FromTensors", opts, tensors_spec)
  local images, labels, classes = opt.images, opt.labels, opt.classes
  if images:numel() == 0 then o.fail("FromTensors: images: expected at least one image, got %s", o.shape(images)) end
  if labels:numel() == 0 then o.fail("FromTensors: labels: expected [n], one for each image, got %s", o.shape(labels)) end
  local least, most = labels:min():item(), labels:max():item()
  if least < 0 then o.fail("FromTensors: labels: expected classes from 0, got %s", o.show(least)) end
  if classes and most >= #classes then
    o.fail("FromTensors: labels: expected 0 to %d for %d classes, got %s", #classes - 1, #classes, o.show(most))
  end
  if not classes then
    classes = {}
    for i = 0, math.tointeger(most) do classes[i + 1] = tostring(i) end
  end
  if images:dim() == 5 then opt.T = nil end
  return in_memory("FromTensors", opt.name, images, labels, classes, opt)
end

-- ---- Fashion-MNIST ----

local fashion_classes = { "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot" }

-- The first of the folders that holds the file, plain or gzip.
local function idx_file(list, name)
  local _, path = find.first(list, { name, name .. ".gz" })
  return path or find.missing("FashionMNIST", list, name .. " is")
end

local function idx(path, dims, what, part, opt, notes)
  local t, more = core.data.read_idx(path, { policy = opt.policy })
  if not t then o.fail("FashionMNIST: %s", more) end
  if t:dim() ~= dims or t.dtype ~= "uint8" then
    o.fail("FashionMNIST: %s: expected uint8 %s, got %s %s", path, what, t.dtype, o.shape(t))
  end
  find.note(notes, ("its %s were read"):format(part), more)
  return t
end

local policy = o.choice("strict", { "strict", "lenient", "oracle" })
local fashion_spec = Set.options { T = Set.repeats, train = o.boolean(true), root = o.string(nil), policy = policy,
  mean = Set.numbers(0.2860), std = Set.numbers(0.3530) }

-- As many images as labels. Lenient keeps those that have both; torchvision counts the images, and never sees further labels.
local function paired(images, labels, label_path, opt, notes)
  local n, m = images.shape[1], labels.shape[1]
  if n == m then return images, labels end
  if opt.policy == "strict" or (opt.policy == "oracle" and m < n) then
    o.fail("FashionMNIST: %s: expected %d labels, one for each image, got %d", label_path, n, m)
  end
  notes[#notes + 1] = ("%s: %d left out"):format(n > m and "images without a label" or "labels without an image", math.abs(n - m))
  return images:narrow(1, 1, math.min(n, m)), labels:narrow(1, 1, math.min(n, m))
end

function still.FashionMNIST(opts)
  local opt = o.read("FashionMNIST", opts, fashion_spec)
  local list, part, notes = find.folders("FashionMNIST", opt.root), opt.train and "train" or "t10k", {}
  local image_path, label_path = idx_file(list, part .. "-images-idx3-ubyte"), idx_file(list, part .. "-labels-idx1-ubyte")
  local images, labels = idx(image_path, 3, "[n, 28, 28]", "images", opt, notes), idx(label_path, 1, "[n]", "labels", opt, notes)
  images, labels = paired(images, labels, label_path, opt, notes)
  local size = images.shape
  if opt.policy ~= "oracle" and (size[2] ~= 28 or size[3] ~= 28) then
    o.fail("FashionMNIST: %s: expected images [28, 28], got %s", image_path, o.shape(images))
  end
  if size[1] == 0 then o.fail("FashionMNIST: %s: holds no images", image_path) end
  local classes, most = table.move(fashion_classes, 1, 10, 1, {}), labels:max():item()
  if opt.policy ~= "oracle" and most > 9 then o.fail("FashionMNIST: %s: expected labels 0 to 9, got %d", label_path, most) end
  for class = 10, most do classes[class + 1] = tostring(class) end
  part = opt.train and "train" or "test"
  return in_memory("FashionMNIST", "FashionMNIST " .. part, images, labels, classes, opt,
    { folder = image_path:match "^(.*)/", split = "official " .. part, notes = notes })
end

-- ---- CIFAR ----

local cifar10_classes = { "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck" }

local function numbered(n)
  local list = {}
  for i = 1, n do list[i] = tostring(i - 1) end
  return list
end

-- Mean and deviation as the published codes of this field have them; those deviations are means over images of each image's own.
local function cifar(name, classes, mean, std)
  local spec = Set.options { T = Set.repeats, train = o.boolean(true), root = o.string(nil), policy = policy,
    mean = Set.numbers(mean), std = Set.numbers(std), coarse = classes == 100 and o.boolean(false) or nil }
  return function(opts)
    local opt = o.read(name, opts, spec)
    local list = find.folders(name, opt.root)
    local there = {}
    for _, folder in ipairs(list) do
      if core.system.exists(folder) then there[#there + 1] = folder end
    end
    if #there == 0 then find.missing(name, list) end
    local read, why = core.data.read_cifar { classes = classes, train = opt.train, roots = there, policy = opt.policy }
    if not read then o.fail("%s: %s", name, why) end
    local labels, names = read.labels, read.classes
    if opt.coarse then labels, names = read.coarse, read.coarse_classes end
    if #names == 0 then names = classes == 10 and cifar10_classes or numbered(opt.coarse and 20 or 100) end
    local part, notes = opt.train and "train" or "test", {}
    find.note(notes, "it was read", read.repairs)
    return in_memory(name, name .. " " .. part, read.images, labels, names, opt, { folder = read.path, split = "official " .. part, notes = notes })
  end
end

still.CIFAR10 = cifar("CIFAR10", 10, { 0.4914, 0.4822, 0.4465 }, { 0.2023, 0.1994, 0.2010 })
still.CIFAR100 = cifar("CIFAR100", 100, { 0.5071, 0.4867, 0.4408 }, { 0.2675, 0.2565, 0.2761 })

doc.set(still.CIFAR10, [[
    data.CIFAR10{ train = true, root = nil, T = 4, policy = "strict", mean = { 0.4914, 0.4822, 0.4465 }, std = { 0.2023, 0.1994, 0.2010 }, ... } -> set

    CIFAR-10 in its binary version (Krizhevsky 2009): cifar-10-binary.tar.gz, which is read as it is, or the folder cifar-10-batches-bin, in root, else in
    $MOONSPIKE_DATA (scripts/get-data.sh CIFAR10). mean and std are those of the published codes of TRT and TET.
    policy: strict (damage is an error), lenient (an unfinished last record is left out and counted in describe()), oracle (as TensorFlow Datasets, the published reader of
    this version: one byte behind the records is ignored and a file may be empty, else as strict). No policy takes more records than the official files have.]] .. Set.help)
doc.set(still.CIFAR100, [[
    data.CIFAR100{ train = true, root = nil, T = 4, coarse = false, policy = "strict", mean = { 0.5071, 0.4867, 0.4408 }, std = { 0.2675, 0.2565, 0.2761 }, ... } -> set

    CIFAR-100 in its binary version: cifar-100-binary.tar.gz or the folder cifar-100-binary, in root, else in $MOONSPIKE_DATA (scripts/get-data.sh CIFAR100).
    coarse: the 20 super-classes in place of the 100 classes. policy as in data.CIFAR10.]] .. Set.help)
doc.set(still.FashionMNIST, [[
    data.FashionMNIST{ train = true, root = nil, T = 4, policy = "strict", mean = 0.2860, std = 0.3530, ... } -> set

    Zalando's 28x28 grey images in ten classes, from IDX files, plain or gzip, in root, else in $MOONSPIKE_DATA (or its folders fashion-mnist,
    FashionMNIST), else where Debian's package dataset-fashion-mnist puts them. Pixels are divided by 255 first.
    policy: strict (damage is an error), lenient (bytes behind the data, unfinished images, and images or labels without the other are left out, and counted in
    describe()), oracle (as torchvision's MNIST: the size of images and the range of labels are not looked at, labels without an image are left out).]] .. Set.help)
doc.set(still.FromTensors, [[
    data.FromTensors{ images = tensor [n, h, w], [n, c, h, w] or [n, t, c, h, w], labels = tensor [n], name = "images", classes = {...}, T = 4, ... } -> set

    Your own samples, uint8 (divided by 255) or float32. Images are repeated T times; samples with a dimension of time are taken as they are.]] .. Set.help)

return still
