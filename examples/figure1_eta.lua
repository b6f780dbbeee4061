-- Figure 1 of arXiv 2506.19256 on 1,000 images of Fashion-MNIST: how the share eta of the MSE term changes the test accuracy of TRT.
--   moonspike examples/figure1_eta.lua
-- The same for any recipe and key, on any data set: scripts/sweep.lua. Six values, three seeds: some minutes on two cores. May be stopped and started again.
local ms = require "moonspike"

local opt = ms.arguments {
  usage = "moonspike examples/figure1_eta.lua [options]", { "epochs", 15, "of each training", from = 1 }, { "seeds", 3, "how many", from = 1 },
  { "samples", 1000, "training images", from = 10 }, { "out", "runs/figure1", "folder of the runs and the picture" },
}

local etas, runs = { 0, 0.001, 0.005, 0.01, 0.05, 0.1 }, {}
for seed = 1, opt.seeds do
  runs[seed] = {}
  for i, eta in ipairs(etas) do
    local recipe = ms.recipes.get("figures-trt", { ["loss.eta"] = eta, epochs = opt.epochs, every = opt.epochs, samples = opt.samples, seed = seed })
    local result = ms.recipes.train(recipe, { out = ("%s/eta%g-seed%d"):format(opt.out, eta, seed), resume = true, quiet = true, print = function() end })
    runs[seed][i] = 100 * result.last.test_accuracy
    print(("eta %g, seed %d: %.2f %%"):format(eta, seed, runs[seed][i]))
  end
end

local places = {} -- eta = 0 has none on a logarithmic axis: the values stand at equal distances
for i in ipairs(etas) do places[i] = i end
print(ms.plot { file = opt.out .. "/figure1.png", title = ("TRT on %d images of Fashion-MNIST, %d seeds"):format(opt.samples, opt.seeds), panels = { {
  xlabel = "eta", ylabel = "test accuracy, %", xnames = etas, spread = "bars", legend = "none",
  series = { { name = "TRT", x = places, runs = runs } } } } })
