/* Weight gradient of spikes by events: for each input channel and tap the dL/dy that its spikes reached is summed.
**
** A block of input channels is one piece of work; it walks all images in order, strip by strip. Each channel's spikes
** of a strip become a list of positions; dL/dy of the strip, a panel of output channels at a time, is copied into the
** first level cache with zeros around it, so that no spike needs a test. The sums of all taps (or nine of them) stay
** in registers while a list is walked.
**
** With u = iy + pad = a * stride + phase, tap k reads line (u - k * dilation) / stride = a + e of dL/dy where that
** divides: e, and which taps take part, depend on the phase only. So lists are kept for each phase, and a tap is a
** constant distance in the padded copy. */
#include "conv_event.h"

enum {
  NEAR = 32 * 1024 / (int)sizeof(ms_real), /* padded dL/dy of a strip */
  SUMS = (1 << 20) / (int)sizeof(ms_real), /* sums of a piece of work */
  LEAST_LINES = 4,                         /* of a strip, unless the image has fewer */
  BLOCK = 64                               /* most input channels of a piece */
};

/* ---- micro kernel ---- */

/* sum[tap] += count * dy[list[e] + shift[tap]] over events e; rows of MS_NR elements. */
typedef struct list_walk {
  const uint16_t *list;
  const uint8_t *count; /* NULL: all 1 */
  int64_t n;
  const ms_real *dy;
  const int64_t *shift; /* in elements */
  ms_real *sum;
} list_walk;

