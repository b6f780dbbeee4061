-- ms.engines: which convolution engine ran in each layer and why, forcing one, and the break-even table: shipped, measured on this
-- machine, or from a file. Also what checkpoints and logs keep of it.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"
local autograd = require "moonspike.autograd"
local columns = require "moonspike.columns"
local Module = require "moonspike.nn.module"

local raw = core.engines
local engines, module = {}, {}

-- ---- the report ----

local function summary()
  local device = core.device.current()
  local props, rows, origin = raw.properties(), raw.table()
  local all, layers = raw.forced()
  return {
    device = device, description = props.name, bf16 = props.bf16, threads = core.device.threads(), engines = raw.available(),
    deterministic = raw.deterministic(), table = origin, rows = #rows, forced = all, forced_layers = layers, autocast = autograd.autocast(),
  }
end

local function times(pair) return pair[1] == pair[2] and tostring(pair[1]) or ("(%d, %d)"):format(pair[1], pair[2]) end

local function shape(use)
  if use.h == 1 and use.w == 1 and use.kernel[1] == 1 and use.kernel[2] == 1 then
    return ("[%d, %d] -> %d"):format(use.n, use.cin, use.cout)
  end
  local stride = times(use.stride)
  return ("[%d, %d, %d, %d] %dx%d%s%s -> %d"):format(use.n, use.cin, use.h, use.w, use.kernel[1], use.kernel[2], stride ~= "1" and "/" .. stride or "",
    use.groups > 1 and (" groups %d"):format(use.groups) or "", use.cout)
end

