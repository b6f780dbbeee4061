/* Neuron rows: spikes as bits, the surrogate's mask, totals, pooled spikes, bfloat16 operands; each against the plain
** form of the same row. */
#include "rows.h"

typedef struct shape {
  int64_t steps, images, h, w, c;
} shape;

static const shape shapes[] = {{3, 2, 4, 6, 8},   {2, 1, 2, 2, 24}, {4, 3, 4, 4, 64},  {2, 2, 6, 10, 128},
                               {2, 1, 2, 4, 600}, {1, 5, 8, 2, 16}, {300, 1, 2, 2, 8}, {4, 6, 32, 32, 40}};

static int64_t neurons(shape z) {
  return z.images * z.h * z.w * z.c;
}

static ms_neuron_args layer(shape z, int surrogate, int norm, int residual) {
  int64_t n = neurons(z), total = z.steps * n;
  ms_neuron p = {.leak = MS_R(.6), .gain = MS_R(.9), .threshold = MS_R(.7), .alpha = MS_R(1.5), .surrogate = surrogate};
  ms_neuron_args f = {.p = p, .steps = z.steps, .n = n, .c = z.c, .y = f32(random_reals(total, -2, 2.5)), .y_step = n};
  if (norm)
    f.norm = (ms_affine){random_reals(z.c, .5, 1.5), random_reals(z.c, -.2, .2)};
  if (residual) {
    f.r = f32(random_reals(total, -.5, .5));
    f.r_step = n;
  }
  return f;
}

/* The plain form of spikes: bytes, or reals in the smooth build. */
static ms_data plain(int64_t n) {
#ifdef MS_SMOOTH
  return f32(reals(n));
#else
  return data(bytes(n), MS_SPIKE);
#endif
}

static size_t plain_bytes(int64_t n) {
#ifdef MS_SMOOTH
  return (size_t)n * sizeof(ms_real);
#else
  return (size_t)n;
#endif
}

static int bit(const uint8_t *bits, int64_t i) {
  return bits[i / 8] >> i % 8 & 1;
}

/* Every choice of outputs gives what the plain row and the pooling row give, for any number of threads. */
enum { S = 1, PACKED = 2, ACTIVE = 4, COUNTS = 8, POOLED = 16, H = 32, V = 64, CHOICES = 128 };

static void check_outputs(shape z, int on, int threads) {
  int64_t n = neurons(z), total = z.steps * n, ones = 0, some = 0;
  ms_neuron_args f = layer(z, on % MS_SURROGATE_COUNT, on % 3 == 0, on % 5 == 0), g;
  f.s = plain(total);
  f.h = reals(total);
  f.v = reals(n);
  f.counts = bytes(z.steps * z.c * 8);
  assert_int_equal(ms_cpu_neuron(NULL, &f), MS_OK);
  g = f;
  int64_t totals[2] = {-1, -1};
  g.totals = totals;
  g.s = on & S ? plain(total) : (ms_data){0};
#ifndef MS_SMOOTH
  if (on & S && on & PACKED)
    g.s = data(bytes(MS_BITS_BYTES(total)), MS_BITS);
#endif
  g.active = on & ACTIVE ? bytes(MS_BITS_BYTES(total)) : NULL;
  g.counts = on & COUNTS ? bytes(z.steps * z.c * 8) : NULL;
  g.pooled = on & POOLED ? plain(total / 4) : (ms_data){0};
  g.pool_h = on & POOLED ? z.h : 0;
  g.pool_w = on & POOLED ? z.w : 0;
  g.h = on & H ? reals(total) : NULL;
  g.v = on & V ? reals(n) : NULL;
  ms_cpu_set_threads(threads);
  assert_int_equal(ms_cpu_neuron(NULL, &g), MS_OK);
  if (g.s.dtype == MS_BITS)
    for (int64_t i = 0; i < total; i++)
      assert_int_equal(bit(g.s.p, i), ((uint8_t *)f.s.p)[i]);
  else if (g.s.p)
    assert_memory_equal(g.s.p, f.s.p, plain_bytes(total));
  for (int64_t i = 0; g.active && i < total; i++) {
    int want = ms_surrogate_grad(f.p.surrogate, f.h[i] - f.p.threshold, f.p.alpha) != 0;
    assert_int_equal(bit(g.active, i), want);
    ones += want;
  }
  if (g.counts)
    assert_memory_equal(g.counts, f.counts, (size_t)(z.steps * z.c * 8));
  if (g.h)
    assert_memory_equal(g.h, f.h, (size_t)total * sizeof(ms_real));
  if (g.v)
    assert_memory_equal(g.v, f.v, (size_t)n * sizeof(ms_real));
  if (g.pooled.p) {
    ms_pool_desc d = {z.steps * z.images, z.h, z.w, z.c, z.h / 2, z.w / 2, 2, 2, 2, 2, 0, 0, 1, 0};
    ms_data want = plain(total / 4);
    assert_int_equal(ms_cpu_avg_pool(NULL, &d, f.s, want), MS_OK);
    for (int64_t i = 0; i < total / 4; i++) {
      CLOSE(value_of(g.pooled, i), value_of(want, i));
      some += value_of(want, i) != 0;
    }
  }
  assert_int_equal(totals[0], ones);
  assert_int_equal(totals[1], some);
}

