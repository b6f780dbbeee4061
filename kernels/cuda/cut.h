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

/* `most` bounds the number of blocks. c 0: no channels matter, rows are as long as a block is wide. `wide`: vectors side
** by side in a block, more where `most` leaves no other way. Narrow blocks are high: fewer of them share a channel. */
static inline ms_cut ms_cut_of(int64_t n, int64_t c, int v, int64_t most, int wide = MS_BLOCK) {
  ms_cut k = {};
  k.n = n;
  k.c = c > 0 ? c : (int64_t)MS_BLOCK * v;
  k.rows = ms_div_up(n, k.c);
  k.groups = k.c / v;
  while (wide < MS_BLOCK && ms_div_up(k.groups, wide) > most)
    wide *= 2;
  k.cx = k.groups < wide ? (int)k.groups : wide;
  k.gy = (int)ms_div_up(k.groups, k.cx);
  if (wide < MS_BLOCK)
    k.cx = (int)ms_div_up(k.groups, k.gy);
  k.py = MS_BLOCK / k.cx;
  most = most / k.gy > 1 ? most / k.gy : 1;
  k.rounds = (int)ms_div_up(k.rows, k.py * most);
  k.span = (int64_t)k.rounds * k.py;
  k.blocks = ms_div_up(k.rows, k.span);
  return k;
}

/* The width at which a row of a block is a line of 128 bytes, and at most 64 channels. */
static inline int ms_line(ms_dtype t, int v) {
  return 128 / (v * (t == MS_F32 ? 4 : 2));
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
** Every thread has one double for each of M sums in room[m][thread]; they are added over the rows of a block. What the
** blocks found, part[block][2][c], is added up by the block that is done last, in an order that the shape decides. Each
** column of blocks has a last one of its own. */
template <int M> MS_DEVICE void ms_sum_rows(double (*room)[MS_BLOCK], const ms_cut &k, const ms_place &p) {
  int t = threadIdx.x, half = 1;
  while (2 * half < k.py)
    half *= 2;
  for (; half > 0; half /= 2) {
    __syncthreads();
    if (p.row < half && p.row + half < k.py) {
      double more[M];
#pragma unroll
      for (int m = 0; m < M; m++)
        more[m] = room[m][t + half * k.cx];
#pragma unroll
      for (int m = 0; m < M; m++)
        room[m][t] += more[m];
    }
  }
}

/* Whether this block is the last of `all` that come here; it then sees what the others wrote before, where it reads by
** __ldcg. The counter is 0 again behind the last. */
MS_DEVICE bool ms_last(unsigned *counter, int64_t all, unsigned *room) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned before = atomicAdd(counter, 1u);
    room[0] = before + 1 == (unsigned)all;
    if (room[0])
      *counter = 0;
    __threadfence();
  }
  __syncthreads();
  return room[0] != 0;
}

/* What is done with the sums is up to the Fold:
**   begin(ch)                of one thread, before its terms of a channel
**   add(b, x, y, &s0, &s1)   the pair that block b found; b >= blocks: 0 and 0, which must add nothing
**   end(ch, s0, s1)          once for each channel
** Launches with more columns than there are counters let columns share them. */
template <int V, class Fold>
MS_DEVICE void ms_fold_columns(double (*room)[MS_BLOCK], const ms_cut &k, const double *part, unsigned *counters,
                               unsigned *arrived, Fold &fold) {
  enum { AT_ONCE = 8, COLUMNS = MS_COUNTERS - 1 };
  int t = threadIdx.x, first = (int)(blockIdx.x % k.gy % COLUMNS);
  if (!ms_last(counters + 1 + first, ((k.gy - 1 - first) / COLUMNS + 1) * k.blocks, arrived))
    return;
  for (int64_t column = first; column < k.gy; column += COLUMNS) {
    int64_t from = column * k.cx * V, end = from + k.cx * V < k.c ? from + k.cx * V : k.c;
    int wide = 8;
    while (wide < MS_WARP && wide < end - from)
      wide *= 2;
    int slices = MS_BLOCK / wide;
    for (; from < end; from += wide) {
      int64_t ch = from + t % wide;
      double s0 = 0, s1 = 0;
      if (ch < end) {
        fold.begin(ch);
        for (int64_t b = t / wide; b < k.blocks; b += AT_ONCE * slices) {
          double x[AT_ONCE], y[AT_ONCE];
#pragma unroll
          for (int i = 0; i < AT_ONCE; i++) {
            int64_t at = b + i * slices;
            x[i] = at < k.blocks ? __ldcg(part + 2 * at * k.c + ch) : 0;
            y[i] = at < k.blocks ? __ldcg(part + (2 * at + 1) * k.c + ch) : 0;
          }
#pragma unroll
          for (int i = 0; i < AT_ONCE; i++)
            fold.add(b + i * slices, x[i], y[i], &s0, &s1);
        }
      }
      __syncthreads();
      room[0][t] = s0;
      room[1][t] = s1;
      for (int half = MS_BLOCK / 2; half >= wide; half /= 2) {
        __syncthreads();
        if (t < half) {
          room[0][t] += room[0][t + half];
          room[1][t] += room[1][t + half];
        }
      }
      if (t < wide && ch < end)
        fold.end(ch, room[0][t], room[1][t]);
    }
  }
}

/* From the sums of g and g * (x - mean): gradients of a normalisation's parameters, and what dx needs:
**   dx = a * g + slope * (x - mean) + shift
**   slope = -a * mean(g * xhat) * invstd,  shift = -a * mean(g) */
typedef struct ms_fold {
  const float *a, *gamma, *invstd; /* a NULL: gain * gamma * invstd; gamma NULL: 1 */
  float gain;
  double n, times; /* values behind each mean; how many of them dx gathers (a static input) */
  int training;
  float *dgamma, *dbeta, *slope, *shift; /* each may be NULL */
} ms_fold;

struct ms_fold_grads {
  const ms_fold &f;
  MS_MEMBER void begin(int64_t) {}
  MS_MEMBER void add(int64_t, double x, double y, double *g, double *gx) const {
    *g += x;
    *gx += y;
  }
  MS_MEMBER void end(int64_t ch, double g, double gx) const {
    float invstd = f.invstd[ch], a = f.a ? f.a[ch] : f.gain * (f.gamma ? f.gamma[ch] : 1.0f) * invstd;
    gx *= invstd;
    if (f.dgamma)
      f.dgamma[ch] = (float)(f.gain * gx);
    if (f.dbeta)
      f.dbeta[ch] = (float)g;
    if (f.slope) {
      f.slope[ch] = f.training ? (float)(-a * (f.times * gx * invstd / f.n)) : 0.0f;
      f.shift[ch] = f.training ? (float)(-a * (f.times * g / f.n)) : 0.0f;
    }
  }
};

/* Adds the gradients that one block found, in room[V sums of g, V of g * (x - mean)], to those of the others. */
template <int V>
MS_DEVICE void ms_sum_grads(double (*room)[MS_BLOCK], const ms_cut &k, const ms_place &p, double *part,
                            unsigned *counters, unsigned *arrived, const ms_fold &f) {
  ms_sum_rows<2 * V>(room, k, p);
  if (p.row == 0 && p.end > 0) {
#pragma unroll
    for (int m = 0; m < 2 * V; m++)
      part[(2 * p.block + m / V) * k.c + p.ch + m % V] = room[m][threadIdx.x];
  }
  ms_fold_grads fold = {f};
  ms_fold_columns<V>(room, k, part, counters, arrived, fold);
}

#endif
