/* Functions over dimensions. dim is 1-based; several as a table; none: over everything. keep leaves reduced
** dimensions as 1. */
#include "bind_private.h"

/* nil: 0, all dimensions; a number; a table of numbers. As core's bit mask. */
static unsigned check_dims(lua_State *L, int index, const ms_tensor *x) {
  if (lua_isnoneornil(L, index))
    return 0;
  if (!lua_istable(L, index))
    return 1u << ms_check_dim(L, index, "dim", x);
  unsigned mask = 0;
  for (lua_Integer i = 1, n = luaL_len(L, index); i <= n; i++) {
    lua_geti(L, index, i);
    lua_Integer dim = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
    if (dim == 0 || dim > x->ndim || dim < -x->ndim)
      ms_arg_error(L, index,
                   lua_pushfstring(L, "dim: [%I]: expected 1 to %d or -%d to -1, got %s", i, x->ndim, x->ndim,
                                   luaL_tolstring(L, -1, NULL)));
    unsigned bit = 1u << (dim > 0 ? dim - 1 : x->ndim + dim);
    if (mask & bit)
      ms_arg_error(L, index, lua_pushfstring(L, "dim: [%I]: expected each dimension once, got %I again", i, dim));
    mask |= bit;
    lua_pop(L, 1);
  }
  return mask;
}

static int reduce(lua_State *L, ms_reduce_op op) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  unsigned dims = check_dims(L, 2, x);
  int keep = lua_toboolean(L, 3);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_reduce(&out->tensor, op, x, dims, keep, &err), &err, 1);
}

/* max(x) -> value; max(x, dim) -> values, indices */
static int extreme(lua_State *L, ms_reduce_op op, ms_reduce_op where) {
  if (lua_isnoneornil(L, 2))
    return reduce(L, op);
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  unsigned dims = check_dims(L, 2, x);
  int keep = lua_toboolean(L, 3);
  ms_error err;
  ms_handle *value = ms_push_handle(L), *index = ms_push_handle(L);
  ms_status status = ms_reduce(&value->tensor, op, x, dims, keep, &err);
  if (!status)
    status = ms_reduce(&index->tensor, where, x, dims, keep, &err);
  return ms_finish(L, status, &err, 2);
}

static int reduce_sum(lua_State *L) {
  return reduce(L, MS_REDUCE_sum);
}

static int reduce_prod(lua_State *L) {
  return reduce(L, MS_REDUCE_prod);
}

static int reduce_argmax(lua_State *L) {
  return reduce(L, MS_REDUCE_argmax);
}

static int reduce_argmin(lua_State *L) {
  return reduce(L, MS_REDUCE_argmin);
}

static int reduce_any(lua_State *L) {
  return reduce(L, MS_REDUCE_any);
}

static int reduce_all(lua_State *L) {
  return reduce(L, MS_REDUCE_all);
}

static int reduce_max(lua_State *L) {
  return extreme(L, MS_REDUCE_max, MS_REDUCE_argmax);
}

static int reduce_min(lua_State *L) {
  return extreme(L, MS_REDUCE_min, MS_REDUCE_argmin);
}

static int reduce_mean(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  unsigned dims = check_dims(L, 2, x);
  int keep = lua_toboolean(L, 3);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_mean(&out->tensor, x, dims, keep, &err), &err, 1);
}

static int reduce_var(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  unsigned dims = check_dims(L, 2, x);
  int keep = lua_toboolean(L, 3), unbiased = lua_isnoneornil(L, 4) || lua_toboolean(L, 4);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_var(&out->tensor, x, dims, keep, unbiased, &err), &err, 1);
}

static int reduce_std(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  unsigned dims = check_dims(L, 2, x);
  int keep = lua_toboolean(L, 3), unbiased = lua_isnoneornil(L, 4) || lua_toboolean(L, 4);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_std(&out->tensor, x, dims, keep, unbiased, &err), &err, 1);
}

static int reduce_norm(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *square = NULL, *sum = NULL;
  unsigned dims = check_dims(L, 2, x);
  int keep = lua_toboolean(L, 3);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  ms_status status = ms_unary(&square, MS_UNARY_square, x, &err);
  if (!status)
    status = ms_reduce(&sum, MS_REDUCE_sum, square, dims, keep, &err);
  if (!status)
    status = ms_unary(&out->tensor, MS_UNARY_sqrt, sum, &err);
  ms_release(sum);
  ms_release(square);
  return ms_finish(L, status, &err, 1);
}

#define DIMS                                                                                                           \
  "\ndim: a dimension or a table of them, 1-based, negative from the end; nil: all. keep (false): reduced dimensions " \
  "stay as 1."

const ms_reg ms_reduce_functions[] = {
    {"sum", reduce_sum, "sum(x[, dim[, keep]]) -> tensor\n\nThe sum." DIMS},
    {"prod", reduce_prod, "prod(x[, dim[, keep]]) -> tensor\n\nThe product." DIMS},
    {"mean", reduce_mean, "mean(x[, dim[, keep]]) -> tensor\n\nThe mean, as a float." DIMS},
    {"var", reduce_var,
     "var(x[, dim[, keep[, unbiased]]]) -> tensor\n\nThe variance, divided by n - 1, or by n where unbiased is "
     "false." DIMS},
    {"std", reduce_std,
     "std(x[, dim[, keep[, unbiased]]]) -> tensor\n\nThe standard deviation: the root of var with the same "
     "arguments." DIMS},
    {"norm", reduce_norm,
     "norm(x[, dim[, keep]]) -> tensor\n\nThe Euclidean norm: the root of the sum of squares." DIMS},
    {"max", reduce_max,
     "max(x) -> tensor, or max(x, dim[, keep]) -> values, indices\n\nThe largest element; with dim also where it lies, "
     "0-based (int64), the first one on ties. Raises on empty tensors." DIMS},
    {"min", reduce_min,
     "min(x) -> tensor, or min(x, dim[, keep]) -> values, indices\n\nThe smallest element; with dim also where it "
     "lies, "
     "0-based (int64), the first one on ties. Raises on empty tensors." DIMS},
    {"argmax", reduce_argmax,
     "argmax(x[, dim[, keep]]) -> tensor int64\n\nWhere the largest element lies: a 0-based index, as labels are; the "
     "first one on ties." DIMS},
    {"argmin", reduce_argmin,
     "argmin(x[, dim[, keep]]) -> tensor int64\n\nWhere the smallest element lies: a 0-based index; the first one on "
     "ties." DIMS},
    {"any", reduce_any, "any(x[, dim[, keep]]) -> tensor uint8\n\n1 where some element is not 0." DIMS},
    {"all", reduce_all, "all(x[, dim[, keep]]) -> tensor uint8\n\n1 where no element is 0." DIMS},
    {NULL, NULL, NULL}};
