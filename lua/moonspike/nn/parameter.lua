-- Parameters, buffers, and parameters whose values are drawn when somebody first looks at them.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

local parameter = {}

local kinds = setmetatable({}, { __mode = "k" }) -- tensor -> "parameter" | "buffer"
local Lazy = { __name = "lazy parameter" }
Lazy.__index = Lazy

parameter.pending = 0 -- lazy parameters that have no values yet and may still get some; 0 makes naming free

-- One that is drawn, replaced, or gone with a net that never ran.
function parameter.settled(lazy)
  if lazy.settled then return end
  lazy.settled = true
  parameter.pending = parameter.pending - 1
end

Lazy.__gc = parameter.settled

function parameter.Parameter(value, init)
  if type(value) == "table" and not getmetatable(value) and type(init) == "function" then
    parameter.pending = parameter.pending + 1
    return setmetatable({ size = value, init = init }, Lazy)
  end
  if not o.is_tensor(value) then
    o.fail("Parameter: value: expected a tensor, or sizes and an initialiser, got %s", o.show(value))
  end
  kinds[value] = "parameter"
  core.capture.keep(value)
  return value:requires_grad_(true)
end

function parameter.Buffer(value)
  if not o.is_tensor(value) then o.fail("Buffer: value: expected a tensor, got %s", o.show(value)) end
  kinds[value] = "buffer"
  core.capture.keep(value)
  return value
end

-- "parameter", "buffer", "lazy", or nil.
function parameter.kind(v)
  if getmetatable(v) == Lazy then return "lazy" end
  return kinds[v]
end

doc.set(parameter.Parameter, [[
    nn.Parameter(tensor) -> tensor        nn.Parameter(sizes, init) -> parameter to be drawn

    Marks a tensor as a parameter: assigned to a module it is found by parameters(), state_dict() and the optimizers.
    With sizes and init = function(tensor, key), the values are drawn when somebody first looks at them: under the
    parameter's name in the outermost net it then belongs to ("0.weight"), or, for a module alone, under the module's
    running number. init passes key on to the random filler: function(t, key) t:normal_(0, 0.1, key) end.]])

doc.set(parameter.Buffer, [[
    nn.Buffer(tensor) -> tensor

    Marks a tensor as a buffer: saved with the module and moved with it, but not trained (running statistics).]])

return parameter
