-- Where a set stands in its epochs, as checkpoints keep it: { epoch, batch, seed } and what the order of the samples depends on.

local core = require "moonspike.core"
local o = require "moonspike.options"

local position = {}

-- Raises unless a set can go on from `state`: here is the set's own state, with other positions; batches those of its epoch.
function position.check(state, here, batches)
  for _, key in ipairs { "epoch", "batch", "seed" } do
    if type(state) ~= "table" or not math.tointeger(state[key]) then
      o.fail("load_state_dict: state: expected { epoch, batch, seed }, got %s without %s", o.show(state), key)
    end
  end
  for _, key in ipairs(state.batch ~= 0 and { "samples", "batch_size", "members" } or {}) do -- of an epoch that is cut in another way it means nothing
    if (state[key] or here[key]) ~= here[key] then
      o.fail("load_state_dict: %s: expected %s, since the state lies in the middle of an epoch, got %s", key, o.show(state[key]), o.show(here[key]))
    end
  end
  if state.epoch < 1 then o.fail("load_state_dict: epoch: expected 1 or more, got %d", state.epoch) end
  if state.batch < 0 or state.batch > batches then o.fail("load_state_dict: batch: expected 0 to %d, got %d", batches, state.batch) end
end

local last = setmetatable({}, { __mode = "kv" }) -- the x that a set gave last, while anybody has it

-- A loop asks for the batch behind x: raises where that was not the last one.
function position.follows(set, x)
  if not rawequal(last[set], x) then
    o.fail("%s: expected one loop at a time, another one has begun inside of this: loop over set:with{} there", set.name)
  end
end

-- A batch as the loop gets it.
function position.give(set, x, y)
  local transform = set.loading.transform
  if transform then
    x, y = transform(x, y)
    if x == nil or y == nil then o.fail("%s: transform: expected x, y as results, got %s", set.name, x == nil and "nothing" or "x alone") end
  end
  last[set] = x
  return x, y
end

-- local back <close> = position.keep(set): loops over a set until the end of the block begin a fresh epoch and leave it where it stands, in the
-- middle of a loop too, and random numbers as if nothing had been drawn. A loader that cannot be put back goes on.
function position.keep(set)
  local before = last[set]
  local seed, draws = core.random.state()
  local state = type(set) == "table" and set.state_dict and set:state_dict()
  local resumed = state and set._resumed
  if state then set._resumed = false end
  return setmetatable({}, { __close = function()
    core.random.set_state(seed, draws)
    if not state then return end
    set:load_state_dict(state)
    set._resumed, last[set] = resumed, before
  end })
end

return position
