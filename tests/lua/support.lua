-- Shared by the Lua tests: comparisons, folders of their own, small IDX files, child processes.
local lu = require "luaunit"

local support = { host = assert(arg[-1], "run by the host") }

-- All numbers of a tensor or nested table, flat.
function support.flat(v)
  if type(v) == "userdata" then v = v:totable() end
  if type(v) == "number" then return { v } end
  local out = {}
  for _, e in ipairs(v) do
    for _, n in ipairs(support.flat(e)) do out[#out + 1] = n end
  end
  return out
end

-- Every number within tolerance * max(1e-3, |want|).
function support.near(got, want, tolerance, what)
  got, want = support.flat(got), support.flat(want)
  lu.assertEquals(#got, #want, what)
  for i, w in ipairs(want) do
    if math.abs(got[i] - w) > (tolerance or 1e-5) * math.max(1e-3, math.abs(w)) then
      lu.fail(("%s[%d]: expected %.9g, got %.9g"):format(what or "value", i, w, got[i]))
    end
  end
end

function support.raises(text, f, ...)
  local ok, message = pcall(f, ...)
  lu.assertFalse(ok, "no error; expected: " .. text)
  lu.assertStrContains(tostring(message), text)
end

function support.folder()
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute("mkdir -p " .. path))
  return path
end

function support.remove(path) os.execute("rm -rf " .. path) end

function support.read(path)
  local f <close> = assert(io.open(path, "rb"))
  return f:read "a"
end

function support.write(path, bytes)
  local f <close> = assert(io.open(path, "wb"))
  assert(f:write(bytes))
end

-- An IDX folder that can be learned: class c has a bright square at a place of its own, over noise.
function support.fashion(folder, train, test)
  local state = 12345
  local function random()
    state = (state * 1103515245 + 12345) % 2147483648
    return state / 2147483648
  end
  for part, n in pairs { train = train, t10k = test } do
    local images, labels = {}, {}
    for i = 1, n do
      local class = (i * 7) % 10
      local row, column = 2 + 5 * (class % 5), class < 5 and 4 or 16
      local pixels = {}
      for y = 0, 27 do
        for x = 0, 27 do
          local inside = y >= row and y < row + 6 and x >= column and x < column + 8
          pixels[#pixels + 1] = string.char(math.floor((inside and 180 or 10) + 60 * random()))
        end
      end
      images[i], labels[i] = table.concat(pixels), string.char(class)
    end
    support.write(("%s/%s-images-idx3-ubyte"):format(folder, part), string.pack(">I4I4I4I4", 0x803, n, 28, 28) .. table.concat(images))
    support.write(("%s/%s-labels-idx1-ubyte"):format(folder, part), string.pack(">I4I4", 0x801, n) .. table.concat(labels))
  end
end

-- What was printed meanwhile, line by line.
function support.printed(f, ...)
  local lines, before = {}, print
  print = function(...) lines[#lines + 1] = table.concat({ ... }, "\t") end -- luacheck: ignore
  local ok, why = pcall(f, ...)
  print = before -- luacheck: ignore
  assert(ok, why)
  return lines
end

-- Runs the host on a script; gives exit code and everything it printed.
function support.run(script, environment, arguments, folder)
  local out = os.tmpname()
  local command = ("cd %s && %s %s %s %s >%s 2>&1 </dev/null"):format(folder or ".", environment or "", support.host, script, arguments or "", out)
  local _, kind, code = os.execute(command)
  local text = support.read(out)
  os.remove(out)
  return kind == "exit" and code or -code, text
end

-- The absolute path of the host, for children that run elsewhere.
if support.host:sub(1, 1) ~= "/" then
  local p <close> = io.popen "pwd"
  support.host = p:read "l" .. "/" .. support.host
end

return support
