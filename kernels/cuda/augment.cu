/* Samples of a set in memory, moved by their programs and normalised: a thread for each output pixel walks its frames. */
#include "cut.h"

__global__ void __launch_bounds__(MS_BLOCK) augment_kernel(const __grid_constant__ ms_augment_args a) {
  int64_t pixels = a.h * a.w, to = ms_thread(), i = ms_quotient(to, pixels), from = to - i * pixels;
  if (i >= a.n)
    return;
  int64_t at = a.index ? a.index[i] : i, frame = pixels * a.c;
  bool there = at >= 0 && at < a.samples;
  if (!there)
    *a.bad = 1;
  if (there && a.programs) {
    int32_t y = (int32_t)ms_quotient(from, a.w);
    from = ms_augment_source(&a.programs[i], (int32_t)a.h, (int32_t)a.w, y, (int32_t)(from - y * a.w));
  }
  bool shown = there && from >= 0;
  int64_t x = shown ? at * a.steps * frame + from * a.c : 0;
  ms_real *y = a.y + to * a.c;
  for (int64_t t = 0; t < a.steps; t++, x += frame, y += a.y_step)
    for (int64_t k = 0; k < a.c; k++)
      y[k] = a.x.dtype == MS_U8 ? a.bytes[k * 256 + (shown ? ((const uint8_t *)a.x.p)[x + k] : 0)]
                                : ((shown ? ((const float *)a.x.p)[x + k] : 0.0f) - a.mean[k]) / a.std[k];
}

ms_status ms_cuda_augment(ms_stream *s, const ms_augment_args *a) {
  int64_t pixels = a->n * a->h * a->w;
  if (pixels * a->steps * a->c == 0)
    return MS_OK;
  MS_TRY(ms_cuda_enter(s));
  LAUNCH(augment_kernel, ms_grid(pixels), MS_BLOCK, 0, s->id, *a);
  return ms_cuda_launched(s, "augment");
}
