/* Convolution of spikes by events: for each output pixel the weights of the input channels that fired are summed.
**
** A strip of output lines is one piece of work. Its input lines become lists of events (position in the line, and the
** count where there are counts above 1), cut into cells: a pixel's channels, or a block of them whose weights fit the
** first level cache. Then for each block of output channels and each tap the strip's pixels add the weight rows of
** their cell. Where the weights of a whole kernel line fit, its taps are one run of cells, as pixels are neighbours
** in memory. Every output is one sum in an order that only the shape decides. */
#include "conv_event.h"

enum {
  NEAR = 64 * 1024 / (int)sizeof(ms_real),   /* weights near the first level cache */
  PACKED = (4 << 20) / (int)sizeof(ms_real), /* weights packed at a time */
  LISTED = 256 * 1024,                       /* input elements of a strip */
  LEAST_PIXELS = 32,
  MOST_PIXELS = 256 /* of a strip */
};

/* ---- micro kernel ---- */

/* One line of outputs against one run of cells. Pixel p reads cells [cell + p * step, ... + span), cut to [0, cells);
** event e adds row list[e] - p * shift of the weights. */
typedef struct line_walk {
  const uint32_t *list;
  const ms_real *value; /* counts, NULL: all 1 */
  const int32_t *start; /* of each cell, and the end */
  int64_t cell, step, span, cells;
  const ms_real *weight; /* panels of MS_NR columns */
  int64_t first, shift;  /* row of the weights that position 0 has for pixel 0 (may be negative), less for each pixel */
  int64_t weight_panel;
  ms_real *sum; /* [panel][pixel][MS_NR] */
  int64_t sum_panel, pixels;
} line_walk;

