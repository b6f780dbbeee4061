-- Modules, layers, containers, initialisers, printing.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn = ms.nn

TestModule = {}

local function two()
  local Net = nn.Module "Net"
  function Net:init()
    self.first = nn.Linear(3, 4)
    self.scale = nn.Parameter(ms.ones(4))
    self.mean = nn.Buffer(ms.zeros(4))
    self.second = nn.Linear(4, 2, { bias = false })
  end
  function Net:forward(x) return self.second(self.first(x) * self.scale) end
  return Net()
end

local function names(iterator)
  local list = {}
  for name in iterator do list[#list + 1] = name end
  return list
end

function TestModule:test_names_in_order_of_assignment()
  local net = two()
  lu.assertEquals(names(net:named_parameters()), { "scale", "first.weight", "first.bias", "second.weight" })
  lu.assertEquals(names(net:named_buffers()), { "mean" })
  lu.assertEquals(names(net:named_modules()), { "", "first", "second" })
  lu.assertEquals(names(net:named_children()), { "first", "second" })
  lu.assertEquals(#net:parameters(), 4)
  lu.assertEquals(#net:modules(), 3)
end

function TestModule:test_a_plain_field_replaced_by_a_module_is_found()
  local net = two()
  net.extra = false
  net.extra = nn.Linear(2, 2)
  lu.assertEquals(#net:parameters(), 6)
  net.extra = nil
  lu.assertEquals(#net:parameters(), 4)
end

function TestModule:test_shared_parameters_count_once()
  local net = nn.Sequential { nn.Linear(3, 3, { bias = false }), nn.Linear(3, 3, { bias = false }) }
  net[2].weight = net[1].weight
  lu.assertEquals(#net:parameters(), 1)
  lu.assertEquals(names(pairs(net:state_dict())), { "0.weight", "1.weight" })
end

function TestModule:test_modes()
  local net = nn.Sequential { nn.Dropout(0.5), nn.Sequential { nn.BatchNorm2d(2) } }
  lu.assertTrue(net[2][1].training)
  lu.assertIs(net:eval(), net)
  lu.assertFalse(net[2][1].training)
  net:train()
  lu.assertTrue(net[1].training)
  local seen = {}
  net:apply(function(m) seen[#seen + 1] = m:class() end)
  lu.assertEquals(seen, { "Sequential", "Dropout", "Sequential", "BatchNorm2d" })
end

function TestModule:test_zero_grad_and_freezing()
  local net = two()
  net(ms.ones(1, 3)):sum():backward()
  lu.assertNotNil(net.first.weight.grad)
  net:zero_grad()
  lu.assertNil(net.first.weight.grad)
  net.first:requires_grad_(false)
  net(ms.ones(1, 3)):sum():backward()
  lu.assertNil(net.first.weight.grad)
  lu.assertNotNil(net.second.weight.grad)
end

function TestModule:test_state_dict_goes_round()
  ms.manual_seed(1)
  local a, b = two(), two()
  b:load_state_dict(a:state_dict())
  lu.assertEquals(b.first.weight:totable(), a.first.weight:totable())
  local dict = {}
  for name, t in pairs(a:state_dict()) do dict[name] = t end
  dict["first.bias"], dict.other, dict["second.weight"] = nil, ms.zeros(1), ms.zeros(2, 5)
  local before = b.first.weight:totable()
  local ok, message = pcall(b.load_state_dict, b, dict)
  lu.assertFalse(ok)
  for _, line in ipairs { "missing: first.bias", "unexpected: other", "shape: second.weight: expected [2, 4], got [2, 5]" } do
    lu.assertStrContains(message, line)
  end
  lu.assertEquals(b.first.weight:totable(), before)
  dict["second.weight"] = nil
  lu.assertEquals(#b:load_state_dict(dict, false), 3)
end

function TestModule:test_messages()
  s.raises("Net: forward is not defined", nn.Module "Net" ())
  s.raises("Net: 'step' is a method of every module", function() nn.Module "Net" ().step = nn.Identity() end)
  s.raises("Net: layers: a plain table hides its modules", function() nn.Module "Net" ().layers = { nn.Identity() } end)
  s.raises("Parameter: value: expected a tensor, or sizes and an initialiser, got 3", nn.Parameter, 3)
  s.raises("Buffer: value: expected a tensor, got nil", nn.Buffer)
  s.raises("Module: name: expected a string, got nil", nn.Module)
  local net = two()
  net:parameters()
  net.first.weight = ms.zeros(4, 3)
  s.raises("Linear: weight holds a plain tensor; assign nn.Parameter(tensor)", net.parameters, net)
  s.raises("apply: fn: expected a function(module), got 1", net.apply, net, 1)
  s.raises("step: x: expected a tensor [N, ...], got nil", net.step, net)
  s.raises("to: device: expected a name like 'cpu', got 1", net.to, net, 1)
end

TestSeeds = {}

local function make() return nn.Sequential { nn.Linear(3, 4), nn.Linear(3, 4) } end

function TestSeeds:test_same_script_same_weights()
  ms.manual_seed(7)
  local a = make():parameters()
  ms.manual_seed(7)
  ms.randn(10)
  local b = make():parameters()
  ms.manual_seed(8)
  local c = make():parameters()
  for i = 1, #a do
    lu.assertEquals(a[i]:totable(), b[i]:totable())
    lu.assertNotEquals(a[i]:totable(), c[i]:totable())
  end
  lu.assertEquals(a[1].name, "0.weight")
end

function TestSeeds:test_two_layers_never_share_a_draw()
  ms.manual_seed(7)
  local a, b, c, d = make(), make(), nn.Linear(3, 4), nn.Linear(3, 4)
  local seen = {}
  for _, w in ipairs { a[1].weight, a[2].weight, b[1].weight, c.weight, d.weight } do
    local key = table.concat(s.flat(w), " ")
    lu.assertNil(seen[key])
    seen[key] = true
  end
end

function TestSeeds:test_looking_changes_nothing()
  ms.manual_seed(7)
  local a = make()
  local second = a[2].weight:totable() -- first look, at one layer
  ms.manual_seed(7)
  local b = make()
  b:parameters()
  lu.assertEquals(b[2].weight:totable(), second)
  ms.manual_seed(7)
  local alone = nn.Linear(3, 4)
  local looked = alone.weight:totable()
  ms.manual_seed(7)
  local called = nn.Linear(3, 4)
  called(ms.ones(1, 3))
  lu.assertEquals(called.weight:totable(), looked)
end

function TestSeeds:test_a_layer_added_behind_changes_no_other()
  ms.manual_seed(7)
  local a = make()
  ms.manual_seed(7)
  local b = make():add(nn.Linear(4, 2))
  lu.assertEquals(a:parameters()[1]:totable(), b:parameters()[1]:totable())
  lu.assertEquals(a:parameters()[4]:totable(), b:parameters()[4]:totable())
end

TestInit = {}

function TestInit:test_bounds_and_deviations()
  ms.manual_seed(1)
  local w = ms.zeros(64, 32, 3, 3)
  nn.init.kaiming_uniform_(w, { a = math.sqrt(5) })
  local bound = 1 / math.sqrt(32 * 9)
  lu.assertTrue(w:abs():max():item() <= bound and w:abs():max():item() > 0.99 * bound)
  nn.init.kaiming_normal_(w, { mode = "fan_out", nonlinearity = "relu" })
  s.near(w:std():item(), math.sqrt(2 / (64 * 9)), 0.02)
  nn.init.xavier_uniform_(w)
  lu.assertTrue(w:abs():max():item() <= math.sqrt(6 / (96 * 9)))
  nn.init.xavier_normal_(w, { gain = 2 })
  s.near(w:std():item(), 2 * math.sqrt(2 / (96 * 9)), 0.02)
  nn.init.normal_(w, 1, 0.5)
  s.near(w:mean():item(), 1, 0.02)
  nn.init.uniform_(w, 2, 3)
  lu.assertTrue(w:min():item() >= 2 and w:max():item() < 3)
  lu.assertEquals(nn.init.constant_(w, 5):max():item(), 5)
  s.raises("kaiming_normal_: tensor: expected 2 or more dimensions, got [3]", nn.init.kaiming_normal_, ms.zeros(3))
  s.raises("kaiming_uniform_: unknown option 'b' (known: a, mode, nonlinearity)", nn.init.kaiming_uniform_, w, { b = 1 })
end

function TestInit:test_trt()
  ms.manual_seed(1)
  local net = nn.Sequential { nn.Conv2d(16, 64, 3), nn.Flatten(), nn.Linear(100, 50) }
  nn.init.trt(net)
  s.near(net[1].weight:std():item(), math.sqrt(2 / (64 * 9)), 0.03)
  lu.assertTrue(net[3].weight:abs():max():item() <= 0.1)
  local first = net[1].weight:totable()
  ms.manual_seed(1)
  net = nn.Sequential { nn.Conv2d(16, 64, 3), nn.Flatten(), nn.Linear(100, 50) }
  net:parameters()
  lu.assertEquals(nn.init.trt(net)[1].weight:totable(), first)
end

TestLayers = {}

function TestLayers:test_conv_against_a_loop()
  ms.manual_seed(1)
  local conv = nn.Conv2d(2, 3, { 3, 2 }, { stride = { 2, 1 }, padding = { 1, 0 } })
  local x = ms.randn(2, 2, 5, 4)
  local y = conv(x)
  lu.assertEquals(y.shape, { 2, 3, 3, 3 })
  local X, W, B, Y = x:totable(), conv.weight:totable(), conv.bias:totable(), y:totable()
  for n = 1, 2 do for o = 1, 3 do for i = 1, 3 do for j = 1, 3 do
    local sum = B[o]
    for c = 1, 2 do for a = 1, 3 do for b = 1, 2 do
      local row = 2 * (i - 1) + a - 1
      if row >= 1 and row <= 5 then sum = sum + W[o][c][a][b] * X[n][c][row][j + b - 1] end
    end end end
    lu.assertAlmostEquals(Y[n][o][i][j], sum, 1e-5)
  end end end end
end

function TestLayers:test_shapes()
  local x = ms.zeros(3, 2, 4, 6, 6)
  lu.assertEquals(nn.Flatten()(x).shape, { 3, 2, 144 })
  lu.assertEquals(nn.Flatten()(ms.zeros(2, 4, 6, 6)).shape, { 2, 144 })
  lu.assertEquals(nn.AvgPool2d(2)(x).shape, { 3, 2, 4, 3, 3 })
  lu.assertEquals(nn.MaxPool2d(3, { stride = 2, padding = 1 })(x).shape, { 3, 2, 4, 3, 3 })
  lu.assertEquals(nn.AdaptiveAvgPool2d(1)(x).shape, { 3, 2, 4, 1, 1 })
  lu.assertEquals(nn.Linear(6, 5)(x).shape, { 3, 2, 4, 6, 5 })
  lu.assertIs(nn.Identity()(x), x)
  s.raises("Flatten: x: expected [T, N, C, H, W]", nn.Flatten(), ms.zeros(3))
end

function TestLayers:test_flatten_is_c_h_w()
  local x = ms.arange(0, 24):view(1, 2, 3, 4)
  lu.assertEquals(nn.Flatten()(x):totable()[1], ms.arange(0, 24):totable())
end

function TestLayers:test_dropout()
  ms.manual_seed(1)
  local drop = nn.Dropout(0.25)
  local y = drop(ms.ones(2, 1000))
  s.near(y:eq(0):float():mean():item(), 0.25, 0.1)
  s.near(y:max():item(), 4 / 3, 1e-6)
  lu.assertEquals(drop:eval()(ms.ones(4)):totable(), { 1, 1, 1, 1 })
end

function TestLayers:test_messages()
  s.raises("Conv2d: in_channels: expected an integer >= 1, got 0", nn.Conv2d, 0, 1, 1)
  s.raises("Conv2d: kernel_size: expected an integer >= 1, or a table of two, got nil", nn.Conv2d, 1, 1)
  s.raises("Conv2d: unknown option 'pad' (known: bias, dilation, groups, padding, stride)", nn.Conv2d, 1, 1, 3, { pad = 1 })
  s.raises("Conv2d: groups: expected a divisor of 3 and 4, got 2", nn.Conv2d, 3, 4, 1, { groups = 2 })
  local net = nn.Sequential { nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(10, 2) }
  s.raises("linear: x: expected [..., 10] (2.weight [2, 10]), got float32 [3, 1, 72]", net, ms.zeros(3, 1, 1, 8, 8))
  s.raises("conv2d: x: expected 1 channels (0.weight [2, 1, 3, 3], groups 1), got", net, ms.zeros(3, 1, 2, 8, 8))
  s.raises("Conv2d: options: expected a table, got 3 (known: bias, dilation,", nn.Conv2d, 1, 1, 3, 3)
  s.raises("Linear: out_features: expected an integer >= 1, got 1.5", nn.Linear, 1, 1.5)
  s.raises("AvgPool2d: padding: expected at most half of kernel_size 2, got 2", nn.AvgPool2d, 2, { padding = 2 })
  s.raises("Dropout: p: expected a number >= 0 and < 1, got 1", nn.Dropout, 1)
  s.raises("conv2d", nn.Conv2d(3, 4, 3), ms.zeros(1, 2, 5, 5))
  s.raises("linear", nn.Linear(3, 4), ms.zeros(1, 2))
end

TestNorm = {}

-- G6 of the reference cases: x = 1, 2 (t = 0), 3, 6 (t = 1), one channel of 1x2 pixels.
function TestNorm:test_golden_batch_norm()
  local bn = nn.BatchNorm2d(1)
  local x = ms.tensor { 1, 2, 3, 6 }:view(2, 1, 1, 1, 2):requires_grad_()
  local y = bn(x)
  s.near(y:detach(), { -1.06904344, -.5345217202, 0, 1.603565161 }, 1e-5)
  s.near(bn.running_mean, { .3 })
  s.near(bn.running_var, { 1.3666666667 })
  lu.assertEquals(bn.num_batches_tracked:item(), 1)
  y:backward(ms.tensor { 1, 0, 0, 0 }:view(2, 1, 1, 1, 2))
  s.near(x.grad, { .248171235, -.2099904576, -.1336304301, .09544965267 }, 2e-5)
end

-- G6 with tdBN: everything behind the normalisation is alpha * V_th = 0.5 / sqrt(2) of BatchNorm's; running statistics are the same.
function TestNorm:test_golden_tdbn()
  local gain = 0.5 / math.sqrt(2)
  local bn = nn.tdBN(1, { alpha = 1 / math.sqrt(2), V_th = 0.5 })
  local x = ms.tensor { 1, 2, 3, 6 }:view(2, 1, 1, 1, 2):requires_grad_()
  local y = bn(x)
  s.near(y:detach(), { -1.06904344 * gain, -.5345217202 * gain, 0, 1.603565161 * gain }, 2e-5)
  s.near(bn.running_mean, { .3 })
  s.near(bn.running_var, { 1.3666666667 })
  y:backward(ms.tensor { 1, 0, 0, 0 }:view(2, 1, 1, 1, 2))
  s.near(x.grad, { .248171235 * gain, -.2099904576 * gain, -.1336304301 * gain, .09544965267 * gain }, 2e-5)
  s.near(bn.weight.grad, { -1.06904344 * gain }, 1e-5)
  s.near(bn.bias.grad, { 1 })
end

function TestNorm:test_tdbn_is_scaled_batch_norm()
  local x = ms.randn(3, 4, 5, 6, 6)
  local a, b = nn.BatchNorm2d(5)(x), nn.tdBN(5, { alpha = 0.5, V_th = 0.8 })(x)
  s.near((a * 0.4 - b):abs():max():item(), 0, 2e-3)
end

function TestNorm:test_evaluation_uses_running_statistics()
  local bn = nn.BatchNorm1d(2, { eps = 0 }):eval()
  bn.running_mean:copy_(ms.tensor { 1, 2 })
  bn.running_var:copy_(ms.tensor { 4, 1 })
  s.near(bn(ms.tensor { { 3, 3 } }), { 1, 1 })
  lu.assertEquals(bn.num_batches_tracked:item(), 0)
end

function TestNorm:test_options()
  local bn = nn.BatchNorm2d(2, { affine = false, track_running_stats = false })
  lu.assertEquals(#bn:parameters() + #bn:buffers(), 0)
  s.near(bn:eval()(ms.randn(4, 2, 8, 8)):var():item(), 1, 0.02)
  s.raises("BatchNorm2d: x: expected 2 channels, got [4, 3, 8, 8]", bn, ms.zeros(4, 3, 8, 8))
  s.raises("BatchNorm2d: x: expected [T, N, C, H, W] or [N, C, H, W], got tensor [4, 2]", bn, ms.zeros(4, 2))
  s.raises("BatchNorm1d: x: expected [T, N, C] or [N, C], got tensor [4, 2, 1, 1]", nn.BatchNorm1d(2), ms.zeros(4, 2, 1, 1))
  s.raises("tdBN: alpha: expected a number > 0, got 0", nn.tdBN, 2, { alpha = 0 })
  s.raises("unknown device 'bfloat16' (known: cpu", nn.Linear(2, 2).to, nn.Linear(2, 2), "bfloat16")
  s.raises("BatchNorm2d: unknown option 'alpha' (known: affine, eps, momentum, track_running_stats)", nn.BatchNorm2d, 2, { alpha = 1 })
end

TestContainers = {}

function TestContainers:test_sequential()
  local net = nn.Sequential()
  lu.assertIs(net:add(nn.Linear(2, 3)):add(nn.Identity()), net)
  lu.assertEquals(#net, 2)
  lu.assertEquals(net[1]:class(), "Linear")
  lu.assertEquals(net[-1]:class(), "Identity")
  lu.assertNil(net[3])
  lu.assertEquals(names(net:named_parameters()), { "0.weight", "0.bias" })
  s.raises("Sequential: module 3: expected a module, got function", net.add, net, print)
  s.raises("Sequential: list: expected a table of modules, got Linear", nn.Sequential, nn.Linear(1, 1))
  s.raises("Sequential: list: expected modules in order, got the key 'x'", nn.Sequential, { x = nn.Identity() })
  s.raises("Sequential: module 2: expected a module, got nil", nn.Sequential, { nn.Identity(), nil, nn.Identity() })
  s.raises("Sequential: module 1: expected a module, got nil", nn.Sequential, { nil, nn.Identity() })
end

function TestContainers:test_residual()
  local block = nn.Residual { nn.Linear(2, 2), nn.Linear(2, 2), neuron = nn.IF() }
  lu.assertEquals(names(block:named_parameters()), { "main.weight", "main.bias", "shortcut.weight", "shortcut.bias" })
  local x = ms.randn(3, 4, 2)
  local y = block(x)
  lu.assertEquals(y.dtype, "spike")
  lu.assertEquals(y:totable(), (block.neuron(block.main(x) + block.shortcut(x))):totable())
  local skip = nn.Residual { nn.Identity() }
  s.near(skip(ms.tensor { 1, 2 }), { 2, 4 })
  s.raises("Residual: main: expected a module, got nothing", nn.Residual, {})
  s.raises("Residual: unknown option 'after' (known: main, neuron, shortcut)", nn.Residual, { nn.Identity(), after = nn.IF() })
end

function TestContainers:test_printing()
  local net = nn.Sequential {
    nn.Conv2d(1, 4, 3, { padding = 1, bias = false }), nn.BatchNorm2d(4), nn.LIF { tau = 2.0 }, nn.AvgPool2d(2), nn.Flatten(),
    nn.Linear(16, 10),
  }
  local before = tostring(net)
  for _, part in ipairs { "(0) Conv2d(1, 4, 3, padding 1, no bias)", "(2) LIF(tau 2, triangle 1)", "214 parameters" } do
    lu.assertStrContains(before, part)
  end
  net(ms.zeros(2, 3, 1, 4, 4))
  local after = tostring(net)
  lu.assertStrContains(after, "[2, 3, 4, 4, 4]")
  lu.assertStrContains(after, "fused: normalisation")
  local was = nn.set_fusion(false)
  net(ms.zeros(2, 3, 1, 4, 4))
  nn.set_fusion(was)
  lu.assertStrContains(tostring(net), "not fused: ")
end

TestHelp = {}

function TestHelp:test_every_public_value_has_help()
  local registry = require "moonspike.core".help
  local missing = {}
  local function look(t, prefix)
    for name, value in pairs(t) do
      if (type(value) == "function" or getmetatable(value)) and type(value) ~= "userdata" and not registry[value] and name:sub(1, 1) ~= "_" then
        missing[#missing + 1] = prefix .. name
      end
    end
  end
  look(ms, "ms.")
  for _, part in ipairs { "nn", "loss", "optim", "data" } do look(ms[part], part .. ".") end
  look(nn.init, "nn.init.")
  table.sort(missing)
  for i = #missing, 1, -1 do
    if missing[i] == "ms.version" or missing[i] == "loss.name" then table.remove(missing, i) end
  end
  lu.assertEquals(missing, {})
end

function TestHelp:test_globals_stay_clean()
  local code, text = s.run("-e", nil, [["local before = {} for k in pairs(_G) do before[k] = true end local ms = require 'moonspike'
    local net = ms.nn.Sequential { ms.nn.Linear(2, 2), ms.nn.LIF() } net(ms.zeros(2, 1, 2))
    for k in pairs(_G) do if not before[k] then print(k) end end"]])
  lu.assertEquals(text, "")
  lu.assertEquals(code, 0)
end

os.exit(lu.LuaUnit.run() == 0)
