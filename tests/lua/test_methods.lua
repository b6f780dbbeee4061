-- Methods together: random T, whole small networks of several methods that are captured, checkpointed and resumed bit for bit.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn, loss, optim = ms.nn, ms.loss, ms.optim

TestRandomT = {}

local function draws(slt, n)
  local list = {}
  for i = 1, n do list[i] = slt:draw() end
  return list
end

function TestRandomT:test_uniform_and_repeatable()
  ms.manual_seed(4)
  local list, counts = draws(ms.schedule.RandomT {}, 4000), {}
  for _, T in ipairs(list) do counts[T] = (counts[T] or 0) + 1 end
  lu.assertEquals(#counts, 8)
  for T = 1, 8 do lu.assertAlmostEquals(counts[T], 500, 90) end -- four deviations
  ms.randn(10) -- other draws change nothing
  lu.assertEquals(draws(ms.schedule.RandomT {}, 4000), list)
  ms.manual_seed(5)
  lu.assertNotEquals(draws(ms.schedule.RandomT {}, 4000), list)
  for _, T in ipairs(draws(ms.schedule.RandomT { T_min = 3, T_max = 3 }, 20)) do lu.assertEquals(T, 3) end
end

function TestRandomT:test_first_steps_of_a_batch()
  local slt, x = ms.schedule.RandomT { T_max = 4 }, ms.randn(5, 2, 3)
  for _ = 1, 20 do
    local y, T = slt(x)
    lu.assertEquals(y.shape, { T, 2, 3 })
    lu.assertEquals(y:totable(), x:narrow(1, 1, T):totable())
    lu.assertTrue(T >= 1 and T <= 4)
  end
  local still = ms.randn(2, 1, 4, 4):unsqueeze(1):expand(4, -1, -1, -1, -1)
  lu.assertEquals(nn.Conv2d(1, 2, 3)(slt(still)).shape[2], 2)
end

function TestRandomT:test_goes_on_where_it_was()
  local a, b = ms.schedule.RandomT {}, ms.schedule.RandomT {}
  draws(a, 7)
  b:load_state_dict(a:state_dict())
  lu.assertEquals(draws(b, 20), draws(a, 20))
  lu.assertStrContains(tostring(a), "T_max = 8, draws = 27")
end

function TestRandomT:test_messages()
  s.raises("RandomT: T_min: expected at most T_max = 4, got 5", ms.schedule.RandomT, { T_min = 5, T_max = 4 })
  s.raises("RandomT: T_max: expected an integer >= 1, got 0", ms.schedule.RandomT, { T_max = 0 })
  s.raises("RandomT: x: expected [T, N, ...] with at least 8 time steps, got tensor [4, 2]", ms.schedule.RandomT(), ms.zeros(4, 2))
  s.raises("load_state_dict: dict: expected { draws = integer }, got nil", function() ms.schedule.RandomT():load_state_dict() end)
  s.raises("schedule has no 'randomT' (known: RandomT)", function() return ms.schedule.randomT end)
end

-- ---- whole networks ----

local T = 4
local methods = {
  tab_localzo_trt = { norm = nn.TAB, neuron = function() return nn.published "localzo" end, v0 = true,
    loss = function(net) return loss.TRT(net, { lambda = 1e-3 }) end },
  tebn_atan_tet_s = { norm = nn.TEBN, neuron = function() return nn.LIF { surrogate = "atan", tau = 4 } end, v0 = true,
    loss = function() return loss.TET_S() end },
  td_tks = { norm = function(c) return nn.tdBN(c, { alpha = 0.7 }) end, neuron = function() return nn.published "tks" end,
    loss = function() return loss.TKS { epochs = 8 } end },
  bntt_plif_fitted = { norm = nn.BNTT, neuron = function() return nn.published "sew-plif" end,
    loss = function(net) return loss.Control(net, { which = "fitted_l2", T = T, lambda = 1e-3 }) end },
  shared_lts = { norm = function(c) return nn.BatchNorm2d(c) end, neuron = function() return nn.published("efficientlif-shared") end, shared = true,
    loss = function() return loss.LTS() end },
  channels_l2 = { norm = nn.TEBN, neuron = function() return nn.SharedChannels(nn.published "efficientlif-shared") end,
    loss = function(net) return loss.L2(net, { weights = 1e-3, gammas = 1e-4 }) end },
  slt_tet = { norm = nn.TEBN, neuron = function() return nn.published "tet" end, random_T = true, loss = function() return loss.TET() end },
}

local function make(method)
  ms.manual_seed(6)
  local body = nn.Sequential { nn.Conv2d(2, 4, 3, { padding = 1, bias = false }), method.norm(4, T), method.neuron(), nn.Dropout(0.1),
    nn.Conv2d(4, 4, 3, { padding = 1 }), method.norm(4, T), method.neuron() }
  if method.shared then body = nn.SharedMembrane(body) end
  local net = nn.Sequential { body, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3) }
  if method.v0 then nn.learnable_v0(net, ms.zeros(T, 1, 2, 6, 6)) end
  net:parameters()
  local run = { model = net, optimizer = optim.Adam(net:parameters(), { lr = 0.02 }), random_T = method.random_T and ms.schedule.RandomT { T_max = T } }
  run.scheduler = optim.CosineAnnealingLR(run.optimizer, { T_max = 8 })
  return run, method.loss(net)
