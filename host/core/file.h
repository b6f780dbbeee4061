/* Writing a file so that its path always holds the old content or the new one, whole: the bytes go to a temporary
** file in the same folder, which is synced and renamed. */
#ifndef MS_FILE_H
#define MS_FILE_H

#include "error.h"

typedef struct ms_file {
  int fd;            /* -1: none open */
  const char *op;    /* for messages; static */
  char *path, *temp; /* path has its symbolic links resolved */
} ms_file;

ms_status ms_file_begin(ms_file *f, const char *op, const char *path, ms_error *err);
ms_status ms_file_append(ms_file *f, const void *bytes, size_t n, ms_error *err);
/* Sync and rename. Afterwards, failed or not, there is no temporary file and f is empty. */
ms_status ms_file_commit(ms_file *f, ms_error *err);
/* Removes the temporary file; does nothing after commit. */
void ms_file_abort(ms_file *f);

#endif
