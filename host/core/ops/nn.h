/* Small helpers of the layer ops (conv, pool, norm, neuron, loss, trt). */
#ifndef MS_OPS_NN_H
#define MS_OPS_NN_H

#include "op.h"

/* Of a dense tensor that is not lazy; NULL gives NULL. */
static inline void *ms_memory_of(const ms_tensor *t) {
  ms_capture_touch(t->storage);
  return t->storage->data;
}

static inline ms_real *ms_reals(const ms_tensor *t) {
  return t ? (ms_real *)ms_memory_of(t) + t->offset : NULL;
}

static inline int64_t *ms_ints(const ms_tensor *t) {
  return t ? (int64_t *)ms_memory_of(t) + t->offset : NULL;
}

static inline ms_data ms_dense_data(const ms_tensor *t) {
  ms_data d = {NULL, MS_F32, 1};
  if (t) {
    d.p = (char *)ms_memory_of(t) + (size_t)t->offset * ms_dtype_size(t->dtype);
    d.dtype = t->dtype;
    d.scale = t->dtype == MS_SPIKE ? t->scale : MS_R(1);
  }
  return d;
}

/* Where channels lie in the logical order of an activation; they are fastest in memory. */
static inline int ms_channel_dim(int ndim) {
  return ndim >= 4 ? ndim - 3 : ndim - 1;
}

static inline ms_status ms_expect_device(const char *op, const char *arg, const ms_tensor *t, const ms_device *d,
                                         ms_error *err) {
  if (!t || ms_tensor_device(t) == d)
    return MS_OK;
  return ms_fail(err, MS_EDEVICE, "%s: %s: expected a tensor on %s, got one on %s; move it with to \"%s\"", op, arg,
                 d->name, ms_tensor_device(t)->name, d->name);
}

static inline ms_status ms_expect_float(const char *op, const char *arg, const ms_tensor *t, ms_error *err) {
  if (ms_is_float(t->dtype))
    return MS_OK;
  return ms_fail(err, MS_ETYPE, "%s: %s: expected float32, bfloat16 or spike, got %s", op, arg,
                 ms_dtype_name(t->dtype));
}

/* A float32 vector of c elements on d; NULL passes. */
static inline ms_status ms_expect_vector(const char *op, const char *arg, const ms_tensor *t, int64_t c,
                                         const ms_device *d, ms_error *err) {
  if (!t)
    return MS_OK;
  if (t->dtype != MS_F32 || t->ndim != 1 || t->size[0] != c)
    return ms_fail(err, t->dtype != MS_F32 ? MS_ETYPE : MS_ESHAPE, "%s: %s: expected float32 [%lld], got %s", op, arg,
                   (long long)c, ms_tensor_text(t).s);
  return ms_expect_device(op, arg, t, d, err);
}

/* Bytes for one row call; NULL where none are needed. */
static inline ms_status ms_scratch(ms_tensor **out, ms_device *d, size_t bytes, ms_error *err) {
  int64_t n = (int64_t)bytes;
  *out = NULL;
  return bytes ? ms_tensor_new(out, d, MS_U8, 1, &n, err) : MS_OK;
}

static inline void *ms_scratch_ptr(const ms_tensor *t) {
  return t ? ms_memory_of(t) : NULL;
}

/* The float32 gradient of input i, a weight, summed over `terms` items: rows write nothing where there are none. */
static inline ms_status ms_new_gradient(ms_tensor **out, const ms_node *n, int i, ms_device *d, int ndim,
                                        const int64_t *size, int64_t terms, ms_error *err) {
  return terms ? ms_gradient_new(out, n, i, d, ndim, size, err) : ms_full(out, d, MS_F32, ndim, size, 0, err);
}

/* The static view that repeats y [1, ...] `steps` times; takes y over, also when it fails. */
static inline ms_status ms_repeat_static(ms_tensor **out, ms_tensor *y, int64_t steps, ms_error *err) {
  int64_t size[MS_MAX_DIMS];
  for (int i = 0; i < y->ndim; i++)
    size[i] = i ? y->size[i] : steps;
  ms_status st = ms_expand(out, y, y->ndim, size, err);
  ms_release(y);
  return st;
}

#endif
