-- One picture: the numbers as CSV, then a script for gnuplot, and what had to be left out.

local core = require "moonspike.core"
local o = require "moonspike.options"
local csv = require "moonspike.plot.csv"
local numbers = require "moonspike.plot.numbers"
local style = require "moonspike.plot.style"

local Figure = {}
Figure.__index = Figure

-- Where a legend stands; nil: where it hides fewest points.
Figure.legend = o.choice(nil, { "top right", "top left", "bottom right", "bottom left", "above", "none" })

-- The options that every picture has, with its own ones.
function Figure.options(width, height, more)
  local spec = {
    file = o.where(o.required, "a name that ends in .png or .svg", function(v) return type(v) == "string" and style.extension(v) end),
    title = o.string(""), width = o.integer(width, { from = 100, to = 10000 }), height = o.integer(height, { from = 100, to = 10000 }),
  }
  for _, key in ipairs(o.keys(more)) do spec[key] = more[key] end
  return spec
end

function Figure.new(opt)
  return setmetatable({ file = opt.file, lines = { style.setup(opt.file, opt.width, opt.height) }, notes = {} }, Figure)
end

-- Text inside gnuplot's single quotes, where nothing but such a quote means anything: it becomes an apostrophe (two of them are not always taken for one).
function Figure.quote(text)
  if not utf8.len(text) then text = text:gsub("[\x80-\xff]", "?") end
  return "'" .. text:gsub("'", "\u{2019}"):gsub("%c", " ") .. "'"
end

-- { place, text }, ... -> a list for "set xtics"; there, as nowhere else, a percent sign begins a format.
function Figure.tics(list)
  local tics = {}
  for i, tic in ipairs(list) do tics[i] = ("%s %.10g"):format(Figure.quote(tic[2]:gsub("%%", "%%%%")), tic[1]) end
  return "(" .. table.concat(tics, ", ") .. ")"
end

function Figure:add(format, ...)
  self.lines[#self.lines + 1] = select("#", ...) > 0 and format:format(...) or format
end

-- Lines of numbers under a name that plot commands use; what is not finite stands as NaN.
function Figure:data(name, lines)
  self.lines[#self.lines + 1] = ("$%s << EOD\n%s\nEOD"):format(name, table.concat(lines, "\n"))
end

-- Axes around nothing, for which gnuplot has no picture by itself.
function Figure:draw_nothing() self:add "unset logscale; plot [0:1] [0:1] NaN notitle" end

-- What the reader of the picture has to know.
function Figure:note(format, ...) self.notes[#self.notes + 1] = format:format(...) end

-- Names n values that the picture lacks.
function Figure:left_out(n, what, why)
  if n > 0 then self:note("%s", numbers.left_out(n, what, why)) end
end

-- The notes behind a message; nothing where there is neither.
function Figure:said(...)
  local list = { ... }
  table.move(self.notes, 1, #self.notes, #list + 1, list)
  if #list > 0 then return table.concat(list, "; ") end
end

-- What went wrong, or nil where gnuplot drew `picture`, whose name it gets as an argument: it may hold any character. The script lies beside it.
local function run(lines, picture)
  local function quoted(path) return "'" .. path:gsub("'", "'\\''") .. "'" end
  local script = picture .. ".gp"
  local written, why = core.system.write_file(script, ("set output ARG1\n%s\nset output\n"):format(table.concat(lines, "\n")))
  if not written then return why end
  local pipe, fault = io.popen(("gnuplot -c %s %s 2>&1"):format(quoted(script), quoted(picture)))
  local said, drawn = "", false
  if pipe then
    said = pipe:read "a"
    drawn, fault = pipe:close(), "gnuplot failed: " .. (said:match "line %d+:%s*([^\n]+)" or said:match "[^\n]+" or "no reason given")
  end
  core.system.remove(script)
  if not drawn then return fault end
end

-- gnuplot's SVG leaves to the viewer how pixels grow: they stay sharp (SVG 1.1's word and CSS's). Gives what went wrong, or nil.
local function sharpen(picture)
  local file, fault = io.open(picture)
  if not file then return fault end
  local text = file:read "a"
  file:close()
  local _, why = core.system.write_file(picture, (text:gsub("<image ", "<image image-rendering='optimizeSpeed' style='image-rendering:pixelated' ")))
  return why
end

-- Writes the table and draws: file[, notes], or nil, message. An older picture stays until the new one is whole.
function Figure:finish(header, rows)
  local base = self.file:sub(1, -5)
  local ok, why = core.system.write_file(base .. ".csv", csv.text(header, rows))
  if not ok then return nil, self:said(why) end
  local where = ("the numbers are in %s.csv"):format(base)
  if not os.execute "gnuplot --version >/dev/null 2>&1" then
    return nil, self:said("no picture: gnuplot is not installed (apt-get install gnuplot-nox); " .. where)
  end
  local unfinished = ("%s.%d%s"):format(base, core.system.pid(), self.file:sub(-4))
  local fault = run(self.lines, unfinished)
  if not fault and style.extension(self.file) == "svg" then fault = sharpen(unfinished) end
  if not fault then
    local renamed, why = core.system.rename(unfinished, self.file)
    if renamed then return self.file, self:said() end
    fault = why
  end
  core.system.remove(unfinished)
  return nil, self:said(("no picture: %s; %s"):format(fault, where))
end

return Figure
