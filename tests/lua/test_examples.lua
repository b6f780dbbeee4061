-- Examples run as they stand, on a few images named through $MOONSPIKE_DATA. examples/fashion_mnist.lua is run by test_train and gpu-check.sh.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local core = require "moonspike.core"

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
end

function TestExamples:test_dvs_fashion_on_three_images()
  local text = dvs("bin", ("--limit 3 --loss sdt --data %s/three"):format(folder))
  for _, part in ipairs { "train 3/3  written 3", "test 1/1  written 1", "epoch 1: loss" } do lu.assertStrContains(text, part) end
end

function TestExamples:test_what_dvs_fashion_does_not_know()
  for name, value in pairs { format = "npz", loss = "ce" } do
    local code, text = s.run(root .. "examples/dvs_fashion.lua", "MOONSPIKE_DATA=" .. folder, ("--%s %s --data %s/none"):format(name, value, folder))
    lu.assertEquals(code, 1, text)
    lu.assertStrContains(text, ("--%s: expected one of those that --help lists, got '%s'"):format(name, value))
    lu.assertFalse(core.system.exists(folder .. "/none")) -- before anything is made
  end
end

function TestExamples:test_dvs_fashion_in_the_other_format()
  if sanitize then lu.skip "too long under the sanitizers" end
  local text = dvs("aedat", "--limit 40 --loss sdt")
  for _, part in ipairs { "DVS-FashionMNIST train: 30 samples of [2, 2, 48, 48]", "split random 0.8, seed 0: train (", "epoch 1: loss" } do
    lu.assertStrContains(text, part)
  end
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
