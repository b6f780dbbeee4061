-- Temporal knowledge sharing: the time steps that are right teach all of them.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local base = require "moonspike.loss.base"

local spec = {
  alpha = o.number(0.7, { from = 0, to = 1 }), temperature = o.number(3, { above = 0 }), epochs = o.integer(o.required, { from = 1 }),
  teacher = o.choice("sum", { "sum", "mean" }), detach_teacher = o.boolean(false), label_smooth = base.smooth,
}

local TKS = base.criterion("TKS", function(self, opts)
  self.options = o.read("TKS", opts, spec)
  self.core = { over = "mean", ce = 1, mse = 0, smooth = self.options.label_smooth }
  self.share = core.tensor.ones(1) -- a: a tensor, so that a captured step follows the epochs
  core.capture.keep(self.share)
end, function(self, logits, y)
  local opt = self.options
  local size = base.logits_of("TKS", logits, y)
  if self.share.device ~= logits.device then
    self.share = self.share:to(logits.device)
    core.capture.keep(self.share)
  end
  local ce, parts, correct = core.nn.classification_loss(logits, y, self.core)
  local labels = y:dim() == 2 and y:argmax(-1) or y
  local out = logits.dtype == "bfloat16" and logits:float() or logits
  local right = out:detach():argmax(-1):eq(labels):float():unsqueeze(3)
  local teacher = (out * right):sum(1)
  if opt.teacher == "mean" then teacher = teacher / right:sum(1):clamp(1, size[1]) end
  local q = (teacher / opt.temperature):softmax(-1)
  if opt.detach_teacher then q = q:detach() end
  local kd = (out:log_softmax(-1) * q):sum() * (-opt.temperature ^ 2 / (size[1] * size[2]))
  local value = (kd + self.share * (ce - kd)):sum()
  return base.report(self, value, { loss = value:detach(), ce = parts:select(1, 2), kd = kd:detach() }, correct, size[2])
end)

-- Epoch `epoch` of `epochs`, counted from 0: the share of the cross entropy is 1 - alpha * epoch / epochs.
function TKS:set_epoch(epoch)
  o.check("set_epoch", "epoch", epoch, o.integer(nil, { from = 0, to = self.options.epochs }))
  local was <close> = require "moonspike.autograd".guard(false)
  self.share:fill_(1 - self.options.alpha * epoch / self.options.epochs)
  return self
end

doc.set(TKS.set_epoch, "criterion:set_epoch(epoch) -> criterion\n\n    Before each epoch, counted from 0; also after ms.resume.")

doc.set(TKS, [[
    loss.TKS{ epochs =, alpha = 0.7, temperature = 3, teacher = "sum" | "mean", detach_teacher = false, label_smooth = 0 }

    a CE(mean over t of O(t), y) + (1 - a) temperature^2 mean over t of CE(O(t), q): the teacher q = softmax(S / temperature), S the sum of the
    O(t) of the sample whose answer is right (none: q is uniform); a = 1 - alpha epoch / epochs, moved by criterion:set_epoch(epoch).
    Dong et al. 2023, "Temporal Knowledge Sharing Enables Spiking Neural Network Learning from Past and Future". Defaults follow the
    published code (TKS and Brain-Cog): the sum (teacher = "mean" divides by the number of right steps), gradients through the teacher too, students
    without temperature. criterion.parts: loss, ce, kd.]] .. base.common)

return { TKS = TKS }
