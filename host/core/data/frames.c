#include "frames.h"
#include "../tensor.h"
#include "hot.h"
#include <math.h>
#include <string.h>

const ms_frames_preset *ms_frames_preset_at(int i) {
  static const ms_frames_preset presets[] = {
#define MS_FRAMES_PRESET(name, layout, size, alpha, ...) {name, MS_LAYOUT_##layout, size, alpha, {__VA_ARGS__}},
#include "frames.def"
#undef MS_FRAMES_PRESET
  };
  return i >= 0 && i < (int)(sizeof presets / sizeof *presets) ? &presets[i] : NULL;
}

void ms_repair_time(int64_t *t, int64_t n) {
  uint64_t shift = 0, first = n > 0 ? (uint64_t)t[0] : 0; /* unsigned: absurd times wrap, and stay out of order */
  int64_t before = 0;
  for (int64_t i = 0; i < n; i++) {
    if (i > 0 && t[i] < before)
      shift = (uint64_t)t[i - 1] + first; /* t[i - 1] has lost `first` already */
    before = t[i];
    int64_t moved = (int64_t)((uint64_t)t[i] + shift - first);
    t[i] = moved > 0 ? moved : 0;
  }
}

/* ---- where the memory goes ---- */

#define MOST_NUMBERS ((int64_t)1 << 28) /* of all frames: a damaged time must not ask for more memory than 1 GiB */

typedef struct plan {
  const ms_frames_options *o;
  int64_t T, h, w, c;
  const int64_t *t;     /* [n] */
  int64_t first;        /* the smallest of them */
  int ordered;          /* they never run backwards */
  int64_t *segment;     /* [T][2]: first event, behind the last */
  int32_t *count;       /* [h][w][c] of one frame */
  int32_t *of_x, *of_y; /* column or row of the sensor -> offset in a frame */
} plan;

static ms_status check(const ms_events *e, const ms_frames_options *o, ms_error *err) {
  if (o->split != MS_SPLIT_DURATION && (o->T < 1 || o->T > MS_FRAMES_MOST))
    return ms_fail(err, MS_ERANGE, "integrate: T: expected 1 to %d, got %lld", MS_FRAMES_MOST, (long long)o->T);
  if (o->split == MS_SPLIT_DURATION && o->duration_us < 1)
    return ms_fail(err, MS_ERANGE, "integrate: duration: expected at least 1 us, got %lld", (long long)o->duration_us);
  if (e->width < 1 || e->height < 1 || e->width > 65536 || e->height > 65536)
    return ms_fail(err, MS_ERANGE, "integrate: events: expected a sensor of 1 to 65536 pixels a side, got %d x %d",
                   e->width, e->height);
  if (o->height < 0 || o->width < 0 || o->height > 65536 || o->width > 65536)
    return ms_fail(err, MS_ERANGE, "integrate: height, width: expected 0 to 65536, got %d, %d", o->height, o->width);
  if (o->dtype != MS_U8 && o->dtype != MS_F32)
    return ms_fail(err, MS_ETYPE, "integrate: dtype: expected uint8 or float32, got %s", ms_dtype_name(o->dtype));
  if (o->dtype == MS_U8 && (o->polarity == MS_POLARITY_DIFFERENCE || o->post == MS_POST_LOG1P))
    return ms_fail(err, MS_ETYPE, "integrate: dtype: expected float32 with a difference or a logarithm, got uint8");
  if (o->occupancy && o->polarity == MS_POLARITY_DIFFERENCE)
    return ms_fail(err, MS_ERANGE, "integrate: occupancy: expected false with a difference, got true");
  if (e->n > INT32_MAX)
    return ms_fail(err, MS_ERANGE, "integrate: events: expected at most 2147483647, got %lld", (long long)e->n);
  return MS_OK;
}

MS_HOT
static int most_of(const uint16_t *v, int64_t n) {
  uint16_t most = 0;
  for (int64_t i = 0; i < n; i++)
    most = v[i] > most ? v[i] : most;
  return most;
}

/* The largest coordinates in one pass, so that counting needs no checks. */
static ms_status check_range(const ms_events *e, ms_error *err) {
  if (most_of(e->x, e->n) < e->width && most_of(e->y, e->n) < e->height)
    return MS_OK;
  int64_t i = 0;
  while (e->x[i] < e->width && e->y[i] < e->height)
    i++;
  return ms_fail(err, MS_ERANGE, "integrate: events: event %lld: expected x below %d and y below %d, got %d, %d",
                 (long long)i, e->width, e->height, e->x[i], e->y[i]);
}

