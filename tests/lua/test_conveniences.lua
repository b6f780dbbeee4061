-- What lua/moonspike/tensor.lua composes, and the messages that explain a slip: unknown names, reset, memory, files.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local doc = require "moonspike.doc"
local nn, optim = ms.nn, ms.optim

local folder = s.folder()
local nan, inf = 0 / 0, math.huge

local function same(got, want, dtype)
  lu.assertEquals(got:totable(), want)
  if dtype then lu.assertEquals(got.dtype, dtype) end
end

local function long(t) return ms.tensor(t, { dtype = "int64" }) end
local function leaf(t) return ms.tensor(t, { requires_grad = true }) end

TestMade = {}

function TestMade:test_linspace()
  same(ms.linspace(0, 1, 5), { 0, .25, .5, .75, 1 }, "float32")
  same(ms.linspace(1, -1, 3), { 1, 0, -1 })
  same(ms.linspace(2, 7, 1), { 2 })
  same(ms.linspace(3, 3, 2), { 3, 3 })
  same(ms.linspace(0, 10, 6, { dtype = "int64" }), { 0, 2, 4, 6, 8, 10 }, "int64")
  lu.assertEquals(ms.linspace(0, 1, 0).shape, { 0 })
  lu.assertTrue(ms.linspace(0, 1, 4, { requires_grad = true }).is_leaf)
  for n = 2, 400, 7 do -- the count and the end whatever the step rounds to
    local x = ms.linspace(-0.3, 0.1 * n, n)
    lu.assertEquals({ #x, x[-1]:item(), x[1]:item() }, { n, ms.tensor(0.1 * n):item(), ms.tensor(-0.3):item() })
  end
  s.raises("linspace: unknown option 'step'", ms.linspace, 0, 1, 2, { step = 1 })
  s.raises("eye: options: expected a table, got 4", ms.eye, 2, 3, 4)
  s.raises("linspace: n: expected an integer >= 0, got 1.5", ms.linspace, 0, 1, 1.5)
  s.raises("linspace: last: expected a number, got 'a'", ms.linspace, 0, "a", 2)
end

function TestMade:test_eye()
  same(ms.eye(2), { { 1, 0 }, { 0, 1 } }, "float32")
  same(ms.eye(2, 3), { { 1, 0, 0 }, { 0, 1, 0 } })
  same(ms.eye(3, 2, { dtype = "int64" }), { { 1, 0 }, { 0, 1 }, { 0, 0 } }, "int64")
  same(ms.eye(2, { dtype = "uint8" }), { { 1, 0 }, { 0, 1 } }, "uint8")
  lu.assertEquals(ms.eye(0).shape, { 0, 0 })
  lu.assertTrue(ms.eye(2, { requires_grad = true }).is_leaf)
  local x = ms.randn(3, 3)
  lu.assertTrue(x:matmul(ms.eye(3)):equal(x))
end

function TestMade:test_randperm()
  ms.manual_seed(5)
  local a, b = ms.randperm(5000), ms.randperm(5000)
  ms.manual_seed(5)
  lu.assertTrue(a:equal(ms.randperm(5000)))
  lu.assertFalse(a:equal(b))
  lu.assertEquals(a.dtype, "int64")
  lu.assertTrue(a:sort():equal(ms.arange(5000, { dtype = "int64" })))
  same(ms.randperm(1), { 0 })
  lu.assertEquals(ms.randperm(0).shape, { 0 })
  local count, draws = {}, ms.device() == "cpu" and 6000 or 600 -- launches are slow where they are emulated
  for _ = 1, draws do
    local order = table.concat(ms.randperm(3):totable())
    count[order] = (count[order] or 0) + 1
  end
  local chi = 0
  for _, order in ipairs { "012", "021", "102", "120", "201", "210" } do chi = chi + ((count[order] or 0) - draws / 6) ^ 2 / (draws / 6) end
  lu.assertTrue(chi < 25.7, chi) -- 5 degrees of freedom, p = 1e-4
end

function TestMade:test_booleans()
  same(ms.tensor { true, false }, { 1, 0 }, "uint8")
  same(ms.tensor { { true }, { false } }, { { 1 }, { 0 } }, "uint8")
  s.raises("tensor: value[2]: expected a number, got boolean", ms.tensor, { 1, true })
  s.raises("tensor: value[1]: expected a number, got boolean", ms.tensor, { true }, { dtype = "float32" })
  s.raises("tensor: value[2]: expected a number, got string", ms.tensor, { true, "x" })
end

TestParts = {}

function TestParts:test_sort()
  local v, i = ms.tensor { { 3, 1, 2 }, { 0, 5, 0 } }:sort()
  same(v, { { 1, 2, 3 }, { 0, 0, 5 } })
  same(i, { { 1, 2, 0 }, { 0, 2, 1 } }, "int64")
  v, i = ms.sort(ms.tensor { { 3, 1, 2 }, { 0, 5, 0 } }, 1, true)
  same(v, { { 3, 5, 2 }, { 0, 1, 0 } })
  same(i, { { 0, 1, 0 }, { 1, 0, 1 } })
  v = ms.tensor { nan, 1, inf, -inf }:sort()
  lu.assertTrue(v:narrow(1, 1, 3):equal(ms.tensor { -inf, 1, inf }) and v[4]:isnan():item() == 1)
  local big = 1 << 60 -- beyond what float32 tells apart
  v, i = long { { big + 1, 7 }, { big, 7 }, { -big, 9 } }:sort(1)
  same(v, { { -big, 7 }, { big, 7 }, { big + 1, 9 } }, "int64")
  same(i, { { 2, 0 }, { 1, 1 }, { 0, 2 } })
  same(long { big, big + 1, big }:argsort(1, true), { 1, 0, 2 })
  lu.assertEquals(ms.zeros(2, 0):sort().shape, { 2, 0 })
  local x = leaf { 3, 1, 2 }
  x:sort():mul(ms.tensor { 1, 10, 100 }):sum():backward()
  same(x.grad, { 100, 1, 10 })
  s.raises("sort: dim: expected 1 to 1 or -1 to -1, got 3", ms.sort, ms.ones(2), 3)
  s.raises("argsort: x: expected at least one dimension, got []", ms.argsort, ms.tensor(1))
  s.raises("sort: descending: expected true or false, got 'up'", ms.sort, ms.ones(2), 1, "up")
end

local function tables(list)
  local out = {}
  for i, t in ipairs(list) do out[i] = t:totable() end
  return out
end

function TestParts:test_chunk_and_split()
  local x = ms.arange(7)
  lu.assertEquals(tables(x:chunk(3)), { { 0, 1, 2 }, { 3, 4, 5 }, { 6 } })
  lu.assertEquals(#x:chunk(9), 7)
  lu.assertEquals(tables(x:split(4)), { { 0, 1, 2, 3 }, { 4, 5, 6 } })
  lu.assertEquals(tables(x:split { 2, 0, 5, 0 }), { { 0, 1 }, {}, { 2, 3, 4, 5, 6 }, {} })
  lu.assertEquals(tables(ms.tensor { { 1, 2 }, { 3, 4 } }:split(1, -1)), { { { 1 }, { 3 } }, { { 2 }, { 4 } } })
  lu.assertEquals({ #ms.zeros(0):chunk(3), #ms.zeros(0, 2):split(1) }, { 1, 1 })
  local y = leaf { 1, 2, 3 }
  local parts = y:split { 1, 2 };
  (parts[1]:sum() * 5 + parts[2]:sum() * 7):backward()
  same(y.grad, { 5, 7, 7 })
  s.raises("split: size: expected sizes that sum up to 7 (dimension 1 of [7]), got [3, 3]", ms.split, x, { 3, 3 })
  s.raises("split: size: expected an integer >= 1, got 0", ms.split, x, 0)
  s.raises("chunk: n: expected an integer >= 1, got 0", ms.chunk, x, 0)
end

function TestParts:test_tile_and_repeat_interleave()
  local x = ms.tensor { { 1, 2 }, { 3, 4 } }
  same(x:tile(2, 2), { { 1, 2, 1, 2 }, { 3, 4, 3, 4 }, { 1, 2, 1, 2 }, { 3, 4, 3, 4 } })
  same(x:tile(2), { { 1, 2, 1, 2 }, { 3, 4, 3, 4 } })
  same(ms.tensor { 1, 2 }:tile(2, 1), { { 1, 2 }, { 1, 2 } })
  same(x:repeat_interleave(2, 2), { { 1, 1, 2, 2 }, { 3, 3, 4, 4 } })
  same(x:repeat_interleave(2, 1), { { 1, 2 }, { 1, 2 }, { 3, 4 }, { 3, 4 } })
  same(x:repeat_interleave(2), { 1, 1, 2, 2, 3, 3, 4, 4 })
  lu.assertEquals({ x:tile(0, 3).shape, ms.zeros(0, 2):tile(2, 2).shape }, { { 0, 6 }, { 0, 4 } })
  local y = leaf { 1, 2 };
  (y:tile(3) * ms.arange(6)):sum():backward()
  same(y.grad, { 0 + 2 + 4, 1 + 3 + 5 })
  s.raises("tile: n2: expected an integer >= 0, got -1", ms.tile, x, 1, -1)
end

TestMasks = {}

function TestMasks:test_not_finite()
  local x = ms.tensor { 1, nan, inf, -inf }
  same(x:isnan(), { 0, 1, 0, 0 }, "uint8")
  same(x:isinf(), { 0, 0, 1, 1 }, "uint8")
  same(x:isfinite(), { 1, 0, 0, 0 }, "uint8")
  for _, f in ipairs { ms.isnan, ms.isinf, ms.isfinite } do
    for _, dtype in ipairs { "int64", "uint8", "spike", "bfloat16" } do same(f(ms.ones(1, { dtype = dtype })), { f == ms.isfinite and 1 or 0 }) end
  end
  s.raises("isnan: x: expected a tensor, got 3", ms.isnan, 3)
end

function TestMasks:test_masked_fill()
  local x = leaf { { 1, 2 }, { 3, 4 } }
  local y = x:masked_fill(ms.tensor { true, false }, -inf)
  same(y, { { -inf, 2 }, { -inf, 4 } })
  x:masked_fill(ms.tensor { true, false }, 9):sum():backward()
  same(x.grad, { { 0, 1 }, { 0, 1 } })
  s.raises("masked_fill: mask: expected what broadcasts to [2], got [2, 2]", ms.masked_fill, ms.ones(2), ms.ones(2, 2), 0)
end

function TestMasks:test_equal_and_allclose()
  local a = ms.tensor { 1, 2 }
  lu.assertEquals({ a:equal(ms.tensor { 1, 2 }), a:equal(ms.tensor { 1, 3 }), a:equal(ms.ones(1)), ms.zeros(0):equal(ms.zeros(0)) },
    { true, false, false, true })
  lu.assertFalse(ms.tensor { nan }:equal(ms.tensor { nan }))
  local function close(x, y, opts) return ms.allclose(ms.tensor { x }, y, opts) end
  lu.assertEquals({ close(1, 1 + 5e-6), close(1, 1.001), close(1, 1.001, { rtol = 0.01 }), close(0, 1e-3, { atol = 0.01 }) }, { true, false, true, true })
  lu.assertEquals({ close(inf, inf), close(inf, -inf), close(1, inf), close(inf, 1), close(nan, nan) }, { true, false, false, false, false })
  lu.assertTrue(long { 1 << 60 }:allclose(long { 1 << 60 }))
  s.raises("allclose: unknown option 'tol' (known: atol, rtol)", ms.allclose, a, a, { tol = 1 })
  s.raises("equal: b: expected a tensor, got 1", ms.equal, a, 1)
end

function TestMasks:test_one_hot()
  same(long { 0, 2 }:one_hot(3), { { 1, 0, 0 }, { 0, 0, 1 } }, "float32")
  lu.assertEquals(ms.one_hot(long { { 1 }, { 0 } }, 2).shape, { 2, 1, 2 })
  s.raises("one_hot: labels: expected values from 0 to 2, got 3", ms.one_hot, long { 0, 3 }, 3)
  s.raises("one_hot: labels: expected values from 0 to 2, got -1", ms.one_hot, long { -1 }, 3)
  s.raises("one_hot: labels: expected int64 or uint8, got float32", ms.one_hot, ms.ones(1), 3)
end

function TestMasks:test_every_function_explains_itself()
  for name, f in pairs(require "moonspike.tensor") do
    lu.assertEquals(ms[name], f)
    local text = doc.get(f)
    lu.assertEquals(text:match "^[%w_]+", name)
    if text:find("^" .. name .. "%(x") then lu.assertEquals(ms.ones(1)[name], f, name) end
  end
end

TestNames = {}

function TestNames:test_unknown_names()
  s.raises("nn has no 'Relu' (known: AdaptiveAvgPool2d, ", function() return nn.Relu() end)
  s.raises("loss has no 'X' (known: Control, CrossEntropy, ", function() return ms.loss.X end)
  s.raises("optim has no 'Adma' (known: Adam, ", function() return optim.Adma end)
  s.raises("data has no 'MNIST' (known: ", function() return ms.data.MNIST end)
  lu.assertNil(ms.ones(1).no_such_field)
  local seen = 0
  for name in pairs(nn) do seen = seen + (name == "LIF" and 1 or 0) end
  lu.assertEquals(seen, 1)
  nn.Mine = 1
  lu.assertEquals(nn.Mine, 1)
  nn.Mine = nil
  lu.assertNil(nn[1])
  local said
  local print_ = print
  print = function(text) said = text end
  ms.help "nn.Relu"
  lu.assertStrContains(said, "no help for 'nn.Relu'")
  ms.help "LIF"
  print = print_
  lu.assertStrContains(said, "nn.LIF{")
end

function TestNames:test_reset()
  local lif = nn.LIF { reset = "soft" }
  s.raises("LIF: reset: there is nothing to reset", lif.reset, lif)
  s.raises("net:reset_state()", function() nn.PLIF():reset() end)
  lu.assertEquals(lif.reset_mode, "soft")
  lu.assertStrContains(tostring(lif), "soft reset")
  lu.assertStrContains(doc.get(lif.reset), "reset_state")
end

TestTexts = {}

function TestTexts:test_files()
  local ok, message = pcall(ms.save, folder .. "/none/x", nn.Linear(1, 1))
  lu.assertFalse(ok)
  lu.assertStrMatches(message, "[^\n]-save: " .. folder:gsub("%p", "%%%0") .. "/none/x[^\n]*: No such file or directory")
  local path = folder .. "/c.safetensors"
  local function extra(t) return function() ms.checkpoint(path, { model = nn.Linear(1, 1), extra = t }) end end
  local expected = "checkpoint: extra: expected what JSON can hold (booleans, finite numbers, strings and tables of them), got "
  s.raises(expected .. "a function at extra.x", extra { x = print })
  s.raises(expected .. "a tensor [2] at extra.a.b", extra { a = { b = ms.ones(2) } })
  s.raises(expected .. "inf at extra.list[2]", extra { list = { 1, inf } })
  lu.assertFalse(core.system.exists(path))
  local round = {}
  round.round = round
  lu.assertFalse((pcall(extra(round))))
  extra { a = { 1, "x", true, core.json.null } } ()
  lu.assertTrue(core.system.exists(path))
end

function TestTexts:test_optimizer_counts()
  lu.assertStrContains(tostring(optim.SGD { leaf { 1 } }), "{ 1 parameter, ")
  lu.assertStrContains(tostring(optim.SGD { leaf { 1 }, leaf { 1 } }), "{ 2 parameters, ")
end

function TestTexts:test_folders()
  local folder = s.folder()
  for _, name in ipairs { "b", "a", ".hidden" } do s.write(folder .. "/" .. name, "") end
  lu.assertEquals(core.system.list(folder), { ".hidden", "a", "b" })
  do
    local held <close> = core.system.lock(folder .. "/a")
    lu.assertEquals({ core.system.lock(folder .. "/a") }, { nil, ("lock: %s/a: Resource temporarily unavailable"):format(folder), "EIO" })
    s.write(folder .. "/try.lua", "print(require('moonspike').system.lock(arg[1]) and 'free' or 'held')")
    for name, want in pairs { a = "held\n", b = "free\n" } do
      lu.assertEquals(select(2, s.run(folder .. "/try.lua", nil, ("%s/%s"):format(folder, name))), want)
    end
  end
  core.system.lock(folder .. "/a"):close()
  for _, what in ipairs { "list", "lock" } do
    lu.assertEquals({ core.system[what](folder .. "/none") }, { nil, ("%s: %s/none: No such file or directory"):format(what, folder), "EIO" })
  end
  s.remove(folder)
end

function TestTexts:test_core()
  s.raises("std: expected at least 2 elements, got [1]", ms.std, ms.ones(1))
  s.raises("var: expected at least 2 elements, got [1]", ms.var, ms.ones(1))
  lu.assertAlmostEquals(ms.tensor { 1, 3 }:std():item(), math.sqrt(2), 1e-6)
  if ms.device() ~= "cpu" then return end -- a look at the indices costs nothing on the CPU alone
  s.raises("index_select: index: expected values from 0 to 2, got 5", ms.index_select, ms.ones(3), 1, long { 0, 5, -1 })
  s.raises("index_select: index: expected values from 0 to 2, got -1", ms.index_select, ms.ones(2, 3), 2, long { 0, -1 })
  s.raises("gather: index: expected values from 0 to 1, got 2", ms.gather, ms.ones(2, 2), 1, long { { 0, 2 }, { 3, 0 } })
  s.raises("index_select: index: nothing to choose from, the size is 0, got 0", ms.index_select, ms.zeros(0), 1, long { 0 })
end

function TestTexts:test_out_of_memory()
  if ms.device() ~= "cpu" then lu.skip "the CPU's allocator" end
  local keep <const> = ms.zeros(1000000)
  local ok, message = pcall(ms.zeros, 1000000, 100000000)
  lu.assertFalse(ok)
  lu.assertStrMatches(message, "zeros: out of memory: wanted [48]00%.0 TB, %d+%.%d MB in use, %d+%.?%d* [GM]B free %(on cpu%); a smaller batch.*")
  s.raises("mul: out of memory: wanted ", function() return keep:narrow(1, 1, 1):expand(1 << 47) * 2 end)
end

TestExample = {}

local script = arg[0]:match "^(.*)tests/lua/[^/]*$" .. "examples/fashion_mnist.lua"

-- Epochs that a run of at most a minute makes when they take that many seconds each, the last number for all later ones.
local function epochs_that_fit(seconds, arguments)
  local wrapper, out = folder .. "/minutes.lua", folder .. "/minutes"
  s.write(wrapper, ([[
    local ms, seconds, now = require "moonspike", { %s }, 0
    local evaluate, epoch = ms.evaluate, 0
    function ms.system.clock() return now end
    function ms.evaluate(...)
      epoch = epoch + 1
      now = now + (seconds[epoch] or seconds[#seconds])
      return evaluate(...)
    end
    dofile(%q)]]):format(table.concat(seconds, ", "), script))
  local code, text = s.run(wrapper, "MOONSPIKE_DATA=" .. folder, "--minutes 1 --limit 20 --T 1 --device cpu --out " .. out .. " " .. arguments)
  lu.assertEquals(code, 0, text)
  local rows = ms.log.read(out .. "/log.jsonl")
  s.remove(out)
  return #rows, rows[#rows].lr
end

function TestExample:test_minutes()
  s.fashion(folder, 20, 20)
  lu.assertEquals(epochs_that_fit({ 10 }, ""), 5)
  lu.assertEquals(epochs_that_fit({ 10 }, "--epochs 3"), 3)
  lu.assertEquals(epochs_that_fit({ 90 }, ""), 1)
  lu.assertEquals(epochs_that_fit({ 5, 5, 20 }, "--epochs 100"), 4) -- became slow: 50 s
  local n, lr = epochs_that_fit({ 20, 5 }, "--epochs 100 --lr 0.1") -- became fast: 55 s
  lu.assertEquals(n, 8)
  lu.assertAlmostEquals(lr, 0.05 * (1 + math.cos(math.pi * 7 / 8)), 1e-9)
end

function TestExample:test_errors_of_options()
  local function fails(arguments, pattern)
    local code, text = s.run(script, nil, arguments)
    lu.assertEquals(code, 2, text)
    lu.assertStrMatches(text, "fashion_mnist: " .. pattern .. "[^\n]*\n")
  end
  fails("--device cuda:99 --out " .. folder .. "/run", "%-%-device: 'cuda:99' .*")
  fails("--device vulkan", "%-%-device: unknown device 'vulkan'")
  fails("--device cpu --out /dev/null/x", "%-%-out: /dev/null/x: ")
end

-- What is refused ends a script in one line; an error of a program keeps its place.
function TestExample:test_errors_of_programs()
  local wrapper = folder .. "/try.lua"
  local function said(f)
    s.write(wrapper, 'local ms = require "moonspike"\nlocal o = require "moonspike.options"\nms.arguments.try("--x", ' .. f .. ")")
    local code, text = s.run(wrapper)
    lu.assertEquals(code, 2, text)
    return text
  end
  for f, text in pairs {
    ["ms.evaluate, 3"] = "try: --x: net: expected a module, got 3\n", ['error, "plain", 0'] = "try: --x: plain\n",
    ["function() return ms.ones(2) + ms.ones(3) end"] = "try: --x: shapes [2] and [3] do not broadcast\n",
    ["ms.capture(function() ms.evaluate(3) end)"] = "try: --x: net: expected a module, got 3\n",
    ['ms.log, "/dev/null/x"'] = "try: --x: /dev/null/x: Not a directory\n",
  } do lu.assertEquals(said(f), text) end
  for f, pattern in pairs {
    ["function() return nil + 1 end"] = "/try%.lua:3: attempt to perform arithmetic",
    ['function() error "mine" end'] = "/try%.lua:3: mine",
    ["o.shape"] = "moonspike/options%.lua:%d+: bad argument #1 to 'concat'", ["o.check"] = "moonspike/options%.lua:%d+: attempt to index",
    ["ms.capture(function() o.shape() end)"] = "moonspike/options%.lua:%d+: bad argument #1 to 'concat'",
  } do lu.assertStrMatches(said(f), "try: %-%-x: .*" .. pattern .. ".*\nstack traceback:\n.*") end
end

local code = lu.LuaUnit.run()
s.remove(folder)
os.exit(code == 0)
