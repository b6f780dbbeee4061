/* Gather, its transpose, and the k largest. */
#include "cut.h"
#include <stdio.h>

namespace {

/* ---- gather ---- */

template <class T>
__global__ void __launch_bounds__(MS_BLOCK)
    gather(T *out, const T *x, const int64_t *index, int64_t total, int64_t n, int64_t m, int64_t inner, int64_t *bad) {
  int64_t to = ms_thread();
  if (to >= total)
    return;
  int64_t row = ms_quotient(to, inner), i = to - row * inner, j = index[to];
  bool valid = j >= 0 && j < n;
  out[to] = valid ? x[(ms_quotient(row, m) * n + j) * inner + i] : (T)0;
  if (!valid)
    *bad = 1;
}

/* ---- scatter_add: each output element is changed by one thread, in order of j ---- */

/* A thread for each column of g. */
__global__ void __launch_bounds__(MS_BLOCK) scatter_columns(float *out, const float *g, const int64_t *index,
                                                            int64_t columns, int64_t n, int64_t m, int64_t inner) {
  int64_t t = ms_thread();
  if (t >= columns)
    return;
  int64_t o = ms_quotient(t, inner), i = t - o * inner;
  out += o * n * inner + i;
  g += o * m * inner + i;
  index += o * m * inner + i;
#pragma unroll 4
  for (int64_t j = 0; j < m; j++) {
    int64_t k = index[j * inner];
    float x = g[j * inner];
    if (k >= 0 && k < n)
      out[k * inner] += x;
  }
}

/* A thread for each element of out looks for its terms: few columns would leave the device idle. */
__global__ void __launch_bounds__(MS_BLOCK) scatter_elements(float *out, const float *g, const int64_t *index,
                                                             int64_t total, int64_t n, int64_t m, int64_t inner) {
  int64_t t = ms_thread();
  if (t >= total)
    return;
  int64_t row = ms_quotient(t, inner), i = t - row * inner, o = ms_quotient(row, n), own = row - o * n;
  g += o * m * inner + i;
  index += o * m * inner + i;
  float sum = out[t];
#pragma unroll 4
  for (int64_t j = 0; j < m; j++)
    if (index[j * inner] == own)
      sum += g[j * inner];
  out[t] = sum;
}

/* ---- topk ----
** An entry is one number: the value in an order of bits, then the index, so that all entries differ and the smallest one
** stands first in the answer. NaN is the largest value and equals itself, as do both zeros. */

enum { TOP_ROOM = 2048, TOP_HALF = TOP_ROOM / 2 };

MS_DEVICE uint64_t entry_of(float x, uint32_t index, int largest) {
  uint32_t u = __float_as_uint(x), order = u & 0x80000000u ? ~u : u | 0x80000000u;
  if (x == 0)
    order = 0x80000000u;
  if (x != x)
    order = 0xffffffffu;
  return (uint64_t)(largest ? ~order : order) << 32 | index;
}

/* Sorts n entries in shared memory, n a power of two. */
MS_DEVICE void sort_entries(uint64_t *e, int n) {
  for (int run = 2; run <= n; run *= 2)
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int t = threadIdx.x; t < n / 2; t += blockDim.x) {
        int a = 2 * t - (t & (step - 1)), b = a + step;
        uint64_t x = e[a], y = e[b];
        if ((x > y) == ((a & run) == 0)) {
          e[a] = y;
          e[b] = x;
        }
      }
    }
  __syncthreads();
}

MS_DEVICE void write_entries(const uint64_t *e, int64_t k, float *value, int64_t *index, const float *x) {
  for (int64_t i = threadIdx.x; i < k; i += blockDim.x) {
    uint32_t j = (uint32_t)e[i];
    value[i] = x[j];
    index[i] = j;
  }
}

/* A row that fits: sorted whole. `room` is the power of two from n on. */
__global__ void topk_short(float *value, int64_t *index, const float *x, int64_t n, int64_t k, int largest, int room) {
  SHARED_DYN(uint64_t, e);
  int64_t row = blockIdx.x;
  x += row * n;
  for (int i = threadIdx.x; i < room; i += blockDim.x)
    e[i] = i < n ? entry_of(x[i], (uint32_t)i, largest) : ~(uint64_t)0;
  sort_entries(e, room);
  write_entries(e, k, value + row * k, index + row * k, x);
}

