/* What is drawn for a sample before it is moved (augment.h): a random resized crop, RandAugment. Usable in any thread. */
#ifndef MS_DATA_PHOTOS_H
#define MS_DATA_PHOTOS_H

#include "randaugment.h"

typedef struct ms_photo_recipe { /* {0}: nothing */
  int crop;                      /* a random resized crop */
  int64_t h, w;                  /* its size; 0: that of the samples */
  double scale[2], ratio[2];     /* as of ms_box_random */
  int cubic;                     /* else bilinear */
  ms_rand_augment rand;          /* n = 0: none */
} ms_photo_recipe;

static inline int ms_photo_wanted(const ms_photo_recipe *r) {
  return r->crop || r->rand.n > 0;
}

/* Fields that make no sense: MS_ERANGE. */
ms_status ms_photo_check(const ms_photo_recipe *r, ms_error *err);

/* Can samples of a->h x a->w x a->c and the type of a->x go through it? Then a gets to_h, to_w, cubic, nops and fill.
** MS_ETYPE, MS_ESHAPE, MS_ERANGE: they cannot. */
ms_status ms_photo_plan(ms_photos_args *a, const ms_photo_recipe *r, const char *op, ms_error *err);

/* What one sample gets, the same in all of its frames: a box (where r->crop), r->rand.n ops. The samples fit. Draws come from
** planes (draws.h) of (key, sample). */
void ms_photo_draw(ms_photo_box *box, ms_photo_op *ops, const ms_photo_recipe *r, int64_t h, int64_t w, uint64_t key,
                   uint64_t sample);

#endif
