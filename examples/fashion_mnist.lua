-- Trains the front page's network on Fashion-MNIST with SDT, TET or TRT.
--   moonspike examples/fashion_mnist.lua --loss trt --epochs 10 --out runs/mine
-- Writes options.json, log.jsonl, best.safetensors (weights), last.safetensors (training state), curves.png and curves.csv into --out.
local ms = require "moonspike"
local nn, loss, optim, data = ms.nn, ms.loss, ms.optim, ms.data

local options = {
  usage = "moonspike examples/fashion_mnist.lua [options]",
  { "loss", "trt", "what is trained", choices = { "sdt", "tet", "trt" } }, { "epochs", 10, "most epochs to train", from = 1 },
  { "batch", 64, "batch size", from = 1 }, { "T", 4, "time steps", from = 1 }, { "lr", 1e-3, "Adam's learning rate, cosine to 0", from = 0 },
  { "seed", 42, "of weights and order" }, { "out", "runs/fashion_mnist-LOSS", "folder of the results" },
  { "resume", false, "go on from last.safetensors in --out, with the options of that run" },
  { "device", "auto", "cpu, cuda or auto" }, { "limit", 0, "only the first n training and test images, 0: all", from = 0 },
  { "minutes", 0.0, "as many epochs as fit into this time, 0: --epochs", from = 0 },
}
local try = ms.arguments.try

-- What was not given: from the run that is resumed, else the defaults. What was given must be as in that run.
local function complete(given)
  local criterion = given.loss or "trt"
  local out = given.out or "runs/fashion_mnist-" .. criterion
  local before = {}
  if given.resume then
    local file, why = io.open(out .. "/options.json")
    if not file then ms.arguments.fail(("--resume: no run to go on with: %s"):format(why)) end
    before, why = ms.json.decode(file:read "a")
    file:close()
    if type(before) ~= "table" then ms.arguments.fail(("--resume: %s/options.json: %s"):format(out, why or "expected an object")) end
  end
  local opt = {}
  for _, o in ipairs(options) do
    local name, free = o[1], o[1] == "out" or o[1] == "resume" or o[1] == "device"
    local old = not free and before[name]
    if old and given[name] and given[name] ~= old then
      ms.arguments.fail(("--%s: expected %s, as the run in %s was started, got %s"):format(name, old, out, given[name]))
    end
    opt[name] = given[name] or old or o[2]
  end
  opt.out = out
  return opt
end

local function network()
  return nn.Sequential {
    nn.Conv2d(1, 32, 3, { padding = 1, bias = false }), nn.BatchNorm2d(32), nn.LIF { tau = 2.0 }, nn.AvgPool2d(2),
    nn.Conv2d(32, 64, 3, { padding = 1, bias = false }), nn.BatchNorm2d(64), nn.LIF { tau = 2.0 }, nn.AvgPool2d(2),
    nn.Flatten(), nn.Linear(64 * 7 * 7, 10),
  }
end

local criteria = {
  sdt = function() return loss.SDT() end,
  tet = function() return loss.TET { mu = 0.05, phi = 1.0 } end,
  trt = function(net) return loss.TRT(net, { lambda = 1e-5, delta = 0.25, eta = 0.05, epsilon = 1e-5 }) end,
}

local _, given = ms.arguments(options)
local opt = complete(given)
local out = opt.out

ms.manual_seed(opt.seed)
try("--device", ms.device, opt.device)
try("--out", ms.system.mkdir, out)
local limit = opt.limit > 0 and opt.limit or nil
local train = data.FashionMNIST { train = true, batch_size = opt.batch, T = opt.T, shuffle = true, limit = limit }
local test = data.FashionMNIST { train = false, batch_size = 256, T = opt.T, limit = limit }
local net = network()
local criterion = criteria[opt.loss](net)
local optimizer = optim.Adam(net:parameters(), { lr = opt.lr })
local schedule = optim.CosineAnnealingLR(optimizer, { T_max = opt.epochs })
local state = { model = net, optimizer = optimizer, scheduler = schedule, loader = train }
local last, best, first, spent = out .. "/last.safetensors", { accuracy = -1 }, 1, 0

if opt.resume then
  local info = ms.resume(last, state)
  first, best, spent = info.epoch + 1, info.extra.best, info.extra.seconds
  schedule.T_max = info.extra.T_max
  print(("resumed after epoch %d"):format(info.epoch))
end
try("--out", ms.system.write_file, out .. "/options.json", ms.json.encode(opt) .. "\n")
local log = try("--out", ms.log, out .. "/log.jsonl", { append = opt.resume, epoch = first - 1 })
print(train:describe())
print(net)

-- Sums that are read once per epoch, so that no step waits for them.
local function train_epoch(epoch)
  net:train()
  local sum, right, batches = 0, 0, 0
  for x, y in ms.progress(train, "epoch " .. epoch) do
    optimizer:zero_grad()
    local l = criterion(net(x), y)
    l:backward()
    optimizer:step()
    sum, right, batches = sum + criterion.parts.loss, right + criterion.correct, batches + 1
  end
  return sum:item() / batches, right:item() / #train
end

print "epoch     loss      acc  test loss  test acc  firing    synops       lr  time/s"
local epoch = first
while epoch <= schedule.T_max do
  local start, lr = ms.system.clock(), schedule:get_lr()
  local train_loss, train_accuracy = train_epoch(epoch)
  local accuracy, test_loss, firing, synops, layers = ms.evaluate(net, test)
  local seconds = ms.system.clock() - start
  spent = spent + seconds
  if opt.minutes > 0 then -- the cosine ends with the last epoch that fits, with 5 % to spare, at the pace of this one
    local more = math.floor((0.95 * 60 * opt.minutes - spent) / seconds)
    schedule.T_max = math.max(epoch, math.min(opt.epochs, epoch + more))
  end
  schedule:step()
  print(("%5d  %7.4f  %6.2f%%  %9.4f  %7.2f%%  %6.4f  %8.2e  %.1e  %6.1f"):format(epoch, train_loss, 100 * train_accuracy,
    test_loss, 100 * accuracy, firing, synops, lr, spent))
  if accuracy > best.accuracy then
    best = { accuracy = accuracy, epoch = epoch }
    ms.save(out .. "/best.safetensors", net)
  end
  log { epoch = epoch, train_loss = train_loss, train_accuracy = train_accuracy, test_loss = test_loss, test_accuracy = accuracy,
    firing_rate = firing, synops = synops, macs = layers[1].operations, lr = lr, seconds = spent, loss = opt.loss, seed = opt.seed }
  state.epoch, state.extra = epoch, { best = best, seconds = spent, T_max = schedule.T_max, loss = opt.loss }
  ms.checkpoint(last, state)
  epoch = epoch + 1
end
log:close()

local rows = ms.log.read(out .. "/log.jsonl")
local picture, why = ms.plot.learning_curves(rows, out .. "/curves.png", ("Fashion-MNIST, %s, T = %d"):format(opt.loss:upper(), opt.T))
print(("best test accuracy %.2f%% after epoch %d, last %.2f%% (chosen on the test set)"):format(
  100 * best.accuracy, best.epoch, 100 * rows[#rows].test_accuracy))
print(picture and "learning curves: " .. picture or why)
