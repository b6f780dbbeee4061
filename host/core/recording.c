/* Recordings: a run that learns, one that is recorded, replays. */
#include "autocast.h"
#include "capture_state.h"
#include "internal.h"
#include "loop.h"
#include "ops.h"

/* ---- life ---- */
static void drop_leaves(ms_recording *r) {
  ms_leaf_note *n = r->leaves.items;
  for (int i = 0; i < r->leaves.n; i++) {
    ms_release(n[i].leaf);
    ms_release(n[i].grad);
    ms_release(n[i].pending.scale);
    ms_storage_release(n[i].had);
  }
  r->leaves.n = 0;
}

static void drop_graph(ms_recording *r) {
  if (r->graph)
    r->device->k->graph_destroy(r->graph);
  r->graph = NULL;
  drop_leaves(r);
  for (int i = 0; i < r->nresults; i++)
    ms_release(r->results[i]);
  ms_free(r->results);
  r->results = NULL;
  r->nresults = 0;
  for (int i = 0; i < r->storages.n; i++)
    ms_storage_release(((ms_storage **)r->storages.items)[i]);
  for (int i = 0; i < r->written.n; i++)
    ms_storage_release(((ms_write_note *)r->written.items)[i].s);
  for (int i = 0; i < r->halves.n; i++)
    ms_release(((ms_tensor **)r->halves.items)[i]);
  for (int i = 0; i < r->arenas.n; i++)
    ms_arena_release(((ms_arena **)r->arenas.items)[i]);
  r->storages.n = r->written.n = r->halves.n = r->arenas.n = 0;
  ms_pool_release(r->pool);
  r->pool = NULL;
  r->draws = 0;
}

void ms_recording_free(ms_recording *r) {
  if (!r)
    return;
  drop_graph(r);
  ms_lease_end(&r->lease);
  ms_lease_end(&r->inside);
  for (int i = 0; i < r->nin; i++)
    ms_release(r->in[i].t);
  ms_release(r->counter);
  ms_notes *lists[] = {&r->storages, &r->arenas, &r->leaves, &r->written, &r->halves};
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
    ms_free(lists[i]->items);
  ms_free(r->in);
  ms_free(r);
}

static ms_status new_buffer(ms_buffer *b, ms_device *d, int i, ms_tensor *in, ms_error *err) {
  ms_tensor *from = in->source ? in->source : in;
  if (in->requires_grad)
    return ms_fail(err, MS_EGRAPH, "capture: input %d: expected a tensor that needs no gradient; pass x:detach()",
                   i + 1);
  if (ms_tensor_device(in) != d)
    return ms_fail(err, MS_EDEVICE, "capture: input %d: expected a tensor on %s, got one on %s; move it with to \"%s\"",
                   i + 1, d->name, ms_tensor_device(in)->name, d->name);
  ms_status st = ms_tensor_new(&b->t, d, from->dtype, from->ndim, from->size, err);
  if (st)
    return st;
  b->t->scale = from->scale;
  b->steps = in->source ? in->size[0] : 0;
  return MS_OK;
}

ms_status ms_recording_new(ms_recording **out, int nin, ms_tensor *const *in, ms_error *err) {
  ms_status st = ms_capture_refuse("another captured step", "begins", err);
  if (st)
    return st;
  ms_recording *r = ms_alloc(sizeof *r);
  if (!r || !(r->in = ms_alloc((size_t)(nin + 1) * sizeof *r->in))) {
    ms_free(r);
    return ms_fail(err, MS_EMEM, "capture: out of memory");
  }
  r->device = ms_device_current();
  r->nin = nin;
  for (int i = 0; i < nin && !st; i++)
    st = new_buffer(&r->in[i], r->device, i, in[i], err);
  if (st)
    ms_recording_free(r);
  else
    *out = r;
  return st;
}

int ms_recording_results(const ms_recording *r) {
  return r->nresults;
}

void ms_recording_expire(ms_recording *r) {
  ms_lease_end(&r->lease);
}

/* ---- a run ---- */
/* A tensor like t over the same memory, until the lease is over. */
static ms_status borrow(ms_tensor **out, ms_tensor *t, ms_lease *lease, ms_error *err) {
  ms_tensor *b = NULL;
  ms_status st = ms_tensor_alias(&b, t, t->ndim, t->size, t->stride, t->offset, err);
  if (st)
    return st;
  ms_storage_release(b->storage);
  b->storage = NULL;
  st = ms_storage_borrow(&b->storage, t->storage, lease, err);
  if (st)
    ms_release(b);
  else
    *out = b;
  return st;
}

