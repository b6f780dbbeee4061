-- Augmentation as users write it, mixtures, and losses of them.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "recordings"
local ms = require "moonspike"
local core = require "moonspike.core"
local parse = require "moonspike.data.augment".parse
local data, loss = ms.data, ms.loss

local function ints(list) return ms.tensor(list, { dtype = "int64" }) end

TestAugment = {}

function TestAugment:test_what_is_written()
  local function text(spec) return select(2, parse("augment", spec)) end
  lu.assertEquals(text { crop = 4, flip = true, cutout = 16, holes = 2 }, "crop 4, flip, cutout 16 x 2")
  lu.assertEquals(text { crop = 0, flip = false }, "")
  lu.assertNil((parse("augment", {})))
  lu.assertNil((parse("augment", nil)))
  lu.assertEquals(text { { "flip", p = 0.25 }, { "roll", 5 }, { "one_of", { "rotate", 30 }, { "shear", min = -5, max = 20 } }, "vflip" },
    "flip p = 0.25, roll 5, 1 of (rotate 30, shear -5 to 20), vflip p = 0.5")
  lu.assertEquals(text "nda", "nda: 1 of (roll 5, rotate 30, shear 30)")
  lu.assertEquals(tostring((parse("augment", "trt-dvs"))), "recipe (flip, roll)")
  lu.assertEquals(tostring((parse("augment", { { "some_of", take = 2, "flip", "vflip", "identity" } }))),
    "recipe (2 of the next 3, flip, vflip, identity)")
  lu.assertEquals(text { { "resized_crop", { 24, 20 }, scale = { 0.5, 1 } }, { "rand_augment", m = 6, n = 1 }, { "flip" } },
    "resized_crop 24 x 20 (scale = { 0.5, 1 }), rand_augment (m = 6, n = 1), flip")
  lu.assertEquals(text { rand_augment = { m = 6 }, crop = 4, resized_crop = 28 }, "resized_crop 28 x 28, rand_augment (m = 6), crop 4")
  lu.assertEquals(text { rand_augment = true, resized_crop = true }, "resized_crop, rand_augment")
  lu.assertEquals(text { resized_crop = { { 24, 20 }, filter = "bicubic" } }, "resized_crop 24 x 20 (filter = bicubic)")
  lu.assertEquals(text { rand_augment = false, flip = true }, "flip")
  lu.assertEquals(tostring((parse("augment", { "resized_crop", "rand_augment", "flip" }))), "recipe (resized_crop, rand_augment, flip)")
  for name in pairs(require "moonspike.data.augment".presets) do lu.assertNotNil((parse("augment", name)), name) end
end