static ms_status lay_out(plan *p, ms_buffer *scratch, const ms_events *e, ms_error *err) {
  const ms_frames_options *o = p->o;
  p->c = o->polarity == MS_POLARITY_BOTH || o->polarity == MS_POLARITY_DEAD ? 2 : 1;
  p->h = o->height ? o->height : o->transpose ? e->width : e->height;
  p->w = o->width ? o->width : o->transpose ? e->height : e->width;
  int64_t cells = p->h * p->w * p->c;
  if (cells > MOST_NUMBERS / p->T)
    return ms_fail(err, MS_ERANGE, "integrate: %lld frames of %lld x %lld are too large", (long long)p->T,
                   (long long)p->h, (long long)p->w);
  size_t times = p->t == e->t ? 0 : (size_t)e->n * sizeof(int64_t), segments = 2 * (size_t)p->T * sizeof(int64_t);
  size_t counts = ((size_t)cells + (size_t)e->width + (size_t)e->height) * sizeof(int32_t);
  ms_status status = ms_buffer_resize(scratch, times + segments + counts, "integrate", err);
  if (status)
    return status;
  if (times)
    p->t = (const int64_t *)(const void *)scratch->p;
  p->segment = (int64_t *)(void *)(scratch->p + times);
  p->count = (int32_t *)(void *)(p->segment + 2 * p->T);
  p->of_x = p->count + cells;
  p->of_y = p->of_x + e->width;
  int64_t columns = o->transpose ? p->h : p->w, rows = o->transpose ? p->w : p->h;
  int64_t step_x = o->transpose ? p->w * p->c : p->c, step_y = o->transpose ? p->c : p->w * p->c;
  for (int64_t x = 0; x < e->width; x++)
    p->of_x[x] = (int32_t)(x * columns / e->width * step_x);
  for (int64_t y = 0; y < e->height; y++)
    p->of_y[y] = (int32_t)(y * rows / e->height * step_y);
  return MS_OK;
}

/* ---- cutting ---- */

/* The first event at or after time `at`. */
static int64_t find(const int64_t *t, int64_t n, int64_t at) {
  int64_t low = 0;
  while (low < n) {
    int64_t middle = low + (n - low) / 2;
    if (t[middle] < at)
      low = middle + 1;
    else
      n = middle;
  }
  return low;
}

/* The first event that is earlier than the one before it; n: none. The signs of all differences in one go, which vectors
** of 64-bit integers can do where comparisons they cannot. */
MS_HOT
static int64_t first_disorder(const int64_t *t, int64_t n) {
  uint64_t signs = 0;
  for (int64_t i = 1; i < n; i++)
    signs |= (uint64_t)t[i] - (uint64_t)t[i - 1];
  int64_t i = signs >> 63 ? 1 : n;
  while (i < n && t[i] >= t[i - 1])
    i++;
  return i < n ? i : n;
}

static void cut_by_number(const plan *p, int64_t n) {
  int64_t d = n / p->T;
  for (int64_t i = 0; i < p->T; i++) {
    p->segment[2 * i] = i * d;
    p->segment[2 * i + 1] = (i + 1) * d;
  }
  if (p->o->split == MS_SPLIT_NUMBER)
    p->segment[2 * p->T - 1] = n;
}

static ms_status empty_window(const plan *p, int64_t i, int64_t from, int64_t dt, ms_error *err) {
  return ms_fail(err, MS_ERANGE, "integrate: frame %lld of %lld: no events in its window of %lld to %lld us",
                 (long long)i, (long long)p->T, (long long)from, (long long)(from + dt));
}

/* SpikingJelly takes everything between the first and the last event whose time is in the window. */
static void widest(int64_t s[2], const int64_t *t, int64_t n, int64_t from, int64_t to) {
  s[0] = s[1] = 0;
  for (int64_t k = 0; k < n; k++)
    if (t[k] >= from && t[k] < to) {
      s[0] = s[1] == 0 ? k : s[0];
      s[1] = k + 1;
    }
}

static ms_status cut_by_time(const plan *p, const int64_t *t, int64_t n, ms_error *err) {
  int64_t dt = (t[n - 1] - t[0]) / p->T;
  if (dt < 1)
    return ms_fail(err, MS_ERANGE, "integrate: T: expected at least 1 us for each frame, got %lld frames of %lld us",
                   (long long)p->T, (long long)(t[n - 1] - t[0]));
  for (int64_t i = 0; i < p->T; i++) {
    int64_t from = t[0] + i * dt, *s = p->segment + 2 * i;
    if (p->ordered) {
      s[0] = find(t, n, from);
      s[1] = find(t, n, from + dt);
    } else {
      widest(s, t, n, from, from + dt);
    }
    if (p->o->split == MS_SPLIT_TIME && s[0] == s[1] && p->o->policy != MS_LENIENT)
      return empty_window(p, i, from, dt, err);
  }
  if (p->o->split == MS_SPLIT_TIME)
    p->segment[2 * p->T - 1] = n;
  return MS_OK;
}