static ms_status fill_buffer(const ms_buffer *b, ms_tensor *in, ms_error *err) {
  ms_tensor *from = in->source ? in->source : in;
  ms_status st = ms_copy_(b->t, from, err);
  b->t->peak = from->peak;
  b->t->density = from->density;
  return st;
}

ms_status ms_recording_inputs(ms_recording *r, ms_tensor *const *in, ms_tensor **out, ms_error *err) {
  int was = ms_set_grad_enabled(0);
  ms_status st = ms_capture_refuse("another captured step", "begins", err);
  for (int i = 0; i < r->nin && !st; i++)
    st = fill_buffer(&r->in[i], in[i], err);
  ms_lease_end(&r->lease);
  ms_lease_end(&r->inside);
  if (!st && (!(r->inside = ms_lease_new()) || !(r->lease = ms_lease_new())))
    st = ms_fail(err, MS_EMEM, "capture: out of memory");
  for (int i = 0; i < r->nin && !st; i++) {
    ms_tensor *t = NULL;
    if ((st = borrow(&t, r->in[i].t, r->inside, err)) || !r->in[i].steps) {
      out[i] = t;
      continue;
    }
    st = ms_expand(&out[i], t, t->ndim, in[i]->size, err);
    ms_release(t);
  }
  ms_set_grad_enabled(was);
  return st;
}

static ms_status upload_count(ms_recording *r, uint64_t draws, ms_error *err) {
  int64_t one = 1, value = (int64_t)draws;
  ms_status st = MS_OK;
  if (!r->counter)
    st = ms_tensor_new(&r->counter, r->device, MS_I64, 1, &one, err);
  if (!st)
    st = ms_write(r->counter, &value, err);
  r->counted = draws;
  return st;
}

static ms_status start_graph(ms_recording *r, ms_error *err) {
  ms_device *d = r->device;
  size_t slack = r->need / 4 + 65536;
  ms_status st = ms_pool_new(&r->pool, d, r->need + slack, err);
  if (!st)
    st = upload_count(r, ms_rng_default()->draws, err);
  if (st)
    return st;
  if ((st = d->k->capture_begin(d->stream)))
    return ms_row(d, st, "capture", err);
  ms_capturing.serial++;
  ms_pool_use(r->pool);
  ms_capture_live = 1;
  return MS_OK;
}

ms_status ms_recording_begin(ms_recording *r, int record, ms_error *err) {
  int graphs = r->device->k->capture_begin != NULL;
  ms_status st = ms_capture_refuse("another captured step", "begins", err);
  if (st)
    return st;
  drop_graph(r);
  ms_capturing.foreign = NULL;
  ms_capturing.out_of_memory = 0;
  ms_capturing.first_draw = ms_rng_default()->draws;
  if (graphs && record && r->need && r->changes == ms_capture_changes()) {
    st = start_graph(r, err);
  } else if (graphs && !(st = ms_pool_new(&ms_capturing.learnt, r->device, 0, err))) {
    ms_pool_use(ms_capturing.learnt);
  }
  if (st)
    drop_graph(r);
  else
    ms_capturing.r = r;
  return st;
}

/* ---- its end ---- */
/* Does the step make the gradient, whatever there was? */
static int makes(const ms_leaf_note *n) {
  return n->fresh || !n->had;
}

static ms_status keep_leaf(ms_leaf_note *n, int live, ms_error *err) {
  ms_tensor *g = n->leaf->grad, *last = NULL;
  ms_status st;
  if (n->leaf->pending && n->leaf->pending->set) {
    n->pending = *n->leaf->pending;
    ms_retain(n->pending.scale);
    ms_lease_set(n->pending.scale->storage, NULL);
  }
  n->in_arena = g && g->storage->arena;
  if (g && (!live || !makes(n) || n->in_arena))
    ms_lease_set(g->storage, NULL);
  if (!g || !live || !makes(n) || n->in_arena)
    return MS_OK;
  if ((st = borrow(&n->grad, g, NULL, err)) || (st = borrow(&last, n->grad, ms_capturing.r->lease, err)))
    return st;
  ms_release(g);
  n->leaf->grad = last;
  return MS_OK;
}

