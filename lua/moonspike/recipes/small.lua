-- Small runs of minutes on a few cores: Fashion-MNIST, as images and as recordings, with few and with all training samples. Each method's
-- strength is chosen on the validation part from the same five values (scripts/table.lua).

local base = require "moonspike.recipes.base"

local rows = {}
local merge = base.merge

-- ---- the two examples ----

local front = {
  dataset = { "FashionMNIST" }, T = 4, batch = 64, network = { "VGG", plan = { 32, "A", 64, "A" }, variant = "plain" }, optimizer = { "Adam", lr = 1e-3 },
  epochs = 10, seed = 42,
}
local dvs = {
  dataset = { "NMNIST", root = "data/dvs-fashion/bin" }, train = { augment = { { "roll", 2 } } }, T = 10, batch = 32, test_batch = 32, epochs = 5, seed = 42,
  network = { "VGG", plan = { 32, "A", 64, "A", 128, "A" }, variant = "plain" }, optimizer = { "Adam", lr = 2e-3 },
  missing = "The recordings are made by: moonspike scripts/make-events.lua --data FashionMNIST --profile saccade3 --out data/dvs-fashion/bin",
}
for short, loss in next, { sdt = { "SDT" }, tet = { "TET", mu = 0.05, phi = 1 }, trt = base.strength.cifar } do
  rows["fashion-mnist-" .. short] = merge(front, { title = loss[1] .. " on Fashion-MNIST: examples/fashion_mnist.lua", loss = loss })
  rows["dvs-fashion-" .. short] = merge(dvs, { title = loss[1] .. " on DVS-FashionMNIST: examples/dvs_fashion.lua", loss = loss })
end

-- ---- the paper's figures ----

for short, loss in next, { sdt = { "SDT" }, tet = { "TET", mu = 0.05, phi = 1 }, trt = base.strength.cifar } do
  rows["figures-" .. short] = {
    title = ("%s on 1,000 images of Fashion-MNIST"):format(loss[1]), dataset = { "FashionMNIST" }, test = { limit = 2000 }, samples = 1000, T = 4, batch = 50,
    test_batch = 250, network = { "VGG", plan = { 16, "A", 32, "A" } }, loss = loss, optimizer = { "Adam", lr = 2e-3 }, epochs = 20, every = 20, select = "last", seed = 1,
  }
end

-- ---- how the methods compare ----

local penalties = { "loss.lambda", 1e-6, 1e-5, 1e-4, 1e-3, 1e-2 }
local function shares(key) return { "loss." .. key, 0.005, 0.02, 0.05, 0.2, 0.5 } end
local function control(which) return base.with(base.strength.cifar, { [1] = "Control", which = which }) end

-- name, title, loss, what is chosen
local methods = {
  { "sdt", "SDT", { "SDT" } },
  { "tet", "TET", { "TET", phi = 1 }, shares "mu" },
  { "trt", "TRT", base.strength.cifar, penalties },
  { "l2", "plain L2 (delta = 0)", control "no_delta", penalties },
  { "fittedl2", "L2 fitted to TRT's penalty", control "fitted_l2", penalties },
  { "mse", "MSE term alone", control "no_lambda", shares "eta" },
  { "noeta", "TRT's penalty alone (eta = 0)", control "no_eta", penalties },
  { "nogamma", "TRT, weights without gammas", control "weights_only", penalties },
}

local compared = {
  fashion = { "Fashion-MNIST", {
    dataset = { "FashionMNIST" }, T = 4, batch = 50, network = { "VGG", plan = { 16, "A", 32, "A" } }, optimizer = { "Adam", lr = 2e-3 }, test_batch = 250,
  }, { [1000] = 30, [5000] = 10, [0] = 2 } },
  dvsfashion = { "DVS-FashionMNIST", {
    dataset = { "NMNIST", root = "data/dvs-fashion/bin", T = 5, bin = 17, cache = "data/dvs-fashion/cache" }, T = 5, batch = 50, test_batch = 250,
    network = { "VGG", plan = { 16, "A", 32, "A", 64, "A" } }, optimizer = { "Adam", lr = 2e-3 }, missing = dvs.missing,
  }, { [1000] = 30, [5000] = 10, [0] = 2 } },
}

for short, entry in next, compared do
  local data, settings, sizes = table.unpack(entry)
  for samples, epochs in next, sizes do
    for _, method in ipairs(methods) do
      local name, title, loss, tune = table.unpack(method)
      rows[("%s%s-%s"):format(short, samples > 0 and samples or "", name)] = merge(settings, {
        title = ("%s on %s, %s training samples"):format(title, data, samples > 0 and samples or "all"), loss = loss,
        tune = tune, samples = samples > 0 and samples or nil, epochs = epochs, every = epochs // 2,
        validation = 0.1, select = "validation",
      })
    end
  end
end

return rows
