-- Bytes [3, H, W] as text: half blocks in colour, of which one shows two pixels, or letters.

local blocks = {}

function blocks.colour(rgb)
  local r, g, b = table.unpack(rgb:totable())
  local h, w, lines = #r, #r[1], {}
  for row = 1, h, 2 do
    local line, below = {}, math.min(row + 1, h)
    for col = 1, w do
      line[col] = ("\27[38;2;%d;%d;%dm\27[48;2;%d;%d;%dm\u{2580}"):format(r[row][col], g[row][col], b[row][col], r[below][col], g[below][col], b[below][col])
    end
    lines[#lines + 1] = table.concat(line) .. "\27[0m"
  end
  return table.concat(lines, "\n")
end

local shades = " .:-=+*#%@"

function blocks.letters(rgb)
  local r, g, b = table.unpack(rgb:totable())
  local lines = {}
  for row = 1, #r, 2 do
    local line = {}
    for col = 1, #r[1] do
      local shade = math.floor((r[row][col] + g[row][col] + b[row][col]) / 765 * 9.99) + 1
      line[col] = shades:sub(shade, shade)
    end
    lines[#lines + 1] = table.concat(line)
  end
  return table.concat(lines, "\n")
end

return blocks
