-- ms.data.read_image, write_image, resize.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"

local corpus = arg[0]:match "^(.*)lua/[^/]*$" .. "fuzz/corpus/"
local folder

local function has(library)
  for _, pair in ipairs(core.device.versions()) do
    if pair[1] == library then return pair[2] ~= "none" end
  end
end

TestFiles = {}
function TestFiles:setUp()
  if not (has "libjpeg-turbo" and has "libpng") then lu.skip "built without libjpeg-turbo or libpng" end
  folder = s.folder()
end
function TestFiles:tearDown() if folder then s.remove(folder) end end

function TestFiles:test_read()
  local x = ms.data.read_image(corpus .. "jpeg/cmyk-flat.jpg")
  lu.assertEquals({ x.dtype, x.shape }, { "uint8", { 3, 8, 8 } })
  for c, want in ipairs { 137, 181, 207 } do lu.assertAlmostEquals(x[c][3][3]:item(), want, 2) end
  lu.assertEquals(ms.data.read_image(corpus .. "png/rgb.png", { grey = true }).shape, { 1, 9, 13 })
end

function TestFiles:test_write_and_read()
  local x = ms.tensor({ { { 0, 1, 2 }, { 3, 4, 5 } }, { { 6, 7, 8 }, { 9, 10, 11 } }, { { 250, 251, 252 }, { 253, 254, 255 } } }, { dtype = "uint8" })
  lu.assertTrue(ms.data.write_image(folder .. "/x.png", x))
  lu.assertEquals(ms.data.read_image(folder .. "/x.png"):totable(), x:totable())
  ms.data.write_image(folder .. "/grey.png", ms.tensor { { 0, 0.5, 1 }, { -1, 2, 0.25 } })
  lu.assertEquals(ms.data.read_image(folder .. "/grey.png", { grey = true }):totable(), { { { 0, 128, 255 }, { 0, 255, 64 } } })
  lu.assertEquals(ms.data.read_image(folder .. "/grey.png"):totable()[3], { { 0, 128, 255 }, { 0, 255, 64 } })
end

function TestFiles:test_environment_and_mistakes()
  local x, why, status = ms.data.read_image(folder .. "/none.jpg")
  lu.assertNil(x)
  lu.assertStrContains(why, "none.jpg: No such file")
  lu.assertEquals(status, "EIO")
  s.write(folder .. "/half.jpg", s.read(corpus .. "jpeg/420.jpg"):sub(1, 700))
  x, why, status = ms.data.read_image(folder .. "/half.jpg")
  lu.assertEquals({ x, status }, { nil, "EFORMAT" })
  lu.assertStrContains(why, "half.jpg: damaged file: byte 700")
  lu.assertEquals(ms.data.read_image(folder .. "/half.jpg", { policy = "lenient" }).shape, { 3, 29, 37 })
  s.raises("read_image: unknown option 'gray'", ms.data.read_image, "x", { gray = true })
  s.raises("write_image: image: expected [h, w], [1, h, w] or [3, h, w], got [2, 3, 4]", ms.data.write_image, folder .. "/y.png", ms.zeros(2, 3, 4))
  local ok, message = ms.data.write_image(folder .. "/no/such/y.png", ms.zeros(3, 4))
  lu.assertNil(ok)
  lu.assertStrContains(message, "No such file")
end

TestResize = {}

function TestResize:test_bytes_as_pillow()
  local rows = {}
  for r = 0, 7 do
    rows[r + 1] = {}
    for c = 0, 7 do rows[r + 1][c + 1] = (r + c) % 3 == 0 and 255 or 0 end
  end
  local x = ms.tensor({ { rows, rows } }, { dtype = "uint8" }) -- [1, 2, 8, 8]
  local want = { { 82, 85, 83 }, { 85, 85, 85 }, { 83, 85, 84 } }
  lu.assertEquals(ms.data.resize(x, { size = 3 }):totable(), { { want, want } })
  lu.assertEquals(ms.data.resize(x[1][1], { size = { 3, 3 } }):totable(), want)
  lu.assertEquals(ms.data.resize(x, { size = { 8, 8 } }):totable(), x:totable())
end

function TestResize:test_mode_la()
  local l, a = {}, {}
  for r = 0, 7 do
    l[r + 1], a[r + 1] = {}, {}
    for c = 0, 7 do l[r + 1][c + 1], a[r + 1][c + 1] = c < 4 and 255 or 0, r < 4 and 255 or 0 end
  end
  local x = ms.tensor({ { l, a }, { l, a } }, { dtype = "uint8" }) -- [T, 2, H, W]
  local want = { { { 255, 128, 0 }, { 255, 127, 0 }, { 0, 0, 0 } }, { { 255, 255, 255 }, { 128, 128, 128 }, { 0, 0, 0 } } }
  lu.assertEquals(ms.data.resize(x, { size = 3, alpha = true }):totable(), { want, want })
end

function TestResize:test_floats()
  local x = ms.arange(0, 20):view(4, 5)
  x = x * x
  s.near(ms.data.resize(x, { size = { 3, 2 } }),
    { 12.227272987365723, 26.227272033691406, 79.2272720336914, 117.22726440429688, 216.22731018066406, 278.2272644042969 })
  s.near(ms.data.resize(x, { size = { 3, 2 }, antialias = false }),
    { 6.166667461395264, 20.33333396911621, 74.5, 122.0, 226.16668701171875, 307.0000305175781 })
  lu.assertEquals(ms.data.resize(ms.ones(2, 5, 7), { size = { 2, 3 }, filter = "bin" }):totable(),
    { { { 9, 6, 6 }, { 6, 4, 4 } }, { { 9, 6, 6 }, { 6, 4, 4 } } })
  lu.assertEquals(ms.data.resize(ms.zeros(3, 375, 500), { short = 256 }).shape, { 3, 256, 341 })
end

function TestResize:test_mistakes()
  s.raises("resize: size: expected either size = n or { h, w }, or short = n", ms.data.resize, ms.zeros(2, 3), {})
  s.raises("resize: images: expected a tensor [..., h, w], got 3", ms.data.resize, 3, { size = 2 })
  s.raises("resize: filter: expected one of 'bilinear'", ms.data.resize, ms.zeros(2, 3), { size = 2, filter = "lanczos" })
  s.raises("resize: expected uint8 or float32, got int64", ms.data.resize, ms.zeros(2, 3):long(), { size = 2 })
  s.raises("resize: alpha: expected 2 channels of bytes and a smooth filter, got 2 of reals", ms.data.resize, ms.zeros(2, 4, 4), { size = 2, alpha = true })
  s.raises("resize: alpha: expected 2 channels of bytes and a smooth filter, got 3", ms.data.resize, ms.zeros({ 3, 4, 4 }, { dtype = "uint8" }), { size = 2, alpha = true })
end

os.exit(lu.LuaUnit.run() == 0)
