-- Trains a recipe into a folder: recipe.lua, log.jsonl, best.safetensors (weights), last.safetensors (training state), curves.png, result.json,
-- report.html.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local energy = require "moonspike.analysis.energy"
local checkpoint = require "moonspike.checkpoint"
local engines = require "moonspike.engines"
local evaluate = require "moonspike.evaluate"
local log = require "moonspike.log"
local monitor = require "moonspike.analysis.monitor"
local plot = require "moonspike.plot"
local report = require "moonspike.report"
local progress = require "moonspike.progress"
local tensorboard = require "moonspike.tensorboard"
local seeding = require "moonspike.nn.seeding"
local build = require "moonspike.recipes.build"
local schema = require "moonspike.recipes.schema"

local run = {}

local function write(path, text)
  local ok, why = core.system.write_file(path, text .. "\n")
  if not ok then o.fail("train: out: %s", why) end
end

-- The recipe of the run in a folder, with the defaults of keys that it lacks, as those of an earlier version do; nil where there is none.
local function recipe_of(out)
  local path = out .. "/recipe.lua"
  if not core.system.exists(path) then return nil end
  local recipe, why = schema.load(path)
  if not recipe then o.fail("train: out: %s", why) end
  for key, rule in next, schema.spec do
    if recipe[key] == nil and rule.default ~= o.required then recipe[key] = schema.copy(rule.default) end
  end
  return recipe
end

-- Keys that may differ between a run and its continuation: they say nothing about what is computed.
local free = { "title", "paper", "published", "spread", "source", "deviations", "missing", "tune", "name", "test_batch" }

-- The first key in which two recipes, as they are written, would train differently.
local function difference(a, b)
  local skip = {}
  for _, key in ipairs(free) do skip[key] = true end
  for _, key in ipairs(o.keys(schema.spec)) do
    if not skip[key] and schema.text(a[key]) ~= schema.text(b[key]) then return key end
  end
end

-- One epoch: mean loss and share of right answers. Sums are read once, so that no step waits for them.
local function train_epoch(job, step, epoch, quiet)
  job.net:train()
  local sum, right, batches, samples = 0, 0, 0, 0
  for x, y in progress(job.train, "epoch " .. epoch, { quiet = quiet }) do
    if job.random_T then x = job.random_T(x) end
    local value, correct = step(x, y)
    sum, right, batches, samples = sum + value, right + correct, batches + 1, samples + y.shape[1]
    if job.monitor then job.monitor:step { epoch = epoch } end
  end
  return sum:item() / batches, right:item() / samples
end

local function judge(job, recipe, row)
  if job.seen then row.train_clean, row.train_ce = evaluate(job.net, job.seen, { over = recipe.answer, synops = false }) end
  if job.validation then
    row.validation_accuracy, row.validation_loss = evaluate(job.net, job.validation, { over = recipe.answer, synops = false })
  end
  local layers
  row.test_accuracy, row.test_loss, row.firing_rate, row.synops, layers = evaluate(job.net, job.test, { over = recipe.answer })
  row.macs, row.energy = 0, layers[1] and energy(layers).spiking or 0 -- of a sample, microjoules
  for _, layer in ipairs(layers) do
    if layer.input == "reals" then row.macs = row.macs + layer.operations end
  end
end

-- Best epochs so far, by test and by validation accuracy; the first of equals. Is this one the best by what the recipe selects by?
local function remember(best, row, select)
  local function better(key, by)
    if row[by] and (not best[key] or row[by] > best[key][by]) then
      best[key] = { epoch = row.epoch, test_accuracy = row.test_accuracy, validation_accuracy = row.validation_accuracy }
      return true
    end
  end
  local by_validation, by_test = better("validation", "validation_accuracy"), better("best", "test_accuracy")
  return select == "last" or (select == "validation" and by_validation or select == "best" and by_test)
end

-- What a training state holds of a row: where a training has diverged, its losses are no numbers.
local function finite(row)
  local out = {}
  for key, v in next, row do
    if v - v == 0 then out[key] = v end
  end
  return out
end

