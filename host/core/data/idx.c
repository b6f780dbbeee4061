#include "idx.h"
#include "bytes.h"
#include "stream.h"

typedef struct idx_header {
  int type, width; /* bytes of an element */
  int ndim;
  int64_t size[MS_MAX_DIMS], elements;
} idx_header;

static ms_status damaged(const ms_stream_in *s, ms_error *err, const char *what) {
  return ms_fail(err, MS_EFORMAT, "%s: %.400s: damaged file: byte %lld: %s", s->op, s->path, (long long)s->at, what);
}

static ms_status read_exactly(ms_stream_in *s, void *out, size_t n, ms_error *err) {
  size_t got;
  ms_status status = ms_stream_read(s, out, n, &got, err);
  if (!status && got < n)
    status = damaged(s, err, "the file ends too early");
  return status;
}

static ms_status read_header(ms_stream_in *s, idx_header *h, ms_error *err) {
  static const unsigned char width[] = {[0x08] = 1, [0x09] = 1, [0x0b] = 2, [0x0c] = 4, [0x0d] = 4, [0x0e] = 8};
  unsigned char b[4];
  ms_status status = read_exactly(s, b, 4, err);
  if (status)
    return status;
  if (b[0] || b[1])
    return damaged(s, err, "not an IDX file: it must begin with two zero bytes");
  if (b[2] >= sizeof width || !width[b[2]])
    return damaged(s, err, "unknown element type");
  if (b[3] > MS_MAX_DIMS)
    return damaged(s, err, "too many dimensions");
  *h = (idx_header){.type = b[2], .width = width[b[2]], .ndim = b[3], .elements = 1};
  for (int d = 0; d < h->ndim; d++) {
    if ((status = read_exactly(s, b, 4, err)))
      return status;
    h->size[d] = (int64_t)ms_be32(b);
    if (__builtin_mul_overflow(h->elements, h->size[d], &h->elements))
      return damaged(s, err, "the sizes overflow");
  }
  /* Before memory is asked for: can the file hold this much at all? */
  int64_t bytes;
  if (__builtin_mul_overflow(h->elements, (int64_t)h->width, &bytes) || bytes > ms_stream_most(s))
    return ms_fail(err, MS_EFORMAT, "%s: %.400s: damaged file: %lld bytes cannot hold %s elements of %d bytes", s->op,
                   s->path, (long long)s->file_bytes, ms_shape_text(h->ndim, h->size).s, h->width);
  return MS_OK;
}

static ms_dtype target(int type) {
  return type == 0x08 ? MS_U8 : type <= 0x0c ? MS_I64 : MS_F32;
}

/* to[i] = from[i] */
static void convert(const idx_header *h, void *to, const unsigned char *from) {
  int64_t *integer = to;
  ms_real *real = to;
  for (int64_t i = 0; i < h->elements; i++, from += h->width) {
    uint64_t bits = ms_bytes(from, h->width, 1);
    switch (h->type) {
    case 0x09:
      integer[i] = (int8_t)bits;
      break;
    case 0x0b:
      integer[i] = (int16_t)bits;
      break;
    case 0x0c:
      integer[i] = (int32_t)bits;
      break;
    default:
      real[i] = (ms_real)ms_bytes_real(bits, h->width);
    }
  }
}

/* *extra: the bytes behind the data. */
static ms_status read_rest(int64_t *extra, ms_stream_in *s, ms_error *err) {
  unsigned char rest[4096];
  size_t got = 1;
  ms_status status = MS_OK;
  for (*extra = 0; got > 0 && !status; *extra += (int64_t)got)
    status = ms_stream_read(s, rest, sizeof rest, &got, err);
  return status;
}

/* The elements as they lie in the file. */
static ms_status read_raw(unsigned char *raw, ms_stream_in *s, idx_header *h, ms_policy policy, ms_repairs *repairs,
                          ms_error *err) {
  size_t bytes = (size_t)(h->elements * h->width), got;
  int64_t extra = 0;
  ms_status status = ms_stream_read(s, raw, bytes, &got, err);
  if (!status && got == bytes)
    status = read_rest(&extra, s, err);
  if (status)
    return status;
  if (extra && policy != MS_LENIENT)
    return damaged(s, err, "more data than the header says");
  size_t item = h->ndim > 0 && h->size[0] > 0 ? bytes / (size_t)h->size[0] : bytes;
  if (got < bytes) {
    if (policy != MS_LENIENT || got < item)
      return damaged(s, err, "the file ends too early");
    h->size[0] = (int64_t)(got / item);
    h->elements = (int64_t)(got / item * item) / h->width;
  }
  if (repairs) {
    repairs->count[MS_REPAIR_EXTRA] += extra;
    repairs->count[MS_REPAIR_TRUNCATED] += (int64_t)bytes - h->elements * h->width;
  }
  return MS_OK;
}

static ms_status fill(ms_tensor *t, const unsigned char *raw, const idx_header *h, const ms_stream_in *s,
                      ms_error *err) {
  if (h->elements == 0)
    return MS_OK;
  if (t->dtype == MS_U8)
    return ms_write(t, raw, err);
  void *wide = ms_alloc((size_t)h->elements * ms_dtype_size(t->dtype));
  if (!wide)
    return ms_fail(err, MS_EMEM, "%s: %.400s: out of memory for %s", s->op, s->path, ms_tensor_text(t).s);
  convert(h, wide, raw);
  ms_status status = ms_write(t, wide, err);
  ms_free(wide);
  return status;
}

ms_status ms_idx_read(ms_tensor **out, const char *path, ms_policy policy, ms_repairs *repairs, ms_error *err) {
  ms_stream_in s;
  idx_header h;
  ms_tensor *t = NULL;
  unsigned char *raw = NULL;
  *out = NULL;
  ms_status status = ms_stream_open(&s, "read_idx", path, err);
  if (status)
    return status;
  if (!(status = read_header(&s, &h, err)) && policy == MS_ORACLE && (h.ndim < 1 || h.ndim > 3 || h.elements == 0))
    status = damaged(&s, err, "torchvision expects 1 to 3 dimensions, and that there is data");
  if (status)
    goto done;
  raw = ms_alloc((size_t)(h.elements * h.width) + 1);
  if (!raw)
    status = ms_fail(err, MS_EMEM, "%s: %.400s: out of memory for %s", s.op, path, ms_shape_text(h.ndim, h.size).s);
  else if (!(status = read_raw(raw, &s, &h, policy, repairs, err)) &&
           !(status = ms_tensor_new(&t, ms_device_cpu(), target(h.type), h.ndim, h.size, err)))
    status = fill(t, raw, &h, &s, err);
done:
  ms_free(raw);
  ms_stream_close(&s);
  if (status)
    ms_release(t);
  else
    *out = t;
  return status;
}
