-- Error texts that no other test meets: each names the function, the argument, what was expected and what came; afterwards nothing
-- is left alive and the next call works.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local T, O, N, A, nn, optim = core.tensor, core.ops, core.nn, core.autograd, ms.nn, ms.optim

local folder = s.folder()

-- All { text, function }: the text must stand in the message.
local function all(list)
  for _, case in ipairs(list) do
    local ok, message = pcall(case[2])
    if ok then lu.fail("no error; expected: " .. case[1]) end
    lu.assertStrContains(tostring(message), case[1])
  end
end

local function z(...) return T.zeros(...) end
local function long(...) return T.zeros({ ... }, { dtype = "int64" }) end
local function leaf(...) return T.ones({ ... }, { requires_grad = true }) end

TestLayers = {}

function TestLayers:test_conv2d()
  local x, w = z(2, 3, 5, 5), z(4, 3, 3, 3)
  all {
    { "conv2d: x: expected [N, C, H, W] or [T, N, C, H, W], got float32 [5, 5]", function() N.conv2d(z(5, 5), w) end },
    { "conv2d: weight: expected [Cout, Cin / groups, kh, kw], got float32 [4, 3]", function() N.conv2d(x, z(4, 3)) end },
    { "conv2d: x: expected 2 channels (weight [4, 2, 3, 3], groups 1), got", function() N.conv2d(x, z(4, 2, 3, 3)) end },
    { "conv2d: weight: expected float32 or bfloat16, got int64", function() N.conv2d(x, long(4, 3, 3, 3)) end },
    { "conv2d: x: expected float32, bfloat16 or spike, got uint8", function() N.conv2d(x:byte(), w) end },
    { "conv2d: bias: expected", function() N.conv2d(x, w, z(3)) end },
    { "conv2d: expected stride and dilation of at least 1 and padding of at least 0, got stride [0, 0]", function() N.conv2d(x, w, nil, { stride = 0 }) end },
    { "padding [-1, -1]", function() N.conv2d(x, w, nil, { padding = -1 }) end },
    { "conv2d: groups: expected a divisor of the 2 input and 4 output channels, got 3", function() N.conv2d(z(1, 2, 5, 5), z(4, 1, 3, 3), nil, { groups = 3 }) end },
    { "conv2d: x: expected an image of at least 7x7 with its padding", function() N.conv2d(x, z(4, 3, 7, 7)) end },
    { "linear: weight: expected [out, in], got float32 [4]", function() N.linear(z(2, 4), z(4)) end },
    { "linear: x: expected [..., 3] (weight [5, 3]), got float32 [2, 4]", function() N.linear(z(2, 4), z(5, 3)) end },
    { "linear: bias: expected", function() N.linear(z(2, 3), z(5, 3), z(4)) end },
  }
end

function TestLayers:test_pools()
  local x = z(1, 2, 4, 4)
  all {
    { "avg_pool2d: x: expected [N, C, H, W] or [T, N, C, H, W], got float32 [4]", function() N.avg_pool2d(z(4), { kernel_size = 2 }) end },
    { "avg_pool2d: expected kernel size and stride of at least 1, got kernel size [2, 2], stride [0, 0]",
      function() N.avg_pool2d(x, { kernel_size = 2, stride = 0 }) end },
    { "max_pool2d: expected kernel size and stride of at least 1, got kernel size [-1, -1]", function() N.max_pool2d(x, { kernel_size = -1 }) end },
    { "max_pool2d: padding: expected at most half of the kernel size [2, 2], got [2, 2]", function() N.max_pool2d(x, { kernel_size = 2, padding = 2 }) end },
    { "max_pool2d: x: expected an image of at least 5x5", function() N.max_pool2d(x, { kernel_size = 5 }) end },
    { "adaptive_avg_pool2d: expected an output of at least 1x1, got 0x2", function() N.adaptive_avg_pool2d(x, 0, 2) end },
    { "adaptive_avg_pool2d: x: expected an image of at least 1x1, got float32 [1, 2, 0, 4]", function() N.adaptive_avg_pool2d(z(1, 2, 0, 4), 1, 1) end },
  }
end

