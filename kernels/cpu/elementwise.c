#include "block.h"
#include "cpu.h"
#include "parallel.h"
#include "../math/binary.h"
#include "../math/convert.h"
#include "../math/unary.h"
#include <string.h>

/* Integers in, integers out: computed in int64. */
static int exact_loop(const ms_loop *l) {
  int exact = ms_is_integer(l->out.data.dtype);
  for (int k = 0; k < l->nin; k++)
    exact = exact && ms_is_integer(l->in[k].data.dtype);
  return exact;
}

static int is_whole(double x) {
  return x >= -0x1p63 && x < 0x1p63 && x == floor(x);
}

/* ---- unary ---- */

MS_HOT static void unary_block(const void *op, int64_t at, int n, void *out, const void *const in[3]) {
  const ms_real *x = in[0];
  ms_real *y = out;
  (void)at;
  switch (*(const ms_unary_op *)op) {
#define MS_UNARY(name, lo, hi)                                  \
  case MS_UNARY_##name:                                         \
    MS_SIMD for (int i = 0; i < n; i++) y[i] = ms_##name(x[i]); \
    break;
#include "../unary.def"
#undef MS_UNARY
  default:
    break;
  }
}

MS_HOT static void unary_grad_block(const void *op, int64_t at, int n, void *out, const void *const in[3]) {
  const ms_real *x = in[0], *g = in[1];
  ms_real *y = out;
  (void)at;
  switch (*(const ms_unary_op *)op) {
#define MS_UNARY(name, lo, hi)                                                \
  case MS_UNARY_##name:                                                       \
    MS_SIMD for (int i = 0; i < n; i++) y[i] = g[i] * ms_##name##_grad(x[i]); \
    break;
#include "../unary.def"
#undef MS_UNARY
  default:
    break;
  }
}

static int64_t int_unary(ms_unary_op op, int64_t x) {
  switch (op) {
  case MS_UNARY_neg:
    return ms_int_sub(0, x);
  case MS_UNARY_abs:
    return x < 0 ? ms_int_sub(0, x) : x;
  case MS_UNARY_sign:
    return (x > 0) - (x < 0);
  case MS_UNARY_square:
    return ms_int_mul(x, x);
  case MS_UNARY_relu:
    return x > 0 ? x : 0;
  default: /* floor, ceil, round */
    return x;
  }
}

static void int_unary_block(const void *op, int64_t at, int n, void *out, const void *const in[3]) {
  const int64_t *x = in[0];
  int64_t *y = out;
  (void)at;
  for (int i = 0; i < n; i++)
    y[i] = int_unary(*(const ms_unary_op *)op, x[i]);
}

static int keeps_integers(ms_unary_op op) {
  return op == MS_UNARY_neg || op == MS_UNARY_abs || op == MS_UNARY_sign || op == MS_UNARY_square ||
         op == MS_UNARY_relu || op == MS_UNARY_floor || op == MS_UNARY_ceil || op == MS_UNARY_round;
}

ms_status ms_cpu_unary(ms_stream *s, ms_unary_op op, const ms_loop *l) {
  (void)s;
  int exact = keeps_integers(op) && exact_loop(l);
  ms_each_block(l, exact, 0, exact ? int_unary_block : unary_block, &op);
  return MS_OK;
}

ms_status ms_cpu_unary_grad(ms_stream *s, ms_unary_op op, const ms_loop *l) {
  (void)s;
  ms_each_block(l, 0, 0, unary_grad_block, &op);
  return MS_OK;
}

/* ---- binary ---- */

/* One operand may be a number: then its step is 0. */
typedef struct binary_call {
  ms_binary_op op;
  int scalar; /* 0: none, 1: the right operand, 2: the left one */
  ms_real real;
  int64_t integer;
} binary_call;

#define BINARY_CASE(T, name, function)                                     \
  case MS_BINARY_##name:                                                   \
    if (c->scalar == 0) {                                                  \
      MS_SIMD for (int i = 0; i < n; i++) y[i] = (T)function(a[i], b[i]);  \
    } else if (c->scalar == 1) {                                           \
      MS_SIMD for (int i = 0; i < n; i++) y[i] = (T)function(a[i], value); \
    } else {                                                               \
      MS_SIMD for (int i = 0; i < n; i++) y[i] = (T)function(value, a[i]); \
    }                                                                      \
    break;

