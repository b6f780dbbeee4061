-- ms.monitor: closed forms, the same bits of a training with it and without, captured steps, refusals.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local nn, optim, loss = ms.nn, ms.optim, ms.loss

local neurons = { "firing", "surrogate", "membranes" }
local everything = { "dead", "deltas", "firing", "gradients", "membranes", "surrogate", "synops", "weights" }

TestByHand = {}

-- Inputs 1 and 0.125 at each of four steps, threshold 1.25, membranes 1, 2 (a spike), 1, 2 and 1/8, 2/8, 3/8, 4/8.
function TestByHand:test_neurons()
  local net = nn.Sequential { nn.IF { v_threshold = 1.25 } }
  local mon = ms.monitor(net, { what = neurons })
  net(ms.tensor { 1, 0.125 }:expand(4, 3, 2))
  local row = mon:step()
  lu.assertEquals(row.step, 1)
  lu.assertEquals({ row.rate, row.rate_t }, { { ["0"] = 0.25 }, { ["0"] = { 0, 0.5, 0, 0.5 } } })
  lu.assertEquals({ row.coverage, row.coverage_t }, { { ["0"] = 0.75 }, { ["0"] = { 0.5, 0.5, 1, 1 } } })
  lu.assertEquals({ row.slope, row.slope_t }, { { ["0"] = 2.375 / 8 }, { ["0"] = { 0.375, 0.125, 0.4375, 0.25 } } })
  lu.assertEquals({ row.membrane, row.membrane_t }, { { ["0"] = 7.25 / 8 }, { ["0"] = { 0.5625, 1.125, 0.6875, 1.25 } } })
  s.near(row.membrane_std_t["0"], { 0.4375, 0.875, 0.3125, 0.75 }, 1e-6)
  local square = (2 * (1 + 4) + (1 + 4 + 9 + 16) / 64) / 8
  s.near(row.membrane_std["0"], math.sqrt(square - (7.25 / 8) ^ 2), 1e-6)
  lu.assertEquals(tostring(mon), ("step 1\nlayer  rate  coverage  slope   membrane  membrane_std\n0      0.25  0.75      0.2969  0.9062    %.4g"):format(row.membrane_std["0"]))
  mon:close()
end

-- The surrogates as kernels/math/surrogate.h has them, and functions in Lua.
function TestByHand:test_slopes_of_every_surrogate()
  local pi, exp = math.pi, math.exp
  local by_hand = {
    triangle = function(u, a) return math.max(0, a - math.abs(u)) / a ^ 2 end,
    rectangle = function(u, a) return math.abs(u) < 1 / (2 * a) and a or 0 end,
    atan = function(u, a) return a / 2 / (1 + (pi / 2 * a * u) ^ 2) end,
    sigmoid = function(u, a) return a * exp(-a * u) / (1 + exp(-a * u)) ^ 2 end,
    qgate = function(u, a) return math.max(0, a - a ^ 2 * math.abs(u)) end,
    gaussian = function(u, a) return exp(-u * u / (2 * a * a)) / (a * math.sqrt(2 * pi)) end,
  }
  for name in pairs(core.nn.surrogates()) do lu.assertNotNil(by_hand[name], name) end
  local h = { { -3, 0.25 }, { 0.5, 1.125 }, { 0.625, 2 } }
  for name, f in pairs(by_hand) do
    for _, a in ipairs { 0.5, 2 } do
      for _, kind in ipairs { nn.LIF, nn.PLIF } do
        local want = {}
        for t, row in ipairs(h) do
          for i, v in ipairs(row) do want[2 * t - 2 + i] = f(v - 0.5, a) end
        end
        s.near(kind { surrogate = name, alpha = a, v_threshold = 0.5, detach_reset = true }:slope(ms.tensor(h)), want, 2e-5, name)
      end
    end
  end
  local lif = nn.LIF { surrogate = function(u) return u * u + ms.rand(u.shape) * 0 end, v_threshold = 0.5 }
  local seed, draws = core.random.state()
  lu.assertEquals(lif:slope(ms.tensor { { 1, 3 } }):totable(), { { 0.25, 6.25 } })
  lu.assertEquals({ core.random.state() }, { seed, draws })
