-- The numbers of plots: lists and matrices out of tables and tensors, what of them is finite, means over runs.

local o = require "moonspike.options"
local statistics = require "moonspike.statistics"

local numbers = {}

-- The rule of an option whose numbers numbers.list or numbers.matrix look at.
numbers.any = o.where(nil, "numbers", function() return true end)

function numbers.finite(v) return v == v and v > -math.huge and v < math.huge end

-- A rule for options: where an axis begins and ends.
numbers.range = o.where(nil, "two finite numbers, the smaller one first", function(v)
  return type(v) == "table" and #v == 2 and math.type(v[1]) and math.type(v[2]) and numbers.finite(v[1]) and numbers.finite(v[2]) and v[1] < v[2]
end)

local function check(where, v, name, ...)
  if not math.type(v) then o.fail("%s: " .. name .. ": expected a number, got %s", where, ...) end
  return v
end

-- A list of numbers out of a list or a tensor [n]; at least one.
function numbers.list(where, name, v)
  if o.is_tensor(v) then
    if v:dim() ~= 1 then o.fail("%s: %s: expected a list of numbers or a tensor [n], got %s", where, name, o.show(v)) end
    v = v:totable()
  end
  if type(v) ~= "table" then o.fail("%s: %s: expected a list of numbers or a tensor [n], got %s", where, name, o.show(v)) end
  if #v == 0 then o.fail("%s: %s: expected at least one number, got none", where, name) end
  for i = 1, #v do check(where, v[i], "%s[%d]", name, i, o.show(v[i])) end
  return v
end

-- Rows of equal length out of lists or a tensor [rows, columns].
function numbers.matrix(where, name, v)
  if o.is_tensor(v) and v:dim() == 2 then v = v:totable() end
  if type(v) ~= "table" then o.fail("%s: %s: expected rows of numbers or a tensor [rows, columns], got %s", where, name, o.show(v)) end
  if #v == 0 then o.fail("%s: %s: expected at least one row, got none", where, name) end
  local rows = {}
  for i = 1, #v do
    rows[i] = numbers.list(where, ("%s[%d]"):format(name, i), v[i])
    if #rows[i] ~= #rows[1] then
      o.fail("%s: %s[%d]: expected %d numbers as in the first row, got %d", where, name, i, #rows[1], #rows[i])
    end
  end
  return rows
end

-- Words for n values that a picture lacks.
function numbers.left_out(n, what, why)
  return ("%d %s of %s %s %s and not drawn"):format(n, n == 1 and "value" or "values", what, n == 1 and "is" or "are", why)
end

-- Mean and standard deviation (n - 1 below the fraction) of each position over runs of equal length; of one run no deviation.
function numbers.over_runs(runs)
  local mean, deviation = {}, {}
  for i = 1, #runs[1] do
    local column = {}
    for k, run in ipairs(runs) do column[k] = run[i] end
    mean[i], deviation[i] = statistics.mean(column)
  end
  return mean, #runs > 1 and deviation or nil
end

-- Fills in the y and spread of a series that has the fields y and perhaps spread, or runs.
function numbers.complete(where, s)
  if (s.y == nil) == (s.runs == nil) then o.fail("%s: y: expected numbers, or runs in its place, got %s", where, s.y == nil and "neither" or "both") end
  if s.runs == nil then
    s.y, s.spread = numbers.list(where, "y", s.y), s.spread ~= nil and numbers.list(where, "spread", s.spread) or nil
  elseif s.spread ~= nil then
    o.fail("%s: spread: expected nothing beside runs, got %s", where, o.show(s.spread))
  else
    s.y, s.spread = numbers.over_runs(numbers.matrix(where, "runs", s.runs))
  end
end

-- Least and largest of what is finite (and above 0 where `positive`) in lists; nil where nothing is.
function numbers.extent(lists, positive)
  local low, high
  for _, list in ipairs(lists) do
    for _, v in ipairs(list) do
      if numbers.finite(v) and not (positive and v <= 0) then
        low, high = math.min(low or v, v), math.max(high or v, v)
      end
    end
  end
  return low, high
end

function numbers.flat(rows)
  local list = {}
  for _, row in ipairs(rows) do table.move(row, 1, #row, #list + 1, list) end
  return list
end

-- A round step (1, 2 or 5 times a power of ten) that cuts a span into about n parts.
function numbers.step(span, n)
  local power = 10 ^ math.floor(math.log(span / n, 10))
  for _, factor in ipairs { 1, 2, 5 } do
    if factor * power * n >= span * 0.999 then return factor * power end
  end
  return 10 * power
end

return numbers