/* What was not recorded to its end never ran: neither gradients nor copies hold what they seem to. */
static void forget(ms_recording *r) {
  ms_leaf_note *n = r->leaves.items;
  ms_write_note *w = r->written.items;
  ms_error err;
  for (int i = 0; i < r->leaves.n; i++)
    (void)ms_set_grad(n[i].leaf, NULL, &err);
  for (int i = 0; i < r->written.n; i++)
    w[i].s->half_version = w[i].s->version - 1;
  for (int i = 0; i < r->halves.n; i++) {
    ms_storage *s = ((ms_tensor **)r->halves.items)[i]->storage;
    s->half_version = s->version - 1;
  }
}

static ms_status keep_leaves(ms_recording *r, int live, ms_error *err) {
  ms_leaf_note *n = r->leaves.items;
  ms_write_note *w = r->written.items;
  ms_status st = MS_OK;
  for (int i = 0; i < r->leaves.n && !st; i++)
    st = keep_leaf(&n[i], live, err);
  for (int i = 0; i < r->written.n; i++)
    w[i].half = w[i].s->half && w[i].s->half_version == w[i].s->version;
  return st;
}

/* Result i of the step as the recording keeps it: with memory, outside of any graph of gradients. */
static ms_status settle_result(ms_tensor **out, ms_tensor *t, ms_error *err) {
  ms_status st = ms_materialise(t, err);
  return st ? st : ms_detached(out, t, err);
}

static ms_status give_result(ms_tensor **out, ms_recording *r, ms_tensor **kept, int live, ms_error *err) {
  ms_tensor *base = NULL;
  ms_storage *s = (*kept)->storage;
  ms_release((*kept)->source);
  (*kept)->source = NULL;
  if (s->lease != r->inside) { /* not made by the step */
    *out = ms_retain(*kept);
    return MS_OK;
  }
  if (!live) {
    ms_lease_set(s, r->lease);
    *out = ms_retain(*kept);
    return MS_OK;
  }
  ms_status st = borrow(&base, *kept, NULL, err);
  if (st)
    return st;
  ms_release(*kept);
  *kept = base;
  return borrow(out, base, r->lease, err);
}

static ms_status add_draws(ms_recording *r, ms_error *err) {
  ms_data count;
  ms_loop l;
  if (!r->draws)
    return MS_OK;
  ms_device *d = r->device;
  ms_status st = ms_loop_over(&l, r->counter, 1, &r->counter, MS_ORDER_MEMORY, err);
  if (!st)
    st = ms_data_of(&count, r->counter, err);
  if (!st)
    st = ms_row(d, d->k->binary_scalar(d->stream, MS_BINARY_add, &l, (double)r->draws, 0), "capture", err);
  r->counted = ms_capturing.first_draw + (uint64_t)r->draws;
  return st;
}

static ms_status problem(const ms_recording *r, ms_error *err) {
  if (ms_capturing.out_of_memory)
    return ms_fail(err, MS_EMEM, "capture: out of memory");
  if (ms_capturing.foreign)
    return ms_fail(err, MS_EDEVICE, "captured step: it works on %s too, but %s is recorded; use one device",
                   ms_capturing.foreign->name, r->device->name);
  return MS_OK;
}

/* What was recorded becomes a graph and runs. */
static ms_status finish_graph(ms_recording *r, ms_status st, ms_error *err) {
  ms_device *d = r->device;
  ms_error later;
  if (!st)
    st = add_draws(r, err);
  if (!st)
    st = problem(r, err);
  ms_status ended = d->k->capture_end(d->stream, &r->graph);
  ms_capture_live = 0;
  if (!st)
    st = ms_row(d, ended, "capture", err);
  else if (ended)
    (void)ms_row(d, ended, "capture", &later);
  if (!st)
    st = ms_row(d, d->k->graph_launch(d->stream, r->graph), "capture", err);
  return st;
}

