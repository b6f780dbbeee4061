/* Reductions. A block is a table of X outputs by Y parts of the reduced elements; each thread walks its part, then the Y
** parts are merged as a tree. Where the reduced dimension is the fastest in memory (`along`), neighbouring threads are
** parts of one output, else they are neighbouring outputs. Few outputs of many elements are cut into pieces besides,
** which a second launch merges. Only the shape decides the cut. Reals are summed in double, integers in int64. */
#include "../dims.h"
#include "walk.h"

namespace {

enum { UNROLL = 4, MANY_BLOCKS = 264 };

/* ---- shape ---- */

struct plan {
  ms_reduce_op op;
  int along, want_at, x, y; /* x * y == MS_BLOCK, powers of two */
  unsigned blocks;          /* that hold all outputs */
  double factor;
  ms_data in, out;
  ms_shape kept, red;
  int64_t in_kept[MS_MAX_DIMS], out_kept[MS_MAX_DIMS], in_red[MS_MAX_DIMS];
  int64_t span, pieces; /* reduced elements of a piece, pieces */
  /* of pieces > 1: [pieces][outputs] results of the first launch; the second one reduces them */
  void *part;
  int64_t *part_at;
  int merging;
};

/* The largest power of two up to n, between 1 and most. */
int power_below(int64_t n, int most) {
  int p = 1;
  while (2 * p <= most && 2 * (int64_t)p <= n)
    p *= 2;
  return p;
}

plan plan_of(ms_reduce_op op, const ms_reduction *r) {
  plan p = {};
  p.op = op;
  p.in = r->in;
  p.out = r->out;
  p.factor = op == MS_REDUCE_sum ? (double)r->factor : 1;
  p.want_at = op == MS_REDUCE_argmax || op == MS_REDUCE_argmin;
  ms_dims kept = ms_merged_dims(r->nkept, r->kept, r->in_kept, r->out_kept, true);
  ms_dims red = ms_merged_dims(r->nred, r->red, r->in_red, NULL, !p.want_at);
  p.kept = ms_shape_of(kept.n, kept.size);
  p.red = ms_shape_of(red.n, red.size);
  for (int d = 0; d < MS_MAX_DIMS; d++) {
    p.in_kept[d] = kept.in[d];
    p.out_kept[d] = kept.out[d];
    p.in_red[d] = red.in[d];
  }
  int64_t nkept = p.kept.total, nred = p.red.total;
  p.along = kept.n == 0 || (red.n > 0 && ms_magnitude(red.in[red.n - 1]) < ms_magnitude(kept.in[kept.n - 1]));
  if (p.along)
    p.y = power_below(nred / UNROLL, MS_BLOCK);
  else
    p.y = MS_BLOCK / power_below(nkept, power_below(nred / UNROLL, 8) > 1 ? MS_WARP : MS_BLOCK);
  p.x = MS_BLOCK / p.y;
  int64_t blocks = ms_div_up(nkept, p.x), most = ms_div_up(nred, (int64_t)p.y * 4 * UNROLL);
  p.pieces = blocks > 0 && blocks < MANY_BLOCKS ? ms_div_up(2 * MANY_BLOCKS, blocks) : 1;
  if (p.pieces > most)
    p.pieces = most > 0 ? most : 1;
  p.span = ms_div_up(ms_div_up(nred, p.pieces), p.y) * p.y;
  p.pieces = nred > 0 ? ms_div_up(nred, p.span) : 1;
  return p;
}

/* ---- arithmetic: T is double or int64_t ---- */

/* Merges with everything to the other side; the zero is negative, so that a sum of negative zeros is one. */
MS_DEVICE void neutral(ms_reduce_op op, double &x) {
  x = op == MS_REDUCE_sum                                                    ? -0.0
      : op == MS_REDUCE_prod                                                 ? 1.0
      : op == MS_REDUCE_min || op == MS_REDUCE_all || op == MS_REDUCE_argmin ? (double)INFINITY
                                                                             : -(double)INFINITY;
}

MS_DEVICE void neutral(ms_reduce_op op, int64_t &x) {
  x = op == MS_REDUCE_sum                                                    ? 0
      : op == MS_REDUCE_prod                                                 ? 1
      : op == MS_REDUCE_min || op == MS_REDUCE_all || op == MS_REDUCE_argmin ? INT64_MAX
                                                                             : INT64_MIN;
}

MS_DEVICE double add(double a, double b) {
  return a + b;
}
MS_DEVICE double multiply(double a, double b) {
  return a * b;
}
MS_DEVICE int64_t add(int64_t a, int64_t b) {
  return (int64_t)((uint64_t)a + (uint64_t)b);
}
MS_DEVICE int64_t multiply(int64_t a, int64_t b) {
  return (int64_t)((uint64_t)a * (uint64_t)b);
}

/* y takes in x; NaN wins, then the first position. */
template <class T, bool AT> MS_DEVICE void merge(ms_reduce_op op, T &y, int64_t &y_at, T x, int64_t x_at) {
  if (AT) {
    bool nan = x != x, was_nan = y != y;
    bool better = (op == MS_REDUCE_argmax ? x > y : x < y) || (nan && !was_nan);
    if (better || ((x == y || (nan && was_nan)) && x_at < y_at)) {
      y = x;
      y_at = x_at;
    }
  } else if (op == MS_REDUCE_sum) {
    y = add(y, x);
  } else if (op == MS_REDUCE_prod) {
    y = multiply(y, x);
  } else if (op == MS_REDUCE_max || op == MS_REDUCE_any) {
    y = x > y || x != x ? x : y;
  } else {
    y = x < y || x != x ? x : y;
  }
}

/* N elements: one switch, so that all loads are under way before the first is used. */
template <int N> MS_DEVICE void load(const plan &p, const int64_t *at, double *x) {
  if (p.in.dtype == MS_F32) {
#pragma unroll
    for (int u = 0; u < N; u++)
      x[u] = ((const float *)p.in.p)[at[u]];
  } else if (p.in.dtype == MS_BF16) {
#pragma unroll
    for (int u = 0; u < N; u++)
      x[u] = ms_bf16_to(((const ms_bf16 *)p.in.p)[at[u]]);
  } else {
#pragma unroll
    for (int u = 0; u < N; u++)
      x[u] = ms_get(p.in, at[u]);
  }
}

template <int N> MS_DEVICE void load(const plan &p, const int64_t *at, int64_t *x) {
#pragma unroll
  for (int u = 0; u < N; u++)
    ms_load(x[u], p.in, at[u]);
}

/* Stores one result; the neutral element where nothing was reduced. */
template <class T> MS_DEVICE void finish(const plan &p, int64_t output, T x, int64_t x_at) {
  int64_t to = ms_offset(p.kept, p.out_kept, output);
  bool whole = p.out.dtype == MS_U8 || p.out.dtype == MS_I64, exact = sizeof(x) == 8 && (T)0.5 == 0;
  if (p.red.total == 0) {
    x = p.op == MS_REDUCE_prod || p.op == MS_REDUCE_all;
    x_at = 0;
  }
  if (p.want_at && whole)
    ms_store(p.out, to, x_at);
  else if (p.want_at)
    ms_store(p.out, to, (float)x_at);
  else if (whole)
    ms_store(p.out, to, exact ? (int64_t)x : ms_real_to_int((double)x * p.factor));
  else
    ms_store(p.out, to, (float)((double)x * p.factor));
}

/* ---- the kernel ---- */

/* Elements [at, end) of one output, every p.y-th from at on. */
template <class T, bool AT>
MS_DEVICE void walk_part(const plan &p, int64_t output, int64_t at, int64_t end, T &y, int64_t &y_at) {
  if (p.merging) {
    for (; at < end; at += p.y) {
      int64_t i = at * p.kept.total + output;
      merge<T, AT>(p.op, y, y_at, ((const T *)p.part)[i], AT ? p.part_at[i] : 0);
    }
    return;
  }
  int64_t base = ms_offset(p.kept, p.in_kept, output);
  bool truth = p.op == MS_REDUCE_any || p.op == MS_REDUCE_all;
  if (p.red.ndim > 1) {
#pragma unroll 1
    for (; at < end; at += p.y) {
      T x;
      int64_t from = base + ms_offset(p.red, p.in_red, at);
      load<1>(p, &from, &x);
      merge<T, AT>(p.op, y, y_at, truth ? (T)(x != 0) : x, at);
    }
    return;
  }
  while (at < end) {
    T x[UNROLL];
    int64_t from[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      int64_t i = at + u * (int64_t)p.y;
      from[u] = base + (i < end ? i : at) * p.in_red[0];
    }
    load<UNROLL>(p, from, x);
#pragma unroll
    for (int u = 0; u < UNROLL; u++, at += p.y)
      if (at < end)
        merge<T, AT>(p.op, y, y_at, truth ? (T)(x[u] != 0) : x[u], at);
  }
}

template <class T, bool AT> __global__ void __launch_bounds__(MS_BLOCK) reduce(const __grid_constant__ plan p) {
  SHARED(T, value, [MS_BLOCK]);
  SHARED(int64_t, place, [AT ? MS_BLOCK : 1]);
  int t = threadIdx.x, x = p.along ? t / p.y : t % p.x, y = p.along ? t % p.y : t / p.x;
  int step = p.along ? 1 : p.x; /* between parts of one output */
  int64_t piece = blockIdx.x / p.blocks, output = (int64_t)(blockIdx.x % p.blocks) * p.x + x;
  int64_t begin = piece * p.span, end = begin + p.span;
  int64_t nred = p.merging ? p.pieces : p.red.total, own_at = INT64_MAX;
  T own;
  neutral(p.op, own);
  if (output < p.kept.total)
    walk_part<T, AT>(p, output, begin + y, end < nred ? end : nred, own, own_at);
  value[t] = own;
  if (AT)
    place[t] = own_at;
  for (int half = p.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (y < half) {
      int other = t + half * step;
      merge<T, AT>(p.op, own, own_at, value[other], AT ? place[other] : 0);
      value[t] = own;
      if (AT)
        place[t] = own_at;
    }
  }
  if (y > 0 || output >= p.kept.total)
    return;
  if (p.merging || p.pieces == 1) {
    finish(p, output, own, own_at);
  } else {
    ((T *)p.part)[piece * p.kept.total + output] = own;
    if (AT)
      p.part_at[piece * p.kept.total + output] = own_at;
  }
}

template <class T, bool AT> ms_status run(ms_stream *s, plan p) {
  int64_t n = p.kept.total;
  p.blocks = (unsigned)ms_div_up(n, p.x);
  if (p.pieces > 1) {
    size_t bytes = (size_t)(n * p.pieces) * 8;
    MS_TRY(ms_cuda_scratch(s, AT ? 2 * bytes : bytes, &p.part));
    p.part_at = AT ? (int64_t *)((char *)p.part + bytes) : NULL;
  }
  LAUNCH((reduce<T, AT>), dim3(p.blocks * (unsigned)p.pieces), MS_BLOCK, 0, s->id, p);
  MS_TRY(ms_cuda_launched(s, "reduce"));
  if (p.pieces == 1)
    return MS_OK;
  p.merging = 1;
  p.along = 0;
  p.y = power_below(p.pieces, 32);
  p.x = MS_BLOCK / p.y;
  p.span = p.pieces;
  p.blocks = (unsigned)ms_div_up(n, p.x);
  LAUNCH((reduce<T, AT>), dim3(p.blocks), MS_BLOCK, 0, s->id, p);
  return ms_cuda_launched(s, "reduce");
}

} // namespace

ms_status ms_cuda_reduce(ms_stream *s, ms_reduce_op op, const ms_reduction *r) {
  plan p = plan_of(op, r);
  if (p.kept.total == 0)
    return MS_OK;
  MS_TRY(ms_cuda_enter(s));
  if (ms_is_integer(r->in.dtype))
    return p.want_at ? run<int64_t, true>(s, p) : run<int64_t, false>(s, p);
  return p.want_at ? run<double, true>(s, p) : run<double, false>(s, p);
}
