-- The official Python package opens what moonspike writes, and moonspike what it writes. Skipped where it is not installed.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local ms = require "moonspike"
local nn = ms.nn

local python = os.getenv "PYTHON" or "python3"
local folder = s.folder()

TestOfficial = {}

function TestOfficial:test_both_ways()
  if not os.execute(python .. " -c 'import safetensors.numpy, numpy' >/dev/null 2>&1") then
    return lu.skip "the Python package safetensors is not installed"
  end
  ms.manual_seed(3)
  local net = nn.Sequential { nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.LIF(), nn.Flatten(), nn.Linear(12, 2) }
  local opt = ms.optim.Adam(net:parameters())
  net(ms.randn(2, 2, 2, 4, 4)):sum():backward()
  opt:step()
  ms.save(folder .. "/weights.safetensors", net)
  ms.checkpoint(folder .. "/state.safetensors", { model = net, optimizer = opt })
  s.write(folder .. "/read.py", [[
import sys
import numpy
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
folder = sys.argv[1]
tensors = load_file(folder + "/weights.safetensors")
for name in sorted(tensors):
    print(name, tensors[name].dtype, list(tensors[name].shape), "%.9g" % float(tensors[name].reshape(-1)[0]))
with safe_open(folder + "/state.safetensors", "np") as f:
    print(len(list(f.keys())), sorted(f.metadata()))
save_file({name: numpy.asarray(t * 2) for name, t in tensors.items()}, folder + "/double.safetensors", {"format": "pt"})
]])
  local p <close> = assert(io.popen(("%s %s/read.py %s 2>&1"):format(python, folder, folder)))
  local text, want, names = p:read "a", {}, {}
  for name, t in pairs(net:state_dict()) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local t = net:state_dict()[name]
    want[i] = ("%s %s [%s] %.9g\n"):format(name, t.dtype, table.concat(t.shape, ", "), t:reshape(-1)[1]:item())
  end
  lu.assertEquals(text, table.concat(want) .. "21 ['format', 'moonspike', 'producer']\n")
  local double = ms.load(folder .. "/double.safetensors")
  for name, t in pairs(net:state_dict()) do lu.assertEquals(double[name]:totable(), (t * 2):totable(), name) end
end

local status = lu.LuaUnit.run()
s.remove(folder)
os.exit(status == 0)
