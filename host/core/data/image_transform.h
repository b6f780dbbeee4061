/* From the bytes of an image file to the [size, size, 3 or 1] bytes that a network is given. Only the pixels that are
** needed are decoded; the result is that of decoding everything, cutting, resizing. */
#ifndef MS_IMAGE_TRANSFORM_H
#define MS_IMAGE_TRANSFORM_H

#include "image.h"
#include "resize.h"

typedef struct ms_image_recipe {
  int random;                /* training: a random resized crop; else the short side to `shorter`, the centre cut out */
  int64_t size, shorter;     /* 224, 256; size <= shorter */
  double scale[2], ratio[2]; /* of the random crop: {0.08, 1}, {3/4, 4/3} */
  ms_filter filter;          /* MS_FILTER_BILINEAR or MS_FILTER_BICUBIC */
  ms_image_options decode;
} ms_image_recipe;

/* One for each thread; {0} is ready. */
typedef struct ms_image_scratch {
  ms_resizer resizer;
  ms_picture part;
} ms_image_scratch;

ms_image_recipe ms_image_recipe_train(int64_t size);                 /* torchvision's defaults */
ms_image_recipe ms_image_recipe_test(int64_t shorter, int64_t size); /* likewise */
ms_status ms_image_recipe_check(const ms_image_recipe *recipe, const char *op, ms_error *err);

/* out: [1, size, size, 3 or, of grey, 1]. What is drawn depends on (key, sample) alone. The recipe was checked. */
ms_status ms_image_transform(ms_image_scratch *s, ms_picture *out, const ms_input *in, const ms_image_recipe *recipe,
                             uint64_t key, uint64_t sample, ms_error *err);
void ms_image_scratch_free(ms_image_scratch *s);

#endif
