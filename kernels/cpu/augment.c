/* Samples of a set in memory, moved by their programs and normalised. */
#include "cpu.h"
#include "parallel.h"

/* A frame as it comes out: pixel i shows pixel from[i], or zero where that is -1. */
MS_HD void bytes_frame(const ms_augment_args *a, ms_real *y, const uint8_t *x, const int64_t *from, int64_t c) {
  for (int64_t i = 0; i < a->h * a->w; i++, y += c)
    for (int64_t k = 0; k < c; k++)
      y[k] = a->bytes[k * 256 + (from[i] < 0 ? 0 : x[from[i] * c + k])];
}

/* The usual numbers of channels as constants. */
MS_HOT static void bytes_of(const ms_augment_args *a, ms_real *y, const uint8_t *x, const int64_t *from) {
  switch (a->c) {
  case 1:
    bytes_frame(a, y, x, from, 1);
    break;
  case 2:
    bytes_frame(a, y, x, from, 2);
    break;
  case 3:
    bytes_frame(a, y, x, from, 3);
    break;
  default:
    bytes_frame(a, y, x, from, a->c);
  }
}

MS_HOT static void reals_of(const ms_augment_args *a, ms_real *y, const ms_real *x, const int64_t *from) {
  int64_t c = a->c;
  for (int64_t i = 0; i < a->h * a->w; i++, y += c)
    for (int64_t k = 0; k < c; k++)
      y[k] = ((from[i] < 0 ? MS_R(0) : x[from[i] * c + k]) - a->mean[k]) / a->std[k];
}

MS_HOT static void sources(int64_t *from, const ms_augment_program *p, int32_t h, int32_t w) {
  for (int32_t y = 0; y < h; y++)
    for (int32_t x = 0; x < w; x++)
      *from++ = ms_augment_source(p, h, w, y, x);
}

/* Returns whether the sample exists. */
static int one_sample(const ms_augment_args *a, int64_t i, int64_t *from) {
  int64_t at = a->index ? a->index[i] : i, pixels = a->h * a->w, frame = pixels * a->c;
  int there = at >= 0 && at < a->samples;
  if (there && a->programs)
    sources(from, &a->programs[i], (int32_t)a->h, (int32_t)a->w);
  else
    for (int64_t j = 0; j < pixels; j++)
      from[j] = there ? j : -1;
  for (int64_t t = 0; t < a->steps; t++) {
    int64_t first = there ? (at * a->steps + t) * frame : 0;
    ms_real *y = a->y + t * a->y_step + i * frame;
    if (a->x.dtype == MS_U8)
      bytes_of(a, y, (const uint8_t *)a->x.p + first, from);
    else
      reals_of(a, y, (const ms_real *)a->x.p + first, from);
  }
  return there;
}

ms_status ms_cpu_augment(ms_stream *s, const ms_augment_args *a) {
  (void)s;
  int64_t pixels = a->h * a->w, bad = 0, lost = 0;
  if (a->n * a->steps * pixels * a->c == 0)
    return MS_OK;
  MS_PRAGMA(omp parallel for schedule(static) num_threads(ms_cpu_threads()) reduction(+ : bad, lost) \
                if (MS_WORTH(a->n, a->steps * pixels * a->c)))
  for (int64_t i = 0; i < a->n; i++) {
    int64_t *from = ms_cpu_scratch(0, (size_t)pixels * sizeof *from);
    if (from)
      bad += !one_sample(a, i, from);
    else
      lost++;
  }
  if (bad)
    *a->bad = 1;
  return lost ? MS_EMEM : MS_OK;
}
