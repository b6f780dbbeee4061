-- ms.plot: line charts as PNG through gnuplot, and always the numbers beside them as CSV.

local o = require "moonspike.options"
local doc = require "moonspike.doc"
local core = require "moonspike.core"

local plot = {}

local spec = {
  file = o.string(o.required), title = o.string(""), panels = o.table(o.required), width = o.integer(1000, { from = 100 }),
  height = o.integer(420, { from = 100 }),
}
local panel_spec = {
  title = o.string(""), xlabel = o.string(""), ylabel = o.string(""), series = o.table(o.required), legend = o.string("top right"),
  whole_x = o.boolean(false), -- tics at integers only
}
local series_spec = { name = o.string(o.required), x = o.table(o.required), y = o.table(o.required) }

local colours = { "#1f5fa8", "#d1495b", "#3a7d44", "#8a5a9e", "#c77d0a", "#444444" }

local function quote(text) -- a gnuplot string
  return "'" .. text:gsub("'", "''"):gsub("[%c]", " ") .. "'"
end

local function read(opts)
  local opt = o.read("plot", opts, spec)
  for i, panel in ipairs(opt.panels) do
    panel = o.read(("plot: panel %d"):format(i), panel, panel_spec)
    opt.panels[i] = panel
    for j, series in ipairs(panel.series) do
      series = o.read(("plot: panel %d: series %d"):format(i, j), series, series_spec)
      if #series.x ~= #series.y then
        o.fail("plot: panel %d: series %d: y: expected %d values as in x, got %d", i, j, #series.x, #series.y)
      end
      panel.series[j] = series
    end
  end
  if #opt.panels == 0 then o.fail "plot: panels: expected at least one, got none" end
  return opt
end

local function csv(opt)
  local lines = { "panel,series,x,y" }
  for _, panel in ipairs(opt.panels) do
    for _, s in ipairs(panel.series) do
      for i = 1, #s.x do
        lines[#lines + 1] = ('"%s","%s",%.10g,%.10g'):format(panel.title:gsub('"', '""'), s.name:gsub('"', '""'), s.x[i], s.y[i])
      end
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

local function whole_step(panel) -- at most about ten tics
  local span = 0
  for _, s in ipairs(panel.series) do
    if #s.x > 0 then span = math.max(span, s.x[#s.x] - s.x[1]) end
  end
  return math.max(1, math.ceil(span / 10))
end

-- " [from:to]" where all points have one place on an axis, which gnuplot would warn about; else nothing.
local function range(panel, axis)
  local low, high = math.huge, -math.huge
  for _, s in ipairs(panel.series) do
    for i, v in ipairs(s[axis]) do
      local y = s.y[i]
      if y == y and math.abs(y) < math.huge then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  if low > high then return " [0:1]" end
  return low == high and (" [%.10g:%.10g]"):format(low - 1, high + 1) or " [*:*]"
end

local function script(opt)
  local out = {}
  local function add(...) out[#out + 1] = string.format(...) end
  add("set terminal pngcairo noenhanced size %d,%d font 'sans,11' background rgb 'white'", opt.width, opt.height)
  add("set output %s", quote(opt.file))
  add("set grid back lt 1 lw 0.5 lc rgb '#dddddd'; set border 3; set tics nomirror out; set key samplen 2 spacing 1.2")
  add("set multiplot layout 1,%d title %s", #opt.panels, quote(opt.title))
  for _, panel in ipairs(opt.panels) do
    add("set title %s; set xlabel %s; set ylabel %s; set key %s", quote(panel.title), quote(panel.xlabel), quote(panel.ylabel), panel.legend)
    add(panel.whole_x and "set xtics %d" or "set xtics autofreq", whole_step(panel))
    local curves, data = {}, {}
    for j, s in ipairs(panel.series) do
      curves[j] = ("'-' using 1:2 with linespoints lw 2 pt 7 ps 0.6 lc rgb '%s' title %s"):format(
        colours[(j - 1) % #colours + 1], quote(s.name))
      for i = 1, #s.x do
        if s.y[i] == s.y[i] and math.abs(s.y[i]) < math.huge then data[#data + 1] = ("%.10g %.10g"):format(s.x[i], s.y[i]) end
      end
      data[#data + 1] = "e"
    end
    add("plot%s%s %s", range(panel, "x"), range(panel, "y"), table.concat(curves, ", "))
    out[#out + 1] = table.concat(data, "\n")
  end
  add("unset multiplot; set output")
  return table.concat(out, "\n") .. "\n"
end

local function draw(opts)
  local opt = read(opts)
  local table_file = (opt.file:gsub("%.png$", "")) .. ".csv"
  local ok, why = core.system.write_file(table_file, csv(opt))
  if not ok then return nil, why end
  if not os.execute "gnuplot --version >/dev/null 2>&1" then
    return nil, ("no picture: gnuplot is not installed (apt-get install gnuplot-nox); the numbers are in %s"):format(table_file)
  end
  local errors = os.tmpname()
  local pipe = assert(io.popen("gnuplot >/dev/null 2>" .. errors, "w"))
  pipe:write(script(opt))
  local drawn = pipe:close()
  local file <close> = assert(io.open(errors))
  os.remove(errors)
  if drawn then return opt.file end
  local why = file:read "a":match "line %d+:%s*([^\n]+)" or "no reason given"
  return nil, ("no picture: gnuplot failed: %s; the numbers are in %s"):format(why, table_file)
end

-- Rows of a log with epoch, train_loss, train_accuracy, test_loss, test_accuracy -> two panels.
function plot.learning_curves(rows, file, title)
  if type(rows) ~= "table" or #rows == 0 then
    o.fail("learning_curves: rows: expected a list of at least one row, got %s", type(rows) == "table" and "none" or o.show(rows))
  end
  local function series(name, key, scale)
    local s = { name = name, x = {}, y = {} }
    for _, row in ipairs(rows) do
      if row[key] and row.epoch then
        s.x[#s.x + 1] = row.epoch
        s.y[#s.y + 1] = row[key] * (scale or 1)
      end
    end
    return s
  end
  return draw {
    file = file, title = title or "",
    panels = {
      { title = "loss", xlabel = "epoch", ylabel = "loss", whole_x = true,
        series = { series("training (full loss)", "train_loss"), series("test (cross entropy)", "test_loss") } },
      { title = "accuracy", xlabel = "epoch", ylabel = "accuracy, %", legend = "bottom right", whole_x = true,
        series = { series("training", "train_accuracy", 100), series("test", "test_accuracy", 100) } },
    },
  }
end

doc.set(plot.learning_curves, [[
    ms.plot.learning_curves(rows, file[, title]) -> file, or nil, message

    Loss and accuracy over epochs from rows with the fields epoch, train_loss, train_accuracy, test_loss, test_accuracy. Training
    loss is the full loss with its regulariser, test loss the cross entropy: not the same quantity.]])

return doc.set(setmetatable(plot, { __call = function(_, opts) return draw(opts) end }), [[
    ms.plot{ file = "a.png", title = "", width = 1000, height = 420, panels = { panel, ... } } -> file, or nil, message
    panel = { title =, xlabel =, ylabel =, legend =, whole_x =, series = { { name =, x = {...}, y = {...} }, ... } }

    Line charts side by side through gnuplot; the numbers go to a .csv beside the picture.]])
