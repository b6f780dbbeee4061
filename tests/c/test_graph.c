/* The tape: accumulation, retained graphs, versions, in-place ops, callbacks, chains of any length, failures. */
#include "coretest.h"

#define SAME(t, ...) expect(t, VALUES(__VA_ARGS__))

static ms_tensor *times(ms_tensor *a, ms_tensor *b) {
  MAKE(y, ms_binary(&y, MS_BINARY_mul, a, b, &E));
  return y;
}

static ms_tensor *plus(ms_tensor *a, ms_tensor *b) {
  MAKE(y, ms_binary(&y, MS_BINARY_add, a, b, &E));
  return y;
}

static ms_tensor *total(ms_tensor *a) {
  MAKE(y, ms_reduce(&y, MS_REDUCE_sum, a, 0, 0, &E));
  return y;
}

static ms_tensor *ramp(void) {
  return filled(MS_F32, SIZES(3), VALUES(1, 2, 3));
}

static void gradients_add_up_over_uses_and_calls(void **state) {
  (void)state;
  ms_tensor *x = leaf(ramp());
  assert_null(gradient(x));
  ms_tensor *y = total(plus(times(x, x), x));
  OK(ms_backward(y, NULL, 0, &E));
  SAME(gradient(x), 3, 5, 7);
  OK(ms_backward(total(x), NULL, 0, &E));
  SAME(gradient(x), 4, 6, 8);
  OK(ms_set_grad(x, NULL, &E));
  assert_null(gradient(x));
  OK(ms_set_grad(x, ramp(), &E));
  SAME(gradient(x), 1, 2, 3);
  FAILS(ms_set_grad(x, filled(MS_F32, SIZES(2), VALUES(1, 1)), &E), MS_ESHAPE, "grad: expected float32 [3]");
  SAME(gradient(x), 1, 2, 3);
}

static void a_leaf_is_its_own_gradient(void **state) {
  (void)state;
  ms_tensor *x = leaf(filled(MS_F32, 0, NULL, VALUES(4)));
  OK(ms_backward(x, NULL, 0, &E));
  SAME(gradient(x), 1);
}

static void roots_need_one_element_or_a_seed(void **state) {
  (void)state;
  ms_tensor *x = leaf(ramp()), *y = times(x, x);
  FAILS(ms_backward(y, NULL, 0, &E), MS_ESHAPE, "one element, got [3]");
  FAILS(ms_backward(y, filled(MS_F32, SIZES(2), VALUES(1, 1)), 0, &E), MS_ESHAPE,
        "expected float32 [3], got float32 [2]");
  FAILS(ms_backward(ramp(), NULL, 0, &E), MS_EGRAPH, "does not require grad");
  OK(ms_backward(y, ramp(), 0, &E));
  SAME(gradient(x), 2, 8, 18);
}

static void a_second_backward_needs_a_retained_graph(void **state) {
  (void)state;
  ms_tensor *x = leaf(ramp()), *y = total(times(x, x));
  OK(ms_backward(y, NULL, 1, &E));
  OK(ms_backward(y, NULL, 0, &E));
  SAME(gradient(x), 4, 8, 12);
  FAILS(ms_backward(y, NULL, 0, &E), MS_EGRAPH, "what 'sum' saved was released by an earlier backward");
  SAME(gradient(x), 4, 8, 12);
}

static void what_was_saved_must_not_change(void **state) {
  (void)state;
  ms_tensor *w = leaf(ramp()), *x = ramp(), *y = times(w, x);
  OK(ms_binary_scalar_(x, MS_BINARY_add, 1, &E));
  FAILS(ms_backward(total(y), NULL, 0, &E), MS_EGRAPH, "saved by 'mul' was changed by 'add_'");
  ms_tensor *z = times(w, w);
  ms_set_grad_enabled(0);
  OK(ms_fill_(w, 1, &E));
  ms_set_grad_enabled(1);
  FAILS(ms_backward(total(z), NULL, 0, &E), MS_EGRAPH, "saved by 'mul' was changed by 'fill_'");
  assert_null(gradient(w));
}

