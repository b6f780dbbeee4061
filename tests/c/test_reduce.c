#include "reducetest.h"
#include "typed.h"

/* What a reduction must give for one element of its output. */
static double reference(ms_reduce_op op, const setup *s, int64_t kept) {
  const ms_reduction *r = &s->r;
  int64_t base = offset_at(r->nkept, r->kept, r->in_kept, kept), at = 0;
  double acc = op == MS_REDUCE_prod || op == MS_REDUCE_all, best = NAN;
  for (int64_t i = 0; i < s->nred; i++) {
    double x = read_at(r->in, base + offset_at(r->nred, r->red, r->in_red, i));
    int first = i == 0, up = op == MS_REDUCE_max || op == MS_REDUCE_argmax;
    if (first || (x != x && best == best) || (up ? x > best : x < best)) {
      best = x;
      at = i;
    }
    acc = op == MS_REDUCE_sum    ? acc + x
          : op == MS_REDUCE_prod ? acc * x
          : op == MS_REDUCE_any  ? acc || x != 0
                                 : acc && x != 0;
  }
  switch (op) {
  case MS_REDUCE_max:
  case MS_REDUCE_min:
    return best;
  case MS_REDUCE_argmax:
  case MS_REDUCE_argmin:
    return (double)at;
  default:
    return acc;
  }
}

static ms_dtype out_type(ms_reduce_op op, ms_dtype t) {
  int integer = t == MS_U8 || t == MS_I64;
  if (op == MS_REDUCE_argmax || op == MS_REDUCE_argmin)
    return MS_I64;
  if (op == MS_REDUCE_any || op == MS_REDUCE_all)
    return MS_U8;
  if (op == MS_REDUCE_max || op == MS_REDUCE_min)
    return t;
  return integer ? MS_I64 : MS_F32;
}

static void check(ms_reduce_op op, ms_dtype t, int ndim, const int64_t *size, const int *order, unsigned reduced) {
  setup s = setup_of(ndim, size, order, reduced, 0);
  double wide = op == MS_REDUCE_prod ? 1.2 : 4;
  s.r.in = random_data(t, s.extent, op == MS_REDUCE_prod ? 0.8 : -4, wide);
  s.r.out = new_data(out_type(op, t), s.nkept);
  if (op == MS_REDUCE_prod && t != MS_F32 && t != MS_BF16)
    for (int64_t i = 0; i < s.extent; i++) /* small factors: an exact product */
      write_at(s.r.in, i, i % 29989 == 5 ? 2 : 1);
  if (op == MS_REDUCE_all || op == MS_REDUCE_any)
    for (int64_t i = 0; i < s.extent; i++)
      write_at(s.r.in, i, op == MS_REDUCE_all ? chance() > 0.02 : chance() < 0.02);
  if (s.nred == 0 && op != MS_REDUCE_sum && op != MS_REDUCE_prod && op != MS_REDUCE_any && op != MS_REDUCE_all)
    goto done;
  assert_int_equal(ms_cpu_reduce(NULL, op, &s.r), MS_OK);
  for (int64_t i = 0; i < s.nkept; i++) {
    double want = reference(op, &s, i), tolerance = op == MS_REDUCE_sum || op == MS_REDUCE_prod ? TOLERANCE : 0;
    if (!near_to(read_at(s.r.out, i), want, tolerance))
      fail_msg("op %d, type %d, mask %u, element %lld: %.17g, expected %.17g", op, t, reduced, (long long)i,
               read_at(s.r.out, i), want);
  }
done:
  free(s.r.in.p);
  free(s.r.out.p);
}

static void for_all(int ndim, const int64_t *size, const int *order, unsigned reduced) {
  for (int op = 0; op < MS_REDUCE_COUNT; op++)
    for (int t = 0; t < MS_DTYPE_COUNT; t++)
      check((ms_reduce_op)op, (ms_dtype)t, ndim, size, order, reduced);
}

static void test_one_dimension(void **state) {
  (void)state;
  static const int64_t lengths[] = {0, 1, 7, 33, 511, 512, 513, 1025, 70001};
  for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
    int order[] = {0};
    for_all(1, &lengths[k], order, 1);
    for_all(1, &lengths[k], order, 0);
  }
}

static void test_layouts(void **state) {
  (void)state;
  static const int64_t sizes[][4] = {{3, 5, 7, 4}, {2, 1, 33, 9}, {1, 40, 3, 20}, {4, 0, 3, 2}, {17, 2, 2, 31}};
  static const int orders[][4] = {{0, 1, 2, 3}, {0, 2, 3, 1}, {3, 2, 1, 0}, {1, 3, 0, 2}};
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++)
      for (unsigned mask = 0; mask < 16; mask++)
        for_all(4, sizes[k], orders[o], mask);
}

/* Bias gradients, and outputs wider than a block. */
static void test_tall_and_wide(void **state) {
  (void)state;
  static const int64_t sizes[][2] = {{5000, 64}, {3000, 3}, {40, 1500}, {9000, 10}, {700, 1025}};
  int order[] = {0, 1};
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
    for (unsigned mask = 1; mask < 4; mask++)
      for_all(2, sizes[k], order, mask);
}