function TestLayers:test_batch_norm_and_dropout()
  local x = z(4, 3)
  all {
    { "batch_norm: x: expected [N, C], [T, N, C], [N, C, H, W] or [T, N, C, H, W], got float32 [4]", function() N.batch_norm(z(4)) end },
    { "batch_norm: expected both running_mean and running_var, or neither", function() N.batch_norm(x, nil, nil, z(3)) end },
    { "batch_norm: running statistics: expected contiguous tensors", function() N.batch_norm(x, nil, nil, z(3, 3):select(2, 1), z(3)) end },
    { "batch_norm: expected eps >= 0 and momentum in [0, 1], got -1 and 0.1", function() N.batch_norm(x, nil, nil, nil, nil, { eps = -1 }) end },
    { "batch_norm: expected eps >= 0 and momentum in [0, 1], got 1e-05 and 2", function() N.batch_norm(x, nil, nil, nil, nil, { momentum = 2 }) end },
    { "batch_norm: x: expected more than 1 value per channel when training, got float32 [1, 3]", function() N.batch_norm(z(1, 3)) end },
    { "batch_norm: gamma: expected", function() N.batch_norm(x, z(2)) end },
    { "batch_norm: beta: expected", function() N.batch_norm(x, nil, z(3, 1)) end },
    { "batch_norm: running_var: expected", function() N.batch_norm(x, nil, nil, z(3), z(4)) end },
    { "was written in place by", function()
      local y = T.ones(4, 3)
      local out = N.batch_norm(y)
      y:add_(1)
      out:sum():item()
    end },
    { "dropout: p: expected a probability in [0, 1], got 1.5", function() N.dropout(x, 1.5) end },
    { "dropout: p: expected a probability in [0, 1], got -0.1", function() N.dropout(x, -0.1) end },
    { "dropout: p: expected a probability in [0, 1], got", function() N.dropout(x, 0 / 0) end },
  }
end

function TestLayers:test_neuron()
  local x = z(3, 2, 4)
  all {
    { "neuron: x: expected [T, ...] with at least one step, got float32 [0, 2]", function() N.neuron(z(0, 2)) end },
    { "neuron: x: expected [T, ...] with at least one step, got float32 []", function() N.neuron(T.tensor(1)) end },
    { "neuron: v0: expected float32 [2, 4] or what broadcasts to it, got float32 [3]", function() N.neuron(x, z(3)) end },
    { "neuron: v0: expected float32 [2, 4] or what broadcasts to it, got int64 [2, 4]", function() N.neuron(x, long(2, 4)) end },
    { "a tensor of one element for plif", function() N.neuron(x, nil, nil, { plif = true }) end },
    { "neuron: w: expected float32 of one element, got float32 [2]", function() N.neuron(x, nil, z(2), { plif = true }) end },
    { "neuron: x: expected float32, bfloat16 or spike, got int64", function() N.neuron(long(2, 2)) end },
    { "neuron: surrogate: expected the function to return float32 [3, 2, 4] on " .. core.device.current() .. ", got float32 [2]",
      function() N.neuron(leaf(3, 2, 4), nil, nil, { surrogate = function() return z(2) end }):sum():backward() end },
  }
end

function TestLayers:test_labels()
  if core.device.current() ~= "cpu" then lu.skip "a look at the labels costs nothing on the CPU alone" end
  all {
    { "classification_loss: labels: expected values in [0, 2], got 3 at index 1",
      function() N.classification_loss(z(1, 2, 3), T.tensor({ 0, 3 }, { dtype = "int64" })) end },
    { "classification_loss: labels: expected values in [0, 2], got -1 at index 0",
      function() N.classification_loss(z(1, 2, 3), T.tensor({ -1, 0 }, { dtype = "int64" })) end },
  }
end

