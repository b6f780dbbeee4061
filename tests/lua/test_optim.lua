-- Optimizers and schedules: G7, groups, state, optimizers in Lua, the arena as a user sees it (decision 13).
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn, optim = ms.nn, ms.optim

local function parameter(...) return nn.Parameter(ms.tensor { ... }) end

TestGolden = {}

function TestGolden:test_adam()
  local p = parameter(1)
  local opt = optim.Adam({ p }, { lr = 1e-3 })
  for i, want in ipairs { .9990000001, .999366103604, .999502794257 } do
    p.grad = ms.tensor { ({ .1, -.2, .05 })[i] }
    opt:step()
    s.near(p, { want }, 2e-7)
  end
end

function TestGolden:test_cosine()
  local opt = optim.SGD({ parameter(1) }, { lr = 1e-3 })
  local sched = optim.CosineAnnealingLR(opt, { T_max = 300 })
  local want = { [0] = .001, [1] = .0009999725847, [150] = .0005, [299] = 2.741531724e-08 }
  for epoch = 0, 299 do
    if want[epoch] then lu.assertAlmostEquals(sched:get_lr(), want[epoch], 1e-9 * want[epoch] + 1e-13) end
    sched:step()
  end
end

TestOptimizers = {}

-- Momentum with dampening, Nesterov and weight decay against the same rule in plain Lua.
function TestOptimizers:test_sgd_against_a_loop()
  local cases = {
    { lr = .1 }, { lr = .1, momentum = .9 }, { lr = .1, momentum = .9, dampening = .5, weight_decay = .01 },
    { lr = .1, momentum = .9, nesterov = true, weight_decay = .1 }, { lr = .1, maximize = true },
  }
  for _, options in ipairs(cases) do
    local p, x, buffer = parameter(1, -2), { 1, -2 }, nil
    local opt = optim.SGD({ p }, options)
    for step = 1, 4 do
      local g = { .5 * step, -.3 }
      p.grad = ms.tensor(g)
      opt:step()
      local first = buffer == nil
      buffer = buffer or {}
      for i = 1, 2 do
        local d = (options.maximize and -g[i] or g[i]) + (options.weight_decay or 0) * x[i]
        local m = options.momentum or 0
        buffer[i] = first and d or m * buffer[i] + (1 - (options.dampening or 0)) * d
        local u = options.nesterov and d + m * buffer[i] or m > 0 and buffer[i] or d
        x[i] = x[i] - options.lr * u
      end
      s.near(p, x, 1e-6)
    end
  end
end

function TestOptimizers:test_groups()
  local a, b = parameter(1), parameter(1)
  local opt = optim.SGD({ { params = { a }, lr = 0.5 }, { params = { b } } }, { lr = 0.1 })
  a.grad, b.grad = ms.ones(1), ms.ones(1)
  opt:step()
  s.near(a, { .5 })
  s.near(b, { .9 })
  opt.param_groups[2].lr = 1
  opt:step()
  s.near(b, { -.1 })
  lu.assertStrContains(tostring(opt), "optim.SGD { 1 parameter, dampening = 0, lr = 0.5")
end

function TestOptimizers:test_a_parameter_without_gradient_is_left_alone()
  local a, b = parameter(1), parameter(1)
  local opt = optim.AdamW({ a, b }, { lr = 0.1, weight_decay = 0.5 })
  a.grad = ms.ones(1)
  opt:step()
  lu.assertEquals(b:item(), 1)
  lu.assertNotEquals(a:item(), 1)
  opt:zero_grad()
  lu.assertNil(a.grad)
end

