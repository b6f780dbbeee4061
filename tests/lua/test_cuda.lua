-- What is about devices themselves. On the CPU alone the reasons why there is no other; with MOONSPIKE_DEVICE=cuda the rest.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local ms = require "moonspike"
local core = require "moonspike.core"
local s = require "support"
local nn, optim, loss = ms.nn, ms.optim, ms.loss

local other = ms.device() ~= "cpu"
local function needs_device()
  if not other then lu.skip "there is the CPU alone" end
end

TestNames = {}

function TestNames:test_why()
  local why = ms.cuda.why()
  lu.assertEquals(ms.cuda.is_available(), why == nil)
  lu.assertEquals(ms.cuda.device_count(), #ms.cuda.devices())
  if why then
    s.raises("device: 'cuda' is not usable: " .. why:sub(1, 20), ms.device, "cuda")
    s.raises("is not usable", ms.cuda.memory)
  end
  s.raises("cuda: memory: device: expected 'cuda', 'cuda:1' or a number, got 'cpu'", ms.cuda.memory, "cpu")
  s.raises("cuda has no 'memroy'", function() return ms.cuda.memroy end)
end

function TestNames:test_auto_takes_no_emulation()
  local before = ms.device()
  local name = ms.device "auto"
  for _, device in ipairs(ms.devices()) do
    if device.name == name then lu.assertFalse(device.emulation) end
  end
  lu.assertEquals(ms.device(before), before)
end

function TestNames:test_a_name_in_the_environment()
  local script = os.tmpname()
  s.write(script, "print((require 'moonspike').device())")
  local _, text = s.run(script, "MOONSPIKE_DEVICE=cpu")
  lu.assertEquals(text, "cpu\n")
  local code
  code, text = s.run(script, "MOONSPIKE_DEVICE=tpu")
  lu.assertNotEquals(code, 0)
  lu.assertStrContains(text, "MOONSPIKE_DEVICE: device: unknown device 'tpu'")
  os.remove(script)
end

TestMemory = {}

function TestMemory:test_statistics()
  ms.synchronize()
  local name = ms.device()
  ms.empty_cache()
  local before = ms.memory().in_use
  local x <close> = ms.zeros(1000)
  local bytes = 1000 * core.device.float_width()
  lu.assertEquals(ms.memory().in_use, before + bytes)
  do local y <close> = ms.zeros(5000) end
  lu.assertTrue(ms.memory().peak >= before + 6 * bytes)
  core.device.reset_peak()
  lu.assertEquals(ms.memory().peak, before + bytes)
  if other then
    lu.assertEquals(ms.cuda.memory_allocated(), ms.memory().in_use)
    lu.assertEquals(ms.cuda.max_memory_allocated(name), before + bytes)
    lu.assertTrue(ms.cuda.memory_reserved() >= bytes)
    ms.cuda.reset_peak_memory_stats()
    ms.cuda.empty_cache()
    ms.cuda.synchronize()
    lu.assertIsString(ms.cuda.name())
  end
end

function TestMemory:test_out_of_memory_leaves_everything_alive()
  needs_device()
  local x = ms.ones(1000)
  local ok, message = pcall(function() return x:view(1000, 1):expand(1000, 1 << 40):contiguous() end)
  lu.assertFalse(ok)
  lu.assertStrMatches(message, ".*contiguous: out of memory: wanted 4%.4 PB, .* in use, .* free %(on cuda%); a smaller batch needs less.*")
  lu.assertEquals(x:sum():item(), 1000)
end

function TestMemory:test_garbage_is_collected_before_it_is_an_error()
  needs_device()
  local most = ms.memory().free + ms.memory().reserved - ms.memory().in_use
  local n = most // 4 // core.device.float_width()
  for _ = 1, 12 do local t = ms.empty(n) end -- each a quarter, garbage at once
end

TestMixed = {}

local function ops(a, b)
  local index = ms.zeros({ 2 }, { dtype = "int64", device = b.device })
  local c1, c2 = ms.ones({ 1, 1, 4, 4 }, { device = a.device }), ms.ones({ 1, 1, 3, 3 }, { device = b.device })
  local N = core.nn
  return {
    add = function() return a + b end, ["add_"] = function() a:clone():add_(b) end, mul_ = function() a:clone():mul_(b) end,
    matmul = function() return a:matmul(b) end, cat = function() return ms.cat { a, b } end, stack = function() return ms.stack { a, b } end,
    where = function() return ms.where(a, a, b) end, gather = function() return a:index_select(1, index) end,
    conv2d = function() return N.conv2d(c1, c2) end, linear = function() return N.linear(a, b) end,
    batch_norm = function() return N.batch_norm(a, b[1]) end, neuron = function() return N.neuron(a, b[1]) end,
    classification_loss = function() return N.classification_loss(a:unsqueeze(1), index) end,
    lt = function() return a:lt(b) end, trt = function() return N.trt { a:clone():requires_grad_(true), b:clone():requires_grad_(true) } end,
  }
end

function TestMixed:test_every_op_names_both_devices()
  needs_device()
  local a, b = ms.ones(2, 2), ms.ones(2, 2):to "cpu"
  for name, f in pairs(ops(a, b)) do
    local ok, message = pcall(f)
    lu.assertFalse(ok, name)
    lu.assertStrContains(message, "cpu", false, false, name)
    lu.assertStrContains(message, "cuda", false, false, name)
  end
  for _, f in pairs(ops(a, a)) do f() end
end

-- The kernel finds them; the host hears of it when it next waits, also at the end of a sum.
TestLabels = {}

local function labels(last) return ms.tensor({ 0, 1, last }, { dtype = "int64" }) end
local bad_labels = "classification_loss: labels: expected values in [0, 3]"

function TestLabels:test_the_next_read_names_them()
  needs_device()
  local criterion, logits, right = loss.SDT(), ms.zeros(2, 3, 4):requires_grad_(), 0
  for _, last in ipairs { 2, 4, -1, 3 } do
    criterion(logits, labels(last)):backward()
    right = right + criterion.correct
  end
  s.raises(bad_labels, right.item, right)
  criterion(logits, labels(3))
  lu.assertEquals(criterion.correct:item(), 1)
end

function TestLabels:test_with_MOONSPIKE_SYNC_the_op_itself_fails()
  needs_device()
  local script = os.tmpname()
  s.write(script, [[
    local ms = require "moonspike"
    local ok, message = pcall(ms.loss.SDT(), ms.zeros(2, 1, 4), ms.tensor({ 4 }, { dtype = "int64" }))
    print(ok, message)]])
  local _, text = s.run(script, "MOONSPIKE_SYNC=1")
  os.remove(script)
  lu.assertStrMatches(text, "false.*classification_loss: .*labels: expected values in %[0, 3%].*")
end

function TestLabels:test_evaluate()
  needs_device()
  local net, left = nn.Linear(5, 4), 3
  local function loader()
    left = left - 1
    if left > 0 then return ms.ones(2, 3, 5), labels(left + 2) end
  end
  s.raises(bad_labels, ms.evaluate, net, loader)
  lu.assertTrue(net.training)
end

function TestLabels:test_a_replay()
  needs_device()
  local criterion, w = loss.SDT(), ms.zeros(2, 3, 4):requires_grad_()
  local step = ms.capture(function(y) return criterion(w, y) end)
  for _ = 1, 3 do step(labels(1)) end
  local value = step(labels(4))
  s.raises(bad_labels, value.item, value)
  lu.assertTrue(step(labels(1)):item() > 0)
end

TestTwo = {}

local function needs_two()
  if not other or ms.cuda.device_count() < 2 then lu.skip "there is one device" end
end

function TestTwo:test_every_op_names_both_devices()
  needs_two()
  local a, b = ms.ones(2, 2), ms.ones(2, 2):to "cuda:1"
  for name, f in pairs(ops(a, b)) do
    local ok, message = pcall(f)
    lu.assertFalse(ok, name)
    lu.assertStrContains(message, "cuda:1", false, false, name)
  end
  for _, f in pairs(ops(b, b)) do f() end
end

-- Each copy is behind what made its source and before what uses or frees it.
function TestTwo:test_there_and_back()
  needs_two()
  local x = ms.rand(4, 33):requires_grad_()
  local want = (x * 2 + 1):matmul(x:t()):exp():sum()
  want:backward()
  local grad = x.grad:clone()
  x.grad = nil
  local got
  do
    local y = (x * 2 + 1):to "cuda:1"
    local z = y:matmul(x:t():to "cuda:1")
    y = nil
    got = z:exp():sum():to "cuda"
  end
  got:backward()
  lu.assertEquals({ got.device, x.grad.device }, { "cuda", "cuda" })
  lu.assertEquals(got:item(), want:item())
  s.near(x.grad, grad, 1e-6)
  for i = 1, 20 do
    local n = ms.full({ 999 }, i)
    n = (n + 1):to "cuda:1"
    n = (n * 2):to "cuda"
    lu.assertEquals({ n:min():item(), n:max():item() }, { 2 * i + 2, 2 * i + 2 })
  end
end

TestMoves = {}

local function make(lua_optimizer)
  ms.manual_seed(5)
  local net = nn.Sequential { nn.Conv2d(1, 8, 3, { bias = false }), nn.BatchNorm2d(8), nn.LIF(), nn.Flatten(), nn.Linear(8 * 16, 3) }
  local Momentum = optim.Optimizer("Momentum", { lr = 0.1 })
  function Momentum:update(p, g, state, group)
    state.m = state.m and state.m * 0.9 + g or g:clone()
    p:sub_(state.m * group.lr)
  end
  local opt = lua_optimizer and Momentum(net:parameters()) or optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 })
  return net, opt, loss.TRT(net, { lambda = 1e-3 })
