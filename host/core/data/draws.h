/* One key serves all that an epoch draws for a sample. Each drawer has planes of (key, sample) of its own, so that no draw
** says anything of another. */
#ifndef MS_DRAWS_H
#define MS_DRAWS_H

#include "../../../kernels/math/philox.h"

enum {
  MS_PLANES_RECIPE = 0,           /* augment.c, 4096 of them */
  MS_PLANES_CROP = 1 << 13,       /* geometry.c, one for each attempt */
  MS_PLANES_EVENTS = 1 << 14,     /* event_augment.c */
  MS_PLANES_RANDAUGMENT = 1 << 16 /* randaugment.c, two for each op */
};

#endif
