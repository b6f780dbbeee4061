-- Neurons through the modules: the reference cases G4 and G5, switches, state step by step, firing rates.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn = ms.nn

local X, G = { .6, .8, .3, 1.4, -.2, 2.6 }, { 1, -.5, .25, 2, -1, .75 }

local function series(values) return ms.tensor(values):view(#values, 1, 1) end

-- name, layer, h, spikes, dL/dX[, dv0]
local cases = {
  { "trt", nn.LIF {}, { .6, 1.1, .3, 1.55, -.2, 2.5 }, "010101", { .3792552, -.6898275, .4845, .9, 0, 0 } },
  { "detached", nn.LIF { detach_reset = true }, { .6, 1.1, .3, 1.55, -.2, 2.5 }, "010101", { .375, -.45, .525, .9, 0, 0 } },
  { "soft", nn.LIF { reset = "soft" }, { .6, 1.1, .35, 1.575, .0875, 2.64375 }, "010101",
    { .5135557422, -.4322212891, .3555742188, .82484375, -.0875, 0 } },
  { "no_leak", nn.LIF { tau = 1 }, { .6, 1.4, .3, 1.7, -.2, 2.4 }, "010101", { .0741504, -.82164, .621, .6, 0, 0 } },
  { "if", nn.IF {}, { .6, 1.4, .3, 1.7, -.2, 2.4 }, "010101", { .0741504, -.82164, .621, .6, 0, 0 } },
  { "sj", nn.LIF { decay_input = true, detach_reset = true }, { .3, .55, .425, .9125, .35625, 1.478125 }, "000001",
    { .2035766602, .1071533203, .4893066406, .8723632812, -.0802734375, .195703125 } },
  { "sj_by_name", nn.LIF.spikingjelly { detach_reset = true, surrogate = "triangle" }, { .3, .55, .425, .9125, .35625, 1.478125 }, "000001",
    { .2035766602, .1071533203, .4893066406, .8723632812, -.0802734375, .195703125 } },
  { "sj_soft", nn.LIF { tau = 4 / 3, decay_input = true, reset = "soft", detach_reset = true },
    { .45, .7125, .403125, 1.15078125, -.1123046875, 1.921923828 }, "000101",
    { .2953736991, -.1685052037, .3947291851, 1.27657299, .01097946167, .04391784668 } },
  { "imp", nn.LIF { tau = 4, v0 = "learnable", v0_shape = { 1 } }, { .65, .9625, .540625, 1.53515625, -.2, 2.55 }, "000101",
    { .5813154757, -.4757369647, .2996469307, .9296875, 0, 0 }, .1453288689 },
}

TestGolden = {}

for _, case in ipairs(cases) do
  local name, lif, h, spikes, dx, dv0 = table.unpack(case)
  TestGolden["test_" .. name] = function()
    if dv0 then ms.no_grad(function() lif.v0:fill_(0.2) end) end
    local x = series(X):requires_grad_()
    s.near(lif:membrane(x), h, 1e-5, "h")
    local out = lif(x)
    lu.assertEquals(out.dtype, "spike")
    lu.assertEquals(table.concat(out:view(6):long():totable()), spikes);
    (out * series(G)):sum():backward()
    s.near(x.grad, dx, 2e-5, "dX")
    if dv0 then s.near(lif.v0.grad, { dv0 }, 2e-5, "dv0") end
  end
end

function TestGolden:test_ties()
  local x = series { 1, .5, .75 }
  local strict, loose = nn.LIF(), nn.LIF { fire = ">=" }
  lu.assertEquals(strict(x):view(3):totable(), { 0, 0, 1 })
  s.near(strict:membrane(x), { 1, 1, 1.25 })
  lu.assertEquals(loose(x):view(3):totable(), { 1, 0, 1 })
  s.near(loose:membrane(x), { 1, .5, 1 })
end

-- g at u = 0.25, seen through one step from a membrane of 0.
function TestGolden:test_surrogates()
  for name, want in pairs { triangle = .75, atan = .6184864582, rectangle = 1, qgate = 1 } do
    local x = series { 1.25 }:requires_grad_()
    nn.IF { surrogate = name }(x):sum():backward()
    s.near(x.grad, { want }, 1e-5, name)
  end
  local x = series { 1.25 }:requires_grad_()
  nn.IF { surrogate = function(u) return u * 2 end }(x):sum():backward()
  s.near(x.grad, { .5 })
end

TestPLIF = {}

function TestPLIF:test_equals_lif_with_its_tau()
  ms.manual_seed(1)
  local x = ms.randn(5, 3, 4) * 2
  local plif, lif = nn.PLIF { init_tau = 3 }, nn.LIF { tau = 3, decay_input = true }
  s.near(plif.w, { -math.log(2) })
  s.near(plif:tau(), 3)
  lu.assertEquals((plif(x)):totable(), (lif(x)):totable())
  plif(x):sum():backward()
  lu.assertNotNil(plif.w.grad)
  lu.assertStrContains(tostring(plif), "tau 3 (learned)")
end

TestState = {}

local function net()
  return nn.Sequential { nn.Linear(3, 8), nn.LIF { v_reset = 0.1 }, nn.Linear(8, 8), nn.PLIF { decay_input = false }, nn.Linear(8, 2) }
end

function TestState:test_steps_equal_one_call()
  ms.manual_seed(3)
  local a = net()
  local x = ms.randn(6, 5, 3) * 3
  local whole, steps = a(x), {}
  a:reset_state()
  for t = 1, 6 do steps[t] = a:step(x[t]) end
  lu.assertEquals(ms.stack(steps, 1):totable(), whole:totable())
  whole:sum():backward()
  local want = {}
  for name, p in a:named_parameters() do want[name] = p.grad:clone() end
  a:zero_grad()
  ms.stack(steps, 1):sum():backward()
  for name, p in a:named_parameters() do s.near(p.grad, want[name], 2e-4, name) end
end

function TestState:test_reset_state_and_other_batch()
  local a = net()
  local first = a:step(ms.ones(5, 3)):totable()
  a:step(ms.ones(5, 3))
  a:reset_state()
  lu.assertEquals(a:step(ms.ones(5, 3)):totable(), first)
  s.raises("its membrane is [5, 8] from an earlier step, got [4, 8]; call net:reset_state()", a.step, a, ms.ones(4, 3))
  a(ms.ones(2, 4, 3)) -- the call with all steps keeps nothing
  a:reset_state()
  a:step(ms.ones(4, 3))
end

function TestState:test_given_and_returned_membrane()
  local lif = nn.LIF { reset = "soft" }
  local x = ms.randn(4, 2, 3)
  local whole, last = lif(x)
  local first, v = lif(x:narrow(1, 1, 2))
  local second, v2 = lif(x:narrow(1, 3, 2), v)
  lu.assertEquals(ms.cat({ first:float(), second:float() }, 1):totable(), whole:float():totable())
  s.near(v2, last)
  lu.assertEquals(nn.LIF { v0 = 0.9 } (ms.full({ 1, 1, 1 }, 0.6)):item(), 1)
end

TestRates = {}

function TestRates:test_counts()
  local lif = nn.LIF()
  lu.assertEquals(lif:rate(), 0)
  lif(series(X):expand(6, 2, 3))
  s.near(lif:rate(), 0.5)
  s.near(lif:rates(), { 0, 1, 0, 1, 0, 1 })
  lu.assertEquals(lif.counts:sum(2):totable(), { 0, 6, 0, 6, 0, 6 })
end

TestMessages = {}

function TestMessages:test_options()
  s.raises("LIF: unknown option 'tua' (known: alpha, decay_input, detach_reset, fire, reset, surrogate, tau, v0, v0_range, v0_shape, v_reset, v_threshold)",
    nn.LIF, { tua = 2 })
  s.raises("LIF: tau: expected a number >= 1, got 0.5", nn.LIF, { tau = 0.5 })
  s.raises("LIF: surrogate: expected one of atan, gaussian, localzo, qgate, rectangle, sigmoid, triangle, or a function(u) -> g, got 'step'", nn.LIF,
    { surrogate = "step" })
  s.raises("LIF: reset: expected one of 'hard', 'soft', got 'none'", nn.LIF, { reset = "none" })
  s.raises("LIF: fire: expected one of '>', '>=', got '<'", nn.LIF, { fire = "<" })
  s.raises("LIF: detach_reset: expected true or false, got 1", nn.LIF, { detach_reset = 1 })
  s.raises("LIF: v0_shape: expected the sizes { C, H, W } of the learnable v0, got nothing", nn.LIF, { v0 = "learnable" })
  s.raises("LIF: v0_shape: expected v0 = 'learnable' beside it, got nil", nn.LIF, { v0_shape = { 1 } })
  s.raises("PLIF: init_tau: expected a number > 1, got 1", nn.PLIF, { init_tau = 1 })
  s.raises("IF: unknown option 'tau'", nn.IF, { tau = 2 })
  s.raises("LIF.spikingjelly: v_reset: expected a number, or false for a soft reset, got true", nn.LIF.spikingjelly, { v_reset = true })
  local broken = nn.LIF { surrogate = function() error "no derivative" end }
  s.raises("no derivative", function() broken(ms.ones(2, 1, 1):requires_grad_()):sum():backward() end)
end

os.exit(lu.LuaUnit.run() == 0)
