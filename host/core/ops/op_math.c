#include "op.h"

#include <math.h>
#include <string.h>

/* ---- broadcasting ---- */

ms_status ms_broadcast_shape(int *ndim, int64_t *size, const ms_tensor *a, const ms_tensor *b, const char *op,
                             ms_error *err) {
  int n = a->ndim > b->ndim ? a->ndim : b->ndim;
  for (int d = 0; d < n; d++) {
    int da = d - (n - a->ndim), db = d - (n - b->ndim);
    int64_t sa = da < 0 ? 1 : a->size[da], sb = db < 0 ? 1 : b->size[db];
    if (sa != sb && sa != 1 && sb != 1)
      return ms_fail(err, MS_ESHAPE, "%s: shapes %s and %s do not broadcast", op, ms_shape_text(a->ndim, a->size).s,
                     ms_shape_text(b->ndim, b->size).s);
    size[d] = sa == 1 ? sb : sa;
  }
  *ndim = n;
  return MS_OK;
}

ms_status ms_unbroadcast(ms_tensor **out, ms_tensor *g, int ndim, const int64_t *size, ms_error *err) {
  unsigned dims = 0;
  for (int d = 0; d < g->ndim; d++) {
    int to = d - (g->ndim - ndim);
    if (to < 0 || (size[to] == 1 && g->size[d] != 1))
      dims |= 1u << d;
  }
  if (!dims) {
    *out = ms_retain(g);
    return MS_OK;
  }
  ms_tensor *sum = NULL;
  ms_status st = ms_reduce(&sum, MS_REDUCE_sum, g, dims, 1, err);
  if (!st)
    st = ms_reshape(out, sum, ndim, size, err);
  ms_release(sum);
  return st;
}

/* din = unbroadcast(g), taking g over. */
static ms_status give_unbroadcast(ms_tensor **din, ms_tensor *g, const ms_shape *s, ms_status st, ms_error *err) {
  if (!st)
    st = ms_unbroadcast(din, g, s->ndim, s->size, err);
  ms_release(g);
  return st;
}

/* ---- unary ---- */

static const char *const unary_name[] = {
#define MS_UNARY(name, lo, hi) #name,
#include "../../../kernels/unary.def"
#undef MS_UNARY
};
static const char *const unary_name_[] = {
#define MS_UNARY(name, lo, hi) #name "_",
#include "../../../kernels/unary.def"
#undef MS_UNARY
};

static ms_status unary_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err);

static const ms_op unary_op[] = {
#define MS_UNARY(name, lo, hi) {#name, unary_backward},
#include "../../../kernels/unary.def"
#undef MS_UNARY
};

static ms_status unary_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  ms_tensor *x, *d = NULL;
  ms_loop l;
  if (!dout[0])
    return MS_OK;
  ms_status st = ms_saved_get(&x, n, 0, err);
  if (!st)
    st = ms_tensor_new(&d, ms_tensor_device(x), MS_F32, x->ndim, x->size, err);
  if (!st)
    st = ms_loop_over(&l, d, 2, (ms_tensor *[]){x, dout[0]}, MS_ORDER_MEMORY, err);
  if (!st) {
    ms_device *dev = ms_tensor_device(x);
    st = ms_row(dev, dev->k->unary_grad(dev->stream, (ms_unary_op)(n->op - unary_op), &l), n->op->name, err);
  }
  return ms_give(&din[0], d, st);
}

static int keeps_integers(ms_unary_op op) {
  return op == MS_UNARY_neg || op == MS_UNARY_abs || op == MS_UNARY_sign || op == MS_UNARY_square ||
         op == MS_UNARY_relu || op == MS_UNARY_floor || op == MS_UNARY_ceil || op == MS_UNARY_round;
}

static ms_status run_unary(ms_unary_op op, ms_tensor *out, ms_tensor *x, ms_error *err) {
  ms_loop l;
  ms_device *d = ms_tensor_device(x);
  ms_status st = ms_loop_over(&l, out, 1, &x, MS_ORDER_MEMORY, err);
  return st ? st : ms_row(d, d->k->unary(d->stream, op, &l), unary_name[op], err);
}

ms_status ms_unary(ms_tensor **out, ms_unary_op op, ms_tensor *x, ms_error *err) {
  ms_tensor *y = NULL;
  ms_node *n;
  ms_dtype dtype = !ms_is_float(x->dtype) && keeps_integers(op) ? x->dtype : ms_float_of(x);
  ms_status st = ms_tensor_new(&y, ms_tensor_device(x), dtype, x->ndim, x->size, err);
  if (!st)
    st = run_unary(op, y, x, err);
  if (!st)
    st = ms_record(&n, &unary_op[op], 1, &x, 1, &y, err);
  if (!st)
    st = ms_save(n, 0, x, err);
  return ms_give(out, y, st);
}

