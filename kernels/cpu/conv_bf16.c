/* Forward and input gradient of the bfloat16 engines: see conv_bf16.h for the layout, bf16_tile.h for the product. The
** weight gradient is in conv_bf16_grad.c. */
#include "conv_bf16.h"
#include "gemm.h"

enum {
  BLOCK = MS_BF16_BLOCK,
  GROUP_BYTES = 512 * 1024, /* planes of the images of one task: a part of the second level cache */
  GROUPS = 8,               /* at least as many tasks where there are as many images */
  PANEL_BYTES = 256 * 1024, /* weights that all blocks of positions meet in turn */
  NEAR = 128                /* depth of which all parts of both operands stay in the first level cache */
};

/* ---- parts ---- */

int ms_bf16_pairs(int a, int b, uint8_t pair[MS_MOST_PAIRS][2]) {
  int n = 0;
  for (int sum = MS_PARTS - 1; sum >= 0; sum--)
    for (int i = 0; i < a; i++)
      if (sum - i >= 0 && sum - i < b) {
        pair[n][0] = (uint8_t)i;
        pair[n++][1] = (uint8_t)(sum - i);
      }
  return n;
}

/* Three parts, each the rest rounded to nearest; the first is cut where it would round to infinity. */
MS_HD void split3(float x, ms_bf16 *first, ms_bf16 *second, ms_bf16 *third) {
  union {
    float f;
    uint32_t u;
  } v = {x};
  uint32_t huge = v.u & 0x7fffffffu;
  ms_bf16 high = ms_bf16_from(x);
  high.bits = huge > 0x7f7f7fffu && huge < 0x7f800000u ? (uint16_t)(v.u >> 16) : high.bits;
  float rest = huge < 0x7f800000u ? x - ms_bf16_to(high) : 0;
  *first = high;
  *second = ms_bf16_from(rest);
  *third = ms_bf16_from(rest - ms_bf16_to(*second));
}

static MS_HOT void split(ms_bf16 *restrict to, int64_t pitch, const ms_real *from, int64_t n) {
  ms_bf16 *restrict second = to + pitch, *restrict third = to + 2 * pitch;
  MS_SIMD
  for (int64_t i = 0; i < n; i++)
    split3((float)from[i], &to[i], &second[i], &third[i]);
}

static MS_HOT void convert(ms_bf16 *to, ms_data x, int64_t at, int64_t n) {
  x.scale = 1;
  ms_unpack_bf16(to, x, at, n);
}

void ms_bf16_split(ms_bf16 *to, int64_t pitch, int parts, ms_data x, int64_t at, int64_t n) {
  if (parts == MS_PARTS)
    split(to, pitch, (const ms_real *)x.p + at, n);
  else if (x.dtype == MS_BF16)
    memcpy(to, (const ms_bf16 *)x.p + at, (size_t)n * sizeof *to);
  else
    convert(to, x, at, n);
}

/* ---- planes ---- */

MS_HD int64_t floor_div(int64_t a, int64_t b) {
  return a >= 0 ? a / b : -((b - 1 - a) / b);
}

/* One axis: for output o, tap t reads position o + shift[t] of plane phase[t]; of the input gradient phase[t] is that
** of the results. */
typedef struct axis_taps {
  int64_t phase[MS_MOST_TAPS], shift[MS_MOST_TAPS];
  int64_t length, lead; /* of a plane */
} axis_taps;

static void finish_axis(axis_taps *x, int n, int64_t in, int64_t out) {
  int64_t least = 0, most = 0;
  for (int t = 0; t < n; t++) {
    least = ms_min64(least, x->shift[t]);
    most = ms_max64(most, x->shift[t]);
  }
  x->length = ms_max64(in, out);
  x->lead = ms_max64(-least, out + most - x->length);
}

static void forward_axis(axis_taps *x, int64_t in, int64_t out, int taps, int stride, int dil, int pad) {
  for (int t = 0; t < taps; t++) {
    int64_t at = (int64_t)t * dil - pad;
    x->shift[t] = floor_div(at, stride);
    x->phase[t] = at - x->shift[t] * stride;
  }
  finish_axis(x, taps, ms_ceil_div(in, stride), out);
}

