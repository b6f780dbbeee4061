/* Spiking neurons on CUDA beside the CPU rows: what is counted or fires is equal, reals up to the order of sums. */
#include "twin.h"

#define COUNT(array) ((int64_t)(sizeof(array) / sizeof *(array)))

enum {
  NORM = 1,
  TRAIN = 1 << 1,
  RESIDUAL = 1 << 2,
  STATIC_Y = 1 << 3,
  STATIC_R = 1 << 4,
  V0 = 1 << 5,
  GV = 1 << 6,
  PLIF = 1 << 7,
  PLIF_INPUT = 1 << 8,
  SOFT = 1 << 9,
  DETACH = 1 << 10,
  GE = 1 << 11,
  POOL = 1 << 12,
  PACKED = 1 << 13,
  ACTIVE = 1 << 14,
  COUNTS = 1 << 15,
  TOTALS = 1 << 16,
  H = 1 << 17,
  V = 1 << 18,
  GIVEN = 1 << 19,
  STATIC_GS = 1 << 20,
  DR = 1 << 21,
  DV0 = 1 << 22,
  NO_DY = 1 << 23,
  NO_GS = 1 << 24,
  NO_S = 1 << 25,
  PARAMS = 1 << 26,
  JOINED = 1 << 27, /* totals lie behind counts */
  BESIDE = 1 << 28  /* arrays begin one element late, where no wide load may be */
};

typedef struct layer {
  int64_t steps, images, h, w, c;
  int surrogate;
  ms_dtype y, r, gs, dy;
  unsigned on;
} layer;

/* Memory of a test; pairs of arrays, one on each side. */
static void *blocks[256];
static int held;

static void *hold(void *p) {
  assert_non_null(p);
  assert_true(held < (int)COUNT(blocks));
  return blocks[held++] = p;
}

static int release(void **state) {
  while (held > 0)
    free(blocks[--held]);
  return twin_release(state);
}

static ms_data pair(ms_data x, int64_t n, int beside, ms_data *device) {
  hold(x.p);
  *device = x;
  if (beside) {
    char *p = on_device(twin_bytes(x.dtype, n) + row_width(x.dtype));
    device->p = p + row_width(x.dtype);
    if (n)
      TWIN_OK(gpu->copy_bytes(gpu_stream, device->p, x.p, twin_bytes(x.dtype, n), MS_COPY_HOST_TO_DEVICE));
    TWIN_OK(gpu->synchronize(gpu_stream));
  } else {
    device->p = to_device(x.p, twin_bytes(x.dtype, n));
  }
  return x;
}

static ms_data random_of(ms_dtype t, int64_t n, double lo, double hi) {
  if (t == MS_BITS) {
    ms_data x = {calloc(MS_BITS_BYTES(n), 1), MS_BITS, MS_R(0.5)};
    for (int64_t i = 0; i < n; i++)
      ((uint8_t *)x.p)[i / 8] |= (uint8_t)((row_random() < .3) << i % 8);
    return x;
  }
  ms_data x = row_data(t, t == MS_SPIKE ? MS_R(0.25) : 1, n);
  for (int64_t i = 0; i < n; i++) {
    double v = lo + (hi - lo) * row_random();
    if (t == MS_F32)
      ((ms_real *)x.p)[i] = MS_R(v);
    else if (t == MS_BF16)
      ((ms_bf16 *)x.p)[i] = ms_bf16_from((float)v);
  }
  return x;
}

static ms_data output(ms_dtype t, int64_t n) {
  if (t != MS_BITS)
    return row_output(t, n);
  ms_data x = {malloc(MS_BITS_BYTES(n)), MS_BITS, 1};
  memset(x.p, 0xff, MS_BITS_BYTES(n));
  return x;
}

/* A real input of both sides, where wanted. */
static const ms_real *reals(int wanted, int64_t n, double lo, double hi, int beside, const ms_real **device) {
  *device = NULL;
  if (!wanted)
    return NULL;
  ms_data d, x = pair(random_of(MS_F32, n, lo, hi), n, beside, &d);
  *device = d.p;
  return x.p;
}

