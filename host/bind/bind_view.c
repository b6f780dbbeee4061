/* Shapes, views, conversion, joining and gathering. Positions are 1-based and may count from the end. */
#include "bind_private.h"

#include <string.h>

static int view_view(lua_State *L) {
  int64_t size[MS_MAX_DIMS];
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int ndim = ms_check_sizes(L, 2, "size", size);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_view(&out->tensor, x, ndim, size, &err), &err, 1);
}

static int view_reshape(lua_State *L) {
  int64_t size[MS_MAX_DIMS];
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int ndim = ms_check_sizes(L, 2, "size", size);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_reshape(&out->tensor, x, ndim, size, &err), &err, 1);
}

static int view_expand(lua_State *L) {
  int64_t size[MS_MAX_DIMS];
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int ndim = ms_check_sizes(L, 2, "size", size);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_expand(&out->tensor, x, ndim, size, &err), &err, 1);
}

static int view_flatten(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int first = lua_isnoneornil(L, 2) ? 0 : ms_check_dim(L, 2, "first", x);
  int last = lua_isnoneornil(L, 3) ? -1 : ms_check_dim(L, 3, "last", x);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_flatten(&out->tensor, x, first, last, &err), &err, 1);
}

static int view_select(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int dim = ms_check_dim(L, 2, "dim", x);
  int64_t at = ms_check_index(L, 3, "position", x->size[dim]);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_select(&out->tensor, x, dim, at, &err), &err, 1);
}

static int view_narrow(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int dim = ms_check_dim(L, 2, "dim", x);
  int64_t start = ms_check_index(L, 3, "start", x->size[dim]), length = ms_check_integer(L, 4, "length");
  if (length < 0 || length > x->size[dim] - start)
    ms_arg_error(L, 4, lua_pushfstring(L, "length: expected 0 to %I, got %I", x->size[dim] - start, length));
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_narrow(&out->tensor, x, dim, start, length, &err), &err, 1);
}

static int view_transpose(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int a = ms_check_dim(L, 2, "first", x), b = ms_check_dim(L, 3, "second", x);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_transpose(&out->tensor, x, a, b, &err), &err, 1);
}

static int view_t(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  if (x->ndim != 2)
    return ms_raise(L, "t: x: expected 2 dimensions, got %s", ms_tensor_text(x).s);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_transpose(&out->tensor, x, 0, 1, &err), &err, 1);
}

static int view_permute(lua_State *L) {
  int64_t given[MS_MAX_DIMS];
  int order[MS_MAX_DIMS];
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int n = ms_check_sizes(L, 2, "order", given);
  if (n != x->ndim)
    return ms_raise(L, "permute: order: expected %d dimensions, got %d", x->ndim, n);
  for (int d = 0; d < n; d++) {
    if (given[d] == 0 || given[d] > n || given[d] < -n)
      return ms_raise(L, "permute: order: expected 1 to %d or -%d to -1, got %I", n, n, given[d]);
    order[d] = (int)(given[d] > 0 ? given[d] - 1 : n + given[d]);
  }
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_permute(&out->tensor, x, order, &err), &err, 1);
}

static int view_squeeze(lua_State *L) {
  int64_t size[MS_MAX_DIMS];
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int all = lua_isnoneornil(L, 2), dim = all ? 0 : ms_check_dim(L, 2, "dim", x), n = 0;
  for (int d = 0; d < x->ndim; d++)
    if (x->size[d] != 1)
      size[n++] = x->size[d];
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  ms_status status = all ? ms_view(&out->tensor, x, n, size, &err) : ms_squeeze(&out->tensor, x, dim, &err);
  return ms_finish(L, status, &err, 1);
}

static int view_unsqueeze(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int dim = (int)ms_check_index(L, 2, "dim", x->ndim + 1);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_unsqueeze(&out->tensor, x, dim, &err), &err, 1);
}

/* Functions of one tensor and nothing else. */
static int plain(lua_State *L, ms_status (*op)(ms_tensor **out, ms_tensor *x, ms_error *err)) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, op(&out->tensor, x, &err), &err, 1);
}

static int view_contiguous(lua_State *L) {
  return plain(L, ms_contiguous);
}

