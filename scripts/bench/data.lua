-- Our side of data.sh: moonspike scripts/bench/data.lua events PROFILE FOLDER COUNT | serve CASE VARIANT FOLDER
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local ms = require "moonspike"
local say = require "protocol".say
local data, clock = ms.data, ms.system.clock
local task, case, variant, folder = table.unpack(arg)

-- ---- recordings ----

-- Textures: recordings of about 200,000 events each (rcls), of about 5,000 (saccade3).
local function texture(size, k)
  local rows = {}
  for y = 1, size do
    rows[y] = {}
    for x = 1, size do
      rows[y][x] = math.floor(127.5 + 127.5 * math.sin(x * x / (30 + k % 17) + y / 2 + k) * math.cos(y * y / (40 + k % 23) - x / 3))
    end
  end
  return ms.tensor(rows, { dtype = "uint8" })
end

local function make_events(profile, out, count)
  local size, ending = profile == "rcls" and 32 or 28, profile == "rcls" and "aedat" or "bin"
  local images, paths = {}, {}
  for k = 1, count do
    images[k] = texture(size, k)
    paths[k] = ("%s/class%d/%05d.%s"):format(out, k % 10, k, ending)
    assert(ms.system.mkdir(("%s/class%d"):format(out, k % 10)))
  end
  local threshold = profile == "rcls" and 20000 or 46000
  assert(data.make_events { images = ms.stack(images), paths = paths, profile = profile, threshold = threshold, workers = 2 })
end

-- ---- pipelines ----

local few = { batch_size = 16, shuffle = true, T = 10, train = true, split = "all" }
local many = { batch_size = 64, shuffle = true, T = 1 }

local function with(base, extra)
  local opt = {}
  for _, t in ipairs { base, extra } do
    for key, value in pairs(t) do opt[key] = value end
  end
  return opt
end

local sets = {
  cifar = function(how) return data.CIFAR10(with(many, { root = folder, augment = "trt-cifar", resident = how == "resident" })) end,
  fashion = function(how) return data.FashionMNIST(with(many, { root = folder, augment = "cifar", resident = how == "resident" })) end,
  dvs = function() return data.EventFolder(with(few, { root = folder, augment = "trt-dvs" })) end,
  nmnist = function()
    return data.EventFolder(with(few, { root = folder, width = 34, height = 34, batch_size = 64, augment = { { "flip" }, { "roll", 2 } } }))
  end,
  jpeg = function() return data.ImageFolder(with(many, { root = folder, augment = { flip = true } })) end,
}
local function cached(own, sensor, how)
  how = how == "npz" and { root = folder .. ".frames", format = "frames" }
    or with(sensor, { root = folder, cache = folder .. ".cache", frames = { dtype = how == "bytes" and "uint8" or "float32" } })
  return data.EventFolder(with(few, with(own, how)))
end
sets["dvs.cache"] = function(how) return cached({ augment = "trt-dvs" }, {}, how) end
sets["nmnist.cache"] = function(how)
  return cached({ batch_size = 64, augment = { { "flip" }, { "roll", 2 } } }, { width = 34, height = 34 }, how)
end

-- Batches without end.
local function stream(set)
  return coroutine.wrap(function()
    while true do
      for x, y in set do coroutine.yield(x, y) end
    end
  end)
end

-- ---- the front page's training ----

local function training(workers)
  ms.manual_seed(42)
  local nn = ms.nn
  local set = data.FashionMNIST { root = folder, batch_size = 64, T = 4, shuffle = true, workers = workers or 0, augment = "cifar" }
  local net = nn.Sequential {
    nn.Conv2d(1, 32, 3, { padding = 1, bias = false }), nn.BatchNorm2d(32), nn.LIF { tau = 2.0 }, nn.AvgPool2d(2),
    nn.Conv2d(32, 64, 3, { padding = 1, bias = false }), nn.BatchNorm2d(64), nn.LIF { tau = 2.0 }, nn.AvgPool2d(2),
    nn.Flatten(), nn.Linear(64 * 7 * 7, 10),
  }
  local criterion = ms.loss.TRT(net, { lambda = 1e-5, delta = 0.25, eta = 0.05, epsilon = 1e-5 })
  local opt = ms.optim.Adam(net:parameters(), { lr = 1e-3 })
  local batches = stream(set)
  local same_x, same_y = batches()
  return function()
    local x, y = same_x, same_y
    if workers then x, y = batches() end
    opt:zero_grad()
    criterion(net(x), y):backward()
    opt:step()
    return x, y
  end
end

-- ---- the worker ----

local function serve()
  local set, batches
  if case == "training" then
    batches = training(tonumber(variant:match "^ours, (%d)"))
  else
    set = sets[case](variant:match "^ours, (.+)$")
    batches = stream(set)
  end
  local x = batches()
  say { shape = x.shape }
  for line in io.lines() do
    local name, seconds = line:match "^(%a+) ([%d.]+)$"
    if name == "run" then
      for _ = 1, case == "training" and 2 or 6 do batches() end -- what was made ahead while others had their turn
      say { begins = true }
      local n, took = 0, nil
      local start = clock()
      repeat
        local _, y = batches()
        n = n + y.shape[1]
        took = clock() - start
      until took >= tonumber(seconds)
      say { samples = n, wall = took }
    elseif name == "first" then
      if set then set:close() end
      local start = clock()
      if set then stream(set)() end
      local took = clock() - start
      if set then batches = stream(set) end
      say { wall = took }
    else
      break
    end
  end
end

if task == "events" then make_events(case, variant, tonumber(folder)) else serve() end
