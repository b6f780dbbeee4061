/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as
** 1, 2, 3"). A draw depends on its key and its position alone.
**
** Values are made in float by integer operations, + - * /, fmaf and sqrtf, which are exact or correctly rounded
** everywhere: the CPU, a GPU and the double-precision build give the same bits. Each product that a sum follows is
** written as fmaf, so that no compiler can choose. */
#ifndef MS_PHILOX_H
#define MS_PHILOX_H

#include "real.h"

typedef struct ms_philox4 {
  uint32_t w[4];
} ms_philox4;

MS_HD ms_philox4 ms_philox(ms_philox4 c, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)0xD2511F53u * c.w[0], b = (uint64_t)0xCD9E8D57u * c.w[2];
    c.w[0] = (uint32_t)(b >> 32) ^ c.w[1] ^ k0;
    c.w[1] = (uint32_t)b;
    c.w[2] = (uint32_t)(a >> 32) ^ c.w[3] ^ k1;
    c.w[3] = (uint32_t)a;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

/* The finalizer of SplitMix64: every input bit reaches every output bit. */
MS_HD uint64_t ms_philox_mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9u;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/* Keys of a stream of draws: `n` later than the draw that starts at `base`. */
MS_HD uint64_t ms_philox_later(uint64_t base, int64_t n) {
  return base + (uint64_t)n * 0x9e3779b97f4a7c15u;
}

MS_HD uint64_t ms_philox_draw(uint64_t base, int64_t n) {
  return ms_philox_mix(ms_philox_later(base, n));
}

/* Block `block` of a key; `plane` 1 holds the high words of 64-bit draws. */
MS_HD ms_philox4 ms_philox_block(uint64_t key, uint64_t block, uint32_t plane) {
  ms_philox4 c = {{(uint32_t)block, (uint32_t)(block >> 32), plane, 0}};
  return ms_philox(c, (uint32_t)key, (uint32_t)(key >> 32));
}

/* In [0, 1): 24 bits. */
MS_HD float ms_random_uniform(uint32_t w) {
  return (float)(w >> 8) * 0x1p-24f;
}

/* Natural logarithm of a positive normal float: x = 2^e (1 + f), log(1 + f) = 2 atanh(f / (2 + f)) as a series. */
MS_HD float ms_random_log(float x) {
  union {
    float f;
    uint32_t u;
  } v = {x};
  int32_t e = (int32_t)(v.u - 0x3f3504f3u) >> 23; /* 1 + f in [sqrt(1/2), sqrt(2)) */
  v.u -= (uint32_t)e << 23;
  float f = v.f - 1.0f, s = f / (2.0f + f), z = s * s;
  float p = fmaf(fmaf(fmaf(fmaf(z, 2.0f / 11, 2.0f / 9), z, 2.0f / 7), z, 2.0f / 5), z, 2.0f / 3);
  return fmaf((float)e, 0x1.62e43p-1f, fmaf((float)e, -0x1.05c61p-29f, fmaf(s * z, p, 2.0f * s)));
}

/* Cosine and sine of the angle w / 2^32 turns, by Taylor series within an eighth of a turn of an axis. */
MS_HD void ms_random_turn(uint32_t w, float *cosine, float *sine) {
  uint32_t quarter = (w + 0x20000000u) >> 30;
  float x = (float)(int32_t)(w - (quarter << 30)) * 0x1.921fb6p-30f, z = x * x;
  float ps = fmaf(fmaf(fmaf(z, 1.0f / 362880, -1.0f / 5040), z, 1.0f / 120), z, -1.0f / 6);
  float pc = fmaf(fmaf(fmaf(fmaf(z, -1.0f / 3628800, 1.0f / 40320), z, -1.0f / 720), z, 1.0f / 24), z, -0.5f);
  float s = fmaf(x * z, ps, x), c = fmaf(z, pc, 1.0f);
  float swap = quarter & 1 ? s : c;
  s = quarter & 1 ? c : s;
  *cosine = (quarter + 1) & 2 ? -swap : swap;
  *sine = quarter & 2 ? -s : s;
}

/* Two independent standard normal deviates (Box and Muller 1958). */
MS_HD void ms_random_normal(uint32_t w0, uint32_t w1, float *z0, float *z1) {
  float u = fmaf((float)w0, 0x1p-32f, 0x1p-33f); /* (0, 1] */
  float r = sqrtf(-2.0f * ms_random_log(u)), c, s;
  ms_random_turn(w1, &c, &s);
  *z0 = r * c;
  *z1 = r * s;
}

/* An integer in [lo, lo + span), span > 0; the bias of the remainder is below span / 2^64. */
MS_HD int64_t ms_random_int(uint32_t low, uint32_t high, int64_t lo, uint64_t span) {
  return (int64_t)((uint64_t)lo + ((uint64_t)high << 32 | low) % span);
}

#endif
