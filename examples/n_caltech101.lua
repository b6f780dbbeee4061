-- N-Caltech101 as in arXiv 2506.19256: recordings of an event camera, VGGSNN with TRT or SDT, T = 10. The same as the recipe ncaltech101-vggsnn-trt-T10
-- of scripts/train.lua.
--   moonspike examples/n_caltech101.lua --loss trt --epochs 300
-- The set is found through $MOONSPIKE_DATA (scripts/get-data.sh NCaltech101). With --cache the frames are kept there, made once.
-- Weights, log.jsonl and curves.png go to --out.
local ms = require "moonspike"
local data, loss, models, optim = ms.data, ms.loss, ms.models, ms.optim

local opt = ms.arguments {
  usage = "moonspike examples/n_caltech101.lua [options]",
  { "T", 10, "frames of a recording", from = 1 }, { "loss", "trt", "what is trained", choices = { "sdt", "trt" } },
  { "epochs", 300, "epochs to train", from = 1 }, { "batch", 64, "batch size", from = 1 }, { "lr", 1e-3, "Adam's learning rate, cosine to 0", from = 0 },
  { "cache", "", "folder for frames" }, { "scale", 1.0, "a factor on all numbers of channels", from = 0.01 },
  { "seed", 42, "of weights and order" }, { "device", "auto", "cpu, cuda or auto" }, { "out", "runs/n_caltech101", "folder of the results" },
}
ms.manual_seed(opt.seed)
ms.arguments.try("--device", ms.device, opt.device)

-- ---- data ----

local function part(options)
  options.T, options.cache = opt.T, opt.cache ~= "" and opt.cache or nil
  options.preset, options.size, options.split = "sj-number", 48, "spikingjelly" -- frames and parts as in the published code
  return data.NCaltech101(options)
end
local train = part { train = true, batch_size = opt.batch, shuffle = true }
local test = part { train = false, batch_size = 64 }
print(train:describe())
train:show(1, { frame = opt.T // 2 + 1 })

-- ---- network, loss, optimizer ----

local net = models.create("vggsnn", { classes = #train.classes, T = opt.T, scale = opt.scale })
local criterion = opt.loss == "sdt" and loss.SDT() or loss.TRT(net, { lambda = 5e-5, delta = 0.5, eta = 0.05, epsilon = 1e-5 })
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
print(ms.plot.learning_curves(ms.log.read(opt.out .. "/log.jsonl"), opt.out .. "/curves.png", ("N-Caltech101, %s, T = %d"):format(opt.loss:upper(), opt.T)))
