#include "capture_state.h"
#include "internal.h"
#include "ops.h"
#include "spikes.h"

#include <string.h>

int ms_capture_live;
ms_capture_state ms_capturing;
static uint64_t changes = 1;

/* ---- leases ---- */
ms_lease *ms_lease_new(void) {
  ms_lease *l = ms_alloc(sizeof *l);
  if (l)
    l->refs = 1;
  return l;
}

void ms_lease_release(ms_lease *l) {
  if (l && --l->refs == 0)
    ms_free(l);
}

void ms_lease_end(ms_lease **l) {
  if (*l)
    (*l)->over = 1;
  ms_lease_release(*l);
  *l = NULL;
}

void ms_lease_set(ms_storage *s, ms_lease *l) {
  if (l)
    l->refs++;
  ms_lease_release(s->lease);
  s->lease = l;
}

ms_lease *ms_capture_lease(void) {
  if (!ms_capturing.r)
    return NULL;
  ms_capturing.r->inside->refs++;
  return ms_capturing.r->inside;
}

static int is_over(const ms_tensor *t) {
  return t && t->storage && t->storage->lease && t->storage->lease->over;
}

static int reads_over(const ms_tensor *t) {
  const ms_lazy *l = t->storage ? NULL : t->lazy;
  return is_over(t) || (!t->storage && t->spikes && ms_spikes_reads(t->spikes, is_over)) ||
         (l && (is_over(l->y) || is_over(l->a) || is_over(l->b) || (l->r && reads_over(l->r))));
}

ms_status ms_capture_check(const ms_tensor *t, ms_error *err) {
  if (!reads_over(t))
    return MS_OK;
  return ms_fail(err, MS_EINVAL,
                 "captured step: %s was made by an earlier call; results live until the next call, what a step "
                 "keeps for itself until it ends: clone() a result, or write into a tensor made before with copy_()",
                 ms_tensor_text(t).s);
}

ms_status ms_capture_keep(ms_storage *s, const char *what, ms_error *err) {
  if (ms_capture_live)
    return ms_fail(err, MS_EINVAL, "captured step: %s would be made anew in each replay; make it before the step",
                   what);
  ms_lease_set(s, NULL);
  return MS_OK;
}

void ms_capture_outlives(ms_storage *s) {
  ms_lease_set(s, NULL);
}

/* ---- asked from all over core ---- */
int ms_capture_inside(void) {
  return ms_capturing.r != NULL;
}

int ms_capture_recording(void) {
  return ms_capture_live;
}

ms_status ms_capture_refuse(const char *what, const char *does, ms_error *err) {
  if (!ms_capturing.r)
    return MS_OK;
  return ms_fail(err, MS_EINVAL, "captured step: %s %s, which no replay can do; do it before or after the step", what,
                 does);
}

void ms_capture_changed(void) {
  changes++;
}

uint64_t ms_capture_changes(void) {
  return changes;
}

/* A place for one more item, or NULL. */
static void *append(ms_notes *l, size_t size) {
  if (l->n == l->room) {
    int room = l->room ? 2 * l->room : 32;
    void *items = ms_alloc((size_t)room * size);
    if (!items) {
      ms_capturing.out_of_memory = 1;
      return NULL;
    }
    if (l->n)
      memcpy(items, l->items, (size_t)l->n * size);
    ms_free(l->items);
    l->items = items;
    l->room = room;
  }
  return (char *)l->items + (size_t)l->n++ * size;
}

void ms_capture_note(ms_storage *s) {
  if (s->device != ms_capturing.r->device)
    ms_capturing.foreign = s->device;
  if (s->noted == ms_capturing.serial || s->lease == ms_capturing.r->inside)
    return;
  s->noted = ms_capturing.serial;
  if (s->arena) { /* who holds a gradient's storage alone must still be known */
    ms_capture_note_arena(s->arena);
    return;
  }
  ms_storage **place = append(&ms_capturing.r->storages, sizeof s);
  if (place)
    *place = ms_storage_retain(s);
}

void ms_capture_note_arena(ms_arena *a) {
  if (!ms_capture_live)
    return;
  ms_arena **have = ms_capturing.r->arenas.items;
  for (int i = 0; i < ms_capturing.r->arenas.n; i++)
    if (have[i] == a)
      return;
  ms_arena **place = append(&ms_capturing.r->arenas, sizeof a);
  if (place)
    *place = ms_arena_retain(a);
}

void ms_storage_written(ms_storage *s, const char *op) {
  s->version++;
  s->writer = op;
  if (!ms_capture_live || s->lease == ms_capturing.r->inside || ms_arena_of_gradients(s))
    return;
  ms_write_note *have = ms_capturing.r->written.items;
  for (int i = 0; i < ms_capturing.r->written.n; i++)
    if (have[i].s == s)
      return;
  ms_write_note *place = append(&ms_capturing.r->written, sizeof *place);
  if (place)
    *place = (ms_write_note){ms_storage_retain(s), 0};
}

void ms_capture_half(ms_tensor *t) {
  if (!ms_capture_live)
    return;
  ms_tensor **have = ms_capturing.r->halves.items;
  for (int i = 0; i < ms_capturing.r->halves.n; i++)
    if (have[i]->storage == t->storage)
      return;
  ms_tensor **place = append(&ms_capturing.r->halves, sizeof t);
  if (place)
    *place = ms_retain(t);
}

ms_status ms_capture_leaf(ms_tensor *leaf, int fresh, ms_error *err) {
  if (!ms_capturing.r)
    return MS_OK;
  ms_leaf_note *have = ms_capturing.r->leaves.items;
  for (int i = 0; i < ms_capturing.r->leaves.n; i++)
    if (have[i].leaf == leaf)
      return MS_OK;
  if (!fresh && leaf->pending && leaf->pending->set)
    return ms_fail(err, MS_EGRAPH,
                   "captured step: '%s' has a gradient of the regulariser from before the step; begin the step with "
                   "zero_grad()",
                   leaf->name);
  ms_leaf_note *n = append(&ms_capturing.r->leaves, sizeof *n);
  if (!n)
    return ms_fail(err, MS_EMEM, "capture: out of memory");
  *n = (ms_leaf_note){.leaf = ms_retain(leaf), .fresh = fresh};
  if (!fresh && leaf->grad)
    n->had = ms_storage_retain(leaf->grad->storage);
  return MS_OK;
}

const int64_t *ms_capture_draw(int64_t *n) {
  if (!ms_capture_live)
    return NULL;
  *n = ++ms_capturing.r->draws;
  return ms_capturing.r->counter->storage->data;
}