/* Input phase + i * stride is reached from output i + shift. */
static void backward_axis(axis_taps *x, int64_t in, int64_t out, int taps, int stride, int dil, int pad) {
  for (int t = 0; t < taps; t++) {
    int64_t at = (int64_t)t * dil - pad;
    x->phase[t] = at - floor_div(at, stride) * stride;
    x->shift[t] = (x->phase[t] - at) / stride;
  }
  finish_axis(x, taps, out, ms_ceil_div(in, stride));
}

static ms_planes planes_of(const axis_taps *y, const axis_taps *x) {
  return (ms_planes){y->length, x->length, y->lead, x->lead, x->lead + x->length};
}

ms_planes ms_input_planes(const ms_conv_desc *d, ms_tap *taps) {
  axis_taps y, x;
  forward_axis(&y, d->h, d->oh, d->kh, d->stride_h, d->dil_h, d->pad_h);
  forward_axis(&x, d->w, d->ow, d->kw, d->stride_w, d->dil_w, d->pad_w);
  ms_planes p = planes_of(&y, &x);
  for (int64_t ky = 0; ky < d->kh; ky++)
    for (int64_t kx = 0; kx < d->kw; kx++)
      *taps++ = (ms_tap){y.phase[ky] * d->stride_w + x.phase[kx], y.shift[ky] * p.pitch + x.shift[kx], ky, kx};
  return p;
}

/* ---- one product: results are gathered from planes of a source ---- */

typedef struct product {
  const ms_conv_desc *d;
  ms_planes p;
  ms_data src, out;
  const ms_real *bias;
  ms_real scale;
  int64_t src_h, src_w, src_c, depth; /* depth: src_c rounded up to a block */
  int64_t pitch;                      /* of positions */
  int64_t planes_h, planes_w;         /* phases of the source */
  int64_t out_h, out_w, out_c;
  int64_t step_h, step_w; /* phases of the results: phase + i * step */
  int64_t taps_all;
  ms_tap taps[MS_MOST_TAPS];
  int64_t tap_phase[MS_MOST_TAPS]; /* phase of the results that a tap belongs to */
  const ms_bf16 *weight;           /* [part][block of out_c][tap][depth / 2][32][2] */
  int parts, pairs;                /* of the source */
  uint8_t pair[MS_MOST_PAIRS][2];
  int64_t images, taps_once; /* of a task; of a pass over its positions */
  const ms_bf16_kernel *kernel;
} product;

MS_HD int64_t part_size(const product *p) {
  return p->planes_h * p->planes_w * ms_plane_size(&p->p, p->images) * p->pitch;
}

static void zero(const product *p, ms_bf16 *to, int64_t n) {
  for (int part = 0; part < p->parts; part++)
    memset(to + part * part_size(p), 0, (size_t)n * sizeof *to);
}

/* Line iy of an image into its plane, from the first pixel of the phase on. */
static void fill_line(const product *p, ms_bf16 *to, int64_t line, int64_t px) {
  int64_t pitch = part_size(p);
  if (p->planes_w == 1 && p->pitch == p->src_c) {
    ms_bf16_split(to, pitch, p->parts, p->src, line * p->src_w * p->src_c, p->src_w * p->src_c);
    return;
  }
  for (int64_t ix = px; ix < p->src_w; ix += p->planes_w, to += p->pitch) {
    ms_bf16_split(to, pitch, p->parts, p->src, (line * p->src_w + ix) * p->src_c, p->src_c);
    zero(p, to + p->src_c, p->depth - p->src_c);
  }
}

/* Writes the planes of `images` images from `first` on; every position of them, zeros included. */
static void fill_planes(const product *p, ms_bf16 *to, int64_t first, int64_t images) {
  const ms_planes *g = &p->p;
  int64_t size = ms_plane_size(g, p->images) * p->pitch;
  for (int64_t plane = 0; plane < p->planes_h * p->planes_w; plane++, to += size) {
    int64_t py = plane / p->planes_w, px = plane % p->planes_w, at = 0;
    for (int64_t i = 0; i < images; i++)
      for (int64_t iy = py, y = 0; iy < p->src_h; iy += p->planes_h, y++) {
        int64_t from = (i * ms_plane_image(g) + ms_plane_first(g) + y * g->pitch) * p->pitch;
        zero(p, to + at, from - at);
        fill_line(p, to + from, (first + i) * p->src_h + iy, px);
        at = from + ms_ceil_div(p->src_w - px, p->planes_w) * p->pitch;
      }
    zero(p, to + at, size - at);
  }
}

