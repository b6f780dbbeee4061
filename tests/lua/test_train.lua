-- Whole trainings: the reference case G10, learning, evaluation, progress, the example, equal bytes in ten processes.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn, optim = ms.nn, ms.optim

local folder = s.folder()
s.fashion(folder, 200, 60)
local examples = arg[0]:match "^(.*)tests/lua/[^/]*$" .. "examples/"

-- value(n) over a shape, in row-major order, angles in radians.
local function filled(size, value)
  local n = 1
  for _, d in ipairs(size) do n = n * d end
  local list = {}
  for i = 0, n - 1 do list[i + 1] = value(i) end
  return ms.tensor(list):view(size)
end

TestGolden = {}

-- G10: conv 2->4, BatchNorm, LIF, pooling, linear 16->3; T = 3, B = 2.
function TestGolden:test_end_to_end()
  local net = nn.Sequential {
    nn.Conv2d(2, 4, 3, { padding = 1, bias = false }), nn.BatchNorm2d(4), nn.LIF { tau = 2 }, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3),
  }
  ms.no_grad(function()
    net[1].weight:copy_(filled({ 4, 2, 3, 3 }, function(n) return .4 * math.cos(1.3 * n) end))
    net[2].weight:copy_(filled({ 4 }, function(n) return 1 + .1 * n end))
    net[2].bias:copy_(filled({ 4 }, function(n) return .2 * n end))
    net[6].weight:copy_(filled({ 3, 16 }, function(n) return .3 * math.sin(.9 * n + .5) end))
    net[6].bias:copy_(filled({ 3 }, function(n) return .01 * n end))
  end)
  local x = filled({ 2, 3, 2, 4, 4 }, function(n) return .5 + .5 * math.sin(.7 * n) end):transpose(1, 2)
  local criterion = ms.loss.TRT(net, { lambda = 1e-3, delta = .5, epsilon = 1e-5, eta = .05 })
  local out = net(x)
  s.near(out:detach():transpose(1, 2), {
    .1418956567, .1405260999, -.1897215491, .2916111859, .001334971578, -.2671085363, .0484338837, .1543855383, -.1034616214,
    .1973796544, .1080312768, -.2283201088, -.02631157238, -.06276492879, .08412275522, .390473629, .1574855318, -.4471122309 }, 2e-5)
  lu.assertEquals(net[3].counts:sum(2):totable(), { 44, 34, 29 })
  s.near(net[3]:rate(), .2786458333)
  local l = criterion(out, ms.tensor({ 2, 0 }, { dtype = "int64" }))
  s.near(l:item(), 1.11175183686, 2e-6)
  s.near(criterion.parts.reg_t, { .0133098717243, .0096599122977, .0069769651363 }, 1e-5)
  l:backward()
  local want = {
    ["0.weight"] = { -.08721160268, .01989336321, -.007217546086, -.009920457528, -.003192230632, .00376347114 },
    ["1.weight"] = { -.01476506942, .003622455641, -.03394145481, .03319048159, -.03221248176, .01819838557 },
    ["1.bias"] = { .02072945271, .02148238691, -.05178272491, .05665652758, -.08000758701, .09586323705 },
    ["5.weight"] = { -.1388112101, .3018991982, -.02503393901, .01384903473, -.02313844769, -.03601239552 },
    ["5.bias"] = { -.0311617798, .1851488789, -.1218239257, .3336000426, -.2429378966 },
  }
  for name, p in net:named_parameters() do
    local g, w = s.flat(p.grad), want[name]
    local sum, squares = 0, 0
    for _, v in ipairs(g) do sum, squares = sum + v, squares + v * v end
    s.near({ sum, squares, g[1], g[2], g[3] }, { w[1], w[2], w[3], w[4], w[5] }, 5e-5, name)
    if w[6] then s.near(g[4], w[6], 5e-5, name) end
  end
  s.near(net[2].running_mean, { -.001053146425, .004981178182, -.0005531636355, -.004802796225 }, 5e-5)
  s.near(net[2].running_var, { .9364600446, .9430791669, .9356490039, .9431175396 }, 1e-5)
