/* What is done to samples of a set in memory before they are moved: a box is resized, ops change the bytes. */
#include "../math/resize.h"
#include "cpu.h"
#include "parallel.h"
#include <string.h>

/* One direction of a resize: output i is the sum of n[i] inputs from lo[i] on. */
typedef struct axis {
  int64_t outputs, taps;
  int64_t *lo, *n;
  int32_t *fixed; /* [outputs, taps] of bytes, or NULL */
  ms_real *real;  /* of reals, or NULL */
} axis;

static inline const void *weights_at(const axis *a, int64_t i) {
  return a->fixed ? (const void *)(a->fixed + i * a->taps) : (const void *)(a->real + i * a->taps);
}

/* Memory of a thread. */
typedef struct room {
  axis across, down;
  void *spare; /* a frame: resized across only, or as an op left it */
} room;

static size_t axis_bytes(const axis *a, int bytes) {
  size_t weights = (size_t)(a->outputs * a->taps) * (bytes ? sizeof(int32_t) : sizeof(ms_real));
  return (size_t)a->outputs * 2 * sizeof(int64_t) + (weights + 7) / 8 * 8;
}

static void place_axis(axis *a, void *memory, int bytes) {
  a->lo = memory;
  a->n = a->lo + a->outputs;
  a->fixed = bytes ? (int32_t *)(void *)(a->n + a->outputs) : NULL;
  a->real = bytes ? NULL : (ms_real *)(void *)(a->n + a->outputs);
}

/* 0: out of memory. */
static int find_room(room *r, const ms_photos_args *a) {
  int bytes = a->x.dtype == MS_U8;
  size_t width = bytes ? 1 : sizeof(ms_real);
  *r = (room){0};
  if (a->boxes) { /* no box is larger than the image */
    r->across = (axis){.outputs = a->to_w, .taps = ms_resize_taps(a->cubic, (double)a->w / (double)a->to_w)};
    r->down = (axis){.outputs = a->to_h, .taps = ms_resize_taps(a->cubic, (double)a->h / (double)a->to_h)};
  }
  size_t across = axis_bytes(&r->across, bytes), down = axis_bytes(&r->down, bytes);
  uint8_t *p = ms_cpu_scratch(0, across + down + (size_t)(ms_max64(a->h, a->to_h) * a->to_w * a->c) * width);
  if (!p)
    return 0;
  place_axis(&r->across, p, bytes);
  place_axis(&r->down, p + across, bytes);
  r->spare = p + across + down;
  return 1;
}

/* ---- resizing: `bytes` is a constant wherever these are called from ---- */

static void plan(axis *a, int cubic, int64_t in) {
  for (int64_t i = 0; i < a->outputs; i++) {
    ms_resize_reach reach = ms_resize_reach_of(cubic, in, 0, (double)in / (double)a->outputs, i);
    ms_resize_weights(&reach, cubic, a->fixed ? a->fixed + i * a->taps : NULL, a->real ? a->real + i * a->taps : NULL);
    a->lo[i] = reach.lo;
    a->n[i] = reach.n;
  }
}

/* `many` outputs side by side, from y[0] and x[0] on: each the sum of n inputs that lie `step` elements apart. */
MS_HD void weigh(void *restrict y, const void *restrict x, int64_t many, int64_t step, int64_t n,
                 const void *restrict weights, int bytes) {
  MS_SIMD
  for (int64_t v = 0; v < many; v++) {
    if (bytes) {
      const uint8_t *p = (const uint8_t *)x + v;
      int32_t sum = MS_RESIZE_HALF;
      for (int64_t j = 0; j < n; j++)
        sum += p[j * step] * ((const int32_t *)weights)[j];
      ((uint8_t *)y)[v] = ms_resize_byte(sum);
    } else {
      const ms_real *p = (const ms_real *)x + v;
      ms_real sum = 0;
      for (int64_t j = 0; j < n; j++)
        sum += p[j * step] * ((const ms_real *)weights)[j];
      ((ms_real *)y)[v] = sum;
    }
  }
}

MS_HD void resize(const room *r, const ms_photos_args *a, const ms_photo_box *box, void *y, const void *x, int bytes) {
  int64_t c = a->c, width = a->to_w * c, size = bytes ? 1 : (int64_t)sizeof(ms_real);
  const axis *across = &r->across, *down = &r->down;
  uint8_t *middle = r->spare;
  for (int64_t row = 0; row < box->h; row++) {
    const uint8_t *from = (const uint8_t *)x + ((box->y + row) * a->w + box->x) * c * size;
    for (int64_t i = 0; i < a->to_w; i++)
      weigh(middle + (row * width + i * c) * size, from + across->lo[i] * c * size, c, c, across->n[i],
            weights_at(across, i), bytes);
  }
  for (int64_t i = 0; i < a->to_h; i++)
    weigh((uint8_t *)y + i * width * size, middle + down->lo[i] * width * size, width, width, down->n[i],
          weights_at(down, i), bytes);
}

MS_HOT static void resize_bytes(const room *r, const ms_photos_args *a, const ms_photo_box *box, void *y,
                                const void *x) {
  resize(r, a, box, y, x, 1);
}

MS_HOT static void resize_reals(const room *r, const ms_photos_args *a, const ms_photo_box *box, void *y,
                                const void *x) {
  resize(r, a, box, y, x, 0);
}

/* ---- ops ---- */

