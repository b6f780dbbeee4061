/* The package moonspike.core: its table, the memory hook, and the searcher for the Lua modules that are compiled in. */
#include "bind_private.h"

#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- memory hook ---- */

/* The collector sees few bytes where tensors hold many. Not while it is stopped: by the user, by a recording, or
** because a finalizer runs. */
static void collect(void *ud) {
  lua_State *L = ud;
  if (lua_gc(L, LUA_GCISRUNNING))
    lua_gc(L, LUA_GCCOLLECT);
}

static lua_State *hooked; /* main state of the hook: the state opened last */

static int remove_hook(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  if (hooked == lua_tothread(L, -1)) {
    hooked = NULL;
    ms_set_memory_hook(NULL, NULL);
  }
  return 0;
}

/* The guard is older than any tensor, so it is finalized last. */
static void install_hook(lua_State *L) {
  lua_newuserdatauv(L, 1, 0);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, remove_hook);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_setfield(L, LUA_REGISTRYINDEX, "ms.guard");
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  hooked = lua_tothread(L, -1);
  ms_set_memory_hook(collect, hooked);
  lua_pop(L, 1);
}

/* ---- modules ---- */

static const ms_lua_module *find_module(const char *name) {
  for (const ms_lua_module *m = ms_lua_modules; m->name != NULL; m++)
    if (strcmp(m->name, name) == 0)
      return m;
  return NULL;
}

/* $MOONSPIKE_LUA/moonspike/nn.lua or .../nn/init.lua for "moonspike.nn"; pushes the path, or returns 0. */
static int push_path(lua_State *L, const char *name) {
  static const char *const patterns[] = {"%s/%s.lua", "%s/%s/init.lua"};
  const char *root = getenv("MOONSPIKE_LUA");
  if (root == NULL)
    return 0;
  const char *file = luaL_gsub(L, name, ".", "/");
  for (int i = 0; i < 2; i++) {
    const char *path = lua_pushfstring(L, patterns[i], root, file);
    FILE *f = fopen(path, "r");
    if (f != NULL) {
      fclose(f);
      return 1;
    }
    lua_pop(L, 1);
  }
  return 0;
}

/* Pushes the loader and where it comes from and returns 2, or a text that says where there is none and returns 1. */
static int search(lua_State *L, const char *name) {
  const ms_lua_module *m;
  if (strncmp(name, "moonspike", 9) != 0 || (name[9] != '\0' && name[9] != '.')) {
    lua_pushliteral(L, "");
    return 1;
  }
  if (push_path(L, name)) {
    if (luaL_loadfilex(L, lua_tostring(L, -1), "t") != LUA_OK)
      return lua_error(L);
    lua_pushvalue(L, -2);
    return 2;
  }
  if ((m = find_module(name)) == NULL) {
    lua_pushfstring(L, "no module '%s' inside moonspike", name);
    return 1;
  }
  if (luaL_loadbufferx(L, m->source, m->size, m->chunk, "t") != LUA_OK)
    return lua_error(L);
  lua_pushstring(L, m->chunk + 1);
  return 2;
}

static int searcher(lua_State *L) {
  return search(L, luaL_checkstring(L, 1));
}

/* Behind the standard searchers; package.path and package.cpath stay as they are. */
static void add_searcher(lua_State *L) {
  lua_getglobal(L, "package");
  if (lua_istable(L, -1) && lua_getfield(L, -1, "searchers") == LUA_TTABLE) {
    lua_pushcfunction(L, searcher);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  }
}

/* ---- packages ---- */

/* $MOONSPIKE_DEVICE names the current device at the start. */
static void start_device(lua_State *L) {
  const char *name = getenv("MOONSPIKE_DEVICE");
  ms_device *d = NULL;
  ms_error err;
  if (!name || !*name)
    return;
  if (ms_device_find(&d, name, &err))
    luaL_error(L, "MOONSPIKE_DEVICE: %s", err.text);
  ms_device_set_current(d);
}

static int open_core(lua_State *L) {
  static const struct {
    const char *name;
    lua_CFunction open;
  } parts[] = {{"tensor", ms_open_tensor},     {"ops", ms_open_ops},       {"nn", ms_open_nn},
               {"autograd", ms_open_autograd}, {"optim", ms_open_optim},   {"random", ms_open_random},
               {"device", ms_open_device},     {"data", ms_open_data},     {"checkpoint", ms_open_checkpoint},
               {"json", ms_open_json},         {"system", ms_open_system}, {"engines", ms_open_engines},
               {"capture", ms_open_capture}};
  start_device(L);
  install_hook(L);
  lua_newtable(L);
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
    lua_pushcfunction(L, parts[i].open);
    lua_call(L, 0, 1);
    lua_setfield(L, -2, parts[i].name);
  }
  ms_push_help(L);
  lua_setfield(L, -2, "help");
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, "ms.core");
  int top = lua_gettop(L);
  add_searcher(L);
  lua_settop(L, top);
  return 1;
}

/* Once in a state, by whatever name it is asked for. */
EXPORT int luaopen_moonspike_core(lua_State *L) {
  luaL_checkversion(L);
  if (lua_getfield(L, LUA_REGISTRYINDEX, "ms.core") != LUA_TTABLE)
    open_core(L);
  return 1;
}

/* require "moonspike" found this library: run the module of that name, which require would find no further. */
EXPORT int luaopen_moonspike(lua_State *L) {
  luaL_requiref(L, "moonspike.core", luaopen_moonspike_core, 0);
  lua_settop(L, 0);
  if (search(L, "moonspike") != 2)
    return luaL_error(L, "%s", lua_tostring(L, -1));
  lua_pushliteral(L, "moonspike");
  lua_insert(L, -2);
  lua_call(L, 2, 1);
  return 1;
}
