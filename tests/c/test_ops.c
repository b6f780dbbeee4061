/* Values, shapes and slopes of the general ops. */
#include "coretest.h"

#define SAME(t, ...) expect(t, VALUES(__VA_ARGS__))
#define FUNCTION(name, body)                                                   \
  static ms_status name(ms_tensor **out, ms_tensor *const *x, ms_error *err) { \
    return body;                                                               \
  }

/* ---- slopes ---- */

static ms_unary_op unary;
static ms_binary_op binary;
static double number;
static int swapped;
FUNCTION(run_unary, ms_unary(out, unary, x[0], err))
FUNCTION(run_binary, ms_binary(out, binary, x[0], x[1], err))
FUNCTION(run_scalar, ms_binary_scalar(out, binary, x[0], number, swapped, err))

static void slopes_of_unary_ops(void **state) {
  (void)state;
#define MS_UNARY(name, lo, hi)                                                                                      \
  if (MS_UNARY_##name != MS_UNARY_floor && MS_UNARY_##name != MS_UNARY_ceil && MS_UNARY_##name != MS_UNARY_round) { \
    unary = MS_UNARY_##name;                                                                                        \
    double value[6], span = ((double)(hi) - (double)(lo)) / 8;                                                      \
    for (int i = 0; i < 6; i++) /* away from kinks and borders */                                                   \
      value[i] = (double)(lo) + span * (i + 1.3);                                                                   \
    check_slopes(#name, run_unary, 1, (ms_tensor *[]){filled(MS_F32, SIZES(3, 2), value)});                         \
  }
#include "../../kernels/unary.def"
#undef MS_UNARY
}

/* In [0.5, 2], a multiple of 0.1 plus offset: operands with different offsets never tie. */
static ms_tensor *spaced(double offset, int ndim, const int64_t *size) {
  ms_tensor *t = between(0.5, 1.9, ndim, size);
  double *value = get(t);
  for (int64_t i = 0; i < ms_numel(t); i++)
    value[i] = round(value[i] * 10) / 10 + offset;
  put(t, value);
  free(value);
  return t;
}

static void slopes_of_binary_ops(void **state) {
  (void)state;
  for (binary = MS_BINARY_add; binary <= MS_BINARY_minimum; binary++) {
    ms_tensor *same[] = {spaced(0, SIZES(2, 3)), spaced(0.05, SIZES(2, 3))};
    check_slopes("binary", run_binary, 2, same);
    ms_tensor *broadcast[] = {spaced(0, SIZES(2, 1, 3)), spaced(0.05, SIZES(4, 1))};
    check_slopes("binary, broadcast", run_binary, 2, broadcast);
    ms_tensor *scalar[] = {spaced(0, 0, NULL), spaced(0.05, SIZES(2, 2, 2, 2))};
    check_slopes("binary, scalar tensor", run_binary, 2, scalar);
    for (swapped = 0; swapped < 2; swapped++)
      for (number = 1.3; number < 3; number += 1.5)
        check_slopes("number", run_scalar, 1, (ms_tensor *[]){spaced(0.05, SIZES(5))});
  }
}

static void slopes_at_ties_and_zeros(void **state) {
  (void)state;
  ms_tensor *a = leaf(filled(MS_F32, SIZES(3), VALUES(1, 2, 3))), *b = leaf(filled(MS_F32, SIZES(3), VALUES(2, 2, 2)));
  MAKE(top, ms_binary(&top, MS_BINARY_maximum, a, b, &E));
  OK(ms_backward(top, filled(MS_F32, SIZES(3), VALUES(1, 1, 1)), 0, &E));
  SAME(gradient(a), 0, 0.5, 1);
  SAME(gradient(b), 1, 0.5, 0);
  ms_tensor *base = leaf(filled(MS_F32, SIZES(3), VALUES(0, 0, 4))),
            *power = leaf(filled(MS_F32, SIZES(3), VALUES(0, 2, 0)));
  MAKE(y, ms_binary(&y, MS_BINARY_pow, base, power, &E));
  SAME(y, 1, 0, 1);
  OK(ms_backward(y, filled(MS_F32, SIZES(3), VALUES(1, 1, 1)), 0, &E));
  SAME(gradient(base), 0, 0, 0);
  SAME(gradient(power), 0, 0, log(4));
  for (int zeros = 0; zeros < 3; zeros++) {
    ms_tensor *x = leaf(filled(MS_F32, SIZES(3), VALUES(zeros > 0 ? 0 : 2, zeros > 1 ? 0 : 3, 4)));
    MAKE(p, ms_reduce(&p, MS_REDUCE_prod, x, 0, 0, &E));
    OK(ms_backward(p, NULL, 0, &E));
    SAME(gradient(x), zeros > 1 ? 0 : 12, zeros > 0 ? 0 : 8, zeros > 0 ? 0 : 6);
  }
  ms_tensor *x = leaf(filled(MS_F32, SIZES(2, 3), VALUES(1, 5, 5, 7, 2, 7)));
  MAKE(m, ms_reduce(&m, MS_REDUCE_max, x, 1u << 1, 0, &E));
  OK(ms_backward(m, filled(MS_F32, SIZES(2), VALUES(1, 2)), 0, &E));
  SAME(gradient(x), 0, 1, 0, 2, 0, 0);
}

static unsigned dims;
static int keep_them;
static ms_reduce_op reduction;
FUNCTION(run_reduce, ms_reduce(out, reduction, x[0], dims, keep_them, err))
FUNCTION(run_mean, ms_mean(out, x[0], dims, keep_them, err))
FUNCTION(run_var, ms_var(out, x[0], dims, keep_them, 1, err))

static void slopes_of_reductions(void **state) {
  (void)state;
  const unsigned masks[] = {0, 1, 2, 4, 8, 5, 10, 14};
  for (size_t i = 0; i < sizeof masks / sizeof *masks; i++)
    for (keep_them = 0; keep_them < 2; keep_them++) {
      dims = masks[i];
      double value[24];
      for (int k = 0; k < 24; k++)
        value[k] = 0.5 + (k * 7 % 24) * 0.05; /* all different: no ties */
      ms_tensor *x[] = {filled(MS_F32, SIZES(2, 2, 3, 2), value)};
      for (reduction = MS_REDUCE_sum; reduction <= MS_REDUCE_prod; reduction++) {
        OK(ms_set_grad(x[0], NULL, &E));
        check_slopes("reduction", run_reduce, 1, x);
      }
      OK(ms_set_grad(x[0], NULL, &E));
      check_slopes("mean", run_mean, 1, x);
      OK(ms_set_grad(x[0], NULL, &E));
      check_slopes("var", run_var, 1, x);
    }
}

static int dim, second_dim;
static ms_tensor *extra;
FUNCTION(run_matmul, ms_matmul(out, x[0], x[1], err))
FUNCTION(run_log_softmax, ms_log_softmax(out, x[0], dim, err))
FUNCTION(run_softmax, ms_softmax(out, x[0], dim, err))
FUNCTION(run_where, ms_where(out, extra, x[0], x[1], err))
FUNCTION(run_clamp, ms_clamp(out, x[0], -0.5, 0.5, err))
FUNCTION(run_gather, ms_gather(out, x[0], dim, extra, err))
FUNCTION(run_index_select, ms_index_select(out, x[0], dim, extra, err))
FUNCTION(run_cat, ms_cat(out, 2, x, dim, err))
FUNCTION(run_stack, ms_stack(out, 2, x, dim, err))
FUNCTION(run_select, ms_select(out, x[0], dim, -1, err))
FUNCTION(run_narrow, ms_narrow(out, x[0], dim, 1, 1, err))
FUNCTION(run_transpose, ms_transpose(out, x[0], dim, second_dim, err))
FUNCTION(run_permute, ms_permute(out, x[0], (int[]){3, 1, 0, 2}, err))
FUNCTION(run_flatten, ms_flatten(out, x[0], 1, 3, err))
FUNCTION(run_reshape, ms_reshape(out, x[0], SIZES(3, -1), err))
FUNCTION(run_expand, ms_expand(out, x[0], SIZES(3, 2, 2, 3, 2), err))
FUNCTION(run_clone, ms_clone(out, x[0], err))
FUNCTION(run_unsqueeze, ms_unsqueeze(out, x[0], dim, err))

static ms_status run_topk(ms_tensor **out, ms_tensor *const *x, ms_error *err) {
  ms_tensor *index = NULL;
  ms_status st = ms_topk(out, &index, x[0], 2, dim, swapped, err);
  ms_release(index);
  return st;
}

static void slopes_of_matmul(void **state) {
  (void)state;
  const struct {
    int na;
    int64_t a[4];
    int nb;
    int64_t b[4];
  } shape[] = {{2, {2, 3}, 2, {3, 4}},
               {1, {3}, 1, {3}},
               {1, {3}, 2, {3, 4}},
               {2, {2, 3}, 1, {3}},
               {3, {2, 2, 3}, 2, {3, 4}},
               {3, {2, 2, 3}, 3, {2, 3, 2}},
               {4, {2, 1, 2, 3}, 3, {3, 3, 2}},
               {3, {2, 2, 3}, 1, {3}},
               {1, {3}, 3, {2, 3, 2}},
               {2, {2, 3}, 4, {2, 2, 3, 1}},
               {2, {1, 3}, 2, {3, 1}},
               {2, {3, 1}, 2, {1, 3}}};
  for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
    ms_tensor *x[] = {between(-1, 1, shape[i].na, shape[i].a), between(-1, 1, shape[i].nb, shape[i].b)};
    check_slopes("matmul", run_matmul, 2, x);
  }
}

