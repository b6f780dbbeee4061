/* Spikes that are computed when they are read, and kept as bits. */
#include "nn.h"
#include "../spikes.h"

#include <string.h>

enum { BITS, BYTES, MEMBRANE, COUNTS, ACTIVE, TOTALS, RESULTS };

struct ms_spikes {
  int refs; /* tensors and holds */
  int users[MS_PARTS];
  int busy; /* rows under way: the inputs stay */
  ms_device *device;
  ms_neuron_args args; /* sizes and settings */
  int ndim, narrow;
  int64_t size[MS_MAX_DIMS];
  ms_tensor *in[MS_FIRE_INPUTS]; /* until nothing can be asked any more */
  uint32_t version[MS_FIRE_INPUTS];
  ms_tensor *have[RESULTS];
  int pooled; /* a pooling took the spikes */
  double density, active_density;
  ms_spikes *next, **link; /* records with inputs */
};

static ms_spikes *open_records;
static int packing = 1;

int ms_set_packing(int on) {
  int was = packing;
  packing = on != 0;
  return was;
}

#ifdef MS_SMOOTH
static const ms_dtype spike_type = MS_F32;
#else
static const ms_dtype spike_type = MS_SPIKE;
#endif

/* ---- life ---- */
static int computed(const ms_spikes *r, ms_part part) {
  switch (part) {
  case MS_PART_SPIKES:
    return r->have[BITS] || r->have[BYTES];
  case MS_PART_MEMBRANE:
    return r->have[MEMBRANE] != NULL;
  default:
    return r->have[COUNTS] != NULL;
  }
}

/* Lets the inputs go once every part is computed or has no tensor left. */
static void settle(ms_spikes *r) {
  if (r->busy || !r->link)
    return;
  for (int part = 0; part < MS_PARTS; part++)
    if (r->users[part] && !computed(r, (ms_part)part))
      return;
  *r->link = r->next;
  if (r->next)
    r->next->link = r->link;
  r->link = NULL;
  for (int i = 0; i < MS_FIRE_INPUTS; i++) {
    ms_tensor *t = r->in[i];
    r->in[i] = NULL;
    if (t && t->storage)
      t->storage->late--;
    ms_release(t);
  }
}

void ms_spikes_release(ms_spikes *r) {
  r->refs++; /* what settle releases may lead back here */
  settle(r);
  r->refs--;
  if (--r->refs)
    return;
  for (int i = 0; i < RESULTS; i++)
    ms_release(r->have[i]);
  ms_free(r);
}

ms_status ms_spikes_new(ms_spikes **out, const ms_neuron_args *a, ms_tensor *const *in, int ndim, const int64_t *size,
                        int narrow, ms_error *err) {
  ms_spikes *r = ms_alloc(sizeof *r);
  if (!r)
    return ms_fail(err, MS_EMEM, "neuron: out of memory");
  r->refs = 1;
  r->device = ms_tensor_device(in[MS_FIRE_Y]);
  r->args = *a;
  r->ndim = ndim;
  r->narrow = narrow;
  r->density = r->active_density = -1;
  memcpy(r->size, size, (size_t)ndim * sizeof *size);
  for (int i = 0; i < MS_FIRE_INPUTS; i++) {
    if (!in[i])
      continue;
    r->in[i] = ms_retain(in[i]);
    r->version[i] = ms_version_of(in[i]);
    if (in[i]->storage)
      in[i]->storage->late++;
  }
  r->next = open_records;
  r->link = &open_records;
  if (r->next)
    r->next->link = &r->next;
  open_records = r;
  r->busy = 1; /* until the first tensor is made */
  *out = r;
  return MS_OK;
}

static void join(ms_tensor *t, ms_spikes *r, ms_part part) {
  t->spikes = r;
  t->part = part;
  r->refs++;
  r->users[part]++;
}

void ms_spikes_leave(ms_tensor *t) {
  ms_spikes *r = t->spikes;
  if (!r)
    return;
  t->spikes = NULL;
  r->users[t->part]--;
  ms_spikes_release(r);
}

int ms_spikes_reads(const ms_spikes *r, int (*is)(const ms_tensor *t)) {
  int found = 0;
  for (int i = 0; i < MS_FIRE_INPUTS; i++)
    found |= is(r->in[i]);
  for (int i = 0; i < RESULTS; i++)
    found |= is(r->have[i]);
  return found;
}

ms_device *ms_spikes_device(const ms_spikes *r) {
  return r->device;
}

