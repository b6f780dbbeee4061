#include "op.h"

#include <string.h>

/* out is a view of t: from now on neither may be rewritten behind the other's back. */
static void share(ms_tensor *out, ms_tensor *t) {
  out->nonleaf_view = 1;
  t->nonleaf_view = 1;
}

/* ---- reshaping: view, reshape, flatten, squeeze, unsqueeze. The gradient takes the old shape back. ---- */

static ms_status reshape_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const ms_shape *s = n->params;
  return dout[0] ? ms_reshape(&din[0], dout[0], s->ndim, s->size, err) : MS_OK;
}

static ms_status record_reshape(const ms_op *op, ms_tensor *t, ms_tensor *out, ms_error *err) {
  ms_node *n;
  ms_shape s = ms_shape_of(t);
  ms_status st = ms_record(&n, op, 1, &t, 1, &out, err);
  return st ? st : ms_keep(n, &s, sizeof s, err);
}

static ms_status reshaped_alias(ms_tensor **out, const ms_op *op, ms_tensor *t, int ndim, const int64_t *size,
                                const int64_t *stride, ms_error *err) {
  ms_tensor *v = NULL;
  ms_status st = ms_tensor_alias(&v, t, ndim, size, stride, t->offset, err);
  if (!st)
    st = record_reshape(op, t, v, err);
  if (!st)
    share(v, t);
  return ms_give(out, v, st);
}

/* Replaces one -1 by what is missing and checks that the element count stays. */
static ms_status complete_size(ms_shape *s, const ms_tensor *t, int ndim, const int64_t *size, const char *op,
                               ms_error *err) {
  if (ndim < 0 || ndim > MS_MAX_DIMS)
    return ms_fail(err, MS_ESHAPE, "%s: size: expected 0 to %d dimensions, got %d", op, MS_MAX_DIMS, ndim);
  int64_t known = 1, total = ms_numel(t);
  int open = -1, bad = 0;
  s->ndim = ndim;
  for (int d = 0; d < ndim; d++) {
    s->size[d] = size[d];
    if (size[d] == -1 && open < 0)
      open = d;
    else
      bad = bad || size[d] < 0 || __builtin_mul_overflow(known, size[d], &known);
  }
  if (!bad && open >= 0 && known > 0) {
    s->size[open] = total / known;
    known *= s->size[open];
  } else {
    bad = bad || open >= 0;
  }
  if (bad || known != total)
    return ms_fail(err, MS_ESHAPE, "%s: %s has %lld elements and does not fit %s", op,
                   ms_shape_text(t->ndim, t->size).s, (long long)total, ms_shape_text(ndim, size).s);
  return MS_OK;
}

/* Strides under which t's memory has the shape s; 0 where there are none. Works from the last dimension to the first:
** runs of t that one stride walks are cut into dimensions of s. */
static int view_strides(int64_t *stride, const ms_tensor *t, const ms_shape *s) {
  if (ms_numel(t) == 0) {
    ms_default_strides(s->ndim, s->size, stride);
    return 1;
  }
  int to = s->ndim - 1;
  for (int d = t->ndim - 1; d >= 0;) {
    int64_t base = t->stride[d], run = t->size[d], used = 1;
    int first = d;
    if (run == 1) {
      d--;
      continue;
    }
    while (first > 0 && (t->size[first - 1] == 1 || t->stride[first - 1] == base * run))
      run *= t->size[--first];
    for (; to >= 0 && (used < run || s->size[to] == 1); to--) {
      stride[to] = base * used;
      used *= s->size[to];
    }
    if (used != run)
      return 0;
    d = first - 1;
  }
  for (; to >= 0; to--)
    stride[to] = 1;
  return 1;
}

static ms_status view_as(ms_tensor **out, const ms_op *op, ms_tensor *t, const ms_shape *s, ms_error *err) {
  int64_t stride[MS_MAX_DIMS];
  ms_status st = ms_materialise(t, err);
  if (st)
    return st;
  if (!view_strides(stride, t, s))
    return ms_fail(err, MS_ESHAPE, "%s: the memory of %s does not allow the shape %s without a copy; use reshape",
                   op->name, ms_shape_text(t->ndim, t->size).s, ms_shape_text(s->ndim, s->size).s);
  return reshaped_alias(out, op, t, s->ndim, s->size, stride, err);
}

static const ms_op view_op = {"view", reshape_backward};
static const ms_op reshape_op = {"reshape", reshape_backward};