function TestLayers:test_losses()
  local y = long(2)
  all {
    { "classification_loss: logits: expected a non-empty [T, N, classes], got float32 [2, 3]", function() N.classification_loss(z(2, 3), y) end },
    { "classification_loss: logits: expected a non-empty [T, N, classes], got float32 [0, 2, 3]", function() N.classification_loss(z(0, 2, 3), y) end },
    { "classification_loss: labels: expected", function() N.classification_loss(z(1, 2, 3), z(2)) end },
    { "classification_loss: labels: expected", function() N.classification_loss(z(1, 2, 3), long(3)) end },
    { "classification_loss: smooth: expected a number in [0, 1], got 2", function() N.classification_loss(z(1, 2, 3), y, { smooth = 2 }) end },
    { "trt: params: expected at least one tensor", function() N.trt {} end },
    { "trt: expected finite lambda and delta and epsilon >= 0, got 1e-05, 0.25, -1", function() N.trt({ z(1) }, { epsilon = -1 }) end },
    { "trt: expected finite lambda and delta", function() N.trt({ z(1) }, { lambda = 1 / 0 }) end },
    { "clip_grad_norm: max_norm: expected a number >= 0, got -1", function() N.clip_grad_norm({ leaf(1) }, -1) end },
    { "clip_grad_value: limit: expected a number >= 0, got -1", function() N.clip_grad_value({ leaf(1) }, -1) end },
    { "MSE: a: expected a tensor, got 1", function() ms.loss.MSE(1, 2) end },
    { "MSE: b: expected a tensor, got 2", function() ms.loss.MSE(z(1), 2) end },
    { "SDT: y: expected labels [N], got 5", function() ms.loss.SDT()(z(1, 2, 3), 5) end },
  }
end

TestOps = {}

function TestOps:test_views_and_indexing()
  local x = z(2, 3)
  all {
    { "view: the memory of [3, 2] does not allow the shape [6] without a copy; use reshape", function() x:t():view(6) end },
    { "flatten: expected the first dimension before the last, got 2 and 1", function() x:flatten(2, 1) end },
    { "permute: expected each of the 2 dimensions once", function() x:permute(1, 1) end },
    { "unsqueeze: expected fewer than 8 dimensions", function() z(1, 1, 1, 1, 1, 1, 1, 1):unsqueeze(1) end },
    { "list: expected at least one tensor", function() O.cat {} end },
    { "expected at least one tensor", function() O.stack {} end },
    { "mean: expected at least one element, got [0]", function() z(0):mean() end },
    { "matmul: expected a float type, got int64 [2, 2] and int64 [2, 2]", function() long(2, 2):matmul(long(2, 2)) end },
    { "gather: index: expected sizes up to those of x [2, 3] but in dimension 1, got", function() x:gather(1, long(1, 4)) end },
    { "index_select: index: expected one dimension, got [1, 1]", function() x:index_select(1, long(1, 1)) end },
    { "add_: shapes [2, 3] and [4] do not broadcast", function() x:add_(z(4)) end },
    { "does not fit in place into", function() long(2):add_(T.tensor { 0.5, 0.5 }, 0.5) end },
    { "add_: shapes [2, 3] and [4] do not broadcast", function() x:add_(z(4), 2) end },
    { "add_: expected a tensor that broadcasts to [3], got", function() z(3):add_(x, 2) end },
    { "from_string: size: too many elements", function() T.from_string("", "float32", { 1 << 40, 1 << 40 }) end },
    { "product fits 63 bits", function() z(1 << 40, 1 << 40) end },
  }
end

function TestOps:test_random()
  all {
    { "random: dtype: expected float32 or bfloat16, got int64", function() long(2):normal_(0, 1) end },
    { "uniform: expected lower <= upper, got 2 and 1", function() z(2):uniform_(2, 1) end },
    { "normal: std: expected 0 or more, got -1", function() z(2):normal_(0, -1) end },
    { "randint: the values 0 to 299 do not fit uint8", function() T.randint(0, 300, { 2 }, { dtype = "uint8" }) end },
  }
end

