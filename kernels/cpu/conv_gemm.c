/* Dense convolution as a product of implicit matrices (gemm.h): the patches of an image are gathered while they are
** packed, block by block, and bytes of spikes or bfloat16 become reals in the same move.
**
**   forward      y[pixel, co]     = patches(x)[pixel, (tap, ci)] * w'[(tap, ci), co] + bias
**   input grad   dx[pixel, ci]    = patches(dy)[pixel, (tap, co)] * w[(tap, co), ci], for each phase of the stride
**   weight grad  dw[co, (tap,ci)] = dy'[co, pixel] * patches(x)[pixel, (tap, ci)], pixels cut into chunks */
#include "conv.h"
#include "cpu.h"
#include "gemm.h"

/* Rows are (image, y, x), columns (tap y, tap x, channel of the group). */
typedef struct patches {
  ms_data src;
  int64_t rows, c, cg; /* channels of a source pixel, and of one group */
  ms_conv_axis y, x;
} patches;

MS_HD int64_t clamp64(int64_t x, int64_t lo, int64_t hi) {
  return x < lo ? lo : x > hi ? hi : x;
}

/* Columns [lo, hi) of kernel line ty for one row; `at` is the element of the source line's pixel 0, < 0 outside. */
MS_HD void pack_line(const patches *s, ms_panels to, int64_t r, int64_t c, int64_t at, int64_t ix, int64_t lo,
                     int64_t hi) {
  int64_t line = s->x.taps * s->cg;
  if (at < 0) {
    ms_pack_run(to, r, c, s->src, -1, hi - lo);
  } else if (s->x.taps == 1 || (s->x.tap_step == 1 && s->cg == s->c)) { /* taps are neighbours in memory */
    int64_t first = ix < 0 ? ms_min64(-ix * s->cg, line) : 0;
    int64_t last = ix >= s->x.in ? 0 : ms_min64((s->x.in - ix) * s->cg, line);
    int64_t a = clamp64(first, lo, hi), b = clamp64(last, a, hi);
    ms_pack_run(to, r, c, s->src, -1, a - lo);
    ms_pack_run(to, r, c + a - lo, s->src, at + ix * s->c + a, b - a);
    ms_pack_run(to, r, c + b - lo, s->src, -1, hi - b);
  } else {
    for (int64_t t = lo / s->cg; t * s->cg < hi; t++) {
      int64_t a = ms_max64(t * s->cg, lo), b = ms_min64((t + 1) * s->cg, hi), px = ix + t * s->x.tap_step;
      int64_t from = px < 0 || px >= s->x.in ? -1 : at + px * s->c + a - t * s->cg;
      ms_pack_run(to, r, c + a - lo, s->src, from, b - a);
    }
  }
}

/* Rows past the end are zeros, so that a reduction over rows may be cut into equal chunks. */
MS_HD void pack_patches(const patches *s, int64_t group, ms_panels to, int64_t row, int64_t rows, int64_t col,
                        int64_t cols) {
  int64_t line = s->x.taps * s->cg;
  int64_t ox = row % s->x.out, oy = row / s->x.out % s->y.out, image = row / s->x.out / s->y.out;
  for (int64_t r = 0; r < rows; r++) {
    if (row + r >= s->rows) {
      ms_pack_run(to, r, 0, s->src, -1, cols);
      continue;
    }
    int64_t ix = s->x.start + ox * s->x.step;
    for (int64_t ty = col / line; ty * line < col + cols; ty++) {
      int64_t iy = s->y.start + oy * s->y.step + ty * s->y.tap_step;
      int64_t at = iy < 0 || iy >= s->y.in ? -1 : (image * s->y.in + iy) * s->x.in * s->c + group * s->cg;
      int64_t lo = ms_max64(col - ty * line, 0), hi = ms_min64(col + cols - ty * line, line);
      pack_line(s, to, r, ty * line + lo - col, at, ix, lo, hi);
    }
    if (++ox == s->x.out) {
      ox = 0;
      if (++oy == s->y.out) {
        oy = 0;
        image++;
      }
    }
  }
}

/* bfloat16 precision: what was packed from wider values is rounded. */
static MS_HOT void round_panels(ms_panels to, int64_t rows, int64_t cols) {
  for (int64_t c = 0; c < cols; c += to.width)
    for (int64_t r = 0; r < rows; r++)
      ms_round_run(to.p + c / to.width * to.pitch + r * to.width, ms_min64(to.width, cols - c));
}