ms_status ms_view(ms_tensor **out, ms_tensor *t, int ndim, const int64_t *size, ms_error *err) {
  ms_shape s;
  ms_status st = complete_size(&s, t, ndim, size, "view", err);
  return st ? st : view_as(out, &view_op, t, &s, err);
}

/* A static input keeps its one copy: [1, ...] is reshaped, then repeated again. */
static ms_status reshape_static(ms_tensor **out, ms_tensor *t, const ms_shape *s, ms_error *err) {
  ms_shape one = *s;
  ms_tensor *source = NULL;
  one.size[0] = 1;
  ms_status st = ms_reshape(&source, t->source, one.ndim, one.size, err);
  if (!st)
    st = ms_expand(out, source, s->ndim, s->size, err);
  ms_release(source);
  return st;
}

ms_status ms_reshape(ms_tensor **out, ms_tensor *t, int ndim, const int64_t *size, ms_error *err) {
  ms_shape s;
  int64_t stride[MS_MAX_DIMS];
  ms_tensor *rows = NULL, *v = NULL;
  ms_status st = complete_size(&s, t, ndim, size, "reshape", err);
  if (!st)
    st = ms_materialise(t, err);
  if (st)
    return st;
  if (t->source && s.ndim > 0 && s.size[0] == t->size[0])
    return reshape_static(out, t, &s, err);
  if (view_strides(stride, t, &s))
    return reshaped_alias(out, &reshape_op, t, s.ndim, s.size, stride, err);
  st = ms_dense_rows(&rows, t, -1, err);
  if (!st) {
    ms_row_major_strides(s.ndim, s.size, stride);
    st = ms_tensor_alias(&v, rows, s.ndim, s.size, stride, rows->offset, err);
  }
  if (!st)
    st = record_reshape(&reshape_op, t, v, err);
  ms_release(rows);
  return ms_give(out, v, st);
}

ms_status ms_flatten(ms_tensor **out, ms_tensor *t, int first, int last, ms_error *err) {
  ms_shape s = {0};
  if (t->ndim == 0)
    return ms_reshape(out, t, 1, (int64_t[]){1}, err);
  ms_status st = ms_resolve_dim(&first, t->ndim, "flatten", err);
  if (!st)
    st = ms_resolve_dim(&last, t->ndim, "flatten", err);
  if (!st && first > last)
    st = ms_fail(err, MS_ERANGE, "flatten: expected the first dimension before the last, got %d and %d", first + 1,
                 last + 1);
  if (st)
    return st;
  for (int d = 0; d < t->ndim; d++) {
    if (d > first && d <= last)
      s.size[s.ndim - 1] *= t->size[d];
    else
      s.size[s.ndim++] = t->size[d];
  }
  return ms_reshape(out, t, s.ndim, s.size, err);
}

ms_status ms_squeeze(ms_tensor **out, ms_tensor *t, int dim, ms_error *err) {
  static const ms_op op = {"squeeze", reshape_backward};
  int64_t size[MS_MAX_DIMS], stride[MS_MAX_DIMS];
  ms_status st = ms_resolve_dim(&dim, t->ndim, "squeeze", err);
  if (!st)
    st = ms_materialise(t, err);
  if (st)
    return st;
  int n = 0;
  for (int d = 0; d < t->ndim; d++)
    if (d != dim || t->size[d] != 1) {
      size[n] = t->size[d];
      stride[n++] = t->stride[d];
    }
  return reshaped_alias(out, &op, t, n, size, stride, err);
}

ms_status ms_unsqueeze(ms_tensor **out, ms_tensor *t, int dim, ms_error *err) {
  static const ms_op op = {"unsqueeze", reshape_backward};
  int64_t size[MS_MAX_DIMS + 1], stride[MS_MAX_DIMS + 1];
  ms_status st = ms_resolve_dim(&dim, t->ndim + 1, "unsqueeze", err);
  if (!st)
    st = ms_materialise(t, err);
  if (!st && t->ndim == MS_MAX_DIMS)
    st = ms_fail(err, MS_ESHAPE, "unsqueeze: expected fewer than %d dimensions, got %s", MS_MAX_DIMS,
                 ms_shape_text(t->ndim, t->size).s);
  if (st)
    return st;
  for (int d = 0, from = 0; d <= t->ndim; d++) {
    size[d] = d == dim ? 1 : t->size[from];
    stride[d] = d == dim ? 1 : t->stride[from++];
  }
  return reshaped_alias(out, &op, t, t->ndim + 1, size, stride, err);
}

