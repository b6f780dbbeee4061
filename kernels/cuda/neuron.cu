/* Spiking neurons over T steps, forward: one launch. A thread owns V adjacent channels of one pixel, or with pooling of
** the four pixels of a window, and walks t with the membranes in registers; four vectors of y are on their way at any
** time. Every switch of the layer is a branch that all threads take alike. */
#include "neuron_step.h"

enum { LANES = 4, TALLY_BYTES = 32 << 10 };

/* Where the P pixels of a place lie. */
template <int P> MS_DEVICE void pixels(const ms_neuron_args &f, const ms_place &p, int64_t at, int64_t (&to)[P]) {
  to[0] = at;
  if constexpr (P == 4) {
    int64_t window = ms_quotient(at, f.c), wide = f.pool_w / 2, line = ms_quotient(window, wide);
    to[0] = ((2 * line * f.pool_w) + 2 * (window - line * wide)) * f.c + p.ch;
    to[1] = to[0] + f.c;
    to[2] = to[0] + f.pool_w * f.c;
    to[3] = to[2] + f.c;
  }
}

/* tally: counts [T][c] of this block, or NULL: they go to memory at once. */
template <int V> MS_DEVICE void count(const ms_neuron_args &f, int *tally, int64_t at, unsigned fired) {
#pragma unroll
  for (int j = 0; j < V; j++)
    if (fired >> j & 1) {
      if (tally)
        atomicAdd(tally + at + j, 1);
      else
        atomicAdd((unsigned long long *)f.counts + at + j, 1ull);
    }
}

template <class E, int V, int P>
__global__ void __launch_bounds__(MS_BLOCK, 2)
    neuron_forward(ms_neuron_args f, ms_switched q, ms_cut cut, int tallied) {
  SHARED_DYN(int, room);
  SHARED(unsigned long long, sums, [MS_WARP]);
  enum { STEPS = LANES / P, BYTES = (V + 3) / 4 };
  int *tally = tallied ? room : NULL;
  for (int i = threadIdx.x; i < tallied; i += MS_BLOCK)
    tally[i] = 0;
  __syncthreads();
  if (f.w)
    q.p = ms_neuron_plif(q.p, *f.w);
  ms_place place = ms_place_of<V>(cut);
  float a[V], b[V];
  ms_coefficients(f.norm.a, place.ch, a);
  ms_coefficients(f.norm.b, place.ch, b);
  unsigned long long ones = 0, some = 0;
  int64_t at = place.at;
  for (int round = 0; round < cut.rounds; round++, at += place.step) {
    bool live = at < place.end;
    int64_t to[P];
    float v[P][V];
    pixels<P>(f, place, live ? at : 0, to); /* without work: loads from a place that exists */
#pragma unroll
    for (int p = 0; p < P; p++)
      ms_first(f, to[p], v[p]);
    for (int64_t t0 = 0; t0 < f.steps; t0 += STEPS) {
      ms_raw<E, V> y[LANES];
#pragma unroll
      for (int i = 0; i < LANES; i++) {
        int64_t t = t0 + i / P;
        y[i].read(f.y, (t < f.steps ? t : t0) * f.y_step + to[i % P]);
      }
#pragma unroll
      for (int i = 0; i < STEPS; i++) {
        int64_t t = t0 + i;
        uint32_t sum[BYTES] = {};
        if (t < f.steps) {
#pragma unroll
          for (int p = 0; p < P; p++) {
            float x[V], h[V];
            int64_t e = t * f.n + to[p];
            ms_input(f, y[i * P + p], a, b, t, to[p], x);
            unsigned fired = ms_step(q, x, v[p], h);
            fired = live ? fired : 0;
            uint32_t bytes[BYTES];
#pragma unroll
            for (int k = 0; k < BYTES; k++) {
              bytes[k] = ms_spread4(fired >> 4 * k);
              sum[k] += bytes[k];
            }
            if (f.h && live)
              ms_store_real(f.h + e, h);
            if (f.s.p && f.s.dtype == MS_BITS)
              ms_store_bits<V>((uint8_t *)f.s.p, e, fired, live);
            else if (f.s.p && live)
              ms_store_bytes<V>((uint8_t *)f.s.p + e, bytes);
            if (f.active) {
              float g[V];
              unsigned active = 0;
              ms_surrogates(q.p, h, g);
#pragma unroll
              for (int j = 0; j < V; j++)
                active |= (unsigned)(live && g[j] != 0) << j;
              ms_store_bits<V>(f.active, e, active, live);
              ones += __popc(active);
            }
            if (f.counts)
              count<V>(f, tally, t * f.c + place.ch, fired);
          }
          if (P == 4 && f.pooled.p && live) {
            ms_store_bytes<V>((uint8_t *)f.pooled.p + t * (f.n / 4) + at, sum);
#pragma unroll
            for (int k = 0; k < BYTES; k++)
              some += __popc((sum[k] | sum[k] >> 1 | sum[k] >> 2) & 0x01010101u);
          }
        }
      }
    }
    if (f.v && live) {
#pragma unroll
      for (int p = 0; p < P; p++)
        ms_store_real(f.v + to[p], v[p]);
    }
  }
  if (tallied) {
    __syncthreads();
    for (int i = threadIdx.x; i < tallied; i += MS_BLOCK)
      if (tally[i])
        atomicAdd((unsigned long long *)f.counts + i, (unsigned long long)tally[i]);
  }
  if (f.totals) {
    ones = ms_block_sum(ones, sums);
    some = ms_block_sum(some, sums);
    if (threadIdx.x == 0) {
      atomicAdd((unsigned long long *)f.totals, ones);
      atomicAdd((unsigned long long *)f.totals + 1, some);
    }
  }
}

