-- ms.report: one HTML file about one run or several, that needs nothing else: tables, curves, pictures, settings.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local log = require "moonspike.log"
local plot = require "moonspike.plot"
local base64 = require("moonspike.plot.graphics").base64
local schema = require "moonspike.recipes.schema"

local style = [[
body { font: 15px/1.5 sans-serif; color: #222; max-width: 68em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse } th, td { text-align: left; vertical-align: top; padding: .2em .9em .2em 0; border-bottom: 1px solid #ddd }
th { font-weight: 600 } td.n { text-align: right; font-variant-numeric: tabular-nums } img { max-width: 100% } pre { white-space: pre-wrap }
figure { margin: 1em 0 } figcaption { color: #555 }]]

local function escape(text) return (tostring(text):gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" })) end

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text <close> = file
  return text:read "a"
end

local types = { png = "image/png", svg = "image/svg+xml" }

local function picture(path, caption)
  local bytes = read(path)
  if not bytes then return nil end
  return ('<figure><img alt="%s" src="data:%s;base64,%s"><figcaption>%s</figcaption></figure>'):format(escape(caption), types[path:match "[^.]*$"],
    base64(bytes), escape(caption))
end

-- What a folder holds of a run: log.jsonl, and recipe.lua and result.json where it was trained by a recipe.
local function open(folder)
  local rows, why = log.read(folder .. "/log.jsonl")
  if not rows then o.fail("report: folders: %s", why) end
  local epochs = {}
  for _, row in ipairs(rows) do
    if math.type(row.epoch) and row.epoch == row.epoch then epochs[#epochs + 1] = row end
  end
  if #epochs == 0 then o.fail("report: folders: %s/log.jsonl: expected at least one row with a number as epoch, got none", folder) end
  local run = { folder = folder, rows = epochs, name = folder:gsub("/+$", ""):match "[^/]*$", machine = rows.runs[#rows.runs] }
  if core.system.exists(folder .. "/recipe.lua") then run.recipe = assert(schema.load(folder .. "/recipe.lua")) end
  local result = read(folder .. "/result.json")
  run.result = result and core.json.decode(result)
  return run
end

-- ---- tables ----

-- What a row holds: of a user's own log it may be anything.
local function show(v, format)
  if v == nil then return "" end
  if v ~= v then return "nan" end
  if math.type(v) then return format:format(v) end
  return type(v) == "string" and v or core.json.encode(v)
end

local function percent(chosen) return chosen and ("%.2f %% (epoch %g)"):format(100 * chosen.test_accuracy, chosen.epoch) or "" end

local function last_with(rows, key)
  for i = #rows, 1, -1 do
    if rows[i][key] ~= nil then return rows[i][key] end
  end
end

local function best_of(rows)
  local best
  for _, row in ipairs(rows) do
    if math.type(row.test_accuracy) and (not best or row.test_accuracy > best.test_accuracy) then best = row end
  end
  return best
end

local function last_of(rows)
  for i = #rows, 1, -1 do
    if math.type(rows[i].test_accuracy) then return rows[i] end
  end
end

local lines = {
  { "recipe", function(run) return run.recipe and run.recipe.title or "" end },
  { "epochs", function(run) return run.recipe and ("%g of %d"):format(run.rows[#run.rows].epoch, run.recipe.epochs) or #run.rows end },
  { "test accuracy, best epoch (chosen on the test set)", function(run) return percent(best_of(run.rows)) end },
  { "last epoch", function(run) return percent(last_of(run.rows)) end },
  { "epoch chosen on the validation part", function(run) return percent(run.result and run.result.validation) end },
  { "published", function(run)
    local r = run.recipe
    return r and r.published and ("%.2f %%%s%s"):format(r.published, r.spread and (" ± %.2f"):format(r.spread) or "", r.paper and ", " .. r.paper or "") or ""
  end },
  { "spikes of a neuron in a time step", function(run) return show(last_with(run.rows, "firing_rate"), "%.4f") end },
  { "synaptic operations of a sample", function(run) return show(last_with(run.rows, "synops"), "%.3g") end },
  { "energy of a sample by its operations, uJ", function(run) return show(last_with(run.rows, "energy"), "%.3g") end },
  { "time", function(run) return show(run.rows[#run.rows].seconds, "%.1f s") end },
  { "training data", function(run)
    local d = run.result and run.result.data
    return d and ("%s, %d samples, %s (%s)"):format(d.name, d.samples, d.split, d.hash) or ""
  end },
  { "device, threads", function(run) return run.machine and ("%s, %s"):format(run.machine.device, tostring(run.machine.threads)) or "" end },
}

-- Rows { label, value of each run }; empty ones are left out.
local function table_of(runs, rows)
  local out = { "<table><tr><th></th>" }
  for _, run in ipairs(runs) do out[#out + 1] = ("<th>%s</th>"):format(escape(run.name)) end
  out[#out + 1] = "</tr>"
  for _, row in ipairs(rows) do
    local cells, said = {}, false
    for i, run in ipairs(runs) do
      local value = row[2](run)
      said = said or value ~= ""
      cells[i] = ("<td>%s</td>"):format(escape(value))
    end
    if said then out[#out + 1] = ("<tr><td>%s</td>%s</tr>"):format(escape(row[1]), table.concat(cells)) end
  end
  out[#out + 1] = "</table>"
  return table.concat(out)
end

-- The keys of the recipes; with several runs only those that differ.
local function settings(runs)
  local rows, silent = {}, { name = true, title = true, deviations = true, published = true, spread = true, paper = true, source = true, missing = true, tune = true }
  for _, key in ipairs(o.keys(schema.spec)) do
    local first, differs = nil, #runs == 1
    for _, run in ipairs(runs) do
      local text = run.recipe and run.recipe[key] ~= nil and schema.text(run.recipe[key]) or ""
      first = first or text
      differs = differs or text ~= first
    end
    if differs and not silent[key] then
      rows[#rows + 1] = { key, function(run) return run.recipe and run.recipe[key] ~= nil and schema.text(run.recipe[key]) or "" end }
    end
  end
  return rows
end

local columns = { "epoch", "train_loss", "train_accuracy", "train_ce", "validation_accuracy", "test_loss", "test_accuracy", "firing_rate", "synops", "energy", "lr", "seconds" }

local function epochs(run)
  local out, used = {}, {}
  for _, key in ipairs(columns) do
    for _, row in ipairs(run.rows) do
      if row[key] ~= nil then
        used[#used + 1] = key
        break
      end
    end
  end
  out[1] = "<tr><th>" .. table.concat(used, "</th><th>"):gsub("_", " ") .. "</th></tr>"
  for _, row in ipairs(run.rows) do
    local cells = {}
    for i, key in ipairs(used) do
      cells[i] = ('<td class="n">%s</td>'):format(escape(show(row[key], math.type(row[key]) == "integer" and "%d" or "%.5g")))
    end
    out[#out + 1] = "<tr>" .. table.concat(cells) .. "</tr>"
  end
  return ("<details><summary>%s, every epoch</summary><table>%s</table></details>"):format(escape(run.name), table.concat(out))
end

-- ---- the file ----

local drawn_fields = { "train_loss", "test_loss", "train_accuracy", "test_accuracy" }

local function has_curves(runs)
  for _, run in ipairs(runs) do
    for _, row in ipairs(run.rows) do
      for _, key in ipairs(drawn_fields) do
        if math.type(row[key]) then return true end
      end
    end
  end
  return false
end

local function curves(runs, file)
  if not has_curves(runs) then return ("<p>no row has a number as %s</p>"):format(table.concat(drawn_fields, ", ")) end
  local drawn = file:gsub("%.html?$", "") .. ".curves.svg"
  local sets = {}
  for i, run in ipairs(runs) do sets[i] = { run.name, run.rows } end
  local path, why = plot.learning_curves(#runs == 1 and runs[1].rows or sets, drawn,
    { title = "", legend = #runs > 1 and "above" or nil })
  core.system.remove((drawn:gsub("svg$", "csv"))) -- also there where no picture could be drawn
  if not path then return ("<p>%s</p>"):format(escape(why)) end
  local html = picture(path, "training (the full loss) and test (cross entropy): not the same quantity")
  core.system.remove(path)
  return html
end

local function are_pictures(v)
  if type(v) ~= "table" then return false end
  for _, path in ipairs(v) do
    if type(path) ~= "string" or not types[path:match "[^.]*$"] then return false end
  end
  return true
end

local spec = { title = o.string(nil), pictures = o.where({}, "a list of names of .png and .svg files", are_pictures) }

local function report(folders, file, opts)
  if type(folders) == "string" then folders = { folders } end
  if type(folders) ~= "table" or type(folders[1]) ~= "string" then
    o.fail("report: folders: expected the folder of a run or a list of them, got %s", o.show(folders))
  end
  o.check("report", "file", file, o.where(nil, "a name that ends in .html", function(v) return type(v) == "string" and v:find "%.html?$" end))
  local opt, runs, seen = o.read("report", opts, spec), {}, {}
  for i, folder in ipairs(folders) do
    runs[i] = open(folder)
    seen[runs[i].name] = (seen[runs[i].name] or 0) + 1
  end
  for _, run in ipairs(runs) do
    if seen[run.name] > 1 then run.name = run.folder end
  end
  local title = opt.title or #runs == 1 and runs[1].recipe and runs[1].recipe.title or "Runs: " .. #runs
  local out = { "<!doctype html><meta charset=\"utf-8\"><title>", escape(title), "</title><style>", style, "</style><h1>", escape(title), "</h1>" }
  local function add(text) out[#out + 1] = text end
  add(table_of(runs, lines))
  add("<h2>Learning curves</h2>")
  add(curves(runs, file))
  if #opt.pictures > 0 then add("<h2>Figures</h2>") end
  for i, path in ipairs(opt.pictures) do
    add(picture(path, path:match "([^/]*)%.%w+$":gsub("[_-]", " ")) or o.fail("report: pictures: %d: cannot read '%s'", i, path))
  end
  local rows = settings(runs)
  if #rows > 0 then add(("<h2>Settings%s</h2>%s"):format(#runs > 1 and " that differ" or "", table_of(runs, rows))) end
  for _, run in ipairs(runs) do
    for _, text in ipairs(run.recipe and run.recipe.deviations or {}) do add(("<p>%s: %s</p>"):format(escape(run.name), escape(text))) end
  end
  add("<h2>Epochs</h2>")
  for _, run in ipairs(runs) do add(epochs(run)) end
  local ok, why = core.system.write_file(file, table.concat(out) .. "\n")
  if not ok then return nil, why end
  return file
end

return doc.set(report, [[
    ms.report(folders, file[, { title =, pictures = { "runs/a/fisher.png", ... } }]) -> file, or nil, message

    One HTML file, which needs no network and no other file, about the run in a folder or about several beside each other: figures, learning
    curves, pictures (PNG, SVG), settings (of several runs those that differ), every epoch. A run is
    what recipes.train leaves, or any folder with log.jsonl (ms.log) whose rows have epoch, train_loss, test_loss, test_accuracy ...; rows without a
    number as epoch are left out. Raises where a folder has no other.]])
