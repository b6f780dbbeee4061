/* The weight gradient of the bfloat16 engine: for each tap dw[ci, co] = sum over positions of x[ci, position + offset]
** * dy[position, co], a product over the positions of all images. Inputs are turned round once, [plane][ci][position],
** so that a tap is an offset into each row; dL/dy lies in pairs of positions, with zeros where the planes have them. */
#include "conv_bf16.h"
#include "gemm.h"

enum {
  BLOCK = MS_BF16_BLOCK,
  SPAN = 256,      /* positions whose part of a block of channels stays in the first level cache over all taps */
  CHANNELS = 4,    /* blocks of channels of a task, on either side: their part of a span stays in the second level */
  LEAST_TASKS = 16 /* where there are positions enough */
};

typedef struct job {
  const ms_conv_desc *d;
  const ms_conv_args *a;
  ms_planes p;
  ms_tap taps[MS_MOST_TAPS];
  int64_t ntaps, planes, lead; /* lead: zeros in front of a row of x, so that offsets may be negative */
  int64_t positions, row;      /* rounded to blocks; row: of x */
  int64_t near;                /* row of what one span reads */
  int64_t ci, co;              /* blocks of channels */
  int64_t tasks_ci, tasks_co, chunks, chunk;
  ms_bf16 *x, *g; /* [plane][ci * 32][row], [co][positions / 2][32][2] */
  float *sum;     /* [chunk][co][ci][tap][32][32] */
  ms_bf16_block_fn block;
} job;

static job start_job(const ms_conv_desc *d, const ms_conv_args *a) {
  job j = {.d = d, .a = a, .ntaps = (int64_t)d->kh * d->kw, .planes = (int64_t)d->stride_h * d->stride_w};
  j.p = ms_input_planes(d, j.taps);
  j.lead = ms_bf16_round(ms_plane_first(&j.p));
  j.positions = ms_bf16_round(d->n * ms_plane_image(&j.p) + j.p.pitch);
  j.row = j.positions + 2 * j.lead + BLOCK;
  j.near = SPAN + 2 * j.lead + BLOCK;
  j.ci = ms_ceil_div(d->cin, BLOCK);
  j.co = ms_ceil_div(d->cout, BLOCK);
  j.tasks_ci = ms_ceil_div(j.ci, CHANNELS);
  j.tasks_co = ms_ceil_div(j.co, CHANNELS);
  int64_t want = ms_ceil_div(LEAST_TASKS, j.tasks_ci * j.tasks_co);
  j.chunk = ms_bf16_round(ms_ceil_div(j.positions, ms_max64(1, ms_min64(want, j.positions / (4 * SPAN)))));
  j.chunks = ms_ceil_div(j.positions, j.chunk);
  if (a) {
    j.x = a->workspace;
    j.g = j.x + j.planes * j.ci * BLOCK * j.row;
    j.sum = (float *)(j.g + j.co * BLOCK * j.positions);
  }
  return j;
}

size_t ms_bf16_weight_grad_workspace(const ms_conv_desc *d) {
  job j = start_job(d, NULL);
  size_t operands = (size_t)(j.planes * j.ci * BLOCK * j.row + j.co * BLOCK * j.positions) * sizeof(ms_bf16);
  size_t sums = (size_t)(j.chunks * j.co * j.ci * j.ntaps * BLOCK * BLOCK) * sizeof(float);
  size_t bias = ms_bias_grad_size(d->n * d->oh * d->ow, d->cout);
  return ms_max64((int64_t)(operands + sums), (int64_t)bias);
}

/* ---- operands ---- */

/* to[c][i] = from[i][c] for 8 x 8 elements. */
MS_HD void turn8(uint16_t *to, int64_t to_pitch, const uint16_t *from, int64_t from_pitch) {
  ms_bf16_eight a[8], b[8];
  for (int i = 0; i < 8; i++)
    a[i] = *(const ms_bf16_eight *)(from + i * from_pitch);
#define LOW                  \
  (ms_bf16_eight) {          \
    0, 8, 1, 9, 2, 10, 3, 11 \
  }
#define HIGH                   \
  (ms_bf16_eight) {            \
    4, 12, 5, 13, 6, 14, 7, 15 \
  }
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 4; i++) {
      b[2 * i] = __builtin_shuffle(a[i], a[i + 4], LOW);
      b[2 * i + 1] = __builtin_shuffle(a[i], a[i + 4], HIGH);
    }
    for (int i = 0; i < 8; i++)
      a[i] = b[i];
  }
  for (int i = 0; i < 8; i++)
    *(ms_bf16_eight *)(to + i * to_pitch) = a[i];
}

