-- What a recipe is: its keys, and how one of them is changed by name.

local core = require "moonspike.core"
local o = require "moonspike.options"

local schema = {}

-- { "Name", option = value, ... }: a class or function of the library with its options.
local function choice(default)
  return { default = default, text = "a table { \"Name\", option = value, ... }", named = true,
    test = function(v) return type(v) == "table" and type(v[1]) == "string" and #v == 1 end }
end
local function options(default)
  return { default = default, text = "a table of options", options = true, test = function(v) return type(v) == "table" and v[1] == nil end }
end

local function epochs(default)
  return { default = default, text = "a list of epochs", test = function(v)
    if type(v) ~= "table" then return false end
    for _, epoch in ipairs(v) do
      if not math.tointeger(epoch) or epoch < 1 then return false end
    end
    return true
  end }
end

schema.spec = {
  -- what it stands for
  name = o.string(nil), title = o.string(o.required), paper = o.string(nil), published = o.number(nil, { from = 0, to = 100 }), spread = o.number(nil, { from = 0 }),
  source = o.string(nil), deviations = o.table {}, missing = o.string(nil),
  -- data
  dataset = choice(o.required), train = options {}, test = options {}, validation = o.number(0, { from = 0, below = 1 }),
  samples = o.integer(nil, { from = 1 }), T = o.integer(o.required, { from = 1 }), random_T = o.integer(nil, { from = 1 }),
  batch = o.integer(64, { from = 1 }), test_batch = o.integer(256, { from = 1 }), drop_last = o.boolean(false),
  -- what is trained, and how
  network = choice(o.required), loss = choice(o.required), optimizer = choice { "Adam" }, decay = o.choice("all", { "all", "weights" }),
  schedule = choice { "CosineAnnealingLR" }, warmup = o.integer(0, { from = 0 }), warmup_factor = o.number(1e-3, { above = 0, to = 1 }),
  epochs = o.integer(o.required, { from = 1 }), precision = o.choice("float32", { "float32", "bf16" }), seed = o.integer(42),
  -- how it is judged
  answer = o.choice("mean", { "mean", "last" }), every = o.integer(1, { from = 1 }), train_ce = o.boolean(false), keep = epochs({}), select = o.choice("best", { "best", "last", "validation" }),
  -- what scripts/table.lua tries on the validation part
  tune = { default = nil, text = "a table { \"key\", value, value, ... } of numbers or words", test = function(v)
    if type(v) ~= "table" or type(v[1]) ~= "string" then return false end
    for _, value in ipairs(v) do
      if type(value) == "table" then return false end -- names a folder
    end
    return #v > 1
  end },
}

-- A deep copy: a recipe that is handed out is the caller's own.
function schema.copy(v)
  if type(v) ~= "table" then return v end
  local out = {}
  for key, value in next, v do out[key] = schema.copy(value) end
  return out
end

-- A checked copy with every default filled in.
function schema.read(where, recipe)
  local read = schema.copy(o.read(where, recipe, schema.spec))
  if read.random_T and read.random_T < read.T then
    o.fail("%s: random_T: expected at least T = %d, which is tested, got %d", where, read.T, read.random_T)
  end
  if read.validation == 0 and (read.select == "validation" or read.tune) then
    o.fail("%s: validation: expected a share of the training samples, since %s needs it, got 0", where,
      read.tune and "tune" or "select = 'validation'")
  end
  return read
end

-- The shortest decimal number that is this one.
local function shortest(v)
  if math.type(v) == "integer" then return tostring(v) end
  for digits = 6, 17 do
    local text = ("%." .. digits .. "g"):format(v)
    if tonumber(text) == v or digits == 17 then return (text:gsub("^-?%d+$", "%0.0")) end
  end
end

-- A value as Lua source, in one order: { "TRT", delta = 0.25, lambda = 1e-05 }.
function schema.text(v)
  if type(v) ~= "table" then
    if type(v) == "string" then return (("%q"):format(v):gsub("\\\n", "\\n")) end
    return math.type(v) and shortest(v) or tostring(v)
  end
  local words = {}
  for i, item in ipairs(v) do words[i] = schema.text(item) end
  for _, key in ipairs(o.keys(v)) do
    if math.type(key) == nil then
      words[#words + 1] = (key:find "^[%a_][%w_]*$" and key or ("[%q]"):format(key)) .. " = " .. schema.text(v[key])
    end
  end
  return #words > 0 and "{ " .. table.concat(words, ", ") .. " }" or "{}"
end

-- The table that a Lua file returns, which has access to nothing; nil and why.
function schema.load(path)
  local chunk, why = loadfile(path, "t", {})
  if not chunk then return nil, why end
  local done, value = pcall(chunk)
  if not done then return nil, value end
  if type(value) ~= "table" then return nil, ("%s: expected a table to be returned, got %s"):format(path, o.show(value)) end
  return value
end

-- "1e-3" -> 0.001, "true" -> true, '{ "crop": 4 }' and '["a"]' as JSON, anything else is text.
local function value_of(word)
  local number = math.tointeger(word) or tonumber(word)
  if number then return number end
  if word == "true" or word == "false" then return word == "true" end
  if word:find "^%s*[%[{]" then
    local value = core.json.decode(word)
    if value ~= nil then return value end
  end
  return word
end

-- Changes recipe: key "epochs" or "loss.lambda"; value as it is, or a word of a command line. A name alone takes the place of a table
-- { "Name", ... } whose options would not fit it.
function schema.set(where, recipe, key, value)
  local head, tail = tostring(key):match "^([^.]+)%.?(.*)$"
  local rule = schema.spec[head]
  if not rule then o.fail("%s: unknown key '%s' (known: %s)", where, key, table.concat(o.keys(schema.spec), ", ")) end
  if type(value) == "string" then value = value_of(value) end
  if tail ~= "" then
    if not rule.named and not rule.options then o.fail("%s: %s: expected no options behind %s, got '%s'", where, head, head, key) end
    if recipe[head] ~= nil then o.check(where, head, recipe[head], rule) end
    recipe[head] = recipe[head] or schema.copy(rule.default) or {}
    recipe[head][tail] = value
    return
  end
  if rule.named and type(value) == "string" then value = { value } end
  recipe[head] = o.check(where, head, value, rule)
end

return schema
