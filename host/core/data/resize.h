/* Resizing of pictures, all frames alike. Bytes come out as Pillow before version 13 makes them, bit for bit (13
** does the height first where it shrinks much more); reals as PyTorch does, up to rounding. */
#ifndef MS_RESIZE_H
#define MS_RESIZE_H

#include "geometry.h"
#include "picture.h"

typedef enum ms_filter {
  MS_FILTER_BILINEAR,
  MS_FILTER_BICUBIC,
  MS_FILTER_NEAREST, /* pixel floor(i * in / out), in float as in PyTorch */
  MS_FILTER_BIN      /* sums of the pixels x with floor(x * out / in) = i: no count is lost. The result is real */
} ms_filter;

typedef struct ms_resize_options {
  ms_filter filter;
  int64_t w, h;  /* of the whole result */
  ms_box window; /* the part of the result that is made; w = 0: all of it */
  double box[4]; /* left, top, right, bottom: the part of the image that is spread over the result, while its neighbours
                    still weigh in at the edges (Pillow's resize(box=...)); all 0: everything */
  int alpha;     /* two channels of bytes are Pillow's mode LA: the second weighs the first */
  int plain;     /* reals: interpolation between 2 (4) neighbours also when shrinking (PyTorch's antialias=False) */
} ms_resize_options;

/* The weights along one direction, kept while nothing changes. */
typedef struct ms_resize_axis {
  int64_t in, out, first, count; /* outputs [first, first + count) of `out` */
  double from, to;
  int rule;
  int64_t taps; /* most weights of an output */
  int identity;
  ms_buffer memory;
  int64_t *lo, *n; /* [count] output i reads inputs [lo, lo + n) */
  int32_t *fixed;  /* [count, taps] times 2^22 */
  ms_real *real;
} ms_resize_axis;

/* Plans and scratch memory of one thread; {0} is ready. */
typedef struct ms_resizer {
  ms_resize_axis across, down;
  ms_buffer lanes, middle, premultiplied;
} ms_resizer;

/* crop: which part of the picture is the image, its surroundings are never read; NULL: all. Where the picture holds
** the pixels from (x, y) of a w by h image only, crop is {-x, -y, w, h}, and what lies outside must not be needed.
** out must be another picture; bytes stay bytes except for MS_FILTER_BIN. */
ms_status ms_resize(ms_resizer *r, ms_picture *out, const ms_picture *in, const ms_box *crop,
                    const ms_resize_options *opt, const char *op, ms_error *err);
/* The pixels of a w by h image that ms_resize will read. */
ms_status ms_resize_reads(ms_resizer *r, int64_t w, int64_t h, const ms_resize_options *opt, ms_box *reads,
                          const char *op, ms_error *err);
void ms_resizer_free(ms_resizer *r);

#endif
