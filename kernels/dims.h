/* Strided dimensions of a reduction, merged: what both backends do before they cut the work. */
#ifndef MS_DIMS_H
#define MS_DIMS_H

#include "kernels.h"

typedef struct ms_dims {
  int n;
  int64_t size[MS_MAX_DIMS], in[MS_MAX_DIMS], out[MS_MAX_DIMS];
} ms_dims;

static inline int64_t ms_magnitude(int64_t x) {
  return x < 0 ? -x : x;
}

/* Dimensions without those of size 1, slowest first in the input where order is free, joined where they can be. */
static inline ms_dims ms_merged_dims(int n, const int64_t *size, const int64_t *in, const int64_t *out,
                                     int free_order) {
  ms_dims s, m;
  s.n = m.n = 0;
  for (int d = 0; d < n; d++) {
    if (size[d] == 1)
      continue;
    int i = s.n++;
    for (; free_order && i > 0 && ms_magnitude(s.in[i - 1]) < ms_magnitude(in[d]); i--) {
      s.size[i] = s.size[i - 1];
      s.in[i] = s.in[i - 1];
      s.out[i] = s.out[i - 1];
    }
    s.size[i] = size[d];
    s.in[i] = in[d];
    s.out[i] = out ? out[d] : 0;
  }
  for (int d = 0; d < s.n; d++) {
    int last = m.n - 1;
    if (m.n > 0 && m.in[last] == s.in[d] * s.size[d] && m.out[last] == s.out[d] * s.size[d]) {
      m.size[last] *= s.size[d];
    } else {
      last = m.n++;
      m.size[last] = s.size[d];
    }
    m.in[last] = s.in[d];
    m.out[last] = s.out[d];
  }
  return m;
}

#endif
