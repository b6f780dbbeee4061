/* The event engine against plain sums in double: every instruction set of this machine, bits, bytes and counts, all
** densities, any number of threads; bits and bytes of the same spikes give the same bits. */
#include "../../kernels/cpu/conv.h"
#include "rowtest.h"

typedef struct shape {
  int64_t n, h, w, cin, cout;
  int kh, kw, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
} shape;

static const shape list[] = {
    {2, 5, 5, 8, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1},     {1, 9, 7, 16, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {3, 8, 8, 40, 7, 3, 3, 1, 1, 0, 0, 1, 1, 1},    {2, 9, 11, 8, 6, 3, 3, 2, 2, 1, 1, 1, 1, 1},
    {2, 10, 9, 8, 6, 3, 2, 3, 2, 2, 1, 1, 1, 1},    {1, 12, 12, 8, 5, 3, 3, 1, 1, 2, 2, 2, 2, 1},
    {1, 13, 12, 8, 4, 3, 3, 2, 3, 2, 3, 3, 2, 1},   {2, 7, 7, 24, 9, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {2, 7, 8, 8, 19, 1, 1, 2, 2, 0, 0, 1, 1, 1},    {1, 9, 9, 8, 3, 7, 7, 1, 1, 3, 3, 1, 1, 1},
    {1, 11, 9, 16, 3, 7, 6, 2, 2, 3, 3, 1, 1, 1},   {2, 6, 6, 24, 8, 3, 3, 1, 1, 1, 1, 1, 1, 4},
    {2, 7, 6, 16, 12, 3, 3, 2, 1, 1, 1, 1, 2, 2},   {1, 6, 5, 40, 40, 3, 3, 1, 1, 1, 1, 1, 1, 8},
    {2, 8, 7, 24, 6, 3, 3, 2, 2, 1, 1, 1, 2, 2},    {70, 1, 1, 72, 10, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {1, 1, 1, 800, 40, 1, 1, 1, 1, 0, 0, 1, 1, 1},  {0, 5, 5, 8, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {3, 20, 19, 32, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1}, {2, 2, 3, 8, 2, 2, 2, 1, 1, 4, 5, 1, 1, 1},
    {3, 6, 7, 144, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1},  {2, 12, 9, 72, 34, 5, 4, 2, 1, 2, 1, 1, 1, 1},
    {2, 5, 4, 8, 5, 2, 3, 5, 4, 1, 1, 1, 1, 1},     {1, 9, 70, 8, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {9, 4, 4, 16, 150, 3, 3, 1, 1, 1, 1, 1, 1, 2},  {1, 4, 6, 8, 5, 4, 5, 1, 1, 2, 2, 1, 1, 1},
    {1, 3, 140, 16, 20, 1, 6, 1, 2, 0, 2, 1, 1, 1}, {1, 8, 8, 200, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {40, 6, 6, 16, 20, 3, 3, 1, 1, 1, 1, 1, 1, 1},  {6, 20, 20, 8, 8, 3, 3, 2, 2, 1, 1, 1, 1, 1},
    {2, 3, 3, 136, 17, 3, 3, 1, 1, 1, 1, 1, 1, 1},  {1, 1, 30, 8, 9, 1, 2, 1, 1, 0, 1, 1, 7, 1}};
enum { SHAPES = sizeof list / sizeof *list };

typedef enum inputs { NONE, ONE, FEW, SOME, ALL, POOLED, BUSY, HIGH, INPUTS } inputs;

typedef struct layer {
  ms_conv_desc d;
  uint8_t *x, *bits;
  ms_data w, b, g;
  int64_t nx, nw, ny;
  double *y, *ysize, *dw, *dwsize;
} layer;

static void *room(int64_t n, size_t width) {
  void *p = calloc((size_t)n + 1, width);
  assert_non_null(p);
  return p;
}

static uint8_t draw(inputs kind) {
  switch (kind) {
  case FEW:
    return row_random() < 0.05;
  case SOME:
    return row_random() < 0.3;
  case ALL:
    return 1;
  case POOLED:
    return (uint8_t)((row_random() < 0.14) + (row_random() < 0.14) + (row_random() < 0.14) + (row_random() < 0.14));
  case BUSY:
    return (uint8_t)(1 + (row_random() < 0.45));
  case HIGH:
    return row_random() < 0.5 ? 0 : (uint8_t)(255 * row_random() * row_random());
  default:
    return 0;
  }
}

/* The sums that a pass returns, and the sums of their terms' sizes. */
static void expect(layer *l) {
  const ms_conv_desc *d = &l->d;
  int64_t cig = d->cin / d->groups, cog = d->cout / d->groups;
  for (int64_t at = 0; at < l->ny; at++) {
    int64_t co = at % d->cout, ox = at / d->cout % d->ow, oy = at / d->cout / d->ow % d->oh,
            n = at / d->cout / d->ow / d->oh;
    double g = row_get(l->g, at);
    for (int64_t t = 0; t < d->kh * d->kw; t++) {
      int64_t iy = oy * d->stride_h - d->pad_h + t / d->kw * d->dil_h,
              ix = ox * d->stride_w - d->pad_w + t % d->kw * d->dil_w;
      if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w)
        continue;
      const uint8_t *x = l->x + ((n * d->h + iy) * d->w + ix) * d->cin + co / cog * cig;
      for (int64_t c = 0; c < cig; c++) {
        int64_t iw = (co * d->kh * d->kw + t) * cig + c;
        double w = row_get(l->w, iw);
        l->y[at] += x[c] * w;
        l->ysize[at] += fabs(x[c] * w);
        l->dw[iw] += x[c] * g;
        l->dwsize[iw] += fabs(x[c] * g);
      }
    }
  }
}

static layer make(const shape *s, inputs kind, ms_dtype weight) {
  layer l = {.d = {.n = s->n,
                   .h = s->h,
                   .w = s->w,
                   .cin = s->cin,
                   .cout = s->cout,
                   .oh = (s->h + 2 * s->pad_h - s->dil_h * (s->kh - 1) - 1) / s->stride_h + 1,
                   .ow = (s->w + 2 * s->pad_w - s->dil_w * (s->kw - 1) - 1) / s->stride_w + 1,
                   .kh = s->kh,
                   .kw = s->kw,
                   .stride_h = s->stride_h,
                   .stride_w = s->stride_w,
                   .pad_h = s->pad_h,
                   .pad_w = s->pad_w,
                   .dil_h = s->dil_h,
                   .dil_w = s->dil_w,
                   .groups = s->groups,
                   .x = MS_SPIKE,
                   .weight = weight}};
  l.nx = s->n * s->h * s->w * s->cin;
  l.nw = s->cout * s->kh * s->kw * (s->cin / s->groups);
  l.ny = s->n * l.d.oh * l.d.ow * s->cout;
  l.x = malloc((size_t)l.nx + !l.nx); /* exact, so that a sanitizer sees a read beyond */
  l.bits = room((int64_t)MS_BITS_BYTES(l.nx), 1);
  for (int64_t i = 0; i < l.nx; i++)
    l.x[i] = draw(kind);
  if (kind == ONE && l.nx)
    l.x[(int64_t)(row_random() * (double)l.nx)] = 1;
  for (int64_t i = 0; i < l.nx; i++)
    if (l.x[i])
      l.bits[i / 8] |= (uint8_t)(1 << i % 8);
  l.w = row_data(weight, 1, l.nw);
  l.b = row_data(MS_F32, 1, s->cout);
  l.g = row_data(weight, 1, l.ny);
  l.y = room(l.ny, sizeof *l.y);
  l.ysize = room(l.ny, sizeof *l.y);
  l.dw = room(l.nw, sizeof *l.y);
  l.dwsize = room(l.nw, sizeof *l.y);
  expect(&l);
  return l;
}

static void drop(layer *l) {
  void *all[] = {l->x, l->bits, l->w.p, l->b.p, l->g.p, l->y, l->ysize, l->dw, l->dwsize};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    free(all[i]);
}

/* One pass on 1, 2 and 5 threads, with equal bits. */
static void run(const layer *l, ms_dtype x, ms_conv_pass pass, ms_data out, int64_t n) {
  ms_conv_desc d = l->d;
  d.x = x;
  assert_true(ms_conv_event.supports(&d, pass));
  size_t bytes = (size_t)n * row_width(out.dtype), size = ms_conv_event.workspace(&d, pass);
  void *workspace = malloc(size + 1), *first = malloc(bytes + 1);
  ms_conv_args a = {.x = {x == MS_BITS ? l->bits : l->x, x, x == MS_U8 ? 1 : MS_R(0.25)},
                    .weight = l->w,
                    .y = l->g,
                    .bias = pass == MS_CONV_FORWARD ? l->b.p : NULL,
                    .density = -1,
                    .counts = 1,
                    .workspace = workspace};
  for (int threads = 1; threads <= 5; threads += threads == 1 ? 1 : 3) {
    memset(out.p, 0xff, bytes);
    memset(workspace, 0xff, size);
    ms_cpu_set_threads(threads);
    if (pass == MS_CONV_FORWARD) {
      a.y = out;
      if (n)
        assert_int_equal(ms_conv_event.forward(&d, &a), MS_OK);
    } else {
      a.weight = out;
      assert_int_equal(ms_conv_event.weight_grad(&d, &a), MS_OK);
    }
    if (threads == 1)
      memcpy(first, out.p, bytes);
    assert_memory_equal(first, out.p, bytes);
  }
  ms_cpu_set_threads(0);
  free(workspace);
  free(first);
}

static void check(const layer *l, ms_dtype x, ms_data y, ms_data dw) {
  double scale = x == MS_U8 ? 1 : 0.25;
  run(l, x, MS_CONV_FORWARD, y, l->ny);
  for (int64_t i = 0; i < l->ny; i++)
    row_check("y", y, i, scale * l->y[i] + row_get(l->b, i % l->d.cout), scale * l->ysize[i] + 1);
  run(l, x, MS_CONV_WEIGHT_GRAD, dw, l->nw);
  for (int64_t i = 0; i < l->nw; i++)
    row_check("dw", dw, i, scale * l->dw[i], scale * l->dwsize[i]);
}

static void check_all(const char *isa, ms_dtype weight) {
  if (ms_cpu_isa_force(isa) != MS_OK)
    return;
  for (int i = 0; i < SHAPES; i++)
    for (inputs kind = NONE; kind < INPUTS; kind++) {
      layer l = make(&list[i], kind, weight);
      ms_data y = row_output(weight, l.ny), dw = row_output(MS_F32, l.nw);
      check(&l, kind == HIGH ? MS_U8 : MS_SPIKE, y, dw);
      if (kind < POOLED) {
        ms_data yb = row_output(weight, l.ny), dwb = row_output(MS_F32, l.nw);
        check(&l, MS_BITS, yb, dwb);
        assert_memory_equal(y.p, yb.p, (size_t)l.ny * row_width(weight));
        assert_memory_equal(dw.p, dwb.p, (size_t)l.nw * row_width(MS_F32));
        free(yb.p);
        free(dwb.p);
      }
      free(y.p);
      free(dw.p);
      drop(&l);
    }
  assert_int_equal(ms_cpu_isa_force(NULL), MS_OK);
}

static void test_base(void **state) {
  (void)state;
  assert_int_equal(ms_cpu_isa_force("base"), MS_OK);
  assert_int_equal(ms_cpu_isa(), MS_ISA_BASE);
  check_all("base", MS_F32);
}

static void test_avx2(void **state) {
  (void)state;
  check_all("avx2", MS_F32);
}

static void test_avx512(void **state) {
  (void)state;
  check_all("avx512", MS_F32);
}

static void test_bfloat16(void **state) {
  (void)state;
  check_all(NULL, MS_BF16);
}

static void test_force(void **state) {
  (void)state;
  ms_isa usual = ms_cpu_isa();
  assert_int_equal(ms_cpu_isa_force("sse9"), MS_EINVAL);
  assert_int_equal(ms_cpu_isa(), usual);
  assert_int_equal(ms_cpu_isa_force("base"), MS_OK);
  assert_int_equal(ms_cpu_isa(), MS_ISA_BASE);
  assert_int_equal(ms_cpu_isa_force(NULL), MS_OK);
  assert_int_equal(ms_cpu_isa(), usual);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_base), cmocka_unit_test(test_avx2),
                                     cmocka_unit_test(test_avx512), cmocka_unit_test(test_bfloat16),
                                     cmocka_unit_test(test_force)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
