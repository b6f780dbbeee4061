/* Neuron rows: golden sequences, a scalar reference over every switch, finite differences, bits. */
#include "../../kernels/cpu/tile.h"
#include "rows.h"

/* ---- closed forms ---- */

#ifndef MS_SMOOTH
#define STEPS 6
typedef struct golden {
  const char *name;
  ms_neuron p;
  double v0, h[STEPS], s[STEPS], v[STEPS], dx[STEPS], dv0;
} golden;

static const golden table[] = {
    {"v / 2 + x, hard",
     {.leak = MS_R(0.5), .gain = 1, .threshold = 1, .alpha = 1},
     0,
     {.6, 1.1, .3, 1.55, -.2, 2.5},
     {0, 1, 0, 1, 0, 1},
     {.6, 0, .3, 0, -.2, 0},
     {.3792552, -.6898275, .4845, .9, 0, 0},
     .5 * .3792552},
    {"v / 2 + x, hard, detached",
     {.leak = MS_R(0.5), .gain = 1, .threshold = 1, .alpha = 1, .detach = 1},
     0,
     {.6, 1.1, .3, 1.55, -.2, 2.5},
     {0, 1, 0, 1, 0, 1},
     {.6, 0, .3, 0, -.2, 0},
     {.375, -.45, .525, .9, 0, 0},
     .1875},
    {"v / 2 + x, soft",
     {.leak = MS_R(0.5), .gain = 1, .threshold = 1, .alpha = 1, .soft = 1},
     0,
     {.6, 1.1, .35, 1.575, .0875, 2.64375},
     {0, 1, 0, 1, 0, 1},
     {.6, .1, .35, .575, .0875, 1.64375},
     {.5135557422, -.4322212891, .3555742188, .82484375, -.0875, 0},
     .2567778711},
    {"v + x, hard",
     {.leak = 1, .gain = 1, .threshold = 1, .alpha = 1},
     0,
     {.6, 1.4, .3, 1.7, -.2, 2.4},
     {0, 1, 0, 1, 0, 1},
     {.6, 0, .3, 0, -.2, 0},
     {.0741504, -.82164, .621, .6, 0, 0},
     .0741504},
    {"v + (x - v) / 2, hard, detached",
     {.leak = MS_R(0.5), .gain = MS_R(0.5), .threshold = 1, .alpha = 1, .detach = 1},
     0,
     {.3, .55, .425, .9125, .35625, 1.478125},
     {0, 0, 0, 0, 0, 1},
     {.3, .55, .425, .9125, .35625, 0},
     {.2035766602, .1071533203, .4893066406, .8723632812, -.0802734375, .195703125},
     .2035766602},
    {"v + (x - v) * 3 / 4, soft, detached",
     {.leak = MS_R(0.25), .gain = MS_R(0.75), .threshold = 1, .alpha = 1, .soft = 1, .detach = 1},
     0,
     {.45, .7125, .403125, 1.15078125, -.1123046875, 1.921923828},
     {0, 0, 0, 1, 0, 1},
     {.45, .7125, .403125, .15078125, -.1123046875, .9219238281},
     {.2953736991, -.1685052037, .3947291851, 1.27657299, .01097946167, .04391784668},
     .2953736991 / 3},
    {"v / 4 + x, v0 0.2, hard",
     {.leak = MS_R(0.25), .gain = 1, .threshold = 1, .alpha = 1},
     .2,
     {.65, .9625, .540625, 1.53515625, -.2, 2.55},
     {0, 0, 0, 1, 0, 1},
     {.65, .9625, .540625, 0, -.2, 0},
     {.5813154757, -.4757369647, .2996469307, .9296875, 0, 0},
     .1453288689},
};

