#include "zip.h"
#include <string.h>
#include <zlib.h>

#define FULL32 0xffffffffu
#define LIMIT 0x7fffffffu /* from here on CPython moves a value into the ZIP64 record */

/* Appends fields of 2, 4 or 8 bytes: put(&p, 4, value). */
static void put(uint8_t **p, int width, uint64_t v) {
  for (int i = 0; i < width; i++)
    *(*p)++ = (uint8_t)(v >> 8 * i);
}

/* Room for n more bytes; NULL: out of memory. */
static uint8_t *more(ms_buffer *b, size_t n, const char *op, ms_error *err) {
  size_t at = b->bytes;
  return ms_buffer_resize(b, at + n, op, err) ? NULL : b->p + at;
}

/* Signature, version, flags, method, time, date (1 January 1980), CRC. */
static void put_common(uint8_t **p, uint32_t signature, uint32_t crc) {
  put(p, 4, signature);
  if (signature == 0x02014b50)
    put(p, 2, 3 << 8 | 45);
  put(p, 2, 45);
  put(p, 4, 0);
  put(p, 2, 0);
  put(p, 2, 0x21);
  put(p, 4, crc);
}

ms_status ms_zip_add(ms_zip_out *z, const char *name, const void *head, size_t head_bytes, const void *data,
                     size_t data_bytes, const char *op, ms_error *err) {
  size_t names = strlen(name), bytes = head_bytes + data_bytes, at = z->archive.bytes;
  uLong first = crc32_z(0, head, head_bytes);
  uint32_t crc = (uint32_t)(data_bytes ? crc32_z(first, data, data_bytes) : first); /* of NULL it is 0 */
  int wide = (bytes > LIMIT) * 2 + (at > LIMIT); /* values in the directory's ZIP64 record */
  if (names > 65535 || __builtin_add_overflow(head_bytes, data_bytes, &bytes))
    return ms_fail(err, MS_EINVAL, "%s: %.80s...: too long for a zip archive", op, name);
  uint8_t *p = more(&z->archive, 30 + names + 20 + bytes, op, err);
  if (!p)
    return MS_EMEM;
  put_common(&p, 0x04034b50, crc);
  put(&p, 4, FULL32);
  put(&p, 4, FULL32);
  put(&p, 2, names);
  put(&p, 2, 20);
  memcpy(p, name, names);
  p += names;
  put(&p, 4, 16 << 16 | 1);
  put(&p, 8, bytes);
  put(&p, 8, bytes);
  memcpy(p, head, head_bytes);
  if (data_bytes)
    memcpy(p + head_bytes, data, data_bytes);
  size_t extra = wide ? 4 + 8 * (size_t)wide : 0;
  p = more(&z->directory, 46 + names + extra, op, err);
  if (!p) {
    z->archive.bytes = at;
    return MS_EMEM;
  }
  put_common(&p, 0x02014b50, crc);
  put(&p, 4, bytes > LIMIT ? FULL32 : bytes);
  put(&p, 4, bytes > LIMIT ? FULL32 : bytes);
  put(&p, 2, names);
  put(&p, 2, extra);
  put(&p, 2, 0); /* comment, disk, attributes inside */
  put(&p, 4, 0);
  put(&p, 4, 0600u << 16);
  put(&p, 4, at > LIMIT ? FULL32 : at);
  memcpy(p, name, names);
  p += names;
  if (wide) {
    put(&p, 4, (uint64_t)(8 * wide) << 16 | 1);
    if (bytes > LIMIT) {
      put(&p, 8, bytes);
      put(&p, 8, bytes);
    }
    if (at > LIMIT)
      put(&p, 8, at);
  }
  z->count++;
  return MS_OK;
}

ms_status ms_zip_finish(ms_zip_out *z, const char *op, ms_error *err) {
  uint64_t begin = z->archive.bytes, bytes = z->directory.bytes, count = (uint64_t)z->count;
  int wide = count > 65535 || begin > LIMIT || bytes > LIMIT;
  uint8_t *p = more(&z->archive, (size_t)bytes + (wide ? 76 : 0) + 22, op, err);
  if (!p)
    return MS_EMEM;
  if (bytes)
    memcpy(p, z->directory.p, (size_t)bytes);
  p += bytes;
  if (wide) {
    put(&p, 4, 0x06064b50);
    put(&p, 8, 44);
    put(&p, 4, 45 << 16 | 45);
    put(&p, 8, 0);
    put(&p, 8, count);
    put(&p, 8, count);
    put(&p, 8, bytes);
    put(&p, 8, begin);
    put(&p, 4, 0x07064b50);
    put(&p, 4, 0);
    put(&p, 8, begin + bytes);
    put(&p, 4, 1);
  }
  put(&p, 4, 0x06054b50);
  put(&p, 4, 0);
  put(&p, 2, count < 65535 ? count : 65535);
  put(&p, 2, count < 65535 ? count : 65535);
  put(&p, 4, bytes < FULL32 ? bytes : FULL32);
  put(&p, 4, begin < FULL32 ? begin : FULL32);
  put(&p, 2, 0);
  return MS_OK;
}

void ms_zip_out_free(ms_zip_out *z) {
  ms_buffer_free(&z->archive);
  ms_buffer_free(&z->directory);
  *z = (ms_zip_out){0};
}