/* An in-place form needs a type that holds the result. */
static ms_status check_holds(const ms_tensor *x, ms_dtype result, const char *op, ms_error *err) {
  if (x->dtype == MS_SPIKE || (ms_is_float(result) && !ms_is_float(x->dtype)))
    return ms_fail(err, MS_ETYPE, "%s: the result is %s and does not fit in place into %s; use the form without '_'",
                   op, ms_dtype_name(result), ms_tensor_text(x).s);
  return MS_OK;
}

/* x becomes the recorded r (taken over, also on failure), converted to x's type. */
static ms_status replace(ms_tensor *x, ms_tensor *r, ms_status st, ms_error *err) {
  ms_tensor *cast = NULL;
  if (!st)
    st = ms_to(&cast, r, NULL, (int)x->dtype, err);
  ms_release(r);
  if (!st)
    ms_take_over(x, cast);
  return st;
}

ms_status ms_unary_(ms_tensor *x, ms_unary_op op, ms_error *err) {
  ms_tensor *r = NULL;
  int whole = !ms_is_float(x->dtype) && keeps_integers(op);
  ms_status st = check_holds(x, whole ? x->dtype : ms_float_of(x), unary_name_[op], err);
  if (st)
    return st;
  if (ms_records(1, &x)) {
    st = ms_may_take_over(x, unary_name_[op], err);
    if (!st)
      st = ms_unary(&r, op, x, err);
    return replace(x, r, st, err);
  }
  st = ms_begin_write(x, unary_name_[op], err);
  return st ? st : run_unary(op, x, x, err);
}

/* ---- binary ---- */

static const char *const binary_name[] = {
#define MS_BINARY(name) #name,
#define MS_COMPARE(name) #name,
#include "../../../kernels/binary.def"
};
static const char *const binary_name_[] = {
#define MS_BINARY(name) #name "_",
#define MS_COMPARE(name) #name "_",
#include "../../../kernels/binary.def"
};

typedef struct binary_params {
  ms_shape a, b;
} binary_params;

static int is_compare(ms_binary_op op) {
  return op >= MS_BINARY_eq;
}

/* Share of the gradient that goes to `mine`, which competed with `other` (a tensor or a number): 1 where it won, 1/2
** at ties. */
static ms_status winner(ms_tensor **out, ms_binary_op op, ms_tensor *mine, ms_tensor *other, double value,
                        ms_error *err) {
  ms_binary_op wins = op == MS_BINARY_maximum ? MS_BINARY_gt : MS_BINARY_lt;
  ms_tensor *win = NULL, *tie = NULL, *half = NULL;
  ms_status st = other ? ms_binary(&win, wins, mine, other, err) : ms_binary_scalar(&win, wins, mine, value, 0, err);
  if (!st)
    st = other ? ms_binary(&tie, MS_BINARY_eq, mine, other, err)
               : ms_binary_scalar(&tie, MS_BINARY_eq, mine, value, 0, err);
  if (!st)
    st = ms_binary_scalar(&half, MS_BINARY_mul, tie, 0.5, 0, err);
  if (!st)
    st = ms_binary(out, MS_BINARY_add, win, half, err);
  ms_release(half);
  ms_release(tie);
  ms_release(win);
  return st;
}

/* b * a^(b-1), which is 0 where b is 0 whatever a is. */
static ms_status power_slope(ms_tensor **out, ms_tensor *a, ms_tensor *b, ms_error *err) {
  ms_tensor *less = NULL, *power = NULL, *product = NULL, *zero = NULL;
  ms_status st = ms_binary_scalar(&less, MS_BINARY_sub, b, 1, 0, err);
  if (!st)
    st = ms_binary(&power, MS_BINARY_pow, a, less, err);
  if (!st)
    st = ms_binary(&product, MS_BINARY_mul, b, power, err);
  if (!st)
    st = ms_full(&zero, ms_tensor_device(a), MS_F32, 0, NULL, 0, err);
  if (!st)
    st = ms_where(out, b, product, zero, err);
  ms_release(zero);
  ms_release(product);
  ms_release(power);
  ms_release(less);
  return st;
}

