-- ms.arguments: the options of a script from its command line.

local o = require "moonspike.options"
local doc = require "moonspike.doc"

local kinds = { integer = "an integer", float = "a number" }

local function expected(entry)
  if entry.choices then return "one of " .. table.concat(entry.choices, ", ") end
  local kind = kinds[math.type(entry[2])] or "text"
  return entry.from and ("%s >= %g"):format(kind, entry.from) or kind
end

-- The value of an entry from a word; raises (a string) what is wrong with it.
local function convert(entry, word)
  local default, value = entry[2], word
  if type(default) == "number" then value = tonumber(word) end
  if math.type(default) == "integer" then value = math.tointeger(value) end
  local good = value ~= nil and not (entry.from and not (value >= entry.from))
  if good and entry.choices then
    good = false
    for _, choice in ipairs(entry.choices) do good = good or choice == value end
  end
  if not good then error(("--%s: expected %s, got %s"):format(entry[1], expected(entry), word and "'" .. word .. "'" or "nothing"), 0) end
  return value
end

local function usage(spec, print)
  print("usage: " .. spec.usage)
  for _, entry in ipairs(spec) do
    local default = entry[2]
    local text = entry.choices and ("%s (%s)"):format(entry[3], table.concat(entry.choices, ", ")) or entry[3]
    local shown = default ~= false and default ~= "" and type(default) ~= "table" and (" [%s]"):format(tostring(default)) or ""
    print(("  --%-12s %s%s"):format(entry[1], text, shown))
  end
  print(("  --%-12s %s"):format("help", "this text"))
end

-- The options that the words give, by name.
local function parse(spec, words)
  local given, known, names = {}, {}, {}
  for i, entry in ipairs(spec) do known[entry[1]], names[i] = entry, "--" .. entry[1] end
  local i = 1
  while words[i] do
    local word = words[i]
    local entry = known[word:match "^%-%-(.+)$"]
    if word == "--help" or word == "-h" then return nil end
    if not entry then error(("unknown option '%s' (known: %s)"):format(word, table.concat(names, ", ")), 0) end
    local name, default = entry[1], entry[2]
    if default == false then
      given[name] = true
    else
      i = i + 1
      if type(default) == "table" then
        if not words[i] then error(("--%s: expected text, got nothing"):format(name), 0) end
        given[name] = given[name] or {}
        table.insert(given[name], words[i])
      else
        given[name] = convert(entry, words[i])
      end
    end
    i = i + 1
  end
  return given
end

local arguments = {}

-- Ends the program: "train: message" on standard error, status 2.
function arguments.fail(message, ...)
  local script = (arg and arg[0] or "moonspike"):match "([^/]*)$":gsub("%.lua$", "")
  io.stderr:write(script, ": ", select("#", ...) > 0 and message:format(...) or message, "\n")
  os.exit(2)
end

local function refusal(why) return (o.reason(why):gsub("^%l+: ", "")) end

-- Of an error: what it says where the library refused something, by error(...) or in C, else with its place and the calls that led there.
local function explain(why)
  if o.reason(why) == tostring(why) then return refusal(why) end -- no place
  local raiser = debug.getinfo(2, "fS")
  if raiser.what == "C" and doc.get(raiser.func) then return refusal(why) end -- of the core
  local by_error = raiser.func == error
  if by_error then raiser = debug.getinfo(3, "S") end
  local meant = by_error and o.ours(raiser.source) or not by_error and raiser.what == "C"
  return meant and not o.inside(why) and refusal(why) or debug.traceback(why, 2)
end

-- What f returns; where it refuses, or returns nil and why, the program ends in one line that blames the option, not a place in a file.
function arguments.try(option, f, ...)
  local result = table.pack(xpcall(f, explain, ...))
  local why = not result[1] and result[2] or result[2] == nil and result[3] and refusal(result[3])
  if not why then return table.unpack(result, 2, result.n) end
  arguments.fail("%s: %s", option, why)
end

-- "a,b" -> { "a", "b" }; what: the option that is blamed.
function arguments.list(what, text)
  local list = {}
  for word in (text .. ","):gmatch "(.-)," do
    if word == "" then arguments.fail("%s: expected values with commas between, got '%s'", what, text) end
    list[#list + 1] = word
  end
  return list
end

-- "1,2" -> { 1, 2 }; none of them twice.
function arguments.integers(what, text)
  local list, seen = {}, {}
  for i, word in ipairs(arguments.list(what, text)) do
    local n = math.tointeger(tonumber(word))
    if not n then arguments.fail("%s: expected integers with commas between, got '%s'", what, text) end
    if seen[n] then arguments.fail("%s: expected each integer once, got '%s'", what, text) end
    list[i], seen[n] = n, true
  end
  return list
end

-- { "a=1", "b=x=y" } -> { a = "1", b = "x=y" }
function arguments.pairs(what, words)
  local out = {}
  for _, word in ipairs(words) do
    local key, value = word:match "^([^=]+)=(.*)$"
    if not key then arguments.fail("%s: expected KEY=VALUE, got '%s'", what, word) end
    out[key] = value
  end
  return out
end

local function read(spec, words)
  o.check("arguments", "options", spec, o.table())
  local done, given = pcall(parse, spec, words or arg or {})
  if not done then arguments.fail(given) end
  if not given then
    usage(spec, print)
    os.exit(0)
  end
  local opt = {}
  for _, entry in ipairs(spec) do
    opt[entry[1]] = entry[2]
    if given[entry[1]] ~= nil then opt[entry[1]] = given[entry[1]] end
  end
  return opt, given
end

doc.set(arguments.fail, "arguments.fail(format, ...)\n\n    Ends the script with \"name: message\" on standard error and status 2.")
doc.set(arguments.integers, "arguments.integers(option, text) -> list\n\n    \"1,2\" -> { 1, 2 }; what is no integer, or there twice, ends the script, blaming the option.")
doc.set(arguments.list, "arguments.list(option, text) -> list\n\n    \"a,b\" -> { \"a\", \"b\" }; an empty word ends the script, blaming the option.")
doc.set(arguments.pairs, "arguments.pairs(option, words) -> table\n\n    { \"a=1\" } -> { a = \"1\" }; a word without = ends the script, blaming the option.")
doc.set(arguments.try, "arguments.try(option, f, ...) -> what f returns\n\n    Where f refuses something, or returns nil and a message, ends the script as arguments.fail does: \"option: message\"; "
  .. "after other errors\n    with their place and the calls that led there.")
return doc.set(setmetatable(arguments, { __call = function(_, ...) return read(...) end }), [[
    ms.arguments(options[, words]) -> options by name, those that were given

    The options of a script. options: { usage = "moonspike mine.lua [options]", { "epochs", 10, "most epochs to train", from = 1 }, ... }: name, default,
    help text, smallest value or choices = { "sdt", "trt" }. The default's type is the option's: an integer, a number, text; false is a
    switch, a table {} collects what is given several times. words: of the command line (arg). --help prints them and ends the program; what is
    wrong is said on standard error, and the program ends with status 2. arguments.fail, arguments.try: the same for a script's own.]])
