-- Decision 14 as a user meets it: the regulariser inside the loss (which backward may leave pending and the optimizer consume)
-- against the same regulariser written with plain ops, over whole steps of every optimizer. Decision 13: arenas seen from Lua.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn, optim, loss = ms.nn, ms.optim, ms.loss

local T, settings = 3, { lambda = 0.05, delta = 0.5, epsilon = 1e-3, eta = 0 }

local function make()
  ms.manual_seed(9)
  local net = nn.Sequential { nn.Linear(4, 5, { bias = false }), nn.BatchNorm1d(5), nn.LIF { tau = 2, surrogate = "atan" }, nn.Linear(5, 3) }
  net:parameters()
  return net
end

local x, y
do
  ms.manual_seed(4)
  x, y = ms.randn(T, 6, 4) * 2, ms.tensor({ 0, 1, 2, 0, 1, 2 }, { dtype = "int64" })
end

-- lambda * sum w^2 / (1 + k_t (|w| + eps)), meaned over t, by the tape
local function plain_regulariser(params)
  local total = ms.zeros(1)
  for t = 0, T - 1 do
    local k = math.exp(settings.delta * t) - 1
    for _, w in ipairs(params) do
      total = total + (w:square() / ((w:abs() + settings.epsilon) * k + 1)):sum() * (settings.lambda / T)
    end
  end
  return total:sum()
end

local function regularised(net) return { net[1].weight, net[2].weight, net[4].weight } end

-- criterion(out): the loss either with the library's regulariser or with the one above
local function criteria(net, opts)
  local own = { lambda = settings.lambda, delta = settings.delta, epsilon = settings.epsilon, eta = settings.eta }
  for k, v in pairs(opts or {}) do own[k] = v end
  local ce = loss.CrossEntropy()
  return loss.TRT(net, own), function(o, l) return ce(o, l) + plain_regulariser(regularised(net)) end
end

local kinds = {
  sgd = function(p) return optim.SGD(p, { lr = 0.2 }) end,
  nesterov = function(p) return optim.SGD(p, { lr = 0.1, momentum = 0.9, nesterov = true, weight_decay = 0.01 }) end,
  adam = function(p) return optim.Adam(p, { lr = 0.05, weight_decay = 0.1 }) end,
  adamw = function(p) return optim.AdamW(p, { lr = 0.05, weight_decay = 0.1 }) end,
  lua = function(p)
    local Plain = optim.Optimizer("Plain", { lr = 0.2 })
    function Plain:update(w, g, _, group) w:sub_(g * group.lr) end
    return Plain(p)
  end,
  half = function(p) return optim.SGD({ p[1], p[3] }, { lr = 0.2 }) end, -- the others are in no optimizer
}

local ways = {
  plain = function(l) l():backward() end,
  half = function(l) (l() * 0.5):backward() end,
  minus = function(l) (l() * -1):backward() end,
  twice = function(l) l():backward() l():backward() end,
  two_losses = function(l) (l() + l() * 0.25):backward() end,
  retained = function(l)
    local v = l()
    v:backward(nil, { retain_graph = true })
    v:backward()
  end,
  seed = function(l) l():backward(ms.tensor(3)) end,
  reading = function(l, net)
    l():backward()
    lu.assertNotNil(net[1].weight.grad)
  end,
  reading_between = function(l, net)
    l():backward()
    local _ = net[4].weight.grad:norm():item()
    l():backward()
  end,
  clip_norm = function(l, net)
    l():backward()
    lu.assertTrue(nn.utils.clip_grad_norm(net:parameters(), 0.05):item() > 0.05)
  end,
  clip_value = function(l, net)
    l():backward()
    nn.utils.clip_grad_value(net:parameters(), 0.01)
  end,
  assigning = function(l, net)
    l():backward()
    net[1].weight.grad = net[1].weight.grad * 2
  end,
  scaling = function(l, net)
    l():backward()
    net[1].weight.grad:mul_(3)
  end,
  frozen_norm = function(l, net)
    net[2]:requires_grad_(false)
    l():backward()
    net[2]:requires_grad_(true)
  end,
}

TestTwin = {}

for kind, optimizer in pairs(kinds) do
  for way, f in pairs(ways) do
    TestTwin[("test_%s_%s"):format(kind, way)] = function()
      local nets = { make(), make() }
      for i, net in ipairs(nets) do
        local criterion = select(i, criteria(net))
        local opt = optimizer(net:parameters())
        for _ = 1, 3 do
          opt:zero_grad()
          net:zero_grad()
          f(function() return criterion(net(x), y) end, net)
          opt:step()
        end
      end
      local want = nets[2]:state_dict()
      for name, p in pairs(nets[1]:state_dict()) do s.near(p, want[name], 2e-4, name) end
      for name, p in nets[1]:named_parameters() do
        local q
        for other, r in nets[2]:named_parameters() do q = other == name and r or q end
        lu.assertEquals(p.grad == nil, q.grad == nil, name)
        if p.grad then s.near(p.grad, q.grad, 5e-4, name .. ".grad") end
      end
    end
  end
