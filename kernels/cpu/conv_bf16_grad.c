/* The weight gradient of the bfloat16 engines: for each tap dw[ci, co] = sum over positions of x[ci, position + offset]
** * dy[position, co], a product over the positions of some images at a time. Inputs are turned round once, a row of
** positions for each channel, so that a tap is an offset into each row; dL/dy lies in pairs of positions, with zeros
** where the planes have them. */
#include "conv_bf16.h"
#include "gemm.h"

enum {
  BLOCK = MS_BF16_BLOCK,
  SPAN = 128,             /* positions whose part of a block of channels stays in the first level cache over all taps */
  CHANNELS = 4,           /* blocks of output channels of a task */
  LEAST_TASKS = 16,       /* where there are positions enough */
  GROUP_BYTES = 16 << 20, /* operands of the images that are laid out at a time */
  LEAST_IMAGES = 4
};

typedef struct job {
  const ms_conv_desc *d;
  const ms_conv_args *a;
  ms_planes p;
  ms_tap taps[MS_MOST_TAPS];
  int64_t ntaps, planes, lead;  /* lead: zeros in front of a row of x, so that offsets may be negative */
  int64_t positions, row;       /* rounded to blocks; row: of x */
  int64_t near;                 /* row of what one span reads */
  int64_t ci, co, tasks_co;     /* blocks of channels, and tasks over the output channels */
  int64_t chunks, chunk;        /* positions are cut */
  int64_t group, first, images; /* most images of a group; the group at hand */
  int x_parts, g_parts, pairs;
  uint8_t pair[MS_MOST_PAIRS][2];
  ms_bf16 *x, *g; /* [part][plane][ci * 32][row], [part][co][positions / 2][32][2] */
  int64_t x_part, g_part;
  float *sum; /* [chunk][co][ci][tap][32][32] */
  const ms_bf16_kernel *kernel;
} job;

static job start_job(const ms_conv_desc *d, const ms_conv_args *a) {
  job j = {.d = d, .a = a, .ntaps = (int64_t)d->kh * d->kw, .planes = (int64_t)d->stride_h * d->stride_w};
  j.p = ms_input_planes(d, j.taps);
  j.x_parts = ms_bf16_parts(d->weight, a ? a->x.dtype : d->x);
  j.g_parts = ms_bf16_parts(d->weight, a ? a->y.dtype : MS_F32);
  j.pairs = ms_bf16_pairs(j.x_parts, j.g_parts, j.pair);
  j.lead = ms_bf16_round(ms_plane_first(&j.p));
  j.near = SPAN + 2 * j.lead + BLOCK;
  j.ci = ms_ceil_div(d->cin, BLOCK);
  j.co = ms_ceil_div(d->cout, BLOCK);
  j.tasks_co = ms_ceil_div(j.co, CHANNELS);
  /* sized for float32 operands, whatever comes, so that the workspace does not depend on the arguments */
  int64_t image = ms_plane_image(&j.p) * BLOCK * (int64_t)sizeof(ms_bf16);
  image *= j.planes * j.ci * ms_bf16_parts(d->weight, d->x) + j.co * ms_bf16_parts(d->weight, MS_F32);
  j.group = ms_min64(ms_max64(GROUP_BYTES / image, LEAST_IMAGES), d->n);
  j.positions = ms_bf16_round(j.group * ms_plane_image(&j.p) + j.p.pitch);
  j.row = j.positions + 2 * j.lead + BLOCK;
  int64_t want = ms_ceil_div(LEAST_TASKS, j.ci * j.tasks_co);
  j.chunk = ms_bf16_round(ms_ceil_div(j.positions, ms_max64(1, ms_min64(want, j.positions / (4 * SPAN)))));
  j.chunks = ms_ceil_div(j.positions, j.chunk);
  j.x_part = j.planes * j.ci * BLOCK * j.row;
  j.g_part = j.co * BLOCK * j.positions;
  if (a) {
    j.x = a->workspace;
    j.g = j.x + j.x_parts * j.x_part;
    j.sum = (float *)(j.g + j.g_parts * j.g_part);
    j.kernel = ms_bf16_kernel_best();
  }
  return j;
}