local function forced_text(report)
  local list = { report.forced }
  for _, layer in ipairs(o.keys(report.forced_layers)) do list[#list + 1] = ("%s on %s"):format(report.forced_layers[layer], layer) end
  return #list > 0 and table.concat(list, ", ") or "none"
end

local Report = { __name = "report of engines" }

function Report.__tostring(report)
  local lines = {
    ("%s: %s, %d threads%s"):format(report.device, report.description, report.threads, report.bf16 and ", bfloat16 products" or ""),
    ("engines: %s; forced: %s; deterministic: %s; autocast: %s"):format(table.concat(report.engines, ", "), forced_text(report),
      report.deterministic and "yes" or "no", report.autocast),
    ("break-even table: %s, %d rows"):format(report.table, report.rows),
  }
  if #report == 0 then
    lines[#lines + 1] = "no convolution or linear layer has run since the last reset"
    return table.concat(lines, "\n")
  end
  local rows = { { "layer", "shape", "pass", "engine", "input", "density", "calls", "reason" } }
  for _, use in ipairs(report) do
    local layer = use.layer ~= "" and use.layer or "(no name)"
    local input = use.input .. (use.counts and " counts" or "") .. (use.precision ~= "float32" and (" in %s"):format(use.precision) or "")
    rows[#rows + 1] = { layer, use.shape, use.pass, use.engine, input, use.density and ("%.3f"):format(use.density) or "-", tostring(use.calls),
      use.reason }
  end
  lines[#lines + 1] = columns(rows)
  return table.concat(lines, "\n")
end

local function report()
  local list = summary()
  for i, use in ipairs(raw.uses()) do
    use.shape = shape(use)
    list[i] = use
  end
  return setmetatable(list, Report)
end

local ran = {} -- every engine that ran, in resumed runs before too: a reset of the report does not change what happened

local function note_used()
  for _, use in ipairs(raw.uses()) do ran[use.engine] = true end
  return o.keys(ran)
end

function engines.reset()
  note_used()
  raw.reset()
end

function engines.available() return raw.available() end

-- ---- forcing ----

local function weight_names(net)
  local names = {}
  for _, p in ipairs(net:parameters()) do
    if #p.shape > 1 and p.name ~= "" then names[#names + 1] = p.name end
  end
  return names
end

function engines.force(name, net)
  if name ~= nil and name ~= false and type(name) ~= "string" then
    o.fail("engines: force: engine: expected a name, nil or false, got %s", o.show(name))
  end
  if net == nil then return raw.force(name or nil) end
  if not Module._is_module(net) then o.fail("engines: force: module: expected a module, got %s", o.show(net)) end
  local names = weight_names(net)
  if #names == 0 then o.fail("engines: force: module: expected one with a weight that has a name, got %s", net:class()) end
  for _, layer in ipairs(names) do raw.force(name or nil, layer) end
end

function module.deterministic(on)
  if on == nil then return raw.deterministic() end
  return raw.deterministic(o.check("deterministic", "on", on, o.boolean()))
end

-- ---- the table ----

-- Only what came with 1 to n as keys: a file may hold anything.
local function check_list(rows)
  if type(rows) ~= "table" then o.fail("engines: table: expected a list of rows, got %s", o.show(rows)) end
  for key in next, rows do
    if math.type(key) ~= "integer" or key < 1 or key > #rows then
      o.fail("engines: table: expected a list of rows, got a table with the key '%s'", tostring(key))
    end
  end
  return rows
end

function engines.table() return (raw.table()) end

function engines.set_table(rows)
  if rows == nil then return raw.set_table() end
  raw.set_table(check_list(rows), "set")
end

local MOST_BYTES = 1 << 20

function engines.save(path)
  o.check("engines: save", "path", path, o.string())
  local state = { format = "moonspike engines", version = 1, machine = raw.properties().name, table = core.json.array(engines.table()) }
  local ok, why = core.system.write_file(path, core.json.encode(state) .. "\n")
  if not ok then o.fail("engines: save: %s", (why:gsub("^write_file: ", ""))) end
end

local function decode(path)
  local file, why = io.open(path, "rb")
  if not file then return nil, why end
  local text, failed = file:read(MOST_BYTES + 1)
  file:close()
  if not text then return nil, ("%s: %s"):format(path, failed or "the file is empty") end
  if #text > MOST_BYTES then return nil, ("%s: expected at most %d bytes"):format(path, MOST_BYTES) end
  local state, wrong = core.json.decode(text)
  if wrong then return nil, ("%s: %s"):format(path, wrong) end
  if type(state) ~= "table" or state.format ~= "moonspike engines" then
    return nil, path .. ": expected a file written by ms.engines.save"
  end
  if state.version ~= 1 then return nil, ("%s: expected version 1, got %s"):format(path, o.show(state.version)) end
  return state
end

function engines.load(path)
  o.check("engines: load", "path", path, o.string())
  local state, why = decode(path)
  if not state then o.fail("engines: load: %s", why) end
  local ok, wrong = pcall(function() raw.set_table(check_list(state.table), "loaded") end)
  if not ok then o.fail("engines: load: %s: %s", path, o.reason(wrong)) end
end

-- ---- calibration ----

-- In order of weight: where time runs out the last keep what they had. { kernel, stride, padding, cin, cout, image }
local classes = {
  { 3, 1, 1, 128, 128, 32 }, { 3, 1, 1, 64, 64, 32 }, { 3, 1, 1, 256, 256, 16 }, { 3, 1, 1, 16, 16, 32 }, { 3, 2, 1, 64, 128, 32 },
  { 1, 1, 0, 256, 128, 16 }, { 4, 2, 1, 64, 64, 32 }, { 3, 2, 1, 64, 64, 32 }, { 1, 1, 0, 64, 64, 32 },
}
local WORK = 3e8 -- products of a call: some milliseconds

local function class_shapes(precisions)
  local shapes = {}
  for _, precision in ipairs(precisions) do
    for _, c in ipairs(classes) do
      local pixels = (c[6] // c[2]) ^ 2
      local n = math.ceil(WORK / (pixels * c[1] ^ 2 * c[4] * c[5]))
      shapes[#shapes + 1] = { n = math.max(2, n), h = c[6], w = c[6], cin = c[4], cout = c[5], kernel = c[1], stride = c[2], padding = c[3],
        precision = precision }
    end
  end
  return shapes
end

local function taps(s)
  local kernel, stride = s.kernel, s.stride
  if type(kernel) == "number" then return kernel * kernel // (stride * stride) end
  return kernel[1] * kernel[2] // (stride[1] * stride[2])
end

local function row_key(s) return ("%d %d %d %s"):format(taps(s), s.cin, s.cout, s.precision) end

local PIXELS = 512 -- smaller outputs never go by events

-- What the layers of net ran last, one of each class: the one with the most work.
local function net_shapes(net)
  local own, best, shapes = {}, {}, {}
  for _, name in ipairs(weight_names(net)) do own[name] = true end
  local function work(s) return s.n * s.h * s.w end
  for _, use in ipairs(raw.uses()) do
    if own[use.layer] and use.groups == 1 and use.device == core.device.current() then
      local pixels = math.ceil(use.h / use.stride[1]) * math.ceil(use.w / use.stride[2])
      local s = { n = math.max(use.n, math.ceil(PIXELS / pixels)), h = use.h, w = use.w, cin = use.cin, cout = use.cout, kernel = use.kernel, stride = use.stride, padding = use.padding,
        dilation = use.dilation, precision = use.precision }
      local key = row_key(s)
      if not best[key] then shapes[#shapes + 1] = key end
      if not best[key] or work(s) > work(best[key]) then best[key] = s end
    end
  end
  for i, key in ipairs(shapes) do shapes[i] = best[key] end
  if #shapes == 0 then o.fail("engines: calibrate: net: expected a network that has run since the last ms.engines.reset(), got %s", net:class()) end
  return shapes
end

-- The first row that fits decides: of rows that fit a layer the one of its own shape comes first.
local function sort(rows)
  table.sort(rows, function(a, b)
    for _, key in ipairs { "precision", "taps", "cin", "cout" } do
      if a[key] ~= b[key] then return a[key] > b[key] end
    end
    return false
  end)
  return rows
end

local function present_row(s, rows)
  local new = { taps = taps(s), cin = s.cin, cout = s.cout, precision = s.precision }
  for _, row in ipairs(rows) do
    if row.precision == s.precision and new.taps >= row.taps and s.cin >= row.cin and s.cout >= row.cout then
      for _, key in ipairs { "forward", "weight_grad", "forward_counts", "weight_grad_counts", "input_grad" } do new[key] = row[key] end
      return new
    end
  end
  return new
end

local spec = { seconds = o.number(20, { above = 0 }), quiet = o.boolean(false), net = o.where(nil, "a module", Module._is_module) }

function engines.calibrate(opts)
  local opt = o.read("engines: calibrate", opts, spec)
  local clock, old, rows = core.system.clock, engines.table(), {}
  local shapes = opt.net and net_shapes(opt.net) or class_shapes(raw.properties().bf16 and { "float32", "bfloat16" } or { "float32" })
  local stop, kept = clock() + opt.seconds, 0
  for i, s in ipairs(shapes) do
    local left = stop - clock()
    local measured = left > 0 or i == 1
    local row = measured and raw.measure(s, math.max(0, left) / (#shapes - i + 1)) or present_row(s, old)
    rows[i], kept = row, kept + (measured and 0 or 1)
    if measured and not opt.quiet then
      print(("%2d of %d: %d taps, %d -> %d, %s: forward %.2f, weight grad %.2f; counts %.2f, %.2f; input grad %.2f"):format(i, #shapes, row.taps, row.cin,
        row.cout, row.precision, row.forward, row.weight_grad, row.forward_counts, row.weight_grad_counts, row.input_grad))
    end
  end
  if kept > 0 and not opt.quiet then print(("out of time: %d rows keep what they had"):format(kept)) end
  raw.set_table(sort(rows), "calibrated")
  return engines.table()
end

-- ---- what a run keeps of it ----

-- What reproduces the choice, for a checkpoint. The shipped table goes by its name.
function module.state()
  local s = summary()
  return {
    device = s.device, available = core.json.array(s.engines), used = core.json.array(note_used()), deterministic = s.deterministic, forced = s.forced,
    forced_layers = next(s.forced_layers) and s.forced_layers or nil,
    table = s.table ~= "shipped" and core.json.array(engines.table()) or nil, origin = s.table,
  }
end

-- One record at the head of a log.
function module.record()
  local state = module.state()
  state.threads, state.used, state.autocast = core.device.threads(), nil, autograd.autocast()
  state.machine, state.version = raw.properties().name, core.device.versions()[1][2]
  return state
end

local function strings(list)
  if type(list) ~= "table" then return false end
  for _, v in next, list do
    if type(v) ~= "string" then return false end
  end
  return true
end

-- What is wrong with a state that came from a file, or nil.
function module.flaw(state)
  if type(state) ~= "table" then return ("engines: expected a table, got %s"):format(o.show(state)) end
  if not strings(state.available) or not strings(state.used) or not strings(state.forced_layers or {}) then
    return "engines: expected lists of names"
  end
  if type(state.deterministic) ~= "boolean" then return "engines: deterministic: expected true or false" end
  for _, key in ipairs { "device", "forced", "origin" } do
    if state[key] ~= nil and type(state[key]) ~= "string" then return ("engines: %s: expected a name"):format(key) end
  end
end

local function has(list, name)
  for _, v in ipairs(list) do
    if v == name then return true end
  end
  return false
end

-- Brings table, flag and forced engines back; nothing is changed when the table is damaged. Returns what could not be
-- brought back, as sentences.
function module.restore(state)
  local notes, known = {}, raw.available()
  for _, name in ipairs(state.used) do ran[name] = true end
  if state.device and state.device ~= core.device.current() then
    return { ("ran on %s, this run is on %s: results differ in the last bits"):format(state.device, core.device.current()) }
  end
  if state.table then raw.set_table(check_list(state.table), state.origin) else raw.set_table() end
  raw.deterministic(state.deterministic)
  raw.force()
  local function force(name, layer)
    if has(known, name) then return raw.force(name, layer) end
    notes[#notes + 1] = ("forced the engine %s, which is not here"):format(name)
  end
  if state.forced then force(state.forced) end
  for _, layer in ipairs(o.keys(state.forced_layers or {})) do force(state.forced_layers[layer], layer) end
  local before, here = table.concat(state.available, ", "), table.concat(known, ", ")
  if before ~= here then notes[#notes + 1] = ("had the engines %s, here are %s: results may differ in the last bits"):format(before, here) end
  return notes
end

-- Did an engine run whose results depend on the number of threads?
function module.is_loose(state)
  for _, name in ipairs(state.used) do
    if raw.is_loose(name) then return true end
  end
  return false
end

-- ---- help ----

doc.set(engines.reset, [[
    ms.engines.reset()

    Forgets which layers ran; ms.engines() starts anew.]])
doc.set(engines.available, [[
    ms.engines.available() -> list

    Names of the convolution engines that the current device runs.]])
doc.set(engines.force, [==[
    ms.engines.force(engine[, module])

    From now on this engine runs wherever it supports the shape: in all layers, or in those of one module (they go by the names of their
    weights). Nothing, nil or false: as usual again, for all layers or those of the module.]==])
doc.set(engines.table, [[
    ms.engines.table() -> rows

    The break-even table: a layer goes by the first row of its precision whose taps (kernel elements / stride elements), cin and cout it
    reaches. Below the limits forward, weight_grad (inputs 0 and 1), forward_counts, weight_grad_counts (greater ones too) and
    input_grad (share of ones in the mask) events run, else the dense engine.]])
doc.set(engines.set_table, [[
    ms.engines.set_table(rows)

    Replaces the break-even table by rows as ms.engines.table() gives them; nil: the shipped one.]])
doc.set(engines.save, [[
    ms.engines.save(path)

    Writes the break-even table as JSON.]])
doc.set(engines.load, [[
    ms.engines.load(path)

    Takes the break-even table from a file of ms.engines.save. Nothing is changed when the file is damaged.]])
doc.set(engines.calibrate, [[
    ms.engines.calibrate{ seconds = 20, net = nil, quiet = false } -> rows

    Measures on this machine, with its present number of threads, up to which density events beat the dense engine, and installs the
    table. net: only the shapes that this network ran last. Where time runs out, rows keep their limits; Ctrl-C leaves the old table.]])
doc.set(module.deterministic, [[
    ms.deterministic([on]) -> boolean

    With true only engines run whose results do not depend on the number of threads: our own, not oneDNN. Without an argument asks.]])

local mt = getmetatable(o.named(engines, "engines"))
mt.__name, mt.__call = "engines", report
module.engines = doc.set(engines, [[
    ms.engines() -> report

    Which engine each pass of each convolution and linear layer ran last, and why; print it, or read it as a list of tables: layer, pass,
    engine, reason, density (nil: not known), counts, input, precision, shape, calls; and its fields device, threads, engines, table ...
    ms.engines.force(name) runs one engine everywhere, calibrate() measures where events pay on this machine; available, table,
    set_table, save, load, reset.]])

return module
