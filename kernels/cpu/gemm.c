/* Blocked matrix product; see gemm.h. */
#include "gemm.h"
#include "cpu.h"

/* ---- micro kernel ---- */

/* rows x two vectors of C stay in registers while k runs; a value of A is broadcast, a pair of vectors of B loaded.
** A transposed A is walked with a pitch that the hardware does not foresee, hence the prefetch. */
#define MS_MICRO(isa, target, bytes, most)                                                                        \
  typedef ms_real vec_##isa __attribute__((vector_size(bytes), aligned(sizeof(ms_real)), may_alias));             \
  enum { lanes_##isa = (bytes) / (int)sizeof(ms_real) };                                                          \
  target MS_FUSED static inline __attribute__((always_inline)) void micro_##isa(                                  \
      int rows, int64_t k, const ms_real *restrict a, int64_t a_row, int64_t a_col, const ms_real *restrict b,    \
      ms_real *restrict c, int fresh) {                                                                           \
    vec_##isa acc[most][2];                                                                                       \
    _Pragma("GCC unroll 12") for (int r = 0; r < rows; r++) {                                                     \
      acc[r][0] = fresh ? (vec_##isa){0} : *(vec_##isa *)(c + r * MS_NR);                                         \
      acc[r][1] = fresh ? (vec_##isa){0} : *(vec_##isa *)(c + r * MS_NR + lanes_##isa);                           \
    }                                                                                                             \
    for (int64_t p = 0; p < k; p++) {                                                                             \
      if (a_row == 1)                                                                                             \
        __builtin_prefetch(a + (p + 8) * a_col);                                                                  \
      vec_##isa b0 = *(const vec_##isa *)(b + p * MS_NR), b1 = *(const vec_##isa *)(b + p * MS_NR + lanes_##isa); \
      _Pragma("GCC unroll 12") for (int r = 0; r < rows; r++) {                                                   \
        ms_real x = a[p * a_col + r * a_row];                                                                     \
        acc[r][0] += x * b0;                                                                                      \
        acc[r][1] += x * b1;                                                                                      \
      }                                                                                                           \
    }                                                                                                             \
    _Pragma("GCC unroll 12") for (int r = 0; r < rows; r++) {                                                     \
      *(vec_##isa *)(c + r * MS_NR) = acc[r][0];                                                                  \
      *(vec_##isa *)(c + r * MS_NR + lanes_##isa) = acc[r][1];                                                    \
    }                                                                                                             \
  }                                                                                                               \
  target MS_FUSED static void tile_##isa(int transposed, int rows, int cols, int64_t k, const ms_real *a,         \
                                         const ms_real *b, ms_real *c, int fresh) {                               \
    for (int j = 0; j < cols; j += 2 * lanes_##isa) {                                                             \
      int r = 0;                                                                                                  \
      if (transposed) {                                                                                           \
        for (; rows - r >= most; r += most)                                                                       \
          micro_##isa(most, k, a + r, 1, MS_APITCH, b + j, c + r * MS_NR + j, fresh);                             \
        for (; rows - r >= 4; r += 4)                                                                             \
          micro_##isa(4, k, a + r, 1, MS_APITCH, b + j, c + r * MS_NR + j, fresh);                                \
        for (; r < rows; r++)                                                                                     \
          micro_##isa(1, k, a + r, 1, MS_APITCH, b + j, c + r * MS_NR + j, fresh);                                \
      } else {                                                                                                    \
        for (; rows - r >= most; r += most)                                                                       \
          micro_##isa(most, k, a + r * MS_APITCH, MS_APITCH, 1, b + j, c + r * MS_NR + j, fresh);                 \
        for (; rows - r >= 4; r += 4)                                                                             \
          micro_##isa(4, k, a + r * MS_APITCH, MS_APITCH, 1, b + j, c + r * MS_NR + j, fresh);                    \
        for (; r < rows; r++)                                                                                     \
          micro_##isa(1, k, a + r * MS_APITCH, MS_APITCH, 1, b + j, c + r * MS_NR + j, fresh);                    \
      }                                                                                                           \
    }                                                                                                             \
  }

typedef void (*tile_fn)(int transposed, int rows, int cols, int64_t k, const ms_real *a, const ms_real *b, ms_real *c,
                        int fresh);

MS_MICRO(base, , 16, 6)
#ifdef MS_ISA_LEVELS
MS_MICRO(avx2, MS_TARGET_AVX2, 32, 6)
MS_MICRO(avx512, MS_TARGET_AVX512, 64, 12)
#endif

static tile_fn best_tile(void) {
#ifdef MS_ISA_LEVELS
  static const tile_fn tiles[] = {tile_base, tile_avx2, tile_avx512};
  return tiles[ms_cpu_isa()];
#else
  return tile_base;
#endif
}

/* ---- blocks ---- */

enum { MC = 48, MC_STREAMED = 384, LEAST_STRIP = 96, NC = 12 * MS_NR, KEPT_B = 640 * 1024 / (int)sizeof(ms_real) };

/* How one product is cut. A strip is some rows by nc columns, worked on by one thread; where the strip's part of B is
** small it is packed once for all its row blocks. */
typedef struct ms_cut {
  int64_t kc, mc, nc, strip;
  int64_t nstrips, nn; /* tasks are [batch][nn][nstrips] */
  int keep_b;
  tile_fn tile;
} ms_cut;

static int64_t round_up(int64_t x, int64_t to) {
  return ms_ceil_div(x, to) * to;
}

/* Halves of a strip cost packing, idle threads cost more: at least four tasks a thread where the sizes allow it. */
static ms_cut cut_product(const ms_product *p) {
  ms_cut c = {.tile = best_tile()};
  int64_t want = ms_ceil_div(4 * ms_cpu_threads(), p->batch);
  c.kc = ms_ceil_div(p->k, ms_max64(ms_ceil_div(p->k, MS_KC), 1));
  c.nc = round_up(ms_ceil_div(p->n, ms_ceil_div(p->n, NC)), MS_NR);
  c.strip = ms_max64(round_up(ms_ceil_div(p->m, ms_ceil_div(want, ms_ceil_div(p->n, c.nc))), MS_MR), LEAST_STRIP);
  c.nstrips = ms_ceil_div(p->m, c.strip);
  int64_t narrow = round_up(ms_ceil_div(p->n, ms_ceil_div(want, c.nstrips)), MS_NR);
  c.nc = ms_min64(c.nc, ms_max64(narrow, 2 * MS_NR));
  c.nn = ms_ceil_div(p->n, c.nc);
  c.keep_b = p->k * c.nc <= KEPT_B;
  int64_t rows = ms_min64(c.strip, p->m), most = p->a_transposed ? MS_KC / MS_MR * MS_MR : c.keep_b ? MC : MC_STREAMED;
  c.mc = round_up(ms_ceil_div(rows, ms_ceil_div(rows, most)), MS_MR);
  return c;
}

typedef struct ms_room {
  ms_real *a, *b, *c;
} ms_room;

static int take_room(const ms_product *p, const ms_cut *cut, ms_room *room) {
  int64_t a = (p->a_transposed ? cut->kc : cut->mc) * MS_APITCH;
  int64_t b = (cut->keep_b ? p->k : cut->kc) * cut->nc;
  int64_t c = p->k > cut->kc ? cut->mc * cut->nc : MS_MR * MS_NR;
  a = round_up(a, MS_NR);
  b = round_up(b, MS_NR);
  room->a = ms_cpu_scratch(1, (size_t)(a + b + c) * sizeof(ms_real));
  if (!room->a)
    return 0;
  room->b = room->a + a;
  room->c = room->b + b;
  return 1;
}

/* The columns that fill up the last panel are zeroed: whatever lay there could be slow to multiply. */
static void pack_b(const ms_product *p, int64_t batch, ms_real *to, int64_t k0, int64_t kn, int64_t j, int64_t cols) {
  ms_panels panels = {to, MS_NR, kn * MS_NR};
  p->pack_b(p, batch, panels, k0, kn, j, cols);
  int64_t used = cols % MS_NR;
  ms_real *last = to + cols / MS_NR * panels.pitch;
  if (used)
    for (int64_t r = 0; r < kn; r++)
      memset(last + r * MS_NR + used, 0, (size_t)(MS_NR - used) * sizeof *last);
}

static void pack_a(const ms_product *p, int64_t batch, ms_real *to, int64_t i, int64_t rows, int64_t k0, int64_t kn) {
  ms_panels panel = {to, MS_APITCH, 0};
  if (p->a_transposed)
    p->pack_a(p, batch, panel, k0, kn, i, rows);
  else
    p->pack_a(p, batch, panel, i, rows, k0, kn);
}

/* One block of rows: all of k, then every tile is stored while it is still near. */
static void run_block(const ms_product *p, const ms_cut *cut, const ms_room *room, int64_t batch, int64_t i,
                      int64_t rows, int64_t j, int64_t cols) {
  int64_t k0 = 0;
  do {
    int64_t kn = ms_min64(cut->kc, p->k - k0);
    int first = k0 == 0, last = k0 + kn == p->k;
    ms_real *b = room->b + (cut->keep_b ? k0 * cut->nc : 0);
    if (kn > 0)
      pack_a(p, batch, room->a, i, rows, k0, kn);
    if (kn > 0 && !cut->keep_b)
      pack_b(p, batch, b, k0, kn, j, cols);
    for (int64_t jj = 0; jj < cols; jj += MS_NR)
      for (int64_t ii = 0; ii < rows; ii += MS_MR) {
        int r = (int)ms_min64(MS_MR, rows - ii), n = (int)ms_min64(MS_NR, cols - jj);
        ms_real *c = first && last ? room->c : room->c + jj * cut->mc + ii * MS_NR;
        cut->tile(p->a_transposed, r, n, kn, room->a + ii * (p->a_transposed ? 1 : MS_APITCH), b + jj * kn, c, first);
        if (last)
          p->store(p, batch, c, i + ii, r, j + jj, n);
      }
    k0 += kn;
  } while (k0 < p->k);
}

static void run_strip(const ms_product *p, const ms_cut *cut, const ms_room *room, int64_t task) {
  int64_t strip = task % cut->nstrips, jn = task / cut->nstrips % cut->nn, batch = task / cut->nstrips / cut->nn;
  int64_t j = jn * cut->nc, cols = ms_min64(cut->nc, p->n - j);
  int64_t end = ms_min64((strip + 1) * cut->strip, p->m);
  if (cut->keep_b)
    for (int64_t k0 = 0; k0 < p->k; k0 += cut->kc)
      pack_b(p, batch, room->b + k0 * cut->nc, k0, ms_min64(cut->kc, p->k - k0), j, cols);
  for (int64_t i = strip * cut->strip; i < end; i += cut->mc)
    run_block(p, cut, room, batch, i, ms_min64(cut->mc, end - i), j, cols);
}

ms_status ms_product_run(const ms_product *p) {
  if (p->batch <= 0 || p->m <= 0 || p->n <= 0)
    return MS_OK;
  ms_cut cut = cut_product(p);
  int64_t tasks = p->batch * cut.nn * cut.nstrips;
  int failed = 0;
  ms_parallel_for(task, tasks, ms_max64(ms_min64(cut.strip, p->m) * cut.nc * (p->k + 8) / 16, 1)) {
    ms_room room;
    if (take_room(p, &cut, &room)) {
      run_strip(p, &cut, &room, task);
    } else {
#pragma omp atomic write
      failed = 1;
    }
  }
  return failed ? MS_EMEM : MS_OK;
}

/* ---- packing and storing ---- */

/* to[k * MS_NR + q] = from[q][k]: four columns side by side. */
MS_HD void transpose_quads(ms_real *restrict to, ms_real (*restrict from)[64], int64_t n) {
  for (int64_t k = 0; k < n; k += 4) {
    ms_quad a = *(ms_quad *)(from[0] + k), b = *(ms_quad *)(from[1] + k), c = *(ms_quad *)(from[2] + k),
            d = *(ms_quad *)(from[3] + k);
    ms_quad ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    ms_quad cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    ms_quad out[4] = {__builtin_shufflevector(ab0, cd0, 0, 1, 4, 5), __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7),
                      __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5), __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7)};
    for (int64_t q = 0; q < ms_min64(4, n - k); q++)
      *(ms_quad *)(to + (k + q) * MS_NR) = out[q];
  }
}

