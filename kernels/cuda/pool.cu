/* Pooling of channels-last images. A thread owns V channels of one pixel of what is written. Gradients gather over the
** windows that hold a pixel, so that overlapping windows need no order of writes. */
#include "vec.h"

/* Positions [lo, hi) of an axis inside a window, and how long the window is with its padding. */
typedef struct span {
  int64_t lo, hi, full;
} span;

/* One axis of a pooling. */
typedef struct axis {
  int64_t in, out;
  int size, stride, pad, adaptive;
} axis;

MS_DEVICE int64_t quotient(int64_t a, int64_t b) {
  return ((a | b) >> 32) == 0 ? (int64_t)((uint32_t)a / (uint32_t)b) : a / b;
}

MS_DEVICE span window(const axis &a, int64_t o) {
  span s;
  if (a.adaptive) {
    s.lo = quotient(o * a.in, a.out);
    s.hi = quotient((o + 1) * a.in + a.out - 1, a.out);
    s.full = s.hi - s.lo;
    return s;
  }
  int64_t start = o * a.stride - a.pad, end = start + a.size < a.in + a.pad ? start + a.size : a.in + a.pad;
  s.lo = start > 0 ? start : 0;
  s.hi = end < a.in ? end : a.in;
  s.full = end - start;
  return s;
}

/* Windows [lo, hi) that hold position i. */
MS_DEVICE span holders(const axis &a, int64_t i) {
  span s;
  s.full = 0;
  if (a.adaptive) {
    s.lo = quotient(i * a.out, a.in);
    s.hi = quotient((i + 1) * a.out + a.in - 1, a.in);
    return s;
  }
  int64_t first = i + a.pad - a.size + 1, last = quotient(i + a.pad, a.stride) + 1;
  s.lo = first > 0 ? quotient(first + a.stride - 1, a.stride) : 0;
  s.hi = last < a.out ? last : a.out;
  return s;
}

typedef struct pool_args {
  int64_t n, c;
  axis y, x;
  int count_pad;
  ms_data in, out;
  const int32_t *index;
  int32_t *to_index;
  int64_t items;
} pool_args;

/* Where item i of images of h x w pixels lies: image, line, column, first channel. */
typedef struct spot {
  int64_t image, line, column, ch;
} spot;

MS_DEVICE spot spot_of(int64_t i, int64_t h, int64_t w, int64_t groups, int v) {
  spot s;
  int64_t pixel = quotient(i, groups), line = quotient(pixel, w);
  s.ch = (i - pixel * groups) * v;
  s.column = pixel - line * w;
  s.image = quotient(line, h);
  s.line = line - s.image * h;
  return s;
}

/* What an average divides by. */
MS_DEVICE float divisor(const pool_args &k, const span &y, const span &x) {
  int64_t n = k.count_pad ? y.full * x.full : (y.hi - y.lo) * (x.hi - x.lo);
  return (float)(n > 1 ? n : 1);
}

/* The bytes of V elements: of spikes their counts, of bits 0 and 1. */
template <int V> MS_DEVICE void load_counts(const ms_data &d, int64_t i, unsigned (&x)[V]) {
  if (d.dtype == MS_BITS) {
    unsigned bits = (unsigned)((const uint8_t *)d.p)[i >> 3] >> (i & 7);
#pragma unroll
    for (int k = 0; k < V; k++)
      x[k] = bits >> k & 1;
  } else if constexpr (V == 1) {
    x[0] = ((const uint8_t *)d.p)[i];
  } else {
    ms_words<V / 4> r = ms_read<V / 4>((const uint8_t *)d.p + i);
#pragma unroll
    for (int k = 0; k < V; k++)
      x[k] = r.w[k / 4] >> k % 4 * 8 & 0xff;
  }
}

template <int V> MS_DEVICE void store_counts(const ms_data &d, int64_t i, const unsigned (&x)[V]) {
  uint32_t w[(V + 3) / 4] = {};
#pragma unroll
  for (int k = 0; k < V; k++)
    w[k / 4] |= (x[k] & 0xff) << k % 4 * 8;
  ms_store_bytes<V>((uint8_t *)d.p + i, w);
}

