-- Batches of samples that lie in the device's memory: picked, augmented and normalised there. The same batches, bit for bit, as those of
-- the threads, and the same methods as their loader.

local core = require "moonspike.core"

local Resident = {}
Resident.__index = Resident

-- opt: samples [s, C, H, W] or [s, T, C, H, W]; labels [s], members (int64 [n] from 0), both on the CPU; device, and what
-- core.data.loader takes.
function Resident.new(opt)
  local self = setmetatable({ opt = opt, epoch = 1, batch = 0 }, Resident)
  self.samples, self.labels, self.n = opt.samples:to(opt.device):contiguous(), opt.labels:to(opt.device), opt.members.shape[1]
  if self.samples.dtype ~= "uint8" then opt.scale = nil end
  self.count = opt.drop_last and self.n // opt.batch_size or (self.n + opt.batch_size - 1) // opt.batch_size
  return self
end

function Resident:batches() return self.count end
function Resident:position() return self.epoch, self.batch end
function Resident:start(epoch, batch)
  self.epoch, self.batch, self.order = epoch, batch, nil
end
function Resident:close() self.samples, self.labels, self.order = nil, nil, nil end
function Resident:repairs() return {} end

-- Which samples the epoch takes, in its order, on the CPU.
local function arm(self)
  local opt, order = self.opt, nil
  if opt.balanced then
    order = core.data.balanced_order(opt.labels:index_select(1, opt.members), opt.classes, core.data.epoch_key(opt.seed, "balance", self.epoch))
  elseif opt.shuffle then
    order = core.data.order { n = self.n, seed = opt.seed, epoch = self.epoch }
  end
  self.order = order and opt.members:index_select(1, order) or opt.members
  self.key = core.data.epoch_key(opt.seed, "augment", self.epoch)
end

-- Indices go to the device, and nothing comes back: the host does not wait.
function Resident:next()
  local opt = self.opt
  if self.batch >= self.count then
    self:start(self.epoch + 1, 0)
    return nil
  end
  if not self.order then arm(self) end
  local first = self.batch * opt.batch_size
  local index = self.order:narrow(1, first + 1, math.min(opt.batch_size, self.n - first))
  local x = core.data.augment(self.samples, index, opt.augment, { key = self.key, scale = opt.scale, mean = opt.mean, std = opt.std })
  if x:dim() == 4 then x = x:unsqueeze(1) end
  self.batch = self.batch + 1
  return x, self.labels:index_select(1, index:to(opt.device))
end

return Resident
