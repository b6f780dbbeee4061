#include "autocast.h"
#include "capture.h"
#include "internal.h"
#include "loop.h"
#include "params.h"

static int autocast;

int ms_autocast(void) {
  return autocast;
}

int ms_set_autocast(int on) {
  int was = autocast;
  autocast = on != 0;
  return was;
}

ms_dtype ms_wide_float(const ms_tensor *t) {
  return t->dtype == MS_BF16 && !autocast ? MS_BF16 : MS_F32;
}

void ms_half_written(ms_storage *s) {
  s->half->version++; /* who saved the old values for backward must not read these */
  s->half->writer = s->writer;
  s->half_version = s->version;
  s->half_used = 0;
}

/* The same view of s.half. */
static ms_status alias_half(ms_tensor **out, ms_tensor *t, ms_error *err) {
  ms_tensor *h;
  ms_status st = ms_tensor_alias(&h, t, t->ndim, t->size, t->stride, t->offset, err);
  if (st)
    return st;
  ms_storage_release(h->storage);
  h->storage = ms_storage_retain(t->storage->half);
  h->dtype = MS_BF16;
  *out = h;
  return MS_OK;
}

/* All of the storage is converted, in the order of memory. */
static ms_status renew(ms_tensor *t, ms_error *err) {
  ms_tensor *all = NULL, *half = NULL;
  ms_storage *s = t->storage;
  int64_t n = (int64_t)(s->bytes / sizeof(ms_real)), one = 1;
  ms_status st = ms_tensor_alias(&all, t, 1, &n, &one, 0, err);
  if (!st)
    st = alias_half(&half, all, err);
  s->half->version++; /* also when the copy fails half-way */
  if (!st && n)
    st = ms_copy_data(half, all, "autocast", err);
  ms_release(all);
  ms_release(half);
  if (!st)
    ms_half_written(s);
  return st;
}

ms_status ms_half_renew(ms_tensor *t, ms_error *err) {
  return t->storage->half && t->storage->half_version != t->storage->version ? renew(t, err) : MS_OK;
}

ms_status ms_half(ms_tensor **out, ms_tensor *t, int weight, ms_error *err) {
  if (t->dtype != MS_F32 && t->dtype != MS_I64) {
    *out = ms_retain(t);
    return MS_OK;
  }
  ms_status st = ms_materialise(t, err);
  if (st)
    return st;
  ms_storage *s = t->storage, *made;
  int whole = weight && (size_t)ms_numel(t) * sizeof(ms_real) == s->bytes, gathered = ms_arena_of(t, NULL) != NULL;
  if (t->dtype != MS_F32 || (!whole && !gathered))
    return ms_dense(out, t, MS_BF16, err);
  if (!s->half || (gathered && !ms_arena_shadow(s))) {
    if ((st = ms_arena_half(&made, s, err)))
      return st;
    ms_storage_release(s->half);
    s->half = made;
    s->half_version = s->version - 1;
  }
  if (s->half_version != s->version && (st = renew(t, err)))
    return st;
  ms_capture_half(t);
  s->half_used = 1;
  return alias_half(out, t, err);
}
