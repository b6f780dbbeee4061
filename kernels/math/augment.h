/* Geometric augmentation: a program of a few steps for one sample, the same for each of its frames and channels. Steps are
** in the order in which an image goes through them, and each gives an image of the same h x w, zero where it has nothing
** to show; so what left the image in one step does not come back in a later one. A device walks them from the last to the
** first, from an output pixel to the input pixel that it shows.
**
** Everything is integers, or float by + and fmaf and rint: every device gives the same pixel. */
#ifndef MS_AUGMENT_H
#define MS_AUGMENT_H

#include "real.h"

#define MS_AUGMENT_STEPS 8
#define MS_AUGMENT_SIDE (1 << 24) /* h and w below this: a pixel's position is exact in float */

typedef enum ms_augment_move {
  MS_MOVE_SHIFT,  /* out[y][x] = in[y + a][x + b] */
  MS_MOVE_ROLL,   /* out[(y + a) % h][(x + b) % w] = in[y][x]; 0 <= a < h, 0 <= b < w */
  MS_MOVE_FLIP,   /* left to right */
  MS_MOVE_VFLIP,  /* top to bottom */
  MS_MOVE_LINEAR, /* about the image's centre (Y, X): out(Y, X) = in(m[2] X + m[3] Y, m[0] X + m[1] Y), nearest */
  MS_MOVE_CUT     /* zero in rows [a, c), columns [b, d) */
} ms_augment_move;

typedef struct ms_augment_step {
  int32_t move; /* ms_augment_move */
  int32_t a, b, c, d;
  float m[4];
} ms_augment_step;

typedef struct ms_augment_program {
  int32_t n;
  ms_augment_step step[MS_AUGMENT_STEPS];
} ms_augment_program;

/* From the centre of an axis to its pixels, ties to even, as torchvision has it. 0: outside. */
MS_HD int ms_augment_pixel(float centred, int32_t size, int32_t *out) {
  float at = rintf(centred + fmaf(0.5f, (float)size, -0.5f));
  if (!(at >= 0 && at < (float)size))
    return 0;
  *out = (int32_t)at;
  return 1;
}

/* From an output pixel of the step to an input pixel. 0: zero is shown. */
MS_HD int ms_augment_back(const ms_augment_step *s, int32_t h, int32_t w, int32_t *y, int32_t *x) {
  float cx, cy;
  switch (s->move) {
  case MS_MOVE_SHIFT:
    *y += s->a;
    *x += s->b;
    return *y >= 0 && *y < h && *x >= 0 && *x < w;
  case MS_MOVE_ROLL:
    *y -= *y >= s->a ? s->a : s->a - h;
    *x -= *x >= s->b ? s->b : s->b - w;
    return 1;
  case MS_MOVE_FLIP:
    *x = w - 1 - *x;
    return 1;
  case MS_MOVE_VFLIP:
    *y = h - 1 - *y;
    return 1;
  case MS_MOVE_LINEAR:
    cx = (float)*x + fmaf(-0.5f, (float)w, 0.5f);
    cy = (float)*y + fmaf(-0.5f, (float)h, 0.5f);
    return ms_augment_pixel(fmaf(s->m[0], cx, s->m[1] * cy), w, x) &&
           ms_augment_pixel(fmaf(s->m[2], cx, s->m[3] * cy), h, y);
  default:
    return *y < s->a || *y >= s->c || *x < s->b || *x >= s->d;
  }
}

/* The pixel of the sample that output pixel (y, x) shows, y * w + x, or -1: zero. */
MS_HD int64_t ms_augment_source(const ms_augment_program *p, int32_t h, int32_t w, int32_t y, int32_t x) {
  for (int32_t i = p->n - 1; i >= 0; i--)
    if (!ms_augment_back(&p->step[i], h, w, &y, &x))
      return -1;
  return (int64_t)y * w + x;
}

#endif
