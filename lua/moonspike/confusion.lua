-- ms.confusion: which class is taken for which.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local Module = require "moonspike.nn.module"
local evaluating = require "moonspike.nn.evaluating"
local position = require "moonspike.data.position"

local spec = { over = o.choice("mean", { "mean", "last" }) }

local function confusion(net, loader, opts)
  if not Module._is_module(net) then o.fail("confusion: net: expected a module, got %s", o.show(net)) end
  o.check("confusion", "loader", loader, o.loader)
  local opt = o.read("confusion", opts, spec)
  local mode <close> = evaluating(net)
  local back <close> = position.keep(loader)
  local grad <close> = autograd.guard(false)
  local counts
  for x, y in loader do
    local logits = net(x)
    if logits:dim() == 3 then logits = opt.over == "last" and logits:select(1, -1) or logits:mean(1) end
    local classes = logits.shape[2]
    if not counts then
      counts = {}
      for i = 1, classes do
        counts[i] = {}
        for k = 1, classes do counts[i][k] = 0 end
      end
    end
    local labels = (y:dim() == 2 and y:argmax(-1) or y):totable()
    for i, predicted in ipairs(logits:argmax(-1):totable()) do
      local row = counts[labels[i] + 1]
      if not row then o.fail("confusion: loader: expected labels from 0 to %d, got %d", classes - 1, labels[i]) end
      row[predicted + 1] = row[predicted + 1] + 1
    end
  end
  if not counts then o.fail "confusion: loader: expected at least one batch, got none" end
  return core.tensor.tensor(counts, { dtype = "int64", device = "cpu" })
end

return doc.set(confusion, [[
    ms.confusion(net, loader[, { over = "mean" }]) -> tensor [classes, classes] int64

    Samples by their true class (row) and the class of the largest logit (column), in evaluation mode, without recording; modes of
    modules, random numbers and the loader's position are afterwards as before. The logits are the mean over t, or those of
    the last step (over = "last"). Its diagonal sums up to what ms.evaluate calls accuracy times the samples. ms.plot.confusion draws it.]])