/* Event k is in part (t - t_0) T div (t_last - t_0 + 1). */
static ms_status cut_span(const plan *p, const int64_t *t, int64_t n, ms_error *err) {
  int64_t span = t[n - 1] - t[0] + 1, most;
  if (__builtin_mul_overflow(span, p->T, &most) || most > INT64_MAX - p->T)
    return ms_fail(err, MS_ERANGE, "integrate: events: %lld us are too long", (long long)span);
  for (int64_t i = 0; i < p->T; i++) {
    int64_t behind = ((i + 1) * span + p->T - 1) / p->T;
    p->segment[2 * i] = i ? p->segment[2 * i - 1] : 0;
    p->segment[2 * i + 1] = behind < span ? find(t, n, t[0] + behind) : n;
  }
  return MS_OK;
}

static void cut_by_duration(const plan *p, int64_t n) {
  for (int64_t i = 0; i < p->T; i++) {
    p->segment[2 * i] = i ? p->segment[2 * i - 1] : 0;
    p->segment[2 * i + 1] = i + 1 < p->T ? find(p->t, n, p->first + (i + 1) * p->o->duration_us) : n;
  }
}

static ms_status check_time(plan *p, int64_t n, ms_error *err) {
  const ms_frames_options *o = p->o;
  int64_t span, at = first_disorder(p->t, n);
  p->ordered = at == n;
  int64_t last = n ? p->t[at - 1] : 0;
  p->first = n ? p->t[0] : 0;
  for (int64_t i = at; i < n; i++) {
    p->first = p->t[i] < p->first ? p->t[i] : p->first;
    last = p->t[i] > last ? p->t[i] : last;
  }
  if (__builtin_sub_overflow(last, p->first, &span) || span == INT64_MAX)
    return ms_fail(err, MS_ERANGE, "integrate: events: the times overflow");
  if (p->ordered || (o->policy == MS_ORACLE && (o->split == MS_SPLIT_TIME || o->split == MS_SPLIT_DURATION)))
    return MS_OK;
  return ms_fail(err, MS_ERANGE, "integrate: events: event %lld: expected a time of at least %lld us, got %lld",
                 (long long)at, (long long)p->t[at - 1], (long long)p->t[at]);
}

/* The number of frames follows from the times. */
static ms_status measure(plan *p, int64_t n, ms_error *err) {
  int64_t duration = p->o->duration_us, length = n ? p->t[n - 1] - p->first : 0;
  p->T = length / duration + (length % duration != 0);
  if (p->T < 1)
    return ms_fail(err, MS_ERANGE, "integrate: events: expected a recording longer than 0 us, got %lld events at once",
                   (long long)n);
  if (p->T > MS_FRAMES_MOST)
    return ms_fail(err, MS_ERANGE, "integrate: duration: expected at most %d frames, got %lld", MS_FRAMES_MOST,
                   (long long)p->T);
  return MS_OK;
}

static ms_status cut(const plan *p, int64_t n, ms_error *err) {
  ms_split split = p->o->split;
  if (n == 0 && split == MS_SPLIT_TIME && p->o->policy != MS_LENIENT)
    return ms_fail(err, MS_ERANGE, "integrate: events: expected at least 1, got 0");
  if (split == MS_SPLIT_SPAN && n > 0)
    return cut_span(p, p->t, n, err);
  if ((split == MS_SPLIT_TIME || split == MS_SPLIT_TIME_BINS) && n > 0)
    return cut_by_time(p, p->t, n, err);
  if (split == MS_SPLIT_DURATION)
    cut_by_duration(p, n);
  else
    cut_by_number(p, n);
  return MS_OK;
}

/* ---- counting ---- */

static void count_events(const plan *p, const ms_events *e, int64_t from, int64_t to) {
  static const int32_t offsets[MS_POLARITY_COUNT][2] = {{0, 1}, {0, 0}, {0, 0}, {1, 1}};
  const int32_t *offset = offsets[p->o->polarity], sign = p->o->polarity == MS_POLARITY_DIFFERENCE ? -1 : 1;
  int32_t *count = p->count;
  memset(count, 0, (size_t)(p->h * p->w * p->c) * sizeof *count);
  if (sign > 0) {
    for (int64_t k = from; k < to; k++)
      count[p->of_x[e->x[k]] + p->of_y[e->y[k]] + offset[e->p[k] != 0]]++;
  } else {
    for (int64_t k = from; k < to; k++)
      count[p->of_x[e->x[k]] + p->of_y[e->y[k]]] += e->p[k] ? 1 : -1;
  }
}