/* ---- narrow and select: the gradient is zero elsewhere ---- */

/* A 0-based position as messages count it: from 1, or from -1 at the end. */
static long long ordinal(int64_t i) {
  return i < 0 || i == INT64_MAX ? (long long)i : (long long)i + 1;
}

typedef struct part {
  ms_shape shape;
  int dim, squeeze;
  int64_t start, length;
} part;

static ms_status part_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const part *p = n->params;
  ms_tensor *whole = NULL, *here = NULL;
  if (!dout[0])
    return MS_OK;
  ms_status st = ms_full(&whole, ms_tensor_device(dout[0]), MS_F32, p->shape.ndim, p->shape.size, 0, err);
  if (!st)
    st = p->squeeze ? ms_select(&here, whole, p->dim, p->start, err)
                    : ms_narrow(&here, whole, p->dim, p->start, p->length, err);
  if (!st)
    st = ms_copy_(here, dout[0], err);
  ms_release(here);
  return ms_give(&din[0], whole, st);
}

static ms_status take_part(ms_tensor **out, const ms_op *op, ms_tensor *t, part p, ms_error *err) {
  int64_t size[MS_MAX_DIMS], stride[MS_MAX_DIMS];
  ms_tensor *v = NULL;
  ms_node *n;
  ms_status st = ms_materialise(t, err);
  if (st)
    return st;
  int ndim = 0;
  for (int d = 0; d < t->ndim; d++) {
    if (d == p.dim && p.squeeze)
      continue;
    size[ndim] = d == p.dim ? p.length : t->size[d];
    stride[ndim++] = t->stride[d];
  }
  st = ms_tensor_alias(&v, t, ndim, size, stride, t->offset + p.start * t->stride[p.dim], err);
  if (!st)
    st = ms_record(&n, op, 1, &t, 1, &v, err);
  if (!st)
    st = ms_keep(n, &p, sizeof p, err);
  if (!st)
    share(v, t);
  return ms_give(out, v, st);
}

ms_status ms_select(ms_tensor **out, ms_tensor *t, int dim, int64_t index, ms_error *err) {
  static const ms_op op = {"select", part_backward};
  ms_status st = ms_resolve_dim(&dim, t->ndim, "select", err);
  if (st)
    return st;
  int64_t at = index < 0 ? index + t->size[dim] : index;
  if (at < 0 || at >= t->size[dim])
    return ms_fail(err, MS_ERANGE, "select: index: expected a position in a dimension of size %lld, got number %lld",
                   (long long)t->size[dim], ordinal(index));
  return take_part(out, &op, t, (part){ms_shape_of(t), dim, 1, at, 1}, err);
}

ms_status ms_narrow(ms_tensor **out, ms_tensor *t, int dim, int64_t start, int64_t length, ms_error *err) {
  static const ms_op op = {"narrow", part_backward};
  ms_status st = ms_resolve_dim(&dim, t->ndim, "narrow", err);
  if (st)
    return st;
  if (start < 0 || length < 0 || start > t->size[dim] || length > t->size[dim] - start)
    return ms_fail(err, MS_ERANGE,
                   "narrow: expected a range within a dimension of size %lld, got %lld elements from number %lld",
                   (long long)t->size[dim], (long long)length, ordinal(start));
  return take_part(out, &op, t, (part){ms_shape_of(t), dim, 0, start, length}, err);
}

/* ---- permute ---- */

typedef struct order {
  int of[MS_MAX_DIMS];
} order;

static ms_status permute_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const order *o = n->params;
  int inverse[MS_MAX_DIMS];
  if (!dout[0])
    return MS_OK;
  for (int d = 0; d < dout[0]->ndim; d++)
    inverse[o->of[d]] = d;
  return ms_permute(&din[0], dout[0], inverse, err);
}

static ms_status permute_as(ms_tensor **out, const ms_op *op, ms_tensor *t, const order *o, ms_error *err) {
  int64_t size[MS_MAX_DIMS], stride[MS_MAX_DIMS];
  ms_tensor *v = NULL;
  ms_node *n;
  ms_status st = ms_materialise(t, err);
  if (st)
    return st;
  for (int d = 0; d < t->ndim; d++) {
    size[d] = t->size[o->of[d]];
    stride[d] = t->stride[o->of[d]];
  }
  st = ms_tensor_alias(&v, t, t->ndim, size, stride, t->offset, err);
  if (!st)
    st = ms_record(&n, op, 1, &t, 1, &v, err);
  if (!st)
    st = ms_keep(n, o, sizeof *o, err);
  if (!st)
    share(v, t);
  return ms_give(out, v, st);
}

