-- Figure 5, S3 and S4 of arXiv 2506.19256 on Fashion-MNIST: average firing rates of SDT, TET and TRT, by layer and by time step; operations and energy.
--   moonspike examples/figure5_firing.lua
-- Some minutes on two cores; may be stopped and started again.
local ms = require "moonspike"

local opt = ms.arguments {
  usage = "moonspike examples/figure5_firing.lua [options]", { "epochs", 20, "of each training", from = 1 }, { "samples", 1000, "training images", from = 10 },
  { "seed", 1, "of weights and order" }, { "out", "runs/figures", "folder of the runs and the pictures" },
}

local nets, test, T = {}, nil, nil
for i, method in ipairs { "sdt", "tet", "trt" } do
  local recipe = ms.recipes.get("figures-" .. method, { epochs = opt.epochs, every = opt.epochs, samples = opt.samples, seed = opt.seed })
  local folder = ("%s/%s"):format(opt.out, method)
  ms.recipes.train(recipe, { out = folder, resume = true, quiet = true, print = function() end })
  local run = ms.recipes.open(folder, { weights = "last" })
  nets[i], test, T = { method:upper(), run.net }, run.test, recipe.T
  local accuracy, _, _, synops, layers = ms.evaluate(run.net, test)
  print(("%s: %.2f %%, %.3g synaptic operations of a sample; %s"):format(method:upper(), 100 * accuracy, synops, tostring(layers)))
end

local rates = ms.analysis.firing_rates(nets, test)
print(rates)
local bars, lines, steps = {}, {}, {}
for t = 1, T do steps[t] = t end
for i, entry in ipairs(nets) do
  local r = rates[i]
  bars[i] = { name = entry[1], y = {} }
  for k, layer in ipairs(r.layers) do bars[i].y[k] = r.rate[layer] end
  lines[i] = { name = entry[1], x = steps, y = r.rate_t[r.layers[1]] }
end
local names = {}
for k = 1, #bars[1].y do names[k] = "layer " .. k end
print(ms.plot.bars(bars, { file = opt.out .. "/figure5-layers.png", categories = names, ylabel = "spikes of a neuron in a time step",
  title = ("%d images of Fashion-MNIST"):format(opt.samples) }))
print(ms.plot { file = opt.out .. "/figure5-steps.png", title = "first layer of neurons",
  panels = { { xlabel = "time step", ylabel = "spikes of a neuron", whole_x = true, legend = "above", series = lines } } })
