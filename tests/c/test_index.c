#include "typed.h"

/* ---- gather, scatter_add ---- */

static void check_gather(int64_t outer, int64_t n, int64_t m, int64_t inner) {
  static const int widths[] = {1, 2, 4, 8};
  int64_t count = outer * m * inner, bad = 0;
  ms_data index = new_data(MS_I64, count);
  int64_t *j = index.p;
  for (int64_t i = 0; i < count; i++)
    j[i] = (int64_t)(chance() * (double)n);
  for (int w = 0; w < 4; w++) {
    size_t width = (size_t)widths[w];
    char *x = malloc((size_t)(outer * n * inner) * width + 1), *y = malloc((size_t)count * width + 1);
    assert_true(x && y);
    for (size_t i = 0; i < (size_t)(outer * n * inner) * width; i++)
      x[i] = (char)(int)(chance() * 256);
    assert_int_equal(ms_cpu_gather(NULL, y, x, j, outer, n, m, inner, widths[w], &bad), MS_OK);
    for (int64_t i = 0; i < count; i++) {
      int64_t from = (i / (m * inner) * n + j[i]) * inner + i % inner;
      assert_memory_equal(y + (size_t)i * width, x + (size_t)from * width, width);
    }
    free(x);
    free(y);
  }
  assert_true(bad == 0);
  ms_data g = random_data(MS_F32, count, -1, 1), out = random_data(MS_F32, outer * n * inner, -1, 1);
  double *want = malloc((size_t)(outer * n * inner + 1) * sizeof *want);
  assert_non_null(want);
  for (int64_t i = 0; i < outer * n * inner; i++)
    want[i] = read_at(out, i);
  for (int64_t i = 0; i < count; i++)
    want[(i / (m * inner) * n + j[i]) * inner + i % inner] += read_at(g, i);
  assert_int_equal(ms_cpu_scatter_add(NULL, out.p, g.p, j, outer, n, m, inner), MS_OK);
  for (int64_t i = 0; i < outer * n * inner; i++)
    assert_near(read_at(out, i), want[i], 100 * TOLERANCE);
  free(want);
  free(index.p);
  free(g.p);
  free(out.p);
}

static void test_gather(void **state) {
  (void)state;
  check_gather(1, 5, 7, 1);
  check_gather(3, 4, 2, 5);
  check_gather(1, 10, 300, 1030);
  check_gather(70, 3, 1, 33);
  check_gather(2, 6, 0, 4);
  check_gather(0, 6, 3, 4);
}

static void test_bad_indices_are_reported(void **state) {
  (void)state;
  ms_real x[3] = {1, 2, 3}, y[3];
  for (int k = 0; k < 3; k++) {
    int64_t wrong[] = {-1, 3, INT64_MIN}, index[3] = {0, wrong[k], 2}, bad = 0;
    ms_real sum[3] = {0};
    assert_int_equal(ms_cpu_gather(NULL, y, x, index, 1, 3, 3, 1, sizeof(ms_real), &bad), MS_OK);
    assert_true(bad == 1 && y[0] == 1 && y[1] == 0 && y[2] == 3);
    ms_cpu_scatter_add(NULL, sum, x, index, 1, 3, 3, 1);
    assert_true(sum[0] == 1 && sum[1] == 0 && sum[2] == 3);
  }
}

/* ---- topk ---- */

/* Whether element i of x comes before element j: larger (or smaller) first, NaN largest, then by index. */
static int comes_before(const ms_real *x, int64_t i, int64_t j, int largest) {
  double a = x[i] != x[i] ? INFINITY : x[i], b = x[j] != x[j] ? INFINITY : x[j];
  int a_nan = x[i] != x[i], b_nan = x[j] != x[j];
  if (a_nan != b_nan)
    return largest ? a_nan : b_nan;
  if (a != b)
    return largest ? a > b : a < b;
  return i < j;
}