static void slopes_of_softmax_where_and_clamp(void **state) {
  (void)state;
  for (dim = -1; dim < 3; dim++) {
    check_slopes("log_softmax", run_log_softmax, 1, (ms_tensor *[]){between(-2, 2, SIZES(2, 3, 2, 2))});
    check_slopes("softmax", run_softmax, 1, (ms_tensor *[]){between(-2, 2, SIZES(2, 3, 2))});
  }
  extra = filled(MS_U8, SIZES(2, 1), VALUES(1, 0));
  check_slopes("where", run_where, 2, (ms_tensor *[]){between(-1, 1, SIZES(3)), between(-1, 1, SIZES(4, 2, 3))});
  check_slopes("clamp", run_clamp, 1, (ms_tensor *[]){filled(MS_F32, SIZES(4), VALUES(-0.9, -0.3, 0.2, 0.8))});
}

static void slopes_of_indexing(void **state) {
  (void)state;
  dim = 1;
  extra = filled(MS_I64, SIZES(2, 4), VALUES(0, 2, 2, 1, 1, 1, 1, 0));
  check_slopes("gather", run_gather, 1, (ms_tensor *[]){between(-1, 1, SIZES(3, 3))});
  for (dim = 0; dim < 4; dim++) {
    extra = filled(MS_I64, SIZES(3), VALUES(1, 0, 1));
    check_slopes("index_select", run_index_select, 1, (ms_tensor *[]){between(-1, 1, SIZES(2, 3, 2, 2))});
    for (swapped = 0; swapped < 2; swapped++)
      check_slopes("topk", run_topk, 1,
                   (ms_tensor *[]){filled(MS_F32, SIZES(2, 2, 2, 2),
                                          VALUES(1, 5, 2, 7, 3, 9, 4, 6, 8, 0, 11, 14, 10, 13, 12, 15))});
  }
}

