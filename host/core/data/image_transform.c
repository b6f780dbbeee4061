#include "image_transform.h"

ms_image_recipe ms_image_recipe_train(int64_t size) {
  return (ms_image_recipe){.random = 1, .size = size, .scale = {0.08, 1}, .ratio = {3.0 / 4, 4.0 / 3}};
}

ms_image_recipe ms_image_recipe_test(int64_t shorter, int64_t size) {
  return (ms_image_recipe){.size = size, .shorter = shorter};
}

ms_status ms_image_recipe_check(const ms_image_recipe *r, const char *op, ms_error *err) {
  if (r->size < 1 || r->size > 65536)
    return ms_fail(err, MS_ERANGE, "%s: size: expected 1 to 65536, got %lld", op, (long long)r->size);
  if (!r->random && (r->shorter < r->size || r->shorter > 65536))
    return ms_fail(err, MS_ERANGE, "%s: shorter: expected %lld (the size) to 65536, got %lld", op, (long long)r->size,
                   (long long)r->shorter);
  if (r->filter != MS_FILTER_BILINEAR && r->filter != MS_FILTER_BICUBIC)
    return ms_fail(err, MS_EINVAL, "%s: filter: expected bilinear or bicubic", op);
  return r->random ? ms_box_check(r->scale, r->ratio, op, err) : MS_OK;
}

ms_status ms_image_transform(ms_image_scratch *s, ms_picture *out, const ms_input *in, const ms_image_recipe *recipe,
                             uint64_t key, uint64_t sample, ms_error *err) {
  int64_t w, h;
  ms_resize_options resize = {.filter = recipe->filter, .w = recipe->size, .h = recipe->size};
  ms_box needed, crop;
  ms_status status = ms_image_size(&w, &h, in, err);
  if (status)
    return status;
  if (recipe->random) {
    needed = ms_box_random(key, sample, w, h, recipe->scale, recipe->ratio);
    crop = (ms_box){0, 0, needed.w, needed.h};
  } else {
    ms_short_side(w, h, recipe->shorter, &resize.w, &resize.h);
    resize.window = ms_box_centre(resize.w, resize.h, recipe->size, recipe->size);
    if ((status = ms_resize_reads(&s->resizer, w, h, &resize, &needed, in->op, err)))
      return status;
    crop = (ms_box){-needed.x, -needed.y, w, h};
  }
  if ((status = ms_image_decode(&s->part, in, &needed, &recipe->decode, err)))
    return status;
  return ms_resize(&s->resizer, out, &s->part, &crop, &resize, in->op, err);
}

void ms_image_scratch_free(ms_image_scratch *s) {
  ms_resizer_free(&s->resizer);
  ms_picture_free(&s->part);
}
