/* Bits made from a row of membranes by comparison: spikes, and where a surrogate's derivative is not zero. With AVX-512
** a comparison gives sixteen bits at once; elsewhere bytes are packed. Lengths are multiples of 8, at most MS_TILE. */
#ifndef MS_NEURON_BITS_H
#define MS_NEURON_BITS_H

#include "neuron_step.h"

#if defined(MS_ISA_LEVELS) && !defined(MS_REAL64)
#define MS_BITS_AVX512 1
#include <immintrin.h>
#endif

/* With m = |h - threshold|: factor * m < limit and factor2 * m != limit2. */
typedef struct ms_near {
  ms_real threshold, factor, limit, factor2, limit2;
} ms_near;

/* Ones of a row of bits; `bytes` of them. */
MS_HD int64_t ms_bits_ones(const uint8_t *bits, int64_t bytes) {
  int64_t ones = 0, i = 0;
  for (; i + 8 <= bytes; i += 8) {
    uint64_t x;
    memcpy(&x, bits + i, 8);
    ones += __builtin_popcountll(x);
  }
  for (; i < bytes; i++)
    ones += __builtin_popcount(bits[i]);
  return ones;
}

/* few[i] += bit i. */
MS_HD void ms_count_bits_base(int64_t len, const uint8_t *bits, uint8_t *few) {
  uint8_t bytes[MS_TILE];
  ms_bits_spread(bytes, bits, len);
  MS_SIMD for (int64_t j = 0; j < len; j++) few[j] = (uint8_t)(few[j] + (bytes[j] != 0));
}

MS_HD void ms_fired_bits_base(ms_real above, int64_t len, const ms_real *h, uint8_t *bits) {
  uint8_t bytes[MS_TILE];
  MS_SIMD for (int64_t j = 0; j < len; j++) bytes[j] = h[j] > above;
  ms_bits_pack(bits, bytes, len);
}

MS_HD int64_t ms_near_bits_base(ms_near n, int64_t len, const ms_real *h, uint8_t *bits) {
  uint8_t bytes[MS_TILE];
  MS_SIMD for (int64_t j = 0; j < len; j++) {
    ms_real m = MS_FN(fabs)(h[j] - n.threshold);
    bytes[j] = (n.factor * m < n.limit) & (n.factor2 * m != n.limit2);
  }
  ms_bits_pack(bits, bytes, len);
  return ms_bits_ones(bits, len / 8);
}

#ifdef MS_BITS_AVX512
MS_TARGET_AVX512 static inline uint64_t ms_first_bits(int64_t n) {
  return _bzhi_u64(~UINT64_C(0), n < 64 ? (unsigned)n : 64);
}

MS_TARGET_AVX512 static void ms_count_bits_avx512(int64_t len, const uint8_t *bits, uint8_t *few) {
  for (int64_t i = 0; i < len; i += 64) {
    uint64_t room = ms_first_bits(len - i), k = 0;
    memcpy(&k, bits + i / 8, (size_t)ms_min64(64, len - i) / 8);
    __m512i x = _mm512_maskz_loadu_epi8(room, few + i);
    _mm512_mask_storeu_epi8(few + i, room, _mm512_mask_sub_epi8(x, k, x, _mm512_set1_epi8(-1)));
  }
}

/* Sixty-four comparisons into a word of bits, of which the first `len - i` exist. */
#define MS_WORDS(compare)                                                            \
  for (int64_t i = 0; i < len; i += 64) {                                            \
    uint64_t word = 0, room = ms_first_bits(len - i);                                \
    for (int q = 0; q < 4; q++) {                                                    \
      __m512 x = _mm512_maskz_loadu_ps((__mmask16)(room >> 16 * q), h + i + 16 * q); \
      word |= (uint64_t)(compare) << 16 * q;                                         \
    }                                                                                \
    word &= room;                                                                    \
    ones += __builtin_popcountll(word);                                              \
    if (len - i >= 64)                                                               \
      memcpy(bits + i / 8, &word, 8);                                                \
    else                                                                             \
      memcpy(bits + i / 8, &word, (size_t)(len - i) / 8);                            \
  }

MS_TARGET_AVX512 static void ms_fired_bits_avx512(ms_real above, int64_t len, const ms_real *h, uint8_t *bits) {
  int64_t ones = 0;
  __m512 least = _mm512_set1_ps(above);
  MS_WORDS(_mm512_cmp_ps_mask(x, least, _CMP_GT_OQ))
  (void)ones;
}

MS_TARGET_AVX512 static int64_t ms_near_bits_avx512(ms_near n, int64_t len, const ms_real *h, uint8_t *bits) {
  int64_t ones = 0;
  __m512 threshold = _mm512_set1_ps(n.threshold), factor = _mm512_set1_ps(n.factor), limit = _mm512_set1_ps(n.limit),
         factor2 = _mm512_set1_ps(n.factor2), limit2 = _mm512_set1_ps(n.limit2);
#define MS_FAR _mm512_abs_ps(_mm512_sub_ps(x, threshold))
  MS_WORDS(_mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(_mm512_mul_ps(factor, MS_FAR), limit, _CMP_LT_OQ),
                                   _mm512_mul_ps(factor2, MS_FAR), limit2, _CMP_NEQ_UQ))
#undef MS_FAR
  return ones;
}
#undef MS_WORDS

#define MS_BITS_CALL(call, ...) (ms_cpu_isa() == MS_ISA_AVX512 ? call##_avx512(__VA_ARGS__) : call##_base(__VA_ARGS__))
#else
#define MS_BITS_CALL(call, ...) call##_base(__VA_ARGS__)
#endif

#endif
