-- Pictures in the terminal: characters as exact texts, pixels as exact bytes, and the question which of both, asked on a terminal of its own.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local graphics = require "moonspike.plot.graphics"
local blocks = require "moonspike.plot.blocks"
local pixels = require "moonspike.plot.pixels"
local terminal = ms.plot.terminal

local folder = s.folder()

local function printed(f, ...) return table.concat(s.printed(f, ...), "\n") .. "\n" end

local function bytes(planes) return ms.tensor(planes, { dtype = "uint8" }) end

TestCharacters = {}

function TestCharacters:test_plot()
  lu.assertEquals(printed(terminal.plot, { 0, 1, 2, 3, 4 }, { width = 16, height = 2 }), [[
4 ┤      ⣀⣀⠤⠤⠔⠒⠉
0 ┤⣀⠤⠔⠒⠉⠉
  └─────────────
   1           5
]])
  lu.assertEquals(printed(terminal.plot, { 1, 2, 3 }, ms.tensor { 2, 0 / 0, 4 }, { width = 20, height = 2 }), [[
1 value of y is not finite and not drawn
4 ┤                ⠈
2 ┤⡀
  └─────────────────
   1               3
]])
  lu.assertEquals(printed(terminal.plot, { 1 / 0 }), "1 value of y is not finite and not drawn\n")
  lu.assertEquals(select(2, printed(terminal.plot, { 1, 2 }):gsub("[^\n]*\n", "")), 14)
  s.raises("terminal.plot: y: expected 1 values as in x, got 2", terminal.plot, { 1 }, { 1, 2 })
  s.raises("terminal.plot: y: expected at least one number, got none", terminal.plot, {})
  s.raises("terminal.plot: unknown option 'file' (known: height, width)", terminal.plot, { 1 }, { 1 }, { file = "x.png" })
end

function TestCharacters:test_hist()
  lu.assertEquals(printed(terminal.hist, { a = { 0, 0, 1, 2, 4 }, b = { 1 / 0, 2 } }, { bins = 4, width = 16 }), [[
a
0 │███████████ 2
1 │█████▌ 1
2 │█████▌ 1
3 │█████▌ 1
4
b
1 value of b is not finite and not drawn
0 │0
1 │0
2 │███████████ 1
3 │0
4
]])
  lu.assertEquals(printed(terminal.hist, ms.tensor { -1.5, 10, 10 }, { bins = 2, width = 20, range = { -2, 12 } }), "-2 │███████ 1\n 5 │██████████████ 2\n12\n")
  lu.assertStrContains(printed(terminal.hist, { 0, 5 }, { bins = 1, range = { 0, 1 } }), "1 value of x is outside of the range and not drawn\n")
end

function TestCharacters:test_raster()
  lu.assertEquals(printed(terminal.raster, ms.tensor { { 1, 0, 1 }, { 0, 1, 1 }, { 0, 0, 0 / 0 } }),
    "1 value of spikes is not finite and not drawn\n1 ┤▀▄\n3 ┤▀▀\n  └───\n   1 3\n")
  -- 40 steps in 13 columns, 6 neurons in two lines: four steps and two neurons share a place
  local x = ms.zeros(40, 6)
  x[4][1], x[5][4], x[40][6] = 1, 1, 1
  lu.assertEquals(printed(terminal.raster, x, { width = 16, height = 2 }), "1 ┤▀▄\n6 ┤         ▀\n  └──────────\n   1       40\n")
end

function TestCharacters:test_image()
  lu.assertEquals(printed(terminal.image, ms.tensor { { 0, 1 }, { 2, 3 }, { 3, 0 / 0 } }), "1 value of x is not finite and not drawn\n -\n@ \n")
  lu.assertEquals(printed(terminal.image, ms.ones(1, 2, 32), { width = 8 }), "@@@@@@@@\n")
  s.raises("terminal.image: x: expected 1 channel, 3, or 2 with events = true, got [2, 1, 1]", terminal.image, ms.zeros(2, 1, 1))
  s.raises("terminal.image: x: expected a tensor [H, W] or [C, H, W], got 3", terminal.image, 3)
