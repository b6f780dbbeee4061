/* The arithmetic type of every kernel. Normally float; the double-precision test build (-DMS_REAL64) compiles the
** same sources over double, so that gradients can be checked by finite differences. */
#ifndef MS_REAL_H
#define MS_REAL_H

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define MS_HD static __host__ __device__ __forceinline__
#else
#define MS_HD static inline __attribute__((always_inline, unused))
#endif

#ifdef MS_REAL64
typedef double ms_real;
#define MS_FN(name) name
#define MS_REAL_MAX 1.7976931348623157e308
#else
typedef float ms_real;
#define MS_FN(name) name##f
#define MS_REAL_MAX 3.402823466e38f
#endif

#define MS_R(x) ((ms_real)(x))

/* bfloat16 as a plain 16-bit pattern: neither C nor a toolkit-free C++ has the type. Rounds to nearest even; equals
** the CUDA conversion for every float, NaN included. */
typedef struct ms_bf16 {
  uint16_t bits;
} ms_bf16;

MS_HD ms_bf16 ms_bf16_from(float x) {
  union {
    float f;
    uint32_t u;
  } v = {x};
  ms_bf16 r;
  if (x != x)
    r.bits = 0x7fff;
  else
    r.bits = (uint16_t)((v.u + 0x7fffu + (v.u >> 16 & 1u)) >> 16);
  return r;
}

MS_HD float ms_bf16_to(ms_bf16 x) {
  union {
    uint32_t u;
    float f;
  } v;
  v.u = (uint32_t)x.bits << 16;
  return v.f;
}

#endif
