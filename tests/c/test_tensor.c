/* Shapes, strides, views, types, borders, devices, accounting. */
#include "coretest.h"

#define SAME(t, ...) expect(t, VALUES(__VA_ARGS__))

static void strides_are(const ms_tensor *t, const int64_t *want) {
  for (int d = 0; d < t->ndim; d++)
    if (t->stride[d] != want[d])
      fail_msg("strides are %s, expected %s", ms_shape_text(t->ndim, t->stride).s, ms_shape_text(t->ndim, want).s);
}

static void fresh_tensors_are_channels_last_from_four_dimensions(void **state) {
  (void)state;
  strides_are(empty(MS_F32, SIZES(2, 3, 4)), (int64_t[]){12, 4, 1});
  strides_are(empty(MS_F32, SIZES(2, 3, 4, 5)), (int64_t[]){60, 1, 15, 3});
  strides_are(empty(MS_F32, SIZES(7, 2, 3, 4, 5)), (int64_t[]){120, 60, 1, 15, 3});
  assert_true(ms_is_default(empty(MS_U8, SIZES(2, 1, 4, 5))));
  assert_int_equal(ms_numel(empty(MS_F32, SIZES(2, 0, 3))), 0);
  ms_tensor *scalar = empty(MS_F32, 0, NULL);
  assert_int_equal(ms_numel(scalar), 1);
}

static void impossible_shapes_are_refused(void **state) {
  (void)state;
  ms_tensor *t = NULL;
  FAILS(ms_tensor_new(&t, ms_device_cpu(), MS_F32, SIZES(2, -1), &E), MS_ESHAPE, "got [2, -1]");
  FAILS(ms_tensor_new(&t, ms_device_cpu(), MS_F32, SIZES(INT64_MAX, 4), &E), MS_ESHAPE, "63 bits");
  FAILS(ms_tensor_new(&t, ms_device_cpu(), MS_F32, SIZES(INT64_MAX, 0, 4), &E), MS_ESHAPE, "63 bits");
  FAILS(ms_tensor_new(&t, ms_device_cpu(), MS_F32, SIZES(1, 1, 1, 1, 1, 1, 1, 1, 1), &E), MS_ESHAPE, "0 to 8");
  FAILS(ms_tensor_new(&t, ms_device_cpu(), MS_U8, SIZES(INT64_C(1) << 60), &E), MS_EMEM,
        "out of memory: wanted 1.2 EB, ");
  assert_null(t);
}

static void values_cross_the_border_in_logical_order(void **state) {
  (void)state;
  ms_tensor *t = counting(MS_F32, SIZES(1, 2, 2, 2));
  SAME(t, 0, 1, 2, 3, 4, 5, 6, 7);
  ms_data data;
  OK(ms_data_of(&data, t, &E));
  assert_true(((ms_real *)data.p)[1] == 4); /* memory: channel fastest */
  MAKE(turned, ms_transpose(&turned, t, 1, 3, &E));
  SAME(turned, 0, 4, 2, 6, 1, 5, 3, 7);
  put(turned, VALUES(10, 11, 12, 13, 14, 15, 16, 17));
  SAME(t, 10, 14, 12, 16, 11, 15, 13, 17);
  for (int dtype = 0; dtype < MS_DTYPE_COUNT; dtype++)
    SAME(filled((ms_dtype)dtype, SIZES(2, 2), VALUES(3, 0, 2, 1)), 3, 0, 2, 1);
}

