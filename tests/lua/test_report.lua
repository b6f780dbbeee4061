-- Reports of runs: that everything is in the one file, and what is compared.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"

local folder = s.folder()
s.fashion(folder, 40, 20)

local function train(name, changes)
  local recipe = { title = "<" .. name .. ">", dataset = { "FashionMNIST", root = folder }, T = 1, batch = 8, epochs = 2, seed = 1, network = { "VGG", plan = { 4, "A" } },
    loss = { "SDT" }, deviations = { "a & b" }, published = 12.5 }
  for key, value in pairs(changes or {}) do recipe[key] = value end
  local out = folder .. "/" .. name
  return ms.recipes.train(recipe, { out = out, quiet = true, print = function() end, tensorboard = true }), out
end

local html = folder .. "/report.html"

TestReport = {}

function TestReport:test_one_run()
  local result, out = train("one", { validation = 0.2 })
  s.write(out .. "/mine.png", "\1\2\3\4")
  lu.assertEquals(ms.report(out, html, { pictures = { out .. "/mine.png" } }), html)
  local text = s.read(html)
  for _, part in ipairs { "<title>&lt;one&gt;</title>", ("%.2f %% (epoch %d)"):format(100 * result.best.test_accuracy, result.best.epoch), "a &amp; b",
    "12.50 %", '"data:image/png;base64,AQIDBA=="', "<td>{ &quot;SDT&quot; }</td>", "2 of 2", result.data.hash,
    ("<td class=\"n\">%.5g</td>"):format(result.last.test_accuracy) } do lu.assertStrContains(text, part) end
  lu.assertNil(text:find("://", 1, true)) -- nothing is fetched
  local files = io.popen("ls " .. out .. "/tensorboard"):read "a"
  lu.assertStrContains(files, "events.out.tfevents.")
end

-- Beside each other: only the settings that differ.
function TestReport:test_several_runs()
  local _, a = train("a")
  local _, b = train("b", { optimizer = { "Adam", lr = 0.25 }, seed = 7 })
  ms.report({ a, b }, html, { title = "both" })
  local text = s.read(html)
  for _, part in ipairs { "<title>both</title>", "<th>a</th><th>b</th>", "<td>optimizer</td><td>{ &quot;Adam&quot; }</td><td>{ &quot;Adam&quot;, lr = 0.25 }</td>",
    "<td>seed</td><td>1</td><td>7</td>" } do lu.assertStrContains(text, part) end
  lu.assertNil(text:find("<td>epochs</td><td>2</td>", 1, true)) -- the same in both: not among the settings
  lu.assertNil(text:find("<td>network</td>", 1, true))
end

-- A log alone, of a script of the user's.
function TestReport:test_a_log()
  local own = folder .. "/own"
  ms.system.mkdir(own)
  local log = ms.log(own .. "/log.jsonl")
  log { epoch = 1, train_loss = 2, test_loss = 1.5, test_accuracy = 0.5 }
  log:close()
  ms.report(own, html)
  lu.assertStrContains(s.read(html), "50.00 % (epoch 1)")
end

-- Rows without an epoch are left out; what is no number is shown as it is, what is not there stays empty.
function TestReport:test_a_log_of_other_things()
  local own = folder .. "/other"
  ms.system.mkdir(own)
  local log = ms.log(own .. "/log.jsonl", { append = false })
  log { note = "begun" }
  log { step = 1, test_accuracy = 0.4 }
  log { epoch = 1.5, lr = "<warm-up>", test_accuracy = 0.25, test_loss = 0 / 0, seconds = "fast", synops = { 1, 2 } }
  log { epoch = 2, lr = 0.5, test_accuracy = "none", firing_rate = true }
  log:close()
  ms.report(own, html)
  local text = s.read(html)
  for _, part in ipairs { "25.00 % (epoch 1.5)", '<td class="n">&lt;warm-up&gt;</td>', '<td class="n">0.5</td>', '<td class="n">nan</td>',
    '<td class="n">none</td>', '<td class="n">fast</td>', '<td class="n">[1,2]</td>', "<td>true</td>" } do lu.assertStrContains(text, part) end
  lu.assertNil(text:find("40.00 %", 1, true))
  s.write(own .. "/log.jsonl", '{"epoch":1,"lr":0.5}\n')
  ms.report(own, html)
  lu.assertStrContains(s.read(html), "<p>no row has a number as train_loss, test_loss, train_accuracy, test_accuracy</p>")
end

function TestReport:test_refused()
  s.raises("report: folders: " .. folder .. "/none/log.jsonl: No such file", ms.report, folder .. "/none", html)
  s.raises("report: folders: expected the folder of a run or a list of them, got 3", ms.report, 3, html)
  s.raises("report: pictures: expected a list of names of .png and .svg files, got table", ms.report, folder, html, { pictures = { "a.jpg" } })
  s.raises("report: file: expected a name that ends in .html, got 'x.txt'", ms.report, folder, "x.txt")
  ms.system.mkdir(folder .. "/empty")
  for _, text in ipairs { "", '{"step":1}\n', '{"epoch":"one"}\n{"epoch":null}\n' } do
    s.write(folder .. "/empty/log.jsonl", text)
    s.raises("report: folders: " .. folder .. "/empty/log.jsonl: expected at least one row with a number as epoch, got none", ms.report, folder .. "/empty", html)
  end
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
