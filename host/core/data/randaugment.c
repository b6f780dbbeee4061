#include "randaugment.h"
#include "draws.h"
#include <math.h>

ms_status ms_rand_augment_check(const ms_rand_augment *r, const char *op, ms_error *err) {
  if (r->n < 0 || r->n > MS_RANDAUGMENT_OPS)
    return ms_fail(err, MS_ERANGE, "%s: n: expected 0 to %d, got %d", op, MS_RANDAUGMENT_OPS, r->n);
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

static double fifteen_digits(double v) {
  return rint(v * 1e15) / 1e15;
}

ms_photo_op ms_photo_op_of(ms_photo kind, double value, ms_photo_filter filter, int64_t h, int64_t w) {
  ms_photo_op op = {.kind = kind, .taps = filter == MS_PHOTO_BICUBIC ? 4 : 2, .v = {1, 0, 0, 0, 1, 0}};
  double turn = value < 0 ? value + 360 : value, angle = -(turn * (3.14159265358979323846 / 180)), x = (double)w / 2,
         y = (double)h / 2;
  switch (kind) {
  case MS_PHOTO_rotate:
    op.v[0] = op.v[4] = fifteen_digits(cos(angle));
    op.v[1] = fifteen_digits(sin(angle));
    op.v[3] = fifteen_digits(-sin(angle));
    op.v[2] = op.v[0] * -x + op.v[1] * -y + x;
    op.v[5] = op.v[3] * -x + op.v[4] * -y + y;
    break;
  case MS_PHOTO_shear_x:
    op.v[1] = value;
    break;
  case MS_PHOTO_shear_y:
    op.v[3] = value;
    break;
  case MS_PHOTO_translate_x:
    op.v[2] = value * (double)w;
    break;
  case MS_PHOTO_translate_y:
    op.v[5] = value * (double)h;
    break;
  default:
    op.v[0] = value;
  }
  return op;
}

static ms_photo_op draw(const ms_rand_augment *r, int64_t h, int64_t w, ms_philox4 a, ms_philox4 b) {
  ms_photo kind = (ms_photo)((uint64_t)a.w[0] * MS_PHOTO_KINDS >> 32);
  ms_photo_filter filter = r->filter != MS_PHOTO_EITHER ? r->filter : (ms_photo_filter)(b.w[1] >> 31);
  float z, unused;
  if ((double)a.w[1] >= r->p * 0x1p32)
    return (ms_photo_op){.kind = MS_PHOTO_KINDS};
  ms_random_normal(a.w[2], a.w[3], &z, &unused);
  double level = fmin(fmax(r->magnitude + r->std * (double)z, 0), 10) / 10;
  return ms_photo_op_of(kind, value_of(kind, level, r->increasing, b.w[0] >> 31), filter, h, w);
}

void ms_rand_augment_draw(ms_photo_op *out, const ms_rand_augment *r, int64_t h, int64_t w, uint64_t key,
                          uint64_t sample) {
  for (int i = 0; i < r->n; i++) {
    uint32_t plane = MS_PLANES_RANDAUGMENT + 2 * (uint32_t)i;
    out[i] = draw(r, h, w, ms_philox_block(key, sample, plane), ms_philox_block(key, sample, plane + 1));
  }
}
