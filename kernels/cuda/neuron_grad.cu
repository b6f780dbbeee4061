/* Spiking neurons over T steps, backward. Membranes are computed anew from y, S steps at a time in registers, and the
** steps walked back; with more than S steps the membrane before each S of them is kept in scratch memory. Through the
** statistics of a normalisation dy needs sums over the whole batch: one launch for the sums, one that writes the
** gradients. Computing membranes twice costs less traffic than writing gradients. */
#include "neuron_step.h"

/* Sums of a thread are floats for about FEW terms, then doubles; CHECK_BYTES bounds the membranes kept. */
enum { FEW = 64 };
static const int64_t SUM_BLOCKS = 512, EMIT_BLOCKS = 4096, CHECK_BYTES = 32 << 20;

typedef struct back_args {
  ms_neuron_grad_args g;
  ms_switched q;
  ms_cut cut;
  double *part;               /* [blocks][2][c] sums */
  double *dk;                 /* [blocks] PLIF's sum, or NULL */
  const float *slope, *shift; /* [c], or NULL: dy does not pass through statistics */
  unsigned *counters;         /* of the stream */
  ms_fold fold;
  float *dw;
  float *check; /* [(T - 1) / S][threads][V] membranes before each S steps but the first */
} back_args;

/* The membrane before step seg * S. */
template <int V>
MS_DEVICE void start(const back_args &k, int64_t seg, int64_t at, int64_t thread, int64_t threads, float (&v)[V]) {
  if (seg > 0)
    ms_load_real(k.check + ((seg - 1) * threads + thread) * V, v);
  else
    ms_first(k.g.fwd, at, v);
}

/* Where dL/ds of an element lies; with pooling it is the window's. */
MS_DEVICE int64_t spike_place(const ms_neuron_args &f, int64_t at, int64_t ch) {
  if (f.pool_h == 0)
    return at;
  int64_t pixel = ms_quotient(at, f.c), line = ms_quotient(pixel, f.pool_w), x = pixel - line * f.pool_w;
  return (line / 2 * (f.pool_w / 2) + x / 2) * f.c + ch;
}

/* dy of one step, or of all for a static input, from d = dL/dI. */
template <int V>
MS_DEVICE void emit(const back_args &k, int64_t at, const float (&d)[V], const float (&y)[V], const float (&a)[V],
                    const float (&mean)[V], const float (&slope)[V], const float (&shift)[V]) {
  float x[V];
#pragma unroll
  for (int j = 0; j < V; j++)
    x[j] = d[j];
  if (k.slope) {
#pragma unroll
    for (int j = 0; j < V; j++)
      x[j] = fmaf(a[j], d[j], fmaf(slope[j], y[j] - mean[j], shift[j]));
  } else if (k.g.fwd.norm.a) {
#pragma unroll
    for (int j = 0; j < V; j++)
      x[j] = a[j] * d[j];
  }
  ms_store(k.g.dy, at, x);
}

/* Whether 128 registers a thread are enough, found with nvcc 13.0 for `bytes` of y in a thread for each channel: the sums
** need more for eight channels, or six steps of bfloat16. */
static constexpr bool two_blocks(int v, int bytes, int emit, int full) {
  return !full && v * bytes <= 64 && (emit || (v <= 4 && bytes != 12));
}