static void test_outputs(void **state) {
  const int threads[] = {1, 2, 5};
  for (int i = 0; i < COUNT(shapes) - 1; i++)
    for (int on = 0; on < CHOICES; on++) {
      check_outputs(shapes[i], on, threads[(on + i) % 3]);
      release(state);
    }
  for (int i = 0; i < 6; i++) {
    check_outputs(shapes[COUNT(shapes) - 1], i % 2 ? CHOICES - 1 : POOLED | ACTIVE | COUNTS, threads[i / 2]);
    release(state);
  }
}

/* The mask where derivatives are far from and near to zero, at values that are no numbers, and for widths whose square
** leaves the range of reals; whatever the vectors. */
static void test_active(void **state) {
  const double range[] = {1, 30, 90, 1e3, 1e30, 3}, width[] = {1.5, .3, 1e-3, 40, 1e-25, 1e25};
  for (int i = 0; i < MS_SURROGATE_COUNT * COUNT(range) * COUNT(width) * 2; i++) {
    int kind = i % MS_SURROGATE_COUNT, k = i / MS_SURROGATE_COUNT % COUNT(range);
    int64_t n = i % 3 ? 1024 : 1048;
    shape z = {1, 1, 1, 1, n};
    ms_neuron_args f = layer(z, kind, 0, 0);
    f.p.alpha = MS_R(width[i / (MS_SURROGATE_COUNT * COUNT(range)) % COUNT(width)]);
    ms_real *y = random_reals(n, -range[k], range[k]);
    y[5] = k == 5 ? MS_R(NAN) : 0;
    y[600] = k == 5 ? MS_R(INFINITY) : f.p.threshold;
    for (int64_t j = 0; j < 200; j++) /* h at and beside the ends of where it is not zero */
      y[700 + j] = (f.p.threshold + (j % 2 ? -1 : 1) * f.p.alpha * (1 + MS_R(j - 100) * MS_R(6e-8))) / f.p.gain;
    f.y = f32(y);
    f.h = reals(n);
    f.active = bytes(MS_BITS_BYTES(n));
    assert_int_equal(ms_cpu_isa_force(i % 2 ? "base" : NULL), MS_OK);
    assert_int_equal(ms_cpu_neuron(NULL, &f), MS_OK);
    for (int64_t j = 0; j < n; j++)
      assert_int_equal(bit(f.active, j), ms_surrogate_grad(kind, f.h[j] - f.p.threshold, f.p.alpha) != 0);
    release(state);
  }
  ms_cpu_isa_force(NULL);
}

