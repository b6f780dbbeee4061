#include "loader.h"
#include "balance.h"
#include "order.h"
#include "threads.h"
#include <errno.h>
#include <string.h>
#include <time.h>

/* Batches handed out whose copies may still be under way when the next one is asked for. */
#define IN_FLIGHT 2

typedef struct slot {
  ms_real *x;
  ms_tensor *tensor; /* [t, n, c, h, w] in whose memory x lies, where there is no device */
  int64_t *y, *index;
  int64_t made; /* 1 + the batch it holds, 0: none */
  ms_status status;
  ms_error error;     /* where status is not MS_OK */
  int retry;          /* that was told: the caller makes it again */
  ms_event *copied;   /* behind the last copy from it */
  ms_device *copying; /* whose stream that copy is in; NULL: it is past */
} slot;

/* Batch b lies in slots[b % nslots]; workers make batches in [at, at + ahead). Fields from `armed` on change under
** lock; order and augment_key change only while no worker is busy. */
struct ms_loader {
  ms_loader_config c; /* members, mean and std point to what follows */
  int64_t *members;
  ms_real *stats;
  ms_real *table;        /* uint8: normalised value of each byte, [c, 256] */
  ms_photos_args photos; /* of one sample, but for what is drawn and its memory */
  int64_t *order;        /* of the epoch's samples; NULL: as they lie */
  int64_t *classes_of;   /* [n] label of each member, where they are balanced */
  uint64_t augment_key;
  int64_t batches;
  slot *slots;
  size_t slot_bytes; /* of x, at least */
  int nslots, ahead, nthreads, peeked;
  ms_scratch *scratch; /* of each worker, or of the caller */
  pthread_t *threads;
  pthread_mutex_t lock;
  pthread_cond_t work, ready;
  int armed; /* workers may make batches of this epoch */
  int closing, busy, named;
  int64_t epoch, at, ticket; /* at: next batch to hand out, ticket: next one to make */
  ms_repairs repairs;
};

/* ---- one batch ---- */

static int64_t batch_count(const ms_loader *l, int64_t b) {
  int64_t left = l->c.n - b * l->c.batch_size;
  return left < l->c.batch_size ? left : l->c.batch_size;
}

/* Sample i after what is done to it before it moves. */
static ms_status make_photo(const ms_loader *l, int64_t i, const void **sample, ms_scratch *scratch, ms_error *err) {
  ms_photos_args a = l->photos;
  ms_photo_box box;
  ms_photo_op ops[MS_RANDAUGMENT_OPS];
  int64_t bad;
  size_t bytes = (size_t)(a.steps * a.to_h * a.to_w * a.c) * ms_dtype_size(a.x.dtype);
  const ms_device *cpu = ms_device_cpu();
  ms_status status = ms_buffer_resize(&scratch->photo, bytes, "loader", err);
  if (status)
    return status;
  ms_photo_draw(&box, ops, l->c.photo, a.h, a.w, l->augment_key, (uint64_t)i);
  a.x.p = (void *)(uintptr_t)*sample;
  a.boxes = l->c.photo->crop ? &box : NULL;
  a.ops = ops;
  a.y = (ms_data){scratch->photo.p, a.x.dtype, 1};
  a.bad = &bad;
  *sample = a.y.p;
  return cpu->k->photos(cpu->stream, &a) ? ms_fail(err, MS_EMEM, "loader: out of memory for a sample") : MS_OK;
}

static ms_status make_batch(const ms_loader *l, int64_t b, const slot *s, ms_scratch *scratch, ms_error *err) {
  const ms_source *source = l->c.source;
  int64_t h = l->photos.to_h, w = l->photos.to_w;
  int64_t n = batch_count(l, b), first = b * l->c.batch_size, frame = h * w * source->c, bad;
  const ms_device *cpu = ms_device_cpu();
  ms_augment_program program;
  ms_augment_args a = {.n = 1,
                       .samples = 1,
                       .steps = source->t,
                       .h = h,
                       .w = w,
                       .c = source->c,
                       .x = {.dtype = source->dtype, .scale = 1},
                       .programs = l->c.recipe ? &program : NULL,
                       .bytes = l->table,
                       .mean = l->c.mean,
                       .std = l->c.std,
                       .y_step = n * frame,
                       .bad = &bad};
  for (int64_t k = 0; k < n; k++) {
    int64_t position = l->order ? l->order[first + k] : first + k, i = l->c.members ? l->c.members[position] : position;
    const void *sample;
    ms_status status = source->read(source, i, l->c.plain ? NULL : &l->augment_key, scratch, &sample, err);
    if (status || (l->c.photo && (status = make_photo(l, i, &sample, scratch, err))))
      return status;
    s->index[k] = i;
    s->y[k] = source->labels[i];
    if (l->c.recipe)
      ms_augment_draw(&program, l->c.recipe, h, w, l->augment_key, (uint64_t)i);
    a.x.p = (void *)(uintptr_t)sample;
    a.y = s->x + k * frame;
    cpu->k->augment(cpu->stream, &a);
  }
  return MS_OK;
}

