/* Functions that make tensors out of numbers: core.tensor. */
#include "bind_private.h"

#include <math.h>
#include <string.h>

ms_dtype ms_dtype_of(lua_State *L, const char *op, const char *arg, const char *name) {
  int dtype = ms_dtype_find(name);
  if (dtype < 0)
    ms_raise(L, "%s: %s: expected one of float32, bfloat16, spike, uint8, int64, got %s", op, arg, name);
  return (ms_dtype)dtype;
}

ms_philox_key ms_check_key(lua_State *L, int index, const char *arg) {
  if (lua_isnoneornil(L, index))
    return ms_rng_next();
  if (lua_type(L, index) == LUA_TSTRING)
    return (ms_philox_key){ms_rng_key(ms_rng_default()->seed, "init", lua_tostring(L, index)), 0, NULL};
  if (!lua_isinteger(L, index))
    ms_expected(L, index, arg, "key: a string or an integer");
  return (ms_philox_key){(uint64_t)lua_tointeger(L, index), 0, NULL};
}

/* What every creation function reads: a shape, and options at `opts`. */
typedef struct creation {
  const char *op;
  ms_device *device;
  ms_dtype dtype;
  int requires_grad, ndim, opts;
  int64_t size[MS_MAX_DIMS];
} creation;

static void check_creation_options(lua_State *L, creation *c, int random) {
  static const char *const keys[] = {"dtype", "device", "requires_grad", NULL};
  static const char *const random_keys[] = {"dtype", "device", "requires_grad", "key", NULL};
  ms_error err;
  ms_check_options(L, c->opts, c->op, random ? random_keys : keys);
  const char *dtype = ms_option_string(L, c->opts, c->op, "dtype", NULL);
  const char *device = ms_option_string(L, c->opts, c->op, "device", NULL);
  if (dtype != NULL)
    c->dtype = ms_dtype_of(L, c->op, "dtype", dtype);
  if (device != NULL)
    ms_finish(L, ms_device_find(&c->device, device, &err), &err, 0);
  c->requires_grad = ms_option_boolean(L, c->opts, c->op, "requires_grad", 0);
}

/* zeros(2, 3, opts) or zeros({2, 3}, opts) from argument `first`; `between` arguments stand before the options. */
static creation check_creation(lua_State *L, const char *op, int first, int between, ms_dtype dtype, int random) {
  creation c = {.op = op, .device = ms_device_current(), .dtype = dtype};
  c.ndim = ms_check_sizes(L, first, "size", c.size);
  for (int d = 0; d < c.ndim; d++)
    if (c.size[d] < 0)
      ms_raise(L, "%s: size: expected 0 or more, got %I", op, c.size[d]);
  c.opts = (lua_istable(L, first) ? first + 1 : first + c.ndim) + between;
  check_creation_options(L, &c, random);
  return c;
}

static creation check_like(lua_State *L, const char *op, int opts, int random) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  creation c = {.op = op, .device = ms_tensor_device(x), .dtype = x->dtype, .ndim = x->ndim, .opts = opts};
  if (x->dtype == MS_SPIKE)
    c.dtype = MS_F32;
  memcpy(c.size, x->size, sizeof c.size);
  check_creation_options(L, &c, random);
  return c;
}

static int finish_creation(lua_State *L, const creation *c, ms_status status, ms_handle *out, ms_error *err) {
  if (!status && c->requires_grad)
    status = ms_set_requires_grad(out->tensor, 1, err);
  return ms_finish(L, status, err, 1);
}

static int push_full(lua_State *L, creation c, double value) {
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return finish_creation(L, &c, ms_full(&out->tensor, c.device, c.dtype, c.ndim, c.size, value, &err), out, &err);
}

static int push_random(lua_State *L, creation c, ms_random_kind kind, double a, double b) {
  ms_error err;
  if (lua_istable(L, c.opts))
    lua_getfield(L, c.opts, "key");
  else
    lua_pushnil(L);
  ms_philox_key key = ms_check_key(L, lua_gettop(L), "key");
  ms_handle *out = ms_push_handle(L);
  ms_status status = ms_random(&out->tensor, c.device, c.dtype, c.ndim, c.size, kind, a, b, key, &err);
  return finish_creation(L, &c, status, out, &err);
}

static int create_zeros(lua_State *L) {
  return push_full(L, check_creation(L, "zeros", 1, 0, MS_F32, 0), 0);
}

static int create_ones(lua_State *L) {
  return push_full(L, check_creation(L, "ones", 1, 0, MS_F32, 0), 1);
}

static int create_empty(lua_State *L) {
  ms_error err;
  creation c = check_creation(L, "empty", 1, 0, MS_F32, 0);
  ms_handle *out = ms_push_handle(L);
  return finish_creation(L, &c, ms_tensor_new(&out->tensor, c.device, c.dtype, c.ndim, c.size, &err), out, &err);
}

