-- The sizes of images on their way through a network, without running it: which layer does not fit, and how much each computes.

local Module = require "moonspike.nn.module"

local geometry = {}

local function text(size) return table.concat(size, "x") end

-- Outputs of a window along one axis.
function geometry.window(n, kernel, stride, padding, ceil)
  local span = n + 2 * padding - kernel
  if span < 0 then return 0 end
  local out = (ceil and -(-span // stride) or span // stride) + 1
  if ceil and (out - 1) * stride >= n + padding then out = out - 1 end
  return out
end

local rules = {}

local function slide(module, name, size, channels)
  local opt, kernel = module.options, module.kernel_size or module.options.kernel_size
  local out = { channels }
  for i = 1, 2 do
    local reach = ((opt.dilation or { 1, 1 })[i]) * (kernel[i] - 1) + 1
    out[i + 1] = geometry.window(size[i + 1], reach, opt.stride[i], opt.padding[i], opt.ceil_mode)
    if out[i + 1] < 1 then
      return nil, ("%s (%s) needs at least %d %s, got %s"):format(name, module:class(), reach - 2 * opt.padding[i],
        i == 1 and "rows" or "columns", text(size))
    end
  end
  return out
end

function rules.Conv2d(module, name, size, visit)
  if size[1] ~= module.in_channels then
    return nil, ("%s (Conv2d) needs %d channels, got %d"):format(name, module.in_channels, size[1])
  end
  local out, why = slide(module, name, size, module.out_channels)
  if not out then return nil, why end
  local kernel = module.kernel_size
  visit(name, out[1] * out[2] * out[3] * (module.in_channels // module.options.groups) * kernel[1] * kernel[2])
  return out
end

function rules.AvgPool2d(module, name, size) return slide(module, name, size, size[1]) end
rules.MaxPool2d = rules.AvgPool2d

function rules.AdaptiveAvgPool2d(module, _, size) return { size[1], module.size[1], module.size[2] } end

function rules.Flatten(_, _, size)
  return { size[1] * (size[2] or 1) * (size[3] or 1), from = text(size) }
end

function rules.Linear(module, name, size, visit)
  local n = size[#size]
  if n ~= module.in_features then
    return nil, ("%s (Linear) needs %d inputs, got %d%s"):format(name, module.in_features, n, size.from and " = " .. size.from or "")
  end
  visit(name, module.in_features * module.out_features)
  return { module.out_features }
end

function rules.Sequential(module, name, size, visit)
  for key, child in module:named_children() do
    local why
    size, why = geometry.walk(child, name .. "." .. key, size, visit)
    if not size then return nil, why end
  end
  return size
end

local function nothing() end

-- size { C, H, W } or { n } -> the size behind module, or nil and what does not fit; visit(name, multiply-accumulates) for each layer
-- that multiplies. Modules that it does not know are taken to keep the size.
function geometry.walk(module, name, size, visit)
  visit = visit or nothing
  if module._measure then return module:_measure(name, size, visit) end
  local rule = rules[module:class()]
  if not rule then return size end
  return rule(module, name, size, visit)
end

-- Elements of all parameters, and of those that loss.TRT regularises by default (named weight), without drawing their values: total,
-- regularised, tensors, gammas.
function geometry.count(net)
  local total, regularised, tensors, gammas, seen = 0, 0, 0, 0, {}
  for _, module in net:named_modules() do
    for _, key in ipairs(Module._members(module)) do
      local value = module._lazy[key] or rawget(module, key)
      local size = module._lazy[key] and value.size or type(value) == "userdata" and value.requires_grad and value.shape
      if size and not seen[value] then
        seen[value] = true
        local n = 1
        for _, s in ipairs(size) do n = n * s end
        total = total + n
        if key == "weight" then
          regularised, tensors = regularised + n, tensors + 1
          if #size == 1 then gammas = gammas + n end
        end
      end
    end
  end
  return total, regularised, tensors, gammas
end

return geometry
