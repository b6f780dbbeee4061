#include "stream.h"
#include "../tensor.h"
#include "input.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER 65536

/* Refills an empty buffer; z.avail_in stays 0 at the end of the file. */
static ms_status refill(ms_stream_in *s, ms_error *err) {
  if (s->z.avail_in > 0)
    return MS_OK;
  ssize_t n;
  do
    n = read(s->fd, s->buffer, BUFFER);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return ms_io_fail(s->op, s->path, err);
  s->z.next_in = s->buffer;
  s->z.avail_in = (uInt)n;
  return MS_OK;
}

ms_status ms_stream_open(ms_stream_in *s, const char *op, const char *path, ms_error *err) {
  struct stat st;
  *s = (ms_stream_in){.op = op, .path = path, .fd = -1};
  s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block */
  ms_status status = MS_OK;
  if (s->fd < 0 || fstat(s->fd, &st))
    status = ms_io_fail(s->op, s->path, err);
  else if (!S_ISREG(st.st_mode))
    status = ms_fail(err, MS_EIO, "%s: %.400s: not a regular file", op, path);
  else if (!(s->buffer = ms_alloc(BUFFER)))
    status = ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", op, path);
  else
    status = refill(s, err);
  if (status)
    goto fail;
  s->file_bytes = st.st_size;
  if (s->z.avail_in >= 2 && s->buffer[0] == 0x1f && s->buffer[1] == 0x8b) {
    if (inflateInit2(&s->z, 15 + 16) != Z_OK) {
      status = ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", op, path);
      goto fail;
    }
    s->gzip = 1;
  }
  return MS_OK;
fail:
  ms_stream_close(s);
  return status;
}

void ms_stream_close(ms_stream_in *s) {
  if (s->gzip)
    inflateEnd(&s->z);
  if (s->fd >= 0)
    close(s->fd);
  ms_free(s->buffer);
  s->buffer = NULL;
  s->fd = -1;
  s->gzip = 0;
}

int64_t ms_stream_most(const ms_stream_in *s) {
  int64_t most;
  if (!s->gzip)
    return s->file_bytes;
  return __builtin_mul_overflow(s->file_bytes, (int64_t)1032, &most) ? INT64_MAX : most;
}

static ms_status read_plain(ms_stream_in *s, char *out, size_t n, size_t *got, ms_error *err) {
  while (*got < n) {
    ms_status status = refill(s, err);
    if (status)
      return status;
    size_t step = n - *got < s->z.avail_in ? n - *got : s->z.avail_in;
    if (step == 0)
      return MS_OK;
    memcpy(out + *got, s->z.next_in, step);
    s->z.next_in += step;
    s->z.avail_in -= (uInt)step;
    *got += step;
  }
  return MS_OK;
}

/* Behind a member: the end of the file, or another member, as gzip allows. */
static ms_status next_member(ms_stream_in *s, ms_error *err) {
  ms_status status = refill(s, err);
  if (status)
    return status;
  if (s->z.avail_in == 0) {
    s->ended = 1;
    return MS_OK;
  }
  if (s->z.next_in[0] != 0x1f)
    return ms_fail(err, MS_EFORMAT, "%s: %.400s: damaged file: bytes behind the gzip data", s->op, s->path);
  inflateReset(&s->z);
  return MS_OK;
}

static ms_status read_gzip(ms_stream_in *s, char *out, size_t n, size_t *got, ms_error *err) {
  while (*got < n && !s->ended) {
    ms_status status = refill(s, err);
    if (status)
      return status;
    uInt room = n - *got > 1u << 30 ? 1u << 30 : (uInt)(n - *got), before = s->z.avail_in;
    s->z.next_out = (Bytef *)out + *got;
    s->z.avail_out = room;
    int code = inflate(&s->z, Z_NO_FLUSH);
    *got += room - s->z.avail_out;
    if (code == Z_STREAM_END)
      status = next_member(s, err);
    else if (code == Z_MEM_ERROR)
      status = ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", s->op, s->path);
    else if (before == 0 && s->z.avail_out == room)
      status = ms_fail(err, MS_EFORMAT, "%s: %.400s: damaged file: gzip data end too early", s->op, s->path);
    else if (code != Z_OK && code != Z_BUF_ERROR)
      status = ms_fail(err, MS_EFORMAT, "%s: %.400s: damaged file: gzip: %s", s->op, s->path,
                       s->z.msg ? s->z.msg : "invalid data");
    if (status)
      return status;
  }
  return MS_OK;
}

ms_status ms_stream_read(ms_stream_in *s, void *out, size_t n, size_t *got, ms_error *err) {
  *got = 0;
  ms_status status = s->gzip ? read_gzip(s, out, n, got, err) : read_plain(s, out, n, got, err);
  s->at += (int64_t)*got;
  return status;
}
