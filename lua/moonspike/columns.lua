-- Lines of cells with columns as wide as needed; the last is not padded.

local function characters(cell) return utf8.len(cell) or #cell end

return function(rows)
  local wide, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do wide[i] = math.max(wide[i] or 0, characters(cell)) end
  end
  for k, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do cells[i] = cell .. (" "):rep(wide[i] - characters(cell)) end
    lines[k] = table.concat(cells, "  "):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end
