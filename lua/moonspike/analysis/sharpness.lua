-- Figures of a landscape by which "flatter" can be said.

local o = require "moonspike.options"

local sharpness = {}

local spec = { radius = o.number(0.5, { above = 0 }) }
local NEAR = 1e-9 -- points on the rim belong to it, whatever their coordinates round to

-- The grid's points within the radius: { x, y, loss }.
local function inside(self, radius)
  local list = {}
  for j, row in ipairs(self.y and self.z or { self.z }) do
    for i, loss in ipairs(row) do
      local x, y = self.x[i], self.y and self.y[j] or 0
      if x * x + y * y <= radius * radius * (1 + NEAR) then list[#list + 1] = { x, y, loss } end
    end
  end
  return list
end

-- Solves A c = b, A positive semi-definite; nil where it is singular. Gauss with pivoting.
local function solve(A, b)
  local n = #b
  for k = 1, n do
    local pivot = k
    for i = k + 1, n do
      if math.abs(A[i][k]) > math.abs(A[pivot][k]) then pivot = i end
    end
    A[k], A[pivot], b[k], b[pivot] = A[pivot], A[k], b[pivot], b[k]
    if math.abs(A[k][k]) < 1e-10 then return nil end
    for i = k + 1, n do
      local f = A[i][k] / A[k][k]
      for j = k, n do A[i][j] = A[i][j] - f * A[k][j] end
      b[i] = b[i] - f * b[k]
    end
  end
  for k = n, 1, -1 do
    for j = k + 1, n do b[k] = b[k] - A[k][j] * b[j] end
    b[k] = b[k] / A[k][k]
  end
  return b
end

-- Least squares: the coefficients of 1, x, x^2 (and y, y^2, xy); x and y in units of the radius, so that none is small.
local function fit(list, radius, plane)
  local A, b
  for _, p in ipairs(list) do
    local x, y = p[1] / radius, p[2] / radius
    local terms = plane and { 1, x, x * x, y, y * y, x * y } or { 1, x, x * x }
    if not A then
      A, b = {}, {}
      for i = 1, #terms do
        A[i], b[i] = {}, 0
        for j = 1, #terms do A[i][j] = 0 end
      end
    end
    for i, u in ipairs(terms) do
      b[i] = b[i] + u * p[3] / #list
      for j, v in ipairs(terms) do A[i][j] = A[i][j] + u * v / #list end
    end
  end
  return A and solve(A, b)
end

local Sharpness = { __name = "sharpness" }
Sharpness.__index = Sharpness

function Sharpness:__tostring()
  local c = self.curvature
  return ("within %g of the centre (%d points): loss rises by at most %.5g, by %.5g on average; curvature %s, at most %.5g"):format(self.radius,
    self.points, self.max, self.mean, c[2] and ("%.5g and %.5g"):format(c[1], c[2]) or ("%.5g"):format(c[1]), self.largest)
end

function sharpness.of(self, opts)
  local opt = o.read("sharpness", opts, spec)
  if self.done < self.total then o.fail("sharpness: expected a finished landscape, got %d of %d points", self.done, self.total) end
  local list = inside(self, opt.radius)
  local c = fit(list, opt.radius, self.y ~= nil)
  if not c then
    o.fail("sharpness: radius: expected one that holds enough points of the grid for a fit of second order, got %g, which holds %d", opt.radius, #list)
  end
  local max, sum = -math.huge, 0
  for _, p in ipairs(list) do
    local rise = p[3] - self.centre.loss
    if rise ~= rise or rise > max then max = rise end
    sum = sum + rise
  end
  local unit = opt.radius * opt.radius
  local xx, yy, xy = 2 * c[3] / unit, c[5] and 2 * c[5] / unit, c[6] and c[6] / unit
  return setmetatable({ radius = opt.radius, points = #list, max = max, mean = sum / #list, curvature = { xx, yy },
    largest = yy and (xx + yy) / 2 + math.sqrt((xx - yy) ^ 2 / 4 + xy * xy) or xx }, Sharpness)
end

return sharpness
