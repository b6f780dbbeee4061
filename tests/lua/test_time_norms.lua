-- TEBN, TAB, BNTT: the reference case G6, definitions written anew with plain ops, evaluation, steps, files.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn = ms.nn

-- [T, N, C, H, W] of G6: 1, 2 (t = 0), 3, 6 (t = 1), one channel of 1x2 pixels
local function golden_x() return ms.tensor({ 1, 2, 3, 6 }):view(2, 1, 1, 1, 2):contiguous():requires_grad_() end

TestGolden = {}

function TestGolden:test_bn_over_time_and_batch()
  local x, bn = golden_x(), nn.BatchNorm2d(1)
  local y = bn(x)
  s.near(y:detach(), { -1.06904344, -.5345217202, 0, 1.603565161 }, 1e-5)
  s.near(bn.running_mean, { .3 })
  s.near(bn.running_var, { 1.3666666667 })
  y:reshape(-1):narrow(1, 1, 1):sum():backward()
  s.near(x.grad, { .248171235, -.2099904576, -.1336304301, .09544965267 }, 2e-5)
end

function TestGolden:test_tab()
  local x, tab = golden_x(), nn.TAB(1, 2)
  s.near(tab(x):detach(), { -.9999800006, .9999800006, 0, 1.603565161 }, 1e-5)
  s.near(tab.bn[1].running_mean, { .15 })
  s.near(tab.bn[2].running_mean, { .3 })
  s.near(tab.bn[2].running_var, { 1.3666666667 })
  lu.assertEquals(tab.bn[2].num_batches_tracked:item(), 1)
end

function TestGolden:test_td_bn()
  local x = golden_x()
  s.near(nn.tdBN(1, { alpha = 1 / math.sqrt(2), V_th = 0.5 })(x):detach(),
    { -1.06904344 * .35355339, -.5345217202 * .35355339, 0, 1.603565161 * .35355339 }, 1e-4)
end

