/* The matrix product behind the bfloat16 convolutions: one block of 32 x 32 sums in float32. */
#ifndef MS_BF16_TILE_H
#define MS_BF16_TILE_H

#include "../kernels.h"

enum { MS_BF16_BLOCK = 32 }; /* rows and columns of a block, and the unit of k */

/* A [32 rows][k], rows `pitch` elements apart; B in pairs of k: [k / 2][32 columns][2]. */
typedef struct ms_bf16_run {
  const ms_bf16 *a, *b;
  int64_t pitch, k; /* k: a multiple of 32 */
} ms_bf16_run;

typedef struct ms_bf16_kernel {
  const char *name;
  int level;           /* 0: plain C, 1: AVX512-BF16, 2: AMX */
  void (*begin)(void); /* of a thread before its first block, and after its last */
  void (*end)(void);
  /* c [32][32] = (fresh ? 0 : c) + sum over the runs of A B, k ascending */
  void (*block)(float *c, int fresh, const ms_bf16_run *runs, int64_t n);
} ms_bf16_kernel;

/* The best that this machine has. */
const ms_bf16_kernel *ms_bf16_kernel_best(void);

/* Tests and measurements: "amx", "avx512_bf16", "base"; NULL: as usual. MS_EINVAL: unknown, or not on this machine. */
ms_status ms_bf16_kernel_force(const char *name);

#endif