static void views_share_memory(void **state) {
  (void)state;
  ms_tensor *t = counting(MS_F32, SIZES(2, 3, 2));
  MAKE(flat, ms_view(&flat, t, SIZES(-1), &E));
  MAKE(second, ms_select(&second, t, 0, -1, &E));
  MAKE(part, ms_narrow(&part, second, 0, 1, 2, &E));
  SAME(part, 8, 9, 10, 11);
  OK(ms_fill_(part, 5, &E));
  SAME(flat, 0, 1, 2, 3, 4, 5, 6, 7, 5, 5, 5, 5);
  MAKE(order, ms_permute(&order, t, (int[]){2, 0, -2}, &E));
  expect_shape(order, SIZES(2, 2, 3));
  SAME(order, 0, 2, 4, 6, 5, 5, 1, 3, 5, 7, 5, 5);
  MAKE(wide, ms_unsqueeze(&wide, part, -1, &E));
  expect_shape(wide, SIZES(2, 2, 1));
  MAKE(back, ms_squeeze(&back, wide, 2, &E));
  expect_shape(back, SIZES(2, 2));
  MAKE(as_it_is, ms_squeeze(&as_it_is, part, 0, &E));
  expect_shape(as_it_is, SIZES(2, 2));
  assert_ptr_equal(flat->storage, as_it_is->storage);
}

static void a_view_that_memory_does_not_allow_names_reshape(void **state) {
  (void)state;
  ms_tensor *t = counting(MS_F32, SIZES(1, 2, 2, 2)), *out = NULL;
  FAILS(ms_view(&out, t, SIZES(1, 8), &E), MS_ESHAPE, "use reshape");
  MAKE(flat, ms_flatten(&flat, t, 1, -1, &E));
  expect_shape(flat, SIZES(1, 8));
  SAME(flat, 0, 1, 2, 3, 4, 5, 6, 7);
  assert_ptr_not_equal(flat->storage, t->storage);
  MAKE(images, ms_reshape(&images, flat, SIZES(1, 2, 2, 2), &E));
  SAME(images, 0, 1, 2, 3, 4, 5, 6, 7);
  FAILS(ms_view(&out, flat, SIZES(3, -1), &E), MS_ESHAPE, "view: [1, 8] has 8 elements and does not fit [3, -1]");
  FAILS(ms_reshape(&out, flat, SIZES(2, 2), &E), MS_ESHAPE, "does not fit [2, 2]");
  FAILS(ms_reshape(&out, flat, SIZES(-1, -1), &E), MS_ESHAPE, "does not fit");
}

static void every_view_is_right_or_refused(void **state) {
  (void)state;
  const struct {
    int ndim;
    int64_t size[4];
  } shape[] = {{1, {24}},         {2, {4, 6}},       {2, {24, 1}},     {3, {2, 3, 4}},
               {4, {2, 3, 2, 2}}, {4, {1, 4, 6, 1}}, {4, {2, 2, 6, 1}}};
  for (size_t a = 0; a < sizeof shape / sizeof *shape; a++)
    for (int turn = 0; turn < 2; turn++)
      for (size_t b = 0; b < sizeof shape / sizeof *shape; b++) {
        ms_tensor *t = counting(MS_I64, shape[a].ndim, shape[a].size), *v = NULL;
        if (turn) {
          OK(ms_transpose(&t, t, 0, -1, &E));
          keep(t);
        }
        double *want = get(t);
        if (!ms_view(&v, t, shape[b].ndim, shape[b].size, &E))
          expect(keep(v), want);
        v = NULL;
        OK(ms_reshape(&v, t, shape[b].ndim, shape[b].size, &E));
        expect(keep(v), want);
        free(want);
      }
}

static void out_of_range_dimensions_and_positions_are_errors(void **state) {
  (void)state;
  ms_tensor *t = counting(MS_F32, SIZES(2, 3)), *out = NULL;
  FAILS(ms_select(&out, t, 2, 0, &E), MS_ERANGE,
        "select: dim: expected a dimension of a tensor that has 2, got number 3");
  FAILS(ms_select(&out, t, 1, 3, &E), MS_ERANGE, "size 3, got number 4");
  FAILS(ms_select(&out, t, 1, -4, &E), MS_ERANGE, "size 3, got number -4");
  FAILS(ms_narrow(&out, t, 0, 1, 2, &E), MS_ERANGE, "narrow: expected a range within a dimension of size 2");
  FAILS(ms_narrow(&out, t, 0, INT64_MAX, INT64_MAX, &E), MS_ERANGE, "narrow");
  FAILS(ms_permute(&out, t, (int[]){0, 0}, &E), MS_EINVAL, "each of the 2 dimensions once");
  FAILS(ms_expand(&out, t, SIZES(2, 4), &E), MS_ESHAPE, "expand: [2, 3] does not expand to [2, 4]");
  FAILS(ms_expand(&out, t, SIZES(3), &E), MS_ESHAPE, "does not expand");
  FAILS(ms_flatten(&out, t, 1, 0, &E), MS_ERANGE, "flatten");
  FAILS(ms_reduce(&out, MS_REDUCE_sum, t, 1u << 2, 0, &E), MS_ERANGE, "sum: dim");
  assert_null(out);
}

