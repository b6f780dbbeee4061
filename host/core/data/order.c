#include "order.h"
#include "../../../kernels/math/philox.h"
#include "../rng.h"
#include <stdio.h>

uint64_t ms_epoch_key(uint64_t seed, const char *purpose, int64_t epoch) {
  char text[24];
  snprintf(text, sizeof text, "%lld", (long long)epoch);
  return ms_rng_key(seed, purpose, text);
}

void ms_order_shuffle(int64_t *order, int64_t n, uint64_t key) {
  for (int64_t i = 0; i < n; i++) {
    ms_philox4 r = ms_philox_block(key, (uint64_t)i, 0);
    int64_t j = ms_random_int(r.w[0], r.w[1], 0, (uint64_t)i + 1);
    order[i] = order[j];
    order[j] = i;
  }
}
