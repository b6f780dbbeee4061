/* The loss row: published values, finite differences, labels that are out of range, extreme logits. */
#include "rows.h"

/* Logits O[b][t] of the golden cases, in memory [T, B, C]. */
static const ms_real logits[] = {MS_R(.2), MS_R(-.1), MS_R(-.4), MS_R(.6), 1, MS_R(.5),
                                 0,        0,         MS_R(.3),  MS_R(.9), 2, -1};
static const int64_t labels[] = {0, 1};

typedef struct run {
  ms_loss_args a;
  ms_real value[3];
  int64_t correct;
} run;

static run *run_of(int64_t steps, int64_t batch, int64_t classes, const ms_real *x, const int64_t *y, ms_loss_over over,
                   double ce, double mse) {
  run *k = bytes(sizeof *k);
  ms_loss_args a = {.steps = steps,
                    .batch = batch,
                    .classes = classes,
                    .over = over,
                    .ce = MS_R(ce),
                    .mse = MS_R(mse),
                    .phi = 1,
                    .logits = f32(x),
                    .logits_step = batch * classes,
                    .labels = y,
                    .value = k->value,
                    .correct = &k->correct,
                    .dlogits = reals(steps * batch * classes),
                    .scratch = reals(batch * (classes + 4))};
  k->a = a;
  return k;
}

static void check(run *k, double loss, const double *grad) {
  assert_int_equal(ms_cpu_loss(NULL, &k->a), MS_OK);
  CLOSE(k->value[0], loss);
  for (int i = 0; grad && i < 12; i++)
    CLOSE(k->a.dlogits[i], grad[i]);
}

static run *golden(ms_loss_over over, double ce, double mse) {
  return run_of(3, 2, 2, logits, labels, over, ce, mse);
}

static void test_trt(void **state) {
  (void)state;
  const double ce[] = {0.433808465993, 0.58361208237, 2.04303765103}, mse[] = {0.2425, 0.3125, 2.325};
  const double grad[] = {-.0740466015, .0665466015, .03924905838, -.04591572505, -.05977727256, .06394393923,
                         .07916666667, -.0875,      -.1080622485, .1097289152,   .1674909034,   -.1674909034};
  for (int t = 0; t < 3; t++) { /* one step alone */
    run *k = run_of(1, 2, 2, logits + 4 * t, labels, MS_LOSS_EACH, 1, 0);
    k->a.mse_onehot = 1;
    check(k, ce[t], NULL);
    CLOSE(k->value[1], ce[t]);
    CLOSE(k->value[2], mse[t]);
  }
  run *k = golden(MS_LOSS_EACH, .95, .05);
  k->a.mse_onehot = 1;
  check(k, 1.0261705668 - (0.013125 + 0.00849075612395 + 0.00546065484266) / 3, grad);
  assert_int_equal(k->correct, 1); /* mean logits (.5, .433) and (.533, -.133) */
}

static void test_tet(void **state) {
  (void)state;
  const double grad[] = {-.0740466015, .05821326817, .03091572505, -.04591572505, -.05977727256, .05561060589,
                         .07083333333, -.0875,       -.1080622485, .1013955818,   .1591575701,   -.1674909034};
  run *k = golden(MS_LOSS_EACH, .95, .05);
  check(k, 1.01797842981, grad);
  CLOSE(k->value[1], 1.02015273313);
  CLOSE(k->value[2], .976666666667);
}

static void test_others(void **state) {
  (void)state;
  double sdt[12], lts[12] = {0}, p0 = 1 / (1 + exp(-.6)), p1 = 1 / (1 + exp(-3.0));
  for (int t = 0; t < 3; t++) {
    const double step[] = {-.08055658391, .08055658391, .1101260615, -.1101260615};
    memcpy(sdt + 4 * t, step, sizeof step);
  }
  check(golden(MS_LOSS_MEAN, 1, 0), .870703026725, sdt);
  run *smse = golden(MS_LOSS_MEAN, 0, 1);
  smse->a.mse_onehot = 1;
  check(smse, .501666666667, NULL);
  lts[8] = -p0 / 2; /* softmax - onehot over B at (.3, .9) label 0 and (2, -1) label 1 */
  lts[9] = p0 / 2;
  lts[10] = p1 / 2;
  lts[11] = -p1 / 2;
  check(golden(MS_LOSS_LAST, 1, 0), 2.04303765103, lts);
  run *smooth = run_of(1, 2, 2, logits, labels, MS_LOSS_EACH, 1, 0);
  smooth->a.smooth = MS_R(.01);
  check(smooth, .437058465993, NULL);
}

