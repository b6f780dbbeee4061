/* JSON for reports, configurations and checkpoint metadata: sorted keys, so that equal values give equal text. */
#include "bind_private.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TREE_TYPE "ms.JsonTree"
#define ARRAY_TYPE "ms.JsonArray"
#define MAX_DEPTH (JSON_PARSER_MAX_DEPTH - 1) /* of tables, so that decode reads all that encode writes */

/* ---- encode ----
** Pieces of text are collected in the table at index PIECES, since a luaL_Buffer wants the top of the stack. */

enum { VALUE = 1, OPTIONS, PIECES };

typedef struct encoder {
  lua_Integer pieces;
  int null_nonfinite;
  int depth;
} encoder;

typedef struct key {
  const char *text;
  size_t length;
} key;

static void encode_value(lua_State *L, encoder *e);

/* Pops a string. */
static void put(lua_State *L, encoder *e) {
  lua_rawseti(L, PIECES, ++e->pieces);
}

static void put_text(lua_State *L, encoder *e, const char *text) {
  lua_pushstring(L, text);
  put(L, e);
}

static void put_string(lua_State *L, encoder *e, const char *s, size_t n) {
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, 6 * n + 2); /* first, since it can raise */
  json_t *string = json_stringn(s, n);
  size_t length = string ? json_dumpb(string, out, 6 * n + 2, JSON_ENCODE_ANY) : 0;
  json_decref(string);
  if (length == 0)
    ms_raise(L, "encode: value: a string that is not valid UTF-8");
  luaL_pushresultsize(&b, length);
  put(L, e);
}

static void put_number(lua_State *L, encoder *e) {
  char text[40];
  if (lua_isinteger(L, -1)) {
    snprintf(text, sizeof text, LUA_INTEGER_FMT, lua_tointeger(L, -1));
  } else {
    double x = lua_tonumber(L, -1);
    if (!isfinite(x) && !e->null_nonfinite)
      ms_raise(L, "encode: value: %f is no JSON number (nonfinite = \"null\" writes null)", x);
    snprintf(text, sizeof text, isfinite(x) ? "%.15g" : "null", x);
    if (isfinite(x) && strtod(text, NULL) != x) /* 0.1 rather than 0.10000000000000001 */
      snprintf(text, sizeof text, "%.17g", x);
    for (char *c = text; *c && isfinite(x); c++)
      if (!strchr("+-0123456789e", *c))
        *c = '.'; /* whatever the locale's decimal point is */
    if (!strpbrk(text, ".enu"))
      strcat(text, ".0"); /* a float stays a float */
  }
  put_text(L, e, text);
}

static int compare_key(const void *a, const void *b) {
  const key *x = a, *y = b;
  int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
  return order ? order : (x->length > y->length) - (x->length < y->length);
}

/* The table on top of the stack. */
static void put_object(lua_State *L, encoder *e, size_t n) {
  int table = lua_gettop(L);
  key *keys = ms_push_scratch(L, n * sizeof *keys);
  size_t i = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING)
      ms_raise(L, "encode: value: a table with both kinds of keys, or a list with holes (a key is a %s)",
               luaL_typename(L, -2));
    keys[i].text = lua_tolstring(L, -2, &keys[i].length); /* stays alive as a key of the table */
    if (strlen(keys[i].text) != keys[i].length)
      ms_raise(L, "encode: value: a key with a NUL byte");
    i++;
  }
  qsort(keys, n, sizeof *keys, compare_key);
  put_text(L, e, "{");
  for (i = 0; i < n; i++) {
    if (i)
      put_text(L, e, ",");
    put_string(L, e, keys[i].text, keys[i].length);
    put_text(L, e, ":");
    lua_pushlstring(L, keys[i].text, keys[i].length);
    lua_rawget(L, table);
    encode_value(L, e);
    lua_pop(L, 1);
  }
  put_text(L, e, "}");
  lua_settop(L, table);
}

static void put_array(lua_State *L, encoder *e, lua_Integer n) {
  put_text(L, e, "[");
  for (lua_Integer i = 1; i <= n; i++) {
    if (i > 1)
      put_text(L, e, ",");
    lua_rawgeti(L, -1, i);
    encode_value(L, e);
    lua_pop(L, 1);
  }
  put_text(L, e, "]");
}

static void put_table(lua_State *L, encoder *e) {
  lua_Integer length = (lua_Integer)lua_rawlen(L, -1), n = 0;
  if (++e->depth > MAX_DEPTH)
    ms_raise(L, "encode: value: nested deeper than %d (a cycle?)", MAX_DEPTH);
  luaL_checkstack(L, 8, "encode");
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
    n++;
  int empty_array = 0;
  if (n == 0 && lua_getmetatable(L, -1)) {
    luaL_getmetatable(L, ARRAY_TYPE);
    empty_array = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
  }
  if (empty_array || (n > 0 && n == length))
    put_array(L, e, length);
  else
    put_object(L, e, (size_t)n);
  e->depth--;
}

