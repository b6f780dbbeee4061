/* Option tables: known keys, one message form, "op: key: expected ..., got ...". */
#include "bind_private.h"

#include <string.h>

static int is_known(const char *key, const char *const *keys) {
  for (; *keys != NULL; keys++)
    if (strcmp(key, *keys) == 0)
      return 1;
  return 0;
}

/* Pushes the smallest unknown key, so that the message does not depend on the table's order; 0 when all are known. */
static int push_unknown(lua_State *L, int index, const char *const *keys) {
  int found = 0;
  lua_pushliteral(L, "");
  lua_pushnil(L);
  while (lua_next(L, index)) {
    lua_pop(L, 1);
    luaL_tolstring(L, -1, NULL);
    int known = lua_type(L, -2) == LUA_TSTRING && is_known(lua_tostring(L, -1), keys);
    if (!known && (!found || strcmp(lua_tostring(L, -1), lua_tostring(L, -3)) < 0)) {
      found = 1;
      lua_replace(L, -3);
    } else {
      lua_pop(L, 1);
    }
  }
  if (!found)
    lua_pop(L, 1);
  return found;
}

void ms_check_options(lua_State *L, int index, const char *op, const char *const *keys) {
  if (lua_isnoneornil(L, index))
    return;
  if (!lua_istable(L, index))
    ms_raise(L, "%s: options: expected a table, got %s", op, ms_type_name(L, index));
  if (!push_unknown(L, index, keys))
    return;
  luaL_Buffer b;
  const char *unknown = lua_tostring(L, -1);
  luaL_buffinit(L, &b);
  for (int i = 0; keys[i] != NULL; i++) {
    luaL_addstring(&b, i > 0 ? ", " : "");
    luaL_addstring(&b, keys[i]);
  }
  luaL_pushresult(&b);
  ms_raise(L, "%s: unknown option '%s' (known: %s)", op, unknown, lua_tostring(L, -1));
}

/* Pushes the option and returns 1, or pushes nothing and returns 0 where it is not given. */
static int push_option(lua_State *L, int index, const char *key) {
  if (!lua_istable(L, index))
    return 0;
  if (lua_getfield(L, index, key) != LUA_TNIL)
    return 1;
  lua_pop(L, 1);
  return 0;
}

static int wrong(lua_State *L, const char *op, const char *key, const char *what) {
  if (lua_type(L, -1) == LUA_TNUMBER || lua_type(L, -1) == LUA_TSTRING)
    return ms_raise(L, "%s: %s: expected %s, got %s", op, key, what, luaL_tolstring(L, -1, NULL));
  return ms_raise(L, "%s: %s: expected %s, got %s", op, key, what, ms_type_name(L, -1));
}

double ms_option_number(lua_State *L, int index, const char *op, const char *key, double fallback) {
  if (!push_option(L, index, key))
    return fallback;
  if (lua_type(L, -1) != LUA_TNUMBER)
    wrong(L, op, key, "a number");
  double value = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return value;
}

int64_t ms_option_integer(lua_State *L, int index, const char *op, const char *key, int64_t fallback) {
  if (!push_option(L, index, key))
    return fallback;
  int ok = 0;
  int64_t value = lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &ok) : 0;
  if (!ok)
    wrong(L, op, key, "an integer");
  lua_pop(L, 1);
  return value;
}

int ms_option_boolean(lua_State *L, int index, const char *op, const char *key, int fallback) {
  if (!push_option(L, index, key))
    return fallback;
  if (!lua_isboolean(L, -1))
    wrong(L, op, key, "true or false");
  int value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

const char *ms_option_string(lua_State *L, int index, const char *op, const char *key, const char *fallback) {
  if (!push_option(L, index, key))
    return fallback;
  if (lua_type(L, -1) != LUA_TSTRING)
    wrong(L, op, key, "a string");
  const char *value = lua_tostring(L, -1); /* stays alive in the table */
  lua_pop(L, 1);
  return value;
}

int ms_option_enum(lua_State *L, int index, const char *op, const char *key, int fallback, const char *const *names) {
  const char *value = ms_option_string(L, index, op, key, NULL);
  if (value == NULL)
    return fallback;
  luaL_Buffer b;
  for (int i = 0; names[i] != NULL; i++)
    if (strcmp(names[i], value) == 0)
      return i;
  luaL_buffinit(L, &b);
  for (int i = 0; names[i] != NULL; i++) {
    luaL_addstring(&b, i > 0 ? ", " : "");
    luaL_addstring(&b, names[i]);
  }
  luaL_pushresult(&b);
  return ms_raise(L, "%s: %s: expected one of %s, got %s", op, key, lua_tostring(L, -1), value);
}

static int pair_member(lua_State *L, const char *op, const char *key) {
  int ok = 0;
  lua_Integer value = lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &ok) : 0;
  if (!ok || value < INT32_MIN || value > INT32_MAX)
    wrong(L, op, key, "an integer or a table of two");
  return (int)value;
}

