/* Pooling of channels-last images: windows as rectangles of pixels, channels side by side. Gradients gather over the
** windows that hold a pixel, so that overlapping windows need no order of writes. */
#include "cpu.h"
#include "gemm.h"

enum { LANES = MS_NR };

/* Positions [lo, hi) of an axis inside window o, and how long the window is with its padding. */
typedef struct span {
  int64_t lo, hi, full;
} span;

MS_HD span window(int64_t o, int64_t in, int64_t out, int size, int stride, int pad, int adaptive) {
  if (adaptive) {
    span s = {o * in / out, ms_ceil_div((o + 1) * in, out), 0};
    s.full = s.hi - s.lo;
    return s;
  }
  int64_t start = o * stride - pad, end = ms_min64(start + size, in + pad);
  return (span){ms_max64(start, 0), ms_min64(end, in), end - start};
}

MS_HD span window_y(const ms_pool_desc *d, int64_t o) {
  return window(o, d->h, d->oh, d->kh, d->stride_h, d->pad_h, d->adaptive);
}

MS_HD span window_x(const ms_pool_desc *d, int64_t o) {
  return window(o, d->w, d->ow, d->kw, d->stride_w, d->pad_w, d->adaptive);
}

/* Windows [lo, hi) that hold position i of an axis. */
MS_HD span holders(int64_t i, int64_t in, int64_t out, int size, int stride, int pad, int adaptive) {
  if (adaptive)
    return (span){i * out / in, ms_ceil_div((i + 1) * out, in), 0};
  int64_t first = i + pad - size + 1;
  return (span){first > 0 ? ms_ceil_div(first, stride) : 0, ms_min64((i + pad) / stride + 1, out), 0};
}

/* What an average divides by. */
MS_HD ms_real divisor(const ms_pool_desc *d, span y, span x) {
  int64_t n = d->count_pad ? y.full * x.full : (y.hi - y.lo) * (x.hi - x.lo);
  return (ms_real)ms_max64(n, 1);
}

/* A line of pixels of work for each iteration. */
static int64_t line_cost(const ms_pool_desc *d) {
  return d->w * d->c * ms_max64(ms_ceil_div(d->h, ms_max64(d->oh, 1)), 1);
}

/* ---- average ---- */

static MS_HOT void avg_line(const ms_pool_desc *d, ms_data x, ms_data y, int64_t line) {
  int64_t image = line / d->oh;
  span sy = window_y(d, line % d->oh);
  for (int64_t ox = 0; ox < d->ow; ox++) {
    span sx = window_x(d, ox);
    ms_real factor = 1 / divisor(d, sy, sx);
    for (int64_t c = 0; c < d->c; c += LANES) {
      int64_t n = ms_min64(LANES, d->c - c);
      ms_real sum[LANES] = {0}, part[LANES];
      for (int64_t iy = sy.lo; iy < sy.hi; iy++)
        for (int64_t ix = sx.lo; ix < sx.hi; ix++) {
          ms_unpack(part, x, ((image * d->h + iy) * d->w + ix) * d->c + c, n);
          MS_SIMD
          for (int64_t i = 0; i < n; i++)
            sum[i] += part[i];
        }
      ms_store_tile(y, (line * d->ow + ox) * d->c + c, 0, sum, 1, n, factor, 0, NULL);
    }
  }
}

/* Spikes in, spikes out: the byte of the result is the sum of the bytes. */
static MS_HOT void avg_spike_line(const ms_pool_desc *d, const uint8_t *x, uint8_t *y, int64_t line) {
  int64_t image = line / d->oh;
  span sy = window_y(d, line % d->oh);
  for (int64_t ox = 0; ox < d->ow; ox++) {
    span sx = window_x(d, ox);
    uint8_t *restrict out = y + (line * d->ow + ox) * d->c;
    memset(out, 0, (size_t)d->c);
    for (int64_t iy = sy.lo; iy < sy.hi; iy++)
      for (int64_t ix = sx.lo; ix < sx.hi; ix++) {
        const uint8_t *in = x + ((image * d->h + iy) * d->w + ix) * d->c;
        MS_SIMD
        for (int64_t c = 0; c < d->c; c++)
          out[c] = (uint8_t)(out[c] + in[c]);
      }
  }
}

