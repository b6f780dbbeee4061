-- Parts of a set: validation, folds, subsets; and the hash by which two sets of members are told apart.

local core = require "moonspike.core"
local o = require "moonspike.options"
local Set = require "moonspike.data.set"

local function list_of(tensor) return tensor:totable() end

-- Positions of the set's samples by class, each list in the set's order.
local function by_class(self)
  local all, positions = list_of(self.labels), {}
  for i = 1, #self.classes do positions[i] = {} end
  for position, member in ipairs(list_of(self.members)) do
    table.insert(positions[all[member + 1] + 1], position)
  end
  return positions
end

local function take(self, positions)
  return self.members:index_select(1, core.tensor.tensor(positions, { dtype = "int64", device = "cpu" }):add(-1))
end

function Set:subset(positions, name)
  o.check("subset", "positions", positions, o.table(o.required))
  if #positions == 0 then o.fail "subset: positions: expected at least one, got none" end
  for i, p in ipairs(positions) do
    if not math.tointeger(p) or p < 1 or p > #self then o.fail("subset: positions[%d]: expected 1 to %d, got %s", i, #self, o.show(p)) end
  end
  if name ~= nil then o.check("subset", "name", name, o.string()) end
  return self:derive(take(self, positions), ("%s / %s"):format(self.split, name or "subset"), {})
end

-- For each class its positions in an order that the seed gives.
local function shuffled_classes(self, purpose, seed)
  local classes = by_class(self)
  for c, positions in ipairs(classes) do
    local order, mixed = list_of(core.data.order { n = #positions, seed = seed, purpose = ("%s %d"):format(purpose, c - 1) }), {}
    for i, at in ipairs(order) do mixed[i] = positions[at + 1] end
    classes[c] = mixed
  end
  return classes
end

local split_spec = { validation = o.number(o.required, { above = 0, below = 1 }), seed = o.integer(0) }
local plain = { shuffle = false, drop_last = false, balanced = false, augment = {}, plain = true } -- plain: nor by the source

-- Every sample once, in order, as it is.
function Set:plain() return self:derive(nil, nil, plain) end

function Set:cut(opts)
  local opt = o.read("cut", opts, split_spec)
  local train, validation = {}, {}
  for _, positions in ipairs(shuffled_classes(self, "validation", opt.seed)) do
    local n = math.floor(opt.validation * #positions + 0.5)
    for i, p in ipairs(positions) do table.insert(i <= n and validation or train, p) end
  end
  if #train == 0 or #validation == 0 then
    o.fail("cut: validation: expected a share that leaves samples on both sides, got %g of %d", opt.validation, #self)
  end
  table.sort(train)
  table.sort(validation)
  local name = ("%s / validation %g, seed %d"):format(self.split, opt.validation, opt.seed)
  return self:derive(take(self, train), name .. ": rest", {}), self:derive(take(self, validation), name, plain)
end

local sample_spec = { n = o.integer(o.required, { from = 1 }), seed = o.integer(0) }

-- n samples at random, of each class in proportion to its size.
function Set:sample(opts)
  local opt = o.read("sample", opts, sample_spec)
  if opt.n > #self then o.fail("sample: n: expected 1 to %d, got %d", #self, opt.n) end
  local drawn = {}
  for c, positions in ipairs(shuffled_classes(self, "sample", opt.seed)) do
    for i, p in ipairs(positions) do drawn[#drawn + 1] = { (i - 0.5) / #positions, c, p } end
  end
  table.sort(drawn, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[2] < b[2]
  end)
  local list = {}
  for i = 1, opt.n do list[i] = drawn[i][3] end
  table.sort(list)
  return self:derive(take(self, list), ("%s / %d samples, seed %d"):format(self.split, opt.n, opt.seed), {})
end

local fold_spec = { k = o.integer(5, { from = 2 }), seed = o.integer(0) }

-- A list of { train, validation }: each sample is in the validation part of one fold.
function Set:folds(opts)
  local opt = o.read("folds", opts, fold_spec)
  local parts = {}
  for i = 1, opt.k do parts[i] = {} end
  local next_fold = 0
  for _, positions in ipairs(shuffled_classes(self, "folds", opt.seed)) do
    for _, p in ipairs(positions) do
      table.insert(parts[next_fold % opt.k + 1], p)
      next_fold = next_fold + 1
    end
  end
  if #parts[opt.k] == 0 then o.fail("folds: k: expected at most %d, one for each sample, got %d", #self, opt.k) end
  local folds = {}
  for i = 1, opt.k do
    local train = {}
    for j = 1, opt.k do
      if j ~= i then table.move(parts[j], 1, #parts[j], #train + 1, train) end
    end
    table.sort(train)
    table.sort(parts[i])
    local name = ("%s / fold %d of %d, seed %d"):format(self.split, i, opt.k, opt.seed)
    folds[i] = { self:derive(take(self, train), name .. ": rest", {}), self:derive(take(self, parts[i]), name, plain) }
  end
  return folds
end

-- CRC-32 of the members' names, in order, each with a newline.
function Set:hash()
  if not self._hash then
    local list, name = {}, self.names
    for i, member in ipairs(list_of(self.members)) do list[i] = (name and name(member + 1) or tostring(member)) .. "\n" end
    self._hash = core.data.crc32(table.concat(list))
  end
  return self._hash
end

Set.document("subset", "subset(positions[, name]) -> set\n\n    The samples at these positions, from 1.")
Set.document("plain", "plain() -> set\n\n    Every sample once, in order, without augmentation.")
Set.document("cut", [[cut{ validation = 0.1, seed = 0 } -> rest, validation

    Takes a share of each class for validation: in order, without augmentation.]])
Set.document("sample", "sample{ n = 1000, seed = 0 } -> set\n\n    n samples at random, of each class in proportion to its size.")
Set.document("folds", "folds{ k = 5, seed = 0 } -> { { train, validation }, ... }\n\n    Each sample is in the validation part of one fold.")
Set.document("hash", "hash() -> text\n\n    CRC-32 of the members' names, in order, by which two parts are told apart.")
