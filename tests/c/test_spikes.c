/* Spikes that are computed when they are read: as bits, pooled, masked; what is shared, saved, written and counted. */
#include "nntest.h"

#include "../../host/core/spikes.h"

#ifdef MS_SMOOTH
enum { BITS = 0 };
#else
enum { BITS = 1 };
#endif

static const ms_conv_opts conv = {1, 1, 1, 1, 1, 1, 1};
static const ms_pool_opts half = {2, 2, 2, 2, 0, 0, 0, 1};

static double wave(int64_t i) {
  return 1.2 * sin(0.37 * (double)i + 0.1 * (double)(i % 7)) + 0.6;
}
static double weights(int64_t i) {
  return 0.3 * cos(1.7 * (double)i + 0.3);
}
static double one(int64_t i) {
  return 1 + 0 * (double)i;
}
static double slope(int64_t i) {
  return 0.01 * (double)(i % 13) - 0.05;
}

static ms_neuron_opts lif(void) {
  return (ms_neuron_opts){
      .p = {.leak = MS_R(0.5), .gain = 1, .threshold = 1, .alpha = 1, .surrogate = MS_SURROGATE_TRIANGLE}};
}

/* 3 steps of 2 images, c x 4 x 4. */
static ms_tensor *input(int64_t c) {
  return leaf(wave, SIZE(3, 2, c, 4, 4));
}

static ms_tensor *fired(ms_tensor *x, ms_tensor **v, ms_tensor **counts) {
  ms_neuron_opts o = lif();
  ms_tensor *s;
  OK(ms_neuron_forward(&s, v, counts, x, NULL, NULL, &o, NULL, &test_err));
  return s;
}

static void release(ms_tensor **t, size_t n) {
  for (size_t i = 0; i < n; i++)
    ms_release(t[i]);
}

#define RELEASE(...) release((ms_tensor *[]){__VA_ARGS__}, sizeof((ms_tensor *[]){__VA_ARGS__}) / sizeof(ms_tensor *))

/* sum(y * slope), so that every gradient has its own value; backward. */
static void descend(ms_tensor *y) {
  ms_tensor *k = make(slope, y->ndim, y->size), *p, *l;
  OK(ms_binary(&p, MS_BINARY_mul, y, k, &test_err));
  OK(ms_reduce(&l, MS_REDUCE_sum, p, 0, 0, &test_err));
  OK(ms_backward(l, NULL, 0, &test_err));
  RELEASE(k, p, l);
}

/* ---- one neuron and who reads it ---- */
static void test_bits_until_somebody_needs_bytes(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  for (int64_t c = 8; c >= 7; c--) {
    ms_tensor *x = input(c), *w = leaf(weights, SIZE(3, c, 3, 3)), *y, *z, *s = fired(x, NULL, NULL), *bytes, *eager;
    assert_null(s->storage);
    OK(ms_conv2d(&y, s, w, NULL, conv, &test_err));
    if (BITS) {
      assert_int_equal(s->storage == NULL, c == 8);
      assert_true(s->density > 0.05 && s->density < 0.95);
    }
    int was = ms_set_packing(0), fusion = ms_set_fusion(0);
    eager = fired(x, NULL, NULL);
    OK(ms_materialise(eager, &test_err));
    ms_set_packing(was);
    ms_set_fusion(fusion);
    OK(ms_conv2d(&z, eager, w, NULL, conv, &test_err));
    all_close(y, z, TOLERANCE, "convolution of bits");
    bytes = copy_of(s);
    assert_non_null(s->storage);
    same_bits(bytes, eager);
    same_bits(s, eager);
    RELEASE(x, w, y, z, s, bytes, eager);
  }
  no_leaks(before);
}

