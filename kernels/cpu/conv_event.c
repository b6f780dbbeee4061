/* Convolution of spikes by events: for each output pixel the weights of the input channels that fired are summed.
**
** A strip of output lines is one piece of work. Its input lines become lists of events, cut into cells: a pixel's
** channels, or a block of them. The cells that a kernel line covers lie side by side, so a pixel and a kernel line are
** one run of events. A walk is all runs of a strip for one kernel line and block: its weights, a panel of output
** channels wide, stay in the first level cache together with the strip's sums. Runs are sorted by their length, as a
** loop whose length changes at random costs more than its additions. Every output is one sum in an order that only
** the shape and the events decide. */
#include "conv_event.h"

enum {
  NEAR = 384,                                /* rows of weights of a walk */
  PACKED = (4 << 20) / (int)sizeof(ms_real), /* weights packed at a time */
  LISTED = 512 * 1024,                       /* input elements of a strip */
  LEAST_PIXELS = 32,
  MOST_PIXELS = 128, /* of a strip */
  LENGTHS = 64       /* runs of this many events and more are not sorted */
};

/* ---- micro kernel ---- */

/* Events list[first] to list[first + n - 1], added to the sums of a pixel. */
typedef struct run {
  uint32_t first, n;
  int32_t pixel, base; /* bytes from the walk's weights to where an event's place counts from, may be negative */
} run;

typedef struct walk {
  const uint32_t *list;
  const ms_real *value; /* of each event, NULL: all 1 */
  const run *runs;
  const int32_t *end; /* [LENGTHS + 1] where runs of 0, 1, ... events end */
  const char *weight; /* a panel, rows of MS_NR */
  ms_real *sum;       /* [pixel][MS_NR] */
} walk;

/* Two neighbours of a list; the first is the low half. */
MS_HD uint64_t places_of_two(const uint32_t *list) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  uint64_t two;
  memcpy(&two, list, sizeof two);
  return two;
#else
  return (uint64_t)list[1] << 32 | list[0];
#endif
}

