/* Parameter arenas. Every parameter keeps its storage object; only the object's memory moves. The gradient arena is a
** block of the same layout whose pieces are storages of their own, made when first asked for, so that a gradient
** someone holds outlives all else. */
#include "params.h"
#include "capture.h"
#include "internal.h"
#include "ops.h"

#include <string.h>

#define ALIGN 32 /* elements: 64 bytes of the shadow too */

typedef struct piece {
  int64_t offset, n;
  ms_tensor *owes;  /* the leaf with a pending term, not retained: ms_pending_drop clears it */
  ms_storage *grad; /* its region of the gradient arena, or NULL (retained) */
} piece;

struct ms_arena {
  int refs;
  ms_device *device;
  void *data;
  size_t bytes;
  int npieces; /* 0: an arena of gradients or a shadow */
  piece *pieces;
  ms_arena *grad, *shadow; /* NULL until asked for */
};

static ms_status arena_new(ms_arena **out, ms_device *d, size_t bytes, int npieces, ms_error *err) {
  ms_arena *a = ms_alloc(sizeof *a);
  ms_status st = MS_OK;
  if (!a || (npieces && !(a->pieces = ms_alloc((size_t)npieces * sizeof *a->pieces))))
    st = ms_fail(err, MS_EMEM, "arena: out of memory");
  else
    st = ms_device_alloc(d, &a->data, bytes, err);
  if (st) {
    ms_free(a ? a->pieces : NULL);
    ms_free(a);
    return st;
  }
  a->refs = 1;
  a->device = d;
  a->bytes = bytes;
  a->npieces = npieces;
  ms_live_counters()->arenas++;
  *out = a;
  return MS_OK;
}

ms_arena *ms_arena_retain(ms_arena *a) {
  a->refs++;
  return a;
}

void ms_arena_release(ms_arena *a) {
  if (!a || --a->refs)
    return;
  for (int i = 0; i < a->npieces; i++)
    ms_storage_release(a->pieces[i].grad);
  ms_arena_release(a->grad);
  ms_arena_release(a->shadow);
  ms_device_free(a->device, a->data, a->bytes);
  ms_live_counters()->arenas--;
  ms_free(a->pieces);
  ms_free(a);
}

/* The storage's memory becomes a place in the arena. */
static void place(ms_storage *s, ms_arena *a, int64_t offset) {
  s->data = (ms_real *)a->data + offset;
  s->arena = a;
  a->refs++;
}

/* Two storages of equal size exchange memory, and with it whoever owns that. */
static void exchange(ms_storage *a, ms_storage *b) {
  ms_storage t = *a;
  a->data = b->data;
  a->arena = b->arena;
  a->bytes = b->bytes;
  b->data = t.data;
  b->arena = t.arena;
  b->bytes = t.bytes;
}

static piece *piece_of(const ms_storage *s) {
  if (!s || !s->arena || !s->arena->npieces)
    return NULL;
  int64_t offset = (ms_real *)s->data - (ms_real *)s->arena->data;
  int lo = 0, hi = s->arena->npieces;
  while (hi - lo > 1) {
    int mid = lo + (hi - lo) / 2;
    if (s->arena->pieces[mid].offset <= offset)
      lo = mid;
    else
      hi = mid;
  }
  return &s->arena->pieces[lo];
}

/* The parameter that t is, as a whole. */
static piece *whole_piece(const ms_tensor *t) {
  piece *p = piece_of(t->storage);
  return p && t->offset == 0 && t->dtype == MS_F32 && ms_numel(t) == p->n && ms_is_default(t) ? p : NULL;
}

ms_arena *ms_arena_of(const ms_tensor *t, int64_t *offset) {
  const piece *p = piece_of(t->storage);
  if (!p)
    return NULL;
  if (offset)
    *offset = p->offset + t->offset;
  return t->storage->arena;
}

int ms_arena_of_gradients(const ms_storage *s) {
  return s->arena && !s->arena->npieces;
}