static void equal(const char *what, const layer *l, const void *device, const void *want, size_t bytes) {
  char *got = malloc(bytes + 1);
  fetch(got, device, bytes);
  for (size_t i = 0; i < bytes; i++)
    if (got[i] != ((const char *)want)[i])
      fail_msg("%s: byte %zu of %zu: T %lld, c %lld, h %lld, w %lld, on 0x%x, types %d %d", what, i, bytes,
               (long long)l->steps, (long long)l->c, (long long)l->h, (long long)l->w, l->on, l->y, l->r);
  free(got);
}

static void near_to(const char *what, const layer *l, ms_data device, ms_data want, int64_t n, double size,
                    double tol) {
  ms_data got = fetched(device, n);
  char text[200];
  snprintf(text, sizeof text, "%s: T %lld, c %lld, n %lld, surrogate %d, on 0x%x, types %d %d %d %d", what,
           (long long)l->steps, (long long)l->c, (long long)n, l->surrogate, l->on, l->y, l->r, l->gs, l->dy);
  twin_close(text, got, want, n, size, want.dtype == MS_BF16 ? .01 : tol);
  free(got.p);
}

static void check_forward(const layer *l, const ms_neuron_args *cpu, const ms_neuron_args *twin) {
  unsigned on = l->on;
  ms_neuron_args f = *cpu, g = *twin;
  int64_t total = f.steps * f.n, counts = f.steps * f.c;
  ms_dtype ts = on & PACKED ? MS_BITS : MS_SPIKE;
  ms_data ds, dp, da, dv, dh, dc, dt,
      s = pair(output(ts, total), total, on & BESIDE && ts != MS_BITS, &ds),
      pooled = pair(output(MS_SPIKE, total / 4), total / 4, 0, &dp),
      active = pair(output(MS_BITS, total), total, 0, &da), v = pair(output(MS_F32, f.n), f.n, on & BESIDE, &dv),
      h = pair(output(MS_F32, total), total, on & BESIDE, &dh),
      tally = pair(output(MS_I64, counts + 2), counts + 2, 0, &dc), totals = pair(output(MS_I64, 2), 2, 0, &dt);
  if (on & JOINED) {
    totals.p = (int64_t *)tally.p + counts;
    dt.p = (int64_t *)dc.p + counts;
  }
#define WANTED(flag, field, host, device) \
  if (on & flag) {                        \
    f.field = host;                       \
    g.field = device;                     \
  }
  WANTED(ACTIVE, active, active.p, da.p)
  WANTED(COUNTS, counts, tally.p, dc.p)
  WANTED(TOTALS, totals, totals.p, dt.p)
  WANTED(H, h, h.p, dh.p)
  WANTED(V, v, v.p, dv.p)
  WANTED(POOL, pooled, pooled, dp)
#undef WANTED
  if (!(on & NO_S)) {
    f.s = s;
    g.s = ds;
  }
  assert_int_equal(ms_cpu_neuron(NULL, &f), MS_OK);
  TWIN_OK(gpu->neuron(gpu_stream, &g));
  size_t bits = (size_t)total / 8;
  equal("spikes", l, ds.p, s.p, ts == MS_BITS ? bits : (size_t)total);
  equal("pooled", l, dp.p, pooled.p, (size_t)total / 4);
  equal("active", l, da.p, active.p, bits);
  equal("v", l, dv.p, v.p, (size_t)f.n * sizeof(ms_real));
  equal("h", l, dh.p, h.p, (size_t)total * sizeof(ms_real));
  equal("counts", l, dc.p, tally.p, (size_t)counts * 8);
  equal("totals", l, dt.p, totals.p, 16);
}

