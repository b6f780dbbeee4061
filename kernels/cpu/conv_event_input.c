/* Gradient of the inputs where only some are wanted: behind a neuron whose surrogate derivative is zero nobody reads it.
**
**   dx[pixel, ci] = sum over (tap, co) of dy[pixel - tap, co] * w[co, tap, ci]
**
** is one scalar product for each wanted element, vectors run along co. A tile of up to 64 pixels is one set of bits for
** each input channel. Three channels are taken together, and a pixel belongs to the one of seven patterns that says
** which of them want it: pixels of one pattern meet the weights of its channels in blocks, whose operands serve several
** products each. dL/dy of the tile is copied with the zeros around the image, a block of output channels at a time, so
** that a pixel reads a tap at a fixed offset; with strides, the pixels of a phase read the taps that divide.
** A product is summed in an order that only the shape and the mask decide. */
#include "conv_event.h"

enum {
  TILE = 64,    /* pixels of a tile: bits of a word */
  TOGETHER = 3, /* input channels of a group */
  PATTERNS = 8, /* subsets of them; nobody wants the first */
  SUMS = TILE * TOGETHER + 64 / (int)sizeof(ms_real),
  TURN = 8 * TOGETHER,                     /* channels whose mask is turned at a time: whole bytes and whole groups */
  NEAR = 52 * 1024 / (int)sizeof(ms_real), /* dL/dy of a tile, about a first level cache */
  FAR = 384 * 1024,                        /* bytes of lists and sums of a piece of tiles */
  MOST_TILES = 4,
  PITCH = MS_NR /* output channels are padded to this */
};

/* ---- micro kernel ---- */

/* The wanted pixels of a group in a tile, in order of patterns. */
typedef struct wanted {
  uint8_t count[PATTERNS], pixel[TILE];
} wanted;

typedef struct walk {
  const ms_real *patch;
  const int32_t *place; /* of each pixel of the tile */
  const int32_t *tap;   /* offsets from there */
  int64_t taps, width;  /* reals of a tap, a multiple of PITCH */
} walk;

/* Adds (or, at first, puts) the products of one group into sums[pattern][pixel][channel]; the weights of channel c are
** taps * width reals from weight + c * taps * width on. */
typedef void (*group_fn)(const walk *l, const wanted *list, const ms_real *weight, ms_real *sums, int add);

#define MS_LOW_2 0, 2
#define MS_HIGH_2 1, 3
#define MS_TURN_2 1, 0
#define MS_LOW_4 0, 4, 1, 5
#define MS_HIGH_4 2, 6, 3, 7
#define MS_TURN_4 2, 3, 0, 1
#define MS_LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define MS_HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define MS_TURN_8 4, 5, 6, 7, 0, 1, 2, 3
#define MS_LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define MS_HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define MS_TURN_16 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7

