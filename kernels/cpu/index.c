#include "cpu.h"
#include "parallel.h"
#include <string.h>

/* ---- gather and its transpose ---- */

enum { INNER_PIECE = 1024 };

#define GATHER_CASE(T)                                    \
  case sizeof(T):                                         \
    ((T *)out)[to] = valid ? ((const T *)x)[from] : (T)0; \
    break;

ms_status ms_cpu_gather(ms_stream *s, void *out, const void *x, const int64_t *index, int64_t outer, int64_t n,
                        int64_t m, int64_t inner, int width, int64_t *bad) {
  (void)s;
  int64_t rows = outer * m, wrong = 0;
  ms_parallel_for(r, rows, inner) {
    int row_wrong = 0;
    for (int64_t i = 0; i < inner; i++) {
      int64_t to = r * inner + i, j = index[to], from = (r / m * n + j) * inner + i;
      int valid = j >= 0 && j < n;
      row_wrong |= !valid;
      switch (width) {
        GATHER_CASE(uint8_t)
        GATHER_CASE(uint16_t)
        GATHER_CASE(uint32_t)
      default:
        ((uint64_t *)out)[to] = valid ? ((const uint64_t *)x)[from] : 0;
      }
    }
    if (row_wrong) {
#pragma omp atomic write
      wrong = 1;
    }
  }
  if (wrong)
    *bad = 1;
  return MS_OK;
}

static void scatter_piece(ms_real *out, const ms_real *g, const int64_t *index, int64_t n, int64_t m, int64_t inner,
                          int64_t begin, int64_t end) {
  for (int64_t j = 0; j < m; j++)
    for (int64_t i = begin; i < end; i++) {
      int64_t k = index[j * inner + i];
      if (k >= 0 && k < n)
        out[k * inner + i] += g[j * inner + i];
    }
}

ms_status ms_cpu_scatter_add(ms_stream *s, ms_real *out, const ms_real *g, const int64_t *index, int64_t outer,
                             int64_t n, int64_t m, int64_t inner) {
  (void)s;
  int64_t pieces = ms_ceil_div(inner, INNER_PIECE), units = outer * pieces;
  ms_parallel_for(u, units, m * ms_min64(inner, INNER_PIECE)) {
    int64_t o = u / pieces, begin = u % pieces * INNER_PIECE, end = ms_min64(inner, begin + INNER_PIECE);
    scatter_piece(out + o * n * inner, g + o * m * inner, index + o * m * inner, n, m, inner, begin, end);
  }
  return MS_OK;
}

/* ---- topk ---- */

typedef struct top {
  ms_real *value;
  int64_t *index;
  int largest;
} top;

/* Whether (a, i) stands before (b, j) in the answer: a total order, with NaN as the largest value. */
static int before(int largest, ms_real a, int64_t i, ms_real b, int64_t j) {
  int a_nan = a != a, b_nan = b != b;
  if (a_nan || b_nan ? a_nan == b_nan : a == b)
    return i < j;
  int greater = a_nan || (!b_nan && a > b);
  return greater == largest;
}

/* Restores the heap below `at`: its root is the entry that stands last. */
static void sink(top t, int64_t n, int64_t at, ms_real value, int64_t index) {
  for (int64_t child = 2 * at + 1; child < n; at = child, child = 2 * at + 1) {
    if (child + 1 < n && before(t.largest, t.value[child], t.index[child], t.value[child + 1], t.index[child + 1]))
      child++;
    if (before(t.largest, t.value[child], t.index[child], value, index))
      break;
    t.value[at] = t.value[child];
    t.index[at] = t.index[child];
  }
  t.value[at] = value;
  t.index[at] = index;
}

static void topk_row(top t, const ms_real *x, int64_t n, int64_t k) {
  for (int64_t i = 0; i < k; i++) {
    t.value[i] = x[i];
    t.index[i] = i;
  }
  for (int64_t i = k / 2; i-- > 0;)
    sink(t, k, i, t.value[i], t.index[i]);
  for (int64_t i = k; i < n; i++)
    if (before(t.largest, x[i], i, t.value[0], t.index[0]))
      sink(t, k, 0, x[i], i);
  for (int64_t last = k - 1; last > 0; last--) {
    ms_real value = t.value[last];
    int64_t index = t.index[last];
    t.value[last] = t.value[0];
    t.index[last] = t.index[0];
    sink(t, last, 0, value, index);
  }
}

ms_status ms_cpu_topk(ms_stream *s, ms_real *value, int64_t *index, const ms_real *x, int64_t rows, int64_t n,
                      int64_t k, int largest) {
  (void)s;
  if (k == 0)
    return MS_OK;
  ms_parallel_for(r, rows, 4 * n) topk_row((top){value + r * k, index + r * k, !!largest}, x + r * n, n, k);
  return MS_OK;
}
