-- Gradients: of every differentiable function by finite differences, of ops and surrogates written in Lua, and the rules of the tape.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local ref = require "reference"
local core = require "moonspike.core"
local T, O, A = core.tensor, core.ops, core.autograd

local root = arg[0]:match "^(.*/)" .. "../../"

local function raises(text, f, ...)
  local ok, message = pcall(f, ...)
  lu.assertFalse(ok, "no error; expected: " .. text)
  lu.assertStrContains(tostring(message), text)
end

local function leaf(values) return T.tensor(values, { requires_grad = true }) end

TestDifferences = {}

-- Steps of finite differences must not cross a jump or a kink.
local kinks = { abs = 0, sign = 0, relu = 0, floor = "whole", ceil = "whole", round = "half" }

local function away(a, kink)
  for i = 1, #a do
    local x, near = a[i], 0
    if kink == 0 then near = math.abs(x)
    elseif kink == "whole" then near = math.abs(x - math.floor(x + 0.5))
    elseif kink == "half" then near = math.abs(x - 0.5 - math.floor(x)) end
    if near < 0.05 then a[i] = x + 0.125 end
  end
  return a
end

function TestDifferences:test_unary()
  for line in io.lines(root .. "kernels/unary.def") do
    local name, lo, hi = line:match "^MS_UNARY%((%w+), ([%d.-]+), ([%d.-]+)%)"
    if name then
      local a = ref.filled({ 3, 4 }, tonumber(lo) + 0.05, tonumber(hi) - 0.05)
      if kinks[name] then away(a, kinks[name]) end
      local scale = (name == "rsqrt" or name == "sqrt" or name == "log" or name == "reciprocal") and 1e-3 or 4e-3
      ref.gradcheck(name, O[name], { a }, { step = scale, tolerance = 3e-2 })
    end
  end
end

function TestDifferences:test_binary()
  for _, name in ipairs { "add", "sub", "mul", "div", "pow", "maximum", "minimum" } do
    for _, s in ipairs { { { 2, 3 }, { 2, 3 } }, { { 2, 3 }, { 3 } }, { { 2, 1 }, { 1, 3 } }, { { 2, 3, 2, 2 }, { 3, 1, 1 } } } do
      local a, b = ref.filled(s[1], 0.6, 1.4), ref.filled(s[2], 1.5, 2.4)
      ref.gradcheck(name, O[name], { a, b }, { step = 4e-3, tolerance = 3e-2 })
    end
    ref.gradcheck(name .. " number", function(x) return O[name](x, 1.7) end, { ref.filled({ 3 }, 0.6, 1.4) })
    ref.gradcheck("number " .. name, function(x) return O[name](1.7, x) end, { ref.filled({ 3 }, 0.6, 1.4) })
  end
end

local cases = {
  where = { { { 2, 3 }, { 3 } }, function(x, y) return O.where(T.tensor { 1, 0, 1 }, x, y) end },
  clamp = { { { 2, 3 } }, function(x) return x:clamp(-5, 5) * 2 end },
  ["matmul 2x2"] = { { { 2, 3 }, { 3, 4 } }, O.matmul },
  ["matmul batched"] = { { { 2, 2, 3 }, { 3, 2 } }, O.matmul },
  ["matmul vectors"] = { { { 3 }, { 3 } }, O.matmul },
  ["matmul matrix, vector"] = { { { 2, 3 }, { 3 } }, O.matmul },
  softmax = { { { 3, 4 } }, function(x) return x:softmax(2) end },
  log_softmax = { { { 2, 3, 2, 2 } }, function(x) return x:log_softmax(2) end },
  sum = { { { 2, 3, 2 } }, function(x) return x:sum { 1, 3 } end },
  mean = { { { 2, 3, 2 } }, function(x) return x:mean(2, true) end },
  var = { { { 2, 4 } }, function(x) return x:var(2) end },
  std = { { { 2, 4 } }, function(x) return x:std(2) end },
  norm = { { { 2, 4 } }, O.norm },
  prod = { { { 2, 3 } }, function(x) return (x + 2):prod(2) end },
  max = { { { 2, 5 } }, function(x) return (x:max(2)) end },
  min = { { { 2, 5 } }, function(x) return (x:min(1)) end },
  view = { { { 2, 6 } }, function(x) return x:view(3, 4) end },
  reshape = { { { 2, 3, 2, 2 } }, function(x) return x:reshape(4, 6) end },
  flatten = { { { 2, 3, 2, 2 } }, function(x) return x:flatten(2) end },
  select = { { { 2, 3 } }, function(x) return x:select(2, 2) end },
  narrow = { { { 2, 3 } }, function(x) return x:narrow(2, 2, 2) end },
  index = { { { 3, 3 } }, function(x) return x[{ { 2, 3 }, 1 }] end },
  transpose = { { { 2, 3, 2 } }, function(x) return x:transpose(1, 3) end },
  t = { { { 2, 3 } }, O.t },
  permute = { { { 2, 3, 2, 2 } }, function(x) return x:permute(3, 1, 4, 2) end },
  expand = { { { 1, 3 } }, function(x) return x:expand(4, 2, 3) end },
  squeeze = { { { 2, 1, 3 } }, function(x) return x:squeeze() end },
  unsqueeze = { { { 2, 3 } }, function(x) return x:unsqueeze(2) end },
  contiguous = { { { 2, 3 } }, function(x) return x:t():contiguous() end },
  clone = { { { 2, 3 } }, O.clone },
  cat = { { { 2, 3 }, { 1, 3 } }, function(x, y) return O.cat({ x, y }, 1) end },
  stack = { { { 2, 3 }, { 2, 3 } }, function(x, y) return O.stack({ x, y }, 3) end },
  gather = { { { 2, 3 } }, function(x) return x:gather(2, T.tensor({ { 0, 0 }, { 2, 1 } }, { dtype = "int64" })) end },
  index_select = { { { 2, 3 } }, function(x) return x:index_select(2, T.tensor({ 2, 2 }, { dtype = "int64" })) end },
  topk = { { { 2, 5 } }, function(x) return (x:topk(2)) end },
  ["scaled add"] = { { { 2, 3 }, { 3 } }, function(x, y) return x:add(y, -0.5) end },
  float = { { { 2 } }, function(x) return x:float() * 3 end },
}

