-- Figure 3 of arXiv 2506.19256 on Fashion-MNIST: learning curves of SDT, TET and TRT, as published (the full training loss beside the test's cross
-- entropy, smoothed) and as the same quantity (cross entropy on both parts).
--   moonspike examples/figure3_curves.lua
-- Some minutes on two cores; may be stopped and started again.
local ms = require "moonspike"

local opt = ms.arguments {
  usage = "moonspike examples/figure3_curves.lua [options]", { "epochs", 30, "of each training", from = 1 }, { "samples", 1000, "training images", from = 10 },
  { "seed", 1, "of weights and order" }, { "out", "runs/figure3", "folder of the runs and the pictures" },
}

local sets = {}
for i, method in ipairs { "sdt", "tet", "trt" } do
  local recipe = ms.recipes.get("figures-" .. method, { epochs = opt.epochs, every = 1, samples = opt.samples, seed = opt.seed, train_ce = true })
  local folder = ("%s/%s"):format(opt.out, method)
  ms.recipes.train(recipe, { out = folder, resume = true, quiet = true })
  sets[i] = { method:upper(), assert(ms.log.read(folder .. "/log.jsonl")) }
end

local title = ("%d images of Fashion-MNIST"):format(opt.samples)
print(ms.plot.learning_curves(sets, opt.out .. "/figure3-published.png", { smooth = "published", title = title .. ", as published", legend = "above", height = 560 }))
print(ms.plot.learning_curves(sets, opt.out .. "/figure3-same.png", { quantity = "same", title = title .. ", the same quantity", legend = "above", height = 560 }))
