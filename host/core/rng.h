/* Counter-based random numbers (Philox4x32-10). Every draw is keyed by what it is for, so results depend on no order of
** threads, workers or calls elsewhere. */
#ifndef MS_RNG_H
#define MS_RNG_H

#include "tensor.h"

typedef struct ms_rng {
  uint64_t seed;
  uint64_t draws; /* calls so far of the default stream: randn, dropout, ... */
} ms_rng;

ms_rng *ms_rng_default(void);
void ms_manual_seed(uint64_t seed); /* also sets draws to 0 */
/* key of (seed, purpose, name): ms_rng_key(seed, "init", "0.weight") */
uint64_t ms_rng_key(uint64_t seed, const char *purpose, const char *name);
/* The next key of the default stream; advances draws. */
ms_philox_key ms_rng_next(void);

#endif