function TestDifferences:test_the_others()
  for name, case in pairs(cases) do
    local arrays = {}
    for i, shape in ipairs(case[1]) do
      -- distinct values, so that differences do not change which one is largest
      local n = 0
      arrays[i] = ref.array(shape, function() n = n + 1; return ((n * 7 + i * 3) % 23) / 11 - 1 + i / 100 end)
    end
    ref.gradcheck(name, case[2], arrays, { step = 1e-2, tolerance = 2e-2 })
  end
end

TestTape = {}

function TestTape:test_gradients_add_up()
  local w = leaf { 1, 2 }
  lu.assertNil(w.grad);
  (w * 3):sum():backward();
  (w * w):sum():backward()
  lu.assertEquals(w.grad:totable(), { 5, 7 })
  w.grad = nil
  lu.assertNil(w.grad)
  w.grad = T.tensor { 1, 1 };
  (w * 1):sum():backward()
  lu.assertEquals(w.grad:totable(), { 2, 2 })
end

function TestTape:test_a_value_used_twice()
  local w = leaf(3)
  local y = w * w
  local z = y * y + y
  z:backward()
  lu.assertEquals(w.grad:item(), 4 * 27 + 6)
end

function TestTape:test_seed_and_retain_graph()
  local w = leaf { 1, 2 }
  local y = w * w
  y:backward(T.tensor { 1, 10 }, { retain_graph = true })
  lu.assertEquals(w.grad:totable(), { 2, 40 })
  y:backward(T.tensor { 1, 0 })
  lu.assertEquals(w.grad:totable(), { 4, 40 })
  lu.assertErrorMsgContains("retain_graph", y.backward, y, T.tensor { 1, 1 })
end

function TestTape:test_fields()
  local w = leaf { 1, 2 }
  local y = w * 2
  lu.assertEquals({ w.is_leaf, y.is_leaf, w.requires_grad, y.requires_grad }, { true, false, true, true })
  lu.assertFalse(y:detach().requires_grad)
  w.requires_grad = false
  lu.assertFalse((w * 2).requires_grad)
  lu.assertTrue(rawequal(w:requires_grad_(), w))
  lu.assertTrue(w.requires_grad)
  lu.assertFalse(w:requires_grad_(false).requires_grad)
  w.name = "0.weight"
  lu.assertEquals({ w.name, y.name }, { "0.weight", "" })
end

function TestTape:test_recording_off()
  local w = leaf { 1 }
  lu.assertTrue(A.set_grad_enabled(false))
  lu.assertFalse(A.is_grad_enabled())
  lu.assertFalse((w * 2).requires_grad)
  w:add_(1) -- allowed now
  lu.assertFalse(A.set_grad_enabled(true))
  lu.assertEquals(w:item(), 2)
end

function TestTape:test_grad_leaves_fields_alone()
  local a, b, c = leaf { 1, 2 }, leaf { 3, 4 }, leaf { 5 }
  local list = A.grad((a * b):sum(), { a, b, c })
  lu.assertEquals(list[1]:totable(), { 3, 4 })
  lu.assertEquals(list[2]:totable(), { 1, 2 })
  lu.assertNil(list[3])
  lu.assertNil(a.grad)
  list = A.grad(a * b, { b }, { seed = T.tensor { 1, 0 } })
  lu.assertEquals(list[1]:totable(), { 1, 0 })
end

function TestTape:test_a_saved_tensor_that_was_written()
  local w, x = leaf { 1, 2 }, T.tensor { 3, 4 }
  local y = (w * x):sum()
  x:add_(1)
  local ok, message = pcall(y.backward, y)
  lu.assertFalse(ok)
  lu.assertStrContains(message, "mul")
  lu.assertStrContains(message, "add")
end

