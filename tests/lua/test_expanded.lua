-- Expanded tensors (a static image repeated over T) are written nowhere and computed once; memory order is never visible.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local nn, N = ms.nn, core.nn

local T = 3

local function repeated()
  local image = ms.arange(0, 2 * 2 * 4 * 4):view(2, 2, 4, 4)
  return image:unsqueeze(1):expand(T, 2, 2, 4, 4), image
end

TestExpanded = {}

function TestExpanded:test_writes_are_refused()
  local x, image = repeated()
  local before = image:totable()
  local writes = {
    add_ = function() x:add_(1) end, mul_ = function() x:mul_(x) end, relu_ = function() x:relu_() end, zero_ = function() x:zero_() end,
    fill_ = function() x:fill_(1) end, copy_ = function() x:copy_(ms.ones(T, 2, 2, 4, 4)) end, uniform_ = function() x:uniform_(0, 1) end,
    normal_ = function() x:normal_(0, 1) end, bernoulli_ = function() x:bernoulli_(0.5) end, scaled = function() x:add_(x, 2) end,
    index = function() x[1] = 0 end, part = function() x[{ 2, {}, 1 }] = ms.zeros(2, 4, 4) end, list = function() x[{ {}, {}, 1, 1 }] = { 1, 2, 3, 4 } end,
    view = function() x:narrow(3, 1, 1):add_(1) end,
  }
  for name, f in pairs(writes) do
    local ok, message = pcall(f)
    lu.assertFalse(ok, name)
    lu.assertStrContains(message, "the tensor repeats its memory (an expanded view); clone it first", false, false, name)
    lu.assertEquals(image:totable(), before, name)
  end
  local free = x:clone()
  free:add_(1)
  free[1] = 0
  lu.assertEquals(image:totable(), before)
end

function TestExpanded:test_dropout_draws_for_each_step()
  local x = ms.ones(1, 4, 50):expand(T, 4, 50)
  ms.manual_seed(1)
  local y = nn.Dropout(0.5)(x)
  lu.assertEquals(y:select(1, 1):eq(y:select(1, 2)):all():item(), 0)
  lu.assertEquals(y:select(1, 2):eq(y:select(1, 3)):all():item(), 0)
  ms.manual_seed(1)
  lu.assertEquals(nn.Dropout(0.5)(x:clone()):totable(), y:totable())
end

-- Everything before the first neuron, on the expanded and on the copied input: equal bits; neurons then differ over t.
function TestExpanded:test_hoisted_layers_equal_repeated_ones()
  ms.manual_seed(2)
  local image = ms.randn(3, 2, 6, 6)
  local x = image:unsqueeze(1):expand(4, 3, 2, 6, 6)
  local layers = {
    nn.Conv2d(2, 4, 3, { padding = 1 }), nn.AvgPool2d(2), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Identity(),
    nn.Sequential { nn.Flatten(), nn.Linear(72, 5) }, nn.Sequential { nn.Conv2d(2, 3, 3, { groups = 1 }), nn.Conv2d(3, 2, 1), nn.MaxPool2d(2) },
  }
  for i, layer in ipairs(layers) do
    lu.assertEquals(layer(x):totable(), layer(x:clone()):totable(), "layer " .. i)
  end
  for _, training in ipairs { true, false } do
    local function run(input)
      ms.manual_seed(3)
      local net = nn.Sequential { nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.LIF(), nn.Flatten(), nn.Linear(64, 3) }
      net:train(training)
      local out = net(input)
      out:square():sum():backward()
      return net, out:detach(), net[3].counts
    end
    local a, out, counts = run(x)
    local b, out2, counts2 = run(x:clone())
    lu.assertEquals(counts:totable(), counts2:totable())
    s.near(out, out2, 1e-5)
    s.near(a[1].weight.grad, b[1].weight.grad, 1e-3)
    -- the statistics are those of T * N values, as published
    s.near(a[2].running_mean, b[2].running_mean, 1e-5)
    s.near(a[2].running_var, b[2].running_var, 1e-5)
  end
end

TestOrder = {}

