-- ms.cuda: the GPUs, as users of torch.cuda know them. Functions without a name mean the current device, or the first GPU where
-- that is the CPU.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

local raw = core.device
local cuda = {}

local function is_cuda(name) return name == "cuda" or name:sub(1, 5) == "cuda:" end

function cuda.devices()
  local list = {}
  for _, device in ipairs(raw.devices()) do
    if is_cuda(device.name) then list[#list + 1] = device end
  end
  return list
end

function cuda.device_count() return #cuda.devices() end
function cuda.is_available() return raw.why "cuda" == "" end

function cuda.why()
  local why = raw.why "cuda"
  return why ~= "" and why or nil
end

local function pick(where, name)
  if name ~= nil then
    if math.type(name) == "integer" then name = "cuda:" .. name end
    if type(name) ~= "string" or not is_cuda(name) then o.fail("cuda: %s: device: expected 'cuda', 'cuda:1' or a number, got %s", where, o.show(name)) end
    return name == "cuda:0" and "cuda" or name
  end
  local current = raw.current()
  return is_cuda(current) and current or "cuda"
end

function cuda.name(name)
  name = pick("name", name)
  raw.memory(name) -- raises with the reason where there is none
  for _, device in ipairs(cuda.devices()) do
    if device.name == name then return device.description end
  end
end

function cuda.memory(name) return raw.memory(pick("memory", name)) end
function cuda.memory_allocated(name) return raw.memory(pick("memory_allocated", name)).in_use end
function cuda.max_memory_allocated(name) return raw.memory(pick("max_memory_allocated", name)).peak end
function cuda.memory_reserved(name) return raw.memory(pick("memory_reserved", name)).reserved end
function cuda.reset_peak_memory_stats(name) raw.reset_peak(pick("reset_peak_memory_stats", name)) end
function cuda.empty_cache(name) raw.empty_cache(pick("empty_cache", name)) end
function cuda.synchronize(name) raw.synchronize(pick("synchronize", name)) end


function cuda.allow_tf32(on)
  if on ~= nil and type(on) ~= "boolean" then o.fail("cuda: allow_tf32: on: expected true or false, got %s", o.show(on)) end
  return raw.tf32(pick("allow_tf32"), on)
end

local which = " (the current one, else the first; a name or a number, from 0)"
for name, text in pairs {
  devices = "ms.cuda.devices() -> list\n\nThe GPUs that work: tables with name, description, memory (bytes), cores, capability, bf16, emulation.",
  device_count = "ms.cuda.device_count() -> integer\n\nHow many GPUs work.",
  is_available = "ms.cuda.is_available() -> boolean\n\nDoes a GPU work? ms.cuda.why() says why not.",
  why = "ms.cuda.why() -> string or nil\n\nWhy no GPU is used; nil where one works.",
  name = "ms.cuda.name([device]) -> string\n\nWhat the GPU is called" .. which .. ".",
  memory = "ms.cuda.memory([device]) -> table\n\nBytes of the GPU" .. which .. ": in_use by tensors, peak, reserved, free; and what exists.",
  memory_allocated = "ms.cuda.memory_allocated([device]) -> bytes\n\nWhat tensors hold now" .. which .. ".",
  max_memory_allocated = "ms.cuda.max_memory_allocated([device]) -> bytes\n\nThe most they held since the start or reset_peak_memory_stats.",
  memory_reserved = "ms.cuda.memory_reserved([device]) -> bytes\n\nWhat the process took from the GPU, free blocks included.",
  reset_peak_memory_stats = "ms.cuda.reset_peak_memory_stats([device])\n\nThe peak begins anew.",
  empty_cache = "ms.cuda.empty_cache([device])\n\nCollects garbage and gives free blocks back to the GPU.",
  allow_tf32 = "ms.cuda.allow_tf32([on]) -> boolean\n\nMay products of float32 tensors round them to TF32 (ten bits of mantissa)? Off at "
    .. "the start. Convolutions, linear layers and matmul are several times faster with it. With on: returns what it was.",
  synchronize = "ms.cuda.synchronize([device])\n\nWaits until the GPU has done all that was asked.",
} do
  doc.set(cuda[name], text)
end

doc.set(cuda, [[
    ms.cuda: devices device_count is_available why name memory memory_allocated max_memory_allocated memory_reserved
    reset_peak_memory_stats empty_cache synchronize allow_tf32

      ms.device "cuda"                 tensors, networks and batches are made on the GPU from now on; "auto": where one works
      net:to "cuda"                    moves a network, with its gradients and what optimizers keep of it
      x:to "cuda"  x:to("cpu", "float32")
    ms.cuda.why() tells why no GPU is used. ms.capture(step) records a training step and replays it.
    With MOONSPIKE_DEVICE=cuda in the environment the GPU is the current device at the start; with MOONSPIKE_SYNC=1 every op waits for
    the GPU, so that an error names the op that failed.]])

return o.named(cuda, "cuda")
