/* Optimizer and regulariser rows of CUDA beside the CPU's, and beside the published algorithms in double. */
#include "optimtest.h"
#include "twin.h"

enum { STEPS = 3, MOST = 200 };

/* An arena with gaps, on the host. */
typedef struct arena {
  ms_optim_args a;
  ms_range ranges[MOST];
  ms_hyper hyper[MOST];
  int64_t size;
  double *w, *m, *v; /* of the plain loops */
} arena;

static const double lambda = 1e-2, delta = .5, eps = 1e-5;

static ms_real *reals(int64_t n, int random) {
  ms_data x = row_data(MS_F32, 1, n);
  if (!random)
    memset(x.p, 0, (size_t)n * sizeof(ms_real));
  return x.p;
}

/* Sizes around what a thread, a block and a chunk of a kernel take. */
static arena *arena_of(int nranges, ms_hyper h, int packed) {
  static const int64_t few[] = {4097, 7, 9001}, many[] = {1, 0, 3, 64, 5, 1024, 257, 4096, 31, 1300, 2};
  arena *k = calloc(1, sizeof *k);
  for (int r = 0; r < nranges; r++) {
    ms_range *q = &k->ranges[r];
    q->offset = k->size;
    q->n = nranges <= 3 ? few[r] : many[r % 11];
    q->hyper = r;
    q->regularised = r % 3 == 0;
    q->no_grad = r % 5 == 0 && r > 0;
    k->hyper[r] = h;
    k->size += q->n;
    k->size = packed ? k->size : (k->size + 15) / 16 * 16;
  }
  k->size += 50;
  k->a = (ms_optim_args){.param = reals(k->size, 1),
                         .grad = reals(k->size, 0),
                         .m = reals(k->size, 0),
                         .v = reals(k->size, 0),
                         .shadow = calloc((size_t)k->size, sizeof(ms_bf16)),
                         .ranges = k->ranges,
                         .nranges = nranges,
                         .hyper = k->hyper,
                         .trt = {.steps = 4, .lambda = MS_R(lambda), .eps = MS_R(eps)}};
  for (int t = 0; t < k->a.trt.steps; t++)
    k->a.trt.c[t] = MS_R(expm1(delta * t));
  k->w = calloc((size_t)k->size, sizeof(double));
  k->m = calloc((size_t)k->size, sizeof(double));
  k->v = calloc((size_t)k->size, sizeof(double));
  for (int64_t i = 0; i < k->size; i++)
    k->w[i] = (double)k->a.param[i];
  return k;
}

static void arena_free(arena *k) {
  free(k->a.param);
  free(k->a.grad);
  free(k->a.m);
  free(k->a.v);
  free(k->a.shadow);
  free(k->w);
  free(k->m);
  free(k->v);
  free(k);
}

static void new_gradient(arena *k) {
  for (int64_t i = 0; i < k->size; i++)
    k->a.grad[i] = MS_R(2 * row_random() - 1);
}

/* The same arena on the device; reg_scale of every second regularised range is `half` there. */
typedef struct copies {
  ms_optim_args a;
  ms_range ranges[MOST];
} copies;

static const ms_real half = MS_R(.5);

static copies copies_of(arena *k) {
  copies c = {.a = k->a};
  size_t bytes = (size_t)k->size * sizeof(ms_real);
  const ms_real *scale = to_device(&half, sizeof half);
  for (int r = 0; r < k->a.nranges; r++) {
    k->ranges[r].reg_scale = r % 2 == 0 ? &half : NULL;
    c.ranges[r] = k->ranges[r];
    c.ranges[r].reg_scale = r % 2 == 0 ? scale : NULL;
  }
  c.a.param = to_device(k->a.param, bytes);
  c.a.grad = to_device(k->a.grad, bytes);
  c.a.m = to_device(k->a.m, bytes);
  c.a.v = to_device(k->a.v, bytes);
  c.a.shadow = to_device(k->a.shadow, (size_t)k->size * sizeof(ms_bf16));
  c.a.hyper = to_device(k->hyper, sizeof k->hyper);
  return c;
}

static void upload(void *to, const void *from, size_t bytes) {
  TWIN_OK(gpu->copy_bytes(gpu_stream, to, from, bytes, MS_COPY_HOST_TO_DEVICE));
}

