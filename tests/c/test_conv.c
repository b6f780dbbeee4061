/* Convolution rows against plain loops in double, the adjoint identity, equal bits for any number of threads. */
#include "../../kernels/cpu/conv.h"
#include "rowtest.h"

typedef struct shape {
  int64_t n, h, w, cin, cout;
  int kh, kw, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
} shape;

static const shape list[] = {
    {2, 5, 5, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1},     {1, 9, 7, 7, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {3, 8, 8, 33, 7, 3, 3, 1, 1, 0, 0, 1, 1, 1},    {2, 9, 11, 5, 6, 3, 3, 2, 2, 1, 1, 1, 1, 1},
    {2, 10, 9, 4, 6, 3, 2, 3, 2, 2, 1, 1, 1, 1},    {1, 12, 12, 3, 5, 3, 3, 1, 1, 2, 2, 2, 2, 1},
    {1, 13, 12, 4, 4, 3, 3, 2, 3, 2, 3, 3, 2, 1},   {2, 7, 7, 6, 9, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {2, 7, 8, 6, 9, 1, 1, 2, 2, 0, 0, 1, 1, 1},     {1, 9, 9, 2, 3, 7, 7, 1, 1, 3, 3, 1, 1, 1},
    {1, 11, 9, 2, 3, 7, 7, 2, 2, 3, 3, 1, 1, 1},    {2, 6, 6, 12, 8, 3, 3, 1, 1, 1, 1, 1, 1, 4},
    {2, 7, 6, 6, 12, 3, 3, 2, 1, 1, 1, 1, 2, 2},    {2, 7, 7, 40, 40, 3, 3, 1, 1, 1, 1, 1, 1, 40},
    {2, 8, 7, 5, 5, 3, 3, 2, 2, 1, 1, 1, 2, 5},     {1, 6, 6, 4, 8, 3, 3, 1, 1, 1, 1, 1, 1, 4},
    {100, 1, 1, 70, 10, 1, 1, 1, 1, 0, 0, 1, 1, 1}, {1, 1, 1, 300, 40, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {0, 5, 5, 3, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1},     {3, 20, 19, 32, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {2, 4, 4, 3, 2, 2, 2, 1, 1, 3, 3, 1, 1, 1},     {1, 24, 24, 1, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {3, 6, 7, 140, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1},  {2, 12, 9, 70, 34, 5, 4, 2, 1, 2, 1, 1, 1, 1},
    {2, 5, 4, 6, 5, 2, 3, 5, 4, 1, 1, 1, 1, 1},     {1, 9, 70, 3, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {9, 4, 4, 12, 150, 3, 3, 1, 1, 1, 1, 1, 1, 2}};

enum { SHAPES = sizeof list / sizeof *list };

typedef struct fixture {
  ms_conv_desc d;
  ms_data x, w, b, g; /* input, weight, bias, dL/dy */
  int64_t nx, nw, ny;
} fixture;

static ms_conv_desc describe(const shape *s, ms_dtype x, ms_dtype w) {
  return (ms_conv_desc){.n = s->n,
                        .h = s->h,
                        .w = s->w,
                        .cin = s->cin,
                        .cout = s->cout,
                        .oh = (s->h + 2 * s->pad_h - s->dil_h * (s->kh - 1) - 1) / s->stride_h + 1,
                        .ow = (s->w + 2 * s->pad_w - s->dil_w * (s->kw - 1) - 1) / s->stride_w + 1,
                        .kh = s->kh,
                        .kw = s->kw,
                        .stride_h = s->stride_h,
                        .stride_w = s->stride_w,
                        .pad_h = s->pad_h,
                        .pad_w = s->pad_w,
                        .dil_h = s->dil_h,
                        .dil_w = s->dil_w,
                        .groups = s->groups,
                        .x = x,
                        .weight = w};
}

static fixture make(const shape *s, ms_dtype x, ms_dtype w, ms_dtype y) {
  fixture f = {.d = describe(s, x, w)};
  f.nx = s->n * s->h * s->w * s->cin;
  f.nw = s->cout * s->kh * s->kw * (s->cin / s->groups);
  f.ny = s->n * f.d.oh * f.d.ow * s->cout;
  f.x = row_data(x, x == MS_SPIKE ? MS_R(0.25) : 1, f.nx);
  f.w = row_data(w, 1, f.nw);
  f.b = row_data(MS_F32, 1, s->cout);
  f.g = row_data(y, 1, f.ny);
  return f;
}

static void drop(fixture *f) {
  free(f->x.p);
  free(f->w.p);
  free(f->b.p);
  free(f->g.p);
}

/* Calls f for every product of the convolution: indices into x, w, y. */
typedef void visit_fn(void *ud, int64_t ix, int64_t iw, int64_t iy);
static void visit(const ms_conv_desc *d, visit_fn *f, void *ud) {
  int64_t cig = d->cin / d->groups, cog = d->cout / d->groups;
  for (int64_t n = 0; n < d->n; n++)
    for (int64_t oy = 0; oy < d->oh; oy++)
      for (int64_t ox = 0; ox < d->ow; ox++)
        for (int64_t co = 0; co < d->cout; co++)
          for (int64_t ky = 0; ky < d->kh; ky++)
            for (int64_t kx = 0; kx < d->kw; kx++) {
              int64_t iy = oy * d->stride_h - d->pad_h + ky * d->dil_h,
                      ix = ox * d->stride_w - d->pad_w + kx * d->dil_w;
              if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w)
                continue;
              for (int64_t c = 0; c < cig; c++)
                f(ud, ((n * d->h + iy) * d->w + ix) * d->cin + co / cog * cig + c,
                  ((co * d->kh + ky) * d->kw + kx) * cig + c, ((n * d->oh + oy) * d->ow + ox) * d->cout + co);
            }
}

typedef struct sums {
  const fixture *f;
  double *y, *ysize, *dx, *dxsize, *dw, *dwsize;
  int64_t products;
} sums;

static void add_product(void *ud, int64_t ix, int64_t iw, int64_t iy) {
  sums *s = ud;
  double x = row_get(s->f->x, ix), w = row_get(s->f->w, iw), g = row_get(s->f->g, iy);
  s->y[iy] += x * w;
  s->ysize[iy] += fabs(x * w);
  s->dx[ix] += g * w;
  s->dxsize[ix] += fabs(g * w);
  s->dw[iw] += g * x;
  s->dwsize[iw] += fabs(g * x);
  s->products += x != 0;
}

static double *zeros(int64_t n) {
  double *p = calloc((size_t)n + 1, sizeof *p);
  assert_non_null(p);
  return p;
}

/* Runs a pass on 1, 2 and 5 threads into out (and bias), demanding equal bits. */
static void run(const fixture *f, ms_conv_pass pass, ms_data out, int64_t n, ms_real *bias) {
  ms_conv_plan *plan = NULL;
  assert_int_equal(ms_cpu_conv_plan(NULL, &f->d, &plan), MS_OK);
  size_t bytes = (size_t)n * row_width(out.dtype), room = ms_cpu_conv_workspace(plan, pass);
  assert_true(room <= (16u << 20));
  void *workspace = malloc(room + 1), *first = malloc(bytes + 1);
  for (int threads = 1; threads <= 5; threads += threads == 1 ? 1 : 3) {
    ms_conv_args a = {
        .plan = plan, .x = f->x, .weight = f->w, .y = f->g, .bias = bias, .density = -1, .workspace = workspace};
    memset(out.p, 0xff, bytes);
    memset(workspace, 0xff, room);
    ms_cpu_set_threads(threads);
    ms_status (*row)(ms_stream *, const ms_conv_args *) = ms_cpu_conv_forward;
    if (pass == MS_CONV_FORWARD) {
      a.y = out;
    } else if (pass == MS_CONV_INPUT_GRAD) {
      a.x = out;
      row = ms_cpu_conv_input_grad;
    } else {
      a.weight = out;
      row = ms_cpu_conv_weight_grad;
    }
    assert_int_equal(row(NULL, &a), MS_OK);
    if (threads == 1)
      memcpy(first, out.p, bytes);
    assert_memory_equal(first, out.p, bytes);
  }
  ms_cpu_set_threads(0);
  free(workspace);
  free(first);
  ms_cpu_conv_plan_destroy(plan);
}

static void check_passes(const shape *s, const fixture *made) {
  fixture f = *made;
  ms_dtype yt = f.g.dtype;
  sums r = {&f, zeros(f.ny), zeros(f.ny), zeros(f.nx), zeros(f.nx), zeros(f.nw), zeros(f.nw), 0};
  visit(&f.d, add_product, &r);

  ms_data y = row_output(yt, f.ny), dx = row_output(yt, f.nx), dw = row_output(MS_F32, f.nw),
          db = row_output(MS_F32, s->cout);
  run(&f, MS_CONV_FORWARD, y, f.ny, f.b.p);
  for (int64_t i = 0; i < f.ny; i++)
    row_check("y", y, i, r.y[i] + row_get(f.b, i % s->cout), r.ysize[i] + 1);
  run(&f, MS_CONV_FORWARD, y, f.ny, NULL);
  for (int64_t i = 0; i < f.ny; i++)
    row_check("y without bias", y, i, r.y[i], r.ysize[i]);
  run(&f, MS_CONV_INPUT_GRAD, dx, f.nx, NULL);
  for (int64_t i = 0; i < f.nx; i++)
    row_check("dx", dx, i, r.dx[i], r.dxsize[i]);
  run(&f, MS_CONV_WEIGHT_GRAD, dw, f.nw, db.p);
  for (int64_t i = 0; i < f.nw; i++)
    row_check("dw", dw, i, r.dw[i], r.dwsize[i]);
  for (int64_t c = 0; c < s->cout; c++) {
    double sum = 0, size = 0;
    for (int64_t i = c; i < f.ny; i += s->cout) {
      sum += row_get(f.g, i);
      size += fabs(row_get(f.g, i));
    }
    row_check("db", db, c, sum, size);
  }

  int64_t synops[2] = {-1, -1}, nonzero = 0;
  assert_int_equal(ms_cpu_conv_synops(NULL, &f.d, f.x, synops), MS_OK);
  for (int64_t i = 0; i < f.nx; i++)
    nonzero += row_get(f.x, i) != 0;
  assert_int_equal(synops[0], nonzero);
  assert_int_equal(synops[1], r.products);

  ms_data outputs[] = {y, dx, dw, db};
  for (int i = 0; i < 4; i++)
    free(outputs[i].p);
  double *lists[] = {r.y, r.ysize, r.dx, r.dxsize, r.dw, r.dwsize};
  for (int i = 0; i < 6; i++)
    free(lists[i]);
}

static void check_all(const shape *s, ms_dtype xt, ms_dtype wt, ms_dtype yt) {
  fixture f = make(s, xt, wt, yt);
  check_passes(s, &f);
  drop(&f);
}

/* Every engine wherever it supports the shape; the others fall back to the usual one. */
static void check_engines(const shape *s, const fixture *f) {
  const char *const names[] = {"gemm", "depthwise", "event", NULL};
  for (int i = 0; i < 4; i++) {
    assert_int_equal(ms_cpu_conv_force(NULL, names[i]), MS_OK);
    check_passes(s, f);
  }
}

static void test_real(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    check_all(&list[i], MS_F32, MS_F32, MS_F32);
}

static void test_spike(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    check_all(&list[i], MS_SPIKE, MS_F32, MS_F32);
}

static void test_other_types(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) {
    check_all(&list[i], MS_BF16, MS_BF16, MS_BF16);
    check_all(&list[i], MS_U8, MS_BF16, MS_F32);
  }
}

/* Spikes at all densities, counts above 1 in some of them. */
static void test_density(void **state) {
  (void)state;
  const double density[] = {0, -1, 0.02, 0.2, 1};
  for (int i = 0; i < SHAPES; i++)
    for (int k = 0; k < 10; k++) {
      fixture f = make(&list[i], MS_SPIKE, MS_F32, MS_F32);
      uint8_t *x = f.x.p;
      for (int64_t e = 0; e < f.nx; e++)
        x[e] = row_random() < density[k % 5] ? (uint8_t)(k < 5 ? 1 : 1 + 255 * row_random() * row_random()) : 0;
      if (k % 5 == 1 && f.nx) /* one spike */
        x[(int64_t)(row_random() * (double)f.nx)] = k < 5 ? 1 : 255;
      assert_int_equal(ms_cpu_conv_force(NULL, "event"), MS_OK);
      check_passes(&list[i], &f);
      assert_int_equal(ms_cpu_conv_force(NULL, NULL), MS_OK);
      drop(&f);
    }
}

static void test_engines(void **state) {
  (void)state;
  const ms_dtype types[][3] = {
      {MS_F32, MS_F32, MS_F32}, {MS_SPIKE, MS_BF16, MS_BF16}, {MS_U8, MS_BF16, MS_F32}, {MS_U8, MS_F32, MS_BF16}};
  for (int i = 0; i < SHAPES; i++)
    for (int k = 0; k < 4; k++) {
      fixture f = make(&list[i], types[k][0], types[k][1], types[k][2]);
      check_engines(&list[i], &f);
      drop(&f);
    }
}

/* A hook that forces nothing would leave the tests above without meaning. */
static void test_force(void **state) {
  (void)state;
  assert_int_equal(ms_cpu_conv_force(NULL, "no such engine"), MS_EINVAL);
  ms_conv_desc d = describe(&list[1], MS_SPIKE, MS_F32);
  ms_conv_plan *plan = NULL;
  assert_int_equal(ms_cpu_conv_plan(NULL, &d, &plan), MS_OK);
  assert_string_equal(ms_cpu_conv_engine(&(ms_conv_args){.plan = plan, .density = -1}, MS_CONV_FORWARD, NULL), "gemm");
  assert_int_equal(ms_cpu_conv_force(NULL, "event"), MS_OK);
  assert_string_equal(ms_cpu_conv_engine(&(ms_conv_args){.plan = plan, .density = -1}, MS_CONV_FORWARD, NULL), "event");
  assert_string_equal(ms_cpu_conv_engine(&(ms_conv_args){.plan = plan, .density = -1}, MS_CONV_INPUT_GRAD, NULL),
                      "gemm");
  assert_string_equal(ms_cpu_conv_engine(&(ms_conv_args){.plan = plan, .density = -1}, MS_CONV_WEIGHT_GRAD, NULL),
                      "event");
  assert_int_equal(ms_cpu_conv_force(NULL, NULL), MS_OK);
  ms_cpu_conv_plan_destroy(plan);
}

/* Events run where the density is known and low, and only there. */
static void test_choice(void **state) {
  (void)state;
  const shape s = {5, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1};
  fixture f = make(&s, MS_SPIKE, MS_F32, MS_F32);
  ms_conv_plan *plan = NULL;
  assert_int_equal(ms_cpu_conv_plan(NULL, &f.d, &plan), MS_OK);
  void *workspace = malloc(ms_cpu_conv_workspace(plan, MS_CONV_FORWARD));
  const struct {
    const char *same;
    ms_real density;
  } cases[] = {{"gemm", -1}, {"gemm", 1}, {"event", MS_R(0.1)}, {"event", 0}};
  ms_data y[2] = {row_output(MS_F32, f.ny), row_output(MS_F32, f.ny)};
  for (int i = 0; i < 4; i++) {
    for (int k = 0; k < 2; k++) {
      assert_int_equal(ms_cpu_conv_force(NULL, k ? cases[i].same : NULL), MS_OK);
      ms_conv_args a = {.plan = plan,
                        .x = f.x,
                        .weight = f.w,
                        .y = y[k],
                        .density = k ? -1 : cases[i].density,
                        .workspace = workspace};
      assert_int_equal(ms_cpu_conv_forward(NULL, &a), MS_OK);
    }
    assert_memory_equal(y[0].p, y[1].p, (size_t)f.ny * sizeof(ms_real));
    assert_int_equal(ms_cpu_conv_force(NULL, NULL), MS_OK);
  }
  free(y[0].p);
  free(y[1].p);
  free(workspace);
  ms_cpu_conv_plan_destroy(plan);
  drop(&f);
}

/* <conv(x), g> = <x, input grad of g> = <w, weight grad of g>: in double arithmetic over what the rows returned. */
static void test_adjoint(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) {
    fixture f = make(&list[i], MS_F32, MS_F32, MS_F32);
    ms_data y = row_output(MS_F32, f.ny), dx = row_output(MS_F32, f.nx), dw = row_output(MS_F32, f.nw);
    run(&f, MS_CONV_FORWARD, y, f.ny, NULL);
    run(&f, MS_CONV_INPUT_GRAD, dx, f.nx, NULL);
    run(&f, MS_CONV_WEIGHT_GRAD, dw, f.nw, NULL);
    double a = 0, b = 0, c = 0, size = 0;
    for (int64_t j = 0; j < f.ny; j++) {
      a += row_get(y, j) * row_get(f.g, j);
      size += fabs(row_get(y, j) * row_get(f.g, j));
    }
    for (int64_t j = 0; j < f.nx; j++)
      b += row_get(dx, j) * row_get(f.x, j);
    for (int64_t j = 0; j < f.nw; j++)
      c += row_get(dw, j) * row_get(f.w, j);
    assert_true(fabs(a - b) <= 64 * ROW_EPS * size + 1e-30);
    assert_true(fabs(a - c) <= 64 * ROW_EPS * size + 1e-30);
    free(y.p);
    free(dx.p);
    free(dw.p);
    drop(&f);
  }
}

/* The workspace of a huge layer stays a few MiB. */
static void test_workspace(void **state) {
  (void)state;
  const shape huge[] = {{4096, 64, 64, 64, 128, 3, 3, 1, 1, 1, 1, 1, 1, 1},
                        {4096, 8, 8, 512, 512, 3, 3, 1, 1, 1, 1, 1, 1, 1}};
  for (int i = 0; i < 2; i++) {
    ms_conv_desc d = describe(&huge[i], MS_SPIKE, MS_F32);
    ms_conv_plan *plan = NULL;
    assert_int_equal(ms_cpu_conv_plan(NULL, &d, &plan), MS_OK);
    for (ms_conv_pass p = MS_CONV_FORWARD; p <= MS_CONV_WEIGHT_GRAD; p++)
      assert_true(ms_cpu_conv_workspace(plan, p) <= (4u << 20));
    ms_cpu_conv_plan_destroy(plan);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_real),    cmocka_unit_test(test_spike),   cmocka_unit_test(test_other_types),
      cmocka_unit_test(test_density), cmocka_unit_test(test_engines), cmocka_unit_test(test_force),
      cmocka_unit_test(test_choice),  cmocka_unit_test(test_adjoint), cmocka_unit_test(test_workspace)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