end

function TestCharacters:test_half_blocks()
  lu.assertEquals(blocks.colour(bytes { { { 1, 2 }, { 3, 4 } }, { { 5, 6 }, { 7, 8 } }, { { 9, 10 }, { 11, 12 } } }),
    "\27[38;2;1;5;9m\27[48;2;3;7;11m▀\27[38;2;2;6;10m\27[48;2;4;8;12m▀\27[0m")
  lu.assertEquals(blocks.colour(bytes { { { 1 } }, { { 2 } }, { { 3 } } }), "\27[38;2;1;2;3m\27[48;2;1;2;3m▀\27[0m") -- an odd line counts twice
end

TestPixels = {}

function TestPixels:test_colours()
  local off_on = ms.tensor { { { 10, 0 / 0 } }, { { 20, 300 } } }
  lu.assertEquals(pixels.rgb(off_on, true):totable(), { { { 20, 255 } }, { { 0, 0 } }, { { 10, 0 } } })
  lu.assertEquals(pixels.rgb(off_on:narrow(1, 2, 1)):totable(), { { { 20, 255 } }, { { 20, 255 } }, { { 20, 255 } } })
  local x, least, most = pixels.bright(ms.tensor { -1, 0, 4 })
  lu.assertEquals({ x:totable(), least, most }, { { 0, 51, 255 }, -1, 4 })
  lu.assertEquals(pixels.bright(ms.tensor { 0, 0 }):totable(), { 0, 0 })
  lu.assertEquals(pixels.bright(bytes { 7, 3 }):totable(), { 7, 3 })
  s.near(pixels.bright(bytes { 5, 1 }, true), { 255, 51 })
end

