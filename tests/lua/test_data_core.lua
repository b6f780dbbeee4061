-- core.data and core.checkpoint: files, the loader, and what happens to files that are not what they should be.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local data, checkpoint, tensor = core.data, core.checkpoint, core.tensor.tensor

local folder
local real = #ms.zeros(1):bytes() == 4 and "F32" or "F64" -- F64: the double-precision test build

TestIdx = {}
function TestIdx:setUp() folder = s.folder() end
function TestIdx:tearDown() s.remove(folder) end

function TestIdx:test_golden()
  s.write(folder .. "/x", "\0\0\8\3\0\0\0\2\0\0\0\2\0\0\0\3\0\1\2\3\4\5\xfa\xfb\xfc\xfd\xfe\xff")
  local t = data.read_idx(folder .. "/x")
  lu.assertEquals(t.dtype, "uint8")
  lu.assertEquals(t:totable(), { { { 0, 1, 2 }, { 3, 4, 5 } }, { { 250, 251, 252 }, { 253, 254, 255 } } })
end

function TestIdx:test_policies()
  local function read(bytes, policy)
    s.write(folder .. "/x", bytes)
    return data.read_idx(folder .. "/x", { policy = policy })
  end
  local _, repairs = read("\0\0\8\1\0\0\0\2\5\6", "strict")
  lu.assertEquals(repairs, {})
  local t
  t, repairs = read("\0\0\8\1\0\0\0\2\5\6\7\8\9", "lenient")
  lu.assertEquals({ t:totable(), repairs }, { { 5, 6 }, { extra = 3 } })
  t, repairs = read("\0\0\8\2\0\0\0\3\0\0\0\2\5\6\7", "lenient") -- one of three rows is whole
  lu.assertEquals({ t:totable(), repairs }, { { { 5, 6 } }, { truncated = 4 } })
  lu.assertStrContains(select(2, read("\0\0\8\1\0\0\0\2\5\6\7", "oracle")), "more data than the header says")
  lu.assertStrContains(select(2, read("\0\0\8\0\5", "oracle")), "1 to 3 dimensions")
  lu.assertEquals(read("\0\0\8\0\5", "strict"):item(), 5)
  s.raises("read_idx: policy: expected one of strict, lenient, oracle, got loose", read, "", "loose")
end

function TestIdx:test_environment()
  local t, message, status = data.read_idx(folder .. "/none")
  lu.assertNil(t)
  lu.assertStrContains(message, "none: No such file")
  lu.assertEquals(status, "EIO")
  s.write(folder .. "/x", "\0\0\8\1\0\0\0\9")
  t, message, status = data.read_idx(folder .. "/x")
  lu.assertNil(t)
  lu.assertStrContains(message, "damaged")
  lu.assertEquals(status, "EFORMAT")
end

function TestIdx:test_fashion_mnist()
  local root = "/usr/share/datasets/fashion-mnist/"
  if not core.system.exists(root) then lu.skip "needs the package dataset-fashion-mnist" end
  local images, labels = data.read_idx(root .. "t10k-images-idx3-ubyte.gz"), data.read_idx(root .. "t10k-labels-idx1-ubyte.gz")
  lu.assertEquals(images.shape, { 10000, 28, 28 })
  lu.assertEquals(labels:narrow(1, 1, 10):totable(), { 9, 2, 1, 1, 6, 1, 4, 6, 5, 7 })
end

TestLoader = {}
TestLoader.setUp, TestLoader.tearDown = TestIdx.setUp, TestIdx.tearDown

local function source(images, labels) return data.source { samples = images, labels = labels } end

local function set(n)
  local bytes = {}
  for i = 1, n * 12 do bytes[i] = string.char(i * 7 % 256) end
  return core.tensor.from_string(table.concat(bytes), "uint8", { n, 3, 2, 2 }), ms.arange(0, n):long()
end