static void check_size_table(lua_State *L, int index) {
  if (!lua_istable(L, index))
    ms_expected(L, index, "size", "table");
}

static int create_full(lua_State *L) {
  check_size_table(L, 1);
  double value = ms_check_number(L, 2, "value");
  return push_full(L, check_creation(L, "full", 1, 1, MS_F32, 0), value);
}

static int create_rand(lua_State *L) {
  return push_random(L, check_creation(L, "rand", 1, 0, MS_F32, 1), MS_RANDOM_UNIFORM, 0, 1);
}

static int create_randn(lua_State *L) {
  return push_random(L, check_creation(L, "randn", 1, 0, MS_F32, 1), MS_RANDOM_NORMAL, 0, 1);
}

static int create_randint(lua_State *L) {
  int64_t lo = ms_check_integer(L, 1, "lo"), hi = ms_check_integer(L, 2, "hi");
  if (lo >= hi)
    return ms_raise(L, "randint: hi: expected more than lo = %I, got %I", lo, hi);
  check_size_table(L, 3);
  return push_random(L, check_creation(L, "randint", 3, 0, MS_I64, 1), MS_RANDOM_BITS, (double)lo, (double)hi);
}

static int create_bernoulli(lua_State *L) {
  check_size_table(L, 1);
  double p = ms_check_number(L, 2, "p");
  if (!(p >= 0 && p <= 1))
    return ms_raise(L, "bernoulli: p: expected 0 <= p <= 1, got %f", p);
  return push_random(L, check_creation(L, "bernoulli", 1, 1, MS_F32, 1), MS_RANDOM_BERNOULLI, p, 1);
}

static int like_zeros(lua_State *L) {
  return push_full(L, check_like(L, "zeros_like", 2, 0), 0);
}

static int like_ones(lua_State *L) {
  return push_full(L, check_like(L, "ones_like", 2, 0), 1);
}

static int like_full(lua_State *L) {
  double value = ms_check_number(L, 2, "value");
  return push_full(L, check_like(L, "full_like", 3, 0), value);
}

static int like_rand(lua_State *L) {
  return push_random(L, check_like(L, "rand_like", 2, 1), MS_RANDOM_UNIFORM, 0, 1);
}

static int like_randn(lua_State *L) {
  return push_random(L, check_like(L, "randn_like", 2, 1), MS_RANDOM_NORMAL, 0, 1);
}

static int create_arange(lua_State *L) {
  ms_error err;
  double first = ms_check_number(L, 1, "first"), step = 1;
  if (lua_isnoneornil(L, 2) || lua_istable(L, 2)) { /* arange(last[, opts]) */
    lua_pushinteger(L, 0);
    lua_insert(L, 1);
    first = 0;
  }
  double last = ms_check_number(L, 2, "last");
  creation c = {.op = "arange", .device = ms_device_current(), .dtype = MS_F32, .opts = 3};
  if (!lua_isnoneornil(L, 3) && !lua_istable(L, 3)) {
    step = ms_check_number(L, 3, "step");
    c.opts = 4;
  }
  check_creation_options(L, &c, 0);
  double n = ceil((last - first) / step);
  if (!(fabs(n) < 1e15))
    return ms_raise(L, "arange: step: expected a finite number of steps, got %f from %f to %f", step, first, last);
  ms_handle *out = ms_push_handle(L);
  ms_status status = ms_arange(&out->tensor, c.device, c.dtype, first, step, n > 0 ? (int64_t)n : 0, &err);
  return finish_creation(L, &c, status, out, &err);
}

/* Uploads host elements (a userdata on the stack) into a fresh tensor. */
static int push_written(lua_State *L, creation c, const void *host) {
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  ms_status status = ms_tensor_new(&out->tensor, c.device, c.dtype, c.ndim, c.size, &err);
  if (!status)
    status = ms_write(out->tensor, host, &err);
  return finish_creation(L, &c, status, out, &err);
}

/* Is the first number of a nested table true or false? */
static int holds_booleans(lua_State *L, int index) {
  int top = lua_gettop(L);
  lua_pushvalue(L, index);
  for (int d = 0; lua_istable(L, -1) && d <= MS_MAX_DIMS; d++) {
    lua_geti(L, -1, 1);
    lua_replace(L, -2);
  }
  int found = lua_isboolean(L, -1);
  lua_settop(L, top);
  return found;
}

static int create_tensor(lua_State *L) {
  creation c = {.op = "tensor", .device = ms_device_current(), .dtype = MS_F32, .opts = 2};
  if (!lua_istable(L, 1) && lua_type(L, 1) != LUA_TNUMBER)
    ms_expected(L, 1, "value", "number or table");
  if (holds_booleans(L, 1))
    c.dtype = MS_U8;
  check_creation_options(L, &c, 0);
  void *host = ms_push_nested(L, 1, "tensor", c.dtype, &c.ndim, c.size);
  return push_written(L, c, host);
}

