-- ms.plot.terminal: small pictures out of characters, as wide as the terminal; images in pixels where it shows them.

local core = require "moonspike.core"
local o = require "moonspike.options"
local numbers = require "moonspike.plot.numbers"
local pixels = require "moonspike.plot.pixels"
local paint = require "moonspike.plot.paint"
local histogram = require "moonspike.plot.histogram"
local spikes = require "moonspike.plot.spikes"

local terminal = {}

local WIDTH = 80 -- characters, where nobody says

local sizes = { width = o.integer(nil, { from = 16, to = 1000 }), height = o.integer(nil, { from = 1, to = 1000 }) }

local function width_of(opt) return opt.width or math.max(16, core.system.columns() or WIDTH) end

local function missing(n, what, why)
  if n > 0 then print(numbers.left_out(n, what, why or "not finite")) end
end

-- Lines of characters inside axes: numbers at the ends of both.
local function frame(lines, top, bottom, left, right)
  local margin = math.max(#top, #bottom)
  for i, line in ipairs(lines) do
    local text = i == 1 and top or i == #lines and bottom or ""
    lines[i] = (" "):rep(margin - #text) .. text .. (text ~= "" and " ┤" or " │") .. line
  end
  local w = utf8.len(lines[1]) - margin - 2
  lines[#lines + 1] = (" "):rep(margin + 1) .. "└" .. ("─"):rep(w)
  lines[#lines + 1] = (" "):rep(margin + 2) .. left .. (" "):rep(math.max(1, w - #left - #right)) .. right
  print((table.concat(lines, "\n"):gsub(" +\n", "\n")))
end

-- ---- lines, in braille: two dots wide and four high a character ----

local dot_bits = { { 0x01, 0x08 }, { 0x02, 0x10 }, { 0x04, 0x20 }, { 0x40, 0x80 } }

local Canvas = {}
Canvas.__index = Canvas

local function canvas(w, h) return setmetatable({ w = w, h = h, cells = {} }, Canvas) end

-- x, y from 0, y upwards.
function Canvas:dot(x, y)
  y = 4 * self.h - 1 - y
  local at = y // 4 * self.w + x // 2
  self.cells[at] = (self.cells[at] or 0) | dot_bits[y % 4 + 1][x % 2 + 1]
end

function Canvas:line(x0, y0, x1, y1)
  local steps = math.max(math.abs(x1 - x0), math.abs(y1 - y0), 1)
  for i = 0, steps do self:dot((2 * x0 * (steps - i) + 2 * x1 * i + steps) // (2 * steps), (2 * y0 * (steps - i) + 2 * y1 * i + steps) // (2 * steps)) end
end

function Canvas:lines()
  local list = {}
  for row = 0, self.h - 1 do
    local line = {}
    for col = 0, self.w - 1 do
      local cell = self.cells[row * self.w + col]
      line[col + 1] = cell and utf8.char(0x2800 + cell) or " "
    end
    list[row + 1] = table.concat(line)
  end
  return list
end

function terminal.plot(x, y, opts)
  if type(y) == "table" and #y == 0 and next(y) ~= nil then y, opts = nil, y end -- plot(y, options)
  if y == nil then
    y = numbers.list("terminal.plot", "y", x)
    x = {}
    for i = 1, #y do x[i] = i end
  end
  local opt = o.read("terminal.plot", opts, sizes)
  x, y = numbers.list("terminal.plot", "x", x), numbers.list("terminal.plot", "y", y)
  if #x ~= #y then o.fail("terminal.plot: y: expected %d values as in x, got %d", #x, #y) end
  local good, bad = { x = {}, y = {} }, 0
  for i = 1, #x do
    if numbers.finite(x[i]) and numbers.finite(y[i]) then good.x[#good.x + 1], good.y[#good.y + 1] = x[i], y[i] else bad = bad + 1 end
  end
  local x0, x1 = numbers.extent { good.x }
  local y0, y1 = numbers.extent { good.y }
  missing(bad, "y")
  if not x0 then return end
  local top, bottom = ("%.4g"):format(y1), ("%.4g"):format(y0)
  local w, h = width_of(opt) - math.max(#top, #bottom) - 2, opt.height or 12
  local c, last_x, last_y = canvas(w, h), nil, nil
  local function place(v, low, high, n) return high > low and math.floor((v - low) / (high - low) * (n - 1) + 0.5) or (n - 1) // 2 end
  for i = 1, #x do
    if numbers.finite(x[i]) and numbers.finite(y[i]) then
      local px, py = place(x[i], x0, x1, 2 * w), place(y[i], y0, y1, 4 * h)
      c:line(last_x or px, last_y or py, px, py)
      last_x, last_y = px, py
    else
      last_x, last_y = nil, nil
    end
  end
  frame(c:lines(), top, bottom, ("%.4g"):format(x0), ("%.4g"):format(x1))
end

-- ---- histograms, in eighths of blocks ----

local hist_spec = { width = sizes.width, bins = o.integer(12, { from = 1, to = 1000 }), range = numbers.range }

local function bar(eighths)
  local full, rest = eighths // 8, eighths % 8
  return ("█"):rep(full) .. (rest > 0 and utf8.char(0x2590 - rest) or "")
end

function terminal.hist(x, opts)
  local opt = o.read("terminal.hist", opts, hist_spec)
  local list, low, high = histogram.bins_of(x, opt.range)
  for _, entry in ipairs(list) do
    if entry.name ~= "" then print(entry.name) end
    missing(entry.missing, entry.name == "" and "x" or entry.name)
    local counts, inside, most, edges, longest = histogram.counts_of(entry.x, opt.bins, low, high), 0, 1, {}, 0
    for i, c in ipairs(counts) do
      inside, most = inside + c, math.max(most, c)
      edges[i] = ("%.4g"):format(low + (high - low) * (i - 1) / opt.bins)
      longest = math.max(longest, #edges[i])
    end
    missing(entry.x:numel() - entry.missing - inside, entry.name == "" and "x" or entry.name, "outside of the range")
    local room = math.max(1, width_of(opt) - longest - 3 - #tostring(most))
    for i, c in ipairs(counts) do
      local eighths = math.floor(c / most * room * 8 + 0.5)
      if c > 0 then eighths = math.max(1, eighths) end
      print((" "):rep(longest - #edges[i]) .. edges[i] .. " │" .. bar(eighths) .. (eighths > 0 and " " or "") .. c)
    end
    print((" "):rep(math.max(0, longest - #("%.4g"):format(high))) .. ("%.4g"):format(high))
  end
end

-- ---- spikes: two neurons a character, a step each; several of them where there is no room ----

local halves = { [0] = " ", "▀", "▄", "█" }

function terminal.raster(x, opts)
  local opt = o.read("terminal.raster", opts, sizes)
  local rows = spikes.rows("terminal.raster", "spikes", x)
  local steps, neurons = #rows, #rows[1]
  local last = tostring(neurons)
  local wide, tall = math.ceil(steps / (width_of(opt) - #last - 2)), math.ceil(neurons / (2 * (opt.height or 16)))
  local fired, bad = {}, 0
  for t, row in ipairs(rows) do
    for n, s in ipairs(row) do
      if not numbers.finite(s) then bad = bad + 1
      elseif s ~= 0 then
        local line, col, half = (n - 1) // tall // 2 + 1, (t - 1) // wide + 1, (n - 1) // tall % 2
        fired[line] = fired[line] or {}
        fired[line][col] = (fired[line][col] or 0) | 1 << half
      end
    end
  end
  missing(bad, "spikes")
  local lines = {}
  for line = 1, ((neurons + tall - 1) // tall + 1) // 2 do
    local cells = {}
    for col = 1, (steps + wide - 1) // wide do cells[col] = halves[fired[line] and fired[line][col] or 0] end
    lines[line] = table.concat(cells)
  end
  frame(lines, "1", last, "1", tostring(steps))
end

-- ---- images ----

local image_spec = { width = o.integer(nil, { from = 8, to = 1000 }), events = o.boolean(false) }

function terminal.image(x, opts)
  local opt = o.read("terminal.image", opts, image_spec)
  if not o.is_tensor(x) or x:numel() == 0 or x:dim() < 2 or x:dim() > 3 then
    o.fail("terminal.image: x: expected a tensor [H, W] or [C, H, W], got %s", o.show(x))
  end
  x = x:detach()
  if x:dim() == 2 then x = x:unsqueeze(1) end
  local c = x.shape[1]
  if c > 3 or c == 2 and not opt.events then
    o.fail("terminal.image: x: expected 1 channel, 3, or 2 with events = true, got %s", o.shape(x))
  end
  missing(x:numel() - math.tointeger(x:isfinite():sum():item()), "x")
  paint(pixels.bright(x, opt.events), opt)
end

return terminal