MS_HOT void ms_pack_columns(ms_panels to, ms_data x, int64_t at, int64_t pitch, int64_t rows, int64_t cols) {
  ms_real part[4][64];
  memset(part, 0, sizeof part);
  for (int64_t c = 0; c < cols; c += 4) {
    ms_real *p = to.p + c / MS_NR * to.pitch + c % MS_NR;
    for (int64_t r = 0; r < rows; r += 64) {
      int64_t n = ms_min64(64, rows - r);
      for (int64_t q = 0; q < ms_min64(4, cols - c); q++)
        ms_unpack(part[q], x, at + (c + q) * pitch + r, n);
      transpose_quads(p + r * MS_NR, part, n);
    }
  }
}

MS_HOT void ms_store_tile(ms_data c, int64_t at, int64_t ldc, const ms_real *tile, int64_t rows, int64_t cols,
                          ms_real alpha, ms_real beta, const ms_real *bias) {
  for (int64_t r = 0; r < rows; r++, tile += MS_NR, at += ldc) {
    ms_real row[MS_NR];
    MS_SIMD
    for (int64_t j = 0; j < cols; j++)
      row[j] = alpha * tile[j];
    if (beta != 0) {
      ms_real old[MS_NR];
      ms_unpack(old, c, at, cols);
      MS_SIMD
      for (int64_t j = 0; j < cols; j++)
        row[j] += beta * old[j];
    }
    if (bias) {
      MS_SIMD
      for (int64_t j = 0; j < cols; j++)
        row[j] += bias[j];
    }
    if (c.dtype == MS_F32)
      ms_copy_run((ms_real *)c.p + at, row, cols);
    else
      for (int64_t j = 0; j < cols; j++)
        ((ms_bf16 *)c.p)[at + j] = ms_bf16_from((float)row[j]);
  }
}

