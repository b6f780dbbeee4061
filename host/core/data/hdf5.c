#include "hdf5.h"
#include <string.h>
#include <zlib.h>

/* ---- pieces of the file ---- */

static uint64_t u64(const uint8_t *p) {
  return ms_bytes(p, 8, 0);
}

/* *p: the bytes at an address, which begin with a signature. */
static ms_status piece(const uint8_t **p, uint64_t at, uint64_t bytes, const char *signature, const ms_input *in,
                       ms_error *err) {
  *p = in->p;
  if (at > in->n || bytes > in->n - at)
    return ms_damaged(in, (int64_t)in->n, -1, err, "the file ends before %llu bytes at %llu", (unsigned long long)bytes,
                      (unsigned long long)at);
  *p = in->p + at;
  if (bytes < strlen(signature) || memcmp(*p, signature, strlen(signature)) != 0)
    return ms_damaged(in, (int64_t)at, -1, err, "expected '%s'", signature);
  return MS_OK;
}

static ms_status wrong(const uint8_t *p, const ms_input *in, ms_error *err, const char *what) {
  return ms_damaged(in, p - in->p, -1, err, "%s", what);
}

/* The address of the root group's object. */
static ms_status root_of(uint64_t *address, const ms_input *in, ms_error *err) {
  static const char signature[] = "\x89HDF\r\n\x1a\n";
  const char *looks = ms_looks_like(in->p, in->n);
  if (in->n < 8 || memcmp(in->p, signature, 8) != 0)
    return ms_damaged(in, 0, -1, err, "expected HDF5, got %s", looks ? looks : "something else");
  if (in->n < 100)
    return ms_damaged(in, (int64_t)in->n, -1, err, "the superblock is cut off");
  if (in->p[8] > 1)
    return ms_damaged(
        in, 8, -1, err,
        "superblock of version %d: HDF5 of the later format is not read; h5py writes the older one unless "
        "libver says otherwise",
        in->p[8]);
  if (in->p[13] != 8 || in->p[14] != 8)
    return wrong(in->p + 13, in, err, "expected addresses and sizes of 8 bytes");
  const uint8_t *base = in->p + (in->p[8] ? 28 : 24);
  if (u64(base) != 0)
    return wrong(base, in, err, "expected no block of the user before the data");
  if (u64(base + 16) > in->n)
    return ms_damaged(in, (int64_t)in->n, -1, err, "the file is cut off: expected %llu bytes",
                      (unsigned long long)u64(base + 16));
  *address = u64(base + 40);
  return MS_OK;
}

/* ---- objects ---- */

enum { DATASPACE = 1, DATATYPE = 3, LAYOUT = 8, FILTERS = 11, CONTINUED = 16, GROUP = 17, KINDS };
#define KNOWN (1u << DATASPACE | 1u << DATATYPE | 1u << LAYOUT | 1u << FILTERS | 1u << CONTINUED | 1u << GROUP)

/* The messages of an object that are looked at. */
typedef struct object {
  struct {
    const uint8_t *p; /* NULL: there is none */
    size_t bytes;
  } message[KINDS];
} object;

enum { BLOCKS = 32 }; /* of an object */

static ms_status read_object(object *o, uint64_t address, const ms_input *in, ms_error *err) {
  struct {
    uint64_t at, bytes;
  } block[BLOCKS];
  const uint8_t *p;
  int blocks = 1;
  *o = (object){0};
  ms_status status = piece(&p, address, 16, "", in, err);
  if (status)
    return status;
  if (p[0] != 1)
    return wrong(p, in, err, "expected an object of version 1");
  int left = ms_le16(p + 2);
  block[0].at = address + 16;
  block[0].bytes = ms_le32(p + 8);
  for (int b = 0; b < blocks; b++) {
    if ((status = piece(&p, block[b].at, block[b].bytes, "", in, err)))
      return status;
    for (const uint8_t *end = p + block[b].bytes; left > 0 && end - p >= 8; left--) {
      unsigned kind = ms_le16(p);
      size_t bytes = ms_le16(p + 2);
      if (bytes > (size_t)(end - p) - 8)
        return wrong(p, in, err, "a message that does not fit into its object");
      if (kind < KINDS && KNOWN >> kind & 1) {
        if (p[4] & 2)
          return wrong(p, in, err, "messages that objects share are not read");
        if (kind == CONTINUED) {
          if (bytes < 16 || blocks == BLOCKS)
            return wrong(p, in, err, "an object of too many pieces");
          block[blocks].at = u64(p + 8);
          block[blocks++].bytes = u64(p + 16);
        } else if (o->message[kind].p) {
          return wrong(p, in, err, "an object with two messages of a kind");
        }
        o->message[kind].p = p + 8;
        o->message[kind].bytes = bytes;
      }
      p += 8 + bytes;
    }
  }
  return MS_OK;
}

