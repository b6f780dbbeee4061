-- Files: weights, whole training states, what does not fit, a disk that is full, a run that is killed.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local nn, optim = ms.nn, ms.optim

local folder = s.folder()
s.fashion(folder, 96, 16)
local function path(name) return folder .. "/" .. name end

local function make(width)
  return nn.Sequential { nn.Conv2d(1, width or 4, 3, { stride = 3 }), nn.BatchNorm2d(width or 4), nn.LIF(), nn.Flatten(),
    nn.Dropout(0.1), nn.Linear(81 * (width or 4), 10) }
end

TestWeights = {}

function TestWeights:test_round_trip()
  ms.manual_seed(1)
  local a, b = make(), make()
  a(ms.randn(2, 3, 1, 28, 28))
  lu.assertIs(ms.save(path "a.safetensors", a), a)
  lu.assertIs(ms.load(path "a.safetensors", b), b)
  for name, t in pairs(a:state_dict()) do lu.assertEquals(t:totable(), b:state_dict()[name]:totable(), name) end
  local all = ms.load(path "a.safetensors")
  lu.assertEquals(all["0.weight"].shape, { 4, 1, 3, 3 })
  lu.assertEquals(all["1.num_batches_tracked"]:item(), 1)
  local file = assert(core.checkpoint.open(path "a.safetensors"))
  lu.assertEquals(file:entry "1.running_mean", "F32")
  lu.assertEquals(file:metadata().format, "pt")
end

function TestWeights:test_what_does_not_fit()
  ms.save(path "a.safetensors", make())
  local ok, message = pcall(ms.load, path "a.safetensors", make(5))
  lu.assertFalse(ok)
  lu.assertStrContains(message, "shape: 0.weight: expected [5, 1, 3, 3], got [4, 1, 3, 3]")
  s.raises("missing: weight", ms.load, path "a.safetensors", nn.Linear(2, 2))
  ms.load(path "a.safetensors", nn.Sequential { nn.Conv2d(1, 4, 3) }, { strict = false })
  s.raises("load: ", ms.load, path "none.safetensors", make())
  s.raises("save: net: expected a module, got nil", ms.save, path "x")
  s.raises("save: path: expected a string, got Sequential", ms.save, make())
  s.raises("load: unknown option 'strickt' (known: strict)", ms.load, path "a.safetensors", make(), { strickt = true })
end

function TestWeights:test_a_failed_save_leaves_the_old_file()
  ms.save(path "keep.safetensors", make())
  local before = s.read(path "keep.safetensors")
  s.raises("save: ", ms.save, path "no/such/folder/a.safetensors", make())
  if io.open("/dev/full") then
    local code, text = s.run("-e", "ulimit -f 1;", ([["local ms = require 'moonspike' ms.save('%s', ms.nn.Linear(1000, 1000))"]]):format(path "keep.safetensors"))
    lu.assertNotEquals(code, 0)
    lu.assertEquals(s.read(path "keep.safetensors"), before, text)
  end
end

