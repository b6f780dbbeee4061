/* Lists of events. Bytes and bits become the same words of 64 inputs, and one code lists the ones of a word: so both
** give the same lists. No branch depends on what the inputs are. */
#include "conv_event.h"
#ifdef MS_ISA_LEVELS
#include <immintrin.h>
#endif

/* ---- words of 64 inputs ---- */

MS_HD uint64_t load_word(const void *p) {
  uint64_t v;
  memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  v = __builtin_bswap64(v);
#endif
  return v;
}

MS_HD uint64_t low_bits(int64_t n) {
  return n >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1;
}

/* Only aligned words that hold one of the n bits are read. */
MS_HD uint64_t word_of_bits(const uint8_t *x, int64_t at, int64_t n) {
  const uint8_t *p = x + (at >> 6) * 8;
  int64_t in = at & 63;
  uint64_t word = load_word(p) >> in;
  if (in + n > 64)
    word |= load_word(p + 8) << (64 - in);
  return word & low_bits(n);
}

MS_HD uint64_t word_base(const uint8_t *x, int64_t n, int least) {
  const uint64_t low7 = 0x7f7f7f7f7f7f7f7fu;
  uint64_t word = 0;
  if (least > 1) {
    for (int64_t i = 0; i < n; i++)
      word |= (uint64_t)(x[i] >= least) << i;
    return word;
  }
  for (int64_t i = 0; i < n; i += 8) {
    uint8_t part[8] = {0};
    if (n - i < 8)
      memcpy(part, x + i, (size_t)(n - i));
    uint64_t v = load_word(n - i < 8 ? part : x + i);
    uint64_t ones = (((v & low7) + low7) | v) >> 7 & 0x0101010101010101u; /* 1 in each byte that is not zero */
    word |= (ones * 0x0102040810204080u >> 56) << i;                      /* gathered into eight bits */
  }
  return word;
}

#ifdef MS_ISA_LEVELS
MS_TARGET_AVX2 static inline __attribute__((always_inline)) uint64_t word_avx2(const uint8_t *x, int64_t n, int least) {
  uint8_t part[64];
  if (n < 64) {
    memset(part, 0, sizeof part);
    memcpy(part, x, (size_t)n);
    x = part;
  }
  __m256i l = _mm256_set1_epi8((char)least);
  __m256i a = _mm256_loadu_si256((const __m256i *)x), b = _mm256_loadu_si256((const __m256i *)(x + 32));
  uint32_t low = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(a, l), a));
  uint32_t high = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(b, l), b));
  return (uint64_t)high << 32 | low;
}

MS_TARGET_AVX512 static inline __attribute__((always_inline)) uint64_t word_avx512(const uint8_t *x, int64_t n,
                                                                                   int least) {
  __m512i v = _mm512_maskz_loadu_epi8(low_bits(n), x);
  return _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8((char)least));
}
#endif

/* ---- the ones of a word ---- */

typedef uint32_t quad __attribute__((vector_size(16), aligned(4), may_alias));

#define MS_AT(i) ((uint32_t)(i) << MS_EVENT_SHIFT)
static const quad quads[16] = {{0},
                               {MS_AT(0)},
                               {MS_AT(1)},
                               {MS_AT(0), MS_AT(1)},
                               {MS_AT(2)},
                               {MS_AT(0), MS_AT(2)},
                               {MS_AT(1), MS_AT(2)},
                               {MS_AT(0), MS_AT(1), MS_AT(2)},
                               {MS_AT(3)},
                               {MS_AT(0), MS_AT(3)},
                               {MS_AT(1), MS_AT(3)},
                               {MS_AT(0), MS_AT(1), MS_AT(3)},
                               {MS_AT(2), MS_AT(3)},
                               {MS_AT(0), MS_AT(2), MS_AT(3)},
                               {MS_AT(1), MS_AT(2), MS_AT(3)},
                               {MS_AT(0), MS_AT(1), MS_AT(2), MS_AT(3)}};
static const uint8_t ones_of[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};

MS_HD int64_t list_base(uint32_t *list, uint64_t word, uint32_t base) {
  int64_t n = 0;
  for (; word; word >>= 4, base += MS_AT(4)) {
    *(quad *)(list + n) = quads[word & 15] + base;
    n += ones_of[word & 15];
  }
  return n;
}

static int64_t places_base(uint16_t *list, uint64_t word, const uint16_t *place) {
  int64_t n = 0;
  for (; word; word &= word - 1)
    list[n++] = place[__builtin_ctzll(word)];
  return n;
}

#ifdef MS_ISA_LEVELS
MS_TARGET_AVX2 static inline __attribute__((always_inline)) int64_t list_avx2(uint32_t *list, uint64_t word,
                                                                              uint32_t base) {
  return list_base(list, word, base);
}

MS_TARGET_AVX2 static int64_t places_avx2(uint16_t *list, uint64_t word, const uint16_t *place) {
  return places_base(list, word, place);
}

MS_TARGET_AVX512 static inline __attribute__((always_inline)) int64_t list_avx512(uint32_t *list, uint64_t word,
                                                                                  uint32_t base) {
  const __m512i order =
      _mm512_setr_epi32(MS_AT(0), MS_AT(1), MS_AT(2), MS_AT(3), MS_AT(4), MS_AT(5), MS_AT(6), MS_AT(7), MS_AT(8),
                        MS_AT(9), MS_AT(10), MS_AT(11), MS_AT(12), MS_AT(13), MS_AT(14), MS_AT(15));
  int64_t n = 0;
  for (int q = 0; q < 4; q++, word >>= 16) {
    __m512i at = _mm512_add_epi32(order, _mm512_set1_epi32((int)(base + MS_AT(16 * q))));
    _mm512_storeu_si512(list + n, _mm512_maskz_compress_epi32((__mmask16)word, at));
    n += __builtin_popcount((unsigned)(word & 0xffff));
  }
  return n;
}