static void test_golden(void **state) {
  (void)state;
  const ms_real x[STEPS] = {MS_R(.6), MS_R(.8), MS_R(.3), MS_R(1.4), MS_R(-.2), MS_R(2.6)};
  const ms_real gs[STEPS] = {1, MS_R(-.5), MS_R(.25), 2, -1, MS_R(.75)};
  for (const golden *k = table; k < table + COUNT(table); k++) {
    ms_real h[STEPS], v, dx[STEPS], dv0, v0 = MS_R(k->v0);
    uint8_t s[STEPS];
    ms_neuron_args f = {
        .p = k->p, .n = 1, .c = 1, .y = f32(x), .y_step = 1, .v0 = &v0, .s = data(s, MS_SPIKE), .v = &v, .h = h};
    for (f.steps = 1; f.steps <= STEPS; f.steps++) {
      assert_int_equal(ms_cpu_neuron(NULL, &f), MS_OK);
      CLOSE(v, k->v[f.steps - 1]);
    }
    f.steps = STEPS;
    ms_neuron_grad_args g = {.fwd = f, .gs = f32(gs), .gs_step = 1, .dy = f32(dx), .dv0 = &dv0};
    assert_int_equal(ms_cpu_neuron_grad(NULL, &g), MS_OK);
    for (int t = 0; t < STEPS; t++) {
      CLOSE(h[t], k->h[t]);
      assert_int_equal(s[t], (int)k->s[t]);
      CLOSE(dx[t], k->dx[t]);
    }
    CLOSE(dv0, k->dv0);
  }
}

static void test_ties(void **state) {
  (void)state;
  const ms_neuron lif = {.leak = MS_R(0.5), .gain = 1, .threshold = 1, .alpha = 1};
  const ms_real x[] = {1, MS_R(.5), MS_R(.75)};
  const double h[2][3] = {{1, 1, 1.25}, {1, .5, 1}};
  const int s[2][3] = {{0, 0, 1}, {1, 0, 1}};
  for (int ge = 0; ge < 2; ge++) {
    ms_real hs[3];
    uint8_t spikes[3];
    ms_neuron_args f = {
        .p = lif, .steps = 3, .n = 1, .c = 1, .y = f32(x), .y_step = 1, .s = data(spikes, MS_SPIKE), .h = hs};
    f.p.ge = ge;
    ms_cpu_neuron(NULL, &f);
    for (int t = 0; t < 3; t++) {
      CLOSE(hs[t], h[ge][t]);
      assert_int_equal(spikes[t], s[ge][t]);
    }
  }
}
#endif

static void test_surrogates(void **state) {
  (void)state;
  CLOSE(ms_surrogate_grad(MS_SURROGATE_TRIANGLE, MS_R(.25), 1), .75);
  CLOSE(ms_surrogate_grad(MS_SURROGATE_ATAN, MS_R(.25), 2), .6184864582);
  CLOSE(ms_surrogate_grad(MS_SURROGATE_RECTANGLE, MS_R(.25), 1), 1);
  CLOSE(ms_surrogate_grad(MS_SURROGATE_RECTANGLE, MS_R(.5), 1), 0);
  CLOSE(ms_surrogate_grad(MS_SURROGATE_QGATE, MS_R(.25), 2), 1);
  CLOSE(ms_surrogate_grad(MS_SURROGATE_SIGMOID, 0, 4), 1);
  static const double zo[][2] = {{0, .7978845608}, {.25, .7041306535}, {.5, .483941449}, {1, .107981933}};
  for (int i = 0; i < 4; i++)
    CLOSE(ms_surrogate_grad(MS_SURROGATE_GAUSSIAN, MS_R(zo[i][0]), MS_R(.5)), zo[i][1]);
  for (int kind = 0; kind < MS_SURROGATE_COUNT; kind++)
    for (ms_real a = MS_R(.5); a < 5; a *= 2) {
      double area = 0, e = 1e-3; /* midpoints, so that jumps weigh half */
      for (double u = -4; u < 4; u += e)
        area += e * (double)ms_surrogate_grad(kind, MS_R(u + e / 2), a);
      double rise = (double)ms_surrogate_primitive(kind, 4, a) - (double)ms_surrogate_primitive(kind, -4, a);
      CLOSE_TO(area, rise, 1e-3);
      CLOSE(ms_surrogate_primitive(kind, 0, a), .5);
    }
}

/* ---- a layer with any switches, its loss, and a reference written anew in double ---- */

enum {
  SOFT = 1,
  DETACH = 2,
  GE = 4,
  PLIF = 8,
  PLIF_INPUT = 16,
  V0 = 32,
  RESIDUAL = 64,
  NORM = 128,
  TRAIN = 256,
  STATIC = 512,
  SWITCHES = 1024
};

typedef struct net {
  ms_neuron_args f;
  ms_neuron_grad_args g;
  ms_norm n;
  ms_real *y, *r, *v0, *w, *gamma, *beta;
} net;

