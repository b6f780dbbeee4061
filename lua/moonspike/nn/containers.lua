-- Containers: Sequential, and Residual for two branches that are added.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Module = require "moonspike.nn.module"

local containers = {}

local Sequential = Module "Sequential"
containers.Sequential = Sequential

function Sequential:init(list)
  rawset(self, "_count", 0)
  if list == nil then return end
  if type(list) ~= "table" or Module._is_module(list) then
    o.fail("Sequential: list: expected a table of modules, got %s", o.show(list))
  end
  local most = 0
  for _, key in ipairs(o.keys(list)) do
    if not math.tointeger(key) or key < 1 then o.fail("Sequential: list: expected modules in order, got the key '%s'", tostring(key)) end
    most = math.max(most, key)
  end
  for i = 1, most do self:add(list[i]) end
end

-- Appends; returns the container, so calls can be chained.
function Sequential:add(module)
  if not Module._is_module(module) then
    o.fail("Sequential: module %d: expected a module, got %s", self._count + 1, o.show(module))
  end
  self[tostring(self._count)] = module -- names as in PyTorch: from 0
  rawset(self, "_count", self._count + 1)
  return self
end

function Sequential:at(i)
  local n = self._count
  if i < 0 then i = n + 1 + i end
  return rawget(self, tostring(i - 1))
end

function Sequential:len() return self._count end

function Sequential:forward(x)
  for i = 0, self._count - 1 do x = rawget(self, tostring(i))(x) end
  return x
end

local Residual = Module "Residual"
containers.Residual = Residual

function Residual:init(branches)
  if type(branches) ~= "table" or Module._is_module(branches) then
    o.fail("Residual: branches: expected { main, shortcut, neuron = ... }, got %s", o.show(branches))
  end
  local given = {}
  for key, value in pairs(branches) do
    local name = key == 1 and "main" or key == 2 and "shortcut" or key
    if given[name] then o.fail("Residual: %s: given twice", name) end
    given[name] = value
  end
  local rule = o.where(nil, "a module", Module._is_module)
  local opt = o.read("Residual", given,
    { main = o.where(o.required, "a module", Module._is_module), shortcut = rule, neuron = rule })
  self.main = opt.main -- one by one: the order of assignment is the order of parameters
  self.shortcut = opt.shortcut
  self.neuron = opt.neuron
end

function Residual:forward(x)
  local y = self.main(x) + (self.shortcut and self.shortcut(x) or x)
  return self.neuron and (self.neuron(y)) or y
end

doc.set(Sequential, [[
    nn.Sequential{ module, ... }

    Runs its modules one after the other. net[1] is the first, net[-1] the last, #net their number, net:add(module) appends.
    In files the names count from 0, as in PyTorch: "0.weight". Only the first result of a module goes on.]])
doc.set(Residual, [[
    nn.Residual{ main, shortcut[, neuron = module] }        or { main =, shortcut =, neuron = }

    y = main(x) + shortcut(x), then the neuron if there is one. Without a shortcut x itself is added.]])

return containers
