/* Weight gradient of spikes by events: for each input channel and tap the dL/dy that its spikes reached is summed.
**
** A block of input channels and some panels of output channels are one piece of work; it walks all images in order,
** strip by strip. Each channel's spikes of a strip become a list of positions; dL/dy of the strip, a panel of output
** channels at a time, is copied into the first level cache with zeros around it, so that no spike needs a test. The
** sums of nine taps stay in registers while a list is walked.
**
** With u = iy + pad = a * stride + phase, tap k reads line (u - k * dilation) / stride = a + e of dL/dy where that
** divides: e, and which taps take part, depend on the phase only. So lists are kept for each phase, and a tap is a
** constant distance in the padded copy. */
#include "conv_event.h"

enum {
  PANEL = MS_NR / 2,                       /* output channels of a panel */
  NEAR = 32 * 1024 / (int)sizeof(ms_real), /* padded dL/dy of a strip */
  LEAST_LINES = 4,                         /* of a strip, unless the image has fewer */
  BLOCK = 128,                             /* most input channels of a piece */
  PANELS = 4,                              /* most panels of a piece, or twice as many where there are many pieces */
  TASKS = 16,                              /* layers with fewer pieces are cut into chunks of strips */
  KEPT = (3 << 20) / (int)sizeof(ms_real)  /* most sums of all chunks */
};

/* ---- micro kernel ---- */

/* sum[r][c] += count * dy[list[e] - r * row - c] over events e, in rows of PANEL elements; taps are rows x columns. */
typedef struct list_walk {
  const uint16_t *list;
  const ms_real *count; /* NULL: all 1 */
  int64_t n;
  const ms_real *dy;
  int64_t row;  /* in elements */
  ms_real *sum; /* [r][c] at r * sum_row + c * sum_col */
  int64_t sum_row, sum_col;
} list_walk;

