-- Gradients of every layer, neuron and loss by finite differences. In the double build neurons fire by the smooth primitive of
-- their surrogate, so their slopes can be measured; elsewhere those cases are left to the golden files.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local ref = require "reference"
local core = require "moonspike.core"
local T, O, N = core.tensor, core.ops, core.nn

core.device.threads(1) -- tensors are small

local wide = core.device.float_width() == 8

-- Distinct values a step of differences cannot reorder.
local function distinct(shape, seed)
  local n = 1
  for _, size in ipairs(shape) do n = n * size end
  local stride = 1
  for s = math.floor(n * 0.618), n do
    local a, b = s, n
    while b ~= 0 do a, b = b, a % b end
    if a == 1 then
      stride = s
      break
    end
  end
  return ref.array(shape, function(i) return ((i * stride + (seed or 0)) % n) / n * 2 - 1 + 0.003 end)
end

local function check(what, f, shapes, opts)
  local arrays = {}
  for i, shape in ipairs(shapes) do arrays[i] = distinct(shape, i) end
  ref.gradcheck(what, f, arrays, opts or { step = 1e-2, tolerance = 2e-2 })
end

TestLayers = {}

local convolutions = {
  { { 2, 2, 4, 4 }, { 3, 2, 3, 3 }, {} },
  { { 2, 2, 4, 4 }, { 3, 2, 3, 3 }, { padding = 1 } },
  { { 3, 2, 2, 4, 4 }, { 3, 2, 3, 3 }, { padding = 1 } },
  { { 1, 2, 5, 6 }, { 2, 2, 3, 2 }, { stride = { 2, 1 }, padding = { 0, 1 } } },
  { { 1, 2, 6, 5 }, { 2, 2, 2, 3 }, { dilation = { 1, 2 }, stride = 2, padding = { 1, 2 } } },
  { { 2, 4, 4, 4 }, { 6, 2, 3, 3 }, { groups = 2, padding = 1 } },
  { { 2, 3, 4, 4 }, { 3, 1, 3, 3 }, { groups = 3, padding = 1 } },
  { { 2, 3, 5, 5 }, { 3, 1, 3, 3 }, { groups = 3, padding = 1, stride = 2, dilation = 1 } },
  { { 1, 2, 4, 4 }, { 6, 1, 2, 2 }, { groups = 2 } },
  { { 2, 3, 3, 3 }, { 4, 3, 1, 1 }, {} },
  { { 2, 3, 4, 4 }, { 4, 3, 1, 1 }, { stride = 2 } },
  { { 1, 1, 3, 3 }, { 2, 1, 5, 5 }, { padding = 2 } },
  { { 2, 2, 3, 3 }, { 2, 2, 3, 3 }, {} },
  { { 1, 1, 2, 2 }, { 1, 1, 1, 1 }, { padding = 1 } },
}

function TestLayers:test_conv2d()
  for i, case in ipairs(convolutions) do
    local what = "conv2d " .. i
    check(what, function(x, w, b) return N.conv2d(x, w, b, case[3]) end, { case[1], case[2], { case[2][1] } })
    check(what .. " no bias", function(x, w) return N.conv2d(x, w, nil, case[3]) end, { case[1], case[2] })
    -- an image repeated over T, computed once
    if #case[1] == 4 then
      local n, c, h, w4 = table.unpack(case[1])
      check(what .. " repeated", function(x, w, b)
        return N.conv2d(x:unsqueeze(1):expand(3, n, c, h, w4), w, b, case[3])
      end, { case[1], case[2], { case[2][1] } }, { step = 1e-2, tolerance = 3e-2 })
    end
  end
end

