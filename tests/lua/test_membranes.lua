-- Membranes that are shared (EfficientLIF-Net) and learned (IMP), LocalZO's surrogate, the neurons of the published codes (G4, G5).
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn = ms.nn

local X, G = { .6, .8, .3, 1.4, -.2, 2.6 }, { 1, -.5, .25, 2, -1, .75 }
local function series(values) return ms.tensor(values):view(#values, 1, 1) end

TestPublished = {}

-- G4's rows under the names of the codes, whose surrogate is the triangle there
local rows = {
  trt = { "010101", { .3792552, -.6898275, .4845, .9, 0, 0 } }, tet = { "010101", { .3792552, -.6898275, .4845, .9, 0, 0 } },
  ["trt-imagenet100"] = { "010101", { .0741504, -.82164, .621, .6, 0, 0 } },
  tic = { "000001", { .2035766602, .1071533203, .4893066406, .8723632812, -.0802734375, .195703125 }, true },
  ["efficientlif-shared"] = { "000101", { .2953736991, -.1685052037, .3947291851, 1.27657299, .01097946167, .04391784668 }, true },
}

for name, row in pairs(rows) do
  TestPublished["test_" .. name] = function()
    local lif = nn.published(name, row[3] and { surrogate = "triangle", alpha = 1 })
    local x = series(X):requires_grad_()
    local out = lif(x)
    lu.assertEquals(table.concat(out:view(6):long():totable()), row[1]);
    (out * series(G)):sum():backward()
    s.near(x.grad, row[2], 2e-5)
  end
end

-- One step from rest at x, and a second one: h and ds/dx by the table of the codes.
local function two_steps(name, x1, x2)
  local lif = nn.published(name)
  local x = series { x1, x2 }:requires_grad_()
  local out = lif(x)
  out:sum():backward()
  return lif:membrane(x):view(2):totable(), out:view(2):totable(), x.grad:view(2):totable()
end

function TestPublished:test_each_charge_threshold_and_surrogate()
  for name, want in pairs {
    tdbn = { { .5, .225 }, { 0, 0 }, { 1, 1 } }, nda = { { .5, .1 }, { 1, 0 }, { 1, 1 } },
    sew = { { .5, .6 }, { 0, 0 }, { 1 / (1 + (math.pi * .5) ^ 2) + 1 / (1 + (math.pi * .4) ^ 2), 1 / (1 + (math.pi * .4) ^ 2) } },
    tks = { { .25, .175 }, { 0, 0 }, { .5 * (2 - 4 * .25) + .25 * (2 - 4 * .325), .5 * (2 - 4 * .325) } },
    ["imp-vgg"] = { { .5, .225 }, { 0, 0 }, { .5 + .75 * .25 * .225, .225 } }, tab = { { .5, .55 }, { 0, 0 }, { .5 + .75 * .9 * .55, .55 } },
  } do
    local h, spikes, dx = two_steps(name, .5, .1)
    s.near(h, want[1], 1e-5, name .. " h")
    lu.assertEquals(spikes, want[2], name)
    if name ~= "nda" and name ~= "tdbn" then s.near(dx, want[3], 1e-5, name .. " dx") end
  end
  lu.assertEquals(nn.published "sew-plif".w:item(), 0)
  lu.assertEquals(nn.published "efficientlif".reset_mode, "hard")
  lu.assertEquals(#nn.published(), 15)
  s.raises("published: name: expected one of efficientlif, efficientlif-shared, imp-imagenet100", nn.published, "srnn")
  s.raises("LIF: unknown option 'taux'", nn.published, "tks", { taux = 1 })
end

TestLocalZO = {}

function TestLocalZO:test_golden()
  local z, i = { .3, -1.2, 2, .7, -.1 }, 0
  local zo = nn.LocalZO { sample = function(size)
    i = i + 1
    return ms.full(size, z[i])
  end }
  s.near(zo(ms.tensor { .25 }), { .78 }, 1e-5)
  lu.assertEquals(i, 5)
  s.raises("LocalZO: delta: expected a number > 0, got 0", nn.LocalZO, { delta = 0 })
end

function TestLocalZO:test_gaussian_is_its_mean()
  for u, want in pairs { [0] = .7978845608, [.25] = .7041306535, [.5] = .483941449, [1] = .107981933 } do
    local x = series { 1 + u }:requires_grad_()
    nn.IF { surrogate = "gaussian" }(x):sum():backward()
    s.near(x.grad, { want }, 1e-5)
  end
  ms.manual_seed(11)
  for _, delta in ipairs { 0.5, 0.8 } do
    local u = ms.tensor { 0, .25, -.5, 1 }:unsqueeze(2):expand(4, 40000):clone()
    local mean = nn.LocalZO { delta = delta } (u):mean(2):totable()
    for i, at in ipairs { 0, .25, .5, 1 } do
      lu.assertAlmostEquals(mean[i], math.exp(-at * at / (2 * delta * delta)) / (delta * math.sqrt(2 * math.pi)), 0.02)
    end
  end
end

function TestLocalZO:test_in_a_neuron()
  local lif = nn.LIF { surrogate = "localzo" }
  lu.assertStrContains(tostring(lif), "localzo 0.5")
  local function slope(seed)
    ms.manual_seed(seed)
    local x = ms.full({ 2, 3, 4 }, 0.9):requires_grad_()
    lif(x):sum():backward()
    return x.grad:totable()
  end
  lu.assertEquals(slope(1), slope(1))
  lu.assertNotEquals(slope(1), slope(2))
  local strict = nn.published "localzo"
  lu.assertEquals(strict(series { 1 }):item(), 0)
end

TestSharing = {}

-- A stage of three layers by hand: the membrane walks through the layers at each t.
local function by_hand(net, neurons, x)
  local v, out = nil, {}
  for t = 1, #x do
    local s1, s2, s3
    s1, v = neurons[1](net[1](x:narrow(1, t, 1)), v)
    s2, v = neurons[2](net[3](s1), v)
    s3, v = neurons[3](net[5](s2) + s1, v)
    out[t] = s3
  end
  return ms.cat(out, 1), v
end

local Stage = nn.Module "Stage"
function Stage:init(c, neuron)
  self.parts = nn.Sequential { nn.Linear(c, c), neuron(), nn.Linear(c, c), neuron(), nn.Linear(c, c), neuron() }
end
function Stage:forward(x)
  local p = self.parts
  local first = (p[2](p[1](x)))
  return (p[6](p[5]((p[4](p[3](first)))) + first))
end

local function shared_neuron() return nn.published("efficientlif-shared") end

function TestSharing:test_one_membrane_for_a_stage()
  ms.manual_seed(3)
  local stage = Stage(4, shared_neuron)
  local net = nn.SharedMembrane(stage)
  local p = stage.parts
  local x = ms.randn(5, 3, 4) * 3
  local a = net(x)
  local hand = by_hand(p, { p[2], p[4], p[6] }, x)
  lu.assertEquals(a:totable(), hand:totable())
  lu.assertTrue(a:sum():item() > 0)
  local grads = {}
  a:sum():backward()
  for name, w in stage:named_parameters() do grads[name] = w.grad:clone() end
  stage:zero_grad()
  hand:sum():backward()
  for name, w in stage:named_parameters() do s.near(grads[name], w.grad, 1e-4, name) end
  -- firing rates are those of all steps
  net(x)
  lu.assertEquals(#p[6]:rates(), 5)
  lu.assertAlmostEquals(p[6]:rate(), a:mean():item(), 1e-6)
  -- step by step the membrane goes on
  local steps = {}
  for t = 1, 5 do steps[t] = net:step(x[t]) end
  lu.assertEquals(ms.stack(steps, 1):totable(), a:totable())
  net:reset_state()
  lu.assertEquals(net:step(x[1]):totable(), a[1]:totable())
  -- outside of it neurons have membranes of their own again
  lu.assertNotEquals(stage(x):totable(), a:totable())
end

-- The published code has one neuron for a stage: the same module at several places.
function TestSharing:test_one_neuron_at_several_places()
  ms.manual_seed(3)
  local apart = Stage(4, shared_neuron)
  ms.manual_seed(3)
  local lif = shared_neuron()
  local once = Stage(4, function() return lif end)
  local x = ms.randn(5, 3, 4, { key = "places" }) * 3
  once:load_state_dict(apart:state_dict())
  local want = nn.SharedMembrane(apart)(x)
  lu.assertEquals(nn.SharedMembrane(once)(x):totable(), want:totable())
  local rate, p = 0, apart.parts
  for _, i in ipairs { 2, 4, 6 } do rate = rate + p[i]:rate() / 3 end
  lu.assertAlmostEquals(lif:rate(), rate, 1e-6)
  lu.assertEquals(#lif:rates(), 5)
  -- groups of channels in it: rates for each step
  local net = nn.SharedMembrane(Stage(4, function() return nn.SharedChannels(shared_neuron()) end))
  net(x)
  lu.assertEquals(#net.body.parts[2].neuron:rates(), 5)
end

function TestSharing:test_sizes_must_be_one()
  local net = nn.SharedMembrane(nn.Sequential { nn.Linear(4, 4), nn.LIF(), nn.Linear(4, 2), nn.LIF() })
  s.raises("LIF: x: expected [1, 3, 4], the size of the membrane that it shares, got [1, 3, 2]", net, ms.zeros(2, 3, 4))
  s.raises("SharedMembrane: body: expected a module, got nil", nn.SharedMembrane)
end

-- Group g of step t starts from what group g - 1 left; written with one neuron and a loop.
local function channels_by_hand(lif, x, groups)
  local v, rows = nil, {}
  for t = 1, #x do
    local parts = {}
    for g, part in ipairs(x:narrow(1, t, 1):chunk(groups, 3)) do parts[g], v = lif(part, v) end
    rows[t] = ms.cat(parts, 3)
  end
  return ms.cat(rows, 1), v
end

function TestSharing:test_groups_of_channels()
  for _, shape in ipairs { { 4, 2, 6 }, { 3, 2, 6, 2, 2 } } do
    for _, groups in ipairs { 1, 2, 3 } do
      local lif = shared_neuron()
      local shared = nn.SharedChannels(lif, { groups = groups })
      local x = ms.randn(shape, { key = "channels" }) * 2
      local a, b = x:clone():requires_grad_(), x:clone():requires_grad_()
      local out, v = shared(a)
      lu.assertEquals(out.dtype, "spike")
      local hand, last = channels_by_hand(lif, b, groups)
      lu.assertEquals(out:totable(), hand:totable())
      s.near(v:detach(), last:detach(), 1e-5);
      (out:sum() + v:sum()):backward();
      (hand:sum() + last:sum()):backward()
      s.near(a.grad, b.grad, 1e-4)
    end
  end
  local shared = nn.SharedChannels(nn.LIF())
  shared(ms.ones(4, 2, 6) * 2)
  lu.assertEquals(shared.neuron:rates(), { 1, 1, 1, 1 })
  s.raises("SharedChannels: x: expected [T, N, C, ...] with C a multiple of 2, got [4, 2, 5]", shared, ms.zeros(4, 2, 5))
  s.raises("SharedChannels: neuron: expected a neuron (nn.LIF, nn.IF, nn.PLIF), got Linear", nn.SharedChannels, nn.Linear(2, 2))
end

function TestSharing:test_both()
  local net = nn.SharedMembrane(Stage(4, function() return nn.SharedChannels(shared_neuron()) end))
  local x = ms.randn(3, 2, 4, { key = "both" }) * 3
  local p = net.body.parts
  local v, out = nil, {}
  for t = 1, 3 do
    local function layer(i, input)
      local parts = {}
      for g, part in ipairs(input:chunk(2, 3)) do parts[g], v = p[i].neuron(part, v) end
      return ms.cat(parts, 3)
    end
    local first = layer(2, p[1](x:narrow(1, t, 1)))
    out[t] = layer(6, p[5](layer(4, p[3](first))) + first)
  end
  lu.assertEquals(net(x):totable(), ms.cat(out, 1):totable())
end

TestV0 = {}

function TestV0:test_layer()
  ms.manual_seed(5)
  local lif = nn.LIF { tau = 4, v0 = "learnable", v0_shape = { 3, 8, 8 } }
  local v = lif.v0
  lu.assertEquals(v.shape, { 1, 3, 8, 8 })
  lu.assertTrue(v:abs():max():item() <= 0.2)
  lu.assertTrue(v:abs():max():item() > 0.15)
  lu.assertAlmostEquals(v:mean():item(), 0, 0.04)
  lu.assertEquals(nn.LIF { v0 = "learnable", v0_shape = { 2 }, v0_range = 0 }.v0:totable(), { { 0, 0 } })
end

function TestV0:test_whole_net()
  local function make()
    ms.manual_seed(5)
    return nn.Sequential { nn.Conv2d(1, 2, 3, { padding = 1 }), nn.BatchNorm2d(2), nn.LIF(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 4),
      nn.IF(), nn.Linear(4, 2) }
  end
  local x = ms.rand(3, 2, 1, 4, 4)
  local net = nn.learnable_v0(make(), x)
  lu.assertEquals({ net[3].v0.shape, net[7].v0.shape }, { { 1, 2, 4, 4 }, { 1, 4 } })
  lu.assertEquals(net[2].num_batches_tracked:item(), 0)
  lu.assertTrue(net.training)
  lu.assertEquals(net[3].v0:totable(), nn.learnable_v0(make(), x)[3].v0:totable())
  lu.assertEquals(nn.learnable_v0(make(), x, { per = "channel" })[3].v0.shape, { 1, 2, 1, 1 })
  net(x):sum():backward()
  lu.assertNotNil(net[3].v0.grad)
  local names = {}
  for name in net:named_parameters() do names[#names + 1] = name end
  lu.assertEquals(table.concat(names, " "), "0.weight 0.bias 1.weight 1.bias 2.v0 5.weight 5.bias 6.v0 7.weight 7.bias")
  s.raises("learnable_v0: x: expected an input of the net, got nil", nn.learnable_v0, net)
end

os.exit(lu.LuaUnit.run() == 0)