-- One training, stopped and resumed at (epoch, batch) when asked; returns every byte of the result.
local script = [[
  local ms = require "moonspike"
  local nn, optim = ms.nn, ms.optim
  local folder, stop_epoch, stop_batch, resume, kind = arg[1], tonumber(arg[2]), tonumber(arg[3]), arg[4] == "resume", arg[5]
  ms.manual_seed(11)
  local train = ms.data.FashionMNIST { root = folder, batch_size = 16, T = 2, shuffle = true, augment = { crop = 2, flip = true } }
  local net = nn.Sequential { nn.Conv2d(1, 4, 3, { stride = 3, bias = false }), nn.BatchNorm2d(4), nn.PLIF(), nn.Flatten(), nn.Dropout(0.1),
    nn.Linear(324, 10) }
  local criterion = ms.loss.TRT(net)
  local Mine = optim.Optimizer("Mine", { lr = 0.01 })
  function Mine:update(p, g, state, group)
    state.n = (state.n or 0) + 1
    state.m = state.m and state.m * 0.9 + g or g:clone()
    p:sub_(state.m * (group.lr / state.n))
  end
  local opt = kind == "mine" and Mine(net:parameters(), { lr = 0.02 }) or kind == "sgd" and optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 })
    or optim.Adam(net:parameters(), { lr = 0.01 })
  local sched = optim.CosineAnnealingLR(opt, { T_max = 3 })
  local state = { model = net, optimizer = opt, scheduler = sched, loader = train }
  local file, first, noise = folder .. "/state.safetensors", 1, 0
  if resume then
    local info = ms.resume(file, state)
    first, noise = info.epoch, info.extra.noise
  end
  for epoch = first, 3 do
    for x, y in train do
      opt:zero_grad()
      criterion(net(x), y):backward()
      opt:step()
      noise = noise + math.random() + ms.rand(1):item()
      local e, b = train:position()
      if stop_epoch == e and stop_batch == b then
        state.epoch, state.extra = epoch, { noise = noise }
        ms.checkpoint(file, state)
        if not resume and arg[4] == "stop" then os.execute("kill -9 " .. require "moonspike.core".system.pid()) end
      end
    end
    sched:step()
  end
  state.epoch, state.extra = 3, { noise = noise }
  ms.checkpoint(arg[6], state)
]]

TestResume = {}

local function train(epoch, batch, mode, kind, out)
  s.write(path "train.lua", script)
  return s.run(path "train.lua", nil, table.concat({ folder, epoch, batch, mode, kind, out }, " "))
end

