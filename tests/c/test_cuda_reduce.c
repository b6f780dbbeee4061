/* Reductions and softmax of CUDA beside those of the CPU. */
#include "reducetest.h"
#include "twinloop.h"

/* Sums and products are rounded once from double: the order of their terms may change the last bit. */
static double tolerance_of(ms_reduce_op op, ms_dtype out) {
  if (op != MS_REDUCE_sum && op != MS_REDUCE_prod)
    return 0;
  return out == MS_F32 ? 2e-7 : out == MS_BF16 ? 0.008 : 0;
}

/* Bounded values, so that a sum does not lose what the order decides, with some that a comparison treats apart. */
static void fill_in(ms_data d, int64_t n, ms_reduce_op op) {
  awkward(d, n);
  for (int64_t i = 0; i < n; i++) {
    double x = read_at(d, i);
    if (op == MS_REDUCE_all || op == MS_REDUCE_any)
      write_at(d, i, op == MS_REDUCE_all ? chance() > 0.02 : chance() < 0.02);
    else if (d.dtype == MS_F32 || d.dtype == MS_BF16)
      write_at(d, i, op == MS_REDUCE_prod ? 0.8 + 0.4 * chance() : fabs(x) < 4 ? x : chance() < 0.01 ? x : 1);
  }
}

static void check(ms_reduce_op op, ms_dtype type, setup s) {
  ms_dtype whole = pick(2) ? MS_I64 : MS_U8, real = pick(3) ? MS_F32 : MS_BF16;
  int integer = type == MS_U8 || type == MS_I64;
  ms_dtype to = op >= MS_REDUCE_argmax ? (pick(4) ? whole : real) : integer && pick(4) ? MS_I64 : real;
  if (!s.nred && op != MS_REDUCE_sum && op != MS_REDUCE_prod && op != MS_REDUCE_any && op != MS_REDUCE_all)
    return;
  twin_array in = twin_array_of(type, s.extent, 0), out = twin_array_of(to, s.nkept, 0);
  fill_in(in.host, in.n, op);
  TWIN_OK(gpu->copy_bytes(gpu_stream, in.device.p, in.host.p, twin_bytes(type, in.n), MS_COPY_HOST_TO_DEVICE));
  ms_reduction host = s.r, device = s.r;
  host.factor = device.factor = MS_R(0.75);
  host.in = in.host, host.out = out.host;
  device.in = in.device, device.out = out.device;
  assert_int_equal(ms_cpu_reduce(NULL, op, &host), MS_OK);
  TWIN_OK(gpu->reduce(gpu_stream, op, &device));
  twin_same("reduce", &out, tolerance_of(op, to));
  free(in.host.p);
  free(out.host.p);
  twin_release(NULL);
}

/* Each operation on two types. */
static void all_ops(int ndim, const int64_t *size, const int *order, unsigned reduced, unsigned repeated) {
  setup s = setup_of(ndim, size, order, reduced, repeated);
  for (int op = 0; op < MS_REDUCE_COUNT; op++)
    for (int k = 0; k < 2; k++)
      check((ms_reduce_op)op, (ms_dtype)(k ? MS_U8 + pick(2) : pick(MS_U8)), s);
}

static void test_one_dimension(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const int64_t lengths[] = {0, 1, 7, 33, 257, 4095, 9001};
  for (int k = 0; k < 7; k++) {
    int order[] = {0};
    all_ops(1, &lengths[k], order, 1, 0);
    all_ops(1, &lengths[k], order, 0, 0);
    all_ops(1, &lengths[k], order, 1, 1);
  }
  all_ops(0, NULL, NULL, 0, 0);
}

/* Rows and columns of matrices: few and many outputs, short and long. */
static void test_matrices(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const int64_t sizes[][2] = {{300, 7},  {7, 300}, {2500, 3}, {3, 2500}, {257, 33},
                                     {33, 257}, {0, 5},   {5, 0},    {900, 9}};
  static const int orders[][2] = {{0, 1}, {1, 0}};
  for (int k = 0; k < 9; k++)
    for (int o = 0; o < 2; o++)
      for (unsigned reduced = 1; reduced < 3; reduced++)
        all_ops(2, sizes[k], orders[o], reduced, 0);
}

static void test_layouts(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const int64_t sizes[] = {1, 2, 3, 5, 8, 17, 31};
  for (int round = 0; round < 40; round++) {
    int ndim = 1 + pick(MS_MAX_DIMS), order[MS_MAX_DIMS];
    int64_t size[MS_MAX_DIMS], total = 1;
    for (int d = 0; d < ndim; d++) {
      size[d] = sizes[pick(7)];
      if (total * size[d] > 4000)
        size[d] = 1 + pick(2);
      total *= size[d];
      int place = pick(d + 1);
      order[d] = order[place];
      order[place] = d;
    }
    all_ops(ndim, size, order, (unsigned)pick(256), pick(3) ? 0 : (unsigned)pick(256));
  }
}

