/* Linear, dropout, empty batches, bfloat16, errors. */
#include "mininet.h"

static double wave(int64_t i) {
  return sin(1.7 * (double)i + 0.3);
}

static void linear_takes_any_shape(void **state) {
  (void)state;
  ms_tensor *x = leaf(wave, SIZE(2, 3, 2, 5)), *flat, *w = make(net_linear, SIZE(4, 5)), *b = make(net_bias, SIZE(4)),
            *y, *z, *m;
  OK(ms_linear(&y, x, w, b, &test_err));
  OK(ms_reshape(&flat, x, SIZE(12, 5), &test_err));
  OK(ms_transpose(&m, w, 0, 1, &test_err));
  OK(ms_matmul(&z, flat, m, &test_err));
  ms_release(m);
  OK(ms_binary(&m, MS_BINARY_add, z, b, &test_err));
  ms_release(flat);
  OK(ms_reshape(&flat, m, SIZE(2, 3, 2, 4), &test_err));
  all_close(y, flat, TOLERANCE, "y");
  ms_tensor *counts;
  int64_t ops[2];
  OK(ms_linear_synops(&counts, x, w, &test_err));
  OK(ms_read(counts, ops, &test_err));
  assert_int_equal(ops[0], 60);
  assert_int_equal(ops[1], 240);
  ms_tensor *held[] = {x, flat, w, b, y, z, m, counts};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

static void dropout_draws_the_same_mask_twice(void **state) {
  (void)state;
  ms_tensor *x = leaf(ones, SIZE(2, 3, 4, 5, 5)), *y, *sum;
  OK(ms_dropout(&y, x, 0.25, (ms_philox_key){42, 7, NULL}, &test_err));
  OK(ms_reduce(&sum, MS_REDUCE_sum, y, 0, 0, &test_err));
  OK(ms_backward(sum, NULL, 0, &test_err));
  same_bits(grad_of(x), y);
  assert_true(fabs(item(sum) / 600 - 1) < 0.15);
  ms_release(x);
  ms_release(y);
  ms_release(sum);
}

/* N = 0 passes in evaluation, with gradients of zero. */
static void an_empty_batch_passes(void **state) {
  (void)state;
  ms_tensor *x = make(wave, SIZE(3, 0, 2, 4, 4)), *w = leaf(net_conv, SIZE(4, 2, 3, 3)), *a, *b, *s, *p, *sum, *counts;
  ms_tensor *gamma = leaf(net_gamma, SIZE(4)), *mean = make(zeros, SIZE(4)), *var = make(ones, SIZE(4));
  ms_neuron_opts o = {.p = lif()};
  OK(ms_conv2d(&a, x, w, NULL, (ms_conv_opts){1, 1, 1, 1, 1, 1, 1}, &test_err));
  OK(ms_batch_norm(&b, a, gamma, NULL, mean, var, (ms_norm_opts){1e-5, 0.1, 1, 0, NULL}, &test_err));
  OK(ms_neuron_forward(&s, NULL, &counts, b, NULL, NULL, &o, NULL, &test_err));
  OK(ms_avg_pool2d(&p, s, (ms_pool_opts){2, 2, 2, 2, 0, 0, 0, 1}, &test_err));
  OK(ms_reduce(&sum, MS_REDUCE_sum, p, 0, 0, &test_err));
  OK(ms_backward(sum, NULL, 0, &test_err));
  OK(ms_materialise(counts, &test_err));
  for (int64_t i = 0; i < 12; i++)
    assert_int_equal(((int64_t *)counts->storage->data)[i], 0);
  ms_tensor *none = make(zeros, SIZE(4)), *nothing = make(zeros, SIZE(4, 2, 3, 3));
  same_bits(grad_of(gamma), none);
  same_bits(grad_of(w), nothing);
  FAILS(ms_batch_norm(&sum, a, gamma, NULL, mean, var, (ms_norm_opts){1e-5, 0.1, 1, 1, NULL}, &test_err), MS_ESHAPE,
        "expected more than 1 value per channel");
  ms_tensor *held[] = {x, w, a, b, s, p, sum, counts, gamma, mean, var, none, nothing};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

static void bfloat16_input_is_close(void **state) {
  (void)state;
  ms_tensor *x = make(wave, SIZE(2, 2, 5, 5)), *half, *back, *w = make(net_conv, SIZE(4, 2, 3, 3)), *y, *z;
  OK(ms_to(&half, x, NULL, MS_BF16, &test_err));
  OK(ms_to(&back, half, NULL, MS_F32, &test_err));
  OK(ms_conv2d(&y, half, w, NULL, (ms_conv_opts){1, 1, 1, 1, 1, 1, 1}, &test_err));
  OK(ms_conv2d(&z, back, w, NULL, (ms_conv_opts){1, 1, 1, 1, 1, 1, 1}, &test_err));
  assert_int_equal(y->dtype, MS_F32);
  all_close(y, z, TOLERANCE, "y");
  ms_tensor *held[] = {x, half, back, w, y, z};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

static void misuse_is_an_error(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  ms_error *e = &test_err;
  ms_tensor *x = make(wave, SIZE(2, 3, 4, 4)), *w = make(wave, SIZE(4, 2, 3, 3)), *one = make(wave, SIZE(1, 3)), *out,
            *logits;
  ms_tensor *bad = labels_of(2, (int64_t[]){1, 9}), *bf;
  ms_conv_opts o = {1, 1, 0, 0, 1, 1, 1};
  ms_loss_parts parts;
  FAILS(ms_conv2d(&out, x, w, NULL, o, e), MS_ESHAPE,
        "conv2d: x: expected 2 channels (weight [4, 2, 3, 3], groups 1), got");
  FAILS(ms_linear(&out, x, one, NULL, e), MS_ESHAPE, "linear: x: expected [..., 3]");
  FAILS(ms_avg_pool2d(&out, x, (ms_pool_opts){5, 5, 1, 1, 0, 0, 0, 0}, e), MS_ESHAPE,
        "avg_pool2d: x: expected an image of at least 5x5");
  FAILS(ms_batch_norm(&out, one, NULL, NULL, NULL, NULL, (ms_norm_opts){1e-5, 0.1, 1, 1, NULL}, e), MS_ESHAPE,
        "expected more than 1 value per channel when training, got float32 [1, 3]");
  logits = make(wave, SIZE(3, 2, 4));
  FAILS(ms_classification_loss(&parts, logits, bad, net_loss_opts, e), MS_ERANGE,
        "expected values in [0, 3], got 9 at index 1");
  FAILS(ms_dropout(&out, x, 1.5, (ms_philox_key){0, 0, NULL}, e), MS_ERANGE, "dropout: p: expected");
  OK(ms_to(&bf, one, NULL, MS_BF16, e));
  FAILS(ms_trt_regulariser(&out, NULL, 1, &bf, net_trt, e), MS_ETYPE, "expected float32");
  FAILS(ms_trt_regulariser(&out, NULL, 1, &one, (ms_trt_opts){1, 1, 1, 0, 999}, e), MS_ERANGE,
        "trt: T: expected 1 to 128 steps, got 999");
  ms_tensor *held[] = {x, w, one, bad, logits, bf};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  no_leaks(before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(linear_takes_any_shape), cmocka_unit_test(dropout_draws_the_same_mask_twice),
      cmocka_unit_test(an_empty_batch_passes),  cmocka_unit_test(bfloat16_input_is_close),
      cmocka_unit_test(misuse_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
