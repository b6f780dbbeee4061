-- Augmentation: how it is written (keys, an ordered list, a preset's name) and what core makes of it.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

local augment = {}

-- How many pixels or degrees v means: symmetric steps draw from -v to v.
local kinds = {
  crop = { what = "pixels", from = 0 }, flip = {}, vflip = {}, identity = {}, cutout = { what = "pixels", from = 0, exact = true },
  roll = { what = "pixels" }, translate = { what = "pixels" }, translate_x = { what = "pixels" }, translate_y = { what = "pixels" },
  rotate = { what = "degrees" }, shear_x = { what = "degrees" }, shear_y = { what = "degrees" },
}
local aliases = { shear = "shear_x" }
local groups = { one_of = true, some_of = true }

-- What is done to a sample before its pixels move, in this order; with the options of each.
local first = { "resized_crop", "rand_augment" }
local first_options = {
  resized_crop = { scale = true, ratio = true, filter = true },
  rand_augment = { n = true, m = true, std = true, p = true, increasing = true, filter = true, fill = true },
}

-- The order of the others where only keys are given.
local order = { "crop", "flip", "vflip", "roll", "translate", "rotate", "shear", "cutout" }

local slope = math.deg(math.atan(0.3)) -- a shear of 0.3 pixels a row
local presets = {
  ["trt-cifar"] = { { "crop", 4 }, { "flip" }, { "cutout", 16 } },
  ["slt-cifar100"] = { { "crop", 4 }, { "flip" }, { "cutout", 8 } },
  ["cifar"] = { { "crop", 4 }, { "flip" } },
  ["trt-dvs"] = { { "flip" }, { "roll", 5 } },
  ["tab-dvs"] = { { "crop", 4 }, { "flip" } },
  ["tks-dvs"] = { { "crop", 4 }, { "flip" }, { "rotate", 15 } },
  ["nda"] = { { "one_of", { "roll", 5 }, { "rotate", 30 }, { "shear", 30 } } },
  ["nda-ncaltech"] = { { "one_of", { "roll", 3 }, { "rotate", 15 }, { "shear", 15 } } },
  ["imp-ncaltech"] = { { "flip" }, { "one_of", { "identity" }, { "shear_x", slope }, { "shear_y", slope }, { "translate_x", 5 },
    { "translate_y", 5 }, { "rotate", 30 }, { "cutout", min = 1, max = 30 } } },
}
augment.presets = presets

local function names(...)
  local list = {}
  for _, t in ipairs { ... } do
    for name in pairs(t) do list[#list + 1] = name end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

local function number(where, name, key, v, least)
  if not math.type(v) or v ~= v or least and v < least then
    o.fail("%s: %s: %s: expected a number%s, got %s", where, name, key, least and (" >= %g"):format(least) or "", o.show(v))
  end
  return v
end

local function keys_of(where, name, step, known)
  for _, key in ipairs(o.keys(step)) do
    if math.type(key) ~= "integer" and not known[key] then
      o.fail("%s: %s: unknown option '%s' (known: %s)", where, name, tostring(key), names(known))
    end
  end
end

-- { "rotate", 30, p = 0.5 } -> a rule of core.data.recipe and its text
local function rule_of(where, step)
  local name = step[1]
  local kind = aliases[name] or name
  local known = kinds[kind]
  local rule = { kind = kind, p = step.p == nil and (name == "flip" or name == "vflip") and 0.5 or step.p or 1 }
  if step.p ~= nil and not (math.type(step.p) and step.p >= 0 and step.p <= 1) then
    o.fail("%s: %s: p: expected a number >= 0 and <= 1, got %s", where, name, o.show(step.p))
  end
  keys_of(where, name, step, known.what and { p = true, min = kind ~= "crop" or nil, max = kind ~= "crop" or nil,
    holes = kind == "cutout" or nil } or { p = true })
  local most = known.what and 2 or 1
  if #step > most then
    local wanted = known.what and "one number of " .. known.what or "no number"
    o.fail("%s: %s: expected %s, got %d values", where, name, wanted, #step - 1)
  end
  local text = name
  if known.what then
    local v = step[2] or step.max
    if v == nil then o.fail("%s: %s: expected a number of %s, got nothing", where, name, known.what) end
    rule.hi = number(where, name, known.what, v, known.from or step.min == nil and 0 or nil)
    rule.lo = step.min and number(where, name, "min", step.min) or known.exact and rule.hi or -rule.hi
    if kind == "crop" then rule.lo = 0 end
    if rule.lo > rule.hi then o.fail("%s: %s: expected min up to %g, got %g", where, name, rule.hi, rule.lo) end
    text = (step.min and "%s %g to %g" or "%s %.4g"):format(name, step.min or rule.hi, rule.hi)
  end
  if step.holes ~= nil then
    if not math.tointeger(step.holes) or step.holes < 1 then
      o.fail("%s: cutout: holes: expected an integer >= 1, got %s", where, o.show(step.holes))
    end
    rule.count = math.tointeger(step.holes)
    text = ("%s x %d"):format(text, rule.count)
  end
  if rule.p < 1 and not (name == "flip" and rule.p == 0.5) then text = ("%s p = %g"):format(text, rule.p) end
  return rule, text
end

local function step_of(where, step, list, texts, inner)
  if type(step) == "string" then step = { step } end
  local name = type(step) == "table" and step[1]
  if not (type(name) == "string" and (kinds[name] or aliases[name] or not inner and groups[name])) then
    o.fail("%s: step: expected { name, ... } with one of %s, got %s", where,
      names(kinds, aliases, not inner and groups or {}, not inner and first_options or {}),
      type(step) == "table" and o.show(name or nil) or o.show(step))
  end
  if not groups[name] then
    list[#list + 1], texts[#texts + 1] = rule_of(where, step)
    return
  end
  keys_of(where, name, step, name == "some_of" and { take = true, p = true } or { p = true })
  local take = step.take or 1
  local p = step.p == nil and 1 or step.p
  if not (math.type(p) and p >= 0 and p <= 1) then o.fail("%s: %s: p: expected a number >= 0 and <= 1, got %s", where, name, o.show(p)) end
  local most = math.min(3, #step - 1)
  if not math.tointeger(take) or take < 1 or take > most then
    local got = most == 0 and "none" or o.show(take)
    o.fail("%s: %s: take: expected 1 to %d of its steps, got %s", where, name, math.max(most, 1), got)
  end
  list[#list + 1] = { kind = "choose", count = #step - 1, take = math.tointeger(take), p = p }
  local choices = {}
  for i = 2, #step do step_of(where .. ": " .. name, step[i], list, choices, true) end
  texts[#texts + 1] = ("%d of (%s)"):format(take, table.concat(choices, ", "))
end

local function whole(v) return math.type(v) and math.tointeger(v) and v >= 1 end

-- " (m = 9, scale = { 0.5, 1 })" of the options in a step
local function options_text(step)
  local words = {}
  for _, key in ipairs(o.keys(step)) do
    local v, numbers = step[key], {}
    for i, n in ipairs(type(v) == "table" and v or {}) do numbers[i] = o.show(n) end
    local text = type(v) == "table" and "{ " .. table.concat(numbers, ", ") .. " }" or type(v) == "string" and v or o.show(v)
    if math.type(key) ~= "integer" then words[#words + 1] = ("%s = %s"):format(key, text) end
  end
  return #words > 0 and " (" .. table.concat(words, ", ") .. ")" or ""
end

-- { "resized_crop", 24, scale = { 0.5, 1 } } -> a table of core.data.recipe and its text
local function first_of(where, step)
  local name, size, opt = step[1], step[2], {}
  keys_of(where, name, step, first_options[name])
  local sized = name == "resized_crop"
  if #step > (sized and 2 or 1) then o.fail("%s: %s: expected %s, got %d values", where, name, sized and "one size" or "options only", #step - 1) end
  for key in pairs(first_options[name]) do opt[key] = step[key] end
  local text = name
  if size ~= nil then
    if whole(size) then size = { size, size } end
    if type(size) ~= "table" or #size ~= 2 or not (whole(size[1]) and whole(size[2])) then
      o.fail("%s: %s: size: expected an integer >= 1, or a table of two, got %s", where, name, o.show(size))
    end
    opt.h, opt.w = math.tointeger(size[1]), math.tointeger(size[2])
    text = ("%s %d x %d"):format(name, opt.h, opt.w)
  end
  return opt, text .. options_text(step)
end

-- { crop = 4, flip = true, cutout = 16 } -> the list of steps
local function list_of_keys(where, given)
  local known, list = { holes = true }, {}
  for _, list_of in ipairs { first, order } do
    for _, name in ipairs(list_of) do known[name] = true end
  end
  for _, key in ipairs(o.keys(given)) do
    if not known[key] then o.fail("%s: unknown option '%s' (known: %s)", where, tostring(key), names(known)) end
  end
  for _, name in ipairs(first) do
    local v = given[name]
    local size = name == "resized_crop" and math.type(v) and v or nil
    if v ~= nil and type(v) ~= "boolean" and type(v) ~= "table" and not size then
      o.fail("%s: %s: expected true%s or a table of options, got %s", where, name, name == "resized_crop" and ", a size" or "", o.show(v))
    end
    if v then
      local options, step = type(v) == "table" and v or { size }, { name }
      for _, key in ipairs(o.keys(options)) do step[math.type(key) == "integer" and key + 1 or key] = options[key] end
      list[#list + 1] = step
    end
  end
  for _, name in ipairs(order) do
    local v = given[name]
    local bare, degrees = name == "flip" or name == "vflip", name == "rotate" or name == "shear"
    if bare and v ~= nil and type(v) ~= "boolean" then
      o.fail("%s: %s: expected true or false, got %s", where, name, o.show(v))
    end
    if not bare and v ~= nil and not (math.type(v) and v >= 0 and (degrees or math.tointeger(v))) then
      o.fail("%s: %s: expected %s >= 0, got %s", where, name, degrees and "a number" or "an integer", o.show(v))
    end
    if v and v ~= 0 then list[#list + 1] = bare and { name } or { name, v, holes = name == "cutout" and given.holes or nil } end
  end
  if given.holes ~= nil and (given.cutout or 0) == 0 then o.fail("%s: holes: expected with cutout, got it alone", where) end
  return list
end

-- What `augment = given` of a data set means as a list of steps, and the name where it is one of a preset.
local function steps_of(where, given)
  local name
  if type(given) == "string" then
    if not presets[given] then o.fail("%s: expected one of %s, got '%s'", where, names(presets), given) end
    name, given = given, presets[given]
  elseif type(given) ~= "table" then
    o.fail("%s: expected a table or one of %s, got %s", where, names(presets), o.show(given))
  elseif given[1] == nil then
    given = list_of_keys(where, given)
  end
  for _, key in ipairs(o.keys(given)) do
    if math.type(key) ~= "integer" then
      o.fail("%s: expected either an ordered list of steps or keys, got '%s' beside a list", where, tostring(key))
    end
  end
  local list = {}
  for i, step in ipairs(given) do list[i] = type(step) == "string" and { step } or step end
  return list, name
end

-- Whether a step of that name is among those that `given` means.
function augment.has(where, given, name)
  for _, step in ipairs(given and steps_of(where, given) or {}) do
    if type(step) == "table" and step[1] == name then return true end
  end
  return false
end

-- RandAugment with these options before all else that `given` means but a resized crop.
function augment.rand_augmented(where, given, options)
  local list, step = given and steps_of(where, given) or {}, {}
  for _, key in ipairs(o.keys(options)) do step[key] = options[key] end
  step[1] = "rand_augment"
  table.insert(list, list[1] and list[1][1] == "resized_crop" and 2 or 1, step)
  return list
end

-- A recipe of core (nil where nothing is asked for) and a text for describe().
function augment.parse(where, given)
  if given == nil then return nil, "" end
  local list, preset = steps_of(where, given)
  local rules, texts, photo = {}, {}, {}
  for _, step in ipairs(list) do
    local name = type(step) == "table" and step[1]
    if first_options[name] then
      local misplaced = #rules > 0 and "the steps that move pixels" or name == "resized_crop" and photo.rand_augment and "rand_augment"
      if photo[name] then o.fail("%s: %s: expected once, got it again", where, name) end
      if misplaced then o.fail("%s: %s: expected before %s, got it behind", where, name, misplaced) end
      photo[name], texts[#texts + 1] = first_of(where, step)
    else
      step_of(where, step, rules, texts)
    end
  end
  if #texts == 0 then return nil, "" end
  local ok, recipe = pcall(core.data.recipe, rules, photo)
  if not ok then o.fail("%s: %s", where, (tostring(recipe):gsub("^.-recipe: ", ""))) end
  return recipe, (preset and preset .. ": " or "") .. table.concat(texts, ", ")
end

local function is_recipe(v)
  local mt = type(v) == "userdata" and debug.getmetatable(v)
  return mt and mt.__name == "ms.Recipe"
end

local number_or_table = o.where(nil, "a number, or a table with one for each channel", function(v)
  return math.type(v) ~= nil or type(v) == "table" and #v > 0
end)
local options = { key = o.where(0, "a name or an integer", function(v) return type(v) == "string" or math.tointeger(v) ~= nil end),
  scale = o.number(nil, { above = 0 }), mean = number_or_table, std = number_or_table }

function augment.augment(images, index, spec, opts)
  local opt = o.read("augment", opts, options)
  if not o.is_tensor(images) then o.fail("augment: images: expected a tensor, got %s", o.show(images)) end
  if not o.is_tensor(index) then o.fail("augment: index: expected a tensor, got %s", o.show(index)) end
  local recipe = is_recipe(spec) and spec or augment.parse("augment", spec)
  local size = images.shape
  local channels = #size > 3 and size[#size - 2] or 1
  for _, key in ipairs { "mean", "std" } do
    local v = opt[key]
    if math.type(v) then
      opt[key] = {}
      for k = 1, channels do opt[key][k] = v end
    end
  end
  if type(opt.key) == "string" then opt.key = core.random.key("augment", opt.key) end
  return core.data.augment(images, index, recipe, opt)
end

doc.set(augment.augment, [[
    data.augment(images, index, spec[, { key = 0, scale = 255, mean = nil, std = nil }]) -> tensor

    The samples index [n] (int64 from 0) of images [s, H, W], [s, C, H, W] or [s, T, C, H, W] (uint8 or float32, on any
    device): each goes through the steps of spec, the same way in all of its frames, then becomes (x / scale - mean) / std;
    scale is for bytes only. float32 [n, C, H, W] or [T, n, C, H, W] on the images' device. A sample's draws depend on key (a
    name follows ms.manual_seed) and its index.

    spec, also `augment` of a data set: a list of steps in their order, { "name", v, p = 1 }:
      { "resized_crop", size, scale = { 0.08, 1 }, ratio = { 3/4, 4/3 }, filter = "bilinear" or "bicubic" }
      { "rand_augment", n = 2, m = 9, std = 0, p = 0.5, increasing = false, filter = "either", fill = { 128, 128, 128 } }
      { "crop", 4 } (zero padding, random cut)   { "flip", p = 0.5 }   { "vflip" }   { "roll", 5 } (circular)
      { "translate", 5 }   { "translate_x", 5 }   { "translate_y", 5 }   { "rotate", 30 }   { "shear", 30 } (along rows)
      { "shear_y", 30 } (along columns)   { "cutout", 16, holes = 1 }   { "identity" }
      { "one_of", { ... }, { ... } }   { "some_of", take = 2, { ... }, { ... } }
    resized_crop: torchvision's RandomResizedCrop (a share of the area, a ratio of width to height, a place), spread over size x size
    (or { h, w }; the image's own size) pixels: bytes as Pillow does it, bit for bit, reals up to rounding. rand_augment, on uint8
    of 1 or 3 channels: timm's RandAugment (Cubuk et al. 2020), n of 15 ops with the bytes of Pillow, each done with probability p
    at magnitude m (0 to 10) with deviation std; increasing: timm's "inc1"; filter: of rotations, shears and translations. Both
    come before all other steps, in this order, and once.
    Pixels and degrees are drawn from -v to v, or from min to max: { "cutout", min = 1, max = 30 }. Rotations and shears take
    the nearest pixel about the centre; what leaves the image is zero before normalisation. Or keys, done in the order resized_crop and
    rand_augment (true, a size, or a table of options: { 24, filter = "bicubic" }), crop, flip, vflip, roll, translate, rotate, shear, cutout: { crop = 4, flip = true, cutout = 16 }. Or a name: ]] .. names(presets) .. [[.
    "imp-ncaltech" draws its shears uniformly in degrees up to atan(0.3) and its cutout and shifts uniformly; the published code draws them
    from 31 steps.]])

return augment
