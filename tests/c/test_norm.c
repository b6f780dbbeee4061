/* Batch normalisation rows: closed forms, finite differences, shapes, threads. */
#include "rows.h"

typedef struct bn {
  ms_norm n;
  ms_norm_grad g;
} bn;

/* x of any type, gamma, beta, running statistics and outputs of one normalisation. */
static bn bn_of(int64_t rows, int64_t c, int64_t repeat, ms_data x) {
  ms_norm n = {.rows = rows,
               .c = c,
               .repeat = repeat,
               .x = x,
               .gamma = random_reals(c, 0.5, 2),
               .beta = random_reals(c, -1, 1),
               .gain = 1,
               .eps = MS_R(1e-5),
               .momentum = MS_R(0.1),
               .training = 1,
               .running_mean = reals(c),
               .running_var = random_reals(c, 1, 1),
               .mean = reals(c),
               .invstd = reals(c),
               .a = reals(c),
               .b = reals(c)};
  ms_norm_grad g = {.rows = rows,
                    .c = c,
                    .repeat = repeat,
                    .x = x,
                    .g = f32(random_reals(rows * c * repeat, -1, 1)),
                    .dx = f32(reals(rows * c)),
                    .gamma = n.gamma,
                    .mean = n.mean,
                    .invstd = n.invstd,
                    .gain = 1,
                    .training = 1,
                    .dgamma = reals(c),
                    .dbeta = reals(c)};
  bn r = {n, g};
  return r;
}

static void test_golden(void **state) {
  (void)state;
  ms_real x[] = {1, 2, 3, 6}, y[4], g[] = {1, 0, 0, 0}, dx[4], mean, invstd, a, b, rm = 0, rv = 1;
  const double want[] = {-1.06904344, -.5345217202, 0, 1.603565161};
  const double want_dx[] = {.248171235, -.2099904576, -.1336304301, .09544965267};
  ms_norm n = {.rows = 4,
               .c = 1,
               .repeat = 1,
               .x = f32(x),
               .gain = 1,
               .eps = MS_R(1e-5),
               .momentum = MS_R(0.1),
               .training = 1,
               .running_mean = &rm,
               .running_var = &rv,
               .mean = &mean,
               .invstd = &invstd,
               .a = &a,
               .b = &b};
  ms_affine f = {&a, &b};
  ms_data none = {0};
  assert_int_equal(ms_cpu_norm_stats(NULL, &n), MS_OK);
  assert_int_equal(ms_cpu_norm_apply(NULL, 1, 4, 1, f32(x), 4, f, none, 0, f32(y)), MS_OK);
  for (int i = 0; i < 4; i++)
    CLOSE(y[i], want[i]);
  CLOSE(rm, 0.3);
  CLOSE(rv, .9 + .1 * 14 / 3);
  ms_norm_grad d = {.rows = 4,
                    .c = 1,
                    .repeat = 1,
                    .x = f32(x),
                    .g = f32(g),
                    .dx = f32(dx),
                    .mean = &mean,
                    .invstd = &invstd,
                    .gain = 1,
                    .training = 1};
  assert_int_equal(ms_cpu_norm_grad(NULL, &d), MS_OK);
  for (int i = 0; i < 4; i++)
    CLOSE(dx[i], want_dx[i]);
  n.gain = d.gain = MS_R(0.5 * 0.70710678118654752); /* tdBN: V_th 0.5, alpha 1 / sqrt(2) */
  ms_cpu_norm_stats(NULL, &n);
  ms_cpu_norm_apply(NULL, 1, 4, 1, f32(x), 4, f, none, 0, f32(y));
  ms_cpu_norm_grad(NULL, &d);
  for (int i = 0; i < 4; i++) {
    CLOSE(y[i], want[i] * 0.35355339059327);
    CLOSE(dx[i], want_dx[i] * 0.35355339059327);
  }
}

