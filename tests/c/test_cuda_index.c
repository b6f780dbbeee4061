/* Gather, scatter_add, topk and unpacked bits of CUDA beside the CPU. */
#include "twinloop.h"

/* [outer, m, inner] positions in [0, n), some outside when `wrong`. */
static int64_t *positions(int64_t count, int64_t n, int wrong) {
  int64_t *index = malloc((size_t)(count + 1) * sizeof *index);
  for (int64_t i = 0; i < count; i++)
    index[i] = wrong && pick(20) == 0 ? (pick(2) ? n : -1 - pick(3)) : pick((int)n);
  return index;
}

static void check_gather(int64_t outer, int64_t n, int64_t m, int64_t inner, int width, int wrong) {
  int64_t from = outer * n * inner, to = outer * m * inner, *index = positions(to, n, wrong), bad[2] = {0, 0};
  size_t bytes = (size_t)(to * width);
  uint8_t *x = malloc((size_t)(from * width) + 1), *want = malloc(bytes + 1), *got = malloc(bytes + 1);
  for (int64_t i = 0; i < from * width; i++)
    x[i] = (uint8_t)pick(256);
  int64_t *there = to_device(bad, sizeof *bad);
  void *out = on_device(bytes);
  assert_int_equal(ms_cpu_gather(NULL, want, x, index, outer, n, m, inner, width, &bad[0]), MS_OK);
  TWIN_OK(gpu->gather(gpu_stream, out, to_device(x, (size_t)(from * width)),
                      to_device(index, (size_t)to * sizeof *index), outer, n, m, inner, width, there));
  fetch(got, out, bytes);
  fetch(&bad[1], there, sizeof *bad);
  if (bytes)
    assert_memory_equal(got, want, bytes);
  assert_int_equal(bad[1], bad[0]);
  free(index), free(x), free(want), free(got);
  twin_release(NULL);
}

static void test_gather(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const int64_t shapes[][4] = {{1, 1, 1, 1}, {3, 7, 5, 1},    {1, 33, 257, 1}, {2, 9, 4, 33},
                                      {1, 5, 0, 3}, {4, 257, 2, 17}, {1, 10, 3, 700}, {0, 4, 4, 4}};
  for (int k = 0; k < 8; k++)
    for (int width = 1; width <= 8; width *= 2)
      for (int wrong = 0; wrong < 2; wrong++)
        check_gather(shapes[k][0], shapes[k][1], shapes[k][2], shapes[k][3], width, wrong);
}

/* Equal bits: terms are added in the same order. */
static void check_scatter(int64_t outer, int64_t n, int64_t m, int64_t inner) {
  int64_t count = outer * m * inner, *index = positions(count, n, 1);
  twin_array out = twin_array_of(MS_F32, outer * n * inner, 0), g = twin_array_of(MS_F32, count, 0);
  assert_int_equal(ms_cpu_scatter_add(NULL, out.host.p, g.host.p, index, outer, n, m, inner), MS_OK);
  TWIN_OK(gpu->scatter_add(gpu_stream, out.device.p, g.device.p, to_device(index, (size_t)count * sizeof *index), outer,
                           n, m, inner));
  twin_same("scatter_add", &out, 0);
  free(out.host.p), free(g.host.p), free(index);
  twin_release(NULL);
}

static void test_scatter_add(void **state) {
  (void)state;
  TWIN_NEEDED();
  check_scatter(1, 1, 1, 1);
  check_scatter(3, 7, 50, 1);
  check_scatter(1, 33, 257, 1);
  check_scatter(2, 5, 9, 33);
  check_scatter(2, 5, 0, 3);
  check_scatter(3, 10, 40, 17);
  check_scatter(1, 2100, 5, 2003); /* a thread for each column */
  check_scatter(7, 300, 3, 2001);
}

/* Few different values, so that ties decide, and every special one. */
static void check_topk(int64_t rows, int64_t n, int64_t k, int largest, int ties) {
  twin_array x = twin_array_of(MS_F32, rows * n, 0), value = twin_array_of(MS_F32, rows * k, 0);
  twin_array index = twin_array_of(MS_I64, rows * k, 0);
  for (int64_t i = 0; ties && i < rows * n; i++) {
    double v = read_at(x.host, i);
    write_at(x.host, i, floor(v));
  }
  TWIN_OK(gpu->copy_bytes(gpu_stream, x.device.p, x.host.p, twin_bytes(MS_F32, x.n), MS_COPY_HOST_TO_DEVICE));
  assert_int_equal(ms_cpu_topk(NULL, value.host.p, index.host.p, x.host.p, rows, n, k, largest), MS_OK);
  TWIN_OK(gpu->topk(gpu_stream, value.device.p, index.device.p, x.device.p, rows, n, k, largest));
  twin_same("topk: index", &index, 0);
  twin_same("topk: value", &value, 0);
  free(x.host.p), free(value.host.p), free(index.host.p);
  twin_release(NULL);
}

static void test_topk(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const int64_t cases[][3] = {{1, 1, 1},       {5, 2, 1},       {7, 10, 5},     {3, 33, 33},     {2, 257, 8},
                                     {0, 5, 2},       {2, 5, 0},       {2, 1024, 20},  {1, 2048, 2048}, {2, 2049, 5},
                                     {1, 5000, 1024}, {1, 4100, 1025}, {1, 3000, 3000}};
  for (int c = 0; c < 13; c++)
    for (int largest = 0; largest < 2; largest++)
      for (int ties = 0; ties < 2; ties++)
        check_topk(cases[c][0], cases[c][1], cases[c][2], largest, ties);
}

static void test_unpack_bits(void **state) {
  (void)state;
  TWIN_NEEDED();
  static const int64_t lengths[] = {0, 1, 7, 8, 33, 257, 4096, 5003};
  static const ms_dtype types[] = {MS_SPIKE, MS_F32, MS_BF16};
  for (int k = 0; k < 8; k++)
    for (int t = 0; t < 3; t++)
      for (int64_t shift = 0; shift < 2; shift++) {
        int64_t n = lengths[k];
        ms_data x = {malloc(MS_BITS_BYTES(n) + 1), MS_BITS, MS_R(0.37)};
        for (size_t i = 0; i < MS_BITS_BYTES(n); i++)
          ((uint8_t *)x.p)[i] = (uint8_t)pick(256);
        twin_array out = twin_array_of(types[t], n, shift);
        assert_int_equal(ms_cpu_unpack_bits(NULL, moved(out.host, shift), x, n), MS_OK);
        TWIN_OK(gpu->unpack_bits(gpu_stream, moved(out.device, shift), data_to_device(x, n), n));
        twin_same("unpack_bits", &out, 0);
        free(x.p), free(out.host.p);
        twin_release(NULL);
      }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_gather, twin_release),
      cmocka_unit_test_teardown(test_scatter_add, twin_release),
      cmocka_unit_test_teardown(test_topk, twin_release),
      cmocka_unit_test_teardown(test_unpack_bits, twin_release),
  };
  return cmocka_run_group_tests(tests, twin_setup, twin_teardown);
}
