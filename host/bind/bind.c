#include "bind.h"
#include "bind_private.h"
#include "../core/capture.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- handles ---- */

static int gc_stress(void) {
  static int on = -1;
  if (on < 0) {
    const char *value = getenv("MOONSPIKE_GC_STRESS");
    on = value != NULL && strcmp(value, "1") == 0;
  }
  return on;
}

ms_handle *ms_push_handle(lua_State *L) {
  if (gc_stress())
    lua_gc(L, LUA_GCCOLLECT);
  ms_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
  h->tensor = NULL;
  luaL_setmetatable(L, MS_TENSOR_TYPE);
  return h;
}

/* Runs protected, so that t can be released when the handle does not fit in memory. */
static int push_empty(lua_State *L) {
  ms_push_handle(L);
  return 1;
}

void ms_push_tensor(lua_State *L, ms_tensor *t) {
  if (t == NULL) {
    lua_pushnil(L);
    return;
  }
  if (!lua_checkstack(L, 4)) {
    ms_release(t);
    luaL_error(L, "stack overflow");
  }
  lua_pushcfunction(L, push_empty);
  if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
    ms_release(t);
    lua_error(L);
  }
  ((ms_handle *)lua_touserdata(L, -1))->tensor = t;
}

/* ---- arguments ---- */

/* Position of the nearest caller outside the library's own Lua modules, as luaL_where gives it; "" where a tail call has
** replaced it. */
static void push_where(lua_State *L) {
  lua_Debug ar;
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "S", &ar);
    if (strncmp(ar.source, "@moonspike/", 11) != 0 && (level == 1 || *ar.what != 'C')) {
      luaL_where(L, level);
      return;
    }
  }
  lua_pushliteral(L, "");
}

int ms_arg_error(lua_State *L, int index, const char *message) {
  lua_Debug ar;
  if (!lua_getstack(L, 1, &ar) || !lua_getinfo(L, "S", &ar) || strncmp(ar.source, "@moonspike/", 11) != 0)
    return luaL_argerror(L, index, message);
  lua_getstack(L, 0, &ar);
  lua_getinfo(L, "n", &ar);
  if (!strcmp(ar.namewhat, "method") && index > 1)
    index--;
  push_where(L);
  lua_pushfstring(L, "bad argument #%d to '%s' (%s)", index, ar.name ? ar.name : "?", message);
  lua_concat(L, 2);
  return lua_error(L);
}

int ms_raise(lua_State *L, const char *format, ...) {
  va_list arguments;
  push_where(L);
  va_start(arguments, format);
  lua_pushvfstring(L, format, arguments);
  va_end(arguments);
  lua_concat(L, 2);
  return lua_error(L);
}

const char *ms_type_name(lua_State *L, int index) {
  if (luaL_getmetafield(L, index, "__name") == LUA_TSTRING)
    return lua_tostring(L, -1);
  return luaL_typename(L, index);
}

int ms_expected(lua_State *L, int index, const char *arg, const char *what) {
  return ms_arg_error(L, index, lua_pushfstring(L, "%s: %s expected, got %s", arg, what, ms_type_name(L, index)));
}

ms_tensor *ms_check_tensor(lua_State *L, int index, const char *arg) {
  ms_handle *h = luaL_testudata(L, index, MS_TENSOR_TYPE);
  if (h == NULL)
    ms_expected(L, index, arg, "tensor");
  else if (h->tensor == NULL)
    ms_arg_error(L, index, lua_pushfstring(L, "%s: tensor is closed", arg));
  ms_error err;
  if (ms_capture_check(h->tensor, &err))
    ms_arg_error(L, index, lua_pushfstring(L, "%s: %s", arg, err.text));
  return h->tensor;
}

ms_tensor *ms_opt_tensor(lua_State *L, int index, const char *arg) {
  return lua_isnoneornil(L, index) ? NULL : ms_check_tensor(L, index, arg);
}

ms_tensor *ms_test_tensor(lua_State *L, int index) {
  ms_handle *h = luaL_testudata(L, index, MS_TENSOR_TYPE);
  return h ? h->tensor : NULL;
}

int64_t ms_check_integer(lua_State *L, int index, const char *arg) {
  int ok;
  lua_Integer value = lua_tointegerx(L, index, &ok);
  if (!ok && lua_type(L, index) == LUA_TNUMBER)
    ms_arg_error(L, index, lua_pushfstring(L, "%s: expected an integer, got %f", arg, lua_tonumber(L, index)));
  if (!ok || lua_type(L, index) != LUA_TNUMBER)
    ms_expected(L, index, arg, "integer");
  return value;
}

double ms_check_number(lua_State *L, int index, const char *arg) {
  if (lua_type(L, index) != LUA_TNUMBER)
    ms_expected(L, index, arg, "number");
  return lua_tonumber(L, index);
}

int64_t ms_check_index(lua_State *L, int index, const char *arg, int64_t n) {
  int64_t i = ms_check_integer(L, index, arg);
  if (n == 0)
    ms_arg_error(L, index, lua_pushfstring(L, "%s: nothing to count, the size is 0", arg));
  if (i == 0 || i > n || i < -n)
    ms_arg_error(L, index, lua_pushfstring(L, "%s: expected 1 to %I or -%I to -1, got %I", arg, n, n, i));
  return i > 0 ? i - 1 : n + i;
}

int ms_check_dim(lua_State *L, int index, const char *arg, const ms_tensor *t) {
  if (t->ndim == 0)
    ms_arg_error(L, index, lua_pushfstring(L, "%s: the tensor has no dimensions", arg));
  return (int)ms_check_index(L, index, arg, t->ndim);
}

