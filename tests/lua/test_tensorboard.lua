-- Event files of TensorBoard: their bytes. Files of this writer were read back by TensorBoard 2.21, values and steps.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"

local folder = s.folder()
local function hex(bytes) return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end

TestTensorboard = {}

-- CRC-32C bit by bit, masked as in a TFRecord.
local function masked(bytes)
  local c = 0xffffffff
  for i = 1, #bytes do
    c = c ~ bytes:byte(i)
    for _ = 1, 8 do c = (c & 1) * 0x82f63b78 ~ c >> 1 end
  end
  c = c ~ 0xffffffff
  return string.pack("<I4", ((c >> 15 | c << 17) + 0xa282ead8) & 0xffffffff)
end

function TestTensorboard:test_bytes()
  lu.assertEquals(hex(masked(string.pack("<I8", 24))), "a37f4b22")
  local before = os.time()
  local writer = assert(ms.tensorboard(folder .. "/run"))
  writer:scalar("a/b", 0.25, 300)
  writer:close()
  local bytes = s.read(writer.path)
  for _, at in ipairs { 14, 54 } do -- wall_time
    local time = string.unpack("<d", bytes, at)
    lu.assertTrue(time >= before and time <= os.time())
  end
  -- length, its checksum, Event { wall_time, file_version = "brain.Event:2" }, its checksum
  local first = "09" .. hex(bytes:sub(14, 21)) .. "1a0d" .. hex "brain.Event:2"
  lu.assertEquals(hex(bytes:sub(1, 8)), "1800000000000000")
  lu.assertEquals(hex(bytes:sub(9, 12)), "a37f4b22") -- the masked CRC-32C of a length of 24, as every such file has it
  lu.assertEquals(hex(bytes:sub(13, 36)), first)
  -- Event { wall_time, step = 300, summary { value { tag = "a/b", simple_value = 0.25 } } }
  local second = "09" .. hex(bytes:sub(54, 61)) .. "10ac02" .. "2a0c0a0a" .. "0a03" .. hex "a/b" .. "150000803e"
  lu.assertEquals(hex(bytes:sub(41, 48)), ("%02x00000000000000"):format(#second // 2))
  lu.assertEquals(hex(bytes:sub(53, 52 + #second // 2)), second)
  lu.assertEquals(#bytes, 52 + #second // 2 + 4)
  lu.assertEquals(hex(bytes:sub(37, 40)), hex(masked(bytes:sub(13, 36))))
  lu.assertEquals(hex(bytes:sub(-4)), hex(masked(bytes:sub(53, -5))))
end

-- min, max, num, sum, sum of squares, and counts of 64 bins that hold every value once.
function TestTensorboard:test_histogram()
  local writer = assert(ms.tensorboard(folder .. "/histogram"))
  local x = ms.arange(0, 128):float()
  writer:histogram("h", x, 1)
  writer:close()
  local bytes = s.read(writer.path)
  local at = bytes:find(string.pack("<Bd", 0x09, 0), 60, true) -- min
  local low, _, high, _, n, _, sum, _, squares = string.unpack("<dBdBdBdBd", bytes, at + 1)
  lu.assertEquals({ low, high, n, sum, squares }, { 0, 127, 128, 127 * 64, 127 * 128 * 255 // 6 })
  local counts = { string.unpack(("<" .. ("d"):rep(64)), bytes, #bytes - 4 - 512 + 1) }
  local all = 0
  for i = 1, 64 do
    all = all + counts[i]
    lu.assertTrue(counts[i] >= 1 and counts[i] <= 3)
  end
  lu.assertEquals(all, 128)
  writer = assert(ms.tensorboard(folder .. "/histogram"))
  writer:histogram("same", ms.ones(5), 0):close()
end

function TestTensorboard:test_refused()
  local writer = assert(ms.tensorboard(folder .. "/refused"))
  s.raises("scalar: tag: expected a name, got ''", writer.scalar, writer, "", 1, 1)
  s.raises("scalar: value: expected a number or a tensor of one element, got 'x'", writer.scalar, writer, "a", "x", 1)
  s.raises("scalar: step: expected an integer >= 0, got -1", writer.scalar, writer, "a", 1, -1)
  s.raises("histogram: values: expected finite values", writer.histogram, writer, "a", ms.tensor { 1, math.huge }, 1)
  for _, v in ipairs { math.huge, -math.huge, 0 / 0 } do -- of one infinity alone the range is no number
    s.raises("histogram: values: expected finite values", writer.histogram, writer, "a", ms.tensor { v, v }, 1)
  end
  s.raises("histogram: values: expected a tensor with elements", writer.histogram, writer, "a", ms.zeros(0), 1)
  local before = #s.read(writer.path)
  lu.assertEquals(before, 8 + 4 + 24 + 4) -- nothing was written
  writer:close()
  s.raises("is closed", writer.scalar, writer, "a", 1, 1)
  lu.assertEquals(select(2, ms.tensorboard "/dev/null/x"):match "/dev/null", "/dev/null")
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