/* 8 x 8 bits, a byte a row: bit c of byte i becomes bit i of byte c. */
MS_HD uint64_t turn_bits(uint64_t x) {
  uint64_t t = (x ^ x >> 7) & 0x00aa00aa00aa00aau;
  x ^= t ^ t << 7;
  t = (x ^ x >> 14) & 0x0000cccc0000ccccu;
  x ^= t ^ t << 14;
  t = (x ^ x >> 28) & 0x00000000f0f0f0f0u;
  return x ^ t ^ t << 28;
}

/* n pixels from the spikes' bits: pixel i begins at byte i * step of `from`. */
static MS_HOT void turn_line_of_bits(const job *j, const uint8_t *from, int64_t step, int64_t n, uint16_t *to) {
  uint16_t one = ms_bf16_from((float)j->a->x.scale).bits;
  for (int64_t i = 0; i < n; i += 8)
    for (int64_t c = 0; c < j->d->cin / 8; c++) {
      int64_t pixels = ms_min64(8, n - i);
      uint64_t block = 0;
      for (int64_t k = 0; k < pixels; k++)
        block |= (uint64_t)from[(i + k) * step + c] << 8 * k;
      block = turn_bits(block);
      uint16_t *out = to + 8 * c * j->row + i;
      for (int k = 0; k < 8; k++, out += j->row) {
        ms_bf16_eight eight = ms_bf16_bits((uint8_t)(block >> 8 * k), one);
        if (pixels == 8)
          *(ms_bf16_eight *)out = eight;
        else
          memcpy(out, &eight, (size_t)pixels * sizeof *out);
      }
    }
}

/* n pixels of any type: pixel i begins at element at + i * step. Eight pixels are converted, and turned round. */
static MS_HOT void turn_line(const job *j, int64_t at, int64_t step, int64_t n, uint16_t *to) {
  const ms_conv_desc *d = j->d;
  ms_bf16 buf[8 * BLOCK];
  for (int64_t c0 = 0; c0 < d->cin; c0 += BLOCK) {
    int64_t c = ms_min64(BLOCK, d->cin - c0);
    for (int64_t i = 0; i < n; i += 8) {
      int64_t pixels = ms_min64(8, n - i);
      for (int64_t k = 0; k < pixels; k++)
        ms_bf16_convert(buf + k * BLOCK, j->a->x, at + (i + k) * step + c0, c);
      uint16_t *out = to + c0 * j->row + i;
      if (pixels == 8 && c % 8 == 0) {
        for (int64_t k = 0; k < c; k += 8)
          turn8(out + k * j->row, j->row, &buf[k].bits, BLOCK);
      } else {
        for (int64_t k = 0; k < c; k++)
          for (int64_t q = 0; q < pixels; q++)
            out[k * j->row + q] = buf[q * BLOCK + k].bits;
      }
    }
  }
}

/* Image i of all planes. Zeros between images were written before. */
static void turn_image(const job *j, int64_t i) {
  const ms_conv_desc *d = j->d;
  for (int64_t plane = 0; plane < j->planes; plane++) {
    int64_t py = plane / d->stride_w, px = plane % d->stride_w;
    uint16_t *to =
        &j->x->bits + plane * j->ci * BLOCK * j->row + j->lead + i * ms_plane_image(&j->p) + ms_plane_first(&j->p);
    for (int64_t iy = py; iy < d->h; iy += d->stride_h, to += j->p.pitch) {
      int64_t at = ((i * d->h + iy) * d->w + px) * d->cin, step = d->stride_w * d->cin;
      int64_t n = ms_ceil_div(d->w - px, d->stride_w);
      if (j->a->x.dtype == MS_BITS)
        turn_line_of_bits(j, (const uint8_t *)j->a->x.p + at / 8, step / 8, n, to);
      else
        turn_line(j, at, step, n, to);
    }
  }
}

/* dL/dy of positions [at, at + n), n even, as pairs. */
static MS_HOT void pair_span(const job *j, int64_t at, int64_t n) {
  const ms_conv_desc *d = j->d;
  const ms_planes *g = &j->p;
  ms_bf16 two[2][BLOCK];
  for (int64_t b = 0; b < j->co; b++) {
    int64_t c = ms_min64(BLOCK, d->cout - b * BLOCK);
    for (int64_t p = at; p < at + n; p += 2) {
      ms_bf16 *to = j->g + (b * j->positions + p) * BLOCK;
      memset(two, 0, sizeof two);
      for (int half = 0; half < 2; half++) {
        int64_t line = (p + half) / g->pitch, x = (p + half) % g->pitch - g->left;
        int64_t image = line / (g->lines + g->top), y = line % (g->lines + g->top) - g->top;
        if (image < d->n && x >= 0 && y >= 0 && x < d->ow && y < d->oh)
          ms_bf16_convert(two[half], j->a->y, ((image * d->oh + y) * d->ow + x) * d->cout + b * BLOCK, c);
      }
      MS_SIMD
      for (int k = 0; k < BLOCK; k++) {
        to[2 * k] = two[0][k];
        to[2 * k + 1] = two[1][k];
      }
    }
  }
}