#define MS_WALK(isa, target, bytes)                                                                                 \
  typedef ms_real vec_##isa __attribute__((vector_size(bytes), aligned(sizeof(ms_real)), may_alias));               \
  enum { lanes_##isa = (bytes) / (int)sizeof(ms_real) };                                                            \
  target MS_FUSED static inline __attribute__((always_inline)) void add_##isa(                                      \
      vec_##isa *sum, const ms_real *dy, int64_t row, const ms_real *count, int rows, int cols) {                   \
    _Pragma("GCC unroll 3") for (int r = 0; r < rows; r++) _Pragma("GCC unroll 3") for (int c = 0; c < cols; c++) { \
      const vec_##isa *from = (const vec_##isa *)(dy - r * row - c * PANEL);                                        \
      if (count)                                                                                                    \
        sum[r * cols + c] += *count * *from;                                                                        \
      else                                                                                                          \
        sum[r * cols + c] += *from;                                                                                 \
    }                                                                                                               \
  }                                                                                                                 \
  target MS_FUSED static inline __attribute__((always_inline)) void taps_##isa(const list_walk *l, int j, int rows, \
                                                                               int cols, int sets, int weighted) {  \
    const uint16_t *list = l->list, *end = list + l->n;                                                             \
    const ms_real *dy = l->dy + j, *count = weighted ? l->count : NULL;                                             \
    const int64_t row = l->row;                                                                                     \
    vec_##isa sum[4][9];                                                                                            \
    _Pragma("GCC unroll 3") for (int r = 0; r < rows; r++) _Pragma("GCC unroll 3") for (int c = 0; c < cols; c++) { \
      sum[0][r * cols + c] = *(vec_##isa *)(l->sum + r * l->sum_row + c * l->sum_col + j);                          \
      _Pragma("GCC unroll 4") for (int s = 1; s < sets; s++) sum[s][r * cols + c] = (vec_##isa){0};                 \
    }                                                                                                               \
    for (; end - list >= sets; list += sets) {                                                                      \
      _Pragma("GCC unroll 4") for (int s = 0; s < sets; s++)                                                        \
          add_##isa(sum[s], dy + (int64_t)list[s] * PANEL, row, weighted ? count + s : NULL, rows, cols);           \
      if (weighted)                                                                                                 \
        count += sets;                                                                                              \
    }                                                                                                               \
    for (; sets > 1 && list < end; list++) {                                                                        \
      add_##isa(sum[0], dy + (int64_t)*list * PANEL, row, count, rows, cols);                                       \
      if (weighted)                                                                                                 \
        count++;                                                                                                    \
    }                                                                                                               \
    _Pragma("GCC unroll 3") for (int r = 0; r < rows; r++) _Pragma("GCC unroll 3") for (int c = 0; c < cols; c++) { \
      _Pragma("GCC unroll 4") for (int s = 1; s < sets; s++) sum[0][r * cols + c] += sum[s][r * cols + c];          \
      *(vec_##isa *)(l->sum + r * l->sum_row + c * l->sum_col + j) = sum[0][r * cols + c];                          \
    }                                                                                                               \
  }                                                                                                                 \
  target MS_FUSED static inline                                                                                     \
      __attribute__((always_inline)) void any_##isa(const list_walk *l, int j, int shape, int weighted) {           \
    switch (shape) {                                                                                                \
    case 11:                                                                                                        \
      taps_##isa(l, j, 1, 1, 4, weighted);                                                                          \
      break;                                                                                                        \
    case 12:                                                                                                        \
      taps_##isa(l, j, 1, 2, 4, weighted);                                                                          \
      break;                                                                                                        \
    case 13:                                                                                                        \
      taps_##isa(l, j, 1, 3, 2, weighted);                                                                          \
      break;                                                                                                        \
    case 21:                                                                                                        \
      taps_##isa(l, j, 2, 1, 4, weighted);                                                                          \
      break;                                                                                                        \
    case 22:                                                                                                        \
      taps_##isa(l, j, 2, 2, 2, weighted);                                                                          \
      break;                                                                                                        \
    case 23:                                                                                                        \
      taps_##isa(l, j, 2, 3, 1, weighted);                                                                          \
      break;                                                                                                        \
    case 31:                                                                                                        \
      taps_##isa(l, j, 3, 1, 2, weighted);                                                                          \
      break;                                                                                                        \
    case 32:                                                                                                        \
      taps_##isa(l, j, 3, 2, 1, weighted);                                                                          \
      break;                                                                                                        \
    default:                                                                                                        \
      taps_##isa(l, j, 3, 3, 1, weighted);                                                                          \
    }                                                                                                               \
  }                                                                                                                 \
  target MS_FUSED static void walk_##isa(const list_walk *l, int rows, int cols) {                                  \
    for (int j = 0; j < PANEL; j += lanes_##isa) {                                                                  \
      if (l->count)                                                                                                 \
        any_##isa(l, j, 10 * rows + cols, 1);                                                                       \
      else                                                                                                          \
        any_##isa(l, j, 10 * rows + cols, 0);                                                                       \
    }                                                                                                               \
  }

typedef void (*walk_fn)(const list_walk *l, int rows, int cols);

MS_WALK(base, , 16)
#ifdef MS_ISA_LEVELS
MS_WALK(avx2, MS_TARGET_AVX2, 32)
MS_WALK(avx512, MS_TARGET_AVX512, 64)
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
  int64_t panels, panels_once, turns;      /* of output channels: of a group, of a piece, pieces to have them all */
  int64_t sums;                            /* elements of a piece's sums */
  int64_t pieces, chunks, chunk;           /* pieces in all, runs of strips with sums of their own, strips of one */
  walk_fn walk;
  ms_event_lister lister;
} event_job;