MS_HOT static void binary_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const binary_call *c = context;
  const ms_real *a = in[0], *b = in[1];
  ms_real *y = out, value = c->real;
  (void)at;
  switch (c->op) {
#define MS_BINARY(name) BINARY_CASE(ms_real, name, ms_##name)
#define MS_COMPARE(name) BINARY_CASE(ms_real, name, ms_##name)
#include "../binary.def"
  default:
    break;
  }
}

MS_HOT static void int_binary_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const binary_call *c = context;
  const int64_t *a = in[0], *b = in[1];
  int64_t *y = out, value = c->integer;
  (void)at;
  switch (c->op) {
#define MS_BINARY(name) BINARY_CASE(int64_t, name, ms_int_##name)
#define MS_COMPARE(name) BINARY_CASE(int64_t, name, ms_int_##name)
#include "../binary.def"
  default:
    break;
  }
}

static ms_status run_binary(const ms_loop *l, const binary_call *c, int exact) {
  ms_each_block(l, exact, 0, exact ? int_binary_block : binary_block, c);
  return MS_OK;
}

ms_status ms_cpu_binary(ms_stream *s, ms_binary_op op, const ms_loop *l) {
  (void)s;
  binary_call c = {.op = op};
  return run_binary(l, &c, exact_loop(l));
}

ms_status ms_cpu_binary_scalar(ms_stream *s, ms_binary_op op, const ms_loop *l, double value, int swapped) {
  (void)s;
  binary_call c = {op, swapped ? 2 : 1, MS_R(value), ms_real_to_int(value)};
  return run_binary(l, &c, exact_loop(l) && is_whole(value));
}

/* ---- axpby, clamp, where ---- */

typedef struct two_numbers {
  double a, b;
} two_numbers;

MS_HOT static void axpby_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const two_numbers *c = context;
  const ms_real *x0 = in[0], *x1 = in[1];
  ms_real *y = out, a = MS_R(c->a), b = MS_R(c->b);
  (void)at;
  MS_SIMD for (int i = 0; i < n; i++) y[i] = MS_FN(fma)(b, x1[i], a * x0[i]);
}

static void int_axpby_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const two_numbers *c = context;
  const int64_t *x0 = in[0], *x1 = in[1];
  int64_t *y = out, a = (int64_t)c->a, b = (int64_t)c->b;
  (void)at;
  for (int i = 0; i < n; i++)
    y[i] = ms_int_add(ms_int_mul(a, x0[i]), ms_int_mul(b, x1[i]));
}

ms_status ms_cpu_axpby(ms_stream *s, const ms_loop *l, double alpha, double beta) {
  (void)s;
  two_numbers c = {alpha, beta};
  int exact = exact_loop(l) && is_whole(alpha) && is_whole(beta);
  ms_each_block(l, exact, 0, exact ? int_axpby_block : axpby_block, &c);
  return MS_OK;
}

MS_HOT static void clamp_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const two_numbers *c = context;
  const ms_real *x = in[0];
  ms_real *y = out, lo = MS_R(c->a), hi = MS_R(c->b);
  (void)at;
  MS_SIMD for (int i = 0; i < n; i++) {
    ms_real e = x[i] < lo ? lo : x[i];
    y[i] = e > hi ? hi : e;
  }
}

static void int_clamp_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const two_numbers *c = context;
  const int64_t *x = in[0];
  int64_t *y = out, lo = ms_real_to_int(ceil(c->a)), hi = ms_real_to_int(floor(c->b));
  (void)at;
  for (int i = 0; i < n; i++)
    y[i] = ms_int_minimum(ms_int_maximum(x[i], lo), hi);
}

