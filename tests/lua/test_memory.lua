-- Memory stays flat, and no failed allocation leaves anything behind.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local core = require "moonspike.core"
local T, O, N, device = core.tensor, core.ops, core.nn, core.device

device.threads(1) -- tensors are small: waking threads would be most of the time

local ROUNDS = device.current() == "cpu" and 10000 or 1000 -- an emulated device is slow

local function collect()
  collectgarbage()
  collectgarbage()
end

-- Resident bytes of this process.
local function resident()
  local f <close> = assert(io.open "/proc/self/statm")
  return tonumber(f:read "a":match "^%d+ (%d+)") * 4096
end

local function live()
  collect()
  return device.live()
end

TestFlat = {}

function TestFlat:test_temporaries()
  local x = T.randn(256, 256)
  local limit, peak, rss = 0, 0, nil
  for i = 1, ROUNDS do
    local y = x * 2 -- 256 KiB each
    if i % 50 == 0 then
      peak = math.max(peak, device.live().bytes)
      if i == ROUNDS // 2 then rss, limit = resident(), peak end
    end
  end
  local width = device.float_width()
  lu.assertTrue(peak <= 100 * 2 ^ 20 * width / 4, ("peak %.0f MiB"):format(peak / 2 ^ 20))
  lu.assertTrue(peak <= limit * 1.25, "the peak grows")
  lu.assertTrue(resident() <= rss * 1.25 + 16 * 2 ^ 20, "resident memory grows")
end

function TestFlat:test_training_steps()
  local w = T.randn(16, 16, { requires_grad = true })
  local opt = core.optim.new "adam"
  opt:add_group({ w }, { lr = 1e-3 })
  local x = T.randn(4, 16)
  local function step()
    opt:zero_grad()
    local l = (N.linear(x, w):relu() ^ 2):mean()
    l:backward()
    opt:step()
  end
  for _ = 1, 10 do step() end
  local before = live()
  for _ = 1, ROUNDS do step() end
  lu.assertEquals(live(), before)
end

function TestFlat:test_close_frees_now()
  local before = live().bytes
  local t = T.zeros(1000)
  local u = t:view(10, 100)
  t:close()
  lu.assertTrue(device.live().bytes > before)
  u:close()
  lu.assertEquals(device.live().bytes, before)
  do local v <close> = T.zeros(1000) end
  lu.assertEquals(device.live().bytes, before)
end

function TestFlat:test_errors_leave_nothing()
  local before = live()
  for _ = 1, 100 do
    pcall(function() return T.zeros(2, 3) + T.zeros(4) end)
    pcall(O.cat, { T.zeros(1), T.zeros(1, 1) })
    pcall(T.tensor, { { 1, 2 }, { 3 } })
    pcall(N.conv2d, T.zeros(1, 1, 3, 3), T.zeros(1, 2, 3, 3))
  end
  lu.assertEquals(live(), before)
end

function TestFlat:test_a_finalizer_may_use_tensors()
  local done = 0
  for _ = 1, 20 do setmetatable({}, { __gc = function() done = done + T.ones(300000):sum():item() end }) end
  for _ = 1, 300 do local y = T.zeros(300000) end
  collect()
  lu.assertEquals(done, 20 * 300000)
end

function TestFlat:test_a_stopped_collector_stays_stopped()
  collect()
  collectgarbage "stop"
  local finalized = false
  setmetatable({}, { __gc = function() finalized = true end })
  for _ = 1, 200 do local y = T.zeros(262144) end
  collectgarbage "restart"
  lu.assertFalse(finalized)
  collect()
  lu.assertTrue(finalized)
end

-- Fails the n-th allocation of f for n = 0, 1, ... until f comes through; each time everything must be gone afterwards.
local function sweep(what, f)
  f() -- what is made once and kept
  local before, failed = live(), 0
  for n = 0, 2000 do
    device.fail_allocation(n)
    local ok, message = pcall(f)
    if ok then message = nil end -- a result must not count as left behind
    device.fail_allocation(-1)
    local after = live()
    lu.assertEquals(after, before, ("%s, allocation %d"):format(what, n))
    if ok then
      return failed
    end
    failed = failed + 1
    lu.assertStrContains(message, "memory", false, false, what)
  end
  lu.fail(what .. " never came through")
end

TestFailing = {}

