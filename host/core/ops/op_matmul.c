#include "../autocast.h"
#include "op.h"

#include <string.h>

/* ---- the product of two stacks of matrices: a [..., m, k], b [..., k, n] with equal leading dimensions ---- */

/* t [..., rows, cols] as a gemm takes it: one stride over the batch, a unit stride in each matrix. */
typedef struct operand {
  ms_tensor *t; /* retained */
  ms_data data;
  int64_t batch, row, col;
} operand;

static int batch_stride(int64_t *stride, const ms_tensor *t) {
  *stride = 0;
  int64_t run = 1;
  int found = 0;
  for (int d = t->ndim - 3; d >= 0; d--) {
    if (t->size[d] == 1)
      continue;
    if (!found)
      *stride = t->stride[d];
    else if (t->stride[d] != *stride * run)
      return 0;
    run *= t->size[d];
    found = 1;
  }
  return 1;
}

/* Repeated elements (stride 0) within a matrix have to be copied; a size of 1 has any stride. */
static int is_usable(const ms_tensor *t) {
  int64_t batch, rows = t->size[t->ndim - 2], cols = t->size[t->ndim - 1];
  int64_t row = t->stride[t->ndim - 2], col = t->stride[t->ndim - 1];
  int by_row = (col == 1 || cols == 1) && (row >= cols || rows == 1);
  int by_col = (row == 1 || rows == 1) && (col >= rows || cols == 1);
  return ms_is_float(t->dtype) && batch_stride(&batch, t) && (by_row || by_col);
}

static ms_status make_operand(operand *o, ms_tensor *t, ms_error *err) {
  ms_status st = ms_materialise(t, err);
  if (!st && is_usable(t))
    o->t = ms_retain(t);
  else if (!st)
    st = ms_dense_rows(&o->t, t, ms_is_float(t->dtype) ? (int)t->dtype : MS_F32, err);
  if (!st)
    st = ms_data_of(&o->data, o->t, err);
  if (st)
    return st;
  const ms_tensor *u = o->t;
  int64_t rows = u->size[u->ndim - 2], cols = u->size[u->ndim - 1];
  batch_stride(&o->batch, u);
  o->row = u->stride[u->ndim - 2];
  o->col = u->stride[u->ndim - 1];
  if (rows == 1) /* a lone row or column: the stride that nobody walks is made to fit */
    o->row = o->col == 1 ? cols : 1;
  if (cols == 1)
    o->col = o->row == 1 ? rows : 1;
  return MS_OK;
}

static ms_status product(ms_tensor **out, ms_tensor *a, ms_tensor *b, ms_dtype dtype, ms_error *err) {
  ms_shape s = ms_shape_of(a);
  int64_t stride[MS_MAX_DIMS], m = a->size[a->ndim - 2], k = a->size[a->ndim - 1], n = b->size[b->ndim - 1], batch = 1;
  operand x = {0}, y = {0};
  ms_tensor *c = NULL;
  s.size[s.ndim - 1] = n;
  for (int d = 0; d < s.ndim - 2; d++)
    batch *= s.size[d];
  ms_row_major_strides(s.ndim, s.size, stride);
  ms_status st = ms_tensor_new_strided(&c, ms_tensor_device(a), dtype, s.ndim, s.size, stride, err);
  if (!st && k == 0)
    st = ms_fill_(c, 0, err);
  else if (!st)
    st = make_operand(&x, a, err);
  if (!st && k)
    st = make_operand(&y, b, err);
  if (!st && k && ms_numel(c)) {
    ms_gemm g = {.batch = batch,
                 .m = m,
                 .n = n,
                 .k = k,
                 .a = x.data,
                 .b = y.data,
                 .a_batch = x.batch,
                 .a_row = x.row,
                 .a_col = x.col,
                 .b_batch = y.batch,
                 .b_row = y.row,
                 .b_col = y.col,
                 .c_batch = m * n,
                 .ldc = n,
                 .alpha = 1};
    ms_device *d = ms_tensor_device(a);
    st = ms_data_of(&g.c, c, err);
    if (!st)
      st = ms_row(d, d->k->gemm(d->stream, &g), "matmul", err);
  }
  ms_release(y.t);
  ms_release(x.t);
  return ms_give(out, c, st);
}

static ms_status product_transposed(ms_tensor **out, ms_tensor *a, int ta, ms_tensor *b, int tb, ms_dtype dtype,
                                    ms_error *err) {
  ms_tensor *x = NULL, *y = NULL;
  ms_status st = ta ? ms_transpose(&x, a, -2, -1, err) : MS_OK;
  if (!st && tb)
    st = ms_transpose(&y, b, -2, -1, err);
  if (!st)
    st = product(out, ta ? x : a, tb ? y : b, dtype, err);
  ms_release(y);
  ms_release(x);
  return st;
}

typedef struct product_params {
  int half;      /* recorded under autocast: the gradient of the product is read as bfloat16 */
  ms_dtype a, b; /* types of the gradients */
} product_params;

