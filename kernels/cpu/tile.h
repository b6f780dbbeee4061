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
#ifdef MS_ISA_LEVELS
#include <immintrin.h>
#endif

#define MS_TILE 256
#define MS_LANES 64

typedef struct ms_tiling {
  int64_t n, c;         /* elements, channels */
  int64_t row;          /* elements of a row, a multiple of c */
  int64_t rows, per;    /* rows in all, rows of a chunk */
  int64_t chunks, span; /* chunks in all, elements of each but the last */
} ms_tiling;

typedef struct ms_tile {
  int64_t at, end;    /* first element, end of the run that is cut into tiles */
  int64_t phase, len; /* place in the row, elements: 0 after the last tile */
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
  t.span = t.per * t.row;
  return t;
}

/* The tiles of elements [begin, end), begin a multiple of c: the row starts there.
**   for (ms_tile k = ms_tile_first(&t, begin, end); k.len; ms_tile_next(&t, &k)) */
static inline ms_tile ms_tile_first(const ms_tiling *t, int64_t begin, int64_t end) {
  ms_tile k = {.at = begin, .end = end, .len = ms_max64(0, ms_min64(MS_TILE, ms_min64(t->row, end - begin)))};
  return k;
}

static inline void ms_tile_next(const ms_tiling *t, ms_tile *k) {
  k->at += k->len;
  k->phase += k->len;
  if (k->phase >= t->row)
    k->phase = 0;
  k->len = ms_min64(MS_TILE, ms_min64(t->row - k->phase, k->end - k->at));
}

/* The elements [begin, end) of a chunk. */
static inline int64_t ms_chunk_begin(const ms_tiling *t, int64_t chunk) {
  return chunk * t->span;
}
static inline int64_t ms_chunk_end(const ms_tiling *t, int64_t chunk) {
  return ms_min64(t->n, (chunk + 1) * t->span);
}

/* Repeats x [c] over a row; NULL stands for `missing`. */
static inline void ms_tile_repeat(const ms_tiling *t, ms_real *row, const ms_real *x, ms_real missing) {
  for (int64_t j = 0; j < t->row; j += t->c)
    for (int64_t ch = 0; ch < t->c; ch++)
      row[j + ch] = x ? x[ch] : missing;
}

/* Adds what the chunks found, part [chunks][sums][row], into out [sums][c]. */
static inline void ms_tile_fold(const ms_tiling *t, const double *part, int64_t sums, double *out) {
  memset(out, 0, (size_t)(sums * t->c) * sizeof *out);
  for (int64_t k = 0; k < t->chunks * sums; k++)
    for (int64_t j = 0; j < t->row; j += t->c)
      for (int64_t ch = 0; ch < t->c; ch++)
        out[k % sums * t->c + ch] += part[k * t->row + j + ch];
}

/* Bytes that are zero or one into bits, and back into bytes that are zero or not; len is a multiple of 8. A word of
** eight bytes becomes one. */
MS_HD void ms_bits_pack(uint8_t *bits, const uint8_t *bytes, int64_t len) {
  MS_SIMD for (int64_t i = 0; i < len / 8; i++) {
    uint64_t x;
    memcpy(&x, bytes + 8 * i, 8);
    x |= x >> 7;
    x |= x >> 14;
    x |= x >> 28;
    bits[i] = (uint8_t)x;
  }
}

MS_HD void ms_bits_spread(uint8_t *bytes, const uint8_t *bits, int64_t len) {
  MS_SIMD for (int64_t i = 0; i < len / 8; i++) {
    uint64_t x = (bits[i] * UINT64_C(0x0101010101010101)) & UINT64_C(0x8040201008040201);
    memcpy(bytes + 8 * i, &x, 8);
  }
}

/* Asks for `len` values of d from element `at` on ahead of their use: tiles jump between steps, which the hardware does
** not foresee. It may lie past the end of the array. */
MS_HD void ms_tile_ahead(ms_data d, int64_t at, int64_t len) {
  int64_t width = d.dtype == MS_F32 ? (int64_t)sizeof(ms_real) : d.dtype == MS_BF16 ? 2 : 1;
  const char *p = (const char *)d.p + at * width;
  if (d.dtype == MS_BITS)
    return;
  for (int64_t i = 0; i < len * width; i += 64)
    __builtin_prefetch(p + i);
}

