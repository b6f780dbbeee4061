-- Fisher information over time: golden case G8, against separate backward passes and closed forms; training that goes on undisturbed.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local nn, fisher = ms.nn, ms.analysis.fisher

local function labels(...) return ms.tensor({ ... }, { dtype = "int64" }) end

-- A loader of the given batches { x, y }, each loop from the first.
local function batches(list)
  local i
  return function(_, control)
    i = control == nil and 1 or i + 1
    if list[i] then return list[i][1], list[i][2] end
  end
end

-- O(t) = W x(t)
local function linear()
  local net = nn.Linear(2, 2, { bias = false })
  ms.no_grad(function() net.weight:copy_(ms.tensor { { .5, -.25 }, { 1, 0 } }) end)
  return net
end

local function conv(classes)
  ms.manual_seed(3)
  local net = nn.Sequential {
    nn.Conv2d(1, 4, 3, { padding = 1, bias = false }), nn.BatchNorm2d(4), nn.LIF(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, classes),
  }
  ms.no_grad(function()
    net[1].weight:mul_(4)
    net[2].running_mean:copy_(ms.tensor { .1, -.2, .3, 0 })
    net[2].running_var:copy_(ms.tensor { .5, 2, 1, .7 })
  end)
  return net
end

local function images(key, n) return ms.randn(3, n, 1, 4, 4, { key = key }) end

TestValues = {}

local two = { ms.tensor { { { 1, 0 }, { 1, 1 } }, { { 0, 1 }, { 0, -1 } } }, labels(0, 1) } -- x [T = 2, N = 2, 2]

function TestValues:test_golden()
  local f = fisher(linear(), batches { two }, { divisor = 1 })
  s.near(f.I, { .09695590422, .04690376057 }, 2e-6)
  s.near(f.centroid, (f.I[1] + 2 * f.I[2]) / (f.I[1] + f.I[2]))
  s.near(fisher(linear(), batches { two }, { mode = "per_sample" }).I, { .5933082331, .2235492034 }, 2e-6)
  lu.assertEquals(ms.analysis.centroid { 4, 2, 1, 1 }, 1.875)
end

-- 101 batches, divided by 100
function TestValues:test_published_number_of_batches()
  local list = {}
  for i = 1, 103 do list[i] = { two[1], i <= 101 and two[2] or labels(1, 0) } end
  local f = fisher(linear(), batches(list))
  s.near(f.I, { 1.01 * .09695590422, 1.01 * .04690376057 }, 2e-6)
  lu.assertEquals({ f.batches, f.samples, f.divisor, f.mode, f.labels }, { 101, 202, 100, "batch", "true" })
  for _, n in ipairs { 1, 100, 103 } do -- others are a mean
    f = fisher(linear(), batches { table.unpack(list, 1, n) }, { batches = n })
    lu.assertEquals({ f.batches, f.divisor }, { n, n })
    if n <= 101 then s.near(f.I, { .09695590422, .04690376057 }, 2e-6) end
  end
  lu.assertEquals(tostring(fisher(linear(), batches { two })), [[
Fisher information over time: mode batch, true labels, 1 batches of 2 samples in all, sums divided by 1
   t        I(t)
   1    0.096956
   2    0.046904
centroid 1.3260]])
end

-- The squared norm of the gradient of every prefix by a forward and a backward of its own.
local function separately(net, x, y, t)
  net:zero_grad()
  local logits = net(x:narrow(1, 1, t)):mean(1)
  local loss = -logits:log_softmax(-1):gather(2, y:view(-1, 1)):mean()
  loss:backward()
  local sum, of = 0, {}
  for name, p in net:named_parameters() do
    of[name] = p.grad:square():sum():item()
    sum = sum + of[name]
  end
  net:zero_grad()
  return sum, of
end

