/* Typed arrays of any element type, and plain numbers to compare them with. */
#ifndef MS_TEST_TYPED_H
#define MS_TEST_TYPED_H

/* clang-format off: cmocka needs these before its own header */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "../../kernels/cpu/cpu.h"
#include "../../kernels/cpu/parallel.h"
#include <stdlib.h>
#include <string.h>

#ifdef MS_REAL64
#define TOLERANCE 1e-12
#else
#define TOLERANCE 2e-6
#endif

#define MAYBE static inline __attribute__((unused))

MAYBE size_t width_of(ms_dtype t) {
  return t == MS_F32 ? sizeof(ms_real) : t == MS_BF16 ? 2 : t == MS_I64 ? 8 : 1;
}

/* Not inlined: beside an allocation of known size gcc warns about the types that it is not. */
__attribute__((noinline, unused)) static double read_at(ms_data d, int64_t i) {
  switch (d.dtype) {
  case MS_F32:
    return ((ms_real *)d.p)[i];
  case MS_BF16:
    return ms_bf16_to(((ms_bf16 *)d.p)[i]);
  case MS_SPIKE:
    return ((uint8_t *)d.p)[i] * (double)d.scale;
  case MS_U8:
    return ((uint8_t *)d.p)[i];
  default:
    return (double)((int64_t *)d.p)[i];
  }
}

__attribute__((noinline, unused)) static void write_at(ms_data d, int64_t i, double x) {
  switch (d.dtype) {
  case MS_F32:
    ((ms_real *)d.p)[i] = MS_R(x);
    break;
  case MS_BF16:
    ((ms_bf16 *)d.p)[i] = ms_bf16_from((float)x);
    break;
  case MS_SPIKE:
    ((uint8_t *)d.p)[i] = (uint8_t)(x / d.scale);
    break;
  case MS_U8:
    ((uint8_t *)d.p)[i] = (uint8_t)x;
    break;
  default:
    ((int64_t *)d.p)[i] = (int64_t)x;
  }
}

/* Uniform in [0, 1), the same in every run. */
MAYBE double chance(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (double)(state >> 11) * 0x1p-53;
}

/* n elements, exactly, so that a sanitizer sees every overrun; spikes count quarters. */
MAYBE ms_data new_data(ms_dtype t, int64_t n) {
  ms_data d = {calloc((size_t)(n > 0 ? n : 1), width_of(t)), t, t == MS_SPIKE ? MS_R(0.25) : MS_R(1)};
  assert_non_null(d.p);
  return d;
}

/* Reals and int64 in [lo, hi], bytes and spike counts among small ones. */
MAYBE ms_data random_data(ms_dtype t, int64_t n, double lo, double hi) {
  ms_data d = new_data(t, n);
  for (int64_t i = 0; i < n; i++) {
    double x = lo + (hi - lo) * chance();
    write_at(d, i, t == MS_SPIKE ? floor(8 * chance()) * 0.25 : t == MS_U8 ? floor(250 * chance()) : x);
  }
  return d;
}

/* Offset of logical element i under strides. */
MAYBE int64_t offset_at(int ndim, const int64_t *size, const int64_t *stride, int64_t i) {
  int64_t offset = 0;
  for (int d = ndim - 1; d >= 0; d--) {
    offset += i % size[d] * stride[d];
    i /= size[d];
  }
  return offset;
}

MAYBE double loop_read(const ms_loop *l, const ms_operand *o, int64_t i) {
  return read_at(o->data, offset_at(l->ndim, l->size, o->stride, i));
}

/* Equal up to `tolerance`, relative above 1; NaN equals NaN. */
MAYBE int near_to(double a, double b, double tolerance) {
  if (a != a || b != b)
    return a != a && b != b;
  return a == b || fabs(a - b) <= tolerance * fmax(1, fabs(b));
}

#define assert_near(a, b, tolerance)                             \
  do {                                                           \
    double left_ = (a), right_ = (b);                            \
    if (!near_to(left_, right_, tolerance))                      \
      fail_msg("%s = %.17g, expected %.17g", #a, left_, right_); \
  } while (0)

#endif
