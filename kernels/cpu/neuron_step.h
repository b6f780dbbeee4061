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
  ms_tiling t;
  const ms_real *a, *b;             /* normalisation in front, [row], or NULL */
  ms_real *mean, *g_mean, *gx_mean; /* [row] */
} ms_layer;

static inline ms_layer ms_layer_of(const ms_neuron_args *f) {
  ms_layer l = {.f = f, .p = f->w ? ms_neuron_plif(f->p, *f->w) : f->p};
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

/* Charge, fire, reset; s may be NULL. What is there and what is not is a constant of each copy of the loop. */
MS_HD void ms_step_loop(ms_neuron p, int64_t len, int norm, int residual, int spikes, const ms_real *y,
                        const ms_real *a, const ms_real *b, const ms_real *r, ms_real *restrict v, ms_real *restrict h,
                        ms_fired *restrict s) {
  MS_SIMD for (int64_t j = 0; j < len; j++) {
    ms_real x = norm ? MS_FN(fma)(a[j], y[j], b[j]) : y[j];
    x = residual ? x + r[j] : x;
    ms_real u = ms_charge(&p, v[j], x), fired = ms_fire(&p, u);
    h[j] = u;
    if (spikes)
      s[j] = (ms_fired)fired;
    v[j] = ms_reset(&p, u, fired);
  }
}

/* One step: v becomes the membrane after it, h the one before its reset, s (with `spikes`) what fired. */
MS_HD void ms_step_row(const ms_layer *l, const ms_tile *k, int64_t step, int spikes, ms_real *v, ms_real *h,
                       ms_fired *s) {
  const ms_neuron_args *f = l->f;
  ms_real ybuf[MS_TILE], rbuf[MS_TILE];
  ms_tile_ahead(f->y, step * f->y_step + k->at + k->len, k->len);
  const ms_real *y = ms_tile_load(f->y, step * f->y_step + k->at, k->len, ybuf);
  const ms_real *r = f->r.p ? ms_tile_load(f->r, step * f->r_step + k->at, k->len, rbuf) : NULL;
  const ms_real *a = l->a ? l->a + k->phase : NULL, *b = l->a ? l->b + k->phase : NULL;
  if (a && r)
    ms_step_loop(l->p, k->len, 1, 1, spikes, y, a, b, r, v, h, s);
  else if (a)
    ms_step_loop(l->p, k->len, 1, 0, spikes, y, a, b, r, v, h, s);
  else if (r)
    ms_step_loop(l->p, k->len, 0, 1, spikes, y, a, b, r, v, h, s);
  else
    ms_step_loop(l->p, k->len, 0, 0, spikes, y, a, b, r, v, h, s);
}

#endif
