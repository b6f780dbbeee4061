/* tar archives in memory, for tests. */
#ifndef MS_TARFILE_H
#define MS_TARFILE_H

#include <stdio.h>
#include <string.h>
#include <zlib.h>

/* Writes the check sum of the header at b. */
static inline void tar_sum(unsigned char *b) {
  unsigned sum = 0;
  memset(b + 148, ' ', 8);
  for (int i = 0; i < 512; i++)
    sum += b[i];
  snprintf((char *)b + 148, 8, "%06o", sum);
}

/* Appends a member at out + n; the new n. */
static inline size_t tar_add(unsigned char *out, size_t n, const char *name, char type, const void *data,
                             size_t bytes) {
  unsigned char *b = out + n;
  memset(b, 0, 512);
  strncpy((char *)b, name, 100);
  memcpy(b + 100, "0000644\0000000000\0000000000", 23);
  snprintf((char *)b + 124, 12, "%011o", (unsigned)bytes);
  memcpy(b + 136, "00000000000", 11);
  b[156] = (unsigned char)type;
  memcpy(b + 257, "ustar\00000", 8);
  tar_sum(b);
  size_t padded = (bytes + 511) / 512 * 512;
  memset(b + 512, 0, padded);
  if (bytes)
    memcpy(b + 512, data, bytes);
  return n + 512 + padded;
}

static inline size_t tar_end(unsigned char *out, size_t n) {
  memset(out + n, 0, 1024);
  return n + 1024;
}

/* One gzip member; its size. */
static inline size_t tar_gzip(unsigned char *out, size_t room, const void *in, size_t n) {
  z_stream z = {.next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)n, .next_out = out, .avail_out = (uInt)room};
  deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  deflate(&z, Z_FINISH);
  deflateEnd(&z);
  return room - z.avail_out;
}

#endif
