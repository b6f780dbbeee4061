-- Values and gradients against PyTorch (tests/ref/*.safetensors, computed in float64 by generate.py). Spikes are compared first
-- and exactly: the generator keeps every |h - threshold| above 1e-5.
local lu = require "luaunit"
local ms = require "moonspike"
local core = require "moonspike.core"
local nn = ms.nn

local folder = arg[0]:match "^(.*)lua/[^/]*$" .. "ref/"

local function golden(name)
  local file = assert(core.checkpoint.open(folder .. name .. ".safetensors"))
  return function(key) return file:tensor(key):to(ms.device()) end, file
end

-- Largest difference relative to the largest expected value.
local function distance(got, want)
  lu.assertEquals(got.shape, want.shape)
  if want:numel() == 0 then return 0 end
  local scale = math.max(want:abs():max():item(), 1e-3)
  return (got:float() - want):abs():max():item() / scale
end

local function close(got, want, tolerance, what)
  local d = distance(got, want)
  lu.assertTrue(d <= (tolerance or 2e-5), ("%s: differs by %.3g of its largest value"):format(what, d))
end

local function leaf(t) return t:clone():requires_grad_() end

-- y = f(leaves) and its gradients under the file's upstream gradient.
local function check_case(G, name, inputs, f)
  local leaves = {}
  for i, key in ipairs(inputs) do
    leaves[i] = leaf(G(name .. "." .. key))
  end
  local y = f(table.unpack(leaves))
  close(y, G(name .. ".y"), nil, name)
  y:backward(G(name .. ".g"))
  for i, key in ipairs(inputs) do
    close(leaves[i].grad, G(name .. ".d" .. key), nil, name .. ".d" .. key)
  end
end

TestLayers = {}

local convolutions = {
  conv_plain = { padding = 1 }, conv_stride = { stride = 2, padding = 1 }, conv_dilation = { dilation = 2, padding = { 2, 1 } },
  conv_groups = { groups = 2, padding = 1 }, conv_depthwise = { groups = 5, padding = 1 }, conv_point = { stride = 2 },
  conv_large = { stride = { 2, 1 }, padding = { 3, 2 } },
}
for name, options in pairs(convolutions) do
  TestLayers["test_" .. name] = function()
    check_case(golden "layers", name, { "x", "w", "b" }, function(x, w, b) return core.nn.conv2d(x, w, b, options) end)
  end
end

local pools = {
  avg2 = function(x) return core.nn.avg_pool2d(x, { kernel_size = 2 }) end,
  avg_pad = function(x) return core.nn.avg_pool2d(x, { kernel_size = 3, stride = 2, padding = 1 }) end,
  avg_nopad = function(x) return core.nn.avg_pool2d(x, { kernel_size = 3, stride = 2, padding = 1, count_include_pad = false }) end,
  avg_ceil = function(x) return core.nn.avg_pool2d(x, { kernel_size = 3, stride = 2, padding = 1, ceil_mode = true }) end,
  max2 = function(x) return core.nn.max_pool2d(x, { kernel_size = 2 }) end,
  max_overlap = function(x) return core.nn.max_pool2d(x, { kernel_size = 3, stride = 2, padding = 1 }) end,
  adaptive = function(x) return core.nn.adaptive_avg_pool2d(x, 3, 2) end,
}
for name, f in pairs(pools) do
  TestLayers["test_" .. name] = function() check_case(golden "layers", name, { "x" }, f) end
end

function TestLayers:test_linear()
  check_case(golden "layers", "linear", { "x", "w", "b" }, core.nn.linear)
end

for _, name in ipairs { "bn2d", "bn1d" } do
  TestLayers["test_" .. name] = function()
    local G = golden "layers"
    local mean, var = G(name .. ".mean0"):clone(), G(name .. ".var0"):clone()
    check_case(G, name, { "x", "gamma", "beta" }, function(x, gamma, beta)
      close(core.nn.batch_norm(x, gamma, beta, mean, var, { training = false }):detach(), G(name .. ".eval"), nil, name .. ".eval")
      return core.nn.batch_norm(x, gamma, beta, mean, var, { training = true, eps = 1e-5, momentum = 0.1 })
    end)
    close(mean, G(name .. ".mean1"), nil, name .. ".running_mean")
    close(var, G(name .. ".var1"), nil, name .. ".running_var")
  end
end

TestNeurons = {}

local atan = { surrogate = "atan", alpha = 2 }
local variants = {
  trt = {}, detached = { detach_reset = true }, soft = { reset = "soft" }, soft_detached = { reset = "soft", detach_reset = true },
  ge = { fire = ">=" }, ["if"] = { kind = "IF" }, v_reset = { decay_input = true, v_reset = -0.25 },
  threshold = { tau = 4, v_threshold = 0.5 }, rectangle = { surrogate = "rectangle" }, atan = atan,
  sigmoid = { surrogate = "sigmoid", alpha = 4, detach_reset = true }, qgate = { surrogate = "qgate" }, wide = { alpha = 1.5 },
  plif = { kind = "PLIF", surrogate = "atan", fire = ">=", detach_reset = true },
  plif_noinput = { kind = "PLIF", surrogate = "atan", decay_input = false }, plif_reset = { kind = "PLIF", v_reset = 0.25 },
}

local function run_neuron(name, layer)
  local G = golden "neurons"
  local x, v0 = leaf(G(name .. ".x")), leaf(G(name .. ".v0"))
  if layer.w then ms.no_grad(function() layer.w:copy_(G(name .. ".w")) end) end
  local s, v = layer(x, v0)
  lu.assertEquals((s:float() - G(name .. ".s")):abs():sum():item(), 0, name .. ": spikes differ")
  close(v, G(name .. ".v"), nil, name .. ".v");
  ((s * G(name .. ".gs")):sum() + (v * G(name .. ".gv")):sum()):backward()
  close(x.grad, G(name .. ".dx"), nil, name .. ".dx")
  close(v0.grad, G(name .. ".dv0"), nil, name .. ".dv0")
  if layer.w then close(layer.w.grad, G(name .. ".dw"), nil, name .. ".dw") end
end

for name, options in pairs(variants) do
  TestNeurons["test_" .. name] = function()
    local o = {}
    for k, v in pairs(options) do
      if k ~= "kind" then o[k] = v end
    end
    run_neuron(name, nn[options.kind or "LIF"](o))
  end
end

function TestNeurons:test_surrogate_written_in_lua()
  local used = 0
  run_neuron("atan", nn.LIF { surrogate = function(u)
    used = used + 1
    return ((u * math.pi):square() + 1):reciprocal()
  end })
  lu.assertTrue(used > 0)
end

TestLosses = {}

for name, make in pairs {
  sdt = function() return ms.loss.SDT() end, sdt_smooth = function() return ms.loss.SDT { label_smooth = 0.1 } end,
  smse = function() return ms.loss.SMSE() end, tet = function() return ms.loss.TET { mu = 0.05, phi = 1 } end,
  tet_smooth = function() return ms.loss.TET { mu = 0, label_smooth = 0.01 } end, lts = function() return ms.loss.LTS() end,
  trt = function() return ms.loss.TRT({ ms.zeros(1, { requires_grad = true }) }, { eta = 0.05 }) end } do
  TestLosses["test_" .. name] = function()
    local G = golden "losses"
    local o = leaf(G "o")
    local l = make()(o, G "y")
    close(l:reshape(1):detach(), G(name .. ".loss"), nil, name)
    l:backward()
    close(o.grad, G(name .. ".do"), nil, name .. ".do")
  end
end

TestOptimizers = {}

for name, make in pairs {
  sgd = function(p) return ms.optim.SGD(p, { lr = 0.1 }) end, sgd_wd = function(p) return ms.optim.SGD(p, { lr = 0.1, weight_decay = 0.01 }) end,
  sgd_momentum = function(p) return ms.optim.SGD(p, { lr = 0.1, momentum = 0.9, weight_decay = 5e-4 }) end,
  sgd_dampening = function(p) return ms.optim.SGD(p, { lr = 0.1, momentum = 0.9, dampening = 5e-4 }) end,
  sgd_nesterov = function(p) return ms.optim.SGD(p, { lr = 0.1, momentum = 0.9, nesterov = true }) end,
  adam = function(p) return ms.optim.Adam(p, { lr = 1e-2 }) end,
  adam_wd = function(p) return ms.optim.Adam(p, { lr = 1e-2, betas = { 0.8, 0.95 }, eps = 1e-6, weight_decay = 0.1 }) end,
  adamw = function(p) return ms.optim.AdamW(p, { lr = 1e-2, weight_decay = 0.1 }) end } do
  TestOptimizers["test_" .. name] = function()
    local G = golden "optimizers"
    local p = leaf(G "start")
    local opt = make { p }
    for i = 0, 4 do
      p.grad = G("grad" .. i)
      opt:step()
      close(p:detach(), G(("%s.%d"):format(name, i)), 2e-6, name .. " step " .. i)
    end
  end
end

for name, make in pairs {
  step = function(o) return ms.optim.StepLR(o, { step_size = 3, gamma = 0.5 }) end,
  multistep = function(o) return ms.optim.MultiStepLR(o, { milestones = { 2, 5, 6 }, gamma = 0.1 }) end,
  cosine = function(o) return ms.optim.CosineAnnealingLR(o, { T_max = 10, eta_min = 1e-4 }) end,
  warmup = function(o) return ms.optim.LinearWarmup(o, { start_factor = 0.1, steps = 4 }) end } do
  TestOptimizers["test_lr_" .. name] = function()
    local want = golden "optimizers"("lr_" .. name):totable()
    local opt = ms.optim.SGD({ ms.zeros(1, { requires_grad = true }) }, { lr = 0.1 })
    local schedule = make(opt)
    for i, rate in ipairs(want) do
      lu.assertAlmostEquals(opt.param_groups[1].lr, rate, 1e-8, name .. " at " .. i)
      schedule:step()
    end
  end
end

function TestOptimizers:test_clipping()
  local G = golden "optimizers"
  local p = { ms.zeros(3, 4, { requires_grad = true }), ms.zeros(5, { requires_grad = true }) }
  for i = 1, 2 do
    p[i].grad = G("clip." .. i - 1)
  end
  local norm = core.nn.clip_grad_norm(p, 1.5)
  lu.assertAlmostEquals(norm:item(), G "clip.norm":item(), 1e-5)
  for i = 1, 2 do
    close(p[i].grad, G("clipped." .. i - 1), nil, "clipped")
  end
end

TestNetworks = {}

-- One line for each quantity when MOONSPIKE_SHOW is set: the table of single-step differences.
local function show(what, got, want)
  if os.getenv "MOONSPIKE_SHOW" then print(("# %-24s %.2e"):format(what, distance(got, want))) end
end

local function load_start(net, G)
  ms.no_grad(function()
    for name, p in net:named_parameters() do
      p:copy_(G("start." .. name))
    end
  end)
end

local function check_step(net, G, step, logits, l)
  close(logits:detach(), G(step .. ".logits"), nil, "logits of step " .. step)
  close(l:reshape(1):detach(), G(step .. ".loss"), nil, "loss of step " .. step)
  show(step .. " logits", logits:detach(), G(step .. ".logits"))
  show(step .. " loss", l:reshape(1):detach(), G(step .. ".loss"))
  for name, p in net:named_parameters() do
    close(p.grad, G(step .. ".grad." .. name), 1e-4, ("gradient of %s in step %d"):format(name, step))
    show(step .. " grad " .. name, p.grad, G(step .. ".grad." .. name))
  end
end

local function check_after(net, G, step, tolerance)
  for name, p in net:named_parameters() do
    close(p:detach(), G(step .. ".after." .. name), tolerance, ("%s after step %d"):format(name, step))
    show(step .. " after " .. name, p:detach(), G(step .. ".after." .. name))
  end
end

function TestNetworks:test_front_page_network()
  local G = golden "net"
  local net = nn.Sequential {
    nn.Conv2d(1, 4, 3, { padding = 1, bias = false }), nn.BatchNorm2d(4), nn.LIF { tau = 2.0 }, nn.AvgPool2d(2),
    nn.Conv2d(4, 6, 3, { padding = 1, bias = false }), nn.BatchNorm2d(6), nn.LIF { tau = 2.0 }, nn.AvgPool2d(2),
    nn.Flatten(), nn.Linear(24, 3),
  }
  local criterion = ms.loss.TRT(net, { lambda = 1e-3, delta = 0.25, eta = 0.05, epsilon = 1e-5 })
  local opt = ms.optim.Adam(net:parameters(), { lr = 1e-2 })
  load_start(net, G)
  net:train()
  local x = G "x":unsqueeze(1):expand(3, -1, -1, -1, -1)
  for step = 0, 2 do
    local h = x
    for i = 1, 3 do
      h = net[i](h)
    end
    lu.assertEquals((h:float() - G(step .. ".s1")):abs():sum():item(), 0, "spikes of the first layer in step " .. step)
    for i = 4, 7 do
      h = net[i](h)
    end
    lu.assertEquals((h:float() - G(step .. ".s2")):abs():sum():item(), 0, "spikes of the second layer in step " .. step)
    for i = 8, 10 do
      h = net[i](h)
    end
    opt:zero_grad()
    local l = criterion(h, G "y")
    l:backward()
    check_step(net, G, step, h, l)
    for i, name in ipairs { "1.running_mean", "1.running_var", "5.running_mean", "5.running_var" } do
      close(net[i < 3 and 2 or 6][name:sub(3)], G(step .. "." .. name), nil, name)
    end
    opt:step()
    check_after(net, G, step, 5e-4)
  end
end

function TestNetworks:test_one_membrane_for_two_layers()
  local G = golden "shared_membrane"
  local net = nn.Module "Shared" ()
  net.a, net.b, net.c = nn.Linear(6, 8, { bias = false }), nn.Linear(8, 8, { bias = false }), nn.Linear(8, 3, { bias = false })
  local lif = nn.LIF { reset = "soft" }
  local opt = ms.optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
  load_start(net, G)
  local x, y = G "x", G "y"
  for step = 0, 2 do
    local v, logits = ms.zeros(5, 8), {}
    for t = 1, #x do
      local s
      s, v = lif(net.a(x:narrow(1, t, 1)), v)
      s, v = lif(net.b(s), v)
      logits[t] = net.c(s)
    end
    local o = ms.cat(logits, 1)
    local l = ms.loss.SDT()(o, y) + v:square():mean() * 0.1
    opt:zero_grad()
    l:backward()
    close(v:detach(), G(step .. ".v"), nil, "membrane of step " .. step)
    check_step(net, G, step, o, l)
    opt:step()
    check_after(net, G, step, 2e-5)
  end
end

os.exit(lu.LuaUnit.run() == 0)
