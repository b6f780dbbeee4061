#include "image_codec.h"

#ifdef MS_JPEG
#include "../../../kernels/math/pillow.h"
#include <stdio.h>
#include <jpeglib.h>
#include <jerror.h>
#include <setjmp.h>
#include <string.h>

enum {
  SCANS = 500, /* a file of more only wastes time */
  MARGIN = 8,  /* columns beside a box, so that the smoothing of the colours sees its neighbours */
  DENSITY =
      1024 /* pixels of a byte at most: one bit for a block of 64, of which 16 may stand for one of another colour */
};

typedef struct reader {
  struct jpeg_decompress_struct d;
  struct jpeg_error_mgr errors;
  struct jpeg_progress_mgr progress;
  jmp_buf failed;
  const ms_input *in;
  int64_t warnings;
  int decoding; /* rows may come: a lenient reader keeps what there is */
  char text[JMSG_LENGTH_MAX];
} reader;

static reader *reader_of(j_common_ptr d) {
  return (reader *)(void *)d; /* its first member */
}

/* The library's functions must not go on behind an error: back to the setjmp of this file, with r->text. */
static void leave(reader *r) {
  longjmp(r->failed, 1);
}

static void fail(j_common_ptr d) {
  reader *r = reader_of(d);
  d->err->format_message(d, r->text);
  leave(r);
}

/* level < 0: damage that the library works around. */
static void message(j_common_ptr d, int level) {
  reader *r = reader_of(d);
  if (level >= 0)
    return;
  r->warnings++;
  if (r->in->policy == MS_STRICT || (r->in->policy == MS_ORACLE && d->err->msg_code == JWRN_JPEG_EOF))
    fail(d);
}

static void no_output(j_common_ptr d) {
  (void)d;
}

static void watch(j_common_ptr d) {
  reader *r = reader_of(d);
  if (r->d.input_scan_number > SCANS) {
    snprintf(r->text, sizeof r->text, "more than %d scans", SCANS);
    leave(r);
  }
}

/* Inside setjmp from here on: what is allocated belongs to the library. */
static void open_reader(reader *r) {
  jpeg_create_decompress(&r->d);
  r->progress.progress_monitor = watch;
  r->d.progress = &r->progress;
  jpeg_mem_src(&r->d, r->in->p, (unsigned long)r->in->n);
  jpeg_read_header(&r->d, TRUE);
}

static void reader_init(reader *r, const ms_input *in) {
  memset(r, 0, sizeof *r);
  r->in = in;
  r->d.err = jpeg_std_error(&r->errors);
  r->errors.error_exit = fail;
  r->errors.emit_message = message;
  r->errors.output_message = no_output;
}

static ms_status damaged(const reader *r, ms_error *err) {
  const struct jpeg_source_mgr *src = r->d.src;
  int64_t at = src ? (int64_t)(r->in->n - src->bytes_in_buffer) : 0;
  if (r->errors.msg_code == JWRN_JPEG_EOF ||
      (src && (src->next_input_byte < r->in->p || src->next_input_byte > r->in->p + r->in->n)))
    at = (int64_t)r->in->n; /* the library reads its own end marker */
  return ms_damaged(r->in, at, -1, err, "%.150s", r->text);
}

ms_status ms_jpeg_size(int64_t *w, int64_t *h, const ms_input *in, ms_error *err) {
  reader r;
  ms_status status;
  reader_init(&r, in);
  if (setjmp(r.failed)) {
    status = damaged(&r, err);
  } else {
    open_reader(&r);
    *w = r.d.image_width;
    *h = r.d.image_height;
    status = MS_OK;
  }
  jpeg_destroy_decompress(&r.d);
  return status;
}

/* In place, as Pillow: four colours in a JPEG file are stored inverted. */
static void cmyk_to_rgb(uint8_t *row, int64_t width) {
  const uint8_t *from = row;
  for (int64_t x = 0; x < width; x++, from += 4, row += 3) {
    unsigned white = from[3], c = 255u - from[0], m = 255u - from[1], y = 255u - from[2];
    row[0] = (uint8_t)(white - ms_product255(c, white));
    row[1] = (uint8_t)(white - ms_product255(m, white));
    row[2] = (uint8_t)(white - ms_product255(y, white));
  }
}

