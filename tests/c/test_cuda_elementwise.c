/* Element-wise and random rows of CUDA beside those of the CPU. */
#include "twinloop.h"

/* Both calls see their side of the loop as `l`. */
#define BOTH(t, what, tolerance, cpu, cuda)     \
  do {                                          \
    {                                           \
      const ms_loop *l = &(t)->host;            \
      assert_int_equal(cpu, MS_OK);             \
    }                                           \
    {                                           \
      const ms_loop *l = &(t)->device;          \
      TWIN_OK(cuda);                            \
    }                                           \
    twin_same(what, &(t)->array[0], tolerance); \
    twin_loop_end(t);                           \
  } while (0)

/* Functions made of correctly rounded operations only. */
static int rounded(ms_unary_op op) {
  return op == MS_UNARY_neg || op == MS_UNARY_abs || op == MS_UNARY_sign || op == MS_UNARY_square ||
         op == MS_UNARY_sqrt || op == MS_UNARY_rsqrt || op == MS_UNARY_reciprocal || op == MS_UNARY_relu ||
         op == MS_UNARY_floor || op == MS_UNARY_ceil || op == MS_UNARY_round;
}

static double tolerance_of(int exact, ms_dtype out) {
  return exact ? 0 : out == MS_BF16 ? 0.01 : 4e-6;
}

/* Random types; where the last bit may differ, outputs that do not blow that up. */
static void random_types(ms_dtype *t, int n, int exact) {
  for (int k = 0; k < n; k++)
    t[k] = (ms_dtype)(k == 0 && !exact ? pick(2) : pick(MS_DTYPE_COUNT));
}

static void test_unary(void **state) {
  (void)state;
  TWIN_NEEDED();
  for (int round = 0; round < 8; round++)
    for (int op = 0; op < MS_UNARY_COUNT; op++) {
      ms_dtype types[3];
      int exact = rounded((ms_unary_op)op);
      random_types(types, 2, exact);
      twin_loop t = random_twin_loop(1, types);
      BOTH(&t, "unary", tolerance_of(exact, types[0]), ms_cpu_unary(NULL, (ms_unary_op)op, l),
           gpu->unary(gpu_stream, (ms_unary_op)op, l));
      random_types(types, 3, 0);
      t = random_twin_loop(2, types);
      BOTH(&t, "unary_grad", tolerance_of(0, types[0]), ms_cpu_unary_grad(NULL, (ms_unary_op)op, l),
           gpu->unary_grad(gpu_stream, (ms_unary_op)op, l));
    }
}

/* Sine and cosine reduce their argument on their own. */
static void test_large_angles(void **state) {
  (void)state;
  TWIN_NEEDED();
  int64_t n = 20000;
  twin_loop t = twin_loop_of(1, &n, 1);
  twin_operand(&t, 0, MS_F32, TWIN_DENSE, 0);
  twin_operand(&t, 1, MS_F32, TWIN_DENSE, 0);
  ms_real *x = t.array[1].host.p;
  for (int64_t i = 0; i < n; i++)
    x[i] = MS_R(ldexp(chance() + 0.5, pick(168) - 40) * (pick(2) ? 1 : -1));
  x[0] = MS_R(-0.), x[1] = MS_R(0x1.fffffep127), x[2] = MS_R(16367173.0 * 0x1p72), x[3] = MS_R(0x1p30);
  TWIN_OK(gpu->copy_bytes(gpu_stream, t.array[1].device.p, x, (size_t)n * sizeof *x, MS_COPY_HOST_TO_DEVICE));
  for (int op = MS_UNARY_sin; op <= MS_UNARY_cos; op++) {
    TWIN_OK(gpu->unary(gpu_stream, (ms_unary_op)op, &t.device));
    ms_data y = fetched(t.array[0].device, n);
    for (int64_t i = 0; i < n; i++) {
      double want = op == MS_UNARY_sin ? sin((double)x[i]) : cos((double)x[i]), got = read_at(y, i);
      if (!(fabs(got - want) <= 1.2e-7 * fabs(want)) || signbit(got) != signbit(want))
        fail_msg("op %d of %.9g: %.9g, expected %.9g", op, (double)x[i], got, want);
    }
    free(y.p);
  }
  twin_loop_end(&t);
}

