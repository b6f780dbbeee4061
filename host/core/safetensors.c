/* Reading safetensors. Every number of the header is checked before it is used; see safetensors_write.c for writing. */
#include "safetensors.h"
#include "json.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_HEADER 100000000
#define MAX_EXACT ((int64_t)1 << 53)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are mapped as they lie in the file");

enum {
#define ST_DTYPE(name, bits) ST_##name,
#include "st_dtype.def"
#undef ST_DTYPE
  ST_COUNT
};

static const struct {
  const char *name;
  int bits;
} st_dtype[] = {
#define ST_DTYPE(name, bits) {#name, bits},
#include "st_dtype.def"
#undef ST_DTYPE
};

typedef struct pair {
  const char *key, *value;
} pair;

struct ms_st_file {
  int fd;
  const char *map;
  size_t bytes;     /* of the file */
  const char *data; /* the data section */
  int64_t data_bytes;
  ms_st_entry *entries; /* by offset */
  int *by_name;         /* indices into entries */
  pair *metadata;
  int count, room, metadata_count, metadata_room;
  char *strings; /* names, keys and values; as large as the header, which holds them longer */
  size_t strings_used;
  char path[256];
};

/* What parsing needs; the first problem found wins. */
typedef struct parse {
  ms_st_file *f;
  ms_json json;
  ms_error *err;
} parse;

#define BAD(p, ...) damaged((p)->f, (p)->err, __VA_ARGS__)

