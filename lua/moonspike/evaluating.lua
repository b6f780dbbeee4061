-- What everything that looks at a trained network shares: the check of its arguments, and evaluation mode for a while.

local o = require "moonspike.options"
local monitor = require "moonspike.monitor"
local Module = require "moonspike.nn.module"

local evaluating = {}

function evaluating.check(where, net, loader)
  if not Module._is_module(net) then o.fail("%s: net: expected a module, got %s", where, o.show(net)) end
  local mt = type(loader) == "table" and getmetatable(loader)
  if type(loader) ~= "function" and not (mt and mt.__call) then
    o.fail("%s: loader: expected a data set or an iterator function, got %s", where, o.show(loader))
  end
end

-- local mode <close> = evaluating.mode(net): puts everything back as it was, also when the network raises.
function evaluating.mode(net)
  local modes = {}
  for _, module in ipairs(net:modules()) do modes[module] = module.training end
  net:eval()
  local trace = monitor.trace
  return setmetatable({}, { __close = function()
    monitor.trace = trace
    for module, training in next, modes do module.training = training end
  end })
end

return evaluating
