/* tar archives, plain or gzip, read member by member without unpacking to disk: ustar, GNU long names, pax path and
** size. Links, devices, absolute paths and ".." are refused. */
#ifndef MS_TAR_H
#define MS_TAR_H

#include "stream.h"

typedef struct ms_tar {
  ms_stream_in *stream; /* open; stays the caller's */
  int64_t most;         /* bytes that the archive may unpack to */
  char name[512];       /* of the member, folders included */
  int64_t bytes, left;  /* of the member: all, not yet read */
  int64_t padding;      /* behind it */
} ms_tar;

static inline ms_tar ms_tar_of(ms_stream_in *s, int64_t most) {
  return (ms_tar){.stream = s, .most = most};
}
/* The next regular file, past what is left of this one; *found is 0 at the end of the archive. */
ms_status ms_tar_next(ms_tar *t, int *found, ms_error *err);
/* Exactly n bytes, n <= left. */
ms_status ms_tar_read(ms_tar *t, void *out, size_t n, ms_error *err);

#endif