static ms_status damaged(const ms_st_file *f, ms_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static ms_status damaged(const ms_st_file *f, ms_error *err, const char *format, ...) {
  char text[240];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return ms_fail(err, MS_EFORMAT, "safetensors: %s: damaged file: %s", f->path, text);
}

static int find_dtype(const char *name) {
  for (int i = 0; i < ST_COUNT; i++)
    if (strcmp(st_dtype[i].name, name) == 0)
      return i;
  return -1;
}

/* ---- the header ---- */

/* The last event was not what the format wants, or no JSON at all. */
static ms_status unexpected(parse *p, const char *wanted) {
  if (p->json.error == ms_json_no_memory)
    return ms_fail(p->err, MS_EMEM, "safetensors: %s: out of memory", p->f->path);
  if (p->json.error)
    return BAD(p, "header, byte %zu: %s", p->json.at, p->json.error);
  return BAD(p, "header, byte %zu: expected %s", p->json.at, wanted);
}

static ms_status next(parse *p, ms_json_event event, const char *wanted) {
  return ms_json_next(&p->json) == event ? MS_OK : unexpected(p, wanted);
}

static ms_status keep_string(parse *p, const char **out) {
  const ms_json *r = &p->json;
  if (memchr(r->string, 0, r->string_length))
    return BAD(p, "header, byte %zu: a NUL inside a string", r->at);
  char *s = p->f->strings + p->f->strings_used;
  memcpy(s, r->string, r->string_length + 1);
  p->f->strings_used += r->string_length + 1;
  *out = s;
  return MS_OK;
}

/* Keeps the key, or *key = NULL at the end of the object. */
static ms_status next_key(parse *p, const char **key) {
  ms_json_event event = ms_json_next(&p->json);
  *key = NULL;
  if (event == MS_JSON_OBJECT_END)
    return MS_OK;
  if (event == MS_JSON_KEY)
    return keep_string(p, key);
  return unexpected(p, "a key");
}

/* Doubles *items, which holds count elements of the given size, when it is full. */
static ms_status grow(parse *p, void *items, int count, int *room, size_t size) {
  void *old, *wider;
  if (count < *room)
    return MS_OK;
  int n = *room ? *room * 2 : 64;
  wider = ms_alloc((size_t)n * size);
  if (!wider)
    return ms_fail(p->err, MS_EMEM, "safetensors: %s: out of memory for %d entries", p->f->path, n);
  memcpy(&old, items, sizeof old);
  if (count)
    memcpy(wider, old, (size_t)count * size);
  ms_free(old);
  memcpy(items, &wider, sizeof wider);
  *room = n;
  return MS_OK;
}

static ms_status parse_metadata(parse *p) {
  ms_st_file *f = p->f;
  ms_status status = next(p, MS_JSON_OBJECT, "an object for __metadata__");
  while (!status) {
    const char *key, *value = NULL;
    if ((status = next_key(p, &key)) || !key)
      break;
    if ((status = next(p, MS_JSON_STRING, "a string in __metadata__")) || (status = keep_string(p, &value)))
      break;
    status = grow(p, &f->metadata, f->metadata_count, &f->metadata_room, sizeof *f->metadata);
    if (!status)
      f->metadata[f->metadata_count++] = (pair){key, value};
  }
  return status;
}

/* An array of non-negative exact integers; *n is how many, at most `most`. */
static ms_status parse_integers(parse *p, int64_t *out, int *n, int most, const char *what) {
  ms_status status = next(p, MS_JSON_ARRAY, "an array");
  if (status)
    return status;
  for (*n = 0;; (*n)++) {
    ms_json_event event = ms_json_next(&p->json);
    if (event == MS_JSON_ARRAY_END)
      return MS_OK;
    if (event != MS_JSON_INTEGER || p->json.integer < 0 || p->json.integer >= MAX_EXACT)
      return unexpected(p, "integers in [0, 2^53)");
    if (*n == most)
      return BAD(p, "header, byte %zu: %s: more than %d numbers", p->json.at, what, most);
    out[*n] = p->json.integer;
  }
}

static ms_status parse_entry(parse *p, const char *name) {
  ms_st_file *f = p->f;
  ms_st_entry e = {.name = name};
  int64_t offsets[2];
  int noffsets, seen[3] = {0};
  static const char *const known[] = {"dtype", "shape", "data_offsets"};
  ms_status status = next(p, MS_JSON_OBJECT, "an object");
  while (!status) {
    const char *key;
    if ((status = next_key(p, &key)) || !key)
      break;
    int k = 0;
    while (k < 3 && strcmp(key, known[k]) != 0)
      k++;
    if (k == 3 || seen[k]++)
      return BAD(p, "'%.80s': %s key '%.40s'", name, k == 3 ? "unknown" : "duplicate", key);
    if (k == 0) {
      status = next(p, MS_JSON_STRING, "a string for dtype");
      if (!status && (p->json.string_length >= sizeof e.dtype || strlen(p->json.string) != p->json.string_length ||
                      find_dtype(p->json.string) < 0))
        return BAD(p, "'%.80s': unknown dtype '%.40s'", name, p->json.string);
      if (!status)
        memcpy(e.dtype, p->json.string, p->json.string_length + 1);
    } else if (k == 1) {
      status = parse_integers(p, e.size, &e.ndim, MS_MAX_DIMS, "shape");
    } else {
      status = parse_integers(p, offsets, &noffsets, 2, "data_offsets");
      if (!status && noffsets != 2)
        return BAD(p, "'%.80s': data_offsets: expected 2 numbers, got %d", name, noffsets);
    }
  }
  if (!status && !(seen[0] && seen[1] && seen[2]))
    return BAD(p, "'%.80s': no %s", name, known[!seen[0] ? 0 : !seen[1] ? 1 : 2]);
  if (!status)
    status = grow(p, &f->entries, f->count, &f->room, sizeof *f->entries);
  if (status)
    return status;
  e.begin = offsets[0];
  e.end = offsets[1];
  f->entries[f->count++] = e;
  return MS_OK;
}

static ms_status parse_header(parse *p) {
  int metadata = 0;
  ms_status status = next(p, MS_JSON_OBJECT, "an object");
  while (!status) {
    const char *name;
    if ((status = next_key(p, &name)))
      return status;
    if (!name)
      return next(p, MS_JSON_END, "the end");
    if (strcmp(name, "__metadata__") != 0)
      status = parse_entry(p, name);
    else if (metadata++)
      status = BAD(p, "duplicate key '__metadata__'");
    else
      status = parse_metadata(p);
  }
  return status;
}

/* ---- what the entries say, against each other and the file ---- */

static int compare_offset(const void *a, const void *b) {
  const ms_st_entry *x = a, *y = b;
  if (x->begin != y->begin)
    return x->begin < y->begin ? -1 : 1;
  if (x->end != y->end)
    return x->end < y->end ? -1 : 1;
  return strcmp(x->name, y->name);
}

static int compare_name(const void *a, const void *b, void *entries) {
  const ms_st_entry *e = entries;
  return strcmp(e[*(const int *)a].name, e[*(const int *)b].name);
}

static int compare_key(const void *a, const void *b) {
  return strcmp(((const pair *)a)->key, ((const pair *)b)->key);
}

/* Bytes of the shape, -1 where they overflow or end inside a byte. */
static int64_t entry_bytes(const ms_st_entry *e) {
  int64_t n = 1, bits;
  for (int i = 0; i < e->ndim; i++)
    if (e->size[i] == 0)
      return 0;
  for (int i = 0; i < e->ndim; i++)
    if (__builtin_mul_overflow(n, e->size[i], &n))
      return -1;
  if (__builtin_mul_overflow(n, st_dtype[find_dtype(e->dtype)].bits, &bits) || bits % 8)
    return -1;
  return bits / 8;
}

static ms_status check_entries(parse *p) {
  ms_st_file *f = p->f;
  int64_t at = 0;
  if (f->count)
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, compare_offset);
  for (int i = 0; i < f->count; i++) {
    const ms_st_entry *e = &f->entries[i];
    if (e->begin != at)
      return BAD(p, "'%.80s': %s at byte %lld of the data", e->name, e->begin > at ? "a hole" : "an overlap",
                 (long long)(e->begin > at ? at : e->begin));
    if (e->end < e->begin || e->end > f->data_bytes)
      return BAD(p, "'%.80s': bytes [%lld, %lld) do not lie in the %lld bytes of data", e->name, (long long)e->begin,
                 (long long)e->end, (long long)f->data_bytes);
    if (e->end - e->begin != entry_bytes(e))
      return BAD(p, "'%.80s': %lld bytes do not hold %s %s", e->name, (long long)(e->end - e->begin), e->dtype,
                 ms_shape_text(e->ndim, e->size).s);
    at = e->end;
  }
  if (at != f->data_bytes)
    return BAD(p, "%lld bytes of data belong to no tensor", (long long)(f->data_bytes - at));
  f->by_name = ms_alloc((size_t)(f->count + 1) * sizeof *f->by_name);
  if (!f->by_name)
    return ms_fail(p->err, MS_EMEM, "safetensors: %s: out of memory", f->path);
  for (int i = 0; i < f->count; i++)
    f->by_name[i] = i;
  qsort_r(f->by_name, (size_t)f->count, sizeof *f->by_name, compare_name, f->entries);
  for (int i = 1; i < f->count; i++)
    if (compare_name(&f->by_name[i - 1], &f->by_name[i], f->entries) == 0)
      return BAD(p, "duplicate name '%.80s'", f->entries[f->by_name[i]].name);
  if (f->metadata_count)
    qsort(f->metadata, (size_t)f->metadata_count, sizeof *f->metadata, compare_key);
  for (int i = 1; i < f->metadata_count; i++)
    if (compare_key(&f->metadata[i - 1], &f->metadata[i]) == 0)
      return BAD(p, "duplicate key '%.80s' in __metadata__", f->metadata[i].key);
  return MS_OK;
}

