/* Element-wise rows. One kernel for all: each thread computes one element, or four neighbours where every operand
** allows a vector access; types and functions are switches that every thread takes alike. */
#include "trig.h"
#include "walk.h"

#define MS_SIN ms_trig_sin
#define MS_COS ms_trig_cos
#include "../math/binary.h"
#include "../math/unary.h"

namespace {

struct walk {
  ms_shape shape;
  ms_operand o[4]; /* out, inputs */
};

/* A function f of the loop names its arithmetic type and its number of inputs, and computes E neighbours by f.run<E>(y,
** x0, x1, x2, position). */
template <class F, int E> __global__ void __launch_bounds__(MS_BLOCK) elementwise(const __grid_constant__ walk w, F f) {
  typedef typename F::value T;
  int64_t at = ms_thread() * E, offset[4] = {0, 0, 0, 0};
  if (at >= w.shape.total)
    return;
  ms_each_index(w.shape, at, [&](int d, int64_t i) {
#pragma unroll
    for (int k = 0; k <= F::inputs; k++)
      offset[k] += i * w.o[k].stride[d];
  });
  T x[3][E], y[E];
  int last = w.shape.ndim - 1;
  if constexpr (E == 1) {
    if constexpr (F::first_is_condition) /* of any type */
      x[0][0] = ms_get(w.o[1].data, offset[1]) != 0;
#pragma unroll
    for (int k = F::first_is_condition; k < F::inputs; k++)
      ms_load(x[k][0], w.o[k + 1].data, offset[k + 1]);
    f.template run<1>(y, x[0], x[1], x[2], at);
    ms_store(w.o[0].data, offset[0], y[0]);
  } else {
    bool whole = at + E <= w.shape.total;
    int n = whole ? E : (int)(w.shape.total - at);
#pragma unroll
    for (int k = 0; k < F::inputs; k++) {
      ms_data d = w.o[k + 1].data;
      int64_t step = w.o[k + 1].stride[last];
      if (whole && step) {
        ms_load4(x[k], d, offset[k + 1]);
      } else {
#pragma unroll
        for (int e = 0; e < E; e++)
          x[k][e] = ms_get(d, offset[k + 1] + (e < n ? e : 0) * step);
      }
    }
    f.template run<E>(y, x[0], x[1], x[2], at);
    if (whole) {
      ms_store4(w.o[0].data, offset[0], y);
    } else {
#pragma unroll
      for (int e = 0; e < E; e++)
        if (e < n)
          ms_store(w.o[0].data, offset[0] + e, y[e]);
    }
  }
}

walk walk_of(const ms_loop *l) {
  walk w = {};
  w.shape = ms_shape_of(l->ndim, l->size);
  w.o[0] = l->out;
  for (int k = 0; k < l->nin; k++)
    w.o[k + 1] = l->in[k];
  return w;
}

/* Whether groups of four neighbours lie side by side, or are one element, in every operand. */
bool in_fours(const walk *w, int nin) {
  int last = w->shape.ndim - 1;
  if (w->o[0].stride[last] != 1 || w->shape.total < 4 || (last > 0 && w->shape.size[last] % 4))
    return false;
  for (int k = 0; k <= nin; k++) {
    const ms_operand *o = &w->o[k];
    if (o->stride[last] == 0)
      continue;
    if (o->stride[last] != 1 || !ms_aligned4(o->data))
      return false;
    for (int d = 0; d < last; d++)
      if (o->stride[d] % 4)
        return false;
  }
  return true;
}

template <class F> ms_status run(ms_stream *s, const char *name, const ms_loop *l, F f) {
  walk w = walk_of(l);
  if (w.shape.total == 0)
    return MS_OK;
  MS_TRY(ms_cuda_enter(s));
  if constexpr (sizeof(typename F::value) == sizeof(float)) {
    if (in_fours(&w, F::inputs)) {
      LAUNCH((elementwise<F, 4>), ms_grid(w.shape.total, 4), MS_BLOCK, 0, s->id, w, f);
      return ms_cuda_launched(s, name);
    }
  }
  LAUNCH((elementwise<F, 1>), ms_grid(w.shape.total), MS_BLOCK, 0, s->id, w, f);
  return ms_cuda_launched(s, name);
}

template <class T, int INPUTS, bool CONDITION = false> struct function {
  typedef T value;
  static const int inputs = INPUTS;
  static const bool first_is_condition = CONDITION;
};

#define EACH _Pragma("unroll") for (int e = 0; e < E; e++)
#define RUN(T)                                                                                        \
  template <int E>                                                                                    \
  __device__ __forceinline__ void run(T *y, [[maybe_unused]] const T *a, [[maybe_unused]] const T *b, \
                                      [[maybe_unused]] const T *c, [[maybe_unused]] int64_t at) const

/* Integers in, integers out: computed in int64. */
bool exact_loop(const ms_loop *l) {
  bool exact = ms_is_integer(l->out.data.dtype);
  for (int k = 0; k < l->nin; k++)
    exact = exact && ms_is_integer(l->in[k].data.dtype);
  return exact;
}

bool is_whole(double x) {
  return x >= -0x1p63 && x < 0x1p63 && x == floor(x);
}

/* ---- unary ---- */

struct unary : function<float, 1> {
  ms_unary_op op;
  RUN(float) {
    switch (op) {
#define MS_UNARY(name, lo, hi)   \
  case MS_UNARY_##name:          \
    EACH y[e] = ms_##name(a[e]); \
    break;
#include "../unary.def"
#undef MS_UNARY
    default:
      EACH y[e] = 0;
    }
  }
};

struct unary_grad : function<float, 2> {
  ms_unary_op op;
  RUN(float) {
    switch (op) {
#define MS_UNARY(name, lo, hi)                 \
  case MS_UNARY_##name:                        \
    EACH y[e] = b[e] * ms_##name##_grad(a[e]); \
    break;
#include "../unary.def"
#undef MS_UNARY
    default:
      EACH y[e] = 0;
    }
  }
};

/* Of the functions that keep integers. */
struct int_unary : function<int64_t, 1> {
  ms_unary_op op;
  RUN(int64_t) {
    int64_t x = a[0];
    switch (op) {
    case MS_UNARY_neg:
      y[0] = ms_int_sub(0, x);
      break;
    case MS_UNARY_abs:
      y[0] = x < 0 ? ms_int_sub(0, x) : x;
      break;
    case MS_UNARY_sign:
      y[0] = (x > 0) - (x < 0);
      break;
    case MS_UNARY_square:
      y[0] = ms_int_mul(x, x);
      break;
    case MS_UNARY_relu:
      y[0] = x > 0 ? x : 0;
      break;
    default: /* floor, ceil, round */
      y[0] = x;
    }
  }
};

bool keeps_integers(ms_unary_op op) {
  return op == MS_UNARY_neg || op == MS_UNARY_abs || op == MS_UNARY_sign || op == MS_UNARY_square ||
         op == MS_UNARY_relu || op == MS_UNARY_floor || op == MS_UNARY_ceil || op == MS_UNARY_round;
}

/* ---- binary ---- */

struct binary : function<float, 2> {
  ms_binary_op op;
  RUN(float) {
    switch (op) {
#define MS_BINARY(name)                       \
  case MS_BINARY_##name:                      \
    EACH y[e] = (float)ms_##name(a[e], b[e]); \
    break;
#define MS_COMPARE(name) MS_BINARY(name)
#include "../binary.def"
    default:
      EACH y[e] = 0;
    }
  }
};

struct int_binary : function<int64_t, 2> {
  ms_binary_op op;
  RUN(int64_t) {
    switch (op) {
#define MS_BINARY(name)               \
  case MS_BINARY_##name:              \
    y[0] = ms_int_##name(a[0], b[0]); \
    break;
#define MS_COMPARE(name) MS_BINARY(name)
#include "../binary.def"
    default:
      EACH y[e] = 0;
    }
  }
};

/* One operand is a number: the left one if swapped. */
struct binary_scalar : function<float, 1> {
  binary f;
  float number;
  int swapped;
  RUN(float) {
    float x0[E], x1[E];
    EACH {
      x0[e] = swapped ? number : a[e];
      x1[e] = swapped ? a[e] : number;
    }
    f.template run<E>(y, x0, x1, c, at);
  }
};

struct int_binary_scalar : function<int64_t, 1> {
  int_binary f;
  int64_t number;
  int swapped;
  RUN(int64_t) {
    int64_t x0 = swapped ? number : a[0], x1 = swapped ? a[0] : number;
    f.template run<1>(y, &x0, &x1, c, at);
  }
};

/* ---- axpby, clamp, where ---- */

struct axpby : function<float, 2> {
  float alpha, beta;
  RUN(float) {
    EACH y[e] = fmaf(beta, b[e], alpha * a[e]);
  }
};

struct int_axpby : function<int64_t, 2> {
  int64_t alpha, beta;
  RUN(int64_t) {
    y[0] = ms_int_add(ms_int_mul(alpha, a[0]), ms_int_mul(beta, b[0]));
  }
};

struct clamp : function<float, 1> {
  float lo, hi;
  RUN(float) {
    EACH {
      float x = a[e] < lo ? lo : a[e];
      y[e] = x > hi ? hi : x;
    }
  }
};

struct int_clamp : function<int64_t, 1> {
  int64_t lo, hi;
  RUN(int64_t) {
    y[0] = ms_int_minimum(ms_int_maximum(a[0], lo), hi);
  }
};

template <class T> struct choose : function<T, 3, true> {
  RUN(T) {
    EACH y[e] = a[e] != 0 ? b[e] : c[e];
  }
};

/* ---- copy, fill, arange ---- */

template <class T> struct same : function<T, 1> {
  RUN(T) {
    EACH y[e] = a[e];
  }
};

template <class T> struct constant : function<T, 0> {
  T number;
  RUN(T) {
    EACH y[e] = number;
  }
};

template <class T> struct progression : function<T, 0> {
  double start, step;
  static __device__ __forceinline__ float as(double x, float) {
    return (float)x;
  }
  static __device__ __forceinline__ int64_t as(double x, int64_t) {
    return ms_real_to_int(x);
  }
  RUN(T) {
    EACH y[e] = as(fma((double)(at + e), step, start), T());
  }
};

/* Eight elements a thread between float32 and bfloat16, contiguous: to and from are aligned to 16 bytes. */
__global__ void __launch_bounds__(MS_BLOCK) to_bf16(ms_bf16 *to, const float *from, int64_t n) {
  int64_t at = 8 * ms_thread();
  if (at + 8 <= n) {
    float4 a = *(const float4 *)(from + at), b = *(const float4 *)(from + at + 4);
    float x[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
    uint32_t pair[4];
#pragma unroll
    for (int e = 0; e < 4; e++)
      pair[e] = ms_bf16_from(x[2 * e]).bits | (uint32_t)ms_bf16_from(x[2 * e + 1]).bits << 16;
    *(uint4 *)(to + at) = make_uint4(pair[0], pair[1], pair[2], pair[3]);
  } else {
    for (; at < n; at++)
      to[at] = ms_bf16_from(from[at]);
  }
}

__global__ void __launch_bounds__(MS_BLOCK) from_bf16(float *to, const ms_bf16 *from, int64_t n) {
  int64_t at = 8 * ms_thread();
  if (at + 8 <= n) {
    uint4 v = *(const uint4 *)(from + at);
    uint32_t pair[4] = {v.x, v.y, v.z, v.w};
    float x[8];
#pragma unroll
    for (int e = 0; e < 8; e++)
      x[e] = ms_bf16_to(ms_bf16{(uint16_t)(pair[e / 2] >> e % 2 * 16)});
    *(float4 *)(to + at) = make_float4(x[0], x[1], x[2], x[3]);
    *(float4 *)(to + at + 4) = make_float4(x[4], x[5], x[6], x[7]);
  } else {
    for (; at < n; at++)
      to[at] = ms_bf16_to(from[at]);
  }
}

/* A permutation: `near` is the dimension that is dense in the output, `far` the one that is dense in the input. Tiles
** of both are read along far and written along near; `rest` counts the other dimensions. */
enum { TILE = 32, TILE_ROWS = 8, TILE_LEAST = 8 };

struct permutation {
  ms_data out, in;
  int64_t near, far, in_near, out_far, near_tiles, far_tiles;
  ms_shape rest;
  int64_t in_rest[MS_MAX_DIMS], out_rest[MS_MAX_DIMS];
};

template <class T> __global__ void permute(const __grid_constant__ permutation p) {
  SHARED(T, tile, [TILE][TILE + 1]);
  int64_t block = blockIdx.x, i = block % p.near_tiles * TILE, j = block / p.near_tiles % p.far_tiles * TILE;
  int64_t rest = block / p.near_tiles / p.far_tiles;
  int64_t in = ms_offset(p.rest, p.in_rest, rest), out = ms_offset(p.rest, p.out_rest, rest);
  int x = threadIdx.x % TILE, y = threadIdx.x / TILE;
  for (int r = y; r < TILE; r += TILE_ROWS)
    if (i + r < p.near && j + x < p.far)
      ms_load(tile[r][x], p.in, in + (i + r) * p.in_near + j + x);
  __syncthreads();
  for (int r = y; r < TILE; r += TILE_ROWS)
    if (i + x < p.near && j + r < p.far)
      ms_store(p.out, out + i + x + (j + r) * p.out_far, tile[x][r]);
}

/* Fills in p where the loop is such a permutation. */
bool is_permutation(permutation *p, const ms_loop *l) {
  int last = l->ndim - 1, far = -1, n = 0;
  if (l->ndim < 2 || l->out.stride[last] != 1 || l->in[0].stride[last] == 1 || l->size[last] < TILE_LEAST)
    return false;
  for (int d = 0; d < last; d++)
    if (l->in[0].stride[d] == 1 && l->size[d] >= TILE_LEAST)
      far = d;
  if (far < 0)
    return false;
  int64_t size[MS_MAX_DIMS];
  *p = permutation();
  for (int d = 0; d < last; d++) {
    if (d == far)
      continue;
    size[n] = l->size[d];
    p->in_rest[n] = l->in[0].stride[d];
    p->out_rest[n++] = l->out.stride[d];
  }
  p->out = l->out.data, p->in = l->in[0].data;
  p->near = l->size[last], p->far = l->size[far];
  p->in_near = l->in[0].stride[last], p->out_far = l->out.stride[far];
  p->near_tiles = ms_div_up(p->near, TILE), p->far_tiles = ms_div_up(p->far, TILE);
  p->rest = ms_shape_of(n, size);
  return true;
}

template <class T> ms_status copy_as(ms_stream *s, const ms_loop *l) {
  permutation p;
  if (is_permutation(&p, l)) {
    int64_t blocks = p.near_tiles * p.far_tiles * p.rest.total;
    if (blocks == 0)
      return MS_OK;
    MS_TRY(ms_cuda_enter(s));
    LAUNCH((permute<T>), dim3((unsigned)blocks), TILE * TILE_ROWS, 0, s->id, p);
    return ms_cuda_launched(s, "copy");
  }
  return run(s, "copy", l, same<T>());
}

bool dense(const ms_loop *l) {
  return l->ndim == 1 && l->out.stride[0] == 1 && (l->nin == 0 || l->in[0].stride[0] == 1);
}

bool aligned16(const void *p) {
  return (uintptr_t)p % 16 == 0;
}

} // namespace

ms_status ms_cuda_unary(ms_stream *s, ms_unary_op op, const ms_loop *l) {
  if (keeps_integers(op) && exact_loop(l))
    return run(s, "unary", l, int_unary{{}, op});
  return run(s, "unary", l, unary{{}, op});
}

ms_status ms_cuda_unary_grad(ms_stream *s, ms_unary_op op, const ms_loop *l) {
  return run(s, "unary_grad", l, unary_grad{{}, op});
}

ms_status ms_cuda_binary(ms_stream *s, ms_binary_op op, const ms_loop *l) {
  if (exact_loop(l))
    return run(s, "binary", l, int_binary{{}, op});
  return run(s, "binary", l, binary{{}, op});
}

ms_status ms_cuda_binary_scalar(ms_stream *s, ms_binary_op op, const ms_loop *l, double value, int swapped) {
  if (exact_loop(l) && is_whole(value))
    return run(s, "binary_scalar", l, int_binary_scalar{{}, {{}, op}, ms_real_to_int(value), swapped});
  return run(s, "binary_scalar", l, binary_scalar{{}, {{}, op}, (float)value, swapped});
}

ms_status ms_cuda_axpby(ms_stream *s, const ms_loop *l, double alpha, double beta) {
  if (exact_loop(l) && is_whole(alpha) && is_whole(beta))
    return run(s, "axpby", l, int_axpby{{}, (int64_t)alpha, (int64_t)beta});
  return run(s, "axpby", l, axpby{{}, (float)alpha, (float)beta});
}

ms_status ms_cuda_where(ms_stream *s, const ms_loop *l) {
  if (ms_is_integer(l->out.data.dtype) && ms_is_integer(l->in[1].data.dtype) && ms_is_integer(l->in[2].data.dtype))
    return run(s, "where", l, choose<int64_t>());
  return run(s, "where", l, choose<float>());
}

ms_status ms_cuda_clamp(ms_stream *s, const ms_loop *l, double lo, double hi) {
  if (exact_loop(l))
    return run(s, "clamp", l, int_clamp{{}, ms_real_to_int(ceil(lo)), ms_real_to_int(floor(hi))});
  return run(s, "clamp", l, clamp{{}, (float)lo, (float)hi});
}

ms_status ms_cuda_copy(ms_stream *s, const ms_loop *l) {
  ms_data out = l->out.data, in = l->in[0].data;
  if (dense(l)) {
    int64_t n = l->size[0];
    bool wide = aligned16(out.p) && aligned16(in.p);
    if (n == 0)
      return MS_OK;
    MS_TRY(ms_cuda_enter(s));
    if (out.dtype == in.dtype && (out.dtype != MS_SPIKE || out.scale == in.scale)) {
      size_t bytes = (size_t)(n * ms_dtype_bytes(out.dtype));
      if (out.p == in.p)
        return MS_OK;
      return ms_cuda_check(s, cudaMemcpyAsync(out.p, in.p, bytes, cudaMemcpyDeviceToDevice, s->id), "copy");
    }
    if (wide && out.dtype == MS_BF16 && in.dtype == MS_F32) {
      LAUNCH(to_bf16, ms_grid(n, 8), MS_BLOCK, 0, s->id, (ms_bf16 *)out.p, (const float *)in.p, n);
      return ms_cuda_launched(s, "copy");
    }
    if (wide && out.dtype == MS_F32 && in.dtype == MS_BF16) {
      LAUNCH(from_bf16, ms_grid(n, 8), MS_BLOCK, 0, s->id, (float *)out.p, (const ms_bf16 *)in.p, n);
      return ms_cuda_launched(s, "copy");
    }
  }
  return exact_loop(l) ? copy_as<int64_t>(s, l) : copy_as<float>(s, l);
}

ms_status ms_cuda_fill(ms_stream *s, const ms_loop *l, double value) {
  if (dense(l) && l->size[0] > 0 && value == 0 && !signbit(value)) {
    MS_TRY(ms_cuda_enter(s));
    size_t bytes = (size_t)(l->size[0] * ms_dtype_bytes(l->out.data.dtype));
    return ms_cuda_check(s, cudaMemsetAsync(l->out.data.p, 0, bytes, s->id), "fill");
  }
  if (ms_is_integer(l->out.data.dtype))
    return run(s, "fill", l, constant<int64_t>{{}, ms_real_to_int(value)});
  return run(s, "fill", l, constant<float>{{}, (float)value});
}

ms_status ms_cuda_arange(ms_stream *s, const ms_loop *l, double start, double step) {
  if (ms_is_integer(l->out.data.dtype))
    return run(s, "arange", l, progression<int64_t>{{}, start, step});
  return run(s, "arange", l, progression<float>{{}, start, step});
}
