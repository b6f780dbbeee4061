/* Where the readers of recordings put each event: it checks order, sensor and window, and does what the policy says. */
#ifndef MS_SINK_H
#define MS_SINK_H

#include "events.h"

typedef enum ms_events_format {
  MS_EVENTS_AUTO, /* by the first bytes, else by the ending of the name */
  MS_EVENTS_AEDAT2,
  MS_EVENTS_AEDAT3,
  MS_EVENTS_ATIS,
  MS_EVENTS_MAT5,
  MS_EVENTS_NPZ
} ms_events_format;

/* Which way up a DVS128 address is read, after the published code that does so. With column c and row r as in the address:
** x, y = 127 - r, 127 - c (sj); 127 - c, 127 - r (jaer); 127 - c, r (etf); r, 127 - c (trt). */
typedef enum ms_aedat2_layout { MS_LAYOUT_SJ, MS_LAYOUT_JAER, MS_LAYOUT_ETF, MS_LAYOUT_TRT } ms_aedat2_layout;

/* How a recording is read; {0} is the default of everything. */
typedef struct ms_events_options {
  ms_events_format format;
  ms_policy policy;         /* decoders from memory follow ms_input's instead */
  ms_aedat2_layout layout;  /* AEDAT 2.0 only */
  int width, height;        /* of the sensor; 0: 128 x 128 (AEDAT), 240 x 180 (ATIS, MAT), what the events need (npz) */
  int64_t start_us, end_us; /* only events with start <= t < end; end 0: to the last */
  int flip_x, flip_y;       /* afterwards: x = width - 1 - x, y = height - 1 - y */
  int stabilize;            /* afterwards: ms_atis_stabilize */
} ms_events_options;

/* A loop over events works on a copy of its own, whose address goes nowhere, so that it stays in registers:
** `ms_sink own = *s; ...; *s = own;`. */
typedef struct ms_sink {
  const ms_input *in;
  ms_events *out;
  int64_t *t; /* of out */
  uint16_t *x, *y;
  uint8_t *p;
  uint64_t width, height;
  int64_t n, last, start, end;
  int64_t raised, outside; /* repairs so far */
} ms_sink;

/* Empties out; default_width, default_height: where the options name no sensor. */
void ms_sink_open(ms_sink *s, ms_events *out, const ms_input *in, const ms_events_options *opt, int default_width,
                  int default_height);
ms_status ms_sink_room(ms_sink *s, int64_t more, ms_error *err); /* for that many events; before they are added */
ms_status ms_sink_close(ms_sink *s, ms_error *err);              /* out->n, repairs; no event at all: strict fails */
/* What strict says of a recording without events. window: only a part of it was asked for. */
ms_status ms_sink_empty(const ms_input *in, int window, ms_error *err);

/* What becomes of an event out of order or off the sensor. */
typedef enum ms_odd { MS_ODD_KEPT, MS_ODD_RAISED, MS_ODD_DROPPED } ms_odd;
ms_status ms_sink_odd(ms_odd *what, const ms_sink *s, int64_t t, int64_t x, int64_t y, int64_t byte, int64_t record,
                      ms_error *err);

static inline ms_status ms_sink_add(ms_sink *s, int64_t t, int64_t x, int64_t y, int p, int64_t byte, int64_t record,
                                    ms_error *err) {
  if (__builtin_expect(t < s->last || (uint64_t)x >= s->width || (uint64_t)y >= s->height, 0)) {
    ms_sink copy = *s;
    ms_odd what;
    ms_status status = ms_sink_odd(&what, &copy, t, x, y, byte, record, err);
    if (status)
      return status;
    s->outside += what == MS_ODD_DROPPED;
    s->raised += what == MS_ODD_RAISED;
    if (what == MS_ODD_DROPPED)
      return MS_OK;
    t = what == MS_ODD_RAISED ? s->last : t;
  }
  s->last = t;
  if (t >= s->start && t < s->end) {
    int64_t i = s->n++;
    s->t[i] = t;
    s->x[i] = (uint16_t)x;
    s->y[i] = (uint16_t)y;
    s->p[i] = (uint8_t)p;
  }
  return MS_OK;
}

#endif