static void slopes_of_views_and_copies(void **state) {
  (void)state;
  const struct {
    const char *name;
    function_of f;
  } views[] = {{"select", run_select},       {"narrow", run_narrow},   {"unsqueeze", run_unsqueeze},
               {"transpose", run_transpose}, {"permute", run_permute}, {"flatten", run_flatten},
               {"reshape", run_reshape},     {"clone", run_clone}};
  for (size_t i = 0; i < sizeof views / sizeof *views; i++)
    for (dim = 0; dim < 4; dim++) {
      second_dim = (dim + 2) % 4;
      check_slopes(views[i].name, views[i].f, 1, (ms_tensor *[]){between(-1, 1, SIZES(2, 3, 2, 2))});
    }
  check_slopes("expand", run_expand, 1, (ms_tensor *[]){between(-1, 1, SIZES(2, 1, 3, 1))});
  for (dim = 0; dim < 3; dim++) {
    check_slopes("cat", run_cat, 2,
                 (ms_tensor *[]){between(-1, 1, SIZES(2, 2, 2)),
                                 between(-1, 1, SIZES(dim == 0 ? 1 : 2, dim == 1 ? 3 : 2, dim == 2 ? 4 : 2))});
    check_slopes("stack", run_stack, 2, (ms_tensor *[]){between(-1, 1, SIZES(2, 3)), between(-1, 1, SIZES(2, 3))});
  }
}

