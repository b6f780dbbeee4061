/* Ops that move data: contiguous, clone, to, cat, stack, copy_. */
#include "op.h"

#include <string.h>

static ms_status same_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  (void)n, (void)err;
  if (dout[0])
    din[0] = ms_retain(dout[0]);
  return MS_OK;
}

/* A fresh tensor in the default layout with t's values. */
static ms_status copy_of(ms_tensor **out, ms_tensor *t, ms_dtype dtype, ms_error *err) {
  ms_tensor *c = NULL;
  ms_status st = ms_materialise(t, err);
  if (!st)
    st = ms_tensor_new(&c, ms_tensor_device(t), dtype, t->ndim, t->size, err);
  if (!st) {
    if (dtype == t->dtype) {
      c->scale = t->scale;
      c->peak = t->peak;
      c->density = t->density;
    }
    st = ms_copy_data(c, t, "copy", err);
  }
  return ms_give(out, c, st);
}

ms_status ms_clone(ms_tensor **out, ms_tensor *t, ms_error *err) {
  static const ms_op op = {"clone", same_backward};
  ms_tensor *c = NULL;
  ms_status st = copy_of(&c, t, t->dtype, err);
  if (!st)
    st = ms_record(NULL, &op, 1, &t, 1, &c, err);
  return ms_give(out, c, st);
}

ms_status ms_contiguous(ms_tensor **out, ms_tensor *t, ms_error *err) {
  ms_status st = ms_materialise(t, err);
  if (!st && ms_is_default(t))
    *out = ms_retain(t);
  return st || ms_is_default(t) ? st : ms_clone(out, t, err);
}

/* ---- to ---- */

static ms_status to_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  ms_device *const *from = n->params;
  return dout[0] ? ms_to(&din[0], dout[0], *from, -1, err) : MS_OK;
}

/* Bytes of a dense tensor to another device; one side is the host, or both are of one backend. */
static ms_status move(ms_tensor **out, ms_tensor *t, ms_device *to, ms_error *err) {
  ms_device *from = ms_tensor_device(t), *cpu = ms_device_cpu();
  ms_tensor *dense = NULL, *c = NULL, *host = NULL;
  if (from != cpu && to != cpu) {
    ms_status st = move(&host, t, cpu, err);
    if (!st)
      st = move(out, host, to, err);
    ms_release(host);
    return st;
  }
  ms_data a, b;
  ms_status st = ms_capture_refuse("a tensor", "moves between devices", err);
  if (!st)
    st = ms_dense(&dense, t, -1, err);
  if (!st)
    st = ms_tensor_new(&c, to, t->dtype, t->ndim, t->size, err);
  if (!st)
    st = ms_data_of(&a, dense, err);
  if (!st)
    st = ms_data_of(&b, c, err);
  if (!st) {
    ms_device *d = to == cpu ? from : to;
    size_t bytes = (size_t)ms_numel(t) * ms_dtype_size(t->dtype);
    c->scale = t->scale;
    c->peak = t->peak;
    c->density = t->density;
    st = ms_row(
        d, d->k->copy_bytes(d->stream, b.p, a.p, bytes, to == cpu ? MS_COPY_DEVICE_TO_HOST : MS_COPY_HOST_TO_DEVICE),
        "to", err);
    if (!st && to == cpu)
      st = ms_device_synchronize(d, err);
  }
  ms_release(dense);
  return ms_give(out, c, st);
}

/* The repeated view of a static input stays one. */
static ms_status to_static(ms_tensor **out, ms_tensor *t, ms_device *d, ms_dtype dtype, ms_error *err) {
  ms_tensor *source = NULL;
  ms_status st = ms_to(&source, t->source, d, (int)dtype, err);
  if (!st)
    st = ms_expand(out, source, t->ndim, t->size, err);
  ms_release(source);
  return st;
}

