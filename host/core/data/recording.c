#include "recording.h"
#include "../file.h"
#include "aedat2.h"
#include "aedat3.h"
#include "atis.h"
#include "mat5.h"
#include "npz.h"
#include <string.h>

#define MOST ((size_t)1 << 32) /* bytes of a file; those of DVS128 Gesture, the longest, have some 10^7 */

static int begins(const ms_input *in, const char *magic) {
  size_t n = strlen(magic);
  return in->n >= n && memcmp(in->p, magic, n) == 0;
}

static ms_events_format detect(const ms_input *in) {
  static const struct {
    const char *text;
    ms_events_format format;
  } magic[] = {{"#!AER-DAT2.", MS_EVENTS_AEDAT2}, {"#!AER-DAT3.", MS_EVENTS_AEDAT3}, {"MATLAB 5.0", MS_EVENTS_MAT5},
               {"MATLAB 7.3", MS_EVENTS_MAT5},    {"PK\3\4", MS_EVENTS_NPZ},         {"\x93NUMPY", MS_EVENTS_NPZ}},
    ending[] = {
        {".aedat", MS_EVENTS_AEDAT2}, {".bin", MS_EVENTS_ATIS}, {".mat", MS_EVENTS_MAT5}, {".npz", MS_EVENTS_NPZ}};
  size_t length = strlen(in->path);
  for (size_t i = 0; i < sizeof magic / sizeof *magic; i++)
    if (begins(in, magic[i].text))
      return magic[i].format;
  for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
    size_t n = strlen(ending[i].text);
    if (length > n && strcmp(in->path + length - n, ending[i].text) == 0)
      return ending[i].format;
  }
  return MS_EVENTS_AUTO;
}

/* The archive has no window of its own: what lies outside goes afterwards. */
static ms_status decode_npz(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err) {
  ms_buffer room = {0};
  ms_status status = ms_npz_events(out, &room, in, opt->width, opt->height, err);
  int64_t n = 0;
  ms_buffer_free(&room);
  if (status)
    return status;
  for (int64_t i = 0; i < out->n; i++)
    if ((opt->start_us == 0 || out->t[i] >= opt->start_us) && (opt->end_us == 0 || out->t[i] < opt->end_us)) {
      out->t[n] = out->t[i];
      out->x[n] = out->x[i];
      out->y[n] = out->y[i];
      out->p[n++] = out->p[i];
    }
  out->n = n;
  return n > 0 || in->policy != MS_STRICT ? MS_OK : ms_sink_empty(in, opt->start_us || opt->end_us, err);
}

static void flip(uint16_t *x, int64_t n, int size) {
  for (int64_t i = 0; i < n; i++)
    x[i] = (uint16_t)(size - 1 - x[i]);
}

ms_status ms_events_decode(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err) {
  const char *other = ms_looks_like(in->p, in->n);
  ms_status status;
  out->n = 0;
  switch (opt->format == MS_EVENTS_AUTO ? detect(in) : opt->format) {
  case MS_EVENTS_AEDAT2:
    status = ms_aedat2_decode(out, in, opt, err);
    break;
  case MS_EVENTS_AEDAT3:
    status = ms_aedat3_decode(out, in, opt, err);
    break;
  case MS_EVENTS_ATIS:
    status = ms_atis_decode(out, in, opt, err);
    break;
  case MS_EVENTS_MAT5:
    status = ms_mat5_decode(out, in, opt, err);
    break;
  case MS_EVENTS_NPZ:
    status = decode_npz(out, in, opt, err);
    break;
  default:
    return ms_damaged(in, 0, -1, err, "not a recording of a known format%s%s", other ? "; it looks like " : "",
                      other ? other : "");
  }
  if (status)
    return status;
  if (opt->flip_x)
    flip(out->x, out->n, out->width);
  if (opt->flip_y)
    flip(out->y, out->n, out->height);
  if (opt->stabilize)
    ms_atis_stabilize(out);
  return MS_OK;
}

ms_status ms_events_read(ms_events *out, ms_buffer *scratch, const char *path, const ms_events_options *opt,
                         ms_repairs *repairs, ms_error *err) {
  static const char op[] = "read_events";
  out->n = 0;
  ms_status status = ms_file_read(scratch, op, path, MOST, err);
  if (status)
    return status;
  ms_input in = {op, path, scratch->p, scratch->bytes, opt->policy, repairs};
  return ms_events_decode(out, &in, opt, err);
}

ms_status ms_events_write(const char *path, ms_events_format format, const ms_events *e, ms_error *err) {
  static const char op[] = "write_events";
  ms_buffer bytes = {0};
  ms_file f = {.fd = -1};
  ms_status status = MS_OK;
  if (format == MS_EVENTS_AEDAT2)
    status = ms_aedat2_encode(&bytes, e, err);
  else if (format == MS_EVENTS_ATIS)
    status = ms_atis_encode(&bytes, e, err);
  else if (format == MS_EVENTS_NPZ)
    status = ms_npz_events_write(&bytes, e, op, err);
  else
    status = ms_fail(err, MS_EINVAL, "%s: format: expected aedat2, atis or npz", op);
  if (!status && !(status = ms_file_begin(&f, op, path, err)) &&
      !(status = ms_file_append(&f, bytes.p, bytes.bytes, err)))
    status = ms_file_commit(&f, err);
  ms_file_abort(&f);
  ms_buffer_free(&bytes);
  return status;
}