static void check_backward(const layer *l, const ms_neuron_args *cpu, const ms_neuron_args *twin) {
  unsigned on = l->on;
  int64_t n = cpu->n, steps = cpu->steps, c = cpu->c, wide = on & POOL ? n / 4 : n, beside = on & BESIDE;
  int64_t ny = cpu->y_step ? steps * n : n, nr = cpu->r_step ? steps * n : n;
  ms_data dy, dr, dv0, dw, dg, db,
      hy = pair(output(l->dy, ny), ny, beside, &dy), hr = pair(output(l->dy, nr), nr, beside, &dr),
      hv = pair(output(MS_F32, n), n, 0, &dv0), hw = pair(output(MS_F32, 1), 1, 0, &dw),
      hg = pair(output(MS_F32, c), c, 0, &dg), hb = pair(output(MS_F32, c), c, 0, &db), none;
  memset(&none, 0, sizeof none);
  ms_neuron_grad_args a = {.fwd = *cpu, .norm_gain = MS_R(.8), .norm_training = !!(on & TRAIN)}, b = a;
  b.fwd = *twin;
  a.mean = reals(on & NORM, c, -.2, .2, 0, &b.mean);
  a.invstd = reals(on & NORM, c, .5, 1.5, 0, &b.invstd);
  a.gv = reals(on & GV, n, -1, 1, (int)beside, &b.gv);
  a.surrogate = reals(on & GIVEN, steps * n, -.5, 1, (int)beside, &b.surrogate);
  a.gs_step = b.gs_step = on & STATIC_GS ? 0 : wide;
  if (!(on & NO_GS))
    a.gs = pair(random_of(l->gs, on & STATIC_GS ? wide : steps * wide, -1, 1), on & STATIC_GS ? wide : steps * wide,
                (int)beside, &b.gs);
#define WANTED(flag, field, host, device) \
  if (flag) {                             \
    a.field = host;                       \
    b.field = device;                     \
  }
  WANTED(!(on & NO_DY), dy, hy, dy)
  WANTED(on & DR && cpu->r.p, dr, hr, dr)
  WANTED(on & DV0, dv0, hv.p, dv0.p)
  WANTED(on & PLIF, dw, hw.p, dw.p)
  WANTED(on & NORM && on & PARAMS, dgamma, hg.p, dg.p)
  WANTED(on & NORM && on & PARAMS, dbeta, hb.p, db.p)
#undef WANTED
  assert_int_equal(ms_cpu_neuron_grad(NULL, &a), MS_OK);
  TWIN_OK(gpu->neuron_grad(gpu_stream, &b));
  double terms = (double)(steps * n), each = terms / (double)c, times = cpu->y_step ? 1 : (double)steps;
  near_to("dy", l, dy, hy, ny, 2 * times, 1e-5);
  near_to("dr", l, dr, hr, nr, 2 * (cpu->r_step ? 1 : (double)steps), 1e-5);
  near_to("dv0", l, dv0, hv, n, 1, 1e-5);
  near_to("dw", l, dw, hw, 1, terms, 1e-6);
  near_to("dgamma", l, dg, hg, c, 2 * each, 2e-6);
  near_to("dbeta", l, db, hb, c, 2 * each, 2e-6);
}

static void check(layer l) {
  unsigned on = l.on;
  int64_t n = l.images * l.h * l.w * l.c, beside = on & BESIDE;
  int64_t ny = on & STATIC_Y ? n : l.steps * n, nr = on & STATIC_R ? n : l.steps * n;
  ms_neuron p = {.leak = MS_R(.6),
                 .gain = MS_R(.9),
                 .bias = MS_R(.05),
                 .threshold = MS_R(.75),
                 .v_reset = MS_R(-.1),
                 .v_init = MS_R(.15),
                 .alpha = MS_R(1.3),
                 .surrogate = l.surrogate,
                 .soft = !!(on & SOFT),
                 .detach = !!(on & DETACH),
                 .ge = !!(on & GE),
                 .plif = !!(on & PLIF),
                 .plif_input = !!(on & PLIF_INPUT)};
  ms_neuron_args f = {.p = p, .steps = l.steps, .n = n, .c = l.c}, g = f;
  f.y = pair(random_of(l.y, ny, -1, 2.5), ny, (int)beside, &g.y);
  f.y_step = g.y_step = on & STATIC_Y ? 0 : n;
  if (on & RESIDUAL)
    f.r = pair(random_of(l.r, nr, -.5, .5), nr, (int)beside && l.r != MS_BITS, &g.r);
  f.r_step = g.r_step = on & STATIC_R ? 0 : n;
  f.norm.a = reals(on & NORM, l.c, .5, 1.5, 0, &g.norm.a);
  f.norm.b = reals(on & NORM, l.c, -.3, .3, 0, &g.norm.b);
  f.v0 = reals(on & V0, n, -.5, .5, (int)beside, &g.v0);
  f.w = reals(on & PLIF, 1, -1, 1, 0, &g.w);
  if (on & POOL) {
    f.pool_h = g.pool_h = l.h;
    f.pool_w = g.pool_w = l.w;
  }
  check_forward(&l, &f, &g);
  check_backward(&l, &f, &g);
}

