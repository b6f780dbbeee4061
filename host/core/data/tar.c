#include "tar.h"
#include "buffer.h"
#include <string.h>

#define BLOCK 512
#define LONGEST 65536 /* bytes of a pax header */

static ms_status damaged(const ms_tar *t, ms_error *err, const char *what, const char *name) {
  return ms_fail(err, MS_EFORMAT, "%s: %.250s: damaged file: byte %lld of the tar archive: %s%.120s", t->stream->op,
                 t->stream->path, (long long)t->stream->at, what, name);
}

static ms_status exactly(ms_tar *t, void *out, size_t n, ms_error *err) {
  size_t got;
  ms_status status = ms_stream_read(t->stream, out, n, &got, err);
  return status || got == n ? status : damaged(t, err, "the archive ends too early", "");
}

ms_status ms_tar_read(ms_tar *t, void *out, size_t n, ms_error *err) {
  ms_status status = exactly(t, out, n, err);
  t->left -= (int64_t)n;
  return status;
}

static ms_status skip(ms_tar *t, int64_t n, ms_error *err) {
  char scrap[16384];
  ms_status status = MS_OK;
  for (; n > 0 && !status; n -= (int64_t)sizeof scrap)
    status = exactly(t, scrap, n < (int64_t)sizeof scrap ? (size_t)n : sizeof scrap, err);
  return status;
}

/* Behind the two zero blocks: zeros to fill a tape's record, and with gzip its check sum. */
static ms_status end(ms_tar *t, ms_error *err) {
  char b[BLOCK];
  size_t got = BLOCK;
  for (int i = 0; got; i++) {
    ms_status status = ms_stream_read(t->stream, b, BLOCK, &got, err);
    if (status)
      return status;
    for (size_t k = 0; k < got; k++)
      if (b[k] || i == 2048)
        return damaged(t, err, "data behind the end of the archive", "");
  }
  return MS_OK;
}

/* Digits to the base 8, blanks around; -1: none. */
static int64_t octal(const char *p, int n) {
  int64_t v = 0;
  int i = 0, digits = 0;
  while (i < n && p[i] == ' ')
    i++;
  for (; i < n && p[i] >= '0' && p[i] <= '7'; i++, digits++)
    if ((v = v * 8 + (p[i] - '0')) >> 50)
      return -1;
  for (; i < n; i++)
    if (p[i] && p[i] != ' ')
      return -1;
  return digits ? v : -1;
}

static int sum_fits(const char *b) {
  int64_t sum = 8 * ' ';
  for (int i = 0; i < BLOCK; i++)
    if (i < 148 || i >= 156)
      sum += (unsigned char)b[i];
  return octal(b + 148, 8) == sum;
}

static int harmless(const char *name) {
  if (!*name || *name == '/')
    return 0;
  for (const char *p = name; p; p = strchr(p, '/')) {
    p += *p == '/';
    if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == 0))
      return 0;
  }
  return 1;
}

/* What extended headers say about the member behind them. */
typedef struct extension {
  char name[512];
  int64_t bytes; /* -1: nothing */
} extension;

static ms_status long_name(ms_tar *t, extension *x, const char *name, size_t n, ms_error *err) {
  if (n >= sizeof x->name || memchr(name, 0, n))
    return damaged(t, err, "a name that is too long, or holds a NUL byte", "");
  memcpy(x->name, name, n);
  x->name[n] = 0;
  return MS_OK;
}

/* Records "length key=value\n". */
static ms_status pax(ms_tar *t, extension *x, const char *p, size_t n, ms_error *err) {
  while (n > 0) {
    size_t length = 0, i = 0;
    for (; i < n && i < 6 && p[i] >= '0' && p[i] <= '9'; i++)
      length = length * 10 + (size_t)(p[i] - '0');
    if (i == 0 || i == n || p[i] != ' ' || length <= i + 1 || length > n || p[length - 1] != '\n')
      return damaged(t, err, "an extended header that is none", "");
    const char *key = p + i + 1, *value = memchr(key, '=', length - i - 2);
    if (!value)
      return damaged(t, err, "an extended header without =", "");
    size_t keys = (size_t)(value - key), values = (size_t)(p + length - 1 - ++value);
    ms_status status = MS_OK;
    if (keys == 4 && memcmp(key, "path", 4) == 0)
      status = long_name(t, x, value, values, err);
    if (keys == 4 && memcmp(key, "size", 4) == 0) {
      x->bytes = 0;
      for (size_t k = 0; k < values; k++)
        if (value[k] < '0' || value[k] > '9' || (x->bytes = x->bytes * 10 + (value[k] - '0')) >> 50)
          return damaged(t, err, "an extended header with a strange size", "");
    }
    if (status)
      return status;
    p += length;
    n -= length;
  }
  return MS_OK;
}

