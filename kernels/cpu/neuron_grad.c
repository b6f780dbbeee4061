/* Spiking neurons over T steps, backward. A tile's membranes are computed anew from y and stay in the cache while the
** steps are walked back. Through the statistics of a normalisation dy needs sums over the whole batch: the tiles are
** then walked twice, which costs less memory traffic than writing the gradient between the sweeps. */
#include "cpu.h"
#include "neuron_step.h"

/* What a sweep over the tiles makes. */
enum { SUMS = 1, EMIT = 2, FIRST = 4 };

/* dL/ds of one step; with pooling a quarter of dL/dpooled for each spike of a window. */
MS_HD const ms_real *spike_row(const ms_layer *l, const ms_tile *k, int64_t step, ms_real *buf) {
  const ms_neuron_grad_args *g = l->g;
  int64_t c = l->f->c, w = l->f->pool_w, run;
  ms_real part[MS_TILE];
  if (!l->f->pool_h) {
    ms_tile_ahead(g->gs, step * g->gs_step + k->at + k->len, k->len);
    return ms_tile_load(g->gs, step * g->gs_step + k->at, k->len, buf);
  }
  for (int64_t j = 0; j < k->len; j += run) {
    int64_t pixel = (k->at + j) / c, ch = (k->at + j) % c, line = pixel / w, x = pixel % w;
    run = ms_min64(c - ch, k->len - j);
    const ms_real *from = ms_tile_load(g->gs, step * g->gs_step + (line / 2 * (w / 2) + x / 2) * c + ch, run, part);
    MS_SIMD for (int64_t i = 0; i < run; i++) buf[j + i] = from[i] / 4;
  }
  return buf;
}

/* dh = dL/dh; gv goes from dL/dv[t] to dL/dv[t - 1], d = gain * dh. kind is a constant of each copy; below 0 the
** surrogate's derivative is given. */
MS_HD void dh_loop(ms_neuron p, int kind, int64_t len, const ms_real *h, const ms_real *given, const ms_real *gs,
                   ms_real gain, ms_real *restrict gv, ms_real *restrict d) {
  MS_SIMD for (int64_t j = 0; j < len; j++) {
    ms_real sur = kind < 0 ? given[j] : ms_surrogate_grad(kind, h[j] - p.threshold, p.alpha);
    ms_real dh = ms_neuron_dh(&p, h[j], ms_fire(&p, h[j]), sur, gs[j], gv[j]);
    gv[j] = p.leak * dh;
    d[j] = gain * dh;
  }
}

