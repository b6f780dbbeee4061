-- Fisher information and its centroid over time, with the published estimator and with the one that its equations define.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local monitor = require "moonspike.monitor"
local Module = require "moonspike.nn.module"
local evaluating = require "moonspike.nn.evaluating"
local seeding = require "moonspike.nn.seeding"
local base = require "moonspike.loss.base"
local position = require "moonspike.data.position"

local fisher = {}

local PUBLISHED = { batches = 101, divisor = 100 }

local spec = {
  mode = o.choice("batch", { "batch", "per_sample" }), batches = o.integer(PUBLISHED.batches, { from = 1 }), divisor = o.number(nil, { above = 0 }),
  T = o.integer(nil, { from = 1 }), labels = o.choice("true", { "true", "sampled" }), seed = o.integer(0), params = o.table(nil),
}

function fisher.centroid(I)
  o.check("centroid", "I", I, o.table())
  local moment, sum = 0, 0
  for t, v in ipairs(I) do moment, sum = moment + t * v, sum + v end
  return moment / sum
end

-- The parameters that take part, and for each the place of its layer in the list of layers' names.
local function choose(net, given)
  local names, params, layers, place, seen = {}, {}, {}, {}, {}
  for name, p in net:named_parameters() do
    names[p] = name
    if not given and p.requires_grad then params[#params + 1] = p end
  end
  for i, p in ipairs(given or {}) do
    if not names[p] then o.fail("fisher: params[%d]: expected a parameter of net, got %s", i, o.show(p)) end
    if not p.requires_grad then o.fail("fisher: params[%d]: expected one that requires grad, got %s, which is frozen", i, names[p]) end
    params[i] = p
  end
  if #params == 0 then o.fail("fisher: %s: expected at least one parameter that requires grad, got none", given and "params" or "net") end
  for i, p in ipairs(params) do
    local layer = names[p]:match "^(.*)%.[^.]*$" or net:class()
    if not seen[layer] then
      layers[#layers + 1] = layer
      seen[layer] = #layers
    end
    place[i] = seen[layer]
  end
  return params, layers, place
end

-- Standard Gumbel noise [T, N, C]: the argmax of logits plus it is a draw from their softmax.
local function gumbel(size, seed, batch, device)
  return seeding.draw({ seed = seed, used = {} }, ("fisher/%d"):format(batch), function(key)
    return -(-core.tensor.rand(size, { key = key, device = device }):log()):log()
  end)
end

-- The squared norm of each parameter's gradient of the loss of every prefix, [T, parameters]. One graph serves all prefixes.
local function squares(logits, y, noise, steps, params)
  local rows = {}
  for t = 1, steps do
    local prefix, row = logits:narrow(1, 1, t), {}
    local label = noise and (prefix:detach():mean(1) + noise:select(1, t)):argmax(-1) or y
    local value = core.nn.classification_loss(prefix, label, { over = "mean", ce = 1, mse = 0 })
    local grads = autograd.grad(value, params, { retain_graph = t < steps })
    for i = 1, #params do row[i] = grads[i] and grads[i]:norm():square() or core.tensor.zeros({}, { device = logits.device }) end
    rows[t] = core.ops.stack(row, 1)
  end
  return core.ops.stack(rows, 1)
end

-- What mini-batch number `batch` adds to the sums, [T][parameters]; per sample from batches of one, whose gradients are the samples'.
local function of_batch(net, x, y, batch, params, opt)
  local n = y.shape[1]
  local width = opt.mode == "per_sample" and 1 or n
  local sum, noise
  for first = 1, n, width do
    local labels = y:narrow(1, first, width)
    local logits = net(x:narrow(2, first, width))
    local size = base.logits_of("fisher", logits, labels)
    local steps = opt.T or size[1]
    if steps > size[1] then o.fail("fisher: T: expected at most %d, the time steps of the logits, got %d", size[1], steps) end
    if opt.labels == "sampled" then noise = noise or gumbel({ steps, n, size[3] }, opt.seed, batch, logits.device) end
    local added = squares(logits, labels, noise and noise:narrow(2, first, width), steps, params)
    sum = sum and sum:add_(added) or added
  end
  return sum:totable()
end

local Fisher = { __name = "Fisher information" }
Fisher.__index = Fisher

function Fisher:__tostring()
  local out = { ("Fisher information over time: mode %s, %s labels, %d batches of %d samples in all, sums divided by %g")
    :format(self.mode, self.labels, self.batches, self.samples, self.divisor), "   t        I(t)" }
  for t, v in ipairs(self.I) do out[#out + 1] = ("%4d  %10.5g"):format(t, v) end
  out[#out + 1] = ("centroid %.4f"):format(self.centroid)
  return table.concat(out, "\n")
end

local function zeros(n)
  local list = {}
  for i = 1, n do list[i] = 0 end
  return list
end

local function add(sums, rows)
  if #sums > 0 and #rows ~= #sums then o.fail("fisher: net: expected logits of %d time steps in every batch, got %d", #sums, #rows) end
  for t, row in ipairs(rows) do
    sums[t] = sums[t] or zeros(#row)
    for i, v in ipairs(row) do sums[t][i] = sums[t][i] + v end
  end
end

-- I over time, as a whole and by layer, from the sums [T][parameters].
local function result(sums, layers, place, divisor)
  local self = { I = zeros(#sums), layers = {} }
  for k, name in ipairs(layers) do self.layers[k] = { name = name, I = zeros(#sums) } end
  for t, row in ipairs(sums) do
    for i, v in ipairs(row) do
      local layer = self.layers[place[i]].I
      layer[t] = layer[t] + v / divisor
      self.I[t] = self.I[t] + v / divisor
    end
  end
  self.centroid = fisher.centroid(self.I)
  for _, layer in ipairs(self.layers) do layer.centroid = fisher.centroid(layer.I) end
  return self
end

function fisher.fisher(net, loader, opts)
  o.check("fisher", "net", net, o.where(nil, "a module", Module._is_module))
  o.check("fisher", "loader", loader, o.loader)
  local opt = o.read("fisher", opts, spec)
  if opt.divisor and opt.mode == "per_sample" then o.fail "fisher: divisor: expected nothing in mode 'per_sample', which is a mean over samples" end
  local params, layers, place = choose(net, opt.params)
  local mode <close> = evaluating(net)
  local back <close> = position.keep(loader)
  local alone <close> = monitor.unobserved()
  local grad <close> = autograd.guard(true)
  local sums, batches, samples = {}, 0, 0
  for x, y in loader do
    if not o.is_tensor(x) or not o.is_tensor(y) or x:dim() < 2 or y:dim() < 1 or x.shape[2] ~= y.shape[1] then
      o.fail("fisher: loader: expected batches x [T, N, ...], y [N], got %s, %s", o.show(x), o.show(y))
    end
    monitor.begin()
    batches, samples = batches + 1, samples + y.shape[1]
    add(sums, of_batch(net, x, y, batches, params, opt))
    if batches == opt.batches then break end
  end
  if batches == 0 then o.fail "fisher: loader: expected at least one batch, got none" end
  local divisor = opt.mode == "per_sample" and samples or opt.divisor or batches == PUBLISHED.batches and PUBLISHED.divisor or batches
  local self = result(sums, layers, place, divisor)
  self.mode, self.labels, self.batches, self.samples, self.divisor = opt.mode, opt.labels, batches, samples, divisor
  return setmetatable(self, Fisher)
end

doc.set(fisher.centroid, [[
    analysis.centroid(I) -> number

    The centroid sum t I(t) / sum I(t) of a list over t = 1, 2, ..., in time steps: the information centroid of TRT's paper (arXiv 2506.19256,
    eq. 9), after Kim et al. 2023. nan where all are 0.]])
doc.set(fisher.fisher, [[
    analysis.fisher(net, loader[, { mode = "batch" | "per_sample", batches = 101, divisor = nil, T = nil, labels = "true" | "sampled", seed = 0, params = nil }]) -> information

    The Fisher information that the parameters hold about the answer after t time steps, for t = 1 to T (all by default), and its centroid: arXiv
    2506.19256, eq. 7 to 9. f(t) is the softmax of the mean of the logits O(1) to O(t), l(t) the cross entropy -log f(t)[y].
    net: logits [T, N, C]; loader: batches x [T, N, ...], y; at most `batches` of them. params: a list of parameters of net, by default all that
    require a gradient. Fields of the result: I (list over t), centroid, layers (list of { name, I, centroid }: the parts of the sum), mode, labels,
    batches, samples, divisor; print(information) shows them.

    Two estimators:
      "batch"       the published code: sum over batches of |gradient of the batch's mean l(t)|^2, divided by divisor: by
                    default 100 where 101 batches were taken, as there, else the number of batches that were taken.
      "per_sample"  the trace of eq. 7: the mean over samples of |gradient of the sample's l(t)|^2. Costs a forward and T backwards of each sample.
    The first is not the trace of eq. 7. It is the squared norm of a mean: over a batch of B samples gradients cancel, so that it shrinks with B, towards
    1/B of the trace plus the squared norm of the mean gradient; numbers of different batch sizes, and of nets that fit the data
    differently well, do not compare. The published code also takes other random batches for each t; here all t see the same ones.
    I(4) of the network on moonspike's front page, Fashion-MNIST, T = 4, before training and after six epochs of 6464 images with TRT: by batches of 64
    0.032 and 1.80, of 16 0.104 and 5.96, per sample 1.53 and 81.7 (512 images), with sampled labels 1.51 and 181; the centroids are
    2.80, 2.72, 2.70, 2.69 and 2.53, 2.55, 2.55, 2.56.
    Both take the labels of the data by default, the empirical Fisher information. Eq. 7 takes the expectation over the net's own answers:
    labels = "sampled" draws one answer for each sample and t from f(t), by seed and the batch's number.

    In evaluation mode, with surrogate gradients. Modes of modules, gradients, random numbers and the loader's position are afterwards as before, so
    that it may be called at any point of a training, with the training set as it is (the published code: shuffled, augmented).]])

return fisher
