-- Losses: the reference cases G1, G2, G3; the regulariser as part of the loss (decision 14); losses and ops written in Lua.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local nn, loss, optim = ms.nn, ms.loss, ms.optim

-- [T, B, C] of G2: O[b][t]
local function logits()
  return ms.tensor { { { .2, -.1 }, { -.4, .6 } }, { { 1, .5 }, { 0, 0 } }, { { .3, .9 }, { 2, -1 } } }:requires_grad_()
end

local function labels() return ms.tensor({ 0, 1 }, { dtype = "int64" }) end

local function weight() return nn.Parameter(ms.tensor { { .5, -.25 }, { 1, 0 } }) end

TestRegulariser = {}

local R = {
  { .013125, { .01, -.005, .02, 0 } }, { .00849075612395, { .00662611789206, -.00400205123063, .00974407205906, 0 } },
  { .00546065484266, { .00413597723665, -.00297203610038, .00503213013445, 0 } },
  { .00347754322406, { .00248981976308, -.00205116613706, .0027291645495, 0 } },
}

function TestRegulariser:test_golden()
  for T = 1, 4 do
    local w = weight()
    local value, each = core.nn.trt({ w }, { lambda = 1e-2, delta = .5, epsilon = 1e-5, T = T })
    local sum, grad = 0, { 0, 0, 0, 0 }
    for t = 1, T do
      sum = sum + R[t][1]
      s.near(each[t]:item(), R[t][1], 2e-6, "r")
      for j = 1, 4 do grad[j] = grad[j] + R[t][2][j] / T end
    end
    s.near(value:item(), sum / T, 2e-6)
    value:backward()
    s.near(w.grad, grad, 1e-5, "dr/dW")
  end
  local w = weight()
  local _, each = core.nn.trt({ w }, { lambda = 1e-5, delta = .25, epsilon = 1e-5, T = 4 })
  s.near((each * 1e5), { 1.3125, 1.05606644051, .849075612395, .681629886371 }, 1e-5)
end

function TestRegulariser:test_first_step_of_the_text()
  local _, each = core.nn.trt({ weight() }, { lambda = 1e-2, delta = .5, epsilon = 1e-5, T = 3, t0 = 1 })
  s.near(each, { R[2][1], R[3][1], R[4][1] }, 2e-6)
end

local settings = { lambda = 1e-2, delta = .5, epsilon = 1e-5, eta = .05 }

TestTRT = {}

function TestTRT:test_golden()
  local o, w = logits(), weight()
  local criterion = loss.TRT({ w }, settings)
  local l = criterion(o, labels())
  s.near(l:item(), 1.0261705668, 2e-6)
  l:backward()
  s.near(o.grad, { -.0740466015, .0665466015, .03924905838, -.04591572505, -.05977727256, .06394393923, .07916666667, -.0875,
    -.1080622485, .1097289152, .1674909034, -.1674909034 }, 2e-5, "dO")
  s.near(w.grad, { .00692069837624, -.00399136244367, .0115920673978, 0 }, 1e-5, "dW")
  s.near(criterion.parts.ce:item(), (.433808465993 + .58361208237 + 2.04303765103) / 3)
  s.near(criterion.parts.mse:item(), (.2425 + .3125 + 2.325) / 3)
  s.near(criterion.parts.reg:item(), (R[1][1] + R[2][1] + R[3][1]) / 3)
  s.near(criterion.parts.loss:item(), l:item())
  s.near(criterion.parts.reg_t, { R[1][1], R[2][1], R[3][1] })
  lu.assertEquals(criterion.correct:item(), 1)
end

