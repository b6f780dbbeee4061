-- TKS, TET-S (G3); TRT's penalty as one static penalty, the controls that its paper lacks, its effective strength.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn, loss, optim = ms.nn, ms.loss, ms.optim

local function labels(...) return ms.tensor({ ... }, { dtype = "int64" }) end

TestTKS = {}

local function one_sample() return ms.tensor { { { 2, 0 } }, { { 0, 1 } }, { { 1, .5 } } }:requires_grad_() end

-- a = 1 - 0.3 * 1 / 2 = 0.85
local function run(options)
  options.alpha, options.epochs, options.temperature = 0.3, 2, 3
  local o, criterion = one_sample(), loss.TKS(options):set_epoch(1)
  local l = criterion(o, labels(0))
  l:backward()
  return l:item(), o.grad, criterion
end

function TestTKS:test_golden()
  local value, grad, criterion = run {}
  s.near(value, 1.468870427, 2e-6)
  s.near(criterion.parts.ce:item(), .4740769842, 5e-6)
  s.near(criterion.parts.kd:item(), 7.10603327, 2e-6)
  s.near(criterion.parts.loss:item(), value)
  s.near(grad, { -.07180056754, .07180056754, -.2996228943, .2996228943, -.1880525536, .1880525536 }, 2e-5)
  lu.assertEquals(criterion.correct:item(), 1)
end

function TestTKS:test_golden_without_gradient_through_the_teacher()
  local value, grad = run { detach_teacher = true }
  s.near(value, 1.468870427, 2e-6)
  s.near(grad, { -.02428784885, .02428784885, -.2996228943, .2996228943, -.1405398349, .1405398349 }, 2e-5)
end

function TestTKS:test_no_step_is_right()
  local o = ms.tensor { { { 0, 1, 0 } }, { { 0, 2, 1 } } }
  local criterion = loss.TKS { epochs = 1, alpha = 1, temperature = 2 }:set_epoch(1) -- the teacher alone
  local want = 0
  for t = 1, 2 do want = want - 4 * o[t]:log_softmax(-1):mean():item() / 2 end
  s.near(criterion(o, labels(0)):item(), want, 1e-5)
  s.near(loss.TKS { epochs = 5 } (o, labels(0)):item(), loss.SDT()(o, labels(0)):item()) -- the first epoch: CE alone
end

function TestTKS:test_mean_of_the_teachers()
  local function teacher(kind)
    return loss.TKS { epochs = 1, alpha = 1, temperature = 1, teacher = kind }:set_epoch(1)(one_sample(), labels(0)):item()
  end
  local logp = one_sample():log_softmax(-1):mean(1):view(2)
  local function expected(divide)
    local q = (ms.tensor { 3, .5 } / divide):softmax(-1)
    return -(logp * q):sum():item()
  end
  s.near(teacher "sum", expected(1), 1e-5)
  s.near(teacher "mean", expected(2), 1e-5)
end

function TestTKS:test_shares_and_messages()
  local o = one_sample()
  s.near(loss.TKS { epochs = 2 }:set_epoch(1)(o, ms.tensor { { 1, 0 } }):item(), loss.TKS { epochs = 2 }:set_epoch(1)(o, labels(0)):item(), 1e-6)
  s.raises("TKS: epochs: expected an integer >= 1, got nothing", loss.TKS)
  s.raises("set_epoch: epoch: expected an integer >= 0 and <= 3, got 4", function() loss.TKS { epochs = 3 }:set_epoch(4) end)
  s.raises("TKS: logits: expected [T, N, C], got [2, 3]", loss.TKS { epochs = 1 }, ms.zeros(2, 3), labels(0, 1))
end

TestOthers = {}

function TestOthers:test_tet_s_is_tet_with_smooth_labels()
  local o = ms.randn(3, 4, 5, { key = "o" })
  local y = labels(0, 4, 2, 1)
  s.near(loss.TET_S()(o, y):item(), loss.TET { mu = 0, label_smooth = 0.01 } (o, y):item())
  local want = 0
  for t = 1, 3 do
    local logp = o[t]:log_softmax(-1)
    want = want - (0.99 * logp:gather(2, y:view(-1, 1)):mean():item() + 0.01 * logp:mean():item()) / 3
  end
  s.near(loss.TET_S()(o, y):item(), want, 1e-5)
