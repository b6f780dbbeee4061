/* Optimizers and TRT's regulariser over parameter arenas: one launch for many ranges, which travel in the kernel's
** arguments; a block finds its range by its number. */
#include "launch.h"

enum { ROUNDS = 4, EACH = 4, CHUNK = MS_BLOCK * EACH * ROUNDS, RANGES = 96, INDICES = 768 };

typedef struct span {
  int64_t offset, n;
  const ms_real *reg_scale;
  uint32_t first; /* block of this launch that begins it */
  int16_t regularised, no_grad;
} span;

/* What one launch takes: at most 4 KiB. */
typedef struct work {
  ms_real *param, *grad, *m, *v;
  ms_bf16 *shadow;
  const ms_hyper *hyper;
  double *part; /* trt_value: [blocks of all launches][steps] */
  int n;
  int aligned; /* every arena, for four elements at once */
  ms_trt trt;
  int index[RANGES]; /* of the hyper */
  span ranges[RANGES];
} work;

static_assert(sizeof(work) <= 4096, "arguments of a kernel");

enum method { SGD, ADAM, TRT };

MS_DEVICE int range_of_block(const work &w) {
  int lo = 0, hi = w.n;
  while (hi - lo > 1) {
    int mid = (lo + hi) / 2;
    if (w.ranges[mid].first <= blockIdx.x)
      lo = mid;
    else
      hi = mid;
  }
  return lo;
}

typedef struct four {
  float x[EACH];
} four;

/* n of four elements; the rest is 0. */
MS_DEVICE four load(const float *p, int64_t n, bool whole) {
  four r;
  if (whole) {
    float4 v = *(const float4 *)p;
    r.x[0] = v.x, r.x[1] = v.y, r.x[2] = v.z, r.x[3] = v.w;
    return r;
  }
#pragma unroll
  for (int k = 0; k < EACH; k++)
    r.x[k] = k < n ? p[k] : 0;
  return r;
}

MS_DEVICE void store(float *p, const four &v, int64_t n, bool whole) {
  if (whole) {
    *(float4 *)p = make_float4(v.x[0], v.x[1], v.x[2], v.x[3]);
    return;
  }
#pragma unroll
  for (int k = 0; k < EACH; k++)
    if (k < n)
      p[k] = v.x[k];
}

MS_DEVICE void store_shadow(ms_bf16 *p, const four &v, int64_t n, bool whole) {
  if (whole) {
    ushort4 h = {ms_bf16_from(v.x[0]).bits, ms_bf16_from(v.x[1]).bits, ms_bf16_from(v.x[2]).bits,
                 ms_bf16_from(v.x[3]).bits};
    *(ushort4 *)p = h;
    return;
  }
#pragma unroll
  for (int k = 0; k < EACH; k++)
    if (k < n)
      p[k] = ms_bf16_from(v.x[k]);
}

/* The gradient with the pending regulariser. */
MS_DEVICE four gradient(const work &w, const span &r, const float *grad, const four &p, int64_t n, bool whole,
                        float scale) {
  four g = load(grad, r.no_grad ? 0 : n, whole && !r.no_grad);
  if (!r.regularised)
    return g;
  four sum = {{0, 0, 0, 0}};
  for (int t = 0; t < w.trt.steps; t += 2) {
    bool two = t + 1 < w.trt.steps;
    float c = w.trt.c[t], d = two ? w.trt.c[t + 1] : 0;
#pragma unroll
    for (int k = 0; k < EACH; k++)
      sum.x[k] += two ? ms_trt_grad_two(fabsf(p.x[k]), c, d, w.trt.eps) : ms_trt_grad_term(fabsf(p.x[k]), c, w.trt.eps);
  }
#pragma unroll
  for (int k = 0; k < EACH; k++)
    g.x[k] = fmaf(scale, w.trt.lambda * p.x[k] * sum.x[k], g.x[k]);
  return g;
}

/* The settings as reals: in double, so by one thread. */
template <int METHOD> struct settings;
template <> struct settings<SGD> {
  typedef ms_sgd_step type;
  MS_DEVICE type of(const ms_hyper *h) {
    return ms_sgd_step_of(h);
  }
};
template <> struct settings<ADAM> {
  typedef ms_adam_step type;
  MS_DEVICE type of(const ms_hyper *h) {
    return ms_adam_step_of(h);
  }
};

