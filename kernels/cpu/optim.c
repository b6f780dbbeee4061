/* Optimizers and TRT's regulariser over parameter arenas. */
#include "cpu.h"
#include "parallel.h"
#include <string.h>

#define BLOCK 4096 /* elements of one unit of work */
#define STRIP 512  /* elements whose gradient is made up in the first-level cache */

/* The ranges cut into blocks that never cross a range: block i belongs to range r with first[r] <= i < first[r + 1]. */
typedef struct work {
  const ms_range *ranges;
  int nranges;
  int64_t *first;
} work;

static int work_of(const ms_range *ranges, int nranges, work *w) {
  w->ranges = ranges;
  w->nranges = nranges;
  w->first = ms_cpu_scratch(0, (size_t)(nranges + 1) * sizeof *w->first);
  if (!w->first)
    return 0;
  w->first[0] = 0;
  for (int r = 0; r < nranges; r++)
    w->first[r + 1] = w->first[r] + ms_ceil_div(ranges[r].n, BLOCK);
  return 1;
}

static int64_t work_blocks(const work *w) {
  return w->first[w->nranges];
}

/* The range of block i and the block's elements [*begin, *begin + *n) of the arena. */
static const ms_range *work_block(const work *w, int64_t i, int64_t *begin, int64_t *n) {
  int lo = 0, hi = w->nranges;
  while (hi - lo > 1) {
    int mid = lo + (hi - lo) / 2;
    if (w->first[mid] <= i)
      lo = mid;
    else
      hi = mid;
  }
  while (w->first[lo + 1] == w->first[lo])
    lo++;
  const ms_range *r = w->ranges + lo;
  int64_t skip = (i - w->first[lo]) * BLOCK;
  *begin = r->offset + skip;
  *n = ms_min64(BLOCK, r->n - skip);
  return r;
}

/* g = gradient of n <= STRIP elements, the pending regulariser included. */
MS_HD void gradient_strip(const ms_optim_args *a, const ms_range *r, int64_t at, int64_t n, ms_real *g) {
  const ms_real *w = a->param + at;
  if (r->no_grad)
    memset(g, 0, (size_t)n * sizeof *g);
  else
    memcpy(g, a->grad + at, (size_t)n * sizeof *g);
  if (!r->regularised)
    return;
  ms_real sum[STRIP] = {0}, scale = r->reg_scale ? *r->reg_scale : 1, lambda = a->trt.lambda, eps = a->trt.eps;
  const ms_real *c = a->trt.c;
  int t = 0;
  for (; t + 2 <= a->trt.steps; t += 2)
    MS_SIMD for (int64_t j = 0; j < n; j++) sum[j] += ms_trt_grad_two(MS_FN(fabs)(w[j]), c[t], c[t + 1], eps);
  if (t < a->trt.steps)
    MS_SIMD for (int64_t j = 0; j < n; j++) sum[j] += ms_trt_grad_term(MS_FN(fabs)(w[j]), c[t], eps);
  MS_SIMD for (int64_t j = 0; j < n; j++) g[j] = MS_FN(fma)(scale, lambda * w[j] * sum[j], g[j]);
  memcpy(a->grad + at, g, (size_t)n * sizeof *g);
}

static void shadow_strip(const ms_optim_args *a, int64_t at, int64_t n) {
  if (a->shadow)
    for (int64_t j = 0; j < n; j++)
      a->shadow[at + j] = ms_bf16_from((float)a->param[at + j]);
}

MS_HOT static void sgd_block(const ms_optim_args *a, const ms_range *r, int64_t at, int64_t n) {
  const ms_sgd_step k = ms_sgd_step_of(a->hyper + r->hyper);
  ms_real g[STRIP], none = 0;
  for (int64_t end = at + n; at < end; at += STRIP) {
    ms_real *w = a->param + at, *m = a->m + at;
    int64_t len = ms_min64(STRIP, end - at);
    gradient_strip(a, r, at, len, g);
    if (k.momentum != 0) {
      MS_SIMD for (int64_t j = 0; j < len; j++) w[j] = ms_sgd(w[j], g[j], &m[j], &k);
    } else {
      MS_SIMD for (int64_t j = 0; j < len; j++) w[j] = ms_sgd(w[j], g[j], &none, &k);
    }
    shadow_strip(a, at, len);
  }
}

