/* safetensors files: little-endian u64 header length, JSON header, data. Written to a temporary file in the same
** folder, synced, renamed. Every file read is treated as hostile. Values move as raw bytes of the file's dtype in
** row-major logical order. */
#ifndef MS_SAFETENSORS_H
#define MS_SAFETENSORS_H

#include "tensor.h"

typedef struct ms_st_entry {
  const char *name;
  char dtype[12]; /* "F32", "BF16", "U8", "I64", "U64", "BOOL", ... */
  int ndim;
  int64_t size[MS_MAX_DIMS];
  int64_t begin, end; /* bytes in the data section */
} ms_st_entry;

#define MS_ST_MAX_HEADER 100000000 /* bytes */

/* ---- reading ---- */
typedef struct ms_st_file ms_st_file;
/* validates everything: sizes, overlaps, holes, duplicates, UTF-8 of names */
ms_status ms_st_open(ms_st_file **out, const char *path, ms_error *err);
void ms_st_close(ms_st_file *f);
int ms_st_count(const ms_st_file *f);
const ms_st_entry *ms_st_at(const ms_st_file *f, int i); /* in order of offset */
int ms_st_find(const ms_st_file *f, const char *name);   /* -1: none */
int ms_st_metadata_count(const ms_st_file *f);
void ms_st_metadata_at(const ms_st_file *f, int i, const char **key, const char **value);
const void *ms_st_bytes(const ms_st_file *f, int i); /* mapped, valid until close */
/* A CPU tensor (float32, bfloat16, uint8, int64; F16 and F64 become float32, other integers int64, BOOL uint8). */
ms_status ms_st_tensor(ms_tensor **out, const ms_st_file *f, int i, ms_error *err);

/* ---- writing ---- */
typedef struct ms_st_writer ms_st_writer;
ms_status ms_st_writer_new(ms_st_writer **out, const char *path, ms_error *err);
ms_status ms_st_writer_metadata(ms_st_writer *w, const char *key, const char *value, ms_error *err);
/* retained; spike is stored as F32 */
ms_status ms_st_writer_add(ms_st_writer *w, const char *name, ms_tensor *t, ms_error *err);
/* Writes, syncs, renames; the old file stays whole when anything fails. */
ms_status ms_st_writer_finish(ms_st_writer *w, ms_error *err);
void ms_st_writer_free(ms_st_writer *w); /* removes what was not finished */

#endif
