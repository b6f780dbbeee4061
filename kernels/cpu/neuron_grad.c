/* Spiking neurons over T steps, backward. A tile's membranes are computed anew from y and stay in the cache while the
** steps are walked back. Through the statistics of a normalisation dy needs sums over the whole batch: the tiles are
** then walked twice, which costs less memory traffic than writing the gradient between the sweeps. */
#include "cpu.h"
#include "neuron_step.h"

/* What a sweep over the tiles makes. */
enum { SUMS = 1, EMIT = 2, FIRST = 4 };

/* What is made of d = gain * dL/dh of one step while it is in a register. */
typedef enum use {
  KEEP_D, /* d itself, for all that is rare */
  ADD_UP, /* the normalisation's sums */
  GIVE,   /* dy through the normalisation's statistics */
  GIVE_2  /* dy, and d as dr */
} use;

/* A place for results of either type; the one not in use is NULL. */
typedef struct place {
  ms_real *real;
  ms_bf16 *half;
} place;

MS_HD place place_of(ms_data d, int64_t at) {
  place p = {d.dtype == MS_F32 ? (ms_real *)d.p + at : NULL, d.dtype == MS_BF16 ? (ms_bf16 *)d.p + at : NULL};
  return p;
}

/* Where the loop writes a result: in place, or into buf when it is then passed on. */
MS_HD place result_row(const ms_layer *l, ms_data d, int64_t at, void *buf) {
  ms_data passing = {buf, d.dtype, 1};
  return l->past ? place_of(passing, 0) : place_of(d, at);
}

/* dL/ds of one step; with pooling a quarter of dL/dpooled for each spike of a window. */
MS_HD place spike_row(const ms_layer *l, const ms_tile *k, int64_t step, ms_real *buf) {
  const ms_neuron_grad_args *g = l->g;
  int64_t c = l->f->c, w = l->f->pool_w, run;
  ms_real part[MS_TILE];
  if (!l->f->pool_h) {
    if (step >= MS_AHEAD)
      ms_tile_ahead(g->gs, (step - MS_AHEAD) * g->gs_step + k->at, k->len);
    return place_of(g->gs, step * g->gs_step + k->at);
  }
  for (int64_t j = 0; j < k->len; j += run) {
    int64_t pixel = (k->at + j) / c, ch = (k->at + j) % c, line = pixel / w, x = pixel % w;
    run = ms_min64(c - ch, k->len - j);
    const ms_real *from = ms_tile_load(g->gs, step * g->gs_step + (line / 2 * (w / 2) + x / 2) * c + ch, run, part);
    MS_SIMD for (int64_t i = 0; i < run; i++) buf[j + i] = from[i] / 4;
  }
  return (place){.real = buf};
}

typedef struct step_rows {
  const ms_real *h, *given, *y; /* membranes, surrogate's derivative, input */
  place gs;
  const ms_real *a, *mean, *slope, *shift;
  ms_real gain, *gv; /* gv goes from dL/dv[t] to dL/dv[t - 1] */
  ms_real *sum_g, *sum_gx, *d;
  place dy, dr;
} step_rows;

/* kind, use, and which of the types are bfloat16 are constants of each copy; kind below 0: the surrogate's derivative
** is given. */
MS_HD void back_loop(ms_switched q, int kind, use to, int half_gs, int half_out, int64_t len, step_rows p) {
  const ms_real *h = p.h, *given = p.given, *y = p.y, *gs = p.gs.real, *a = p.a, *mean = p.mean, *slope = p.slope,
                *shift = p.shift;
  const ms_bf16 *gs_half = p.gs.half;
  ms_real *restrict gv = p.gv, *restrict sum_g = p.sum_g, *restrict sum_gx = p.sum_gx, *restrict out = p.d,
                    *restrict dy = p.dy.real, *restrict dr = p.dr.real, gain = p.gain;
  ms_bf16 *restrict dy_half = p.dy.half, *restrict dr_half = p.dr.half;
  MS_SIMD for (int64_t j = 0; j < len; j++) {
    ms_real u = h[j], sur = kind < 0 ? given[j] : ms_surrogate_grad(kind, u - q.p.threshold, q.p.alpha);
    ms_real dh = ms_switched_dh(&q, u, sur, half_gs ? (ms_real)ms_bf16_to(gs_half[j]) : gs[j], gv[j]), d = gain * dh;
    gv[j] = q.p.leak * dh;
    if (to == KEEP_D)
      out[j] = d;
    if (to == ADD_UP) {
      sum_g[j] += d;
      sum_gx[j] = MS_FN(fma)(d, y[j] - mean[j], sum_gx[j]);
    }
    if (to == GIVE || to == GIVE_2) {
      ms_real x = ms_norm_dx(d, y[j], a[j], mean[j], slope[j], shift[j]);
      if (half_out)
        dy_half[j] = ms_bf16_from((float)x);
      else
        dy[j] = x;
    }
    if (to == GIVE_2) {
      if (half_out)
        dr_half[j] = ms_bf16_from((float)d);
      else
        dr[j] = d;
    }
  }
}

