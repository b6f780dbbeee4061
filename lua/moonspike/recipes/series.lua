-- Many runs in one folder: each is left alone when it is there, gone on with where it stopped, and a failure does not end the rest.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local run = require "moonspike.recipes.run"
local schema = require "moonspike.recipes.schema"
local statistics = require "moonspike.statistics"

local series = {}

-- A recipe with another value of a key, checked as a whole.
local function changed(recipe, key, value)
  local copy = schema.copy(recipe)
  schema.set("series", copy, key, value)
  return schema.read("series", copy)
end

-- One run: its result, or nil and what went wrong; raises where the folder holds a run of another recipe. opts.read: it is only looked for.
function series.run(recipe, out, opts)
  local there = run.result(recipe, out)
  if there or opts.read then return there, "not there" end
  local done, result = pcall(run.train, recipe, { out = out, resume = true, quiet = true, print = opts.print or function() end })
  if not done and tostring(result):find("interrupted", 1, true) then error(result, 0) end
  if done then return result end
  return nil, o.reason(result)
end

local function folder(out, recipe, key, value, seed)
  local at = value ~= nil and ("/%s=%s"):format(key, o.show(value):gsub("'", "")) or ""
  return ("%s/%s%s/seed%d"):format(out, recipe.name, at, seed)
end

