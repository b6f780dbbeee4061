-- Firing rates by layer and time step, and neurons that never fire or always do, over a data set.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local columns = require "moonspike.columns"
local idle = require "moonspike.analysis.idle"
local survey = require "moonspike.analysis.survey"

local firing = {}

-- ---- results: one network, or several side by side ----

local function percent(v) return v and ("%.3f %%"):format(100 * v) or "" end

-- What makes results of them: header, the columns of rows(); titles(r) and cells(r, layer), what one network shows in the table and in a
-- layer's line of it; rows(r, add) adds the rows of one network, but for its name.
local function kind(name, header, titles, cells, rows)
  local One, Several = { __name = name }, { __name = name .. " of several networks" }
  One.__index, Several.__index = One, Several

  local function lines(list)
    local order, seen, out = {}, {}, {}
    for _, entry in ipairs(list) do
      for _, layer in ipairs(entry[2].layers) do
        if not seen[layer] then
          seen[layer] = true
          order[#order + 1] = layer
        end
      end
    end
    local head = { "layer" }
    for _, entry in ipairs(list) do
      for _, title in ipairs(titles(entry[2])) do head[#head + 1] = entry[1] and entry[1] .. ": " .. title or title end
    end
    out[1] = head
    for _, layer in ipairs(order) do
      local line = { layer }
      for _, entry in ipairs(list) do
        for _, cell in ipairs(cells(entry[2], layer)) do line[#line + 1] = cell end
      end
      out[#out + 1] = line
    end
    return columns(out)
  end

  local function all_rows(list)
    local out = { table.move(header, 1, #header, 1, {}) }
    for _, entry in ipairs(list) do
      rows(entry[2], function(...) out[#out + 1] = { entry[1] or "", ... } end)
    end
    return out
  end

  function One:__tostring() return lines { { nil, self } } end
  function One:rows() return all_rows { { nil, self } } end
  function Several:__tostring() return lines(self._list) end
  function Several:rows() return all_rows(self._list) end

  return function(results, several)
    if not several then return setmetatable(results, One) end
    local out = { _list = results }
    for i, entry in ipairs(results) do
      setmetatable(entry[2], One)
      out[i], out[entry[1]] = entry[2], entry[2]
    end
    return setmetatable(out, Several)
  end
end

-- ---- firing rates ----

-- One layer's spikes by length of the batch's time, as tensors [T]: nothing is read before the end.
local function add_counts(entry, neuron)
  local spikes = neuron.counts:sum(2)
  local T = spikes.shape[1]
  entry.spikes[T] = entry.spikes[T] and entry.spikes[T] + spikes or spikes
  entry.sites[T] = (entry.sites[T] or 0) + neuron._sites
end

local function mean_rates(result, entry)
  local spikes, sites = {}, {}
  for T, sums in next, entry.spikes do
    for t, n in ipairs(sums:totable()) do
      spikes[t], sites[t] = (spikes[t] or 0) + n, (sites[t] or 0) + entry.sites[T] // T
    end
  end
  local all, of, each = 0, 0, {}
  for t, n in ipairs(spikes) do
    each[t] = n / sites[t]
    all, of = all + n, of + sites[t]
  end
  result.rate[entry.name], result.rate_t[entry.name] = of > 0 and all / of or 0, each
  return all, of
end

local function measure_rates(net, loader)
  local list, of, now = {}, {}, {}
  survey.pass("firing_rates", net, loader, {
    fired = function(name, neuron, spikes)
      if not of[name] then
        of[name] = { name = name, spikes = {}, sites = {}, neurons = survey.neurons(spikes) }
        list[#list + 1] = of[name]
      end
      now[name] = neuron
    end,
    batch = function()
      for _, entry in ipairs(list) do
        if now[entry.name] then add_counts(entry, now[entry.name]) end
      end
      now = {}
    end,
  })
  local result = { layers = {}, neurons = {}, rate = {}, rate_t = {} }
  local spikes, sites = 0, 0
  for i, entry in ipairs(list) do
    result.layers[i], result.neurons[entry.name] = entry.name, entry.neurons
    local fired, all = mean_rates(result, entry)
    spikes, sites = spikes + fired, sites + all
  end
  result.mean = sites > 0 and spikes / sites or 0
  return result
end

local function steps(result)
  local T = 0
  for _, each in next, result.rate_t do T = math.max(T, #each) end
  return T
end

local rates = kind("firing rates", { "network", "layer", "neurons", "t", "rate" }, function(result)
  local titles = { "neurons", "rate" }
  for t = 1, steps(result) do titles[#titles + 1] = "t = " .. t end
  return titles
end, function(result, layer)
  local cells = { result.neurons[layer] and tostring(result.neurons[layer]) or "", percent(result.rate[layer]) }
  for t = 1, steps(result) do cells[#cells + 1] = percent((result.rate_t[layer] or {})[t]) end
  return cells
end, function(result, add)
  for _, layer in ipairs(result.layers) do
    add(layer, result.neurons[layer], "mean", result.rate[layer])
    for t, rate in ipairs(result.rate_t[layer]) do add(layer, result.neurons[layer], t, rate) end
  end
end)

function firing.firing_rates(nets, loader, opts)
  return rates(survey.each("firing_rates", nets, loader, opts, function(net) return measure_rates(net, loader) end))
end

-- ---- dead and saturated neurons ----

local function measure_dead(net, loader)
  local list, of, waiting = {}, {}, nil
  -- Spikes are counted once the layer behind has read them: a pooling there still runs in the neuron's row.
  local function count()
    if waiting then idle.add(waiting[1], "dead_neurons", waiting[1].name, waiting[2]) end
    waiting = nil
  end
  survey.pass("dead_neurons", net, loader, {
    fired = function(name, _, spikes)
      if not of[name] then
        of[name] = { name = name }
        list[#list + 1] = of[name]
      end
      count()
      waiting = { of[name], spikes }
    end,
    batch = count,
  })
  local result = { layers = {}, neurons = {}, dead = {}, saturated = {} }
  for i, entry in ipairs(list) do
    local dead, saturated, neurons = idle.count(entry)
    local name = entry.name
    result.layers[i], result.neurons[name] = name, neurons
    result.dead[name], result.saturated[name] = dead:item() / neurons, saturated:item() / neurons
  end
  return result
end

local dead = kind("dead and saturated neurons", { "network", "layer", "neurons", "dead", "saturated" }, function()
  return { "neurons", "dead", "saturated" }
end, function(result, layer)
  local n = result.neurons[layer]
  return { n and tostring(n) or "", percent(result.dead[layer]), percent(result.saturated[layer]) }
end, function(result, add)
  for _, layer in ipairs(result.layers) do add(layer, result.neurons[layer], result.dead[layer], result.saturated[layer]) end
end)

function firing.dead_neurons(nets, loader, opts)
  return dead(survey.each("dead_neurons", nets, loader, opts, function(net) return measure_dead(net, loader) end))
end

local several = [[


    Several networks side by side: net is a list of { name, module or path of weights }, for paths with the option net, a module into
    which they are loaded (its own weights are put back), and loader is a data set. The result has theirs by name and by position,
    r["TRT"] or r[2]; print(r) puts them beside each other. Random numbers and the loader's position are afterwards as before.]]

doc.set(firing.firing_rates, [[
    ms.analysis.firing_rates(net, loader[, { net = nil }]) -> r

    The average spike firing rate of each layer of neurons, and of each time step, in evaluation mode: the mean of its spikes (0 or 1) over
    samples, neurons (and t), before any pooling. ASFR in figures 5, S3 and S4 of TRT (arXiv 2506.19256).
    r.layers: names in order of use; r.neurons[layer]; r.rate[layer]; r.rate_t[layer][t], t from 1; r.mean: over all neurons, as ms.evaluate has it.
    print(r) is a table; r:rows() lists { network, layer, neurons, t ("mean" or from 1), rate } behind a row of these titles, as for a CSV file.
    A neuron that is called more than once in a pass counts with its last call, but in nn.SharedMembrane and ms.models with all.]] .. several)
doc.set(firing.dead_neurons, [[
    ms.analysis.dead_neurons(net, loader[, { net = nil }]) -> r

    The share of neurons that never fire over the data set (dead) and that fire at every step of every sample (saturated), in evaluation mode.
    A neuron is one element of a layer's spikes at one time step of one sample: a channel at a pixel. Channels that share a membrane
    (nn.SharedChannels) are one neuron.
    r.layers: names in order of use; r.neurons[layer]; r.dead[layer], r.saturated[layer]: from 0 to 1. print(r) is a table; r:rows() lists
    { network, layer, neurons, dead, saturated } behind a row of these titles.]] .. several)

return firing
