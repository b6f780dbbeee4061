-- From nothing to the first trained step of the Fashion-MNIST network. usage: moonspike startup.lua FOLDER (raw IDX files)
local here = arg[0]:match "^(.*)/" or "."
package.path = here .. "/?.lua;" .. package.path
local ms = require "moonspike"
local spec = require "networks".fashion

ms.manual_seed(1)
local set = ms.data.FashionMNIST { root = arg[1], batch_size = spec.batch, T = spec.T, shuffle = true }
local net = spec.make()
local criterion, opt = spec.loss(net), ms.optim.Adam(net:parameters(), { lr = 1e-3 })
net:train()
for x, y in set do
  opt:zero_grad()
  local loss = criterion(net(x), y)
  loss:backward()
  opt:step()
  print("step", loss:item())
  break
end
io.stdout:flush()
os.exit(true, true)