/* ---- average ---- */

template <int V> __global__ void __launch_bounds__(MS_BLOCK, 4) avg(pool_args k) {
  int64_t i = ms_thread();
  if (i >= k.items)
    return;
  spot s = spot_of(i, k.y.out, k.x.out, k.c / V, V);
  span sy = window(k.y, s.line), sx = window(k.x, s.column);
  int64_t base = s.image * k.y.in;
  if (k.out.dtype == MS_SPIKE) {
    unsigned sum[V] = {}, part[V];
    for (int64_t iy = sy.lo; iy < sy.hi; iy++)
      for (int64_t ix = sx.lo; ix < sx.hi; ix++) {
        load_counts(k.in, ((base + iy) * k.x.in + ix) * k.c + s.ch, part);
#pragma unroll
        for (int j = 0; j < V; j++)
          sum[j] += part[j];
      }
    store_counts(k.out, i * V, sum);
    return;
  }
  float sum[V] = {}, part[V], factor = 1 / divisor(k, sy, sx);
  for (int64_t iy = sy.lo; iy < sy.hi; iy++)
    for (int64_t ix = sx.lo; ix < sx.hi; ix++) {
      ms_load(k.in, ((base + iy) * k.x.in + ix) * k.c + s.ch, part);
#pragma unroll
      for (int j = 0; j < V; j++)
        sum[j] += part[j];
    }
#pragma unroll
  for (int j = 0; j < V; j++)
    sum[j] = factor * sum[j];
  ms_store(k.out, i * V, sum);
}

template <int V> __global__ void __launch_bounds__(MS_BLOCK, 4) avg_grad(pool_args k) {
  int64_t i = ms_thread();
  if (i >= k.items)
    return;
  spot s = spot_of(i, k.y.in, k.x.in, k.c / V, V);
  span ys = holders(k.y, s.line), xs = holders(k.x, s.column);
  float sum[V] = {}, part[V];
  for (int64_t oy = ys.lo; oy < ys.hi; oy++)
    for (int64_t ox = xs.lo; ox < xs.hi; ox++) {
      float factor = 1 / divisor(k, window(k.y, oy), window(k.x, ox));
      ms_load(k.in, ((s.image * k.y.out + oy) * k.x.out + ox) * k.c + s.ch, part);
#pragma unroll
      for (int j = 0; j < V; j++)
        sum[j] += factor * part[j];
    }
  ms_store(k.out, i * V, sum);
}

/* ---- maximum ---- */

/* The first maximum in the window's order; a NaN is larger than any number, and the first one stays. */
template <int V> __global__ void __launch_bounds__(MS_BLOCK, 4) max_forward(pool_args k) {
  int64_t i = ms_thread();
  if (i >= k.items)
    return;
  spot s = spot_of(i, k.y.out, k.x.out, k.c / V, V);
  span sy = window(k.y, s.line), sx = window(k.x, s.column);
  int64_t base = s.image * k.y.in;
  float best[V], part[V];
  int32_t where[V];
#pragma unroll
  for (int j = 0; j < V; j++) {
    best[j] = -INFINITY;
    where[j] = (int32_t)(sy.lo * k.x.in + sx.lo);
  }
  for (int64_t iy = sy.lo; iy < sy.hi; iy++)
    for (int64_t ix = sx.lo; ix < sx.hi; ix++) {
      int32_t here = (int32_t)(iy * k.x.in + ix);
      ms_load(k.in, ((base + iy) * k.x.in + ix) * k.c + s.ch, part);
#pragma unroll
      for (int j = 0; j < V; j++) {
        bool better = !(part[j] <= best[j]) && best[j] == best[j];
        best[j] = better ? part[j] : best[j];
        where[j] = better ? here : where[j];
      }
    }
  if (k.to_index) {
#pragma unroll
    for (int j = 0; j < V; j++)
      k.to_index[i * V + j] = where[j];
  }
  if (k.out.dtype == MS_SPIKE || k.out.dtype == MS_U8) {
    unsigned bytes[V];
#pragma unroll
    for (int j = 0; j < V; j++)
      bytes[j] =
          k.in.dtype == MS_BITS ? best[j] != 0 : ((const uint8_t *)k.in.p)[(base * k.x.in + where[j]) * k.c + s.ch + j];
    store_counts(k.out, i * V, bytes);
  } else {
    ms_store(k.out, i * V, best);
  }
}

