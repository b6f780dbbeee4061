/* Batches out of a set in memory. Not differentiable. */
#include "../data/augment.h"
#include "../data/photos.h"
#include "nn.h"

/* x seen as [samples, T, C, H, W]. */
static ms_status check(ms_augment_args *a, const ms_tensor *x, const ms_tensor *index, const ms_augment_opts *o,
                       ms_error *err) {
  const char *op = "augment";
  if (x->ndim < 3 || x->ndim > 5)
    return ms_fail(err, MS_ESHAPE, "%s: x: expected [n, H, W], [n, C, H, W] or [n, T, C, H, W], got %s", op,
                   ms_tensor_text(x).s);
  if (x->dtype != MS_U8 && x->dtype != MS_F32)
    return ms_fail(err, MS_ETYPE, "%s: x: expected uint8 or float32, got %s", op, ms_dtype_name(x->dtype));
  if (index->dtype != MS_I64 || index->ndim != 1)
    return ms_fail(err, index->dtype != MS_I64 ? MS_ETYPE : MS_ESHAPE, "%s: index: expected int64 [n], got %s", op,
                   ms_tensor_text(index).s);
  a->n = index->size[0];
  a->samples = x->size[0];
  a->steps = x->ndim == 5 ? x->size[1] : 1;
  a->c = x->ndim == 3 ? 1 : x->size[x->ndim - 3];
  a->h = x->size[x->ndim - 2];
  a->w = x->size[x->ndim - 1];
  if (a->h >= MS_AUGMENT_SIDE || a->w >= MS_AUGMENT_SIDE)
    return ms_fail(err, MS_ERANGE, "%s: x: expected sides below %d, got %s", op, MS_AUGMENT_SIDE, ms_tensor_text(x).s);
  if (!(o->scale > 0))
    return ms_fail(err, MS_ERANGE, "%s: scale: expected a number > 0, got %g", op, o->scale);
  for (int64_t k = 0; o->std && k < a->c; k++)
    if (!(o->std[k] > 0))
      return ms_fail(err, MS_ERANGE, "%s: std: expected numbers > 0, got %g", op, (double)o->std[k]);
  return o->recipe ? ms_augment_check(o->recipe, op, err) : MS_OK;
}

/* Host bytes in a fresh tensor of d. */
static ms_status send(ms_tensor **out, ms_device *d, const void *from, size_t bytes, ms_error *err) {
  ms_status st = ms_scratch(out, d, bytes, err);
  if (st || !bytes)
    return st;
  return ms_row(d, d->k->copy_bytes(d->stream, ms_scratch_ptr(*out), from, bytes, MS_COPY_HOST_TO_DEVICE), "augment",
                err);
}

/* The programs of the batch's samples, drawn on the host. */
static ms_status send_programs(ms_tensor **out, ms_device *d, const int64_t *index, const ms_augment_args *a,
                               const ms_augment_opts *o, ms_error *err) {
  ms_augment_program *programs = ms_alloc((size_t)(a->n + 1) * sizeof *programs);
  if (!programs)
    return ms_fail(err, MS_EMEM, "augment: out of memory for %lld programs", (long long)a->n);
  for (int64_t i = 0; i < a->n; i++)
    ms_augment_draw(&programs[i], o->recipe, a->h, a->w, o->key, (uint64_t)index[i]);
  ms_status st = send(out, d, programs, (size_t)a->n * sizeof *programs, err);
  ms_free(programs);
  return st;
}

/* Boxes and ops of the batch's samples, likewise. */
static ms_status send_photos(ms_tensor **out, ms_device *d, const int64_t *index, ms_photos_args *p,
                             const ms_augment_opts *o, ms_error *err) {
  size_t boxes = (size_t)p->n * sizeof *p->boxes, bytes = boxes + (size_t)(p->n * p->nops) * sizeof *p->ops;
  uint8_t *drawn = ms_alloc(bytes + 1), *there;
  if (!drawn)
    return ms_fail(err, MS_EMEM, "augment: out of memory for the boxes and ops of %lld samples", (long long)p->n);
  ms_photo_box *box = (ms_photo_box *)(void *)drawn;
  ms_photo_op *ops = (ms_photo_op *)(void *)(drawn + boxes);
  for (int64_t i = 0; i < p->n; i++)
    ms_photo_draw(&box[i], ops + i * p->nops, o->photo, p->h, p->w, o->key, (uint64_t)index[i]);
  ms_status st = send(out, d, drawn, bytes, err);
  ms_free(drawn);
  if (st)
    return st;
  there = ms_scratch_ptr(*out);
  p->boxes = o->photo->crop ? (const ms_photo_box *)(const void *)there : NULL;
  p->ops = (const ms_photo_op *)(const void *)(there + boxes);
  return MS_OK;
}