ms_status ms_permute(ms_tensor **out, ms_tensor *t, const int *dims, ms_error *err) {
  static const ms_op op = {"permute", permute_backward};
  order o;
  unsigned seen = 0;
  for (int d = 0; d < t->ndim; d++) {
    o.of[d] = dims[d];
    ms_status st = ms_resolve_dim(&o.of[d], t->ndim, "permute", err);
    if (st)
      return st;
    if (seen & 1u << o.of[d])
      return ms_fail(err, MS_EINVAL, "permute: expected each of the %d dimensions once, got %d twice", t->ndim,
                     o.of[d] + 1);
    seen |= 1u << o.of[d];
  }
  return permute_as(out, &op, t, &o, err);
}

ms_status ms_transpose(ms_tensor **out, ms_tensor *t, int a, int b, ms_error *err) {
  static const ms_op op = {"transpose", permute_backward};
  order o;
  ms_status st = ms_resolve_dim(&a, t->ndim, "transpose", err);
  if (!st)
    st = ms_resolve_dim(&b, t->ndim, "transpose", err);
  if (st)
    return st;
  for (int d = 0; d < t->ndim; d++)
    o.of[d] = d == a ? b : d == b ? a : d;
  return permute_as(out, &op, t, &o, err);
}

/* ---- expand ---- */

static ms_status expand_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const ms_shape *s = n->params;
  return dout[0] ? ms_unbroadcast(&din[0], dout[0], s->ndim, s->size, err) : MS_OK;
}

/* The tensor that v repeats along its first dimension and there only, or NULL. */
static ms_status find_source(ms_tensor **source, ms_tensor *t, const ms_tensor *v, ms_error *err) {
  int lead = v->ndim - t->ndim;
  *source = NULL;
  if (lead > 1 || v->ndim == 0 || v->size[0] < 2 || (lead == 0 && t->size[0] != 1))
    return MS_OK;
  for (int d = 1; d < v->ndim; d++)
    if (v->size[d] != t->size[d - lead])
      return MS_OK;
  if (lead)
    return ms_unsqueeze(source, t, 0, err);
  *source = ms_retain(t);
  return MS_OK;
}

ms_status ms_expand(ms_tensor **out, ms_tensor *t, int ndim, const int64_t *size, ms_error *err) {
  static const ms_op op = {"expand", expand_backward};
  int64_t full[MS_MAX_DIMS], stride[MS_MAX_DIMS];
  ms_shape s = ms_shape_of(t);
  ms_tensor *v = NULL;
  ms_node *n;
  int fits = ndim >= t->ndim && ndim <= MS_MAX_DIMS;
  ms_status st = ms_materialise(t, err);
  if (st)
    return st;
  for (int d = 0; d < ndim && fits; d++) {
    int from = d - (ndim - t->ndim);
    full[d] = size[d] == -1 && from >= 0 ? t->size[from] : size[d];
    int repeats = from < 0 || (t->size[from] == 1 && full[d] != 1);
    fits = full[d] >= 0 && (repeats || full[d] == t->size[from]);
    stride[d] = repeats ? 0 : t->stride[from];
  }
  if (!fits)
    return ms_fail(err, MS_ESHAPE, "expand: %s does not expand to %s", ms_shape_text(t->ndim, t->size).s,
                   ms_shape_text(ndim > MS_MAX_DIMS ? MS_MAX_DIMS : ndim, size).s);
  st = ms_tensor_alias(&v, t, ndim, full, stride, t->offset, err);
  if (!st)
    st = ms_record(&n, &op, 1, &t, 1, &v, err);
  if (!st)
    st = ms_keep(n, &s, sizeof s, err);
  if (!st)
    st = find_source(&v->source, t, v, err);
  if (!st) {
    v->density = t->density;
    share(v, t);
  }
  return ms_give(out, v, st);
}

ms_status ms_detach(ms_tensor **out, ms_tensor *t, ms_error *err) {
  ms_status st = ms_detached(out, t, err);
  if (!st)
    share(*out, t);
  return st;
}
