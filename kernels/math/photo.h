/* The ops of RandAugment on an image of bytes [h][w][c], c 1 or 3, as Pillow computes them: tables of bytes, blends with a
** poorer image, affine maps. Here is what one byte or pixel becomes. Integers, and float and double by + - * /: every
** device gives the same byte. */
#ifndef MS_PHOTO_H
#define MS_PHOTO_H

#include "pillow.h"

/* What RandAugment draws from, in timm's order. */
typedef enum ms_photo {
  MS_PHOTO_autocontrast,
  MS_PHOTO_equalize,
  MS_PHOTO_invert,
  MS_PHOTO_rotate,
  MS_PHOTO_posterize,
  MS_PHOTO_solarize,
  MS_PHOTO_solarize_add,
  MS_PHOTO_color,
  MS_PHOTO_contrast,
  MS_PHOTO_brightness,
  MS_PHOTO_sharpness,
  MS_PHOTO_shear_x,
  MS_PHOTO_shear_y,
  MS_PHOTO_translate_x,
  MS_PHOTO_translate_y,
  MS_PHOTO_KINDS /* as a kind: nothing is done */
} ms_photo;

typedef struct ms_photo_op {
  int32_t kind; /* ms_photo */
  int32_t taps; /* of affine maps: rows and columns that a pixel is made of, 2 (bilinear) or 4 (bicubic) */
  double v[6];  /* of affine maps: output (x, y) shows input (v[0] x + v[1] y + v[2], v[3] x + v[4] y + v[5]), both from
                   pixel corners. Else v[0]: bits to keep, threshold, what is added, factor */
} ms_photo_op;

/* Columns [x, x + w), rows [y, y + h). */
typedef struct ms_photo_box {
  int32_t x, y, w, h;
} ms_photo_box;

