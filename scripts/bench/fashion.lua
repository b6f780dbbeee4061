-- One round of the README's network on random images: samples a second of a training step, and the firing rates.
-- usage: moonspike fashion.lua [batch] [steps]
local ms = require "moonspike"
local nn = ms.nn

local batch, steps, T = tonumber(arg[1] or 64), tonumber(arg[2] or 30), 4
ms.manual_seed(1)

local net = nn.Sequential {
  nn.Conv2d(1, 32, 3, { padding = 1, bias = false }), nn.BatchNorm2d(32), nn.LIF(), nn.AvgPool2d(2),
  nn.Conv2d(32, 64, 3, { padding = 1, bias = false }), nn.BatchNorm2d(64), nn.LIF(), nn.AvgPool2d(2),
  nn.Flatten(), nn.Linear(64 * 7 * 7, 10),
}
local criterion = ms.loss.TRT(net)
local opt = ms.optim.Adam(net:parameters(), { lr = 1e-3 })
local x = ms.randn(1, batch, 1, 28, 28):expand(T, -1, -1, -1, -1)
local y = ms.randint(0, 10, { batch })

local function step()
  opt:zero_grad()
  criterion(net(x), y):backward()
  opt:step()
end

net:train()
for _ = 1, 10 do
  step()
end
local times = {}
for i = 1, steps do
  local start = ms.system.clock()
  step()
  times[i] = ms.system.clock() - start
end
table.sort(times)
print(("ours %.1f samples/s  median %.2f ms  fastest %.2f ms  slowest %.2f ms  firing rates %.3f %.3f"):format(
  batch / times[(steps + 1) // 2], times[(steps + 1) // 2] * 1e3, times[1] * 1e3, times[steps] * 1e3, net[3]:rate(), net[7]:rate()))