/* Called, and returns, with the lock held. */
static void make(ms_loader *l, int64_t b, ms_scratch *scratch) {
  slot *s = &l->slots[b % l->nslots];
  ms_repairs before = scratch->repairs;
  l->busy++;
  pthread_mutex_unlock(&l->lock);
  s->status = make_batch(l, b, s, scratch, &s->error);
  pthread_mutex_lock(&l->lock);
  l->busy--;
  for (int i = 0; i < MS_REPAIR_COUNT; i++)
    l->repairs.count[i] += scratch->repairs.count[i] - before.count[i];
  s->made = b + 1;
  pthread_cond_broadcast(&l->ready);
}

/* ---- workers ---- */

static void *worker(void *loader) {
  ms_loader *l = loader;
  pthread_mutex_lock(&l->lock);
  ms_scratch *scratch = &l->scratch[l->named++];
  for (;;) {
    while (!l->closing && !(l->armed && l->ticket < l->batches && l->ticket < l->at + l->ahead))
      pthread_cond_wait(&l->work, &l->lock);
    if (l->closing)
      break;
    make(l, l->ticket++, scratch);
  }
  pthread_mutex_unlock(&l->lock);
  return NULL;
}

static ms_status start_workers(ms_loader *l, ms_error *err) {
  int code = ms_threads_start(l->threads, l->c.workers, &l->nthreads, worker, l);
  return code ? ms_fail(err, MS_EMEM, "loader: workers: cannot start thread %d of %d: %s", l->nthreads + 1,
                        l->c.workers, strerror(code))
              : MS_OK;
}

/* On return no worker is busy and none will start. */
static void disarm(ms_loader *l) {
  pthread_mutex_lock(&l->lock);
  l->armed = 0;
  while (l->busy > 0)
    pthread_cond_wait(&l->ready, &l->lock);
  pthread_mutex_unlock(&l->lock);
  l->peeked = 0;
}

/* Memory that a copy still reads is not written. */
static ms_status settle(slot *s, ms_error *err) {
  ms_device *d = s->copying;
  s->copying = NULL;
  return d ? ms_row(d, d->k->event_synchronize(d->stream, s->copied), "loader", err) : MS_OK;
}

static ms_status draw_order(ms_loader *l, ms_error *err) {
  if (l->c.balanced)
    return ms_balanced_order(l->order, l->c.n, l->classes_of, l->c.classes,
                             ms_epoch_key(l->c.seed, "balance", l->epoch), err);
  if (l->order)
    ms_order_shuffle(l->order, l->c.n, ms_epoch_key(l->c.seed, "shuffle", l->epoch));
  return MS_OK;
}

/* Draws the epoch's order and lets the workers go. */
static ms_status arm(ms_loader *l, ms_error *err) {
  for (int i = 0; i < l->nslots; i++) {
    ms_status status = settle(&l->slots[i], err);
    if (status)
      return status;
    l->slots[i].made = l->slots[i].retry = 0;
  }
  l->augment_key = ms_epoch_key(l->c.seed, "augment", l->epoch);
  ms_status status = draw_order(l, err);
  if (status)
    return status;
  pthread_mutex_lock(&l->lock);
  l->ticket = l->at;
  l->armed = 1;
  pthread_cond_broadcast(&l->work);
  pthread_mutex_unlock(&l->lock);
  return MS_OK;
}

/* ---- life ---- */

