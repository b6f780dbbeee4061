#include "zip.h"
#include "bytes.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50, END64 = 0x06064b50, LOCATOR = 0x07064b50 };
enum { LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, END64_BYTES = 56, LOCATOR_BYTES = 20 };

#define FULL32 0xffffffffu /* the value is in the ZIP64 record */
#define RATIO 1032         /* deflate's best */

static uint64_t le(const uint8_t *p, int width) {
  return ms_bytes(p, width, 0);
}

/* ---- the end of the archive says where the central directory is ---- */

typedef struct directory {
  uint64_t count, bytes, begin; /* begin: as the archive says */
  uint64_t end;                 /* where it ends, in the file */
  uint64_t prefix;              /* bytes in front of the archive */
} directory;

static ms_status find_end(size_t *at, const ms_input *in, ms_error *err) {
  const char *other = ms_looks_like(in->p, in->n);
  if (in->n >= END_BYTES)
    for (size_t i = in->n - END_BYTES, tries = 0; tries <= 65535; i--, tries++) {
      if (le(in->p + i, 4) == END && le(in->p + i + 20, 2) == tries) {
        *at = i;
        return MS_OK;
      }
      if (i == 0)
        break;
    }
  if (other && strncmp(other, "a zip", 5) == 0)
    return ms_damaged(in, (int64_t)in->n, -1, err, "the zip archive has no end: cut off, or bytes follow it");
  return ms_damaged(in, 0, -1, err, "not a zip archive (npz)%s%s", other ? "; this looks like " : "",
                    other ? other : "");
}

static ms_status read_end(directory *d, const ms_input *in, ms_error *err) {
  size_t at = 0;
  ms_status status = find_end(&at, in, err);
  if (status)
    return status;
  const uint8_t *p = in->p + at;
  if (le(p + 4, 2) != le(p + 6, 2) || (le(p + 4, 2) != 0 && le(p + 4, 2) != 0xffff) || le(p + 8, 2) != le(p + 10, 2))
    return ms_damaged(in, (int64_t)at, -1, err, "zip: an archive of several files");
  *d = (directory){.count = le(p + 10, 2), .bytes = le(p + 12, 4), .begin = le(p + 16, 4), .end = at};
  if (at >= LOCATOR_BYTES && le(p - LOCATOR_BYTES, 4) == LOCATOR) {
    const uint8_t *q = p - LOCATOR_BYTES - END64_BYTES;
    if (at < LOCATOR_BYTES + END64_BYTES || le(q, 4) != END64 || le(q + 4, 8) != END64_BYTES - 12)
      return ms_damaged(in, (int64_t)at - LOCATOR_BYTES, -1, err, "zip: expected the ZIP64 record in front");
    d->end = at - LOCATOR_BYTES - END64_BYTES;
    d->count = le(q + 32, 8);
    d->bytes = le(q + 40, 8);
    d->begin = le(q + 48, 8);
  }
  if (d->bytes > d->end || d->begin > d->end - d->bytes)
    return ms_damaged(in, (int64_t)at, -1, err, "zip: the directory (%llu bytes at %llu) does not fit",
                      (unsigned long long)d->bytes, (unsigned long long)d->begin);
  d->prefix = d->end - d->bytes - d->begin;
  if (d->prefix && in->policy == MS_STRICT)
    return ms_damaged(in, 0, -1, err, "zip: %llu bytes in front of the archive", (unsigned long long)d->prefix);
  if (d->count > d->bytes / CENTRAL_BYTES)
    return ms_damaged(in, (int64_t)at, -1, err, "zip: %llu members do not fit into a directory of %llu bytes",
                      (unsigned long long)d->count, (unsigned long long)d->bytes);
  ms_repaired(in, MS_REPAIR_EXTRA, (int64_t)d->prefix);
  return MS_OK;
}

/* ---- members ---- */

/* The 64-bit values of an entry whose 32-bit fields are full, in this order. */
static int read_zip64(uint64_t *field[3], const uint8_t *extra, size_t n) {
  while (n >= 4) {
    size_t id = le(extra, 2), length = le(extra + 2, 2);
    extra += 4;
    n -= 4;
    if (length > n)
      return 0;
    if (id == 1) {
      for (int i = 0; i < 3; i++)
        if (*field[i] == FULL32) {
          if (length < 8)
            return 0;
          *field[i] = le(extra, 8);
          extra += 8;
          length -= 8;
        }
      return 1;
    }
    extra += length;
    n -= length;
  }
  return 1; /* the values are what they are */
}

