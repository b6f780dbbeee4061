-- Figure 2 of arXiv 2506.19256 on Fashion-MNIST: the loss around the weights that SDT, TET and TRT end at, and how sharp it is, in figures.
--   moonspike examples/figure2_landscape.lua
-- Filter-normalised directions (Li et al. 2018), the same for all three. Some minutes on two cores; may be stopped and started again.
local ms = require "moonspike"

local opt = ms.arguments {
  usage = "moonspike examples/figure2_landscape.lua [options]", { "epochs", 20, "of each training", from = 1 }, { "samples", 1000, "training images", from = 10 },
  { "points", 15, "along each direction", from = 7 }, { "seed", 1, "of weights and order" }, { "out", "runs/figures", "folder of the runs and the pictures" },
}

print "method   max    mean   curvature of both directions, largest"
for _, method in ipairs { "sdt", "tet", "trt" } do
  local recipe = ms.recipes.get("figures-" .. method, { epochs = opt.epochs, every = opt.epochs, samples = opt.samples, seed = opt.seed })
  local folder = ("%s/%s"):format(opt.out, method)
  ms.recipes.train(recipe, { out = folder, resume = true, quiet = true, print = function() end })
  local run = ms.recipes.open(folder, { weights = "last" })
  local landscape = ms.analysis.landscape(run.net, run.train, { directions = 2, points = opt.points, file = folder .. "/landscape.jsonl",
    resume = true, progress = true })
  local s = landscape:sharpness { radius = 0.5 }
  print(("%-6s %6.3f  %6.3f  %6.3f %6.3f %6.3f"):format(method, s.max, s.mean, s.curvature[1], s.curvature[2], s.largest))
  local how = { x = landscape.x, y = landscape.y, xlabel = "direction 1", ylabel = "direction 2", unit = "cross entropy",
    title = ("%s, %d images of Fashion-MNIST"):format(method:upper(), opt.samples) }
  for _, kind in ipairs { "contour", "surface" } do
    how.file = ("%s/figure2-%s-%s.png"):format(opt.out, method, kind)
    print(ms.plot[kind](landscape.z, how))
  end
end
