#include "sink.h"

void ms_sink_open(ms_sink *s, ms_events *out, const ms_input *in, const ms_events_options *opt, int default_width,
                  int default_height) {
  out->n = 0;
  out->width = opt->width > 0 ? opt->width : default_width;
  out->height = opt->height > 0 ? opt->height : default_height;
  *s = (ms_sink){.in = in,
                 .out = out,
                 .width = (uint64_t)out->width,
                 .height = (uint64_t)out->height,
                 .last = INT64_MIN,
                 .start = opt->start_us ? opt->start_us : INT64_MIN,
                 .end = opt->end_us ? opt->end_us : INT64_MAX};
}

ms_status ms_sink_room(ms_sink *s, int64_t more, ms_error *err) {
  ms_events *e = s->out;
  int64_t need = s->n + more, room = e->room + e->room / 2;
  if (need > e->room) {
    ms_status status = ms_events_reserve(e, need > room ? need : room, s->in->op, err);
    if (status)
      return status;
  }
  s->t = e->t;
  s->x = e->x;
  s->y = e->y;
  s->p = e->p;
  return MS_OK;
}

ms_status ms_sink_odd(ms_odd *what, const ms_sink *s, int64_t t, int64_t x, int64_t y, int64_t byte, int64_t record,
                      ms_error *err) {
  const ms_input *in = s->in;
  int inside = (uint64_t)x < s->width && (uint64_t)y < s->height;
  *what = MS_ODD_KEPT;
  if (in->policy == MS_ORACLE && (x < 0 || x > UINT16_MAX || y < 0 || y > UINT16_MAX))
    return ms_damaged(in, byte, record, err, "coordinates (%lld, %lld) need more than 16 bits", (long long)x,
                      (long long)y);
  if (in->policy == MS_ORACLE)
    return MS_OK;
  if (in->policy == MS_STRICT && !inside)
    return ms_damaged(in, byte, record, err, "event at (%lld, %lld), outside of the sensor of %d x %d", (long long)x,
                      (long long)y, s->out->width, s->out->height);
  if (in->policy == MS_STRICT)
    return ms_damaged(in, byte, record, err, "time runs backwards, from %lld to %lld us", (long long)s->last,
                      (long long)t);
  *what = inside ? MS_ODD_RAISED : MS_ODD_DROPPED;
  return MS_OK;
}

ms_status ms_sink_empty(const ms_input *in, int window, ms_error *err) {
  return ms_fail(err, MS_EFORMAT, "%s: %.400s: no events%s", in->op, in->path,
                 window ? " between start_us and end_us" : "");
}

ms_status ms_sink_close(ms_sink *s, ms_error *err) {
  ms_repaired(s->in, MS_REPAIR_TIME, s->raised);
  ms_repaired(s->in, MS_REPAIR_RANGE, s->outside);
  if (s->n == 0 && s->in->policy == MS_STRICT)
    return ms_sink_empty(s->in, s->start != INT64_MIN || s->end != INT64_MAX, err);
  s->out->n = s->n;
  return MS_OK;
}