ms_status ms_cpu_clamp(ms_stream *s, const ms_loop *l, double lo, double hi) {
  (void)s;
  two_numbers c = {lo, hi};
  int exact = exact_loop(l);
  ms_each_block(l, exact, 0, exact ? int_clamp_block : clamp_block, &c);
  return MS_OK;
}

MS_HOT static void where_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const ms_real *c = in[0], *a = in[1], *b = in[2];
  ms_real *y = out;
  (void)context, (void)at;
  MS_SIMD for (int i = 0; i < n; i++) y[i] = c[i] != 0 ? a[i] : b[i];
}

static void int_where_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const ms_real *c = in[0];
  const int64_t *a = in[1], *b = in[2];
  int64_t *y = out;
  (void)context, (void)at;
  for (int i = 0; i < n; i++)
    y[i] = c[i] != 0 ? a[i] : b[i];
}

ms_status ms_cpu_where(ms_stream *s, const ms_loop *l) {
  (void)s;
  int exact =
      ms_is_integer(l->out.data.dtype) && ms_is_integer(l->in[1].data.dtype) && ms_is_integer(l->in[2].data.dtype);
  ms_each_block(l, exact, 1u << 0, exact ? int_where_block : where_block, NULL);
  return MS_OK;
}

/* ---- copy, fill, arange ---- */

static void copy_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  (void)context, (void)at;
  if (out != in[0])
    memcpy(out, in[0], (size_t)n * sizeof(ms_real));
}

static void int_copy_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  (void)context, (void)at;
  if (out != in[0])
    memcpy(out, in[0], (size_t)n * sizeof(int64_t));
}

/* Same type, scale and order of memory on both sides: bytes can be moved. */
static int same_bytes(const ms_loop *l) {
  return l->ndim == 1 && l->out.stride[0] == 1 && l->in[0].stride[0] == 1 && l->out.data.dtype == l->in[0].data.dtype &&
         (l->out.data.dtype != MS_SPIKE || l->out.data.scale == l->in[0].data.scale);
}

ms_status ms_cpu_copy(ms_stream *s, const ms_loop *l) {
  (void)s;
  static const size_t width[] = {
#define MS_DTYPE(name, text, size) size,
#include "../dtype.def"
#undef MS_DTYPE
  };
  if (same_bytes(l)) {
    if (l->size[0] > 0 && l->out.data.p != l->in[0].data.p)
      memcpy(l->out.data.p, l->in[0].data.p, (size_t)l->size[0] * width[l->out.data.dtype]);
    return MS_OK;
  }
  int exact = exact_loop(l);
  ms_each_block(l, exact, 0, exact ? int_copy_block : copy_block, NULL);
  return MS_OK;
}

static void fill_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const binary_call *c = context;
  ms_real *y = out;
  (void)at, (void)in;
  for (int i = 0; i < n; i++)
    y[i] = c->real;
}

static void int_fill_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const binary_call *c = context;
  int64_t *y = out;
  (void)at, (void)in;
  for (int i = 0; i < n; i++)
    y[i] = c->integer;
}

ms_status ms_cpu_fill(ms_stream *s, const ms_loop *l, double value) {
  (void)s;
  binary_call c = {.real = MS_R(value), .integer = ms_real_to_int(value)};
  int exact = ms_is_integer(l->out.data.dtype);
  ms_each_block(l, exact, 0, exact ? int_fill_block : fill_block, &c);
  return MS_OK;
}

static void arange_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const two_numbers *c = context;
  ms_real *y = out;
  (void)in;
  for (int i = 0; i < n; i++)
    y[i] = MS_R(fma((double)(at + i), c->b, c->a));
}

static void int_arange_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const two_numbers *c = context;
  int64_t *y = out;
  (void)in;
  for (int i = 0; i < n; i++)
    y[i] = ms_real_to_int(fma((double)(at + i), c->b, c->a));
}

ms_status ms_cpu_arange(ms_stream *s, const ms_loop *l, double start, double step) {
  (void)s;
  two_numbers c = {start, step};
  int exact = ms_is_integer(l->out.data.dtype);
  ms_each_block(l, exact, 0, exact ? int_arange_block : arange_block, &c);
  return MS_OK;
}
