/* Spiking neurons over T steps, forward. A tile of neurons walks all its steps at once, so that membranes stay in the
** first-level cache; what is wanted of the spikes is made of their bytes while they are there. */
#include "cpu.h"
#include "neuron_bits.h"
#include "neuron_step.h"

/* A pair of image lines with pooling, else 0. */
static int64_t pair_of(const ms_neuron_args *f) {
  return f->pool_h > 0 ? 2 * f->pool_w * f->c : 0;
}

/* Cuts at pairs of lines. */
static void cut_pairs(ms_tiling *t, int64_t pair) {
  int64_t pairs = t->n / pair, per = ms_ceil_div(pairs, ms_min64(t->chunks, pairs));
  t->chunks = ms_ceil_div(pairs, per);
  t->span = per * pair;
}

/* Where the surrogate's derivative, as backward computes it, is not zero; returns how often. */
MS_HD int64_t derived_row(ms_neuron p, int64_t len, const ms_real *h, uint8_t *bits) {
  uint8_t bytes[MS_TILE];
  switch (p.surrogate) {
#define MS_SURROGATE(name, text, width)                                                                          \
  case MS_SURROGATE_##name:                                                                                      \
    MS_SIMD for (int64_t j = 0; j < len; j++) bytes[j] =                                                         \
        (uint8_t)(ms_surrogate_grad(MS_SURROGATE_##name, h[j] - p.threshold, p.alpha) != 0 ? MS_R(1) : MS_R(0)); \
    break;
#include "../surrogate.def"
#undef MS_SURROGATE
  default:
    memset(bytes, 0, sizeof bytes);
  }
  ms_bits_pack(bits, bytes, len);
  return ms_bits_ones(bits, len / 8);
}

/* How the derivative tells by comparison that it is not zero: where `near` holds (ALWAYS), or that all of a row is not
** zero where `near` holds for all of it (ALL). Widths far from usual could underflow: NEVER. */
typedef enum near_use { NEVER, ALL, ALWAYS } near_use;

MS_HD near_use near_of(ms_neuron p, ms_near *near) {
  ms_real a = p.alpha;
  int usual = a > MS_R(1e-6) && a < MS_R(1e6);
  *near = (ms_near){p.threshold, a, 1, 0, 1};
  switch (p.surrogate) {
  case MS_SURROGATE_TRIANGLE:
    near->factor = 1;
    near->limit = a;
    break;
  case MS_SURROGATE_RECTANGLE:
    near->factor = 2 * a;
    break;
  case MS_SURROGATE_QGATE: /* a - a * a * m can round to 0 */
    near->factor2 = a * a;
    near->limit2 = a;
    break;
  case MS_SURROGATE_ATAN:
  case MS_SURROGATE_SIGMOID: /* past 80 widths exp(-x) could vanish */
    near->limit = 80;
    return usual ? ALL : NEVER;
  case MS_SURROGATE_GAUSSIAN: /* past 13 widths exp(-x^2 / 2) is 0 */
    near->limit = 12;
    near->factor = 1 / a;
    return usual ? ALL : NEVER;
  default:
    return NEVER;
  }
  return usual ? ALWAYS : NEVER;
}

MS_HD int64_t active_row(ms_neuron p, int64_t len, const ms_real *h, uint8_t *bits) {
  ms_near near;
  near_use use = near_of(p, &near);
  int64_t ones = use == NEVER ? 0 : MS_BITS_CALL(ms_near_bits, near, len, h, bits);
  return use == ALWAYS || (use == ALL && ones == len) ? ones : derived_row(p, len, h, bits);
}

/* Elements of x that are not zero; counted in bytes, which hold 255 rounds. */
MS_HD int64_t count_some(int64_t n, const ms_fired *x) {
  int64_t some = 0, i = 0;
  while (i + MS_LANES <= n) {
    uint8_t seen[MS_LANES] = {0};
    for (int64_t end = ms_min64(n, i + 255 * MS_LANES); i + MS_LANES <= end; i += MS_LANES)
      MS_SIMD for (int j = 0; j < MS_LANES; j++) seen[j] = (uint8_t)(seen[j] + (x[i + j] != 0));
    for (int j = 0; j < MS_LANES; j++)
      some += seen[j];
  }
  for (; i < n; i++)
    some += x[i] != 0;
  return some;
}

/* Sums of the 2x2 windows of a pair of lines; returns how many are not zero. */
MS_HD int64_t pool_pair(int64_t w, int64_t c, const ms_fired *top, ms_fired *out) {
  const ms_fired *bottom = top + w * c;
  for (int64_t x = 0; x < w / 2; x++) {
    const ms_fired *p = top + 2 * x * c, *q = bottom + 2 * x * c;
    ms_fired *o = out + x * c;
#ifdef MS_SMOOTH
    MS_SIMD for (int64_t i = 0; i < c; i++) o[i] = (p[i] + p[c + i] + q[i] + q[c + i]) / 4;
#else
    MS_SIMD for (int64_t i = 0; i < c; i++) o[i] = (uint8_t)(p[i] + p[c + i] + q[i] + q[c + i]);
#endif
  }
  return count_some(w / 2 * c, out);
}

/* Spikes of a few tiles, in bytes: a tile adds at most one to each. */
enum { FEW = 255 };

MS_HD void count_row(int64_t len, const ms_fired *s, uint8_t *few) {
#ifdef MS_SMOOTH
  MS_SIMD for (int64_t j = 0; j < len; j++) few[j] = (uint8_t)(few[j] + (s[j] > MS_R(0.5)));
#else
  MS_SIMD for (int64_t j = 0; j < len; j++) few[j] = (uint8_t)(few[j] + s[j]);
#endif
}

MS_HD void count_more(const ms_layer *l, uint8_t *few, uint32_t *counts) {
  int64_t steps = l->f->steps, row = l->t.row, c = l->t.c;
  for (int64_t step = 0; step < steps; step++)
    for (int64_t j = 0; j < row; j += c) {
      const uint8_t *from = few + step * row + j;
      uint32_t *to = counts + step * c;
      MS_SIMD for (int64_t ch = 0; ch < c; ch++) to[ch] += from[ch];
    }
  memset(few, 0, (size_t)(steps * row));
}

/* counts [T][c]: spikes of this chunk, or NULL; totals: as in ms_neuron_args. */
MS_HOT static int forward_chunk(const ms_layer *l, int64_t chunk, uint32_t *counts, int64_t totals[2]) {
  const ms_neuron_args *f = l->f;
  int64_t begin = ms_chunk_begin(&l->t, chunk), end = ms_chunk_end(&l->t, chunk), pair = pair_of(f);
  int64_t run = pair ? pair : end - begin, row = f->steps * l->t.row, tiles = 0, ones = 0, some = 0;
  ms_fired *direct = f->s.p && f->s.dtype != MS_BITS ? (ms_fired *)f->s.p : NULL, *lines = NULL;
  uint8_t *few = NULL;
  ms_real v[MS_TILE], hs[MS_TILE];
  ms_fired ss[MS_TILE];
  size_t line_bytes = f->pooled.p && !direct ? (size_t)(f->steps * run) * sizeof *lines : 0;
  if (line_bytes || counts) {
    char *room = ms_cpu_scratch(1, line_bytes + (size_t)row);
    if (!room)
      return 0;
    lines = line_bytes ? (ms_fired *)room : NULL;
    few = (uint8_t *)room + line_bytes;
  }
  if (counts) {
    memset(counts, 0, (size_t)(f->steps * l->t.c) * sizeof *counts);
    memset(few, 0, (size_t)row);
  }
  for (; begin < end; begin += run) {
    for (ms_tile k = ms_tile_first(&l->t, begin, begin + run); k.len; ms_tile_next(&l->t, &k)) {
      ms_first_row(l, &k, v);
      for (int64_t step = 0; step < f->steps; step++) {
        int64_t at = step * f->n + k.at;
        ms_real *h = f->h ? f->h + at : hs;
        ms_fired *s = direct ? direct + at : lines ? lines + step * run + k.at - begin : ss;
        uint8_t *packed = f->s.p && !direct ? (uint8_t *)f->s.p + at / 8 : NULL;
        if (packed && !lines)
          ms_step_row(l, &k, step, 0, v, h, NULL, NULL);
        else
          ms_step_row(l, &k, step, MS_STEP_SPIKES, v, h, s, NULL);
        if (packed)
          MS_BITS_CALL(ms_fired_bits, l->q.above, k.len, h, packed);
        if (f->active)
          ones += active_row(l->p, k.len, h, f->active + at / 8);
        if (counts && packed)
          MS_BITS_CALL(ms_count_bits, k.len, packed, few + step * l->t.row + k.phase);
        else if (counts)
          count_row(k.len, s, few + step * l->t.row + k.phase);
      }
      if (f->v)
        memcpy(f->v + k.at, v, (size_t)k.len * sizeof *v);
      if (counts && ++tiles % FEW == 0)
        count_more(l, few, counts);
    }
    for (int64_t step = 0; f->pooled.p && step < f->steps; step++)
      some += pool_pair(f->pool_w, f->c, direct ? direct + step * f->n + begin : lines + step * run,
                        (ms_fired *)f->pooled.p + (step * f->n + begin) / 4);
  }
  if (counts)
    count_more(l, few, counts);
  totals[0] = ones;
  totals[1] = some;
  return 1;
}

ms_status ms_cpu_neuron(ms_stream *s, const ms_neuron_args *f) {
  (void)s;
  if (f->steps == 0 || f->n == 0)
    return MS_OK;
  ms_layer l = ms_layer_of(f);
  int64_t row = l.t.row, part = f->counts ? f->steps * f->c : 0;
  if (f->pooled.p)
    cut_pairs(&l.t, pair_of(f));
  int64_t *totals = ms_cpu_scratch(0, (size_t)(2 * l.t.chunks) * sizeof *totals + (size_t)(2 * row) * sizeof(ms_real) +
                                          (size_t)(l.t.chunks * part) * sizeof(uint32_t));
  if (!totals)
    return MS_EMEM;
  ms_real *norm = (ms_real *)(totals + 2 * l.t.chunks);
  if (f->norm.a) {
    ms_tile_repeat(&l.t, norm, f->norm.a, 1);
    ms_tile_repeat(&l.t, norm + row, f->norm.b, 0);
    l.a = norm;
    l.b = norm + row;
  }
  uint32_t *counts = (uint32_t *)(norm + 2 * row);
  int failed = 0;
  ms_parallel_for(k, l.t.chunks, l.t.span * f->steps) {
    if (!forward_chunk(&l, k, f->counts ? counts + k * part : NULL, totals + 2 * k)) {
#pragma omp atomic write
      failed = 1;
    }
  }
  if (failed)
    return MS_EMEM;
  if (f->counts) {
    memset(f->counts, 0, (size_t)(f->steps * f->c) * sizeof *f->counts);
    for (int64_t k = 0; k < l.t.chunks; k++)
      for (int64_t i = 0; i < part; i++)
        f->counts[i] += counts[k * part + i];
  }
  if (f->totals) {
    f->totals[0] = f->totals[1] = 0;
    for (int64_t i = 0; i < 2 * l.t.chunks; i++)
      f->totals[i % 2] += totals[i];
  }
  return MS_OK;
}