static void gradients_are_float32_whatever_the_input(void **state) {
  (void)state;
  const ms_dtype types[] = {MS_BF16, MS_SPIKE};
  for (int i = 0; i < 2; i++) {
    ms_tensor *x = leaf(filled(types[i], SIZES(2, 2), VALUES(1, 0, 2, 1)));
    ms_tensor *w = leaf(filled(MS_F32, SIZES(2, 2), VALUES(1, 2, 3, 4)));
    MAKE(y, ms_matmul(&y, x, w, &E));
    MAKE(z, ms_binary(&z, MS_BINARY_mul, y, x, &E));
    MAKE(loss, ms_mean(&loss, z, 0, 0, &E));
    OK(ms_backward(loss, NULL, 0, &E));
    assert_int_equal(gradient(x)->dtype, MS_F32);
    SAME(gradient(x), 0.5, 1.25, 2.25, 4.5);
    SAME(gradient(w), 1.25, 0.5, 0.5, 0.25);
  }
  ms_tensor *x = leaf(filled(MS_F32, SIZES(2), VALUES(1, 2)));
  MAKE(half, ms_to(&half, x, NULL, MS_BF16, &E));
  assert_int_equal(half->dtype, MS_BF16);
  OK(ms_backward(half, filled(MS_F32, SIZES(2), VALUES(0.1, 7)), 0, &E));
  SAME(gradient(x), 0.1, 7);
  MAKE(same, ms_to(&same, x, NULL, MS_F32, &E));
  assert_ptr_equal(same, x);
  MAKE(whole, ms_to(&whole, x, NULL, MS_I64, &E));
  assert_false(whole->requires_grad);
}

/* ---- values ---- */

static void reductions(void **state) {
  (void)state;
  ms_tensor *x = counting(MS_F32, SIZES(2, 2, 3, 2)); /* channels-last in memory */
  MAKE(sum, ms_reduce(&sum, MS_REDUCE_sum, x, 1u << 1, 0, &E));
  expect_shape(sum, SIZES(2, 3, 2));
  assert_true(ms_is_default(sum));
  SAME(sum, 6, 8, 10, 12, 14, 16, 30, 32, 34, 36, 38, 40);
  MAKE(kept_dims, ms_reduce(&kept_dims, MS_REDUCE_max, x, 1u << 0 | 1u << 3, 1, &E));
  expect_shape(kept_dims, SIZES(1, 2, 3, 1));
  SAME(kept_dims, 13, 15, 17, 19, 21, 23);
  MAKE(where_max, ms_reduce(&where_max, MS_REDUCE_argmax, x, 0, 0, &E));
  SAME(where_max, 23); /* logical position */
  MAKE(where_min, ms_reduce(&where_min, MS_REDUCE_argmin, x, 1u << 2, 0, &E));
  assert_int_equal(where_min->dtype, MS_I64);
  ms_tensor *byte = filled(MS_U8, SIZES(2, 2), VALUES(200, 100, 0, 0));
  MAKE(total, ms_reduce(&total, MS_REDUCE_sum, byte, 0, 0, &E));
  assert_int_equal(total->dtype, MS_I64);
  SAME(total, 300);
  MAKE(any, ms_reduce(&any, MS_REDUCE_any, byte, 1u << 1, 0, &E));
  MAKE(all, ms_reduce(&all, MS_REDUCE_all, byte, 1u << 1, 0, &E));
  SAME(any, 1, 0);
  SAME(all, 1, 0);
  MAKE(mean, ms_mean(&mean, byte, 0, 0, &E));
  SAME(mean, 75);
  MAKE(var, ms_var(&var, byte, 0, 0, 1, &E));
  SAME(var, (125. * 125 + 25 * 25 + 2 * 75 * 75) / 3);
  ms_tensor *none = empty(MS_F32, SIZES(2, 0)), *out = NULL;
  MAKE(zero, ms_reduce(&zero, MS_REDUCE_sum, none, 1u << 1, 0, &E));
  SAME(zero, 0, 0);
  MAKE(one, ms_reduce(&one, MS_REDUCE_prod, none, 0, 0, &E));
  SAME(one, 1);
  FAILS(ms_reduce(&out, MS_REDUCE_max, none, 0, 0, &E), MS_ESHAPE, "max: expected at least one element, got [2, 0]");
  FAILS(ms_mean(&out, none, 0, 0, &E), MS_ESHAPE, "mean: expected at least one element");
  FAILS(ms_var(&out, total, 0, 0, 1, &E), MS_ESHAPE, "var: expected at least 2");
  double value;
  OK(ms_item(&value, total, &E));
  assert_true(value == 300);
  FAILS(ms_item(&value, byte, &E), MS_ESHAPE, "item: expected a tensor of one element, got [2, 2]");
}

