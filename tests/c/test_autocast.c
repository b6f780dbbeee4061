/* Mixed precision: products of bfloat16 operands against sums in double, gradients, and the kept copies of weights. */
#include "../../host/core/autocast.h"
#include "mininet.h"

static double wave(int64_t i) {
  return sin(1.7 * (double)i + 0.3);
}

static double other(int64_t i) {
  return 0.8 * cos(0.9 * (double)i + 0.1);
}

static double quarters(int64_t i) {
  return (double)(i * 7 % 13 - 6) / 4;
}

static double counts_of_spikes(int64_t i) {
  return (double)(i * 5 % 7 == 0);
}

static int precise(void **state) {
  (void)state;
  ms_set_autocast(0);
  return 0;
}

static int halves(void **state) {
  (void)state;
  ms_set_autocast(1);
  return 0;
}

static double rounded(double x) {
  return (double)ms_bf16_to(ms_bf16_from((float)x));
}

/* Reals of any float type, to be freed. */
static ms_real *reals(ms_tensor *t) {
  ms_tensor *wide;
  int was = ms_set_grad_enabled(0);
  OK(ms_to(&wide, t, NULL, MS_F32, &test_err));
  ms_set_grad_enabled(was);
  ms_real *v = values_of(wide);
  ms_release(wide);
  return v;
}

/* Logical order of bfloat16 values as integers: neighbours differ by one. */
static int place(double x) {
  int bits = ms_bf16_from((float)x).bits;
  return bits & 0x8000 ? -(bits & 0x7fff) : bits;
}

/* Within one unit of the rounded value; sums that cancel are held to float32's error instead. */
static void half_close(ms_tensor *got, const double *want, const char *what) {
  assert_int_equal(got->dtype, MS_BF16);
  ms_real *v = reals(got);
  for (int64_t i = 0; i < ms_numel(got); i++)
    if (abs(place((double)v[i]) - place(want[i])) > 1 && fabs((double)v[i] - want[i]) > 1e-5)
      fail_msg("%s[%lld]: expected %.9g, got %.9g", what, (long long)i, want[i], (double)v[i]);
  free(v);
}

/* Within 2 % of the largest expected value. */
static void gradient_close(ms_tensor *got, const double *want, const char *what) {
  ms_real *v = reals(got);
  double largest = 0;
  for (int64_t i = 0; i < ms_numel(got); i++)
    largest = fmax(largest, fabs(want[i]));
  for (int64_t i = 0; i < ms_numel(got); i++)
    if (!(fabs((double)v[i] - want[i]) <= 2e-2 * largest))
      fail_msg("%s[%lld]: expected %.9g, got %.9g", what, (long long)i, want[i], (double)v[i]);
  free(v);
}

/* ---- products ---- */

enum { N = 3, CIN = 4, COUT = 6, SIDE = 5, OUT = 3, GROUPS = 2, KERNEL = 3 };

/* y [N, COUT, OUT, OUT] of stride 2, padding 1, two groups, over rounded operands; dw likewise from g. */
static void reference(double *y, double *dw, const double *g, filler x, filler w, filler b) {
  int64_t cig = CIN / GROUPS, cog = COUT / GROUPS;
  if (dw)
    memset(dw, 0, sizeof *dw * COUT * (size_t)cig * KERNEL * KERNEL);
  for (int64_t at = 0; at < N * COUT * OUT * OUT; at++) {
    int64_t ox = at % OUT, oy = at / OUT % OUT, co = at / OUT / OUT % COUT, n = at / OUT / OUT / COUT;
    double sum = b(co);
    for (int64_t k = 0; k < cig * KERNEL * KERNEL; k++) {
      int64_t kx = k % KERNEL, ky = k / KERNEL % KERNEL, ci = k / KERNEL / KERNEL + co / cog * cig;
      int64_t ix = 2 * ox - 1 + kx, iy = 2 * oy - 1 + ky, from = co * cig * KERNEL * KERNEL + k;
      if (ix < 0 || iy < 0 || ix >= SIDE || iy >= SIDE)
        continue;
      double xv = rounded(x(((n * CIN + ci) * SIDE + iy) * SIDE + ix));
      sum += xv * rounded(w(from));
      if (dw)
        dw[from] += xv * rounded(g[at]);
    }
    y[at] = sum;
  }
}

