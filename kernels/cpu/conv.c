/* Convolution: plans, the choice of an engine, and what does not depend on the engine. */
#include "conv.h"
#include "conv_bf16.h"
#include "cpu.h"
#include "gemm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ms_conv_plan {
  ms_conv_desc d;
  const ms_conv_engine *forced;
  void *kept; /* by the keeper, or NULL */
};

void *ms_conv_kept(const ms_conv_plan *plan) {
  return plan->kept;
}

/* The first that supports a dense pass runs it; gemm supports all. */
static const ms_conv_engine *const engines[] = {&ms_conv_event,
#ifdef MS_ONEDNN
                                                &ms_conv_onednn.engine,
#endif
                                                &ms_conv_bf16,          &ms_conv_bf16x3,
                                                &ms_conv_depthwise,     &ms_conv_gemm};
#ifdef MS_ONEDNN
static const ms_conv_keeper *const keeper = &ms_conv_onednn;
#else
static const ms_conv_keeper *const keeper = NULL;
#endif
enum { ENGINES = sizeof engines / sizeof *engines, TABLE_ROWS = 64 };
static const ms_conv_engine *forced;
static int deterministic;

/* ---- break-even ---- */

/* Densities below which events are worth it, against the dense engine that would run instead; layers that no row fits
** run dense. Printed by scripts/bench/break_even.c on one core of Sapphire Rapids, with oneDNN 2.6: 0.9 times the
** density at which both took as long, 0 where events won at none. Machines without AMX use the plain table, which was
** measured with AMX hidden. */
typedef struct shipped_table {
  int rows;
  ms_break_even row[40];
} shipped_table;

/* taps, cin, cout, precision, forward, weight_grad, forward_counts, weight_grad_counts, input_grad */
static const shipped_table plain = {34,
                                    {{9, 512, 512, MS_F32, 0.54, 0.54, 0.425, 0.5, 0.465},
                                     {9, 256, 256, MS_F32, 0.54, 0.54, 0.385, 0.47, 0.485},
                                     {9, 128, 128, MS_F32, 0.54, 0.54, 0.36, 0.48, 0.45},
                                     {9, 64, 128, MS_F32, 0.54, 0.54, 0.34, 0.475, 0.435},
                                     {9, 64, 64, MS_F32, 0.535, 0.54, 0.275, 0.47, 0.345},
                                     {9, 32, 64, MS_F32, 0.495, 0.54, 0.26, 0.425, 0.22},
                                     {9, 32, 32, MS_F32, 0.39, 0.54, 0.14, 0.37, 0.105},
                                     {9, 16, 32, MS_F32, 0.145, 0.485, 0.045, 0.31, 0.135},
                                     {9, 3, 64, MS_F32, 0, 0.13, 0, 0.08, 0},
                                     {2, 256, 512, MS_F32, 0.54, 0.54, 0.34, 0.33, 0.345},
                                     {2, 128, 256, MS_F32, 0.54, 0.54, 0.33, 0.315, 0.255},
                                     {2, 64, 128, MS_F32, 0.54, 0.54, 0.265, 0.31, 0.205},
                                     {1, 800, 128, MS_F32, 0.475, 0.175, 0.16, 0, 0.03},
                                     {1, 256, 256, MS_F32, 0.51, 0.235, 0.235, 0, 0.08},
                                     {1, 64, 128, MS_F32, 0.345, 0.25, 0.1, 0.04, 0},
                                     {0, 256, 512, MS_F32, 0.54, 0.25, 0.28, 0, 0},
                                     {0, 128, 256, MS_F32, 0.54, 0.29, 0.185, 0, 0},
                                     {9, 512, 512, MS_BF16, 0.54, 0.54, 0.54, 0.54, 0},
                                     {9, 256, 256, MS_BF16, 0.54, 0.54, 0.54, 0.54, 0},
                                     {9, 128, 128, MS_BF16, 0.54, 0.54, 0.54, 0.54, 0},
                                     {9, 64, 128, MS_BF16, 0.54, 0.54, 0.54, 0.54, 0},
                                     {9, 64, 64, MS_BF16, 0.54, 0.54, 0.535, 0.54, 0},
                                     {9, 32, 64, MS_BF16, 0.54, 0.54, 0.54, 0.54, 0},
                                     {9, 32, 32, MS_BF16, 0.54, 0.54, 0.36, 0.54, 0},
                                     {9, 16, 32, MS_BF16, 0.54, 0.54, 0.265, 0.54, 0},
                                     {9, 3, 64, MS_BF16, 0.04, 0.54, 0.02, 0.54, 0},
                                     {2, 256, 512, MS_BF16, 0.54, 0.54, 0.53, 0.54, 0},
                                     {2, 128, 256, MS_BF16, 0.54, 0.54, 0.54, 0.54, 0},
                                     {2, 64, 128, MS_BF16, 0.54, 0.54, 0.515, 0.54, 0},
                                     {1, 800, 128, MS_BF16, 0.54, 0.54, 0.33, 0.32, 0},
                                     {1, 256, 256, MS_BF16, 0.54, 0.54, 0.49, 0.28, 0},
                                     {1, 64, 128, MS_BF16, 0.54, 0.54, 0.26, 0.29, 0},
                                     {0, 256, 512, MS_BF16, 0.54, 0.54, 0.54, 0.135, 0},
                                     {0, 128, 256, MS_BF16, 0.54, 0.54, 0.38, 0.165, 0}}};