static void products(void **state) {
  (void)state;
  ms_tensor *a = counting(MS_F32, SIZES(2, 3)), *b = counting(MS_F32, SIZES(3, 2)), *out = NULL;
  MAKE(c, ms_matmul(&c, a, b, &E));
  SAME(c, 10, 13, 28, 40);
  MAKE(at, ms_transpose(&at, a, 0, 1, &E));
  MAKE(bt, ms_transpose(&bt, b, 0, 1, &E));
  MAKE(d, ms_matmul(&d, bt, at, &E));
  SAME(d, 10, 28, 13, 40);
  MAKE(repeated, ms_expand(&repeated, filled(MS_F32, SIZES(1, 3), VALUES(1, 2, 3)), SIZES(2, 3), &E));
  MAKE(e, ms_matmul(&e, repeated, b, &E));
  SAME(e, 16, 22, 16, 22);
  ms_tensor *stacked = counting(MS_F32, SIZES(2, 1, 2, 3)); /* channels-last: neither matrix stride is 1 */
  MAKE(f, ms_matmul(&f, stacked, b, &E));
  expect_shape(f, SIZES(2, 1, 2, 2));
  SAME(f, 10, 13, 28, 40, 46, 67, 64, 94);
  MAKE(none, ms_matmul(&none, empty(MS_F32, SIZES(2, 0)), empty(MS_F32, SIZES(0, 2)), &E));
  SAME(none, 0, 0, 0, 0);
  MAKE(outer_empty, ms_matmul(&outer_empty, empty(MS_F32, SIZES(0, 3)), b, &E));
  expect_shape(outer_empty, SIZES(0, 2));
  FAILS(ms_matmul(&out, a, a, &E), MS_ESHAPE, "matmul: a [2, 3] and b [2, 3] do not multiply (need [m, k] x [k, n])");
  FAILS(ms_matmul(&out, counting(MS_F32, SIZES(2, 2, 3)), counting(MS_F32, SIZES(3, 3, 2)), &E), MS_ESHAPE,
        "leading dimensions");
  FAILS(ms_matmul(&out, counting(MS_I64, SIZES(2)), counting(MS_I64, SIZES(2)), &E), MS_ETYPE, "expected a float type");
  FAILS(ms_matmul(&out, a, empty(MS_F32, 0, NULL), &E), MS_ESHAPE, "at least one dimension each");
}

static void indexing(void **state) {
  (void)state;
  ms_tensor *x = counting(MS_F32, SIZES(3, 3)), *out = NULL, *places = NULL;
  MAKE(picked, ms_gather(&picked, x, 1, filled(MS_I64, SIZES(2, 2), VALUES(2, 0, 1, 1)), &E));
  SAME(picked, 2, 0, 4, 4);
  MAKE(rows, ms_index_select(&rows, x, 0, filled(MS_I64, SIZES(2), VALUES(2, 0)), &E));
  SAME(rows, 6, 7, 8, 0, 1, 2);
  ms_tensor *spike = filled(MS_SPIKE, SIZES(3), VALUES(1, 0, 1));
  spike->scale = MS_R(0.25);
  MAKE(some, ms_index_select(&some, spike, 0, filled(MS_I64, SIZES(2), VALUES(0, 1)), &E));
  assert_int_equal(some->dtype, MS_SPIKE);
  SAME(some, 0.25, 0);
  OK(ms_topk(&out, &places, x, 2, 0, 1, &E));
  keep(out);
  keep(places);
  SAME(out, 6, 7, 8, 3, 4, 5);
  SAME(places, 2, 2, 2, 1, 1, 1);
  out = NULL;
  FAILS(ms_gather(&out, x, 1, filled(MS_I64, SIZES(1, 1), VALUES(3)), &E), MS_ERANGE,
        "gather: index: expected values from 0 to 2");
  FAILS(ms_index_select(&out, x, 0, filled(MS_I64, SIZES(1), VALUES(-1)), &E), MS_ERANGE, "index_select: index");
  FAILS(ms_gather(&out, x, 1, x, &E), MS_ETYPE, "gather: index: expected int64, got float32");
  FAILS(ms_gather(&out, x, 0, filled(MS_I64, SIZES(1, 4), VALUES(0, 0, 0, 0)), &E), MS_ESHAPE, "got [1, 4]");
  FAILS(ms_topk(&out, &places, x, 4, 0, 1, &E), MS_ERANGE, "topk: k: expected 0 to 3, got 4");
  assert_null(out);
}

