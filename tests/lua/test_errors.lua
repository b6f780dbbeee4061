-- The text of every error message, and that after each of them nothing has changed or stayed behind.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local core = require "moonspike.core"
local T, O, A, N = core.tensor, core.ops, core.autograd, core.nn

-- What follows the position "file:line: ".
local function message(f, ...)
  local ok, text = pcall(f, ...)
  lu.assertFalse(ok, "no error")
  return (tostring(text):gsub("^[^:]*test_errors.lua:%d+: ", ""))
end

local function fails(want, f)
  lu.assertEquals(message(f), want)
end

local x23, x45 = T.zeros(2, 3), T.zeros(4, 5)
local closed = T.zeros(1)
closed:close()

TestArguments = {}

function TestArguments:test_position()
  local _, text = pcall(function() return x23 + x45 end)
  lu.assertStrMatches(text, ".*test_errors.lua:%d+: add: .*")
end

-- The same for an argument that the binding itself refuses.
function TestArguments:test_argument_position_outside_the_library()
  local inside = load("local add = ...; return function(...) local r = add(...) return r end", "@moonspike/fake.lua")(O.add)
  local line = debug.getinfo(1, "l").currentline + 1
  local _, text = pcall(function() local r = inside(x23, "1"); return r end)
  lu.assertEquals(text:match "test_errors.lua:.*",
    ("test_errors.lua:%d: bad argument #2 to 'add' (y: tensor or number expected, got string)"):format(line))
  inside = load("local zeros = ...; return function(...) local r = zeros(...) return r end", "@moonspike/fake.lua")(T.zeros)
  line = debug.getinfo(1, "l").currentline + 1
  _, text = pcall(function() local r = inside(2, { dtyp = 1 }); return r end)
  lu.assertStrContains(text, ("test_errors.lua:%d: zeros: unknown option 'dtyp'"):format(line))
end

function TestArguments:test_values_of_fields()
  local x = T.zeros(2)
  fails("Tensor: requires_grad: expected true or false, got number", function() x.requires_grad = 1 end)
  fails("Tensor: name: expected a string, got table", function() x.name = {} end)
  fails("bad argument #1 to 'full' (size: table expected, got number)", function() T.full(2, 7) end)
  fails("bad argument #1 to 'sum' (dim: [2]: expected each dimension once, got -2 again)", function() x23:sum { 1, -2 } end)
  fails("permute: expected each of the 2 dimensions once, got 1 twice", function() x23:permute(1, 1) end)
  fails("to: device_or_dtype: expected a device (cpu, cuda, cuda:N, auto) or one of float32, bfloat16, spike, uint8, int64, " ..
    "got 'float64'", function() x:to "float64" end)
  lu.assertEquals(T.arange(3):totable(), { 0, 1, 2 })
  lu.assertEquals(T.arange(2, { dtype = "int64" }).dtype, "int64")
end

-- An op called by one of the library's own modules blames the line that called the module.
function TestArguments:test_position_outside_the_library()
  local inside = load("return function(f, ...) local r = f(...) return r end", "@moonspike/fake.lua")()
  local line = debug.getinfo(1, "l").currentline + 1
  local _, text = pcall(function() local r = inside(O.add, x23, x45); return r end)
  lu.assertStrContains(text, ("test_errors.lua:%d: add: "):format(line))
end

function TestArguments:test_tensors()
  fails("bad argument #2 to 'matmul' (b: tensor expected, got nil)", function() O.matmul(x23, nil) end)
  fails("bad argument #1 to 'matmul' (b: tensor expected, got no value)", function() x23:matmul() end)
  fails("bad argument #1 to 'matmul' (a: tensor expected, got string)", function() O.matmul("a") end)
  fails("bad argument #1 to 'relu' (x: tensor expected, got number)", function() O.relu(5) end)
  fails("bad argument #1 to 'relu' (x: tensor is closed)", function() O.relu(closed) end)
  fails("calling 'relu' on bad self (x: tensor is closed)", function() closed:relu() end)
  fails("bad argument #2 to 'matmul' (b: tensor is closed)", function() O.matmul(x23, closed) end)
  fails("bad argument #2 to 'add' (y: tensor expected, got number)", function() O.add(1, 2) end)
  fails("bad argument #2 to 'add' (y: tensor or number expected, got ms.Optimizer)", function() O.add(x23, core.optim.new "sgd") end)
  fails("bad argument #1 to 'cat' (list: table of tensors expected, got ms.Tensor)", function() O.cat(x23) end)
  fails("bad argument #1 to 'cat' (list: [2]: tensor expected, got number)", function() O.cat { x23, 5 } end)
  fails("bad argument #1 to 'cat' (list: [1]: tensor is closed)", function() O.cat { closed } end)
  fails("bad argument #1 to 'cat' (list: expected at least one tensor)", function() O.cat {} end)
