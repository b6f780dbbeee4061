/* Batch normalisation: statistics, application, gradient. Statistics are two-pass over a few rows at a time, in
** registers; the parts are merged by the formula of Chan, Golub and LeVeque (1983), in an order that the shape decides.
** Gradients are one launch for the sums, one that adds up what the blocks found, one for dx. */
#include "cut.h"

enum { BATCH = 4, FEW = 64, SUM_BLOCKS = 512, MAP_BLOCKS = 4096 };

/* ---- statistics ---- */

/* Mean and sum of squared deviations of `count` values, and those of k more. */
MS_DEVICE void merge(double *mean, double *m2, double count, double k, double more_mean, double more_m2) {
  if (k == 0)
    return;
  double d = more_mean - *mean, share = k / (count + k);
  *mean += d * share;
  *m2 += more_m2 + d * d * count * share;
}

/* part [blocks][mean, m2][c]. */
template <class E, int V> __global__ void __launch_bounds__(MS_BLOCK, 2) norm_parts(ms_data x, ms_cut k, double *part) {
  SHARED(double, room, [2 * V + 1][MS_BLOCK]);
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
#pragma unroll
  for (int j = 0; j < V; j++) {
    room[j][threadIdx.x] = mean[j];
    room[V + j][threadIdx.x] = m2[j];
  }
  room[2 * V][threadIdx.x] = count;
  int t = threadIdx.x, half = 1;
  while (2 * half < k.py)
    half *= 2;
  for (; half > 0; half /= 2) {
    __syncthreads();
    int other = t + half * k.cx;
    if (p.row < half && p.row + half < k.py) {
      for (int j = 0; j < V; j++)
        merge(&room[j][t], &room[V + j][t], room[2 * V][t], room[2 * V][other], room[j][other], room[V + j][other]);
      room[2 * V][t] += room[2 * V][other];
    }
  }
  if (p.row == 0 && p.end > 0)
    for (int j = 0; j < 2 * V; j++)
      part[(2 * p.block + j / V) * k.c + p.ch + j % V] = room[j][t];
}

/* Launched with MS_BLOCK threads, each column of them one channel; part NULL: the running statistics are used. */
__global__ void __launch_bounds__(MS_BLOCK) norm_finish(ms_norm n, const double *part, int64_t blocks, int64_t span) {
  SHARED(double, room, [3][MS_BLOCK]);
  int t = threadIdx.x, slice = t / MS_FOLD_WIDE;
  int64_t ch = (int64_t)blockIdx.x * MS_FOLD_WIDE + t % MS_FOLD_WIDE;
  double mean = 0, m2 = 0, count = 0;
  if (part && ch < n.c)
    for (int64_t b = slice; b < blocks; b += MS_FOLD_SLICES) {
      int64_t left = n.rows - b * span;
      double k = (double)(left < span ? left : span);
      merge(&mean, &m2, count, k, part[2 * b * n.c + ch], part[(2 * b + 1) * n.c + ch]);
      count += k;
    }
  room[0][t] = mean;
  room[1][t] = m2;
  room[2][t] = count;
  for (int half = MS_BLOCK / 2; half >= MS_FOLD_WIDE; half /= 2) {
    __syncthreads();
    if (t < half) {
      merge(&room[0][t], &room[1][t], room[2][t], room[2][t + half], room[0][t + half], room[1][t + half]);
      room[2][t] += room[2][t + half];
    }
  }
  if (slice != 0 || ch >= n.c)
    return;
  if (ch == 0 && part && n.batches)
    ++*n.batches;
  double var;
  if (part) {
    mean = room[0][t];
    var = room[1][t] / (double)n.rows;
    double seen = (double)n.rows * (double)n.repeat, unbiased = seen > 1 ? var * seen / (seen - 1) : var;
    if (n.running_mean)
      n.running_mean[ch] += n.momentum * (float)(mean - n.running_mean[ch]);
    if (n.running_var)
      n.running_var[ch] += n.momentum * (float)(unbiased - n.running_var[ch]);
  } else {
    mean = n.running_mean[ch];
    var = n.running_var[ch];
  }
  double invstd = 1 / sqrt(var + n.eps), a = n.gain * (n.gamma ? n.gamma[ch] : 1.0f) * invstd;
  n.mean[ch] = (float)mean;
  n.invstd[ch] = (float)invstd;
  n.a[ch] = (float)a;
  n.b[ch] = (float)((n.beta ? n.beta[ch] : 0.0f) - mean * (float)a);
}

template <class E, int V> static ms_status stats(ms_stream *s, const ms_norm *n, double **part, ms_cut *k) {
  *k = ms_cut_of(n->rows * n->c, n->c, V, SUM_BLOCKS);
  MS_TRY(ms_cuda_scratch(s, (size_t)(2 * k->blocks * n->c) * sizeof **part, (void **)part));
  LAUNCH((norm_parts<E, V>), ms_cut_grid(*k), MS_BLOCK, 0, s->id, n->x, *k, *part);
  return MS_OK;
}

static bool fits(const ms_data *d, int64_t c, int v) {
  return !d->p || (c % v == 0 && ms_aligned(d->p, d->dtype, 0, v));
}

ms_status ms_cuda_norm_stats(ms_stream *s, const ms_norm *n) {
  MS_TRY(ms_cuda_enter(s));
  if (n->rows == 0 || n->c == 0)
    return MS_OK;
  double *part = NULL;
  ms_cut k = {};
  if (n->training && n->x.dtype == MS_BF16 && fits(&n->x, n->c, 8))
    MS_TRY((stats<ms_bf16, 8>(s, n, &part, &k)));
  else if (n->training && n->x.dtype == MS_F32 && fits(&n->x, n->c, 4))
    MS_TRY((stats<float, 4>(s, n, &part, &k)));
  else if (n->training)
    MS_TRY((stats<ms_any, 1>(s, n, &part, &k)));
  LAUNCH(norm_finish, dim3((unsigned)ms_div_up(n->c, MS_FOLD_WIDE)), MS_BLOCK, 0, s->id, *n, part, k.blocks, k.span);
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

template <int V> __global__ void __launch_bounds__(MS_BLOCK, 2) norm_sums(ms_norm_grad n, ms_cut k, double *part) {
  SHARED(double, room, [2 * V][MS_BLOCK]);
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
  ms_sum_rows<V, 2 * V>(room, k, p, part, n.c);
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
  ms_cut k = ms_cut_of(n->rows * n->c, n->c, V, SUM_BLOCKS), wide = ms_cut_of(n->rows * n->c, n->c, V, MAP_BLOCKS);
  size_t bytes = (size_t)(2 * k.blocks * n->c) * sizeof(double);
  char *room;
  MS_TRY(ms_cuda_scratch(s, bytes + (size_t)(2 * n->c) * sizeof(float), (void **)&room));
  float *slope = (float *)(room + bytes);
  if (n->training || n->dgamma || n->dbeta) {
    LAUNCH((norm_sums<V>), ms_cut_grid(k), MS_BLOCK, 0, s->id, *n, k, (double *)room);
    ms_fold f = {};
    f.part = (double *)room;
    f.blocks = k.blocks;
    f.c = n->c;
    f.gamma = n->gamma;
    f.invstd = n->invstd;
    f.gain = n->gain;
    f.n = (double)(n->rows * n->repeat);
    f.times = (double)n->repeat;
    f.training = n->training;
    f.dgamma = n->dgamma;
    f.dbeta = n->dbeta;
    f.slope = slope;
    f.shift = slope + n->c;
    LAUNCH((ms_fold_kernel<void>), ms_fold_grid(f), MS_BLOCK, 0, s->id, f);
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