end

function TestTwin:test_the_value_contains_it()
  local net = make()
  local a, b = criteria(net)
  s.near(a(net(x), y):item(), b(net(x), y):item(), 1e-5)
end

function TestTwin:test_no_grad_and_evaluation_leave_nothing_pending()
  local net = make()
  local criterion = criteria(net)
  local opt = optim.SGD(net:parameters(), { lr = 1 })
  local before = net[1].weight:totable()
  ms.no_grad(function() return criterion(net(x), y):item() end)
  criterion(net(x), y) -- never goes backward
  opt:step()
  lu.assertEquals(net[1].weight:totable(), before)
  lu.assertNil(net[1].weight.grad)
end

function TestTwin:test_zero_grad_drops_what_is_pending()
  local net = make()
  local criterion = criteria(net)
  local opt = optim.SGD(net:parameters(), { lr = 1 })
  local before = net[1].weight:totable()
  criterion(net(x), y):backward()
  opt:zero_grad()
  lu.assertNil(net[1].weight.grad)
  opt:step()
  lu.assertEquals(net[1].weight:totable(), before)
end

TestArena = {}

local function step(net, opt, criterion)
  opt:zero_grad()
  criterion(net(x), y):backward()
  opt:step()
end

function TestArena:test_a_handle_a_view_and_a_copy_taken_before()
  local net = make()
  local handle, view, copy = net[1].weight, net[1].weight:detach():select(1, 1), net[1].weight:detach():clone()
  local opt = optim.SGD(net:parameters(), { lr = 1 })
  step(net, opt, loss.SDT())
  lu.assertTrue(rawequal(handle, net[1].weight))
  lu.assertEquals(view:totable(), handle:totable()[1])
  lu.assertNotEquals(copy:totable()[1], view:totable())
end

function TestArena:test_one_parameter_under_two_names()
  local net = nn.Sequential { nn.Linear(4, 4, { bias = false }), nn.Linear(4, 4, { bias = false }) }
  net[2].weight = net[1].weight
  local w0 = net[1].weight:detach():clone()
  local opt = optim.SGD(net:parameters(), { lr = 1 })
  opt:zero_grad()
  local input = ms.ones(2, 4)
  net(input):sum():backward()
  local g = net[1].weight.grad:clone()
  opt:step()
  s.near(net[2].weight:detach(), w0 - g, 1e-5)
  -- the gradient is that of both uses
  local a, b = w0:clone():requires_grad_(), w0:clone():requires_grad_()
  input:matmul(a:t()):matmul(b:t()):sum():backward()
  s.near(g, a.grad + b.grad, 1e-5)
end

function TestArena:test_the_same_parameter_in_two_groups_is_refused()
  local net = nn.Linear(2, 2)
  s.raises("is given twice", optim.SGD, { { params = { net.weight } }, { params = { net.weight } } })
end

function TestArena:test_load_to_and_freezing_while_training()
  local net = make()
  local opt = optim.Adam(net:parameters(), { lr = 0.1 })
  local criterion = loss.TRT(net)
  step(net, opt, criterion)
  local saved = {}
  for name, t in pairs(net:state_dict()) do saved[name] = t:clone() end
  local handle = net[4].weight
  step(net, opt, criterion)
  net:load_state_dict(saved)
  lu.assertTrue(rawequal(handle, net[4].weight))
  s.near(handle:detach(), saved["3.weight"], 1e-9)
  net:to(ms.device())
  lu.assertTrue(rawequal(handle, net[4].weight))
  net[4]:requires_grad_(false)
  step(net, opt, loss.SDT())
  s.near(handle:detach(), saved["3.weight"], 1e-9)
  lu.assertNil(handle.grad)
  net[4]:requires_grad_(true)
  step(net, opt, criterion)
  lu.assertNotEquals(handle:totable(), saved["3.weight"]:totable())
end

function TestArena:test_a_layer_added_later()
  local net = make()
  local opt = optim.SGD(net:parameters(), { lr = 0.1 })
  step(net, opt, loss.SDT())
  net:add(nn.Linear(3, 3))
  local all = optim.SGD(net:parameters(), { lr = 0.1 })
  local before = net[5].weight:detach():clone()
  step(net, all, loss.TRT(net))
  lu.assertNotEquals(net[5].weight:totable(), before:totable())
  step(net, opt, loss.SDT()) -- the first one still works
end

os.exit(lu.LuaUnit.run() == 0)
