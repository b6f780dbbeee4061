-- Mixtures of a batch's samples with those of a random partner: x and the share of each class.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"

local T = core.tensor
local mix = {}

-- ---- draws ----

-- Numbers in (0, 1), one after the other, all of one key.
local function stream(key, n)
  if type(key) == "string" then key = core.random.key("mix", key) end
  local list, at = T.rand(n, { key = key, device = "cpu" }):totable(), 0
  return function()
    at = at % n + 1
    return list[at] + 0x1p-25
  end
end

-- Marsaglia and Tsang 2000, "A simple method for generating gamma variables".
local function gamma(alpha, draw)
  if alpha < 1 then return gamma(alpha + 1, draw) * draw() ^ (1 / alpha) end
  local d = alpha - 1 / 3
  while true do
    local z = math.sqrt(-2 * math.log(draw())) * math.cos(2 * math.pi * draw())
    local v = (1 + z / math.sqrt(9 * d)) ^ 3
    if v > 0 and math.log(draw()) < z * z / 2 + d - d * v + d * math.log(v) then return d * v end
  end
end

local function beta(alpha, draw)
  if alpha == 1 then return draw() end
  local a, b = gamma(alpha, draw), gamma(alpha, draw)
  return a + b > 0 and a / (a + b) or 0.5
end

local function permutation(n, draw, device)
  local list, at = {}, {}
  for i = 1, n do list[i], at[i] = i - 1, draw() end
  table.sort(list, function(i, j) return at[i + 1] < at[j + 1] or at[i + 1] == at[j + 1] and i < j end)
  return T.tensor(list, { dtype = "int64", device = device })
end

-- ---- batches ----

local shared = { classes = o.integer(nil, { from = 1 }),
  key = o.where(nil, "a name or an integer", function(v) return type(v) == "string" or math.tointeger(v) ~= nil end) }
local function spec(extra)
  for key, rule in pairs(shared) do extra[key] = rule end
  return extra
end

-- The shares that y says, [n, classes].
local function shares_of(where, y, n, classes)
  if not o.is_tensor(y) then o.fail("%s: y: expected a tensor, got %s", where, o.show(y)) end
  local size = y.shape
  if size[1] ~= n or #size > 2 or #size == 1 and y.dtype ~= "int64" then
    o.fail("%s: y: expected %d labels (int64) or [%d, classes] shares, got %s %s", where, n, n, y.dtype, o.shape(y))
  end
  if #size == 2 then return y:float() end
  if not classes then o.fail("%s: classes: expected their number, got nothing", where) end
  if y.device == "cpu" and n > 0 and (y:min():item() < 0 or y:max():item() >= classes) then
    o.fail("%s: y: expected labels from 0 to %d, got %d to %d", where, classes - 1, y:min():item(), y:max():item())
  end
  return y:unsqueeze(2):eq(T.arange(classes, { dtype = "int64", device = y.device })):float()
end

-- Runs f(x, partner of x, shares, their partners, draw, dimension of the samples); frames that a view repeats are mixed once.
local function mixed(where, x, y, opt, dims, draws, f)
  local was <close> = autograd.guard(false)
  if not o.is_tensor(x) then o.fail("%s: x: expected a tensor, got %s", where, o.show(x)) end
  local size = x.shape
  if #size > 5 or #size < dims then
    o.fail("%s: x: expected %s[T, N, C, H, W], got %s", where, dims < 5 and "[N, C, H, W] or " or "", o.shape(x))
  end
  local once = #size == 5 and dims < 5 and x:stride(1) == 0
  if once then x = x:select(1, 1) end
  local dim = #x.shape == 5 and 2 or 1
  local n = x.shape[dim]
  local q = shares_of(where, y, n, opt.classes)
  local draw = stream(opt.key, 256 + n * (1 + draws))
  local partner = permutation(n, draw, x.device)
  local new, shares = f(x:float(), x:index_select(dim, partner):float(), q, q:index_select(1, partner), draw, dim)
  if once then new = new:unsqueeze(1):expand(table.unpack(size)) end
  return new, shares
end

local mixup_spec = spec { alpha = o.number(1, { above = 0, below = math.huge }) }

function mix.mixup(x, y, opts)
  local opt = o.read("mixup", opts, mixup_spec)
  return mixed("mixup", x, y, opt, 4, 0, function(own, other, q, p, draw)
    local lambda = beta(opt.alpha, draw)
    return own * lambda + other * (1 - lambda), q * lambda + p * (1 - lambda)
  end)
end

-- 1 from the first to the last of positions, else 0.
local function span(n, first, last, device)
  local list = {}
  for i = 1, n do list[i] = i > first and i <= last and 1 or 0 end
  return T.tensor(list, { device = device })
end