static void by_table(uint8_t *to, const uint8_t *from, const ms_photo_op *op, int64_t pixels, int64_t c) {
  uint8_t table[256];
  int32_t below[256];
  ms_photo_levels levels = {0};
  int64_t sum = 0;
  for (int64_t i = 0; op->kind == MS_PHOTO_contrast && i < pixels; i++)
    sum += ms_photo_grey(from + i * c, c);
  for (int64_t k = 0; k < c; k++) {
    memset(below, 0, sizeof below);
    if (ms_photo_counts(op->kind)) {
      for (int64_t i = k; i < pixels * c; i += c)
        below[from[i]]++;
      levels = ms_photo_levels_of(below, (int32_t)pixels);
    }
    for (int v = 0; v < 256; v++)
      table[v] = ms_photo_entry(op, &levels, below, ms_photo_mean(sum, pixels), v);
    for (int64_t i = k; i < pixels * c; i += c)
      to[i] = table[from[i]];
  }
}

static void sharpness(uint8_t *to, const uint8_t *from, const ms_photos_args *a, float factor) {
  int64_t row = a->to_w * a->c;
  for (int64_t y = 0; y < a->to_h; y++)
    for (int64_t i = 0; i < row; i++) {
      int border = y == 0 || y == a->to_h - 1 || i < a->c || i >= row - a->c;
      to[y * row + i] = ms_photo_sharpness(from + y * row + i, row, a->c, border, factor);
    }
}

MS_HD void move(uint8_t *to, const uint8_t *from, const ms_photos_args *a, const ms_photo_op *op, int taps) {
  for (int64_t y = 0; y < a->to_h; y++)
    for (int64_t x = 0; x < a->to_w; x++, to += a->c)
      ms_photo_moved(to, from, a->to_h, a->to_w, a->c, op, x, y, taps, a->fill);
}

static void apply(uint8_t *to, const uint8_t *from, const ms_photos_args *a, const ms_photo_op *op) {
  int64_t pixels = a->to_h * a->to_w;
  if (ms_photo_by_table(op->kind))
    by_table(to, from, op, pixels, a->c);
  else if (op->kind == MS_PHOTO_color)
    for (int64_t i = 0; i < pixels; i++)
      ms_photo_color(to + i * a->c, from + i * a->c, a->c, (float)op->v[0]);
  else if (op->kind == MS_PHOTO_sharpness)
    sharpness(to, from, a, (float)op->v[0]);
  else if (op->taps == 4)
    move(to, from, a, op, 4);
  else
    move(to, from, a, op, 2);
}

/* ---- samples ---- */

static void change(const ms_photos_args *a, int64_t i, uint8_t *y, void *spare) {
  uint8_t *from = y, *to = spare;
  for (const ms_photo_op *op = a->ops + i * a->nops; op < a->ops + (i + 1) * a->nops; op++)
    if (op->kind != MS_PHOTO_KINDS) {
      uint8_t *was = from;
      apply(to, from, a, op);
      from = to;
      to = was;
    }
  if (from != y)
    memcpy(y, from, (size_t)(a->to_h * a->to_w * a->c));
}

/* Returns whether the sample exists. */
static int one_sample(const ms_photos_args *a, int64_t i, room *r) {
  int64_t at = a->index ? a->index[i] : i, in = a->h * a->w * a->c, out = a->to_h * a->to_w * a->c;
  size_t width = a->x.dtype == MS_U8 ? 1 : sizeof(ms_real);
  int there = at >= 0 && at < a->samples;
  if (there && a->boxes) {
    plan(&r->across, a->cubic, a->boxes[i].w);
    plan(&r->down, a->cubic, a->boxes[i].h);
  }
  for (int64_t t = 0; t < a->steps; t++) {
    uint8_t *y = (uint8_t *)a->y.p + (size_t)((i * a->steps + t) * out) * width;
    const uint8_t *x = (const uint8_t *)a->x.p + (there ? (size_t)((at * a->steps + t) * in) * width : 0);
    if (!there)
      memset(y, 0, (size_t)out * width);
    else if (a->boxes)
      (a->x.dtype == MS_U8 ? resize_bytes : resize_reals)(r, a, &a->boxes[i], y, x);
    else
      memcpy(y, x, (size_t)in * width);
    if (there && a->nops > 0)
      change(a, i, y, r->spare);
  }
  return there;
}

/* One sample; *lost: there was no memory for it. */
static void run(const ms_photos_args *a, int64_t i, int64_t *bad, int64_t *lost) {
  room r;
  if (find_room(&r, a))
    *bad += !one_sample(a, i, &r);
  else
    ++*lost;
}

ms_status ms_cpu_photos(ms_stream *s, const ms_photos_args *a) {
  (void)s;
  int64_t cost = a->steps * a->to_h * a->to_w * a->c * (1 + a->nops), bad = 0, lost = 0;
  if (a->n * cost == 0)
    return MS_OK;
  if (MS_WORTH(a->n, cost)) {
    MS_PRAGMA(omp parallel for schedule(static) num_threads(ms_cpu_threads()) reduction(+ : bad, lost))
    for (int64_t i = 0; i < a->n; i++)
      run(a, i, &bad, &lost);
  } else {
    for (int64_t i = 0; i < a->n; i++)
      run(a, i, &bad, &lost);
  }
  if (bad)
    *a->bad = 1;
  return lost ? MS_EMEM : MS_OK;
}
