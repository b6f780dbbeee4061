/* Channels-last arrays cut into tiles, for the rows that carry one coefficient or one sum for each channel.
**
** A `row` is a whole number of pixels, so the pattern of channels is the same in every row: coefficients repeated over
** one row serve all of them, and loops run over long rows even where there are one or three channels. A tile is a part
** of a row that stays in the first-level cache; a chunk is a run of rows, the unit of work and of partial sums. Only
** the shape decides the cut. */
#ifndef MS_TILE_H
#define MS_TILE_H

#include "../kernels.h"
#include "bits.h"
#include "parallel.h"
#include <string.h>

#define MS_TILE 512
#define MS_LANES 64

typedef struct ms_tiling {
  int64_t n, c;      /* elements, channels */
  int64_t row;       /* elements of a row, a multiple of c */
  int64_t rows, per; /* rows in all, rows of a chunk */
  int64_t chunks;
} ms_tiling;

typedef struct ms_tile {
  int64_t r, end;         /* row of this tile, end of the chunk's rows */
  int64_t at, phase, len; /* first element, its place in the row, elements: 0 after the last tile */
} ms_tile;

/* The row is a multiple of MS_LANES where that does not make it long, so that no tile ends in a scalar remainder. */
static inline ms_tiling ms_tiling_of(int64_t n, int64_t c) {
  int64_t even = c & -c, unit = even < MS_LANES ? c * (MS_LANES / even) : c;
  if (unit > 8 * MS_TILE)
    unit = c;
  ms_tiling t = {.n = n, .c = c, .row = unit < MS_TILE ? MS_TILE / unit * unit : unit};
  t.rows = ms_ceil_div(n, t.row);
  int64_t most = ms_min64(64, ms_max64(4, (1 << 18) / t.row));
  t.chunks = ms_max64(1, ms_min64(most, t.rows / 8));
  t.per = ms_max64(1, ms_ceil_div(t.rows, t.chunks));
  t.chunks = ms_ceil_div(t.rows, t.per);
  return t;
}

static inline void ms_tile_place(const ms_tiling *t, ms_tile *k) {
  k->at = k->r * t->row + k->phase;
  k->len = k->r < k->end ? ms_max64(0, ms_min64(MS_TILE, ms_min64(t->row - k->phase, t->n - k->at))) : 0;
}

/* for (ms_tile k = ms_tile_first(&t, chunk); k.len; ms_tile_next(&t, &k)) */
static inline ms_tile ms_tile_first(const ms_tiling *t, int64_t chunk) {
  ms_tile k = {.r = chunk * t->per, .end = ms_min64(t->rows, (chunk + 1) * t->per)};
  ms_tile_place(t, &k);
  return k;
}

static inline void ms_tile_next(const ms_tiling *t, ms_tile *k) {
  k->phase += MS_TILE;
  if (k->phase >= t->row) {
    k->phase = 0;
    k->r++;
  }
  ms_tile_place(t, k);
}

/* Repeats x [c] over a row; NULL stands for `missing`. */
static inline void ms_tile_repeat(const ms_tiling *t, ms_real *row, const ms_real *x, ms_real missing) {
  for (int64_t j = 0; j < t->row; j++)
    row[j] = x ? x[j % t->c] : missing;
}

/* Adds what the chunks found, part [chunks][sums][row], into out [sums][c]. */
static inline void ms_tile_fold(const ms_tiling *t, const double *part, int64_t sums, double *out) {
  memset(out, 0, (size_t)(sums * t->c) * sizeof *out);
  for (int64_t k = 0; k < t->chunks * sums; k++)
    for (int64_t j = 0; j < t->row; j += t->c)
      for (int64_t ch = 0; ch < t->c; ch++)
        out[k % sums * t->c + ch] += part[k * t->row + j + ch];
}

