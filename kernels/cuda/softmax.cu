/* Softmax rows: a warp for each short row, a block for each long one. Sums are in double, as on the CPU. */
#include "launch.h"

namespace {

enum { SHORT = 1024 };

/* The threads that share a row: THREADS is 32 or MS_BLOCK. */
template <int THREADS> struct team {
  int64_t row;
  int at;
  __device__ __forceinline__ team() : row(ms_thread() / THREADS), at(threadIdx.x % THREADS) {}
};

template <int THREADS> MS_DEVICE double team_sum(double x, double *room) {
  return THREADS == MS_WARP ? ms_warp_sum(x) : ms_block_sum(x, room);
}

MS_DEVICE float warp_max(float x) {
  for (int d = MS_WARP / 2; d > 0; d /= 2) {
    float other = __shfl_xor_sync(0xffffffffu, x, d);
    x = other > x ? other : x;
  }
  return x;
}

template <int THREADS> MS_DEVICE float team_max(float x, double *room) {
  x = warp_max(x);
  if (THREADS > MS_WARP) {
    int lane = threadIdx.x % MS_WARP;
    if (lane == 0)
      room[threadIdx.x / MS_WARP] = x;
    __syncthreads();
    x = warp_max((float)room[lane % (THREADS / MS_WARP)]);
    __syncthreads();
  }
  return x;
}

template <int THREADS>
__global__ void __launch_bounds__(MS_BLOCK) log_softmax(float *out, const float *x, int64_t rows, int64_t n) {
  SHARED(double, room, [32]);
  team<THREADS> t;
  if (t.row >= rows)
    return;
  x += t.row * n;
  out += t.row * n;
  float most = -INFINITY;
  for (int64_t i = t.at; i < n; i += THREADS)
    most = x[i] > most ? x[i] : most;
  most = team_max<THREADS>(most, room);
  double sum = 0;
  for (int64_t i = t.at; i < n; i += THREADS)
    sum += expf(x[i] - most);
  float log_sum = (float)log(team_sum<THREADS>(sum, room));
  for (int64_t i = t.at; i < n; i += THREADS)
    out[i] = x[i] - most - log_sum;
}

/* y = log_softmax(x): dx = g - exp(y) * sum(g) */
template <int THREADS>
__global__ void __launch_bounds__(MS_BLOCK)
    log_softmax_grad(float *dx, const float *g, const float *y, int64_t rows, int64_t n) {
  SHARED(double, room, [32]);
  team<THREADS> t;
  if (t.row >= rows)
    return;
  g += t.row * n;
  y += t.row * n;
  dx += t.row * n;
  double sum = 0;
  for (int64_t i = t.at; i < n; i += THREADS)
    sum += g[i];
  float total = (float)team_sum<THREADS>(sum, room);
  for (int64_t i = t.at; i < n; i += THREADS)
    dx[i] = fmaf(-expf(y[i]), total, g[i]);
}

} // namespace

ms_status ms_cuda_log_softmax(ms_stream *s, ms_real *out, const ms_real *x, int64_t rows, int64_t n) {
  if (rows == 0 || n == 0)
    return MS_OK;
  MS_TRY(ms_cuda_enter(s));
  if (n <= SHORT)
    LAUNCH((log_softmax<MS_WARP>), ms_grid(rows * MS_WARP), MS_BLOCK, 0, s->id, out, x, rows, n);
  else
    LAUNCH((log_softmax<MS_BLOCK>), dim3((unsigned)rows), MS_BLOCK, 0, s->id, out, x, rows, n);
  return ms_cuda_launched(s, "log_softmax");
}

ms_status ms_cuda_log_softmax_grad(ms_stream *s, ms_real *dx, const ms_real *g, const ms_real *out, int64_t rows,
                                   int64_t n) {
  if (rows == 0 || n == 0)
    return MS_OK;
  MS_TRY(ms_cuda_enter(s));
  if (n <= SHORT)
    LAUNCH((log_softmax_grad<MS_WARP>), ms_grid(rows * MS_WARP), MS_BLOCK, 0, s->id, dx, g, out, rows, n);
  else
    LAUNCH((log_softmax_grad<MS_BLOCK>), dim3((unsigned)rows), MS_BLOCK, 0, s->id, dx, g, out, rows, n);
  return ms_cuda_launched(s, "log_softmax_grad");
}