end

-- loss = sum over t of t * sum y(t): its gradient by y(t) is t everywhere.
function TestByHand:test_deltas()
  local net = nn.Sequential { nn.Linear(3, 2), nn.Linear(2, 5) }
  local mon <close> = ms.monitor(net, { what = { "deltas" } })
  local function pass() (net(ms.randn(4, 3, 3)) * ms.tensor { 1, 2, 3, 4 }:view(4, 1, 1)):sum():backward() end
  pass()
  local row = mon:step()
  s.near(row.delta_t["1"], { math.sqrt(15), 2 * math.sqrt(15), 3 * math.sqrt(15), 4 * math.sqrt(15) })
  s.near(row.delta["1"], math.sqrt(15 * 30))
  local back = math.sqrt(3) * net[2].weight:detach():sum(1):norm():item() -- of [3, 2] at t: t times the columns' sums
  s.near(row.delta_t["0"], { back, 2 * back, 3 * back, 4 * back })
  pass()
  pass()
  s.near(mon:step().delta_t["1"], { math.sqrt(30), 2 * math.sqrt(30), 3 * math.sqrt(30), 4 * math.sqrt(30) })
  net(ms.randn(3, 3)):sum():backward() -- no time
  s.near(mon:step().delta_t["1"], { math.sqrt(15) })
  local conv = nn.Conv2d(1, 2, 3)
  local other <close> = ms.monitor(conv, { what = { "deltas" } })
  conv(ms.rand(3, 1, 4, 4):unsqueeze(1):expand(5, -1, -1, -1, -1)):sum():backward() -- computed once: each of 24 outputs has 5
  lu.assertEquals(other:step().delta_t, { Conv2d = { 5 * math.sqrt(24) } })
end

function TestByHand:test_gradients_and_weights()
  local net = nn.Sequential { nn.Linear(3, 2), nn.LIF(), nn.Linear(2, 2, { bias = false }) }
  net[1].bias:requires_grad_(false)
  local opt = optim.SGD(net:parameters(), { lr = 0.1 })
  local mon <close> = ms.monitor(net, { what = { "gradients", "weights" } })
  net(ms.randn(4, 3, 3)):square():sum():backward()
  optim.clip_grad_norm(net:parameters(), 0.01)
  opt:step()
  local row, total, all = mon:step(), 0, 0
  for name, p in net:named_parameters() do
    local g, w = p.grad and p.grad:norm():item(), p:detach():norm():item()
    lu.assertEquals(row.gradients[name], g, name)
    lu.assertEquals(row.weights[name], w, name)
    total, all = total + (g or 0) ^ 2, all + w ^ 2
  end
  lu.assertNil(row.gradients["0.bias"])
  s.near({ row.gradient, row.weight }, { math.sqrt(total), math.sqrt(all) }, 1e-12)
  s.near(row.gradient, 0.01, 1e-3)
  lu.assertNil(row.rate)
  lu.assertEquals(tostring(mon), ("step 1  gradient norm %.4g  weight norm %.4g"):format(row.gradient, row.weight))
end

-- Inputs 2, 0, 0.75 of three samples, threshold 1: the first neuron fires at every step, the second never, the third in some steps.
function TestByHand:test_idle_neurons()
  local net = nn.Sequential { nn.Flatten(), nn.IF { v_threshold = 1, v_reset = 0 }, nn.Linear(4, 2) }
  local mon <close> = ms.monitor(net, { what = { "dead" } })
  local x = ms.tensor { { 2, 0, 0.75, 0 }, { 3, 0, 0.75, 2 } }:view(1, 2, 4):expand(4, 2, 4)
  net(x)
  local row = mon:step()
  lu.assertEquals({ row.dead, row.saturated }, { { ["1"] = 0.25 }, { ["1"] = 0.25 } })
  lu.assertNil(row.rate)
  net(x)
  net(x * 0 + 2) -- passes of one step are taken together
  row = mon:step()
  lu.assertEquals({ row.dead, row.saturated }, { { ["1"] = 0 }, { ["1"] = 0.25 } })
  lu.assertStrContains(tostring(mon), "layer  dead  saturated\n1      0     0.25")
  for t = 1, 4 do net:step(x[t]) end
  row = mon:step()
  lu.assertEquals({ row.dead, row.saturated }, { { ["1"] = 0.25 }, { ["1"] = 0.25 } })