/* a^b * log(a), which is 0 where a is 0 and b >= 0: `base` and `exponent` are tensors, or NULL for the number. */
static ms_status power_log(ms_tensor **out, ms_tensor *base, ms_tensor *exponent, double value, ms_error *err) {
  ms_tensor *power = NULL, *log_a = NULL, *product = NULL, *zero = NULL, *is_zero = NULL, *usable = NULL;
  ms_status st = base ? ms_binary(&power, MS_BINARY_pow, base, exponent, err)
                      : ms_binary_scalar(&power, MS_BINARY_pow, exponent, value, 1, err);
  if (!st && !base)
    st = ms_binary_scalar(out, MS_BINARY_mul, power, value > 0 ? log(value) : value == 0 ? 0 : (double)NAN, 0, err);
  if (!st && base) {
    st = ms_unary(&log_a, MS_UNARY_log, base, err);
    if (!st)
      st = ms_binary(&product, MS_BINARY_mul, power, log_a, err);
    if (!st)
      st = ms_binary_scalar(&is_zero, MS_BINARY_eq, base, 0, 0, err);
    if (!st)
      st = ms_binary_scalar(&usable, MS_BINARY_ge, exponent, 0, 0, err);
    if (!st) {
      ms_tensor *both = NULL;
      st = ms_binary(&both, MS_BINARY_mul, is_zero, usable, err);
      if (!st)
        st = ms_full(&zero, ms_tensor_device(base), MS_F32, 0, NULL, 0, err);
      if (!st)
        st = ms_where(out, both, zero, product, err);
      ms_release(both);
    }
  }
  ms_release(usable);
  ms_release(is_zero);
  ms_release(zero);
  ms_release(product);
  ms_release(log_a);
  ms_release(power);
  return st;
}

/* d f(a, b) / d(side) times g, before unbroadcasting; side 0 is a. */
static ms_status binary_slope(ms_tensor **out, ms_binary_op op, int side, ms_tensor *a, ms_tensor *b, ms_tensor *g,
                              ms_error *err) {
  ms_tensor *t = NULL, *u = NULL;
  ms_status st;
  switch (op) {
  case MS_BINARY_add:
    *out = ms_retain(g);
    return MS_OK;
  case MS_BINARY_sub:
    if (side)
      return ms_unary(out, MS_UNARY_neg, g, err);
    *out = ms_retain(g);
    return MS_OK;
  case MS_BINARY_mul:
    return ms_binary(out, MS_BINARY_mul, g, side ? a : b, err);
  case MS_BINARY_div:
    st = ms_binary(&t, MS_BINARY_div, g, b, err);
    if (side == 0)
      return ms_give(out, t, st);
    if (!st)
      st = ms_binary(&u, MS_BINARY_div, a, b, err);
    if (!st)
      st = ms_unary_(u, MS_UNARY_neg, err);
    break;
  case MS_BINARY_pow:
    t = ms_retain(g);
    st = side ? power_log(&u, a, b, 0, err) : power_slope(&u, a, b, err);
    break;
  default:
    t = ms_retain(g);
    st = winner(&u, op, side ? b : a, side ? a : b, 0, err);
    break;
  }
  if (!st)
    st = ms_binary(out, MS_BINARY_mul, t, u, err);
  ms_release(u);
  ms_release(t);
  return st;
}

static ms_status binary_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err);

static const ms_op binary_op[] = {
#define MS_BINARY(name) {#name, binary_backward},
#include "../../../kernels/binary.def"
};

static ms_status binary_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const binary_params *p = n->params;
  ms_tensor *a = NULL, *b = NULL;
  if (!dout[0])
    return MS_OK;
  ms_status st = ms_saved_get(&a, n, 0, err);
  if (!st)
    st = ms_saved_get(&b, n, 1, err);
  for (int side = 0; side < 2 && !st; side++) {
    ms_tensor *g = NULL;
    if (!ms_wants(n, side))
      continue;
    st = binary_slope(&g, (ms_binary_op)(n->op - binary_op), side, a, b, dout[0], err);
    st = give_unbroadcast(&din[side], g, side ? &p->b : &p->a, st, err);
  }
  return st;
}

/* The type of f(a, b); spikes stay spikes in a sum that no byte can overflow. */
static ms_dtype binary_dtype(ms_binary_op op, const ms_tensor *a, const ms_tensor *b) {
  if (is_compare(op))
    return MS_U8;
  if (op == MS_BINARY_add && a->dtype == MS_SPIKE && b->dtype == MS_SPIKE && a->scale == b->scale &&
      a->peak + b->peak <= 255)
    return MS_SPIKE;
  ms_dtype dtype = ms_promote(a->dtype, b->dtype);
  return op == MS_BINARY_div && !ms_is_float(dtype) ? MS_F32 : dtype;
}

