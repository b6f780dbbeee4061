-- What all pictures look like. Series differ in colour (told apart by every eye), dash and marker, so that they also differ in grey; maps of
-- colours grow monotonically lighter or darker.

local style = {}

-- Okabe and Ito, ordered so that neighbours differ in brightness; their yellow is too light for lines.
style.colours = { "#0072b2", "#e69f00", "#000000", "#cc79a7", "#009e73", "#d55e00", "#56b4e9" }
style.dashes = { "1", "(8,4)", "(2,4)", "(12,4,2,4)", "(16,5)" }
style.markers = { 7, 5, 9, 6, 4, 8, 11 } -- disc, square, triangle, then open ones

style.faint, style.strong = "#d8d8d8", "#404040"

-- Dark to light, evenly in lightness: for quantities, and as far as it is dark enough for lines on white; white to dark, for shares with numbers
-- in them.
style.maps = {
  quantity = { "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725" },
  level = { "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779" },
  share = { "#ffffff", "#dbe9f4", "#a9cce3", "#6ba5cf", "#3579b1", "#0f4c8a", "#08306b" },
}

function style.of(list, i) return list[(i - 1) % #list + 1] end

-- gnuplot's name of each terminal, and what makes its letters, lines of the legend and markers as large as those of the others.
local terminals = {
  png = { name = "pngcairo", font = 14, spacing = 1.1, mark = 1 },
  svg = { name = "svg", font = 18, spacing = 0.85, mark = 0.55 },
}

function style.extension(file)
  local ending = file:match "[^/]%.([^./]+)$"
  return terminals[ending] and ending
end

-- The size of letters that are `size` in a PNG.
function style.font(file, size) return math.floor(size * terminals[style.extension(file)].font / terminals.png.font + 0.5) end

-- How the cells of $cells are drawn: in an SVG each by itself, as not every viewer leaves the pixels of an image sharp; as boxes where there is one
-- row or column, of which gnuplot makes no image.
function style.cells(file, rows, columns)
  if rows == 1 or columns == 1 then return "$cells using 1:2:(0.5):(0.5):3 with boxxyerror fs solid noborder fc palette" end
  return "$cells using 1:2:3 with image" .. (style.extension(file) == "svg" and " pixels" or "")
end

-- Begins a script: a picture of width x height pixels. `mark` is the size of a marker of size 1.
function style.setup(file, width, height)
  local t = terminals[style.extension(file)]
  return ([[
set terminal %s noenhanced size %d,%d font 'sans-serif,%d' background rgb 'white'
mark = %g
set encoding utf8
set grid back lt 1 lw 0.8 lc rgb '%s'
set border 3 lw 1.2 lc rgb '%s'
set tics nomirror out scale 0.6
set key noautotitle Left reverse samplen 3 spacing %g]]):format(t.name, width, height, t.font, t.mark, style.faint, style.strong, t.spacing)
end

-- Bars with ends from `low` upwards by `length` (gnuplot's expressions): its own error bars leave a hole around the point.
function style.spread(data, low, length, colour)
  return ("$%s using 1:%s:(0):%s with vectors heads size screen 0.006,90 nofilled lw 1.5 dt 1 lc rgb '%s'"):format(data, low, length, colour)
end

-- A map of colours with a bar on the right of the picture, which needs room there.
function style.colour_bar(name)
  local steps = {}
  for i, colour in ipairs(style.maps[name]) do steps[i] = ("%d '%s'"):format(i - 1, colour) end
  return "set palette defined (" .. table.concat(steps, ", ") .. "); set cbtics scale 0.4; set rmargin 14\n"
    .. "set colorbox user origin graph 1.03, graph 0 size graph 0.035, graph 1 noborder"
end

return style
