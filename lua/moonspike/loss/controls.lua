-- The controls that TRT's paper lacks, and what its penalty does to given weights. The penalty does not see the data: the sum over t is
-- one static penalty on the weights.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local Module = require "moonspike.nn.module"
local regularised = require "moonspike.loss.regularised"

local controls = {}

local changes = {
  no_delta = { delta = 0 }, no_lambda = { lambda = 0 }, no_eta = { eta = 0 }, weights_only = { reg_params = "weights" }, fitted_l2 = {},
}
local which = o.choice(o.required, o.keys(changes))
local steps = o.integer(nil, { from = 1 })

local control_spec = { which = which, T = steps }
local strength_spec = { T = o.integer(4, { from = 1 }) }
for key, rule in next, regularised.spec do control_spec[key] = rule end
for _, key in ipairs { "lambda", "delta", "epsilon", "reg_t0" } do strength_spec[key] = regularised.spec[key] end

-- The strength of plain L2 whose penalty on params equals TRT's now.
local function fitted(params, opt)
  local squares = regularised.l2(params, 1)
  squares = squares and squares:item() or 0
  return squares > 0 and regularised.trt(params, opt, opt.T):item() / squares or 0
end

function controls.Control(net, opts)
  regularised.check_net("Control", net)
  local opt = o.read("Control", opts, control_spec)
  for key, value in next, changes[opt.which] do opt[key] = value end
  if opt.which ~= "fitted_l2" then
    if opt.which == "weights_only" and not Module._is_module(net) then net = regularised.parameters(net, "weights") end
    opt.which, opt.T = nil, nil
    return regularised.TRT(net, opt)
  end
  if not opt.T then o.fail("Control: T: expected the time steps that the penalty is fitted for, got nothing") end
  local was <close> = autograd.guard(false)
  local both = opt.reg_params ~= "weights"
  return regularised.L2(net, {
    weights = fitted(regularised.parameters(net, "weights"), opt),
    gammas = both and fitted(regularised.parameters(net, "gammas"), opt) or 0, eta = opt.eta, label_smooth = opt.label_smooth,
  })
end

-- ---- the effective coefficient ----

-- dr(t)/dw / w at |w| = m for each t.
local function coefficients(m, opt)
  local list, mean = {}, 0
  for i = 1, opt.T do
    local k = math.exp(opt.delta * (i - 1 + opt.reg_t0)) - 1
    local d = 1 + k * (m + opt.epsilon)
    list[i] = opt.lambda * (2 + k * (m + 2 * opt.epsilon)) / (d * d)
    mean = mean + list[i] / opt.T
  end
  return mean, list
end

local quantiles = { 0, 0.1, 0.5, 0.9, 0.99, 1 }

local function table_of(params, opt)
  local flat, grads, n = {}, 0, 0
  for i, p in ipairs(params) do
    flat[i] = p:detach():float():abs():reshape(-1)
    n = n + p:numel()
  end
  local sizes = core.ops.cat(flat, 1)
  local sorted = (sizes:sort())
  local rows = { n = n }
  for i, q in ipairs(quantiles) do
    local m = sorted[1 + math.floor(q * (n - 1) + 0.5)]:item()
    local mean, each = coefficients(m, opt)
    rows[i] = { quantile = q, size = m, coefficient = mean, each = each }
  end
  -- the one L2 that takes as much off the sum of squares: sum of c w^2 over sum of w^2
  local squares = sizes:square()
  for i = 1, opt.T do
    local k = math.exp(opt.delta * (i - 1 + opt.reg_t0)) - 1
    local d = (sizes + opt.epsilon) * k + 1
    grads = grads + (squares * ((sizes + 2 * opt.epsilon) * k + 2) / d:square()):sum():item() * opt.lambda / opt.T
  end
  local total = squares:sum():item()
  rows.coefficient = total > 0 and grads / total or 2 * opt.lambda
  return rows
end