static ms_status run_binary(ms_binary_op op, ms_tensor *out, ms_tensor *a, ms_tensor *b, ms_error *err) {
  ms_loop l;
  ms_device *d = ms_tensor_device(out);
  ms_status st = ms_loop_over(&l, out, 2, (ms_tensor *[]){a, b}, MS_ORDER_MEMORY, err);
  return st ? st : ms_row(d, d->k->binary(d->stream, op, &l), binary_name[op], err);
}

/* The residual add in front of a neuron stays lazy; *out is NULL where it does not apply. */
static ms_status try_lazy_add(ms_tensor **out, ms_tensor *a, ms_tensor *b, ms_error *err) {
  ms_tensor *sum = NULL;
  ms_status st = MS_OK;
  if (!a->storage && a->lazy)
    st = ms_lazy_add(&sum, a, b, err);
  if (!st && !sum && !b->storage && b->lazy)
    st = ms_lazy_add(&sum, b, a, err);
  return ms_give(out, sum, st);
}

static ms_status record_binary(ms_binary_op op, ms_tensor *a, ms_tensor *b, ms_tensor *y, ms_error *err) {
  ms_node *n;
  binary_params p = {ms_shape_of(a), ms_shape_of(b)};
  ms_status st = ms_record(&n, &binary_op[op], 2, (ms_tensor *[]){a, b}, 1, &y, err);
  if (!st)
    st = ms_keep(n, &p, sizeof p, err);
  if (!n || st || op == MS_BINARY_add || op == MS_BINARY_sub)
    return st;
  if (op != MS_BINARY_mul || ms_wants(n, 1))
    st = ms_save(n, 0, a, err);
  if (!st && (op != MS_BINARY_mul || ms_wants(n, 0)))
    st = ms_save(n, 1, b, err);
  return st;
}

ms_status ms_binary(ms_tensor **out, ms_binary_op op, ms_tensor *a, ms_tensor *b, ms_error *err) {
  ms_shape s;
  ms_tensor *y = NULL;
  ms_status st = ms_broadcast_shape(&s.ndim, s.size, a, b, binary_name[op], err);
  if (!st)
    st = ms_same_device(binary_name[op], 2, (ms_tensor *[]){a, b}, err);
  if (!st && op == MS_BINARY_add)
    st = try_lazy_add(&y, a, b, err);
  if (st || y)
    return ms_give(out, y, st);
  ms_dtype dtype = binary_dtype(op, a, b);
  st = ms_tensor_new(&y, ms_tensor_device(a), dtype, s.ndim, s.size, err);
  if (!st && dtype == MS_SPIKE) {
    y->scale = a->scale;
    y->peak = a->peak + b->peak;
  }
  if (!st)
    st = run_binary(op, y, a, b, err);
  if (!st && !is_compare(op))
    st = record_binary(op, a, b, y, err);
  return ms_give(out, y, st);
}

static ms_status check_broadcasts_to(const ms_tensor *x, const ms_tensor *y, const char *op, ms_error *err) {
  ms_shape s;
  ms_status st = ms_same_device(op, 2, (ms_tensor *[]){(ms_tensor *)x, (ms_tensor *)y}, err);
  if (!st)
    st = ms_broadcast_shape(&s.ndim, s.size, x, y, op, err);
  if (!st && (s.ndim != x->ndim || memcmp(s.size, x->size, (size_t)s.ndim * sizeof *s.size)))
    st = ms_fail(err, MS_ESHAPE, "%s: expected a tensor that broadcasts to %s, got %s", op,
                 ms_shape_text(x->ndim, x->size).s, ms_shape_text(y->ndim, y->size).s);
  return st;
}

ms_status ms_binary_(ms_tensor *x, ms_binary_op op, ms_tensor *y, ms_error *err) {
  const char *name = binary_name_[op];
  ms_tensor *r = NULL, *other = NULL;
  ms_status st = check_broadcasts_to(x, y, name, err);
  if (!st)
    st = check_holds(x, binary_dtype(op, x, y), name, err);
  if (st)
    return st;
  if (ms_records(2, (ms_tensor *[]){x, y})) {
    st = ms_may_take_over(x, name, err);
    if (!st)
      st = ms_binary(&r, op, x, y, err);
    return replace(x, r, st, err);
  }
  st = ms_unaliased(&other, y, x, err);
  if (!st)
    st = ms_begin_write(x, name, err);
  if (!st)
    st = run_binary(op, x, x, other, err);
  ms_release(other);
  return st;
}