#ifndef MS_SMOOTH
/* Packed spikes and their counts are those of bytes, also at the threshold and for what is no number. */
static void test_packed(void **state) {
  for (int i = 0; i < 16; i++) {
    shape z = {3, 2, 3, 1, i % 4 < 2 ? 24 : 200};
    int64_t n = neurons(z), total = z.steps * n;
    ms_neuron_args f = layer(z, 0, i % 4 == 1, 0), g;
    f.p.ge = i / 4 % 2;
    f.p.soft = i / 2 % 2;
    f.p.threshold = i % 3 ? MS_R(.75) : 0;
    f.p.gain = 1;
    ms_real *y = f.y.p;
    for (int64_t j = 0; j < total; j += 3)
      y[j] = j % 2 ? f.p.threshold : j % 5 ? MS_R(NAN) : MS_R(-INFINITY);
    f.s = plain(total);
    f.counts = bytes(z.steps * z.c * 8);
    assert_int_equal(ms_cpu_neuron(NULL, &f), MS_OK);
    g = f;
    g.s = data(bytes(MS_BITS_BYTES(total)), MS_BITS);
    g.counts = bytes(z.steps * z.c * 8);
    assert_int_equal(ms_cpu_isa_force(i / 8 ? "base" : NULL), MS_OK);
    assert_int_equal(ms_cpu_neuron(NULL, &g), MS_OK);
    for (int64_t j = 0; j < total; j++)
      assert_int_equal(bit(g.s.p, j), ((uint8_t *)f.s.p)[j]);
    assert_memory_equal(g.counts, f.counts, (size_t)(z.steps * z.c * 8));
    release(state);
  }
  ms_cpu_isa_force(NULL);
}
#else
static void test_packed(void **state) {
  (void)state;
}
#endif

/* Bytes need no multiple of 8 channels, pooled ones neither. */
static void test_odd_channels(void **state) {
  const int64_t c[] = {1, 3, 7, 33, 515};
  for (int i = 0; i < COUNT(c); i++) {
    shape z = {3, 3, 4, 6, c[i]};
    check_outputs(z, S | COUNTS | POOLED, 2);
    check_outputs(z, COUNTS | POOLED | H, 1);
    release(state);
  }
}

/* ---- backward ---- */

typedef struct grads {
  ms_neuron_grad_args g;
  ms_norm n;
} grads;

static grads grads_of(ms_neuron_args f, int norm, int training) {
  int64_t total = f.steps * f.n, c = f.c;
  grads k = {.g = {.gs = f32(random_reals(total, -1, 1)),
                   .gs_step = f.n,
                   .dy = f32(reals(total)),
                   .dr = f.r.p ? f32(reals(total)) : (ms_data){0},
                   .dv0 = reals(f.n)}};
  if (norm) {
    k.n = (ms_norm){.rows = total / c,
                    .c = c,
                    .repeat = 1,
                    .x = f.y,
                    .gain = MS_R(.9),
                    .eps = MS_R(1e-5),
                    .training = 1,
                    .mean = reals(c),
                    .invstd = reals(c),
                    .a = reals(c),
                    .b = reals(c)};
    assert_int_equal(ms_cpu_norm_stats(NULL, &k.n), MS_OK);
    f.norm = (ms_affine){k.n.a, k.n.b};
    k.g.mean = k.n.mean;
    k.g.invstd = k.n.invstd;
    k.g.norm_gain = k.n.gain;
    k.g.norm_training = training;
    k.g.dgamma = reals(c);
    k.g.dbeta = reals(c);
  }
  k.g.fwd = f;
  return k;
}

static void same(const ms_neuron_grad_args *a, const ms_neuron_grad_args *b) {
  size_t total = (size_t)(a->fwd.steps * a->fwd.n) * sizeof(ms_real), c = (size_t)a->fwd.c * sizeof(ms_real);
  assert_memory_equal(a->dy.p, b->dy.p, total);
  assert_memory_equal(a->dv0, b->dv0, (size_t)a->fwd.n * sizeof(ms_real));
  if (a->dr.p)
    assert_memory_equal(a->dr.p, b->dr.p, total);
  if (a->dgamma) {
    assert_memory_equal(a->dgamma, b->dgamma, c);
    assert_memory_equal(a->dbeta, b->dbeta, c);
  }
}

static ms_neuron_grad_args outputs_anew(ms_neuron_grad_args g) {
  int64_t total = g.fwd.steps * g.fwd.n;
  g.dy.p = reals(total);
  g.dv0 = reals(g.fwd.n);
  g.dr.p = g.dr.p ? reals(total) : NULL;
  g.dgamma = g.dgamma ? reals(g.fwd.c) : NULL;
  g.dbeta = g.dbeta ? reals(g.fwd.c) : NULL;
  return g;
}

