/* The row gemm against plain loops in double. */
#include "rowtest.h"

typedef struct sizes {
  int64_t batch, m, n, k;
} sizes;

/* Around every tile and block border: 12 rows, 16 or 32 columns, blocks of 128 or 256 of k, strips of 96 rows. */
static const sizes list[] = {{1, 1, 1, 1},     {1, 1, 33, 7},     {1, 7, 1, 33},    {2, 12, 32, 64},  {1, 13, 31, 65},
                             {3, 5, 17, 3},    {1, 33, 7, 257},   {1, 100, 65, 9},  {1, 97, 40, 300}, {1, 3, 300, 20},
                             {1, 400, 64, 70}, {1, 30, 290, 600}, {2, 203, 129, 1}, {1, 64, 10, 1000}};

static int64_t operand_size(const sizes *s, int64_t rows, int64_t cols) {
  return s->batch * rows * cols;
}

static void expect_product(const ms_gemm *g, ms_data old) {
  for (int64_t b = 0; b < g->batch; b++)
    for (int64_t i = 0; i < g->m; i++)
      for (int64_t j = 0; j < g->n; j++) {
        int64_t at = b * g->c_batch + i * g->ldc + j;
        double sum = 0, size = 0;
        for (int64_t p = 0; p < g->k; p++) {
          double term = row_get(g->a, b * g->a_batch + i * g->a_row + p * g->a_col) *
                        row_get(g->b, b * g->b_batch + p * g->b_row + j * g->b_col);
          sum += term;
          size += fabs(term);
        }
        double before = g->beta != 0 ? (double)g->beta * row_get(old, at) : 0;
        row_check("gemm", g->c, at, (double)g->alpha * sum + before, size + fabs(before) + 1e-3);
      }
}

static void one_case(const sizes *s, int ta, int tb, ms_dtype a, ms_dtype b, ms_dtype c, ms_real alpha, ms_real beta) {
  int64_t ldc = s->n + 3, csize = s->batch * s->m * ldc;
  ms_gemm g = {.batch = s->batch, .m = s->m, .n = s->n, .k = s->k, .alpha = alpha, .beta = beta, .ldc = ldc};
  g.a = row_data(a, MS_R(0.25), operand_size(s, s->m, s->k));
  g.b = row_data(b, MS_R(0.5), operand_size(s, s->k, s->n));
  g.c = beta != 0 ? row_data(c, 1, csize) : row_output(c, csize);
  if (a != MS_SPIKE && a != MS_U8)
    g.a.scale = 1;
  g.a_batch = s->m * s->k;
  g.b_batch = s->k * s->n;
  g.c_batch = s->m * ldc;
  g.a_row = ta ? 1 : s->k;
  g.a_col = ta ? s->m : 1;
  g.b_row = tb ? 1 : s->n;
  g.b_col = tb ? s->k : 1;
  size_t bytes = (size_t)csize * row_width(c);
  ms_data old = row_output(c, csize), first = row_output(c, csize);
  memcpy(old.p, g.c.p, bytes);
  ms_cpu_set_threads(1);
  assert_int_equal(ms_cpu_gemm(NULL, &g), MS_OK);
  expect_product(&g, old);
  memcpy(first.p, g.c.p, bytes);
  for (int threads = 2; threads <= 5; threads += 3) {
    memcpy(g.c.p, old.p, bytes);
    ms_cpu_set_threads(threads);
    assert_int_equal(ms_cpu_gemm(NULL, &g), MS_OK);
    assert_memory_equal(g.c.p, first.p, bytes); /* also: the columns between n and ldc are untouched */
  }
  ms_cpu_set_threads(0);
  free(g.a.p);
  free(g.b.p);
  free(g.c.p);
  free(old.p);
  free(first.p);
}

static void test_layouts(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof list / sizeof *list; i++)
    for (int t = 0; t < 4; t++)
      one_case(&list[i], t & 1, t >> 1, MS_F32, MS_F32, MS_F32, 1, 0);
}

static void test_types(void **state) {
  (void)state;
  const ms_dtype types[] = {MS_F32, MS_BF16, MS_SPIKE, MS_U8};
  for (int a = 0; a < 4; a++)
    for (int b = 0; b < 4; b++)
      for (int t = 0; t < 4; t++) {
        one_case(&list[4], t & 1, t >> 1, types[a], types[b], MS_F32, 1, 0);
        one_case(&list[6], t & 1, t >> 1, types[a], types[b], MS_BF16, 1, 0);
      }
}

static void test_alpha_beta(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
    one_case(&list[i], 0, 0, MS_F32, MS_F32, MS_F32, MS_R(-0.5), 1);
    one_case(&list[i], 1, 1, MS_F32, MS_BF16, MS_BF16, 2, MS_R(0.25));
  }
}

/* beta 0 replaces whatever lies in c, k 0 makes zeros, an empty product touches nothing. */
static void test_edges(void **state) {
  (void)state;
  ms_real a[4] = {1, 2, 3, 4}, c[4] = {NAN, NAN, NAN, NAN};
  ms_gemm g = {.batch = 1,
               .m = 2,
               .n = 2,
               .k = 2,
               .a = {a, MS_F32, 1},
               .b = {a, MS_F32, 1},
               .c = {c, MS_F32, 1},
               .a_row = 2,
               .a_col = 1,
               .b_row = 2,
               .b_col = 1,
               .ldc = 2,
               .alpha = 1};
  assert_int_equal(ms_cpu_gemm(NULL, &g), MS_OK);
  assert_true(c[0] == 7 && c[1] == 10 && c[2] == 15 && c[3] == 22);
  g.k = 0;
  assert_int_equal(ms_cpu_gemm(NULL, &g), MS_OK);
  assert_true(c[0] == 0 && c[3] == 0);
  c[0] = 5;
  g.m = 0;
  assert_int_equal(ms_cpu_gemm(NULL, &g), MS_OK);
  assert_true(c[0] == 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_layouts), cmocka_unit_test(test_types),
                                     cmocka_unit_test(test_alpha_beta), cmocka_unit_test(test_edges)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
