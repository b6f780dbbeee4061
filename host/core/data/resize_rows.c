#include "resize_rows.h"
#include "../../../kernels/math/resize.h"
#include <string.h>

/* The double-precision test build takes the plain loops. */
#if defined(__x86_64__) && !defined(MS_REAL64)
#define WIDE 1
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))
#endif

/* ---- sixteen rows of single bytes ---- */

#ifdef WIDE
/* 16 x 16 bytes: four rounds that interleave the upper half with the lower. */
static void transpose16(uint8_t *out, int64_t out_stride, const uint8_t *in, int64_t in_stride) {
  __m128i a[16], b[16];
  for (int i = 0; i < 16; i++)
    a[i] = _mm_loadu_si128((const __m128i *)(const void *)(in + i * in_stride));
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 8; i++) {
      b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
      b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
    }
    for (int i = 0; i < 8; i++) {
      a[2 * i] = _mm_unpacklo_epi8(b[i], b[i + 8]);
      a[2 * i + 1] = _mm_unpackhi_epi8(b[i], b[i + 8]);
    }
  }
  for (int i = 0; i < 16; i++)
    _mm_storeu_si128((__m128i *)(void *)(out + i * out_stride), a[i]);
}
#endif

/* Columns that are done in blocks; the rest is left to the loops below. */
static int64_t gather_blocks(uint8_t *lanes, const uint8_t *in, int64_t stride, int64_t rows, int64_t width) {
  int64_t x = 0;
#ifdef WIDE
  for (; rows == MS_LANES && x + 16 <= width; x += 16)
    transpose16(lanes + x * MS_LANES, MS_LANES, in + x, stride);
#else
  (void)lanes, (void)in, (void)stride, (void)rows, (void)width;
#endif
  return x;
}

static int64_t scatter_blocks(uint8_t *out, const uint8_t *lanes, int64_t stride, int64_t rows, int64_t width) {
  int64_t x = 0;
#ifdef WIDE
  for (; rows == MS_LANES && x + 16 <= width; x += 16)
    transpose16(out + x, stride, lanes + x * MS_LANES, MS_LANES);
#else
  (void)lanes, (void)out, (void)stride, (void)rows, (void)width;
#endif
  return x;
}

/* ---- rows to lanes and back ---- */

void ms_lanes_gather(uint8_t *lanes, const uint8_t *in, int64_t stride, int64_t rows, int64_t width, int64_t pixel,
                     int64_t take, int64_t wide) {
  int64_t done = pixel == 1 ? gather_blocks(lanes, in, stride, rows, width) : 0;
  for (int64_t r = 0; r < rows; r++) {
    const uint8_t *from = in + r * stride + done * pixel;
    uint8_t *to = lanes + done * MS_LANES + r * wide;
    int64_t x = done;
    if (wide == 4 && pixel >= 3) /* four bytes at once; the last pixel must not read beyond the row */
      for (; x < width - 1; x++, from += pixel, to += MS_LANES)
        memcpy(to, from, 4);
    else if (take == 2)
      for (; x < width; x++, from += pixel, to += MS_LANES)
        memcpy(to, from, 2);
    for (; x < width; x++, from += pixel, to += MS_LANES)
      for (int64_t c = 0; c < take; c++)
        to[c] = from[c];
  }
}

void ms_lanes_scatter(uint8_t *out, const uint8_t *lanes, int64_t stride, int64_t rows, int64_t width, int64_t pixel,
                      int64_t take, int64_t wide) {
  int64_t done = pixel == 1 ? scatter_blocks(out, lanes, stride, rows, width) : 0;
  for (int64_t r = 0; r < rows; r++) {
    const uint8_t *from = lanes + done * MS_LANES + r * wide;
    uint8_t *to = out + r * stride + done * pixel;
    int64_t x = done;
    if (wide == 4 && pixel == take) /* the fourth byte is the next pixel's, written after it */
      for (; x < width - 1; x++, from += MS_LANES, to += pixel)
        memcpy(to, from, 4);
    else if (take == 2)
      for (; x < width; x++, from += MS_LANES, to += pixel)
        memcpy(to, from, 2);
    for (; x < width; x++, from += MS_LANES, to += pixel)
      for (int64_t c = 0; c < take; c++)
        to[c] = from[c];
  }
}

