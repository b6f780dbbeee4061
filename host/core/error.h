/* How core reports failure: a status, and its detail in the caller's ms_error. Nothing here is global. */
#ifndef MS_ERROR_H
#define MS_ERROR_H

#include "../../kernels/kernels.h"

typedef struct ms_error {
  ms_status status;
  char text[600]; /* "op: argument: expected ..., got ..."; never empty after a failure */
} ms_error;

/* Fills err (which may be NULL) and returns status, so that `return ms_fail(err, MS_ESHAPE, ...)` reads well. */
ms_status ms_fail(ms_error *err, ms_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
const char *ms_status_text(ms_status status);

/* Shapes print as "[2, 3]", always through this; by value, so nothing has to be freed. */
typedef struct ms_text {
  char s[160];
} ms_text;
ms_text ms_shape_text(int ndim, const int64_t *size);

/* Set from a signal handler; read between rows, where it becomes MS_EINTR and is cleared. */
void ms_interrupt_request(void);
int ms_interrupt_pending(void);
ms_status ms_interrupt_check(ms_error *err);

#endif