/* Bits need channels in eights. */
static layer allowed(layer l) {
  if (l.c % 8) {
    l.on &= ~(unsigned)(PACKED | ACTIVE);
    if (l.r == MS_BITS)
      l.r = MS_SPIKE;
  }
  if (!(l.on & COUNTS))
    l.on &= ~(unsigned)JOINED;
  if (l.on & POOL) {
    l.h += l.h % 2;
    l.w += l.w % 2;
  }
  return l;
}

static const ms_dtype y_types[] = {MS_F32, MS_BF16}, r_types[] = {MS_F32, MS_BF16, MS_SPIKE, MS_BITS};
static const int64_t channels[] = {1, 3, 8, 12, 64}, steps[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 25};

static unsigned some_switches(void) {
  unsigned on = 0;
  for (int b = 0; b < 29; b++)
    on |= (unsigned)(row_random() < (b < 23 ? .5 : .15)) << b;
  if (row_random() < .3)
    on |= NORM | TRAIN;
  return on;
}

/* Every T, width, type and surrogate under switches drawn at random. */
static void test_switches(void **state) {
  TWIN_NEEDED();
  for (int64_t i = 0; i < COUNT(steps) * COUNT(channels) * 2 * MS_SURROGATE_COUNT; i++) {
    layer l = {.steps = steps[i % COUNT(steps)],
               .images = 1 + i % 2,
               .h = 1 + i % 3,
               .w = 1 + i / 2 % 3,
               .c = channels[i / COUNT(steps) % COUNT(channels)],
               .surrogate = (int)(i / COUNT(steps) / COUNT(channels) / 2),
               .y = y_types[i / COUNT(steps) / COUNT(channels) % 2],
               .r = r_types[i % 4],
               .gs = y_types[i / 2 % 2],
               .dy = y_types[i / 4 % 2],
               .on = some_switches()};
    if (i % 3 == 0) { /* what the kernels with few registers take */
      l.gs = l.y;
      l.on &= ~(unsigned)(PLIF | GIVEN | STATIC_Y | STATIC_R | NO_GS | BESIDE);
    }
    check(allowed(l));
    release(state);
  }
}

/* The paths that training takes, each with its plain outputs: a few hundred rows of many blocks. */
static void test_usual(void **state) {
  TWIN_NEEDED();
  for (int64_t i = 0; i < COUNT(steps) * 4; i++) {
    ms_dtype t = y_types[i % 2];
    layer l = {.steps = steps[i / 4],
               .images = i / 4 % 4 ? 1 : 3,
               .h = 8,
               .w = 6,
               .c = i % 3 ? 16 : 40,
               .y = t,
               .r = r_types[i % 4],
               .gs = t,
               .dy = t,
               .on = NORM | TRAIN | PARAMS | ACTIVE | COUNTS | TOTALS | (i & 1 ? PACKED : 0) | (i & 2 ? POOL : 0) |
                     (i % 4 == 3 ? RESIDUAL | DR : 0)};
    check(allowed(l));
    release(state);
  }
}

static void test_sizes(void **state) {
  TWIN_NEEDED();
  const int64_t sizes[] = {0, 1, 7, 33, 1000};
  for (int64_t i = 0; i < COUNT(sizes) * COUNT(channels) * 4; i++) {
    layer l = {.steps = steps[i * 5 % COUNT(steps)],
               .images = sizes[i % COUNT(sizes)],
               .h = 1,
               .w = 1,
               .c = channels[i / COUNT(sizes) % COUNT(channels)],
               .y = y_types[i % 2],
               .r = r_types[i % 4],
               .gs = y_types[i % 2],
               .dy = y_types[i % 2],
               .on = some_switches() & ~(unsigned)POOL};
    if (l.images * l.c > 4000)
      l.images = 4000 / l.c;
    check(allowed(l));
    release(state);
  }
}