size_t ms_bf16_weight_grad_workspace(const ms_conv_desc *d) {
  job j = start_job(d, NULL);
  size_t operands = (size_t)(j.x_parts * j.x_part + j.g_parts * j.g_part) * sizeof(ms_bf16);
  size_t sums = (size_t)(j.chunks * j.co * j.ci * j.ntaps * BLOCK * BLOCK) * sizeof(float);
  size_t bias = ms_bias_grad_size(d->n * d->oh * d->ow, d->cout);
  return operands + sums > bias ? operands + sums : bias;
}

/* ---- operands ---- */

/* a[i], b[i], a[i + 1], b[i + 1], ... of 4 elements each */
#ifdef __clang__
#define PAIRS(a, b, i) __builtin_shufflevector(a, b, i, i + 8, i + 1, i + 9, i + 2, i + 10, i + 3, i + 11)
#else
#define PAIRS(a, b, i) __builtin_shuffle(a, b, (ms_bits_eight){i, i + 8, i + 1, i + 9, i + 2, i + 10, i + 3, i + 11})
#endif

/* to[c][i] = from[i][c] for 8 x 8 elements. */
MS_HD void turn8(uint16_t *to, int64_t to_pitch, const uint16_t *from, int64_t from_pitch) {
  ms_bits_eight a[8], b[8];
  for (int i = 0; i < 8; i++)
    a[i] = *(const ms_bits_eight *)(from + i * from_pitch);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 4; i++) {
      b[2 * i] = PAIRS(a[i], a[i + 4], 0);
      b[2 * i + 1] = PAIRS(a[i], a[i + 4], 4);
    }
    for (int i = 0; i < 8; i++)
      a[i] = b[i];
  }
  for (int i = 0; i < 8; i++)
    *(ms_bits_eight *)(to + i * to_pitch) = a[i];
}

/* n pixels from the spikes' bits: pixel i begins at byte i * step of `from`. */
static MS_HOT void turn_line_of_bits(const job *j, const uint8_t *from, int64_t step, int64_t n, uint16_t *to) {
  const uint16_t one = ms_bf16_from(1).bits;
  for (int64_t i = 0; i < n; i += 8)
    for (int64_t c = 0; c < j->d->cin / 8; c++) {
      int64_t pixels = ms_min64(8, n - i);
      uint64_t block = 0;
      for (int64_t k = 0; k < pixels; k++)
        block |= (uint64_t)from[(i + k) * step + c] << 8 * k;
      block = ms_bits_turn(block);
      uint16_t *out = to + 8 * c * j->row + i;
      for (int k = 0; k < 8; k++, out += j->row) {
        ms_bits_eight eight = ms_bits_lanes((uint8_t)(block >> 8 * k), one);
        if (pixels == 8)
          *(ms_bits_eight *)out = eight;
        else
          memcpy(out, &eight, (size_t)pixels * sizeof *out);
      }
    }
}

/* n pixels of any type: pixel i begins at element at + i * step. Eight pixels are converted, and turned round. */
static MS_HOT void turn_line(const job *j, int64_t at, int64_t step, int64_t n, uint16_t *to) {
  const ms_conv_desc *d = j->d;
  ms_bf16 buf[MS_PARTS][8 * BLOCK];
  for (int64_t c0 = 0; c0 < d->cin; c0 += BLOCK) {
    int64_t c = ms_min64(BLOCK, d->cin - c0);
    for (int64_t i = 0; i < n; i += 8) {
      int64_t pixels = ms_min64(8, n - i);
      for (int64_t k = 0; k < pixels; k++)
        ms_bf16_split(buf[0] + k * BLOCK, 8 * BLOCK, j->x_parts, j->a->x, at + (i + k) * step + c0, c);
      for (int part = 0; part < j->x_parts; part++) {
        uint16_t *out = to + part * j->x_part + c0 * j->row + i;
        if (pixels == 8 && c % 8 == 0) {
          for (int64_t k = 0; k < c; k += 8)
            turn8(out + k * j->row, j->row, &buf[part][k].bits, BLOCK);
        } else {
          for (int64_t k = 0; k < c; k++)
            for (int64_t q = 0; q < pixels; q++)
              out[k * j->row + q] = buf[part][q * BLOCK + k].bits;
        }
      }
    }
  }
}

