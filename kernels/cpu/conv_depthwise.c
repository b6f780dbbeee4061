/* Depthwise convolution, one filter for each channel: vectors of channels instead of a matrix product. */
#include "conv.h"
#include "gemm.h"

enum { LANES = MS_NR };

/* n values from element `at` on, as the precision wants them. */
MS_HD void take(const ms_conv_desc *d, ms_real *to, ms_data x, int64_t at, int64_t n) {
  ms_unpack(to, x, at, n);
  if (d->weight == MS_BF16 && x.dtype != MS_BF16)
    ms_round_run(to, n);
}

/* The workspace holds weights, or a gradient of them for each chunk of output lines, as [tap, c]. */
static ms_chunks cut_lines(const ms_conv_desc *d) {
  return ms_cut_chunks(d->n * d->oh, 4, d->kh * d->kw * d->cin);
}

static size_t workspace(const ms_conv_desc *d, ms_conv_pass pass) {
  size_t weights = (size_t)(d->kh * d->kw * d->cin) * sizeof(ms_real);
  if (pass != MS_CONV_WEIGHT_GRAD)
    return weights;
  size_t partial = (size_t)cut_lines(d).chunks * weights, bias = ms_bias_grad_size(d->n * d->oh * d->ow, d->cout);
  return partial > bias ? partial : bias;
}

static void spread_weights(const ms_conv_desc *d, const ms_conv_args *a) {
  ms_real *to = a->workspace;
  int64_t taps = d->kh * d->kw;
  for (int64_t c = 0; c < d->cin; c++)
    for (int64_t t = 0; t < taps; t++)
      take(d, to + t * d->cin + c, a->weight, c * taps + t, 1);
}

/* The element of channel 0 that output (oy, ox) of a line reads through tap (ky, kx), negative outside the image. */
MS_HD int64_t source(const ms_conv_desc *d, int64_t line, int64_t ox, int ky, int kx) {
  int64_t iy = line % d->oh * d->stride_h - d->pad_h + (int64_t)ky * d->dil_h;
  int64_t ix = ox * d->stride_w - d->pad_w + (int64_t)kx * d->dil_w;
  if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w)
    return -1;
  return ((line / d->oh * d->h + iy) * d->w + ix) * d->cin;
}

/* The element of channel 0 of the output that reads input (image, iy, ix) through tap (ky, kx), negative for none. */
MS_HD int64_t target(const ms_conv_desc *d, int64_t line, int64_t ix, int ky, int kx) {
  int64_t y = line % d->h + d->pad_h - (int64_t)ky * d->dil_h, x = ix + d->pad_w - (int64_t)kx * d->dil_w;
  if (y < 0 || x < 0 || y % d->stride_h || x % d->stride_w || y / d->stride_h >= d->oh || x / d->stride_w >= d->ow)
    return -1;
  return ((line / d->h * d->oh + y / d->stride_h) * d->ow + x / d->stride_w) * d->cin;
}

/* sum += w * value of x[at...], n lanes. */
MS_HD void add_product(const ms_conv_desc *d, ms_real *restrict sum, const ms_real *restrict w, ms_data x, int64_t at,
                       int64_t n) {
  ms_real part[LANES];
  take(d, part, x, at, n);
  MS_SIMD
  for (int64_t i = 0; i < n; i++)
    sum[i] += w[i] * part[i];
}

/* One line of y from x, or (back) of dx from dy: both gather. */
MS_HD void gather_line(const ms_conv_desc *d, const ms_conv_args *a, int64_t line, int back) {
  const ms_real *w = a->workspace, *bias = back ? NULL : a->bias;
  ms_data from = back ? a->y : a->x, to = back ? a->x : a->y;
  int64_t width = back ? d->w : d->ow;
  for (int64_t px = 0; px < width; px++)
    for (int64_t c = 0; c < d->cin; c += LANES) {
      int64_t n = ms_min64(LANES, d->cin - c);
      ms_real sum[LANES] = {0};
      for (int ky = 0; ky < d->kh; ky++)
        for (int kx = 0; kx < d->kw; kx++) {
          int64_t at = back ? target(d, line, px, ky, kx) : source(d, line, px, ky, kx);
          if (at >= 0)
            add_product(d, sum, w + (ky * d->kw + kx) * d->cin + c, from, at + c, n);
        }
      ms_store_tile(to, (line * width + px) * d->cin + c, 0, sum, 1, n, 1, 0, bias ? bias + c : NULL);
    }
}

static MS_HOT void forward_line(const ms_conv_desc *d, const ms_conv_args *a, int64_t line) {
  gather_line(d, a, line, 0);
}

static MS_HOT void input_grad_line(const ms_conv_desc *d, const ms_conv_args *a, int64_t line) {
  gather_line(d, a, line, 1);
}

static ms_status forward(const ms_conv_desc *d, const ms_conv_args *a) {
  spread_weights(d, a);
  ms_parallel_for(line, d->n * d->oh, d->ow * d->cin * d->kh * d->kw) forward_line(d, a, line);
  return MS_OK;
}

static ms_status input_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  spread_weights(d, a);
  ms_parallel_for(line, d->n * d->h, d->w * d->cin * d->kh * d->kw) input_grad_line(d, a, line);
  return MS_OK;
}

static MS_HOT void weight_grad_chunk(const ms_conv_desc *d, const ms_conv_args *a, ms_real *sum, int64_t line,
                                     int64_t end) {
  memset(sum, 0, (size_t)(d->kh * d->kw * d->cin) * sizeof *sum);
  for (; line < end; line++)
    for (int64_t ox = 0; ox < d->ow; ox++)
      for (int64_t c = 0; c < d->cin; c += LANES) {
        int64_t n = ms_min64(LANES, d->cin - c);
        ms_real g[LANES];
        take(d, g, a->y, (line * d->ow + ox) * d->cin + c, n);
        for (int ky = 0; ky < d->kh; ky++)
          for (int kx = 0; kx < d->kw; kx++) {
            int64_t at = source(d, line, ox, ky, kx);
            if (at >= 0)
              add_product(d, sum + (ky * d->kw + kx) * d->cin + c, g, a->x, at + c, n);
          }
      }
}

static ms_status weight_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  ms_chunks cut = cut_lines(d);
  int64_t lines = d->n * d->oh, taps = d->kh * d->kw, size = taps * d->cin;
  ms_real *partial = a->workspace;
  ms_parallel_for(i, cut.chunks, cut.size * d->ow * size)
      weight_grad_chunk(d, a, partial + i * size, i * cut.size, ms_min64((i + 1) * cut.size, lines));
  for (int64_t c = 0; c < d->cin; c++)
    for (int64_t t = 0; t < taps; t++) {
      ms_real sum = 0;
      for (int64_t i = 0; i < cut.chunks; i++)
        sum += partial[i * size + t * d->cin + c];
      ms_store_tile(a->weight, c * taps + t, 0, &sum, 1, 1, 1, 0, NULL);
    }
  return a->bias ? ms_bias_grad(a->bias, a->y, lines * d->ow, d->cout, partial) : MS_OK;
}

static int supports(const ms_conv_desc *d, ms_conv_pass pass) {
  (void)pass;
  return d->groups == d->cin && d->cin == d->cout;
}

const ms_conv_engine ms_conv_depthwise = {"depthwise", 1, supports, workspace, forward, input_grad, weight_grad};
