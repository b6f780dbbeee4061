-- Trains the front page's network on Fashion-MNIST with SDT, TET or TRT.
--   moonspike examples/fashion_mnist.lua --loss trt --epochs 10 --out runs/mine
-- Writes log.jsonl, best.safetensors (weights), last.safetensors (training state), curves.png and curves.csv into --out.
local ms = require "moonspike"
local nn, loss, optim, data = ms.nn, ms.loss, ms.optim, ms.data

-- name, default, help; the default's type is the option's type, false marks a switch.
local options = {
  { "loss", "trt", "sdt, tet or trt" }, { "epochs", 10, "most epochs to train" },
  { "batch", 64, "batch size" }, { "T", 4, "time steps" }, { "lr", 1e-3, "Adam's learning rate, cosine to 0" },
  { "seed", 42, "of weights and order" }, { "out", "", "folder of the results (runs/fashion_mnist-LOSS)" },
  { "resume", false, "go on from last.safetensors in --out" }, { "device", "auto", "cpu, cuda or auto" },
  { "limit", 0, "only the first n training and test images (0: all)" },
  { "minutes", 0.0, "as many epochs as fit into this time (0: --epochs)" },
}

local kinds = { integer = "an integer", float = "a number" }

local function usage()
  print "usage: moonspike examples/fashion_mnist.lua [options]"
  for _, o in ipairs(options) do print(("  --%-8s %s (%s)"):format(o[1], o[3], tostring(o[2]))) end
end

local function parse(words)
  local opt, known, names = {}, {}, {}
  for i, o in ipairs(options) do opt[o[1]], known[o[1]], names[i] = o[2], o, "--" .. o[1] end
  local i = 1
  while words[i] do
    local name = words[i]:match "^%-%-(.+)$"
    if name == "help" then usage(); os.exit(0) end
    if not known[name] then error(("unknown option '%s' (known: %s)"):format(words[i], table.concat(names, ", ")), 0) end
    local default = known[name][2]
    if default == false then
      opt[name] = true
    else
      i = i + 1
      local value = words[i]
      if type(default) == "number" then value = tonumber(value) end
      if math.type(default) == "integer" then value = math.tointeger(value) end
      if value == nil then error(("--%s: expected %s, got '%s'"):format(name, kinds[math.type(default)] or "text", tostring(words[i])), 0) end
      opt[name] = value
    end
    i = i + 1
  end
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

local ok, opt = pcall(parse, arg)
if ok and not criteria[opt.loss] then ok, opt = false, ("--loss: expected sdt, tet or trt, got '%s'"):format(opt.loss) end
if not ok then
  io.stderr:write("fashion_mnist: ", opt, "\n")
  os.exit(2)
end
local out = opt.out ~= "" and opt.out or "runs/fashion_mnist-" .. opt.loss
assert(ms.system.mkdir(out))

ms.manual_seed(opt.seed)
ms.device(opt.device)
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
local log = assert(ms.log(out .. "/log.jsonl", { append = opt.resume }))
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

print "epoch  train loss  train acc   test loss   test acc  firing  synops/sample      lr  seconds"
local epoch = first
while epoch <= schedule.T_max do
  local start, lr = ms.system.clock(), schedule:get_lr()
  local train_loss, train_accuracy = train_epoch(epoch)
  local accuracy, test_loss, firing, synops, layers = ms.evaluate(net, test)
  spent = spent + ms.system.clock() - start
  if opt.minutes > 0 and epoch == 1 then -- the cosine ends with the last epoch that fits, with 5 % to spare
    schedule.T_max = math.max(1, math.min(opt.epochs, math.floor(57 * opt.minutes / spent)))
  end
  schedule:step()
  print(("%5d  %10.4f  %8.2f%%  %10.4f  %8.2f%%  %6.4f  %13.4g  %.1e  %7.1f"):format(epoch, train_loss, 100 * train_accuracy,
    test_loss, 100 * accuracy, firing, synops, lr, spent))
  if accuracy > best.accuracy then
    best = { accuracy = accuracy, epoch = epoch }
    ms.save(out .. "/best.safetensors", net)
  end
  state.epoch, state.extra = epoch, { best = best, seconds = spent, T_max = schedule.T_max, loss = opt.loss }
  ms.checkpoint(last, state)
  log { epoch = epoch, train_loss = train_loss, train_accuracy = train_accuracy, test_loss = test_loss, test_accuracy = accuracy,
    firing_rate = firing, synops = synops, macs = layers[1].operations, lr = lr, seconds = spent, loss = opt.loss, seed = opt.seed }
  epoch = epoch + 1
end
log:close()

local rows = ms.log.read(out .. "/log.jsonl")
local picture, why = ms.plot.learning_curves(rows, out .. "/curves.png", ("Fashion-MNIST, %s, T = %d"):format(opt.loss:upper(), opt.T))
print(("best test accuracy %.2f%% after epoch %d, last %.2f%%; selected on the test set itself"):format(
  100 * best.accuracy, best.epoch, 100 * rows[#rows].test_accuracy))
print(picture and "learning curves: " .. picture or why)
