#include "planes.h"
#include <string.h>

/* to[y][x] = from[x][y], elements of `size` bytes */
static void transpose(uint8_t *to, const uint8_t *from, int64_t rows, int64_t columns, size_t size) {
  for (int64_t x = 0; x < columns; x++)
    for (int64_t y = 0; y < rows; y++)
      memcpy(to + (size_t)(x * rows + y) * size, from + (size_t)(y * columns + x) * size, size);
}

ms_status ms_picture_of_tensor(ms_picture *out, ms_tensor *t, int interleave, const char *op, ms_error *err) {
  if (t->dtype != MS_U8 && t->dtype != MS_F32)
    return ms_fail(err, MS_ETYPE, "%s: expected uint8 or float32, got %s", op, ms_dtype_name(t->dtype));
  if (t->ndim < 2 + interleave || ms_numel(t) == 0)
    return ms_fail(err, MS_ESHAPE, "%s: expected [..., %sheight, width], nothing empty, got %s", op,
                   interleave ? "channels, " : "", ms_tensor_text(t).s);
  const int64_t *size = t->size + t->ndim;
  int64_t h = size[-2], w = size[-1], c = interleave ? size[-3] : 1, frames = ms_numel(t) / (h * w * c);
  size_t each = ms_dtype_size(t->dtype), frame = (size_t)(h * w * c) * each;
  ms_buffer planes = {0};
  ms_status status = ms_picture_shape(out, t->dtype, frames, h, w, c, op, err);
  if (status || c == 1)
    return status ? status : ms_read(t, out->memory.p, err);
  if (!(status = ms_buffer_resize(&planes, out->memory.bytes, op, err)) && !(status = ms_read(t, planes.p, err)))
    for (int64_t i = 0; i < frames; i++)
      transpose(out->memory.p + (size_t)i * frame, planes.p + (size_t)i * frame, c, h * w, each);
  ms_buffer_free(&planes);
  return status;
}

ms_status ms_tensor_of_picture(ms_tensor **out, const ms_picture *p, int ndim, const int64_t *size, const char *op,
                               ms_error *err) {
  int64_t shape[MS_MAX_DIMS];
  size_t each = ms_dtype_size(p->dtype), frame = (size_t)(p->h * p->w * p->c) * each;
  ms_buffer planes = {0};
  memcpy(shape, size, (size_t)ndim * sizeof *shape);
  shape[ndim - 2] = p->h;
  shape[ndim - 1] = p->w;
  ms_status status = ms_tensor_new(out, ms_device_cpu(), p->dtype, ndim, shape, err);
  if (status || p->c == 1)
    return status ? status : ms_write(*out, p->memory.p, err);
  if (!(status = ms_buffer_resize(&planes, p->memory.bytes, op, err))) {
    for (int64_t i = 0; i < p->t; i++)
      transpose(planes.p + (size_t)i * frame, p->memory.p + (size_t)i * frame, p->h * p->w, p->c, each);
    status = ms_write(*out, planes.p, err);
  }
  ms_buffer_free(&planes);
  return status;
}
