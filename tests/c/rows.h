/* Shared by the tests of the CPU rows: comparison, numbers, memory that the teardown frees. */
#ifndef MS_TEST_ROWS_H
#define MS_TEST_ROWS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../kernels/cpu/cpu.h"
#include "../../kernels/cpu/parallel.h"

/* Relative (below 1: absolute) tolerance of closed forms. */
#ifdef MS_REAL64
#define TOL 2e-9
#else
#define TOL 1e-5
#endif

#define COUNT(array) ((int64_t)(sizeof(array) / sizeof *(array)))

#define CLOSE_TO(got, want, tol)                                                                    \
  do {                                                                                              \
    double got_ = (double)(got), want_ = (double)(want), size_ = fabs(want_) > 1 ? fabs(want_) : 1; \
    if (!(fabs(got_ - want_) <= (tol)*size_))                                                       \
      fail_msg("%s is %.12g, expected %.12g", #got, got_, want_);                                   \
  } while (0)
#define CLOSE(got, want) CLOSE_TO(got, want, TOL)

static void *pool[4096];
static int pooled;

static inline void *bytes(int64_t n) {
  assert_true(pooled < (int)COUNT(pool));
  return pool[pooled++] = calloc((size_t)(n > 0 ? n : 1), 1);
}

static inline ms_real *reals(int64_t n) {
  return bytes(n * (int64_t)sizeof(ms_real));
}

static inline int release(void **state) {
  (void)state;
  while (pooled > 0)
    free(pool[--pooled]);
  ms_cpu_set_threads(0);
  return 0;
}

static uint64_t seed = 1;

static inline double uniform(double lo, double hi) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return lo + (hi - lo) * (double)(seed >> 11) / 9007199254740992.0;
}

static inline ms_real *random_reals(int64_t n, double lo, double hi) {
  ms_real *x = reals(n);
  for (int64_t i = 0; i < n; i++)
    x[i] = MS_R(uniform(lo, hi));
  return x;
}

static inline ms_real *copy_of(const ms_real *x, int64_t n) {
  return memcpy(reals(n), x, (size_t)n * sizeof *x);
}

static inline ms_data data(void *p, ms_dtype dtype) {
  ms_data d = {p, dtype, 1};
  return d;
}

static inline ms_data f32(const ms_real *p) {
  return data((void *)(uintptr_t)p, MS_F32);
}

/* The same values in another type. */
static inline ms_data as_type(const ms_real *x, int64_t n, ms_dtype dtype, ms_real scale) {
  ms_data d = {NULL, dtype, scale};
  if (dtype == MS_F32) {
    d.p = copy_of(x, n);
  } else if (dtype == MS_BF16) {
    ms_bf16 *b = d.p = bytes(n * 2);
    for (int64_t i = 0; i < n; i++)
      b[i] = ms_bf16_from((float)x[i]);
  } else {
    uint8_t *b = d.p = bytes(n);
    for (int64_t i = 0; i < n; i++)
      b[i] = (uint8_t)(fabs((double)x[i]) / (double)scale + 0.5);
  }
  return d;
}

static inline ms_real value_of(ms_data d, int64_t i) {
  switch (d.dtype) {
  case MS_F32:
    return ((ms_real *)d.p)[i];
  case MS_BF16:
    return ms_bf16_to(((ms_bf16 *)d.p)[i]);
  default:
    return ((uint8_t *)d.p)[i] * d.scale;
  }
}

/* Central difference of f(context) in *x. */
static inline double slope(double (*f)(void *context), void *context, ms_real *x) {
  const ms_real was = *x, e = MS_R(1e-5);
  *x = was + e;
  double up = f(context);
  *x = was - e;
  double down = f(context);
  *x = was;
  return (up - down) / (2 * (double)e);
}

#endif
