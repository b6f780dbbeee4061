-- CIFAR-10 as in arXiv 2506.19256: ResNet-19 with TRT, TET or SDT. The same as the recipes cifar10-resnet19-trt-T4 and -sdt-T4 of scripts/train.lua.
--   moonspike examples/cifar10.lua --T 4 --loss trt --epochs 300
-- The set is found through $MOONSPIKE_DATA (scripts/get-data.sh CIFAR10). Weights, log.jsonl and curves.png go to --out.
local ms = require "moonspike"
local data, loss, models, optim = ms.data, ms.loss, ms.models, ms.optim

local opt = ms.arguments {
  usage = "moonspike examples/cifar10.lua [options]",
  { "T", 4, "time steps", from = 1 }, { "loss", "trt", "what is trained", choices = { "sdt", "tet", "trt" } },
  { "epochs", 300, "epochs to train", from = 1 }, { "batch", 64, "batch size", from = 1 }, { "lr", 1e-3, "Adam's learning rate, cosine to 0", from = 0 },
  { "scale", 1.0, "a factor on all numbers of channels", from = 0.01 }, { "limit", 0, "only the first n images of each part, 0: all", from = 0 },
  { "seed", 42, "of weights and order" }, { "device", "auto", "cpu, cuda or auto" }, { "out", "runs/cifar10", "folder of the results" },
}
ms.manual_seed(opt.seed)
ms.arguments.try("--device", ms.device, opt.device)

-- ---- data ----

local limit = opt.limit > 0 and opt.limit or nil
local train = data.CIFAR10 { train = true, T = opt.T, batch_size = opt.batch, shuffle = true, augment = "trt-cifar", limit = limit }
local test = data.CIFAR10 { train = false, T = opt.T, batch_size = 256, limit = limit }
print(train:describe())

-- ---- network, loss, optimizer ----

local net = models.create("resnet19", { classes = 10, T = opt.T, scale = opt.scale })
local criterion = ({
  sdt = function() return loss.SDT() end, tet = function() return loss.TET { mu = 0.05, phi = 1 } end,
  trt = function() return loss.TRT(net, { lambda = 1e-5, delta = 0.25, eta = 0.05, epsilon = 1e-5 }) end,
})[opt.loss]()
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
print(ms.plot.learning_curves(ms.log.read(opt.out .. "/log.jsonl"), opt.out .. "/curves.png", ("CIFAR-10, %s, T = %d"):format(opt.loss:upper(), opt.T)))