-- The same row for TensorBoard, and after an evaluation the weights, where they are finite.
local function board(writer, row, net)
  for _, key in ipairs(o.keys(row)) do
    if key ~= "epoch" and key ~= "seed" then writer:scalar(key:gsub("^(%l+)_(%l+)$", "%1/%2"), row[key], row.epoch) end
  end
  if not row.test_loss then return end
  for name, p in net:named_parameters() do
    if p:isfinite():all():item() == 1 then writer:histogram(name, p, row.epoch) end
  end
end

-- What a run left in a folder, but its tables and pictures: those are written anew.
local left = { ["result.json"] = true, ["monitor.jsonl"] = true, ["best.safetensors"] = true, ["last.safetensors"] = true }
local function traces(out)
  local list = {}
  for _, name in ipairs(core.system.list(out) or {}) do
    if left[name] or name:match "^epoch%d+%.safetensors$" then list[#list + 1] = out .. "/" .. name end
  end
  for _, name in ipairs(core.system.list(out .. "/tensorboard") or {}) do
    if name:match "^events%.out%.tfevents%." then list[#list + 1] = out .. "/tensorboard/" .. name end
  end
  return list
end

-- Does a run go on in this folder? Raises where there is one that is to be neither gone on with nor replaced.
local function goes_on(out, recipe, opt)
  local before, last = opt.resume and recipe_of(out), core.system.exists(out .. "/last.safetensors")
  local key = before and difference(before, recipe)
  if key then
    o.fail("train: resume: %s: expected %s as the run in %s was started, got %s", key, schema.text(before[key]), out, schema.text(recipe[key]))
  end
  if before and last then return true end
  if not opt.overwrite and (last or core.system.exists(out .. "/result.json") or not before and #traces(out) > 0) then
    o.fail("train: out: %s holds a run%s overwrite replaces it, or choose another folder", out,
      not opt.resume and ": resume goes on with it," or before and " without last.safetensors:" or " without recipe.lua:")
  end
  return false
end

-- A text for each part of the data, by which a resumed run knows them again.
local function marks(parts)
  local out = {}
  for name, set in next, parts do
    out[name] = ("%d samples %s, labels %s"):format(#set, set:hash(), core.data.crc32(set.labels:index_select(1, set.members):bytes()))
  end
  return out
end

-- Raises where a log lacks rows of the epochs that were trained.
local function check_log(path, epochs)
  local count = 0
  for _, row in ipairs(log.read(path) or {}) do
    if math.type(row.epoch) and row.epoch <= epochs then count = count + 1 end
  end
  if count ~= epochs then o.fail("train: resume: %s: expected the rows of %d epochs, got %d", path, epochs, count) end
end

-- What a run did before it was stopped, { epoch, best, seconds, row }: puts `state` back; data: the marks of what it has now.
local function resumed(out, state, data)
  local info = checkpoint.resume(out .. "/last.safetensors", state)
  local before = info.extra.data or {}
  for _, part in ipairs(o.keys(before)) do
    if before[part] ~= data[part] then
      o.fail("train: resume: %s data: expected %s as the run in %s was started, got %s", part, before[part], out, o.show(data[part]))
    end
  end
  check_log(out .. "/log.jsonl", info.epoch)
  return { epoch = info.epoch, best = info.extra.best, seconds = info.extra.seconds, row = info.extra.row }
end

-- The same of a run that begins. Nothing of another run may be taken for this one's.
local function begun(out, recipe)
  for _, path in ipairs(traces(out)) do
    local ok, why = core.system.remove(path)
    if not ok then o.fail("train: out: %s", why) end
  end
  write(out .. "/recipe.lua", "return " .. schema.text(recipe))
  return { epoch = 0, best = {}, seconds = 0 }
end

-- A log of the run, behind the rows of so many epochs.
local function journal_of(path, epochs)
  local journal, why = log(path, { append = epochs > 0, epoch = epochs })
  if not journal then o.fail("train: out: %s", why) end
  return journal
end

local spec = { out = o.string(o.required), resume = o.boolean(false), overwrite = o.boolean(false), quiet = o.boolean(false), tensorboard = o.boolean(false),
  monitor = o.table(nil), monitor_every = o.integer(50, { from = 1 }),
  print = o.where(print, "a function", function(f) return type(f) == "function" end) }

local heading = "epoch     loss      acc  validation  test loss      test  firing    synops       lr  time/s"
local function line(row)
  local function percent(v) return v and ("%6.2f%%"):format(100 * v) or "      -" end
  return ("%5d  %7.4f  %s     %s  %9.4f   %s  %6.4f  %8.2e  %.1e  %6.1f"):format(row.epoch, row.train_loss, percent(row.train_accuracy),
    percent(row.validation_accuracy), row.test_loss, percent(row.test_accuracy), row.firing_rate, row.synops, row.lr, row.seconds)
end

function run.train(recipe, opts)
  local opt = o.read("train", opts, spec)
  recipe = schema.read("train: recipe", recipe)
  if opt.resume and opt.overwrite then o.fail "train: overwrite: expected nothing beside resume, got both" end
  local out = opt.out
  core.random.manual_seed(recipe.seed)
  math.randomseed(recipe.seed)
  seeding.renew()
  local train, validation, test = build.data(recipe)
  local job = build.trainer(recipe, build.facts(recipe, train, test))
  job.train, job.validation, job.test, job.seen = train, validation, test, recipe.train_ce and train:plain() or nil
  local step = build.step(job, recipe)
  local function watch(readings, steps)
    return opt.monitor and monitor(job.net, { what = opt.monitor, every = opt.monitor_every, log = readings, steps = steps }) or nil
  end
  do local tried <close> = watch() end -- refuses before anything is replaced
  local ok, why = core.system.mkdir(out)
  if not ok then o.fail("train: out: %s", why) end
  local held <close> = core.system.lock(out)
  if not held then o.fail("train: out: expected a folder of this run's own, another program trains in %s", out) end
  local going_on = goes_on(out, recipe, opt)
  local data = marks { train = train, validation = validation, test = test }
  local state = { model = job.net, optimizer = job.optimizer, scheduler = job.schedule, loader = train, random_T = job.random_T }
  local past = going_on and resumed(out, state, data) or begun(out, recipe)
  local best, seconds, row = past.best, past.seconds, past.row
  if going_on then opt.print(("resumed after epoch %d"):format(past.epoch)) end
  local readings <close> = opt.monitor and journal_of(out .. "/monitor.jsonl", past.epoch) or nil
  local watched <close> = watch(readings, past.epoch * train.batches)
  job.monitor = watched
  local journal <close> = journal_of(out .. "/log.jsonl", past.epoch)
  local events
  if opt.tensorboard then
    events, why = tensorboard(out .. "/tensorboard")
    if not events then o.fail("train: out: %s", why) end
  end
  opt.print(("%s\n%s%s\n%s"):format(train:describe(), validation and ("validation: %s\n"):format(validation:summary()) or "",
    ("test: %s"):format(test:summary()), job.net))

  if past.epoch < recipe.epochs then opt.print(heading) end
  for epoch = past.epoch + 1, recipe.epochs do
    local start, lr = core.system.clock(), job.schedule:get_lr()
    if job.criterion.set_epoch then job.criterion:set_epoch(epoch - 1) end
    row = { epoch = epoch, lr = lr, seed = recipe.seed }
    row.train_loss, row.train_accuracy = train_epoch(job, step, epoch, opt.quiet)
    local judged = epoch % recipe.every == 0 or epoch == recipe.epochs
    if judged then judge(job, recipe, row) end
    job.schedule:step()
    seconds = seconds + core.system.clock() - start
    row.seconds = seconds
    if judged then
      opt.print(line(row))
      if remember(best, row, recipe.select) then checkpoint.save(out .. "/best.safetensors", job.net) end
    end
    for _, kept in ipairs(recipe.keep) do
      if kept == epoch then checkpoint.save(("%s/epoch%d.safetensors"):format(out, epoch), job.net) end
    end
    journal(row) -- before the state, behind which a resume cuts the log
    state.epoch, state.extra = epoch, { best = best, seconds = seconds, row = finite(row), data = data }
    checkpoint.checkpoint(out .. "/last.safetensors", state)
    if events then board(events, row, job.net) end
  end
  journal:close()
  if events then events:close() end
  local result = { name = recipe.name, title = recipe.title, seed = recipe.seed, epochs = recipe.epochs, seconds = seconds, best = best.best,
    validation = best.validation, last = { epoch = row.epoch, test_accuracy = row.test_accuracy, validation_accuracy = row.validation_accuracy },
    select = recipe.select, published = recipe.published, spread = recipe.spread, firing_rate = row.firing_rate, synops = row.synops,
    data = { name = train.name, split = train.split, samples = #train, hash = train:hash(), tested = #test, tested_hash = test:hash() },
    machine = engines.record(), version = core.device.versions()[1][2] }
  write(out .. "/result.json", core.json.encode(result))
  local picture, missing = plot.learning_curves(log.read(out .. "/log.jsonl"), out .. "/curves.png", recipe.title)
  if not picture then opt.print(missing) end
  report(out, out .. "/report.html")
  for _, set in ipairs { train, test, validation or job.seen, job.seen } do set:close() end
  return result
end

local open_spec = { weights = o.string "best" }

-- A run that was trained: its recipe, data and network with weights.
function run.open(folder, opts)
  o.check("open", "folder", folder, o.string())
  local opt = o.read("open", opts, open_spec)
  local recipe = recipe_of(folder)
  if not recipe then o.fail("open: folder: expected a run of recipes.train, with recipe.lua, got '%s'", folder) end
  recipe = schema.read("open: " .. folder .. "/recipe.lua", recipe)
  local seed, draws = core.random.state()
  local back <close> = setmetatable({}, { __close = function() core.random.set_state(seed, draws) end })
  core.random.manual_seed(recipe.seed) -- the order of the samples is the training's
  local train, validation, test = build.data(recipe)
  local net = build.network(recipe, build.facts(recipe, train, test))
  checkpoint.load(("%s/%s.safetensors"):format(folder, opt.weights), net)
  return { recipe = recipe, net = net, train = train, validation = validation, test = test, folder = folder }
end

-- The result of a finished run in a folder, or nil; raises where the run was of another recipe.
function run.result(recipe, out)
  local before = recipe_of(out)
  if not before then return nil end
  local key = difference(before, recipe)
  if key then
    o.fail("%s: holds a run with %s = %s, not %s: remove it or choose another folder", out, key, schema.text(before[key]), schema.text(recipe[key]))
  end
  local file = io.open(out .. "/result.json")
  if not file then return nil end
  local text <close> = file
  local result = core.json.decode(text:read "a")
  return type(result) == "table" and type(result.best) == "table" and type(result.last) == "table" and result or nil -- else it is written again
end

doc.set(run.open, [[
    recipes.open(folder[, { weights = "best" }]) -> { recipe, net, train, validation, test, folder }

    What recipes.train left in a folder: the recipe, its data, the network with the weights of best.safetensors (or "last", "epoch10" ...).]])
doc.set(run.train, [[
    recipes.train(recipe, { out = "folder", resume = false, overwrite = false, quiet = false, tensorboard = false, monitor = nil,
      monitor_every = 50, print = print }) -> result

    Trains a recipe (recipes.get). Into the folder go recipe.lua, log.jsonl (one row for each epoch; train_loss is the mean over its batches),
    best.safetensors (weights at the best test accuracy, or at the best validation accuracy, or of the last epoch: what the recipe selects by),
    last.safetensors (the training state after the last epoch), curves.png and curves.csv, result.json, report.html; tensorboard: event files of the
    rows and of the weights in the folder tensorboard; monitor = { "firing", "dead", ... }: what ms.monitor reads in every 50th step, in
    monitor.jsonl. resume goes on behind the last epoch of a run that was stopped, with the bytes that it would have had, or begins where there is none; other data than before are refused. overwrite replaces what a run left in the folder; without both a
    folder with a run is refused, as is one where another program trains. result: { best, last, validation = { epoch, test_accuracy (0 to 1),
    validation_accuracy }, seconds, data = { name, split, samples, hash }, machine, ... }; validation: of the epoch that the validation part chose.]])

return run
