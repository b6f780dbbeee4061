-- Figure 4 of arXiv 2506.19256 on Fashion-MNIST: Fisher information of the prefixes of time over a training with TRT, and its centroid; by the published
-- estimator, and by the trace of Eq. 7 at the end.
--   moonspike examples/figure4_fisher.lua
-- Some minutes on two cores; may be stopped and started again.
local ms = require "moonspike"

local opt = ms.arguments {
  usage = "moonspike examples/figure4_fisher.lua [options]", { "epochs", 20, "of the training", from = 1 }, { "samples", 1000, "training images", from = 10 },
  { "loss", "trt", "what is trained", choices = { "sdt", "trt" } }, { "T", 8, "time steps", from = 2 }, { "batches", 101, "of the estimator", from = 1 },
  { "seed", 1, "of weights and order" }, { "out", "runs/figure4", "folder of the run and the picture" },
}

local epochs = {}
for epoch = 1, opt.epochs do
  if epoch == 1 or epoch % math.max(1, opt.epochs // 5) == 0 or epoch == opt.epochs then epochs[#epochs + 1] = epoch end
end
local recipe = ms.recipes.get("figures-" .. opt.loss, { epochs = opt.epochs, every = opt.epochs, samples = opt.samples, seed = opt.seed, T = opt.T, keep = epochs })
ms.recipes.train(recipe, { out = opt.out, resume = true, quiet = true, print = function() end })

local rows, centroids = {}, {}
for t = 1, opt.T do rows[t] = {} end
for i, epoch in ipairs(epochs) do
  local run = ms.recipes.open(opt.out, { weights = "epoch" .. epoch })
  local information = ms.analysis.fisher(run.net, run.train, { batches = opt.batches })
  for t = 1, opt.T do rows[t][i] = information.I[t] end
  centroids[i] = information.centroid
  print(("epoch %d: information centroid %.3f"):format(epoch, centroids[i]))
  if i == #epochs then print(ms.analysis.fisher(run.net, run.train, { mode = "per_sample", batches = 2 })) end
end
print(ms.plot.heatmap(rows, { file = opt.out .. "/figure4.png", title = recipe.title, x = epochs, xlabel = "epoch", ylabel = "time step", unit = "Fisher information",
  line = { x = epochs, y = centroids, name = "information centroid" } }))