/* *p: at least `bytes` of a message. */
static ms_status message(const uint8_t **p, const object *o, int kind, size_t bytes, const char *what,
                         const ms_input *in, ms_error *err) {
  *p = o->message[kind].p;
  if (!*p)
    return ms_damaged(in, 0, -1, err, "%s: not found in its object", what);
  if (o->message[kind].bytes < bytes)
    return ms_damaged(in, *p - in->p, -1, err, "%s: cut off", what);
  return MS_OK;
}

/* ---- groups ---- */

/* The names in a group. */
typedef struct names {
  const uint8_t *p;
  uint64_t bytes;
} names;

/* strcmp of name and the one at an offset, of which no more is looked at than that takes. */
static ms_status compare(int *order, const char *name, size_t length, const names *list, uint64_t offset,
                         const ms_input *in, ms_error *err) {
  uint64_t left = offset < list->bytes ? list->bytes - offset : 0;
  const uint8_t *p = list->p + (list->bytes - left);
  size_t most = left <= length ? (size_t)left : length + 1, n = strnlen((const char *)p, most);
  *order = memcmp(name, p, length < n ? length : n);
  if (*order == 0)
    *order = (length > n) - (length < n);
  return n == left ? wrong(p, in, err, "a name of a group is cut off") : MS_OK;
}

/* The leaf of the tree that holds the name if any does; 0: none. */
static ms_status leaf_of(uint64_t *leaf, uint64_t tree, const char *name, size_t length, const names *list,
                         const ms_input *in, ms_error *err) {
  const uint8_t *p;
  *leaf = 0;
  for (int level = -1; level != 0;) {
    ms_status status = piece(&p, tree, 24, "TREE", in, err);
    if (status)
      return status;
    if (p[4] != 0 || (level >= 0 && p[5] != level - 1))
      return wrong(p, in, err, "expected the next level of a group");
    level = p[5];
    int n = ms_le16(p + 6), i = 0, order = 1;
    if ((status = piece(&p, tree, 32 + 16 * (uint64_t)n, "TREE", in, err)))
      return status;
    for (; i < n && order > 0; i++) /* the name behind a child is its last one */
      if ((status = compare(&order, name, length, list, u64(p + 24 + 16 * (i + 1)), in, err)))
        return status;
    if (order > 0)
      return MS_OK;
    tree = u64(p + 16 + 16 * i);
  }
  *leaf = tree;
  return MS_OK;
}

/* *address: of the object that has this name in a group; 0: there is none. */
static ms_status look_up(uint64_t *address, const object *group, const char *name, size_t length, const ms_input *in,
                         ms_error *err) {
  const uint8_t *p, *heap;
  names list;
  uint64_t leaf;
  *address = 0;
  ms_status status = message(&p, group, GROUP, 16, "a group's table", in, err);
  if (status || (status = piece(&heap, u64(p + 8), 32, "HEAP", in, err)) ||
      (status = piece(&list.p, u64(heap + 24), list.bytes = u64(heap + 8), "", in, err)) ||
      (status = leaf_of(&leaf, u64(p), name, length, &list, in, err)))
    return status;
  if (leaf == 0)
    return MS_OK;
  if ((status = piece(&p, leaf, 8, "SNOD", in, err)))
    return status;
  int n = ms_le16(p + 6);
  if ((status = piece(&p, leaf, 8 + 40 * (uint64_t)n, "SNOD", in, err)))
    return status;
  for (p += 8; n > 0; n--, p += 40) {
    int order;
    if ((status = compare(&order, name, length, &list, u64(p), in, err)))
      return status;
    if (order == 0) {
      *address = u64(p + 8);
      return MS_OK;
    }
  }
  return MS_OK;
}

/* ---- what an array is ---- */

