/* Tab completion of globals, fields and methods: "ms.nn.Conv", "net:par", "net[1].wei". Names are looked up without
** running code: raw fields, then __index tables, then what a metatable may carry: __dir, a list of names or a
** table by name, and __fields, a list of names or the name of the raw field that holds it. Only a position in a
** value with __dir, which is the library's own, asks the value. */
#include "repl.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 16

static int is_name(const char *s) {
  if (!isalpha((unsigned char)*s) && *s != '_')
    return 0;
  for (s++; *s; s++)
    if (!isalnum((unsigned char)*s) && *s != '_')
      return 0;
  return 1;
}

/* Replaces the value on top by value[name], following __index tables only; 0 when there is none. */
static int step_into(lua_State *L, const char *name, size_t n) {
  for (int depth = 0; depth < DEPTH; depth++) {
    if (lua_istable(L, -1)) {
      lua_pushlstring(L, name, n);
      if (lua_rawget(L, -2) != LUA_TNIL) {
        lua_remove(L, -2);
        return 1;
      }
      lua_pop(L, 1);
    }
    int type = luaL_getmetafield(L, -1, "__index");
    if (type == LUA_TNIL)
      return 0;
    lua_remove(L, -2);
    if (type != LUA_TTABLE)
      return 0;
  }
  return 0;
}

/* Replaces the value on top by value[1][-2]... for the positions in text; 0 when there is none. */
static int step_positions(lua_State *L, const char *text, size_t n) {
  for (const char *end = text + n; text < end;) {
    char *rest;
    long long i = strtoll(text + 1, &rest, 10);
    if (*text != '[' || rest == text + 1 || *rest != ']')
      return 0;
    text = rest + 1;
    if (luaL_getmetafield(L, -1, "__dir") != LUA_TNIL) {
      lua_pop(L, 1);
      lua_geti(L, -1, i);
    } else if (lua_istable(L, -1)) {
      lua_rawgeti(L, -1, i);
    } else {
      return 0;
    }
    lua_remove(L, -2);
  }
  return 1;
}

/* The word that is completed: what follows a bracket that is still open. */
static const char *last_word(const char *text) {
  const char *open = strrchr(text, '[');
  return open && !strchr(open, ']') ? open + 1 : text;
}

/* Adds to the table at `found` what the string keys of the table on top begin with. */
static void add_keys(lua_State *L, int found, const char *prefix, size_t n, const char *head, size_t head_n,
                     int methods) {
  int table = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING)
      continue;
    const char *key = lua_tostring(L, -2);
    if (strncmp(key, prefix, n) || !is_name(key) || (key[0] == '_' && n == 0) ||
        (methods && !lua_isfunction(L, -1) && !lua_istable(L, -1)))
      continue;
    lua_pushlstring(L, head, head_n);
    lua_pushstring(L, key);
    lua_concat(L, 2);
    lua_pushboolean(L, 1);
    lua_settable(L, found);
  }
}

static void add_list(lua_State *L, int found, const char *prefix, size_t n, const char *head, size_t head_n) {
  int list = lua_gettop(L);
  for (lua_Integer i = 1; lua_rawgeti(L, list, i) == LUA_TSTRING; i++) {
    const char *key = lua_tostring(L, -1);
    if (!strncmp(key, prefix, n)) {
      lua_pushlstring(L, head, head_n);
      lua_pushstring(L, key);
      lua_concat(L, 2);
      lua_pushboolean(L, 1);
      lua_settable(L, found);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* Pushes the list __fields of the value on top, or the list in the field that __fields names; 0 where there is
** none. */
static int push_fields(lua_State *L) {
  int value = lua_gettop(L), type = luaL_getmetafield(L, -1, "__fields");
  if (type == LUA_TSTRING && lua_istable(L, value))
    type = lua_rawget(L, value);
  return type == LUA_TTABLE;
}

/* Collects the candidates for text as keys of a fresh table, which is pushed. */
static int collect(lua_State *L) {
  const char *text = luaL_checkstring(L, 1);
  lua_newtable(L);
  int found = lua_gettop(L);
  lua_pushglobaltable(L);
  const char *rest = last_word(text);
  int methods = 0;
  for (size_t n; rest[n = strcspn(rest, ".:")]; rest += n + 1) {
    size_t name = strcspn(rest, "[");
    if (name > n)
      name = n;
    if (!step_into(L, rest, name) || !step_positions(L, rest + name, n - name))
      return lua_settop(L, found), 1;
    methods = rest[n] == ':';
  }
  size_t n = strlen(rest), head = (size_t)(rest - text);
  for (int depth = 0; depth < DEPTH; depth++) {
    int value = lua_gettop(L);
    if (luaL_getmetafield(L, -1, "__dir") == LUA_TTABLE) {
      add_list(L, found, rest, n, text, head);
      add_keys(L, found, rest, n, text, head, methods);
    }
    lua_settop(L, value);
    if (!methods && push_fields(L))
      add_list(L, found, rest, n, text, head);
    lua_settop(L, value);
    if (lua_istable(L, -1))
      add_keys(L, found, rest, n, text, head, methods);
    if (luaL_getmetafield(L, -1, "__index") != LUA_TTABLE)
      break;
    lua_remove(L, -2);
  }
  lua_settop(L, found);
  return 1;
}

char *ms_complete(lua_State *L, const char *text, int state) {
  static const char key = 0; /* registry slot of the candidates */
  int top = lua_gettop(L);
  char *word = NULL;
  if (state == 0) {
    lua_pushcfunction(L, collect);
    lua_pushstring(L, text);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
      lua_settop(L, top);
      return NULL;
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
  }
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) == LUA_TTABLE) {
    lua_pushnil(L);
    if (lua_next(L, -2)) {
      word = strdup(lua_tostring(L, -2));
      lua_pop(L, 1);
      lua_pushnil(L);
      lua_settable(L, -3);
    }
  }
  lua_settop(L, top);
  return word;
}
