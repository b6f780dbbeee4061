// Elements of float32 and bfloat16 for the emulated libraries.
#pragma once
#include "product.h"
#include <cmath>
#include <cstring>

#pragma GCC visibility push(hidden)

namespace emu {

inline float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

inline uint32_t to_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

inline float not_a_number() {
  return from_bits(~0u);
}

inline uint16_t to_bf16(float f) {
  uint32_t u = to_bits(f);
  return std::isnan(f) ? 0x7fff : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

inline float to_tf32(float f) {
  uint32_t u = to_bits(f);
  return std::isfinite(f) ? from_bits((u + 0xfff + (u >> 13 & 1)) & ~0x1fffu) : f;
}

inline float load(const void *p, cudaDataType_t type, int64_t i) {
  return type == CUDA_R_32F ? ((const float *)p)[i] : from_bits((uint32_t)((const uint16_t *)p)[i] << 16);
}

inline void store(void *p, cudaDataType_t type, int64_t i, float v) {
  if (type == CUDA_R_32F)
    ((float *)p)[i] = v;
  else
    ((uint16_t *)p)[i] = to_bf16(v);
}

// Not instrumented: callers have copied the operands into arrays of n elements.
__attribute__((no_sanitize("address", "undefined"))) inline double dot(const float *a, const float *b, int64_t n) {
  double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    s0 += (double)a[i] * b[i];
    s1 += (double)a[i + 1] * b[i + 1];
    s2 += (double)a[i + 2] * b[i + 2];
    s3 += (double)a[i + 3] * b[i + 3];
  }
  for (; i < n; i++)
    s0 += (double)a[i] * b[i];
  return s0 + s1 + (s2 + s3);
}

} // namespace emu

#pragma GCC visibility pop