/* Statistics and gradient against plain double loops over many shapes and types. */
static void check_shape(int64_t rows, int64_t c, int64_t repeat, ms_dtype dtype) {
  ms_real *values = random_reals(rows * c, -3, 5);
  ms_data x = as_type(values, rows * c, dtype, MS_R(0.25));
  bn k = bn_of(rows, c, repeat, x);
  k.n.gain = k.g.gain = MS_R(0.7);
  assert_int_equal(ms_cpu_norm_stats(NULL, &k.n), MS_OK);
  assert_int_equal(ms_cpu_norm_grad(NULL, &k.g), MS_OK);
  double count = (double)rows, seen = count * (double)repeat, tol = 20 * TOL;
  const ms_real *g = k.g.g.p;
  for (int64_t ch = 0; ch < c; ch++) {
    double mean = 0, var = 0, sum_g = 0, sum_gx = 0;
    for (int64_t i = 0; i < rows; i++)
      mean += value_of(x, i * c + ch) / count;
    for (int64_t i = 0; i < rows; i++)
      var += pow(value_of(x, i * c + ch) - mean, 2) / count;
    double invstd = 1 / sqrt(var + 1e-5), a = 0.7 * k.n.gamma[ch] * invstd;
    CLOSE(k.n.mean[ch], mean);
    CLOSE(k.n.invstd[ch] / invstd, 1);
    CLOSE(k.n.a[ch] / a, 1);
    CLOSE_TO(k.n.b[ch], k.n.beta[ch] - mean * a, tol);
    CLOSE(k.n.running_mean[ch], 0.1 * mean);
    CLOSE(k.n.running_var[ch], 0.9 + 0.1 * (seen > 1 ? var * seen / (seen - 1) : var));
    for (int64_t i = 0; i < rows * repeat; i++) {
      sum_g += g[i * c + ch];
      sum_gx += g[i * c + ch] * (value_of(x, i % rows * c + ch) - mean) * invstd;
    }
    CLOSE_TO(k.g.dgamma[ch], 0.7 * sum_gx, tol);
    CLOSE_TO(k.g.dbeta[ch], sum_g, tol);
    for (int64_t i = 0; i < rows; i++) {
      double dx = 0, xhat = (value_of(x, i * c + ch) - mean) * invstd;
      for (int64_t t = 0; t < repeat; t++)
        dx += a * (g[(t * rows + i) * c + ch] - sum_g / seen - xhat * sum_gx / seen);
      CLOSE_TO(value_of(k.g.dx, i * c + ch), dx, tol * (1 + a));
    }
  }
}

static void test_shapes(void **state) {
  const int64_t rows[] = {2, 7, 33, 1500}, c[] = {1, 3, 8, 32, 33, 600};
  for (int64_t i = 0; i < COUNT(rows) * COUNT(c); i++) {
    check_shape(rows[i % COUNT(rows)], c[i / COUNT(rows)], 1 + i % 2 * 2, MS_F32);
    release(state);
  }
  check_shape(400, 3, 1, MS_BF16);
  check_shape(400, 33, 2, MS_SPIKE);
}

static void test_nothing_and_one(void **state) {
  (void)state;
  bn k = bn_of(0, 3, 1, f32(reals(0)));
  k.n.mean[0] = 5;
  assert_int_equal(ms_cpu_norm_stats(NULL, &k.n), MS_OK);
  assert_int_equal(ms_cpu_norm_grad(NULL, &k.g), MS_OK);
  CLOSE(k.n.mean[0], 5);
  k = bn_of(1, 3, 1, f32(random_reals(3, -1, 1)));
  assert_int_equal(ms_cpu_norm_stats(NULL, &k.n), MS_OK);
  CLOSE(k.n.running_var[0], 0.9);
}

/* A large mean must not spoil the variance. */
static void test_accuracy(void **state) {
  (void)state;
  int64_t rows = 20000;
  ms_real *x = random_reals(rows, 999, 1001);
  double mean = 0, var = 0;
  for (int64_t i = 0; i < rows; i++)
    mean += x[i] / (double)rows;
  for (int64_t i = 0; i < rows; i++)
    var += (x[i] - mean) * (x[i] - mean) / (double)rows;
  bn k = bn_of(rows, 1, 1, f32(x));
  ms_cpu_norm_stats(NULL, &k.n);
  CLOSE(k.n.mean[0] / mean, 1);
  CLOSE(k.n.invstd[0] * sqrt(var + 1e-5), 1);
}

static void test_evaluation(void **state) {
  (void)state;
  bn k = bn_of(50, 3, 1, f32(random_reals(150, -3, 5)));
  k.n.training = k.g.training = 0;
  for (int ch = 0; ch < 3; ch++) {
    k.n.running_mean[ch] = MS_R(ch);
    k.n.running_var[ch] = MS_R(1 + ch);
  }
  ms_cpu_norm_stats(NULL, &k.n);
  ms_cpu_norm_grad(NULL, &k.g);
  for (int ch = 0; ch < 3; ch++) {
    double a = k.n.gamma[ch] / sqrt(1 + ch + 1e-5);
    CLOSE(k.n.running_mean[ch], ch);
    CLOSE(k.n.a[ch], a);
    CLOSE(k.n.b[ch], k.n.beta[ch] - ch * a);
    for (int i = 0; i < 50; i++)
      CLOSE(value_of(k.g.dx, i * 3 + ch), a * value_of(k.g.g, i * 3 + ch));
  }
}