template <int METHOD> __global__ void __launch_bounds__(MS_BLOCK) step_kernel(const __grid_constant__ work w) {
  SHARED(typename settings<METHOD>::type, shared, [1]);
  int i = range_of_block(w);
  const span &r = w.ranges[i];
  if (threadIdx.x == 0)
    shared[0] = settings<METHOD>::of(w.hyper + w.index[i]);
  __syncthreads();
  const typename settings<METHOD>::type k = shared[0];
  float scale = r.reg_scale ? *r.reg_scale : 1;
  bool aligned = w.aligned && r.offset % EACH == 0;
  int64_t begin = (int64_t)(blockIdx.x - r.first) * CHUNK + threadIdx.x * EACH;
  for (int round = 0; round < ROUNDS; round++) {
    int64_t at = begin + round * MS_BLOCK * EACH, n = r.n - at;
    if (n <= 0)
      return;
    bool whole = aligned && n >= EACH;
    at += r.offset;
    four p = load(w.param + at, n, whole), g = gradient(w, r, w.grad + at, p, n, whole, scale), m, v;
    if (r.regularised)
      store(w.grad + at, g, n, whole);
    if constexpr (METHOD == ADAM) {
      m = load(w.m + at, n, whole);
      v = load(w.v + at, n, whole);
#pragma unroll
      for (int e = 0; e < EACH; e++)
        p.x[e] = ms_adam(p.x[e], g.x[e], &m.x[e], &v.x[e], &k);
      store(w.m + at, m, n, whole);
      store(w.v + at, v, n, whole);
    } else {
      bool momentum = k.momentum != 0;
      m = load(w.m + at, momentum ? n : 0, whole && momentum);
#pragma unroll
      for (int e = 0; e < EACH; e++)
        p.x[e] = ms_sgd(p.x[e], g.x[e], &m.x[e], &k);
      store(w.m + at, m, momentum ? n : 0, whole && momentum);
    }
    store(w.param + at, p, n, whole);
    if (w.shadow)
      store_shadow(w.shadow + at, p, n, whole);
  }
}

__global__ void __launch_bounds__(MS_BLOCK) trt_grad_kernel(const __grid_constant__ work w) {
  const span &r = w.ranges[range_of_block(w)];
  float scale = r.reg_scale ? *r.reg_scale : 1;
  bool aligned = w.aligned && r.offset % EACH == 0;
  int64_t begin = (int64_t)(blockIdx.x - r.first) * CHUNK + threadIdx.x * EACH;
  for (int round = 0; round < ROUNDS; round++) {
    int64_t at = begin + round * MS_BLOCK * EACH, n = r.n - at;
    if (n <= 0)
      return;
    bool whole = aligned && n >= EACH;
    at += r.offset;
    four p = load(w.param + at, n, whole);
    store(w.grad + at, gradient(w, r, w.grad + at, p, n, whole, scale), n, whole);
  }
}

/* part[block][t] = sum of r(t): terms in the working precision, sums in double. `base` is the first block's number. */
__global__ void __launch_bounds__(MS_BLOCK) trt_value_kernel(const __grid_constant__ work w, int64_t base) {
  SHARED(double, room, [MS_WARP]);
  const span &r = w.ranges[range_of_block(w)];
  int64_t begin = (int64_t)(blockIdx.x - r.first) * CHUNK + threadIdx.x;
  float p[ROUNDS * EACH];
#pragma unroll
  for (int k = 0; k < ROUNDS * EACH; k++)
    p[k] = begin + k * MS_BLOCK < r.n ? w.param[r.offset + begin + k * MS_BLOCK] : 0;
  for (int t = 0; t < w.trt.steps; t++) {
    double sum = 0;
#pragma unroll
    for (int k = 0; k < ROUNDS * EACH; k++)
      sum += (double)ms_trt_value_at(p[k], w.trt.c[t], w.trt.lambda, w.trt.eps);
    sum = ms_block_sum(sum, room);
    if (threadIdx.x == 0)
      w.part[(base + blockIdx.x) * w.trt.steps + t] = sum;
  }
}

__global__ void __launch_bounds__(MS_BLOCK)
    trt_total_kernel(const double *part, int64_t blocks, int steps, float *out) {
  SHARED(double, room, [MS_WARP]);
  double all = 0;
  for (int t = 0; t < steps; t++) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < blocks; i += MS_BLOCK)
      sum += part[i * steps + t];
    sum = ms_block_sum(sum, room);
    all += sum;
    if (threadIdx.x == 0)
      out[1 + t] = MS_R(sum);
  }
  if (threadIdx.x == 0)
    out[0] = MS_R(all);
}

typedef struct indices {
  int n;
  int i[INDICES];
} indices;

__global__ void hyper_kernel(ms_hyper *hyper, const __grid_constant__ indices list) {
  int64_t i = ms_thread();
  if (i < list.n)
    ms_hyper_step(hyper + list.i[i]);
}

