-- The front page of the README, unchanged, on a small IDX folder named through $MOONSPIKE_DATA.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"

-- Under the sanitizers, where a step takes far longer, the script has to run and not to learn.
local sanitize = os.getenv "MOONSPIKE_BUILD" == "sanitize"
local folder = s.folder()
s.fashion(folder, sanitize and 24 or 192, sanitize and 8 or 64)

-- The first Lua block of the README is the script under test.
local readme = s.read((arg[0]:match "^(.*)tests/lua/[^/]*$") .. "README.md")
local page = assert(readme:match "```lua\n(.-)```", "no Lua block in README.md")

TestFrontPage = {}

function TestFrontPage:test_runs_as_it_stands()
  lu.assertStrContains(page, 'ms.save("fashion.safetensors", net)')
  s.write(folder .. "/page.lua", page)
  local code, text = s.run(folder .. "/page.lua", "MOONSPIKE_DATA=" .. folder, nil, folder)
  lu.assertEquals(code, 0, text)
  local last
  for epoch, accuracy in text:gmatch "\n(%d+)\t([%d.]+)\t" do last = { tonumber(epoch), tonumber(accuracy) } end
  lu.assertEquals(last[1], 10, text)
  lu.assertTrue(sanitize or last[2] > 0.9, text)
  lu.assertTrue(#s.read(folder .. "/fashion.safetensors") > 200000)
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
