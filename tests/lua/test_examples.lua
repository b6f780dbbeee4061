-- Examples run as they stand, on a few small samples named through $MOONSPIKE_DATA, and train exactly as the recipes that they name.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local core = require "moonspike.core"
local ms = require "moonspike"
local recordings = require "recordings"

local root = arg[0]:match "^(.*)tests/lua/[^/]*$"
local sanitize = os.getenv "MOONSPIKE_BUILD" == "sanitize" -- where recordings of 128 x 128 pixels take too long
local folder = s.folder()
s.fashion(folder, 40, 10)

TestExamples = {}

local function dvs(format, arguments)
  local out = folder .. "/out " .. format -- a name that the shell must be told of
  local code, text = s.run(root .. "examples/dvs_fashion.lua", "MOONSPIKE_DATA=" .. folder,
    ("--data '%s/made here' --format %s %s --epochs 1 --T 2 --batch 8 --device cpu --out '%s'"):format(folder, format, arguments, out))
  lu.assertEquals(code, 0, text)
  return text, out
end

function TestExamples:test_dvs_fashion()
  local text, out = dvs("bin", "--limit 16 --loss trt")
  for _, part in ipairs { "NMNIST train: 16 samples of [2, 2, 34, 34], 10 classes", "split official train (", "epoch 1: loss", "written 16", "written 4" } do
    lu.assertStrContains(text, part)
  end
  lu.assertTrue(#s.read(out .. "/last.safetensors") > 100000)
  lu.assertStrContains(s.read(out .. "/log.jsonl"), '"split":"official train"')
  text = dvs("bin", "--limit 16 --loss tet") -- the recordings are there
  lu.assertStrContains(text, "train 16/16  written 0")
  text = dvs("bin", "--limit 8 --loss tet") -- and more than asked for
  for _, part in ipairs { "NMNIST train: 8 samples of", "split official train / 8 samples, seed 0" } do lu.assertStrContains(text, part) end
end

function TestExamples:test_dvs_fashion_on_three_images()
  local text = dvs("bin", ("--limit 3 --loss sdt --data %s/three"):format(folder))
  for _, part in ipairs { "train 3/3  written 3", "test 1/1  written 1", "epoch 1: loss" } do lu.assertStrContains(text, part) end
end

function TestExamples:test_what_dvs_fashion_does_not_know()
  for name, value in pairs { format = "npz", loss = "ce" } do
    local code, text = s.run(root .. "examples/dvs_fashion.lua", "MOONSPIKE_DATA=" .. folder, ("--%s %s --data %s/none"):format(name, value, folder))
    lu.assertEquals(code, 2, text)
    lu.assertStrMatches(text, ("dvs_fashion: %%-%%-%s: expected one of [a-z, ]+, got '%s'\n"):format(name, value))
    lu.assertFalse(core.system.exists(folder .. "/none")) -- before anything is made
  end
end

function TestExamples:test_dvs_fashion_in_the_other_format()
  if sanitize then lu.skip "too long under the sanitizers" end
  local text = dvs("aedat", "--limit 40 --loss sdt")
  for _, part in ipairs { "DVS-FashionMNIST train: 30 samples of [2, 2, 48, 48]", "split random 0.8, seed 0: train (", "epoch 1: loss" } do
    lu.assertStrContains(text, part)
  end
  lu.assertStrContains(dvs("aedat", "--limit 20 --loss sdt"), "DVS-FashionMNIST train: 16 samples of")
end

-- ---- each trains as its recipe does ----

-- Runs the example for two epochs and the recipe beside it. The recipe finds its data where MOONSPIKE_DATA of the example does.
local function as_recipe(example, arguments, name, changes, more)
  local out = ("%s/%s"):format(folder, name)
  local code, text = s.run(root .. "examples/" .. example, "MOONSPIKE_DATA=" .. folder, ("%s --epochs 2 --device cpu --out %s/example"):format(arguments, out))
  lu.assertEquals(code, 0, text)
  local all = { epochs = 2, ["dataset.root"] = folder, batch = 8 }
  for key, value in pairs(changes) do all[key] = value end
  local recipe = ms.recipes.get(name, all)
  for key, value in pairs(more or {}) do recipe[key] = value end
  ms.recipes.train(recipe, { out = out .. "/recipe", quiet = true, print = function() end })
  local a, b = ms.log.read(out .. "/example/log.jsonl"), ms.log.read(out .. "/recipe/log.jsonl")
  lu.assertEquals({ #a, #b }, { 2, 2 })
  for epoch = 1, 2 do
    for _, key in ipairs { "train_loss", "train_accuracy", "test_loss", "test_accuracy", "firing_rate", "synops" } do
      lu.assertEquals(a[epoch][key], b[epoch][key], ("%s, epoch %d: %s"):format(name, epoch, key))
    end
  end
  lu.assertEquals(s.read(out .. "/example/curves.csv"):gsub("\n.*", ""), s.read(out .. "/recipe/curves.csv"):gsub("\n.*", ""))
  return text
end

function TestExamples:test_fashion_mnist_is_its_recipe()
  for _, loss in ipairs { "sdt", "tet", "trt" } do
    as_recipe("fashion_mnist.lua", "--T 2 --batch 8 --limit 40 --loss " .. loss, "fashion-mnist-" .. loss, { T = 2, ["dataset.limit"] = 40 })
  end
end

function TestExamples:test_dvs_fashion_is_its_recipe()
  as_recipe("dvs_fashion.lua", ("--T 2 --batch 8 --limit 40 --data %s/dvs"):format(folder), "dvs-fashion-trt",
    { T = 2, ["dataset.root"] = folder .. "/dvs/bin", test_batch = 8 })
end

-- CIFAR's binary records, of n images each: bytes of labels, then noise.
local function cifar(classes)
  local dir = ("%s/cifar-%d-b%s"):format(folder, classes, classes == 10 and "atches-bin" or "inary")
  core.system.mkdir(dir)
  local state = classes
  local function part(name, n)
    local bytes = {}
    for i = 1, n do
      bytes[#bytes + 1] = classes == 10 and string.char(i % 10) or string.char(i % 20, i % 100)
      for _ = 1, 3072 / 4 do
        state = (state * 1103515245 + 12345) % 2147483648
        bytes[#bytes + 1] = string.pack("<I4", state)
      end
    end
    s.write(dir .. "/" .. name, table.concat(bytes))
  end
  if classes == 100 then
    part("train.bin", 16)
    part("test.bin", 8)
    return
  end
  for i = 1, 5 do part(("data_batch_%d.bin"):format(i), 4) end
  part("test_batch.bin", 8)
end

function TestExamples:test_cifar_is_its_recipe()
  for _, classes in ipairs { 10, 100 } do
    cifar(classes)
    for _, loss in ipairs(sanitize and { "trt" } or { "sdt", "trt" }) do
      as_recipe(("cifar%d.lua"):format(classes), "--T 2 --batch 8 --scale 0.07 --loss " .. loss, ("cifar%d-resnet19-%s-T2"):format(classes, loss),
        { ["network.scale"] = 0.07 })
    end
  end
end

function TestExamples:test_dvs_cifar10_is_its_recipe()
  if sanitize then lu.skip "too long under the sanitizers" end
  local at = recordings.make(folder .. "/CIFAR10DVS", recordings.cifar10, { 0, 1, 950 }, "cifar10_%s_%d.aedat", 128, 128)
  for _, loss in ipairs { "sdt", "trt" } do
    as_recipe("dvs_cifar10.lua", "--T 2 --batch 8 --scale 0.07 --loss " .. loss, ("dvscifar10-vggsnn-%s-T10"):format(loss),
      { T = 2, ["network.scale"] = 0.07, ["dataset.root"] = at })
  end
end

function TestExamples:test_n_caltech101_is_its_recipe()
  if sanitize then lu.skip "too long under the sanitizers" end
  local at = recordings.make(folder .. "/NCaltech101", { "accordion", "yin_yang" }, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, "image_%.0s%04d.bin", 240, 180)
  local text = as_recipe("n_caltech101.lua", ("--T 2 --batch 8 --scale 0.07 --cache %s/frames"):format(folder), "ncaltech101-vggsnn-trt-T10",
    { T = 2, ["network.scale"] = 0.07, ["dataset.root"] = at })
  lu.assertStrContains(text, "18 samples of [2, 2, 48, 48], 2 classes")
end

function TestExamples:test_imagenet100_is_its_recipe()
  if sanitize then lu.skip "too long under the sanitizers" end
  local picture = folder .. "/one.png"
  ms.data.write_image(picture, ms.randint(0, 256, { 3, 40, 48 }, { key = 1 }):to "uint8")
  for _, class in ipairs(ms.data.imagenet100_classes "CMC") do
    for _, part in ipairs { "train", "val" } do
      local dir = ("%s/imagenet100/%s/%s"):format(folder, part, class)
      core.system.mkdir(dir)
      s.write(dir .. "/1.png", s.read(picture))
    end
  end
  as_recipe("imagenet100.lua", "--T 2 --batch 64 --size 32 --scale 0.07 --workers 2", "imagenet100-sew34-trt-T4",
    { T = 2, batch = 64, ["network.scale"] = 0.07, ["dataset.size"] = 32, ["dataset.root"] = folder .. "/imagenet100" })
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
