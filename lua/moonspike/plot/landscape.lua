-- A function of two variables on a grid, as lines of equal value and as a surface.

local o = require "moonspike.options"
local numbers = require "moonspike.plot.numbers"
local style = require "moonspike.plot.style"
local matrix = require "moonspike.plot.matrix"
local Figure = require "moonspike.plot.figure"

local landscape = {}

local levels_rule = o.where(10, "a number of levels or a list of them that grow", function(v)
  if math.type(v) then return v >= 1 and v <= 1000 and v == math.floor(v) end
  if type(v) ~= "table" or #v == 0 then return false end
  for i = 1, #v do
    if not math.type(v[i]) or not numbers.finite(v[i]) or i > 1 and v[i] <= v[i - 1] then return false end
  end
  return true
end)
local contour_spec, surface_spec = matrix.options(640, 500, { levels = levels_rule }), matrix.options(640, 500, {})

local function begin(where, values, opts, spec)
  local z, opt = matrix.read(where, values, opts, spec)
  if #z < 2 or #z[1] < 2 then o.fail("%s: matrix: expected at least 2 rows and 2 columns, got [%d, %d]", where, #z, #z[1]) end
  local figure = Figure.new(opt)
  matrix.name_missing(figure, z, opt.log)
  figure:data("grid", matrix.cells(z, opt.x, opt.y, opt.log))
  matrix.titles(figure, opt)
  figure:add "unset key; unset grid"
  return figure, z, opt
end

-- About n levels: round ones, or evenly in the logarithm.
local function level_list(n, low, high, log)
  local list = {}
  if log then
    for i = 1, n do list[i] = tonumber(("%.2g"):format(low * (high / low) ^ (i / (n + 1)))) end
  else
    local step = numbers.step(high - low, n)
    for k = math.ceil(low / step), math.floor(high / step) do list[#list + 1] = k * step end
  end
  return list
end

function landscape.contour(values, opts)
  local figure, z, opt = begin("contour", values, opts, contour_spec)
  local low, high = matrix.colours(figure, z, opt, "level")
  local levels, drawn = {}, false
  for i, level in ipairs(type(opt.levels) == "table" and opt.levels or level_list(opt.levels, low, high, opt.log)) do
    levels[i] = ("%.10g"):format(level)
    drawn = drawn or level > low and level < high
  end
  if not numbers.extent(z, opt.log) or not drawn then
    figure:note("no level lies between the least value and the largest")
    figure:draw_nothing()
    return figure:finish(matrix.header, matrix.rows(z, opt))
  end
  figure:add("set contour base; unset surface; set cntrparam levels discrete %s", table.concat(levels, ","))
  figure:add "set table $lines; splot $grid using 1:2:3; unset table; unset contour; set surface"
  figure:add "set border 15; set size square; set style textbox opaque noborder margins 0.3, 0.3"
  figure:add("plot [%.10g:%.10g] [%.10g:%.10g] $lines using 1:2:3 with lines lw 2 lc palette, \\\n  $lines using 1:2:(sprintf('%%g', $3)) every 50::9 with labels boxed font ',%d'",
    opt.x[1], opt.x[#opt.x], opt.y[1], opt.y[#opt.y], style.font(opt.file, 11))
  return figure:finish(matrix.header, matrix.rows(z, opt))
end

function landscape.surface(values, opts)
  local figure, z, opt = begin("surface", values, opts, surface_spec)
  local low, high = matrix.colours(figure, z, opt, "quantity")
  figure:add "unset colorbox" -- the axis says the same
  if not numbers.extent(z, opt.log) then
    figure:draw_nothing()
    return figure:finish(matrix.header, matrix.rows(z, opt))
  end
  figure:add("set xlabel offset 0,-0.5; set ylabel offset -1,-0.5; set zlabel %s rotate; set xtics offset -0.6,-0.3; set ytics offset 0.6,-0.3", Figure.quote(opt.unit))
  figure:add("%s logscale z; set zrange [%.10g:%.10g]; set border 4095; set view 58,32; set xyplane relative 0; set grid", opt.log and "set" or "unset", low, high)
  figure:add("set pm3d depthorder border lc rgb '%s' lw 0.4; splot $grid using 1:2:3 with pm3d", style.strong)
  return figure:finish(matrix.header, matrix.rows(z, opt))
end

return landscape