template <int V> __global__ void __launch_bounds__(MS_BLOCK, 4) max_grad(pool_args k) {
  int64_t i = ms_thread();
  if (i >= k.items)
    return;
  spot s = spot_of(i, k.y.in, k.x.in, k.c / V, V);
  span ys = holders(k.y, s.line), xs = holders(k.x, s.column);
  int32_t here = (int32_t)(s.line * k.x.in + s.column);
  float sum[V] = {}, part[V];
  for (int64_t oy = ys.lo; oy < ys.hi; oy++)
    for (int64_t ox = xs.lo; ox < xs.hi; ox++) {
      int64_t at = ((s.image * k.y.out + oy) * k.x.out + ox) * k.c + s.ch;
      ms_load(k.in, at, part);
#pragma unroll
      for (int j = 0; j < V; j++)
        sum[j] += k.index[at + j] == here ? part[j] : 0;
    }
  ms_store(k.out, i * V, sum);
}

/* ---- host ---- */

enum { AVG, AVG_GRAD, MAX, MAX_GRAD };

template <int V> static void launch(ms_stream *s, int what, const pool_args &k) {
  switch (what) {
  case AVG:
    LAUNCH((avg<V>), ms_grid(k.items), MS_BLOCK, 0, s->id, k);
    break;
  case AVG_GRAD:
    LAUNCH((avg_grad<V>), ms_grid(k.items), MS_BLOCK, 0, s->id, k);
    break;
  case MAX:
    LAUNCH((max_forward<V>), ms_grid(k.items), MS_BLOCK, 0, s->id, k);
    break;
  default:
    LAUNCH((max_grad<V>), ms_grid(k.items), MS_BLOCK, 0, s->id, k);
  }
}

static ms_status pool(ms_stream *s, const char *name, int what, const ms_pool_desc *d, ms_data in, ms_data out,
                      const int32_t *index, int32_t *to_index) {
  MS_TRY(ms_cuda_enter(s));
  bool back = what == AVG_GRAD || what == MAX_GRAD,
       wide = d->c % 4 == 0 && ms_aligned(in.p, in.dtype, 0, 4) && ms_aligned(out.p, out.dtype, 0, 4);
  pool_args k = {d->n,
                 d->c,
                 {d->h, d->oh, d->kh, d->stride_h, d->pad_h, d->adaptive},
                 {d->w, d->ow, d->kw, d->stride_w, d->pad_w, d->adaptive},
                 d->count_pad,
                 in,
                 out,
                 index,
                 to_index,
                 (back ? d->n * d->h * d->w : d->n * d->oh * d->ow) * d->c / (wide ? 4 : 1)};
  if (k.items == 0)
    return MS_OK;
  if (wide)
    launch<4>(s, what, k);
  else
    launch<1>(s, what, k);
  return ms_cuda_launched(s, name);
}

ms_status ms_cuda_avg_pool(ms_stream *s, const ms_pool_desc *d, ms_data x, ms_data y) {
  return pool(s, "avg_pool", AVG, d, x, y, NULL, NULL);
}

ms_status ms_cuda_avg_pool_grad(ms_stream *s, const ms_pool_desc *d, ms_data g, ms_data dx) {
  return pool(s, "avg_pool_grad", AVG_GRAD, d, g, dx, NULL, NULL);
}

ms_status ms_cuda_max_pool(ms_stream *s, const ms_pool_desc *d, ms_data x, ms_data y, int32_t *index) {
  return pool(s, "max_pool", MAX, d, x, y, NULL, index);
}

ms_status ms_cuda_max_pool_grad(ms_stream *s, const ms_pool_desc *d, ms_data g, const int32_t *index, ms_data dx) {
  return pool(s, "max_pool_grad", MAX_GRAD, d, g, dx, index, NULL);
}
