/* The ops of RandAugment as Pillow computes them: tables of bytes, blends with a poorer image, affine maps. */
#include "randaugment.h"
#include "../tensor.h"
#include "pillow.h"
#include <math.h>
#include <string.h>

typedef uint8_t lookup[256];

static uint8_t clip(double v) {
  return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

/* From a at 0 to b at 1 and beyond, in float, cut off. */
static uint8_t blend(int a, int b, float factor) {
  float v = (float)a + factor * (float)(b - a);
  return clip((double)v);
}

/* The luma; of one channel, that. */
static int grey(const uint8_t *pixel, int64_t c) {
  return c == 1 ? pixel[0] : ms_luma(pixel);
}

/* ---- tables ---- */

static void histogram(int64_t count[256], const ms_picture *p, int64_t k) {
  memset(count, 0, 256 * sizeof *count);
  for (int64_t i = 0; i < p->h * p->w; i++)
    count[ms_picture_bytes(p)[i * p->c + k]]++;
}

static void autocontrast(lookup table, const ms_picture *p, int64_t k) {
  int64_t count[256];
  int lo = 0, hi = 255;
  histogram(count, p, k);
  while (lo < 255 && !count[lo])
    lo++;
  while (hi > 0 && !count[hi])
    hi--;
  double scale = hi > lo ? 255.0 / (hi - lo) : 1, offset = hi > lo ? -lo * scale : 0;
  for (int v = 0; v < 256; v++)
    table[v] = clip(v * scale + offset);
}

static void equalize(lookup table, const ms_picture *p, int64_t k) {
  int64_t count[256], last = 0, kinds = 0, step, sum;
  histogram(count, p, k);
  for (int v = 0; v < 256; v++)
    if (count[v]) {
      last = count[v];
      kinds++;
    }
  step = kinds > 1 ? (p->h * p->w - last) / 255 : 0;
  sum = step / 2;
  for (int v = 0; v < 256; sum += count[v], v++)
    table[v] = step ? clip((double)(sum / step)) : (uint8_t)v;
}

static int mean_grey(const ms_picture *p) {
  int64_t sum = 0, n = p->h * p->w;
  for (int64_t i = 0; i < n; i++)
    sum += grey(ms_picture_bytes(p) + i * p->c, p->c);
  return (int)((double)sum / (double)n + 0.5);
}

/* mean: what contrast blends with. 0: the op is no table. */
static int fill_table(lookup table, const ms_picture *p, ms_photo kind, int64_t k, double value, int mean) {
  int whole = (int)value;
  if (kind == MS_PHOTO_autocontrast) {
    autocontrast(table, p, k);
    return 1;
  }
  if (kind == MS_PHOTO_equalize) {
    equalize(table, p, k);
    return 1;
  }
  for (int v = 0; v < 256; v++)
    switch (kind) {
    case MS_PHOTO_invert:
      table[v] = (uint8_t)(255 - v);
      break;
    case MS_PHOTO_posterize:
      table[v] = (uint8_t)(whole >= 8 ? v : v & ~((1 << (8 - whole)) - 1));
      break;
    case MS_PHOTO_solarize:
      table[v] = (uint8_t)(v < whole ? v : 255 - v);
      break;
    case MS_PHOTO_solarize_add:
      table[v] = v < 128 ? clip(v + whole) : (uint8_t)v;
      break;
    case MS_PHOTO_contrast:
    case MS_PHOTO_brightness:
      table[v] = blend(mean, v, (float)value);
      break;
    default:
      return 0;
    }
  return 1;
}

static int by_table(ms_picture *to, const ms_picture *from, ms_photo kind, double value) {
  lookup table;
  int mean = kind == MS_PHOTO_contrast ? mean_grey(from) : 0;
  for (int64_t k = 0; k < from->c; k++) {
    if (!fill_table(table, from, kind, k, value, mean))
      return 0;
    for (int64_t i = k; i < from->h * from->w * from->c; i += from->c)
      ms_picture_bytes(to)[i] = table[ms_picture_bytes(from)[i]];
  }
  return 1;
}

/* ---- blends of each pixel ---- */

static void color(ms_picture *to, const ms_picture *from, double factor) {
  const uint8_t *x = ms_picture_bytes(from);
  uint8_t *y = ms_picture_bytes(to);
  for (int64_t i = 0; i < from->h * from->w; i++, x += from->c, y += from->c)
    for (int64_t k = 0; k < from->c; k++)
      y[k] = blend(grey(x, from->c), x[k], (float)factor);
}

/* The smoothed image has weights 1 and 5 in the middle, over 13, and keeps the border. */
static void sharpness(ms_picture *to, const ms_picture *from, double factor) {
  const uint8_t *x = ms_picture_bytes(from);
  uint8_t *y = ms_picture_bytes(to);
  int64_t c = from->c, row = from->w * c;
  for (int64_t r = 0; r < from->h; r++)
    for (int64_t i = r * row, end = i + row; i < end; i++) {
      int smooth = x[i], border = r == 0 || r == from->h - 1 || i < end - row + c || i >= end - c;
      if (!border) {
        int sum = 4 * x[i];
        for (int64_t dy = -row; dy <= row; dy += row)
          sum += x[i + dy - c] + x[i + dy] + x[i + dy + c];
        smooth = (2 * sum + 13) / 26;
      }
      y[i] = blend(smooth, x[i], (float)factor);
    }
}

/* ---- affine maps ---- */

/* Output (x, y) shows input (m[0] x + m[1] y + m[2], m[3] x + m[4] y + m[5]), both from pixel corners. */
typedef struct affine {
  double m[6];
} affine;

static double fifteen_digits(double v) {
  return rint(v * 1e15) / 1e15;
}

static affine affine_of(const ms_picture *p, ms_photo kind, double value) {
  affine a = {{1, 0, 0, 0, 1, 0}};
  double turn = value < 0 ? value + 360 : value, angle = -(turn * (3.14159265358979323846 / 180)), x = (double)p->w / 2,
         y = (double)p->h / 2;
  switch (kind) {
  case MS_PHOTO_rotate:
    a.m[0] = a.m[4] = fifteen_digits(cos(angle));
    a.m[1] = fifteen_digits(sin(angle));
    a.m[3] = fifteen_digits(-sin(angle));
    a.m[2] = a.m[0] * -x + a.m[1] * -y + x;
    a.m[5] = a.m[3] * -x + a.m[4] * -y + y;
    break;
  case MS_PHOTO_shear_x:
    a.m[1] = value;
    break;
  case MS_PHOTO_shear_y:
    a.m[3] = value;
    break;
  case MS_PHOTO_translate_x:
    a.m[2] = value * (double)p->w;
    break;
  default:
    a.m[5] = value * (double)p->h;
  }
  return a;
}

/* Of four values one pixel apart, between the middle ones. */
static double cubic(const double v[4], double d) {
  double p2 = -v[0] + v[2], p3 = 2 * (v[0] - v[1]) + v[2] - v[3], p4 = -v[0] + v[1] - v[2] + v[3];
  return v[1] + d * (p2 + d * (p3 + d * p4));
}

static int64_t inside(int64_t v, int64_t size) {
  return v < 0 ? 0 : v >= size ? size - 1 : v;
}

/* Channel k at pixel (x, y) + (dx, dy), from `taps` (2 or 4) rows and columns. A row below the image repeats the one before
** it, above the image the first one. */
static inline double sample_at(const ms_picture *p, int64_t k, int64_t x, int64_t y, double dx, double dy, int taps) {
  double row[4] = {0}, v[4];
  x -= taps / 2 - 1;
  y -= taps / 2 - 1;
  for (int j = 0; j < taps; j++) {
    if (j > 0 && (y + j < 0 || y + j >= p->h)) {
      row[j] = row[j - 1];
      continue;
    }
    const uint8_t *line = ms_picture_bytes(p) + inside(y + j, p->h) * p->w * p->c + k;
    for (int i = 0; i < taps; i++)
      v[i] = line[inside(x + i, p->w) * p->c];
    row[j] = taps == 2 ? v[0] + (v[1] - v[0]) * dx : cubic(v, dx);
  }
  return taps == 2 ? row[0] + (row[1] - row[0]) * dy : cubic(row, dy);
}

/* The greatest integer up to v >= -1. */
static inline int64_t below(double v) {
  int64_t i = (int64_t)v;
  return i - (v < (double)i);
}

static inline void move(ms_picture *to, const ms_picture *from, affine a, int taps, const uint8_t fill[3]) {
  uint8_t *out = ms_picture_bytes(to);
  for (int64_t y = 0; y < from->h; y++)
    for (int64_t x = 0; x < from->w; x++, out += from->c) {
      double cx = (double)x + .5, cy = (double)y + .5;
      double u = a.m[0] * cx + a.m[1] * cy + a.m[2], v = a.m[3] * cx + a.m[4] * cy + a.m[5];
      if (!(u >= 0 && u < (double)from->w && v >= 0 && v < (double)from->h)) {
        memcpy(out, fill, (size_t)from->c);
        continue;
      }
      int64_t fx = below(u - .5), fy = below(v - .5);
      for (int64_t k = 0; k < from->c; k++)
        out[k] = clip(sample_at(from, k, fx, fy, u - .5 - (double)fx, v - .5 - (double)fy, taps));
    }
}

ms_status ms_photo_apply(ms_picture *to, const ms_picture *from, ms_photo kind, double value, ms_photo_filter filter,
                         const uint8_t fill[3], const char *op, ms_error *err) {
  if (from->dtype != MS_U8 || from->t != 1 || (from->c != 1 && from->c != 3) || from->h < 1 || from->w < 1)
    return ms_fail(err, MS_ESHAPE, "%s: expected a still uint8 image with 1 or 3 channels, got %s of %lld frames %s",
                   op, ms_dtype_name(from->dtype), (long long)from->t,
                   ms_shape_text(3, (int64_t[]){from->h, from->w, from->c}).s);
  ms_status status = ms_picture_shape(to, MS_U8, 1, from->h, from->w, from->c, op, err);
  if (status || by_table(to, from, kind, value))
    return status;
  if (kind == MS_PHOTO_color)
    color(to, from, value);
  else if (kind == MS_PHOTO_sharpness)
    sharpness(to, from, value);
  else if (filter == MS_PHOTO_BICUBIC)
    move(to, from, affine_of(from, kind, value), 4, fill);
  else
    move(to, from, affine_of(from, kind, value), 2, fill);
  return MS_OK;
}