static void leaves_are_not_changed_while_recording(void **state) {
  (void)state;
  ms_tensor *w = leaf(ramp());
  strcpy(w->name, "0.weight");
  FAILS(ms_fill_(w, 0, &E), MS_EGRAPH, "fill_: '0.weight' is a leaf that requires grad");
  FAILS(ms_binary_(w, MS_BINARY_add, ramp(), &E), MS_EGRAPH, "no_grad");
  FAILS(ms_copy_(w, ramp(), &E), MS_EGRAPH, "copy_");
  SAME(w, 1, 2, 3);
  ms_set_grad_enabled(0);
  OK(ms_binary_(w, MS_BINARY_add, ramp(), &E));
  SAME(w, 2, 4, 6);
  assert_null(w->node);
}

static void in_place_ops_on_results_are_followed(void **state) {
  (void)state;
  ms_tensor *x = leaf(ramp()), *y = times(x, x), *early = times(y, ramp());
  OK(ms_binary_scalar_(y, MS_BINARY_mul, 3, &E)); /* y = 3 x^2; early still has x^2 */
  OK(ms_unary_(y, MS_UNARY_square, &E));          /* 9 x^4 */
  OK(ms_axpy_(y, 2, 1, x, &E));                   /* 18 x^4 + x */
  SAME(y, 19, 290, 1461);
  OK(ms_backward(total(plus(y, early)), NULL, 0, &E));
  SAME(gradient(x), 72 + 1 + 2, 72 * 8 + 1 + 8, 72 * 27 + 1 + 18);
  ms_tensor *buffer = filled(MS_F32, SIZES(2, 3), VALUES(0, 0, 0, 0, 0, 0));
  OK(ms_set_grad(x, NULL, &E));
  OK(ms_copy_(buffer, x, &E)); /* broadcasts */
  OK(ms_backward(total(times(buffer, buffer)), NULL, 0, &E));
  SAME(gradient(x), 4, 8, 12);
  OK(ms_fill_(buffer, 2, &E));
  assert_false(buffer->requires_grad);
}

static void shared_memory_is_not_rewritten_behind_the_graph(void **state) {
  (void)state;
  ms_tensor *x = leaf(ramp()), *y = times(x, x), *buffer = filled(MS_F32, SIZES(2, 3), VALUES(0, 0, 0, 0, 0, 0));
  MAKE(view, ms_view(&view, y, SIZES(3, 1), &E));
  FAILS(ms_binary_scalar_(view, MS_BINARY_add, 1, &E), MS_EGRAPH, "add_: the tensor shares memory");
  FAILS(ms_binary_scalar_(y, MS_BINARY_add, 1, &E), MS_EGRAPH, "add_: the tensor shares memory");
  MAKE(row, ms_select(&row, buffer, 0, 0, &E));
  FAILS(ms_copy_(row, x, &E), MS_EGRAPH, "copy_: the tensor shares memory with another one");
  SAME(buffer, 0, 0, 0, 0, 0, 0);
  OK(ms_copy_(row, ramp(), &E));
  SAME(buffer, 1, 2, 3, 0, 0, 0);
  /* matmul, stack and the like look at views of their own: their arguments stay free */
  ms_tensor *u = times(x, x);
  MAKE(stacked, ms_stack(&stacked, LIST(u, u), 0, &E));
  MAKE(dot, ms_matmul(&dot, u, x, &E));
  OK(ms_binary_scalar_(u, MS_BINARY_add, 1, &E));
  OK(ms_backward(dot, NULL, 0, &E));
  SAME(gradient(x), 3, 12, 27);
}

static void gradients_of_chosen_inputs_leave_grad_alone(void **state) {
  (void)state;
  ms_tensor *x = leaf(ramp()), *w = leaf(ramp()), *unused = leaf(ramp()), *h = times(x, w), *y = total(times(h, h)),
            *g[3];
  OK(ms_grad_of(g, y, NULL, LIST(x, h, unused), 1, &E));
  SAME(keep(g[0]), 2, 16, 54);
  SAME(keep(g[1]), 2, 8, 18);
  assert_null(g[2]);
  assert_null(gradient(x));
  OK(ms_grad_of(g, y, NULL, LIST(h), 0, &E)); /* what lies behind h is not visited, so it stays */
  SAME(keep(g[0]), 2, 8, 18);
  OK(ms_backward(total(h), NULL, 0, &E));
  SAME(gradient(x), 1, 2, 3);
  FAILS(ms_grad_of(g, y, NULL, LIST(ramp()), 0, &E), MS_EGRAPH, "tensor 1 does not require grad");
}