static net net_of(int on, int surrogate, int64_t steps, int64_t rows, int64_t c) {
  int64_t n = rows * c, total = steps * n, ny = on & STATIC ? n : total;
  net k = {.y = random_reals(ny, -0.6, 2),
           .r = random_reals(total, -0.5, 0.5),
           .v0 = random_reals(n, -0.5, 0.5),
           .w = random_reals(1, -1, 1),
           .gamma = random_reals(c, 0.6, 1.5),
           .beta = random_reals(c, 0, 1)};
  ms_neuron p = {.leak = MS_R(.6),
                 .gain = MS_R(.9),
                 .bias = MS_R(.05),
                 .threshold = MS_R(.8),
                 .v_reset = MS_R(-.1),
                 .v_init = MS_R(.15),
                 .alpha = MS_R(1.3),
                 .surrogate = surrogate,
                 .soft = !!(on & SOFT),
                 .detach = !!(on & DETACH),
                 .ge = !!(on & GE),
                 .plif = !!(on & PLIF),
                 .plif_input = !!(on & PLIF_INPUT)};
  ms_norm norm = {.rows = ny / c,
                  .c = c,
                  .repeat = on & STATIC ? steps : 1,
                  .x = f32(k.y),
                  .gamma = k.gamma,
                  .beta = k.beta,
                  .gain = MS_R(.8),
                  .eps = MS_R(1e-5),
                  .training = !!(on & TRAIN),
                  .mean = reals(c),
                  .running_mean = random_reals(c, 0, 1),
                  .running_var = random_reals(c, .5, 1),
                  .invstd = reals(c),
                  .a = reals(c),
                  .b = reals(c)};
  ms_neuron_args f = {.p = p,
                      .steps = steps,
                      .n = n,
                      .c = c,
                      .y = f32(k.y),
                      .y_step = on & STATIC ? 0 : n,
                      .w = on & PLIF ? k.w : NULL,
                      .v0 = on & V0 ? k.v0 : NULL,
                      .v = reals(n),
                      .h = reals(total),
                      .counts = bytes(steps * c * 8)};
#ifdef MS_SMOOTH
  f.s = f32(reals(total));
#else
  f.s = data(bytes(total), MS_SPIKE);
#endif
  if (on & RESIDUAL) {
    f.r = f32(k.r);
    f.r_step = on & STATIC ? 0 : n;
  }
  ms_neuron_grad_args g = {.gs = f32(random_reals(total, -1, 1)),
                           .gs_step = n,
                           .gv = random_reals(n, -1, 1),
                           .dy = f32(random_reals(ny, 5, 6)),
                           .dr = on & RESIDUAL ? f32(random_reals(ny, 5, 6)) : (ms_data){NULL, MS_F32, 1},
                           .dv0 = random_reals(n, 5, 6),
                           .dw = on & PLIF ? random_reals(1, 5, 6) : NULL};
  if (on & NORM) {
    f.norm.a = norm.a;
    f.norm.b = norm.b;
    g.mean = norm.mean;
    g.invstd = norm.invstd;
    g.norm_gain = norm.gain;
    g.norm_training = norm.training;
    g.dgamma = random_reals(c, 5, 6);
    g.dbeta = random_reals(c, 5, 6);
  }
  g.fwd = f;
  k.f = f;
  k.g = g;
  k.n = norm;
  return k;
}

static void run(const net *k) {
  if (k->f.norm.a)
    assert_int_equal(ms_cpu_norm_stats(NULL, &k->n), MS_OK);
  assert_int_equal(ms_cpu_neuron(NULL, &k->f), MS_OK);
}