static void test_views_and_sums_read_bytes(void **state) {
  (void)state;
  ms_tensor *x = input(8), *s = fired(x, NULL, NULL), *d, *row, *sum, *flat, *whole = copy_of(s), *other;
  other = fired(x, NULL, NULL);
  OK(ms_detach(&d, other, &test_err));
  assert_null(d->storage);
  assert_false(d->requires_grad);
  same_bits(d, whole);
  OK(ms_select(&row, other, 0, 1, &test_err));
  ms_tensor *expected;
  OK(ms_select(&expected, whole, 0, 1, &test_err));
  same_bits(row, expected);
  assert_ptr_equal(row->storage, other->storage);
  OK(ms_binary(&sum, MS_BINARY_add, s, other, &test_err));
  if (BITS) {
    assert_int_equal(sum->dtype, MS_SPIKE);
    assert_int_equal(sum->peak, 2);
    OK(ms_flatten(&flat, s, 2, 4, &test_err));
    assert_true(flat->density == s->density && s->density > 0);
    ms_release(flat);
  }
  RELEASE(x, s, d, row, sum, whole, other, expected);
}

static void test_membranes_and_counts_come_when_asked(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  ms_tensor *x = input(8), *v, *counts, *s = fired(x, &v, &counts), *v2, *counts2, *s2 = fired(x, &v2, &counts2);
  ms_tensor *total;
  assert_null(v->storage);
  assert_null(counts->storage);
  ms_release(copy_of(s));
  same_bits(v, v2);
  OK(ms_reduce(&total, MS_REDUCE_sum, counts2, 0, 0, &test_err));
  ms_real *spikes = values_of(s2);
  double n = 0;
  for (int64_t i = 0; i < ms_numel(s2); i++)
    n += spikes[i] > MS_R(0.5);
  assert_true(item(total) == n);
  free(spikes);
  int64_t at[2][24];
  OK(ms_read(counts, at[0], &test_err));
  OK(ms_read(counts2, at[1], &test_err));
  assert_memory_equal(at[0], at[1], sizeof at[0]);
  RELEASE(x, v, counts, s, v2, counts2, s2, total);
  no_leaks(before);
}

/* ---- writes in between ---- */
static void test_a_write_to_the_input_computes_first(void **state) {
  (void)state;
  ms_tensor *x = input(8), *v, *s = fired(x, &v, NULL), *v2, *s2 = fired(x, &v2, NULL);
  ms_tensor *expected = copy_of(s), *last = copy_of(v);
  int was = ms_set_grad_enabled(0);
  OK(ms_fill_(x, 0, &test_err));
  ms_set_grad_enabled(was);
  same_bits(s2, expected);
  same_bits(v2, last);
  RELEASE(x, v, s, v2, s2, expected, last);
}

static void test_a_write_behind_our_back_is_an_error(void **state) {
  (void)state;
  ms_tensor *x = input(8), *s = fired(x, NULL, NULL);
  x->storage->version++;
  x->storage->writer = "step";
  FAILS(ms_materialise(s, &test_err), MS_EGRAPH,
        "neuron: its input was written in place by step before the spikes were read");
  RELEASE(x, s);
}

static void test_saved_bits_know_of_writes(void **state) {
  (void)state;
  if (!BITS)
    return;
  ms_tensor *x = input(8), *w = leaf(weights, SIZE(3, 8, 3, 3)), *s = fired(x, NULL, NULL), *y, *sum, *fives;
  OK(ms_conv2d(&y, s, w, NULL, conv, &test_err));
  OK(ms_reduce(&sum, MS_REDUCE_sum, y, 0, 0, &test_err));
  int was = ms_set_grad_enabled(0);
  OK(ms_fill_(s, 1, &test_err));
  fives = copy_of(s);
  ms_set_grad_enabled(was);
  ms_real *ones = values_of(fives);
  assert_true(ones[0] == 1 && ones[100] == 1);
  free(ones);
  FAILS(ms_backward(sum, NULL, 0, &test_err), MS_EGRAPH, "a tensor saved by 'conv2d' was changed by 'fill_'");
  RELEASE(x, w, s, y, sum, fives);
}

