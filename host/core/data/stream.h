/* Bytes of a file in order, unpacked on the way where it is gzip (told by its first bytes, not by its name). */
#ifndef MS_STREAM_H
#define MS_STREAM_H

#include "../error.h"
#include <zlib.h>

typedef struct ms_stream_in {
  const char *op, *path; /* for messages; borrowed */
  int fd, gzip, ended;   /* ended: the end of the file (plain) or of a gzip member with nothing behind it */
  int64_t file_bytes;    /* on disk */
  int64_t at;            /* bytes given out so far */
  z_stream z;
  unsigned char *buffer;
} ms_stream_in;

ms_status ms_stream_open(ms_stream_in *s, const char *op, const char *path, ms_error *err);
void ms_stream_close(ms_stream_in *s); /* twice is fine */
/* Up to n bytes; *got < n only at the end. */
ms_status ms_stream_read(ms_stream_in *s, void *out, size_t n, size_t *got, ms_error *err);
/* Most bytes that the file can hold unpacked: deflate never exceeds 1032 to 1. */
int64_t ms_stream_most(const ms_stream_in *s);

#endif