end

function TestArguments:test_use_after_close()
  for _, f in ipairs { function() return closed + 1 end, function() return closed[1] end, function() return closed.shape end,
    function() return #closed end, function() closed[1] = 1 end, function() return closed:item() end, function() closed.grad = nil end } do
    lu.assertStrContains(message(f), ": tensor is closed")
  end
  lu.assertStrContains(message(function() return closed.shape end), "t: tensor is closed")
  local x <close> = T.zeros(1)
end

function TestArguments:test_positions()
  fails("bad argument #1 to 'sum' (dim: expected 1 to 2 or -2 to -1, got 3)", function() x23:sum(3) end)
  fails("bad argument #1 to 'sum' (dim: expected 1 to 2 or -2 to -1, got 0)", function() x23:sum(0) end)
  fails("bad argument #1 to 'sum' (dim: [2]: expected 1 to 2 or -2 to -1, got 5)", function() x23:sum { 1, 5 } end)
  fails("bad argument #1 to 'sum' (dim: integer expected, got string)", function() x23:sum "1" end)
  fails("bad argument #1 to 'sum' (dim: expected an integer, got 1.5)", function() x23:sum(1.5) end)
  fails("bad argument #1 to 'softmax' (dim: the tensor has no dimensions)", function() T.tensor(1):softmax(1) end)
  fails("bad argument #2 to 'select' (position: expected 1 to 3 or -3 to -1, got 4)", function() x23:select(2, 4) end)
  fails("bad argument #3 to 'narrow' (length: expected 0 to 2, got 3)", function() x23:narrow(2, 2, 3) end)
  fails("bad argument #1 to 'unsqueeze' (dim: expected 1 to 3 or -3 to -1, got 4)", function() x23:unsqueeze(4) end)
  fails("permute: order: expected 2 dimensions, got 1", function() x23:permute(1) end)
  fails("permute: order: expected 1 to 2 or -2 to -1, got 3", function() x23:permute(1, 3) end)
  fails("t: x: expected 2 dimensions, got float32 [3]", function() x23[1]:t() end)
  fails("bad argument #2 to 'select' (position: nothing to count, the size is 0)", function() T.zeros(0):select(1, 1) end)
end

function TestArguments:test_sizes()
  fails("bad argument #2 to 'zeros' (size: integer expected, got string)", function() T.zeros(2, "3") end)
  fails("bad argument #1 to 'zeros' (size: [2]: integer expected, got string)", function() T.zeros { 2, "3" } end)
  fails("bad argument #1 to 'zeros' (size: expected a list of integers)", function() T.zeros { dtype = "int64" } end)
  fails("zeros: size: expected 0 or more, got -1", function() T.zeros(-1) end)
  fails("bad argument #1 to 'zeros' (size: at most 8 dimensions, got 9)", function() T.zeros { 1, 1, 1, 1, 1, 1, 1, 1, 1 } end)
  fails("bad argument #9 to 'zeros' (size: at most 8 dimensions)", function() T.zeros(1, 1, 1, 1, 1, 1, 1, 1, 1) end)
end

function TestArguments:test_options()
  local known = " (known: dtype, device, requires_grad)"
  fails("zeros: unknown option 'dtyp'" .. known, function() T.zeros(2, { dtyp = "int64" }) end)
  fails("zeros: unknown option 'a'" .. known, function() T.zeros(2, { c = 1, a = 1, b = 1 }) end)
  fails("ones: unknown option '1'" .. known, function() T.ones(2, { "int64" }) end)
  fails("zeros: dtype: expected one of float32, bfloat16, spike, uint8, int64, got int7", function() T.zeros(2, { dtype = "int7" }) end)
  fails("zeros: dtype: expected a string, got 7", function() T.zeros(2, { dtype = 7 }) end)
  fails("zeros: requires_grad: expected true or false, got 1", function() T.zeros(2, { requires_grad = 1 }) end)
  fails("tensor: options: expected a table, got number", function() T.tensor({ 1 }, 5) end)
  fails("batch_norm: eps: expected a number, got table", function() N.batch_norm(x23, nil, nil, nil, nil, { eps = {} }) end)
  fails("conv2d: stride: expected an integer or a table of two, got 1.5", function() N.conv2d(x23, x23, nil, { stride = 1.5 }) end)
  fails("conv2d: stride: expected an integer or a table of two, got table", function() N.conv2d(x23, x23, nil, { stride = { 1 } }) end)
  fails("conv2d: groups: expected an integer, got 1.5", function() N.conv2d(x23, x23, nil, { groups = 1.5 }) end)
  fails("conv2d: groups: expected 1 or more, got 0", function() N.conv2d(x23, x23, nil, { groups = 0 }) end)
  fails("avg_pool2d: kernel_size: expected an integer or a table of two, got nothing", function() N.avg_pool2d(x23, {}) end)
  fails("neuron: surrogate: expected one of triangle, rectangle, atan, sigmoid, qgate, gaussian, got step",
    function() N.neuron(x23, nil, nil, { surrogate = "step" }) end)
  fails("classification_loss: over: expected one of each, mean, last, got all", function() N.classification_loss(x23, x23, { over = "all" }) end)
  fails("trt: T: expected 1 to 128, got 0", function() N.trt({ x23 }, { T = 0 }) end)
  fails("trt: t0: expected 0 or 1, got 2", function() N.trt({ x23 }, { t0 = 2 }) end)
  fails("backward: unknown option 'retain' (known: retain_graph)", function() x23:sum():backward { retain = true } end)
end

TestCreate = {}

function TestCreate:test_nested_tables()
  fails("tensor: value[2]: expected 2 elements, got 1", function() T.tensor { { 1, 2 }, { 3 } } end)
  fails("tensor: value[2][1]: expected 2 elements, got 3", function() T.tensor { { { 1, 2 } }, { { 3, 4, 5 } } } end)
  fails("tensor: value[2]: expected a table of 2 elements, got number", function() T.tensor { { 1, 2 }, 3 } end)
  fails("tensor: value[2]: expected a number, got table", function() T.tensor { 1, { 2 } } end)
  fails("tensor: value[1][2]: expected a number, got string", function() T.tensor { { 1, "2" } } end)
  fails("tensor: value: at most 8 dimensions", function() T.tensor { { { { { { { { { 1 } } } } } } } } } end)
  fails("bad argument #1 to 'tensor' (value: number or table expected, got string)", function() T.tensor "1" end)
  fails("tensor: value[1]: expected an integer, got 1.5", function() T.tensor({ 1.5 }, { dtype = "int64" }) end)
  fails("tensor: value[2]: expected 0 to 255, got 256", function() T.tensor({ 1, 256 }, { dtype = "uint8" }) end)
  fails("tensor: value[1]: expected 0 to 255, got -1", function() T.tensor({ -1 }, { dtype = "spike" }) end)
  local cycle = {}
  cycle[1] = cycle
  fails("tensor: value: at most 8 dimensions", function() T.tensor(cycle) end)
end

function TestCreate:test_values()
  fails("randint: hi: expected more than lo = 3, got 3", function() T.randint(3, 3, { 2 }) end)
  fails("bernoulli: p: expected 0 <= p <= 1, got 1.5", function() T.bernoulli({ 2 }, 1.5) end)
  fails("bernoulli_: p: expected 0 <= p <= 1, got -0.5", function() x23:bernoulli_(-0.5) end)
  fails("arange: step: expected a finite number of steps, got 0.0 from 0.0 to 3.0", function() T.arange(0, 3, 0) end)
  fails("bad argument #3 to 'normal_' (key: key: a string or an integer expected, got table)", function() x23:normal_(0, 1, {}) end)
  local want = 24 // 4 * core.device.float_width()
  fails(("from_string: bytes: expected %d for float32 [2, 3], got 3"):format(want), function() T.from_string("abc", "float32", { 2, 3 }) end)
end

TestShapes = {}

function TestShapes:test_ops()
  fails("add: shapes [2, 3] and [4, 5] do not broadcast", function() return x23 + x45 end)
  fails("matmul: a [2, 3] and b [4, 5] do not multiply (need [m, k] x [k, n])", function() x23:matmul(x45) end)
  fails("item: x: expected one element, got float32 [2, 3]", function() x23:item() end)
  fails("Tensor: a tensor without dimensions has no length", function() return #T.tensor(1) end)
  for _, f in ipairs { function() x23:view(4, 2) end, function() x23:reshape(4, 2) end, function() x23:t():view(6) end,
    function() x23:expand(4, 3) end, function() O.cat { x23, x45 } end, function() O.stack { x23, x45 } end,
    function() x23:copy_(x45) end, function() x23:add_(x45) end, function() N.linear(x23, x45) end,
    function() N.conv2d(x23, x45) end, function() x23:gather(1, T.zeros({ 1 }, { dtype = "int64" })) end } do
    lu.assertStrMatches(message(f), "[%w_]+: .*%[.*%].*")
  end
  fails("topk: k: expected 0 to 3, got 9", function() x23:topk(9) end)
  lu.assertStrContains(message(function() x23:t():view(6) end), "reshape")
end

function TestShapes:test_indices()
  if core.device.current() ~= "cpu" then lu.skip "a look at the indices costs nothing on the CPU alone" end
  local index = T.tensor({ 0, 5 }, { dtype = "int64" })
  lu.assertStrContains(message(function() x23:index_select(2, index):item() end), "index_select")
  lu.assertStrContains(message(function() x23:index_select(2, T.zeros(2)) end), "int64")
end

function TestShapes:test_assignment()
  fails("index: dimension 1: expected 1 to 2 or -2 to -1, got 3", function() return x23[3] end)
  fails("index: dimension 1: expected 1 to 2 or -2 to -1, got 0", function() return x23[0] end)
  fails("index: dimension 1: expected 1 to 2 or -2 to -1, got 1.5", function() return x23[1.5] end)
  fails("index: dimension 2: expected 1 to 3 or -3 to -1, got a", function() return x23[{ 1, "a" }] end)
  fails("index: dimension 2: expected first <= last, got 3 and 1", function() return x23[{ {}, { 3, 1 } }] end)
  fails("index: dimension 1: expected {first, last}, {position} or {}, got 3 elements", function() return x23[{ { 1, 2, 3 } }] end)
  fails("index: 3 positions for float32 [2, 3]", function() return x23[{ 1, 1, 1 }] end)
  fails("index: expected a position or a table of them, got boolean", function() return x23[true] end)
  fails("bad argument #3 to 'newindex' (value: tensor expected, got string)", function() x23[1] = "a" end)
  fails("index: value[2]: expected a number, got string", function() x23[1] = { 1, "a", 2 } end)
  lu.assertStrContains(message(function() x23[1] = { 1, 2 } end), "[2]")
  fails("Tensor: 'shape' cannot be assigned (only grad, requires_grad, name, and elements by position)", function() x23.shape = {} end)
  fails("Tensor: name: expected less than 64 bytes, got 64", function() x23.name = ("n"):rep(64) end)
  fails("Tensor: < and <= give one truth value; compare by element with a:lt(b), a:le(b), a:gt(b), a:ge(b)", function() return x23 < x45 end)
end

TestGraph = {}

function TestGraph:test_messages()
  local w = T.zeros({ 2 }, { requires_grad = true })
  lu.assertStrContains(message(function() (w * 2):backward() end), "backward: ")
  lu.assertStrContains(message(function() T.zeros(1):backward() end), "does not require grad")
  lu.assertStrContains(message(function() w:add_(1) end), "add_")
  lu.assertStrContains(message(function() T.zeros({ 2 }, { dtype = "int64", requires_grad = true }) end), "int64")
  lu.assertStrContains(message(function() w.grad = T.zeros(3) end), "[3]")
  fails("record: at most 8 inputs and 3 outputs, got 1 and 4", function() A.record("f", print, { w }, { x23, x23, x23, x23 }) end)
  lu.assertStrContains(message(function() A.record("f", print, { w }, { w * 2 }) end), "part of the graph")
  lu.assertStrContains(message(function() A.record("f", print, { w }) end), "outputs: table of tensors expected, got nil")
end

TestEnvironment = {}

function TestEnvironment:test_devices()
  lu.assertStrContains(message(function() core.device.set "cuda:99" end), "cuda")
  lu.assertNil(message(function() core.device.set "cuda:99" end):match ": *$")
  lu.assertStrContains(message(function() core.device.set "tpu" end), "tpu")
  lu.assertStrContains(message(function() T.zeros(1, { device = "tpu" }) end), "tpu")
  lu.assertStrContains(message(function() x23:to "tpu" end), "tpu")
  lu.assertEquals(core.device.why "cpu", "")
  lu.assertEquals(core.device.current(), os.getenv "MOONSPIKE_DEVICE" or "cpu")
  fails("bad argument #1 to 'threads' (n: expected 1 to 4096, got 0)", function() core.device.threads(0) end)
end

function TestEnvironment:test_files()
  local s = core.system
  local ok, text, code = s.write_file("/nowhere/file", "x")
  lu.assertNil(ok)
  lu.assertStrContains(text, "/nowhere")
  lu.assertEquals(code, "EIO")
  ok, text, code = s.size "/nowhere/file"
  lu.assertEquals({ ok, text, code }, { nil, "size: /nowhere/file: No such file or directory", "EIO" })
  lu.assertNil((s.mkdir "/dev/null/x"))
  lu.assertNil((s.remove "/nowhere/file"))
  lu.assertNil((s.rename("/nowhere/file", "/nowhere/other")))
  lu.assertFalse(s.exists "/nowhere/file")
end

function TestEnvironment:test_files_that_work()
  local s, folder = core.system, os.tmpname()
  os.remove(folder)
  lu.assertTrue(s.mkdir(folder .. "/a/b"))
  lu.assertTrue(s.mkdir(folder .. "/a/b/"))
  lu.assertTrue(s.write_file(folder .. "/a/f", "1\0002"))
  lu.assertEquals(s.size(folder .. "/a/f"), 3)
  lu.assertEquals({ s.exists(folder .. "/a") }, { true, "directory" })
  lu.assertTrue(s.rename(folder .. "/a/f", folder .. "/a/g"))
  lu.assertEquals({ s.exists(folder .. "/a/g") }, { true, "file" })
  for _, name in ipairs { "/a/g", "/a/b", "/a", "" } do lu.assertTrue(s.remove(folder .. name)) end
  local t = s.clock()
  lu.assertTrue(s.clock() >= t)
  lu.assertFalse(s.isatty(assert(io.open "/dev/null")))
  lu.assertTrue(s.pid() > 1)
  lu.assertStrMatches(s.date(), "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ")
  lu.assertIsString(s.hostname())
end

TestOptimizer = {}

function TestOptimizer:test_messages()
  local o = core.optim.new "sgd"
  local w = T.zeros({ 2 }, { requires_grad = true })
  lu.assertStrContains(message(function() core.optim.new "lbfgs" end), "invalid option 'lbfgs'")
  fails("add_group: unknown option 'learning_rate' (known: lr, weight_decay, momentum, dampening, beta1, beta2, eps, nesterov, decoupled, maximize)",
    function() o:add_group({ w }, { learning_rate = 1 }) end)
  lu.assertEquals(o:add_group({ w }, { lr = 0.5 }), 1)
  w.name = "0.weight"
  lu.assertStrContains(message(function() o:add_group { w } end), "0.weight")
  lu.assertStrContains(message(function() o:set(2, { lr = 1 }) end), "group")
  lu.assertStrContains(message(function() o:set(0, { lr = 1 }) end), "group: expected 1 or more")
  fails("bad argument #1 to 'state' (parameter: expected 1 to 1 or -1 to -1, got 2)", function() o:state(2) end)
  lu.assertEquals(o:get(1).lr, 0.5)
  o:close()
  o:close()
  fails("calling 'step' on bad self (optimizer is closed)", function() o:step() end)
end

os.exit(lu.LuaUnit.run())
