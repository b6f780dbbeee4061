-- The ablations of arXiv 2506.19256 (Table 2, Table 3, Figure 1), and the controls that it lacks for each row of TRT.

local base = require "moonspike.recipes.base"
local table1 = require "moonspike.recipes.table1"

local rows = {}
local merge, strength = base.merge, base.strength

-- ---- Table 2: the same training with SDT's loss alone ----

for _, classes in ipairs { 10, 100 } do
  local published = classes == 10 and { 93.16, 92.92, 92.34 } or { 71.12, 70.86, 69.41 }
  for i, T in ipairs { 6, 4, 2 } do
    rows[("cifar%d-resnet19-sdt-T%d"):format(classes, T)] = merge(base.cifar[classes], base.trt, {
      title = ("SDT on CIFAR-%d, ResNet-19, T = %d, trained as TRT is"):format(classes, T), paper = "Table 2", T = T, network = { "resnet19" },
      loss = { "SDT" }, train = { augment = "trt-cifar" }, published = published[i],
      deviations = { "the paper's figure is STBP-tdBN's, copied from the literature and trained without cutout: no like-for-like ablation" },
    })
  end
end
rows["dvscifar10-vggsnn-sdt-T10"] = merge(base.dvs, base.trt, {
  title = "SDT on DVS-CIFAR10, VGGSNN, T = 10", paper = "Table 2", published = 78.50, network = { "vggsnn" }, loss = { "SDT" },
})

-- ---- Table 3: delta ----

for _, row in ipairs { { 0, 78.55 }, { 0.25, 79.51 }, { 0.5, 78.99 }, { 1, 79.37 } } do
  local delta, published = table.unpack(row)
  rows[("cifar100-resnet19-trt-T4-delta%g"):format(delta)] = merge(table1["cifar100-resnet19-trt-T4"], {
    title = ("TRT on CIFAR-100, ResNet-19, T = 4, delta = %g"):format(delta), paper = "Table 3", loss = base.with(strength.cifar, { delta = delta }),
    published = published,
  })
  if delta ~= 0.25 then rows[("cifar100-resnet19-trt-T4-delta%g"):format(delta)].spread = nil end
end

-- ---- Figure 1: eta; the figure has no numbers ----

for _, eta in ipairs { 0, 0.001, 0.005, 0.01, 0.05, 0.1 } do
  for name, penalty in next, { ["cifar100-resnet19-trt-T4"] = strength.cifar, ["dvscifar10-vggsnn-trt-T10"] = strength.dvs } do
    local row = merge(table1[name], { title = ("%s, eta = %g"):format(table1[name].title, eta), paper = "Figure 1", loss = base.with(penalty, { eta = eta }) })
    row.published, row.spread = nil, nil
    rows[("%s-eta%g"):format(name, eta)] = row
  end
end

-- ---- controls: what TRT has to be compared with ----

local controls = {
  l2 = { "no_delta", "plain L2 (delta = 0)" }, fittedl2 = { "fitted_l2", "L2 fitted to TRT's penalty at the start" }, mse = { "no_lambda", "the MSE term alone (lambda = 0)" },
  noeta = { "no_eta", "the penalty alone (eta = 0)" }, nogamma = { "weights_only", "weights without gammas" },
}

for name, row in next, table1 do
  if row.loss[1] == "TRT" then
    for short, control in next, controls do
      local loss = base.with(row.loss, { which = control[1] })
      loss[1] = "Control"
      local made = merge(row, { title = ("control of %s: %s"):format(row.title, control[2]), paper = "control", loss = loss })
      made.published, made.spread = nil, nil
      rows[(name:gsub("%-trt%-", "-" .. short .. "-"))] = made
    end
  end
end

return rows
