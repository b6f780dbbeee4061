-- A confusion matrix: colours and numbers by the share of the true class.

local o = require "moonspike.options"
local numbers = require "moonspike.plot.numbers"
local style = require "moonspike.plot.style"
local matrix = require "moonspike.plot.matrix"
local Figure = require "moonspike.plot.figure"

local spec = Figure.options(nil, nil, { classes = o.table(nil), numbers = o.choice(nil, { "percent", "count", "none" }) })
local LEGIBLE = 20 -- classes, beyond which cells have no numbers
local NAMED = 30 -- classes whose names have room on an axis
local DARK = 45 -- percent, from which white letters are read better

local function read(values, opts)
  local opt = o.read("confusion", opts, spec)
  local z = numbers.matrix("confusion", "matrix", values)
  local n = #z
  if #z[1] ~= n then o.fail("confusion: matrix: expected as many columns as rows, got [%d, %d]", n, #z[1]) end
  for _, v in ipairs(numbers.flat(z)) do
    if not numbers.finite(v) or v < 0 then o.fail("confusion: matrix: expected counts >= 0, got %g", v) end
  end
  local names = {}
  if opt.classes and #opt.classes ~= n then o.fail("confusion: classes: expected %d names, got %d", n, #opt.classes) end
  for i = 1, n do names[i] = tostring(opt.classes and opt.classes[i] or i - 1) end
  local side = math.max(420, math.min(900, 46 * n))
  opt.classes, opt.numbers = names, opt.numbers or n <= LEGIBLE and "percent" or "none"
  opt.width, opt.height = opt.width or side + 240, opt.height or side + 120
  return z, opt
end

-- Percent of each row; how many rows have none.
local function shares_of(z)
  local shares, empty = {}, 0
  for i, row in ipairs(z) do
    local sum = 0
    for _, v in ipairs(row) do sum = sum + v end
    if sum == 0 then empty = empty + 1 end
    shares[i] = {}
    for k, v in ipairs(row) do shares[i][k] = sum > 0 and 100 * v / sum or 0 end
  end
  return shares, empty
end

return function(values, opts)
  local z, opt = read(values, opts)
  local n, shares, empty = #z, shares_of(z)
  local figure, rows, downwards = Figure.new(opt), {}, {}
  if empty > 0 then figure:note("%d %s without samples", empty, empty == 1 and "class is" or "classes are") end
  for i = 1, n do downwards[i] = n + 1 - i end
  figure:data("cells", matrix.cells(shares, matrix.positions(n), downwards))
  for i, row in ipairs(z) do
    for k, v in ipairs(row) do
      local share = shares[i][k]
      rows[#rows + 1] = { opt.classes[i], opt.classes[k], v, share }
      if v > 0 and opt.numbers ~= "none" then
        local text = opt.numbers == "count" and ("%g"):format(v) or share < 0.5 and "<1" or ("%.0f"):format(share)
        figure:add("set label '%s' at %d,%d center font ',%d' tc rgb '%s' front", text, k, downwards[i], style.font(opt.file, n > 12 and 9 or 12),
          share > DARK and "white" or "black")
      end
    end
  end
  local xtics, ytics = {}, {}
  for i = 1, n, math.max(1, math.ceil(n / NAMED)) do
    xtics[#xtics + 1], ytics[#ytics + 1] = { i, opt.classes[i] }, { downwards[i], opt.classes[i] }
  end
  figure:add("%s; set cbrange [0:100]; set cblabel 'share of the true class, %%'", style.colour_bar "share")
  figure:add("unset grid; unset key; set border 15 lw 1; set size square; set tics scale 0; set xtics rotate by 40 right %s; set ytics %s", Figure.tics(xtics), Figure.tics(ytics))
  figure:add("set title %s; set xlabel 'predicted class'; set ylabel 'true class'", Figure.quote(opt.title))
  figure:add("plot [0.5:%g] [0.5:%g] %s", n + 0.5, n + 0.5, style.cells(opt.file, n, n))
  return figure:finish({ "true", "predicted", "count", "percent" }, rows)
end
