-- ms.capture: n captured steps end like n plain ones, bit for bit, and what a replay could not do is an error. On the CPU steps run
-- each time, under the same rules; on a device the third call of a kind is a replay.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local ms = require "moonspike"
local core = require "moonspike.core"
local s = require "support"
local nn, optim, loss = ms.nn, ms.optim, ms.loss

local function digits(n)
  local x, y = ms.rand(n, 1, 8, 8), ms.randint(0, 3, { n })
  return x:unsqueeze(1):expand(2, -1, -1, -1, -1), y
end

local function make(options)
  ms.manual_seed(7)
  local net = nn.Sequential {
    nn.Conv2d(1, 8, 3, { padding = 1, bias = false }), nn.BatchNorm2d(8), nn.LIF(), nn.AvgPool2d(2), nn.Dropout(0.2),
    nn.Flatten(), nn.Linear(8 * 4 * 4, 3),
  }
  local opt = options.sgd and optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 }) or optim.Adam(net:parameters(), { lr = 1e-2 })
  local sched = optim.StepLR(opt, { step_size = 2, gamma = 0.5 })
  local criterion = options.trt and loss.TRT(net, { lambda = 1e-3 }) or loss.TET { mu = 0.05 }
  local function step(x, y)
    opt:zero_grad()
    local l = criterion(net(x), y)
    l:backward()
    if options.clip then optim.clip_grad_norm(net:parameters(), options.clip) end
    opt:step()
    if options.also then options.also(l) end
    return l, x:sum()
  end
  return { net = net, opt = opt, sched = sched, step = options.captured and ms.capture(step) or step, plain = step }
end

