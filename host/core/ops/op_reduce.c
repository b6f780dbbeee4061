#include "../autocast.h"
#include "op.h"

#include <string.h>

static const char *const reduce_name[] = {
#define MS_REDUCE(name) #name,
#include "../../../kernels/reduce.def"
#undef MS_REDUCE
};

typedef struct reduce_params {
  ms_shape in;
  unsigned dims;
  ms_real factor;
} reduce_params;

static unsigned all_dims(int ndim) {
  return (1u << ndim) - 1;
}

/* 0 means all; anything beyond the tensor's dimensions is an error. */
static ms_status check_dims(unsigned *dims, const ms_tensor *x, const char *op, ms_error *err) {
  if (!*dims)
    *dims = all_dims(x->ndim);
  if (*dims & ~all_dims(x->ndim))
    return ms_fail(err, MS_ERANGE, "%s: dim: expected dimensions of a tensor that has %d", op, x->ndim);
  return MS_OK;
}

static ms_dtype reduce_dtype(ms_reduce_op op, const ms_tensor *x) {
  switch (op) {
  case MS_REDUCE_argmax:
  case MS_REDUCE_argmin:
    return MS_I64;
  case MS_REDUCE_any:
  case MS_REDUCE_all:
    return MS_U8;
  case MS_REDUCE_sum:
  case MS_REDUCE_prod:
    return ms_is_float(x->dtype) ? ms_wide_float(x) : MS_I64;
  default:
    return ms_promote(x->dtype, x->dtype);
  }
}

static int is_positional(ms_reduce_op op) {
  return op == MS_REDUCE_argmax || op == MS_REDUCE_argmin;
}

/* A tensor of the reduced shape, and `wide`: the same memory with the reduced dimensions kept as 1. */
static ms_status make_result(ms_tensor **y, ms_tensor **wide, ms_tensor *x, ms_dtype dtype, unsigned dims, int keep,
                             ms_error *err) {
  ms_shape s = {0};
  int64_t size[MS_MAX_DIMS], stride[MS_MAX_DIMS];
  for (int d = 0; d < x->ndim; d++)
    if (keep || !(dims >> d & 1))
      s.size[s.ndim++] = dims >> d & 1 ? 1 : x->size[d];
  ms_status st = ms_tensor_new(y, ms_tensor_device(x), dtype, s.ndim, s.size, err);
  if (st)
    return st;
  for (int d = 0, from = 0; d < x->ndim; d++) {
    int reduced = dims >> d & 1;
    size[d] = reduced ? 1 : x->size[d];
    stride[d] = reduced && !keep ? 0 : (*y)->stride[from++];
  }
  return ms_tensor_alias(wide, *y, x->ndim, size, stride, 0, err);
}

static int64_t reduced_count(const ms_tensor *x, unsigned dims) {
  int64_t n = 1;
  for (int d = 0; d < x->ndim; d++)
    if (dims >> d & 1)
      n *= x->size[d];
  return n;
}

/* Not recorded. */
static ms_status reduce_data(ms_tensor **out, ms_reduce_op op, ms_tensor *x, unsigned dims, int keep, ms_dtype dtype,
                             ms_real factor, ms_error *err) {
  ms_tensor *y = NULL, *wide = NULL;
  ms_reduction r;
  ms_status st = ms_materialise(x, err);
  if (!st)
    st = make_result(&y, &wide, x, dtype, dims, keep, err);
  if (!st && reduced_count(x, dims) == 0) {
    if (op != MS_REDUCE_sum && op != MS_REDUCE_prod && op != MS_REDUCE_any && op != MS_REDUCE_all)
      st = ms_fail(err, MS_ESHAPE, "%s: expected at least one element, got %s", reduce_name[op],
                   ms_shape_text(x->ndim, x->size).s);
    else
      st = ms_fill_(y, op == MS_REDUCE_prod || op == MS_REDUCE_all, err);
  } else if (!st) {
    st = ms_reduction_over(&r, wide, x, dims, is_positional(op), err);
    r.factor = factor;
    ms_device *d = ms_tensor_device(x);
    if (!st)
      st = ms_row(d, d->k->reduce(d->stream, op, &r), reduce_name[op], err);
  }
  ms_release(wide);
  return ms_give(out, y, st);
}

