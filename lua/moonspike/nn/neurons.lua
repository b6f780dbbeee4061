-- Spiking neurons. h = leak * v + gain * x + bias; spike where h > threshold; reset. The formulas live in kernels/math/neuron.h;
-- here the field's options become those three numbers.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local monitor = require "moonspike.monitor"
local Module = require "moonspike.nn.module"
local parameter = require "moonspike.nn.parameter"
local drawn = require "moonspike.nn.surrogate"

local neurons = {}

local widths = core.nn.surrogates() -- name -> default alpha
widths.localzo = 0.5
local names = o.keys(widths)
local quoted = table.concat(names, ", ")

local function surrogate_rule(default)
  return o.where(default, "one of " .. quoted .. ", or a function(u) -> g",
    function(v) return type(v) == "function" or widths[v] ~= nil end)
end

local function v0_rule()
  return o.where(nil, "a number or 'learnable'", function(v) return math.type(v) or v == "learnable" end)
end

local common = {
  v_threshold = o.number(1), v_reset = o.number(0), reset = o.choice("hard", { "hard", "soft" }), detach_reset = o.boolean(false),
  fire = o.choice(">", { ">", ">=" }), surrogate = surrogate_rule("triangle"), alpha = o.number(nil, { above = 0 }),
  v0 = v0_rule(), v0_shape = o.table(nil), v0_range = o.number(0.2, { from = 0 }),
}

local function with(extra)
  local spec = {}
  for key, rule in pairs(common) do spec[key] = rule end
  for key, rule in pairs(extra) do spec[key] = rule end
  return spec
end

local lif_spec = with { tau = o.number(2, { from = 1 }), decay_input = o.boolean(false) }
local if_spec = with {}
local plif_spec = with { init_tau = o.number(2, { above = 1 }), decay_input = o.boolean(true) }

-- The base of all three; charge = { leak, gain, bias } or { plif = true, ... }.
local Neuron = Module "Neuron"

local function setup(self, where, opt, charge)
  self.v_threshold, self.v_reset = opt.v_threshold, opt.v_reset
  self.reset_mode, self.detach_reset, self.fire = opt.reset, opt.detach_reset, opt.fire
  self.surrogate = opt.surrogate
  self.alpha = opt.alpha or widths[opt.surrogate] or 1
  self.membrane_step = false -- true while net:step runs
  local surrogate = opt.surrogate == "localzo" and drawn.LocalZO { delta = self.alpha } or opt.surrogate
  local settings = {
    threshold = opt.v_threshold, v_reset = opt.v_reset, alpha = self.alpha, surrogate = surrogate,
    soft = opt.reset == "soft", detach = opt.detach_reset, ge = opt.fire == ">=",
    v_init = math.type(opt.v0) and opt.v0 or opt.v_init or 0,
  }
  for key, value in pairs(charge) do settings[key] = value end
  rawset(self, "_settings", settings)
  if opt.v0 == "learnable" then
    if not opt.v0_shape then o.fail("%s: v0_shape: expected the sizes { C, H, W } of the learnable v0, got nothing", where) end
    local range = opt.v0_range
    self.v0 = parameter.Parameter({ 1, table.unpack(opt.v0_shape) }, function(t, key) t:uniform_(-range, range, key) end)
  elseif opt.v0_shape then
    o.fail("%s: v0_shape: expected v0 = 'learnable' beside it, got %s", where, o.show(opt.v0))
  end
end

-- The membrane that the neuron before left (nn.SharedMembrane).
local function handed_on(self, x, share)
  local v = share.v
  if v and o.shape(v) ~= "[" .. table.concat(x.shape, ", ", 2) .. "]" then
    o.fail("%s: x: expected [1, %s, the size of the membrane that it shares, got %s", self:class(), o.shape(v):sub(2), o.shape(x))
  end
  return v
end

function Neuron:forward(x, v0)
  local share = rawget(self, "_share")
  local kept = self.membrane_step and rawget(self, "_v")
  if kept and o.shape(kept) ~= "[" .. table.concat(x.shape, ", ", 2) .. "]" then
    o.fail("%s: x: its membrane is %s from an earlier step, got %s; call net:reset_state()",
      self:class(), o.shape(kept), "[" .. table.concat(x.shape, ", ", 2) .. "]")
  end
  local start = v0 or share and handed_on(self, x, share) or kept or self.v0
  local s, v, counts, report = core.nn.neuron(x, start, self.w, self._settings)
  rawset(self, "counts", counts)
  rawset(self, "_sites", s:numel())
  rawset(self, "_report", report)
  if share then
    share.v = v
    share.fired(self, counts)
  end
  if self.membrane_step then rawset(self, "_v", v) end
  monitor.fired(self, s, x, start)
  return s, v