function TestLayers:test_conv2d_of_spikes()
  for i, case in ipairs(convolutions) do
    local n = 1
    for _, size in ipairs(case[1]) do n = n * size end
    local list = {}
    for k = 1, n do list[k] = (k * 7 % 5 == 0) and 2 or (k % 3 == 0 and 1 or 0) end
    local s = T.tensor(list, { dtype = "spike" }):view(case[1])
    local real = s:float()
    local w = ref.tensor(distinct(case[2]))
    lu.assertEquals(s.dtype, "spike")
    check("spikes " .. i, function(weight, b) return N.conv2d(s, weight, b, case[3]) end, { case[2], { case[2][1] } })
    -- the same input as reals gives the same output and weight gradient
    local function run(x)
      local v = w:clone():requires_grad_()
      local y = N.conv2d(x, v, nil, case[3])
      y:backward(ref.tensor(distinct(y.shape, 3)))
      return y:detach(), v.grad
    end
    local y1, g1 = run(s)
    local y2, g2 = run(real)
    ref.check(y1, ref.of(y2), "spikes " .. i, ref.tolerance * 10)
    ref.check(g1, ref.of(g2), "weights of spikes " .. i, ref.tolerance * 10)
  end
end

function TestLayers:test_linear()
  for _, shape in ipairs { { 3 }, { 2, 3 }, { 2, 2, 3 }, { 2, 1, 2, 3 } } do
    check("linear", N.linear, { shape, { 4, 3 }, { 4 } })
    check("linear no bias", function(x, w) return N.linear(x, w) end, { shape, { 4, 3 } })
  end
  check("linear repeated", function(x, w, b) return N.linear(x:unsqueeze(1):expand(4, 2, 3), w, b) end, { { 2, 3 }, { 4, 3 }, { 4 } },
    { step = 1e-2, tolerance = 3e-2 })
end

function TestLayers:test_pools()
  local options = {
    { kernel_size = 2 }, { kernel_size = 3, stride = 2, padding = 1 }, { kernel_size = { 2, 3 }, stride = { 1, 2 } },
    { kernel_size = 3, stride = 2, ceil_mode = true }, { kernel_size = 3, stride = 2, padding = 1, ceil_mode = true, count_include_pad = false },
    { kernel_size = 1 }, { kernel_size = 5, padding = 2, stride = 1 },
  }
  for _, shape in ipairs { { 2, 2, 5, 6 }, { 2, 1, 3, 5, 5 } } do
    for i, o in ipairs(options) do
      -- steps of the float32 build stay below the distance of two neighbours
      check("avg_pool2d " .. i, function(x) return N.avg_pool2d(x, o) end, { shape })
      check("max_pool2d " .. i, function(x)
        return N.max_pool2d(x, { kernel_size = o.kernel_size, stride = o.stride, padding = o.padding, ceil_mode = o.ceil_mode })
      end, { shape }, { step = 4e-3, tolerance = 3e-2 })
    end
    for _, size in ipairs { { 1, 1 }, { 3, 2 }, { 5, 5 }, { 7, 4 } } do
      check("adaptive_avg_pool2d", function(x) return N.adaptive_avg_pool2d(x, size[1], size[2]) end, { shape })
    end
  end
end

function TestLayers:test_batch_norm()
  local mean, var = T.tensor { 0.3, -0.2, 0.1 }, T.tensor { 0.5, 2, 1 }
  for _, shape in ipairs { { 6, 3 }, { 2, 4, 3 }, { 3, 3, 2, 2 }, { 2, 2, 3, 2, 2 } } do
    for _, training in ipairs { true, false } do
      for _, gain in ipairs { 1, 0.35 } do
        local o = { training = training, gain = gain }
        local function bn(x, gamma, beta)
          local m, v
          if not training then m, v = mean:clone(), var:clone() end
          return N.batch_norm(x, gamma, beta, m, v, o)
        end
        local wanted = { step = 1e-2, tolerance = 4e-2 }
        check("batch_norm", bn, { shape, { 3 }, { 3 } }, wanted)
        check("batch_norm gamma", bn, { shape, { 3 } }, wanted)
        check("batch_norm beta", function(x, beta) return bn(x, nil, beta) end, { shape, { 3 } }, wanted)
        check("batch_norm plain", bn, { shape }, wanted)
        check("batch_norm of a convolution", function(x, gamma, beta) return bn(x * 2, gamma, beta):relu():square() end,
          { shape, { 3 }, { 3 } }, { step = 3e-3, tolerance = 0.15 })
      end
    end
  end
