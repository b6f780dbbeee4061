-- ImageNet-100 as in arXiv 2506.19256: SEW-ResNet-34 of IF neurons with TRT, T = 4. The same as the recipe imagenet100-sew34-trt-T4 of scripts/train.lua.
--   moonspike examples/imagenet100.lua --epochs 300
-- The set is found through $MOONSPIKE_DATA; scripts/get-data.sh ImageNet100 says how to get it. Weights, log.jsonl and curves.png go to --out.
local ms = require "moonspike"
local data, loss, models, optim = ms.data, ms.loss, ms.models, ms.optim

local opt = ms.arguments {
  usage = "moonspike examples/imagenet100.lua [options]",
  { "T", 4, "time steps", from = 1 }, { "epochs", 300, "epochs to train", from = 1 }, { "batch", 64, "batch size", from = 1 },
  { "lr", 1e-3, "Adam's learning rate, cosine to 0", from = 0 }, { "size", 224, "of the images", from = 32 },
  { "workers", 8, "threads that decode images", from = 0 }, { "scale", 1.0, "a factor on all numbers of channels", from = 0.01 },
  { "seed", 42, "of weights and order" }, { "device", "auto", "cpu, cuda or auto" }, { "out", "runs/imagenet100", "folder of the results" },
}
ms.manual_seed(opt.seed)
ms.arguments.try("--device", ms.device, opt.device)

-- ---- data ----

local how = { T = opt.T, size = opt.size, workers = opt.workers }
local function part(options)
  for key, value in pairs(how) do options[key] = value end
  return data.ImageNet100(options)
end
local train = part { train = true, batch_size = opt.batch, shuffle = true, augment = { flip = true } } -- behind a random resized crop
local test = part { train = false, batch_size = 64 }
print(train:describe())

-- ---- network, loss, optimizer ----

local net = models.create("sew-resnet34-trt", { classes = #train.classes, size = opt.size, T = opt.T, scale = opt.scale, neuron = "trt-imagenet100" })
local criterion = loss.TRT(net, { lambda = 5e-5, delta = 0.5, eta = 0.001, epsilon = 1e-5 })
local optimizer = optim.Adam(net:parameters(), { lr = opt.lr })
local schedule = optim.CosineAnnealingLR(optimizer, { T_max = opt.epochs })
print(net)

-- ---- training ----

ms.system.mkdir(opt.out)
local log = assert(ms.log(opt.out .. "/log.jsonl", { append = false }))
local step = ms.capture(function(x, y)
  optimizer:zero_grad()
  local l = criterion(net(x), y)
  l:backward()
  optimizer:step()
  return criterion.parts.loss, criterion.correct
end)
local best = 0
for epoch = 1, opt.epochs do
  net:train()
  local sum, right, batches, lr = 0, 0, 0, schedule:get_lr()
  for x, y in ms.progress(train, "epoch " .. epoch) do
    local value, correct = step(x, y)
    sum, right, batches = sum + value, right + correct, batches + 1
  end
  schedule:step()
  local accuracy, test_loss, firing, synops = ms.evaluate(net, test)
  log { epoch = epoch, lr = lr, train_loss = sum:item() / batches, train_accuracy = right:item() / #train, test_loss = test_loss,
    test_accuracy = accuracy, firing_rate = firing, synops = synops }
  if accuracy > best then
    best = accuracy
    ms.save(opt.out .. "/best.safetensors", net)
  end
  print(("epoch %d: loss %.4f, test accuracy %.2f %% (best %.2f %%), firing rate %.3f"):format(epoch, sum:item() / batches, 100 * accuracy,
    100 * best, firing))
end
log:close()
print(ms.plot.learning_curves(ms.log.read(opt.out .. "/log.jsonl"), opt.out .. "/curves.png", ("ImageNet-100, TRT, T = %d"):format(opt.T)))
