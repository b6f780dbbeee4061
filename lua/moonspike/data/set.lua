-- A set of labelled samples: members of a source, cut into mini-batches [T, N, C, H, W] by worker threads.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local augment = require "moonspike.data.augment"
local position = require "moonspike.data.position"
local Resident = require "moonspike.data.resident"

local Set = { public = {} }
local meta = { __name = "data set" }

local numbers = o.where(nil, "a number, or a table with one for each channel", function(v)
  if math.type(v) then return true end
  if type(v) ~= "table" or #v == 0 then return false end
  for _, n in ipairs(v) do
    if not math.type(n) then return false end
  end
  return true
end)

-- Options of every set.
local loading = {
  batch_size = o.integer(64, { from = 1 }), shuffle = o.boolean(false), drop_last = o.boolean(false),
  workers = o.integer(2, { from = 0, to = 256 }), mean = numbers, std = numbers, seed = o.integer(nil),
  augment = o.where(nil, "a table or the name of a recipe", function(v) return type(v) == "table" or type(v) == "string" end),
  balanced = o.boolean(false), limit = o.integer(nil, { from = 1 }), resident = o.boolean(nil),
  transform = o.where(nil, "a function", function(f) return type(f) == "function" end),
}
local given_loading = {} -- as options, where nothing has a default
for key, rule in pairs(loading) do given_loading[key] = { text = rule.text, test = rule.test, convert = rule.convert } end

-- The options of a set: those of all sets, and its own.
function Set.options(extra)
  local spec = {}
  for key, rule in pairs(loading) do spec[key] = rule end
  for key, rule in pairs(extra) do spec[key] = rule end
  return spec
end
-- T of still images: how often the image is repeated.
Set.repeats = o.integer(4, { from = 1 })
Set.numbers = function(default) return { default = default, text = numbers.text, test = numbers.test } end

local function channels(v, count) -- 0.5 -> { 0.5, 0.5, 0.5 }
  if v == nil or type(v) == "table" then return v end
  local list = {}
  for i = 1, count do list[i] = v end
  return list
end

local function limited(members, limit) return limit and limit < members.shape[1] and members:narrow(1, 1, limit) or members end

-- ---- making one ----

-- parts: name, source, labels (int64 of the source, on the cpu), classes; members (int64, from 0; nil: all), T (repeats; nil: the
-- source's), scale (255), split (its name), names (of the source's samples: a function of the index from 1, for hashes), folder, notes (lines for describe).
function Set.new(where, parts, opt)
  local self = setmetatable({}, meta)
  for _, key in ipairs(o.keys(parts)) do self[key] = parts[key] end
  self.where = where
  local n, t, c, h, w, dtype = self.source:size()
  self.shape, self.frames, self.dtype, self.samples = { c, h, w }, t, dtype, n
  self.members = limited((self.members or core.tensor.arange(0, n)):long():to "cpu", opt.limit)
  self.labels = self.labels:to "cpu"
  self.T = self.T or t
  self.scale = self.scale or 255
  self.split = self.split or "all"
  self:configure(where, opt)
  return self
end

