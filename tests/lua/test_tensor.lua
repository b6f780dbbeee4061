-- Values of every function of core.tensor and core.ops against plain Lua loops in double precision.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local ref = require "reference"
local core = require "moonspike.core"
local T, O = core.tensor, core.ops

local root = arg[0]:match "^(.*/)" .. "../../"
local huge, nan = math.huge, 0 / 0

local function sign(x) return x > 0 and 1 or x < 0 and -1 or 0 end
local function even(x) -- rounds half to even
  local r = math.floor(x + 0.5)
  return x + 0.5 == r and r % 2 == 1 and r - 1 or r
end
local function erf(x) -- the Maclaurin series
  local sum, term = x, x
  for n = 1, 80 do term = -term * x * x / n; sum = sum + term / (2 * n + 1) end
  return 2 / math.sqrt(math.pi) * sum
end
local function tanh(x) local e = math.exp(2 * x); return (e - 1) / (e + 1) end

local unary = {
  neg = function(x) return -x end, abs = math.abs, sign = sign, square = function(x) return x * x end, sqrt = math.sqrt,
  rsqrt = function(x) return 1 / math.sqrt(x) end, reciprocal = function(x) return 1 / x end, exp = math.exp,
  expm1 = function(x) return math.exp(x) - 1 end, log = math.log, log1p = function(x) return math.log(1 + x) end,
  sin = math.sin, cos = math.cos, tanh = tanh, atan = math.atan, sigmoid = function(x) return 1 / (1 + math.exp(-x)) end,
  softplus = function(x) return math.log(1 + math.exp(x)) end, relu = function(x) return math.max(x, 0) end, erf = erf,
  floor = math.floor, ceil = math.ceil, round = even,
}
local function number(b) return b and 1 or 0 end
local binary = {
  add = function(x, y) return x + y end, sub = function(x, y) return x - y end, mul = function(x, y) return x * y end,
  div = function(x, y) return x / y end, pow = function(x, y) return x ^ y end, maximum = math.max, minimum = math.min,
  eq = function(x, y) return number(x == y) end, ne = function(x, y) return number(x ~= y) end,
  lt = function(x, y) return number(x < y) end, le = function(x, y) return number(x <= y) end,
  gt = function(x, y) return number(x > y) end, ge = function(x, y) return number(x >= y) end,
}

-- Shapes in every layout: none, a row, a matrix, channels-last, a transposed view, empty.
local shapes = { {}, { 1 }, { 5 }, { 3, 4 }, { 2, 3, 2, 4 }, { 2, 2, 3, 2, 2 }, { 0, 3 }, { 17, 33 } }

TestUnary = {}

function TestUnary:test_every_line_of_the_list()
  local seen = 0
  for line in io.lines(root .. "kernels/unary.def") do
    local name, lo, hi = line:match "^MS_UNARY%((%w+), ([%d.-]+), ([%d.-]+)%)"
    if name then
      seen = seen + 1
      local f = assert(unary[name], "no reference for " .. name)
      for _, shape in ipairs(shapes) do
        local a = ref.filled(shape, tonumber(lo), tonumber(hi))
        local want = ref.map(shape, function(_, i) return f(a[i]) end)
        local x = ref.tensor(a)
        ref.check(x[name](x), want, name)
        ref.check(O[name](x), want, name)
        lu.assertTrue(rawequal(x[name .. "_"](x), x))
        ref.check(x, want, name .. "_")
      end
      local a = ref.filled({ 3, 4 }, tonumber(lo), tonumber(hi))
      ref.check(ref.tensor(a):t()[name](ref.tensor(a):t()),
        ref.map({ 4, 3 }, function(i) return f(ref.get(a, { i[2], i[1] })) end), name .. " of a view")
    end
  end
  lu.assertTrue(seen >= 22)
end

function TestUnary:test_round_takes_ties_to_even()
  ref.check(T.tensor { 0.5, 1.5, 2.5, -0.5, -1.5 }:round(), { 0, 2, 2, 0, -2, shape = { 5 } }, "round")
end

