/* Batch normalisation: statistics, application, gradient. */
#include "cpu.h"
#include "tile.h"

/* Rows whose statistics are taken at once, two-pass, while they are in the cache. */
#define BLOCK 16

/* Mean and sum of squared deviations of `count` values, and those of k more (Chan, Golub, LeVeque 1983). */
MS_HD void merge(double *mean, double *m2, double count, double k, double more_mean, double more_m2) {
  double d = more_mean - *mean, share = k / (count + k);
  *mean += d * share;
  *m2 += more_m2 + d * d * count * share;
}

/* Rows [r, r + k) at one phase: adds them to what `count` rows gave. The second pass also corrects the rounding of
** the mean. */
MS_HD void block_stats(const ms_norm *n, const ms_tiling *t, ms_tile k, int64_t rows, int64_t count, double *mean,
                       double *m2) {
  ms_real buf[MS_TILE], m[MS_TILE] = {0}, s1[MS_TILE] = {0}, s2[MS_TILE] = {0}, inv = 1 / MS_R(rows);
  for (int64_t r = 0; r < rows; r++) {
    const ms_real *x = ms_tile_load(n->x, k.at + r * t->row, k.len, buf);
    MS_SIMD for (int64_t j = 0; j < k.len; j++) m[j] += x[j];
  }
  MS_SIMD for (int64_t j = 0; j < k.len; j++) m[j] *= inv;
  for (int64_t r = 0; r < rows; r++) {
    const ms_real *x = ms_tile_load(n->x, k.at + r * t->row, k.len, buf);
    MS_SIMD for (int64_t j = 0; j < k.len; j++) {
      ms_real d = x[j] - m[j];
      s1[j] += d;
      s2[j] = MS_FN(fma)(d, d, s2[j]);
    }
  }
  double kd = (double)rows, before = (double)count;
  MS_SIMD for (int64_t j = 0; j < k.len; j++) {
    double d = s1[j] / kd;
    merge(&mean[k.phase + j], &m2[k.phase + j], before, kd, m[j] + d, s2[j] - d * s1[j]);
  }
}

/* mean and m2 [row] of a chunk. Only the array's last row can be shorter than the others; it is a block of its own. */
MS_HOT static void chunk_stats(const ms_norm *n, const ms_tiling *t, int64_t chunk, double *mean, double *m2) {
  int64_t begin = chunk * t->per, end = ms_min64(t->rows, begin + t->per), full = ms_min64(end, t->n / t->row);
  memset(mean, 0, (size_t)t->row * sizeof *mean);
  memset(m2, 0, (size_t)t->row * sizeof *m2);
  for (int64_t r = begin; r < end;) {
    int64_t rows = r < full ? ms_min64(BLOCK, full - r) : 1;
    for (ms_tile k = ms_tile_first(t, r * t->row, ms_min64(t->n, (r + 1) * t->row)); k.len; ms_tile_next(t, &k))
      block_stats(n, t, k, rows, r - begin, mean, m2);
    r += rows;
  }
}

/* Statistics of each channel from the chunks' partial ones [chunks][mean, m2][row], in order; variance biased. A row
** ends at a pixel, so that all channels count alike. */
MS_HOT static void all_stats(const ms_tiling *t, const double *part, double *mean, double *m2) {
  double count = 0;
  memset(mean, 0, (size_t)t->c * sizeof *mean);
  memset(m2, 0, (size_t)t->c * sizeof *m2);
  for (int64_t k = 0; k < t->chunks; k++) {
    int64_t n = ms_chunk_end(t, k) - ms_chunk_begin(t, k);
    for (int64_t j = 0; j < t->row && j < n; j += t->c) {
      const double *from = part + 2 * k * t->row + j;
      double more = (double)ms_ceil_div(n - j, t->row);
      MS_SIMD for (int64_t ch = 0; ch < t->c; ch++) merge(mean + ch, m2 + ch, count, more, from[ch], from[t->row + ch]);
      count += more;
    }
  }
}

