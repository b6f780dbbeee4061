/* Random numbers: a thread draws the four elements of one Philox block, with the numbers of the CPU to the bit. */
#include "../math/philox.h"
#include "walk.h"

namespace {

struct draw {
  ms_shape shape;
  ms_operand out;
  ms_random_kind kind;
  ms_philox_key key;
  float a, b, probability;
  int64_t lo;
  uint64_t span;
  int fours; /* groups of four lie side by side in out */
};

__device__ __forceinline__ void real_values(const draw &d, const ms_philox4 &w, float *y) {
  if (d.kind == MS_RANDOM_NORMAL) {
    ms_random_normal(w.w[0], w.w[1], &y[0], &y[1]);
    ms_random_normal(w.w[2], w.w[3], &y[2], &y[3]);
#pragma unroll
    for (int e = 0; e < 4; e++)
      y[e] = fmaf(d.b, y[e], d.a);
    return;
  }
#pragma unroll
  for (int e = 0; e < 4; e++) {
    float u = ms_random_uniform(w.w[e]);
    y[e] = d.kind == MS_RANDOM_UNIFORM ? fmaf(d.b - d.a, u, d.a) : u < d.probability ? d.b : 0;
  }
}

template <class T> __device__ __forceinline__ void store_each(const draw &d, int64_t at, const T *y) {
#pragma unroll
  for (int e = 0; e < 4; e++)
    if (at + e < d.shape.total)
      ms_store(d.out.data, ms_offset(d.shape, d.out.stride, at + e), y[e]);
}

__global__ void __launch_bounds__(MS_BLOCK) random(const __grid_constant__ draw d) {
  int64_t block = ms_thread(), at = 4 * block;
  if (at >= d.shape.total)
    return;
  uint64_t key = d.key.draws ? ms_philox_draw(d.key.key, *d.key.draws) : d.key.key;
  ms_philox4 w = ms_philox_block(key, d.key.offset + (uint64_t)block, 0);
  float y[4];
  if (d.kind != MS_RANDOM_BITS) {
    real_values(d, w, y);
  } else {
    ms_philox4 high = ms_philox_block(key, d.key.offset + (uint64_t)block, 1);
    int64_t whole[4];
#pragma unroll
    for (int e = 0; e < 4; e++)
      whole[e] = ms_random_int(w.w[e], high.w[e], d.lo, d.span);
    if (d.out.data.dtype == MS_I64 || d.out.data.dtype == MS_U8) {
      store_each(d, at, whole);
      return;
    }
#pragma unroll
    for (int e = 0; e < 4; e++)
      y[e] = (float)whole[e];
  }
  if (d.fours && at + 4 <= d.shape.total)
    ms_store4(d.out.data, ms_offset(d.shape, d.out.stride, at), y);
  else
    store_each(d, at, y);
}

} // namespace

ms_status ms_cuda_random(ms_stream *s, ms_random_kind kind, const ms_loop *l, ms_philox_key key, double a, double b) {
  draw d = {};
  d.shape = ms_shape_of(l->ndim, l->size);
  if (d.shape.total == 0)
    return MS_OK;
  d.out = l->out;
  d.kind = kind;
  d.key = key;
  d.a = d.probability = (float)a;
  d.b = (float)b;
  d.lo = ms_real_to_int(a);
  d.span = (uint64_t)ms_real_to_int(b) - (uint64_t)d.lo;
  if (kind != MS_RANDOM_BITS || d.span == 0) /* an empty range: always its lower end */
    d.span = 1;
  d.fours = d.shape.ndim == 1 && l->out.stride[0] == 1 && ms_aligned4(l->out.data);
  MS_TRY(ms_cuda_enter(s));
  LAUNCH(random, ms_grid(d.shape.total, 4), MS_BLOCK, 0, s->id, d);
  return ms_cuda_launched(s, "random");
}
