#include "block.h"
#include "cpu.h"
#include "parallel.h"
#include "../math/convert.h"
#include "../math/philox.h"

typedef struct draw {
  ms_random_kind kind;
  ms_philox_key key;
  ms_real a, b;
  float probability;
  int64_t lo;
  uint64_t span;
} draw;

/* Words of the elements [at, at + n); at is a multiple of 4, room is for a whole block. */
MS_HOT static void words_at(uint32_t *w, ms_philox_key key, int64_t at, int n, uint32_t plane) {
  uint64_t first = key.offset + (uint64_t)at / 4;
  int blocks = (n + 3) / 4;
  MS_SIMD for (int i = 0; i < blocks; i++) {
    ms_philox4 r = ms_philox_block(key.key, first + (uint64_t)i, plane);
    w[4 * i] = r.w[0];
    w[4 * i + 1] = r.w[1];
    w[4 * i + 2] = r.w[2];
    w[4 * i + 3] = r.w[3];
  }
}

MS_HOT static void normals(float *z, const uint32_t *w, int n) {
  MS_SIMD for (int i = 0; i < (n + 1) / 2; i++) {
    float z0, z1;
    ms_random_normal(w[2 * i], w[2 * i + 1], &z0, &z1);
    z[2 * i] = z0;
    z[2 * i + 1] = z1;
  }
}

MS_HOT static void draw_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const draw *d = context;
  uint32_t w[MS_BLOCK];
  float z[MS_BLOCK];
  ms_real *y = out, a = d->a, b = d->b;
  (void)in;
  words_at(w, d->key, at, n, 0);
  switch (d->kind) {
  case MS_RANDOM_UNIFORM:
    MS_SIMD for (int i = 0; i < n; i++) y[i] = MS_FN(fma)(b - a, MS_R(ms_random_uniform(w[i])), a);
    break;
  case MS_RANDOM_NORMAL:
    normals(z, w, n);
    MS_SIMD for (int i = 0; i < n; i++) y[i] = MS_FN(fma)(b, MS_R(z[i]), a);
    break;
  default:
    MS_SIMD for (int i = 0; i < n; i++) y[i] = ms_random_uniform(w[i]) < d->probability ? b : 0;
    break;
  }
}

static void draw_int_block(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  const draw *d = context;
  uint32_t low[MS_BLOCK], high[MS_BLOCK];
  int64_t *y = out;
  (void)in;
  words_at(low, d->key, at, n, 0);
  words_at(high, d->key, at, n, 1);
  for (int i = 0; i < n; i++)
    y[i] = ms_random_int(low[i], high[i], d->lo, d->span);
}

static void draw_int_as_real(const void *context, int64_t at, int n, void *out, const void *const in[3]) {
  ms_block room;
  ms_real *y = out;
  draw_int_block(context, at, n, room.integer, in);
  for (int i = 0; i < n; i++)
    y[i] = MS_R(room.integer[i]);
}

ms_status ms_cpu_random(ms_stream *s, ms_random_kind kind, const ms_loop *l, ms_philox_key key, double a, double b) {
  (void)s;
  if (key.draws)
    key.key = ms_philox_draw(key.key, *key.draws);
  draw d = {.kind = kind, .key = key, .a = MS_R(a), .b = MS_R(b), .probability = (float)a};
  if (kind != MS_RANDOM_BITS) {
    ms_each_block(l, 0, 0, draw_block, &d);
    return MS_OK;
  }
  int exact = ms_is_integer(l->out.data.dtype);
  d.lo = ms_real_to_int(a);
  d.span = (uint64_t)ms_real_to_int(b) - (uint64_t)d.lo;
  if (d.span == 0) /* an empty range: always its lower end */
    d.span = 1;
  ms_each_block(l, exact, 0, exact ? draw_int_block : draw_int_as_real, &d);
  return MS_OK;
}