ms_status ms_cpu_norm_stats(ms_stream *s, const ms_norm *n) {
  (void)s;
  if (n->rows == 0 || n->c == 0)
    return MS_OK;
  ms_tiling t = ms_tiling_of(n->rows * n->c, n->c);
  double *part = NULL, *all = NULL;
  if (n->training) {
    part = ms_cpu_scratch(0, (size_t)(2 * t.chunks * t.row + 2 * n->c) * sizeof *part);
    if (!part)
      return MS_EMEM;
    ms_parallel_for(k, t.chunks, t.per * t.row) chunk_stats(n, &t, k, part + 2 * k * t.row, part + (2 * k + 1) * t.row);
    all = part + 2 * t.chunks * t.row;
    all_stats(&t, part, all, all + n->c);
  }
  double count = (double)n->rows, seen = count * (double)n->repeat;
  for (int64_t ch = 0; ch < n->c; ch++) {
    double mean, var;
    if (n->training) {
      mean = all[ch];
      var = all[n->c + ch] / count;
      double unbiased = seen > 1 ? var * seen / (seen - 1) : var;
      if (n->running_mean)
        n->running_mean[ch] += n->momentum * MS_R(mean - n->running_mean[ch]);
      if (n->running_var)
        n->running_var[ch] += n->momentum * MS_R(unbiased - n->running_var[ch]);
    } else {
      mean = n->running_mean[ch];
      var = n->running_var[ch];
    }
    double invstd = 1 / sqrt(var + n->eps), a = n->gain * (n->gamma ? n->gamma[ch] : MS_R(1)) * invstd;
    n->mean[ch] = MS_R(mean);
    n->invstd[ch] = MS_R(invstd);
    n->a[ch] = MS_R(a);
    n->b[ch] = MS_R((n->beta ? n->beta[ch] : MS_R(0)) - mean * n->a[ch]);
  }
  if (n->training && n->batches)
    ++*n->batches;
  return MS_OK;
}

typedef struct apply_args {
  int64_t steps, x_step, r_step;
  ms_data x, r, y;
  const ms_real *a, *b; /* [row] or NULL */
  ms_tiling t;
} apply_args;

MS_HOT static void apply_chunk(const apply_args *p, int64_t chunk) {
  ms_real xbuf[MS_TILE], rbuf[MS_TILE], ybuf[MS_TILE];
  for (ms_tile k = ms_tile_first(&p->t, ms_chunk_begin(&p->t, chunk), ms_chunk_end(&p->t, chunk)); k.len;
       ms_tile_next(&p->t, &k))
    for (int64_t step = 0; step < p->steps; step++) {
      const ms_real *x = ms_tile_load(p->x, step * p->x_step + k.at, k.len, xbuf);
      ms_real *y = ms_tile_open(p->y, step * p->t.n + k.at, ybuf);
      if (p->a) {
        const ms_real *a = p->a + k.phase, *b = p->b + k.phase;
        MS_SIMD for (int64_t j = 0; j < k.len; j++) y[j] = MS_FN(fma)(a[j], x[j], b[j]);
      } else {
        memmove(y, x, (size_t)k.len * sizeof *y);
      }
      if (p->r.p) {
        const ms_real *r = ms_tile_load(p->r, step * p->r_step + k.at, k.len, rbuf);
        MS_SIMD for (int64_t j = 0; j < k.len; j++) y[j] += r[j];
      }
      ms_tile_close(p->y, step * p->t.n + k.at, k.len, y);
    }
}

ms_status ms_cpu_norm_apply(ms_stream *s, int64_t steps, int64_t rows, int64_t c, ms_data x, int64_t x_step,
                            ms_affine f, ms_data r, int64_t r_step, ms_data y) {
  (void)s;
  if (steps == 0 || rows == 0 || c == 0)
    return MS_OK;
  apply_args p = {steps, x_step, r_step, x, r, y, NULL, NULL, ms_tiling_of(rows * c, c)};
  if (f.a) {
    ms_real *row = ms_cpu_scratch(0, (size_t)(2 * p.t.row) * sizeof *row);
    if (!row)
      return MS_EMEM;
    ms_tile_repeat(&p.t, row, f.a, 1);
    ms_tile_repeat(&p.t, row + p.t.row, f.b, 0);
    p.a = row;
    p.b = row + p.t.row;
  }
  ms_parallel_for(k, p.t.chunks, p.t.per * p.t.row * steps) apply_chunk(&p, k);
  return MS_OK;
}

typedef struct grad_args {
  const ms_norm_grad *n;
  ms_tiling t;
  ms_real *a, *mean, *slope, *shift; /* [row] */
} grad_args;

/* Sums are float for at most about FEW terms. */
enum { FEW = 64 };

