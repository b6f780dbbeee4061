/* Optimizer and regulariser rows. References: closed forms, and the published algorithms written anew in double. */
#include "optimtest.h"
#include "rows.h"

static const ms_real third = MS_R(1.0 / 3), half = MS_R(.5), quarter = MS_R(.25), one = 1, twice = 2;

static ms_trt trt_of(int steps, double lambda, double delta, double eps) {
  ms_trt r = {.steps = steps, .lambda = MS_R(lambda), .eps = MS_R(eps)};
  for (int t = 0; t < steps; t++)
    r.c[t] = MS_R(expm1(delta * t));
  return r;
}

/* ---- TRT ---- */

static const ms_real weights[] = {MS_R(.5), MS_R(-.25), 1, 0};

/* r(t) and dr/dw of one t, as a regulariser of one step. */
static void check_trt(double lambda, double delta, int t, double r, const double dw[4]) {
  ms_trt trt = trt_of(1, lambda, 0, 1e-5);
  ms_real w[4], g[4] = {0}, value[2];
  memcpy(w, weights, sizeof w);
  trt.c[0] = MS_R(expm1(delta * t));
  ms_range range = {.n = 4, .regularised = 1};
  ms_optim_args a = {.param = w, .grad = g, .ranges = &range, .nranges = 1, .trt = trt};
  assert_int_equal(ms_cpu_trt_value(NULL, w, &range, 1, trt, value), MS_OK);
  CLOSE(value[0] / r, 1);
  CLOSE(value[1] / r, 1);
  assert_int_equal(ms_cpu_trt_grad(NULL, &a), MS_OK);
  for (int i = 0; dw && i < 4; i++)
    CLOSE(g[i] / (i < 3 ? dw[i] : 1), i < 3);
}

static void test_trt_golden(void **state) {
  (void)state;
  const double r[] = {0.013125, 0.00849075612395, 0.00546065484266, 0.00347754322406};
  const double dw[][4] = {{0.01, -0.005, 0.02, 0},
                          {0.00662611789206, -0.00400205123063, 0.00974407205906, 0},
                          {0.00413597723665, -0.00297203610038, 0.00503213013445, 0},
                          {0.00248981976308, -0.00205116613706, 0.0027291645495, 0}};
  const double small[] = {1.3125e-05, 1.05606644051e-05, 8.49075612395e-06, 6.81629886371e-06};
  const double small_dw[] = {8.21200424899e-06, -4.5137368156e-06, 1.38532875951e-05, 0};
  for (int t = 0; t < 4; t++) {
    check_trt(1e-2, 0.5, t, r[t], dw[t]);
    check_trt(1e-5, 0.25, t, small[t], t == 1 ? small_dw : NULL);
  }
  ms_real w[4], g[4] = {9, 9, 9, 9}, value[4];
  const double mean[] = {0.00692069837624, -0.00399136244367, 0.0115920673978, 0};
  memcpy(w, weights, sizeof w);
  ms_range range = {.n = 4, .regularised = 1, .reg_scale = &third, .no_grad = 1};
  ms_optim_args a = {.param = w, .grad = g, .ranges = &range, .nranges = 1, .trt = trt_of(3, 1e-2, 0.5, 1e-5)};
  ms_cpu_trt_value(NULL, w, &range, 1, a.trt, value);
  CLOSE(value[0], r[0] + r[1] + r[2]);
  for (int t = 0; t < 3; t++)
    CLOSE(value[1 + t], r[t]);
  ms_cpu_trt_grad(NULL, &a);
  for (int i = 0; i < 4; i++)
    CLOSE(g[i], mean[i]);
}

