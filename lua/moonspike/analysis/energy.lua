-- Energy of a network's arithmetic by the usual model: so many picojoules for each operation that ms.evaluate counted.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local columns = require "moonspike.columns"

local MICRO = 1e-6 -- microjoules in a picojoule
local spec = { mac = o.number(4.6, { from = 0 }), ac = o.number(0.9, { from = 0 }) }

local Report = { __name = "energy" }

function Report:__tostring()
  local rows = { { "layer", "fed", "operations", "energy, uJ", "MACs without spikes", "energy, uJ" } }
  for _, layer in ipairs(self) do
    rows[#rows + 1] = { layer.name, layer.input, ("%.4g"):format(layer.operations), ("%.4g"):format(layer.spiking), ("%.0f"):format(layer.macs),
      ("%.4g"):format(layer.ann) }
  end
  rows[#rows + 1] = { "all", "", "", ("%.4g"):format(self.spiking), "", ("%.4g"):format(self.ann) }
  return columns(rows)
end

local function energy(layers, opts)
  if type(layers) ~= "table" or not layers[1] or not layers[1].macs then
    o.fail("energy: layers: expected the list of layers that ms.evaluate gives as its fifth value, got %s", o.show(layers))
  end
  local opt = o.read("energy", opts, spec)
  local report = { spiking = 0, ann = 0 }
  for i, layer in ipairs(layers) do
    local spiking = layer.operations * (layer.input == "spikes" and opt.ac or opt.mac) * MICRO
    local ann = layer.macs * opt.mac * MICRO
    report[i] = { name = layer.name, input = layer.input, operations = layer.operations, macs = layer.macs, spiking = spiking, ann = ann }
    report.spiking, report.ann = report.spiking + spiking, report.ann + ann
  end
  return setmetatable(report, Report)
end

return doc.set(energy, [[
    ms.analysis.energy(layers[, { mac = 4.6, ac = 0.9 }]) -> report

    layers: the fifth value of ms.evaluate. The energy of one sample in microjoules, report.spiking: operations of layers fed spikes times
    ac, those of layers fed reals times mac, over all time steps; and for comparison report.ann: of the same layers with real activations
    everywhere and one time step, all products times mac. report[i] has both for each layer, print(report) is a table.
    mac, ac: picojoules of a multiply-accumulate and of an accumulate; the defaults are those of 32-bit floats in 45 nm (Horowitz, ISSCC
    2014). A pooled spike (1/4, 1/2 ...) counts as one accumulate. Not counted: normalisation (it folds into the weights before it), biases, the
    neurons' own updates, pooling, the additions of residual paths, memory.]])