static void only_float_leaves_require_grad(void **state) {
  (void)state;
  ms_tensor *label = filled(MS_I64, SIZES(2), VALUES(0, 1)), *x = leaf(ramp()), *y = times(x, x);
  FAILS(ms_set_requires_grad(label, 1, &E), MS_ETYPE, "got int64");
  FAILS(ms_set_requires_grad(y, 0, &E), MS_EGRAPH, "a result of 'mul'");
  ms_tensor *spike = leaf(filled(MS_SPIKE, SIZES(3), VALUES(1, 0, 1)));
  OK(ms_backward(total(times(spike, ramp())), NULL, 0, &E));
  SAME(gradient(spike), 1, 2, 3);
  assert_int_equal(gradient(spike)->dtype, MS_F32);
  ms_set_grad_enabled(0);
  assert_false(times(x, x)->requires_grad);
  ms_set_grad_enabled(1);
  MAKE(detached, ms_detach(&detached, y, &E));
  assert_false(detached->requires_grad);
}

/* y = 2x, told from outside */
static int releases;
static ms_status double_call(void *ud, int nin, ms_tensor **din, int nout, ms_tensor *const *dout, ms_error *err) {
  assert_int_equal(nin, 1);
  assert_int_equal(nout, 1);
  assert_false(ms_grad_enabled());
  return *(int *)ud ? ms_fail(err, MS_ECALL, "double: broken")
                    : ms_binary_scalar(din, MS_BINARY_mul, dout[0], 2, 0, err);
}

static void count_release(void *ud) {
  (void)ud;
  releases++;
}

static void callbacks_take_part(void **state) {
  (void)state;
  int broken = 0;
  ms_callback cb = {double_call, count_release, &broken};
  ms_tensor *x = leaf(ramp());
  releases = 0;
  for (broken = 0; broken < 2; broken++) {
    ms_set_grad_enabled(0);
    MAKE(y, ms_binary_scalar(&y, MS_BINARY_mul, x, 2, 0, &E));
    ms_set_grad_enabled(1);
    OK(ms_record_callback("double", cb, LIST(x), LIST(y), &E));
    if (broken) {
      FAILS(ms_backward(total(y), NULL, 0, &E), MS_ECALL, "double: broken");
    } else {
      OK(ms_backward(total(y), NULL, 0, &E));
      assert_int_equal(releases, 1); /* right after its use */
      FAILS(ms_backward(y, ramp(), 0, &E), MS_EGRAPH, "what 'double' saved was released");
      FAILS(ms_record_callback("double", cb, LIST(x), LIST(y), &E), MS_EGRAPH, "output 1 is part of the graph already");
    }
  }
  SAME(gradient(x), 2, 2, 2);
}

static void an_interrupt_between_nodes_leaves_nothing_behind(void **state) {
  (void)state;
  ms_tensor *x = leaf(ramp()), *y = total(times(x, x));
  ms_interrupt_request();
  FAILS(ms_backward(y, NULL, 0, &E), MS_EINTR, "interrupted");
  assert_true(ms_grad_enabled());
  assert_null(gradient(x));
  OK(ms_backward(y, NULL, 0, &E));
  SAME(gradient(x), 2, 4, 6);
}

#ifdef __SANITIZE_ADDRESS__
#define LINKS 100000
#else
#define LINKS 1000000
#endif

static void chains_of_a_million_nodes_do_not_recurse(void **state) {
  (void)state;
  ms_tensor *x = leaf(filled(MS_F32, 0, NULL, VALUES(1)));
  for (int again = 0; again < 2; again++) {
    ms_tensor *y = ms_retain(x), *next = NULL;
    for (int i = 0; i < LINKS; i++) {
      OK(ms_binary_scalar(&next, MS_BINARY_add, y, 1e-3, 0, &E));
      ms_release(y);
      y = next;
    }
    if (!again)
      OK(ms_backward(y, NULL, 0, &E));
    ms_release(y); /* the second time without a backward */
  }
  SAME(gradient(x), 1);
}

