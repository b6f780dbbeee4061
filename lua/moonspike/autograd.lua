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