/* More counters than a block has room for, more channels than a block is wide, many steps. */
static void test_large(void **state) {
  TWIN_NEEDED();
  const unsigned all = COUNTS | TOTALS | ACTIVE | PACKED | H | V | DV0 | PARAMS;
  check((layer){.steps = 9, .images = 2, .h = 1, .w = 1, .c = 2400, .on = all | NORM | TRAIN});
  release(state);
  check((layer){.steps = 3, .images = 2, .h = 2, .w = 2, .c = 2056, .y = MS_BF16, .on = all | NORM | TRAIN | POOL});
  release(state);
  check((layer){.steps = 300, .images = 3, .h = 1, .w = 1, .c = 8, .on = all | NORM | TRAIN | PLIF | V0});
  release(state);
  check((layer){.steps = 300, .images = 3, .h = 1, .w = 1, .c = 5, .on = H | V | DV0 | PLIF | PLIF_INPUT});
}

/* Membranes at the threshold, below and above it by one unit in the last place. */
static void test_ties(void **state) {
  (void)state;
  TWIN_NEEDED();
  for (int ge = 0; ge < 2; ge++) {
    ms_real y[24];
    uint8_t s[24];
    for (int i = 0; i < 24; i++)
      y[i] = i % 3 == 0 ? MS_R(.75) : MS_FN(nextafter)(MS_R(.75), MS_R(i % 3 == 1 ? 0 : 1));
    ms_neuron_args f = {.steps = 1, .n = 24, .c = 1, .y = {y, MS_F32, 1}, .s = {s, MS_SPIKE, 1}}, g = f;
    f.p = (ms_neuron){.leak = MS_R(.5), .gain = 1, .threshold = MS_R(.75), .alpha = 1, .ge = ge};
    g.p = f.p;
    g.y.p = to_device(y, sizeof y);
    g.s.p = on_device(24);
    assert_int_equal(ms_cpu_neuron(NULL, &f), MS_OK);
    TWIN_OK(gpu->neuron(gpu_stream, &g));
    layer l = {.steps = 1, .c = 1};
    equal("spikes", &l, g.s.p, s, 24);
    for (int i = 0; i < 24; i++)
      assert_int_equal(s[i], i % 3 == 2 || (ge && i % 3 == 0));
  }
}

/* The sums over the batch cost no launch of their own, with and without PLIF's. */
static void test_launches(void **state) {
  (void)state;
  TWIN_NEEDED();
  const int64_t T = 4, n = 9600, c = 24;
  const ms_real *y, *gs, *a, *b, *mean, *invstd, *w;
  reals(1, T * n, -1, 2, 0, &y);
  reals(1, T * n, -1, 1, 0, &gs);
  reals(1, c, .5, 1.5, 0, &a);
  reals(1, c, -1, 1, 0, &b);
  reals(1, c, -1, 1, 0, &mean);
  reals(1, c, .5, 1, 0, &invstd);
  reals(1, 1, -1, 1, 0, &w);
  for (int i = 0; i < 4; i++) {
    int plif = i & 1, norm = i & 2;
    ms_neuron_grad_args g = {.fwd = {.p = {.leak = MS_R(.5), .gain = 1, .threshold = 1, .alpha = 1, .plif = plif},
                                     .steps = T,
                                     .n = n,
                                     .c = c,
                                     .y = {(void *)y, MS_F32, 1},
                                     .y_step = n,
                                     .w = plif ? w : NULL},
                             .norm_gain = 1,
                             .norm_training = !!norm,
                             .gs = {(void *)gs, MS_F32, 1},
                             .gs_step = n,
                             .dy = {on_device((size_t)(T * n) * sizeof(ms_real)), MS_F32, 1},
                             .dw = plif ? on_device(sizeof(ms_real)) : NULL};
    if (norm) {
      g.fwd.norm = (ms_affine){a, b};
      g.mean = mean;
      g.invstd = invstd;
      g.dgamma = on_device((size_t)c * sizeof(ms_real));
      g.dbeta = on_device((size_t)c * sizeof(ms_real));
    }
    int64_t before = twin_launches();
    TWIN_OK(gpu->neuron_grad(gpu_stream, &g));
    assert_int_equal(twin_launches() - before, norm ? 2 : 1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_switches, release), cmocka_unit_test_teardown(test_usual, release),
      cmocka_unit_test_teardown(test_sizes, release),    cmocka_unit_test_teardown(test_large, release),
      cmocka_unit_test_teardown(test_ties, release),     cmocka_unit_test_teardown(test_launches, release),
  };
  return cmocka_run_group_tests_name("cuda_neuron", tests, twin_setup, twin_teardown);
}
