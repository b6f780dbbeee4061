/* In which order an epoch takes the samples: a function of seed and epoch alone. */
#ifndef MS_ORDER_H
#define MS_ORDER_H

#include "../error.h"

/* Key of what an epoch draws for a purpose ("shuffle", "augment"). */
uint64_t ms_epoch_key(uint64_t seed, const char *purpose, int64_t epoch);

/* order[0..n): a permutation, each equally likely (Fisher-Yates, inside out). */
void ms_order_shuffle(int64_t *order, int64_t n, uint64_t key);

#endif
