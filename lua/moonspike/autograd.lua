-- Recording on and off, gradients by request, and ops written in Lua.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

local autograd = {}
local set = core.autograd.set_grad_enabled

-- local was <close> = autograd.guard(false): recording is off until the end of the block, also when it raises.
function autograd.guard(on)
  local was = set(on)
  return setmetatable({}, { __close = function() set(was) end })
end

function autograd.no_grad(fn, ...)
  if type(fn) ~= "function" then o.fail("no_grad: fn: expected a function, got %s", o.show(fn)) end
  local was <close> = autograd.guard(false)
  return (function(...) return ... end)(fn(...))
end

-- ---- mixed precision ----

local set_autocast, is_autocast = core.autograd.set_autocast, core.autograd.is_autocast
local function mode_name() return is_autocast() and "bf16" or "float32" end
local modes = { bf16 = true, float32 = false }

function autograd.autocast(mode, ...)
  if mode == nil and select("#", ...) == 0 then return mode_name() end
  local on = modes[mode or "float32"]
  if on == nil or mode == nil then o.fail('autocast: mode: expected "bf16" or "float32", got %s', o.show(mode)) end
  if select("#", ...) == 0 then
    local was = mode_name()
    set_autocast(on)
    return was
  end
  local fn = ...
  if type(fn) ~= "function" then o.fail("autocast: fn: expected a function, got %s", o.show(fn)) end
  local was = set_autocast(on)
  local back <close> = setmetatable({}, { __close = function() set_autocast(was) end })
  return (function(...) return ... end)(fn(select(2, ...)))
end

-- ---- ops in Lua ----

local spec = {
  name = o.string("Function"),
  forward = o.where(o.required, "a function(ctx, ...)", function(v) return type(v) == "function" end),
  backward = o.where(o.required, "a function(ctx, ...)", function(v) return type(v) == "function" end),
}

function autograd.Function(opts)
  local op = o.read("Function", opts, spec)
  return function(...)
    local ctx, inputs = {}, {}
    for i = 1, select("#", ...) do
      local v = select(i, ...)
      if o.is_tensor(v) then inputs[#inputs + 1] = v end
    end
    local outputs
    do
      local was <close> = autograd.guard(false)
      outputs = table.pack(op.forward(ctx, ...))
    end
    for i = 1, outputs.n do
      if not o.is_tensor(outputs[i]) then
        o.fail("%s: forward: expected tensors, got %s as result %d", op.name, o.show(outputs[i]), i)
      end
    end
    core.autograd.record(op.name, function(...) return op.backward(ctx, ...) end, inputs, outputs)
    return table.unpack(outputs, 1, outputs.n)
  end
end

autograd.grad = core.autograd.grad
autograd.set_grad_enabled = set
autograd.is_grad_enabled = core.autograd.is_grad_enabled

doc.set(autograd.no_grad, [[
    ms.no_grad(fn, ...) -> fn(...)

    Runs fn without recording: its results need no gradient and hold no graph. Recording is restored also when fn raises.]])

doc.set(autograd.autocast, [==[
    ms.autocast() -> "bf16" or "float32"
    ms.autocast(mode) -> the mode before
    ms.autocast(mode, fn, ...) -> fn(...)

    Mixed precision, for the process or while fn runs (the mode before is restored also when fn raises). false means "float32".

      ms.autocast "bf16"

    Under "bf16" Conv2d, Linear and matmul take float32 operands as bfloat16, sum their products in float32 and give bfloat16; spikes
    and bytes are exact as they are. Weights stay float32: their bfloat16 copies are kept and follow every change, and optimizers
    write them in the same pass. Statistics of normalisations, membranes, softmax, sums and means, losses, weight gradients and
    moments are float32; activations and their gradients take half the memory. backward() runs in the precision in which forward was
    recorded, whatever the mode is then. It needs no loss scaling: bfloat16 has float32's range.
    It works on every device, and is fast where ms.devices() says bf16 = true; elsewhere float32 arithmetic runs on bfloat16 values.]==])

doc.set(autograd.Function, [[
    ms.Function{ name =, forward = function(ctx, ...), backward = function(ctx, dout, ...) } -> function

    An op written in Lua. forward runs without recording and returns fresh tensors; what backward needs goes into ctx.
    backward gets the gradient of each output (nil where there is none) and returns one gradient for each tensor argument
    (nil where there is none).

      local cube = ms.Function {
        name = "cube",
        forward = function(ctx, x) ctx.x = x; return x * x * x end,
        backward = function(ctx, g) return 3 * ctx.x * ctx.x * g end,
      }]])

return autograd
