#include "events.h"
#include <stdlib.h>

static int grow(void *field, int64_t n, size_t width) {
  void **p = field, *bigger = realloc(*p, (size_t)n * width);
  if (bigger)
    *p = bigger;
  return bigger != NULL;
}

ms_status ms_events_reserve(ms_events *e, int64_t n, const char *op, ms_error *err) {
  if (n <= e->room)
    return MS_OK;
  if (n > PTRDIFF_MAX / 16 || !grow(&e->t, n, sizeof *e->t) || !grow(&e->x, n, sizeof *e->x) ||
      !grow(&e->y, n, sizeof *e->y) || !grow(&e->p, n, sizeof *e->p))
    return ms_fail(err, MS_EMEM, "%s: out of memory for %lld events", op, (long long)n);
  e->room = n;
  return MS_OK;
}

void ms_events_free(ms_events *e) {
  free(e->t);
  free(e->x);
  free(e->y);
  free(e->p);
  *e = (ms_events){0};
}
