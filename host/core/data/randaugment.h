/* RandAugment (Cubuk et al. 2020) as timm has it ("rand-m6-n2-mstd0.5" and the like), on a still image of bytes with one
** or three channels. Each op gives the bytes that Pillow gives; only the random numbers are other ones. Usable in any
** thread. */
#ifndef MS_RANDAUGMENT_H
#define MS_RANDAUGMENT_H

#include "picture.h"

typedef enum ms_photo {
#define MS_PHOTO(name) MS_PHOTO_##name,
#include "randaugment.def"
#undef MS_PHOTO
  MS_PHOTO_KINDS
} ms_photo;

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

/* Draws from planes (draws.h) of (key, sample). spare is memory that is kept from call to call; p and spare may change
** places. MS_ESHAPE where p is not one frame of bytes with one or three channels. */
ms_status ms_rand_augment_apply(ms_picture *p, ms_picture *spare, const ms_rand_augment *r, uint64_t key,
                                uint64_t sample, const char *op, ms_error *err);

/* ---- randaugment_ops.c: one op ---- */

/* `to` becomes `from` after the op. value: degrees, bits to keep, threshold, what is added, factor, slope, share of the
** side; filter is one of the first two. */
ms_status ms_photo_apply(ms_picture *to, const ms_picture *from, ms_photo kind, double value, ms_photo_filter filter,
                         const uint8_t fill[3], const char *op, ms_error *err);

#endif
