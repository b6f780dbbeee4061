#include "photos.h"
#include "../tensor.h"
#include "geometry.h"
#include <string.h>

enum { MOST = 65536 }; /* pixels of a side */

ms_status ms_photo_check(const ms_photo_recipe *r, ms_error *err) {
  if (r->h < 0 || r->w < 0 || r->h > MOST || r->w > MOST || !r->h != !r->w)
    return ms_fail(err, MS_ERANGE, "resized_crop: size: expected 1 to %d pixels a side, got %lld x %lld", MOST,
                   (long long)r->h, (long long)r->w);
  ms_status status = r->crop ? ms_box_check(r->scale, r->ratio, "resized_crop", err) : MS_OK;
  return status ? status : ms_rand_augment_check(&r->rand, "rand_augment", err);
}

ms_status ms_photo_plan(ms_photos_args *a, const ms_photo_recipe *r, const char *op, ms_error *err) {
  a->to_h = r->crop && r->h ? r->h : a->h;
  a->to_w = r->crop && r->w ? r->w : a->w;
  a->cubic = r->cubic;
  a->nops = r->rand.n;
  memcpy(a->fill, r->rand.fill, sizeof a->fill);
  int64_t most = a->h > a->to_h ? a->h : a->to_h;
  if (a->nops > 0 && a->x.dtype != MS_U8)
    return ms_fail(err, MS_ETYPE, "%s: rand_augment: expected samples of bytes (uint8), got %s", op,
                   ms_dtype_name(a->x.dtype));
  if (a->nops > 0 && a->c != 1 && a->c != 3)
    return ms_fail(err, MS_ESHAPE, "%s: rand_augment: expected samples of 1 or 3 channels, got %lld", op,
                   (long long)a->c);
  if (__builtin_mul_overflow(most, a->w > a->to_w ? a->w : a->to_w, &most) ||
      __builtin_mul_overflow(most, a->c, &most) || most > INT32_MAX / 2)
    return ms_fail(err, MS_ERANGE, "%s: expected frames of less than 2^30 values, got %s to %s", op,
                   ms_shape_text(3, (int64_t[]){a->c, a->h, a->w}).s,
                   ms_shape_text(3, (int64_t[]){a->c, a->to_h, a->to_w}).s);
  return MS_OK;
}

void ms_photo_draw(ms_photo_box *box, ms_photo_op *ops, const ms_photo_recipe *r, int64_t h, int64_t w, uint64_t key,
                   uint64_t sample) {
  if (r->crop) {
    ms_box b = ms_box_random(key, sample, w, h, r->scale, r->ratio);
    *box = (ms_photo_box){(int32_t)b.x, (int32_t)b.y, (int32_t)b.w, (int32_t)b.h};
    h = r->h ? r->h : h;
    w = r->w ? r->w : w;
  }
  ms_rand_augment_draw(ops, &r->rand, h, w, key, sample);
}