end

local function small()
  return nn.Sequential {
    nn.Conv2d(1, 4, 3, { stride = 2, bias = false }), nn.BatchNorm2d(4), nn.LIF(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(144, 10),
  }
end

TestTraining = {}

-- A net, an optimizer and a loss of the user's own, and what the library has: all learn the ten squares.
function TestTraining:test_everything_learns()
  local Descent = optim.Optimizer("Descent", { lr = 0.1 })
  function Descent:update(p, g, _, group) p:sub_(g * group.lr) end
  local Own = nn.Module "Own"
  function Own:init()
    self.encode = nn.Conv2d(1, 4, 3, { stride = 2 })
    self.spike = nn.LIF { surrogate = function(u) return (u:square() * 10 + 1):reciprocal() end }
    self.read = nn.Linear(4 * 169, 10)
  end
  function Own:forward(x) return self.read((self.spike(self.encode(x))):flatten(3, -1)) end
  local function own_loss(o, y)
    return -o:mean(1):log_softmax(-1):gather(2, y:view(-1, 1)):mean()
  end
  local cases = {
    { small(), ms.loss.SDT(), optim.Adam, 1e-2 }, { small(), ms.loss.SMSE(), optim.AdamW, 1e-2 }, { small(), ms.loss.TET(), optim.SGD, 0.2 },
    { Own(), own_loss, Descent, 0.3 },
  }
  cases[5] = { small(), nil, optim.Adam, 1e-2 }
  cases[5][2] = ms.loss.TRT(cases[5][1])
  ms.manual_seed(2)
  for i, case in ipairs(cases) do
    local net, criterion, kind, lr = table.unpack(case)
    local train = ms.data.FashionMNIST { root = folder, batch_size = 20, T = 3, shuffle = true }
    local opt = kind(net:parameters(), { lr = lr })
    for _ = 1, 4 do
      for x, y in train do
        opt:zero_grad()
        criterion(net(x), y):backward()
        opt:step()
      end
    end
    local accuracy = ms.evaluate(net, ms.data.FashionMNIST { root = folder, train = false, T = 3, batch_size = 30 })
    lu.assertTrue(accuracy > 0.9, ("case %d: accuracy %g"):format(i, accuracy))
  end
end

TestEvaluate = {}

function TestEvaluate:test_counts_by_hand()
  local net = nn.Sequential { nn.Linear(2, 2, { bias = false }), nn.IF { v_threshold = 0.5 }, nn.Linear(2, 2, { bias = false }) }
  ms.no_grad(function()
    net[1].weight:copy_(ms.tensor { { 1, 0 }, { 0, 1 } })
    net[3].weight:copy_(ms.tensor { { 0, 1 }, { 1, 0 } })
  end)
  net[1]:eval()
  -- T = 2, N = 3; spikes: (1,0) twice, (0,1) twice, (1,1) twice
  local x = ms.tensor { { 1, 0 }, { 0, 1 }, { 1, 1 } }:unsqueeze(1):expand(2, 3, 2)
  local y = ms.tensor({ 1, 0, 1 }, { dtype = "int64" })
  local function loader()
    local given = false
    return function()
      if not given then
        given = true
        return x, y
      end
    end
  end
  local accuracy, loss, firing, synops, layers = ms.evaluate(net, loader())
  s.near(accuracy, 2 / 3)
  s.near(loss, (2 * math.log(1 + math.exp(-1)) + math.log(2)) / 3)
  s.near(firing, 8 / 12)
  s.near(synops, 8 * 2 / 3)
  lu.assertEquals({ layers[1].name, layers[1].input, layers[2].name, layers[2].input }, { "0", "reals", "2", "spikes" })
  s.near(layers[1].operations, 2 * 2 * 2)
  lu.assertEquals(tostring(layers), ("MACs of layers fed reals: 0 8; energy %.4g uJ, without spikes %.4g uJ"):format((8 * 4.6 + 16 / 3 * 0.9) * 1e-6, 8 * 4.6e-6))
  lu.assertTrue(net.training)
  lu.assertFalse(net[1].training)
  lu.assertTrue(ms.is_grad_enabled())
  s.raises("evaluate: net: expected a module, got nil", ms.evaluate)
  s.raises("evaluate: loader: expected a data set or an iterator function, got nil", ms.evaluate, net)
  s.raises("evaluate: loader: expected at least one batch, got none", ms.evaluate, net, function() end)
  s.raises("boom", ms.evaluate, net, function() error "boom" end)
  lu.assertTrue(net.training and ms.is_grad_enabled())
end

-- The mean over samples of a criterion of one's own, which sees the logits of all steps.
function TestEvaluate:test_criterion()
  local net = nn.Sequential { nn.Linear(2, 3) }
  local x, y = ms.randn(4, 5, 2, { key = "x" }), ms.tensor({ 0, 1, 2, 1, 0 }, { dtype = "int64" })
  local i
  local function loader(_, control)
    i = control == nil and 1 or i + 1
    local from, n = i == 1 and 1 or 4, i == 1 and 3 or 2
    if i < 3 then return x:narrow(2, from, n), y:narrow(1, from, n) end
  end
  local tet = ms.loss.TET()
  local accuracy, loss = ms.evaluate(net, loader, { over = "last", criterion = tet })
  s.near(loss, ms.no_grad(function() return tet(net(x), y):item() end))
  lu.assertEquals(accuracy, (ms.evaluate(net, loader, { over = "last" })))
  s.raises("evaluate: criterion: expected a tensor of one element as result, got tensor [4, 3, 3]", ms.evaluate, net, loader,
    { criterion = function(logits) return logits end })
  s.raises("evaluate: criterion: expected a function, got 3", ms.evaluate, net, loader, { criterion = 3 })
end

TestProgress = {}

function TestProgress:test_passes_values_on_and_prints_tenths()
  s.write(folder .. "/bar.lua", [[
    local ms = require "moonspike"
    local n = 0
    local bar = ms.progress(function() n = n + 1; if n <= 20 then return n, -n end end, "count", { total = 20 })
    local sum = 0
    for a, b in bar do
      sum = sum + a + b
      bar:set { value = a }
    end
    print(sum, n)
    for _ in ms.progress(function() return 1 end, "left early") do break end
    local net, train = ms.nn.Sequential { ms.nn.Flatten(), ms.nn.Linear(784, 10), ms.nn.LIF() },
      ms.data.FashionMNIST { root = arg[1], batch_size = 100 }
    local criterion = ms.loss.SDT()
    for x, y in ms.progress(train, "epoch") do criterion(net(x), y) end
  ]])
  local code, text = s.run(folder .. "/bar.lua", nil, folder)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "count 2/20  value 2")
  lu.assertStrContains(text, "count 20/20  value 20")
  lu.assertStrContains(text, "0\t21\n")
  lu.assertStrMatches(text:match "epoch 1/2[^\n]*" or text, "epoch 1/2  loss %d%.%d+  acc %d+%.%d+%%  rate 0%.%d+  .*ms/step  left %d+s")
  lu.assertStrContains(text, "epoch 2/2")
  s.raises("progress: iterable: expected a data set or an iterator function, got 3", ms.progress, 3)
  s.raises("progress: title: expected a string, got 3", ms.progress, print, 3)
