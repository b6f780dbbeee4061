/* How a launch cuts channels-last arrays, and sums over their rows in a fixed order.
**
** An array is `rows` rows of c elements. A block of MS_BLOCK threads is cx vectors wide and py rows high; it walks down
** its `span` rows, so that a thread keeps its channels. Only the shape decides the cut. */
#ifndef MS_CUT_H
#define MS_CUT_H

#include "vec.h"

typedef struct ms_cut {
  int64_t n, c, rows, span, blocks; /* elements; elements of a row; rows; rows of a block; blocks one below another */
  int64_t groups;                   /* vectors of a row */
  int cx, py, gy, rounds;           /* gy blocks side by side; rounds: rows that each thread walks */
} ms_cut;

/* `most` bounds the number of blocks. c 0: no channels matter, rows are as long as a block is wide. */
static inline ms_cut ms_cut_of(int64_t n, int64_t c, int v, int64_t most) {
  ms_cut k = {};
  k.n = n;
  k.c = c > 0 ? c : (int64_t)MS_BLOCK * v;
  k.rows = ms_div_up(n, k.c);
  k.groups = k.c / v;
  k.cx = k.groups < MS_BLOCK ? (int)k.groups : (int)MS_BLOCK;
  k.py = MS_BLOCK / k.cx;
  k.gy = (int)ms_div_up(k.groups, k.cx);
  most = most / k.gy > 1 ? most / k.gy : 1;
  k.rounds = (int)ms_div_up(k.rows, k.py * most);
  k.span = (int64_t)k.rounds * k.py;
  k.blocks = ms_div_up(k.rows, k.span);
  return k;
}

static inline dim3 ms_cut_grid(const ms_cut &k) {
  return dim3((unsigned)(k.blocks * k.gy));
}

/* Of one thread: for (i = 0; i < rounds; i++, at += step) where at < end. */
typedef struct ms_place {
  int64_t at, end, step, ch, block; /* ch: channel of its vector; block: of those one below another */
  int row, x;
} ms_place;

template <int V> MS_DEVICE ms_place ms_place_of(const ms_cut &k) {
  ms_place p;
  p.row = threadIdx.x / k.cx;
  p.x = threadIdx.x % k.cx;
  p.block = blockIdx.x / k.gy;
  int64_t group = (int64_t)(blockIdx.x % k.gy) * k.cx + p.x, last = (p.block + 1) * k.span;
  bool on = p.row < k.py && group < k.groups;
  p.ch = on ? group * V : 0;
  p.at = (p.block * k.span + p.row) * k.c + p.ch;
  p.end = !on ? 0 : last < k.rows ? last * k.c : k.n;
  p.step = k.py * k.c;
  return p;
}

/* a / b of numbers that are rarely wider than 32 bits. */
MS_DEVICE int64_t ms_quotient(int64_t a, int64_t b) {
  return ((a | b) >> 32) == 0 ? (int64_t)((uint32_t)a / (uint32_t)b) : a / b;
}

/* ---- sums of each channel ----
** Every thread has one double for each of M sums in room[m][thread]; they are added over the rows of a block and
** written to part[block][sum][c], with m = sum * V + channel of the vector. */
template <int V, int M>
MS_DEVICE void ms_sum_rows(double (*room)[MS_BLOCK], const ms_cut &k, const ms_place &p, double *part, int64_t c) {
  int t = threadIdx.x, half = 1;
  while (2 * half < k.py)
    half *= 2;
  for (; half > 0; half /= 2) {
    __syncthreads();
    if (p.row < half && p.row + half < k.py)
      for (int m = 0; m < M; m++)
        room[m][t] += room[m][t + half * k.cx];
  }
  if (p.row == 0 && p.end > 0)
    for (int m = 0; m < M; m++)
      part[(p.block * (M / V) + m / V) * c + p.ch + m % V] = room[m][t];
}

/* From the sums of g and g * (x - mean), part [blocks][2][c]: gradients of a normalisation's parameters, and what dx
** needs:
**   dx = a * g + slope * (x - mean) + shift
**   slope = -a * mean(g * xhat) * invstd,  shift = -a * mean(g)
** One more block, where dw is wanted, adds up PLIF's sums. */
typedef struct ms_fold {
  const double *part;
  int64_t blocks, c;
  const float *a, *gamma, *invstd; /* a NULL: gain * gamma * invstd; gamma NULL: 1 */
  float gain;
  double n, times; /* values behind each mean; how many of them dx gathers (a static input) */
  int training;
  float *dgamma, *dbeta, *slope, *shift; /* each may be NULL */
  const double *dk;                      /* [ndk] */
  int64_t ndk;
  const float *w;
  float *dw;
} ms_fold;

enum { MS_FOLD_WIDE = 8, MS_FOLD_SLICES = MS_BLOCK / MS_FOLD_WIDE };

static inline dim3 ms_fold_grid(const ms_fold &f) {
  return dim3((unsigned)(ms_div_up(f.c, MS_FOLD_WIDE) + (f.dw ? 1 : 0)));
}

/* Launched with MS_BLOCK threads. A template only so that each file may have it. */
template <class Unused> __global__ void __launch_bounds__(MS_BLOCK) ms_fold_kernel(ms_fold f) {
  SHARED(double, room, [2][MS_BLOCK]);
  int t = threadIdx.x, slice = t / MS_FOLD_WIDE;
  int64_t ch = (int64_t)blockIdx.x * MS_FOLD_WIDE + t % MS_FOLD_WIDE;
  double g = 0, gx = 0;
  bool last = f.dw && blockIdx.x + 1 == gridDim.x;
  if (last) {
    for (int64_t i = t; i < f.ndk; i += MS_BLOCK)
      g += f.dk[i];
  } else if (ch < f.c) {
    for (int64_t b = slice; b < f.blocks; b += MS_FOLD_SLICES) {
      g += f.part[2 * b * f.c + ch];
      gx += f.part[(2 * b + 1) * f.c + ch];
    }
  }
  room[0][t] = g;
  room[1][t] = gx;
  for (int half = MS_BLOCK / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half && (last || half >= MS_FOLD_WIDE)) {
      room[0][t] += room[0][t + half];
      room[1][t] += room[1][t + half];
    }
  }
  if (last) {
    if (t == 0) {
      double k = 1 / (1 + exp(-(double)*f.w));
      *f.dw = (float)(room[0][0] * k * (1 - k));
    }
  } else if (slice == 0 && ch < f.c) {
    float invstd = f.invstd[ch], a = f.a ? f.a[ch] : f.gain * (f.gamma ? f.gamma[ch] : 1.0f) * invstd;
    g = room[0][t];
    gx = room[1][t] * invstd;
    if (f.dgamma)
      f.dgamma[ch] = (float)(f.gain * gx);
    if (f.dbeta)
      f.dbeta[ch] = (float)g;
    if (f.slope) {
      f.slope[ch] = f.training ? (float)(-a * (f.times * gx * invstd / f.n)) : 0.0f;
      f.shift[ch] = f.training ? (float)(-a * (f.times * g / f.n)) : 0.0f;
    }
  }
}

#endif
