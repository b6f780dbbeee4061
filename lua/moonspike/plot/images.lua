-- Feature maps, images and event frames side by side.

local o = require "moonspike.options"
local pixels = require "moonspike.plot.pixels"
local Figure = require "moonspike.plot.figure"

local quote = Figure.quote
local spec = Figure.options(nil, nil, {
  names = o.table(nil), columns = o.integer(nil, { from = 1 }), events = o.boolean(false), each = o.boolean(false), unit = o.string(""),
})
local MOST = 144 -- pictures in one figure
local TOP, BOTTOM, GAP = 40, 36, 8 -- pixels: the title, the line that explains the colours, between pictures

-- A dot for each pixel: column, row from above, red, green, blue.
local function dots(rgb)
  local r, g, b = table.unpack(rgb:totable())
  local lines = {}
  for row = 1, #r do
    for col = 1, #r[1] do lines[#lines + 1] = ("%d %d %d %d %d"):format(col, row, r[row][col], g[row][col], b[row][col]) end
  end
  return lines
end

local function numbers_of(x)
  local rows = {}
  for i, image in ipairs(x:totable()) do
    for c, plane in ipairs(image) do
      for row, values in ipairs(plane) do
        for col, v in ipairs(values) do rows[#rows + 1] = { i, c, row, col, v } end
      end
    end
  end
  return rows
end

-- What a reader has to know of the colours.
local function legend(opt, channels, least, most)
  local unit = opt.unit ~= "" and " " .. opt.unit or ""
  if opt.each then return "each picture has its own scale" end
  if channels == 2 and opt.events then return ("red: ON, blue: OFF; brightest: %.4g%s"):format(most, unit ~= "" and unit or " events") end
  if channels == 1 then return ("black: %.4g%s, white: %.4g%s"):format(least, unit, most, unit) end
  return ""
end

return function(x, opts)
  local opt = o.read("images", opts, spec)
  if not o.is_tensor(x) or x:numel() == 0 or x:dim() < 2 or x:dim() > 4 then
    o.fail("images: x: expected a tensor [n, H, W] (feature maps) or [n, C, H, W], got %s", o.show(x))
  end
  x = x:detach()
  while x:dim() < 4 do x = x:unsqueeze(x:dim() == 3 and 2 or 1) end
  local n, channels, h, w = table.unpack(x.shape)
  if channels > 3 or channels == 2 and not opt.events then
    o.fail("images: x: expected 1 channel, 3, or 2 with events = true, got %s; x[i] are the feature maps of sample i", o.shape(x))
  end
  if n > MOST then o.fail("images: x: expected at most %d pictures, got %d; x:narrow(1, 1, %d) takes the first ones", MOST, n, MOST) end
  if opt.names and #opt.names ~= n then o.fail("images: names: expected %d, got %d", n, #opt.names) end
  local columns = math.min(n, opt.columns or math.ceil(math.sqrt(n * h / w * 1.6)))
  local rows = (n + columns - 1) // columns
  local side = math.max(70, math.min(220, 760 // columns)) -- pixels of a picture's width
  local named = opt.names and 24 or 0
  local tall = math.max(12, math.floor(side * h / w + 0.5))
  opt.width, opt.height = opt.width or math.max(360, columns * (side + GAP) + GAP), opt.height or TOP + BOTTOM + rows * (tall + named + GAP)
  local figure = Figure.new(opt)
  figure:left_out(n * channels * h * w - math.tointeger(x:isfinite():sum():item()), "x", "not finite")
  local scaled, least, most = pixels.bright(x, opt.events)
  figure:add("unset key; unset border; unset grid; unset tics; set lmargin 0; set rmargin 0; set bmargin 0; set tmargin 0")
  figure:add("set multiplot; set label 1 %s at screen 0.5, screen %.10g center; set label 2 %s at screen 0.5, screen %.10g center",
    quote(opt.title), 1 - 0.5 * TOP / opt.height, quote(legend(opt, channels, least, most)), 0.5 * BOTTOM / opt.height)
  local cell_w, cell_h = (opt.width - GAP) / columns, (opt.height - TOP - BOTTOM) / rows
  for i = 1, n do
    local left, top = GAP + (i - 1) % columns * cell_w, opt.height - TOP - (i - 1) // columns * cell_h - named
    figure:data("x" .. i, dots(pixels.rgb(opt.each and pixels.bright(x[i], opt.events) or scaled[i], opt.events)))
    figure:add("set origin %.10g,%.10g; set size %.10g,%.10g", left / opt.width, (top - (cell_h - named - GAP)) / opt.height, (cell_w - GAP) / opt.width,
      (cell_h - named - GAP) / opt.height)
    if opt.names then figure:add("set label 3 %s at graph 0.5, graph 1 center offset 0,0.6", quote(tostring(opt.names[i]))) end
    figure:add("set size ratio -1; plot [0.5:%g] [%g:0.5] $x%d using 1:2:3:4:5 with rgbimage", w + 0.5, h + 0.5, i)
    if i == 1 then figure:add "unset label 1; unset label 2" end
  end
  figure:add "unset multiplot"
  return figure:finish({ "image", "channel", "row", "column", "value" }, numbers_of(x))
end