static ms_status read_local(ms_zip_entry *e, const ms_input *in, const directory *d, uint64_t at, int64_t i,
                            ms_error *err) {
  uint64_t limit = d->end - d->bytes;
  if (e->header > limit - d->prefix || limit - d->prefix - e->header < LOCAL_BYTES)
    return ms_damaged(in, (int64_t)at, i, err, "zip: the member lies outside of the archive");
  e->header += d->prefix;
  const uint8_t *p = in->p + e->header;
  size_t names = le(p + 26, 2), extra = le(p + 28, 2);
  if (le(p, 4) != LOCAL)
    return ms_damaged(in, (int64_t)e->header, i, err, "zip: expected a member's header");
  if (limit - e->header - LOCAL_BYTES < names + extra)
    return ms_damaged(in, (int64_t)e->header, i, err, "zip: the member's header does not fit");
  if (names != e->name_bytes || memcmp(p + LOCAL_BYTES, e->name, names) != 0 || le(p + 8, 2) != (e->deflated ? 8u : 0u))
    return ms_damaged(in, (int64_t)e->header, i, err, "zip: the member's header and the directory differ");
  e->data = e->header + LOCAL_BYTES + names + extra;
  if (e->packed > limit - e->data)
    return ms_damaged(in, (int64_t)at, i, err, "zip: the member's %llu bytes do not fit into the archive",
                      (unsigned long long)e->packed);
  return MS_OK;
}

/* The entry at *at, which moves behind it. */
static ms_status read_entry(ms_zip_entry *e, uint64_t *at, const ms_input *in, const directory *d, int64_t i,
                            ms_error *err) {
  const uint8_t *p = in->p + *at;
  int64_t here = (int64_t)*at;
  if (d->end - *at < CENTRAL_BYTES || le(p, 4) != CENTRAL)
    return ms_damaged(in, here, i, err, "zip: expected an entry of the directory");
  size_t names = le(p + 28, 2), extra = le(p + 30, 2), comment = le(p + 32, 2), method = le(p + 10, 2);
  if (d->end - *at - CENTRAL_BYTES < names + extra + comment)
    return ms_damaged(in, here, i, err, "zip: the entry does not fit into the directory");
  *e = (ms_zip_entry){.name = (const char *)p + CENTRAL_BYTES,
                      .name_bytes = names,
                      .deflated = method == 8,
                      .crc = (uint32_t)le(p + 16, 4),
                      .packed = le(p + 20, 4),
                      .bytes = le(p + 24, 4),
                      .header = le(p + 42, 4)};
  if (names == 0 || memchr(e->name, 0, names))
    return ms_damaged(in, here, i, err, "zip: a member without a proper name");
  if (le(p + 8, 2) & 1)
    return ms_damaged(in, here, i, err, "zip: the member is encrypted");
  if (method != 0 && method != 8)
    return ms_damaged(in, here, i, err, "zip: expected a member that is stored or deflated, got method %zu", method);
  if (!read_zip64((uint64_t *[]){&e->bytes, &e->packed, &e->header}, p + CENTRAL_BYTES + names, extra))
    return ms_damaged(in, here, i, err, "zip: the ZIP64 values do not fit");
  ms_status status = read_local(e, in, d, *at, i, err);
  if (status)
    return status;
  if (e->deflated ? e->bytes / RATIO > e->packed : e->bytes != e->packed)
    return ms_damaged(in, here, i, err, "zip: %llu bytes cannot unpack to %llu", (unsigned long long)e->packed,
                      (unsigned long long)e->bytes);
  *at += CENTRAL_BYTES + names + extra + comment;
  return MS_OK;
}

static int by_place(const void *a, const void *b) {
  const ms_zip_entry *x = a, *y = b;
  return (x->header > y->header) - (x->header < y->header);
}

static int compare(const char *a, size_t na, const char *b, size_t nb) {
  int order = memcmp(a, b, na < nb ? na : nb);
  return order ? order : (na > nb) - (na < nb);
}

static int by_name(const void *a, const void *b) {
  const ms_zip_entry *x = a, *y = b;
  return compare(x->name, x->name_bytes, y->name, y->name_bytes);
}

