#include "resize.h"
#include "hot.h"
#include "../../../kernels/math/pillow.h"
#include "resize_axis.h"
#include "resize_rows.h"
#include <string.h>

enum { MOST = 1 << 24 }; /* pixels of a side */

/* ---- bytes ---- */

static int64_t reads_from(const ms_resize_axis *a) {
  return a->lo[0];
}

static int64_t reads_to(const ms_resize_axis *a) {
  return a->lo[a->count - 1] + a->n[a->count - 1];
}

/* `rows` rows from `in` (at the first column that is read) into rows of a->count pixels. */
static void across(ms_resizer *r, uint8_t *out, const uint8_t *in, int64_t stride, int64_t rows, int64_t channels) {
  const ms_resize_axis *a = &r->across;
  int64_t base = reads_from(a), width = reads_to(a) - base, step = a->count * channels;
  uint8_t *lanes = r->lanes.p, *weighed = lanes + width * MS_LANES;
  for (int64_t c = 0; c < channels; c += 4) {
    int64_t take = channels - c < 4 ? channels - c : 4, wide = take == 3 ? 4 : take, group = MS_LANES / wide;
    for (int64_t y = 0; y < rows; y += group) {
      int64_t n = rows - y < group ? rows - y : group;
      ms_lanes_gather(lanes, in + y * stride + c, stride, n, width, channels, take, wide);
      ms_lanes_weigh(weighed, lanes, a, base);
      ms_lanes_scatter(out + y * step + c, weighed, step, n, a->count, channels, take, wide);
    }
  }
}

/* One frame of bytes; `in` is the first pixel that is read. Across first: the rounding in between is part of the
** result. */
static void resize_bytes(ms_resizer *r, uint8_t *out, const uint8_t *in, int64_t stride, int64_t channels) {
  const ms_resize_axis *a = &r->across, *d = &r->down;
  int64_t top = reads_from(d), rows = reads_to(d) - top, width = a->count * channels;
  uint8_t *middle = r->middle.p;
  if (!a->identity)
    across(r, middle, in, stride, rows, channels);
  else
    for (int64_t y = 0; y < rows; y++)
      memcpy(middle + y * width, in + y * stride, (size_t)width);
  if (d->identity)
    memcpy(out, middle, (size_t)(rows * width));
  else
    for (int64_t i = 0; i < d->count; i++)
      ms_rows_weigh(out + i * width, middle + (d->lo[i] - top) * width, width, d->fixed + i * d->taps, d->n[i]);
}

/* ---- reals: down first, which leaves less to do across ---- */

MS_HOT static void add_row(ms_real *sum, const void *row, int bytes, ms_real k, int64_t n) {
  const uint8_t *b = row;
  const ms_real *v = row;
  if (bytes)
    for (int64_t x = 0; x < n; x++)
      sum[x] += k * (ms_real)b[x];
  else
    for (int64_t x = 0; x < n; x++)
      sum[x] += k * v[x];
}

MS_HOT static void sum_across(ms_real *out, const ms_real *row, const ms_resize_axis *a, int64_t channels) {
  for (int64_t i = 0; i < a->count; i++, out += channels) {
    const ms_real *p = row + a->lo[i] * channels, *k = a->real + i * a->taps;
    for (int64_t c = 0; c < channels; c++) {
      ms_real sum = 0;
      for (int64_t j = 0; j < a->n[i]; j++)
        sum += k[j] * p[j * channels + c];
      out[c] = sum;
    }
  }
}

