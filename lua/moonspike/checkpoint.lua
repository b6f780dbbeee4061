-- Files: weights alone (save, load) and whole training states (checkpoint, resume), both safetensors, written through a temporary
-- file. Tensors are named model.<name>, opt.m.<name>, opt.v.<name>; all else is JSON text in the metadata.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local Module = require "moonspike.nn.module"
local autograd = require "moonspike.autograd"
local engines = require "moonspike.engines"

local checkpoint = {}

local function check_model(where, net)
  if not Module._is_module(net) then o.fail("%s: net: expected a module, got %s", where, o.show(net)) end
end

local function write(where, path, tensors, metadata)
  local ok, why = core.checkpoint.write(path, tensors, metadata)
  if not ok then o.fail("%s: %s", where, (why:gsub("^save: ", ""))) end
end

local function open(where, path)
  o.check(where, "path", path, o.string())
  local file, why = core.checkpoint.open(path)
  if not file then o.fail("%s: %s", where, why) end
  return file
end

local function named(file, name)
  local tensor, why = file:tensor(name)
  if not tensor then o.fail("%s", why) end
  return tensor
end

-- Tensors of the file whose names start with prefix, without it.
local function part(file, prefix)
  local dict = {}
  for _, name in ipairs(file:names()) do
    if name:sub(1, #prefix) == prefix then dict[name:sub(#prefix + 1)] = named(file, name) end
  end
  return dict
end

local function state_list(net, prefix)
  local list = {}
  for name, tensor in pairs(net:state_dict()) do list[#list + 1] = { prefix .. name, tensor } end
  return list
end

function checkpoint.save(path, net)
  o.check("save", "path", path, o.string())
  check_model("save", net)
  write("save", path, state_list(net, ""), { format = "pt", producer = "moonspike" })
  return net
end

local load_spec = { strict = o.boolean(true) }

function checkpoint.load(path, net, opts)
  local opt = o.read("load", opts, load_spec)
  local file <close> = open("load", path)
  local whole = file:metadata().moonspike ~= nil
  local dict = part(file, whole and "model." or "")
  if net == nil then return dict end
  check_model("load", net)
  net:load_state_dict(dict, opt.strict)
  return net
end

-- ---- the optimizer by name ----

-- The model's name of each of the optimizer's parameters, in the optimizer's order.
local function parameter_names(model, optimizer)
  local of, names = {}, {}
  for name, p in model:named_parameters() do of[p] = name end
  for i, pair in ipairs(optimizer:each()) do names[i] = of[pair[1]] or ("parameter%d"):format(i) end
  return names
end

local function pack_optimizer(model, optimizer, tensors)
  local dict, names = optimizer:state_dict(), parameter_names(model, optimizer)
  local numbers = core.json.array {}
  for i, entry in ipairs(dict.state) do
    numbers[i] = {}
    for _, key in ipairs(o.keys(entry)) do
      if o.is_tensor(entry[key]) then
        tensors[#tensors + 1] = { ("opt.%s.%s"):format(key, names[i]), entry[key] }
      else
        numbers[i][key] = entry[key]
      end
    end
  end
  return { kind = optimizer.name, groups = dict.groups, numbers = numbers, names = core.json.array(names) }
end

-- The optimizer's state from the file, with a list of what does not fit.
local function unpack_optimizer(file, model, optimizer, saved)
  local names, problems, state = parameter_names(model, optimizer), {}, {}
  local function add(...) problems[#problems + 1] = string.format(...) end
  if saved.kind ~= optimizer.name then add("optimizer: expected %s, got %s", optimizer.name, saved.kind) end
  if #saved.groups ~= #optimizer.param_groups then
    add("optimizer groups: expected %d, got %d", #optimizer.param_groups, #saved.groups)
  end
  if table.concat(names, "\n") ~= table.concat(saved.names, "\n") then
    local there = {}
    for _, name in ipairs(saved.names) do there[name] = true end
    for _, name in ipairs(names) do
      if not there[name] then add("missing: optimizer state of %s", name) end
      there[name] = nil
    end
    for _, name in ipairs(o.keys(there)) do add("unexpected: optimizer state of %s", name) end
    if #problems == 0 then add "optimizer: its parameters stand in another order" end
  end
  if #problems > 0 then return nil, problems end
  local position = {}
  for i, pair in ipairs(optimizer:each()) do
    position[names[i]] = i
    state[i] = {}
    for _, key in ipairs(o.keys(saved.numbers[i])) do state[i][key] = saved.numbers[i][key] end
    state[i][0] = o.shape(pair[1])
  end
  for _, name in ipairs(file:names()) do
    local key, of = name:match "^opt%.([^.]+)%.(.+)$"
    local i = key and position[of]
    if i then
      local tensor = named(file, name)
      if #tensor.shape > 0 and o.shape(tensor) ~= state[i][0] then add("shape: %s: expected %s, got %s", name, state[i][0], o.shape(tensor)) end
      state[i][key] = tensor
    end
  end
  for _, entry in ipairs(state) do entry[0] = nil end
  return { groups = saved.groups, state = state }, problems
end

-- ---- whole training states ----

local function has(method)
  return function(v) return type(v) == "table" and type(v[method]) == "function" end
end

local spec = {
  model = o.where(o.required, "a module", Module._is_module), optimizer = o.where(nil, "an optimizer", has "each"),
  scheduler = o.where(nil, "a schedule", has "get_lr"), random_T = o.where(nil, "a schedule of T", has "draw"), loader = o.where(nil, "a data set", has "state_dict"),
  epoch = o.integer(nil), extra = o.table(nil),
}

-- Lua's generator cannot be read out: it is reseeded with two of its own numbers, which are written down.
local function reseed()
  local a, b = math.random(0), math.random(0)
  math.randomseed(a, b)
  return { a, b }
end

-- What JSON cannot hold in v, and where: "a function", "extra.x". Depth and cycles are left to the encoder.
local function misfit(v, at, depth)
  local kind = type(v)
  if kind == "number" then
    if v ~= v or v == math.huge or v == -math.huge then return tostring(v), at end
  elseif kind == "table" and v ~= core.json.null and depth > 0 then
    for _, key in ipairs(o.keys(v)) do
      local what, place = misfit(v[key], type(key) == "string" and at .. "." .. key or ("%s[%s]"):format(at, tostring(key)), depth - 1)
      if what then return what, place end
    end
  elseif kind == "function" or kind == "thread" or kind == "userdata" and v ~= core.json.null then
    return "a " .. (kind == "userdata" and o.show(v) or kind), at
  end
end

function checkpoint.checkpoint(path, opts)
  o.check("checkpoint", "path", path, o.string())
  local opt = o.read("checkpoint", opts, spec)
  local what, place = misfit(opt.extra, "extra", 50)
  if what then
    o.fail("checkpoint: extra: expected what JSON can hold (booleans, finite numbers, strings and tables of them), got %s at %s", what, place)
  end
  local tensors = state_list(opt.model, "model.")
  local seed, draws = core.random.state()
  local state = {
    version = 1, epoch = opt.epoch, threads = core.device.threads(), engines = engines.state(), extra = opt.extra,
    random = { seed = seed, draws = draws, lua = reseed() }, autocast = autograd.autocast(),
    scheduler = opt.scheduler and opt.scheduler:state_dict(), loader = opt.loader and opt.loader:state_dict(),
    random_T = opt.random_T and opt.random_T:state_dict(),
    optimizer = opt.optimizer and pack_optimizer(opt.model, opt.optimizer, tensors),
  }
  write("checkpoint", path, tensors, { format = "pt", producer = "moonspike", moonspike = core.json.encode(state) })
end

local function all(list, n, test)
  if type(list) ~= "table" or n and #list ~= n then return false end
  for _, v in ipairs(list) do
    if not test(v) then return false end
  end
  return true
end

local function is(kind) return function(v) return type(v) == kind or math.type(v) == kind end end

-- What is wrong with a decoded description, or nil.
local function flaw(state)
  if not is "table"(state) or not is "table"(state.random) then return "not a training state" end
  local random, opt = state.random, state.optimizer
  if not all({ random.seed, random.draws }, 2, is "integer") or not all(random.lua, 2, is "integer") then return "random: expected integers" end
  for _, key in ipairs { "optimizer", "scheduler", "random_T", "loader", "extra" } do
    if state[key] ~= nil and not is "table"(state[key]) then return ("%s: expected a table, got %s"):format(key, o.show(state[key])) end
  end
  if opt and not (is "string"(opt.kind) and all(opt.names, nil, is "string") and all(opt.groups, nil, is "table")
    and all(opt.numbers, #opt.names, is "table")) then return "optimizer: expected kind, names, groups and numbers" end
  local mode = state.autocast
  if mode ~= nil and mode ~= "bf16" and mode ~= "float32" then return ('autocast: expected "bf16" or "float32", got %s'):format(o.show(mode)) end
  return state.engines and engines.flaw(state.engines)
end

local function open_state(path)
  local file = open("resume", path)
  local text = file:metadata().moonspike
  if not text then o.fail("resume: %s: expected a file written by ms.checkpoint, got weights alone (use ms.load)", path) end
  local state, why = core.json.decode(text)
  if type(state) == "table" and state.random and state.version ~= 1 then
    o.fail("resume: %s: expected version 1, got %s", path, o.show(state.version))
  end
  why = why or flaw(state)
  if why then o.fail("resume: %s: its description is damaged: %s", path, why) end
  return file, state
end

-- A function that puts model, optimizer, schedule, loader and random numbers back to what they are now.
local function snapshot(opt)
  local tensors, saved = {}, {}
  for name, tensor in pairs(opt.model:state_dict()) do tensors[name] = tensor:detach():clone() end
  for _, key in ipairs { "scheduler", "random_T", "loader", "optimizer" } do saved[key] = opt[key] and opt[key]:state_dict() end
  local seed, draws = core.random.state()
  local choice = engines.state()
  local mode = autograd.autocast()
  return function()
    autograd.autocast(mode)
    opt.model:load_state_dict(tensors)
    for _, key in ipairs { "scheduler", "random_T", "loader", "optimizer" } do
      if opt[key] then opt[key]:load_state_dict(saved[key]) end
    end
    core.random.set_state(seed, draws)
    engines.restore(choice)
  end
end

local function apply(path, opt, file, state)
  local dict, problems
  if opt.optimizer then
    dict, problems = unpack_optimizer(file, opt.model, opt.optimizer, state.optimizer)
    if #problems > 0 then o.fail("%s", "resume: the file does not fit:\n  " .. table.concat(problems, "\n  ")) end
    opt.optimizer:check_state(dict)
  end
  opt.model:load_state_dict(part(file, "model."))
  if dict then opt.optimizer:load_state_dict(dict) end
  if opt.scheduler then opt.scheduler:load_state_dict(state.scheduler) end
  if opt.random_T then opt.random_T:load_state_dict(state.random_T) end
  if opt.loader then opt.loader:load_state_dict(state.loader) end
  local random = state.random
  core.random.set_state(random.seed, random.draws)
  math.randomseed(random.lua[1], random.lua[2])
  if state.autocast then autograd.autocast(state.autocast) end
  return state.engines and engines.restore(state.engines) or {}
end

function checkpoint.resume(path, opts)
  local opt = o.read("resume", opts, spec)
  local opened, state = open_state(path)
  local file <close> = opened
  for _, key in ipairs { "optimizer", "scheduler", "random_T", "loader" } do
    if opt[key] and not state[key] then o.fail("resume: %s: expected a state of the %s, got none", path, key) end
  end
  local back = snapshot(opt)
  local ok, why = pcall(apply, path, opt, file, state)
  if not ok then
    back()
    why = o.reason(why)
    o.fail("%s", why:find("resume: ", 1, true) == 1 and why or ("resume: %s: %s"):format(path, why))
  end
  if state.threads ~= core.device.threads() and state.engines and not state.engines.deterministic and engines.is_loose(state.engines) then
    table.insert(why, ("was written with %s threads, this run has %d: results of oneDNN may differ in the last bits; " ..
      "ms.deterministic(true) does without"):format(tostring(state.threads), core.device.threads()))
  end
  for _, note in ipairs(why) do io.stderr:write(("moonspike: %s %s\n"):format(path, note)) end
  return { epoch = state.epoch, extra = state.extra or {}, threads = state.threads, batch = state.loader and state.loader.batch }
end

doc.set(checkpoint.save, [[
    ms.save(path, net) -> net

    Parameters and buffers under their PyTorch names and shapes, as safetensors. The file is replaced only when all of it is on disk.]])
doc.set(checkpoint.load, [==[
    ms.load(path[, net[, { strict = true }]]) -> net, or the table of tensors by name

    Reads weights, also those of a checkpoint. Names and shapes must fit; strict = false lets missing and unexpected names pass.]==])
doc.set(checkpoint.checkpoint, [[
    ms.checkpoint(path, { model =, optimizer =, scheduler =, random_T =, loader =, epoch =, extra = {} })

    The whole training state: weights, moments, schedule, position and order of the data, random numbers (Lua's too), the choice
    of convolution engines (ms.engines), the mode of ms.autocast, extra (plain values).
    A run resumed from it ends bit for bit like one that went on. Works in the middle of an epoch.]])
doc.set(checkpoint.resume, [[
    ms.resume(path, { model =, optimizer =, scheduler =, random_T =, loader = }) -> { epoch =, batch =, extra =, threads = }

    Brings everything back to where ms.checkpoint wrote it; the next `for x, y in loader` goes on with the following batch. Nothing is
    changed when the file does not fit.]])

return checkpoint