end

function TestLayers:test_dropout()
  for _, p in ipairs { 0, 0.3, 0.9 } do
    check("dropout", function(x) return N.dropout(x, p, "a key") end, { { 2, 3, 4, 2, 2 } })
    check("dropout repeated", function(x) return N.dropout(x:unsqueeze(1):expand(3, 2, 3, 2, 2), p, "a key") end, { { 2, 3, 2, 2 } },
      { step = 1e-2, tolerance = 3e-2 })
  end
end

TestLosses = {}

function TestLosses:test_classification()
  local labels = T.tensor({ 2, 0 }, { dtype = "int64" })
  for _, over in ipairs { "each", "mean", "last" } do
    for _, o in ipairs { {}, { ce = 0, mse = 1, onehot = true }, { ce = 0.95, mse = 0.05 }, { ce = 0.95, mse = 0.05, phi = 0.5 },
      { ce = 0.95, mse = 0.05, onehot = true }, { smooth = 0.1 }, { smooth = 0.1, ce = 0.5, mse = 0.5 } } do
      local options = { over = over }
      for k, v in pairs(o) do options[k] = v end
      check("loss over " .. over, function(logits) return (N.classification_loss(logits * 3, labels, options)) * 1.5 end,
        { { 3, 2, 4 } })
    end
  end
end

function TestLosses:test_regulariser()
  for _, o in ipairs { {}, { t0 = 1 }, { T = 7 }, { delta = 0.5, epsilon = 1e-3 }, { delta = 0 }, { T = 1 } } do
    local options = { lambda = 0.3 }
    for k, v in pairs(o) do options[k] = v end
    check("trt", function(a, b) return (N.trt({ a, b }, options)) * 0.5 end, { { 3, 2 }, { 4 } }, { step = 5e-3, tolerance = 3e-2 })
  end
end

TestInPlace = {}

function TestInPlace:test_in_place_forms()
  local forms = {
    add_ = function(y, b) y:add_(b) end, sub_ = function(y, b) y:sub_(b) end, mul_ = function(y, b) y:mul_(b) end,
    div_ = function(y, b) y:div_(b + 3) end, relu_ = function(y) y:relu_() end, number = function(y) y:add_(1):mul_(3) end,
    zero_ = function(y, b) y:zero_():add_(b) end, exp_ = function(y) y:exp_() end,
    copy_ = function(y, b) y:copy_(b * 2) end, after_use = function(y, b) y:add_(b:exp()):mul_(b + 2) end,
  }
  for name, f in pairs(forms) do
    check(name, function(a, b)
      local y = a * 2 + b * 0
      f(y, b)
      return y:square()
    end, { { 2, 3 }, { 3 } }, { step = 4e-3, tolerance = 4e-2 })
  end
end

-- The tape does not follow writes through a view: they are refused, and nothing is written.
function TestInPlace:test_writes_through_views_are_refused()
  local x = T.tensor({ 1, 2 }, { requires_grad = true })
  for _, f in ipairs { function(y) y:view(2, 1):fill_(3) end, function(y) y[1] = 5 end, function(y) y:narrow(1, 1, 1):copy_(T.ones(1)) end } do
    local y = x * 2
    local ok, message = pcall(f, y)
    lu.assertFalse(ok)
    lu.assertStrContains(message, "shares memory with another one, which the graph could not follow; build the result with cat, stack or where")
    lu.assertEquals(y:totable(), { 2, 4 })
  end
end

TestTypes = {}

