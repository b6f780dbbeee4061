/* What readers of sample files share: the bytes of a file, what to do about damage, and how it is reported. A reader
** decodes from memory, in any thread, and allocates no more than the bytes that it was given justify. */
#ifndef MS_INPUT_H
#define MS_INPUT_H

#include "buffer.h"

typedef enum ms_policy {
  MS_STRICT,  /* damage is an error */
  MS_LENIENT, /* what can be repaired is, and counted */
  MS_ORACLE   /* as the published code of the format does, mistakes included; each reader says which */
} ms_policy;

/* Repairs by kind, added up by lenient readers. */
typedef struct ms_repairs {
  int64_t count[
#define MS_REPAIR(name) 1 +
#include "repairs.def"
#undef MS_REPAIR
      0];
} ms_repairs;

typedef enum ms_repair {
#define MS_REPAIR(name) MS_REPAIR_##name,
#include "repairs.def"
#undef MS_REPAIR
  MS_REPAIR_COUNT
} ms_repair;

typedef struct ms_input {
  const char *op, *path; /* for messages; borrowed */
  const uint8_t *p;
  size_t n;
  ms_policy policy;
  ms_repairs *repairs; /* NULL: not wanted */
} ms_input;

/* MS_EIO "op: path: ..." for errno. In any thread. */
ms_status ms_io_fail(const char *op, const char *path, ms_error *err);

/* The whole of a regular file, at most `most` bytes. */
ms_status ms_file_read(ms_buffer *out, const char *op, const char *path, size_t most, ms_error *err);

/* MS_EFORMAT "op: path: damaged file: byte B, record R: ..."; record < 0 is left out. */
ms_status ms_damaged(const ms_input *in, int64_t byte, int64_t record, ms_error *err, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void ms_repaired(const ms_input *in, ms_repair kind, int64_t count);

/* What a file looks like by its first bytes ("gzip", "AEDAT 3.1", "PNG", ...), for hints at the right reader; NULL
** where nothing is known. */
const char *ms_looks_like(const uint8_t *p, size_t n);

#endif
