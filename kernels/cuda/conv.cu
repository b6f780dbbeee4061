/* Convolution: plans, the choice of an engine, and what does not depend on the engine. */
#include "conv.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>

static const ms_conv_engine *const engines[] = {&ms_conv_cudnn, &ms_conv_depthwise, &ms_conv_blas};
enum { ENGINES = sizeof engines / sizeof *engines, TABLE_ROWS = 64 };
static const ms_conv_engine *forced;
static int deterministic = 1;

/* ---- break-even: nothing here runs on events, but what is set is kept ---- */

static ms_break_even table[TABLE_ROWS];
static int table_rows;

int ms_cuda_conv_table(const ms_break_even **out) {
  *out = table;
  return table_rows;
}

ms_status ms_cuda_conv_table_set(const ms_break_even *rows, int n) {
  if (n < 0 || n > TABLE_ROWS)
    return MS_EINVAL;
  if (rows && n > 0)
    memmove(table, rows, (size_t)n * sizeof *rows);
  table_rows = rows ? n : 0;
  return MS_OK;
}

/* ---- the choice ---- */

static int present(const ms_conv_engine *e) {
  return e != &ms_conv_cudnn || ms_cuda_dnn_present();
}

/* Arguments without data are a question about the shape alone. */
static int can(const ms_conv_engine *e, const ms_conv_args *a, ms_conv_pass pass) {
  return present(e) && e->supports(a->plan, pass) && (e != &ms_conv_cudnn || ms_cuda_dnn_fits(a->plan, a, pass));
}

/* The pixels are the rows of the product as they lie: also spikes are then converted slab by slab. */
static int is_product(const ms_conv_desc *d) {
  return d->kh * d->kw == 1 && d->stride_h * d->stride_w == 1 && d->pad_h + d->pad_w == 0 && d->groups == 1;
}

static const ms_conv_engine *choose(const ms_conv_args *a, ms_conv_pass pass, const char **why) {
  const ms_conv_engine *want = a->plan->forced ? a->plan->forced : forced;
  *why = "forced";
  if (want && can(want, a, pass))
    return want;
  *why = "the layer is one matrix product";
  if (is_product(&a->plan->d))
    return &ms_conv_blas;
  *why = "cuDNN has this shape";
  if (can(&ms_conv_cudnn, a, pass))
    return &ms_conv_cudnn;
  *why = "few channels in each group";
  if (can(&ms_conv_depthwise, a, pass))
    return &ms_conv_depthwise;
  *why = ms_cuda_dnn_missing() ? ms_cuda_dnn_missing() : "cuDNN does not have this shape with these types";
  return &ms_conv_blas;
}

/* ---- services ---- */

ms_status ms_cuda_conv_plan(ms_stream *s, const ms_conv_desc *d, ms_conv_plan **out) {
  /* for tests: small slabs, so that small layers have several */
  const char *slab = getenv("MOONSPIKE_CONV_SLAB");
  ms_conv_plan *plan = (ms_conv_plan *)calloc(1, sizeof *plan);
  if (!plan)
    return MS_EMEM;
  plan->d = *d;
  plan->stream = s;
  plan->slab = (size_t)(slab && atoll(slab) > 0 ? atoll(slab) : 32 << 20);
  plan->dnn = ms_cuda_dnn_open();
  if (!plan->dnn) {
    free(plan);
    return MS_EMEM;
  }
  *out = plan;
  return MS_OK;
}

void ms_cuda_conv_plan_destroy(ms_conv_plan *plan) {
  if (plan)
    ms_cuda_dnn_forget(plan->dnn);
  free(plan);
}

size_t ms_cuda_conv_workspace(const ms_conv_plan *plan, ms_conv_pass pass) {
  size_t most = 0;
  ms_conv_args nothing = {};
  nothing.plan = plan;
  for (int i = 0; i < ENGINES; i++)
    if (can(engines[i], &nothing, pass)) {
      size_t bytes = engines[i]->workspace(plan, pass);
      most = bytes > most ? bytes : most;
    }
  return most;
}

const char *ms_cuda_conv_engine(const ms_conv_args *a, ms_conv_pass pass, char why[MS_WHY]) {
  const char *reason;
  const ms_conv_engine *e = choose(a, pass, &reason);
  if (why)
    snprintf(why, MS_WHY, "%s", reason);
  return e->name;
}

const char *const *ms_cuda_conv_engines(void) {
  static const char *names[ENGINES + 1];
  int n = 0;
  for (int i = 0; i < ENGINES; i++)
    if (present(engines[i]))
      names[n++] = engines[i]->name;
  names[n] = NULL;
  return names;
}