static void check_topk(int64_t rows, int64_t n, int64_t k, int values, int largest) {
  ms_data x = new_data(MS_F32, rows * n), value = new_data(MS_F32, rows * k), index = new_data(MS_I64, rows * k);
  for (int64_t i = 0; i < rows * n; i++)
    write_at(x, i, chance() < 0.02 ? NAN : floor(chance() * values));
  assert_int_equal(ms_cpu_topk(NULL, value.p, index.p, x.p, rows, n, k, largest), MS_OK);
  for (int64_t r = 0; r < rows; r++) {
    const ms_real *row = (ms_real *)x.p + r * n;
    const int64_t *got = (int64_t *)index.p + r * k;
    for (int64_t i = 0; i < k; i++) { /* an element's rank is the number of those before it */
      int64_t rank = 0;
      assert_true(got[i] >= 0 && got[i] < n);
      for (int64_t j = 0; j < n; j++)
        rank += comes_before(row, j, got[i], largest);
      assert_int_equal(rank, i);
      assert_near(read_at(value, r * k + i), row[got[i]], 0);
    }
  }
  free(x.p);
  free(value.p);
  free(index.p);
}

static void test_topk(void **state) {
  (void)state;
  static const int64_t sizes[][3] = {{1, 1, 1},   {3, 7, 3},  {5, 33, 33},  {2, 1025, 5},
                                     {40, 10, 0}, {0, 10, 2}, {1, 300, 299}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int values = 1; values < 10000; values *= 10)
      for (int largest = 0; largest < 2; largest++)
        check_topk(sizes[i][0], sizes[i][1], sizes[i][2], values, largest);
}

/* ---- log_softmax ---- */

static void check_softmax(int64_t rows, int64_t n, double spread) {
  ms_data x = random_data(MS_F32, rows * n, -spread, spread), y = new_data(MS_F32, rows * n);
  ms_data g = random_data(MS_F32, rows * n, -1, 1), dx = new_data(MS_F32, rows * n);
  assert_int_equal(ms_cpu_log_softmax(NULL, y.p, x.p, rows, n), MS_OK);
  assert_int_equal(ms_cpu_log_softmax_grad(NULL, dx.p, g.p, y.p, rows, n), MS_OK);
  for (int64_t r = 0; r < rows; r++) {
    double most = -INFINITY, sum = 0, total = 0;
    for (int64_t i = r * n; i < (r + 1) * n; i++)
      most = fmax(most, read_at(x, i));
    for (int64_t i = r * n; i < (r + 1) * n; i++) {
      sum += exp(read_at(x, i) - most);
      total += read_at(g, i);
    }
    for (int64_t i = r * n; i < (r + 1) * n; i++) {
      double want = read_at(x, i) - most - log(sum);
      assert_near(read_at(y, i), want, TOLERANCE);
      assert_near(read_at(dx, i), read_at(g, i) - exp(want) * total, 20 * TOLERANCE);
    }
  }
  ms_cpu_log_softmax(NULL, x.p, x.p, rows, n); /* in place */
  assert_memory_equal(x.p, y.p, (size_t)(rows * n) * sizeof(ms_real));
  free(x.p);
  free(y.p);
  free(g.p);
  free(dx.p);
}

static void test_log_softmax(void **state) {
  (void)state;
  check_softmax(1, 1, 3);
  check_softmax(7, 10, 3);
  check_softmax(3, 1025, 500);
  check_softmax(1000, 100, 30);
  check_softmax(0, 10, 3);
  check_softmax(4, 0, 3);
  ms_real x[3] = {1, MS_R(NAN), 2}, y[3];
  ms_cpu_log_softmax(NULL, y, x, 1, 3);
  assert_true(y[0] != y[0] && y[2] != y[2]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_gather),
      cmocka_unit_test(test_bad_indices_are_reported),
      cmocka_unit_test(test_topk),
      cmocka_unit_test(test_log_softmax),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
