/* Vectors of V adjacent elements of any type: V is 8, 4 or 1. Pointers are aligned to a whole vector, see ms_aligned;
** V = 1 asks for nothing. */
#ifndef MS_VEC_H
#define MS_VEC_H

#include "launch.h"

/* Whether vectors of v elements from p on, and `step` elements further, lie as the reads below want. */
static inline int ms_aligned(const void *p, ms_dtype t, int64_t step, int v) {
  size_t bytes = t == MS_BITS ? 1 : (t == MS_F32 ? 4 : t == MS_BF16 ? 2 : 1) * (size_t)v;
  return t != MS_I64 && (uintptr_t)p % (bytes < 16 ? bytes : 16) == 0 && step % (t == MS_BITS ? 8 : v) == 0;
}

/* W words as they lie in memory. */
template <int W> struct ms_words { uint32_t w[W]; };

template <int W> MS_DEVICE ms_words<W> ms_read(const void *p) {
  ms_words<W> r;
  if constexpr (W % 4 == 0) {
#pragma unroll
    for (int q = 0; q < W / 4; q++) {
      uint4 x = ((const uint4 *)p)[q];
      r.w[4 * q] = x.x;
      r.w[4 * q + 1] = x.y;
      r.w[4 * q + 2] = x.z;
      r.w[4 * q + 3] = x.w;
    }
  } else if constexpr (W == 2) {
    uint2 x = *(const uint2 *)p;
    r.w[0] = x.x;
    r.w[1] = x.y;
  } else {
    r.w[0] = *(const uint32_t *)p;
  }
  return r;
}

template <int W> MS_DEVICE void ms_write(void *p, const ms_words<W> &r) {
  if constexpr (W % 4 == 0) {
#pragma unroll
    for (int q = 0; q < W / 4; q++) {
      uint4 x = {r.w[4 * q], r.w[4 * q + 1], r.w[4 * q + 2], r.w[4 * q + 3]};
      ((uint4 *)p)[q] = x;
    }
  } else if constexpr (W == 2) {
    uint2 x = {r.w[0], r.w[1]};
    *(uint2 *)p = x;
  } else {
    *(uint32_t *)p = r.w[0];
  }
}

MS_DEVICE float ms_word_float(uint32_t w) {
  return __uint_as_float(w);
}

/* Element k of packed bfloat16. */
template <int W> MS_DEVICE float ms_half_at(const ms_words<W> &r, int k) {
  return ms_word_float(k % 2 ? r.w[k / 2] & 0xffff0000u : r.w[k / 2] << 16);
}

/* ---- a vector kept in the form it has in memory; E is float, ms_bf16, or ms_any for every type with V = 1 ---- */

struct ms_any {};

#define MS_MEMBER __device__ __forceinline__

template <class E, int V> struct ms_raw {
  static_assert(V == 1, "any type comes one by one");
  ms_words<1> r;
  MS_MEMBER void read(const ms_data &d, int64_t i) {
    r.w[0] = __float_as_uint(ms_get(d, i));
  }
  MS_MEMBER float at(int) const {
    return ms_word_float(r.w[0]);
  }
  static MS_MEMBER bool holds(const ms_data &) {
    return true;
  }
};

template <int V> struct ms_raw<float, V> {
  ms_words<V> r;
  MS_MEMBER void read(const ms_data &d, int64_t i) {
    r = ms_read<V>((const float *)d.p + i);
  }
  MS_MEMBER float at(int k) const {
    return ms_word_float(r.w[k]);
  }
  static MS_MEMBER bool holds(const ms_data &d) {
    return d.dtype == MS_F32;
  }
};

template <int V> struct ms_raw<ms_bf16, V> {
  ms_words<V / 2> r;
  MS_MEMBER void read(const ms_data &d, int64_t i) {
    r = ms_read<V / 2>((const ms_bf16 *)d.p + i);
  }
  MS_MEMBER float at(int k) const {
    return ms_half_at(r, k);
  }
  static MS_MEMBER bool holds(const ms_data &d) {
    return d.dtype == MS_BF16;
  }
};

