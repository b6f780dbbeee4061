#include "image_codec.h"

#ifdef MS_PNG
#include <png.h>
#include <string.h>
#include <stdio.h>

typedef struct reader {
  png_structp png;
  png_infop info;
  const ms_input *in;
  size_t at;
  int64_t warnings;
  int decoding;  /* rows may come: a lenient reader keeps what there is */
  int ended;     /* all rows were there; only what follows is damaged */
  ms_buffer raw; /* one row, or all of an interlaced image */
  int64_t w, h, row_bytes;
  int depth, colour, interlaced;
  png_colorp palette;
  int colours;
  char text[160];
} reader;

/* png_error must not return; the text is kept for the one who called setjmp. */
static void fail(png_structp png, png_const_charp text) {
  reader *r = png_get_error_ptr(png);
  snprintf(r->text, sizeof r->text, "%s", text);
  png_longjmp(png, 1);
}

static void warn(png_structp png, png_const_charp text) {
  reader *r = png_get_error_ptr(png);
  r->warnings++;
  if (r->in->policy == MS_STRICT)
    fail(png, text);
}

static void read_bytes(png_structp png, png_bytep to, size_t n) {
  reader *r = png_get_io_ptr(png);
  if (n > r->in->n - r->at) {
    r->at = r->in->n;
    png_error(png, "the file ends too early");
  }
  memcpy(to, r->in->p + r->at, n);
  r->at += n;
}

static ms_status open_reader(reader *r, const ms_input *in, ms_error *err) {
  memset(r, 0, sizeof *r);
  r->in = in;
  r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, fail, warn);
  if (r->png)
    r->info = png_create_info_struct(r->png);
  return r->info ? MS_OK : ms_fail(err, MS_EMEM, "%s: %.400s: out of memory", in->op, in->path);
}

static void close_reader(reader *r) {
  png_destroy_read_struct(&r->png, &r->info, NULL);
  ms_buffer_free(&r->raw);
}

