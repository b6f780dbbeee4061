-- What criteria share: classes of them, checks of logits and labels, the report of a step.

local core = require "moonspike.core"
local o = require "moonspike.options"
local monitor = require "moonspike.monitor"

local base = {}

base.smooth = o.number(0, { from = 0, below = 1 })

base.common = [[


    criterion(logits [T, N, C], y [N] int64, 0-based) -> value with gradient. After a call criterion.parts holds the tensors loss, ce, mse
    and reg, criterion.correct the number of right answers of the mean logits [1]. y may also be float32 [N, C], the share of each class
    (data.mixup, data.cutmix): it stands for the one-hot, label smoothing included, and the answer is right at its largest entry. A label
    that is no class is an error; on a GPU the next read of a value raises it.]]

function base.logits_of(where, logits, y)
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

-- A class of criteria: configure(self, ...) sets .options (and .core for classify); run(self, logits, y) -> value.
function base.criterion(name, configure, run)
  local class = { name = name }
  local mt = { __name = "loss." .. name, class = class, __index = class }
  function mt.__tostring(self)
    local text = {}
    for _, key in ipairs(o.keys(self.options)) do text[#text + 1] = key .. " = " .. tostring(self.options[key]) end
    return ("loss.%s { %s }"):format(name, table.concat(text, ", "))
  end
  function mt.__call(self, logits, y) return run(self, logits, y) end
  return setmetatable(class, {
    __name = "class " .. name,
    __call = function(_, ...)
      local self = setmetatable({ parts = {} }, mt)
      configure(self, ...)
      return self
    end,
  })
end

function base.report(self, value, parts, correct, samples)
  self.parts, self.correct = parts, correct
  monitor.report(parts.loss, correct, samples)
  return value
end

-- Value and parts of the classification loss; extra(T) -> regulariser, its steps is added to both.
function base.classify(self, logits, y, extra)
  local size = base.logits_of(getmetatable(self).class.name, logits, y)
  local value, parts, correct = core.nn.classification_loss(logits, y, self.core)
  local reg, each
  if extra then
    reg, each = extra(size[1])
    value = value + reg
  end
  return base.report(self, value, { loss = value:detach(), ce = parts:select(1, 2), mse = parts:select(1, 3), reg = reg and reg:detach(), reg_t = each },
    correct, size[2])
end

return base