ms_status ms_recording_end(ms_recording *r, int failed, int n, ms_tensor *const *results, ms_tensor **out,
                           ms_error *err) {
  int live = ms_capture_live, was = ms_set_grad_enabled(0);
  ms_error unsaid;
  ms_status st = failed ? MS_EINVAL : MS_OK;
  if (!failed && !(r->results = ms_alloc((size_t)(n + 1) * sizeof *r->results)))
    st = ms_fail(err, MS_EMEM, "capture: out of memory");
  for (int i = 0; i < n && !st; i++, r->nresults += !st)
    st = settle_result(&r->results[i], results[i], err);
  if (live)
    st = finish_graph(r, st, err);
  ms_pool_use(NULL);
  ms_pool_settle();
  if (ms_capturing.learnt)
    r->need = st ? 0 : ms_pool_most(ms_capturing.learnt) + 1;
  ms_pool_release(ms_capturing.learnt);
  ms_capturing.learnt = NULL;
  if (live && st)
    forget(r);
  else if (keep_leaves(r, live, st ? &unsaid : err) && !st)
    st = MS_EMEM;
  for (int i = 0; i < n && !st; i++)
    st = give_result(&out[i], r, &r->results[i], live, err);
  ms_capturing.r = NULL;
  ms_lease_end(&r->inside);
  r->changes = ms_capture_changes();
  r->seed = ms_rng_default()->seed;
  if (st) {
    r->need = 0; /* learnt anew */
    drop_graph(r);
  } else if (!live) {
    for (int i = 0; i < r->nresults; i++)
      ms_release(r->results[i]);
    ms_free(r->results);
    r->results = NULL;
    r->nresults = 0;
    drop_leaves(r);
  }
  ms_set_grad_enabled(was);
  return failed ? MS_OK : st;
}

/* ---- replay ---- */
static int leaf_fits(const ms_leaf_note *n) {
  const ms_tensor *g = n->leaf->grad;
  if (n->fresh)
    return 1;
  return !(n->leaf->pending && n->leaf->pending->set) && (g ? g->storage == n->had : !n->had);
}

int ms_recording_usable(const ms_recording *r) {
  return r->graph && r->changes == ms_capture_changes() && r->seed == ms_rng_default()->seed;
}

int ms_recording_ready(const ms_recording *r) {
  const ms_leaf_note *n = r->leaves.items;
  int fits = ms_recording_usable(r);
  for (int i = 0; i < r->leaves.n && fits; i++)
    fits = leaf_fits(&n[i]);
  return fits;
}

/* Gradients that somebody still holds make room. */
static ms_status prepare_leaf(ms_leaf_note *n, ms_error *err) {
  if (!makes(n))
    return MS_OK;
  ms_status st = ms_set_grad(n->leaf, NULL, err);
  if (!st && n->in_arena)
    st = ms_arena_grad_alias(&n->leaf->grad, n->leaf, err);
  return st;
}

static ms_status finish_leaf(const ms_recording *r, ms_leaf_note *n, ms_error *err) {
  ms_status st = MS_OK;
  if (makes(n) && n->grad)
    st = borrow(&n->leaf->grad, n->grad, r->lease, err);
  if (!st && n->pending.set)
    st = ms_pending_restore(n->leaf, &n->pending, err);
  return st;
}

static ms_status prepare(ms_recording *r, ms_error *err) {
  ms_tensor **half = r->halves.items;
  ms_leaf_note *n = r->leaves.items;
  ms_status st = MS_OK;
  for (int i = 0; i < r->halves.n && !st; i++)
    st = ms_half_renew(half[i], err);
  for (int i = 0; i < r->leaves.n && !st; i++)
    st = prepare_leaf(&n[i], err);
  if (!st && r->draws && r->counted != ms_rng_default()->draws)
    st = upload_count(r, ms_rng_default()->draws, err);
  return st;
}

/* The host's side of what the graph does. */
static ms_status aftermath(ms_recording *r, ms_error *err) {
  ms_write_note *w = r->written.items;
  ms_leaf_note *n = r->leaves.items;
  ms_status st = MS_OK;
  for (int i = 0; i < r->written.n; i++) {
    w[i].s->version++;
    w[i].s->writer = "captured step";
    if (w[i].s->half && w[i].half)
      ms_half_written(w[i].s);
  }
  for (int i = 0; i < r->leaves.n && !st; i++)
    st = finish_leaf(r, &n[i], err);
  ms_rng_default()->draws += (uint64_t)r->draws;
  r->counted += (uint64_t)r->draws;
  return st;
}

ms_status ms_recording_replay(ms_recording *r, ms_tensor **out, ms_error *err) {
  ms_device *d = r->device;
  int was = ms_set_grad_enabled(0);
  ms_status st = prepare(r, err);
  if (!st)
    st = ms_row(d, d->k->graph_launch(d->stream, r->graph), "capture", err);
  if (!st)
    st = aftermath(r, err);
  for (int i = 0; i < r->nresults && !st; i++) {
    if (r->results[i]->storage->owner)
      st = borrow(&out[i], r->results[i], r->lease, err);
    else
      out[i] = ms_retain(r->results[i]);
  }
  ms_set_grad_enabled(was);
  return st;
}
