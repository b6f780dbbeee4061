#include "buffer.h"
#include <stdlib.h>

ms_status ms_buffer_resize(ms_buffer *b, size_t bytes, const char *op, ms_error *err) {
  if (bytes > b->room) {
    size_t room = bytes > PTRDIFF_MAX / 2 ? bytes : bytes + bytes / 4;
    uint8_t *p = bytes > PTRDIFF_MAX ? NULL : realloc(b->p, room);
    if (!p)
      return ms_fail(err, MS_EMEM, "%s: out of memory for %zu bytes", op, bytes);
    b->p = p;
    b->room = room;
  }
  b->bytes = bytes;
  return MS_OK;
}

void ms_buffer_free(ms_buffer *b) {
  free(b->p);
  *b = (ms_buffer){0};
}
