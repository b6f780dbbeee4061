/* What this machine can do: float32 FMA, bfloat16 products (AVX-512, AMX) and copying, with all threads of OMP_NUM_THREADS.
 * Prints one JSON line: GFLOP/s and GB/s (bytes read plus bytes written), the best of several rounds. 0: not there. */
#include <immintrin.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROUNDS = 7, CHAINS = 12, STEPS = 4000000 };

#ifdef __AVX512F__
enum { WIDTH = 64 };
#else
enum { WIDTH = 32 };
#endif
typedef float vec __attribute__((vector_size(WIDTH)));

/* The result leaves through here, so that no work is dropped. */
static volatile float sink;

static double fma_f32(void) {
  double start = omp_get_wtime();
#pragma omp parallel
  {
    vec a[CHAINS], x = (vec){0} + 0.999f, y = (vec){0} + 1e-3f;
    for (int c = 0; c < CHAINS; c++)
      a[c] = (vec){0} + (float)c;
    for (int i = 0; i < STEPS; i++) {
#pragma GCC unroll 12
      for (int c = 0; c < CHAINS; c++)
        a[c] = a[c] * x + y;
      __asm__ volatile("" : "+x"(x));
    }
    for (int c = 1; c < CHAINS; c++)
      a[0] += a[c];
    sink = a[0][0];
  }
  double flop = 2.0 * STEPS * CHAINS * (sizeof(vec) / sizeof(float)) * omp_get_max_threads();
  return flop / (omp_get_wtime() - start) * 1e-9;
}

static double dot_bf16(void) {
#ifdef __AVX512BF16__
  double start = omp_get_wtime();
#pragma omp parallel
  {
    __m512 a[CHAINS];
    __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80), y = (__m512bh)_mm512_set1_epi32(0x3a803a80);
    for (int c = 0; c < CHAINS; c++)
      a[c] = _mm512_setzero_ps();
    for (int i = 0; i < STEPS; i++) {
#pragma GCC unroll 12
      for (int c = 0; c < CHAINS; c++)
        a[c] = _mm512_dpbf16_ps(a[c], x, y);
      __asm__ volatile("" : "+x"(x));
    }
    for (int c = 1; c < CHAINS; c++)
      a[0] = _mm512_add_ps(a[0], a[c]);
    sink = _mm512_reduce_add_ps(a[0]);
  }
  return 64.0 * STEPS * CHAINS * omp_get_max_threads() / (omp_get_wtime() - start) * 1e-9;
#else
  return 0;
#endif
}

#ifdef __AMX_BF16__
typedef struct tiles {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
} tiles;

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

static double amx_bf16(void) {
  if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0)
    return 0;
  double start = omp_get_wtime();
  int steps = STEPS / 16;
#pragma omp parallel
  {
    tiles t;
    memset(&t, 0, sizeof t);
    t.palette = 1;
    for (int i = 0; i < 8; i++)
      t.bytes[i] = 64, t.rows[i] = 16;
    _tile_loadconfig(&t);
    uint16_t a[512];
    for (int i = 0; i < 512; i++)
      a[i] = 0x3a80;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, a, 64);
    _tile_loadd(5, a, 64);
    _tile_loadd(6, a, 64);
    _tile_loadd(7, a, 64);
    for (int i = 0; i < steps; i++) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    float out[256];
    _tile_stored(0, out, 64);
    sink = out[0];
    _tile_release();
  }
  return 4.0 * 2 * 16 * 16 * 32 * steps * omp_get_max_threads() / (omp_get_wtime() - start) * 1e-9;
}
#else
static double amx_bf16(void) {
  return 0;
}
#endif

/* Larger than any cache. Stores go past the caches, as memcpy's do at this size. */
static double copy(void) {
  enum { MEGABYTES = 768 };
  size_t size = (size_t)MEGABYTES << 20;
  static char *from, *to;
  if (!from) {
    from = malloc(size);
    to = malloc(size);
    if (!from || !to)
      return 0;
#pragma omp parallel
    {
      size_t part = size / omp_get_num_threads(), at = part * omp_get_thread_num();
      memset(from + at, 1, part);
      memset(to + at, 2, part);
    }
  }
  double start = omp_get_wtime();
#pragma omp parallel
  {
    size_t part = size / omp_get_num_threads(), at = part * omp_get_thread_num();
    memcpy(to + at, from + at, part);
  }
  return 2.0 * size / (omp_get_wtime() - start) * 1e-9;
}

static double best(double (*measure)(void)) {
  double most = 0;
  for (int i = 0; i < ROUNDS; i++) {
    double now = measure();
    most = now > most ? now : most;
  }
  return most;
}

int main(void) {
  printf("{\"threads\":%d,\"fma\":%.1f,\"bf16\":%.1f,\"amx\":%.1f,\"copy\":%.1f}\n", omp_get_max_threads(),
         best(fma_f32), best(dot_bf16), best(amx_bf16), best(copy));
  return 0;
}
