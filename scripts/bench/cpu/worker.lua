-- Our side of one case. usage: moonspike worker.lua CASE PRECISION [WEIGHTS]     CASE: a network, infer.NETWORK, lif, conv, regulariser
-- Networks write their initial weights and the input to WEIGHTS, from which the peers start.
local here = arg[0]:match "^(.*)/" or "."
package.path = here .. "/?.lua;" .. package.path
local ms = require "moonspike"
local networks = require "networks"
local layers = require "layers"
local protocol = require "protocol"

local case, precision, path = arg[1], arg[2] or "fp32", arg[3]
ms.manual_seed(1)

if precision == "bf16" then
  local why = type(ms.autocast) ~= "function" and "this build has no ms.autocast"
  if not why then
    local ok, message = pcall(ms.autocast, "bf16")
    why = not ok and tostring(message)
  end
  if why then
    protocol.say { unavailable = why }
    os.exit(0)
  end
end

local function report(about)
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

local function training(name)
  local spec = networks[name]
  local net = spec.make()
  assert(networks.count(net) == spec.parameters, "parameters: " .. networks.count(net))
  local x, y, image = networks.batch(spec)
  save(net, image, y)
  local criterion, opt = spec.loss(net), ms.optim.Adam(net:parameters(), { lr = 1e-3 })
  net:train()
  local loss
  local function step()
    opt:zero_grad()
    loss = criterion(net(x), y)
    loss:backward()
    opt:step()
  end
  step()
  local losses, rates = { loss:item() }, networks.rates(net)
  local forward, first = networks.flops(net)
  for _ = 1, 2 do
    step()
    losses[#losses + 1] = loss:item()
  end
  protocol.serve(report { losses = losses, rates = rates, flops = 3 * forward - first, parameters = networks.count(net) },
    { step = step })
end

-- Running statistics of one random batch: with those of a fresh network no deep layer would fire.
local function settle(net, spec)
  for _, m in ipairs(net:modules()) do
    if m.momentum then m.momentum = 1 end
  end
  net:train()
  ms.no_grad(function() net((networks.batch(spec, 8))) end)
end

local function inference(name)
  local spec = networks[name]
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

if case:match "^infer%." then
  inference(case:match "^infer%.(.*)$")
elseif networks[case] and networks[case].make then
  training(case)
elseif layers[case] then
  protocol.serve(layers[case](report, networks, save))
else
  error("unknown case " .. tostring(case), 0)
end
