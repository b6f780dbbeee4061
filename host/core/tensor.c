#include "capture.h"
#include "internal.h"
#include "loop.h"
#include "ops.h"
#include "params.h"
#include "spikes.h"

#include <stdio.h>
#include <string.h>

/* ---- shapes ---- */

size_t ms_dtype_size(ms_dtype dtype) {
  static const size_t size[] = {
#define MS_DTYPE(name, text, bytes) bytes,
#include "../../kernels/dtype.def"
#undef MS_DTYPE
  };
  return size[dtype];
}

const char *ms_dtype_name(ms_dtype dtype) {
  static const char *const name[] = {
#define MS_DTYPE(name, text, bytes) text,
#include "../../kernels/dtype.def"
#undef MS_DTYPE
  };
  return name[dtype];
}

int ms_dtype_find(const char *name) {
  static const struct {
    const char *name;
    ms_dtype dtype;
  } alias[] = {{"float", MS_F32}, {"bf16", MS_BF16}, {"byte", MS_U8}, {"long", MS_I64}};
  for (int i = 0; i < MS_DTYPE_COUNT; i++)
    if (!strcmp(name, ms_dtype_name((ms_dtype)i)))
      return i;
  for (size_t i = 0; i < sizeof alias / sizeof *alias; i++)
    if (!strcmp(name, alias[i].name))
      return alias[i].dtype;
  return -1;
}

int ms_is_float(ms_dtype dtype) {
  return dtype == MS_F32 || dtype == MS_BF16 || dtype == MS_SPIKE;
}

int64_t ms_numel(const ms_tensor *t) {
  int64_t n = 1;
  for (int d = 0; d < t->ndim; d++)
    n *= t->size[d];
  return n;
}

ms_device *ms_tensor_device(const ms_tensor *t) {
  return t->storage ? t->storage->device : t->spikes ? ms_spikes_device(t->spikes) : ms_tensor_device(t->lazy->y);
}

ms_text ms_tensor_text(const ms_tensor *t) {
  ms_text text, shape = ms_shape_text(t->ndim, t->size);
  snprintf(text.s, sizeof text.s, "%s %.140s", ms_dtype_name(t->dtype), shape.s);
  return text;
}

void ms_row_major_strides(int ndim, const int64_t *size, int64_t *stride) {
  int64_t step = 1;
  for (int d = ndim - 1; d >= 0; d--) {
    stride[d] = step;
    step *= size[d] > 0 ? size[d] : 1;
  }
}

void ms_default_strides(int ndim, const int64_t *size, int64_t *stride) {
  ms_row_major_strides(ndim, size, stride);
  if (ndim < 4)
    return;
  int64_t c = size[ndim - 3] > 0 ? size[ndim - 3] : 1;
  stride[ndim - 3] = 1;
  stride[ndim - 2] *= c;
  stride[ndim - 1] *= c;
}

int ms_has_strides(const ms_tensor *t, const int64_t *stride) {
  if (!t->storage)
    return 0;
  for (int d = 0; d < t->ndim; d++)
    if (t->size[d] != 1 && t->stride[d] != stride[d])
      return ms_numel(t) == 0;
  return 1;
}

int ms_is_default(const ms_tensor *t) {
  int64_t stride[MS_MAX_DIMS];
  ms_default_strides(t->ndim, t->size, stride);
  return ms_has_strides(t, stride);
}

int ms_same_shape(const ms_tensor *a, const ms_tensor *b) {
  return a->ndim == b->ndim && !memcmp(a->size, b->size, (size_t)a->ndim * sizeof *a->size);
}

/* ---- life ---- */

ms_status ms_tensor_header(ms_tensor **out, ms_dtype dtype, int ndim, const int64_t *size, const int64_t *stride,
                           ms_error *err) {
  ms_tensor *t = ms_alloc(sizeof *t);
  if (!t)
    return ms_fail(err, MS_EMEM, "out of memory: no room for a tensor header");
  t->refs = 1;
  t->ndim = ndim;
  if (ndim) {
    memcpy(t->size, size, (size_t)ndim * sizeof *size);
    memcpy(t->stride, stride, (size_t)ndim * sizeof *stride);
  }
  t->dtype = dtype;
  t->scale = 1;
  t->peak = 255;
  t->density = -1;
  ms_live_counters()->tensors++;
  *out = t;
  return MS_OK;
}

/* Sizes that make no sense or whose bytes no int64 can count. */
static ms_status check_shape(int ndim, const int64_t *size, ms_dtype dtype, int64_t *bytes, ms_error *err) {
  *bytes = (int64_t)ms_dtype_size(dtype);
  int64_t most = *bytes;
  if (ndim < 0 || ndim > MS_MAX_DIMS)
    return ms_fail(err, MS_ESHAPE, "tensor: size: expected 0 to %d dimensions, got %d", MS_MAX_DIMS, ndim);
  for (int i = 0; i < ndim; i++) {
    if (size[i] < 0 || __builtin_mul_overflow(most, size[i] ? size[i] : 1, &most))
      return ms_fail(err, MS_ESHAPE, "tensor: size: expected sizes >= 0 whose product fits 63 bits, got %s",
                     ms_shape_text(ndim, size).s);
    *bytes *= size[i];
  }
  return MS_OK;
}

