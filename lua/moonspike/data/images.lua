-- Still images: files, resizing.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

local images = {}

local read_spec = { grey = o.boolean(false), policy = o.choice("strict", { "strict", "lenient", "oracle" }) }

function images.read_image(path, opts)
  return core.data.read_image(path, o.read("read_image", opts, read_spec))
end

images.write_image = core.data.write_image

local resize_spec = { size = o.pair(nil, { from = 1 }), short = o.integer(nil, { from = 1 }), antialias = o.boolean(true), alpha = o.boolean(false),
  filter = o.choice("bilinear", { "bilinear", "bicubic", "nearest", "bin" }) }

function images.resize(t, opts)
  local opt = o.read("resize", opts, resize_spec)
  if not o.is_tensor(t) or #t.shape < 2 then
    o.fail("resize: images: expected a tensor [..., h, w], got %s", o.show(t))
  end
  if (opt.size == nil) == (opt.short == nil) then o.fail "resize: size: expected either size = n or { h, w }, or short = n (the short side)" end
  local size = opt.size
  if type(size) ~= "table" then size = { size, size } end
  if opt.short then
    local h, w = t.shape[#t.shape - 1], t.shape[#t.shape]
    if h == 0 or w == 0 then o.fail("resize: images: nothing to resize in %s", o.shape(t)) end
    size = w < h and { opt.short * h // w, opt.short } or { opt.short, opt.short * w // h }
  end
  return core.data.resize(t, { h = math.tointeger(size[1]), w = math.tointeger(size[2]), filter = opt.filter, antialias = opt.antialias,
    alpha = opt.alpha })
end

doc.set(images.read_image, [[
    data.read_image(path, { grey = false, policy = "strict" }) -> tensor uint8 [3, h, w] ([1, h, w] of grey), or nil, message

    A JPEG or PNG file, told by its content, with the pixels of Pillow's Image.open(path).convert("RGB") (or "L"): tags of orientation,
    colour profiles and transparency change nothing. policy, for damaged files: "strict" refuses them, "lenient" keeps what there is,
    "oracle" keeps what Pillow keeps.]])
doc.set(images.resize, [[
    data.resize(images, { size = n or { h, w }, short = nil, filter = "bilinear", antialias = true, alpha = false }) -> tensor

    images: [..., h, w], uint8 (bit for bit as Pillow before 13, which fixes the order of the two passes) or float32 (as PyTorch).
    short = n instead of size: the short side becomes n. filter: "bilinear", "bicubic", "nearest" (pixel floor(i * in / out)), "bin" (sums
    of the pixels that fall together, as float32: events that are counted stay counted). antialias = false: float32 by interpolation between
    neighbours alone. alpha: uint8 [..., 2, h, w] as Pillow's mode LA, in which the second channel weighs the first.]])

return images
