-- Where initial values come from. A draw is keyed by (seed, "init", name), never by the order of calls, so adding a layer
-- at the end changes no other one. An era begins with each ms.manual_seed; a module remembers the era it was made in.

local core = require "moonspike.core"

local seeding = {}
local era

-- Starts an era with the seed that is in force.
function seeding.renew()
  era = { seed = core.random.seed(), used = {}, made = {} }
end

function seeding.era()
  if not era then seeding.renew() end
  return era
end

-- The running number of a class in an era, the name of a module that belongs to no net: "Conv2d#1".
function seeding.serial(within, class)
  local n = (within.made[class] or 0) + 1
  within.made[class] = n
  return ("%s#%d"):format(class, n)
end

-- Calls fill(key) such that a keyed filler draws from the era's seed. The second net of an era that asks for the same name
-- gets "name~2": two layers never share a draw.
function seeding.draw(within, name, fill)
  local n = (within.used[name] or 0) + 1
  within.used[name] = n
  local seed, draws = core.random.state()
  local restore <close> = setmetatable({}, { __close = function() core.random.set_state(seed, draws) end })
  core.random.set_state(within.seed, 0)
  return fill(n == 1 and name or ("%s~%d"):format(name, n))
end

return seeding