static ms_status check(ms_loader_config *c, ms_photos_args *photos, size_t *bytes, ms_error *err) {
  const ms_source *s = c->source;
  if (!c->members)
    c->n = s->n;
  if (c->batch_size < 1)
    return ms_fail(err, MS_ERANGE, "loader: batch_size: expected at least 1, got %lld", (long long)c->batch_size);
  if (c->workers < 0 || c->workers > MS_LOADER_MAX_WORKERS)
    return ms_fail(err, MS_ERANGE, "loader: workers: expected 0 to %d, got %d", MS_LOADER_MAX_WORKERS, c->workers);
  if (c->prefetch < (c->workers > 0) || c->prefetch > 65536)
    return ms_fail(err, MS_ERANGE, "loader: prefetch: expected %d to 65536, got %d", c->workers > 0, c->prefetch);
  if (s->h >= MS_AUGMENT_SIDE || s->w >= MS_AUGMENT_SIDE)
    return ms_fail(err, MS_ERANGE, "loader: source: expected images of less than %d x %d, got %lld x %lld",
                   MS_AUGMENT_SIDE, MS_AUGMENT_SIDE, (long long)s->h, (long long)s->w);
  if (c->balanced && c->classes < 1)
    return ms_fail(err, MS_ERANGE, "loader: classes: expected at least 1, got %lld", (long long)c->classes);
  if (!(c->scale > 0 && (double)c->scale <= MS_REAL_MAX))
    return ms_fail(err, MS_ERANGE, "loader: scale: expected a positive number, got %g", (double)c->scale);
  for (int64_t i = 0; c->members && i < c->n; i++)
    if (c->members[i] < 0 || c->members[i] >= s->n)
      return ms_fail(err, MS_ERANGE, "loader: members: expected samples 0 to %lld, got %lld", (long long)s->n - 1,
                     (long long)c->members[i]);
  for (int64_t k = 0; k < s->c; k++) {
    if (c->mean && !(fabs((double)c->mean[k]) <= MS_REAL_MAX))
      return ms_fail(err, MS_ERANGE, "loader: mean: expected finite numbers, got %g", (double)c->mean[k]);
    if (c->std && !((double)c->std[k] > 0 && (double)c->std[k] <= MS_REAL_MAX))
      return ms_fail(err, MS_ERANGE, "loader: std: expected positive numbers, got %g", (double)c->std[k]);
  }
  *photos = (ms_photos_args){.n = 1,
                             .samples = 1,
                             .steps = s->t,
                             .h = s->h,
                             .w = s->w,
                             .c = s->c,
                             .to_h = s->h,
                             .to_w = s->w,
                             .x = {.dtype = s->dtype, .scale = 1}};
  if (c->photo && !ms_photo_wanted(c->photo))
    c->photo = NULL;
  ms_status status = c->photo ? ms_photo_plan(photos, c->photo, "loader", err) : MS_OK;
  if (status)
    return status;
  int64_t n = c->batch_size < c->n ? c->batch_size : c->n, size = sizeof(ms_real), all;
  if (__builtin_mul_overflow(size, s->t, &size) || __builtin_mul_overflow(size, photos->to_h, &size) ||
      __builtin_mul_overflow(size, photos->to_w, &size) || __builtin_mul_overflow(size, s->c, &size) ||
      __builtin_mul_overflow(size, n, &size) ||
      __builtin_mul_overflow(size, (int64_t)c->prefetch + 1 + IN_FLIGHT, &all) || all > PTRDIFF_MAX / 2)
    return ms_fail(err, MS_ERANGE, "loader: batch_size: %lld batches of %lld samples are too large",
                   (long long)c->prefetch + 1, (long long)n);
  *bytes = (size_t)size + sizeof(ms_real);
  return MS_OK;
}

/* Memory of a full batch, as a tensor that can be handed out. */
static ms_status allocate_tensor(const ms_loader *l, slot *s, ms_error *err) {
  const ms_source *from = l->c.source;
  int64_t size[5] = {from->t, l->c.batch_size < l->c.n ? l->c.batch_size : l->c.n, from->c, l->photos.to_h,
                     l->photos.to_w};
  ms_tensor *t;
  ms_data data;
  ms_status status = ms_tensor_new(&t, ms_device_cpu(), MS_F32, 5, size, err);
  if (!status && (status = ms_data_of(&data, t, err)))
    ms_release(t);
  if (!status) {
    s->tensor = t;
    s->x = data.p;
  }
  return status;
}

static ms_status allocate_slot(ms_loader *l, slot *s, ms_error *err) {
  size_t n = (size_t)(l->c.batch_size < l->c.n ? l->c.batch_size : l->c.n) + 1;
  ms_device *d = l->c.device;
  s->y = ms_alloc(n * sizeof *s->y);
  s->index = ms_alloc(n * sizeof *s->index);
  ms_status status = d ? d->k->alloc_host((void **)&s->x, l->slot_bytes) : allocate_tensor(l, s, NULL);
  if (status || !s->y || !s->index)
    return ms_fail(err, MS_EMEM, "loader: out of memory for %d batches of %lld samples, %zu bytes each", l->nslots,
                   (long long)l->c.batch_size, l->slot_bytes);
  return d ? ms_row(d, d->k->event_create(&s->copied), "loader", err) : MS_OK;
}