static void lay_out(const job *j) {
  const ms_conv_desc *d = j->d;
  ms_parallel_for(r, j->planes * j->ci * BLOCK, j->row) memset(j->x + r * j->row, 0, (size_t)j->row * sizeof *j->x);
  ms_parallel_for(i, d->n, d->h * d->w * d->cin) turn_image(j, i);
  int64_t piece = 512;
  ms_parallel_for(i, ms_ceil_div(j->positions, piece), piece * j->co * BLOCK)
      pair_span(j, i * piece, ms_min64(piece, j->positions - i * piece));
}

/* ---- products ---- */

/* The part of a block of input channels that one span reads, side by side: its rows lie far apart, each on a page of
** its own. */
static ms_bf16 *near_rows(const job *j, int64_t plane, int64_t ci, int64_t at, int64_t n, ms_bf16 *to) {
  const ms_bf16 *from = j->x + (plane * j->ci + ci) * BLOCK * j->row + at;
  for (int r = 0; r < BLOCK; r++)
    memcpy(to + r * j->near, from + r * j->row, (size_t)(n + 2 * j->lead) * sizeof *to);
  return to + j->lead;
}

/* One span against a pair of channel blocks, all taps of a plane. */
static void run_span(const job *j, const ms_bf16 *x, int64_t plane, int64_t chunk, int64_t ci, int64_t co, int64_t at,
                     int64_t n, int fresh) {
  float *sum = j->sum + ((chunk * j->co + co) * j->ci + ci) * j->ntaps * BLOCK * BLOCK;
  for (int64_t t = 0; t < j->ntaps; t++, sum += BLOCK * BLOCK)
    if (j->taps[t].plane == plane) {
      ms_bf16_run run = {x + j->taps[t].offset, j->g + (co * j->positions + at) * BLOCK, j->near, n};
      j->block(sum, fresh, &run, 1);
    }
}

static int run_task(const job *j, int64_t task) {
  int64_t chunk = task % j->chunks, ci0 = task / j->chunks % j->tasks_ci * CHANNELS;
  int64_t co0 = task / j->chunks / j->tasks_ci * CHANNELS;
  int64_t begin = chunk * j->chunk, end = ms_min64(begin + j->chunk, j->positions);
  ms_bf16 *near = ms_cpu_scratch(1, (size_t)(BLOCK * j->near) * sizeof *near);
  if (!near)
    return 0;
  for (int64_t at = begin; at < end; at += SPAN)
    for (int64_t ci = ci0; ci < ms_min64(ci0 + CHANNELS, j->ci); ci++)
      for (int64_t plane = 0; plane < j->planes; plane++) {
        int64_t n = ms_min64(SPAN, end - at);
        const ms_bf16 *x = near_rows(j, plane, ci, at, n, near);
        for (int64_t co = co0; co < ms_min64(co0 + CHANNELS, j->co); co++)
          run_span(j, x, plane, chunk, ci, co, at, n, at == begin);
      }
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
  for (int64_t co = 0; co < ms_min64(BLOCK, d->cout - co0); co++) {
    int64_t at = ((co0 + co) * j->ntaps + t) * d->cin + ci0;
    for (int64_t ci = 0; ci < cis; ci++)
      if (j->a->weight.dtype == MS_F32)
        ((ms_real *)j->a->weight.p)[at + ci] = sum[co][ci];
      else
        ((ms_bf16 *)j->a->weight.p)[at + ci] = ms_bf16_from(sum[co][ci]);
  }
}

ms_status ms_bf16_weight_grad(const ms_conv_desc *d, const ms_conv_args *a) {
  job j = start_job(d, a);
  int fast, failed = 0;
  j.block = ms_bf16_block(&fast);
  lay_out(&j);
  ms_parallel_for(i, j.chunks * j.tasks_ci * j.tasks_co, j.chunk * BLOCK * BLOCK) {
    if (!run_task(&j, i)) {
#pragma omp atomic write
      failed = 1;
    }
  }
  if (failed)
    return MS_EMEM;
  ms_parallel_for(i, j.co * j.ci * j.ntaps, BLOCK * BLOCK * j.chunks) store_weights(&j, i);
  return a->bias ? ms_bias_grad(a->bias, a->y, d->n * d->oh * d->ow, d->cout, a->workspace) : MS_OK;
}
