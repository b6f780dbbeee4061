#include "rng.h"
#include "capture.h"
#include "../../kernels/math/philox.h"

static ms_rng stream;

ms_rng *ms_rng_default(void) {
  return &stream;
}

void ms_manual_seed(uint64_t seed) {
  stream.seed = seed;
  stream.draws = 0;
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
  return ms_philox_mix(h ^ ms_philox_draw(seed, 1));
}

ms_philox_key ms_rng_next(void) {
  uint64_t base = ms_rng_key(stream.seed, "draw", "");
  int64_t n;
  const int64_t *draws = ms_capture_draw(&n);
  if (draws) {
    stream.draws++;
    return (ms_philox_key){.key = ms_philox_later(base, n), .draws = draws};
  }
  return (ms_philox_key){.key = ms_philox_draw(base, (int64_t)++stream.draws)};
}