static const shipped_table amx = {34,
                                  {{9, 512, 512, MS_F32, 0.415, 0.285, 0.265, 0.18, 0.455},
                                   {9, 256, 256, MS_F32, 0.18, 0.265, 0.12, 0.17, 0.345},
                                   {9, 128, 128, MS_F32, 0.15, 0.33, 0.095, 0.225, 0.235},
                                   {9, 64, 128, MS_F32, 0.17, 0.38, 0.09, 0.285, 0.24},
                                   {9, 64, 64, MS_F32, 0.15, 0.415, 0.07, 0.295, 0.165},
                                   {9, 32, 64, MS_F32, 0.235, 0.54, 0.12, 0.415, 0.225},
                                   {9, 32, 32, MS_F32, 0.045, 0.54, 0, 0.375, 0.11},
                                   {9, 16, 32, MS_F32, 0.12, 0.505, 0.04, 0.31, 0.12},
                                   {9, 3, 64, MS_F32, 0, 0.125, 0, 0.095, 0},
                                   {2, 256, 512, MS_F32, 0.54, 0.17, 0.32, 0.035, 0.335},
                                   {2, 128, 256, MS_F32, 0.295, 0.215, 0.17, 0.09, 0.19},
                                   {2, 64, 128, MS_F32, 0.3, 0.305, 0.13, 0.15, 0.15},
                                   {1, 800, 128, MS_F32, 0.54, 0.175, 0.54, 0, 0.02},
                                   {1, 256, 256, MS_F32, 0.205, 0.255, 0.08, 0, 0.08},
                                   {1, 64, 128, MS_F32, 0.105, 0.24, 0.025, 0.04, 0},
                                   {0, 256, 512, MS_F32, 0.42, 0.25, 0.175, 0, 0},
                                   {0, 128, 256, MS_F32, 0.325, 0.32, 0.09, 0, 0},
                                   {9, 512, 512, MS_BF16, 0.055, 0.085, 0.04, 0.04, 0},
                                   {9, 256, 256, MS_BF16, 0, 0.075, 0, 0.025, 0},
                                   {9, 128, 128, MS_BF16, 0, 0.095, 0, 0.045, 0},
                                   {9, 64, 128, MS_BF16, 0, 0.085, 0, 0.04, 0},
                                   {9, 64, 64, MS_BF16, 0, 0.105, 0, 0.06, 0},
                                   {9, 32, 64, MS_BF16, 0, 0.17, 0, 0.115, 0},
                                   {9, 32, 32, MS_BF16, 0, 0.075, 0, 0.03, 0},
                                   {9, 16, 32, MS_BF16, 0, 0.025, 0, 0, 0},
                                   {9, 3, 64, MS_BF16, 0, 0.5, 0, 0.365, 0},
                                   {2, 256, 512, MS_BF16, 0.04, 0.02, 0.025, 0, 0},
                                   {2, 128, 256, MS_BF16, 0.025, 0.04, 0, 0, 0},
                                   {2, 64, 128, MS_BF16, 0, 0.15, 0, 0.04, 0},
                                   {1, 800, 128, MS_BF16, 0, 0.23, 0, 0, 0},
                                   {1, 256, 256, MS_BF16, 0, 0.03, 0, 0, 0},
                                   {1, 64, 128, MS_BF16, 0, 0.065, 0, 0, 0},
                                   {0, 256, 512, MS_BF16, 0.015, 0.17, 0, 0, 0},
                                   {0, 128, 256, MS_BF16, 0, 0.345, 0, 0, 0}}};
