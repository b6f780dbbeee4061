-- The points of a landscape, as lines of JSON in a file: first the settings, then one line for each point, flushed when it is finished. A run that
-- was stopped goes on behind the last whole line.

local core = require "moonspike.core"
local o = require "moonspike.options"

local points = {}

local function value(v) return v == core.json.null and 0 / 0 or v end -- what is not finite is written as null

-- The settings and points of a file, and how many bytes its whole lines take; or nil, message.
local function parse(path)
  local file, why = io.open(path)
  if not file then return nil, why end
  if core.system.size(path) ~= 0 and not file:read(0) then return nil, path .. ": not a file of lines" end
  local settings, list, bytes, line = nil, {}, 0, 0
  for text in file:lines "L" do
    if text:sub(-1) ~= "\n" then break end
    line = line + 1
    local row = core.json.decode(text)
    local ok = type(row) == "table"
    if ok and not settings then
      settings = row.landscape
      ok = type(settings) == "table"
    elseif ok then
      list[#list + 1] = { loss = value(row.loss), accuracy = value(row.accuracy) }
      ok = row.point == #list - 1 and math.type(list[#list].loss) and math.type(list[#list].accuracy)
    end
    if not ok then
      file:close()
      return nil, ("%s: line %d: expected the settings of a landscape, then its points in order"):format(path, line)
    end
    bytes = bytes + #text
  end
  file:close()
  return settings or {}, list, bytes
end

-- settings, list of { loss, accuracy }, the first of the centre; or nil, message.
function points.read(path)
  local settings, list = parse(path)
  if settings and not next(settings) then return nil, path .. ": holds no landscape" end
  return settings, list
end

local function show(v) return v == nil and "nothing" or core.json.encode(v) end

local function agree(path, begun, settings)
  local all = {}
  for key in next, begun do all[key] = true end
  for key in next, settings do all[key] = true end
  for _, key in ipairs(o.keys(all)) do
    local was, is = show(begun[key]), show(settings[key])
    if was ~= is then o.fail("landscape: %s: %s: expected %s, with which it was begun, got %s", path, tostring(key), was, is) end
  end
end

local function check(ok, why)
  return ok or o.fail("landscape: file: %s", why)
end

local Writer = { __name = "points" }
Writer.__index = Writer

local function write(self, row)
  local _, why = self.file:write(core.json.encode(row, { nonfinite = "null" }), "\n")
  local ok, later = self.file:flush()
  check(ok and not why, ("%s: %s"):format(self.path, why or later))
end

function Writer:write(number, steps, loss, accuracy)
  write(self, { point = number, x = steps[1], y = steps[2], loss = loss, accuracy = accuracy })
end

function Writer:__close() self.file:close() end

-- Is a file without a whole line the beginning of a landscape?
local function begins(path)
  local file <close> = check(io.open(path, "rb"))
  local head, wanted = file:read(13) or "", '{"landscape":'
  return head == wanted:sub(1, #head)
end

-- A writer behind the points that the file holds already, and those points.
function points.open(path, settings, resume)
  local list, bytes = {}, 0
  if core.system.exists(path) then
    if not resume then o.fail("landscape: file: %s exists; resume = true goes on with it", path) end
    local begun, found, whole = parse(path)
    check(begun, found)
    if next(begun) then agree(path, begun, settings) end
    list, bytes = found, whole
    if bytes == 0 and not begins(path) then o.fail("landscape: file: expected a landscape to go on with, got %s", path) end
    if bytes < core.system.size(path) then -- a line that was cut short
      local file <close> = check(io.open(path, "rb"))
      check(core.system.write_file(path, bytes > 0 and file:read(bytes) or ""))
    end
  end
  local self = setmetatable({ path = path, file = check(io.open(path, "ab")) }, Writer)
  if bytes == 0 then write(self, { landscape = settings }) end
  return self, list
end

return points