end

function TestProgress:test_redraws_on_a_terminal()
  local out = folder .. "/typescript"
  if not os.execute(("script -qc \"%s %s %s\" %s >/dev/null 2>&1"):format(s.host, folder .. "/bar.lua", folder, out)) then
    return lu.skip "script(1) is not installed"
  end
  local text = s.read(out)
  lu.assertStrMatches(text:gsub("\r\n", "\n"), ".*\r%[=+%] count 20/20.*took.*")
end

TestExample = {}

function TestExample:test_runs_and_resumes()
  local script = examples .. "fashion_mnist.lua"
  local function run(arguments) return s.run(script, "MOONSPIKE_DATA=" .. folder, arguments) end
  local out = folder .. "/run"
  local code, text = run("--loss tet --epochs 2 --batch 50 --T 2 --limit 100 --out " .. out)
  lu.assertEquals(code, 0, text)
  for _, name in ipairs { "log.jsonl", "best.safetensors", "last.safetensors", "curves.csv" } do lu.assertTrue(#s.read(out .. "/" .. name) > 0) end
  local rows = ms.log.read(out .. "/log.jsonl")
  lu.assertEquals(#rows, 2)
  lu.assertEquals(rows[2].epoch, 2)
  code, text = run("--loss tet --epochs 2 --batch 50 --T 2 --limit 100 --resume --out " .. out)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "resumed after epoch 2")
  code, text = run("--resume --out " .. out) -- the other options are those of the run
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "T = 2")
  code, text = run("--resume --epochs 3 --out " .. out)
  lu.assertEquals(code, 2)
  lu.assertStrContains(text, "--epochs: expected 2, as the run in " .. out .. " was started, got 3")
  code, text = run("--resume --out " .. folder .. "/never")
  lu.assertStrContains(text, "--resume: no run to go on with: ")
  code, text = run "--epochs 0"
  lu.assertStrContains(text, "--epochs: expected an integer >= 1, got '0'")
  code, text = run "--T"
  lu.assertStrContains(text, "--T: expected an integer >= 1, got nothing")
  code, text = run "--lose trt"
  lu.assertEquals(code, 2)
  lu.assertStrContains(text, "unknown option '--lose' (known: --loss, --epochs")
  code, text = run "--loss l2"
  lu.assertStrContains(text, "--loss: expected one of sdt, tet, trt, got 'l2'")
  code, text = run "--T many"
  lu.assertStrContains(text, "--T: expected an integer >= 1, got 'many'")
  code, text = run "--help"
  lu.assertEquals(code, 0)
  lu.assertStrContains(text, "--minutes")
