-- What a Conv2d or Linear has to compute for an input. Spikes in: non-zero inputs times the outputs each reaches. Real values in: every
-- product counts as a multiply-accumulate (MAC), whatever its value.

local function product(sizes, first)
  local n = 1
  for i = first, #sizes do n = n * sizes[i] end
  return n
end

-- A layer gave y, [T, N, ...] or [N, ...], for x. input: "spikes" or "reals"; count: its operations (of spikes a tensor int64 [], not read; of
-- reals a number; a static image that is computed once counts at each time step); products: of one sample at one time step; samples, steps: of y.
return function(layer, y, x)
  local weight, shape = layer.weight.shape, y.shape
  local own = #weight == 4 and 3 or 1 -- dimensions of one output: C, H, W or features
  local inputs, ahead = product(weight, 2), #shape - own -- of one output; dimensions before it
  local spikes = x.dtype == "spike"
  return {
    input = spikes and "spikes" or "reals", count = spikes and layer:synops(x)[2] or inputs * product(shape, 1),
    products = inputs * product(shape, ahead + 1), samples = ahead > 1 and shape[2] or ahead == 1 and shape[1] or 1, steps = ahead > 1 and shape[1] or 1,
  }
end
