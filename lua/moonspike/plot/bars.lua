-- Bars by category, side by side for several series.

local o = require "moonspike.options"
local numbers = require "moonspike.plot.numbers"
local style = require "moonspike.plot.style"
local Figure = require "moonspike.plot.figure"

local quote = Figure.quote

local spec = Figure.options(nil, 420, { categories = o.table(nil), xlabel = o.string(""), ylabel = o.string("") })
local series_spec = { name = o.string(""), y = numbers.any, runs = numbers.any, spread = numbers.any }
local WIDE = 0.8 -- of a category is bars, the rest lies between it and the next

-- Full, light, hatched, empty ...: neighbours differ in grey too.
local fills = { "solid 1", "solid 0.55", "pattern 4", "solid 0.15", "pattern 7", "pattern 2" }

local function read(series, opts)
  local opt = o.read("bars", opts, spec)
  if type(series) ~= "table" or #series == 0 then o.fail("bars: series: expected a list of at least one { name =, y = }, got %s", o.show(series)) end
  local list = {}
  for i, entry in ipairs(series) do
    local where = ("bars: series %d"):format(i)
    local s = o.read(where, entry, series_spec)
    numbers.complete(where, s)
    local n = opt.categories and #opt.categories or #list > 0 and #list[1].y or #s.y
    for _, key in ipairs { "y", "spread" } do
      if s[key] and #s[key] ~= n then o.fail("%s: %s: expected %d values, one for each category, got %d", where, key, n, #s[key]) end
    end
    list[i] = s
  end
  if not opt.categories then
    opt.categories = {}
    for i = 1, #list[1].y do opt.categories[i] = tostring(i) end
  end
  opt.width = opt.width or math.max(560, math.min(1400, 160 + #opt.categories * (30 + 26 * #list)))
  return list, opt
end

local function bars(series, opts)
  local list, opt = read(series, opts)
  local figure, rows, plots = Figure.new(opt), {}, {}
  local width = WIDE / #list
  for i, s in ipairs(list) do
    local data, spreads = {}, 0
    for k, category in ipairs(opt.categories) do
      local y, d = s.y[k], s.spread and s.spread[k]
      rows[#rows + 1] = { tostring(category), s.name, y, d or "" }
      if numbers.finite(y) then
        if d and not numbers.finite(d) then d, spreads = 0, spreads + 1 end
        data[#data + 1] = ("%.10g %.10g %.10g"):format(k + (i - 0.5) * width - WIDE / 2, y, d or 0)
      end
    end
    figure:left_out(#s.y - #data, ("series '%s'"):format(s.name), "not finite")
    figure:left_out(spreads, ("the spread of series '%s'"):format(s.name), "not finite")
    if #data > 0 then
      local colour = style.of(style.colours, i)
      figure:data("s" .. i, data)
      plots[#plots + 1] = ("$s%d using 1:2:(%.10g) with boxes fs %s border lc rgb '%s' fc rgb '%s' title %s"):format(
        i, width * 0.92, style.of(fills, i), colour, colour, quote(s.name))
      if s.spread then plots[#plots + 1] = style.spread("s" .. i, "($2-$3)", "(2*$3)", style.strong) end
    end
  end
  local tics, longest = {}, 0
  for k, category in ipairs(opt.categories) do
    tics[k] = { k, tostring(category) }
    longest = math.max(longest, utf8.len(tics[k][2]) or #tics[k][2])
  end
  local turned = longest * 9 > opt.width * 0.8 / #tics
  figure:add("set title %s; set xlabel %s; set ylabel %s", quote(opt.title), quote(opt.xlabel), quote(opt.ylabel))
  figure:add("set xtics scale 0 %s %s; unset grid; set grid ytics back lt 1 lw 0.8 lc rgb '%s'", turned and "rotate by 40 right" or "", Figure.tics(tics), style.faint)
  figure:add(#list == 1 and list[1].name == "" and "unset key" or "set key above right horizontal")
  if #plots == 0 then figure:draw_nothing() else figure:add("plot [0.4:%.10g] [*<0:0<*] %s", #tics + 0.6, table.concat(plots, ", ")) end
  return figure:finish({ "category", "series", "y", "spread" }, rows)
end

return bars
