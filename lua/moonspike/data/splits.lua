-- Which files of a class-per-folder data set are for training and which for testing, by the conventions of published code.
-- Each has a name; a set prints it beside a hash of its members.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

local splits = {}

-- A convention: order(files of one class, class from 0, options) -> that class's files in order, and how many of them are for training.
-- files: { { name = "x_12.aedat", at = index of the file }, ... } sorted by bytes.
local known = {}

local function first(count)
  return function(files, _, opt) return files, count(#files, opt.share) end
end

-- As Python's math.ceil, int and round, which takes a half to the even number.
local function ceil(n, share) return math.ceil(n * share) end
local function floor(n, share) return math.floor(n * share) end
local function round(n, share)
  local down = math.floor(n * share)
  local rest = n * share - down
  return (rest > 0.5 or rest == 0.5 and down % 2 == 1) and down + 1 or down
end

known.spikingjelly = { order = first(ceil), share = 0.9,
  text = "of each class the first ceil(0.9 n) names in byte order: SpikingJelly's split_to_train_test_set, TRT's N-Caltech101" }
known.floor = { order = first(floor), share = 0.9,
  text = "of each class the first floor(0.9 n) names: NDA's share, which took the names as the folder listed them" }
known.round = { order = first(round), share = 0.9, text = "of each class the first round(0.9 n) names: TKS's N-Caltech101" }

-- The last number in a name: cifar10_ship_12.aedat -> 12
local function number(where, name)
  local n = name:match "(%d+)%D*%.[^.]*$" or name:match "(%d+)[^%d]*$"
  if not n then o.fail("%s: split: expected numbered files, got '%s'", where, name) end
  return tonumber(n)
end

-- Files whose number is inside come first; all in the order of numbers.
local function by_number(inside)
  return function(files, _, opt)
    local list, train = {}, 0
    for _, file in ipairs(files) do
      local n = number(opt.where, file.name)
      local in_train = inside(n)
      train = train + (in_train and 1 or 0)
      list[#list + 1] = { name = file.name, at = file.at, part = in_train and 0 or 1, n = n }
    end
    table.sort(list, function(a, b)
      if a.part ~= b.part then return a.part < b.part end
      if a.n ~= b.n then return a.n < b.n end
      return a.at < b.at
    end)
    return list, train
  end
end

known.tebn = { order = by_number(function(n) return n >= 100 end),
  text = "numbers 0 to 99 of each class for testing, the rest for training: TEBN, IMP (much easier than a random split)" }
known.trt = { order = by_number(function(n) return n < 900 end), interleaved = true,
  text = "numbers 0 to 899 of each class for training, the rest for testing, classes in turn: TRT's CIFAR10-DVS" }
known.tet = { order = by_number(function(n) return n < 700 end), interleaved = true,
  text = "numbers 0 to 699 of each class for training: the script that TET published (its paper says 9 to 1)" }

known.random = { share = 0.9, seeded = true,
  text = "of each class round(0.9 n) at random, by the seed",
  order = function(files, class, opt)
    local list = {}
    local order = core.data.order { n = #files, seed = opt.seed, purpose = ("split %d"):format(class) }:totable()
    for i, at in ipairs(order) do list[i] = files[at + 1] end
    return list, round(#files, opt.share)
  end }

known.all = { order = function(files) return files, #files end, text = "every file, no test part" }

splits.names = o.keys(known)

-- files: { { name =, label = (from 0) }, ... } by class and name. Returns the indices (from 1) of the part, and what to call it.
function splits.apply(where, files, opt)
  local rule = known[opt.split]
  if not rule then o.fail("%s: split: expected one of %s, got %s", where, table.concat(splits.names, ", "), o.show(opt.split)) end
  if opt.share and not rule.share then o.fail("%s: share: split '%s' has none", where, opt.split) end
  local classes, count = {}, 0
  for at, file in ipairs(files) do
    local class = file.label + 1
    classes[class] = classes[class] or {}
    table.insert(classes[class], { name = file.name, at = at })
    count = math.max(count, class)
  end
  local share, seed = opt.share or rule.share, opt.split_seed or 0
  local list, longest = {}, 0
  for class = 1, count do
    local ordered, train = rule.order(classes[class] or {}, class - 1, { where = where, share = share, seed = seed })
    local part = {}
    for i = opt.train and 1 or train + 1, opt.train and train or #ordered do part[#part + 1] = ordered[i].at end
    if not rule.interleaved and not rule.seeded then table.sort(part) end
    list[class], longest = part, math.max(longest, #part)
  end
  local members = {}
  if rule.interleaved then
    for i = 1, longest do
      for class = 1, count do members[#members + 1] = list[class][i] end
    end
  else
    for class = 1, count do table.move(list[class], 1, #list[class], #members + 1, members) end
    if rule.seeded then table.sort(members) end
  end
  if #members == 0 then
    o.fail("%s: split '%s' has no %s files among the %d that were found", where, opt.split, opt.train and "training" or "test", #files)
  end
  local name = opt.split
  if rule.share and share ~= rule.share then name = ("%s %g"):format(name, share) end
  if rule.seeded then name = ("%s, seed %d"):format(name, seed) end
  return members, name .. (opt.train and ": train" or ": test")
end

local lines = {}
for _, name in ipairs(splits.names) do lines[#lines + 1] = ("  %-13s %s"):format(name, known[name].text) end
splits.text = table.concat(lines, "\n")

doc.set(splits, "Splits of data sets that come without one:\n" .. splits.text)

return splits
