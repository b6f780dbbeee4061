-- Loss landscapes: loss and accuracy of a data set on a line or a plane through a net's weights.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local evaluate = require "moonspike.evaluate"
local progress = require "moonspike.progress"
local Module = require "moonspike.nn.module"
local directions = require "moonspike.analysis.directions"
local points = require "moonspike.analysis.points"
local sharpness = require "moonspike.analysis.sharpness"

local landscape = {}

local MOST = 1001 -- points of a direction

local spec = {
  directions = o.integer(1, { from = 1, to = 2 }), points = o.integer(51, { from = 2, to = MOST }), from = o.number(-1), to = o.number(1),
  seed = o.integer(123), ignore = o.choice("biasbn", { "biasbn", "none" }), norm = o.choice("filter", { "filter", "layer" }),
  criterion = o.callable(nil), file = o.string(nil), name = o.string(nil), resume = o.boolean(false), progress = o.boolean(false),
}

local shape = { "directions", "points", "from", "to", "seed", "norm", "ignore" } -- the options that say where its points lie
local VERSION = 1 -- of files

-- ---- what a landscape is of ----

local function hash_of(net)
  local lines = {}
  for name, t in pairs(net:state_dict()) do
    lines[#lines + 1] = ("%s %s %s %s\n"):format(name, t.dtype, o.shape(t), core.data.crc32(t:detach():bytes()))
  end
  return core.data.crc32(table.concat(lines))
end

-- Of the modules and their options: what the weights do not tell.
local function hash_of_modules(net)
  local lines = {}
  for name, module in net:named_modules() do
    local extra = getmetatable(module).class.extra
    lines[#lines + 1] = ("%s %s %s\n"):format(name, module:class(), extra and extra(module) or "")
  end
  return core.data.crc32(table.concat(lines))
end

local function has_settings(set) return type(set) == "table" and set.loading end
local function has_text(criterion) return type(criterion) == "table" and getmetatable(criterion).__tostring end

-- A function looks like every other one: what goes on with a file has to say by a name that it is the same.
local function check_resumable(set, opt)
  local blamed = opt.criterion and not has_text(opt.criterion) and "criterion" or not has_settings(set) and "loader"
  if blamed and not opt.name then
    o.fail("landscape: %s: expected, where resume goes on with a file, what can be told from others or the option name beside it, got a function", blamed)
  end
end

local function settings_of(net, set, opt)
  local criterion = opt.criterion
  local self = { version = VERSION, weights = hash_of(net), network = hash_of_modules(net), autocast = autograd.autocast(), name = opt.name,
    criterion = not criterion and "CE of the mean logits" or has_text(criterion) and tostring(criterion) or "a function" }
  for _, key in ipairs(shape) do self[key] = opt[key] end
  self.from, self.to = opt.from + 0.0, opt.to + 0.0 -- written alike, -1 or -1.0
  if has_settings(set) then
    self.set, self.samples, self.T, self.batch_size = set.name, #set, set.T, set.loading.batch_size
    self.mean, self.std, self.members = set.loading.mean, set.loading.std, set.hash and set:hash()
  end
  return self
end

-- ---- the grid ----

local function axis(settings)
  local list, n = {}, settings.points
  for i = 1, n do list[i] = i == n and settings.to or settings.from + (settings.to - settings.from) * (i - 1) / (n - 1) end
  return list
end

-- Where point `number` lies: 0 is the centre, then x runs fastest.
local function place(settings, x, number)
  if number == 0 then return settings.directions == 2 and { 0, 0 } or { 0 } end
  local i, j = (number - 1) % #x + 1, (number - 1) // #x + 1
  return settings.directions == 2 and { x[i], x[j] } or { x[i] }
end

local Landscape = { __name = "loss landscape" }
Landscape.__index = Landscape
Landscape.sharpness = sharpness.of

-- Values of the points as a list, or as a list of rows, one for each y; nan where a point is missing.
local function grid(settings, list, key)
  local n, rows = settings.points, {}
  for j = 1, n ^ (settings.directions - 1) do
    rows[j] = {}
    for i = 1, n do
      local point = list[(j - 1) * n + i + 1]
      rows[j][i] = point and point[key] or 0 / 0
    end
  end
  return settings.directions == 2 and rows or rows[1]
end

local function total(settings) return math.tointeger(settings.points ^ settings.directions) end

local function result(settings, list)
  local x = axis(settings)
  return setmetatable({
    x = x, y = settings.directions == 2 and axis(settings) or nil, z = grid(settings, list, "loss"), accuracy = grid(settings, list, "accuracy"),
    centre = list[1], done = math.max(#list - 1, 0), total = total(settings), settings = settings,
  }, Landscape)
end

function Landscape:__tostring()
  local s, least, most = self.settings, math.huge, -math.huge
  for _, row in ipairs(self.y and self.z or { self.z }) do
    for _, v in ipairs(row) do
      if v == v then least, most = math.min(least, v), math.max(most, v) end
    end
  end
  return ("Loss landscape: %d of %d points, %d to a direction, from %g to %g; directions by seed %d, normalised by %s%s; %s%s\n"
    .. "loss %.5g and accuracy %.4f at the centre, losses from %.5g to %.5g"):format(self.done, self.total, s.points, s.from, s.to, s.seed, s.norm,
    self.cosine and (", their cosine %.4f"):format(self.cosine) or "", s.criterion, s.set and (" of %s"):format(s.set) or "",
    self.centre and self.centre.loss or 0 / 0, self.centre and self.centre.accuracy or 0 / 0, least, most)
end

-- ---- measuring ----

local function finite(v) return v - v == 0 and v or 0 / 0 end

local function walk(net, set, list, settings, opt, found, writer)
  local back <close> = directions.returning(list)
  local x, first, last = axis(settings), #found, total(settings)
  local function next_point(_, control)
    local number = control == nil and first or control + 1
    return number <= last and number or nil
  end
  local bar <close> = opt.progress and progress(next_point, "landscape", { total = last + 1 - first }) or nil
  for number in bar or next_point do
    local steps = place(settings, x, number)
    directions.move(list, steps)
    local accuracy, loss = evaluate(net, set, { synops = false, criterion = opt.criterion })
    found[number + 1] = { loss = finite(loss), accuracy = accuracy }
    if writer then writer:write(number, steps, finite(loss), accuracy) end
  end
end

-- A data set whole, in order, without augmentation, and what closes it.
local function plainly(loader)
  if type(loader) ~= "table" or not loader.plain then return loader end
  local set = loader:plain()
  return set, setmetatable({}, { __close = function() set:close() end })
end

function landscape.landscape(net, loader, opts)
  o.check("landscape", "net", net, o.where(nil, "a module", Module._is_module))
  o.check("landscape", "loader", loader, o.loader)
  local opt = o.read("landscape", opts, spec)
  if opt.from >= opt.to then o.fail("landscape: to: expected a number > from = %g, got %g", opt.from, opt.to) end
  if opt.resume and not opt.file then o.fail "landscape: file: expected the one to go on with, got nothing" end
  if opt.resume then check_resumable(loader, opt) end
  local set, closing <close> = plainly(loader)
  local was <close> = autograd.guard(false)
  local list = directions.make(net, opt)
  if #list == 0 then o.fail "landscape: net: expected weights of two dimensions or more, got none" end
  local settings = settings_of(net, set, opt)
  local writer, found = nil, {}
  if opt.file then writer, found = points.open(opt.file, settings, opt.resume) end
  local file <close> = writer
  walk(net, set, list, settings, opt, found, writer)
  local self = result(settings, found)
  self.cosine = opt.directions == 2 and directions.cosine(list) or nil
  return self
end

function landscape.read(path)
  o.check("read_landscape", "path", path, o.string())
  local settings, list = points.read(path)
  if not settings then return nil, list end
  for _, key in ipairs(shape) do
    local rule, v = spec[key], settings[key]
    if not rule.test(v) then return nil, ("%s: %s: expected %s, got %s"):format(path, key, rule.text, o.show(v)) end
  end
  return result(settings, list)
end

doc.set(landscape.landscape, [[
    analysis.landscape(net, loader[, { directions = 1 | 2, points = 51, from = -1, to = 1, seed = 123, norm = "filter" | "layer",
      ignore = "biasbn" | "none", criterion = nil, file = nil, name = nil, resume = false, progress = false }]) -> landscape

    Loss and accuracy of loader's data at the weights w + a d1 (+ b d2), a and b from `from` to `to` in `points` equal steps: Li et al. 2018,
    "Visualizing the Loss Landscape of Neural Nets", with the settings of its published code. Directions are normal deviates, by seed and
    parameter name alone, scaled such that each filter (slice of the first dimension; norm = "layer": each tensor) has the norm of w's; tensors of one
    dimension (biases, gains of normalisations) stay as they are (ignore = "none": they move along themselves). They are not made orthogonal.
    The net is in evaluation mode, running statistics stay, a data set is walked through whole, in order and without augmentation (other loaders as they
    are; an iterator function has to start anew in each loop). Loss: cross entropy of the mean logits, or the mean over samples of
    criterion(logits, y).

    landscape.x list of a; y list of b (two directions); z the losses, a list or z[j][i] at x[i], y[j]; accuracy likewise; centre { loss, accuracy };
    cosine of d1 and d2; settings, done and total (points). A loss that is not finite is nan. landscape:sharpness{ radius = 0.5 } puts it into figures.
    file: JSON lines, first the settings with hashes of the weights, of the modules and of the data's members, then each point as it is finished;
    resume = true goes on behind the last one (or begins), refuses other settings, networks or data, and ends with the same bytes. A criterion or
    loader that is a function cannot be told from another: resume needs the option name then, a text of yours among the settings.
    The weights are afterwards what they were, bit for bit, also after an error or Ctrl-C. Raises where the file exists and resume is false.]])
doc.set(landscape.read, [[
    analysis.read_landscape(path) -> landscape, or nil, message

    The landscape of a file that analysis.landscape wrote, also of one that is still being written: what is missing is nan.]])
doc.set(Landscape.sharpness, [[
    landscape:sharpness{ radius = 0.5 } -> { max, mean, curvature, largest, radius, points }

    Of the grid's points within radius of the centre (in units of the directions, whose filters are as long as the net's):
      max, mean   the largest and the mean of L(point) - L(centre)
      curvature   the second derivatives along each direction, of the polynomial of second order that fits L there best (least squares)
      largest     the largest eigenvalue of that polynomial's Hessian: the curvature in the steepest direction of the plane
    They compare nets by the same seed, grid, data and criterion; a loss that keeps logits small has a flatter cross entropy for that alone. No
    eigenvalue of the Hessian by differences of gradients is among them: surrogate gradients are not those of the loss and jump where a spike
    changes, so that it would depend on the step. Raises where the landscape is not finished or the points are too few for the fit.]])

return landscape
