#include "typed.h"
#include "../../kernels/math/philox.h"

static void philox_is(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1, const uint32_t *w) {
  ms_philox4 c = {{c0, c1, c2, c3}};
  assert_memory_equal(ms_philox(c, k0, k1).w, w, 16);
}

/* The known answers published with Random123. */
static void test_known_answers(void **state) {
  (void)state;
  uint32_t m = 0xffffffffu;
  const uint32_t zeros[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  const uint32_t ones[] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
  const uint32_t pi[] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
  philox_is(0, 0, 0, 0, 0, 0, zeros);
  philox_is(m, m, m, m, m, m, ones);
  philox_is(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, pi);
}

/* Distance in units of the last place of a float near `right`. */
static double ulps(float got, double right) {
  int e;
  frexp(right, &e);
  return fabs((double)got - right) / ldexp(1, e - 24);
}

static void test_own_functions_are_accurate(void **state) {
  (void)state;
  double worst_log = 0, worst_turn = 0;
  for (int i = 0; i < 2000000; i++) {
    float x = (float)ldexp(0.5 + 0.5 * chance(), -(i % 33));
    worst_log = fmax(worst_log, ulps(ms_random_log(x), log((double)x)));
    uint32_t w = (uint32_t)(chance() * 0x1p32);
    float c, s;
    ms_random_turn(w, &c, &s);
    double angle = (double)w * 0x1p-32 * 6.283185307179586477;
    worst_turn = fmax(worst_turn, fmax(fabs(c - cos(angle)), fabs(s - sin(angle))));
  }
  print_message("log: %.2f ulp, sine and cosine: %.2g absolute\n", worst_log, worst_turn);
  assert_true(worst_log < 2);
  assert_true(worst_turn < 1.2e-7);
  float c, s;
  ms_random_turn(0, &c, &s);
  assert_true(c == 1 && s == 0);
  ms_random_turn(0x40000000u, &c, &s);
  assert_true(c == 0 && s == 1);
  ms_random_turn(0x80000000u, &c, &s);
  assert_true(c == -1 && s == 0);
  ms_random_turn(0xc0000000u, &c, &s);
  assert_true(c == 0 && s == -1);
  assert_true(ms_random_log(1) == 0);
}

static ms_loop flat(ms_data out, int64_t n) {
  ms_loop l = {.ndim = 1, .size = {n}, .out = {.data = out, .stride = {1}}};
  return l;
}

/* The float builds and the double build must give these very bits. */
static void test_same_bits_in_every_build(void **state) {
  (void)state;
  enum { N = 1000 };
  ms_data out = new_data(MS_F32, N);
  ms_loop l = flat(out, N);
  ms_philox_key key = {0x123456789abcdefu, 5, NULL};
  uint32_t sum[2] = {0, 0};
  for (int kind = 0; kind < 2; kind++) {
    ms_cpu_random(NULL, kind ? MS_RANDOM_NORMAL : MS_RANDOM_UNIFORM, &l, key, 0, 1);
    for (int i = 0; i < N; i++) {
      float x = (float)read_at(out, i);
      uint32_t u;
      assert_true(x == read_at(out, i));
      memcpy(&u, &x, 4);
      sum[kind] = sum[kind] * 31 + u;
    }
  }
  free(out.p);
  assert_int_equal(sum[0], 3777602739u);
  assert_int_equal(sum[1], 189665462u);
}

static void test_elements_follow_the_contract(void **state) {
  (void)state;
  static const int64_t lengths[] = {0, 1, 3, 7, 33, 1025, 20001};
  for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
    int64_t n = lengths[k];
    ms_data out = new_data(MS_F32, n), whole = new_data(MS_I64, n);
    ms_loop l = flat(out, n), i64 = flat(whole, n);
    ms_philox_key key = {77, 1000, NULL};
    ms_cpu_random(NULL, MS_RANDOM_UNIFORM, &l, key, -2, 3);
    ms_cpu_random(NULL, MS_RANDOM_BITS, &i64, key, -5, 12);
    for (int64_t i = 0; i < n; i++) {
      uint64_t at = key.offset + (uint64_t)i / 4;
      uint32_t low = ms_philox_block(key.key, at, 0).w[i % 4], high = ms_philox_block(key.key, at, 1).w[i % 4];
      assert_near(read_at(out, i), MS_FN(fma)(5, MS_R(ms_random_uniform(low)), -2), 0);
      int64_t want = -5 + (int64_t)(((uint64_t)high << 32 | low) % 17);
      assert_true(((int64_t *)whole.p)[i] == want);
    }
    free(out.p);
    free(whole.p);
  }
}

