/* Batch normalisation: statistics, application, gradient. Statistics are two-pass over a few rows at a time, in
** registers, merged by the formula of Chan, Golub and LeVeque (1983). The means of threads and of blocks are then added
** up by their distance from the first one: no division, and what cancels is at most a few hundred times the result.
** Gradients are one launch for the sums and one for dx. */
#include "cut.h"

enum { BATCH = 4, FEW = 64, SUM_BLOCKS = 512, MAP_BLOCKS = 4096 };

/* ---- statistics ---- */

typedef struct parts_args {
  ms_norm n;
  ms_cut cut;
  double *part; /* [blocks][mean, sum of squared deviations][c] */
  unsigned *counters;
} parts_args;

/* Of one channel, when its statistics are known. */
MS_DEVICE void norm_write(const ms_norm &n, int64_t ch, double mean, double var) {
  double invstd = 1 / sqrt(var + n.eps), a = n.gain * (n.gamma ? n.gamma[ch] : 1.0f) * invstd;
  n.mean[ch] = (float)mean;
  n.invstd[ch] = (float)invstd;
  n.a[ch] = (float)a;
  n.b[ch] = (float)((n.beta ? n.beta[ch] : 0.0f) - mean * (float)a);
}

/* Adds up blocks: first is the mean of block 0. */
struct fold_stats {
  const parts_args &k;
  double first;
  MS_MEMBER void begin(int64_t ch) {
    first = __ldcg(k.part + ch);
  }
  MS_MEMBER void add(int64_t b, double mean, double m2, double *s1, double *s2) const {
    int64_t left = k.n.rows - b * k.cut.span;
    double count = left <= 0 ? 0 : (double)(left < k.cut.span ? left : k.cut.span), d = mean - first, sum = count * d;
    *s1 += sum;
    *s2 += m2 + sum * d;
  }
  MS_MEMBER void end(int64_t ch, double s1, double s2) const {
    const ms_norm &n = k.n;
    double rows = (double)n.rows, off = s1 / rows, mean = first + off, var = (s2 - s1 * off) / rows;
    double seen = rows * (double)n.repeat;
    var = var < 0 ? 0 : var;
    double unbiased = seen > 1 ? var * seen / (seen - 1) : var;
    if (n.running_mean)
      n.running_mean[ch] += n.momentum * (float)(mean - n.running_mean[ch]);
    if (n.running_var)
      n.running_var[ch] += n.momentum * (float)(unbiased - n.running_var[ch]);
    if (ch == 0 && n.batches)
      ++*n.batches;
    norm_write(n, ch, mean, var);
  }
};