static ms_status matmul_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const product_params *p = n->params;
  ms_tensor *a, *b, *g = NULL;
  if (!dout[0])
    return MS_OK;
  ms_status st = ms_saved_get(&a, n, 0, err);
  if (!st)
    st = ms_saved_get(&b, n, 1, err);
  if (!st && p->half)
    st = ms_half(&g, dout[0], 0, err);
  else if (!st)
    g = ms_retain(dout[0]);
  if (!st && ms_wants(n, 0))
    st = product_transposed(&din[0], g, 0, b, 1, p->a, err);
  if (!st && ms_wants(n, 1))
    st = product_transposed(&din[1], a, 1, g, 0, p->b, err);
  ms_release(g);
  return st;
}

static ms_status multiply(ms_tensor **out, ms_tensor *a, ms_tensor *b, ms_error *err) {
  static const ms_op op = {"matmul", matmul_backward};
  ms_tensor *c = NULL, *x = NULL, *y = NULL;
  ms_node *n;
  product_params p = {ms_autocast(), MS_F32, MS_F32};
  ms_status st = MS_OK;
  if (!p.half) {
    x = ms_retain(a);
    y = ms_retain(b);
  } else if (!(st = ms_half(&x, a, 0, err))) {
    st = ms_half(&y, b, 0, err);
    p.a = a->dtype == MS_F32 ? MS_F32 : MS_BF16;
    p.b = b->dtype == MS_F32 ? MS_F32 : MS_BF16;
  }
  if (!st)
    st = product(&c, x, y, p.half || ms_promote(a->dtype, b->dtype) == MS_BF16 ? MS_BF16 : MS_F32, err);
  if (!st)
    st = ms_record(&n, &op, 2, (ms_tensor *[]){a, b}, 1, &c, err);
  if (!st)
    st = ms_keep(n, &p, sizeof p, err);
  if (!st && n && ms_wants(n, 1))
    st = ms_save(n, 0, x, err);
  if (!st && n && ms_wants(n, 0))
    st = ms_save(n, 1, y, err);
  ms_release(x);
  ms_release(y);
  return ms_give(out, c, st);
}

/* ---- torch.matmul's rules, in terms of reshapes ---- */

static ms_status mismatch(const ms_tensor *a, const ms_tensor *b, const char *need, ms_error *err) {
  return ms_fail(err, MS_ESHAPE, "matmul: a %s and b %s do not multiply (need %s)", ms_shape_text(a->ndim, a->size).s,
                 ms_shape_text(b->ndim, b->size).s, need);
}

/* a [..., m, k] by one matrix b: the leading dimensions join m. */
static ms_status fold_left(ms_tensor **out, ms_tensor *a, ms_tensor *b, ms_error *err) {
  ms_shape s = ms_shape_of(a);
  ms_tensor *flat = NULL, *c = NULL;
  int64_t k = s.size[s.ndim - 1], rows = 1;
  for (int d = 0; d < s.ndim - 1; d++)
    rows *= s.size[d];
  s.size[s.ndim - 1] = b->size[1];
  ms_status st = ms_reshape(&flat, a, 2, (int64_t[]){rows, k}, err);
  if (!st)
    st = multiply(&c, flat, b, err);
  if (!st)
    st = ms_reshape(out, c, s.ndim, s.size, err);
  ms_release(c);
  ms_release(flat);
  return st;
}

/* Both with two dimensions or more, and leading ones that broadcast. */
static ms_status multiply_batched(ms_tensor **out, ms_tensor *a, ms_tensor *b, ms_error *err) {
  ms_tensor lead_a = {.ndim = a->ndim - 2}, lead_b = {.ndim = b->ndim - 2}, *x = NULL, *y = NULL;
  ms_shape s;
  memcpy(lead_a.size, a->size, sizeof lead_a.size);
  memcpy(lead_b.size, b->size, sizeof lead_b.size);
  if (ms_broadcast_shape(&s.ndim, s.size, &lead_a, &lead_b, "matmul", NULL))
    return mismatch(a, b, "leading dimensions that broadcast", err);
  s.ndim += 2;
  s.size[s.ndim - 2] = s.size[s.ndim - 1] = -1;
  ms_status st = ms_expand(&x, a, s.ndim, s.size, err);
  if (!st)
    st = ms_expand(&y, b, s.ndim, s.size, err);
  if (!st)
    st = multiply(out, x, y, err);
  ms_release(y);
  ms_release(x);
  return st;
}

static ms_status matmul_matrices(ms_tensor **out, ms_tensor *a, ms_tensor *b, ms_error *err) {
  if (a->ndim == 2 && b->ndim == 2)
    return multiply(out, a, b, err);
  return b->ndim == 2 ? fold_left(out, a, b, err) : multiply_batched(out, a, b, err);
}

