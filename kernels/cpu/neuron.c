/* Spiking neurons over T steps, forward and backward. A tile of neurons walks all its steps at once, so membranes
** stay in the first-level cache. Backward charges and fires with the same functions as forward and so meets the same
** bits. */
#include "cpu.h"
#include "tile.h"

typedef struct layer {
  const ms_neuron_args *f;
  const ms_neuron_grad_args *g; /* backward only, from here on */
  ms_neuron p;
  ms_tiling t;
  const ms_real *a, *b;             /* normalisation in front, [row], or NULL */
  ms_real *mean, *g_mean, *gx_mean; /* [row] */
} layer;

/* ---- one step of one tile, forward ---- */

static int input_is_bare(const layer *l) {
  return !l->a && !l->f->r.p;
}

/* The input a * y + b + r of step `step`: in place where nothing is to be done, else in x. */
MS_HD const ms_real *input_row(const layer *l, const ms_tile *k, int64_t step, ms_real *x) {
  const ms_neuron_args *f = l->f;
  ms_real buf[MS_TILE];
  if (input_is_bare(l))
    return ms_tile_load(f->y, step * f->y_step + k->at, k->len, x);
  const ms_real *y = ms_tile_load(f->y, step * f->y_step + k->at, k->len, x);
  if (l->a) {
    const ms_real *a = l->a + k->phase, *b = l->b + k->phase;
    MS_SIMD for (int64_t j = 0; j < k->len; j++) x[j] = MS_FN(fma)(a[j], y[j], b[j]);
    y = x;
  }
  if (f->r.p) {
    const ms_real *r = ms_tile_load(f->r, step * f->r_step + k->at, k->len, buf);
    MS_SIMD for (int64_t j = 0; j < k->len; j++) x[j] = y[j] + r[j];
  }
  return x;
}

/* h may be v. */
MS_HD void charge_row(const layer *l, const ms_tile *k, int64_t step, const ms_real *v, ms_real *h) {
  const ms_neuron p = l->p;
  ms_real buf[MS_TILE];
  const ms_real *x = input_row(l, k, step, buf);
  MS_SIMD for (int64_t j = 0; j < k->len; j++) h[j] = ms_charge(&p, v[j], x[j]);
}

/* Spikes (each of bytes and reals may be NULL) and the membrane after reset. v may be h. */
MS_HD void fire_row(ms_neuron p, int64_t len, const ms_real *h, uint8_t *bytes, ms_real *reals, ms_real *v) {
  if (bytes) {
    MS_SIMD for (int64_t j = 0; j < len; j++) {
      ms_real s = ms_fire(&p, h[j]);
      v[j] = ms_reset(&p, h[j], s);
      bytes[j] = (uint8_t)s;
    }
  } else if (reals) {
    MS_SIMD for (int64_t j = 0; j < len; j++) {
      reals[j] = ms_fire(&p, h[j]);
      v[j] = ms_reset(&p, h[j], reals[j]);
    }
  } else {
    MS_SIMD for (int64_t j = 0; j < len; j++) v[j] = ms_reset(&p, h[j], ms_fire(&p, h[j]));
  }
}

MS_HD void count_row(int64_t len, const uint8_t *bytes, const ms_real *reals, uint32_t *count) {
  if (bytes) {
    MS_SIMD for (int64_t j = 0; j < len; j++) count[j] += bytes[j];
  } else if (reals) {
    MS_SIMD for (int64_t j = 0; j < len; j++) count[j] += reals[j] > MS_R(0.5);
  }
}

MS_HD void first_row(const layer *l, const ms_tile *k, ms_real *v) {
  if (l->f->v0) {
    memcpy(v, l->f->v0 + k->at, (size_t)k->len * sizeof *v);
    return;
  }
  MS_SIMD for (int64_t j = 0; j < k->len; j++) v[j] = l->p.v_init;
}