end

local function train(lua_optimizer, move)
  local net, opt, criterion = make(lua_optimizer)
  local x, y = ms.rand({ 2, 4, 1, 6, 6 }, { device = "cpu" }), ms.tensor({ 0, 1, 2, 0 }, { dtype = "int64", device = "cpu" })
  local weight = net[1].weight
  local view = weight:detach():view(-1)
  for i = 1, 6 do
    if move and i % 2 == 0 then
      net:to(i == 4 and "cpu" or ms.device())
      lu.assertTrue(rawequal(weight, net[1].weight))
      lu.assertEquals(view.device, weight.device)
      lu.assertEquals(weight.grad.device, weight.device)
    end
    local d = weight.device
    opt:zero_grad()
    criterion(net(x:to(d)), y:to(d)):backward()
    opt:step()
  end
  lu.assertEquals(view:totable(), weight:view(-1):totable())
  return net:state_dict()
end

-- The same steps on the second device give the same bits.
function TestTwo:test_a_network_in_training()
  needs_two()
  local a = train(false, false)
  ms.device "cuda:1"
  local ok, b = pcall(train, false, false)
  ms.device "cuda"
  lu.assertTrue(ok, b)
  for name, t in pairs(a) do
    lu.assertEquals(b[name].device, "cuda:1")
    lu.assertEquals(b[name]:totable(), t:totable(), name)
  end
  local net = nn.Linear(3, 2)
  local x = ms.ones(1, 3)
  local y = net(x):totable()
  net:to "cuda:1"
  lu.assertEquals(net(x:to "cuda:1"):totable(), y)
