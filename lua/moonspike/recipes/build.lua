-- From a recipe to what trains: data, network, criterion, optimizer, schedule. Everything that does not fit is refused here, before a step is made.

local core = require "moonspike.core"
local o = require "moonspike.options"
local autograd = require "moonspike.autograd"
local capture = require "moonspike.capture"
local data = require "moonspike.data"
local loss = require "moonspike.loss"
local models = require "moonspike.models"
local optim = require "moonspike.optim"
local schedules = require "moonspike.schedule"
local schema = require "moonspike.recipes.schema"

local build = {}

-- The function that a table { "Name", ... } of a recipe names, and its options.
local function named(where, room, choice, known)
  local name = choice[1]
  local make = rawget(room, name)
  if not (known[name] and make) then
    o.fail("%s: expected one of %s, got '%s'", where, table.concat(o.keys(known), ", "), name)
  end
  local options = schema.copy(choice)
  options[1] = nil
  return make, options
end

local function set_of(list)
  local out = {}
  for _, name in ipairs(list) do out[name] = true end
  return out
end

-- Raises what f raises behind the name of the key: the recipe is at fault, not a place in the library.
local function under(key, f, ...)
  local result = table.pack(pcall(f, ...))
  if not result[1] then
    o.fail("recipe: %s: %s", key, o.reason(result[2]))
  end
  return table.unpack(result, 2, result.n)
end

-- ---- data ----

-- Classes, sizes of a sample and of the parts, where the files are not needed to know them.
local sizes = {
  FashionMNIST = { 10, { 1, 28, 28 }, 60000, 10000 }, CIFAR10 = { 10, { 3, 32, 32 }, 50000, 10000 }, CIFAR100 = { 100, { 3, 32, 32 }, 50000, 10000 },
  ImageNet100 = { 100, { 3, 224, 224 }, 130000, 5000 }, CIFAR10DVS = { 10, { 2, 128, 128 }, 9000, 1000 }, NCaltech101 = { 101, { 2, 180, 240 }, 7886, 823 },
  NMNIST = { 10, { 2, 34, 34 }, 60000, 10000 }, DVSGesture = { 11, { 2, 128, 128 }, 1176, 288 }, SHD = { 20, { 1, 1, 700 }, 8156, 2264 },
}
local sets = set_of { "FashionMNIST", "CIFAR10", "CIFAR100", "ImageNet100", "ImageFolder", "CIFAR10DVS", "NCaltech101", "NMNIST", "DVSGesture", "SHD", "EventFolder" }

local function part(recipe, train)
  local make, options = named("recipe: dataset", data, recipe.dataset, sets)
  local own = train and recipe.train or recipe.test
  for _, key in ipairs(o.keys(own)) do options[key] = own[key] end
  for _, entry in ipairs { { "train", "train", train }, { "shuffle", "train", train }, { "drop_last", "drop_last", train and recipe.drop_last },
    { "T", train and recipe.random_T and "random_T" or "T", train and recipe.random_T or recipe.T },
    { "batch_size", train and "batch" or "test_batch", train and recipe.batch or recipe.test_batch } } do
    local key, from, value = table.unpack(entry)
    if options[key] ~= nil and options[key] ~= value then
      o.fail("recipe: dataset: %s: expected what the recipe's key %s says, %s, got %s", key, from, o.show(value), o.show(options[key]))
    end
    options[key] = value
  end
  return make, options
end

