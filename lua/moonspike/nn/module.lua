-- The base class of everything that is composed into a network.
--
--   local Net = nn.Module "Net"
--   function Net:init(classes) self.conv = nn.Conv2d(1, 8, 3); self.out = nn.Linear(8, classes) end
--   function Net:forward(x) ... end
--   local net = Net(10)
--
-- Children, parameters and buffers are plain fields; _order holds their names in order of assignment.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local capture = require "moonspike.capture"
local parameter = require "moonspike.nn.parameter"
local seeding = require "moonspike.nn.seeding"

local Module = { name = "Module" }
local meta = {} -- of instances, one for each class: meta[class]

local function is_module(v)
  local mt = type(v) == "table" and getmetatable(v)
  return mt and meta[mt.class] == mt or false
end

local function draw(self, key, name, random_name)
  local lazy = self._lazy[key]
  local tensor = core.tensor.empty(lazy.size)
  seeding.draw(self._era, random_name, function(random_key) lazy.init(tensor, random_key) end)
  self._lazy[key] = nil
  parameter.settled(lazy)
  tensor = parameter.Parameter(tensor)
  tensor.name = name:sub(-63)
  rawset(self, key, tensor)
  return tensor
end

local settle

local function index(self, key)
  if rawget(self, "_lazy")[key] then
    settle(self)
    return rawget(self, key)
  end
  local class = getmetatable(self).class
  if math.type(key) and class.at then return class.at(self, key) end
  return class[key]
end

local function newindex(self, key, value)
  local kind = is_module(value) and "module" or parameter.kind(value)
  if kind and type(key) == "string" then
    if rawget(Module, key) ~= nil then
      o.fail("%s: '%s' is a method of every module; choose another name", getmetatable(self).class.name, key)
    end
    if not self._known[key] then
      self._known[key] = true
      table.insert(self._order, key)
    end
    local old = self._lazy[key]
    if old and old ~= value then parameter.settled(old) end -- replaced before it was drawn
    self._lazy[key] = kind == "lazy" and value or nil
    if kind == "lazy" then return end
  end
  if type(value) == "table" and not getmetatable(value) and is_module(value[1]) then
    o.fail("%s: %s: a plain table hides its modules from parameters(); use nn.Sequential { ... }, which can be indexed",
      getmetatable(self).class.name, key)
  end
  if kind == "module" and not rawget(value, "_parent") then rawset(value, "_parent", self) end
  rawset(self, key, value)
end

