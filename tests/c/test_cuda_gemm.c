/* The CUDA row gemm beside the CPU row. */
#include "twin.h"

typedef struct sizes {
  int64_t batch, m, n, k;
} sizes;

static const sizes list[] = {{1, 1, 1, 1},  {1, 1, 33, 7},  {1, 7, 1, 33}, {2, 12, 32, 64}, {1, 13, 31, 65},
                             {3, 5, 17, 3}, {1, 33, 7, 64}, {5, 4, 3, 1},  {1, 30, 40, 2},  {2, 3, 129, 5},
                             {0, 2, 2, 2},  {1, 0, 3, 2},   {1, 2, 3, 0},  {2, 3, 2, 0}};
enum { SIZES = sizeof list / sizeof *list };

/* How the operands lie in memory. */
typedef struct layout {
  int ta, tb, gap;        /* transposed; extra elements behind every row */
  int shared_a, shared_b; /* one matrix for all of the batch */
} layout;

static int64_t pitch(int64_t rows, int64_t cols, int transposed, int gap) {
  return (transposed ? rows : cols) + gap;
}

static void one_case(const sizes *s, layout l, const ms_dtype *t, ms_real alpha, ms_real beta) {
  int64_t lda = pitch(s->m, s->k, l.ta, l.gap), ldb = pitch(s->k, s->n, l.tb, l.gap), ldc = s->n + l.gap;
  int64_t na = lda * (l.ta ? s->k : s->m), nb = ldb * (l.tb ? s->n : s->k), nc = ldc * s->m;
  ms_gemm g = {.batch = s->batch, .m = s->m, .n = s->n, .k = s->k, .alpha = alpha, .beta = beta, .ldc = ldc};
  ms_data a = row_data(t[0], 1, na * s->batch), b = row_data(t[1], 1, nb * s->batch);
  a.scale = t[0] == MS_SPIKE ? MS_R(0.3) : 1;
  b.scale = t[1] == MS_SPIKE ? MS_R(0.125) : 1;
  ms_data c = beta != 0 ? row_data(t[2], 1, nc * s->batch) : row_output(t[2], nc * s->batch);
  g.a_batch = l.shared_a ? 0 : na;
  g.b_batch = l.shared_b ? 0 : nb;
  g.c_batch = nc;
  g.a_row = l.ta ? 1 : lda;
  g.a_col = l.ta ? lda : 1;
  g.b_row = l.tb ? 1 : ldb;
  g.b_col = l.tb ? ldb : 1;
  ms_gemm d = g;
  d.a = data_to_device(a, na * s->batch);
  d.b = data_to_device(b, nb * s->batch);
  d.c = data_to_device(c, nc * s->batch);
  g.a = a;
  g.b = b;
  g.c = c;
  TWIN_OK(gpu->gemm(gpu_stream, &d));
  assert_int_equal(ms_cpu_gemm(NULL, &g), MS_OK);
  ms_data got = fetched(d.c, nc * s->batch);
  double size = fabs((double)alpha) * (double)s->k * (t[0] == MS_SPIKE || t[0] == MS_U8 ? 2 : 1) + fabs((double)beta);
  /* the columns between n and ldc too: nobody touched them */
  twin_close("gemm", got, c, nc * s->batch, t[2] == MS_BF16 ? 0 : size, t[2] == MS_BF16 ? 1. / 120 : 16 * ROW_EPS);
  free(a.p);
  free(b.p);
  free(c.p);
  free(got.p);
  twin_release(NULL);
}

static const ms_dtype reals[] = {MS_F32, MS_F32, MS_F32};

static void test_layouts(void **state) {
  (void)state;
  TWIN_NEEDED();
  for (int i = 0; i < SIZES; i++)
    for (int t = 0; t < 16; t++)
      one_case(&list[i], (layout){t & 1, t >> 1 & 1, t & 4 ? 3 : 0, t >> 3, 0}, reals, 1, 0);
  one_case(&list[3], (layout){0, 0, 0, 0, 1}, reals, 1, 0);
  one_case(&list[5], (layout){1, 1, 1, 1, 1}, reals, 1, 0);
}

