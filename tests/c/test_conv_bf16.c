/* The engines on bfloat16 products: every pass, block kernel and input type against plain loops in double, over rounded
** operands (bf16) or as they are (bf16x3, which must be as exact as float32). */
#include "../../kernels/cpu/conv_bf16.h"
#include "rowtest.h"

#ifndef MS_REAL64

typedef struct shape {
  int64_t n, h, w, cin, cout;
  int kh, kw, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w;
} shape;

static const shape list[] = {
    {2, 5, 5, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1},     {3, 8, 7, 33, 35, 3, 3, 1, 1, 1, 1, 1, 1},
    {2, 9, 11, 40, 6, 3, 3, 2, 2, 1, 1, 1, 1},   {2, 10, 9, 4, 6, 3, 2, 3, 2, 2, 1, 1, 1},
    {1, 12, 12, 3, 5, 3, 3, 1, 1, 2, 2, 2, 2},   {2, 7, 7, 64, 64, 1, 1, 1, 1, 0, 0, 1, 1},
    {2, 7, 8, 64, 70, 1, 1, 2, 2, 0, 0, 1, 1},   {1, 9, 9, 2, 3, 7, 7, 1, 1, 3, 3, 1, 1},
    {2, 4, 4, 3, 2, 2, 2, 1, 1, 3, 3, 1, 1},     {2, 5, 4, 6, 5, 2, 3, 5, 4, 1, 1, 1, 1},
    {9, 1, 1, 70, 10, 1, 1, 1, 1, 0, 0, 1, 1},   {20, 8, 8, 64, 96, 3, 3, 2, 2, 1, 1, 1, 1},
    {1, 13, 12, 4, 4, 3, 3, 2, 3, 2, 3, 3, 2},   {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1},
    {18, 5, 5, 136, 40, 3, 3, 1, 1, 1, 1, 1, 1}, {2, 9, 33, 40, 17, 5, 5, 1, 1, 2, 2, 1, 1},
};
enum { SHAPES = sizeof list / sizeof *list };

static ms_conv_desc describe(const shape *s, ms_dtype x, ms_dtype precision) {
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
                        .x = x,
                        .weight = precision};
}

typedef struct arrays {
  int64_t nx, nw, ny;
  double *x, *w, *g;                             /* as the engine sees them */
  double *y, *dx, *dw, *ysize, *dxsize, *dwsize; /* results, and the sums of the magnitudes of their terms */
} arrays;

static double *values(ms_data d, int64_t n, ms_dtype precision) {
  double *r = calloc((size_t)n + 1, sizeof *r);
  for (int64_t i = 0; i < n; i++) {
    r[i] = d.dtype == MS_BITS ? (double)d.scale * (((uint8_t *)d.p)[i / 8] >> i % 8 & 1) : row_get(d, i);
    if (precision == MS_BF16 && d.dtype == MS_F32)
      r[i] = (double)ms_bf16_to(ms_bf16_from((float)r[i]));
  }
  return r;
}

static void multiply(const ms_conv_desc *d, arrays *a) {
  double **out[] = {&a->y, &a->ysize, &a->dx, &a->dxsize, &a->dw, &a->dwsize};
  for (int i = 0; i < 6; i++)
    *out[i] = calloc((size_t)(i < 2 ? a->ny : i < 4 ? a->nx : a->nw) + 1, sizeof(double));
  for (int64_t o = 0; o < d->n * d->oh * d->ow; o++)
    for (int64_t t = 0; t < (int64_t)d->kh * d->kw; t++) {
      int64_t iy = o / d->ow % d->oh * d->stride_h - d->pad_h + t / d->kw * d->dil_h;
      int64_t ix = o % d->ow * d->stride_w - d->pad_w + t % d->kw * d->dil_w;
      if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w)
        continue;
      int64_t pixel = (o / d->ow / d->oh * d->h + iy) * d->w + ix;
      for (int64_t co = 0; co < d->cout; co++)
        for (int64_t ci = 0; ci < d->cin; ci++) {
          int64_t i = pixel * d->cin + ci, k = (co * d->kh * d->kw + t) * d->cin + ci, j = o * d->cout + co;
          a->y[j] += a->x[i] * a->w[k];
          a->ysize[j] += fabs(a->x[i] * a->w[k]);
          a->dx[i] += a->g[j] * a->w[k];
          a->dxsize[i] += fabs(a->g[j] * a->w[k]);
          a->dw[k] += a->g[j] * a->x[i];
          a->dwsize[k] += fabs(a->g[j] * a->x[i]);
        }
    }
}