static ms_break_even table[TABLE_ROWS];
static int table_rows = -1; /* -1: a shipped one */

int ms_cpu_conv_table(const ms_break_even **out) {
  const shipped_table *shipped = ms_bf16_kernel_best()->level == 2 ? &amx : &plain;
  *out = table_rows < 0 ? shipped->row : table;
  return table_rows < 0 ? shipped->rows : table_rows;
}

ms_status ms_cpu_conv_table_set(const ms_break_even *rows, int n) {
  if (n < 0 || n > TABLE_ROWS)
    return MS_EINVAL;
  if (rows)
    memmove(table, rows, (size_t)n * sizeof *rows);
  table_rows = rows ? n : -1;
  return MS_OK;
}

/* Layers with fewer output pixels than this do not repay that the weights are packed or turned round; grouped layers
** were not measured. */
static double break_even(const ms_conv_desc *d, ms_dtype precision, ms_conv_pass pass, int counts) {
  if (d->groups > 1 || d->n * d->oh * d->ow < (pass == MS_CONV_FORWARD ? 256 : 512))
    return 0;
  int64_t taps = (int64_t)d->kh * d->kw / ((int64_t)d->stride_h * d->stride_w);
  const ms_break_even *row;
  int rows = ms_cpu_conv_table(&row);
  for (; rows > 0; rows--, row++)
    if (row->precision == precision && taps >= row->taps && d->cin >= row->cin && d->cout >= row->cout)
      switch (pass) {
      case MS_CONV_FORWARD:
        return counts ? row->forward_counts : row->forward;
      case MS_CONV_WEIGHT_GRAD:
        return counts ? row->weight_grad_counts : row->weight_grad;
      case MS_CONV_INPUT_GRAD:
        return row->input_grad;
      }
  return 0;
}

/* ---- the choice ---- */

static int keeps(const ms_conv_engine *e) {
  return keeper && e == &keeper->engine;
}

static int can(const ms_conv_engine *e, const ms_conv_args *a, ms_conv_pass pass) {
  return e->supports(&a->plan->d, pass) && (!keeps(e) || (a->plan->kept && keeper->ready(a->plan->kept, a, pass)));
}

static int allowed(const ms_conv_engine *e, const ms_conv_args *a, ms_conv_pass pass) {
  return (e->deterministic || !deterministic) && can(e, a, pass);
}

/* Where our own bfloat16 engine beats oneDNN 2.6 on two cores with AMX: small images of many channels, and weight
** gradients with strides. In between they are within a tenth of each other, on large images oneDNN leads by up to
** half. */
static int bf16_leads(const ms_conv_desc *d, ms_conv_pass pass) {
  int64_t outputs = d->oh * d->ow, taps = (int64_t)d->kh * d->kw;
  if (pass == MS_CONV_WEIGHT_GRAD)
    return (d->cin >= 256 && outputs <= 256) || (d->cin >= 128 && d->stride_h * d->stride_w > 1 && taps > 1);
  return d->cin >= 512 && d->cout >= 512 && outputs <= 64 && taps > 1;
}

