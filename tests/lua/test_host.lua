-- The command line against the stock interpreter, and the prompt on a pseudo-terminal.
local lu = require "luaunit"

local host = assert(arg[-1], "run by the host")
if host:find "/" and not host:find "^/" then host = os.getenv "PWD" .. "/" .. host end
local stock = "lua5.4"
local folder = os.tmpname()
os.remove(folder)
os.execute("mkdir -p " .. folder)

local function path(name) return folder .. "/" .. name end

local function write(name, text)
  local f <close> = assert(io.open(path(name), "w"))
  f:write(text)
end

local function read(name)
  local f <close> = assert(io.open(path(name)))
  return f:read "a"
end

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

-- Runs a command line; gives exit code, stdout, stderr with the program's name taken out.
local function run(program, words, input, environment)
  local line = { "cd", folder, "&&", "env", "-u", "LUA_INIT", environment or "", program }
  for _, w in ipairs(words) do
    line[#line + 1] = quote(w)
  end
  write("in", input or "")
  line[#line + 1] = "<in >out 2>err"
  local _, _, code = os.execute(table.concat(line, " "))
  local errors = read "err"
  local function plain(s) return (s:gsub(program:gsub("%W", "%%%0"), "lua")) end
  return code, plain(read "out"), plain(errors)
end

write("args.lua", "#!/usr/bin/env lua\nprint(arg[0], arg[1], arg[2], #arg, ...)\n")
write("boom.lua", "local function f() error('boom') end\nf()\n")
write("syntax.lua", "x = = 1\n")
write("init.lua", "print('from file', arg and arg[0] ~= nil)\n")
write("mod.lua", "return { name = ... }\n")

local same = {
  { "-e", "print(1 + 1)" }, { "-eprint(2)" }, { "-e", "error('x')" }, { "-e", "error({})" }, { "-e", "error()" },
  { "-e", "error(setmetatable({}, { __tostring = function() return 'object' end }))" },
  { "-e", "x = ", }, { "-l", "nosuch" }, { "-l", "string", "-e", "print(string.rep('x', 3))" }, { "-lmod", "-e", "print(mod.name)" },
  { "--", "args.lua", "a", "b" }, { "args.lua", "-x", "1" }, { "args.lua" }, { "nofile.lua" }, { "boom.lua" }, { "syntax.lua" },
  { "-", "p", "q", input = "print(...)" }, { input = "print(arg[0] ~= nil, 7)" }, { input = "error 'from stdin'" },
  { "-W", "-e", "warn 'careful'" }, { "-e", "warn('@on') warn('a', 'b')" }, { "-e", "warn 'silent'" },
  { "-e", "os.exit(3)" }, { "-e", "os.exit(false)" }, { "-e", "os.exit(true, true)" },
  { "-e", "print(1)", "-e", "print(2)", "args.lua", "z" }, { "-e", "a = 1", "-e", "print(a)", "-" , input = "print(a)" },
  { "-e", "print(arg[-1], arg[-2] ~= nil, arg[0])", "args.lua" },
  { "-e", "print(package.path)" }, { "-e", "print(package.cpath)" },
  { "-e", "print 'x'", environment = "LUA_INIT='print(1)'" }, { "-e", "print 'x'", environment = "LUA_INIT=@init.lua" },
  { "-E", "-e", "print 'x'", environment = "LUA_INIT='print(1)'" }, { "-e", "", environment = "LUA_INIT='x ='" },
  { "-e", "print 'x'", environment = "LUA_INIT='print(1)' LUA_INIT_5_4='print(2)'" },
  { "-e", "", environment = "LUA_INIT='error(\"stop\")'" }, { "-e", "", environment = "LUA_INIT=@missing.lua" },
  { "-e", "print(package.path)", environment = "LUA_PATH='here/?.lua;;'" },
  { "-E", "-e", "print(package.path)", environment = "LUA_PATH='here/?.lua;;'" },
  { "-e", "coroutine.wrap(function() error 'inside' end)()" }, { "-e", "string.rep()" }, { "-e", "local t <close> = setmetatable({}, {__close = function() print 'closed' end}) error 'e'" },
}

TestCommandLine = {}

for i, case in ipairs(same) do
  TestCommandLine[("test_same_%02d"):format(i)] = function()
    local code, out, err = run(host, case, case.input, case.environment)
    local code0, out0, err0 = run(stock, case, case.input, case.environment)
    lu.assertEquals({ code, out, err }, { code0, out0, err0 })
  end
end

-- A kernel notices the interrupt first; what closes then runs undisturbed, and the script goes on.
function TestCommandLine:test_interrupt_closes()
  write("interrupt.lua", [[
    local ms = require "moonspike"
    local a = ms.randn(1000, 1000)
    os.execute("(sleep 0.3; kill -INT " .. ms.system.pid() .. ") &")
    local function run()
      local guard <close> = setmetatable({}, { __close = function() print("closed", (ms.zeros(1) + 1):item()) end })
      for _ = 1, 1e5 do a:matmul(a) end
    end
    print(pcall(run))
    print(#tostring(a:matmul(a)) > 0)
  ]])
  local code, out = run(host, { "interrupt.lua" })
  lu.assertEquals({ code, out }, { 0, "closed\t1.0\nfalse\tinterrupt.lua:6: interrupted!\ntrue\n" })
end

function TestCommandLine:test_bad_options()
  for _, words in ipairs { { "-x" }, { "-vv" }, { "-e" }, { "-l" }, { "--nonsense" }, { "-i2" } } do
    local code, _, err = run(host, words)
    local code0, _, err0 = run(stock, words)
    lu.assertEquals(code, code0)
    lu.assertEquals(err:match "[^\n]*", err0:match "[^\n]*")
  end
end

function TestCommandLine:test_version()
  local code, out = run(host, { "-v" })
  lu.assertEquals(code, 0)
  lu.assertStrContains(out, "Lua 5.4")
  code, out = run(host, { "--version" })
  lu.assertEquals(code, 0)
  for _, word in ipairs { "moonspike", "Lua", "zlib", "jansson", "readline", "devices", "cpu", "cuda" } do
    lu.assertStrContains(out, word)
  end
end

function TestCommandLine:test_library_by_name()
  local code, out = run(host, { "-l", "ms=moonspike", "-e", "print(ms.zeros(2, 3):sum():item(), package.loaded.moonspike == ms)" })
  lu.assertEquals({ code, out }, { 0, "0.0\ttrue\n" })
end

function TestCommandLine:test_not_a_terminal_has_no_colours_and_no_editing()
  local code, out, err = run(host, { "-i" }, "1 + 1\nerror 'x'\n'done'\n")
  lu.assertEquals(code, 0)
  lu.assertNotStrContains(out .. err, "\27")
  lu.assertStrContains(out, "2\n")
  lu.assertStrContains(out, "done")
  lu.assertStrContains(err, "stdin:1: x")
end

-- Types `keys` ({ text, seconds to wait before it }) at the prompt of a terminal; gives what the screen received.
local function type_at_prompt(keys, environment)
  local feed = { "sleep 0.7" }
  for _, key in ipairs(keys) do
    local text = type(key) == "table" and key[1] or key
    feed[#feed + 1] = "sleep " .. (type(key) == "table" and key[2] or 0.15)
    feed[#feed + 1] = "printf '%b' " .. quote((text:gsub(".", function(c) return ("\\0%03o"):format(c:byte()) end)))
  end
  feed[#feed + 1] = "sleep 0.3; printf '\\004'; sleep 0.2"
  os.execute(("cd %s && (%s) | env TERM=xterm HOME=%s %s script -qefc %s /dev/null >screen 2>&1"):format(folder,
    table.concat(feed, "; "), folder, environment or "", quote(host)))
  return (read "screen":gsub("\r", ""):gsub("\27%[%??%d*%a", ""))
end

TestPrompt = {}

function TestPrompt:test_expressions_and_several_lines()
  lu.assertStrContains(type_at_prompt { "ms.device 'gpu'\n" }, ": device: unknown device 'gpu'") -- a tail call: no place in a file
  local screen = type_at_prompt { "6 * 7\n", "for i = 1, 2 do\n", "print('line', i)\n", "end\n", "x = { 1, a = 'b' }\n", "x\n", "=5 + 5\n", "nil, 'two'\n" }
  for _, word in ipairs { "\n42\n", "line\t1", "line\t2", "a = \"b\"", "\n10\n", "nil" } do
    lu.assertStrContains(screen:gsub("line%s+", "line\t"), word)
  end
end

function TestPrompt:test_completion()
  local screen = type_at_prompt { "ms.manual_s\t(7)\n", "t = ms.zeros\t(2)\n", "t:num\t()\n", "string.rever\t('abc')\n",
    "net = ms.nn.Sequential { ms.nn.Linear(2, 3) }\n", "net[1].weig\t:sum()\n", "net[1].weight.sha\t[1] + 38\n", "list = { t }\n", "#list[1].dty\t\n" }
  lu.assertStrContains(screen, "manual_seed(7)")
  lu.assertStrContains(screen, "t:numel()")
  lu.assertStrContains(screen, "\n2\n")
  lu.assertStrContains(screen, "\ncba\n")
  lu.assertStrContains(screen, "net[1].weight:sum()")
  lu.assertStrContains(screen, "net[1].weight.shape[1]")
  lu.assertStrContains(screen, "list[1].dtype")
end

function TestPrompt:test_help()
  local screen = type_at_prompt { "help(ms.zeros)\n", "help(ms.nn.LIF)\n" }
  lu.assertStrContains(screen, "zeros(")
  lu.assertStrContains(screen, "v_threshold")
end

function TestPrompt:test_interrupt_keeps_values()
  local screen = type_at_prompt { "value = 41\n", "while true do end\n", { "\3", 0.6 }, { "value + 1\n", 0.3 },
    "a = ms.randn(300, 300)\n", "for i = 1, 1e9 do a = (a:matmul(a) * 0) + 0.01 end\n", { "\3", 0.6 }, { "a:numel()\n", 0.5 } }
  lu.assertStrContains(screen, "interrupted!")
  lu.assertStrContains(screen, "\n42\n")
  lu.assertStrContains(screen, "\n90000\n")
end

function TestPrompt:test_interrupt_at_the_prompt_clears_the_line()
  local screen = type_at_prompt { "error('not run", { "\3", 0.2 }, { "1 + 2\n", 0.2 } }
  lu.assertStrContains(screen, "\n3\n")
  lu.assertNotStrContains(screen, "stdin:1: not run")
end

function TestPrompt:test_errors_leave_the_prompt_alive()
  local screen = type_at_prompt { "ms.zeros(2, 3):matmul(ms.zeros(4, 5))\n", "error {}\n", "nosuch.field\n", "1 + 1\n" }
  lu.assertStrContains(screen, "[2, 3]")
  lu.assertStrContains(screen, "attempt to index a nil value")
  lu.assertStrContains(screen, "\n2\n")
end

function TestPrompt:test_history()
  local environment = "MOONSPIKE_HISTORY=" .. path "history"
  type_at_prompt({ "remembered = 1\n" }, environment)
  lu.assertStrContains(read "history", "remembered = 1")
  local screen = type_at_prompt({ "\16\n", "remembered\n" }, environment)
  lu.assertStrContains(screen, "\n1\n")
end

local status = lu.LuaUnit.run()
os.execute("rm -rf " .. folder)
os.exit(status == 0)
