#include "bf16_tile.h"
#include <string.h>

enum { BLOCK = MS_BF16_BLOCK };

static void block_base(float *c, int fresh, const ms_bf16_run *runs, int64_t n) {
  if (fresh)
    memset(c, 0, BLOCK * BLOCK * sizeof *c);
  for (; n > 0; n--, runs++)
    for (int64_t k = 0; k < runs->k; k += 2) {
      const ms_bf16 *b = runs->b + k * BLOCK;
      float b0[BLOCK], b1[BLOCK];
      for (int j = 0; j < BLOCK; j++) {
        b0[j] = ms_bf16_to(b[2 * j]);
        b1[j] = ms_bf16_to(b[2 * j + 1]);
      }
      for (int r = 0; r < BLOCK; r++) {
        float a0 = ms_bf16_to(runs->a[r * runs->pitch + k]), a1 = ms_bf16_to(runs->a[r * runs->pitch + k + 1]);
        for (int j = 0; j < BLOCK; j++)
          c[r * BLOCK + j] += a0 * b0[j] + a1 * b1[j];
      }
    }
}

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(MS_NO_CLONES)
#define HAS_LEVELS 1
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DOT(sum, x, y) _mm512_dpbf16_ps(sum, (__m512bh)(x), (__m512bh)(y))

/* Eight rows at a time: 16 sums and a pair of B in registers, a pair of A broadcast. */
__attribute__((target("avx512f,avx512bf16"))) static void block_avx512(float *c, int fresh, const ms_bf16_run *runs,
                                                                       int64_t n) {
  for (int r0 = 0; r0 < BLOCK; r0 += 8, c += 8 * BLOCK) {
    __m512 s[8][2];
    for (int r = 0; r < 8; r++)
      for (int h = 0; h < 2; h++)
        s[r][h] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(c + r * BLOCK + 16 * h);
    for (int64_t i = 0; i < n; i++) {
      const ms_bf16_run *run = runs + i;
      const ms_bf16 *a = run->a + r0 * run->pitch;
      for (int64_t k = 0; k < run->k; k += 2) {
        __m512i b0 = _mm512_loadu_si512(run->b + k * BLOCK), b1 = _mm512_loadu_si512(run->b + k * BLOCK + 32);
        for (int r = 0; r < 8; r++) {
          int pair;
          memcpy(&pair, a + r * run->pitch + k, sizeof pair);
          __m512i x = _mm512_set1_epi32(pair);
          s[r][0] = DOT(s[r][0], x, b0);
          s[r][1] = DOT(s[r][1], x, b1);
        }
      }
    }
    for (int r = 0; r < 8; r++)
      for (int h = 0; h < 2; h++)
        _mm512_storeu_ps(c + r * BLOCK + 16 * h, s[r][h]);
  }
}

/* Tiles: 0 to 3 are 16 x 16 sums, 4 and 5 parts of A, 6 and 7 of B; 16 rows of 64 bytes each. */
__attribute__((target("amx-tile"))) static void begin_amx(void) {
  static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } shape = {.palette = 1, .bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
  _tile_loadconfig(&shape);
}

__attribute__((target("amx-tile"))) static void end_amx(void) {
  _tile_release();
}

__attribute__((target("amx-tile,amx-bf16"))) static void block_amx(float *c, int fresh, const ms_bf16_run *runs,
                                                                   int64_t n) {
  if (fresh) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, c, BLOCK * sizeof *c);
    _tile_loadd(1, c + 16, BLOCK * sizeof *c);
    _tile_loadd(2, c + 16 * BLOCK, BLOCK * sizeof *c);
    _tile_loadd(3, c + 16 * BLOCK + 16, BLOCK * sizeof *c);
  }
  for (int64_t i = 0; i < n; i++) {
    int64_t pitch = runs[i].pitch * (int64_t)sizeof(ms_bf16);
    const ms_bf16 *a0 = runs[i].a, *a1 = a0 + 16 * runs[i].pitch, *b = runs[i].b;
    for (int64_t k = 0; k < runs[i].k; k += BLOCK, b += BLOCK * BLOCK) {
      _tile_loadd(6, b, 2 * BLOCK * sizeof *b);
      _tile_loadd(4, a0 + k, pitch);
      _tile_loadd(7, b + 32, 2 * BLOCK * sizeof *b);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(5, a1 + k, pitch);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, BLOCK * sizeof *c);
  _tile_stored(1, c + 16, BLOCK * sizeof *c);
  _tile_stored(2, c + 16 * BLOCK, BLOCK * sizeof *c);
  _tile_stored(3, c + 16 * BLOCK + 16, BLOCK * sizeof *c);
}

/* The kernel grants a process the 8 KiB of tile registers on request only. */
static int has_amx(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1))
    return 0;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static int has_avx512_bf16(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16");
}
#endif

static void nothing(void) {}

static const ms_bf16_kernel kernels[] = {
    {"base", 0, nothing, nothing, block_base},
#ifdef HAS_LEVELS
    {"avx512_bf16", 1, nothing, nothing, block_avx512},
    {"amx", 2, begin_amx, end_amx, block_amx},
#endif
};

static const ms_bf16_kernel *best(void) {
#ifdef HAS_LEVELS
  return kernels + (has_amx() ? 2 : has_avx512_bf16() ? 1 : 0);
#else
  return kernels;
#endif
}

static const ms_bf16_kernel *found, *forced;

const ms_bf16_kernel *ms_bf16_kernel_best(void) {
  if (!found)
    found = best();
  return forced ? forced : found;
}

ms_status ms_bf16_kernel_force(const char *name) {
  forced = NULL;
  if (!name)
    return MS_OK;
  const ms_bf16_kernel *most = ms_bf16_kernel_best();
  for (const ms_bf16_kernel *k = kernels; k <= most; k++)
    if (strcmp(name, k->name) == 0)
      forced = k;
  return forced ? MS_OK : MS_EINVAL;
}
