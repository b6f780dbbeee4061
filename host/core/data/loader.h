/* Mini-batches, prepared ahead of the training loop by worker threads. Workers touch raw memory only: never tensors, Lua or
** ms_alloc. What a batch holds depends on (seed, epoch, batch) alone, not on the number of workers. */
#ifndef MS_LOADER_H
#define MS_LOADER_H

#include "../tensor.h"
#include "augment.h"
#include "photos.h"
#include "source.h"

typedef struct ms_loader_config {
  const ms_source *source; /* borrowed */
  const int64_t *members;  /* [n] samples of the source; copied. NULL: all of them, n is not looked at */
  int64_t n;
  int64_t batch_size;
  int shuffle, drop_last;
  int balanced;    /* every class is as likely, samples are drawn with replacement; shuffle is not looked at */
  int64_t classes; /* where balanced: labels are below */
  int plain;       /* the source makes no random choices */
  uint64_t seed;
  int workers;                     /* 0: batches are made by the caller's thread */
  int prefetch;                    /* batches made ahead */
  const ms_real *mean, *std;       /* [c] or NULL: 0 and 1; copied. Bytes are divided by `scale` first */
  ms_real scale;                   /* 255 for images, 1 for counts */
  const ms_photo_recipe *photo;    /* of augmentation, before the normalisation: what is done first, */
  const ms_augment_recipe *recipe; /* and how samples are moved then. Borrowed. NULL: not at all */
  ms_device *device;               /* batches lie in memory that it copies from without waiting; NULL: anywhere */
} ms_loader_config;

typedef struct ms_batch {
  int64_t n;            /* samples; 0 at the end of the epoch */
  int64_t h, w;         /* of its images: those of the source, or what `photo` makes of them */
  const ms_real *x;     /* [t, n, h, w, c] */
  const int64_t *y;     /* [n] */
  const int64_t *index; /* [n] which samples of the source these are */
} ms_batch;

typedef struct ms_loader ms_loader;

#define MS_LOADER_MAX_WORKERS 256

/* Stands before batch 0 of epoch 1. */
ms_status ms_loader_new(ms_loader **out, const ms_loader_config *config, ms_error *err);
void ms_loader_close(ms_loader *l); /* stops and joins the workers; NULL is fine */

/* The next batch, waiting for it where it must; valid until the next pop, start or close. The position stays, also when
** a sample of the batch cannot be read. */
ms_status ms_loader_peek(ms_loader *l, ms_batch *out, ms_error *err);
/* x of the batch that peek gave, as a tensor [t, n, c, h, w] that is the caller's, without a copy; the loader takes other
** memory from then on, so that pop must follow. NULL: not for this batch (one on its way to a device, a smaller last one). */
ms_status ms_loader_take(ms_loader *l, ms_tensor **out, ms_error *err);
/* Moves behind the batch that peek gave; behind the end of an epoch, to the start of the next. copying (may be NULL): the
** device in whose stream copies of the batch stand; its memory is used again only when they are done. */
ms_status ms_loader_pop(ms_loader *l, ms_device *copying, ms_error *err);

int64_t ms_loader_batches(const ms_loader *l); /* of an epoch */
/* batch: how many of the epoch were handed out, 0 to batches. */
void ms_loader_position(const ms_loader *l, int64_t *epoch, int64_t *batch);
ms_status ms_loader_start(ms_loader *l, int64_t epoch, int64_t batch, ms_error *err);
/* Repairs of lenient readers so far, in samples that were handed out or made ahead. */
void ms_loader_repairs(ms_loader *l, ms_repairs *out);

#endif
