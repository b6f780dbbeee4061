-- Losses over logits [T, N, classes] and labels y [N] (0-based int64) or shares y [N, classes]. A criterion is called like a function and keeps, from the
-- last call and not read until you do: .parts (tensors loss, ce, mse, reg) and .correct (argmax of the mean logits, [1]).

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local base = require "moonspike.loss.base"

local loss = {}

local smooth, common = base.smooth, base.common

for _, part in ipairs { "regularised", "controls", "tks" } do
  local made = require("moonspike.loss." .. part)
  for _, name in ipairs { "TRT", "L2", "Control", "strength", "TKS" } do loss[name] = rawget(made, name) or loss[name] end
end

local function simple(name, spec, translate, prepare)
  loss[name] = base.criterion(name, function(self, opts)
    self.options = o.read(name, opts, spec)
    self.core = translate(self.options)
  end, function(self, logits, y)
    return base.classify(self, prepare and prepare(logits) or logits, y)
  end)
end

simple("SDT", { label_smooth = smooth }, function(opt)
  return { over = "mean", ce = 1, mse = 0, smooth = opt.label_smooth }
end)

simple("SMSE", {}, function() return { over = "mean", ce = 0, mse = 1, onehot = true } end)

simple("LTS", { label_smooth = smooth }, function(opt)
  return { over = "mean", ce = 1, mse = 0, smooth = opt.label_smooth }
end, function(logits) -- alone, so that the answers are the last step's too
  return o.is_tensor(logits) and logits:dim() == 3 and logits:narrow(1, -1, 1) or logits
end)

simple("TET", { mu = o.number(0.05, { from = 0, to = 1 }), phi = o.number(1), label_smooth = smooth }, function(opt)
  return { over = "each", ce = 1 - opt.mu, mse = opt.mu, phi = opt.phi, onehot = false, smooth = opt.label_smooth }
end)

simple("TET_S", { label_smooth = o.number(0.01, { from = 0, below = 1 }) }, function(opt)
  return { over = "each", ce = 1, mse = 0, smooth = opt.label_smooth }
end)

simple("CrossEntropy", { label_smooth = smooth }, function(opt)
  return { over = "each", ce = 1, mse = 0, smooth = opt.label_smooth }
end, function(logits)
  return o.is_tensor(logits) and logits:dim() == 2 and logits:unsqueeze(1) or logits
end)

-- Mean squared difference of two tensors of one shape.
function loss.MSE(a, b)
  if not o.is_tensor(a) then o.fail("MSE: a: expected a tensor, got %s", o.show(a)) end
  if not o.is_tensor(b) then o.fail("MSE: b: expected a tensor, got %s", o.show(b)) end
  if o.shape(a) ~= o.shape(b) then o.fail("MSE: b: expected %s, got %s", o.shape(a), o.shape(b)) end
  if a.dtype == "bfloat16" then a = a:float() end -- of two bfloat16 tensors the difference would be rounded
  return (a - b):square():mean()
end

doc.set(loss.SDT, "loss.SDT{ label_smooth = 0 }\n\n    CE(mean over t of O(t), y)." .. common)
doc.set(loss.SMSE, "loss.SMSE{}\n\n    MSE(mean over t of O(t), onehot(y)), a mean over N*C." .. common)
doc.set(loss.LTS, "loss.LTS{ label_smooth = 0 }\n\n    CE(O(T), y): the last time step, whose answers criterion.correct counts; ms.evaluate(net, set, " ..
  "{ over = \"last\" }) goes with it. IMP's runs on still images (Shen et al. 2024)." .. common)
doc.set(loss.TET, [[
    loss.TET{ mu = 0.05, phi = 1, label_smooth = 0 }

    (1 - mu) mean over t of CE(O(t), y) + mu MSE(O, phi), the MSE over every logit. Deng et al. 2022, "Temporal Efficient
    Training of Spiking Neural Network via Gradient Re-weighting".]] .. common)
doc.set(loss.TET_S, [[
    loss.TET_S{ label_smooth = 0.01 }

    mean over t of CE(O(t), y) with smoothed labels, no MSE: the loss of IMP's runs on event data (its TETClsHead).]] .. common)
doc.set(loss.CrossEntropy, [[
    loss.CrossEntropy{ label_smooth = 0 }

    Mean cross entropy of logits [N, C], or of every time step of [T, N, C].]] .. common)
doc.set(loss.MSE, "loss.MSE(a, b) -> mean((a - b)^2)")
doc.set(loss, "ms.loss: SDT SMSE LTS TET TET_S TRT TKS L2 CrossEntropy MSE; Control and strength (what TRT has to be compared with).\n" ..
  "A loss of your own is any function of tensors.")

return o.named(loss, "loss")