/* ---- shapes of the parts ---- */
static int is_bits(const ms_spikes *r) {
  return packing && spike_type == MS_SPIKE && r->args.c % 8 == 0;
}

static int64_t elements(const ms_spikes *r) {
  return r->args.steps * r->args.n;
}

static ms_status new_result(ms_tensor **out, const ms_spikes *r, int what, ms_error *err) {
  int64_t size[MS_MAX_DIMS], counts[2] = {r->args.steps, r->args.c}, two = 2,
                             bytes = (int64_t)MS_BITS_BYTES(elements(r));
  switch (what) {
  case BITS:
  case ACTIVE:
    return ms_tensor_new(out, r->device, MS_U8, 1, &bytes, err);
  case BYTES:
    return ms_tensor_new(out, r->device, spike_type, r->ndim, r->size, err);
  case MEMBRANE: /* in memory like one step of the spikes */
    memcpy(size, r->size, sizeof size);
    size[0] = 1;
    return ms_tensor_new(out, r->device, MS_F32, r->ndim, size, err);
  case COUNTS:
    return elements(r) ? ms_tensor_new(out, r->device, MS_I64, 2, counts, err)
                       : ms_full(out, r->device, MS_I64, 2, counts, 0, err);
  default:
    return ms_tensor_new(out, r->device, MS_I64, 1, &two, err);
  }
}

ms_status ms_spikes_tensor(ms_tensor **out, ms_spikes *r, ms_part part, ms_error *err) {
  int64_t size[MS_MAX_DIMS], stride[MS_MAX_DIMS], counts[2] = {r->args.steps, r->args.c};
  ms_status st;
  r->busy = 0;
  memcpy(size, r->size, sizeof size);
  if (part == MS_PART_MEMBRANE)
    size[0] = 1;
  ms_default_strides(r->ndim, size, stride);
  if (part == MS_PART_SPIKES)
    st = ms_tensor_header(out, spike_type, r->ndim, size, stride, err);
  else if (part == MS_PART_MEMBRANE)
    st = ms_tensor_header(out, MS_F32, r->ndim - 1, size + 1, stride + 1, err);
  else
    st = ms_tensor_header(out, MS_I64, 2, counts, (int64_t[]){r->args.c > 0 ? r->args.c : 1, 1}, err);
  if (st)
    return st;
  if (part == MS_PART_SPIKES && spike_type == MS_SPIKE)
    (*out)->peak = 1;
  join(*out, r, part);
  return MS_OK;
}

ms_status ms_spikes_alias(ms_tensor **out, ms_tensor *t, ms_error *err) {
  ms_status st = ms_tensor_header(out, t->dtype, t->ndim, t->size, t->stride, err);
  if (st)
    return st;
  (*out)->scale = t->scale;
  (*out)->peak = t->peak;
  (*out)->density = t->density;
  join(*out, t->spikes, (ms_part)t->part);
  return MS_OK;
}

/* ---- the row ---- */
static ms_status check_inputs(const ms_spikes *r, ms_error *err) {
  static const char *const name[] = {"its input",    "the normalisation before it", "the normalisation before it",
                                     "its residual", "its initial membrane",        "its w"};
  for (int i = 0; i < MS_FIRE_INPUTS; i++)
    if (r->in[i] && ms_version_of(r->in[i]) != r->version[i])
      return ms_fail(err, MS_EGRAPH,
                     "neuron: %s was written in place by %s before the spikes were read; read them first, or write to "
                     "a clone",
                     name[i], ms_writer_of(r->in[i]));
  return MS_OK;
}

/* Reading the counts costs nothing on the CPU; elsewhere it would wait for the device. */
static double share(const ms_spikes *r, const ms_tensor *sums, int64_t first, int64_t n, int64_t all) {
  int64_t total = 0;
  if (!all || !ms_on_cpu(r->device))
    return -1;
  for (int64_t i = first; i < first + n; i++)
    total += ms_ints(sums)[i];
  return (double)total / (double)all;
}

static ms_data data_or_none(const ms_tensor *t, ms_dtype dtype) {
  ms_data d = ms_dense_data(t);
  if (t)
    d.dtype = dtype;
  return d;
}

static void *pointer(const ms_tensor *t) {
  return t ? ms_memory_of(t) : NULL;
}

