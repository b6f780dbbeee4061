-- Loss and accuracy over epochs of one or several runs, out of the rows of logs.

local o = require "moonspike.options"
local lines = require "moonspike.plot.lines"
local numbers = require "moonspike.plot.numbers"
local Figure = require "moonspike.plot.figure"

local spec = Figure.options(nil, nil, {
  legend = Figure.legend, quantity = o.choice("published", { "published", "same" }),
  smooth = o.where(nil, "'published' or a number >= 0 and < 1", function(v) return v == "published" or math.type(v) and v >= 0 and v < 1 end),
})
local file_rule = spec.file
spec.file = nil -- an argument of its own
local PUBLISHED = 0.5 -- the weight of what came before in the authors' smoothing

-- s[1] = x[1], s[i] = weight s[i - 1] + (1 - weight) x[i]; what is not finite stays and is passed over.
local function smooth(list, weight)
  local out, last = {}, nil
  for i, x in ipairs(list) do
    if numbers.finite(x) then
      last = weight * (last or x) + (1 - weight) * x
      x = last
    end
    out[i] = x
  end
  return out
end

local function is_rows(v) return type(v) == "table" and type(v[1]) == "table" and math.type(v[1].epoch) end

-- rows, a list of rows (runs of one name), { name = either } or a list of { name, either } -> list of { name =, runs = list of rows }
local function named(given)
  local function runs_of(what, v)
    if is_rows(v) then return { v } end
    if type(v) == "table" and is_rows(v[1]) then return v end
    o.fail("learning_curves: %s: expected a list of at least one row with the field epoch, or a list of such lists, got %s", what,
      type(v) == "table" and (#v == 0 and "none" or "others") or o.show(v))
  end
  if type(given) ~= "table" or is_rows(given) or #given == 0 and next(given) == nil or type(given[1]) == "table" and is_rows(given[1]) then
    return { { name = "", runs = runs_of("rows", given) } }
  end
  local list = {}
  for i, entry in ipairs(given) do
    if type(entry) ~= "table" or type(entry[1]) ~= "string" then
      o.fail("learning_curves: rows[%d]: expected a row with the field epoch, rows, or { name, rows }, got %s", i, o.show(entry))
    end
    list[i] = { name = entry[1], runs = runs_of(entry[1], entry[2]) }
  end
  if #list == 0 then
    for _, name in ipairs(o.keys(given)) do list[#list + 1] = { name = tostring(name), runs = runs_of(tostring(name), given[name]) } end
  end
  return list
end

-- { [epoch] = value } of the rows that have a field, and the epochs in order; nil where none has it. Of an epoch that was run twice the last counts.
local function column(rows, key, scale, weight)
  local epochs, values = {}, {}
  for _, row in ipairs(rows) do
    if math.type(row[key]) and math.type(row.epoch) and row.epoch == row.epoch then
      if not values[row.epoch] then epochs[#epochs + 1] = row.epoch end
      values[row.epoch] = row[key] * scale
    end
  end
  if #epochs == 0 then return nil end
  table.sort(epochs)
  local list = {}
  for i, epoch in ipairs(epochs) do list[i] = values[epoch] end
  for i, v in ipairs(weight and smooth(list, weight) or list) do values[epochs[i]] = v end
  return values, epochs
end

-- One series of the runs of a name, over the epochs that all of them have: a mean with its spread where they are several. nil: no run has the field.
local function series(set, what, key, scale, weight, look)
  local runs, epochs = {}, nil
  for i, rows in ipairs(set.runs) do
    local values, list = column(rows, key, scale, weight)
    if i > 1 and (values == nil) ~= (runs[1] == nil) then
      o.fail("learning_curves: %s: expected %s in all of its %d runs or in none, got it in some", set.name == "" and "rows" or set.name, key, #set.runs)
    end
    runs[i], epochs = values, epochs or list
  end
  if #runs == 0 then return nil end
  local s = { name = set.name == "" and what or set.name .. ", " .. what, x = {}, runs = {}, colour = look[1], dash = look[2] }
  for i = 1, #runs do s.runs[i] = {} end
  for _, epoch in ipairs(epochs) do
    local everywhere = true
    for _, run in ipairs(runs) do everywhere = everywhere and run[epoch] end
    if everywhere then
      s.x[#s.x + 1] = epoch
      for i, run in ipairs(runs) do table.insert(s.runs[i], run[epoch]) end
    end
  end
  if #s.x == 0 then o.fail("learning_curves: %s: expected runs with epochs in common, got none", set.name == "" and "rows" or set.name) end
  return s
end

local quantities = {
  published = { "train_loss", "training (full loss)", "test (cross entropy)", "loss" },
  same = { "train_ce", "training", "test", "cross entropy, nats" },
}

local function learning_curves(rows, file, opts)
  if type(opts) == "string" then opts = { title = opts } end
  local opt = o.read("learning_curves", opts, spec)
  o.check("learning_curves", "file", file, file_rule)
  local weight = opt.smooth == "published" and PUBLISHED or opt.smooth
  local sets, key = named(rows), quantities[opt.quantity]
  local loss, accuracy = {}, {}
  for i, set in ipairs(sets) do
    local function add(list, what, field, scale, test)
      local look = #sets == 1 and { test and 2 or 1, test and 1 or 2 } or { i, test and 1 or 2 } -- a test is a full line, training a dashed one
      local s = series(set, what, field, scale, weight, look)
      list[#list + 1] = s
      return s
    end
    if not add(loss, key[2], key[1], 1, false) and opt.quantity == "same" then
      o.fail("learning_curves: quantity = 'same': expected the field train_ce (cross entropy of the mean logits over the training set) in all runs, "
        .. "got rows%s without it", set.name == "" and "" or " of " .. set.name)
    end
    add(loss, key[3], "test_loss", 1, true)
    add(accuracy, "training", "train_accuracy", 100, false)
    add(accuracy, "test", "test_accuracy", 100, true)
  end
  local panels = {
    { title = "loss", xlabel = "epoch", ylabel = key[4], whole_x = true, legend = opt.legend, series = loss },
    { title = "accuracy", xlabel = "epoch", ylabel = "accuracy, %", whole_x = true, legend = opt.legend, series = accuracy },
  }
  for i = 2, 1, -1 do
    if #panels[i].series == 0 then table.remove(panels, i) end
  end
  if #panels == 0 then o.fail "learning_curves: rows: expected fields train_loss, test_loss, train_accuracy or test_accuracy, got none of them" end
  return lines { file = file, title = opt.title, width = opt.width, height = opt.height, panels = panels }
end

return learning_curves
