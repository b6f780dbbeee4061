/* Pooling rows against plain loops over windows in double. */
#include "rowtest.h"

/* n h w c oh ow kh kw stride_h stride_w pad_h pad_w count_pad adaptive; oh, ow as the caller of the row has them. */
static const ms_pool_desc list[] = {
    {2, 4, 4, 1, 2, 2, 2, 2, 2, 2, 0, 0, 1, 0},
    {1, 7, 5, 7, 3, 2, 2, 2, 2, 2, 0, 0, 0, 0},
    {2, 6, 8, 33, 6, 8, 3, 3, 1, 1, 1, 1, 1, 0},
    {2, 6, 8, 33, 6, 8, 3, 3, 1, 1, 1, 1, 0, 0},
    {1, 7, 7, 40, 4, 4, 3, 3, 2, 2, 1, 1, 1, 0},
    {1, 6, 5, 3, 4, 3, 3, 3, 2, 2, 1, 1, 1, 0}, /* ceil mode: the last window hangs over */
    {1, 6, 5, 3, 4, 3, 3, 3, 2, 2, 1, 1, 0, 0},
    {1, 10, 9, 5, 3, 3, 2, 3, 4, 3, 0, 0, 1, 0}, /* gaps between windows */
    {1, 5, 6, 2, 2, 1, 5, 6, 3, 1, 1, 0, 1, 0},
    {2, 8, 8, 16, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1},
    {2, 7, 5, 9, 3, 2, 0, 0, 0, 0, 0, 0, 0, 1},
    {1, 3, 4, 5, 5, 6, 0, 0, 0, 0, 0, 0, 0, 1}, /* more outputs than inputs */
    {0, 4, 4, 3, 2, 2, 2, 2, 2, 2, 0, 0, 1, 0},
    {4, 40, 40, 8, 20, 20, 2, 2, 2, 2, 0, 0, 1, 0}};

enum { POOLS = sizeof list / sizeof *list };

typedef struct rect {
  int64_t y0, y1, x0, x1;
  double count;
} rect;

static rect window(const ms_pool_desc *d, int64_t oy, int64_t ox) {
  rect r;
  if (d->adaptive) {
    r = (rect){oy * d->h / d->oh, ((oy + 1) * d->h + d->oh - 1) / d->oh, ox * d->w / d->ow,
               ((ox + 1) * d->w + d->ow - 1) / d->ow, 0};
    r.count = (double)((r.y1 - r.y0) * (r.x1 - r.x0));
    return r;
  }
  r = (rect){oy * d->stride_h - d->pad_h, 0, ox * d->stride_w - d->pad_w, 0, 0};
  r.y1 = r.y0 + d->kh < d->h + d->pad_h ? r.y0 + d->kh : d->h + d->pad_h;
  r.x1 = r.x0 + d->kw < d->w + d->pad_w ? r.x0 + d->kw : d->w + d->pad_w;
  r.count = (double)((r.y1 - r.y0) * (r.x1 - r.x0)); /* with padding, not beyond it */
  r.y0 = r.y0 < 0 ? 0 : r.y0;
  r.x0 = r.x0 < 0 ? 0 : r.x0;
  r.y1 = r.y1 > d->h ? d->h : r.y1;
  r.x1 = r.x1 > d->w ? d->w : r.x1;
  if (!d->count_pad)
    r.count = (double)((r.y1 - r.y0) * (r.x1 - r.x0));
  return r;
}

static int64_t in_size(const ms_pool_desc *d) {
  return d->n * d->h * d->w * d->c;
}

static int64_t out_size(const ms_pool_desc *d) {
  return d->n * d->oh * d->ow * d->c;
}

static int64_t in_at(const ms_pool_desc *d, int64_t out, int64_t iy, int64_t ix) {
  return ((out / d->c / d->ow / d->oh * d->h + iy) * d->w + ix) * d->c + out % d->c;
}

static rect window_of(const ms_pool_desc *d, int64_t out) {
  return window(d, out / d->c / d->ow % d->oh, out / d->c % d->ow);
}

static double *zeros(int64_t n) {
  double *p = calloc((size_t)n + 1, sizeof *p);
  assert_non_null(p);
  return p;
}