static void round_packed(const ms_conv_desc *d, ms_data from, ms_panels to, int64_t rows, int64_t cols) {
  if (d->weight == MS_BF16 && from.dtype != MS_BF16)
    round_panels(to, rows, cols);
}

/* The width is passed as a constant, so that the compiler sees it in every division. */
static MS_HOT void gather_raw(const patches *s, int64_t group, ms_panels to, int64_t row, int64_t rows, int64_t col,
                              int64_t cols) {
  if (to.width == MS_NR)
    pack_patches(s, group, (ms_panels){to.p, MS_NR, to.pitch}, row, rows, col, cols);
  else
    pack_patches(s, group, (ms_panels){to.p, MS_APITCH, to.pitch}, row, rows, col, cols);
}

/* ---- common to the passes ---- */

typedef struct conv_job {
  const ms_conv_desc *d;
  const ms_conv_args *a;
  int64_t cig, cog; /* input and output channels of a group */
  patches p;
  int64_t phase_y, phase_x; /* input grad: first pixel of the phase */
  ms_chunks cut;            /* weight grad */
  int swapped;              /* weight grad: partial results are [(tap, ci), co] */
  ms_data partial;
} conv_job;

static void gather(const conv_job *j, const patches *s, int64_t group, ms_panels to, int64_t row, int64_t rows,
                   int64_t col, int64_t cols) {
  gather_raw(s, group, to, row, rows, col, cols);
  round_packed(j->d, s->src, to, rows, cols);
}

static conv_job start_job(const ms_conv_desc *d, const ms_conv_args *a) {
  return (conv_job){.d = d, .a = a, .cig = d->cin / d->groups, .cog = d->cout / d->groups};
}

static ms_conv_axis forward_axis(int64_t in, int64_t out, int pad, int stride, int dilation, int taps) {
  return (ms_conv_axis){in, out, -pad, stride, dilation, taps, 0, 1};
}

static patches input_patches(const conv_job *j) {
  const ms_conv_desc *d = j->d;
  return (patches){.src = j->a->x,
                   .rows = d->n * d->oh * d->ow,
                   .c = d->cin,
                   .cg = j->cig,
                   .y = forward_axis(d->h, d->oh, d->pad_h, d->stride_h, d->dil_h, d->kh),
                   .x = forward_axis(d->w, d->ow, d->pad_w, d->stride_w, d->dil_w, d->kw)};
}

static void pack_patches_a(const ms_product *p, int64_t group, ms_panels to, int64_t r, int64_t rows, int64_t c,
                           int64_t cols) {
  const conv_job *j = p->data;
  gather(j, &j->p, group, to, r, rows, c, cols);
}

/* ---- forward ---- */

static void pack_weight_columns(const ms_product *p, int64_t group, ms_panels to, int64_t r, int64_t rows, int64_t c,
                                int64_t cols) {
  const conv_job *j = p->data;
  ms_pack_columns(to, j->a->weight, (group * j->cog + c) * p->k + r, p->k, rows, cols);
  round_packed(j->d, j->a->weight, to, rows, cols);
}

static void store_output(const ms_product *p, int64_t group, const ms_real *tile, int64_t i, int64_t rows, int64_t j,
                         int64_t cols) {
  const conv_job *job = p->data;
  int64_t c = group * job->cog + j, ldc = job->d->cout;
  ms_store_tile(job->a->y, i * ldc + c, ldc, tile, rows, cols, 1, 0, job->a->bias ? job->a->bias + c : NULL);
}

static ms_status forward(const ms_conv_desc *d, const ms_conv_args *a) {
  conv_job j = start_job(d, a);
  j.p = input_patches(&j);
  return ms_product_run(&(ms_product){.batch = d->groups,
                                      .m = j.p.rows,
                                      .n = j.cog,
                                      .k = d->kh * d->kw * j.cig,
                                      .pack_a = pack_patches_a,
                                      .pack_b = pack_weight_columns,
                                      .store = store_output,
                                      .data = &j});
}

/* ---- input gradient ---- */

/* Inputs i = phase + o * stride read outputs (i + pad - tap * dilation) / stride, for the taps that divide; they are
** walked backwards, so that the outputs run forwards. */
ms_conv_axis ms_conv_phase(int64_t in, int64_t out, int pad, int stride, int dilation, int taps, int64_t phase) {
  ms_conv_axis x = {.in = out, .out = ms_max64(ms_ceil_div(in - phase, stride), 0), .step = 1};
  int inc = 1;
  while ((int64_t)inc * dilation % stride)
    inc++;
  for (int64_t t = taps - 1; t >= 0; t--)
    if ((phase + pad - t * dilation) % stride == 0) {
      if (x.taps++ == 0)
        x.first_tap = t;
    }
  x.tap_inc = -inc;
  x.start = (phase + pad - x.first_tap * dilation) / stride;
  x.tap_step = (int64_t)inc * dilation / stride;
  return x;
}

