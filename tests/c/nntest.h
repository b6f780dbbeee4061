/* Helpers of the tests of layers and optimizers: tensors from functions of the flat index, reading them, comparing. */
#ifndef MS_NNTEST_H
#define MS_NNTEST_H

#include "../../host/core/ops.h"
#include "../../host/core/params.h"
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

#define MAYBE static inline __attribute__((unused))

static ms_error test_err;

#define OK(call)                                \
  do {                                          \
    if (call)                                   \
      fail_msg("%s: %s", #call, test_err.text); \
  } while (0)

/* The call fails with this status, and its text contains this. */
#define FAILS(call, code, part)                              \
  do {                                                       \
    assert_int_equal(call, code);                            \
    if (!strstr(test_err.text, part))                        \
      fail_msg("expected '%s' in: %s", part, test_err.text); \
  } while (0)

#ifdef MS_REAL64
#define TOLERANCE 1e-9
#else
#define TOLERANCE 1e-5
#endif

#define SIZE(...)                                                                \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) { \
    __VA_ARGS__                                                                  \
  }

typedef double (*filler)(int64_t i);

MAYBE ms_tensor *make(filler f, int ndim, const int64_t *size) {
  ms_tensor *t;
  OK(ms_tensor_new(&t, ms_device_current(), MS_F32, ndim, size, &test_err));
  int64_t n = ms_numel(t);
  ms_real *host = malloc((size_t)(n + 1) * sizeof *host);
  for (int64_t i = 0; i < n; i++)
    host[i] = MS_R(f(i));
  OK(ms_write(t, host, &test_err));
  free(host);
  return t;
}

MAYBE ms_tensor *leaf(filler f, int ndim, const int64_t *size) {
  ms_tensor *t = make(f, ndim, size);
  OK(ms_set_requires_grad(t, 1, &test_err));
  return t;
}

MAYBE ms_tensor *labels_of(int64_t n, const int64_t *values) {
  ms_tensor *t;
  OK(ms_tensor_new(&t, ms_device_current(), MS_I64, 1, &n, &test_err));
  OK(ms_write(t, values, &test_err));
  return t;
}

/* To be freed. */
MAYBE ms_real *values_of(ms_tensor *t) {
  ms_real *host = malloc((size_t)(ms_numel(t) + 1) * sizeof *host);
  OK(ms_read(t, host, &test_err));
  return host;
}

MAYBE double item(ms_tensor *t) {
  double x;
  OK(ms_item(&x, t, &test_err));
  return x;
}

MAYBE void close_to(double got, double expected, double tolerance, const char *what, int64_t i) {
  if (!(fabs(got - expected) <= tolerance * (1 + fabs(expected))))
    fail_msg("%s[%lld]: expected %.12g, got %.12g", what, (long long)i, expected, got);
}

MAYBE void all_close(ms_tensor *got, ms_tensor *expected, double tolerance, const char *what) {
  assert_true(ms_same_shape(got, expected));
  ms_real *a = values_of(got), *b = values_of(expected);
  for (int64_t i = 0; i < ms_numel(got); i++)
    close_to((double)a[i], (double)b[i], tolerance, what, i);
  free(a);
  free(b);
}

MAYBE void same_bits(ms_tensor *a, ms_tensor *b) {
  assert_true(ms_same_shape(a, b));
  ms_real *x = values_of(a), *y = values_of(b);
  assert_memory_equal(x, y, (size_t)ms_numel(a) * sizeof *x);
  free(x);
  free(y);
}

MAYBE void expect(ms_tensor *t, const double *values, double tolerance, const char *what) {
  ms_real *a = values_of(t);
  for (int64_t i = 0; i < ms_numel(t); i++)
    close_to((double)a[i], values[i], tolerance, what, i);
  free(a);
}

MAYBE ms_tensor *grad_of(ms_tensor *t) {
  ms_tensor *g;
  OK(ms_grad(&g, t, &test_err));
  assert_non_null(g);
  return g;
}

MAYBE ms_tensor *copy_of(ms_tensor *t) {
  ms_tensor *c;
  int was = ms_set_grad_enabled(0);
  OK(ms_clone(&c, t, &test_err));
  ms_set_grad_enabled(was);
  return c;
}

MAYBE void no_leaks(ms_live before) {
  ms_live now = ms_live_counts();
  assert_int_equal(now.tensors, before.tensors);
  assert_int_equal(now.storages, before.storages);
  assert_int_equal(now.nodes, before.nodes);
  assert_int_equal(now.arenas, before.arenas);
  assert_int_equal(now.bytes, before.bytes);
}

#endif
