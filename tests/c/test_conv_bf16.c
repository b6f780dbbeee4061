/* The engines on bfloat16 products: every pass, block kernel and input type against plain loops in double, over rounded
** operands (bf16) or as they are (bf16x3, which must be as exact as float32). */
#include "../../kernels/cpu/conv_bf16.h"
#include "convtest.h"

#ifndef MS_REAL64

static const shape list[] = {
    {2, 5, 5, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1},     {3, 8, 7, 33, 35, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {2, 9, 11, 40, 6, 3, 3, 2, 2, 1, 1, 1, 1, 1},   {2, 10, 9, 4, 6, 3, 2, 3, 2, 2, 1, 1, 1, 1},
    {1, 12, 12, 3, 5, 3, 3, 1, 1, 2, 2, 2, 2, 1},   {2, 7, 7, 64, 64, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {2, 7, 8, 64, 70, 1, 1, 2, 2, 0, 0, 1, 1, 1},   {1, 9, 9, 2, 3, 7, 7, 1, 1, 3, 3, 1, 1, 1},
    {2, 4, 4, 3, 2, 2, 2, 1, 1, 3, 3, 1, 1, 1},     {2, 5, 4, 6, 5, 2, 3, 5, 4, 1, 1, 1, 1, 1},
    {9, 1, 1, 70, 10, 1, 1, 1, 1, 0, 0, 1, 1, 1},   {20, 8, 8, 64, 96, 3, 3, 2, 2, 1, 1, 1, 1, 1},
    {1, 13, 12, 4, 4, 3, 3, 2, 3, 2, 3, 3, 2, 1},   {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {18, 5, 5, 136, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1}, {2, 9, 33, 40, 17, 5, 5, 1, 1, 2, 2, 1, 1, 1},
};
enum { SHAPES = sizeof list / sizeof *list };

/* Runs a pass on 1, 2 and 5 threads, demanding equal bits. */
static void run(const fixture *f, ms_conv_pass pass, ms_data out, int64_t n, ms_real *bias) {
  const ms_conv_desc *d = &f->d;
  const ms_conv_engine *e = d->weight == MS_BF16 ? &ms_conv_bf16 : &ms_conv_bf16x3;
  size_t room = e->workspace(d, pass), bytes = (size_t)n * row_width(out.dtype);
  ms_conv_args a = {.x = f->x, .weight = f->w, .y = f->g, .bias = bias, .density = -1};
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

static void check_shape(const shape *l, ms_dtype precision, ms_dtype type, ms_dtype real) {
  fixture f = make(l, type, real, real);
  f.d.weight = precision;
  sums s = multiply(&f);
  check_passes(&f, &s, real, real, run);
  drop_sums(&s);
  drop(&f);
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

/* Long sums of positive numbers, where a lost product would show: at most 4 roundings of float32 away on average. By the
** kernel for which bf16x3 is used; others round after each pair of products. */
static void test_exactness(void **state) {
  (void)state;
  if (ms_bf16_kernel_best()->level < 2)
    skip();
  const shape one = {2, 6, 6, 512, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1};
  fixture f = make(&one, MS_F32, MS_F32, MS_F32);
  for (int64_t i = 0; i < f.nx; i++)
    ((ms_real *)f.x.p)[i] = fabsf(((ms_real *)f.x.p)[i]);
  for (int64_t i = 0; i < f.nw; i++)
    ((ms_real *)f.w.p)[i] = fabsf(((ms_real *)f.w.p)[i]);
  sums s = multiply(&f);
  ms_data y = row_output(MS_F32, f.ny);
  run(&f, MS_CONV_FORWARD, y, f.ny, NULL);
  double error = 0;
  for (int64_t i = 0; i < f.ny; i++)
    error += fabs(row_get(y, i) - s.y[i]) / s.y[i] / (double)f.ny;
  assert_true(error < 4 * 6e-8);
  free(y.p);
  drop_sums(&s);
  drop(&f);
}

/* Operands are laid out for some images at a time: the workspace does not grow with the batch. */
static void test_workspace(void **state) {
  (void)state;
  const shape one = {64, 48, 48, 64, 128, 3, 3, 1, 1, 1, 1, 1, 1, 1};
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