function TestOps:test_the_tape()
  local w = leaf(2)
  all {
    { "backward: the tensor does not require grad: nothing was recorded on the way to it", function() z(1):backward() end },
    { "backward: expected a tensor of one element, got [2]; reduce it, or give a gradient of its shape", function() (w * 2):backward() end },
    { "backward: gradient: expected float32 [2], got float32 [3]", function() (w * 2):backward(z(3)) end },
    { "grad: inputs: expected at least one tensor", function() A.grad((w * 2):sum(), {}) end },
    { "grad: expected float32 [2], the shape of its tensor, got", function() w.grad = long(2) end },
    { "the shape of its tensor, got float32 [3]", function() w.grad = z(3) end },
    { "requires_grad_: expected a tensor of a float type, got int64", function() long(2):requires_grad_() end },
    { "requires_grad_: the tensor is a result of 'mul'; detach() it instead", function() (w * 2):requires_grad_(false) end },
    { "backward: what 'sum' saved was released by an earlier backward (retain_graph = true keeps it)", function()
      local y = (w * w):sum()
      y:backward()
      y:backward()
    end },
    { "backward: a tensor saved by 'mul' was changed by 'add_' before its gradient was computed", function()
      local x = T.ones(2)
      local y = (w * x):sum()
      x:add_(1)
      y:backward()
    end },
    { "gave a gradient of shape [3] for an input of shape [2]", function()
      local out = z(2)
      A.record("odd", function() return z(3) end, { w }, { out })
      out:sum():backward()
    end },
    { "is a leaf that requires grad; change it in place inside ms.no_grad only", function() w:add_(1) end },
    { "no_grad: fn: expected a function, got 1", function() ms.no_grad(1) end },
    { "add_: ", function()
      local opt = optim.SGD({ w }, { lr = 1 })
      w:add_(1)
      return opt
    end },
  }
  lu.assertEquals(w:totable(), { 1, 1 })
end

TestOptimizers = {}

function TestOptimizers:test_core()
  local function new(kind, params, settings)
    local opt = core.optim.new(kind)
    opt:add_group(params, settings)
    return opt
  end
  local shared = leaf(2)
  all {
    { "expected a finite number >= 0", function() new("sgd", { leaf(1) }, { lr = -1 }) end },
    { "expected a finite number >= 0", function() new("sgd", { leaf(1) }, { lr = 0 / 0 }) end },
    { "nesterov: expected momentum > 0 and dampening 0, got 0 and 0", function() new("sgd", { leaf(1) }, { lr = 1, nesterov = true }) end },
    { "params: expected at least one tensor", function() new("sgd", {}, { lr = 1 }) end },
    { "is given twice", function() new("sgd", { shared, shared }, { lr = 1 }) end },
    { "parameters: expected float32 (the optimizer's master copy), got bfloat16", function() new("sgd", { T.ones(2):bfloat16() }, { lr = 1 }) end },
    { "parameters: expected leaf tensors, got the result of an op", function() new("sgd", { leaf(2) * 2 }, { lr = 1 }) end },
    { "parameters: expected a contiguous tensor that has its memory for itself, got a view", function() new("sgd", { z(4):narrow(1, 1, 2) }, { lr = 1 }) end },
    { "state: step: expected a count, got -1", function() new("adam", { leaf(1) }, { lr = 1 }):set_state(1, z(1), z(1), -1) end },
  }
end

TestFiles = {}

function TestFiles:test_json()
  local encode, decode = core.json.encode, core.json.decode
  local cycle = {}
  cycle[1] = cycle
  all {
    { "a string that is not valid UTF-8", function() encode "\xff" end },
    { "is no JSON number", function() encode { a = 0 / 0 } end },
    { "a table with both kinds of keys, or a list with holes", function() encode { 1, a = 2 } end },
    { "a table with both kinds of keys, or a list with holes", function() encode { 1, nil, 3 } end },
    { "a key with a NUL byte", function() encode { ["a\0b"] = 1 } end },
    { "(a cycle?)", function() encode(cycle) end },
    { "expected nil, booleans, numbers, strings and tables, got a function", function() encode { f = print } end },
  }
  for _, bad in ipairs { "", "{", "[1,]", '{"a":1', "nul", "1 2", '"a\0b"', "\xff", '{"a" 1}' } do
    local value, why = decode(bad)
    lu.assertNil(value, bad)
    lu.assertStrContains(why, "decode: text: ")
  end
end

function TestFiles:test_checkpoints()
  local path = folder .. "/one.safetensors"
  ms.save(path, nn.Linear(2, 2))
  local file = assert(core.checkpoint.open(path))
  s.raises("the file holds no tensor 'other'", file.tensor, file, "other")
  file:close()
  all {
    { "the checkpoint is closed", function() file:names() end },
    { "tensors[1]: expected {name, tensor}, got number", function() core.checkpoint.write(path, { 1 }) end },
    { "a string with a NUL byte", function() core.checkpoint.write(path, { { "a\0b", z(1) } }) end },
  }
  all {
    { "expected valid UTF-8", function() core.checkpoint.write(path, { { "\xff", z(1) } }) end },
    { "expected valid UTF-8", function() core.checkpoint.write(path, { { "a", z(1) } }, { key = "\xff" }) end },
    { "'__metadata__': reserved name", function() core.checkpoint.write(path, { { "__metadata__", z(1) } }) end },
  }
  lu.assertEquals(ms.load(path).weight.shape, { 2, 2 })