/* counts [T][row]: spikes of this chunk, or NULL. */
MS_HOT static void forward_chunk(const layer *l, int64_t chunk, uint32_t *counts) {
  const ms_neuron_args *f = l->f;
  ms_real v[MS_TILE];
  if (counts)
    memset(counts, 0, (size_t)(f->steps * l->t.row) * sizeof *counts);
  for (ms_tile k = ms_tile_first(&l->t, chunk); k.len; ms_tile_next(&l->t, &k)) {
    first_row(l, &k, v);
    for (int64_t step = 0; step < f->steps; step++) {
      int64_t at = step * f->n + k.at;
      ms_real *h = f->h ? f->h + at : v;
      uint8_t *bytes = f->s.p && f->s.dtype != MS_F32 ? (uint8_t *)f->s.p + at : NULL;
      ms_real *reals = f->s.p && f->s.dtype == MS_F32 ? (ms_real *)f->s.p + at : NULL;
      charge_row(l, &k, step, v, h);
      fire_row(l->p, k.len, h, bytes, reals, v);
      if (counts)
        count_row(k.len, bytes, reals, counts + step * l->t.row + k.phase);
    }
    if (f->v)
      memcpy(f->v + k.at, v, (size_t)k.len * sizeof *v);
  }
}

static layer layer_of(const ms_neuron_args *f) {
  layer l = {.f = f, .p = f->w ? ms_neuron_plif(f->p, *f->w) : f->p};
  l.t = ms_tiling_of(f->n, f->norm.a || f->counts ? f->c : 1);
  return l;
}

ms_status ms_cpu_neuron(ms_stream *s, const ms_neuron_args *f) {
  (void)s;
  if (f->steps == 0 || f->n == 0)
    return MS_OK;
  layer l = layer_of(f);
  int64_t row = l.t.row, part = f->counts ? f->steps * row : 0;
  ms_real *norm = ms_cpu_scratch(0, (size_t)(2 * row) * sizeof *norm + (size_t)(l.t.chunks * part) * sizeof(uint32_t));
  if (!norm)
    return MS_EMEM;
  if (f->norm.a) {
    ms_tile_repeat(&l.t, norm, f->norm.a, 1);
    ms_tile_repeat(&l.t, norm + row, f->norm.b, 0);
    l.a = norm;
    l.b = norm + row;
  }
  uint32_t *counts = (uint32_t *)(norm + 2 * row);
  ms_parallel_for(k, l.t.chunks, l.t.per * row * f->steps) forward_chunk(&l, k, f->counts ? counts + k * part : NULL);
  if (f->counts) {
    memset(f->counts, 0, (size_t)(f->steps * f->c) * sizeof *f->counts);
    for (int64_t i = 0; i < l.t.chunks * f->steps; i++)
      for (int64_t j = 0; j < row; j += f->c)
        for (int64_t ch = 0; ch < f->c; ch++)
          f->counts[i % f->steps * f->c + ch] += counts[i * row + j + ch];
  }
  return MS_OK;
}

/* ---- backward ---- */

