/* Grouped convolution with few channels in each group, where products of matrices would be mostly empty: a thread makes
** one channel of one position. */
#include "conv.h"

namespace {

/* Bytes of partial weight gradients. */
enum { PARTIAL = 8 << 20 };

/* As operands of this precision. */
MS_DEVICE float take(ms_data x, int64_t i, int round) {
  float v = ms_get(x, i);
  return round ? ms_bf16_to(ms_bf16_from(v)) : v;
}

/* to [tap][channel of the input's group][cout] or, back, [tap][channel of the output's group][cin], so that neighbours
** read neighbours. */
__global__ void turn(float *to, ms_data w, ms_conv_desc d, int64_t n, int back) {
  int64_t i = ms_thread();
  if (i >= n)
    return;
  int taps = d.kh * d.kw, cig = (int)(d.cin / d.groups), cog = (int)(d.cout / d.groups);
  int64_t across = back ? d.cin : d.cout, c = i % across, tap = i / across / (back ? cog : cig);
  int inner = (int)(i / across % (back ? cog : cig));
  int64_t co = back ? c / cig * cog + inner : c, ci = back ? c % cig : inner;
  to[i] = take(w, (co * taps + tap) * cig + ci, d.weight == MS_BF16 && w.dtype != MS_BF16);
}

__global__ void forward_kernel(ms_data y, ms_data x, const float *w, const float *bias, ms_conv_desc d, int64_t n) {
  int64_t i = ms_thread();
  if (i >= n)
    return;
  int cig = (int)(d.cin / d.groups), cog = (int)(d.cout / d.groups);
  int round = d.weight == MS_BF16 && x.dtype != MS_BF16;
  int64_t pixel = i / d.cout, ox = pixel % d.ow, oy = pixel / d.ow % d.oh, image = pixel / d.ow / d.oh;
  int co = (int)(i - pixel * d.cout), first = co / cog * cig;
  float sum = 0;
  for (int ky = 0; ky < d.kh; ky++) {
    int64_t iy = oy * d.stride_h - d.pad_h + (int64_t)ky * d.dil_h;
    if (iy < 0 || iy >= d.h)
      continue;
    for (int kx = 0; kx < d.kw; kx++) {
      int64_t ix = ox * d.stride_w - d.pad_w + (int64_t)kx * d.dil_w;
      if (ix < 0 || ix >= d.w)
        continue;
      int64_t at = ((image * d.h + iy) * d.w + ix) * d.cin + first;
      const float *from = w + (int64_t)(ky * d.kw + kx) * cig * d.cout + co;
      for (int c = 0; c < cig; c++)
        sum = fmaf(take(x, at + c, round), from[c * d.cout], sum);
    }
  }
  ms_put(y, i, bias ? sum + bias[co] : sum);
}

__global__ void input_grad_kernel(ms_data dx, ms_data dy, const float *w, ms_conv_desc d, int64_t n) {
  int64_t i = ms_thread();
  if (i >= n)
    return;
  int cig = (int)(d.cin / d.groups), cog = (int)(d.cout / d.groups);
  int round = d.weight == MS_BF16 && dy.dtype != MS_BF16;
  int64_t pixel = i / d.cin, ix = pixel % d.w, iy = pixel / d.w % d.h, image = pixel / d.w / d.h;
  int ci = (int)(i - pixel * d.cin), first = ci / cig * cog;
  float sum = 0;
  for (int ky = 0; ky < d.kh; ky++) {
    int64_t oy = iy + d.pad_h - (int64_t)ky * d.dil_h;
    if (oy < 0 || oy % d.stride_h || oy / d.stride_h >= d.oh)
      continue;
    for (int kx = 0; kx < d.kw; kx++) {
      int64_t ox = ix + d.pad_w - (int64_t)kx * d.dil_w;
      if (ox < 0 || ox % d.stride_w || ox / d.stride_w >= d.ow)
        continue;
      int64_t at = ((image * d.oh + oy / d.stride_h) * d.ow + ox / d.stride_w) * d.cout + first;
      const float *from = w + (int64_t)(ky * d.kw + kx) * cog * d.cin + ci;
      for (int o = 0; o < cog; o++)
        sum = fmaf(take(dy, at + o, round), from[o * d.cin], sum);
    }
  }
  ms_put(dx, i, sum);
}

/* part [chunk][tap][ci][cout]: the sum over the output positions of a chunk, one thread a weight. */
__global__ void weight_grad_kernel(float *part, ms_data x, ms_data dy, ms_conv_desc d, int64_t n, int64_t rows,
                                   int64_t chunk) {
  int64_t i = ms_thread();
  if (i >= n)
    return;
  int cig = (int)(d.cin / d.groups), cog = (int)(d.cout / d.groups);
  int round_x = d.weight == MS_BF16 && x.dtype != MS_BF16, round_y = d.weight == MS_BF16 && dy.dtype != MS_BF16;
  int64_t co = i % d.cout, c = i / d.cout % cig, tap = i / d.cout / cig, ky = tap / d.kw, kx = tap % d.kw;
  int64_t row = (int64_t)blockIdx.y * chunk, end = row + chunk < rows ? row + chunk : rows;
  int64_t ox = row % d.ow, oy = row / d.ow % d.oh, image = row / d.ow / d.oh;
  int64_t channel = co / cog * cig + c;
  float sum = 0;
  for (; row < end; row++) {
    int64_t iy = oy * d.stride_h - d.pad_h + ky * d.dil_h, ix = ox * d.stride_w - d.pad_w + kx * d.dil_w;
    if (iy >= 0 && iy < d.h && ix >= 0 && ix < d.w)
      sum = fmaf(take(dy, row * d.cout + co, round_y),
                 take(x, ((image * d.h + iy) * d.w + ix) * d.cin + channel, round_x), sum);
    if (++ox == d.ow) {
      ox = 0;
      if (++oy == d.oh) {
        oy = 0;
        image++;
      }
    }
  }
  part[blockIdx.y * n + i] = sum;
}

/* dw [cout][tap][ci] from the chunks [tap][ci][cout], in order. */
__global__ void sum_weights(ms_data dw, const float *part, int64_t chunks, int64_t n, int64_t cout) {
  int64_t i = ms_thread();
  if (i >= n)
    return;
  float sum = 0;
  for (int64_t k = 0; k < chunks; k++)
    sum += part[k * n + i];
  ms_put(dw, i % cout * (n / cout) + i / cout, sum);
}

} // namespace