static void an_expanded_view_over_time_knows_its_source(void **state) {
  (void)state;
  ms_tensor *image = counting(MS_F32, SIZES(1, 2, 3)), *flat = counting(MS_F32, SIZES(2, 3));
  MAKE(over_time, ms_expand(&over_time, image, SIZES(4, -1, -1), &E));
  assert_ptr_equal(over_time->source, image);
  MAKE(new_lead, ms_expand(&new_lead, flat, SIZES(4, 2, 3), &E));
  expect_shape(new_lead->source, SIZES(1, 2, 3));
  MAKE(row, ms_reshape(&row, over_time, SIZES(4, 6), &E));
  expect_shape(row->source, SIZES(1, 6));
  assert_ptr_equal(row->storage, image->storage);
  MAKE(byte, ms_to(&byte, over_time, NULL, MS_U8, &E));
  expect_shape(byte->source, SIZES(1, 2, 3));
  ms_tensor *column = counting(MS_F32, SIZES(2, 1));
  MAKE(both, ms_expand(&both, column, SIZES(4, 2, 3), &E));
  assert_null(both->source);
  SAME(row, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5);
  FAILS(ms_fill_(row, 1, &E), MS_EINVAL, "repeats its memory");
  MAKE(whole, ms_clone(&whole, row, &E));
  assert_null(whole->source);
  OK(ms_fill_(whole, 1, &E));
}

static void types_promote_as_in_pytorch(void **state) {
  (void)state;
  static const ms_dtype want[MS_DTYPE_COUNT][MS_DTYPE_COUNT] = {[MS_F32] = {MS_F32, MS_F32, MS_F32, MS_F32, MS_F32},
                                                                [MS_BF16] = {MS_F32, MS_BF16, MS_F32, MS_BF16, MS_BF16},
                                                                [MS_SPIKE] = {MS_F32, MS_F32, MS_F32, MS_F32, MS_F32},
                                                                [MS_U8] = {MS_F32, MS_BF16, MS_F32, MS_U8, MS_I64},
                                                                [MS_I64] = {MS_F32, MS_BF16, MS_F32, MS_I64, MS_I64}};
  for (int a = 0; a < MS_DTYPE_COUNT; a++)
    for (int b = 0; b < MS_DTYPE_COUNT; b++) {
      ms_tensor *x = filled((ms_dtype)a, SIZES(2), VALUES(3, 1)), *y = filled((ms_dtype)b, SIZES(2), VALUES(2, 4));
      MAKE(product, ms_binary(&product, MS_BINARY_mul, x, y, &E));
      assert_int_equal(product->dtype, want[a][b]);
      SAME(product, 6, 4);
      MAKE(quotient, ms_binary(&quotient, MS_BINARY_div, x, y, &E));
      assert_true(ms_is_float(quotient->dtype) && quotient->dtype != MS_SPIKE);
      SAME(quotient, 1.5, 0.25);
      MAKE(less, ms_binary(&less, MS_BINARY_lt, x, y, &E));
      assert_int_equal(less->dtype, MS_U8);
      SAME(less, 0, 1);
    }
  ms_tensor *whole = filled(MS_I64, SIZES(2), VALUES(7, -2)), *spike = filled(MS_SPIKE, SIZES(2), VALUES(1, 0));
  MAKE(more, ms_binary_scalar(&more, MS_BINARY_add, whole, 2, 0, &E));
  assert_int_equal(more->dtype, MS_I64);
  MAKE(half, ms_binary_scalar(&half, MS_BINARY_mul, whole, 0.5, 0, &E));
  assert_int_equal(half->dtype, MS_F32);
  SAME(half, 3.5, -1);
  MAKE(less, ms_binary_scalar(&less, MS_BINARY_sub, spike, 1, 1, &E));
  assert_int_equal(less->dtype, MS_F32);
  SAME(less, 0, 1);
  MAKE(negative, ms_unary(&negative, MS_UNARY_neg, whole, &E));
  assert_int_equal(negative->dtype, MS_I64);
  MAKE(root, ms_unary(&root, MS_UNARY_exp, whole, &E));
  assert_int_equal(root->dtype, MS_F32);
}

