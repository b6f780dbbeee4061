-- Everything that the core exports explains itself.
local lu = require "luaunit"
local core = require "moonspike.core"

TestHelp = {}

local function walk(t, path, seen, visit)
  if seen[t] then return end
  seen[t] = true
  for key, value in pairs(t) do
    local name = path .. "." .. tostring(key)
    if type(value) == "function" then visit(name, value) end
    if type(value) == "table" and value ~= core.help then walk(value, name, seen, visit) end
  end
end

function TestHelp:test_every_function_has_a_text()
  local count = 0
  walk(core, "core", {}, function(name, f)
    local text = core.help[f]
    lu.assertIsString(text, name .. " has no help text")
    local usage, explanation = text:match "^(.-)\n\n(.+)$"
    lu.assertNotNil(usage, name .. ": a usage line, an empty line, an explanation")
    lu.assertStrContains(usage, name:match "([^.]+)$", false, false, name)
    lu.assertTrue(#explanation > 10, name)
    for line in text:gmatch "[^\n]+" do lu.assertNil(line:find "%s$", name) end
    count = count + 1
  end)
  lu.assertTrue(count > 200, "only " .. count .. " functions")
end

function TestHelp:test_optimizers_too()
  local mt = getmetatable(core.optim.new "sgd")
  for name, f in pairs(mt.__index) do lu.assertIsString(core.help[f], name) end
end

function TestHelp:test_functions_are_methods()
  local x = core.tensor.zeros(1)
  for name, f in pairs(core.ops) do lu.assertEquals(x[name], f, name) end
end

function TestHelp:test_registry_is_weak()
  local key = function() return core end
  core.help[key] = "text"
  key = nil
  collectgarbage()
  for f, text in pairs(core.help) do lu.assertFalse(text == "text", tostring(f)) end
end

function TestHelp:test_versions()
  local list = core.device.versions()
  lu.assertEquals(list[1][1], "moonspike")
  lu.assertStrMatches(list[1][2], "%d+%.%d+%.%d+")
  for _, entry in ipairs(list) do lu.assertEquals({ type(entry[1]), type(entry[2]) }, { "string", "string" }) end
end

function TestHelp:test_values_of_the_library()
  local ms, doc = require "moonspike", require "moonspike.doc"
  lu.assertStrContains(doc.get(ms.zeros(2)), "t:item()")
  lu.assertStrContains(doc.get(ms.nn.Sequential {}), "nn.Sequential{")
  for _, t in ipairs { ms, ms.models, ms.nn, ms.nn.init, ms.nn.utils, ms.nn.functional, ms.loss, ms.optim, ms.schedule, ms.data, ms.analysis, ms.json, ms.system, ms.plot, ms.plot.terminal, ms.log } do
    lu.assertNotStrContains(doc.get(t), "a table with the fields")
  end
  for _, t in ipairs { ms.plot, ms.plot.terminal } do
    for name, f in pairs(t) do lu.assertIsString(core.help[f], "plot." .. name) end
  end
  for name, f in pairs(ms.nn.Module) do
    if type(f) == "function" and not name:find "^_" and name ~= "init" then lu.assertIsString(core.help[f], "Module." .. name) end
  end
end

os.exit(lu.LuaUnit.run())