function TestTypes:test_conversions_pass_gradients_on()
  local x = T.tensor({ 1, 2, -3 }, { requires_grad = true })
  local y = x:bfloat16()
  lu.assertEquals({ y.dtype, y.requires_grad }, { "bfloat16", true });
  (y:float() * T.tensor { 1, 2, 4 }):sum():backward()
  lu.assertEquals(x.grad:totable(), { 1, 2, 4 })
  lu.assertEquals(x.grad.dtype, "float32")
  lu.assertFalse(x:long().requires_grad)
  lu.assertFalse(x:abs():byte().requires_grad)
  local s = T.tensor({ 1, 0, 2 }, { dtype = "spike", requires_grad = true });
  (s * T.tensor { 5, 6, 7 }):sum():backward()
  lu.assertEquals(s.grad:totable(), { 5, 6, 7 })
  lu.assertEquals(s.grad.dtype, "float32")
end

-- ---- neurons: only where the step is smooth ----

TestNeurons = {}

if not wide then
  function TestNeurons:test_smooth_build_alone() lu.skip "measured in the double-precision build (-DMS_REAL64=ON)" end
  os.exit(lu.LuaUnit.run() == 0)
end

local shape = { 3, 2, 2 }

local function joined(s, v)
  return O.cat({ (s * 1.25):reshape(-1), (v * 0.75):reshape(-1) }, 1)
end

local function each_switch(visit)
  for _, surrogate in ipairs { "triangle", "rectangle", "atan", "sigmoid", "qgate", "gaussian" } do
    for _, soft in ipairs { false, true } do
      for _, plif in ipairs { 0, 1, 2 } do
        for _, kind in ipairs { {}, { leak = 1, threshold = 0.7 }, { leak = 0.75, gain = 0.25, bias = -0.1, v_reset = -0.4, v_init = 0.2 } } do
          for _, alpha in ipairs { 0, 1.7 } do
            local o = { surrogate = surrogate, soft = soft, plif = plif > 0, plif_input = plif == 2 }
            for k, v in pairs(kind) do o[k] = v end
            if alpha > 0 then o.alpha = alpha end
            visit(o, plif > 0)
          end
        end
      end
    end
  end
end

function TestNeurons:test_every_switch()
  local cases = 0
  each_switch(function(o, plif)
    local what = ("%s soft=%s plif=%s"):format(o.surrogate, o.soft, plif)
    local x, v0, w = distinct(shape, 1), distinct({ 2, 2 }, 2), distinct({ 1 }, 3)
    for i = 1, #x do x[i] = x[i] * 1.6 + 0.4 end
    if plif then
      ref.gradcheck(what, function(a, b, c)
        local s, v = N.neuron(a, b, c, o)
        return joined(s, v)
      end, { x, v0, w })
    else
      ref.gradcheck(what, function(a, b)
        local s, v = N.neuron(a, b, nil, o)
        return joined(s, v)
      end, { x, v0 })
      ref.gradcheck(what .. " from rest", function(a)
        local s, v = N.neuron(a, nil, nil, o)
        return joined(s, v)
      end, { x })
    end
    cases = cases + 1
  end)
  lu.assertEquals(cases, 216)
end

-- With the reset detached the slope is that of the recursion in which the reset sees a constant spike.
function TestNeurons:test_detached_reset()
  each_switch(function(o, plif)
    if plif then return end
    o.detach = true
    local function manual(x, v, frozen)
      local out = {}
      for t = 1, 3 do
        local h = v * (o.leak or 0.5) + x[t] * (o.gain or 1) + (o.bias or 0)
        local s, v2 = N.neuron(h:unsqueeze(1), nil, nil, { surrogate = o.surrogate, alpha = o.alpha, leak = 0, gain = 1, threshold = o.threshold })
        out[t] = s
        local f = frozen(s[1], t)
        v = o.soft and h - f * (o.threshold or 1) or h * (1 - f) + f * (o.v_reset or 0)
      end
      return O.cat(out, 1), v
    end
    local function run(f)
      local x = ref.tensor(distinct(shape, 1), { requires_grad = true })
      local v0 = ref.tensor(distinct({ 2, 2 }, 2), { requires_grad = true })
      local s, v = f(x, v0)
      joined(s, v):sum():backward()
      return ref.of(x.grad), ref.of(v0.grad)
    end
    local dx, dv = run(function(x, v0) return N.neuron(x, v0, nil, o) end)
    local mx, mv = run(function(x, v0) return manual(x, v0, function(s) return s:detach() end) end)
    for i = 1, #dx do lu.assertAlmostEquals(dx[i], mx[i], 1e-9) end
    for i = 1, #dv do lu.assertAlmostEquals(dv[i], mv[i], 1e-9) end
  end)
