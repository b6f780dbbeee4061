#include "typed.h"
#include "../../kernels/math/unary.h"

static const int64_t lengths[] = {0, 1, 7, 33, 1025, 40000};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

/* Layouts of one operand of an [a, b] loop. */
typedef enum layout { DENSE, EVERY_THIRD, TRANSPOSED, REPEATED_ROWS, SCALAR, LAYOUTS } layout;

static ms_operand operand(ms_data d, layout how, int64_t a, int64_t b) {
  ms_operand o = {.data = d};
  int64_t rows[] = {b, 3 * b, 1, 0, 0}, columns[] = {1, 3, a, 1, 0};
  o.stride[0] = rows[how];
  o.stride[1] = columns[how];
  return o;
}

/* A loop over [a, b], or over one dimension of a * b elements where everything is dense. */
static ms_loop make_loop(int64_t a, int64_t b, int nin, const ms_data *in, const layout *how, ms_data out) {
  ms_loop l = {.ndim = 2, .nin = nin, .size = {a, b}};
  int dense = 1;
  for (int k = 0; k < nin; k++) {
    l.in[k] = operand(in[k], how[k], a, b);
    dense = dense && how[k] == DENSE;
  }
  l.out = operand(out, DENSE, a, b);
  if (dense) {
    l.ndim = 1;
    l.size[0] = a * b;
    l.out.stride[0] = 1;
    for (int k = 0; k < nin; k++)
      l.in[k].stride[0] = 1;
  }
  return l;
}

/* ---- unary: references in double, derivatives by central differences of them ---- */

static double reference(ms_unary_op op, double x) {
  switch (op) {
  case MS_UNARY_neg:
    return -x;
  case MS_UNARY_abs:
    return fabs(x);
  case MS_UNARY_sign:
    return x > 0 ? 1 : x < 0 ? -1 : 0;
  case MS_UNARY_square:
    return x * x;
  case MS_UNARY_sqrt:
    return sqrt(x);
  case MS_UNARY_rsqrt:
    return 1 / sqrt(x);
  case MS_UNARY_reciprocal:
    return 1 / x;
  case MS_UNARY_exp:
    return exp(x);
  case MS_UNARY_expm1:
    return expm1(x);
  case MS_UNARY_log:
    return log(x);
  case MS_UNARY_log1p:
    return log1p(x);
  case MS_UNARY_sin:
    return sin(x);
  case MS_UNARY_cos:
    return cos(x);
  case MS_UNARY_tanh:
    return tanh(x);
  case MS_UNARY_atan:
    return atan(x);
  case MS_UNARY_sigmoid:
    return 1 / (1 + exp(-x));
  case MS_UNARY_softplus:
    return log1p(exp(x));
  case MS_UNARY_relu:
    return x > 0 ? x : 0;
  case MS_UNARY_erf:
    return erf(x);
  case MS_UNARY_floor:
    return floor(x);
  case MS_UNARY_ceil:
    return ceil(x);
  case MS_UNARY_round:
    return nearbyint(x);
  default:
    return NAN;
  }
}

typedef struct unary_case {
  const char *name;
  double lo, hi;
} unary_case;

static const unary_case unaries[] = {
#define MS_UNARY(name, lo, hi) {#name, lo, hi},
#include "../../kernels/unary.def"
#undef MS_UNARY
};

static void check_unary(ms_unary_op op, ms_dtype t, layout how, int64_t n) {
  int64_t a = n % 5 == 0 ? 5 : 1, b = n / a, count = 3 * n + 1;
  ms_data in = random_data(t, count, unaries[op].lo, unaries[op].hi), out = new_data(MS_F32, n);
  if (t == MS_SPIKE || t == MS_U8) /* away from the pole at 0, and from overflow */
    for (int64_t i = 0; i < count; i++)
      ((uint8_t *)in.p)[i] = (uint8_t)(1 + i % 5);
  if (t == MS_I64)
    for (int64_t i = 0; i < count; i++)
      ((int64_t *)in.p)[i] = 1 + i % 5;
  ms_loop l = make_loop(a, b, 1, &in, &how, out);
  assert_int_equal(ms_cpu_unary(NULL, op, &l), MS_OK);
  for (int64_t i = 0; i < n; i++)
    assert_near(read_at(out, i), reference(op, loop_read(&l, &l.in[0], i)), TOLERANCE);
  free(in.p);
  free(out.p);
}