-- Names of the members of self: by assignment, then modules and parameters that replaced a plain field, by name.
local function members(self)
  local late = {}
  for key, value in next, self do
    if type(key) == "string" and key:sub(1, 1) ~= "_" and not self._known[key]
      and (is_module(value) or parameter.kind(value)) then
      late[#late + 1] = key
    end
  end
  if #late > 0 then
    table.sort(late)
    for _, key in ipairs(late) do
      self._known[key] = true
      local value = rawget(self, key)
      if is_module(value) and not rawget(value, "_parent") then rawset(value, "_parent", self) end
      table.insert(self._order, key)
    end
  end
  return self._order
end

local function join(prefix, name) return prefix == "" and name or prefix .. "." .. name end

-- Calls visit(module, name) for self and every module below it, each once, parents first.
local function walk(self, visit, name, seen)
  name, seen = name or "", seen or {}
  if seen[self] then return end
  seen[self] = true
  visit(self, name)
  for _, key in ipairs(members(self)) do
    local child = rawget(self, key)
    if is_module(child) then walk(child, visit, join(name, key), seen) end
  end
end

-- Draws what is still to be drawn in the whole net that self belongs to, under the names it has there.
function settle(self)
  if parameter.pending == 0 then return end
  local root = self
  while rawget(root, "_parent") do root = root._parent end
  local prefix = ""
  if not root:named_children()() then -- a module alone goes by its running number
    root._alone = rawget(root, "_alone") or seeding.serial(root._era, getmetatable(root).class.name)
    prefix = root._alone
  end
  walk(root, function(module, name)
    for _, key in ipairs(members(module)) do
      if module._lazy[key] then draw(module, key, join(name, key), join(prefix, join(name, key))) end
    end
  end)
end

-- Own tensors of one kind: visit(name, tensor, module, key); shared ones once unless `all`.
local function tensors(self, kind, visit, all)
  settle(self)
  local seen = {}
  walk(self, function(module, name)
    for _, key in ipairs(members(module)) do
      local value = rawget(module, key)
      local found = parameter.kind(value)
      if o.is_tensor(value) and not found then
        o.fail("%s: %s holds a plain tensor; assign nn.Parameter(tensor) or nn.Buffer(tensor)",
          getmetatable(module).class.name, key)
      end
      if value and found and (not kind or found == kind) and (all or not seen[value]) then
        seen[value] = true
        visit(join(name, key), value, module, key)
      end
    end
  end)
end

local function iterator(list) -- for name, value in ...
  local i = 0
  return function()
    i = i + 1
    if list[i] then return list[i][1], list[i][2] end
  end
end

local function collect(self, kind)
  local list = {}
  tensors(self, kind, function(name, tensor) list[#list + 1] = { name, tensor } end)
  return list
end

local function values(pairs_list)
  local list = {}
  for i, pair in ipairs(pairs_list) do list[i] = pair[2] end
  return list
end

local function module_list(self)
  local list = {}
  walk(self, function(module, name) list[#list + 1] = { name, module } end)
  return list
end

function Module:init() end

function Module:forward()
  o.fail("%s: forward is not defined", getmetatable(self).class.name)
end

function Module:class() return getmetatable(self).class.name end
function Module:parameters() return values(collect(self, "parameter")) end
function Module:named_parameters() return iterator(collect(self, "parameter")) end
function Module:buffers() return values(collect(self, "buffer")) end
function Module:named_buffers() return iterator(collect(self, "buffer")) end
function Module:modules() return values(module_list(self)) end
function Module:named_modules() return iterator(module_list(self)) end

function Module:named_children()
  local list = {}
  for _, key in ipairs(members(self)) do
    local child = rawget(self, key)
    if is_module(child) then list[#list + 1] = { key, child } end
  end
  return iterator(list)
end

function Module:children()
  local list = {}
  for _, child in self:named_children() do list[#list + 1] = child end
  return list
end

function Module:train(on)
  if on == nil then on = true end
  walk(self, function(module) module.training = on end)
  return self
end

function Module:eval() return self:train(false) end

function Module:apply(fn)
  if type(fn) ~= "function" then o.fail("apply: fn: expected a function(module), got %s", o.show(fn)) end
  for _, module in ipairs(self:modules()) do fn(module) end
  return self
end

function Module:zero_grad()
  for _, p in ipairs(self:parameters()) do p.grad = nil end
  return self
end

function Module:requires_grad_(on)
  for _, p in ipairs(self:parameters()) do p:requires_grad_(on ~= false) end
  return self
end

function Module:to(device)
  if type(device) ~= "string" then o.fail("to: device: expected a name like 'cpu', got %s", o.show(device)) end
  device = core.tensor.empty(0, { device = device }).device -- an unknown one, or a dtype, is refused here
  local list = {}
  tensors(self, nil, function(_, value) list[#list + 1] = value end)
  core.optim.move(list, device)
  return self
end

-- Every parameter and buffer by name, shared ones under each of their names; pairs() goes in order of assignment.
function Module:state_dict()
  local names, dict = {}, {}
  tensors(self, nil, function(name, tensor)
    names[#names + 1] = name
    dict[name] = tensor
  end, true)
  return setmetatable(dict, {
    names = names,
    __pairs = function()
      local i = 0
      return function()
        i = i + 1
        return names[i], dict[names[i]]
      end
    end,
  })
end

local function complain(problems)
  if #problems == 0 then return end
  local shown = table.concat(problems, "\n  ", 1, math.min(#problems, 20))
  if #problems > 20 then shown = shown .. ("\n  and %d more"):format(#problems - 20) end
  o.fail("%s", "load_state_dict: the tensors do not fit the model:\n  " .. shown)
end

-- Copies values by name. Nothing is written unless all fits; strict = false lets missing and unexpected names pass.
-- Returns the list of what did not fit.
function Module:load_state_dict(dict, strict)
  if type(dict) ~= "table" then o.fail("load_state_dict: dict: expected a table of tensors, got %s", o.show(dict)) end
  local own, soft, hard = self:state_dict(), {}, {}
  for name, tensor in pairs(own) do
    local given = dict[name]
    if given == nil then
      soft[#soft + 1] = "missing: " .. name
    elseif not o.is_tensor(given) then
      hard[#hard + 1] = ("type: %s: expected a tensor, got %s"):format(name, o.show(given))
    elseif o.shape(given) ~= o.shape(tensor) then
      hard[#hard + 1] = ("shape: %s: expected %s, got %s"):format(name, o.shape(tensor), o.shape(given))
    end
  end
  for _, name in ipairs(o.keys(dict)) do
    if own[name] == nil then soft[#soft + 1] = "unexpected: " .. tostring(name) end
  end
  if strict ~= false then table.move(soft, 1, #soft, #hard + 1, hard) end
  complain(hard)
  local was <close> = require "moonspike.autograd".guard(false)
  for name, tensor in pairs(own) do
    if dict[name] ~= nil then tensor:copy_(dict[name]) end
  end
  return soft
end

-- One time step, x_t [N, ...] -> y_t; neurons keep their membranes (with their history, for training) until reset_state.
function Module:step(x)
  if not o.is_tensor(x) then o.fail("step: x: expected a tensor [N, ...], got %s", o.show(x)) end
  local neurons = {}
  for _, module in ipairs(self:modules()) do
    if module.membrane_step ~= nil then neurons[#neurons + 1] = module end
  end
  local done <close> = setmetatable({}, { __close = function()
    for _, neuron in ipairs(neurons) do neuron.membrane_step = false end
  end })
  for _, neuron in ipairs(neurons) do neuron.membrane_step = true end
  return self(x:unsqueeze(1)):select(1, 1)
end

function Module:reset_state()
  for _, module in ipairs(self:modules()) do module._v = nil end
  return self
end

-- ---- classes ----

local function note_shape(self, ...)
  local y = ...
  rawset(self, "_shape", type(y) == "userdata" and y.shape or nil)
  return ...
end

local function call(self, ...)
  if parameter.pending > 0 then settle(self) end
  capture.module(self)
  return note_shape(self, self:forward(...))
end

local function construct(class, ...)
  local self = setmetatable({ _order = {}, _known = {}, _lazy = {}, _era = seeding.era(), training = true }, meta[class])
  class.init(self, ...)
  return self
end

-- A class; parent defaults to Module. Methods live in the class, instances get a metatable of their own.
local function new_class(_, name, parent)
  if type(name) ~= "string" then o.fail("Module: name: expected a string, got %s", o.show(name)) end
  local class = { name = name, super = parent or Module }
  local mt = { __name = name, class = class, __index = index, __newindex = newindex, __call = call, __dir = {}, __fields = "_order" }
  mt.__tostring = function(self) return require "moonspike.nn.print" (self) end
  mt.__len = function(self) return class.len and class.len(self) or #members(self) end
  meta[class] = mt
  local up = class.super
  for _, key in ipairs(meta[up] and meta[up].__dir or o.keys(Module)) do
    if type(up[key]) == "function" and key:sub(1, 1) ~= "_" then table.insert(mt.__dir, key) end
  end
  return setmetatable(class, { __name = "class " .. name, __index = up, __call = construct,
    __newindex = function(t, key, value)
      if type(key) == "string" and type(value) == "function" then table.insert(mt.__dir, key) end
      rawset(t, key, value)
    end,
    __tostring = function() return "class " .. name end })
end

Module._is_module = is_module
Module._members = members

doc.set(Module, [[
    nn.Module(name[, parent]) -> class

    A new kind of module. Define Class:init(...) and Class:forward(x); make one with Class(...), run it with net(x).
    Modules, nn.Parameter and nn.Buffer assigned to fields are registered in order of assignment (one at a time: Lua leaves open the order
    in which a, b = x, y assigns).
    Methods: parameters() list, named_parameters() iterator, buffers(), named_buffers(), modules(), named_modules(), children(),
      named_children(), train([on]), eval(), apply(fn), zero_grad(), requires_grad_([on]), state_dict(),
      load_state_dict(dict[, strict]), to(device), step(x_t), reset_state(), class()
    net:step(x_t [N, ...]) runs one time step and keeps the membranes; net:reset_state() forgets them.
    Initial values are drawn when somebody first looks at them, keyed by (seed, name in the outermost net at that
    moment): the same script gives the same weights, and no two layers share a draw.]])

for name, text in pairs {
  forward = "net:forward(x, ...) -> y, ...\n\nWhat net(x, ...) runs; a module of your own defines it.",
  class = "net:class() -> string\n\nThe name of its class.",
  parameters = "net:parameters() -> list\n\nIts parameters and those of its modules, shared ones once, in order of assignment.",
  named_parameters = "for name, p in net:named_parameters() do ... end\n\nParameters with their names in files, like \"0.weight\".",
  buffers = "net:buffers() -> list\n\nTensors that are stored but not trained, like running means.",
  named_buffers = "for name, b in net:named_buffers() do ... end\n\nBuffers with their names in files.",
  modules = "net:modules() -> list\n\nThe module itself and all modules below it.",
  named_modules = "for name, module in net:named_modules() do ... end\n\nThe module itself (\"\") and all modules below it.",
  children = "net:children() -> list\n\nThe modules directly below.",
  named_children = "for name, module in net:named_children() do ... end\n\nThe modules directly below.",
  train = "net:train([on]) -> net\n\nTraining mode, or with on = false evaluation: what dropout and normalisation go by.",
  eval = "net:eval() -> net\n\nEvaluation mode: no dropout, running statistics.",
  apply = "net:apply(fn) -> net\n\nCalls fn(module) for the module itself and all below it.",
  zero_grad = "net:zero_grad() -> net\n\nDrops the gradients of all parameters.",
  requires_grad_ = "net:requires_grad_([on]) -> net\n\nLets all parameters collect gradients, or with on = false none.",
  to = "net:to(device) -> net\n\nMoves parameters and buffers in place, with their gradients and what optimizers keep of them: tensors and optimizers " ..
    "taken before stay in use. Inputs have to be on the same device: ms.device(name) makes batches there.",
  state_dict = "net:state_dict() -> table\n\nParameters and buffers by name; pairs() goes in order of assignment.",
  load_state_dict = "net:load_state_dict(dict[, strict]) -> net\n\nCopies tensors by name; names and shapes must fit, with strict = false only " ..
    "the shapes of those there are.",
  step = "net:step(x [N, ...]) -> y [N, ...]\n\nOne time step; neurons keep their membranes until net:reset_state().",
  reset_state = "net:reset_state() -> net\n\nForgets the membranes that net:step keeps; net(x) starts from zero anyway.",
} do
  doc.set(Module[name], text)
end

return setmetatable(Module, { __call = new_class, __name = "class Module" })
