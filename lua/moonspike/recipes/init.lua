-- moonspike.recipes: what the papers trained, one plain table for each row, and what trains it.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local schema = require "moonspike.recipes.schema"
local run = require "moonspike.recipes.run"
local plan = require "moonspike.recipes.plan"

local recipes = { plan = plan.plan, train = run.train, open = run.open }

local book = {}
for _, part in ipairs { "table1", "ablations", "small" } do
  for name, recipe in next, (require("moonspike.recipes." .. part)) do book[name] = recipe end
end

local function find(name)
  o.check("recipes", "name", name, o.string())
  if book[name] then return book[name] end
  if name:find "%.lua$" then
    local recipe, why = schema.load(name)
    if not recipe then o.fail("recipes: %s", why) end
    return recipe
  end
  local near, head = {}, name:match "^[^-]+"
  for _, key in ipairs(o.keys(book)) do
    if head and key:find(head, 1, true) then near[#near + 1] = key end
  end
  o.fail("recipes: name: no recipe '%s' (%s)", name, #near > 0 and "there are " .. table.concat(near, ", ") or "recipes.list() names them")
end

-- The names that contain all words of the pattern, sorted.
function recipes.list(pattern)
  if pattern ~= nil then o.check("recipes.list", "pattern", pattern, o.string()) end
  local list = {}
  for _, name in ipairs(o.keys(book)) do
    local fits = true
    for word in (pattern or ""):gmatch "%S+" do fits = fits and name:find(word, 1, true) ~= nil end
    if fits then list[#list + 1] = name end
  end
  return list
end

function recipes.get(name, changes)
  local recipe = schema.copy(find(name))
  if changes ~= nil then
    o.check("recipes.get", "changes", changes, o.table())
    for _, key in ipairs(o.keys(changes)) do schema.set("recipes.get", recipe, key, changes[key]) end
  end
  recipe.name = recipe.name or name:gsub("%.lua$", ""):match "[^/]*$"
  return schema.read("recipes.get: " .. name, recipe)
end

doc.set(recipes.list, "recipes.list([pattern]) -> list\n\n    Names of recipes, sorted; pattern: words that the name contains, as \"cifar10 trt\".")
doc.set(recipes.get, [[
    recipes.get(name[, changes]) -> recipe

    A plain table, your own copy, with every default filled in. name: as in recipes.list(), or a Lua file that returns such a table.
    changes: { epochs = 10, ["loss.lambda"] = 1e-4, loss = "SDT" }; text is read as a number, true, false or JSON where it is one. Keys:
      name title paper published spread source deviations     what it stands for: the published accuracy in %, and in words what differs here
      dataset = { "CIFAR10", ... } train test            a set of ms.data with options of both parts, and those of each
      missing                                            how the data are made, where they are
      validation = 0.1, samples = 1000                   a share cut from the training part; only so many of the rest, by the seed
      T, random_T, batch, test_batch, drop_last          time steps; the most of them where each batch draws its own (SLT)
      network = { "resnet19", ... }                      a name of ms.models or one of its classes, with options
      loss = { "TRT", ... }                              a criterion of ms.loss
      optimizer = { "Adam", lr = 1e-3 }, decay           one of ms.optim; decay = "weights": none on norms and biases
      schedule = { "CosineAnnealingLR" }, warmup, warmup_factor, epochs        one of ms.optim ("none": constant), behind so many epochs of warm-up
      precision = "float32" | "bf16", seed
      answer = "mean" | "last", every = 1                whose argmax counts, the mean logits' or the last step's; epochs between evaluations
      train_ce = false                                   evaluate the training part too, without augmentation: train_ce beside test_loss, the same quantity
      keep = { 1, 10 }                                   after these epochs the weights stay as epoch1.safetensors ...
      select = "best" | "last" | "validation"            which epoch's test accuracy stands for the run
      tune = { "loss.lambda", 1e-6, 1e-5 }               what scripts/table.lua chooses on the validation part]])
doc.set(recipes, [[
    ms.recipes: list() names what can be trained by name (each row of TRT's Table 1, its ablations, small ones), get(name, changes) gives the recipe,
    plan(recipe) tells what it would do, train(recipe, options) does it, open(folder) brings a trained one back. scripts/train.lua and scripts/table.lua are their command lines.]])

return o.named(recipes, "recipes")