ms_status ms_cuda_conv_force(ms_conv_plan *plan, const char *name) {
  const ms_conv_engine *found = NULL;
  for (int i = 0; name && i < ENGINES; i++)
    if (strcmp(engines[i]->name, name) == 0 && present(engines[i]))
      found = engines[i];
  if (name && !found)
    return MS_EINVAL;
  *(plan ? &plan->forced : &forced) = found;
  return MS_OK;
}

int ms_cuda_conv_deterministic(int on) {
  int was = deterministic;
  if (on >= 0)
    deterministic = on != 0;
  return was;
}

/* ---- rows ---- */

static ms_status run(ms_stream *s, const ms_conv_args *a, ms_conv_pass pass) {
  const char *why;
  MS_TRY(ms_cuda_enter(s));
  return choose(a, pass, &why)->run[pass](s, a->plan, a);
}

static ms_status zero(ms_stream *s, ms_data x, int64_t n) {
  MS_TRY(ms_cuda_enter(s));
  return ms_cuda_check(s, cudaMemsetAsync(x.p, 0, (size_t)n * ms_width(x.dtype), s->id), "cudaMemsetAsync");
}

ms_status ms_cuda_conv_forward(ms_stream *s, const ms_conv_args *a) {
  const ms_conv_desc *d = &a->plan->d;
  return ms_conv_rows(d) * d->cout == 0 ? MS_OK : run(s, a, MS_CONV_FORWARD);
}

ms_status ms_cuda_conv_input_grad(ms_stream *s, const ms_conv_args *a) {
  const ms_conv_desc *d = &a->plan->d;
  if (ms_conv_inputs(d) == 0)
    return MS_OK;
  return ms_conv_rows(d) * d->cout == 0 ? zero(s, a->x, ms_conv_inputs(d)) : run(s, a, MS_CONV_INPUT_GRAD);
}

ms_status ms_cuda_conv_weight_grad(ms_stream *s, const ms_conv_args *a) {
  const ms_conv_desc *d = &a->plan->d;
  if (ms_conv_weights(d) == 0)
    return MS_OK;
  if (ms_conv_rows(d) > 0)
    return run(s, a, MS_CONV_WEIGHT_GRAD);
  MS_TRY(zero(s, a->weight, ms_conv_weights(d)));
  return a->bias ? zero(s, {a->bias, MS_F32, 1}, d->cout) : MS_OK;
}

/* ---- shared by engines ---- */

ms_status ms_conv_operand(ms_stream *s, ms_data *x, ms_dtype want, void *to, int64_t n) {
  if (x->dtype == want)
    return MS_OK;
  ms_data out = {to, want, 1};
  MS_TRY(ms_cuda_convert(s, out, *x, n));
  *x = out;
  return MS_OK;
}

template <int V> static __global__ void add_bias(ms_data y, ms_data t, ms_data bias, int64_t n, int64_t c) {
  int64_t i = ms_thread() * V;
  if (i >= n)
    return;
  float v[V], b[V];
#pragma unroll
  for (int k = 0; k < V; k++)
    v[k] = b[k] = 0;
  if (t.p)
    ms_load<V>(t, i, v);
  if (bias.p)
    ms_load<V>(bias, i % c, b);
#pragma unroll
  for (int k = 0; k < V; k++)
    v[k] += b[k];
  ms_store<V>(y, i, v);
}

ms_status ms_conv_add_bias(ms_stream *s, ms_data y, ms_data t, const float *bias, int64_t rows, int64_t c) {
  ms_data b = {(void *)bias, MS_F32, 1};
  int64_t n = rows * c;
  if (ms_aligned(y.p, y.dtype, c, 8) && ms_aligned(t.p, t.dtype, c, 8) && ms_aligned(bias, MS_F32, c, 8))
    LAUNCH((add_bias<8>), ms_grid(n, 8), MS_BLOCK, 0, s->id, y, t, b, n, c);
  else
    LAUNCH((add_bias<1>), ms_grid(n), MS_BLOCK, 0, s->id, y, t, b, n, c);
  return ms_cuda_launched(s, "add_bias");
}

enum { SUM_CHANNELS = 32, SUM_LINES = MS_BLOCK / SUM_CHANNELS };

/* A block sums 32 channels over the rows of a chunk, 8 rows at a time. */
static __global__ void sum_rows(float *part, ms_data y, int64_t rows, int64_t c, int64_t chunk) {
  SHARED(float, sums, [SUM_LINES][SUM_CHANNELS]);
  int lane = threadIdx.x % SUM_CHANNELS, line = threadIdx.x / SUM_CHANNELS;
  int64_t channel = (int64_t)blockIdx.x * SUM_CHANNELS + lane, first = (int64_t)blockIdx.y * chunk;
  int64_t end = first + chunk < rows ? first + chunk : rows;
  float sum = 0;
  if (channel < c)
    for (int64_t r = first + line; r < end; r += SUM_LINES)
      sum += ms_get(y, r * c + channel);
  sums[line][lane] = sum;
  __syncthreads();
  if (line > 0 || channel >= c)
    return;
  for (int i = 1; i < SUM_LINES; i++)
    sum += sums[i][lane];
  part[(int64_t)blockIdx.y * c + channel] = sum;
}