/* One line of one image of the group, into all planes of its phase. */
static void turn_input_line(const job *j, int64_t line) {
  const ms_conv_desc *d = j->d;
  int64_t image = line / d->h, iy = line % d->h;
  for (int64_t px = 0; px < d->stride_w; px++) {
    int64_t plane = iy % d->stride_h * d->stride_w + px;
    uint16_t *to = &j->x->bits + plane * j->ci * BLOCK * j->row + j->lead + image * ms_plane_image(&j->p) +
                   ms_plane_first(&j->p) + iy / d->stride_h * j->p.pitch;
    int64_t at = (((j->first + image) * d->h + iy) * d->w + px) * d->cin, step = d->stride_w * d->cin;
    int64_t n = ms_ceil_div(d->w - px, d->stride_w);
    if (j->a->x.dtype == MS_BITS)
      turn_line_of_bits(j, (const uint8_t *)j->a->x.p + at / 8, step / 8, n, to);
    else
      turn_line(j, at, step, n, to);
  }
}

/* dL/dy of positions [at, at + n), n even, as pairs. */
static MS_HOT void pair_span(const job *j, int64_t at, int64_t n) {
  const ms_conv_desc *d = j->d;
  ms_bf16 two[2][MS_PARTS][BLOCK];
  for (int64_t p = at; p < at + n; p += 2) {
    int64_t from[2];
    for (int half = 0; half < 2; half++) {
      ms_pixel px = ms_plane_pixel(&j->p, p + half);
      int real = px.image < j->images && px.x >= 0 && px.y >= 0 && px.x < d->ow && px.y < d->oh;
      from[half] = real ? (((j->first + px.image) * d->oh + px.y) * d->ow + px.x) * d->cout : -1;
    }
    for (int64_t b = 0; b < j->co; b++) {
      int64_t c = ms_min64(BLOCK, d->cout - b * BLOCK);
      for (int half = 0; half < 2; half++) {
        if (from[half] < 0 || c < BLOCK)
          memset(two[half], 0, sizeof two[half]);
        if (from[half] >= 0)
          ms_bf16_split(two[half][0], BLOCK, j->g_parts, j->a->y, from[half] + b * BLOCK, c);
      }
      for (int part = 0; part < j->g_parts; part++) {
        ms_bf16 *to = j->g + part * j->g_part + (b * j->positions + p) * BLOCK;
        MS_SIMD
        for (int k = 0; k < BLOCK; k++) {
          to[2 * k] = two[0][part][k];
          to[2 * k + 1] = two[1][part][k];
        }
      }
    }
  }
}

/* The zeros between images stay where they are from group to group; of a shorter last group more must be zero. */
static void lay_out(const job *j) {
  const ms_conv_desc *d = j->d;
  int64_t piece = 512, rows = j->x_parts * j->planes * j->ci * BLOCK;
  if (j->first == 0 || j->images < j->group) {
    ms_parallel_for(r, rows, j->row) memset(j->x + r * j->row, 0, (size_t)j->row * sizeof *j->x);
  }
  ms_parallel_for(i, j->images * d->h, d->w * d->cin) turn_input_line(j, i);
  ms_parallel_for(i, ms_ceil_div(j->positions, piece), piece * j->co * BLOCK)
      pair_span(j, i * piece, ms_min64(piece, j->positions - i * piece));
}

/* ---- products ---- */

/* The part of a block of input channels that one span reads, side by side: its rows lie far apart, each on a page of
** its own. */
static void near_rows(const job *j, int64_t plane, int64_t ci, int64_t at, int64_t n, ms_bf16 *to) {
  for (int part = 0; part < j->x_parts; part++) {
    const ms_bf16 *from = j->x + part * j->x_part + (plane * j->ci + ci) * BLOCK * j->row + at;
    for (int r = 0; r < BLOCK; r++, to += j->near)
      memcpy(to, from + r * j->row, (size_t)(n + 2 * j->lead) * sizeof *to);
  }
}