static void sums_of_spikes_stay_spikes_while_a_byte_holds_them(void **state) {
  (void)state;
  ms_tensor *a = filled(MS_SPIKE, SIZES(3), VALUES(1, 0, 1)), *b = filled(MS_SPIKE, SIZES(3), VALUES(1, 1, 0));
  a->peak = b->peak = 1;
  MAKE(sum, ms_binary(&sum, MS_BINARY_add, a, b, &E));
  assert_int_equal(sum->dtype, MS_SPIKE);
  assert_int_equal(sum->peak, 2);
  SAME(sum, 2, 1, 1);
  MAKE(part, ms_narrow(&part, sum, 0, 0, 2, &E));
  assert_int_equal(part->dtype, MS_SPIKE);
  MAKE(all, ms_cat(&all, LIST(sum, a), 0, &E));
  assert_int_equal(all->dtype, MS_SPIKE);
  assert_int_equal(all->peak, 2);
  SAME(all, 2, 1, 1, 1, 0, 1);
  sum->peak = 255;
  MAKE(over, ms_binary(&over, MS_BINARY_add, sum, a, &E));
  assert_int_equal(over->dtype, MS_F32);
  b->scale = MS_R(0.25);
  MAKE(mixed, ms_binary(&mixed, MS_BINARY_add, a, b, &E));
  assert_int_equal(mixed->dtype, MS_F32);
  SAME(mixed, 1.25, 0.25, 1);
  FAILS(ms_binary_scalar_(a, MS_BINARY_add, 1, &E), MS_ETYPE, "does not fit in place into spike [3]");
  FAILS(ms_fill_(sum, 1, &E), MS_ETYPE, "read-only");
}

static void devices_are_found_by_name(void **state) {
  (void)state;
  ms_device *d = NULL;
  OK(ms_device_find(&d, "cpu", &E));
  assert_ptr_equal(d, ms_device_cpu());
  assert_ptr_equal(d, ms_device_at(0));
  assert_string_equal(d->name, "cpu");
  OK(ms_device_find(&d, "auto", &E));
  assert_string_equal(ms_device_why("cpu"), "");
  FAILS(ms_device_find(&d, "gpu", &E), MS_EDEVICE, "unknown device 'gpu' (known: cpu, cuda, cuda:N, auto)");
  FAILS(ms_device_find(&d, "cuda:x", &E), MS_EDEVICE, "expected a number after 'cuda:'");
  FAILS(ms_device_find(&d, "cuda:99999", &E), MS_EDEVICE, "cuda:99999");
  assert_null(ms_device_at(1000));
}

static void interrupts_stop_at_the_next_row(void **state) {
  (void)state;
  ms_tensor *t = counting(MS_F32, SIZES(3)), *out = NULL;
  ms_interrupt_request();
  FAILS(ms_unary(&out, MS_UNARY_exp, t, &E), MS_EINTR, "interrupted");
  assert_null(out);
  assert_false(ms_interrupt_pending());
  OK(ms_unary(&out, MS_UNARY_exp, t, &E));
  keep(out);
}

