-- Data sets: files, batches, order, augmentation, position, messages.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local data = ms.data

local folder = s.folder()
s.fashion(folder, 60, 20)

local function fashion(options)
  options.root = options.root or folder
  return data.FashionMNIST(options)
end

-- All labels of one epoch, in order.
local function labels(set)
  local list = {}
  for _, y in set do
    for _, v in ipairs(y:totable()) do list[#list + 1] = v end
  end
  return list
end

TestFashion = {}

function TestFashion:test_shapes_and_values()
  local set = fashion { train = true, batch_size = 16, T = 3 }
  lu.assertEquals({ #set, set.batches, #set.classes }, { 60, 4, 10 })
  local sizes = {}
  for x, y in set do
    sizes[#sizes + 1] = y.shape[1]
    lu.assertEquals(x.shape, { 3, y.shape[1], 1, 28, 28 })
    lu.assertEquals(x.dtype, "float32")
    lu.assertEquals(y.dtype, "int64")
    lu.assertEquals(x[1]:totable(), x[3]:totable())
    if #sizes == 1 then
      local pixels = s.read(folder .. "/train-images-idx3-ubyte"):byte(17 + 28 * 3 + 5)
      s.near(x[1][1][1][4][6]:item(), (pixels / 255 - 0.2860) / 0.3530, 1e-5)
      s.near(set[1].x[1][4][6]:item(), x[1][1][1][4][6]:item(), 1e-5)
      lu.assertEquals(set[1].y, y[1]:item())
      lu.assertEquals(set[1].class, set.classes[set[1].y + 1])
    end
  end
  lu.assertEquals(sizes, { 16, 16, 16, 12 })
  lu.assertStrContains(tostring(set), "FashionMNIST train: 60 samples of [1, 28, 28], 10 classes; 4 batches of 16, T = 3")
end

function TestFashion:test_drop_last_limit_and_test_part()
  lu.assertEquals(fashion { train = true, batch_size = 16, drop_last = true }.batches, 3)
  lu.assertEquals(#fashion { train = true, limit = 10 }, 10)
  lu.assertEquals(#fashion { train = false }, 20)
  lu.assertEquals(labels(fashion { train = false, batch_size = 7 }),
    labels(fashion { train = false, batch_size = 20, workers = 0 }))
end

function TestFashion:test_order_depends_on_seed_and_epoch_alone()
  ms.manual_seed(5)
  local a, b = fashion { shuffle = true, batch_size = 7, workers = 0 }, fashion { shuffle = true, batch_size = 7, workers = 3 }
  local first = labels(a)
  lu.assertEquals(labels(b), first)
  local second = labels(a)
  lu.assertNotEquals(second, first)
  lu.assertEquals(labels(b), second)
  ms.manual_seed(6)
  lu.assertNotEquals(labels(fashion { shuffle = true, batch_size = 7 }), first)
  lu.assertEquals(labels(fashion { shuffle = true, batch_size = 7, seed = 3 }), labels(fashion { shuffle = true, batch_size = 9, seed = 3 }))
  table.sort(first)
  local sorted = labels(fashion {})
  table.sort(sorted)
  lu.assertEquals(first, sorted)
end

function TestFashion:test_leaving_a_loop_early_starts_a_fresh_epoch()
  local a, b = fashion { shuffle = true, batch_size = 20, seed = 1 }, fashion { shuffle = true, batch_size = 20, seed = 1 }
  for _ in a do break end
  labels(b)
  lu.assertEquals(labels(a), labels(b))
end

function TestFashion:test_position_goes_round()
  local options = { shuffle = true, batch_size = 8, seed = 4, augment = { crop = 2, flip = true } }
  local whole = fashion(options)
  local seen, state = {}, nil
  for x, y in whole do
    seen[#seen + 1] = { x[1]:totable(), y:totable() }
    if #seen == 3 then state = whole:state_dict() end
  end
  lu.assertEquals(state, { epoch = 1, batch = 3, seed = 4, samples = 60, batch_size = 8, members = whole:hash() })
  local rest = fashion { shuffle = true, batch_size = 8, seed = 99, augment = { crop = 2, flip = true } }
  rest:load_state_dict(state)
  local i = 3
  for x, y in rest do
    i = i + 1
    lu.assertEquals({ x[1]:totable(), y:totable() }, seen[i])
  end
  lu.assertEquals(i, #seen)
  lu.assertEquals(labels(rest), labels(whole))
end

function TestFashion:test_where_files_are_found()
  local home = s.folder()
  os.execute(("mkdir %s/FashionMNIST && cp %s/* %s/FashionMNIST && gzip %s/FashionMNIST/*images*"):format(home, folder, home, home))
  local code, text = s.run("-e", "MOONSPIKE_DATA=" .. home, [["print(#require('moonspike').data.FashionMNIST { train = false })"]])
  lu.assertEquals({ code, text }, { 0, "20\n" })
  s.remove(home)
end

TestFromTensors = {}

function TestFromTensors:test_own_images()
  local images, y = ms.randn(5, 2, 3, 4), ms.tensor({ 0, 1, 2, 0, 1 }, { dtype = "int64" })
  local set = data.FromTensors { images = images, labels = y, batch_size = 2, T = 1, mean = { 1, 2 }, std = 0.5 }
  local got = {}
  for x in set do got[#got + 1] = x[1] end
  s.near(ms.cat(got, 1), (images - ms.tensor { 1, 2 }:view(2, 1, 1)) * 2, 1e-5)
  s.near(set[2].x, ((images[2] - ms.tensor { 1, 2 }:view(2, 1, 1)) * 2), 1e-5)
  lu.assertEquals(set.classes, { "0", "1", "2" })
end

-- Samples with time are taken as they are, from wherever they lie.
function TestFromTensors:test_frames()
  local frames, y = ms.randn(4, 3, 2, 5, 6), ms.tensor({ 0, 1, 1, 0 }, { dtype = "int64" })
  for _, resident in ipairs { false, true } do
    local set = data.FromTensors { images = frames, labels = y, batch_size = 3, resident = resident, mean = 0.5 }
    lu.assertEquals({ set.T, set.shape, #set }, { 3, { 2, 5, 6 }, 4 })
    local at = 0
    for x in set do
      for i = 1, x.shape[2] do
        at = at + 1
        s.near(x:select(2, i), frames[at] - 0.5, 1e-6)
      end
    end
    lu.assertEquals(at, 4)
    s.near(set[2].x, frames[2] - 0.5, 1e-6)
  end
end

TestParts = {}

local function numbered(n, options)
  options = options or {}
  options.images = ms.arange(0, n):view(n, 1, 1)
  options.labels = ms.tensor((function()
    local list = {}
    for i = 1, n do list[i] = i % 3 end
    return list
  end)(), { dtype = "int64" })
  options.T = 1
  return data.FromTensors(options)
end

local function members(set) return set.members:totable() end

function TestParts:test_cut_is_stratified_seeded_and_disjoint()
  local set = numbered(90, { shuffle = true, augment = { crop = 1 }, batch_size = 7 })
  local rest, validation = set:cut { validation = 0.2, seed = 3 }
  lu.assertEquals({ #rest, #validation }, { 72, 18 })
  lu.assertEquals(validation:counts(), { 6, 6, 6 })
  local seen = {}
  for _, part in ipairs { rest, validation } do
    for _, m in ipairs(members(part)) do
      lu.assertNil(seen[m])
      seen[m] = true
    end
  end
  lu.assertEquals(members(select(2, numbered(90):cut { validation = 0.2, seed = 3 })), members(validation))
  lu.assertNotEquals(members(select(2, set:cut { validation = 0.2, seed = 4 })), members(validation))
  -- the rest is trained on as before; validation is in order and not augmented
  lu.assertEquals({ rest.loading.shuffle, rest.augmented, validation.loading.shuffle, validation.recipe }, { true, "crop 1", false, nil })
  lu.assertEquals(validation.loading.batch_size, 7)
  lu.assertEquals(validation.split, "all / validation 0.2, seed 3")
  lu.assertNotEquals(rest:hash(), validation:hash())
  lu.assertEquals(labels(validation), (function()
    local list = {}
    for i = 1, #validation do list[i] = validation[i].y end
    return list
  end)())
end

function TestParts:test_folds()
  local count, folds = {}, numbered(50):folds { k = 4, seed = 1 }
  lu.assertEquals(#folds, 4)
  for _, fold in ipairs(folds) do
    local train, validation = table.unpack(fold)
    lu.assertEquals(#train + #validation, 50)
    for _, m in ipairs(members(validation)) do count[m] = (count[m] or 0) + 1 end
    for _, n in ipairs(validation:counts()) do lu.assertTrue(n == 4 or n == 5) end
  end
  for m = 0, 49 do lu.assertEquals(count[m], 1) end
end

-- So many, of each class in proportion, by the seed.
function TestParts:test_sample()
  local set = numbered(50, { batch_size = 4 })
  for n = 1, 50 do
    local some, sizes = set:sample { n = n, seed = 3 }, set:counts()
    lu.assertEquals(#some, n)
    for c, count in ipairs(some:counts()) do lu.assertTrue(math.abs(count - n * sizes[c] / 50) < 1, n) end
    local seen = {}
    for _, m in ipairs(members(some)) do
      lu.assertNil(seen[m])
      seen[m] = true
    end
  end
  lu.assertEquals(members(set:sample { n = 9, seed = 3 }), members(set:sample { n = 9, seed = 3 }))
  lu.assertNotEquals(members(set:sample { n = 9, seed = 3 }), members(set:sample { n = 9, seed = 4 }))
  lu.assertEquals(set:sample({ n = 9, seed = 3 }).split, "all / 9 samples, seed 3")
  s.raises("sample: n: expected 1 to 50, got 51", set.sample, set, { n = 51 })
end

function TestParts:test_subset_with_and_hash()
  local set = numbered(20, { batch_size = 4 })
  local some = set:subset({ 5, 1, 5 }, "mine")
  lu.assertEquals({ members(some), some.split, #some, some[1].y }, { { 4, 0, 4 }, "all / mine", 3, set[5].y })
  lu.assertEquals(some:hash(), ms.data.crc32 "4\n0\n4\n")
  lu.assertEquals(members(some:subset { 2 }), { 0 })
  local wide = set:with { batch_size = 20, shuffle = true, seed = 1 }
  lu.assertEquals({ wide.batches, set.batches, wide:hash() == set:hash() }, { 1, 5, true })
  lu.assertNotEquals(labels(wide), labels(set))
  s.raises("subset: positions[2]: expected 1 to 20, got 21", set.subset, set, { 1, 21 })
  s.raises("subset: positions: expected at least one, got none", set.subset, set, {})
  s.raises("with: unknown option 'T'", set.with, set, { T = 2 })
  s.raises("cut: validation: expected a number > 0 and < 1, got 1", set.cut, set, { validation = 1 })
  s.raises("cut: validation: expected a share that leaves samples on both sides, got 0.001 of 20", set.cut, set, { validation = 0.001 })
  s.raises("folds: k: expected at most 20", set.folds, set, { k = 21 })
  for _ in some do break end
  s.raises("load_state_dict: samples: expected", set.load_state_dict, set, some:state_dict())
end

-- Derived sets have options, order and threads of their own; a validation part is not drawn at random.
function TestParts:test_derived_sets()
  local set = numbered(12, { batch_size = 4, balanced = true, seed = 3 })
  lu.assertEquals({ #set:with { limit = 5 }, #set:with { limit = 50 }, #set:with { limit = 5 }:with { limit = 2 }, #set }, { 5, 12, 2, 12 })
  for _ in set do break end
  local same = set:with {}
  lu.assertEquals({ { same:position() }, { set:position() } }, { { 1, 0 }, { 1, 1 } })
  lu.assertEquals(labels(same), labels(set:with { batch_size = 3 }))
  lu.assertEquals({ set:position() }, { 1, 1 })
  lu.assertNotEquals(labels(set:with { seed = 4 }), labels(same:with {}))
  local rest, validation = set:cut { validation = 0.5 }
  lu.assertEquals({ rest.loading.balanced, validation.loading.balanced }, { true, false })
  lu.assertEquals(#labels(validation), 6)
  local list = {}
  for x in validation do
    for _, v in ipairs(x:flatten():totable()) do list[#list + 1] = math.tointeger(v) end
  end
  lu.assertEquals(list, members(validation))
  ms.manual_seed(1)
  local a = numbered(12, { shuffle = true })
  local order = labels(a:with { batch_size = 5 })
  ms.manual_seed(2) -- what has no seed of its own takes that of the run when it is made
  lu.assertEquals(labels(a), order)
  lu.assertNotEquals(labels(a:with {}), order)
end

-- The official order of a shuffling set can be had without it.
function TestParts:test_order()
  local set = numbered(30, { shuffle = true, seed = 9, batch_size = 30 })
  for epoch = 1, 2 do
    for x in set do lu.assertEquals(x:flatten():long():totable(), data.order { n = 30, seed = 9, epoch = epoch }:totable()) end
  end
end

-- A set that is closed in its own loop ends it, and begins anew in the next.
function TestParts:test_closed_in_its_loop()
  local set, seen = numbered(6, { batch_size = 2 }), 0
  for _ = 1, 2 do
    for _ in set do
      seen = seen + 1
      set:close()
    end
  end
  lu.assertEquals(seen, 2)
end

function TestParts:test_own_set_refuses()
  local function own(opts)
    opts.size, opts.get = 3, opts.get or function() return ms.ones(1, 2, 2), 0 end
    return ms.data.Dataset(opts)
  end
  local function run(opts) for _ in own(opts) do end end
  s.raises("transform: expected x, y as results, got nothing", run, { transform = function() end })
  s.raises("get(1): expected a label from 0 as second result, got nil", run, { get = function() return ms.ones(1, 2, 2) end })
  local set = own {}
  s.raises("load_state_dict: epoch: expected 1 or more, got -5", set.load_state_dict, set, { epoch = -5, batch = 0, seed = 1 })
end

-- A loop inside of a loop over the same set is told, not endless; one over the same samples in a set of its own runs.
function TestParts:test_loops_in_loops()
  for _, set in ipairs { numbered(6, { batch_size = 2 }), ms.data.Dataset { size = 6, batch_size = 2, get = function(i) return ms.full({ 1, 1, 1 }, i), 0 end } } do
    s.raises(set.name .. ": expected one loop at a time, another one has begun inside of this: loop over set:with{} there", function()
      for _ in set do
        for _ in set do end
      end
    end)
    local batches = 0
    for _ in set do batches = batches + 1 end
    for _ in set do
      for _ in set:plain() do batches = batches + 1 end
    end
    lu.assertEquals(batches, 3 + 9)
  end
end

function TestParts:test_transform_runs_on_batches()
  local set = numbered(6, { batch_size = 4, transform = function(x, y) return x * 2, y + 1 end })
  local sums = {}
  for x, y in set do sums[#sums + 1] = { x:sum():item(), y:max():item() } end
  lu.assertEquals(sums, { { 12, 3 }, { 18, 3 } })
  s.raises("transform: expected x, y as results, got x alone", function()
    for _ in numbered(2, { transform = function(x) return x end }) do break end
  end)
  s.raises("transform: expected x, y as results, got nothing", function()
    for _ in numbered(2, { transform = function() end }) do break end
  end)
end

-- Against sums written plainly.
function TestParts:test_statistics()
  local set = data.FromTensors { images = ms.tensor({ 0, 255, 51, 102, 204, 0, 255, 255 }, { dtype = "uint8" }):view(2, 2, 1, 2),
    labels = ms.tensor({ 0, 1 }, { dtype = "int64" }), mean = 0.5, std = 3, shuffle = true, batch_size = 1, T = 3 }
  local whole, each = set:statistics(), set:statistics { per = "sample" }
  s.near(whole.mean, { (0 + 1 + 0.8 + 0) / 4, (0.2 + 0.4 + 1 + 1) / 4 }, 1e-6)
  s.near(whole.std, { math.sqrt((1 + 0.64) / 4 - 0.45 ^ 2), math.sqrt((0.04 + 0.16 + 2) / 4 - 0.65 ^ 2) }, 1e-5)
  s.near(each.mean, whole.mean, 1e-6)
  s.near(each.std, { (0.5 + 0.4) / 2, (0.1 + 0) / 2 }, 1e-5)
  s.near(set:statistics { samples = 1 }.mean, { 0.5, 0.3 }, 1e-6)
end

function TestParts:test_describe_and_show()
  local set = data.FromTensors { images = ms.arange(0, 2 * 3 * 4 * 4):view(2, 3, 4, 4):to "uint8", labels = ms.tensor({ 1, 0 }, { dtype = "int64" }),
    classes = { "cat", "dog" } }
  local text = set:describe()
  for _, part in ipairs { "images: 2 samples of [3, 4, 4], 2 classes", "cat 1  dog 1", "values from 0 to 95, mean 47.5", "split all (" } do
    lu.assertStrContains(text, part)
  end
  local printed, before = {}, print
  print = function(...) printed[#printed + 1] = table.concat({ ... }, " ") end
  set:show(1)
  print = before
  lu.assertEquals(printed[1], "images[1]: dog")
  local _, lines = printed[2]:gsub("[^\n]+", "")
  lu.assertEquals(lines, 2)
  s.raises("show: frame: expected 1 to 1, got 2", set.show, set, 1, { frame = 2 })
  s.raises("images: index: expected 1 to 2, got 3", set.show, set, 3)
end

TestResident = {}

-- Batches made where the samples lie have the bits of those that the threads make, in every order.
function TestResident:test_same_bits()
  for _, how in ipairs {
    { shuffle = true, augment = { crop = 2, flip = true, cutout = 6 }, drop_last = true }, { balanced = true, augment = "nda" }, {},
  } do
    how.batch_size, how.seed, how.limit, how.resident = 16, 4, 50, false
    local threads = fashion(how)
    how.resident = true
    local here = fashion(how)
    for _ = 1, 2 do
      local list = {}
      for x, y in threads do list[#list + 1] = { x, y } end
      local i = 0
      for x, y in here do
        i = i + 1
        lu.assertTrue(ms.equal(x, list[i][1]))
        lu.assertTrue(ms.equal(y, list[i][2]))
      end
      lu.assertEquals(i, #list)
    end
  end
end

-- Where nothing is said: on a GPU, of whose free memory they take at most a quarter.
function TestResident:test_by_default()
  local memory, set, bytes = core.device.memory, nil, 60 * 28 * 28
  local function lies_there(free, how)
    core.device.memory = function() return { free = free } end
    set = fashion(how)
    local done, loader = pcall(set.loader, set)
    core.device.memory = memory
    return done and type(loader) == "table"
  end
  lu.assertEquals(lies_there(4 * bytes, {}), ms.device() ~= "cpu")
  lu.assertFalse(lies_there(4 * bytes - 1, {}))
  lu.assertFalse(lies_there(1 << 40, { resident = false }))
  lu.assertTrue(lies_there(0, { resident = true }))
  lu.assertTrue(core.device.memory().free >= 0)
end

function TestResident:test_position_and_close()
  local options = { shuffle = true, batch_size = 8, seed = 4, resident = true, augment = "cifar" }
  local whole, seen, state = fashion(options), {}, nil
  for _, y in whole do
    seen[#seen + 1] = y:totable()
    if #seen == 3 then state = whole:state_dict() end
  end
  local rest = fashion { shuffle = true, batch_size = 8, seed = 1 } -- the threads go on where the resident set stood
  rest:load_state_dict(state)
  local i = 3
  for _, y in rest do
    i = i + 1
    lu.assertEquals(y:totable(), seen[i])
  end
  lu.assertEquals(i, #seen)
  whole:close()
  lu.assertEquals(#labels(whole), 60)
end

-- A state that no set can be in is refused, wherever the samples lie, and changes nothing.
function TestResident:test_impossible_positions()
  for _, resident in ipairs { true, false } do
    local set <close> = numbered(10, { batch_size = 3, resident = resident, workers = 0 })
    s.raises("load_state_dict: epoch: expected 1 or more, got -5", set.load_state_dict, set, { epoch = -5, batch = 0, seed = set.seed })
    s.raises("load_state_dict: batch: expected 0 to 4, got 99", set.load_state_dict, set, { epoch = 1, batch = 99, seed = set.seed })
    s.raises("load_state_dict: batch: expected 0 to 4, got -1", set.load_state_dict, set, { epoch = 1, batch = -1, seed = set.seed })
    lu.assertEquals({ set:position() }, { 1, 0 })
  end
end

-- Classes of 30, 20 and 10 samples come equally often.
function TestResident:test_balanced()
  local list = {}
  for i = 1, 60 do list[i] = i <= 30 and 0 or i <= 50 and 1 or 2 end
  local set = data.FromTensors { images = ms.zeros(60, 1, 1), labels = ms.tensor(list, { dtype = "int64" }), balanced = true, seed = 1, T = 1 }
  local count = { 0, 0, 0 }
  for _ = 1, 50 do
    for _, y in ipairs(labels(set)) do count[y + 1] = count[y + 1] + 1 end
  end
  for _, n in ipairs(count) do lu.assertTrue(n > 850 and n < 1150) end -- 1000 +- 26
end

TestMessages = {}

function TestMessages:test_options()
  s.raises("FashionMNIST: unknown option 'batch' (known: T, augment, balanced, batch_size, drop_last, limit, mean, policy, resident, root, seed, shuffle, std, train, transform, workers)",
    data.FashionMNIST, { batch = 1 })
  s.raises("FashionMNIST: T: expected an integer >= 1, got 0", data.FashionMNIST, { T = 0 })
  s.raises("FashionMNIST: augment: unknown option 'turn' (known: crop, cutout, flip, holes, rand_augment, resized_crop, roll, rotate, shear, translate, vflip)", fashion, { augment = { turn = 1 } })
  s.raises("FashionMNIST: std: expected numbers > 0, got 0", fashion, { std = 0 })
  s.raises("FashionMNIST train: index: expected 1 to 60, got 61", function() return fashion {}[61] end)
  s.raises("FromTensors: labels: expected a tensor [n], got nothing", data.FromTensors, { images = ms.zeros(1, 2, 2) })
  local three, int = ms.zeros(3, 2, 2), function(...) return ms.tensor({ ... }, { dtype = "int64" }) end
  s.raises("FromTensors: labels: expected classes from 0, got -1", data.FromTensors, { images = three, labels = int(0, -1, 1) })
  s.raises("FromTensors: labels: expected 0 to 1 for 2 classes, got 2", data.FromTensors, { images = three, labels = int(0, 1, 2), classes = { "a", "b" } })
  s.raises("FromTensors: images: expected at least one image, got [0, 2, 2]", data.FromTensors, { images = ms.zeros(0, 2, 2), labels = int() })
  s.raises("source: labels: expected [3], one for each sample, got [2]", data.FromTensors, { images = three, labels = int(0, 1) })
  local one = data.FromTensors { images = three, labels = int(0, 1, 1), batch_size = 1 }
  for _ in one do break end
  local other = data.FromTensors { images = three, labels = int(0, 1, 1), batch_size = 2 }
  s.raises("load_state_dict: batch_size: expected 1, since the state lies in the middle of an epoch, got 2", other.load_state_dict, other, one:state_dict())
end

function TestMessages:test_missing_files()
  local ok, message = pcall(data.FashionMNIST, { root = "/nowhere" })
  lu.assertFalse(ok)
  for _, part in ipairs { "train-images-idx3-ubyte is not found in", "/nowhere", "apt-get install dataset-fashion-mnist", "MOONSPIKE_DATA" } do
    lu.assertStrContains(message, part)
  end
  -- blinded, since the machine may have the package
  local code, text = s.run("-e", "MOONSPIKE_DATA=/nowhere",
    [["require('moonspike.core').system.exists = function() end require('moonspike').data.FashionMNIST { train = false }"]])
  lu.assertEquals(code, 1)
  for _, part in ipairs { "/nowhere/fashion-mnist", "/nowhere/FashionMNIST", "/usr/share/datasets/fashion-mnist" } do lu.assertStrContains(text, part) end
end

function TestMessages:test_damaged_files()
  local bad = s.folder()
  local function with(images, y)
    s.write(bad .. "/t10k-images-idx3-ubyte", images)
    s.write(bad .. "/t10k-labels-idx1-ubyte", y)
    local _, message = pcall(data.FashionMNIST, { root = bad, train = false })
    return tostring(message)
  end
  local images, y = s.read(folder .. "/t10k-images-idx3-ubyte"), s.read(folder .. "/t10k-labels-idx1-ubyte")
  lu.assertStrContains(with(images:sub(1, -2), y), "t10k-images-idx3-ubyte")
  lu.assertStrContains(with(images, string.pack(">I4I4", 0x801, 19) .. y:sub(9, -2)), "expected 20 labels, one for each image, got 19")
  lu.assertStrContains(with(images, y:sub(1, -2) .. "\x0a"), "expected labels 0 to 9, got 10")
  lu.assertStrContains(with(string.pack(">I4I4I4I4", 0x803, 20, 28, 14) .. images:sub(17, 16 + 20 * 392), y), "expected images [28, 28], got [20, 28, 14]")
  lu.assertStrContains(with(y, y), "expected uint8 [n, 28, 28], got uint8 [20]")
  s.remove(bad)
end

-- Three images of which the last lacks its last byte, five labels with one byte behind them.
function TestMessages:test_policies()
  local root = s.folder()
  local function set(images, y, policy)
    s.write(root .. "/train-images-idx3-ubyte", images)
    s.write(root .. "/train-labels-idx1-ubyte", y)
    return data.FashionMNIST { root = root, policy = policy, batch_size = 9 }
  end
  local function idx3(n, h, w, bytes) return string.pack(">I4I4I4I4", 0x803, n, h, w) .. ("\7"):rep(bytes or n * h * w) end
  local function idx1(n, bytes) return string.pack(">I4I4", 0x801, n) .. bytes end
  local cut, long = idx3(3, 28, 28, 3 * 784 - 1), idx1(5, "\1\2\3\4\5\6")
  for _, policy in ipairs { "strict", "oracle" } do
    s.raises("train-images-idx3-ubyte: damaged file: byte 2367: the file ends too early", set, cut, long, policy)
    s.raises("train-labels-idx1-ubyte: damaged file: byte 14: more data", set, idx3(3, 28, 28), long, policy)
    s.raises("expected 3 labels, one for each image, got 2", set, idx3(3, 28, 28), idx1(2, "\1\2"), policy)
  end
  local lenient = set(cut, long, "lenient")
  lu.assertEquals({ #lenient, labels(lenient) }, { 2, { 1, 2 } })
  for _, part in ipairs { "repairs while its images were read: truncated 784", "repairs while its labels were read: extra 1",
    "labels without an image: 3 left out" } do
    lu.assertStrContains(lenient:describe(), part)
  end
  lu.assertStrContains(set(idx3(3, 28, 28), idx1(2, "\1\2"), "lenient"):describe(), "images without a label: 1 left out")
  s.raises("expected labels 0 to 9, got 11", set, idx3(2, 28, 28), idx1(2, "\1\11"), "lenient")
  s.raises("expected images [28, 28], got [2, 4, 3]", set, idx3(2, 4, 3), idx1(2, "\1\2"), "lenient")
  -- torchvision looks at neither, and at no label behind the last image
  local oracle = set(idx3(2, 4, 3), idx1(3, "\1\11\0"), "oracle")
  lu.assertEquals({ oracle.shape, labels(oracle), oracle[2].class, #oracle.classes }, { { 1, 4, 3 }, { 1, 11 }, "11", 12 })
  lu.assertEquals(#set(idx3(2, 28, 28), idx1(2, "\1\2"), "strict").classes, 10)
  s.raises("holds no images", set, idx3(0, 28, 28), idx1(0, ""), "strict")
  s.raises("torchvision expects 1 to 3 dimensions, and that there is data", set, idx3(0, 28, 28), idx1(0, ""), "oracle")
  s.remove(root)
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
