-- Tables as CSV (RFC 4180): text always in quotes, numbers with ten digits, what is not finite as nan, inf, -inf.

local csv = {}

local function cell(v)
  if type(v) == "string" then return '"' .. v:gsub('"', '""') .. '"' end
  if v ~= v then return "nan" end -- a processor's own NaN prints as -nan
  return math.type(v) == "integer" and ("%d"):format(v) or ("%.10g"):format(v)
end

-- header: names; rows: lists of strings and numbers.
function csv.text(header, rows)
  local lines = { table.concat(header, ",") }
  for i, row in ipairs(rows) do
    local cells = {}
    for k, v in ipairs(row) do cells[k] = cell(v) end
    lines[i + 1] = table.concat(cells, ",")
  end
  return table.concat(lines, "\n") .. "\n"
end

return csv
