#include "file.h"
#include "tensor.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static ms_status io_fail(const ms_file *f, const char *path, int code, ms_error *err) {
  return ms_fail(err, code == ENOMEM ? MS_EMEM : MS_EIO, "%s: %.400s: %s", f->op, path, strerror(code));
}

static void forget(ms_file *f) {
  if (f->fd >= 0)
    close(f->fd);
  free(f->path); /* may come from realpath */
  ms_free(f->temp);
  *f = (ms_file){.fd = -1, .op = f->op};
}

void ms_file_abort(ms_file *f) {
  if (f->fd >= 0)
    unlink(f->temp);
  forget(f);
}

ms_status ms_file_begin(ms_file *f, const char *op, const char *path, ms_error *err) {
  struct stat st;
  *f = (ms_file){.fd = -1, .op = op};
  f->path = realpath(path, NULL); /* NULL for a new file */
  if (!f->path)
    f->path = strdup(path);
  size_t room = strlen(path) + 32;
  if (f->path)
    room += strlen(f->path);
  f->temp = ms_alloc(room);
  if (!f->path || !f->temp) {
    forget(f);
    return ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", op, path);
  }
  if (stat(f->path, &st) == 0 && !S_ISREG(st.st_mode)) { /* renaming over a device would remove it */
    forget(f);
    return ms_fail(err, MS_EIO, "%s: %.400s: not a regular file", op, path);
  }
  /* A plain open instead of mkstemp: the file gets the permissions that the umask gives. */
  for (int i = 0; f->fd < 0; i++) {
    snprintf(f->temp, room, "%s.tmp-%ld-%d", f->path, (long)getpid(), i);
    f->fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f->fd < 0 && errno != EEXIST && errno != EINTR) {
      ms_status status = io_fail(f, path, errno, err);
      forget(f);
      return status;
    }
  }
  return MS_OK;
}

ms_status ms_file_append(ms_file *f, const void *bytes, size_t n, ms_error *err) {
  const char *p = bytes;
  while (n > 0) {
    ssize_t done = write(f->fd, p, n);
    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return io_fail(f, f->path, done < 0 ? errno : ENOSPC, err);
    p += done;
    n -= (size_t)done;
  }
  return MS_OK;
}

/* Best effort: after a power cut an unsynced folder shows the old file or the new one, and both are whole. */
static void sync_folder(const char *path) {
  char *folder = strdup(path), *slash = folder ? strrchr(folder, '/') : NULL;
  if (slash)
    slash[slash == folder] = 0;
  int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    fsync(fd);
    close(fd);
  }
  free(folder);
}

ms_status ms_file_commit(ms_file *f, ms_error *err) {
  int code = fsync(f->fd) ? errno : 0;
  if (close(f->fd) && !code)
    code = errno;
  f->fd = -1;
  if (!code && rename(f->temp, f->path))
    code = errno;
  if (code) {
    ms_status status = io_fail(f, f->path, code, err);
    unlink(f->temp);
    forget(f);
    return status;
  }
  sync_folder(f->path);
  forget(f);
  return MS_OK;
}
