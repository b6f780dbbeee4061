-- Batch normalisations that treat time steps differently: TEBN (one normalisation, a factor for each step), TAB (statistics over the
-- steps so far), BNTT (statistics of each step). Made of nn.tdBN, so each takes alpha and V_th and its switches.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Module = require "moonspike.nn.module"
local parameter = require "moonspike.nn.parameter"
local containers = require "moonspike.nn.containers"
local norm = require "moonspike.nn.norm"

local timed = {}

-- The class name(C, T, options): forward knows in self:span(x) which time steps x holds.
local function class(name, init)
  local Norm = Module(name)

  function Norm:init(channels, steps, opts)
    self.T = o.check(name, "T", steps, o.integer(nil, { from = 1 }))
    self.membrane_step = false -- true while net:step runs: x is the step after those that _v counts
    init(self, o.check(name, "num_features", channels, o.integer(nil, { from = 1 })), opts)
  end

  -- First and last time step of x.
  function Norm:span(x)
    if not o.is_tensor(x) or x:dim() ~= 3 and x:dim() ~= 5 then
      o.fail("%s: x: expected [T, N, C, H, W] or [T, N, C], got %s", name, o.show(x))
    end
    local before = self.membrane_step and self._v or 0
    local last = before + x.shape[1]
    if last > self.T then
      o.fail("%s: x: expected at most %d time steps, got %d%s", name, self.T, last, self.membrane_step and "; call net:reset_state()" or "")
    end
    if self.membrane_step then self._v = last end
    return before + 1, last
  end

  function Norm:extra() return ("T %d"):format(self.T) end

  timed[name] = Norm
  return Norm
end

-- [T, 1, 1, ...] of a vector's elements from first to last, to multiply x with.
local function factors(vector, first, last, x)
  local size = { last - first + 1 }
  for i = 2, x:dim() do size[i] = 1 end
  return vector:narrow(1, first, last - first + 1):view(table.unpack(size))
end

local function ones(self) return parameter.Parameter(core.tensor.ones(self.T)) end

local TEBN = class("TEBN", function(self, channels, opts)
  self.bn = norm.tdBN(channels, opts)
  self.te = ones(self)
end)

function TEBN:forward(x)
  local first, last = self:span(x)
  return self.bn(x) * factors(self.te, first, last, x)
end

local function each_step(self, channels, opts)
  local list = {}
  for t = 1, self.T do list[t] = norm.tdBN(channels, opts) end
  return containers.Sequential(list)
end

local TAB = class("TAB", function(self, channels, opts)
  self.bn = each_step(self, channels, opts)
  self.p = ones(self)
end)

function TAB:forward(x)
  local batch = self.bn[1].training or not self.bn[1].track_running_stats
  if batch and self.membrane_step then
    o.fail("TAB: x: in training its statistics span all steps so far; call net(x) with all of them, or net:eval() first")
  end
  local first, last = self:span(x)
  local out = {}
  for t = first, last do
    local i = t - first + 1
    if batch then
      out[i] = self.bn[t](x:narrow(1, 1, t)):narrow(1, t, 1)
    else
      out[i] = self.bn[t](x:narrow(1, i, 1))
    end
  end
  return core.ops.cat(out, 1) * factors(self.p:square(), first, last, x)
end

local BNTT = class("BNTT", function(self, channels, opts)
  self.bn = each_step(self, channels, opts)
  for t = 1, self.T do self.bn[t].bias = nil end
end)

function BNTT:forward(x)
  local first, last = self:span(x)
  local out = {}
  for t = first, last do out[t - first + 1] = self.bn[t](x:narrow(1, t - first + 1, 1)) end
  return core.ops.cat(out, 1)
end

local shared = [[


    Options of nn.tdBN: alpha, V_th, eps, momentum, affine, track_running_stats. Fewer steps than T are taken as the first ones; net:step(x_t)
    counts them until net:reset_state().]]

doc.set(TEBN, [[
    nn.TEBN(C, T[, options])        x [T, N, C, H, W] or [T, N, C]

    y[t] = te[t] * BN(x)[t], statistics over T, N, H, W, te [T] learned from 1. Duan et al. 2022, "Temporal Effective Batch Normalization
    in Spiking Neural Networks"; as IMP's VGG has it.]] .. shared)
doc.set(TAB, [[
    nn.TAB(C, T[, options])        x [T, N, C, H, W] or [T, N, C]

    y[t] = p[t]^2 * BN_t(x[1..t])[t]: a normalisation for each step with statistics over the steps so far, of its own weight, bias and running
    statistics; p [T] learned from 1. In evaluation every step goes by its running statistics. Jiang et al. 2024, "TAB: Temporal
    Accumulated Batch Normalization in Spiking Neural Networks"; T (2 C + 1) parameters as in its code. Training costs (T + 1) / 2
    plain normalisations and cannot run step by step.]] .. shared)
doc.set(BNTT, [[
    nn.BNTT(C, T[, options])        x [T, N, C, H, W] or [T, N, C]

    y[t] = weight_t * (x[t] - mean) / sqrt(var + eps): statistics, running statistics and weight of each step alone, no bias. After Kim and
    Panda 2021, "Revisiting Batch Normalization for Training Low-Latency Deep Spiking Neural Networks From Scratch"; eps and
    momentum are nn.tdBN's, the rest follows the paper's text.]] .. shared)

return timed