function TestLoader:test_batches()
  local images, labels = set(10)
  local l = data.loader { source = source(images, labels), batch_size = 4, workers = 2, mean = { 0, 0.5, 0 }, std = { 1, 1, 2 } }
  lu.assertEquals(l:batches(), 3)
  local sizes = {}
  for x, y, index in l.next, l do
    x = x[1]
    sizes[#sizes + 1] = x.shape[1]
    lu.assertEquals(y:totable(), index:totable())
    local want = images:narrow(1, index[1]:item() + 1, x.shape[1]):float() / 255
    want = (want - tensor { 0, 0.5, 0 }:view(3, 1, 1)) / tensor { 1, 1, 2 }:view(3, 1, 1)
    lu.assertEquals(x:totable(), want:totable())
  end
  lu.assertEquals(sizes, { 4, 4, 2 })
  lu.assertEquals({ l:position() }, { 2, 0 })
  l:start(1, 2)
  local x = l:next()
  lu.assertEquals(x.shape, { 1, 2, 3, 2, 2 })
  lu.assertNil((l:next()))
  l:close()
  l:close()
  s.raises("closed", l.next, l)
end

-- Views whose memory is not in the default order are read in their logical one; [n, h, w] has one channel.
function TestLoader:test_layouts()
  local images = ms.arange(0, 24):view(2, 3, 4):transpose(1, 2)
  local l <close> = data.loader { source = source(images, tensor({ 1, 0, 1 }, { dtype = "int64" })), batch_size = 3, workers = 0 }
  local x, y = l:next()
  lu.assertEquals(x.shape, { 1, 3, 1, 2, 4 })
  lu.assertEquals(x:view(3, 2, 4):totable(), images:totable())
  lu.assertEquals(y:totable(), { 1, 0, 1 })
end

function TestLoader:test_resume_and_workers()
  local images, labels = set(50)
  local function rest(workers, epoch, batch)
    local l <close> = data.loader { source = source(images, labels), batch_size = 7, workers = workers, shuffle = true, seed = 5,
      augment = data.recipe { { kind = "crop", hi = 1 }, { kind = "flip", p = 0.5 } }, drop_last = true }
    l:start(epoch, batch)
    local out = {}
    for x, y in l.next, l do out[#out + 1] = { x:totable(), y:totable() } end
    return out
  end
  local whole = rest(0, 3, 0)
  lu.assertEquals(#whole, 7)
  for workers = 1, 3 do lu.assertEquals(rest(workers, 3, 4), { table.unpack(whole, 5) }) end
end

function TestLoader:test_misuse()
  local images, labels = set(4)
  local function bad_source(text, options)
    options.samples, options.labels = options.samples or images, options.labels or labels
    s.raises(text, data.source, options)
  end
  bad_source("source: unknown option 'size'", { size = 3 })
  bad_source("source: labels: expected [4], one for each sample, got [3]", { labels = labels:narrow(1, 1, 3) })
  bad_source("source: labels: expected int64 or uint8, got float32", { labels = labels:float() })
  bad_source("source: samples: expected [n, h, w], [n, c, h, w] or [n, t, c, h, w], got", { samples = labels })
  bad_source("source: samples: expected uint8 or float32, got int64", { samples = images:long() })
  bad_source("source: samples: expected a tensor, got string", { samples = "x" })
  local from = source(images, labels)
  local function refused(text, options)
    options.source = options.source or from
    s.raises(text, data.loader, options)
  end
  refused("loader: unknown option 'size'", { size = 3 })
  refused("loader: source: expected a source, got string", { source = "x" })
  refused("loader: members: expected an int64 tensor [n], got float32 [4]", { members = labels:float() })
  refused("loader: members: expected samples 0 to 3, got 4", { members = tensor({ 0, 4 }, { dtype = "int64" }) })
  refused("loader: mean: expected a table of 3 numbers", { mean = { 1 } })
  refused("loader: std: expected positive numbers", { std = { 1, 1, 0 } })
  refused("loader: batch_size: expected at least 1, got 0", { batch_size = 0 })
  refused("loader: workers", { workers = -1 })
  refused("loader: prefetch: expected 1", { prefetch = 0 })
  from:close()
  refused("loader: source: the source is closed", {})
  s.raises("the source is closed", from.size, from)
end

-- A source with time keeps its order of dimensions; reading gives what was put in.
function TestLoader:test_frames_and_members()
  local movie = ms.arange(0, 2 * 3 * 2 * 2 * 2):view(2, 3, 2, 2, 2)
  local from = source(movie, tensor({ 1, 0 }, { dtype = "int64" }))
  lu.assertEquals({ from:size() }, { 2, 3, 2, 2, 2, "float32" })
  lu.assertEquals(from:read(2):totable(), movie[2]:totable())
  local l <close> = data.loader { source = from, members = tensor({ 1, 0, 1 }, { dtype = "int64" }), batch_size = 3, scale = 1, workers = 0 }
  local x, y, index = l:next()
  lu.assertEquals(x.shape, { 3, 3, 2, 2, 2 })
  for t = 1, 3 do
    for n, i in ipairs { 2, 1, 2 } do lu.assertEquals(x[t][n]:totable(), movie[i][t]:totable()) end
  end
  lu.assertEquals({ y:totable(), index:totable() }, { { 0, 1, 0 }, { 1, 0, 1 } })
end

-- Lists that say a length of their own, or hold what a file's name cannot.
function TestLoader:test_lists_of_strings()
  local function length(n) return setmetatable({}, { __len = function() return n end }) end
  s.raises("list_folder: roots: expected a table of strings, got one of length -1", data.list_folder, { roots = length(-1), extensions = { ".x" } })
  s.raises("list_folder: extensions: expected at least one, got none", data.list_folder, { roots = { folder }, extensions = {} })
  s.raises("list_folder: roots[1]: expected a string without NUL bytes", data.list_folder, { roots = { folder .. "\0" }, extensions = { ".x" } })
  s.raises("image_source: paths[1]: expected a string, got nil", data.image_source, { paths = length(1), labels = ms.zeros(1):long() })
  s.raises("recipe: expected at most 32 steps, got -1", data.recipe, length(-1))
end

-- What reads from a source is not hurt when it is closed, nor by a change of the tensor that members came from.
function TestLoader:test_closed_source_and_changed_members()
  local images, labels = set(6)
  for _, workers in ipairs { 0, 2 } do
    local from, members = source(images, labels), tensor({ 5, 4, 3, 2 }, { dtype = "int64" })
    local l <close> = data.loader { source = from, members = members, batch_size = 2, workers = workers }
    from:close()
    members:add_(1000000)
    lu.assertEquals(tostring(from), "source (closed)")
    local _, _, first = l:next()
    local _, _, second = l:next()
    lu.assertEquals({ first:totable(), second:totable() }, { { 5, 4 }, { 3, 2 } })
    from:close()
  end
end

function TestLoader:test_closed_source_of_a_cache()
  local images, labels = set(6)
  local from, path = source(images, labels), folder .. "/cache.npy"
  local writer = data.cache_writer(from, path)
  from:close()
  lu.assertEquals(writer:step(1), 6)
  writer:commit()
  s.raises("cached_source: like: the source is closed", data.cached_source, path, from)
  from = source(images, labels)
  local cached = data.cached_source(path, from)
  from:close()
  lu.assertEquals(cached:labels():totable(), labels:totable())
  lu.assertEquals(cached:read(2):totable(), { images[2]:totable() })
  local l <close> = data.loader { source = cached, batch_size = 6, workers = 1 }
  cached:close()
  lu.assertEquals(select(2, l:next()):totable(), labels:totable())
end

-- A loader that is forgotten in the middle of an epoch takes its workers and memory with it.
function TestLoader:test_collected()
  local images, labels = set(50)
  collectgarbage()
  local before = core.device.live().bytes
  for _ = 1, 20 do data.loader { source = source(images, labels), workers = 3, shuffle = true }:next() end
  collectgarbage()
  collectgarbage()
  lu.assertEquals(core.device.live().bytes, before)
end

TestCheckpoint = {}
TestCheckpoint.setUp, TestCheckpoint.tearDown = TestIdx.setUp, TestIdx.tearDown

function TestCheckpoint:test_round_trip()
  local path = folder .. "/x.safetensors"
  local w = ms.randn(2, 3, 2, 2)
  lu.assertTrue(checkpoint.write(path, { { "w", w }, { "é \"1\"", tensor({ 1, -2 }, { dtype = "int64" }) }, { "s", tensor(2.5) } },
    { a = "1", b = "{}\n" }))
  local file <close> = checkpoint.open(path)
  lu.assertEquals(file:names(), { "é \"1\"", "s", "w" })
  lu.assertEquals(file:metadata(), { a = "1", b = "{}\n" })
  lu.assertEquals({ file:entry "w" }, { real, { 2, 3, 2, 2 } })
  lu.assertEquals({ file:entry "s" }, { real, {} })
  lu.assertEquals(file:tensor "w":totable(), w:totable())
  lu.assertEquals(file:tensor "s":item(), 2.5)
  lu.assertTrue(file:has "w")
  lu.assertFalse(file:has "x")
  s.raises("the file holds no tensor 'x'", file.tensor, file, "x")
  file:close()
  file:close()
  s.raises("closed", file.names, file)
end

function TestCheckpoint:test_golden()
  lu.skipIf(real == "F64", "its floats are doubles")
  local header = '{"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"y":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}   '
  local golden = string.pack("<I8", 112) .. header .. "\0\0\xc0\x3f\0\0\0\xc0\1\2\xff"
  local path = folder .. "/x"
  checkpoint.write(path, { { "y", tensor({ 1, 2, 255 }, { dtype = "uint8" }) }, { "w", tensor { { 1.5, -2 } } } })
  lu.assertEquals(s.read(path), golden)
end

function TestCheckpoint:test_environment()
  local file, message, status = checkpoint.open(folder .. "/none")
  lu.assertNil(file)
  lu.assertStrContains(message, "No such file")
  lu.assertEquals(status, "EIO")
  s.write(folder .. "/x", "PK\3\4 not this")
  file, message, status = checkpoint.open(folder .. "/x")
  lu.assertNil(file)
  lu.assertStrContains(message, "damaged")
  lu.assertEquals(status, "EFORMAT")
  local ok
  ok, message = checkpoint.write(folder .. "/no/x", { { "w", ms.zeros(1) } })
  lu.assertNil(ok)
  lu.assertStrContains(message, "No such file")
  ok, message = checkpoint.write("/dev/full", { { "w", ms.zeros(1) } })
  lu.assertNil(ok)
  lu.assertStrContains(message, "not a regular file")
end

-- Misuse raises and leaves the previous file alone.
function TestCheckpoint:test_misuse()
  local path, w = folder .. "/x", ms.zeros(1)
  checkpoint.write(path, { { "w", w } })
  local before = s.read(path)
  s.raises("tensors[1]: expected a tensor at 2, got number", checkpoint.write, path, { { "w", 1 } })
  s.raises("tensors[2]: expected {name, tensor}", checkpoint.write, path, { { "w", w }, w })
  s.raises("expected a string, got number", checkpoint.write, path, { { 1, w } })
  s.raises("given twice", checkpoint.write, path, { { "w", w }, { "w", w } })
  s.raises("reserved name", checkpoint.write, path, { { "__metadata__", w } })
  s.raises("NUL", checkpoint.write, path, { { "a\0b", w } })
  s.raises("metadata.k: expected a string, got number", checkpoint.write, path, { { "w", w } }, { k = 1 })
  s.raises("UTF-8", checkpoint.write, path, { { "\xff", w } })
  lu.assertEquals(s.read(path), before)
end

os.exit(lu.LuaUnit.run() == 0)