end

function TestOthers:test_lts_counts_the_last_step()
  local o = ms.tensor { { { 9, 0 }, { 9, 0 } }, { { 0, 1 }, { 0, 1 } } }
  local lts, sdt = loss.LTS(), loss.SDT()
  lts(o, labels(1, 0))
  sdt(o, labels(1, 0))
  lu.assertEquals({ lts.correct:item(), sdt.correct:item() }, { 1, 1 })
  lts(o, labels(1, 1))
  sdt(o, labels(1, 1))
  lu.assertEquals({ lts.correct:item(), sdt.correct:item() }, { 2, 0 })
end

-- ---- the penalty of TRT ----

local T = 4
local opts = { lambda = 1e-2, delta = 0.5, epsilon = 1e-5, eta = 0.05 }

local function with(more)
  local out = {}
  for k, v in pairs(opts) do out[k] = v end
  for k, v in pairs(more or {}) do out[k] = v end
  return out
end

local function make()
  ms.manual_seed(2)
  local net = nn.Sequential { nn.Linear(4, 6), nn.BatchNorm1d(6), nn.PLIF { v0 = "learnable", v0_shape = { 6 } }, nn.Linear(6, 3) }
  ms.no_grad(function() net[2].weight:copy_(ms.tensor { .5, 1, 1.5, -1, 2, .1 }) end)
  return net
end

local x = ms.randn(T, 5, 4, { key = "x" }) * 2
local y = labels(0, 1, 2, 1, 0)

local function reversed(t)
  local list = {}
  for i = 1, #t do list[i] = t[#t + 1 - i] end
  return ms.stack(list, 1)
end

TestPenalty = {}

-- Outputs in reverse order of time: the same loss, the same penalty, the same gradient of the weights.
function TestPenalty:test_reversing_t_changes_nothing()
  local w = nn.Parameter(ms.tensor { { .5, -.25 }, { 1, 0 } })
  local criterion = loss.TRT({ w }, opts)
  local o = ms.randn(T, 5, 3, { key = "logits" })
  local function run(logits)
    w.grad = nil
    logits = logits:clone():requires_grad_()
    local l = criterion(logits, y)
    l:backward()
    return l:item(), criterion.parts.reg:item(), w.grad:totable(), logits.grad:totable()
  end
  local value, reg, dw, d = run(o)
  local value2, reg2, dw2, d2 = run(reversed(o))
  s.near(value2, value, 1e-6)
  lu.assertEquals({ reg2, dw2 }, { reg, dw })
  for t = 1, T do s.near(d2[t], d[T + 1 - t], 1e-6) end
  -- the terms summed the other way round
  local sum = 0
  local each = criterion.parts.reg_t:totable()
  for t = T, 1, -1 do sum = sum + each[t] end
  s.near(reg, sum / T, 1e-6)
  -- whatever the logits are, the penalty is the same
  run(o * 7 - 3)
  lu.assertEquals(criterion.parts.reg:item(), reg)
end

local function sum_of_squares(list)
  local sum = 0
  for _, p in ipairs(list) do sum = sum + p:square():sum():item() end
  return sum
end

function TestPenalty:test_without_delta_it_is_plain_l2()
  local net = make()
  local weights, gammas = { net[1].weight, net[4].weight }, { net[2].weight }
  local out = net(x):detach()
  for steps = 1, T do
    net:zero_grad()
    local criterion = loss.Control(net, with { which = "no_delta" })
    criterion(out:narrow(1, 1, steps), y):backward()
    s.near(criterion.parts.reg:item(), 1e-2 * (sum_of_squares(weights) + sum_of_squares(gammas)), 1e-5)
    for _, p in ipairs { net[1].weight, net[4].weight, net[2].weight } do s.near(p.grad, p:detach() * 2e-2, 1e-5) end
    for _, p in ipairs { net[1].bias, net[2].bias, net[3].w, net[3].v0 } do lu.assertNil(p.grad) end
  end
end

