#include "atis.h"
#include <math.h>

#define MARK 240 /* y of an overflow */

static ms_status decode(ms_sink *s, size_t n, ms_error *err) {
  const ms_input *in = s->in;
  const int marks = in->policy != MS_ORACLE && s->out->height <= MARK;
  ms_sink own = *s;
  int64_t past = 0, overflows = 0;
  for (size_t i = 0; i < n; i++) {
    const uint8_t *r = in->p + 5 * i;
    int64_t t = (int64_t)(r[2] & 0x7f) << 16 | (int64_t)r[3] << 8 | r[4];
    if (r[1] == MARK && marks) {
      if (in->policy == MS_STRICT)
        return ms_damaged(in, (int64_t)(5 * i), (int64_t)i, err, "the clock overflowed (y = %d)", MARK);
      overflows++;
      past += 8192;
      continue;
    }
    ms_status status = ms_sink_add(&own, t + past, r[0], r[1], r[2] >> 7, (int64_t)(5 * i), (int64_t)i, err);
    if (status)
      return status;
  }
  *s = own;
  ms_repaired(in, MS_REPAIR_OVERFLOW, overflows);
  return MS_OK;
}

ms_status ms_atis_decode(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err) {
  ms_sink s;
  size_t n = in->n / 5, rest = in->n % 5;
  const char *other = ms_looks_like(in->p, in->n);
  ms_sink_open(&s, out, in, opt, 240, 180);
  if (rest && in->policy != MS_LENIENT)
    return ms_damaged(in, (int64_t)(5 * n), (int64_t)n, err, "%zu bytes are no record of 5%s%s", rest,
                      other ? "; the file looks like " : "", other ? other : "");
  ms_repaired(in, MS_REPAIR_TRUNCATED, (int64_t)rest);
  ms_status status = ms_sink_room(&s, (int64_t)n, err);
  if (status || (status = decode(&s, n, err)))
    return status;
  return ms_sink_close(&s, err);
}

ms_status ms_atis_encode(ms_buffer *out, const ms_events *e, ms_error *err) {
  static const char op[] = "atis";
  size_t bytes;
  if (__builtin_mul_overflow((size_t)e->n, 5, &bytes))
    return ms_fail(err, MS_ERANGE, "%s: %lld events are too many", op, (long long)e->n);
  ms_status status = ms_buffer_resize(out, bytes, op, err);
  if (status)
    return status;
  for (int64_t i = 0, before = 0; i < e->n; before = e->t[i++]) {
    int64_t t = e->t[i];
    uint8_t *r = out->p + 5 * i;
    if (e->x[i] > 255 || e->y[i] >= MARK || e->p[i] > 1)
      return ms_fail(err, MS_ERANGE, "%s: event %lld: expected x up to 255, y up to 239 and p 0 or 1, got (%d, %d), %d",
                     op, (long long)i, e->x[i], e->y[i], e->p[i]);
    if (t < before || t >= 1 << 23)
      return ms_fail(err, MS_ERANGE, "%s: event %lld: expected a time from %lld to %d us, got %lld", op, (long long)i,
                     (long long)before, (1 << 23) - 1, (long long)t);
    r[0] = (uint8_t)e->x[i];
    r[1] = (uint8_t)e->y[i];
    r[2] = (uint8_t)(e->p[i] << 7 | t >> 16);
    r[3] = (uint8_t)(t >> 8);
    r[4] = (uint8_t)t;
  }
  return MS_OK;
}

void ms_atis_stabilize(ms_events *e) {
  int64_t n = 0;
  for (int64_t i = 0; i < e->n; i++) {
    double t = (double)e->t[i], x = 4.0 + e->x[i], y = 2.0 + e->y[i];
    if (t <= 105e3) {
      x -= 3.5 * t / 105e3;
      y -= 7 * t / 105e3;
    } else if (t <= 210e3) {
      x = x - 3.5 - 3.5 * (t - 105e3) / 105e3;
      y = y - 7 + 7 * (t - 105e3) / 105e3;
    } else {
      x = x - 7 + 7 * (t - 210e3) / 105e3;
    }
    if (!(x >= 0 && x <= 33 && y >= 0 && y <= 33))
      continue;
    e->t[n] = e->t[i];
    e->x[n] = (uint16_t)rint(x);
    e->y[n] = (uint16_t)rint(y);
    e->p[n++] = e->p[i];
  }
  e->n = n;
}