template <class E, int V>
__global__ void __launch_bounds__(MS_BLOCK, 2) norm_parts(const __grid_constant__ parts_args args) {
  SHARED(double, room, [2 * V][MS_BLOCK]);
  SHARED(unsigned, arrived, [1]);
  const ms_data &x = args.n.x;
  const ms_cut &k = args.cut;
  ms_place p = ms_place_of<V>(k);
  double mean[V], m2[V], count = 0;
#pragma unroll
  for (int j = 0; j < V; j++)
    mean[j] = m2[j] = 0;
  for (int64_t at = p.at; at < p.end; at += BATCH * p.step) {
    ms_raw<E, V> y[BATCH];
    int64_t left = (p.end - at + p.step - 1) / p.step;
    int rows = left < BATCH ? (int)left : (int)BATCH;
    float inv = 1 / (float)rows;
#pragma unroll
    for (int i = 0; i < BATCH; i++)
      y[i].read(x, i < rows ? at + i * p.step : at);
    double share = rows / (count + rows);
#pragma unroll
    for (int j = 0; j < V; j++) {
      float m = 0, s1 = 0, s2 = 0;
#pragma unroll
      for (int i = 0; i < BATCH; i++)
        m += i < rows ? y[i].at(j) : 0;
      m *= inv;
#pragma unroll
      for (int i = 0; i < BATCH; i++) {
        float d = i < rows ? y[i].at(j) - m : 0;
        s1 += d;
        s2 = fmaf(d, d, s2);
      }
      /* s1 corrects the rounding of m */
      double off = (double)(s1 * inv), d = (m + off) - mean[j];
      mean[j] += d * share;
      m2[j] += (s2 - off * s1) + d * d * count * share;
    }
    count += rows;
  }
  double first[V];
#pragma unroll
  for (int j = 0; j < V; j++)
    room[j][threadIdx.x] = mean[j];
  __syncthreads();
#pragma unroll
  for (int j = 0; j < V; j++)
    first[j] = room[j][p.x];
  __syncthreads();
#pragma unroll
  for (int j = 0; j < V; j++) {
    double d = mean[j] - first[j], sum = count * d;
    room[j][threadIdx.x] = count > 0 ? sum : 0;
    room[V + j][threadIdx.x] = count > 0 ? m2[j] + sum * d : 0;
  }
  ms_sum_rows<2 * V>(room, k, p);
  if (p.row == 0 && p.end > 0) {
    double *part = args.part + 2 * p.block * k.c + p.ch;
    int64_t left = k.rows - p.block * k.span;
    double inv = 1 / (double)(left < k.span ? left : k.span);
#pragma unroll
    for (int j = 0; j < V; j++) {
      double sum = room[j][threadIdx.x], off = sum * inv;
      part[j] = first[j] + off;
      part[k.c + j] = room[V + j][threadIdx.x] - sum * off;
    }
  }
  fold_stats fold = {args, 0};
  ms_fold_columns<V>(room, k, args.part, args.counters, arrived, fold);
}

/* A thread for each channel: the running statistics are used. */
__global__ void __launch_bounds__(MS_BLOCK) norm_running(const __grid_constant__ ms_norm n) {
  int64_t ch = ms_thread();
  if (ch < n.c)
    norm_write(n, ch, n.running_mean[ch], n.running_var[ch]);
}

/* Blocks with less than BATCH rows for a thread would only be more to add up. */
template <class E, int V> static ms_status stats(ms_stream *s, const ms_norm *n) {
  int64_t all = n->rows * n->c, most = ms_div_up(all, MS_BLOCK * V * BATCH);
  parts_args k = {*n, ms_cut_of(all, n->c, V, most < SUM_BLOCKS ? most : (int64_t)SUM_BLOCKS, ms_line(n->x.dtype, V)),
                  NULL, s->counter};
  MS_TRY(ms_cuda_scratch(s, (size_t)(2 * k.cut.blocks * n->c) * sizeof *k.part, (void **)&k.part));
  LAUNCH((norm_parts<E, V>), ms_cut_grid(k.cut), MS_BLOCK, 0, s->id, k);
  return ms_cuda_launched(s, "norm_stats");
}

static bool fits(const ms_data *d, int64_t c, int v) {
  return !d->p || (c % v == 0 && ms_aligned(d->p, d->dtype, 0, v));
}

ms_status ms_cuda_norm_stats(ms_stream *s, const ms_norm *n) {
  MS_TRY(ms_cuda_enter(s));
  if (n->rows == 0 || n->c == 0)
    return MS_OK;
  if (n->training && n->x.dtype == MS_BF16 && fits(&n->x, n->c, 8))
    return stats<ms_bf16, 8>(s, n);
  if (n->training && n->x.dtype == MS_F32 && fits(&n->x, n->c, 4))
    return stats<float, 4>(s, n);
  if (n->training)
    return stats<ms_any, 1>(s, n);
  LAUNCH(norm_running, ms_grid(n->c), MS_BLOCK, 0, s->id, *n);
  return ms_cuda_launched(s, "norm_stats");
}

/* ---- application ---- */

typedef struct apply_args {
  int64_t steps, x_step, r_step;
  ms_data x, r, y;
  ms_affine f;
  ms_cut cut;
} apply_args;