static ms_status read_number(ms_hdf5_array *a, const uint8_t *p, size_t bytes, const ms_input *in, ms_error *err) {
  if (bytes < 12)
    return wrong(p, in, err, "a type that is cut off");
  int class = p[0] & 15;
  uint32_t width = ms_le32(p + 4);
  unsigned bits = 8 * width, offset = ms_le16(p + 8), precision = ms_le16(p + 10);
  a->big = p[1] & 1;
  a->width = (int)width;
  if (width <= 8 && offset == 0 && precision == bits) {
    if (class == 0 && (width == 1 || width == 2 || width == 4 || width == 8)) {
      a->kind = p[1] & 8 ? 'i' : 'u';
      return MS_OK;
    }
    if (class == 1 && bytes >= 20 && (width == 2 || width == 4 || width == 8)) {
      unsigned exponent = width == 2 ? 5 : width == 4 ? 8 : 11, mantissa = bits - 1 - exponent;
      const uint8_t want[] = {(uint8_t)mantissa, (uint8_t)exponent, 0, (uint8_t)mantissa};
      a->kind = 'f';
      /* the leading bit of the mantissa is not stored; no order of bytes but the two */
      if ((p[1] & 0x7e) == 0x20 && p[2] == bits - 1 && memcmp(p + 12, want, 4) == 0 &&
          ms_le32(p + 16) == (1u << (exponent - 1)) - 1)
        return MS_OK;
    }
  }
  return wrong(p, in, err, "expected IEEE floats or integers of whole bytes");
}

static ms_status read_type(ms_hdf5_array *a, const object *o, const ms_input *in, ms_error *err) {
  const uint8_t *p;
  ms_status status = message(&p, o, DATATYPE, 8, "the type of an array", in, err);
  if (status)
    return status;
  size_t bytes = o->message[DATATYPE].bytes;
  a->lists = (p[0] & 15) == 9;
  if (a->lists && ((p[1] & 15) != 0 || ms_le32(p + 4) != 16))
    return wrong(p, in, err, "expected lists of numbers");
  if ((status = read_number(a, a->lists ? p + 8 : p, a->lists ? bytes - 8 : bytes, in, err)))
    return status;
  a->element = a->lists ? 16 : a->width;
  return MS_OK;
}

static ms_status read_length(ms_hdf5_array *a, const object *o, const ms_input *in, ms_error *err) {
  const uint8_t *p;
  ms_status status = message(&p, o, DATASPACE, 12, "the size of an array", in, err);
  if (status)
    return status;
  if ((p[0] != 1 && p[0] != 2) || p[1] != 1 || (p[0] == 1 && o->message[DATASPACE].bytes < 16))
    return wrong(p, in, err, "expected an array of one dimension");
  uint64_t n = u64(p + (p[0] == 1 ? 8 : 4));
  if (n > INT64_MAX / 16)
    return wrong(p, in, err, "an impossible size");
  a->n = (int64_t)n;
  return MS_OK;
}

enum { DEFLATE = 1, SHUFFLE = 2 };

static ms_status read_filters(ms_hdf5_array *a, const object *o, const ms_input *in, ms_error *err) {
  const uint8_t *p;
  ms_status status = message(&p, o, FILTERS, 8, "the filters of an array", in, err);
  if (status)
    return status;
  const uint8_t *end = p + o->message[FILTERS].bytes;
  int old = p[0] == 1, n = p[1];
  if ((!old && p[0] != 2) || n > MS_HDF5_FILTERS)
    return wrong(p, in, err, "filters that are not known");
  for (p += old ? 8 : 2; a->filters < n; a->filters++) {
    if (end - p < 8)
      return wrong(p, in, err, "filters that are cut off");
    int id = ms_le16(p), named = old || id >= 256;
    size_t name = named ? ms_le16(p + 2) : 0, values = ms_le16(p + (named ? 6 : 4));
    size_t bytes = (named ? 8 : 6) + name + 4 * (old ? (values + 1) / 2 * 2 : values);
    if (id != DEFLATE && id != SHUFFLE)
      return ms_damaged(in, p - in->p, -1, err, "filter %d is not read, only gzip (1) and shuffle (2) are", id);
    if (bytes > (size_t)(end - p))
      return wrong(p, in, err, "filters that are cut off");
    a->filter[a->filters] = id;
    p += bytes;
  }
  return MS_OK;
}

