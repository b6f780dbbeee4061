-- ms.plot{ ... }: panels of lines, points and steps, with spreads.

local o = require "moonspike.options"
local numbers = require "moonspike.plot.numbers"
local style = require "moonspike.plot.style"
local Figure = require "moonspike.plot.figure"

local quote = Figure.quote
local corners = { "top right", "top left", "bottom right", "bottom left" }
local MARKED = 25 -- markers on a line, at most
local TIC = 55 -- pixels of a panel's height for each tic, titles and labels included

local spec = Figure.options(nil, nil, { panels = o.table(o.required), columns = o.integer(nil, { from = 1 }) })
local panel_spec = {
  title = o.string(""), xlabel = o.string(""), ylabel = o.string(""), series = o.table(o.required),
  legend = Figure.legend,
  whole_x = o.boolean(false), -- tics at integers only
  xnames = o.table(nil), -- in place of numbers at x = 1, 2, ...
  xlog = o.boolean(false), ylog = o.boolean(false), xrange = numbers.range, yrange = numbers.range,
  spread = o.choice("band", { "band", "bars" }),
}
local series_spec = {
  name = o.string(o.required), x = numbers.any, y = numbers.any, runs = numbers.any, spread = numbers.any,
  draw = o.choice("both", { "both", "line", "points", "steps" }), -- both: a line with markers
  colour = o.integer(nil, { from = 1 }), dash = o.integer(nil, { from = 1 }), -- positions in the style's lists; by default those of the series
}

local function read_series(where, given, i)
  local s = o.read(where, given, series_spec)
  s.x = numbers.list(where, "x", s.x)
  numbers.complete(where, s)
  for _, key in ipairs { "y", "spread" } do
    if s[key] and #s[key] ~= #s.x then o.fail("%s: %s: expected %d values as in x, got %d", where, key, #s.x, #s[key]) end
  end
  s.colour, s.dash, s.marker = s.colour or i, s.dash or i, s.colour or i
  return s
end