template <int V> MS_DEVICE void coefficients(const float *p, int64_t ch, float missing, float (&x)[V]) {
#pragma unroll
  for (int j = 0; j < V; j++)
    x[j] = p ? p[ch + j] : missing;
}

template <int V> __global__ void __launch_bounds__(MS_BLOCK, 4) norm_map(apply_args k) {
  ms_place p = ms_place_of<V>(k.cut);
  float a[V], b[V];
  coefficients(k.f.a, p.ch, 1, a);
  coefficients(k.f.b, p.ch, 0, b);
  for (int64_t at = p.at; at < p.end; at += p.step)
    for (int64_t t = 0; t < k.steps; t++) {
      float x[V], r[V];
      ms_load(k.x, t * k.x_step + at, x);
      if (k.f.a) {
#pragma unroll
        for (int j = 0; j < V; j++)
          x[j] = fmaf(a[j], x[j], b[j]);
      }
      if (k.r.p) {
        ms_load(k.r, t * k.r_step + at, r);
#pragma unroll
        for (int j = 0; j < V; j++)
          x[j] += r[j];
      }
      ms_store(k.y, t * k.cut.n + at, x);
    }
}

ms_status ms_cuda_norm_apply(ms_stream *s, int64_t steps, int64_t rows, int64_t c, ms_data x, int64_t x_step,
                             ms_affine f, ms_data r, int64_t r_step, ms_data y) {
  MS_TRY(ms_cuda_enter(s));
  if (steps == 0 || rows == 0 || c == 0)
    return MS_OK;
  bool wide = c % 4 == 0 && ms_aligned(x.p, x.dtype, x_step, 4) && fits(&y, c, 4) &&
              (!r.p || ms_aligned(r.p, r.dtype, r_step, 4));
  apply_args k = {steps, x_step, r_step, x, r, y, f, ms_cut_of(rows * c, c, wide ? 4 : 1, MAP_BLOCKS)};
  if (wide)
    LAUNCH((norm_map<4>), ms_cut_grid(k.cut), MS_BLOCK, 0, s->id, k);
  else
    LAUNCH((norm_map<1>), ms_cut_grid(k.cut), MS_BLOCK, 0, s->id, k);
  return ms_cuda_launched(s, "norm_apply");
}

/* ---- gradient ---- */

typedef struct sums_args {
  ms_norm_grad n;
  ms_cut cut;
  double *part;
  unsigned *counters;
  ms_fold fold;
} sums_args;

template <int V> __global__ void __launch_bounds__(MS_BLOCK, 2) norm_sums(const __grid_constant__ sums_args args) {
  SHARED(double, room, [2 * V][MS_BLOCK]);
  SHARED(unsigned, arrived, [1]);
  const ms_norm_grad &n = args.n;
  const ms_cut &k = args.cut;
  ms_place p = ms_place_of<V>(k);
  float mean[V], sum_g[V], sum_gx[V];
  coefficients(n.mean, p.ch, 0, mean);
  int64_t few = 0;
#pragma unroll
  for (int j = 0; j < V; j++) {
    sum_g[j] = sum_gx[j] = 0;
    room[j][threadIdx.x] = room[V + j][threadIdx.x] = 0;
  }
  for (int64_t at = p.at; at < p.end; at += p.step) {
    float x[V], g[V];
    ms_load(n.x, at, x);
    for (int64_t i = 0; i < n.repeat; i++) {
      ms_load(n.g, i * k.n + at, g);
#pragma unroll
      for (int j = 0; j < V; j++) {
        sum_g[j] += g[j];
        sum_gx[j] = fmaf(g[j], x[j] - mean[j], sum_gx[j]);
      }
      if (++few == FEW || (i + 1 == n.repeat && at + p.step >= p.end)) {
        few = 0;
#pragma unroll
        for (int j = 0; j < V; j++) {
          room[j][threadIdx.x] += sum_g[j];
          room[V + j][threadIdx.x] += sum_gx[j];
          sum_g[j] = sum_gx[j] = 0;
        }
      }
    }
  }
  ms_sum_grads<V>(room, k, p, args.part, args.counters, arrived, args.fold);
}