static ms_status read_members(ms_zip *z, const directory *d, ms_error *err) {
  uint64_t at = d->end - d->bytes;
  for (int64_t i = 0; i < z->count; i++) {
    ms_status status = read_entry(&z->entries[i], &at, z->in, d, i, err);
    if (status)
      return status;
  }
  if (at != d->end)
    return ms_damaged(z->in, (int64_t)at, -1, err, "zip: the directory holds more than its %lld members",
                      (long long)z->count);
  qsort(z->entries, (size_t)z->count, sizeof *z->entries, by_place);
  for (int64_t i = 1; i < z->count; i++)
    if (z->entries[i].header < z->entries[i - 1].data + z->entries[i - 1].packed)
      return ms_damaged(z->in, (int64_t)z->entries[i].header, -1, err, "zip: two members share these bytes");
  qsort(z->entries, (size_t)z->count, sizeof *z->entries, by_name);
  for (int64_t i = 1; i < z->count; i++)
    if (by_name(&z->entries[i - 1], &z->entries[i]) == 0)
      return ms_damaged(z->in, (int64_t)z->entries[i].header, -1, err, "zip: two members are called '%.*s'",
                        (int)(z->entries[i].name_bytes < 80 ? z->entries[i].name_bytes : 80), z->entries[i].name);
  return MS_OK;
}

ms_status ms_zip_open(ms_zip *z, const ms_input *in, ms_error *err) {
  directory d = {0};
  z->in = in;
  z->count = 0;
  ms_status status = read_end(&d, in, err);
  if (status || d.count == 0)
    return status;
  if (!(status = ms_buffer_resize(&z->memory, (size_t)d.count * sizeof *z->entries, in->op, err))) {
    z->entries = (ms_zip_entry *)(void *)z->memory.p;
    z->count = (int64_t)d.count;
    status = read_members(z, &d, err);
  }
  if (status)
    z->count = 0;
  return status;
}

void ms_zip_close(ms_zip *z) {
  ms_buffer_free(&z->memory);
  *z = (ms_zip){0};
}

const ms_zip_entry *ms_zip_find(const ms_zip *z, const char *name) {
  int64_t lo = 0, hi = z->count;
  while (lo < hi) {
    int64_t mid = lo + (hi - lo) / 2;
    int order = compare(name, strlen(name), z->entries[mid].name, z->entries[mid].name_bytes);
    if (order == 0)
      return &z->entries[mid];
    if (order < 0)
      hi = mid;
    else
      lo = mid + 1;
  }
  return NULL;
}

static uInt at_most(uint64_t n) {
  return n < 1u << 30 ? (uInt)n : 1u << 30;
}

/* Exactly e->packed bytes to exactly e->bytes. */
static ms_status unpack(uint8_t *room, const ms_zip *z, const ms_zip_entry *e, ms_error *err) {
  z_stream s = {.next_in = (Bytef *)(uintptr_t)(z->in->p + e->data)};
  uint64_t in_left = e->packed, out_left = e->bytes;
  uint8_t past; /* inflate wants room also where nothing is left to come */
  int code;
  if (inflateInit2(&s, -15) != Z_OK)
    return ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", z->in->op, z->in->path);
  s.next_out = room;
  do {
    uInt give = at_most(in_left), take = at_most(out_left);
    s.avail_in = give;
    s.avail_out = take;
    if (take == 0) {
      s.next_out = &past;
      s.avail_out = 1;
    }
    code = inflate(&s, Z_NO_FLUSH);
    if (take == 0 && s.avail_out == 0)
      code = Z_DATA_ERROR;
    in_left -= give - s.avail_in;
    out_left -= take ? take - s.avail_out : 0;
  } while (code == Z_OK);
  inflateEnd(&s);
  if (code == Z_MEM_ERROR)
    return ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", z->in->op, z->in->path);
  if (code != Z_STREAM_END || in_left || out_left)
    return ms_damaged(z->in, (int64_t)(e->data + e->packed - in_left), -1, err,
                      "zip: '%.*s' does not unpack to the %llu bytes that it should", (int)at_most(e->name_bytes),
                      e->name, (unsigned long long)e->bytes);
  return MS_OK;
}

ms_status ms_zip_read(const uint8_t **p, uint8_t *room, const ms_zip *z, const ms_zip_entry *e, ms_error *err) {
  if (e->deflated) {
    ms_status status = unpack(room, z, e, err);
    if (status)
      return status;
  }
  *p = e->deflated ? room : z->in->p + e->data;
  if (crc32_z(0, *p, (size_t)e->bytes) != e->crc)
    return ms_damaged(z->in, (int64_t)e->data, -1, err, "zip: '%.*s': the check sum differs",
                      (int)at_most(e->name_bytes), e->name);
  return MS_OK;
}