/* ---- host side ---- */

static int aligned(const void *p, size_t bytes) {
  return (uintptr_t)p % bytes == 0;
}

static work work_of(const ms_optim_args *a) {
  work w;
  w.param = a->param;
  w.grad = a->grad;
  w.m = a->m;
  w.v = a->v;
  w.shadow = a->shadow;
  w.hyper = a->hyper;
  w.part = NULL;
  w.n = 0;
  w.aligned =
      aligned(a->param, 16) && aligned(a->grad, 16) && aligned(a->m, 16) && aligned(a->v, 16) && aligned(a->shadow, 8);
  w.trt = a->trt;
  return w;
}

/* Takes ranges from *at on, as many as one launch holds; their blocks, 0: none is left. */
static unsigned next_ranges(work *w, const ms_range *ranges, int nranges, int *at) {
  int64_t blocks = 0;
  w->n = 0;
  for (; *at < nranges && w->n < RANGES; ++*at) {
    const ms_range *r = ranges + *at;
    if (r->n == 0)
      continue;
    if (blocks + ms_div_up(r->n, CHUNK) > INT32_MAX)
      break;
    w->index[w->n] = r->hyper;
    w->ranges[w->n++] = {
        r->offset, r->n, r->reg_scale, (uint32_t)blocks, (int16_t)(r->regularised != 0), (int16_t)(r->no_grad != 0)};
    blocks += ms_div_up(r->n, CHUNK);
  }
  return (unsigned)blocks;
}

template <class KERNEL>
static ms_status each_launch(ms_stream *s, const ms_optim_args *a, KERNEL kernel, const char *name) {
  work w = work_of(a);
  int at = 0;
  MS_TRY(ms_cuda_enter(s));
  for (unsigned blocks; (blocks = next_ranges(&w, a->ranges, a->nranges, &at)) > 0;) {
    LAUNCH(kernel, blocks, MS_BLOCK, 0, s->id, w);
    MS_TRY(ms_cuda_launched(s, name));
  }
  return MS_OK;
}

/* A parameter that comes twice steps twice: one behind the other, so in two launches. */
extern "C" ms_status ms_cuda_hyper_advance(ms_stream *s, ms_hyper *hyper, const ms_range *ranges, int nranges) {
  indices list;
  MS_TRY(ms_cuda_enter(s));
  for (int r = 0; r < nranges;) {
    list.n = 0;
    while (r < nranges && list.n < INDICES && (list.n == 0 || ranges[r].hyper > list.i[list.n - 1]))
      list.i[list.n++] = ranges[r++].hyper;
    LAUNCH(hyper_kernel, ms_grid(list.n), MS_BLOCK, 0, s->id, hyper, list);
    MS_TRY(ms_cuda_launched(s, "hyper_kernel"));
  }
  return MS_OK;
}

extern "C" ms_status ms_cuda_sgd(ms_stream *s, const ms_optim_args *a) {
  return each_launch(s, a, step_kernel<SGD>, "step_kernel<SGD>");
}

extern "C" ms_status ms_cuda_adam(ms_stream *s, const ms_optim_args *a) {
  return each_launch(s, a, step_kernel<ADAM>, "step_kernel<ADAM>");
}

extern "C" ms_status ms_cuda_trt_grad(ms_stream *s, const ms_optim_args *a) {
  return each_launch(s, a, trt_grad_kernel, "trt_grad_kernel");
}

extern "C" ms_status ms_cuda_trt_value(ms_stream *s, const ms_real *param, const ms_range *ranges, int nranges,
                                       ms_trt trt, ms_real *out) {
  ms_optim_args a = ms_optim_args();
  a.param = (ms_real *)param;
  a.trt = trt;
  work w = work_of(&a);
  int64_t all = 0, base = 0;
  void *part;
  for (int r = 0; r < nranges; r++)
    all += ms_div_up(ranges[r].n, CHUNK);
  MS_TRY(ms_cuda_enter(s));
  MS_TRY(ms_cuda_scratch(s, (size_t)(all * trt.steps + 1) * sizeof(double), &part));
  w.part = (double *)part;
  int at = 0;
  for (unsigned blocks; (blocks = next_ranges(&w, ranges, nranges, &at)) > 0; base += blocks) {
    LAUNCH(trt_value_kernel, blocks, MS_BLOCK, 0, s->id, w, base);
    MS_TRY(ms_cuda_launched(s, "trt_value_kernel"));
  }
  LAUNCH(trt_total_kernel, 1, MS_BLOCK, 0, s->id, w.part, all, trt.steps, out);
  return ms_cuda_launched(s, "trt_total_kernel");
}