/* Runs a pass on 1, 2 and 5 threads, demanding equal bits. */
static void run(const ms_conv_desc *d, ms_conv_pass pass, ms_conv_args a, ms_data out, int64_t n) {
  const ms_conv_engine *e = d->weight == MS_BF16 ? &ms_conv_bf16 : &ms_conv_bf16x3;
  size_t room = e->workspace(d, pass), bytes = (size_t)n * row_width(out.dtype);
  a.workspace = aligned_alloc(64, (room + 64) / 64 * 64);
  *(pass == MS_CONV_FORWARD ? &a.y : pass == MS_CONV_INPUT_GRAD ? &a.x : &a.weight) = out;
  void *first = malloc(bytes + 1);
  for (int threads = 1; threads <= 5; threads += threads == 1 ? 1 : 3) {
    ms_cpu_set_threads(threads);
    memset(a.workspace, 0xff, room);
    memset(out.p, 0xff, bytes);
    assert_int_equal((pass == MS_CONV_FORWARD      ? e->forward
                      : pass == MS_CONV_INPUT_GRAD ? e->input_grad
                                                   : e->weight_grad)(d, &a),
                     MS_OK);
    if (threads == 1)
      memcpy(first, out.p, bytes);
    assert_memory_equal(first, out.p, bytes);
  }
  ms_cpu_set_threads(0);
  free(first);
  free(a.workspace);
}

static void check(const char *what, ms_data got, int64_t n, const double *want, const double *size) {
  for (int64_t i = 0; i < n; i++)
    row_check(what, got, i, want[i], size[i]);
  free(got.p);
}

static void check_shape(const shape *s, ms_dtype precision, ms_dtype type, ms_dtype real) {
  ms_conv_desc d = describe(s, type, precision);
  arrays a = {.nx = d.n * d.h * d.w * d.cin, .nw = d.cout * d.kh * d.kw * d.cin, .ny = d.n * d.oh * d.ow * d.cout};
  ms_data x = type == MS_BITS ? (ms_data){calloc(MS_BITS_BYTES(a.nx) + 64, 1), MS_BITS, MS_R(0.5)}
                              : row_data(type, type == MS_SPIKE ? MS_R(0.25) : 1, a.nx);
  for (int64_t i = 0; type == MS_BITS && i < a.nx; i++)
    if (row_random() < 0.3)
      ((uint8_t *)x.p)[i / 8] |= (uint8_t)(1 << i % 8);
  ms_data w = row_data(real, 1, a.nw), g = row_data(real, 1, a.ny), bias = row_data(MS_F32, 1, d.cout);
  a.x = values(x, a.nx, precision);
  a.w = values(w, a.nw, precision);
  a.g = values(g, a.ny, precision);
  multiply(&d, &a);
  ms_conv_args args = {.x = x, .weight = w, .y = g, .density = -1};
  ms_data dx = row_output(real, a.nx), dw = row_output(real, a.nw), y = row_output(real, a.ny);
  run(&d, MS_CONV_INPUT_GRAD, args, dx, a.nx);
  run(&d, MS_CONV_WEIGHT_GRAD, args, dw, a.nw);
  check("dL/dx", dx, a.nx, a.dx, a.dxsize);
  check("dL/dweight", dw, a.nw, a.dw, a.dwsize);
  args.bias = bias.p;
  run(&d, MS_CONV_FORWARD, args, y, a.ny);
  for (int64_t i = 0; i < a.ny; i++) {
    a.y[i] += row_get(bias, i % d.cout);
    a.ysize[i] += fabs(row_get(bias, i % d.cout));
  }
  check("y", y, a.ny, a.y, a.ysize);
  void *all[] = {x.p, w.p, g.p, bias.p, a.x, a.w, a.g, a.y, a.dx, a.dw, a.ysize, a.dxsize, a.dwsize};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    free(all[i]);
}

static void check_kernel(void **state) {
  if (ms_bf16_kernel_force(*state))
    skip();
  assert_string_equal(ms_bf16_kernel_best()->name, *state);
  for (int i = 0; i < SHAPES; i++) {
    const shape *s = &list[i];
    int64_t products = s->n * s->h * s->w * s->kh * s->kw * s->cin * s->cout;
    check_shape(s, MS_BF16, MS_F32, MS_F32);
    check_shape(s, MS_F32, MS_SPIKE, MS_F32);
    if (products > 4000000 && strcmp(*state, "base") == 0)
      continue; /* slow, and other types differ in how operands are packed, which is the same for all kernels */
    check_shape(s, MS_BF16, MS_BF16, MS_BF16);
    check_shape(s, MS_BF16, MS_SPIKE, MS_BF16);
    check_shape(s, MS_BF16, MS_U8, MS_F32);
    check_shape(s, MS_F32, MS_F32, MS_F32);
    check_shape(s, MS_F32, MS_BF16, MS_BF16);
    if (s->cin % 8 == 0) {
      check_shape(s, MS_BF16, MS_BITS, MS_BF16);
      check_shape(s, MS_F32, MS_BITS, MS_F32);
    }
  }
  assert_int_equal(ms_bf16_kernel_force(NULL), MS_OK);
}

