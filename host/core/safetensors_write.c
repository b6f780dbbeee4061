/* Writing safetensors: in the reference writer's order (type descending, then name), through a temporary file. */
#include "file.h"
#include "json.h"
#include "safetensors.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
#define ST_DTYPE(name, bits) ST_##name,
#include "st_dtype.def"
#undef ST_DTYPE
};

typedef struct item {
  char *name, *value; /* value: metadata only */
  ms_tensor *tensor;  /* retained */
} item;

typedef struct list {
  item *items;
  int count, room;
} list;

struct ms_st_writer {
  char *path;
  list tensors, metadata;
};

#ifdef MS_REAL64 /* the double-precision test build keeps its wider values */
#define REAL \
  { "F64", ST_F64 }
#else
#define REAL \
  { "F32", ST_F32 }
#endif

/* How a tensor is stored. */
static const struct {
  const char *name;
  int order;
} stored[MS_DTYPE_COUNT] = {
    [MS_F32] = REAL,         [MS_BF16] = {"BF16", ST_BF16}, [MS_SPIKE] = REAL,
    [MS_U8] = {"U8", ST_U8}, [MS_I64] = {"I64", ST_I64},
};

static char *copy_text(const char *s) {
  size_t n = strlen(s) + 1;
  char *copy = ms_alloc(n);
  if (copy)
    memcpy(copy, s, n);
  return copy;
}

static void list_free(list *l) {
  for (int i = 0; i < l->count; i++) {
    ms_free(l->items[i].name);
    ms_free(l->items[i].value);
    ms_release(l->items[i].tensor);
  }
  ms_free(l->items);
}

static int list_add(list *l, const char *name, const char *value, ms_tensor *t) {
  if (l->count == l->room) {
    int room = l->room ? l->room * 2 : 64;
    item *wider = ms_alloc((size_t)room * sizeof *wider);
    if (!wider)
      return 0;
    if (l->count)
      memcpy(wider, l->items, (size_t)l->count * sizeof *wider);
    ms_free(l->items);
    l->items = wider;
    l->room = room;
  }
  item *at = &l->items[l->count];
  *at = (item){.name = copy_text(name), .value = value ? copy_text(value) : NULL};
  if (!at->name || (value && !at->value)) {
    ms_free(at->name);
    ms_free(at->value);
    return 0;
  }
  if (t)
    at->tensor = ms_retain(t);
  l->count++;
  return 1;
}

ms_status ms_st_writer_new(ms_st_writer **out, const char *path, ms_error *err) {
  ms_st_writer *w = ms_alloc(sizeof *w);
  *out = NULL;
  if (w)
    w->path = copy_text(path);
  if (!w || !w->path) {
    ms_free(w);
    return ms_fail(err, MS_EMEM, "save: %.200s: out of memory", path);
  }
  *out = w;
  return MS_OK;
}

void ms_st_writer_free(ms_st_writer *w) {
  if (!w)
    return;
  list_free(&w->tensors);
  list_free(&w->metadata);
  ms_free(w->path);
  ms_free(w);
}

static ms_status add(list *l, const char *name, const char *value, ms_tensor *t, ms_error *err) {
  if (!ms_utf8_valid(name, strlen(name)) || (value && !ms_utf8_valid(value, strlen(value))))
    return ms_fail(err, MS_EINVAL, "save: '%.80s': expected valid UTF-8", name);
  for (int i = 0; i < l->count; i++)
    if (strcmp(l->items[i].name, name) == 0)
      return ms_fail(err, MS_EINVAL, "save: '%.80s': given twice", name);
  if (!list_add(l, name, value, t))
    return ms_fail(err, MS_EMEM, "save: '%.80s': out of memory", name);
  return MS_OK;
}

ms_status ms_st_writer_metadata(ms_st_writer *w, const char *key, const char *value, ms_error *err) {
  return add(&w->metadata, key, value, NULL, err);
}

ms_status ms_st_writer_add(ms_st_writer *w, const char *name, ms_tensor *t, ms_error *err) {
  if (strcmp(name, "__metadata__") == 0)
    return ms_fail(err, MS_EINVAL, "save: '__metadata__': reserved name");
  return add(&w->tensors, name, NULL, t, err);
}