/* EMIT 0: the sums of g and g * (y - mean), and PLIF's. EMIT 1: the gradients, and PLIF's sum where dk asks for it.
** FULL 0 is for what is_usual says, in fewer registers: two blocks at once on a multiprocessor where the steps are few. */
template <class E, int V, int S, int EMIT, int FULL>
__global__ void __launch_bounds__(MS_BLOCK, two_blocks(V, S *(int)sizeof(E), EMIT, FULL) ? 2 : 1)
    neuron_back(back_args k) {
  enum { ROOM = EMIT ? 1 : 2 * V };
  SHARED(double, room, [ROOM][MS_BLOCK]);
  SHARED(double, dk_room, [MS_WARP]);
  SHARED(unsigned, arrived, [1]);
  const ms_neuron_grad_args &g = k.g;
  const ms_neuron_args &f = g.fwd;
  ms_switched q = k.q;
  if (f.w)
    q.p = ms_neuron_plif(q.p, *f.w);
  ms_place place = ms_place_of<V>(k.cut);
  int64_t thread = ms_thread(), threads = (int64_t)gridDim.x * MS_BLOCK;
  int64_t segs = FULL ? (f.steps + S - 1) / S : 1;
  int few = 0;
  float a[V], b[V], mean[V], slope[V], shift[V], sum_g[V], sum_gx[V];
  ms_coefficients(f.norm.a, place.ch, a);
  ms_coefficients(f.norm.b, place.ch, b);
  ms_coefficients(f.norm.a ? g.mean : NULL, place.ch, mean);
  if (EMIT) {
    ms_coefficients(k.slope, place.ch, slope);
    ms_coefficients(k.shift, place.ch, shift);
  } else {
#pragma unroll
    for (int j = 0; j < V; j++) {
      sum_g[j] = sum_gx[j] = 0;
      room[j][threadIdx.x] = room[V + j][threadIdx.x] = 0;
    }
  }
  bool gathers = FULL && EMIT && ((g.dy.p && !f.y_step) || (g.dr.p && !f.r_step)),
       own = !FULL || ms_raw<E, V>::holds(g.gs);
  bool given = !FULL || g.gs.p != NULL;
  double dk = 0;
#pragma unroll 1
  for (int64_t at = place.at; at < place.end; at += place.step) {
    int64_t from = spike_place(f, at, place.ch);
    float gv[V], total[V];
#pragma unroll
    for (int j = 0; j < V; j++)
      gv[j] = total[j] = 0;
    if (g.gv)
      ms_load_real(g.gv + at, gv);
    if (segs > 1) {
      float v[V];
      ms_first(f, at, v);
      for (int64_t t = 0; t < (segs - 1) * S; t++) {
        ms_raw<E, V> y;
        float x[V], h[V];
        y.read(f.y, t * f.y_step + at);
        ms_input(f, y, a, b, t, at, x);
        ms_step(q, x, v, h);
        if ((t + 1) % S == 0)
          ms_store_real(k.check + (((t + 1) / S - 1) * threads + thread) * V, v);
      }
    }
#pragma unroll 1
    for (int64_t seg = segs - 1; seg >= 0; seg--) {
      int64_t t0 = seg * S;
      ms_raw<E, V> y[S], gs[S];
      float h[S][V], v[V];
      int64_t e = t0 * f.y_step + at, ge = t0 * g.gs_step + from;
#pragma unroll
      for (int i = 0; i < S; i++, e += f.y_step)
        if (t0 + i < f.steps)
          y[i].read(f.y, e);
      if (given && own) {
#pragma unroll
        for (int i = 0; i < S; i++, ge += g.gs_step)
          if (t0 + i < f.steps)
            gs[i].read(g.gs, ge);
      }
      start(k, seg, at, thread, threads, v);
#pragma unroll
      for (int i = 0; i < S; i++)
        if (t0 + i < f.steps) {
          float x[V];
          ms_input(f, y[i], a, b, t0 + i, at, x);
          ms_step(q, x, v, h[i]);
        }
#pragma unroll
      for (int i = S - 1; i >= 0; i--) {
        int64_t t = t0 + i;
        if (t < f.steps) {
          float sur[V], ds[V], d[V], yv[V];
          if (FULL && g.surrogate)
            ms_load_real(g.surrogate + t * f.n + at, sur);
          else
            ms_surrogates(q.p, h[i], sur);
#pragma unroll
          for (int j = 0; j < V; j++)
            ds[j] = given && own ? gs[i].at(j) : 0;
          if (given && !own)
            ms_load(g.gs, t * g.gs_step + from, ds);
          if (f.pool_h) {
#pragma unroll
            for (int j = 0; j < V; j++)
              ds[j] = ds[j] / 4;
          }
#pragma unroll
          for (int j = 0; j < V; j++) {
            float dh = ms_switched_dh(&q, h[i][j], sur[j], ds[j], gv[j]);
            d[j] = q.p.gain * dh;
            gv[j] = q.p.leak * dh;
            yv[j] = y[i].at(j);
            sur[j] = dh;
          }
          if (FULL && k.dk) {
            /* dh/dk of h = v + k * (x - v + v_reset), or with x unscaled */
            float x[V], before[V], rest = q.p.soft ? 0.0f : q.p.v_reset;
            ms_input(f, y[i], a, b, t, at, x);
            if (i == 0) {
              start(k, seg, at, thread, threads, before);
            } else {
#pragma unroll
              for (int j = 0; j < V; j++)
                before[j] = ms_switched_reset(&q, h[i > 0 ? i - 1 : 0][j], 0);
            }
#pragma unroll
            for (int j = 0; j < V; j++)
              dk += (double)(sur[j] * ((q.p.plif_input ? x[j] : 0.0f) - before[j] + rest));
          }
          if (!EMIT) {
#pragma unroll
            for (int j = 0; j < V; j++) {
              sum_g[j] += d[j];
              sum_gx[j] = fmaf(d[j], yv[j] - mean[j], sum_gx[j]);
            }
          }
          if (gathers) {
#pragma unroll
            for (int j = 0; j < V; j++)
              total[j] += d[j];
          }
          if (EMIT && g.dy.p && (!FULL || f.y_step))
            emit(k, t * f.y_step + at, d, yv, a, mean, slope, shift);
          if (EMIT && g.dr.p && (!FULL || f.r_step))
            ms_store(g.dr, t * f.r_step + at, d);
        }
      }
      few += S;
      if (!EMIT && few >= FEW) {
        few = 0;
#pragma unroll
        for (int j = 0; j < V; j++) {
          room[j][threadIdx.x] += sum_g[j];
          room[V + j][threadIdx.x] += sum_gx[j];
          sum_g[j] = sum_gx[j] = 0;
        }
      }
    }
    if (FULL && EMIT && g.dy.p && !f.y_step) {
      ms_raw<E, V> y;
      float yv[V];
      y.read(f.y, at);
#pragma unroll
      for (int j = 0; j < V; j++)
        yv[j] = y.at(j);
      emit(k, at, total, yv, a, mean, slope, shift);
    }
    if (FULL && EMIT && g.dr.p && !f.r_step)
      ms_store(g.dr, at, total);
    if (EMIT && g.dv0)
      ms_store_real(g.dv0 + at, gv);
  }
  if (!EMIT) {
#pragma unroll
    for (int j = 0; j < V; j++) {
      room[j][threadIdx.x] += sum_g[j];
      room[V + j][threadIdx.x] += sum_gx[j];
    }
    if constexpr (!EMIT)
      ms_sum_grads<V>(room, k.cut, place, k.part, k.counters, arrived, k.fold);
  }
  if (FULL && k.dk) {
    dk = ms_block_sum(dk, dk_room);
    if (threadIdx.x == 0)
      k.dk[blockIdx.x] = dk;
    if (ms_last(k.counters, gridDim.x, arrived)) {
      dk = 0;
      for (int64_t i = threadIdx.x; i < gridDim.x; i += MS_BLOCK)
        dk += __ldcg(k.dk + i);
      dk = ms_block_sum(dk, dk_room);
      if (threadIdx.x == 0) {
        double share = 1 / (1 + exp(-(double)*f.w));
        *k.dw = (float)(dk * share * (1 - share));
      }
    }
  }
}

