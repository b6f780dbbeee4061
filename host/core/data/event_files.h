/* Still images into files of event recordings, by several threads. */
#ifndef MS_EVENT_FILES_H
#define MS_EVENT_FILES_H

#include "sink.h"
#include "synthetic.h"

typedef struct ms_event_files {
  const uint8_t *images; /* [n][size][size] */
  int64_t n;
  int size;
  const char *const *paths; /* [n]; their folders exist */
  int64_t first;            /* number of images[0] in its set: image i is made with seed + (first + i) 0x9E3779B9 */
  ms_events_format format;  /* MS_EVENTS_ATIS or MS_EVENTS_AEDAT2 */
  const ms_synthetic *synthetic;
  int workers;
} ms_event_files;

#define MS_EVENT_FILES_MOST_WORKERS 256

/* Files that exist and are not empty are left alone: each appears whole. An interrupt ends it between two files. */
ms_status ms_event_files_make(const ms_event_files *f, int64_t *written, int64_t *events, ms_error *err);

#endif