/* g, whose reduced dimensions may be gone, with those dimensions as 1. */
static ms_status keep_dims(ms_tensor **out, ms_tensor *g, const reduce_params *p, ms_error *err) {
  ms_shape s = p->in;
  for (int d = 0; d < s.ndim; d++)
    if (p->dims >> d & 1)
      s.size[d] = 1;
  return ms_reshape(out, g, s.ndim, s.size, err);
}

/* ---- sum, mean ---- */

static ms_status sum_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const reduce_params *p = n->params;
  ms_tensor *g = NULL, *wide = NULL;
  if (!dout[0])
    return MS_OK;
  ms_status st = p->factor == 1 ? MS_OK : ms_binary_scalar(&g, MS_BINARY_mul, dout[0], (double)p->factor, 0, err);
  if (!st && !g)
    g = ms_retain(dout[0]);
  if (!st)
    st = keep_dims(&wide, g, p, err);
  if (!st)
    st = ms_expand(&din[0], wide, p->in.ndim, p->in.size, err);
  ms_release(wide);
  ms_release(g);
  return st;
}

static ms_status sum_scaled(ms_tensor **out, const ms_op *op, ms_tensor *x, unsigned dims, int keep, ms_dtype dtype,
                            ms_real factor, ms_error *err) {
  reduce_params p = {ms_shape_of(x), dims, factor};
  ms_tensor *y = NULL;
  ms_node *n;
  ms_status st = reduce_data(&y, MS_REDUCE_sum, x, dims, keep, dtype, factor, err);
  if (!st)
    st = ms_record(&n, op, 1, &x, 1, &y, err);
  if (!st)
    st = ms_keep(n, &p, sizeof p, err);
  return ms_give(out, y, st);
}

ms_status ms_mean(ms_tensor **out, ms_tensor *x, unsigned dims, int keep, ms_error *err) {
  static const ms_op op = {"mean", sum_backward};
  ms_status st = check_dims(&dims, x, "mean", err);
  if (!st && reduced_count(x, dims) == 0)
    st = ms_fail(err, MS_ESHAPE, "mean: expected at least one element, got %s", ms_shape_text(x->ndim, x->size).s);
  return st ? st : sum_scaled(out, &op, x, dims, keep, ms_wide_float(x), 1 / (ms_real)reduced_count(x, dims), err);
}

/* ---- max, min: the gradient goes to the first extremum ---- */

/* x with the reduced dimensions last; *outer rows of *inner elements. */
static void reduced_last(int *dims_order, int64_t *outer, int64_t *inner, const reduce_params *p) {
  int at = 0;
  *outer = *inner = 1;
  for (int pass = 0; pass < 2; pass++)
    for (int d = 0; d < p->in.ndim; d++)
      if ((int)(p->dims >> d & 1) == pass) {
        dims_order[at++] = d;
        *(pass ? inner : outer) *= p->in.size[d];
      }
}

static ms_status scatter_rows(ms_tensor *into, ms_tensor *g, ms_tensor *index, int64_t outer, int64_t inner,
                              ms_error *err) {
  ms_data d, s, i;
  ms_status st = ms_data_of(&d, into, err);
  if (!st)
    st = ms_data_of(&s, g, err);
  if (!st)
    st = ms_data_of(&i, index, err);
  if (st)
    return st;
  ms_device *dev = ms_tensor_device(into);
  return ms_row(dev, dev->k->scatter_add(dev->stream, d.p, s.p, i.p, outer, inner, 1, 1), "max", err);
}

