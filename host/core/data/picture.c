#include "picture.h"
#include "../tensor.h"

ms_status ms_picture_shape(ms_picture *p, ms_dtype dtype, int64_t t, int64_t h, int64_t w, int64_t c, const char *op,
                           ms_error *err) {
  int64_t bytes;
  if (t < 0 || h < 0 || w < 0 || c < 0 || __builtin_mul_overflow(t, h, &bytes) ||
      __builtin_mul_overflow(bytes, w, &bytes) || __builtin_mul_overflow(bytes, c, &bytes) ||
      __builtin_mul_overflow(bytes, (int64_t)ms_dtype_size(dtype), &bytes))
    return ms_fail(err, MS_EMEM, "%s: %s is too large", op, ms_shape_text(4, (int64_t[]){t, h, w, c}).s);
  ms_status status = ms_buffer_resize(&p->memory, (size_t)bytes, op, err);
  if (status)
    return status;
  p->dtype = dtype;
  p->t = t;
  p->h = h;
  p->w = w;
  p->c = c;
  return MS_OK;
}

void ms_picture_free(ms_picture *p) {
  ms_buffer_free(&p->memory);
  *p = (ms_picture){0};
}
