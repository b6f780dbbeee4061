-- Two hundred steps of training beside PyTorch's (tests/ref/curves.safetensors): a thin ResNet-19 and a thin VGGSNN in float32, Adam, TRT's
-- loss. At first losses and weights are equal. Later two runs part wherever rounding decides a spike, PyTorch's from PyTorch's too when it sums
-- in another order (threads, engine, layout, order of the batch): from there on ours has to keep the distances that those have among themselves.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local formula = require "formula"
local ms = require "moonspike"

local golden = formula.golden "curves"
local T, N, CLASSES, BATCHES = 4, 8, 10, 4
local STEADY = 5 -- steps in which the generator made sure that no rounding decides a spike
local WINDOW = 50
-- What the mean distance to PyTorch's runs may be of the largest that one of those has to the others. Most of those part late; twenty runs of
-- ours that were made to part at step 6, by weights moved by 1e-5, came to at most 1.8.
local SLACK = 2.5
-- The sanitizers are after other errors, and slow.
local sanitize = os.getenv "MOONSPIKE_BUILD" == "sanitize"

ms.threads(1) -- layers too small for more

-- Samples are the pattern of their class and noise.
local function batches(net, still, seed)
  local size, list = net.input, {}
  local patterns = formula.filled(seed * 1000 + 800, { CLASSES, table.unpack(size) }, 0.3, 0.5)
  for i = 0, BATCHES - 1 do
    local y = {}
    for n = 0, N - 1 do y[n + 1] = (3 * n + i) % CLASSES end
    y = ms.tensor(y, { dtype = "int64" })
    local noise = formula.filled(seed * 1000 + 801 + i, { still and 1 or T, N, table.unpack(size) }, 0.2, 0)
    list[i + 1] = { (patterns:index_select(1, y) + noise):expand(T, N, table.unpack(size)), y }
  end
  return list
end

-- The loss of each step; after(step) once its update is done.
local function train(net, data, steps, after)
  local criterion = ms.loss.TRT(net, { lambda = 1e-4, delta = 0.25, eta = 0.05, epsilon = 1e-5 })
  local opt = ms.optim.Adam(net:parameters(), { lr = 1e-3 })
  local losses = {}
  for step = 1, steps do
    local x, y = table.unpack(data[(step - 1) % BATCHES + 1])
    opt:zero_grad()
    local l = criterion(net(x), y)
    l:backward()
    opt:step()
    losses[step] = l:item()
    after(step)
  end
  return losses
end

-- Root mean square of the difference of two curves in a window.
local function apart(a, b, first, last)
  local sum = 0
  for i = first, last do sum = sum + (a[i] - b[i]) ^ 2 end
  return math.sqrt(sum / (last - first + 1))
end

-- The mean distance of a curve to the others of a list.
local function stray(curve, list, first, last)
  local sum, n = 0, 0
  for _, other in ipairs(list) do
    if other ~= curve then sum, n = sum + apart(curve, other, first, last), n + 1 end
  end
  return sum / n
end

TestCurves = {}

local function check(name, net, still)
  local function G(key) return golden(name .. "." .. key) end
  local seed, exact, runs = G "seed":item(), G "float64":totable(), G "float32":totable()
  formula.fill(net, seed)
  local worst, shown = 0, {}
  local losses = train(net, batches(net, still, seed), sanitize and STEADY or #exact, function(step)
    if step ~= 1 and step ~= STEADY then return end
    local state = formula.named(net:named_parameters())
    for key, b in net:named_buffers() do state[key] = key:find "running" and b or nil end
    worst = math.max(worst, formula.check(state, G, step .. ".", 2e-6))
  end)
  for step = 1, STEADY do
    local d = math.abs(losses[step] - exact[step]) / exact[step]
    lu.assertTrue(d <= 1e-6, ("%s: loss of step %d: %.9g, expected %.9g"):format(name, step, losses[step], exact[step]))
    shown[1] = math.max(shown[1] or 0, d)
  end
  shown[1] = ("equal %.1e, weights %.1e; apart"):format(shown[1], worst)
  for last = WINDOW, #losses, WINDOW do
    local first, spread = math.max(STEADY, last - WINDOW) + 1, 0
    for _, run in ipairs(runs) do spread = math.max(spread, stray(run, runs, first, last)) end
    local ours = stray(losses, runs, first, last)
    shown[#shown + 1] = ("%.1e of %.1e"):format(ours, spread)
    lu.assertTrue(ours <= SLACK * spread,
      ("%s: steps %d to %d: %.3g from PyTorch's runs, which are up to %.3g from each other"):format(name, first, last, ours, spread))
  end
  if os.getenv "MOONSPIKE_SHOW" then print("# " .. name .. ": " .. table.concat(shown, "  ")) end
end

function TestCurves:test_resnet19() check("resnet19", ms.models.ResNet19 { scale = 1 / 16, size = 8, T = T }, true) end
function TestCurves:test_vggsnn() check("vggsnn", ms.models.VGGSNN { scale = 1 / 16, size = 16, T = T }, false) end

os.exit(lu.LuaUnit.run() == 0)
