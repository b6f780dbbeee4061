-- Tensor functions composed from those of core; with a tensor first they are methods too. What selects, joins or repeats carries
-- gradients; masks, indices and truth values do not.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"

local T, ops = core.tensor, core.ops
local makers, methods = {}, {}
local EXACT = 1 << 24 -- integers up to here are exact in float32, in which topk compares

local size_rule, part_rule, number_rule = o.integer(nil, { from = 0 }), o.integer(nil, { from = 1 }), o.number()

local creation = { dtype = o.string(nil), device = o.string(nil), requires_grad = o.boolean(false) }
local tensor_rule = o.where(nil, "a tensor", o.is_tensor)
local function check(where, name, x) return o.check(where, name, x, tensor_rule) end

-- A dimension counted from 1, or from the end, as a number from 1 to n.
local function dimension(where, x, dim, default)
  local n = #x.shape
  if dim == nil then dim = default end
  local d = math.type(dim) and math.tointeger(dim)
  if n == 0 then o.fail("%s: x: expected at least one dimension, got %s", where, o.shape(x)) end
  if not d or d == 0 or d > n or d < -n then
    o.fail("%s: dim: expected 1 to %d or -%d to -1, got %s", where, n, n, o.show(dim))
  end
  return d > 0 and d or n + 1 + d
end

local function is_float(x) return x.dtype ~= "int64" and x.dtype ~= "uint8" end

function makers.linspace(first, last, n, opts)
  o.check("linspace", "first", first, number_rule)
  o.check("linspace", "last", last, number_rule)
  n = o.check("linspace", "n", n, size_rule)
  opts = o.read("linspace", opts, creation)
  if n < 2 or first == last then return T.full({ n }, first, opts) end
  local was <close> = autograd.guard(false)
  local step = (last - first) / (n - 1)
  local x = T.arange(first, last + step / 2, step, opts)
  x[n] = last -- whatever the steps round to
  return x
end

function makers.eye(n, m, opts)
  if type(m) == "table" then m, opts = nil, m end
  n = o.check("eye", "n", n, size_rule)
  m = m == nil and n or o.check("eye", "m", m, size_rule)
  local x = T.zeros({ n, m }, o.read("eye", opts, creation))
  local was <close> = autograd.guard(false)
  local index = { dtype = "int64", device = x.device }
  return x:copy_(T.arange(n, index):unsqueeze(2):eq(T.arange(m, index)))
end

function makers.randperm(n, opts)
  n = o.check("randperm", "n", n, size_rule)
  local at = o.read("randperm", opts, { device = o.string(nil) })
  if n == 0 then return T.empty(0, { dtype = "int64", device = at.device }) end
  local _, low = T.rand(n, { device = at.device }):topk(n, 1, false)
  local _, high = T.rand(n, { device = at.device }):topk(n, 1, false)
  return low:index_select(1, high) -- by two keys, the second one where the first are equal: ties alone would favour the given order
end

-- ---- order ----