static event_job start_job(const ms_conv_desc *d, const ms_conv_args *a) {
  event_job j = {.d = d, .a = a, .cig = d->cin / d->groups, .cog = d->cout / d->groups};
  j.walk = best_walk();
  j.lister = ms_event_best_lister();
  j.taps = d->kh * d->kw;
  j.phases = (int64_t)d->stride_h * d->stride_w;
  j.y = make_axis(d->h, d->pad_h, d->stride_h, d->dil_h, d->kh);
  j.x = make_axis(d->w, d->pad_w, d->stride_w, d->dil_w, d->kw);
  j.width = j.x.n + j.x.reach;
  int64_t fit = NEAR / (j.width * PANEL);
  j.lines = ms_min64(ms_max64(fit - j.y.reach, LEAST_LINES), j.y.n);
  j.strips_y = ms_ceil_div(j.y.n, j.lines);
  j.lines = ms_ceil_div(j.y.n, j.strips_y);
  j.height = j.lines + j.y.reach;
  j.images = j.strips_y > 1 ? 1 : ms_max64(ms_min64(fit / j.height, d->n), 1);
  j.strips = ms_ceil_div(d->n, j.images) * j.strips_y;
  j.room = j.images * j.lines * j.x.n + MS_EVENT_ROOM;

  j.blocks = ms_ceil_div(j.cig, BLOCK);
  j.block = ms_ceil_div(j.cig, j.blocks);
  j.panels = ms_ceil_div(j.cog, PANEL);
  j.turns = ms_ceil_div(j.panels, j.blocks * j.panels >= 128 ? 2 * PANELS : PANELS);
  j.panels_once = ms_ceil_div(j.panels, j.turns);
  j.turns = ms_ceil_div(j.panels, j.panels_once);
  j.sums = j.panels_once * j.block * j.taps * PANEL;
  j.pieces = d->groups * j.blocks * j.turns;
  int64_t chunks = ms_min64(ms_min64(ms_ceil_div(TASKS, j.pieces), KEPT / (j.pieces * j.sums)), j.strips / 4);
  j.chunk = ms_max64(ms_ceil_div(j.strips, ms_max64(chunks, 1)), 1);
  j.chunks = ms_max64(ms_ceil_div(j.strips, j.chunk), 1);
  return j;
}

/* Along one axis phase p has the taps first, first + step, ...; the tap `first` reads `reach` behind a, each further
** one `apart` less. */
typedef struct phase_taps {
  int64_t first, step, n, reach, apart;
} phase_taps;

static phase_taps taps_of(int64_t phase, int stride, int dilation, int taps) {
  phase_taps p = {.first = -1, .step = 1, .apart = 1};
  for (int64_t t = 0; t < taps; t++)
    if ((phase - t * dilation) % stride == 0) {
      if (p.n == 0)
        p.first = t, p.reach = (t * dilation - phase) / stride;
      else if (p.n == 1)
        p.step = t - p.first, p.apart = (t - p.first) * dilation / stride;
      p.n++;
    }
  return p;
}

/* ---- one piece of work ---- */

typedef struct piece {
  ms_real *sum, *dy; /* [panel][channel][tap][PANEL], [panel][image][height][width][PANEL] */
  int64_t *n;        /* [phase][channel] */
  uint16_t *list;    /* [phase][channel][room] */
  ms_real *count;
  int64_t group, c, channels, panel, panels; /* what it works on */
  int weighted;                              /* some input of the strip is above 1 */
} piece;

static int take_room(const event_job *j, piece *p) {
  int64_t lists = j->phases * j->block;
  size_t sum = ms_event_part(j->chunks > 1 ? 0 : j->sums, sizeof *p->sum);
  size_t dy = ms_event_part(j->panels_once * j->images * j->height * j->width * PANEL, sizeof *p->dy);
  size_t n = ms_event_part(lists, sizeof *p->n), list = ms_event_part(lists * j->room, sizeof *p->list);
  char *at = ms_cpu_scratch(1, sum + dy + n + list + ms_event_part(lists * j->room, sizeof *p->count));
  if (!at)
    return 0;
  p->sum = (ms_real *)at;
  p->dy = (ms_real *)(at += sum);
  p->n = (int64_t *)(at += dy);
  p->list = (uint16_t *)(at += n);
  p->count = (ms_real *)(at + list);
  return 1;
}

/* At most 64 pixels of one phase: where their inputs and their places in the padded copy are. */
typedef struct pixel_set {
  int64_t n, from[64];
  uint16_t place[64];
} pixel_set;

static void list_pixels(const event_job *j, piece *p, const pixel_set *some, int64_t phase) {
  static const uint16_t order[64] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                     16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                                     32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
                                     48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
  ms_event_cells cells = {.x = j->a->x, .cells = some->n, .from = some->from};
  for (int64_t c0 = 0; c0 < p->channels; c0 += 64) {
    uint64_t word[64];
    cells.at = p->group * j->cig + p->c + c0;
    cells.n = ms_min64(64, p->channels - c0);
    j->lister.columns(word, &cells);
    for (int64_t c = 0; c < cells.n; c++) {
      int64_t to = phase * j->block + c0 + c, at = to * j->room + p->n[to];
      int64_t n = j->lister.places(p->list + at, word[c], some->place);
      p->n[to] += n;
      if (p->weighted) {
        const uint8_t *x = (const uint8_t *)cells.x.p + cells.at + c;
        uint16_t which[64 + MS_EVENT_ROOM];
        uint8_t count[64];
        j->lister.places(which, word[c], order);
        for (int64_t i = 0; i < n; i++)
          count[i] = x[some->from[which[i]]];
        for (int64_t i = 0; i < n; i++)
          p->count[at + i] = count[i];
      }
    }
  }
}

