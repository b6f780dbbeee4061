/* t[i], t[{ {1, 2}, {}, 3 }] and assignment to them. A number selects a position of its dimension, a table {first,
** last} keeps a range, {i} one position, {} all; dimensions that are not named stay whole. 1-based, negative from the
** end. */
#include "bind_private.h"

typedef struct part {
  int selects; /* 1: the dimension disappears */
  int64_t start, length;
} part;

/* The number at the top of the stack as a 0-based position. */
static int64_t position(lua_State *L, const ms_tensor *t, int d) {
  int64_t n = t->size[d], i = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
  if (i == 0 || i > n || i < -n)
    ms_raise(L, "index: dimension %d: expected 1 to %I or -%I to -1, got %s", d + 1, n, n, luaL_tolstring(L, -1, NULL));
  return i > 0 ? i - 1 : n + i;
}

/* The key of dimension d, at the top of the stack. */
static part check_part(lua_State *L, const ms_tensor *t, int d) {
  if (!lua_istable(L, -1))
    return (part){1, position(L, t, d), 1};
  lua_Integer n = luaL_len(L, -1);
  if (n == 0)
    return (part){0, 0, t->size[d]};
  if (n > 2)
    ms_raise(L, "index: dimension %d: expected {first, last}, {position} or {}, got %I elements", d + 1, n);
  lua_geti(L, -1, 1);
  int64_t first = position(L, t, d);
  lua_geti(L, -2, n);
  int64_t last = position(L, t, d);
  lua_pop(L, 2);
  if (last < first)
    ms_raise(L, "index: dimension %d: expected first <= last, got %I and %I", d + 1, first + 1, last + 1);
  return (part){0, first, last - first + 1};
}

/* The key at index 2; returns the number of dimensions it names. */
static int check_key(lua_State *L, const ms_tensor *t, part parts[MS_MAX_DIMS]) {
  int many = lua_istable(L, 2);
  if (!many && lua_type(L, 2) != LUA_TNUMBER)
    ms_raise(L, "index: expected a position or a table of them, got %s", ms_type_name(L, 2));
  lua_Integer n = many ? luaL_len(L, 2) : 1;
  if (n > t->ndim)
    ms_raise(L, "index: %I positions for %s", n, ms_tensor_text(t).s);
  for (int d = 0; d < (int)n; d++) {
    if (many)
      lua_geti(L, 2, d + 1);
    else
      lua_pushvalue(L, 2);
    parts[d] = check_part(L, t, d);
    lua_pop(L, 1);
  }
  return (int)n;
}

/* From the last dimension to the first, so that a selected one does not move the others. *out +1. */
static ms_status apply(ms_tensor **out, ms_tensor *t, int n, const part *parts, ms_error *err) {
  ms_status status = MS_OK;
  ms_tensor *now = ms_retain(t);
  for (int d = n - 1; d >= 0 && !status; d--) {
    ms_tensor *next = NULL;
    if (parts[d].selects)
      status = ms_select(&next, now, d, parts[d].start, err);
    else if (parts[d].length != t->size[d])
      status = ms_narrow(&next, now, d, parts[d].start, parts[d].length, err);
    else
      continue;
    ms_release(now);
    now = next;
  }
  if (!status)
    *out = now;
  return status;
}

int ms_tensor_select(lua_State *L, ms_tensor *t) {
  part parts[MS_MAX_DIMS];
  int n = check_key(L, t, parts);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, apply(&out->tensor, t, n, parts, &err), &err, 1);
}

/* A nested table as a tensor like t, in a handle on the stack. */
static ms_tensor *push_values(lua_State *L, int index, const ms_tensor *t) {
  int ndim;
  int64_t size[MS_MAX_DIMS];
  ms_error err;
  void *host = ms_push_nested(L, index, "index", t->dtype, &ndim, size);
  ms_handle *h = ms_push_handle(L);
  ms_status status = ms_tensor_new(&h->tensor, ms_tensor_device(t), t->dtype, ndim, size, &err);
  if (!status)
    status = ms_write(h->tensor, host, &err);
  ms_finish(L, status, &err, 0);
  return h->tensor;
}

int ms_tensor_assign(lua_State *L, ms_tensor *t) {
  part parts[MS_MAX_DIMS];
  int n = check_key(L, t, parts), number = lua_type(L, 3) == LUA_TNUMBER;
  for (int d = 0; d < t->ndim; d++) /* a selected part would not show it: every repetition would change */
    if (t->stride[d] == 0 && t->size[d] > 1)
      return ms_raise(L, "index: the tensor repeats its memory (an expanded view); clone it first");
  double value = lua_tonumber(L, 3);
  ms_tensor *source = number ? NULL : lua_istable(L, 3) ? push_values(L, 3, t) : ms_check_tensor(L, 3, "value");
  ms_error err;
  ms_tensor *view = NULL;
  ms_status status = apply(&view, t, n, parts, &err);
  if (!status)
    status = number ? ms_fill_(view, value, &err) : ms_copy_(view, source, &err);
  ms_release(view);
  return ms_finish(L, status, &err, 0);
}