#define MS_EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)
#define MS_ZIP(isa, lanes, half)                                            \
  if (half < some)                                                          \
    MS_EACH(q, half)                                                        \
  sum[q] = __builtin_shufflevector(sum[q], sum[q + half], MS_LOW_##lanes) + \
           __builtin_shufflevector(sum[q], sum[q + half], MS_HIGH_##lanes);
#define MS_BLOCK_CASE(isa, n)                           \
  case n:                                               \
    if (n <= most)                                      \
      block_##isa(l, pixel, w, sums, add, channels, n); \
    break;

/* One load of a value that several products use; gcc would make it a memory operand of each. */
#ifdef __x86_64__
#define MS_KEEP(value) __asm__("" : "+v"(value))
#else
#define MS_KEEP(value) (void)0
#endif

/* zip: lanes i and i + lanes / 2 of both operands added, those of a at even places. Taken between vectors q and q + half
** of them, down to one, it leaves the sum of vector q in lane q.
** block: `pixels` against `channels`, all sums in registers.
** most1, 2, 3: largest block of patterns with that many channels. */
#define MS_DOTS(isa, target, lanes, most1, most2, most3) MS_DOTS_(isa, target, lanes, most1, most2, most3)
#define MS_DOTS_(isa, target, lanes, most1, most2, most3)                                                          \
  typedef ms_real vec_##isa                                                                                        \
      __attribute__((vector_size(lanes * sizeof(ms_real)), aligned(sizeof(ms_real)), may_alias));                  \
  typedef ms_real half_##isa                                                                                       \
      __attribute__((vector_size(lanes / 2 * sizeof(ms_real)), aligned(sizeof(ms_real)), may_alias));              \
  target MS_FUSED static inline                                                                                    \
      __attribute__((always_inline)) void put_##isa(ms_real *sums, vec_##isa *sum, int n, int add) {               \
    int whole = n > lanes / 2, some = whole ? lanes : lanes / 2;                                                   \
    MS_ZIP(isa, lanes, 8)                                                                                          \
    MS_ZIP(isa, lanes, 4)                                                                                          \
    MS_ZIP(isa, lanes, 2)                                                                                          \
    MS_ZIP(isa, lanes, 1)                                                                                          \
    if (!whole) {                                                                                                  \
      half_##isa r, *to = (half_##isa *)sums;                                                                      \
      sum[0] += __builtin_shufflevector(sum[0], sum[0], MS_TURN_##lanes);                                          \
      memcpy(&r, sum, sizeof r);                                                                                   \
      if (add)                                                                                                     \
        r += *to;                                                                                                  \
      *to = r;                                                                                                     \
    } else {                                                                                                       \
      vec_##isa *to = (vec_##isa *)sums;                                                                           \
      if (add)                                                                                                     \
        sum[0] += *to;                                                                                             \
      *to = sum[0];                                                                                                \
    }                                                                                                              \
  }                                                                                                                \
  target MS_FUSED static inline __attribute__((always_inline)) void block_##isa(                                   \
      const walk *l, const uint8_t *pixel, const ms_real *const *w, ms_real *sums, int add, int channels, int n) { \
    const int unroll = channels > 2 ? 1 : 2;                                                                       \
    vec_##isa sum[32];                                                                                             \
    const ms_real *y[12], *w0 = w[0], *w1 = w[channels > 1], *w2 = w[channels > 2 ? 2 : 0];                        \
    _Pragma("GCC unroll 32") for (int q = 0; q < 32; q++) sum[q] = (vec_##isa){0};                                 \
    MS_EACH(p, n) y[p] = l->patch + l->place[pixel[p]];                                                            \
    for (int64_t t = 0; t < l->taps; t++)                                                                          \
      for (int64_t at = l->tap[t], end = at + l->width; at < end; at += unroll * lanes) {                          \
        MS_EACH(v, unroll) {                                                                                       \
          vec_##isa a = *(const vec_##isa *)(w0 + v * lanes), b = a, c = a;                                        \
          if (channels > 1)                                                                                        \
            b = *(const vec_##isa *)(w1 + v * lanes);                                                              \
          if (channels > 2)                                                                                        \
            c = *(const vec_##isa *)(w2 + v * lanes);                                                              \
          MS_EACH(p, n) {                                                                                          \
            vec_##isa g = *(const vec_##isa *)(y[p] + at + v * lanes);                                             \
            if (channels > 1)                                                                                      \
              MS_KEEP(g);                                                                                          \
            sum[p * channels] += a * g;                                                                            \
            if (channels > 1)                                                                                      \
              sum[p * channels + 1] += b * g;                                                                      \
            if (channels > 2)                                                                                      \
              sum[p * channels + 2] += c * g;                                                                      \
          }                                                                                                        \
        }                                                                                                          \
        w0 += unroll * lanes;                                                                                      \
        w1 += unroll * lanes;                                                                                      \
        w2 += unroll * lanes;                                                                                      \
      }                                                                                                            \
    MS_EACH(i, (n * channels + lanes - 1) / lanes)                                                                 \
    put_##isa(sums + i * lanes, sum + i * lanes, n * channels - i * lanes, add);                                   \
  }                                                                                                                \
  target MS_FUSED static inline __attribute__((always_inline)) void pattern_##isa(                                 \
      const walk *l, const uint8_t *pixel, int64_t pixels, const ms_real *const *w, ms_real *sums, int add,        \
      int channels, int most) {                                                                                    \
    for (int64_t blocks = (pixels + most - 1) / most; blocks > 0; blocks--) {                                      \
      int64_t n = (pixels + blocks - 1) / blocks;                                                                  \
      switch (n) {                                                                                                 \
        MS_BLOCK_CASE(isa, 1)                                                                                      \
        MS_BLOCK_CASE(isa, 2)                                                                                      \
        MS_BLOCK_CASE(isa, 3)                                                                                      \
        MS_BLOCK_CASE(isa, 4)                                                                                      \
        MS_BLOCK_CASE(isa, 5)                                                                                      \
        MS_BLOCK_CASE(isa, 6)                                                                                      \
        MS_BLOCK_CASE(isa, 7)                                                                                      \
        MS_BLOCK_CASE(isa, 8)                                                                                      \
        MS_BLOCK_CASE(isa, 9)                                                                                      \
        MS_BLOCK_CASE(isa, 10)                                                                                     \
        MS_BLOCK_CASE(isa, 11)                                                                                     \
        MS_BLOCK_CASE(isa, 12)                                                                                     \
      }                                                                                                            \
      pixel += n;                                                                                                  \
      sums += n * channels;                                                                                        \
      pixels -= n;                                                                                                 \
    }                                                                                                              \
  }                                                                                                                \
  target MS_FUSED static void group_##isa(const walk *l, const wanted *list, const ms_real *weight, ms_real *sums, \
                                          int add) {                                                               \
    const uint8_t *pixel = list->pixel;                                                                            \
    for (int p = 1; p < PATTERNS; p++) {                                                                           \
      const ms_real *w[TOGETHER] = {weight, weight, weight};                                                       \
      int64_t n = list->count[p];                                                                                  \
      int channels = 0;                                                                                            \
      for (int c = 0; c < TOGETHER; c++)                                                                           \
        if (p >> c & 1)                                                                                            \
          w[channels++] = weight + c * l->taps * l->width;                                                         \
      if (channels == 1)                                                                                           \
        pattern_##isa(l, pixel, n, w, sums, add, 1, most1);                                                        \
      else if (channels == 2)                                                                                      \
        pattern_##isa(l, pixel, n, w, sums, add, 2, most2);                                                        \
      else                                                                                                         \
        pattern_##isa(l, pixel, n, w, sums, add, 3, most3);                                                        \
      pixel += n;                                                                                                  \
      sums += n * channels;                                                                                        \
    }                                                                                                              \
  }

#ifdef MS_REAL64
#define MS_LANES(single, twice) twice
#else
#define MS_LANES(single, twice) single
#endif

MS_DOTS(base, , MS_LANES(4, 2), 12, 6, 3)
#ifdef MS_ISA_LEVELS
MS_DOTS(avx2, MS_TARGET_AVX2, MS_LANES(8, 4), 12, 6, 4)
MS_DOTS(avx512, MS_TARGET_AVX512, MS_LANES(16, 8), 12, 7, 5)
#endif

static group_fn best_group(void) {
#ifdef MS_ISA_LEVELS
  if (ms_cpu_isa() == MS_ISA_AVX512)
    return group_avx512;
  if (ms_cpu_isa() == MS_ISA_AVX2)
    return group_avx2;
#endif
  return group_base;
}

/* ---- how a layer is cut ---- */

/* Along one axis: pixels of the first phase, and the outputs that pixel i of any phase reads: i + low ... + reach. */
typedef struct side {
  int64_t pixels, low, reach;
} side;

typedef struct input_job {
  const ms_conv_desc *d;
  const ms_conv_args *a;
  group_fn group;
  side y, x;
  int64_t images, lines, columns;  /* of a tile */
  int64_t tiles_y, tiles_x, tiles; /* of an image, and in all */
  int64_t piece;                   /* tiles of a piece of work */
  int64_t span_y, span_x, patch;   /* lines and pixels of dL/dy for one image of a tile, and reals for all */
  int64_t width, blocks;           /* output channels of a block, and how many */
  int64_t groups, phases;
  int32_t place[TILE];
  int32_t *first;      /* [phases + 1] its taps in the two below */
  int32_t *tap, *from; /* offset in the patch, and tap of the kernel */
  ms_real *weight;     /* [block][phase][ci][tap][width] */
} input_job;

/* Input phase + i * stride reads output i + shift through this tap, if it divides. */
static int divides(int64_t phase, int pad, int stride, int dilation, int64_t tap, int64_t *shift) {
  int64_t at = phase + pad - tap * dilation;
  *shift = at / stride;
  return at % stride == 0;
}

static side make_side(int64_t in, int pad, int stride, int dilation, int taps) {
  int64_t low = 0, high = 0, shift, found = 0;
  for (int64_t phase = 0; phase < ms_min64(stride, in); phase++)
    for (int64_t t = 0; t < taps; t++)
      if (divides(phase, pad, stride, dilation, t, &shift)) {
        low = found ? ms_min64(low, shift) : shift;
        high = found++ ? ms_max64(high, shift) : shift;
      }
  return (side){ms_ceil_div(in, stride), low, high - low};
}

/* Fewest tiles, then smallest patches; small images share a tile. */
static void cut_tiles(input_job *j) {
  int64_t least = INT64_MAX, area = 0;
  for (int64_t c = 1; c <= ms_min64(j->x.pixels, TILE); c++) {
    int64_t across = ms_ceil_div(j->x.pixels, c), down = ms_ceil_div(j->y.pixels, ms_min64(j->y.pixels, TILE / c));
    int64_t columns = ms_ceil_div(j->x.pixels, across), lines = ms_ceil_div(j->y.pixels, down);
    int64_t size = (lines + j->y.reach) * (columns + j->x.reach);
    if (across * down < least || (across * down == least && size < area)) {
      least = across * down;
      area = size;
      j->columns = columns;
      j->lines = lines;
    }
  }
  j->tiles_x = ms_ceil_div(j->x.pixels, j->columns);
  j->tiles_y = ms_ceil_div(j->y.pixels, j->lines);
  j->images = least > 1 ? 1 : ms_min64(TILE / (j->lines * j->columns), j->d->n);
  j->tiles = ms_ceil_div(j->d->n, j->images) * least;
  j->span_y = j->lines + j->y.reach;
  j->span_x = j->columns + j->x.reach;
}

static size_t tile_bytes(const input_job *j) {
  return (size_t)(j->phases * j->groups) * (sizeof(wanted) + SUMS * sizeof(ms_real));
}

static input_job start_job(const ms_conv_desc *d, const ms_conv_args *a) {
  input_job j = {.d = d, .a = a, .group = best_group(), .groups = ms_ceil_div(d->cin, TOGETHER)};
  j.phases = (int64_t)d->stride_h * d->stride_w;
  j.y = make_side(d->h, d->pad_h, d->stride_h, d->dil_h, d->kh);
  j.x = make_side(d->w, d->pad_w, d->stride_w, d->dil_w, d->kw);
  cut_tiles(&j);
  int64_t pixels = j.images * j.span_y * j.span_x, all = ms_ceil_div(d->cout, PITCH);
  j.blocks = ms_ceil_div(all, ms_max64(NEAR / (pixels * PITCH), 1));
  j.width = ms_ceil_div(all, j.blocks) * PITCH;
  j.blocks = ms_ceil_div(all * PITCH, j.width);
  j.patch = pixels * j.width;
  int64_t fit = ms_min64(FAR / (int64_t)tile_bytes(&j), MOST_TILES);
  j.piece = ms_max64(ms_min64(fit, j.tiles / 16), 1);
  return j;
}

static size_t table_bytes(const input_job *j) {
  return ms_event_part(j->phases + 1 + 2 * (int64_t)j->d->kh * j->d->kw, sizeof(int32_t));
}

static void fill_tables(input_job *j) {
  const ms_conv_desc *d = j->d;
  int32_t taps = 0, all = d->kh * d->kw;
  j->first = j->a->workspace;
  j->tap = j->first + j->phases + 1;
  j->from = j->tap + all;
  j->weight = (ms_real *)((char *)j->a->workspace + table_bytes(j));
  for (int64_t phase = 0; phase < j->phases; phase++) {
    j->first[phase] = taps;
    for (int64_t ky = d->kh - 1; ky >= 0; ky--)
      for (int64_t kx = d->kw - 1; kx >= 0; kx--) {
        int64_t py = phase / d->stride_w, px = phase % d->stride_w, sy, sx;
        if (py >= d->h || px >= d->w || !divides(py, d->pad_h, d->stride_h, d->dil_h, ky, &sy) ||
            !divides(px, d->pad_w, d->stride_w, d->dil_w, kx, &sx))
          continue;
        j->tap[taps] = (int32_t)(((sy - j->y.low) * j->span_x + sx - j->x.low) * j->width);
        j->from[taps++] = (int32_t)(ky * d->kw + kx);
      }
  }
  j->first[j->phases] = taps;
  for (int64_t q = 0; q < j->images * j->lines * j->columns; q++) {
    int64_t column = q % j->columns, line = q / j->columns % j->lines, image = q / j->columns / j->lines;
    j->place[q] = (int32_t)(((image * j->span_y + line) * j->span_x + column) * j->width);
  }
}

/* ---- weights ---- */

static ms_real *block_weights(const input_job *j, int64_t block, int64_t phase) {
  int64_t taps = j->first[j->phases];
  return j->weight + (block * taps + j->first[phase]) * j->d->cin * j->width;
}

/* PITCH output channels of one tap, every input channel. */
static MS_HOT void turn_weights(const input_job *j, int64_t tap, int64_t panel) {
  const ms_conv_desc *d = j->d;
  int64_t phase = 0, co = panel * PITCH, all = d->kh * d->kw, cols = ms_min64(PITCH, d->cout - co);
  while (tap >= j->first[phase + 1])
    phase++;
  int64_t taps = j->first[phase + 1] - j->first[phase];
  ms_real *to = block_weights(j, co / j->width, phase) + (tap - j->first[phase]) * j->width + co % j->width;
  for (int64_t ci = 0; ci < d->cin; ci += 64) {
    ms_real part[64 * PITCH];
    int64_t rows = ms_min64(64, d->cin - ci);
    if (cols > 0)
      ms_pack_columns((ms_panels){part, PITCH, sizeof part / sizeof *part}, j->a->weight,
                      (co * all + j->from[tap]) * d->cin + ci, all * d->cin, rows, cols);
    for (int64_t r = 0; r < rows; r++) {
      ms_real *row = to + (ci + r) * taps * j->width;
      if (cols == PITCH) {
        ms_copy_run(row, part + r * PITCH, PITCH);
      } else {
        ms_zero_run(row, PITCH);
        for (int64_t c = 0; c < cols; c++)
          row[c] = part[r * PITCH + c];
      }
    }
  }
}

/* ---- one tile ---- */

typedef struct room {
  ms_real *patch, *sums;
  wanted *list; /* [tile of the piece][phase][group], and the same of sums */
} room;

static int take_room(const input_job *j, room *r) {
  int64_t lists = j->piece * j->phases * j->groups;
  size_t patch = ms_event_part(j->patch, sizeof(ms_real)), sums = ms_event_part(lists * SUMS, sizeof(ms_real));
  char *p = ms_cpu_scratch(1, patch + sums + (size_t)lists * sizeof(wanted));
  if (!p)
    return 0;
  r->patch = (ms_real *)p;
  r->sums = (ms_real *)(p + patch);
  r->list = (wanted *)(p + patch + sums);
  return 1;
}

typedef struct corner {
  int64_t image, line, column; /* of the first phase */
} corner;

static corner find_tile(const input_job *j, int64_t tile) {
  return (corner){tile / j->tiles_x / j->tiles_y * j->images, tile / j->tiles_x % j->tiles_y * j->lines,
                  tile % j->tiles_x * j->columns};
}

/* Index of each pixel of one phase of a tile in the image, -1 outside; how many there are. */
static int64_t find_pixels(const input_job *j, corner at, int64_t phase, int64_t *pixel) {
  const ms_conv_desc *d = j->d;
  int64_t n = 0;
  for (int64_t i = at.image; i < at.image + j->images; i++)
    for (int64_t line = at.line; line < at.line + j->lines; line++)
      for (int64_t column = at.column; column < at.column + j->columns; column++) {
        int64_t y = line * d->stride_h + phase / d->stride_w, x = column * d->stride_w + phase % d->stride_w;
        pixel[n++] = i < d->n && y < d->h && x < d->w ? (i * d->h + y) * d->w + x : -1;
      }
  return n;
}

static void list_group(wanted *to, const uint64_t *word) {
  uint8_t *pixel = to->pixel;
  for (int p = 1; p < PATTERNS; p++) {
    uint64_t left = (p & 1 ? word[0] : ~word[0]) & (p & 2 ? word[1] : ~word[1]) & (p & 4 ? word[2] : ~word[2]);
    uint8_t *first = pixel;
    for (; left; left &= left - 1)
      *pixel++ = (uint8_t)__builtin_ctzll(left);
    to->count[p] = (uint8_t)(pixel - first);
  }
}

static MS_HOT void list_phase(const input_job *j, corner at, int64_t phase, wanted *to) {
  int64_t pixel[TILE], n = find_pixels(j, at, phase, pixel), cin = j->d->cin;
  for (int64_t c = 0; c < cin; c += TURN) {
    uint64_t word[TURN] = {0};
    for (int64_t b = 0; b < ms_min64(TURN, cin - c); b += 8) {
      const uint8_t *mask = j->a->mask ? j->a->mask + (c + b) / 8 : NULL;
      for (int64_t q = 0; q < n; q += 8) {
        uint64_t bytes = 0;
        for (int64_t i = 0; i < ms_min64(8, n - q); i++)
          if (pixel[q + i] >= 0)
            bytes |= (uint64_t)(mask ? mask[pixel[q + i] * (cin / 8)] : 0xff) << 8 * i;
        bytes = ms_bits_turn(bytes);
        for (int64_t i = 0; i < 8; i++)
          word[b + i] |= (bytes >> 8 * i & 0xff) << q;
      }
    }
    for (int64_t g = 0; g < TURN && c + g < cin; g += TOGETHER)
      list_group(to++, word + g);
  }
}

/* Output channels of one block around a tile, zeros outside the image and behind the last channel. */
static MS_HOT void copy_patch(const input_job *j, corner at, int64_t block, ms_real *to) {
  const ms_conv_desc *d = j->d;
  int64_t co = block * j->width, n = ms_min64(j->width, d->cout - co);
  for (int64_t i = at.image; i < at.image + j->images; i++)
    for (int64_t y = at.line + j->y.low; y < at.line + j->y.low + j->span_y; y++)
      for (int64_t x = at.column + j->x.low; x < at.column + j->x.low + j->span_x; x++, to += j->width)
        if (i >= d->n || y < 0 || y >= d->oh || x < 0 || x >= d->ow) {
          ms_zero_run(to, j->width);
        } else {
          ms_unpack(to, j->a->y, ((i * d->oh + y) * d->ow + x) * d->cout + co, n);
          ms_zero_run(to + n, j->width - n);
        }
}

/* Sums of one group go to channels 0, 1, 2 of each pixel's row. */
static void spread_group(const wanted *list, const ms_real *sums, ms_real *row) {
  static const int8_t channel[PATTERNS][TOGETHER] = {{0}, {0}, {1}, {0, 1}, {2}, {0, 2}, {1, 2}, {0, 1, 2}};
  static const int8_t channels[PATTERNS] = {0, 1, 1, 2, 1, 2, 2, 3};
  const uint8_t *pixel = list->pixel;
  for (int p = 1; p < PATTERNS; p++) {
    int64_t n = list->count[p], a = channel[p][0], b = channel[p][1], c = channel[p][2];
    if (channels[p] == 1) {
      for (int64_t i = 0; i < n; i++)
        row[pixel[i] * TURN + a] = sums[i];
    } else if (channels[p] == 2) {
      for (int64_t i = 0; i < n; i++) {
        row[pixel[i] * TURN + a] = sums[2 * i];
        row[pixel[i] * TURN + b] = sums[2 * i + 1];
      }
    } else {
      for (int64_t i = 0; i < n; i++) {
        row[pixel[i] * TURN + a] = sums[3 * i];
        row[pixel[i] * TURN + b] = sums[3 * i + 1];
        row[pixel[i] * TURN + c] = sums[3 * i + 2];
      }
    }
    pixel += n;
    sums += n * channels[p];
  }
}

static MS_HOT void store_phase(const input_job *j, corner at, int64_t phase, const wanted *list, const ms_real *sums) {
  int64_t pixel[TILE], n = find_pixels(j, at, phase, pixel), cin = j->d->cin;
  for (int64_t c = 0; c < cin; c += TURN) {
    ms_real rows[TILE * TURN] = {0};
    int64_t width = ms_min64(TURN, cin - c);
    for (int64_t g = 0; g < width; g += TOGETHER, list++, sums += SUMS)
      spread_group(list, sums, rows + g);
    for (int64_t q = 0; q < n; q++)
      if (pixel[q] >= 0 && j->a->x.dtype == MS_BF16) {
        ms_bf16 *to = (ms_bf16 *)j->a->x.p + pixel[q] * cin + c;
        for (int64_t i = 0; i < width; i++)
          to[i] = ms_bf16_from((float)rows[q * TURN + i]);
      } else if (pixel[q] >= 0) {
        ms_copy_run((ms_real *)j->a->x.p + pixel[q] * cin + c, rows + q * TURN, width);
      }
  }
}

/* Weights of a block serve all tiles of the piece. */
static void run_piece(const input_job *j, const room *r, int64_t first, int64_t end) {
  int64_t lists = j->phases * j->groups;
  for (int64_t t = first; t < end; t++)
    for (int64_t phase = 0; phase < j->phases; phase++)
      list_phase(j, find_tile(j, t), phase, r->list + (t - first) * lists + phase * j->groups);
  for (int64_t block = 0; block < j->blocks; block++)
    for (int64_t t = first; t < end; t++) {
      copy_patch(j, find_tile(j, t), block, r->patch);
      for (int64_t phase = 0; phase < j->phases; phase++) {
        const ms_real *weight = block_weights(j, block, phase);
        int64_t taps = j->first[phase + 1] - j->first[phase], list = (t - first) * lists + phase * j->groups;
        walk l = {r->patch, j->place, j->tap + j->first[phase], taps, j->width};
        for (int64_t g = 0; g < j->groups; g++)
          j->group(&l, r->list + list + g, weight + g * TOGETHER * taps * j->width, r->sums + (list + g) * SUMS,
                   block > 0);
      }
    }
  for (int64_t t = first; t < end; t++)
    for (int64_t phase = 0; phase < j->phases; phase++) {
      int64_t list = (t - first) * lists + phase * j->groups;
      store_phase(j, find_tile(j, t), phase, r->list + list, r->sums + list * SUMS);
    }
}

/* ---- the pass ---- */

ms_status ms_event_input_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  input_job j = start_job(d, a);
  fill_tables(&j);
  int64_t panels = j.blocks * j.width / PITCH, taps = j.first[j.phases];
  ms_parallel_for(i, taps * panels, PITCH * d->cin) turn_weights(&j, i / panels, i % panels);
  int failed = 0;
  ms_parallel_for(i, ms_ceil_div(j.tiles, j.piece), j.piece * TILE * d->cin * d->cout) {
    room r;
    if (take_room(&j, &r)) {
      run_piece(&j, &r, i * j.piece, ms_min64((i + 1) * j.piece, j.tiles));
    } else {
#pragma omp atomic write
      failed = 1;
    }
  }
  return failed ? MS_EMEM : MS_OK;
}

size_t ms_event_input_grad_workspace(const ms_conv_desc *d) {
  input_job j = start_job(d, NULL);
  return table_bytes(&j) + (size_t)(d->kh * d->kw * d->cin * j.blocks * j.width) * sizeof(ms_real);
}

/* Scratch is bounded: kernels that reach far and strides of many phases are left to the dense engines. */
int ms_event_input_grad_fits(const ms_conv_desc *d) {
  if (d->groups != 1 || d->weight != MS_F32 || d->cin % 8 != 0 || d->n * d->h * d->w * d->cin == 0 || d->cout == 0)
    return 0;
  input_job j = start_job(d, NULL);
  return j.patch <= 8 * NEAR && tile_bytes(&j) <= 8 * FAR;
}