/* `in` is the first pixel that is read. */
static void resize_reals(ms_resizer *r, ms_real *out, const uint8_t *in, int bytes, int64_t stride, int64_t channels) {
  const ms_resize_axis *a = &r->across, *d = &r->down;
  int64_t from = reads_from(a) * channels, width = reads_to(a) * channels - from, top = reads_from(d);
  int64_t size = bytes ? 1 : (int64_t)sizeof(ms_real);
  ms_real *row = (ms_real *)(void *)r->middle.p; /* from column 0 of the image on, so that `lo` fits */
  for (int64_t i = 0; i < d->count; i++) {
    memset(row + from, 0, (size_t)width * sizeof *row);
    for (int64_t j = 0; j < d->n[i]; j++)
      add_row(row + from, in + (d->lo[i] + j - top) * stride * size, bytes, d->real[i * d->taps + j], width);
    sum_across(out + i * a->count * channels, row, a, channels);
  }
}

/* ---- mode LA ---- */

static void premultiply(uint8_t *to, const uint8_t *from, int64_t pixels) {
  for (int64_t i = 0; i < pixels; i++) {
    to[2 * i] = ms_product255(from[2 * i], from[2 * i + 1]);
    to[2 * i + 1] = from[2 * i + 1];
  }
}

static void divide(uint8_t *p, int64_t pixels) {
  for (int64_t i = 0; i < pixels; i++, p += 2)
    if (p[1] != 0 && p[1] != 255) {
      unsigned l = 255u * p[0] / p[1];
      p[0] = l > 255 ? 255 : (uint8_t)l;
    }
}

/* ---- both ---- */

static ms_status plan(ms_resizer *r, int64_t w, int64_t h, const ms_resize_options *o, const char *op, ms_error *err) {
  ms_box part = o->window.w ? o->window : (ms_box){0, 0, o->w, o->h};
  int boxed = o->box[0] != 0 || o->box[1] != 0 || o->box[2] != 0 || o->box[3] != 0;
  int smooth = (o->filter == MS_FILTER_BILINEAR || o->filter == MS_FILTER_BICUBIC) && !o->plain;
  if (o->w < 1 || o->h < 1 || o->w > MOST || o->h > MOST)
    return ms_fail(err, MS_ERANGE, "%s: size: expected 1 to %d pixels a side, got %lld x %lld", op, MOST,
                   (long long)o->w, (long long)o->h);
  if (w < 1 || h < 1 || w > MOST || h > MOST)
    return ms_fail(err, MS_ESHAPE, "%s: expected an image of 1 to %d pixels a side, got %lld x %lld", op, MOST,
                   (long long)w, (long long)h);
  if (part.x < 0 || part.y < 0 || part.w < 1 || part.h < 1 || part.x > o->w - part.w || part.y > o->h - part.h)
    return ms_fail(err, MS_ERANGE, "%s: window: expected a part of %lld x %lld, got %lld x %lld at (%lld, %lld)", op,
                   (long long)o->w, (long long)o->h, (long long)part.w, (long long)part.h, (long long)part.x,
                   (long long)part.y);
  if (boxed && (!smooth || !(o->box[0] >= 0 && o->box[1] >= 0 && o->box[2] <= (double)w && o->box[3] <= (double)h &&
                             o->box[0] < o->box[2] && o->box[1] < o->box[3])))
    return ms_fail(err, MS_ERANGE,
                   "%s: box: expected left < right and top < bottom in %lld x %lld and a smooth filter, got %g, %g, "
                   "%g, %g",
                   op, (long long)w, (long long)h, o->box[0], o->box[1], o->box[2], o->box[3]);
  ms_status status =
      ms_resize_axis_plan(&r->across, o->filter, o->plain, w, o->w, part.x, part.w, o->box[0], o->box[2], op, err);
  return status ? status
                : ms_resize_axis_plan(&r->down, o->filter, o->plain, h, o->h, part.y, part.h, o->box[1], o->box[3], op,
                                      err);
}

static ms_box reads(const ms_resizer *r) {
  int64_t x = reads_from(&r->across), y = reads_from(&r->down);
  return (ms_box){x, y, reads_to(&r->across) - x, reads_to(&r->down) - y};
}

