-- Our side of one case. usage: moonspike step.lua CASE PRECISION [WEIGHTS [ENGINE]]
--   CASE        a network (resnet19, vggsnn, fashion, sew34; resnet19.T6 for another T), infer.NETWORK, lif, conv, regulariser
--   PRECISION   fp32, tf32 or bf16
--   WEIGHTS     a file for the initial weights and the input of a network, from which the peers start ("": none)
--   ENGINE      runs every convolution that it can: "cublas" is a GPU without cuDNN
-- Prints one JSON line about itself, then answers "run NAME N" with the seconds of N runs: drive.py asks. To time a step by hand:
--   echo "run step 10" | moonspike scripts/bench/step.lua resnet19 bf16
-- DEVICE names the device ("cpu"); BATCH, SIZE and LOSS change a network (networks.lua). Networks on a device that records steps have a
-- second bench beside "step": "captured".
local here = arg[0]:match "^(.*)/" or "."
package.path = here .. "/?.lua;" .. package.path
local ms = require "moonspike"
local networks = require "networks"
local layers = require "layers"
local protocol = require "protocol"

local case, precision, path = arg[1], arg[2] or "fp32", arg[3] ~= "" and arg[3] or nil
ms.device(os.getenv "DEVICE" or "cpu")
if arg[4] then ms.engines.force(arg[4]) end
ms.manual_seed(1)

if precision == "tf32" then
  local ok, message = pcall(ms.cuda.allow_tf32, true)
  if not ok then
    protocol.say { unavailable = tostring(message) }
    os.exit(0)
  end
elseif precision == "bf16" then
  local why = type(ms.autocast) ~= "function" and "this build has no ms.autocast"
  if not why then
    local ok, message = pcall(ms.autocast, precision)
    why = not ok and tostring(message)
  end
  if why then
    protocol.say { unavailable = why }
    os.exit(0)
  end
end

local function report(about)
  about.device = ms.device()
  if os.getenv "VERBOSE" == "1" and ms.engines then about.engines = tostring(ms.engines()) end
  return about
end

-- The batch rides along with the weights, as the buffers x and y.
local function save(net, image, y)
  if not path then return end
  local Pack = ms.nn.Module "Pack"
  local pack = Pack()
  pack.net = net
  pack.x = ms.nn.Buffer(image:clone())
  pack.y = ms.nn.Buffer(y)
  ms.save(path, pack)
end

local function training(spec)
  local net = spec.make()
  local parameters = networks.count(net)
  assert(parameters == spec.parameters, "parameters: " .. parameters)
  local x, y, image = networks.batch(spec)
  save(net, image, y)
  local criterion, opt = spec.loss(net), ms.optim.Adam(net:parameters(), { lr = 1e-3 })
  net:train()
  local function train(images, labels)
    opt:zero_grad()
    local l = criterion(net(images), labels)
    l:backward()
    opt:step()
    return l
  end
  local loss
  local function step() loss = train(x, y) end
  step()
  local losses, rates = { loss:item() }, networks.rates(net)
  local forward, first = networks.flops(net)
  for _ = 1, 2 do
    step()
    losses[#losses + 1] = loss:item()
  end
  local benches = { step = step }
  if ms.device():find "^cuda" then
    local captured = ms.capture(train)
    benches.captured = function() captured(x, y) end
  end
  protocol.serve(report { captured = benches.captured ~= nil, losses = losses, rates = rates, flops = 3 * forward - first, parameters = parameters }, benches)
end

-- Running statistics of one random batch: with those of a fresh network no deep layer would fire.
local function settle(net, spec)
  for _, m in ipairs(net:modules()) do
    if m.momentum then m.momentum = 1 end
  end
  net:train()
  ms.no_grad(function() net((networks.batch(spec, 8))) end)
end

local function inference(spec)
  local net = spec.make()
  settle(net, spec)
  local x, y, image = networks.batch(spec, 1)
  save(net, image, y)
  net:eval()
  local logits
  local function step()
    ms.no_grad(function() logits = net(x) end)
  end
  for _ = 1, 3 do step() end
  protocol.serve(report { losses = logits:mean(1):flatten():totable(), rates = networks.rates(net), flops = networks.flops(net) }, { step = step })
end

local name = case:match "^infer%.(.*)$"
local spec = networks.find(name or case)
if spec and spec.make then
  (name and inference or training)(spec)
elseif layers[case] then
  protocol.serve(layers[case](report, networks, save))
else
  error("unknown case " .. tostring(case), 0)
end