static ms_status allocate(ms_loader *l, ms_error *err) {
  size_t channels = (size_t)l->c.source->c, threads = (size_t)l->c.workers + 1;
  l->stats = ms_alloc(2 * channels * sizeof *l->stats);
  l->table = ms_alloc(256 * channels * sizeof *l->table);
  l->slots = ms_alloc((size_t)l->nslots * sizeof *l->slots);
  l->threads = ms_alloc(threads * sizeof *l->threads);
  l->scratch = ms_alloc(threads * sizeof *l->scratch);
  if (l->c.members)
    l->members = ms_alloc((size_t)(l->c.n + 1) * sizeof *l->members);
  if (l->c.shuffle || l->c.balanced)
    l->order = ms_alloc((size_t)(l->c.n + 1) * sizeof *l->order);
  if (l->c.balanced)
    l->classes_of = ms_alloc((size_t)(l->c.n + 1) * sizeof *l->classes_of);
  if (!l->stats || !l->table || !l->slots || !l->threads || !l->scratch || (l->c.members && !l->members) ||
      ((l->c.shuffle || l->c.balanced) && !l->order) || (l->c.balanced && !l->classes_of))
    return ms_fail(err, MS_EMEM, "loader: out of memory");
  ms_status status = MS_OK;
  for (int i = 0; i < l->nslots && !status; i++)
    status = allocate_slot(l, &l->slots[i], err);
  return status;
}

static void fill_tables(ms_loader *l, const ms_loader_config *config) {
  int64_t channels = config->source->c;
  ms_real *mean = l->stats, *std = l->stats + channels;
  for (int64_t k = 0; k < channels; k++) {
    mean[k] = config->mean ? config->mean[k] : 0;
    std[k] = config->std ? config->std[k] : 1;
  }
  ms_augment_bytes(l->table, channels, (double)config->scale, mean, std);
  l->c.mean = mean;
  l->c.std = std;
}

ms_status ms_loader_new(ms_loader **out, const ms_loader_config *config, ms_error *err) {
  ms_loader_config c = *config;
  ms_photos_args photos;
  size_t bytes = 0;
  *out = NULL;
  ms_status status = check(&c, &photos, &bytes, err);
  if (status)
    return status;
  ms_loader *l = ms_alloc(sizeof *l);
  if (!l)
    return ms_fail(err, MS_EMEM, "loader: out of memory");
  pthread_mutex_init(&l->lock, NULL);
  pthread_cond_init(&l->work, NULL);
  pthread_cond_init(&l->ready, NULL);
  l->c = c;
  l->photos = photos;
  l->slot_bytes = bytes;
  l->ahead = c.workers > 0 ? c.prefetch + 1 : 1; /* one is with the caller */
  l->nslots = l->ahead + (c.device ? IN_FLIGHT : 0);
  l->batches = c.n / c.batch_size + (!c.drop_last && c.n % c.batch_size);
  l->epoch = 1;
  if (!(status = allocate(l, err))) {
    fill_tables(l, &c);
    if (c.members)
      l->c.members = memcpy(l->members, c.members, (size_t)c.n * sizeof *c.members);
    for (int64_t i = 0; l->classes_of && i < c.n; i++)
      l->classes_of[i] = c.source->labels[c.members ? c.members[i] : i];
    status = start_workers(l, err);
  }
  if (status)
    ms_loader_close(l);
  else
    *out = l;
  return status;
}

static void free_slot(ms_loader *l, slot *s) {
  ms_device *d = l->c.device;
  if (s->copied)
    d->k->event_destroy(s->copied);
  ms_release(s->tensor);
  if (d && s->x)
    d->k->free_host(s->x, l->slot_bytes);
  ms_free(s->y);
  ms_free(s->index);
}

