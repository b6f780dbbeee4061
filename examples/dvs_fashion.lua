-- Event recordings from end to end: turns Fashion-MNIST into recordings of an event camera in a real file format, reads them back and trains a small
-- VGGSNN on them with TRT.
--   moonspike examples/dvs_fashion.lua                         N-MNIST's format: .bin, 34 x 34 pixels, three saccades
--   moonspike examples/dvs_fashion.lua --format aedat          CIFAR10-DVS's format: .aedat, 128 x 128 pixels resized to 48, six loops
-- The recordings are kept in --data and used again; weights, log.jsonl and curves.png go to --out.
local ms = require "moonspike"
local nn, loss, optim, data = ms.nn, ms.loss, ms.optim, ms.data

local opt = ms.arguments {
  usage = "moonspike examples/dvs_fashion.lua [options]",
  { "format", "bin", "of the recordings", choices = { "bin", "aedat" } }, { "limit", 4000, "training images, 0: all", from = 0 },
  { "epochs", 5, "epochs to train", from = 1 }, { "T", 10, "frames", from = 1 }, { "batch", 32, "batch size", from = 1 },
  { "lr", 2e-3, "Adam's learning rate, cosine to 0", from = 0 }, { "loss", "trt", "what is trained", choices = { "sdt", "tet", "trt" } },
  { "seed", 42, "of weights and order" }, { "device", "auto", "cpu, cuda or auto" }, { "data", "data/dvs-fashion", "folder of the recordings" },
  { "out", "runs/dvs_fashion", "folder of the results" },
}
ms.manual_seed(opt.seed)
ms.arguments.try("--device", ms.device, opt.device)

-- ---- recordings ----

local here = arg[0]:match "^(.*)examples/" or "./"
local root = ("%s/%s"):format(opt.data, opt.format)
local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end
local how = ("%s %s --data FashionMNIST --profile %s --out %s"):format(quoted(arg[-1]), quoted(here .. "scripts/make-events.lua"),
  opt.format == "aedat" and "rcls" or "saccade3", quoted(root))
local function make(part, count) -- only what is missing
  assert(os.execute(("%s --part %s --limit %d"):format(how, part, count)), "the recordings could not be made")
end

local common = { T = opt.T, batch_size = opt.batch }
local function with(options)
  for key, value in pairs(common) do options[key] = value end
  return options
end

-- n of a set, of each class in proportion: a folder made with a larger limit holds more.
local function limited(set, n) return n < #set and set:sample { n = n } or set end

local train, test
if opt.format == "aedat" then -- one folder for both parts; TRT's way to make frames, and a split by name
  local TRAINED = 0.8 -- of the recordings
  make("train", opt.limit)
  local frames = { root = root, preset = "trt-paper", split = "random", share = TRAINED, cache = opt.data .. "/cache", name = "DVS-FashionMNIST" }
  local function part(options)
    for key, value in pairs(frames) do options[key] = value end
    return data.EventFolder(with(options))
  end
  train, test = part { train = true, shuffle = true, augment = "trt-dvs" }, part { train = false }
  if opt.limit > 0 and opt.limit < #train + #test then
    local n = math.ceil(TRAINED * opt.limit)
    train, test = limited(train, n), limited(test, math.max(1, opt.limit - n))
  end
else
  local few = opt.limit == 0 and 0 or math.max(1, opt.limit // 4) -- 0: all
  make("train", opt.limit)
  make("test", few)
  train = data.NMNIST(with { root = root, train = true, shuffle = true, augment = { { "roll", 2 } } })
  test = data.NMNIST(with { root = root, train = false })
  if opt.limit > 0 then train, test = limited(train, opt.limit), limited(test, few) end
end
print(train:describe())
train:show(1, { frame = opt.T // 2 + 1 })

-- ---- network ----

local x = train[1].x -- [T, 2, H, W]
local side = x.shape[4]
local function block(from, to)
  return nn.Conv2d(from, to, 3, { padding = 1, bias = false }), nn.BatchNorm2d(to), nn.LIF { tau = 2.0 }
end
local net = nn.Sequential {}
for _, width in ipairs { { 2, 32 }, { 32, 64 }, { 64, 128 } } do
  for _, layer in ipairs { block(width[1], width[2]) } do net:add(layer) end
  net:add(nn.AvgPool2d(2))
  side = side // 2
end
net:add(nn.Flatten())
net:add(nn.Linear(128 * side * side, 10))
print(net)

local criterion = ({
  sdt = function() return loss.SDT() end, tet = function() return loss.TET { mu = 0.05, phi = 1.0 } end,
  trt = function() return loss.TRT(net, { lambda = 1e-5, delta = 0.25, eta = 0.05, epsilon = 1e-5 }) end,
})[opt.loss]()
local optimizer = optim.Adam(net:parameters(), { lr = opt.lr })
local schedule = optim.CosineAnnealingLR(optimizer, { T_max = opt.epochs })

-- ---- training ----

ms.system.mkdir(opt.out)
local log = assert(ms.log(opt.out .. "/log.jsonl", { append = false }))
for epoch = 1, opt.epochs do
  local start, sum, right, batches = ms.system.clock(), 0, 0, 0
  net:train()
  for frames, y in ms.progress(train, "epoch " .. epoch) do
    optimizer:zero_grad()
    local l = criterion(net(frames), y)
    l:backward()
    optimizer:step()
    sum, right, batches = sum + criterion.parts.loss, right + criterion.correct, batches + 1
  end
  schedule:step()
  local accuracy, test_loss, firing, synops = ms.evaluate(net, test)
  print(("epoch %d: loss %.4f, accuracy %.2f %%; test loss %.4f, accuracy %.2f %%, firing rate %.3f, %.3g synaptic operations; %.1f s"):format(epoch,
    sum:item() / batches, 100 * right:item() / #train, test_loss, 100 * accuracy, firing, synops, ms.system.clock() - start))
  log { epoch = epoch, train_loss = sum:item() / batches, train_accuracy = right:item() / #train, test_loss = test_loss, test_accuracy = accuracy,
    firing_rate = firing, synops = synops, split = train.split, members = train:hash(), loss = opt.loss, seed = opt.seed }
end
log:close()
ms.save(opt.out .. "/last.safetensors", net)
print(ms.plot.learning_curves(ms.log.read(opt.out .. "/log.jsonl"), opt.out .. "/curves.png", ("DVS-FashionMNIST, %s"):format(opt.loss:upper())))