/* Rows of a finished block that are real results. */
static MS_HOT void store_block(const product *p, const float *c, int64_t first, int64_t images, int64_t phase,
                               int64_t m, int64_t n) {
  const ms_planes *g = &p->p;
  int64_t cols = ms_min64(BLOCK, p->out_c - n);
  ms_pixel at = ms_plane_pixel(g, m);
  ms_real bias[BLOCK], scale = p->scale;
  for (int64_t j = 0; j < BLOCK; j++)
    bias[j] = p->bias && j < cols ? p->bias[n + j] : 0;
  for (int r = 0; r < BLOCK && at.image < images; r++, c += BLOCK) {
    int64_t oy = at.y * p->step_h + phase / p->step_w, ox = at.x * p->step_w + phase % p->step_w;
    if (at.y >= 0 && at.x >= 0 && oy < p->out_h && ox < p->out_w) {
      int64_t to = (((first + at.image) * p->out_h + oy) * p->out_w + ox) * p->out_c + n;
      if (p->out.dtype == MS_F32) {
        ms_real *y = (ms_real *)p->out.p + to;
        for (int64_t j = 0; j < cols; j++)
          y[j] = c[j] * scale + bias[j];
      } else {
        ms_bf16 *y = (ms_bf16 *)p->out.p + to;
        for (int64_t j = 0; j < cols; j++)
          y[j] = ms_bf16_from((float)(c[j] * scale + bias[j]));
      }
    }
    if (++at.x == g->cols) {
      at.x = -g->left;
      if (++at.y == g->lines) {
        at.y = -g->top;
        at.image++;
      }
    }
  }
}

/* The runs of some taps of a phase, relative to position 0 and output block 0: the parts of a stretch of depth meet
** before the next stretch. */
static int64_t plan_runs(const product *p, const ms_bf16 *planes, const int *taps, int ntaps, ms_bf16_run *runs) {
  int64_t plane = ms_plane_size(&p->p, p->images) * p->pitch, part = part_size(p), n = 0;
  int64_t weights = ms_bf16_round(p->out_c) * p->taps_all * p->depth, step = p->parts > 1 ? NEAR : p->depth;
  for (int t = 0; t < ntaps; t++) {
    const ms_tap *tap = p->taps + taps[t];
    for (int64_t k = 0; k < p->depth; k += step)
      for (int i = 0; i < p->pairs; i++)
        runs[n++] = (ms_bf16_run){planes + p->pair[i][0] * part + tap->plane * plane + tap->offset * p->pitch + k,
                                  p->weight + p->pair[i][1] * weights +
                                      (tap->ky * p->d->kw + tap->kx) * p->depth * BLOCK + k * BLOCK,
                                  p->pitch, ms_min64(step, p->depth - k)};
  }
  return n;
}

typedef struct room {
  ms_bf16 *planes;
  float *sums;             /* a block for each 32 positions */
  ms_bf16_run *base, *run; /* of the taps of one pass */
} room;

/* All positions against one block of outputs, for the taps of one phase. */
static void run_phase(const product *p, const room *r, int64_t first, int64_t images, int64_t phase, int64_t n) {
  int64_t from = ms_plane_first(&p->p), end = images * ms_plane_image(&p->p);
  int taps[MS_MOST_TAPS], ntaps = 0;
  for (int t = 0; t < p->taps_all; t++)
    if (p->tap_phase[t] == phase)
      taps[ntaps++] = t;
  for (int t = 0; t == 0 || t < ntaps; t += p->taps_once) {
    int now = (int)ms_min64(p->taps_once, ntaps - t);
    int64_t count = plan_runs(p, r->planes, taps + t, now, r->base);
    for (int64_t m = from; m < end; m += BLOCK) {
      float *c = r->sums + (ntaps > p->taps_once ? (m - from) * BLOCK : 0); /* one pass: one block */
      for (int64_t i = 0; i < count; i++) {
        r->run[i] = r->base[i];
        r->run[i].a += m * p->pitch;
        r->run[i].b += n * p->taps_all * p->depth;
      }
      p->kernel->block(c, t == 0, r->run, count);
      if (t + p->taps_once >= ntaps)
        store_block(p, c, first, images, phase, m, n);
    }
  }
}

