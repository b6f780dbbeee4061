-- Splits by name: the counts and members that published code gives.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local splits = ms.data.splits

-- Classes with so many files each, "c<class>_<number>.bin", in the order of a folder's listing.
local function files(counts, first, format)
  local list = {}
  for class, n in ipairs(counts) do
    local names = {}
    for i = 0, n - 1 do names[i + 1] = (format or "c%d_%d.bin"):format(class - 1, first + i) end
    table.sort(names)
    for _, text in ipairs(names) do list[#list + 1] = { name = text, label = class - 1 } end
  end
  return list
end

local function apply(list, split, train, extra)
  local opt = { split = split, train = train }
  for key, value in pairs(extra or {}) do opt[key] = value end
  return splits.apply("Set", list, opt)
end

local function number(file) return tonumber(file.name:match "_(%d+)%.") end

-- N-Caltech101 in the order BACKGROUND_Google, Faces_easy ... yin_yang.
local caltech = { 467, 435, 200, 798, 55, 800, 42, 42, 47, 54, 46, 33, 128, 98, 43, 85, 91, 50, 43, 123, 47, 59, 62, 107, 47, 69, 73, 70, 50, 51, 57, 67,
  52, 65, 68, 75, 64, 53, 64, 85, 67, 67, 45, 34, 34, 51, 99, 100, 42, 54, 88, 80, 31, 64, 86, 114, 61, 81, 78, 41, 66, 43, 40, 87, 32, 76, 55, 35, 39, 47,
  38, 45, 53, 34, 57, 82, 59, 49, 40, 63, 39, 84, 57, 35, 64, 45, 86, 59, 64, 35, 85, 49, 86, 75, 239, 37, 59, 34, 56, 39, 60 }

TestSplits = {}

function TestSplits:test_ncaltech101()
  local list = files(caltech, 1, "c%d_image_%04d.bin")
  lu.assertEquals({ #caltech, #list }, { 101, 8709 })
  for split, want in pairs { spikingjelly = { 7886, 823 }, round = { 7839, 870 }, floor = { 7795, 914 } } do
    local train, name = apply(list, split, true)
    local test = apply(list, split, false)
    lu.assertEquals({ #train, #test, name }, { want[1], want[2], split .. ": train" })
    local seen = {}
    for _, part in ipairs { train, test } do
      for k, at in ipairs(part) do
        lu.assertNil(seen[at])
        lu.assertTrue(k == 1 or at > part[k - 1])
        seen[at] = true
      end
    end
    lu.assertEquals(list[test[1]].name, split == "spikingjelly" and "c0_image_0422.bin" or "c0_image_0421.bin") -- 0.9 * 467 = 420.3
  end
end

local dvs = files({ 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000 }, 0, "cifar10_c%d_%d.aedat")

-- Numbers of each class's members, sorted.
local function numbers(members)
  local of = {}
  for c = 1, 10 do of[c] = {} end
  for _, at in ipairs(members) do table.insert(of[dvs[at].label + 1], number(dvs[at])) end
  for c = 1, 10 do table.sort(of[c]) end
  return of
end

local function range(...)
  local list, bounds = {}, { ... }
  for k = 1, #bounds, 2 do
    for i = bounds[k], bounds[k + 1] do list[#list + 1] = i end
  end
  return list
end

function TestSplits:test_cifar10dvs()
  local want = {
    spikingjelly = { range(0, 90, 100, 908), range(91, 99, 909, 999) }, floor = { range(0, 90, 100, 908), range(91, 99, 909, 999) },
    tebn = { range(100, 999), range(0, 99) }, trt = { range(0, 899), range(900, 999) }, tet = { range(0, 699), range(700, 999) },
  }
  for split, parts in pairs(want) do
    for k, train in ipairs { true, false } do
      local of = numbers(apply(dvs, split, train))
      for c = 1, 10 do lu.assertEquals(of[c], parts[k], split) end
    end
  end
  lu.assertEquals(#apply(dvs, "all", true), 10000)
end

-- Sample k of TRT's files is number start + k div 10 of class k mod 10.
function TestSplits:test_interleaved()
  for _, case in ipairs { { "trt", true, 0 }, { "trt", false, 900 }, { "tet", true, 0 }, { "tet", false, 700 } } do
    local split, train, start = table.unpack(case)
    for k, at in ipairs(apply(dvs, split, train)) do
      if dvs[at].label ~= (k - 1) % 10 or number(dvs[at]) ~= start + (k - 1) // 10 then
        lu.fail(("%s: sample %d is %s of class %d"):format(split, k - 1, dvs[at].name, dvs[at].label))
      end
    end
  end
  -- classes of unequal size: those that have more come last
  local few = files({ 1, 3, 2 }, 0)
  lu.assertEquals(apply(few, "trt", true), { 1, 2, 5, 3, 6, 4 })
end

function TestSplits:test_random()
  local list = files({ 30, 5, 10 }, 0)
  local train, name = apply(list, "random", true, { split_seed = 7 })
  local test = apply(list, "random", false, { split_seed = 7 })
  lu.assertEquals(name, "random, seed 7: train")
  lu.assertEquals({ #train, #test }, { 27 + 4 + 9, 3 + 1 + 1 }) -- round(4.5) is 4
  local seen = {}
  for _, part in ipairs { train, test } do
    for _, at in ipairs(part) do
      lu.assertNil(seen[at])
      seen[at] = true
    end
  end
  for at = 1, 45 do lu.assertTrue(seen[at]) end
  lu.assertEquals(apply(list, "random", false, { split_seed = 7 }), test)
  lu.assertNotEquals(apply(list, "random", false, { split_seed = 8 }), test)
  ms.manual_seed(99)
  lu.assertEquals(apply(list, "random", false, { split_seed = 7 }), test)
  local half, text = apply(list, "random", true, { share = 0.5 })
  lu.assertEquals({ #half, text }, { 15 + 2 + 5, "random 0.5, seed 0: train" })
end

function TestSplits:test_share()
  local list = files({ 10, 7 }, 0)
  local train, name = apply(list, "spikingjelly", true, { share = 0.5 })
  lu.assertEquals({ #train, name }, { 5 + 4, "spikingjelly 0.5: train" })
  lu.assertEquals(#apply(files({ 90 }, 0), "floor", true, { share = 0.7 }), 62) -- as in Python: 0.7 * 90 is a little less than 63
  lu.assertEquals(#apply(list, "spikingjelly", true, { share = 0.7 }), 7 + 5)
end

-- Only the last number counts, whatever its size; names without an order of their own stay in that of the listing.
function TestSplits:test_numbers()
  local list = {}
  for i, name in ipairs { "a10_5000000000_x.bin", "a10_99.bin", "a10_100.bin", "b/100.bin" } do list[i] = { name = name, label = 0 } end
  lu.assertEquals(apply(list, "tebn", true), { 1, 3, 4 })
  lu.assertEquals(apply(list, "tebn", false), { 2 })
  lu.assertEquals(apply(list, "trt", true), { 2, 3, 4 })
end

function TestSplits:test_messages()
  s.raises("Set: split: expected one of all, floor, random, round, spikingjelly, tebn, tet, trt, got 'official'", apply, dvs, "official", true)
  s.raises("Set: share: split 'trt' has none", apply, dvs, "trt", true, { share = 0.5 })
  s.raises("Set: split: expected numbered files, got 'ship.bin'", apply, { { name = "ship.bin", label = 0 } }, "trt", true)
  s.raises("Set: split 'all' has no test files among the 10000 that were found", apply, dvs, "all", false)
  s.raises("Set: split 'spikingjelly' has no test files among the 1 that were found", apply, { { name = "a.bin", label = 0 } }, "spikingjelly", false)
  for _, name in ipairs(splits.names) do lu.assertStrContains(splits.text, name) end
end

os.exit(lu.LuaUnit.run() == 0)
