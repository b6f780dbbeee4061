-- Losses over logits [T, N, classes] and labels y [N] (0-based int64) or shares y [N, classes]. A criterion is called like a function and keeps, from the
-- last call and not read until you do: .parts (tensors loss, ce, mse, reg) and .correct (argmax of the mean logits, [1]).

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local monitor = require "moonspike.monitor"
local Module = require "moonspike.nn.module"

local loss = {}

local smooth = o.number(0, { from = 0, below = 1 })

local function logits_of(where, logits, y)
  if not o.is_tensor(logits) then o.fail("%s: logits: expected a tensor [T, N, C], got %s", where, o.show(logits)) end
  if not o.is_tensor(y) then o.fail("%s: y: expected labels [N], got %s", where, o.show(y)) end
  if logits:dim() ~= 3 then o.fail("%s: logits: expected [T, N, C], got %s", where, o.shape(logits)) end
  local size, labels = logits.shape, y.shape
  local mixed = #labels == 2 and labels[2] == size[3]
  if not (#labels == 1 or mixed) or labels[1] ~= size[2] then
    o.fail("%s: y: expected [%d] labels (or [%d, %d] shares) for logits %s, got %s", where, size[2], size[2], size[3], o.shape(logits), o.shape(y))
  end
  return size
end

-- A class of criteria: configure(opt) -> what core needs. Instances hold .options and .parts.
local function criterion(name, spec, configure, run)
  local class = { name = name }
  local mt = { __name = "loss." .. name, class = class, __index = class }
  function mt.__tostring(self)
    local text = {}
    for _, key in ipairs(o.keys(self.options)) do text[#text + 1] = key .. " = " .. tostring(self.options[key]) end
    return ("loss.%s { %s }"):format(name, table.concat(text, ", "))
  end
  function mt.__call(self, logits, y) return run(self, logits, y) end
  loss[name] = setmetatable(class, {
    __name = "class " .. name,
    __call = function(_, ...)
      local self = setmetatable({ parts = {} }, mt)
      configure(self, spec, ...)
      return self
    end,
  })
end

-- Value and parts of the classification loss; extra is added to both (a regulariser).
local function classify(self, logits, y, extra)
  local size = logits_of(getmetatable(self).class.name, logits, y)
  local value, parts, correct = core.nn.classification_loss(logits, y, self.core)
  local reg, each
  if extra then
    reg, each = extra(size[1])
    value = value + reg
  end
  self.parts = { loss = value:detach(), ce = parts:select(1, 2), mse = parts:select(1, 3), reg = reg and reg:detach(), reg_t = each }
  self.correct = correct
  monitor.report(self.parts.loss, correct, size[2])
  return value
end

local function simple(name, spec, translate)
  criterion(name, spec, function(self, rules, opts)
    self.options = o.read(name, opts, rules)
    self.core = translate(self.options)
  end, classify)
end

simple("SDT", { label_smooth = smooth }, function(opt)
  return { over = "mean", ce = 1, mse = 0, smooth = opt.label_smooth }
end)

simple("SMSE", {}, function() return { over = "mean", ce = 0, mse = 1, onehot = true } end)

simple("LTS", { label_smooth = smooth }, function(opt)
  return { over = "last", ce = 1, mse = 0, smooth = opt.label_smooth }
end)

simple("TET", { mu = o.number(0.05, { from = 0, to = 1 }), phi = o.number(1), label_smooth = smooth }, function(opt)
  return { over = "each", ce = 1 - opt.mu, mse = opt.mu, phi = opt.phi, onehot = false, smooth = opt.label_smooth }
end)

criterion("CrossEntropy", { label_smooth = smooth }, function(self, rules, opts)
  self.options = o.read("CrossEntropy", opts, rules)
  self.core = { over = "each", ce = 1, mse = 0, smooth = self.options.label_smooth }
end, function(self, logits, y)
  if o.is_tensor(logits) and logits:dim() == 2 then logits = logits:unsqueeze(1) end
  return classify(self, logits, y)
end)

local trt_spec = {
  lambda = o.number(1e-5, { from = 0 }), delta = o.number(0.25, { from = 0 }), eta = o.number(0.05, { from = 0, to = 1 }),
  epsilon = o.number(1e-5, { from = 0 }), reg_params = o.choice("weights+gammas", { "weights+gammas", "weights" }),
  reg_t0 = o.where(0, "0 or 1", function(v) return v == 0 or v == 1 end), label_smooth = smooth,
}

-- The regularised parameters of a net, in order. Biases (BatchNorm's beta is named bias) never; gammas by option.
local function regularised(source, reg_params)
  if not Module._is_module(source) then return source end
  local list = {}
  for name, p in source:named_parameters() do
    if not name:find("bias", 1, true) and (reg_params ~= "weights" or p:dim() > 1) then list[#list + 1] = p end
  end
  return list
end

criterion("TRT", trt_spec, function(self, rules, net, opts)
  local is_net = Module._is_module(net)
  if not is_net and not (type(net) == "table" and o.is_tensor(net[1])) then
    o.fail("TRT: net: expected a module or a list of parameters, got %s", o.show(net))
  end
  self.net = net
  self.options = o.read("TRT", opts, rules)
  local opt = self.options
  self.core = { over = "each", ce = 1 - opt.eta, mse = opt.eta, onehot = true, smooth = opt.label_smooth }
end, function(self, logits, y)
  local opt = self.options
  return classify(self, logits, y, function(steps)
    return core.nn.trt(regularised(self.net, opt.reg_params),
      { lambda = opt.lambda, delta = opt.delta, epsilon = opt.epsilon, t0 = math.tointeger(opt.reg_t0), T = steps })
  end)
end)

-- The parameters that r(t) covers, in order.
function loss.TRT:parameters() return regularised(self.net, self.options.reg_params) end

-- Mean squared difference of two tensors of one shape.
function loss.MSE(a, b)
  if not o.is_tensor(a) then o.fail("MSE: a: expected a tensor, got %s", o.show(a)) end
  if not o.is_tensor(b) then o.fail("MSE: b: expected a tensor, got %s", o.show(b)) end
  if o.shape(a) ~= o.shape(b) then o.fail("MSE: b: expected %s, got %s", o.shape(a), o.shape(b)) end
  if a.dtype == "bfloat16" then a = a:float() end -- of two bfloat16 tensors the difference would be rounded
  return (a - b):square():mean()
end

local common = [[


    criterion(logits [T, N, C], y [N] int64, 0-based) -> value with gradient. After a call criterion.parts holds the tensors loss, ce, mse
    and reg, criterion.correct the number of right answers of the mean logits [1]. y may also be float32 [N, C], the share of each class
    (data.mixup, data.cutmix): it stands for the one-hot, label smoothing included, and the answer is right at its largest entry. A label
    that is no class is an error; on a GPU the next read of a value raises it.]]

doc.set(loss.SDT, "loss.SDT{ label_smooth = 0 }\n\n    CE(mean over t of O(t), y)." .. common)
doc.set(loss.SMSE, "loss.SMSE{}\n\n    MSE(mean over t of O(t), onehot(y)), a mean over N*C." .. common)
doc.set(loss.LTS, "loss.LTS{ label_smooth = 0 }\n\n    CE(O(T), y): the last time step." .. common)
doc.set(loss.TET, [[
    loss.TET{ mu = 0.05, phi = 1, label_smooth = 0 }

    (1 - mu) mean over t of CE(O(t), y) + mu MSE(O, phi), the MSE over every logit. Deng et al. 2022, "Temporal Efficient
    Training of Spiking Neural Network via Gradient Re-weighting".]] .. common)
doc.set(loss.TRT, [[
    loss.TRT(net, { lambda = 1e-5, delta = 0.25, eta = 0.05, epsilon = 1e-5, reg_params = "weights+gammas", reg_t0 = 0, label_smooth = 0 })

    mean over t of (1 - eta) CE(O(t), y) + eta MSE(O(t), onehot(y)) + r(t), with
    r(t) = sum over w of lambda w^2 / (1 + (exp(delta t) - 1)(|w| + epsilon)), t = reg_t0, reg_t0 + 1, ...
    Temporal Regularization Training, arXiv 2506.19256, eq. 13 and 14. Defaults follow the published code, which regularises every
    parameter whose name lacks "bias" (BatchNorm gammas too) from t = 0; the paper's text speaks of weights only
    (reg_params = "weights") and t = 1 (reg_t0 = 1). net: a module, or a list of parameters that are all regularised.]] .. common)
doc.set(loss.TRT.parameters, "criterion:parameters() -> list\n\nThe parameters that loss.TRT regularises.")
doc.set(loss.CrossEntropy, [[
    loss.CrossEntropy{ label_smooth = 0 }

    Mean cross entropy of logits [N, C], or of every time step of [T, N, C].]] .. common)
doc.set(loss.MSE, "loss.MSE(a, b) -> mean((a - b)^2)")
doc.set(loss, "ms.loss: SDT SMSE LTS TET TRT CrossEntropy MSE. A loss of your own is any function of tensors.")

return o.named(loss, "loss")
