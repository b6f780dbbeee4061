#include "image_codec.h"
#include "../../../kernels/math/pillow.h"
#include <string.h>

typedef enum kind { JPEG, PNG, OTHER } kind;

static kind kind_of(const ms_input *in) {
  if (in->n >= 3 && memcmp(in->p, "\xff\xd8\xff", 3) == 0)
    return JPEG;
  return in->n >= 8 && memcmp(in->p, "\x89PNG\r\n\x1a\n", 8) == 0 ? PNG : OTHER;
}

static ms_status unknown(const ms_input *in, ms_error *err) {
  const char *looks = ms_looks_like(in->p, in->n);
  if (in->n == 0)
    return ms_damaged(in, 0, -1, err, "the file is empty");
  return ms_damaged(in, 0, -1, err, "expected a JPEG or PNG image%s%s", looks ? ", this looks like " : "",
                    looks ? looks : "");
}

ms_status ms_image_size(int64_t *w, int64_t *h, const ms_input *in, ms_error *err) {
  kind k = kind_of(in);
  *w = *h = 0;
  return k == JPEG ? ms_jpeg_size(w, h, in, err) : k == PNG ? ms_png_size(w, h, in, err) : unknown(in, err);
}

ms_status ms_image_decode(ms_picture *out, const ms_input *in, const ms_box *box, const ms_image_options *opt,
                          ms_error *err) {
  kind k = kind_of(in);
  ms_image_job job = {.out = out,
                      .in = in,
                      .box = box,
                      .grey = opt && opt->grey,
                      .max_pixels = opt && opt->max_pixels > 0 ? opt->max_pixels : MS_IMAGE_PIXELS};
  ms_status status = k == JPEG ? ms_jpeg_decode(&job, err) : k == PNG ? ms_png_decode(&job, err) : unknown(in, err);
  if (status)
    out->t = 0;
  return status;
}

ms_status ms_image_begin(ms_image_job *job, int64_t w, int64_t h, int64_t most, ms_error *err) {
  const ms_input *in = job->in;
  int64_t pixels = w * h; /* both below 2^31 */
  if (pixels > job->max_pixels)
    return ms_fail(err, MS_EFORMAT, "%s: %.400s: expected at most %lld pixels, got %lld x %lld", in->op, in->path,
                   (long long)job->max_pixels, (long long)w, (long long)h);
  if (pixels / most > (int64_t)in->n)
    return ms_damaged(in, 0, -1, err, "%zu bytes cannot hold %lld x %lld pixels", in->n, (long long)w, (long long)h);
  const ms_box *b = job->box;
  job->part = b ? *b : (ms_box){0, 0, w, h};
  if (b && (b->x < 0 || b->y < 0 || b->w < 1 || b->h < 1 || b->x > w - b->w || b->y > h - b->h))
    return ms_fail(err, MS_ERANGE, "%s: %.400s: box: expected a part of %lld x %lld, got %lld x %lld at (%lld, %lld)",
                   in->op, in->path, (long long)w, (long long)h, (long long)b->w, (long long)b->h, (long long)b->x,
                   (long long)b->y);
  ms_status status = ms_picture_shape(job->out, MS_U8, 1, job->part.h, job->part.w, job->grey ? 1 : 3, in->op, err);
  if (!status)
    memset(ms_picture_bytes(job->out), 0, job->out->memory.bytes);
  return status;
}

static uint8_t *row(const ms_image_job *job, int64_t y) {
  return ms_picture_bytes(job->out) + y * job->out->w * job->out->c;
}

void ms_image_put_rgb(const ms_image_job *job, int64_t y, const uint8_t *rgb) {
  uint8_t *to = row(job, y);
  if (!job->grey)
    memcpy(to, rgb, (size_t)(3 * job->out->w));
  else
    for (int64_t x = 0; x < job->out->w; x++, rgb += 3)
      to[x] = ms_luma(rgb);
}

void ms_image_put_grey(const ms_image_job *job, int64_t y, const uint8_t *grey) {
  uint8_t *to = row(job, y);
  if (job->grey)
    memcpy(to, grey, (size_t)job->out->w);
  else
    for (int64_t x = 0; x < job->out->w; x++, to += 3)
      to[0] = to[1] = to[2] = grey[x];
}
