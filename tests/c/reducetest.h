/* A reduction over an array of any layout. */
#ifndef MS_REDUCETEST_H
#define MS_REDUCETEST_H

#include "../../kernels/kernels.h"

typedef struct setup {
  ms_reduction r;
  int64_t nkept, nred, extent;
} setup;

/* `order` lists the dimensions from slowest to fastest in memory; bit d of `reduced` marks dimension d.
** Bit i of `repeated`: all along order[i] lies the same element. */
static inline setup setup_of(int ndim, const int64_t *size, const int *order, unsigned reduced, unsigned repeated) {
  setup s = {.nkept = 1, .nred = 1, .extent = 1, .r = {.factor = 1}};
  int64_t stride[MS_MAX_DIMS] = {0}, out_stride = 1;
  for (int i = ndim - 1; i >= 0; i--) {
    stride[order[i]] = repeated >> i & 1 ? 0 : s.extent;
    s.extent *= size[order[i]];
  }
  for (int d = 0; d < ndim; d++) {
    if (reduced >> d & 1) {
      s.r.red[s.r.nred] = size[d];
      s.r.in_red[s.r.nred++] = stride[d];
      s.nred *= size[d];
    } else {
      s.r.kept[s.r.nkept] = size[d];
      s.r.in_kept[s.r.nkept++] = stride[d];
      s.nkept *= size[d];
    }
  }
  for (int d = s.r.nkept - 1; d >= 0; d--) {
    s.r.out_kept[d] = out_stride;
    out_stride *= s.r.kept[d];
  }
  return s;
}

#endif