ms_status ms_resize_reads(ms_resizer *r, int64_t w, int64_t h, const ms_resize_options *opt, ms_box *box,
                          const char *op, ms_error *err) {
  ms_status status = plan(r, w, h, opt, op, err);
  if (!status)
    *box = reads(r);
  return status;
}

static ms_status make_room(ms_resizer *r, const ms_box *read, int64_t channels, int bytes, const char *op,
                           ms_error *err) {
  size_t width = (size_t)(r->across.count * channels), lanes = (size_t)(read->w + r->across.count + 1) * MS_LANES;
  if (!bytes)
    return ms_buffer_resize(&r->middle, (size_t)((read->x + read->w) * channels) * sizeof(ms_real), op, err);
  ms_status status = ms_buffer_resize(&r->middle, (size_t)read->h * width, op, err);
  return status ? status : ms_buffer_resize(&r->lanes, lanes, op, err);
}

ms_status ms_resize(ms_resizer *r, ms_picture *out, const ms_picture *in, const ms_box *crop,
                    const ms_resize_options *opt, const char *op, ms_error *err) {
  ms_box image = crop ? *crop : (ms_box){0, 0, in->w, in->h};
  ms_status status = plan(r, image.w, image.h, opt, op, err);
  if (status)
    return status;
  ms_box read = reads(r);
  int bytes = in->dtype == MS_U8, to_bytes = bytes && opt->filter != MS_FILTER_BIN;
  int alpha = opt->alpha && opt->filter != MS_FILTER_NEAREST;
  if (alpha && (in->c != 2 || !to_bytes))
    return ms_fail(err, MS_ESHAPE, "%s: alpha: expected 2 channels of bytes and a smooth filter, got %lld of %s", op,
                   (long long)in->c, bytes ? "bytes" : "reals");
  if (image.x + read.x < 0 || image.y + read.y < 0 || image.x + read.x + read.w > in->w ||
      image.y + read.y + read.h > in->h)
    return ms_fail(err, MS_ERANGE, "%s: expected a part of %lld x %lld pixels, got %lld x %lld at (%lld, %lld)", op,
                   (long long)in->w, (long long)in->h, (long long)read.w, (long long)read.h,
                   (long long)(image.x + read.x), (long long)(image.y + read.y));
  if ((status = make_room(r, &read, in->c, to_bytes, op, err)) ||
      (status =
           ms_picture_shape(out, to_bytes ? MS_U8 : MS_F32, in->t, r->down.count, r->across.count, in->c, op, err)))
    return status;
  alpha = alpha && !(r->across.identity && r->down.identity);
  const uint8_t *from = ms_picture_bytes(in);
  int64_t pixels = in->t * in->h * in->w, frame = in->h * in->w * in->c, stride = in->w * in->c;
  if (alpha) {
    if ((status = ms_buffer_resize(&r->premultiplied, (size_t)(2 * pixels), op, err)))
      return status;
    premultiply(r->premultiplied.p, from, pixels);
    from = r->premultiplied.p;
  }
  int64_t origin = (image.y + read.y) * stride + (image.x + read.x) * in->c, made = out->h * out->w * out->c;
  int64_t size = bytes ? 1 : (int64_t)sizeof(ms_real);
  for (int64_t t = 0; t < in->t && made > 0; t++) {
    const uint8_t *p = from + (t * frame + origin) * size;
    if (to_bytes)
      resize_bytes(r, ms_picture_bytes(out) + t * made, p, stride, in->c);
    else
      resize_reals(r, ms_picture_reals(out) + t * made, p, bytes, stride, in->c);
  }
  if (alpha)
    divide(ms_picture_bytes(out), out->t * out->h * out->w);
  return MS_OK;
}

void ms_resizer_free(ms_resizer *r) {
  ms_buffer *all[] = {&r->across.memory, &r->down.memory, &r->lanes, &r->middle, &r->premultiplied};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    ms_buffer_free(all[i]);
  *r = (ms_resizer){0};
}