static MS_HOT void pack_weight_rows(const ms_product *p, int64_t group, ms_panels to, int64_t r, int64_t rows,
                                    int64_t c, int64_t cols) {
  const conv_job *j = p->data;
  const ms_conv_desc *d = j->d;
  int64_t co = r % j->cog, t = r / j->cog;
  for (int64_t i = 0; i < rows; i++) {
    int64_t ky = j->p.y.first_tap + t / j->p.x.taps * j->p.y.tap_inc;
    int64_t kx = j->p.x.first_tap + t % j->p.x.taps * j->p.x.tap_inc;
    int64_t at = (((group * j->cog + co) * d->kh + ky) * d->kw + kx) * j->cig + c;
    ms_pack_run((ms_panels){to.p, MS_NR, to.pitch}, i, 0, j->a->weight, at, cols);
    if (++co == j->cog) {
      co = 0;
      t++;
    }
  }
  round_packed(d, j->a->weight, (ms_panels){to.p, MS_NR, to.pitch}, rows, cols);
}

static void store_input(const ms_product *p, int64_t group, const ms_real *tile, int64_t i, int64_t rows, int64_t j,
                        int64_t cols) {
  const conv_job *job = p->data;
  const ms_conv_desc *d = job->d;
  int64_t c = group * job->cig + j;
  if (d->stride_h == 1 && d->stride_w == 1) {
    ms_store_tile(job->a->x, i * d->cin + c, d->cin, tile, rows, cols, 1, 0, NULL);
    return;
  }
  for (int64_t r = 0; r < rows; r++, tile += MS_NR) {
    int64_t px = (i + r) % job->p.x.out, py = (i + r) / job->p.x.out % job->p.y.out;
    int64_t image = (i + r) / job->p.x.out / job->p.y.out;
    int64_t line = image * d->h + job->phase_y + py * d->stride_h;
    int64_t at = (line * d->w + job->phase_x + px * d->stride_w) * d->cin + c;
    ms_store_tile(job->a->x, at, d->cin, tile, 1, cols, 1, 0, NULL);
  }
}

static ms_status input_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  conv_job j = start_job(d, a);
  ms_status status = MS_OK;
  for (int64_t phase = 0; phase < (int64_t)d->stride_h * d->stride_w && status == MS_OK; phase++) {
    j.phase_y = phase / d->stride_w;
    j.phase_x = phase % d->stride_w;
    j.p = (patches){.src = a->y,
                    .c = d->cout,
                    .cg = j.cog,
                    .y = ms_conv_phase(d->h, d->oh, d->pad_h, d->stride_h, d->dil_h, d->kh, j.phase_y),
                    .x = ms_conv_phase(d->w, d->ow, d->pad_w, d->stride_w, d->dil_w, d->kw, j.phase_x)};
    j.p.rows = d->n * j.p.y.out * j.p.x.out;
    status = ms_product_run(&(ms_product){.batch = d->groups,
                                          .m = j.p.rows,
                                          .n = j.cig,
                                          .k = j.p.y.taps * j.p.x.taps * j.cog,
                                          .pack_a = pack_patches_a,
                                          .pack_b = pack_weight_rows,
                                          .store = store_input,
                                          .data = &j});
  }
  return status;
}

/* ---- weight gradient ---- */

static void pack_chunk_patches(const ms_product *p, int64_t batch, ms_panels to, int64_t r, int64_t rows, int64_t c,
                               int64_t cols) {
  const conv_job *j = p->data;
  gather(j, &j->p, batch % j->d->groups, to, batch / j->d->groups * j->cut.size + r, rows, c, cols);
}

/* dL/dy as patches of one tap. */
static void pack_chunk_outputs(const ms_product *p, int64_t batch, ms_panels to, int64_t r, int64_t rows, int64_t c,
                               int64_t cols) {
  const conv_job *j = p->data;
  ms_conv_axis one = {1, 1, 0, 1, 1, 1, 0, 1};
  patches y = {j->a->y, j->p.rows, j->d->cout, j->cog, one, one};
  gather(j, &y, batch % j->d->groups, to, batch / j->d->groups * j->cut.size + r, rows, c, cols);
}

