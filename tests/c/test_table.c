#include "typed.h"

/* Every field behind `name` is one function pointer, so the table can be walked without naming its rows. */
static void test_no_row_is_missing(void **state) {
  (void)state;
  const ms_backend *k = ms_backend_cpu();
  const size_t first = offsetof(ms_backend, open), width = sizeof k->open;
  const size_t optional[] = {offsetof(ms_backend, capture_begin), offsetof(ms_backend, capture_end),
                             offsetof(ms_backend, graph_launch), offsetof(ms_backend, graph_destroy),
                             offsetof(ms_backend, tf32)};
  assert_int_equal((sizeof *k - first) % width, 0);
  for (size_t at = first; at < sizeof *k; at += width) {
    unsigned char zero[sizeof k->open] = {0};
    int may_miss = 0;
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++)
      may_miss |= at == optional[i];
    if (!may_miss && memcmp((const char *)k + at, zero, width) == 0)
      fail_msg("field %zu of ms_backend (offset %zu) is NULL in the CPU table", (at - first) / width, at);
  }
}

static void test_identity(void **state) {
  (void)state;
  const ms_backend *k = ms_backend_cpu();
  assert_int_equal(k->abi, MS_ABI);
  assert_int_equal(k->size, sizeof(ms_backend));
  assert_string_equal(k->name, "cpu");
  assert_ptr_equal(k, ms_backend_cpu());
}

/* A row with nothing to do succeeds and writes nothing. */
static void test_empty_loops(void **state) {
  (void)state;
  const ms_backend *k = ms_backend_cpu();
  ms_loop l = {.ndim = 2, .nin = 2, .size = {3, 0}, .out.data = {NULL, MS_F32, 1}};
  l.in[0] = l.in[1] = l.out;
  assert_int_equal(k->unary(NULL, MS_UNARY_exp, &l), MS_OK);
  assert_int_equal(k->unary_grad(NULL, MS_UNARY_exp, &l), MS_OK);
  assert_int_equal(k->binary(NULL, MS_BINARY_add, &l), MS_OK);
  assert_int_equal(k->axpby(NULL, &l, 1, 1), MS_OK);
  assert_int_equal(k->random(NULL, MS_RANDOM_NORMAL, &l, (ms_philox_key){1, 1, NULL}, 0, 1), MS_OK);
  l.nin = 1;
  assert_int_equal(k->copy(NULL, &l), MS_OK);
  assert_int_equal(k->clamp(NULL, &l, 0, 1), MS_OK);
  l.nin = 0;
  assert_int_equal(k->fill(NULL, &l, 1), MS_OK);
  assert_int_equal(k->arange(NULL, &l, 1, 1), MS_OK);
  ms_reduction r = {.nkept = 1, .kept = {0}, .nred = 1, .red = {5}, .factor = 1};
  assert_int_equal(k->reduce(NULL, MS_REDUCE_sum, &r), MS_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_no_row_is_missing),
      cmocka_unit_test(test_identity),
      cmocka_unit_test(test_empty_loops),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
