/* The row gemm: operands that cuBLASLt cannot read are unpacked into scratch memory first. */
#include "blas.h"
#include "vec.h"

/* ---- conversion ---- */

template <int V> static __global__ void convert(ms_data to, ms_data x, int64_t from, int64_t n) {
  int64_t i = from + ms_thread() * V;
  if (i >= n)
    return;
  float v[V];
  ms_load<V>(x, i, v);
  ms_store<V>(to, i, v);
}

ms_status ms_cuda_convert(ms_stream *s, ms_data to, ms_data x, int64_t n) {
  int64_t whole = ms_aligned(to.p, to.dtype, 0, 8) && ms_aligned(x.p, x.dtype, 0, 8) ? n / 8 * 8 : 0;
  MS_TRY(ms_cuda_enter(s));
  if (whole > 0) {
    LAUNCH((convert<8>), ms_grid(whole, 8), MS_BLOCK, 0, s->id, to, x, (int64_t)0, whole);
    MS_TRY(ms_cuda_launched(s, "convert"));
  }
  if (whole < n) {
    LAUNCH((convert<1>), ms_grid(n - whole), MS_BLOCK, 0, s->id, to, x, whole, n);
    return ms_cuda_launched(s, "convert");
  }
  return MS_OK;
}

/* A strided matrix becomes [batch][rows][cols]. */
static __global__ void compact(ms_data to, ms_data x, int64_t n, int64_t rows, int64_t cols, int64_t batch, int64_t row,
                               int64_t col) {
  int64_t i = ms_thread();
  if (i < n)
    ms_put(to, i, ms_get(x, i / cols / rows * batch + i / cols % rows * row + i % cols * col));
}

/* c = alpha * t + beta * c; t [batch][m][n], or NULL for zeros. */
static __global__ void finish(ms_gemm g, const float *t) {
  int64_t i = ms_thread();
  if (i >= g.batch * g.m * g.n)
    return;
  int64_t at = i / g.n / g.m * g.c_batch + i / g.n % g.m * g.ldc + i % g.n;
  float v = t ? g.alpha * t[i] : 0.0f;
  ms_put(g.c, at, g.beta != 0 ? v + g.beta * ms_get(g.c, at) : v);
}

/* ---- the row ---- */

namespace {

/* One operand: [batch, rows, cols] with these strides. */
typedef struct operand {
  ms_data *x;
  int64_t rows, cols, *row, *col, *batch;
} operand;

} // namespace

/* Bytes of 8 significant bits are exact in bfloat16, their scale goes into alpha. */
static int as_bf16(ms_data x) {
  return x.dtype != MS_F32;
}

static int kept(const operand *o, ms_dtype want) {
  return o->x->dtype == want && ms_cuda_readable(o->rows, o->cols, *o->row, *o->col, *o->batch);
}

static int64_t copies(const operand *o, int64_t batch) {
  return *o->batch == 0 ? 1 : batch;
}

static size_t room_of(const operand *o, ms_dtype want, int64_t batch) {
  size_t n = (size_t)(copies(o, batch) * o->rows * o->cols);
  return kept(o, want) ? 0 : (n * ms_width(want) + 255) / 256 * 256;
}

static ms_status unpack(ms_stream *s, const operand *o, ms_dtype want, int64_t batch, void *to) {
  int64_t n = copies(o, batch) * o->rows * o->cols, b = copies(o, batch), across = o->rows * o->cols;
  ms_data out = {to, want, 1};
  int dense = *o->batch == across || b == 1, by_row = *o->col == 1 && *o->row == o->cols,
      by_col = *o->row == 1 && *o->col == o->rows;
  if (dense && (by_row || by_col)) {
    MS_TRY(ms_cuda_convert(s, out, *o->x, n));
  } else {
    MS_TRY(ms_cuda_enter(s));
    by_col = 0;
    LAUNCH(compact, ms_grid(n), MS_BLOCK, 0, s->id, out, *o->x, n, o->rows, o->cols, *o->batch, *o->row, *o->col);
    MS_TRY(ms_cuda_launched(s, "compact"));
  }
  *o->x = out;
  *o->row = by_col ? 1 : o->cols;
  *o->col = by_col ? o->rows : 1;
  *o->batch = b == 1 ? 0 : across;
  return MS_OK;
}

static ms_status run_finish(ms_stream *s, const ms_gemm *g, const float *t) {
  MS_TRY(ms_cuda_enter(s));
  LAUNCH(finish, ms_grid(g->batch * g->m * g->n), MS_BLOCK, 0, s->id, *g, t);
  return ms_cuda_launched(s, "finish");
}

static ms_real take_scale(ms_data *x) {
  ms_real scale = x->dtype == MS_SPIKE || x->dtype == MS_BITS ? x->scale : 1;
  x->scale = 1;
  return scale;
}

ms_status ms_cuda_gemm(ms_stream *s, const ms_gemm *given) {
  ms_gemm g = *given;
  if (g.batch <= 0 || g.m <= 0 || g.n <= 0)
    return MS_OK;
  if (g.k <= 0)
    return run_finish(s, &g, NULL);
  operand a = {&g.a, g.m, g.k, &g.a_row, &g.a_col, &g.a_batch}, b = {&g.b, g.k, g.n, &g.b_row, &g.b_col, &g.b_batch};
  ms_dtype want = as_bf16(g.a) && as_bf16(g.b) ? MS_BF16 : MS_F32;
  if (want == MS_BF16)
    g.alpha *= take_scale(&g.a) * take_scale(&g.b);
  int aside = want == MS_F32 && g.c.dtype != MS_F32;
  size_t room_a = room_of(&a, want, g.batch), room_b = room_of(&b, want, g.batch),
         room_c = aside ? (size_t)(g.batch * g.m * g.n) * sizeof(float) : 0;
  char *room = NULL;
  if (room_a + room_b + room_c > 0)
    MS_TRY(ms_cuda_scratch(s, room_a + room_b + room_c, (void **)&room));
  if (room_a > 0)
    MS_TRY(unpack(s, &a, want, g.batch, room));
  if (room_b > 0)
    MS_TRY(unpack(s, &b, want, g.batch, room + room_a));
  if (!aside)
    return ms_cuda_product(s, &g);
  ms_gemm t = g;
  float *sums = (float *)(room + room_a + room_b);
  t.c = {sums, MS_F32, 1};
  t.ldc = g.n;
  t.c_batch = g.m * g.n;
  t.alpha = 1;
  t.beta = 0;
  MS_TRY(ms_cuda_product(s, &t));
  return run_finish(s, &g, sums);
}
