-- Matrices as colours: heat maps, contours, surfaces, confusion matrices.

local o = require "moonspike.options"
local numbers = require "moonspike.plot.numbers"
local style = require "moonspike.plot.style"
local Figure = require "moonspike.plot.figure"

local maps = {}
local quote = Figure.quote
local given = o.where(nil, "numbers", function() return true end) -- looked at by numbers.list

local common = { x = given, y = given, xlabel = o.string(""), ylabel = o.string(""), unit = o.string(""), log = o.boolean(false) }

local function options(width, height, more)
  for _, key in ipairs(o.keys(common)) do more[key] = common[key] end
  return Figure.options(width, height, more)
end

-- A matrix with the coordinates of its columns (x) and rows (y); 1, 2, ... where none are given.
local function read(where, matrix, opts, spec)
  local opt = o.read(where, opts, spec)
  local z = numbers.matrix(where, "matrix", matrix)
  for key, n in pairs { x = #z[1], y = #z } do
    if opt[key] == nil then
      opt[key] = {}
      for i = 1, n do opt[key][i] = i end
    end
    opt[key] = numbers.list(where, key, opt[key])
    if #opt[key] ~= n then o.fail("%s: %s: expected %d numbers, one for each %s, got %d", where, key, n, key == "x" and "column" or "row", #opt[key]) end
    for i = 2, n do
      if not (opt[key][i] > opt[key][i - 1]) then o.fail("%s: %s: expected numbers that grow, got %g behind %g", where, key, opt[key][i], opt[key][i - 1]) end
    end
  end
  return z, opt
end

local function rows_of(z, opt)
  local rows = {}
  for i, row in ipairs(z) do
    for k, v in ipairs(row) do rows[#rows + 1] = { opt.x[k], opt.y[i], v } end
  end
  return rows
end

local function usable(v, log) return numbers.finite(v) and not (log and v <= 0) end

-- Names what has no colour.
local function count(figure, z, log)
  local endless, below = 0, 0
  for _, v in ipairs(numbers.flat(z)) do
    if not numbers.finite(v) then endless = endless + 1 elseif not usable(v, log) then below = below + 1 end
  end
  figure:left_out(endless, "the matrix", "not finite")
  figure:left_out(below, "the matrix", "not positive on a logarithmic scale")
end

-- "x y value" for each cell, a blank line behind each row.
local function cells(z, x, y, log)
  local lines = {}
  for i, row in ipairs(z) do
    for k, v in ipairs(row) do lines[#lines + 1] = ("%.10g %.10g %s"):format(x[k], y[i], usable(v, log) and ("%.10g"):format(v) or "NaN") end
    lines[#lines + 1] = ""
  end
  return lines
end

local function positions(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

local function colour_scale(figure, z, opt, map)
  local low, high = numbers.extent(z, opt.log)
  low, high = low or 0, high or 1
  if low == high then low, high = opt.log and low / 2 or low - 0.5, opt.log and high * 2 or high + 0.5 end
  figure:add("%s; set cbrange [%.10g:%.10g]; set cblabel %s; %s logscale cb", style.colour_bar(map), low, high, quote(opt.unit), opt.log and "set" or "unset")
  return low, high
end

-- Tics at the middles of cells, at most about `most`.
local function cell_tics(values, most)
  local list, step = {}, math.max(1, math.ceil(#values / most))
  for i = 1, #values, step do list[#list + 1] = { i, ("%g"):format(values[i]) } end
  return Figure.tics(list)
end

-- The place of a coordinate between the cells whose middles are `values`; past the ends the last distance goes on.
local function place(values, v)
  if #values == 1 then return 1 + v - values[1] end
  local i = 1
  while i < #values - 1 and v > values[i + 1] do i = i + 1 end
  return i + (v - values[i]) / (values[i + 1] - values[i])
end

-- ---- heat map ----

local heat_spec = options(640, 460, { line = o.table(nil) })
local line_spec = { name = o.string(""), x = given, y = given }

function maps.heatmap(matrix, opts)
  local z, opt = read("heatmap", matrix, opts, heat_spec)
  local figure, line = Figure.new(opt), nil
  if opt.line then
    line = o.read("heatmap: line", opt.line, line_spec)
    line.x, line.y = numbers.list("heatmap: line", "x", line.x), numbers.list("heatmap: line", "y", line.y)
    if #line.x ~= #line.y then o.fail("heatmap: line: y: expected %d values as in x, got %d", #line.x, #line.y) end
  end
  local rows, columns = #z, #z[1]
  count(figure, z, opt.log)
  figure:data("cells", cells(z, positions(columns), positions(rows), opt.log))
  colour_scale(figure, z, opt, "quantity")
  figure:add("unset grid; set border 15 lw 1 lc rgb '%s'; set object 1 rectangle from graph 0, graph 0 to graph 1, graph 1 fs solid noborder fc rgb '%s' behind",
    style.strong, style.faint)
  figure:add("set title %s; set xlabel %s; set ylabel %s", quote(opt.title), quote(opt.xlabel), quote(opt.ylabel))
  figure:add("set xtics scale 0.4 %s; set ytics scale 0.4 %s", cell_tics(opt.x, 10), cell_tics(opt.y, 12))
  local plots = { "$cells using 1:2:3 " .. style.cells(opt.file) }
  local header, table_rows = { "x", "y", "value" }, rows_of(z, opt)
  if line then
    header[4] = "line"
    for _, row in ipairs(table_rows) do row[4] = "" end
    local data, missing = {}, 0
    for i = 1, #line.x do
      if numbers.finite(line.x[i]) and numbers.finite(line.y[i]) then
        data[#data + 1] = ("%.10g %.10g"):format(place(opt.x, line.x[i]), place(opt.y, line.y[i]))
      else
        missing = missing + 1
      end
      table_rows[#table_rows + 1] = { line.x[i], line.y[i], "", line.name }
    end
    figure:left_out(missing, ("line '%s'"):format(line.name), "not finite")
    if #data > 0 then
      figure:data("line", data)
      plots[2] = "$line using 1:2 with lines lw 5 lc rgb 'white'" -- stands out from dark and light
      plots[3] = ("$line using 1:2 with linespoints lw 2.2 pt 7 ps mark lc rgb '%s' title %s"):format(style.colours[6], quote(line.name))
      figure:add(line.name == "" and "unset key" or "set key above right")
    end
  end
  figure:add("plot [0.5:%g] [0.5:%g] %s", columns + 0.5, rows + 0.5, table.concat(plots, ", "))
  return figure:finish(header, table_rows)
end

-- ---- contours and surfaces ----

local levels_rule = o.where(10, "a number of levels or a list of them that grow", function(v)
  if math.type(v) then return v >= 1 and v == math.floor(v) end
  if type(v) ~= "table" or #v == 0 then return false end
  for i = 1, #v do
    if not math.type(v[i]) or not numbers.finite(v[i]) or i > 1 and v[i] <= v[i - 1] then return false end
  end
  return true
end)
local contour_spec, surface_spec = options(640, 500, { levels = levels_rule }), options(640, 500, {})

local function grid_of(where, z)
  if #z < 2 or #z[1] < 2 then o.fail("%s: matrix: expected at least 2 rows and 2 columns, got [%d, %d]", where, #z, #z[1]) end
end

local function level_list(levels, low, high, log)
  if type(levels) == "table" then return levels end
  local list = {}
  if log then -- evenly in the logarithm
    for i = 1, levels do list[i] = tonumber(("%.2g"):format(low * (high / low) ^ (i / (levels + 1)))) end
    return list
  end
  local step = numbers.step(high - low, levels)
  for k = math.ceil(low / step), math.floor(high / step) do list[#list + 1] = k * step end
  return list
end

function maps.contour(matrix, opts)
  local z, opt = read("contour", matrix, opts, contour_spec)
  grid_of("contour", z)
  local figure = Figure.new(opt)
  count(figure, z, opt.log)
  figure:data("grid", cells(z, opt.x, opt.y, opt.log))
  local low, high = colour_scale(figure, z, opt, "level")
  local levels = {}
  for i, level in ipairs(level_list(opt.levels, low, high, opt.log)) do levels[i] = ("%.10g"):format(level) end
  figure:add("set contour base; unset surface; set cntrparam levels discrete %s", #levels > 0 and table.concat(levels, ",") or "0")
  figure:add "set table $lines; splot $grid using 1:2:3; unset table; unset contour; set surface"
  figure:add("set title %s; set xlabel %s; set ylabel %s; unset key; unset grid", quote(opt.title), quote(opt.xlabel), quote(opt.ylabel))
  figure:add "set border 15; set size square; set style textbox opaque noborder margins 0.3, 0.3"
  figure:add("plot [%.10g:%.10g] [%.10g:%.10g] $lines using 1:2:3 with lines lw 2 lc palette, $lines using 1:2:(sprintf('%%g', $3)) every 50::9 with labels boxed font ',%d'",
    opt.x[1], opt.x[#opt.x], opt.y[1], opt.y[#opt.y], style.font(opt.file, 11))
  return figure:finish({ "x", "y", "value" }, rows_of(z, opt))
end

function maps.surface(matrix, opts)
  local z, opt = read("surface", matrix, opts, surface_spec)
  grid_of("surface", z)
  local figure = Figure.new(opt)
  count(figure, z, opt.log)
  figure:data("grid", cells(z, opt.x, opt.y, opt.log))
  local low, high = colour_scale(figure, z, opt, "quantity")
  figure:add("set title %s; set xlabel %s offset 0,-0.5; set ylabel %s offset -1,-0.5; set zlabel %s rotate; unset key; unset colorbox", quote(opt.title),
    quote(opt.xlabel), quote(opt.ylabel), quote(opt.unit))
  figure:add("%s logscale z; set zrange [%.10g:%.10g]; set border 4095; set view 58,32; set xyplane relative 0; set xtics offset -0.6,-0.3; set ytics offset 0.6,-0.3", opt.log and "set" or "unset", low, high)
  figure:add("set pm3d depthorder border lc rgb '%s' lw 0.4; splot $grid using 1:2:3 with pm3d", style.strong)
  return figure:finish({ "x", "y", "value" }, rows_of(z, opt))
end

-- ---- confusion matrix ----

local confusion_spec = Figure.options(nil, nil, { classes = o.table(nil), numbers = o.choice(nil, { "percent", "count", "none" }) })
local LEGIBLE = 20 -- classes, beyond which cells have no numbers

function maps.confusion(matrix, opts)
  local opt = o.read("confusion", opts, confusion_spec)
  local z = numbers.matrix("confusion", "matrix", matrix)
  local n = #z
  if #z[1] ~= n then o.fail("confusion: matrix: expected as many columns as rows, got [%d, %d]", n, #z[1]) end
  for _, v in ipairs(numbers.flat(z)) do
    if not numbers.finite(v) or v < 0 then o.fail("confusion: matrix: expected counts >= 0, got %g", v) end
  end
  local classes = opt.classes or positions(n)
  if not opt.classes then
    for i = 1, n do classes[i] = i - 1 end
  end
  if #classes ~= n then o.fail("confusion: classes: expected %d names, got %d", n, #classes) end
  local shown = opt.numbers or n <= LEGIBLE and "percent" or "none"
  local side = math.max(420, math.min(900, 46 * n))
  opt.width, opt.height = opt.width or side + 240, opt.height or side + 120
  local figure, rows, shares, texts, empty = Figure.new(opt), {}, {}, {}, 0
  for i, row in ipairs(z) do
    local sum = 0
    for _, v in ipairs(row) do sum = sum + v end
    if sum == 0 then empty = empty + 1 end
    shares[i] = {}
    for k, v in ipairs(row) do
      shares[i][k] = sum > 0 and 100 * v / sum or 0
      rows[#rows + 1] = { tostring(classes[i]), tostring(classes[k]), v, shares[i][k] }
      if v > 0 and shown ~= "none" then
        texts[#texts + 1] = ("set label %d '%s' at %d,%d center font ',%d' tc rgb '%s' front"):format(#texts + 1,
          shown == "count" and ("%g"):format(v) or shares[i][k] < 0.5 and "<1" or ("%.0f"):format(shares[i][k]), k, n + 1 - i, style.font(opt.file, n > 12 and 9 or 12), shares[i][k] > 45 and "white" or "black")
      end
    end
  end
  if empty > 0 then figure:note("%d %s without samples", empty, empty == 1 and "class is" or "classes are") end
  local xtics, ytics, step = {}, {}, math.max(1, math.ceil(n / 30))
  for i = 1, n, step do
    xtics[#xtics + 1], ytics[#ytics + 1] = { i, tostring(classes[i]) }, { n + 1 - i, tostring(classes[i]) }
  end
  figure:data("cells", cells(shares, positions(n), (function()
    local list = positions(n)
    table.sort(list, function(a, b) return a > b end)
    return list
  end)()))
  figure:add("%s; set cbrange [0:100]; set cblabel 'share of the true class, %%'", style.colour_bar "share")
  figure:add("unset grid; unset key; set border 15 lw 1; set size square; set tics scale 0; set xtics rotate by 40 right %s; set ytics %s", Figure.tics(xtics), Figure.tics(ytics))
  figure:add("set title %s; set xlabel 'predicted class'; set ylabel 'true class'", quote(opt.title))
  for _, text in ipairs(texts) do figure:add(text) end
  figure:add("plot [0.5:%g] [0.5:%g] $cells using 1:2:3 %s", n + 0.5, n + 0.5, style.cells(opt.file))
  return figure:finish({ "true", "predicted", "count", "percent" }, rows)
end

return maps
