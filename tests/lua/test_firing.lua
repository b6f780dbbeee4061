-- ms.analysis.firing_rates, dead_neurons and energy: by hand, against brute force, side by side, refusals.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn, analysis = ms.nn, ms.analysis

local function batches(list)
  local i = 0
  return function()
    i = i + 1
    if list[i] then return list[i][1], list[i][2] end
  end
end

local function labels(n) return ms.zeros({ n }, { dtype = "int64" }) end

-- Integrate and fire, threshold 0.9: 1 fires at every step, 0.5 at every other one, 0 never.
local function by_hand(first, second)
  local x = ms.tensor { { 1, 0.5, 0, first }, { 1, 0.5, 0, second } }
  return { x:unsqueeze(1):expand(4, 2, 4), labels(2) }
end

TestRates = {}

function TestRates:test_by_hand()
  local net = nn.Sequential { nn.IF { v_threshold = 0.9 } }
  local r = analysis.firing_rates(net, batches { by_hand(1, 0) })
  lu.assertEquals(r.layers, { "0" })
  lu.assertEquals(r.neurons, { ["0"] = 4 })
  lu.assertEquals(r.rate, { ["0"] = (8 + 4 + 0 + 4) / 32 })
  lu.assertEquals(r.rate_t, { ["0"] = { 3 / 8, 5 / 8, 3 / 8, 5 / 8 } })
  lu.assertEquals(r.mean, 0.5)
  lu.assertEquals(tostring(r), "layer  neurons  rate      t = 1     t = 2     t = 3     t = 4\n0      4        50.000 %  37.500 %  62.500 %  37.500 %  62.500 %")
  lu.assertEquals(r:rows(), { { "network", "layer", "neurons", "t", "rate" }, { "", "0", 4, "mean", 0.5 }, { "", "0", 4, 1, 0.375 },
    { "", "0", 4, 2, 0.625 }, { "", "0", 4, 3, 0.375 }, { "", "0", 4, 4, 0.625 } })
  lu.assertEquals(analysis.firing_rates(nn.IF { v_threshold = 0.9 }, batches { by_hand(1, 0) }).rate, { IF = 0.5 })
end

-- A net whose spikes are of every form: bits and bytes, pooled, read twice.
local function convolutional()
  ms.manual_seed(5)
  local net = nn.Sequential {
    nn.Conv2d(1, 8, 3, { padding = 1 }), nn.BatchNorm2d(8), nn.LIF(), nn.AvgPool2d(2), nn.Conv2d(8, 5, 3, { padding = 1 }), nn.BatchNorm2d(5),
    nn.LIF { v_threshold = 0.5 }, nn.Flatten(), nn.Linear(45, 16), nn.PLIF { v_threshold = 0.05 }, nn.Linear(16, 3),
  }
  net(ms.randn(3, 16, 1, 6, 6))
  return net
end

local function images(T, n) return { ms.randn(T, n, 1, 6, 6) * 2, labels(n) } end

-- What each neuron fires, layer after layer: spikes[name] = list of [T, N, ...] of each batch.
local function spikes_of(net, list)
  local spikes = {}
  net:eval()
  for _, batch in ipairs(list) do
    local h = batch[1]
    for i = 1, #net do
      h = (net[i](h))
      if net[i].counts then
        local name = tostring(i - 1)
        spikes[name] = spikes[name] or {}
        table.insert(spikes[name], h:float())
      end
    end
  end
  net:train()
  return spikes
end

