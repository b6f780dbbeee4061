/* Helpers of tests that work on tensors. What a test makes is kept and released after it; then nothing may be left
** alive. */
#ifndef MS_CORETEST_H
#define MS_CORETEST_H

/* clang-format off: cmocka needs these before its own header */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "../../host/core/ops.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef MS_REAL64
#define TOLERANCE 1e-11
#else
#define TOLERANCE 2e-5
#endif

#define MAYBE static inline __attribute__((unused))
#define SIZES(...)                                                         \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { \
    __VA_ARGS__                                                            \
  }
#define LIST(...)                                                                      \
  (int)(sizeof((ms_tensor *[]){__VA_ARGS__}) / sizeof(ms_tensor *)), (ms_tensor *[]) { \
    __VA_ARGS__                                                                        \
  }

static ms_error E;

#define OK(call)                         \
  do {                                   \
    if (call)                            \
      fail_msg("%s: %s", #call, E.text); \
  } while (0)

#define FAILS(call, wanted, part)                                                                    \
  do {                                                                                               \
    memset(&E, 0, sizeof E);                                                                         \
    ms_status got_ = (call);                                                                         \
    if (got_ != (wanted) || E.status != (wanted) || !strstr(E.text, part))                           \
      fail_msg("%s: status %d with '%s', expected %d with '%s'", #call, got_, E.text, wanted, part); \
  } while (0)

static ms_tensor *kept[8192];
static int nkept;
static ms_live at_start;

MAYBE ms_tensor *keep(ms_tensor *t) {
  assert_true(nkept < (int)(sizeof kept / sizeof *kept));
  return kept[nkept++] = t;
}

/* A result through `ms_tensor **out`: MAKE(y, ms_unary(&y, MS_UNARY_exp, x, &E)) declares y. */
#define MAKE(name, call)  \
  ms_tensor *name = NULL; \
  OK(call);               \
  keep(name)

MAYBE int begin(void **state) {
  (void)state;
  ms_manual_seed(1);
  ms_set_grad_enabled(1);
  ms_fail_allocation(-1);
  (void)ms_device_cpu();
  at_start = ms_live_counts();
  return 0;
}

MAYBE int nothing_left(void) {
  ms_live now = ms_live_counts();
  if (!memcmp(&now, &at_start, sizeof now))
    return 1;
  print_error("left alive: %lld storages, %lld tensors, %lld nodes, %lld arenas, %lld bytes\n",
              (long long)(now.storages - at_start.storages), (long long)(now.tensors - at_start.tensors),
              (long long)(now.nodes - at_start.nodes), (long long)(now.arenas - at_start.arenas),
              (long long)(now.bytes - at_start.bytes));
  return 0;
}

MAYBE int end(void **state) {
  (void)state;
  while (nkept > 0)
    ms_release(kept[--nkept]);
  return nothing_left() ? 0 : -1;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

/* ---- values ---- */

MAYBE ms_tensor *empty(ms_dtype dtype, int ndim, const int64_t *size) {
  ms_tensor *t = NULL;
  OK(ms_tensor_new(&t, ms_device_cpu(), dtype, ndim, size, &E));
  return keep(t);
}

/* value: ms_numel numbers in logical order. */
MAYBE void put(ms_tensor *t, const double *value) {
  int64_t n = ms_numel(t);
  char *host = calloc((size_t)n + 1, 8);
  for (int64_t i = 0; i < n; i++)
    switch (t->dtype) {
    case MS_F32:
    case MS_SPIKE:
      ((ms_real *)host)[i] = MS_R(value[i]);
      break;
    case MS_BF16:
      ((ms_bf16 *)host)[i] = ms_bf16_from((float)value[i]);
      break;
    case MS_U8:
      ((uint8_t *)host)[i] = (uint8_t)value[i];
      break;
    default:
      ((int64_t *)host)[i] = (int64_t)value[i];
    }
  int was = ms_set_grad_enabled(0);
  ms_status st = ms_write(t, host, &E);
  ms_set_grad_enabled(was);
  free(host);
  OK(st);
}

/* ms_numel numbers, freed by the caller. */
MAYBE double *get(ms_tensor *t) {
  int64_t n = ms_numel(t);
  char *host = calloc((size_t)n + 1, 8);
  double *value = calloc((size_t)n + 1, sizeof *value);
  ms_status st = ms_read(t, host, &E);
  for (int64_t i = 0; i < n && !st; i++)
    value[i] = t->dtype == MS_F32 || t->dtype == MS_SPIKE ? (double)((ms_real *)host)[i]
               : t->dtype == MS_BF16                      ? (double)ms_bf16_to(((ms_bf16 *)host)[i])
               : t->dtype == MS_U8                        ? ((uint8_t *)host)[i]
                                                          : (double)((int64_t *)host)[i];
  free(host);
  OK(st);
  return value;
}

#define VALUES(...) \
  (double[]) {      \
    __VA_ARGS__     \
  }

MAYBE ms_tensor *filled(ms_dtype dtype, int ndim, const int64_t *size, const double *value) {
  ms_tensor *t = empty(dtype, ndim, size);
  put(t, value);
  return t;
}

/* 0, 1, 2, ... in logical order */
MAYBE ms_tensor *counting(ms_dtype dtype, int ndim, const int64_t *size) {
  ms_tensor *t = empty(dtype, ndim, size);
  int64_t n = ms_numel(t);
  double *value = calloc((size_t)n + 1, sizeof *value);
  for (int64_t i = 0; i < n; i++)
    value[i] = (double)i;
  put(t, value);
  free(value);
  return t;
}

MAYBE double uniform(double lo, double hi) {
  static uint64_t seed = 1;
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return lo + (hi - lo) * (double)(seed >> 11) / 9007199254740992.0;
}

MAYBE ms_tensor *between(double lo, double hi, int ndim, const int64_t *size) {
  ms_tensor *t = empty(MS_F32, ndim, size);
  int64_t n = ms_numel(t);
  double *value = calloc((size_t)n + 1, sizeof *value);
  for (int64_t i = 0; i < n; i++)
    value[i] = uniform(lo, hi);
  put(t, value);
  free(value);
  return t;
}

MAYBE ms_tensor *leaf(ms_tensor *t) {
  OK(ms_set_requires_grad(t, 1, &E));
  return t;
}

MAYBE void expect(ms_tensor *t, const double *want) {
  assert_non_null(t);
  double *got = get(t);
  for (int64_t i = 0; i < ms_numel(t); i++)
    if (!(fabs(got[i] - want[i]) <= TOLERANCE * fmax(1, fabs(want[i])) || (isnan(got[i]) && isnan(want[i])))) {
      double wrong = got[i];
      free(got);
      fail_msg("element %lld of %s is %.12g, expected %.12g", (long long)i, ms_tensor_text(t).s, wrong, want[i]);
    }
  free(got);
}

MAYBE void expect_shape(const ms_tensor *t, int ndim, const int64_t *size) {
  if (t->ndim != ndim || memcmp(t->size, size, (size_t)ndim * sizeof *size))
    fail_msg("shape is %s, expected %s", ms_shape_text(t->ndim, t->size).s, ms_shape_text(ndim, size).s);
}

MAYBE ms_tensor *gradient(ms_tensor *t) {
  ms_tensor *g = NULL;
  OK(ms_grad(&g, t, &E));
  return g;
}

/* ---- finite differences ---- */

#ifdef MS_REAL64
#define STEP 1e-6
#define SLOPE_TOLERANCE 1e-7
#else
#define STEP 1e-2
#define SLOPE_TOLERANCE 3e-2
#endif

typedef ms_status (*function_of)(ms_tensor **out, ms_tensor *const *x, ms_error *err);

/* sum of weight * f(x), in double; weights follow from the position alone. */
MAYBE double weighed(function_of f, ms_tensor *const *x) {
  ms_tensor *y = NULL;
  int was = ms_set_grad_enabled(0);
  OK(f(&y, x, &E));
  ms_set_grad_enabled(was);
  double *value = get(y), sum = 0;
  for (int64_t i = 0; i < ms_numel(y); i++)
    sum += value[i] * cos(1.3 * (double)i + 0.4);
  free(value);
  ms_release(y);
  return sum;
}

/* Every element of every x[] (float32 leaves) against central differences. */
MAYBE void check_slopes(const char *name, function_of f, int n, ms_tensor *const *x) {
  ms_tensor *y = NULL;
  for (int k = 0; k < n; k++)
    leaf(x[k]);
  OK(f(&y, x, &E));
  keep(y);
  double *weight = calloc((size_t)ms_numel(y) + 1, sizeof *weight);
  for (int64_t i = 0; i < ms_numel(y); i++)
    weight[i] = cos(1.3 * (double)i + 0.4);
  ms_tensor *seed = filled(MS_F32, y->ndim, y->size, weight);
  free(weight);
  OK(ms_backward(y, seed, 0, &E));
  for (int k = 0; k < n; k++) {
    ms_tensor *g = gradient(x[k]);
    double *slope = g ? get(g) : NULL, *value = get(x[k]);
    if (!g)
      fail_msg("%s: input %d has no gradient", name, k);
    for (int64_t i = 0; i < ms_numel(x[k]); i++) {
      double old = value[i];
      value[i] = old + STEP;
      put(x[k], value);
      double up = weighed(f, x);
      value[i] = old - STEP;
      put(x[k], value);
      double want = (up - weighed(f, x)) / (2 * STEP);
      value[i] = old;
      put(x[k], value);
      if (!(fabs(slope[i] - want) <= SLOPE_TOLERANCE * fmax(1, fabs(want))))
        fail_msg("%s: slope %lld of input %d is %.10g, by differences %.10g", name, (long long)i, k, slope[i], want);
    }
    free(slope);
    free(value);
  }
}

#endif