static __global__ void sum_chunks(ms_data out, const float *part, int64_t chunks, int64_t n) {
  int64_t i = ms_thread();
  if (i >= n)
    return;
  float sum = 0;
  for (int64_t k = 0; k < chunks; k++)
    sum += part[k * n + i];
  ms_put(out, i, sum);
}

ms_status ms_conv_sum(ms_stream *s, ms_data out, const float *part, int64_t chunks, int64_t n) {
  LAUNCH(sum_chunks, ms_grid(n), MS_BLOCK, 0, s->id, out, part, chunks, n);
  return ms_cuda_launched(s, "sum_chunks");
}

static ms_chunks cut_bias(int64_t rows) {
  return ms_chunks_of(rows, 256, 256);
}

size_t ms_conv_bias_room(int64_t rows, int64_t c) {
  return ms_piece(cut_bias(rows).chunks * c, sizeof(float));
}

ms_status ms_conv_bias_grad(ms_stream *s, float *bias, ms_data y, int64_t rows, int64_t c, void *room) {
  ms_chunks cut = cut_bias(rows);
  dim3 grid((unsigned)ms_div_up(c, SUM_CHANNELS), (unsigned)cut.chunks);
  LAUNCH(sum_rows, grid, MS_BLOCK, 0, s->id, (float *)room, y, rows, c, cut.size);
  MS_TRY(ms_cuda_launched(s, "sum_rows"));
  return ms_conv_sum(s, {bias, MS_F32, 1}, (const float *)room, cut.chunks, c);
}

/* ---- synaptic operations ---- */

/* How many of the `taps` outputs that read input position i lie inside [0, out). */
MS_DEVICE int64_t reach(int64_t i, int taps, int dilation, int pad, int stride, int64_t out) {
  int64_t hits = 0;
  for (int t = 0; t < taps; t++) {
    int64_t at = i + pad - (int64_t)t * dilation;
    hits += at >= 0 && at % stride == 0 && at / stride < out;
  }
  return hits;
}

/* Sums are integers, so that their order does not matter. */
template <int V> static __global__ void synops(ms_conv_desc d, ms_data x, int64_t n, int64_t *out) {
  SHARED(int64_t, room, [32]);
  int64_t nonzero = 0, taps = 0, step = (int64_t)gridDim.x * blockDim.x * V;
  for (int64_t i = ms_thread() * V; i < n; i += step) {
    int64_t count = 0;
    float v[V];
    ms_load<V>(x, i, v);
#pragma unroll
    for (int k = 0; k < V; k++)
      count += v[k] != 0;
    if (count == 0)
      continue;
    int64_t pixel = i / d.cin, ix = pixel % d.w, iy = pixel / d.w % d.h;
    nonzero += count;
    taps += count * reach(iy, d.kh, d.dil_h, d.pad_h, d.stride_h, d.oh) *
            reach(ix, d.kw, d.dil_w, d.pad_w, d.stride_w, d.ow);
  }
  nonzero = ms_block_sum(nonzero, (int64_t *)room);
  taps = ms_block_sum(taps, (int64_t *)room);
  if (threadIdx.x == 0) {
    atomicAdd((unsigned long long *)&out[0], (unsigned long long)nonzero);
    atomicAdd((unsigned long long *)&out[1], (unsigned long long)(taps * (d.cout / d.groups)));
  }
}

ms_status ms_cuda_conv_synops(ms_stream *s, const ms_conv_desc *d, ms_data x, int64_t out[2]) {
  int64_t n = ms_conv_inputs(d);
  int wide = ms_aligned(x.p, x.dtype, d->cin, 8);
  MS_TRY(ms_cuda_enter(s));
  MS_TRY(ms_cuda_check(s, cudaMemsetAsync(out, 0, 2 * sizeof *out, s->id), "cudaMemsetAsync"));
  if (n == 0)
    return MS_OK;
  int64_t blocks = ms_div_up(n, MS_BLOCK * 4 * (wide ? 8 : 1));
  dim3 grid((unsigned)(blocks < 1024 ? blocks : 1024));
  if (wide)
    LAUNCH((synops<8>), grid, MS_BLOCK, 0, s->id, *d, x, n, out);
  else
    LAUNCH((synops<1>), grid, MS_BLOCK, 0, s->id, *d, x, n, out);
  return ms_cuda_launched(s, "synops");
}
