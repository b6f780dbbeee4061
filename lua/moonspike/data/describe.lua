-- What a set is, in words and pictures.

local core = require "moonspike.core"
local o = require "moonspike.options"
local Set = require "moonspike.data.set"

local function shape(self)
  local list = { table.unpack(self.shape) }
  if self.frames > 1 then table.insert(list, 1, self.frames) end
  return o.shape(list)
end

function Set:summary()
  local opt, text = self.loading, {}
  text[1] = ("%s: %d samples of %s, %d classes"):format(self.name, #self, shape(self), #self.classes)
  text[2] = ("%d batches of %d%s, T = %d"):format(self.batches, opt.batch_size, opt.shuffle and ", shuffled" or "", self.T)
  if opt.balanced then text[#text] = text[#text] .. ", classes balanced" end
  if self.recipe then text[#text + 1] = self.augmented end
  if opt.mean or opt.std then
    text[#text + 1] = ("mean { %s }, std { %s }"):format(table.concat(opt.mean or {}, ", "), table.concat(opt.std or {}, ", "))
  end
  text[#text + 1] = ("split %s (%s)"):format(self.split, self:hash())
  if self.folder then text[#text + 1] = "from " .. self.folder end
  return table.concat(text, "; ")
end

-- Samples of each class, in the order of set.classes.
function Set:counts()
  local counts, labels = {}, self.labels:totable()
  for i = 1, #self.classes do counts[i] = 0 end
  for _, member in ipairs(self.members:totable()) do
    local y = labels[member + 1] + 1
    counts[y] = counts[y] + 1
  end
  return counts
end

local function columns(cells, width)
  local longest, lines = 0, {}
  for _, cell in ipairs(cells) do longest = math.max(longest, utf8.len(cell) or #cell) end
  local per_line = math.max(1, (width - 2) // (longest + 2))
  for i = 1, #cells, per_line do
    local line = {}
    for j = i, math.min(i + per_line - 1, #cells) do line[#line + 1] = cells[j] .. (" "):rep(longest - (utf8.len(cells[j]) or #cells[j])) end
    lines[#lines + 1] = "  " .. table.concat(line, "  "):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

-- Mean and spread of a sample's values, from at most 64 samples spread over the set.
local function values(self)
  local step, n, sum, least, most = math.ceil(#self / 64), 0, 0, math.huge, -math.huge
  for i = 1, #self, step do
    local x = self:raw(i):float()
    n, sum = n + 1, sum + x:mean():item()
    least, most = math.min(least, x:min():item()), math.max(most, x:max():item())
  end
  return ("values from %g to %g, mean %.4g (of %d samples)"):format(least, most, sum / n, n)
end

-- Events, seconds and rate of recordings, likewise.
local function rates(self)
  local step, n, events, seconds = math.ceil(#self / 32), 0, 0, 0
  for i = 1, #self, step do
    local t = self:events(i).t
    n, events = n + 1, events + t:numel()
    if t:numel() > 0 then seconds = seconds + (t:max():item() - t:min():item()) / 1e6 end
  end
  return ("%.0f events in %.3f s a sample, %.0f events/s (of %d samples)"):format(events / n, seconds / n, events / math.max(seconds, 1e-9), n)
end

function Set:describe()
  local cells, lines = {}, { self:summary() }
  for i, count in ipairs(self:counts()) do cells[i] = ("%s %d"):format(self.classes[i], count) end
  lines[#lines + 1] = columns(cells, 120)
  lines[#lines + 1] = values(self)
  if self.events then lines[#lines + 1] = rates(self) end
  for _, note in ipairs(self.notes or {}) do lines[#lines + 1] = note end
  local repairs = self:repairs()
  for _, what in ipairs(o.keys(repairs)) do lines[#lines + 1] = ("repairs: %s %d"):format(what, repairs[what]) end
  return table.concat(lines, "\n")
end

-- ---- pictures ----

-- [H][W] of { r, g, b } in 0 to 255: colour images as they are, grey ones grey, events ON red and OFF blue on black.
local function colours(x, events)
  local c, h, w = table.unpack(x.shape)
  local plane = x:totable()
  local function at(k, row, col)
    local v = plane[k][row][col]
    return v == v and v or 0 -- what is no number is black
  end
  local rows = {}
  for row = 1, h do
    rows[row] = {}
    for col = 1, w do
      if events and c == 2 then rows[row][col] = { at(2, row, col), 0, at(1, row, col) }
      elseif c == 3 then rows[row][col] = { at(1, row, col), at(2, row, col), at(3, row, col) }
      else rows[row][col] = { at(1, row, col), at(1, row, col), at(1, row, col) } end
    end
  end
  return rows
end

-- Values scaled so that the largest is 255; bytes of images stay as they are.
local function bright(self, x)
  if x.dtype == "uint8" and self.scale == 255 then return x end
  x = x:float()
  local least, most = math.min(0, x:min():item()), x:max():item()
  return most > least and (x - least) * (255 / (most - least)) or x * 0
end

local function byte(v) return math.max(0, math.min(255, math.floor(v + 0.5))) end

local function text_of(rows)
  local h, w, lines = #rows, #rows[1], {}
  for row = 1, h, 2 do
    local line = {}
    for col = 1, w do -- a half block shows two pixels
      local a, b = rows[row][col], rows[math.min(row + 1, h)][col]
      line[#line + 1] = ("\27[38;2;%d;%d;%dm\27[48;2;%d;%d;%dm\u{2580}"):format(byte(a[1]), byte(a[2]), byte(a[3]), byte(b[1]), byte(b[2]), byte(b[3]))
    end
    lines[#lines + 1] = table.concat(line) .. "\27[0m"
  end
  return table.concat(lines, "\n")
end

local shades = " .:-=+*#%@"

local function letters_of(rows)
  local lines = {}
  for row = 1, #rows, 2 do
    local line = {}
    for col = 1, #rows[row] do
      local p = rows[row][col]
      local shade = math.floor((p[1] + p[2] + p[3]) / 765 * 9.99) + 1
      line[#line + 1] = shades:sub(shade, shade)
    end
    lines[#lines + 1] = table.concat(line)
  end
  return table.concat(lines, "\n")
end

-- At most `width` wide: pixels become the means of several, and those of recordings as bright again as before.
local function shrunk(self, picture, width)
  local h, w = picture.shape[2], picture.shape[3]
  local step = math.ceil(w / width)
  if step == 1 then return picture end
  local lines = self.shape[2] == 1 and h or math.max(1, h // step)
  local small = core.data.resize(picture:float(), { h = lines, w = w // step, filter = "bilinear", antialias = true, alpha = false })
  return self.frames > 1 and bright(self, small) or small
end

local show_spec = { file = o.string(nil), frame = o.integer(nil, { from = 1 }), width = o.integer(nil, { from = 8, to = 400 }) }

-- Prints sample i: the image, or all frames (or one of them) of a recording side by side, those of one line below each other; writes a PNG
-- where file names one.
function Set:show(i, opts)
  local opt = o.read("show", opts, show_spec)
  local x, sample = bright(self, self:raw(i)), self[i]
  if opt.frame and opt.frame > self.frames then o.fail("show: frame: expected 1 to %d, got %d", self.frames, opt.frame) end
  local frames = opt.frame and { x[opt.frame] } or {}
  if not opt.frame then
    for t = 1, self.frames do frames[t] = x[t] end
  end
  local picture = #frames > 1 and core.ops.cat(frames, self.shape[2] == 1 and 2 or 3) or frames[1]
  print(("%s[%d]: %s%s"):format(self.name, i, sample.class, sample.name and ", " .. sample.name or ""))
  local tty = core.system.isatty(1)
  local width = opt.width or math.max(8, core.system.columns() or 80)
  print((tty and text_of or letters_of)(colours(shrunk(self, picture, width), self.frames > 1)))
  if opt.file then
    local rows, flat = colours(picture, self.frames > 1), {}
    for _, row in ipairs(rows) do
      for _, pixel in ipairs(row) do
        for k = 1, 3 do flat[#flat + 1] = byte(pixel[k]) end
      end
    end
    local image = core.tensor.tensor(flat, { dtype = "uint8" }):view(#rows, #rows[1], 3):permute(3, 1, 2)
    local ok, why = core.data.write_image(opt.file, image)
    if not ok then o.fail("show: %s", why) end
  end
end

local statistics_spec = { per = o.choice("set", { "set", "sample" }), samples = o.integer(nil, { from = 1 }) }

-- { mean = {...}, std = {...} } of each channel, of values as they are before normalisation. per = "sample": the means over the samples of each one's own
-- mean and deviation, which is what the widely copied deviations of CIFAR-10 are.
function Set:statistics(opts)
  local opt = o.read("statistics", opts, statistics_spec)
  local n, channels = math.min(opt.samples or #self, #self), self.shape[1]
  local plain = self:derive(nil, nil, { mean = 0, std = 1, shuffle = false, balanced = false, drop_last = false, augment = {}, resident = false })
  if n < #self then plain = plain:subset((function()
    local list = {}
    for i = 1, n do list[i] = 1 + (i - 1) * #self // n end
    return list
  end)()) end
  plain.loading.transform = nil
  local sum, square, deviation = {}, {}, {}
  for c = 1, channels do sum[c], square[c], deviation[c] = 0, 0, 0 end
  for x in plain do
    if self.frames == 1 then x = x:narrow(1, 1, 1) end
    local mean, power = x:mean { 1, 4, 5 }:totable(), (x * x):mean { 1, 4, 5 }:totable()
    for i = 1, #mean do
      for c = 1, channels do
        sum[c], square[c] = sum[c] + mean[i][c], square[c] + power[i][c]
        deviation[c] = deviation[c] + math.sqrt(math.max(0, power[i][c] - mean[i][c] ^ 2))
      end
    end
  end
  plain:close()
  local out = { mean = {}, std = {} }
  for c = 1, channels do
    out.mean[c] = sum[c] / n
    out.std[c] = opt.per == "sample" and deviation[c] / n or math.sqrt(math.max(0, square[c] / n - out.mean[c] ^ 2))
  end
  return out
end