/* ---- tensor and number ---- */

typedef struct scalar_params {
  double value;
  int swapped;
} scalar_params;

static ms_status scalar_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err);

static const ms_op scalar_op[] = {
#define MS_BINARY(name) {#name, scalar_backward},
#include "../../../kernels/binary.def"
};

static ms_status scalar_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const scalar_params *p = n->params;
  ms_binary_op op = (ms_binary_op)(n->op - scalar_op);
  ms_tensor *x, *t = NULL, *u = NULL, *g = dout[0];
  double v = p->value;
  if (!g)
    return MS_OK;
  ms_status st = ms_saved_get(&x, n, 0, err);
  if (st)
    return st;
  switch (op) {
  case MS_BINARY_add:
  case MS_BINARY_sub:
    if (op == MS_BINARY_sub && p->swapped)
      return ms_unary(&din[0], MS_UNARY_neg, g, err);
    din[0] = ms_retain(g);
    return MS_OK;
  case MS_BINARY_mul:
    return ms_binary_scalar(&din[0], MS_BINARY_mul, g, v, 0, err);
  case MS_BINARY_div:
    if (!p->swapped)
      return ms_binary_scalar(&din[0], MS_BINARY_div, g, v, 0, err);
    st = ms_unary(&t, MS_UNARY_square, x, err);
    if (!st)
      st = ms_binary_scalar(&u, MS_BINARY_div, t, -v, 1, err);
    break;
  case MS_BINARY_pow:
    if (p->swapped) {
      st = power_log(&u, NULL, x, v, err);
      break;
    }
    if (v == 0)
      return ms_full(&din[0], ms_tensor_device(g), MS_F32, g->ndim, g->size, 0, err);
    st = ms_binary_scalar(&t, MS_BINARY_pow, x, v - 1, 0, err);
    if (!st)
      st = ms_binary_scalar(&u, MS_BINARY_mul, t, v, 0, err);
    break;
  default:
    st = winner(&u, op, x, NULL, v, err);
    break;
  }
  if (!st)
    st = ms_binary(&din[0], MS_BINARY_mul, g, u, err);
  ms_release(u);
  ms_release(t);
  return st;
}

static ms_dtype scalar_dtype(ms_binary_op op, const ms_tensor *a, double value) {
  if (is_compare(op))
    return MS_U8;
  if (ms_is_float(a->dtype) || op == MS_BINARY_div || value != floor(value) || !isfinite(value))
    return ms_float_of(a);
  return a->dtype;
}

static ms_status run_scalar(ms_binary_op op, ms_tensor *out, ms_tensor *a, double value, int swapped, ms_error *err) {
  ms_loop l;
  ms_device *d = ms_tensor_device(out);
  ms_status st = ms_loop_over(&l, out, 1, &a, MS_ORDER_MEMORY, err);
  return st ? st : ms_row(d, d->k->binary_scalar(d->stream, op, &l, value, swapped), binary_name[op], err);
}

ms_status ms_binary_scalar(ms_tensor **out, ms_binary_op op, ms_tensor *a, double value, int swapped, ms_error *err) {
  ms_tensor *y = NULL;
  ms_node *n = NULL;
  scalar_params p = {value, swapped};
  int needs_x =
      (op == MS_BINARY_div && swapped) || op == MS_BINARY_pow || op == MS_BINARY_maximum || op == MS_BINARY_minimum;
  ms_status st = ms_tensor_new(&y, ms_tensor_device(a), scalar_dtype(op, a, value), a->ndim, a->size, err);
  if (!st)
    st = run_scalar(op, y, a, value, swapped, err);
  if (!st && !is_compare(op))
    st = ms_record(&n, &scalar_op[op], 1, &a, 1, &y, err);
  if (!st)
    st = ms_keep(n, &p, sizeof p, err);
  if (!st && needs_x)
    st = ms_save(n, 0, a, err);
  return ms_give(out, y, st);
}

ms_status ms_binary_scalar_(ms_tensor *x, ms_binary_op op, double value, ms_error *err) {
  const char *name = binary_name_[op];
  ms_tensor *r = NULL;
  ms_status st = check_holds(x, scalar_dtype(op, x, value), name, err);
  if (st)
    return st;
  if (ms_records(1, &x)) {
    st = ms_may_take_over(x, name, err);
    if (!st)
      st = ms_binary_scalar(&r, op, x, value, 0, err);
    return replace(x, r, st, err);
  }
  st = ms_begin_write(x, name, err);
  return st ? st : run_scalar(op, x, x, value, 0, err);
}
