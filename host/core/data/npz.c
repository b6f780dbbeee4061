#include "npz.h"
#include <stdio.h>
#include <string.h>

const ms_zip_entry *ms_npz_find(const ms_zip *z, const char *name) {
  char longer[80];
  const ms_zip_entry *e = ms_zip_find(z, name);
  if (e)
    return e;
  snprintf(longer, sizeof longer, "%.70s.npy", name);
  return ms_zip_find(z, longer);
}

ms_status ms_npz_member_open(ms_npz_member *m, uint8_t *room, const ms_zip *z, const ms_zip_entry *e, ms_error *err) {
  const uint8_t *p;
  ms_status status = ms_zip_read(&p, room, z, e, err);
  if (status)
    return status;
  snprintf(m->path, sizeof m->path, "%.190s: %.*s", z->in->path, (int)(e->name_bytes < 60 ? e->name_bytes : 60),
           e->name);
  m->in = *z->in;
  m->in.path = m->path;
  m->in.p = p;
  m->in.n = (size_t)e->bytes;
  return ms_npy_open(&m->array, &m->in, err);
}

/* Opens the named members; what is deflated goes to scratch. */
static ms_status open_members(ms_npz_member *m, ms_buffer *scratch, const ms_zip *z, const char *const *names, int n,
                              ms_error *err) {
  const ms_zip_entry *e[4];
  uint64_t bytes = 0;
  size_t room = 0;
  for (int i = 0; i < n; i++) {
    e[i] = ms_npz_find(z, names[i]);
    if (!e[i])
      return ms_damaged(z->in, 0, -1, err, "expected an array '%s' among the %lld of this npz", names[i],
                        (long long)z->count);
    if (e[i]->bytes > MS_NPZ_MOST - bytes)
      return ms_damaged(z->in, (int64_t)e[i]->header, -1, err, "expected at most %llu bytes unpacked, got more",
                        (unsigned long long)MS_NPZ_MOST);
    bytes += e[i]->bytes;
    room += ms_zip_room(e[i]);
  }
  ms_status status = ms_buffer_resize(scratch, room, z->in->op, err);
  room = 0;
  for (int i = 0; !status && i < n; i++) {
    status = ms_npz_member_open(&m[i], scratch->p + room, z, e[i], err);
    room += ms_zip_room(e[i]);
  }
  return status;
}

/* ---- events ---- */

enum { T, X, Y, P };
#define CHUNK 512

typedef struct decoding {
  ms_events *out;
  const ms_npz_member *m;
  const ms_input *in;
  int64_t width, height; /* 0: not known */
  int64_t last, repaired[MS_REPAIR_COUNT];
} decoding;

static ms_status bad(const decoding *d, int member, int64_t i, ms_error *err, const char *what, int64_t got) {
  const ms_npy *a = &d->m[member].array;
  int64_t byte = a->data - d->m[member].in.p + i * a->width;
  return ms_damaged(&d->m[member].in, byte, i, err, "expected %s, got %lld", what, (long long)got);
}

/* Event i as t, x, y, p; appended, or dropped. */
static ms_status event(decoding *d, int64_t i, int64_t t, int64_t x, int64_t y, int64_t p, ms_error *err) {
  ms_events *out = d->out;
  int64_t right = d->width ? d->width : 65536, bottom = d->height ? d->height : 65536;
  ms_policy policy = d->in->policy;
  if (policy == MS_ORACLE) {
    p = p != 0;
    if (d->width && x >= right && x < right * bottom && y >= 0 && y < bottom) {
      y += x / right;
      x %= right;
    }
  }
  int outside = x < 0 || x >= right ? X : y < 0 || y >= bottom ? Y : 0;
  if (outside && policy != MS_LENIENT) {
    char what[48];
    snprintf(what, sizeof what, "%s from 0 to %lld", outside == X ? "x" : "y",
             (long long)(outside == X ? right : bottom) - 1);
    return bad(d, outside, i, err, what, outside == X ? x : y);
  }
  if (p != 0 && p != 1 && policy != MS_LENIENT)
    return bad(d, P, i, err, "p of 0 or 1", p);
  if (outside || (p != 0 && p != 1)) {
    d->repaired[outside ? MS_REPAIR_RANGE : MS_REPAIR_INVALID]++;
    return MS_OK;
  }
  if (out->n > 0 && t < d->last && policy == MS_STRICT) {
    char what[64];
    snprintf(what, sizeof what, "t of at least %lld, as before", (long long)d->last);
    return bad(d, T, i, err, what, t);
  }
  if (out->n > 0 && t < d->last && policy == MS_LENIENT) {
    d->repaired[MS_REPAIR_TIME]++;
    t = d->last;
  }
  d->last = t;
  out->t[out->n] = t;
  out->x[out->n] = (uint16_t)x;
  out->y[out->n] = (uint16_t)y;
  out->p[out->n++] = (uint8_t)p;
  if (x >= out->width)
    out->width = (int)x + 1;
  if (y >= out->height)
    out->height = (int)y + 1;
  return MS_OK;
}