static int sizes_of_table(lua_State *L, int index, const char *arg, int64_t size[MS_MAX_DIMS]) {
  lua_Integer n = luaL_len(L, index);
  lua_pushnil(L);
  if (n == 0 && lua_next(L, index))
    ms_arg_error(L, index, lua_pushfstring(L, "%s: expected a list of integers", arg));
  if (n == 0)
    return 0;
  lua_pop(L, 1);
  if (n > MS_MAX_DIMS)
    ms_arg_error(L, index, lua_pushfstring(L, "%s: at most %d dimensions, got %I", arg, MS_MAX_DIMS, n));
  for (int i = 0; i < (int)n; i++) {
    int ok;
    lua_geti(L, index, i + 1);
    size[i] = lua_tointegerx(L, -1, &ok);
    if (!ok || lua_type(L, -1) != LUA_TNUMBER)
      ms_arg_error(L, index,
                   lua_pushfstring(L, "%s: [%d]: integer expected, got %s", arg, i + 1, luaL_typename(L, -1)));
    lua_pop(L, 1);
  }
  return (int)n;
}

int ms_check_sizes(lua_State *L, int first, const char *arg, int64_t size[MS_MAX_DIMS]) {
  if (lua_istable(L, first))
    return sizes_of_table(L, first, arg, size);
  int n = 0;
  for (int i = first; !lua_isnoneornil(L, i) && !lua_istable(L, i); i++) {
    if (n == MS_MAX_DIMS)
      ms_arg_error(L, i, lua_pushfstring(L, "%s: at most %d dimensions", arg, MS_MAX_DIMS));
    size[n++] = ms_check_integer(L, i, arg);
  }
  return n;
}

void *ms_push_scratch(lua_State *L, size_t bytes) {
  return lua_newuserdatauv(L, bytes > 0 ? bytes : 1, 0);
}

ms_tensor **ms_check_tensors(lua_State *L, int index, const char *arg, int *n) {
  if (!lua_istable(L, index))
    ms_expected(L, index, arg, "table of tensors");
  lua_Integer count = luaL_len(L, index);
  if (count < 0 || count > 1 << 24)
    ms_arg_error(L, index, lua_pushfstring(L, "%s: too many tensors", arg));
  ms_tensor **list = ms_push_scratch(L, sizeof *list * (size_t)count);
  for (lua_Integer i = 0; i < count; i++) {
    lua_geti(L, index, i + 1);
    ms_handle *h = luaL_testudata(L, -1, MS_TENSOR_TYPE);
    if (h == NULL)
      ms_arg_error(L, index, lua_pushfstring(L, "%s: [%I]: tensor expected, got %s", arg, i + 1, ms_type_name(L, -1)));
    else if (h->tensor == NULL)
      ms_arg_error(L, index, lua_pushfstring(L, "%s: [%I]: tensor is closed", arg, i + 1));
    ms_error err;
    if (ms_capture_check(h->tensor, &err))
      ms_arg_error(L, index, lua_pushfstring(L, "%s: [%I]: %s", arg, i + 1, err.text));
    list[i] = h->tensor;
    lua_pop(L, 1);
  }
  *n = (int)count;
  return list;
}

ms_device *ms_check_device(lua_State *L, int index) {
  ms_error err;
  ms_device *d = ms_device_current();
  if (!lua_isnoneornil(L, index))
    ms_finish(L, ms_device_find(&d, luaL_checkstring(L, index), &err), &err, 0);
  return d;
}

/* ---- crossing ---- */

/* "zeros: ", from the running function's help text: core's allocator, for one, does not know for whom it works. */
static void push_operation(lua_State *L) {
  lua_Debug ar;
  ms_push_help(L);
  lua_getstack(L, 0, &ar);
  lua_getinfo(L, "f", &ar);
  lua_rawget(L, -2);
  const char *text = lua_tostring(L, -1);
  if (text != NULL)
    lua_pushfstring(L, "%s: ", lua_pushlstring(L, text, strcspn(text, "({ \n")));
  else
    lua_pushliteral(L, "");
  lua_replace(L, text != NULL ? -4 : -3);
  lua_pop(L, text != NULL ? 2 : 1);
}

int ms_finish(lua_State *L, ms_status status, const ms_error *err, int nresults) {
  if (status == MS_OK)
    return nresults;
  push_where(L);
  if ((status == MS_EMEM && !strncmp(err->text, "out of memory", 13)) || !strncmp(err->text, "captured step: ", 15))
    push_operation(L);
  else
    lua_pushliteral(L, "");
  lua_pushstring(L, status == MS_EINTR ? "interrupted!" : err->text);
  lua_concat(L, 3);
  return lua_error(L);
}

int ms_finish_env(lua_State *L, ms_status status, const ms_error *err, int nresults) {
  static const char *const names[] = {
#define MS_STATUS(name, text) #name,
#include "../../kernels/status.def"
#undef MS_STATUS
  };
  if (status == MS_OK)
    return nresults;
  luaL_pushfail(L);
  lua_pushstring(L, err->text);
  lua_pushstring(L, (unsigned)status < MS_STATUS_COUNT ? names[status] : "?");
  return 3;
}

/* ---- registration ---- */

void ms_push_help(lua_State *L) {
  if (luaL_getsubtable(L, LUA_REGISTRYINDEX, "ms.help"))
    return;
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
}

void ms_register(lua_State *L, const ms_reg *list) {
  ms_push_help(L);
  for (; list->name != NULL; list++) {
    lua_pushcfunction(L, list->function);
    lua_pushvalue(L, -1);
    lua_pushstring(L, list->help);
    lua_rawset(L, -4);
    lua_setfield(L, -3, list->name);
  }
  lua_pop(L, 1);
}
