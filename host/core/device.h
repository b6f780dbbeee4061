/* Devices: a backend table, an index, a stream. The CPU always exists; others are plugins, found when first asked
** for. */
#ifndef MS_DEVICE_H
#define MS_DEVICE_H

#include "error.h"

typedef struct ms_device ms_device;
struct ms_device {
  const ms_backend *k; /* the table: d->k->row(d->stream, ...) */
  int index;
  ms_stream *stream;
  char name[32];        /* "cpu", "cuda", "cuda:1" */
  int64_t in_use, peak; /* bytes of its memory that core holds now, and the most since the start or the last reset */
};

/* name: "cpu", "cuda", "cuda:N", "auto" ("cuda" where one works, else "cpu"). Devices live until the process ends. */
ms_status ms_device_find(ms_device **out, const char *name, ms_error *err);
ms_device *ms_device_cpu(void);
ms_device *ms_device_current(void);
void ms_device_set_current(ms_device *d);
/* The i-th device that works, from 0; NULL behind the last. */
ms_device *ms_device_at(int i);
/* Why `name` ("cuda") is not usable; "" where it is. */
const char *ms_device_why(const char *name);

/* Not the emulation, which computes on the CPU. */
int ms_device_is_real(const ms_device *d);

/* Turns the status of a row into an error that names the op; MS_OK passes, and MS_EINTR is raised when an
** interrupt waits. With MOONSPIKE_SYNC=1 in the environment it waits for the row first, so that a failure while the row
** runs is blamed on its op. */
ms_status ms_row(ms_device *d, ms_status status, const char *op, ms_error *err);
int64_t ms_rows_called(void); /* so far, for tests */
ms_status ms_device_synchronize(ms_device *d, ms_error *err);
/* CPU threads in use; n > 0 sets them. */
int ms_threads(int n);

#endif
