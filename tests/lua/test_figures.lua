-- The paper's figures from trained runs: scripts/figures.lua and the examples. The numbers behind them have tests of their own (fisher, landscape, firing, plot).
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"

local root = arg[0]:match "^(.*)tests/lua/[^/]*$"
local gnuplot = os.execute "gnuplot --version >/dev/null 2>&1"
local sanitize = os.getenv "MOONSPIKE_BUILD" == "sanitize" -- which runs the script once, and none of the examples
local folder = s.folder()
s.fashion(folder, 60, 20)

local function train(name, loss, changes, monitored)
  local out = folder .. "/" .. name
  local recipe = { title = name, dataset = { "FashionMNIST", root = folder }, T = 2, batch = 10, epochs = 3, seed = 1, network = { "VGG", plan = { 4, "A", 8, "A" } },
    loss = loss, optimizer = { "Adam", lr = 5e-3 }, keep = { 1, 3 }, train_ce = true }
  for key, value in pairs(changes or {}) do recipe[key] = value end
  ms.recipes.train(recipe, { out = out, quiet = true, print = function() end, monitor = monitored, monitor_every = 4 })
  return out
end
local sdt, trt = train("sdt", { "SDT" }), train("trt", { "TRT" }, nil, { "firing", "gradients", "synops" })

local function run(script, arguments, code)
  local got, text = s.run(root .. script, "MOONSPIKE_DATA=" .. folder, arguments)
  lu.assertEquals(got, code or 0, text)
  return text
end

local function header(path) return s.read(path):match "^[^\n]*" end
local function lines(path) return select(2, s.read(path):gsub("\n", "\n")) end

TestScript = {}