static void same(const char *what, const ms_real *device, const ms_real *want, int64_t n, double tolerance) {
  ms_real *got = reals(n, 0);
  fetch(got, device, (size_t)n * sizeof *got);
  for (int64_t i = 0; i < n; i++)
    if (!(fabs((double)(got[i] - want[i])) <= tolerance * (1 + fabs((double)want[i]))))
      fail_msg("%s: element %lld of %lld: CUDA %.9g, CPU %.9g", what, (long long)i, (long long)n, (double)got[i],
               (double)want[i]);
  free(got);
}

static double gradient(const arena *k, const ms_range *r, int64_t i) {
  double g = r->no_grad ? 0 : (double)k->a.grad[i], scale = r->reg_scale ? (double)*r->reg_scale : 1;
  return r->regularised ? g + scale * plain_trt(k->w[i], k->a.trt.steps, lambda, delta, eps) : g;
}

static void check_steps(int nranges, ms_hyper h, int adam, int packed, int shadow) {
  arena *k = arena_of(nranges, h, packed);
  plain_fn plain = adam ? plain_adam : plain_sgd;
  copies c = copies_of(k);
  c.a.ranges = c.ranges;
  if (!adam && h.momentum == 0)
    c.a.m = NULL;
  if (!adam)
    c.a.v = NULL;
  if (!shadow)
    c.a.shadow = NULL;
  for (int step = 1; step <= STEPS; step++) {
    new_gradient(k);
    upload(c.a.grad, k->a.grad, (size_t)k->size * sizeof(ms_real));
    for (int r = 0; r < nranges; r++)
      for (int64_t i = k->ranges[r].offset; i < k->ranges[r].offset + k->ranges[r].n; i++)
        plain(&k->w[i], &k->m[i], &k->v[i], &h, gradient(k, &k->ranges[r], i), step);
    ms_cpu_hyper_advance(NULL, k->hyper, k->ranges, nranges);
    assert_int_equal((adam ? ms_cpu_adam : ms_cpu_sgd)(NULL, &k->a), MS_OK);
    TWIN_OK(gpu->hyper_advance(gpu_stream, (ms_hyper *)(uintptr_t)c.a.hyper, c.ranges, nranges));
    TWIN_OK((adam ? gpu->adam : gpu->sgd)(gpu_stream, &c.a));
    same("gradient", c.a.grad, k->a.grad, k->size, 1e-6);
  }
  same("parameter", c.a.param, k->a.param, k->size, 2e-6);
  if (c.a.m)
    same("m", c.a.m, k->a.m, k->size, 2e-6);
  if (c.a.v)
    same("v", c.a.v, k->a.v, k->size, 2e-6);
  for (int64_t i = 0; i < k->size; i++)
    assert_true(fabs((double)k->a.param[i] - k->w[i]) < 1e-4);
  if (shadow) {
    ms_real *w = reals(k->size, 0);
    ms_bf16 *bits = malloc((size_t)k->size * sizeof *bits);
    int64_t covered = 0;
    fetch(w, c.a.param, (size_t)k->size * sizeof *w);
    fetch(bits, c.a.shadow, (size_t)k->size * sizeof *bits);
    for (int r = 0; r < nranges; r++)
      for (int64_t i = k->ranges[r].offset; i < k->ranges[r].offset + k->ranges[r].n; i++, covered++)
        assert_int_equal(bits[i].bits, ms_bf16_from((float)w[i]).bits);
    for (int64_t i = 0; i < k->size; i++)
      covered += bits[i].bits == 0 && (double)w[i] == k->w[i];
    assert_true(covered >= k->size);
    free(w);
    free(bits);
  }
  arena_free(k);
  twin_release(NULL);
}

static const int counts[] = {1, 3, MOST};

static void test_adam(void **state) {
  (void)state;
  TWIN_NEEDED();
  for (int i = 0; i < 18; i++) {
    ms_hyper h = {.lr = 1e-2,
                  .beta1 = .9,
                  .beta2 = .99,
                  .eps = 1e-6,
                  .weight_decay = i & 1 ? .1 : 0,
                  .decoupled = !!(i & 2),
                  .maximize = !!(i & 4)};
    check_steps(counts[i / 8], h, 1, i & 1, i % 3 > 0);
  }
}

