/* The loops of resizing bytes, for resize.c. Across, the pixels of several rows are weighed together: `lanes` holds 16
** bytes for each column, those of 16 rows of 1 channel, 8 of 2 or 4 of 3 or 4. */
#ifndef MS_RESIZE_ROWS_H
#define MS_RESIZE_ROWS_H

#include "resize_axis.h"

enum { MS_LANES = 16 };

/* lanes[x][row * wide + channel] = in[row][x][channel]: `take` channels of pixels that lie `pixel` bytes apart, wide =
** take, or 4 for 3. */
void ms_lanes_gather(uint8_t *lanes, const uint8_t *in, int64_t stride, int64_t rows, int64_t width, int64_t pixel,
                     int64_t take, int64_t wide);
void ms_lanes_scatter(uint8_t *out, const uint8_t *lanes, int64_t stride, int64_t rows, int64_t width, int64_t pixel,
                      int64_t take, int64_t wide);
/* out[i] = sum of in[lo_i - base + j] * k_ij, rounded and clipped as in Pillow */
void ms_lanes_weigh(uint8_t *out, const uint8_t *in, const ms_resize_axis *a, int64_t base);
/* out[x] = sum over n rows of in[row][x] * k, likewise */
void ms_rows_weigh(uint8_t *out, const uint8_t *in, int64_t width, const int32_t *k, int64_t n);

#endif