/* The value on top of the stack, which stays. */
static void encode_value(lua_State *L, encoder *e) {
  size_t n;
  const char *s;
  switch (lua_type(L, -1)) {
  case LUA_TNIL:
    put_text(L, e, "null");
    break;
  case LUA_TBOOLEAN:
    put_text(L, e, lua_toboolean(L, -1) ? "true" : "false");
    break;
  case LUA_TNUMBER:
    put_number(L, e);
    break;
  case LUA_TSTRING:
    s = lua_tolstring(L, -1, &n);
    put_string(L, e, s, n);
    break;
  case LUA_TTABLE:
    put_table(L, e);
    break;
  case LUA_TLIGHTUSERDATA:
    if (!lua_touserdata(L, -1)) {
      put_text(L, e, "null");
      break;
    }
    /* fall through */
  default:
    ms_raise(L, "encode: value: expected nil, booleans, numbers, strings and tables, got a %s", ms_type_name(L, -1));
  }
}

static int json_encode(lua_State *L) {
  static const char *const options[] = {"nonfinite", NULL}, *const nonfinite[] = {"error", "null", NULL};
  encoder e = {0};
  luaL_Buffer b;
  luaL_checkany(L, VALUE);
  lua_settop(L, OPTIONS);
  ms_check_options(L, OPTIONS, "encode", options);
  e.null_nonfinite = ms_option_enum(L, OPTIONS, "encode", "nonfinite", 0, nonfinite);
  lua_newtable(L);
  lua_pushvalue(L, VALUE);
  encode_value(L, &e);
  lua_pop(L, 1);
  luaL_buffinit(L, &b);
  for (lua_Integer i = 1; i <= e.pieces; i++) {
    lua_rawgeti(L, PIECES, i);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  return 1;
}

/* ---- decode ---- */

/* Holds the tree while Lua values are made of it, which can raise. */
typedef struct tree {
  json_t *root;
} tree;

static int tree_gc(lua_State *L) {
  tree *t = luaL_checkudata(L, 1, TREE_TYPE);
  json_decref(t->root);
  t->root = NULL;
  return 0;
}

static void push_value(lua_State *L, json_t *v) {
  size_t i;
  const char *name;
  json_t *item;
  luaL_checkstack(L, 8, "decode");
  switch (json_typeof(v)) {
  case JSON_NULL:
    lua_pushlightuserdata(L, NULL);
    break;
  case JSON_FALSE:
  case JSON_TRUE:
    lua_pushboolean(L, json_is_true(v));
    break;
  case JSON_INTEGER:
    lua_pushinteger(L, json_integer_value(v));
    break;
  case JSON_REAL:
    lua_pushnumber(L, json_real_value(v));
    break;
  case JSON_STRING:
    lua_pushlstring(L, json_string_value(v), json_string_length(v));
    break;
  case JSON_ARRAY:
    lua_newtable(L);
    json_array_foreach(v, i, item) {
      push_value(L, item);
      lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    if (json_array_size(v) == 0)
      luaL_setmetatable(L, ARRAY_TYPE);
    break;
  case JSON_OBJECT:
    lua_newtable(L);
    json_object_foreach(v, name, item) {
      lua_pushstring(L, name);
      push_value(L, item);
      lua_rawset(L, -3);
    }
    break;
  }
}

static int json_decode(lua_State *L) {
  size_t n;
  ms_error err;
  json_error_t at = {0};
  const char *text = luaL_checklstring(L, 1, &n);
  tree *t = lua_newuserdatauv(L, sizeof *t, 0);
  t->root = NULL;
  luaL_setmetatable(L, TREE_TYPE);
  const char *nul = memchr(text, 0, n); /* Jansson 2.14 passes over one behind a number */
  if (nul)
    return ms_finish_env(L, ms_fail(&err, MS_EFORMAT, "decode: text: byte %d: a NUL byte", (int)(nul - text) + 1), &err,
                         0);
  t->root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &at);
  if (!t->root && at.text[0])
    return ms_finish_env(
        L, ms_fail(&err, MS_EFORMAT, "decode: text: line %d, column %d: %s", at.line, at.column, at.text), &err, 0);
  if (!t->root)
    return ms_finish_env(L, ms_fail(&err, MS_EMEM, "decode: text: out of memory"), &err, 0);
  push_value(L, t->root);
  json_decref(t->root);
  t->root = NULL;
  return 1;
}

static int mark_array(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  luaL_setmetatable(L, ARRAY_TYPE);
  return 1;
}

static const ms_reg functions[] = {
    {"encode", json_encode,
     "encode(value[, {nonfinite = \"error\"|\"null\"}]) -> string\n\nCompact JSON with sorted keys. Tables with "
     "elements "
     "1..n are arrays; an empty table is an object unless made by json.array. Integers are exact, floats have 17 "
     "digits."},
    {"decode", json_decode,
     "decode(text) -> value, or nil, message\n\nStrict: one value, valid UTF-8, no duplicate keys, integers of 64 "
     "bits. null becomes "
     "json.null; "
     "integers stay integers."},
    {"array", mark_array, "array(t) -> t\n\nMarks t as an array, so that it is written as [] when empty."},
    {NULL, NULL, NULL}};

int ms_open_json(lua_State *L) {
  luaL_newmetatable(L, ARRAY_TYPE);
  if (luaL_newmetatable(L, TREE_TYPE)) {
    lua_pushcfunction(L, tree_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 2);
  lua_newtable(L);
  ms_register(L, functions);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  return 1;
}
