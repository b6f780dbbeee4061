-- NumPy's files of arrays: npy and npz.

local core = require "moonspike.core"
local o = require "moonspike.options"
local doc = require "moonspike.doc"

local arrays = {}

arrays.read_npy = core.data.read_npy

local reading = { most = o.integer(1 << 32, { from = 0 }) }

function arrays.read_npz(path, opts)
  local opt = o.read("read_npz", opts, reading)
  local file <close>, why, status = core.data.open_npz(path, opt.most)
  if not file then return nil, why, status end
  local tensors = {}
  for i, name in ipairs(file:names()) do
    local t, message, code = file:tensor(i)
    if not t then return nil, message, code end
    tensors[name] = t
  end
  return tensors
end

function arrays.write_npz(path, tensors)
  if type(tensors) ~= "table" then o.fail("write_npz: tensors: expected { name = tensor }, got %s", o.show(tensors)) end
  local names, list = o.keys(tensors), {}
  for i, name in ipairs(names) do
    if type(name) ~= "string" or not o.is_tensor(tensors[name]) then
      o.fail("write_npz: tensors: expected { name = tensor }, got %s at %s", o.show(tensors[name]), o.show(name))
    end
    list[i] = tensors[name]
  end
  return core.data.write_npz(path, names, list)
end

doc.set(arrays.read_npz, [[
    data.read_npz(path, { most = 2^32 }) -> { name = tensor }, or nil, message

    The arrays of an npz file, stored or compressed: bool and uint8 as uint8, other integers as int64, floats as float32. most: the bytes that
    they may unpack to. Objects are never unpickled.]])
doc.set(arrays.write_npz, [[
    data.write_npz(path, { name = tensor }) -> true, or nil, message

    An npz file that numpy.load opens, arrays in the order of their names: uint8, int64, and float32 for every other type. The old file stays
    whole when anything fails.]])

return arrays