/* A gradient behind the pooling gives the bits of the pooling's gradient given to the plain row. */
static void test_pooled_grad(void **state) {
  const int64_t c[] = {1, 3, 8, 64, 600};
  for (int i = 0; i < COUNT(c) * 6; i++) {
    shape z = {3, 2, 4, 6, c[i / 6]};
    int64_t total = z.steps * neurons(z);
    grads k = grads_of(layer(z, i % MS_SURROGATE_COUNT, 0, i % 2), i % 3 > 0, i % 3 > 1);
    ms_real *gp = random_reals(total / 4, -1, 1);
    ms_pool_desc d = {z.steps * z.images, z.h, z.w, z.c, z.h / 2, z.w / 2, 2, 2, 2, 2, 0, 0, 1, 0};
    for (int half = 0; half < 2; half++) {
      ms_data small = as_type(gp, total / 4, half ? MS_BF16 : MS_F32, 1);
      assert_int_equal(ms_cpu_avg_pool_grad(NULL, &d, small, k.g.gs), MS_OK);
      assert_int_equal(ms_cpu_neuron_grad(NULL, &k.g), MS_OK);
      for (int threads = 1; threads <= 5; threads += 2) {
        ms_neuron_grad_args g = outputs_anew(k.g);
        g.gs = small;
        g.gs_step = k.g.fwd.n / 4;
        g.fwd.pool_h = z.h;
        g.fwd.pool_w = z.w;
        ms_cpu_set_threads(threads);
        assert_int_equal(ms_cpu_neuron_grad(NULL, &g), MS_OK);
        same(&k.g, &g);
      }
    }
    release(state);
  }
}

/* bfloat16 results are the real ones rounded once; a residual of bits is one of bytes or of reals. */
static void test_types(void **state) {
  for (int i = 0; i < 12; i++) {
    shape z = {2, 2, 4, 6, i < 6 ? 8 : 72};
    int64_t n = neurons(z), total = z.steps * n;
    ms_neuron_args f = layer(z, 0, 0, 1);
    ms_real *ones = reals(total);
    uint8_t *packed = bytes(MS_BITS_BYTES(total));
    for (int64_t j = 0; j < total; j++) {
      ones[j] = uniform(0, 1) < .3 ? MS_R(.5) : 0;
      packed[j / 8] |= (uint8_t)((ones[j] > 0) << j % 8);
    }
    f.r = f32(ones);
    f.y = as_type(f.y.p, total, i % 2 ? MS_BF16 : MS_F32, 1);
    grads k = grads_of(f, i % 3 > 0, i % 3 > 1);
    assert_int_equal(ms_cpu_neuron_grad(NULL, &k.g), MS_OK);
    for (int way = 0; way < 2; way++) {
      ms_neuron_grad_args g = outputs_anew(k.g);
      g.fwd.r = way ? (ms_data){packed, MS_BITS, MS_R(.5)} : as_type(ones, total, MS_SPIKE, MS_R(.5));
      assert_int_equal(ms_cpu_neuron_grad(NULL, &g), MS_OK);
      same(&k.g, &g);
    }
    ms_neuron_grad_args g = outputs_anew(k.g);
    g.dy = data(bytes(2 * total), MS_BF16);
    g.dr = data(bytes(2 * total), MS_BF16);
    assert_int_equal(ms_cpu_neuron_grad(NULL, &g), MS_OK);
    for (int64_t j = 0; j < total; j++) {
      assert_int_equal(((ms_bf16 *)g.dy.p)[j].bits, ms_bf16_from((float)((ms_real *)k.g.dy.p)[j]).bits);
      assert_int_equal(((ms_bf16 *)g.dr.p)[j].bits, ms_bf16_from((float)((ms_real *)k.g.dr.p)[j]).bits);
    }
    release(state);
  }
}

static void test_nothing(void **state) {
  (void)state;
  shape z = {2, 0, 4, 6, 8};
  ms_neuron_args f = layer(z, 0, 0, 0);
  f.pool_h = 4;
  f.pool_w = 6;
  f.pooled = plain(0);
  assert_int_equal(ms_cpu_neuron(NULL, &f), MS_OK);
  ms_neuron_grad_args g = {.fwd = f, .dy = f32(reals(0))};
  assert_int_equal(ms_cpu_neuron_grad(NULL, &g), MS_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_outputs, release),      cmocka_unit_test_teardown(test_active, release),
      cmocka_unit_test_teardown(test_odd_channels, release), cmocka_unit_test_teardown(test_pooled_grad, release),
      cmocka_unit_test_teardown(test_types, release),        cmocka_unit_test_teardown(test_packed, release),
      cmocka_unit_test_teardown(test_nothing, release),
  };
  return cmocka_run_group_tests_name("neuron_pool", tests, NULL, NULL);
}