/* ---- gathering ---- */
static ms_status check_param(const ms_tensor *t, int i, const ms_device *d, ms_error *err) {
  if (t->dtype != MS_F32)
    return ms_fail(err, MS_ETYPE,
                   "parameters: expected float32 (the optimizer's master copy), got %s for '%s' (number %d)",
                   ms_dtype_name(t->dtype), t->name, i + 1);
  if (t->node || t->lazy)
    return ms_fail(err, MS_EGRAPH, "parameters: expected leaf tensors, got the result of an op for '%s' (number %d)",
                   t->name, i + 1);
  if (t->storage->device != d)
    return ms_fail(err, MS_EDEVICE, "parameters: expected tensors of one device, got %s and %s", d->name,
                   t->storage->device->name);
  int whole = t->storage->owner ? 0
              : t->storage->arena
                  ? whole_piece(t) != NULL
                  : t->offset == 0 && ms_is_default(t) && (size_t)ms_numel(t) * sizeof(ms_real) == t->storage->bytes;
  if (!whole)
    return ms_fail(err, MS_EINVAL,
                   "parameters: expected a contiguous tensor that has its memory for itself, got a view %s for '%s' "
                   "(number %d); clone it first",
                   ms_shape_text(t->ndim, t->size).s, t->name, i + 1);
  return MS_OK;
}

static ms_status copy_device(ms_device *d, void *dst, const void *src, size_t bytes, ms_error *err) {
  return bytes ? ms_row(d, d->k->copy_bytes(d->stream, dst, src, bytes, MS_COPY_DEVICE_TO_DEVICE), "gather", err)
               : MS_OK;
}

/* fresh[]: the distinct storages that lie in no arena yet. */
static int collect(ms_storage **fresh, int n, ms_tensor *const *params) {
  int count = 0;
  for (int i = 0; i < n; i++) {
    int seen = params[i]->storage->arena != NULL;
    for (int k = 0; k < count && !seen; k++)
      seen = fresh[k] == params[i]->storage;
    if (!seen)
      fresh[count++] = params[i]->storage;
  }
  return count;
}

static ms_status gather(ms_storage **fresh, ms_storage **places, int n, ms_device *d, ms_error *err) {
  ms_arena *a = NULL;
  int64_t total = 0;
  if (ms_capture_live)
    return ms_fail(err, MS_EINVAL, "captured step: parameters are gathered; do so before or in the first call");
  ms_capture_changed();
  for (int i = 0; i < n; i++)
    total += ((int64_t)(fresh[i]->bytes / sizeof(ms_real)) + ALIGN) / ALIGN * ALIGN;
  ms_status st = arena_new(&a, d, (size_t)total * sizeof(ms_real), n, err);
  if (st)
    return st;
  int64_t offset = 0;
  for (int i = 0; i < n && !st; i++) {
    a->pieces[i].offset = offset;
    a->pieces[i].n = (int64_t)(fresh[i]->bytes / sizeof(ms_real));
    offset += (a->pieces[i].n + ALIGN) / ALIGN * ALIGN; /* never empty, so that offsets tell pieces apart */
    if (!(st = ms_storage_new(&places[i], d, 0, err))) {
      place(places[i], a, a->pieces[i].offset);
      places[i]->bytes = fresh[i]->bytes;
      st = copy_device(d, places[i]->data, fresh[i]->data, fresh[i]->bytes, err);
    }
  }
  for (int i = 0; i < n && places[i]; i++) {
    if (!st)
      exchange(fresh[i], places[i]);
    ms_storage_release(places[i]); /* with the old memory, or with what was to be the new one */
  }
  ms_arena_release(a);
  return st;
}

ms_status ms_gather_params(int n, ms_tensor *const *params, ms_error *err) {
  int loose = 0;
  for (int i = 0; i < n; i++) {
    ms_status st = check_param(params[i], i, ms_tensor_device(params[0]), err);
    if (st)
      return st;
    loose += !params[i]->storage->arena;
  }
  if (!loose)
    return MS_OK;
  ms_storage **fresh = ms_alloc(2 * (size_t)n * sizeof *fresh);
  if (!fresh)
    return ms_fail(err, MS_EMEM, "parameters: out of memory");
  int count = collect(fresh, n, params);
  ms_status st = gather(fresh, fresh + n, count, ms_tensor_device(params[0]), err);
  ms_free(fresh);
  return st;
}

/* ---- another device ---- */
/* The tensors may name parameters several times, or through several storages. */
int ms_arena_covers(const ms_arena *a, int n, ms_tensor *const *t) {
  for (int k = 0; k < a->npieces; k++) {
    int found = 0;
    for (int i = 0; i < n && !found; i++)
      found = t[i]->storage && t[i]->storage->arena == a && piece_of(t[i]->storage) == &a->pieces[k];
    if (!found)
      return 0;
  }
  return 1;
}

ms_status ms_arena_each_memory(ms_arena *a, void *ud,
                               ms_status (*visit)(void *ud, void **data, ms_device **device, size_t bytes,
                                                  ms_error *err),
                               ms_error *err) {
  ms_status st = visit(ud, &a->data, &a->device, a->bytes, err);
  return st || !a->grad ? st : visit(ud, &a->grad->data, &a->grad->device, a->grad->bytes, err);
}

