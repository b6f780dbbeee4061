#include "error.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

static volatile sig_atomic_t interrupted;

const char *ms_status_text(ms_status status) {
  static const char *const text[] = {
#define MS_STATUS(name, words) words,
#include "../../kernels/status.def"
#undef MS_STATUS
  };
  return (unsigned)status < MS_STATUS_COUNT ? text[status] : "unknown status";
}

ms_status ms_fail(ms_error *err, ms_status status, const char *format, ...) {
  if (!err)
    return status;
  va_list args;
  va_start(args, format);
  int n = vsnprintf(err->text, sizeof err->text, format, args);
  va_end(args);
  if (n <= 0)
    snprintf(err->text, sizeof err->text, "%s", ms_status_text(status));
  err->status = status;
  return status;
}

ms_text ms_shape_text(int ndim, const int64_t *size) {
  ms_text t;
  size_t n = (size_t)snprintf(t.s, sizeof t.s, "[");
  for (int d = 0; d < ndim && n < sizeof t.s; d++)
    n += (size_t)snprintf(t.s + n, sizeof t.s - n, d ? ", %lld" : "%lld", (long long)size[d]);
  if (n < sizeof t.s)
    snprintf(t.s + n, sizeof t.s - n, "]");
  return t;
}

void ms_interrupt_request(void) {
  interrupted = 1;
}

int ms_interrupt_pending(void) {
  return interrupted;
}

ms_status ms_interrupt_check(ms_error *err) {
  if (!interrupted)
    return MS_OK;
  interrupted = 0;
  return ms_fail(err, MS_EINTR, "interrupted");
}
