/* What the host waits for, on a device that is not the CPU to core (its rows are the CPU's). A training step waits for
** nothing; whatever must look at a value does so on the CPU only, or because it was asked to. */
#include "../../host/core/data/augment.h"
#include "mininet.h"

static ms_backend table;
static ms_device other;
static int waits;

static ms_status counting_synchronize(ms_stream *s) {
  waits++;
  return ms_device_cpu()->k->synchronize(s);
}

static ms_status counting_copy(ms_stream *s, void *dst, const void *src, size_t bytes, ms_copy_kind kind) {
  waits += kind == MS_COPY_DEVICE_TO_HOST;
  return ms_device_cpu()->k->copy_bytes(s, dst, src, bytes, kind);
}

static int setup(void **state) {
  (void)state;
  other = *ms_device_cpu();
  table = *other.k;
  table.synchronize = counting_synchronize;
  table.copy_bytes = counting_copy;
  other.k = &table;
  return 0;
}

static int teardown(void **state) {
  (void)state;
  ms_device_set_current(NULL);
  return 0;
}

/* The loss of the network and, with rows by index, the sum of squares of two rows of its last weight. */
static void backward(mininet *n) {
  ms_tensor *l, *rows, *square, *sum, *total;
  OK(net_loss(&l, n, &test_err));
  OK(ms_index_select(&rows, n->p[NET_LINEAR], 0, n->y, &test_err));
  OK(ms_unary(&square, MS_UNARY_square, rows, &test_err));
  OK(ms_reduce(&sum, MS_REDUCE_sum, square, 0, 0, &test_err));
  OK(ms_binary(&total, MS_BINARY_add, l, sum, &test_err));
  OK(ms_backward(total, NULL, 0, &test_err));
  ms_tensor *held[] = {l, rows, square, sum, total};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

static mininet trained(ms_device *d, ms_optim_kind kind) {
  ms_device_set_current(d);
  mininet n = net_new();
  ms_hyper h = {.lr = 1e-2, .momentum = kind == MS_OPTIM_SGD ? 0.9 : 0, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
  ms_optim *o;
  int group;
  OK(ms_optim_new(&o, kind, &test_err));
  OK(ms_optim_add_group(o, NET_PARAMS, n.p, &h, &group, &test_err));
  for (int step = 0; step < 4; step++) {
    waits = 0;
    OK(ms_optim_zero_grad(o, &test_err));
    for (int k = 0; k <= step % 2; k++) /* once, or two that add up */
      backward(&n);
    assert_non_null(n.p[NET_CONV]->pending);
    if (step % 3 == 2)
      OK(ms_clip_grad_value(NET_PARAMS, n.p, 0.1, &test_err));
    if (step % 3 == 1) {
      ms_tensor *norm;
      OK(ms_clip_grad_norm(&norm, NET_PARAMS, n.p, 0.1, &test_err));
      ms_release(norm);
    }
    h.lr *= 0.5; /* a schedule */
    OK(ms_optim_set(o, group, &h, &test_err));
    assert_int_equal(waits, 0);
    OK(ms_optim_step(o, &test_err));
    if (step) /* the first one brings the settings there */
      assert_int_equal(waits, 0);
  }
  ms_optim_free(o);
  return n;
}

static void a_step_waits_for_nothing(void **state) {
  (void)state;
  for (int kind = 0; kind < 2; kind++) {
    mininet a = trained(NULL, (ms_optim_kind)kind), b = trained(&other, (ms_optim_kind)kind);
    for (int i = 0; i < NET_PARAMS; i++)
      same_bits(a.p[i], b.p[i]);
    net_free(&a);
    net_free(&b);
  }
}

static void wrong_values_are_errors_where_looking_is_free(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    ms_device_set_current(i ? &other : NULL);
    ms_tensor *x = make(ones, SIZE(3, 2)), *index = labels_of(2, (int64_t[]){0, 3}), *out = NULL;
    waits = 0;
    if (i) {
      OK(ms_index_select(&out, x, 0, index, &test_err));
      assert_int_equal(waits, 0);
      expect(out, (double[]){1, 1, 0, 0}, 0, "rows");
    } else {
      FAILS(ms_index_select(&out, x, 0, index, &test_err), MS_ERANGE, "expected values from 0 to 2");
    }
    ms_tensor *logits = make(ones, SIZE(2, 2, 3));
    ms_loss_parts parts = {NULL, NULL, NULL};
    waits = 0;
    if (i) {
      OK(ms_classification_loss(&parts, logits, index, net_loss_opts, &test_err));
      assert_int_equal(waits, 0);
      assert_true(item(parts.correct) == -1);
    } else {
      FAILS(ms_classification_loss(&parts, logits, index, net_loss_opts, &test_err), MS_ERANGE, "got 3 at index 1");
    }
    ms_tensor *held[] = {x, index, out, logits, parts.value, parts.parts, parts.correct};
    for (size_t k = 0; k < sizeof held / sizeof *held; k++)
      ms_release(held[k]);
  }
}

static void values_that_go_there_are_not_waited_for(void **state) {
  (void)state;
  ms_device_set_current(&other);
  int64_t size[2] = {2, 3};
  ms_real row[3] = {1, 2, 3};
  ms_tensor *x, *y, *spikes, *counts, *v;
  ms_neuron_opts o = {.p = {.leak = 1, .gain = 1, .threshold = 1}};
  waits = 0;
  OK(ms_full(&x, &other, MS_F32, 2, size, 0, &test_err));
  OK(ms_select(&y, x, 0, 1, &test_err));
  OK(ms_write(y, row, &test_err));
  ms_release(y);
  ms_device_set_current(NULL);
  OK(ms_full(&y, ms_device_cpu(), MS_F32, 2, size, 1, &test_err));
  ms_tensor *there;
  OK(ms_to(&there, y, &other, -1, &test_err));
  OK(ms_neuron_forward(&spikes, &v, &counts, there, NULL, NULL, &o, NULL, &test_err));
  OK(ms_materialise(spikes, &test_err));
  OK(ms_materialise(counts, &test_err));
  assert_int_equal(waits, 0);
  ms_tensor *held[] = {x, y, there, spikes, counts, v};
  for (size_t k = 0; k < sizeof held / sizeof *held; k++)
    ms_release(held[k]);
}

/* Of samples that lie there, by indices that do not. */
static void a_batch_is_not_waited_for(void **state) {
  (void)state;
  static const ms_augment_recipe recipe = {1, {{MS_AUGMENT_crop, 1, 0, 2, 1, 1}}};
  ms_augment_opts o = {.recipe = &recipe, .scale = 1};
  int64_t size[4] = {3, 2, 4, 4};
  ms_tensor *x, *index = labels_of(2, (int64_t[]){2, 0}), *batch;
  OK(ms_full(&x, &other, MS_F32, 4, size, 1, &test_err));
  waits = 0;
  OK(ms_augment(&batch, x, index, &o, &test_err));
  assert_int_equal(waits, 0);
  ms_release(x);
  ms_release(index);
  ms_release(batch);
}

static void what_asks_for_a_value_waits(void **state) {
  (void)state;
  ms_device_set_current(&other);
  ms_tensor *x = make(ones, SIZE(1));
  waits = 0;
  item(x);
  assert_true(waits > 0);
  ms_release(x);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(a_step_waits_for_nothing, teardown),
      cmocka_unit_test_teardown(wrong_values_are_errors_where_looking_is_free, teardown),
      cmocka_unit_test_teardown(values_that_go_there_are_not_waited_for, teardown),
      cmocka_unit_test_teardown(a_batch_is_not_waited_for, teardown),
      cmocka_unit_test_teardown(what_asks_for_a_value_waits, teardown),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
