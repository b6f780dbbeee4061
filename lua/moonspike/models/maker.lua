-- Makes the layers of a published network: convolutions with its initial values, its norm, its neurons.

local nn = require "moonspike.nn"
local o = require "moonspike.options"

local maker = {}

-- ---- neurons ----

-- The neuron of a published code, see nn.published.
function maker.published(name)
  return function() return nn.published(name) end
end

-- The same with a learnable initial membrane for each neuron (IMP).
function maker.learnable(name)
  return function(_, _, size) return nn.published(name, { v0 = "learnable", v0_shape = size }) end
end

-- ---- norms ----

local norms = {}
maker.norms = norms

function norms.batch(width) return nn.BatchNorm2d(width) end

function norms.tdbn(width, _, added) return nn.tdBN(width, { alpha = added and math.sqrt(0.5) or 1, V_th = 0.5 }) end
function norms.tab(width, T) return nn.TAB(width, T) end
function norms.tebn(width, T) return nn.TEBN(width, T) end

function norms.nda(width)
  local norm = nn.BatchNorm2d(width)
  nn.init.constant_(norm.weight, 0.5)
  return norm
end

-- ---- initial values ----

local function fan_out(tensor, key) nn.init.kaiming_normal_(tensor, { mode = "fan_out", nonlinearity = "relu" }, key) end
local function zero(tensor) tensor:fill_(0) end

-- ---- options that all networks have ----

local function is_function(v) return type(v) == "function" or type(v) == "table" and (getmetatable(v) or {}).__call ~= nil end

-- A function that makes a layer, the name of one that is there, or a class of nn. makers: by name and by class.
local function made_by(what, makers)
  return { text = ("a function that returns a module, or the name of a %s"):format(what),
    test = function(v) return is_function(v) or makers[v] ~= nil end, convert = function(v) return makers[v] or v end }
end
local neuron_makers = {}
for _, entry in ipairs(nn.published()) do neuron_makers[entry.name] = maker.published(entry.name) end
for _, class in ipairs { nn.IF, nn.LIF, nn.PLIF } do neuron_makers[class] = function() return class() end end
local a_neuron = made_by("published neuron (nn.published lists them)", neuron_makers)
local norm_makers = { [nn.BatchNorm2d] = norms.batch, [nn.tdBN] = norms.tdbn, [nn.TAB] = norms.tab, [nn.TEBN] = norms.tebn }
for name, make in next, norms do norm_makers[name] = make end
local a_norm = made_by("norm (" .. table.concat(o.keys(norms), ", ") .. ")", norm_makers)

-- The options of a network: its own and the common ones, with its published values as defaults.
function maker.read(where, given, own, defaults)
  local spec = {
    classes = o.integer(defaults.classes, { from = 2 }), channels = o.integer(defaults.channels, { from = 1, to = 65535 }),
    size = o.pair(defaults.size, { from = 1, to = 65535 }), T = o.integer(defaults.T, { from = 1, to = 65535 }),
    neuron = a_neuron, norm = a_norm, scale = o.number(1, { above = 0 }),
  }
  for key, rule in pairs(own) do spec[key] = rule end
  local opt = o.read(where, given, spec)
  if type(opt.size) ~= "table" then opt.size = { opt.size, opt.size } end
  opt.size = { math.tointeger(opt.size[1]), math.tointeger(opt.size[2]) }
  return opt
end

-- A published network that differs from another in what more says.
function maker.variant(base, more) return setmetatable(more, { __index = base }) end

-- The variant that the options name, before the rest is read: defaults depend on it.
function maker.pick(where, given, rule, list)
  local name = type(given) == "table" and given.variant
  return list[name ~= nil and name ~= false and o.check(where, "variant", name, rule) or rule.default]
end

-- The end of every network's help text.
maker.common = [[


    Also: classes, channels, size (a number or { h, w }), scale (a factor on all numbers of channels, 1), T (for norms that differ from step to step, and for net:macs),
    neuron = function(name, width, size) -> module, or a name that nn.published knows, or nn.LIF, nn.IF, nn.PLIF, and norm = function(width, T, added) -> module, or one of
    batch, nda (gammas of 0.5), tab, tdbn, tebn, in place of the published ones.
    net(x [T, N, C, H, W]) -> logits [T, N, classes]; parameters are named as in the published checkpoints.]]

-- A maker of layers. opt: the options; published: { neuron, norm, kaiming = boolean, bias = boolean, zero_bias = boolean }.
-- Its at = { C, H, W } follows the images, for the neurons that have a state of their own for each pixel.
local Maker = {}
Maker.__index = Maker

function maker.new(where, opt, published)
  return setmetatable({ where = where, opt = opt, published = published, at = { opt.channels, opt.size[1], opt.size[2] } }, Maker)
end

local function made(self, what, module)
  if not nn.is_module(module) then
    o.fail("%s: %s: expected a function that returns a module, got one that returns %s", self.where, what, o.show(module))
  end
  return module
end

function Maker:conv(cin, cout, kernel, stride)
  local published = self.published
  local conv = nn.Conv2d(cin, cout, kernel, { stride = stride, padding = kernel // 2, bias = published.bias or false })
  if published.kaiming then conv.weight = nn.Parameter({ cout, cin, kernel, kernel }, fan_out) end
  if published.zero_bias then conv.bias = nn.Parameter({ cout }, zero) end
  return conv
end

-- A published number of channels times the option scale.
function Maker:channels(n) return math.max(1, math.floor(n * self.opt.scale + 0.5)) end

-- added: the result is added to another branch. T is handed on for norms that differ from step to step.
function Maker:norm(width, added)
  return made(self, "norm", (self.opt.norm or self.published.norm or norms.batch)(width, self.opt.T, added or false))
end

-- name: as in the checkpoint; size { C, H, W } or { n }: one neuron each.
function Maker:neuron(name, size)
  return made(self, "neuron", (self.opt.neuron or self.published.neuron)(name, size[1], { table.unpack(size) }))
end

return maker
