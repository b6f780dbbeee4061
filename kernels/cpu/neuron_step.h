/* What the forward and the backward row of a neuron layer share: the layer as its loops see it, and one step forward
** of one tile. Both call the same functions in the same order and so meet the same bits. */
#ifndef MS_NEURON_STEP_H
#define MS_NEURON_STEP_H

#include "tile.h"

/* A spike as the loops write it: bytes 0 and 1; the smooth test build has real ones. */
#ifdef MS_SMOOTH
typedef ms_real ms_fired;
#else
typedef uint8_t ms_fired;
#endif

typedef struct ms_layer {
  const ms_neuron_args *f;
  const ms_neuron_grad_args *g; /* backward only, from here on */
  ms_neuron p;
  ms_switched q;
  ms_tiling t;
  const ms_real *a, *b;          /* normalisation in front, [row], or NULL */
  ms_real *mean, *slope, *shift; /* [row] */
  int past;                      /* dy and dr are written past the caches */
} ms_layer;

static inline ms_layer ms_layer_of(const ms_neuron_args *f) {
  ms_layer l = {.f = f, .p = f->w ? ms_neuron_plif(f->p, *f->w) : f->p};
  l.q = ms_switched_of(l.p);
  l.t = ms_tiling_of(f->n, f->norm.a || f->counts || f->pool_h > 0 ? f->c : 1);
  return l;
}

/* The membrane before the first step. */
MS_HD void ms_first_row(const ms_layer *l, const ms_tile *k, ms_real *v) {
  if (l->f->v0) {
    memcpy(v, l->f->v0 + k->at, (size_t)k->len * sizeof *v);
    return;
  }
  MS_SIMD for (int64_t j = 0; j < k->len; j++) v[j] = l->p.v_init;
}

/* Rows between asking for an operand and its use. More would fall out of the cache again: where n is a power of two the
** rows of all steps share its sets. */
enum { MS_AHEAD = 2 };

/* Asks for the row of y that is MS_AHEAD steps further, in this tile or the next. */
MS_HD void ms_step_ahead(const ms_neuron_args *f, const ms_tile *k, int64_t step) {
  int64_t at = k->at;
  for (step += MS_AHEAD; step >= f->steps; step -= f->steps)
    at += k->len;
  ms_tile_ahead(f->y, step * f->y_step + at, k->len);
}

/* What a step does besides charge and reset: constants of each copy of its loop. */
enum { MS_STEP_NORM = 1, MS_STEP_RESIDUAL = 2, MS_STEP_SPIKES = 4, MS_STEP_BF16 = 8, MS_STEP_KEEP = 16 };

/* With BF16 y comes from `half`, and KEEP writes it to `keep`. */
MS_HD void ms_step_loop(ms_switched q, int does, int64_t len, const ms_real *y, const ms_bf16 *half, const ms_real *a,
                        const ms_real *b, const ms_real *r, ms_real *restrict v, ms_real *restrict h,
                        ms_fired *restrict s, ms_real *restrict keep) {
  MS_SIMD for (int64_t j = 0; j < len; j++) {
    ms_real x = does & MS_STEP_BF16 ? (ms_real)ms_bf16_to(half[j]) : y[j];
    if (does & MS_STEP_KEEP)
      keep[j] = x;
    x = does & MS_STEP_NORM ? MS_FN(fma)(a[j], x, b[j]) : x;
    x = does & MS_STEP_RESIDUAL ? x + r[j] : x;
    ms_real u = ms_charge(&q.p, v[j], x), fired = ms_fire(&q.p, u);
    h[j] = u;
    if (does & MS_STEP_SPIKES)
      s[j] = (ms_fired)fired;
    v[j] = ms_switched_reset(&q, u, fired);
  }
}

/* One step: v becomes the membrane after it, h the one before its reset, s (with SPIKES) what fired. Returns y as reals
** with KEEP, in place or in keep. */
MS_HD const ms_real *ms_step_row(const ms_layer *l, const ms_tile *k, int64_t step, int does, ms_real *v, ms_real *h,
                                 ms_fired *s, ms_real *keep) {
  const ms_neuron_args *f = l->f;
  ms_real buf[MS_TILE], rbuf[MS_TILE];
  int64_t at = step * f->y_step + k->at;
  const ms_bf16 *half = f->y.dtype == MS_BF16 ? (const ms_bf16 *)f->y.p + at : NULL;
  ms_step_ahead(f, k, step);
  const ms_real *y = half ? NULL : ms_tile_load(f->y, at, k->len, does & MS_STEP_KEEP ? keep : buf);
  const ms_real *r = f->r.p ? ms_tile_load(f->r, step * f->r_step + k->at, k->len, rbuf) : NULL;
  const ms_real *a = l->a ? l->a + k->phase : NULL, *b = l->a ? l->b + k->phase : NULL;
  int plain = does & MS_STEP_SPIKES, wide = does | MS_STEP_BF16;
#define MS_STEP_CASE(more)                                                         \
  case more:                                                                       \
    if (half)                                                                      \
      ms_step_loop(l->q, wide | (more), k->len, y, half, a, b, r, v, h, s, keep);  \
    else                                                                           \
      ms_step_loop(l->q, plain | (more), k->len, y, half, a, b, r, v, h, s, keep); \
    break;
  switch ((a ? MS_STEP_NORM : 0) | (r ? MS_STEP_RESIDUAL : 0)) {
    MS_STEP_CASE(0)
    MS_STEP_CASE(MS_STEP_NORM)
    MS_STEP_CASE(MS_STEP_RESIDUAL)
    MS_STEP_CASE(MS_STEP_NORM | MS_STEP_RESIDUAL)
  }
#undef MS_STEP_CASE
  return half ? keep : y;
}

#endif