/* ---- pooling in the neuron's row ---- */
static void test_pooling_takes_the_neuron_along(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  for (int both = 0; both < 2; both++) {
    ms_tensor *x = input(8), *s = fired(x, NULL, NULL), *p, *q, *x2 = input(8), *s2, *p2, *y, *y2;
    const char *why;
    OK(ms_avg_pool2d_report(&p, s, half, &why, &test_err));
    assert_string_equal(why, "");
    assert_ptr_equal(p->node, s->node);
    assert_null(s->storage);
    OK(ms_avg_pool2d_report(&q, s, half, &why, &test_err));
    assert_string_equal(why, "the spikes were read before");
    same_bits(p, q);
    int fusion = ms_set_fusion(0);
    s2 = fired(x2, NULL, NULL);
    OK(ms_avg_pool2d_report(&p2, s2, half, &why, &test_err));
    ms_set_fusion(fusion);
    assert_string_equal(why, "fusion is switched off");
    same_bits(p, p2);
    same_bits(s, s2);
    assert_true(p->density == p2->density && (!BITS || p->density > 0));
    assert_int_equal(p->peak, p2->peak);
    ms_tensor *a, *b;
    OK(ms_reduce(&a, MS_REDUCE_sum, both ? s : p, 1u << 0, 0, &test_err));
    OK(ms_reduce(&b, MS_REDUCE_sum, both ? s2 : p2, 1u << 0, 0, &test_err));
    ms_tensor *m, *m2, *k = make(slope, a->ndim, a->size);
    OK(ms_binary(&m, MS_BINARY_mul, a, k, &test_err));
    OK(ms_binary(&m2, MS_BINARY_mul, b, k, &test_err));
    OK(ms_reduce(&y, MS_REDUCE_sum, m, 0, 0, &test_err));
    OK(ms_reduce(&y2, MS_REDUCE_sum, m2, 0, 0, &test_err));
    if (both) { /* pooled and whole spikes meet in one loss */
      ms_tensor *t, *t2, *u, *u2;
      OK(ms_reduce(&t, MS_REDUCE_max, p, 0, 0, &test_err));
      OK(ms_reduce(&t2, MS_REDUCE_max, p2, 0, 0, &test_err));
      OK(ms_binary(&u, MS_BINARY_add, y, t, &test_err));
      OK(ms_binary(&u2, MS_BINARY_add, y2, t2, &test_err));
      RELEASE(y, y2, t, t2);
      y = u;
      y2 = u2;
    }
    OK(ms_backward(y, NULL, 0, &test_err));
    OK(ms_backward(y2, NULL, 0, &test_err));
    all_close(grad_of(x), grad_of(x2), TOLERANCE, "gradient through the pooling");
    RELEASE(x, s, p, q, x2, s2, p2, y, y2, a, b, m, m2, k);
  }
  no_leaks(before);
}

static void test_gradients_of_spikes_and_of_pooled_spikes(void **state) {
  (void)state;
  ms_tensor *x = input(8), *s = fired(x, NULL, NULL), *p, *k, *m, *y, *found[2];
  OK(ms_avg_pool2d(&p, s, half, &test_err));
  k = make(slope, p->ndim, p->size);
  OK(ms_binary(&m, MS_BINARY_mul, p, k, &test_err));
  OK(ms_reduce(&y, MS_REDUCE_sum, m, 0, 0, &test_err));
  OK(ms_grad_of(found, y, NULL, 2, (ms_tensor *[]){s, p}, 0, &test_err));
  assert_non_null(found[0]);
  same_bits(found[1], k);
  ms_tensor *back;
  OK(ms_avg_pool2d(&back, found[0], half, &test_err)); /* each of a window has a quarter */
  ms_tensor *quarter;
  OK(ms_binary_scalar(&quarter, MS_BINARY_mul, k, 0.25, 0, &test_err));
  all_close(back, quarter, TOLERANCE, "gradient of the spikes");
  RELEASE(x, s, p, k, m, y, found[0], found[1], back, quarter);
}