for _, kind in ipairs { "adam", "sgd", "mine" } do
  TestResume["test_bit_for_bit_" .. kind] = function()
    local code, text = train(2, 4, "go", kind, path "whole")
    lu.assertEquals(code, 0, text)
    code = train(2, 4, "stop", kind, path "broken")
    lu.assertTrue(code == 137 or code == -9, code)
    code, text = train(2, 4, "resume", kind, path "resumed")
    lu.assertEquals(code, 0, text)
    lu.assertEquals(#s.read(path "whole") > 5000, true)
    lu.assertTrue(s.read(path "whole") == s.read(path "resumed"), "the resumed run ended differently")
  end
end

function TestResume:test_killed_while_saving()
  local before = s.read(path "whole")
  s.write(path "kill.lua", ([[local ms = require "moonspike"
    ms.device "cpu" -- where values are drawn fast
    local net = ms.nn.Linear(2000, 2000)
    print "ready" io.stdout:flush()
    while true do ms.save(%q, net) end]]):format(path "live.safetensors"))
  local child = io.popen(("%s %s & echo $!"):format(s.host, path "kill.lua"))
  local pid = child:read "l"
  child:read "l"
  for _ = 1, 100 do
    if io.open(path "live.safetensors") then break end
    os.execute "sleep 0.1"
  end
  os.execute "sleep 0.3"
  os.execute("kill -9 " .. pid)
  child:close()
  lu.assertEquals(ms.load(path "live.safetensors").weight.shape, { 2000, 2000 })
  lu.assertEquals(s.read(path "whole"), before)
end

function TestResume:test_what_does_not_fit()
  local net = make()
  local opt = optim.Adam(net:parameters())
  ms.checkpoint(path "c", { model = net, optimizer = opt, epoch = 1 })
  ms.save(path "w", net)
  s.raises("expected a file written by ms.checkpoint, got weights alone (use ms.load)", ms.resume, path "w", { model = net })
  s.raises("resume: " .. path "c" .. ": expected a state of the scheduler, got none", ms.resume, path "c",
    { model = net, scheduler = optim.StepLR(opt, { step_size = 1 }) })
  s.raises("optimizer: expected SGD, got Adam", ms.resume, path "c", { model = net, optimizer = optim.SGD(net:parameters()) })
  local other = nn.Sequential { nn.Linear(2, 2) }
  local before = other[1].weight:totable()
  local ok, message = pcall(ms.resume, path "c", { model = other, optimizer = optim.Adam(other:parameters()) })
  lu.assertFalse(ok)
  lu.assertStrContains(message, "unexpected: optimizer state of 5.weight")
  s.raises("missing: 0.0.weight", ms.resume, path "c", { model = nn.Sequential { nn.Sequential { nn.Linear(2, 2) } }, optimizer = nil })
  lu.assertEquals(other[1].weight:totable(), before)
  s.raises("resume: unknown option 'net' (known: epoch, extra, loader, model, optimizer, random_T, scheduler)", ms.resume, path "c", { net = net })
  s.raises("checkpoint: model: expected a module, got nothing", ms.checkpoint, path "c", {})
  ms.load(path "c", net)
end

-- Our own engines do not care; test_engines.lua has the case of one that does.
function TestResume:test_another_number_of_threads()
  local line = [["local ms = require 'moonspike' local net = ms.nn.Linear(2, 2) ms.%s('%s', { model = net })"]]
  s.run("-e", "OMP_NUM_THREADS=1", line:format("checkpoint", path "t"))
  for threads = 1, 2 do
    local _, text = s.run("-e", "OMP_NUM_THREADS=" .. threads, line:format("resume", path "t"))
    lu.assertEquals(text, "")
  end
end

TestLog = {}

function TestLog:test_json_lines()
  local log = assert(ms.log(path "log.jsonl", { append = false }))
  log { b = 1, a = ms.tensor { 0.5 }, c = "x" }
  log { n = 0 / 0 }
  log:close()
  lu.assertStrMatches(s.read(path "log.jsonl"), '{"moonspike":{[^\n]+}}\n{"a":0.5,"b":1,"c":"x"}\n{"n":null}\n')
  s.write(path "log.jsonl", s.read(path "log.jsonl") .. '{"cut":')
  lu.assertEquals(#ms.log.read(path "log.jsonl"), 2)
  s.write(path "log.jsonl", '{"moonspike":{}}\n{"epoch":1}\n{"epoch":2}\n{"epoch":3}\n{"epo')
  log = ms.log(path "log.jsonl", { epoch = 2 }) -- the run was stopped behind the checkpoint of the second epoch
  lu.assertEquals(s.read(path "log.jsonl"), '{"moonspike":{}}\n{"epoch":1}\n{"epoch":2}\n')
  log:close()
  s.raises("log: row: expected a table, got 1", ms.log(path "log.jsonl"), 1)
  s.raises("is closed", log, { a = 1 })
  s.raises("log: /dev/full: No space left on device", ms.log "/dev/full", { a = 1 })
  lu.assertNil((ms.log(path "none/log.jsonl")))
end

-- A line that a killed run left cut short: what is appended stands on lines of its own.
function TestLog:test_broken_lines()
  s.write(path "log.jsonl", '{"epoch":1}\n{"epo')
  local log = ms.log(path "log.jsonl")
  log { epoch = 2 }
  log:close()
  lu.assertStrMatches(s.read(path "log.jsonl"), '{"epoch":1}\n{"moonspike":{[^\n]+}}\n{"epoch":2}\n')
  lu.assertEquals(#ms.log.read(path "log.jsonl"), 2)
  lu.assertEquals({ ms.log(folder) }, { nil, folder .. ": Is a directory" })
  for _, broken in ipairs { '{"epo', "3" } do
    s.write(path "log.jsonl", '{"moonspike":{}}\n{"epoch":1}\n' .. broken .. '\n{"epoch":3}\n')
    lu.assertEquals({ ms.log.read(path "log.jsonl") },
      { nil, ("%s: line 3: expected a row as ms.log writes it, got '%s'"):format(path "log.jsonl", broken) })
  end
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