function TestOrder:test_logical_order_everywhere()
  local flat = ms.arange(0, 2 * 3 * 2 * 2)
  local x = flat:view(2, 3, 2, 2)
  local want = flat:totable()
  local y = nn.Identity()(N.conv2d(x, ms.tensor { { 1, 0, 0 }, { 0, 1, 0 }, { 0, 0, 1 } }:view(3, 3, 1, 1))) -- channels-last memory inside
  lu.assertEquals(y:totable(), x:totable())
  lu.assertEquals(s.flat(y:reshape(-1)), want)
  lu.assertEquals(s.flat(nn.Flatten()(y)), want)
  lu.assertEquals(y:bytes(), flat:bytes())
  lu.assertEquals(tostring(y), tostring(x))
  lu.assertEquals(y[{ 2, 3, 1, 2 }]:item(), x[{ 2, 3, 1, 2 }]:item())
  s.raises("use reshape", y.view, y, 2, 12)
  s.raises("does not allow the shape [6] without a copy; use reshape", function() ms.zeros(2, 3):t():view(6) end)
  ms.manual_seed(1)
  local a = ms.zeros(2, 3, 2, 2):normal_(0, 1, "k")
  lu.assertEquals(ms.zeros(24):normal_(0, 1, "k"):totable(), s.flat(a))
  lu.assertEquals(y:clone():normal_(0, 1, "k"):totable(), a:totable())
end

TestBfloat16 = {}

-- Ops that take bfloat16 compute on the widened values: results are the float32 ones, rounded where they stay bfloat16.
function TestBfloat16:test_against_float32()
  ms.manual_seed(6)
  local b = ms.randn(2, 2, 4, 6, 6):bfloat16()
  local x = b:float()
  local w, lw, y = ms.randn(4, 4, 3, 3), ms.randn(5, 6), ms.tensor({ 1, 2 }, { dtype = "int64" })
  local ops = {
    conv = function(v) return N.conv2d(v, w, nil, { padding = 1 }) end, linear = function(v) return N.linear(v, lw) end,
    avg = function(v) return N.avg_pool2d(v, { kernel_size = 2 }) end, max = function(v) return N.max_pool2d(v, { kernel_size = 2 }) end,
    adaptive = function(v) return N.adaptive_avg_pool2d(v, 4, 5) end, norm = function(v) return N.batch_norm(v) end,
    fused = function(v) return (N.neuron(N.batch_norm(v))) end, neuron = function(v) return (N.neuron(v)) end,
    dropout = function(v) return N.dropout(v, 0.5, "k") end, softmax = function(v) return v:softmax(3) end, exp = function(v) return v:exp() end,
    matmul = function(v) return v:matmul(lw:t()) end, loss = function(v) return (N.classification_loss(v:flatten(3), y)) end,
    add = function(v) return v + v end, scale = function(v) return v * 0.5 end, mixed = function(v) return v + lw[1] end,
    cat = function(v) return core.ops.cat({ v, v }, 2) end, sum = function(v) return v:sum(2) end, var = function(v) return v:var(1) end,
    topk = function(v) return (v:topk(2)) end, clamp = function(v) return v:clamp(-1, 1) end, where = function(v) return core.ops.where(v:gt(0), v, 0) end,
    ["in place"] = function(v) return v:detach():clone():add_(1) end,
  }
  for name, f in pairs(ops) do
    local got, want = f(b), f(x)
    lu.assertEquals(got.shape, want.shape, name)
    local rounded = got.dtype == "bfloat16" and 2 ^ -7 or 1e-6
    local scale = want:float():abs():max():item()
    lu.assertTrue((got:float() - want:float()):abs():max():item() <= rounded * scale, name)
    if name ~= "in place" then
      local p, q = b:clone():requires_grad_(), x:clone():requires_grad_()
      f(p):float():square():sum():backward()
      f(q):float():square():sum():backward()
      lu.assertEquals({ p.grad.dtype, p.grad.shape }, { "float32", q.grad.shape }, name)
      lu.assertTrue((p.grad - q.grad):abs():max():item() <= 2 ^ -6 * math.max(1e-6, q.grad:abs():max():item()), name .. ": gradient")
    end
  end
end

os.exit(lu.LuaUnit.run() == 0)