/* The same of packed spikes, eight channels in a word. */
static MS_HOT void avg_bits_line(const ms_pool_desc *d, const uint8_t *x, uint8_t *y, int64_t line) {
  int64_t image = line / d->oh, words = d->c / 8;
  span sy = window_y(d, line % d->oh);
  for (int64_t ox = 0; ox < d->ow; ox++) {
    span sx = window_x(d, ox);
    uint8_t *restrict out = y + (line * d->ow + ox) * d->c;
    memset(out, 0, (size_t)d->c);
    for (int64_t iy = sy.lo; iy < sy.hi; iy++)
      for (int64_t ix = sx.lo; ix < sx.hi; ix++) {
        const uint8_t *in = x + ((image * d->h + iy) * d->w + ix) * words;
        MS_SIMD
        for (int64_t i = 0; i < words; i++) {
          uint64_t sum, bit = (in[i] * UINT64_C(0x0101010101010101)) & UINT64_C(0x8040201008040201);
          memcpy(&sum, out + 8 * i, 8);
          sum += (bit + UINT64_C(0x7f7f7f7f7f7f7f7f)) >> 7 & UINT64_C(0x0101010101010101);
          memcpy(out + 8 * i, &sum, 8);
        }
      }
  }
}

ms_status ms_cpu_avg_pool(ms_stream *s, const ms_pool_desc *d, ms_data x, ms_data y) {
  (void)s;
  ms_parallel_for(line, d->n * d->oh, line_cost(d)) {
    if (y.dtype == MS_SPIKE && x.dtype == MS_BITS)
      avg_bits_line(d, x.p, y.p, line);
    else if (y.dtype == MS_SPIKE)
      avg_spike_line(d, x.p, y.p, line);
    else
      avg_line(d, x, y, line);
  }
  return MS_OK;
}

static MS_HOT void avg_grad_line(const ms_pool_desc *d, ms_data g, ms_data dx, int64_t line) {
  int64_t image = line / d->h;
  span ys = holders(line % d->h, d->h, d->oh, d->kh, d->stride_h, d->pad_h, d->adaptive);
  for (int64_t ix = 0; ix < d->w; ix++) {
    span xs = holders(ix, d->w, d->ow, d->kw, d->stride_w, d->pad_w, d->adaptive);
    for (int64_t c = 0; c < d->c; c += LANES) {
      int64_t n = ms_min64(LANES, d->c - c);
      ms_real sum[LANES] = {0}, part[LANES];
      for (int64_t oy = ys.lo; oy < ys.hi; oy++)
        for (int64_t ox = xs.lo; ox < xs.hi; ox++) {
          ms_real factor = 1 / divisor(d, window_y(d, oy), window_x(d, ox));
          ms_unpack(part, g, ((image * d->oh + oy) * d->ow + ox) * d->c + c, n);
          MS_SIMD
          for (int64_t i = 0; i < n; i++)
            sum[i] += factor * part[i];
        }
      ms_store_tile(dx, (line * d->w + ix) * d->c + c, 0, sum, 1, n, 1, 0, NULL);
    }
  }
}

ms_status ms_cpu_avg_pool_grad(ms_stream *s, const ms_pool_desc *d, ms_data g, ms_data dx) {
  (void)s;
  ms_parallel_for(line, d->n * d->h, d->w * d->c) avg_grad_line(d, g, dx, line);
  return MS_OK;
}

/* ---- maximum ---- */