static int run_images(const product *p, int64_t first) {
  int64_t images = ms_min64(p->images, p->d->n - first), blocks = ms_plane_size(&p->p, p->images) / BLOCK + 1;
  int64_t planes = ms_bf16_round(p->parts * part_size(p)), runs = p->taps_once * p->pairs * ms_ceil_div(p->depth, NEAR);
  room r = {.planes = ms_cpu_scratch(1, (size_t)planes * sizeof *r.planes +
                                            (size_t)(blocks * BLOCK * BLOCK) * sizeof *r.sums +
                                            (size_t)(2 * runs) * sizeof *r.run)};
  if (!r.planes)
    return 0;
  r.sums = (float *)(r.planes + planes);
  r.base = (ms_bf16_run *)(r.sums + blocks * BLOCK * BLOCK);
  r.run = r.base + runs;
  fill_planes(p, r.planes, first, images);
  p->kernel->begin();
  for (int64_t phase = 0; phase < p->step_h * p->step_w; phase++)
    for (int64_t n = 0; n < p->out_c; n += BLOCK)
      run_phase(p, &r, first, images, phase, n);
  p->kernel->end();
  return 1;
}

/* ---- weights ---- */

/* A block of 32 outputs of one tap, all parts: element (k, j) is weight k of output n + j. */
static MS_HOT void pack_tap(const product *p, ms_data w, int transposed, int parts, ms_bf16 *to, int64_t pitch,
                            int64_t n, int64_t t) {
  const ms_conv_desc *d = p->d;
  int64_t taps = p->taps_all, cols = ms_min64(BLOCK, p->out_c - n);
  ms_bf16 line[MS_PARTS][BLOCK];
  for (int64_t k0 = 0; k0 < p->depth; k0 += transposed ? 1 : BLOCK) {
    /* the run that is contiguous in memory: over j where transposed, else over k */
    for (int64_t i = 0; i < (transposed ? 1 : BLOCK); i++) {
      int64_t co = transposed ? k0 : n + i, ci = transposed ? n : k0;
      int64_t len = transposed ? cols : ms_min64(BLOCK, p->src_c - k0);
      memset(line, 0, sizeof line);
      if (co < d->cout && len > 0)
        ms_bf16_split(line[0], BLOCK, parts, w, (co * taps + t) * d->cin + ci, len);
      for (int part = 0; part < parts; part++)
        for (int64_t e = 0; e < BLOCK; e++) {
          int64_t k = transposed ? k0 : k0 + e, j = transposed ? e : i;
          to[part * pitch + k / 2 * 2 * BLOCK + 2 * j + k % 2] = line[part][e];
        }
    }
  }
}

static int pack_weights(product *p, ms_data w, int transposed, ms_bf16 *to) {
  int parts = ms_bf16_parts(p->d->weight, w.dtype);
  int64_t blocks = ms_ceil_div(p->out_c, BLOCK), size = p->depth * BLOCK;
  ms_parallel_for(i, blocks * p->taps_all, 4 * size) pack_tap(
      p, w, transposed, parts, to + i * size, blocks * p->taps_all * size, i / p->taps_all * BLOCK, i % p->taps_all);
  p->weight = to;
  return parts;
}

/* ---- the passes ---- */

static ms_status run_product(product *p, const ms_conv_args *a, int transposed) {
  int failed = 0;
  p->parts = ms_bf16_parts(p->d->weight, p->src.dtype);
  p->scale = ms_bf16_scale(p->src);
  /* Rows a power of two apart would share a few sets of the first level cache. */
  p->pitch = p->depth > NEAR ? p->depth + BLOCK : p->depth;
  int parts = pack_weights(p, a->weight, transposed, a->workspace);
  p->pairs = ms_bf16_pairs(p->parts, parts, p->pair);
  p->taps_once = ms_max64(1, PANEL_BYTES / (parts * p->depth * BLOCK * (int64_t)sizeof(ms_bf16)));
  p->taps_once = ms_min64(p->taps_once, p->taps_all);
  p->kernel = ms_bf16_kernel_best();
  p->images = 1;
  int64_t bytes = p->parts * part_size(p) * (int64_t)sizeof(ms_bf16);
  p->images = ms_max64(1, ms_min64(GROUP_BYTES / bytes, p->d->n / GROUPS));
  int64_t cost = p->images * ms_plane_image(&p->p) * p->out_c * p->depth;
  ms_parallel_for(i, ms_ceil_div(p->d->n, p->images), cost) {
    if (!run_images(p, i * p->images)) {
#pragma omp atomic write
      failed = 1;
    }
  }
  return failed ? MS_EMEM : MS_OK;
}

