-- Caches of decoded samples: when they are read, made anew, refused; two processes; a writer that fails.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "recordings"
local ms = require "moonspike"
local core = require "moonspike.core"
local data = ms.data

local folder, same = s.folder(), s.same
local count = 0

-- A fresh folder of six recordings and the options of a set of them with a cache of its own.
local function made(options)
  count = count + 1
  local root = s.make(("%s/set%d"):format(folder, count), { "a", "b" }, { 1, 2, 3 }, "%.0s%d.aedat", 128, 128)
  local how = { root = root, cache = root .. "-cache", split = "all", T = 2, bin = 8, batch_size = 4 }
  for key, value in pairs(options or {}) do how[key] = value or nil end
  return how, root
end

local function open(how, changes)
  local all = {}
  for _, from in ipairs { how, changes or {} } do
    for key, value in pairs(from) do all[key] = value end
  end
  return data.EventFolder(all)
end

local function plain(how)
  local all = {}
  for key, value in pairs(how) do all[key] = value end
  all.cache = nil
  return data.EventFolder(all)
end

-- The file gets other bytes of the same length and the same time, which no cache can see.
local function alter(path)
  local bytes = s.read(path)
  assert(os.execute(("cp -p %s %s.kept"):format(path, path)))
  s.write(path, bytes:sub(1, 41) .. bytes:sub(42):gsub("....(....)", "\0\0\0\0%1"))
  assert(os.execute(("touch -r %s.kept %s && rm %s.kept"):format(path, path, path)))
end

local function cached(how) return #s.files(how.cache) end

TestCache = {}

function TestCache:test_same_bits_and_read_again()
  for _, options in ipairs { {}, { preset = "tet-pt", T = 3, bin = false }, { size = 12, frames = { polarity = "merged" } } } do
    local how, root = made(options)
    local want, y = s.epoch(plain(how))
    local first = open(how)
    same((s.epoch(first)), want)
    lu.assertEquals(select(2, s.epoch(first)):totable(), y:totable())
    lu.assertStrContains(first:describe(), "cached in " .. how.cache .. "/" .. how.root:match "[^/]+$" .. "-")
    lu.assertEquals({ cached(how), first:hash(), first[3].name }, { 2, plain(how):hash(), "a/3.aedat" })
    alter(root .. "/b/2.aedat")
    lu.assertFalse(ms.equal(s.epoch(plain(how)), want))
    same((s.epoch(open(how))), want, "read from the cache")
    same(open(how):raw(5), first:raw(5))
    lu.assertEquals(cached(how), 2)
    -- the file is NumPy's, in the order of the folder
    local samples = data.read_npy(how.cache .. "/" .. s.files(how.cache)[1])
    lu.assertEquals({ samples.shape[1], samples.dtype }, { 6, first:raw(1).dtype })
    same(samples[2]:permute(1, 4, 2, 3), first:raw(2))
  end
end

