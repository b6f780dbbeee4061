#include "geometry.h"
#include "draws.h"

static int rising(const double range[2]) { /* false also for NaN */
  return range[0] > 0 && range[0] <= range[1] && range[1] < 1e6;
}

ms_status ms_box_check(const double scale[2], const double ratio[2], const char *op, ms_error *err) {
  if (!rising(scale) || scale[1] > 1)
    return ms_fail(err, MS_ERANGE, "%s: scale: expected 0 < low <= high <= 1, got %g and %g", op, scale[0], scale[1]);
  if (!rising(ratio))
    return ms_fail(err, MS_ERANGE, "%s: ratio: expected 0 < low <= high, got %g and %g", op, ratio[0], ratio[1]);
  return MS_OK;
}

/* In [0, 1): 32 bits. */
static double uniform(uint32_t w) {
  return w * 0x1p-32;
}

static ms_box fallback(int64_t w, int64_t h, const double ratio[2]) {
  double is = (double)w / (double)h;
  int64_t cw = w, ch = h;
  if (is < ratio[0])
    ch = (int64_t)rint((double)w / ratio[0]);
  else if (is > ratio[1])
    cw = (int64_t)rint((double)h * ratio[1]);
  cw = cw < 1 ? 1 : cw > w ? w : cw;
  ch = ch < 1 ? 1 : ch > h ? h : ch;
  return (ms_box){(w - cw) / 2, (h - ch) / 2, cw, ch};
}

ms_box ms_box_random(uint64_t key, uint64_t sample, int64_t w, int64_t h, const double scale[2],
                     const double ratio[2]) {
  double low = log(ratio[0]), high = log(ratio[1]);
  for (uint32_t attempt = 0; attempt < 10; attempt++) {
    ms_philox4 r = ms_philox_block(key, sample, MS_PLANES_CROP + attempt);
    double area = (double)w * (double)h * (scale[0] + (scale[1] - scale[0]) * uniform(r.w[0]));
    double aspect = exp(low + (high - low) * uniform(r.w[1]));
    double cw = rint(sqrt(area * aspect)), ch = rint(sqrt(area / aspect));
    if (cw > 0 && ch > 0 && cw <= (double)w && ch <= (double)h) {
      ms_box box = {0, 0, (int64_t)cw, (int64_t)ch};
      box.x = (int64_t)(uniform(r.w[2]) * (double)(w - box.w + 1));
      box.y = (int64_t)(uniform(r.w[3]) * (double)(h - box.h + 1));
      return box;
    }
  }
  return fallback(w, h, ratio);
}

void ms_short_side(int64_t w, int64_t h, int64_t size, int64_t *to_w, int64_t *to_h) {
  int64_t shorter = w < h ? w : h, longer = w < h ? h : w;
  int64_t grown = (int64_t)((double)size * (double)longer / (double)shorter);
  *to_w = w < h ? size : grown;
  *to_h = w < h ? grown : size;
}

ms_box ms_box_centre(int64_t image_w, int64_t image_h, int64_t w, int64_t h) {
  return (ms_box){(int64_t)rint((double)(image_w - w) / 2), (int64_t)rint((double)(image_h - h) / 2), w, h};
}