static int create_from_string(lua_State *L) {
  size_t length;
  const char *bytes = luaL_checklstring(L, 1, &length);
  ms_dtype dtype = ms_dtype_of(L, "from_string", "dtype", luaL_checkstring(L, 2));
  check_size_table(L, 3);
  creation c = check_creation(L, "from_string", 3, 0, dtype, 0);
  c.dtype = dtype;
  size_t wanted = ms_host_width(dtype);
  for (int d = 0; d < c.ndim; d++)
    if (__builtin_mul_overflow(wanted, (size_t)c.size[d], &wanted))
      return ms_raise(L, "from_string: size: too many elements");
  if (length != wanted)
    return ms_raise(L, "from_string: bytes: expected %I for %s %s, got %I", (lua_Integer)wanted, ms_dtype_name(dtype),
                    ms_shape_text(c.ndim, c.size).s, (lua_Integer)length);
  return push_written(L, c, bytes);
}

static int create_is_tensor(lua_State *L) {
  lua_pushboolean(L, luaL_testudata(L, 1, MS_TENSOR_TYPE) != NULL);
  return 1;
}

#define OPTIONS                                                                                            \
  "\nopts: dtype (\"float32\"; \"bfloat16\", \"spike\", \"uint8\", \"int64\"), device (the current one), " \
  "requires_grad (false)."
#define RANDOM                                                                                                         \
  OPTIONS "\nkey: a name or an integer of random.key makes the values depend on the seed and that key alone; without " \
          "it they come from the default stream."

static const ms_reg functions[] = {
    {"tensor", create_tensor,
     "tensor(value[, opts]) -> tensor\n\nA number gives a tensor without dimensions, a nested table one of its shape; "
     "ragged tables raise, naming the position. A table of true and false gives uint8." OPTIONS},
    {"zeros", create_zeros,
     "zeros(n1, n2, ...[, opts]) or zeros({n1, n2, ...}[, opts]) -> tensor\n\nAll zeros." OPTIONS},
    {"ones", create_ones, "ones(n1, n2, ...[, opts]) or ones({n1, n2, ...}[, opts]) -> tensor\n\nAll ones." OPTIONS},
    {"empty", create_empty,
     "empty(n1, n2, ...[, opts]) or empty({n1, n2, ...}[, opts]) -> tensor\n\nMemory with undefined contents." OPTIONS},
    {"full", create_full, "full({n1, n2, ...}, value[, opts]) -> tensor\n\nEvery element is value." OPTIONS},
    {"rand", create_rand,
     "rand(n1, n2, ...[, opts]) or rand({n1, n2, ...}[, opts]) -> tensor\n\nUniform in [0, 1)." RANDOM},
    {"randn", create_randn,
     "randn(n1, n2, ...[, opts]) or randn({n1, n2, ...}[, opts]) -> tensor\n\nNormal, mean 0, deviation 1." RANDOM},
    {"randint", create_randint,
     "randint(lo, hi, {n1, n2, ...}[, opts]) -> tensor\n\nIntegers in [lo, hi), int64 by default; raises unless lo < "
     "hi." RANDOM},
    {"bernoulli", create_bernoulli,
     "bernoulli({n1, n2, ...}, p[, opts]) -> tensor\n\n1 with probability p, else 0; raises unless 0 <= p <= "
     "1." RANDOM},
    {"arange", create_arange,
     "arange([first, ]last[, step][, opts]) -> tensor [n]\n\nfirst, first + step, ... without last; first is 0 and "
     "step "
     "1 by default. Empty when last lies behind first." OPTIONS},
    {"zeros_like", like_zeros,
     "zeros_like(x[, opts]) -> tensor\n\nZeros of x's shape, type (spike: float32) and device." OPTIONS},
    {"ones_like", like_ones,
     "ones_like(x[, opts]) -> tensor\n\nOnes of x's shape, type (spike: float32) and device." OPTIONS},
    {"full_like", like_full,
     "full_like(x, value[, opts]) -> tensor\n\nx's shape, type (spike: float32) and device, every element "
     "value." OPTIONS},
    {"rand_like", like_rand, "rand_like(x[, opts]) -> tensor\n\nUniform in [0, 1), x's shape, type and device." RANDOM},
    {"randn_like", like_randn,
     "randn_like(x[, opts]) -> tensor\n\nNormal deviates, x's shape, type and device." RANDOM},
    {"from_string", create_from_string,
     "from_string(bytes, dtype, {n1, n2, ...}[, opts]) -> tensor\n\nA string of elements in row-major order, as "
     "bytes(x) "
     "gives it; raises when the length does not fit. spike is given as float32." OPTIONS},
    {"is_tensor", create_is_tensor, "is_tensor(value) -> boolean\n\nIs value a tensor (closed ones included)?"},
    {NULL, NULL, NULL}};

int ms_open_create(lua_State *L) {
  lua_newtable(L);
  ms_register(L, functions);
  return 1;
}