static void joining(void **state) {
  (void)state;
  ms_tensor *image = counting(MS_F32, SIZES(1, 1, 2, 2)), *list[20], *out = NULL;
  MAKE(channels, ms_cat(&channels, LIST(image, image, image), 1, &E));
  SAME(channels, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
  ms_tensor *x = leaf(filled(MS_F32, SIZES(2), VALUES(1, 2)));
  for (int i = 0; i < 20; i++)
    list[i] = x;
  MAKE(tall, ms_stack(&tall, 20, list, 0, &E)); /* more than a node has inputs */
  expect_shape(tall, SIZES(20, 2));
  MAKE(sum, ms_reduce(&sum, MS_REDUCE_sum, tall, 0, 0, &E));
  OK(ms_backward(sum, NULL, 0, &E));
  SAME(gradient(x), 20, 20);
  MAKE(mixed,
       ms_cat(&mixed, LIST(counting(MS_U8, SIZES(2)), counting(MS_I64, SIZES(1)), empty(MS_F32, SIZES(0))), 0, &E));
  assert_int_equal(mixed->dtype, MS_F32);
  SAME(mixed, 0, 1, 0);
  FAILS(ms_cat(&out, LIST(image, x), 0, &E), MS_ESHAPE, "cat: tensor 2 [2] does not fit tensor 1 [1, 1, 2, 2]");
  FAILS(ms_stack(&out, LIST(x, sum), 0, &E), MS_ESHAPE, "stack: tensor 2: expected the shape of tensor 1, [2], got []");
  FAILS(ms_binary(&out, MS_BINARY_add, counting(MS_F32, SIZES(2)), counting(MS_F32, SIZES(3)), &E), MS_ESHAPE,
        "add: shapes [2] and [3] do not broadcast");
  FAILS(ms_copy_(x, counting(MS_F32, SIZES(3)), &E), MS_ESHAPE,
        "copy_: expected a source that broadcasts to [2], got [3]");
  FAILS(ms_binary_(counting(MS_I64, SIZES(2)), MS_BINARY_add, counting(MS_F32, SIZES(2)), &E), MS_ETYPE,
        "add_: the result is float32 and does not fit in place into int64 [2]");
  FAILS(ms_clamp(&out, x, 1, 0, &E), MS_ERANGE, "clamp: expected lower <= upper, got 1 and 0");
}

static void empty_tensors_pass_through(void **state) {
  (void)state;
  ms_tensor *x = leaf(empty(MS_F32, SIZES(0, 3)));
  MAKE(a, ms_unary(&a, MS_UNARY_exp, x, &E));
  MAKE(b, ms_binary(&b, MS_BINARY_mul, a, counting(MS_F32, SIZES(3)), &E));
  MAKE(c, ms_log_softmax(&c, b, 0, &E));
  MAKE(d, ms_reshape(&d, c, SIZES(3, 0, 2), &E));
  MAKE(e, ms_reduce(&e, MS_REDUCE_sum, d, 0, 0, &E));
  SAME(e, 0);
  OK(ms_backward(e, NULL, 0, &E));
  expect_shape(gradient(x), SIZES(0, 3));
}

static void numbers_at_the_edge_of_int64_stay_exact(void **state) {
  (void)state;
  int64_t value[2] = {INT64_C(9007199254740993), -INT64_C(9007199254740995)}, back[2];
  ms_tensor *x = empty(MS_I64, SIZES(2));
  OK(ms_write(x, value, &E));
  MAKE(y, ms_binary_scalar(&y, MS_BINARY_add, x, 2, 0, &E));
  OK(ms_read(y, back, &E));
  assert_true(back[0] == value[0] + 2 && back[1] == value[1] + 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(slopes_of_unary_ops),
      TEST(slopes_of_binary_ops),
      TEST(slopes_at_ties_and_zeros),
      TEST(slopes_of_reductions),
      TEST(slopes_of_matmul),
      TEST(slopes_of_softmax_where_and_clamp),
      TEST(slopes_of_indexing),
      TEST(slopes_of_views_and_copies),
      TEST(gradients_are_float32_whatever_the_input),
      TEST(reductions),
      TEST(products),
      TEST(indexing),
      TEST(joining),
      TEST(empty_tensors_pass_through),
      TEST(numbers_at_the_edge_of_int64_stay_exact),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
