#include "op.h"

#include <string.h>

/* Sizes around dimension dim, as the rows count them. */
static void around(int64_t *outer, int64_t *inner, const ms_tensor *t, int dim) {
  *outer = *inner = 1;
  for (int d = 0; d < t->ndim; d++)
    if (d != dim)
      *(d < dim ? outer : inner) *= t->size[d];
}

typedef struct gather_params {
  ms_shape in;
  int dim;
} gather_params;

static ms_status gather_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const gather_params *p = n->params;
  ms_tensor *index, *g = NULL, *dx = NULL;
  ms_data to, from, at;
  int64_t outer, inner;
  if (!dout[0])
    return MS_OK;
  ms_status st = ms_saved_get(&index, n, 0, err);
  if (!st)
    st = ms_dense_rows(&g, dout[0], MS_F32, err);
  if (!st) {
    int64_t stride[MS_MAX_DIMS];
    ms_row_major_strides(p->in.ndim, p->in.size, stride);
    st = ms_tensor_new_strided(&dx, ms_tensor_device(g), MS_F32, p->in.ndim, p->in.size, stride, err);
  }
  if (!st)
    st = ms_fill_(dx, 0, err);
  if (!st)
    st = ms_data_of(&to, dx, err);
  if (!st)
    st = ms_data_of(&from, g, err);
  if (!st)
    st = ms_data_of(&at, index, err);
  if (!st) {
    ms_device *d = ms_tensor_device(g);
    around(&outer, &inner, index, p->dim);
    st = ms_row(d,
                d->k->scatter_add(d->stream, to.p, from.p, at.p, outer, p->in.size[p->dim], index->size[p->dim], inner),
                "gather", err);
  }
  ms_release(g);
  return ms_give(&din[0], dx, st);
}

/* Names the first value of index that is not in [0, size). */
static ms_status fail_index(const char *op, const int64_t *index, int64_t n, int64_t size, ms_error *err) {
  int64_t i = 0;
  while (i + 1 < n && index[i] >= 0 && index[i] < size)
    i++;
  if (size == 0)
    return ms_fail(err, MS_ERANGE, "%s: index: nothing to choose from, the size is 0, got %lld", op,
                   (long long)index[i]);
  return ms_fail(err, MS_ERANGE, "%s: index: expected values from 0 to %lld, got %lld", op, (long long)size - 1,
                 (long long)index[i]);
}

/* x and index have equal sizes but in dim. */
static ms_status gather_rows(ms_tensor **out, const char *op, ms_tensor *y, ms_tensor *x, ms_tensor *index, int dim,
                             ms_error *err) {
  ms_tensor *bad = NULL;
  ms_data from, to, at, flag;
  int64_t outer, inner;
  ms_status st = ms_full(&bad, ms_tensor_device(x), MS_I64, 0, NULL, 0, err);
  if (!st)
    st = ms_data_of(&from, x, err);
  if (!st)
    st = ms_data_of(&to, y, err);
  if (!st)
    st = ms_data_of(&at, index, err);
  if (!st)
    st = ms_data_of(&flag, bad, err);
  if (!st) {
    ms_device *d = ms_tensor_device(x);
    around(&outer, &inner, index, dim);
    st = ms_row(d,
                d->k->gather(d->stream, to.p, from.p, at.p, outer, x->size[dim], index->size[dim], inner,
                             (int)ms_dtype_size(x->dtype), flag.p),
                op, err);
  }
  if (!st && ms_on_cpu(ms_tensor_device(x)) && *(const int64_t *)flag.p)
    st = fail_index(op, at.p, ms_numel(index), x->size[dim], err);
  ms_release(bad);
  if (!st)
    *out = ms_retain(y);
  return st;
}

static ms_status check_index(const char *op, const ms_tensor *x, const ms_tensor *index, ms_error *err) {
  if (index->dtype != MS_I64)
    return ms_fail(err, MS_ETYPE, "%s: index: expected int64, got %s", op, ms_dtype_name(index->dtype));
  return ms_same_device(op, 2, (ms_tensor *[]){(ms_tensor *)x, (ms_tensor *)index}, err);
}

static ms_status gather_same(ms_tensor **out, const char *name, ms_tensor *x, int dim, ms_tensor *index,
                             ms_error *err) {
  static const ms_op op = {"gather", gather_backward};
  gather_params p = {ms_shape_of(x), dim};
  ms_tensor *rows = NULL, *at = NULL, *y = NULL, *done = NULL;
  ms_node *n;
  ms_status st = ms_dense_rows(&rows, x, -1, err);
  if (!st)
    st = ms_dense_rows(&at, index, -1, err);
  if (!st)
    st = ms_tensor_new_strided(&y, ms_tensor_device(x), x->dtype, at->ndim, at->size, at->stride, err);
  if (!st) {
    y->scale = x->scale;
    y->peak = x->peak;
    st = gather_rows(&done, name, y, rows, at, dim, err);
  }
  ms_release(y);
  if (!st)
    st = ms_record(&n, &op, 1, &x, 1, &done, err);
  if (!st)
    st = ms_keep(n, &p, sizeof p, err);
  if (!st)
    st = ms_save(n, 0, at, err);
  ms_release(at);
  ms_release(rows);
  return ms_give(out, done, st);
}