/* Where three (spikes) or six products of bfloat16 parts on AMX beat oneDNN's float32: up to 3.5 and 1.5 times, but on
** small images, where positions are wasted, and for few channels. */
static int bf16x3_leads(const ms_conv_desc *d, ms_conv_pass pass) {
  int64_t taps = (int64_t)d->kh * d->kw, channels = ms_min64(d->cin, d->cout);
  int64_t lines = ms_max64(d->oh, ms_ceil_div(d->h, d->stride_h)),
          cols = ms_max64(d->ow, ms_ceil_div(d->w, d->stride_w));
  if (pass == MS_CONV_WEIGHT_GRAD)
    return taps >= 9 && channels >= 64 && d->x != MS_F32;
  if (pass == MS_CONV_FORWARD && d->x != MS_F32)
    return channels >= 32 && d->n * d->oh * d->ow >= 256;
  return taps >= 9 && channels >= 32 && lines * cols >= 144;
}

static int library_takes(const ms_conv_args *a, ms_conv_pass pass) {
  return keeper && allowed(&keeper->engine, a, pass);
}

static const ms_conv_engine *choose_dense(const ms_conv_args *a, ms_conv_pass pass, int library) {
  const ms_conv_desc *d = &a->plan->d;
  if (bf16_leads(d, pass) && allowed(&ms_conv_bf16, a, pass))
    return &ms_conv_bf16;
  int wide = d->kh * d->kw >= 9 && ms_min64(d->cin, d->cout) >= 32;
  if ((bf16x3_leads(d, pass) || (!library && wide)) && allowed(&ms_conv_bf16x3, a, pass))
    return &ms_conv_bf16x3;
  for (int i = 0; i < ENGINES; i++)
    if (engines[i] != &ms_conv_event && engines[i] != &ms_conv_bf16x3 && (library || !keeps(engines[i])) &&
        allowed(engines[i], a, pass))
      return engines[i];
  return &ms_conv_gemm;
}

static const ms_conv_engine *wanted(const ms_conv_plan *plan) {
  return plan->forced ? plan->forced : forced;
}

/* The one place where an engine is chosen: by shape, precision, pass and, where it is known, the share of non-zero
** inputs (of the gradient of the inputs: the share that is wanted). why may be NULL. */
static const ms_conv_engine *choose_engine(const ms_conv_args *a, ms_conv_pass pass, char *why) {
  const ms_conv_desc *d = &a->plan->d;
  const ms_conv_engine *want = wanted(a->plan);
  char none[MS_WHY];
  why = why ? why : none;
  if (want && can(want, a, pass)) {
    snprintf(why, MS_WHY, "forced");
    return want;
  }
  double density = pass == MS_CONV_INPUT_GRAD ? (a->mask ? a->mask_density : -1) : a->density;
  const ms_conv_engine *dense = choose_dense(a, pass, library_takes(a, pass));
  /* the other dense engines turn bfloat16 operands into float32: limits of float32 hold for them */
  double limit = break_even(d, keeps(dense) || dense == &ms_conv_bf16 ? d->weight : MS_F32, pass, a->counts);
  if (density >= 0 && density < limit && allowed(&ms_conv_event, a, pass)) {
    snprintf(why, MS_WHY, "density %.3f is below the break-even %.3f", density, limit);
    return &ms_conv_event;
  }
  if (!ms_conv_event.supports(d, pass))
    snprintf(why, MS_WHY, pass == MS_CONV_INPUT_GRAD ? "the gradient is dense" : "the input is not spikes");
  else if (density < 0)
    snprintf(why, MS_WHY, "the density is not known");
  else
    snprintf(why, MS_WHY, "density %.3f is not below the break-even %.3f", density, limit);
  return dense;
}

/* ---- services ---- */

ms_status ms_cpu_conv_plan(ms_stream *s, const ms_conv_desc *d, ms_conv_plan **out) {
  (void)s;
  ms_conv_plan *plan = calloc(1, sizeof *plan);
  if (!plan)
    return MS_EMEM;
  plan->d = *d;
  if (keeper)
    plan->kept = keeper->open(d);
  *out = plan;
  return MS_OK;
}

void ms_cpu_conv_plan_destroy(ms_conv_plan *plan) {
  if (keeper && plan && plan->kept)
    keeper->close(plan->kept);
  free(plan);
}