static void convolution_is_of_rounded_operands(void **state) {
  (void)state;
  double y[N * COUT * OUT * OUT], g[N * COUT * OUT * OUT], dw[COUT * CIN / GROUPS * KERNEL * KERNEL], db[COUT] = {0};
  ms_tensor *x = leaf(wave, SIZE(N, CIN, SIDE, SIDE)), *w = leaf(other, SIZE(COUT, CIN / GROUPS, KERNEL, KERNEL));
  ms_tensor *b = leaf(net_bias, SIZE(COUT)), *got, *seed = make(net_linear, SIZE(N, COUT, OUT, OUT));
  for (int64_t i = 0; i < N * COUT * OUT * OUT; i++) {
    g[i] = net_linear(i);
    db[i / OUT / OUT % COUT] += rounded(g[i]);
  }
  reference(y, dw, g, wave, other, net_bias);
  OK(ms_conv2d(&got, x, w, b, (ms_conv_opts){2, 2, 1, 1, 1, 1, GROUPS}, &test_err));
  half_close(got, y, "y");
  OK(ms_backward(got, seed, 0, &test_err));
  gradient_close(grad_of(w), dw, "dw");
  gradient_close(grad_of(b), db, "db");
  assert_int_equal(grad_of(w)->dtype, MS_F32);
  assert_int_equal(grad_of(x)->dtype, MS_F32);
  ms_tensor *held[] = {x, w, b, got, seed};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

static void linear_and_matmul_agree(void **state) {
  (void)state;
  enum { ROWS = 5, IN = 37, TO = 4 };
  double y[ROWS * TO] = {0}, dx[ROWS * IN] = {0}, dw[TO * IN] = {0};
  ms_tensor *x = leaf(wave, SIZE(ROWS, IN)), *w = leaf(other, SIZE(TO, IN)), *seed = make(net_linear, SIZE(ROWS, TO));
  for (int64_t r = 0; r < ROWS; r++)
    for (int64_t o = 0; o < TO; o++)
      for (int64_t i = 0; i < IN; i++) {
        double g = rounded(net_linear(r * TO + o));
        y[r * TO + o] += rounded(wave(r * IN + i)) * rounded(other(o * IN + i));
        dx[r * IN + i] += g * rounded(other(o * IN + i));
        dw[o * IN + i] += g * rounded(wave(r * IN + i));
      }
  for (int product = 0; product < 2; product++) {
    ms_tensor *got, *turned = NULL;
    if (product) {
      OK(ms_transpose(&turned, w, 0, 1, &test_err));
      OK(ms_matmul(&got, x, turned, &test_err));
    } else {
      OK(ms_linear(&got, x, w, NULL, &test_err));
    }
    half_close(got, y, product ? "matmul" : "linear");
    OK(ms_backward(got, seed, 0, &test_err));
    gradient_close(grad_of(x), dx, "dx");
    gradient_close(grad_of(w), dw, "dw");
    OK(ms_set_grad(x, NULL, &test_err));
    OK(ms_set_grad(w, NULL, &test_err));
    ms_release(got);
    ms_release(turned);
  }
  ms_release(x);
  ms_release(w);
  ms_release(seed);
}

/* Operands that bfloat16 holds: both modes give one sum, rounded at the end or not. */
static void spikes_are_exact(void **state) {
  (void)state;
  ms_tensor *x = make(counts_of_spikes, SIZE(2, 3, 2, 6, 6)), *s, *w = make(quarters, SIZE(5, 2, 3, 3)), *half, *whole;
  OK(ms_to(&s, x, NULL, MS_SPIKE, &test_err));
  ms_conv_opts o = {1, 1, 1, 1, 1, 1, 1};
  OK(ms_conv2d(&half, s, w, NULL, o, &test_err));
  ms_set_autocast(0);
  OK(ms_conv2d(&whole, s, w, NULL, o, &test_err));
  assert_int_equal(half->dtype, MS_BF16);
  assert_int_equal(whole->dtype, MS_F32);
  ms_real *a = reals(half), *b = reals(whole);
  for (int64_t i = 0; i < ms_numel(half); i++)
    assert_true((double)a[i] == rounded((double)b[i]));
  free(a);
  free(b);
  ms_tensor *held[] = {x, s, w, half, whole};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

static void sums_of_bfloat16_are_float32(void **state) {
  (void)state;
  ms_tensor *x = make(ones, SIZE(2, 300)), *half, *y[4];
  OK(ms_to(&half, x, NULL, MS_BF16, &test_err));
  OK(ms_mean(&y[0], half, 0, 0, &test_err));
  OK(ms_reduce(&y[1], MS_REDUCE_sum, half, 2, 0, &test_err));
  OK(ms_log_softmax(&y[2], half, 1, &test_err));
  OK(ms_softmax(&y[3], half, 1, &test_err));
  for (int i = 0; i < 4; i++)
    assert_int_equal(y[i]->dtype, MS_F32);
  expect(y[1], (double[]){300, 300}, 0, "sum");
  for (int i = 0; i < 4; i++)
    ms_release(y[i]);
  ms_set_autocast(0);
  OK(ms_mean(&y[0], half, 0, 0, &test_err));
  assert_int_equal(y[0]->dtype, MS_BF16);
  ms_release(y[0]);
  ms_release(half);
  ms_release(x);
}

/* ---- the whole network ---- */

static void training_is_close(void **state) {
  (void)state;
  mininet half = net_new(), whole = net_new();
  double a = net_backward(&half);
  assert_int_equal(half.logits->dtype, MS_BF16);
  assert_int_equal(half.report.fused, 1);
  ms_set_autocast(0);
  double b = net_backward(&whole);
  assert_true(fabs(a - b) <= 2e-2 * fabs(b));
  for (int i = 0; i < 3; i++)
    assert_true(llabs(half.spikes[i] - whole.spikes[i]) <= 1);
  for (int i = 0; i < NET_PARAMS; i++) {
    ms_real *v = values_of(grad_of(whole.p[i]));
    double want[128];
    for (int64_t k = 0; k < ms_numel(whole.p[i]); k++)
      want[k] = (double)v[k];
    free(v);
    assert_int_equal(grad_of(half.p[i])->dtype, MS_F32);
    gradient_close(grad_of(half.p[i]), want, "gradient");
  }
  net_free(&half);
  net_free(&whole);
}

/* Types of the gradients that meet at x. */
static void backward_keeps_the_mode_of_forward(void **state) {
  (void)state;
  for (int on = 0; on < 2; on++) {
    ms_tensor *x = leaf(counts_of_spikes, SIZE(2, 2, 4, 4)), *s, *w = leaf(other, SIZE(3, 2, 3, 3)), *y, *g[2];
    ms_tensor *seed = make(wave, SIZE(2, 3, 4, 4)), *in[2];
    OK(ms_to(&s, x, NULL, MS_SPIKE, &test_err));
    ms_set_autocast(on);
    OK(ms_conv2d(&y, s, w, NULL, (ms_conv_opts){1, 1, 1, 1, 1, 1, 1}, &test_err));
    ms_set_autocast(!on);
    in[0] = s;
    in[1] = w;
    OK(ms_grad_of(g, y, seed, 2, in, 0, &test_err));
    assert_int_equal(g[0]->dtype, on ? MS_BF16 : MS_F32);
    assert_int_equal(g[1]->dtype, MS_F32);
    ms_tensor *held[] = {x, s, w, y, seed, g[0], g[1]};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
      ms_release(held[i]);
  }
}

/* Both branches of a residual bring a bfloat16 gradient to one tensor; their sum is that of each alone. */
static void gradients_of_two_readers_add(void **state) {
  (void)state;
  ms_tensor *x = leaf(wave, SIZE(4, 3)), *half, *w = make(quarters, SIZE(3, 3)), *v = make(other, SIZE(3, 3));
  ms_tensor *y[3], *seed = make(net_linear, SIZE(4, 3)), *g[3];
  OK(ms_to(&half, x, NULL, MS_BF16, &test_err));
  OK(ms_linear(&y[0], half, w, NULL, &test_err));
  OK(ms_linear(&y[1], half, v, NULL, &test_err));
  OK(ms_binary(&y[2], MS_BINARY_add, y[0], y[1], &test_err));
  for (int i = 0; i < 3; i++)
    OK(ms_grad_of(&g[i], y[i], seed, 1, &half, 1, &test_err));
  ms_real *a = reals(g[0]), *b = reals(g[1]), *sum = reals(g[2]);
  for (int i = 0; i < 12; i++)
    assert_true(fabs((double)sum[i] - (double)(a[i] + b[i])) <= 1e-2 * (fabs((double)a[i]) + fabs((double)b[i])));
  free(a);
  free(b);
  free(sum);
  ms_tensor *held[] = {x, half, w, v, seed, y[0], y[1], y[2], g[0], g[1], g[2]};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

/* ---- copies of weights ---- */

/* The copy that the next layer reads is that of the weight, and (fresh) was there already. */
static void copy_follows(ms_tensor *w, int fresh, const char *what) {
  ms_storage *s = w->storage;
  ms_tensor *half;
  const ms_storage *before = s->half;
  uint32_t version = before ? before->version : 0;
  OK(ms_half(&half, w, 1, &test_err));
  if (fresh != (s->half == before && s->half->version == version))
    fail_msg("%s: the copy was %s", what, fresh ? "made again" : "not made again");
  ms_real *v = values_of(w), *h = reals(half);
  for (int64_t i = 0; i < ms_numel(w); i++)
    if ((double)h[i] != rounded((double)v[i]))
      fail_msg("%s: element %lld: %.9g of %.9g", what, (long long)i, (double)h[i], (double)v[i]);
  free(v);
  free(h);
  ms_release(half);
}

static ms_optim *optim(ms_optim_kind kind, int n, ms_tensor *const *params) {
  ms_optim *o;
  ms_hyper h = {.lr = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .momentum = 0.5};
  int group;
  OK(ms_optim_new(&o, kind, &test_err));
  OK(ms_optim_add_group(o, n, params, &h, &group, &test_err));
  return o;
}

/* One step of the sum of linear layers over the weights. */
static void train(ms_optim *o, int n, ms_tensor *const *w) {
  ms_tensor *x = make(wave, SIZE(2, 3)), *seed = make(other, SIZE(2, 4));
  OK(ms_optim_zero_grad(o, &test_err));
  for (int i = 0; i < n; i++) {
    ms_tensor *y;
    OK(ms_linear(&y, x, w[i], NULL, &test_err));
    if (w[i]->requires_grad)
      OK(ms_backward(y, seed, 0, &test_err));
    ms_release(y);
  }
  OK(ms_optim_step(o, &test_err));
  ms_release(x);
  ms_release(seed);
}

static void optimizers_write_the_copies(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  for (int kind = 0; kind < 2; kind++) {
    ms_tensor *w[3] = {leaf(wave, SIZE(4, 3)), leaf(other, SIZE(4, 3)), leaf(quarters, SIZE(4, 3))};
    copy_follows(w[0], 0, "loose");
    copy_follows(w[0], 1, "loose, again");
    ms_optim *o = optim(kind ? MS_OPTIM_ADAM : MS_OPTIM_SGD, 2, w);
    ms_optim *late = optim(MS_OPTIM_SGD, 1, w + 2);
    ms_tensor *view, *x = make(wave, SIZE(2, 3)), *y;
    copy_follows(w[0], 0, "gathered");
    train(o, 2, w);
    copy_follows(w[0], 1, "after a step");
    copy_follows(w[1], 1, "after a step, second");
    train(late, 1, w + 2);
    copy_follows(w[2], 1, "of the second optimizer");
    /* not read since the last step: not written either, but made again when asked for */
    train(o, 2, w);
    train(late, 1, w + 2);
    OK(ms_optim_zero_grad(o, &test_err));
    OK(ms_set_grad(w[0], w[1], &test_err));
    OK(ms_optim_step(o, &test_err));
    copy_follows(w[0], 0, "after a step in which nobody read it");
    /* a view of the weight, and the weight after a write through the view */
    int was = ms_set_grad_enabled(0);
    OK(ms_narrow(&view, w[1], 0, 1, 2, &test_err));
    OK(ms_linear(&y, x, view, NULL, &test_err));
    ms_release(y);
    OK(ms_fill_(view, 0.3, &test_err));
    copy_follows(w[1], 0, "written through a view");
    OK(ms_copy_(w[1], w[0], &test_err));
    copy_follows(w[1], 0, "loaded");
    ms_set_grad_enabled(was);
    OK(ms_set_requires_grad(w[1], 0, &test_err));
    OK(ms_set_grad(w[1], NULL, &test_err));
    train(o, 2, w);
    copy_follows(w[1], 1, "frozen");
    copy_follows(w[0], 1, "beside a frozen one");
    ms_optim_free(o);
    ms_optim_free(late);
    ms_tensor *held[] = {view, x, w[0], w[1], w[2]};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
      ms_release(held[i]);
  }
  no_leaks(before);
}

/* One weight in two layers, read through a handle taken before it was gathered. */
static void a_shared_weight_has_one_copy(void **state) {
  (void)state;
  ms_tensor *w = leaf(wave, SIZE(4, 3)), *before, *a, *b;
  OK(ms_detach(&before, w, &test_err));
  ms_optim *o = optim(MS_OPTIM_SGD, 1, &w);
  train(o, 1, (ms_tensor *[]){w});
  OK(ms_half(&a, w, 1, &test_err));
  OK(ms_half(&b, before, 1, &test_err));
  assert_ptr_equal(a->storage, b->storage);
  copy_follows(before, 1, "through an earlier handle");
  ms_optim_free(o);
  ms_tensor *held[] = {a, b, before, w};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

/* A weight that is the result of an op; and one whose step comes between forward and backward. */
static void a_computed_weight_and_a_late_backward(void **state) {
  (void)state;
  ms_tensor *w = leaf(wave, SIZE(4, 3)), *twice, *x = leaf(other, SIZE(2, 3)), *y, *seed = make(ones, SIZE(2, 4));
  OK(ms_binary_scalar(&twice, MS_BINARY_mul, w, 2, 0, &test_err));
  OK(ms_linear(&y, x, twice, NULL, &test_err));
  OK(ms_backward(y, seed, 0, &test_err));
  double dw[12];
  for (int i = 0; i < 12; i++)
    dw[i] = 2 * (rounded(other(i % 3)) + rounded(other(i % 3 + 3)));
  gradient_close(grad_of(w), dw, "dw");
  ms_release(y);
  ms_optim *o = optim(MS_OPTIM_SGD, 1, &w);
  OK(ms_linear(&y, x, w, NULL, &test_err));
  OK(ms_optim_step(o, &test_err));
  FAILS(ms_backward(y, seed, 0, &test_err), MS_EGRAPH, "saved by 'linear' was changed by 'step'");
  ms_optim_free(o);
  ms_tensor *held[] = {w, twice, x, y, seed};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

/* Each allocation on the way may fail; nothing is left, and the next call is right. */
static void failures_leave_nothing(void **state) {
  (void)state;
  ms_tensor *w = leaf(wave, SIZE(4, 3)), *x = make(other, SIZE(2, 3)), *y = NULL;
  ms_optim *o = optim(MS_OPTIM_SGD, 1, &w);
  for (int64_t n = 0; !y && n < 200; n++) {
    ms_fail_allocation(n);
    ms_status st = ms_linear(&y, x, w, NULL, &test_err);
    ms_fail_allocation(-1);
    if (st)
      assert_int_equal(st, MS_EMEM);
  }
  copy_follows(w, 1, "after failures");
  ms_optim_free(o);
  ms_release(w);
  ms_release(x);
  ms_release(y);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(convolution_is_of_rounded_operands, halves, precise),
      cmocka_unit_test_setup_teardown(linear_and_matmul_agree, halves, precise),
      cmocka_unit_test_setup_teardown(spikes_are_exact, halves, precise),
      cmocka_unit_test_setup_teardown(sums_of_bfloat16_are_float32, halves, precise),
      cmocka_unit_test_setup_teardown(training_is_close, halves, precise),
      cmocka_unit_test_setup_teardown(backward_keeps_the_mode_of_forward, halves, precise),
      cmocka_unit_test_setup_teardown(gradients_of_two_readers_add, halves, precise),
      cmocka_unit_test_setup_teardown(optimizers_write_the_copies, halves, precise),
      cmocka_unit_test_setup_teardown(a_shared_weight_has_one_copy, halves, precise),
      cmocka_unit_test_setup_teardown(a_computed_weight_and_a_late_backward, halves, precise),
      cmocka_unit_test_setup_teardown(failures_leave_nothing, halves, precise),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
