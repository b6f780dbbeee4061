-- Tensors [C, H, W] as pixels: brightness, colours, size.

local core = require "moonspike.core"

local pixels = {}
local ops = core.ops

-- Values scaled so that 0, or the least where it is below, becomes 0 and the largest 255; what is not finite becomes 0. Also the two ends. Bytes stay
-- as they are, but for counts of events.
function pixels.bright(x, events)
  if x.dtype == "uint8" and not events then return x, 0, 255 end
  x = x:float()
  x = ops.where(x:isfinite(), x, 0)
  local least, most = math.min(0, x:min():item()), x:max():item()
  return most > least and (x - least) * (255 / (most - least)) or x * 0, least, most
end

-- Values from 0 to 255 as bytes [3, H, W]: colour images as they are; events, channels OFF and ON, ON red and OFF blue on black; of others the first
-- channel in grey.
function pixels.rgb(x, events)
  local c, first = x.shape[1], x:narrow(1, 1, 1)
  if c == 2 and events then x = ops.cat({ x:narrow(1, 2, 1), first * 0, first }, 1)
  elseif c ~= 3 then x = ops.cat({ first, first, first }, 1) end
  if x.dtype == "uint8" then return x end
  return (ops.where(x:eq(x), x:float(), 0) + 0.5):floor():clamp(0, 255):byte()
end

-- At most `width` wide: pixels become the means of several. flat: a picture of lines, which stay as many as they are.
function pixels.shrunk(x, width, flat)
  local h, w = x.shape[2], x.shape[3]
  local step = math.ceil(w / width)
  if step == 1 then return x end
  return core.data.resize(x:float(), { h = flat and h or math.max(1, h // step), w = w // step, filter = "bilinear", antialias = true, alpha = false })
end

-- Whole multiples of its size: each pixel `times` wide and high.
function pixels.grown(x, times)
  return times > 1 and x:repeat_interleave(times, 2):repeat_interleave(times, 3) or x
end

return pixels
