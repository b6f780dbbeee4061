-- Passes over a data set in evaluation mode, for one network or for several checkpoints side by side.

local o = require "moonspike.options"
local autograd = require "moonspike.autograd"
local checkpoint = require "moonspike.checkpoint"
local monitor = require "moonspike.monitor"
local Module = require "moonspike.nn.module"
local evaluating = require "moonspike.nn.evaluating"
local position = require "moonspike.data.position"

local survey = {}

local spec = { net = o.where(nil, "a module", Module._is_module) }

-- { name, network or path } of each checkpoint.
local function read(where, nets, net)
  if type(nets) ~= "table" or getmetatable(nets) or #nets == 0 then
    o.fail("%s: net: expected a module or a list of { name, module or path }, got %s", where, o.show(nets))
  end
  local seen = {}
  for i, entry in ipairs(nets) do
    local name, source = (type(entry) == "table" and not getmetatable(entry)) and entry[1], type(entry) == "table" and entry[2]
    if type(name) ~= "string" or not (Module._is_module(source) or type(source) == "string") then
      o.fail("%s: net: entry %d: expected { name, module or path }, got %s", where, i, o.show(entry))
    end
    if seen[name] then o.fail("%s: net: entry %d: the name '%s' is that of entry %d", where, i, name, seen[name]) end
    if type(source) == "string" and not net then o.fail("%s: net: entry %d is a file: expected the option net, into which it is loaded", where, i) end
    seen[name] = i
  end
  return nets
end

-- The tensors of net are at the end of the block what they are now.
local function keeping(net)
  local kept = {}
  for name, tensor in pairs(net:state_dict()) do kept[name] = tensor:detach():clone() end
  return setmetatable({}, { __close = function() net:load_state_dict(kept) end })
end

-- Calls measure(net) for a module or for each checkpoint, and puts weights of files back. Returns its one result, or a list of
-- { name, result } and true.
function survey.each(where, nets, loader, opts, measure)
  local opt = o.read(where, opts, spec)
  o.check(where, "loader", loader, o.loader)
  if Module._is_module(nets) then return measure(nets) end
  local list = read(where, nets, opt.net)
  if #list > 1 and type(loader) == "function" then
    o.fail("%s: loader: expected a data set, which can be gone through for each of %d networks, got a function", where, #list)
  end
  local results = {}
  for i, entry in ipairs(list) do
    local name, source = entry[1], entry[2]
    if type(source) == "string" then
      local back <close> = keeping(opt.net)
      results[i] = { name, measure(checkpoint.load(source, opt.net)) }
    else
      results[i] = { name, measure(source) }
    end
  end
  return results, true
end

-- The data set goes through net; visit.fired(name, neuron, spikes) is called for its neurons, visit.batch() after each batch.
function survey.pass(where, net, loader, visit)
  local names = {}
  for name, module in net:named_modules() do names[module] = name ~= "" and name or module:class() end
  local mode <close> = evaluating(net)
  local back <close> = position.keep(loader)
  local grad <close> = autograd.guard(false)
  local observer = { fired = function(_, neuron, spikes)
    if names[neuron] then visit.fired(names[neuron], neuron, spikes) end
  end }
  local observed <close> = monitor.observing(observer)
  local batches = 0
  for x in loader do
    net(x)
    visit.batch()
    batches = batches + 1
  end
  if batches == 0 then o.fail("%s: loader: expected at least one batch, got none", where) end
end

-- Elements of one time step of one sample of [T, N, ...].
function survey.neurons(spikes)
  local n = 1
  for i, size in ipairs(spikes.shape) do
    if i > 2 then n = n * size end
  end
  return n
end

return survey
