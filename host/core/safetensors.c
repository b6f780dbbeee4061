/* Reading safetensors. Every number of the header is checked before it is used; see safetensors_write.c for writing. */
#include "safetensors.h"
#include "../../kernels/math/convert.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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
  int count, metadata_count;
  char *strings; /* names, keys and values; as large as the header, where each has quotes more */
  size_t strings_used;
  char path[256];
};

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

static const char *keep(ms_st_file *f, const char *s) {
  char *copy = f->strings + f->strings_used;
  f->strings_used += strlen(strcpy(copy, s)) + 1;
  return copy;
}

static ms_status read_metadata(ms_st_file *f, json_t *object, ms_error *err) {
  const char *key;
  json_t *value;
  if (!json_is_object(object))
    return damaged(f, err, "expected an object for __metadata__");
  f->metadata = ms_alloc((json_object_size(object) + 1) * sizeof *f->metadata);
  if (!f->metadata)
    return ms_fail(err, MS_EMEM, "safetensors: %s: out of memory", f->path);
  json_object_foreach(object, key, value) {
    if (!json_is_string(value))
      return damaged(f, err, "'%.80s': expected a string in __metadata__", key);
    f->metadata[f->metadata_count++] = (pair){keep(f, key), keep(f, json_string_value(value))};
  }
  return MS_OK;
}

static ms_status read_entry(ms_st_file *f, const char *name, json_t *object, ms_error *err) {
  ms_st_entry e = {0};
  json_error_t at;
  const char *dtype;
  json_t *shape, *size;
  json_int_t begin, end;
  size_t i;
  if (json_unpack_ex(object, &at, JSON_STRICT, "{s:s, s:o, s:[I, I]}", "dtype", &dtype, "shape", &shape, "data_offsets",
                     &begin, &end))
    return damaged(f, err, "'%.80s': %s", name, at.text);
  if (find_dtype(dtype) < 0)
    return damaged(f, err, "'%.80s': unknown dtype '%.40s'", name, dtype);
  strcpy(e.dtype, dtype);
  if (!json_is_array(shape) || json_array_size(shape) > MS_MAX_DIMS)
    return damaged(f, err, "'%.80s': shape: expected an array of at most %d numbers", name, MS_MAX_DIMS);
  json_array_foreach(shape, i, size) {
    e.size[e.ndim] = json_integer_value(size); /* 0 for what is no integer */
    if (!json_is_integer(size) || e.size[e.ndim] < 0 || e.size[e.ndim] >= MAX_EXACT)
      return damaged(f, err, "'%.80s': shape: expected integers in [0, 2^53)", name);
    e.ndim++;
  }
  if (begin < 0 || begin >= MAX_EXACT || end < 0 || end >= MAX_EXACT)
    return damaged(f, err, "'%.80s': data_offsets: expected integers in [0, 2^53)", name);
  e.name = keep(f, name);
  e.begin = begin;
  e.end = end;
  f->entries[f->count++] = e;
  return MS_OK;
}

/* Refuses, before the tree is built, what would make it far larger than its text ('{},' takes 75 times as much): an
** entry has 3 brackets and at least 50 bytes. And NUL bytes, which Jansson 2.14 passes over behind a number. */
static ms_status check_text(const ms_st_file *f, const char *text, size_t n, ms_error *err) {
  size_t brackets = 0;
  int quoted = 0;
  for (size_t i = 0; i < n; i++) {
    if (text[i] == 0)
      return damaged(f, err, "header, byte %zu: a NUL", i + 1);
    if (quoted && text[i] == '\\' && i + 1 < n && text[i + 1])
      i++;
    else if (text[i] == '"')
      quoted = !quoted;
    else if (!quoted && (text[i] == '{' || text[i] == '['))
      brackets++;
  }
  return brackets > 64 + n / 16 ? damaged(f, err, "header: %zu brackets in %zu bytes", brackets, n) : MS_OK;
}

static ms_status read_header(ms_st_file *f, const char *text, size_t n, ms_error *err) {
  json_error_t at;
  const char *name;
  json_t *value;
  ms_status status = check_text(f, text, n, err);
  if (status)
    return status;
  json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &at);
  if (!root && at.text[0])
    return damaged(f, err, "header, byte %d: %s", at.position, at.text);
  f->strings = ms_alloc(n);
  f->entries = ms_alloc((json_object_size(root) + 1) * sizeof *f->entries);
  if (!root || !f->strings || !f->entries)
    status = ms_fail(err, MS_EMEM, "safetensors: %s: out of memory for a header of %zu bytes", f->path, n);
  else
    json_object_foreach(root, name, value) {
      status = strcmp(name, "__metadata__") == 0 ? read_metadata(f, value, err) : read_entry(f, name, value, err);
      if (status)
        break;
    }
  json_decref(root);
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

static ms_status check_entries(ms_st_file *f, ms_error *err) {
  int64_t at = 0;
  if (f->count)
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, compare_offset);
  for (int i = 0; i < f->count; i++) {
    const ms_st_entry *e = &f->entries[i];
    if (e->begin != at)
      return damaged(f, err, "'%.80s': %s at byte %lld of the data", e->name, e->begin > at ? "a hole" : "an overlap",
                     (long long)(e->begin > at ? at : e->begin));
    if (e->end < e->begin || e->end > f->data_bytes)
      return damaged(f, err, "'%.80s': bytes [%lld, %lld) do not lie in the %lld bytes of data", e->name,
                     (long long)e->begin, (long long)e->end, (long long)f->data_bytes);
    if (e->end - e->begin != entry_bytes(e))
      return damaged(f, err, "'%.80s': %lld bytes do not hold %s %s", e->name, (long long)(e->end - e->begin), e->dtype,
                     ms_shape_text(e->ndim, e->size).s);
    at = e->end;
  }
  if (at != f->data_bytes)
    return damaged(f, err, "%lld bytes of data belong to no tensor", (long long)(f->data_bytes - at));
  f->by_name = ms_alloc((size_t)(f->count + 1) * sizeof *f->by_name);
  if (!f->by_name)
    return ms_fail(err, MS_EMEM, "safetensors: %s: out of memory", f->path);
  for (int i = 0; i < f->count; i++)
    f->by_name[i] = i;
  qsort_r(f->by_name, (size_t)f->count, sizeof *f->by_name, compare_name, f->entries);
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
  f->fd = -1;
  snprintf(f->path, sizeof f->path, "%s", path);
  ms_status status = map_file(f, path, err);
  if (status)
    goto done;
  uint64_t header = 0;
  memcpy(&header, f->map, 8);
  if (header > MS_ST_MAX_HEADER || header > f->bytes - 8) {
    status = damaged(f, err, "header of %llu bytes in a file of %zu (limit %d)", (unsigned long long)header, f->bytes,
                     MS_ST_MAX_HEADER);
    goto done;
  }
  if (header == 0 || f->map[8] != '{') {
    status = damaged(f, err, "the header does not begin with '{'");
    goto done;
  }
  f->data = f->map + 8 + header;
  f->data_bytes = (int64_t)(f->bytes - 8 - header);
  status = read_header(f, f->map + 8, header, err);
  if (!status)
    status = check_entries(f, err);
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
    CONVERT(ms_real, uint16_t, ms_half_to_float(v));
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