/* `vectors` of columns from column j on stay in registers. Loads are what limits it, so two places come by one load;
** events take turns with `chains` sums, as one chain of additions would wait for itself. */
#define MS_WALK(isa, target, bytes, wide, chains)                                                                     \
  typedef ms_real vec_##isa __attribute__((vector_size(bytes), aligned(sizeof(ms_real)), may_alias));                 \
  enum { lanes_##isa = (bytes) / (int)sizeof(ms_real) };                                                              \
  target MS_FUSED static inline __attribute__((always_inline)) void add_##isa(vec_##isa *sum, const char *weight,     \
                                                                              const ms_real *value, int vectors) {    \
    const vec_##isa *row = (const vec_##isa *)weight;                                                                 \
    _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) {                                                       \
      if (value)                                                                                                      \
        sum[v] += *value * row[v];                                                                                    \
      else                                                                                                            \
        sum[v] += row[v];                                                                                             \
    }                                                                                                                 \
  }                                                                                                                   \
  target MS_FUSED static inline __attribute__((always_inline)) void run_##isa(const walk *l, const run *r, int64_t n, \
                                                                              int j, int vectors, int weighted) {     \
    vec_##isa *to = (vec_##isa *)(l->sum + (int64_t)r->pixel * MS_NR + j);                                            \
    const char *weight = l->weight + r->base + j * (int)sizeof(ms_real);                                              \
    const uint32_t *list = l->list + r->first, *end = list + n / chains * chains;                                     \
    const ms_real *value = weighted ? l->value + r->first : NULL;                                                     \
    vec_##isa sum[chains][4];                                                                                         \
    _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) sum[0][v] = to[v];                                      \
    if (list < end) {                                                                                                 \
      _Pragma("GCC unroll 4") for (int s = 1; s < chains; s++)                                                        \
          _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) sum[s][v] = (vec_##isa){0};                       \
      do {                                                                                                            \
        _Pragma("GCC unroll 2") for (int s = 0; s < chains; s += 2) {                                                 \
          uint64_t two = places_of_two(list + s);                                                                     \
          add_##isa(sum[s], weight + (uint32_t)two, weighted ? value + s : NULL, vectors);                            \
          add_##isa(sum[s + 1], weight + (two >> 32), weighted ? value + s + 1 : NULL, vectors);                      \
        }                                                                                                             \
        list += chains;                                                                                               \
        if (weighted)                                                                                                 \
          value += chains;                                                                                            \
      } while (list < end);                                                                                           \
      _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) {                                                     \
        if (chains == 4)                                                                                              \
          sum[0][v] = (sum[0][v] + sum[1][v]) + (sum[2 % chains][v] + sum[3 % chains][v]);                            \
        else                                                                                                          \
          sum[0][v] += sum[1][v];                                                                                     \
      }                                                                                                               \
    }                                                                                                                 \
    for (int64_t i = 0; i < n % chains; i++)                                                                          \
      add_##isa(sum[0], weight + list[i], weighted ? value + i : NULL, vectors);                                      \
    _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) to[v] = sum[0][v];                                      \
  }                                                                                                                   \
  target MS_FUSED static inline                                                                                       \
      __attribute__((always_inline)) void columns_##isa(const walk *l, int j, int vectors, int weighted) {            \
    const run *r = l->runs + l->end[0];                                                                               \
    for (int64_t n = 1; n < LENGTHS; n++)                                                                             \
      for (const run *end = l->runs + l->end[n]; r < end; r++)                                                        \
        run_##isa(l, r, n, j, vectors, weighted);                                                                     \
    for (const run *end = l->runs + l->end[LENGTHS]; r < end; r++)                                                    \
      run_##isa(l, r, r->n, j, vectors, weighted);                                                                    \
  }                                                                                                                   \
  target MS_FUSED static inline                                                                                       \
      __attribute__((always_inline)) void panel_##isa(const walk *l, int columns, int weighted) {                     \
    int j = 0;                                                                                                        \
    for (; columns - j >= wide * lanes_##isa; j += wide * lanes_##isa)                                                \
      columns_##isa(l, j, wide, weighted);                                                                            \
    for (; j < columns; j += lanes_##isa)                                                                             \
      columns_##isa(l, j, 1, weighted);                                                                               \
  }                                                                                                                   \
  target MS_FUSED static void walk_##isa(const walk *copy, int columns) {                                             \
    walk l = *copy;                                                                                                   \
    if (l.value)                                                                                                      \
      panel_##isa(&l, columns, 1);                                                                                    \
    else                                                                                                              \
      panel_##isa(&l, columns, 0);                                                                                    \
  }

typedef void (*walk_fn)(const walk *l, int columns);

MS_WALK(base, , 16, 4, 2)
#ifdef MS_ISA_LEVELS
MS_WALK(avx2, MS_TARGET_AVX2, 32, 4, 2)
MS_WALK(avx512, MS_TARGET_AVX512, 64, 2, 4)
#endif

static walk_fn best_walk(void) {
#ifdef MS_ISA_LEVELS
  static const walk_fn walks[] = {walk_base, walk_avx2, walk_avx512};
  return walks[ms_cpu_isa()];
#else
  return walk_base;
#endif
}

/* ---- how a layer is cut ---- */

typedef struct event_job {
  const ms_conv_desc *d;
  const ms_conv_args *a;
  int64_t cig, cog, k;         /* channels of a group, rows of its weights */
  int64_t panels, panels_once; /* of MS_NR output channels: of a group, and packed at a time */
  int64_t lines, strips;       /* output lines of a strip */
  int64_t rows, span;          /* input lines of a strip: most that are listed, and most from the first to the last */
  int64_t blocks, block;       /* cells of a pixel, and channels of a cell */
  int64_t cover, turns;        /* cells of a run: those of a kernel line, or of one tap; walks of a kernel line */
  int64_t walks;
  walk_fn walk;
  ms_event_lister lister;
  int64_t group, panel; /* now at work */
} event_job;