function TestAugment:test_refused()
  local function refuse(why, spec) s.raises("augment" .. why, parse, "augment", spec) end
  refuse(": expected one of cifar, imp-ncaltech, nda,", "none")
  refuse(": expected a table or one of", 3)
  refuse(": unknown option 'crp' (known: crop, cutout, flip, holes, rand_augment, resized_crop, roll, rotate, shear, translate, vflip)", { crp = 4 })
  refuse(": crop: expected an integer >= 0, got 1.5", { crop = 1.5 })
  refuse(": flip: expected true or false, got 1", { flip = 1 })
  refuse(": holes: expected with cutout, got it alone", { holes = 2 })
  refuse(": step: expected { name, ... } with one of crop, cutout, flip, identity, one_of, rand_augment, resized_crop, roll", { { "rol", 5 } })
  refuse(": expected either an ordered list of steps or keys, got 'crop' beside a list", { { "flip" }, crop = 4 })
  refuse(": roll: expected a number of pixels, got nothing", { { "roll" } })
  refuse(": roll: pixels: expected a number >= 0, got -1", { { "roll", -1 } })
  refuse(": roll: unknown option 'q' (known: max, min, p)", { { "roll", 5, q = 1 } })
  refuse(": flip: p: expected a number >= 0 and <= 1, got 2", { { "flip", p = 2 } })
  refuse(": flip: expected no number, got 1 values", { { "flip", 1 } })
  refuse(": step 1 (roll): expected whole pixels, got -0.5 to 0.5", { { "roll", 0.5 } })
  refuse(": rotate: expected min up to 5, got 6", { { "rotate", min = 6, max = 5 } })
  refuse(": some_of: take: expected 1 to 2 of its steps, got 3", { { "some_of", take = 3, { "flip" }, { "vflip" } } })
  refuse(": one_of: take: expected 1 to 1 of its steps, got none", { { "one_of" } })
  refuse(": one_of: step: expected { name, ... }", { { "one_of", { "one_of", { "flip" } } } })
  refuse(": expected at most 8 steps for a sample, got 9", { { "cutout", 3, holes = 8 }, { "flip" } })
  refuse(": cutout: holes: expected an integer >= 1, got 0", { { "cutout", 3, holes = 0 } })
  refuse(": rand_augment: expected before the steps that move pixels, got it behind", { { "flip" }, { "rand_augment" } })
  refuse(": resized_crop: expected before rand_augment, got it behind", { { "rand_augment" }, { "resized_crop" } })
  refuse(": resized_crop: expected once, got it again", { { "resized_crop" }, { "resized_crop" } })
  refuse(": one_of: step: expected { name, ... }", { { "one_of", { "rand_augment" } } })
  refuse(": resized_crop: size: expected an integer >= 1, or a table of two, got 1.5", { { "resized_crop", 1.5 } })
  refuse(": resized_crop: size: expected an integer >= 1, or a table of two, got table", { { "resized_crop", { 3 } } })
  refuse(": resized_crop: unknown option 'p' (known: filter, ratio, scale)", { { "resized_crop", p = 0.5 } })
  refuse(": resized_crop: scale: expected a table of two numbers", { { "resized_crop", scale = 0.5 } })
  refuse(": resized_crop: scale: expected a table of two numbers", { { "resized_crop", scale = { {}, 1 } } })
  refuse(": resized_crop: scale: expected 0 < low <= high <= 1, got 0.5 and 2", { { "resized_crop", scale = { 0.5, 2 } } })
  refuse(": resized_crop: ratio: expected 0 < low <= high, got 2 and 1", { { "resized_crop", ratio = { 2, 1 } } })
  refuse(": resized_crop: filter: expected", { { "resized_crop", filter = "nearest" } })
  refuse(": resized_crop: expected true, a size or a table of options, got 'x'", { resized_crop = "x" })
  refuse(": resized_crop: expected one size, got 2 values", { resized_crop = { 24, 20 } })
  refuse(": rand_augment: expected true or a table of options, got 2", { rand_augment = 2 })
  refuse(": rand_augment: expected options only, got 1 values", { { "rand_augment", 2 } })
  refuse(": rand_augment: m: expected a number in [0, 10], got 11", { { "rand_augment", m = 11 } })
  refuse(": rand_augment: n: expected 0 to 100, got 101", { { "rand_augment", n = 101 } })
  refuse(": rand_augment: fill[1]: expected 0 to 255, got 256", { { "rand_augment", fill = { 256, 0, 0 } } })
end

-- [s, t, c, h, w] bytes with value 1 + position in (h, w), the same for all others but scaled
local function frames(samples, steps, channels, h, w)
  local x = ms.arange(1, h * w + 1):view(1, 1, 1, h, w):expand(samples, steps, channels, h, w):contiguous()
  return x
end

function TestAugment:test_frames_move_together()
  local x = frames(6, 3, 2, 8, 7)
  local y = data.augment(x, ints { 4, 1, 1 }, { { "roll", 3 }, { "flip" }, { "rotate", 40 } }, { key = 5 })
  lu.assertEquals(y.shape, { 3, 3, 2, 8, 7 })
  for t = 1, 3 do
    for c = 1, 2 do s.near(y[t]:select(2, c), y[1]:select(2, 1), 0) end
  end
  s.near(y:select(2, 2), y:select(2, 3), 0, "the same sample, the same draws")
  lu.assertFalse(y:select(2, 1):equal(y:select(2, 2)))
