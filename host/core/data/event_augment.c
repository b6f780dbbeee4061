#include "event_augment.h"
#include "draws.h"
#include <string.h>

/* Planes of the draws: which block belongs to what. */
enum { PLANE_CHOICE = MS_PLANES_EVENTS, PLANE_FLIP, PLANE_SURVIVE, PLANE_ORDER };

static int64_t below(uint32_t word, int64_t n) {
  return (int64_t)((uint64_t)word * (uint64_t)n >> 32);
}

/* Keeps the events with keep[i]; how many there are was counted before. */
static void keep_marked(ms_events *e, const uint8_t *keep) {
  int64_t to = 0;
  for (int64_t i = 0; i < e->n; i++) {
    e->t[to] = e->t[i];
    e->x[to] = e->x[i];
    e->y[to] = e->y[i];
    e->p[to] = e->p[i];
    to += keep[i] != 0;
  }
  e->n = to;
}

static int64_t mark_time(uint8_t *keep, const ms_events *e, ms_philox4 r, int released) {
  int64_t first = released ? 0 : e->t[0], last = e->t[0], left = 0;
  for (int64_t i = 0; i < e->n; i++)
    last = e->t[i] > last ? e->t[i] : last;
  double length = (double)last - (double)first, from = (double)ms_random_uniform(r.w[1]);
  double to = from + (double)(1 + below(r.w[2], 9)) / 10;
  for (int64_t i = 0; i < e->n; i++) {
    double t = (double)e->t[i] - (double)first;
    left += keep[i] = t < length * from || t > length * to;
  }
  return left;
}

/* The sides of the box along an axis, both inside. */
static void box(double side[2], uint32_t word, int size, double ratio) {
  double extent = size * ratio, at = (double)ms_random_uniform(word) * size - extent / 2;
  side[0] = at > 0 ? (double)(int)at : 0;
  side[1] = side[0] + extent < size ? side[0] + extent : size;
}

static int64_t mark_area(uint8_t *keep, const ms_events *e, ms_philox4 r, int released) {
  double ratio = (double)(1 + below(r.w[1], 5)) / 20, bx[2], by[2];
  int64_t left = 0;
  box(bx, r.w[2], e->width, ratio);
  box(by, r.w[3], e->height, ratio);
  for (int64_t i = 0; i < e->n; i++) {
    int out_x = e->x[i] < bx[0] || e->x[i] > bx[1], out_y = e->y[i] < by[0] || e->y[i] > by[1];
    left += keep[i] = (uint8_t)(released ? out_x & out_y : out_x | out_y);
  }
  return left;
}

/* Each subset of the right size with the same probability (selection sampling, Knuth 3.4.2 S). */
static int64_t mark_random(uint8_t *keep, const ms_events *e, ms_philox4 r, uint64_t key) {
  int64_t left = e->n - e->n * (1 + below(r.w[1], 9)) / 10, need = left;
  ms_philox4 draw = {{0}};
  for (int64_t i = 0; i < e->n; i++) {
    if (i % 4 == 0)
      draw = ms_philox_block(key, (uint64_t)(i / 4), PLANE_SURVIVE);
    keep[i] = below(draw.w[i % 4], e->n - i) < need;
    need -= keep[i];
  }
  return left;
}

static void swap(ms_events *e, int64_t i, int64_t j) {
  int64_t t = e->t[i];
  uint16_t x = e->x[i], y = e->y[i];
  uint8_t p = e->p[i];
  e->t[i] = e->t[j];
  e->x[i] = e->x[j];
  e->y[i] = e->y[j];
  e->p[i] = e->p[j];
  e->t[j] = t;
  e->x[j] = x;
  e->y[j] = y;
  e->p[j] = p;
}

static void shuffle(ms_events *e, uint64_t key) {
  for (int64_t i = e->n - 1; i > 0; i--)
    swap(e, i, below(ms_philox_block(key, (uint64_t)i, PLANE_ORDER).w[0], i + 1));
}

static ms_status drop(ms_events *e, ms_buffer *scratch, const ms_event_augment *a, uint64_t key, uint64_t sample,
                      ms_error *err) {
  ms_philox4 r = ms_philox_block(key, sample, PLANE_CHOICE);
  ms_event_drop kind = a->drop == MS_DROP_ANY ? (ms_event_drop)below(r.w[0], 4) : a->drop;
  if (kind == MS_DROP_NONE || e->n == 0)
    return MS_OK;
  ms_status status = ms_buffer_resize(scratch, (size_t)e->n, "event_drop", err);
  if (status)
    return status;
  uint64_t own = ms_philox_draw(key, (int64_t)sample);
  int64_t left = kind == MS_DROP_TIME   ? mark_time(scratch->p, e, r, a->released)
                 : kind == MS_DROP_AREA ? mark_area(scratch->p, e, r, a->released)
                                        : mark_random(scratch->p, e, r, own);
  if (left > 0) {
    keep_marked(e, scratch->p);
    if (kind == MS_DROP_RANDOM && a->released)
      shuffle(e, own);
  }
  return MS_OK;
}

static void reverse(ms_events *e) {
  if (e->n == 0)
    return;
  uint64_t ends = (uint64_t)e->t[0] + (uint64_t)e->t[e->n - 1]; /* which may pass 63 bits, the results do not */
  for (int64_t i = 0; i < e->n / 2; i++)
    swap(e, i, e->n - 1 - i);
  for (int64_t i = 0; i < e->n; i++)
    e->t[i] = (int64_t)(ends - (uint64_t)e->t[i]);
}

ms_status ms_events_augment(ms_events *e, ms_buffer *scratch, const ms_event_augment *a, uint64_t key, uint64_t sample,
                            ms_error *err) {
  ms_status status = drop(e, scratch, a, key, sample, err);
  if (status)
    return status;
  ms_philox4 r = ms_philox_block(key, sample, PLANE_FLIP);
  if ((double)ms_random_uniform(r.w[0]) < a->flip_x)
    for (int64_t i = 0; i < e->n; i++)
      e->x[i] = (uint16_t)(e->width - 1 - e->x[i]);
  if ((double)ms_random_uniform(r.w[1]) < a->flip_polarity)
    for (int64_t i = 0; i < e->n; i++)
      e->p[i] = !e->p[i];
  if ((double)ms_random_uniform(r.w[2]) < a->reverse)
    reverse(e);
  return MS_OK;
}