void ms_loader_close(ms_loader *l) {
  if (!l)
    return;
  pthread_mutex_lock(&l->lock);
  l->closing = 1;
  pthread_cond_broadcast(&l->work);
  pthread_mutex_unlock(&l->lock);
  for (int i = 0; i < l->nthreads; i++)
    pthread_join(l->threads[i], NULL);
  pthread_cond_destroy(&l->ready);
  pthread_cond_destroy(&l->work);
  pthread_mutex_destroy(&l->lock);
  for (int i = 0; l->slots && i < l->nslots; i++)
    free_slot(l, &l->slots[i]);
  for (int i = 0; l->scratch && i <= l->c.workers; i++)
    ms_scratch_free(&l->scratch[i]);
  ms_free(l->scratch);
  ms_free(l->slots);
  ms_free(l->threads);
  ms_free(l->members);
  ms_free(l->order);
  ms_free(l->classes_of);
  ms_free(l->table);
  ms_free(l->stats);
  ms_free(l);
}

/* ---- the caller's side ---- */

/* Until the batch is there; an interrupt is seen within a tenth of a second. */
static ms_status wait_for(ms_loader *l, slot *s, ms_error *err) {
  ms_status status = MS_OK;
  pthread_mutex_lock(&l->lock);
  if (s->made != l->at + 1 && (l->nthreads == 0 || s->retry))
    make(l, l->at, &l->scratch[l->c.workers]);
  s->retry = 0;
  while (s->made != l->at + 1 && !status) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 100000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (pthread_cond_timedwait(&l->ready, &l->lock, &until) == ETIMEDOUT)
      status = ms_interrupt_check(err);
  }
  pthread_mutex_unlock(&l->lock);
  return status;
}

ms_status ms_loader_peek(ms_loader *l, ms_batch *out, ms_error *err) {
  *out = (ms_batch){0};
  ms_status status = ms_interrupt_check(err);
  if (status)
    return status;
  if (l->at < l->batches) {
    slot *s = &l->slots[l->at % l->nslots];
    if ((!l->armed && (status = arm(l, err))) || (status = wait_for(l, s, err)))
      return status;
    if (s->status) {
      s->made = 0;
      s->retry = 1;
      if (err)
        *err = s->error;
      return s->status;
    }
    *out = (ms_batch){
        .n = batch_count(l, l->at), .h = l->photos.to_h, .w = l->photos.to_w, .x = s->x, .y = s->y, .index = s->index};
  }
  l->peeked = 1;
  return MS_OK;
}

ms_status ms_loader_take(ms_loader *l, ms_tensor **out, ms_error *err) {
  slot *s = &l->slots[l->at % l->nslots];
  ms_tensor *made = s->tensor;
  *out = NULL;
  if (!l->peeked || l->at == l->batches || !made || batch_count(l, l->at) != l->c.batch_size)
    return MS_OK;
  ms_status status = allocate_tensor(l, s, err);
  if (!status)
    *out = made;
  return status;
}

ms_status ms_loader_pop(ms_loader *l, ms_device *copying, ms_error *err) {
  if (!l->peeked)
    return MS_OK;
  if (l->at == l->batches) {
    disarm(l);
    l->epoch++;
    l->at = 0;
    return MS_OK;
  }
  slot *s = &l->slots[l->at % l->nslots];
  ms_status status = MS_OK;
  if (copying && s->copied) {
    status = ms_row(copying, copying->k->event_record(copying->stream, s->copied), "loader", err);
    s->copying = status ? NULL : copying;
  }
  /* the batch that may be made from now on takes the memory of the one IN_FLIGHT batches ago */
  if (!status)
    status = settle(&l->slots[(l->at + l->ahead) % l->nslots], err);
  if (status)
    return status;
  l->peeked = 0;
  pthread_mutex_lock(&l->lock);
  l->at++;
  pthread_cond_signal(&l->work);
  pthread_mutex_unlock(&l->lock);
  return MS_OK;
}

int64_t ms_loader_batches(const ms_loader *l) {
  return l->batches;
}

void ms_loader_position(const ms_loader *l, int64_t *epoch, int64_t *batch) {
  *epoch = l->epoch;
  *batch = l->at;
}

ms_status ms_loader_start(ms_loader *l, int64_t epoch, int64_t batch, ms_error *err) {
  if (epoch < 0 || epoch == INT64_MAX)
    return ms_fail(err, MS_ERANGE, "start: epoch: expected at least 0, got %lld", (long long)epoch);
  if (batch < 0 || batch > l->batches)
    return ms_fail(err, MS_ERANGE, "start: batch: expected 0 to %lld, got %lld", (long long)l->batches,
                   (long long)batch);
  disarm(l);
  l->epoch = epoch;
  l->at = batch;
  return MS_OK;
}

void ms_loader_repairs(ms_loader *l, ms_repairs *out) {
  pthread_mutex_lock(&l->lock);
  *out = l->repairs;
  pthread_mutex_unlock(&l->lock);
}
