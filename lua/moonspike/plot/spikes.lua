-- Spikes as dots, membranes over time.

local o = require "moonspike.options"
local numbers = require "moonspike.plot.numbers"
local style = require "moonspike.plot.style"
local Figure = require "moonspike.plot.figure"
local lines = require "moonspike.plot.lines"

local spikes = {}
local quote = Figure.quote

-- A tensor [T, ...] of one sample as rows [t][neuron] of numbers, neurons in the order in which they lie in memory.
function spikes.rows(where, name, x)
  if not o.is_tensor(x) or x:dim() < 1 or x:numel() == 0 then
    o.fail("%s: %s: expected a tensor [T, neurons] or [T, C, H, W] of one sample, got %s", where, name, o.show(x))
  end
  if x:dim() == 5 then o.fail("%s: %s: expected one sample [T, C, H, W], got a batch %s: x:select(2, i) takes its sample i", where, name, o.shape(x)) end
  return x:detach():float():reshape(x.shape[1], -1):totable()
end

local raster_spec = Figure.options(640, 460, { xlabel = o.string("time step"), ylabel = o.string("neuron") })

function spikes.raster(x, opts)
  local opt = o.read("raster", opts, raster_spec)
  local rows = spikes.rows("raster", "spikes", x)
  local steps, neurons = #rows, #rows[1]
  local figure, points, data, missing = Figure.new(opt), {}, {}, 0
  for t, row in ipairs(rows) do
    for n, s in ipairs(row) do
      if not numbers.finite(s) then missing = missing + 1
      elseif s ~= 0 then
        points[#points + 1] = { t, n }
        data[#data + 1] = ("%d %d"):format(t, n)
      end
    end
  end
  figure:left_out(missing, "spikes", "not finite")
  if #points == 0 then figure:note "no spikes" else figure:data("spikes", data) end
  local room = math.min(0.7 * opt.height / neurons, 0.7 * opt.width / steps) -- pixels a dot may take
  local size = math.max(0.15, math.min(1, room / 12))
  figure:add("set title %s; set xlabel %s; set ylabel %s; unset key; unset grid", quote(opt.title), quote(opt.xlabel), quote(opt.ylabel))
  figure:add("set xtics %d", math.max(1, numbers.step(steps, 10)))
  figure:add("plot [0.5:%g] [0.5:%g] %s", steps + 0.5, neurons + 0.5,
    #points > 0 and ("$spikes with points pt 7 ps %.3g * mark lc rgb '%s'"):format(size, style.colours[3]) or "NaN notitle")
  return figure:finish({ "step", "neuron" }, points)
end

local trace_spec = Figure.options(720, nil, {
  neurons = o.table(nil), threshold = o.number(nil), spikes = o.where(nil, "a tensor", o.is_tensor), xlabel = o.string("time step"), ylabel = o.string("membrane"),
})
local SHOWN = 4 -- neurons, where none are chosen

function spikes.trace(v, opts)
  local opt = o.read("trace", opts, trace_spec)
  local rows = spikes.rows("trace", "v", v)
  local fired = opt.spikes and spikes.rows("trace", "spikes", opt.spikes)
  if fired and (#fired ~= #rows or #fired[1] ~= #rows[1]) then
    o.fail("trace: spikes: expected the shape of v, %s, got %s", o.shape(v), o.shape(opt.spikes))
  end
  local chosen = opt.neurons or {}
  if not opt.neurons then
    for i = 1, math.min(SHOWN, #rows[1]) do chosen[i] = i end
  end
  if #chosen == 0 then o.fail "trace: neurons: expected at least one, got none" end
  local panels = {}
  for i, neuron in ipairs(chosen) do
    if math.type(neuron) ~= "integer" or neuron < 1 or neuron > #rows[1] then
      o.fail("trace: neurons[%d]: expected 1 to %d, got %s", i, #rows[1], o.show(neuron))
    end
    local membrane = { name = "membrane", x = {}, y = {}, draw = "both", colour = 1 }
    local top = opt.threshold or -math.huge
    for t, row in ipairs(rows) do
      membrane.x[t], membrane.y[t] = t, row[neuron]
      if numbers.finite(row[neuron]) then top = math.max(top, row[neuron]) end
    end
    local series = { membrane }
    if opt.threshold then
      series[2] = { name = "threshold", x = { 1, math.max(2, #rows) }, y = { opt.threshold, opt.threshold }, draw = "line", colour = 6, dash = 2 }
    end
    if fired and numbers.finite(top) then
      local mark = { name = "spike", x = {}, y = {}, draw = "points", colour = 3 }
      for t, row in ipairs(fired) do
        if row[neuron] ~= 0 then mark.x[#mark.x + 1], mark.y[#mark.y + 1] = t, top + 0.1 * math.max(math.abs(top), 0.1) end
      end
      if #mark.x > 0 then series[#series + 1] = mark end
    end
    panels[i] = { title = ("neuron %d"):format(neuron), xlabel = i == #chosen and opt.xlabel or "", ylabel = opt.ylabel, whole_x = true, series = series,
      legend = i == 1 and "above" or "none" }
  end
  return lines { file = opt.file, title = opt.title, width = opt.width, height = opt.height or 60 + 250 * #panels, columns = 1, panels = panels }
end

return spikes