ms_status ms_matmul(ms_tensor **out, ms_tensor *a, ms_tensor *b, ms_error *err) {
  ms_tensor *x = NULL, *y = NULL, *c = NULL, *d = NULL;
  int row = a->ndim == 1, column = b->ndim == 1, shared_a = a->nonleaf_view, shared_b = b->nonleaf_view;
  if (a->ndim < 1 || b->ndim < 1)
    return mismatch(a, b, "at least one dimension each", err);
  if (a->size[a->ndim - 1] != b->size[column ? 0 : b->ndim - 2])
    return mismatch(a, b,
                    row && column ? "[k] x [k]"
                    : row         ? "[k] x [k, n]"
                    : column      ? "[m, k] x [k]"
                                  : "[m, k] x [k, n]",
                    err);
  if (!ms_is_float(a->dtype) && !ms_is_float(b->dtype))
    return ms_fail(err, MS_ETYPE, "matmul: expected a float type, got %s and %s", ms_tensor_text(a).s,
                   ms_tensor_text(b).s);
  ms_status st = ms_same_device("matmul", 2, (ms_tensor *[]){a, b}, err);
  if (!st && row)
    st = ms_unsqueeze(&x, a, 0, err);
  if (!st && column)
    st = ms_unsqueeze(&y, b, 1, err);
  if (!st)
    st = matmul_matrices(&c, row ? x : a, column ? y : b, err);
  if (!st && column) {
    st = ms_squeeze(&d, c, -1, err);
    ms_release(c);
    c = d;
  }
  if (!st && row) {
    st = ms_squeeze(&d, c, column ? -1 : -2, err);
    ms_release(c);
    c = d;
  }
  a->nonleaf_view = shared_a; /* the views of a and b do not leave this function */
  b->nonleaf_view = shared_b;
  if (!st)
    c->nonleaf_view = 0;
  ms_release(y);
  ms_release(x);
  return ms_give(out, c, st);
}

/* ---- log_softmax over the last dimension of rows ---- */

static ms_status log_softmax_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  ms_tensor *y, *g = NULL, *dx = NULL;
  ms_data to, from, of;
  if (!dout[0])
    return MS_OK;
  ms_status st = ms_saved_get(&y, n, 0, err);
  if (!st)
    st = ms_dense_rows(&g, dout[0], MS_F32, err);
  if (!st)
    st = ms_tensor_new_strided(&dx, ms_tensor_device(y), MS_F32, y->ndim, y->size, y->stride, err);
  if (!st)
    st = ms_data_of(&to, dx, err);
  if (!st)
    st = ms_data_of(&from, g, err);
  if (!st)
    st = ms_data_of(&of, y, err);
  if (!st && ms_numel(y)) {
    ms_device *d = ms_tensor_device(y);
    int64_t cols = y->size[y->ndim - 1];
    st = ms_row(d, d->k->log_softmax_grad(d->stream, to.p, from.p, of.p, ms_numel(y) / cols, cols), "log_softmax", err);
  }
  ms_release(g);
  return ms_give(&din[0], dx, st);
}

static ms_status log_softmax_rows(ms_tensor **out, ms_tensor *x, ms_error *err) {
  static const ms_op op = {"log_softmax", log_softmax_backward};
  ms_tensor *rows = NULL, *y = NULL;
  ms_data to, from;
  ms_node *n;
  ms_status st = ms_dense_rows(&rows, x, MS_F32, err);
  if (!st)
    st = ms_tensor_new_strided(&y, ms_tensor_device(rows), MS_F32, rows->ndim, rows->size, rows->stride, err);
  if (!st)
    st = ms_data_of(&to, y, err);
  if (!st)
    st = ms_data_of(&from, rows, err);
  if (!st && ms_numel(y)) {
    ms_device *d = ms_tensor_device(y);
    int64_t cols = y->size[y->ndim - 1];
    st = ms_row(d, d->k->log_softmax(d->stream, to.p, from.p, ms_numel(y) / cols, cols), "log_softmax", err);
  }
  if (!st)
    st = ms_record(&n, &op, 1, &x, 1, &y, err);
  if (!st)
    st = ms_save(n, 0, y, err);
  ms_release(rows);
  return ms_give(out, y, st);
}

ms_status ms_log_softmax(ms_tensor **out, ms_tensor *x, int dim, ms_error *err) {
  ms_tensor *last = NULL, *y = NULL;
  int shared = x->nonleaf_view;
  ms_status st = ms_resolve_dim(&dim, x->ndim, "log_softmax", err);
  if (st || dim == x->ndim - 1)
    return st ? st : log_softmax_rows(out, x, err);
  st = ms_transpose(&last, x, dim, -1, err);
  x->nonleaf_view = shared;
  if (!st)
    st = log_softmax_rows(&y, last, err);
  if (!st)
    st = ms_transpose(out, y, dim, -1, err);
  if (!st)
    (*out)->nonleaf_view = 0;
  ms_release(y);
  ms_release(last);
  return st;
}

ms_status ms_softmax(ms_tensor **out, ms_tensor *x, int dim, ms_error *err) {
  ms_tensor *y = NULL;
  ms_status st = ms_log_softmax(&y, x, dim, err);
  if (!st)
    st = ms_unary(out, MS_UNARY_exp, y, err);
  ms_release(y);
  return st;
}
