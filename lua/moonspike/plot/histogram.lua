-- Histograms of tensors and lists.

local core = require "moonspike.core"
local o = require "moonspike.options"
local numbers = require "moonspike.plot.numbers"
local style = require "moonspike.plot.style"
local Figure = require "moonspike.plot.figure"

local quote = Figure.quote

local spec = Figure.options(640, 420, {
  bins = o.integer(50, { from = 1, to = 10000 }), range = numbers.range, log = o.boolean(false), share = o.boolean(false), xlabel = o.string("value"),
})

local function tensor_of(name, v)
  if o.is_tensor(v) then
    if v:numel() == 0 then o.fail("histogram: %s: expected at least one value, got a tensor %s", name, o.shape(v)) end
    return v:detach():float():reshape(-1)
  end
  return core.tensor.tensor(numbers.list("histogram", name, v))
end

-- A list of { name =, x = tensor }; one without a name where only one is given.
local function values_of(x)
  if o.is_tensor(x) or type(x) == "table" and math.type(x[1]) then return { { name = "", x = tensor_of("x", x) } } end
  if type(x) ~= "table" or next(x) == nil then
    o.fail("histogram: x: expected a tensor, a list of numbers, or several of them by name, got %s", type(x) == "table" and "none" or o.show(x))
  end
  local list = {}
  for i, entry in ipairs(x) do
    if type(entry) ~= "table" or type(entry[1]) ~= "string" then o.fail("histogram: x[%d]: expected { name, values }, got %s", i, o.show(entry)) end
    list[i] = { name = entry[1], x = tensor_of(entry[1], entry[2]) }
  end
  if #list == 0 then
    for i, name in ipairs(o.keys(x)) do list[i] = { name = tostring(name), x = tensor_of(tostring(name), x[name]) } end
  end
  return list
end

-- Least and largest finite values of a tensor, and how many are not finite.
local function look(x)
  local finite = x:isfinite()
  local n = math.tointeger(finite:sum():item())
  if n == 0 then return nil, nil, x:numel() end
  return core.ops.where(finite, x, math.huge):min():item(), core.ops.where(finite, x, -math.huge):max():item(), x:numel() - n
end

-- How many finite values of x lie in each of n equal bins over [low, high]; a bin holds its lower edge, the last one both.
local function counts_of(x, n, low, high)
  local below, counts = {}, {}
  for i = 0, n do
    local edge = low + (high - low) * i / n
    below[i] = math.tointeger((i == n and x:le(high) or x:lt(edge)):sum():item())
  end
  for i = 1, n do counts[i] = below[i] - below[i - 1] end
  return counts
end

-- Reads what histogram and terminal.hist share: the values by name with their least and largest, the range of the bins.
local function bins_of(x, range)
  local list, low, high = values_of(x), nil, nil
  for _, entry in ipairs(list) do
    local least, most
    least, most, entry.missing = look(entry.x)
    if least then low, high = math.min(low or least, least), math.max(high or most, most) end
  end
  if range then low, high = range[1], range[2] end
  if not low then low, high = 0, 1 end
  if low == high then low, high = low - 0.5, high + 0.5 end
  return list, low, high
end

-- The outline of bars between edges; an empty bin lies at `floor`.
local function outline(counts, low, high, floor)
  local data, n = { ("%.10g %.10g"):format(low, floor) }, #counts
  for i, c in ipairs(counts) do
    c = math.max(c, floor)
    data[#data + 1] = ("%.10g %.10g\n%.10g %.10g"):format(low + (high - low) * (i - 1) / n, c, low + (high - low) * i / n, c)
  end
  data[#data + 1] = ("%.10g %.10g"):format(high, floor)
  return data
end

local function histogram(x, opts)
  local opt = o.read("histogram", opts, spec)
  local list, low, high = bins_of(x, opt.range)
  local figure, rows, plots, least = Figure.new(opt), {}, {}, math.huge
  for _, entry in ipairs(list) do
    local what = entry.name == "" and "x" or ("'%s'"):format(entry.name)
    local finite, inside = entry.x:numel() - entry.missing, 0
    entry.counts = counts_of(entry.x, opt.bins, low, high)
    for _, c in ipairs(entry.counts) do inside = inside + c end
    figure:left_out(entry.missing, what, "not finite")
    figure:left_out(finite - inside, what, "outside of the range")
    for i, c in ipairs(entry.counts) do
      if opt.share then entry.counts[i] = finite > 0 and 100 * c / finite or 0 end
      if c > 0 then least = math.min(least, entry.counts[i]) end
      rows[#rows + 1] = { entry.name, low + (high - low) * (i - 1) / opt.bins, low + (high - low) * i / opt.bins, entry.counts[i] }
    end
  end
  local floor = opt.log and least < math.huge and least / 2 or 0
  for i, entry in ipairs(list) do
    local colour = style.of(style.colours, i)
    figure:data("h" .. i, outline(entry.counts, low, high, floor))
    if #list == 1 then plots[1] = ("$h1 using 1:2 with filledcurves y1=%.10g fs solid 0.45 noborder fc rgb '%s'"):format(floor, colour) end
    plots[#plots + 1] = ("$h%d using 1:2 with lines lw 2 dt %s lc rgb '%s' title %s"):format(i, style.of(style.dashes, i), colour, quote(entry.name))
  end
  figure:add("set title %s; set xlabel %s; set ylabel %s", quote(opt.title), quote(opt.xlabel), quote(opt.share and "share of the values, %" or "number of values"))
  figure:add(#list == 1 and "unset key" or "set key above right horizontal")
  if floor > 0 then figure:add "set logscale y" end
  figure:add("plot [%.10g:%.10g] [%.10g:*] %s", low, high, floor, table.concat(plots, ", "))
  return figure:finish({ "name", "from", "to", opt.share and "percent" or "count" }, rows)
end

return { histogram = histogram, bins_of = bins_of, counts_of = counts_of }