end

function Neuron:reset()
  o.fail("%s: reset: there is nothing to reset, every call starts from v0; what net:step keeps, net:reset_state() forgets "
    .. "(the option reset is the field reset_mode)", self:class())
end

-- Spikes per neuron and time step of the last call.
function Neuron:rate()
  local counts = rawget(self, "counts")
  return counts and self._sites > 0 and counts:sum():item() / self._sites or 0
end

-- The same for each time step.
function Neuron:rates()
  local counts, list = rawget(self, "counts"), {}
  if not counts then return list end
  local steps = counts.shape[1]
  for t, total in ipairs(counts:sum(2):totable()) do list[t] = total * steps / self._sites end
  return list
end

-- The membrane before reset [T, ...], for monitors.
function Neuron:membrane(x, v0)
  return core.nn.neuron_membrane(x, v0 or self.v0, self.w, self._settings)
end

-- Draws of a surrogate in Lua are taken back. A built-in one has its formula in the core: it is the gradient of a neuron that forgets.
function Neuron:slope(h)
  local set = self._settings
  if type(set.surrogate) == "function" then
    local off <close> = autograd.guard(false)
    local seed, draws = core.random.state()
    local back <close> = setmetatable({}, { __close = function() core.random.set_state(seed, draws) end })
    return set.surrogate(h - set.threshold)
  end
  local on <close> = autograd.guard(true)
  h = h:detach():requires_grad_()
  local s = core.nn.neuron(h, nil, nil, { leak = 0, threshold = set.threshold, surrogate = set.surrogate, alpha = set.alpha })
  return core.autograd.grad(s, { h }, { seed = core.tensor.ones(1, { device = h.device }):expand(h.shape) })[1]
end