static ms_status forward(const ms_conv_desc *d, const ms_conv_args *a) {
  product p = {.d = d,
               .src = a->x,
               .out = a->y,
               .bias = a->bias,
               .src_h = d->h,
               .src_w = d->w,
               .src_c = d->cin,
               .depth = ms_bf16_round(d->cin),
               .planes_h = d->stride_h,
               .planes_w = d->stride_w,
               .out_h = d->oh,
               .out_w = d->ow,
               .out_c = d->cout,
               .step_h = 1,
               .step_w = 1,
               .taps_all = (int64_t)d->kh * d->kw};
  p.p = ms_input_planes(d, p.taps);
  return run_product(&p, a, 0);
}

static ms_status input_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  axis_taps y, x;
  backward_axis(&y, d->h, d->oh, d->kh, d->stride_h, d->dil_h, d->pad_h);
  backward_axis(&x, d->w, d->ow, d->kw, d->stride_w, d->dil_w, d->pad_w);
  product p = {.d = d,
               .p = planes_of(&y, &x),
               .src = a->y,
               .out = a->x,
               .src_h = d->oh,
               .src_w = d->ow,
               .src_c = d->cout,
               .depth = ms_bf16_round(d->cout),
               .planes_h = 1,
               .planes_w = 1,
               .out_h = d->h,
               .out_w = d->w,
               .out_c = d->cin,
               .step_h = d->stride_h,
               .step_w = d->stride_w,
               .taps_all = (int64_t)d->kh * d->kw};
  for (int64_t t = 0; t < p.taps_all; t++) {
    int64_t ky = t / d->kw, kx = t % d->kw;
    p.taps[t] = (ms_tap){0, y.shift[ky] * p.p.pitch + x.shift[kx], ky, kx};
    p.tap_phase[t] = y.phase[ky] * d->stride_w + x.phase[kx];
  }
  return run_product(&p, a, 1);
}

static size_t workspace(const ms_conv_desc *d, ms_conv_pass pass) {
  if (pass == MS_CONV_WEIGHT_GRAD)
    return ms_bf16_weight_grad_workspace(d);
  int64_t n = pass == MS_CONV_FORWARD ? d->cout : d->cin, k = pass == MS_CONV_FORWARD ? d->cin : d->cout;
  return (size_t)(ms_bf16_parts(d->weight, MS_F32) * ms_bf16_round(n) * d->kh * d->kw * ms_bf16_round(k)) *
         sizeof(ms_bf16);
}

static int fits(const ms_conv_desc *d) {
  return d->groups == 1 && (int64_t)d->kh * d->kw <= MS_MOST_TAPS && sizeof(ms_real) == sizeof(float);
}

/* Where the processor has no bfloat16 products, float32 ones of rounded operands are faster. */
static int supports(const ms_conv_desc *d, ms_conv_pass pass) {
  (void)pass;
  return d->weight == MS_BF16 && ms_bf16_kernel_best()->level > 0 && fits(d);
}

/* Three to six products in place of one pay where a product is sixteen times as fast. */
static int supports_x3(const ms_conv_desc *d, ms_conv_pass pass) {
  (void)pass;
  return d->weight == MS_F32 && ms_bf16_kernel_best()->level == 2 && fits(d);
}

const ms_conv_engine ms_conv_bf16 = {.name = "bf16",
                                     .deterministic = 1,
                                     .supports = supports,
                                     .workspace = workspace,
                                     .forward = forward,
                                     .input_grad = input_grad,
                                     .weight_grad = ms_bf16_weight_grad};

const ms_conv_engine ms_conv_bf16x3 = {.name = "bf16x3",
                                       .deterministic = 1,
                                       .supports = supports_x3,
                                       .workspace = workspace,
                                       .forward = forward,
                                       .input_grad = input_grad,
                                       .weight_grad = ms_bf16_weight_grad};