/* ---- sums ---- */

static void weigh_lanes(uint8_t *out, const uint8_t *in, const ms_resize_axis *a, int64_t base) {
  for (int64_t i = 0; i < a->count; i++, out += MS_LANES) {
    const uint8_t *p = in + (a->lo[i] - base) * MS_LANES;
    const int32_t *k = a->fixed + i * a->taps;
    int32_t sum[MS_LANES];
    for (int l = 0; l < MS_LANES; l++)
      sum[l] = MS_RESIZE_HALF;
    for (int64_t j = 0; j < a->n[i]; j++, p += MS_LANES)
      for (int l = 0; l < MS_LANES; l++)
        sum[l] += p[l] * k[j];
    for (int l = 0; l < MS_LANES; l++)
      out[l] = ms_resize_byte(sum[l]);
  }
}

/* Columns [x, width). */
static void weigh_rows(uint8_t *out, const uint8_t *in, int64_t x, int64_t width, const int32_t *k, int64_t n) {
  for (; x < width; x++) {
    int32_t sum = MS_RESIZE_HALF;
    for (int64_t j = 0; j < n; j++)
      sum += in[j * width + x] * k[j];
    out[x] = ms_resize_byte(sum);
  }
}

#ifdef WIDE
/* sums[0..1] += 16 bytes * k */
AVX2 static inline void add16(__m256i *sums, const uint8_t *p, __m256i k) {
  __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
  sums[0] = _mm256_add_epi32(sums[0], _mm256_mullo_epi32(_mm256_cvtepu8_epi32(b), k));
  sums[1] = _mm256_add_epi32(sums[1], _mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)), k));
}

/* Saturation is the clipping. */
AVX2 static inline void store16(uint8_t *out, const __m256i *sums) {
  __m256i words = _mm256_packs_epi32(_mm256_srai_epi32(sums[0], MS_RESIZE_BITS),
                                     _mm256_srai_epi32(sums[1], MS_RESIZE_BITS)); /* of each half, both quarters */
  words = _mm256_permute4x64_epi64(words, 0xd8);
  _mm_storeu_si128((__m128i *)(void *)out,
                   _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

AVX2 static void weigh_lanes_avx2(uint8_t *out, const uint8_t *in, const ms_resize_axis *a, int64_t base) {
  const __m256i half = _mm256_set1_epi32(MS_RESIZE_HALF);
  for (int64_t i = 0; i < a->count; i++, out += MS_LANES) {
    const uint8_t *p = in + (a->lo[i] - base) * MS_LANES;
    const int32_t *k = a->fixed + i * a->taps;
    __m256i sums[2] = {half, half};
    for (int64_t j = 0, n = a->n[i]; j < n; j++)
      add16(sums, p + j * MS_LANES, _mm256_set1_epi32(k[j]));
    store16(out, sums);
  }
}

AVX2 static void weigh_rows_avx2(uint8_t *out, const uint8_t *in, int64_t width, const int32_t *k, int64_t n) {
  const __m256i half = _mm256_set1_epi32(MS_RESIZE_HALF);
  int64_t x = 0;
  for (; x + 32 <= width; x += 32) {
    __m256i left[2] = {half, half}, right[2] = {half, half};
    for (int64_t j = 0; j < n; j++) {
      __m256i kj = _mm256_set1_epi32(k[j]);
      add16(left, in + j * width + x, kj);
      add16(right, in + j * width + x + 16, kj);
    }
    store16(out + x, left);
    store16(out + x + 16, right);
  }
  weigh_rows(out, in, x, width, k, n);
}
#endif

void ms_lanes_weigh(uint8_t *out, const uint8_t *in, const ms_resize_axis *a, int64_t base) {
#ifdef WIDE
  if (__builtin_cpu_supports("avx2")) {
    weigh_lanes_avx2(out, in, a, base);
    return;
  }
#endif
  weigh_lanes(out, in, a, base);
}

void ms_rows_weigh(uint8_t *out, const uint8_t *in, int64_t width, const int32_t *k, int64_t n) {
#ifdef WIDE
  if (__builtin_cpu_supports("avx2")) {
    weigh_rows_avx2(out, in, width, k, n);
    return;
  }
#endif
  weigh_rows(out, in, 0, width, k, n);
}