local function read(opts)
  local opt = o.read("plot", opts, spec)
  if #opt.panels == 0 then o.fail "plot: panels: expected at least one, got none" end
  local panels = {}
  for i, given in ipairs(opt.panels) do
    local where = ("plot: panel %d"):format(i)
    local panel = o.read(where, given, panel_spec)
    local series = {}
    if #panel.series == 0 then o.fail("%s: series: expected at least one, got none", where) end
    for j, s in ipairs(panel.series) do series[j] = read_series(("%s: series %d"):format(where, j), s, j) end
    panel.series, panels[i] = series, panel
  end
  opt.panels, opt.columns = panels, math.min(opt.columns or #panels, #panels)
  opt.rows = (#panels + opt.columns - 1) // opt.columns
  opt.width, opt.height = opt.width or math.max(640, 560 * opt.columns), opt.height or 420 * opt.rows
  return opt
end

local function rows_of(opt)
  local spreads = false
  for _, panel in ipairs(opt.panels) do
    for _, s in ipairs(panel.series) do spreads = spreads or s.spread ~= nil end
  end
  local rows = {}
  for _, panel in ipairs(opt.panels) do
    for _, s in ipairs(panel.series) do
      for i = 1, #s.x do
        rows[#rows + 1] = { panel.title, s.name, s.x[i], s.y[i], spreads and (s.spread and s.spread[i] or "") or nil }
      end
    end
  end
  return { "panel", "series", "x", "y", spreads and "spread" or nil }, rows
end

local function drawable(panel, x, y)
  return numbers.finite(x) and numbers.finite(y) and not (panel.xlog and x <= 0) and not (panel.ylog and y <= 0)
end

-- Least and largest x and y of the points that are drawn, spreads included.
local function extent(panel)
  local x, y = {}, {}
  for _, s in ipairs(panel.series) do
    for i = 1, #s.x do
      if drawable(panel, s.x[i], s.y[i]) then
        x[#x + 1], y[#y + 1] = s.x[i], s.y[i]
        local d = s.spread and s.spread[i]
        if d and numbers.finite(d) then y[#y + 1], y[#y + 2] = s.y[i] - d, s.y[i] + d end
      end
    end
  end
  local x0, x1 = numbers.extent({ x }, panel.xlog)
  local y0, y1 = numbers.extent({ y }, panel.ylog)
  return { x0 = x0 or 0, x1 = x1 or 1, y0 = y0 or 0, y1 = y1 or 1, empty = not x0 }
end

-- "[from:to]": what is asked for; room around points that have one place on the axis, for which gnuplot finds none; else gnuplot's own.
local function range(asked, low, high, log)
  if asked then return ("[%.10g:%.10g]"):format(asked[1], asked[2]) end
  if low < high then return "[*:*]" end
  if log and low > 0 then return ("[%.10g:%.10g]"):format(low / 2, high * 2) end
  local room = math.max(1, math.abs(low) / 10)
  return ("[%.10g:%.10g]"):format(low - room, high + room)
end

-- The corner in which fewest points lie.
local function free_corner(panel, e)
  local function share(v, low, high, log)
    if log then v, low, high = math.log(v), math.log(low), math.log(high) end
    return high > low and (v - low) / (high - low) or 0.5
  end
  local crowd = {}
  for _, corner in ipairs(corners) do crowd[corner] = 0 end
  for _, s in ipairs(panel.series) do
    for i = 1, #s.x do
      if drawable(panel, s.x[i], s.y[i]) then
        local x, y = share(s.x[i], e.x0, e.x1, panel.xlog), share(s.y[i], e.y0, e.y1, panel.ylog)
        local row, column = y > 0.6 and "top" or y < 0.4 and "bottom", x > 0.5 and "right" or "left"
        if row then crowd[row .. " " .. column] = crowd[row .. " " .. column] + 1 / #s.x end
      end
    end
  end
  local best = corners[1]
  for _, corner in ipairs(corners) do
    if crowd[corner] < crowd[best] - 1e-9 then best = corner end
  end
  return best
end

-- Data of a series: x, y, low, high; a blank line where it is interrupted.
local function points(panel, s, e)
  local lines, open = {}, false
  for i = 1, #s.x do
    if drawable(panel, s.x[i], s.y[i]) then
      local d = s.spread and numbers.finite(s.spread[i]) and s.spread[i] or 0
      local low = panel.ylog and math.max(s.y[i] - d, e.y0) or s.y[i] - d -- a logarithm has no place for less
      lines[#lines + 1], open = ("%.10g %.10g %.10g %.10g"):format(s.x[i], s.y[i], low, s.y[i] + d), true
    elseif open then
      lines[#lines + 1], open = "", false
    end
  end
  return lines
end

-- How many points of a series are drawn; the others are named.
local function count(figure, opt, panel, s)
  local endless, below, spreads = 0, 0, 0
  for i = 1, #s.x do
    if not (numbers.finite(s.x[i]) and numbers.finite(s.y[i])) then endless = endless + 1
    elseif not drawable(panel, s.x[i], s.y[i]) then below = below + 1
    elseif s.spread and not numbers.finite(s.spread[i]) then spreads = spreads + 1 end
  end
  local what = ("series '%s'"):format(s.name) .. (#opt.panels > 1 and panel.title ~= "" and (" in '%s'"):format(panel.title) or "")
  figure:left_out(endless, what, "not finite")
  figure:left_out(below, what, "not positive on a logarithmic axis")
  figure:left_out(spreads, "the spread of " .. what, "not finite")
  return #s.x - endless - below
end

local function curves(panel, s, name)
  local colour, dash, marker = style.of(style.colours, s.colour), style.of(style.dashes, s.dash), style.of(style.markers, s.marker)
  local list = {}
  if s.spread and panel.spread == "band" then
    list[#list + 1] = ("$%s using 1:3:4 with filledcurves fs transparent solid 0.18 noborder fc rgb '%s'"):format(name, colour)
  elseif s.spread then
    list[#list + 1] = style.spread(name, "3", "($4-$3)", colour)
  end
  local line = ("lw 2.2 dt %s lc rgb '%s'"):format(dash, colour)
  local mark = ("pt %d ps mark lc rgb '%s'"):format(marker, colour)
  local how = ({
    both = ("with linespoints %s pt %d ps mark pi %d"):format(line, marker, math.max(1, math.ceil(#s.x / MARKED))),
    line = "with lines " .. line, points = "with points " .. mark, steps = "with steps " .. line,
  })[s.draw]
  list[#list + 1] = ("$%s using 1:2 %s title %s"):format(name, how, quote(s.name))
  return table.concat(list, ", ")
end

local function named(names)
  local tics = {}
  for i, name in ipairs(names) do tics[i] = { i, tostring(name) } end
  return Figure.tics(tics)
end

local function draw_panel(figure, panel, i, e, height)
  local list = {}
  for j, s in ipairs(panel.series) do
    if s.drawn > 0 then list[#list + 1] = curves(panel, s, ("p%ds%d"):format(i, j)) end
  end
  figure:add("set title %s; set xlabel %s; set ylabel %s", quote(panel.title), quote(panel.xlabel), quote(panel.ylabel))
  local legend = panel.legend or #panel.series == 1 and panel.series[1].name == "" and "none" or free_corner(panel, e)
  figure:add(legend == "none" and "unset key" or legend == "above" and "set key above right horizontal"
    or "set key inside vertical " .. legend)
  figure:add("%s logscale x; %s logscale y", panel.xlog and "set" or "unset", panel.ylog and "set" or "unset")
  figure:add("set xtics %s", panel.xnames and named(panel.xnames)
    or panel.whole_x and not panel.xlog and ("%d"):format(math.max(1, numbers.step(math.max(e.x1 - e.x0, 1), 8))) or "autofreq")
  local low, high = (panel.yrange or { e.y0 })[1], (panel.yrange or { 0, e.y1 })[2]
  figure:add("set ytics %s", high > low and not panel.ylog and ("%.10g"):format(numbers.step(high - low, math.max(2, height // TIC))) or "autofreq")
  if e.empty then return figure:draw_nothing() end
  figure:add("plot %s %s %s", range(panel.xrange, e.x0, e.x1, panel.xlog), range(panel.yrange, e.y0, e.y1, panel.ylog), table.concat(list, ", "))
end

return function(opts)
  local opt = read(opts)
  local figure = Figure.new(opt)
  for i, panel in ipairs(opt.panels) do
    panel.extent = extent(panel)
    for j, s in ipairs(panel.series) do
      s.drawn = count(figure, opt, panel, s)
      if s.drawn > 0 then figure:data(("p%ds%d"):format(i, j), points(panel, s, panel.extent)) end
    end
  end
  if opt.columns < #opt.panels then figure:add "set lmargin 10" end -- panels below each other begin at one place
  figure:add("set multiplot layout %d,%d title %s", opt.rows, opt.columns, quote(opt.title))
  for i, panel in ipairs(opt.panels) do draw_panel(figure, panel, i, panel.extent, opt.height // opt.rows) end
  figure:add "unset multiplot"
  return figure:finish(rows_of(opt))
end