/* One neuron walked in double by the formulas of the literature; g (T) receives dL/dI, and *dk PLIF's sum. */
static void reference(const net *k, int64_t i, double *g, double *dv0, double *dk) {
  const ms_neuron_args *f = &k->f;
  int64_t steps = f->steps, ch = i % f->c;
  double rate = f->w ? 1 / (1 + exp(-(double)*f->w)) : 0, rest = f->p.soft ? 0 : f->p.v_reset;
  double x[16], h[16], before[16], s[16], v = f->v0 ? f->v0[i] : f->p.v_init, th = f->p.threshold, vr = f->p.v_reset;
  for (int64_t t = 0; t < steps; t++) {
    x[t] = f->y_step ? k->y[t * f->n + i] : k->y[i];
    x[t] = (f->norm.a ? f->norm.a[ch] * x[t] + f->norm.b[ch] : x[t]) + (f->r.p ? k->r[t * f->r_step + i] : 0);
    before[t] = v;
    if (!f->w)
      h[t] = f->p.leak * v + f->p.gain * x[t] + f->p.bias;
    else
      h[t] = f->p.plif_input ? v + rate * (x[t] - (v - rest)) : v - rate * (v - rest) + x[t];
#ifdef MS_SMOOTH
    s[t] = ms_surrogate_primitive(f->p.surrogate, MS_R(h[t] - th), f->p.alpha);
#else
    s[t] = f->p.ge ? h[t] >= th : h[t] > th;
#endif
    v = f->p.soft ? h[t] - s[t] * th : (1 - s[t]) * h[t] + s[t] * vr;
    CLOSE(f->h[t * f->n + i], h[t]);
    CLOSE(value_of(f->s, t * f->n + i), s[t]);
  }
  CLOSE(f->v[i], v);
  double a = k->g.gv[i];
  *dk = 0;
  for (int64_t t = steps - 1; t >= 0; t--) {
    double sur = ms_surrogate_grad(f->p.surrogate, MS_R(h[t] - th), f->p.alpha), out = value_of(k->g.gs, t * f->n + i),
           dh;
    if (f->p.soft)
      dh = f->p.detach ? sur * out + a : sur * (out - th * a) + a;
    else
      dh = sur * (f->p.detach ? out : out + a * (vr - h[t])) + a * (1 - s[t]);
    double gain = !f->w ? f->p.gain : f->p.plif_input ? rate : 1;
    g[t] = gain * dh;
    *dk += dh * (f->p.plif_input ? x[t] - before[t] + rest : rest - before[t]);
    a = (f->w ? 1 - rate : (double)f->p.leak) * dh;
  }
  *dv0 = a;
}

static void check_switches(int on, int surrogate) {
  const int64_t steps = 4, rows = 9, c = 3, n = rows * c;
  net k = net_of(on, surrogate, steps, rows, c);
  double tol = 30 * TOL, dv0, dk, dw = 0, all[4 * 27], sum_g[3] = {0}, sum_gx[3] = {0}, g[16];
  run(&k);
  assert_int_equal(ms_cpu_neuron_grad(NULL, &k.g), MS_OK);
  double rate = 1 / (1 + exp(-(double)*k.w));
  for (int64_t i = 0; i < n; i++) {
    reference(&k, i, g, &dv0, &dk);
    CLOSE_TO(k.g.dv0[i], dv0, tol);
    dw += dk * rate * (1 - rate);
    for (int64_t t = 0; t < steps; t++) {
      all[t * n + i] = g[t];
      double y = on & STATIC ? k.y[i] : k.y[t * n + i];
      sum_g[i % c] += g[t];
      sum_gx[i % c] += g[t] * (y - k.n.mean[i % c]) * k.n.invstd[i % c];
      if (k.g.dr.p && k.f.r_step)
        CLOSE_TO(((ms_real *)k.g.dr.p)[t * n + i], g[t], tol);
    }
  }
  for (int64_t i = 0; k.g.dr.p && !k.f.r_step && i < n; i++)
    CLOSE_TO(((ms_real *)k.g.dr.p)[i], all[i] + all[n + i] + all[2 * n + i] + all[3 * n + i], tol);
  if (on & PLIF)
    CLOSE_TO(*k.g.dw, dw, tol);
  for (int64_t i = 0; i < (on & STATIC ? n : steps * n); i++) {
    double want = 0, count = (double)(rows * steps);
    int64_t ch = i % c;
    for (int64_t t = 0; t < steps; t++)
      if (on & STATIC || t == i / n) {
        double one = all[t * n + i % n], xhat = (k.y[i] - k.n.mean[ch]) * k.n.invstd[ch];
        if (on & NORM && on & TRAIN)
          one -= sum_g[ch] / count + xhat * sum_gx[ch] / count;
        want += on & NORM ? k.n.a[ch] * one : one;
      }
    CLOSE_TO(((ms_real *)k.g.dy.p)[i], want, tol);
  }
  for (int64_t ch = 0; on & NORM && ch < c; ch++) {
    CLOSE_TO(k.g.dgamma[ch], k.g.norm_gain * sum_gx[ch], tol);
    CLOSE_TO(k.g.dbeta[ch], sum_g[ch], tol);
  }
}

