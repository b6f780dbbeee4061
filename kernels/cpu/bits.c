/* Packed spikes into bytes and values. */
#include "bits.h"
#include "cpu.h"
#include "tile.h"

static MS_HOT void unpack(ms_data out, ms_data x, int64_t at, int64_t n) {
  if (out.dtype == MS_SPIKE) {
    MS_BITS_EXPAND((uint8_t *)out.p + at, (const uint8_t *)x.p, at, n, 1);
    return;
  }
  for (int64_t end = at + n; at < end; at += MS_TILE) {
    ms_real buf[MS_TILE], *y = ms_tile_open(out, at, buf);
    int64_t len = ms_min64(MS_TILE, end - at);
    MS_BITS_EXPAND(y, (const uint8_t *)x.p, at, len, x.scale);
    ms_tile_close(out, at, len, y);
  }
}

ms_status ms_cpu_unpack_bits(ms_stream *s, ms_data out, ms_data x, int64_t n) {
  (void)s;
  int64_t piece = 1 << 16;
  ms_parallel_for(i, ms_ceil_div(n, piece), piece) unpack(out, x, i * piece, ms_min64(piece, n - i * piece));
  return MS_OK;
}
