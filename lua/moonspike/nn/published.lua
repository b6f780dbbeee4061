-- The neurons of the published codes by name: what was read there, as options of nn.LIF, nn.IF, nn.PLIF.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local neurons = require "moonspike.nn.neurons"

local function sj(extra) -- what the codes on SpikingJelly set
  local opt = { fire = ">=", surrogate = "atan", detach_reset = true }
  for key, value in next, extra or {} do opt[key] = value end
  return opt
end

local list = {
  ["trt"] = { "LIF", {}, "v / 2 + x, threshold 1, triangle, hard reset that is not detached" },
  ["trt-imagenet100"] = { "LIF", { tau = 1 }, "TRT's --tau 1.0: no leak" },
  ["tet"] = { "LIF", {}, "as trt; SLT too" },
  ["localzo"] = { "LIF", { surrogate = "localzo" }, "as trt with the drawn surrogate, m = 5, delta = 0.5" },
  ["tab"] = { "LIF", { tau = 1 / 0.9 }, "0.9 v + x; its code lacks the threshold, 1 is meant" },
  ["tdbn"] = { "LIF", { tau = 4, v_threshold = 0.5, surrogate = "rectangle" }, "v / 4 + x, threshold 0.5: STBP-tdBN (no official code)" },
  ["nda"] = { "LIF", { tau = 4, v_threshold = 0.5, surrogate = "rectangle", fire = ">=" }, "v / 4 + x, threshold 0.5" },
  ["imp-vgg"] = { "LIF", { tau = 4 }, "v / 4 + x; its learnable v0 comes from nn.learnable_v0 or the option v0" },
  ["imp-imagenet100"] = { "IF", { fire = ">=", surrogate = "atan" }, "v + x; learnable v0 likewise" },
  ["sew"] = { "IF", sj(), "v + x, atan, detached reset" },
  ["sew-plif"] = { "PLIF", sj(), "7B-wideNet: learned tau from 2" },
  ["tic"] = { "LIF", sj { tau = 2, decay_input = true }, "v + (x - v) / 2" },
  ["efficientlif"] = { "LIF", sj { tau = 4 / 3, decay_input = true }, "v / 4 + 3 x / 4, hard reset: nothing shared" },
  ["efficientlif-shared"] = { "LIF", sj { tau = 4 / 3, decay_input = true, reset = "soft" }, "the same with a soft reset: its sharing variants" },
  ["tks"] = { "LIF", { decay_input = true, v_threshold = 0.5, detach_reset = true, surrogate = "qgate" }, "v + (x - v) / 2, threshold 0.5" },
}

local function published(name, overrides)
  if name == nil then
    local out = {}
    for _, key in ipairs(o.keys(list)) do out[#out + 1] = { name = key, class = list[key][1], text = list[key][3] } end
    return out
  end
  local entry = type(name) == "string" and list[name]
  if not entry then o.fail("published: name: expected one of %s, got %s", table.concat(o.keys(list), ", "), o.show(name)) end
  if overrides ~= nil and type(overrides) ~= "table" then
    o.fail("published: overrides: expected a table of options, got %s", o.show(overrides))
  end
  local opt = {}
  for key, value in next, entry[2] do opt[key] = value end
  for key, value in next, overrides or {} do opt[key] = value end
  return neurons[entry[1]](opt)
end

local lines = {}
for _, key in ipairs(o.keys(list)) do lines[#lines + 1] = ("      %-20s %-5s %s"):format(key, list[key][1], list[key][3]) end

doc.set(published, ([[
    nn.published(name[, options]) -> neuron        nn.published() -> list of { name, class, text }

    The neuron of a published code; options replace some of its own. A model takes function() return nn.published "sew" end.
]]) .. table.concat(lines, "\n"))

return { published = published }