static void test_unary_values(void **state) {
  (void)state;
  for (int op = 0; op < MS_UNARY_COUNT; op++)
    for (int t = 0; t < MS_DTYPE_COUNT; t++)
      for (int how = 0; how < LAYOUTS; how++)
        for (int k = 0; k < LENGTHS - 1; k++)
          check_unary((ms_unary_op)op, (ms_dtype)t, (layout)how, lengths[k]);
  check_unary(MS_UNARY_tanh, MS_F32, DENSE, 100000);
}

static int is_kink(ms_unary_op op, double x) {
  if (op == MS_UNARY_floor || op == MS_UNARY_ceil)
    return fabs(x - nearbyint(x)) < 1e-3;
  if (op == MS_UNARY_round)
    return fabs(x - floor(x) - 0.5) < 1e-3;
  return (op == MS_UNARY_abs || op == MS_UNARY_sign || op == MS_UNARY_relu) && fabs(x) < 1e-3;
}

static void test_unary_gradients(void **state) {
  (void)state;
  enum { N = 1025 };
  for (int k = 0; k < MS_UNARY_COUNT; k++) {
    ms_unary_op op = (ms_unary_op)k;
    ms_data in[2] = {random_data(MS_F32, N, unaries[k].lo, unaries[k].hi), random_data(MS_F32, N, -2, 2)};
    ms_data out = new_data(MS_F32, N);
    layout how[2] = {DENSE, DENSE};
    ms_loop l = make_loop(1, N, 2, in, how, out);
    assert_int_equal(ms_cpu_unary_grad(NULL, op, &l), MS_OK);
    for (int i = 0; i < N; i++) {
      double x = read_at(in[0], i), h = 1e-5 * fmax(0.1, fabs(x));
      if (is_kink(op, x))
        continue;
      double slope =
          (8 * (reference(op, x + h) - reference(op, x - h)) - (reference(op, x + 2 * h) - reference(op, x - 2 * h))) /
          (12 * h);
      assert_near(read_at(out, i), read_at(in[1], i) * slope, sizeof(ms_real) == 8 ? 1e-8 : 1e-5);
    }
    free(in[0].p);
    free(in[1].p);
    free(out.p);
  }
}

static void test_unary_extremes(void **state) {
  (void)state;
  assert_true(isnan(ms_relu(MS_R(NAN))));
  assert_near(ms_relu(MS_R(-INFINITY)), 0, 0);
  assert_near(ms_sigmoid(-1000), 0, 0);
  assert_near(ms_sigmoid(1000), 1, 0);
  assert_near(ms_softplus(1000), 1000, 0);
  assert_near(ms_softplus(-1000), 0, 0);
  assert_near(ms_round(MS_R(2.5)), 2, 0);
  assert_near(ms_round(MS_R(-3.5)), -4, 0);
  assert_true(ms_sigmoid_grad(30) > 0);
  int64_t x[3] = {INT64_MIN, -((int64_t)1 << 53) - 1, 7}, y[3];
  ms_data in = {x, MS_I64, 1}, out = {y, MS_I64, 1};
  layout how = DENSE;
  ms_loop l = make_loop(1, 3, 1, &in, &how, out);
  ms_cpu_unary(NULL, MS_UNARY_neg, &l);
  assert_true(y[0] == INT64_MIN && y[1] == ((int64_t)1 << 53) + 1 && y[2] == -7);
  ms_cpu_unary(NULL, MS_UNARY_relu, &l);
  assert_true(y[0] == 0 && y[1] == 0 && y[2] == 7);
}