/* As many chunks as fill a large device with threads. */
static ms_chunks cut_rows(const ms_conv_desc *d) {
  int64_t weights = ms_conv_weights(d), fit = PARTIAL / (weights * (int64_t)sizeof(float)), want = (1 << 19) / weights;
  int64_t most = fit < want ? fit : want;
  return ms_chunks_of(ms_conv_rows(d), 32, most < 1 ? 1 : most > 1024 ? 1024 : most);
}

static int supports(const ms_conv_plan *p, ms_conv_pass pass) {
  (void)pass;
  const ms_conv_desc *d = &p->d;
  return d->groups > 1 && d->cin / d->groups <= 8 && d->cout / d->groups <= 8;
}

static size_t workspace(const ms_conv_plan *p, ms_conv_pass pass) {
  const ms_conv_desc *d = &p->d;
  int64_t weights = ms_conv_weights(d), rows = ms_conv_rows(d);
  if (weights == 0 || rows == 0)
    return 0;
  if (pass != MS_CONV_WEIGHT_GRAD)
    return ms_piece(weights, sizeof(float));
  size_t partial = ms_piece(cut_rows(d).chunks * weights, sizeof(float)), bias = ms_conv_bias_room(rows, d->cout);
  return partial > bias ? partial : bias;
}

static ms_status turn_weights(ms_stream *s, const ms_conv_desc *d, const ms_conv_args *a, int back) {
  int64_t n = ms_conv_weights(d);
  LAUNCH(turn, ms_grid(n), MS_BLOCK, 0, s->id, (float *)a->workspace, a->weight, *d, n, back);
  return ms_cuda_launched(s, "turn");
}

static ms_status forward(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a) {
  const ms_conv_desc *d = &p->d;
  int64_t n = ms_conv_rows(d) * d->cout;
  MS_TRY(turn_weights(s, d, a, 0));
  LAUNCH(forward_kernel, ms_grid(n), MS_BLOCK, 0, s->id, a->y, a->x, (const float *)a->workspace,
         (const float *)a->bias, *d, n);
  return ms_cuda_launched(s, "forward_kernel");
}

static ms_status input_grad(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a) {
  const ms_conv_desc *d = &p->d;
  int64_t n = ms_conv_inputs(d);
  MS_TRY(turn_weights(s, d, a, 1));
  LAUNCH(input_grad_kernel, ms_grid(n), MS_BLOCK, 0, s->id, a->x, a->y, (const float *)a->workspace, *d, n);
  return ms_cuda_launched(s, "input_grad_kernel");
}

static ms_status weight_grad(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a) {
  const ms_conv_desc *d = &p->d;
  int64_t n = ms_conv_weights(d), rows = ms_conv_rows(d);
  ms_chunks cut = cut_rows(d);
  float *part = (float *)a->workspace;
  dim3 grid((unsigned)ms_div_up(n, MS_BLOCK), (unsigned)cut.chunks);
  LAUNCH(weight_grad_kernel, grid, MS_BLOCK, 0, s->id, part, a->x, a->y, *d, n, rows, cut.size);
  MS_TRY(ms_cuda_launched(s, "weight_grad_kernel"));
  LAUNCH(sum_weights, ms_grid(n), MS_BLOCK, 0, s->id, a->weight, (const float *)part, cut.chunks, n, d->cout);
  MS_TRY(ms_cuda_launched(s, "sum_weights"));
  return a->bias ? ms_conv_bias_grad(s, a->bias, a->y, rows, d->cout, part) : MS_OK;
}

const ms_conv_engine ms_conv_depthwise = {"depthwise", supports, workspace, {forward, input_grad, weight_grad}};