static void test_switches(void **state) {
  for (int on = 0; on < SWITCHES; on++) {
    check_switches(on, on % MS_SURROGATE_COUNT);
    release(state);
  }
}

/* ---- finite differences through the smooth step ---- */

#ifdef MS_SMOOTH
static double loss(void *context) {
  net *k = context;
  double sum = 0;
  run(k);
  for (int64_t i = 0; i < k->f.steps * k->f.n; i++)
    sum += value_of(k->f.s, i) * value_of(k->g.gs, i);
  for (int64_t i = 0; i < k->f.n; i++)
    sum += k->f.v[i] * k->g.gv[i];
  return sum;
}

static void check_differences(net *k, ms_real *x, const ms_real *grad, int64_t n) {
  for (int64_t i = 0; grad && i < n; i++)
    CLOSE_TO(grad[i], slope(loss, k, x + i), 2e-6);
}

static void test_differences(void **state) {
  for (int on = 0; on < SWITCHES; on++)
    for (int kind = 0; kind < MS_SURROGATE_COUNT; kind++) {
      if (on & (DETACH | GE) || (on & TRAIN && !(on & NORM)) || (on & PLIF_INPUT && !(on & PLIF)))
        continue;
      int64_t steps = 3, rows = 2, c = 2, n = rows * c;
      net k = net_of(on, kind, steps, rows, c);
      loss(&k);
      assert_int_equal(ms_cpu_neuron_grad(NULL, &k.g), MS_OK);
      check_differences(&k, k.y, k.g.dy.p, on & STATIC ? n : steps * n);
      check_differences(&k, k.r, k.g.dr.p, on & STATIC ? n : steps * n);
      check_differences(&k, k.v0, on & V0 ? k.g.dv0 : NULL, n);
      check_differences(&k, k.w, k.g.dw, 1);
      check_differences(&k, k.gamma, k.g.dgamma, c);
      check_differences(&k, k.beta, k.g.dbeta, c);
      release(state);
    }
}
#endif

/* ---- bits, counts, operands ---- */

/* All that a layer writes, for comparison. */
static ms_real *everything(const net *k, int64_t *length) {
  int64_t n = k->f.n, c = k->f.c, total = k->f.steps * n, ny = k->f.y_step ? total : n, at = 0;
  ms_real *all = reals(total * 3 + n * 2 + k->f.steps * c + 2 * c + 1);
  const ms_real *parts[] = {k->f.h, k->f.v, k->g.dy.p, k->g.dv0, k->g.dgamma, k->g.dbeta, k->g.dw};
  const int64_t sizes[] = {total, n, ny, n, c, c, 1};
  for (int i = 0; i < 7; i++)
    for (int64_t j = 0; parts[i] && j < sizes[i]; j++)
      all[at++] = parts[i][j];
  for (int64_t i = 0; i < total; i++)
    all[at++] = value_of(k->f.s, i);
  for (int64_t i = 0; i < k->f.steps * c; i++)
    all[at++] = MS_R(k->f.counts[i]);
  *length = at;
  return all;
}

static void test_threads(void **state) {
  (void)state;
  const int c[] = {1, 3, 33, 600};
  for (int i = 0; i < COUNT(c); i++) {
    ms_real *first = NULL;
    for (int threads = 1; threads <= 3; threads++) {
      seed = 11;
      ms_cpu_set_threads(threads);
      int64_t length;
      net k = net_of(NORM | TRAIN | RESIDUAL | V0 | PLIF, MS_SURROGATE_TRIANGLE, 2, 40000 / c[i], c[i]);
      run(&k);
      ms_cpu_neuron_grad(NULL, &k.g);
      ms_real *all = everything(&k, &length);
      if (first)
        assert_memory_equal(first, all, (size_t)length * sizeof *all);
      else
        first = all;
    }
    release(state);
  }
}