/* slope NULL: the statistics are constants. */
template <int V>
__global__ void __launch_bounds__(MS_BLOCK, 4)
    norm_dx(ms_norm_grad n, ms_cut k, const float *slope, const float *shift) {
  ms_place p = ms_place_of<V>(k);
  float a[V], invstd[V], mean[V], sl[V], sh[V];
  coefficients(n.gamma, p.ch, 1, a);
  coefficients(n.invstd, p.ch, 1, invstd);
  coefficients(n.mean, p.ch, 0, mean);
  coefficients(slope, p.ch, 0, sl);
  coefficients(slope ? shift : NULL, p.ch, 0, sh);
#pragma unroll
  for (int j = 0; j < V; j++)
    a[j] = n.gain * a[j] * invstd[j];
  for (int64_t at = p.at; at < p.end; at += p.step) {
    float x[V], g[V], total[V];
    ms_load(n.g, at, total);
    for (int64_t i = 1; i < n.repeat; i++) {
      ms_load(n.g, i * k.n + at, g);
#pragma unroll
      for (int j = 0; j < V; j++)
        total[j] += g[j];
    }
    if (slope) {
      ms_load(n.x, at, x);
#pragma unroll
      for (int j = 0; j < V; j++)
        total[j] = fmaf(a[j], total[j], fmaf(sl[j], x[j] - mean[j], sh[j]));
    } else {
#pragma unroll
      for (int j = 0; j < V; j++)
        total[j] = a[j] * total[j];
    }
    ms_store(n.dx, at, total);
  }
}

template <int V> static ms_status grad(ms_stream *s, const ms_norm_grad *n) {
  int64_t all = n->rows * n->c;
  sums_args k = {*n, ms_cut_of(all, n->c, V, SUM_BLOCKS, ms_line(n->x.dtype, V)), NULL, s->counter, {}};
  ms_cut wide = ms_cut_of(all, n->c, V, MAP_BLOCKS);
  size_t bytes = (size_t)(2 * k.cut.blocks * n->c) * sizeof *k.part;
  MS_TRY(ms_cuda_scratch(s, bytes + (size_t)(2 * n->c) * sizeof(float), (void **)&k.part));
  float *slope = (float *)((char *)k.part + bytes);
  if (n->training || n->dgamma || n->dbeta) {
    k.fold.gamma = n->gamma;
    k.fold.invstd = n->invstd;
    k.fold.gain = n->gain;
    k.fold.n = (double)(n->rows * n->repeat);
    k.fold.times = (double)n->repeat;
    k.fold.training = n->training;
    k.fold.dgamma = n->dgamma;
    k.fold.dbeta = n->dbeta;
    k.fold.slope = slope;
    k.fold.shift = slope + n->c;
    LAUNCH((norm_sums<V>), ms_cut_grid(k.cut), MS_BLOCK, 0, s->id, k);
  }
  if (n->dx.p)
    LAUNCH((norm_dx<V>), ms_cut_grid(wide), MS_BLOCK, 0, s->id, *n, wide, n->training ? slope : (float *)NULL,
           slope + n->c);
  return ms_cuda_launched(s, "norm_grad");
}

ms_status ms_cuda_norm_grad(ms_stream *s, const ms_norm_grad *n) {
  MS_TRY(ms_cuda_enter(s));
  if (n->rows == 0 || n->c == 0 || n->repeat == 0)
    return MS_OK;
  return fits(&n->x, n->c, 4) && fits(&n->g, n->c, 4) && fits(&n->dx, n->c, 4) ? grad<4>(s, n) : grad<1>(s, n);
}
