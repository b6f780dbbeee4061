/* Reductions. Values are accumulated in `lanes`, side by side: when a reduced dimension is the fastest in memory
** (`along`), a block of 512 reduced elements is added to 512 lanes which are folded at the end; otherwise each lane is
** an output. Reals are summed in double, integers in int64. Long reductions are cut into pieces whose partial results
** are merged in order. */
#include "../dims.h"
#include "block.h"
#include "cpu.h"
#include "parallel.h"
#include "../math/convert.h"
#include <string.h>

typedef union lane {
  double real;
  int64_t integer;
} lane;

typedef struct lanes {
  lane *value;
  int64_t *at; /* position of the value among the reduced elements; argmax and argmin only */
} lanes;

typedef struct lane_room {
  _Alignas(64) lane value[MS_BLOCK];
  int64_t at[MS_BLOCK];
} lane_room;

typedef struct plan {
  ms_reduce_op op;
  int exact, along, want_at;
  double factor;
  ms_data in, out;
  ms_dims kept, red;
  int64_t nkept, nred;
  int64_t width, groups; /* outputs of a group, groups */
  int64_t span, pieces;  /* reduced elements of a piece, pieces */
} plan;

/* ---- shape ---- */

static int64_t count_of(const ms_dims *d) {
  int64_t n = 1;
  for (int i = 0; i < d->n; i++)
    n *= d->size[i];
  return n;
}

static plan make_plan(ms_reduce_op op, const ms_reduction *r) {
  enum { PIECE = 64 * MS_BLOCK, MANY = 64 };
  plan p = {.op = op, .in = r->in, .out = r->out, .factor = op == MS_REDUCE_sum ? (double)r->factor : 1};
  p.exact = ms_is_integer(r->in.dtype);
  p.want_at = op == MS_REDUCE_argmax || op == MS_REDUCE_argmin;
  p.kept = ms_merged_dims(r->nkept, r->kept, r->in_kept, r->out_kept, 1);
  p.red = ms_merged_dims(r->nred, r->red, r->in_red, NULL, !p.want_at);
  p.nkept = count_of(&p.kept);
  p.nred = count_of(&p.red);
  if (p.nkept < 8)
    p.along = 1;
  else if (p.nred >= 16)
    p.along = ms_magnitude(p.red.in[p.red.n - 1]) < ms_magnitude(p.kept.in[p.kept.n - 1]);
  p.width = p.along ? 1 : ms_min64(p.nkept, MS_BLOCK);
  p.groups = ms_ceil_div(p.nkept, p.width);
  p.span = p.groups >= MANY ? p.nred : p.along ? PIECE : ms_ceil_div(PIECE, p.width);
  p.pieces = p.nred > 0 ? ms_ceil_div(p.nred, p.span) : 0;
  return p;
}

/* ---- arithmetic ---- */

#define MERGE(T, part, plus, times)                                                 \
  MS_HOT static void merge_##part(ms_reduce_op op, lanes a, lanes b, int n) {       \
    lane *restrict y = a.value;                                                     \
    const lane *restrict x = b.value;                                               \
    switch (op) {                                                                   \
    case MS_REDUCE_sum:                                                             \
      MS_SIMD for (int i = 0; i < n; i++) y[i].part = plus;                         \
      break;                                                                        \
    case MS_REDUCE_prod:                                                            \
      MS_SIMD for (int i = 0; i < n; i++) y[i].part = times;                        \
      break;                                                                        \
    case MS_REDUCE_max:                                                             \
    case MS_REDUCE_any:                                                             \
      MS_SIMD for (int i = 0; i < n; i++) {                                         \
        T u = x[i].part, v = y[i].part;                                             \
        y[i].part = u > v || u != u ? u : v;                                        \
      }                                                                             \
      break;                                                                        \
    case MS_REDUCE_min:                                                             \
    case MS_REDUCE_all:                                                             \
      MS_SIMD for (int i = 0; i < n; i++) {                                         \
        T u = x[i].part, v = y[i].part;                                             \
        y[i].part = u < v || u != u ? u : v;                                        \
      }                                                                             \
      break;                                                                        \
    default: /* argmax, argmin: NaN wins, then the first */                         \
      for (int i = 0; i < n; i++) {                                                 \
        T u = x[i].part, v = y[i].part;                                             \
        int nan = u != u, was_nan = v != v;                                         \
        int same = u == v || (nan && was_nan);                                      \
        int better = (op == MS_REDUCE_argmax ? u > v : u < v) || (nan && !was_nan); \
        if (better || (same && b.at[i] < a.at[i])) {                                \
          y[i].part = u;                                                            \
          a.at[i] = b.at[i];                                                        \
        }                                                                           \
      }                                                                             \
    }                                                                               \
  }

MERGE(double, real, y[i].real + x[i].real, y[i].real *x[i].real)
MERGE(int64_t, integer, (int64_t)((uint64_t)y[i].integer + (uint64_t)x[i].integer),
      (int64_t)((uint64_t)y[i].integer *(uint64_t)x[i].integer))

static void merge(const plan *p, lanes a, lanes b, int n) {
  if (p->exact)
    merge_integer(p->op, a, b, n);
  else
    merge_real(p->op, a, b, n);
}

MS_HOT static void widen(const plan *p, lane *to, const void *block, int n) {
  const ms_real *real = block;
  const int64_t *integer = block;
  int truth = p->op == MS_REDUCE_any || p->op == MS_REDUCE_all;
  if (p->exact && truth) {
    MS_SIMD for (int i = 0; i < n; i++) to[i].integer = integer[i] != 0;
  } else if (p->exact) {
    MS_SIMD for (int i = 0; i < n; i++) to[i].integer = integer[i];
  } else if (truth) {
    MS_SIMD for (int i = 0; i < n; i++) to[i].real = real[i] != 0;
  } else {
    MS_SIMD for (int i = 0; i < n; i++) to[i].real = real[i];
  }
}