static ms_status extend(ms_tar *t, extension *x, char type, ms_error *err) {
  ms_buffer b = {0};
  if (t->bytes > LONGEST)
    return damaged(t, err, "an extended header of more than 64 KiB", "");
  size_t n = (size_t)t->bytes;
  ms_status status = ms_buffer_resize(&b, n + 1, t->stream->op, err);
  if (!status)
    status = ms_tar_read(t, b.p, n, err);
  if (!status && type == 'x')
    status = pax(t, x, (const char *)b.p, n, err);
  if (!status && type == 'L') {
    while (n > 0 && b.p[n - 1] == 0)
      n--;
    status = long_name(t, x, (const char *)b.p, n, err);
  }
  ms_buffer_free(&b);
  return status;
}

static void short_name(ms_tar *t, const char *b) {
  size_t prefix = memcmp(b + 257, "ustar", 6) == 0 ? strnlen(b + 345, 155) : 0, n = strnlen(b, 100); /* POSIX's */
  memcpy(t->name, b + 345, prefix);
  if (prefix)
    t->name[prefix++] = '/';
  memcpy(t->name + prefix, b, n);
  t->name[prefix + n] = 0;
}

/* What the header b and the extensions before it say; extensions change x. */
static ms_status member(ms_tar *t, const char *b, extension *x, ms_error *err) {
  char type = b[156];
  if (!sum_fits(b))
    return damaged(t, err, t->stream->at == BLOCK ? "not a tar archive" : "a member's check sum differs", "");
  t->bytes = octal(b + 124, 12);
  if (t->bytes < 0)
    return damaged(t, err, "a member's size is no octal number", "");
  int extends = type == 'x' || type == 'g' || type == 'L' || type == 'K';
  if (!extends) {
    short_name(t, b);
    if (x->name[0])
      memcpy(t->name, x->name, sizeof t->name);
    if (x->bytes >= 0)
      t->bytes = x->bytes;
    if (!harmless(t->name))
      return damaged(t, err, "refused: a path that leads out of the folder: ", t->name);
    if (type != '0' && type != 0 && type != '7' && type != '5')
      return damaged(t, err, "refused: neither file nor folder: ", t->name);
  }
  if (t->bytes > t->most - t->stream->at)
    return ms_fail(err, MS_EFORMAT, "%s: %.250s: expected at most %lld bytes unpacked, got a member of %lld",
                   t->stream->op, t->stream->path, (long long)t->most, (long long)t->bytes);
  t->left = t->bytes;
  t->padding = (BLOCK - t->bytes % BLOCK) % BLOCK;
  return extends ? extend(t, x, type, err) : MS_OK;
}

ms_status ms_tar_next(ms_tar *t, int *found, ms_error *err) {
  extension x = {.bytes = -1};
  *found = 0;
  for (;;) {
    char b[BLOCK];
    ms_status status = skip(t, t->left + t->padding, err);
    t->left = t->padding = 0;
    if (status || (status = exactly(t, b, BLOCK, err)))
      return status;
    if (b[0] == 0 && memcmp(b, b + 1, BLOCK - 1) == 0) {
      if ((status = exactly(t, b, BLOCK, err)))
        return status;
      if (b[0] || memcmp(b, b + 1, BLOCK - 1) != 0)
        return damaged(t, err, "data behind the end of the archive", "");
      return end(t, err);
    }
    if ((status = member(t, b, &x, err)))
      return status;
    if (b[156] == 'x' || b[156] == 'g' || b[156] == 'L' || b[156] == 'K')
      continue;
    if (b[156] != '5') {
      *found = 1;
      return MS_OK;
    }
    x = (extension){.bytes = -1};
  }
}
