#include "loader.h"
#include "../../../kernels/math/philox.h"
#include "../rng.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

typedef struct slot {
  ms_real *x;
  int64_t *y, *index;
  int64_t made; /* 1 + the batch it holds, 0: none */
} slot;

/* Batch b lies in slots[b % nslots]; workers make batches in [at, at + nslots). Fields from `armed` on change under
** lock; order and augment_key change only while no worker is busy. */
struct ms_loader {
  ms_loader_config c; /* mean and std point into stats */
  ms_real *stats;
  ms_real *table; /* uint8: normalised value of each byte, [c, 256] */
  ms_real *pad;   /* normalised zero, [c] */
  int64_t *order; /* of the epoch's samples; NULL: as they lie */
  uint64_t augment_key;
  int64_t batches;
  slot *slots;
  int nslots, nthreads, peeked;
  pthread_t *threads;
  pthread_mutex_t lock;
  pthread_cond_t work, ready;
  int armed; /* workers may make batches of this epoch */
  int closing, busy;
  int64_t epoch, at, ticket; /* at: next batch to hand out, ticket: next one to make */
};

/* ---- one batch ---- */

static void make_sample(const ms_loader *l, int64_t i, ms_real *out) {
  const ms_loader_config *c = &l->c;
  int64_t dy = 0, dx = 0, image = i * c->h * c->w * c->c;
  int flip = 0;
  if (c->crop_padding || c->flip) {
    ms_philox4 r = ms_philox_block(l->augment_key, (uint64_t)i, 0);
    uint64_t places = 2 * (uint64_t)c->crop_padding + 1;
    dy = (int64_t)(r.w[0] * places >> 32) - c->crop_padding;
    dx = (int64_t)(r.w[1] * places >> 32) - c->crop_padding;
    flip = c->flip && r.w[2] >> 31;
  }
  for (int64_t y = 0; y < c->h; y++) {
    int64_t sy = y + dy, row = image + sy * c->w * c->c;
    for (int64_t x = 0; x < c->w; x++, out += c->c) {
      int64_t sx = (flip ? c->w - 1 - x : x) + dx;
      if (sy < 0 || sy >= c->h || sx < 0 || sx >= c->w) {
        memcpy(out, l->pad, (size_t)c->c * sizeof *out);
      } else if (c->dtype == MS_U8) {
        const uint8_t *from = (const uint8_t *)c->images + row + sx * c->c;
        for (int64_t k = 0; k < c->c; k++)
          out[k] = l->table[k * 256 + from[k]];
      } else {
        const ms_real *from = (const ms_real *)c->images + row + sx * c->c;
        for (int64_t k = 0; k < c->c; k++)
          out[k] = (from[k] - c->mean[k]) / c->std[k];
      }
    }
  }
}

static int64_t batch_count(const ms_loader *l, int64_t b) {
  int64_t left = l->c.n - b * l->c.batch_size;
  return left < l->c.batch_size ? left : l->c.batch_size;
}

static void make_batch(const ms_loader *l, int64_t b, const slot *s) {
  int64_t n = batch_count(l, b), first = b * l->c.batch_size, elements = l->c.h * l->c.w * l->c.c;
  for (int64_t k = 0; k < n; k++) {
    int64_t i = l->order ? l->order[first + k] : first + k;
    s->index[k] = i;
    s->y[k] = l->c.labels[i];
    make_sample(l, i, s->x + k * elements);
  }
}

/* ---- workers ---- */

static void *worker(void *loader) {
  ms_loader *l = loader;
  pthread_mutex_lock(&l->lock);
  for (;;) {
    while (!l->closing && !(l->armed && l->ticket < l->batches && l->ticket < l->at + l->nslots))
      pthread_cond_wait(&l->work, &l->lock);
    if (l->closing)
      break;
    int64_t b = l->ticket++;
    slot *s = &l->slots[b % l->nslots];
    l->busy++;
    pthread_mutex_unlock(&l->lock);
    make_batch(l, b, s);
    pthread_mutex_lock(&l->lock);
    l->busy--;
    s->made = b + 1;
    pthread_cond_signal(&l->ready);
  }
  pthread_mutex_unlock(&l->lock);
  return NULL;
}