/* `vectors` of columns from column j on stay in registers; events alternate between `sets` of them, as one chain of
** additions would wait for itself. */
#define MS_WALK(isa, target, bytes)                                                                              \
  typedef ms_real vec_##isa __attribute__((vector_size(bytes), aligned(sizeof(ms_real)), may_alias));            \
  enum { lanes_##isa = (bytes) / (int)sizeof(ms_real) };                                                         \
  target MS_FUSED static inline __attribute__((always_inline)) void add_##isa(                                   \
      vec_##isa *sum, const line_walk *l, const ms_real *weight, int64_t e, int j, int vectors, int weighted) {  \
    const ms_real *row = weight + (int64_t)l->list[e] * MS_NR;                                                   \
    _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) {                                                  \
      int at = j + v * lanes_##isa;                                                                              \
      vec_##isa w = *(const vec_##isa *)(row + at / MS_NR * l->weight_panel + at % MS_NR);                       \
      if (weighted)                                                                                              \
        sum[v] += l->value[e] * w;                                                                               \
      else                                                                                                       \
        sum[v] += w;                                                                                             \
    }                                                                                                            \
  }                                                                                                              \
  target MS_FUSED static inline __attribute__((always_inline)) void columns_##isa(                               \
      const line_walk *l, int j, int vectors, int sets, int weighted) {                                          \
    for (int64_t p = 0; p < l->pixels; p++) {                                                                    \
      int64_t lo = ms_max64(l->cell + p * l->step, 0), hi = ms_min64(l->cell + p * l->step + l->span, l->cells); \
      if (lo >= hi || l->start[lo] == l->start[hi])                                                              \
        continue;                                                                                                \
      const ms_real *weight = l->weight + (l->first - p * l->shift) * MS_NR;                                     \
      vec_##isa sum[4][4] = {{{0}}};                                                                             \
      _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) {                                                \
        int at = j + v * lanes_##isa;                                                                            \
        sum[0][v] = *(vec_##isa *)(l->sum + at / MS_NR * l->sum_panel + p * MS_NR + at % MS_NR);                 \
      }                                                                                                          \
      int64_t e = l->start[lo], end = l->start[hi];                                                              \
      for (; e + sets <= end; e += sets) {                                                                       \
        _Pragma("GCC unroll 4") for (int s = 0; s < sets; s++)                                                   \
            add_##isa(sum[s], l, weight, e + s, j, vectors, weighted);                                           \
      }                                                                                                          \
      for (; e < end; e++)                                                                                       \
        add_##isa(sum[0], l, weight, e, j, vectors, weighted);                                                   \
      _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) {                                                \
        int at = j + v * lanes_##isa;                                                                            \
        _Pragma("GCC unroll 4") for (int s = 1; s < sets; s++) sum[0][v] += sum[s][v];                           \
        *(vec_##isa *)(l->sum + at / MS_NR * l->sum_panel + p * MS_NR + at % MS_NR) = sum[0][v];                 \
      }                                                                                                          \
    }                                                                                                            \
  }                                                                                                              \
  target MS_FUSED static inline                                                                                  \
      __attribute__((always_inline)) void walk_columns_##isa(const line_walk *l, int columns, int weighted) {    \
    int j = 0;                                                                                                   \
    for (; columns - j >= 4 * lanes_##isa; j += 4 * lanes_##isa)                                                 \
      columns_##isa(l, j, 4, 2, weighted);                                                                       \
    for (; columns - j >= 2 * lanes_##isa; j += 2 * lanes_##isa)                                                 \
      columns_##isa(l, j, 2, 4, weighted);                                                                       \
    for (; j < columns; j += lanes_##isa)                                                                        \
      columns_##isa(l, j, 1, 4, weighted);                                                                       \
  }                                                                                                              \
  target MS_FUSED static void walk_##isa(const line_walk *l, int columns) {                                      \
    if (l->value)                                                                                                \
      walk_columns_##isa(l, columns, 1);                                                                         \
    else                                                                                                         \
      walk_columns_##isa(l, columns, 0);                                                                         \
  }

typedef void (*walk_fn)(const line_walk *l, int columns);

MS_WALK(base, , 16)
#if defined(__x86_64__) && !defined(MS_NO_CLONES)
MS_WALK(avx2, __attribute__((target("avx2,fma"))), 32)
MS_WALK(avx512, __attribute__((target("avx512f,fma"))), 64)

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

/* ---- how a layer is cut ---- */

typedef struct event_job {
  const ms_conv_desc *d;
  const ms_conv_args *a;
  int64_t cig, cog, k;         /* channels of a group, rows of its weights */
  int64_t panels, panels_once; /* of MS_NR output channels: of a group, and packed at a time */
  int64_t lines, strips;       /* output lines of a strip */
  int64_t rows, span;          /* input lines of a strip: most that are listed, and most from the first to the last */
  int64_t blocks, block;       /* cells of a pixel, and channels of a cell */
  int joined;                  /* the taps of a kernel line are one walk */
  walk_fn walk;
  int64_t group, panel; /* now at work */
} event_job;

static event_job start_job(const ms_conv_desc *d, const ms_conv_args *a) {
  event_job j = {.d = d, .a = a, .cig = d->cin / d->groups, .cog = d->cout / d->groups, .walk = best_walk()};
  j.k = d->kh * d->kw * j.cig;
  j.panels = ms_ceil_div(j.cog, MS_NR);
  j.panels_once = ms_min64(PACKED / (j.k * MS_NR) / 2 * 2, j.panels);
  if (j.panels_once < 1)
    j.panels_once = 1;

  int64_t near = NEAR / (ms_min64(j.panels, 2) * MS_NR);
  j.joined = d->dil_w == 1 && d->kw * j.cig <= near;
  j.blocks = j.joined ? 1 : ms_ceil_div(j.cig, near);
  j.block = ms_ceil_div(ms_ceil_div(j.cig, j.blocks), 8) * 8;
  j.blocks = ms_ceil_div(j.cig, j.block);

  int64_t lines = d->n * d->oh, pixels = ms_max64(ms_min64(lines * d->ow / 8, MOST_PIXELS), LEAST_PIXELS);
  int64_t listed = LISTED / (d->w * j.cig * ms_min64(d->kh, d->stride_h));
  j.lines = ms_max64(ms_min64(ms_min64(pixels / d->ow, listed), lines), 1);
  j.strips = ms_ceil_div(lines, j.lines);
  j.span = (ms_ceil_div(j.lines - 1, d->oh) + 1) * d->h;
  j.rows = ms_min64(j.span, j.lines * d->kh);
  return j;
}

/* ---- one strip ---- */

/* Lists of the input lines of a strip, in the order in which they were first needed. */
typedef struct strip {
  ms_real *sum;
  int32_t *slot;  /* [span] list of an input line, -1: none yet */
  int32_t *start; /* [rows][cells + 1] */
  uint8_t *ones;  /* [rows] every event of the line counts 1 */
  uint32_t *list;
  ms_real *value;
  int64_t first, lists, events; /* first input line */
} strip;

static int take_room(const event_job *j, strip *s) {
  const ms_conv_desc *d = j->d;
  int64_t cells = d->w * j->blocks, most = j->rows * d->w * j->cig + MS_EVENT_ROOM;
  size_t sum = ms_event_part(2 * j->lines * d->ow * MS_NR, sizeof *s->sum);
  size_t slot = ms_event_part(j->span, sizeof *s->slot), ones = ms_event_part(j->rows, 1);
  size_t start = ms_event_part(j->rows * (cells + 1), sizeof *s->start);
  size_t list = ms_event_part(most, sizeof *s->list), value = ms_event_part(most, sizeof *s->value);
  char *p = ms_cpu_scratch(1, sum + slot + ones + start + list + value);
  if (!p)
    return 0;
  s->sum = (ms_real *)p;
  s->slot = (int32_t *)(p += sum);
  s->ones = (uint8_t *)(p += slot);
  s->start = (int32_t *)(p += ones);
  s->list = (uint32_t *)(p += start);
  s->value = (ms_real *)(p + list);
  return 1;
}

static void list_line(const event_job *j, strip *s, int64_t line) {
  const ms_conv_desc *d = j->d;
  const uint8_t *x = (const uint8_t *)j->a->x.p + line * d->w * d->cin + j->group * j->cig;
  int32_t *start = s->start + s->lists * (d->w * j->blocks + 1);
  int64_t from = s->events, n = from;
  uint64_t high = 0;
  for (int64_t ix = 0; ix < d->w; ix++)
    for (int64_t c = 0; c < j->cig; c += j->block) {
      *start++ = (int32_t)n;
      n += ms_list_events(s->list + n, x + ix * d->cin + c, ms_min64(j->block, j->cig - c), (uint32_t)(ix * j->cig + c),
                          &high);
    }
  *start = (int32_t)n;
  if (high)
    for (int64_t e = from; e < n; e++)
      s->value[e] = x[s->list[e] / j->cig * d->cin + s->list[e] % j->cig];
  s->ones[s->lists] = high == 0;
  s->slot[line - s->first] = (int32_t)s->lists++;
  s->events = n;
}

/* The input line that output line `line` reads through kernel line ky, negative outside the image. */
MS_HD int64_t source_line(const ms_conv_desc *d, int64_t line, int64_t ky) {
  int64_t iy = line % d->oh * d->stride_h - d->pad_h + ky * d->dil_h;
  return iy < 0 || iy >= d->h ? -1 : line / d->oh * d->h + iy;
}

static void list_strip(const event_job *j, strip *s, int64_t line, int64_t end) {
  const ms_conv_desc *d = j->d;
  s->first = line / d->oh * d->h;
  s->lists = s->events = 0;
  memset(s->slot, 0xff, (size_t)j->span * sizeof *s->slot);
  for (; line < end; line++)
    for (int64_t ky = 0; ky < d->kh; ky++) {
      int64_t from = source_line(d, line, ky);
      if (from >= 0 && s->slot[from - s->first] < 0)
        list_line(j, s, from);
    }
}

/* All pixels of the strip, one tap (or kernel line) and block of input channels. */
static void walk_tap(const event_job *j, const strip *s, const ms_real *weight, int columns, int64_t line, int64_t end,
                     int64_t ky, int64_t kx, int64_t block) {
  const ms_conv_desc *d = j->d;
  int64_t cells = d->w * j->blocks, ix = kx * d->dil_w - d->pad_w;
  line_walk l = {.cell = ix * j->blocks + block,
                 .step = d->stride_w * j->blocks,
                 .span = j->joined ? d->kw : 1,
                 .cells = cells,
                 .weight = weight,
                 .first = (ky * d->kw + kx) * j->cig - ix * j->cig,
                 .shift = d->stride_w * j->cig,
                 .weight_panel = j->k * MS_NR,
                 .sum_panel = j->lines * d->ow * MS_NR,
                 .pixels = d->ow};
  for (int64_t i = line; i < end; i++) {
    int64_t from = source_line(d, i, ky);
    if (from < 0)
      continue;
    int32_t slot = s->slot[from - s->first];
    l.list = s->list;
    l.value = s->ones[slot] ? NULL : s->value;
    l.start = s->start + slot * (cells + 1);
    l.sum = s->sum + (i - line) * d->ow * MS_NR;
    j->walk(&l, columns);
  }
}

static void run_strip(const event_job *j, strip *s, int64_t line) {
  const ms_conv_desc *d = j->d;
  const ms_conv_args *a = j->a;
  int64_t end = ms_min64(line + j->lines, d->n * d->oh), last = ms_min64(j->panel + j->panels_once, j->panels);
  list_strip(j, s, line, end);
  for (int64_t panel = j->panel; panel < last; panel += 2) {
    int64_t c = panel * MS_NR, width = ms_min64(ms_min64(2, last - panel) * MS_NR, j->cog - c);
    int columns = width <= MS_NR / 2 ? MS_NR / 2 : width <= MS_NR ? MS_NR : 2 * MS_NR;
    const ms_real *weight = (const ms_real *)a->workspace + (panel - j->panel) * j->k * MS_NR;
    memset(s->sum, 0, (size_t)(2 * j->lines * d->ow * MS_NR) * sizeof *s->sum);
    for (int64_t ky = 0; ky < d->kh; ky++)
      for (int64_t kx = 0; kx < (j->joined ? 1 : d->kw); kx++)
        for (int64_t block = 0; block < j->blocks; block++)
          walk_tap(j, s, weight, columns, line, end, ky, kx, block);
    for (int64_t i = 0; i < width; i += MS_NR) {
      int64_t to = j->group * j->cog + c + i;
      ms_store_tile(a->y, line * d->ow * d->cout + to, d->cout, s->sum + i * j->lines * d->ow, (end - line) * d->ow,
                    ms_min64(MS_NR, width - i), a->x.scale, 0, a->bias ? a->bias + to : NULL);
    }
  }
}

/* ---- the engine ---- */

static void pack_panel(const event_job *j, int64_t i) {
  int64_t c = (j->panel + i) * MS_NR, cols = ms_min64(MS_NR, j->cog - c);
  ms_real *to = (ms_real *)j->a->workspace + i * j->k * MS_NR;
  if (cols < MS_NR)
    memset(to, 0, (size_t)(j->k * MS_NR) * sizeof *to);
  ms_pack_columns((ms_panels){to, MS_NR, j->k * MS_NR}, j->a->weight, (j->group * j->cog + c) * j->k, j->k, j->k, cols);
}

static ms_status forward(const ms_conv_desc *d, const ms_conv_args *a) {
  event_job j = start_job(d, a);
  int failed = 0;
  for (j.group = 0; j.group < d->groups; j.group++)
    for (j.panel = 0; j.panel < j.panels; j.panel += j.panels_once) {
      ms_parallel_for(i, ms_min64(j.panels_once, j.panels - j.panel), j.k * MS_NR) pack_panel(&j, i);
      ms_parallel_for(i, j.strips, j.lines * d->ow * j.k) {
        strip s;
        if (take_room(&j, &s)) {
          run_strip(&j, &s, i * j.lines);
        } else {
#pragma omp atomic write
          failed = 1;
        }
      }
    }
  return failed ? MS_EMEM : MS_OK;
}

static ms_status no_input_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  (void)d;
  (void)a;
  return MS_EINVAL;
}

static size_t workspace(const ms_conv_desc *d, ms_conv_pass pass) {
  if (pass == MS_CONV_WEIGHT_GRAD)
    return ms_bias_grad_size(d->n * d->oh * d->ow, d->cout);
  event_job j = start_job(d, NULL);
  return (size_t)(j.panels_once * j.k * MS_NR) * sizeof(ms_real);
}

/* Positions in a line are 32 bits wide. The gradient of the inputs is dense: dL/dy has few zeros. */
static int supports(const ms_conv_desc *d, ms_conv_pass pass) {
  int64_t k = d->kh * d->kw * (d->cin / d->groups);
  if ((d->x != MS_SPIKE && d->x != MS_U8) || k == 0 || d->h == 0 || d->w == 0)
    return 0;
  if (pass == MS_CONV_FORWARD)
    return k * MS_NR <= PACKED && d->w * d->cin <= INT32_MAX / (d->kh * 256);
  return pass == MS_CONV_WEIGHT_GRAD && ms_event_weight_grad_fits(d);
}

const ms_conv_engine ms_conv_event = {"event", 1, supports, workspace, forward, no_input_grad, ms_event_weight_grad};
