-- Plain Lua arrays in double precision, row-major, against which the library is checked; and gradients by finite differences.
local lu = require "luaunit"
local core = require "moonspike.core"

local reference = {}

local wide = core.device.float_width() == 8
reference.tolerance = wide and 1e-12 or 2e-6

-- Numbers that float32 holds exactly, the same on each run.
local state = 1
function reference.random(lo, hi)
  state = (state * 6364136223846793005 + 1442695040888963407)
  local u = (state >> 40) / 0x1000000
  return string.unpack("f", string.pack("f", lo + (hi - lo) * u))
end

-- { shape = {2, 3}, [1] = .., ... }
function reference.array(shape, f)
  local a, n = { shape = shape }, 1
  for _, size in ipairs(shape) do n = n * size end
  for i = 1, n do a[i] = f(i) end
  return a
end

function reference.filled(shape, lo, hi)
  return reference.array(shape, function() return reference.random(lo, hi) end)
end

local function nest(a, dim, at)
  if dim > #a.shape then return a[at], at + 1 end
  local out = {}
  for i = 1, a.shape[dim] do out[i], at = nest(a, dim + 1, at) end
  return out, at
end

function reference.tensor(a, opts)
  if #a == 0 then return core.tensor.zeros(a.shape, opts) end
  return core.tensor.tensor((nest(a, 1, 1)), opts)
end

local function flatten(value, out)
  if type(value) ~= "table" then
    out[#out + 1] = value
    return out
  end
  for _, v in ipairs(value) do flatten(v, out) end
  return out
end

function reference.of(t)
  local a = flatten(t:totable(), {})
  a.shape = t.shape
  return a
end

-- 1-based index tuples of a shape in row-major order, with their running number.
function reference.indices(shape)
  local index, number, n = {}, 0, 1
  for d, size in ipairs(shape) do index[d], n = 1, n * size end
  return function()
    number = number + 1
    if number > n then return nil end
    if number > 1 then
      local d = #shape
      while index[d] == shape[d] do index[d] = 1; d = d - 1 end
      index[d] = index[d] + 1
    end
    return number, index
  end
end

-- The element at an index tuple; dimensions of size 1 repeat, missing leading ones too.
function reference.get(a, index)
  local at, skip = 0, #index - #a.shape
  for d, size in ipairs(a.shape) do at = at * size + (size == 1 and 0 or index[d + skip] - 1) end
  return a[at + 1]
end

function reference.broadcast(a, b)
  local shape, n = {}, math.max(#a.shape, #b.shape)
  for d = 1, n do
    local x, y = a.shape[d - n + #a.shape] or 1, b.shape[d - n + #b.shape] or 1
    shape[d] = x == 1 and y or x
  end
  return shape
end

function reference.map(shape, f)
  local out = { shape = shape }
  for number, index in reference.indices(shape) do out[number] = f(index, number) end
  return out
end

function reference.check(got, want, what, tolerance)
  lu.assertEquals(got.shape, want.shape, what)
  local have = flatten(got:totable(), {})
  tolerance = tolerance or reference.tolerance
  for i, w in ipairs(want) do
    local g = have[i]
    local same = g == w or (g ~= g and w ~= w) or math.abs(g - w) <= tolerance * math.max(1, math.abs(w))
    if not same then lu.fail(("%s: element %d: expected %.17g, got %.17g"):format(what, i, w, g)) end
  end
end

-- Gradients of sum(f(inputs...) * fixed weights) by backward and by central differences, over every element.
-- In float32 the step and the tolerance are wide; the double-precision build checks to 1e-6.
function reference.gradcheck(what, f, arrays, opts)
  opts = opts or {}
  local step, tolerance = wide and 1e-6 or (opts.step or 1e-2), wide and 1e-6 or (opts.tolerance or 1e-2)
  local weights
  local function value(list)
    local out = f(table.unpack(list))
    weights = weights or reference.tensor(reference.filled(out.shape, 0.5, 1.5))
    return (out * weights):sum()
  end
  local inputs = {}
  for i, a in ipairs(arrays) do inputs[i] = reference.tensor(a, { requires_grad = true }) end
  value(inputs):backward()
  local was <close> = setmetatable({}, { __close = function() core.autograd.set_grad_enabled(true) end })
  core.autograd.set_grad_enabled(false)
  for i, a in ipairs(arrays) do
    local grad = inputs[i].grad and reference.of(inputs[i].grad) or reference.array(a.shape, function() return 0 end)
    lu.assertEquals(grad.shape, a.shape, what)
    for j = 1, #a do
      local plain, old = {}, a[j]
      local function at(x)
        a[j] = x
        for k, b in ipairs(arrays) do plain[k] = reference.tensor(b) end
        return value(plain):item()
      end
      local numeric = (at(old + step) - at(old - step)) / (2 * step)
      a[j] = old
      if math.abs(grad[j] - numeric) > tolerance * math.max(1, math.abs(numeric)) then
        lu.fail(("%s: input %d, element %d: backward %.9g, differences %.9g"):format(what, i, j, grad[j], numeric))
      end
    end
  end
end

return reference