/* Folds n lanes into the first: halves onto halves. */
static void fold(const plan *p, lanes a, int n) {
  while (n > 1) {
    int half = (n + 1) / 2;
    lanes upper = {a.value + half, a.at + half};
    merge(p, a, upper, n - half);
    n = half;
  }
}

/* ---- walking ---- */

/* The block at reduced position `at`: up to 512 reduced elements of output g, or the outputs of group g. */
static int load_block(const plan *p, int64_t g, int64_t at, int64_t end, lanes to) {
  ms_view kept = {p->in, p->kept.n, p->kept.size, p->kept.in};
  ms_view red = {p->in, p->red.n, p->red.size, p->red.in};
  ms_view *inner = p->along ? &red : &kept;
  int64_t from = p->along ? at : g * p->width;
  int n = (int)ms_min64(p->along ? MS_BLOCK : p->width, (p->along ? end : p->nkept) - from);
  int64_t outer = p->along ? ms_view_offset(&kept, g) : ms_view_offset(&red, at);
  size_t size = p->in.dtype == MS_F32 ? sizeof(ms_real) : p->in.dtype == MS_BF16 ? 2 : p->in.dtype == MS_I64 ? 8 : 1;
  inner->data.p = (char *)p->in.p + outer * (int64_t)size;
  ms_block room;
  widen(p, to.value, ms_view_load(inner, p->exact, from, n, &room), n);
  for (int i = 0; p->want_at && i < n; i++)
    to.at[i] = p->along ? at + i : at;
  return n;
}

/* One piece of one group into `a`; returns how many lanes are results. */
static int reduce_piece(const plan *p, int64_t g, int64_t piece, lanes a) {
  int64_t at = piece * p->span, end = ms_min64(p->nred, at + p->span);
  lane_room room;
  lanes next = {room.value, room.at};
  int first = load_block(p, g, at, end, a);
  for (at += p->along ? first : 1; at < end;) {
    int n = load_block(p, g, at, end, next);
    merge(p, a, next, n);
    at += p->along ? n : 1;
  }
  if (!p->along)
    return first;
  fold(p, a, first);
  return 1;
}

/* Stores the n results of group g. */
static void finish(const plan *p, int64_t g, lanes a, int n) {
  ms_view out = {p->out, p->kept.n, p->kept.size, p->kept.out};
  ms_block room;
  int exact = ms_is_integer(p->out.dtype);
  for (int i = 0; i < n; i++) {
    if (p->want_at && exact)
      room.integer[i] = a.at[i];
    else if (p->want_at)
      room.real[i] = MS_R(a.at[i]);
    else if (exact)
      room.integer[i] = p->exact ? a.value[i].integer : ms_real_to_int(a.value[i].real * p->factor);
    else
      room.real[i] = MS_R((p->exact ? (double)a.value[i].integer : a.value[i].real) * p->factor);
  }
  ms_view_store(&out, exact, g * p->width, n, &room);
}

/* Nothing to reduce: the neutral element. */
static void finish_empty(const plan *p) {
  int one = p->op == MS_REDUCE_prod || p->op == MS_REDUCE_all;
  lane value = {.real = one};
  int64_t at = 0;
  if (p->exact)
    value.integer = one;
  for (int64_t i = 0; i < p->nkept; i++)
    finish(p, i, (lanes){&value, &at}, 1);
}

static lanes partial(const plan *p, char *memory, int64_t unit) {
  char *own = memory + (size_t)(unit * p->width) * (sizeof(lane) + sizeof(int64_t));
  return (lanes){(lane *)own, (int64_t *)(own + (size_t)p->width * sizeof(lane))};
}

ms_status ms_cpu_reduce(ms_stream *s, ms_reduce_op op, const ms_reduction *r) {
  (void)s;
  plan p = make_plan(op, r);
  if (p.nkept == 0)
    return MS_OK;
  if (p.nred == 0) {
    p.width = 1;
    finish_empty(&p);
    return MS_OK;
  }
  int64_t units = p.groups * p.pieces, cost = p.span * p.width;
  char *memory = NULL;
  if (p.pieces > 1) {
    memory = ms_cpu_scratch(0, (size_t)(units * p.width) * (sizeof(lane) + sizeof(int64_t)));
    if (!memory)
      return MS_EMEM;
  }
  ms_parallel_for(u, units, cost) {
    int64_t g = u / p.pieces;
    lane_room room;
    lanes a = {room.value, room.at};
    int n = reduce_piece(&p, g, u % p.pieces, a);
    if (p.pieces == 1) {
      finish(&p, g, a, n);
    } else {
      lanes own = partial(&p, memory, u);
      memcpy(own.value, a.value, (size_t)n * sizeof(lane));
      if (p.want_at)
        memcpy(own.at, a.at, (size_t)n * sizeof(int64_t));
    }
  }
  for (int64_t g = 0; p.pieces > 1 && g < p.groups; g++) {
    int n = (int)ms_min64(p.width, p.nkept - g * p.width);
    lanes total = partial(&p, memory, g * p.pieces);
    for (int64_t piece = 1; piece < p.pieces; piece++)
      merge(&p, total, partial(&p, memory, g * p.pieces + piece), n);
    finish(&p, g, total, n);
  }
  return MS_OK;
}