void ms_option_pair(lua_State *L, int index, const char *op, const char *key, int fallback, int out[2]) {
  out[0] = out[1] = fallback;
  if (!push_option(L, index, key))
    return;
  if (!lua_istable(L, -1)) {
    out[0] = out[1] = pair_member(L, op, key);
    lua_pop(L, 1);
    return;
  }
  if (luaL_len(L, -1) != 2)
    wrong(L, op, key, "an integer or a table of two");
  for (int i = 0; i < 2; i++) {
    lua_geti(L, -1, i + 1);
    out[i] = pair_member(L, op, key);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

const char **ms_check_strings(lua_State *L, int index, const char *op, const char *key, int *n) {
  index = lua_absindex(L, index);
  if (!lua_istable(L, index))
    ms_raise(L, "%s: %s: expected a table of strings, got %s", op, key, ms_type_name(L, index));
  lua_Integer count = luaL_len(L, index);
  if (count < 0 || count > INT32_MAX - 1)
    ms_raise(L, "%s: %s: expected a table of strings, got one of length %I", op, key, count);
  const char **list = ms_push_scratch(L, ((size_t)count + 1) * sizeof *list);
  lua_createtable(L, (int)count, 0); /* holds the strings, whatever becomes of the caller's table */
  for (lua_Integer i = 0; i < count; i++) {
    size_t bytes;
    if (lua_geti(L, index, i + 1) != LUA_TSTRING)
      ms_raise(L, "%s: %s[%I]: expected a string, got %s", op, key, i + 1, ms_type_name(L, -1));
    list[i] = lua_tolstring(L, -1, &bytes);
    if (bytes == 0 || memchr(list[i], 0, bytes))
      ms_raise(L, "%s: %s[%I]: expected a string without NUL bytes that is not empty, got %d bytes", op, key, i + 1,
               (int)bytes);
    lua_rawseti(L, -2, i + 1);
  }
  list[count] = NULL;
  *n = (int)count;
  return list;
}

const char **ms_option_strings(lua_State *L, int index, const char *op, const char *key, int *n) {
  lua_getfield(L, index, key);
  return ms_check_strings(L, -1, op, key, n);
}

ms_real *ms_option_channels(lua_State *L, int index, const char *op, const char *key, int64_t channels) {
  if (!push_option(L, index, key))
    return NULL;
  if (!lua_istable(L, -1) || luaL_len(L, -1) != channels)
    ms_raise(L, "%s: %s: expected a table of %I numbers, one for each channel", op, key, channels);
  ms_real *values = ms_push_scratch(L, (size_t)channels * sizeof *values);
  for (int64_t k = 0; k < channels; k++) {
    if (lua_geti(L, -2, k + 1) != LUA_TNUMBER)
      ms_raise(L, "%s: %s[%I]: expected a number, got %s", op, key, k + 1, ms_type_name(L, -1));
    values[k] = (ms_real)lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  return values;
}

void ms_option_range(lua_State *L, int index, const char *op, const char *key, double out[2]) {
  if (lua_getfield(L, index, key) != LUA_TNIL) {
    for (int i = 0; i < 2; i++) {
      if (!lua_istable(L, -1) || lua_geti(L, -1, i + 1) != LUA_TNUMBER)
        ms_raise(L, "%s: %s: expected a table of two numbers", op, key);
      out[i] = lua_tonumber(L, -1);
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}
