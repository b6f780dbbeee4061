/* The gradient of the inputs where only some are wanted, against plain loops in double: every instruction set, equal
** bits for any number of threads, zeros where nobody reads. */
#include "../../kernels/cpu/conv.h"
#include "rowtest.h"

typedef struct shape {
  int64_t n, h, w, cin, cout;
  int kh, kw, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w;
} shape;

/* Images below, at and above a tile of 64 pixels, blocks of 32 output channels, groups of three input channels. */
static const shape list[] = {{3, 1, 1, 8, 3, 1, 1, 1, 1, 0, 0, 1, 1},     {70, 1, 1, 24, 17, 1, 1, 1, 1, 0, 0, 1, 1},
                             {2, 1, 1, 8, 5, 3, 3, 1, 1, 1, 1, 1, 1},     {2, 7, 5, 24, 17, 3, 3, 1, 1, 1, 1, 1, 1},
                             {1, 33, 33, 8, 1, 3, 3, 1, 1, 1, 1, 1, 1},   {2, 9, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1},
                             {1, 7, 5, 136, 130, 3, 3, 1, 1, 1, 1, 1, 1}, {3, 6, 6, 24, 64, 2, 2, 1, 1, 0, 0, 1, 1},
                             {2, 9, 11, 24, 17, 3, 3, 2, 2, 1, 1, 1, 1},  {1, 16, 16, 64, 130, 3, 3, 2, 2, 1, 1, 1, 1},
                             {2, 8, 8, 8, 17, 1, 1, 2, 2, 0, 0, 1, 1},    {2, 10, 9, 8, 6, 3, 2, 3, 2, 2, 1, 1, 1},
                             {2, 12, 9, 24, 34, 5, 4, 2, 1, 2, 1, 1, 1},  {1, 12, 12, 8, 5, 3, 3, 1, 1, 2, 2, 2, 2},
                             {1, 13, 12, 8, 4, 3, 3, 2, 3, 2, 3, 3, 2},   {1, 17, 70, 8, 3, 3, 3, 1, 1, 1, 1, 1, 1},
                             {2, 4, 4, 8, 2, 2, 2, 1, 1, 3, 3, 1, 1},     {2, 5, 4, 8, 5, 2, 3, 5, 4, 1, 1, 1, 1},
                             {40, 4, 4, 24, 33, 3, 3, 1, 1, 1, 1, 1, 1},  {1, 3, 3, 2048, 64, 3, 3, 1, 1, 1, 1, 1, 1},
                             {1, 9, 9, 8, 300, 5, 5, 1, 1, 2, 2, 1, 1},   {40, 8, 8, 8, 17, 3, 3, 1, 1, 1, 1, 1, 1},
                             {1, 3, 2, 16, 9, 3, 3, 4, 4, 1, 1, 1, 1},    {70, 8, 8, 16, 600, 1, 1, 1, 1, 0, 0, 1, 1}};

enum { SHAPES = sizeof list / sizeof *list };

static ms_conv_desc describe(const shape *s) {
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
                        .groups = 1,
                        .x = MS_SPIKE,
                        .weight = MS_F32};
}

/* One element of dL/dx, and the sum of the magnitudes of its terms. */
static double element(const ms_conv_desc *d, ms_data w, ms_data g, int64_t i, double *size) {
  int64_t ci = i % d->cin, x = i / d->cin % d->w, y = i / d->cin / d->w % d->h, n = i / d->cin / d->w / d->h;
  double sum = *size = 0;
  for (int64_t ky = 0; ky < d->kh; ky++)
    for (int64_t kx = 0; kx < d->kw; kx++) {
      int64_t oy = y + d->pad_h - ky * d->dil_h, ox = x + d->pad_w - kx * d->dil_w;
      if (oy < 0 || ox < 0 || oy % d->stride_h || ox % d->stride_w || oy / d->stride_h >= d->oh ||
          ox / d->stride_w >= d->ow)
        continue;
      int64_t at = ((n * d->oh + oy / d->stride_h) * d->ow + ox / d->stride_w) * d->cout;
      for (int64_t co = 0; co < d->cout; co++) {
        double term = row_get(g, at + co) * row_get(w, ((co * d->kh + ky) * d->kw + kx) * d->cin + ci);
        sum += term;
        *size += fabs(term);
      }
    }
  return sum;
}

typedef struct fixture {
  ms_conv_desc d;
  ms_conv_plan *plan;
  void *workspace;
  ms_data w, g;
  int64_t nx;
  double *want, *size;
  uint8_t *mask;
} fixture;

static fixture make(const shape *s, ms_dtype w, ms_dtype g) {
  fixture f = {.d = describe(s)};
  f.nx = s->n * s->h * s->w * s->cin;
  f.w = row_data(w, 1, s->cout * s->kh * s->kw * s->cin);
  f.g = row_data(g, 1, s->n * f.d.oh * f.d.ow * s->cout);
  assert_int_equal(ms_cpu_conv_plan(NULL, &f.d, &f.plan), MS_OK);
  assert_int_equal(ms_cpu_conv_force(f.plan, "event"), MS_OK);
  f.workspace = malloc(ms_cpu_conv_workspace(f.plan, MS_CONV_INPUT_GRAD));
  f.want = malloc((size_t)f.nx * sizeof(double));
  f.size = malloc((size_t)f.nx * sizeof(double));
  f.mask = malloc(MS_BITS_BYTES(f.nx));
  assert_true(f.workspace && f.want && f.size && f.mask);
  for (int64_t i = 0; i < f.nx; i++)
    f.want[i] = element(&f.d, f.w, f.g, i, &f.size[i]);
  return f;
}