end

function TestByHand:test_operations()
  local net = nn.Sequential { nn.Linear(2, 3), nn.IF(), nn.Linear(3, 5) }
  ms.no_grad(function()
    net[1].weight:fill_(0)
    net[1].bias:copy_(ms.tensor { 2, 0, 2 })
  end)
  local mon <close> = ms.monitor(net, { what = { "synops" } })
  local function check(times, samples)
    local row = mon:step()
    lu.assertEquals(row.operations, { ["0"] = times * 4 * 6, ["2"] = times * 4 * 10 }) -- two of three neurons fire, at four steps
    lu.assertEquals(row.synops, times * 4 * 10)
    s.near({ row.energies["0"], row.energies["2"], row.energy }, { times * 24 * 4.6e-6, times * 40 * 0.9e-6, times * (24 * 4.6e-6 + 40 * 0.9e-6) }, 1e-12)
  end
  net(ms.randn(4, 7, 2))
  check(1)
  lu.assertStrContains(tostring(mon), "step 1  40 synaptic operations, 0.0001464 uJ\nlayer  operations\n0      24\n2      40")
  net(ms.randn(4, 7, 2))
  net(ms.randn(4, 2, 2)) -- another batch size: those of one sample add up
  check(2)
  for t = 1, 4 do net:step(ms.randn(7, 2)) end
  check(1)
  net:reset_state()
  net(ms.randn(7, 2):unsqueeze(1):expand(4, -1, -1)) -- computed once, counted at each step
  check(1)
end

TestTime = {}

