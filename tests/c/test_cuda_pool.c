/* Pooling on CUDA beside the CPU rows, bit for bit: both add in the order of the window. */
#include "twin.h"

#define COUNT(array) ((int64_t)(sizeof(array) / sizeof *(array)))

/* Windows side by side, overlapping, over padding, with gaps, of unequal size. */
static const ms_pool_desc shapes[] = {
    {.n = 2, .h = 4, .w = 6, .oh = 2, .ow = 3, .kh = 2, .kw = 2, .stride_h = 2, .stride_w = 2},
    {.n = 1, .h = 7, .w = 5, .oh = 4, .ow = 3, .kh = 3, .kw = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1},
    {.n = 3, .h = 5, .w = 4, .oh = 5, .ow = 4, .kh = 3, .kw = 3, .stride_h = 1, .stride_w = 1, .pad_h = 1, .pad_w = 1},
    {.n = 2, .h = 8, .w = 7, .oh = 2, .ow = 2, .kh = 2, .kw = 3, .stride_h = 5, .stride_w = 4},
    {.n = 2, .h = 7, .w = 9, .oh = 3, .ow = 4, .adaptive = 1},
    {.n = 1, .h = 3, .w = 2, .oh = 5, .ow = 4, .adaptive = 1},
    {.n = 2, .h = 6, .w = 6, .oh = 1, .ow = 1, .adaptive = 1},
    {.n = 0, .h = 4, .w = 4, .oh = 2, .ow = 2, .kh = 2, .kw = 2, .stride_h = 2, .stride_w = 2},
};
static const int64_t channels[] = {1, 3, 8, 12, 64};

static ms_data input(ms_dtype t, int64_t n) {
  if (t != MS_BITS) {
    ms_data x = row_data(t, t == MS_SPIKE ? MS_R(0.25) : 1, n);
    /* equal values, and what is no number */
    for (int64_t i = 0; t == MS_F32 && i < n; i++)
      ((ms_real *)x.p)[i] = i % 97 == 5 ? MS_R(NAN) : MS_R(floor(4 * (double)((ms_real *)x.p)[i]) / 4);
    return x;
  }
  ms_data x = {calloc(MS_BITS_BYTES(n), 1), MS_BITS, MS_R(0.5)};
  assert_non_null(x.p);
  for (int64_t i = 0; i < n; i++)
    ((uint8_t *)x.p)[i / 8] |= (uint8_t)((row_random() < .3) << i % 8);
  return x;
}

static void same(const char *what, ms_data device, ms_data want, int64_t n) {
  ms_data got = fetched(device, n);
  twin_close(what, got, want, n, 0, 0);
  free(got.p);
}

static void check_forward(const ms_pool_desc *d, ms_dtype tx, ms_dtype ty, int indexed) {
  int64_t nx = d->n * d->h * d->w * d->c, ny = d->n * d->oh * d->ow * d->c;
  ms_data x = input(tx, nx), dx = data_to_device(x, nx), y = row_output(ty, ny), dy = data_to_device(y, ny);
  int32_t *index = malloc((size_t)ny * sizeof *index + 1), *got = malloc((size_t)ny * sizeof *index + 1),
          *dindex = on_device((size_t)ny * sizeof *index);
  assert_int_equal(ms_cpu_avg_pool(NULL, d, x, y), MS_OK);
  TWIN_OK(gpu->avg_pool(gpu_stream, d, dx, dy));
  same("avg_pool", dy, y, ny);
  if (ty != MS_SPIKE || tx != MS_F32) {
    assert_int_equal(ms_cpu_max_pool(NULL, d, x, y, indexed ? index : NULL), MS_OK);
    TWIN_OK(gpu->max_pool(gpu_stream, d, dx, dy, indexed ? dindex : NULL));
    same("max_pool", dy, y, ny);
    if (indexed) {
      fetch(got, dindex, (size_t)ny * sizeof *got);
      assert_memory_equal(got, index, (size_t)ny * sizeof *got);
    }
  }
  free(x.p);
  free(y.p);
  free(index);
  free(got);
}

static void check_backward(const ms_pool_desc *d, ms_dtype tg, ms_dtype tdx) {
  int64_t nx = d->n * d->h * d->w * d->c, ny = d->n * d->oh * d->ow * d->c;
  ms_data x = input(MS_F32, nx), y = row_output(MS_F32, ny), g = row_data(tg, 1, ny), dg = data_to_device(g, ny);
  ms_data dx = row_output(tdx, nx), ddx = data_to_device(dx, nx);
  int32_t *index = malloc((size_t)ny * sizeof *index + 1);
  assert_int_equal(ms_cpu_avg_pool_grad(NULL, d, g, dx), MS_OK);
  TWIN_OK(gpu->avg_pool_grad(gpu_stream, d, dg, ddx));
  same("avg_pool_grad", ddx, dx, nx);
  assert_int_equal(ms_cpu_max_pool(NULL, d, x, y, index), MS_OK);
  int32_t *dindex = to_device(index, (size_t)ny * sizeof *index);
  assert_int_equal(ms_cpu_max_pool_grad(NULL, d, g, index, dx), MS_OK);
  TWIN_OK(gpu->max_pool_grad(gpu_stream, d, dg, dindex, ddx));
  same("max_pool_grad", ddx, dx, nx);
  free(x.p);
  free(y.p);
  free(g.p);
  free(dx.p);
  free(index);
}

static void test_forward(void **state) {
  TWIN_NEEDED();
  static const ms_dtype types[][2] = {{MS_F32, MS_F32},    {MS_BF16, MS_BF16}, {MS_SPIKE, MS_SPIKE}, {MS_SPIKE, MS_F32},
                                      {MS_BITS, MS_SPIKE}, {MS_BITS, MS_BF16}, {MS_F32, MS_BF16}};
  for (int64_t i = 0; i < COUNT(shapes) * COUNT(channels) * COUNT(types) * 2; i++) {
    ms_pool_desc d = shapes[i % COUNT(shapes)];
    d.c = channels[i / COUNT(shapes) % COUNT(channels)];
    const ms_dtype *t = types[i / 2 / COUNT(shapes) / COUNT(channels)];
    d.count_pad = i / COUNT(shapes) / COUNT(channels) % 2;
    if (t[0] == MS_BITS && d.c % 8)
      continue;
    check_forward(&d, t[0], t[1], i % 3 > 0);
    twin_release(state);
  }
}

static void test_backward(void **state) {
  TWIN_NEEDED();
  for (int64_t i = 0; i < COUNT(shapes) * COUNT(channels) * 4; i++) {
    ms_pool_desc d = shapes[i % COUNT(shapes)];
    d.c = channels[i / COUNT(shapes) % COUNT(channels)];
    d.count_pad = (int)(i % 2);
    check_backward(&d, i / COUNT(shapes) / COUNT(channels) % 2 ? MS_BF16 : MS_F32,
                   i / COUNT(shapes) / COUNT(channels) / 2 ? MS_BF16 : MS_F32);
    twin_release(state);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_forward, twin_release),
      cmocka_unit_test_teardown(test_backward, twin_release),
  };
  return cmocka_run_group_tests_name("cuda_pool", tests, twin_setup, twin_teardown);
}
