/* The matrix product behind the row gemm and behind dense convolution. C = A B is cut into blocks that fit the second
** level cache; what an operand looks like in memory is known only to the function that packs a block of it, so an
** implicit matrix (the patches of a convolution) costs no more than a stored one.
**
** Every element of C is one chain of multiply-adds over k, cut into blocks of k by the value of k alone: neither the
** other sizes nor the number of threads change a bit of it. */
#ifndef MS_GEMM_H
#define MS_GEMM_H

#include "../kernels.h"
#include "bits.h"
#include "parallel.h"
#include <string.h>

enum {
  MS_MR = 12,                              /* rows of a micro tile */
  MS_NR = 128 / (int)sizeof(ms_real),      /* its columns: two 64-byte vectors */
  MS_KC = 1024 / (int)sizeof(ms_real),     /* longest block of k: a panel of B is half of a 64 KiB cache */
  MS_APITCH = MS_KC + 64 / sizeof(ms_real) /* row pitch of packed A; off the power of two, which would hit few sets */
};

/* Where a packed block goes: its columns lie in panels of `width`, element (r, c) at
** p[c / width * pitch + r * width + c % width]. */
typedef struct ms_panels {
  ms_real *p;
  int64_t width, pitch;
} ms_panels;

typedef struct ms_product ms_product;

/* Packs rows [r, r + rows) x columns [c, c + cols) of matrix `batch`. */
typedef void (*ms_pack_fn)(const ms_product *p, int64_t batch, ms_panels to, int64_t r, int64_t rows, int64_t c,
                           int64_t cols);

struct ms_product {
  int64_t batch, m, n, k;
  int a_transposed;  /* pack_a delivers A' (rows k, columns m), else A (rows m, columns k) */
  ms_pack_fn pack_a; /* one panel of width MS_APITCH */
  ms_pack_fn pack_b; /* rows k, columns n, width MS_NR */
  /* Takes one finished tile, row pitch MS_NR: rows [i, i + rows), columns [j, j + cols) of C. */
  void (*store)(const ms_product *p, int64_t batch, const ms_real *tile, int64_t i, int64_t rows, int64_t j,
                int64_t cols);
  const void *data; /* of these functions */
};

/* MS_EMEM when a thread gets no scratch. k = 0 stores zeros. Uses scratch slot 1. */
ms_status ms_product_run(const ms_product *p);

/* Packs a matrix whose column `c` starts at element at + c * pitch of x and is contiguous, into panels of MS_NR. */
void ms_pack_columns(ms_panels to, ms_data x, int64_t at, int64_t pitch, int64_t rows, int64_t cols);

/* c[i, j] = alpha * tile[i, j] + beta * c[i, j] + bias[j] for a row-major c of pitch ldc, starting at element `at`. */
void ms_store_tile(ms_data c, int64_t at, int64_t ldc, const ms_real *tile, int64_t rows, int64_t cols, ms_real alpha,
                   ms_real beta, const ms_real *bias);

/* Products only: contracted to fused multiply-adds where the machine has them, unlike the rest of the backend. */
#define MS_FUSED __attribute__((optimize("O3", "fp-contract=fast")))

typedef ms_real ms_run __attribute__((vector_size(64), aligned(sizeof(ms_real)), may_alias));
typedef ms_real ms_quad __attribute__((vector_size(4 * sizeof(ms_real)), aligned(sizeof(ms_real)), may_alias));

/* Runs are short and of any length: a call of memcpy, or the string instruction that gcc makes of a loop, would cost
** more than the move. So they are moved by vectors, of which the last may overlap the one before. */
#define MS_BY_VECTORS(type, lanes, n, value)                                                      \
  if (n >= lanes) {                                                                               \
    int64_t i = 0;                                                                                \
    for (; *(type *)(to + i) = value(type, i), i < n - lanes; i = ms_min64(i + lanes, n - lanes)) \
      ;                                                                                           \
    return;                                                                                       \
  }
#define MS_RUN_VALUE(type, i) (*(const type *)(from + (i)))
#define MS_RUN_ZERO(type, i) ((type){0})

