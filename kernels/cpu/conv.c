/* Convolution: plans, the choice of an engine, and what does not depend on the engine. */
#include "conv.h"
#include "cpu.h"
#include "gemm.h"
#include <stdlib.h>
#include <string.h>

struct ms_conv_plan {
  ms_conv_desc d;
};

static const ms_conv_engine *const engines[] = {&ms_conv_gemm, &ms_conv_depthwise, &ms_conv_event};
enum { ENGINES = sizeof engines / sizeof *engines };
static const ms_conv_engine *forced;

int ms_cpu_conv_force(const char *name) {
  forced = NULL;
  for (int i = 0; name && i < ENGINES; i++)
    if (strcmp(engines[i]->name, name) == 0)
      forced = engines[i];
  return !name || forced;
}

/* Densities up to which events are worth it. The first row whose least values a layer reaches decides; `taps` counts
** the outputs that an input reaches, kernel over stride. Measured on two cores with AVX-512, both engines in turn in
** one process, over 1x1 to 5x5 kernels, 3 to 3136 input and 10 to 512 output channels, 1 to 4096 images: the limits
** are about two thirds of the density at which both took the same time with counts of 1, and below the one with counts
** of 1 to 4. Layers that no row fits were slower at some density, as were those with fewer output pixels than below,
** which do not repay that the weights are packed or turned round; grouped layers were not measured. */
static ms_real break_even(const ms_conv_desc *d, ms_conv_pass pass) {
  static const struct {
    int64_t taps, cin, cout;
    ms_real forward, weight_grad;
  } table[] = {
      {9, 64, 32, MS_R(0.35), MS_R(0.35)}, {9, 16, 8, MS_R(0.3), MS_R(0.2)}, {4, 64, 64, MS_R(0.25), MS_R(0.15)},
      {2, 64, 128, MS_R(0.2), MS_R(0.1)},  {2, 64, 64, MS_R(0.2), 0},        {1, 256, 128, MS_R(0.1), 0},
  };
  if (d->groups > 1 || d->n * d->oh * d->ow < (pass == MS_CONV_FORWARD ? 256 : 512))
    return 0;
  int64_t taps = (int64_t)d->kh * d->kw / ((int64_t)d->stride_h * d->stride_w);
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (taps >= table[i].taps && d->cin >= table[i].cin && d->cout >= table[i].cout)
      return pass == MS_CONV_FORWARD ? table[i].forward : table[i].weight_grad;
  return 0;
}

/* The one place where an engine is chosen: by shape, pass and, where it is known, the share of non-zero inputs. */
static const ms_conv_engine *choose_engine(const ms_conv_desc *d, ms_conv_pass pass, ms_real density) {
  if (forced && forced->supports(d, pass))
    return forced;
  if (density >= 0 && ms_conv_event.supports(d, pass) && density < break_even(d, pass))
    return &ms_conv_event;
  return d->groups > 1 && ms_conv_depthwise.supports(d, pass) ? &ms_conv_depthwise : &ms_conv_gemm;
}

/* ---- services ---- */

ms_status ms_cpu_conv_plan(ms_stream *s, const ms_conv_desc *d, ms_conv_plan **out) {
  (void)s;
  ms_conv_plan *plan = malloc(sizeof *plan);
  if (!plan)
    return MS_EMEM;
  plan->d = *d;
  *out = plan;
  return MS_OK;
}

void ms_cpu_conv_plan_destroy(ms_conv_plan *plan) {
  free(plan);
}

size_t ms_cpu_conv_workspace(const ms_conv_plan *plan, ms_conv_pass pass) {
  size_t most = 0; /* the density may choose another engine each time */
  for (int i = 0; i < ENGINES; i++)
    if (engines[i]->supports(&plan->d, pass)) {
      size_t bytes = engines[i]->workspace(&plan->d, pass);
      most = bytes > most ? bytes : most;
    }
  return most;
}

const char *ms_cpu_conv_engine(const ms_conv_plan *plan, ms_conv_pass pass) {
  return choose_engine(&plan->d, pass, -1)->name;
}

/* ---- rows ---- */

static int64_t input_size(const ms_conv_desc *d) {
  return d->n * d->h * d->w * d->cin;
}

static int64_t output_size(const ms_conv_desc *d) {
  return d->n * d->oh * d->ow * d->cout;
}

static int64_t weight_size(const ms_conv_desc *d) {
  return d->cout * d->kh * d->kw * (d->cin / d->groups);
}

ms_status ms_cpu_conv_forward(ms_stream *s, const ms_conv_args *a) {
  (void)s;
  const ms_conv_desc *d = &a->plan->d;
  if (output_size(d) == 0)
    return MS_OK;
  return choose_engine(d, MS_CONV_FORWARD, a->density)->forward(d, a);
}