/* ---- binary ---- */

static double binary_reference(ms_binary_op op, double a, double b) {
  switch (op) {
  case MS_BINARY_add:
    return a + b;
  case MS_BINARY_sub:
    return a - b;
  case MS_BINARY_mul:
    return a * b;
  case MS_BINARY_div:
    return a / b;
  case MS_BINARY_pow:
    return pow(a, b);
  case MS_BINARY_maximum:
    return a != a || b != b ? NAN : fmax(a, b);
  case MS_BINARY_minimum:
    return a != a || b != b ? NAN : fmin(a, b);
  case MS_BINARY_eq:
    return a == b;
  case MS_BINARY_ne:
    return a != b;
  case MS_BINARY_lt:
    return a < b;
  case MS_BINARY_le:
    return a <= b;
  case MS_BINARY_gt:
    return a > b;
  default:
    return a >= b;
  }
}

static void check_binary(ms_binary_op op, ms_dtype ta, ms_dtype tb, layout ha, layout hb, int64_t n) {
  int64_t a = n % 5 == 0 ? 5 : 1, b = n / a;
  ms_data in[2] = {random_data(ta, 3 * n + 1, 0.5, 3), random_data(tb, 3 * n + 1, 0.5, 3)};
  if (op == MS_BINARY_pow)
    for (int64_t i = 0; i <= 3 * n; i++)
      write_at(in[1], i, (double)(i % 3));
  int compare = op >= MS_BINARY_eq;
  ms_data out = new_data(compare ? MS_U8 : MS_F32, n);
  layout how[2] = {ha, hb};
  ms_loop l = make_loop(a, b, 2, in, how, out);
  assert_int_equal(ms_cpu_binary(NULL, op, &l), MS_OK);
  for (int64_t i = 0; i < n; i++)
    assert_near(read_at(out, i), binary_reference(op, loop_read(&l, &l.in[0], i), loop_read(&l, &l.in[1], i)),
                compare ? 0 : TOLERANCE);
  for (int swapped = 0; swapped < 2; swapped++) {
    assert_int_equal(ms_cpu_binary_scalar(NULL, op, &l, 1.5, swapped), MS_OK);
    for (int64_t i = 0; i < n; i++) {
      double x = loop_read(&l, &l.in[0], i);
      double y = binary_reference(op, swapped ? 1.5 : x, swapped ? x : 1.5);
      assert_near(read_at(out, i), y, compare ? 0 : sizeof(ms_real) == 4 && fabs(y) > 1e38 ? INFINITY : TOLERANCE);
    }
  }
  free(in[0].p);
  free(in[1].p);
  free(out.p);
}

static void test_binary(void **state) {
  (void)state;
  for (int op = 0; op < MS_BINARY_COUNT; op++)
    for (int ta = 0; ta < MS_DTYPE_COUNT; ta++)
      for (int tb = 0; tb < MS_DTYPE_COUNT; tb++)
        check_binary((ms_binary_op)op, (ms_dtype)ta, (ms_dtype)tb, (layout)((op + ta) % LAYOUTS),
                     (layout)((op + tb + 1) % LAYOUTS), lengths[(op + ta + tb) % (LENGTHS - 1)]);
  for (int ha = 0; ha < LAYOUTS; ha++)
    for (int hb = 0; hb < LAYOUTS; hb++)
      for (int k = 0; k < LENGTHS; k++)
        check_binary(MS_BINARY_sub, MS_F32, MS_F32, (layout)ha, (layout)hb, lengths[k]);
}