#define MS_WALK(isa, target, bytes, most)                                                                              \
  typedef ms_real vec_##isa __attribute__((vector_size(bytes), aligned(sizeof(ms_real)), may_alias));                  \
  enum { lanes_##isa = (bytes) / (int)sizeof(ms_real) };                                                               \
  target MS_FUSED static inline __attribute__((always_inline)) void add_##isa(                                         \
      vec_##isa(*sum)[2], const list_walk *l, int64_t e, int j, int taps, int vectors) {                               \
    const ms_real *dy = l->dy + (int64_t)l->list[e] * MS_NR + j;                                                       \
    if (l->count) {                                                                                                    \
      ms_real count = l->count[e];                                                                                     \
      _Pragma("GCC unroll 9") for (int t = 0; t < taps; t++) _Pragma("GCC unroll 2") for (int v = 0; v < vectors; v++) \
          sum[t][v] += count * *(const vec_##isa *)(dy + l->shift[t] + v * lanes_##isa);                               \
    } else {                                                                                                           \
      _Pragma("GCC unroll 9") for (int t = 0; t < taps; t++) _Pragma("GCC unroll 2") for (int v = 0; v < vectors; v++) \
          sum[t][v] += *(const vec_##isa *)(dy + l->shift[t] + v * lanes_##isa);                                       \
    }                                                                                                                  \
  }                                                                                                                    \
  target MS_FUSED static inline __attribute__((always_inline)) void columns_##isa(                                     \
      const list_walk *w, int weighted, int j, int taps, int vectors, int sets) {                                      \
    list_walk l = *w;                                                                                                  \
    if (!weighted)                                                                                                     \
      l.count = NULL;                                                                                                  \
    vec_##isa sum[4][9][2] = {{{{0}}}};                                                                                \
    _Pragma("GCC unroll 9") for (int t = 0; t < taps; t++) _Pragma("GCC unroll 2") for (int v = 0; v < vectors; v++)   \
        sum[0][t][v] = *(vec_##isa *)(l.sum + t * MS_NR + j + v * lanes_##isa);                                        \
    int64_t e = 0;                                                                                                     \
    for (; e + sets <= l.n; e += sets) {                                                                               \
      _Pragma("GCC unroll 4") for (int s = 0; s < sets; s++) add_##isa(sum[s], &l, e + s, j, taps, vectors);           \
    }                                                                                                                  \
    for (; e < l.n; e++)                                                                                               \
      add_##isa(sum[0], &l, e, j, taps, vectors);                                                                      \
    _Pragma("GCC unroll 9") for (int t = 0; t < taps; t++) _Pragma("GCC unroll 2") for (int v = 0; v < vectors; v++) { \
      _Pragma("GCC unroll 4") for (int s = 1; s < sets; s++) sum[0][t][v] += sum[s][t][v];                             \
      *(vec_##isa *)(l.sum + t * MS_NR + j + v * lanes_##isa) = sum[0][t][v];                                          \
    }                                                                                                                  \
  }                                                                                                                    \
  target MS_FUSED static inline __attribute__((always_inline)) void taps_##isa(const list_walk *l, int weighted,       \
                                                                               int columns, int taps, int sets) {      \
    int j = 0;                                                                                                         \
    for (; columns - j >= most * lanes_##isa; j += most * lanes_##isa)                                                 \
      columns_##isa(l, weighted, j, taps, most, sets);                                                                 \
    for (; j < columns; j += lanes_##isa)                                                                              \
      columns_##isa(l, weighted, j, taps, 1, sets);                                                                    \
  }                                                                                                                    \
  target MS_FUSED static inline                                                                                        \
      __attribute__((always_inline)) void any_##isa(const list_walk *l, int weighted, int columns, int taps) {         \
    switch (taps) {                                                                                                    \
    case 1:                                                                                                            \
      taps_##isa(l, weighted, columns, 1, 4);                                                                          \
      break;                                                                                                           \
    case 2:                                                                                                            \
      taps_##isa(l, weighted, columns, 2, 2);                                                                          \
      break;                                                                                                           \
    case 3:                                                                                                            \
      taps_##isa(l, weighted, columns, 3, 2);                                                                          \
      break;                                                                                                           \
    case 4:                                                                                                            \
      taps_##isa(l, weighted, columns, 4, 1);                                                                          \
      break;                                                                                                           \
    case 6:                                                                                                            \
      taps_##isa(l, weighted, columns, 6, 1);                                                                          \
      break;                                                                                                           \
    default:                                                                                                           \
      taps_##isa(l, weighted, columns, 9, 1);                                                                          \
    }                                                                                                                  \
  }                                                                                                                    \
  target MS_FUSED static void walk_##isa(const list_walk *l, int columns, int taps) {                                  \
    if (l->count)                                                                                                      \
      any_##isa(l, 1, columns, taps);                                                                                  \
    else                                                                                                               \
      any_##isa(l, 0, columns, taps);                                                                                  \
  }

typedef void (*walk_fn)(const list_walk *l, int columns, int taps);

MS_WALK(base, , 16, 1)
#if defined(__x86_64__) && !defined(MS_NO_CLONES)
MS_WALK(avx2, __attribute__((target("avx2,fma"))), 32, 1)
MS_WALK(avx512, __attribute__((target("avx512f,fma"))), 64, 2)

static walk_fn best_walk(void) {
  return __builtin_cpu_supports("avx512f")                                 ? walk_avx512
         : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? walk_avx2
                                                                           : walk_base;
}
#else
static walk_fn best_walk(void) {
  return walk_base;
}
#endif

/* The largest number of taps, at most n, that has a kernel. */
static int64_t fitting_taps(int64_t n) {
  return n >= 9 ? 9 : n >= 6 ? 6 : ms_min64(n, 4);
}

/* ---- how a layer is cut ---- */

/* One axis: a runs from first to first + n - 1; before them, `reach` lines of dL/dy are needed. */
typedef struct axis {
  int64_t first, n, reach;
} axis;

static axis make_axis(int64_t in, int pad, int stride, int dilation, int taps) {
  axis x = {.first = pad / stride};
  x.n = (in - 1 + pad) / stride - x.first + 1;
  for (int phase = 0; phase < stride; phase++)
    for (int64_t t = 0; t < taps; t++)
      if ((phase - t * dilation) % stride == 0)
        x.reach = ms_max64(x.reach, (t * dilation - phase) / stride);
  return x;
}

typedef struct event_job {
  const ms_conv_desc *d;
  const ms_conv_args *a;
  int64_t cig, cog, taps, phases;
  axis y, x;
  int64_t lines, images, strips_y, strips; /* of a strip: values of a, images; strips of an image, of all */
  int64_t height, width;                   /* padded dL/dy of one image of a strip */
  int64_t room;                            /* longest list */
  int64_t block, blocks;                   /* input channels of a piece, pieces of a group */
  int64_t panels, panels_once, turns; /* of MS_NR output channels: of a group, of a piece, pieces to have them all */
  int64_t *tap, *shift, *phase;       /* taps in the order of phases; phase p has taps phase[p] to phase[p + 1] */
  walk_fn walk;
} event_job;

static event_job start_job(const ms_conv_desc *d, const ms_conv_args *a) {
  event_job j = {.d = d, .a = a, .cig = d->cin / d->groups, .cog = d->cout / d->groups, .walk = best_walk()};
  j.taps = d->kh * d->kw;
  j.phases = (int64_t)d->stride_h * d->stride_w;
  j.y = make_axis(d->h, d->pad_h, d->stride_h, d->dil_h, d->kh);
  j.x = make_axis(d->w, d->pad_w, d->stride_w, d->dil_w, d->kw);
  j.width = j.x.n + j.x.reach;
  int64_t fit = NEAR / (j.width * MS_NR);
  j.lines = ms_min64(ms_max64(fit - j.y.reach, LEAST_LINES), j.y.n);
  j.strips_y = ms_ceil_div(j.y.n, j.lines);
  j.lines = ms_ceil_div(j.y.n, j.strips_y);
  j.height = j.lines + j.y.reach;
  j.images = j.strips_y > 1 ? 1 : ms_max64(ms_min64(fit / j.height, d->n), 1);
  j.strips = ms_ceil_div(d->n, j.images) * j.strips_y;
  j.room = j.images * j.lines * j.x.n;

  j.block = ms_min64(ms_ceil_div(ms_ceil_div(j.cig, 4), 8) * 8, BLOCK);
  j.blocks = ms_ceil_div(j.cig, j.block);
  j.panels = ms_ceil_div(j.cog, MS_NR);
  j.turns = ms_ceil_div(j.panels, ms_max64(SUMS / (j.block * j.taps * MS_NR), 1));
  j.panels_once = ms_ceil_div(j.panels, j.turns);
  j.turns = ms_ceil_div(j.panels, j.panels_once);
  return j;
}

/* Which taps each phase has, and where in the padded dL/dy they read. */
static int list_taps(event_job *j) {
  const ms_conv_desc *d = j->d;
  j->tap = ms_cpu_scratch(2, (size_t)(2 * j->taps + j->phases + 1) * sizeof *j->tap);
  if (!j->tap)
    return 0;
  j->shift = j->tap + j->taps;
  j->phase = j->shift + j->taps;
  int64_t n = 0;
  for (int64_t p = 0; p < j->phases; p++) {
    j->phase[p] = n;
    for (int64_t t = 0; t < j->taps; t++) {
      int64_t y = p / d->stride_w - t / d->kw * d->dil_h, x = p % d->stride_w - t % d->kw * d->dil_w;
      if (y % d->stride_h || x % d->stride_w)
        continue;
      j->tap[n] = t;
      j->shift[n++] = ((y / d->stride_h + j->y.reach) * j->width + x / d->stride_w + j->x.reach) * MS_NR;
    }
  }
  j->phase[j->phases] = n;
  return 1;
}

/* ---- one piece of work ---- */

typedef struct piece {
  ms_real *sum, *dy; /* [panel][channel][tap][MS_NR], [image][height][width][MS_NR] */
  int64_t *n;        /* [phase][channel] */
  uint32_t *found;   /* channels of a pixel */
  uint16_t *list;    /* [phase][channel][room] */
  uint8_t *count;
  int64_t group, c, channels, panel, panels; /* what it works on */
  uint64_t high;                             /* some count of the strip is above 1 */
} piece;

static int take_room(const event_job *j, piece *p) {
  int64_t lists = j->phases * j->block;
  size_t sum = ms_event_part(j->panels_once * j->block * j->taps * MS_NR, sizeof *p->sum);
  size_t dy = ms_event_part(j->images * j->height * j->width * MS_NR, sizeof *p->dy);
  size_t n = ms_event_part(lists, sizeof *p->n), found = ms_event_part(j->block + MS_EVENT_ROOM, sizeof *p->found);
  size_t list = ms_event_part(lists * j->room, sizeof *p->list), count = (size_t)(lists * j->room);
  char *at = ms_cpu_scratch(1, sum + dy + n + found + list + count);
  if (!at)
    return 0;
  p->sum = (ms_real *)at;
  p->dy = (ms_real *)(at += sum);
  p->n = (int64_t *)(at += dy);
  p->found = (uint32_t *)(at += n);
  p->list = (uint16_t *)(at += found);
  p->count = (uint8_t *)(at + list);
  return 1;
}

/* Line iy of an image; row is its line of the padded copy without its reach. */
static void list_line(const event_job *j, piece *p, int64_t image, int64_t iy, int64_t row) {
  const ms_conv_desc *d = j->d;
  const uint8_t *x = (const uint8_t *)j->a->x.p + (image * d->h + iy) * d->w * d->cin + p->group * j->cig + p->c;
  int64_t phase_y = (iy + d->pad_h) % d->stride_h * d->stride_w;
  for (int64_t ix = 0; ix < d->w; ix++, x += d->cin) {
    int64_t first = (phase_y + (ix + d->pad_w) % d->stride_w) * j->block;
    int64_t at = row * j->width + (ix + d->pad_w) / d->stride_w - j->x.first;
    int64_t found = ms_list_events(p->found, x, p->channels, 0, &p->high);
    for (int64_t e = 0; e < found; e++) {
      int64_t c = p->found[e], to = (first + c) * j->room + p->n[first + c]++;
      p->list[to] = (uint16_t)at;
      p->count[to] = x[c];
    }
  }
}

/* dL/dy of one image of the strip, for one panel; a0 is the strip's first a. */
static MS_HOT void copy_outputs(const event_job *j, ms_real *to, int64_t image, int64_t a0, int64_t c, int64_t cols) {
  const ms_conv_desc *d = j->d;
  for (int64_t r = 0; r < j->height; r++, to += j->width * MS_NR) {
    int64_t oy = a0 - j->y.reach + r;
    int64_t left = ms_min64(ms_max64(j->x.reach - j->x.first, 0), j->width);
    int64_t ox = left + j->x.first - j->x.reach, pixels = ms_max64(ms_min64(d->ow - ox, j->width - left), 0);
    if (oy < 0 || oy >= d->oh)
      left = j->width, pixels = 0;
    memset(to, 0, (size_t)(left * MS_NR) * sizeof *to);
    memset(to + (left + pixels) * MS_NR, 0, (size_t)((j->width - left - pixels) * MS_NR) * sizeof *to);
    int64_t from = ((image * d->oh + oy) * d->ow + ox) * d->cout + c;
    for (int64_t i = left; i < left + pixels; i++, from += d->cout) {
      if (cols == MS_NR) {
        ms_unpack(to + i * MS_NR, j->a->y, from, MS_NR);
      } else {
        ms_unpack(to + i * MS_NR, j->a->y, from, cols);
        ms_zero_run(to + i * MS_NR + cols, MS_NR - cols);
      }
    }
  }
}

static void walk_lists(const event_job *j, const piece *p, ms_real *sum, int columns) {
  for (int64_t c = 0; c < p->channels; c++, sum += j->taps * MS_NR)
    for (int64_t phase = 0; phase < j->phases; phase++) {
      int64_t at = phase * j->block + c, end = j->phase[phase + 1];
      list_walk l = {.list = p->list + at * j->room,
                     .count = p->high ? p->count + at * j->room : NULL,
                     .n = p->n[at],
                     .dy = p->dy};
      if (l.n == 0)
        continue;
      for (int64_t t = j->phase[phase], taps; t < end; t += taps) {
        taps = fitting_taps(end - t);
        l.shift = j->shift + t;
        l.sum = sum + t * MS_NR;
        j->walk(&l, columns, (int)taps);
      }
    }
}

static void run_strip(const event_job *j, piece *p, int64_t strip) {
  const ms_conv_desc *d = j->d;
  int64_t image = strip / j->strips_y * j->images, images = ms_min64(j->images, d->n - image);
  int64_t a0 = j->y.first + strip % j->strips_y * j->lines;
  int64_t from = ms_max64(a0 * d->stride_h - d->pad_h, 0);
  int64_t end = ms_min64((a0 + j->lines) * d->stride_h - d->pad_h, d->h);
  memset(p->n, 0, (size_t)(j->phases * j->block) * sizeof *p->n);
  p->high = 0;
  for (int64_t i = 0; i < images; i++)
    for (int64_t iy = from; iy < end; iy++)
      list_line(j, p, image + i, iy, i * j->height + (iy + d->pad_h) / d->stride_h - a0);
  for (int64_t q = 0; q < p->panels; q++) {
    int64_t c = (p->panel + q) * MS_NR, cols = ms_min64(MS_NR, j->cog - c);
    for (int64_t i = 0; i < images; i++)
      copy_outputs(j, p->dy + i * j->height * j->width * MS_NR, image + i, a0, p->group * j->cog + c, cols);
    walk_lists(j, p, p->sum + q * j->block * j->taps * MS_NR, cols <= MS_NR / 2 ? MS_NR / 2 : MS_NR);
  }
}

/* The sums, turned round: rows of input channels for each output channel and tap. */
static MS_HOT void store_weights(const event_job *j, const piece *p) {
  for (int64_t co = p->panel * MS_NR; co < ms_min64((p->panel + p->panels) * MS_NR, j->cog); co++)
    for (int64_t t = 0; t < j->taps; t++) {
      const ms_real *from = p->sum + ((co / MS_NR - p->panel) * j->block * j->taps + t) * MS_NR + co % MS_NR;
      int64_t to = ((p->group * j->cog + co) * j->taps + j->tap[t]) * j->cig + p->c;
      for (int64_t c = 0; c < p->channels; c += MS_NR) {
        ms_real row[MS_NR];
        int64_t n = ms_min64(MS_NR, p->channels - c);
        for (int64_t i = 0; i < n; i++)
          row[i] = from[(c + i) * j->taps * MS_NR];
        ms_store_tile(j->a->weight, to + c, 0, row, 1, n, j->a->x.scale, 0, NULL);
      }
    }
}

static int run_piece(const event_job *j, int64_t i) {
  piece p = {.panel = i % j->turns * j->panels_once, .c = i / j->turns % j->blocks * j->block};
  p.group = i / j->turns / j->blocks;
  p.panels = ms_min64(j->panels_once, j->panels - p.panel);
  p.channels = ms_min64(j->block, j->cig - p.c);
  if (!take_room(j, &p))
    return 0;
  memset(p.sum, 0, (size_t)(j->panels_once * j->block * j->taps * MS_NR) * sizeof *p.sum);
  for (int64_t strip = 0; strip < j->strips; strip++)
    run_strip(j, &p, strip);
  store_weights(j, &p);
  return 1;
}

/* ---- the pass ---- */

/* A position in the padded strip is 16 bits wide. */
int ms_event_weight_grad_fits(const ms_conv_desc *d) {
  event_job j = start_job(d, NULL);
  return j.images * j.height * j.width <= UINT16_MAX;
}

ms_status ms_event_weight_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  event_job j = start_job(d, a);
  if (!list_taps(&j))
    return MS_EMEM;
  int failed = 0;
  ms_parallel_for(i, d->groups * j.blocks * j.turns, d->n * d->oh * d->ow * j.block * j.taps) {
    if (!run_piece(&j, i)) {
#pragma omp atomic write
      failed = 1;
    }
  }
  if (failed)
    return MS_EMEM;
  return a->bias ? ms_bias_grad(a->bias, a->y, d->n * d->oh * d->ow, d->cout, a->workspace) : MS_OK;
}
