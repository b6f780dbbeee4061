-- Sets of files: options that would mean nothing are refused, and a damaged file is named by the loop that meets it.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local data = ms.data

local root = s.folder()
local function i64(list) return ms.tensor(list, { dtype = "int64" }) end
local function folder(name)
  assert(os.execute(("mkdir -p %s/%s"):format(root, name)))
  return root .. "/" .. name
end
local function all(set)
  local n = 0
  for x in set do n = n + x.shape[2] end
  return n
end

-- Two classes with two archives each: of events on 6 x 4 pixels, of 4 frames.
for _, class in ipairs { "a", "b" } do
  local e, f = folder("events/" .. class), folder("frames/" .. class)
  for i = 1, 2 do
    data.write_npz(("%s/%d.npz"):format(e, i), { t = i64 { 1, 2, 3, 9 }, x = i64 { 0, 1, 2, 5 }, y = i64 { 0, 1, 2, 3 }, p = i64 { 0, 1, 0, 1 } })
    data.write_npz(("%s/%d.npz"):format(f, i), { frames = ms.ones(4, 2, 5, 5) })
  end
end

local function events(opts)
  opts.root, opts.split, opts.T = root .. "/events", "all", opts.T or 2
  return data.EventFolder(opts)
end
local function frames(opts)
  opts.root, opts.split, opts.format = root .. "/frames", "all", "frames"
  return data.EventFolder(opts)
end

TestOptions = {}

function TestOptions:test_frames_have_no_events()
  lu.assertEquals(all(frames {}), 4)
  lu.assertEquals(all(frames { T = 4, size = 10 }), 4)
  s.raises("expected 10 frames, got 4", frames, { T = 10 })
  s.raises("expected events to drop and mirror, got archives of frames", frames, { drop = "any" })
  for key, value in pairs { duration_us = 10, bin = 2, layout = "sj", width = 5, events = {}, frames = {} } do
    s.raises(("EventFolder: %s: expected nothing beside format = 'frames'"):format(key), frames, { [key] = value })
  end
end

function TestOptions:test_a_cache_keeps_nothing_random()
  lu.assertEquals(all(events { cache = root .. "/cache" }), 4)
  lu.assertEquals(all(events { cache = root .. "/cache" }), 4)
  for key, opts in pairs { drop = { drop = "any" }, mirror = { events = { mirror = 0.5 } }, reverse = { events = { reverse = 1 } } } do
    opts.cache = root .. "/cache"
    s.raises("EventFolder: cache: expected nothing random, since a cache keeps each sample once, got " .. key, events, opts)
  end
end

function TestOptions:test_windows()
  local path = root .. "/events/a/1.npz"
  local function source(opts)
    opts.paths, opts.labels, opts.T = { path }, i64 { 0 }, 1
    return core.data.event_source(opts)
  end
  lu.assertEquals(source { start_us = i64 { 2 }, end_us = i64 { 9 } }:read(1):sum():item(), 2)
  s.raises("start_us, end_us: expected both or neither, got one", source, { start_us = i64 { 2 } })
  s.raises("start_us, end_us: expected both or neither, got one", source, { end_us = i64 { 2 } })
  s.raises("start_us: expected int64 [1], one for each path, got number", source, { start_us = 2 })
  s.raises("start_us: expected int64 [1], one for each path, got int64 [2]", source, { start_us = i64 { 1, 2 } })
  s.raises("no events between start_us and end_us", source, { start_us = i64 { 5 }, end_us = i64 { 9 } })
  for _, steps in ipairs { -1, 65537, 1 << 60 } do
    s.raises("steps: expected 0 to 65536, got " .. steps, source, { steps = steps, split = "duration", duration_us = 1 })
  end
  s.raises("event_source: width: expected nothing beside shd, got number", core.data.event_source, { shd = path, width = 3 })
  s.raises("images: size: expected 1 to 65536, got 1152921504606846976", core.data.image_source,
    { paths = { path }, labels = i64 { 0 }, random = true, size = 1 << 60 })
end

TestDamage = {}

function TestDamage:test_a_file_that_changes_under_the_set()
  local victim = root .. "/events/b/2.npz"
  local whole = s.read(victim)
  for _, workers in ipairs { 0, 2 } do
    local set <close> = events { workers = workers, batch_size = 1 }
    s.write(victim, whole:sub(1, -9))
    s.raises(victim .. ": damaged file: ", all, set)
    os.remove(victim)
    s.raises(victim .. ": No such file or directory", all, set)
    s.write(victim, whole) -- the set goes on
    lu.assertEquals(all(set), 4)
  end
end

-- Lenient: a recording without events is frames without events.
function TestDamage:test_empty_recordings()
  local victim = root .. "/events/b/2.npz"
  local whole, none = s.read(victim), i64 {}
  data.write_npz(victim, { t = none, x = none, y = none, p = none })
  s.raises("2.npz: no events", all, events { width = 6, height = 4 })
  local set <close> = events { policy = "lenient", width = 6, height = 4 }
  lu.assertEquals(all(set), 4)
  lu.assertStrContains(set:describe(), "events/s")
  s.write(victim, whole)
end

-- ---- scripts/get-data.sh, with a curl that copies a file and an md5sum that is always content ----

TestGet = {}

local script = (arg[0]:match "^(.*)tests/lua/" or "./") .. "scripts/get-data.sh"
local function get(arguments)
  local out = root .. "/get.out"
  local _, _, code = os.execute(("PATH=%s:$PATH MOONSPIKE=%s %s %s >%s 2>&1"):format(folder "bin", s.host, script, arguments, out))
  return code, s.read(out)
end

function TestGet:test_names_and_explanations()
  local find = require "moonspike.data.find"
  lu.assertEquals({ get "" }, { 0, table.concat(require("moonspike.options").keys(find.sets), " ") .. "\n" })
  local code, text = get "DVSGesture"
  lu.assertEquals(code, 1)
  lu.assertStrContains(text, find.sets.DVSGesture.how)
  code, text = get "nothing"
  lu.assertEquals(code, 2)
  lu.assertStrContains(text, "unknown data set nothing")
end

function TestGet:test_download()
  if not os.execute "command -v unzip >/dev/null" then lu.skip "needs unzip" end
  local bin, to = folder "bin", root .. "/got"
  data.write_npz(root .. "/some.zip", { some = ms.zeros(2) })
  local function program(name, text)
    s.write(bin .. "/" .. name, "#!/bin/sh\n" .. text)
    os.execute("chmod +x " .. bin .. "/" .. name)
  end
  program("curl", ('while [ "$1" != -o ]; do shift; done\ncp %s/some.zip "$2"\n'):format(root))
  program("md5sum", "echo 0000 x\n")
  local code, text = get("SHD " .. to)
  lu.assertEquals(code, 1)
  lu.assertStrContains(text, "shd_train.h5.zip.part: expected - bytes with md5 f3252aeb598ac776c1b526422d90eecb, got")
  program("md5sum", 'case $1 in *train*) echo f3252aeb598ac776c1b526422d90eecb x;; *) echo 1503a5064faa34311c398fb0a1ed0a6f x;; esac\n')
  code, text = get("SHD " .. to)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, ("SHD is in %s/SHD; moonspike finds it with MOONSPIKE_DATA=%s"):format(to, to))
  lu.assertTrue(core.system.exists(to .. "/SHD/some.npy"))
  code, text = get("SHD " .. to)
  lu.assertEquals(code, 0)
  lu.assertStrContains(text, "shd_train.h5.zip is there")
end

local code = lu.LuaUnit.run()
s.remove(root)
os.exit(code == 0)