/* Every kind of op once; *loss +1. */
static ms_status composite(ms_tensor **loss, ms_tensor *x, ms_tensor *w, ms_error *err) {
  ms_tensor *t[16] = {NULL};
  ms_tensor *list[10];
  ms_status st = ms_matmul(&t[0], x, w, err);
  if (!st)
    st = ms_unary(&t[1], MS_UNARY_tanh, t[0], err);
  if (!st)
    st = ms_transpose(&t[2], t[1], 0, 1, err);
  if (!st)
    st = ms_log_softmax(&t[3], t[2], 0, err);
  for (int i = 0; i < 10; i++)
    list[i] = t[3];
  if (!st)
    st = ms_stack(&t[4], 10, list, 1, err);
  if (!st)
    st = ms_flatten(&t[5], t[4], 0, 1, err);
  if (!st)
    st = ms_reduce(&t[6], MS_REDUCE_max, t[5], 1, 1, err);
  if (!st)
    st = ms_binary(&t[7], MS_BINARY_pow, t[5], t[6], err);
  if (!st)
    st = ms_var(&t[8], t[5], 1u << 1, 0, 1, err);
  if (!st)
    st = ms_narrow(&t[9], t[8], 0, 1, 3, err);
  if (!st)
    st = ms_reduce(&t[10], MS_REDUCE_prod, t[9], 0, 0, err);
  if (!st)
    st = ms_mean(&t[11], t[5], 0, 0, err);
  if (!st)
    st = ms_binary_scalar_(t[11], MS_BINARY_mul, 2, err);
  if (!st)
    st = ms_binary(loss, MS_BINARY_add, t[10], t[11], err);
  for (int i = 0; i < 16; i++)
    ms_release(t[i]);
  return st;
}

static ms_status task(ms_error *err) {
  ms_tensor *x = NULL, *w = NULL, *loss = NULL, *g = NULL;
  ms_philox_key key = {1, 0, NULL};
  ms_status st = ms_random(&x, ms_device_cpu(), MS_F32, SIZES(3, 2), MS_RANDOM_NORMAL, 0, 1, key, err);
  if (!st)
    st = ms_random(&w, ms_device_cpu(), MS_F32, SIZES(2, 4), MS_RANDOM_NORMAL, 0, 1, key, err);
  if (!st)
    st = ms_set_requires_grad(w, 1, err);
  if (!st)
    st = composite(&loss, x, w, err);
  if (!st)
    st = ms_grad_of(&g, loss, NULL, 1, &w, 1, err);
  if (!st)
    st = ms_backward(loss, NULL, 1, err);
  if (!st)
    st = ms_backward(loss, NULL, 0, err);
  ms_release(g);
  ms_release(loss);
  ms_release(w);
  ms_release(x);
  return st;
}

static void any_allocation_may_fail(void **state) {
  (void)state;
  int64_t n = 0;
  for (ms_status st = MS_EMEM; st; n++) {
    memset(&E, 0, sizeof E);
    ms_fail_allocation(n);
    st = task(&E);
    ms_fail_allocation(-1);
    if (st && (st != MS_EMEM || !strstr(E.text, "out of memory")))
      fail_msg("allocation %lld: status %d, '%s'", (long long)n, st, E.text);
    if (!nothing_left() || !ms_grad_enabled())
      fail_msg("allocation %lld left something behind", (long long)n);
  }
  assert_true(n > 200);
}

static ms_status run_composite(ms_tensor **out, ms_tensor *const *x, ms_error *err) {
  return composite(out, x[0], x[1], err);
}

static void the_composite_has_the_right_slopes(void **state) {
  (void)state;
  ms_tensor *x[] = {between(-1, 1, SIZES(3, 2)), between(-1, 1, SIZES(2, 4))};
  check_slopes("composite", run_composite, 2, x);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(gradients_add_up_over_uses_and_calls),
      TEST(a_leaf_is_its_own_gradient),
      TEST(roots_need_one_element_or_a_seed),
      TEST(a_second_backward_needs_a_retained_graph),
      TEST(what_was_saved_must_not_change),
      TEST(leaves_are_not_changed_while_recording),
      TEST(in_place_ops_on_results_are_followed),
      TEST(shared_memory_is_not_rewritten_behind_the_graph),
      TEST(gradients_of_chosen_inputs_leave_grad_alone),
      TEST(only_float_leaves_require_grad),
      TEST(callbacks_take_part),
      TEST(an_interrupt_between_nodes_leaves_nothing_behind),
      TEST(chains_of_a_million_nodes_do_not_recurse),
      TEST(any_allocation_may_fail),
      TEST(the_composite_has_the_right_slopes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