end

function TestAugment:test_values()
  local x = ms.tensor({ { { 0, 51 }, { 102, 255 } } }, { dtype = "uint8" })
  s.near(data.augment(x, ints { 0 }), { { { { 0, .2 }, { .4, 1 } } } }, 1e-6)
  s.near(data.augment(x, ints { 0 }, nil, { scale = 51, mean = 1, std = 2 }), { { { { -.5, 0 }, { .5, 2 } } } }, 1e-6)
  local mirrored = { { { 0, -51 }, { 204, 51 } } }
  s.near(data.augment(x:float(), ints { 0, 0 }, { { "flip", p = 1 } }, { mean = { 51 } }), { mirrored, mirrored }, 1e-6)
  lu.assertEquals(data.augment(x, ints {}).shape, { 0, 1, 2, 2 })
  if ms.device() == "cpu" then -- elsewhere nobody looks
    s.raises("augment: index: expected values from 0 to 0", data.augment, x, ints { 1 })
  else
    s.near(data.augment(x, ints { 1 }), { { { { 0, 0 }, { 0, 0 } } } })
  end
  s.raises("augment: index: expected int64 [n], got", data.augment, x, ms.zeros(1))
  s.raises("augment: std: expected numbers > 0, got 0", data.augment, x, ints { 0 }, nil, { std = 0 })
  s.raises("augment: mean: expected a table of 1 numbers", data.augment, x, ints { 0 }, nil, { mean = { 1, 2 } })
  s.raises("augment: x: expected [n, H, W], [n, C, H, W] or [n, T, C, H, W], got", data.augment, ms.zeros(2, 2), ints { 0 })
  s.raises("augment: images: expected a tensor, got 3", data.augment, 3)
end

-- An index that is a view: a column, one number many times.
function TestAugment:test_index_of_any_layout()
  local x, column = ms.arange(0, 16):view(4, 1, 2, 2), ints { { 0, 1 }, { 2, 3 } }:transpose(1, 2):select(1, 1)
  lu.assertEquals(data.augment(x, column):totable(), data.augment(x, ints { 0, 2 }):totable())
  local many = ints { 3 }:expand(10000)
  for _, spec in ipairs { {}, { { "vflip", p = 1 } } } do
    lu.assertEquals(data.augment(x, many, spec):sum():item(), 10000 * (12 + 13 + 14 + 15))
  end
end

-- The crop and flip of the threads are those of the recipe: same key, same sample, same pixels.
function TestAugment:test_as_the_loader()
  local x, stats = (ms.rand(9, 3, 12, 12) * 255):to "uint8", { mean = { .1, .2, .3 }, std = { .5, .6, .7 } }
  local set <close> = data.FromTensors { images = x, labels = ms.zeros(9, { dtype = "int64" }), batch_size = 9, workers = 0, seed = 17,
    augment = { crop = 4, flip = true }, mean = stats.mean, std = stats.std, T = 1 }
  local was = core.random.seed()
  core.random.manual_seed(17)
  stats.key = core.random.key("augment", "1") -- of the first epoch
  core.random.manual_seed(was)
  for want in set do
    local got = data.augment(x, ms.arange(9, { dtype = "int64" }), { crop = 4, flip = true }, stats)
    lu.assertTrue(got:equal(want[1]))
  end
end

