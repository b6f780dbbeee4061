-- Directions in the space of a net's weights, and steps along them that leave the weights as they were.

local core = require "moonspike.core"
local seeding = require "moonspike.nn.seeding"

local directions = {}

-- Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets": d scaled such that its parts have the norms of w's: each slice of the first
-- dimension (the weights into one channel or neuron) for "filter", the whole for "layer".
function directions.normalise(d, w, norm)
  local slices = norm == "filter" and w.shape[1] or 1
  local of, target = d:reshape(slices, -1), w:reshape(slices, -1)
  return (of * (target:norm(2, true) / (of:norm(2, true) + 1e-10))):reshape(w.shape)
end

-- Direction number `axis` of parameter w, which depends on seed and name alone; nil where w stays as it is.
local function draw(w, name, axis, opt)
  if w:dim() <= 1 then return opt.ignore ~= "biasbn" and w:clone() or nil end
  return seeding.draw({ seed = opt.seed, used = {} }, ("landscape/%d/%s"):format(axis, name), function(key)
    return directions.normalise(core.tensor.randn(w.shape, { key = key, device = w.device }), w, opt.norm)
  end)
end

-- A list of { p, start, direction, direction, ... }, one for each parameter that moves: start is a copy of p. Recording is off.
function directions.make(net, opt)
  local list = {}
  for name, p in net:named_parameters() do
    local entry = { p = p, start = p:detach():clone() }
    for axis = 1, opt.directions do entry[axis] = draw(entry.start, name, axis, opt) end
    if entry[1] then list[#list + 1] = entry end
  end
  return list
end

-- p = start + steps[1] * direction 1 + ...
function directions.move(list, steps)
  for _, entry in ipairs(list) do
    entry.p:copy_(entry.start)
    for axis, step in ipairs(steps) do entry.p:add_(entry[axis], step) end
  end
end

-- local back <close> = directions.returning(list): p = start again at the end of the block, also when it raises.
function directions.returning(list)
  return setmetatable({}, { __close = function()
    local done, why = pcall(directions.move, list, {})
    if not done then -- by Ctrl-C, of which a second one would have ended the process
      directions.move(list, {})
      error(why, 0)
    end
  end })
end

-- The cosine of the angle between the first two directions.
function directions.cosine(list)
  local dot, first, second = 0, 0, 0
  for _, entry in ipairs(list) do
    dot = dot + (entry[1] * entry[2]):sum():item()
    first, second = first + entry[1]:square():sum():item(), second + entry[2]:square():sum():item()
  end
  return dot / math.sqrt(first * second)
end

return directions