static event_job start_job(const ms_conv_desc *d, const ms_conv_args *a) {
  event_job j = {.d = d, .a = a, .cig = d->cin / d->groups, .cog = d->cout / d->groups};
  j.walk = best_walk();
  j.lister = ms_event_best_lister();
  j.k = d->kh * d->kw * j.cig;
  j.panels = ms_ceil_div(j.cog, MS_NR);
  j.panels_once = ms_max64(ms_min64(PACKED / (j.k * MS_NR), j.panels), 1);

  j.cover = d->dil_w == 1 ? d->kw : 1;
  j.turns = d->kw / j.cover;
  j.blocks = ms_ceil_div(j.cig, ms_max64(NEAR / j.cover, 16));
  j.block = ms_ceil_div(ms_ceil_div(j.cig, j.blocks), 8) * 8;
  j.blocks = ms_ceil_div(j.cig, j.block);
  j.walks = d->kh * j.turns * j.blocks;

  int64_t lines = d->n * d->oh, pixels = ms_max64(ms_min64(lines * d->ow / 8, MOST_PIXELS), LEAST_PIXELS);
  int64_t listed = LISTED / (d->w * j.cig * ms_min64(d->kh, d->stride_h));
  j.lines = ms_max64(ms_min64(ms_min64(pixels / d->ow, listed), lines), 1);
  j.strips = ms_ceil_div(lines, j.lines);
  j.span = (ms_ceil_div(j.lines - 1, d->oh) + 1) * d->h;
  j.rows = ms_min64(j.span, j.lines * d->kh);
  return j;
}

/* ---- the lists of a strip ---- */

typedef struct strip {
  ms_real *sum;   /* [pixel][MS_NR] */
  int32_t *slot;  /* [span] list of an input line, -1: not needed */
  int32_t *start; /* [rows][blocks][w + 1] */
  run *runs;      /* [walks][pixels] */
  int32_t *end;   /* [walks][LENGTHS + 1] */
  uint32_t *list;
  ms_real *value;
  int64_t first, line, last; /* input line, output lines */
  int weighted;
} strip;

static int take_room(const event_job *j, strip *s) {
  const ms_conv_desc *d = j->d;
  int64_t pixels = j->lines * d->ow, most = j->rows * d->w * j->cig * 3 / 2 + MS_EVENT_ROOM;
  size_t sum = ms_event_part(pixels * MS_NR, sizeof *s->sum), slot = ms_event_part(j->span, sizeof *s->slot);
  size_t start = ms_event_part(j->rows * j->blocks * (d->w + 1), sizeof *s->start);
  size_t runs = ms_event_part(j->walks * pixels, sizeof *s->runs);
  size_t end = ms_event_part(j->walks * (LENGTHS + 1), sizeof *s->end);
  size_t list = ms_event_part(most, sizeof *s->list), value = ms_event_part(most, sizeof *s->value);
  char *p = ms_cpu_scratch(1, sum + slot + start + runs + end + list + value);
  if (!p)
    return 0;
  s->sum = (ms_real *)p;
  s->slot = (int32_t *)(p += sum);
  s->start = (int32_t *)(p += slot);
  s->runs = (run *)(p += start);
  s->end = (int32_t *)(p += runs);
  s->list = (uint32_t *)(p += end);
  s->value = (ms_real *)(p + list);
  return 1;
}

/* The input line that output line `line` reads through kernel line ky, negative outside the image. */
MS_HD int64_t source_line(const ms_conv_desc *d, int64_t line, int64_t ky) {
  int64_t iy = line % d->oh * d->stride_h - d->pad_h + ky * d->dil_h;
  return iy < 0 || iy >= d->h ? -1 : line / d->oh * d->h + iy;
}

