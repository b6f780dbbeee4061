-- Loss landscapes: golden filter normalisation (G8), a quadratic loss in closed form, files that go on byte for byte, weights that come back.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local directions = require "moonspike.analysis.directions"
local nn, landscape = ms.nn, ms.analysis.landscape

local folder = s.folder()
local function path(name) return folder .. "/" .. name end

local function net_of(more, neuron)
  ms.manual_seed(5)
  return nn.Sequential {
    nn.Conv2d(1, 4, 3, { padding = 1 }), nn.BatchNorm2d(4), neuron or nn.LIF(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3), more,
  }
end

local images, labels = ms.rand(22, 4, 4, { key = "images" }) * 4, ms.randint(0, 3, { 22 }, { key = "labels" })

local function set_of(more)
  local options = { images = images, labels = labels, T = 2, batch_size = 8 }
  for key, value in pairs(more or {}) do options[key] = value end
  return ms.data.FromTensors(options)
end

local function bytes(net)
  local list = {}
  for name, t in pairs(net:state_dict()) do list[#list + 1] = name .. t:detach():bytes() end
  return table.concat(list)
end

TestDirections = {}

function TestDirections:test_golden()
  local d, w = ms.tensor { { 3, 4 }, { 0, 2 } }, ms.tensor { { .6, .8 }, { 0, -.5 } }
  s.near(directions.normalise(d, w, "filter"), { .6, .8, 0, .5 })
  local scale = math.sqrt(1.25 / 29)
  s.near(directions.normalise(d, w, "layer"), { 3 * scale, 4 * scale, 0, 2 * scale })
end

local plain = { seed = 123, directions = 2, norm = "filter", ignore = "biasbn" }
local function with(changes)
  local out = {}
  for key, value in pairs(plain) do out[key] = value end
  for key, value in pairs(changes) do out[key] = value end
  return out
end

-- By seed and name alone; filters as long as the weights'; what has one dimension stays.
function TestDirections:test_drawn()
  ms.manual_seed(1)
  local net = net_of()
  local list, same = directions.make(net, plain), directions.make(net_of(nn.Linear(3, 3)), plain)
  lu.assertEquals(#list, 2)
  lu.assertTrue(list[1].p == net[1].weight and list[2].p == net[6].weight)
  for i = 1, 2 do
    for axis = 1, 2 do
      lu.assertEquals(list[i][axis]:bytes(), same[i][axis]:bytes())
      local rows = list[i].p.shape[1]
      s.near(list[i][axis]:reshape(rows, -1):norm(2), list[i].p:detach():reshape(rows, -1):norm(2), 1e-5)
    end
    lu.assertNotEquals(list[i][1]:bytes(), list[i][2]:bytes())
    lu.assertNotEquals(directions.make(net, with { seed = 124 })[i][1]:bytes(), list[i][1]:bytes())
  end
  local all = directions.make(net, with { ignore = "none" })
  lu.assertEquals(#all, 6)
  lu.assertTrue(all[2].p == net[1].bias and ms.equal(all[2][1], net[1].bias:detach()))
end

TestQuadratic = {}

local A = ms.tensor { { 1, 2 }, { 3, .5 } }

-- Logits [1, 2, 2] are the transposed weights; the loss is sum A W^2.
local function toy()
  local net = nn.Linear(2, 2, { bias = false })
  ms.no_grad(function() net.weight:copy_(ms.tensor { { .5, -.25 }, { 1, .1 } }) end)
  local function loader(_, control)
    if control == nil then return ms.tensor { { { 1, 0 }, { 0, 1 } } }, ms.zeros({ 2 }, { dtype = "int64" }) end
  end
  return net, loader, function(logits) return (logits[1]:t():square() * A):sum() end
end

local function product(a, b) return (A * a * b):sum():item() end

function TestQuadratic:test_plane()
  local net, loader, criterion = toy()
  local l = landscape(net, loader, { directions = 2, points = 9, from = -1, to = 1, criterion = criterion })
  local e = directions.make(net, plain)[1]
  local w, d1, d2 = e.start, e[1], e[2]
  lu.assertEquals({ #l.x, #l.y, #l.z, #l.z[9], l.x[1], l.x[5], l.y[9], l.done, l.total }, { 9, 9, 9, 9, -1, 0, 1, 81, 81 })
  s.near(l.x, { -1, -.75, -.5, -.25, 0, .25, .5, .75, 1 })
  local function at(a, b)
    local moved = w + d1 * a + d2 * b
    return product(moved, moved)
  end
  for j = 1, 9 do
    for i = 1, 9 do s.near(l.z[j][i], at(l.x[i], l.y[j]), 1e-5, ("point %d, %d"):format(i, j)) end
  end
  s.near(l.centre.loss, product(w, w), 1e-6)
  s.near(l.cosine, (d1 * d2):sum():item() / (d1:norm() * d2:norm()):item(), 1e-5)
  local f, max, sum, n = l:sharpness { radius = .75 }, 0, 0, 0
  for i = -3, 3 do
    for j = -3, 3 do
      if i * i + j * j <= 9 then
        local rise = at(i / 4, j / 4) - product(w, w)
        max, sum, n = math.max(max, rise), sum + rise, n + 1
      end
    end
  end
  s.near({ f.max, f.mean, f.points, f.radius }, { max, sum / n, n, .75 }, 1e-5)
  local xx, yy, xy = 2 * product(d1, d1), 2 * product(d2, d2), 2 * product(d1, d2)
  s.near(f.curvature, { xx, yy }, 1e-4)
  s.near(f.largest, (xx + yy) / 2 + math.sqrt((xx - yy) ^ 2 / 4 + xy ^ 2), 1e-4)
  lu.assertStrContains(tostring(f), ("within 0.75 of the centre (%d points): loss rises by at most "):format(n))
  lu.assertStrContains(tostring(l), "81 of 81 points, 9 to a direction, from -1 to 1; directions by seed 123, normalised by filter, their cosine")
end

function TestQuadratic:test_line()
  local net, loader, criterion = toy()
  local l = landscape(net, loader, { points = 4, from = -.5, to = 1, criterion = criterion, seed = 9, norm = "layer" })
  local e = directions.make(net, with { directions = 1, seed = 9, norm = "layer" })[1]
  s.near(l.x, { -.5, 0, .5, 1 })
  lu.assertNil(l.y)
  for i, a in ipairs(l.x) do
    local moved = e.start + e[1] * a
    s.near(l.z[i], product(moved, moved), 1e-5)
  end
  s.near(l:sharpness({ radius = 1 }).curvature, { 2 * product(e[1], e[1]) }, 1e-4)
  lu.assertEquals(#l:sharpness({ radius = 1 }).curvature, 1)
  s.raises("sharpness: radius: expected one that holds enough points of the grid for a fit of second order, got 0.4, which holds 1",
    l.sharpness, l, { radius = .4 })
  s.raises("sharpness: radius: expected one that holds enough points of the grid for a fit of second order, got 0.01, which holds 0",
    function() landscape(net, loader, { points = 2 }):sharpness { radius = .01 } end)
end

TestNets = {}

-- Every point by ms.evaluate on weights that were moved by hand; what may not change does not.
function TestNets:test_against_evaluate()
  local net = net_of()
  net[2]:eval()
  net[1].bias:requires_grad_(false)
  local before, list = bytes(net), directions.make(net, with { directions = 1 })
  local want = {}
  ms.no_grad(function()
    for i, a in ipairs { -1, -.5, 0, .5, 1 } do
      for _, e in ipairs(list) do e.p:copy_(e.start + e[1] * a) end
      want[i] = { ms.evaluate(net, set_of()) }
    end
    for _, e in ipairs(list) do e.p:copy_(e.start) end
  end)
  lu.assertEquals(bytes(net), before)
  local sets = {
    set_of(), set_of { shuffle = true, drop_last = true, augment = { flip = true, crop = 1 }, balanced = true },
    ms.data.Dataset { size = 22, T = 2, batch_size = 8, shuffle = true, drop_last = true,
      get = function(i) return images[i]:unsqueeze(1), labels[i] end },
  }
  for _, set in ipairs(sets) do
    for _ in set do break end
    local epoch, batch = set:position()
    local l = landscape(net, set, { points = 5 })
    for i = 1, 5 do lu.assertEquals({ l.accuracy[i], l.z[i] }, { want[i][1], want[i][2] }) end
    lu.assertEquals({ l.centre.accuracy, l.centre.loss }, { want[3][1], want[3][2] })
    lu.assertEquals({ set:position() }, { epoch, batch })
  end
  lu.assertEquals(bytes(net), before)
  lu.assertTrue(net.training and net[1].training and not net[2].training and ms.is_grad_enabled())
  lu.assertTrue(net[1].weight.grad == nil and net[1].weight.requires_grad)
end

function TestNets:test_errors_bring_the_weights_back()
  local net, calls = net_of(), 0
  local before = bytes(net)
  s.raises("boom", landscape, net, set_of(), { points = 3, criterion = function(logits)
    calls = calls + 1
    if calls == 4 then
      lu.assertNotEquals(bytes(net), before)
      error "boom"
    end
    return logits:sum()
  end })
  lu.assertEquals({ calls, bytes(net) == before, net.training }, { 4, true, true })
end

function TestNets:test_interrupt_brings_the_weights_back()
  s.write(path "interrupt.lua", ("local file = %q\n"):format(path "long.jsonl") .. [[
    local ms = require "moonspike"
    local net = ms.nn.Sequential { ms.nn.Linear(100, 400), ms.nn.LIF(), ms.nn.Linear(400, 3) }
    local before = net[1].weight:detach():bytes() .. net[3].weight:detach():bytes()
    local x, y, calls = ms.rand(4, 64, 100), ms.zeros({ 64 }, { dtype = "int64" }), 0
    local done, why = pcall(ms.analysis.landscape, net, function(_, again) if again == nil then return x, y end end,
      { directions = 2, points = 1001, file = file, criterion = function(logits)
        calls = calls + 1
        if calls == 3 then os.execute("(sleep 0.1; kill -INT " .. ms.system.pid() .. ") &") end
        return logits:sum()
      end })
    print(done, why, before == net[1].weight:detach():bytes() .. net[3].weight:detach():bytes(), net.training, ms.is_grad_enabled())
    local part = ms.analysis.read_landscape(file)
    print(part.done > 0, part.total, part.z[1][1] == part.z[1][1], part.z[1001][1001] ~= part.z[1001][1001])
  ]])
  local code, text = s.run(path "interrupt.lua", "MOONSPIKE_DEVICE=cpu")
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "interrupted!\ttrue\ttrue\ttrue\n")
  lu.assertStrContains(text, "true\t1002001\ttrue\ttrue\n")
end

-- Between backward and step, between captured steps and between epochs: a training ends with the same weights.
function TestNets:test_training_goes_on()
  local function trained(captured, call)
    local net = net_of()
    local set = set_of { shuffle = true }
    local criterion, opt = ms.loss.TRT(net, { lambda = 1e-2 }), ms.optim.Adam(net:parameters(), { lr = 1e-2 })
    local function step(x, y)
      opt:zero_grad()
      criterion(net(x), y):backward()
      if not captured then call(net, set) end
      opt:step()
    end
    if captured then step = ms.capture(step) end
    for _ = 1, 2 do
      for x, y in set do
        step(x, y)
        call(net, set)
      end
    end
    return bytes(net)
  end
  for _, captured in ipairs { false, true } do
    lu.assertTrue(trained(captured, function(net, set) landscape(net, set, { points = 2 }) end) == trained(captured, function() end))
  end
end

TestFiles = {}

local function options(file, more)
  local out = { directions = 2, points = 3, file = file and path(file), resume = file and true }
  for key, value in pairs(more or {}) do out[key] = value end
  return out
end

local function plain_values(l) return { l.x, l.y, l.z, l.accuracy, l.centre, l.cosine } end

function TestFiles:test_stopped_anywhere()
  local net = net_of()
  local want = landscape(net, set_of(), options "whole.jsonl")
  local text = s.read(path "whole.jsonl")
  local lines = select(2, text:gsub("\n", ""))
  lu.assertEquals({ lines, want.done, text:match '^{"landscape":{"T":2,"autocast":"float32",' ~= nil }, { 11, 9, true })
  lu.assertEquals(plain_values(landscape(net, set_of(), options())), plain_values(want))
  local again = ms.analysis.read_landscape(path "whole.jsonl")
  want.cosine = nil
  lu.assertEquals(plain_values(again), plain_values(want))
  lu.assertEquals({ again.done, again.total, again:sharpness({ radius = 2 }).points }, { 9, 9, 9 })
  -- killed in the middle of a line, at its end, in the first line, before it
  for _, keep in ipairs { #text - 1, #text, #text - 20, text:find("\n", 500), text:find("\n") + 5, text:find "\n", 30, 0 } do
    s.write(path "cut.jsonl", text:sub(1, keep))
    local part = ms.analysis.read_landscape(path "cut.jsonl")
    lu.assertEquals(part and part.done < 9 or keep, part and keep < #text or keep)
    local l = landscape(net, set_of(), options "cut.jsonl")
    lu.assertEquals(s.read(path "cut.jsonl"), text)
    l.cosine = nil
    lu.assertEquals(plain_values(l), plain_values(want))
  end
end

function TestFiles:test_what_is_no_landscape_stays()
  s.write(path "mine.txt", "my notes")
  s.raises("landscape: file: expected a landscape to go on with, got " .. path "mine.txt", landscape, net_of(), set_of(), options "mine.txt")
  lu.assertEquals(s.read(path "mine.txt"), "my notes")
end

-- An error at one of the points, then on.
function TestFiles:test_failed_and_resumed()
  local net = net_of()
  local function criterion(fail)
    local calls = 0
    return function(logits)
      calls = calls + 1
      if calls == fail then error "stop" end
      return logits:square():sum()
    end
  end
  landscape(net, set_of(), options("through.jsonl", { name = "squares", criterion = criterion() }))
  for stop = 1, 31, 7 do
    s.raises("stop", landscape, net, set_of(), options("broken.jsonl", { name = "squares", criterion = criterion(stop) }))
    landscape(net, set_of(), options("broken.jsonl", { name = "squares", criterion = criterion() }))
    lu.assertEquals(s.read(path "broken.jsonl"), s.read(path "through.jsonl"))
    os.remove(path "broken.jsonl")
  end
end

function TestFiles:test_what_is_not_finite()
  local net = net_of()
  local function infinite(logits) return logits:sum() * math.huge end
  local l = landscape(net, set_of(), options("nan.jsonl", { name = "infinite", criterion = infinite }))
  lu.assertStrContains(s.read(path "nan.jsonl"), '"loss":null')
  local again = landscape(net, set_of(), options("nan.jsonl", { name = "infinite", criterion = infinite }))
  for _, one in ipairs { l, again } do
    for j = 1, 3 do
      for i = 1, 3 do lu.assertTrue(one.z[j][i] ~= one.z[j][i]) end
    end
    lu.assertTrue(one.centre.loss ~= one.centre.loss and one.accuracy[1][1] == one.accuracy[1][1])
    local f = one:sharpness { radius = 2 }
    lu.assertTrue(f.max ~= f.max and f.mean ~= f.mean and f.largest ~= f.largest)
  end
end

function TestFiles:test_refusals()
  local net, set = net_of(), set_of()
  landscape(net, set, options "begun.jsonl")
  local text = s.read(path "begun.jsonl")
  s.raises("landscape: file: " .. path "begun.jsonl" .. " exists; resume = true goes on with it", landscape, net, set, { file = path "begun.jsonl" })
  local function refused(key, was, is, who, with_set, more)
    s.raises(("landscape: %s: %s: expected %s, with which it was begun, got %s"):format(path "begun.jsonl", key, was, is), landscape, who, with_set,
      options("begun.jsonl", more))
  end
  refused("seed", 123, 7, net, set, { seed = 7 })
  refused("points", 3, 4, net, set, { points = 4 })
  refused("directions", 2, 1, net, set, { directions = 1 })
  refused("from", "-1.0", "-0.5", net, set, { from = -.5 })
  refused("norm", '"filter"', '"layer"', net, set, { norm = "layer" })
  refused("ignore", '"biasbn"', '"none"', net, set, { ignore = "none" })
  refused("criterion", '"CE of the mean logits"', '"loss.LTS { label_smooth = 0 }"', net, set, { criterion = ms.loss.LTS() })
  refused("T", 2, 3, net, set_of { T = 3 })
  refused("batch_size", 8, 7, net, set_of { batch_size = 7 })
  refused("mean", "nothing", "[0.5]", net, set_of { mean = .5 })
  refused("members", ('"%s"'):format(set:hash()), ('"%s"'):format(set:subset({ 2, 1 }):hash()), net, set:subset { 2, 1 })
  ms.autocast("bf16", refused, "autocast", '"float32"', '"bf16"', net, set)
  local other = net_of()
  other[2].running_mean:add_(1)
  s.raises("weights: expected", landscape, other, set, options "begun.jsonl")
  s.raises("network: expected", landscape, net_of(nil, nn.LIF { tau = 8 }), set, options "begun.jsonl") -- no weight tells
  net:eval()
  net(images:narrow(1, 1, 2):unsqueeze(2):unsqueeze(1)) -- that it has run since is no other network
  lu.assertEquals(s.read(path "begun.jsonl"), text)
  lu.assertEquals(landscape(net, set, options("begun.jsonl", { from = -1.0 })).done, 9)
  -- functions, which all look alike
  local function loader(_, again) if again == nil then return images:unsqueeze(2):unsqueeze(1), labels end end
  local function sum(logits) return logits:sum() end
  for blamed, call in pairs { criterion = { set, sum }, loader = { loader }, ["criterion:"] = { set, setmetatable({}, { __call = sum }) } } do
    s.raises(("landscape: %s: expected, where resume goes on with a file, what can be told from others or the option name beside it, got a function")
      :format((blamed:gsub(":", ""))), landscape, net, call[1], options("functions.jsonl", { criterion = call[2] }))
  end
  lu.assertFalse(ms.system.exists(path "functions.jsonl"))
  landscape(net, loader, options("functions.jsonl", { name = "a", criterion = sum }))
  lu.assertEquals(landscape(net, loader, options("functions.jsonl", { name = "a", criterion = sum })).done, 9)
  s.raises('name: expected "a", with which it was begun, got "b"', landscape, net, loader, options("functions.jsonl", { name = "b", criterion = sum }))
  lu.assertEquals(landscape(net, loader, { points = 2, file = path "one.jsonl", criterion = sum }).done, 2) -- what is not gone on with needs none
  -- files that are none
  s.write(path "bad.jsonl", (text:gsub('"point":4', '"point":5', 1)))
  s.raises("landscape: file: " .. path "bad.jsonl" .. ": line 6: expected the settings of a landscape, then its points in order", landscape, net, set,
    options "bad.jsonl")
  s.write(path "bad.jsonl", "{}\n")
  s.raises("line 1: expected the settings", landscape, net, set, options "bad.jsonl")
  s.write(path "bad.jsonl", (text:gsub('"points":3', '"points":1000000', 1)))
  lu.assertEquals({ ms.analysis.read_landscape(path "bad.jsonl") },
    { nil, path "bad.jsonl" .. ": points: expected an integer >= 2 and <= 1001, got 1000000" })
  s.write(path "bad.jsonl", (text:gsub('"norm":"filter"', '"norm":null', 1)))
  lu.assertStrContains(select(2, ms.analysis.read_landscape(path "bad.jsonl")), "norm: expected one of 'filter', 'layer', got ")
  s.write(path "bad.jsonl", "")
  lu.assertEquals({ ms.analysis.read_landscape(path "bad.jsonl") }, { nil, path "bad.jsonl" .. ": holds no landscape" })
  lu.assertStrContains(select(2, ms.analysis.read_landscape(path "none.jsonl")), "No such file")
  lu.assertStrContains(select(2, ms.analysis.read_landscape(folder)), "not a file of lines")
  s.raises("sharpness: expected a finished landscape, got 1 of 9 points", function()
    s.write(path "short.jsonl", text:match "^[^\n]*\n[^\n]*\n[^\n]*\n")
    ms.analysis.read_landscape(path "short.jsonl"):sharpness()
  end)
end

function TestFiles:test_arguments()
  local net, set = net_of(), set_of()
  s.raises("landscape: net: expected a module, got nil", landscape)
  s.raises("landscape: loader: expected a data set or an iterator function, got nil", landscape, net)
  s.raises("evaluate: loader: expected at least one batch, got none", landscape, net, function() end)
  s.raises("landscape: directions: expected an integer >= 1 and <= 2, got 3", landscape, net, set, { directions = 3 })
  s.raises("landscape: to: expected a number > from = 1, got 0", landscape, net, set, { from = 1, to = 0 })
  s.raises("landscape: file: expected the one to go on with, got nothing", landscape, net, set, { resume = true })
  s.raises("landscape: file: ", landscape, net, set, { file = folder .. "/none/x.jsonl" })
  s.raises("landscape: net: expected weights of two dimensions or more, got none", landscape, nn.BatchNorm2d(1), set)
  s.raises("landscape: norm: expected one of 'filter', 'layer', got 'row'", landscape, net, set, { norm = "row" })
  s.raises("evaluate: criterion: expected a tensor of one element as result, got 3", landscape, net, set, { criterion = function() return 3 end })
  s.raises("sharpness: unknown option 'r' (known: radius)", function() landscape(net, set, { points = 3 }):sharpness { r = 1 } end)
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
