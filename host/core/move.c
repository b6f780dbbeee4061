/* Parameters that go to another device under the tensors that name them: with their gradients, and with what optimizers
** keep of them. All memory is taken and filled first; then everything changes hands at once. */
#include "capture.h"
#include "internal.h"
#include "params.h"
#include "spikes.h"

/* Memory that moves: *data of *device. */
typedef struct item {
  void **data;
  ms_device **device;
  size_t bytes;
  void *fresh;
} item;

typedef struct moving {
  ms_device *to;
  int n, room, narenas;
  item *items;
  ms_arena **arenas; /* [number of parameters] */
  int64_t *offset;   /* of each parameter in its arena */
} moving;

static ms_status add_item(void *ud, void **data, ms_device **device, size_t bytes, ms_error *err) {
  moving *m = ud;
  for (int i = 0; i < m->n; i++)
    if (m->items[i].data == data)
      return MS_OK;
  if (*device == m->to)
    return MS_OK;
  if (m->n == m->room) {
    int room = m->room ? 2 * m->room : 32;
    item *items = ms_alloc((size_t)room * sizeof *items);
    if (!items)
      return ms_fail(err, MS_EMEM, "out of memory: no room for a list of tensors");
    for (int i = 0; i < m->n; i++)
      items[i] = m->items[i];
    ms_free(m->items);
    m->items = items;
    m->room = room;
  }
  m->items[m->n++] = (item){data, device, bytes, NULL};
  return MS_OK;
}

static ms_status add_storage(void *ud, ms_storage *s, ms_error *err) {
  if (s->owner || (s->lease && s->lease->over))
    return ms_fail(err, MS_EINVAL, "to: a tensor is a result of a captured step; clone it first");
  return add_item(ud, &s->data, &s->device, s->bytes, err);
}

static ms_status add_arena(moving *m, ms_arena *a, int n, ms_tensor *const *t, ms_error *err) {
  for (int i = 0; i < m->narenas; i++)
    if (m->arenas[i] == a)
      return MS_OK;
  if (!ms_arena_covers(a, n, t))
    return ms_fail(err, MS_EINVAL,
                   "to: the parameters lie together with those of another module, since one optimizer or regulariser "
                   "got both; move both as children of one module");
  m->arenas[m->narenas++] = a;
  return ms_arena_each_memory(a, m, add_item, err);
}

static ms_status add_tensor(moving *m, ms_tensor *t, int n, ms_tensor *const *all, ms_error *err) {
  ms_arena *a;
  ms_status st = ms_materialise(t, err);
  if (st || t->storage->device == m->to)
    return st;
  if (t->node)
    return ms_fail(err, MS_EGRAPH, "to: expected leaf tensors, got the result of '%s'", t->node->op->name);
  if (t->storage->late && (st = ms_spikes_flush(t->storage, err)))
    return st;
  if ((st = ms_pending_flush(t, err)))
    return st;
  if (t->grad && !t->grad->storage->arena && (st = add_storage(m, t->grad->storage, err)))
    return st;
  return (a = ms_arena_of(t, NULL)) ? add_arena(m, a, n, all, err) : add_storage(m, t->storage, err);
}

static ms_status copy_across(void *dst, ms_device *to, const void *src, ms_device *from, size_t bytes, ms_error *err) {
  ms_device *cpu = ms_device_cpu();
  if (to == cpu)
    return ms_row(from, from->k->copy_bytes(from->stream, dst, src, bytes, MS_COPY_DEVICE_TO_HOST), "to", err);
  if (from == cpu)
    return ms_row(to, to->k->copy_bytes(to->stream, dst, src, bytes, MS_COPY_HOST_TO_DEVICE), "to", err);
  void *host = ms_alloc(bytes);
  ms_status st = host ? copy_across(host, cpu, src, from, bytes, err) : ms_fail(err, MS_EMEM, "out of memory: to");
  if (!st && !(st = ms_device_synchronize(from, err)))
    st = copy_across(dst, to, host, cpu, bytes, err);
  ms_free(host);
  return st;
}

static ms_status fill(moving *m, ms_error *err) {
  ms_device *from = NULL;
  ms_status st = MS_OK;
  for (int i = 0; i < m->n && !st; i++) {
    item *p = &m->items[i];
    from = *p->device;
    if (!(st = ms_device_alloc(m->to, &p->fresh, p->bytes, err)) && p->bytes)
      st = copy_across(p->fresh, m->to, *p->data, from, p->bytes, err);
  }
  return st || !from ? st : ms_device_synchronize(from, err);
}

/* What lies in an arena follows it; copies in bfloat16 are made again when they are asked for. */
static void settle(moving *m, int n, ms_tensor *const *t) {
  for (int i = 0; i < n; i++)
    if (ms_arena_of(t[i], &m->offset[i]))
      m->offset[i] -= t[i]->offset;
  for (int i = 0; i < m->n; i++) {
    item *p = &m->items[i];
    ms_device_free(*p->device, *p->data, p->bytes);
    *p->data = p->fresh;
    *p->device = m->to;
  }
  for (int i = 0; i < m->narenas; i++)
    ms_arena_moved(m->arenas[i]);
  for (int i = 0; i < n; i++) {
    ms_storage *s = t[i]->storage;
    if (s->device != m->to)
      ms_arena_follow(s, m->offset[i]);
    ms_storage_release(s->half);
    s->half = NULL;
    ms_storage_written(s, "to");
  }
  ms_capture_changed();
}

ms_status ms_move_params(int n, ms_tensor *const *params, ms_device *to, ms_error *err) {
  moving m = {.to = to, .arenas = ms_alloc((size_t)(n + 1) * sizeof *m.arenas)};
  m.offset = ms_alloc((size_t)(n + 1) * sizeof *m.offset);
  ms_status st = m.arenas && m.offset ? ms_capture_refuse("a module", "moves between devices", err)
                                      : ms_fail(err, MS_EMEM, "out of memory: no room for a list of tensors");
  int was = ms_set_grad_enabled(0);
  for (int i = 0; i < n && !st; i++)
    st = add_tensor(&m, params[i], n, params, err);
  if (!st)
    st = ms_optim_each_state(m.narenas, m.arenas, add_storage, &m, err);
  if (!st && m.n && !(st = fill(&m, err)))
    settle(&m, n, params);
  else
    for (int i = 0; i < m.n; i++)
      if (m.items[i].fresh)
        ms_device_free(to, m.items[i].fresh, m.items[i].bytes);
  ms_set_grad_enabled(was);
  ms_free(m.items);
  ms_free(m.arenas);
  ms_free(m.offset);
  return st;
}