-- Weights, buffers and moments as bytes.
local function state(run)
  local text = {}
  for name, t in pairs(run.net:state_dict()) do text[#text + 1] = name .. t:detach():bytes() end
  for i, entry in ipairs(run.opt:state_dict().state) do
    for _, key in ipairs { "m", "v" } do text[#text + 1] = entry[key] and entry[key]:bytes() or "" end
    text[#text + 1] = tostring(entry.step)
  end
  return table.concat(text, "|")
end

local function train(options, n, between)
  local run, losses = make(options), {}
  for i = 1, n do
    local x, y = digits(i == 5 and 3 or 4)
    local l, sum = run.step(x, y)
    losses[i] = ("%a %a"):format(l:item(), sum:item())
    run.sched:step()
    if between then between(run, i) end
  end
  return table.concat(losses, " ") .. state(run), run
end

local function both(options, n, between)
  local plain, captured = {}, { captured = true }
  for key, value in pairs(options) do plain[key], captured[key] = value, value end
  lu.assertTrue(train(captured, n, between) == train(plain, n, between), "a captured training ends differently")
end

TestCapture = {}

function TestCapture:test_as_plain_steps() both({}, 8) end
function TestCapture:test_as_plain_steps_with_sgd_and_clipping() both({ sgd = true, clip = 0.5 }, 6) end
function TestCapture:test_as_plain_steps_with_the_regulariser() both({ trt = true }, 6) end

function TestCapture:test_as_plain_steps_in_bfloat16()
  ms.autocast("bf16", function()
    both({}, 7, function(run, i)
      if i == 6 then run.net[1].weight:detach():mul_(0.5) end -- its bfloat16 copy is out of date
    end)
  end)
end

function TestCapture:test_between_replays()
  both({}, 8, function(run, i)
    ms.randn(2) -- draws outside of the step
    if i == 4 then run.net[1].weight:detach():mul_(0.5) end
    if i == 5 then collectgarbage() end
    if i == 6 then
      run.net:eval()
      run.plain(digits(4))
      run.net:train()
    end
  end)
end

function TestCapture:test_a_checkpoint_between_replays()
  local folder = s.folder()
  local path = folder .. "/state.safetensors"
  both({}, 7, function(run, i)
    if i == 4 then ms.checkpoint(path, { model = run.net, optimizer = run.opt, scheduler = run.sched }) end
    if i == 5 then
      ms.resume(path, { model = run.net, optimizer = run.opt, scheduler = run.sched })
    end
  end)
  s.remove(folder)
end

function TestCapture:test_accumulated_gradients()
  local function accumulated(captured)
    ms.manual_seed(3)
    local net = nn.Linear(4, 2)
    local opt = optim.Adam(net:parameters(), { lr = 0.1 })
    local function add(x) net(x):square():sum():backward() end
    add = captured and ms.capture(add) or add
    for i = 1, 8 do
      add(ms.randn(3, 4))
      if i % 2 == 0 then
        opt:step()
        opt:zero_grad()
      end
    end
    return net.weight:detach():bytes() .. net.bias:detach():bytes()
  end
  lu.assertTrue(accumulated(true) == accumulated(false))
end

function TestCapture:test_the_optimizer_outside()
  local function trained(captured)
    ms.manual_seed(3)
    local net = nn.Linear(4, 2)
    local opt, criterion = optim.Adam(net:parameters(), { lr = 0.1 }), loss.TRT(net, { lambda = 0.1 })
    local labels = ms.tensor({ 0, 1, 1 }, { dtype = "int64" })
    local function gradients(x)
      opt:zero_grad()
      criterion(net(x), labels):backward()
    end
    gradients = captured and ms.capture(gradients) or gradients
    for i = 1, 6 do
      gradients(ms.randn(2, 3, 4))
      if i == 5 then optim.clip_grad_norm(net:parameters(), 0.1) end
      opt:step()
    end
    return net.weight:detach():bytes() .. net.bias:detach():bytes()
  end
  lu.assertTrue(trained(true) == trained(false))
end

function TestCapture:test_a_gradient_that_is_held_keeps_its_values()
  local run = make { captured = true }
  for _ = 1, 3 do run.step(digits(4)) end
  local held = run.net[1].weight.grad
  local before = held:bytes()
  run.step(digits(4))
  lu.assertTrue(held:bytes() == before)
  lu.assertFalse(run.net[1].weight.grad:bytes() == before)
end

function TestCapture:test_collecting_inside()
  both({ also = function() collectgarbage() end }, 5)
end

function TestCapture:test_a_kept_output_is_over()
  local kept, last
  local f = ms.capture(function(x)
    kept = x * 2
    return kept + 1
  end)
  for i = 1, 4 do
    local y = f(ms.full({ 2 }, i))
    lu.assertEquals(y:totable(), { 2 * i + 1, 2 * i + 1 })
    s.raises("captured step: float32 [2] was made by an earlier call", function() return kept:sum() end)
    if last then s.raises("captured step", function() return last:totable() end) end
    last = y
  end
  local copy = last:clone()
  f(ms.zeros(2))
  lu.assertEquals(copy:totable(), { 9, 9 })
end

function TestCapture:test_a_kept_input_is_over()
  local kept
  local f = ms.capture(function(x)
    kept = x
    return x:sum()
  end)
  for i = 1, 4 do
    local x = ms.full({ 3 }, i)
    lu.assertEquals(f(x):item(), 3 * i)
    lu.assertEquals(x:totable(), { i, i, i })
    s.raises("captured step", function() return kept:totable() end)
  end
end

function TestCapture:test_a_result_as_the_next_input()
  local f = ms.capture(function(h, x) return h * 0.5 + x end)
  local h, want = ms.zeros(2), 0
  for i = 1, 5 do
    h, want = f(h, ms.full({ 2 }, i)), want * 0.5 + i
    lu.assertEquals(h:totable(), { want, want })
  end
end

function TestCapture:test_state_of_its_own()
  local sum = ms.zeros(2)
  local f = ms.capture(function(x) sum:add_(x) end)
  for i = 1, 4 do f(ms.full({ 2 }, i)) end
  lu.assertEquals(sum:totable(), { 10, 10 })
  local carried = ms.zeros(2)
  local g = ms.capture(function(x) carried = carried + x end)
  g(ms.ones(2))
  s.raises("captured step: float32 [2] was made by an earlier call", g, ms.ones(2))
end

function TestCapture:test_an_error_inside()
  local wrong = false
  local run = make { captured = true, also = function() if wrong then error "on purpose" end end }
  for i = 1, 5 do
    if i == 2 or i == 4 then
      wrong = true
      local x, y = digits(5 + i) -- a kind of its own, first run and recorded
      s.raises("on purpose", run.step, x, y)
      s.raises("on purpose", run.step, x, y)
      wrong = false
    end
    lu.assertTrue(run.step(digits(4)):item() > 0)
  end
end

function TestCapture:test_an_error_while_it_is_recorded()
  local calls = 0
  local w = ms.ones(2)
  local f = ms.capture(function(x)
    calls = calls + 1
    w:add_(x)
    if calls == 2 then error "on purpose" end
    return w * 2
  end)
  lu.assertEquals(f(ms.ones(2)):totable(), { 4, 4 })
  s.raises("on purpose", f, ms.ones(2))
  local before = w:totable()[1]
  for i = 1, 3 do lu.assertEquals(f(ms.ones(2)):totable(), { 2 * (before + i), 2 * (before + i) }) end
end

function TestCapture:test_kinds_of_arguments()
  local f = ms.capture(function(x, n, name) return x * n, name, nil, n end)
  for _ = 1, 3 do
    for _, size in ipairs { 2, 5 } do
      for n = 1, 2 do
        local y, name, none, again = f(ms.ones(size), n, "a")
        lu.assertEquals(y:totable(), ms.full({ size }, n):totable())
        lu.assertEquals({ name, none, again }, { "a", nil, n })
      end
    end
    lu.assertEquals(f(ms.tensor({ 1, 2 }, { dtype = "int64" }), 3, "b"):totable(), { 3, 6 })
  end
  s.raises("capture: argument 1: expected a tensor, number, string, boolean or nil, got table", f, {})
  s.raises("capture: step: expected a function, got 3", ms.capture, 3)
  s.raises("capture: result 1: expected a tensor", ms.capture(function() return {} end))
  s.raises("capture: input 1: expected a tensor that needs no gradient", f, ms.ones(2):requires_grad_(true), 1, "")
end

-- A progress bar shows loss and accuracy of captured steps as of plain ones.
function TestCapture:test_what_the_criterion_reports()
  local function readings(captured)
    local run, list = make { captured = captured }, {}
    local bar <close> = ms.progress(function(_, i) return (i or 0) < 6 and (i or 0) + 1 or nil end, "", { quiet = true, total = 6 })
    for _ in bar do
      run.step(digits(4))
      bar:read()
      list[#list + 1] = ("%a %a"):format(bar.loss, bar.accuracy)
      if #list == 4 then collectgarbage() end
    end
    return list
  end
  lu.assertEquals(readings(true), readings(false))
  local add = ms.capture(function(x) return x + 1 end) -- calls no criterion, and says nothing of an earlier one's
  require("moonspike.monitor").begin()
  local run = make {}
  for _ = 1, 4 do
    run.step(digits(4))
    add(ms.ones(2))
  end
  lu.assertNil(require("moonspike.monitor").loss)
end

function TestCapture:test_a_replay_does_not_call_the_step()
  local calls = 0
  local f = ms.capture(function(x)
    calls = calls + 1
    return x * 2 + ms.rand(2)
  end)
  for i = 1, 5 do
    ms.manual_seed(3)
    local want = (ms.full({ 2 }, i) * 2 + ms.rand(2)):totable()
    ms.manual_seed(3)
    lu.assertEquals(f(ms.full({ 2 }, i)):totable(), want)
  end
  lu.assertEquals(calls, ms.device() == "cpu" and 5 or 2)
end

function TestCapture:test_another_optimizer_or_frozen_layer_in_between()
  both({}, 9, function(run, i)
    if i == 4 then run.net[1]:requires_grad_(false) end
    if i == 6 then run.net[1]:requires_grad_(true) end
    if i == 7 then
      local other = nn.Linear(3, 2)
      local opt = optim.Adam(other:parameters(), { lr = 0.1 })
      other(ms.ones(1, 3)):sum():backward()
      opt:step()
    end
  end)
end

function TestCapture:test_what_no_replay_can_do()
  local cases = {
    { "item: captured step: a value is read", function(x) return x:sum():item() end },
    { "totable: captured step: a value is read", function(x) x:totable() end },
    { "captured step: a value is read", function(x) return tostring(x) end },
    { "tensor: captured step: values of the host are copied", function() return ms.tensor { 1, 2 } end },
    { "synchronize: captured step: the device is waited for", function() ms.synchronize() end },
    { "captured step: another captured step begins", function(x) return ms.capture(function(y) return y end)(x) end },
  }
  for _, case in ipairs(cases) do
    local f = ms.capture(case[2])
    for _ = 1, 2 do s.raises(case[1], f, ms.ones(3)) end
  end
  lu.assertFalse(core.capture.inside())
  lu.assertTrue(collectgarbage "isrunning")
end

function TestCapture:test_memory_is_given_back()
  local function live()
    collectgarbage()
    collectgarbage()
    local l = core.device.live()
    return { l.tensors, l.storages, l.nodes, l.arenas, l.bytes }
  end
  local function use()
    local run = make { captured = true }
    for _ = 1, 4 do run.step(digits(4)) end
    run = nil
  end
  use()
  ms.synchronize()
  local before = live()
  for _ = 1, 3 do use() end
  lu.assertEquals(live(), before)
  local run = make { captured = true }
  for _ = 1, 3 do run.step(digits(4)) end
  before = live()
  for _ = 1, 20 do run.step(digits(4)) end
  lu.assertEquals(live(), before)
end

os.exit(lu.LuaUnit.run())