MS_HD void dh_row(const ms_layer *l, const ms_tile *k, int64_t step, const ms_real *h, const ms_real *gs, ms_real gain,
                  ms_real *gv, ms_real *d) {
  const ms_real *given = l->g->surrogate ? l->g->surrogate + step * l->f->n + k->at : NULL;
  switch (given ? -1 : l->p.surrogate) {
#define MS_SURROGATE(name, text, alpha)                                    \
  case MS_SURROGATE_##name:                                                \
    dh_loop(l->p, MS_SURROGATE_##name, k->len, h, given, gs, gain, gv, d); \
    break;
#include "../surrogate.def"
#undef MS_SURROGATE
  default:
    dh_loop(l->p, -1, k->len, h, given, gs, gain, gv, d);
  }
}

/* Sum of dh * dh/dk, where h = v + k * (x - v + v_reset) or with x unscaled. */
MS_HD double plif_row(const ms_layer *l, const ms_tile *k, int64_t step, const ms_real *h, const ms_real *d) {
  const ms_neuron p = l->p;
  ms_real ybuf[MS_TILE], rbuf[MS_TILE], v[MS_TILE], rest = p.soft ? MS_R(0) : p.v_reset, sum = 0;
  const ms_real *y = ms_tile_load(l->f->y, step * l->f->y_step + k->at, k->len, ybuf);
  const ms_real *r = l->f->r.p ? ms_tile_load(l->f->r, step * l->f->r_step + k->at, k->len, rbuf) : NULL;
  if (step > 0) {
    MS_SIMD for (int64_t j = 0; j < k->len; j++) v[j] = ms_reset(&p, h[j - MS_TILE], ms_fire(&p, h[j - MS_TILE]));
  } else {
    ms_first_row(l, k, v);
  }
  for (int64_t j = 0; j < k->len; j++) {
    ms_real x = l->a ? MS_FN(fma)(l->a[k->phase + j], y[j], l->b[k->phase + j]) : y[j];
    x = r ? x + r[j] : x;
    sum += d[j] * ((p.plif_input ? x : MS_R(0)) - v[j] + rest);
  }
  return sum;
}

/* A result that is not in place. */
MS_HD void put_row(ms_data out, int64_t at, int64_t len, const ms_real *d) {
  if (out.dtype == MS_F32)
    memcpy((ms_real *)out.p + at, d, (size_t)len * sizeof *d);
  else
    ms_tile_close(out, at, len, d);
}

/* dy of one step (or of all, for a static input) from d = dL/dI. */
MS_HD void emit_dy(const ms_layer *l, const ms_tile *k, int64_t at, const ms_real *d) {
  ms_data dy = l->g->dy;
  ms_real ybuf[MS_TILE], buf[MS_TILE], *o = ms_tile_open(dy, at, buf);
  if (l->a && l->g->norm_training) {
    ms_norm_dx_row(k->len, d, ms_tile_load(l->f->y, at, k->len, ybuf), l->a + k->phase, l->mean + k->phase,
                   l->g_mean + k->phase, l->gx_mean + k->phase, o);
    ms_tile_close(dy, at, k->len, o);
  } else if (l->a) {
    const ms_real *a = l->a + k->phase;
    MS_SIMD for (int64_t j = 0; j < k->len; j++) o[j] = a[j] * d[j];
    ms_tile_close(dy, at, k->len, o);
  } else if (o != d) {
    put_row(dy, at, k->len, d);
  }
}

/* Steps T - 1 .. 0 of a tile whose membranes h [T][MS_TILE] are known; returns the tile's part of PLIF's sum. sums
** [2][row] collects what the normalisation needs. */
MS_HD double backward_tile(const ms_layer *l, const ms_tile *k, int sweep, const ms_real *hs, ms_real *sums) {
  const ms_neuron_args *f = l->f;
  const ms_neuron_grad_args *g = l->g;
  int emits = sweep & EMIT, gathers = emits && ((g->dy.p && !f->y_step) || (g->dr.p && !f->r_step));
  int in_place = emits && g->dy.p && g->dy.dtype == MS_F32 && f->y_step && !l->a;
  ms_real gv[MS_TILE], gsbuf[MS_TILE], dbuf[MS_TILE], total[MS_TILE], ybuf[MS_TILE], gain = l->p.gain;
  const ms_real *gs = gsbuf;
  double dk = 0;
  if (!g->gs.p)
    memset(gsbuf, 0, sizeof gsbuf);
  if (gathers)
    memset(total, 0, sizeof total);
  if (g->gv)
    memcpy(gv, g->gv + k->at, (size_t)k->len * sizeof *gv);
  else
    memset(gv, 0, (size_t)k->len * sizeof *gv);
  for (int64_t step = f->steps - 1; step >= 0; step--) {
    const ms_real *h = hs + step * MS_TILE;
    ms_real *d = in_place ? (ms_real *)g->dy.p + step * f->n + k->at : dbuf;
    if (g->gs.p)
      gs = spike_row(l, k, step, gsbuf);
    if (g->dw && sweep & FIRST) {
      dh_row(l, k, step, h, gs, 1, gv, d);
      dk += plif_row(l, k, step, h, d);
      MS_SIMD for (int64_t j = 0; j < k->len; j++) d[j] *= gain;
    } else {
      dh_row(l, k, step, h, gs, gain, gv, d);
    }
    if (sweep & SUMS)
      ms_norm_sums_row(k->len, d, ms_tile_load(f->y, step * f->y_step + k->at, k->len, ybuf), l->mean + k->phase,
                       sums + k->phase, sums + l->t.row + k->phase);
    if (gathers) {
      MS_SIMD for (int64_t j = 0; j < k->len; j++) total[j] += d[j];
    }
    if (emits && g->dr.p && f->r_step)
      put_row(g->dr, step * f->r_step + k->at, k->len, d);
    if (emits && g->dy.p && f->y_step)
      emit_dy(l, k, step * f->y_step + k->at, d);
  }
  if (emits && g->dr.p && !f->r_step)
    put_row(g->dr, k->at, k->len, total);
  if (emits && g->dy.p && !f->y_step)
    emit_dy(l, k, k->at, total);
  if (g->dv0 && sweep & FIRST)
    memcpy(g->dv0 + k->at, gv, (size_t)k->len * sizeof *gv);
  return dk;
}

/* part [2][row]: the chunk's sums for the normalisation; *dk: for PLIF. Sums are float for at most about FEW terms. */
enum { FEW = 64 };

MS_HOT static int backward_chunk(const ms_layer *l, int64_t chunk, int sweep, double *part, double *dk) {
  int64_t steps = l->f->steps, row = l->t.row, tiles = 0, most = ms_max64(1, FEW / steps) * ms_ceil_div(row, MS_TILE);
  ms_real v[MS_TILE], *hs = ms_cpu_scratch(1, (size_t)(steps * MS_TILE + 2 * row) * sizeof *hs);
  if (!hs)
    return 0;
  ms_real *sums = hs + steps * MS_TILE;
  if (sweep & SUMS) {
    memset(part, 0, (size_t)(2 * row) * sizeof *part);
    memset(sums, 0, (size_t)(2 * row) * sizeof *sums);
  }
  double sum = 0;
  ms_tile k = ms_tile_first(&l->t, ms_chunk_begin(&l->t, chunk), ms_chunk_end(&l->t, chunk));
  while (k.len) {
    ms_first_row(l, &k, v);
    for (int64_t step = 0; step < steps; step++)
      ms_step_row(l, &k, step, 0, v, hs + step * MS_TILE, NULL);
    sum += backward_tile(l, &k, sweep, hs, sums);
    ms_tile_next(&l->t, &k);
    if (sweep & SUMS && (++tiles % most == 0 || !k.len)) {
      MS_SIMD for (int64_t j = 0; j < 2 * row; j++) part[j] += sums[j];
      memset(sums, 0, (size_t)(2 * row) * sizeof *sums);
    }
  }
  if (sweep & FIRST)
    *dk = sum;
  return 1;
}

static int sweep_all(const ms_layer *l, int sweep, double *parts, double *dk) {
  int failed = 0;
  ms_parallel_for(k, l->t.chunks, l->t.span * l->f->steps) {
    if (!backward_chunk(l, k, sweep, sweep & SUMS ? parts + 2 * k * l->t.row : NULL, dk + k)) {
#pragma omp atomic write
      failed = 1;
    }
  }
  return !failed;
}

ms_status ms_cpu_neuron_grad(ms_stream *s, const ms_neuron_grad_args *g) {
  (void)s;
  const ms_neuron_args *f = &g->fwd;
  if (f->steps == 0 || f->n == 0)
    return MS_OK;
  ms_layer l = ms_layer_of(f);
  l.g = g;
  int sums = f->norm.a && (g->norm_training || g->dgamma || g->dbeta), twice = f->norm.a && g->norm_training && g->dy.p;
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
  if (!sweep_all(&l, FIRST | (sums ? SUMS : 0) | (twice ? 0 : EMIT), parts, dk))
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
  return twice && !sweep_all(&l, EMIT, NULL, dk) ? MS_EMEM : MS_OK;
}