function TestRates:test_against_brute_force_and_evaluate()
  local net, list = convolutional(), { images(3, 4), images(3, 2), images(5, 3) } -- lengths of time differ
  local spikes, r = spikes_of(net, list), analysis.firing_rates(net, batches(list))
  lu.assertEquals(r.layers, { "2", "6", "9" })
  lu.assertEquals(r.neurons, { ["2"] = 8 * 36, ["6"] = 45, ["9"] = 16 })
  for _, name in ipairs(r.layers) do
    local sum, sites, sum_t, sites_t = 0, 0, {}, {}
    for _, all in ipairs(spikes[name]) do
      for t = 1, #all do
        local n = all[t]:sum():item()
        sum, sites, sum_t[t], sites_t[t] = sum + n, sites + all[t]:numel(), (sum_t[t] or 0) + n, (sites_t[t] or 0) + all[t]:numel()
      end
    end
    lu.assertTrue(sum > 0 and sum < sites, name)
    s.near(r.rate[name], sum / sites, 1e-12)
    lu.assertEquals(#r.rate_t[name], 5)
    for t, rate in ipairs(r.rate_t[name]) do s.near(rate, sum_t[t] / sites_t[t], 1e-12) end
  end
  lu.assertEquals(r.mean, (select(3, ms.evaluate(net, batches(list)))))
  lu.assertTrue(net.training and ms.is_grad_enabled())
end

-- Nets that walk through time, and groups of channels that share a membrane, are counted as neuron:rates() has them.
function TestRates:test_nets_that_walk_through_time()
  ms.manual_seed(2)
  local shared = nn.SharedChannels(nn.LIF { v_threshold = 0.4 })
  local net = nn.Sequential { nn.SharedMembrane(nn.Sequential { nn.Linear(4, 4), nn.LIF { v_threshold = 0.3 }, nn.Linear(4, 4), nn.LIF { v_threshold = 0.3 } }), shared }
  local x = ms.randn(6, 3, 4) * 2
  local r = analysis.firing_rates(net, batches { { x, labels(3) } })
  net:eval()(x)
  lu.assertEquals(r.layers, { "0.body.1", "0.body.3", "1.neuron" })
  lu.assertEquals(r.neurons["1.neuron"], 2)
  for _, name in ipairs(r.layers) do
    local neuron
    for other, module in net:named_modules() do neuron = other == name and module or neuron end
    s.near(r.rate_t[name], neuron:rates(), 1e-12)
    lu.assertEquals(#r.rate_t[name], 6)
    lu.assertTrue(r.rate[name] > 0)
  end
end

TestActivity = {}

-- h = v / 2 + x, hard reset: of x = 0.6, 0.8, 0.3 and then of what the first layer fired, doubled.
function TestActivity:test_spikes_and_membranes()
  local net = nn.Sequential { nn.LIF(), nn.Linear(1, 1, { bias = false }), nn.LIF() }
  ms.no_grad(function() net[2].weight:fill_(2) end)
  local a = ms.analysis.activity(net:train(), ms.tensor { 0.6, 0.8, 0.3 }:view(3, 1, 1))
  lu.assertEquals(a.layers, { "0", "2" })
  s.near(a.membranes["0"], { 0.6, 1.1, 0.3 })
  lu.assertEquals(a.spikes["0"]:float():reshape(-1):totable(), { 0, 1, 0 })
  s.near(a.membranes["2"], { 0, 2, 0 })
  lu.assertEquals(a.logits:float():reshape(-1):totable(), { 0, 1, 0 })
  lu.assertEquals(a.thresholds, { ["0"] = 1, ["2"] = 1 })
  lu.assertTrue(net.training)
  local hidden, Walk = nn.LIF(), nn.Module "Walk"
  function Walk:forward(x) return hidden(x) end
  lu.assertEquals(ms.analysis.activity(Walk(), ms.ones(1, 1, 1)).layers, {}) -- no module of the net
  s.raises("activity: x: expected a tensor [T, N, ...], got 3", ms.analysis.activity, net, 3)
  s.raises("activity: net: expected a module, got 3", ms.analysis.activity, 3, ms.ones(1, 1, 1))
end

TestDead = {}

function TestDead:test_by_hand()
  local net = nn.Sequential { nn.IF { v_threshold = 0.9 } }
  local r = analysis.dead_neurons(net, batches { by_hand(1, 1), by_hand(1, 0) }) -- one sample of four stops the last one from being saturated
  lu.assertEquals({ r.layers, r.neurons, r.dead, r.saturated }, { { "0" }, { ["0"] = 4 }, { ["0"] = 0.25 }, { ["0"] = 0.25 } })
  r = analysis.dead_neurons(net, batches { by_hand(1, 1), by_hand(1, 1) })
  lu.assertEquals({ r.dead, r.saturated }, { { ["0"] = 0.25 }, { ["0"] = 0.5 } })
  lu.assertEquals(tostring(r), "layer  neurons  dead      saturated\n0      4        25.000 %  50.000 %")
  lu.assertEquals(r:rows(), { { "network", "layer", "neurons", "dead", "saturated" }, { "", "0", 4, 0.25, 0.5 } })
end

function TestDead:test_against_brute_force()
  local net, list = convolutional(), { images(3, 4), images(3, 2) }
  local spikes, r = spikes_of(net, list), analysis.dead_neurons(net, batches(list))
  local seen = 0
  for name, all in pairs(spikes) do
    local fired = all[1]:flatten(3, -1):sum { 1, 2 } + all[2]:flatten(3, -1):sum { 1, 2 }
    local dead, full = 0, 0
    for _, n in ipairs(fired:totable()) do dead, full = dead + (n == 0 and 1 or 0), full + (n == 18 and 1 or 0) end
    s.near(r.dead[name], dead / r.neurons[name], 1e-12, name)
    s.near(r.saturated[name], full / r.neurons[name], 1e-12, name)
    seen = seen + dead
  end
  lu.assertTrue(seen > 0)
  lu.assertStrContains(tostring(net), "fused: into the neuron") -- it looks on
end

function TestDead:test_a_shared_membrane_is_one_neuron()
  local net = nn.SharedChannels(nn.IF { v_threshold = 0.9 })
  local x = ms.tensor { 1, 0, 0, 0 }:expand(3, 2, 4) -- groups { 1, 0 }, { 0, 0 }
  local r = analysis.dead_neurons(net, batches { { x, labels(2) } })
  lu.assertEquals({ r.neurons, r.dead, r.saturated }, { { neuron = 2 }, { neuron = 0.5 }, { neuron = 0 } })
end

function TestDead:test_one_neuron_for_two_sizes()
  local lif = nn.LIF()
  local net = nn.Sequential { lif, nn.Linear(4, 2), lif }
  s.raises("dead_neurons: 0 runs on [4] and on [2]: expected neurons of one size; give each place a neuron of its own", analysis.dead_neurons, net,
    batches { by_hand(1, 1) })
end

TestSideBySide = {}

function TestSideBySide:setUp()
  self.folder = s.folder()
  self.set = ms.data.FromTensors { images = ms.randn(10, 3, 1, 6, 6) * 2, labels = labels(10), batch_size = 4 }
end

function TestSideBySide:tearDown() s.remove(self.folder) end

local function bytes(net)
  local text = {}
  for name, t in pairs(net:state_dict()) do text[#text + 1] = name .. t:detach():bytes() end
  return table.concat(text)
end

function TestSideBySide:test_checkpoints()
  local a, b = convolutional(), convolutional()
  ms.no_grad(function() b[1].weight:mul_(3) end)
  local path = self.folder .. "/b.safetensors"
  ms.save(path, b)
  local before = bytes(a)
  for _, name in ipairs { "firing_rates", "dead_neurons" } do
    local f = analysis[name]
    local alone, other = f(a, self.set), f(b, self.set)
    local r = f({ { "SDT", a }, { "TRT", path } }, self.set, { net = a })
    lu.assertTrue(bytes(a) == before)
    lu.assertEquals(r[1]:rows(), alone:rows())
    lu.assertEquals(r.TRT:rows(), other:rows())
    lu.assertNotEquals(r[1]:rows(), r[2]:rows())
    local rows = r:rows()
    lu.assertEquals(#rows, 2 * #alone:rows() - 1)
    lu.assertEquals({ rows[2][1], rows[#rows][1] }, { "SDT", "TRT" })
    local lines = {}
    for line in tostring(f({ { "\u{3bb} = 1", a }, { "TRT", b } }, self.set)):gmatch "[^\n]+" do lines[#lines + 1] = line end
    local at = utf8.len(lines[1]:match "^.*TRT: neurons") - #"TRT: neurons" + 1
    lu.assertEquals(lines[2]:sub(at - 2, at):match "^  (%d)" ~= nil, true, lines[1] .. "\n" .. lines[2]) -- columns of characters, not of bytes
    local head = tostring(r):match "^[^\n]+"
    lu.assertStrContains(head, "SDT: neurons")
    lu.assertStrContains(head, name == "dead_neurons" and "TRT: saturated" or "TRT: t = 3")
  end
end

-- Networks of other layers stand beside each other, and a failure puts the weights back.
function TestSideBySide:test_other_layers_and_failures()
  local a, path = convolutional(), self.folder .. "/c.safetensors"
  local small = nn.Sequential { nn.Flatten(), nn.Linear(36, 3), nn.LIF() }
  local r = analysis.firing_rates({ { "conv", a }, { "small", small } }, self.set)
  lu.assertEquals(r.small.layers, { "2" })
  local lines = {}
  for line in tostring(r):gmatch "[^\n]+" do lines[#lines + 1] = line end
  lu.assertEquals(#lines, 4)
  lu.assertStrMatches(lines[3], "6%s+45%s+[%d.]+ %%.*")
  ms.save(path, a)
  local before = bytes(a)
  ms.no_grad(function() a[1].weight:mul_(2) end)
  local changed = bytes(a)
  lu.assertFalse(changed == before)
  function a.forward() error "boom" end
  s.raises("boom", analysis.firing_rates, { { "file", path } }, self.set, { net = a })
  lu.assertTrue(bytes(a) == changed)
  lu.assertTrue(a.training)
end

function TestSideBySide:test_refusals()
  local net = nn.Sequential { nn.LIF() }
  for _, name in ipairs { "firing_rates", "dead_neurons" } do
    local f = analysis[name]
    local function refused(text, ...) s.raises(name .. ": " .. text, f, ...) end
    refused("loader: expected a data set or an iterator function, got nil", net)
    refused("net: expected a module or a list of { name, module or path }, got nil", nil, print)
    refused("net: expected a module or a list of { name, module or path }, got table", {}, print)
    refused("net: entry 1: expected { name, module or path }, got Sequential", { net }, print)
    refused("net: entry 1: expected { name, module or path }, got table", { { "a", 3 } }, print)
    refused("net: entry 2: the name 'a' is that of entry 1", { { "a", net }, { "a", net } }, self.set)
    refused("net: entry 1 is a file: expected the option net, into which it is loaded", { { "a", "b.safetensors" } }, self.set)
    refused("unknown option 'nets' (known: net)", net, print, { nets = 1 })
    refused("net: expected a module, got 1", net, print, { net = 1 })
    refused("loader: expected a data set, which can be gone through for each of 2 networks, got a function", { { "a", net }, { "b", net } }, print)
    refused("loader: expected at least one batch, got none", net, function() end)
  end
  s.raises("load: ", analysis.firing_rates, { { "a", self.folder .. "/none" } }, self.set, { net = net })
end

TestEnergy = {}

function TestEnergy:test_by_hand()
  local net = nn.Sequential { nn.Linear(2, 2, { bias = false }), nn.IF { v_threshold = 0.5 }, nn.Linear(2, 3, { bias = false }) }
  ms.no_grad(function() net[1].weight:copy_(ms.tensor { { 1, 0 }, { 0, 1 } }) end)
  local x = ms.tensor { { 1, 0 }, { 0, 1 }, { 1, 1 } }:unsqueeze(1):expand(5, 3, 2) -- T = 5; four spikes of three samples at each step
  local layers = select(5, ms.evaluate(net, batches { { x, labels(3) } }))
  lu.assertEquals({ layers[1].macs, layers[2].macs }, { 4, 6 })
  local report = analysis.energy(layers)
  s.near(report[1].spiking, 5 * 4 * 4.6e-6)
  s.near(report[2].spiking, 5 * 4 / 3 * 3 * 0.9e-6)
  s.near({ report[1].ann, report[2].ann }, { 4 * 4.6e-6, 6 * 4.6e-6 })
  s.near({ report.spiking, report.ann }, { 110e-6, 46e-6 })
  lu.assertEquals(tostring(layers), "MACs of layers fed reals: 0 20; energy 0.00011 uJ, without spikes 4.6e-05 uJ")
  lu.assertEquals(tostring(report), table.concat({ "layer  fed     operations  energy, uJ  MACs without spikes  energy, uJ",
    "0      reals   20          9.2e-05     4                    1.84e-05", "2      spikes  20          1.8e-05     6                    2.76e-05",
    "all                        0.00011                          4.6e-05" }, "\n"))
  local other = analysis.energy(layers, { mac = 3, ac = 0 })
  s.near({ other.spiking, other.ann }, { 60e-6, 30e-6 })
end

-- Products of a convolution without spikes, and of layers that a walk through time calls once a step.
function TestEnergy:test_products()
  local net = nn.Sequential { nn.Conv2d(2, 6, 3, { padding = 1, groups = 2, stride = 2 }), nn.Flatten(), nn.SharedMembrane(nn.Sequential { nn.Linear(54, 4) }) }
  local layers = select(5, ms.evaluate(net, batches { { ms.randn(3, 2, 2, 5, 5), labels(2) } }))
  lu.assertEquals({ layers[1].macs, layers[2].macs }, { 6 * 9 * 9, 54 * 4 })
  lu.assertEquals({ layers[1].operations, layers[2].operations }, { 3 * 6 * 9 * 9, 3 * 54 * 4 })
end

-- A layer at two places: each counts, in batches of any size, in one call over time and in a walk through it.
function TestEnergy:test_a_layer_at_two_places()
  local lin = nn.Linear(4, 4)
  local Twice = nn.Module "Twice"
  function Twice:init() self.lin, self.lif = lin, nn.LIF { v_threshold = 0.1 } end
  function Twice:forward(x) return self.lin((self.lif(self.lin(x)))) end
  local list = { { ms.randn(3, 2, 4), labels(2) }, { ms.randn(3, 5, 4), labels(5) } }
  for i, net in ipairs { nn.Sequential { lin, lin }, nn.SharedMembrane(nn.Sequential { lin, lin }), Twice(), nn.SharedMembrane(Twice()) } do
    local mon <close> = ms.monitor(net, { what = { "synops" } })
    local layers, macs, spikes = select(5, ms.evaluate(net, batches(list))), 0, 0
    for _, layer in ipairs(layers) do macs, spikes = macs + layer.macs, spikes + (layer.input == "spikes" and layer.operations or 0) end
    lu.assertEquals({ #layers, macs }, { i <= 2 and 1 or 2, 2 * 16 })
    lu.assertEquals(layers[1].operations, (i <= 2 and 2 or 1) * 3 * 16)
    s.near(analysis.energy(layers).ann, 2 * 16 * 4.6e-6)
    s.near(analysis.energy(layers).spiking, i <= 2 and 2 * 48 * 4.6e-6 or 48 * 4.6e-6 + spikes * 0.9e-6)
    if i > 2 then
      lu.assertEquals({ layers[1].input, layers[2].input, layers[1].name, layers[1].macs }, { "reals", "spikes", layers[2].name, 16 })
      lu.assertTrue(spikes > 0 and spikes < 48)
    end
    net(list[1][1])
    local row = mon:step()
    layers = select(5, ms.evaluate(net, batches { list[1] }))
    local sum = 0
    for _, layer in ipairs(layers) do sum = sum + layer.operations end
    s.near({ row.operations[layers[1].name], row.energies[layers[1].name], row.energy }, { sum, analysis.energy(layers).spiking, analysis.energy(layers).spiking }, 1e-9)
  end
  -- without a dimension of time: computed once for all steps, or a loop over them
  local Walk = nn.Module "Walk"
  function Walk:init() self.body = lin end
  function Walk:forward(x)
    local out = {}
    for t = 1, x.shape[1] do out[t] = self.body(x[t]) end
    return ms.stack(out, 1)
  end
  local Once = nn.Module "Once"
  function Once:init() self.body = lin end
  function Once:forward(x) return self.body(x):unsqueeze(1):expand(3, -1, -1) end
  for _, case in ipairs { { Walk(), list[1][1] }, { Once(), list[1][1][1] } } do
    lu.assertEquals(select(5, ms.evaluate(case[1], batches { { case[2], labels(2) } }))[1].macs, 16)
  end
end

function TestEnergy:test_refusals()
  s.raises("energy: layers: expected the list of layers that ms.evaluate gives as its fifth value, got nil", analysis.energy)
  s.raises("energy: layers: expected the list of layers that ms.evaluate gives as its fifth value, got table", analysis.energy, {})
  local layers = select(5, ms.evaluate(nn.Sequential { nn.Linear(2, 2) }, batches { { ms.ones(1, 1, 2), labels(1) } }))
  s.raises("energy: unknown option 'macs' (known: ac, mac)", analysis.energy, layers, { macs = 1 })
  s.raises("energy: mac: expected a number >= 0, got -1", analysis.energy, layers, { mac = -1 })
end

os.exit(lu.LuaUnit.run())
