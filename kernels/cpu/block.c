#include "block.h"
#include "../math/convert.h"
#include "parallel.h"

static const size_t element_size[] = {
#define MS_DTYPE(name, text, size) size,
#include "../dtype.def"
#undef MS_DTYPE
};

/* A stretch of one row of a view: elements at p, `step` elements apart. */
typedef struct run {
  void *p;
  int64_t step;
  int n;
  ms_real scale;
} run;

#define LOAD_LOOP(T, R, value)              \
  {                                         \
    const T *x = r->p;                      \
    R *y = to;                              \
    if (step == 1) {                        \
      MS_SIMD for (int i = 0; i < n; i++) { \
        T e = x[i];                         \
        y[i] = (R)(value);                  \
      }                                     \
    } else {                                \
      for (int i = 0; i < n; i++) {         \
        T e = x[i * step];                  \
        y[i] = (R)(value);                  \
      }                                     \
    }                                       \
  }

MS_HOT static void load_real(ms_dtype t, const run *r, void *to) {
  int64_t step = r->step;
  int n = r->n;
  ms_real scale = r->scale;
  switch (t) {
  case MS_F32:
    LOAD_LOOP(ms_real, ms_real, e)
    break;
  case MS_BF16:
    LOAD_LOOP(ms_bf16, ms_real, ms_bf16_to(e))
    break;
  case MS_SPIKE:
    LOAD_LOOP(uint8_t, ms_real, MS_R(e) * scale)
    break;
  case MS_U8:
    LOAD_LOOP(uint8_t, ms_real, e)
    break;
  default:
    LOAD_LOOP(int64_t, ms_real, e)
    break;
  }
}

MS_HOT static void load_integer(ms_dtype t, const run *r, void *to) {
  int64_t step = r->step;
  int n = r->n;
  if (t == MS_U8)
    LOAD_LOOP(uint8_t, int64_t, e)
  else
    LOAD_LOOP(int64_t, int64_t, e)
}

#define STORE_LOOP(T, R, value)             \
  {                                         \
    T *y = r->p;                            \
    const R *x = from;                      \
    if (step == 1) {                        \
      MS_SIMD for (int i = 0; i < n; i++) { \
        R e = x[i];                         \
        y[i] = value;                       \
      }                                     \
    } else {                                \
      for (int i = 0; i < n; i++) {         \
        R e = x[i];                         \
        y[i * step] = value;                \
      }                                     \
    }                                       \
  }

MS_HOT static void store_real(ms_dtype t, const run *r, const void *from) {
  int64_t step = r->step;
  int n = r->n;
  ms_real scale = r->scale;
  switch (t) {
  case MS_F32:
    STORE_LOOP(ms_real, ms_real, e)
    break;
  case MS_BF16:
    STORE_LOOP(ms_bf16, ms_real, ms_bf16_from((float)e))
    break;
  case MS_SPIKE:
    STORE_LOOP(uint8_t, ms_real, ms_real_to_spike(e, scale))
    break;
  case MS_U8:
    STORE_LOOP(uint8_t, ms_real, ms_real_to_u8(e))
    break;
  default:
    STORE_LOOP(int64_t, ms_real, ms_real_to_int(e))
    break;
  }
}

MS_HOT static void store_integer(ms_dtype t, const run *r, const void *from) {
  int64_t step = r->step;
  int n = r->n;
  if (t == MS_U8)
    STORE_LOOP(uint8_t, int64_t, (uint8_t)e)
  else
    STORE_LOOP(int64_t, int64_t, e)
}

int64_t ms_view_offset(const ms_view *v, int64_t at) {
  int64_t offset = 0;
  for (int d = v->ndim - 1; d > 0; d--) {
    offset += at % v->size[d] * v->stride[d];
    at /= v->size[d];
  }
  return v->ndim > 0 ? offset + at * v->stride[0] : 0;
}

/* The longest stretch from element `at` that stays in one row. */
static run run_at(const ms_view *v, int64_t at, int n) {
  int last = v->ndim - 1;
  run r = {0};
  int64_t left = v->ndim > 0 ? v->size[last] - at % v->size[last] : 1;
  r.step = v->ndim > 0 ? v->stride[last] : 1;
  r.n = (int)ms_min64(n, left);
  r.p = (char *)v->data.p + ms_view_offset(v, at) * (int64_t)element_size[v->data.dtype];
  r.scale = v->data.scale;
  return r;
}

/* The block's own memory where it already has the wanted form, else NULL. */
static void *in_place(const ms_view *v, int exact, int64_t at, int n) {
  if (v->data.dtype != (exact ? MS_I64 : MS_F32))
    return NULL;
  run r = run_at(v, at, n);
  return r.n == n && (r.step == 1 || n == 1) ? r.p : NULL;
}

const void *ms_view_load(const ms_view *v, int exact, int64_t at, int n, ms_block *room) {
  void *p = in_place(v, exact, at, n);
  if (p)
    return p;
  for (int done = 0; done < n;) {
    run r = run_at(v, at + done, n - done);
    if (exact)
      load_integer(v->data.dtype, &r, room->integer + done);
    else
      load_real(v->data.dtype, &r, room->real + done);
    done += r.n;
  }
  return room;
}

void *ms_view_target(const ms_view *v, int exact, int64_t at, int n, ms_block *room) {
  void *p = in_place(v, exact, at, n);
  return p ? p : room;
}

void ms_view_store(const ms_view *v, int exact, int64_t at, int n, const void *block) {
  if (block == in_place(v, exact, at, n))
    return;
  for (int done = 0; done < n;) {
    run r = run_at(v, at + done, n - done);
    if (exact)
      store_integer(v->data.dtype, &r, (const int64_t *)block + done);
    else
      store_real(v->data.dtype, &r, (const ms_real *)block + done);
    done += r.n;
  }
}

void ms_each_block(const ms_loop *l, int exact, unsigned real_in, ms_block_fn *f, const void *context) {
  enum { PIECE = 16 * MS_BLOCK };
  int64_t total = 1;
  for (int d = 0; d < l->ndim; d++)
    total *= l->size[d];
  int64_t pieces = ms_ceil_div(total, PIECE);
  ms_parallel_for(p, pieces, PIECE) {
    ms_block room[4];
    ms_view out = {l->out.data, l->ndim, l->size, l->out.stride};
    int64_t end = ms_min64(total, (p + 1) * PIECE);
    for (int64_t at = p * PIECE; at < end; at += MS_BLOCK) {
      int n = (int)ms_min64(MS_BLOCK, end - at);
      const void *in[3] = {NULL, NULL, NULL};
      for (int k = 0; k < l->nin; k++) {
        ms_view v = {l->in[k].data, l->ndim, l->size, l->in[k].stride};
        in[k] = ms_view_load(&v, exact && !(real_in >> k & 1), at, n, &room[k]);
      }
      void *to = ms_view_target(&out, exact, at, n, &room[3]);
      f(context, at, n, to, in);
      ms_view_store(&out, exact, at, n, to);
    }
  }
}
