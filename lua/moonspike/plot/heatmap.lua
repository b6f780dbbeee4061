-- A matrix as colours, with a line over it.

local o = require "moonspike.options"
local numbers = require "moonspike.plot.numbers"
local style = require "moonspike.plot.style"
local matrix = require "moonspike.plot.matrix"
local Figure = require "moonspike.plot.figure"

local spec = matrix.options(640, 460, { line = o.table(nil) })
local line_spec = { name = o.string(""), x = numbers.any, y = numbers.any }

-- Tics at the middles of cells, at most about `most`.
local function tics(values, most)
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

local function read_line(list)
  local where = "heatmap: line"
  local line = o.read(where, list, line_spec)
  line.x, line.y = numbers.list(where, "x", line.x), numbers.list(where, "y", line.y)
  if #line.x ~= #line.y then o.fail("%s: y: expected %d values as in x, got %d", where, #line.x, #line.y) end
  return line
end

-- Adds the line's data and table; what plots it.
local function add_line(figure, line, opt, rows)
  local data = {}
  for _, row in ipairs(rows) do row[4] = "" end
  for i = 1, #line.x do
    rows[#rows + 1] = { line.x[i], line.y[i], "", line.name }
    if numbers.finite(line.x[i]) and numbers.finite(line.y[i]) then
      data[#data + 1] = ("%.10g %.10g"):format(place(opt.x, line.x[i]), place(opt.y, line.y[i]))
    end
  end
  figure:left_out(#line.x - #data, ("line '%s'"):format(line.name), "not finite")
  if #data == 0 then return "" end
  figure:data("line", data)
  figure:add(line.name == "" and "unset key" or "set key above right")
  return (", $line using 1:2 with lines lw 5 lc rgb 'white', $line using 1:2 with linespoints lw 2.2 pt 7 ps mark lc rgb '%s' title %s"):format( -- on dark and light
    style.colours[6], Figure.quote(line.name))
end

return function(values, opts)
  local z, opt = matrix.read("heatmap", values, opts, spec)
  local line = opt.line and read_line(opt.line)
  local figure, rows, columns = Figure.new(opt), #z, #z[1]
  matrix.name_missing(figure, z, opt.log)
  figure:data("cells", matrix.cells(z, matrix.positions(columns), matrix.positions(rows), opt.log))
  matrix.colours(figure, z, opt, "quantity")
  matrix.titles(figure, opt)
  figure:add("unset grid; set border 15 lw 1 lc rgb '%s'", style.strong)
  figure:add("set object 1 rectangle from graph 0, graph 0 to graph 1, graph 1 fs solid noborder fc rgb '%s' behind", style.faint) -- under missing cells
  figure:add("set xtics scale 0.4 %s; set ytics scale 0.4 %s", tics(opt.x, 10), tics(opt.y, 12))
  local header, listed = { table.unpack(matrix.header) }, matrix.rows(z, opt)
  local over = ""
  if line then
    header[4] = "line"
    over = add_line(figure, line, opt, listed)
  end
  figure:add("plot [0.5:%g] [0.5:%g] %s%s", columns + 0.5, rows + 0.5, style.cells(opt.file, rows, columns), over)
  return figure:finish(header, listed)
end
