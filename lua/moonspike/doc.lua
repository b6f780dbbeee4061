-- The help registry: a text for each public value. ms.doc(value, text) fills it, help(value) reads it.

local core = require "moonspike.core"

local registry = core.help
local doc = {}

-- doc.set(value, text): registers and returns value. Classes and functions alike.
function doc.set(value, text)
  registry[value] = (text:gsub("^%s+", ""):gsub("%s+$", ""):gsub("\n    ", "\n"))
  return value
end

local function names(t)
  local list = {}
  for key in next, t do
    if type(key) == "string" and key:sub(1, 1) ~= "_" then list[#list + 1] = key end
  end
  table.sort(list)
  return list
end

-- The text of a function, a class, an instance of a class, or a table of them.
function doc.get(x)
  if x == nil then return nil end
  local text = registry[x]
  local mt = debug.getmetatable(x)
  if not text and mt and type(mt) == "table" then text = registry[mt] or registry[mt.class] end
  if not text and type(x) == "table" then
    local list = names(x)
    if #list > 0 then text = "a table with the fields\n  " .. table.concat(list, "  ") end
  end
  return text
end

local function find(root, path)
  for key in path:gmatch "[^.:]+" do
    local mt = type(root) ~= "table" and debug.getmetatable(root)
    root = mt and type(mt.__index) == "table" and mt.__index or root
    local ok, value = pcall(function() return root[key] end) -- nn, loss ... raise for what they lack
    root = type(root) == "table" and ok and value or nil
  end
  return root
end

-- help(x), help "nn.LIF", help(): prints and returns nothing.
function doc.help(ms, ...)
  local x = ...
  local text
  if select("#", ...) == 0 or x == ms then
    text = registry[ms]
  elseif type(x) == "string" then
    local path = x:gsub("^ms%.", "")
    local found
    for _, root in ipairs { ms, ms.nn, ms.models, ms.loss, ms.optim, ms.data, ms.analysis } do
      found = found or find(root, path)
    end
    text = doc.get(found)
  else
    text = doc.get(x)
  end
  print(text or ("no help for " .. (type(x) == "string" and ("'%s'"):format(x) or type(x) == "function" and "this function" or tostring(x)) .. "; help() lists what there is"))
end

return doc