static int hook_calls;
static void count_call(void *ud) {
  (void)ud;
  hook_calls++;
}

static void the_memory_hook_runs_after_64_MiB(void **state) {
  (void)state;
  hook_calls = 0;
  ms_set_memory_hook(count_call, NULL);
  for (int i = 0; i < 40; i++) {
    ms_tensor *t = NULL;
    OK(ms_tensor_new(&t, ms_device_cpu(), MS_U8, SIZES(8 << 20), &E));
    ms_release(t);
  }
  ms_set_memory_hook(NULL, NULL);
  assert_in_range(hook_calls, 3, 5); /* 320 MiB */
}

static void random_numbers_depend_on_key_and_logical_position_only(void **state) {
  (void)state;
  ms_philox_key key = {ms_rng_key(7, "test", "a"), 0, NULL};
  MAKE(flat, ms_random(&flat, ms_device_cpu(), MS_F32, SIZES(48), MS_RANDOM_NORMAL, 0, 1, key, &E));
  MAKE(image, ms_random(&image, ms_device_cpu(), MS_F32, SIZES(2, 3, 4, 2), MS_RANDOM_NORMAL, 0, 1, key, &E));
  double *want = get(flat);
  expect(image, want);
  free(want);
  assert_true(ms_rng_key(7, "test", "b") != key.key && ms_rng_key(8, "test", "a") != key.key);
  assert_true(ms_rng_key(7, "testa", "") != ms_rng_key(7, "test", "a"));
  ms_manual_seed(3);
  ms_philox_key first = ms_rng_next(), second = ms_rng_next();
  assert_true(first.key != second.key);
  ms_manual_seed(3);
  assert_true(ms_rng_next().key == first.key);
  ms_tensor *out = NULL;
  FAILS(ms_random(&out, ms_device_cpu(), MS_F32, SIZES(2), MS_RANDOM_BERNOULLI, 1.5, 1, key, &E), MS_ERANGE,
        "bernoulli: p");
  FAILS(ms_random(&out, ms_device_cpu(), MS_I64, SIZES(2), MS_RANDOM_NORMAL, 0, 1, key, &E), MS_ETYPE, "random: dtype");
  FAILS(ms_full(&out, ms_device_cpu(), MS_U8, SIZES(2), 300, &E), MS_ERANGE, "expected 0 to 255 for uint8, got 300");
}

static void in_place_ops_on_overlapping_memory_read_the_old_values(void **state) {
  (void)state;
  ms_tensor *t = counting(MS_F32, SIZES(4));
  MAKE(head, ms_narrow(&head, t, 0, 0, 3, &E));
  MAKE(tail, ms_narrow(&tail, t, 0, 1, 3, &E));
  OK(ms_binary_(tail, MS_BINARY_add, head, &E));
  SAME(t, 0, 1, 3, 5);
  MAKE(first, ms_select(&first, t, 0, 1, &E));
  OK(ms_binary_(t, MS_BINARY_sub, first, &E));
  SAME(t, -1, 0, 2, 4);
  OK(ms_copy_(tail, head, &E));
  SAME(t, -1, -1, 0, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(fresh_tensors_are_channels_last_from_four_dimensions),
      TEST(impossible_shapes_are_refused),
      TEST(values_cross_the_border_in_logical_order),
      TEST(views_share_memory),
      TEST(a_view_that_memory_does_not_allow_names_reshape),
      TEST(every_view_is_right_or_refused),
      TEST(out_of_range_dimensions_and_positions_are_errors),
      TEST(an_expanded_view_over_time_knows_its_source),
      TEST(types_promote_as_in_pytorch),
      TEST(sums_of_spikes_stay_spikes_while_a_byte_holds_them),
      TEST(devices_are_found_by_name),
      TEST(interrupts_stop_at_the_next_row),
      TEST(the_memory_hook_runs_after_64_MiB),
      TEST(random_numbers_depend_on_key_and_logical_position_only),
      TEST(in_place_ops_on_overlapping_memory_read_the_old_values),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