/* ---- the file ---- */

static ms_status map_file(ms_st_file *f, const char *path, ms_error *err) {
  struct stat st;
  f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block */
  if (f->fd < 0 || fstat(f->fd, &st))
    return ms_fail(err, MS_EIO, "safetensors: %s: %s", f->path, strerror(errno));
  if (!S_ISREG(st.st_mode))
    return ms_fail(err, MS_EIO, "safetensors: %s: not a regular file", f->path);
  if (st.st_size < 8)
    return damaged(f, err, "%lld bytes, expected at least 8", (long long)st.st_size);
  f->bytes = (size_t)st.st_size;
  void *map = mmap(NULL, f->bytes, PROT_READ, MAP_PRIVATE, f->fd, 0);
  if (map == MAP_FAILED)
    return ms_fail(err, MS_EIO, "safetensors: %s: %s", f->path, strerror(errno));
  f->map = map;
  return MS_OK;
}

ms_status ms_st_open(ms_st_file **out, const char *path, ms_error *err) {
  *out = NULL;
  ms_st_file *f = ms_alloc(sizeof *f);
  if (!f)
    return ms_fail(err, MS_EMEM, "safetensors: %.200s: out of memory", path);
  parse p = {.f = f, .err = err};
  f->fd = -1;
  snprintf(f->path, sizeof f->path, "%s", path);
  ms_status status = map_file(f, path, err);
  if (status)
    goto done;
  uint64_t header = 0;
  memcpy(&header, f->map, 8);
  if (header > MAX_HEADER || header > f->bytes - 8) {
    status = damaged(f, err, "header of %llu bytes in a file of %zu (limit %d)", (unsigned long long)header, f->bytes,
                     MAX_HEADER);
    goto done;
  }
  if (header == 0 || f->map[8] != '{') {
    status = damaged(f, err, "the header does not begin with '{'");
    goto done;
  }
  f->data = f->map + 8 + header;
  f->data_bytes = (int64_t)(f->bytes - 8 - header);
  f->strings = ms_alloc(header);
  if (!f->strings) {
    status = ms_fail(err, MS_EMEM, "safetensors: %s: out of memory for a header of %llu bytes", f->path,
                     (unsigned long long)header);
    goto done;
  }
  ms_json_init(&p.json, f->map + 8, header);
  status = parse_header(&p);
  if (!status)
    status = check_entries(&p);
  ms_json_free(&p.json);
done:
  if (status)
    ms_st_close(f);
  else
    *out = f;
  return status;
}

