-- moonspike.optim: optimizers (SGD, Adam, AdamW in core; others in Lua over the same base) and schedules.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local capture = require "moonspike.capture"

local optim = {}

local Base = {}

-- A list of parameters, or a list of groups { params = {...}, lr = ... } -> list of groups with every setting filled in.
local function read_groups(name, params, settings, spec)
  if type(params) ~= "table" or getmetatable(params) then
    o.fail("%s: params: expected a list of parameters (net:parameters()) or of groups, got %s", name, o.show(params))
  end
  if #params == 0 then o.fail("%s: params: expected at least one parameter, got an empty list", name) end
  local given = type(params[1]) == "table" and params or { { params = params } }
  local groups = {}
  for i, group in ipairs(given) do
    if type(group) ~= "table" or type(group.params) ~= "table" then
      o.fail("%s: params: group %d: expected { params = {...}, ... }, got %s", name, i, o.show(group))
    end
    local own = {}
    for _, key in ipairs(o.keys(group)) do
      if key ~= "params" then own[key] = group[key] end
    end
    own = o.read(name, own, spec)
    for _, key in ipairs(o.keys(spec)) do
      if group[key] == nil then own[key] = settings[key] end
    end
    for j, p in ipairs(group.params) do
      if not o.is_tensor(p) then o.fail("%s: params: %d: expected a tensor, got %s", name, j, o.show(p)) end
    end
    own.params = group.params
    groups[i] = own
  end
  return groups
end