/* Runs the row for the results in `want` (and for pooled, where given); counts always, so that rates cost nothing. */
static ms_status run(ms_spikes *r, unsigned want, ms_tensor *pooled, ms_error *err) {
  ms_tensor *fresh[RESULTS] = {NULL};
  ms_status st = MS_OK;
  want |= r->have[COUNTS] ? 0 : 1u << COUNTS;
  want |= pooled || want & 1u << ACTIVE ? 1u << TOTALS : 0;
  r->busy++;
  r->refs++;
  for (int i = 0; i < RESULTS && !st; i++)
    if (want & 1u << i)
      st = new_result(&fresh[i], r, i, err);
  if (st || (st = check_inputs(r, err)))
    goto done;
  ms_neuron_args a = r->args;
  ms_tensor *const *in = r->in;
  a.y = ms_dense_data(in[MS_FIRE_Y]);
  a.norm = (ms_affine){ms_reals(in[MS_FIRE_A]), ms_reals(in[MS_FIRE_B])};
  a.r = ms_spikes_data(in[MS_FIRE_R]);
  a.v0 = ms_reals(in[MS_FIRE_V0]);
  a.w = ms_reals(in[MS_FIRE_W]);
  a.s = fresh[BITS] ? data_or_none(fresh[BITS], MS_BITS) : data_or_none(fresh[BYTES], spike_type);
  a.active = pointer(fresh[ACTIVE]);
  a.v = pointer(fresh[MEMBRANE]);
  a.counts = pointer(fresh[COUNTS]);
  a.totals = pointer(fresh[TOTALS]);
  if (pooled) {
    a.pooled = ms_dense_data(pooled);
    a.pool_h = r->size[r->ndim - 2];
    a.pool_w = r->size[r->ndim - 1];
  }
  if ((st = ms_row(r->device, r->device->k->neuron(r->device->stream, &a), "neuron", err)))
    goto done;
  if (fresh[COUNTS] && spike_type == MS_SPIKE)
    r->density = share(r, fresh[COUNTS], 0, ms_numel(fresh[COUNTS]), elements(r));
  if (fresh[ACTIVE])
    r->active_density = share(r, fresh[TOTALS], 0, 1, elements(r));
  if (pooled && spike_type == MS_SPIKE)
    pooled->density = share(r, fresh[TOTALS], 1, 1, ms_numel(pooled));
  for (int i = 0; i < TOTALS; i++)
    if (!r->have[i]) { /* an allocation may have run Lua finalizers, and those may have read */
      r->have[i] = fresh[i];
      fresh[i] = NULL;
    }
done:
  for (int i = 0; i < RESULTS; i++)
    ms_release(fresh[i]);
  r->busy--;
  ms_spikes_release(r);
  return st;
}

/* Who hands membranes on from call to call reads each of them. */
static unsigned with_membrane(const ms_spikes *r) {
  int carried = r->args.steps == 1 || r->in[MS_FIRE_V0] || r->in[MS_FIRE_W];
  return carried && r->users[MS_PART_MEMBRANE] && !r->have[MEMBRANE] ? 1u << MEMBRANE : 0;
}

static ms_status compute_spikes(ms_spikes *r, int active, ms_error *err) {
  unsigned want = with_membrane(r) | (is_bits(r) ? 1u << BITS : 1u << BYTES);
  if (computed(r, MS_PART_SPIKES))
    return MS_OK;
  return run(r, want | (active && r->narrow && is_bits(r) ? 1u << ACTIVE : 0), NULL, err);
}

ms_status ms_spikes_compute(ms_spikes *r, ms_error *err) {
  ms_status st = MS_OK;
  r->refs++;
  if (r->users[MS_PART_SPIKES])
    st = compute_spikes(r, 0, err);
  if (!st && r->users[MS_PART_MEMBRANE] && !r->have[MEMBRANE])
    st = run(r, 1u << MEMBRANE, NULL, err);
  if (!st && r->users[MS_PART_COUNTS] && !r->have[COUNTS])
    st = run(r, 0, NULL, err);
  ms_spikes_release(r);
  return st;
}

static ms_spikes *waiting_for(const ms_storage *s) {
  for (ms_spikes *r = open_records; r; r = r->next)
    for (int i = 0; i < MS_FIRE_INPUTS; i++)
      if (!r->busy && r->in[i] && r->in[i]->storage == s)
        return r;
  return NULL;
}

ms_status ms_spikes_flush(ms_storage *s, ms_error *err) {
  ms_status st = MS_OK;
  for (ms_spikes *r; !st && s->late && (r = waiting_for(s));)
    st = ms_spikes_compute(r, err);
  return st;
}