/* Inside setjmp. Chunks that say nothing about the pixels (texts, profiles, dates) are not looked into. */
static void read_header(reader *r) {
  png_uint_32 w, h;
  png_set_read_fn(r->png, r, read_bytes);
  png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* a fuzzer does not guess checksums */
  png_set_crc_action(r->png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
#endif
  png_read_info(r->png, r->info);
  png_get_IHDR(r->png, r->info, &w, &h, &r->depth, &r->colour, &r->interlaced, NULL, NULL);
  r->w = w;
  r->h = h;
}

ms_status ms_png_size(int64_t *w, int64_t *h, const ms_input *in, ms_error *err) {
  reader r;
  ms_status status = open_reader(&r, in, err);
  if (!status && setjmp(png_jmpbuf(r.png))) {
    status = ms_damaged(in, (int64_t)r.at, -1, err, "%s", r.text);
  } else if (!status) {
    read_header(&r);
    *w = r.w;
    *h = r.h;
  }
  close_reader(&r);
  return status;
}

/* Bytes of whole pixels, to those of the part as RGB or grey. */
static void put_row(reader *r, const ms_image_job *job, int64_t y, uint8_t *row) {
  static const int width[] = {[PNG_COLOR_TYPE_GRAY] = 1,
                              [PNG_COLOR_TYPE_PALETTE] = 1,
                              [PNG_COLOR_TYPE_GRAY_ALPHA] = 2,
                              [PNG_COLOR_TYPE_RGB] = 3,
                              [PNG_COLOR_TYPE_RGB_ALPHA] = 4};
  int64_t n = job->part.w;
  int deep = r->depth == 16 && r->colour == PNG_COLOR_TYPE_GRAY, pixel = width[r->colour] << deep;
  const uint8_t *from = row + job->part.x * pixel;
  uint8_t *to = r->raw.p + r->row_bytes * (r->interlaced ? r->h : 1); /* room for a row of RGB */
  if (r->colour == PNG_COLOR_TYPE_PALETTE) {
    for (int64_t x = 0; x < n; x++) {
      if (from[x] >= r->colours)
        png_warning(r->png, "a colour that the palette lacks");
      png_color c = from[x] < r->colours ? r->palette[from[x]] : (png_color){0};
      to[3 * x] = c.red;
      to[3 * x + 1] = c.green;
      to[3 * x + 2] = c.blue;
    }
  } else if (pixel <= 2) {
    unsigned scale = r->depth < 8 ? 255u / ((1u << r->depth) - 1) : 1;
    for (int64_t x = 0; x < n; x++)
      to[x] = deep && from[2 * x] ? 255 : (uint8_t)(scale * from[pixel * x + deep]);
    ms_image_put_grey(job, y, to);
    return;
  } else {
    for (int64_t x = 0; x < n; x++)
      memcpy(to + 3 * x, from + pixel * x, 3);
  }
  ms_image_put_rgb(job, y, to);
}

static void read_rows(reader *r, const ms_image_job *job, int passes) {
  const ms_box *part = &job->part;
  int64_t end = r->interlaced ? r->h : part->y + part->h;
  for (int pass = 0; pass < passes; pass++)
    for (int64_t y = 0; y < end; y++) {
      uint8_t *row = r->raw.p + (r->interlaced ? y * r->row_bytes : 0);
      png_read_row(r->png, row, NULL);
      if (pass == passes - 1 && y >= part->y && y < part->y + part->h)
        put_row(r, job, y - part->y, row);
    }
  r->ended = 1;
  if (end == r->h)
    png_read_end(r->png, NULL);
}

static ms_status decode(reader *r, ms_image_job *job, ms_error *err) {
  read_header(r);
  int64_t bits = r->depth * png_get_channels(r->png, r->info);
  ms_status status = ms_image_begin(job, r->w, r->h, 1032 * 8 / bits, err); /* deflate never exceeds 1032 to 1 */
  if (status)
    return status;
  if (r->colour == PNG_COLOR_TYPE_PALETTE)
    png_get_PLTE(r->png, r->info, &r->palette, &r->colours);
  png_set_packing(r->png);
  if (r->colour != PNG_COLOR_TYPE_GRAY)
    png_set_strip_16(r->png);
  int passes = png_set_interlace_handling(r->png);
  png_read_update_info(r->png, r->info);
  r->row_bytes = (int64_t)png_get_rowbytes(r->png, r->info);
  size_t bytes = (size_t)(r->row_bytes * (r->interlaced ? r->h : 1) + 3 * r->w);
  if ((status = ms_buffer_resize(&r->raw, bytes, job->in->op, err)))
    return status;
  memset(r->raw.p, 0, bytes);
  r->decoding = 1;
  read_rows(r, job, passes);
  return MS_OK;
}

/* May damage at this place be passed over? */
static int tolerable(const reader *r) {
  return r->in->policy == MS_LENIENT ? r->decoding : r->in->policy == MS_ORACLE && r->ended;
}

ms_status ms_png_decode(ms_image_job *job, ms_error *err) {
  reader r;
  ms_status status = open_reader(&r, job->in, err);
  if (!status && setjmp(png_jmpbuf(r.png))) {
    r.warnings++;
    if (!tolerable(&r))
      status = ms_damaged(job->in, (int64_t)r.at, -1, err, "%s", r.text);
  } else if (!status) {
    status = decode(&r, job, err);
  }
  if (!status && r.warnings)
    ms_repaired(job->in, MS_REPAIR_IMAGE, 1);
  close_reader(&r);
  return status;
}

/* ---- writing ---- */

typedef struct writer {
  ms_buffer *out;
  const char *op;
  ms_error *err;
  ms_status status;
  char text[160];
} writer;

static void fail_writing(png_structp png, png_const_charp text) {
  writer *w = png_get_error_ptr(png);
  if (!w->status)
    w->status = ms_fail(w->err, MS_EINVAL, "%s: %s", w->op, text);
  png_longjmp(png, 1);
}

static void write_bytes(png_structp png, png_bytep from, size_t n) {
  writer *w = png_get_io_ptr(png);
  size_t before = w->out->bytes;
  w->status = ms_buffer_resize(w->out, before + n, w->op, w->err);
  if (w->status)
    png_error(png, "out of memory");
  memcpy(w->out->p + before, from, n);
}

static void flush(png_structp png) {
  (void)png;
}

static void write_image(png_structp png, png_infop info, const ms_picture *p) {
  png_set_IHDR(png, info, (png_uint_32)p->w, (png_uint_32)p->h, 8, p->c == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  for (int64_t y = 0; y < p->h; y++)
    png_write_row(png, ms_picture_bytes(p) + y * p->w * p->c);
  png_write_end(png, NULL);
}

ms_status ms_image_encode_png(ms_buffer *out, const ms_picture *p, const char *op, ms_error *err) {
  writer w = {.out = out, .op = op, .err = err};
  if (p->dtype != MS_U8 || p->t != 1 || (p->c != 1 && p->c != 3) || p->h < 1 || p->w < 1 ||
      p->h > PNG_USER_HEIGHT_MAX || p->w > PNG_USER_WIDTH_MAX)
    return ms_fail(err, MS_ESHAPE,
                   "%s: expected one image of bytes with 1 or 3 channels and 1 to %d pixels a side, got %s", op,
                   PNG_USER_WIDTH_MAX, ms_shape_text(4, (int64_t[]){p->t, p->h, p->w, p->c}).s);
  out->bytes = 0;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w, fail_writing, NULL);
  png_infop info = png ? png_create_info_struct(png) : NULL;
  if (!info) {
    png_destroy_write_struct(&png, NULL);
    return ms_fail(err, MS_EMEM, "%s: out of memory", op);
  }
  if (!setjmp(png_jmpbuf(png))) {
    png_set_write_fn(png, &w, write_bytes, flush);
    write_image(png, info, p);
  }
  png_destroy_write_struct(&png, &info);
  return w.status;
}

const char *ms_image_png_version(void) {
  return PNG_LIBPNG_VER_STRING;
}

#else

static ms_status none(const char *op, const char *path, ms_error *err) {
  return ms_fail(err, MS_EIO,
                 "%s: %.300s: built without libpng, which PNG images need (on Debian and Ubuntu: apt-get install "
                 "libpng-dev, then build again)",
                 op, path);
}

ms_status ms_png_size(int64_t *w, int64_t *h, const ms_input *in, ms_error *err) {
  (void)w, (void)h;
  return none(in->op, in->path, err);
}

ms_status ms_png_decode(ms_image_job *job, ms_error *err) {
  return none(job->in->op, job->in->path, err);
}

ms_status ms_image_encode_png(ms_buffer *out, const ms_picture *picture, const char *op, ms_error *err) {
  (void)out, (void)picture;
  return none(op, "PNG", err);
}

const char *ms_image_png_version(void) {
  return "none";
}
#endif