function TestValues:test_against_separate_passes()
  local net, x, y = conv(3), images("x", 5), labels(0, 2, 1, 1, 0)
  local other = { images("other", 2), labels(2, 0) }
  local each, batch = fisher(net, batches { { x, y }, other }, { mode = "per_sample" }), fisher(net, batches { { x, y }, other }, { divisor = 1 })
  net:eval()
  for t = 1, 3 do
    local want, layer = 0, 0
    for _, pair in ipairs { { x, y }, other } do
      for n = 1, #pair[2] do
        local sum, of = separately(net, pair[1]:narrow(2, n, 1), pair[2]:narrow(1, n, 1), t)
        want, layer = want + sum / 7, layer + (of["5.weight"] + of["5.bias"]) / 7
      end
    end
    s.near(each.I[t], want, 1e-5, "per sample")
    s.near(each.layers[3].I[t], layer, 1e-5, "last layer")
    s.near(batch.I[t], separately(net, x, y, t) + separately(net, other[1], other[2], t), 1e-5, "batch")
    s.near(each.layers[1].I[t] + each.layers[2].I[t] + each.layers[3].I[t], each.I[t], 1e-6)
  end
  lu.assertEquals({ each.layers[1].name, each.layers[2].name, each.layers[3].name, #each.layers }, { "0", "1", "5", 3 })
  lu.assertEquals({ each.batches, each.samples, each.divisor }, { 2, 7, 7 })
  -- fewer steps, some of the parameters, shares in place of labels
  lu.assertEquals(fisher(net, batches { { x, y }, other }, { mode = "per_sample", T = 2 }).I, { each.I[1], each.I[2] })
  s.near(fisher(net, batches { { x, y }, other }, { mode = "per_sample", params = net[6]:parameters() }).I, each.layers[3].I, 1e-6)
  s.near(fisher(net, batches { { x, ms.one_hot(y, 3) } }).I, fisher(net, batches { { x, y } }).I, 1e-6)
  net[1]:requires_grad_(false)
  s.near(fisher(net, batches { { x, y }, other }, { mode = "per_sample" }).layers[2].I, each.layers[3].I, 1e-6)
end

-- One sample many times: the mean over answers that the net draws of |f - e|^2 |x|^2, x the mean over the steps, is (1 - |f|^2) |x|^2.
function TestValues:test_sampled_labels()
  local net, n = linear(), 400
  local x = ms.tensor { { { 1, 2 } }, { { -1, .5 } } }
  local many = { x:expand(2, n, 2), ms.zeros({ n }, { dtype = "int64" }) }
  local f = fisher(net, batches { many }, { mode = "per_sample", labels = "sampled", seed = 5 })
  for t = 1, 2 do
    local mean = x:narrow(1, 1, t):mean(1)
    local p = net(mean):softmax(-1):view(-1)
    s.near(f.I[t], (1 - p:square():sum():item()) * mean:square():sum():item(), 0.05, "t = " .. t)
  end
  local few = { ms.randn(2, 4, 2, { key = "few" }), labels(0, 0, 0, 0) }
  local function drawn_by(seed) return fisher(net, batches { few, few }, { mode = "per_sample", labels = "sampled", seed = seed }).I end
  lu.assertEquals(drawn_by(5), drawn_by(5))
  lu.assertNotEquals(drawn_by(6), drawn_by(5))
  -- in mode batch it is the gradient of some answers
  local drawn = fisher(net, batches { few }, { labels = "sampled" }).I
  local found = false
  for code = 0, 15 do
    local y = labels(code & 1, code >> 1 & 1, code >> 2 & 1, code >> 3)
    found = found or math.abs(fisher(net, batches { { few[1], y } }).I[1] - drawn[1]) < 1e-6 * drawn[1]
  end
  lu.assertTrue(found)
end

TestTraining = {}

-- Bytes of weights after a training whose loops, steps and random numbers a call may not disturb.
local function trained(call, captured)
  ms.manual_seed(11)
  local net = nn.Sequential {
    nn.Conv2d(1, 4, 3, { padding = 1, bias = false }), nn.BatchNorm2d(4), nn.published "localzo", nn.AvgPool2d(2), nn.Dropout(0.3), nn.Flatten(),
    nn.Linear(16, 3),
  }
  net[2]:eval()
  local set = ms.data.FromTensors { images = ms.rand(15, 4, 4), labels = ms.randint(0, 3, { 15 }), T = 2, batch_size = 5, shuffle = true,
    augment = { flip = true } }
  local criterion, opt = ms.loss.TRT(net, { lambda = 1e-2 }), ms.optim.Adam(net:parameters(), { lr = 1e-2 })
  local function step(x, y)
    opt:zero_grad()
    criterion(net(x), y):backward()
    if not captured and call then call(net, set) end -- the gradient is there, its part of the penalty not yet
    opt:step()
  end
  if captured then step = ms.capture(step) end
  for _ = 1, 2 do
    for x, y in set do
      step(x, y)
      if captured and call then call(net, set) end
    end
    if call then call(net, set) end
  end
  lu.assertEquals({ net[1].training, net[2].training }, { true, false })
  local bytes = {}
  for _, p in ipairs(net:parameters()) do bytes[#bytes + 1] = p:detach():bytes() end
  return table.concat(bytes)
end

function TestTraining:test_goes_on_undisturbed()
  for _, captured in ipairs { false, true } do
    local plain = trained(nil, captured)
    for _, mode in ipairs { "batch", "per_sample" } do
      local calls = 0
      local same = trained(function(net, set)
        calls = calls + 1
        lu.assertEquals(fisher(net, set, { mode = mode, batches = 2, labels = "sampled" }).batches, 2)
      end, captured) == plain
      lu.assertTrue(same, mode)
      lu.assertEquals(calls, 8)
    end
  end
end

-- Labels of what loops over a set give: one that is left early, whole epochs, one from the middle on.
local function walk(set, call)
  local seen, start = {}, set:state_dict()
  for _, stop in ipairs { 2, 9, 9 } do
    local n = 0
    for _, y in set do
      seen[#seen + 1], n = table.concat(y:totable(), " "), n + 1
      call(set)
      if n == stop then break end
    end
    seen[#seen + 1] = "end"
  end
  start.batch = 3
  set:load_state_dict(start)
  call(set)
  for _, y in set do seen[#seen + 1] = table.concat(y:totable(), " ") end
  return seen
end

function TestTraining:test_position_of_the_data()
  local net = conv(12)
  local sets = {
    function() return ms.data.FromTensors { images = ms.zeros(12, 4, 4), labels = ms.arange(12):long(), T = 3, batch_size = 3, shuffle = true } end,
    function()
      return ms.data.Dataset { size = 12, get = function(i) return ms.zeros(1, 4, 4), i - 1 end, T = 3, batch_size = 3, shuffle = true }
    end,
  }
  for _, make in ipairs(sets) do
    local function call(set) lu.assertEquals(fisher(net, set).batches, 4) end -- a whole epoch, wherever the set stands
    lu.assertEquals(walk(make(), call), walk(make(), function() end))
  end
end

-- The other functions that look at a data set.
local looks = {
  evaluate = ms.evaluate, confusion = ms.confusion, firing_rates = ms.analysis.firing_rates, dead_neurons = ms.analysis.dead_neurons,
}

function TestTraining:test_goes_on_undisturbed_by_other_looks()
  for _, captured in ipairs { false, true } do
    local plain = trained(nil, captured)
    for name, look in pairs(looks) do
      local calls = 0
      local same = trained(function(net, set)
        calls = calls + 1
        lu.assertTrue(calls <= 8, name)
        look(net, set)
      end, captured) == plain
      lu.assertTrue(same, name)
    end
  end
end

function TestTraining:test_random_numbers_of_other_looks()
  local net = conv(3)
  local set = ms.data.FromTensors { images = ms.zeros(6, 4, 4), labels = ms.zeros({ 6 }, { dtype = "int64" }), T = 2, batch_size = 3,
    transform = function(x, y) return x + ms.rand(x.shape), y end }
  for name, look in pairs(looks) do
    local before, drawn = { core.random.state() }, { look(net, set) }
    lu.assertEquals({ core.random.state() }, before, name)
    lu.assertEquals(tostring(drawn[1]), tostring(look(net, set)), name)
  end
end

function TestTraining:test_without_recording_and_after_errors()
  local net, x, y = conv(3), images("x", 2), labels(0, 1)
  local want = fisher(net, batches { { x, y } }).I
  lu.assertEquals(ms.no_grad(fisher, net, batches { { x, y } }).I, want)
  s.raises("boom", fisher, net, function() error "boom" end)
  lu.assertTrue(net.training and net[3].training and ms.is_grad_enabled())
end

function TestTraining:test_refusals()
  local net, one = conv(3), { images("x", 2), labels(0, 1) }
  s.raises("fisher: net: expected a module, got nil", fisher)
  s.raises("fisher: loader: expected a data set or an iterator function, got nil", fisher, net)
  s.raises("fisher: loader: expected at least one batch, got none", fisher, net, function() end)
  s.raises("unknown option 'mod' (known: T, batches, divisor, labels, mode, params, seed)", fisher, net, batches { one }, { mod = 1 })
  s.raises("fisher: mode: expected one of 'batch', 'per_sample', got 'each'", fisher, net, batches { one }, { mode = "each" })
  s.raises("fisher: divisor: expected nothing in mode 'per_sample', which is a mean over samples", fisher, net, batches { one },
    { mode = "per_sample", divisor = 3 })
  s.raises("fisher: T: expected at most 3, the time steps of the logits, got 4", fisher, net, batches { one }, { T = 4 })
  s.raises("fisher: net: expected logits of 3 time steps in every batch, got 2", fisher, net, batches { one, { one[1]:narrow(1, 1, 2), one[2] } })
  s.raises("fisher: loader: expected batches x [T, N, ...], y [N], got tensor [3, 2, 1, 4, 4], tensor [3]", fisher, net,
    batches { { one[1], labels(0, 1, 2) } })
  s.raises("fisher: logits: expected [T, N, C], got [2, 2]", fisher, nn.Linear(2, 2), batches { { ms.zeros(2, 2), labels(0, 1) } })
  s.raises("fisher: params[2]: expected a parameter of net, got tensor [2]", fisher, net, batches { one }, { params = { net[1].weight, ms.zeros(2) } })
  s.raises("fisher: params: expected at least one parameter that requires grad, got none", fisher, net, batches { one }, { params = {} })
  net:requires_grad_(false)
  s.raises("fisher: net: expected at least one parameter that requires grad, got none", fisher, net, batches { one })
  s.raises("fisher: params[1]: expected one that requires grad, got 0.weight, which is frozen", fisher, net, batches { one }, { params = { net[1].weight } })
  s.raises("centroid: I: expected a table, got 3", ms.analysis.centroid, 3)
end

os.exit(lu.LuaUnit.run())
