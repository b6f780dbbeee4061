/* Arenas, optimizers and the pending regulariser: each shortcut against the plain computation through the tape. */
#include "mininet.h"

#ifdef _OPENMP
#include <omp.h>
#endif

static double wave(int64_t i) {
  return sin(1.7 * (double)i + 0.3);
}
static double slope(int64_t i) {
  return 0.5 * cos(0.9 * (double)i);
}
static double two(int64_t i) {
  return 2 + 0 * (double)i;
}

static ms_hyper settings(double lr) {
  return (ms_hyper){.lr = lr, .momentum = 0, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
}

static ms_optim *optim(ms_optim_kind kind, int n, ms_tensor *const *params, double lr) {
  ms_optim *o;
  ms_hyper h = settings(lr);
  int group;
  OK(ms_optim_new(&o, kind, &test_err));
  OK(ms_optim_add_group(o, n, params, &h, &group, &test_err));
  return o;
}

static double steps_taken(ms_optim *o, int i) {
  ms_tensor *p, *m, *v;
  double step;
  OK(ms_optim_state(o, i, &p, &m, &v, &step, &test_err));
  ms_release(p);
  ms_release(m);
  ms_release(v);
  return step;
}

/* d/dp of sum(p * k) is k. */
static ms_tensor *data_loss(ms_tensor *p, filler k) {
  ms_tensor *factor = make(k, p->ndim, p->size), *a, *sum;
  OK(ms_binary(&a, MS_BINARY_mul, p, factor, &test_err));
  OK(ms_reduce(&sum, MS_REDUCE_sum, a, 0, 0, &test_err));
  ms_release(factor);
  ms_release(a);
  return sum;
}

static ms_tensor *add(ms_tensor *a, ms_tensor *b) { /* takes both over */
  ms_tensor *sum;
  OK(ms_binary(&sum, MS_BINARY_add, a, b, &test_err));
  ms_release(a);
  ms_release(b);
  return sum;
}

static ms_tensor *scaled(ms_tensor *a, double by) { /* takes a over */
  ms_tensor *out;
  OK(ms_binary_scalar(&out, MS_BINARY_mul, a, by, 0, &test_err));
  ms_release(a);
  return out;
}

static void backward(ms_tensor *l) {
  OK(ms_backward(l, NULL, 0, &test_err));
  ms_release(l);
}

/* The regulariser written out in ordinary ops: (1 / T) sum_t sum_j lambda w^2 / (1 + c_t (|w| + eps)). */
static ms_tensor *plain_trt(int n, ms_tensor *const *params, ms_trt_opts o) {
  ms_tensor *total = make(zeros, 0, NULL);
  for (int i = 0; i < n; i++)
    for (int t = 0; t < o.steps; t++) {
      double c = expm1(o.delta * (o.t0 + t));
      ms_tensor *square, *size, *q, *sum;
      OK(ms_unary(&square, MS_UNARY_square, params[i], &test_err));
      OK(ms_unary(&size, MS_UNARY_abs, params[i], &test_err));
      OK(ms_binary_scalar(&q, MS_BINARY_add, size, o.eps, 0, &test_err));
      ms_release(size);
      q = scaled(q, c);
      OK(ms_binary_scalar(&size, MS_BINARY_add, q, 1, 0, &test_err));
      ms_release(q);
      OK(ms_binary(&q, MS_BINARY_div, square, size, &test_err));
      OK(ms_reduce(&sum, MS_REDUCE_sum, q, 0, 0, &test_err));
      ms_release(square);
      ms_release(size);
      ms_release(q);
      total = add(total, scaled(sum, o.lambda / o.steps));
    }
  return total;
}

static ms_tensor *trt(int plain, int n, ms_tensor *const *params, ms_trt_opts o) {
  ms_tensor *value;
  if (plain)
    return plain_trt(n, params, o);
  OK(ms_trt_regulariser(&value, NULL, n, params, o, &test_err));
  return value;
}

/* ---- golden ---- */
static void golden_regulariser(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  ms_real w[] = {MS_R(0.5), MS_R(-0.25), 1, 0};
  ms_tensor *p = leaf(zeros, SIZE(2, 2)), *value, *each, *found;
  ms_set_grad_enabled(0);
  OK(ms_write(p, w, &test_err));
  ms_set_grad_enabled(1);
  OK(ms_trt_regulariser(&value, &each, 1, &p, (ms_trt_opts){1e-2, 0.5, 1e-5, 0, 3}, &test_err));
  expect(each, (double[]){0.013125, 0.00849075612395, 0.00546065484266}, TOLERANCE * 1e-2, "r");
  close_to(item(value), (0.013125 + 0.00849075612395 + 0.00546065484266) / 3, TOLERANCE * 1e-2, "value", 0);
  const double dw[] = {.00692069837624, -.00399136244367, .0115920673978, 0};
  OK(ms_grad_of(&found, value, NULL, 1, &p, 1, &test_err));
  expect(found, dw, TOLERANCE * 1e-2, "autograd.grad");
  assert_null(p->grad);
  assert_null(p->pending);
  OK(ms_backward(value, NULL, 0, &test_err));
  assert_non_null(p->pending);
  expect(grad_of(p), dw, TOLERANCE * 1e-2, "grad");
  assert_null(p->pending);
  ms_tensor *held[] = {p, value, each, found};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  no_leaks(before);
}

static void golden_adam(void **state) {
  (void)state;
  const double g[] = {0.1, -0.2, 0.05}, expected[] = {.9990000001, .999366103604, .999502794257};
  ms_tensor *p = leaf(ones, SIZE(1));
  ms_optim *o = optim(MS_OPTIM_ADAM, 1, &p, 1e-3);
  for (int i = 0; i < 3; i++) {
    ms_tensor *grad;
    OK(ms_full(&grad, ms_device_cpu(), MS_F32, 1, p->size, g[i], &test_err));
    OK(ms_set_grad(p, grad, &test_err));
    ms_release(grad);
    OK(ms_optim_step(o, &test_err));
    expect(p, expected + i, 1e-7, "p");
  }
  assert_true(steps_taken(o, 0) == 3);
  ms_optim_free(o);
  ms_release(p);
}

/* ---- the regulariser belongs to the loss (decision in the design: same as written out) ---- */
enum {
  PLAIN_STEP,
  CLIP,
  TWICE,
  HALF,
  TWO_LOSSES,
  NO_OPTIMIZER,
  READ_BEFORE,
  TWO_OPTIMIZERS,
  WRITE_BETWEEN,
  MANY,
  SCENARIOS
};
enum { TENSORS = 19 };

typedef struct outcome {
  ms_tensor *p[TENSORS], *grad[TENSORS];
} outcome;

static ms_tensor *whole_loss(int plain, int n, ms_tensor *const *p, ms_trt_opts o) {
  ms_tensor *l = trt(plain, n, p, o);
  for (int i = 0; i < n; i++)
    if (i % 3 != 2) /* every third has nothing but the regulariser */
      l = add(l, data_loss(p[i], slope));
  return l;
}

static outcome play(int scenario, int plain, ms_optim_kind kind) {
  outcome r;
  int n = scenario == MANY || scenario == TWICE ? TENSORS : 4;
  ms_trt_opts o = {0.05, 0.5, 1e-3, 0, 4}, other = {0.03, 0.25, 1e-3, 1, 6};
  ms_tensor *norm;
  for (int i = 0; i < TENSORS; i++)
    r.p[i] = i % 2 ? leaf(wave, SIZE(3, 5 + i)) : leaf(wave, SIZE(4, 2, 3, 3));
  ms_optim *opt = optim(kind, scenario == NO_OPTIMIZER ? 2 : n, r.p, 0.1), *second = NULL;
  if (scenario == TWO_OPTIMIZERS)
    second = optim(MS_OPTIM_SGD, 3, r.p + 1, 0.05);
  for (int step = 0; step < 3; step++) {
    OK(ms_optim_zero_grad(opt, &test_err));
    for (int i = 0; i < n; i++)
      OK(ms_set_grad(r.p[i], NULL, &test_err));
    ms_tensor *l = whole_loss(plain, n, r.p, o);
    backward(scenario == HALF ? scaled(l, 0.5) : l);
    if (scenario == TWICE)
      backward(whole_loss(plain, n, r.p, o));
    if (scenario == TWO_LOSSES)
      backward(scaled(whole_loss(plain, n - 1, r.p, other), 2));
    if (scenario == CLIP) {
      OK(ms_clip_grad_norm(&norm, n, r.p, 0.7, &test_err));
      ms_release(norm);
    }
    if (scenario == READ_BEFORE)
      grad_of(r.p[1]);
    if (scenario == WRITE_BETWEEN) { /* the term is of the values that backward saw */
      ms_tensor *view;
      ms_set_grad_enabled(0);
      OK(ms_select(&view, r.p[1], 0, 0, &test_err));
      OK(ms_fill_(view, 3, &test_err));
      ms_set_grad_enabled(1);
      ms_release(view);
    }
    OK(ms_optim_step(opt, &test_err));
    if (second)
      OK(ms_optim_step(second, &test_err));
  }
  for (int i = 0; i < TENSORS; i++)
    r.grad[i] = i < n ? copy_of(grad_of(r.p[i])) : NULL;
  ms_optim_free(opt);
  ms_optim_free(second);
  return r;
}

static void pending_equals_written_out(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  for (int kind = 0; kind < 2; kind++)
    for (int s = 0; s < SCENARIOS; s++) {
      outcome a = play(s, 0, (ms_optim_kind)kind), b = play(s, 1, (ms_optim_kind)kind);
      for (int i = 0; i < TENSORS; i++) {
        all_close(a.p[i], b.p[i], 5 * TOLERANCE, "parameter");
        if (a.grad[i])
          all_close(a.grad[i], b.grad[i], 5 * TOLERANCE, "gradient");
        ms_tensor *held[] = {a.p[i], b.p[i], a.grad[i], b.grad[i]};
        for (size_t k = 0; k < sizeof held / sizeof *held; k++)
          ms_release(held[k]);
      }
    }
  no_leaks(before);
}

/* The term that the step adds has the bits of the one that reading adds. */
static void reading_changes_no_bit(void **state) {
  (void)state;
  ms_tensor *p[2];
  for (int read = 0; read < 2; read++) {
    p[read] = leaf(wave, SIZE(7, 300));
    ms_optim *o = optim(MS_OPTIM_ADAM, 1, &p[read], 1e-2);
    for (int step = 0; step < 3; step++) {
      OK(ms_optim_zero_grad(o, &test_err));
      backward(whole_loss(0, 1, &p[read], net_trt));
      assert_non_null(p[read]->pending);
      if (read)
        grad_of(p[read]);
      OK(ms_optim_step(o, &test_err));
    }
    ms_optim_free(o);
  }
  same_bits(p[0], p[1]);
  ms_release(p[0]);
  ms_release(p[1]);
}

/* Who gave the gradient of the loss may write to it again before the step. */
static void the_scale_is_kept(void **state) {
  (void)state;
  ms_tensor *p = leaf(wave, SIZE(5)), *seed = make(two, 0, NULL), *value, *plain, *expected;
  OK(ms_trt_regulariser(&value, NULL, 1, &p, net_trt, &test_err));
  OK(ms_backward(value, seed, 0, &test_err));
  OK(ms_fill_(seed, 100, &test_err));
  plain = scaled(plain_trt(1, &p, net_trt), 2);
  OK(ms_grad_of(&expected, plain, NULL, 1, &p, 0, &test_err));
  all_close(grad_of(p), expected, TOLERANCE, "gradient");
  ms_tensor *held[] = {p, seed, value, plain, expected};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

/* ---- arenas ---- */
static void handles_taken_before_stay_the_parameter(void **state) {
  (void)state;
  ms_tensor *p = leaf(wave, SIZE(3, 4)), *q = leaf(wave, SIZE(4, 2, 3, 3)), *row, *expected, *params[2] = {p, q};
  ms_storage *storage = p->storage;
  ms_set_grad_enabled(0);
  OK(ms_select(&row, p, 0, 1, &test_err));
  ms_set_grad_enabled(1);
  int64_t at, at_q;
  assert_null(ms_arena_of(p, NULL));
  ms_live before = ms_live_counts();
  ms_optim *o = optim(MS_OPTIM_SGD, 2, params, 1);
  assert_ptr_equal(p->storage, storage);
  assert_ptr_equal(ms_arena_of(p, &at), ms_arena_of(q, &at_q));
  assert_int_equal(at_q % (int64_t)(64 / sizeof(ms_real)), 0);
  assert_int_equal(ms_live_counts().storages, before.storages);
  assert_int_equal(ms_live_counts().arenas, before.arenas + 1);
  backward(data_loss(p, slope));
  OK(ms_optim_step(o, &test_err));
  OK(ms_select(&expected, p, 0, 1, &test_err));
  all_close(row, expected, 0, "view");
  ms_real *v = values_of(row);
  close_to((double)v[0], wave(4) - slope(4), 1e-6, "view", 0);
  free(v);
  assert_null(q->grad);
  assert_true(steps_taken(o, 0) == 1 && steps_taken(o, 1) == 0);
  ms_optim_free(o);
  ms_release(p);
  ms_release(expected);
  v = values_of(row); /* the view alone keeps the arena alive */
  close_to((double)v[0], wave(4) - slope(4), 1e-6, "view", 0);
  free(v);
  ms_release(row);
  ms_release(q);
}

static void a_gradient_that_is_held_keeps_its_values(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  ms_tensor *p = leaf(wave, SIZE(3, 4));
  ms_optim *o = optim(MS_OPTIM_SGD, 1, &p, 0.5);
  backward(data_loss(p, slope));
  ms_tensor *old = ms_retain(grad_of(p)), *expected = make(slope, SIZE(3, 4));
  OK(ms_optim_zero_grad(o, &test_err));
  backward(data_loss(p, two));
  all_close(old, expected, 1e-6, "old gradient");
  ms_release(expected);
  expected = make(two, SIZE(3, 4));
  all_close(grad_of(p), expected, 1e-6, "new gradient");
  OK(ms_optim_step(o, &test_err));
  ms_optim_free(o);
  ms_release(p);
  ms_release(expected);
  ms_real *v = values_of(old);
  free(v);
  ms_release(old);
  no_leaks(before);
}

static void freezing_loading_and_late_layers(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  ms_tensor *p = leaf(wave, SIZE(3, 4)), *q = leaf(wave, SIZE(5)), *late = leaf(wave, SIZE(2, 2)), *value,
            *params[2] = {p, q};
  ms_hyper h = settings(0.1);
  int group;
  ms_optim *o = optim(MS_OPTIM_ADAM, 2, params, 0.1);
  backward(add(data_loss(p, slope), data_loss(q, slope)));
  OK(ms_optim_step(o, &test_err));
  OK(ms_optim_zero_grad(o, &test_err));
  OK(ms_set_requires_grad(q, 0, &test_err)); /* frozen: counts in the value, is not moved */
  ms_tensor *frozen = copy_of(q);
  OK(ms_trt_regulariser(&value, NULL, 2, params, net_trt, &test_err));
  ms_set_grad_enabled(0);
  ms_tensor *sum = plain_trt(2, params, net_trt);
  ms_set_grad_enabled(1);
  close_to(item(value), item(sum), TOLERANCE, "value", 0);
  backward(value);
  ms_release(sum);
  OK(ms_optim_step(o, &test_err));
  same_bits(q, frozen);
  assert_true(steps_taken(o, 0) == 2 && steps_taken(o, 1) == 1);
  OK(ms_optim_add_group(o, 1, &late, &h, &group, &test_err));
  assert_int_equal(group, 1);
  FAILS(ms_optim_add_group(o, 1, &p, &h, &group, &test_err), MS_EINVAL, "given twice");
  ms_tensor *loaded = make(two, SIZE(3, 4));
  ms_set_grad_enabled(0);
  OK(ms_copy_(p, loaded, &test_err));
  ms_set_grad_enabled(1);
  OK(ms_optim_zero_grad(o, &test_err));
  backward(add(data_loss(p, ones), data_loss(late, ones)));
  OK(ms_optim_step(o, &test_err));
  assert_true(steps_taken(o, 0) == 3 && steps_taken(o, 2) == 1);
  ms_real *v = values_of(late);
  close_to((double)v[0], wave(0) - 0.1, 1e-5, "late", 0); /* Adam's first step is lr */
  free(v);
  h.lr = 0.5;
  OK(ms_optim_set(o, 1, &h, &test_err));
  assert_true(steps_taken(o, 2) == 1);
  ms_tensor *held[] = {p, q, late, frozen, loaded};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  ms_optim_free(o);
  no_leaks(before);
}

static void shared_weights_count_once(void **state) {
  (void)state;
  ms_tensor *p = leaf(wave, SIZE(3, 4)), *twice[2] = {p, p}, *a, *b;
  OK(ms_trt_regulariser(&a, NULL, 1, twice, net_trt, &test_err));
  OK(ms_trt_regulariser(&b, NULL, 2, twice, net_trt, &test_err));
  same_bits(a, b);
  ms_tensor *once, *both;
  OK(ms_grad_of(&once, a, NULL, 1, &p, 0, &test_err));
  OK(ms_grad_of(&both, b, NULL, 1, &p, 0, &test_err));
  same_bits(once, both);
  ms_tensor *held[] = {p, a, b, once, both};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
}

static void views_and_other_types_are_refused(void **state) {
  (void)state;
  ms_tensor *p = leaf(wave, SIZE(4, 4)), *half, *part;
  ms_hyper h = settings(0.1);
  ms_optim *o;
  int group;
  ms_set_grad_enabled(0);
  OK(ms_narrow(&part, p, 0, 0, 2, &test_err));
  OK(ms_to(&half, p, NULL, MS_BF16, &test_err));
  ms_set_grad_enabled(1);
  OK(ms_optim_new(&o, MS_OPTIM_ADAM, &test_err));
  FAILS(ms_optim_add_group(o, 1, &part, &h, &group, &test_err), MS_EINVAL, "a view [2, 4]");
  FAILS(ms_optim_add_group(o, 1, &half, &h, &group, &test_err), MS_ETYPE, "expected float32");
  h.lr = -1;
  FAILS(ms_optim_add_group(o, 1, &p, &h, &group, &test_err), MS_ERANGE, "adam: lr: expected");
  assert_int_equal(ms_optim_count(o), 0);
  ms_optim_free(o);
  ms_release(p);
  ms_release(half);
  ms_release(part);
}

static void values_are_clipped(void **state) {
  (void)state;
  ms_tensor *p = leaf(wave, SIZE(3, 4)), *unused = leaf(wave, SIZE(2)), *params[3] = {p, unused, p};
  ms_tensor *norm;
  OK(ms_clip_grad_norm(&norm, 3, params, 1, &test_err));
  assert_true(item(norm) == 0);
  ms_release(norm);
  backward(data_loss(p, two));
  OK(ms_clip_grad_norm(&norm, 3, params, 1, &test_err)); /* p counts once */
  close_to(item(norm), sqrt(48), 1e-6, "norm", 0);
  ms_release(norm);
  ms_real *v = values_of(grad_of(p));
  close_to((double)v[0], 2 / (sqrt(48) + 1e-6), 1e-6, "clipped", 0);
  free(v);
  OK(ms_clip_grad_value(3, params, 0.125, &test_err));
  v = values_of(grad_of(p));
  close_to((double)v[11], 0.125, 0, "clipped", 11);
  free(v);
  assert_null(unused->grad);
  ms_release(p);
  ms_release(unused);
}

/* ---- checkpoints, interrupts ---- */
static void state_goes_out_and_in(void **state) {
  (void)state;
  ms_tensor *p[2] = {leaf(wave, SIZE(4, 2, 3, 3)), leaf(wave, SIZE(4, 2, 3, 3))}, *param, *m, *v;
  ms_optim *a = optim(MS_OPTIM_ADAM, 1, p, 0.1), *b = optim(MS_OPTIM_ADAM, 1, p + 1, 0.1);
  double step;
  for (int i = 0; i < 2; i++) {
    backward(data_loss(p[0], slope));
    OK(ms_optim_step(a, &test_err));
  }
  OK(ms_optim_state(a, 0, &param, &m, &v, &step, &test_err));
  OK(ms_optim_set_state(b, 0, m, v, step, &test_err));
  ms_set_grad_enabled(0);
  OK(ms_copy_(p[1], param, &test_err));
  ms_set_grad_enabled(1);
  OK(ms_optim_zero_grad(a, &test_err));
  for (int i = 0; i < 2; i++) {
    backward(data_loss(p[i], wave));
    OK(ms_optim_step(i ? b : a, &test_err));
  }
  same_bits(p[0], p[1]);
  ms_tensor *held[] = {p[0], p[1], param, m, v};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  ms_optim_free(a);
  ms_optim_free(b);
}

static void an_interrupted_step_did_nothing(void **state) {
  (void)state;
  ms_tensor *p = leaf(wave, SIZE(3, 4));
  ms_optim *o = optim(MS_OPTIM_ADAM, 1, &p, 0.1);
  backward(whole_loss(0, 1, &p, net_trt));
  ms_tensor *was = copy_of(p);
  ms_interrupt_request();
  assert_int_equal(ms_optim_step(o, &test_err), MS_EINTR);
  same_bits(p, was);
  assert_non_null(p->pending);
  OK(ms_optim_step(o, &test_err));
  assert_true(steps_taken(o, 0) == 1);
  ms_release(was);
  ms_release(p);
  ms_optim_free(o);
}

/* ---- a whole training step ---- */
static ms_status train_once(mininet *n, ms_error *err) {
  ms_optim *o = NULL;
  ms_tensor *l = NULL;
  ms_hyper h = settings(0.05);
  int group;
  ms_tensor *norm = NULL;
  ms_status st;
  if (!(st = ms_optim_new(&o, MS_OPTIM_ADAM, err)) && !(st = ms_optim_add_group(o, NET_PARAMS, n->p, &h, &group, err)))
    for (int i = 0; i < 2 && !st; i++) {
      if (!(st = ms_optim_zero_grad(o, err)) && !(st = net_loss(&l, n, err)) && !(st = ms_backward(l, NULL, 0, err)) &&
          (i == 0 || !(st = ms_clip_grad_norm(&norm, NET_PARAMS, n->p, 0.1, err))))
        st = ms_optim_step(o, err);
      ms_release(l);
      ms_release(norm);
      l = norm = NULL;
    }
  ms_optim_free(o);
  return st;
}

static void any_allocation_may_fail(void **state) {
  (void)state;
  ms_live before = ms_live_counts();
  int64_t failed = 0;
  for (ms_status st = MS_EMEM; st; failed++) {
    mininet n = net_new();
    ms_fail_allocation(failed);
    st = train_once(&n, &test_err);
    ms_fail_allocation(-1);
    if (st) {
      assert_int_equal(st, MS_EMEM);
      assert_true(test_err.text[0]);
    }
    assert_true(ms_grad_enabled());
    net_free(&n);
    no_leaks(before);
  }
  assert_true(failed > 100);
}

static void threads_change_no_bit(void **state) {
  (void)state;
#ifdef _OPENMP
  mininet n[2];
  const ms_backend *k = ms_device_cpu()->k;
  int was = omp_get_max_threads(), strict = k->conv_deterministic(1);
  for (int i = 0; i < 2; i++) {
    omp_set_num_threads(i + 1);
    n[i] = net_new();
    OK(train_once(&n[i], &test_err));
  }
  omp_set_num_threads(was);
  k->conv_deterministic(strict);
  for (int i = 0; i < NET_PARAMS; i++)
    same_bits(n[0].p[i], n[1].p[i]);
  net_free(&n[0]);
  net_free(&n[1]);
#endif
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(golden_regulariser),
      cmocka_unit_test(golden_adam),
      cmocka_unit_test(pending_equals_written_out),
      cmocka_unit_test(reading_changes_no_bit),
      cmocka_unit_test(the_scale_is_kept),
      cmocka_unit_test(handles_taken_before_stay_the_parameter),
      cmocka_unit_test(a_gradient_that_is_held_keeps_its_values),
      cmocka_unit_test(freezing_loading_and_late_layers),
      cmocka_unit_test(shared_weights_count_once),
      cmocka_unit_test(views_and_other_types_are_refused),
      cmocka_unit_test(values_are_clipped),
      cmocka_unit_test(state_goes_out_and_in),
      cmocka_unit_test(an_interrupted_step_did_nothing),
      cmocka_unit_test(any_allocation_may_fail),
      cmocka_unit_test(threads_change_no_bit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