static void follow(ms_storage *s, const ms_arena *a, int64_t offset) {
  s->data = (ms_real *)a->data + offset;
  s->device = a->device;
}

void ms_arena_moved(ms_arena *a) {
  for (int i = 0; i < a->npieces; i++)
    if (a->pieces[i].grad)
      follow(a->pieces[i].grad, a->grad, a->pieces[i].offset);
  ms_arena_release(a->shadow);
  a->shadow = NULL;
}

void ms_arena_follow(ms_storage *s, int64_t offset) {
  if (s->arena)
    follow(s, s->arena, offset);
}

/* ---- gradients ---- */
static ms_status need_grad(ms_arena *a, ms_error *err) {
  return a->grad ? MS_OK : arena_new(&a->grad, a->device, a->bytes, 0, err);
}

ms_status ms_arena_base(ms_real **param, ms_real **grad, ms_arena *a, ms_error *err) {
  ms_capture_note_arena(a);
  *param = a->data;
  if (!grad)
    return MS_OK;
  ms_status st = need_grad(a, err);
  if (!st)
    *grad = a->grad->data;
  return st;
}

/* Makes p's region free: who holds the gradient that lies there keeps its values in memory of its own. */
static ms_status need_region(piece *p, ms_arena *a, ms_error *err) {
  ms_storage *s;
  size_t bytes = (size_t)p->n * sizeof(ms_real);
  ms_status st = need_grad(a, err);
  if (st || (p->grad && p->grad->refs == 1))
    return st;
  if ((st = ms_storage_new(&s, a->device, p->grad ? bytes : 0, err)))
    return st;
  if (!p->grad) {
    place(s, a->grad, p->offset);
    s->bytes = bytes;
  } else if ((st = copy_device(a->device, s->data, p->grad->data, bytes, err))) {
    ms_storage_release(s);
    return st;
  } else {
    exchange(s, p->grad);
    ms_storage_release(p->grad);
  }
  ms_capture_outlives(s);
  p->grad = s;
  return MS_OK;
}

ms_status ms_arena_grad_alias(ms_tensor **out, ms_tensor *leaf, ms_error *err) {
  piece *p = whole_piece(leaf);
  ms_tensor *g;
  if (!p)
    return ms_tensor_new(out, ms_tensor_device(leaf), MS_F32, leaf->ndim, leaf->size, err);
  ms_status st = need_region(p, leaf->storage->arena, err);
  if (st || (st = ms_tensor_alias(&g, leaf, leaf->ndim, leaf->size, leaf->stride, 0, err)))
    return st;
  ms_storage_release(g->storage);
  g->storage = ms_storage_retain(p->grad);
  *out = g;
  return MS_OK;
}

int ms_arena_grad_free(const ms_tensor *leaf) {
  const piece *p = leaf->storage && leaf->storage->arena ? whole_piece(leaf) : NULL;
  return p && (!p->grad || p->grad->refs == 1);
}

int ms_arena_grad_is(const ms_tensor *leaf, const ms_tensor *grad) {
  const piece *p = leaf->storage && leaf->storage->arena ? whole_piece(leaf) : NULL;
  return p && p->grad && grad->storage == p->grad && ms_is_default(grad);
}

/* ---- shadows ---- */
ms_status ms_arena_half(ms_storage **out, const ms_storage *s, ms_error *err) {
  const piece *p = piece_of(s);
  ms_arena *a = s->arena;
  ms_storage *half;
  size_t bytes = s->bytes / sizeof(ms_real) * sizeof(ms_bf16);
  ms_status st = MS_OK;
  if (p && !a->shadow)
    st = arena_new(&a->shadow, a->device, a->bytes / sizeof(ms_real) * sizeof(ms_bf16), 0, err);
  if (st || (st = ms_storage_new(&half, s->device, p ? 0 : bytes, err)))
    return st;
  ms_capture_outlives(half);
  ms_capture_changed();
  if (p) {
    half->data = (ms_bf16 *)a->shadow->data + p->offset;
    half->arena = a->shadow;
    half->bytes = bytes;
    a->shadow->refs++;
  }
  *out = half;
  return MS_OK;
}

ms_bf16 *ms_arena_shadow(const ms_storage *s) {
  return s->arena && s->arena->shadow && s->half && s->half->arena == s->arena->shadow ? s->arena->shadow->data : NULL;
}

/* ---- pending terms ---- */
int ms_trt_same(const ms_trt *a, const ms_trt *b) {
  return a->steps == b->steps && a->lambda == b->lambda && a->eps == b->eps &&
         !memcmp(a->c, b->c, (size_t)a->steps * sizeof *a->c);
}