-- Training, validation (nil without) and test part.
function build.data(recipe)
  local function open(train)
    local make, options = part(recipe, train)
    local done, set = pcall(make, options)
    if done then return set end
    local why = o.reason(set)
    o.fail("recipe: dataset: %s%s", why, recipe.missing and why:find("not found", 1, true) and "\n" .. recipe.missing or "")
  end
  local train, test, validation = open(true), open(false), nil
  if recipe.validation > 0 then
    train, validation = under("validation", train.cut, train, { validation = recipe.validation })
    validation = validation:with { batch_size = recipe.test_batch }
  end
  if recipe.samples then train = under("samples", train.sample, train, { n = recipe.samples, seed = recipe.seed }) end
  if train.batches == 0 then o.fail("recipe: batch: expected at most %d, the training samples, with drop_last, got %d", #train, recipe.batch) end
  if table.concat(train.classes, "\n") ~= table.concat(test.classes, "\n") then
    o.fail("recipe: dataset: expected the same classes in both parts, got %d and %d", #train.classes, #test.classes)
  end
  return train, validation, test
end

-- { classes, input { C, H, W }, samples, validated, tested } of the parts, or of what the data set has when it is not there.
function build.facts(recipe, train, test, validation)
  if train then
    return { classes = #train.classes, input = train.shape, samples = #train, validated = validation and #validation or 0, tested = #test }
  end
  local make, options = part(recipe, true)
  local known = sizes[recipe.dataset[1]]
  if not known then -- raises what is missing
    under("dataset", make, options)
  end
  local facts = { classes = options.coarse and 20 or known[1], input = { table.unpack(known[2]) }, samples = known[3], tested = known[4] }
  local preset = options.preset and core.data.frame_presets()[options.preset]
  local size = options.size or options.bin or preset and preset.size > 0 and preset.size or nil
  if size then facts.input[2], facts.input[3] = table.unpack(type(size) == "table" and size or { size, size }) end
  local _, of_test = part(recipe, false)
  facts.samples, facts.tested = math.min(facts.samples, options.limit or math.huge), math.min(facts.tested, of_test.limit or math.huge)
  facts.validated = math.floor(facts.samples * recipe.validation + 0.5)
  facts.samples = math.min(facts.samples - facts.validated, recipe.samples or math.huge)
  return facts
end

-- ---- network ----

local classes = set_of { "ResNet19", "EfficientLIFNet", "SEWResNet", "VGGSNN", "VGG", "VGG9", "VGG11", "WideNet7B" }
local from_data = { classes = "classes", channels = "channels", size = "image size" }

function build.network(recipe, facts)
  local options = schema.copy(recipe.network)
  local name = options[1]
  options[1] = nil
  local wanted = { classes = facts.classes, channels = facts.input[1], size = { facts.input[2], facts.input[3] }, T = recipe.random_T or recipe.T }
  for _, key in ipairs(o.keys(wanted)) do
    local given = options[key]
    local same = given == nil or given == wanted[key]
      or key == "size" and (type(given) == "table" and given or { given, given })[1] == wanted.size[1]
        and (type(given) == "table" and given or { given, given })[2] == wanted.size[2]
    if not same then
      local function text(v) return type(v) == "table" and table.concat(v, "x") or tostring(v) end
      o.fail("recipe: network: %s: expected %s, %s, got %s", key, text(wanted[key]),
        key == "T" and "the recipe's time steps" or ("the %s of %s"):format(from_data[key], recipe.dataset[1]), text(given))
    end
    options[key] = wanted[key]
  end
  local net
  if classes[name] then
    net = under("network", models[name], options)
  else
    net = under("network", models.create, name, options)
  end
  if recipe.random_T then
    for _, module in ipairs(net:modules()) do
      if module:class() == "TAB" or module:class() == "TEBN" or module:class() == "BNTT" then
        o.fail("recipe: random_T: expected a network whose norms are the same in all time steps, got nn.%s", module:class())
      end
    end
  end
  return net
end

-- ---- criterion, optimizer, schedule ----

local criteria = set_of { "SDT", "SMSE", "LTS", "TET", "TET_S", "TRT", "TKS", "L2", "Control", "CrossEntropy" }
local of_net = set_of { "TRT", "L2", "Control" }

function build.criterion(recipe, net)
  local make, options = named("recipe: loss", loss, recipe.loss, criteria)
  if recipe.loss[1] == "TKS" and options.epochs == nil then options.epochs = recipe.epochs end
  if recipe.loss[1] == "Control" and options.T == nil then options.T = recipe.T end
  if of_net[recipe.loss[1]] then return under("loss", make, net, options) end
  return under("loss", make, options)
end

local optimizers = set_of { "SGD", "Adam", "AdamW" }

function build.optimizer(recipe, net)
  local make, options = named("recipe: optimizer", optim, recipe.optimizer, optimizers)
  if recipe.decay == "all" then return under("optimizer", make, net:parameters(), options) end
  local decayed, free = {}, {}
  for _, p in ipairs(net:parameters()) do table.insert(p:dim() > 1 and decayed or free, p) end
  return under("optimizer", make, { { params = decayed }, { params = free, weight_decay = 0 } }, options)
end

local lr_schedules = set_of { "CosineAnnealingLR", "StepLR", "MultiStepLR", "none" }

function build.schedule(recipe, optimizer)
  local name, options = recipe.schedule[1], schema.copy(recipe.schedule)
  options[1] = nil
  if not lr_schedules[name] then o.fail("recipe: schedule: expected one of %s, got '%s'", table.concat(o.keys(lr_schedules), ", "), name) end
  if recipe.warmup >= recipe.epochs then o.fail("recipe: warmup: expected fewer than epochs = %d, got %d", recipe.epochs, recipe.warmup) end
  local main
  if name == "none" then
    main = under("schedule", optim.MultiStepLR, optimizer, { milestones = { recipe.epochs } })
  else
    if name == "CosineAnnealingLR" and options.T_max == nil then options.T_max = recipe.epochs - recipe.warmup end
    main = under("schedule", optim[name], optimizer, options)
  end
  if recipe.warmup == 0 then return main end
  local warm = optim.LinearWarmup(optimizer, { steps = recipe.warmup, start_factor = recipe.warmup_factor })
  return optim.SequentialLR(optimizer, { schedulers = { warm, main }, milestones = { recipe.warmup } })
end

-- ---- all of it ----

-- What trains with a network for these facts: net, criterion, optimizer, schedule, random_T.
function build.trainer(recipe, facts)
  local job = { net = build.network(recipe, facts) }
  job.criterion = build.criterion(recipe, job.net)
  job.optimizer = build.optimizer(recipe, job.net)
  job.schedule = build.schedule(recipe, job.optimizer)
  if recipe.random_T then job.random_T = schedules.RandomT { T_max = recipe.random_T } end
  return job
end

-- The training step of a job: (x, y) -> loss, number of right answers, as tensors.
function build.step(job, recipe)
  local net, criterion, optimizer = job.net, job.criterion, job.optimizer
  local function step(x, y)
    optimizer:zero_grad()
    local l = autograd.autocast(recipe.precision, function() return criterion(net(x), y) end)
    l:backward()
    optimizer:step()
    return criterion.parts.loss, criterion.correct
  end
  -- a recording would keep the epoch's share of TKS's two terms
  return criterion.set_epoch and step or capture.capture(step)
end

return build
