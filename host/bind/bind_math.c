/* Element-wise functions and products. Those of unary.def and binary.def are generated from the lists. */
#include "bind_private.h"

#include <math.h>

/* ---- unary.def ---- */

static int unary(lua_State *L, ms_unary_op op) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_unary(&out->tensor, op, x, &err), &err, 1);
}

#define MS_UNARY(name, lo, hi)           \
  static int math_##name(lua_State *L) { \
    return unary(L, MS_UNARY_##name);    \
  }
#include "../../kernels/unary.def"
#undef MS_UNARY

/* ---- binary.def: a tensor and a tensor or number, in either order ---- */

static int binary(lua_State *L, ms_binary_op op) {
  ms_error err;
  int left = lua_type(L, 1) == LUA_TNUMBER, right = lua_type(L, 2) == LUA_TNUMBER;
  if (left || right) {
    ms_tensor *x = left ? ms_check_tensor(L, 2, "y") : ms_check_tensor(L, 1, "x");
    double value = lua_tonumber(L, left ? 1 : 2);
    ms_handle *out = ms_push_handle(L);
    return ms_finish(L, ms_binary_scalar(&out->tensor, op, x, value, left, &err), &err, 1);
  }
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  if (!luaL_testudata(L, 2, MS_TENSOR_TYPE))
    ms_expected(L, 2, "y", "tensor or number");
  ms_tensor *y = ms_check_tensor(L, 2, "y");
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_binary(&out->tensor, op, x, y, &err), &err, 1);
}

/* x + alpha * y, both tensors */
static int scaled_add(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *y = ms_check_tensor(L, 2, "y"), *scaled = NULL;
  double alpha = ms_check_number(L, 3, "alpha");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  ms_status status = ms_binary_scalar(&scaled, MS_BINARY_mul, y, alpha, 0, &err);
  if (!status)
    status = ms_binary(&out->tensor, MS_BINARY_add, x, scaled, &err);
  ms_release(scaled);
  return ms_finish(L, status, &err, 1);
}

#define MS_BINARY(name)                                              \
  static int math_##name(lua_State *L) {                             \
    if (MS_BINARY_##name == MS_BINARY_add && !lua_isnoneornil(L, 3)) \
      return scaled_add(L);                                          \
    return binary(L, MS_BINARY_##name);                              \
  }
#define MS_COMPARE(name) MS_BINARY(name)
#include "../../kernels/binary.def"

/* ---- others ---- */

/* A tensor, or a number as a tensor without dimensions (held by a handle on the stack). */
static ms_tensor *check_operand(lua_State *L, int index, const char *arg, ms_device *d) {
  if (lua_type(L, index) != LUA_TNUMBER)
    return ms_check_tensor(L, index, arg);
  ms_error err;
  ms_handle *h = ms_push_handle(L);
  ms_finish(L, ms_full(&h->tensor, d, MS_F32, 0, NULL, lua_tonumber(L, index), &err), &err, 0);
  return h->tensor;
}

static int math_where(lua_State *L) {
  ms_tensor *condition = ms_check_tensor(L, 1, "condition");
  ms_device *d = ms_tensor_device(condition);
  ms_tensor *x = check_operand(L, 2, "x", d), *y = check_operand(L, 3, "y", d);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_where(&out->tensor, condition, x, y, &err), &err, 1);
}

static int math_clamp(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  double lo = lua_isnoneornil(L, 2) ? -INFINITY : ms_check_number(L, 2, "lo");
  double hi = lua_isnoneornil(L, 3) ? INFINITY : ms_check_number(L, 3, "hi");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_clamp(&out->tensor, x, lo, hi, &err), &err, 1);
}

static int math_matmul(lua_State *L) {
  ms_tensor *a = ms_check_tensor(L, 1, "a"), *b = ms_check_tensor(L, 2, "b");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_matmul(&out->tensor, a, b, &err), &err, 1);
}

static int last_dim(lua_State *L, int index, const ms_tensor *x) {
  return lua_isnoneornil(L, index) ? -1 : ms_check_dim(L, index, "dim", x);
}

static int math_softmax(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int dim = last_dim(L, 2, x);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_softmax(&out->tensor, x, dim, &err), &err, 1);
}

static int math_log_softmax(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int dim = last_dim(L, 2, x);
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_log_softmax(&out->tensor, x, dim, &err), &err, 1);
}

const ms_reg ms_math_functions[] = {
#define MS_UNARY(name, lo, hi)                                                                                        \
  {#name, math_##name,                                                                                                \
   #name "(x) -> tensor\n\nThe function " #name " of every element, any shape. Integers are computed as float32. In " \
         "place: x:" #name "_()."},
#include "../../kernels/unary.def"
#undef MS_UNARY
#define MS_BINARY(name)                                                                                            \
  {#name, math_##name,                                                                                             \
   #name                                                                                                           \
   "(x, y) -> tensor\n\nElement by element; x and y are tensors whose shapes broadcast, or one of them a number. " \
   "add(x, y, alpha) gives x + alpha * y. In place: x:" #name "_(y). Raises when the shapes do not fit."},
#define MS_COMPARE(name)                                                                                               \
  {#name, math_##name,                                                                                                 \
   #name "(x, y) -> tensor uint8\n\n1 where the comparison " #name " holds, else 0; x and y are tensors whose shapes " \
         "broadcast, or one of them a number."},
#include "../../kernels/binary.def"
    {"where", math_where,
     "where(condition, x, y) -> tensor\n\nx where condition is not 0, else y. The three broadcast; x and y may be "
     "numbers."},
    {"clamp", math_clamp,
     "clamp(x[, lo[, hi]]) -> tensor\n\nValues below lo become lo, values above hi become hi; nil: no bound."},
    {"matmul", math_matmul,
     "matmul(a, b) -> tensor\n\n[m, k] x [k, n] -> [m, n]; [k] counts as a row on the left and a column on the right; "
     "leading dimensions are batches and broadcast. Raises when the inner sizes differ."},
    {"softmax", math_softmax,
     "softmax(x[, dim]) -> tensor\n\nexp(x) / sum(exp(x)) along dim (1-based; the last by default)."},
    {"log_softmax", math_log_softmax,
     "log_softmax(x[, dim]) -> tensor\n\nThe logarithm of softmax along dim (1-based; the last by default)."},
    {NULL, NULL, NULL}};
