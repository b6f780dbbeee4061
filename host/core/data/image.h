/* Still images, JPEG by libjpeg-turbo and PNG by libpng, told apart by their first bytes. Pixels come out as those
** of Pillow's Image.open(...).convert("RGB") (or "L"): orientation tags, colour profiles and transparency change
** nothing, CMYK is converted as there; of 16 bits the upper 8 are taken, but grey of 16 bits ends at 255, as there.
**
** Strict: what the libraries warn of is an error. Lenient: decoded as far as it goes, zeros behind, and counted.
** Oracle: as Pillow, which takes damaged pixels but no file that ends too early (of PNG files it also takes those
** whose checksums of the pixels are wrong; here they are refused). Where a box is asked for, damage below it is not
** seen. */
#ifndef MS_IMAGE_H
#define MS_IMAGE_H

#include "geometry.h"
#include "input.h"
#include "picture.h"

#define MS_IMAGE_PIXELS 178956970 /* Pillow's limit against decompression bombs */

typedef struct ms_image_options {
  int grey;           /* one channel */
  int64_t max_pixels; /* 0: MS_IMAGE_PIXELS */
} ms_image_options;

/* From the header alone. */
ms_status ms_image_size(int64_t *w, int64_t *h, const ms_input *in, ms_error *err);

/* [1, h, w, 3 or 1] bytes; of a box only its pixels, the same ones as in the whole image. After a failure out->t = 0.
** opt NULL: the defaults. */
ms_status ms_image_decode(ms_picture *out, const ms_input *in, const ms_box *box, const ms_image_options *opt,
                          ms_error *err);

/* A PNG file of a picture of bytes with t = 1 and 1 or 3 channels. */
ms_status ms_image_encode_png(ms_buffer *out, const ms_picture *picture, const char *op, ms_error *err);

/* Versions of the libraries, "none" where there was none at build time. */
const char *ms_image_jpeg_version(void);
const char *ms_image_png_version(void);

#endif
