-- Sweeps that are ready: the eta of Figure 1 and the delta of Table 3 of arXiv 2506.19256, there and on Fashion-MNIST. { recipe, axes }

local etas, deltas = { "loss.eta", 0, 0.001, 0.005, 0.01, 0.05, 0.1 }, { "loss.delta", 0, 0.25, 0.5, 1.0 }

return {
  ["figure1-cifar100"] = { "cifar100-resnet19-trt-T4", { etas } }, ["figure1-dvscifar10"] = { "dvscifar10-vggsnn-trt-T10", { etas } },
  ["figure1-fashion"] = { "figures-trt", { etas } }, ["table3"] = { "cifar100-resnet19-trt-T4", { deltas } },
  ["table3-fashion"] = { "figures-trt", { deltas } },
}
