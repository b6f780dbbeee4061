#include "resize_axis.h"
#include "../../../kernels/math/resize.h"
#include <string.h>

/* An area average through the filter, stretched where the image shrinks. */
static void smooth(ms_resize_axis *a, ms_filter filter, int64_t i) {
  double scale = (double)((float)a->to - (float)a->from) / (double)a->out;
  int cubic = filter == MS_FILTER_BICUBIC;
  ms_resize_reach reach = ms_resize_reach_of(cubic, a->in, a->from, scale, a->first + i);
  ms_resize_weights(&reach, cubic, a->fixed + i * a->taps, a->real + i * a->taps);
  a->lo[i] = reach.lo;
  a->n[i] = reach.n;
}

/* Between the nearest neighbours; those outside of the image are its border. */
static void interpolate(ms_resize_axis *a, ms_filter filter, int64_t i, double *w) {
  double at = ((double)(a->first + i) + 0.5) * ((double)a->in / (double)a->out) - 0.5;
  int reach = filter == MS_FILTER_BICUBIC ? 2 : 1;
  if (filter != MS_FILTER_BICUBIC && at < 0)
    at = 0;
  int64_t before = (int64_t)floor(at), last = a->in - 1;
  int64_t lo = before - reach + 1, hi = before + reach;
  a->lo[i] = lo < 0 ? 0 : lo > last ? last : lo;
  a->n[i] = (hi > last ? last : hi < 0 ? 0 : hi) - a->lo[i] + 1;
  memset(w, 0, (size_t)a->n[i] * sizeof *w);
  for (int64_t x = lo; x <= hi; x++) {
    int64_t inside = x < 0 ? 0 : x > last ? last : x;
    w[inside - a->lo[i]] +=
        filter == MS_FILTER_BICUBIC ? ms_resize_cubic((double)x - at, -0.75) : ms_resize_triangle((double)x - at);
  }
}

static int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

static void fill(ms_resize_axis *a, ms_filter filter, int plain, double *w) {
  for (int64_t i = 0; i < a->count; i++) {
    int64_t place = a->first + i;
    if (filter == MS_FILTER_NEAREST) {
      float scale = (float)a->in / (float)a->out; /* PyTorch's, with its rounding */
      int64_t at = (int64_t)floorf((float)place * scale);
      a->lo[i] = at < a->in ? at : a->in - 1;
      a->n[i] = 1;
      w[0] = 1;
    } else if (filter == MS_FILTER_BIN) {
      a->lo[i] = ceil_div(place * a->in, a->out);
      a->n[i] = ceil_div((place + 1) * a->in, a->out) - a->lo[i];
      for (int64_t j = 0; j < a->n[i]; j++)
        w[j] = 1;
    } else if (plain) {
      interpolate(a, filter, i, w);
    } else {
      smooth(a, filter, i);
      continue;
    }
    for (int64_t j = 0; j < a->n[i]; j++) {
      a->fixed[i * a->taps + j] = ms_resize_fixed(w[j]);
      a->real[i * a->taps + j] = (ms_real)w[j];
    }
  }
}

ms_status ms_resize_axis_plan(ms_resize_axis *a, ms_filter filter, int plain, int64_t in, int64_t out, int64_t first,
                              int64_t count, double from, double to, const char *op, ms_error *err) {
  from = (float)from; /* as Pillow keeps its box */
  to = to <= from ? (double)in : (float)to;
  int rule = (int)filter * 2 + !!plain;
  if (a->memory.p && a->rule == rule && a->in == in && a->out == out && a->first == first && a->count == count &&
      a->from == from && a->to == to)
    return MS_OK;
  int64_t taps = ms_resize_taps(filter == MS_FILTER_BICUBIC, (to - from) / (double)out), weights;
  size_t each = sizeof(ms_real) + sizeof(int32_t);
  if (__builtin_mul_overflow(taps, count, &weights) || weights > INT64_MAX / 64)
    return ms_fail(err, MS_EMEM, "%s: from %lld to %lld pixels: too many weights", op, (long long)in, (long long)out);
  size_t places = 2 * (size_t)count * sizeof(int64_t), row = (size_t)taps * sizeof(double);
  ms_status status = ms_buffer_resize(&a->memory, places + row + (size_t)weights * each, op, err);
  if (status) {
    ms_buffer_free(&a->memory); /* so that no later call takes it for planned */
    return status;
  }
  *a = (ms_resize_axis){.in = in,
                        .out = out,
                        .first = first,
                        .count = count,
                        .from = from,
                        .to = to,
                        .rule = rule,
                        .taps = taps,
                        .memory = a->memory};
  a->identity = filter != MS_FILTER_BIN && in == out && first == 0 && count == out && from == 0 && to == (double)in;
  double *w = (double *)(void *)a->memory.p;
  a->lo = (int64_t *)(void *)(a->memory.p + row);
  a->n = a->lo + count;
  a->real = (ms_real *)(void *)(a->memory.p + row + places);
  a->fixed = (int32_t *)(void *)(a->real + weights);
  fill(a, filter, plain, w);
  return MS_OK;
}