function TestOptimizers:test_handles_and_two_optimizers()
  local net = nn.Linear(3, 2)
  local before, view = net.weight, net.weight:detach()[1]
  local one, two = optim.SGD(net:parameters(), { lr = 1 }), optim.Adam(net:parameters(), { lr = 1e-2 })
  lu.assertIs(net.weight, before)
  net(ms.ones(1, 3)):sum():backward()
  local start = before:totable()
  one:step()
  s.near(view, { start[1][1] - 1, start[1][2] - 1, start[1][3] - 1 }, 1e-6)
  two:step()
  s.near(before:detach(), { { start[1][1] - 1.01, start[1][2] - 1.01, start[1][3] - 1.01 }, { start[2][1] - 1.01, start[2][2] - 1.01,
    start[2][3] - 1.01 } }, 1e-5)
  net.extra = nn.Linear(2, 2) -- a layer added later
  lu.assertEquals(#net:parameters(), 4)
  optim.SGD(net.extra:parameters(), { lr = 1 })
end

function TestOptimizers:test_state_goes_round()
  local function run(break_at)
    local p = parameter(1, 2)
    local opt = optim.Adam({ p }, { lr = 0.1 })
    for i = 1, 6 do
      if i == break_at then
        local state = opt:state_dict()
        local q = nn.Parameter(p:detach():clone())
        opt, p = optim.Adam({ q }, { lr = 7 }), q
        opt:load_state_dict(state)
      end
      p.grad = ms.tensor { i, -0.5 * i }
      opt:step()
    end
    return p:totable()
  end
  lu.assertEquals(run(4), run())
  lu.assertEquals(run(1), run())
end

function TestOptimizers:test_in_lua()
  local Momentum = optim.Optimizer("Momentum", { lr = 0.1, beta = 0.9 })
  function Momentum:update(p, g, state, group)
    state.m = state.m and state.m * group.beta + g or g:clone()
    p:sub_(state.m * group.lr)
  end
  local a, b = parameter(1, -2), parameter(1, -2)
  local mine, theirs = Momentum { a }, optim.SGD({ b }, { lr = 0.1, momentum = 0.9 })
  for i = 1, 4 do
    for _, p in ipairs { a, b } do p.grad = ms.tensor { i, 1 } end
    if i == 3 then
      local state = mine:state_dict()
      mine = Momentum { a }
      mine:load_state_dict(state)
    end
    mine:step()
    theirs:step()
    s.near(a, b:totable(), 1e-6)
  end
  s.raises("Momentum: unknown option 'alpha' (known: beta, lr)", Momentum, { a }, { alpha = 1 })
  s.raises("Momentum: lr: expected a number, got 'x'", Momentum, { a }, { lr = "x" })
  s.raises("Bare: update(p, g, state, group) is not defined", function()
    local opt = optim.Optimizer "Bare" { a }
    opt:step()
  end)
end

function TestOptimizers:test_clipping()
  local a, b = parameter(1), parameter(1)
  a.grad, b.grad = ms.tensor { 3 }, ms.tensor { 4 }
  s.near(optim.clip_grad_norm({ a, b }, 1), 5)
  s.near(a.grad, { .6 }, 1e-4)
  nn.utils.clip_grad_value({ a, b }, .7)
  s.near(b.grad, { .7 }, 1e-4)
end

TestSchedules = {}

local function rates(make, n)
  local opt = optim.SGD({ parameter(1) }, { lr = 1 })
  local sched, list = make(opt), {}
  for i = 1, n do
    list[i] = opt.param_groups[1].lr
    sched:step()
  end
  return list
end

function TestSchedules:test_closed_forms()
  s.near(rates(function(o) return optim.StepLR(o, { step_size = 2 }) end, 5), { 1, 1, .1, .1, .01 })
  s.near(rates(function(o) return optim.MultiStepLR(o, { milestones = { 1, 3 }, gamma = .5 }) end, 5), { 1, .5, .5, .25, .25 })
  s.near(rates(function(o) return optim.LinearWarmup(o, { steps = 4, start_factor = .2 }) end, 6), { .2, .4, .6, .8, 1, 1 })
  s.near(rates(function(o) return optim.CosineAnnealingLR(o, { T_max = 4, eta_min = .2 }) end, 5),
    { 1, .2 + .4 * (1 + math.sqrt(.5)), .6, .2 + .4 * (1 - math.sqrt(.5)), .2 })
  s.near(rates(function(o)
    local warm, cosine = optim.LinearWarmup(o, { steps = 2, start_factor = .5 }), optim.CosineAnnealingLR(o, { T_max = 2 })
    return optim.SequentialLR(o, { schedulers = { warm, cosine }, milestones = { 2 } })
  end, 5), { .5, .75, 1, .5, 0 })
end

function TestSchedules:test_state()
  local opt = optim.SGD({ parameter(1) }, { lr = 1 })
  local sched = optim.StepLR(opt, { step_size = 1, gamma = .5 })
  sched:step()
  local state = sched:state_dict()
  sched:step()
  sched:load_state_dict(state)
  lu.assertEquals(sched:get_lr(), .5)
end

TestMessages = {}

function TestMessages:test_all()
  local p = parameter(1)
  s.raises("Adam: params: expected a list of parameters (net:parameters()) or of groups, got Linear", optim.Adam, nn.Linear(1, 1))
  s.raises("Adam: params: expected at least one parameter, got an empty list", optim.Adam, {})
  s.raises("Adam: unknown option 'learning_rate' (known: betas, eps, lr, maximize, weight_decay)", optim.Adam, { p }, { learning_rate = 1 })
  s.raises("Adam: betas: expected two numbers from 0 to below 1, got table", optim.Adam, { p }, { betas = { 1, 2 } })
  s.raises("SGD: params: 2: expected a tensor, got 3", optim.SGD, { p, 3 })
  s.raises("SGD: params: group 1: expected { params = {...}, ... }, got table", optim.SGD, { { p } })
  s.raises("SGD: unknown option 'rate'", optim.SGD, { { params = { p }, rate = 1 } })
  s.raises("StepLR: step_size: expected an integer >= 1, got nothing", optim.StepLR, optim.SGD { p })
  s.raises("StepLR: optimizer: expected an optimizer, got table", optim.StepLR, {}, { step_size = 1 })
  s.raises("MultiStepLR: milestones: expected ascending integers, got table", optim.MultiStepLR, optim.SGD { p }, { milestones = { 2, 1 } })
  local o = optim.SGD { p }
  s.raises("SequentialLR: milestones: expected 0 (one fewer than schedulers), got 1", optim.SequentialLR, o,
    { schedulers = { optim.StepLR(o, { step_size = 1 }) }, milestones = { 1 } })
  s.raises("get_lr: group: expected 1 to 1, got 2", function() optim.StepLR(o, { step_size = 1 }):get_lr(2) end)
  s.raises("load_state_dict: expected 1 groups and 1 parameters, got 0 and 0", o.load_state_dict, o, { groups = {}, state = {} })
  s.raises("load_state_dict: dict: expected { groups, state }, got nil", o.load_state_dict, o)
end

-- Gathered parameters get their gradients where they lie; what a user holds, and layers that are used twice, must not notice.
TestPlaces = {}

function TestPlaces:test_gradients_in_place()
  local function gradients(gather)
    ms.manual_seed(1)
    local conv, norm, held = nn.Conv2d(4, 4, 3, { padding = 1 }), nn.BatchNorm2d(4), {}
    local list = { conv.weight, conv.bias, norm.weight, norm.bias }
    if gather then optim.SGD(list, { lr = .1 }) end
    local x = ms.randn(2, 3, 4, 5, 5)
    for i = 1, 2 do
      for _, p in ipairs(list) do p.grad = nil end
      local y = norm(conv(norm(conv(x)) * i));
      (y * y * y):sum():backward()
      held[i] = conv.weight.grad
    end
    return { held[1], held[2], norm.weight.grad, norm.bias.grad }
  end
  local want, got = gradients(false), gradients(true)
  for i = 1, 4 do s.near(got[i]:flatten(), want[i]:flatten():totable(), 1e-6) end
end

os.exit(lu.LuaUnit.run() == 0)