/* Labels outside the classes: no read out of bounds, no NaN, correct -1, the other samples as ever. */
static void test_bad_labels(void **state) {
  (void)state;
  const int64_t bad[] = {2, 1, -1, INT64_MAX};
  for (int over = MS_LOSS_EACH; over <= MS_LOSS_LAST; over++) {
    ms_real *x = random_reals(3 * 4 * 2, -1, 1);
    run *k = run_of(3, 4, 2, x, bad, (ms_loss_over)over, 1, 1);
    assert_int_equal(ms_cpu_loss(NULL, &k->a), MS_OK);
    assert_int_equal(k->correct, -1);
    double size = 0;
    for (int i = 0; i < 3; i++)
      assert_true(isfinite(k->value[i]));
    for (int i = 0; i < 24; i++) {
      if (i / 2 % 4 == 1)
        size += fabs((double)k->a.dlogits[i]);
      else
        CLOSE(k->a.dlogits[i], 0);
    }
    assert_true(size > 0);
  }
}

/* One-hot targets give the bits that labels give, label smoothing and both squared errors included. */
static void test_onehot_targets(void **state) {
  (void)state;
  const int64_t steps = 3, batch = 7, classes = 11, n = steps * batch * classes;
  ms_real *x = random_reals(n, -2, 2), *shares = reals(batch * classes);
  int64_t *y = bytes(batch * 8);
  for (int64_t b = 0; b < batch; b++) {
    y[b] = b * 5 % classes;
    shares[b * classes + y[b]] = 1;
  }
  for (int i = 0; i < 12; i++) {
    run *k = run_of(steps, batch, classes, x, y, (ms_loss_over)(i % 3), .9, .2);
    k->a.smooth = MS_R(i / 3 % 2 ? .1 : 0);
    k->a.mse_onehot = i / 6;
    k->a.phi = MS_R(.7);
    assert_int_equal(ms_cpu_loss(NULL, &k->a), MS_OK);
    run *s = run_of(steps, batch, classes, x, NULL, (ms_loss_over)(i % 3), .9, .2);
    s->a.smooth = k->a.smooth;
    s->a.mse_onehot = k->a.mse_onehot;
    s->a.phi = k->a.phi;
    s->a.targets = shares;
    assert_int_equal(ms_cpu_loss(NULL, &s->a), MS_OK);
    assert_memory_equal(k->value, s->value, sizeof k->value);
    assert_int_equal(k->correct, s->correct);
    assert_memory_equal(k->a.dlogits, s->a.dlogits, (size_t)n * sizeof(ms_real));
  }
}

/* A mixture's cross entropy is the mixture of the cross entropies, and so is its gradient. */
static void test_mixed_targets(void **state) {
  (void)state;
  const ms_real x[] = {MS_R(.2), MS_R(-.1), MS_R(1.5)}, shares[] = {MS_R(.25), 0, MS_R(.75)};
  double lse = log(exp(.2) + exp(-.1) + exp(1.5)), z[] = {.2, -.1, 1.5}, q[] = {.25, 0, .75};
  run *k = run_of(1, 1, 3, x, NULL, MS_LOSS_EACH, 1, 0);
  k->a.targets = shares;
  k->a.mse_onehot = 1;
  check(k, lse - .25 * .2 - .75 * 1.5, NULL);
  CLOSE(k->value[2], ((.2 - .25) * (.2 - .25) + .01 + .75 * .75) / 3);
  for (int j = 0; j < 3; j++)
    CLOSE(k->a.dlogits[j], exp(z[j] - lse) - q[j]);
  assert_int_equal(k->correct, 1);
  const ms_real wrong[] = {MS_R(-.1), MS_R(.6), MS_R(.5)}, endless[] = {0, MS_R(INFINITY), 0},
                none[] = {0, MS_R(NAN), 1};
  const ms_real *bad[] = {wrong, endless, none};
  for (int i = 0; i < 3; i++) {
    k->a.targets = bad[i];
    assert_int_equal(ms_cpu_loss(NULL, &k->a), MS_OK);
    assert_int_equal(k->correct, -1);
    CLOSE(k->value[0], 0);
    CLOSE(k->a.dlogits[1], 0);
  }
}

