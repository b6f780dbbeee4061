/* The record of what ran, forcing, the table and its measurement, without Lua. */
#include "coretest.h"
#include "../../host/core/engines.h"

static const ms_conv_opts padded = {1, 1, 1, 1, 1, 1, 1};

static ms_device *cpu(void) {
  return ms_device_cpu();
}

static int plain(void **state) {
  OK(ms_engines_force(cpu(), NULL, NULL, &E));
  OK(ms_engines_set_table(cpu(), NULL, 0, "", &E));
  ms_engines_reset();
  return begin(state);
}

/* A fresh parameter named `name`, and spikes of the density said. */
static ms_tensor *weight(const char *name, int64_t cout, int64_t cin) {
  MAKE(w, ms_full(&w, cpu(), MS_F32, 4, (int64_t[]){cout, cin, 3, 3}, 0.5, &E));
  strncpy(w->name, name, sizeof w->name - 1);
  return w;
}

static ms_tensor *spikes(int64_t n, int64_t c, int64_t side, double density) {
  ms_tensor *x = empty(MS_SPIKE, 4, (int64_t[]){n, c, side, side});
  uint8_t *p = x->storage->data;
  for (int64_t i = 0; i < ms_numel(x); i++)
    p[i] = (i * 7919) % 100 < (int64_t)(100 * density);
  x->density = density;
  x->peak = 1;
  return x;
}

/* The shipped tables differ from processor to processor: events up to a density of one half. */
static void half_table(void) {
  const ms_break_even row = {9, 1, 1, MS_F32, 0.5, 0.5, 0.5, 0.5, 0};
  OK(ms_engines_set_table(cpu(), &row, 1, "set", &E));
}

static void conv(ms_tensor *x, ms_tensor *w) {
  MAKE(y, ms_conv2d(&y, x, w, NULL, padded, &E));
}

static void records_the_last_call(void **state) {
  (void)state;
  const ms_engine_use *list[MS_ENGINE_USES];
  ms_tensor *a = weight("a", 32, 64), *b = weight("b", 32, 64);
  half_table();
  conv(spikes(4, 64, 16, 0.1), a);
  conv(spikes(4, 64, 16, 0.9), b);
  conv(spikes(2, 64, 16, 0.2), a);
  assert_int_equal(ms_engines_uses(list), 2);
  assert_string_equal(list[0]->layer, "a");
  assert_string_equal(list[0]->engine, "event");
  assert_string_equal(list[1]->layer, "b");
  assert_string_not_equal(list[1]->engine, "event");
  assert_true(list[0]->calls == 2 && list[0]->desc.n == 2 && fabs(list[0]->density - 0.2) < 1e-6);
  assert_true(strstr(list[0]->why, "density") != NULL);
  ms_engines_reset();
  assert_int_equal(ms_engines_uses(list), 0);
}

static void a_step_allocates_nothing_for_it(void **state) {
  (void)state;
  ms_tensor *a = weight("a", 8, 8), *x = spikes(1, 8, 4, 0.1);
  conv(x, a);
  int64_t before = ms_allocations(), one;
  conv(x, a);
  one = ms_allocations() - before;
  OK(ms_engines_force(cpu(), "gemm", "a", &E));
  before = ms_allocations();
  conv(x, a);
  assert_true(ms_allocations() - before <= one); /* gemm needs no workspace */
}

static void layers_are_forced_by_name(void **state) {
  (void)state;
  const ms_engine_use *list[MS_ENGINE_USES];
  const ms_engine_forced *layers;
  const char *all;
  ms_tensor *a = weight("a", 32, 64), *b = weight("b", 32, 64), *x = spikes(4, 64, 16, 0.1);
  half_table();
  OK(ms_engines_force(cpu(), "gemm", "a", &E));
  conv(x, a);
  conv(x, b); /* the same plan */
  assert_int_equal(ms_engines_uses(list), 2);
  assert_string_equal(list[0]->engine, "gemm");
  assert_string_equal(list[1]->engine, "event");
  assert_int_equal(ms_engines_forced(cpu(), &all, &layers), 1);
  assert_null(all);
  assert_string_equal(layers[0].layer, "a");
  OK(ms_engines_force(cpu(), NULL, "a", &E));
  OK(ms_engines_force(cpu(), NULL, "never", &E));
  conv(x, a);
  assert_string_equal(list[0]->engine, "event");
  FAILS(ms_engines_force(cpu(), "x", NULL, &E), MS_EINVAL, "engines: force: expected one of ");
  char name[64];
  for (int i = 0; i < MS_ENGINE_FORCED; i++) {
    snprintf(name, sizeof name, "layer%d", i);
    OK(ms_engines_force(cpu(), "gemm", name, &E));
  }
  FAILS(ms_engines_force(cpu(), "gemm", "more", &E), MS_ERANGE, "expected at most 256 layers");
  OK(ms_engines_force(cpu(), "event", "layer7", &E));
  OK(ms_engines_force(cpu(), NULL, NULL, &E));
  assert_int_equal(ms_engines_forced(cpu(), &all, &layers), 0);
}

