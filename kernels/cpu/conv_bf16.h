/* What the passes of the bfloat16 engine share: images laid out as planes with zeros between them.
**
** A plane holds `images` images of lines x cols positions. Above each image lie `top` lines of zeros, and left of each
** line `left` zeros, which serve as the padding of both neighbours; so position (image, y, x) is
** ((image * (lines + top) + top + y) * pitch + left + x), and what a tap of the kernel reads lies at a fixed distance
** from it. A convolution is then a plain product over all positions, those of the zeros included, whose results are
** dropped. With strides each phase of the strided axis is a plane of its own. */
#ifndef MS_CONV_BF16_H
#define MS_CONV_BF16_H

#include "bf16_tile.h"
#include "conv.h"

typedef struct ms_planes {
  int64_t lines, cols, top, left, pitch; /* pitch: positions of a line, left + cols */
} ms_planes;

MS_HD int64_t ms_plane_first(const ms_planes *p) { /* position (0, 0, 0) */
  return p->top * p->pitch + p->left;
}

MS_HD int64_t ms_plane_image(const ms_planes *p) {
  return (p->lines + p->top) * p->pitch;
}

/* Positions of so many images, and of a block that reads past the last. */
MS_HD int64_t ms_plane_size(const ms_planes *p, int64_t images) {
  return images * ms_plane_image(p) + ms_plane_first(p) + p->pitch + 2 * MS_BF16_BLOCK;
}

MS_HD int64_t ms_bf16_round(int64_t n) {
  return ms_ceil_div(n, MS_BF16_BLOCK) * MS_BF16_BLOCK;
}

/* A tap: reads plane `plane` at distance `offset`; (ky, kx) of the kernel. */
typedef struct ms_tap {
  int64_t plane, offset, ky, kx;
} ms_tap;

enum { MS_MOST_TAPS = 128 };

/* Places and taps of the inputs as the forward pass (and the weight gradient) reads them. */
ms_planes ms_input_planes(const ms_conv_desc *d, ms_tap *taps);

/* Eight bits as eight bfloat16 values: `one` or 0. */
typedef uint16_t ms_bf16_eight __attribute__((vector_size(16), aligned(2), may_alias));

MS_HD ms_bf16_eight ms_bf16_bits(uint8_t bits, uint16_t one) {
  const ms_bf16_eight place = {1, 2, 4, 8, 16, 32, 64, 128};
  ms_bf16_eight b = {bits, bits, bits, bits, bits, bits, bits, bits};
  return (ms_bf16_eight)((b & place) != 0) & one;
}

/* bfloat16 values of n elements of x from `at` on. */
void ms_bf16_convert(ms_bf16 *to, ms_data x, int64_t at, int64_t n);

/* conv_bf16.c */
extern const ms_conv_engine ms_conv_bf16;

/* conv_bf16_grad.c */
size_t ms_bf16_weight_grad_workspace(const ms_conv_desc *d);
ms_status ms_bf16_weight_grad(const ms_conv_desc *d, const ms_conv_args *a);

#endif