ms_status ms_to(ms_tensor **out, ms_tensor *t, ms_device *to, int wanted, ms_error *err) {
  static const ms_op op = {"to", to_backward};
  ms_device *from = ms_tensor_device(t);
  ms_dtype dtype = wanted < 0 ? t->dtype : (ms_dtype)wanted;
  ms_device *d = to ? to : from;
  ms_tensor *cast = NULL, *c = NULL;
  ms_node *n;
  if (d == from && dtype == t->dtype) {
    *out = ms_retain(t);
    return MS_OK;
  }
  if (t->source)
    return to_static(out, t, d, dtype, err);
  ms_status st = dtype == t->dtype ? ms_detached(&cast, t, err) : copy_of(&cast, t, dtype, err);
  if (!st && d != from)
    st = move(&c, cast, d, err);
  else if (!st)
    c = ms_retain(cast);
  ms_release(cast);
  if (!st && ms_is_float(dtype)) {
    st = ms_record(&n, &op, 1, &t, 1, &c, err);
    if (!st)
      st = ms_keep(n, &from, sizeof from, err);
  }
  return ms_give(out, c, st);
}

/* ---- cat, stack ---- */

typedef struct cat_params {
  int dim, n;
  int64_t length[MS_NODE_INPUTS];
} cat_params;

static ms_status cat_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const cat_params *p = n->params;
  ms_status st = MS_OK;
  int64_t at = 0;
  for (int i = 0; i < p->n && !st && dout[0]; at += p->length[i++])
    if (ms_wants(n, i))
      st = ms_narrow(&din[i], dout[0], p->dim, at, p->length[i], err);
  return st;
}

static ms_status check_cat(ms_shape *s, ms_dtype *dtype, int *dim, int n, ms_tensor *const *in, ms_error *err) {
  if (n < 1)
    return ms_fail(err, MS_EINVAL, "cat: expected at least one tensor");
  ms_status st = ms_resolve_dim(dim, in[0]->ndim, "cat", err);
  if (!st)
    st = ms_same_device("cat", n, in, err);
  if (st)
    return st;
  *s = ms_shape_of(in[0]);
  *dtype = in[0]->dtype;
  for (int i = 1; i < n; i++) {
    int fits = in[i]->ndim == s->ndim;
    for (int d = 0; d < s->ndim && fits; d++)
      fits = d == *dim || in[i]->size[d] == s->size[d];
    if (!fits)
      return ms_fail(err, MS_ESHAPE, "cat: tensor %d %s does not fit tensor 1 %s along dimension %d", i + 1,
                     ms_shape_text(in[i]->ndim, in[i]->size).s, ms_shape_text(in[0]->ndim, in[0]->size).s, *dim + 1);
    s->size[*dim] += in[i]->size[*dim];
    int same = *dtype == in[i]->dtype && (*dtype != MS_SPIKE || in[0]->scale == in[i]->scale);
    *dtype = same ? *dtype : ms_promote(*dtype, in[i]->dtype);
  }
  return MS_OK;
}

/* A node has few inputs: recorded lists are joined in groups first. */
static ms_status cat_groups(ms_tensor **out, int n, ms_tensor *const *in, int dim, ms_error *err) {
  int groups = (n + MS_NODE_INPUTS - 1) / MS_NODE_INPUTS, made = 0;
  ms_tensor **part = ms_alloc((size_t)groups * sizeof *part);
  ms_status st = part ? MS_OK : ms_fail(err, MS_EMEM, "cat: out of memory: no room for %d groups", groups);
  for (int at = 0; at < n && !st; at += MS_NODE_INPUTS) {
    st = ms_cat(&part[made], n - at < MS_NODE_INPUTS ? n - at : MS_NODE_INPUTS, in + at, dim, err);
    made += !st;
  }
  if (!st)
    st = ms_cat(out, groups, part, dim, err);
  for (int i = 0; i < made; i++)
    ms_release(part[i]);
  ms_free(part);
  return st;
}

