-- What the prompt adds to the library: globals ms and help, and tables printed so that one can read them.
local repl = {}

local DEPTH, ITEMS = 3, 40

local function sorted_keys(t)
  local keys = {}
  for k in next, t do
    keys[#keys + 1] = k
  end
  table.sort(keys, function(a, b)
    if math.type(a) and math.type(b) then return a < b end
    if math.type(a) ~= math.type(b) then return math.type(a) ~= nil end
    return tostring(a) < tostring(b)
  end)
  return keys
end

local function key_text(k)
  if type(k) == "string" and k:match "^[%a_][%w_]*$" then return k end
  return "[" .. (type(k) == "string" and ("%q"):format(k) or tostring(k)) .. "]"
end

local function write(value, depth, seen, indent)
  if type(value) == "string" then return ("%q"):format(value) end
  local meta = getmetatable(value)
  if type(value) ~= "table" or (type(meta) == "table" and (meta.__tostring or meta.__name)) then
    local text = tostring(value)
    return depth > 0 and text:find "\n" and text:match "[^\n]*$" or text
  end
  if seen[value] then return "{ ... }" end
  if next(value) == nil then return "{}" end
  if depth >= DEPTH then return "{...}" end
  seen[value] = true
  local parts, width = {}, 0
  for i, k in ipairs(sorted_keys(value)) do
    if i > ITEMS then
      parts[#parts + 1] = ("... %d more"):format(#sorted_keys(value) - ITEMS)
      break
    end
    local text = write(value[k], depth + 1, seen, indent .. "  ")
    if k ~= i then text = key_text(k) .. " = " .. text end
    parts[#parts + 1] = text
    width = width + #text + 2
  end
  seen[value] = nil
  if width + #indent <= 100 and not table.concat(parts):find "\n" then
    return "{ " .. table.concat(parts, ", ") .. " }"
  end
  local inner = indent .. "  "
  return "{\n" .. inner .. table.concat(parts, ",\n" .. inner) .. "\n" .. indent .. "}"
end

--- A value as text: strings quoted inside tables, tables opened to a few levels, everything else as tostring shows it.
function repl.text(value)
  return type(value) == "string" and value or write(value, 0, {}, "")
end

local function show(...)
  local parts = table.pack(...)
  for i = 1, parts.n do
    parts[i] = repl.text(parts[i])
  end
  print(table.concat(parts, "\t"))
end

--- Called once by the host before the first prompt; returns what prints results.
function repl.start()
  local ms = package.loaded.moonspike
  _G.ms, _G.help = ms, ms.help
  return show
end

return repl
