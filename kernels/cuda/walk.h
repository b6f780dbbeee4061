/* Strided loops on the device: positions into offsets with few divisions, elements of any type as float or int64. */
#ifndef MS_WALK_H
#define MS_WALK_H

#include "../math/convert.h"
#include "launch.h"

/* n / by for n < 2^31 as a product and a shift (Granlund and Montgomery 1994). */
struct ms_divisor {
  uint32_t by, factor;
  int shift;
};

static inline ms_divisor ms_divide_by(int64_t by) {
  ms_divisor d = {(uint32_t)by, 0, 0};
  while ((int64_t)1 << d.shift < by)
    d.shift++;
  uint64_t rest = ((uint64_t)1 << d.shift) - (uint64_t)by;
  d.factor = (uint32_t)((rest << 32) / (uint64_t)by + 1);
  return d;
}

/* Sizes, last fastest; `wide` where positions need 64 bits. */
struct ms_shape {
  int ndim, wide;
  int64_t total, size[MS_MAX_DIMS];
  ms_divisor by[MS_MAX_DIMS];
};

/* At least one dimension, so that kernels need no case without. */
static inline ms_shape ms_shape_of(int ndim, const int64_t *size) {
  ms_shape s = {};
  s.ndim = ndim > 0 ? ndim : 1;
  s.total = s.size[0] = 1;
  for (int d = 0; d < ndim; d++) {
    s.size[d] = size[d];
    s.total *= size[d];
  }
  s.wide = s.total > INT32_MAX;
  for (int d = 0; d < s.ndim && !s.wide && s.total > 0; d++)
    s.by[d] = ms_divide_by(s.size[d]);
  return s;
}

static inline int64_t ms_dtype_bytes(ms_dtype t) {
  return t == MS_F32 ? 4 : t == MS_BF16 ? 2 : t == MS_I64 ? 8 : 1;
}

static inline int ms_is_integer(ms_dtype t) {
  return t == MS_U8 || t == MS_I64;
}

/* Calls f(d, i) with the index i of position `at` along every dimension d. */
template <class F> MS_DEVICE void ms_each_index(const ms_shape &s, int64_t at, F f) {
  if (s.wide) {
#pragma unroll 1
    for (int d = s.ndim - 1; d > 0; d--) {
      int64_t q = at / s.size[d];
      f(d, at - q * s.size[d]);
      at = q;
    }
    f(0, at);
  } else {
    uint32_t n = (uint32_t)at;
    for (int d = s.ndim - 1; d > 0; d--) {
      uint32_t q = (__umulhi(n, s.by[d].factor) + n) >> s.by[d].shift;
      f(d, (int64_t)(n - q * s.by[d].by));
      n = q;
    }
    f(0, (int64_t)n);
  }
}

MS_DEVICE int64_t ms_offset(const ms_shape &s, const int64_t *stride, int64_t at) {
  int64_t offset = 0;
  ms_each_index(s, at, [&](int d, int64_t i) { offset += i * stride[d]; });
  return offset;
}

/* One element. A float comes from any type; an int64 from integers only. */
MS_DEVICE void ms_load(float &x, ms_data d, int64_t i) {
  x = ms_get(d, i);
}

MS_DEVICE void ms_load(int64_t &x, ms_data d, int64_t i) {
  x = d.dtype == MS_U8 ? ((const uint8_t *)d.p)[i] : ((const int64_t *)d.p)[i];
}

MS_DEVICE void ms_store(ms_data d, int64_t i, float x) {
  switch (d.dtype) {
  case MS_F32:
    ((float *)d.p)[i] = x;
    break;
  case MS_BF16:
    ((ms_bf16 *)d.p)[i] = ms_bf16_from(x);
    break;
  case MS_SPIKE:
    ((uint8_t *)d.p)[i] = ms_real_to_spike(x, d.scale);
    break;
  case MS_U8:
    ((uint8_t *)d.p)[i] = ms_real_to_u8(x);
    break;
  default:
    ((int64_t *)d.p)[i] = ms_real_to_int(x);
  }
}

MS_DEVICE void ms_store(ms_data d, int64_t i, int64_t x) {
  if (d.dtype == MS_U8)
    ((uint8_t *)d.p)[i] = (uint8_t)x;
  else
    ((int64_t *)d.p)[i] = x;
}

/* Whether groups of four elements can be moved at once: see ms_load4. */
static inline int ms_aligned4(ms_data d) {
  int64_t bytes = 4 * ms_dtype_bytes(d.dtype);
  return (uintptr_t)d.p % (uintptr_t)(bytes < 16 ? bytes : 16) == 0;
}

/* Four elements from i on, i a multiple of 4 and ms_aligned4(d). */
MS_DEVICE void ms_load4(float *x, ms_data d, int64_t i) {
  if (d.dtype == MS_F32) {
    float4 v = *(const float4 *)((const float *)d.p + i);
    x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
  } else if (d.dtype == MS_BF16) {
    ushort4 v = *(const ushort4 *)((const ms_bf16 *)d.p + i);
    x[0] = ms_bf16_to(ms_bf16{v.x}), x[1] = ms_bf16_to(ms_bf16{v.y});
    x[2] = ms_bf16_to(ms_bf16{v.z}), x[3] = ms_bf16_to(ms_bf16{v.w});
  } else if (d.dtype == MS_I64) {
    longlong2 a = *(const longlong2 *)((const int64_t *)d.p + i);
    longlong2 b = *(const longlong2 *)((const int64_t *)d.p + i + 2);
    x[0] = (float)a.x, x[1] = (float)a.y, x[2] = (float)b.x, x[3] = (float)b.y;
  } else {
    uchar4 v = *(const uchar4 *)((const uint8_t *)d.p + i);
    float scale = d.dtype == MS_SPIKE ? d.scale : 1;
    x[0] = v.x * scale, x[1] = v.y * scale, x[2] = v.z * scale, x[3] = v.w * scale;
  }
}

MS_DEVICE void ms_store4(ms_data d, int64_t i, const float *x) {
  if (d.dtype == MS_F32) {
    *(float4 *)((float *)d.p + i) = make_float4(x[0], x[1], x[2], x[3]);
  } else if (d.dtype == MS_BF16) {
    ushort4 v = {ms_bf16_from(x[0]).bits, ms_bf16_from(x[1]).bits, ms_bf16_from(x[2]).bits, ms_bf16_from(x[3]).bits};
    *(ushort4 *)((ms_bf16 *)d.p + i) = v;
  } else if (d.dtype == MS_SPIKE) {
    *(uchar4 *)((uint8_t *)d.p + i) = make_uchar4(ms_real_to_spike(x[0], d.scale), ms_real_to_spike(x[1], d.scale),
                                                  ms_real_to_spike(x[2], d.scale), ms_real_to_spike(x[3], d.scale));
  } else if (d.dtype == MS_U8) {
    *(uchar4 *)((uint8_t *)d.p + i) =
        make_uchar4(ms_real_to_u8(x[0]), ms_real_to_u8(x[1]), ms_real_to_u8(x[2]), ms_real_to_u8(x[3]));
  } else {
    for (int e = 0; e < 4; e++)
      ((int64_t *)d.p)[i + e] = ms_real_to_int(x[e]);
  }
}

#endif