/* Many blocks, several ranges, accurate sums; zero weights and zero steps. */
static void test_trt_ranges(void **state) {
  (void)state;
  const int64_t n = 50000;
  ms_real *w = random_reals(n, -1, 1), value[6], *g = random_reals(n, -1, 1), *was = copy_of(g, n);
  ms_range ranges[] = {{.offset = 3, .n = 33, .regularised = 1, .reg_scale = &one},
                       {.offset = 40, .n = 0, .regularised = 1, .reg_scale = &one},
                       {.offset = 40, .n = 1, .regularised = 0, .reg_scale = &one},
                       {.offset = 100, .n = 49000, .regularised = 1, .reg_scale = &half}};
  ms_trt trt = trt_of(5, 1e-3, .3, 1e-5);
  double want[5] = {0};
  ms_cpu_trt_value(NULL, w, ranges, 4, trt, value);
  for (int r = 0; r < 4; r++)
    for (int64_t i = ranges[r].offset; i < ranges[r].offset + ranges[r].n; i++)
      for (int t = 0; t < 5; t++)
        want[t] += 1e-3 * w[i] * w[i] / (1 + expm1(.3 * t) * (fabs((double)w[i]) + 1e-5));
  for (int t = 0; t < 5; t++)
    CLOSE_TO(value[1 + t] / want[t], 1, TOL / 10);
  ms_optim_args a = {.param = w, .grad = g, .ranges = ranges, .nranges = 4, .trt = trt};
  ms_cpu_trt_grad(NULL, &a);
  for (int64_t i = 0; i < n; i++) {
    double scale = i >= 3 && i < 36 ? 1 : i >= 100 && i < 49100 ? .5 : 0;
    CLOSE(g[i], was[i] + scale * (double)ms_trt_grad_at(w[i], &trt));
    if (scale == 0)
      assert_memory_equal(g + i, was + i, sizeof *g);
  }
  assert_int_equal(ms_cpu_trt_value(NULL, w, ranges, 0, trt, value), MS_OK);
  CLOSE(value[0], 0);
}

#ifdef MS_REAL64
typedef struct penalty {
  ms_real w[9];
  ms_trt trt;
} penalty;

static double penalty_value(void *context) {
  penalty *p = context;
  ms_real value[8];
  ms_range range = {.n = 9};
  ms_cpu_trt_value(NULL, p->w, &range, 1, p->trt, value);
  return value[0];
}

static void test_trt_differences(void **state) {
  (void)state;
  for (int steps = 0; steps < 7; steps++) {
    penalty p = {.trt = trt_of(steps, .3, .4, 1e-2)};
    for (int i = 0; i < 9; i++)
      p.w[i] = uniform(-2, 2);
    for (int i = 0; i < 9; i++)
      CLOSE_TO(ms_trt_grad_at(p.w[i], &p.trt), slope(penalty_value, &p, p.w + i), 1e-8);
  }
}
#endif

/* ---- Adam and SGD ---- */

static void test_adam_golden(void **state) {
  (void)state;
  const double g[] = {.1, -.2, .05}, want[] = {.9990000001, .999366103604, .999502794257};
  ms_real w[] = {1, 0}, grad[2], m[2] = {0}, v[2] = {0}; /* from 0 the steps themselves can be seen in float */
  ms_range range = {.n = 2};
  ms_hyper h = {.lr = 1e-3, .beta1 = .9, .beta2 = .999, .eps = 1e-8};
  ms_optim_args a = {.param = w, .grad = grad, .m = m, .v = v, .ranges = &range, .nranges = 1, .hyper = &h};
  for (int i = 0; i < 3; i++) {
    grad[0] = grad[1] = MS_R(g[i]);
    assert_int_equal(ms_cpu_hyper_advance(NULL, &h, &range, 1), MS_OK);
    assert_int_equal(ms_cpu_adam(NULL, &a), MS_OK);
    CLOSE(w[0], want[i]);
    CLOSE(w[1] / (want[i] - 1), 1);
    if (i == 0)
      CLOSE_TO(v[0] / (1e-3 * .01), 1, TOL / 10);
  }
  assert_true(h.step == 3);
}

/* Three parameters of awkward sizes in one arena; the middle one has a pending term only. */
#define ARENA 10000
static const ms_range layout[] = {
    {.offset = 0, .n = 7, .hyper = 0},
    {.offset = 16, .n = 1300, .hyper = 1, .regularised = 1, .reg_scale = &quarter, .no_grad = 1},
    {.offset = 1328, .n = 8500, .hyper = 2, .regularised = 1, .reg_scale = &twice}};

typedef struct arena {
  ms_optim_args a;
  ms_hyper h[3];
  double w[ARENA], m[ARENA], v[ARENA];
} arena;

static arena *arena_of(ms_hyper h) {
  arena *k = bytes(sizeof *k);
  ms_optim_args a = {.param = random_reals(ARENA, -1, 1),
                     .m = reals(ARENA),
                     .v = reals(ARENA),
                     .shadow = bytes(ARENA * 2),
                     .ranges = layout,
                     .nranges = 3,
                     .hyper = k->h,
                     .trt = trt_of(4, 1e-2, .5, 1e-5)};
  k->a = a;
  for (int i = 0; i < 3; i++)
    k->h[i] = h;
  for (int i = 0; i < ARENA; i++)
    k->w[i] = a.param[i];
  return k;
}