void ms_st_close(ms_st_file *f) {
  if (!f)
    return;
  if (f->map)
    munmap((void *)(uintptr_t)f->map, f->bytes);
  if (f->fd >= 0)
    close(f->fd);
  ms_free(f->entries);
  ms_free(f->by_name);
  ms_free(f->metadata);
  ms_free(f->strings);
  ms_free(f);
}

int ms_st_count(const ms_st_file *f) {
  return f->count;
}

const ms_st_entry *ms_st_at(const ms_st_file *f, int i) {
  return &f->entries[i];
}

int ms_st_find(const ms_st_file *f, const char *name) {
  int lo = 0, hi = f->count;
  while (lo < hi) {
    int mid = lo + (hi - lo) / 2, order = strcmp(name, f->entries[f->by_name[mid]].name);
    if (order == 0)
      return f->by_name[mid];
    if (order < 0)
      hi = mid;
    else
      lo = mid + 1;
  }
  return -1;
}

int ms_st_metadata_count(const ms_st_file *f) {
  return f->metadata_count;
}

void ms_st_metadata_at(const ms_st_file *f, int i, const char **key, const char **value) {
  *key = f->metadata[i].key;
  *value = f->metadata[i].value;
}

const void *ms_st_bytes(const ms_st_file *f, int i) {
  return f->data + f->entries[i].begin;
}

/* ---- values ---- */