static void test_extremes(void **state) {
  (void)state;
  const ms_real x[] = {MS_R(3e4), MS_R(-3e4), 0, MS_R(-3e4), MS_R(3e4), 0};
  const int64_t y[] = {0, 0};
  run *k = run_of(1, 2, 3, x, y, MS_LOSS_EACH, 1, 0);
  assert_int_equal(ms_cpu_loss(NULL, &k->a), MS_OK);
  CLOSE(k->value[0], 3e4);
  assert_int_equal(k->correct, 1);
  for (int i = 0; i < 6; i++)
    assert_true(isfinite(k->a.dlogits[i]));
  const ms_real one = 5;
  k = run_of(1, 1, 1, &one, y, MS_LOSS_EACH, 1, 0);
  assert_int_equal(ms_cpu_loss(NULL, &k->a), MS_OK);
  CLOSE(k->value[0], 0);
  k->a.batch = 0;
  k->value[0] = 7;
  assert_int_equal(ms_cpu_loss(NULL, &k->a), MS_OK);
  CLOSE(k->value[0], 7);
}

/* A static row of logits equals the same row in every step; bfloat16 equals its values; no gradient wanted is fine. */
static void test_operands(void **state) {
  (void)state;
  const int64_t batch = 5, classes = 700, n = batch * classes, y[] = {0, 699, 3, 511, 512};
  for (int over = MS_LOSS_EACH; over <= MS_LOSS_LAST; over++) {
    ms_data half = as_type(random_reals(n, -2, 2), n, MS_BF16, 1);
    ms_real *x = reals(3 * n);
    for (int64_t i = 0; i < 3 * n; i++)
      x[i] = value_of(half, i % n);
    run *k = run_of(3, batch, classes, x, y, (ms_loss_over)over, .7, .3),
        *s = run_of(3, batch, classes, x, y, (ms_loss_over)over, .7, .3);
    s->a.logits = half;
    s->a.logits_step = 0;
    ms_cpu_loss(NULL, &k->a);
    ms_cpu_loss(NULL, &s->a);
    CLOSE(s->value[0], k->value[0]);
    assert_int_equal(s->correct, k->correct);
    for (int64_t i = 0; i < 3 * n; i++)
      CLOSE(s->a.dlogits[i], k->a.dlogits[i]);
    double was = k->value[0];
    k->a.dlogits = NULL;
    ms_cpu_loss(NULL, &k->a);
    assert_true(k->value[0] == was);
  }
}

static void test_threads(void **state) {
  (void)state;
  const int64_t batch = 300, classes = 101;
  ms_real *x = random_reals(2 * batch * classes, -2, 2);
  int64_t *y = bytes(batch * 8);
  for (int64_t i = 0; i < batch; i++)
    y[i] = i % classes;
  run *first = NULL;
  for (int threads = 1; threads <= 3; threads++) {
    ms_cpu_set_threads(threads);
    run *k = run_of(2, batch, classes, x, y, MS_LOSS_EACH, .9, .1);
    ms_cpu_loss(NULL, &k->a);
    if (!first)
      first = k;
    assert_memory_equal(first->value, k->value, sizeof k->value);
    assert_int_equal(first->correct, k->correct);
    assert_memory_equal(first->a.dlogits, k->a.dlogits, (size_t)(2 * batch * classes) * sizeof(ms_real));
  }
}

#ifdef MS_REAL64
static double value(void *context) {
  run *k = context;
  ms_cpu_loss(NULL, &k->a);
  return k->value[0];
}

static void test_differences(void **state) {
  (void)state;
  const int64_t y[] = {2, 0, 4};
  for (int mixed = 0, i = 0; mixed < 2; i++, mixed += i == 12, i %= 12) {
    ms_real *x = random_reals(4 * 3 * 5, -2, 2);
    run *k = run_of(4, 3, 5, x, y, (ms_loss_over)(i % 3), .8, .3);
    k->a.targets = mixed ? random_reals(3 * 5, 0, 1) : NULL; /* of any mass */
    k->a.smooth = i / 3 % 2 ? .1 : 0;
    k->a.mse_onehot = i / 6;
    k->a.phi = .7;
    ms_cpu_loss(NULL, &k->a);
    ms_real *grad = copy_of(k->a.dlogits, 60);
    for (int j = 0; j < 60; j++)
      CLOSE_TO(grad[j], slope(value, k, x + j), 1e-8);
  }
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_trt, release),           cmocka_unit_test_teardown(test_tet, release),
      cmocka_unit_test_teardown(test_others, release),        cmocka_unit_test_teardown(test_bad_labels, release),
      cmocka_unit_test_teardown(test_extremes, release),      cmocka_unit_test_teardown(test_operands, release),
      cmocka_unit_test_teardown(test_threads, release),       cmocka_unit_test_teardown(test_onehot_targets, release),
      cmocka_unit_test_teardown(test_mixed_targets, release),
#ifdef MS_REAL64
      cmocka_unit_test_teardown(test_differences, release),
#endif
  };
  return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
