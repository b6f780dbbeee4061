-- Figures of a list of numbers.

local statistics = {}

-- Mean, and standard deviation of the sample (n - 1 below the fraction; nil of fewer than two); nil of none.
function statistics.mean(list)
  if #list == 0 then return nil end
  local sum, squares = 0, 0
  for _, v in ipairs(list) do sum = sum + v end
  local mean = sum / #list
  for _, v in ipairs(list) do squares = squares + (v - mean) ^ 2 end
  return mean, #list > 1 and math.sqrt(squares / (#list - 1)) or nil
end

return statistics