/* Lines [from, end) of some images; line a0 of each is the first of its padded copy after its reach. */
static void list_images(const event_job *j, piece *p, int64_t image, int64_t images, int64_t from, int64_t end,
                        int64_t a0) {
  const ms_conv_desc *d = j->d;
  for (int64_t phase = 0; phase < j->phases; phase++) {
    int64_t py = phase / d->stride_w, px = phase % d->stride_w, line = d->w * d->cin;
    if (taps_of(py, d->stride_h, d->dil_h, d->kh).n == 0 || taps_of(px, d->stride_w, d->dil_w, d->kw).n == 0)
      continue;
    int64_t ix0 = ((px - d->pad_w) % d->stride_w + d->stride_w) % d->stride_w;
    pixel_set some = {.n = 0};
    for (int64_t i = 0; i < images; i++)
      for (int64_t iy = from; iy < end; iy++) {
        if ((iy + d->pad_h) % d->stride_h != py)
          continue;
        int64_t row = (i * j->height + (iy + d->pad_h) / d->stride_h - a0) * j->width - j->x.first;
        int64_t place = row + (ix0 + d->pad_w) / d->stride_w;
        for (int64_t ix = ix0; ix < d->w; ix += d->stride_w) {
          some.from[some.n] = ((image + i) * d->h + iy) * line + ix * d->cin;
          some.place[some.n++] = (uint16_t)place++;
          if (some.n == 64) {
            list_pixels(j, p, &some, phase);
            some.n = 0;
          }
        }
      }
    if (some.n)
      list_pixels(j, p, &some, phase);
  }
}

/* dL/dy of one image of the strip, panels side by side in y, one after the other in the copy; a0 is the strip's first
** a. */
static MS_HOT void copy_outputs(const event_job *j, ms_real *to, int64_t image, int64_t a0, int64_t c, int64_t cols) {
  const ms_conv_desc *d = j->d;
  int64_t panel = j->images * j->height * j->width * PANEL, panels = ms_ceil_div(cols, PANEL);
  int64_t left = ms_min64(ms_max64(j->x.reach - j->x.first, 0), j->width);
  int64_t ox = left + j->x.first - j->x.reach, pixels = ms_max64(ms_min64(d->ow - ox, j->width - left), 0);
  for (int64_t r = 0; r < j->height; r++, to += j->width * PANEL) {
    int64_t oy = a0 - j->y.reach + r, inside = oy >= 0 && oy < d->oh;
    for (int64_t q = 0; q < panels; q++) {
      memset(to + q * panel, 0, (size_t)((inside ? left : j->width) * PANEL) * sizeof *to);
      if (inside)
        memset(to + q * panel + (left + pixels) * PANEL, 0, (size_t)((j->width - left - pixels) * PANEL) * sizeof *to);
    }
    int64_t from = ((image * d->oh + oy) * d->ow + ox) * d->cout + c;
    for (int64_t i = left; inside && i < left + pixels; i++, from += d->cout) {
      int64_t q = 0;
      for (; (q + 1) * PANEL <= cols; q++)
        ms_unpack(to + q * panel + i * PANEL, j->a->y, from + q * PANEL, PANEL);
      if (q * PANEL < cols) {
        ms_unpack(to + q * panel + i * PANEL, j->a->y, from + q * PANEL, cols - q * PANEL);
        ms_zero_run(to + q * panel + i * PANEL + cols - q * PANEL, (q + 1) * PANEL - cols);
      }
    }
  }
}