MS_HD void ms_copy_run(ms_real *restrict to, const ms_real *restrict from, int64_t n) {
  enum { RUN = 64 / (int)sizeof(ms_real) };
  MS_BY_VECTORS(ms_run, RUN, n, MS_RUN_VALUE)
  MS_BY_VECTORS(ms_quad, 4, n, MS_RUN_VALUE)
  for (; n > 0; n--)
    to[n - 1] = from[n - 1];
}

MS_HD void ms_zero_run(ms_real *to, int64_t n) {
  enum { RUN = 64 / (int)sizeof(ms_real) };
  MS_BY_VECTORS(ms_run, RUN, n, MS_RUN_ZERO)
  MS_BY_VECTORS(ms_quad, 4, n, MS_RUN_ZERO)
  for (; n > 0; n--)
    to[n - 1] = 0;
}

/* to[i] = value of x[at + i], any type but int64. */
MS_HD void ms_unpack(ms_real *restrict to, ms_data x, int64_t at, int64_t n) {
  if (x.dtype == MS_F32) {
    ms_copy_run(to, (const ms_real *)x.p + at, n);
  } else if (x.dtype == MS_BF16) {
    const ms_bf16 *from = (const ms_bf16 *)x.p + at;
    MS_SIMD
    for (int64_t i = 0; i < n; i++)
      to[i] = ms_bf16_to(from[i]);
  } else if (x.dtype == MS_BITS) {
    MS_BITS_EXPAND(to, (const uint8_t *)x.p, at, n, x.scale);
  } else {
    const uint8_t *from = (const uint8_t *)x.p + at;
    ms_real scale = x.scale;
    MS_SIMD
    for (int64_t i = 0; i < n; i++)
      to[i] = (ms_real)from[i] * scale;
  }
}

/* The same as bfloat16; of MS_BITS at and n are multiples of 8. */
MS_HD void ms_unpack_bf16(ms_bf16 *restrict to, ms_data x, int64_t at, int64_t n) {
  if (x.dtype == MS_BF16) {
    memcpy(to, (const ms_bf16 *)x.p + at, (size_t)n * sizeof *to);
  } else if (x.dtype == MS_BITS) {
    const uint8_t *from = (const uint8_t *)x.p + at / 8;
    uint16_t one = ms_bf16_from((float)x.scale).bits;
    for (int64_t i = 0; i < n / 8; i++)
      *(ms_bits_eight *)&to[8 * i] = ms_bits_lanes(from[i], one);
  } else if (x.dtype == MS_F32) {
    const ms_real *from = (const ms_real *)x.p + at;
    MS_SIMD
    for (int64_t i = 0; i < n; i++)
      to[i] = ms_bf16_from((float)from[i]);
  } else {
    const uint8_t *from = (const uint8_t *)x.p + at;
    float scale = (float)x.scale;
    MS_SIMD
    for (int64_t i = 0; i < n; i++)
      to[i] = ms_bf16_from((float)from[i] * scale);
  }
}

/* To bfloat16 values. */
MS_HD void ms_round_run(ms_real *x, int64_t n) {
  MS_SIMD
  for (int64_t i = 0; i < n; i++)
    x[i] = (ms_real)ms_bf16_to(ms_bf16_from((float)x[i]));
}

/* Puts n elements of x from `at` on (zeros where at < 0) at row r, columns c... of a packed block. */
MS_HD void ms_pack_run(ms_panels to, int64_t r, int64_t c, ms_data x, int64_t at, int64_t n) {
  while (n > 0) {
    int64_t in = c % to.width, len = ms_min64(n, to.width - in);
    ms_real *p = to.p + c / to.width * to.pitch + r * to.width + in;
    if (at < 0) {
      ms_zero_run(p, len);
    } else {
      if (len == to.width && len <= MS_NR) /* a whole row of a panel: its length is a constant */
        ms_unpack(p, x, at, to.width);
      else
        ms_unpack(p, x, at, len);
      at += len;
    }
    c += len;
    n -= len;
  }
}

#endif
