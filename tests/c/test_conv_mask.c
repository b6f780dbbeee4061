/* The gradient of the inputs where only some are wanted, against plain loops in double: every instruction set, equal
** bits for any number of threads, zeros where nobody reads. */
#include "convtest.h"

/* Images below, at and above a tile of 64 pixels, blocks of 32 output channels, groups of three input channels. */
static const shape list[] = {
    {3, 1, 1, 8, 3, 1, 1, 1, 1, 0, 0, 1, 1, 1},     {70, 1, 1, 24, 17, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {2, 1, 1, 8, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1},     {2, 7, 5, 24, 17, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {1, 33, 33, 8, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1},   {2, 9, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {1, 7, 5, 136, 130, 3, 3, 1, 1, 1, 1, 1, 1, 1}, {3, 6, 6, 24, 64, 2, 2, 1, 1, 0, 0, 1, 1, 1},
    {2, 9, 11, 24, 17, 3, 3, 2, 2, 1, 1, 1, 1, 1},  {1, 16, 16, 64, 130, 3, 3, 2, 2, 1, 1, 1, 1, 1},
    {2, 8, 8, 8, 17, 1, 1, 2, 2, 0, 0, 1, 1, 1},    {2, 10, 9, 8, 6, 3, 2, 3, 2, 2, 1, 1, 1, 1},
    {2, 12, 9, 24, 34, 5, 4, 2, 1, 2, 1, 1, 1, 1},  {1, 12, 12, 8, 5, 3, 3, 1, 1, 2, 2, 2, 2, 1},
    {1, 13, 12, 8, 4, 3, 3, 2, 3, 2, 3, 3, 2, 1},   {1, 17, 70, 8, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {2, 4, 4, 8, 2, 2, 2, 1, 1, 3, 3, 1, 1, 1},     {2, 5, 4, 8, 5, 2, 3, 5, 4, 1, 1, 1, 1, 1},
    {40, 4, 4, 24, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1},  {1, 3, 3, 2048, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {1, 9, 9, 8, 300, 5, 5, 1, 1, 2, 2, 1, 1, 1},   {40, 8, 8, 8, 17, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {1, 3, 2, 16, 9, 3, 3, 4, 4, 1, 1, 1, 1, 1},    {70, 8, 8, 16, 600, 1, 1, 1, 1, 0, 0, 1, 1, 1}};

enum { SHAPES = sizeof list / sizeof *list };

typedef struct layer {
  fixture f;
  sums s;
  ms_conv_plan *plan;
  void *workspace;
  uint8_t *mask;
} layer;

static layer make_layer(const shape *s, ms_dtype g) {
  layer l = {.f = make(s, MS_SPIKE, MS_F32, g)};
  assert_int_equal(ms_cpu_conv_plan(NULL, &l.f.d, &l.plan), MS_OK);
  assert_int_equal(ms_cpu_conv_force(l.plan, "event"), MS_OK);
  l.workspace = malloc(ms_cpu_conv_workspace(l.plan, MS_CONV_INPUT_GRAD));
  l.mask = malloc(MS_BITS_BYTES(l.f.nx));
  assert_true(l.workspace && l.mask);
  l.s = multiply(&l.f);
  return l;
}

static void drop_layer(layer *l) {
  ms_cpu_conv_plan_destroy(l->plan);
  free(l->workspace);
  free(l->mask);
  drop_sums(&l->s);
  drop(&l->f);
}

/* Bits behind the last element are ones: nothing may come of them. */
static void draw_mask(layer *l, double density) {
  memset(l->mask, 0xff, MS_BITS_BYTES(l->f.nx));
  int64_t one = (int64_t)(row_random() * (double)l->f.nx);
  for (int64_t i = 0; i < l->f.nx; i++)
    if (density < 0 ? i != one : row_random() >= density)
      l->mask[i / 8] = (uint8_t)(l->mask[i / 8] & ~(1u << i % 8));
}

static void check(const layer *l, const uint8_t *mask, ms_dtype x) {
  size_t bytes = (size_t)l->f.nx * row_width(x);
  ms_data first = row_output(x, l->f.nx), dx = row_output(x, l->f.nx);
  const int threads[] = {1, 2, 5};
  for (int k = 0; k < 3; k++) {
    ms_data out = k ? dx : first;
    ms_conv_args a = {.plan = l->plan,
                      .x = out,
                      .weight = l->f.w,
                      .y = l->f.g,
                      .density = -1,
                      .mask = mask,
                      .mask_density = -1,
                      .workspace = l->workspace};
    ms_cpu_set_threads(threads[k]);
    memset(out.p, 0xff, bytes);
    assert_string_equal(ms_cpu_conv_engine(&a, MS_CONV_INPUT_GRAD, (char[MS_WHY]){0}), "event");
    assert_int_equal(ms_cpu_conv_input_grad(NULL, &a), MS_OK);
    if (k)
      assert_memory_equal(out.p, first.p, bytes);
  }
  ms_cpu_set_threads(0);
  for (int64_t i = 0; i < l->f.nx; i++)
    if (!mask || mask[i / 8] >> i % 8 & 1)
      row_check("input gradient", first, i, l->s.dx[i], l->s.dxsize[i]);
    else
      assert_true(row_get(first, i) == 0);
  free(first.p);
  free(dx.p);
}

static void check_shapes(const char *isa) {
  const double density[] = {0, -1, 0.1, 0.45, 1}; /* -1: one bit */
  if (ms_cpu_isa_force(isa) != MS_OK)
    skip();
  for (int i = 0; i < SHAPES; i++) {
    layer l = make_layer(&list[i], MS_F32);
    check(&l, NULL, MS_F32);
    for (int k = 0; k < 5; k++) {
      draw_mask(&l, density[k]);
      check(&l, l.mask, MS_F32);
    }
    drop_layer(&l);
  }
}

static void test_base(void **state) {
  (void)state;
  check_shapes("base");
}

static void test_avx2(void **state) {
  (void)state;
  check_shapes("avx2");
}

static void test_avx512(void **state) {
  (void)state;
  check_shapes("avx512");
}

static void test_bfloat16(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    for (int k = 0; k < 2; k++) {
      layer l = make_layer(&list[i], k ? MS_F32 : MS_BF16);
      draw_mask(&l, 0.45);
      check(&l, l.mask, k ? MS_BF16 : MS_F32);
      check(&l, l.mask, MS_BF16);
      drop_layer(&l);
    }
}

/* What it does not fit runs on a dense engine, which writes all elements. */
static void test_refused(void **state) {
  (void)state;
  const shape odd[] = {{1, 5, 5, 12, 6, 3, 3, 1, 1, 1, 1, 1, 1, 1}, {1, 40, 40, 8, 4, 3, 3, 1, 1, 60, 60, 60, 60, 1}};
  for (int i = 0; i < 2; i++) {
    layer l = make_layer(&odd[i], MS_F32);
    ms_conv_args a = {.plan = l.plan, .weight = l.f.w, .y = l.f.g, .workspace = l.workspace};
    a.x = row_output(MS_F32, l.f.nx);
    assert_string_not_equal(ms_cpu_conv_engine(&a, MS_CONV_INPUT_GRAD, (char[MS_WHY]){0}), "event");
    assert_int_equal(ms_cpu_conv_input_grad(NULL, &a), MS_OK);
    check_values("input gradient", a.x, l.f.nx, l.s.dx, l.s.dxsize);
    free(a.x.p);
    drop_layer(&l);
  }
}

static int as_usual(void **state) {
  (void)state;
  ms_cpu_set_threads(0);
  return ms_cpu_isa_force(NULL) == MS_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_base, as_usual),
                                     cmocka_unit_test_teardown(test_avx2, as_usual),
                                     cmocka_unit_test_teardown(test_avx512, as_usual), cmocka_unit_test(test_bfloat16),
                                     cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