function TestFailing:test_functions()
  local x, y = T.randn(3, 4), T.randn(4)
  local index = T.tensor({ 1, 0 }, { dtype = "int64" })
  local list = {
    zeros = function() T.zeros(2, 2) end, tensor = function() T.tensor { { 1, 2 } } end, randn = function() T.randn(5) end,
    arange = function() T.arange(0, 5) end, unary = function() x:exp() end, binary = function() return x + y end,
    number = function() return 2 - x end, where = function() O.where(x, 1, 2) end, clamp = function() x:clamp(0, 1) end,
    matmul = function() x:matmul(y) end, sum = function() x:sum(1) end, var = function() x:std() end, max = function() x:max(2) end,
    softmax = function() x:softmax(1) end, views = function() x:t():narrow(1, 1, 2):unsqueeze(1):expand(5, -1, -1):reshape(-1) end,
    cat = function() O.cat { x, x } end, stack = function() O.stack { x, x } end, to = function() x:long():float():bfloat16() end,
    gather = function() x:index_select(1, index) end, topk = function() x:topk(2) end, print = function() tostring(x) end,
    large = function() tostring(T.zeros(50, 50)) end, index = function() return x[{ { 1, 2 }, 3 }] end,
    assign = function() x[1] = { 1, 2, 3, 4 } end, ["in place"] = function() x:add_(y):mul_(2):relu_() end,
  }
  local failed = 0
  for name, f in pairs(list) do failed = failed + sweep(name, f) end
  lu.assertTrue(failed > 60, failed)
end

function TestFailing:test_layers_and_gradients()
  local x = T.rand(2, 2, 3, 6, 6)
  local labels = T.tensor({ 1, 0 }, { dtype = "int64" })
  local failed = sweep("network", function()
    local w1, w2 = T.randn(4, 3, 3, 3, { requires_grad = true }), T.randn(5, 36, { requires_grad = true })
    local gamma, beta = T.ones(4, { requires_grad = true }), T.zeros(4, { requires_grad = true })
    local y = N.batch_norm(N.conv2d(x, w1, nil, { padding = 1 }), gamma, beta, T.zeros(4), T.ones(4))
    local s = N.neuron(y)
    local logits = N.linear(N.avg_pool2d(s, { kernel_size = 2 }):flatten(3), w2)
    local l = N.classification_loss(logits, labels, { mse = 0.1 }) + N.trt({ w1, w2 })
    l:backward()
    local o = core.optim.new "adam"
    o:add_group { w1, w2, gamma, beta }
    o:step()
  end)
  lu.assertTrue(failed > 100, failed)
end

function TestFailing:test_ops_in_lua()
  sweep("record", function()
    local x, y = T.ones(3, { requires_grad = true }), T.ones(3)
    core.autograd.record("twice", function(dy) return dy * 2 end, { x }, { y })
    local g = core.autograd.grad(y:sum(), { x })
    assert(g[1])
    local s = N.neuron(T.ones(2, 3, { requires_grad = true }), nil, nil, { surrogate = function(u) return u * 0 + 1 end })
    local sum, seen = s:sum(), nil
    core.autograd.watch(sum, function(given)
      local dy <close> = given
      seen = dy:item()
    end)
    sum:backward()
    assert(seen == 1)
  end)
end

function TestFailing:test_an_optimizer_step_is_all_or_nothing()
  local a, b = T.ones(3, { requires_grad = true }), T.ones(4, { requires_grad = true })
  local o = core.optim.new "sgd"
  o:add_group({ a }, { lr = 1, momentum = 0.9 })
  o:add_group({ b }, { lr = 1, momentum = 0.9 })
  local total = a:sum() + b:sum()
  total:backward()
  for n = 0, 100 do
    device.fail_allocation(n)
    local ok = pcall(o.step, o)
    device.fail_allocation(-1)
    lu.assertEquals(a:totable(), ok and { 0, 0, 0 } or { 1, 1, 1 })
    lu.assertEquals(b:totable(), ok and { 0, 0, 0, 0 } or { 1, 1, 1, 1 })
    if ok then return end
  end
end

function TestFailing:test_out_of_memory_is_an_error_with_a_text()
  local ok, message = pcall(T.zeros, 1 << 20, 1 << 20, 1 << 6)
  lu.assertFalse(ok)
  lu.assertStrContains(message, "memory")
  ok = pcall(T.zeros, 1 << 40, 1 << 40)
  lu.assertFalse(ok)
end

os.exit(lu.LuaUnit.run())
