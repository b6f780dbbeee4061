/* Conversions between element types, one rule for both backends. From a real to an integer: towards zero, saturating
** at the borders of int64, NaN to 0; uint8 then keeps the low 8 bits. */
#ifndef MS_CONVERT_H
#define MS_CONVERT_H

#include "real.h"

MS_HD int64_t ms_real_to_int(double x) {
  if (!(x > -9223372036854775808.0)) /* NaN too */
    return x != x ? 0 : INT64_MIN;
  return x < 9223372036854775808.0 ? (int64_t)x : INT64_MAX;
}

MS_HD uint8_t ms_real_to_u8(ms_real x) {
  return x >= 0 && x < 256 ? (uint8_t)(int)x : (uint8_t)ms_real_to_int(x);
}

/* A spike byte: round(value / scale), halves to even, clamped to [0, 255]; NaN is 0. */
MS_HD uint8_t ms_real_to_spike(ms_real x, ms_real scale) {
  ms_real n = MS_FN(rint)(x / scale);
  return n > 0 ? (uint8_t)(int)(n < 255 ? n : 255) : 0;
}

/* IEEE binary16, exactly. */
MS_HD float ms_half_to_float(uint16_t h) {
  int exponent = h >> 10 & 31, mantissa = h & 1023;
  float v = exponent == 31 ? (mantissa ? NAN : INFINITY)
            : exponent     ? ldexpf((float)(1024 + mantissa), exponent - 25)
                           : ldexpf((float)mantissa, -24);
  return h >> 15 ? -v : v;
}

#endif
