-- ms.engines: the report, forcing, the break-even table, its measurement and files; what checkpoints and logs keep of it.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local nn = ms.nn

ms.device "cpu" -- these are its engines

local folder = s.folder()
local function path(name) return folder .. "/" .. name end

-- Channels and pixels enough for events; the first layer gets real values.
local function make()
  ms.manual_seed(3)
  return nn.Sequential { nn.Conv2d(2, 32, 3, { padding = 1 }), nn.BatchNorm2d(32), nn.LIF(), nn.Conv2d(32, 16, 3, { padding = 1 }), nn.LIF(),
    nn.Flatten(), nn.Linear(16 * 256, 10) }
end

local function run(net)
  ms.manual_seed(4)
  ms.engines.reset()
  net:zero_grad()
  local x = ms.randn(3, 2, 2, 16, 16)
  local y = net(x)
  y:pow(2):sum():backward()
  return y, net[1].weight.grad, net[4].weight.grad, net[7].weight.grad
end

local function entry(layer, pass)
  for _, use in ipairs(ms.engines()) do
    if use.layer == layer and use.pass == pass then return use end
  end
end

local function plain()
  ms.engines.force()
  ms.engines.set_table()
  ms.deterministic(false)
  ms.engines.reset()
end

-- A table under which events always or never run.
local function rows(limit, precision)
  return { { taps = 1, cin = 1, cout = 1, precision = precision or "float32", forward = limit, weight_grad = limit, forward_counts = limit,
    weight_grad_counts = limit, input_grad = 0.0 } }
end

TestReport = { setUp = plain, tearDown = plain }

function TestReport:test_both_engines()
  local net = make()
  ms.engines.set_table(rows(1))
  run(net)
  local first, spikes = entry("0.weight", "forward"), entry("3.weight", "forward")
  lu.assertNotEquals(first.engine, "event")
  lu.assertNil(first.density)
  lu.assertEquals(spikes.engine, "event")
  local fired = net[3].counts:sum():item() / (3 * 2 * 32 * 256)
  s.near({ spikes.density }, { fired }, 1e-6, "density")
  lu.assertStrContains(spikes.reason, "density")
  lu.assertEquals({ spikes.n, spikes.cin, spikes.cout, spikes.h, spikes.kernel }, { 6, 32, 16, 16, { 3, 3 } })
  lu.assertEquals(spikes.shape, "[6, 32, 16, 16] 3x3 -> 16")
  lu.assertEquals(entry("6.weight", "forward").shape, "[6, 4096] -> 10")
  lu.assertEquals({ spikes.precision, spikes.calls, spikes.device }, { "float32", 1, "cpu" })
  lu.assertEquals(entry("3.weight", "weight grad").engine, "event")
  lu.assertNil(entry("0.weight", "input grad"))
end