function mix.cutmix(x, y, opts)
  local opt = o.read("cutmix", opts, mixup_spec)
  return mixed("cutmix", x, y, opt, 4, 0, function(own, other, q, p, draw)
    local size = own.shape
    local h, w = size[#size - 1], size[#size]
    local side = math.sqrt(1 - beta(opt.alpha, draw))
    local function interval(n)
      local half, centre = math.floor(n * side) // 2, math.min(math.floor(draw() * n), n - 1)
      return math.max(centre - half, 0), math.min(centre + half, n)
    end
    local top, bottom = interval(h)
    local left, right = interval(w)
    local lambda = 1 - (bottom - top) * (right - left) / (h * w)
    local box = span(h, top, bottom, own.device):unsqueeze(2) * span(w, left, right, own.device):unsqueeze(1)
    return core.ops.where(box, other, own), q * lambda + p * (1 - lambda)
  end)
end

local event_spec = spec { beta = o.number(1, { above = 0, below = math.huge }), p = o.number(0.5, { from = 0, to = 1 }) }

-- What two to four Gaussians over (t, y, x) leave above the (1 - lambda) quantile of their sum; for each sample. [T, N, 1, H, W]
local function blobs(t, n, h, w, alpha, chance, draw, device)
  local sizes, sum, least, wanted = { t, h, w }, nil, {}, {}
  local counts, parts = {}, {}
  for i = 1, n do
    wanted[i] = draw() < chance and 1 or 0
    least[i] = math.floor(t * h * w * (1 - beta(alpha, draw)))
    counts[i] = 2 + math.min(math.floor(draw() * 3), 2)
  end
  for g = 1, 4 do
    local lists = { {}, {}, {} }
    for i = 1, n do
      local weight = draw() * (g <= counts[i] and 1 or 0)
      for d = 1, 3 do
        local mean, sigma = math.floor(draw() * sizes[d]), math.max(draw(), 0.1) * 0.5 * sizes[d]
        local row = {}
        for k = 1, sizes[d] do row[k] = math.exp(-((k - 1 - mean) / sigma) ^ 2 / 2) * (d == 1 and weight or 1) end
        lists[d][i] = row
      end
    end
    for d = 1, 3 do parts[d] = T.tensor(lists[d], { device = device }) end
    local one = parts[1]:reshape(n, t, 1, 1) * parts[2]:reshape(n, 1, h, 1) * parts[3]:reshape(n, 1, 1, w)
    sum = sum and sum + one or one
  end
  local flat = sum:reshape(n, t * h * w)
  local sorted = flat:topk(t * h * w, 2, false)
  local index = {}
  for i = 1, n do index[i] = { math.max(least[i] - 1, 0) } end
  local limit = sorted:gather(2, T.tensor(index, { dtype = "int64", device = device }))
  local all = {}
  for i = 1, n do all[i] = { least[i] == 0 and 1 or 0 } end
  local mask = core.ops.maximum(flat:gt(limit):float(), T.tensor(all, { device = device }))
  mask = mask * T.tensor(wanted, { device = device }):unsqueeze(2)
  return mask:reshape(n, t, h, w):transpose(1, 2):unsqueeze(3)
end

function mix.event_mix(x, y, opts)
  local opt = o.read("event_mix", opts, event_spec)
  return mixed("event_mix", x, y, opt, 5, 48, function(own, other, q, p, draw)
    local size = own.shape
    local t, n, h, w = size[1], size[2], size[4], size[5]
    local mask = blobs(t, n, h, w, opt.beta, opt.p, draw, own.device)
    local function count(v) return v:abs():transpose(1, 2):reshape(n, t * size[3] * h * w):sum(2) end
    local stays, comes, had, has = count(own * (1 - mask)), count(other * mask), count(own), count(other)
    local rest, part = stays / core.ops.maximum(had, 1e-12), comes / core.ops.maximum(has, 1e-12)
    local whole = rest + part
    local lambda = core.ops.where(whole:gt(0), rest / core.ops.maximum(whole, 1e-12), 1):unsqueeze(2)
    return core.ops.where(mask, other, own), q * lambda + p * (1 - lambda)
  end)
end

local common = [[


    Every sample of a batch is mixed with that of a random order of the same batch. y: int64 labels [N] (with classes = their number) or
    shares [N, classes], which is also what comes back, for the losses of ms.loss. key: a name (it follows ms.manual_seed) or an
    integer: all draws depend on it alone; without one they come from the default stream.]]

doc.set(mix.mixup, [[
    data.mixup(x, y, { alpha = 1, classes = nil, key = nil }) -> x, y [N, classes]

    lambda x + (1 - lambda) x' with one lambda from Beta(alpha, alpha) for the batch. x: [N, C, H, W] or [T, N, C, H, W].
    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization".]] .. common)
doc.set(mix.cutmix, [[
    data.cutmix(x, y, { alpha = 1, classes = nil, key = nil }) -> x, y [N, classes]

    A box of x' replaces that of x: its sides are sqrt(1 - lambda) of the image's, its centre is anywhere; it is cut off at the border and
    the shares follow what is left of it. One box for the batch, the same in all frames. Yun et al. 2019, "CutMix".]] .. common)
doc.set(mix.event_mix, [[
    data.event_mix(x, y, { beta = 1, p = 0.5, classes = nil, key = nil }) -> x, y [N, classes]

    With probability p for each sample: a share lambda, from Beta(beta, beta), of the cells (t, y, x) of frames
    [T, N, C, H, W] comes from x', those where a sum of 2 to 4 Gaussians is greatest. Shares: by the part of its events that
    each of the two still shows. Shen et al. 2023, "EventMix: An efficient data augmentation strategy for event-based
    learning".]] .. common)

return mix
