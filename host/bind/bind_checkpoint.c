/* safetensors files for Lua: open, look, read; write a list of tensors. */
#include "../core/safetensors.h"
#include "bind_private.h"
#include <stdlib.h>
#include <string.h>

#define FILE_TYPE "ms.Checkpoint"
#define WRITER_TYPE "ms.CheckpointWriter"

/* Empty until core fills it, and after close. */
typedef struct file_handle {
  ms_st_file *file;
} file_handle;

typedef struct writer_handle {
  ms_st_writer *writer;
} writer_handle;

static ms_st_file *check_file(lua_State *L) {
  file_handle *h = luaL_checkudata(L, 1, FILE_TYPE);
  if (!h->file)
    ms_arg_error(L, 1, "the checkpoint is closed");
  return h->file;
}

static int check_name(lua_State *L, const ms_st_file *f, int index) {
  const char *name = luaL_checkstring(L, index);
  int i = ms_st_find(f, name);
  if (i < 0)
    ms_arg_error(L, index, lua_pushfstring(L, "name: the file holds no tensor '%s'", name));
  return i;
}

static int checkpoint_open(lua_State *L) {
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  file_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
  h->file = NULL;
  luaL_setmetatable(L, FILE_TYPE);
  return ms_finish_env(L, ms_st_open(&h->file, path, &err), &err, 1);
}

static int file_close(lua_State *L) {
  file_handle *h = luaL_checkudata(L, 1, FILE_TYPE);
  ms_st_close(h->file);
  h->file = NULL;
  return 0;
}

static int file_tostring(lua_State *L) {
  const file_handle *h = luaL_checkudata(L, 1, FILE_TYPE);
  if (h->file)
    lua_pushfstring(L, "checkpoint (%d tensors)", ms_st_count(h->file));
  else
    lua_pushliteral(L, "checkpoint (closed)");
  return 1;
}

static int file_names(lua_State *L) {
  const ms_st_file *f = check_file(L);
  int n = ms_st_count(f);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushstring(L, ms_st_at(f, i)->name);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int file_has(lua_State *L) {
  lua_pushboolean(L, ms_st_find(check_file(L), luaL_checkstring(L, 2)) >= 0);
  return 1;
}

static int file_entry(lua_State *L) {
  const ms_st_file *f = check_file(L);
  const ms_st_entry *e = ms_st_at(f, check_name(L, f, 2));
  lua_pushstring(L, e->dtype);
  lua_createtable(L, e->ndim, 0);
  for (int d = 0; d < e->ndim; d++) {
    lua_pushinteger(L, e->size[d]);
    lua_rawseti(L, -2, d + 1);
  }
  return 2;
}

static int file_tensor(lua_State *L) {
  ms_error err;
  const ms_st_file *f = check_file(L);
  int i = check_name(L, f, 2);
  ms_handle *h = ms_push_handle(L);
  return ms_finish_env(L, ms_st_tensor(&h->tensor, f, i, &err), &err, 1);
}

static int file_metadata(lua_State *L) {
  const ms_st_file *f = check_file(L);
  int n = ms_st_metadata_count(f);
  lua_createtable(L, 0, n);
  for (int i = 0; i < n; i++) {
    const char *key, *value;
    ms_st_metadata_at(f, i, &key, &value);
    lua_pushstring(L, value);
    lua_setfield(L, -2, key);
  }
  return 1;
}

/* ---- writing ---- */

static int writer_gc(lua_State *L) {
  writer_handle *h = luaL_checkudata(L, 1, WRITER_TYPE);
  ms_st_writer_free(h->writer);
  h->writer = NULL;
  return 0;
}

/* A string without NUL bytes, at the top of the stack; not converted from a number. */
static const char *check_text(lua_State *L, const char *what, const char *name) {
  size_t n;
  if (lua_type(L, -1) != LUA_TSTRING)
    ms_raise(L, "write: %s%s: expected a string, got %s", what, name, ms_type_name(L, -1));
  const char *s = lua_tolstring(L, -1, &n);
  if (memchr(s, 0, n))
    ms_raise(L, "write: %s%s: a string with a NUL byte", what, name);
  return s;
}

static void add_tensors(lua_State *L, ms_st_writer *w) {
  ms_error err;
  lua_Integer n = luaL_len(L, 2);
  for (lua_Integer i = 1; i <= n; i++) {
    if (lua_geti(L, 2, i) != LUA_TTABLE)
      ms_raise(L, "write: tensors[%I]: expected {name, tensor}, got %s", i, ms_type_name(L, -1));
    lua_geti(L, -1, 2);
    ms_tensor *t = ms_test_tensor(L, -1);
    if (!t)
      ms_raise(L, "write: tensors[%I]: expected a tensor at 2, got %s", i, ms_type_name(L, -1));
    lua_geti(L, -2, 1);
    const char *name = check_text(L, "name in tensors", "");
    ms_finish(L, ms_st_writer_add(w, name, t, &err), &err, 0);
    lua_settop(L, 4);
  }
}

static void add_metadata(lua_State *L, ms_st_writer *w) {
  ms_error err;
  for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) { /* the writer sorts them */
    lua_pushvalue(L, -2);
    const char *key = check_text(L, "key in metadata", "");
    lua_pop(L, 1);
    const char *value = check_text(L, "metadata.", key);
    ms_finish(L, ms_st_writer_metadata(w, key, value, &err), &err, 0);
  }
}

