/* Element-wise ops of other forms: where, clamp, axpy_. */
#include "op.h"

#include <string.h>

/* ---- where ---- */

typedef struct where_params {
  ms_shape a, b;
} where_params;

static ms_status where_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const where_params *p = n->params;
  ms_tensor *condition, *zero = NULL;
  if (!dout[0])
    return MS_OK;
  ms_status st = ms_saved_get(&condition, n, 0, err);
  if (!st)
    st = ms_full(&zero, ms_tensor_device(condition), MS_F32, 0, NULL, 0, err);
  for (int side = 0; side < 2 && !st; side++) {
    const ms_shape *s = side ? &p->b : &p->a;
    ms_tensor *g = NULL;
    if (!ms_wants(n, side))
      continue;
    st = side ? ms_where(&g, condition, zero, dout[0], err) : ms_where(&g, condition, dout[0], zero, err);
    if (!st)
      st = ms_unbroadcast(&din[side], g, s->ndim, s->size, err);
    ms_release(g);
  }
  ms_release(zero);
  return st;
}

ms_status ms_where(ms_tensor **out, ms_tensor *condition, ms_tensor *a, ms_tensor *b, ms_error *err) {
  static const ms_op op = {"where", where_backward};
  ms_tensor shape = {0}, *y = NULL;
  ms_shape s;
  ms_loop l;
  ms_node *n;
  ms_status st = ms_broadcast_shape(&shape.ndim, shape.size, a, b, "where", err);
  if (!st)
    st = ms_broadcast_shape(&s.ndim, s.size, condition, &shape, "where", err);
  if (!st)
    st = ms_same_device("where", 3, (ms_tensor *[]){condition, a, b}, err);
  if (!st)
    st = ms_tensor_new(&y, ms_tensor_device(a), ms_promote(a->dtype, b->dtype), s.ndim, s.size, err);
  if (!st)
    st = ms_loop_over(&l, y, 3, (ms_tensor *[]){condition, a, b}, MS_ORDER_MEMORY, err);
  if (!st) {
    ms_device *d = ms_tensor_device(y);
    st = ms_row(d, d->k->where(d->stream, &l), "where", err);
  }
  if (!st)
    st = ms_record(&n, &op, 2, (ms_tensor *[]){a, b}, 1, &y, err);
  if (!st && n) {
    where_params p = {ms_shape_of(a), ms_shape_of(b)};
    st = ms_keep(n, &p, sizeof p, err);
    if (!st)
      st = ms_save(n, 0, condition, err);
  }
  return ms_give(out, y, st);
}

/* ---- clamp: the gradient passes where nothing was cut off, the borders included ---- */

typedef struct clamp_params {
  double lo, hi;
} clamp_params;

static ms_status clamp_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const clamp_params *p = n->params;
  ms_tensor *x, *above = NULL, *below = NULL;
  if (!dout[0])
    return MS_OK;
  ms_status st = ms_saved_get(&x, n, 0, err);
  if (!st)
    st = ms_binary_scalar(&above, MS_BINARY_ge, x, p->lo, 0, err);
  if (!st)
    st = ms_binary_scalar(&below, MS_BINARY_le, x, p->hi, 0, err);
  if (!st)
    st = ms_binary_(above, MS_BINARY_mul, below, err);
  if (!st)
    st = ms_binary(&din[0], MS_BINARY_mul, dout[0], above, err);
  ms_release(below);
  ms_release(above);
  return st;
}

ms_status ms_clamp(ms_tensor **out, ms_tensor *x, double lo, double hi, ms_error *err) {
  static const ms_op op = {"clamp", clamp_backward};
  clamp_params p = {lo, hi};
  ms_tensor *y = NULL;
  ms_loop l;
  ms_node *n;
  if (!(lo <= hi))
    return ms_fail(err, MS_ERANGE, "clamp: expected lower <= upper, got %g and %g", lo, hi);
  ms_status st = ms_tensor_new(&y, ms_tensor_device(x), ms_promote(x->dtype, x->dtype), x->ndim, x->size, err);
  if (!st)
    st = ms_loop_over(&l, y, 1, &x, MS_ORDER_MEMORY, err);
  if (!st) {
    ms_device *d = ms_tensor_device(y);
    st = ms_row(d, d->k->clamp(d->stream, &l, lo, hi), "clamp", err);
  }
  if (!st)
    st = ms_record(&n, &op, 1, &x, 1, &y, err);
  if (!st)
    st = ms_keep(n, &p, sizeof p, err);
  if (!st)
    st = ms_save(n, 0, x, err);
  return ms_give(out, y, st);
}

/* ---- axpy_ ---- */

/* Recorded: the sum of two products. */
static ms_status axpy_recorded(ms_tensor *x, double beta, double alpha, ms_tensor *y, ms_error *err) {
  ms_tensor *a = NULL, *b = NULL, *sum = NULL, *cast = NULL;
  ms_status st = ms_may_take_over(x, "add_", err);
  if (!st)
    st = ms_binary_scalar(&a, MS_BINARY_mul, x, beta, 0, err);
  if (!st)
    st = ms_binary_scalar(&b, MS_BINARY_mul, y, alpha, 0, err);
  if (!st)
    st = ms_binary(&sum, MS_BINARY_add, a, b, err);
  if (!st)
    st = ms_to(&cast, sum, NULL, (int)x->dtype, err);
  if (!st)
    ms_take_over(x, cast);
  ms_release(sum);
  ms_release(b);
  ms_release(a);
  return st;
}

ms_status ms_axpy_(ms_tensor *x, double beta, double alpha, ms_tensor *y, ms_error *err) {
  ms_shape s;
  ms_tensor *other = NULL;
  ms_loop l;
  ms_status st = ms_same_device("add_", 2, (ms_tensor *[]){x, y}, err);
  if (!st)
    st = ms_broadcast_shape(&s.ndim, s.size, x, y, "add_", err);
  if (!st && (s.ndim != x->ndim || memcmp(s.size, x->size, (size_t)s.ndim * sizeof *s.size)))
    st = ms_fail(err, MS_ESHAPE, "add_: expected a tensor that broadcasts to %s, got %s",
                 ms_shape_text(x->ndim, x->size).s, ms_shape_text(y->ndim, y->size).s);
  if (!st && (x->dtype == MS_SPIKE || (!ms_is_float(x->dtype) && ms_is_float(y->dtype))))
    st = ms_fail(err, MS_ETYPE, "add_: the result does not fit in place into %s; use the form without '_'",
                 ms_tensor_text(x).s);
  if (st)
    return st;
  if (ms_records(2, (ms_tensor *[]){x, y}))
    return axpy_recorded(x, beta, alpha, y, err);
  st = ms_unaliased(&other, y, x, err);
  if (!st)
    st = ms_begin_write(x, "add_", err);
  if (!st)
    st = ms_loop_over(&l, x, 2, (ms_tensor *[]){x, other}, MS_ORDER_MEMORY, err);
  if (!st) {
    ms_device *d = ms_tensor_device(x);
    st = ms_row(d, d->k->axpby(d->stream, &l, beta, alpha), "add_", err);
  }
  ms_release(other);
  return st;
}