function TestUnary:test_special_values()
  ref.check(T.tensor { huge, -huge, nan }:relu(), { huge, 0, nan, shape = { 3 } }, "relu")
  ref.check(T.tensor { huge, -huge, nan }:sigmoid(), { 1, 0, nan, shape = { 3 } }, "sigmoid")
  ref.check(T.tensor { 0, -1 }:log(), { -huge, nan, shape = { 2 } }, "log")
end

TestBinary = {}

local pairs_of_shapes = { { {}, {} }, { { 3 }, { 3 } }, { { 2, 3 }, { 3 } }, { { 2, 1 }, { 1, 3 } }, { { 2, 3 }, {} },
  { { 2, 3, 4, 2 }, { 3, 1, 1 } }, { { 4, 2, 3, 2, 2 }, { 1, 2, 3, 2, 2 } }, { { 0, 3 }, { 3 } } }

function TestBinary:test_every_line_of_the_list()
  local seen = 0
  for line in io.lines(root .. "kernels/binary.def") do
    local kind, name = line:match "^MS_(%u+)%((%w+)%)$"
    if kind == "BINARY" or kind == "COMPARE" then
      seen = seen + 1
      local f = assert(binary[name], "no reference for " .. name)
      for _, s in ipairs(pairs_of_shapes) do
        local a, b = ref.filled(s[1], 0.5, 3), ref.filled(s[2], 0.5, 3)
        if kind == "COMPARE" and #a > 0 then a[1] = b[1] end -- a tie
        local want = ref.map(ref.broadcast(a, b), function(i) return f(ref.get(a, i), ref.get(b, i)) end)
        local x, y = ref.tensor(a), ref.tensor(b)
        ref.check(O[name](x, y), want, name, 4e-6)
        lu.assertEquals(x[name](x, y).dtype, kind == "COMPARE" and "uint8" or "float32")
        if kind == "BINARY" and #want.shape == #s[1] and #want == #a then
          lu.assertTrue(rawequal(x[name .. "_"](x, y), x))
          ref.check(x, want, name .. "_", 4e-6)
        end
      end
      local a = ref.filled({ 2, 3 }, 0.5, 3)
      ref.check(O[name](ref.tensor(a), 1.5), ref.map({ 2, 3 }, function(_, i) return f(a[i], 1.5) end), name .. " number", 4e-6)
      ref.check(O[name](1.5, ref.tensor(a)), ref.map({ 2, 3 }, function(_, i) return f(1.5, a[i]) end), "number " .. name, 4e-6)
      if kind == "BINARY" then
        local x = ref.tensor(a)
        ref.check(x[name .. "_"](x, 1.5), ref.map({ 2, 3 }, function(_, i) return f(a[i], 1.5) end), name .. "_ number", 4e-6)
      end
    end
  end
  lu.assertEquals(seen, 13)
end

