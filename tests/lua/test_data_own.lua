-- data.Dataset, a set written in Lua: order, batches, positions, and what it says of samples that do not fit.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "recordings"
local ms = require "moonspike"
local core = require "moonspike.core"
local data = ms.data

-- Sample i is a picture of i in every pixel, of class i mod 3.
local function own(options)
  local all = { size = 20, get = function(i) return ms.full({ 2, 3, 4 }, i), i % 3 end, batch_size = 6 }
  for key, value in pairs(options or {}) do all[key] = value end
  return data.Dataset(all)
end

-- The numbers of an epoch's samples, in order.
local function order(set)
  local list = {}
  for x in set do
    for i = 1, x.shape[2] do list[#list + 1] = math.tointeger(x[1][i][1][1][1]:item()) end
  end
  return list
end

TestOwn = {}

function TestOwn:test_batches()
  local set = own()
  lu.assertEquals({ #set, set.batches, set.T, tostring(set) }, { 20, 4, 1, "set: 20 samples, written in Lua; 4 batches of 6" })
  local sizes = {}
  for x, y in set do
    sizes[#sizes + 1] = y.shape[1]
    lu.assertEquals({ x.shape, x.dtype, y.dtype, x.device }, { { 1, y.shape[1], 2, 3, 4 }, ms.zeros(1).dtype, "int64", core.device.current() })
    lu.assertEquals(y[1]:item(), math.tointeger(x[1][1][1][1][1]:item()) % 3)
  end
  lu.assertEquals({ sizes, order(set)[20], own { drop_last = true }.batches, #order(own { drop_last = true }) }, { { 6, 6, 6, 2 }, 20, 3, 18 })
  lu.assertEquals(own { shuffle = true, name = "mine" }:describe(), "mine: 20 samples, written in Lua; 4 batches of 6, shuffled")
  local sample = own { classes = { "a", "b", "c" } }[5]
  lu.assertEquals({ sample.y, sample.class, sample.x.shape, own()[4].class }, { 2, "c", { 2, 3, 4 }, "1" })
end

-- The order of an epoch is that of every other set with this seed.
function TestOwn:test_order()
  local images = ms.arange(1, 21):view(20, 1, 1, 1):expand(20, 2, 3, 4):contiguous()
  local labels = ms.tensor(ms.arange(1, 21):long():totable(), { dtype = "int64" })
  for _, how in ipairs { { shuffle = true, seed = 7 }, { shuffle = true, name = "images" }, { shuffle = false } } do
    ms.manual_seed(3)
    local mine = own(how)
    local other = data.FromTensors { images = images, labels = labels, T = 1, batch_size = 6, shuffle = how.shuffle, seed = how.seed, name = how.name }
    for _ = 1, 2 do lu.assertEquals(order(mine), order(other)) end
    lu.assertEquals({ mine:position() }, { 3, 0 })
  end
  ms.manual_seed(4)
  local a = order(own { shuffle = true })
  ms.manual_seed(5)
  lu.assertNotEquals(order(own { shuffle = true }), a)
end

function TestOwn:test_frames_and_types()
  local bytes = own { get = function(i) return ms.full({ 1, 2, 2 }, i):to "uint8", 0 end, T = 3 }
  for x in bytes do
    lu.assertEquals({ x.shape[1], x:stride(1) }, { 3, 0 }) -- a view
    s.near(x[2][1][1][1][1], 1 / 255, 1e-6)
    break
  end
  lu.assertEquals(bytes[2].x:max():item(), ms.tensor({ 2 / 255 }):item())
  local frames = own { get = function(i) return ms.full({ 4, 1, 2, 2 }, i), ms.tensor({ 1 }, { dtype = "int64" }) end }
  for x, y in frames do
    lu.assertEquals({ x.shape, y:totable() }, { { 4, 6, 1, 2, 2 }, { 1, 1, 1, 1, 1, 1 } })
    break
  end
  lu.assertEquals(frames[1].x.shape, { 4, 1, 2, 2 })
  local set = own { T = 4, get = function(i) return ms.zeros(i == 3 and 5 or 4, 1, 2, 2), 0 end }
  s.raises("set: get(3): expected 1 or T = 4 frames, got 5", order, set)
  s.raises("set: get(2): expected the shape of the batch's other samples, [4, 1, 2, 2], got [1, 1, 2, 2]", order,
    own { get = function(i) return ms.zeros(i == 2 and 1 or 4, 1, 2, 2), 0 end })
end

function TestOwn:test_transform()
  local sums = {}
  for x, y in own { batch_size = 20, transform = function(x, y) return x * 2, y + 5 end } do sums = { x:max():item(), y:min():item() } end
  lu.assertEquals(sums, { 40, 5 })
  local calls = 0
  local set = own { transform = function() calls = calls + 1 end }
  s.raises("set: transform: expected x, y as results, got nothing", order, set)
  lu.assertEquals(calls, 1)
end

-- What get raises says of which sample it was; the same batch is asked for again.
function TestOwn:test_errors_in_get()
  local broken, calls = true, {}
  local set = own { name = "mine", shuffle = true, seed = 2, get = function(i)
    calls[#calls + 1] = i
    if broken and i == 13 then error "no such file" end
    return ms.full({ 1, 1, 1 }, i), 0
  end }
  local got = {}
  local function go()
    for x in set do got[#got + 1] = x end
  end
  local ok, why = pcall(go)
  lu.assertFalse(ok)
  lu.assertStrContains(why, "mine: get(13): ")
  lu.assertStrContains(why, "test_data_own.lua:")
  lu.assertStrContains(why, "no such file")
  lu.assertEquals(calls[#calls], 13)
  s.raises("mine: get(13): ", function() return set[13] end)
  broken = false
  set:load_state_dict(set:state_dict())
  go()
  lu.assertEquals(#got, 4)
  local all = {}
  for _, x in ipairs(got) do
    for i = 1, x.shape[2] do all[#all + 1] = math.tointeger(x[1][i]:item()) end
  end
  lu.assertEquals(all, order(own { shuffle = true, seed = 2 }))
  local thing = {}
  ok, why = pcall(order, own { get = function() error(thing) end })
  lu.assertFalse(ok)
  lu.assertIs(why, thing)
end

function TestOwn:test_results_of_get()
  local function raises(text, ...)
    local results = table.pack(...)
    s.raises(text, order, own { get = function() return table.unpack(results, 1, results.n) end, classes = { "a", "b" } })
  end
  raises "set: get(1): expected a tensor [C, H, W] or [T, C, H, W], got nil"
  raises("set: get(1): expected a tensor [C, H, W] or [T, C, H, W], got tensor [2, 2]", ms.zeros(2, 2), 0)
  raises("set: get(1): expected a tensor [C, H, W] or [T, C, H, W], got 'x'", "x", 0)
  raises("set: get(1): expected a label from 0 to 1 as second result, got nil", ms.zeros(1, 2, 2))
  raises("set: get(1): expected a label from 0 to 1 as second result, got 2", ms.zeros(1, 2, 2), 2)
  raises("set: get(1): expected a label from 0 to 1 as second result, got -1", ms.zeros(1, 2, 2), -1)
  raises("set: get(1): expected a label from 0 to 1 as second result, got 0.5", ms.zeros(1, 2, 2), 0.5)
  raises("set: get(1): expected a label from 0 to 1 as second result, got 'a'", ms.zeros(1, 2, 2), "a")
  raises("set: get(1): expected a label from 0 to 1 as second result, got tensor [2]", ms.zeros(1, 2, 2), ms.zeros(2))
end

function TestOwn:test_positions()
  local set, rest = own { shuffle = true, seed = 1 }, {}
  order(set)
  local state
  for x in set do
    if state then rest[#rest + 1] = x[1][1][1][1][1]:item() end
    if select(2, set:position()) == 2 then state = set:state_dict() end
  end
  lu.assertEquals(state, { epoch = 2, batch = 2, seed = 1, samples = 20, batch_size = 6 })
  local other = own { shuffle = true, seed = 9 }
  local path, net = os.tmpname(), ms.nn.Linear(1, 1)
  other:load_state_dict(state)
  ms.checkpoint(path, { model = net, loader = other })
  local third, again = own { shuffle = true, seed = 8 }, {}
  lu.assertEquals(ms.resume(path, { model = net, loader = third }).batch, 2)
  os.remove(path)
  for x in third do again[#again + 1] = x[1][1][1][1][1]:item() end
  lu.assertEquals(again, rest)
  -- leaving early abandons the epoch; closing keeps the place
  local a, b = own { shuffle = true, seed = 1 }, own { shuffle = true, seed = 1 }
  for _ in a do break end
  order(b)
  a:close()
  lu.assertEquals(order(a), order(b))
  for text, bad in pairs {
    ["batch_size: expected 6, since the state lies in the middle of an epoch, got 5"] = { own { batch_size = 5 }, state },
    ["samples: expected 20, since the state lies in the middle of an epoch, got 19"] = { own { size = 19 }, state },
    ["batch: expected 0 to 4, got 5"] = { own(), { epoch = 1, batch = 5, seed = 1 } }, ["epoch: expected 1 or more, got 0"] = { own(), { epoch = 0, batch = 0, seed = 1 } },
    ["state: expected { epoch, batch, seed }, got nil without epoch"] = { own() },
  } do
    s.raises("load_state_dict: " .. text, bad[1].load_state_dict, bad[1], bad[2])
    lu.assertEquals({ bad[1]:position() }, { 1, 0 })
  end
end

function TestOwn:test_messages()
  s.raises("Dataset: unknown option 'workers' (known: T, batch_size, classes, drop_last, get, name, seed, shuffle, size, transform)", own, { workers = 2 })
  s.raises("Dataset: size: expected an integer >= 1, got 0", own, { size = 0 })
  s.raises("Dataset: get: expected a function, got nothing", data.Dataset, { size = 3 })
  s.raises("Dataset: get: expected a function, got 3", own, { get = 3 })
  s.raises("Dataset: T: expected an integer >= 1, got 0", own, { T = 0 })
  s.raises("set: index: expected 1 to 20, got 21", function() return own()[21] end)
  s.raises("set: index: expected 1 to 20, got 0", function() return own()[0] end)
  s.raises("set: index: expected 1 to 20, got 1.5", function() return own()[1.5] end)
end

os.exit(lu.LuaUnit.run() == 0)