/* ---- reals from and to every type ---- */

template <int V> MS_DEVICE void ms_load_real(const float *p, float (&x)[V]) {
  ms_words<V> r = ms_read<V>(p);
#pragma unroll
  for (int k = 0; k < V; k++)
    x[k] = ms_word_float(r.w[k]);
}

template <int V> MS_DEVICE void ms_store_real(float *p, const float (&x)[V]) {
  ms_words<V> r;
#pragma unroll
  for (int k = 0; k < V; k++)
    r.w[k] = __float_as_uint(x[k]);
  ms_write(p, r);
}

template <int V> MS_DEVICE void ms_load(const ms_data &d, int64_t i, float (&x)[V]) {
  if constexpr (V == 1) {
    x[0] = ms_get(d, i);
  } else if (d.dtype == MS_F32) {
    ms_load_real(((const float *)d.p) + i, x);
  } else if (d.dtype == MS_BF16) {
    ms_words<V / 2> r = ms_read<V / 2>((const ms_bf16 *)d.p + i);
#pragma unroll
    for (int k = 0; k < V; k++)
      x[k] = ms_half_at(r, k);
  } else if (d.dtype == MS_BITS) {
    unsigned bits = (unsigned)((const uint8_t *)d.p)[i >> 3] >> (i & 7);
#pragma unroll
    for (int k = 0; k < V; k++)
      x[k] = (float)(bits >> k & 1) * d.scale;
  } else {
    ms_words<V / 4> r = ms_read<V / 4>((const uint8_t *)d.p + i);
    float scale = d.dtype == MS_SPIKE ? d.scale : 1.0f;
#pragma unroll
    for (int k = 0; k < V; k++)
      x[k] = (float)(r.w[k / 4] >> k % 4 * 8 & 0xff) * scale;
  }
}

/* To a real type. */
template <int V> MS_DEVICE void ms_store(const ms_data &d, int64_t i, const float (&x)[V]) {
  if constexpr (V == 1) {
    ms_put(d, i, x[0]);
  } else if (d.dtype == MS_BF16) {
    ms_words<V / 2> r;
#pragma unroll
    for (int k = 0; k < V; k += 2)
      r.w[k / 2] = (uint32_t)ms_bf16_from(x[k]).bits | (uint32_t)ms_bf16_from(x[k + 1]).bits << 16;
    ms_write((ms_bf16 *)d.p + i, r);
  } else {
    ms_store_real((float *)d.p + i, x);
  }
}

/* ---- V bits of a thread ---- */

/* Four bits as four bytes. */
MS_DEVICE uint32_t ms_spread4(unsigned bits) {
  return (bits & 0xf) * 0x00204081u & 0x01010101u;
}

/* Bytes p[0..V), from the words made by ms_spread4. */
template <int V> MS_DEVICE void ms_store_bytes(uint8_t *p, const uint32_t (&w)[(V + 3) / 4]) {
  if constexpr (V == 1) {
    *p = (uint8_t)w[0];
  } else {
    ms_words<V / 4> r;
#pragma unroll
    for (int k = 0; k < V / 4; k++)
      r.w[k] = w[k];
    ms_write(p, r);
  }
}

/* Bits [at, at + V) of `bits`, gathered from neighbouring lanes to whole bytes: element at + V belongs to the next
** lane. Reached by every thread of a warp; `own` is 0 where a thread has nothing to write (live 0). */
template <int V> MS_DEVICE void ms_store_bits(uint8_t *bits, int64_t at, unsigned own, bool live) {
  unsigned byte = own;
  if constexpr (V == 4)
    byte |= __shfl_xor_sync(0xffffffffu, own, 1) << 4;
  if constexpr (V == 1)
    byte = __ballot_sync(0xffffffffu, own) >> threadIdx.x % MS_WARP;
  if (live && at % 8 == 0)
    bits[at / 8] = (uint8_t)byte;
}

#endif
