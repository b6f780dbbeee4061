/* Samples of a set in memory, moved by their programs and normalised. Programs that turn or shear nothing move rows and
** columns each on their own: a row of the output is then a few stretches of a row of the input, forwards, backwards or
** zero. The others have an input pixel for each of the output. */
#include "cpu.h"
#include "parallel.h"
#include <string.h>

/* What a row or a column of the output shows. */
typedef struct line {
  int32_t from; /* row or column of the input, -1: zero */
  uint32_t cut; /* bit i: step i shows zero where its bit is set in the row and in the column */
} line;

/* Columns [at, at + n) show from, from + step, ... */
typedef struct stretch {
  int32_t at, n, from, step;
  uint32_t cut;
} stretch;

/* How a sample's pixels move, in all of its frames: by stretches and rows, or by map. Neither: not at all. */
typedef struct moves {
  const stretch *stretches;
  int nstretches;
  const line *rows;
  const int64_t *map; /* [h][w], -1: zero */
} moves;

/* ---- programs ---- */

static int turns(const ms_augment_program *p) {
  int found = 0;
  for (int32_t i = 0; i < p->n; i++)
    found |= p->step[i].move == MS_MOVE_LINEAR;
  return found;
}

/* ms_augment_source along one axis. */
static line line_of(const ms_augment_program *p, int rows, int32_t size, int32_t v) {
  line out = {0, 0};
  for (int32_t i = p->n - 1; i >= 0; i--) {
    const ms_augment_step *s = &p->step[i];
    int32_t a = rows ? s->a : s->b;
    switch (s->move) {
    case MS_MOVE_SHIFT:
      v += a;
      if (v < 0 || v >= size)
        return (line){-1, 0};
      break;
    case MS_MOVE_ROLL:
      v -= v >= a ? a : a - size;
      break;
    case MS_MOVE_CUT:
      out.cut |= (uint32_t)(v >= a && v < (rows ? s->c : s->d)) << i;
      break;
    default:
      if (rows == (s->move == MS_MOVE_VFLIP))
        v = size - 1 - v;
    }
  }
  out.from = v;
  return out;
}

static int joins(const stretch *s, line l) {
  if (s->from < 0 || l.from < 0)
    return s->from < 0 && l.from < 0;
  return s->cut == l.cut &&
         (s->n == 1 ? l.from == s->from + 1 || l.from == s->from - 1 : l.from == s->from + s->n * s->step);
}

static int stretches_of(stretch *out, const ms_augment_program *p, int32_t w) {
  int n = 0;
  for (int32_t x = 0; x < w; x++) {
    line l = line_of(p, 0, w, x);
    if (n > 0 && joins(&out[n - 1], l)) {
      out[n - 1].step = l.from < out[n - 1].from ? -1 : 1;
      out[n - 1].n++;
    } else {
      out[n++] = (stretch){x, 1, l.from, 1, l.cut};
    }
  }
  return n;
}

MS_HOT static void map_of(int64_t *from, const ms_augment_program *p, int32_t h, int32_t w) {
  for (int32_t y = 0; y < h; y++)
    for (int32_t x = 0; x < w; x++)
      *from++ = ms_augment_source(p, h, w, y, x);
}

static size_t scratch_bytes(const ms_augment_args *a) {
  size_t h = (size_t)a->h, w = (size_t)a->w, lines = w * sizeof(stretch) + h * sizeof(line),
         map = h * w * sizeof(int64_t);
  return lines > map ? lines : map;
}

static moves moves_of(const ms_augment_args *a, const ms_augment_program *p, void *scratch) {
  int32_t h = (int32_t)a->h, w = (int32_t)a->w;
  if (turns(p)) {
    map_of(scratch, p, h, w);
    return (moves){.map = scratch};
  }
  stretch *stretches = scratch;
  line *rows = (line *)(void *)(stretches + w);
  for (int32_t y = 0; y < h; y++)
    rows[y] = line_of(p, 1, h, y);
  return (moves){.stretches = stretches, .nstretches = stretches_of(stretches, p, w), .rows = rows};
}

/* ---- pixels: u8 and c are constants wherever these are called from ---- */

/* What bytes and reals become: value k of a pixel. */
typedef struct normal {
  const ms_real *bytes, *mean, *std;
  int plain; /* reals stay what they are */
} normal;

MS_HD ms_real value(const normal *f, const void *x, int64_t i, int64_t k, int u8) {
  return u8 ? f->bytes[k * 256 + ((const uint8_t *)x)[i]] : (((const ms_real *)x)[i] - f->mean[k]) / f->std[k];
}

MS_HD void blank(const normal *f, ms_real *restrict y, int64_t n, int u8, int64_t c) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < c; k++)
      y[i * c + k] = u8 ? f->bytes[k * 256] : (MS_R(0) - f->mean[k]) / f->std[k];
}

/* n pixels, from pixel `from` of x on, the next one or the one before. */
MS_HD void forwards(const normal *f, ms_real *restrict y, const void *x, int64_t from, int64_t n, int u8, int64_t c) {
  if (!u8 && f->plain) {
    memcpy(y, (const ms_real *)x + from * c, (size_t)(n * c) * sizeof *y);
    return;
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < c; k++)
      y[i * c + k] = value(f, x, (from + i) * c + k, k, u8);
}