MS_HD void back_kind(const ms_layer *l, int kind, use to, int64_t len, const step_rows *p) {
#define BACK(use_, gs_, out_)                        \
  case use_ * 4 + gs_ * 2 + out_:                    \
    back_loop(l->q, kind, use_, gs_, out_, len, *p); \
    break;
  switch ((int)to * 4 + (p->gs.half ? 2 : 0) + (p->dy.half ? 1 : 0)) {
    BACK(KEEP_D, 0, 0)
    BACK(KEEP_D, 1, 0)
    BACK(ADD_UP, 0, 0)
    BACK(ADD_UP, 1, 0)
    BACK(GIVE, 0, 0)
    BACK(GIVE, 0, 1)
    BACK(GIVE, 1, 0)
    BACK(GIVE, 1, 1)
    BACK(GIVE_2, 0, 0)
    BACK(GIVE_2, 0, 1)
    BACK(GIVE_2, 1, 0)
    BACK(GIVE_2, 1, 1)
  }
#undef BACK
}

/* Surrogates of a few instructions are part of the loop, each with copies of its own; the others are a row before it. */
#define BRIEF(kind) ((kind) == MS_SURROGATE_TRIANGLE || (kind) == MS_SURROGATE_RECTANGLE)

MS_HD void back_row(const ms_layer *l, use to, int64_t len, step_rows p) {
  ms_real sur[MS_TILE];
  const ms_real *h = p.h, threshold = l->p.threshold, alpha = l->p.alpha;
  switch (p.given ? -1 : l->p.surrogate) {
#define MS_SURROGATE(name, text, width)                                  \
  case MS_SURROGATE_##name:                                              \
    if (BRIEF(MS_SURROGATE_##name)) {                                    \
      back_kind(l, MS_SURROGATE_##name, to, len, &p);                    \
      return;                                                            \
    }                                                                    \
    MS_SIMD for (int64_t j = 0; j < len; j++) sur[j] =                   \
        ms_surrogate_grad(MS_SURROGATE_##name, h[j] - threshold, alpha); \
    p.given = sur;                                                       \
    break;
#include "../surrogate.def"
#undef MS_SURROGATE
  }
  back_kind(l, -1, to, len, &p);
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
MS_HD void put_row(const ms_layer *l, ms_data out, int64_t at, int64_t len, const ms_real *d) {
  if (out.dtype == MS_F32 && l->past)
    ms_tile_pass(out, at, len, d);
  else if (out.dtype == MS_F32)
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
                   l->slope + k->phase, l->shift + k->phase, o);
    ms_tile_close(dy, at, k->len, o);
  } else if (l->a) {
    const ms_real *a = l->a + k->phase;
    MS_SIMD for (int64_t j = 0; j < k->len; j++) o[j] = a[j] * d[j];
    ms_tile_close(dy, at, k->len, o);
  } else if (o != d) {
    put_row(l, dy, at, k->len, d);
  }
}

/* Steps T - 1 .. 0 of a tile whose membranes h [T][MS_TILE] and inputs y [T] are known; returns the tile's part of
** PLIF's sum. sums [2][row] collects what the normalisation needs. */
MS_HD double backward_tile(const ms_layer *l, const ms_tile *k, int sweep, const ms_real *hs, const ms_real **ys,
                           ms_real *sums) {
  const ms_neuron_args *f = l->f;
  const ms_neuron_grad_args *g = l->g;
  int emits = sweep & EMIT, gathers = emits && ((g->dy.p && !f->y_step) || (g->dr.p && !f->r_step));
  int in_place = emits && g->dy.p && g->dy.dtype == MS_F32 && f->y_step && !l->a && !l->past,
      plif = g->dw && sweep & FIRST;
  int sums_only = sweep & SUMS && !emits && !plif;
  int gives = emits && !(sweep & SUMS) && l->a && g->norm_training && g->dy.p && f->y_step && !plif &&
              (!g->dr.p || (f->r_step && g->dr.dtype == g->dy.dtype));
  use to = sums_only ? ADD_UP : gives ? g->dr.p ? GIVE_2 : GIVE : KEEP_D;
  ms_real gv[MS_TILE], gsbuf[MS_TILE], dbuf[MS_TILE], total[MS_TILE], gain = l->p.gain;
  char passing[2][MS_TILE * sizeof(ms_real)];
  double dk = 0;
  step_rows p = {.gv = gv, .gain = plif ? MS_R(1) : gain, .gs.real = gsbuf};
  if (l->a) {
    p.a = l->a + k->phase;
    p.mean = l->mean + k->phase;
    p.slope = l->slope + k->phase;
    p.shift = l->shift + k->phase;
  }
  if (sweep & SUMS) {
    p.sum_g = sums + k->phase;
    p.sum_gx = p.sum_g + l->t.row;
  }
  if (!g->gs.p)
    memset(gsbuf, 0, sizeof gsbuf);
  if (gathers)
    memset(total, 0, sizeof total);
  if (g->gv)
    memcpy(gv, g->gv + k->at, (size_t)k->len * sizeof *gv);
  else
    memset(gv, 0, (size_t)k->len * sizeof *gv);
  for (int64_t step = f->steps - 1; step >= 0; step--) {
    ms_real *d = in_place ? (ms_real *)g->dy.p + step * f->n + k->at : dbuf;
    p.h = hs + step * MS_TILE;
    p.given = g->surrogate ? g->surrogate + step * f->n + k->at : NULL;
    p.y = ys[step];
    p.d = d;
    if (g->gs.p)
      p.gs = spike_row(l, k, step, gsbuf);
    if (gives) {
      p.dy = result_row(l, g->dy, step * f->y_step + k->at, passing[0]);
      p.dr = result_row(l, g->dr, step * f->r_step + k->at, passing[1]);
    }
    back_row(l, to, k->len, p);
    if (gives && l->past) {
      ms_tile_pass(g->dy, step * f->y_step + k->at, k->len, passing[0]);
      if (g->dr.p)
        ms_tile_pass(g->dr, step * f->r_step + k->at, k->len, passing[1]);
    }
    if (to != KEEP_D)
      continue;
    if (plif) {
      dk += plif_row(l, k, step, p.h, d);
      MS_SIMD for (int64_t j = 0; j < k->len; j++) d[j] *= gain;
    }
    if (sweep & SUMS)
      ms_norm_sums_row(k->len, d, p.y, p.mean, p.sum_g, p.sum_gx);
    if (gathers) {
      MS_SIMD for (int64_t j = 0; j < k->len; j++) total[j] += d[j];
    }
    if (emits && g->dr.p && f->r_step)
      put_row(l, g->dr, step * f->r_step + k->at, k->len, d);
    if (emits && g->dy.p && f->y_step)
      emit_dy(l, k, step * f->y_step + k->at, d);
  }
  if (emits && g->dr.p && !f->r_step)
    put_row(l, g->dr, k->at, k->len, total);
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
  int wide = l->f->y.dtype == MS_F32;
  ms_real v[MS_TILE], *hs = ms_cpu_scratch(1, (size_t)((wide ? 1 : 2) * steps * MS_TILE + 2 * row) * sizeof *hs +
                                                  (size_t)steps * sizeof(ms_real *));
  if (!hs)
    return 0;
  const ms_real **ys = (const ms_real **)hs;
  hs = (ms_real *)(ys + steps);
  ms_real *sums = hs + steps * MS_TILE, *keep = sums + 2 * row;
  if (sweep & SUMS) {
    memset(part, 0, (size_t)(2 * row) * sizeof *part);
    memset(sums, 0, (size_t)(2 * row) * sizeof *sums);
  }
  double sum = 0;
  ms_tile k = ms_tile_first(&l->t, ms_chunk_begin(&l->t, chunk), ms_chunk_end(&l->t, chunk));
  while (k.len) {
    for (int64_t step = ms_max64(0, steps - MS_AHEAD); step < steps && !l->f->pool_h; step++)
      ms_tile_ahead(l->g->gs, step * l->g->gs_step + k.at, k.len);
    ms_first_row(l, &k, v);
    for (int64_t step = 0; step < steps; step++)
      ys[step] =
          ms_step_row(l, &k, step, MS_STEP_KEEP, v, hs + step * MS_TILE, NULL, wide ? NULL : keep + step * MS_TILE);
    sum += backward_tile(l, &k, sweep, hs, ys, sums);
    ms_tile_next(&l->t, &k);
    if (sweep & SUMS && (++tiles % most == 0 || !k.len)) {
      MS_SIMD for (int64_t j = 0; j < 2 * row; j++) part[j] += sums[j];
      memset(sums, 0, (size_t)(2 * row) * sizeof *sums);
    }
  }
  if (sweep & FIRST)
    *dk = sum;
  if (l->past)
    ms_tile_passed();
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
  l.past = ms_tile_passes(f->steps * f->n * (g->dy.dtype == MS_BF16 ? 2 : (int64_t)sizeof(ms_real)));
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
    l.slope = rows + 3 * row;
    l.shift = rows + 4 * row;
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
                        g->dbeta, l.a, l.slope, l.shift);
  }
  return twice && !sweep_all(&l, EMIT, NULL, dk) ? MS_EMEM : MS_OK;
}
