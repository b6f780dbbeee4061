/* Spikes packed as bits (MS_BITS): element i is bit i % 8 of byte i / 8. */
#ifndef MS_BITS_H
#define MS_BITS_H

#include "../kernels.h"

MS_HD int ms_bit(const uint8_t *bits, int64_t i) {
  return bits[i >> 3] >> (i & 7) & 1;
}

/* 8 x 8 bits, a byte a row: bit c of byte i becomes bit i of byte c. */
MS_HD uint64_t ms_bits_turn(uint64_t x) {
  uint64_t t = (x ^ x >> 7) & 0x00aa00aa00aa00aau;
  x ^= t ^ t << 7;
  t = (x ^ x >> 14) & 0x0000cccc0000ccccu;
  x ^= t ^ t << 14;
  t = (x ^ x >> 28) & 0x00000000f0f0f0f0u;
  return x ^ t ^ t << 28;
}

/* Eight bits as eight values of 16 bits: `one` or 0. */
typedef uint16_t ms_bits_eight __attribute__((vector_size(16), aligned(2), may_alias));

MS_HD ms_bits_eight ms_bits_lanes(uint8_t bits, uint16_t one) {
  const ms_bits_eight place = {1, 2, 4, 8, 16, 32, 64, 128};
  ms_bits_eight b = {bits, bits, bits, bits, bits, bits, bits, bits};
  return (ms_bits_eight)((b & place) != 0) & one;
}

/* to[i] = bit at + i ? one : 0. */
#define MS_BITS_EXPAND(to, bits, at, n, one)                                                          \
  do {                                                                                                \
    int64_t i_ = 0;                                                                                   \
    for (; i_ < (n) && ((at) + i_) % 8; i_++)                                                         \
      (to)[i_] = ms_bit(bits, (at) + i_) ? (one) : 0;                                                 \
    const uint8_t *from_ = (bits) + ((at) + i_) / 8;                                                  \
    for (; i_ + 8 <= (n); i_ += 8, from_++)                                                           \
      _Pragma("omp simd") for (int b_ = 0; b_ < 8; b_++)(to)[i_ + b_] = *from_ >> b_ & 1 ? (one) : 0; \
    for (; i_ < (n); i_++)                                                                            \
      (to)[i_] = ms_bit(bits, (at) + i_) ? (one) : 0;                                                 \
  } while (0)

#endif
