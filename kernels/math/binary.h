/* The functions of binary.def over reals and, as ms_int_<name>, over int64. Integer arithmetic wraps modulo 2^64. */
#ifndef MS_BINARY_H
#define MS_BINARY_H

#include "real.h"

/* clang-format off */
MS_HD ms_real ms_add(ms_real a, ms_real b) { return a + b; }
MS_HD ms_real ms_sub(ms_real a, ms_real b) { return a - b; }
MS_HD ms_real ms_mul(ms_real a, ms_real b) { return a * b; }
MS_HD ms_real ms_div(ms_real a, ms_real b) { return a / b; }
MS_HD ms_real ms_pow(ms_real a, ms_real b) { return b == 2 ? a * a : MS_FN(pow)(a, b); }
/* NaN on either side wins. */
MS_HD ms_real ms_maximum(ms_real a, ms_real b) { return a > b || a != a ? a : b; }
MS_HD ms_real ms_minimum(ms_real a, ms_real b) { return a < b || a != a ? a : b; }
MS_HD int ms_eq(ms_real a, ms_real b) { return a == b; }
MS_HD int ms_ne(ms_real a, ms_real b) { return a != b; }
MS_HD int ms_lt(ms_real a, ms_real b) { return a < b; }
MS_HD int ms_le(ms_real a, ms_real b) { return a <= b; }
MS_HD int ms_gt(ms_real a, ms_real b) { return a > b; }
MS_HD int ms_ge(ms_real a, ms_real b) { return a >= b; }

MS_HD int64_t ms_int_add(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
MS_HD int64_t ms_int_sub(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }
MS_HD int64_t ms_int_mul(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }
MS_HD int64_t ms_int_maximum(int64_t a, int64_t b) { return a > b ? a : b; }
MS_HD int64_t ms_int_minimum(int64_t a, int64_t b) { return a < b ? a : b; }
MS_HD int64_t ms_int_eq(int64_t a, int64_t b) { return a == b; }
MS_HD int64_t ms_int_ne(int64_t a, int64_t b) { return a != b; }
MS_HD int64_t ms_int_lt(int64_t a, int64_t b) { return a < b; }
MS_HD int64_t ms_int_le(int64_t a, int64_t b) { return a <= b; }
MS_HD int64_t ms_int_gt(int64_t a, int64_t b) { return a > b; }
MS_HD int64_t ms_int_ge(int64_t a, int64_t b) { return a >= b; }
/* clang-format on */

/* Towards zero; anything by zero is 0. */
MS_HD int64_t ms_int_div(int64_t a, int64_t b) {
  if (b == 0)
    return 0;
  return b == -1 ? ms_int_sub(0, a) : a / b;
}

/* A negative exponent gives the integer part of the power; 0 where the base is 0. */
MS_HD int64_t ms_int_pow(int64_t a, int64_t b) {
  if (b < 0)
    return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
  int64_t y = 1;
  for (; b; b >>= 1, a = ms_int_mul(a, a))
    if (b & 1)
      y = ms_int_mul(y, a);
  return y;
}

#endif