ms_status ms_cpu_conv_input_grad(ms_stream *s, const ms_conv_args *a) {
  (void)s;
  const ms_conv_desc *d = &a->plan->d;
  if (input_size(d) == 0)
    return MS_OK;
  return choose_engine(d, MS_CONV_INPUT_GRAD, a->density)->input_grad(d, a);
}

ms_status ms_cpu_conv_weight_grad(ms_stream *s, const ms_conv_args *a) {
  (void)s;
  const ms_conv_desc *d = &a->plan->d;
  if (weight_size(d) == 0)
    return MS_OK;
  return choose_engine(d, MS_CONV_WEIGHT_GRAD, a->density)->weight_grad(d, a);
}

/* ---- shared by engines ---- */

ms_chunks ms_cut_chunks(int64_t n, int64_t least, int64_t width) {
  int64_t fit = (4 << 20) / (ms_max64(width, 1) * (int64_t)sizeof(ms_real));
  int64_t chunks = ms_max64(ms_min64(ms_min64(n / least, fit), 32), 1);
  int64_t size = ms_max64(ms_ceil_div(n, chunks), 1);
  return (ms_chunks){ms_max64(ms_ceil_div(n, size), 1), size};
}

size_t ms_bias_grad_size(int64_t rows, int64_t cout) {
  return (size_t)(ms_cut_chunks(rows, 256, cout).chunks * cout) * sizeof(ms_real);
}

static MS_HOT void sum_rows(ms_real *restrict sum, ms_data y, int64_t row, int64_t rows, int64_t c) {
  for (int64_t i = 0; i < c; i++)
    sum[i] = 0;
  for (; rows > 0; rows--, row++)
    for (int64_t c0 = 0; c0 < c; c0 += 64) {
      ms_real part[64];
      int64_t n = ms_min64(64, c - c0);
      ms_unpack(part, y, row * c + c0, n);
      MS_SIMD
      for (int64_t i = 0; i < n; i++)
        sum[c0 + i] += part[i];
    }
}

ms_status ms_bias_grad(ms_real *bias, ms_data y, int64_t rows, int64_t cout, ms_real *partial) {
  ms_chunks cut = ms_cut_chunks(rows, 256, cout);
  ms_parallel_for(i, cut.chunks, cut.size * cout)
      sum_rows(partial + i * cout, y, i * cut.size, ms_min64(cut.size, rows - i * cut.size), cout);
  sum_rows(bias, (ms_data){partial, MS_F32, 1}, 0, cut.chunks, cout);
  return MS_OK;
}

/* ---- synaptic operations ---- */

/* How many of the `taps` outputs that read input position i lie inside [0, out). */
static int64_t reach(int64_t i, int taps, int dilation, int pad, int stride, int64_t out) {
  int64_t hits = 0;
  for (int t = 0; t < taps; t++) {
    int64_t at = i + pad - (int64_t)t * dilation;
    hits += at >= 0 && at % stride == 0 && at / stride < out;
  }
  return hits;
}

static MS_HOT int64_t count_nonzero(ms_data x, int64_t at, int64_t n) {
  int64_t count = 0;
  if (x.dtype == MS_F32) {
    const ms_real *p = (const ms_real *)x.p + at;
    for (int64_t i = 0; i < n; i++)
      count += p[i] != 0;
  } else if (x.dtype == MS_BF16) {
    const ms_bf16 *p = (const ms_bf16 *)x.p + at;
    for (int64_t i = 0; i < n; i++)
      count += (p[i].bits & 0x7fff) != 0;
  } else {
    const uint8_t *p = (const uint8_t *)x.p + at;
    for (int64_t i = 0; i < n; i++)
      count += p[i] != 0;
  }
  return count;
}

ms_status ms_cpu_conv_synops(ms_stream *s, const ms_conv_desc *d, ms_data x, int64_t out[2]) {
  (void)s;
  int64_t nonzero = 0, taps = 0;
#pragma omp parallel for schedule(static) num_threads(ms_cpu_threads()) reduction(+ : nonzero, taps) \
    if (MS_WORTH(d->n * d->h, d->w * d->cin))
  for (int64_t line = 0; line < d->n * d->h; line++) {
    int64_t down = reach(line % d->h, d->kh, d->dil_h, d->pad_h, d->stride_h, d->oh);
    for (int64_t ix = 0; ix < d->w; ix++) {
      int64_t count = count_nonzero(x, (line * d->w + ix) * d->cin, d->cin);
      nonzero += count;
      if (count && down)
        taps += count * down * reach(ix, d->kw, d->dil_w, d->pad_w, d->stride_w, d->ow);
    }
  }
  out[0] = nonzero;
  out[1] = taps * (d->cout / d->groups);
  return MS_OK;
}