static void test_types(void **state) {
  (void)state;
  TWIN_NEEDED();
  const ms_dtype types[] = {MS_F32, MS_BF16, MS_SPIKE, MS_U8};
  for (int a = 0; a < 4; a++)
    for (int b = 0; b < 4; b++)
      for (int t = 0; t < 8; t++) {
        layout l = {t & 1, t >> 1 & 1, t & 4 ? 5 : 0, 0, 0};
        one_case(&list[3], l, (const ms_dtype[]){types[a], types[b], MS_F32}, MS_R(1.5), 0);
        one_case(&list[6], l, (const ms_dtype[]){types[a], types[b], MS_F32}, 1, 1);
      }
}

/* Results rounded to bfloat16: of positive terms, so that a rounding is small beside the sum. */
static void test_narrow(void **state) {
  (void)state;
  TWIN_NEEDED();
  const ms_dtype types[] = {MS_SPIKE, MS_U8};
  for (int a = 0; a < 2; a++)
    for (int b = 0; b < 2; b++)
      for (int i = 2; i < SIZES; i++)
        one_case(&list[i], (layout){a, b, 2, 0, 0}, (const ms_dtype[]){types[a], types[b], MS_BF16}, 1, 0);
}

/* Float32 operands and a bfloat16 result: equal to the rounded exact sums of few small integers. */
static void test_rounding(void **state) {
  (void)state;
  TWIN_NEEDED();
  ms_real a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, -1, 2, 0.5f, 3, 7};
  ms_bf16 c[4] = {ms_bf16_from(8), ms_bf16_from(8), ms_bf16_from(8), ms_bf16_from(8)};
  const float exact[4] = {1 + 4 + 9, -1 + 1 + 21, 4 + 10 + 18, -4 + 2.5f + 42};
  ms_gemm g = {.batch = 1, .m = 2, .n = 2, .k = 3, .alpha = 1, .beta = MS_R(0.5), .ldc = 2};
  g.a = data_to_device((ms_data){a, MS_F32, 1}, 6);
  g.b = data_to_device((ms_data){b, MS_F32, 1}, 6);
  g.c = data_to_device((ms_data){c, MS_BF16, 1}, 4);
  g.a_row = 3;
  g.b_row = 2;
  g.a_col = g.b_col = 1;
  TWIN_OK(gpu->gemm(gpu_stream, &g));
  ms_data got = fetched(g.c, 4);
  for (int i = 0; i < 4; i++)
    assert_true(row_get(got, i) == (double)ms_bf16_to(ms_bf16_from(exact[i] + 4)));
  free(got.p);
}

static void test_alpha_beta(void **state) {
  (void)state;
  TWIN_NEEDED();
  for (int i = 0; i < SIZES; i++) {
    one_case(&list[i], (layout){0, 0, 3, 0, 0}, reals, MS_R(-0.5), 1);
    one_case(&list[i], (layout){1, 1, 0, 0, 0}, (const ms_dtype[]){MS_F32, MS_BF16, MS_F32}, 2, MS_R(0.25));
  }
}

/* More matrices than the library takes at a time. */
static void test_batch(void **state) {
  (void)state;
  TWIN_NEEDED();
  const sizes many = {33000, 2, 1, 2};
  for (int shared = 0; shared < 2; shared++)
    one_case(&many, (layout){0, 0, 0, 0, shared}, reals, 1, 0);
}

/* More shapes than a stream remembers, each of them twice. */
static void test_shapes(void **state) {
  (void)state;
  TWIN_NEEDED();
  for (int i = 0; i < 2 * 560; i++) {
    const sizes z = {1, 1 + i % 28, 1 + i / 28 % 20, 2};
    one_case(&z, (layout){0, 0, 0, 0, 0}, reals, 1, 0);
  }
}

static ms_gemm square(float *c) {
  float a[4] = {1, 2, 3, 4};
  ms_gemm g = {
      .batch = 1, .m = 2, .n = 2, .k = 2, .alpha = 1, .a_row = 2, .a_col = 1, .b_row = 2, .b_col = 1, .ldc = 2};
  g.a = g.b = (ms_data){to_device(a, sizeof a), MS_F32, 1};
  g.c = (ms_data){to_device(c, 4 * sizeof *c), MS_F32, 1};
  return g;
}

