#include "paths.h"
#include <string.h>

ms_status ms_paths_add(ms_paths *p, const char *path, const char *op, ms_error *err) {
  size_t start = p->text.bytes, n = strlen(path) + 1;
  ms_status status = ms_buffer_resize(&p->text, start + n, op, err);
  if (!status && (status = ms_buffer_resize(&p->starts, p->starts.bytes + sizeof start, op, err)))
    p->text.bytes = start;
  if (status)
    return status;
  memcpy(p->text.p + start, path, n);
  memcpy(p->starts.p + (size_t)p->n * sizeof start, &start, sizeof start);
  p->n++;
  return MS_OK;
}

void ms_paths_free(ms_paths *p) {
  ms_buffer_free(&p->text);
  ms_buffer_free(&p->starts);
  p->n = 0;
}