function TestGolden:test_tebn_and_bntt()
  local tebn, bntt = nn.TEBN(1, 2), nn.BNTT(1, 2)
  ms.no_grad(function() tebn.te:copy_(ms.tensor { 2, -1 }) end)
  s.near(tebn(golden_x()):detach(), { -2.13808688, -1.06904344, 0, -1.603565161 }, 1e-5)
  s.near(bntt(golden_x()):detach(), { -.9999800006, .9999800006, -.9999977778, .9999977778 }, 1e-5)
  lu.assertEquals(#bntt:parameters(), 2)
end

TestDefinition = {}

local kinds = { TEBN = nn.TEBN, TAB = nn.TAB, BNTT = nn.BNTT }
local T, N, C = 3, 2, 2

-- What the statistics of step t span, and the factor behind it; everything else is the same formula.
local span = { TEBN = function() return 1, T end, TAB = function(t) return 1, t end, BNTT = function(t) return t, t end }

local function written_anew(kind, norm, x, gain)
  local out = {}
  for t = 1, T do
    local from, to = span[kind](t)
    local part = x:narrow(1, from, to - from + 1)
    local mean = part:mean { 1, 2, 4, 5 }
    local var = (part - mean:view(1, 1, C, 1, 1)):square():mean { 1, 2, 4, 5 }
    local bn = kind == "TEBN" and norm.bn or norm.bn[t]
    local y = (x:narrow(1, t, 1) - mean:view(1, 1, C, 1, 1)) * ((var + bn.eps):rsqrt() * gain * bn.weight):view(1, 1, C, 1, 1)
    if bn.bias then y = y + bn.bias:view(1, 1, C, 1, 1) end
    local factor = kind == "TEBN" and norm.te:narrow(1, t, 1) or kind == "TAB" and norm.p:narrow(1, t, 1):square()
    out[t] = factor and y * factor:view(1, 1, 1, 1, 1) or y
  end
  return ms.cat(out, 1)
end

local function fill(net)
  ms.no_grad(function()
    for name, p in net:named_parameters() do p:copy_(ms.rand(p.shape, { key = "time/" .. name }) + 0.5) end
  end)
  return net
end

for kind, make in pairs(kinds) do
  TestDefinition["test_" .. kind] = function()
    for _, opts in ipairs { {}, { alpha = 0.5, V_th = 0.8 } } do
      local norm = fill(make(C, T, opts))
      local x = ms.randn(T, N, C, 2, 3, { key = "x" }) * 2
      local a, b = x:clone():requires_grad_(), x:clone():requires_grad_()
      local g = ms.randn(x.shape, { key = "g" })
      local y = norm(a);
      (y * g):sum():backward()
      local grads = {}
      for name, p in norm:named_parameters() do grads[name] = p.grad:clone() end
      norm:zero_grad()
      local want = written_anew(kind, norm, b, (opts.alpha or 1) * (opts.V_th or 1));
      (want * g):sum():backward()
      s.near(y:detach(), want:detach(), 2e-4, kind)
      s.near(a.grad, b.grad, 2e-3, kind .. " dx")
      for name, p in norm:named_parameters() do s.near(grads[name], p.grad, 2e-3, kind .. " " .. name) end
    end
  end

  TestDefinition["test_evaluation_and_steps_" .. kind] = function()
    local norm = fill(make(C, T))
    for i = 1, 3 do norm(ms.randn(T, 4, C, 2, 3, { key = "train" .. i }) * i + 1) end
    norm:eval()
    local x = ms.randn(T, N, C, 2, 3, { key = "eval" })
    local y, steps = norm(x):detach(), {}
    for t = 1, T do
      local bn = kind == "TEBN" and norm.bn or norm.bn[t]
      local want = (x[t] - bn.running_mean:view(1, C, 1, 1)) * ((bn.running_var + bn.eps):rsqrt() * bn.weight):view(1, C, 1, 1)
      if bn.bias then want = want + bn.bias:view(1, C, 1, 1) end
      if kind ~= "BNTT" then want = want * (kind == "TEBN" and norm.te[t] or norm.p[t]:square()) end
      s.near(y[t], want:detach(), 1e-4, kind .. " step " .. t)
      steps[t] = norm:step(x[t])
    end
    s.near(ms.stack(steps, 1):detach(), y, 1e-5)
    s.raises("expected at most 3 time steps, got 4; call net:reset_state()", norm.step, norm, x[1])
    norm:reset_state()
    s.near(norm:step(x[1]):detach(), y[1], 1e-5)
    norm:reset_state()
    s.near(norm(x:narrow(1, 1, 2)):detach(), y:narrow(1, 1, 2), 1e-5) -- fewer steps are the first ones
  end

  TestDefinition["test_static_image_and_autocast_" .. kind] = function()
    local image = ms.randn(N, C, 2, 3, { key = "image" })
    local norm = fill(make(C, T))
    local still = norm(image:unsqueeze(1):expand(T, -1, -1, -1, -1)):detach()
    s.near(still, norm(ms.stack({ image, image, image }, 1)):detach(), 1e-4)
    local half = ms.autocast("bf16", function() return norm(ms.stack({ image, image, image }, 1)) end)
    s.near(half:detach():float(), still, 0.1)
  end
end

function TestDefinition:test_files_and_counts()
  local a, b = fill(nn.TAB(5, 4)), nn.TAB(5, 4)
  local n = 0
  for _, p in ipairs(a:parameters()) do n = n + p:numel() end
  lu.assertEquals(n, 4 * 2 * 5 + 4)
  a(ms.randn(4, 3, 5))
  b:load_state_dict(a:state_dict())
  a:eval()
  b:eval()
  local x = ms.randn(4, 2, 5)
  lu.assertEquals(a(x):totable(), b(x):totable())
  lu.assertStrContains(tostring(a), "TAB(T 4)")
end

function TestDefinition:test_messages()
  s.raises("TAB: T: expected an integer >= 1, got nil", nn.TAB, 3)
  s.raises("TEBN: num_features: expected an integer >= 1, got 0", nn.TEBN, 0, 2)
  s.raises("tdBN: unknown option 'epsilon'", nn.TAB, 3, 2, { epsilon = 1 })
  s.raises("TAB: x: expected at most 2 time steps, got 3", nn.TAB(3, 2), ms.zeros(3, 2, 3))
  s.raises("BNTT: x: expected [T, N, C, H, W] or [T, N, C], got tensor [2, 3]", nn.BNTT(3, 2), ms.zeros(2, 3))
  s.raises("TAB: x: in training its statistics span all steps so far", function() nn.TAB(3, 2):step(ms.ones(4, 3)) end)
end

os.exit(lu.LuaUnit.run() == 0)