function TestAugment:test_balanced_order()
  local labels = ints { 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 }
  local order = core.data.balanced_order(labels, 2, 7)
  lu.assertEquals(order.shape, { 10 })
  lu.assertTrue(order:equal(core.data.balanced_order(labels, 2, 7)))
  local ones = 0
  for key = 1, 100 do ones = ones + core.data.balanced_order(labels, 2, key):eq(9):sum():item() end
  lu.assertTrue(ones > 420 and ones < 580, ones)
  s.raises("balanced_order: labels: expected 0 to 0, got 1 at index 9", core.data.balanced_order, labels, 1, 7)
end

TestFirstSteps = {}

local function bytes(...) return (ms.rand(...) * 255):to "uint8" end
local both = { { "resized_crop", { 11, 14 }, filter = "bicubic" }, { "rand_augment", n = 2, m = 9, std = 0.5, p = 0.8 }, { "crop", 2 }, { "flip" } }

function TestFirstSteps:test_any_number_of_workers_and_on_the_device()
  for _, channels in ipairs { 1, 3 } do
    local x, y, first, second = bytes(13, channels, 16, 12), ms.arange(13):long(), nil, nil
    for _, how in ipairs { { workers = 0 }, { workers = 1 }, { workers = 3 }, { resident = true } } do
      how.images, how.labels, how.batch_size, how.shuffle, how.seed, how.augment, how.mean, how.T = x, y, 5, true, 3, both, 0.4, 1
      local set <close> = data.FromTensors(how)
      local a, b = s.epoch(set), s.epoch(set)
      lu.assertEquals(a.shape, { 1, 13, channels, 11, 14 })
      first, second = first or a, second or b
      s.same(a, first)
      s.same(b, second)
    end
    lu.assertFalse(first:equal(second))
  end
end

-- What happens to a sample follows from key and index: it does not matter with whom it is in a batch.
function TestFirstSteps:test_one_by_one()
  local x = bytes(6, 3, 10, 9)
  local all = data.augment(x, ms.arange(6, { dtype = "int64" }), both, { key = 7, std = 0.5 })
  for i = 0, 5 do s.same(data.augment(x, ints { i }, both, { key = 7, std = 0.5 })[1], all[i + 1]) end
  lu.assertEquals(data.augment(x, ints {}, both).shape, { 0, 3, 11, 14 })
end

function TestFirstSteps:test_frames_alike()
  local x = bytes(4, 1, 3, 9, 9):expand(4, 3, 3, 9, 9):contiguous()
  local y = data.augment(x, ints { 0, 1, 2, 3 }, both, { key = 2 })
  lu.assertEquals(y.shape, { 3, 4, 3, 11, 14 })
  for t = 2, 3 do s.same(y[t], y[1]) end
  local still = data.augment(x:select(2, 1), ints { 0, 1, 2, 3 }, both, { key = 2 })
  s.same(still, y[1])
  local set <close> = data.FromTensors { images = x, labels = ms.arange(4):long(), batch_size = 4, augment = both, seed = 2 }
  local z = s.epoch(set)
  lu.assertEquals(z.shape, { 3, 4, 3, 11, 14 })
  s.same(z[3], z[1])
end

function TestFirstSteps:test_reals()
  local x = bytes(5, 2, 12, 10)
  local spec = { { "resized_crop", 9, scale = { 0.3, 1 } }, { "vflip" } }
  local from_bytes, from_reals = data.augment(x, ints { 0, 1, 2, 3, 4 }, spec, { scale = 1 }), data.augment(x:float(), ints { 0, 1, 2, 3, 4 }, spec)
  s.near(from_reals, from_bytes, 1.01) -- bytes are rounded twice
  lu.assertFalse(from_reals:equal(from_bytes))
  s.near(data.augment(ms.full({ 3, 2, 12, 10 }, 0.7), ints { 0, 1, 2 }, spec), ms.full({ 3, 2, 9, 9 }, 0.7), 1e-6)
  -- a slope stays one away from the border: its step is that of the box
  local slope = ms.arange(0, 20):view(1, 1, 1, 20):expand(8, 1, 20, 20):contiguous()
  local y = data.augment(slope, ms.arange(8, { dtype = "int64" }), { { "resized_crop", 40, scale = { 0.5, 0.5 }, ratio = { 1, 1 } } })
  for i = 1, 8 do
    local row = y[i][1][20]
    s.near(row:narrow(1, 4, 30) - row:narrow(1, 3, 30), ms.full({ 30 }, 14 / 40), 1e-5) -- sqrt(0.5) 20 = 14 pixels wide
  end
  s.raises("augment: rand_augment: expected samples of bytes (uint8), got float32", data.augment, x:float(), ints { 0 }, { "rand_augment" })
  s.raises("augment: rand_augment: expected samples of 1 or 3 channels, got 2", data.augment, x, ints { 0 }, { "rand_augment" })
  s.raises("FromTensors: augment: rand_augment: expected samples of bytes (uint8), got float32", data.FromTensors,
    { images = x:float(), labels = ms.zeros(5):long(), augment = { rand_augment = true } })