static void check_avg(const ms_pool_desc *d, ms_dtype xt, ms_dtype yt) {
  ms_data x = row_data(xt, xt == MS_SPIKE ? MS_R(0.25) : 1, in_size(d)), y = row_output(yt, out_size(d));
  ms_data g = row_data(yt, 1, out_size(d)), dx = row_output(yt, in_size(d));
  double *want = zeros(in_size(d)), *size = zeros(in_size(d));
  assert_int_equal(ms_cpu_avg_pool(NULL, d, x, y), MS_OK);
  assert_int_equal(ms_cpu_avg_pool_grad(NULL, d, g, dx), MS_OK);
  for (int64_t o = 0; o < out_size(d); o++) {
    rect r = window_of(d, o);
    double sum = 0, all = 0;
    for (int64_t iy = r.y0; iy < r.y1; iy++)
      for (int64_t ix = r.x0; ix < r.x1; ix++) {
        int64_t i = in_at(d, o, iy, ix);
        sum += row_get(x, i);
        all += fabs(row_get(x, i));
        want[i] += row_get(g, o) / r.count;
        size[i] += fabs(row_get(g, o) / r.count);
      }
    row_check("avg", y, o, sum / r.count, all / r.count);
  }
  for (int64_t i = 0; i < in_size(d); i++)
    row_check("avg grad", dx, i, want[i], size[i]);
  free(x.p);
  free(y.p);
  free(g.p);
  free(dx.p);
  free(want);
  free(size);
}

static void check_max(const ms_pool_desc *d, ms_dtype xt, ms_dtype yt) {
  ms_data x = row_data(xt, xt == MS_SPIKE ? MS_R(0.25) : 1, in_size(d)), y = row_output(yt, out_size(d));
  ms_data g = row_data(MS_F32, 1, out_size(d)), dx = row_output(MS_F32, in_size(d));
  int32_t *index = malloc(((size_t)out_size(d) + 1) * sizeof *index);
  double *want = zeros(in_size(d)), *size = zeros(in_size(d));
  y.scale = x.scale;
  assert_int_equal(ms_cpu_max_pool(NULL, d, x, y, index), MS_OK);
  assert_int_equal(ms_cpu_max_pool_grad(NULL, d, g, index, dx), MS_OK);
  for (int64_t o = 0; o < out_size(d); o++) {
    rect r = window_of(d, o);
    double best = -INFINITY;
    int64_t where = -1, here = 0;
    for (int64_t iy = r.y0; iy < r.y1; iy++)
      for (int64_t ix = r.x0; ix < r.x1; ix++)
        if (row_get(x, in_at(d, o, iy, ix)) > best) {
          best = row_get(x, here = in_at(d, o, iy, ix));
          where = iy * d->w + ix;
        }
    assert_true(row_get(y, o) == best);
    assert_int_equal(index[o], where);
    want[here] += row_get(g, o);
    size[here] += fabs(row_get(g, o));
  }
  for (int64_t i = 0; i < in_size(d); i++)
    row_check("max grad", dx, i, want[i], size[i]);
  free(x.p);
  free(y.p);
  free(g.p);
  free(dx.p);
  free(index);
  free(want);
  free(size);
}

static void test_average(void **state) {
  (void)state;
  for (int i = 0; i < POOLS; i++) {
    check_avg(&list[i], MS_F32, MS_F32);
    check_avg(&list[i], MS_BF16, MS_BF16);
    check_avg(&list[i], MS_SPIKE, MS_F32);
    check_avg(&list[i], MS_U8, MS_F32);
  }
}

static void test_maximum(void **state) {
  (void)state;
  for (int i = 0; i < POOLS; i++) {
    check_max(&list[i], MS_F32, MS_F32);
    check_max(&list[i], MS_BF16, MS_BF16);
    check_max(&list[i], MS_SPIKE, MS_SPIKE);
  }
}

/* Full windows of spikes: bytes are summed, and the scale that the caller gives the result makes them the average. */
static void test_spike_average(void **state) {
  (void)state;
  const ms_pool_desc d = {3, 8, 6, 33, 4, 3, 2, 2, 2, 2, 0, 0, 1, 0};
  ms_data x = row_data(MS_SPIKE, 1, in_size(&d)), y = row_output(MS_SPIKE, out_size(&d));
  y.scale = MS_R(0.25);
  assert_int_equal(ms_cpu_avg_pool(NULL, &d, x, y), MS_OK);
  for (int64_t o = 0; o < out_size(&d); o++) {
    rect r = window_of(&d, o);
    double sum = 0;
    for (int64_t iy = r.y0; iy < r.y1; iy++)
      for (int64_t ix = r.x0; ix < r.x1; ix++)
        sum += row_get(x, in_at(&d, o, iy, ix));
    assert_true(row_get(y, o) == sum / 4);
  }
  free(x.p);
  free(y.p);
}

