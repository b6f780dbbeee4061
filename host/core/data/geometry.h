/* Which part of an image a transformation takes. Nothing here touches pixels; what is drawn depends on (key, sample)
** alone. */
#ifndef MS_GEOMETRY_H
#define MS_GEOMETRY_H

#include "../error.h"

typedef struct ms_box { /* columns [x, x + w), rows [y, y + h) */
  int64_t x, y, w, h;
} ms_box;

/* torchvision's RandomResizedCrop: an area of scale[0] to scale[1] of the image, uniformly, with a ratio of width to
** height between ratio[0] and ratio[1], uniformly in its logarithm; where ten draws do not fit, the largest centred
** box within the ratios. w, h > 0; scale and ratio were checked. */
ms_box ms_box_random(uint64_t key, uint64_t sample, int64_t w, int64_t h, const double scale[2], const double ratio[2]);
ms_status ms_box_check(const double scale[2], const double ratio[2], const char *op, ms_error *err);

/* torchvision's Resize(size): the short side becomes size, the long one is cut to an integer (500 x 375, 256: 341 x
** 256). */
void ms_short_side(int64_t w, int64_t h, int64_t size, int64_t *to_w, int64_t *to_h);

/* torchvision's CenterCrop, w and h at most those of the image: halves of a pixel go to the even one. */
ms_box ms_box_centre(int64_t image_w, int64_t image_h, int64_t w, int64_t h);

#endif