function TestPixels:test_kitty()
  for text, want in pairs { [""] = "", M = "TQ==", Ma = "TWE=", Man = "TWFu", ["\255\0\254k"] = "/wD+aw==" } do lu.assertEquals(graphics.base64(text), want) end
  lu.assertEquals(graphics.kitty(bytes { { { 255 } }, { { 0 } }, { { 1 } } }), "\27_Ga=T,f=24,q=2,s=1,v=1,m=0;/wAB\27\\")
  local text = graphics.kitty(bytes(ms.zeros(3, 33, 32):totable())) -- 4224 characters in two pieces
  lu.assertStrMatches(text, "\27_Ga=T,f=24,q=2,s=32,v=33,m=1;A*\27\\\27_Gm=0;A*\27\\")
  lu.assertEquals({ select(2, text:gsub("A", "")), #text:match ";(A*)" }, { 4224, 4096 })
end

function TestPixels:test_sixel()
  -- red in four columns, then black; a column of seven pixels takes two bands
  lu.assertEquals(graphics.sixel(bytes { { { 255, 255, 255, 255, 0 } }, { { 0, 0, 0, 0, 0 } }, { { 0, 0, 0, 0, 0 } } }),
    '\27Pq"1;1;5;1#0;2;100;0;0#1;2;0;0;0#0!4@?$#1!4?@-\27\\')
  local column = { { 128 }, { 128 }, { 128 }, { 128 }, { 128 }, { 0 }, { 128 } }
  lu.assertEquals(graphics.sixel(bytes { column, column, column }), '\27Pq"1;1;1;7#0;2;50;50;50#1;2;0;0;0#0^$#1_-#0@-\27\\')
  -- beyond 256 colours each has six levels
  local r, g = {}, {}
  for y = 1, 20 do
    r[y], g[y] = {}, {}
    for x = 1, 20 do r[y][x], g[y][x] = 12 * x, 12 * y end
  end
  lu.assertEquals(select(2, graphics.sixel(bytes { r, g, r }):gsub("#%d+;2;%d+;%d+;%d+", "")), 36)
end

TestQuestion = {}

function TestQuestion:test_what_a_reply_means()
  lu.assertEquals(graphics.understood "\27_Gi=31;OK\27\\\27[?62;c", "kitty")
  lu.assertEquals(graphics.understood "\27[?62;4;22c", "sixel")
  lu.assertEquals(graphics.understood "\27[?4c", "sixel")
  for _, reply in ipairs { "\27[?64;14;42c", "\27_Gi=31;ENOSYS\27\\\27[?6c", "\27[?c", "4c" } do lu.assertNil(graphics.understood(reply)) end
end

-- Runs a script on a terminal of its own whose keyboard says `keys` when the screen shows `cue`; what the screen showed. Without a cue at once, without
-- keys never.
local function on_a_terminal(script, cue, keys, kind)
  s.write(folder .. "/on.lua", script)
  local screen, go = folder .. "/screen", folder .. "/keys"
  os.remove(screen)
  s.write(go, keys or "")
  local feed = ("(%s cat %s; sleep %d)"):format(
    cue and ("while ! grep -q '%s' %s 2>/dev/null; do sleep 0.02; done;"):format(cue, screen) or "", go, keys and 0 or 2)
  if not os.execute(("%s | TERM=%s TERM_PROGRAM= script -qfc \"%s %s/on.lua\" %s >/dev/null 2>&1"):format(feed, kind or "xterm", s.host, folder, screen)) then
    lu.skip "script(1) is not installed"
  end
  return (s.read(screen):gsub("\r\n", "\n"))
end

local question = [[
local ms = require "moonspike"
local clock = ms.system.clock
local start = clock()
ms.plot.terminal.image(ms.tensor({ 255 }, { dtype = "uint8" }):view(1, 1), { width = 8 })
ms.plot.terminal.image(ms.tensor({ 255 }, { dtype = "uint8" }):view(1, 1), { width = 8 })
print("took", clock() - start < 2.5)
]]

function TestQuestion:test_terminals()
  local cue = "31,s=1"
  local shown = on_a_terminal(question, cue, "\27[?62;4c")
  local _, times = shown:gsub("\27%[c", "")
  lu.assertEquals(times, 1, "asked once")
  _, times = shown:gsub('\27Pq"1;1;64;64#0;2;100;100;100', "")
  lu.assertEquals(times, 2, shown)
  shown = on_a_terminal(question, cue, "\27_Gi=31;OK\27\\\27[?62;4c")
  lu.assertStrContains(shown, "\27_Ga=T,f=24,q=2,s=64,v=64,m=1;")
  shown = on_a_terminal(question, cue, "\27[?6c")
  lu.assertStrContains(shown, "\27[38;2;255;255;255m\27[48;2;255;255;255m▀\27[0m\n")
  shown = on_a_terminal(question, cue) -- says nothing
  lu.assertStrContains(shown, "▀\27[0m\n")
  lu.assertStrContains(shown, "took\ttrue")
  shown = on_a_terminal(question, nil, "", "linux") -- would print the question
  lu.assertStrContains(shown, "▀\27[0m\n")
  lu.assertNotStrContains(shown, cue)
end

-- Keys that were typed before are not taken for the reply: nothing is asked, and they stay to be read.
function TestQuestion:test_keys_that_wait()
  local shown = on_a_terminal([[
local system = require "moonspike".system
local start = system.clock()
while system.clock() - start < 0.5 do end
print("reply", system.ask("query\27[c", "c", 1))
print("line", io.read "l")]], nil, "typed\n")
  lu.assertStrContains(shown, "reply\tnil\n")
  lu.assertNotStrContains(shown, "query")
  lu.assertStrContains(shown, "line\ttyped\n")
end

function TestQuestion:test_where_there_is_no_terminal()
  lu.assertNil(ms.system.ask("never seen", "c", 0))
  s.raises("seconds: expected 0 to 60", ms.system.ask, "", "c", -1)
  s.raises("seconds: expected 0 to 60", ms.system.ask, "", "c", 0 / 0)
  s.write(folder .. "/pipe.lua", question)
  local _, text = s.run(folder .. "/pipe.lua")
  lu.assertEquals(text, "@\n@\ntook\ttrue\n")
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