/* The same spikes as bytes and as bits give the same pooled bytes, values and indices. */
static void test_bits(void **state) {
  (void)state;
  const ms_pool_desc each[] = {{3, 8, 6, 8, 4, 3, 2, 2, 2, 2, 0, 0, 1, 0},
                               {2, 6, 6, 24, 3, 3, 2, 2, 2, 2, 0, 0, 1, 0},
                               {1, 7, 7, 40, 4, 4, 3, 3, 2, 2, 1, 1, 1, 0},
                               {2, 8, 8, 72, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1},
                               {5, 16, 16, 64, 8, 8, 2, 2, 2, 2, 0, 0, 1, 0}};
  const ms_dtype types[] = {MS_SPIKE, MS_F32, MS_BF16};
  for (int k = 0; k < 15; k++) {
    const ms_pool_desc *d = &each[k / 3];
    int64_t n = in_size(d), m = out_size(d);
    ms_data x = row_data(MS_SPIKE, 1, n), bits = {calloc(1, MS_BITS_BYTES(n)), MS_BITS, 1};
    ms_data y = row_output(types[k % 3], m), z = row_output(types[k % 3], m);
    int32_t *index = malloc((size_t)m * sizeof *index), *same = malloc((size_t)m * sizeof *same);
    for (int64_t i = 0; i < n; i++) {
      ((uint8_t *)x.p)[i] = ((uint8_t *)x.p)[i] > 0;
      ((uint8_t *)bits.p)[i / 8] |= (uint8_t)(((uint8_t *)x.p)[i] << i % 8);
    }
    ms_cpu_avg_pool(NULL, d, x, y);
    assert_int_equal(ms_cpu_avg_pool(NULL, d, bits, z), MS_OK);
    assert_memory_equal(y.p, z.p, (size_t)m * row_width(types[k % 3]));
    ms_cpu_max_pool(NULL, d, x, y, index);
    assert_int_equal(ms_cpu_max_pool(NULL, d, bits, z, same), MS_OK);
    assert_memory_equal(y.p, z.p, (size_t)m * row_width(types[k % 3]));
    assert_memory_equal(index, same, (size_t)m * sizeof *index);
    free(x.p);
    free(bits.p);
    free(y.p);
    free(z.p);
    free(index);
    free(same);
  }
}

/* NaN is the maximum of its window, -infinity alone is a maximum like any other, and equal values give the first. */
static void test_special_values(void **state) {
  (void)state;
  const ms_pool_desc d = {1, 2, 6, 1, 1, 3, 2, 2, 2, 2, 0, 0, 0, 0};
  ms_real x[12] = {1, 2, -INFINITY, -INFINITY, 3, 3, NAN, 4, -INFINITY, -INFINITY, 3, 3}, y[3];
  int32_t index[3];
  assert_int_equal(ms_cpu_max_pool(NULL, &d, (ms_data){x, MS_F32, 1}, (ms_data){y, MS_F32, 1}, index), MS_OK);
  assert_true(isnan(y[0]) && isinf(y[1]) && y[1] < 0 && y[2] == 3);
  assert_int_equal(index[0], 6);
  assert_int_equal(index[1], 2);
  assert_int_equal(index[2], 4);
}

/* A pixel that is the maximum of several overlapping windows collects all their gradients. */
static void test_overlap(void **state) {
  (void)state;
  const ms_pool_desc d = {1, 3, 3, 1, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0};
  ms_real x[9] = {0, 0, 0, 0, 9, 0, 0, 0, 0}, y[4], g[4] = {1, 2, 4, 8}, dx[9];
  int32_t index[4];
  assert_int_equal(ms_cpu_max_pool(NULL, &d, (ms_data){x, MS_F32, 1}, (ms_data){y, MS_F32, 1}, index), MS_OK);
  assert_int_equal(ms_cpu_max_pool_grad(NULL, &d, (ms_data){g, MS_F32, 1}, index, (ms_data){dx, MS_F32, 1}), MS_OK);
  for (int i = 0; i < 9; i++)
    assert_true(dx[i] == (i == 4 ? 15 : 0));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_average),        cmocka_unit_test(test_maximum),
                                     cmocka_unit_test(test_spike_average),  cmocka_unit_test(test_bits),
                                     cmocka_unit_test(test_special_values), cmocka_unit_test(test_overlap)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