local Strength = { __name = "TRT's effective strength" }

local function relative(c, opt) return opt.lambda > 0 and c / (2 * opt.lambda) or 1 end

local function lines_of(self, name, out)
  local rows, opt = self[name], self.options
  if not rows then return end
  out[#out + 1] = ("%s (%d)"):format(name, rows.n)
  out[#out + 1] = "  quantile      |w|   dR/dw / w   of L2's   by t, of L2's"
  for _, row in ipairs(rows) do
    local each = {}
    for t, c in ipairs(row.each) do each[t] = ("%.3f"):format(relative(c, opt)) end
    out[#out + 1] = ("  %7g%%  %8.3g  %10.4g  %7.3f   %s"):format(row.quantile * 100, row.size, row.coefficient,
      relative(row.coefficient, opt), table.concat(each, " "))
  end
  out[#out + 1] = ("  all together %24.4g  %7.3f   the one L2 that takes as much off the sum of squares"):format(rows.coefficient,
    relative(rows.coefficient, opt))
end

function Strength:__tostring()
  local opt, out = self.options, {}
  out[1] = ("TRT's penalty R on these weights: lambda %g, delta %g, epsilon %g, T %d, t from %d; L2 is lambda w^2, dR/dw / w = %g")
    :format(opt.lambda, opt.delta, opt.epsilon, opt.T, opt.reg_t0, 2 * opt.lambda)
  lines_of(self, "weights", out)
  lines_of(self, "gammas", out)
  local rows = self.weights or self.gammas
  local small, large = relative(rows[1].coefficient, opt), relative(rows[#rows].coefficient, opt)
  out[#out + 1] = ("R looks at the weights alone, not at what happens in a time step, and every step uses the same weights: the sum over t is one "
    .. "static penalty,\nthe same with the steps in reverse. \"Stronger on early steps\" says that the terms of early t are larger; it does not "
    .. "regularise early steps more.\nWhat delta does is to let large weights decay more slowly than small ones: here %.3f of L2's rate at the largest, "
    .. "%.3f at the smallest%s."):format(large, small,
    math.abs(large / small - 1) < 0.05 and ", which is all but plain L2" or "")
  return table.concat(out, "\n")
end

function controls.strength(net, opts)
  regularised.check_net("strength", net)
  local self = { options = o.read("strength", opts, strength_spec) }
  local was <close> = autograd.guard(false)
  for _, name in ipairs { "weights", "gammas" } do
    local params = regularised.parameters(net, name)
    if #params > 0 then self[name] = table_of(params, self.options) end
  end
  if not self.weights and not self.gammas then o.fail "strength: net: expected parameters to regularise, got none" end
  return setmetatable(self, Strength)
end

doc.set(controls.Control, [[
    loss.Control(net, { which =, T =, lambda = 1e-5, delta = 0.25, eta = 0.05, ... }) -> criterion

    What TRT's gains have to be compared with; the other options are loss.TRT's. which:
      "no_delta"      delta = 0: plain L2, lambda sum w^2
      "fitted_l2"     L2 with one strength for the weights and one for the gammas of normalisations, each such that its penalty equals TRT's
                      on the net as it is now (before training), for T steps: a loss.L2, whose .options hold them
      "no_lambda"     lambda = 0: the MSE term alone
      "no_eta"        eta = 0: the penalty alone
      "weights_only"  weights without gammas]])
doc.set(controls.strength, [[
    loss.strength(net, { lambda = 1e-5, delta = 0.25, epsilon = 1e-5, reg_t0 = 0, T = 4 }) -> report

    The effective coefficient dR/dw / w of TRT's penalty on the weights and the gammas of a (trained) net: over quantiles of |w|, whole and by t,
    beside plain L2's 2 lambda. print(report) shows it with what it means for "stronger on early steps"; report.weights and
    report.gammas are lists of { quantile, size, coefficient, each } with n and the coefficient of all together.]])

return controls
