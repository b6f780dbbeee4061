#include "mat5.h"
#include "bytes.h"
#include <limits.h>
#include <string.h>
#include <zlib.h>

#define MOST ((size_t)1 << 30) /* bytes that all arrays of a file may unpack to */

enum { MI_INT8 = 1, MI_INT32 = 5, MI_UINT32 = 6, MI_MATRIX = 14, MI_COMPRESSED = 15 };

/* Bytes of an element, by mi number; 0: not a number. */
static int width_of(uint32_t type) {
  static const unsigned char width[] = {0, 1, 1, 2, 2, 4, 4, 4, 0, 8, 0, 0, 8, 8};
  return type < sizeof width ? width[type] : 0;
}

/* What is still to be read of the file or of one unpacked array. */
typedef struct reader {
  const ms_input *in;
  const uint8_t *p;
  size_t n;
  int big;
  int64_t base; /* where p[0] lies in the file, or the compressed data that it came from */
  int packed;
  size_t unpacked; /* of the file, so far */
} reader;

typedef struct element {
  uint32_t type;
  size_t n;
  const uint8_t *p;
} element;

static uint32_t word(const reader *r, const uint8_t *p) {
  return r->big ? ms_be32(p) : ms_le32(p);
}

static int64_t place(const reader *r, const uint8_t *p) {
  return r->packed ? r->base : r->base + (p - r->p);
}

/* The element at *at, and on to the next. */
static ms_status next_element(element *e, const reader *r, size_t *at, ms_error *err) {
  const uint8_t *p = r->p + *at;
  size_t left = r->n - *at, used;
  *e = (element){0};
  if (left < 8)
    return ms_damaged(r->in, place(r, p), -1, err, "%zu bytes are no element", left);
  uint32_t first = word(r, p);
  if (first >> 16) {
    *e = (element){first & 0xffff, first >> 16, p + 4};
    if (e->n > 4)
      return ms_damaged(r->in, place(r, p), -1, err, "a small element of %zu bytes", e->n);
    used = 8;
  } else {
    *e = (element){first, word(r, p + 4), p + 8};
    if (e->n > left - 8)
      return ms_damaged(r->in, place(r, p), -1, err, "an element of %zu bytes, of which there are %zu", e->n, left - 8);
    used = 8 + (e->type == MI_COMPRESSED ? e->n : (e->n + 7) / 8 * 8);
  }
  *at += used < left ? used : left;
  return MS_OK;
}

static ms_status part(element *e, const reader *r, size_t *at, uint32_t type, const char *what, ms_error *err) {
  size_t from = *at;
  ms_status status = next_element(e, r, at, err);
  if (!status && e->type != type)
    status = ms_damaged(r->in, place(r, r->p + from), -1, err, "expected the %s of an array, got type %u", what,
                        (unsigned)e->type);
  return status;
}

static ms_status read_dims(ms_mat5_array *a, const reader *r, const element *e, ms_error *err) {
  int64_t size[2] = {0, 1};
  for (size_t i = 0; i < e->n / 4; i++) {
    int64_t d = (int32_t)word(r, e->p + 4 * i);
    if (d < 0 || __builtin_mul_overflow(i ? size[1] : 1, d, &size[i > 0]))
      return ms_damaged(r->in, place(r, e->p), -1, err, "impossible sizes");
  }
  if (e->n < 8 || e->n % 4 || size[0] > INT_MAX || size[1] > INT_MAX || __builtin_mul_overflow(size[0], size[1], &a->n))
    return ms_damaged(r->in, place(r, e->p), -1, err, "impossible sizes");
  a->rows = (int)size[0];
  a->columns = (int)size[1];
  return MS_OK;
}

/* One array, whose parts are all of r. *taken: which of the wanted it is, or -1. */
static ms_status read_array(int *taken, ms_mat5_array *want, int n, const reader *r, ms_error *err) {
  element flags, dims, name, data;
  size_t at = 0;
  ms_status status;
  *taken = -1;
  if ((status = part(&flags, r, &at, MI_UINT32, "flags", err)) ||
      (status = part(&dims, r, &at, MI_INT32, "sizes", err)) || (status = part(&name, r, &at, MI_INT8, "name", err)))
    return status;
  if (flags.n != 8)
    return ms_damaged(r->in, place(r, flags.p), -1, err, "flags of %zu bytes", flags.n);
  for (int i = 0; i < n; i++)
    if (strlen(want[i].name) == name.n && memcmp(want[i].name, name.p, name.n) == 0)
      *taken = i;
  if (*taken < 0)
    return MS_OK;
  ms_mat5_array *a = &want[*taken];
  uint32_t bits = word(r, flags.p), class = bits & 0xff;
  if (a->found)
    return ms_damaged(r->in, place(r, name.p), -1, err, "two arrays '%s'", a->name);
  if (class < 6 || class > 15 || bits & 0x800)
    return ms_damaged(r->in, place(r, flags.p), -1, err, "'%s': expected real numbers, got class %u%s", a->name,
                      (unsigned)class, bits & 0x800 ? ", complex" : "");
  if ((status = read_dims(a, r, &dims, err)) || (status = next_element(&data, r, &at, err)))
    return status;
  int width = width_of(data.type);
  if (!width || (int64_t)data.n / width != a->n || data.n % (size_t)width)
    return ms_damaged(r->in, place(r, data.p), -1, err, "'%s': %zu bytes of type %u cannot be %d x %d numbers", a->name,
                      data.n, (unsigned)data.type, a->rows, a->columns);
  if (at < r->n)
    return ms_damaged(r->in, place(r, r->p + at), -1, err, "'%s': more data than the sizes say", a->name);
  a->p = data.p;
  a->type = (int)data.type;
  a->big = r->big;
  a->byte = place(r, data.p);
  a->found = 1;
  return MS_OK;
}