/* Element i of a strided loop is element i of a dense one. */
static void test_order_is_logical(void **state) {
  (void)state;
  enum { A = 9, B = 5, C = 31, N = A * B * C };
  for (int kind = 0; kind <= MS_RANDOM_BITS; kind++)
    for (int t = 0; t < MS_DTYPE_COUNT; t++) {
      ms_data dense = new_data((ms_dtype)t, N), other = new_data((ms_dtype)t, N);
      ms_loop l = flat(dense, N), p = {.ndim = 3, .size = {A, B, C}, .out = {other, {1, A * C, A}}};
      double a = kind == MS_RANDOM_BITS ? 0 : 0.5, b = kind == MS_RANDOM_BITS ? 9 : 1;
      ms_philox_key key = {3, 4, NULL};
      ms_cpu_random(NULL, (ms_random_kind)kind, &l, key, a, b);
      ms_cpu_random(NULL, (ms_random_kind)kind, &p, key, a, b);
      for (int i = 0; i < N; i++)
        assert_near(read_at(other, offset_at(3, p.size, p.out.stride, i)), read_at(dense, i), 0);
      free(dense.p);
      free(other.p);
    }
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Kolmogorov-Smirnov distance times sqrt(n); above 1.95 once in a thousand times by chance. */
static double distance(ms_data d, int n, int normal) {
  double *x = malloc((size_t)n * sizeof *x), worst = 0;
  assert_non_null(x);
  for (int i = 0; i < n; i++)
    x[i] = read_at(d, i);
  qsort(x, (size_t)n, sizeof *x, by_value);
  for (int i = 0; i < n; i++) {
    double p = normal ? 0.5 * erfc(-x[i] / sqrt(2)) : x[i];
    worst = fmax(worst, fmax(fabs(p - (double)i / n), fabs(p - (i + 1.0) / n)));
  }
  free(x);
  return worst * sqrt(n);
}

static void test_distributions(void **state) {
  (void)state;
  enum { N = 1000000 };
  ms_data out = new_data(MS_F32, N);
  ms_loop l = flat(out, N);
  ms_cpu_random(NULL, MS_RANDOM_UNIFORM, &l, (ms_philox_key){1, 0, NULL}, 0, 1);
  assert_true(distance(out, N, 0) < 1.95);
  double most = 0;
  for (int i = 0; i < N; i++)
    most = fmax(most, read_at(out, i));
  assert_true(most < 1);
  ms_cpu_random(NULL, MS_RANDOM_NORMAL, &l, (ms_philox_key){2, 0, NULL}, 0, 1);
  assert_true(distance(out, N, 1) < 1.95);
  double m[5] = {0}, neighbours = 0;
  for (int i = 0; i < N; i++) {
    double z = read_at(out, i);
    for (int k = 1; k < 5; k++)
      m[k] += pow(z, k) / N;
    if (i % 2)
      neighbours += z * read_at(out, i - 1) / (N / 2);
  }
  assert_true(fabs(m[1]) < 0.004 && fabs(m[2] - 1) < 0.006 && fabs(m[3]) < 0.012 && fabs(m[4] - 3) < 0.05);
  assert_true(fabs(neighbours) < 0.006);
  ms_cpu_random(NULL, MS_RANDOM_NORMAL, &l, (ms_philox_key){2, 0, NULL}, 10, 0.5);
  double mean = 0;
  for (int i = 0; i < N; i++)
    mean += read_at(out, i) / N;
  assert_true(fabs(mean - 10) < 0.002);
  free(out.p);
}

static void test_bernoulli(void **state) {
  (void)state;
  enum { N = 100000 };
  ms_data out = new_data(MS_U8, N);
  ms_loop l = flat(out, N);
  double p[] = {0, 0.2, 0.5, 1};
  for (int k = 0; k < 4; k++) {
    ms_cpu_random(NULL, MS_RANDOM_BERNOULLI, &l, (ms_philox_key){9, 0, NULL}, p[k], 3);
    double ones = 0;
    for (int i = 0; i < N; i++) {
      double x = read_at(out, i);
      assert_true(x == 0 || x == 3);
      ones += x / 3;
    }
    assert_true(fabs(ones / N - p[k]) <= 4 * sqrt(p[k] * (1 - p[k]) / N));
  }
  free(out.p);
}

static void test_wide_integers(void **state) {
  (void)state;
  enum { N = 4096 };
  ms_data out = new_data(MS_I64, N);
  ms_loop l = flat(out, N);
  double span = 0x1p52, mean = 0;
  ms_cpu_random(NULL, MS_RANDOM_BITS, &l, (ms_philox_key){4, 0, NULL}, -span, span);
  for (int i = 0; i < N; i++) {
    double x = read_at(out, i);
    assert_true(x >= -span && x < span);
    mean += x / span / N;
  }
  assert_true(fabs(mean) < 4 / sqrt(3.0 * N));
  ms_cpu_random(NULL, MS_RANDOM_BITS, &l, (ms_philox_key){4, 0, NULL}, 6, 6);
  assert_true(read_at(out, N - 1) == 6);
  free(out.p);
}

static void test_threads_change_nothing(void **state) {
  (void)state;
  enum { N = 200003 };
  ms_data one = new_data(MS_F32, N), five = new_data(MS_F32, N);
  ms_loop l = flat(one, N);
  ms_cpu_set_threads(1);
  ms_cpu_random(NULL, MS_RANDOM_NORMAL, &l, (ms_philox_key){8, 3, NULL}, 0, 1);
  l.out.data = five;
  ms_cpu_set_threads(5);
  ms_cpu_random(NULL, MS_RANDOM_NORMAL, &l, (ms_philox_key){8, 3, NULL}, 0, 1);
  ms_cpu_set_threads(0);
  assert_memory_equal(one.p, five.p, N * sizeof(ms_real));
  free(one.p);
  free(five.p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_known_answers),
      cmocka_unit_test(test_own_functions_are_accurate),
      cmocka_unit_test(test_same_bits_in_every_build),
      cmocka_unit_test(test_elements_follow_the_contract),
      cmocka_unit_test(test_order_is_logical),
      cmocka_unit_test(test_distributions),
      cmocka_unit_test(test_bernoulli),
      cmocka_unit_test(test_wide_integers),
      cmocka_unit_test(test_threads_change_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