static int view_clone(lua_State *L) {
  return plain(L, ms_clone);
}

static int view_detach(lua_State *L) {
  return plain(L, ms_detach);
}

static int push_to(lua_State *L, ms_tensor *x, ms_device *d, int dtype) {
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_to(&out->tensor, x, d, dtype, &err), &err, 1);
}

static int view_to(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  if (lua_type(L, 2) != LUA_TSTRING)
    ms_expected(L, 2, "device_or_dtype", "string");
  const char *name = lua_tostring(L, 2);
  int dtype = ms_dtype_find(name);
  if (dtype >= 0)
    return push_to(L, x, NULL, dtype);
  if (strncmp(name, "cpu", 3) && strncmp(name, "cuda", 4) && strcmp(name, "auto"))
    return ms_raise(L,
                    "to: device_or_dtype: expected a device (cpu, cuda, cuda:N, auto) or one of float32, bfloat16, "
                    "spike, uint8, int64, got '%s'",
                    name);
  ms_device *d = ms_check_device(L, 2);
  if (!lua_isnoneornil(L, 3))
    dtype = (int)ms_dtype_of(L, "to", "dtype", luaL_checkstring(L, 3));
  return push_to(L, x, d, dtype);
}

static int view_float(lua_State *L) {
  return push_to(L, ms_check_tensor(L, 1, "x"), NULL, MS_F32);
}

static int view_bfloat16(lua_State *L) {
  return push_to(L, ms_check_tensor(L, 1, "x"), NULL, MS_BF16);
}

static int view_byte(lua_State *L) {
  return push_to(L, ms_check_tensor(L, 1, "x"), NULL, MS_U8);
}

static int view_long(lua_State *L) {
  return push_to(L, ms_check_tensor(L, 1, "x"), NULL, MS_I64);
}

static int view_cat(lua_State *L) {
  int n;
  lua_settop(L, 2);
  ms_tensor **list = ms_check_tensors(L, 1, "list", &n);
  luaL_argcheck(L, n > 0, 1, "list: expected at least one tensor");
  int dim = lua_isnoneornil(L, 2) ? 0 : ms_check_dim(L, 2, "dim", list[0]);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_cat(&out->tensor, n, list, dim, &err), &err, 1);
}

static int view_stack(lua_State *L) {
  int n;
  lua_settop(L, 2);
  ms_tensor **list = ms_check_tensors(L, 1, "list", &n);
  luaL_argcheck(L, n > 0, 1, "list: expected at least one tensor");
  int dim = lua_isnoneornil(L, 2) ? 0 : (int)ms_check_index(L, 2, "dim", list[0]->ndim + 1);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_stack(&out->tensor, n, list, dim, &err), &err, 1);
}

static int view_gather(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *index = ms_check_tensor(L, 3, "index");
  int dim = ms_check_dim(L, 2, "dim", x);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_gather(&out->tensor, x, dim, index, &err), &err, 1);
}

static int view_index_select(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *index = ms_check_tensor(L, 3, "index");
  int dim = ms_check_dim(L, 2, "dim", x);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_index_select(&out->tensor, x, dim, index, &err), &err, 1);
}

static int view_topk(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int64_t k = ms_check_integer(L, 2, "k");
  int dim = lua_isnoneornil(L, 3) ? -1 : ms_check_dim(L, 3, "dim", x);
  int largest = lua_isnoneornil(L, 4) || lua_toboolean(L, 4);
  ms_error err;
  ms_handle *value = ms_push_handle(L), *index = ms_push_handle(L);
  return ms_finish(L, ms_topk(&value->tensor, &index->tensor, x, k, dim, largest, &err), &err, 2);
}