-- Runs of one recipe with several seeds. Where it names a key to tune, its values are tried with the first `tune_seeds` seeds, and the one with the
-- best mean accuracy on the validation part (the first of equals) is taken.
-- opts: { out, seeds, tune_seeds, report, print = nil, read = false: only what is there }.
-- Returns { recipe, key, value, tried = { { value, accuracy } }, results = { by seed, in order }, failures = { text } }; report(this) after each run.
function series.seeds(recipe, opts)
  local out = { recipe = recipe, tried = {}, results = {}, failures = {} }
  local function one(changes, key, value, seed)
    local result, why = series.run(changed(changes, "seed", seed), folder(opts.out, recipe, key, value, seed), opts)
    if not result then table.insert(out.failures, ("seed %d%s: %s"):format(seed, value ~= nil and (", %s = %s"):format(key, o.show(value)) or "", why)) end
    return result
  end
  local chosen, key = recipe, recipe.tune and recipe.tune[1]
  if key then
    local best
    for i = 2, #recipe.tune do
      local value, sum, count = recipe.tune[i], 0, math.min(opts.tune_seeds, #opts.seeds)
      local with, complete = changed(recipe, key, value), true
      for k = 1, count do
        local result = one(with, key, value, opts.seeds[k])
        if result then sum = sum + result.validation.validation_accuracy else complete = false end
        opts.report(out)
      end
      if complete then
        local entry = { value = value, accuracy = sum / count }
        table.insert(out.tried, entry)
        if not best or entry.accuracy > best.accuracy then best = entry end
      end
    end
    if #out.tried < #recipe.tune - 1 then return out end -- a choice among fewer would be another one
    out.key, out.value = key, best.value
    chosen = changed(recipe, key, best.value)
  end
  for _, seed in ipairs(opts.seeds) do
    local result = one(chosen, out.key, out.value, seed)
    if result then table.insert(out.results, result) end
    opts.report(out)
  end
  return out
end

-- ---- sweeps ----

-- The points of a sweep: over is a list of axes { key, value, value, ... }, whose values are combined, or taken together one by one.
-- Each is { recipe, values = { in the order of the axes } }; its recipe has a name of its own and nothing to tune.
function series.points(recipe, over, together)
  local count, keys, known = 1, {}, {}
  for _, axis in ipairs(over) do
    if axis[1] == "seed" then o.fail "sweep: over: expected no seed, since each point has all of them" end
    if keys[axis[1]] then o.fail("sweep: over: expected each key once, got %s twice", axis[1]) end
    keys[axis[1]] = true
    if together and #axis ~= #over[1] then
      o.fail("sweep: over: expected as many values of %s as of %s, %d, got %d", axis[1], over[1][1], #over[1] - 1, #axis - 1)
    end
    count = together and #axis - 1 or count * (#axis - 1)
  end
  local points = {}
  for n = 0, count - 1 do
    local changes, names, values, rest = schema.copy(recipe), {}, {}, n
    changes.tune = nil
    for i = #over, 1, -1 do
      local axis, at = over[i], n
      if not together then at, rest = rest % (#axis - 1), rest // (#axis - 1) end
      values[i] = axis[at + 2]
    end
    for i, axis in ipairs(over) do
      schema.set("sweep", changes, axis[1], values[i])
      names[i] = ("%s=%s"):format(axis[1], tostring(values[i]))
    end
    changes.name = ("%s/%s"):format(recipe.name, table.concat(names, ","))
    if known[changes.name] then o.fail("sweep: over: expected points that differ, got %s twice", table.concat(names, ",")) end
    known[changes.name] = true
    points[n + 1] = { recipe = schema.read("sweep", changes), values = values }
  end
  return points
end

-- Mean and standard deviation (of the sample; nil of fewer than two) of what pick finds in the results; nil where it finds nothing.
function series.mean(results, pick)
  local list = {}
  for _, result in ipairs(results) do list[#list + 1] = pick(result) end
  return statistics.mean(list)
end

-- ---- the table ----

local columns = { "recipe", "data", "training samples", "chosen", "runs", "published", "best epoch", "last epoch", "chosen on validation", "minutes a run" }

-- What stands for a run, by name: accuracies from 0 to 1, nil where a run has none.
series.figures = {
  best = function(r) return r.best.test_accuracy end, last = function(r) return r.last.test_accuracy end,
  validation = function(r) return r.validation and r.validation.test_accuracy end,
}

local function percent(results, pick)
  local mean, deviation = series.mean(results, pick)
  if not mean then return "", "", "" end
  mean, deviation = 100 * mean, deviation and 100 * deviation
  return deviation and ("%.2f ± %.2f"):format(mean, deviation) or ("%.2f"):format(mean), ("%.4f"):format(mean), deviation and ("%.4f"):format(deviation) or ""
end

local order = { "best", "last", "validation" }

-- Markdown and CSV of a list of what series.seeds returns; only what was measured.
function series.write(list)
  local md = { "| " .. table.concat(columns, " | ") .. " |", "|" .. ("---|"):rep(#columns) }
  local csv = { "recipe,title,data,split,samples,key,value,runs,published,published_spread,best,best_sd,last,last_sd,validation,validation_sd,seconds" }
  local notes = {}
  for _, entry in ipairs(list) do
    local recipe, results = entry.recipe, entry.results
    local first = results[1]
    local cells, numbers = {}, {}
    for i, name in ipairs(order) do
      local mean, deviation
      cells[i], mean, deviation = percent(results, series.figures[name])
      numbers[2 * i - 1], numbers[2 * i] = mean, deviation
    end
    local seconds = series.mean(results, function(r) return r.seconds end)
    local chosen = entry.key and ("%s = %s"):format(entry.key, o.show(entry.value)) or ""
    local published = recipe.published and ("%.2f"):format(recipe.published) .. (recipe.spread and (" ± %.2f"):format(recipe.spread) or "") or ""
    md[#md + 1] = ("| %s | %s | %s | %s | %d | %s | %s | %s | %s | %s |"):format(recipe.title, first and first.data.name or recipe.dataset[1],
      first and first.data.samples or "", chosen, #results, published, cells[1], cells[2], cells[3], seconds and ("%.1f"):format(seconds / 60) or "")
    local function quoted(text) return '"' .. tostring(text):gsub('"', '""') .. '"' end
    csv[#csv + 1] = table.concat({ recipe.name:find '[,"]' and quoted(recipe.name) or recipe.name, quoted(recipe.title), quoted(first and first.data.name or recipe.dataset[1]),
      quoted(first and ("%s (%s)"):format(first.data.split, first.data.hash) or ""), first and first.data.samples or "", entry.key or "",
      entry.value ~= nil and tostring(entry.value) or "", #results, recipe.published or "", recipe.spread or "", table.concat(numbers, ","),
      seconds and ("%.1f"):format(seconds) or "" }, ",")
    for _, why in ipairs(entry.failures) do notes[#notes + 1] = ("%s, %s"):format(recipe.name, (why:gsub("\n", " "))) end
  end
  local text = table.concat(md, "\n") .. "\n\nAccuracies in %, mean ± standard deviation over the runs with different seeds. Best and last epoch: by the test set; " ..
    "chosen on validation: the epoch at which a part of the training set that is not trained on was answered best.\n"
  if #notes > 0 then text = text .. "\nFailed:\n\n- " .. table.concat(notes, "\n- ") .. "\n" end
  return text, table.concat(csv, "\n") .. "\n"
end

doc.set(series.mean, "series.mean(results, pick) -> mean, standard deviation")

return series
