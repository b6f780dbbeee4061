/* Packed spikes into bytes and values: a thread turns one byte of bits into eight elements. */
#include "vec.h"

namespace {

MS_DEVICE float value(unsigned bits, int i, float one) {
  return bits >> i & 1 ? one : 0;
}

__global__ void __launch_bounds__(MS_BLOCK) unpack_bits(ms_data out, ms_data x, int64_t n, int aligned) {
  int64_t at = 8 * ms_thread();
  if (at >= n)
    return;
  unsigned bits = ((const uint8_t *)x.p)[at / 8];
  if (!aligned || at + 8 > n) {
    for (int i = 0; i < 8 && at + i < n; i++)
      if (out.dtype == MS_SPIKE)
        ((uint8_t *)out.p)[at + i] = bits >> i & 1;
      else
        ms_put(out, at + i, value(bits, i, x.scale));
  } else if (out.dtype == MS_SPIKE) {
    *(uint2 *)((uint8_t *)out.p + at) = make_uint2(ms_spread4(bits), ms_spread4(bits >> 4));
  } else if (out.dtype == MS_BF16) {
    uint32_t one = ms_bf16_from(x.scale).bits, pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
      pair[i] = (bits >> 2 * i & 1 ? one : 0) | (bits >> (2 * i + 1) & 1 ? one << 16 : 0);
    *(uint4 *)((ms_bf16 *)out.p + at) = make_uint4(pair[0], pair[1], pair[2], pair[3]);
  } else {
    float4 *to = (float4 *)((float *)out.p + at);
    float s = x.scale;
    to[0] = make_float4(value(bits, 0, s), value(bits, 1, s), value(bits, 2, s), value(bits, 3, s));
    to[1] = make_float4(value(bits, 4, s), value(bits, 5, s), value(bits, 6, s), value(bits, 7, s));
  }
}

} // namespace

ms_status ms_cuda_unpack_bits(ms_stream *s, ms_data out, ms_data x, int64_t n) {
  if (n == 0)
    return MS_OK;
  MS_TRY(ms_cuda_enter(s));
  int aligned = (uintptr_t)out.p % (out.dtype == MS_SPIKE ? 8 : 16) == 0;
  LAUNCH(unpack_bits, ms_grid(n, 8), MS_BLOCK, 0, s->id, out, x, n, aligned);
  return ms_cuda_launched(s, "unpack_bits");
}
