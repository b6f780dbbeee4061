#include "source.h"
#include "../tensor.h"

void ms_scratch_free(ms_scratch *s) {
  ms_buffer_free(&s->file);
  ms_buffer_free(&s->work);
  ms_buffer_free(&s->photo);
  ms_events_free(&s->events);
  ms_picture_free(&s->picture[0]);
  ms_picture_free(&s->picture[1]);
  ms_image_scratch_free(&s->image);
}

void ms_source_close(ms_source *s) {
  if (s)
    s->close(s);
}

/* ---- in memory ---- */

typedef struct memory {
  ms_source source;
  const uint8_t *samples;
  size_t bytes; /* of a sample */
} memory;

static ms_status read_memory(const ms_source *s, int64_t i, const uint64_t *key, ms_scratch *scratch, const void **out,
                             ms_error *err) {
  const memory *m = (const memory *)s;
  (void)key;
  (void)scratch;
  (void)err;
  *out = m->samples + (size_t)i * m->bytes;
  return MS_OK;
}

static void close_memory(ms_source *s) {
  ms_free(s);
}

ms_status ms_source_memory(ms_source **out, const void *samples, ms_dtype dtype, const int64_t size[5],
                           const int64_t *labels, ms_error *err) {
  *out = NULL;
  if (dtype != MS_U8 && dtype != MS_F32)
    return ms_fail(err, MS_ETYPE, "source: samples: expected uint8 or float32, got %s", ms_dtype_name(dtype));
  if (size[0] < 0 || size[1] < 1 || size[2] < 1 || size[3] < 1 || size[4] < 1)
    return ms_fail(err, MS_ESHAPE, "source: samples: expected [n, t, h, w, c] with t, h, w, c > 0, got %s",
                   ms_shape_text(5, size).s);
  int64_t bytes = (int64_t)ms_dtype_size(dtype);
  for (int d = 1; d < 5; d++)
    if (__builtin_mul_overflow(bytes, size[d], &bytes))
      return ms_fail(err, MS_ERANGE, "source: samples: %s is too large", ms_shape_text(5, size).s);
  memory *m = ms_alloc(sizeof *m);
  if (!m)
    return ms_fail(err, MS_EMEM, "source: out of memory");
  *m = (memory){.source = {.n = size[0],
                           .t = size[1],
                           .h = size[2],
                           .w = size[3],
                           .c = size[4],
                           .dtype = dtype,
                           .labels = labels,
                           .read = read_memory,
                           .close = close_memory},
                .samples = samples,
                .bytes = (size_t)bytes};
  *out = &m->source;
  return MS_OK;
}