/* Unpacks the one element inside of e: its tag says how large it is, and deflate never exceeds 1032 to 1. */
static ms_status unpack(ms_buffer *out, reader *file, const element *e, ms_error *err) {
  uint8_t tag[8];
  int64_t at = place(file, e->p);
  z_stream z = {.next_in = (Bytef *)(uintptr_t)e->p, .avail_in = (uInt)e->n, .next_out = tag, .avail_out = 8};
  if (inflateInit(&z) != Z_OK)
    return ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", file->in->op, file->in->path);
  int code = inflate(&z, Z_SYNC_FLUSH);
  size_t bytes = word(file, tag + 4);
  ms_status status = MS_OK;
  if ((code != Z_OK && code != Z_STREAM_END) || z.avail_out)
    status = ms_damaged(file->in, at, -1, err, "compressed data: %s", z.msg ? z.msg : "they end too early");
  else if (word(file, tag) != MI_MATRIX || bytes / 1032 > e->n)
    status = ms_damaged(file->in, at, -1, err, "compressed data: expected an array that fits, got type %u of %zu bytes",
                        (unsigned)word(file, tag), bytes);
  else if (bytes > MOST - file->unpacked)
    status = ms_damaged(file->in, at, -1, err, "compressed data: expected at most %zu bytes unpacked, got more", MOST);
  else if (!(status = ms_buffer_resize(out, bytes, file->in->op, err))) {
    uint8_t none;
    file->unpacked += bytes;
    z.next_out = bytes ? out->p : &none;
    z.avail_out = (uInt)bytes;
    code = inflate(&z, Z_FINISH);
    if (code != Z_STREAM_END || z.avail_out || z.avail_in)
      status = ms_damaged(file->in, at, -1, err, "compressed data: %s",
                          z.msg ? z.msg : "they do not hold what their size says");
  }
  inflateEnd(&z);
  return status;
}

static ms_status read_packed(ms_mat5_array *want, int n, reader *file, const element *e, ms_error *err) {
  ms_buffer memory = {0};
  int taken = -1;
  ms_status status = unpack(&memory, file, e, err);
  if (!status) {
    reader r = {file->in, memory.p, memory.bytes, file->big, place(file, e->p), 1, 0};
    status = read_array(&taken, want, n, &r, err);
  }
  if (!status && taken >= 0)
    want[taken].memory = memory;
  else
    ms_buffer_free(&memory);
  return status;
}

static ms_status open_file(reader *r, const ms_input *in, ms_error *err) {
  const char *other = ms_looks_like(in->p, in->n);
  if (in->n >= 10 && memcmp(in->p, "MATLAB 7.3", 10) == 0)
    return ms_damaged(in, 0, -1, err,
                      "expected version 5, got 7.3 (HDF5); in MATLAB, save(..., '-v7') writes what is read");
  if (in->n < 128)
    return ms_damaged(in, (int64_t)in->n, -1, err, "the header of 128 bytes is cut off%s%s",
                      other ? "; the file looks like " : "", other ? other : "");
  int big = memcmp(in->p + 124, "\1\0MI", 4) == 0;
  if (!big && memcmp(in->p + 124, "\0\1IM", 4) != 0)
    return ms_damaged(in, 124, -1, err, "expected the header of a MAT file of version 5%s%s", other ? ", got " : "",
                      other ? other : "");
  *r = (reader){in, in->p + 128, in->n - 128, big, 128, 0, 0};
  return MS_OK;
}

ms_status ms_mat5_find(ms_mat5_array *want, int n, const ms_input *in, ms_error *err) {
  reader file = {0};
  ms_status status = open_file(&file, in, err);
  for (size_t at = 0; !status && at < file.n;) {
    element e;
    int taken;
    size_t from = at;
    if ((status = next_element(&e, &file, &at, err)))
      break;
    if (e.type == MI_COMPRESSED) {
      status = read_packed(want, n, &file, &e, err);
    } else if (e.type == MI_MATRIX) {
      reader r = {in, e.p, e.n, file.big, place(&file, e.p), 0, 0};
      status = read_array(&taken, want, n, &r, err);
    } else {
      status = ms_damaged(in, place(&file, file.p + from), -1, err, "expected an array, got type %u", (unsigned)e.type);
    }
  }
  return status;
}