MS_HD void backwards(const normal *f, ms_real *restrict y, const void *x, int64_t from, int64_t n, int u8, int64_t c) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < c; k++)
      y[i * c + k] = value(f, x, (from - i) * c + k, k, u8);
}

MS_HD void row_of(const normal *f, const moves *m, line row, int64_t w, ms_real *y, const void *x, int u8, int64_t c) {
  if (row.from < 0) {
    blank(f, y, w, u8, c);
    return;
  }
  for (int i = 0; i < m->nstretches; i++) {
    const stretch *s = &m->stretches[i];
    if (s->from < 0 || (s->cut & row.cut))
      blank(f, y + s->at * c, s->n, u8, c);
    else if (s->step > 0)
      forwards(f, y + s->at * c, x, row.from * w + s->from, s->n, u8, c);
    else
      backwards(f, y + s->at * c, x, row.from * w + s->from, s->n, u8, c);
  }
}

MS_HD void frame_of(const normal *f, const moves *m, int64_t h, int64_t w, ms_real *y, const void *x, int u8,
                    int64_t c) {
  if (m->rows) {
    for (int64_t i = 0; i < h; i++)
      row_of(f, m, m->rows[i], w, y + i * w * c, x, u8, c);
  } else if (m->map) {
    for (int64_t i = 0; i < h * w; i++)
      if (m->map[i] < 0)
        blank(f, y + i * c, 1, u8, c);
      else
        forwards(f, y + i * c, x, m->map[i], 1, u8, c);
  } else {
    forwards(f, y, x, 0, h * w, u8, c);
  }
}

/* The usual numbers of channels as constants. */
MS_HOT static void bytes_frame(const normal *f, const moves *m, int64_t h, int64_t w, int64_t c, ms_real *y,
                               const void *x) {
  switch (c) {
  case 1:
    frame_of(f, m, h, w, y, x, 1, 1);
    break;
  case 2:
    frame_of(f, m, h, w, y, x, 1, 2);
    break;
  case 3:
    frame_of(f, m, h, w, y, x, 1, 3);
    break;
  default:
    frame_of(f, m, h, w, y, x, 1, c);
  }
}

MS_HOT static void reals_frame(const normal *f, const moves *m, int64_t h, int64_t w, int64_t c, ms_real *y,
                               const void *x) {
  switch (c) {
  case 1:
    frame_of(f, m, h, w, y, x, 0, 1);
    break;
  case 2:
    frame_of(f, m, h, w, y, x, 0, 2);
    break;
  default:
    frame_of(f, m, h, w, y, x, 0, c);
  }
}

/* ---- samples ---- */

/* Returns whether the sample exists. */
static int one_sample(const ms_augment_args *a, const normal *f, int64_t i, void *scratch) {
  static const line nothing = {-1, 0};
  int64_t at = a->index ? a->index[i] : i, frame = a->h * a->w * a->c;
  size_t width = a->x.dtype == MS_U8 ? 1 : sizeof(ms_real);
  int there = at >= 0 && at < a->samples;
  moves m = {0};
  int64_t h = a->h, w = a->w;
  if (!there) { /* one row that shows nothing */
    m.rows = &nothing;
    w *= h;
    h = 1;
  } else if (a->programs && a->programs[i].n > 0) {
    m = moves_of(a, &a->programs[i], scratch);
  }
  for (int64_t t = 0; t < a->steps; t++) {
    const uint8_t *x = (const uint8_t *)a->x.p + (there ? (size_t)((at * a->steps + t) * frame) * width : 0);
    (a->x.dtype == MS_U8 ? bytes_frame : reals_frame)(f, &m, h, w, a->c, a->y + t * a->y_step + i * frame, x);
  }
  return there;
}

static normal normal_of(const ms_augment_args *a) {
  normal f = {.bytes = a->bytes, .mean = a->mean, .std = a->std, .plain = a->x.dtype != MS_U8};
  for (int64_t k = 0; f.plain && k < a->c; k++)
    f.plain = a->mean[k] == 0 && a->std[k] == 1;
  return f;
}

/* One sample; *lost: there was no memory for its program. */
static void run(const ms_augment_args *a, const normal *f, int64_t i, int64_t *bad, int64_t *lost) {
  void *scratch = a->programs ? ms_cpu_scratch(0, scratch_bytes(a)) : NULL;
  if (scratch || !a->programs)
    *bad += !one_sample(a, f, i, scratch);
  else
    ++*lost;
}

ms_status ms_cpu_augment(ms_stream *s, const ms_augment_args *a) {
  (void)s;
  int64_t cost = a->steps * a->h * a->w * a->c, bad = 0, lost = 0;
  if (a->n * cost == 0)
    return MS_OK;
  const normal f = normal_of(a);
  if (MS_WORTH(a->n, cost)) {
    MS_PRAGMA(omp parallel for schedule(static) num_threads(ms_cpu_threads()) reduction(+ : bad, lost))
    for (int64_t i = 0; i < a->n; i++)
      run(a, &f, i, &bad, &lost);
  } else { /* a loader's threads come here sample by sample, and need no team of threads for that */
    for (int64_t i = 0; i < a->n; i++)
      run(a, &f, i, &bad, &lost);
  }
  if (bad)
    *a->bad = 1;
  return lost ? MS_EMEM : MS_OK;
}