function TestScript:test_one_run()
  local out = trt .. "/figures"
  local text = run("scripts/figures.lua", ("--run %s --points 5 --samples 20 --batches 2 --device cpu"):format(trt))
  for _, name in ipairs { "curves", "curves-same", "fisher", "contour", "surface", "landscape", "firing-rates", "firing-rates-t", "weights", "confusion", "raster",
    "membranes", "maps", "samples", "monitor-rate", "monitor-gradients", "monitor-gradient", "monitor-operations", "monitor-energies", "monitor-synops", "monitor-energy" } do
    lu.assertTrue(core.system.exists(("%s/%s.csv"):format(out, name)), name)
    lu.assertEquals(core.system.exists(("%s/%s.png"):format(out, name)), gnuplot == true, name)
  end
  lu.assertEquals(lines(out .. "/contour.csv"), 1 + 25)
  local rows = ms.log.read(trt .. "/monitor.jsonl")
  lu.assertAlmostEquals(tonumber(s.read(out .. "/monitor-synops.csv"):match(",5,([%d.]+)\n")), rows[2].synops, 1e-3)
  lu.assertEquals(lines(out .. "/monitor-operations.csv"), 1 + 3 * #rows) -- of three layers
  lu.assertEquals(lines(out .. "/landscape2-trt.jsonl"), 2 + 25) -- settings, centre, points
  -- Fisher information at two epochs and two steps, as the library has it
  local information = ms.recipes.open(trt, { weights = "epoch3" })
  information = ms.analysis.fisher(information.net, information.train, { batches = 2 })
  lu.assertStrContains(text, ("trt, epoch 3: centroid %.3f"):format(information.centroid))
  for _, part in ipairs { "TRT's penalty R on these weights", "sharpness within 1 filter norms", "energy" } do lu.assertStrContains(text, part) end
  local report = s.read(out .. "/report.html")
  if gnuplot then lu.assertEquals(select(2, report:gsub("<figure>", "")), 22) end -- the pictures and the learning curves
end

function TestScript:test_several_runs_and_a_landscape_that_goes_on()
  if sanitize then lu.skip "too long under the sanitizers" end
  local out = folder .. "/both"
  local arguments = ("--run %s --run %s --only curves,firing,landscape --points 5 --samples 20 --device cpu --format svg --out %s"):format(sdt, trt, out)
  run("scripts/figures.lua", arguments)
  for _, name in ipairs { "contour-sdt", "contour-trt", "firing-rates", "curves" } do lu.assertTrue(core.system.exists(("%s/%s.csv"):format(out, name)), name) end
  lu.assertStrContains(s.read(out .. "/firing-rates.csv"), '"sdt"')
  lu.assertStrContains(s.read(out .. "/firing-rates.csv"), '"trt"')
  local path = out .. "/landscape2-sdt.jsonl"
  local whole = s.read(path)
  s.write(path, whole:sub(1, #whole // 2)) -- as if it had been stopped
  run("scripts/figures.lua", arguments)
  lu.assertEquals(s.read(path), whole)
end

-- The folders of a table's runs all end in seed1, seed2 ...: neither pictures nor names may meet.
function TestScript:test_runs_of_one_name()
  for name, from in pairs { first = sdt, second = trt } do assert(os.execute(("mkdir %s/%s && cp -r %s %s/%s/seed1"):format(folder, name, from, folder, name))) end
  local out = folder .. "/table"
  run("scripts/figures.lua", ("--run %s/first/seed1/ --run %s/second/seed1 --only firing,confusion --device cpu --out %s"):format(folder, folder, out))
  local base = folder:gsub("^/", ""):gsub("/", "-")
  for _, name in ipairs { "first", "second" } do
    lu.assertTrue(core.system.exists(("%s/confusion-%s-%s-seed1.csv"):format(out, base, name)), name)
    lu.assertStrContains(s.read(out .. "/firing-rates.csv"), ('"%s-%s-seed1"'):format(base, name))
  end
end

function TestScript:test_networks_of_different_depth()
  local shallow = train("shallow", { "SDT" }, { network = { "VGG", plan = { 4, "A" } }, epochs = 1, keep = {} })
  local out = folder .. "/depths"
  run("scripts/figures.lua", ("--run %s --run %s --only firing --device cpu --out %s"):format(trt, shallow, out))
  lu.assertStrMatches(s.read(out .. "/firing-rates.csv"), '.*"2","trt",[%d.]+,""\n.*"2","shallow",nan,""\n.*')
end

-- Stopped long before its end, a run has weights of the epoch it came to.
function TestScript:test_stopped_run()
  local stopped = train("stopped", { "SDT" }, { epochs = 1, keep = {} })
  s.write(stopped .. "/recipe.lua", (s.read(stopped .. "/recipe.lua"):gsub("epochs = 1,", "epochs = 300,")))
  local text = run("scripts/figures.lua", ("--run %s --only fisher --batches 1 --device cpu"):format(stopped))
  lu.assertStrContains(text, "stopped, epoch 1: centroid ")
  lu.assertStrMatches(s.read(stopped .. "/figures/fisher.csv"), "[^\n]*\n1,1,.*")
end

function TestScript:test_refused()
  lu.assertStrContains(run("scripts/figures.lua", "", 2), "figures: --run: expected the folder of a run, got nothing")
  lu.assertStrContains(run("scripts/figures.lua", "--run /nowhere", 2), "--run: folder: expected a run of recipes.train, with recipe.lua, got '/nowhere'")
  lu.assertStrContains(run("scripts/figures.lua", ("--run %s --only curve"):format(trt), 2), "--only: expected some of curves,fisher,")
end

TestExamples = {}

local small = " --epochs 2 --samples 20 --out " .. folder

function TestExamples:test_figure1()
  if sanitize then lu.skip "too long under the sanitizers" end
  local text = run("examples/figure1_eta.lua", "--seeds 2" .. small .. "/figure1")
  lu.assertStrContains(text, "eta 0.1, seed 2: ")
  lu.assertEquals(lines(folder .. "/figure1/figure1.csv"), 1 + 6)
  local again = run("examples/figure1_eta.lua", "--seeds 2" .. small .. "/figure1") -- the runs are there
  lu.assertEquals(again, text)
end

function TestExamples:test_figures_2_and_5()
  if sanitize then lu.skip "too long under the sanitizers" end
  local text = run("examples/figure2_landscape.lua", "--points 7" .. small .. "/figures")
  lu.assertStrMatches(text, ".*\ntrt +%d+%.%d+ +%-?%d+%.%d+.*")
  lu.assertEquals(lines(folder .. "/figures/figure2-trt-contour.csv"), 1 + 49)
  text = run("examples/figure5_firing.lua", small .. "/figures")
  lu.assertStrContains(text, "layers.1.lif")
  lu.assertEquals(lines(folder .. "/figures/figure5-layers.csv"), 1 + 3 * 2)
end

function TestExamples:test_figure3()
  if sanitize then lu.skip "too long under the sanitizers" end
  run("examples/figure3_curves.lua", small .. "/figure3")
  local published, same = s.read(folder .. "/figure3/figure3-published.csv"), s.read(folder .. "/figure3/figure3-same.csv")
  lu.assertStrContains(published, "TRT, training (full loss)")
  lu.assertStrContains(same, "TRT, training")
  lu.assertNil(same:find("full loss", 1, true))
end

function TestExamples:test_figure4()
  if sanitize then lu.skip "too long under the sanitizers" end
  local text = run("examples/figure4_fisher.lua", "--T 3 --batches 1" .. small .. "/figure4")
  lu.assertStrContains(text, "epoch 2: information centroid ")
  lu.assertEquals(header(folder .. "/figure4/figure4.csv") ~= nil and lines(folder .. "/figure4/figure4.csv") >= 1 + 2 * 3, true)
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