static void test_binary(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const double numbers[] = {0, -0., 2, -1, 0.5, 3, NAN, INFINITY, 1e18};
  for (int round = 0; round < 12; round++)
    for (int op = 0; op < MS_BINARY_COUNT; op++) {
      ms_dtype types[3];
      int exact = op != MS_BINARY_pow, swapped = pick(2);
      random_types(types, 3, exact);
      if (round % 3 == 0) /* whole numbers */
        for (int k = 0; k < 3; k++)
          types[k] = pick(2) ? MS_I64 : MS_U8;
      twin_loop t = random_twin_loop(2, types);
      BOTH(&t, "binary", tolerance_of(exact, types[0]), ms_cpu_binary(NULL, (ms_binary_op)op, l),
           gpu->binary(gpu_stream, (ms_binary_op)op, l));
      double value = numbers[pick(9)];
      t = random_twin_loop(1, types);
      BOTH(&t, "binary_scalar", tolerance_of(exact, types[0]),
           ms_cpu_binary_scalar(NULL, (ms_binary_op)op, l, value, swapped),
           gpu->binary_scalar(gpu_stream, (ms_binary_op)op, l, value, swapped));
    }
}

static void test_the_others(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const double numbers[] = {0, 1, -1, 0.5, 3, -2.75, 1e18, INFINITY, -INFINITY};
  for (int round = 0; round < 250; round++) {
    ms_dtype types[4];
    double a = numbers[pick(9)], b = numbers[pick(9)];
    random_types(types, 4, 1);
    if (round % 4 == 0)
      for (int k = 0; k < 4; k++)
        types[k] = pick(2) ? MS_I64 : MS_U8;
    twin_loop t = random_twin_loop(2, types);
    BOTH(&t, "axpby", 0, ms_cpu_axpby(NULL, l, a, b), gpu->axpby(gpu_stream, l, a, b));
    t = random_twin_loop(3, types);
    BOTH(&t, "where", 0, ms_cpu_where(NULL, l), gpu->where(gpu_stream, l));
    t = random_twin_loop(1, types);
    BOTH(&t, "clamp", 0, ms_cpu_clamp(NULL, l, a, b), gpu->clamp(gpu_stream, l, a, b));
    t = random_twin_loop(1, types);
    BOTH(&t, "copy", 0, ms_cpu_copy(NULL, l), gpu->copy(gpu_stream, l));
    t = random_twin_loop(0, types);
    BOTH(&t, "fill", 0, ms_cpu_fill(NULL, l, a), gpu->fill(gpu_stream, l, a));
    t = random_twin_loop(0, types);
    BOTH(&t, "arange", 0, ms_cpu_arange(NULL, l, a, b), gpu->arange(gpu_stream, l, a, b));
  }
}

/* Every pair of types over one dense dimension, aligned or not, around the lengths where a kernel changes its way. */
static void test_dense_copies(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const int64_t lengths[] = {0, 1, 3, 4, 7, 8, 33, 257, 2049};
  for (int from = 0; from < MS_DTYPE_COUNT; from++)
    for (int to = 0; to < MS_DTYPE_COUNT; to++)
      for (int k = 0; k < 9; k++) {
        twin_loop t = twin_loop_of(1, &lengths[k], 1);
        twin_operand(&t, 0, (ms_dtype)to, TWIN_DENSE, k % 3 == 1);
        twin_operand(&t, 1, (ms_dtype)from, TWIN_DENSE, k % 3 == 2);
        if (k % 2 && to == MS_SPIKE) /* another scale, where bytes cannot be moved */
          t.host.out.data.scale = t.device.out.data.scale = MS_R(0.5);
        BOTH(&t, "dense copy", 0, ms_cpu_copy(NULL, l), gpu->copy(gpu_stream, l));
      }
}