static void drop(fixture *f) {
  ms_cpu_conv_plan_destroy(f->plan);
  free(f->workspace);
  free(f->w.p);
  free(f->g.p);
  free(f->want);
  free(f->size);
  free(f->mask);
}

/* Bits behind the last element are ones: nothing may come of them. */
static void draw_mask(fixture *f, double density) {
  memset(f->mask, 0xff, MS_BITS_BYTES(f->nx));
  int64_t one = (int64_t)(row_random() * (double)f->nx);
  for (int64_t i = 0; i < f->nx; i++)
    if (density < 0 ? i != one : row_random() >= density)
      f->mask[i / 8] = (uint8_t)(f->mask[i / 8] & ~(1u << i % 8));
}

static void check(const fixture *f, const uint8_t *mask, ms_dtype x) {
  size_t bytes = (size_t)f->nx * row_width(x);
  ms_data first = row_output(x, f->nx), dx = row_output(x, f->nx);
  const int threads[] = {1, 2, 5};
  for (int k = 0; k < 3; k++) {
    ms_data out = k ? dx : first;
    ms_conv_args a = {.plan = f->plan,
                      .x = out,
                      .weight = f->w,
                      .y = f->g,
                      .density = -1,
                      .mask = mask,
                      .mask_density = -1,
                      .workspace = f->workspace};
    ms_cpu_set_threads(threads[k]);
    memset(out.p, 0xff, bytes);
    assert_string_equal(ms_cpu_conv_engine(&a, MS_CONV_INPUT_GRAD, (char[MS_WHY]){0}), "event");
    assert_int_equal(ms_cpu_conv_input_grad(NULL, &a), MS_OK);
    if (k)
      assert_memory_equal(out.p, first.p, bytes);
  }
  ms_cpu_set_threads(0);
  for (int64_t i = 0; i < f->nx; i++)
    if (!mask || mask[i / 8] >> i % 8 & 1)
      row_check("input gradient", first, i, f->want[i], f->size[i]);
    else
      assert_true(row_get(first, i) == 0);
  free(first.p);
  free(dx.p);
}

static void check_shapes(const char *isa) {
  const double density[] = {0, -1, 0.1, 0.45, 1}; /* -1: one bit */
  if (ms_cpu_isa_force(isa) != MS_OK)
    skip();
  for (int i = 0; i < SHAPES; i++) {
    fixture f = make(&list[i], MS_F32, MS_F32);
    check(&f, NULL, MS_F32);
    for (int k = 0; k < 5; k++) {
      draw_mask(&f, density[k]);
      check(&f, f.mask, MS_F32);
    }
    drop(&f);
  }
}

static void test_base(void **state) {
  (void)state;
  check_shapes("base");
}

static void test_avx2(void **state) {
  (void)state;
  check_shapes("avx2");
}

static void test_avx512(void **state) {
  (void)state;
  check_shapes("avx512");
}

static void test_bfloat16(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    for (int k = 0; k < 2; k++) {
      fixture f = make(&list[i], MS_F32, k ? MS_F32 : MS_BF16);
      draw_mask(&f, 0.45);
      check(&f, f.mask, k ? MS_BF16 : MS_F32);
      check(&f, f.mask, MS_BF16);
      drop(&f);
    }
}

/* What it does not fit runs on a dense engine, which writes all elements. */
static void test_refused(void **state) {
  (void)state;
  const shape odd[] = {{1, 5, 5, 12, 6, 3, 3, 1, 1, 1, 1, 1, 1}, {1, 40, 40, 8, 4, 3, 3, 1, 1, 60, 60, 60, 60}};
  for (int i = 0; i < 2; i++) {
    fixture f = make(&odd[i], MS_F32, MS_F32);
    ms_conv_args a = {.plan = f.plan, .weight = f.w, .y = f.g, .workspace = f.workspace};
    a.x = row_output(MS_F32, f.nx);
    assert_string_not_equal(ms_cpu_conv_engine(&a, MS_CONV_INPUT_GRAD, (char[MS_WHY]){0}), "event");
    assert_int_equal(ms_cpu_conv_input_grad(NULL, &a), MS_OK);
    for (int64_t e = 0; e < f.nx; e++)
      row_check("input gradient", a.x, e, f.want[e], f.size[e]);
    free(a.x.p);
    drop(&f);
  }
}

static int as_usual(void **state) {
  (void)state;
  ms_cpu_set_threads(0);
  return ms_cpu_isa_force(NULL) == MS_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_base, as_usual),
                                     cmocka_unit_test_teardown(test_avx2, as_usual),
                                     cmocka_unit_test_teardown(test_avx512, as_usual), cmocka_unit_test(test_bfloat16),
                                     cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
