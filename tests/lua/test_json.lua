-- core.json: exact numbers, strict reading, the same text for equal values.
package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path
local lu = require "luaunit"
local s = require "support"
local json = require "moonspike.core".json

TestJson = {}

function TestJson:test_encode()
  for want, value in pairs {
    ["null"] = json.null, ["true"] = true, ["-7"] = -7, ["9223372036854775807"] = math.maxinteger,
    ["-9223372036854775808"] = math.mininteger, ["1.0"] = 1.0, ["-0.0"] = -0.0, ["0.1"] = 0.1, ["0.30000000000000004"] = 0.1 + 0.2, ["1e+300"] = 1e300,
    ['"a\\"\\\\\\n\\u0001\\u0000é"'] = 'a"\\\n\1\0é', ["{}"] = {}, ["[]"] = json.array {}, ["[1,[2,3],{}]"] = { 1, { 2, 3 }, {} },
    ['{"":0,"B":[null],"a":{"x":1},"ab":false}'] = { ab = false, a = { x = 1 }, B = { json.null }, [""] = 0 },
  } do
    lu.assertEquals(json.encode(value), want)
  end
  lu.assertEquals(json.encode(nil), "null")
end

function TestJson:test_encode_refuses()
  local cycle = {}
  cycle[1] = cycle
  for text, value in pairs {
    ["nan"] = 0 / 0, ["inf"] = { 1 / 0 }, ["a cycle?"] = cycle, ["got a function"] = print, ["not valid UTF-8"] = "\xff",
    ["list with holes"] = { 1, nil, 3 }, ["both kinds of keys"] = { 1, a = 2 }, ["got a ms.Tensor"] = require "moonspike".zeros(1),
  } do
    s.raises(text, json.encode, value)
  end
  s.raises("not valid UTF-8", json.encode, { ["\xc0\x80"] = 1 })
  s.raises("a key with a NUL", json.encode, { ["a\0b"] = 1 })
  s.raises("unknown option 'nan'", json.encode, 1, { nan = true })
  lu.assertEquals(json.encode({ 1 / 0, -1 / 0, 0 / 0, 1 }, { nonfinite = "null" }), "[null,null,null,1]")
end

function TestJson:test_decode()
  lu.assertEquals(json.decode ' {"a" : [1, 2.5, -0, "x\\u00e9\\ud83d\\ude00\\/"], "b":{}, "c":true} ',
    { a = { 1, 2.5, 0, "xé😀/" }, b = {}, c = true })
  lu.assertIs(json.decode "null", json.null)
  lu.assertEquals(math.type(json.decode "9223372036854775807"), "integer")
  lu.assertEquals(json.decode "9223372036854775807", math.maxinteger)
  lu.assertEquals(math.type(json.decode "9223372036854775808.0"), "float")
  lu.assertEquals(math.type(json.decode "1.0"), "float")
  lu.assertEquals(json.decode '"a\\u0000b"', "a\0b")
  lu.assertEquals(json.encode(json.decode "[[],{}]"), "[[],{}]")
end

function TestJson:test_decode_refuses()
  for text, why in pairs {
    [""] = "end of file", ["[1,]"] = "unexpected token near ']'", ["[1 2]"] = "']' expected", ['{"a":1,}'] = "string or '}' expected", ["{a:1}"] = "string or '}' expected",
    ['{"a" 1}'] = "':' expected", ["01"] = "invalid token", ["1."] = "invalid token", [".5"] = "invalid token", ["+1"] = "invalid token", ["1e"] = "invalid token",
    ["1e999"] = "overflow", ["NaN"] = "invalid token", ["nul"] = "invalid token", ["1 1"] = "end of file expected", ['"a'] = "premature end",
    ['"\n"'] = "unexpected newline", ['"\1"'] = "control character", ['"\\x"'] = "invalid escape", ['"\\ud800"'] = "invalid Unicode", ['"\\udc00"'] = "invalid Unicode",
    ['"\\ud800\\u0041"'] = "invalid Unicode", ['"\\u12g4"'] = "invalid escape", ['"\xc0\x80"'] = "unable to decode byte 0xc0", ['"\xed\xa0\x80"'] = "unable to decode byte 0xed",
    ['"\xf4\x90\x80\x80"'] = "unable to decode byte 0xf4", ['"\xe2\x82"'] = "unable to decode byte 0xe2", ['{"a":1,"a":2}'] = "duplicate object key", ["[1}"] = "']' expected",
    [("["):rep(200)] = "end of file", [("["):rep(3000)] = "maximum parsing depth", [("["):rep(3000) .. ("]"):rep(3000)] = "maximum parsing depth",
    [('{"a":'):rep(1000000)] = "maximum parsing depth", ["\xef\xbb\xbf1"] = "invalid token", ["1\0"] = "byte 2: a NUL", ["[1\0,2]"] = "byte 3: a NUL",
    ["9223372036854775808"] = "too big integer", ['{"a\\u0000b":1}'] = "NUL byte in object key", ["[1,\n x]"] = "line 2, column 2: invalid token",
  } do
    local value, message = json.decode(text)
    lu.assertNil(value, text)
    lu.assertStrContains(message, why)
  end
end

-- What encode writes decode reads, up to the depth that both refuse.
function TestJson:test_depth()
  local function nested(n)
    local v = json.array {}
    for i = 2, n do v = i % 2 == 0 and { v } or { a = v } end
    return v
  end
  local text = json.encode(nested(2047))
  lu.assertEquals(json.encode(json.decode(text)), text)
  s.raises("nested deeper than 2047", json.encode, nested(2048))
end

-- Random values come back equal, and their text is a fixed point.
function TestJson:test_round_trip()
  math.randomseed(1, 2)
  local function value(depth)
    local kind = math.random(depth > 4 and 5 or 7)
    if kind == 1 then return math.random(0) end
    if kind == 2 then return string.unpack("d", string.pack("I8", math.random(0) & ~(1 << 62))) end
    if kind == 3 then return math.random(2) == 1 end
    if kind == 4 then return json.null end
    if kind == 5 then return utf8.char(math.random(0, 0xd7ff), math.random(0xe000, 0x10ffff)) end
    local t = {}
    for i = 1, math.random(5) do t[kind == 6 and i or ("k" .. i)] = value(depth + 1) end
    return t
  end
  for _ = 1, 200 do
    local v = value(1)
    local text = json.encode(v)
    local back = json.decode(text)
    lu.assertEquals(back, v)
    lu.assertEquals(json.encode(back), text)
  end
end

os.exit(lu.LuaUnit.run() == 0)