/* One span against a pair of channel blocks, all taps of a plane. */
static void run_span(const job *j, const ms_bf16 *near, int64_t plane, int64_t chunk, int64_t ci, int64_t co,
                     int64_t at, int64_t n) {
  float *sum = j->sum + ((chunk * j->co + co) * j->ci + ci) * j->ntaps * BLOCK * BLOCK;
  ms_bf16_run runs[MS_MOST_PAIRS];
  for (int64_t t = 0; t < j->ntaps; t++, sum += BLOCK * BLOCK)
    if (j->taps[t].plane == plane) {
      for (int i = 0; i < j->pairs; i++)
        runs[i] = (ms_bf16_run){near + j->pair[i][0] * BLOCK * j->near + j->lead + j->taps[t].offset,
                                j->g + j->pair[i][1] * j->g_part + (co * j->positions + at) * BLOCK, j->near, n};
      j->kernel->block(sum, j->first == 0 && at == chunk * j->chunk, runs, j->pairs);
    }
}

static int run_task(const job *j, int64_t task) {
  int64_t chunk = task % j->chunks, ci = task / j->chunks % j->ci, co0 = task / j->chunks / j->ci * CHANNELS;
  int64_t begin = chunk * j->chunk, end = ms_min64(begin + j->chunk, j->positions);
  ms_bf16 *near = ms_cpu_scratch(1, (size_t)(j->x_parts * BLOCK * j->near) * sizeof *near);
  if (!near)
    return 0;
  j->kernel->begin();
  for (int64_t at = begin; at < end; at += SPAN)
    for (int64_t plane = 0; plane < j->planes; plane++) {
      int64_t n = ms_min64(SPAN, end - at);
      near_rows(j, plane, ci, at, n, near);
      for (int64_t co = co0; co < ms_min64(co0 + CHANNELS, j->co); co++)
        run_span(j, near, plane, chunk, ci, co, at, n);
    }
  j->kernel->end();
  return 1;
}

/* A block of 32 output channels against one of 32 input channels, one tap: the chunks in order, turned round. */
static MS_HOT void store_weights(const job *j, int64_t index) {
  const ms_conv_desc *d = j->d;
  int64_t t = index % j->ntaps, ci0 = index / j->ntaps % j->ci * BLOCK, co0 = index / j->ntaps / j->ci * BLOCK;
  int64_t all = j->co * j->ci * j->ntaps * BLOCK * BLOCK, cis = ms_min64(BLOCK, d->cin - ci0);
  const float *from = j->sum + index * BLOCK * BLOCK;
  float sum[BLOCK][BLOCK];
  for (int ci = 0; ci < BLOCK; ci++)
    for (int co = 0; co < BLOCK; co++)
      sum[co][ci] = from[ci * BLOCK + co];
  for (int64_t k = 1; k < j->chunks; k++)
    for (int ci = 0; ci < BLOCK; ci++)
      for (int co = 0; co < BLOCK; co++)
        sum[co][ci] += from[k * all + ci * BLOCK + co];
  ms_real scale = ms_bf16_scale(j->a->x);
  for (int64_t co = 0; co < ms_min64(BLOCK, d->cout - co0); co++) {
    int64_t at = ((co0 + co) * j->ntaps + t) * d->cin + ci0;
    for (int64_t ci = 0; ci < cis; ci++)
      if (j->a->weight.dtype == MS_F32)
        ((ms_real *)j->a->weight.p)[at + ci] = sum[co][ci] * scale;
      else
        ((ms_bf16 *)j->a->weight.p)[at + ci] = ms_bf16_from((float)(sum[co][ci] * scale));
  }
}

ms_status ms_bf16_weight_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  job j = start_job(d, a);
  int failed = 0;
  for (; j.first < d->n && !failed; j.first += j.group) {
    j.images = ms_min64(j.group, d->n - j.first);
    lay_out(&j);
    ms_parallel_for(i, j.chunks * j.ci * j.tasks_co, j.chunk * BLOCK * BLOCK) {
      if (!run_task(&j, i)) {
#pragma omp atomic write
        failed = 1;
      }
    }
  }
  if (failed)
    return MS_EMEM;
  if (d->n == 0)
    memset(j.sum, 0, (size_t)(j.chunks * j.co * j.ci * j.ntaps * BLOCK * BLOCK) * sizeof *j.sum);
  ms_parallel_for(i, j.co * j.ci * j.ntaps, BLOCK * BLOCK * j.chunks) store_weights(&j, i);
  return a->bias ? ms_bias_grad(a->bias, a->y, d->n * d->oh * d->ow, d->cout, a->workspace) : MS_OK;
}
