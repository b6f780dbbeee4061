/* Writing safetensors: in the reference writer's order (type descending, then name), through a temporary file. */
#include "file.h"
#include "safetensors.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
#define ST_DTYPE(name, bits) ST_##name,
#include "st_dtype.def"
#undef ST_DTYPE
};

typedef struct item {
  char *name;
  ms_tensor *tensor; /* retained */
} item;

struct ms_st_writer {
  char *path;
  item *items;
  int count, room;
  json_t *metadata;
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

ms_status ms_st_writer_new(ms_st_writer **out, const char *path, ms_error *err) {
  ms_st_writer *w = ms_alloc(sizeof *w);
  *out = NULL;
  if (w) {
    w->path = copy_text(path);
    w->metadata = json_object();
  }
  if (!w || !w->path || !w->metadata) {
    ms_st_writer_free(w);
    return ms_fail(err, MS_EMEM, "save: %.200s: out of memory", path);
  }
  *out = w;
  return MS_OK;
}

void ms_st_writer_free(ms_st_writer *w) {
  if (!w)
    return;
  for (int i = 0; i < w->count; i++) {
    ms_free(w->items[i].name);
    ms_release(w->items[i].tensor);
  }
  ms_free(w->items);
  ms_free(w->path);
  json_decref(w->metadata);
  ms_free(w);
}

ms_status ms_st_writer_metadata(ms_st_writer *w, const char *key, const char *value, ms_error *err) {
  if (json_object_get(w->metadata, key))
    return ms_fail(err, MS_EINVAL, "save: '%.80s': given twice", key);
  if (json_object_set_new(w->metadata, key, json_string(value)))
    return ms_fail(err, MS_EINVAL, "save: '%.80s': expected valid UTF-8", key);
  return MS_OK;
}

ms_status ms_st_writer_add(ms_st_writer *w, const char *name, ms_tensor *t, ms_error *err) {
  json_t *text = json_string(name);
  int valid = text != NULL;
  json_decref(text);
  if (!valid)
    return ms_fail(err, MS_EINVAL, "save: '%.80s': expected valid UTF-8", name);
  if (strcmp(name, "__metadata__") == 0)
    return ms_fail(err, MS_EINVAL, "save: '__metadata__': reserved name");
  for (int i = 0; i < w->count; i++)
    if (strcmp(w->items[i].name, name) == 0)
      return ms_fail(err, MS_EINVAL, "save: '%.80s': given twice", name);
  if (w->count == w->room) {
    int room = w->room ? w->room * 2 : 64;
    item *wider = ms_alloc((size_t)room * sizeof *wider);
    if (!wider)
      return ms_fail(err, MS_EMEM, "save: '%.80s': out of memory", name);
    if (w->count)
      memcpy(wider, w->items, (size_t)w->count * sizeof *wider);
    ms_free(w->items);
    w->items = wider;
    w->room = room;
  }
  char *copy = copy_text(name);
  if (!copy)
    return ms_fail(err, MS_EMEM, "save: '%.80s': out of memory", name);
  w->items[w->count++] = (item){copy, ms_retain(t)};
  return MS_OK;
}

static int compare_item(const void *a, const void *b) {
  const item *x = a, *y = b;
  int order = stored[y->tensor->dtype].order - stored[x->tensor->dtype].order;
  return order ? order : strcmp(x->name, y->name);
}

static size_t element_bytes(const ms_tensor *t) {
  return t->dtype == MS_SPIKE ? sizeof(ms_real) : ms_dtype_size(t->dtype);
}

static json_t *describe(const ms_tensor *t, int64_t begin, int64_t end) {
  json_t *shape = json_array();
  for (int d = 0; d < t->ndim; d++)
    if (json_array_append_new(shape, json_integer(t->size[d])))
      return json_decref(shape), NULL;
  return json_pack("{s:s, s:o, s:[I, I]}", "dtype", stored[t->dtype].name, "shape", shape, "data_offsets",
                   (json_int_t)begin, (json_int_t)end);
}

/* *out: the length of the header, a multiple of 8 bytes, and the header; ms_free. */
static ms_status new_header(char **out, uint64_t *length, const ms_st_writer *w, ms_error *err) {
  json_t *entries = json_object();
  int64_t at = 0, end;
  int bad = !entries, metadata = json_object_size(w->metadata) > 0;
  for (int i = 0; i < w->count && !bad; i++, at = end) {
    const ms_tensor *t = w->items[i].tensor;
    end = at + ms_numel(t) * (int64_t)element_bytes(t);
    bad = json_object_set_new(entries, w->items[i].name, describe(t, at, end));
  }
  char *first = json_dumps(w->metadata, JSON_COMPACT | JSON_SORT_KEYS);
  char *rest = json_dumps(entries, JSON_COMPACT | JSON_EMBED);
  size_t room = first && rest ? 32 + strlen(first) + strlen(rest) : 0;
  ms_status status = MS_OK;
  *out = NULL;
  if (room > MS_ST_MAX_HEADER)
    status = ms_fail(err, MS_EINVAL, "save: %.200s: a header of %zu bytes (limit %d)", w->path, room, MS_ST_MAX_HEADER);
  else if (bad || !room || !(*out = ms_alloc(8 + room)))
    status = ms_fail(err, MS_EMEM, "save: %.200s: out of memory for the header", w->path);
  else {
    *length = (uint64_t)sprintf(*out + 8, "{%s%s%s%s}", metadata ? "\"__metadata__\":" : "", metadata ? first : "",
                                metadata && w->count ? "," : "", rest);
    while (*length % 8)
      (*out)[8 + (*length)++] = ' ';
    memcpy(*out, length, 8);
  }
  free(first);
  free(rest);
  json_decref(entries);
  return status;
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
  uint64_t n = 0;
  char *header;
  if (w->count)
    qsort(w->items, (size_t)w->count, sizeof *w->items, compare_item);
  if ((status = new_header(&header, &n, w, err)))
    goto done;
  status = ms_file_append(&f, header, 8 + n, err);
  for (int i = 0; i < w->count && !status; i++)
    status = write_tensor(&f, w->items[i].tensor, err);
  if (!status)
    status = ms_file_commit(&f, err);
done:
  ms_free(header);
  if (status)
    ms_file_abort(&f);
  return status;
}
