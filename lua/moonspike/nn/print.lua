-- tostring(net): names, options, shapes of the last outputs, parameter counts, and for neurons what was fused.

local Module = require "moonspike.nn.module"
local o = require "moonspike.options"

local function grouped(n) -- 1234567 -> 1,234,567
  local text = tostring(n):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (text:gsub("^,", ""))
end

local function size_of(sizes)
  local n = 1
  for _, s in ipairs(sizes) do n = n * s end
  return n
end

-- Elements of the module's own parameters; those not drawn yet are counted by their sizes.
local function own_parameters(module, seen)
  local n = 0
  for _, key in ipairs(Module._members(module)) do
    local lazy, value = module._lazy[key], rawget(module, key)
    if lazy then
      n = n + size_of(lazy.size)
    elseif o.is_tensor(value) and value.requires_grad and not seen[value] then
      seen[value] = true
      n = n + value:numel()
    end
  end
  return n
end

local function note(module)
  local report, unfused = rawget(module, "_report"), rawget(module, "_unfused")
  if unfused then return unfused == "" and "fused: into the neuron" or "not fused: " .. unfused end
  if not report then return "" end
  local fused = report.fused == true and 1 or report.fused or 0
  if fused == 1 then return "fused: normalisation" end
  if fused == 2 then return "fused: normalisation and residual" end
  return report.why_not and report.why_not ~= "" and "not fused: " .. report.why_not or ""
end

-- Rows { text, shape, parameters, note }, depth first.
local function rows(module, label, depth, list, seen)
  local class = getmetatable(module).class
  local extra = class.extra and class.extra(module)
  local children = module:children()
  local row = { ("  "):rep(depth) .. label .. class.name .. (extra and ("(%s)"):format(extra) or #children == 0 and "()" or ""),
    rawget(module, "_shape") and o.shape(module._shape) or "", own_parameters(module, seen), note(module) }
  list[#list + 1] = row
  local total = row[3]
  for name, child in module:named_children() do
    total = total + rows(child, ("(%s) "):format(name), depth + 1, list, seen)
  end
  return total
end

return function(module)
  local list = {}
  local total = rows(module, "", 0, list, {})
  if #list == 1 then return list[1][1] end
  local wide, shape = 0, 0
  for _, row in ipairs(list) do
    wide, shape = math.max(wide, #row[1]), math.max(shape, #row[2])
  end
  local lines = {}
  for i, row in ipairs(list) do
    local count = row[3] > 0 and grouped(row[3]) or ""
    local line = row[1] .. (" "):rep(wide - #row[1] + 2) .. row[2] .. (" "):rep(shape - #row[2]) .. ("  %10s  %s"):format(count, row[4])
    lines[i] = line:gsub("%s+$", "")
  end
  lines[#lines + 1] = ("%s parameters"):format(grouped(total))
  return table.concat(lines, "\n")
end