MS_TARGET_AVX512 static int64_t places_avx512(uint16_t *list, uint64_t word, const uint16_t *place) {
  int64_t n = 0;
  for (int q = 0; q < 4; q++, word >>= 16) {
    __m512i at = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(place + 16 * q)));
    at = _mm512_maskz_compress_epi32((__mmask16)word, at);
    _mm256_storeu_si256((__m256i *)(list + n), _mm512_cvtepi32_epi16(at));
    n += __builtin_popcount((unsigned)(word & 0xffff));
  }
  return n;
}

#define MS_TARGET_VBMI2 \
  __attribute__((target("avx512vbmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi,bmi2,popcnt")))
MS_TARGET_VBMI2 static int64_t places_vbmi2(uint16_t *list, uint64_t word, const uint16_t *place) {
  __m512i low = _mm512_maskz_compress_epi16((__mmask32)word, _mm512_loadu_si512(place));
  __m512i high = _mm512_maskz_compress_epi16((__mmask32)(word >> 32), _mm512_loadu_si512(place + 32));
  _mm512_storeu_si512(list, low);
  _mm512_storeu_si512(list + __builtin_popcount((unsigned)word), high);
  return __builtin_popcountll(word);
}
#endif

/* ---- lists of cells, columns of words ---- */

/* 64 x 64 bits; the outer steps move whole words, the inner ones bits within bytes. */
MS_HD void transpose_bits(uint64_t *restrict a) {
  static const uint64_t keep[6] = {0x00000000ffffffffu, 0x0000ffff0000ffffu, 0x00ff00ff00ff00ffu,
                                   0x0f0f0f0f0f0f0f0fu, 0x3333333333333333u, 0x5555555555555555u};
  _Pragma("GCC unroll 6") for (int s = 0, j = 32; s < 6; s++, j >>= 1) {
    uint64_t mask = keep[s];
    for (int k = 0; k < 64; k += 2 * j)
      MS_SIMD for (int i = k; i < k + j; i++) {
        uint64_t t = (a[i] >> j ^ a[i + j]) & mask;
        a[i + j] ^= t;
        a[i] ^= t << j;
      }
  }
}

#define MS_LISTER(isa, target)                                                                                       \
  target static inline __attribute__((always_inline))                                                                \
  uint64_t input_##isa(const ms_event_cells *c, int64_t at, int64_t n, int least) {                                  \
    return c->x.dtype == MS_BITS ? word_of_bits(c->x.p, at, n) : word_##isa((const uint8_t *)c->x.p + at, n, least); \
  }                                                                                                                  \
  target static int64_t cells_##isa(uint32_t *list, int32_t *start, int64_t n, const ms_event_cells *cells) {        \
    ms_event_cells c = *cells;                                                                                       \
    for (int64_t i = 0; i < c.cells; i++, c.at += c.pitch) {                                                         \
      *start++ = (int32_t)n;                                                                                         \
      for (int least = 1; least <= c.most; least++)                                                                  \
        for (int64_t q = 0; q < c.n; q += 64)                                                                        \
          n += list_##isa(list + n, input_##isa(&c, c.at + q, ms_min64(64, c.n - q), least), MS_AT(i * c.step + q)); \
    }                                                                                                                \
    *start = (int32_t)n;                                                                                             \
    return n;                                                                                                        \
  }                                                                                                                  \
  target static void columns_##isa(uint64_t word[64], const ms_event_cells *c) {                                     \
    for (int64_t i = 0; i < c->cells; i++)                                                                           \
      word[i] = input_##isa(c, c->at + c->from[i], c->n, 1);                                                         \
    for (int64_t i = c->cells; i < 64; i++)                                                                          \
      word[i] = 0;                                                                                                   \
    transpose_bits(word);                                                                                            \
  }

MS_LISTER(base, )
#ifdef MS_ISA_LEVELS
MS_LISTER(avx2, MS_TARGET_AVX2)
MS_LISTER(avx512, MS_TARGET_AVX512)
#endif

ms_event_lister ms_event_best_lister(void) {
#ifdef MS_ISA_LEVELS
  ms_isa isa = ms_cpu_isa();
  if (isa == MS_ISA_AVX512)
    return (ms_event_lister){cells_avx512, columns_avx512,
                             __builtin_cpu_supports("avx512vbmi2") ? places_vbmi2 : places_avx512};
  if (isa == MS_ISA_AVX2)
    return (ms_event_lister){cells_avx2, columns_avx2, places_avx2};
#endif
  return (ms_event_lister){cells_base, columns_base, places_base};
}

/* ---- counts ---- */

MS_HOT ms_event_sizes ms_event_measure(ms_data x, int64_t at, int64_t n) {
  if (x.dtype == MS_BITS)
    return (ms_event_sizes){1, 0, 0};
  const uint8_t *p = (const uint8_t *)x.p + at;
  uint8_t most = 0;
  MS_PRAGMA(omp simd reduction(max : most))
  for (int64_t i = 0; i < n; i++)
    most = p[i] > most ? p[i] : most;
  ms_event_sizes s = {.most = most};
  for (int64_t i = 0; most > 1 && i < n; i += 128) {
    uint16_t sum = 0, nonzero = 0;
    int64_t end = ms_min64(i + 128, n);
    MS_PRAGMA(omp simd reduction(+ : sum, nonzero))
    for (int64_t k = i; k < end; k++) {
      sum = (uint16_t)(sum + p[k]);
      nonzero = (uint16_t)(nonzero + (p[k] != 0));
    }
    s.sum += sum;
    s.nonzero += nonzero;
  }
  return s;
}