static ms_status extremum_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const reduce_params *p = n->params;
  ms_tensor *x, *index = NULL, *rows = NULL, *g = NULL, *flat = NULL, *shaped = NULL;
  ms_shape s = {.ndim = p->in.ndim};
  int order[MS_MAX_DIMS], inverse[MS_MAX_DIMS];
  int64_t outer, inner;
  if (!dout[0])
    return MS_OK;
  reduced_last(order, &outer, &inner, p);
  for (int d = 0; d < s.ndim; d++) {
    inverse[order[d]] = d;
    s.size[d] = p->in.size[order[d]];
  }
  ms_status st = ms_saved_get(&x, n, 0, err);
  if (!st)
    st = reduce_data(&index, strcmp(n->op->name, "max") ? MS_REDUCE_argmin : MS_REDUCE_argmax, x, p->dims, 1, MS_I64, 1,
                     err);
  if (!st)
    st = ms_dense_rows(&rows, index, -1, err);
  if (!st)
    st = ms_dense_rows(&g, dout[0], MS_F32, err);
  if (!st)
    st = ms_full(&flat, ms_tensor_device(x), MS_F32, 1, (int64_t[]){outer * inner}, 0, err);
  if (!st)
    st = scatter_rows(flat, g, rows, outer, inner, err);
  if (!st)
    st = ms_reshape(&shaped, flat, s.ndim, s.size, err);
  if (!st)
    st = ms_permute(&din[0], shaped, inverse, err);
  ms_release(shaped);
  ms_release(flat);
  ms_release(g);
  ms_release(rows);
  ms_release(index);
  return st;
}

/* ---- prod: of the others, exact where zeros occur ---- */

static ms_status prod_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  enum { IS_ZERO, ONE, FILLED, PROD, ZEROS, NONE, SINGLE, QUOTIENT, AT_OTHERS, AT_ZERO, SLOPE, KEPT, ZERO, COUNT };
  const reduce_params *p = n->params;
  ms_tensor *x, *t[COUNT] = {NULL};
  if (!dout[0])
    return MS_OK;
  ms_status st = ms_saved_get(&x, n, 0, err);
  if (!st)
    st = ms_binary_scalar(&t[IS_ZERO], MS_BINARY_eq, x, 0, 0, err);
  if (!st)
    st = ms_full(&t[ONE], ms_tensor_device(x), MS_F32, 0, NULL, 1, err);
  if (!st)
    st = ms_full(&t[ZERO], ms_tensor_device(x), MS_F32, 0, NULL, 0, err);
  if (!st)
    st = ms_where(&t[FILLED], t[IS_ZERO], t[ONE], x, err);
  if (!st)
    st = ms_reduce(&t[PROD], MS_REDUCE_prod, t[FILLED], p->dims, 1, err);
  if (!st)
    st = ms_reduce(&t[ZEROS], MS_REDUCE_sum, t[IS_ZERO], p->dims, 1, err);
  if (!st)
    st = ms_binary_scalar(&t[NONE], MS_BINARY_eq, t[ZEROS], 0, 0, err);
  if (!st)
    st = ms_binary_scalar(&t[SINGLE], MS_BINARY_eq, t[ZEROS], 1, 0, err);
  if (!st)
    st = ms_binary(&t[QUOTIENT], MS_BINARY_div, t[PROD], t[FILLED], err);
  if (!st)
    st = ms_where(&t[AT_OTHERS], t[NONE], t[QUOTIENT], t[ZERO], err);
  if (!st)
    st = ms_where(&t[AT_ZERO], t[SINGLE], t[PROD], t[ZERO], err);
  if (!st)
    st = ms_where(&t[SLOPE], t[IS_ZERO], t[AT_ZERO], t[AT_OTHERS], err);
  if (!st)
    st = keep_dims(&t[KEPT], dout[0], p, err);
  if (!st)
    st = ms_binary(&din[0], MS_BINARY_mul, t[SLOPE], t[KEPT], err);
  for (int i = 0; i < COUNT; i++)
    ms_release(t[i]);
  return st;
}

