#include "randaugment.h"
#include "draws.h"
#include <math.h>

ms_status ms_rand_augment_check(const ms_rand_augment *r, const char *op, ms_error *err) {
  if (r->n < 0 || r->n > 100)
    return ms_fail(err, MS_ERANGE, "%s: n: expected 0 to 100, got %d", op, r->n);
  if (!(r->magnitude >= 0 && r->magnitude <= 10))
    return ms_fail(err, MS_ERANGE, "%s: m: expected a number in [0, 10], got %g", op, r->magnitude);
  if (!(r->std >= 0 && r->std <= 100))
    return ms_fail(err, MS_ERANGE, "%s: std: expected a number in [0, 100], got %g", op, r->std);
  if (!(r->p >= 0 && r->p <= 1))
    return ms_fail(err, MS_ERANGE, "%s: p: expected a number in [0, 1], got %g", op, r->p);
  return MS_OK;
}

/* timm's argument of an op at a level in [0, 1]. */
static double value_of(ms_photo kind, double level, int increasing, int negative) {
  double sign = negative ? -1 : 1, enhanced;
  switch (kind) {
  case MS_PHOTO_rotate:
    return sign * level * 30;
  case MS_PHOTO_posterize:
    return increasing ? 4 - floor(level * 4) : floor(level * 4);
  case MS_PHOTO_solarize:
    return increasing ? 256 - floor(level * 256) : floor(level * 256);
  case MS_PHOTO_solarize_add:
    return floor(level * 110);
  case MS_PHOTO_color:
  case MS_PHOTO_contrast:
  case MS_PHOTO_brightness:
  case MS_PHOTO_sharpness:
    enhanced = increasing ? 1 + sign * (level * .9) : level * 1.8 + .1;
    return enhanced < .1 ? .1 : enhanced;
  case MS_PHOTO_shear_x:
  case MS_PHOTO_shear_y:
    return sign * level * .3;
  case MS_PHOTO_translate_x:
  case MS_PHOTO_translate_y:
    return sign * level * .45;
  default:
    return 0;
  }
}

ms_status ms_rand_augment_apply(ms_picture *p, ms_picture *spare, const ms_rand_augment *r, uint64_t key,
                                uint64_t sample, const char *op, ms_error *err) {
  for (int i = 0; i < r->n; i++) {
    ms_philox4 a = ms_philox_block(key, sample, MS_PLANES_RANDAUGMENT + 2 * (uint32_t)i);
    ms_philox4 b = ms_philox_block(key, sample, MS_PLANES_RANDAUGMENT + 2 * (uint32_t)i + 1);
    ms_photo kind = (ms_photo)((uint64_t)a.w[0] * MS_PHOTO_KINDS >> 32);
    float z, unused;
    if ((double)a.w[1] >= r->p * 0x1p32)
      continue;
    ms_random_normal(a.w[2], a.w[3], &z, &unused);
    double level = fmin(fmax(r->magnitude + r->std * (double)z, 0), 10) / 10;
    ms_photo_filter filter = r->filter != MS_PHOTO_EITHER ? r->filter : (ms_photo_filter)(b.w[1] >> 31);
    ms_status status =
        ms_photo_apply(spare, p, kind, value_of(kind, level, r->increasing, b.w[0] >> 31), filter, r->fill, op, err);
    if (status)
      return status;
    ms_picture was = *p;
    *p = *spare;
    *spare = was;
  }
  return MS_OK;
}