/* Would choose_engine take events at some density? */
static int events_pay(const ms_conv_desc *d, ms_conv_pass pass) {
  double most = 0;
  for (int counts = 0; counts < 2; counts++)
    most += break_even(d, d->weight, pass, counts) + break_even(d, MS_F32, pass, counts);
  return most > 0;
}

/* All that choose_engine may return for this pass. Densities are not known here, and nor are the types of the other
** arguments, which the library may refuse. */
static int choices(const ms_conv_plan *plan, ms_conv_pass pass, const ms_conv_engine *out[4]) {
  const ms_conv_args a = {.plan = plan};
  const ms_conv_engine *want = wanted(plan);
  int n = 0;
  if (want && can(want, &a, pass)) {
    out[n++] = want;
    if (!keeps(want))
      return n;
  }
  if (events_pay(&plan->d, pass) && allowed(&ms_conv_event, &a, pass))
    out[n++] = &ms_conv_event;
  if (library_takes(&a, pass))
    out[n++] = choose_dense(&a, pass, 1);
  out[n++] = choose_dense(&a, pass, 0);
  return n;
}

size_t ms_cpu_conv_workspace(const ms_conv_plan *plan, ms_conv_pass pass) {
  const ms_conv_engine *may[4];
  size_t most = 0;
  for (int i = choices(plan, pass, may) - 1; i >= 0; i--) {
    size_t bytes = keeps(may[i]) ? keeper->room(plan->kept, pass) : may[i]->workspace(&plan->d, pass);
    most = bytes > most ? bytes : most;
  }
  return most;
}

const char *ms_cpu_conv_engine(const ms_conv_args *a, ms_conv_pass pass, char why[MS_WHY]) {
  return choose_engine(a, pass, why)->name;
}

const char *const *ms_cpu_conv_engines(void) {
  static const char *names[ENGINES + 1];
  for (int i = 0; i < ENGINES; i++)
    names[i] = engines[i]->name;
  return names;
}

ms_status ms_cpu_conv_force(ms_conv_plan *plan, const char *name) {
  const ms_conv_engine *found = NULL;
  for (int i = 0; name && i < ENGINES; i++)
    if (strcmp(engines[i]->name, name) == 0)
      found = engines[i];
  if (name && !found)
    return MS_EINVAL;
  *(plan ? &plan->forced : &forced) = found;
  return MS_OK;
}

int ms_cpu_conv_deterministic(int on) {
  int was = deterministic;
  if (on >= 0)
    deterministic = on != 0;
  return was;
}

int ms_cpu_conv_loose(const char *engine) {
  for (int i = 0; i < ENGINES; i++)
    if (strcmp(engines[i]->name, engine) == 0)
      return !engines[i]->deterministic;
  return 0;
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
  return choose_engine(a, MS_CONV_FORWARD, NULL)->forward(d, a);
}

ms_status ms_cpu_conv_input_grad(ms_stream *s, const ms_conv_args *a) {
  (void)s;
  const ms_conv_desc *d = &a->plan->d;
  if (input_size(d) == 0)
    return MS_OK;
  return choose_engine(a, MS_CONV_INPUT_GRAD, NULL)->input_grad(d, a);
}

ms_status ms_cpu_conv_weight_grad(ms_stream *s, const ms_conv_args *a) {
  (void)s;
  const ms_conv_desc *d = &a->plan->d;
  if (weight_size(d) == 0)
    return MS_OK;
  return choose_engine(a, MS_CONV_WEIGHT_GRAD, NULL)->weight_grad(d, a);
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
  } else if (x.dtype == MS_BITS && (at | n) % 8 == 0) {
    const uint8_t *p = (const uint8_t *)x.p + at / 8;
    for (int64_t i = 0; i < n / 8; i++)
      count += __builtin_popcount(p[i]);
  } else if (x.dtype == MS_BITS) {
    const uint8_t *p = x.p;
    for (int64_t i = at; i < at + n; i++)
      count += p[i / 8] >> i % 8 & 1;
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