/* The next strip's dL/dy is asked for while lists are walked: part `at` of `parts`. */
static void fetch_outputs(const event_job *j, const piece *p, int64_t strip, int64_t at, int64_t parts) {
  const ms_conv_desc *d = j->d;
  if (strip >= j->strips)
    return;
  int64_t image = strip / j->strips_y * j->images, images = ms_min64(j->images, d->n - image);
  int64_t oy = j->y.first + strip % j->strips_y * j->lines - j->y.reach;
  int64_t first = ms_max64(oy, 0), pixels = (ms_min64(oy + j->height, d->oh) - first) * d->ow;
  if (images > 1)
    first = 0, pixels = images * d->oh * d->ow;
  int64_t width = j->a->y.dtype == MS_F32 ? sizeof(ms_real) : sizeof(ms_bf16);
  int64_t cols = ms_min64(p->panels * PANEL, j->cog - p->panel * PANEL);
  for (int64_t i = at * pixels / parts; i < (at + 1) * pixels / parts; i++) {
    int64_t from = ((image * d->oh + first) * d->ow + i) * d->cout + p->group * j->cog + p->panel * PANEL;
    for (int64_t b = 0; b < cols * width; b += 64)
      __builtin_prefetch((const char *)j->a->y.p + from * width + b, 0, 2);
  }
}

/* All taps of one channel and phase; where two taps of a line are not neighbours, a column of taps at a time. */
static void walk_list(const event_job *j, list_walk *l, ms_real *sum, const phase_taps *y, const phase_taps *x) {
  int64_t most = x->apart == 1 ? 3 : 1, row = y->apart * j->width * PANEL;
  const ms_real *dy = l->dy;
  l->row = row;
  l->sum_row = y->step * j->d->kw * PANEL;
  l->sum_col = x->step * PANEL;
  for (int64_t ky = 0; ky < y->n; ky += 3)
    for (int64_t kx = 0; kx < x->n; kx += most) {
      int64_t rows = ms_min64(3, y->n - ky), cols = ms_min64(most, x->n - kx);
      l->dy = dy + ((j->y.reach - y->reach) * j->width + j->x.reach - x->reach - kx * x->apart) * PANEL - ky * row;
      l->sum = sum + ((y->first + ky * y->step) * j->d->kw + x->first + kx * x->step) * PANEL;
      j->walk(l, (int)rows, (int)cols);
    }
  l->dy = dy;
}

static void walk_lists(const event_job *j, const piece *p, int64_t panel, int64_t strip) {
  const ms_conv_desc *d = j->d;
  ms_real *sum = p->sum + panel * j->block * j->taps * PANEL;
  for (int64_t phase = 0; phase < j->phases; phase++) {
    phase_taps y = taps_of(phase / d->stride_w, d->stride_h, d->dil_h, d->kh);
    phase_taps x = taps_of(phase % d->stride_w, d->stride_w, d->dil_w, d->kw);
    for (int64_t c = 0; c < p->channels; c++) {
      int64_t at = phase * j->block + c;
      int64_t turn = (panel * j->phases + phase) * p->channels + c;
      if (turn % 8 == 0)
        fetch_outputs(j, p, strip + 1, turn / 8, ms_ceil_div(p->panels * j->phases * p->channels, 8));
      list_walk l = {.list = p->list + at * j->room,
                     .count = p->weighted ? p->count + at * j->room : NULL,
                     .n = p->n[at],
                     .dy = p->dy + panel * j->images * j->height * j->width * PANEL};
      if (l.n)
        walk_list(j, &l, sum + c * j->taps * PANEL, &y, &x);
    }
  }
}

static void run_strip(const event_job *j, piece *p, int64_t strip) {
  const ms_conv_desc *d = j->d;
  int64_t image = strip / j->strips_y * j->images, images = ms_min64(j->images, d->n - image);
  int64_t a0 = j->y.first + strip % j->strips_y * j->lines, line = d->w * d->cin;
  int64_t from = ms_max64(a0 * d->stride_h - d->pad_h, 0);
  int64_t end = ms_min64((a0 + j->lines) * d->stride_h - d->pad_h, d->h);
  int64_t lines = (images - 1) * d->h + end - from;
  memset(p->n, 0, (size_t)(j->phases * j->block) * sizeof *p->n);
  p->weighted = lines > 0 && ms_event_measure(j->a->x, (image * d->h + from) * line, lines * line).most > 1;
  if (lines > 0)
    list_images(j, p, image, images, from, end, a0);
  int64_t c = p->panel * PANEL, cols = ms_min64(p->panels * PANEL, j->cog - c);
  for (int64_t i = 0; i < images; i++)
    copy_outputs(j, p->dy + i * j->height * j->width * PANEL, image + i, a0, p->group * j->cog + c, cols);
  for (int64_t q = 0; q < p->panels; q++)
    walk_lists(j, p, q, strip);
}

