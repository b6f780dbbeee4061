/* Dense convolution by products of bfloat16: what its files share.
**
** Two engines come of it. "bf16" multiplies bfloat16 operands (autocast). "bf16x3" multiplies float32 ones on machines
** with AMX: a float32 value is the sum of three bfloat16 parts of 8 bits each, exactly; of the nine products of parts
** the six that are not below the rounding of float32 are summed. Spikes are one part, so they need three products.
** Parts below the normal range of float32 count as zero.
**
** Images are laid out as planes with zeros between them: above each image lie `top` lines of zeros, and left of each
** line `left` zeros, which serve as the padding of both neighbours. What a tap of the kernel reads then lies at a fixed
** distance from an output's position, and a convolution is a plain product over all positions, those of the zeros
** included, whose results are dropped. With strides each phase of the strided axis is a plane of its own. */
#ifndef MS_CONV_BF16_H
#define MS_CONV_BF16_H

#include "bf16_tile.h"
#include "conv.h"

extern const ms_conv_engine ms_conv_bf16, ms_conv_bf16x3;

typedef struct ms_planes {
  int64_t lines, cols, top, left, pitch; /* pitch: positions of a line, left + cols */
} ms_planes;

MS_HD int64_t ms_plane_first(const ms_planes *p) { /* position of pixel (0, 0) of image 0 */
  return p->top * p->pitch + p->left;
}

MS_HD int64_t ms_plane_image(const ms_planes *p) {
  return (p->lines + p->top) * p->pitch;
}

/* Positions of so many images, and of a block that reads past the last. */
MS_HD int64_t ms_plane_size(const ms_planes *p, int64_t images) {
  return images * ms_plane_image(p) + ms_plane_first(p) + p->pitch + 2 * MS_BF16_BLOCK;
}

/* The pixel at a position; image, y or x is out of range where there is none. */
typedef struct ms_pixel {
  int64_t image, y, x;
} ms_pixel;

MS_HD ms_pixel ms_plane_pixel(const ms_planes *p, int64_t position) {
  int64_t line = position / p->pitch, lines = p->lines + p->top;
  return (ms_pixel){line / lines, line % lines - p->top, position % p->pitch - p->left};
}

MS_HD int64_t ms_bf16_round(int64_t n) {
  return ms_ceil_div(n, MS_BF16_BLOCK) * MS_BF16_BLOCK;
}

/* A tap (ky, kx) of the kernel reads plane `plane` at distance `offset`. */
typedef struct ms_tap {
  int64_t plane, offset, ky, kx;
} ms_tap;

enum { MS_MOST_TAPS = 64, MS_PARTS = 3, MS_MOST_PAIRS = 6 };

/* Places and taps of the inputs as the forward pass (and the weight gradient) reads them. */
ms_planes ms_input_planes(const ms_conv_desc *d, ms_tap *taps);

/* Parts of an operand of this type at this precision. */
MS_HD int ms_bf16_parts(ms_dtype precision, ms_dtype type) {
  return precision == MS_F32 && type == MS_F32 ? MS_PARTS : 1;
}

/* Which parts of a and b are multiplied, small products first; returns how many. */
int ms_bf16_pairs(int a, int b, uint8_t pair[MS_MOST_PAIRS][2]);

/* n elements of x from `at` on, part p at to + p * pitch. Spikes and bytes come without their scale. */
void ms_bf16_split(ms_bf16 *to, int64_t pitch, int parts, ms_data x, int64_t at, int64_t n);

/* What a result of spikes is multiplied by. */
MS_HD ms_real ms_bf16_scale(ms_data x) {
  return x.dtype == MS_SPIKE || x.dtype == MS_BITS ? x.scale : MS_R(1);
}

/* conv_bf16_grad.c */
size_t ms_bf16_weight_grad_workspace(const ms_conv_desc *d);
ms_status ms_bf16_weight_grad(const ms_conv_desc *d, const ms_conv_args *a);

#endif
