/* Functions that write their first argument and return it. Those of unary.def and binary.def are generated. */
#include "bind_private.h"

#include <math.h>

/* The tensor itself is the result: the stack is cut back to it. */
static int finish_self(lua_State *L, ms_status status, const ms_error *err) {
  lua_settop(L, 1);
  return ms_finish(L, status, err, 1);
}

static int unary_(lua_State *L, ms_unary_op op) {
  ms_error err;
  return finish_self(L, ms_unary_(ms_check_tensor(L, 1, "x"), op, &err), &err);
}

#define MS_UNARY(name, lo, hi)              \
  static int inplace_##name(lua_State *L) { \
    return unary_(L, MS_UNARY_##name);      \
  }
#include "../../kernels/unary.def"
#undef MS_UNARY

static int binary_(lua_State *L, ms_binary_op op) {
  ms_error err;
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  if (lua_type(L, 2) == LUA_TNUMBER)
    return finish_self(L, ms_binary_scalar_(x, op, lua_tonumber(L, 2), &err), &err);
  return finish_self(L, ms_binary_(x, op, ms_check_tensor(L, 2, "y"), &err), &err);
}

/* x += alpha * y */
static int scaled_add_(lua_State *L) {
  ms_error err;
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *y = ms_check_tensor(L, 2, "y");
  return finish_self(L, ms_axpy_(x, 1, ms_check_number(L, 3, "alpha"), y, &err), &err);
}

#define MS_BINARY(name)                                              \
  static int inplace_##name(lua_State *L) {                          \
    if (MS_BINARY_##name == MS_BINARY_add && !lua_isnoneornil(L, 3)) \
      return scaled_add_(L);                                         \
    return binary_(L, MS_BINARY_##name);                             \
  }
#include "../../kernels/binary.def"

static int inplace_fill(lua_State *L) {
  ms_error err;
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  return finish_self(L, ms_fill_(x, ms_check_number(L, 2, "value"), &err), &err);
}

static int inplace_zero(lua_State *L) {
  ms_error err;
  return finish_self(L, ms_fill_(ms_check_tensor(L, 1, "x"), 0, &err), &err);
}

static int inplace_copy(lua_State *L) {
  ms_error err;
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  return finish_self(L, ms_copy_(x, ms_check_tensor(L, 2, "y"), &err), &err);
}

static double number_or(lua_State *L, int index, const char *arg, double fallback) {
  return lua_isnoneornil(L, index) ? fallback : ms_check_number(L, index, arg);
}

static int inplace_normal(lua_State *L) {
  ms_error err;
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  double mean = number_or(L, 2, "mean", 0), std = number_or(L, 3, "std", 1);
  ms_philox_key key = ms_check_key(L, 4, "key");
  return finish_self(L, ms_random_(x, MS_RANDOM_NORMAL, mean, std, key, &err), &err);
}

static int inplace_uniform(lua_State *L) {
  ms_error err;
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  double lo = number_or(L, 2, "lo", 0), hi = number_or(L, 3, "hi", 1);
  ms_philox_key key = ms_check_key(L, 4, "key");
  return finish_self(L, ms_random_(x, MS_RANDOM_UNIFORM, lo, hi, key, &err), &err);
}

static int inplace_bernoulli(lua_State *L) {
  ms_error err;
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  double p = ms_check_number(L, 2, "p");
  if (!(p >= 0 && p <= 1))
    return ms_raise(L, "bernoulli_: p: expected 0 <= p <= 1, got %f", p);
  ms_philox_key key = ms_check_key(L, 3, "key");
  return finish_self(L, ms_random_(x, MS_RANDOM_BERNOULLI, p, 1, key, &err), &err);
}

#define KEY                                                                                                            \
  "\nkey: a name or an integer of random.key; the values then depend on the seed and that key alone. Without it they " \
  "come from the default stream."

const ms_reg ms_inplace_functions[] = {
#define MS_UNARY(name, lo, hi) \
  {#name "_", inplace_##name, #name "_(x) -> x\n\nx becomes " #name "(x). Raises where autograd needs the old values."},
#include "../../kernels/unary.def"
#undef MS_UNARY
#define MS_BINARY(name)                                                               \
  {#name "_", inplace_##name,                                                         \
   #name "_(x, y) -> x\n\nx becomes " #name                                           \
         "(x, y); y is a number or a tensor that broadcasts to x. add_(x, y, alpha) " \
         "adds alpha * y. Raises where autograd needs the old values."},
#include "../../kernels/binary.def"
    {"fill_", inplace_fill, "fill_(x, value) -> x\n\nEvery element becomes value."},
    {"zero_", inplace_zero, "zero_(x) -> x\n\nEvery element becomes 0."},
    {"copy_", inplace_copy,
     "copy_(x, y) -> x\n\nx takes the values of y, which broadcasts to x and may have another type or device."},
    {"normal_", inplace_normal,
     "normal_(x[, mean[, std[, key]]]) -> x\n\nNormal deviates; mean 0 and std 1 by default." KEY},
    {"uniform_", inplace_uniform,
     "uniform_(x[, lo[, hi[, key]]]) -> x\n\nUniform in [lo, hi); 0 and 1 by default." KEY},
    {"bernoulli_", inplace_bernoulli,
     "bernoulli_(x, p[, key]) -> x\n\n1 with probability p, else 0; raises unless 0 <= p <= 1." KEY},
    {NULL, NULL, NULL}};
