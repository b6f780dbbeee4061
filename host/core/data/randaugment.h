/* RandAugment (Cubuk et al. 2020) as timm has it ("rand-m6-n2-mstd0.5" and the like): which ops (kernels/math/photo.h) an image
** gets. Each gives the bytes that Pillow gives; only the random numbers are other ones. Usable in any thread. */
#ifndef MS_RANDAUGMENT_H
#define MS_RANDAUGMENT_H

#include "../error.h"

#define MS_RANDAUGMENT_OPS 100

/* How rotations, shears and translations sample; what they do not reach is filled. */
typedef enum ms_photo_filter { MS_PHOTO_BILINEAR, MS_PHOTO_BICUBIC, MS_PHOTO_EITHER } ms_photo_filter;

typedef struct ms_rand_augment {
  int n;                  /* ops for each image, drawn with replacement */
  double magnitude;       /* m, 0 to 10 */
  double std;             /* of the magnitude, which is drawn for each op and clipped to [0, 10] */
  double p;               /* of doing an op that was drawn; timm: 0.5 */
  int increasing;         /* timm's "inc1": posterize, solarize and enhancements do more at greater magnitudes */
  ms_photo_filter filter; /* EITHER: drawn for each op, timm's default */
  uint8_t fill[3];        /* timm: the mean of the data set times 255, else 128 */
} ms_rand_augment;

/* Fields that make no sense: MS_ERANGE. */
ms_status ms_rand_augment_check(const ms_rand_augment *r, const char *op, ms_error *err);

/* The n ops of an image of h x w, from planes (draws.h) of (key, sample). */
void ms_rand_augment_draw(ms_photo_op *out, const ms_rand_augment *r, int64_t h, int64_t w, uint64_t key,
                          uint64_t sample);

/* One op on an image of h x w. value: degrees, bits to keep, threshold, what is added, factor, slope, share of the side;
** filter: one of the first two. */
ms_photo_op ms_photo_op_of(ms_photo kind, double value, ms_photo_filter filter, int64_t h, int64_t w);

#endif