/* The surrogate's derivative at h: the caller's, or computed with the kind known to the compiler. */
MS_HD const ms_real *surrogate_row(const layer *l, const ms_tile *k, int64_t step, const ms_real *h, ms_real *out) {
  ms_real a = l->p.alpha, threshold = l->p.threshold;
  if (l->g->surrogate)
    return l->g->surrogate + step * l->f->n + k->at;
  switch (l->p.surrogate) {
#define MS_SURROGATE(name, text, alpha)                                                                                \
  case MS_SURROGATE_##name:                                                                                            \
    MS_SIMD for (int64_t j = 0; j < k->len; j++) out[j] = ms_surrogate_grad(MS_SURROGATE_##name, h[j] - threshold, a); \
    break;
#include "../surrogate.def"
#undef MS_SURROGATE
  default:
    memset(out, 0, (size_t)k->len * sizeof *out);
  }
  return out;
}

/* d = dL/dh; gv goes from dL/dv[t] to dL/dv[t - 1]. */
MS_HD void dh_row(ms_neuron p, int64_t len, const ms_real *h, const ms_real *sur, const ms_real *gs, ms_real *gv,
                  ms_real *d) {
  MS_SIMD for (int64_t j = 0; j < len; j++) {
    d[j] = ms_neuron_dh(&p, h[j], ms_fire(&p, h[j]), sur[j], gs[j], gv[j]);
    gv[j] = p.leak * d[j];
  }
}

/* Sum of dh * dh/dk, where h = v + k * (x - v + v_reset) or with x unscaled. */
MS_HD double plif_row(const layer *l, const ms_tile *k, int64_t step, const ms_real *h, const ms_real *d) {
  const ms_neuron p = l->p;
  ms_real buf[MS_TILE], v[MS_TILE], rest = p.soft ? MS_R(0) : p.v_reset, sum = 0;
  const ms_real *x = input_row(l, k, step, buf);
  if (step > 0)
    fire_row(p, k->len, h - MS_TILE, NULL, NULL, v);
  else
    first_row(l, k, v);
  MS_SIMD_SUM(sum) for (int64_t j = 0; j < k->len; j++) sum += d[j] * ((p.plif_input ? x[j] : MS_R(0)) - v[j] + rest);
  return sum;
}

/* Writes d as the gradient of what walks t with `stride`; a static operand (stride 0) gathers. */
MS_HD void emit_row(const layer *l, const ms_tile *k, int64_t step, int64_t stride, const ms_real *d, ms_data out) {
  ms_real buf[MS_TILE], *o = ms_tile_open(out, step * stride + k->at, buf);
  if (stride == 0 && step < l->f->steps - 1) {
    const ms_real *sum = ms_tile_load(out, k->at, k->len, buf);
    MS_SIMD for (int64_t j = 0; j < k->len; j++) o[j] = sum[j] + d[j];
  } else {
    memcpy(o, d, (size_t)k->len * sizeof *d);
  }
  ms_tile_close(out, step * stride + k->at, k->len, o);
}

/* Steps T - 1 .. 0 of a tile whose membranes h [T][MS_TILE] are known; returns the tile's part of PLIF's sum. */
MS_HD double backward_tile(const layer *l, const ms_tile *k, const ms_real *hs, double *part) {
  const ms_neuron_args *f = l->f;
  const ms_neuron_grad_args *g = l->g;
  int statistics = l->a && g->norm_training;
  ms_data out = statistics ? (ms_data){g->dy.p ? g->g : NULL, MS_F32, 1} : g->dy;
  const ms_real *factor = l->a && !statistics ? l->a + k->phase : NULL;
  ms_real gv[MS_TILE], gs[MS_TILE], sur[MS_TILE], d[MS_TILE], ybuf[MS_TILE];
  ms_real sum_g[MS_TILE] = {0}, sum_gx[MS_TILE] = {0}, gain = l->p.gain;
  double dk = 0;
  if (!g->gs.p)
    memset(gs, 0, sizeof gs);
  if (g->gv)
    memcpy(gv, g->gv + k->at, (size_t)k->len * sizeof *gv);
  else
    memset(gv, 0, (size_t)k->len * sizeof *gv);
  for (int64_t step = f->steps - 1; step >= 0; step--) {
    const ms_real *h = hs + step * MS_TILE;
    const ms_real *s = g->gs.p ? ms_tile_load(g->gs, step * g->gs_step + k->at, k->len, gs) : gs;
    dh_row(l->p, k->len, h, surrogate_row(l, k, step, h, sur), s, gv, d);
    if (g->dw)
      dk += plif_row(l, k, step, h, d);
    MS_SIMD for (int64_t j = 0; j < k->len; j++) d[j] *= gain;
    if (g->dr.p)
      emit_row(l, k, step, f->r_step, d, g->dr);
    if (part)
      ms_norm_sums_row(k->len, d, ms_tile_load(f->y, step * f->y_step + k->at, k->len, ybuf), l->mean + k->phase, sum_g,
                       sum_gx);
    if (factor) {
      MS_SIMD for (int64_t j = 0; j < k->len; j++) d[j] *= factor[j];
    }
    if (out.p)
      emit_row(l, k, step, f->y_step, d, out);
  }
  if (g->dv0)
    memcpy(g->dv0 + k->at, gv, (size_t)k->len * sizeof *gv);
  if (part) {
    double *pg = part + k->phase, *pgx = pg + l->t.row;
    MS_SIMD for (int64_t j = 0; j < k->len; j++) {
      pg[j] += sum_g[j];
      pgx[j] += sum_gx[j];
    }
  }
  return dk;
}

/* part [2][row]: the chunk's sums for the normalisation, or NULL; *dk: for PLIF. */
MS_HOT static int backward_chunk(const layer *l, int64_t chunk, double *part, double *dk) {
  ms_real v[MS_TILE], *hs = ms_cpu_scratch(1, (size_t)(l->f->steps * MS_TILE) * sizeof *hs);
  if (!hs)
    return 0;
  if (part)
    memset(part, 0, (size_t)(2 * l->t.row) * sizeof *part);
  *dk = 0;
  for (ms_tile k = ms_tile_first(&l->t, chunk); k.len; ms_tile_next(&l->t, &k)) {
    first_row(l, &k, v);
    for (int64_t step = 0; step < l->f->steps; step++) {
      charge_row(l, &k, step, v, hs + step * MS_TILE);
      fire_row(l->p, k.len, hs + step * MS_TILE, NULL, NULL, v);
    }
    *dk += backward_tile(l, &k, hs, part);
  }
  return 1;
}

/* Second sweep: dy from g, once the sums of the whole batch are known. */
MS_HOT static void dy_chunk(const layer *l, int64_t chunk) {
  const ms_neuron_args *f = l->f;
  int64_t steps = f->y_step ? f->steps : 1;
  ms_real ybuf[MS_TILE], out[MS_TILE];
  for (ms_tile k = ms_tile_first(&l->t, chunk); k.len; ms_tile_next(&l->t, &k))
    for (int64_t step = 0; step < steps; step++) {
      int64_t at = step * f->y_step + k.at;
      ms_real *dy = ms_tile_open(l->g->dy, at, out);
      ms_norm_dx_row(k.len, l->g->g + at, ms_tile_load(f->y, at, k.len, ybuf), l->a + k.phase, l->mean + k.phase,
                     l->g_mean + k.phase, l->gx_mean + k.phase, dy);
      ms_tile_close(l->g->dy, at, k.len, dy);
    }
}

ms_status ms_cpu_neuron_grad(ms_stream *s, const ms_neuron_grad_args *g) {
  (void)s;
  const ms_neuron_args *f = &g->fwd;
  if (f->steps == 0 || f->n == 0)
    return MS_OK;
  layer l = layer_of(f);
  l.g = g;
  int sums = f->norm.a && (g->norm_training || g->dgamma || g->dbeta);
  int64_t row = l.t.row, chunks = l.t.chunks, part = sums ? 2 * row : 0;
  double *parts = ms_cpu_scratch(0, (size_t)(chunks * (part + 1) + (sums ? 2 * f->c : 0)) * sizeof *parts +
                                        (size_t)(5 * row) * sizeof(ms_real));
  if (!parts)
    return MS_EMEM;
  double *dk = parts + chunks * part, *total = dk + chunks;
  ms_real *rows = (ms_real *)(total + (sums ? 2 * f->c : 0));
  if (f->norm.a) {
    ms_tile_repeat(&l.t, rows, f->norm.a, 1);
    ms_tile_repeat(&l.t, rows + row, f->norm.b, 0);
    ms_tile_repeat(&l.t, rows + 2 * row, g->mean, 0);
    l.a = rows;
    l.b = rows + row;
    l.mean = rows + 2 * row;
    l.g_mean = rows + 3 * row;
    l.gx_mean = rows + 4 * row;
  }
  int failed = 0;
  ms_parallel_for(k, chunks, l.t.per * row * f->steps) {
    if (!backward_chunk(&l, k, sums ? parts + k * part : NULL, dk + k)) {
#pragma omp atomic write
      failed = 1;
    }
  }
  if (failed)
    return MS_EMEM;
  if (g->dw) {
    double k = 1 / (1 + exp(-(double)*f->w)), sum = 0;
    for (int64_t i = 0; i < chunks; i++)
      sum += dk[i];
    *g->dw = MS_R(sum * k * (1 - k));
  }
  if (sums) {
    double seen = (double)f->n / (double)f->c * (double)f->steps;
    ms_tile_fold(&l.t, parts, 2, total);
    ms_norm_sums_finish(&l.t, total, g->invstd, g->norm_gain, seen, f->y_step ? 1 : (double)f->steps, g->dgamma,
                        g->dbeta, l.g_mean, l.gx_mean);
  }
  if (f->norm.a && g->norm_training && g->dy.p) {
    ms_parallel_for(k, chunks, l.t.per * row * f->steps) dy_chunk(&l, k);
  }
  return MS_OK;
}
