-- Evaluation mode for a while: local mode <close> = evaluating(net). Every module's own mode is back at the end of the block, also when
-- it raises.

return function(net)
  local modes = {}
  for _, module in ipairs(net:modules()) do modes[module] = module.training end
  net:eval()
  return setmetatable({}, { __close = function()
    for module, training in next, modes do module.training = training end
  end })
end