static void int_binary(ms_binary_op op, ms_dtype t, int64_t a, int64_t b, int64_t expected) {
  int64_t x[2] = {a, b}, y = 77;
  ms_data in[2] = {{&x[0], MS_I64, 1}, {&x[1], MS_I64, 1}}, out = {&y, t, 1};
  uint8_t bytes[3] = {(uint8_t)a, (uint8_t)b, 0};
  if (t == MS_U8 && op < MS_BINARY_eq) {
    in[0] = (ms_data){bytes, MS_U8, 1};
    in[1] = (ms_data){bytes + 1, MS_U8, 1};
    out.p = bytes + 2;
  }
  ms_loop l = {.nin = 2, .out = {.data = out}, .in = {{.data = in[0]}, {.data = in[1]}}};
  assert_int_equal(ms_cpu_binary(NULL, op, &l), MS_OK);
  assert_true(t == MS_U8 ? *(uint8_t *)out.p == expected : y == expected);
  l.nin = 1;
  assert_int_equal(ms_cpu_binary_scalar(NULL, op, &l, (double)b, 0), MS_OK);
  if ((int64_t)(double)b == b)
    assert_true(t == MS_U8 ? *(uint8_t *)out.p == expected : y == expected);
}

static void test_integers_are_exact(void **state) {
  (void)state;
  int64_t big = ((int64_t)1 << 53) + 1;
  int_binary(MS_BINARY_add, MS_I64, big, 2, big + 2);
  int_binary(MS_BINARY_sub, MS_I64, INT64_MIN, 1, INT64_MAX);
  int_binary(MS_BINARY_mul, MS_I64, 3037000501, 3037000501, (int64_t)(3037000501ull * 3037000501ull));
  int_binary(MS_BINARY_mul, MS_I64, INT64_MAX, 2, -2);
  int_binary(MS_BINARY_div, MS_I64, -7, 2, -3);
  int_binary(MS_BINARY_div, MS_I64, 5, 0, 0);
  int_binary(MS_BINARY_div, MS_I64, INT64_MIN, -1, INT64_MIN);
  int_binary(MS_BINARY_pow, MS_I64, 3, 39, 4052555153018976267);
  int_binary(MS_BINARY_pow, MS_I64, -1, -3, -1);
  int_binary(MS_BINARY_pow, MS_I64, 2, -1, 0);
  int_binary(MS_BINARY_maximum, MS_I64, big, big - 1, big);
  int_binary(MS_BINARY_gt, MS_U8, big, big - 1, 1);
  int_binary(MS_BINARY_eq, MS_U8, big, big - 1, 0);
  int_binary(MS_BINARY_add, MS_U8, 200, 100, 44);
  int_binary(MS_BINARY_sub, MS_U8, 3, 5, 254);
  int_binary(MS_BINARY_mul, MS_U8, 16, 16, 0);
}

static void test_nan(void **state) {
  (void)state;
  ms_real x[4] = {MS_R(NAN), 1, MS_R(NAN), 2}, y[4] = {1, MS_R(NAN), MS_R(NAN), 1}, z[4];
  ms_data in[2] = {{x, MS_F32, 1}, {y, MS_F32, 1}}, out = {z, MS_F32, 1};
  layout how[2] = {DENSE, DENSE};
  ms_loop l = make_loop(1, 4, 2, in, how, out);
  for (int op = 0; op < MS_BINARY_COUNT; op++) {
    ms_cpu_binary(NULL, (ms_binary_op)op, &l);
    for (int i = 0; i < 4; i++)
      assert_near(z[i], binary_reference((ms_binary_op)op, x[i], y[i]), TOLERANCE);
  }
  ms_cpu_clamp(NULL, &l, -1, 1.5);
  assert_true(isnan(z[0]) && z[1] == 1 && isnan(z[2]) && z[3] == MS_R(1.5));
}

/* ---- the others ---- */

