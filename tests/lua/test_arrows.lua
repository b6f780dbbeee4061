-- The structure that CONTRIBUTING promises, held by grep.
local lu = require "luaunit"

local root = assert(arg[0]:match "^(.*)tests/lua/[^/]*$", "run as <root>/tests/lua/test_arrows.lua")

local function lines(command)
  local pipe <close> = assert(io.popen("cd '" .. (root == "" and "." or root) .. "' && " .. command))
  local found = {}
  for line in pipe:lines() do
    found[#found + 1] = line
  end
  return found
end

TestArrows = {}

function TestArrows:test_the_grep_finds_what_it_looks_for()
  lu.assertTrue(#lines "grep -rlE 'lua\\.h|lauxlib' host kernels" > 3)
end

function TestArrows:test_lua_stays_in_the_bindings()
  lu.assertEquals(lines "grep -rlE '#include *[<\"](lua|lauxlib|lualib)' host kernels | grep -vE '^host/(bind|repl)/|^host/main\\.c$'", {})
end

function TestArrows:test_core_does_not_know_the_bindings()
  lu.assertEquals(lines "grep -rnE '#include.*(bind|repl)/' host/core", {})
end

function TestArrows:test_kernels_know_nothing_above_them()
  lu.assertEquals(lines "grep -rnE '#include *[<\"].*(core/|bind/|host/|lua|lauxlib)' kernels", {})
  lu.assertEquals(lines "grep -rnE '#include *\"' kernels/math | grep -vE '\"((\\.\\./)?surrogate\\.def|[a-z]+\\.h)\"'", {})
end

function TestArrows:test_core_reaches_kernels_through_the_table_only()
  lu.assertEquals(lines "grep -rnE 'kernels/(cpu|cuda)/|ms_cpu_' host", {})
end

function TestArrows:test_backends_are_chosen_in_one_file()
  lu.assertEquals(lines "grep -rlE 'ms_backend_cpu|dlopen' host", { "host/core/device.c" })
end

function TestArrows:test_modules_do_not_know_scripts()
  lu.assertEquals(lines "grep -rnE 'require *[\\(\"'\"'\"']+ *(scripts|examples|tests)' lua", {})
end

function TestArrows:test_nothing_below_main_ends_or_prints()
  lu.assertEquals(lines "grep -rnE '(^|[^a-z_])(exit|abort|longjmp|printf|puts|fputs) *\\(' host/core host/bind kernels --include='*.c' --include='*.h' | grep -v 'image_jpeg.c.*longjmp'", {})
end

function TestArrows:test_no_global_random_numbers_or_order_of_pairs()
  lu.assertEquals(lines "grep -rnE '[^a-z_.](rand|srand|drand48|random) *\\(' host/core kernels --include='*.c' --include='*.h' | grep -vE 'ms_'", {})
end

function TestArrows:test_files_can_be_held_in_the_head()
  lu.assertEquals(lines "find host kernels lua scripts examples CMakeLists.txt -type f | xargs wc -l | awk '$2 != \"total\" && $1 > 600 { print $2, $1 }'", {})
  lu.assertEquals(lines "find tests -name '*.c' -o -name '*.lua' | xargs wc -l | awk '$2 != \"total\" && $1 > 800 { print $2, $1 }'", {})
end

os.exit(lu.LuaUnit.run() == 0)
