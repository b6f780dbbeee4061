/* npy, npz and CIFAR files for Lua. */
#include "../core/data/arrays.h"
#include "../core/data/cifar.h"
#include "bind_private.h"
#include <string.h>

#define NPZ_TYPE "ms.Npz"

/* Empty until core fills it, and after close. */
typedef struct npz_handle {
  ms_npz_file *file;
} npz_handle;

static int read_npy(lua_State *L) {
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  ms_handle *h = ms_push_handle(L);
  return ms_finish_env(L, ms_npy_tensor(&h->tensor, path, &err), &err, 1);
}

/* ---- npz ---- */

static ms_npz_file *check_npz(lua_State *L) {
  npz_handle *h = luaL_checkudata(L, 1, NPZ_TYPE);
  if (!h->file)
    ms_arg_error(L, 1, "the npz file is closed");
  return h->file;
}

static int npz_close(lua_State *L) {
  npz_handle *h = luaL_checkudata(L, 1, NPZ_TYPE);
  ms_npz_file_close(h->file);
  h->file = NULL;
  return 0;
}

static int npz_names(lua_State *L) {
  const ms_npz_file *f = check_npz(L);
  int64_t n = ms_npz_file_count(f);
  lua_newtable(L);
  for (int64_t i = 0; i < n; i++) {
    size_t bytes;
    const char *name = ms_npz_file_name(f, i, &bytes);
    lua_pushlstring(L, name, bytes);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int npz_tensor(lua_State *L) {
  ms_error err;
  ms_npz_file *f = check_npz(L);
  int64_t i = ms_check_index(L, 2, "index", ms_npz_file_count(f));
  ms_handle *h = ms_push_handle(L);
  return ms_finish_env(L, ms_npz_file_tensor(&h->tensor, f, i, &err), &err, 1);
}

static const ms_reg npz_methods[] = {
    {"names", npz_names, "npz:names() -> { names of the arrays, without .npy }\n\nIn the order of their bytes."},
    {"tensor", npz_tensor, "npz:tensor(index) -> tensor, or nil, message\n\nThe array that has this place in names()."},
    {"close", npz_close, "npz:close()\n\nMore than once is fine."},
    {NULL, NULL, NULL}};

static const luaL_Reg npz_meta[] = {{"__gc", npz_close}, {"__close", npz_close}, {NULL, NULL}};

static int open_npz(lua_State *L) {
  ms_error err;
  const char *path = luaL_checkstring(L, 1);
  int64_t most = ms_check_integer(L, 2, "most");
  npz_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
  h->file = NULL;
  if (luaL_newmetatable(L, NPZ_TYPE)) {
    luaL_setfuncs(L, npz_meta, 0);
    lua_newtable(L);
    ms_register(L, npz_methods);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  return ms_finish_env(L, ms_npz_file_open(&h->file, path, most < 0 ? 0 : (uint64_t)most, &err), &err, 1);
}

static int write_npz(lua_State *L) {
  ms_error err;
  int names, tensors;
  const char *path = luaL_checkstring(L, 1);
  const char **name = ms_check_strings(L, 2, "write_npz", "names", &names);
  ms_tensor **tensor = ms_check_tensors(L, 3, "tensors", &tensors);
  if (names != tensors)
    ms_arg_error(L, 3, "tensors: expected one for each name");
  lua_pushboolean(L, 1);
  return ms_finish_env(L, ms_npz_file_write(path, names, name, tensor, &err), &err, 1);
}

/* ---- CIFAR ---- */

static void push_names(lua_State *L, const char (*names)[MS_CIFAR_NAME], int n) {
  lua_createtable(L, n, 0);
  for (int i = 0; i < n && names[i][0]; i++) {
    lua_pushstring(L, names[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static int read_cifar(lua_State *L) {
  static const char *const keys[] = {"classes", "train", "roots", "policy", NULL};
  ms_error err;
  ms_repairs repairs = {0};
  luaL_checktype(L, 1, LUA_TTABLE);
  ms_check_options(L, 1, "read_cifar", keys);
  lua_settop(L, 1);
  ms_cifar_source source = {.classes = (int)ms_option_integer(L, 1, "read_cifar", "classes", 10),
                            .train = ms_option_boolean(L, 1, "read_cifar", "train", 1),
                            .policy =
                                (ms_policy)ms_option_enum(L, 1, "read_cifar", "policy", MS_STRICT, ms_policy_names),
                            .repairs = &repairs};
  if (source.classes != 10 && source.classes != 100)
    ms_raise(L, "read_cifar: classes: expected 10 or 100, got %d", source.classes);
  source.roots = ms_option_strings(L, 1, "read_cifar", "roots", &source.nroots);
  ms_cifar *c = ms_push_scratch(L, sizeof *c);
  ms_handle *images = ms_push_handle(L), *labels = ms_push_handle(L), *coarse = ms_push_handle(L);
  ms_status status = ms_cifar_read(c, &source, &err);
  images->tensor = c->images;
  labels->tensor = c->labels;
  coarse->tensor = c->coarse;
  if (status)
    return ms_finish_env(L, status, &err, 1);
  int top = lua_gettop(L);
  lua_createtable(L, 0, 7);
  for (int i = 0; i < 3; i++)
    if (i < 2 || c->coarse) {
      lua_pushvalue(L, top - 2 + i);
      lua_setfield(L, -2, ((const char *const[]){"images", "labels", "coarse"})[i]);
    }
  push_names(L, (const char(*)[MS_CIFAR_NAME])c->names, source.classes);
  lua_setfield(L, -2, "classes");
  push_names(L, (const char(*)[MS_CIFAR_NAME])c->coarse_names, c->coarse ? 20 : 0);
  lua_setfield(L, -2, "coarse_classes");
  lua_pushstring(L, c->path);
  lua_setfield(L, -2, "path");
  ms_push_repairs(L, &repairs);
  lua_setfield(L, -2, "repairs");
  return 1;
}

const ms_reg ms_data_arrays_functions[] = {
    {"read_npy", read_npy,
     "read_npy(path) -> tensor, or nil, message\n\nReads an array that NumPy saved: bool and uint8 as uint8, other "
     "integers as int64, floats as float32. Objects are never unpickled."},
    {"open_npz", open_npz,
     "open_npz(path, most) -> npz, or nil, message\n\nOpens NumPy's archive of arrays; most: bytes that they may "
     "unpack "
     "to."},
    {"write_npz", write_npz,
     "write_npz(path, names, tensors) -> true, or nil, message\n\nWrites an archive that numpy.load opens. The old "
     "file "
     "stays whole when anything fails."},
    {"read_cifar", read_cifar,
     "read_cifar{classes=10, train=true, roots={}, policy=\"strict\"} -> { images=, labels=, coarse=, classes=, "
     "coarse_classes=, path=, repairs= }, or nil, message\n\nCIFAR-10 or CIFAR-100, binary version: roots are folders "
     "with its files, folders with such a folder or the archive in it, or the archive itself. images: uint8 [n, 3, 32, "
     "32]; labels: int64 [n]; classes: names, {} where the file of names is missing. policy: strict (damage is an "
     "error), "
     "lenient (an unfinished last record is left out: its bytes in repairs as truncated), oracle (as TensorFlow "
     "Datasets, "
     "the published reader of this version: a last byte is left out, a longer rest is an error, a file may be empty)."},
    {NULL, NULL, NULL}};
