-- What test_cuda_loader.c runs: batches on the device "cuda" beside those that the CPU is given. Nothing looks at a batch before it is asked
-- for, so that with EMU_LAZY=1 no copy is done until the memory that it reads is wanted again.
local ms = require "moonspike"

local N, BATCH = 90, 8
local tests = {}

ms.device "cpu"
local images = (ms.rand(N, 3, 6, 5) * 255):floor():to "uint8"
local labels = ms.randint(0, 5, { N })
local others = 255 - images

local function set(how)
  local options = { images = images, labels = labels, batch_size = BATCH, seed = 3, T = 1, mean = { 0.1, 0.2, 0.3 }, std = 0.5 }
  for key, value in pairs(how) do options[key] = value end
  if how.movies then
    options.images, options.labels, options.T, options.movies = images:view(N // 3, 3, 3, 6, 5):float(), labels:narrow(1, 1, N // 3), nil, nil
  end
  return ms.data.FromTensors(options)
end

-- The first n batches of an epoch (all of them).
local function take(from, n)
  local list = {}
  for x, y in from do
    list[#list + 1] = { x, y }
    if #list == n then break end
  end
  return list
end

local function compare(got, want, device)
  assert(#got == #want, "another number of batches")
  for i, b in ipairs(got) do
    for k = 1, 2 do
      assert(b[k].device == device, "on another device")
      assert(b[k]:to("cpu"):bytes() == want[i][k]:bytes(), ("batch %d differs"):format(i))
    end
  end
end

local function on(device, f, ...)
  ms.device(device)
  local list = f(...)
  ms.device "cpu"
  return list
end

local function each(f)
  for _, how in ipairs {
    { shuffle = true, augment = { crop = 2, flip = true, cutout = 3 } }, { balanced = true, augment = "nda", drop_last = true }, { limit = 50 },
    { movies = true, shuffle = true, augment = { crop = 2 } },
  } do
    for _, where in ipairs { { workers = 0 }, { workers = 1 }, { workers = 3 }, { resident = true } } do
      how.workers, how.resident = where.workers, where.resident or false
      f(how)
    end
  end
end

function tests.values()
  each(function(how)
    local there, here = set(how), set(how)
    local got, want = {}, {}
    for epoch = 1, 2 do got[epoch], want[epoch] = on("cuda", take, there), take(here) end
    for epoch = 1, 2 do compare(got[epoch], want[epoch], "cuda") end
  end)
end

-- Made for one device, used on others in turn.
function tests.other_devices()
  local second = ms.cuda.device_count() > 1 and "cuda:1" or "cuda"
  each(function(how)
    for _, maker in ipairs { "cuda", second, "cpu" } do
      local there, got, want = set(how), {}, {}
      on(maker, there.loader, there)
      local devices, control, i = { second, "cuda", "cpu" }, nil, 0
      while true do
        ms.device(devices[i % 3 + 1])
        local x, y = there(nil, control)
        if not x then break end
        i, control = i + 1, x
        got[i] = { x, y }
      end
      ms.device "cpu"
      want = take(set(how))
      assert(#got == #want)
      for k = 1, #got do compare({ got[k] }, { want[k] }, devices[(k - 1) % 3 + 1]) end
    end
  end)
end

-- Closed, or collected, with copies under way: memory that the next loader gets is not written before they are done.
function tests.closed()
  for n = 1, 7 do
    for _, close in ipairs { true, false } do
      local first, second = set { workers = 2, resident = false }, set { workers = 2, resident = false, images = others }
      local got = on("cuda", take, first, n)
      if close then first:close() end
      first = nil
      collectgarbage()
      collectgarbage()
      local after = on("cuda", take, second)
      compare(got, take(set { workers = 0 }, n), "cuda")
      compare(after, take(set { workers = 0, images = others }), "cuda")
    end
  end
end

local left

-- Open, with copies under way, when the program ends.
function tests.left_open()
  left = set { workers = 2, resident = false }
  on("cuda", take, left, 3)
end

local function network()
  ms.manual_seed(5)
  local net = ms.nn.Sequential { ms.nn.Conv2d(3, 4, 3, { padding = 1 }), ms.nn.BatchNorm2d(4), ms.nn.LIF(), ms.nn.Flatten(), ms.nn.Linear(4 * 6 * 5, 5) }
  local opt, criterion = ms.optim.Adam(net:parameters(), { lr = 1e-2 }), ms.loss.TET { mu = 0.05 }
  return net, function(x, y)
    opt:zero_grad()
    local l = criterion(net(x), y)
    l:backward()
    opt:step()
    return l
  end
end

-- A function that takes the next batch and trains with it.
function tests.training(resident)
  ms.device "cuda"
  local _, step = network()
  local batches = set { shuffle = true, augment = { crop = 2, flip = true }, workers = resident and 0 or 2, resident = resident }
  local loader = batches:loader()
  return function()
    local x, y = loader:next()
    if not x then x, y = loader:next() end
    step(x:expand(2, x.shape[2], 3, 6, 5), y)
  end
end

-- A captured step takes its batches from a set, and ends like a plain one; a set that is collected while it is recorded changes nothing.
function tests.captured()
  ms.device "cuda"
  for _, resident in ipairs { false, true } do
    local ends = {}
    for run = 1, 2 do
      local net, step = network()
      local given_up, calls = nil, 0
      local function also(x, y)
        calls, given_up = calls + 1, nil
        collectgarbage()
        return step(x, y)
      end
      local use, losses = run == 1 and also or ms.capture(also), {}
      local batches = set { shuffle = true, drop_last = true, augment = { flip = true }, workers = 2, resident = resident }
      for epoch = 1, 2 do
        for x, y in batches do
          given_up = set { workers = 1, resident = false, limit = 20 }
          take(given_up, 2)
          losses[#losses + 1] = use(x:expand(2, x.shape[2], 3, 6, 5), y):clone()
        end
      end
      assert(run == 1 or calls == 2, "the step was not replayed")
      ends[run] = {}
      for _, list in ipairs { losses, net:parameters() } do
        for i, t in ipairs(list) do table.insert(ends[run], t:detach():bytes()) end
      end
    end
    assert(table.concat(ends[1]) == table.concat(ends[2]), "a captured training ends differently")
  end
  for _, where in ipairs {
    { resident = false, text = "a loader begins" }, { resident = false, opened = true, text = "the next batch is made by the host" },
    { resident = true, opened = true, text = "the next batch is drawn by the host" },
  } do
    local inside = set { workers = 1, resident = where.resident }
    if where.opened then inside:loader() end
    local f = ms.capture(function(x)
      for y in inside do return x + y:sum() end
    end)
    for _ = 1, 2 do
      local ok, why = pcall(f, ms.ones(3))
      assert(not ok and why:find("captured step: " .. where.text, 1, true), why)
    end
    assert(#take(inside) == 12)
  end
end

return tests