void ms_mat5_free(ms_mat5_array *want, int n) {
  for (int i = 0; i < n; i++)
    ms_buffer_free(&want[i].memory);
}

#define SWAP8(v) (v)
#define SWAP16(v) __builtin_bswap16(v)
#define SWAP32(v) __builtin_bswap32(v)
#define SWAP64(v) __builtin_bswap64(v)

/* i: the first element whose bits, read as a value of type T, are not whole or beyond 63 bits. */
#define CONVERT(T, bits, whole)                      \
  for (i = 0; i < n; i++) {                          \
    T v;                                             \
    uint##bits##_t b;                                \
    memcpy(&b, p + i * (int64_t)sizeof b, sizeof b); \
    b = a->big ? (uint##bits##_t)SWAP##bits(b) : b;  \
    memcpy(&v, &b, sizeof v);                        \
    if (!(whole))                                    \
      break;                                         \
    out[i] = (int64_t)v;                             \
  }                                                  \
  break

ms_status ms_mat5_integers(int64_t *out, const ms_mat5_array *a, int64_t from, int64_t n, const ms_input *in,
                           ms_error *err) {
  const uint8_t *p = a->p + from * width_of((uint32_t)a->type);
  int64_t i = 0;
  switch (a->type) {
  case 1:
    CONVERT(int8_t, 8, 1);
  case 2:
    CONVERT(uint8_t, 8, 1);
  case 3:
    CONVERT(int16_t, 16, 1);
  case 4:
    CONVERT(uint16_t, 16, 1);
  case 5:
    CONVERT(int32_t, 32, 1);
  case 6:
    CONVERT(uint32_t, 32, 1);
  case 7:
    CONVERT(float, 32, v > -0x1p63f && v < 0x1p63f && v == (float)(int64_t)v);
  case 9:
    CONVERT(double, 64, v > -0x1p63 && v < 0x1p63 && v == (double)(int64_t)v);
  case 12:
    CONVERT(int64_t, 64, 1);
  case 13:
    CONVERT(uint64_t, 64, v <= INT64_MAX);
  }
  if (i < n)
    return ms_damaged(in, a->byte, from + i, err, "'%s': expected whole numbers", a->name);
  return MS_OK;
}

/* p of a whole number; -1 where it is none. */
static int polarity(int64_t v, ms_policy policy) {
  if (policy == MS_ORACLE)
    return v != 0;
  return v == 1 ? 1 : v == 0 || v == -1 ? 0 : -1;
}

static ms_status decode(ms_sink *s, const ms_mat5_array a[4], ms_error *err) {
  enum { CHUNK = 512 };
  int64_t v[4][CHUNK], invalid = 0;
  const ms_input *in = s->in;
  for (int64_t from = 0; from < a[0].n; from += CHUNK) {
    int64_t n = a[0].n - from < CHUNK ? a[0].n - from : CHUNK;
    for (int k = 0; k < 4; k++) {
      ms_status status = ms_mat5_integers(v[k], &a[k], from, n, in, err);
      if (status)
        return status;
    }
    ms_sink own = *s;
    for (int64_t i = 0; i < n; i++) {
      int p = polarity(v[3][i], in->policy);
      if (p < 0 && in->policy != MS_LENIENT)
        return ms_damaged(in, a[3].byte, from + i, err, "'pol': expected 1, 0 or -1, got %lld", (long long)v[3][i]);
      if (p < 0) {
        invalid++;
        continue;
      }
      ms_status status = ms_sink_add(&own, v[0][i], v[1][i], v[2][i], p, a[0].byte, from + i, err);
      if (status)
        return status;
    }
    *s = own;
  }
  ms_repaired(in, MS_REPAIR_INVALID, invalid);
  return MS_OK;
}

ms_status ms_mat5_decode(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err) {
  ms_mat5_array a[4] = {{.name = "ts"}, {.name = "x"}, {.name = "y"}, {.name = "pol"}};
  ms_sink s;
  ms_sink_open(&s, out, in, opt, 240, 180);
  ms_status status = ms_mat5_find(a, 4, in, err);
  for (int k = 0; k < 4 && !status; k++)
    if (!a[k].found)
      status = ms_damaged(in, (int64_t)in->n, -1, err, "there is no array '%s'", a[k].name);
    else if (a[k].n != a[0].n || (a[k].rows != 1 && a[k].columns != 1 && a[k].n != 0))
      status = ms_damaged(in, a[k].byte, -1, err, "'%s': expected a vector of %lld, one for each of 'ts', got %d x %d",
                          a[k].name, (long long)a[0].n, a[k].rows, a[k].columns);
  if (!status && !(status = ms_sink_room(&s, a[0].n, err)) && !(status = decode(&s, a, err)))
    status = ms_sink_close(&s, err);
  ms_mat5_free(a, 4);
  return status;
}
