#include "image_tensor.h"
#include "../file.h"
#include "../ops.h"
#include <string.h>

/* to[y][x] = from[x][y], elements of `size` bytes */
static void transpose(uint8_t *to, const uint8_t *from, int64_t rows, int64_t columns, size_t size) {
  for (int64_t x = 0; x < columns; x++)
    for (int64_t y = 0; y < rows; y++)
      memcpy(to + (size_t)(x * rows + y) * size, from + (size_t)(y * columns + x) * size, size);
}

/* A copy of a tensor on any device. interleave: [..., c, h, w] as frames of c channels, else every plane is a frame
** of one. */
static ms_status picture_of(ms_picture *out, ms_tensor *t, int interleave, const char *op, ms_error *err) {
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

/* The way back, on the CPU; the leading sizes are those of `size`, its last two give way to the picture's. */
static ms_status tensor_of(ms_tensor **out, const ms_picture *p, int ndim, const int64_t *size, const char *op,
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

ms_status ms_image_read(ms_tensor **out, const char *path, const ms_image_options *opt, ms_policy policy,
                        ms_error *err) {
  ms_buffer bytes = {0};
  ms_picture picture = {0};
  *out = NULL;
  ms_status status = ms_file_read(&bytes, "read_image", path, (size_t)1 << 31, err);
  ms_input in = {.op = "read_image", .path = path, .p = bytes.p, .n = bytes.bytes, .policy = policy};
  if (!status)
    status = ms_image_decode(&picture, &in, NULL, opt, err);
  if (!status)
    status = tensor_of(out, &picture, 3, (int64_t[]){picture.c, 0, 0}, "read_image", err);
  ms_buffer_free(&bytes);
  ms_picture_free(&picture);
  return status;
}

/* Floats from 0 to 1 to bytes, in place: a byte never lies behind its float. */
static void to_bytes(ms_picture *p) {
  const ms_real *from = ms_picture_reals(p);
  uint8_t *to = ms_picture_bytes(p);
  for (int64_t i = 0; i < p->h * p->w * p->c; i++) {
    ms_real v = from[i] * 255 + MS_R(0.5);
    to[i] = v >= 255 ? 255 : v >= 0 ? (uint8_t)v : 0; /* also for NaN */
  }
  p->dtype = MS_U8;
}

static ms_status write_file(const char *path, const ms_buffer *bytes, ms_error *err) {
  ms_file f;
  ms_status status = ms_file_begin(&f, "write_image", path, err);
  if (status)
    return status;
  if (!(status = ms_file_append(&f, bytes->p, bytes->bytes, err)))
    return ms_file_commit(&f, err);
  ms_file_abort(&f);
  return status;
}

ms_status ms_image_write(const char *path, ms_tensor *t, ms_error *err) {
  ms_picture picture = {0};
  ms_buffer bytes = {0};
  if (t->ndim != 2 && !(t->ndim == 3 && (t->size[0] == 1 || t->size[0] == 3)))
    return ms_fail(err, MS_ESHAPE, "write_image: image: expected [h, w], [1, h, w] or [3, h, w], got %s",
                   ms_shape_text(t->ndim, t->size).s);
  ms_status status = picture_of(&picture, t, t->ndim == 3, "write_image", err);
  if (!status && picture.dtype != MS_U8)
    to_bytes(&picture);
  if (!status && !(status = ms_image_encode_png(&bytes, &picture, "write_image", err)))
    status = write_file(path, &bytes, err);
  ms_picture_free(&picture);
  ms_buffer_free(&bytes);
  return status;
}

ms_status ms_resize_tensor(ms_tensor **out, ms_tensor *t, const ms_resize_options *opt, ms_error *err) {
  ms_resizer resizer = {0};
  ms_picture from = {0}, to = {0};
  ms_tensor *here = NULL;
  *out = NULL;
  ms_status status = picture_of(&from, t, opt->alpha, "resize", err);
  if (!status)
    status = ms_resize(&resizer, &to, &from, NULL, opt, "resize", err);
  if (!status)
    status = tensor_of(&here, &to, t->ndim, t->size, "resize", err);
  if (!status)
    status = ms_to(out, here, ms_tensor_device(t), -1, err);
  ms_release(here);
  ms_picture_free(&from);
  ms_picture_free(&to);
  ms_resizer_free(&resizer);
  return status;
}