function TestReport:test_order_calls_and_reset()
  local net, layers = make(), {}
  local function forward()
    local was <close> = require "moonspike.autograd".guard(false)
    net(ms.randn(3, 2, 2, 16, 16))
  end
  ms.engines.reset()
  forward()
  forward()
  for i, use in ipairs(ms.engines()) do layers[i] = { use.layer, use.pass, use.calls } end
  lu.assertEquals(layers, { { "0.weight", "forward", 2 }, { "3.weight", "forward", 2 }, { "6.weight", "forward", 2 } })
  ms.engines.reset()
  lu.assertEquals(#ms.engines(), 0)
  lu.assertStrContains(tostring(ms.engines()), "no convolution or linear layer has run")
end

function TestReport:test_another_batch_is_the_same_layer()
  ms.engines.reset()
  local x, w = ms.randn(4, 3), ms.randn(5, 3)
  nn.functional.linear(x, w)
  nn.functional.linear(ms.randn(7, 3), w)
  local list = ms.engines()
  lu.assertEquals(#list, 1)
  lu.assertEquals({ list[1].layer, list[1].n, list[1].calls }, { "", 7, 2 })
  lu.assertStrContains(tostring(list), "(no name)")
end

function TestReport:test_text_and_fields()
  run(make())
  local report = ms.engines()
  local text = tostring(report)
  for _, part in ipairs { "cpu: ", "engines: ", "break-even table: shipped", "deterministic: no", "autocast: float32", "3.weight", "weight grad", report[1].reason } do
    lu.assertStrContains(text, part)
  end
  lu.assertEquals(report.threads, core.device.threads())
  lu.assertEquals(report.engines, ms.engines.available())
  lu.assertEquals({ report.table, report.device, report.deterministic }, { "shipped", "cpu", false })
  for _, line in ipairs { text:match "^[^\n]+\n[^\n]+\n[^\n]+\n(.+)$" } do lu.assertNil(line:find " \n") end
end

function TestReport:test_more_layers_than_it_keeps()
  ms.engines.reset()
  local was <close> = require "moonspike.autograd".guard(false)
  for i = 1, 300 do nn.functional.linear(ms.randn(2, i), ms.randn(3, i)) end
  local list = ms.engines()
  lu.assertEquals(#list, 256)
  lu.assertEquals({ list[1].cin, list[256].cin }, { 45, 300 })
end

TestForce = { setUp = plain, tearDown = plain }

function TestForce:test_each_engine_agrees()
  local net = make()
  local want = { run(net) }
  for _, name in ipairs(ms.engines.available()) do
    ms.engines.force(name)
    local got = { run(net) }
    for i, t in ipairs(got) do s.near(t, want[i], 2e-3, name .. " result " .. i) end
    lu.assertEquals(ms.engines().forced, name)
    if name == "event" or name == "gemm" then
      lu.assertEquals(entry("3.weight", "forward").engine, name)
      lu.assertEquals(entry("3.weight", "forward").reason, "forced")
      lu.assertEquals(entry("3.weight", "weight grad").engine, name)
    end
  end
  ms.engines.force(false)
  lu.assertNil(ms.engines().forced)
end

function TestForce:test_one_module()
  local net = make()
  ms.engines.set_table(rows(1))
  ms.engines.force("gemm", net[4])
  run(net)
  lu.assertEquals(entry("3.weight", "forward").engine, "gemm")
  lu.assertEquals(entry("3.weight", "weight grad").engine, "gemm")
  lu.assertEquals(entry("6.weight", "weight grad").reason:find "forced", nil)
  lu.assertEquals(ms.engines().forced_layers, { ["3.weight"] = "gemm" })
  lu.assertStrContains(tostring(ms.engines()), "gemm on 3.weight")
  ms.engines.force(nil, net[4])
  run(net)
  lu.assertEquals(entry("3.weight", "forward").engine, "event")
  ms.engines.force("gemm", net)
  ms.engines.force()
  lu.assertEquals(ms.engines().forced_layers, {})
end

function TestForce:test_errors()
  s.raises('engines: force: expected one of ' .. table.concat(ms.engines.available(), ", ") .. ', got "x"', ms.engines.force, "x")
  s.raises("engines: force: engine: expected a name, nil or false, got 3", ms.engines.force, 3)
  s.raises("engines: force: module: expected a module, got 'conv'", ms.engines.force, "gemm", "conv")
  s.raises("engines: force: module: expected one with a weight that has a name, got LIF", ms.engines.force, "gemm", nn.LIF())
  lu.assertNil(ms.engines().forced)
  s.raises("engines has no 'forced' (known: available, calibrate", function() return ms.engines.forced end)
end

function TestForce:test_deterministic()
  lu.assertFalse(ms.deterministic())
  lu.assertTrue(ms.deterministic(true))
  lu.assertTrue(ms.deterministic())
  lu.assertTrue(ms.engines().deterministic)
  run(make())
  for _, use in ipairs(ms.engines()) do lu.assertFalse(core.engines.is_loose(use.engine), use.engine) end
  lu.assertFalse(ms.deterministic(false))
  s.raises("deterministic: on: expected true or false, got 1", ms.deterministic, 1)
  for _, name in ipairs(ms.engines.available()) do lu.assertEquals(core.engines.is_loose(name), name == "onednn", name) end
end

-- Two steps of a training, as bytes: losses, gradients, weights, running statistics.
local function trained()
  ms.manual_seed(5)
  local net = nn.Sequential { nn.Conv2d(2, 32, 3, { padding = 1, bias = false }), nn.BatchNorm2d(32), nn.LIF(), nn.AvgPool2d(2),
    nn.Conv2d(32, 32, 3, { padding = 1 }), nn.tdBN(32), nn.LIF(), nn.Conv2d(32, 32, 3, { stride = 2, groups = 2 }), nn.PLIF(), nn.Flatten(),
    nn.Linear(32 * 9, 10) }
  local criterion, opt = ms.loss.TRT(net), ms.optim.Adam(net:parameters(), { lr = 0.01 })
  local text = {}
  for _ = 1, 2 do
    opt:zero_grad()
    local l = criterion(net(ms.randn(3, 8, 2, 16, 16)), ms.randint(0, 10, { 8 }, { dtype = "int64" }))
    l:backward()
    text[#text + 1] = l:bytes()
    for _, p in ipairs(net:parameters()) do text[#text + 1] = p.grad:bytes() end
    opt:step()
  end
  for _, t in pairs(net:state_dict()) do text[#text + 1] = t:bytes() end
  return table.concat(text)
end

-- Events never or always, in both precisions: a training is the same to the last bit whatever the number of threads.
function TestForce:test_deterministic_for_any_number_of_threads()
  local threads, mode = core.device.threads(), ms.autocast()
  ms.deterministic(true)
  for limit = 0, 1 do
    for _, precision in ipairs { "float32", "bf16" } do
      ms.engines.set_table({ rows(limit)[1], rows(limit, "bfloat16")[1] })
      ms.autocast(precision)
      ms.engines.reset()
      local first, events = nil, 0
      for n = 1, 3 do
        core.device.threads(n)
        local bytes = trained()
        first = first or bytes
        lu.assertTrue(bytes == first, ("%s, limit %d: %d threads end differently"):format(precision, limit, n))
      end
      for _, use in ipairs(ms.engines()) do
        lu.assertFalse(core.engines.is_loose(use.engine), use.engine)
        if use.engine == "event" then events = events + 1 end
      end
      lu.assertEquals(events > 0, limit == 1, precision)
    end
  end
  core.device.threads(threads)
  ms.autocast(mode)
end

TestTable = { setUp = plain, tearDown = plain }

function TestTable:test_limits_turn_events_off_and_on()
  local net = make()
  for limit, events in pairs { [0] = false, [1] = true } do
    ms.engines.set_table(rows(limit))
    run(net)
    lu.assertEquals(entry("3.weight", "forward").engine == "event", events)
    lu.assertEquals(entry("3.weight", "weight grad").engine == "event", events)
    lu.assertEquals(ms.engines().table, "set")
  end
  ms.engines.set_table {}
  run(net)
  lu.assertNotEquals(entry("3.weight", "forward").engine, "event")
  ms.engines.set_table(nil)
  lu.assertEquals(ms.engines().table, "shipped")
end

function TestTable:test_rows_come_back()
  local shipped = ms.engines.table()
  lu.assertTrue(#shipped > 0)
  ms.engines.set_table(shipped)
  lu.assertEquals(ms.engines.table(), shipped)
  ms.engines.set_table { { taps = 9, forward = 0.5, weight_grad = 0.25 } }
  lu.assertEquals(ms.engines.table(), { { taps = 9, cin = 1, cout = 1, precision = "float32", forward = 0.5, weight_grad = 0.25, forward_counts = 0.5,
    weight_grad_counts = 0.25, input_grad = 0.0 } })
end

function TestTable:test_errors_change_nothing()
  local before = ms.engines.table()
  s.raises("engines: table: row 1: unknown option 'tabs' (known: taps, ", ms.engines.set_table, { { tabs = 1 } })
  s.raises("engines: table: row 2: forward: expected a number, got x", ms.engines.set_table, { { forward = 0 }, { forward = "x" } })
  s.raises("engines: table: row 1: expected limits from 0 to 1, got 1.5", ms.engines.set_table, { { forward = 1.5 } })
  s.raises("engines: table: row 1: expected limits from 0 to 1, got ", ms.engines.set_table, { { forward = 0 / 0 } })
  s.raises("engines: table: row 1: precision: expected one of float32, bfloat16, got half", ms.engines.set_table, { { precision = "half" } })
  s.raises("engines: table: row 1: expected a table, got number", ms.engines.set_table, { 1 })
  s.raises("engines: table: expected a list of rows, got a table with the key 'forward'", ms.engines.set_table, { forward = 1 })
  s.raises("engines: table: expected a list of rows, got 'shipped'", ms.engines.set_table, "shipped")
  local many = {}
  for i = 1, 1000 do many[i] = { forward = 0.5 } end
  s.raises("engines: table: expected fewer rows, got 1000", ms.engines.set_table, many)
  lu.assertEquals(ms.engines.table(), before)
  lu.assertEquals(ms.engines().table, "shipped")
end

function TestTable:test_files()
  local mine = rows(0.125)
  ms.engines.set_table(mine)
  ms.engines.save(path "table.json")
  plain()
  ms.engines.load(path "table.json")
  lu.assertEquals(ms.engines.table(), mine)
  lu.assertEquals(ms.engines().table, "loaded")
  s.raises("engines: save: path: expected a string, got nil", ms.engines.save)
  s.raises("engines: save: ", ms.engines.save, path "none/table.json")
end

function TestTable:test_hostile_files()
  local before = ms.engines.table()
  local function file(text, expected)
    s.write(path "bad.json", text)
    s.raises(expected, ms.engines.load, path "bad.json")
    lu.assertEquals(ms.engines.table(), before)
  end
  local head = '{"format":"moonspike engines","version":1,"table":'
  file("", "engines: load: ")
  file("\0\0\0", "engines: load: ")
  file("[1, 2", "engines: load: ")
  file("7", "expected a file written by ms.engines.save")
  file('{"format":"moonspike engines","version":2}', "expected version 1, got 2")
  file('{"format":"moonspike engines","version":1}', "engines: table: expected a list of rows, got nil")
  file(head .. '{"a":1}}', "a table with the key 'a'")
  file(head .. "[1]}", "row 1: expected a table, got number")
  file(head .. '[{"taps":1e300}]}', "row 1: taps: expected an integer")
  file(head .. '[{"forward":-1}]}', "row 1: expected limits from 0 to 1, got -1")
  file(head .. '[{"forward":null}]}', "row 1: forward: expected a number")
  file(head .. '[{"precision":[]}]}', "row 1: precision: expected a string")
  file(head .. '[{"__index":1}]}', "row 1: unknown option '__index'")
  file(head .. "[" .. ("{},"):rep(5000) .. "{}]}", "expected fewer rows, got 5001")
  file((" "):rep((1 << 20) + 1), "expected at most 1048576 bytes")
  s.raises("engines: load: ", ms.engines.load, path "nothing.json")
  s.raises("engines: load: ", ms.engines.load, folder)
end

TestCalibrate = { setUp = plain, tearDown = plain }

local function sane(list)
  for _, row in ipairs(list) do
    for _, key in ipairs { "forward", "weight_grad", "forward_counts", "weight_grad_counts", "input_grad" } do
      lu.assertTrue(row[key] >= 0 and row[key] <= 1, key)
    end
  end
end

function TestCalibrate:test_a_tiny_budget()
  local net = make()
  run(net)
  ms.engines.force "gemm"
  local seed, draws = core.random.state()
  local list = ms.engines.calibrate { seconds = 0.01, quiet = true, net = net }
  lu.assertEquals({ core.random.state() }, { seed, draws })
  lu.assertEquals(list, ms.engines.table())
  lu.assertEquals(ms.engines().table, "calibrated")
  lu.assertEquals(ms.engines().forced, "gemm")
  sane(list)
  local shapes = {}
  for i, row in ipairs(list) do shapes[i] = { row.taps, row.cin, row.cout } end
  lu.assertEquals(shapes, { { 9, 32, 16 }, { 9, 2, 32 }, { 1, 4096, 10 } })
end

function TestCalibrate:test_without_a_network()
  local shipped = ms.engines.table()
  local list = ms.engines.calibrate { seconds = 0.001, quiet = true }
  sane(list)
  lu.assertTrue(#list >= 9)
  for i = 2, #list do -- the most demanding rows come first, and what no time was left for stays
    local a, b = list[i - 1], list[i]
    lu.assertTrue(a.precision ~= b.precision or a.taps > b.taps or a.taps == b.taps and (a.cin > b.cin or a.cin == b.cin and a.cout > b.cout))
  end
  for _, row in ipairs(list) do
    if row.precision == "float32" and row.taps == 9 and row.cin == 16 then
      local before = 0
      for i = #shipped, 1, -1 do -- the first that fits decides
        local old = shipped[i]
        if old.precision == "float32" and old.taps <= 9 and old.cin <= 16 and old.cout <= row.cout then before = old.forward end
      end
      lu.assertEquals(row.forward, before)
    end
  end
end

function TestCalibrate:test_interrupted()
  s.write(path "slow.lua", [[
    local ms = require "moonspike"
    local before = ms.engines.table()
    os.execute("(sleep 0.3; kill -INT " .. ms.system.pid() .. ") &")
    local done, why = pcall(ms.engines.calibrate, { seconds = 100, quiet = true })
    local after, same = ms.engines.table(), true
    for i, row in ipairs(before) do for k, v in pairs(row) do same = same and after[i][k] == v end end
    print(done, why, same and #before == #after, ms.engines().table)
  ]])
  local code, text = s.run(path "slow.lua", "MOONSPIKE_DEVICE=cpu")
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "interrupted!")
  lu.assertStrContains(text, "true\tshipped")
end

function TestCalibrate:test_errors()
  s.raises("engines: calibrate: unknown option 'time' (known: net, quiet, seconds)", ms.engines.calibrate, { time = 1 })
  s.raises("engines: calibrate: seconds: expected a number > 0, got 0", ms.engines.calibrate, { seconds = 0 })
  s.raises("engines: calibrate: net: expected a module, got 'net'", ms.engines.calibrate, { net = "net" })
  s.raises("engines: calibrate: net: expected a network that has run", ms.engines.calibrate, { net = make() })
  s.raises("engines: measure: kernel: expected 1 to 4096, got 0", core.engines.measure, { kernel = 0 }, 1)
  s.raises("engines: measure: cin: expected 1 to 1048576, got -1", core.engines.measure, { cin = -1 }, 1)
  s.raises("engines: measure: expected a kernel that fits the image", core.engines.measure, { kernel = 3 }, 1)
  lu.assertEquals(ms.engines().table, "shipped")
end

TestRuns = { setUp = plain, tearDown = plain }

function TestRuns:test_a_checkpoint_brings_the_choice_back()
  local net = make()
  local mine = rows(0.25)
  ms.engines.set_table(mine)
  ms.deterministic(true)
  ms.engines.force "gemm"
  ms.engines.force("event", net[4])
  ms.checkpoint(path "state", { model = net })
  plain()
  ms.resume(path "state", { model = net })
  lu.assertEquals(ms.engines.table(), mine)
  local report = ms.engines()
  lu.assertEquals({ report.table, report.deterministic, report.forced, report.forced_layers }, { "set", true, "gemm", { ["3.weight"] = "event" } })
  plain()
  ms.checkpoint(path "plain", { model = net })
  ms.engines.set_table(mine)
  ms.engines.force "event"
  ms.resume(path "plain", { model = net })
  lu.assertEquals({ ms.engines().table, ms.engines().forced }, { "shipped", nil })
end

-- A checkpoint of net whose record of engines is changed first.
local function edited(change)
  local net = nn.Linear(2, 2)
  ms.checkpoint(path "whole", { model = net })
  local file <close> = assert(core.checkpoint.open(path "whole"))
  local state = core.json.decode(file:metadata().moonspike)
  state.engines.used = core.json.array {} -- tests before this one ran any
  change(state.engines, state)
  local list = {}
  for _, name in ipairs(file:names()) do list[#list + 1] = { name, (file:tensor(name)) } end
  assert(core.checkpoint.write(path "edited", list, { format = "pt", moonspike = core.json.encode(state) }))
  return net
end

function TestRuns:test_a_damaged_record()
  local function damaged(text, change)
    local net = edited(change)
    s.raises(text, ms.resume, path "edited", { model = net })
    lu.assertEquals({ ms.engines().table, ms.engines().forced }, { "shipped", nil })
  end
  damaged("engines: expected lists of names", function(e) e.used = 3 end)
  damaged("engines: expected lists of names", function(e) e.forced_layers = { a = 1 } end)
  damaged("engines: deterministic: expected true or false", function(e) e.deterministic = "no" end)
  damaged("engines: forced: expected a name", function(e) e.forced = {} end)
  damaged("engines: expected a table, got 4", function(_, state) state.engines = 4 end)
  damaged("engines: table: row 1: expected limits from 0 to 1, got 2", function(e) e.table = rows(2) end)
  damaged("engines: table: expected a list of rows", function(e) e.table = { forward = 1 } end)
end

local function resumed()
  local _, text = s.run("-e", "MOONSPIKE_DEVICE=cpu", ([["local ms = require 'moonspike' ms.threads(2) ms.resume('%s', { model = ms.nn.Linear(2, 2) })"]]):format(path "edited"))
  return text
end

function TestRuns:test_warnings()
  edited(function(_, state) state.threads = 1 end)
  lu.assertEquals(resumed(), "")
  edited(function(e, state) state.threads, e.used = 1, { "gemm", "onednn" } end)
  lu.assertStrContains(resumed(), "was written with 1 threads, this run has 2")
  edited(function(e, state) state.threads, e.used, e.deterministic = 1, { "onednn" }, true end)
  lu.assertEquals(resumed(), "")
  edited(function(e) e.available = { "gemm", "magic" } end)
  lu.assertStrContains(resumed(), "had the engines gemm, magic, here are ")
  edited(function(e) e.forced = "magic" end)
  lu.assertStrContains(resumed(), "forced the engine magic, which is not here")
  edited(function(e) e.device = "cuda" end)
  lu.assertStrContains(resumed(), "ran on cuda, this run is on cpu")
  edited(function(_, state) state.engines = nil end)
  lu.assertEquals(resumed(), "")
end

function TestRuns:test_a_log_says_what_it_runs_on()
  ms.engines.set_table(rows(0.5))
  local log = assert(ms.log(path "log.jsonl", { append = false }))
  log { epoch = 1 }
  log { epoch = 2 }
  log:close()
  assert(ms.log(path "log.jsonl")) { epoch = 3 }
  local read = ms.log.read(path "log.jsonl")
  lu.assertEquals({ #read, read[1].epoch, read[3].epoch, #read.runs }, { 3, 1, 3, 2 })
  local run_record = read.runs[1]
  lu.assertEquals(run_record.threads, core.device.threads())
  lu.assertEquals({ run_record.device, run_record.origin, run_record.deterministic }, { "cpu", "set", false })
  lu.assertEquals(run_record.available, ms.engines.available())
  lu.assertEquals(run_record.table, rows(0.5))
end

function TestRuns:test_help()
  local doc = require "moonspike.doc"
  lu.assertStrContains(doc.get(ms.engines), "ms.engines() -> report")
  lu.assertStrContains(doc.get(ms.deterministic), "oneDNN")
  for name, f in pairs(ms.engines) do lu.assertStrContains(core.help[f], "ms.engines." .. name) end
end

local code = lu.LuaUnit.run()
s.remove(folder)
os.exit(code == 0)