/* Narrows the rows to the part where that pays; returns the column at which they begin. */
static int64_t narrow(struct jpeg_decompress_struct *d, const ms_box *part) {
  int64_t from = part->x < MARGIN ? 0 : part->x - MARGIN, to = part->x + part->w + MARGIN;
  if (to > (int64_t)d->output_width)
    to = d->output_width;
  if (to - from >= (int64_t)d->output_width)
    return 0;
  JDIMENSION offset = (JDIMENSION)from, width = (JDIMENSION)(to - from);
  jpeg_crop_scanline(d, &offset, &width);
  return offset;
}

static void read_rows(reader *r, const ms_image_job *job) {
  struct jpeg_decompress_struct *d = &r->d;
  int channels = d->num_components;
  int64_t left = job->part.x - narrow(d, &job->part);
  JSAMPARRAY rows = d->mem->alloc_sarray((j_common_ptr)d, JPOOL_IMAGE, d->output_width * (JDIMENSION)channels, 1);
  if (job->part.y > 0)
    jpeg_skip_scanlines(d, (JDIMENSION)job->part.y);
  for (int64_t y = 0; y < job->part.h; y++) {
    jpeg_read_scanlines(d, rows, 1);
    uint8_t *row = rows[0] + left * channels;
    if (channels == 4)
      cmyk_to_rgb(row, job->part.w);
    if (channels == 1)
      ms_image_put_grey(job, y, row);
    else
      ms_image_put_rgb(job, y, row);
  }
  if (d->output_scanline == d->output_height)
    jpeg_finish_decompress(d);
}

static ms_status decode(reader *r, ms_image_job *job, ms_error *err) {
  static const J_COLOR_SPACE space[5] = {[1] = JCS_GRAYSCALE, [3] = JCS_RGB, [4] = JCS_CMYK};
  open_reader(r);
  int channels = r->d.num_components;
  if (channels != 1 && channels != 3 && channels != 4)
    return ms_damaged(job->in, 0, -1, err, "expected 1, 3 or 4 colours, got %d", channels);
  ms_status status = ms_image_begin(job, r->d.image_width, r->d.image_height, DENSITY, err);
  if (status)
    return status;
  r->d.out_color_space = space[channels];
  jpeg_start_decompress(&r->d);
  r->decoding = 1;
  read_rows(r, job);
  return MS_OK;
}

ms_status ms_jpeg_decode(ms_image_job *job, ms_error *err) {
  reader r;
  ms_status status;
  reader_init(&r, job->in);
  if (!setjmp(r.failed)) {
    status = decode(&r, job, err);
  } else if (job->in->policy == MS_LENIENT && r.decoding) {
    r.warnings++;
    status = MS_OK;
  } else {
    status = damaged(&r, err);
  }
  jpeg_destroy_decompress(&r.d);
  if (!status && r.warnings)
    ms_repaired(job->in, MS_REPAIR_IMAGE, 1);
  return status;
}

#define TEXT(x) #x
#define VALUE(x) TEXT(x)
const char *ms_image_jpeg_version(void) {
  return VALUE(LIBJPEG_TURBO_VERSION);
}

#else

static ms_status none(const ms_input *in, ms_error *err) {
  return ms_fail(err, MS_EIO,
                 "%s: %.300s: built without libjpeg-turbo, which JPEG images need (on Debian and Ubuntu: apt-get "
                 "install libjpeg-dev, then build again)",
                 in->op, in->path);
}

ms_status ms_jpeg_size(int64_t *w, int64_t *h, const ms_input *in, ms_error *err) {
  (void)w, (void)h;
  return none(in, err);
}

ms_status ms_jpeg_decode(ms_image_job *job, ms_error *err) {
  return none(job->in, err);
}

const char *ms_image_jpeg_version(void) {
  return "none";
}
#endif
