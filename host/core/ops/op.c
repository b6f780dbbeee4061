#include "op.h"

#include <string.h>

ms_shape ms_shape_of(const ms_tensor *t) {
  ms_shape s = {.ndim = t->ndim};
  memcpy(s.size, t->size, sizeof s.size);
  return s;
}

ms_status ms_give(ms_tensor **out, ms_tensor *t, ms_status st) {
  if (st)
    ms_release(t);
  else
    *out = t;
  return st;
}

ms_status ms_keep(ms_node *n, const void *p, size_t bytes, ms_error *err) {
  if (!n)
    return MS_OK;
  n->params = ms_alloc(bytes);
  if (!n->params)
    return ms_fail(err, MS_EMEM, "%s: out of memory: no room for a node of the graph", n->op->name);
  memcpy(n->params, p, bytes);
  return MS_OK;
}

ms_status ms_resolve_dim(int *dim, int ndim, const char *op, ms_error *err) {
  int d = *dim < 0 ? *dim + ndim : *dim;
  if (d < 0 || d >= ndim)
    return ms_fail(err, MS_ERANGE, "%s: dim: expected a dimension of a tensor that has %d, got number %d", op, ndim,
                   *dim < 0 ? *dim : *dim + 1);
  *dim = d;
  return MS_OK;
}

ms_status ms_same_device(const char *op, int n, ms_tensor *const *in, ms_error *err) {
  for (int i = 1; i < n; i++)
    if (ms_tensor_device(in[i]) != ms_tensor_device(in[0]))
      return ms_fail(err, MS_EDEVICE, "%s: expected tensors of one device, got %s and %s; x:to \"%s\" moves one", op,
                     ms_tensor_device(in[0])->name, ms_tensor_device(in[i])->name, ms_tensor_device(in[0])->name);
  return MS_OK;
}

ms_dtype ms_promote(ms_dtype a, ms_dtype b) {
  static const int rank[MS_DTYPE_COUNT] = {[MS_U8] = 0, [MS_I64] = 1, [MS_BF16] = 2, [MS_F32] = 3, [MS_SPIKE] = 3};
  ms_dtype higher = rank[a] > rank[b] ? a : b;
  return higher == MS_SPIKE ? MS_F32 : higher;
}

ms_dtype ms_float_of(const ms_tensor *t) {
  return t->dtype == MS_BF16 ? MS_BF16 : MS_F32;
}

ms_status ms_may_take_over(ms_tensor *x, const char *op, ms_error *err) {
  if (x->requires_grad && !x->node)
    return ms_begin_write(x, op, err);
  if (x->nonleaf_view)
    return ms_fail(err, MS_EGRAPH,
                   "%s: the tensor shares memory with another one, which the graph could not follow; build the result "
                   "with cat, stack or "
                   "where, or write inside ms.no_grad",
                   op);
  if (x->storage && x->storage->arena)
    return ms_fail(err, MS_EGRAPH,
                   "%s: the tensor is a parameter of an optimizer; change it in place inside ms.no_grad only", op);
  return MS_OK;
}

#define SWAP(type, member)  \
  do {                      \
    type swap_ = x->member; \
    x->member = r->member;  \
    r->member = swap_;      \
  } while (0)

void ms_take_over(ms_tensor *x, ms_tensor *r) {
  SWAP(ms_storage *, storage);
  SWAP(ms_node *, node);
  SWAP(ms_lazy *, lazy);
  SWAP(ms_tensor *, source);
  SWAP(ms_spikes *, spikes);
  SWAP(int, part);
  x->output = r->output;
  x->requires_grad = r->requires_grad;
  x->offset = r->offset;
  memcpy(x->stride, r->stride, sizeof x->stride);
  x->scale = r->scale;
  x->peak = r->peak;
  x->density = r->density;
  ms_release(r);
}

ms_status ms_unaliased(ms_tensor **out, ms_tensor *y, const ms_tensor *x, ms_error *err) {
  int same = y->offset == x->offset && ms_same_shape(x, y) &&
             !memcmp(x->stride, y->stride, (size_t)x->ndim * sizeof *x->stride);
  if (!y->storage || y->storage != x->storage || same) {
    *out = ms_retain(y);
    return MS_OK;
  }
  int was = ms_set_grad_enabled(0);
  ms_status st = ms_clone(out, y, err);
  ms_set_grad_enabled(was);
  return st;
}