/* norm_apply, then a neuron without it, gives the bits of the fused row. */
static void test_fusion(void **state) {
  const int64_t c[] = {1, 3, 32, 33, 520}, rows[] = {1, 7, 33, 700};
  const ms_dtype types[] = {MS_F32, MS_BF16, MS_SPIKE};
  for (int i = 0; i < COUNT(c) * COUNT(rows) * 3; i++) {
    net k = net_of(NORM | RESIDUAL | (i % 2 ? SOFT : STATIC), 0, 3, rows[i / 3 % 4], c[i / 12]), apart = k;
    int64_t n = k.f.n, total = 3 * n;
    k.f.y = as_type(k.y, k.f.y_step ? total : n, types[i % 3], MS_R(0.25));
    run(&k);
    ms_data x = f32(reals(total)), none = {0};
    ms_affine nothing = {NULL, NULL};
    ms_cpu_norm_apply(NULL, 3, n / k.f.c, k.f.c, k.f.y, k.f.y_step, k.f.norm, k.f.r, k.f.r_step, x);
    apart.f.y = x;
    apart.f.y_step = n;
    apart.f.norm = nothing;
    apart.f.r = none;
    apart.f.h = reals(total);
    apart.f.v = reals(n);
    apart.f.counts = bytes(3 * k.f.c * 8);
    apart.f.s.p = bytes(total * (k.f.s.dtype == MS_F32 ? (int)sizeof(ms_real) : 1));
    assert_int_equal(ms_cpu_neuron(NULL, &apart.f), MS_OK);
    assert_memory_equal(k.f.h, apart.f.h, (size_t)total * sizeof(ms_real));
    assert_memory_equal(k.f.v, apart.f.v, (size_t)n * sizeof(ms_real));
    assert_memory_equal(k.f.s.p, apart.f.s.p, (size_t)total);
    assert_memory_equal(k.f.counts, apart.f.counts, (size_t)(3 * k.f.c * 8));
    release(state);
  }
}

static void test_counts(void **state) {
  for (int i = 0; i < 9; i++) {
    const int64_t c = i % 3 == 0 ? 1 : i % 3 == 1 ? 33 : 600, rows = 57;
    net k = net_of(0, 0, 3, rows, c);
    k.f.p.threshold = i < 3 ? MS_R(.8) : i < 6 ? -100 : 100; /* some, all, none */
    run(&k);
    for (int64_t t = 0; t < 3; t++)
      for (int64_t ch = 0; ch < c; ch++) {
        int64_t spikes = 0;
        for (int64_t row = 0; row < rows; row++)
          spikes += value_of(k.f.s, (t * rows + row) * c + ch) > MS_R(.5);
        assert_int_equal(k.f.counts[t * c + ch], spikes);
        assert_true(i < 3 || spikes == (i < 6 ? rows : 0));
      }
    release(state);
  }
}

static void test_nothing(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    net k = net_of(NORM | TRAIN, 0, 1, 1, 3);
    k.f.v[0] = k.g.dgamma[0] = 5;
    k.f.n = k.g.fwd.n = i ? 3 : 0;
    k.f.steps = k.g.fwd.steps = i ? 0 : 1;
    assert_int_equal(ms_cpu_neuron(NULL, &k.f), MS_OK);
    assert_int_equal(ms_cpu_neuron_grad(NULL, &k.g), MS_OK);
    CLOSE(k.f.v[0], 5);
    CLOSE(k.g.dgamma[0], 5);
  }
}

/* Ways to hand over the same gradient agree: bfloat16, one for all steps, a caller's surrogate. */
static void test_operands(void **state) {
  (void)state;
  const int64_t steps = 3, c = 3, n = 7 * c;
  net k = net_of(NORM | TRAIN, MS_SURROGATE_ATAN, steps, 7, c);
  ms_real *gs = (ms_real *)k.g.gs.p, *sur = reals(steps * n), *dgamma = k.g.dgamma;
  for (int64_t i = 0; i < steps * n; i++)
    gs[i] = MS_R(i % n % 5) / 4;
  run(&k);
  ms_cpu_neuron_grad(NULL, &k.g);
  for (int64_t i = 0; i < steps * n; i++)
    sur[i] = ms_surrogate_grad(MS_SURROGATE_ATAN, k.f.h[i] - k.f.p.threshold, k.f.p.alpha);
  for (int way = 0; way < 3; way++) {
    ms_neuron_grad_args g = k.g;
    g.dy = f32(reals(steps * n));
    g.dgamma = way ? reals(c) : NULL;
    if (way == 0)
      g.gs = as_type(gs, steps * n, MS_BF16, 1);
    else if (way == 1)
      g.gs_step = 0;
    else
      g.surrogate = sur;
    assert_int_equal(ms_cpu_neuron_grad(NULL, &g), MS_OK);
    for (int64_t i = 0; i < steps * n; i++)
      CLOSE(((ms_real *)g.dy.p)[i], ((ms_real *)k.g.dy.p)[i]);
    for (int64_t ch = 0; way && ch < c; ch++)
      CLOSE(g.dgamma[ch], dgamma[ch]);
  }
  ms_neuron_grad_args g = k.g;
  g.gs.p = NULL;
  g.gv = NULL;
  assert_int_equal(ms_cpu_neuron_grad(NULL, &g), MS_OK);
  for (int64_t i = 0; i < steps * n; i++)
    CLOSE(((ms_real *)g.dy.p)[i], 0);
}