function TestBinary:test_operators()
  local x, y = T.tensor { 1, 2, 3 }, T.tensor { 4, 5, 6 }
  ref.check(x + y, { 5, 7, 9, shape = { 3 } }, "+")
  ref.check(x - 1, { 0, 1, 2, shape = { 3 } }, "-")
  ref.check(2 * y, { 8, 10, 12, shape = { 3 } }, "*")
  ref.check(1 / x, { 1, 0.5, 1 / 3, shape = { 3 } }, "/")
  ref.check(x ^ 2, { 1, 4, 9, shape = { 3 } }, "^")
  ref.check(2 ^ x, { 2, 4, 8, shape = { 3 } }, "^")
  ref.check(-x, { -1, -2, -3, shape = { 3 } }, "unary -")
  lu.assertEquals(#T.zeros(4, 2), 4)
  lu.assertTrue(x == x)
  lu.assertFalse(x == T.tensor { 1, 2, 3 })
end

function TestBinary:test_scaled_add()
  local x, y = T.tensor { 1, 2 }, T.tensor { 10, 20 }
  ref.check(x:add(y, 0.5), { 6, 12, shape = { 2 } }, "add alpha")
  ref.check(x:add_(y, -1), { -9, -18, shape = { 2 } }, "add_ alpha")
end

function TestBinary:test_types()
  local long, byte, float = T.tensor({ 3, 4 }, { dtype = "int64" }), T.tensor({ 3, 4 }, { dtype = "uint8" }), T.tensor { 0.5, 2 }
  lu.assertEquals((long + byte).dtype, "int64")
  lu.assertEquals((long * float).dtype, "float32")
  lu.assertEquals((long + 9007199254740993 - 9007199254740993 + 1).dtype, "int64")
  ref.check(long * float, { 1.5, 8, shape = { 2 } }, "int64 * float32")
  lu.assertEquals(T.tensor({ 1, 2 }, { dtype = "spike" }):add(0.5).dtype, "float32")
end

function TestBinary:test_where_and_clamp()
  local a, b = ref.filled({ 2, 3 }, -1, 1), ref.filled({ 3 }, -1, 1)
  local x, y = ref.tensor(a), ref.tensor(b)
  ref.check(O.where(x:gt(0), x, y), ref.map({ 2, 3 }, function(i, n) return a[n] > 0 and a[n] or ref.get(b, i) end), "where")
  ref.check(O.where(x:gt(0), 1, x), ref.map({ 2, 3 }, function(_, n) return a[n] > 0 and 1 or a[n] end), "where number")
  ref.check(x:clamp(-0.25, 0.5), ref.map({ 2, 3 }, function(_, n) return math.min(math.max(a[n], -0.25), 0.5) end), "clamp")
  ref.check(x:clamp(nil, 0), ref.map({ 2, 3 }, function(_, n) return math.min(a[n], 0) end), "clamp hi")
  ref.check(x:clamp(0), ref.map({ 2, 3 }, function(_, n) return math.max(a[n], 0) end), "clamp lo")
end

TestReduce = {}

local reductions = {
  sum = function(v) local s = 0; for _, x in ipairs(v) do s = s + x end; return s end,
  prod = function(v) local p = 1; for _, x in ipairs(v) do p = p * x end; return p end,
  any = function(v) for _, x in ipairs(v) do if x ~= 0 then return 1 end end; return 0 end,
  all = function(v) for _, x in ipairs(v) do if x == 0 then return 0 end end; return 1 end,
  argmax = function(v) local k = 1; for i, x in ipairs(v) do if x > v[k] then k = i end end; return k - 1 end,
  argmin = function(v) local k = 1; for i, x in ipairs(v) do if x < v[k] then k = i end end; return k - 1 end,
}
function reductions.mean(v) return reductions.sum(v) / #v end
function reductions.max(v) return v[reductions.argmax(v) + 1] end
function reductions.min(v) return v[reductions.argmin(v) + 1] end
function reductions.var(v)
  local m, s = reductions.mean(v), 0
  for _, x in ipairs(v) do s = s + (x - m) ^ 2 end
  return s / (#v - 1)
end
function reductions.std(v) return math.sqrt(reductions.var(v)) end
function reductions.norm(v) local s = 0; for _, x in ipairs(v) do s = s + x * x end; return math.sqrt(s) end

local function reduce(a, f, dims, keep)
  local gone, shape, kept = {}, {}, {}
  for _, d in ipairs(dims) do gone[d] = true end
  for d, size in ipairs(a.shape) do
    if not gone[d] then shape[#shape + 1] = size elseif keep then shape[#shape + 1] = 1 end
    kept[d] = gone[d] and 1 or size
  end
  local groups, order = {}, {}
  for number, index in ref.indices(a.shape) do
    local key = {}
    for d = 1, #index do key[d] = gone[d] and 1 or index[d] end
    key = table.concat(key, ",")
    if not groups[key] then groups[key] = {}; order[#order + 1] = key end
    table.insert(groups[key], a[number])
  end
  local out = { shape = shape }
  for i, key in ipairs(order) do out[i] = f(groups[key]) end
  return out
end

function TestReduce:test_every_reduction_over_every_dimension()
  for name, f in pairs(reductions) do
    for _, shape in ipairs { { 5 }, { 3, 4 }, { 2, 3, 2, 4 }, { 3, 2, 2, 3, 2 } } do
      local a = ref.filled(shape, -2, 2)
      if name == "any" or name == "all" then
        for i = 1, #a do a[i] = a[i] > -1 and 0 or a[i] end
        if name == "all" then for i = 1, #a do a[i] = i % 3 == 0 and 0 or 1 end end
      end
      local x, everything = ref.tensor(a), {}
      for d = 1, #shape do everything[d] = d end
      local what = ("%s of %d dimensions"):format(name, #shape)
      ref.check(O[name](x), reduce(a, f, everything), what, 4e-6)
      for d = 1, #shape do
        if name ~= "var" and name ~= "std" or shape[d] > 1 then
          ref.check((x[name](x, d)), reduce(a, f, { d }), what, 4e-6)
          ref.check((x[name](x, d - #shape - 1, true)), reduce(a, f, { d }, true), what .. " kept", 4e-6)
        end
      end
      if #shape > 1 then ref.check((O[name](x, { 1, #shape })), reduce(a, f, { 1, #shape }), what .. " two", 4e-6) end
    end
  end
end

function TestReduce:test_ties_and_types()
  local x = T.tensor { { 1, 3, 3 }, { 2, 2, 1 } }
  local values, indices = x:max(2)
  ref.check(values, { 3, 2, shape = { 2 } }, "max")
  ref.check(indices, { 1, 0, shape = { 2 } }, "indices")
  lu.assertEquals(indices.dtype, "int64")
  values, indices = x:min(1)
  ref.check(values, { 1, 2, 1, shape = { 3 } }, "min")
  ref.check(indices, { 0, 1, 1, shape = { 3 } }, "indices")
  lu.assertEquals(T.tensor({ 1, 2 }, { dtype = "int64" }):sum().dtype, "int64")
  lu.assertEquals(x:any().dtype, "uint8")
  ref.check(x:var(2, false, false), { 8 / 9, 2 / 9, shape = { 2 } }, "biased var")
  ref.check(T.zeros(0):sum(), { 0, shape = {} }, "empty sum")
end

TestProducts = {}

-- out[batch, m, n] by the definition, with torch.matmul's rules for vectors and batches.
local function matmul(a, b)
  local sa, sb = { table.unpack(a.shape) }, { table.unpack(b.shape) }
  local row, column = #sa == 1, #sb == 1
  if row then table.insert(sa, 1, 1) end
  if column then sb[2] = 1 end
  local m, k, n = sa[#sa - 1], sa[#sa], sb[#sb]
  local ba, bb = { shape = { table.unpack(sa, 1, #sa - 2) } }, { shape = { table.unpack(sb, 1, #sb - 2) } }
  local batch, shape = ref.broadcast(ba, bb), nil
  shape = { table.unpack(batch) }
  shape[#shape + 1], shape[#shape + 2] = m, n
  local va, vb = { shape = sa, table.unpack(a) }, { shape = sb, table.unpack(b) }
  local out = ref.map(shape, function(i)
    local sum = 0
    for j = 1, k do
      local ia, ib = { table.unpack(i) }, { table.unpack(i) }
      ia[#ia], ib[#ib - 1] = j, j
      sum = sum + ref.get(va, ia) * ref.get(vb, ib)
    end
    return sum
  end)
  if column then table.remove(out.shape) end
  if row then table.remove(out.shape, column and #out.shape or #out.shape - 1) end
  return out
end

function TestProducts:test_matmul()
  for _, s in ipairs { { { 3 }, { 3 } }, { { 2, 3 }, { 3 } }, { { 3 }, { 3, 4 } }, { { 2, 3 }, { 3, 4 } }, { { 5, 2, 3 }, { 3, 4 } },
    { { 5, 2, 3 }, { 5, 3, 4 } }, { { 2, 1, 2, 3 }, { 4, 3, 2 } }, { { 7, 33 }, { 33, 19 } } } do
    local a, b = ref.filled(s[1], -1, 1), ref.filled(s[2], -1, 1)
    ref.check(O.matmul(ref.tensor(a), ref.tensor(b)), matmul(a, b), "matmul", 1e-5)
  end
  local a = ref.filled({ 3, 2 }, -1, 1)
  local want = matmul({ shape = { 2, 3 }, a[1], a[3], a[5], a[2], a[4], a[6] }, a)
  ref.check(ref.tensor(a):t():matmul(ref.tensor(a)), want, "matmul of a transpose", 1e-5)
end

function TestProducts:test_softmax()
  for _, case in ipairs { { { 4 }, 1 }, { { 3, 5 }, 2 }, { { 3, 5 }, 1 }, { { 2, 3, 2, 4 }, 2 } } do
    local a, dim = ref.filled(case[1], -3, 3), case[2]
    local sums = reduce(a, function(v) local s = 0; for _, x in ipairs(v) do s = s + math.exp(x) end; return s end, { dim }, true)
    local want = ref.map(a.shape, function(i, n) return math.exp(a[n]) / ref.get(sums, i) end)
    ref.check(ref.tensor(a):softmax(dim), want, "softmax")
    ref.check(ref.tensor(a):log_softmax(dim), ref.map(a.shape, function(_, n) return math.log(want[n]) end), "log_softmax", 4e-6)
  end
  ref.check(T.tensor { 1000, 0 }:softmax(), { 1, 0, shape = { 2 } }, "no overflow")
end

TestViews = {}

local function transposed(a, order)
  local shape, back = {}, {}
  for d, from in ipairs(order) do shape[d] = a.shape[from]; back[from] = d end
  return ref.map(shape, function(i)
    local index = {}
    for d = 1, #i do index[d] = i[back[d]] end
    return ref.get(a, index)
  end)
end

function TestViews:test_logical_order_is_never_disturbed()
  local a = ref.filled({ 2, 3, 2, 4 }, -1, 1)
  local x = ref.tensor(a)
  ref.check(x:reshape(6, 8), { shape = { 6, 8 }, table.unpack(a) }, "reshape")
  ref.check(x:reshape(-1, 4), { shape = { 12, 4 }, table.unpack(a) }, "reshape -1")
  ref.check(x:flatten(2), { shape = { 2, 24 }, table.unpack(a) }, "flatten")
  ref.check(x:flatten(2, 3), { shape = { 2, 6, 4 }, table.unpack(a) }, "flatten 2, 3")
  ref.check(x:flatten(), { shape = { 48 }, table.unpack(a) }, "flatten all")
  ref.check(x:clone(), a, "clone")
  ref.check(x:contiguous(), a, "contiguous")
  ref.check(x:permute(3, 1, 4, 2), transposed(a, { 3, 1, 4, 2 }), "permute")
  ref.check(x:permute({ -1, 1, 2, 3 }), transposed(a, { 4, 1, 2, 3 }), "permute table")
  ref.check(x:transpose(2, -1):contiguous(), transposed(a, { 1, 4, 3, 2 }), "transpose")
  ref.check(x:permute(2, 1, 3, 4):reshape(48), { shape = { 48 }, table.unpack(transposed(a, { 2, 1, 3, 4 })) }, "copying reshape")
  ref.check(T.from_string(x:bytes(), "float32", { 2, 3, 2, 4 }), a, "bytes")
end

function TestViews:test_views_share_memory()
  local x = T.zeros(2, 3)
  x:view(6)[2] = 5
  x:t()[{ 1, 2 }] = 7
  x:select(1, 2):narrow(1, 2, 2):fill_(1)
  ref.check(x, { 0, 5, 0, 7, 1, 1, shape = { 2, 3 } }, "shared")
  ref.check(x:detach():add_(1), { 1, 6, 1, 8, 2, 2, shape = { 2, 3 } }, "detach")
  lu.assertEquals(x[1][1]:item(), 1)
  lu.assertEquals(x:clone():zero_():sum():item(), 0)
  lu.assertEquals(x:sum():item(), 20)
end

function TestViews:test_shapes()
  local x = T.zeros(2, 1, 3, 1)
  lu.assertEquals(x:squeeze().shape, { 2, 3 })
  lu.assertEquals(x:squeeze(2).shape, { 2, 3, 1 })
  lu.assertEquals(x:squeeze(1).shape, { 2, 1, 3, 1 })
  lu.assertEquals(x:unsqueeze(1).shape, { 1, 2, 1, 3, 1 })
  lu.assertEquals(x:unsqueeze(-1).shape, { 2, 1, 3, 1, 1 })
  lu.assertEquals(x:expand(4, 2, 5, 3, -1).shape, { 4, 2, 5, 3, 1 })
  lu.assertEquals(x:size(-2), 3)
  lu.assertEquals(x:size(), { 2, 1, 3, 1 })
  lu.assertEquals({ x:dim(), x:numel() }, { 4, 6 })
  lu.assertEquals(T.zeros(2, 3):stride(), { 3, 1 })
  lu.assertEquals(T.zeros(2, 3, 4, 5):stride(2), 1)
  lu.assertTrue(x:is_contiguous())
  lu.assertFalse(T.zeros(2, 3):t():is_contiguous())
  lu.assertEquals(T.arange(0, 6):view(3, -1).shape, { 3, 2 })
end

function TestViews:test_joining()
  local a, b = T.tensor { { 1, 2 }, { 3, 4 } }, T.tensor { { 5, 6 } }
  ref.check(O.cat({ a, b }), { 1, 2, 3, 4, 5, 6, shape = { 3, 2 } }, "cat")
  ref.check(O.cat({ a, a }, -1), { 1, 2, 1, 2, 3, 4, 3, 4, shape = { 2, 4 } }, "cat -1")
  ref.check(O.stack({ a[1], a[2] }, 2), { 1, 3, 2, 4, shape = { 2, 2 } }, "stack")
  local x, y = ref.filled({ 2, 2, 2, 3 }, -1, 1), ref.filled({ 2, 1, 2, 3 }, -1, 1)
  local joined = O.cat({ ref.tensor(x), ref.tensor(y) }, 2)
  ref.check(joined:narrow(2, 1, 2), x, "cat of channels")
  ref.check(joined:narrow(2, 3, 1), y, "cat of channels")
end

function TestViews:test_gathering()
  local x = T.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
  local index = T.tensor({ { 2, 0 }, { 1, 1 } }, { dtype = "int64" })
  ref.check(x:gather(2, index), { 3, 1, 5, 5, shape = { 2, 2 } }, "gather")
  ref.check(x:index_select(2, T.tensor({ 2, 2, 0 }, { dtype = "int64" })), { 3, 3, 1, 6, 6, 4, shape = { 2, 3 } }, "index_select")
  local values, indices = T.tensor({ { 1, 9, 3, 9 }, { 4, 0, 2, 1 } }):topk(2)
  ref.check(values, { 9, 9, 4, 2, shape = { 2, 2 } }, "topk")
  ref.check(indices, { 1, 3, 0, 2, shape = { 2, 2 } }, "topk indices")
  values, indices = x:topk(1, 1, false)
  ref.check(values, { 1, 2, 3, shape = { 1, 3 } }, "smallest")
  ref.check(indices, { 0, 0, 0, shape = { 1, 3 } }, "smallest indices")
end

TestIndex = {}

function TestIndex:test_reading()
  local a = ref.filled({ 3, 4, 2 }, -1, 1)
  local x = ref.tensor(a)
  local function at(i, j, k) return ref.get(a, { i, j, k }) end
  ref.check(x[2], ref.map({ 4, 2 }, function(i) return at(2, i[1], i[2]) end), "x[2]")
  ref.check(x[-1], ref.map({ 4, 2 }, function(i) return at(3, i[1], i[2]) end), "x[-1]")
  lu.assertEquals(x[{ 2, 3, 1 }]:item(), at(2, 3, 1))
  ref.check(x[{ { 2, 3 }, {}, 2 }], ref.map({ 2, 4 }, function(i) return at(i[1] + 1, i[2], 2) end), "ranges")
  ref.check(x[{ {}, { 2, -2 } }], ref.map({ 3, 2, 2 }, function(i) return at(i[1], i[2] + 1, i[3]) end), "range from the end")
  ref.check(x[{ { -1 } }], ref.map({ 1, 4, 2 }, function(i) return at(3, i[2], i[3]) end), "one position, kept")
  lu.assertNil(x.nothing)
end

function TestIndex:test_writing()
  local x = T.zeros(3, 2)
  x[1] = 4
  x[{ 2, 1 }] = T.tensor(5)
  x[{ { 2, 3 }, 2 }] = { 6, 7 }
  x[-1] = { 8, 9 }
  ref.check(x, { 4, 4, 5, 6, 8, 9, shape = { 3, 2 } }, "written")
  x[{}] = 1
  lu.assertEquals(x:sum():item(), 6)
  local image = T.zeros(1, 2, 2, 2)
  image[{ 1, 2 }] = { { 1, 2 }, { 3, 4 } }
  lu.assertEquals(image:totable(), { { { { 0, 0 }, { 0, 0 } }, { { 1, 2 }, { 3, 4 } } } })
end

TestCreate = {}

function TestCreate:test_values()
  lu.assertEquals(T.zeros(2, 2):totable(), { { 0, 0 }, { 0, 0 } })
  lu.assertEquals(T.ones({ 2 }, { dtype = "int64" }):totable(), { 1, 1 })
  lu.assertEquals(T.full({ 2 }, 2.5):totable(), { 2.5, 2.5 })
  lu.assertEquals(T.empty(3, 0).shape, { 3, 0 })
  lu.assertEquals(T.arange(0, 5, 2):totable(), { 0, 2, 4 })
  lu.assertEquals(T.arange(3, 0, -1, { dtype = "int64" }):totable(), { 3, 2, 1 })
  lu.assertEquals(T.arange(2, 1).shape, { 0 })
  lu.assertEquals(T.tensor(3).shape, {})
  lu.assertEquals(T.zeros().shape, {})
  lu.assertEquals(T.tensor({}).shape, { 0 })
  lu.assertEquals(T.tensor({ { 1, 2 } }, { dtype = "uint8" }):totable(), { { 1, 2 } })
  lu.assertEquals(T.tensor({ 9007199254740993 }, { dtype = "int64" }):item(), 9007199254740993)
  lu.assertEquals(T.full_like(T.zeros(2), 3):totable(), { 3, 3 })
  lu.assertEquals(T.ones_like(T.zeros({ 2 }, { dtype = "int64" })).dtype, "int64")
  lu.assertEquals(T.zeros_like(T.ones(2)):totable(), { 0, 0 })
  lu.assertEquals({ T.is_tensor(T.zeros(1)), T.is_tensor(1) }, { true, false })
  lu.assertEquals(T.from_string("\1\2", "uint8", { 2 }):bytes(), "\1\2")
end

function TestCreate:test_conversion()
  local x = T.tensor { 0, 1, 2.75, 255 }
  lu.assertEquals(x:byte():totable(), { 0, 1, 2, 255 })
  lu.assertEquals(x:long():totable(), { 0, 1, 2, 255 })
  lu.assertEquals(x:to("int64"):float().dtype, "float32")
  lu.assertEquals(T.tensor({ 1.00390625 }):bfloat16():item(), 1) -- half way, to even
  lu.assertEquals(x:to("cpu", "uint8").dtype, "uint8")
  local s = T.tensor({ 0, 3, 1 }, { dtype = "spike" })
  lu.assertEquals({ s.dtype, s:sum():item() }, { "spike", 4 })
  lu.assertEquals(s:totable(), { 0, 3, 1 })
  lu.assertEquals(#s:bytes(), 3 * core.device.float_width())
end

function TestCreate:test_random()
  core.random.manual_seed(7)
  local n = 20000
  local u, z = T.rand(n), T.randn(n)
  lu.assertTrue(u:min():item() >= 0 and u:max():item() < 1)
  lu.assertAlmostEquals(u:mean():item(), 0.5, 0.01)
  lu.assertAlmostEquals(z:mean():item(), 0, 0.03)
  lu.assertAlmostEquals(z:std():item(), 1, 0.03)
  lu.assertAlmostEquals(T.bernoulli({ n }, 0.3):mean():item(), 0.3, 0.015)
  local k = T.randint(-2, 3, { n })
  lu.assertEquals({ k.dtype, k:min():item(), k:max():item() }, { "int64", -2, 2 })
  lu.assertAlmostEquals(T.zeros(n):uniform_(2, 4):mean():item(), 3, 0.02)
  lu.assertAlmostEquals(T.zeros(n):normal_(5, 0.1):mean():item(), 5, 0.01)
  lu.assertAlmostEquals(T.zeros(n):bernoulli_(0.9):mean():item(), 0.9, 0.01)
  lu.assertNotEquals(u:bytes(), T.rand(n):bytes())
  lu.assertEquals(T.rand_like(T.zeros(3)).shape, { 3 })
  lu.assertEquals(T.randn_like(T.zeros(3)).shape, { 3 })
end

function TestCreate:test_seed_and_keys()
  core.random.manual_seed(7)
  local first = T.randn(5):totable()
  local seed, draws = core.random.state()
  lu.assertEquals({ seed, draws, core.random.seed() }, { 7, 1, 7 })
  local second = T.randn(5):totable()
  core.random.set_state(seed, draws)
  lu.assertEquals(T.randn(5):totable(), second)
  core.random.manual_seed(7)
  lu.assertEquals(T.randn(5):totable(), first)
  local a = T.zeros(4):normal_(0, 1, "0.weight"):totable()
  lu.assertEquals(T.zeros(4):normal_(0, 1, core.random.key("init", "0.weight")):totable(), a)
  lu.assertEquals(T.randn(4, { key = "0.weight" }):totable(), a)
  lu.assertNotEquals(T.randn(4, { key = "1.weight" }):totable(), a)
  lu.assertEquals(select(2, core.random.state()), 1) -- keyed draws leave the stream alone
end

function TestCreate:test_random_filling_follows_the_logical_order()
  local a = T.randn(2, 3, 4, 5, { key = "w" })
  lu.assertEquals(a:reshape(120):totable(), T.randn(120, { key = "w" }):totable())
end

TestPrint = {}

local function printed(t, text)
  lu.assertEquals(tostring(t), text)
end

function TestPrint:test_formats()
  printed(T.tensor(2.5), "2.5000\nfloat32 []")
  printed(T.tensor { 1, -2, 30 }, "[ 1, -2, 30]\nfloat32 [3]")
  printed(T.tensor { { 1.5, -2 }, { 0, 10 } }, "[[ 1.5000, -2.0000],\n [ 0.0000, 10.0000]]\nfloat32 [2, 2]")
  printed(T.tensor { 1e-6, 1.5 }, "[1.0000e-06, 1.5000e+00]\nfloat32 [2]")
  printed(T.tensor { nan, huge, -huge, 1 }, "[ nan,  inf, -inf,    1]\nfloat32 [4]")
  printed(T.tensor({ 1, 2 }, { dtype = "spike" }), "[1, 2]\nspike [2]")
  printed(T.tensor({ 1, 2 }, { dtype = "int64" }), "[1, 2]\nint64 [2]")
  printed(T.tensor({ 1.5 }, { requires_grad = true }), "[1.5000]\nfloat32 [1], requires_grad")
  printed(T.zeros(2, 0), "[]\nfloat32 [2, 0]")
  printed(T.tensor { { { 1 }, { 2 } }, { { 3 }, { 4 } } }, "[[[1],\n  [2]],\n\n [[3],\n  [4]]]\nfloat32 [2, 2, 1]")
end

function TestPrint:test_large()
  printed(T.arange(0, 2000), "[   0,    1,    2, ..., 1997, 1998, 1999]\nfloat32 [2000]")
  printed(T.arange(0, 4000, 1, { dtype = "int64" }):view(1000, 4),
    "[[   0,    1,    2,    3],\n [   4,    5,    6,    7],\n [   8,    9,   10,   11],\n ...,\n [3988, 3989, 3990, 3991],\n" ..
    " [3992, 3993, 3994, 3995],\n [3996, 3997, 3998, 3999]]\nint64 [1000, 4]")
  for line in tostring(T.arange(0, 1000)):gmatch "[^\n]+" do lu.assertTrue(#line <= 80, line) end
  lu.assertStrContains(tostring(T.zeros(3, 40, 50, 60)), "...")
  lu.assertStrContains(tostring(T.zeros({ 40, 50 }, { dtype = "spike" })), "...")
end

function TestPrint:test_views_and_closed()
  printed(T.tensor { { 1, 2 }, { 3, 4 } }:t(), "[[1, 3],\n [2, 4]]\nfloat32 [2, 2]")
  local x = T.zeros(2)
  x:close()
  x:close()
  lu.assertEquals(tostring(x), "tensor (closed)")
end

os.exit(lu.LuaUnit.run())
