-- ms.log: one JSON object a line, flushed after each, so that a killed run leaves whole lines.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local engines = require "moonspike.engines"

local SHOWN = 40 -- characters of a broken line in a message

local Log = { __name = "log" }
Log.__index = Log

-- The first row of a run comes behind what it runs on: device, threads, engines, table.
local function line(row, first)
  local text = core.json.encode(row, { nonfinite = "null" }) .. "\n"
  return first and core.json.encode { moonspike = engines.record() } .. "\n" .. text or text
end

function Log:write(row)
  if type(row) ~= "table" then o.fail("log: row: expected a table, got %s", o.show(row)) end
  if not self.file then o.fail("log: %s is closed", self.path) end
  local plain = {}
  for _, key in ipairs(o.keys(row)) do plain[key] = o.is_tensor(row[key]) and row[key]:item() or row[key] end
  local _, why = self.file:write(line(plain, not self.started))
  self.started = true
  local ok, later = self.file:flush()
  if why or not ok then o.fail("log: %s: %s", self.path, why or later) end
  return self
end

function Log:close()
  if self.file then self.file:close() end
  self.file = nil
end

Log.__call, Log.__close, Log.__gc = Log.write, Log.close, Log.close

-- Leaves the whole lines of rows up to that epoch: what a run wrote behind its last checkpoint before it was stopped, it writes again.
local function shorten(path, epoch)
  local file <close> = io.open(path)
  if not file then return true end
  local kept = {}
  for text in file:lines "L" do
    local row = text:sub(-1) == "\n" and core.json.decode(text)
    if type(row) == "table" and not (math.type(row.epoch) and row.epoch > epoch) then kept[#kept + 1] = text end
  end
  return core.system.write_file(path, table.concat(kept))
end

-- Does a file end in the middle of a line?
local function is_cut(path)
  local file <close> = io.open(path, "rb")
  if not file or (file:seek "end" or 0) == 0 then return false end -- no file, or a device
  file:seek("end", -1)
  return (file:read(1) or "\n") ~= "\n"
end

local spec = { append = o.boolean(true), epoch = o.integer(nil, { from = 0 }) }

local function open(path, opts)
  o.check("log", "path", path, o.string())
  local opt = o.read("log", opts, spec)
  if opt.append and (opt.epoch or is_cut(path)) then
    local ok, why = shorten(path, opt.epoch or math.huge)
    if not ok then return nil, why end
  end
  local file, why = io.open(path, opt.append and "a" or "w")
  if not file then return nil, why end
  return setmetatable({ path = path, file = file }, Log)
end

-- The rows of a log, in order; a last line that was cut short is left out, another that is no row is refused. What was not finite is nan.
-- Field runs: what the runs that wrote them said of themselves.
local function read(path)
  local rows = { runs = {} }
  o.check("log.read", "path", path, o.string())
  local file, why = io.open(path)
  if not file then return nil, why end
  if not file:read(0) and file:seek "end" ~= 0 then return nil, path .. ": not a file of lines" end
  local number = 0
  for text in file:lines "L" do
    if text:sub(-1) ~= "\n" then break end
    number = number + 1
    local row = core.json.decode(text)
    if type(row) ~= "table" then
      file:close()
      return nil, ("%s: line %d: expected a row as ms.log writes it, got '%s'"):format(path, number, (text:sub(1, -2):sub(1, SHOWN):gsub("%c", " ")))
    end
    if row.moonspike then
      table.insert(rows.runs, row.moonspike)
    else
      for _, key in ipairs(o.keys(row)) do
        if row[key] == core.json.null then row[key] = 0 / 0 end
      end
      rows[#rows + 1] = row
    end
  end
  file:close()
  return rows
end

local log = setmetatable({ open = open, read = read }, { __call = function(_, ...) return open(...) end })

return doc.set(log, [[
    ms.log(path[, { append = true, epoch = nil }]) -> log, or nil, message

    log{ epoch = 1, loss = l } writes one line of JSON with sorted keys (tensors of one element as numbers) and flushes it. In front of
    the first one stands what it runs on: { "moonspike": { device, threads, available (engines), origin (of the break-even table) ... } }.
    epoch: of a file that is appended to, only the rows up to this epoch are kept: log{...} before ms.checkpoint, then with the epoch that ms.resume
    gives, each epoch stands there once, wherever the run was stopped. A last line that a killed run left cut short goes when the file is
    appended to.
    ms.log.read(path) -> list of rows, or nil, message; its field runs lists those records. What was not finite is nan. A last line that was cut
    short is left out; any other that is no row is an error, which names its number.]])
