/* Images as tensors [..., channels, height, width]: files in and out, resizing. On the main thread. */
#ifndef MS_IMAGE_TENSOR_H
#define MS_IMAGE_TENSOR_H

#include "../tensor.h"
#include "image.h"
#include "resize.h"

/* uint8 [3, h, w], or [1, h, w] of grey, on the CPU. */
ms_status ms_image_read(ms_tensor **out, const char *path, const ms_image_options *opt, ms_policy policy,
                        ms_error *err);
/* A PNG file of uint8, or of floats from 0 to 1 (clipped), [h, w], [1, h, w] or [3, h, w]. */
ms_status ms_image_write(const char *path, ms_tensor *t, ms_error *err);
/* uint8 or float32 [..., h, w] on any device; where opt->alpha is set [..., 2, h, w]. The result lies where t does. */
ms_status ms_resize_tensor(ms_tensor **out, ms_tensor *t, const ms_resize_options *opt, ms_error *err);

#endif