/* len values of d from element `at` on: in place where the type allows, else converted into buf. */
MS_HD const ms_real *ms_tile_load(ms_data d, int64_t at, int64_t len, ms_real *buf) {
  if (d.dtype == MS_F32)
    return (const ms_real *)d.p + at;
  if (d.dtype == MS_BF16) {
    const ms_bf16 *x = (const ms_bf16 *)d.p + at;
    MS_SIMD for (int64_t j = 0; j < len; j++) buf[j] = ms_bf16_to(x[j]);
  } else if (d.dtype == MS_BITS) {
    MS_BITS_EXPAND(buf, (const uint8_t *)d.p, at, len, d.scale);
  } else if (d.dtype == MS_I64) {
    const int64_t *x = (const int64_t *)d.p + at;
    for (int64_t j = 0; j < len; j++)
      buf[j] = MS_R(x[j]);
  } else {
    const uint8_t *x = (const uint8_t *)d.p + at;
    ms_real scale = d.dtype == MS_SPIKE ? d.scale : MS_R(1);
    MS_SIMD for (int64_t j = 0; j < len; j++) buf[j] = x[j] * scale;
  }
  return buf;
}

/* Writing d (real or bfloat16) from element `at` on: fill what open returns, then close. */
MS_HD ms_real *ms_tile_open(ms_data d, int64_t at, ms_real *buf) {
  return d.dtype == MS_F32 ? (ms_real *)d.p + at : buf;
}

MS_HD void ms_tile_close(ms_data d, int64_t at, int64_t len, const ms_real *buf) {
  if (d.dtype == MS_F32)
    return;
  ms_bf16 *x = (ms_bf16 *)d.p + at;
  MS_SIMD for (int64_t j = 0; j < len; j++) x[j] = ms_bf16_from((float)buf[j]);
}

/* Backward of y = a * x + b, where a and b follow from the statistics of x:
**   xhat = (x - mean) * invstd,  dbeta = sum g,  dgamma = gain * sum g * xhat,
**   dx = a * (g - mean(g) - xhat * mean(g * xhat))
** Sums are taken of g * (x - mean): of g * x they would cancel. */
MS_HD void ms_norm_sums_row(int64_t len, const ms_real *g, const ms_real *x, const ms_real *mean, ms_real *sum_g,
                            ms_real *sum_gx) {
  MS_SIMD for (int64_t j = 0; j < len; j++) {
    sum_g[j] += g[j];
    sum_gx[j] = MS_FN(fma)(g[j], x[j] - mean[j], sum_gx[j]);
  }
}

MS_HD void ms_norm_dx_row(int64_t len, const ms_real *g, const ms_real *x, const ms_real *a, const ms_real *mean,
                          const ms_real *g_mean, const ms_real *gx_mean, ms_real *dx) {
  MS_SIMD for (int64_t j = 0; j < len; j++) dx[j] = a[j] * (g[j] - g_mean[j] - (x[j] - mean[j]) * gx_mean[j]);
}

/* From the folded sums [2][c]: dgamma and dbeta (each or NULL), and the two means of ms_norm_dx_row repeated over a
** row. n values stand behind each mean; dx gathers `times` of them (a static input). */
static inline void ms_norm_sums_finish(const ms_tiling *t, const double *sums, const ms_real *invstd, ms_real gain,
                                       double n, double times, ms_real *dgamma, ms_real *dbeta, ms_real *g_mean,
                                       ms_real *gx_mean) {
  for (int64_t ch = 0; ch < t->c; ch++) {
    double g = sums[ch], gx = sums[t->c + ch] * invstd[ch];
    if (dgamma)
      dgamma[ch] = MS_R(gain * gx);
    if (dbeta)
      dbeta[ch] = MS_R(g);
    for (int64_t j = ch; j < t->row; j += t->c) {
      g_mean[j] = MS_R(times * g / n);
      gx_mean[j] = MS_R(times * gx * invstd[ch] / n);
    }
  }
}

#endif
