-- A training step and an evaluation of the published TRT code (tests/ref/official.safetensors): its ResNet-19, VGGSNN and SEW-ResNet-34 with
-- a sixteenth of the channels. The generator keeps every |h - 1| above 2e-5, so spikes are compared exactly, before the rest.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local formula = require "formula"
local ms = require "moonspike"
local o = require "moonspike.options"

local golden, file = formula.golden "official"

-- Of the largest expected value.
local function close(got, want, tolerance, what)
  lu.assertEquals(got.shape, want.shape, what)
  local d = (got - want):abs():max():item() / want:abs():max():item()
  lu.assertTrue(d <= tolerance, ("%s: differs by %.3g of its largest value"):format(what, d))
  return d
end

-- The names in the file under prefix, with all that follows it.
local function names_of(prefix)
  local names = {}
  for _, name in ipairs(file:names()) do
    if name:sub(1, #prefix) == prefix then names[#names + 1] = name:sub(#prefix + 1) end
  end
  table.sort(names)
  return names
end

TestPublished = {}

local cases = {
  resnet19 = { T = 4, size = 12, lambda = 1e-3, delta = 0.25, eta = 0.05 },
  vggsnn = { T = 5, size = 16, lambda = 5e-3, delta = 0.5, eta = 0.001 },
  ["sew-resnet34-trt"] = { T = 4, size = 32, lambda = 5e-3, delta = 0.5, eta = 0.001 },
}

for name, case in pairs(cases) do
  TestPublished["test_" .. name:gsub("-", "_")] = function()
    local function G(key) return golden(name .. "." .. key):to(ms.device()) end
    local T, n, side, seed = case.T, 4, case.size, G "seed":item()
    local net = ms.models.create(name, { size = side, classes = 10, T = T, scale = 1 / 16 })
    formula.fill(net, seed)
    local c, x = net.input[1], nil
    if name == "vggsnn" then
      x = formula.filled(seed * 1000 + 800, { n, T, c, side, side }, 0.5, 0.5):transpose(1, 2)
    else
      x = formula.filled(seed * 1000 + 800, { 1, n, c, side, side }, 0.5, 0.5):expand(T, n, c, side, side)
    end
    local criterion = ms.loss.TRT(net, { lambda = case.lambda, delta = case.delta, eta = case.eta, epsilon = 1e-5 })
    local logits = net(x)
    local l = criterion(logits, ms.tensor({ 1, 4, 7, 0 }, { dtype = "int64" }))
    l:backward()

    local counts, gradients, statistics = {}, {}, {}
    for key, module in net:named_modules() do counts[key] = rawget(module, "counts") end
    for key, p in net:named_parameters() do gradients[key] = p.grad end
    for key, b in net:named_buffers() do statistics[key] = key:find "running" and b or nil end
    lu.assertEquals(o.keys(counts), names_of(name .. ".counts."), "neurons")
    lu.assertEquals(o.keys(gradients), names_of(name .. ".grad."), "parameters")
    lu.assertEquals(o.keys(statistics), names_of(name .. ".buffer."), "running statistics")
    for key, count in pairs(counts) do lu.assertEquals(count:totable(), G("counts." .. key):totable(), "spikes of " .. key) end
    local worst = {
      close(logits:detach(), G "logits", 1e-5, "logits"), close(l:reshape(1):detach(), G "loss", 1e-6, "loss"),
      formula.check(gradients, G, "grad.", 2e-5), formula.check(statistics, G, "buffer.", 1e-5),
    }
    net:eval()
    worst[5] = close(net(x):mean(1):detach(), G "evaluated", 1e-5, "logits of the evaluation")
    if os.getenv "MOONSPIKE_SHOW" then
      print(("# %-16s logits %.1e, loss %.1e, gradients %.1e, statistics %.1e, evaluation %.1e"):format(name, table.unpack(worst)))
    end
  end
end

os.exit(lu.LuaUnit.run() == 0)