static int64_t line_at(const event_job *j, const strip *s, int64_t line) {
  return (s->first + line) * j->d->w * j->d->cin + j->group * j->cig;
}

/* Small counts are listed as often as they count where that makes the lists at most half as long again (there is room
** for that); others carry a value. */
static void list_lines(const event_job *j, strip *s) {
  const ms_conv_desc *d = j->d;
  ms_event_sizes all = {0};
  memset(s->slot, 0xff, (size_t)j->span * sizeof *s->slot);
  for (int64_t i = s->line; i < s->last; i++)
    for (int64_t ky = 0; ky < d->kh; ky++) {
      int64_t from = source_line(d, i, ky);
      if (from < 0 || s->slot[from - s->first] >= 0)
        continue;
      s->slot[from - s->first] = 0;
      ms_event_sizes line = ms_event_measure(j->a->x, from * d->w * d->cin, d->w * d->cin);
      all.most = line.most > all.most ? line.most : all.most;
      all.nonzero += line.nonzero;
      all.sum += line.sum;
    }
  s->weighted = all.most > 1 && (d->groups > 1 || all.most > MS_EVENT_REPEAT || 2 * all.sum > 3 * all.nonzero);
  int64_t n = 0, lists = 0;
  for (int64_t i = 0; i < j->span; i++) {
    if (s->slot[i] < 0)
      continue;
    for (int64_t b = 0; b < j->blocks; b++) {
      ms_event_cells c = {.x = j->a->x,
                          .at = line_at(j, s, i) + b * j->block,
                          .pitch = d->cin,
                          .cells = d->w,
                          .n = ms_min64(j->block, j->cig - b * j->block),
                          .most = s->weighted ? 1 : all.most,
                          .step = (uint32_t)j->cig};
      int64_t end = j->lister.cells(s->list, s->start + (lists * j->blocks + b) * (d->w + 1), n, &c);
      const uint8_t *x = (const uint8_t *)j->a->x.p + c.at;
      for (int64_t e = n; s->weighted && e < end; e++) {
        int64_t place = s->list[e] >> MS_EVENT_SHIFT;
        s->value[e] = x[place / j->cig * d->cin + place % j->cig];
      }
      n = end;
    }
    s->slot[i] = (int32_t)lists++;
  }
}

/* The runs of one walk. */
static MS_HOT void sort_runs(const event_job *j, const strip *s, int64_t ky, int64_t turn, int64_t block, run *runs,
                             int32_t *end) {
  const ms_conv_desc *d = j->d;
  int64_t ix = turn * d->dil_w - d->pad_w, row = (ky * d->kw + turn) * j->cig + block * j->block;
  int64_t at = 0, n = 0;
  memset(end, 0, (LENGTHS + 1) * sizeof *end);
  for (int pass = 0; pass < 2; pass++) {
    for (int64_t i = s->line; i < s->last; i++) {
      int64_t from = source_line(d, i, ky);
      if (from < 0)
        continue;
      const int32_t *start = s->start + (s->slot[from - s->first] * j->blocks + block) * (d->w + 1);
      for (int64_t ox = 0; ox < d->ow; ox++) {
        int64_t cell = ox * d->stride_w + ix;
        int32_t lo = start[ms_min64(ms_max64(cell, 0), d->w)];
        int32_t count = start[ms_max64(ms_min64(cell + j->cover, d->w), 0)] - lo;
        int64_t length = count < 0 ? 0 : ms_min64(count, LENGTHS);
        if (pass == 0)
          end[length]++;
        else
          runs[end[length]++] = (run){(uint32_t)lo, (uint32_t)count, (int32_t)((i - s->line) * d->ow + ox),
                                      (int32_t)((row - cell * j->cig) * (1 << MS_EVENT_SHIFT))};
      }
    }
    if (pass == 0)
      for (int64_t l = 0; l <= LENGTHS; l++) {
        n = end[l];
        end[l] = (int32_t)at;
        at += n;
      }
  }
}