/* ---- the op ---- */

ms_status ms_reduce(ms_tensor **out, ms_reduce_op op, ms_tensor *x, unsigned dims, int keep, ms_error *err) {
  static const ms_op sum_op = {"sum", sum_backward}, max_op = {"max", extremum_backward},
                     min_op = {"min", extremum_backward}, prod_op = {"prod", prod_backward};
  ms_tensor *y = NULL;
  ms_node *n = NULL;
  ms_status st = check_dims(&dims, x, reduce_name[op], err);
  if (st)
    return st;
  if (op == MS_REDUCE_sum)
    return sum_scaled(out, &sum_op, x, dims, keep, reduce_dtype(op, x), 1, err);
  reduce_params p = {ms_shape_of(x), dims, 1};
  st = reduce_data(&y, op, x, dims, keep, reduce_dtype(op, x), 1, err);
  if (!st && (op == MS_REDUCE_max || op == MS_REDUCE_min || op == MS_REDUCE_prod))
    st = ms_record(&n, op == MS_REDUCE_max ? &max_op : op == MS_REDUCE_min ? &min_op : &prod_op, 1, &x, 1, &y, err);
  if (!st)
    st = ms_keep(n, &p, sizeof p, err);
  if (!st)
    st = ms_save(n, 0, x, err);
  return ms_give(out, y, st);
}

/* ---- var: of its differences from the mean, so that nothing cancels ---- */

static ms_status variance(ms_tensor **out, const char *name, ms_tensor *x, unsigned dims, int keep, int unbiased,
                          ms_error *err) {
  static const ms_op op = {"var", sum_backward};
  ms_tensor *mean = NULL, *d = NULL, *square = NULL;
  ms_status st = check_dims(&dims, x, name, err);
  if (st)
    return st;
  int64_t n = reduced_count(x, dims) - (unbiased != 0);
  if (n < 1)
    return ms_fail(err, MS_ESHAPE, "%s: expected at least %d elements, got %s", name, unbiased ? 2 : 1,
                   ms_shape_text(x->ndim, x->size).s);
  st = ms_mean(&mean, x, dims, 1, err);
  if (!st)
    st = ms_binary(&d, MS_BINARY_sub, x, mean, err);
  if (!st)
    st = ms_unary(&square, MS_UNARY_square, d, err);
  if (!st)
    st = sum_scaled(out, &op, square, dims, keep, ms_wide_float(x), 1 / (ms_real)n, err);
  ms_release(square);
  ms_release(d);
  ms_release(mean);
  return st;
}

ms_status ms_var(ms_tensor **out, ms_tensor *x, unsigned dims, int keep, int unbiased, ms_error *err) {
  return variance(out, "var", x, dims, keep, unbiased, err);
}

ms_status ms_std(ms_tensor **out, ms_tensor *x, unsigned dims, int keep, int unbiased, ms_error *err) {
  ms_tensor *var = NULL;
  ms_status st = variance(&var, "std", x, dims, keep, unbiased, err);
  if (!st)
    st = ms_unary(out, MS_UNARY_sqrt, var, err);
  ms_release(var);
  return st;
}

ms_status ms_item(double *out, ms_tensor *x, ms_error *err) {
  union {
    ms_real real;
    ms_bf16 half;
    uint8_t byte;
    int64_t integer;
  } v;
  if (ms_numel(x) != 1)
    return ms_fail(err, MS_ESHAPE, "item: expected a tensor of one element, got %s", ms_shape_text(x->ndim, x->size).s);
  ms_status st = ms_read(x, &v, err);
  if (st)
    return st;
  *out = x->dtype == MS_I64    ? (double)v.integer
         : x->dtype == MS_U8   ? v.byte
         : x->dtype == MS_BF16 ? (double)ms_bf16_to(v.half)
                               : (double)v.real;
  return MS_OK;
}