/* Against a plain loop: the first maximum wins, a NaN before all, and the sum of integers is exact. */
static void test_known_values(void **state) {
  (void)state;
  TWIN_NEEDED();
  enum { N = 9000 };
  static int64_t x[N], sum;
  static float y[N];
  for (int i = 0; i < N; i++) {
    x[i] = (int64_t)(chance() * 0x1p62) - ((int64_t)1 << 61);
    sum = (int64_t)((uint64_t)sum + (uint64_t)x[i]);
    y[i] = i == 4711 || i == 8000 ? 7 : (float)chance();
  }
  int64_t got;
  void *out = on_device(sizeof got);
  ms_reduction r = {.nred = 1, .red = {N}, .in_red = {1}, .factor = 1, .out = {out, MS_I64, 1}};
  r.in = (ms_data){to_device(x, sizeof x), MS_I64, 1};
  TWIN_OK(gpu->reduce(gpu_stream, MS_REDUCE_sum, &r));
  fetch(&got, out, sizeof got);
  assert_true(got == sum);
  r.in = (ms_data){to_device(y, sizeof y), MS_F32, 1};
  TWIN_OK(gpu->reduce(gpu_stream, MS_REDUCE_argmax, &r));
  fetch(&got, out, sizeof got);
  assert_true(got == 4711);
  y[8500] = y[8600] = NAN;
  r.in = (ms_data){to_device(y, sizeof y), MS_F32, 1};
  for (int op = MS_REDUCE_argmax; op <= MS_REDUCE_argmin; op++) {
    TWIN_OK(gpu->reduce(gpu_stream, (ms_reduce_op)op, &r));
    fetch(&got, out, sizeof got);
    assert_true(got == 8500);
  }
  for (int i = 0; i < N; i++)
    y[i] = -0.0f;
  r.in = (ms_data){to_device(y, sizeof y), MS_F32, 1};
  r.out.dtype = MS_F32;
  TWIN_OK(gpu->reduce(gpu_stream, MS_REDUCE_sum, &r));
  fetch(y, out, sizeof *y);
  assert_true(y[0] == 0 && signbit(y[0]));
}

/* ---- softmax ---- */

static void test_softmax(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const int64_t shapes[][2] = {{0, 5},   {5, 0},    {1, 1},    {3, 7},   {33, 10},
                                      {2, 257}, {9, 1024}, {3, 1025}, {2, 5000}};
  for (int k = 0; k < 9; k++) {
    int64_t rows = shapes[k][0], n = shapes[k][1], all = rows * n;
    twin_array x = twin_array_of(MS_F32, all, 0), y = twin_array_of(MS_F32, all, 0), g = twin_array_of(MS_F32, all, 0);
    for (int64_t i = 0; i < all; i++) {
      write_at(x.host, i, 8 * chance() - 4);
      write_at(g.host, i, 2 * chance() - 1);
    }
    if (all > 20) { /* a class that is impossible, and a row without a value */
      write_at(x.host, 2, -INFINITY);
      write_at(x.host, all - 1, NAN);
    }
    size_t bytes = twin_bytes(MS_F32, all);
    ms_real *host[] = {x.host.p, y.host.p, g.host.p}, *device[] = {x.device.p, y.device.p, g.device.p};
    TWIN_OK(gpu->copy_bytes(gpu_stream, device[0], host[0], bytes, MS_COPY_HOST_TO_DEVICE));
    TWIN_OK(gpu->copy_bytes(gpu_stream, device[2], host[2], bytes, MS_COPY_HOST_TO_DEVICE));
    assert_int_equal(ms_cpu_log_softmax(NULL, host[1], host[0], rows, n), MS_OK);
    TWIN_OK(gpu->log_softmax(gpu_stream, device[1], device[0], rows, n));
    twin_same("log_softmax", &y, 2e-6);
    for (int64_t i = 0; i < all && all <= 20; i++) {
      double sum = 0;
      for (int64_t j = 0; j < n; j++)
        sum += exp((double)host[0][i / n * n + j]);
      assert_near((double)host[1][i], (double)host[0][i] - log(sum), 2e-6);
    }
    /* the gradient takes the place of g */
    assert_int_equal(ms_cpu_log_softmax_grad(NULL, host[2], host[2], host[1], rows, n), MS_OK);
    TWIN_OK(gpu->log_softmax_grad(gpu_stream, device[2], device[2], device[1], rows, n));
    twin_same("log_softmax_grad", &g, 1e-5);
    TWIN_OK(gpu->log_softmax(gpu_stream, device[0], device[0], rows, n));
    memcpy(host[0], host[1], bytes);
    twin_same("log_softmax in place", &x, 2e-6);
    free(x.host.p), free(y.host.p), free(g.host.p);
    twin_release(NULL);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_one_dimension, twin_release),
      cmocka_unit_test_teardown(test_matrices, twin_release),
      cmocka_unit_test_teardown(test_layouts, twin_release),
      cmocka_unit_test_teardown(test_known_values, twin_release),
      cmocka_unit_test_teardown(test_softmax, twin_release),
  };
  return cmocka_run_group_tests(tests, twin_setup, twin_teardown);
}