-- Every parameter with its group, in order.
function Base:each()
  local list = {}
  for _, group in ipairs(self.param_groups) do
    for _, p in ipairs(group.params) do list[#list + 1] = { p, group } end
  end
  return list
end

function Base:zero_grad()
  for _, pair in ipairs(self:each()) do pair[1].grad = nil end
end

-- For optimizers written in Lua: update(p, g, state, group) for each parameter that has a gradient.
function Base:step()
  local was <close> = autograd.guard(false)
  for i, pair in ipairs(self:each()) do
    local p, group = pair[1], pair[2]
    local g = p.grad
    if g then
      self.state[i] = self.state[i] or {}
      for key, value in next, self.state[i] do -- the parameter may have moved
        if o.is_tensor(value) and value.device ~= p.device then self.state[i][key] = value:to(p.device) end
      end
      self:update(p, g, self.state[i], group)
    end
  end
end

function Base:update()
  o.fail("%s: update(p, g, state, group) is not defined", self.name)
end

-- Plain data and tensors: { groups = list of settings, state = list of { name = tensor or number } }.
function Base:state_dict()
  local groups = {}
  for i, group in ipairs(self.param_groups) do
    groups[i] = {}
    for _, key in ipairs(o.keys(group)) do
      if key ~= "params" then groups[i][key] = group[key] end
    end
  end
  local state = {}
  for i = 1, #self:each() do
    state[i] = {}
    for _, key in ipairs(o.keys(self.state[i] or {})) do
      local value = self.state[i][key]
      state[i][key] = o.is_tensor(value) and value:clone() or value
    end
  end
  return { groups = groups, state = state }
end

function Base:load_state_dict(dict)
  self:check_state(dict)
  for i, group in ipairs(dict.groups) do
    for _, key in ipairs(o.keys(group)) do self.param_groups[i][key] = group[key] end
  end
  self:load_state(dict.state)
end

function Base:check_state(dict)
  if type(dict) ~= "table" or type(dict.groups) ~= "table" or type(dict.state) ~= "table" then
    o.fail("load_state_dict: dict: expected { groups, state }, got %s", o.show(dict))
  end
  local count = #self:each()
  if #dict.groups ~= #self.param_groups or #dict.state ~= count then
    o.fail("load_state_dict: expected %d groups and %d parameters, got %d and %d", #self.param_groups, count, #dict.groups, #dict.state)
  end
  for i, group in ipairs(dict.groups) do
    for _, key in ipairs(o.keys(self.spec)) do
      if group[key] ~= nil then o.check(("load_state_dict: group %d"):format(i), key, group[key], self.spec[key]) end
    end
  end
end

function Base:load_state(state)
  for i, entry in ipairs(state) do
    self.state[i] = {}
    for _, key in ipairs(o.keys(entry)) do
      self.state[i][key] = o.is_tensor(entry[key]) and entry[key]:clone() or entry[key]
    end
  end
end

-- A class of optimizers; spec maps options to rules (options.lua) or, for users, to plain defaults.
local function class(name, spec)
  for _, key in ipairs(o.keys(spec)) do
    if type(spec[key]) ~= "table" or spec[key].test == nil then
      local default = spec[key]
      spec[key] = o.where(default, "a " .. type(default), function(v) return type(v) == type(default) end)
    end
  end
  local new = setmetatable({ name = name, spec = spec }, { __index = Base })
  local mt = { __name = "optim." .. name, class = new, __index = new }
  function mt.__tostring(self)
    local lines = {}
    for i, group in ipairs(self.param_groups) do
      local text = { ("%d parameter%s"):format(#group.params, #group.params == 1 and "" or "s") }
      for _, key in ipairs(o.keys(spec)) do
        local v = group[key]
        text[#text + 1] = key .. " = " .. (type(v) == "table" and "{ " .. table.concat(v, ", ") .. " }" or tostring(v))
      end
      lines[i] = ("optim.%s { %s }"):format(name, table.concat(text, ", "))
    end
    return table.concat(lines, "\n")
  end
  local function construct(_, params, opts)
    local self = setmetatable({ state = {} }, mt)
    self.param_groups = read_groups(name, params, o.read(name, opts, spec), spec)
    if self.open then self:open() end
    return self
  end
  local outer = getmetatable(new)
  outer.__call, outer.__name = construct, "class " .. name
  return new
end

function optim.Optimizer(name, defaults)
  o.check("Optimizer", "name", name, o.string())
  return class(name, o.check("Optimizer", "defaults", defaults or {}, o.table()))
end

-- ---- in core ----

local lr, weight_decay = o.number(1e-3, { from = 0 }), o.number(0, { from = 0 })
local betas = o.where({ 0.9, 0.999 }, "two numbers from 0 to below 1", function(v)
  return type(v) == "table" and #v == 2 and math.type(v[1]) and math.type(v[2]) and v[1] >= 0 and v[1] < 1 and v[2] >= 0 and v[2] < 1
end)

-- The fields core knows, from a group's settings.
local function settings_of(group, fixed)
  local s = {}
  for key, value in pairs(fixed) do s[key] = value end
  for _, key in ipairs { "lr", "weight_decay", "momentum", "dampening", "eps", "nesterov", "maximize" } do s[key] = group[key] end
  if group.betas then s.beta1, s.beta2 = group.betas[1], group.betas[2] end
  return s
end

local function same(a, b)
  for key, value in pairs(a) do
    if b[key] ~= value then return false end
  end
  return true
end

local count = o.integer(nil, { from = 0 })

local function in_core(name, kind, spec, fixed)
  local new = class(name, spec)

  function new:open()
    self.core = core.optim.new(kind)
    self.pushed = {}
    for i, group in ipairs(self.param_groups) do
      local s = settings_of(group, fixed)
      self.core:add_group(group.params, s)
      self.pushed[i] = s
    end
  end

  -- Brings settings that were changed (by a schedule, by hand) to core.
  function new:push()
    for i, group in ipairs(self.param_groups) do
      local s = settings_of(group, fixed)
      if not same(s, self.pushed[i]) then
        self.core:set(i, s)
        self.pushed[i] = s
      end
    end
  end

  function new:step()
    self:push()
    capture.optimizer(self)
    self.core:step()
  end

  function new:zero_grad() self.core:zero_grad() end

  function new:state_dict()
    local dict = Base.state_dict(self)
    for i = 1, self.core:count() do
      local _, m, v, step = self.core:state(i)
      dict.state[i] = { m = m, v = v, step = step }
    end
    return dict
  end

  function new:check_state(dict)
    Base.check_state(self, dict)
    for i, entry in ipairs(dict.state) do
      o.check(("load_state_dict: parameter %d"):format(i), "step", entry.step or 0, count)
    end
  end

  function new:load_state(state)
    for i, entry in ipairs(state) do self.core:set_state(i, entry.m, entry.v, entry.step or 0) end
  end

  optim[name] = new
end

in_core("SGD", "sgd", {
  lr = lr, weight_decay = weight_decay, momentum = o.number(0, { from = 0 }), dampening = o.number(0),
  nesterov = o.boolean(false), maximize = o.boolean(false),
}, { decoupled = false })
in_core("Adam", "adam", {
  lr = lr, weight_decay = weight_decay, betas = betas, eps = o.number(1e-8, { from = 0 }), maximize = o.boolean(false),
}, { decoupled = false })
in_core("AdamW", "adam", {
  lr = lr, weight_decay = o.number(0.01, { from = 0 }), betas = betas, eps = o.number(1e-8, { from = 0 }), maximize = o.boolean(false),
}, { decoupled = true })

optim.clip_grad_norm = core.nn.clip_grad_norm
optim.clip_grad_value = core.nn.clip_grad_value

for name, value in pairs(require "moonspike.optim.schedule") do optim[name] = value end

local shared = [[


    params: net:parameters(), or groups { { params = {...}, lr = ... }, ... }. opt:step(), opt:zero_grad(), opt.param_groups[i].lr,
    opt:state_dict(), opt:load_state_dict(dict). A parameter without a gradient is left alone.]]
doc.set(optim.SGD, "optim.SGD(params, { lr = 1e-3, momentum = 0, dampening = 0, nesterov = false, weight_decay = 0, maximize = false })\n\n" ..
  "    As torch.optim.SGD." .. shared)
doc.set(optim.Adam, "optim.Adam(params, { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0, maximize = false })\n\n" ..
  "    As torch.optim.Adam; weight_decay is added to the gradient. Kingma and Ba 2015." .. shared)
doc.set(optim.AdamW, "optim.AdamW(params, { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0.01, maximize = false })\n\n" ..
  "    As torch.optim.AdamW; weight_decay shrinks the weights directly. Loshchilov and Hutter 2019." .. shared)
doc.set(optim.Optimizer, [[
    optim.Optimizer(name, { option = default, ... }) -> class

    An optimizer in Lua. Define update(p, g, state, group), called without recording for each parameter that has a gradient; state is the
    parameter's own table (tensors and numbers in it are checkpointed), group holds the options.

      local Sign = optim.Optimizer("Sign", { lr = 0.01 })
      function Sign:update(p, g, state, group) p:sub_(g:sign() * group.lr) end
      local opt = Sign(net:parameters(), { lr = 0.1 })]])
doc.set(optim, [[
    ms.optim: SGD Adam AdamW Optimizer; StepLR MultiStepLR CosineAnnealingLR LinearWarmup SequentialLR; clip_grad_norm clip_grad_value]])

return o.named(optim, "optim")