const ms_reg ms_view_functions[] = {
    {"view", view_view,
     "view(x, n1, n2, ...) or view(x, {n1, n2, ...}) -> tensor\n\nThe same memory in another shape; one size may be "
     "-1. "
     "Raises where memory does not allow it: reshape copies then."},
    {"reshape", view_reshape,
     "reshape(x, n1, n2, ...) or reshape(x, {n1, n2, ...}) -> tensor\n\nThe elements in row-major order in another "
     "shape; "
     "one size may be -1. A view where memory allows, else a copy."},
    {"expand", view_expand,
     "expand(x, n1, n2, ...) or expand(x, {n1, n2, ...}) -> tensor\n\nRepeats dimensions of size 1 without copying; -1 "
     "leaves a size as it is; new leading dimensions are allowed. x:expand(T, -1, -1, -1, -1) repeats a static image "
     "over "
     "time."},
    {"flatten", view_flatten,
     "flatten(x[, first[, last]]) -> tensor\n\nDimensions first to last (1-based; 1 and the last by default) become "
     "one, in "
     "row-major order."},
    {"select", view_select,
     "select(x, dim, position) -> tensor\n\nOne position of dimension dim, which disappears; both 1-based, negative "
     "from "
     "the end. A view."},
    {"narrow", view_narrow,
     "narrow(x, dim, start, length) -> tensor\n\nlength positions of dimension dim from start; dim and start 1-based, "
     "negative from the end. A view."},
    {"transpose", view_transpose,
     "transpose(x, first, second) -> tensor\n\nExchanges two dimensions (1-based). A view."},
    {"t", view_t, "t(x) -> tensor [n, m]\n\nThe transpose of a matrix [m, n]. A view."},
    {"permute", view_permute,
     "permute(x, d1, d2, ...) or permute(x, {d1, d2, ...}) -> tensor\n\nDimension i of the result is dimension di of x "
     "(1-based). A view."},
    {"squeeze", view_squeeze,
     "squeeze(x[, dim]) -> tensor\n\nLeaves out dimension dim (1-based) if its size is 1; without dim every dimension "
     "of "
     "size 1. A view."},
    {"unsqueeze", view_unsqueeze,
     "unsqueeze(x, dim) -> tensor\n\nA new dimension of size 1 at position dim (1 to dim(x) + 1, negative from the "
     "end). A "
     "view."},
    {"contiguous", view_contiguous, "contiguous(x) -> tensor\n\nx itself where it is contiguous, else a copy that is."},
    {"clone", view_clone, "clone(x) -> tensor\n\nA copy; gradients flow back to x."},
    {"detach", view_detach, "detach(x) -> tensor\n\nThe same memory without history: no gradient flows through it."},
    {"to", view_to,
     "to(x, device_or_dtype[, dtype]) -> tensor\n\nx on a device (\"cpu\", \"cuda\", \"cuda:1\") or as a type "
     "(\"float32\", "
     "\"bfloat16\", \"spike\", \"uint8\", \"int64\"), or both; x itself where nothing changes."},
    {"float", view_float, "float(x) -> tensor\n\nx as float32."},
    {"bfloat16", view_bfloat16, "bfloat16(x) -> tensor\n\nx as bfloat16, rounded to nearest even."},
    {"byte", view_byte, "byte(x) -> tensor\n\nx as uint8."},
    {"long", view_long, "long(x) -> tensor\n\nx as int64."},
    {"cat", view_cat,
     "cat({x1, x2, ...}[, dim]) -> tensor\n\nJoins tensors along dimension dim (1-based, 1 by default); the other "
     "sizes are "
     "equal."},
    {"stack", view_stack,
     "stack({x1, x2, ...}[, dim]) -> tensor\n\nJoins tensors of one shape along a new dimension dim (1-based, 1 by "
     "default)."},
    {"gather", view_gather,
     "gather(x, dim, index) -> tensor\n\nout[i][j] = x[index[i][j]][j] for dim 1 of two, and likewise; dim is 1-based, "
     "the int64 values of index 0-based. An index out of range raises on the CPU and gives 0 elsewhere."},
    {"index_select", view_index_select,
     "index_select(x, dim, index) -> tensor\n\nThe positions of dimension dim (1-based) that index [n] (int64, values "
     "0-based) lists. An index out of range raises on the CPU and gives 0 elsewhere."},
    {"topk", view_topk,
     "topk(x, k[, dim[, largest]]) -> values, indices\n\nThe k largest (or, largest = false, smallest) along dim "
     "(1-based, "
     "last by default), sorted; indices are 0-based (int64)."},
    {NULL, NULL, NULL}};