static float half_to_float(uint16_t h) {
  int exponent = h >> 10 & 31, mantissa = h & 1023;
  float v = exponent == 31 ? (mantissa ? NAN : INFINITY)
            : exponent     ? ldexpf((float)(1024 + mantissa), exponent - 25)
                           : ldexpf((float)mantissa, -24);
  return h >> 15 ? -v : v;
}

/* The dtype a file's type becomes here, -1 where it has none. */
static int target(int type) {
  switch (type) {
  case ST_F16:
  case ST_F32:
  case ST_F64:
    return MS_F32;
  case ST_BF16:
    return MS_BF16;
  case ST_BOOL:
  case ST_U8:
    return MS_U8;
  case ST_I8:
  case ST_I16:
  case ST_U16:
  case ST_I32:
  case ST_U32:
  case ST_I64:
  case ST_U64:
    return MS_I64;
  default:
    return -1;
  }
}

/* to[i] = from[i] for n elements; the file promises no alignment, hence memcpy. 0 when a value does not fit. */
static int convert(void *to, int type, const char *from, int64_t n) {
#define CONVERT(TO, FROM, EXPR)                         \
  for (int64_t i = 0; i < n; i++) {                     \
    FROM v;                                             \
    memcpy(&v, from + i * (int64_t)sizeof v, sizeof v); \
    ((TO *)to)[i] = (TO)(EXPR);                         \
  }                                                     \
  return 1
  switch (type) {
  case ST_F16:
    CONVERT(ms_real, uint16_t, half_to_float(v));
  case ST_F32:
    CONVERT(ms_real, float, v);
  case ST_F64:
    CONVERT(ms_real, double, v);
  case ST_BOOL:
    CONVERT(uint8_t, uint8_t, v != 0);
  case ST_I8:
    CONVERT(int64_t, int8_t, v);
  case ST_I16:
    CONVERT(int64_t, int16_t, v);
  case ST_U16:
    CONVERT(int64_t, uint16_t, v);
  case ST_I32:
    CONVERT(int64_t, int32_t, v);
  case ST_U32:
    CONVERT(int64_t, uint32_t, v);
  case ST_U64:
    for (int64_t i = 0; i < n; i++)
      if (from[i * 8 + 7] & 0x80)
        return 0;
    break;
  default:
    break;
  }
  memcpy(to, from, (size_t)n * (size_t)(st_dtype[type].bits / 8));
  return 1;
#undef CONVERT
}

ms_status ms_st_tensor(ms_tensor **out, const ms_st_file *f, int i, ms_error *err) {
  const ms_st_entry *e = &f->entries[i];
  struct stat st;
  ms_status status;
  int type = find_dtype(e->dtype), dtype = target(type);
  *out = NULL;
  if (dtype < 0)
    return ms_fail(err, MS_ETYPE, "safetensors: %s: '%.80s': no tensor type for %s", f->path, e->name, e->dtype);
  /* Reading behind the end of a file that was cut since it was mapped would be a bus error. */
  if (fstat(f->fd, &st) || (size_t)st.st_size < f->bytes)
    return ms_fail(err, MS_EIO, "safetensors: %s: the file has been cut since it was opened", f->path);
  ms_tensor *t = NULL;
  void *values = NULL;
  if ((status = ms_tensor_new(&t, ms_device_cpu(), (ms_dtype)dtype, e->ndim, e->size, err)))
    return status;
  int64_t n = ms_numel(t);
  values = ms_alloc((size_t)n * ms_dtype_size((ms_dtype)dtype) + 1);
  if (!values)
    status = ms_fail(err, MS_EMEM, "safetensors: %s: '%.80s': out of memory", f->path, e->name);
  else if (!convert(values, type, ms_st_bytes(f, i), n))
    status = ms_fail(err, MS_ERANGE, "safetensors: %s: '%.80s': a U64 value does not fit int64", f->path, e->name);
  else if (n > 0)
    status = ms_write(t, values, err);
  ms_free(values);
  if (status)
    ms_release(t);
  else
    *out = t;
  return status;
}
