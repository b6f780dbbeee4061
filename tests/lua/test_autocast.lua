-- ms.autocast: modes, training beside float32, what bfloat16 logits meet, weights that change under it, checkpoints.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local nn, optim = ms.nn, ms.optim

local T, N, CLASSES = 3, 8, 4

local function make(seed)
  ms.manual_seed(seed or 1)
  local function block() return nn.Sequential { nn.Conv2d(8, 8, 3, { padding = 1 }), nn.BatchNorm2d(8) } end
  return nn.Sequential {
    nn.Conv2d(1, 8, 3, { padding = 1 }), nn.BatchNorm2d(8), nn.LIF(),
    nn.Residual { block(), neuron = nn.LIF() }, nn.Residual { block(), block(), neuron = nn.LIF() },
    nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 16, CLASSES),
  }
end

-- Class k has a bright quarter.
local function batch()
  local x, y = ms.rand(N, 1, 8, 8) * 0.3, {}
  for i = 1, N do
    local k = (i - 1) % CLASSES
    y[i] = k
    local top, left = k // 2 * 4 + 1, k % 2 * 4 + 1
    x[{ i, 1, { top, top + 3 }, { left, left + 3 } }] = 1
  end
  return x:unsqueeze(1):expand(T, N, 1, 8, 8), ms.tensor(y, { dtype = "int64" })
end

local function train(mode, steps, criterion)
  return ms.autocast(mode, function()
    local net = make()
    local x, y = batch()
    local opt = optim.Adam(net:parameters(), { lr = 1e-2 })
    local loss = criterion and criterion(net) or ms.loss.TET()
    local value
    for _ = 1, steps do
      opt:zero_grad()
      local l = loss(net(x), y)
      l:backward()
      opt:step()
      value = l:item()
    end
    return value, net, loss
  end)
end

TestModes = {}

function TestModes:tearDown() ms.autocast "float32" end

function TestModes:test_for_the_process()
  lu.assertEquals(ms.autocast(), "float32")
  lu.assertEquals(ms.autocast "bf16", "float32")
  lu.assertEquals(ms.autocast(), "bf16")
  lu.assertEquals(ms.randn(2, 3):matmul(ms.randn(3, 2)).dtype, "bfloat16")
  lu.assertEquals(ms.autocast(false), "bf16")
  lu.assertEquals(ms.autocast(), "float32")
  lu.assertEquals(ms.randn(2, 3):matmul(ms.randn(3, 2)).dtype, "float32")
end

function TestModes:test_for_a_call()
  local a, b, c = ms.autocast("bf16", function(x, y)
    local inner = ms.autocast("float32", ms.autocast)
    return ms.autocast(), inner, x + y
  end, 2, 3)
  lu.assertEquals({ a, b, c }, { "bf16", "float32", 5 })
  lu.assertEquals(ms.autocast(), "float32")
  s.raises("stop", ms.autocast, "bf16", function() error "stop" end)
  lu.assertEquals(ms.autocast(), "float32")
  lu.assertEquals(select("#", ms.autocast("bf16", function() end)), 0)
end

function TestModes:test_misuse()
  for _, bad in ipairs { "half", "bfloat16", true, 16 } do
    s.raises('autocast: mode: expected "bf16" or "float32", got ', ms.autocast, bad)
  end
  s.raises('autocast: mode: expected "bf16" or "float32", got nil', ms.autocast, nil, print)
  s.raises("autocast: fn: expected a function, got 3", ms.autocast, "bf16", 3)
  lu.assertEquals(ms.autocast(), "float32")
  lu.assertStrContains(core.help[ms.autocast], "ms.autocast(mode, fn, ...)")
  lu.assertIsBoolean(ms.devices()[1].bf16)
end

TestTraining = {}

function TestTraining:tearDown() ms.autocast(false) end

function TestTraining:test_loss_falls_as_in_float32()
  local whole, half = train("float32", 30), train("bf16", 30)
  local first = train("float32", 1)
  lu.assertTrue(whole < 0.5 * first, ("%.3f of %.3f"):format(whole, first))
  lu.assertTrue(half < 0.5 * first, ("%.3f of %.3f"):format(half, first))
  lu.assertTrue(math.abs(half - whole) < 0.15 * first, ("%.4f and %.4f"):format(half, whole))
end