/* A longer row: the best TOP_HALF entries behind those already written are kept sorted in the lower half, chunks of the
** row come into the upper one; a chunk without a better entry is not sorted in. Repeated for every TOP_HALF of k. */
__global__ void __launch_bounds__(MS_BLOCK)
    topk_long(float *value, int64_t *index, const float *x, int64_t n, int64_t k, int largest) {
  SHARED(uint64_t, e, [TOP_ROOM]);
  int64_t row = blockIdx.x;
  x += row * n;
  value += row * k;
  index += row * k;
  uint64_t after = 0;
  for (int64_t done = 0; done < k; done += TOP_HALF) {
    for (int i = threadIdx.x; i < TOP_HALF; i += blockDim.x)
      e[i] = ~(uint64_t)0;
    int keep = (int)(k - done < (int64_t)TOP_HALF ? k - done : (int64_t)TOP_HALF);
    for (int64_t at = 0; at < n; at += TOP_HALF) {
      __syncthreads();
      uint64_t worst = e[keep - 1];
      bool better = false;
      for (int i = threadIdx.x; i < TOP_HALF; i += blockDim.x) {
        uint64_t own = ~(uint64_t)0;
        if (at + i < n)
          own = entry_of(x[at + i], (uint32_t)(at + i), largest);
        if (done > 0 && own <= after)
          own = ~(uint64_t)0;
        better = better || own < worst;
        e[TOP_HALF + i] = own;
      }
      if (__syncthreads_or(better))
        sort_entries(e, TOP_ROOM);
    }
    __syncthreads();
    after = e[TOP_HALF - 1];
    write_entries(e, keep, value + done, index + done, x);
    __syncthreads();
  }
}

} // namespace

#define GATHER(T) \
  LAUNCH((gather<T>), ms_grid(total), MS_BLOCK, 0, s->id, (T *)out, (const T *)x, index, total, n, m, inner, bad)

ms_status ms_cuda_gather(ms_stream *s, void *out, const void *x, const int64_t *index, int64_t outer, int64_t n,
                         int64_t m, int64_t inner, int width, int64_t *bad) {
  int64_t total = outer * m * inner;
  if (total == 0)
    return MS_OK;
  MS_TRY(ms_cuda_enter(s));
  if (width == 1)
    GATHER(uint8_t);
  else if (width == 2)
    GATHER(uint16_t);
  else if (width == 4)
    GATHER(uint32_t);
  else
    GATHER(uint64_t);
  return ms_cuda_launched(s, "gather");
}

ms_status ms_cuda_scatter_add(ms_stream *s, ms_real *out, const ms_real *g, const int64_t *index, int64_t outer,
                              int64_t n, int64_t m, int64_t inner) {
  enum { FEW = 1 << 22 }; /* elements of out that may be searched once for each j */
  int64_t columns = outer * inner;
  if (columns == 0 || n == 0 || m == 0)
    return MS_OK;
  MS_TRY(ms_cuda_enter(s));
  if (columns * n <= FEW)
    LAUNCH(scatter_elements, ms_grid(columns * n), MS_BLOCK, 0, s->id, out, g, index, columns * n, n, m, inner);
  else
    LAUNCH(scatter_columns, ms_grid(columns), MS_BLOCK, 0, s->id, out, g, index, columns, n, m, inner);
  return ms_cuda_launched(s, "scatter_add");
}

ms_status ms_cuda_topk(ms_stream *s, ms_real *value, int64_t *index, const ms_real *x, int64_t rows, int64_t n,
                       int64_t k, int largest) {
  if (rows == 0 || k == 0)
    return MS_OK;
  if (n > UINT32_MAX) { /* an index is half an entry */
    snprintf(s->error, sizeof s->error, "topk: expected rows of less than 2^32 elements, got %lld", (long long)n);
    return MS_ERANGE;
  }
  MS_TRY(ms_cuda_enter(s));
  if (n <= TOP_ROOM) {
    int room = 2;
    while (room < n)
      room *= 2;
    int threads = room / 2 < MS_WARP ? MS_WARP : room / 2 < MS_BLOCK ? room / 2 : MS_BLOCK;
    LAUNCH(topk_short, dim3((unsigned)rows), threads, room * sizeof(uint64_t), s->id, value, index, x, n, k, !!largest,
           room);
  } else {
    LAUNCH(topk_long, dim3((unsigned)rows), MS_BLOCK, 0, s->id, value, index, x, n, k, !!largest);
  }
  return ms_cuda_launched(s, "topk");
}
