-- Batch normalisation over all time steps and samples together (T*N*H*W), the field's "tdBN" of the TET and TRT codes, and
-- true tdBN with its factor alpha * V_th. The result is computed by the neuron behind it where there is one (fusion).

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Module = require "moonspike.nn.module"
local parameter = require "moonspike.nn.parameter"

local norm = {}

local common = {
  eps = o.number(1e-5, { from = 0 }), momentum = o.number(0.1, { from = 0, to = 1 }), affine = o.boolean(true),
  track_running_stats = o.boolean(true),
}
local td_spec = { alpha = o.number(1, { above = 0 }), V_th = o.number(1, { above = 0 }) }
for key, rule in pairs(common) do td_spec[key] = rule end

local function setup(self, name, channels, opts, spec)
  self.num_features = o.check(name, "num_features", channels, o.integer(nil, { from = 1 }))
  local opt = o.read(name, opts, spec)
  self.eps, self.momentum, self.affine = opt.eps, opt.momentum, opt.affine
  self.track_running_stats = opt.track_running_stats
  self.gain = opt.alpha and opt.alpha * opt.V_th or 1
  if opt.affine then
    self.weight = parameter.Parameter(core.tensor.ones(self.num_features))
    self.bias = parameter.Parameter(core.tensor.zeros(self.num_features))
  end
  if opt.track_running_stats then
    self.running_mean = parameter.Buffer(core.tensor.zeros(self.num_features))
    self.running_var = parameter.Buffer(core.tensor.ones(self.num_features))
    self.num_batches_tracked = parameter.Buffer(core.tensor.tensor(0, { dtype = "int64" }))
  end
end

local function class(name, spec, dims, shapes)
  local Norm = Module(name)

  function Norm:init(channels, opts) setup(self, name, channels, opts, spec) end

  function Norm:forward(x)
    local size = o.is_tensor(x) and x.shape
    if not size or not dims[#size] then o.fail("%s: x: expected %s, got %s", name, shapes, o.show(x)) end
    local channels = size[#size <= 3 and #size or #size - 2]
    if channels ~= self.num_features then
      o.fail("%s: x: expected %d channels, got %s", name, self.num_features, o.shape(x))
    end
    local training = self.training or not self.track_running_stats
    return core.nn.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var,
      { eps = self.eps, momentum = self.momentum, gain = self.gain, training = training,
        batches = self.track_running_stats and self.num_batches_tracked or nil })
  end

  function Norm:extra()
    local text = { tostring(self.num_features) }
    if self.gain ~= 1 then text[#text + 1] = ("alpha*V_th %g"):format(self.gain) end
    if self.eps ~= 1e-5 then text[#text + 1] = ("eps %g"):format(self.eps) end
    if self.momentum ~= 0.1 then text[#text + 1] = ("momentum %g"):format(self.momentum) end
    if not self.affine then text[#text + 1] = "not affine" end
    if not self.track_running_stats then text[#text + 1] = "no running statistics" end
    return table.concat(text, ", ")
  end

  norm[name] = Norm
end

class("BatchNorm2d", common, { [4] = true, [5] = true }, "[T, N, C, H, W] or [N, C, H, W]")
class("BatchNorm1d", common, { [2] = true, [3] = true }, "[T, N, C] or [N, C]")
class("tdBN", td_spec, { [2] = true, [3] = true, [4] = true, [5] = true }, "[T, N, C, H, W], [N, C, H, W], [T, N, C] or [N, C]")

doc.set(norm.BatchNorm2d, [[
    nn.BatchNorm2d(C[, { eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true }])

    x [T, N, C, H, W] or [N, C, H, W]. Statistics over T, N, H, W; the running variance is the unbiased one.
    This is what the published TET and TRT codes call tdBN; nn.tdBN has the factor alpha * V_th.]])
doc.set(norm.BatchNorm1d, [[
    nn.BatchNorm1d(C[, { eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true }])

    x [T, N, C] or [N, C]. Statistics over T and N.]])
doc.set(norm.tdBN, [[
    nn.tdBN(C[, { alpha = 1, V_th = 1, eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true }])

    y = weight * alpha * V_th * (x - mean) / sqrt(var + eps) + bias, statistics over T, N, H, W. alpha = 1 / sqrt(2) for two
    branches that are added. Zheng et al. 2021, "Going Deeper With Directly-Trained Larger Spiking Neural Networks".]])

return norm