MS_HOT static void adam_block(const ms_optim_args *a, const ms_range *r, int64_t at, int64_t n) {
  const ms_adam_step k = ms_adam_step_of(a->hyper + r->hyper);
  ms_real g[STRIP];
  for (int64_t end = at + n; at < end; at += STRIP) {
    ms_real *w = a->param + at, *m = a->m + at, *v = a->v + at;
    int64_t len = ms_min64(STRIP, end - at);
    gradient_strip(a, r, at, len, g);
    MS_SIMD for (int64_t j = 0; j < len; j++) w[j] = ms_adam(w[j], g[j], &m[j], &v[j], &k);
    shadow_strip(a, at, len);
  }
}

MS_HOT static void trt_grad_block(const ms_optim_args *a, const ms_range *r, int64_t at, int64_t n) {
  ms_real g[STRIP];
  for (int64_t end = at + n; at < end; at += STRIP) {
    int64_t len = ms_min64(STRIP, end - at);
    gradient_strip(a, r, at, len, g);
    if (!r->regularised)
      memcpy(a->grad + at, g, (size_t)len * sizeof *g);
  }
}

/* Sums of r(t) over n elements: of a strip in the working precision, of strips in double. */
MS_HOT static void trt_value_block(const ms_real *w, int64_t n, const ms_trt *trt, double *sums) {
  ms_real lambda = trt->lambda, eps = trt->eps;
  const ms_real *c = trt->c;
  for (int t = 0; t < trt->steps; t++)
    sums[t] = 0;
  for (const ms_real *end = w + n; w < end; w += STRIP) {
    int64_t len = ms_min64(STRIP, end - w);
    int t = 0;
    for (; t + 2 <= trt->steps; t += 2) {
      ms_real sum = 0, next = 0;
      MS_SIMD_SUMS(sum, next) for (int64_t j = 0; j < len; j++) {
        ms_real first, second;
        ms_trt_value_two(w[j], c[t], c[t + 1], lambda, eps, &first, &second);
        sum += first;
        next += second;
      }
      sums[t] += (double)sum;
      sums[t + 1] += (double)next;
    }
    if (t < trt->steps) {
      ms_real sum = 0;
      MS_SIMD_SUM(sum) for (int64_t j = 0; j < len; j++) sum += ms_trt_value_at(w[j], c[t], lambda, eps);
      sums[t] += (double)sum;
    }
  }
}

typedef void (*block_fn)(const ms_optim_args *a, const ms_range *r, int64_t at, int64_t n);

static ms_status each_block(const ms_optim_args *a, block_fn f) {
  work w;
  if (!work_of(a->ranges, a->nranges, &w))
    return MS_EMEM;
  ms_parallel_for(i, work_blocks(&w), BLOCK) {
    int64_t at, n;
    const ms_range *r = work_block(&w, i, &at, &n);
    f(a, r, at, n);
  }
  return MS_OK;
}

ms_status ms_cpu_hyper_advance(ms_stream *s, ms_hyper *hyper, const ms_range *ranges, int nranges) {
  (void)s;
  for (int r = 0; r < nranges; r++)
    ms_hyper_step(hyper + ranges[r].hyper);
  return MS_OK;
}

ms_status ms_cpu_sgd(ms_stream *s, const ms_optim_args *a) {
  (void)s;
  return each_block(a, sgd_block);
}

ms_status ms_cpu_adam(ms_stream *s, const ms_optim_args *a) {
  (void)s;
  return each_block(a, adam_block);
}

ms_status ms_cpu_trt_grad(ms_stream *s, const ms_optim_args *a) {
  (void)s;
  return each_block(a, trt_grad_block);
}

ms_status ms_cpu_trt_value(ms_stream *s, const ms_real *param, const ms_range *ranges, int nranges, ms_trt trt,
                           ms_real *out) {
  (void)s;
  work w;
  if (!work_of(ranges, nranges, &w))
    return MS_EMEM;
  int64_t blocks = work_blocks(&w);
  double *part = ms_cpu_scratch(1, (size_t)(blocks * trt.steps + 1) * sizeof *part), all = 0;
  if (!part)
    return MS_EMEM;
  ms_parallel_for(i, blocks, BLOCK * (int64_t)trt.steps) {
    int64_t at, n;
    work_block(&w, i, &at, &n);
    trt_value_block(param + at, n, &trt, part + i * trt.steps);
  }
  for (int t = 0; t < trt.steps; t++) {
    double sum = 0;
    for (int64_t i = 0; i < blocks; i++)
      sum += part[i * trt.steps + t];
    out[1 + t] = MS_R(sum);
    all += sum;
  }
  out[0] = MS_R(all);
  return MS_OK;
}