end

-- A training state whose description says something else: an error that names the file, and no value is changed.
function TestFiles:test_damaged_descriptions()
  local path = folder .. "/state.safetensors"
  local function parts()
    ms.manual_seed(1)
    local net = nn.Linear(2, 2)
    local opt = optim.Adam(net:parameters(), { lr = 0.1 })
    net(ms.ones(1, 2)):sum():backward()
    opt:step()
    return net, opt, optim.StepLR(opt, { step_size = 1 })
  end
  local net, opt, sched = parts()
  ms.checkpoint(path, { model = net, optimizer = opt, scheduler = sched, epoch = 3 })
  local file = assert(core.checkpoint.open(path))
  local good, tensors = core.json.decode(file:metadata().moonspike), {}
  for _, name in ipairs(file:names()) do tensors[#tensors + 1] = { name, (file:tensor(name)) } end
  local damages = {
    function(d) d.version = 2 end, function(d) d.version = nil end, function(d) d.random = nil end, function(d) d.random = 5 end,
    function(d) d.random.seed = "x" end, function(d) d.random.lua = nil end, function(d) d.random.lua = { "a", "b" } end,
    function(d) d.random.draws = {} end, function(d) d.optimizer = 7 end, function(d) d.optimizer.groups = nil end,
    function(d) d.optimizer.groups = { 1 } end, function(d) d.optimizer.names = nil end, function(d) d.optimizer.names = { 1, 2 } end,
    function(d) d.optimizer.numbers = nil end, function(d) d.optimizer.numbers = { 1, 2 } end, function(d) d.optimizer.kind = "SGD" end,
    function(d) d.scheduler = nil end, function(d) d.scheduler = {} end, function(d) d.scheduler.t = "soon" end,
    function(d) d.optimizer.groups[1].lr = "fast" end, function(d) d.optimizer.groups[1].betas = 1 end,
    function(d) d.optimizer.groups[1].lr = -1 end, function(d) d.optimizer.numbers[1].step = -5 end,
    function(d) d.optimizer.numbers[1].step = "x" end,
  }
  for i, damage in ipairs(damages) do
    local bad = core.json.decode(core.json.encode(good))
    damage(bad)
    assert(core.checkpoint.write(path, tensors, { format = "pt", moonspike = core.json.encode(bad) }))
    local other, mine, plan = parts()
    other.weight:detach():add_(1)
    plan:step()
    local before = { other.weight:totable(), core.json.encode(mine:state_dict().groups), plan.t, { core.random.state() } }
    local m = mine:state_dict().state[1].m:totable()
    local ok, message = pcall(ms.resume, path, { model = other, optimizer = mine, scheduler = plan })
    lu.assertFalse(ok, "damage " .. i)
    lu.assertStrContains(tostring(message), "resume: ", false, false, "damage " .. i)
    lu.assertEquals({ other.weight:totable(), core.json.encode(mine:state_dict().groups), plan.t, { core.random.state() } }, before, "damage " .. i)
    lu.assertEquals(mine:state_dict().state[1].m:totable(), m, "damage " .. i)
  end
  for _, text in ipairs { "", "{", "[]", "5", "null", "{}" } do
    assert(core.checkpoint.write(path, tensors, { moonspike = text }))
    s.raises("its description is damaged", ms.resume, path, { model = net })
  end
end

-- Whatever is missing at the end of a file: refused by name, never half read.
function TestFiles:test_truncated_at_every_byte()
  local path = folder .. "/cut.safetensors"
  ms.manual_seed(1)
  local net = nn.Sequential { nn.Linear(3, 2), nn.BatchNorm1d(2) }
  local opt = optim.Adam(net:parameters(), { lr = 0.1 })
  ms.checkpoint(path, { model = net, optimizer = opt })
  local bytes, before = s.read(path), net[1].weight:totable()
  for n = 0, #bytes - 1 do
    s.write(path, bytes:sub(1, n))
    for _, f in ipairs { function() ms.load(path, net) end, function() ms.resume(path, { model = net, optimizer = opt }) end } do
      local ok, message = pcall(f)
      if ok then lu.fail(n .. " bytes were accepted") end
      if not tostring(message):find(path, 1, true) then lu.fail(("%d bytes: the file is not named: %s"):format(n, message)) end
    end
  end
  lu.assertEquals(net[1].weight:totable(), before)
  s.write(path, bytes .. "x")
  s.raises("damaged", ms.load, path, net)
  for _, size in ipairs { 0, 1, 2 ^ 31, 2 ^ 40, 2 ^ 62 } do
    s.write(path, string.pack("<I8", math.tointeger(size)) .. bytes:sub(9))
    s.raises(path, ms.load, path, net)
  end
  s.write(path, ("\xff"):rep(8) .. bytes:sub(9))
  s.raises(path, ms.load, path, net)
  s.write(path, bytes)
  ms.resume(path, { model = net, optimizer = opt })
end

function TestFiles:test_idx_truncated_at_every_byte()
  local images = string.pack(">I4I4I4I4", 0x803, 2, 28, 28) .. ("\7"):rep(2 * 784)
  local labels = string.pack(">I4I4", 0x801, 2) .. "\1\2"
  local names = { "train-images-idx3-ubyte", "train-labels-idx1-ubyte" }
  local function try(a, b)
    s.write(folder .. "/" .. names[1], a)
    s.write(folder .. "/" .. names[2], b)
    local ok, message = pcall(ms.data.FashionMNIST, { root = folder, workers = 0 })
    return ok, tostring(message)
  end
  lu.assertTrue(try(images, labels))
  for n = 0, #images - 1, 1 do
    if n < 40 or n % 97 == 0 or n > #images - 5 then
      local ok, message = try(images:sub(1, n), labels)
      lu.assertFalse(ok, n)
      lu.assertStrContains(message, names[1])
    end
  end
  for n = 0, #labels - 1 do
    local ok, message = try(images, labels:sub(1, n))
    lu.assertFalse(ok, n)
    lu.assertStrContains(message, names[2])
  end
  for _, header in ipairs { { 0xffffffff, 28, 28 }, { 2, 0xffffffff, 0xffffffff }, { 0x7fffffff, 0x7fffffff, 0x7fffffff }, { 0, 28, 28 }, { 2, 0, 28 } } do
    lu.assertFalse(try(string.pack(">I4I4I4I4", 0x803, table.unpack(header)) .. images:sub(17), labels))
  end
  for kind = 0, 255 do
    if kind ~= 8 then lu.assertFalse(try(string.pack(">I4", kind << 8 | 3) .. images:sub(5), labels)) end
  end
end

-- A disk that is full: an error, the script goes on, the file from before is whole, and no temporary file stays. (A limit on the
-- size of files stands in for it.)
function TestFiles:test_full_disk()
  local path = folder .. "/full.safetensors"
  local script = folder .. "/full.lua"
  s.write(script, ([[
    local ms = require "moonspike"
    ms.manual_seed(1)
    local path = %q
    local small, large = ms.nn.Linear(3, 3), ms.nn.Linear(600, 600)
    local opt = ms.optim.Adam(large:parameters())
    for _, f in ipairs { function() ms.save(path, large) end, function() ms.checkpoint(path, { model = large, optimizer = opt }) end } do
      local ok, message = pcall(f)
      print(ok, message)
    end
    print("alive", ms.load(path, small) == small)
  ]]):format(path))
  ms.save(path, nn.Linear(3, 3))
  local before = s.read(path)
  local code, text = s.run(script, "trap '' XFSZ; ulimit -f 64;")
  lu.assertEquals(code, 0, text)
  lu.assertStrMatches(text, "false\t[^\n]*save: [^\n]*full.safetensors[^\n]*File too large\nfalse\t[^\n]*checkpoint: [^\n]*full.safetensors[^\n]*File too large\nalive\ttrue\n")
  lu.assertEquals(s.read(path), before)
  local p <close> = io.popen("ls -A " .. folder)
  for name in p:lines() do lu.assertNil(name:find("full.safetensors.", 1, true), name) end
end

TestModules = {}

function TestModules:test_lua_modules()
  local net = nn.Linear(2, 2)
  all {
    { "load_state_dict: dict: expected a table of tensors, got 5", function() net:load_state_dict(5) end },
    { "load_state_dict: dict: expected { t = integer }, got 1", function() optim.StepLR(optim.SGD { leaf(1) }, { step_size = 1 }):load_state_dict(1) end },
    { "Residual: branches: expected { main, shortcut, neuron = ... }, got 1", function() nn.Residual(1) end },
    { "normal_: tensor: expected a tensor, got 1", function() nn.init.normal_(1) end },
    { "progress: set: expected a table, got 1", function()
      local bar = ms.progress(function() end, "x")
      bar:set(1)
    end },
    { "plot: panels: expected at least one, got none", function() ms.plot { file = folder .. "/x.png", panels = {} } end },
    { "FashionMNIST: ", function() ms.data.FashionMNIST { root = folder .. "/none" } end },
  }
end

function TestModules:test_loaders()
  local images, labels = ms.rand(4, 1, 3, 3), long(4)
  local set = ms.data.FromTensors { images = images, labels = labels, workers = 0, batch_size = 2 }
  all {
    { "load_state_dict: state: expected { epoch, batch, seed }, got", function() set:load_state_dict {} end },
    { "load_state_dict: state: expected { epoch, batch, seed }, got", function() set:load_state_dict(3) end },
    { "labels: expected [4], one for each sample, got [3]", function() ms.data.FromTensors { images = images, labels = long(3) } end },
    { "labels", function() ms.data.FromTensors { images = images, labels = z(4) } end },
    { "workers", function() ms.data.FromTensors { images = images, labels = labels, workers = -1 } end },
    { "workers", function() ms.data.FromTensors { images = images, labels = labels, workers = 10000 } end },
    { "mean", function() ms.data.FromTensors { images = images, labels = labels, mean = { 1, 2 } } end },
    { "std", function() ms.data.FromTensors { images = images, labels = labels, std = -1 } end },
    { "batch_size", function() ms.data.FromTensors { images = images, labels = labels, batch_size = 0 } end },
    { "crop", function() ms.data.FromTensors { images = images, labels = labels, augment = { crop = -1 } } end },
  }
end

TestArguments = {}

function TestArguments:test_numbers_and_types()
  local adam = core.optim.new "adam"
  adam:add_group({ leaf(2) }, { lr = 1 })
  all {
    { "number expected, got string", function() N.dropout(z(2), "half") end },
    { "string expected, got number", function() z(2):to(5) end },
    { "loader: mean[2]: expected a number, got string", function()
      core.data.loader { source = core.data.source { samples = z(2, 2, 3, 3), labels = long(2) }, batch_size = 1, mean = { 1, "a" } }
    end },
    { "of '': expected float32 [2], got float32 [3]", function() adam:set_state(1, z(3), z(2), 1) end },
  }
end

function TestArguments:test_a_frozen_parameter_is_not_drawn_into_the_graph()
  local p, x = leaf(2), leaf(2)
  local opt = optim.SGD({ p }, { lr = 1 })
  p.requires_grad = false
  s.raises("add_: the tensor is a parameter of an optimizer; change it in place inside ms.no_grad only", p.add_, p, x * 2)
  lu.assertEquals(p:totable(), { 1, 1 })
  lu.assertEquals(#opt.param_groups, 1)
end

function TestFiles:test_a_file_cut_while_it_is_open()
  local path = folder .. "/open.safetensors"
  ms.save(path, nn.Linear(200, 200))
  local file = assert(core.checkpoint.open(path))
  s.write(path, "short")
  local ok, got, why = pcall(file.tensor, file, "weight")
  lu.assertTrue(not ok or got == nil)
  lu.assertStrContains(tostring(why or got), "the file has been cut since it was opened")
end

TestAfterwards = {}

function TestAfterwards:test_nothing_is_left_alive()
  local function run()
    for _, class in ipairs { TestLayers, TestOps, TestOptimizers, TestModules } do
      for name, f in pairs(class) do
        if type(f) == "function" then f(class) end
      end
    end
    collectgarbage()
    collectgarbage()
    return core.device.live()
  end
  local before = run()
  lu.assertEquals(run(), before)
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
