/* What the forward and the backward kernels of a neuron layer share. Both make the same steps from the same functions
** and so meet the same bits. */
#ifndef MS_CUDA_NEURON_STEP_H
#define MS_CUDA_NEURON_STEP_H

#include "cut.h"

/* I = a * y + b + r; a NULL: y + r. */
template <class E, int V>
MS_DEVICE void ms_input(const ms_neuron_args &f, const ms_raw<E, V> &y, const float (&a)[V], const float (&b)[V],
                        int64_t step, int64_t at, float (&x)[V]) {
#pragma unroll
  for (int j = 0; j < V; j++)
    x[j] = y.at(j);
  if (f.norm.a) {
#pragma unroll
    for (int j = 0; j < V; j++)
      x[j] = fmaf(a[j], x[j], b[j]);
  }
  if (f.r.p) {
    float r[V];
    ms_load(f.r, step * f.r_step + at, r);
#pragma unroll
    for (int j = 0; j < V; j++)
      x[j] = x[j] + r[j];
  }
}

/* h and v of one step; returns the spikes as bits. */
template <int V> MS_DEVICE unsigned ms_step(const ms_switched &q, const float (&x)[V], float (&v)[V], float (&h)[V]) {
  unsigned fired = 0;
#pragma unroll
  for (int j = 0; j < V; j++) {
    h[j] = ms_charge(&q.p, v[j], x[j]);
    v[j] = ms_switched_reset(&q, h[j], 0);
    fired |= (unsigned)(h[j] > q.above) << j;
  }
  return fired;
}

/* The surrogate's derivative. */
template <int V> MS_DEVICE void ms_surrogates(const ms_neuron &p, const float (&h)[V], float (&g)[V]) {
  switch (p.surrogate) {
#define MS_SURROGATE(name, text, width)                                      \
  case MS_SURROGATE_##name:                                                  \
    _Pragma("unroll") for (int j = 0; j < V; j++) g[j] =                     \
        ms_surrogate_grad(MS_SURROGATE_##name, h[j] - p.threshold, p.alpha); \
    break;
#include "../surrogate.def"
#undef MS_SURROGATE
  default:
    for (int j = 0; j < V; j++)
      g[j] = 0;
  }
}

/* The membrane before the first step. */
template <int V> MS_DEVICE void ms_first(const ms_neuron_args &f, int64_t at, float (&v)[V]) {
  if (f.v0) {
    ms_load_real(f.v0 + at, v);
  } else {
#pragma unroll
    for (int j = 0; j < V; j++)
      v[j] = f.p.v_init;
  }
}

template <int V> MS_DEVICE void ms_coefficients(const float *p, int64_t ch, float (&x)[V]) {
  if (p) {
    ms_load_real(p + ch, x);
  } else {
#pragma unroll
    for (int j = 0; j < V; j++)
      x[j] = 0;
  }
}

/* Whether channels matter to a layer: else it is cut as if it had none. */
static inline int64_t ms_neuron_channels(const ms_neuron_args *f) {
  return f->norm.a || f->counts || f->pool_h > 0 ? f->c : 0;
}

/* Whether vectors of v elements fit all arrays of the layer's forward side. */
static inline bool ms_neuron_fits(const ms_neuron_args *f, int v) {
  return f->n % v == 0 && ms_neuron_channels(f) % v == 0 && ms_aligned(f->y.p, f->y.dtype, f->y_step, v) &&
         (!f->r.p || ms_aligned(f->r.p, f->r.dtype, f->r_step, v)) && ms_aligned(f->norm.a, MS_F32, 0, v) &&
         ms_aligned(f->norm.b, MS_F32, 0, v) && ms_aligned(f->v0, MS_F32, 0, v);
}

#endif
