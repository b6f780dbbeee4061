/* Twin tests of rows over strided loops: random shapes, layouts and awkward values. */
#ifndef MS_TWINLOOP_H
#define MS_TWINLOOP_H

#include "twin.h"
#include "typed.h"

static inline int pick(int n) {
  return (int)(chance() * n);
}

/* Values of every kind that conversions and comparisons treat apart. */
static inline void awkward(ms_data d, int64_t n) {
  static const double reals[] = {NAN, INFINITY, -INFINITY, -0., 0., 1e10, -3e30, 300.75, -2.5, 1e-40};
  static const int64_t wholes[] = {INT64_MIN, INT64_MAX, 9007199254740993, -1, 0, 1, 255, 256};
  for (int64_t i = 0; i < n; i++) {
    int special = pick(8) == 0;
    double x = 8 * chance() - 4;
    if (d.dtype == MS_F32)
      ((ms_real *)d.p)[i] = special ? MS_R(reals[pick(10)]) : MS_R(x);
    else if (d.dtype == MS_BF16)
      ((ms_bf16 *)d.p)[i] = ms_bf16_from((float)(special ? reals[pick(10)] : x));
    else if (d.dtype == MS_I64)
      ((int64_t *)d.p)[i] = special ? wholes[pick(8)] : (int64_t)(5 * x);
    else
      ((uint8_t *)d.p)[i] = (uint8_t)(special ? pick(256) : pick(5));
  }
}

/* A host array of n elements, the first of them `shift` elements behind its (aligned) start. */
typedef struct twin_array {
  ms_data host, device;
  int64_t n, shift;
} twin_array;

static inline ms_data moved(ms_data d, int64_t elements) {
  d.p = (char *)d.p + elements * (int64_t)row_width(d.dtype);
  return d;
}

static inline twin_array twin_array_of(ms_dtype t, int64_t n, int64_t shift) {
  twin_array a = {.host = new_data(t, n + shift), .n = n + shift, .shift = shift};
  awkward(a.host, a.n);
  a.device = data_to_device(a.host, a.n);
  return a;
}

/* The same bits on both sides, all NaN being equal; or (tolerance > 0) real values that are close. */
static inline void twin_same(const char *what, twin_array *a, double tolerance) {
  ms_data got = fetched(a->device, a->n);
  size_t width = row_width(got.dtype);
  for (int64_t i = 0; i < a->n; i++) {
    double g = read_at(got, i), w = read_at(a->host, i);
    int same =
        !memcmp((char *)got.p + (size_t)i * width, (char *)a->host.p + (size_t)i * width, width) || (g != g && w != w);
    if (!same && !(tolerance > 0 && near_to(g, w, tolerance)))
      fail_msg("%s, type %d: element %lld of %lld: CUDA %.17g, CPU %.17g", what, (int)got.dtype, (long long)i,
               (long long)a->n, g, w);
  }
  free(got.p);
}

/* A loop on both sides; operand 0 is the output. */
typedef struct twin_loop {
  ms_loop host, device;
  twin_array array[4];
} twin_loop;

typedef enum twin_layout { TWIN_DENSE, TWIN_PERMUTED, TWIN_SPREAD, TWIN_EXPANDED, TWIN_LAYOUTS } twin_layout;

static inline int64_t twin_strides(const ms_loop *l, twin_layout how, int64_t *stride) {
  int order[MS_MAX_DIMS];
  int64_t extent = how == TWIN_SPREAD ? 3 : 1, last = 1;
  for (int d = 0; d < l->ndim; d++)
    order[d] = d;
  for (int d = l->ndim - 1; d > 0 && how == TWIN_PERMUTED; d--) {
    int other = pick(d + 1), t = order[d];
    order[d] = order[other];
    order[other] = t;
  }
  for (int i = l->ndim - 1; i >= 0; i--) {
    int d = order[i];
    stride[d] = how == TWIN_EXPANDED && pick(2) ? 0 : extent;
    if (stride[d] || how != TWIN_EXPANDED)
      extent *= l->size[d];
  }
  for (int d = 0; d < l->ndim; d++)
    last += (l->size[d] - 1) * stride[d];
  return extent == 0 ? 0 : last;
}

static inline void twin_operand(twin_loop *t, int k, ms_dtype type, twin_layout how, int64_t shift) {
  ms_operand *host = k ? &t->host.in[k - 1] : &t->host.out, *device = k ? &t->device.in[k - 1] : &t->device.out;
  int64_t n = twin_strides(&t->host, how, host->stride);
  t->array[k] = twin_array_of(type, n, shift);
  memcpy(device->stride, host->stride, sizeof host->stride);
  host->data = moved(t->array[k].host, shift);
  device->data = moved(t->array[k].device, shift);
}

static inline twin_loop twin_loop_of(int ndim, const int64_t *size, int nin) {
  twin_loop t = {.host = {.ndim = ndim, .nin = nin}};
  memcpy(t.host.size, size, (size_t)ndim * sizeof *size);
  t.device = t.host;
  return t;
}

/* Of any shape with at most a few thousand elements. */
static inline twin_loop random_twin_loop(int nin, const ms_dtype *types) {
  static const int64_t sizes[] = {1, 2, 3, 4, 8, 9, 33, 40, 257};
  int64_t size[MS_MAX_DIMS], total = 1;
  int ndim = pick(3) ? pick(4) : pick(MS_MAX_DIMS + 1);
  for (int d = 0; d < ndim; d++) {
    size[d] = pick(60) ? sizes[pick(9)] : 0;
    if (total * size[d] > 6000)
      size[d] = total > 3000 ? 1 : 2;
    total *= size[d];
  }
  twin_loop t = twin_loop_of(ndim, size, nin);
  for (int k = 0; k <= nin; k++)
    twin_operand(&t, k, types[k], (twin_layout)(pick(2) ? TWIN_DENSE : pick(k ? TWIN_LAYOUTS : TWIN_EXPANDED)),
                 pick(4) == 0);
  return t;
}

static inline void twin_loop_end(twin_loop *t) {
  for (int k = 0; k <= t->host.nin; k++)
    free(t->array[k].host.p);
  twin_release(NULL);
}

#endif
