-- moonspike.data: labelled images in memory, cut into mini-batches [T, N, C, H, W] by worker threads.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

local data = {}

local numbers = o.where(nil, "a number, or a table with one for each channel", function(v)
  if math.type(v) then return true end
  if type(v) ~= "table" or #v == 0 then return false end
  for _, n in ipairs(v) do
    if not math.type(n) then return false end
  end
  return true
end)

local loading = {
  batch_size = o.integer(64, { from = 1 }), T = o.integer(4, { from = 1 }), shuffle = o.boolean(false), drop_last = o.boolean(false),
  workers = o.integer(2, { from = 0, to = 256 }), augment = o.table(nil), mean = numbers, std = numbers, seed = o.integer(nil),
  limit = o.integer(nil, { from = 1 }),
}
local augment_spec = { crop = o.integer(0, { from = 0 }), flip = o.boolean(false) }

local function with(extra)
  local spec = {}
  for key, rule in pairs(loading) do spec[key] = rule end
  for key, rule in pairs(extra) do spec[key] = rule end
  return spec
end

local function channels(v, count) -- 0.5 -> { 0.5, 0.5, 0.5 }
  if v == nil or type(v) == "table" then return v end
  local list = {}
  for i = 1, count do list[i] = v end
  return list
end

-- ---- the set ----

local Images = {}
local meta = { __name = "data set" }

local function open_loader(self)
  if self._loader then self._loader:close() end
  local opt = self.options
  self._loader = core.data.loader {
    images = self.images, labels = self.labels, batch_size = opt.batch_size, shuffle = opt.shuffle, drop_last = opt.drop_last,
    seed = self.seed, workers = opt.workers, mean = opt.mean, std = opt.std, crop_padding = self.augment.crop, flip = self.augment.flip,
  }
  self.batches = self._loader:batches()
end

local function new(where, name, images, labels, classes, opt)
  if opt.limit and opt.limit < images.shape[1] then
    images, labels = images:narrow(1, 1, opt.limit), labels:narrow(1, 1, opt.limit)
  end
  images, labels = images:to "cpu", labels:to "cpu" -- where the workers cut batches
  local size = images.shape
  local count = #size == 4 and size[2] or 1
  opt.mean, opt.std = channels(opt.mean, count), channels(opt.std, count)
  for _, s in ipairs(opt.std or {}) do
    if s <= 0 then o.fail("%s: std: expected numbers > 0, got %g", where, s) end
  end
  local self = setmetatable({
    name = name, images = images, labels = labels, classes = classes, options = opt, T = opt.T,
    augment = o.read(where .. ": augment", opt.augment, augment_spec),
    seed = opt.seed or core.random.key("shuffle", name),
  }, meta)
  open_loader(self)
  return self
end

