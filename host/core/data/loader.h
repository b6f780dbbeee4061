/* Mini-batches of images, prepared ahead of the training loop by worker threads. Workers touch raw memory only: never
** tensors, Lua or the heap. What a batch holds depends on (seed, epoch, batch) alone, not on the number of workers. */
#ifndef MS_LOADER_H
#define MS_LOADER_H

#include "../tensor.h"

typedef struct ms_loader_config {
  const void *images; /* [n, h, w, c], uint8 (scaled to [0, 1]) or real; borrowed, unchanged while the loader lives */
  ms_dtype dtype;     /* MS_U8 or MS_F32 */
  int64_t n, h, w, c;
  const int64_t *labels; /* [n], borrowed */
  int64_t batch_size;
  int shuffle, drop_last;
  uint64_t seed;
  int workers;               /* 0: batches are made by the caller's thread */
  int prefetch;              /* batches made ahead */
  const ms_real *mean, *std; /* [c] or NULL: 0 and 1; copied */
  int crop_padding; /* p: zero-pad by p on each side (before the normalisation), cut h x w at random; 0: none */
  int flip;         /* mirror left to right with probability 1/2 */
} ms_loader_config;

typedef struct ms_batch {
  int64_t n;            /* samples; 0 at the end of the epoch */
  const ms_real *x;     /* [n, h, w, c] */
  const int64_t *y;     /* [n] */
  const int64_t *index; /* [n] which samples these are */
} ms_batch;

typedef struct ms_loader ms_loader;

#define MS_LOADER_MAX_WORKERS 256

/* Stands before batch 0 of epoch 1. */
ms_status ms_loader_new(ms_loader **out, const ms_loader_config *config, ms_error *err);
void ms_loader_close(ms_loader *l); /* stops and joins the workers; NULL is fine */

/* The next batch, waiting for it where it must; valid until the next pop, start or close. The position stays. */
ms_status ms_loader_peek(ms_loader *l, ms_batch *out, ms_error *err);
/* Moves behind the batch that peek gave; behind the end of an epoch, to the start of the next. */
void ms_loader_pop(ms_loader *l);

int64_t ms_loader_batches(const ms_loader *l); /* of an epoch */
/* batch: how many of the epoch were handed out, 0 to batches. */
void ms_loader_position(const ms_loader *l, int64_t *epoch, int64_t *batch);
ms_status ms_loader_start(ms_loader *l, int64_t epoch, int64_t batch, ms_error *err);

#endif