function TestTape:test_long_chains()
  local w = leaf { 1 }
  local x = w
  for _ = 1, 20000 do x = x + 1 end
  x:sum():backward()
  lu.assertEquals(w.grad:item(), 1)
  local before = core.device.live().nodes
  x = w
  for _ = 1, 20000 do x = x + 1 end
  x = nil
  collectgarbage()
  collectgarbage()
  lu.assertTrue(core.device.live().nodes <= before)
end

-- ---- ops written in Lua ----

TestLua = {}

local function cube(x)
  local was = A.set_grad_enabled(false)
  local y = x * x * x
  A.set_grad_enabled(was)
  A.record("cube", function(dy) return dy * x * x * 3 end, { x }, { y })
  return y
end

function TestLua:test_an_op()
  ref.gradcheck("cube", cube, { ref.filled({ 2, 3 }, -1, 1) }, { tolerance = 2e-2 })
end

function TestLua:test_two_inputs_two_outputs()
  local function both(x, y)
    local was = A.set_grad_enabled(false)
    local sum, product = x + y, x * y
    A.set_grad_enabled(was)
    A.record("both", function(ds, dp)
      if ds == nil then return dp * y, dp * x end
      if dp == nil then return ds, ds end
      return ds + dp * y, ds + dp * x
    end, { x, y }, { sum, product })
    return sum, product
  end
  local function joined(x, y) local s, p = both(x, y); return s * p end
  ref.gradcheck("both", joined, { ref.filled({ 3 }, 1, 2), ref.filled({ 3 }, 1, 2) }, { tolerance = 2e-2 })
  local x, y = leaf { 2 }, leaf { 5 }
  local _, p = both(x, y)
  p:backward()
  lu.assertEquals({ x.grad:item(), y.grad:item() }, { 5, 2 })
end

function TestLua:test_no_gradient_for_an_input()
  local x, y = leaf { 2 }, leaf { 5 }
  local z = T.tensor { 10 }
  A.record("first", function(dz) return dz * 5, nil end, { x, y }, { z })
  z:backward()
  lu.assertEquals(x.grad:item(), 5)
  lu.assertNil(y.grad)
end

function TestLua:test_errors_pass_through_and_nothing_is_left()
  collectgarbage()
  collectgarbage()
  local before = core.device.live()
  for _, case in ipairs {
    { function() error "boom" end, "boom" },
    { function() error { code = 1 } end, "table" },
    { function() return 5 end, "expected a tensor or nil, got number" },
    { function(dy) return dy:sum() + T.zeros(3) end, "bad" },
    { function(dy) return dy:matmul(T.zeros(7, 7)) end, "matmul" },
  } do
    local x, y = leaf { 1, 2 }, T.tensor { 1, 2 }
    A.record("bad", case[1], { x }, { y })
    local ok, message = pcall(function() y:sum():backward() end)
    lu.assertFalse(ok)
    lu.assertStrContains(message, case[2])
    lu.assertNil(x.grad)
  end
  collectgarbage()
  collectgarbage()
  lu.assertEquals(core.device.live(), before)
end

function TestLua:test_the_message_names_the_line()
  local x, y = leaf { 1 }, T.tensor { 1 }
  A.record("bad", function() error "boom" end, { x }, { y })
  local _, message = pcall(y.backward, y)
  lu.assertStrMatches(message, ".*test_autograd.lua:%d+: boom.*")
end

function TestLua:test_backward_from_a_coroutine_that_is_gone()
  local x, y = leaf { 2 }, nil
  coroutine.wrap(function() y = cube(x) end)()
  collectgarbage()
  coroutine.wrap(function() y:sum():backward() end)()
  lu.assertEquals(x.grad:item(), 12)
end

function TestLua:test_closing_inside_backward()
  local x, y = leaf { 2 }, T.tensor { 4 }
  A.record("rude", function(dy) y:close(); x:close(); return dy * 3 end, { x }, { y })
  y:backward()
  raises("closed", function() return y + 1 end)
end

function TestLua:test_collecting_inside_backward()
  local x = leaf { 2 }
  local y = T.tensor { 4 }
  A.record("collects", function(dy) collectgarbage(); collectgarbage(); return dy * 3 end, { x }, { y })
  y = y * 2
  collectgarbage()
  y:backward()
  lu.assertEquals(x.grad:item(), 6)
end

function TestLua:test_a_surrogate()
  local x = T.tensor({ { { 0.3, 1.2 } }, { { 0.9, 0.1 } } }, { requires_grad = true })
  local function run(surrogate)
    x.grad = nil
    local s, v = core.nn.neuron(x, nil, nil, { surrogate = surrogate })
    local total = s:sum() + v:sum()
    total:backward()
    return x.grad:totable()
  end
  local built_in = run "triangle"
  lu.assertEquals(run(function(u) return (1 - u:abs()):relu() end), built_in)
  lu.assertNotEquals(run(function(u) return u * 0 end), built_in)
  raises("wrong surrogate", run, function() error "wrong surrogate" end)
  raises("got string", run, function() return "x" end)
end

os.exit(lu.LuaUnit.run())
