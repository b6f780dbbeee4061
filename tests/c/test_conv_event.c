/* The event engine against plain sums in double: every instruction set of this machine, bits, bytes and counts, all
** densities, any number of threads; bits and bytes of the same spikes give the same bits. */
#include "convtest.h"

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

static fixture make_spikes(const shape *s, inputs kind, ms_dtype weight) {
  fixture f = make(s, kind == HIGH ? MS_U8 : MS_SPIKE, weight, weight);
  uint8_t *x = f.x.p;
  for (int64_t i = 0; i < f.nx; i++)
    x[i] = draw(kind);
  if (kind == ONE && f.nx)
    x[(int64_t)(row_random() * (double)f.nx)] = 1;
  return f;
}

/* One pass on 1, 2 and 5 threads, with equal bits. */
static void run(const fixture *f, ms_conv_pass pass, ms_data out, int64_t n) {
  assert_true(ms_conv_event.supports(&f->d, pass));
  size_t bytes = (size_t)n * row_width(out.dtype), size = ms_conv_event.workspace(&f->d, pass);
  void *workspace = malloc(size + 1), *first = malloc(bytes + 1);
  ms_conv_args a = {.x = f->x,
                    .weight = f->w,
                    .y = f->g,
                    .bias = pass == MS_CONV_FORWARD ? f->b.p : NULL,
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
        assert_int_equal(ms_conv_event.forward(&f->d, &a), MS_OK);
    } else {
      a.weight = out;
      assert_int_equal(ms_conv_event.weight_grad(&f->d, &a), MS_OK);
    }
    if (threads == 1)
      memcpy(first, out.p, bytes);
    assert_memory_equal(first, out.p, bytes);
  }
  ms_cpu_set_threads(0);
  free(workspace);
  free(first);
}

static void check(const fixture *f, const sums *s, ms_data y, ms_data dw) {
  run(f, MS_CONV_FORWARD, y, f->ny);
  check_biased(f, s, y);
  run(f, MS_CONV_WEIGHT_GRAD, dw, f->nw);
  check_values("dw", dw, f->nw, s->dw, s->dwsize);
}

static void check_kind(const shape *l, inputs kind, ms_dtype weight) {
  fixture f = make_spikes(l, kind, weight);
  sums s = multiply(&f);
  ms_data y = row_output(weight, f.ny), dw = row_output(MS_F32, f.nw);
  check(&f, &s, y, dw);
  if (kind < POOLED) {
    fixture bits = f;
    bits.x = bits_of(f.x, f.nx);
    bits.d.x = MS_BITS;
    ms_data yb = row_output(weight, f.ny), dwb = row_output(MS_F32, f.nw);
    check(&bits, &s, yb, dwb);
    assert_memory_equal(y.p, yb.p, (size_t)f.ny * row_width(weight));
    assert_memory_equal(dw.p, dwb.p, (size_t)f.nw * row_width(MS_F32));
    free(yb.p);
    free(dwb.p);
    free(bits.x.p);
  }
  free(y.p);
  free(dw.p);
  drop_sums(&s);
  drop(&f);
}

static void check_all(const char *isa, ms_dtype weight) {
  if (ms_cpu_isa_force(isa) != MS_OK)
    return;
  for (int i = 0; i < SHAPES; i++)
    for (inputs kind = NONE; kind < INPUTS; kind++)
      check_kind(&list[i], kind, weight);
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