-- Indices that sort int64 beyond what topk tells apart.
local function order_of_large(x, d, descending)
  local last = x:transpose(d, -1):contiguous()
  local size, n = last.shape, last.shape[#last.shape]
  local rows = last:reshape(-1, n):totable()
  for r, row in ipairs(rows) do
    rows[r] = {}
    for i = 1, n do rows[r][i] = i - 1 end
    table.sort(rows[r], function(a, b)
      local u, v = row[a + 1], row[b + 1]
      if u == v then return a < b end
      return (u < v) ~= (descending == true)
    end)
  end
  return T.tensor(rows, { dtype = "int64", device = x.device }):reshape(size):transpose(d, -1):contiguous()
end

local function sort(where, x, dim, descending)
  check(where, "x", x)
  local d = dimension(where, x, dim, -1)
  if descending ~= nil then o.check(where, "descending", descending, o.boolean()) end
  if x.dtype == "int64" and x:numel() > 0 and (x:max():item() > EXACT or x:min():item() < -EXACT) then
    local index = order_of_large(x, d, descending)
    return x:gather(d, index), index
  end
  return x:topk(x.shape[d], d, descending == true)
end

function methods.sort(x, dim, descending) return sort("sort", x, dim, descending) end

function methods.argsort(x, dim, descending)
  local _, index = sort("argsort", x, dim, descending)
  return index
end

local function views(x, sizes, d)
  local list, start = {}, 1
  for i, size in ipairs(sizes) do
    list[i] = x.shape[d] == 0 and x or x:narrow(d, size == 0 and 1 or start, size)
    start = start + size
  end
  return list
end

local function parts(n, size)
  local sizes = {}
  for start = 0, math.max(n, 1) - 1, size do sizes[#sizes + 1] = math.min(size, n - start) end
  return sizes
end

function methods.chunk(x, n, dim)
  check("chunk", "x", x)
  n = o.check("chunk", "n", n, part_rule)
  local d = dimension("chunk", x, dim, 1)
  return views(x, parts(x.shape[d], math.max(1, (x.shape[d] + n - 1) // n)), d)
end

function methods.split(x, size, dim)
  check("split", "x", x)
  local d = dimension("split", x, dim, 1)
  local n = x.shape[d]
  if type(size) ~= "table" then return views(x, parts(n, o.check("split", "size", size, part_rule)), d) end
  local sum = 0
  for i, part in ipairs(size) do sum = sum + o.check("split", ("size[%d]"):format(i), part, size_rule) end
  if sum ~= n then o.fail("split: size: expected sizes that sum up to %d (dimension %d of %s), got %s", n, d, o.shape(x), o.shape(size)) end
  return views(x, size, d)
end

-- x repeated n times along d, as a whole or element by element.
local function again(x, n, d, each)
  local size, wide = x.shape, {}
  local at = each and d + 1 or d
  for i = 1, #size + 1 do wide[i] = i == at and n or -1 end
  size[d] = size[d] * n
  if n == 0 or x:numel() == 0 then return T.zeros(size, { dtype = x.dtype, device = x.device }) end
  return x:unsqueeze(at):expand(wide):reshape(size)
end

function methods.tile(x, ...)
  check("tile", "x", x)
  local times = type(...) == "table" and ... or { ... }
  while #x.shape < #times do x = x:unsqueeze(1) end
  for i, n in ipairs(times) do
    n = o.check("tile", ("n%d"):format(i), n, size_rule)
    if n ~= 1 then x = again(x, n, #x.shape - #times + i, false) end
  end
  return x
end

function methods.repeat_interleave(x, n, dim)
  check("repeat_interleave", "x", x)
  n = o.check("repeat_interleave", "n", n, size_rule)
  if dim == nil then x = x:reshape(-1) end
  return again(x, n, dimension("repeat_interleave", x, dim, 1), true)
end

-- ---- masks and comparisons ----

function methods.isnan(x) return check("isnan", "x", x):ne(x) end

function methods.isfinite(x)
  if not is_float(check("isfinite", "x", x)) then return x:eq(x) end
  local was <close> = autograd.guard(false)
  return x:lt(math.huge) * x:gt(-math.huge)
end

function methods.isinf(x)
  if not is_float(check("isinf", "x", x)) then return x:ne(x) end
  local was <close> = autograd.guard(false)
  return x:eq(math.huge):maximum(x:eq(-math.huge))
end

function methods.masked_fill(x, mask, value)
  check("masked_fill", "x", x)
  check("masked_fill", "mask", mask)
  o.check("masked_fill", "value", value, number_rule)
  local y = ops.where(mask, value, x)
  if o.shape(y) ~= o.shape(x) then
    o.fail("masked_fill: mask: expected what broadcasts to %s, got %s", o.shape(x), o.shape(mask))
  end
  return y
end

function methods.equal(a, b)
  check("equal", "a", a)
  check("equal", "b", b)
  return o.shape(a) == o.shape(b) and a:eq(b):all():item() == 1
end

local close_spec = { rtol = o.number(1e-5, { from = 0 }), atol = o.number(1e-8, { from = 0 }) }

function methods.allclose(a, b, opts)
  check("allclose", "a", a)
  local opt = o.read("allclose", opts, close_spec)
  if math.type(b) then b = T.tensor(b, { device = a.device }) end
  check("allclose", "b", b)
  local was <close> = autograd.guard(false)
  local u, v = is_float(a) and a or a:float(), is_float(b) and b or b:float()
  local near = (u - v):abs():le(v:abs() * opt.rtol + opt.atol)
  return a:eq(b):maximum(near * methods.isfinite(v)):all():item() == 1
end

function methods.one_hot(labels, n)
  check("one_hot", "labels", labels)
  n = o.check("one_hot", "n", n, part_rule)
  if is_float(labels) then o.fail("one_hot: labels: expected int64 or uint8, got %s", labels.dtype) end
  local outside = labels:numel() > 0 and (labels:min():item() < 0 and labels:min() or labels:max():item() >= n and labels:max())
  if outside then o.fail("one_hot: labels: expected values from 0 to %d, got %d", n - 1, math.tointeger(outside:item())) end
  return labels:long():unsqueeze(-1):eq(T.arange(n, { dtype = "int64", device = labels.device })):float()
end

for name, text in pairs {
  linspace = "linspace(first, last, n[, opts]) -> tensor [n]\n\nn equal steps from first to last, both included. opts as for zeros.",
  eye = "eye(n[, m][, opts]) -> tensor [n, m]\n\nOnes on the diagonal, zeros elsewhere; m is n by default. opts as for zeros.",
  randperm = "randperm(n[, { device = }]) -> tensor [n] int64\n\n0 to n - 1 in an order that follows ms.manual_seed, every order as likely. " ..
    "x:index_select(1, ms.randperm(#x)) shuffles.",
  sort = "sort(x[, dim[, descending]]) -> values, indices\n\nAlong dim (1-based, the last by default), smallest first; equal ones keep their " ..
    "order, NaN is the largest. indices are 0-based (int64). The values carry gradients.",
  argsort = "argsort(x[, dim[, descending]]) -> indices\n\nThe second result of sort.",
  chunk = "chunk(x, n[, dim]) -> list of tensors\n\nAt most n views along dim (1-based, 1 by default), all of one size but the last.",
  split = "split(x, size[, dim]) -> list of tensors\n\nViews of size positions along dim (1-based, 1 by default), the last one of the rest; a " ..
    "table of sizes, which sum up to the dimension, gives one view for each.",
  tile = "tile(x, n1, n2, ...) -> tensor\n\nx repeated as a whole, n1 times along the first dimension and so on; fewer numbers than " ..
    "dimensions count from the last one, more add dimensions. expand repeats without copying.",
  repeat_interleave = "repeat_interleave(x, n[, dim]) -> tensor\n\nEvery position of dim (1-based) n times in a row; without dim x is flattened.",
  isnan = "isnan(x) -> tensor uint8\n\n1 where the element is not a number.",
  isinf = "isinf(x) -> tensor uint8\n\n1 where the element is infinite, of either sign.",
  isfinite = "isfinite(x) -> tensor uint8\n\n1 where the element is neither infinite nor not a number.",
  masked_fill = "masked_fill(x, mask, value) -> tensor\n\nvalue where mask is not 0, else x; the mask broadcasts to x.",
  equal = "equal(a, b) -> boolean\n\nWhether shapes and all elements are equal. (a == b: whether they are the same tensor; a:eq(b): by element.)",
  allclose = "allclose(a, b[, { rtol = 1e-5, atol = 1e-8 }]) -> boolean\n\nWhether |a - b| <= atol + rtol |b| everywhere; NaN is close to " ..
    "nothing, an infinity to itself only. b may be a number.",
  one_hot = "one_hot(labels, n) -> tensor [..., n]\n\nfloat32, 1 at the place that the label (0-based, int64 or uint8) names, else 0.",
} do
  doc.set(makers[name] or methods[name], text)
end

for name, fn in pairs(methods) do
  T.methods[name] = fn -- x:sort()
  makers[name] = fn
end

return makers
