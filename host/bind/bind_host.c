/* Tensors as host memory: reading elements out, and numbers and nested tables in. */
#include "bind_private.h"

#include <stdio.h>
#include <string.h>

size_t ms_host_width(ms_dtype dtype) {
  return dtype == MS_SPIKE ? sizeof(ms_real) : ms_dtype_size(dtype);
}

void *ms_push_host(lua_State *L, ms_tensor *t) {
  ms_error err;
  void *host = ms_push_scratch(L, (size_t)ms_numel(t) * ms_host_width(t->dtype));
  ms_finish(L, ms_read(t, host, &err), &err, 0);
  return host;
}

double ms_element(const void *host, ms_dtype dtype, int64_t i) {
  switch (dtype) {
  case MS_BF16:
    return ms_bf16_to(((const ms_bf16 *)host)[i]);
  case MS_U8:
    return ((const uint8_t *)host)[i];
  case MS_I64:
    return (double)((const int64_t *)host)[i];
  default:
    return ((const ms_real *)host)[i];
  }
}

void ms_push_element(lua_State *L, const void *host, ms_dtype dtype, int64_t i) {
  if (dtype == MS_I64)
    lua_pushinteger(L, ((const int64_t *)host)[i]);
  else if (dtype == MS_U8)
    lua_pushinteger(L, ((const uint8_t *)host)[i]);
  else
    lua_pushnumber(L, ms_element(host, dtype, i));
}

static int64_t integer_in(lua_State *L, int index, int64_t lo, int64_t hi, const char *op, const char *what) {
  int ok;
  int64_t value = lua_tointegerx(L, index, &ok);
  if (!ok)
    ms_raise(L, "%s: %s: expected an integer, got %f", op, what, lua_tonumber(L, index));
  if (value < lo || value > hi)
    ms_raise(L, "%s: %s: expected %I to %I, got %I", op, what, lo, hi, value);
  return value;
}

void ms_store_element(lua_State *L, int index, void *host, ms_dtype dtype, int64_t i, const char *op,
                      const char *what) {
  if (dtype == MS_U8 && lua_isboolean(L, index)) {
    ((uint8_t *)host)[i] = (uint8_t)lua_toboolean(L, index);
    return;
  }
  if (lua_type(L, index) != LUA_TNUMBER)
    ms_raise(L, "%s: %s: expected a number, got %s", op, what, ms_type_name(L, index));
  switch (dtype) {
  case MS_U8:
    ((uint8_t *)host)[i] = (uint8_t)integer_in(L, index, 0, 255, op, what);
    break;
  case MS_I64:
    ((int64_t *)host)[i] = integer_in(L, index, INT64_MIN, INT64_MAX, op, what);
    break;
  case MS_SPIKE:
    ((ms_real *)host)[i] = (ms_real)integer_in(L, index, 0, 255, op, what);
    break;
  case MS_BF16:
    ((ms_bf16 *)host)[i] = ms_bf16_from((float)lua_tonumber(L, index));
    break;
  default:
    ((ms_real *)host)[i] = (ms_real)lua_tonumber(L, index);
  }
}

/* ---- nested tables ---- */

typedef struct nested {
  const char *op;
  ms_dtype dtype;
  int ndim;
  int64_t size[MS_MAX_DIMS];
  int64_t at[MS_MAX_DIMS]; /* where the walk is, 1-based */
  int64_t filled;
  void *host;
} nested;

/* "value[2][3]" */
static ms_text position(const nested *n, int depth) {
  ms_text text;
  int used = snprintf(text.s, sizeof text.s, "value");
  for (int d = 0; d < depth; d++)
    used += snprintf(text.s + used, sizeof text.s - (size_t)used, "[%lld]", (long long)n->at[d]);
  return text;
}

/* Shape along the first elements. */
static void measure(lua_State *L, int index, nested *n) {
  int top = lua_gettop(L);
  lua_pushvalue(L, index);
  while (lua_istable(L, -1)) {
    if (n->ndim == MS_MAX_DIMS)
      ms_raise(L, "%s: value: at most %d dimensions", n->op, MS_MAX_DIMS);
    n->size[n->ndim++] = luaL_len(L, -1);
    lua_geti(L, -1, 1);
    if (n->size[n->ndim - 1] == 0)
      break;
  }
  lua_settop(L, top);
}

static void fill(lua_State *L, nested *n, int depth) {
  if (depth == n->ndim) {
    ms_store_element(L, -1, n->host, n->dtype, n->filled++, n->op, position(n, depth).s);
    return;
  }
  if (!lua_istable(L, -1))
    ms_raise(L, "%s: %s: expected a table of %I elements, got %s", n->op, position(n, depth).s, n->size[depth],
             ms_type_name(L, -1));
  if (luaL_len(L, -1) != n->size[depth])
    ms_raise(L, "%s: %s: expected %I elements, got %I", n->op, position(n, depth).s, n->size[depth], luaL_len(L, -1));
  for (int64_t i = 1; i <= n->size[depth]; i++) {
    n->at[depth] = i;
    lua_geti(L, -1, i);
    fill(L, n, depth + 1);
    lua_pop(L, 1);
  }
}

void *ms_push_nested(lua_State *L, int index, const char *op, ms_dtype dtype, int *ndim, int64_t size[MS_MAX_DIMS]) {
  nested n = {.op = op, .dtype = dtype};
  index = lua_absindex(L, index);
  luaL_checkstack(L, 2 * MS_MAX_DIMS + 8, op);
  measure(L, index, &n);
  size_t bytes = ms_host_width(dtype);
  for (int d = 0; d < n.ndim; d++)
    if (__builtin_mul_overflow(bytes, (size_t)n.size[d], &bytes) || bytes > (size_t)1 << 46)
      ms_raise(L, "%s: value: too many elements", op);
  n.host = ms_push_scratch(L, bytes);
  lua_pushvalue(L, index);
  fill(L, &n, 0);
  lua_pop(L, 1);
  *ndim = n.ndim;
  memcpy(size, n.size, sizeof n.size);
  return n.host;
}