static void test_why_a_pooling_stands_alone(void **state) {
  (void)state;
  const char *why;
  ms_tensor *x = input(8), *s = fired(x, NULL, NULL), *p;
  OK(ms_avg_pool2d_report(&p, s, (ms_pool_opts){2, 2, 1, 1, 0, 0, 0, 1}, &why, &test_err));
  assert_string_equal(why, "only windows of 2x2, stride 2, no padding fit the neuron's row");
  ms_release(p);
  OK(ms_avg_pool2d_report(&p, x, half, &why, &test_err));
  if (BITS)
    assert_string_equal(why, "the input is not a neuron's spikes");
  RELEASE(p, s, x);
  x = leaf(wave, SIZE(3, 2, 8, 5, 4));
  s = fired(x, NULL, NULL);
  OK(ms_avg_pool2d_report(&p, s, half, &why, &test_err));
  assert_string_equal(why, "the image has an odd side");
  RELEASE(p, s, x);
}

static void test_maxima_of_bits(void **state) {
  (void)state;
  ms_tensor *x = input(8), *s = fired(x, NULL, NULL), *bytes = copy_of(s), *p, *q, *s2 = fired(x, NULL, NULL);
  OK(ms_max_pool2d(&p, s2, half, &test_err));
  OK(ms_max_pool2d(&q, bytes, half, &test_err));
  same_bits(p, q);
  if (BITS)
    assert_true(p->density == q->density && p->density > 0 && !s2->storage);
  RELEASE(x, s, bytes, p, q, s2);
}

/* ---- the mask ---- */
static ms_backend spy;
static const ms_backend *real_table;
static int masked;

/* Writes nonsense wherever the mask allows it. */
static ms_status spy_input_grad(ms_stream *s, const ms_conv_args *a) {
  ms_status st = real_table->conv_input_grad(s, &(ms_conv_args){.plan = a->plan,
                                                                .x = a->x,
                                                                .weight = a->weight,
                                                                .y = a->y,
                                                                .bias = a->bias,
                                                                .density = a->density,
                                                                .mask_density = -1,
                                                                .workspace = a->workspace});
  ms_real *dx = a->x.p;
  masked += a->mask != NULL;
  for (int64_t i = 0; a->mask && i < (int64_t)3 * 2 * 8 * 4 * 4; i++)
    if (!(a->mask[i / 8] >> i % 8 & 1))
      dx[i] = MS_R(1e3);
  return st;
}

static int spy_table(const ms_break_even **table) {
  static const ms_break_even row = {.precision = MS_F32, .input_grad = 1};
  *table = &row;
  return 1;
}

/* A second device on the same memory, watched. */
static void watch(int on) {
  static ms_device watched;
  if (on) {
    watched = *ms_device_cpu();
    real_table = watched.k;
    spy = *real_table;
    spy.conv_input_grad = spy_input_grad;
    spy.conv_table = spy_table;
    watched.k = &spy;
    masked = 0;
  }
  ms_device_set_current(on ? &watched : ms_device_cpu());
}

static void test_masked_gradients_are_the_same(void **state) {
  (void)state;
  ms_tensor *g[2], *gw[2];
  for (int mask = 0; mask < 2; mask++) {
    watch(mask);
    ms_tensor *x = input(8), *w = leaf(weights, SIZE(3, 8, 3, 3)), *s, *y, *z, *sum;
    s = fired(x, NULL, NULL);
    OK(ms_conv2d(&y, s, w, NULL, conv, &test_err));
    OK(ms_conv2d(&z, s, w, NULL, conv, &test_err)); /* two readers */
    OK(ms_binary(&sum, MS_BINARY_add, y, z, &test_err));
    descend(sum);
    watch(0);
    g[mask] = copy_of(grad_of(x));
    gw[mask] = copy_of(grad_of(w));
    RELEASE(x, w, s, y, z, sum);
  }
  assert_int_equal(masked, BITS ? 2 : 0);
  all_close(g[1], g[0], TOLERANCE, "dx");
  all_close(gw[1], gw[0], TOLERANCE, "dw");
  RELEASE(g[0], g[1], gw[0], gw[1]);
}

