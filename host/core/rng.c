#include "rng.h"

static ms_rng stream;

ms_rng *ms_rng_default(void) {
  return &stream;
}

void ms_manual_seed(uint64_t seed) {
  stream.seed = seed;
  stream.draws = 0;
}

/* The finalizer of SplitMix64: every input bit reaches every output bit. */
static uint64_t mix(uint64_t x) {
  x ^= x >> 30;
  x *= UINT64_C(0xbf58476d1ce4e5b9);
  x ^= x >> 27;
  x *= UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

/* FNV-1a over the text and its end, so that ("ab", "c") and ("a", "bc") differ. */
static uint64_t absorb(uint64_t h, const char *text) {
  do
    h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
  while (*text++);
  return h;
}

uint64_t ms_rng_key(uint64_t seed, const char *purpose, const char *name) {
  uint64_t h = absorb(absorb(UINT64_C(0xcbf29ce484222325), purpose), name);
  return mix(h ^ mix(seed + UINT64_C(0x9e3779b97f4a7c15)));
}

ms_philox_key ms_rng_next(void) {
  uint64_t base = ms_rng_key(stream.seed, "draw", "");
  return (ms_philox_key){.key = mix(base + ++stream.draws * UINT64_C(0x9e3779b97f4a7c15)), .offset = 0};
}
