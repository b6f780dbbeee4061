/* Sine and cosine of every float, correct to the last bit or the one before. The toolkit's own keep an array in local
** memory for large arguments, which the build forbids. */
#ifndef MS_TRIG_H
#define MS_TRIG_H

#include "launch.h"

/* Bits of 2 / pi behind the point, 32 a word. */
MS_HD uint32_t ms_two_over_pi(int word) {
  switch (word) {
  case 0:
    return 0xa2f9836eu;
  case 1:
    return 0x4e441529u;
  case 2:
    return 0xfc2757d1u;
  case 3:
    return 0xf534ddc0u;
  case 4:
    return 0xdb629599u;
  case 5:
    return 0x3c439041u;
  default:
    return 0xfe5163abu;
  }
}

/* x = quarters * pi / 2 + result, |result| <= pi / 4; 2^30 <= |x| < infinity. Multiples of four quarters are dropped
** from the product of the mantissa and 2 / pi (Payne and Hanek 1983): 96 bits of it are kept. */
MS_HD double ms_reduce_large(float x, int *quarters) {
  union {
    float f;
    uint32_t u;
  } v = {x};
  uint32_t m = (v.u & 0x7fffffu) | 0x800000u;
  int start = (int)(v.u >> 23 & 255) - 150 - 2, word = start >> 5, shift = start & 31;
  uint32_t w2 = ms_two_over_pi(word + 2), w3 = ms_two_over_pi(word + 3);
  uint64_t high = (uint64_t)ms_two_over_pi(word) << 32 | ms_two_over_pi(word + 1);
  uint32_t low = (uint32_t)(((uint64_t)w2 << 32 | w3) >> (32 - shift));
  if (shift)
    high = high << shift | w2 >> (32 - shift);
  uint64_t tail = (uint64_t)m * low, p = m * high + (tail >> 32);
  int64_t part = (int64_t)(p << 2 | (uint32_t)tail >> 30);
  int q = (int)(p >> 62) + (part < 0), negative = (int)(v.u >> 31);
  double r = (double)part * 0x1p-64 * 0x1.921fb54442d18p+0;
  *quarters = negative ? -q : q;
  return negative ? -r : r;
}

/* sin(x + shift * pi / 2), NaN for infinities: Taylor series in double within an eighth of a turn. */
MS_HD float ms_trig(float x, int shift) {
  double r;
  int quarters;
  if (fabsf(x) < 0x1p30f) {
    double k = rint((double)x * 0x1.45f306dc9c883p-1);
    r = k == 0 ? (double)x : fma(k, -0x1.1a62633145c07p-54, fma(k, -0x1.921fb54442d18p+0, (double)x));
    quarters = (int)k;
  } else if (fabsf(x) <= MS_REAL_MAX) {
    r = ms_reduce_large(x, &quarters);
  } else {
    return x - x;
  }
  quarters += shift;
  double z = r * r, y;
  if (quarters & 1) {
    y = fma(fma(fma(fma(fma(z, 1. / 479001600, -1. / 3628800), z, 1. / 40320), z, -1. / 720), z, 1. / 24), z, -.5);
    y = fma(y, z, 1.);
  } else {
    y = fma(fma(fma(fma(z, -1. / 39916800, 1. / 362880), z, -1. / 5040), z, 1. / 120), z, -1. / 6);
    y = r * fma(y, z, 1.);
  }
  return (float)(quarters & 2 ? -y : y);
}

MS_HD float ms_trig_sin(float x) {
  return ms_trig(x, 0);
}

MS_HD float ms_trig_cos(float x) {
  return ms_trig(x, 1);
}

#endif