static ms_status decode(decoding *d, ms_error *err) {
  int64_t n = d->m[T].array.size[0], value[4][CHUNK];
  ms_status status = ms_events_reserve(d->out, n, d->in->op, err);
  for (int64_t from = 0; !status && from < n; from += CHUNK) {
    int64_t some = n - from < CHUNK ? n - from : CHUNK;
    for (int k = 0; k < 4 && !status; k++) {
      ms_npy part = d->m[k].array;
      part.data += from * part.width;
      part.size[0] = part.elements = some;
      status = ms_npy_read(value[k], MS_I64, NULL, &part, &d->m[k].in, err);
    }
    for (int64_t i = 0; i < some && !status; i++)
      status = event(d, from + i, value[T][i], value[X][i], value[Y][i], value[P][i], err);
  }
  return status;
}

static ms_status check_arrays(const ms_npz_member *m, ms_error *err) {
  for (int k = 0; k < 4; k++) {
    const ms_npy *a = &m[k].array;
    if (a->ndim != 1 || a->size[0] != m[T].array.size[0])
      return ms_damaged(&m[k].in, 0, -1, err, "expected %s, got %s", k == T ? "[n]" : "as many values as t has",
                        ms_npy_text(a).s);
  }
  return MS_OK;
}

ms_status ms_npz_events(ms_events *out, ms_buffer *scratch, const ms_input *in, int width, int height, ms_error *err) {
  static const char *const names[] = {"t", "x", "y", "p"};
  ms_npz_member m[4];
  ms_zip z = {0};
  decoding d = {.out = out, .m = m, .in = in, .width = width, .height = height};
  out->n = 0;
  out->width = width;
  out->height = height;
  ms_status status = ms_zip_open(&z, in, err);
  if (!status)
    status = open_members(m, scratch, &z, names, 4, err);
  if (!status)
    status = check_arrays(m, err);
  if (!status)
    status = decode(&d, err);
  ms_zip_close(&z);
  if (status)
    out->n = 0;
  else
    for (int k = 0; k < MS_REPAIR_COUNT; k++)
      ms_repaired(in, (ms_repair)k, d.repaired[k]);
  return status;
}

/* ---- frames ---- */

static ms_status frames(ms_picture *out, const ms_npz_member *m, ms_error *err) {
  const ms_npy *a = &m->array;
  if (a->ndim != 4)
    return ms_damaged(&m->in, 0, -1, err, "expected [T, C, H, W], got %s", ms_npy_text(a).s);
  int64_t t = a->size[0], c = a->size[1], h = a->size[2], w = a->size[3];
  ms_dtype dtype = ms_npy_dtype(a) == MS_U8 ? MS_U8 : MS_F32;
  const int64_t stride[] = {h * w * c, 1, w * c, c};
  ms_status status = ms_picture_shape(out, dtype, t, h, w, c, m->in.op, err);
  return status ? status : ms_npy_read(out->memory.p, dtype, stride, a, &m->in, err);
}

ms_status ms_npz_frames(ms_picture *out, ms_buffer *scratch, const ms_input *in, ms_error *err) {
  static const char *const names[] = {"frames"};
  ms_npz_member m;
  ms_zip z = {0};
  ms_status status = ms_zip_open(&z, in, err);
  if (!status)
    status = open_members(&m, scratch, &z, names, 1, err);
  if (!status)
    status = frames(out, &m, err);
  ms_zip_close(&z);
  if (status)
    out->t = 0;
  return status;
}

/* ---- writing ---- */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "members are written as they lie in memory");

static ms_status add(ms_zip_out *z, const char *name, const char *descr, int64_t n, const void *data, size_t bytes,
                     const char *op, ms_error *err) {
  ms_buffer head = {0};
  ms_status status = ms_npy_header(&head, descr, 1, &n, op, err);
  if (!status)
    status = ms_zip_add(z, name, head.p, head.bytes, data, bytes, op, err);
  ms_buffer_free(&head);
  return status;
}

ms_status ms_npz_events_write(ms_buffer *out, const ms_events *e, const char *op, ms_error *err) {
  ms_zip_out z = {0};
  size_t n = (size_t)e->n;
  ms_status status = add(&z, "t.npy", "<i8", e->n, e->t, 8 * n, op, err);
  if (!status)
    status = add(&z, "x.npy", "<u2", e->n, e->x, 2 * n, op, err);
  if (!status)
    status = add(&z, "y.npy", "<u2", e->n, e->y, 2 * n, op, err);
  if (!status)
    status = add(&z, "p.npy", "|u1", e->n, e->p, n, op, err);
  if (!status && !(status = ms_zip_finish(&z, op, err))) {
    *out = z.archive; /* hands it over */
    z.archive = (ms_buffer){0};
  }
  ms_zip_out_free(&z);
  return status;
}