static void store_partial(const ms_product *p, int64_t batch, const ms_real *tile, int64_t i, int64_t rows, int64_t j,
                          int64_t cols) {
  const conv_job *job = p->data;
  ms_store_tile(job->partial, (batch * p->m + i) * p->n + j, p->n, tile, rows, cols, 1, 0, NULL);
}

/* Adds elements [at, at + n) of all chunks in order, into the first. */
static MS_HOT void sum_chunks(ms_real *restrict first, int64_t size, int64_t chunks, int64_t at, int64_t n) {
  for (int64_t chunk = 1; chunk < chunks; chunk++) {
    const ms_real *restrict from = first + chunk * size;
    MS_SIMD
    for (int64_t i = at; i < at + n; i++)
      first[i] += from[i];
  }
}

/* Writes the weights of one output channel from the sum of the chunks. */
static MS_HOT void store_weights(const conv_job *j, int64_t co, int64_t k) {
  int64_t group = co / j->cog, o = co % j->cog, inc = j->swapped ? j->cog : 1;
  const ms_real *from = (const ms_real *)j->partial.p + group * j->cog * k + (j->swapped ? o : o * k);
  for (int64_t k0 = 0; k0 < k; k0 += MS_NR) {
    ms_real row[MS_NR];
    int64_t n = ms_min64(MS_NR, k - k0);
    for (int64_t i = 0; i < n; i++)
      row[i] = from[(k0 + i) * inc];
    ms_store_tile(j->a->weight, co * k + k0, k, row, 1, n, 1, 0, NULL);
  }
}

/* What a product of m rows and n columns costs in full tiles. */
static int64_t padded(int64_t m, int64_t n) {
  return ms_ceil_div(m, MS_MR) * ms_ceil_div(n, MS_NR);
}

static void cut_weight_grad(const ms_conv_desc *d, conv_job *j) {
  int64_t k = d->kh * d->kw * j->cig;
  j->cut = ms_cut_chunks(d->n * d->oh * d->ow, 512, d->cout * k);
  /* One chunk goes straight into the weights, unless most of every tile would be empty. */
  int64_t direct = padded(j->cog, k), swapped = padded(k, j->cog);
  j->swapped = (j->cut.chunks > 1 ? swapped : 2 * swapped) < direct;
}

static int needs_partial(const conv_job *j) {
  return j->swapped || j->cut.chunks > 1;
}

static ms_status weight_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  conv_job j = start_job(d, a);
  cut_weight_grad(d, &j);
  j.p = input_patches(&j);
  j.partial = needs_partial(&j) ? (ms_data){a->workspace, MS_F32, 1} : a->weight;
  int64_t k = d->kh * d->kw * j.cig;
  ms_status status = ms_product_run(&(ms_product){.batch = j.cut.chunks * d->groups,
                                                  .m = j.swapped ? k : j.cog,
                                                  .n = j.swapped ? j.cog : k,
                                                  .k = j.p.rows ? j.cut.size : 0,
                                                  .a_transposed = 1,
                                                  .pack_a = j.swapped ? pack_chunk_patches : pack_chunk_outputs,
                                                  .pack_b = j.swapped ? pack_chunk_outputs : pack_chunk_patches,
                                                  .store = store_partial,
                                                  .data = &j});
  if (status == MS_OK && needs_partial(&j)) {
    int64_t size = d->cout * k, piece = 1024;
    ms_parallel_for(i, ms_ceil_div(size, piece), piece * j.cut.chunks)
        sum_chunks(j.partial.p, size, j.cut.chunks, i * piece, ms_min64(piece, size - i * piece));
    ms_parallel_for(co, d->cout, k) store_weights(&j, co, k);
  }
  if (status == MS_OK && a->bias)
    status = ms_bias_grad(a->bias, a->y, j.p.rows, d->cout, a->workspace);
  return status;
}

static size_t workspace(const ms_conv_desc *d, ms_conv_pass pass) {
  if (pass != MS_CONV_WEIGHT_GRAD)
    return 0;
  conv_job j = start_job(d, NULL);
  cut_weight_grad(d, &j);
  int64_t k = d->kh * d->kw * j.cig;
  size_t partial = needs_partial(&j) ? (size_t)(j.cut.chunks * d->cout * k) * sizeof(ms_real) : 0;
  size_t bias = ms_bias_grad_size(d->n * d->oh * d->ow, d->cout);
  return partial > bias ? partial : bias;
}

static int supports(const ms_conv_desc *d, ms_conv_pass pass) {
  (void)d;
  (void)pass;
  return 1;
}

const ms_conv_engine ms_conv_gemm = {"gemm", 1, supports, workspace, forward, input_grad, weight_grad};