/* ---- host ---- */

/* What a call needs: the cuts of its two sweeps and the places of its arrays in scratch memory. */
typedef struct plan {
  ms_cut sums, emit;
  size_t part, dk, slope, check, bytes;
} plan;

static plan plan_of(const ms_neuron_grad_args *g, int v, int s, bool sums) {
  const ms_neuron_args *f = &g->fwd;
  int64_t c = ms_neuron_channels(f), kept = (f->steps - 1) / s;
  int64_t most = kept ? CHECK_BYTES / (kept * v * (int64_t)sizeof(float) * MS_BLOCK) : EMIT_BLOCKS;
  plan p = {};
  most = most < 1 ? 1 : most;
  p.emit = ms_cut_of(f->n, c, v, most < EMIT_BLOCKS ? most : EMIT_BLOCKS);
  p.sums = ms_cut_of(f->n, c, v, most < SUM_BLOCKS ? most : SUM_BLOCKS, ms_line(f->y.dtype, v));
  int64_t blocks = p.emit.blocks * p.emit.gy, sum_blocks = p.sums.blocks * p.sums.gy;
  if (sum_blocks > blocks)
    blocks = sum_blocks;
  p.dk = sums ? (size_t)(2 * p.sums.blocks * f->c) * sizeof(double) : 0;
  p.slope = p.dk + (size_t)ms_div_up(blocks, 2) * 2 * sizeof(double);
  p.check = (p.slope + (sums ? (size_t)(2 * ms_div_up(f->c, 4) * 4) * sizeof(float) : 0) + 255) / 256 * 256;
  p.bytes = p.check + (size_t)(kept * blocks * MS_BLOCK * v) * sizeof(float);
  return p;
}

