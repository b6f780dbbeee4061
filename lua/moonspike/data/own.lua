-- A data set written in Lua: samples are asked for one after the other in the calling state.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local position = require "moonspike.data.position"

local Own = {}
local meta = { __name = "data set" }

local spec = {
  size = o.integer(o.required, { from = 1 }), get = o.where(o.required, "a function", function(f) return type(f) == "function" end),
  name = o.string "set", classes = o.table(nil), T = o.integer(nil, { from = 1 }), batch_size = o.integer(64, { from = 1 }), shuffle = o.boolean(false),
  drop_last = o.boolean(false), seed = o.integer(nil), transform = o.where(nil, "a function", function(f) return type(f) == "function" end),
}

local function make(opt)
  local self = setmetatable({ name = opt.name, classes = opt.classes, loading = opt, T = opt.T or 1, size = opt.size,
    seed = opt.seed or core.random.key("shuffle", opt.name), epoch = 1, batch = 0 }, meta)
  self.batches = opt.drop_last and opt.size // opt.batch_size or (opt.size + opt.batch_size - 1) // opt.batch_size
  return self
end

local function Dataset(opts) return make(o.read("Dataset", opts, spec)) end

function Own:plain()
  local opt = {}
  for _, key in ipairs(o.keys(self.loading)) do opt[key] = self.loading[key] end
  opt.shuffle, opt.drop_last = false, false
  return make(opt)
end

-- x [C, H, W] or [T, C, H, W] and y of sample i, checked.
local function get(self, i)
  local done, x, y = pcall(self.loading.get, i)
  if not done then error(type(x) == "string" and ("%s: get(%d): %s"):format(self.name, i, x) or x, 0) end
  if not o.is_tensor(x) or x:dim() ~= 3 and x:dim() ~= 4 then
    o.fail("%s: get(%d): expected a tensor [C, H, W] or [T, C, H, W], got %s", self.name, i, o.show(x))
  end
  if o.is_tensor(y) and y:numel() == 1 then y = y:item() end
  if not math.tointeger(y) or y < 0 or self.classes and y >= #self.classes then
    o.fail("%s: get(%d): expected a label from 0%s as second result, got %s", self.name, i,
      self.classes and (" to %d"):format(#self.classes - 1) or "", o.show(y))
  end
  if x.dtype == "uint8" then x = x:float() / 255 end
  return x, math.tointeger(y)
end

function Own:state_dict()
  return { epoch = self.epoch, batch = self.batch, seed = self.seed, samples = self.size, batch_size = self.loading.batch_size }
end

function Own:load_state_dict(state)
  position.check(state, self:state_dict(), self.batches)
  self.epoch, self.batch, self.seed, self._order, self._resumed = state.epoch, state.batch, state.seed, nil, state.batch > 0
end

function Own:position() return self.epoch, self.batch end
function Own:close() self._order = nil end
function Own:describe()
  return ("%s: %d samples, written in Lua; %d batches of %d%s"):format(self.name, self.size, self.batches, self.loading.batch_size,
    self.loading.shuffle and ", shuffled" or "")
end

local function order(self)
  if not self._order then
    if self.loading.shuffle then
      self._order = core.data.order { n = self.size, seed = self.seed, epoch = self.epoch }:totable()
    else
      self._order = core.tensor.arange(0, self.size):long():totable()
    end
  end
  return self._order
end

-- As sets with threads do it: a loop that was left early is abandoned, one that was resumed goes on.
function meta.__call(self, _, control)
  if control == nil then
    if self.batch > 0 and not self._resumed then self.epoch, self.batch, self._order = self.epoch + 1, 0, nil end
    self._resumed = false
  else
    position.follows(self, control)
  end
  if self.batch >= self.batches then
    self.epoch, self.batch, self._order = self.epoch + 1, 0, nil
    return nil
  end
  local list, from = order(self), self.batch * self.loading.batch_size
  local xs, ys = {}, {}
  for k = 1, math.min(self.loading.batch_size, self.size - from) do
    local x, y = get(self, list[from + k] + 1)
    if x:dim() == 3 then x = x:unsqueeze(1) end
    local frames = x.shape[1]
    if frames > 1 and frames ~= (self.loading.T or frames) then
      o.fail("%s: get(%d): expected 1 or T = %d frames, got %d", self.name, list[from + k] + 1, self.T, frames)
    end
    if k > 1 and o.shape(x) ~= o.shape(xs[1]) then
      o.fail("%s: get(%d): expected the shape of the batch's other samples, %s, got %s", self.name, list[from + k] + 1, o.shape(xs[1]), o.shape(x))
    end
    xs[k], ys[k] = x, y
  end
  local device = core.device.current()
  local x, y = core.ops.stack(xs, 2):to(device), core.tensor.tensor(ys, { dtype = "int64" }):to(device)
  local size = x.shape
  if size[1] == 1 and self.T > 1 then x = x:expand(self.T, size[2], size[3], size[4], size[5]) end
  self.batch = self.batch + 1
  return position.give(self, x, y)
end

function meta.__index(self, key)
  if math.type(key) then
    if not math.tointeger(key) or key < 1 or key > self.size then o.fail("%s: index: expected 1 to %d, got %s", self.name, self.size, o.show(key)) end
    local x, y = get(self, math.tointeger(key))
    return { x = x:to(core.device.current()), y = y, class = self.classes and self.classes[y + 1] or tostring(y) }
  end
  return Own[key]
end

function meta.__len(self) return self.size end
function meta.__tostring(self) return self:describe() end
meta.__dir = o.keys(Own)

doc.set(meta, "A data set written in Lua. See ms.data.Dataset.")
doc.set(Dataset, [[
    data.Dataset{ size = n, get = function(i) return x, y end, name = "set", classes = nil, T = 1, batch_size = 64, shuffle = false, ... } -> set

    Your own samples: get(i), i from 1 to size, gives x [C, H, W] (repeated T times) or [T, C, H, W], uint8 (divided by 255) or float32, and
    the label y from 0. It runs in the calling state when a batch is asked for; samples that need work are better prepared once and given to data.FromTensors.
    for x, y in set, #set, set[i], set.batches, state_dict and load_state_dict as of every set. Options: drop_last = false, seed, transform
    (a function of the batch's x, y). The order of an epoch is that of the other sets with the same seed.]])

return { Dataset = Dataset }