const ms_real *ms_pending_scale(const ms_tensor *leaf) {
  const ms_tensor *t = leaf->pending->scale;
  ms_capture_touch(t->storage);
  return (const ms_real *)t->storage->data + t->offset;
}

/* The leaf's scale becomes its sum with `scale`, on the device. */
static ms_status add_scale(ms_pending *p, ms_tensor *scale, ms_scale_total *same, ms_error *err) {
  if (same->before != p->scale) {
    ms_tensor *total;
    ms_status st = ms_binary(&total, MS_BINARY_add, p->scale, scale, err);
    if (st)
      return st;
    ms_release(same->before);
    ms_release(same->total);
    *same = (ms_scale_total){ms_retain(p->scale), total};
  }
  ms_release(p->scale);
  p->scale = ms_retain(same->total);
  return MS_OK;
}

ms_status ms_pending_set(ms_tensor *leaf, const ms_trt *trt, ms_tensor *scale, ms_scale_total *same, ms_error *err) {
  piece *p = piece_of(leaf->storage);
  ms_status st = MS_OK;
  if (!p)
    return ms_fail(err, MS_EGRAPH, "trt: '%s' no longer lies with the parameters", leaf->name);
  if ((st = ms_capture_leaf(leaf, 0, err)))
    return st;
  if (leaf->pending && leaf->pending->set && ms_trt_same(&leaf->pending->trt, trt))
    return add_scale(leaf->pending, scale, same, err);
  if (p->owes && (st = ms_pending_flush(p->owes, err)))
    return st;
  if (!leaf->pending && !(leaf->pending = ms_alloc(sizeof *leaf->pending)))
    return ms_fail(err, MS_EMEM, "trt: out of memory");
  *leaf->pending = (ms_pending){.set = 1, .scale = ms_retain(scale), .trt = *trt};
  p->owes = leaf;
  return MS_OK;
}

/* grad += term, or = where grad holds nothing yet; both of the leaf's strides. */
static ms_status add_term(ms_tensor *leaf, ms_tensor *grad, int fresh, ms_error *err) {
  ms_device *d = ms_tensor_device(leaf);
  ms_range range = {.n = ms_numel(leaf), .regularised = 1, .reg_scale = ms_pending_scale(leaf), .no_grad = fresh};
  ms_optim_args a = {.param = (ms_real *)leaf->storage->data + leaf->offset,
                     .grad = (ms_real *)grad->storage->data + grad->offset,
                     .ranges = &range,
                     .nranges = 1,
                     .trt = leaf->pending->trt};
  ms_status st = ms_row(d, d->k->trt_grad(d->stream, &a), "trt", err);
  if (!st) {
    ms_capture_touch(leaf->storage);
    ms_capture_touch(grad->storage);
    ms_storage_written(grad->storage, "trt");
  }
  return st;
}

ms_status ms_pending_restore(ms_tensor *leaf, const ms_pending *term, ms_error *err) {
  ms_scale_total none = {NULL, NULL};
  ms_status st = ms_pending_set(leaf, &term->trt, term->scale, &none, err);
  ms_release(none.before);
  ms_release(none.total);
  return st;
}

ms_status ms_pending_flush(ms_tensor *leaf, ms_error *err) {
  ms_tensor *g = leaf->grad;
  ms_status st = MS_OK;
  if (!leaf->pending || !leaf->pending->set)
    return MS_OK;
  if (g && (g->dtype != MS_F32 || !ms_has_strides(g, leaf->stride)))
    return ms_fail(err, MS_EGRAPH,
                   "trt: the gradient of '%s' was replaced by one that the regulariser cannot be added to", leaf->name);
  if (!g)
    st = ms_arena_grad_alias(&g, leaf, err);
  if (!st)
    st = add_term(leaf, g, !leaf->grad, err);
  if (st) {
    if (g != leaf->grad)
      ms_release(g);
    return st;
  }
  leaf->grad = g;
  ms_pending_drop(leaf);
  return MS_OK;
}

void ms_pending_drop(ms_tensor *leaf) {
  if (!leaf->pending)
    return;
  piece *p = piece_of(leaf->storage);
  if (p && p->owes == leaf)
    p->owes = NULL;
  ms_release(leaf->pending->scale);
  ms_free(leaf->pending);
  leaf->pending = NULL;
}

ms_status ms_pending_settle(ms_storage *s, ms_error *err) {
  const piece *p = piece_of(s);
  return p && p->owes ? ms_pending_flush(p->owes, err) : MS_OK;
}
