/* Resizing as Pillow does it: each pixel is an average of the pixels around it, weighed by a filter that is stretched where
** the image shrinks. Weights are doubles by + - * /, and of bytes integers in fixed point: every device gives the same. */
#ifndef MS_MATH_RESIZE_H
#define MS_MATH_RESIZE_H

#include "real.h"

#define MS_RESIZE_BITS 22                          /* of the fixed-point weights: those of Pillow, 32 - 8 - 2 */
#define MS_RESIZE_HALF (1 << (MS_RESIZE_BITS - 1)) /* where a sum of weighed bytes begins */

/* Along one axis, what one output reads: inputs [lo, lo + n). */
typedef struct ms_resize_reach {
  int64_t lo, n;
  double centre, inverse;
} ms_resize_reach;

MS_HD double ms_resize_triangle(double x) {
  x = fabs(x);
  return x < 1 ? 1 - x : 0;
}

/* Keys 1981: a = -1/2 in Pillow, -3/4 where PyTorch interpolates. */
MS_HD double ms_resize_cubic(double x, double a) {
  x = fabs(x);
  if (x < 1)
    return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/* Of inputs [0, in), that part which begins at `from` and has `scale` inputs for each output. */
MS_HD ms_resize_reach ms_resize_reach_of(int cubic, int64_t in, double from, double scale, int64_t output) {
  double stretch = scale < 1 ? 1 : scale, support = (cubic ? 2.0 : 1.0) * stretch;
  ms_resize_reach r;
  r.inverse = 1.0 / stretch;
  r.centre = from + ((double)output + 0.5) * scale;
  r.lo = (int64_t)(r.centre - support + 0.5);
  int64_t hi = (int64_t)(r.centre + support + 0.5);
  r.lo = r.lo < 0 ? 0 : r.lo;
  hi = hi > in ? in : hi;
  r.n = hi > r.lo ? hi - r.lo : 0;
  return r;
}

/* No output reads more inputs. */
MS_HD int64_t ms_resize_taps(int cubic, double scale) {
  return 2 * (int64_t)ceil((cubic ? 2.0 : 1.0) * (scale < 1 ? 1 : scale)) + 1;
}

MS_HD double ms_resize_weight(const ms_resize_reach *r, int cubic, int64_t j) {
  double x = ((double)(r->lo + j) - r->centre + 0.5) * r->inverse;
  return cubic ? ms_resize_cubic(x, -0.5) : ms_resize_triangle(x);
}

MS_HD int32_t ms_resize_fixed(double weight) {
  return (int32_t)(weight * (1 << MS_RESIZE_BITS) + (weight < 0 ? -0.5 : 0.5));
}

/* The n weights for bytes and for reals; each may be NULL. */
MS_HD void ms_resize_weights(const ms_resize_reach *r, int cubic, int32_t *fixed, ms_real *real) {
  double sum = 0;
  for (int64_t j = 0; j < r->n; j++)
    sum += ms_resize_weight(r, cubic, j);
  for (int64_t j = 0; j < r->n; j++) {
    double weight = ms_resize_weight(r, cubic, j);
    weight = sum != 0 ? weight / sum : weight;
    if (fixed)
      fixed[j] = ms_resize_fixed(weight);
    if (real)
      real[j] = MS_R(weight);
  }
}

/* Of a sum that began at MS_RESIZE_HALF. */
MS_HD uint8_t ms_resize_byte(int32_t sum) {
  sum >>= MS_RESIZE_BITS;
  return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

#endif
