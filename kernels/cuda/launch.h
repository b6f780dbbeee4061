/* What the .cu files share: the stream, launch sizes, errors, typed access, sums over a block. */
#ifndef MS_LAUNCH_H
#define MS_LAUNCH_H

#include "cuda.h"
#include "gpu.h"

struct ms_stream {
  cudaStream_t id;
  int device;
  char error[MS_WHY]; /* detail of the last failure */
  void *scratch;      /* see ms_cuda_scratch */
  size_t scratch_bytes;
  int graphs;        /* that were recorded here and live: they hold addresses of scratch memory */
  void *outgrown;    /* scratch memory that one of them may still use, see memory.cu */
  unsigned *counter; /* [MS_COUNTERS] on the device, 0 between launches: who counts up leaves 0 */
  void *blas, *dnn;  /* of blas.cu and conv_cudnn.cu, made on first use */
  int64_t *classes;  /* host memory: 0, or those that a label was not one of, for the next wait to tell */
};

/* ---- host side (services.cu) ---- */

/* Makes the stream's device current. Every row and service begins with it, or with a launch that does. */
ms_status ms_cuda_enter(ms_stream *s);
/* Until the stream is done; what kernels found wrong with values is left to the service synchronize. */
ms_status ms_cuda_wait(ms_stream *s);
/* MS_OK, or the failure `e` of `what` (a kernel or an API call) as a status with its text in s->error. */
ms_status ms_cuda_check(ms_stream *s, cudaError_t e, const char *what);
/* To be returned behind a launch: a failed launch is reported with the kernel's name; with MOONSPIKE_SYNC=1 waits, so
** that a kernel that fails while it runs is named too. */
ms_status ms_cuda_launched(ms_stream *s, const char *kernel);
/* Scratch of this stream, 256-byte aligned, valid until the row returns: later work in the same stream may reuse it. It
** grows to the largest request and stays, so that a captured step, run once before, allocates nothing. What it outgrows
** is kept as long as there are graphs. */
ms_status ms_cuda_scratch(ms_stream *s, size_t bytes, void **out);

#define MS_TRY(call)         \
  do {                       \
    ms_status try_ = (call); \
    if (try_ != MS_OK)       \
      return try_;           \
  } while (0)

enum { MS_BLOCK = 256, MS_WARP = 32, MS_COUNTERS = 256 };

static inline int64_t ms_div_up(int64_t n, int64_t d) {
  return (n + d - 1) / d;
}

/* Blocks of MS_BLOCK threads, each thread `each` elements. */
static inline dim3 ms_grid(int64_t n, int each = 1) {
  return dim3((unsigned)ms_div_up(n, (int64_t)MS_BLOCK * each));
}

/* ---- device side ---- */

#define MS_DEVICE static __device__ __forceinline__

MS_DEVICE int64_t ms_thread() {
  return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

/* Element i as a real. Branches are uniform: the type is the same for every thread. */
MS_DEVICE float ms_get(ms_data d, int64_t i) {
  switch (d.dtype) {
  case MS_F32:
    return ((const float *)d.p)[i];
  case MS_BF16:
    return ms_bf16_to(((const ms_bf16 *)d.p)[i]);
  case MS_BITS:
    return (float)(((const uint8_t *)d.p)[i >> 3] >> (i & 7) & 1) * d.scale;
  case MS_SPIKE:
    return (float)((const uint8_t *)d.p)[i] * d.scale;
  case MS_I64:
    return (float)((const int64_t *)d.p)[i];
  default:
    return (float)((const uint8_t *)d.p)[i];
  }
}

/* Writes a real or bfloat16 element. */
MS_DEVICE void ms_put(ms_data d, int64_t i, float x) {
  if (d.dtype == MS_BF16)
    ((ms_bf16 *)d.p)[i] = ms_bf16_from(x);
  else
    ((float *)d.p)[i] = x;
}

/* The sum over a warp, in every lane, added in the same order whatever the lane. */
template <class T> MS_DEVICE T ms_warp_sum(T x) {
  for (int d = MS_WARP / 2; d > 0; d /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

/* The sum over a block of at most 1024 threads, in every thread. `room` is shared memory of 32 elements; may be used
** again at once. */
template <class T> MS_DEVICE T ms_block_sum(T x, T *room) {
  int lane = threadIdx.x % MS_WARP, warp = threadIdx.x / MS_WARP, warps = (blockDim.x + MS_WARP - 1) / MS_WARP;
  x = ms_warp_sum(x);
  __syncthreads();
  if (lane == 0)
    room[warp] = x;
  __syncthreads();
  return ms_warp_sum(lane < warps ? room[lane] : (T)0);
}

#endif