template <class E, int V> static void launch(ms_stream *s, const ms_neuron_args *f) {
  bool pooled = f->pooled.p != NULL;
  /* few blocks where each of them has counts to add up */
  ms_cut cut = ms_cut_of(pooled ? f->n / 4 : f->n, ms_neuron_channels(f), V, f->counts ? 1024 : 4096);
  int64_t tallied = f->counts ? f->steps * f->c : 0;
  if (tallied > TALLY_BYTES / (int64_t)sizeof(int))
    tallied = 0;
  ms_switched q = ms_switched_of(f->p);
  size_t bytes = (size_t)tallied * sizeof(int);
  if (pooled)
    LAUNCH((neuron_forward<E, V, 4>), ms_cut_grid(cut), MS_BLOCK, bytes, s->id, *f, q, cut, (int)tallied);
  else
    LAUNCH((neuron_forward<E, V, 1>), ms_cut_grid(cut), MS_BLOCK, bytes, s->id, *f, q, cut, (int)tallied);
}

static bool fits(const ms_neuron_args *f, int v) {
  return ms_neuron_fits(f, v) && ms_aligned(f->s.p, f->s.dtype, 0, v) && ms_aligned(f->pooled.p, MS_SPIKE, 0, v) &&
         ms_aligned(f->v, MS_F32, 0, v) && ms_aligned(f->h, MS_F32, 0, v);
}

ms_status ms_cuda_neuron(ms_stream *s, const ms_neuron_args *f) {
  MS_TRY(ms_cuda_enter(s));
  if (f->steps == 0 || f->n == 0)
    return MS_OK;
  size_t count_bytes = (size_t)(f->steps * f->c) * sizeof *f->counts, total_bytes = 2 * sizeof *f->totals;
  bool joined = f->counts && f->totals == f->counts + f->steps * f->c;
  if (f->counts)
    MS_TRY(ms_cuda_check(s, cudaMemsetAsync(f->counts, 0, count_bytes + (joined ? total_bytes : 0), s->id), "neuron"));
  if (f->totals && !joined)
    MS_TRY(ms_cuda_check(s, cudaMemsetAsync(f->totals, 0, total_bytes, s->id), "neuron"));
  if (f->y.dtype == MS_BF16 && fits(f, 8))
    launch<ms_bf16, 8>(s, f);
  else if (f->y.dtype == MS_F32 && fits(f, 4))
    launch<float, 4>(s, f);
  else
    launch<ms_any, 1>(s, f);
  return ms_cuda_launched(s, "neuron");
}