/* Room as a device gives it: whole lines of the cache. */
static ms_data lines(int64_t n, ms_dtype type) {
  uintptr_t p = (uintptr_t)bytes(n * (int64_t)sizeof(ms_real) + 63);
  return data((void *)((p + 63) / 64 * 64), type);
}

/* Gradients so large that they are written past the caches. With dr of dy's type one loop makes both; with dr of the
** other type, and without a normalisation, they go another way and must hold the same values. */
static void test_large(void **state) {
  const int64_t channels[] = {24, 33};
  for (int i = 0; i < 3; i++) {
    int64_t steps = 2, c = channels[i % 2], rows = (MS_PAST_CACHES / 4 << i / 2) / steps / c + 1,
            total = steps * rows * c;
    ms_dtype type = i / 2 ? MS_BF16 : MS_F32, other = i / 2 ? MS_F32 : MS_BF16;
    net k = net_of(NORM | TRAIN | RESIDUAL, MS_SURROGATE_TRIANGLE, steps, rows, c);
    k.n.x = k.g.fwd.y = as_type(k.y, total, type, 1);
    assert_int_equal(ms_cpu_norm_stats(NULL, &k.n), MS_OK);
    ms_neuron_grad_args one = k.g, two = k.g;
    one.dy = lines(total, type);
    one.dr = lines(total, type);
    two.dy = lines(total, type);
    two.dr = lines(total, other);
    assert_int_equal(ms_cpu_neuron_grad(NULL, &one), MS_OK);
    assert_int_equal(ms_cpu_neuron_grad(NULL, &two), MS_OK);
    ms_data half = i / 2 ? one.dr : two.dr, whole = i / 2 ? two.dr : one.dr;
    assert_memory_equal(one.dy.p, two.dy.p, (size_t)total * (i / 2 ? 2 : sizeof(ms_real)));
    assert_memory_equal(half.p, as_type(whole.p, total, MS_BF16, 1).p, (size_t)total * 2);
    one.fwd.norm.a = one.fwd.norm.b = NULL;
    one.dgamma = one.dbeta = NULL;
    two = one;
    one.dy = lines(total, MS_F32);
    two.dy = lines(total, MS_BF16);
    assert_int_equal(ms_cpu_neuron_grad(NULL, &one), MS_OK);
    assert_int_equal(ms_cpu_neuron_grad(NULL, &two), MS_OK);
    assert_memory_equal(two.dy.p, as_type(one.dy.p, total, MS_BF16, 1).p, (size_t)total * 2);
    release(state);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
#ifdef MS_SMOOTH
      cmocka_unit_test_teardown(test_differences, release),
#else
      cmocka_unit_test_teardown(test_golden, release),     cmocka_unit_test_teardown(test_ties, release),
#endif
      cmocka_unit_test_teardown(test_surrogates, release),  cmocka_unit_test_teardown(test_switches, release),
      cmocka_unit_test_teardown(test_threads, release),     cmocka_unit_test_teardown(test_fusion, release),
      cmocka_unit_test_teardown(test_counts, release),      cmocka_unit_test_teardown(test_nothing, release),
      cmocka_unit_test_teardown(test_operands, release),    cmocka_unit_test_teardown(test_large, release),
  };
  return cmocka_run_group_tests_name("neuron", tests, NULL, NULL);
}