static double gradient(const arena *k, const ms_range *r, int64_t i) {
  double g = r->no_grad ? 0 : k->a.grad[i];
  return r->regularised ? g + *r->reg_scale * plain_trt(k->w[i], k->a.trt.steps, 1e-2, .5, 1e-5) : g;
}

typedef ms_status (*row_fn)(ms_stream *, const ms_optim_args *);

static void check_steps(ms_hyper h, row_fn row, plain_fn plain) {
  arena *k = arena_of(h);
  ms_real *was = copy_of(k->a.param, ARENA);
  for (int step = 1; step <= 3; step++) {
    k->a.grad = random_reals(ARENA, -1, 1);
    for (int r = 0; r < 3; r++)
      for (int64_t i = layout[r].offset; i < layout[r].offset + layout[r].n; i++)
        plain(&k->w[i], &k->m[i], &k->v[i], &h, gradient(k, layout + r, i), step);
    ms_cpu_hyper_advance(NULL, k->h, layout, 3);
    assert_int_equal(row(NULL, &k->a), MS_OK);
  }
  int64_t outside = 0;
  for (int64_t i = 0; i < ARENA; i++) {
    int in = i < 7 || (i >= 16 && i < 1316) || (i >= 1328 && i < 9828);
    CLOSE_TO(k->a.param[i], k->w[i], 2 * TOL);
    if (in)
      assert_int_equal(k->a.shadow[i].bits, ms_bf16_from((float)k->a.param[i]).bits);
    else
      outside += k->a.param[i] == was[i] && k->a.shadow[i].bits == 0;
  }
  assert_int_equal(outside, ARENA - 7 - 1300 - 8500);
}

static void test_adam(void **state) {
  for (int i = 0; i < 8; i++) {
    ms_hyper h = {.lr = 1e-2,
                  .beta1 = .9,
                  .beta2 = .99,
                  .eps = 1e-6,
                  .weight_decay = i & 1 ? .1 : 0,
                  .decoupled = !!(i & 2),
                  .maximize = !!(i & 4)};
    check_steps(h, ms_cpu_adam, plain_adam);
    release(state);
  }
}

static void test_sgd(void **state) {
  for (int i = 0; i < 32; i++) {
    ms_hyper h = {.lr = 1e-2,
                  .momentum = i & 1 ? .9 : 0,
                  .dampening = i & 2 ? .3 : 0,
                  .weight_decay = i & 4 ? .1 : 0,
                  .nesterov = !!(i & 8),
                  .maximize = !!(i & 16)};
    check_steps(h, ms_cpu_sgd, plain_sgd);
    release(state);
  }
}

static void test_threads(void **state) {
  (void)state;
  const int64_t n = 200000;
  ms_real *first = NULL;
  for (int threads = 1; threads <= 3; threads++) {
    seed = 5;
    ms_cpu_set_threads(threads);
    ms_hyper h = {.lr = 1e-2, .beta1 = .9, .beta2 = .99, .eps = 1e-6};
    ms_range range = {.n = n, .regularised = 1};
    ms_real *w = random_reals(n + 7, -1, 1);
    ms_optim_args a = {.param = w,
                       .grad = random_reals(n, -1, 1),
                       .m = reals(n),
                       .v = reals(n),
                       .ranges = &range,
                       .nranges = 1,
                       .hyper = &h,
                       .trt = trt_of(6, 1e-2, .5, 1e-5)};
    ms_hyper_step(&h);
    ms_cpu_adam(NULL, &a);
    ms_cpu_trt_value(NULL, w, &range, 1, a.trt, w + n);
    if (first)
      assert_memory_equal(first, w, (size_t)(n + 7) * sizeof *w);
    else
      first = w;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_trt_golden, release),
      cmocka_unit_test_teardown(test_trt_ranges, release),
      cmocka_unit_test_teardown(test_adam_golden, release),
      cmocka_unit_test_teardown(test_adam, release),
      cmocka_unit_test_teardown(test_sgd, release),
      cmocka_unit_test_teardown(test_threads, release),
#ifdef MS_REAL64
      cmocka_unit_test_teardown(test_trt_differences, release),
#endif
  };
  return cmocka_run_group_tests_name("optim", tests, NULL, NULL);
}