static int checkpoint_write(lua_State *L) {
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  if (!lua_isnoneornil(L, 3))
    luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 3);
  writer_handle *h = lua_newuserdatauv(L, sizeof *h, 0); /* index 4 */
  h->writer = NULL;
  luaL_setmetatable(L, WRITER_TYPE);
  ms_finish(L, ms_st_writer_new(&h->writer, path, &err), &err, 0);
  add_tensors(L, h->writer);
  if (!lua_isnil(L, 3))
    add_metadata(L, h->writer);
  lua_settop(L, 4);
  ms_status status = ms_st_writer_finish(h->writer, &err);
  ms_st_writer_free(h->writer);
  h->writer = NULL;
  lua_pushboolean(L, 1);
  return ms_finish_env(L, status, &err, 1);
}

static const ms_reg functions[] = {
    {"open", checkpoint_open,
     "open(path) -> file, or nil, message\n\nOpens a safetensors file and checks all of it but the values. "
     "file:names() in "
     "order of position, file:has(name), file:entry(name) -> dtype, shape; file:tensor(name) -> tensor on the cpu; "
     "file:metadata() -> table of strings; file:close()."},
    {"write", checkpoint_write,
     "write(path, {{name, tensor}, ...}[, metadata]) -> true, or nil, message\n\nWrites a safetensors file through a "
     "temporary one: whatever fails, the previous file stays whole. metadata: a table of strings."},
    {NULL, NULL, NULL}};

static const ms_reg methods[] = {
    {"names", file_names, "file:names() -> list of names, in order of position in the file"},
    {"has", file_has, "file:has(name) -> boolean"},
    {"entry", file_entry, "file:entry(name) -> dtype, shape\n\nThe type as the file names it: \"F32\", \"I64\", ..."},
    {"tensor", file_tensor, "file:tensor(name) -> tensor on the cpu, or nil, message"},
    {"metadata", file_metadata, "file:metadata() -> table of strings"},
    {"close", file_close, "file:close()\n\nMore than once is fine."},
    {NULL, NULL, NULL}};

static const luaL_Reg file_meta[] = {
    {"__gc", file_close}, {"__close", file_close}, {"__tostring", file_tostring}, {NULL, NULL}};

int ms_open_checkpoint(lua_State *L) {
  if (luaL_newmetatable(L, FILE_TYPE)) {
    luaL_setfuncs(L, file_meta, 0);
    lua_newtable(L);
    ms_register(L, methods);
    lua_setfield(L, -2, "__index");
  }
  if (luaL_newmetatable(L, WRITER_TYPE)) {
    lua_pushcfunction(L, writer_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 2);
  lua_newtable(L);
  ms_register(L, functions);
  return 1;
}
