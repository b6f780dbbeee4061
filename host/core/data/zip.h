/* Zip archives in memory, as npz needs them: read by the central directory, members stored or deflated, ZIP64, CRC
** checked. Refused: encryption, members that share bytes or a name, members larger than their bytes can unpack to.
** Usable in any thread. */
#ifndef MS_ZIP_H
#define MS_ZIP_H

#include "input.h"

typedef struct ms_zip_entry {
  const char *name; /* not terminated */
  size_t name_bytes;
  int deflated;
  uint32_t crc;
  uint64_t packed, bytes; /* size in the archive, size unpacked */
  uint64_t header, data;  /* where they begin in the archive */
} ms_zip_entry;

typedef struct ms_zip {
  const ms_input *in;
  int64_t count;
  ms_zip_entry *entries; /* by name, byte by byte */
  ms_buffer memory;
} ms_zip;

/* z: {0}, or what was closed. Bytes before the archive are damage, which the other policies skip, as Python does. */
ms_status ms_zip_open(ms_zip *z, const ms_input *in, ms_error *err);
void ms_zip_close(ms_zip *z);                                       /* twice is fine */
const ms_zip_entry *ms_zip_find(const ms_zip *z, const char *name); /* NULL: none */
/* Room that ms_zip_read needs: 0 for a stored member. */
static inline size_t ms_zip_room(const ms_zip_entry *e) {
  return e->deflated ? (size_t)e->bytes : 0;
}
/* *p: the member's e->bytes bytes, in the archive itself where they are stored, else unpacked into room. */
ms_status ms_zip_read(const uint8_t **p, uint8_t *room, const ms_zip *z, const ms_zip_entry *e, ms_error *err);

/* Writing, into memory: what CPython's zipfile makes of stored members that it is given as streams. */
typedef struct ms_zip_out {
  ms_buffer archive, directory; /* {0} at first */
  int64_t count;
} ms_zip_out;

/* A member of two parts, one behind the other. The caller sees to it that names differ. */
ms_status ms_zip_add(ms_zip_out *z, const char *name, const void *head, size_t head_bytes, const void *data,
                     size_t data_bytes, const char *op, ms_error *err);
ms_status ms_zip_finish(ms_zip_out *z, const char *op, ms_error *err); /* archive.p is whole then */
void ms_zip_out_free(ms_zip_out *z);

#endif
