-- Pictures in terminals that show pixels: kitty's protocol and sixel, for bytes [3, H, W].

local core = require "moonspike.core"

local graphics = {}
local system = core.system
local WAIT = 1 -- seconds for a reply; every terminal known to us has one at once

-- A picture of one pixel in kitty's protocol, which asks only whether it would be shown, then for the terminal's attributes, which all answer.
local QUERY = "\27_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\27\\\27[c"

-- "kitty" or "sixel" out of a terminal's reply; nil where it shows neither.
function graphics.understood(reply)
  if reply:find("\27_Gi=31;OK\27\\", 1, true) then return "kitty" end
  local attributes = reply:match "\27%[%?([%d;]*)c"
  if attributes and (";" .. attributes .. ";"):find(";4;", 1, true) then return "sixel" end
end

-- Those that would print the question, by $TERM and $TERM_PROGRAM.
local plain = { dumb = true, linux = true, Apple_Terminal = true }

local known -- the answer of this process's terminal; false: neither

-- Which protocol the terminal has; nil also where input or output is none, as in a script whose output is a pipe.
function graphics.protocol()
  if not (system.isatty(0) and system.isatty(1)) or plain[os.getenv "TERM" or "dumb"] or plain[os.getenv "TERM_PROGRAM" or ""] then return nil end
  if known == nil then
    io.stdout:flush()
    local reply = system.ask(QUERY, "c", WAIT)
    known = reply and graphics.understood(reply) or false
  end
  return known or nil
end

local function bytes_of(rgb)
  local list, parts = rgb:permute(2, 3, 1):reshape(-1):totable(), {}
  for i = 1, #list, 4000 do parts[#parts + 1] = string.char(table.unpack(list, i, math.min(i + 3999, #list))) end
  return table.concat(parts)
end

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

function graphics.base64(bytes)
  return (bytes:gsub("..?.?", function(three)
    local a, b, c = three:byte(1, 3)
    local n = a << 16 | (b or 0) << 8 | (c or 0)
    local text = {}
    for i = 1, 4 do
      local k = (n >> (24 - 6 * i) & 63) + 1
      text[i] = i <= #three + 1 and alphabet:sub(k, k) or "="
    end
    return table.concat(text)
  end))
end

local CHUNK = 4096 -- characters of one escape, at most

function graphics.kitty(rgb)
  local text, parts = graphics.base64(bytes_of(rgb)), {}
  for i = 1, #text, CHUNK do
    local head = i == 1 and ("a=T,f=24,q=2,s=%d,v=%d,"):format(rgb.shape[3], rgb.shape[2]) or ""
    parts[#parts + 1] = ("\27_G%sm=%d;%s\27\\"):format(head, i + CHUNK <= #text and 1 or 0, text:sub(i, i + CHUNK - 1))
  end
  return table.concat(parts)
end

-- Numbers of colours for each pixel, and the colours: as they are where they are at most 256, which terminals have room for, else six levels each.
local function indexed(rgb)
  local planes = rgb:totable()
  for _, levels in ipairs { 255, 5 } do
    local number, colours, rows = {}, {}, {}
    for y = 1, #planes[1] do
      rows[y] = {}
      for x = 1, #planes[1][1] do
        local key = 0
        for k = 1, 3 do key = key << 8 | (planes[k][y][x] * levels + 127) // 255 end
        if not number[key] then
          number[key], colours[#colours + 1] = #colours, { key >> 16, key >> 8 & 255, key & 255 }
        end
        rows[y][x] = number[key]
      end
    end
    if #colours <= 256 then return rows, colours, levels end
  end
end

-- A row of sixels as text: what repeats more than three times as a number and once.
local function run_lengths(masks, w)
  local parts, x = {}, 1
  while x <= w do
    local mask, n = masks[x] or 0, 1
    while x + n <= w and (masks[x + n] or 0) == mask do n = n + 1 end
    local one = string.char(63 + mask)
    parts[#parts + 1] = n > 3 and ("!%d%s"):format(n, one) or one:rep(n)
    x = x + n
  end
  return table.concat(parts)
end

function graphics.sixel(rgb)
  local rows, colours, levels = indexed(rgb)
  local h, w = #rows, #rows[1]
  local parts = { ('\27Pq"1;1;%d;%d'):format(w, h) }
  for i, c in ipairs(colours) do -- in percent
    parts[#parts + 1] = ("#%d;2;%d;%d;%d"):format(i - 1, (c[1] * 200 + levels) // (2 * levels), (c[2] * 200 + levels) // (2 * levels),
      (c[3] * 200 + levels) // (2 * levels))
  end
  for top = 1, h, 6 do
    local masks, order = {}, {} -- of each colour in these six rows: one number of six bits for each column
    for y = top, math.min(top + 5, h) do
      for x = 1, w do
        local c = rows[y][x]
        if not masks[c] then masks[c], order[#order + 1] = {}, c end
        masks[c][x] = (masks[c][x] or 0) | 1 << (y - top)
      end
    end
    for i, c in ipairs(order) do parts[#parts + 1] = ("#%d%s%s"):format(c, run_lengths(masks[c], w), i < #order and "$" or "-") end
  end
  return table.concat(parts) .. "\27\\"
end

return graphics
