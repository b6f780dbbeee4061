-- What pictures of matrices share: options, coordinates, cells, the scale of colours.

local o = require "moonspike.options"
local numbers = require "moonspike.plot.numbers"
local style = require "moonspike.plot.style"
local Figure = require "moonspike.plot.figure"

local matrix = { header = { "x", "y", "value" } }

local common = { x = numbers.any, y = numbers.any, xlabel = o.string(""), ylabel = o.string(""), unit = o.string(""), log = o.boolean(false) }

function matrix.options(width, height, more)
  for _, key in ipairs(o.keys(common)) do more[key] = common[key] end
  return Figure.options(width, height, more)
end

-- 1, 2, ... n
function matrix.positions(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

local function coordinates(where, key, list, n, what)
  if list == nil then return matrix.positions(n) end
  list = numbers.list(where, key, list)
  if #list ~= n then o.fail("%s: %s: expected %d numbers, one for each %s, got %d", where, key, n, what, #list) end
  for i = 1, n do
    if not numbers.finite(list[i]) or i > 1 and list[i] <= list[i - 1] then
      o.fail("%s: %s: expected finite numbers that grow, got %g at place %d", where, key, list[i], i)
    end
  end
  return list
end

-- Rows of numbers, and the options with the coordinates of columns (x) and rows (y).
function matrix.read(where, values, opts, spec)
  local opt = o.read(where, opts, spec)
  local z = numbers.matrix(where, "matrix", values)
  opt.x, opt.y = coordinates(where, "x", opt.x, #z[1], "column"), coordinates(where, "y", opt.y, #z, "row")
  return z, opt
end

-- The table: x, y, value.
function matrix.rows(z, opt)
  local rows = {}
  for i, row in ipairs(z) do
    for k, v in ipairs(row) do rows[#rows + 1] = { opt.x[k], opt.y[i], v } end
  end
  return rows
end

local function usable(v, log) return numbers.finite(v) and not (log and v <= 0) end

-- Names what has no colour.
function matrix.name_missing(figure, z, log)
  local endless, below = 0, 0
  for _, v in ipairs(numbers.flat(z)) do
    if not numbers.finite(v) then endless = endless + 1 elseif not usable(v, log) then below = below + 1 end
  end
  figure:left_out(endless, "the matrix", "not finite")
  figure:left_out(below, "the matrix", "not positive on a logarithmic scale")
end

-- Data for gnuplot: "x y value" for each cell, a blank line behind each row.
function matrix.cells(z, x, y, log)
  local lines = {}
  for i, row in ipairs(z) do
    for k, v in ipairs(row) do lines[#lines + 1] = ("%.10g %.10g %s"):format(x[k], y[i], usable(v, log) and ("%.10g"):format(v) or "NaN") end
    lines[#lines + 1] = ""
  end
  return lines
end

-- Sets the colours; returns their ends.
function matrix.colours(figure, z, opt, map)
  local low, high = numbers.extent(z, opt.log)
  low, high = low or (opt.log and 1 or 0), high or (opt.log and 10 or 1)
  if low == high then low, high = opt.log and low / 2 or low - 0.5, opt.log and high * 2 or high + 0.5 end
  figure:add("%s; set cbrange [%.10g:%.10g]; set cblabel %s; %s logscale cb", style.colour_bar(map), low, high, Figure.quote(opt.unit), opt.log and "set" or "unset")
  return low, high
end

function matrix.titles(figure, opt)
  figure:add("set title %s; set xlabel %s; set ylabel %s", Figure.quote(opt.title), Figure.quote(opt.xlabel), Figure.quote(opt.ylabel))
end

return matrix