end

function TestNeurons:test_surrogate_in_lua()
  local o = { surrogate = function(u) return (1 - u:abs()):relu() end } -- the smooth step is the triangle's
  local function slope(options)
    local x = (T.arange(0, 5 * 64 * 64):float():view(5, 64, 64) * 0.618):sin():mul(2):detach():requires_grad_()
    N.neuron(x, nil, nil, options):sum():backward()
    return x.grad
  end
  local apart = (slope(o) - slope { surrogate = "triangle" }):abs():max():item()
  lu.assertTrue(apart < 1e-6, apart)
  check("lua surrogate", function(x, v0) return joined((N.neuron(x, v0, nil, o)), (select(2, N.neuron(x, v0, nil, o)))) end, { shape, { 2, 2 } })
end

-- K1 to K7: normalisation before, residual before, pooling after; each as it is fused and as it is not.
function TestNeurons:test_fused_chains()
  local image = { 2, 2, 2, 4, 4 }
  local chains = {
    function(x, gamma, beta) return (N.neuron(N.batch_norm(x, gamma, beta), nil, nil, { surrogate = "atan" })) end,
    function(x, gamma, beta) return (N.neuron(N.batch_norm(x, gamma, beta) + x * 0.5, nil, nil, { surrogate = "atan" })) end,
    function(x, gamma, beta) return (N.neuron(x * 0.5 + N.batch_norm(x, gamma, beta), nil, nil, { surrogate = "sigmoid" })) end,
    function(x, gamma, beta)
      return N.avg_pool2d((N.neuron(N.batch_norm(x, gamma, beta, nil, nil, { gain = 0.7 }), nil, nil, { surrogate = "sigmoid" })), { kernel_size = 2 })
    end,
    function(x, gamma, beta)
      local y = N.batch_norm(x, gamma, beta) -- read twice
      return (N.neuron(y, nil, nil, { surrogate = "atan" })) + y * 0.1
    end,
    function(x, gamma, beta) return N.avg_pool2d(N.batch_norm(x, gamma, beta), { kernel_size = 2 }):square() end,
    function(x, gamma, beta)
      local y = N.batch_norm(x[1]:unsqueeze(1):expand(2, 2, 2, 4, 4), gamma, beta)
      return (N.neuron(y, nil, nil, { surrogate = "atan" }))
    end,
    function(x, gamma, beta)
      local s, v = N.neuron(N.batch_norm(x, gamma, beta), x[1] * 0.3, nil, { surrogate = "atan", soft = true })
      return joined(s, v)
    end,
  }
  for i, f in ipairs(chains) do
    for _, fused in ipairs { true, false } do
      local was = N.set_fusion(fused)
      ref.gradcheck(("chain %d, fused=%s"):format(i, fused), f, { distinct(image, 1), ref.filled({ 2 }, 0.5, 1.5), distinct({ 2 }, 3) })
      N.set_fusion(was)
    end
  end
end

-- Steps in a loop over t, with the membrane as a tensor, have the slopes of the call with all steps.
function TestNeurons:test_steps()
  local o = { surrogate = "sigmoid", soft = true }
  check("steps", function(x)
    local v, out = nil, {}
    for t = 1, 3 do out[t], v = N.neuron(x:narrow(1, t, 1), v, nil, o) end
    return joined(O.cat(out, 1), v)
  end, { shape })
end

os.exit(lu.LuaUnit.run() == 0)