-- Takes options of loading; the loader is opened when it is first used.
function Set:configure(where, opt)
  self.loading = opt
  opt.mean, opt.std = channels(opt.mean, self.shape[1]), channels(opt.std, self.shape[1])
  for _, key in ipairs { "mean", "std" } do
    if opt[key] and #opt[key] ~= self.shape[1] then
      o.fail("%s: %s: expected a number or a table of %d, one for each channel, got %d", where, key, self.shape[1], #opt[key])
    end
  end
  for _, s in ipairs(opt.std or {}) do
    if s <= 0 then o.fail("%s: std: expected numbers > 0, got %g", where, s) end
  end
  self.recipe, self.augmented = augment.parse(where .. ": augment", opt.augment)
  if self.recipe then
    local fits, why = pcall(core.data.recipe_size, self.recipe, self.dtype, table.unpack(self.shape))
    if not fits then o.fail("%s: augment: %s", where, (tostring(why):gsub("^.-recipe: ", ""))) end
  end
  self.seed = opt.seed or core.random.key("shuffle", self.name)
  local n, size = #self, opt.batch_size
  self.batches = opt.drop_last and n // size or (n + size - 1) // size
end

-- Do samples in memory go to the device as a whole? Where nothing is said: to a GPU, if they take no more than a quarter of what is free.
local function resides(self, device)
  local wanted = self.loading.resident
  if not self.samples_in_memory then
    if wanted then o.fail("%s: resident: expected samples in memory or in a cache, got files", self.where) end
    return false
  end
  if wanted ~= nil or device == "cpu" then return wanted or false end
  local c, h, w = table.unpack(self.shape)
  local bytes = self.samples * self.frames * c * h * w * (self.dtype == "uint8" and 1 or 4)
  local free = core.device.memory(device).free
  return free ~= nil and bytes <= free / 4
end

-- What makes the batches: threads, or the device that holds the samples.
function Set:loader()
  if not self._loader then
    local opt, device = self.loading, core.device.current()
    local how = {
      members = self.members, batch_size = opt.batch_size, shuffle = opt.shuffle, drop_last = opt.drop_last, seed = self.seed,
      mean = opt.mean, std = opt.std, scale = self.scale, augment = self.recipe, balanced = opt.balanced, classes = #self.classes, plain = opt.plain,
    }
    if resides(self, device) then
      how.samples, how.labels, how.device = self.samples_in_memory(), self.labels, device
      self._loader = Resident.new(how)
    else
      how.source, how.workers = self.source, opt.workers
      self._loader = core.data.loader(how)
    end
  end
  return self._loader
end

-- The same source with other members (nil: the same) and other options.
function Set:derive(members, split, changes)
  local copy = setmetatable({}, meta)
  for _, key in ipairs(o.keys(self)) do
    if key:sub(1, 1) ~= "_" then copy[key] = rawget(self, key) end
  end
  copy.members, copy.split = members or self.members, split or self.split
  local opt = {}
  for _, key in ipairs(o.keys(self.loading)) do opt[key] = self.loading[key] end
  for _, key in ipairs(o.keys(changes)) do opt[key] = changes[key] end
  copy:configure(self.where, opt)
  return copy
end

-- The same samples with other options of loading: set:with { batch_size = 128, shuffle = false }.
function Set:with(opts)
  local opt = o.read("with", opts, given_loading)
  return self:derive(limited(self.members, opt.limit), nil, opt)
end

-- ---- where it stands ----

-- For checkpoints: a `for` that follows load_state_dict goes on from there.
function Set:state_dict()
  local epoch, batch = self:position()
  return { epoch = epoch, batch = batch, seed = self.seed, samples = #self, batch_size = self.loading.batch_size, members = self:hash() }
end

function Set:load_state_dict(state)
  position.check(state, self:state_dict(), self.batches)
  if state.seed ~= self.seed then
    self.seed = state.seed
    self:close()
  end
  self:loader():start(state.epoch, state.batch)
  self._resumed = state.batch > 0
end

-- The epoch that the next batch belongs to, from 1, and how many of its batches were given out.
function Set:position()
  if not self._loader then return 1, 0 end
  return self._loader:position()
end

-- Stops the threads and frees their batches; the set can be used again.
function Set:close()
  if self._loader then self._loader:close() end
  self._loader = nil
end

-- What lenient readers mended so far: { range = 3, ... }
function Set:repairs() return self._loader and self._loader:repairs() or {} end

-- ---- batches ----

-- Leaving a loop early abandons its epoch: the next `for` starts a fresh one.
local function begin(self)
  if self._resumed then
    self._resumed = false
    return
  end
  local epoch, batch = self:position()
  if batch > 0 then self._loader:start(epoch + 1, 0) end
end

-- The generic for calls this with the last x as control: nil says that a new loop begins.
function meta.__call(self, _, control)
  if control == nil then
    begin(self)
  elseif not self._loader then -- closed in the loop
    return nil
  else
    position.follows(self, control)
  end
  local x, y = self:loader():next()
  if not x then return nil end
  local device = core.device.current()
  if x.device ~= device then x, y = x:to(device), y:to(device) end
  local size = x.shape
  if size[1] ~= self.T then x = x:expand(self.T, size[2], size[3], size[4], size[5]) end
  return position.give(self, x, y)
end

-- ---- samples ----

function Set:check_index(i)
  if not math.tointeger(i) or i < 1 or i > #self then o.fail("%s: index: expected 1 to %d, got %s", self.name, #self, o.show(i)) end
  return math.tointeger(i)
end

-- Sample i as it is stored: [T, C, H, W] uint8 or float32, on the CPU.
function Set:raw(i) return self.source:read(self.members[self:check_index(i)]:item() + 1) end

local function sample(self, i)
  local x = self:raw(i)
  local member = self.members[i]:item() + 1
  if self.frames == 1 then x = x[1] end
  x = x:to(core.device.current())
  if x.dtype == "uint8" then x = x:float() / self.scale end
  local mean, std = self.loading.mean, self.loading.std
  if mean then x = x - core.tensor.tensor(mean):view(#mean, 1, 1) end
  if std then x = x / core.tensor.tensor(std):view(#std, 1, 1) end
  local y = self.labels[member]:item()
  return { x = x, y = y, class = self.classes[y + 1], name = self.names and self.names(member) }
end

function meta.__index(self, key)
  if math.type(key) then return sample(self, key) end
  return Set[key]
end

function meta.__len(self) return self.members.shape[1] end
function meta.__tostring(self) return self:summary() end
meta.__close = Set.close
meta.__dir = Set.public

Set.help = [==[


    for x, y in set do ... end      x [T, N, C, H, W], y [N] int64 from 0; each loop is one epoch. Still images are a view that repeats them.
    #set samples, set[i] -> { x [C, H, W] or [T, C, H, W], y, class, name }, set:raw(i) as stored, set.batches, set.classes
    set:describe() counts per class, shapes, event rates; set:show(i) in the terminal and, with { file = "x.png" }, as a picture
    set:statistics{ per = "set" or "sample" } -> { mean, std } of each channel
    set:cut{ validation = 0.1, seed = 0 } -> rest, validation;  set:folds{ k = 5 } -> { { train, validation }, ... };  set:subset(positions);
      set:sample{ n = 1000, seed = 0 }: so many at random, of each class in proportion;  set:plain(): in order and without augmentation
    set:with{ batch_size = 128 } the same samples with other options;  set:state_dict(), set:close(), set:repairs()
    Options: batch_size = 64, shuffle = false, drop_last = false, workers = 2, balanced = false (every class as
      often, with replacement), augment = { crop = 4, flip = true } or a list or a name (help "data.augment"), mean, std (a number or one for
      each channel), seed (the default follows ms.manual_seed), limit (the first n samples), resident (the samples lie on the device; by default
      where that is a GPU with room), transform = function(x, y) return x, y end (on each batch, in the calling state).
    A batch depends on seed, epoch and position alone, not on the number of workers.]==]
doc.set(meta, "A set of labelled samples.\n" .. Set.help)

-- Gives a method its help text, and its name to Tab.
function Set.document(name, text)
  table.insert(Set.public, name)
  doc.set(Set[name], ("set:%s"):format(text))
end

Set.document("raw", "raw(i) -> tensor\n\n    Sample i as it is stored: [T, C, H, W] uint8 or float32, on the CPU.")
Set.document("with", "with{ batch_size = 128, ... } -> set\n\n    The same samples with other options of loading; the rest stays as it is.")
Set.document("state_dict", "state_dict() -> { epoch, batch, seed, ... }\n\n    Where the set stands, for checkpoints.")
Set.document("load_state_dict", "load_state_dict(state)\n\n    The next loop over the set goes on from there.")
Set.document("position", "position() -> epoch, batch\n\n    The epoch, from 1, and how many of its batches were given.")
Set.document("repairs", "repairs() -> { range = 3, ... }\n\n    What lenient readers mended so far.")
Set.document("close", "close()\n\n    Ends the threads that load; the next loop starts them again.")

return Set
