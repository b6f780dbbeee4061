-- Option tables: every function that takes one declares its keys here once; unknown keys, wrong types and values out of
-- range raise "where: key: expected ..., got ..." at the user's line.
--
--   local spec = { tau = o.number(2, { above = 0 }), reset = o.choice("hard", { "hard", "soft" }) }
--   local opt = o.read("LIF", given, spec)        -- a new table with every default filled in

local o = {}

local prefix = debug.getinfo(1, "S").source:match "^(.*)options" or "\0"

-- Raises with the position of the first caller outside the library; without one where a tail call has replaced it.
function o.fail(message, ...)
  if select("#", ...) > 0 then message = message:format(...) end
  local level = 2
  while true do
    local info = debug.getinfo(level, "S")
    if not info then error(message, 0) end
    if info.what ~= "C" and not o.ours(info.source) then break end
    level = level + 1
  end
  error(message, level)
end

-- What an error says, without the place in a file, at the prompt or in a string that stands before it.
function o.reason(why)
  local text, found = tostring(why), nil
  for _, place in ipairs { "%.lua", "stdin", '%[string "[^\n]-"%]' } do
    local rest = text:match("^[^\n]-" .. place .. ":%d+: (.*)$")
    if rest and #rest > #(found or "") then found = rest end
  end
  return found or text
end

-- Is a source (of debug.getinfo) a file of the library? Does a message begin with a place in one?
function o.ours(source) return source:sub(1, #prefix) == prefix end
function o.inside(why) return tostring(why):sub(1, #prefix - 1) == prefix:sub(2) end

-- A value as an error message shows it.
function o.show(v)
  local kind = math.type(v) or type(v)
  if kind == "string" then return ("'%s'"):format(v) end
  if kind == "integer" or kind == "boolean" or kind == "nil" then return tostring(v) end
  if kind == "float" then return ("%.7g"):format(v) end
  if o.is_tensor(v) then return ("tensor %s"):format(o.shape(v)) end
  local mt = getmetatable(v)
  return mt and type(mt.__name) == "string" and mt.__name or kind
end

function o.is_tensor(v)
  local mt = type(v) == "userdata" and debug.getmetatable(v)
  return mt and mt.__name == "ms.Tensor" or false
end

-- "[2, 3]" of a tensor or a list of sizes.
function o.shape(v)
  return "[" .. table.concat(type(v) == "userdata" and v.shape or v, ", ") .. "]"
end

-- Keys in sorted order: nothing here may depend on the order of pairs.
function o.keys(t)
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end

local function bounds(text, limits)
  local words = { text }
  if limits.above then words[#words + 1] = ("> %g"):format(limits.above) end
  if limits.from then words[#words + 1] = (">= %g"):format(limits.from) end
  if limits.below then words[#words + 1] = (limits.above or limits.from) and "and" or nil
    words[#words + 1] = ("< %g"):format(limits.below) end
  if limits.to then words[#words + 1] = (limits.above or limits.from) and "and" or nil
    words[#words + 1] = ("<= %g"):format(limits.to) end
  return table.concat(words, " ")
end

local function inside(v, limits)
  return v == v and (not limits.above or v > limits.above) and (not limits.from or v >= limits.from)
    and (not limits.below or v < limits.below) and (not limits.to or v <= limits.to)
end

-- Lets a table of the library raise for a name that it lacks, with those that it has; pairs and completion see no difference.
function o.named(t, name)
  return setmetatable(t, { __index = function(_, key)
    if type(key) ~= "string" or key:sub(1, 1) == "_" then return nil end
    o.fail("%s has no '%s' (known: %s)", name, key, table.concat(o.keys(t), ", "))
  end })
end

-- Each maker takes the default (nil: may be left out; o.required: may not) and returns { default, text, test }.
o.required = {}

function o.number(default, limits)
  limits = limits or {}
  return { default = default, text = bounds("a number", limits),
    test = function(v) return math.type(v) and inside(v, limits) end }
end

function o.integer(default, limits)
  limits = limits or {}
  return { default = default, text = bounds("an integer", limits),
    test = function(v) return math.type(v) and math.tointeger(v) and inside(v, limits) end,
    convert = math.tointeger }
end

local function of_type(name, text)
  return function(default)
    return { default = default, text = text, test = function(v) return type(v) == name end }
  end
end
o.boolean = of_type("boolean", "true or false")
o.string = of_type("string", "a string")
o.table = of_type("table", "a table")

function o.choice(default, list)
  local known = {}
  for i, v in ipairs(list) do known[v] = ("'%s'"):format(v); list[i] = known[v] end
  return { default = default, text = "one of " .. table.concat(list, ", "), test = function(v) return known[v] end }
end

-- A number for both directions or a pair of them: stride = 2, stride = { 2, 1 }.
function o.pair(default, limits)
  limits = limits or {}
  local function whole(v) return math.type(v) and math.tointeger(v) and inside(v, limits) end
  return { default = default, text = bounds("an integer", limits) .. ", or a table of two",
    test = function(v)
      return whole(v) or type(v) == "table" and #v == 2 and whole(v[1]) and whole(v[2])
    end }
end

-- Anything that `test` accepts.
function o.where(default, text, test)
  return { default = default, text = text, test = test }
end

local function callable(v)
  local mt = type(v) == "table" and getmetatable(v)
  return type(v) == "function" or mt and mt.__call ~= nil
end

-- A function, or an object that can be called like one.
function o.callable(default) return { default = default, text = "a function", test = callable } end

-- What `for x, y in v do` walks through.
o.loader = o.where(nil, "a data set or an iterator function", callable)

function o.read(where, given, spec)
  if given == nil then given = {} end
  if type(given) ~= "table" then
    o.fail("%s: options: expected a table, got %s (known: %s)", where, o.show(given), table.concat(o.keys(spec), ", "))
  end
  for _, key in ipairs(o.keys(given)) do
    if spec[key] == nil then
      o.fail("%s: unknown option '%s' (known: %s)", where, tostring(key), table.concat(o.keys(spec), ", "))
    end
  end
  local out = {}
  for _, key in ipairs(o.keys(spec)) do
    local rule, value = spec[key], given[key]
    if value == nil then
      if rule.default == o.required then o.fail("%s: %s: expected %s, got nothing", where, key, rule.text) end
      out[key] = rule.default
    else
      out[key] = o.check(where, key, value, rule)
    end
  end
  return out
end

-- One value (a positional argument) against one rule.
function o.check(where, name, value, rule)
  if not rule.test(value) then o.fail("%s: %s: expected %s, got %s", where, name, rule.text, o.show(value)) end
  return rule.convert and rule.convert(value) or value
end

return o