MS_HD uint8_t ms_photo_clip(double v) {
  return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

/* From a at 0 to b at 1 and beyond, in float, cut off. */
MS_HD uint8_t ms_photo_blend(int a, int b, float factor) {
  float v = (float)a + factor * (float)(b - a);
  return ms_photo_clip((double)v);
}

/* The luma; of one channel, that. */
MS_HD int ms_photo_grey(const uint8_t *pixel, int64_t c) {
  return c == 1 ? pixel[0] : ms_luma(pixel);
}

/* What contrast blends with, from the sum of the greys of n pixels. */
MS_HD int ms_photo_mean(int64_t sum, int64_t n) {
  return (int)((double)sum / (double)n + 0.5);
}

/* ---- tables: a byte becomes what its channel's table says ---- */

MS_HD int ms_photo_counts(int32_t kind) { /* needs histograms */
  return kind == MS_PHOTO_autocontrast || kind == MS_PHOTO_equalize;
}

MS_HD int ms_photo_by_table(int32_t kind) {
  return ms_photo_counts(kind) || kind == MS_PHOTO_invert || kind == MS_PHOTO_posterize || kind == MS_PHOTO_solarize ||
         kind == MS_PHOTO_solarize_add || kind == MS_PHOTO_contrast || kind == MS_PHOTO_brightness;
}

/* Of a channel: the least and the greatest value, the pixels that become one grey more by equalize. */
typedef struct ms_photo_levels {
  int32_t lo, hi, step;
} ms_photo_levels;

/* count[v], the pixels of value v, becomes the number of those below v. */
MS_HD ms_photo_levels ms_photo_levels_of(int32_t *count, int32_t pixels) {
  ms_photo_levels l = {0, 0, 0};
  int32_t sum = 0, last = 0, values = 0;
  for (int32_t v = 0; v < 256; v++) {
    int32_t here = count[v];
    count[v] = sum;
    sum += here;
    if (here > 0) {
      l.lo = values == 0 ? v : l.lo;
      l.hi = v;
      last = here;
      values++;
    }
  }
  l.step = values > 1 ? (pixels - last) / 255 : 0;
  return l;
}

MS_HD uint8_t ms_photo_stretched(const ms_photo_levels *l, int v) {
  double scale = l->hi > l->lo ? 255.0 / (l->hi - l->lo) : 1, offset = l->hi > l->lo ? -l->lo * scale : 0;
  return ms_photo_clip(v * scale + offset);
}

/* Entry v of a table. l, below: of the channel, where ms_photo_counts; mean: for contrast. */
MS_HD uint8_t ms_photo_entry(const ms_photo_op *op, const ms_photo_levels *l, const int32_t *below, int mean, int v) {
  int whole = (int)op->v[0];
  switch (op->kind) {
  case MS_PHOTO_autocontrast:
    return ms_photo_stretched(l, v);
  case MS_PHOTO_equalize:
    return l->step ? ms_photo_clip((double)((l->step / 2 + below[v]) / l->step)) : (uint8_t)v;
  case MS_PHOTO_invert:
    return (uint8_t)(255 - v);
  case MS_PHOTO_posterize:
    return (uint8_t)(whole >= 8 ? v : v & ~((1 << (8 - whole)) - 1));
  case MS_PHOTO_solarize:
    return (uint8_t)(v < whole ? v : 255 - v);
  case MS_PHOTO_solarize_add:
    return v < 128 ? ms_photo_clip(v + whole) : (uint8_t)v;
  default:
    return ms_photo_blend(op->kind == MS_PHOTO_contrast ? mean : 0, v, (float)op->v[0]);
  }
}

/* ---- blends of each pixel ---- */

MS_HD void ms_photo_color(uint8_t *to, const uint8_t *pixel, int64_t c, float factor) {
  int grey = ms_photo_grey(pixel, c);
  for (int64_t k = 0; k < c; k++)
    to[k] = ms_photo_blend(grey, pixel[k], factor);
}

/* Of a byte; rows are `row` bytes apart, pixels c. The smoothed image has weights 1 and 5 in the middle, over 13, and keeps the
** border. */
MS_HD uint8_t ms_photo_sharpness(const uint8_t *x, int64_t row, int64_t c, int border, float factor) {
  int smooth = x[0];
  if (!border) {
    int sum = 4 * x[0];
    for (int64_t dy = -row; dy <= row; dy += row)
      sum += x[dy - c] + x[dy] + x[dy + c];
    smooth = (2 * sum + 13) / 26;
  }
  return ms_photo_blend(smooth, x[0], factor);
}

/* ---- affine maps ---- */

/* Of four values one pixel apart, between the middle ones. */
MS_HD double ms_photo_cubic(double a, double b, double c, double e, double d) {
  double p2 = -a + c, p3 = 2 * (a - b) + c - e, p4 = -a + b - c + e;
  return b + d * (p2 + d * (p3 + d * p4));
}

MS_HD int64_t ms_photo_inside(int64_t v, int64_t size) {
  return v < 0 ? 0 : v >= size ? size - 1 : v;
}

/* Between the columns of row y around column x + dx; x is that of the first of the taps. */
MS_HD double ms_photo_across(const uint8_t *image, int64_t w, int64_t c, int64_t x, int64_t y, double dx, int taps) {
  const uint8_t *line = image + y * w * c;
  double a = line[ms_photo_inside(x, w) * c], b = line[ms_photo_inside(x + 1, w) * c];
  return taps == 2 ? a + (b - a) * dx
                   : ms_photo_cubic(a, b, line[ms_photo_inside(x + 2, w) * c], line[ms_photo_inside(x + 3, w) * c], dx);
}

/* A row below the image repeats the one before it, above the image the first one. */
MS_HD double ms_photo_sample(const uint8_t *image, int64_t h, int64_t w, int64_t c, int64_t x, int64_t y, double dx,
                             double dy, int taps) {
  x -= taps / 2 - 1;
  y -= taps / 2 - 1;
  double a = ms_photo_across(image, w, c, x, ms_photo_inside(y, h), dx, taps);
  double b = y + 1 >= 0 && y + 1 < h ? ms_photo_across(image, w, c, x, y + 1, dx, taps) : a;
  if (taps == 2)
    return a + (b - a) * dy;
  double d = y + 2 >= 0 && y + 2 < h ? ms_photo_across(image, w, c, x, y + 2, dx, taps) : b;
  double e = y + 3 >= 0 && y + 3 < h ? ms_photo_across(image, w, c, x, y + 3, dx, taps) : d;
  return ms_photo_cubic(a, b, d, e, dy);
}

/* The greatest integer up to v >= -1. */
MS_HD int64_t ms_photo_below(double v) {
  int64_t i = (int64_t)v;
  return i - (v < (double)i);
}

/* Output pixel (x, y); what the image does not reach is filled. */
MS_HD void ms_photo_moved(uint8_t *to, const uint8_t *image, int64_t h, int64_t w, int64_t c, const ms_photo_op *op,
                          int64_t x, int64_t y, int taps, const uint8_t *fill) {
  double cx = (double)x + .5, cy = (double)y + .5;
  double u = op->v[0] * cx + op->v[1] * cy + op->v[2], v = op->v[3] * cx + op->v[4] * cy + op->v[5];
  int shown = u >= 0 && u < (double)w && v >= 0 && v < (double)h;
  int64_t left = shown ? ms_photo_below(u - .5) : 0, top = shown ? ms_photo_below(v - .5) : 0;
  for (int64_t k = 0; k < c; k++)
    to[k] = shown ? ms_photo_clip(ms_photo_sample(image + k, h, w, c, left, top, u - .5 - (double)left,
                                                  v - .5 - (double)top, taps))
                  : fill[k];
}

#endif
