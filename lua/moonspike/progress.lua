-- ms.progress: a bar over any iterator. Loss, accuracy and firing rate come from the criterion and the neurons of the running step.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local monitor = require "moonspike.monitor"

local clock = core.system.clock
local stdout = 1

local Progress = { __name = "progress" }
Progress.__index = Progress

local function time(seconds) -- the two largest units
  seconds = math.floor(seconds + 0.5)
  if seconds < 60 then return ("%ds"):format(seconds) end
  if seconds < 3600 then return ("%dm%02ds"):format(seconds // 60, seconds % 60) end
  return ("%dh%02dm"):format(seconds // 3600, seconds // 60 % 60)
end

-- Reads the monitor: the loss and the accuracy are smoothed over the readings.
function Progress:read()
  if monitor.loss then
    local loss, share = monitor.loss:item(), monitor.correct:item() / monitor.samples
    local keep = self.loss and 0.8 or 0
    self.loss = keep * (self.loss or 0) + (1 - keep) * loss
    self.accuracy = keep * (self.accuracy or 0) + (1 - keep) * share
  end
  local spikes, sites = monitor.firing()
  if sites > 0 then self.firing = spikes / sites end
end

function Progress:fields()
  local text = {}
  if self.loss then text[#text + 1] = ("loss %.4f  acc %.2f%%"):format(self.loss, 100 * self.accuracy) end
  if self.firing then text[#text + 1] = ("rate %.3f"):format(self.firing) end
  for _, key in ipairs(o.keys(self.extra)) do
    local v = self.extra[key]
    if o.is_tensor(v) then v = v:item() end
    text[#text + 1] = ("%s %s"):format(key, math.type(v) == "float" and ("%.4g"):format(v) or tostring(v))
  end
  return table.concat(text, "  ")
end

function Progress:line()
  local elapsed = clock() - self.started
  local done = self.count
  local text = self.title
  if self.total then text = ("%s %d/%d"):format(text, done, self.total) else text = ("%s %d"):format(text, done) end
  local fields = self:fields()
  if fields ~= "" then text = text .. "  " .. fields end
  if done > 0 then text = ("%s  %.1f ms/step"):format(text, 1000 * elapsed / done) end
  if self.total and done > 0 then
    text = done < self.total and ("%s  left %s"):format(text, time(elapsed / done * (self.total - done)))
      or ("%s  took %s"):format(text, time(elapsed))
  end
  return text
end

function Progress:draw()
  local text = self:line()
  local columns = core.system.columns() or 80
  local room = columns - #text - 4
  if self.total and room >= 8 then
    room = math.min(room, 30)
    local full = math.floor(room * self.count / math.max(self.total, 1))
    text = ("[%s%s] "):format(("="):rep(full), ("."):rep(room - full)) .. text
  end
  io.stdout:write("\r", text:sub(1, columns - 1), (" "):rep(columns - 1 - #text))
  io.stdout:flush()
end

-- On a terminal redraws every fifth of a second; elsewhere a line at each tenth.
function Progress:show(last)
  local now = clock()
  if self.terminal then
    if last or now - self.shown >= 0.2 then
      self.shown = now
      self:read()
      self:draw()
    end
  elseif self.total then
    local tenth = self.count * 10 // math.max(self.total, 1)
    if tenth > self.tenth then
      self.tenth = tenth
      self:read()
      if not self.quiet then
        io.stdout:write(self:line(), "\n")
        io.stdout:flush()
      end
    end
  end
end

function Progress:finish()
  if self.finished then return end
  self.finished = true
  if self.terminal then
    self:show(true)
    io.stdout:write "\n"
  end
end

-- Shows further values: bar:set{ lr = 0.1 }. Tensors are read only when the bar is drawn.
function Progress:set(values)
  if type(values) ~= "table" then o.fail("progress: set: expected a table, got %s", o.show(values)) end
  for _, key in ipairs(o.keys(values)) do self.extra[key] = values[key] end
  return self
end

local function advance(self, first, ...)
  if first == nil then
    self:finish()
    return nil
  end
  monitor.begin()
  return first, ...
end

function Progress:__call(_, control)
  if control == nil then
    self.started, self.shown, self.count, self.tenth, self.finished = clock(), 0, 0, 0, false
  else
    self.count = self.count + 1
    self:show(false)
  end
  return advance(self, self.source(_, control))
end

Progress.__close = Progress.finish
Progress.__len = function(self) return self.total or 0 end

local spec = { total = o.integer(nil, { from = 0 }), quiet = o.boolean(false) }

local function progress(source, title, opts)
  o.check("progress", "iterable", source, o.loader)
  local opt = o.read("progress", opts, spec)
  local self = setmetatable({
    source = source, title = title == nil and "" or o.check("progress", "title", title, o.string()),
    total = opt.total or type(source) == "table" and source.batches or nil, quiet = opt.quiet, extra = {},
    terminal = core.system.isatty(stdout) and not opt.quiet, started = clock(), shown = 0, count = 0, tenth = 0,
  }, Progress)
  return self, nil, nil, self -- the last one closes the bar when a loop is left early
end

return doc.set(progress, [==[
    ms.progress(iterable[, title[, { total =, quiet = false }]]) -> bar

    for x, y in ms.progress(train, "epoch 1") do ... end

    Shows steps, loss and accuracy (of the criterion that was called in the step), the firing rate of the neurons, time per step and time
    left. On a terminal one line that is redrawn; elsewhere a line at each tenth. bar:set{ lr = 0.1 } shows more.]==])