static ms_status read_layout(ms_hdf5_array *a, const object *o, const ms_input *in, ms_error *err) {
  const uint8_t *p;
  uint64_t bytes = (uint64_t)a->n * (uint64_t)a->element, stored;
  ms_status status = message(&p, o, LAYOUT, 4, "the layout of an array", in, err);
  if (status)
    return status;
  int class = p[1], known = p[0] == 3 || (p[0] == 4 && class < 2);
  size_t most = o->message[LAYOUT].bytes;
  if (!known || class > 2 || (class == 1 && most < 18) || (class == 2 && most < 19))
    return wrong(p, in, err, "expected an array that is compact, in one piece, or in chunks by the older index");
  if (class == 2) {
    a->tree = u64(p + 3);
    a->chunk = ms_le32(p + 11);
    if (p[2] != 2 || a->chunk == 0 || ms_le32(p + 15) != (uint32_t)a->element)
      return wrong(p, in, err, "chunks that do not fit the array");
    return o->message[FILTERS].p ? read_filters(a, o, in, err) : MS_OK;
  }
  stored = class ? u64(p + 10) : ms_le16(p + 2);
  if (stored != bytes || (class == 0 && stored > most - 4))
    return ms_damaged(in, p - in->p, -1, err, "expected %llu bytes of data, got %llu", (unsigned long long)bytes,
                      (unsigned long long)stored);
  a->data = p + 4;
  return class && bytes ? piece(&a->data, u64(p + 2), bytes, "", in, err) : MS_OK;
}

ms_status ms_hdf5_find(ms_hdf5_array *out, const char *path, const ms_input *in, ms_error *err) {
  uint64_t address = 0;
  object o;
  *out = (ms_hdf5_array){0};
  ms_status status = root_of(&address, in, err);
  for (const char *name = path; !status; name += strcspn(name, "/")) {
    if ((status = read_object(&o, address, in, err)))
      return status;
    name += strspn(name, "/");
    if (!*name)
      break;
    if (!(status = look_up(&address, &o, name, strcspn(name, "/"), in, err)) && address == 0)
      status = ms_damaged(in, 0, -1, err, "expected %s, which is not in there", path);
  }
  if (status || (status = read_type(out, &o, in, err)) || (status = read_length(out, &o, in, err)))
    return status;
  return read_layout(out, &o, in, err);
}

/* ---- data ---- */

#define DEFLATE_MOST 1032 /* deflate never exceeds it to 1 */

typedef struct chunks {
  const ms_hdf5_array *a;
  const ms_input *in;
  uint8_t *out;
  int64_t done; /* elements */
  ms_buffer work[2];
} chunks;

/* Byte k of every element lies with the others. */
static void unshuffle(uint8_t *out, const uint8_t *p, size_t bytes, size_t element) {
  size_t n = bytes / element;
  for (size_t k = 0; k < element; k++)
    for (size_t i = 0; i < n; i++)
      out[i * element + k] = p[k * n + i];
}

/* The elements of a chunk, of which `stored` bytes lie at *p, at *p. */
static ms_status unpack(chunks *c, const uint8_t **p, uLong stored, uint32_t skipped, ms_error *err) {
  const uint8_t *from = *p;
  ms_buffer *to = c->work;
  size_t element = (size_t)c->a->element, bytes = (size_t)c->a->chunk * element;
  for (int f = c->a->filters - 1; f >= 0; f--) {
    uLongf got = bytes;
    uLong taken = stored;
    if (skipped >> f & 1)
      continue;
    if (c->a->filter[f] == DEFLATE ? bytes / DEFLATE_MOST > stored : stored != bytes)
      break;
    ms_status status = ms_buffer_resize(to, bytes, c->in->op, err);
    if (status)
      return status;
    if (c->a->filter[f] == SHUFFLE)
      unshuffle(to->p, *p, bytes, element);
    else if (uncompress2(to->p, &got, *p, &taken) != Z_OK || taken != stored)
      return wrong(from, c->in, err, "a chunk that gzip did not write");
    stored = got;
    *p = to->p;
    to = to == c->work ? c->work + 1 : c->work;
  }
  if (stored != bytes)
    return ms_damaged(c->in, from - c->in->p, -1, err, "expected a chunk of %zu bytes, got %zu", bytes, (size_t)stored);
  return MS_OK;
}

