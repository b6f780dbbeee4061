-- What a Conv2d or Linear has to compute for an input. Spikes in: non-zero inputs times the outputs each reaches. Real values in: every
-- product counts as a multiply-accumulate (MAC), whatever its value.

local operations = {}

local function product(sizes, first)
  local n = 1
  for i = first, #sizes do n = n * sizes[i] end
  return n
end

-- A layer gave y for x: "spikes" or "reals", its operations (of spikes a tensor int64 [], not read; of reals a number; a static image that is
-- computed once counts at each time step), and the products of one sample at one time step.
function operations.of(layer, y, x)
  local weight, shape = layer.weight.shape, y.shape -- [T, N, ...] or [N, ...]
  local inputs, own = product(weight, 2), #weight == 4 and 3 or 1 -- of one output; its dimensions: C, H, W or features
  local macs = inputs * product(shape, #shape - own + 1)
  if x.dtype == "spike" then return "spikes", layer:synops(x)[2], macs end
  return "reals", inputs * product(shape, 1), macs
end

-- Samples and time steps of y: N and T of [T, N, ...], N and 1 of [N, ...].
function operations.size(layer, y)
  local shape, own = y.shape, #layer.weight.shape == 4 and 3 or 1
  if #shape > own + 1 then return shape[2], shape[1] end
  return #shape > own and shape[1] or 1, 1
end

return operations