function TestPenalty:test_which_parameters()
  local net = make()
  local function touched(criterion)
    net:zero_grad()
    criterion(net(x):detach(), y):backward()
    local list = {}
    for name, p in net:named_parameters() do
      if p.grad then list[#list + 1] = name end
    end
    return table.concat(list, " ")
  end
  lu.assertEquals(touched(loss.TRT(net)), "0.weight 1.weight 3.weight")
  lu.assertEquals(touched(loss.TRT(net, { reg_params = "all but biases" })), "0.weight 1.weight 2.w 2.v0 3.weight")
  lu.assertEquals(touched(loss.Control(net, { which = "weights_only" })), "0.weight 3.weight")
  local list = { net[1].weight, net[2].weight } -- which TRT penalises altogether
  lu.assertEquals(touched(loss.TRT(list, { reg_params = "weights" })), "0.weight 1.weight")
  lu.assertEquals(touched(loss.Control(list, { which = "weights_only" })), "0.weight")
  lu.assertEquals(touched(loss.L2(net, { weights = 1 })), "0.weight 3.weight")
  lu.assertEquals(touched(loss.L2(net, { weights = 1, gammas = 1 })), "0.weight 1.weight 3.weight")
end

TestControls = {}

local function reg_of(criterion, net)
  criterion(net(x):detach(), y)
  return criterion.parts.reg:item()
end

function TestControls:test_fitted_l2_equals_trt_at_the_start()
  local net = make()
  for _, more in ipairs { {}, { delta = 0 }, { reg_t0 = 1, delta = 1 }, { lambda = 1e-5, delta = 0.25 } } do
    local trt = loss.TRT(net, with(more))
    local fitted = loss.Control(net, with { which = "fitted_l2", T = T, lambda = more.lambda or opts.lambda, delta = more.delta or opts.delta,
      reg_t0 = more.reg_t0 })
    lu.assertEquals(getmetatable(fitted).class.name, "L2")
    s.near(reg_of(fitted, net), reg_of(trt, net), 2e-6)
    -- each of the two parts
    local only = with(more)
    only.reg_params = "weights"
    s.near(fitted.options.weights * sum_of_squares { net[1].weight, net[4].weight }, reg_of(loss.TRT(net, only), net), 2e-6)
    s.near(fitted.options.gammas * sum_of_squares { net[2].weight }, reg_of(loss.TRT({ net[2].weight }, with(more)), net), 2e-6)
    -- the whole loss too
    s.near(fitted(net(x), y):item(), trt(net(x), y):item(), 1e-5)
  end
  local no_delta = loss.Control(net, with { which = "fitted_l2", T = T, delta = 0 })
  s.near(no_delta.options.weights, opts.lambda, 1e-5)
  s.near(no_delta.options.gammas, opts.lambda, 1e-5)
  lu.assertEquals(loss.Control(net, with { which = "fitted_l2", T = T, reg_params = "weights" }).options.gammas, 0)
end

function TestControls:test_gradient_of_the_fitted_penalty()
  local net = make()
  local l2 = loss.L2(net, { weights = 0.01, gammas = 0.03, eta = 0 })
  l2(net(x):detach(), y):backward()
  s.near(net[1].weight.grad, net[1].weight:detach() * 0.02, 1e-5)
  s.near(net[2].weight.grad, net[2].weight:detach() * 0.06, 1e-5)
end

-- The published code's --l2: CE of the mean logits and every parameter, biases and betas too.
function TestControls:test_published_l2()
  local net = make()
  local l2 = loss.L2(net, { weights = .01, gammas = .01, others = .01, eta = 0, over = "mean" })
  local out, all = net(x):detach(), {}
  for i, p in ipairs(net:parameters()) do all[i] = p:detach() end
  local value = l2(out, y)
  s.near(value:item(), loss.SDT()(out, y):item() + .01 * sum_of_squares(all), 1e-5)
  value:backward()
  for i, p in ipairs(net:parameters()) do s.near(p.grad, all[i] * .02, 1e-5) end
end

function TestControls:test_the_others()
  local net = make()
  local out = net(x):detach()
  local no_lambda = loss.Control(net, with { which = "no_lambda" })
  s.near(no_lambda(out, y):item(), 0.95 * loss.CrossEntropy()(out, y):item() + 0.05 * no_lambda.parts.mse:item(), 1e-5)
  lu.assertEquals(no_lambda.parts.reg:item(), 0)
  local no_eta = loss.Control(net, with { which = "no_eta" })
  s.near(no_eta(out, y):item(), loss.CrossEntropy()(out, y):item() + no_eta.parts.reg:item(), 1e-5)
  s.near(no_eta.parts.reg:item(), reg_of(loss.TRT(net, opts), net))
end

function TestControls:test_messages()
  local net = make()
  s.raises("Control: which: expected one of 'fitted_l2', 'no_delta', 'no_eta', 'no_lambda', 'weights_only', got 'l2'", loss.Control, net,
    { which = "l2" })
  s.raises("Control: T: expected the time steps that the penalty is fitted for, got nothing", loss.Control, net, { which = "fitted_l2" })
  s.raises("Control: net: expected a module or a list of parameters, got nil", loss.Control)
  s.raises("L2: weights: expected a number >= 0, got nothing", loss.L2, net)
  s.raises("TRT: net: expected parameters to regularise (weights+gammas), got none",
    function() loss.TRT(nn.PLIF())(ms.zeros(2, 5, 3), y) end)
end

TestStrength = {}

-- The coefficient is the gradient of the penalty over the weight.
function TestStrength:test_against_the_gradient()
  local values = { .001, -.01, .05, -.2, .7, 1.5 }
  for _, o in ipairs { {}, { delta = 0.5, lambda = 5e-5 }, { delta = 1, reg_t0 = 1, T = 6, epsilon = 1e-2 }, { delta = 0 } } do
    local w = nn.Parameter(ms.tensor(values):view(2, 3))
    local report = loss.strength({ w }, o)
    local r = report.options
    ms.nn.functional.trt({ w }, { lambda = r.lambda, delta = r.delta, epsilon = r.epsilon, t0 = math.tointeger(r.reg_t0), T = r.T }):backward()
    local c = (w.grad / w:detach()):view(6):totable()
    s.near(report.weights[1].coefficient, c[1], 1e-4)
    s.near(report.weights[6].coefficient, c[6], 1e-4)
    s.near(report.weights[1].size, .001)
    s.near(report.weights[6].size, 1.5)
    s.near(report.weights.coefficient, (w.grad * w:detach()):sum():item() / w:square():sum():item(), 1e-4)
    local mean = 0
    for _, each in ipairs(report.weights[6].each) do mean = mean + each / r.T end
    s.near(mean, report.weights[6].coefficient)
  end
end

function TestStrength:test_report()
  local net = make()
  local text = tostring(loss.strength(net, { lambda = 1e-5, delta = 0.25, T = 4 }))
  lu.assertStrContains(text, "weights (42)")
  lu.assertStrContains(text, "gammas (6)")
  lu.assertStrContains(text, "one static penalty")
  lu.assertNotStrContains(text, "all but plain L2")
  lu.assertStrContains(tostring(loss.strength(net, { delta = 0.01 })), "which is all but plain L2")
  s.raises("strength: unknown option 'eta'", loss.strength, net, { eta = 1 })
  s.raises("strength: net: expected parameters to regularise, got none", loss.strength, nn.PLIF())
end

-- ---- in training ----

TestTraining = {}

local function train(criterion_of, captured)
  local net = make()
  local opt = optim.Adam(net:parameters(), { lr = 0.05 })
  local criterion = criterion_of(net)
  local function step(a, b)
    opt:zero_grad()
    local l = criterion(net(a), b)
    l:backward()
    opt:step()
    return l
  end
  if captured then step = ms.capture(step) end
  local values = {}
  for i = 1, 6 do
    if criterion.set_epoch then criterion:set_epoch(i) end
    values[i] = ("%a"):format(step(x, y):item())
  end
  return table.concat(values, " ")
end

for name, make_criterion in pairs {
  tks = function() return loss.TKS { epochs = 6 } end, l2 = function(net) return loss.L2(net, { weights = 0.01, gammas = 0.02 }) end,
  fitted = function(net) return loss.Control(net, with { which = "fitted_l2", T = T }) end } do
  TestTraining["test_captured_" .. name] = function() lu.assertEquals(train(make_criterion, true), train(make_criterion, false)) end
end

os.exit(lu.LuaUnit.run() == 0)