function Images:describe()
  local size = self.images.shape
  local shape = #size == 4 and { size[2], size[3], size[4] } or { 1, size[2], size[3] }
  local opt, text = self.options, {}
  text[1] = ("%s: %d samples of %s, %d classes"):format(self.name, size[1], o.shape(shape), #self.classes)
  text[2] = ("%d batches of %d%s, T = %d"):format(self.batches, opt.batch_size, opt.shuffle and ", shuffled" or "", opt.T)
  if self.augment.crop > 0 then text[#text + 1] = ("random crop after padding by %d"):format(self.augment.crop) end
  if self.augment.flip then text[#text + 1] = "random flip" end
  if opt.mean or opt.std then
    text[#text + 1] = ("mean { %s }, std { %s }"):format(table.concat(opt.mean or {}, ", "), table.concat(opt.std or {}, ", "))
  end
  if self.folder then text[#text + 1] = "from " .. self.folder end
  return table.concat(text, "; ")
end

-- Where the set stands, for checkpoints: a `for` that follows load_state_dict goes on from there.
function Images:state_dict()
  local epoch, batch = self._loader:position()
  return { epoch = epoch, batch = batch, seed = self.seed, samples = #self, batch_size = self.options.batch_size }
end

function Images:load_state_dict(state)
  for _, key in ipairs { "epoch", "batch", "seed" } do
    if type(state) ~= "table" or not math.tointeger(state[key]) then
      o.fail("load_state_dict: state: expected { epoch, batch, seed }, got %s without %s", o.show(state), key)
    end
  end
  if state.batch > 0 then -- a position in an epoch that is cut in another way means nothing
    local here = self:state_dict()
    for _, key in ipairs { "samples", "batch_size" } do
      if (state[key] or here[key]) ~= here[key] then
        o.fail("load_state_dict: %s: expected %s, since the state lies in the middle of an epoch, got %d", key, o.show(state[key]), here[key])
      end
    end
  end
  if state.seed ~= self.seed then
    self.seed = state.seed
    open_loader(self)
  end
  self._loader:start(state.epoch, state.batch)
  self._resumed = state.batch > 0
end

-- The epoch that the next batch belongs to, from 1, and how many of its batches were given out.
function Images:position() return self._loader:position() end

function Images:close() self._loader:close() end

-- Leaving a loop early abandons its epoch: the next `for` starts a fresh one.
local function begin(self)
  if self._resumed then
    self._resumed = false
    return
  end
  local epoch, batch = self._loader:position()
  if batch > 0 then self._loader:start(epoch + 1, 0) end
end

-- The generic for calls this with the last x as control: nil says that a new loop begins.
function meta.__call(self, _, control)
  if control == nil then begin(self) end
  local x, y = self._loader:next()
  if not x then return nil end
  local device = core.device.current()
  if x.device ~= device then x, y = x:to(device), y:to(device) end
  local size = x.shape
  return x:unsqueeze(1):expand(self.T, size[1], size[2], size[3], size[4]), y
end

local function sample(self, i)
  local n = self.images.shape[1]
  if not math.tointeger(i) or i < 1 or i > n then o.fail("%s: index: expected 1 to %d, got %s", self.name, n, o.show(i)) end
  local x = self.images[i]:to(core.device.current())
  if x:dim() == 2 then x = x:unsqueeze(1) end
  if x.dtype == "uint8" then x = x:float() / 255 end
  local mean, std = self.options.mean, self.options.std
  if mean then x = x - core.tensor.tensor(mean):view(#mean, 1, 1) end
  if std then x = x / core.tensor.tensor(std):view(#std, 1, 1) end
  local y = self.labels[i]:item()
  return { x = x, y = y, class = self.classes[y + 1] }
end

function meta.__index(self, key)
  if math.type(key) then return sample(self, key) end
  return Images[key]
end

function meta.__len(self) return self.images.shape[1] end
function meta.__tostring(self) return self:describe() end
meta.__close = Images.close
meta.__dir = o.keys(Images)

local images_spec = with { name = o.string("images"), classes = o.table(nil),
  images = o.where(o.required, "a tensor [n, h, w] or [n, c, h, w]", o.is_tensor),
  labels = o.where(o.required, "a tensor [n]", o.is_tensor) }

function data.Images(opts)
  local opt = o.read("Images", opts, images_spec)
  local classes = opt.classes
  if opt.images:numel() == 0 then o.fail("Images: images: expected at least one image, got %s", o.shape(opt.images)) end
  if opt.labels:numel() == 0 then o.fail("Images: labels: expected [n], one for each image, got %s", o.shape(opt.labels)) end
  local least = opt.labels:min():item()
  if least < 0 then o.fail("Images: labels: expected classes from 0, got %s", o.show(least)) end
  if classes and opt.labels:max():item() >= #classes then
    o.fail("Images: labels: expected 0 to %d for %d classes, got %s", #classes - 1, #classes, o.show(opt.labels:max():item()))
  end
  if not classes then
    classes = {}
    for i = 0, opt.labels:max():item() do classes[i + 1] = tostring(i) end
  end
  return new("Images", opt.name, opt.images, opt.labels, classes, opt)
end

-- ---- Fashion-MNIST ----

local fashion_classes = { "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot" }
local debian = "/usr/share/datasets/fashion-mnist"

local function folders(root)
  if root then return { root } end
  local list = {}
  local home = os.getenv "MOONSPIKE_DATA"
  if home and home ~= "" then
    for _, sub in ipairs { "", "/fashion-mnist", "/FashionMNIST", "/FashionMNIST/raw" } do list[#list + 1] = home .. sub end
  end
  list[#list + 1] = debian
  return list
end

-- The first of the folders that holds the file, plain or gzip.
local function find(list, name)
  for _, folder in ipairs(list) do
    for _, ending in ipairs { "", ".gz" } do
      local path = folder .. "/" .. name .. ending
      local file = io.open(path, "rb")
      if file then
        file:close()
        return path
      end
    end
  end
  o.fail("FashionMNIST: %s not found, plain or as .gz, in\n  %s\nOn Debian and Ubuntu: apt-get install dataset-fashion-mnist; " ..
    "or name the folder with root = \"...\" or the variable MOONSPIKE_DATA", name, table.concat(list, "\n  "))
end

local function read(path, dims, what)
  local t, why = core.data.read_idx(path)
  if not t then o.fail("FashionMNIST: %s", why) end
  if t:dim() ~= dims or t.dtype ~= "uint8" then
    o.fail("FashionMNIST: %s: expected uint8 %s, got %s %s", path, what, t.dtype, o.shape(t))
  end
  return t
end

local fashion_spec = with { train = o.boolean(true), root = o.string(nil) }
fashion_spec.mean = { default = 0.2860, text = numbers.text, test = numbers.test }
fashion_spec.std = { default = 0.3530, text = numbers.text, test = numbers.test }

function data.FashionMNIST(opts)
  local opt = o.read("FashionMNIST", opts, fashion_spec)
  local list, part = folders(opt.root), opt.train and "train" or "t10k"
  local image_path = find(list, part .. "-images-idx3-ubyte")
  local label_path = find(list, part .. "-labels-idx1-ubyte")
  local images = read(image_path, 3, "[n, 28, 28]")
  local labels = read(label_path, 1, "[n]")
  local size = images.shape
  if size[1] ~= labels.shape[1] then
    o.fail("FashionMNIST: %s: expected %d labels, one for each image, got %d", label_path, size[1], labels.shape[1])
  end
  if size[2] ~= 28 or size[3] ~= 28 then o.fail("FashionMNIST: %s: expected images [28, 28], got %s", image_path, o.shape(images)) end
  if size[1] == 0 then o.fail("FashionMNIST: %s: holds no images", image_path) end
  if labels:max():item() > 9 then o.fail("FashionMNIST: %s: expected labels 0 to 9, got %d", label_path, labels:max():item()) end
  local set = new("FashionMNIST", "FashionMNIST " .. (opt.train and "train" or "test"), images, labels, fashion_classes, opt)
  set.folder = image_path:match "^(.*)/"
  return set
end

data.read_idx = core.data.read_idx
for name, f in pairs(require "moonspike.data.arrays") do data[name] = f end

local shared = [==[


    for x, y in set do ... end      x [T, N, C, H, W] (a view that repeats the image), y [N] int64 from 0; each loop is one epoch
    #set samples, set[i] -> { x [C, H, W], y, class }, set.batches, set.classes, set:describe(), set:state_dict()
    Options: batch_size = 64, T = 4, shuffle = false, drop_last = false, workers = 2, augment = { crop = 0 (zero padding), flip = false },
      mean, std (a number or one for each channel), seed (the default follows ms.manual_seed), limit (the first n samples).
    A batch depends on seed, epoch and position alone, not on the number of workers.]==]

doc.set(data.FashionMNIST, [[
    data.FashionMNIST{ train = true, root = nil, mean = 0.2860, std = 0.3530, ... } -> set

    Zalando's 28x28 grey images in ten classes, from IDX files, plain or gzip, in root, else in $MOONSPIKE_DATA (or its folders fashion-mnist,
    FashionMNIST), else where Debian's package dataset-fashion-mnist puts them. Pixels are divided by 255 first.]] .. shared)
doc.set(data.Images, [[
    data.Images{ images = tensor [n, h, w] or [n, c, h, w], labels = tensor [n], name = "images", classes = {...}, ... } -> set

    Your own images, uint8 (divided by 255) or float32.]] .. shared)
doc.set(meta, "A set of labelled images.\n" .. shared)
doc.set(data, "ms.data: FashionMNIST Images read_idx")

return o.named(data, "data")