/* len values of d from element `at` on: in place where the type allows, else converted into buf. Bits come at most
** MS_TILE at once. */
MS_HD const ms_real *ms_tile_load(ms_data d, int64_t at, int64_t len, ms_real *buf) {
  if (d.dtype == MS_F32)
    return (const ms_real *)d.p + at;
  if (d.dtype == MS_BF16) {
    const ms_bf16 *x = (const ms_bf16 *)d.p + at;
    MS_SIMD for (int64_t j = 0; j < len; j++) buf[j] = ms_bf16_to(x[j]);
  } else if (d.dtype == MS_BITS) {
    if (at % 8 || len % 8) {
      MS_BITS_EXPAND(buf, (const uint8_t *)d.p, at, len, d.scale);
    } else {
      uint8_t bytes[MS_TILE];
      ms_bits_spread(bytes, (const uint8_t *)d.p + at / 8, len);
      ms_real one = d.scale;
      MS_SIMD for (int64_t j = 0; j < len; j++) buf[j] = bytes[j] ? one : 0;
    }
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

/* A result of so many bytes is written past the caches: little of it would be left there for its reader, and a line
** that is stored whole need not be read before. */
#ifdef __SANITIZE_ADDRESS__ /* so that every test takes this way */
#define MS_PAST_CACHES (INT64_C(16) << 10)
#else
#define MS_PAST_CACHES (INT64_C(16) << 20)
#endif

/* A row of such a result. A line goes by one instruction: narrower ones gain nothing. */
#ifdef MS_ISA_LEVELS
MS_TARGET_AVX512 static void ms_tile_pass_lines(char *to, const char *from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64)
    _mm512_stream_si512((__m512i *)(to + i), _mm512_loadu_si512(from + i));
}
#endif

MS_HD void ms_tile_pass(ms_data d, int64_t at, int64_t len, const void *from) {
  int64_t width = d.dtype == MS_F32 ? (int64_t)sizeof(ms_real) : 2, bytes = len * width;
  char *to = (char *)d.p + at * width;
#ifdef MS_ISA_LEVELS
  if ((uintptr_t)to % 64 == 0 && bytes % 64 == 0) {
    ms_tile_pass_lines(to, from, bytes);
    return;
  }
#endif
  memcpy(to, from, (size_t)bytes);
}

/* Whether a result of so many bytes is passed. Every chunk ends with ms_tile_passed: other threads see its rows then. */
static inline int ms_tile_passes(int64_t bytes) {
  return bytes >= MS_PAST_CACHES && ms_cpu_isa() == MS_ISA_AVX512;
}

static inline void ms_tile_passed(void) {
#ifdef MS_ISA_LEVELS
  _mm_sfence();
#endif
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

/* As above with slope = -a * mean(g * xhat) * invstd and shift = -a * mean(g). */
MS_HD ms_real ms_norm_dx(ms_real g, ms_real x, ms_real a, ms_real mean, ms_real slope, ms_real shift) {
  return MS_FN(fma)(a, g, MS_FN(fma)(slope, x - mean, shift));
}

MS_HD void ms_norm_dx_row(int64_t len, const ms_real *g, const ms_real *x, const ms_real *a, const ms_real *mean,
                          const ms_real *slope, const ms_real *shift, ms_real *dx) {
  MS_SIMD for (int64_t j = 0; j < len; j++) dx[j] = ms_norm_dx(g[j], x[j], a[j], mean[j], slope[j], shift[j]);
}

/* From the folded sums [2][c]: dgamma and dbeta (each or NULL), and slope and shift of ms_norm_dx repeated over a
** row. n values stand behind each mean; dx gathers `times` of them (a static input). */
static inline void ms_norm_sums_finish(const ms_tiling *t, const double *sums, const ms_real *invstd, ms_real gain,
                                       double n, double times, ms_real *dgamma, ms_real *dbeta, const ms_real *a,
                                       ms_real *slope, ms_real *shift) {
  for (int64_t ch = 0; ch < t->c; ch++) {
    double g = sums[ch], gx = sums[t->c + ch] * invstd[ch];
    if (dgamma)
      dgamma[ch] = MS_R(gain * gx);
    if (dbeta)
      dbeta[ch] = MS_R(g);
    for (int64_t j = ch; j < t->row; j += t->c) {
      slope[j] = MS_R(-a[j] * (times * gx * invstd[ch] / n));
      shift[j] = MS_R(-a[j] * (times * g / n));
    }
  }
}

#endif