static void test_axpby_in_place(void **state) {
  (void)state;
  enum { N = 1025 };
  layout how[2] = {DENSE, DENSE};
  for (int alias = 0; alias < 3; alias++) {
    ms_data in[2] = {random_data(MS_F32, N, -1, 1), random_data(MS_F32, N, -1, 1)}, out = new_data(MS_F32, N);
    double want[N];
    for (int i = 0; i < N; i++)
      want[i] = 2 * read_at(in[0], i) - 3 * read_at(in[1], i);
    ms_data to = alias < 2 ? in[alias] : out;
    ms_loop l = make_loop(1, N, 2, in, how, to);
    assert_int_equal(ms_cpu_axpby(NULL, &l, 2, -3), MS_OK);
    for (int i = 0; i < N; i++)
      assert_near(read_at(to, i), want[i], TOLERANCE);
    free(in[0].p);
    free(in[1].p);
    free(out.p);
  }
  int64_t big = ((int64_t)1 << 60) + 1, one = 1, y;
  ms_loop l = {.nin = 2, .out.data = {&y, MS_I64, 1}, .in = {{.data = {&big, MS_I64, 1}}, {.data = {&one, MS_I64, 1}}}};
  ms_cpu_axpby(NULL, &l, 1, -2);
  assert_true(y == big - 2);
}

static void test_where(void **state) {
  (void)state;
  for (int tc = 0; tc < MS_DTYPE_COUNT; tc++)
    for (int t = 0; t < MS_DTYPE_COUNT; t++)
      for (int h = 0; h < LAYOUTS; h++) {
        enum { N = 1025 };
        ms_data in[3] = {random_data((ms_dtype)tc, 3 * N, 0, 1), random_data((ms_dtype)t, 3 * N, -9, 9),
                         random_data((ms_dtype)t, 3 * N, -9, 9)};
        for (int i = 0; i < 3 * N; i++)
          write_at(in[0], i, i % 3 ? 0.5 + (tc >= MS_U8) : 0);
        ms_data out = new_data((ms_dtype)t, N);
        layout how[3] = {(layout)h, DENSE, (layout)((h + 1) % LAYOUTS)};
        ms_loop l = make_loop(5, N / 5, 3, in, how, out);
        assert_int_equal(ms_cpu_where(NULL, &l), MS_OK);
        for (int i = 0; i < N; i++)
          assert_near(read_at(out, i), loop_read(&l, &l.in[loop_read(&l, &l.in[0], i) != 0 ? 1 : 2], i), 0);
        for (int k = 0; k < 3; k++)
          free(in[k].p);
        free(out.p);
      }
}

/* What each type makes of a number, from the contracts in kernels.h and math/convert.h. */
static double stored(ms_data d, double x) {
  switch (d.dtype) {
  case MS_F32:
    return MS_R(x);
  case MS_BF16:
    return ms_bf16_to(ms_bf16_from((float)x));
  case MS_SPIKE:
    return fmin(255, fmax(0, nearbyint(x / d.scale))) * d.scale;
  case MS_U8:
    return (double)((int64_t)x & 255);
  default:
    return trunc(x);
  }
}

static void test_copy(void **state) {
  (void)state;
  for (int from = 0; from < MS_DTYPE_COUNT; from++)
    for (int to = 0; to < MS_DTYPE_COUNT; to++)
      for (int h = 0; h < LAYOUTS; h++)
        for (int k = 0; k < LENGTHS - 1; k++) {
          int64_t n = lengths[k], a = n % 5 == 0 ? 5 : 1;
          ms_data in = random_data((ms_dtype)from, 3 * n + 1, -90, 90), out = new_data((ms_dtype)to, n);
          if (to == MS_SPIKE)
            out.scale = MS_R(0.5);
          layout how = (layout)h;
          ms_loop l = make_loop(a, n / a, 1, &in, &how, out);
          assert_int_equal(ms_cpu_copy(NULL, &l), MS_OK);
          for (int64_t i = 0; i < n; i++)
            assert_near(read_at(out, i), stored(out, loop_read(&l, &l.in[0], i)), 0);
          free(in.p);
          free(out.p);
        }
}