/* Workers run with every signal blocked, so that an interrupt reaches the thread of the prompt. */
static ms_status start_workers(ms_loader *l, ms_error *err) {
  sigset_t all, before;
  int code = 0;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (l->nthreads < l->c.workers && !code) {
    code = pthread_create(&l->threads[l->nthreads], NULL, worker, l);
    l->nthreads += !code;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
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

/* Draws the epoch's order and lets the workers go. */
static void arm(ms_loader *l) {
  char epoch[24];
  snprintf(epoch, sizeof epoch, "%lld", (long long)l->epoch);
  l->augment_key = ms_rng_key(l->c.seed, "augment", epoch);
  uint64_t key = ms_rng_key(l->c.seed, "shuffle", epoch);
  for (int64_t i = 0; l->order && i < l->c.n; i++) /* Fisher-Yates, inside out */
  {
    ms_philox4 r = ms_philox_block(key, (uint64_t)i, 0);
    int64_t j = ms_random_int(r.w[0], r.w[1], 0, (uint64_t)i + 1);
    l->order[i] = l->order[j];
    l->order[j] = i;
  }
  pthread_mutex_lock(&l->lock);
  for (int i = 0; i < l->nslots; i++)
    l->slots[i].made = 0;
  l->ticket = l->at;
  l->armed = 1;
  pthread_cond_broadcast(&l->work);
  pthread_mutex_unlock(&l->lock);
}

/* ---- life ---- */

static ms_status check(const ms_loader_config *c, ms_error *err) {
  int64_t bytes = 0, batch = c->batch_size < c->n ? c->batch_size : c->n;
  if (c->dtype != MS_U8 && c->dtype != MS_F32)
    return ms_fail(err, MS_ETYPE, "loader: images: expected uint8 or float32, got %s", ms_dtype_name(c->dtype));
  if (c->n < 0 || c->h < 1 || c->w < 1 || c->c < 1)
    return ms_fail(err, MS_ESHAPE, "loader: images: expected [n, h, w, c] with h, w, c > 0, got %s",
                   ms_shape_text(4, (int64_t[]){c->n, c->h, c->w, c->c}).s);
  if (c->batch_size < 1)
    return ms_fail(err, MS_ERANGE, "loader: batch_size: expected at least 1, got %lld", (long long)c->batch_size);
  if (c->workers < 0 || c->workers > MS_LOADER_MAX_WORKERS)
    return ms_fail(err, MS_ERANGE, "loader: workers: expected 0 to %d, got %d", MS_LOADER_MAX_WORKERS, c->workers);
  if (c->prefetch < (c->workers > 0) || c->prefetch > 65536)
    return ms_fail(err, MS_ERANGE, "loader: prefetch: expected %d to 65536, got %d", c->workers > 0, c->prefetch);
  if (c->crop_padding < 0 || c->crop_padding >= 1 << 24)
    return ms_fail(err, MS_ERANGE, "loader: crop_padding: expected 0 to 2^24 - 1, got %d", c->crop_padding);
  for (int64_t k = 0; k < c->c; k++) {
    if (c->mean && !(fabs((double)c->mean[k]) <= MS_REAL_MAX))
      return ms_fail(err, MS_ERANGE, "loader: mean: expected finite numbers, got %g", (double)c->mean[k]);
    if (c->std && !((double)c->std[k] > 0 && (double)c->std[k] <= MS_REAL_MAX))
      return ms_fail(err, MS_ERANGE, "loader: std: expected positive numbers, got %g", (double)c->std[k]);
  }
  /* 256: the table of bytes also fits */
  if (__builtin_mul_overflow(c->h, c->w, &bytes) || __builtin_mul_overflow(bytes, c->c, &bytes) ||
      __builtin_mul_overflow(bytes, (int64_t)256, &bytes) || __builtin_mul_overflow(bytes, batch + 1, &bytes) ||
      __builtin_mul_overflow(bytes, (int64_t)sizeof(ms_real) * (c->prefetch + 1), &bytes))
    return ms_fail(err, MS_ERANGE, "loader: batch_size: %lld batches of %lld images are too large",
                   (long long)c->prefetch + 1, (long long)batch);
  return MS_OK;
}

static int allocate(ms_loader *l) {
  size_t channels = (size_t)l->c.c, n = (size_t)(l->c.batch_size < l->c.n ? l->c.batch_size : l->c.n);
  size_t elements = (size_t)(l->c.h * l->c.w * l->c.c);
  l->stats = ms_alloc(2 * channels * sizeof *l->stats);
  l->pad = ms_alloc(channels * sizeof *l->pad);
  l->table = ms_alloc(256 * channels * sizeof *l->table);
  l->slots = ms_alloc((size_t)l->nslots * sizeof *l->slots);
  l->threads = ms_alloc((size_t)(l->c.workers + 1) * sizeof *l->threads);
  if (l->c.shuffle)
    l->order = ms_alloc((size_t)(l->c.n + 1) * sizeof *l->order);
  if (!l->stats || !l->pad || !l->table || !l->slots || !l->threads || (l->c.shuffle && !l->order))
    return 0;
  for (int i = 0; i < l->nslots; i++) {
    slot *s = &l->slots[i];
    s->x = ms_alloc((n * elements + 1) * sizeof *s->x);
    s->y = ms_alloc((n + 1) * sizeof *s->y);
    s->index = ms_alloc((n + 1) * sizeof *s->index);
    if (!s->x || !s->y || !s->index)
      return 0;
  }
  return 1;
}

static void fill_tables(ms_loader *l, const ms_loader_config *config) {
  ms_real *mean = l->stats, *std = l->stats + l->c.c;
  for (int64_t k = 0; k < l->c.c; k++) {
    mean[k] = config->mean ? config->mean[k] : 0;
    std[k] = config->std ? config->std[k] : 1;
    l->pad[k] = (0 - mean[k]) / std[k];
    for (int b = 0; b < 256; b++)
      l->table[k * 256 + b] = ((ms_real)b / 255 - mean[k]) / std[k];
  }
  l->c.mean = mean;
  l->c.std = std;
}

ms_status ms_loader_new(ms_loader **out, const ms_loader_config *config, ms_error *err) {
  *out = NULL;
  ms_status status = check(config, err);
  if (status)
    return status;
  ms_loader *l = ms_alloc(sizeof *l);
  if (!l)
    return ms_fail(err, MS_EMEM, "loader: out of memory");
  pthread_mutex_init(&l->lock, NULL);
  pthread_cond_init(&l->work, NULL);
  pthread_cond_init(&l->ready, NULL);
  l->c = *config;
  l->nslots = config->workers > 0 ? config->prefetch + 1 : 1; /* one is with the caller */
  l->batches = config->n / config->batch_size + (!config->drop_last && config->n % config->batch_size);
  l->epoch = 1;
  if (allocate(l)) {
    fill_tables(l, config);
    status = start_workers(l, err);
  } else {
    status = ms_fail(err, MS_EMEM, "loader: out of memory for %d batches of %lld images", l->nslots,
                     (long long)config->batch_size);
  }
  if (status)
    ms_loader_close(l);
  else
    *out = l;
  return status;
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
  for (int i = 0; l->slots && i < l->nslots; i++) {
    ms_free(l->slots[i].x);
    ms_free(l->slots[i].y);
    ms_free(l->slots[i].index);
  }
  ms_free(l->slots);
  ms_free(l->threads);
  ms_free(l->order);
  ms_free(l->table);
  ms_free(l->pad);
  ms_free(l->stats);
  ms_free(l);
}

/* ---- the caller's side ---- */

ms_status ms_loader_peek(ms_loader *l, ms_batch *out, ms_error *err) {
  *out = (ms_batch){0};
  ms_status status = ms_interrupt_check(err);
  if (status)
    return status;
  l->peeked = 1;
  if (l->at == l->batches)
    return MS_OK;
  if (!l->armed)
    arm(l);
  slot *s = &l->slots[l->at % l->nslots];
  if (l->nthreads == 0 && s->made != l->at + 1) {
    make_batch(l, l->at, s);
    s->made = l->at + 1;
  }
  pthread_mutex_lock(&l->lock);
  while (s->made != l->at + 1)
    pthread_cond_wait(&l->ready, &l->lock);
  pthread_mutex_unlock(&l->lock);
  *out = (ms_batch){.n = batch_count(l, l->at), .x = s->x, .y = s->y, .index = s->index};
  return MS_OK;
}

void ms_loader_pop(ms_loader *l) {
  if (!l->peeked)
    return;
  if (l->at == l->batches) {
    disarm(l);
    l->epoch++;
    l->at = 0;
    return;
  }
  l->peeked = 0;
  pthread_mutex_lock(&l->lock);
  l->at++;
  pthread_cond_signal(&l->work);
  pthread_mutex_unlock(&l->lock);
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