end

local function batch(i)
  return ms.randn(T, 3, 2, 6, 6, { key = "batch" .. i }) * 2, ms.tensor({ i % 3, (i + 1) % 3, 2 }, { dtype = "int64" })
end

local function go(run, criterion, from, to, captured)
  local net, opt, text = run.model, run.optimizer, {}
  local function step(x, y)
    opt:zero_grad()
    local l = criterion(net(x), y)
    l:backward()
    opt:step()
    return l
  end
  if captured then step = ms.capture(step) end
  for i = from, to do
    if criterion.set_epoch then criterion:set_epoch(i) end
    local x, y = batch(i)
    if run.random_T then x = run.random_T(x) end
    text[#text + 1] = ("%a"):format(step(x, y):item())
    run.scheduler:step()
  end
  for name, t in pairs(net:state_dict()) do text[#text + 1] = name .. t:detach():bytes() end
  return table.concat(text, "|")
end

TestTogether = {}

for name, method in pairs(methods) do
  TestTogether["test_captured_" .. name] = function()
    local run, criterion = make(method)
    local plain = go(run, criterion, 1, 6, false)
    lu.assertFalse(plain:find "nan" ~= nil)
    run, criterion = make(method)
    lu.assertEquals(go(run, criterion, 1, 6, true) == plain, true, name)
  end

  TestTogether["test_resumed_" .. name] = function()
    local folder = s.folder()
    local path = folder .. "/c.safetensors"
    local run, criterion = make(method)
    go(run, criterion, 1, 3)
    ms.checkpoint(path, run)
    local want = go(run, criterion, 4, 7)
    local again
    again, criterion = make(method)
    ms.resume(path, again)
    lu.assertEquals(go(again, criterion, 4, 7) == want, true, name)
    s.remove(folder)
  end

  TestTogether["test_learns_" .. name] = function()
    local run, criterion = make(method)
    local x, y = batch(1)
    local opt, first, last = run.optimizer, nil, nil
    for _ = 1, 30 do
      opt:zero_grad()
      local l = criterion(run.model(x), y)
      l:backward()
      opt:step()
      last = l:item()
      first = first or last
    end
    lu.assertTrue(last < 0.7 * first, ("%s: %g -> %g"):format(name, first, last))
  end
end

-- A schedule of T that the file lacks is missed.
function TestTogether:test_what_does_not_fit()
  local folder = s.folder()
  local net = nn.Linear(2, 2)
  ms.checkpoint(folder .. "/c", { model = net })
  s.raises("expected a state of the random_T, got none", ms.resume, folder .. "/c", { model = net, random_T = ms.schedule.RandomT() })
  s.remove(folder)
end

-- The last step answers otherwise than the mean.
function TestTogether:test_evaluation_of_the_last_step()
  local net = nn.Module "Given" ()
  function net.forward(_, x) return x end
  local x = ms.tensor { { { 9, 0 }, { 9, 0 } }, { { 0, 1 }, { 0, 1 } } }
  local y = ms.tensor({ 1, 1 }, { dtype = "int64" })
  local function accuracy(over)
    local done
    return (ms.evaluate(net, function() if not done then done = true; return x, y end end, { over = over }))
  end
  lu.assertEquals({ accuracy "mean", accuracy "last" }, { 0, 1 })
  s.raises("evaluate: over: expected one of 'mean', 'last', got 'first'", ms.evaluate, net, print, { over = "first" })
end

os.exit(lu.LuaUnit.run() == 0)
