/* Dense convolution of bfloat16 operands with float32 sums: see conv_bf16.h for the layout, bf16_tile.h for the
** product. Forward and input gradient; the weight gradient is in conv_bf16_grad.c. */
#include "conv_bf16.h"
#include "bits.h"
#include "gemm.h"

enum {
  BLOCK = MS_BF16_BLOCK,
  GROUP_BYTES = 512 * 1024, /* planes of the images of one task: a part of the second level cache */
  GROUPS = 8                /* at least as many tasks where there are as many images */
};

/* ---- conversion ---- */

static MS_HOT void convert(ms_bf16 *restrict to, ms_data x, int64_t at, int64_t n) {
  if (x.dtype == MS_BITS) { /* at and n are multiples of 8: whole pixels */
    const uint8_t *from = (const uint8_t *)x.p + at / 8;
    uint16_t one = ms_bf16_from((float)x.scale).bits;
    for (int64_t i = 0; i < n / 8; i++)
      *(ms_bf16_eight *)&to[8 * i] = ms_bf16_bits(from[i], one);
  } else if (x.dtype == MS_F32) {
    const ms_real *from = (const ms_real *)x.p + at;
    MS_SIMD
    for (int64_t i = 0; i < n; i++)
      to[i] = ms_bf16_from((float)from[i]);
  } else {
    const uint8_t *from = (const uint8_t *)x.p + at;
    float scale = (float)x.scale;
    MS_SIMD
    for (int64_t i = 0; i < n; i++)
      to[i] = ms_bf16_from((float)from[i] * scale);
  }
}

void ms_bf16_convert(ms_bf16 *to, ms_data x, int64_t at, int64_t n) {
  if (x.dtype == MS_BF16)
    memcpy(to, (const ms_bf16 *)x.p + at, (size_t)n * sizeof *to);
  else
    convert(to, x, at, n);
}

/* ---- planes ---- */

MS_HD int64_t floor_div(int64_t a, int64_t b) {
  return a >= 0 ? a / b : -((b - 1 - a) / b);
}

/* One axis: tap t reads position o + shift[t] of plane phase[t] for output o. */
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

/* Input gradient: input phase + i * stride reads output i + shift[t], where phase[t] is the phase of tap t. */
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

/* ---- one product: outputs are gathered from planes of a source ---- */

typedef struct product {
  const ms_conv_desc *d;
  ms_planes p;
  ms_data src, out; /* out may be strided by phases */
  const ms_real *bias;
  int64_t src_h, src_w, src_c, depth;       /* depth: src_c rounded up to a block */
  int64_t planes_h, planes_w;               /* phases of the source */
  int64_t out_h, out_w, out_c;              /* of the whole output */
  int64_t step_h, step_w, phase_h, phase_w; /* outputs of this product: phase + i * step */
  int64_t ntaps, all_taps;
  ms_tap taps[MS_MOST_TAPS];
  const ms_bf16 *weight; /* [block of out_c][tap ky, kx][depth / 2][32][2] */
  int64_t images;        /* of a task */
  ms_bf16_block_fn block;
} product;

/* Writes the planes of `images` images from `first` on; every position of the planes, zeros included. */
static void fill_planes(const product *p, ms_bf16 *to, int64_t first, int64_t images) {
  const ms_planes *g = &p->p;
  int64_t size = ms_plane_size(g, p->images) * p->depth;
  for (int64_t plane = 0; plane < p->planes_h * p->planes_w; plane++, to += size) {
    int64_t py = plane / p->planes_w, px = plane % p->planes_w, at = 0;
    for (int64_t i = 0; i < images; i++)
      for (int64_t y = 0; y < g->lines; y++) {
        int64_t iy = y * p->planes_h + py;
        int64_t from = (i * ms_plane_image(g) + ms_plane_first(g) + y * g->pitch) * p->depth;
        if (iy >= p->src_h)
          break;
        memset(to + at, 0, (size_t)(from - at) * sizeof *to);
        at = from;
        int64_t line = ((first + i) * p->src_h + iy) * p->src_w;
        if (p->planes_w == 1 && p->depth == p->src_c) {
          ms_bf16_convert(to + at, p->src, line * p->src_c, p->src_w * p->src_c);
          at += p->src_w * p->depth;
          continue;
        }
        for (int64_t ix = px; ix < p->src_w; ix += p->planes_w, at += p->depth) {
          ms_bf16_convert(to + at, p->src, (line + ix) * p->src_c, p->src_c);
          memset(to + at + p->src_c, 0, (size_t)(p->depth - p->src_c) * sizeof *to);
        }
      }
    memset(to + at, 0, (size_t)(size - at) * sizeof *to);
  }
}