function TestCache:test_parts_share_it()
  local how = made { split = "tebn" }
  s.raises("split 'tebn' has no training files", open, how)
  local test = open(how, { train = false })
  lu.assertEquals({ #test, cached(how) }, { 6, 2 })
  how = made { split = "random", share = 0.5 }
  open(how)
  open(how, { train = false })
  lu.assertEquals(cached(how), 2)
end

function TestCache:test_another_setting_or_file_makes_another()
  local how, root = made()
  local want = s.epoch(open(how))
  for i, changes in ipairs { { T = 3 }, { bin = 4 }, { preset = "trt-paper" }, { size = 9 }, { layout = "jaer" }, { frames = { post = "clip" } },
    { events = { flip_x = true } }, { policy = "lenient" } } do
    open(how, changes)
    lu.assertEquals(cached(how), 2 + 2 * i)
  end
  -- what does not change the samples does not
  for _, changes in ipairs { { batch_size = 2 }, { shuffle = true, seed = 4 }, { workers = 0 }, { mean = 0.5 }, { augment = { flip = true } } } do open(how, changes) end
  lu.assertEquals(cached(how), 18)
  s.record(root .. "/b/3.aedat", 77, 60, 128, 128)
  local new = s.epoch(open(how))
  lu.assertFalse(ms.equal(new, want))
  same(new, (s.epoch(plain(how))))
  lu.assertEquals(cached(how), 20)
  os.remove(root .. "/b/3.aedat")
  lu.assertEquals({ #open(how), cached(how) }, { 5, 22 })
end

-- Another folder with files of the same names, sizes and times is another set.
function TestCache:test_another_folder()
  local how, root = made { name = "one" }
  local want = s.epoch(open(how))
  assert(os.execute(("cp -a %s %s-copy"):format(root, root)))
  alter(root .. "-copy/a/2.aedat")
  lu.assertFalse(ms.equal(s.epoch(open(how, { root = root .. "-copy" })), want))
end

function TestCache:test_damaged_caches_are_made_anew()
  local how = made()
  local want = s.epoch(open(how))
  local names = s.files(how.cache)
  local npy, txt = how.cache .. "/" .. names[1], how.cache .. "/" .. names[2]
  lu.assertEquals({ npy:sub(-4), txt:sub(-4) }, { ".npy", ".txt" })
  local good, text = s.read(npy), s.read(txt)
  for _, bytes in ipairs { good:sub(1, -2), good .. "\0", good:sub(1, 60), "", "\x93NUMPX" .. good:sub(7), (good:gsub("<f4", "<i4", 1)),
    (good:gsub("%(6, 2,", "(6, 3,", 1)), (good:gsub("%(6, 2, 8, 8, 2%)", "(3, 4, 8, 8, 2)", 1)) } do
    lu.assertNotEquals(bytes, good)
    s.write(npy, bytes)
    same((s.epoch(open(how))), want)
    lu.assertEquals(s.read(npy), good)
  end
  for _, bytes in ipairs { text:sub(1, -2), "", "x" .. text } do
    s.write(txt, bytes)
    open(how)
    lu.assertEquals(s.read(txt), text)
  end
  os.remove(npy)
  same((s.epoch(open(how))), want)
  os.remove(txt)
  same((s.epoch(open(how))), want)
  lu.assertEquals(cached(how), 2)
  -- a position in an epoch fits a set without the cache
  how.shuffle, how.seed = true, 1
  local a, b, second = open(how), plain(how), nil
  for x in a do
    second = x
    if a.batches > select(2, a:position()) then b:load_state_dict(a:state_dict()) end
  end
  for x in b do same(x, second) end
end

function TestCache:test_a_writer_that_fails_leaves_nothing()
  local how, root = made()
  local path = root .. "/b/1.aedat"
  local good = s.read(path)
  s.write(path, good:sub(1, -2))
  s.raises(path .. ": damaged file: byte", open, how)
  lu.assertEquals(cached(how), 0)
  os.remove(path)
  assert(os.execute(("ln -s gone %s"):format(path)))
  s.raises("EventFolder: ", open, how)
  lu.assertEquals(cached(how), 0)
  os.remove(path)
  s.write(path, good)
  lu.assertEquals({ #open(how), cached(how) }, { 6, 2 })
  s.write(folder .. "/file", "")
  s.raises("EventFolder: cache: ", open, how, { cache = folder .. "/file/x" })
  s.raises("EventFolder: cache: ", open, how, { cache = folder .. "/file" })
end

function TestCache:test_lenient_repairs_are_told()
  local how, root = made { policy = "lenient" }
  s.write(root .. "/b/2.aedat", s.aedat2)
  local text = open(how):describe()
  lu.assertStrContains(text, "repairs while it was cached: special 1\nrepairs while it was cached: time 2")
end

function TestCache:test_two_processes()
  local how = made { T = 2, bin = false }
  local script = folder .. "/two.lua"
  s.write(script, ([[
    local data = require "moonspike".data
    local set = data.EventFolder { root = %q, cache = %q, split = "all", T = 2, batch_size = 6 }
    for x in set do print(data.crc32(x:to("cpu"):bytes())) end]]):format(how.root, how.cache))
  local p <close> = io.popen(("for i in 1 2 3; do %s %s & done 2>&1; wait"):format(s.host, script))
  local sums = {}
  for line in p:lines() do sums[#sums + 1] = line end
  lu.assertEquals(#sums, 3)
  local x = s.epoch(plain(how))
  for i = 1, 3 do lu.assertEquals(sums[i], data.crc32(x:to("cpu"):bytes())) end
  lu.assertEquals(cached(how), 2)
end

-- Samples of the cache on the device: the bits of the threads.
function TestCache:test_resident()
  for _, options in ipairs { { shuffle = true, augment = "trt-dvs", seed = 2, split = "random", share = 0.7 }, { preset = "trt-code", T = 2, bin = false, mean = { 0.1, 0.2 } }, { T = 1 } } do
    local how = made(options)
    local threads, here = open(how), open(how, { resident = true })
    for _ = 1, 2 do
      local x, y = s.epoch(threads)
      local x2, y2 = s.epoch(here)
      same(x2, x)
      same(y2, y)
    end
    lu.assertEquals(here:position(), 3)
    same(here[2].x, threads[2].x)
    lu.assertEquals(here:repairs(), {})
  end
end

function TestCache:test_chance_is_refused()
  local how = made()
  s.raises("EventFolder: cache: expected no random choices, got drop = 'any'", open, how, { drop = "any" })
  s.raises("EventFolder: cache: expected no random choices, got mirror = 0.5", open, how, { events = { mirror = 0.5 } })
  lu.assertEquals(cached(how), 0)
end

-- ---- the door in C ----

TestWriter = {}

function TestWriter:test_steps()
  local source = core.data.source { samples = ms.arange(0, 24):view(2, 1, 3, 4):to "uint8", labels = ms.tensor({ 1, 0 }, { dtype = "int64" }) }
  local path = folder .. "/w.npy"
  local writer = assert(core.data.cache_writer(source, path))
  local none, why = writer:commit()
  lu.assertNil(none)
  lu.assertEquals(why, "cache: only 0 of 2 samples are written")
  s.raises("the cache is finished", writer.step, writer, 1)
  writer = assert(core.data.cache_writer(source, path))
  lu.assertEquals({ writer:step(2), writer:step(2) }, { 2, 2 }) -- nothing is left to do
  lu.assertEquals(writer:commit(), {})
  lu.assertEquals(data.read_npy(path):flatten():totable(), ms.arange(0, 24):long():totable())
  local again = assert(core.data.cached_source(path, source))
  lu.assertEquals({ again:read(2):flatten():totable(), again:labels():totable() }, { ms.arange(12, 24):long():totable(), { 1, 0 } })
  local other = core.data.source { samples = ms.zeros(3, 1, 3, 4), labels = ms.tensor({ 1, 0, 0 }, { dtype = "int64" }) }
  none, why = core.data.cached_source(path, other)
  lu.assertNil(none)
  lu.assertStrContains(why, "w.npy: expected <f" .. (ms.zeros(1).dtype == "float32" and 4 or 8) .. " [3, 1, 3, 4, 1], got |u1 [2, 1, 3, 4, 1]")
  do
    local dropped <close> = assert(core.data.cache_writer(source, folder .. "/gone.npy"))
    dropped:step(1)
  end
  lu.assertEquals(#s.files(folder .. "/gone.npy*"), 0)
  writer = assert(core.data.cache_writer(source, folder .. "/gone.npy"))
  writer:discard()
  writer:discard()
  for _, name in ipairs(s.files(folder)) do lu.assertNil(name:find "gone") end
  none, why = core.data.cache_writer(source, folder .. "/no/w.npy")
  lu.assertNil(none)
  lu.assertStrContains(why, "No such file")
  for _, name in ipairs { "/none.npy", "" } do lu.assertNil((core.data.cached_source(folder .. name, source))) end
end

local code = lu.LuaUnit.run()
s.remove(folder)
os.exit(code == 0)