/* Permutations through a tile: images between [n, c, h * w] and [n, h * w, c]. */
static void test_permutations(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const int64_t shapes[][3] = {{2, 31, 33}, {1, 64, 32}, {3, 3, 100}, {2, 100, 3}, {1, 8, 8}, {2, 0, 9}};
  for (int k = 0; k < 6; k++)
    for (int type = 0; type < MS_DTYPE_COUNT; type++) {
      twin_loop t = twin_loop_of(3, shapes[k], 1);
      twin_operand(&t, 0, (ms_dtype)type, TWIN_DENSE, 0);
      twin_operand(&t, 1, (ms_dtype)(pick(2) ? type : pick(MS_DTYPE_COUNT)), TWIN_DENSE, pick(2));
      ms_operand *sides[] = {&t.host.in[0], &t.device.in[0]};
      for (int i = 0; i < 2; i++)
        sides[i]->stride[1] = 1, sides[i]->stride[2] = shapes[k][1];
      BOTH(&t, "permutation", 0, ms_cpu_copy(NULL, l), gpu->copy(gpu_stream, l));
    }
}

/* The output may be an input. */
static void test_in_place(void **state) {
  (void)state;
  TWIN_NEEDED();
  int64_t n = 1027;
  for (int k = 0; k < 2; k++) {
    twin_loop t = twin_loop_of(1, &n, 2);
    for (int i = 0; i < 3; i++)
      twin_operand(&t, i, MS_F32, TWIN_DENSE, 0);
    t.host.in[k].data.p = t.host.out.data.p;
    t.device.in[k].data.p = t.device.out.data.p;
    BOTH(&t, "axpby in place", 0, ms_cpu_axpby(NULL, l, 2, -3), gpu->axpby(gpu_stream, l, 2, -3));
  }
}

/* The same numbers as the CPU's to the bit. */
static void test_random(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const int64_t lengths[] = {1, 3, 4, 257, 1024, 4099};
  int64_t draws = 41;
  int64_t *there = to_device(&draws, sizeof draws), *kept = malloc(sizeof draws);
  *kept = draws;
  twin_count = 0; /* outlives the loops below */
  for (int round = 0; round < 200; round++) {
    ms_dtype type = (ms_dtype)(round % MS_DTYPE_COUNT);
    ms_random_kind kind = (ms_random_kind)(round / MS_DTYPE_COUNT % 4);
    ms_philox_key cpu = {0x123456789abcdefu * (uint64_t)(round + 1), (uint64_t)round << 28, round % 3 ? NULL : kept};
    ms_philox_key cuda = cpu;
    double a = kind == MS_RANDOM_BERNOULLI ? 0.3 : kind == MS_RANDOM_BITS ? -5 : -1.5;
    double b = kind == MS_RANDOM_BITS ? (round % 2 ? 1e17 : 10) : 2.5;
    twin_loop t = twin_loop_of(1, &lengths[round % 6], 0);
    if (cuda.draws)
      cuda.draws = there;
    if (round % 2)
      t = random_twin_loop(0, &type);
    else
      twin_operand(&t, 0, type, TWIN_DENSE, 0);
    BOTH(&t, "random", 0, ms_cpu_random(NULL, kind, l, cpu, a, b), gpu->random(gpu_stream, kind, l, cuda, a, b));
  }
  gpu->free(gpu_stream, there, sizeof draws);
  free(kept);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_unary, twin_release),
      cmocka_unit_test_teardown(test_large_angles, twin_release),
      cmocka_unit_test_teardown(test_binary, twin_release),
      cmocka_unit_test_teardown(test_the_others, twin_release),
      cmocka_unit_test_teardown(test_dense_copies, twin_release),
      cmocka_unit_test_teardown(test_permutations, twin_release),
      cmocka_unit_test_teardown(test_in_place, twin_release),
      cmocka_unit_test_teardown(test_random, twin_release),
  };
  return cmocka_run_group_tests(tests, twin_setup, twin_teardown);
}