-- What walks through time inside of the net, or through groups of channels, has its steps: rates as neuron:rates() has them.
function TestTime:test_nets_that_walk()
  ms.manual_seed(3)
  local lif = nn.LIF { v_threshold = 0.3 }
  local nets = {
    nn.SharedMembrane(nn.Sequential { nn.Linear(4, 4), nn.LIF { v_threshold = 0.3 }, nn.Linear(4, 4), nn.LIF { v_threshold = 0.3 } }),
    nn.SharedMembrane(nn.Sequential { lif, nn.Linear(4, 4), lif }), -- one neuron at two places
    nn.SharedChannels(nn.LIF { v_threshold = 0.3 }),
    nn.SharedMembrane(nn.Sequential { nn.SharedChannels(nn.LIF { v_threshold = 0.3 }), nn.SharedChannels(nn.LIF { v_threshold = 0.3 }) }),
    nn.Sequential { nn.LIF { v_threshold = 0.3 } },
  }
  for i, net in ipairs(nets) do
    local mon <close> = ms.monitor(net, { what = { "dead", table.unpack(neurons) } })
    local x = ms.randn(6, 3, 4) * 2
    for passes = 1, 2 do
      for _ = 1, passes do net(x) end -- the second is a part of the same step
      local row, count = mon:step(), 0
      for name, module in net:named_modules() do
        if module.rates then
          s.near(row.rate_t[name], module:rates(), 1e-12, i .. " " .. name)
          s.near(row.rate[name], module:rate(), 1e-12)
          lu.assertEquals({ #row.coverage_t[name], #row.membrane_std_t[name] }, { 6, 6 })
          local loader, idle = { x, ms.zeros({ 3 }, { dtype = "int64" }) }, nil
          idle = ms.analysis.dead_neurons(net, function()
            local given = loader
            loader = nil
            if given then return table.unpack(given) end
          end)
          lu.assertEquals({ row.dead[name], row.saturated[name] }, { idle.dead[name], idle.saturated[name] })
          count = count + 1
        end
      end
      lu.assertTrue(count > 0)
    end
  end
end

function TestTime:test_a_loop_over_time_outside()
  ms.manual_seed(3)
  local net, x = nn.Sequential { nn.Linear(4, 8), nn.LIF { v_threshold = 0.3 } }, ms.randn(5, 3, 4) * 2
  local mon <close> = ms.monitor(net, { what = everything })
  net(x):sum():backward()
  local whole = mon:step()
  net:zero_grad()
  local sum = 0
  for t = 1, 5 do sum = sum + net:step(x[t]):sum() end
  sum:backward()
  local row = mon:step()
  for _, key in ipairs { "rate", "coverage", "slope", "membrane", "membrane_std" } do
    s.near(row[key .. "_t"]["1"], whole[key .. "_t"]["1"], 1e-5, key)
    s.near(row[key]["1"], whole[key]["1"], 1e-5, key)
  end
  s.near(row.delta_t["0"], whole.delta_t["0"], 1e-4)
  lu.assertEquals({ row.dead, row.saturated, row.operations, row.energy }, { whole.dead, whole.saturated, whole.operations, whole.energy })
end

-- Nets of the zoo hand membranes on by themselves, with groups of channels too.
function TestTime:test_nets_of_the_zoo()
  for _, name in ipairs { "efficientlif", "efficientlif-both" } do
    local net, count = ms.models.create(name, { classes = 3, T = 2, size = 8, scale = 1 / 16 }), 0
    local mon <close> = ms.monitor(net, { what = { "synops", table.unpack(neurons) } })
    local x, left = ms.randn(2, 3, 3, 8, 8) * 3, 1
    net:eval()
    net(x)
    local row = mon:step()
    local _, _, _, synops, layers = ms.evaluate(net, function()
      left = left - 1
      if left == 0 then return x, ms.zeros({ 3 }, { dtype = "int64" }) end
    end)
    lu.assertTrue(#layers > 3)
    for _, layer in ipairs(layers) do s.near(row.operations[layer.name], layer.operations, 1e-9, layer.name) end
    s.near({ row.synops, row.energy }, { synops, ms.analysis.energy(layers).spiking }, 1e-9)
    for layer, module in net:named_modules() do
      if module.rates then
        s.near(row.rate_t[layer], module:rates(), 1e-12, layer)
        lu.assertEquals(#row.coverage_t[layer], 2)
        count = count + 1
      end
    end
    lu.assertTrue(count > 3)
  end
end

-- ---- trainings ----

local function digits(n)
  return ms.rand(n, 1, 8, 8):unsqueeze(1):expand(2, -1, -1, -1, -1) * 3, ms.randint(0, 3, { n })
end

local function network(neuron)
  return nn.Sequential {
    nn.Conv2d(1, 8, 3, { padding = 1, bias = false }), nn.BatchNorm2d(8), neuron(), nn.AvgPool2d(2), nn.Dropout(0.2),
    nn.Conv2d(8, 8, 3, { padding = 1 }), nn.BatchNorm2d(8), neuron(), nn.Conv2d(8, 8, 3, { padding = 1 }), nn.PLIF(), nn.Flatten(), nn.Linear(8 * 16, 3),
  }
end

local function train(options, monitored)
  ms.manual_seed(7)
  local net = options.net and options.net() or network(options.neuron or nn.LIF)
  local opt = options.sgd and optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 }) or optim.Adam(net:parameters(), { lr = 1e-2 })
  local criterion = options.trt and loss.TRT(net, { lambda = 1e-2 }) or loss.TET { mu = 0.05 }
  local mon = monitored and ms.monitor(net, monitored)
  local function step(x, y)
    opt:zero_grad()
    local l = criterion(net(x), y)
    l:backward()
    if mon and options.early then mon:step() end -- before the optimizer: the regulariser is still pending
    opt:step()
    return l
  end
  if options.captured then step = ms.capture(step) end
  local text = {}
  for i = 1, 8 do
    text[i] = step(digits(4)):clone():bytes()
    if mon and not options.early then mon:step() end
    if options.between then options.between(net, i) end
  end
  for name, t in pairs(net:state_dict()) do text[#text + 1] = name .. t:detach():bytes() end
  if mon then mon:close() end
  return table.concat(text), mon
end

TestBits = {}

local function same(options)
  local want = train(options)
  for _, every in ipairs { 1, 3 } do
    local got, mon = train(options, { every = every, what = options.what or everything })
    lu.assertTrue(got == want, "a monitored training ends differently")
    lu.assertEquals(#mon:rows(), every == 1 and 8 or 3)
    lu.assertEquals(mon:rows()[2].step, 1 + every)
  end
end

function TestBits:test_as_without() same {} end
function TestBits:test_with_the_regulariser() same { trt = true } end
function TestBits:test_before_the_optimizer() same { trt = true, early = true, sgd = true } end
function TestBits:test_a_drawn_surrogate() same { neuron = function() return nn.LIF { surrogate = "localzo" } end } end

function TestBits:test_a_surrogate_in_lua()
  same { neuron = function() return nn.LIF { surrogate = function(u) return (u:square() * 10 + 1):reciprocal() * (1 + ms.rand(u.shape)) end } end }
end

function TestBits:test_a_learnable_membrane()
  same { net = function() return nn.learnable_v0(network(nn.LIF), (digits(4))) end }
end

function TestBits:test_in_bfloat16() ms.autocast("bf16", function() same {} end) end

function TestBits:test_a_net_that_walks()
  same { net = function()
    return nn.Sequential { nn.Flatten(), nn.Linear(64, 8), nn.SharedMembrane(nn.Sequential { nn.SharedChannels(nn.LIF()), nn.Linear(8, 8), nn.SharedChannels(nn.LIF()) }), nn.Linear(8, 3) }
  end }
end

-- Input gradients of only what the surrogate passes, and event engines in every pass, as far as the device has them.
function TestBits:test_engines_by_density()
  local rows = ms.engines.table()
  if #rows == 0 then return end
  local most = {}
  for i, row in ipairs(rows) do
    most[i] = {}
    for key, value in pairs(row) do most[i][key] = value end
    for _, key in ipairs { "forward", "weight_grad", "forward_counts", "weight_grad_counts", "input_grad" } do most[i][key] = 1 end
  end
  local back <close> = setmetatable({}, { __close = function() ms.engines.set_table() end })
  ms.engines.set_table(most)
  ms.engines.reset()
  same { sgd = true }
  local sparse = 0
  for _, use in ipairs(ms.engines()) do sparse = sparse + (use.density and use.pass == "input grad" and 1 or 0) end
  lu.assertTrue(sparse > 0)
end

-- Evaluation between steps, in which the same neurons run with other data.
function TestBits:test_evaluation_between_steps()
  local x, y = digits(5)
  local function between(net)
    local done = false
    ms.evaluate(net, function() if not done then done = true; return x, y end end)
  end
  local _, plain = train({}, { what = everything })
  local _, mixed = train({ between = between }, { what = everything })
  lu.assertEquals(mixed:rows(), plain:rows())
end

TestCapture = {}

-- Readings and bits of captured steps, which on a device are replayed, are those of plain ones.
function TestCapture:test_as_plain_steps()
  for _, trt in ipairs { false, true } do
    for _, every in ipairs { 1, 2, 3 } do
      local want = train { trt = trt }
      local _, plain = train({ trt = trt }, { every = every, what = everything })
      local got, captured = train({ trt = trt, captured = true }, { every = every, what = everything })
      lu.assertTrue(got == want, "a captured and monitored training ends differently")
      lu.assertEquals(captured:rows(), plain:rows())
    end
  end
end

-- A monitor that comes when the step has been recorded, and one that has gone.
function TestCapture:test_a_monitor_later()
  ms.manual_seed(1)
  local net = nn.Sequential { nn.Linear(4, 8), nn.LIF { v_threshold = 0.1 } }
  local step = ms.capture(function(x) net(x):sum():backward() end)
  for _ = 1, 4 do step(ms.randn(3, 2, 4)) end
  local mon = ms.monitor(net, { what = { "firing" } })
  local seen = {}
  for i = 1, 4 do
    local x = ms.randn(3, 2, 4) * i
    step(x)
    ms.no_grad(function() net(x) end)
    s.near(mon:step().rate_t["1"], net[2]:rates(), 1e-12)
  end
  mon:close()
  step(ms.randn(3, 2, 4))
  lu.assertEquals(#mon:rows(), 4)
end

-- A net of other neurons in evaluation mode: what they found goes by its own name.
function TestCapture:test_neurons_of_one_mode()
  local Net = nn.Module "Net"
  function Net:init() self.a, self.b = nn.LIF { v_threshold = 0.5 }, nn.LIF { v_threshold = 0.5 } end
  function Net:forward(x) return self.a(self.training and self.b(x) or x) end
  local net = Net()
  local mon <close> = ms.monitor(net, { what = { "firing" } })
  local step = ms.capture(function(x) return net(x):sum() end)
  for _ = 1, 3 do
    net:train()
    step(ms.ones(2, 3, 4))
    lu.assertEquals(mon:step().rate, { a = 1, b = 1 })
    net:eval()
    step(ms.ones(2, 3, 4) * 0)
    lu.assertEquals(mon:step().rate, { a = 0 })
  end
end

function TestCapture:test_what_is_refused()
  local net = nn.Sequential { nn.Linear(4, 8), nn.LIF { surrogate = "localzo" } }
  local mon <close> = ms.monitor(net, { what = { "surrogate" } })
  s.raises("monitor: surrogate: that of 1 is a function in Lua, which may draw random numbers, and a replay of a captured step cannot take them back",
    ms.capture(function(x) net(x) end), ms.randn(3, 2, 4))
  s.raises("monitor: step: expected a call behind the captured step, got one inside of it", ms.capture(function() mon:step() end))
end

TestUse = {}

function TestUse:test_a_log()
  local folder = s.folder()
  local log = ms.log(folder .. "/log")
  local _, kept = train({}, { every = 4, what = everything })
  local _, written = train({}, { every = 4, what = everything, log = log })
  log:close()
  lu.assertEquals(written:rows(), {})
  lu.assertEquals(ms.log.read(folder .. "/log"), setmetatable({ kept:rows()[1], kept:rows()[2], runs = ms.log.read(folder .. "/log").runs }, nil))
  s.remove(folder)
end

function TestUse:test_passes_that_are_not_looked_at()
  local net, other = nn.Sequential { nn.LIF() }, nn.Sequential { nn.LIF() }
  local mon = ms.monitor(net, { every = 2, what = { "firing" } })
  local function nothing() s.raises("monitor: step: expected that neurons of the net have run and were recorded since the last step, none was", mon.step, mon) end
  nothing()
  ms.no_grad(function() net(ms.randn(2, 3, 4)) end)
  other(ms.randn(2, 3, 4))
  nothing()
  lu.assertEquals(tostring(mon), "monitor, every 2 steps: no reading yet")
  net(ms.randn(2, 3, 4))
  lu.assertEquals(mon:step().step, 1)
  lu.assertNil(mon:step())
  nothing()
  local x, once = ms.randn(2, 3, 4), { { 3 * ms.randn(2, 3, 4), ms.tensor({ 0, 1, 2 }, { dtype = "int64" }) } }
  local fed = nn.Sequential { nn.Linear(4, 4), nn.LIF() }
  local watch <close> = ms.monitor(fed, { what = { "deltas", "firing" } })
  fed(x):sum():backward()
  local alone = watch:step()
  fed(x):sum():backward()
  local i = 0
  ms.analysis.fisher(fed, function()
    i = i + 1
    return table.unpack(once[i] or {})
  end)
  local row = watch:step()
  lu.assertEquals({ row.rate, row.rate_t, row.delta, row.delta_t }, { alone.rate, alone.rate_t, alone.delta, alone.delta_t })
  mon:close()
  mon:close()
  s.raises("monitor: step: the monitor is closed", mon.step, mon)
  lu.assertEquals(#mon:rows(), 1)
end

function TestUse:test_refusals()
  local net = nn.Sequential { nn.Linear(2, 2), nn.LIF() }
  s.raises("monitor: net: expected a module, got nil", ms.monitor)
  s.raises("monitor: unknown option 'evry' (known: every, log, steps, what)", ms.monitor, net, { evry = 2 })
  s.raises("monitor: every: expected an integer >= 1, got 0", ms.monitor, net, { every = 0 })
  local kinds = "monitor: what: expected a list of some of dead, deltas, firing, gradients, membranes, surrogate, synops, weights, got "
  s.raises(kinds .. "'rates'", ms.monitor, net, { what = { "firing", "rates" } })
  s.raises(kinds .. "the key 'dead'", ms.monitor, net, { what = { "firing", dead = true } })
  s.raises(kinds .. "table", ms.monitor, net, { what = {} })
  s.raises("monitor: log: expected a log of ms.log, got 'log'", ms.monitor, net, { log = "log" })
  local mon <close> = ms.monitor(net, { what = { "gradients" } })
  s.raises("monitor: step: gradients: expected parameters with a gradient, none has one; call step() between backward() and zero_grad()", mon.step, mon)
  local deltas <close> = ms.monitor(net, { what = { "deltas" } })
  local counted <close> = ms.monitor(net[2], { what = { "synops" } })
  net(ms.randn(2, 3, 2))
  s.raises("monitor: step: synops: expected that a Conv2d or Linear of the net has run and was recorded since the last step, none was", counted.step, counted)
  s.raises("monitor: step: deltas: expected a backward() through the net since the last step, there was none", deltas.step, deltas)
end

-- Nothing of a monitored step stays but its row.
function TestUse:test_memory_stays_flat()
  local net, folder = network(nn.LIF), s.folder()
  local log <close> = ms.log(folder .. "/log")
  local criterion, mon = loss.SDT(), ms.monitor(net, { every = 2, what = everything, log = log })
  local function live()
    collectgarbage()
    collectgarbage()
    return core.device.live()
  end
  local function steps(n)
    for _ = 1, n do
      net:zero_grad()
      criterion(net((digits(4))), ms.zeros({ 4 }, { dtype = "int64" })):backward()
      mon:step()
    end
  end
  steps(4)
  local before = live()
  steps(10)
  lu.assertEquals(live(), before)
  mon:close()
  s.remove(folder)
end

-- core.autograd.watch, which deltas come from.
function TestUse:test_watching_a_gradient()
  local x, seen = ms.tensor { 1, 2, 3 }:requires_grad_(), {}
  local y = x * 2
  core.autograd.watch(y, function(g) table.insert(seen, g:totable()) end)
  core.autograd.watch(y, function(g) table.insert(seen, g:totable()) end)
  local z = (y * y):sum()
  ms.grad(z, { x }, { retain_graph = true })
  lu.assertEquals(seen, {})
  z:backward()
  lu.assertEquals(seen, { { 4, 8, 12 }, { 4, 8, 12 } })
  lu.assertEquals(x.grad:totable(), { 8, 16, 24 })
  s.raises("watch: expected a result of a recorded op, got float32 [3] without one", core.autograd.watch, x, print)
  y = x * 2
  core.autograd.watch(y, function() error "boom" end)
  s.raises("boom", function() y:sum():backward() end)
end

os.exit(lu.LuaUnit.run())