template <class E, int V, int S, int FULL = 0> static ms_status launch(ms_stream *s, const ms_neuron_grad_args *g) {
  const ms_neuron_args *f = &g->fwd;
  bool sums = f->norm.a && ((g->norm_training && g->dy.p) || g->dgamma || g->dbeta);
  bool emits = g->dy.p || g->dr.p || g->dv0 || (g->dw && !sums);
  plan p = plan_of(g, V, S, sums);
  char *room;
  MS_TRY(ms_cuda_scratch(s, p.bytes, (void **)&room));
  float *slope = (float *)(room + p.slope), *shift = slope + ms_div_up(f->c, 4) * 4;
  back_args k = {};
  k.g = *g;
  k.q = ms_switched_of(f->p);
  k.check = (float *)(room + p.check);
  k.counters = s->counter;
  k.dw = g->dw;
  double *dk = g->dw ? (double *)(room + p.dk) : NULL;
  if (sums) {
    k.cut = p.sums;
    k.part = (double *)(room + p.part);
    k.dk = dk;
    k.fold.a = f->norm.a;
    k.fold.invstd = g->invstd;
    k.fold.gain = g->norm_gain;
    k.fold.n = (double)f->n / (double)f->c * (double)f->steps;
    k.fold.times = f->y_step ? 1 : (double)f->steps;
    k.fold.training = g->norm_training;
    k.fold.dgamma = g->dgamma;
    k.fold.dbeta = g->dbeta;
    k.fold.slope = slope;
    k.fold.shift = shift;
    LAUNCH((neuron_back<E, V, S, 0, FULL>), ms_cut_grid(k.cut), MS_BLOCK, 0, s->id, k);
  }
  if (emits) {
    k.cut = p.emit;
    k.dk = sums ? NULL : dk;
    k.slope = sums && g->norm_training ? slope : NULL;
    k.shift = k.slope ? shift : NULL;
    LAUNCH((neuron_back<E, V, S, 1, FULL>), ms_cut_grid(k.cut), MS_BLOCK, 0, s->id, k);
  }
  return ms_cuda_launched(s, "neuron_grad");
}

static bool fits(const ms_neuron_grad_args *g, int v) {
  const ms_neuron_args *f = &g->fwd;
  return ms_neuron_fits(f, v) && ms_aligned(g->mean, MS_F32, 0, v) && ms_aligned(g->gs.p, g->gs.dtype, g->gs_step, v) &&
         ms_aligned(g->gv, MS_F32, 0, v) && ms_aligned(g->surrogate, MS_F32, 0, v) &&
         ms_aligned(g->dy.p, g->dy.dtype, 0, v) && ms_aligned(g->dr.p, g->dr.dtype, 0, v) &&
         ms_aligned(g->dv0, MS_F32, 0, v);
}

/* What most layers are: few steps, nothing that stands still, dL/ds of y's type, no PLIF. */
static bool is_usual(const ms_neuron_grad_args *g) {
  const ms_neuron_args *f = &g->fwd;
  return f->steps <= 10 && f->y_step && (!g->dr.p || f->r_step) && g->gs.p && g->gs.dtype == f->y.dtype &&
         !g->surrogate && !g->dw;
}

ms_status ms_cuda_neuron_grad(ms_stream *s, const ms_neuron_grad_args *g) {
  MS_TRY(ms_cuda_enter(s));
  const ms_neuron_args *f = &g->fwd;
  int64_t steps = f->steps;
  if (steps == 0 || f->n == 0)
    return MS_OK;
  bool usual = is_usual(g);
  if (f->y.dtype == MS_BF16 && fits(g, 4))
    return !usual                     ? launch<ms_bf16, 4, 4, 1>(s, g)
           : steps > 6                ? launch<ms_bf16, 4, 10>(s, g)
           : steps > 4                ? launch<ms_bf16, 4, 6>(s, g)
           : steps > 2 || !fits(g, 8) ? launch<ms_bf16, 4, 4>(s, g)
                                      : launch<ms_bf16, 8, 2>(s, g);
  if (f->y.dtype == MS_F32 && fits(g, 4))
    return !usual      ? launch<float, 4, 4, 1>(s, g)
           : steps > 6 ? launch<float, 4, 10>(s, g)
           : steps > 4 ? launch<float, 4, 6>(s, g)
           : steps > 2 ? launch<float, 4, 4>(s, g)
                       : launch<float, 4, 2>(s, g);
  return launch<ms_any, 1, 8, 1>(s, g);
}