/* The first product of a stream cannot be recorded, which leaves no damage; one of a new shape can. */
static void test_recorded(void **state) {
  (void)state;
  TWIN_NEEDED();
  ms_stream *first = gpu_stream, *fresh;
  ms_graph *graph = NULL;
  float c[4] = {0};
  TWIN_OK(gpu->stream_create(0, &fresh));
  gpu_stream = fresh;
  ms_gemm g = square(c), row = g;
  row.m = 1;
  TWIN_OK(gpu->synchronize(fresh));
  TWIN_OK(gpu->capture_begin(fresh));
  assert_int_equal(gpu->gemm(fresh, &g), MS_EBACKEND);
  assert_non_null(strstr(gpu->error_text(fresh), "while a step is captured"));
  TWIN_OK(gpu->capture_end(fresh, &graph));
  gpu->graph_destroy(graph);
  TWIN_OK(gpu->gemm(fresh, &row));
  TWIN_OK(gpu->synchronize(fresh));
  TWIN_OK(gpu->capture_begin(fresh));
  TWIN_OK(gpu->gemm(fresh, &g));
  TWIN_OK(gpu->capture_end(fresh, &graph));
  fetch(c, g.c.p, sizeof c);
  assert_true(c[0] == 7 && c[1] == 10 && c[2] == 0 && c[3] == 0);
  TWIN_OK(gpu->graph_launch(fresh, graph));
  fetch(c, g.c.p, sizeof c);
  assert_true(c[0] == 7 && c[1] == 10 && c[2] == 15 && c[3] == 22);
  gpu->graph_destroy(graph);
  twin_release(NULL);
  gpu_stream = first;
  gpu->stream_destroy(fresh);
}

/* A failure inside the library is named, and says what became of the device. */
static void test_failure(void **state) {
  (void)state;
  TWIN_NEEDED();
  int (*fault)(const char *, long long);
  *(void **)&fault = dlsym(gpu_library, "ms_emu_fail");
  if (!fault)
    skip();
  float c[4] = {0};
  ms_gemm g = square(c);
  fault("library", 1);
  assert_int_equal(gpu->gemm(gpu_stream, &g), MS_EBACKEND);
  const char *text = gpu->error_text(gpu_stream);
  assert_non_null(strstr(text, "cuBLASLt: cublasLtMatmul: "));
  assert_non_null(strstr(text, "; the device is usable again"));
  TWIN_OK(gpu->gemm(gpu_stream, &g));
}

/* TF32 is off at the start; when it is on, 1 + 2^-12 is 1. */
static void test_tf32(void **state) {
  (void)state;
  TWIN_NEEDED();
  float a[16] = {0}, b[16] = {0};
  for (int i = 0; i < 4; i++) {
    a[5 * i] = 1 + 1.0f / 4096;
    b[5 * i] = 1;
  }
  ms_gemm g = {
      .batch = 1, .m = 4, .n = 4, .k = 4, .alpha = 1, .a_row = 4, .a_col = 1, .b_row = 4, .b_col = 1, .ldc = 4};
  g.a = (ms_data){to_device(a, sizeof a), MS_F32, 1};
  g.b = (ms_data){to_device(b, sizeof b), MS_F32, 1};
  g.c = (ms_data){on_device(sizeof a), MS_F32, 1};
  assert_int_equal(gpu->tf32(-1), 0);
  for (int on = 0; on < 2; on++) {
    gpu->tf32(on);
    TWIN_OK(gpu->gemm(gpu_stream, &g));
    float got[16];
    fetch(got, g.c.p, sizeof got);
    assert_true(got[0] == (on ? 1 : a[0]) && got[15] == got[0] && got[1] == 0);
  }
  assert_int_equal(gpu->tf32(0), 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_layouts, twin_release),    cmocka_unit_test_teardown(test_types, twin_release),
      cmocka_unit_test_teardown(test_narrow, twin_release),     cmocka_unit_test_teardown(test_rounding, twin_release),
      cmocka_unit_test_teardown(test_alpha_beta, twin_release), cmocka_unit_test_teardown(test_tf32, twin_release),
      cmocka_unit_test_teardown(test_batch, twin_release),      cmocka_unit_test_teardown(test_recorded, twin_release),
      cmocka_unit_test_teardown(test_shapes, twin_release),     cmocka_unit_test_teardown(test_failure, twin_release)};
  return cmocka_run_group_tests(tests, twin_setup, twin_teardown);
}