end

function TestFirstSteps:test_what_a_set_says()
  local set <close> = data.FromTensors { images = bytes(8, 3, 10, 10), labels = ms.zeros(8):long(), augment = { resized_crop = 12, rand_augment = { m = 5 } }, T = 1 }
  lu.assertStrContains(set:describe(), "; resized_crop 12 x 12, rand_augment (m = 5); ")
  local _, validation = set:cut { validation = 0.5 }
  lu.assertEquals(s.epoch(set).shape, { 1, 8, 3, 12, 12 })
  lu.assertEquals(s.epoch(validation).shape, { 1, 4, 3, 10, 10 })
end

function TestFirstSteps:test_nothing_to_do()
  local x = bytes(3, 3, 7, 7)
  s.same(data.augment(x, ints { 0, 1, 2 }, { { "rand_augment", n = 0 } }), data.augment(x, ints { 0, 1, 2 }))
  s.same(data.augment(x, ints { 0, 1, 2 }, { { "rand_augment", p = 0 } }), data.augment(x, ints { 0, 1, 2 }))
  local whole = { { "resized_crop", scale = { 1, 1 }, ratio = { 1, 1 }, filter = "bicubic" } }
  s.same(data.augment(x, ints { 0, 1, 2 }, whole), data.augment(x, ints { 0, 1, 2 }))
  if ms.device() == "cpu" then
    s.raises("augment: index: expected values from 0 to 2", data.augment, x, ints { 3 }, both)
  else
    s.near(data.augment(x, ints { 3 }, { "rand_augment" }), ms.zeros(1, 3, 7, 7), 0)
  end
end

TestMixtures = {}

local function sums_to_one(q) s.near(q:sum(2), ms.ones(q.shape[1]), 1e-6) end

function TestMixtures:test_mixup()
  local x, y = ms.rand(6, 2, 4, 4), ints { 0, 1, 2, 0, 1, 2 }
  local a, q = data.mixup(x, y, { classes = 3, key = 9 })
  local b, r = data.mixup(x, y, { classes = 3, key = 9 })
  lu.assertTrue(a:equal(b) and q:equal(r))
  lu.assertFalse(a:equal((data.mixup(x, y, { classes = 3, key = 10 }))))
  sums_to_one(q)
  -- of a mean image the mixture is the mixture of the means: with x = one-hot planes, the pixels are the shares
  local planes = y:unsqueeze(2):eq(ints { 0, 1, 2 }):float():view(6, 3, 1, 1):expand(6, 3, 2, 2)
  local mixed, shares = data.mixup(planes, y, { classes = 3, key = "name", alpha = 0.2 })
  s.near(mixed:select(4, 1):select(3, 1), shares, 1e-6)
  local again = select(2, data.mixup(planes, shares, { key = 4 }))
  sums_to_one(again)
  local video = x:unsqueeze(1):expand(5, 6, 2, 4, 4)
  local c = data.mixup(video, y, { classes = 3, key = 9 })
  lu.assertEquals(c.shape, { 5, 6, 2, 4, 4 })
  lu.assertEquals(c:stride(1), 0)
  lu.assertTrue(c[1]:equal(a))
  s.near(data.mixup(video:contiguous(), y, { classes = 3, key = 9 })[4], a, 1e-6)
