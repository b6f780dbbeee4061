/* Between tensors of images, [..., channels, height, width], and pictures, whose channels lie beside each other. On the
** main thread. */
#ifndef MS_PLANES_H
#define MS_PLANES_H

#include "../tensor.h"
#include "picture.h"

/* A copy of a uint8 or float32 tensor [..., h, w] on any device. interleave: [..., c, h, w] as frames of c channels, else
** every plane is a frame of one. */
ms_status ms_picture_of_tensor(ms_picture *out, ms_tensor *t, int interleave, const char *op, ms_error *err);
/* The way back, on the CPU; the leading sizes are those of `size`, its last two give way to the picture's. */
ms_status ms_tensor_of_picture(ms_tensor **out, const ms_picture *p, int ndim, const int64_t *size, const char *op,
                               ms_error *err);

#endif