/* Rows of a finished block that are real outputs. */
static MS_HOT void store_block(const product *p, const float *c, int64_t first, int64_t images, int64_t m, int64_t n) {
  const ms_planes *g = &p->p;
  int64_t cols = ms_min64(BLOCK, p->out_c - n), line = m / g->pitch, x = m % g->pitch - g->left;
  int64_t image = line / (g->lines + g->top), y = line % (g->lines + g->top) - g->top;
  const ms_real *bias = p->bias ? p->bias + n : NULL;
  for (int r = 0; r < BLOCK && image < images; r++, c += BLOCK) {
    int64_t oy = y * p->step_h + p->phase_h, ox = x * p->step_w + p->phase_w;
    if (y >= 0 && x >= 0 && oy < p->out_h && ox < p->out_w) {
      int64_t at = (((first + image) * p->out_h + oy) * p->out_w + ox) * p->out_c + n;
      if (p->out.dtype == MS_F32) {
        ms_real *to = (ms_real *)p->out.p + at;
        for (int64_t j = 0; j < cols; j++)
          to[j] = c[j] + (bias ? bias[j] : 0);
      } else {
        ms_bf16 *to = (ms_bf16 *)p->out.p + at;
        for (int64_t j = 0; j < cols; j++)
          to[j] = ms_bf16_from((float)(c[j] + (bias ? bias[j] : 0)));
      }
    }
    if (++x == g->cols) {
      x = -g->left;
      if (++y == g->lines) {
        y = -g->top;
        image++;
      }
    }
  }
}

static int run_images(const product *p, int64_t first) {
  int64_t images = ms_min64(p->images, p->d->n - first), size = ms_plane_size(&p->p, p->images) * p->depth;
  ms_bf16 *planes = ms_cpu_scratch(1, (size_t)(p->planes_h * p->planes_w * size) * sizeof *planes);
  if (!planes)
    return 0;
  fill_planes(p, planes, first, images);
  int64_t from = ms_plane_first(&p->p), end = images * ms_plane_image(&p->p);
  ms_bf16_run runs[MS_MOST_TAPS];
  _Alignas(64) float c[BLOCK * BLOCK];
  for (int64_t n = 0; n < p->out_c; n += BLOCK)
    for (int64_t m = from; m < end; m += BLOCK) {
      for (int64_t t = 0; t < p->ntaps; t++) {
        const ms_tap *tap = p->taps + t;
        int64_t w = n / BLOCK * p->all_taps + tap->ky * p->d->kw + tap->kx;
        runs[t] = (ms_bf16_run){planes + tap->plane * size + (m + tap->offset) * p->depth,
                                p->weight + w * p->depth * BLOCK, p->depth, p->depth};
      }
      p->block(c, 1, runs, p->ntaps);
      store_block(p, c, first, images, m, n);
    }
  return 1;
}

static ms_status run_product(product *p) {
  int fast, failed = 0;
  int64_t image = p->planes_h * p->planes_w * ms_plane_image(&p->p) * p->depth * (int64_t)sizeof(ms_bf16);
  p->block = ms_bf16_block(&fast);
  p->images = ms_max64(1, ms_min64(GROUP_BYTES / ms_max64(image, 1), p->d->n / GROUPS));
  int64_t cost = p->images * ms_plane_image(&p->p) * p->out_c * p->ntaps * p->depth / 64;
  ms_parallel_for(i, ms_ceil_div(p->d->n, p->images), cost) {
    if (!run_images(p, i * p->images)) {
#pragma omp atomic write
      failed = 1;
    }
  }
  return failed ? MS_EMEM : MS_OK;
}

/* ---- weights ---- */

