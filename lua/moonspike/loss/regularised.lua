-- Criteria with a penalty on the weights: TRT, and L2 with strengths for weights, gammas and the rest. Which parameters are penalised.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Module = require "moonspike.nn.module"
local base = require "moonspike.loss.base"

local regularised = {}

-- Synaptic weights and factors of normalisations are named weight; weights have two dimensions or more.
local function is_weight(name) return name == "weight" or name:sub(-7) == ".weight" end

local kept = {
  ["weights+gammas"] = is_weight,
  ["weights"] = function(name, p) return is_weight(name) and p:dim() > 1 end,
  ["gammas"] = function(name, p) return is_weight(name) and p:dim() == 1 end,
  ["others"] = function(name) return not is_weight(name) end,
  ["all but biases"] = function(name) return not name:find("bias", 1, true) end,
}

-- The parameters of a net, in order; of a list all, or by their dimensions.
function regularised.parameters(source, reg_params)
  local list, keep = {}, kept[reg_params]
  if Module._is_module(source) then
    for name, p in source:named_parameters() do
      if keep(name, p) then list[#list + 1] = p end
    end
    return list
  end
  for _, p in ipairs(source) do
    if keep("weight", p) then list[#list + 1] = p end
  end
  return list
end

function regularised.check_net(where, net)
  if Module._is_module(net) or type(net) == "table" and o.is_tensor(net[1]) then return net end
  o.fail("%s: net: expected a module or a list of parameters, got %s", where, o.show(net))
end

regularised.spec = {
  lambda = o.number(1e-5, { from = 0 }), delta = o.number(0.25, { from = 0 }), eta = o.number(0.05, { from = 0, to = 1 }),
  epsilon = o.number(1e-5, { from = 0 }), reg_params = o.choice("weights+gammas", { "weights+gammas", "weights", "all but biases" }),
  reg_t0 = o.where(0, "0 or 1", function(v) return v == 0 or v == 1 end), label_smooth = base.smooth,
}

-- sum over t of r(t), meaned, and each r(t); opt as TRT's. nil where there is nothing to penalise.
function regularised.trt(params, opt, steps)
  if #params == 0 then return nil end
  return core.nn.trt(params,
    { lambda = opt.lambda, delta = opt.delta, epsilon = opt.epsilon, t0 = math.tointeger(opt.reg_t0), T = steps })
end

-- strength * sum of squares; nil likewise.
function regularised.l2(params, strength)
  if #params == 0 then return nil end
  return (core.nn.trt(params, { lambda = strength, delta = 0, T = 1 }))
end

local function settings(opt)
  return { over = opt.over or "each", ce = 1 - opt.eta, mse = opt.eta, onehot = true, smooth = opt.label_smooth }
end

regularised.TRT = base.criterion("TRT", function(self, net, opts)
  self.net = regularised.check_net("TRT", net)
  self.options = o.read("TRT", opts, regularised.spec)
  self.core = settings(self.options)
end, function(self, logits, y)
  local opt = self.options
  local params = regularised.parameters(self.net, Module._is_module(self.net) and opt.reg_params or "all but biases")
  if #params == 0 then o.fail("TRT: net: expected parameters to regularise (%s), got none", opt.reg_params) end
  return base.classify(self, logits, y, function(steps) return regularised.trt(params, opt, steps) end)
end)

local groups = { "weights", "gammas", "others" }
local l2_spec = {
  weights = o.number(o.required, { from = 0 }), gammas = o.number(0, { from = 0 }), others = o.number(0, { from = 0 }),
  eta = o.number(0.05, { from = 0, to = 1 }), over = o.choice("each", { "each", "mean" }), label_smooth = base.smooth,
}

regularised.L2 = base.criterion("L2", function(self, net, opts)
  self.net = regularised.check_net("L2", net)
  self.options = o.read("L2", opts, l2_spec)
  self.core = settings(self.options)
end, function(self, logits, y)
  return base.classify(self, logits, y, function()
    local sum
    for _, group in ipairs(groups) do
      local strength = self.options[group]
      local part = (strength > 0 or group == "weights") and regularised.l2(regularised.parameters(self.net, group), strength)
      sum = sum and part and sum + part or sum or part or nil
    end
    return sum or o.fail("L2: net: expected parameters to regularise, got none")
  end)
end)

doc.set(regularised.TRT, [[
    loss.TRT(net, { lambda = 1e-5, delta = 0.25, eta = 0.05, epsilon = 1e-5, reg_params = "weights+gammas", reg_t0 = 0, label_smooth = 0 })

    mean over t of (1 - eta) CE(O(t), y) + eta MSE(O(t), onehot(y)) + r(t), with
    r(t) = sum over w of lambda w^2 / (1 + (exp(delta t) - 1)(|w| + epsilon)), t = reg_t0, reg_t0 + 1, ...
    Temporal Regularization Training, arXiv 2506.19256, eq. 13 and 14. Defaults follow the published code, which regularises every
    parameter whose name lacks "bias" (on its networks: weights and BatchNorm gammas) from t = 0; the paper's text speaks of weights only
    (reg_params = "weights") and t = 1 (reg_t0 = 1). Parameters that its networks do not have (v0, PLIF's w, TEBN's te, TAB's p) are left
    alone unless reg_params = "all but biases". net: a module, or a list of parameters that are all regularised. The penalty does
    not depend on the data: see loss.strength, and loss.Control for the controls.]] .. base.common)
doc.set(regularised.L2, [[
    loss.L2(net, { weights =, gammas = 0, others = 0, eta = 0.05, over = "each" | "mean", label_smooth = 0 })

    mean over t of (1 - eta) CE(O(t), y) + eta MSE(O(t), onehot(y)), plus weights * sum w^2 over the weights plus gammas * sum w^2 over the
    factors of the normalisations plus others * sum w^2 over all else, biases too: TRT with plain penalties. over = "mean": CE and
    MSE of the mean of the logits. loss.Control fits the strengths to TRT's. The published code's own control (its option --l2) is
    loss.L2(net, { weights = l, gammas = l, others = l, eta = 0, over = "mean" }): biases and BatchNorm's betas are in it.]] .. base.common)

return regularised