ms_status ms_cat(ms_tensor **out, int n, ms_tensor *const *in, int dim, ms_error *err) {
  static const ms_op op = {"cat", cat_backward};
  ms_shape s = {0};
  ms_dtype dtype = MS_F32;
  ms_tensor *c = NULL, *here = NULL;
  ms_node *node;
  cat_params p = {.n = n};
  ms_status st = check_cat(&s, &dtype, &dim, n, in, err);
  if (!st && n > MS_NODE_INPUTS && ms_is_float(dtype) && ms_records(n, in))
    return cat_groups(out, n, in, dim, err);
  if (!st)
    st = ms_tensor_new(&c, ms_tensor_device(in[0]), dtype, s.ndim, s.size, err);
  int64_t at = 0;
  int peak = 0;
  if (!st && dtype == MS_SPIKE)
    c->scale = in[0]->scale;
  for (int i = 0; i < n && !st; at += in[i++]->size[dim]) {
    st = ms_materialise(in[i], err);
    int64_t length = in[i]->size[dim];
    if (!st && length) {
      ms_shape part = ms_shape_of(in[i]);
      st = ms_tensor_alias(&here, c, part.ndim, part.size, c->stride, at * c->stride[dim], err);
    }
    if (!st && length)
      st = ms_copy_data(here, in[i], "cat", err);
    ms_release(here);
    here = NULL;
    peak = in[i]->peak > peak ? in[i]->peak : peak;
    if (i < MS_NODE_INPUTS)
      p.length[i] = length;
  }
  if (!st) {
    c->peak = peak;
    p.dim = dim;
    node = NULL;
    if (ms_is_float(dtype))
      st = ms_record(&node, &op, n, in, 1, &c, err);
    if (!st)
      st = ms_keep(node, &p, sizeof p, err);
  }
  return ms_give(out, c, st);
}

ms_status ms_stack(ms_tensor **out, int n, ms_tensor *const *in, int dim, ms_error *err) {
  if (n < 1)
    return ms_fail(err, MS_EINVAL, "stack: expected at least one tensor");
  ms_status st = ms_resolve_dim(&dim, in[0]->ndim + 1, "stack", err);
  for (int i = 1; i < n && !st; i++)
    if (!ms_same_shape(in[0], in[i]))
      st = ms_fail(err, MS_ESHAPE, "stack: tensor %d: expected the shape of tensor 1, %s, got %s", i + 1,
                   ms_shape_text(in[0]->ndim, in[0]->size).s, ms_shape_text(in[i]->ndim, in[i]->size).s);
  if (st)
    return st;
  ms_tensor **one = ms_alloc((size_t)n * sizeof *one);
  if (!one)
    return ms_fail(err, MS_EMEM, "stack: out of memory: no room for %d tensors", n);
  for (int i = 0; i < n && !st; i++) {
    int shared = in[i]->nonleaf_view;
    st = ms_unsqueeze(&one[i], in[i], dim, err);
    in[i]->nonleaf_view = shared; /* the view does not leave this function */
  }
  if (!st)
    st = ms_cat(out, n, one, dim, err);
  for (int i = 0; i < n; i++)
    ms_release(one[i]);
  ms_free(one);
  return st;
}

/* ---- copy_ ---- */

ms_status ms_copy_(ms_tensor *dst, ms_tensor *src, ms_error *err) {
  ms_shape s = ms_shape_of(dst), both;
  ms_tensor *here = NULL, *cast = NULL, *wide = NULL, *r = NULL;
  if (ms_broadcast_shape(&both.ndim, both.size, dst, src, "copy_", err) || both.ndim != s.ndim ||
      memcmp(both.size, s.size, (size_t)s.ndim * sizeof *s.size))
    return ms_fail(err, MS_ESHAPE, "copy_: expected a source that broadcasts to %s, got %s",
                   ms_shape_text(s.ndim, s.size).s, ms_shape_text(src->ndim, src->size).s);
  ms_status st = MS_OK;
  if (ms_records(2, (ms_tensor *[]){dst, src})) {
    st = ms_may_take_over(dst, "copy_", err);
    if (!st)
      st = ms_to(&cast, src, ms_tensor_device(dst), (int)dst->dtype, err);
    if (!st)
      st = ms_expand(&wide, cast, s.ndim, s.size, err);
    if (!st)
      st = ms_clone(&r, wide, err);
    if (!st)
      ms_take_over(dst, r);
    ms_release(wide);
    ms_release(cast);
    return st;
  }
  st = ms_to(&cast, src, ms_tensor_device(dst), -1, err);
  if (!st)
    st = ms_unaliased(&here, cast, dst, err);
  if (!st)
    st = ms_begin_write(dst, "copy_", err);
  if (!st)
    st = ms_copy_data(dst, here, "copy_", err);
  ms_release(here);
  ms_release(cast);
  return st;
}