static void a_table_is_checked(void **state) {
  (void)state;
  const ms_break_even *rows, good = {1, 1, 1, MS_F32, 0, 0.5, 1, 0, 0};
  const char *origin;
  ms_break_even bad = good;
  bad.input_grad = NAN;
  FAILS(ms_engines_set_table(cpu(), &bad, 1, "set", &E), MS_ERANGE, "engines: table: row 1: expected limits");
  static ms_break_even many[5000];
  FAILS(ms_engines_set_table(cpu(), many, 5000, "set", &E), MS_EINVAL, "expected fewer rows, got 5000");
  ms_engines_table(cpu(), &rows, &origin);
  assert_string_equal(origin, "shipped");
  OK(ms_engines_set_table(cpu(), &good, 1, "set", &E));
  assert_int_equal(ms_engines_table(cpu(), &rows, &origin), 1);
  assert_string_equal(origin, "set");
  assert_memory_equal(rows, &good, sizeof good);
}

static ms_conv_desc shape(int64_t cin, int groups, ms_dtype precision) {
  return (ms_conv_desc){.n = 2,
                        .h = 8,
                        .w = 8,
                        .cin = cin,
                        .cout = 16,
                        .oh = 8,
                        .ow = 8,
                        .kh = 3,
                        .kw = 3,
                        .stride_h = 1,
                        .stride_w = 1,
                        .pad_h = 1,
                        .pad_w = 1,
                        .dil_h = 1,
                        .dil_w = 1,
                        .groups = groups,
                        .weight = precision};
}

/* Any shape, bits or not, groups, bfloat16: limits inside [0, 0.54], nothing left alive, forcing as before. */
static void measures_any_shape(void **state) {
  (void)state;
  const ms_conv_desc list[] = {shape(16, 1, MS_F32), shape(3, 1, MS_F32), shape(16, 16, MS_F32), shape(16, 1, MS_BF16)};
  const ms_engine_forced *layers;
  const char *all;
  OK(ms_engines_force(cpu(), "gemm", NULL, &E));
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
    ms_break_even r;
    OK(ms_engines_measure(&r, cpu(), &list[i], 0.001, &E));
    assert_true(r.taps == 9 && r.cin == list[i].cin && r.cout == 16 && r.precision == list[i].weight);
    const double limit[] = {r.forward, r.weight_grad, r.forward_counts, r.weight_grad_counts, r.input_grad};
    for (int j = 0; j < 5; j++)
      assert_true(limit[j] >= 0 && limit[j] <= 0.6);
  }
  ms_engines_forced(cpu(), &all, &layers);
  assert_string_equal(all, "gemm");
}

static void an_interrupt_or_no_memory_ends_it(void **state) {
  (void)state;
  ms_conv_desc d = shape(16, 1, MS_F32);
  const ms_engine_use *list[MS_ENGINE_USES];
  ms_break_even r;
  ms_interrupt_request();
  FAILS(ms_engines_measure(&r, cpu(), &d, 1, &E), MS_EINTR, "interrupted");
  for (int n = 1; n < 8; n++) {
    ms_fail_allocation(n);
    ms_status st = ms_engines_measure(&r, cpu(), &d, 0.001, &E);
    assert_true(st == MS_OK || st == MS_EMEM);
    ms_fail_allocation(-1);
    assert_true(nothing_left());
  }
  assert_int_equal(ms_engines_uses(list), 0); /* what is measured is nobody's layer */
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, plain, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(records_the_last_call),     CASE(a_step_allocates_nothing_for_it),
      CASE(layers_are_forced_by_name), CASE(a_table_is_checked),
      CASE(measures_any_shape),        CASE(an_interrupt_or_no_memory_ends_it),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)plain(NULL);
  return failed;
}