ms_status ms_tensor_new_strided(ms_tensor **out, ms_device *d, ms_dtype dtype, int ndim, const int64_t *size,
                                const int64_t *stride, ms_error *err) {
  ms_tensor *t = NULL;
  int64_t bytes;
  ms_status st = check_shape(ndim, size, dtype, &bytes, err);
  if (!st)
    st = ms_tensor_header(&t, dtype, ndim, size, stride, err);
  if (!st)
    st = ms_storage_new(&t->storage, d, (size_t)bytes, err);
  if (st)
    ms_release(t);
  else
    *out = t;
  return st;
}

ms_status ms_tensor_new(ms_tensor **out, ms_device *d, ms_dtype dtype, int ndim, const int64_t *size, ms_error *err) {
  int64_t stride[MS_MAX_DIMS], bytes;
  if (!d)
    return ms_fail(err, MS_EDEVICE, "tensor: no usable device: %s", ms_device_why("cpu"));
  ms_status st = check_shape(ndim, size, dtype, &bytes, err);
  if (st)
    return st;
  ms_default_strides(ndim, size, stride);
  return ms_tensor_new_strided(out, d, dtype, ndim, size, stride, err);
}

ms_status ms_tensor_alias(ms_tensor **out, ms_tensor *t, int ndim, const int64_t *size, const int64_t *stride,
                          int64_t offset, ms_error *err) {
  ms_tensor *a = NULL;
  ms_status st = ms_materialise(t, err);
  if (!st)
    st = ms_tensor_header(&a, t->dtype, ndim, size, stride, err);
  if (st)
    return st;
  a->storage = ms_storage_retain(t->storage);
  a->offset = offset;
  a->scale = t->scale;
  a->peak = t->peak;
  if (ms_numel(a) == ms_numel(t))
    a->density = t->density;
  *out = a;
  return MS_OK;
}

ms_status ms_detached(ms_tensor **out, ms_tensor *t, ms_error *err) {
  ms_tensor *a = NULL;
  if (t->spikes && !t->storage)
    return ms_spikes_alias(out, t, err);
  ms_status st = ms_materialise(t, err);
  if (!st)
    st = ms_tensor_alias(&a, t, t->ndim, t->size, t->stride, t->offset, err);
  if (!st && t->source)
    st = ms_detached(&a->source, t->source, err);
  if (st)
    ms_release(a);
  else
    *out = a;
  return st;
}

ms_tensor *ms_retain(ms_tensor *t) {
  t->refs++;
  return t;
}

void ms_release(ms_tensor *t) {
  if (!t || --t->refs)
    return;
  if (t->node)
    ms_node_release(t->node);
  ms_release(t->source);
  ms_release(t->grad);
  if (t->lazy)
    ms_lazy_release(t->lazy);
  ms_spikes_leave(t);
  ms_pending_drop(t);
  ms_storage_release(t->storage);
  ms_live_counters()->tensors--;
  ms_free(t);
}

/* ---- contents ---- */

ms_status ms_materialise(ms_tensor *t, ms_error *err) {
  if (t->storage && t->storage->lease && t->storage->lease->over)
    return ms_capture_check(t, err);
  return t->storage ? MS_OK : t->spikes ? ms_spikes_materialise(t, err) : ms_lazy_materialise(t, err);
}

ms_status ms_data_of(ms_data *out, ms_tensor *t, ms_error *err) {
  ms_status st = ms_materialise(t, err);
  if (st)
    return st;
  ms_capture_touch(t->storage);
  out->p = t->storage->data ? (char *)t->storage->data + (size_t)t->offset * ms_dtype_size(t->dtype) : NULL;
  out->dtype = t->dtype;
  out->scale = t->dtype == MS_SPIKE ? t->scale : 1;
  return MS_OK;
}

/* A copy of t with the given strides and type. */
static ms_status copy_strided(ms_tensor **out, ms_tensor *t, ms_dtype dtype, const int64_t *stride, ms_error *err) {
  ms_tensor *c = NULL;
  ms_status st = ms_materialise(t, err);
  if (!st)
    st = ms_tensor_new_strided(&c, ms_tensor_device(t), dtype, t->ndim, t->size, stride, err);
  if (!st) {
    if (t->dtype == dtype) {
      c->scale = t->scale;
      c->peak = t->peak;
      c->density = t->density;
    }
    st = ms_copy_data(c, t, "copy", err);
  }
  if (st)
    ms_release(c);
  else
    *out = c;
  return st;
}