/* The lines of outputs [to, to + MS_NR) of a strip are asked for piece by piece, while the walks do not need memory. */
static void fetch_outputs(const event_job *j, const strip *s, int64_t to, int64_t w) {
  int64_t pixels = (s->last - s->line) * j->d->ow, width = j->a->y.dtype == MS_F32 ? sizeof(ms_real) : sizeof(ms_bf16);
  int64_t end = (w + 1) * pixels / j->walks;
  for (int64_t p = w * pixels / j->walks; p < end; p++) {
    const char *at = (const char *)j->a->y.p + ((s->line * j->d->ow + p) * j->d->cout + to) * width;
    __builtin_prefetch(at, 0, 2);
    __builtin_prefetch(at + 64, 0, 2);
  }
}

static void run_strip(const event_job *j, strip *s, int64_t line) {
  const ms_conv_desc *d = j->d;
  const ms_conv_args *a = j->a;
  int64_t last = ms_min64(j->panel + j->panels_once, j->panels), pixels = j->lines * d->ow;
  s->line = line;
  s->last = ms_min64(line + j->lines, d->n * d->oh);
  s->first = line / d->oh * d->h;
  list_lines(j, s);
  for (int64_t w = 0; w < j->walks; w++)
    sort_runs(j, s, w / j->turns / j->blocks, w % j->turns, w / j->turns % j->blocks, s->runs + w * pixels,
              s->end + w * (LENGTHS + 1));
  for (int64_t panel = j->panel; panel < last; panel++) {
    int64_t c = panel * MS_NR, width = ms_min64(MS_NR, j->cog - c);
    memset(s->sum, 0, (size_t)(pixels * MS_NR) * sizeof *s->sum);
    int64_t to = j->group * j->cog + c;
    for (int64_t w = 0; w < j->walks; w++) {
      walk l = {.list = s->list,
                .value = s->weighted ? s->value : NULL,
                .runs = s->runs + w * pixels,
                .end = s->end + w * (LENGTHS + 1),
                .weight = (const char *)((const ms_real *)a->workspace + (panel - j->panel) * j->k * MS_NR),
                .sum = s->sum};
      fetch_outputs(j, s, to, w);
      j->walk(&l, width <= MS_NR / 2 ? MS_NR / 2 : MS_NR);
    }
    ms_store_tile(a->y, line * d->ow * d->cout + to, d->cout, s->sum, (s->last - line) * d->ow, width, a->x.scale, 0,
                  a->bias ? a->bias + to : NULL);
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

static size_t workspace(const ms_conv_desc *d, ms_conv_pass pass) {
  if (pass == MS_CONV_WEIGHT_GRAD)
    return ms_event_weight_grad_size(d);
  if (pass == MS_CONV_INPUT_GRAD)
    return ms_event_input_grad_workspace(d);
  event_job j = start_job(d, NULL);
  return (size_t)(j.panels_once * j.k * MS_NR) * sizeof(ms_real);
}

/* Places of events and of weights are 32 bits wide. The gradient of the inputs asks for no events. */
static int supports(const ms_conv_desc *d, ms_conv_pass pass) {
  if (pass == MS_CONV_INPUT_GRAD)
    return ms_event_input_grad_fits(d);
  int64_t k = d->kh * d->kw * (d->cin / d->groups), wide = d->w + 2 * d->pad_w + (int64_t)d->kw * d->dil_w;
  if ((d->x != MS_SPIKE && d->x != MS_U8 && d->x != MS_BITS) || k == 0 || d->h == 0 || d->w == 0)
    return 0;
  if (pass == MS_CONV_FORWARD)
    return k * MS_NR <= PACKED && wide * d->cin <= INT32_MAX / (d->kh * 256);
  return pass == MS_CONV_WEIGHT_GRAD && ms_event_weight_grad_fits(d);
}

const ms_conv_engine ms_conv_event = {
    "event", 1, supports, workspace, forward, ms_event_input_grad, ms_event_weight_grad};