function TestTRT:test_which_parameters()
  local net = nn.Sequential { nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2) }
  local function touched(options)
    net:zero_grad()
    loss.TRT(net, options)(logits(), labels()):backward()
    local list = {}
    for name, p in net:named_parameters() do
      if p.grad then list[#list + 1] = name end
    end
    return table.concat(list, " ")
  end
  lu.assertEquals(touched(), "0.weight 1.weight 2.weight")
  lu.assertEquals(touched { reg_params = "weights" }, "0.weight 2.weight")
end

-- Gradient of W alone under f(l), against the closed form times `factor`.
local function regularised(f, factor)
  local w, o = weight(), logits()
  local criterion = loss.TRT({ w }, settings)
  f(function() return criterion(o, labels()) end, w)
  local want = { .00692069837624, -.00399136244367, .0115920673978, 0 }
  for i = 1, 4 do want[i] = want[i] * factor end
  s.near(w.grad, want, 1e-5)
end

function TestTRT:test_scales_with_the_loss()
  regularised(function(l) (l() * 0.5):backward() end, 0.5)
  regularised(function(l) (0.25 * l() + 0.5 * l()):backward() end, 0.75)
end

function TestTRT:test_two_accumulated_backwards()
  regularised(function(l) l():backward(); l():backward() end, 2)
  regularised(function(l, w)
    l():backward()
    lu.assertNotNil(w.grad)
    l():backward()
  end, 2)
end

-- What the optimizer consumes equals what a reader sees: every road to the same step.
function TestTRT:test_fused_and_seen_gradients_agree()
  local function step(look)
    local w = weight()
    local opt = optim.Adam({ w }, { lr = 0.1 })
    for _ = 1, 3 do
      opt:zero_grad()
      loss.TRT({ w }, settings)(logits(), labels()):backward()
      look(w)
      opt:step()
    end
    return w:detach()
  end
  local want = step(function() end)
  s.near(step(function(w) return w.grad:sum() end), want, 1e-6)
  s.near(step(function(w) nn.utils.clip_grad_norm({ w }, 100) end), want, 1e-6)
end

function TestTRT:test_clipping_and_lua_optimizers_see_it()
  local w = weight()
  loss.TRT({ w }, settings)(logits(), labels()):backward()
  local norm = math.sqrt(.00692069837624 ^ 2 + .00399136244367 ^ 2 + .0115920673978 ^ 2)
  s.near(nn.utils.clip_grad_norm({ w }, norm / 2), norm, 1e-5)
  s.near(w.grad:norm():item(), norm / 2, 1e-4)
  w = weight()
  local Plain = optim.Optimizer("Plain", { lr = 1.0 })
  function Plain:update(p, g, _, group) p:sub_(g * group.lr) end
  local opt = Plain { w }
  loss.TRT({ w }, settings)(logits(), labels()):backward()
  opt:step()
  s.near(w, { .5 - .00692069837624, -.25 + .00399136244367, 1 - .0115920673978, 0 }, 1e-6)
end

function TestTRT:test_two_losses_and_a_parameter_in_no_optimizer()
  local a, b, free = weight(), weight(), weight()
  local opt = optim.SGD({ a }, { lr = 1 })
  local both = loss.TRT({ a, b, free }, settings)(logits(), labels()) + loss.TRT({ b }, settings)(logits(), labels())
  both:backward()
  opt:step()
  s.near(a, { .5 - .00692069837624, -.25 + .00399136244367, 1 - .0115920673978, 0 }, 1e-6)
  s.near(free.grad, { .00692069837624, -.00399136244367, .0115920673978, 0 }, 1e-5)
  s.near(b.grad, { 2 * .00692069837624, -2 * .00399136244367, 2 * .0115920673978, 0 }, 1e-5)
end

TestOthers = {}

function TestOthers:test_golden()
  local o = logits()
  local l = loss.TET { mu = .05, phi = 1 } (o, labels())
  s.near(l:item(), 1.01797842981, 2e-6)
  l:backward()
  s.near(o.grad, { -.0740466015, .05821326817, .03091572505, -.04591572505, -.05977727256, .05561060589, .07083333333, -.0875,
    -.1080622485, .1013955818, .1591575701, -.1674909034 }, 2e-5)
  o = logits()
  l = loss.SDT()(o, labels())
  s.near(l:item(), .870703026725, 2e-6)
  l:backward()
  for t = 1, 3 do s.near(o.grad[t], { -.08055658391, .08055658391, .1101260615, -.1101260615 }, 2e-5) end
  s.near(loss.SMSE()(logits(), labels()):item(), .501666666667, 2e-6)
  s.near(loss.LTS()(logits(), labels()):item(), 2.04303765103, 2e-6)
  s.near(loss.CrossEntropy { label_smooth = .01 } (logits()[1], labels()):item(), .437058465993, 2e-6)
  s.near(loss.CrossEntropy()(logits(), labels()):item(), 1.02015273313, 2e-6)
  s.near(loss.MSE(ms.tensor { 1, 2 }, ms.tensor { 2, 4 }):item(), 2.5)
end

function TestOthers:test_a_loss_in_lua()
  local function my_sdt(out, y)
    local logp = out:mean(1):log_softmax(-1)
    return -logp:gather(2, y:view(-1, 1)):mean()
  end
  local a, b = logits(), logits()
  local l = my_sdt(a, labels())
  l:backward()
  loss.SDT()(b, labels()):backward()
  s.near(l:item(), .870703026725, 2e-6)
  s.near(a.grad, b.grad, 2e-5)
end

function TestOthers:test_an_op_in_lua()
  local calls = 0
  local cube = ms.Function {
    name = "cube",
    forward = function(ctx, x) ctx.x = x; return x * x * x end,
    backward = function(ctx, g) calls = calls + 1; return 3 * ctx.x * ctx.x * g end,
  }
  local x = ms.tensor { 1, -2 }:requires_grad_()
  local y = cube(x)
  s.near(y:detach(), { 1, -8 });
  (y * 2):sum():backward()
  s.near(x.grad, { 6, 24 })
  lu.assertEquals(calls, 1)
  s.raises("Function: forward: expected a function(ctx, ...), got nothing", ms.Function, { backward = print })
  s.raises("bad: forward: expected tensors, got 3 as result 1",
    ms.Function { name = "bad", forward = function() return 3 end, backward = print }, x)
end

function TestOthers:test_no_grad_restores()
  local x = ms.ones(1):requires_grad_()
  lu.assertFalse(ms.no_grad(function() return x * 2 end).requires_grad)
  s.raises("inside", ms.no_grad, function() error "inside" end)
  lu.assertTrue((x * 2).requires_grad)
end

TestMessages = {}

function TestMessages:test_all()
  s.raises("TRT: net: expected a module or a list of parameters, got nil", loss.TRT)
  s.raises("TRT: unknown option 'labmda' (known: delta, epsilon, eta, label_smooth, lambda, reg_params, reg_t0)", loss.TRT, { weight() },
    { labmda = 1 })
  s.raises("TRT: reg_t0: expected 0 or 1, got 2", loss.TRT, { weight() }, { reg_t0 = 2 })
  s.raises("TRT: eta: expected a number >= 0 and <= 1, got 2", loss.TRT, { weight() }, { eta = 2 })
  s.raises("SDT: label_smooth: expected a number >= 0 and < 1, got 1", loss.SDT, { label_smooth = 1 })
  s.raises("SDT: logits: expected [T, N, C], got [2, 3]", loss.SDT(), ms.zeros(2, 3), labels())
  s.raises("SDT: y: expected [2] labels (or [2, 2] shares) for logits [3, 2, 2], got [3]", loss.SDT(), logits(), ms.zeros(3, { dtype = "int64" }))
  s.raises("SDT: logits: expected a tensor [T, N, C], got 1", loss.SDT(), 1, labels())
  s.raises("MSE: b: expected [2], got [3]", loss.MSE, ms.zeros(2), ms.zeros(3))
  if ms.device() ~= "cpu" then return end -- a look at the labels costs nothing on the CPU alone
  s.raises("labels", function() loss.SDT()(logits(), ms.tensor({ 0, 2 }, { dtype = "int64" })):item() end)
end

os.exit(lu.LuaUnit.run() == 0)