ms_status ms_gather(ms_tensor **out, ms_tensor *x, int dim, ms_tensor *index, ms_error *err) {
  ms_tensor *part = ms_retain(x);
  int shared = x->nonleaf_view;
  ms_status st = ms_resolve_dim(&dim, x->ndim, "gather", err);
  if (!st)
    st = check_index("gather", x, index, err);
  if (!st && index->ndim != x->ndim)
    st = ms_fail(err, MS_ESHAPE, "gather: index: expected %d dimensions as in x %s, got %s", x->ndim,
                 ms_shape_text(x->ndim, x->size).s, ms_shape_text(index->ndim, index->size).s);
  for (int d = 0; d < x->ndim && !st; d++) {
    ms_tensor *narrow = NULL;
    if (d == dim || index->size[d] == x->size[d])
      continue;
    if (index->size[d] > x->size[d])
      st = ms_fail(err, MS_ESHAPE, "gather: index: expected sizes up to those of x %s but in dimension %d, got %s",
                   ms_shape_text(x->ndim, x->size).s, dim + 1, ms_shape_text(index->ndim, index->size).s);
    else
      st = ms_narrow(&narrow, part, d, 0, index->size[d], err);
    if (!st) {
      ms_release(part);
      part = narrow;
    }
  }
  if (!st)
    st = gather_same(out, "gather", part, dim, index, err);
  x->nonleaf_view = shared;
  ms_release(part);
  return st;
}

ms_status ms_index_select(ms_tensor **out, ms_tensor *x, int dim, ms_tensor *index, ms_error *err) {
  int64_t size[MS_MAX_DIMS], stride[MS_MAX_DIMS] = {0};
  ms_tensor *wide = NULL;
  ms_status st = ms_resolve_dim(&dim, x->ndim, "index_select", err);
  if (!st)
    st = check_index("index_select", x, index, err);
  if (!st && index->ndim != 1)
    st = ms_fail(err, MS_ESHAPE, "index_select: index: expected one dimension, got %s",
                 ms_shape_text(index->ndim, index->size).s);
  if (st)
    return st;
  memcpy(size, x->size, sizeof size);
  size[dim] = index->size[0];
  stride[dim] = index->stride[0];
  st = ms_tensor_alias(&wide, index, x->ndim, size, stride, index->offset, err);
  if (!st)
    st = gather_same(out, "index_select", x, dim, wide, err);
  ms_release(wide);
  return st;
}

/* The k places of each row, in a tensor shaped like x with size k in dim. */
static ms_status topk_places(ms_tensor **out, ms_tensor *x, int64_t k, int dim, int largest, ms_error *err) {
  ms_tensor *last = NULL, *rows = NULL, *value = NULL, *index = NULL;
  ms_data from, v, i;
  ms_shape s;
  ms_status st = ms_transpose(&last, x, dim, -1, err);
  if (!st)
    st = ms_dense_rows(&rows, last, MS_F32, err);
  if (!st) {
    int64_t stride[MS_MAX_DIMS];
    s = ms_shape_of(rows);
    s.size[s.ndim - 1] = k;
    ms_row_major_strides(s.ndim, s.size, stride);
    st = ms_tensor_new_strided(&value, ms_tensor_device(x), MS_F32, s.ndim, s.size, stride, err);
    if (!st)
      st = ms_tensor_new_strided(&index, ms_tensor_device(x), MS_I64, s.ndim, s.size, stride, err);
  }
  if (!st)
    st = ms_data_of(&from, rows, err);
  if (!st)
    st = ms_data_of(&v, value, err);
  if (!st)
    st = ms_data_of(&i, index, err);
  if (!st && ms_numel(rows) && k) {
    ms_device *d = ms_tensor_device(x);
    int64_t n = rows->size[rows->ndim - 1];
    st = ms_row(d, d->k->topk(d->stream, v.p, i.p, from.p, ms_numel(rows) / n, n, k, largest), "topk", err);
  }
  if (!st)
    st = ms_transpose(out, index, dim, -1, err);
  ms_release(index);
  ms_release(value);
  ms_release(rows);
  ms_release(last);
  return st;
}

ms_status ms_topk(ms_tensor **value, ms_tensor **index, ms_tensor *x, int64_t k, int dim, int largest, ms_error *err) {
  ms_tensor *places = NULL, *dense = NULL;
  int shared = x->nonleaf_view;
  ms_status st = ms_resolve_dim(&dim, x->ndim, "topk", err);
  if (!st && (k < 0 || k > x->size[dim]))
    st = ms_fail(err, MS_ERANGE, "topk: k: expected 0 to %lld, got %lld", (long long)x->size[dim], (long long)k);
  int was = ms_set_grad_enabled(0);
  if (!st)
    st = topk_places(&places, x, k, dim, largest, err);
  x->nonleaf_view = shared;
  if (!st)
    st = ms_dense(&dense, places, -1, err);
  ms_set_grad_enabled(was);
  if (!st)
    st = ms_gather(value, x, dim, dense, err);
  ms_release(places);
  if (!st)
    dense->nonleaf_view = 0;
  return ms_give(index, dense, st);
}