MS_HOT static int sums_chunk(const grad_args *p, int64_t chunk, double *part) {
  const ms_norm_grad *n = p->n;
  int64_t row = p->t.row, tiles = 0, most = ms_max64(1, FEW / n->repeat) * ms_ceil_div(row, MS_TILE);
  ms_real xbuf[MS_TILE], gbuf[MS_TILE], *sums = ms_cpu_scratch(1, (size_t)(2 * row) * sizeof *sums);
  if (!sums)
    return 0;
  memset(part, 0, (size_t)(2 * row) * sizeof *part);
  memset(sums, 0, (size_t)(2 * row) * sizeof *sums);
  ms_tile k = ms_tile_first(&p->t, ms_chunk_begin(&p->t, chunk), ms_chunk_end(&p->t, chunk));
  while (k.len) {
    ms_real *sum_g = sums + k.phase;
    const ms_real *x = ms_tile_load(n->x, k.at, k.len, xbuf);
    for (int64_t i = 0; i < n->repeat; i++)
      ms_norm_sums_row(k.len, ms_tile_load(n->g, i * p->t.n + k.at, k.len, gbuf), x, p->mean + k.phase, sum_g,
                       sum_g + row);
    ms_tile_next(&p->t, &k);
    if (++tiles % most == 0 || !k.len) {
      MS_SIMD for (int64_t j = 0; j < 2 * row; j++) part[j] += sums[j];
      memset(sums, 0, (size_t)(2 * row) * sizeof *sums);
    }
  }
  return 1;
}

MS_HOT static void dx_chunk(const grad_args *p, int64_t chunk) {
  const ms_norm_grad *n = p->n;
  ms_real xbuf[MS_TILE], gbuf[MS_TILE], dbuf[MS_TILE], total[MS_TILE];
  for (ms_tile k = ms_tile_first(&p->t, ms_chunk_begin(&p->t, chunk), ms_chunk_end(&p->t, chunk)); k.len;
       ms_tile_next(&p->t, &k)) {
    const ms_real *g = ms_tile_load(n->g, k.at, k.len, gbuf), *a = p->a + k.phase;
    if (n->repeat > 1) {
      memcpy(total, g, (size_t)k.len * sizeof *g);
      for (int64_t i = 1; i < n->repeat; i++) {
        g = ms_tile_load(n->g, i * p->t.n + k.at, k.len, gbuf);
        MS_SIMD for (int64_t j = 0; j < k.len; j++) total[j] += g[j];
      }
      g = total;
    }
    ms_real *dx = ms_tile_open(n->dx, k.at, dbuf);
    if (n->training)
      ms_norm_dx_row(k.len, g, ms_tile_load(n->x, k.at, k.len, xbuf), a, p->mean + k.phase, p->slope + k.phase,
                     p->shift + k.phase, dx);
    else {
      MS_SIMD for (int64_t j = 0; j < k.len; j++) dx[j] = a[j] * g[j];
    }
    ms_tile_close(n->dx, k.at, k.len, dx);
  }
}

ms_status ms_cpu_norm_grad(ms_stream *s, const ms_norm_grad *n) {
  (void)s;
  if (n->rows == 0 || n->c == 0 || n->repeat == 0)
    return MS_OK;
  grad_args p = {.n = n, .t = ms_tiling_of(n->rows * n->c, n->c)};
  int64_t row = p.t.row, parts = 2 * p.t.chunks * row;
  double *part = ms_cpu_scratch(0, (size_t)(parts + 2 * n->c) * sizeof *part + (size_t)(4 * row) * sizeof(ms_real));
  if (!part)
    return MS_EMEM;
  double *sums = part + parts;
  p.a = (ms_real *)(sums + 2 * n->c);
  p.mean = p.a + row;
  p.slope = p.mean + row;
  p.shift = p.slope + row;
  ms_tile_repeat(&p.t, p.mean, n->mean, 0);
  for (int64_t j = 0; j < row; j++)
    p.a[j] = n->gain * (n->gamma ? n->gamma[j % n->c] : MS_R(1)) * n->invstd[j % n->c];
  if (n->training || n->dgamma || n->dbeta) {
    int failed = 0;
    ms_parallel_for(k, p.t.chunks, p.t.per * row * n->repeat) {
      if (!sums_chunk(&p, k, part + 2 * k * row)) {
#pragma omp atomic write
        failed = 1;
      }
    }
    if (failed)
      return MS_EMEM;
    ms_tile_fold(&p.t, part, 2, sums);
    ms_norm_sums_finish(&p.t, sums, n->invstd, n->gain, (double)(n->rows * n->repeat), (double)n->repeat, n->dgamma,
                        n->dbeta, p.a, p.slope, p.shift);
  }
  if (n->dx.p) {
    ms_parallel_for(k, p.t.chunks, p.t.per * row * n->repeat) dx_chunk(&p, k);
  }
  return MS_OK;
}