end

-- Where the partner is another sample, the first share is Beta(alpha, alpha): mean 1 / 2, variance 1 / (4 (2 alpha + 1)).
function TestMixtures:test_beta()
  local x, y = ms.zeros(2, 1, 1, 1), ints { 0, 1 }
  for _, alpha in ipairs { 0.3, 1, 2 } do
    local n, sum, square = 0, 0, 0
    for key = 1, 3000 do
      local lambda = select(2, data.mixup(x, y, { classes = 2, key = core.random.key("beta", tostring(key)), alpha = alpha }))[1][1]:item()
      if lambda < 1 then n, sum, square = n + 1, sum + lambda, square + (lambda - .5) ^ 2 end
    end
    lu.assertTrue(math.abs(n - 1500) < 150, n)
    lu.assertTrue(math.abs(sum / n - .5) < 0.05, sum / n)
    local variance = 1 / (4 * (2 * alpha + 1))
    lu.assertTrue(math.abs(square / n / variance - 1) < 0.12, square / n / variance)
  end
end

function TestMixtures:test_cutmix()
  local y = ints { 0, 1, 2, 3 }
  local planes = y:unsqueeze(2):eq(ints { 0, 1, 2, 3 }):float():view(4, 4, 1, 1):expand(4, 4, 16, 12):contiguous()
  for key = 1, 30 do
    local mixed, q = data.cutmix(planes, y, { classes = 4, key = key })
    sums_to_one(q)
    s.near(mixed:mean { 3, 4 }, q, 1e-5, "the shares are those of the pixels")
    s.near(mixed:sum(2), ms.ones(4, 16, 12), 0)
  end
end

function TestMixtures:test_event_mix()
  local y = ints { 0, 1, 2 }
  local planes = y:unsqueeze(2):eq(ints { 0, 1, 2 }):float():view(1, 3, 3, 1, 1):expand(4, 3, 3, 6, 5):contiguous()
  local mixed_once = false
  for key = 1, 20 do
    local mixed, q = data.event_mix(planes, y, { classes = 3, key = key, p = 1 })
    sums_to_one(q)
    s.near(mixed:sum(3), ms.ones(4, 3, 6, 5), 0, "both polarities go together")
    s.near(mixed:mean { 1, 4, 5 }, q, 1e-5, "equal event rates: the shares are those of the cells")
    mixed_once = mixed_once or q:max():item() < 0.95
    local same, r = data.event_mix(planes, y, { classes = 3, key = key, p = 0 })
    lu.assertTrue(same:equal(planes))
    s.near(r, { { 1, 0, 0 }, { 0, 1, 0 }, { 0, 0, 1 } }, 0)
  end
  lu.assertTrue(mixed_once)
  local _, q = data.event_mix(planes * 0, y, { classes = 3, key = 1, p = 1 }) -- no events at all
  s.near(q, { { 1, 0, 0 }, { 0, 1, 0 }, { 0, 0, 1 } }, 0)
end

function TestMixtures:test_refused()
  local x = ms.zeros(2, 1, 3, 3)
  s.raises("mixup: classes: expected their number, got nothing", data.mixup, x, ints { 0, 1 })
  s.raises("mixup: y: expected 2 labels (int64) or [2, classes] shares, got int64 [3]", data.mixup, x, ints { 0, 1, 2 }, { classes = 3 })
  s.raises("mixup: x: expected [N, C, H, W] or [T, N, C, H, W], got [2]", data.mixup, ms.zeros(2), ints { 0, 1 }, { classes = 3 })
  s.raises("event_mix: x: expected [T, N, C, H, W], got [2, 1, 3, 3]", data.event_mix, x, ints { 0, 1 }, { classes = 3 })
  s.raises("mixup: alpha: expected a number > 0 and < inf, got 0", data.mixup, x, ints { 0, 1 }, { alpha = 0 })
  s.raises("cutmix: unknown option 'beta' (known: alpha, classes, key)", data.cutmix, x, ints { 0, 1 }, { beta = 1 })
  if ms.device() == "cpu" then s.raises("mixup: y: expected labels from 0 to 2, got 0 to 3", data.mixup, x, ints { 0, 3 }, { classes = 3 }) end