static void test_who_looks_sees_all_of_a_gradient(void **state) {
  (void)state;
  ms_tensor *g[2];
  for (int mask = 0; mask < 2; mask++) {
    watch(mask);
    ms_tensor *x = input(8), *w = leaf(weights, SIZE(3, 8, 3, 3)), *s, *y, *sum;
    s = fired(x, NULL, NULL);
    OK(ms_conv2d(&y, s, w, NULL, conv, &test_err));
    OK(ms_reduce(&sum, MS_REDUCE_sum, y, 0, 0, &test_err));
    OK(ms_grad_of(&g[mask], sum, NULL, 1, &s, 1, &test_err));
    if (mask)
      assert_int_equal(masked, 0);
    OK(ms_backward(sum, NULL, 0, &test_err));
    if (mask)
      assert_int_equal(masked, BITS);
    watch(0);
    RELEASE(x, w, s, y, sum);
  }
  same_bits(g[0], g[1]);
  RELEASE(g[0], g[1]);
}

/* ---- a residual network ---- */
typedef struct net {
  ms_tensor *x, *w[3], *gamma[3], *mean[3], *var[3], *fc;
} net;

static net net_new(void) {
  net n = {.x = make(wave, SIZE(3, 2, 8, 4, 4)), .fc = leaf(weights, SIZE(4, 32))};
  for (int i = 0; i < 3; i++) {
    n.w[i] = leaf(weights, SIZE(8, 8, 3, 3));
    n.gamma[i] = leaf(one, SIZE(8));
    n.mean[i] = make(slope, SIZE(8));
    n.var[i] = make(one, SIZE(8));
  }
  return n;
}

static void net_free(net *n) {
  for (int i = 0; i < 3; i++)
    RELEASE(n->w[i], n->gamma[i], n->mean[i], n->var[i]);
  RELEASE(n->x, n->fc);
}

static ms_tensor *normalised(net *n, int i, ms_tensor *x) {
  ms_tensor *y, *b;
  OK(ms_conv2d(&y, x, n->w[i], NULL, conv, &test_err));
  OK(ms_batch_norm(&b, y, n->gamma[i], NULL, n->mean[i], n->var[i], (ms_norm_opts){1e-5, 0.1, 1, 1, NULL}, &test_err));
  ms_release(y);
  return b;
}

/* conv-bn-lif, conv-bn-lif, conv-bn + residual of spikes - lif, pooling, linear. */
static void net_step(net *n) {
  ms_tensor *a = normalised(n, 0, n->x), *s = fired(a, NULL, NULL), *b = normalised(n, 1, s),
            *s2 = fired(b, NULL, NULL);
  ms_tensor *c = normalised(n, 2, s2), *sum, *s3, *p, *f, *y;
  OK(ms_binary(&sum, MS_BINARY_add, c, s, &test_err));
  assert_null(sum->storage);
  s3 = fired(sum, NULL, NULL);
  OK(ms_avg_pool2d(&p, s3, half, &test_err));
  OK(ms_flatten(&f, p, 2, 4, &test_err));
  OK(ms_linear(&y, f, n->fc, NULL, &test_err));
  if (BITS && ms_set_packing(1))
    assert_true(!s->storage && !s2->storage);
  descend(y);
  RELEASE(a, s, b, s2, c, sum, s3, p, f, y);
}

static void test_a_network_of_bits_equals_one_of_bytes(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  net bits = net_new(), bytes = net_new();
  net_step(&bits);
  int was = ms_set_packing(0);
  ms_tensor *a = normalised(&bytes, 0, bytes.x), *s = fired(a, NULL, NULL), *b = normalised(&bytes, 1, s);
  ms_tensor *s2 = fired(b, NULL, NULL), *c = normalised(&bytes, 2, s2), *sum, *s3, *p, *f, *y;
  OK(ms_materialise(s, &test_err));
  OK(ms_binary(&sum, MS_BINARY_add, c, s, &test_err));
  s3 = fired(sum, NULL, NULL);
  OK(ms_materialise(s3, &test_err));
  OK(ms_avg_pool2d(&p, s3, half, &test_err));
  OK(ms_flatten(&f, p, 2, 4, &test_err));
  OK(ms_linear(&y, f, bytes.fc, NULL, &test_err));
  descend(y);
  ms_set_packing(was);
  for (int i = 0; i < 3; i++) {
    all_close(grad_of(bits.w[i]), grad_of(bytes.w[i]), 20 * TOLERANCE, "dw");
    all_close(grad_of(bits.gamma[i]), grad_of(bytes.gamma[i]), 20 * TOLERANCE, "dgamma");
  }
  all_close(grad_of(bits.fc), grad_of(bytes.fc), TOLERANCE, "dfc");
  RELEASE(a, s, b, s2, c, sum, s3, p, f, y);
  net_free(&bits);
  net_free(&bytes);
  no_leaks(before);
}

