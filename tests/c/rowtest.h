/* Helpers of tests that call CPU rows on raw arrays: typed random data, reading an element as double, comparing. */
#ifndef MS_ROWTEST_H
#define MS_ROWTEST_H

#include "../../kernels/cpu/cpu.h"
#include "../../kernels/cpu/parallel.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the headers it needs */
#include <cmocka.h>

#ifdef MS_REAL64
#define ROW_EPS 2.3e-16
#else
#define ROW_EPS 1.2e-7
#endif

static inline size_t row_width(ms_dtype t) {
  return t == MS_F32 ? sizeof(ms_real) : t == MS_BF16 ? 2 : t == MS_I64 ? 8 : 1;
}

static inline double row_random(void) {
  static uint32_t state = 12345;
  state = state * 1664525u + 1013904223u;
  return (double)(state >> 8) / (1 << 24);
}

/* n elements of exactly the size wanted, so that a sanitizer sees a step too far. Reals in [-1, 1), bytes: a third of
** 1, 2, 3, else 0. */
static inline ms_data row_data(ms_dtype t, ms_real scale, int64_t n) {
  ms_data x = {malloc((size_t)(n ? n : 1) * row_width(t)), t, scale};
  assert_non_null(x.p);
  for (int64_t i = 0; i < n; i++) {
    double r = row_random();
    if (t == MS_F32)
      ((ms_real *)x.p)[i] = (ms_real)(2 * r - 1);
    else if (t == MS_BF16)
      ((ms_bf16 *)x.p)[i] = ms_bf16_from((float)(2 * r - 1));
    else
      ((uint8_t *)x.p)[i] = r < 1. / 3 ? (uint8_t)(1 + r * 9) : 0;
  }
  return x;
}

/* An output: every bit set, which is NaN in a real type. */
static inline ms_data row_output(ms_dtype t, int64_t n) {
  ms_data x = {malloc((size_t)(n ? n : 1) * row_width(t)), t, 1};
  assert_non_null(x.p);
  memset(x.p, 0xff, (size_t)n * row_width(t));
  return x;
}

static inline double row_get(ms_data x, int64_t i) {
  if (x.dtype == MS_F32)
    return (double)((ms_real *)x.p)[i];
  if (x.dtype == MS_BF16)
    return (double)ms_bf16_to(((ms_bf16 *)x.p)[i]);
  return ((uint8_t *)x.p)[i] * (double)x.scale;
}

/* `size` is the sum of the magnitudes of the terms behind `want`. */
static inline void row_check(const char *what, ms_data got, int64_t i, double want, double size) {
  double g = row_get(got, i), tolerance = 64 * ROW_EPS * size + (got.dtype == MS_BF16 ? fabs(want) / 250 : 0) + 1e-30;
  if (!(fabs(g - want) <= tolerance))
    fail_msg("%s: element %lld: got %.9g, expected %.9g, tolerance %.3g", what, (long long)i, g, want, tolerance);
}

#endif