end

function TestMoves:test_a_network_in_training()
  needs_device()
  for _, lua_optimizer in ipairs { false, true } do
    local a, b = train(lua_optimizer, false), train(lua_optimizer, true)
    for name, t in pairs(a) do s.near(b[name], t, 2e-3, name) end
  end
end

function TestMoves:test_what_may_not_part()
  needs_device()
  local a, b = nn.Linear(2, 2), nn.Linear(2, 2)
  local list = a:parameters()
  for _, p in ipairs(b:parameters()) do list[#list + 1] = p end
  local opt = optim.SGD(list, { lr = 1 })
  s.raises("to: the parameters lie together with those of another module", a.to, a, "cpu")
  nn.Sequential { a, b }:to "cpu"
  lu.assertEquals(b.weight.device, "cpu")
  local x = ms.ones(1, 2):to "cpu"
  b(a(x)):sum():backward()
  opt:step()
end

function TestMoves:test_batches_come_to_the_current_device()
  local set = ms.data.FromTensors { images = ms.rand(6, 5, 5), labels = ms.tensor({ 0, 1, 2, 0, 1, 2 }, { dtype = "int64" }), batch_size = 2, T = 2 }
  for x, y in set do lu.assertEquals({ x.device, y.device }, { ms.device(), ms.device() }) end
  lu.assertEquals(set[1].x.device, ms.device())
end

os.exit(lu.LuaUnit.run())
