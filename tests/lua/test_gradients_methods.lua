-- Methods that are made of other parts, and their combinations in one small network: slopes of the loss by every parameter and the input
-- against finite differences. In the double build alone, where neurons fire by the smooth primitive of their surrogate.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local ms = require "moonspike"
local core = require "moonspike.core"
local nn, loss = ms.nn, ms.loss

core.device.threads(1)

TestMethods = {}

if core.device.float_width() ~= 8 then
  function TestMethods:test_smooth_build_alone() lu.skip "measured in the double-precision build (-DMS_REAL64=ON)" end
  os.exit(lu.LuaUnit.run() == 0)
end

local T, N, C = 3, 3, 4

-- Every element of every tensor in `named`, written in place.
local function differences(what, named, value)
  local grads = {}
  for _, entry in ipairs(named) do entry[2].grad = nil end
  value():backward()
  for i, entry in ipairs(named) do
    grads[i] = entry[2].grad and entry[2].grad:reshape(-1):totable() or {}
  end
  ms.no_grad(function()
    for i, entry in ipairs(named) do
      local start = entry[2]:detach():clone()
      local flat = start:reshape(-1)
      for j = 1, flat:numel() do
        local function at(step)
          local moved = flat:clone()
          moved[j] = moved[j]:item() + step
          entry[2]:copy_(moved:view(table.unpack(start.shape)))
          return value():item()
        end
        local numeric = (at(1e-6) - at(-1e-6)) / 2e-6
        local got = grads[i][j] or 0
        if math.abs(got - numeric) > 2e-6 * math.max(1, math.abs(numeric)) then
          lu.fail(("%s: %s, element %d: backward %.9g, differences %.9g"):format(what, entry[1], j, got, numeric))
        end
      end
      entry[2]:copy_(start)
    end
  end)
end

local function parameters(net, x)
  local list = { { "x", x } }
  for name, p in net:named_parameters() do list[#list + 1] = { name, p } end
  return list
end

local function spread(net) -- factors and biases away from 1 and 0
  ms.no_grad(function()
    for name, p in net:named_parameters() do
      if p:dim() == 1 then p:add_(ms.randn(p.shape, { key = "spread/" .. name }) * 0.2) end
    end
  end)
  return net
end

local function input(...) return (ms.randn({ ... }, { key = "input" }) * 1.5):requires_grad_() end

for name, make in pairs { TEBN = nn.TEBN, TAB = nn.TAB, BNTT = nn.BNTT } do
  TestMethods["test_" .. name] = function()
    for _, shape in ipairs { { T, N, C, 2, 1 }, { T, N, C } } do
      for _, options in ipairs { {}, { alpha = 0.7, V_th = 0.5 } } do
        local norm, x = spread(make(C, T, options)), input(table.unpack(shape))
        local g = ms.randn(shape, { key = "upstream" })
        differences(name, parameters(norm, x), function() return (norm(x) * g):sum() end)
      end
    end
  end
end

function TestMethods:test_learnable_membrane()
  for _, size in ipairs { { C, 2, 1 }, { C, 1, 1 } } do
    local lif = nn.LIF { tau = 4, v0 = "learnable", v0_shape = size }
    local x = input(T, N, C, 2, 1)
    local g = ms.randn(x.shape, { key = "upstream" })
    differences("v0", parameters(lif, x), function()
      local s, v = lif(x)
      return (s * g):sum() + v:square():sum()
    end)
  end
end

local function labels() return ms.tensor({ 0, 2, 1 }, { dtype = "int64" }) end

function TestMethods:test_tks()
  for _, options in ipairs { {}, { detach_teacher = false, teacher = "mean" }, { label_smooth = 0.1, temperature = 1.5 } } do
    options.epochs = 10
    local criterion = loss.TKS(options):set_epoch(6)
    local o = input(T, N, 3)
    differences("tks", { { "logits", o } }, function() return criterion(o, labels()) end)
  end
end

-- ---- combinations ----

local norms = {
  plain = function(c) return nn.BatchNorm1d(c) end, td = function(c) return nn.tdBN(c, { alpha = 1 / math.sqrt(2), V_th = 0.5 }) end,
  tab = function(c) return nn.TAB(c, T) end, tebn = function(c) return nn.TEBN(c, T) end, bntt = function(c) return nn.BNTT(c, T) end,
}
local v0 = { v0 = "learnable", v0_shape = { C } }
local function with(name, more)
  return function()
    local options = {}
    for k, v in pairs(more or {}) do options[k] = v end
    return nn.published(name, options)
  end
end
local soft = { surrogate = "gaussian", alpha = 0.8 } -- smooth everywhere
local neurons = {
  trt = with("trt", { surrogate = "atan", alpha = 2 }), imp = with("imp-vgg", { surrogate = "gaussian", v0 = v0.v0, v0_shape = v0.v0_shape }),
  plif = with("sew-plif", { detach_reset = false }), soft = with("efficientlif-shared", { detach_reset = false, surrogate = "sigmoid", alpha = 3 }),
  channels = function() return nn.SharedChannels(with("efficientlif-shared", { detach_reset = false, surrogate = soft.surrogate })()) end,
}
local criteria = {
  trt = function(net) return loss.TRT(net, { lambda = 0.01, delta = 0.5, reg_params = "all but biases" }) end,
  l2 = function(net) return loss.L2(net, { weights = 0.01, gammas = 0.02 }) end,
  fitted = function(net) return loss.Control(net, { which = "fitted_l2", T = T, lambda = 0.01, delta = 0.5 }) end,
  tks = function() return loss.TKS { epochs = 4 }:set_epoch(3) end, tet = function() return loss.TET() end,
  tet_s = function() return loss.TET_S() end, lts = function() return loss.LTS { label_smooth = 0.1 } end,
}

local pairs_of = { -- norm, neuron, loss, one membrane for both layers
  { "tab", "imp", "trt" }, { "tebn", "imp", "tet_s" }, { "td", "trt", "tet" }, { "bntt", "plif", "tks" }, { "tab", "plif", "fitted" },
  { "plain", "channels", "l2" }, { "tebn", "soft", "trt", true }, { "plain", "channels", "tks", true }, { "bntt", "imp", "lts" },
  { "td", "soft", "fitted", true },
}

for _, case in ipairs(pairs_of) do
  local norm, neuron, criterion, shared = table.unpack(case)
  TestMethods[("test_%s_%s_%s%s"):format(norm, neuron, criterion, shared and "_shared" or "")] = function()
    ms.manual_seed(8)
    local body = nn.Sequential { nn.Linear(3, C, { bias = false }), norms[norm](C), neurons[neuron](), nn.Linear(C, C), norms[norm](C), neurons[neuron]() }
    if shared then
      for _, i in ipairs { 2, 5 } do -- a normalisation inside of the loop sees one step
        if body[i].span then body[tostring(i - 1)] = nn.BatchNorm1d(C) end
      end
      body = nn.SharedMembrane(body)
    end
    local net = spread(nn.Sequential { body, nn.Linear(C, 3) })
    local x = input(T, N, 3)
    local l = criteria[criterion](net)
    differences(table.concat({ norm, neuron, criterion }, " "), parameters(net, x), function() return l(net(x), labels()) end)
  end
end

os.exit(lu.LuaUnit.run() == 0)
