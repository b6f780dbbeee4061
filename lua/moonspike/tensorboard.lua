-- ms.tensorboard: event files that TensorBoard reads. A file is a list of TFRecords, each an Event of tensorflow/core/util/event.proto in protobuf's wire
-- format: only the few fields of scalars and histograms are written here.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

-- ---- CRC-32C, masked, as TFRecord has it ----

local castagnoli = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do c = c & 1 == 1 and c >> 1 ~ 0x82f63b78 or c >> 1 end
  castagnoli[i] = c
end

local function crc32c(bytes)
  local c = 0xffffffff
  for i = 1, #bytes do c = castagnoli[(c ~ bytes:byte(i)) & 0xff] ~ c >> 8 end
  return c ~ 0xffffffff
end

local function masked(bytes)
  local c = crc32c(bytes)
  return string.pack("<I4", ((c >> 15 | c << 17) + 0xa282ead8) & 0xffffffff)
end

local function record(bytes)
  local length = string.pack("<I8", #bytes)
  return length .. masked(length) .. bytes .. masked(bytes)
end

-- ---- protobuf's wire format ----

local function varint(n)
  local out = {}
  repeat
    local low = n & 0x7f
    n = n >> 7
    out[#out + 1] = string.char(n ~= 0 and low | 0x80 or low)
  until n == 0
  return table.concat(out)
end

local function whole(field, n) return varint(field << 3) .. varint(n) end
local function double(field, v) return varint(field << 3 | 1) .. string.pack("<d", v) end
local function bytes(field, text) return varint(field << 3 | 2) .. varint(#text) .. text end
local function float(field, v) return varint(field << 3 | 5) .. string.pack("<f", v) end
local function doubles(field, list)
  local packed = {}
  for i, v in ipairs(list) do packed[i] = string.pack("<d", v) end
  return bytes(field, table.concat(packed))
end

-- Event: wall_time 1, step 2, file_version 3, summary 5. Summary: value 1. Value: tag 1, simple_value 2, histo 5.
local function event(time, step, value)
  return double(1, time) .. (step and whole(2, step) or "") .. value
end
local function summary(tag, value) return bytes(5, bytes(1, bytes(1, tag) .. value)) end

-- ---- the writer ----

local Writer = { __name = "tensorboard writer" }
Writer.__index = Writer

local bins = 64

function Writer:write(step, value)
  if not self.file then o.fail("tensorboard: %s is closed", self.path) end
  local ok, why = self.file:write(record(event(os.time(), step, value)))
  if ok then ok, why = self.file:flush() end
  if not ok then o.fail("tensorboard: %s: %s", self.path, why) end
  return self
end

local step_rule, tag_rule = o.integer(nil, { from = 0 }), o.where(nil, "a name", function(v) return type(v) == "string" and #v > 0 end)

function Writer:scalar(tag, value, step)
  o.check("scalar", "tag", tag, tag_rule)
  if o.is_tensor(value) then value = value:item() end
  if not math.type(value) then o.fail("scalar: value: expected a number or a tensor of one element, got %s", o.show(value)) end
  return self:write(o.check("scalar", "step", step, step_rule), summary(tag, float(2, value)))
end

-- Counts of values in equal bins from the least to the largest: HistogramProto's min 1, max 2, num 3, sum 4, sum_squares 5, bucket_limit 6, bucket 7.
function Writer:histogram(tag, values, step)
  o.check("histogram", "tag", tag, tag_rule)
  if not o.is_tensor(values) or values:numel() == 0 then o.fail("histogram: values: expected a tensor with elements, got %s", o.show(values)) end
  o.check("histogram", "step", step, step_rule)
  local x = values:detach():float():reshape(-1)
  local low, high = x:min():item(), x:max():item()
  if not (high - low < math.huge) then
    o.fail("histogram: values: expected finite values, got some from %s to %s", o.show(low), o.show(high))
  end
  local limits, counts, below = {}, {}, 0
  for i = 1, bins do
    limits[i] = i == bins and high or low + (high - low) * i / bins
    local upto = x:le(limits[i]):sum():item()
    counts[i], below = upto - below, upto
  end
  return self:write(step, summary(tag, bytes(5, double(1, low) .. double(2, high) .. double(3, x:numel()) .. double(4, x:sum():item())
    .. double(5, x:square():sum():item()) .. doubles(6, limits) .. doubles(7, counts))))
end

function Writer:close()
  if self.file then self.file:close() end
  self.file = nil
end

Writer.__close, Writer.__gc = Writer.close, Writer.close

local opened = 0

local function open(folder)
  o.check("tensorboard", "folder", folder, o.string())
  local ok, why = core.system.mkdir(folder)
  if not ok then return nil, why end
  opened = opened + 1
  local path = ("%s/events.out.tfevents.%d.moonspike.%d.%d"):format(folder, os.time(), core.system.pid(), opened)
  local file
  file, why = io.open(path, "wb")
  if not file then return nil, why end
  local self = setmetatable({ path = path, file = file }, Writer)
  return self:write(nil, bytes(3, "brain.Event:2"))
end

doc.set(Writer.scalar, "writer:scalar(tag, value, step) -> writer\n\n    A number or a tensor of one element; tags with a slash are grouped: \"loss/train\".")
doc.set(Writer.histogram, "writer:histogram(tag, values, step) -> writer\n\n    The distribution of a tensor's elements, in 64 equal bins from the least to the largest.")

return doc.set(open, [[
    ms.tensorboard(folder) -> writer, or nil, message

    An event file in folder for TensorBoard (tensorboard --logdir folder): writer:scalar(tag, value, step), writer:histogram(tag, tensor, step),
    writer:close(). Each is on disk when the call returns.]])