static void test_a_later_step_asks_the_system_for_nothing(void **state) {
  (void)state;
#ifndef __SANITIZE_ADDRESS__
  ms_device *d = ms_device_cpu();
  ms_memory_info was, now;
  net n = net_new();
  net_step(&n);
  net_step(&n);
  int64_t blocks = ms_fresh_blocks();
  OK(d->k->memory(d->stream, &was));
  for (int i = 0; i < 3; i++)
    net_step(&n);
  OK(d->k->memory(d->stream, &now));
  assert_int_equal(now.reserved, was.reserved);
  assert_int_equal(ms_fresh_blocks(), blocks);
  net_free(&n);
#endif
}

/* ---- edges ---- */
static void test_nothing_to_fire(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  ms_tensor *x = make(wave, SIZE(3, 0, 8, 4, 4)), *counts, *v, *s = fired(x, &v, &counts), *p;
  OK(ms_avg_pool2d(&p, s, half, &test_err));
  OK(ms_materialise(s, &test_err));
  OK(ms_materialise(v, &test_err));
  int64_t at[24];
  OK(ms_read(counts, at, &test_err));
  for (int i = 0; i < 24; i++)
    assert_int_equal(at[i], 0);
  RELEASE(x, s, v, counts, p);
  no_leaks(before);
}

static void test_a_failed_allocation_leaves_nothing(void **state) {
  (void)state;
  net n = net_new();
  ms_tensor *a = normalised(&n, 0, n.x), *s, *p = NULL;
  ms_live before = ms_live_counts();
  ms_neuron_opts o = lif();
  ms_status st = MS_EMEM;
  for (int64_t i = 0; st; i++) {
    ms_fail_allocation(i);
    s = NULL;
    st = ms_neuron_forward(&s, NULL, NULL, a, NULL, NULL, &o, NULL, &test_err);
    if (!st)
      st = ms_avg_pool2d(&p, s, half, &test_err);
    if (!st)
      st = ms_materialise(s, &test_err);
    ms_fail_allocation(-1);
    if (st)
      assert_int_equal(st, MS_EMEM);
    RELEASE(s, p);
    p = NULL;
    no_leaks(before);
  }
  ms_release(a);
  net_free(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_bits_until_somebody_needs_bytes),
      cmocka_unit_test(test_views_and_sums_read_bytes),
      cmocka_unit_test(test_membranes_and_counts_come_when_asked),
      cmocka_unit_test(test_a_write_to_the_input_computes_first),
      cmocka_unit_test(test_a_write_behind_our_back_is_an_error),
      cmocka_unit_test(test_saved_bits_know_of_writes),
      cmocka_unit_test(test_pooling_takes_the_neuron_along),
      cmocka_unit_test(test_gradients_of_spikes_and_of_pooled_spikes),
      cmocka_unit_test(test_why_a_pooling_stands_alone),
      cmocka_unit_test(test_maxima_of_bits),
      cmocka_unit_test(test_masked_gradients_are_the_same),
      cmocka_unit_test(test_who_looks_sees_all_of_a_gradient),
      cmocka_unit_test(test_a_network_of_bits_equals_one_of_bytes),
      cmocka_unit_test(test_a_later_step_asks_the_system_for_nothing),
      cmocka_unit_test(test_nothing_to_fire),
      cmocka_unit_test(test_a_failed_allocation_leaves_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
