/* What image.c and the two codecs share. */
#ifndef MS_IMAGE_CODEC_H
#define MS_IMAGE_CODEC_H

#include "image.h"

/* One image on its way: limits checked, then rows, then what is left of a damaged one. */
typedef struct ms_image_job {
  ms_picture *out;
  const ms_input *in;
  const ms_box *box; /* NULL: all */
  int grey;
  int64_t max_pixels;
  ms_box part; /* what is decoded; set by ms_image_begin */
} ms_image_job;

/* Checks the size against the limit, the box, and the file: `most` pixels can lie in one byte of it. Shapes the
** picture, filled with zeros. */
ms_status ms_image_begin(ms_image_job *job, int64_t w, int64_t h, int64_t most, ms_error *err);
/* Row y of the part, from RGB or from grey pixels. */
void ms_image_put_rgb(const ms_image_job *job, int64_t y, const uint8_t *rgb);
void ms_image_put_grey(const ms_image_job *job, int64_t y, const uint8_t *grey);

ms_status ms_jpeg_size(int64_t *w, int64_t *h, const ms_input *in, ms_error *err);
ms_status ms_jpeg_decode(ms_image_job *job, ms_error *err);
ms_status ms_png_size(int64_t *w, int64_t *h, const ms_input *in, ms_error *err);
ms_status ms_png_decode(ms_image_job *job, ms_error *err);

#endif