end

TestEqual = {}

-- Hash seeds differ from process to process: nothing may depend on them, nor on the number of threads or workers.
function TestEqual:test_ten_processes()
  s.write(folder .. "/equal.lua", [[
    local ms = require "moonspike"
    local nn, folder, out, workers = ms.nn, arg[1], arg[2], tonumber(arg[3])
    ms.manual_seed(42)
    ms.deterministic(true)
    local train = ms.data.FashionMNIST { root = folder, batch_size = 25, T = 2, shuffle = true, workers = workers,
      augment = { crop = 2, flip = true } }
    local net = nn.Sequential { nn.Conv2d(1, 8, 3, { padding = 1, bias = false }), nn.BatchNorm2d(8), nn.LIF(), nn.AvgPool2d(2),
      nn.Residual { nn.Sequential { nn.Conv2d(8, 8, 3, { padding = 1 }), nn.tdBN(8) }, nn.Identity(), neuron = nn.PLIF() },
      nn.Flatten(), nn.Dropout(0.1), nn.Linear(8 * 196, 10) }
    local criterion, opt = ms.loss.TRT(net), ms.optim.Adam(net:parameters(), { lr = 1e-2 })
    for x, y in train do
      opt:zero_grad()
      criterion(net(x), y):backward()
      opt:step()
    end
    ms.log(out .. ".jsonl", { append = false }) { random = math.random(), rate = net[3]:rate(), loss = criterion.parts.loss,
      ce = criterion.parts.ce }
    ms.save(out, net)
  ]])
  local first
  for i = 1, 10 do
    local out = folder .. "/equal" .. i
    local code, text = s.run(folder .. "/equal.lua", "OMP_NUM_THREADS=" .. (i % 3 + 1), table.concat({ folder, out, i % 4 }, " "))
    lu.assertEquals(code, 0, text)
    local bytes = s.read(out) .. s.read(out .. ".jsonl"):gsub("^[^\n]*\n", "") -- the record in front names the threads
    first = first or bytes
    lu.assertTrue(bytes == first, ("process %d ended differently"):format(i))
  end
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