static void test_repeated_elements(void **state) {
  (void)state;
  ms_real x[3] = {1, 2, 4}, y[1];
  ms_reduction r = {.nred = 2, .red = {1000, 3}, .in = {x, MS_F32, 1}, .out = {y, MS_F32, 1}, .in_red = {0, 1}};
  r.factor = MS_R(0.5);
  ms_cpu_reduce(NULL, MS_REDUCE_sum, &r);
  assert_near(y[0], 3500, 0);
}

static void test_long_sums_are_accurate(void **state) {
  (void)state;
  enum { N = 10000000 };
  ms_data in = new_data(MS_F32, N);
  ms_real *x = in.p, y;
  for (int i = 0; i < N; i++)
    x[i] = MS_R(0.1);
  ms_reduction r = {.nred = 1, .red = {N}, .in = in, .out = {&y, MS_F32, 1}, .in_red = {1}, .factor = 1};
  ms_cpu_reduce(NULL, MS_REDUCE_sum, &r);
  assert_near(y, (double)x[0] * N, 6e-8);
  r.factor = MS_R(1.0 / N);
  ms_cpu_reduce(NULL, MS_REDUCE_sum, &r);
  assert_near(y, (double)x[0], 1e-7);
  free(in.p);
}

static void test_integers_are_exact(void **state) {
  (void)state;
  enum { N = 100000 };
  ms_data in = new_data(MS_I64, N);
  int64_t *x = in.p, want = 0, y;
  for (int i = 0; i < N; i++)
    want += x[i] = ((int64_t)1 << 53) / N + i;
  x[0] |= 1;
  want += x[0] - ((int64_t)1 << 53) / N;
  ms_reduction r = {.nred = 1, .red = {N}, .in = in, .out = {&y, MS_I64, 1}, .in_red = {1}, .factor = 1};
  ms_cpu_reduce(NULL, MS_REDUCE_sum, &r);
  assert_true(y == want);
  x[500] = INT64_MAX - 1;
  x[N - 2] = INT64_MAX;
  ms_cpu_reduce(NULL, MS_REDUCE_max, &r);
  assert_true(y == INT64_MAX);
  ms_cpu_reduce(NULL, MS_REDUCE_argmax, &r);
  assert_true(y == N - 2);
  free(in.p);
}

static void test_nan_and_ties(void **state) {
  (void)state;
  enum { N = 40000 };
  ms_data in = new_data(MS_F32, N);
  ms_real *x = in.p, y;
  int64_t at;
  ms_reduction r = {.nred = 1, .red = {N}, .in = in, .out = {&at, MS_I64, 1}, .in_red = {1}, .factor = 1};
  ms_cpu_reduce(NULL, MS_REDUCE_argmax, &r);
  assert_true(at == 0);
  x[700] = x[39999] = x[1213] = 5;
  ms_cpu_reduce(NULL, MS_REDUCE_argmax, &r);
  assert_true(at == 700);
  x[39000] = x[2000] = MS_R(NAN);
  for (int op = MS_REDUCE_argmax; op <= MS_REDUCE_argmin; op++) {
    ms_cpu_reduce(NULL, (ms_reduce_op)op, &r);
    assert_true(at == 2000);
  }
  r.out = (ms_data){&y, MS_F32, 1};
  for (int op = MS_REDUCE_max; op <= MS_REDUCE_min; op++) {
    ms_cpu_reduce(NULL, (ms_reduce_op)op, &r);
    assert_true(y != y);
  }
  for (int i = 0; i < N; i++)
    x[i] = MS_R(-INFINITY);
  ms_cpu_reduce(NULL, MS_REDUCE_max, &r);
  assert_true(y == MS_R(-INFINITY));
  free(in.p);
}

static void test_threads_change_nothing(void **state) {
  (void)state;
  enum { N = 300 * 1000 };
  ms_data in = random_data(MS_F32, N, -1, 1);
  ms_real one[1000], four[1000];
  for (int64_t kept = 1; kept <= 1000; kept *= 10)
    for (int swap = 0; swap < 2; swap++) {
      ms_reduction r = {.nkept = 1, .nred = 1, .kept = {kept}, .red = {N / kept}, .in = in, .factor = 1};
      r.in_kept[0] = swap ? N / kept : 1;
      r.in_red[0] = swap ? 1 : kept;
      r.out_kept[0] = 1;
      ms_cpu_set_threads(1);
      r.out = (ms_data){one, MS_F32, 1};
      ms_cpu_reduce(NULL, MS_REDUCE_sum, &r);
      ms_cpu_set_threads(4);
      r.out = (ms_data){four, MS_F32, 1};
      ms_cpu_reduce(NULL, MS_REDUCE_sum, &r);
      assert_memory_equal(one, four, (size_t)kept * sizeof(ms_real));
    }
  ms_cpu_set_threads(0);
  free(in.p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_dimension),          cmocka_unit_test(test_layouts),
      cmocka_unit_test(test_tall_and_wide),          cmocka_unit_test(test_repeated_elements),
      cmocka_unit_test(test_long_sums_are_accurate), cmocka_unit_test(test_integers_are_exact),
      cmocka_unit_test(test_nan_and_ties),           cmocka_unit_test(test_threads_change_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