/* The batch's samples after what is done to them first: those are the set that `a` goes on with. */
static ms_status make_photos(ms_tensor **out, ms_device *d, const int64_t *index, ms_augment_args *a,
                             const ms_augment_opts *o, ms_error *err) {
  ms_photos_args p = {.n = a->n,
                      .samples = a->samples,
                      .steps = a->steps,
                      .h = a->h,
                      .w = a->w,
                      .c = a->c,
                      .x = a->x,
                      .index = a->index,
                      .bad = a->bad};
  ms_tensor *drawn = NULL;
  ms_status st = ms_photo_plan(&p, o->photo, "augment", err);
  size_t bytes = (size_t)(p.n * p.steps * p.to_h * p.to_w * p.c) * ms_dtype_size(p.x.dtype);
  if (!st && p.n > 0 && !(st = send_photos(&drawn, d, index, &p, o, err)) && !(st = ms_scratch(out, d, bytes, err))) {
    p.y = (ms_data){ms_scratch_ptr(*out), p.x.dtype, 1};
    st = ms_row(d, d->k->photos(d->stream, &p), "augment", err);
  }
  ms_release(drawn);
  a->x = p.y;
  a->index = NULL;
  a->samples = p.n;
  a->h = p.to_h;
  a->w = p.to_w;
  return st;
}

/* What bytes or reals become. */
static ms_status send_values(ms_tensor **out, ms_device *d, ms_augment_args *a, int bytes, const ms_augment_opts *o,
                             ms_error *err) {
  size_t n = (size_t)a->c * (bytes ? 256 : 2);
  ms_real *values = ms_alloc((n + 1) * sizeof *values);
  if (!values)
    return ms_fail(err, MS_EMEM, "augment: out of memory for %lld channels", (long long)a->c);
  if (bytes)
    ms_augment_bytes(values, a->c, o->scale, o->mean, o->std);
  for (int64_t k = 0; !bytes && k < a->c; k++) {
    values[k] = o->mean ? o->mean[k] : 0;
    values[a->c + k] = o->std ? o->std[k] : 1;
  }
  ms_status st = send(out, d, values, n * sizeof *values, err);
  ms_free(values);
  if (st)
    return st;
  a->bytes = a->mean = ms_scratch_ptr(*out);
  a->std = a->mean ? a->mean + a->c : NULL;
  return MS_OK;
}

ms_status ms_augment(ms_tensor **out, ms_tensor *x, ms_tensor *index, const ms_augment_opts *o, ms_error *err) {
  ms_augment_args a = {0};
  ms_device *d = ms_tensor_device(x);
  ms_tensor *dense = NULL, *list = NULL, *here = NULL, *at = NULL, *photos = NULL, *programs = NULL, *values = NULL,
            *bad = NULL, *y = NULL;
  int frames = x->ndim == 5;
  ms_status st = ms_capture_refuse("the next batch", "is drawn by the host", err);
  if (!st)
    st = check(&a, x, index, o, err);
  int64_t samples = a.samples;
  if (st || (st = ms_dense(&dense, x, -1, err)) || (st = ms_dense(&list, index, -1, err)) ||
      (st = ms_to(&here, list, ms_device_cpu(), -1, err)) || (st = ms_to(&at, list, d, -1, err)) ||
      (st = ms_full(&bad, d, MS_I64, 0, NULL, 0, err)) || (st = ms_data_of(&a.x, dense, err)))
    goto done;
  a.index = ms_ints(at);
  a.bad = ms_ints(bad);
  if ((o->photo && ms_photo_wanted(o->photo) && (st = make_photos(&photos, d, ms_ints(here), &a, o, err))) ||
      (o->recipe && (st = send_programs(&programs, d, ms_ints(here), &a, o, err))) ||
      (st = send_values(&values, d, &a, x->dtype == MS_U8, o, err)))
    goto done;
  int64_t size[5] = {a.steps, a.n, a.c, a.h, a.w};
  if ((st = ms_tensor_new(&y, d, MS_F32, frames ? 5 : 4, frames ? size : size + 1, err)))
    goto done;
  a.programs = ms_scratch_ptr(programs);
  a.y = ms_reals(y);
  a.y_step = a.n * a.c * a.h * a.w;
  st = ms_row(d, d->k->augment(d->stream, &a), "augment", err);
  if (!st && ms_on_cpu(d) && *a.bad)
    st = ms_fail(err, MS_ERANGE, "augment: index: expected values from 0 to %lld", (long long)samples - 1);
done:
  ms_release(dense);
  ms_release(list);
  ms_release(here);
  ms_release(at);
  ms_release(photos);
  ms_release(programs);
  ms_release(values);
  ms_release(bad);
  return ms_give(out, y, st);
}