MS_HOT
static int32_t largest(const int32_t *count, int64_t cells) {
  int32_t most = 0;
  for (int64_t i = 0; i < cells; i++) {
    int32_t v = count[i] < 0 ? -count[i] : count[i];
    most = v > most ? v : most;
  }
  return most;
}

static void clip(int32_t *count, int64_t cells) {
  for (int64_t i = 0; i < cells; i++)
    count[i] = (count[i] > 0) - (count[i] < 0);
}

MS_HOT
static void to_reals(const plan *p, ms_real *out, int64_t cells) {
  const int32_t *count = p->count;
  int32_t most = p->o->post == MS_POST_MAX ? largest(count, cells) : 1;
  if (most == 0 && p->o->policy != MS_ORACLE)
    most = 1;
  if (p->o->post == MS_POST_LOG1P)
    for (int64_t i = 0; i < cells; i++)
      out[i] = (ms_real)(count[i] < 0 ? -log1p(-(double)count[i]) : log1p((double)count[i]));
  else if (most == 1)
    for (int64_t i = 0; i < cells; i++)
      out[i] = (ms_real)count[i];
  else
    for (int64_t i = 0; i < cells; i++)
      out[i] = (ms_real)count[i] / (ms_real)most;
}

static ms_status to_bytes(const plan *p, uint8_t *out, int64_t cells, int64_t frame, ms_error *err) {
  const int32_t *count = p->count;
  int32_t most = largest(count, cells);
  if (p->o->post == MS_POST_MAX) {
    for (int64_t i = 0; i < cells; i++)
      out[i] = most ? (uint8_t)((float)count[i] / (float)most * 255) : 0;
    return MS_OK;
  }
  if (most > 255 && p->o->policy == MS_STRICT)
    return ms_fail(err, MS_ERANGE, "integrate: frame %lld: %d events in one pixel, uint8 holds 255", (long long)frame,
                   most);
  for (int64_t i = 0; i < cells; i++)
    out[i] = (uint8_t)(count[i] > 255 ? 255 : count[i]);
  return MS_OK;
}

static ms_status count_frames(const plan *p, ms_picture *out, const ms_events *e, ms_error *err) {
  int64_t cells = p->h * p->w * p->c;
  ms_status status = MS_OK;
  for (int64_t i = 0; i < p->T && !status; i++) {
    count_events(p, e, p->segment[2 * i], p->segment[2 * i + 1]);
    if (p->o->occupancy || p->o->post == MS_POST_CLIP)
      clip(p->count, cells);
    if (p->o->dtype == MS_U8)
      status = to_bytes(p, ms_picture_bytes(out) + i * cells, cells, i, err);
    else
      to_reals(p, ms_picture_reals(out) + i * cells, cells);
  }
  return status;
}

static int by_time(ms_split split) {
  return split != MS_SPLIT_NUMBER && split != MS_SPLIT_EVENT_BINS;
}

ms_status ms_frames_integrate(ms_picture *out, ms_buffer *scratch, const ms_events *e, const ms_frames_options *opt,
                              ms_error *err) {
  plan p = {.o = opt, .T = opt->T, .t = e->t};
  ms_status status;
  if ((status = check(e, opt, err)) || (status = check_range(e, err)))
    return status;
  if (by_time(opt->split) && opt->repair_time && e->n > 0) {
    if ((status = ms_buffer_resize(scratch, (size_t)e->n * sizeof *e->t, "integrate", err)))
      return status;
    memcpy(scratch->p, e->t, scratch->bytes);
    ms_repair_time((int64_t *)(void *)scratch->p, e->n);
    p.t = (const int64_t *)(const void *)scratch->p;
  }
  if (by_time(opt->split) && (status = check_time(&p, e->n, err)))
    return status;
  if (opt->split == MS_SPLIT_DURATION && (status = measure(&p, e->n, err)))
    return status;
  if ((status = lay_out(&p, scratch, e, err)) || (status = cut(&p, e->n, err)) ||
      (status = ms_picture_shape(out, opt->dtype, p.T, p.h, p.w, p.c, "integrate", err)))
    return status;
  return count_frames(&p, out, e, err);
}