/* ---- the row ---- */

MS_HD void pack_rows(ms_panels to, ms_data x, int64_t at, int64_t pitch, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; r++)
    ms_pack_run(to, r, 0, x, at + r * pitch, cols);
}

/* The width is passed as a constant, so that the compiler sees it in every division. */
static MS_HOT void gemm_pack_rows(ms_panels to, ms_data x, int64_t at, int64_t pitch, int64_t rows, int64_t cols) {
  if (to.width == MS_NR)
    pack_rows((ms_panels){to.p, MS_NR, to.pitch}, x, at, pitch, rows, cols);
  else
    pack_rows((ms_panels){to.p, MS_APITCH, to.pitch}, x, at, pitch, rows, cols);
}

static void gemm_pack_a(const ms_product *p, int64_t batch, ms_panels to, int64_t r, int64_t rows, int64_t c,
                        int64_t cols) {
  const ms_gemm *g = p->data;
  int64_t row = p->a_transposed ? g->a_col : g->a_row, col = p->a_transposed ? g->a_row : g->a_col;
  gemm_pack_rows(to, g->a, batch * g->a_batch + r * row + c * col, row, rows, cols);
}

static void gemm_pack_b(const ms_product *p, int64_t batch, ms_panels to, int64_t r, int64_t rows, int64_t c,
                        int64_t cols) {
  const ms_gemm *g = p->data;
  int64_t at = batch * g->b_batch + r * g->b_row + c * g->b_col;
  if (g->b_col == 1 || g->n == 1)
    gemm_pack_rows(to, g->b, at, g->b_row, rows, cols);
  else
    ms_pack_columns(to, g->b, at, g->b_col, rows, cols);
}

static void gemm_store(const ms_product *p, int64_t batch, const ms_real *tile, int64_t i, int64_t rows, int64_t j,
                       int64_t cols) {
  const ms_gemm *g = p->data;
  ms_store_tile(g->c, batch * g->c_batch + i * g->ldc + j, g->ldc, tile, rows, cols, g->alpha, g->beta, NULL);
}

ms_status ms_cpu_gemm(ms_stream *s, const ms_gemm *g) {
  (void)s;
  ms_product p = {.batch = g->batch,
                  .m = g->m,
                  .n = g->n,
                  .k = g->k,
                  .a_transposed = g->a_col != 1 && g->k > 1,
                  .pack_a = gemm_pack_a,
                  .pack_b = gemm_pack_b,
                  .store = gemm_store,
                  .data = g};
  return ms_product_run(&p);
}