/* ---- reading ---- */
static ms_status unpack(ms_spikes *r, ms_error *err) {
  ms_tensor *bytes = NULL;
  ms_status st = new_result(&bytes, r, BYTES, err);
  if (!st)
    st = ms_row(r->device,
                r->device->k->unpack_bits(r->device->stream, ms_dense_data(bytes), data_or_none(r->have[BITS], MS_BITS),
                                          elements(r)),
                "neuron", err);
  if (!st && !r->have[BYTES]) {
    r->have[BYTES] = bytes;
    bytes = NULL;
  }
  ms_release(bytes);
  return st;
}

ms_status ms_spikes_materialise(ms_tensor *t, ms_error *err) {
  static const int result[] = {BYTES, MEMBRANE, COUNTS};
  ms_spikes *r = t->spikes;
  ms_part part = (ms_part)t->part;
  ms_status st = MS_OK;
  r->refs++;
  if (part == MS_PART_SPIKES)
    st = compute_spikes(r, 0, err);
  if (!st && part == MS_PART_SPIKES && !r->have[BYTES])
    st = unpack(r, err);
  else if (!st && !computed(r, part))
    st = run(r, part == MS_PART_MEMBRANE ? 1u << MEMBRANE : with_membrane(r), NULL, err);
  if (!st && !t->storage) {
    t->storage = ms_storage_retain(r->have[result[part]]->storage);
    if (part == MS_PART_SPIKES)
      t->density = r->density;
    if (part != MS_PART_SPIKES || !r->have[BITS])
      ms_spikes_leave(t);
  }
  ms_spikes_release(r);
  return st;
}

/* Bits that are still what t holds. */
static int unwritten(const ms_tensor *t) {
  return t->spikes && t->part == MS_PART_SPIKES && (!t->storage || t->storage->version == 0);
}

ms_status ms_spikes_of(ms_tensor **out, ms_tensor *t, int active, ms_error *err) {
  ms_status st = MS_OK;
  if (unwritten(t) && !(st = compute_spikes(t->spikes, active, err)) && unwritten(t) && t->spikes->have[BITS]) {
    t->density = t->spikes->density;
    return ms_spikes_alias(out, t, err);
  }
  return st ? st : ms_dense(out, t, -1, err);
}

ms_data ms_spikes_data(const ms_tensor *t) {
  if (!t || t->storage || !t->spikes)
    return ms_dense_data(t);
  ms_data d = data_or_none(t->spikes->have[BITS], MS_BITS);
  d.scale = t->scale;
  return d;
}

ms_tensor *ms_spikes_active(const ms_tensor *t, double *density) {
  if (!unwritten(t) || !t->spikes->have[ACTIVE])
    return NULL;
  *density = t->spikes->active_density;
  return t->spikes->have[ACTIVE];
}

static const ms_storage *bytes_of(const ms_tensor *t) {
  if (t->storage || !t->spikes || t->part != MS_PART_SPIKES)
    return t->storage;
  return t->spikes->have[BYTES] ? t->spikes->have[BYTES]->storage : NULL;
}

uint32_t ms_version_of(const ms_tensor *t) {
  const ms_storage *s = bytes_of(t);
  return s ? s->version : 0;
}

const char *ms_writer_of(const ms_tensor *t) {
  const ms_storage *s = bytes_of(t);
  return s ? s->writer : "";
}

/* ---- pooling in the neuron's row ---- */
static const char *why_not_pooled(const ms_tensor *x) {
  const ms_spikes *r = x->spikes;
  if (!r || x->part != MS_PART_SPIKES)
    return x->dtype == spike_type ? "the spikes were read before" : "the input is not a neuron's spikes";
  if (r->pooled || computed(r, MS_PART_SPIKES))
    return "the spikes were read before";
  return x->ndim < 4 || x->size[x->ndim - 2] % 2 || x->size[x->ndim - 1] % 2 ? "the image has an odd side" : "";
}

ms_status ms_spikes_pool(ms_tensor **out, ms_tensor *x, const char **why, ms_error *err) {
  int64_t size[MS_MAX_DIMS];
  ms_spikes *r = x->spikes;
  ms_tensor *y = NULL;
  *out = NULL;
  *why = why_not_pooled(x);
  if (**why)
    return MS_OK;
  memcpy(size, x->size, sizeof size);
  size[x->ndim - 2] /= 2;
  size[x->ndim - 1] /= 2;
  ms_status st = ms_tensor_new(&y, r->device, spike_type, x->ndim, size, err);
  if (!st && spike_type == MS_SPIKE) {
    y->scale = MS_R(0.25);
    y->peak = 4;
  }
  if (!st)
    st = run(r, with_membrane(r), y, err);
  r->pooled |= !st;
  return ms_give(out, y, st);
}