/* Three parts give a float32 back; of infinity and NaN the first part says it. */
static void test_parts(void **state) {
  (void)state;
  ms_real x[] = {0, 1, -1, MS_R(0.1), MS_R(-3.4028234e38), MS_R(1e-20), MS_R(16777215), INFINITY, -INFINITY, NAN};
  enum { N = sizeof x / sizeof *x };
  ms_bf16 part[3][N];
  ms_bf16_split(part[0], N, 3, (ms_data){x, MS_F32, 1}, 0, N);
  for (int i = 0; i < N; i++) {
    double sum = (double)ms_bf16_to(part[0][i]) + (double)ms_bf16_to(part[1][i]) + (double)ms_bf16_to(part[2][i]);
    assert_true(sum == (double)x[i] || (sum != sum && x[i] != x[i]));
  }
  uint8_t pair[MS_MOST_PAIRS][2];
  assert_int_equal(ms_bf16_pairs(1, 1, pair), 1);
  assert_int_equal(ms_bf16_pairs(1, 3, pair), 3);
  assert_int_equal(ms_bf16_pairs(3, 3, pair), 6);
  assert_int_equal(pair[5][0] + pair[5][1], 0);
}

/* Long sums of positive numbers, where a lost product would show: at most 4 roundings of float32 away on average. */
static void test_exactness(void **state) {
  (void)state;
  const shape s = {2, 6, 6, 512, 32, 3, 3, 1, 1, 1, 1, 1, 1};
  ms_conv_desc d = describe(&s, MS_F32, MS_F32);
  arrays a = {.nx = d.n * d.h * d.w * d.cin, .nw = d.cout * d.kh * d.kw * d.cin, .ny = d.n * d.oh * d.ow * d.cout};
  ms_data x = row_data(MS_F32, 1, a.nx), w = row_data(MS_F32, 1, a.nw), g = row_data(MS_F32, 1, a.ny);
  ms_data y = row_output(MS_F32, a.ny);
  for (int64_t i = 0; i < a.nx; i++)
    ((ms_real *)x.p)[i] = fabsf(((ms_real *)x.p)[i]);
  for (int64_t i = 0; i < a.nw; i++)
    ((ms_real *)w.p)[i] = fabsf(((ms_real *)w.p)[i]);
  a.x = values(x, a.nx, MS_F32);
  a.w = values(w, a.nw, MS_F32);
  a.g = values(g, a.ny, MS_F32);
  multiply(&d, &a);
  run(&d, MS_CONV_FORWARD, (ms_conv_args){.x = x, .weight = w, .density = -1}, y, a.ny);
  double error = 0;
  for (int64_t i = 0; i < a.ny; i++)
    error += fabs(row_get(y, i) - a.y[i]) / a.y[i] / (double)a.ny;
  assert_true(error < 4 * 6e-8);
  void *all[] = {x.p, w.p, g.p, y.p, a.x, a.w, a.g, a.y, a.dx, a.dw, a.ysize, a.dxsize, a.dwsize};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    free(all[i]);
}

/* Operands are laid out for some images at a time: the workspace does not grow with the batch. */
static void test_workspace(void **state) {
  (void)state;
  const shape one = {64, 48, 48, 64, 128, 3, 3, 1, 1, 1, 1, 1, 1};
  ms_conv_desc d = describe(&one, MS_BITS, MS_F32);
  for (int pass = 0; pass < 3; pass++) {
    d.n = 64;
    size_t some = ms_conv_bf16x3.workspace(&d, pass);
    d.n = 64000;
    assert_int_equal(ms_conv_bf16x3.workspace(&d, pass), some);
    assert_true(some < 40u << 20);
  }
}

static void test_kernels(void **state) {
  (void)state;
  assert_int_equal(ms_bf16_kernel_force("sse"), MS_EINVAL);
  ms_conv_desc d = describe(&list[0], MS_F32, MS_BF16);
  assert_int_equal(ms_bf16_kernel_force("base"), MS_OK);
  assert_false(ms_conv_bf16.supports(&d, MS_CONV_FORWARD));
  assert_int_equal(ms_bf16_kernel_force(NULL), MS_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_kernels),
      cmocka_unit_test(test_workspace),
      cmocka_unit_test(test_parts),
      cmocka_unit_test(test_exactness),
      cmocka_unit_test_prestate(check_kernel, "base"),
      cmocka_unit_test_prestate(check_kernel, "avx512_bf16"),
      cmocka_unit_test_prestate(check_kernel, "amx"),
  };
  return cmocka_run_group_tests_name("conv_bf16", tests, NULL, NULL);
}

#else

/* bfloat16 sums are float32 sums, which the double build does not have. */
static void test_unsupported(void **state) {
  (void)state;
  ms_conv_desc d = {.n = 1, .h = 1, .w = 1, .cin = 1, .cout = 1, .oh = 1, .ow = 1, .kh = 1, .kw = 1, .weight = MS_BF16};
  assert_false(ms_conv_bf16.supports(&d, MS_CONV_FORWARD));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_unsupported)};
  return cmocka_run_group_tests_name("conv_bf16", tests, NULL, NULL);
}

#endif
