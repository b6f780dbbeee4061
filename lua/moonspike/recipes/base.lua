-- What the recipes of the paper's tables share: settings of each published code, and how rows are made of them.

local base = {}

base.sources = {
  trt = "github.com/ZBX05/Temporal-Regularization-Training @ 95b5ecb; arXiv 2506.19256, Table S2",
  tet = "github.com/Gus-Lab/temporal_efficient_training @ f9bde41",
  localzo = "github.com/BhaskarMukhoty/LocalZO @ 283d5b6",
  slt = "github.com/srinuvaasu/SLT @ 1590e71",
  tab = "github.com/HaiyanJiang/SNN-TAB @ f9b94ce",
  sew = "github.com/fangwei123456/Spike-Element-Wise-ResNet @ cfc547c",
  efficient = "github.com/Intelligent-Computing-Lab-Yale/EfficientLIF-Net @ 0d8c872",
  imp = "github.com/StephenTaylor1998/IMP-SNN @ db05f3e, github.com/AmazingLab/amazing-cls @ f862525",
  tks = "github.com/Brain-Cog-Lab/TKS @ 52401db, github.com/BrainCog-X/Brain-Cog @ 3998fd5",
}

local half = "float32 in place of float16 autocast with loss scaling (precision = \"bf16\" is the nearest)"
base.half = half

-- A new table: the keys of all arguments, later ones over earlier ones. deviations are joined.
function base.merge(...)
  local out, deviations = {}, {}
  for i = 1, select("#", ...) do
    for key, value in next, (select(i, ...)) do out[key] = value end
    for _, text in ipairs((select(i, ...)).deviations or {}) do deviations[#deviations + 1] = text end
  end
  out.deviations = #deviations > 0 and deviations or nil
  return out
end

-- ---- data, as TRT's code has them ----

base.cifar = { [10] = { dataset = { "CIFAR10" } }, [100] = { dataset = { "CIFAR100" } } }

base.imagenet100 = {
  dataset = { "ImageNet100", size = 224 }, train = { augment = { flip = true } }, test_batch = 64,
}
base.dvs = { dataset = { "CIFAR10DVS", preset = "trt-code", split = "trt" }, train = { augment = "trt-dvs" }, T = 10, test_batch = 64 }
base.caltech = { dataset = { "NCaltech101", preset = "sj-number", size = 48, split = "spikingjelly" }, T = 10, test_batch = 64 }

-- ---- how TRT's code trains ----

base.trt = {
  source = base.sources.trt, batch = 64, epochs = 300, optimizer = { "Adam", lr = 1e-3 }, schedule = { "CosineAnnealingLR" }, seed = 42, select = "best",
  deviations = { half },
}

-- Its regulariser on each data set (Table S2).
base.strength = {
  cifar = { "TRT", lambda = 1e-5, delta = 0.25, eta = 0.05, epsilon = 1e-5 },
  imagenet100 = { "TRT", lambda = 5e-5, delta = 0.5, eta = 0.001, epsilon = 1e-5 },
  dvs = { "TRT", lambda = 5e-5, delta = 0.5, eta = 0.001, epsilon = 1e-5 },
  caltech = { "TRT", lambda = 5e-5, delta = 0.5, eta = 0.05, epsilon = 1e-5 },
}

-- The penalty of strength, with other values.
function base.with(strength, more)
  local out = {}
  for key, value in next, strength do out[key] = value end
  for key, value in next, more do out[key] = value end
  return out
end

return base