/* The chunks below a node. Each begins where the last one ended, so that no tree, however it is knotted, takes longer than
** the array is long. */
static ms_status read_tree(chunks *c, uint64_t tree, int level, ms_error *err) {
  const ms_hdf5_array *a = c->a;
  const uint8_t *p;
  ms_status status = piece(&p, tree, 24, "TREE", c->in, err);
  if (status)
    return status;
  int n = ms_le16(p + 6);
  if (p[4] != 1 || n == 0 || (level >= 0 && p[5] != level))
    return wrong(p, c->in, err, "expected the next level of an index of chunks");
  level = p[5];
  if ((status = piece(&p, tree, 48 + 32 * (uint64_t)n, "TREE", c->in, err)))
    return status;
  for (p += 24; n > 0 && !status;
       n--, p += 32) { /* stored bytes, filters left out, offsets of two dimensions, address */
    const uint8_t *data;
    uint32_t stored = ms_le32(p);
    if (level > 0) {
      status = read_tree(c, u64(p + 24), level - 1, err);
      continue;
    }
    if (u64(p + 8) != (uint64_t)c->done || c->done >= a->n)
      return ms_damaged(c->in, p - c->in->p, -1, err, "expected the chunk at %lld, got the one at %llu",
                        (long long)c->done, (unsigned long long)u64(p + 8));
    if ((status = piece(&data, u64(p + 24), stored, "", c->in, err)) ||
        (status = unpack(c, &data, stored, ms_le32(p + 4), err)))
      return status;
    int64_t take = a->n - c->done < a->chunk ? a->n - c->done : a->chunk;
    memcpy(c->out + c->done * a->element, data, (size_t)(take * a->element));
    c->done += take;
  }
  return status;
}

ms_status ms_hdf5_read(ms_buffer *out, const ms_hdf5_array *a, const ms_input *in, ms_error *err) {
  size_t bytes = (size_t)a->n * (size_t)a->element, ratio = 1;
  for (int f = 0; f < a->filters; f++)
    if (a->filter[f] == DEFLATE)
      ratio = DEFLATE_MOST;
  if (bytes / ratio > in->n)
    return ms_damaged(in, (int64_t)in->n, -1, err, "%zu bytes cannot hold an array of %zu", in->n, bytes);
  ms_status status = ms_buffer_resize(out, bytes, in->op, err);
  if (status || bytes == 0)
    return status;
  if (!a->chunk) {
    memcpy(out->p, a->data, bytes);
    return MS_OK;
  }
  chunks c = {.a = a, .in = in, .out = out->p};
  status = read_tree(&c, a->tree, -1, err);
  if (!status && c.done < a->n)
    status = ms_damaged(in, (int64_t)a->tree, -1, err, "%lld of %lld elements were never written",
                        (long long)(a->n - c.done), (long long)a->n);
  ms_buffer_free(&c.work[0]);
  ms_buffer_free(&c.work[1]);
  return status;
}

ms_status ms_hdf5_list(const uint8_t **out, int64_t *n, const ms_hdf5_array *a, const uint8_t *element,
                       const ms_input *in, ms_error *err) {
  const uint8_t *heap;
  int most = UINT16_MAX; /* of a heap's lists: their numbers have 16 bits */
  uint64_t at = u64(element + 4), bytes;
  uint32_t index = ms_le32(element + 12);
  *out = in->p;
  *n = (int64_t)ms_le32(element);
  if (*n == 0)
    return MS_OK;
  ms_status status = piece(&heap, at, 16, "GCOL", in, err);
  if (status || (status = piece(&heap, at, bytes = u64(heap + 8), "GCOL", in, err)))
    return status;
  for (const uint8_t *p = heap + 16, *end = heap + bytes; bytes >= 16 && end - p >= 16 && most > 0; most--) {
    uint64_t size = u64(p + 8), left = (uint64_t)(end - p) - 16;
    unsigned id = ms_le16(p);
    if (id == 0) /* what is left is free */
      break;
    if (size > left)
      return wrong(p, in, err, "a list that does not fit into its heap");
    if (id == index) {
      if (size != (uint64_t)*n * (uint64_t)a->width)
        return ms_damaged(in, p - in->p, -1, err, "expected a list of %lld numbers, got %llu bytes", (long long)*n,
                          (unsigned long long)size);
      *out = p + 16;
      return MS_OK;
    }
    size = (size + 7) / 8 * 8;
    p += 16 + (size < left ? size : left);
  }
  return ms_damaged(in, (int64_t)at, -1, err, "no list %u in this heap", (unsigned)index);
}
