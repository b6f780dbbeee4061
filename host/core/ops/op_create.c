#include "op.h"

#include <math.h>

/* Can the type hold the value at all? */
static ms_status check_value(const ms_tensor *t, double value, const char *op, ms_error *err) {
  double most = t->dtype == MS_U8 ? 255 : t->dtype == MS_SPIKE ? 255 * (double)t->scale : 9.2e18;
  double least = t->dtype == MS_U8 || t->dtype == MS_SPIKE ? 0 : -9.2e18;
  if ((t->dtype == MS_F32 || t->dtype == MS_BF16) || (value >= least && value <= most))
    return MS_OK;
  return ms_fail(err, MS_ERANGE, "%s: value: expected %g to %g for %s, got %g", op, least, most,
                 ms_dtype_name(t->dtype), value);
}

static ms_status fill_data(ms_tensor *t, double value, ms_error *err) {
  ms_loop l;
  ms_device *d = ms_tensor_device(t);
  ms_status st = ms_loop_over(&l, t, 0, NULL, MS_ORDER_MEMORY, err);
  if (!st)
    st = ms_row(d, d->k->fill(d->stream, &l, value), "fill", err);
  if (!st)
    t->peak = t->dtype == MS_SPIKE ? (int)lround(value / (double)t->scale) : t->peak;
  return st;
}

ms_status ms_full(ms_tensor **out, ms_device *d, ms_dtype dtype, int ndim, const int64_t *size, double value,
                  ms_error *err) {
  ms_tensor *t = NULL;
  ms_status st = ms_tensor_new(&t, d, dtype, ndim, size, err);
  if (!st)
    st = check_value(t, value, "full", err);
  if (!st)
    st = fill_data(t, value, err);
  return ms_give(out, t, st);
}

/* Where x is part of the graph it becomes a constant, with memory of its own. */
ms_status ms_fill_(ms_tensor *t, double value, ms_error *err) {
  ms_status st = check_value(t, value, "fill_", err);
  if (st)
    return st;
  if (ms_records(1, &t)) {
    ms_tensor *r = NULL;
    st = ms_may_take_over(t, "fill_", err);
    if (!st)
      st = ms_full(&r, ms_tensor_device(t), t->dtype, t->ndim, t->size, value, err);
    if (!st)
      ms_take_over(t, r);
    return st;
  }
  st = ms_begin_write(t, "fill_", err);
  return st ? st : fill_data(t, value, err);
}

ms_status ms_arange(ms_tensor **out, ms_device *d, ms_dtype dtype, double start, double step, int64_t n,
                    ms_error *err) {
  ms_tensor *t = NULL;
  ms_loop l;
  ms_status st = ms_tensor_new(&t, d, dtype, 1, &n, err);
  for (int last = 0; last < 2 && !st && n; last++)
    st = check_value(t, start + step * (double)(last ? n - 1 : 0), "arange", err);
  if (!st)
    st = ms_loop_over(&l, t, 0, NULL, MS_ORDER_LOGICAL, err);
  if (!st)
    st = ms_row(d, d->k->arange(d->stream, &l, start, step), "arange", err);
  return ms_give(out, t, st);
}

static ms_status check_random(ms_dtype dtype, ms_random_kind kind, double a, double b, ms_error *err) {
  int real = dtype == MS_F32 || dtype == MS_BF16;
  if ((kind == MS_RANDOM_UNIFORM || kind == MS_RANDOM_NORMAL) && !real)
    return ms_fail(err, MS_ETYPE, "random: dtype: expected float32 or bfloat16, got %s", ms_dtype_name(dtype));
  if (kind == MS_RANDOM_UNIFORM && !(a <= b))
    return ms_fail(err, MS_ERANGE, "uniform: expected lower <= upper, got %g and %g", a, b);
  if (kind == MS_RANDOM_NORMAL && !(b >= 0))
    return ms_fail(err, MS_ERANGE, "normal: std: expected 0 or more, got %g", b);
  if (kind == MS_RANDOM_BERNOULLI && !(a >= 0 && a <= 1))
    return ms_fail(err, MS_ERANGE, "bernoulli: p: expected 0 to 1, got %g", a);
  if (kind == MS_RANDOM_BITS && !(a < b && b - a <= 9.2e18))
    return ms_fail(err, MS_ERANGE, "randint: expected lower < upper, got %g and %g", a, b);
  if (kind == MS_RANDOM_BITS && ((dtype == MS_U8 && (a < 0 || b > 256)) || dtype == MS_SPIKE))
    return ms_fail(err, MS_ERANGE, "randint: the values %g to %g do not fit %s", a, b - 1, ms_dtype_name(dtype));
  return MS_OK;
}

static ms_status random_data(ms_tensor *t, ms_random_kind kind, double a, double b, ms_philox_key key, ms_error *err) {
  ms_loop l;
  ms_device *d = ms_tensor_device(t);
  ms_status st = ms_loop_over(&l, t, 0, NULL, MS_ORDER_LOGICAL, err);
  if (!st && key.draws && ms_on_cpu(d))
    st = ms_fail(err, MS_EDEVICE, "captured step: random numbers are drawn on cpu, another device is recorded");
  return st ? st : ms_row(d, d->k->random(d->stream, kind, &l, key, a, b), "random", err);
}

ms_status ms_random(ms_tensor **out, ms_device *d, ms_dtype dtype, int ndim, const int64_t *size, ms_random_kind kind,
                    double a, double b, ms_philox_key key, ms_error *err) {
  ms_tensor *t = NULL;
  ms_status st = check_random(dtype, kind, a, b, err);
  if (!st)
    st = ms_tensor_new(&t, d, dtype, ndim, size, err);
  if (!st && kind == MS_RANDOM_BERNOULLI)
    st = check_value(t, b, "bernoulli", err);
  if (!st)
    st = random_data(t, kind, a, b, key, err);
  if (!st && dtype == MS_SPIKE)
    t->peak = (int)lround(b / (double)t->scale);
  return ms_give(out, t, st);
}

ms_status ms_random_(ms_tensor *t, ms_random_kind kind, double a, double b, ms_philox_key key, ms_error *err) {
  ms_tensor *r = NULL;
  ms_status st = check_random(t->dtype, kind, a, b, err);
  if (st)
    return st;
  if (!ms_records(1, &t)) {
    st = ms_begin_write(t, "random_", err);
    return st ? st : random_data(t, kind, a, b, key, err);
  }
  st = ms_may_take_over(t, "random_", err);
  if (!st)
    st = ms_random(&r, ms_tensor_device(t), t->dtype, t->ndim, t->size, kind, a, b, key, err);
  if (!st)
    ms_take_over(t, r);
  return st;
}
