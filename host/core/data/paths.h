/* The files of a source: paths in one block of memory. */
#ifndef MS_PATHS_H
#define MS_PATHS_H

#include "buffer.h"

typedef struct ms_paths { /* {0} is empty */
  int64_t n;
  ms_buffer text, starts;
} ms_paths;

ms_status ms_paths_add(ms_paths *p, const char *path, const char *op, ms_error *err);
static inline const char *ms_path(const ms_paths *p, int64_t i) {
  return (const char *)p->text.p + ((const size_t *)(const void *)p->starts.p)[i];
}
void ms_paths_free(ms_paths *p);

#endif