/* +1: t itself where its strides and type are these already. */
static ms_status with_strides(ms_tensor **out, ms_tensor *t, int dtype, const int64_t *stride, ms_error *err) {
  ms_status st = ms_materialise(t, err);
  if (st)
    return st;
  if (!ms_has_strides(t, stride) || (dtype >= 0 && (ms_dtype)dtype != t->dtype))
    return copy_strided(out, t, dtype < 0 ? t->dtype : (ms_dtype)dtype, stride, err);
  *out = ms_retain(t);
  return MS_OK;
}

ms_status ms_dense(ms_tensor **out, ms_tensor *t, int dtype, ms_error *err) {
  int64_t stride[MS_MAX_DIMS];
  ms_default_strides(t->ndim, t->size, stride);
  return with_strides(out, t, dtype, stride, err);
}

ms_status ms_dense_rows(ms_tensor **out, ms_tensor *t, int dtype, ms_error *err) {
  int64_t stride[MS_MAX_DIMS];
  ms_row_major_strides(t->ndim, t->size, stride);
  return with_strides(out, t, dtype, stride, err);
}

/* The type in which t's values cross the border to the host. */
static ms_dtype host_dtype(const ms_tensor *t) {
  return t->dtype == MS_SPIKE ? MS_F32 : t->dtype;
}

ms_status ms_read(ms_tensor *t, void *host, ms_error *err) {
  ms_tensor *rows = NULL;
  ms_data data;
  ms_status st = ms_capture_refuse("a value", "is read", err);
  if (!st)
    st = ms_dense_rows(&rows, t, host_dtype(t), err);
  if (!st)
    st = ms_data_of(&data, rows, err);
  if (!st && ms_numel(t)) {
    ms_device *d = ms_tensor_device(t);
    size_t bytes = (size_t)ms_numel(t) * ms_dtype_size(data.dtype);
    st = ms_row(d, d->k->copy_bytes(d->stream, host, data.p, bytes, MS_COPY_DEVICE_TO_HOST), "read", err);
    if (!st)
      st = ms_device_synchronize(d, err);
  }
  ms_release(rows);
  return st;
}

ms_status ms_write(ms_tensor *t, const void *host, ms_error *err) {
  int64_t stride[MS_MAX_DIMS];
  ms_tensor *rows = NULL;
  ms_data data;
  ms_row_major_strides(t->ndim, t->size, stride);
  ms_status st = ms_capture_refuse("values of the host", "are copied", err);
  if (!st)
    st = ms_materialise(t, err);
  if (st || ms_numel(t) == 0)
    return st;
  ms_device *d = ms_tensor_device(t);
  int direct = t->dtype == host_dtype(t) && ms_has_strides(t, stride);
  if (direct)
    rows = ms_retain(t);
  else
    st = ms_tensor_new_strided(&rows, d, host_dtype(t), t->ndim, t->size, stride, err);
  if (!st)
    st = ms_begin_write(t, "write", err);
  if (!st)
    st = ms_data_of(&data, rows, err);
  if (!st) {
    size_t bytes = (size_t)ms_numel(t) * ms_dtype_size(data.dtype);
    st = ms_row(d, d->k->copy_bytes(d->stream, data.p, host, bytes, MS_COPY_HOST_TO_DEVICE), "write", err);
  }
  if (!st && !direct)
    st = ms_copy_data(t, rows, "write", err);
  ms_release(rows);
  return st;
}

ms_status ms_begin_write(ms_tensor *t, const char *op, ms_error *err) {
  ms_status st = ms_materialise(t, err);
  if (st)
    return st;
  if (ms_grad_enabled() && t->requires_grad && !t->node)
    return ms_fail(err, MS_EGRAPH, "%s: %s%s%s is a leaf that requires grad; change it in place inside ms.no_grad only",
                   op, t->name[0] ? "'" : "", t->name[0] ? t->name : "the tensor", t->name[0] ? "'" : "");
  if (ms_grad_enabled() && t->requires_grad)
    return ms_fail(err, MS_EGRAPH,
                   "%s: the tensor is a result of '%s' and part of the graph; use the form without '_', or ms.no_grad",
                   op, t->node->op->name);
  for (int d = 0; d < t->ndim; d++)
    if (t->stride[d] == 0 && t->size[d] > 1)
      return ms_fail(err, MS_EINVAL, "%s: the tensor repeats its memory (an expanded view); clone it first", op);
  if (t->dtype == MS_SPIKE && t->nonleaf_view)
    return ms_fail(err, MS_ETYPE,
                   "%s: a spike tensor that shares memory with a view is read-only; convert it to float32 first", op);
  if (t->storage->late && (st = ms_spikes_flush(t->storage, err)))
    return st;
  if (t->storage->arena && (st = ms_pending_settle(t->storage, err)))
    return st;
  if (t->lazy) {
    ms_lazy_release(t->lazy);
    t->lazy = NULL;
  }
  ms_spikes_leave(t);
  t->density = -1;
  t->peak = 255;
  ms_storage_written(t->storage, op);
  return MS_OK;
}