/* The sums, turned round: rows of input channels for each output channel and tap. */
static MS_HOT void store_weights(const event_job *j, const piece *p) {
  for (int64_t co = p->panel * PANEL; co < ms_min64((p->panel + p->panels) * PANEL, j->cog); co++)
    for (int64_t t = 0; t < j->taps; t++) {
      const ms_real *from = p->sum + ((co / PANEL - p->panel) * j->block * j->taps + t) * PANEL + co % PANEL;
      int64_t to = ((p->group * j->cog + co) * j->taps + t) * j->cig + p->c;
      for (int64_t c = 0; c < p->channels; c += MS_NR) {
        ms_real row[MS_NR];
        int64_t n = ms_min64(MS_NR, p->channels - c);
        for (int64_t i = 0; i < n; i++)
          row[i] = from[(c + i) * j->taps * PANEL];
        ms_store_tile(j->a->weight, to + c, 0, row, 1, n, j->a->x.scale, 0, NULL);
      }
    }
}

static piece make_piece(const event_job *j, int64_t i) {
  piece p = {.panel = i % j->turns * j->panels_once, .c = i / j->turns % j->blocks * j->block};
  p.group = i / j->turns / j->blocks;
  p.panels = ms_min64(j->panels_once, j->panels - p.panel);
  p.channels = ms_min64(j->block, j->cig - p.c);
  return p;
}

static ms_real *kept_sums(const event_job *j, int64_t i, int64_t chunk) {
  return (ms_real *)j->a->workspace + (i * j->chunks + chunk) * j->sums;
}

static int run_piece(const event_job *j, int64_t i, int64_t chunk) {
  piece p = make_piece(j, i);
  if (!take_room(j, &p))
    return 0;
  if (j->chunks > 1)
    p.sum = kept_sums(j, i, chunk);
  memset(p.sum, 0, (size_t)j->sums * sizeof *p.sum);
  for (int64_t strip = chunk * j->chunk; strip < ms_min64((chunk + 1) * j->chunk, j->strips); strip++)
    run_strip(j, &p, strip);
  if (j->chunks == 1)
    store_weights(j, &p);
  return 1;
}

static MS_HOT void join_chunks(const event_job *j, int64_t i) {
  piece p = make_piece(j, i);
  p.sum = kept_sums(j, i, 0);
  for (int64_t chunk = 1; chunk < j->chunks; chunk++) {
    const ms_real *more = kept_sums(j, i, chunk);
    MS_SIMD
    for (int64_t k = 0; k < j->sums; k++)
      p.sum[k] += more[k];
  }
  store_weights(j, &p);
}

/* ---- the pass ---- */

/* A position in the padded strip is 16 bits wide. */
int ms_event_weight_grad_fits(const ms_conv_desc *d) {
  event_job j = start_job(d, NULL);
  return j.images * j.height * j.width <= UINT16_MAX;
}

size_t ms_event_weight_grad_size(const ms_conv_desc *d) {
  event_job j = start_job(d, NULL);
  size_t sums = j.chunks > 1 ? (size_t)(j.pieces * j.chunks * j.sums) * sizeof(ms_real) : 0;
  size_t bias = ms_bias_grad_size(d->n * d->oh * d->ow, d->cout);
  return sums > bias ? sums : bias;
}

ms_status ms_event_weight_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  event_job j = start_job(d, a);
  int failed = 0;
  ms_parallel_for(i, j.pieces * j.chunks, d->n * d->oh * d->ow * j.block * j.taps) {
    if (!run_piece(&j, i / j.chunks, i % j.chunks)) {
#pragma omp atomic write
      failed = 1;
    }
  }
  if (failed)
    return MS_EMEM;
  if (j.chunks > 1)
    ms_parallel_for(i, j.pieces, j.chunks * j.sums) join_chunks(&j, i);
  return a->bias ? ms_bias_grad(a->bias, a->y, d->n * d->oh * d->ow, d->cout, a->workspace) : MS_OK;
}