/* [tap][depth / 2][32][2] for outputs [n, n + 32): element (k, j) of a tap is weight k of output n + j. */
static MS_HOT void pack_weights(const ms_conv_desc *d, ms_data w, int transposed, ms_bf16 *to, int64_t n) {
  int64_t taps = (int64_t)d->kh * d->kw, nc = transposed ? d->cin : d->cout, kc = transposed ? d->cout : d->cin;
  int64_t depth = ms_bf16_round(kc), cols = ms_min64(BLOCK, nc - n);
  memset(to, 0, (size_t)(taps * depth * BLOCK) * sizeof *to);
  for (int64_t co = transposed ? 0 : n; co < (transposed ? kc : n + cols); co++)
    for (int64_t t = 0; t < taps; t++)
      for (int64_t ci = transposed ? n : 0; ci < (transposed ? n + cols : kc); ci++) {
        int64_t at = (co * taps + t) * d->cin + ci, k = transposed ? co : ci, j = (transposed ? ci : co) - n;
        ms_bf16 value =
            w.dtype == MS_BF16 ? ((const ms_bf16 *)w.p)[at] : ms_bf16_from((float)((const ms_real *)w.p)[at]);
        to[(t * depth + k / 2 * 2) * BLOCK + 2 * j + k % 2] = value;
      }
}

static const ms_bf16 *packed_weights(const ms_conv_desc *d, const ms_conv_args *a, int transposed) {
  int64_t nc = transposed ? d->cin : d->cout, kc = transposed ? d->cout : d->cin;
  int64_t block = (int64_t)d->kh * d->kw * ms_bf16_round(kc) * BLOCK;
  ms_parallel_for(i, ms_ceil_div(nc, BLOCK), block)
      pack_weights(d, a->weight, transposed, (ms_bf16 *)a->workspace + i * block, i * BLOCK);
  return a->workspace;
}

/* ---- the passes ---- */

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
               .ntaps = (int64_t)d->kh * d->kw};
  p.all_taps = p.ntaps;
  p.p = ms_input_planes(d, p.taps);
  p.weight = packed_weights(d, a, 0);
  return run_product(&p);
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
               .all_taps = (int64_t)d->kh * d->kw,
               .weight = packed_weights(d, a, 1)};
  ms_status status = MS_OK;
  for (p.phase_h = 0; p.phase_h < d->stride_h; p.phase_h++)
    for (p.phase_w = 0; p.phase_w < d->stride_w && status == MS_OK; p.phase_w++) {
      p.ntaps = 0;
      for (int64_t ky = 0; ky < d->kh; ky++)
        for (int64_t kx = 0; kx < d->kw; kx++)
          if (y.phase[ky] == p.phase_h && x.phase[kx] == p.phase_w)
            p.taps[p.ntaps++] = (ms_tap){0, y.shift[ky] * p.p.pitch + x.shift[kx], ky, kx};
      status = run_product(&p);
    }
  return status;
}

static size_t workspace(const ms_conv_desc *d, ms_conv_pass pass) {
  if (pass == MS_CONV_WEIGHT_GRAD)
    return ms_bf16_weight_grad_workspace(d);
  int64_t n = pass == MS_CONV_FORWARD ? d->cout : d->cin, k = pass == MS_CONV_FORWARD ? d->cin : d->cout;
  return (size_t)(ms_bf16_round(n) * d->kh * d->kw * ms_bf16_round(k)) * sizeof(ms_bf16);
}

/* Where the processor has no bfloat16 products, float32 ones of rounded operands are faster. */
static int supports(const ms_conv_desc *d, ms_conv_pass pass) {
  (void)pass;
  int fast;
  ms_bf16_block(&fast);
  return fast && d->weight == MS_BF16 && d->groups == 1 && (int64_t)d->kh * d->kw <= MS_MOST_TAPS &&
         sizeof(ms_real) == sizeof(float);
}

const ms_conv_engine ms_conv_bf16 = {.name = "bf16",
                                     .deterministic = 1,
                                     .supports = supports,
                                     .workspace = workspace,
                                     .forward = forward,
                                     .input_grad = input_grad,
                                     .weight_grad = ms_bf16_weight_grad};
