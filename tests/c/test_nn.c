/* Layers, losses and their gradients through the tape: golden values, fused against unfused, static against repeated
** input, finite differences (in the double-precision build with smooth spikes), allocation failures. */
#include "mininet.h"

static double wave(int64_t i) {
  return sin(1.7 * (double)i + 0.3);
}
static double wave2(int64_t i) {
  return 0.6 * cos(0.9 * (double)i) + 0.4;
}

/* ---- golden ---- */
#ifndef MS_SMOOTH
static void golden_batch_norm(void **state) {
  (void)state;
  const double xs[] = {1, 2, 3, 6}, y_expected[] = {-1.06904344, -.5345217202, 0, 1.603565161},
               dx[] = {.248171235, -.2099904576, -.1336304301, .09544965267}, seed_value[] = {1, 0, 0, 0};
  ms_real host[4], seed_host[4];
  for (int i = 0; i < 4; i++) {
    host[i] = MS_R(xs[i]);
    seed_host[i] = MS_R(seed_value[i]);
  }
  ms_tensor *x = leaf(zeros, SIZE(2, 1, 1, 1, 2)), *seed = make(zeros, SIZE(2, 1, 1, 1, 2)), *y;
  ms_tensor *gamma = leaf(ones, SIZE(1)), *beta = leaf(zeros, SIZE(1)), *mean = make(zeros, SIZE(1)),
            *var = make(ones, SIZE(1));
  ms_set_grad_enabled(0);
  OK(ms_write(x, host, &test_err));
  OK(ms_write(seed, seed_host, &test_err));
  ms_set_grad_enabled(1);
  OK(ms_batch_norm(&y, x, gamma, beta, mean, var, (ms_norm_opts){1e-5, 0.1, 1, 1, NULL}, &test_err));
  assert_null(y->storage);
  OK(ms_backward(y, seed, 0, &test_err));
  expect(y, y_expected, 1e-6, "y");
  expect(grad_of(x), dx, 1e-6, "dx");
  expect(grad_of(beta), (double[]){1}, 1e-6, "dbeta");
  expect(mean, (double[]){0.3}, 1e-6, "running mean");
  expect(var, (double[]){1.3666666667}, 1e-6, "running var");
  ms_tensor *held[] = {x, seed, y, gamma, beta, mean, var};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

static void golden_net(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  static const struct {
    double sum, squares, first[4];
    int n;
  } golden[NET_PARAMS] = {
      {-.08721160268, .01989336321, {-.007217546086, -.009920457528, -.003192230632, .00376347114}, 4},
      {-.01476506942, .003622455641, {-.03394145481, .03319048159, -.03221248176, .01819838557}, 4},
      {.02072945271, .02148238691, {-.05178272491, .05665652758, -.08000758701, .09586323705}, 4},
      {-.1388112101, .3018991982, {-.02503393901, .01384903473, -.02313844769, -.03601239552}, 4},
      {-.0311617798, .1851488789, {-.1218239257, .3336000426, -.2429378966}, 3},
  };
  static const double logits[] = {.1418956567, .1405260999,   -.1897215491, .1973796544,   .1080312768,   -.2283201088,
                                  .2916111859, .001334971578, -.2671085363, -.02631157238, -.06276492879, .08412275522,
                                  .0484338837, .1543855383,   -.1034616214, .390473629,    .1574855318,   -.4471122309};
  mininet n = net_new();
  close_to(net_backward(&n), 1.11175183686, TOLERANCE, "loss", 0);
  assert_int_equal(n.report.fused, 1);
  assert_int_equal(n.spikes[0], 44);
  assert_int_equal(n.spikes[1], 34);
  assert_int_equal(n.spikes[2], 29);
  expect(n.logits, logits, TOLERANCE, "logits");
  expect(n.mean, (double[]){-.001053146425, .004981178182, -.0005531636355, -.004802796225}, TOLERANCE, "running mean");
  expect(n.var, (double[]){.9364600446, .9430791669, .9356490039, .9431175396}, TOLERANCE, "running var");
  for (int i = 0; i < NET_PARAMS; i++) {
    ms_tensor *g = grad_of(n.p[i]);
    ms_real *v = values_of(g);
    double sum = 0, squares = 0;
    for (int64_t k = 0; k < ms_numel(g); k++) {
      sum += (double)v[k];
      squares += (double)v[k] * (double)v[k];
    }
    close_to(sum, golden[i].sum, TOLERANCE, "sum of gradient", i);
    close_to(squares, golden[i].squares, TOLERANCE, "squares of gradient", i);
    for (int k = 0; k < golden[i].n; k++)
      close_to((double)v[k], golden[i].first[k], TOLERANCE, "gradient", i);
    free(v);
  }
  net_free(&n);
  no_leaks(before);
}

static void unfused_gives_the_same(void **state) {
  (void)state;
  mininet a = net_new(), b = net_new();
  net_backward(&a);
  ms_set_fusion(0);
  net_backward(&b);
  ms_set_fusion(1);
  assert_int_equal(b.report.fused, 0);
  assert_string_equal(b.report.why_not, "fusion is switched off");
  same_bits(a.logits, b.logits);
  same_bits(a.var, b.var);
  for (int i = 0; i < NET_PARAMS; i++)
    all_close(grad_of(a.p[i]), grad_of(b.p[i]), TOLERANCE, "gradient");
  net_free(&a);
  net_free(&b);
}

static void density_is_counted(void **state) {
  (void)state;
  mininet n = net_new();
  ms_tensor *s, *counts;
  OK(ms_neuron_forward(&s, NULL, &counts, n.x, NULL, NULL, &n.neuron, NULL, &test_err));
  ms_real *v = values_of(s);
  double on = 0;
  for (int64_t i = 0; i < ms_numel(s); i++)
    on += (double)v[i];
  assert_true(on > 0);
  close_to(s->density, on / (double)ms_numel(s), 1e-12, "density", 0);
  free(v);
  ms_release(s);
  ms_release(counts);
  net_free(&n);
}

static void pooled_spikes_stay_spikes(void **state) {
  (void)state;
  mininet n = net_new();
  ms_tensor *s, *p, *q, *m, *f, *copy;
  OK(ms_neuron_forward(&s, NULL, NULL, n.x, NULL, NULL, &n.neuron, NULL, &test_err));
  OK(ms_avg_pool2d(&p, s, (ms_pool_opts){2, 2, 2, 2, 0, 0, 0, 1}, &test_err));
  assert_int_equal(p->dtype, MS_SPIKE);
  assert_int_equal(p->peak, 4);
  close_to((double)p->scale, 0.25, 0, "scale", 0);
  OK(ms_adaptive_avg_pool2d(&q, p, 1, 1, &test_err));
  assert_int_equal(q->dtype, MS_SPIKE);
  assert_int_equal(q->peak, 16);
  OK(ms_max_pool2d(&m, p, (ms_pool_opts){2, 2, 1, 1, 1, 1, 0, 0}, &test_err));
  assert_int_equal(m->dtype, MS_SPIKE);
  OK(ms_to(&copy, s, NULL, MS_F32, &test_err));
  OK(ms_avg_pool2d(&f, copy, (ms_pool_opts){2, 2, 2, 2, 0, 0, 0, 1}, &test_err));
  all_close(p, f, 0, "pooled");
  ms_release(f);
  OK(ms_avg_pool2d(&f, s, (ms_pool_opts){2, 2, 2, 2, 1, 1, 0, 0}, &test_err));
  assert_int_equal(f->dtype, MS_F32); /* windows of unequal size */
  ms_tensor *held[] = {s, p, q, m, f, copy};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  net_free(&n);
}
#endif

/* ---- static input ---- */
typedef struct stem {
  ms_tensor *logits, *mean, *var, *w, *gamma, *image;
} stem;

static stem stem_run(int repeat_in_memory, int fusion) {
  stem r;
  ms_tensor *x, *a, *b, *s, *p, *q, *sum;
  r.image = leaf(net_x, SIZE(1, 2, 2, 6, 6));
  r.w = leaf(net_conv, SIZE(4, 2, 3, 3));
  r.gamma = leaf(net_gamma, SIZE(4));
  r.mean = make(zeros, SIZE(4));
  r.var = make(ones, SIZE(4));
  ms_neuron_opts o = {.p = lif()};
  o.p.threshold = MS_R(0.9);
  ms_set_fusion(fusion);
  OK(ms_expand(&x, r.image, SIZE(4, 2, 2, 6, 6), &test_err));
  if (repeat_in_memory) {
    OK(ms_clone(&q, x, &test_err));
    ms_release(x);
    x = q;
  }
  OK(ms_avg_pool2d(&p, x, (ms_pool_opts){2, 2, 1, 1, 0, 0, 0, 1}, &test_err));
  OK(ms_conv2d(&a, p, r.w, NULL, (ms_conv_opts){1, 1, 1, 1, 1, 1, 1}, &test_err));
  assert_int_equal(a->source != NULL, !repeat_in_memory);
  OK(ms_batch_norm(&b, a, r.gamma, NULL, r.mean, r.var, (ms_norm_opts){1e-5, 0.1, 1, 1, NULL}, &test_err));
  OK(ms_neuron_forward(&s, NULL, NULL, b, NULL, NULL, &o, NULL, &test_err));
  OK(ms_to(&r.logits, s, NULL, MS_F32, &test_err));
  ms_tensor *weights = make(wave, s->ndim, s->size);
  OK(ms_binary(&q, MS_BINARY_mul, s, weights, &test_err));
  OK(ms_reduce(&sum, MS_REDUCE_sum, q, 0, 0, &test_err));
  OK(ms_backward(sum, NULL, 0, &test_err));
  ms_set_fusion(1);
  ms_tensor *held[] = {x, a, b, s, p, q, sum, weights};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  return r;
}

static void stem_free(stem *r) {
  ms_tensor *held[] = {r->logits, r->mean, r->var, r->w, r->gamma, r->image};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

static void static_input_equals_repeated(void **state) {
  (void)state;
  for (int fusion = 0; fusion < 2; fusion++) {
    stem a = stem_run(0, fusion), b = stem_run(1, fusion);
    all_close(a.logits, b.logits, TOLERANCE, "spikes");
    all_close(a.mean, b.mean, TOLERANCE, "running mean");
    all_close(a.var, b.var, TOLERANCE, "running var");
    all_close(grad_of(a.w), grad_of(b.w), 10 * TOLERANCE, "weight");
    all_close(grad_of(a.gamma), grad_of(b.gamma), 10 * TOLERANCE, "gamma");
    all_close(grad_of(a.image), grad_of(b.image), 10 * TOLERANCE, "image");
    stem_free(&a);
    stem_free(&b);
  }
}

/* ---- laziness ---- */
typedef struct block {
  ms_tensor *x, *r, *gamma, *beta, *spikes, *norm;
  ms_neuron_report report;
} block;

/* s = LIF(BN(x) + r); with `read`, BN(x) (or the sum) feeds the result as well. */
static block block_run(int fusion, int read) {
  block k = {.x = leaf(wave, SIZE(3, 2, 4, 2, 2)),
             .r = leaf(wave2, SIZE(3, 2, 4, 2, 2)),
             .gamma = leaf(net_gamma, SIZE(4)),
             .beta = leaf(net_beta, SIZE(4))};
  ms_tensor *b, *z, *s, *q, *sum, *weights = make(net_conv, SIZE(3, 2, 4, 2, 2));
  ms_neuron_opts o = {.p = lif()};
  ms_set_fusion(fusion);
  OK(ms_batch_norm(&b, k.x, k.gamma, k.beta, NULL, NULL, (ms_norm_opts){1e-5, 0.1, 0.7, 1, NULL}, &test_err));
  OK(ms_binary(&z, MS_BINARY_add, k.r, b, &test_err));
  assert_int_equal(z->storage == NULL, fusion);
  OK(ms_neuron_forward(&s, NULL, NULL, z, NULL, NULL, &o, &k.report, &test_err));
  OK(ms_binary(&q, MS_BINARY_mul, s, weights, &test_err));
  ms_tensor *extra = read == 1 ? b : read == 2 ? z : NULL, *t;
  if (extra) {
    OK(ms_binary(&t, MS_BINARY_mul, extra, extra, &test_err));
    OK(ms_binary(&sum, MS_BINARY_add, q, t, &test_err));
    ms_release(q);
    ms_release(t);
    q = sum;
  }
  OK(ms_reduce(&sum, MS_REDUCE_sum, q, 0, 0, &test_err));
  OK(ms_backward(sum, NULL, 0, &test_err));
  OK(ms_to(&k.spikes, s, NULL, MS_F32, &test_err));
  k.norm = copy_of(z);
  ms_set_fusion(1);
  ms_tensor *held[] = {b, z, s, q, sum, weights};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  return k;
}

static void block_free(block *k) {
  ms_tensor *held[] = {k->x, k->r, k->gamma, k->beta, k->spikes, k->norm};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

static void lazy_result_with_two_readers(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  for (int read = 0; read < 3; read++) {
    block a = block_run(1, read), b = block_run(0, read);
    assert_int_equal(a.report.fused, 2);
    assert_int_equal(b.report.fused, 0);
    same_bits(a.spikes, b.spikes);
    same_bits(a.norm, b.norm);
    all_close(grad_of(a.x), grad_of(b.x), 10 * TOLERANCE, "x");
    all_close(grad_of(a.r), grad_of(b.r), 10 * TOLERANCE, "r");
    all_close(grad_of(a.gamma), grad_of(b.gamma), 10 * TOLERANCE, "gamma");
    all_close(grad_of(a.beta), grad_of(b.beta), 10 * TOLERANCE, "beta");
    block_free(&a);
    block_free(&b);
  }
  no_leaks(before);
}

static void lazy_result_is_never_stale(void **state) {
  (void)state;
  ms_tensor *x = make(wave, SIZE(3, 2, 4)), *y, *s;
  ms_neuron_opts o = {.p = lif()};
  ms_neuron_report report;
  OK(ms_batch_norm(&y, x, NULL, NULL, NULL, NULL, (ms_norm_opts){1e-5, 0.1, 1, 1, NULL}, &test_err));
  OK(ms_fill_(y, 5, &test_err));
  OK(ms_neuron_forward(&s, NULL, NULL, y, NULL, NULL, &o, &report, &test_err));
  assert_int_equal(report.fused, 0);
  ms_release(y);
  ms_release(s);
  OK(ms_batch_norm(&y, x, NULL, NULL, NULL, NULL, (ms_norm_opts){1e-5, 0.1, 1, 1, NULL}, &test_err));
  OK(ms_fill_(x, 5, &test_err));
  FAILS(ms_materialise(y, &test_err), MS_EGRAPH, "batch_norm: its input was written in place by fill_");
  ms_release(x);
  ms_release(y);
}

/* ---- the neuron's other inputs ---- */
static ms_status triangle_call(void *ud, int nin, ms_tensor **din, int nout, ms_tensor *const *dout, ms_error *err) {
  ms_tensor *a = NULL, *b = NULL;
  (void)nin;
  (void)nout;
  ++*(int *)ud;
  ms_status st;
  if (!(st = ms_unary(&a, MS_UNARY_abs, dout[0], err)) && !(st = ms_binary_scalar(&b, MS_BINARY_sub, a, 1, 1, err)))
    st = ms_unary(&din[0], MS_UNARY_relu, b, err);
  ms_release(a);
  ms_release(b);
  return st;
}

static void surrogate_of_the_caller(void **state) {
  (void)state;
  int calls = 0;
  ms_callback cb = {triangle_call, NULL, &calls};
  ms_tensor *grad[2];
  for (int custom = 0; custom < 2; custom++) {
    ms_tensor *x = leaf(wave2, SIZE(4, 2, 5)), *s, *sum;
    ms_neuron_opts o = {.p = lif(), .surrogate = custom ? &cb : NULL};
    OK(ms_neuron_forward(&s, NULL, NULL, x, NULL, NULL, &o, NULL, &test_err));
    OK(ms_reduce(&sum, MS_REDUCE_sum, s, 0, 0, &test_err));
    OK(ms_backward(sum, NULL, 0, &test_err));
    grad[custom] = copy_of(grad_of(x));
    ms_release(x);
    ms_release(s);
    ms_release(sum);
  }
  assert_int_equal(calls, 1);
  all_close(grad[1], grad[0], TOLERANCE, "dx");
  ms_release(grad[0]);
  ms_release(grad[1]);
}

/* One call over T steps against T calls that pass the membrane on: state is explicit, and gradients flow through it. */
static void steps_can_be_taken_one_by_one(void **state) {
  (void)state;
  ms_tensor *x = leaf(wave2, SIZE(3, 2, 3, 2, 2)), *x2 = leaf(wave2, SIZE(3, 2, 3, 2, 2)), *s, *v, *sum;
  ms_tensor *v0 = leaf(wave2, SIZE(1, 3, 2, 2)), *v02 = leaf(wave2, SIZE(1, 3, 2, 2));
  ms_tensor *w = leaf(net_bias, SIZE(1)), *w2 = leaf(net_bias, SIZE(1)), *parts[3];
  ms_neuron_opts o = {.p = lif()};
  o.p.plif = o.p.plif_input = 1;
  o.p.threshold = MS_R(0.6);
  OK(ms_neuron_forward(&s, &v, NULL, x, v0, w, &o, NULL, &test_err));
  assert_int_equal(v->ndim, 4);
  ms_tensor *k = make(wave, SIZE(3, 2, 3, 2, 2)), *kv = make(wave, SIZE(2, 3, 2, 2)), *a, *b, *sa, *sb;
  OK(ms_binary(&a, MS_BINARY_mul, s, k, &test_err));
  OK(ms_binary(&b, MS_BINARY_mul, v, kv, &test_err));
  OK(ms_reduce(&sa, MS_REDUCE_sum, a, 0, 0, &test_err));
  OK(ms_reduce(&sb, MS_REDUCE_sum, b, 0, 0, &test_err));
  OK(ms_binary(&sum, MS_BINARY_add, sa, sb, &test_err));
  OK(ms_backward(sum, NULL, 0, &test_err));
  ms_tensor *held[] = {a, b, sa, sb, sum};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  ms_tensor *state_t = ms_retain(v02), *s2, *v2;
  for (int t = 0; t < 3; t++) {
    ms_tensor *xt;
    OK(ms_narrow(&xt, x2, 0, t, 1, &test_err));
    OK(ms_neuron_forward(&parts[t], &v2, NULL, xt, state_t, w2, &o, NULL, &test_err));
    ms_release(xt);
    ms_release(state_t);
    state_t = v2;
  }
  OK(ms_cat(&s2, 3, parts, 0, &test_err));
  all_close(s2, s, TOLERANCE, "s");
  all_close(state_t, v, TOLERANCE, "v");
  OK(ms_binary(&a, MS_BINARY_mul, s2, k, &test_err));
  OK(ms_binary(&b, MS_BINARY_mul, state_t, kv, &test_err));
  OK(ms_reduce(&sa, MS_REDUCE_sum, a, 0, 0, &test_err));
  OK(ms_reduce(&sb, MS_REDUCE_sum, b, 0, 0, &test_err));
  OK(ms_binary(&sum, MS_BINARY_add, sa, sb, &test_err));
  OK(ms_backward(sum, NULL, 0, &test_err));
  all_close(grad_of(x2), grad_of(x), TOLERANCE, "dx");
  all_close(grad_of(v02), grad_of(v0), TOLERANCE, "dv0");
  all_close(grad_of(w2), grad_of(w), TOLERANCE, "dw");
  ms_tensor *all[] = {a, b, sa, sb, sum, x, x2, s, v, v0, v02, w, w2, parts[0], parts[1], parts[2], k, kv, state_t, s2};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    ms_release(all[i]);
}

/* ---- finite differences ---- */
#ifdef MS_SMOOTH
static double net_value(mininet *n) {
  ms_tensor *l;
  int was = ms_set_grad_enabled(0);
  OK(net_loss(&l, n, &test_err));
  ms_set_grad_enabled(was);
  double value = item(l);
  ms_release(l);
  return value;
}

static void shift(ms_tensor *t, ms_tensor *direction, double by) {
  int was = ms_set_grad_enabled(0);
  OK(ms_axpy_(t, 1, by, direction, &test_err));
  ms_set_grad_enabled(was);
}

/* sum(k * s) + sum(v) of PLIF(BN(x) + r, v0), with p = {x, r, gamma, beta, v0, w} */
static ms_tensor *plif_block(ms_tensor **p) {
  ms_tensor *b, *z, *s, *v, *k = make(net_conv, SIZE(3, 2, 4, 2, 2)), *a, *sums[2], *sum;
  ms_neuron_opts o = {.p = lif()};
  ms_neuron_report report;
  o.p.plif = o.p.plif_input = 1;
  o.p.v_reset = 0.1;
  o.p.surrogate = MS_SURROGATE_ATAN;
  OK(ms_batch_norm(&b, p[0], p[2], p[3], NULL, NULL, (ms_norm_opts){1e-5, 0.1, 0.7, 1, NULL}, &test_err));
  OK(ms_binary(&z, MS_BINARY_add, b, p[1], &test_err));
  OK(ms_neuron_forward(&s, &v, NULL, z, p[4], p[5], &o, &report, &test_err));
  assert_int_equal(report.fused, 2);
  OK(ms_binary(&a, MS_BINARY_mul, s, k, &test_err));
  OK(ms_reduce(&sums[0], MS_REDUCE_sum, a, 0, 0, &test_err));
  OK(ms_reduce(&sums[1], MS_REDUCE_sum, v, 0, 0, &test_err));
  OK(ms_binary(&sum, MS_BINARY_add, sums[0], sums[1], &test_err));
  ms_tensor *held[] = {b, z, s, v, k, a, sums[0], sums[1]};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  return sum;
}

static double plif_value(ms_tensor **p) {
  int was = ms_set_grad_enabled(0);
  ms_tensor *l = plif_block(p);
  double value = item(l);
  ms_set_grad_enabled(was);
  ms_release(l);
  return value;
}

static void fused_gradient_is_the_slope(void **state) {
  (void)state;
  const double h = 1e-5;
  ms_tensor *p[] = {leaf(wave, SIZE(3, 2, 4, 2, 2)), leaf(wave2, SIZE(3, 2, 4, 2, 2)), leaf(net_gamma, SIZE(4)),
                    leaf(net_beta, SIZE(4)),         leaf(wave2, SIZE(1, 4, 2, 2)),    leaf(wave, SIZE(1))};
  ms_tensor *l = plif_block(p);
  OK(ms_backward(l, NULL, 0, &test_err));
  ms_release(l);
  for (int i = 0; i < 6; i++) {
    ms_tensor *d = make(wave, p[i]->ndim, p[i]->size), *a, *dot;
    OK(ms_binary(&a, MS_BINARY_mul, d, grad_of(p[i]), &test_err));
    OK(ms_reduce(&dot, MS_REDUCE_sum, a, 0, 0, &test_err));
    shift(p[i], d, h);
    double up = plif_value(p);
    shift(p[i], d, -2 * h);
    double down = plif_value(p);
    shift(p[i], d, h);
    close_to(item(dot), (up - down) / (2 * h), 1e-7, "slope", i);
    ms_release(d);
    ms_release(a);
    ms_release(dot);
  }
  for (int i = 0; i < 6; i++)
    ms_release(p[i]);
}

static void gradient_is_the_slope(void **state) {
  (void)state;
  static const struct {
    int surrogate, soft, detach;
    double alpha;
  } cases[] = {{MS_SURROGATE_TRIANGLE, 0, 0, 1}, {MS_SURROGATE_ATAN, 1, 0, 2}, {MS_SURROGATE_SIGMOID, 0, 0, 4}};
  const double h = 1e-5;
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    mininet n = net_new();
    n.neuron.p.surrogate = cases[c].surrogate;
    n.neuron.p.soft = cases[c].soft;
    n.neuron.p.alpha = cases[c].alpha;
    net_backward(&n);
    for (int i = 0; i < NET_PARAMS; i++) {
      ms_tensor *d = make(wave, n.p[i]->ndim, n.p[i]->size), *p, *dot;
      OK(ms_binary(&p, MS_BINARY_mul, d, grad_of(n.p[i]), &test_err));
      OK(ms_reduce(&dot, MS_REDUCE_sum, p, 0, 0, &test_err));
      shift(n.p[i], d, h);
      double up = net_value(&n);
      shift(n.p[i], d, -2 * h);
      double down = net_value(&n);
      shift(n.p[i], d, h);
      close_to(item(dot), (up - down) / (2 * h), 1e-7, "slope", i);
      ms_release(d);
      ms_release(p);
      ms_release(dot);
    }
    net_free(&n);
  }
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
#ifndef MS_SMOOTH
      cmocka_unit_test(golden_batch_norm),
      cmocka_unit_test(golden_net),
      cmocka_unit_test(unfused_gives_the_same),
      cmocka_unit_test(density_is_counted),
      cmocka_unit_test(pooled_spikes_stay_spikes),
#else
      cmocka_unit_test(gradient_is_the_slope),         cmocka_unit_test(fused_gradient_is_the_slope),
#endif
      cmocka_unit_test(static_input_equals_repeated),
      cmocka_unit_test(lazy_result_with_two_readers),
      cmocka_unit_test(lazy_result_is_never_stale),
      cmocka_unit_test(surrogate_of_the_caller),
      cmocka_unit_test(steps_can_be_taken_one_by_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