static int compare_item(const void *a, const void *b) {
  const item *x = a, *y = b;
  int order = x->tensor ? stored[y->tensor->dtype].order - stored[x->tensor->dtype].order : 0;
  return order ? order : strcmp(x->name, y->name);
}

static void sort(list *l) {
  if (l->count)
    qsort(l->items, (size_t)l->count, sizeof *l->items, compare_item);
}

static size_t element_bytes(const ms_tensor *t) {
  return t->dtype == MS_SPIKE ? sizeof(ms_real) : ms_dtype_size(t->dtype);
}

/* Upper bound of the header's length. */
static size_t header_room(const ms_st_writer *w) {
  size_t n = 64;
  for (int i = 0; i < w->metadata.count; i++)
    n += 8 + 6 * (strlen(w->metadata.items[i].name) + strlen(w->metadata.items[i].value));
  for (int i = 0; i < w->tensors.count; i++)
    n += 128 + 6 * strlen(w->tensors.items[i].name) + 21 * MS_MAX_DIMS;
  return n;
}

/* Returns the length, a multiple of 8. */
static size_t write_header(const ms_st_writer *w, char *out) {
  char *o = out;
  int64_t at = 0;
  *o++ = '{';
  for (int i = 0; i < w->metadata.count; i++) {
    const item *m = &w->metadata.items[i];
    o += sprintf(o, "%s", i ? "," : "\"__metadata__\":{");
    o += ms_json_quote(o, m->name, strlen(m->name));
    *o++ = ':';
    o += ms_json_quote(o, m->value, strlen(m->value));
  }
  if (w->metadata.count)
    o += sprintf(o, "}%s", w->tensors.count ? "," : "");
  for (int i = 0; i < w->tensors.count; i++) {
    const item *e = &w->tensors.items[i];
    const ms_tensor *t = e->tensor;
    int64_t end = at + ms_numel(t) * (int64_t)element_bytes(t);
    if (i)
      *o++ = ',';
    o += ms_json_quote(o, e->name, strlen(e->name));
    o += sprintf(o, ":{\"dtype\":\"%s\",\"shape\":[", stored[t->dtype].name);
    for (int d = 0; d < t->ndim; d++)
      o += sprintf(o, d ? ",%lld" : "%lld", (long long)t->size[d]);
    o += sprintf(o, "],\"data_offsets\":[%lld,%lld]}", (long long)at, (long long)end);
    at = end;
  }
  *o++ = '}';
  while ((o - out) % 8)
    *o++ = ' ';
  return (size_t)(o - out);
}

static ms_status write_tensor(ms_file *f, ms_tensor *t, ms_error *err) {
  size_t bytes = (size_t)ms_numel(t) * element_bytes(t);
  if (bytes == 0)
    return MS_OK;
  void *values = ms_alloc(bytes);
  if (!values)
    return ms_fail(err, MS_EMEM, "save: %.200s: out of memory for %zu bytes", f->path, bytes);
  ms_status status = ms_read(t, values, err);
  if (!status)
    status = ms_file_append(f, values, bytes, err);
  ms_free(values);
  return status;
}

ms_status ms_st_writer_finish(ms_st_writer *w, ms_error *err) {
  ms_file f;
  ms_status status = ms_file_begin(&f, "save", w->path, err);
  if (status)
    return status;
  sort(&w->tensors);
  sort(&w->metadata);
  char *header = ms_alloc(8 + header_room(w));
  if (!header) {
    status = ms_fail(err, MS_EMEM, "save: %.200s: out of memory for the header", w->path);
    goto done;
  }
  uint64_t n = write_header(w, header + 8);
  memcpy(header, &n, 8);
  if (n > 100000000) {
    status = ms_fail(err, MS_EINVAL, "save: %.200s: a header of %llu bytes (limit 100000000)", w->path,
                     (unsigned long long)n);
    goto done;
  }
  status = ms_file_append(&f, header, 8 + n, err);
  for (int i = 0; i < w->tensors.count && !status; i++)
    status = write_tensor(&f, w->tensors.items[i].tensor, err);
  if (!status)
    status = ms_file_commit(&f, err);
done:
  ms_free(header);
  if (status)
    ms_file_abort(&f);
  return status;
}