end

-- An endless alpha would make the draw of its gamma variable endless.
function TestMixtures:test_alpha_is_finite()
  local x, y = ms.rand(2, 3, 1, 4, 4), ms.zeros(3):long()
  s.raises("mixup: alpha: expected a number > 0 and < inf, got inf", data.mixup, x, y, { classes = 2, alpha = math.huge })
  lu.assertEquals(data.mixup(x, y, { classes = 2, alpha = 1e300 }).shape, { 2, 3, 1, 4, 4 })
end

TestShares = {}

local function logits() return (ms.rand({ 3, 4, 5 }, { key = 1 }) * 4 - 2):requires_grad_() end

function TestShares:test_onehot_is_the_label()
  local y = ints { 3, 0, 4, 3 }
  local q = y:unsqueeze(2):eq(ints { 0, 1, 2, 3, 4 }):float()
  local w = ms.nn.Parameter(ms.ones(2, 2))
  for name, make in pairs { SDT = function() return loss.SDT { label_smooth = 0.1 } end, SMSE = loss.SMSE, LTS = loss.LTS,
    TET = function() return loss.TET { label_smooth = 0.01 } end, TRT = function() return loss.TRT { w } end, CrossEntropy = loss.CrossEntropy } do
    local a, b, f, g = logits(), logits(), make(), make()
    local u, v = f(a, y), g(b, q)
    u:backward()
    v:backward()
    lu.assertEquals(u:item(), v:item(), name)
    lu.assertTrue(a.grad:equal(b.grad), name)
    lu.assertEquals(f.correct:item(), g.correct:item())
  end
end

function TestShares:test_mixture_of_losses()
  local y, z = ints { 3, 0, 4, 3 }, ints { 1, 1, 4, 0 }
  local q = y:unsqueeze(2):eq(ints { 0, 1, 2, 3, 4 }):float() * 0.75 + z:unsqueeze(2):eq(ints { 0, 1, 2, 3, 4 }):float() * 0.25
  for _, f in ipairs { loss.SDT { label_smooth = 0.1 }, loss.LTS(), loss.TET { mu = 0 } } do
    local a, b = logits(), logits()
    local mixed, sum = f(a, q), f(b, y) * 0.75 + f(b, z) * 0.25
    s.near(mixed:item(), sum:item(), 1e-5)
    mixed:backward()
    sum:backward()
    s.near(a.grad, b.grad, 1e-5)
  end
end

function TestShares:test_refused()
  s.raises("SDT: y: expected [4] labels (or [4, 5] shares) for logits [3, 4, 5], got [4, 4]", loss.SDT(), logits(), ms.zeros(4, 4))
  s.raises("classification_loss: labels: expected int64 [4] or float32 [4, 5], got", loss.SDT(), logits(), ms.zeros({ 4, 5 }, { dtype = "int64" }))
  s.raises("got float32 [4]; its method long() makes int64", loss.SDT(), logits(), ms.tensor { 1, 2, 3, 0 })
  if ms.device() == "cpu" then
    local q = ms.zeros(4, 5)
    q[2][3] = -0.5
    s.raises("classification_loss: labels: expected shares >= 0, got -0.5 at index [1][2]", loss.SDT(), logits(), q)
  end
end

os.exit(lu.LuaUnit.run())