static void test_copy_to_strides(void **state) {
  (void)state;
  enum { A = 33, B = 70 };
  ms_data in = random_data(MS_F32, A * B, -1, 1), out = new_data(MS_BF16, A * B);
  ms_loop l = {.ndim = 2, .nin = 1, .size = {A, B}, .in[0] = {in, {B, 1}}, .out = {out, {1, A}}};
  assert_int_equal(ms_cpu_copy(NULL, &l), MS_OK);
  for (int i = 0; i < A * B; i++)
    assert_near(read_at(out, i % B * A + i / B), stored(out, read_at(in, i)), 0);
  free(in.p);
  free(out.p);
}

static void test_conversions_at_the_borders(void **state) {
  (void)state;
  ms_real x[6] = {MS_R(NAN), MS_R(INFINITY), MS_R(-INFINITY), MS_R(300.7), MS_R(-1.9), MS_R(0.625)};
  int64_t y[6];
  uint8_t b[6];
  ms_data in = {x, MS_F32, 1};
  layout how = DENSE;
  ms_loop l = make_loop(1, 6, 1, &in, &how, (ms_data){y, MS_I64, 1});
  ms_cpu_copy(NULL, &l);
  assert_true(y[0] == 0 && y[1] == INT64_MAX && y[2] == INT64_MIN && y[3] == 300 && y[4] == -1 && y[5] == 0);
  l.out.data = (ms_data){b, MS_U8, 1};
  ms_cpu_copy(NULL, &l);
  assert_true(b[0] == 0 && b[1] == 255 && b[2] == 0 && b[3] == 44 && b[4] == 255 && b[5] == 0);
  l.out.data = (ms_data){b, MS_SPIKE, MS_R(0.25)};
  ms_cpu_copy(NULL, &l);
  assert_true(b[0] == 0 && b[1] == 255 && b[2] == 0 && b[3] == 255 && b[4] == 0 && b[5] == 2);
}

static void test_fill_and_arange(void **state) {
  (void)state;
  for (int t = 0; t < MS_DTYPE_COUNT; t++)
    for (int k = 0; k < LENGTHS; k++) {
      int64_t n = lengths[k];
      ms_data out = new_data((ms_dtype)t, n);
      ms_loop l = make_loop(1, n, 0, NULL, NULL, out);
      assert_int_equal(ms_cpu_fill(NULL, &l, 3.75), MS_OK);
      for (int64_t i = 0; i < n; i++)
        assert_near(read_at(out, i), stored(out, 3.75), 0);
      assert_int_equal(ms_cpu_arange(NULL, &l, 2, 0.5), MS_OK);
      for (int64_t i = 0; i < n; i++)
        assert_near(read_at(out, i), stored(out, 2 + 0.5 * (double)i), 0);
      free(out.p);
    }
}

static void test_threads_change_nothing(void **state) {
  (void)state;
  enum { N = 300000 };
  ms_data in = random_data(MS_F32, N, -3, 3), one = new_data(MS_F32, N), four = new_data(MS_F32, N);
  layout how = DENSE;
  ms_loop l = make_loop(1, N, 1, &in, &how, one);
  ms_cpu_set_threads(1);
  ms_cpu_unary(NULL, MS_UNARY_sigmoid, &l);
  ms_cpu_set_threads(4);
  l.out.data = four;
  ms_cpu_unary(NULL, MS_UNARY_sigmoid, &l);
  ms_cpu_set_threads(0);
  assert_memory_equal(one.p, four.p, N * sizeof(ms_real));
  free(in.p);
  free(one.p);
  free(four.p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_unary_values),
      cmocka_unit_test(test_unary_gradients),
      cmocka_unit_test(test_unary_extremes),
      cmocka_unit_test(test_binary),
      cmocka_unit_test(test_integers_are_exact),
      cmocka_unit_test(test_nan),
      cmocka_unit_test(test_axpby_in_place),
      cmocka_unit_test(test_where),
      cmocka_unit_test(test_copy),
      cmocka_unit_test(test_copy_to_strides),
      cmocka_unit_test(test_conversions_at_the_borders),
      cmocka_unit_test(test_fill_and_arange),
      cmocka_unit_test(test_threads_change_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