/* y = a x + b + r with every combination of types and of static operands. */
static void test_apply(void **state) {
  (void)state;
  const ms_dtype types[] = {MS_F32, MS_BF16, MS_SPIKE};
  for (int i = 0; i < 3 * 2 * 2 * 2 * 2; i++) {
    int64_t rows = 211, c = 3, n = rows * c, steps = 2;
    int with_r = i / 3 % 2, with_a = i / 6 % 2, fixed = i / 12 % 2, half = i / 24;
    ms_data x = as_type(random_reals(steps * n, -2, 2), steps * n, types[i % 3], MS_R(0.5));
    ms_data r = as_type(random_reals(n, -2, 2), n, types[i % 3], 1), none = {0};
    ms_data y = as_type(reals(steps * n), steps * n, half ? MS_BF16 : MS_F32, 1);
    ms_affine f = {with_a ? random_reals(c, -2, 2) : NULL, with_a ? random_reals(c, -2, 2) : NULL};
    assert_int_equal(ms_cpu_norm_apply(NULL, steps, rows, c, x, fixed ? 0 : n, f, with_r ? r : none, 0, y), MS_OK);
    for (int64_t j = 0; j < steps * n; j++) {
      double in = value_of(x, fixed ? j % n : j), want = with_a ? f.a[j % c] * in + f.b[j % c] : in;
      CLOSE_TO(value_of(y, j), want + (with_r ? value_of(r, j % n) : 0), half ? 0.004 : TOL);
    }
  }
}

static void test_threads(void **state) {
  (void)state;
  const int64_t rows = 40000, c = 6;
  ms_real *x = random_reals(rows * c, -1, 3), *first = NULL;
  for (int threads = 1; threads <= 3; threads++) {
    seed = 7;
    ms_cpu_set_threads(threads);
    bn k = bn_of(rows, c, 1, f32(x));
    ms_cpu_norm_stats(NULL, &k.n);
    ms_cpu_norm_grad(NULL, &k.g);
    ms_real *all = reals(4 * c + rows * c);
    memcpy(all, k.n.mean, (size_t)c * sizeof *all);
    memcpy(all + c, k.n.invstd, (size_t)c * sizeof *all);
    memcpy(all + 2 * c, k.g.dgamma, (size_t)c * sizeof *all);
    memcpy(all + 3 * c, k.g.dbeta, (size_t)c * sizeof *all);
    memcpy(all + 4 * c, k.g.dx.p, (size_t)(rows * c) * sizeof *all);
    if (first)
      assert_memory_equal(first, all, (size_t)(4 * c + rows * c) * sizeof *all);
    else
      first = all;
  }
}

#ifdef MS_REAL64
static double weighted_output(void *context) {
  bn *k = context;
  ms_affine f = {k->n.a, k->n.b};
  ms_data none = {0};
  int64_t n = k->n.rows * k->n.c;
  ms_real *y = malloc((size_t)(n * k->n.repeat) * sizeof *y);
  double sum = 0;
  ms_cpu_norm_stats(NULL, &k->n);
  ms_cpu_norm_apply(NULL, k->n.repeat, k->n.rows, k->n.c, k->n.x, 0, f, none, 0, f32(y));
  for (int64_t i = 0; i < n * k->n.repeat; i++)
    sum += y[i] * value_of(k->g.g, i);
  free(y);
  return sum;
}

static void test_differences(void **state) {
  (void)state;
  for (int i = 0; i < 8; i++) {
    int64_t rows = 5, c = 3;
    ms_real *x = random_reals(rows * c, -1, 2);
    bn k = bn_of(rows, c, 1 + i % 2 * 2, f32(x));
    k.n.training = k.g.training = i / 2 % 2;
    k.n.gain = k.g.gain = i / 4 ? 0.6 : 1;
    weighted_output(&k);
    ms_cpu_norm_grad(NULL, &k.g);
    for (int j = 0; j < rows * c; j++)
      CLOSE_TO(value_of(k.g.dx, j), slope(weighted_output, &k, x + j), 1e-7);
    for (int ch = 0; ch < c; ch++) {
      CLOSE_TO(k.g.dgamma[ch], slope(weighted_output, &k, (ms_real *)(uintptr_t)k.n.gamma + ch), 1e-7);
      CLOSE_TO(k.g.dbeta[ch], slope(weighted_output, &k, (ms_real *)(uintptr_t)k.n.beta + ch), 1e-7);
    }
  }
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_golden, release),          cmocka_unit_test_teardown(test_shapes, release),
      cmocka_unit_test_teardown(test_nothing_and_one, release), cmocka_unit_test_teardown(test_accuracy, release),
      cmocka_unit_test_teardown(test_evaluation, release),      cmocka_unit_test_teardown(test_apply, release),
      cmocka_unit_test_teardown(test_threads, release),
#ifdef MS_REAL64
      cmocka_unit_test_teardown(test_differences, release),
#endif
  };
  return cmocka_run_group_tests_name("norm", tests, NULL, NULL);
}
