-- Decoded samples kept on disk: FOLDER/NAME-KEY.npy, an array [n, t, h, w, c] of uint8 or float32, and beside it NAME-KEY.txt, which says what it was
-- made of: settings, files, their sizes and times. Another content makes another key; what does not match is made anew.

local core = require "moonspike.core"
local o = require "moonspike.options"
local find = require "moonspike.data.find"

local cache = {}

-- Everything that the samples depend on, one line each.
local function recipe(where, parts, list, how)
  local lines = { "moonspike cache 1", (parts.name:gsub("%s.*", "")), parts.folder }
  for _, key in ipairs(o.keys(how)) do
    local v = how[key]
    if type(v) == "table" and key ~= "paths" then
      local words = {}
      for _, k in ipairs(o.keys(v)) do words[#words + 1] = ("%s=%s"):format(k, tostring(v[k])) end
      v = "{" .. table.concat(words, ",") .. "}"
    end
    if key ~= "paths" and key ~= "drop" and not o.is_tensor(v) then lines[#lines + 1] = ("%s %s"):format(key, tostring(v)) end
  end
  for i, path in ipairs(list.paths or { list.shd }) do
    local size, why = core.system.size(path)
    if not size then o.fail("%s: cache: %s", where, why) end
    lines[#lines + 1] = ("%s %d %s%s"):format(list.names and list.names[i] or path, size, core.system.modified(path),
      list.start_us and (" %d %d"):format(list.start_us[i], list.end_us[i]) or "")
  end
  return table.concat(lines, "\n") .. "\n"
end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "a"
  if file then file:close() end
  return text
end

local still = { [false] = true, none = true, [0] = true } -- values that draw nothing

-- Replaces parts.source by the cached one; makes the cache where it is missing.
function cache.use(where, parts, list, how, opt)
  for _, key in ipairs { "random", "drop", "mirror", "flip_polarity", "reverse" } do
    if how[key] ~= nil and not still[how[key]] then
      o.fail("%s: cache: expected no random choices, got %s = %s", where, key, o.show(how[key]))
    end
  end
  local text = recipe(where, parts, list, how)
  parts.notes = parts.notes or {}
  local base = ("%s/%s-%s"):format(opt.cache, parts.name:gsub("%s.*", ""):gsub("[^%w_-]", "_"), core.data.crc32(text))
  local from, threads = parts.source, core.device.threads()
  local source, why
  if read(base .. ".txt") == text then source, why = core.data.cached_source(base .. ".npy", from) end
  if not source then
    core.system.mkdir(opt.cache)
    local writer <close>, message = core.data.cache_writer(from, base .. ".npy")
    if not writer then o.fail("%s: %s", where, message) end
    local n = from:size()
    local progress = require "moonspike.progress"
    local function steps()
      local done = writer:step(threads)
      return done < n and done or nil
    end
    for _ in progress(steps, parts.name .. ": cache") do end -- luacheck: ignore
    local repairs
    repairs, why = writer:commit()
    if not repairs then o.fail("%s: %s", where, why) end
    find.note(parts.notes, "it was cached", repairs)
    local done
    done, why = core.system.write_file(base .. ".txt", text)
    if not done then o.fail("%s: %s", where, why) end
    source, why = core.data.cached_source(base .. ".npy", from)
    if not source then o.fail("%s: %s", where, why) end
  end
  parts.source = source
  parts.samples_in_memory = function()
    local samples, reason = core.data.read_npy(base .. ".npy") -- [n, t, h, w, c]
    if not samples then o.fail("%s: %s", where, reason) end
    samples = samples:permute(1, 2, 5, 3, 4)
    return samples
  end
  table.insert(parts.notes, "cached in " .. base .. ".npy")
end

return cache
