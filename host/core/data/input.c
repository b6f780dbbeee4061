#include "input.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ms_status ms_io_fail(const char *op, const char *path, ms_error *err) {
  char why[64];
  return ms_fail(err, MS_EIO, "%s: %.400s: %s", op, path, strerror_r(errno, why, sizeof why));
}

static ms_status read_all(ms_buffer *out, int fd, const char *op, const char *path, ms_error *err) {
  for (size_t got = 0; got < out->bytes;) {
    ssize_t n = read(fd, out->p + got, out->bytes - got);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return ms_io_fail(op, path, err);
    if (n == 0)
      return ms_fail(err, MS_EIO, "%s: %.400s: the file became shorter while it was read", op, path);
    got += (size_t)n;
  }
  return MS_OK;
}

ms_status ms_file_read(ms_buffer *out, const char *op, const char *path, size_t most, ms_error *err) {
  struct stat st;
  ms_status status;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block */
  if (fd < 0 || fstat(fd, &st))
    status = ms_io_fail(op, path, err);
  else if (!S_ISREG(st.st_mode))
    status = ms_fail(err, MS_EIO, "%s: %.400s: not a regular file", op, path);
  else if ((uint64_t)st.st_size > most)
    status = ms_fail(err, MS_EFORMAT, "%s: %.400s: expected at most %zu bytes, got %lld", op, path, most,
                     (long long)st.st_size);
  else if (!(status = ms_buffer_resize(out, (size_t)st.st_size, op, err)))
    status = read_all(out, fd, op, path, err);
  if (fd >= 0)
    close(fd);
  return status;
}

ms_status ms_damaged(const ms_input *in, int64_t byte, int64_t record, ms_error *err, const char *format, ...) {
  char what[256], where[32] = "";
  va_list args;
  va_start(args, format);
  vsnprintf(what, sizeof what, format, args);
  va_end(args);
  if (record >= 0)
    snprintf(where, sizeof where, ", record %lld", (long long)record);
  return ms_fail(err, MS_EFORMAT, "%s: %.250s: damaged file: byte %lld%s: %s", in->op, in->path, (long long)byte, where,
                 what);
}

void ms_repaired(const ms_input *in, ms_repair kind, int64_t count) {
  if (in->repairs)
    in->repairs->count[kind] += count;
}

const char *ms_looks_like(const uint8_t *p, size_t n) {
  static const struct {
    const char *magic;
    size_t n;
    const char *name;
  } known[] = {{"\x1f\x8b", 2, "gzip"},
               {"PK\3\4", 4, "a zip archive (npz)"},
               {"\x93NUMPY", 6, "npy"},
               {"\xff\xd8\xff", 3, "a JPEG image"},
               {"\x89PNG\r\n\x1a\n", 8, "a PNG image"},
               {"\x89HDF\r\n\x1a\n", 8, "HDF5"},
               {"#!AER-DAT2.", 11, "AEDAT 2.0"},
               {"#!AER-DAT3.", 11, "AEDAT 3"},
               {"#!AER-DAT4.", 11, "AEDAT 4"},
               {"MATLAB 5.0", 10, "a MAT file of version 5"},
               {"MATLAB 7.3", 10, "a MAT file of version 7.3 (HDF5)"},
               {"% ", 2, "a Prophesee file"}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (n >= known[i].n && memcmp(p, known[i].magic, known[i].n) == 0)
      return known[i].name;
  return NULL;
}