static void test_sgd(void **state) {
  (void)state;
  TWIN_NEEDED();
  for (int i = 0; i < 32; i++) {
    ms_hyper h = {.lr = 1e-2,
                  .momentum = i & 1 ? .9 : 0,
                  .dampening = i & 2 ? .3 : 0,
                  .weight_decay = i & 4 ? .1 : 0,
                  .nesterov = !!(i & 8),
                  .maximize = !!(i & 16)};
    check_steps(counts[i % 8 == 7 ? 2 : i % 2], h, 0, i & 1, i & 2);
  }
}

static void test_trt(void **state) {
  (void)state;
  TWIN_NEEDED();
  const ms_hyper h = {0};
  for (int i = 0; i < 3; i++) {
    arena *k = arena_of(counts[i], h, i == 1);
    ms_real want[5], got[5], *value = on_device(sizeof got);
    double plain[5] = {0};
    new_gradient(k);
    copies c = copies_of(k);
    c.a.ranges = c.ranges;
    for (int r = 0; r < counts[i]; r++)
      for (int64_t j = k->ranges[r].offset; j < k->ranges[r].offset + k->ranges[r].n; j++)
        for (int t = 0; t < 4; t++) {
          double term = lambda * k->w[j] * k->w[j] / (1 + expm1(delta * t) * (fabs(k->w[j]) + eps));
          plain[1 + t] += term;
          plain[0] += term;
        }
    ms_cpu_trt_value(NULL, k->a.param, k->ranges, counts[i], k->a.trt, want);
    TWIN_OK(gpu->trt_value(gpu_stream, c.a.param, c.ranges, counts[i], k->a.trt, value));
    fetch(got, value, sizeof got);
    for (int t = 0; t < 5; t++) {
      assert_true(fabs((double)(got[t] - want[t])) <= 1e-6 * fabs((double)want[t]));
      assert_true(fabs((double)got[t] - plain[t]) <= 1e-6 * plain[t]);
    }
    ms_cpu_trt_grad(NULL, &k->a);
    TWIN_OK(gpu->trt_grad(gpu_stream, &c.a));
    same("gradient", c.a.grad, k->a.grad, k->size, 1e-7);
    arena_free(k);
    twin_release(NULL);
  }
  ms_trt none = {.steps = 2};
  ms_real zero[3], *value = on_device(sizeof zero);
  TWIN_OK(gpu->trt_value(gpu_stream, NULL, NULL, 0, none, value));
  fetch(zero, value, sizeof zero);
  assert_true(zero[0] == 0 && zero[1] == 0 && zero[2] == 0);
}

/* Indices in any order, also one that comes twice. */
static void test_hyper(void **state) {
  (void)state;
  TWIN_NEEDED();
  enum { N = 2000 };
  ms_hyper *h = calloc(N, sizeof *h), *want = calloc(N, sizeof *h);
  ms_range *ranges = calloc(N, sizeof *ranges);
  for (int i = 0; i < N; i++) {
    h[i] = (ms_hyper){.beta1 = .9 - i * 1e-4, .beta2 = .999 - i * 1e-5, .step = i % 7};
    want[i] = h[i];
    ranges[i].hyper = i % 500 == 3 ? i - 1 : i;
  }
  ms_hyper *d = to_device(h, N * sizeof *h);
  TWIN_OK(gpu->hyper_advance(gpu_stream, d, ranges, N));
  ms_cpu_hyper_advance(NULL, want, ranges, N);
  fetch(h, d, N * sizeof *h);
  for (int i = 0; i < N; i++) {
    assert_true(h[i].step == want[i].step && h[i].first == want[i].first);
    assert_true(fabs(h[i].correction1 - want[i].correction1) < 1e-15);
    assert_true(fabs(h[i].correction2 - want[i].correction2) < 1e-15);
  }
  free(h);
  free(want);
  free(ranges);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_adam, twin_release),
      cmocka_unit_test_teardown(test_sgd, twin_release),
      cmocka_unit_test_teardown(test_trt, twin_release),
      cmocka_unit_test_teardown(test_hyper, twin_release),
  };
  return cmocka_run_group_tests_name("cuda optim", tests, twin_setup, twin_teardown);
}