for name, criterion in pairs {
  SDT = function() return ms.loss.SDT() end, SMSE = function() return ms.loss.SMSE() end, LTS = function() return ms.loss.LTS() end,
  TRT = function(net) return ms.loss.TRT(net) end, CrossEntropy = function() return ms.loss.CrossEntropy() end,
} do
  TestTraining["test_" .. name] = function()
    local a = train("float32", 1, criterion)
    local b, net, loss = train("bf16", 1, criterion)
    lu.assertAlmostEquals(b, a, 0.05 * math.abs(a))
    lu.assertTrue(loss.correct:item() >= 0)
    for key, p in net:named_parameters() do
      lu.assertEquals(p.dtype, "float32", key)
      lu.assertEquals(p.grad.dtype, "float32", key)
    end
  end
end

function TestTraining:test_an_optimizer_in_lua_and_clipping()
  ms.autocast "bf16"
  local net = make()
  local x, y = batch()
  local loss, first, last = ms.loss.SDT(), nil, nil
  for _ = 1, 10 do
    net:zero_grad()
    local l = loss(net(x), y)
    l:backward()
    optim.clip_grad_norm(net:parameters(), 1)
    ms.no_grad(function()
      for _, p in ipairs(net:parameters()) do p:sub_(p.grad * 0.5) end
    end)
    first, last = first or l:item(), l:item()
  end
  lu.assertTrue(last < first)
end

function TestTraining:test_activations_take_half_the_memory()
  local function held(mode)
    return ms.autocast(mode, function()
      ms.manual_seed(1)
      local conv = nn.Conv2d(4, 16, 3, { padding = 1 })
      local x = ms.randn(4, 8, 4, 16, 16)
      conv(x)
      collectgarbage()
      collectgarbage()
      local before = core.device.live().bytes
      local y = conv(x)
      return core.device.live().bytes - before, y.dtype
    end)
  end
  local whole, half = held "float32", held "bf16"
  local n, width = 4 * 8 * 256, core.device.float_width()
  lu.assertEquals(whole, n * 16 * width)
  lu.assertEquals(half, n * 16 * 2 + n * 4 * 2) -- the result, and the input as it was read
end

TestInference = {}

function TestInference:setUp() ms.autocast "bf16" end
function TestInference:tearDown() ms.autocast(false) end

function TestInference:test_a_new_state_is_seen()
  local a, b = make(1), make(2)
  local x = batch()
  a:eval()
  b:eval()
  local before, want = a(x), b(x)
  a:load_state_dict(b:state_dict())
  lu.assertNotEquals(before:totable(), want:totable())
  lu.assertEquals(a(x):totable(), want:totable())
  ms.no_grad(function() a[1].weight:fill_(0); a[1].bias:fill_(0) end)
  lu.assertEquals(a[1](x[1]):abs():max():item(), 0)
end

function TestInference:test_steps_and_sequence_agree()
  local net = make()
  net:eval()
  local x = batch()
  local all = net(x)
  for t = 1, T do lu.assertEquals(net:step(x[t]):totable(), all[t]:totable(), "step " .. t) end
end

function TestInference:test_what_meets_bfloat16_logits()
  local net = make()
  local x, y = batch()
  local done = false
  local accuracy, loss, rate, synops = ms.evaluate(net, function() if not done then done = true; return x, y end end)
  lu.assertTrue(accuracy >= 0 and accuracy <= 1 and loss > 0 and rate > 0)
  lu.assertEquals(synops > 0, core.device.float_width() == 4) -- spikes are reals in the double-precision build
  local out = net(x)
  lu.assertEquals(out.dtype, "bfloat16")
  lu.assertStrContains(tostring(out), "bfloat16 [3, 8, 4]")
  lu.assertEquals(out:mean(1).dtype, "float32")
  lu.assertEquals(out:softmax(-1).dtype, "float32")
  lu.assertEquals(out:mean(1):argmax(2).shape, { N })
  lu.assertEquals(ms.loss.MSE(out, out):item(), 0)
  local path = os.tmpname()
  assert(core.checkpoint.write(path, { { "logits", out:detach() } }, {}))
  local file <close> = assert(core.checkpoint.open(path))
  lu.assertEquals(file:tensor "logits":totable(), out:totable())
  os.remove(path)
end

TestFiles = {}

function TestFiles:tearDown() ms.autocast(false) end

function TestFiles:test_a_resumed_run_has_the_mode()
  local path = os.tmpname()
  local net = nn.Linear(2, 2)
  ms.autocast("bf16", ms.checkpoint, path, { model = net })
  lu.assertEquals(ms.autocast(), "float32")
  ms.resume(path, { model = net })
  lu.assertEquals(ms.autocast(), "bf16")
  ms.checkpoint(path, { model = net })
  ms.autocast "float32"
  lu.assertFalse((pcall(ms.resume, path, { model = nn.Linear(3, 3) })))
  lu.assertEquals(ms.autocast(), "float32")
  os.remove(path)
end

os.exit(lu.LuaUnit.run())
