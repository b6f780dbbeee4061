-- What a set is, in words and pictures.

local core = require "moonspike.core"
local o = require "moonspike.options"
local Set = require "moonspike.data.set"
local paint = require "moonspike.plot.paint"
local pixels = require "moonspike.plot.pixels"

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

local show_spec = { file = o.string(nil), frame = o.integer(nil, { from = 1 }), width = o.integer(nil, { from = 8, to = 400 }) }

-- Prints sample i: the image, or all frames (or one of them) of a recording side by side, those of one line below each other; writes a PNG
-- where file names one.
function Set:show(i, opts)
  local opt = o.read("show", opts, show_spec)
  local x, sample = pixels.bright(self:raw(i), self.scale ~= 255), self[i]
  if opt.frame and opt.frame > self.frames then o.fail("show: frame: expected 1 to %d, got %d", self.frames, opt.frame) end
  local frames = opt.frame and { x[opt.frame] } or {}
  if not opt.frame then
    for t = 1, self.frames do frames[t] = x[t] end
  end
  local picture = #frames > 1 and core.ops.cat(frames, self.shape[2] == 1 and 2 or 3) or frames[1]
  print(("%s[%d]: %s%s"):format(self.name, i, sample.class, sample.name and ", " .. sample.name or ""))
  local events = self.frames > 1
  paint(picture, { width = opt.width, events = events, flat = self.shape[2] == 1 })
  if opt.file then
    local ok, why = core.data.write_image(opt.file, pixels.rgb(picture, events))
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

Set.document("summary", "summary() -> text\n\n    Name, part, number and size of the samples, in a line.")
Set.document("counts", "counts() -> list\n\n    How many samples each class has.")
Set.document("describe", "describe() -> text\n\n    Counts of each class, range of the values, event rates, what readers noted and mended.")
Set.document("show", [[show(i[, { file = nil, frame = nil, width = nil }])

    Prints sample i, of a recording all frames or one; file: also as a PNG.]])
Set.document("statistics", [[statistics{ per = "set", samples = nil } -> { mean, std }

    Of each channel, before normalisation, of all samples or so many; per = "sample": means over the samples of each one's own.]])