/* The first maximum in the window's order; a NaN is larger than any number, and the first one stays. */
static MS_HOT void max_line(const ms_pool_desc *d, ms_data x, ms_data y, int32_t *index, int64_t line) {
  int64_t image = line / d->oh;
  span sy = window_y(d, line % d->oh);
  for (int64_t ox = 0; ox < d->ow; ox++) {
    span sx = window_x(d, ox);
    for (int64_t c = 0; c < d->c; c += LANES) {
      int64_t n = ms_min64(LANES, d->c - c), at = (line * d->ow + ox) * d->c + c;
      ms_real best[LANES], part[LANES];
      int32_t where[LANES];
      for (int64_t i = 0; i < n; i++) {
        best[i] = -MS_R(INFINITY);
        where[i] = (int32_t)(sy.lo * d->w + sx.lo);
      }
      for (int64_t iy = sy.lo; iy < sy.hi; iy++)
        for (int64_t ix = sx.lo; ix < sx.hi; ix++) {
          int32_t here = (int32_t)(iy * d->w + ix);
          ms_unpack(part, x, ((image * d->h + iy) * d->w + ix) * d->c + c, n);
          MS_SIMD
          for (int64_t i = 0; i < n; i++) {
            int better = !(part[i] <= best[i]) & (best[i] == best[i]);
            best[i] = better ? part[i] : best[i];
            where[i] = better ? here : where[i];
          }
        }
      if (index)
        memcpy(index + at, where, (size_t)n * sizeof *where);
      if (x.dtype == MS_BITS && y.dtype == MS_SPIKE) {
        for (int64_t i = 0; i < n; i++)
          ((uint8_t *)y.p)[at + i] = best[i] != 0;
      } else if (y.dtype == MS_SPIKE || y.dtype == MS_U8) {
        const uint8_t *in = (const uint8_t *)x.p + image * d->h * d->w * d->c + c;
        for (int64_t i = 0; i < n; i++)
          ((uint8_t *)y.p)[at + i] = in[where[i] * d->c + i];
      } else {
        ms_store_tile(y, at, 0, best, 1, n, 1, 0, NULL);
      }
    }
  }
}

ms_status ms_cpu_max_pool(ms_stream *s, const ms_pool_desc *d, ms_data x, ms_data y, int32_t *index) {
  (void)s;
  ms_parallel_for(line, d->n * d->oh, line_cost(d)) max_line(d, x, y, index, line);
  return MS_OK;
}

static MS_HOT void max_grad_line(const ms_pool_desc *d, ms_data g, const int32_t *index, ms_data dx, int64_t line) {
  int64_t image = line / d->h, iy = line % d->h;
  span ys = holders(iy, d->h, d->oh, d->kh, d->stride_h, d->pad_h, d->adaptive);
  for (int64_t ix = 0; ix < d->w; ix++) {
    span xs = holders(ix, d->w, d->ow, d->kw, d->stride_w, d->pad_w, d->adaptive);
    int32_t here = (int32_t)(iy * d->w + ix);
    for (int64_t c = 0; c < d->c; c += LANES) {
      int64_t n = ms_min64(LANES, d->c - c);
      ms_real sum[LANES] = {0}, part[LANES];
      for (int64_t oy = ys.lo; oy < ys.hi; oy++)
        for (int64_t ox = xs.lo; ox < xs.hi; ox++) {
          int64_t at = ((image * d->oh + oy) * d->ow + ox) * d->c + c;
          ms_unpack(part, g, at, n);
          MS_SIMD
          for (int64_t i = 0; i < n; i++)
            sum[i] += index[at + i] == here ? part[i] : 0;
        }
      ms_store_tile(dx, (line * d->w + ix) * d->c + c, 0, sum, 1, n, 1, 0, NULL);
    }
  }
}

ms_status ms_cpu_max_pool_grad(ms_stream *s, const ms_pool_desc *d, ms_data g, const int32_t *index, ms_data dx) {
  (void)s;
  ms_parallel_for(line, d->n * d->h, d->w * d->c) max_grad_line(d, g, index, dx, line);
  return MS_OK;
}
