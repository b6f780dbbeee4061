-- Numbers by a formula that the generators of golden files compute alike (tests/ref/golden.py): weights and samples of networks that are
-- compared with PyTorch, and products that stand for a large tensor there.
local lu = require "luaunit"
local ms = require "moonspike"
local s = require "support"
local core = require "moonspike.core"
local o = require "moonspike.options"

local formula = {}

-- A function key -> tensor over a golden file, and the file.
function formula.golden(name)
  local file = assert(core.checkpoint.open(arg[0]:match "^(.*)lua/[^/]*$" .. "ref/" .. name .. ".safetensors"))
  return function(key) return file:tensor(key) end, file
end

local function value(stream, i)
  local z = (stream << 32) + i
  z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
  z = (z ~ (z >> 27)) * 0x94D049BB133111EB
  return ((z ~ (z >> 31)) >> 40) / 0x800000 - 1
end

-- A float32 tensor of shift + scale * numbers of a stream in [-1, 1).
function formula.filled(stream, shape, scale, shift)
  local list, n = {}, 1
  for _, size in ipairs(shape) do n = n * size end
  for i = 0, n - 1 do list[i + 1] = shift + scale * value(stream, i) end
  return ms.tensor(list):view(shape)
end

-- name -> tensor, of one of a module's iterators.
function formula.named(iterator)
  local tensors = {}
  for name, t in iterator do tensors[name] = t end
  return tensors
end

-- Weights uniform with the variance of kaiming_normal over fan_out or of Linear, gammas around 1.
function formula.fill(net, seed)
  local parameters = formula.named(net:named_parameters())
  ms.no_grad(function()
    for i, name in ipairs(o.keys(parameters)) do
      local shape, scale, shift = parameters[name].shape, 0.2, name:find "weight$" and 1 or 0
      if #shape == 4 then
        scale, shift = math.sqrt(6 / (shape[1] * shape[3] * shape[4])), 0
      elseif #shape == 2 then
        scale, shift = math.sqrt(1 / shape[2]), 0
      end
      parameters[name]:copy_(formula.filled(seed * 1000 + i - 1, shape, scale, shift))
    end
  end)
end

local vectors = { {}, {}, {}, {} }

-- The 2-norm of a tensor and its products with four vectors of the formula.
function formula.sketch(t)
  local out, squares = {}, 0
  local flat = s.flat(t)
  for _, v in ipairs(flat) do squares = squares + v * v end
  out[1] = math.sqrt(squares)
  for k, vector in ipairs(vectors) do
    local sum = 0
    for i, v in ipairs(flat) do
      vector[i] = vector[i] or value(899 + k, i - 1)
      sum = sum + v * vector[i]
    end
    out[1 + k] = sum
  end
  return out
end

-- Sketches of tensors against those of a golden file, relative to the norms there; the largest difference.
function formula.check(tensors, G, prefix, tolerance)
  local worst = 0
  for _, name in ipairs(o.keys(tensors)) do
    local want = G(prefix .. name):totable()
    for i, got in ipairs(formula.sketch(tensors[name])) do
      local d = math.abs(got - want[i]) / want[1]
      lu.assertTrue(d <= tolerance, ("%s%s [%d]: %.9g, expected %.9g, its norm is %.3g"):format(prefix, name, i, got, want[i], want[1]))
      worst = math.max(worst, d)
    end
  end
  return worst
end

return formula
