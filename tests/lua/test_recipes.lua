-- Recipes: what they say, that each can be built, trained, stopped and gone on with, compared in a table; and what is refused.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local core = require "moonspike.core"
local series = require "moonspike.recipes.series"
local recipes = ms.recipes

local root = arg[0]:match "^(.*)tests/lua/[^/]*$"
local sanitize = os.getenv "MOONSPIKE_BUILD" == "sanitize" -- where what is Lua alone takes long, and finds nothing that release does not
local folder = s.folder()
s.fashion(folder, 60, 20)
local function silent() end

-- A small training that goes on the folder's images.
local function small(changes)
  local all = { title = "test", dataset = { "FashionMNIST", root = folder }, T = 2, batch = 8, epochs = 3, validation = 0.2, seed = 1,
    network = { "VGG", plan = { 4, "A", 8, "A" } }, loss = { "TRT" }, optimizer = { "Adam", lr = 5e-3 } }
  for key, value in pairs(changes or {}) do all[key] = value end
  return all
end

-- ---- the book ----

TestBook = {}

-- Figures of Table 1 of arXiv 2506.19256, at T = 6, 4, 2.
function TestBook:test_published()
  local table1 = {
    cifar10 = { tdbn = { 93.16, 92.92, 92.34 }, tet = { 94.50, 94.44, 94.16 }, localzo = { 95.56, 95.30, 95.03 }, tab = { 94.81, 94.76, 94.73 },
      slt = { 95.26, 95.18, 94.96 }, trt = { 95.72, 95.58, 95.30 } },
    cifar100 = { tdbn = { 71.12, 70.86, 69.41 }, tet = { 74.72, 74.47, 72.87 }, localzo = { 77.25, 76.89, 76.36 }, tab = { 76.82, 76.81, 76.31 },
      slt = { 74.87, 75.01, 73.77 }, trt = { 79.66, 79.51, 77.94 } },
  }
  for set, methods in pairs(table1) do
    for method, figures in pairs(methods) do
      for i, T in ipairs { 6, 4, 2 } do
        local recipe = recipes.get(("%s-resnet19-%s-T%d"):format(set, method, T))
        lu.assertEquals({ recipe.published, recipe.T, recipe.paper }, { figures[i], T, "Table 1" }, recipe.name)
      end
    end
  end
  for name, published in pairs {
    ["imagenet100-resnet19-efficientlif-T5"] = 79.44, ["imagenet100-sew34-localzo-T4"] = 81.56, ["imagenet100-sew18-imp-T4"] = 80.80,
    ["imagenet100-sew34-trt-T4"] = 81.30, ["dvscifar10-7bwidenet-sew-T16"] = 74.40, ["dvscifar10-vggsnn-tet-T10"] = 83.10,
    ["dvscifar10-vggsnn-localzo-T10"] = 81.87, ["dvscifar10-vggsnn-trt-T10"] = 83.20, ["ncaltech101-vggsnn-localzo-T10"] = 82.99,
    ["ncaltech101-vggsnn-tks-T10"] = 84.10, ["ncaltech101-vggsnn-imp-T10"] = 85.01, ["ncaltech101-vggsnn-trt-T10"] = 85.18,
    ["dvscifar10-vggsnn-sdt-T10"] = 78.50, ["cifar100-resnet19-sdt-T2"] = 69.41, ["cifar100-resnet19-trt-T4-delta0"] = 78.55,
    ["cifar100-resnet19-trt-T4-delta0.5"] = 78.99, ["cifar100-resnet19-trt-T4-delta1"] = 79.37,
  } do lu.assertEquals(recipes.get(name).published, published, name) end
  local rows = 0
  for _, name in ipairs(recipes.list()) do
    local recipe = recipes.get(name)
    if recipe.paper == "Table 1" then rows = rows + 1 end
    if recipe.paper then lu.assertTrue(#recipe.source > 20, name) end
  end
  lu.assertEquals(rows, 2 * 6 * 3 + 4 + 4 + 4)
end

-- Table S2: eta, lambda, delta, epsilon of the published runs.
function TestBook:test_strengths()
  for name, want in pairs { ["cifar10-resnet19-trt-T6"] = { 0.05, 1e-5, 0.25 }, ["imagenet100-sew34-trt-T4"] = { 0.001, 5e-5, 0.5 },
    ["dvscifar10-vggsnn-trt-T10"] = { 0.001, 5e-5, 0.5 }, ["ncaltech101-vggsnn-trt-T10"] = { 0.05, 5e-5, 0.5 } } do
    local loss = recipes.get(name).loss
    lu.assertEquals({ loss.eta, loss.lambda, loss.delta, loss.epsilon }, { want[1], want[2], want[3], 1e-5 }, name)
  end
  lu.assertEquals(#recipes.list "-eta", 12)
  lu.assertEquals(#recipes.list "T4 delta", 4)
  for _, control in ipairs { "l2", "fittedl2", "mse", "noeta", "nogamma" } do
    lu.assertEquals(#recipes.list("-" .. control .. "-T"), 9, control) -- one for each row of TRT
  end
end

-- Every one has a network, a criterion, an optimizer and a schedule that fit together; nothing is drawn.
function TestBook:test_all_can_be_built()
  if sanitize then lu.skip "too long under the sanitizers" end
  for _, name in ipairs(recipes.list()) do
    local plan = recipes.plan(recipes.get(name), { steps = 0 })
    lu.assertTrue(plan.parameters > 10000 and plan.steps_per_epoch > 0, name)
  end
end

function TestBook:test_plan()
  local plan = recipes.plan(recipes.get("cifar10-resnet19-trt-T4", { ["dataset.root"] = folder .. "/nowhere" }), { steps = 0 })
  lu.assertEquals({ plan.parameters, plan.regularised, plan.tensors, plan.steps_per_epoch }, { 12630858, 12625280, 42, 782 })
  lu.assertEquals(plan.macs, ms.models.describe("resnet19", { T = 4 }).macs)
  local text = tostring(plan)
  for _, part in ipairs { "published     95.58 % +- 0.10, Table 1", "300 epochs of 782 steps, batches of 64", "deviations    float32 in place",
    "get-data.sh CIFAR10", "not here", "best test accuracy of all epochs (chosen on the test set)" } do lu.assertStrContains(text, part) end
  for key, text in pairs { T = "T: expected what the recipe's key T says, 1, got 9", batch_size = "batch_size: expected what the recipe's key batch says, 10, got 9",
    shuffle = "shuffle: expected what the recipe's key train says, true, got 9" } do
    s.raises("recipe: dataset: " .. text, recipes.plan, small { T = 1, batch = 10, train = { [key] = 9 } }, { steps = 0 })
  end
  s.raises("FashionMNIST: unknown option 'size'", recipes.plan, small { dataset = { "FashionMNIST", root = folder, size = 3 } }, { steps = 0 })
  plan = recipes.plan(small(), { steps = 3 })
  lu.assertEquals(plan.facts.samples, 50)
  lu.assertTrue(plan.timing.least <= plan.timing.step and plan.timing.step <= plan.timing.most and plan.timing.peak > 0)
  lu.assertAlmostEquals(plan.expected, 3 * 7 * plan.timing.step + 3 * (20 + 10) * plan.timing.pass, 1e-9)
  local away = recipes.plan(small { dataset = { "FashionMNIST", root = folder .. "/nowhere", limit = 1000 }, test = { limit = 30 }, samples = 600 }, { steps = 0 })
  lu.assertEquals({ away.facts.samples, away.facts.validated, away.facts.tested }, { 600, 200, 30 })
  lu.assertStrContains(tostring(plan), "FashionMNIST train: 50 samples of [1, 28, 28], 10 classes")
end

function TestBook:test_changes()
  local recipe = recipes.get("cifar10-resnet19-trt-T4", { epochs = "7", ["loss.lambda"] = "1e-3", ["network.scale"] = 0.5, ["train.augment"] = '{ "crop" }' })
  lu.assertEquals({ recipe.epochs, recipe.loss.lambda, recipe.loss.delta, recipe.network.scale, recipe.train.augment }, { 7, 1e-3, 0.25, 0.5, '{ "crop" }' })
  lu.assertEquals(recipes.get("cifar10-resnet19-trt-T4", { loss = "SDT" }).loss, { "SDT" })
  lu.assertEquals(recipes.get("cifar10-resnet19-trt-T4", { ["test.mean"] = "[0.5, 0.5, 0.5]" }).test.mean, { 0.5, 0.5, 0.5 })
  lu.assertEquals(recipes.get("cifar10-resnet19-trt-T4").epochs, 300) -- the book's own is as it was
  s.write(folder .. "/own.lua", "return " .. require("moonspike.recipes.schema").text(small()))
  lu.assertEquals(recipes.get(folder .. "/own.lua").name, "own") -- a folder of series, not a path
  recipe = recipes.get "fashion-mnist-trt"
  recipe.loss.lambda = 1
  lu.assertEquals(recipes.get("fashion-mnist-trt").loss.lambda, 1e-5)
end

-- ---- training ----

TestTraining = {}

local function train(recipe, name, opts)
  local out, all = folder .. "/" .. name, { quiet = true, print = silent }
  all.out = out
  for key, value in pairs(opts or {}) do all[key] = value end
  return recipes.train(recipe, all), out
end

function TestTraining:test_result()
  local result, out = train(small { epochs = 4, every = 2, published = 50, samples = 40, keep = { 1, 4 }, train_ce = true }, "result")
  local rows = ms.log.read(out .. "/log.jsonl")
  lu.assertEquals({ #rows, rows[1].test_accuracy, rows[3].test_accuracy }, { 4, nil, nil })
  lu.assertEquals(result.last.test_accuracy, rows[4].test_accuracy)
  lu.assertEquals(result.best.test_accuracy, math.max(rows[2].test_accuracy, rows[4].test_accuracy))
  local best = rows[4].validation_accuracy > rows[2].validation_accuracy and rows[4] or rows[2]
  lu.assertEquals({ result.validation.epoch, result.validation.test_accuracy }, { best.epoch, best.test_accuracy })
  lu.assertEquals({ result.data.samples, result.data.tested, result.published }, { 40, 20, 50 })
  lu.assertEquals(ms.json.decode(s.read(out .. "/result.json")).best, result.best)
  for _, name in ipairs { "best.safetensors", "last.safetensors", "curves.csv", "recipe.lua", "report.html", "epoch1.safetensors", "epoch4.safetensors" } do lu.assertTrue(core.system.exists(out .. "/" .. name), name) end
  lu.assertAlmostEquals(rows[2].lr, 5e-3 * (1 + math.cos(math.pi / 4)) / 2, 1e-12)
  lu.assertFalse(core.system.exists(out .. "/epoch2.safetensors"))
  -- the cross entropy of the training part as the test part's is computed, on the weights after the last epoch
  local train_part = ms.data.FashionMNIST { root = folder, T = 2, batch_size = 256 }:cut { validation = 0.2 }:sample { n = 40, seed = 1 }
  local last = ms.load(out .. "/epoch4.safetensors", ms.models.VGG { plan = { 4, "A", 8, "A" }, T = 2 })
  lu.assertAlmostEquals(rows[4].train_ce, select(2, ms.evaluate(last, train_part:plain())), 1e-6)
  local _, _, _, _, layers = ms.evaluate(last, ms.data.FashionMNIST { root = folder, train = false, T = 2, batch_size = 256 })
  lu.assertAlmostEquals(rows[4].energy, ms.analysis.energy(layers).spiking, 1e-9)
  -- the weights that were kept give the figure that was reported
  local net = ms.models.VGG { plan = { 4, "A", 8, "A" }, T = 2 }
  ms.load(out .. "/best.safetensors", net)
  lu.assertEquals((ms.evaluate(net, ms.data.FashionMNIST { root = folder, train = false, T = 2, batch_size = 256 })), result.best.test_accuracy)
end

-- Stopped behind an epoch and gone on with: the bytes of a run that was not.
local function stopped(recipe, name)
  local whole, out = train(recipe, name .. "-whole")
  local count = 0
  local function stop(text)
    if text:match "^%s*%d" then
      count = count + 1
      if count == 2 then error("stop here", 0) end
    end
  end
  lu.assertErrorMsgContains("stop here", train, recipe, name .. "-parts", { print = stop })
  local log = ("%s/%s-parts/log.jsonl"):format(folder, name)
  s.write(log, s.read(log) .. '{"epoch":2,"train_loss":1}\n{"epo') -- as if it had been stopped between the row and the state
  local parts, there = train(recipe, name .. "-parts", { resume = true })
  local function rows(of)
    local list = ms.log.read(of .. "/log.jsonl")
    for _, row in ipairs(list) do row.seconds = nil end
    list.runs = nil
    return list
  end
  lu.assertEquals(rows(there), rows(out), name)
  lu.assertEquals(s.read(there .. "/best.safetensors"), s.read(out .. "/best.safetensors"), name)
  lu.assertEquals({ parts.best, parts.last, parts.validation }, { whole.best, whole.last, whole.validation }, name)
  local a, b = ms.load(out .. "/last.safetensors"), ms.load(there .. "/last.safetensors")
  for key, tensor in pairs(a) do lu.assertTrue(ms.equal(tensor, b[key]), name .. " " .. key) end
  return parts, there
end

function TestTraining:test_stopped_and_resumed()
  local recipe = small()
  local _, there = stopped(recipe, "trt")
  local again = train(recipe, "trt-parts", { resume = true }) -- finished: nothing is trained
  lu.assertEquals(again.epochs, 3)
  lu.assertEquals(#ms.log.read(there .. "/log.jsonl"), 3)
  s.raises(("train: resume: optimizer: expected { \"Adam\", lr = 0.005 } as the run in %s was started, got { \"Adam\", lr = 1.0 }"):format(there),
    train, small { optimizer = { "Adam", lr = 1.0 } }, "trt-parts", { resume = true })
end

-- What another recipe left in the folder is not gone on with, nor taken for this one's.
function TestTraining:test_begun_anew_and_stopped_at_once()
  local _, out = train(small { epochs = 1 }, "anew")
  local kept = s.read(out .. "/log.jsonl")
  s.raises(("train: out: %s holds a run: resume goes on with it, overwrite replaces it"):format(out), train, small { epochs = 2 }, "anew")
  lu.assertEquals(s.read(out .. "/log.jsonl"), kept)
  lu.assertErrorMsgContains("stop here", train, small { epochs = 2 }, "anew", { overwrite = true, print = function() error("stop here", 0) end })
  for _, name in ipairs { "last", "best" } do lu.assertFalse(core.system.exists(("%s/%s.safetensors"):format(out, name)), name) end
  s.write(out .. "/last.safetensors", "of an unknown recipe")
  os.remove(out .. "/recipe.lua")
  s.raises(("train: out: %s holds a run without recipe.lua: overwrite replaces it"):format(out), train, small { epochs = 2 }, "anew", { resume = true })
  lu.assertEquals(s.read(out .. "/last.safetensors"), "of an unknown recipe")
  lu.assertEquals(train(small { epochs = 2, keep = { 2 } }, "anew", { overwrite = true, tensorboard = true }).epochs, 2)
  lu.assertEquals(train(small { epochs = 2 }, "anew", { overwrite = true }).epochs, 2)
  lu.assertEquals({ core.system.exists(out .. "/epoch2.safetensors"), core.system.list(out .. "/tensorboard") }, { false, {} })
  s.write(out .. "/recipe.lua", (s.read(out .. "/recipe.lua"):gsub("keep = {}, ", ""))) -- as a version without this key wrote it
  lu.assertEquals(train(small { epochs = 2 }, "anew", { resume = true }).epochs, 2)
end

-- What ms.monitor records on the way changes no bit, and a run that was stopped records what one that was not does.
function TestTraining:test_monitored()
  local recipe = small { validation = 0 }
  local _, plain = train(recipe, "unwatched")
  local watched = { monitor = { "firing", "dead", "synops", "gradients" }, monitor_every = 4 }
  local function options(more)
    for key, value in pairs(watched) do more[key] = value end
    return more
  end
  local _, out = train(recipe, "watched", options {})
  lu.assertEquals(s.read(out .. "/best.safetensors"), s.read(plain .. "/best.safetensors"))
  local rows = ms.log.read(out .. "/monitor.jsonl")
  lu.assertEquals({ #rows, rows[1].step, rows[2].step, rows[2].epoch, rows[5].epoch }, { 6, 1, 5, 1, 3 }) -- of 3 epochs of 7 steps
  for _, key in ipairs { "rate", "dead", "operations", "gradients" } do lu.assertTrue(next(rows[5][key]) ~= nil, key) end
  lu.assertErrorMsgContains("stop here", train, recipe, "watched-parts", options { print = function(text)
    if text:match "^%s*2 " then error("stop here", 0) end
  end })
  local _, there = train(recipe, "watched-parts", options { resume = true })
  local again = ms.log.read(there .. "/monitor.jsonl")
  rows.runs, again.runs = nil, nil
  lu.assertEquals(again, rows)
  s.raises("train: overwrite: expected nothing beside resume, got both", train, recipe, "watched", { overwrite = true, resume = true })
  s.raises("monitor: what: expected a list of some of dead,", train, recipe, "watched", { overwrite = true, monitor = { "fired" } })
  lu.assertTrue(core.system.exists(out .. "/last.safetensors"))
  train(recipe, "watched", { overwrite = true })
  lu.assertFalse(core.system.exists(out .. "/monitor.jsonl"))
end

function TestTraining:test_other_data_are_not_gone_on_with()
  local data, recipe = folder .. "/changing", nil
  core.system.mkdir(data)
  s.fashion(data, 60, 20)
  recipe = small { dataset = { "FashionMNIST", root = data }, validation = 0 }
  train(recipe, "moved")
  for _, part in ipairs { "train", "t10k" } do
    local path = ("%s/%s-labels-idx1-ubyte"):format(data, part)
    local was = s.read(path)
    s.write(path, was:sub(1, 8) .. was:sub(9):reverse())
    s.raises(("train: resume: %s data: expected %d samples"):format(part == "train" and "train" or "test", part == "train" and 60 or 20), train, recipe, "moved",
      { resume = true })
    s.write(path, was)
  end
  lu.assertEquals(train(recipe, "moved", { resume = true }).epochs, 3)
end

function TestTraining:test_damaged_files_of_a_run()
  local recipe = small { epochs = 2 }
  local result, out = train(recipe, "damaged")
  local rows, state = s.read(out .. "/log.jsonl"), s.read(out .. "/last.safetensors")
  os.remove(out .. "/last.safetensors")
  s.raises(("train: out: %s holds a run without last.safetensors: overwrite replaces it"):format(out), train, recipe, "damaged", { resume = true })
  lu.assertEquals(s.read(out .. "/log.jsonl"), rows)
  s.write(out .. "/last.safetensors", state)
  s.write(out .. "/result.json", "{}")
  lu.assertNil(require("moonspike.recipes.run").result(require("moonspike.recipes.schema").read("test", recipe), out))
  lu.assertEquals(train(recipe, "damaged", { resume = true }).best, result.best)
  lu.assertEquals(ms.json.decode(s.read(out .. "/result.json")).best, result.best)
  for text, count in pairs { [rows:gsub("[^\n]*\n$", "")] = 1, [""] = 0 } do
    s.write(out .. "/log.jsonl", text)
    s.raises(("train: resume: %s/log.jsonl: expected the rows of 2 epochs, got %d"):format(out, count), train, recipe, "damaged", { resume = true })
    lu.assertEquals(s.read(out .. "/log.jsonl"), text)
  end
end

function TestTraining:test_one_program_in_a_folder()
  core.system.mkdir(folder .. "/shared")
  local held = core.system.lock(folder .. "/shared")
  s.raises(("train: out: expected a folder of this run's own, another program trains in %s/shared"):format(folder), train, small(), "shared")
  held:close()
  lu.assertEquals(train(small { epochs = 1 }, "shared").epochs, 1)
end

-- Losses that are no numbers any more end no run.
function TestTraining:test_diverged()
  local recipe = small { loss = { "SDT" }, optimizer = { "SGD", lr = 1e30 }, validation = 0 }
  local result, out = train(recipe, "diverged", { tensorboard = true })
  lu.assertEquals(result.last.epoch, 3)
  lu.assertNaN(ms.log.read(out .. "/log.jsonl")[3].train_loss)
  lu.assertEquals(train(recipe, "diverged", { resume = true }).last, result.last)
end

-- Parts of the published methods: a share that moves with the epoch, a random T, the last step's answer, groups, warm-up, controls, bfloat16.
function TestTraining:test_methods()
  stopped(small { loss = { "TKS" }, optimizer = { "AdamW", lr = 1e-3 }, warmup = 1, schedule = { "CosineAnnealingLR", eta_min = 1e-5 } }, "tks")
  stopped(small { loss = { "TET", mu = 0.05 }, random_T = 3 }, "slt")
  stopped(small { loss = { "LTS" }, answer = "last", validation = 0, optimizer = { "SGD", lr = 0.1, momentum = 0.9, weight_decay = 5e-4 }, decay = "weights",
    network = { "VGG", plan = { 4, "A", 8, "A" }, norm = "tebn", neuron = "localzo" }, drop_last = true }, "lts")
  local result = train(small { loss = { "Control", which = "fitted_l2" }, precision = "bf16", schedule = { "none" } }, "control")
  lu.assertEquals(result.best.validation_accuracy ~= nil, true)
  lu.assertEquals(ms.autocast(), "float32") -- as before
end

function TestTraining:test_decay_of_weights_alone()
  local build = require "moonspike.recipes.build"
  local job = build.trainer(recipes.get "ncaltech101-vggsnn-imp-T10", { classes = 101, input = { 2, 48, 48 } })
  local groups = job.optimizer.param_groups
  lu.assertEquals({ groups[1].weight_decay, groups[2].weight_decay, groups[2].momentum }, { 5e-4, 0, 0.9 })
  for _, p in ipairs(groups[2].params) do lu.assertEquals(p:dim(), 1) end
end

-- The weights that stay are those of the epoch that stands for the run: by the validation part, not by the test part.
function TestTraining:test_weights_of_the_selected_epoch()
  for seed = 1, 20 do -- until the two differ
    local result, out = train(small { select = "validation", keep = { 1, 2, 3 }, seed = seed, optimizer = { "Adam", lr = 1e-3 } }, "selected", { overwrite = true })
    local chosen, kept = ("%s/epoch%d.safetensors"):format(out, result.validation.epoch), s.read(out .. "/best.safetensors")
    lu.assertTrue(kept == s.read(chosen))
    if result.validation.epoch ~= result.best.epoch then
      train(small { select = "last", keep = { 3 }, seed = seed, optimizer = { "Adam", lr = 1e-3 } }, "selected", { overwrite = true })
      lu.assertTrue(s.read(out .. "/best.safetensors") == s.read(out .. "/epoch3.safetensors"))
      return
    end
  end
  lu.fail "no training whose validation part chooses another epoch than the test part"
end

function TestTraining:test_learns()
  local result = train(small { epochs = 12, validation = 0, loss = { "SDT" } }, "learns")
  lu.assertTrue(result.last.test_accuracy > 0.8)
end

-- ---- series ----

TestSeries = {}

function TestSeries:test_mean()
  local mean, deviation = series.mean({ { a = 1 }, { a = 2 }, {}, { a = 6 } }, function(r) return r.a end)
  lu.assertEquals(mean, 3)
  lu.assertAlmostEquals(deviation, math.sqrt(7), 1e-12)
  lu.assertEquals({ series.mean({ { a = 1 } }, function(r) return r.a end) }, { 1 })
  lu.assertNil(series.mean({}, function(r) return r.a end))
end

local function tuned()
  return small { name = "tuned", tune = { "optimizer.lr", 1e-7, 1e-2 }, epochs = 4, loss = { "SDT" } }
end

function TestSeries:test_chooses_on_the_validation_part_and_goes_on()
  local out, reports = folder .. "/series", 0
  local opts = { out = out, seeds = { 1, 2 }, tune_seeds = 1, report = function() reports = reports + 1 end }
  local entry = series.seeds(tuned(), opts)
  lu.assertEquals({ entry.key, entry.value, #entry.tried, #entry.results, #entry.failures, reports }, { "optimizer.lr", 1e-2, 2, 2, 0, 4 })
  lu.assertTrue(entry.tried[2].accuracy > entry.tried[1].accuracy)
  local first = s.read(out .. "/tuned/optimizer.lr=0.01/seed1/result.json")
  local again = series.seeds(tuned(), opts) -- all there: the figures are read
  lu.assertEquals(again.results, entry.results)
  lu.assertEquals(s.read(out .. "/tuned/optimizer.lr=0.01/seed1/result.json"), first)
  local text, csv = series.write { again }
  local best = entry.results
  lu.assertStrContains(text, ("| test | FashionMNIST train | 50 | optimizer.lr = 0.01 | 2 |  | %.2f ± %.2f |"):format(
    50 * (best[1].best.test_accuracy + best[2].best.test_accuracy),
    100 * math.abs(best[1].best.test_accuracy - best[2].best.test_accuracy) / math.sqrt(2)))
  lu.assertStrMatches(csv, '.*\ntuned,"test","FashionMNIST train",".*",50,optimizer.lr,0.01,2,,,%d.*')
  s.write(out .. "/tuned/optimizer.lr=0.01/seed1/recipe.lua", "return { epochs = 5 }")
  s.raises("remove it or choose another folder", series.seeds, tuned(), opts)
end

function TestSeries:test_a_failure_is_told_and_the_rest_goes_on()
  local recipe = small { name = "missing", dataset = { "FashionMNIST", root = folder .. "/nowhere" } }
  local entry = series.seeds(recipe, { out = folder .. "/fails", seeds = { 1, 2 }, tune_seeds = 1, report = silent })
  lu.assertEquals({ #entry.results, #entry.failures }, { 0, 2 })
  local text = series.write { entry }
  local _, csv = series.write { { recipe = small { name = "r/a=1,b=2" }, results = {}, failures = {}, tried = {} } }
  lu.assertStrContains(csv, '\n"r/a=1,b=2","test",') -- the comma of two axes is not the table's
  lu.assertStrContains(text, "| test | FashionMNIST |  |  | 0 |  |  |  |  |  |") -- no figure that was not measured
  lu.assertStrContains(text, "- missing, seed 1: recipe: dataset: FashionMNIST: train-images-idx3-ubyte is not found in")
end

-- ---- sweeps ----

function TestSeries:test_points()
  local function said(points)
    local list = {}
    for i, point in ipairs(points) do list[i] = point.recipe.name end
    return list
  end
  local recipe = small { name = "r", tune = { "loss.lambda", 1, 2 } }
  local over = { { "loss.eta", 0, 0.5 }, { "epochs", 1, 2, 3 } }
  local points = series.points(recipe, over)
  lu.assertEquals(said(points), { "r/loss.eta=0,epochs=1", "r/loss.eta=0,epochs=2", "r/loss.eta=0,epochs=3", "r/loss.eta=0.5,epochs=1",
    "r/loss.eta=0.5,epochs=2", "r/loss.eta=0.5,epochs=3" })
  lu.assertEquals({ points[6].recipe.loss.eta, points[6].recipe.epochs, points[6].values, points[6].recipe.tune }, { 0.5, 3, { 0.5, 3 }, nil })
  table.remove(over[2])
  lu.assertEquals(said(series.points(recipe, over, true)), { "r/loss.eta=0,epochs=1", "r/loss.eta=0.5,epochs=2" })
  s.raises("sweep: over: expected as many values of a as of loss.eta, 2, got 1", series.points, recipe, { over[1], { "a", 1 } }, true)
  s.raises("sweep: unknown key 'lossy' (known:", series.points, recipe, { { "lossy", 1 } })
  for name, entry in pairs(require "moonspike.recipes.sweeps") do lu.assertTrue(#series.points(recipes.get(entry[1]), entry[2]) >= 4, name) end
end

-- ---- refused before anything is trained ----

TestRefused = {}

local function refused(text, changes) s.raises(text, recipes.train, small(changes), { out = folder .. "/refused", quiet = true, print = silent }) end

function TestRefused:tearDown() lu.assertFalse(core.system.exists(folder .. "/refused")) end

function TestRefused:test_keys()
  refused("train: recipe: unknown option 'epoch' (known: T, answer, batch, dataset, decay, deviations, drop_last, epochs,", { epoch = 1 })
  refused("train: recipe: epochs: expected an integer >= 1, got 0", { epochs = 0 })
  refused("recipe: dataset: expected one of CIFAR10, CIFAR100, CIFAR10DVS,", { dataset = { "MNIST" } })
  refused("recipe: loss: expected one of Control, CrossEntropy, L2, LTS,", { loss = { "strength" } })
  refused("recipe: loss: TRT: unknown option 'lamda' (known: ", { loss = { "TRT", lamda = 1 } })
  refused("recipe: optimizer: Adam: lr: expected a number >= 0, got -1", { optimizer = { "Adam", lr = -1 } })
  refused("recipe: schedule: expected one of CosineAnnealingLR, MultiStepLR, StepLR, none, got 'cosine'", { schedule = { "cosine" } })
  refused("recipe: warmup: expected fewer than epochs = 3, got 3", { warmup = 3 })
  refused("train: recipe: validation: expected a share of the training samples, since select = 'validation' needs it, got 0",
    { validation = 0, select = "validation" })
  s.raises("recipes.get: unknown key 'lambda' (known: ", recipes.get, "fashion-mnist-trt", { lambda = 1 })
  s.raises("recipes.get: epochs: expected no options behind epochs, got 'epochs.x'", recipes.get, "fashion-mnist-trt", { ["epochs.x"] = 1 })
  s.raises("recipes: name: no recipe 'cifar10-trt' (there are cifar10-resnet19-", recipes.get, "cifar10-trt")
  s.raises("recipes: name: no recipe '' (recipes.list() names them)", recipes.get, "")
  s.raises("recipes.get: unknown key '1' (known: ", recipes.get, "fashion-mnist-trt", { "epochs" })
  s.write(folder .. "/mine.lua", "return { loss = 'TRT' }")
  s.raises("recipes.get: loss: expected a table { \"Name\", option = value, ... }, got 'TRT'", recipes.get, folder .. "/mine.lua", { ["loss.eta"] = 1 })
  refused("train: recipe: tune: expected a table { \"key\", value, value, ... } of numbers or words, got table", { tune = { "loss", { "SDT" }, { "LTS" } } })
  s.raises("recipes: name: no recipe 'xyz' (recipes.list() names them)", recipes.get, "xyz")
end

function TestRefused:test_what_does_not_fit()
  refused("recipe: network: classes: expected 10, the classes of FashionMNIST, got 100", { network = { "resnet19", classes = 100 } })
  refused("recipe: network: T: expected 2, the recipe's time steps, got 4", { network = { "VGG", plan = { 4, "A" }, T = 4 } })
  refused("recipe: network: size: expected 28x28, the image size of FashionMNIST, got 32x28", { network = { "VGG", plan = { 4, "A" }, size = { 32, 28 } } })
  refused("recipe: network: VGG: size: layers.4.maxpool2d_layer (AvgPool2d) needs at least 2 rows, got 4x1x1, from images of [1, 28, 28]",
    { network = { "VGG", plan = { 4, "A", 4, "A", 4, "A", 4, "A", 4, "A" } } })
  refused("recipe: network: create: name: expected one of 7b-widenet,", { network = { "resnet20" } })
  refused("recipe: batch: expected at most 50, the training samples, with drop_last, got 64", { batch = 64, drop_last = true })
  refused("recipe: samples: sample: n: expected 1 to 50, got 51", { samples = 51 })
  refused("train: recipe: random_T: expected at least T = 2, which is tested, got 1", { random_T = 1 })
  refused("recipe: random_T: expected a network whose norms are the same in all time steps, got nn.TAB", { random_T = 3, network = { "VGG", plan = { 4, "A" }, norm = "tab" } })
end

function TestRefused:test_missing_data_say_how_to_get_them()
  refused("scripts/get-data.sh FashionMNIST gets it.", { dataset = { "FashionMNIST", root = folder .. "/nowhere" } })
  refused("The recordings are made by hand.", { dataset = { "NMNIST", root = folder .. "/nowhere" }, missing = "The recordings are made by hand." })
end

-- ---- the command lines ----

TestPrograms = {}

local function run(script, arguments, code)
  local got, text = s.run(root .. "scripts/" .. script, "MOONSPIKE_DATA=" .. folder, arguments)
  lu.assertEquals(got, code, text)
  return text
end

local tiny = "--set T=1 --set batch=20 --set epochs=2 --set 'network.plan=[4,\"A\"]' --device cpu"

function TestPrograms:test_train()
  local out = folder .. "/program"
  lu.assertStrContains(run("train.lua", "--list --words 'cifar10 trt'", 0), "cifar10-resnet19-trt-T4                95.58 %  TRT on CIFAR-10, ResNet-19, T = 4")
  local text = run("train.lua", "--recipe fashion-mnist-trt --dry-run --steps 2 " .. tiny, 0)
  for _, part in ipairs { "parameters    7,894,", "2 epochs of 3 steps, batches of 20", "ms a step", "expected " } do lu.assertStrContains(text, part) end
  lu.assertFalse(core.system.exists(out))
  text = run("train.lua", ("--recipe fashion-mnist-trt --quiet --monitor firing,synops --every 2 --out %s %s"):format(out, tiny), 0)
  lu.assertEquals(#ms.log.read(out .. "/monitor.jsonl"), 3)
  lu.assertStrMatches(text, ".*test accuracy, best epoch %(chosen on the test set%) +%d+%.%d%d %%.*")
  lu.assertStrContains(run("train.lua", ("--recipe %s/recipe.lua --dry-run --steps 0"):format(out), 0), "2 epochs of 3 steps") -- what it wrote can be run
  text = run("train.lua", ("--recipe fashion-mnist-trt --resume --out %s %s --set loss.lambda=1"):format(out, tiny), 2)
  lu.assertStrContains(text, "resume: loss: expected")
  local kept = s.read(out .. "/log.jsonl")
  text = run("train.lua", ("--recipe fashion-mnist-trt --out %s %s"):format(out, tiny), 2)
  lu.assertStrContains(text, ("fashion-mnist-trt: out: %s holds a run: resume goes on with it, overwrite replaces it"):format(out))
  lu.assertEquals(s.read(out .. "/log.jsonl"), kept)
  run("train.lua", ("--recipe fashion-mnist-trt --overwrite --quiet --out %s %s --set loss.lambda=1"):format(out, tiny), 0)
  lu.assertStrContains(s.read(out .. "/recipe.lua"), "lambda = 1")
  for arguments, want in pairs {
    [""] = "train: --recipe: expected a name", ["--recipe x"] = "train: --recipe: ", ["--recipe fashion-mnist-trt --set epochs"] = "--set: expected KEY=VALUE, got 'epochs'",
    ["--recipe fashion-mnist-trt --set epochs=a"] = "epochs: expected an integer >= 1, got 'a'", ["--what"] = "unknown option '--what' (known: --recipe, --set,",
    ["--recipe fashion-mnist-trt --device gpu"] = "--device: unknown device 'gpu'", ["--recipe cifar10-resnet19-trt-T4"] = "get-data.sh CIFAR10",
    ["--recipe " .. folder .. "/none.lua"] = "none.lua",
  } do lu.assertStrContains(run("train.lua", arguments, 2), want) end
end

function TestPrograms:test_table()
  if sanitize then lu.skip "too long under the sanitizers" end
  local out = folder .. "/table"
  local arguments = ("--recipes fashion-mnist-sdt,fashion-mnist-te* --seeds 3,4 --out %s %s"):format(out, tiny)
  local text = run("table.lua", arguments, 0)
  lu.assertStrContains(text, "fashion-mnist-tet: 2 of 2 seeds")
  local md, csv = s.read(out .. "/table.md"), s.read(out .. "/table.csv")
  lu.assertStrMatches(md, ".*\n| SDT on Fashion%-MNIST: examples/fashion_mnist.lua | FashionMNIST train | 60 |  | 2 |  | %d+%.%d%d ± %d+%.%d%d |.*")
  lu.assertEquals(select(2, csv:gsub("\n", "\n")), 3)
  run("table.lua", arguments, 0)
  lu.assertEquals(s.read(out .. "/table.csv"), csv)
  lu.assertStrContains(run("table.lua", arguments .. " --set epochs=1", 2), "table: --out: ") -- other settings: the table stays
  lu.assertEquals(s.read(out .. "/table.csv"), csv)
  lu.assertStrContains(run("table.lua", "--recipes x* --out " .. out, 2), "--recipes: no recipe begins with 'x'")
  for words, want in pairs { ["--seeds 1,x"] = "--seeds: expected integers with commas between, got '1,x'",
    ["--seeds 1,1"] = "--seeds: expected each integer once, got '1,1'", ["--set seed=5"] = "--set: expected no seed, since --seeds gives them" } do
    lu.assertStrContains(run("table.lua", "--recipes fashion-mnist-sdt --out /nowhere " .. words, 2), want)
  end
  text = run("table.lua", arguments .. " --set samples=1000 --out " .. out .. "/fails", 1) -- there are 60
  lu.assertStrContains(text, "Failed:\n\n- fashion-mnist-sdt, seed 3: ")
  lu.assertStrContains(s.read(out .. "/fails/table.md"), "- fashion-mnist-tet, seed 4: ")
end

function TestPrograms:test_sweep()
  if sanitize then lu.skip "too long under the sanitizers" end
  local out = folder .. "/sweep"
  local arguments = ("--recipe fashion-mnist-trt --over loss.eta=0,0.5 --seeds 1,2 --out %s %s"):format(out, tiny:gsub("%-%-device cpu", "--devices cpu"))
  lu.assertStrContains(run("sweep.lua", arguments, 0), "loss.eta=0.5: 2 of 2 seeds, 0 failed")
  local csv, picture = s.read(out .. "/sweep.csv"), s.read(out .. "/sweep-figure.png")
  lu.assertEquals(select(2, csv:gsub("\n", "\n")), 3)
  s.remove(out .. "/fashion-mnist-trt/loss.eta=0.5/seed2") -- as if it had been stopped there; two processes go on
  lu.assertStrContains(run("sweep.lua", arguments:gsub("%-%-devices cpu", "--devices cpu,cpu"), 0), "cpu: fashion-mnist-trt/loss.eta=0.5: 2 of 2 seeds")
  lu.assertEquals({ s.read(out .. "/sweep.csv"):gsub(",[%d.]+\n", "\n"), #picture > 1000 }, { csv:gsub(",[%d.]+\n", "\n"), true }) -- but for the seconds
  lu.assertStrMatches(s.read(out .. "/sweep-figure.csv"), 'panel,series,x,y,spread\n"","mean %(runs: 2%)",0,[%d.]+,[%d.]+\n"","mean %(runs: 2%)",0.5,[%d.]+,[%d.]+\n')
  for arguments, want in pairs {
    [""] = "--recipe: expected a name, got nothing", ["--recipe fashion-mnist-trt"] = "--over: expected KEY=VALUE,VALUE,..., got nothing",
    ["--sweep x"] = "--sweep: expected one of figure1-cifar100,", ["--recipe fashion-mnist-trt --over loss.eta=1,"] = "--over: expected values with commas between",
    ["--recipe fashion-mnist-trt --over loss.eta=0 --part 3/2"] = "--part: expected I/N, got '3/2'",
    ["--recipe fashion-mnist-trt --over loss.eta=0 --part 1/2 --devices cpu,cpu"] = "--part: expected one device beside it, got 2",
    [arguments .. " --seeds 1,1"] = "--seeds: expected each integer once, got '1,1'", [arguments .. " --over seed=5,6"] = "--over: over: expected no seed, since",
    [arguments .. " --set seed=5"] = "--set: expected no seed", [arguments .. " --over epochs=1,1"] = "--over: over: expected points that differ, got loss.eta=0,epochs=1 twice",
    [arguments .. " --over loss.eta=1"] = "--over: over: expected each key once, got loss.eta twice",
    [arguments .. " --figure validation"] = "--figure: expected best or last, since fashion-mnist-trt/loss.eta=0 has no validation part",
  } do lu.assertStrContains(run("sweep.lua", arguments, 2), want) end
  os.remove(out .. "/sweep.md")
  local text = run("sweep.lua", arguments:gsub("%-%-devices cpu", "--devices gpu,cpu"), 2)
  lu.assertStrContains(text, "sweep: --devices: its process failed: gpu")
  lu.assertStrContains(s.read(out .. "/sweep.md"), "| loss.eta=0.5 | FashionMNIST train | 60 |  | 2 |") -- what is there
end

-- The table keeps the order of the command line, pictures have that of the axes; of one run no spread is known.
function TestPrograms:test_sweep_down()
  if sanitize then lu.skip "too long under the sanitizers" end
  local out, common = folder .. "/down", ("--recipe fashion-mnist-trt --seeds 1 %s"):format(tiny:gsub("%-%-device cpu", "--devices cpu"))
  run("sweep.lua", ("%s --over loss.eta=0.5,0 --over loss.delta=1,0,0.5 --out %s"):format(common, out), 0)
  local figures, want = {}, {}
  for eta, delta, best in s.read(out .. "/sweep.csv"):gmatch '"fashion%-mnist%-trt/loss.eta=([%d.]+),loss.delta=([%d.]+)".-,1,,,([%d.]+),' do
    want[#want + 1] = eta .. " " .. delta
    figures[want[#want]] = tonumber(best)
  end
  lu.assertEquals(want, { "0.5 1", "0.5 0", "0.5 0.5", "0 1", "0 0", "0 0.5" })
  local drawn = {}
  for x, y, value in s.read(out .. "/sweep-figure.csv"):gmatch "\n([%d.]+),([%d.]+),([%d.]+)" do
    drawn[#drawn + 1] = y .. " " .. x
    lu.assertAlmostEquals(tonumber(value), figures[drawn[#drawn]], 1e-3)
  end
  lu.assertEquals(drawn, { "0 0", "0 0.5", "0 1", "0.5 0", "0.5 0.5", "0.5 1" })
  run("sweep.lua", ("%s --over loss.eta=0.5,0 --out %s/line"):format(common, out), 0)
  lu.assertStrMatches(s.read(out .. "/line/sweep-figure.csv"), 'panel,series,x,y\n"","mean %(runs: 1%)",0,[%d.]+\n"","mean %(runs: 1%)",0.5,[%d.]+\n')
end

-- On several devices what failed is tried once, where its turn is, and only told by the one that reads.
function TestPrograms:test_sweep_fails()
  if sanitize then lu.skip "too long under the sanitizers" end
  local out = folder .. "/fails"
  local text = run("sweep.lua", ("--recipe fashion-mnist-trt --over samples=30,1000 --seeds 1,2 --out %s %s"):format(out, tiny:gsub("%-%-device cpu", "--devices cpu,cpu")), 1)
  lu.assertEquals(select(2, text:gsub("cpu: fashion%-mnist%-trt/samples=1000, seed 2: ", "")), 1)
  lu.assertStrContains(text, "Failed:\n\n- fashion-mnist-trt/samples=1000, seed 1: not there\n- fashion-mnist-trt/samples=1000, seed 2: not there\n")
  lu.assertStrContains(text, s.read(out .. "/sweep.md"))
  lu.assertStrContains(s.read(out .. "/sweep-figure.csv"), '"mean (runs: 0 to 2)",1000,nan,nan')
  s.remove(out .. "/fashion-mnist-trt/samples=30/seed2")
  s.write(out .. "/fashion-mnist-trt/samples=30/seed2", "no folder") -- one of two is left
  text = run("sweep.lua", ("--recipe fashion-mnist-trt --over samples=30,40 --seeds 1,2 --out %s %s"):format(out, tiny:gsub("%-%-device cpu", "--devices cpu")), 1)
  lu.assertStrContains(text, "seed 2: train: out: mkdir: ")
  lu.assertStrMatches(s.read(out .. "/sweep-figure.csv"), '.*"mean %(runs: 1 to 2%)",30,[%d.]+,nan\n.*,40,[%d.]+,[%d.]+\n')
end

-- Seen by whole programs, since they end.
TestArguments = {}

function TestArguments:test_words()
  local script = folder .. "/words.lua"
  s.write(script, [[
    local ms = require "moonspike"
    local opt, given = ms.arguments { usage = "words", { "n", 3, "an integer", from = 1 }, { "x", 0.5, "a number" }, { "flag", false, "a switch" },
      { "kind", "a", "a kind", choices = { "a", "b" } }, { "many", {}, "several" } }
    print(opt.n, math.type(opt.n), opt.x, opt.flag, opt.kind, table.concat(opt.many, "+"), given.x)
    if opt.flag then ms.arguments.try("--flag", error, "broken", 0) end]])
  local function says(arguments, code, want)
    local got, text = s.run(script, nil, arguments)
    lu.assertEquals({ got, text }, { code, want }, arguments)
  end
  says("", 0, "3\tinteger\t0.5\tfalse\ta\t\tnil\n")
  says("--n 4 --x 2 --kind b --many p --many q", 0, "4\tinteger\t2\tfalse\tb\tp+q\t2\n")
  says("--flag", 2, "3\tinteger\t0.5\ttrue\ta\t\tnil\nwords: --flag: broken\n")
  says("--n 0", 2, "words: --n: expected an integer >= 1, got '0'\n")
  says("--n", 2, "words: --n: expected an integer >= 1, got nothing\n")
  says("--kind c", 2, "words: --kind: expected one of a, b, got 'c'\n")
  says("--other", 2, "words: unknown option '--other' (known: --n, --x, --flag, --kind, --many)\n")
  local code, text = s.run(script, nil, "--help")
  lu.assertEquals(code, 0)
  lu.assertStrContains(text, "usage: words\n  --n            an integer [3]\n")
  lu.assertStrContains(text, "--kind         a kind (a, b) [a]")
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