function Neuron:extra()
  local text = { self:charge_text() }
  local function add(condition, ...) if condition then text[#text + 1] = string.format(...) end end
  add(self.v_threshold ~= 1, "v_threshold %g", self.v_threshold)
  add(self.reset_mode == "soft", "soft reset")
  add(self.reset_mode == "hard" and self.v_reset ~= 0, "v_reset %g", self.v_reset)
  add(self.detach_reset, "reset detached")
  add(self.fire ~= ">", "fires at >=")
  add(true, type(self.surrogate) == "function" and "surrogate in Lua" or "%s %g", self.surrogate, self.alpha)
  return table.concat(text, ", ")
end

-- ---- the kinds ----

local LIF = Module("LIF", Neuron)
neurons.LIF = LIF

local function lif(self, where, opt, bias)
  self.tau, self.decay_input = opt.tau, opt.decay_input
  local k = 1 / opt.tau
  if opt.decay_input then
    setup(self, where, opt, { leak = 1 - k, gain = k, bias = opt.reset == "soft" and 0 or k * opt.v_reset })
  else
    setup(self, where, opt, { leak = bias and 1 - k or k, gain = 1, bias = bias and opt.reset == "hard" and k * opt.v_reset or 0 })
  end
end

function LIF:init(opts, sj)
  if sj then return lif(self, "LIF.spikingjelly", opts, true) end
  lif(self, "LIF", o.read("LIF", opts, lif_spec), false)
end

function LIF:charge_text() return ("tau %g%s"):format(self.tau, self.decay_input and ", input decays" or "") end

local sj_spec = {
  tau = o.number(2, { above = 1 }), decay_input = o.boolean(true), v_threshold = o.number(1),
  v_reset = o.where(0, "a number, or false for a soft reset", function(v) return math.type(v) or v == false end),
  detach_reset = o.boolean(false), surrogate = surrogate_rule("sigmoid"), alpha = o.number(nil, { above = 0 }),
  v0 = v0_rule(), v0_shape = o.table(nil), v0_range = o.number(0.2, { from = 0 }),
}

function LIF.spikingjelly(opts)
  local opt = o.read("LIF.spikingjelly", opts, sj_spec)
  opt.reset = opt.v_reset and "hard" or "soft"
  opt.v_reset = opt.v_reset or 0
  opt.v_init, opt.fire = opt.v_reset, ">="
  return LIF(opt, true)
end

local IF = Module("IF", Neuron)
neurons.IF = IF

function IF:init(opts) setup(self, "IF", o.read("IF", opts, if_spec), { leak = 1, gain = 1, bias = 0 }) end
function IF:charge_text() return "no leak" end

local PLIF = Module("PLIF", Neuron)
neurons.PLIF = PLIF

function PLIF:init(opts)
  local opt = o.read("PLIF", opts, plif_spec)
  self.init_tau, self.decay_input = opt.init_tau, opt.decay_input
  self.w = parameter.Parameter(core.tensor.tensor { -math.log(opt.init_tau - 1) })
  setup(self, "PLIF", opt, { plif = true, plif_input = opt.decay_input })
end

-- The learned time constant.
function PLIF:tau() return 1 + math.exp(-self.w:item()) end
function PLIF:charge_text() return ("tau %.4g (learned)%s"):format(self:tau(), self.decay_input and "" or ", input not scaled") end

local shared = [[

    lif(x [T, N, ...][, v0]) -> spikes (dtype spike), membrane after T. Both carry gradients; the membrane starts at 0, at the option
    v0 (a number, or "learnable" with v0_shape = { C, H, W }, from U(-v0_range, v0_range), 0.2), or at the argument v0.
    Options: v_threshold = 1, v_reset = 0, reset = "hard" | "soft" (subtracts the threshold), detach_reset = false,
      fire = ">" | ">=", surrogate = "triangle", alpha = 1 (its width; the default follows the surrogate).
    Surrogates ds/dh at u = h - v_threshold: triangle max(0, a - |u|) / a^2, rectangle a [|u| < 1/(2a)],
      atan (a/2) / (1 + (pi/2 a u)^2), sigmoid a s(au) (1 - s(au)), qgate max(0, a - a^2 |u|), gaussian (the normal density of
      width a), localzo (drawn, see nn.LocalZO), or your function(u) -> g. nn.published() lists the neurons of the published codes.
    lif:rate() spikes per neuron and step of the last call, lif:rates() for each t, lif.counts [T, C].]]

doc.set(LIF, [[
    nn.LIF{ tau = 2, decay_input = false, ... }

    Leaky integrate and fire; the defaults are the published TRT neuron: h = v / tau + x.
    decay_input = true: h = v + (x - (v - v_reset)) / tau. nn.LIF.spikingjelly{...} has that library's defaults.]] .. shared)
doc.set(LIF.spikingjelly, [[
    nn.LIF.spikingjelly{ tau = 2, decay_input = true, v_threshold = 1, v_reset = 0, detach_reset = false, surrogate = "sigmoid", alpha = 4 }

    SpikingJelly's LIFNode: h = v + (x - (v - v_reset)) / tau, or without decay_input h = v - (v - v_reset) / tau + x; fires at >=;
    v starts at v_reset. v_reset = false (None there) is the soft reset.]])
doc.set(IF, "nn.IF{ ... }\n\n    Integrate and fire: h = v + x." .. shared)
doc.set(PLIF, [[
    nn.PLIF{ init_tau = 2, decay_input = true, ... }

    Parametric LIF (Fang et al. 2021): 1 / tau = sigmoid(w), one learnable w [1] = -log(init_tau - 1).
    h = v + (x - (v - v_reset)) / tau; decay_input = false: x is not scaled.]] .. shared)

doc.set(Neuron.reset, "lif:reset()\n\n    Raises: a neuron starts from v0 in every call. net:reset_state() forgets what net:step keeps.")
doc.set(Neuron.rate, "lif:rate() -> number\n\n    Spikes per neuron and time step of the last call.")
doc.set(Neuron.rates, "lif:rates() -> list\n\n    Spikes per neuron in each time step of the last call.")
doc.set(Neuron.membrane, "lif:membrane(x[, v0]) -> tensor\n\n    The membrane before reset at every time step.")
doc.set(Neuron.slope, "lif:slope(h) -> tensor\n\n    The surrogate's derivative ds/dh at membranes h [T, ...] before reset. Random numbers that a surrogate in Lua draws are taken back.")

return neurons
