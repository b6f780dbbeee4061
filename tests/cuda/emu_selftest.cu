// The emulation tested by itself: products, sums, graphs, copies, pools, libraries. Prints one line of results as bits,
// which must be the same in every order of threads and streams; exits 1 at the first failure.
#include "cuda/gpu.h"
#include "cuda/emu/counts.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define CHECK(condition)                                     \
  do {                                                       \
    if (!(condition)) {                                      \
      printf("not ok: line %d: %s\n", __LINE__, #condition); \
      exit(1);                                               \
    }                                                        \
  } while (0)

static uint64_t hash = 14695981039346656037u;

static void mix(const void *p, size_t n) {
  for (size_t i = 0; i < n; i++)
    hash = (hash ^ ((const unsigned char *)p)[i]) * 1099511628211u;
}

// A device array of floats in one stream.
struct Array {
  float *p = nullptr;
  size_t n;
  cudaStream_t s;
  Array(size_t count, cudaStream_t stream) : n(count), s(stream) {
    CHECK(!cudaMallocAsync(&p, n * 4, s));
  }
  ~Array() {
    cudaFreeAsync(p, s);
  }
  Array(const Array &) = delete;
  void set(const std::vector<float> &v) {
    CHECK(!cudaMemcpyAsync(p, v.data(), n * 4, cudaMemcpyHostToDevice, s));
    CHECK(!cudaStreamSynchronize(s));
  }
  std::vector<float> get() {
    std::vector<float> v(n);
    CHECK(!cudaMemcpyAsync(v.data(), p, n * 4, cudaMemcpyDeviceToHost, s));
    CHECK(!cudaStreamSynchronize(s));
    mix(v.data(), n * 4);
    return v;
  }
};

static std::vector<float> numbers(size_t n, unsigned seed) {
  std::vector<float> v(n);
  for (float &x : v) {
    seed = seed * 1664525u + 1013904223u;
    x = (float)(int)(seed >> 8 & 0xff) / 64 - 2;
  }
  return v;
}

// ---- kernels ----

template <int TILE> __global__ void sgemm(const float *a, const float *b, float *c, int n) {
  SHARED(float, ta, [TILE][TILE + 1]);
  SHARED(float, tb, [TILE][TILE + 1]);
  int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * TILE + y, col = blockIdx.x * TILE + x;
  float sum = 0;
  for (int k = 0; k < n; k += TILE) {
    ta[y][x] = row < n && k + x < n ? a[row * n + k + x] : 0;
    tb[y][x] = col < n && k + y < n ? b[(k + y) * n + col] : 0;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < TILE; i++)
      sum = fmaf(ta[y][i], tb[i][x], sum);
    __syncthreads();
  }
  if (row < n && col < n)
    c[row * n + col] = sum;
}

__global__ void __launch_bounds__(256) block_sum(const float *__restrict__ x, float *__restrict__ y, int n) {
  SHARED_DYN(float, room);
  float v = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x)
    v += __ldg(x + i);
  for (int d = 16; d > 0; d /= 2)
    v += __shfl_xor_sync(0xffffffffu, v, d);
  if (threadIdx.x % 32 == 0)
    room[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 32) {
    v = threadIdx.x < blockDim.x / 32 ? room[threadIdx.x] : 0;
    for (int d = 16; d > 0; d /= 2)
      v += __shfl_down_sync(0xffffffffu, v, (unsigned)d);
    if (threadIdx.x == 0)
      *y = v;
  }
}

__global__ void warps(int *out) {
  int i = threadIdx.x, lane = i % 32;
  unsigned odd = __ballot_sync(0xffffffffu, lane & 1);
  int scan = lane;
  for (unsigned d = 1; d < 32; d *= 2) {
    int other = __shfl_up_sync(0xffffffffu, scan, d);
    scan += lane >= (int)d ? other : 0;
  }
  int any = __any_sync(0xffffffffu, lane == 5), all = __all_sync(0xffffffffu, lane < 31);
  int many = __syncthreads_count(i < 7);
  int some = __syncthreads_or(i == 9);
  int seventh = __shfl_sync(0xffffffffu, i, 7);
  out[i] = (odd == 0xaaaaaaaau) + 2 * any + 4 * all + 8 * (many == 7) + 16 * some + 32 * (seventh == i - lane + 7) +
           1000 * scan;
}

__global__ void count_up(int *n, unsigned long long *wide) {
  atomicAdd(n, 1);
  atomicMax(n + 1, (int)(blockIdx.x * blockDim.x + threadIdx.x));
  atomicOr(n + 2, 1 << (threadIdx.x % 20));
  atomicAdd(wide, 1ull << 33);
}

__global__ void scale(float *x, float by, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n)
    x[i] *= by;
}

__global__ void add(float *x, const float *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n)
    x[i] += y[i];
}

// ---- tests ----

static void test_products(cudaStream_t s) {
  enum { N = 50 };
  Array a(N * N, s), b(N * N, s), c(N * N, s), d(N * N, s);
  std::vector<float> va = numbers(N * N, 1), vb = numbers(N * N, 2);
  a.set(va);
  b.set(vb);
  LAUNCH(sgemm<16>, dim3(4, 4), dim3(16, 16), 0, s, a.p, b.p, c.p, N);
  CHECK(cudaGetLastError() == cudaSuccess);
  std::vector<float> vc = c.get();
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      float sum = 0; // exact: the numbers are multiples of 1/64
      for (int k = 0; k < N; k++)
        sum += va[i * N + k] * vb[k * N + j];
      CHECK(vc[i * N + j] == sum);
    }
  float one = 1, zero = 0;
  cublasLtHandle_t lt;
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t l, by_column, short_one;
  cublasLtMatmulPreference_t preference;
  cublasLtMatmulHeuristicResult_t found;
  int32_t row = CUBLASLT_ORDER_ROW, n;
  uint64_t room = 1 << 16;
  CHECK(!cublasLtCreate(&lt) && !cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  CHECK(!cublasLtMatrixLayoutCreate(&l, CUDA_R_32F, N, N, N) && !cublasLtMatmulPreferenceCreate(&preference));
  CHECK(!cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_ORDER, &row, sizeof row));
  CHECK(!cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, 8));
  CHECK(!cublasLtMatmulAlgoGetHeuristic(lt, desc, l, l, l, l, preference, 1, &found, &n) && n == 1);
  Array e(N * N, s), workspace(found.workspaceSize / 4, s);
  CHECK(!cublasLtMatmul(lt, desc, &one, a.p, l, b.p, l, &zero, e.p, l, e.p, l, &found.algo, workspace.p,
                        found.workspaceSize, s));
  CHECK(e.get() == vc);
  // the same bytes column by column, without an algorithm of the caller's: the transposed product
  CHECK(!cublasLtMatrixLayoutCreate(&by_column, CUDA_R_32F, N, N, N));
  CHECK(!cublasLtMatmul(lt, desc, &one, b.p, by_column, a.p, by_column, &zero, d.p, by_column, d.p, by_column, nullptr,
                        nullptr, 0, s));
  CHECK(d.get() == vc);
  CHECK(cublasLtMatmul(lt, desc, &one, b.p, by_column, a.p, by_column, &zero, d.p, by_column, d.p, by_column,
                       &found.algo, workspace.p, found.workspaceSize, s) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(!cublasLtMatrixLayoutCreate(&short_one, CUDA_R_32F, N, N, N - 1));
  CHECK(cublasLtMatmul(lt, desc, &one, b.p, short_one, a.p, by_column, &zero, d.p, by_column, d.p, by_column, nullptr,
                       nullptr, 0, s) == CUBLAS_STATUS_INVALID_VALUE);
  cublasLtMatmulPreferenceDestroy(preference);
  for (cublasLtMatrixLayout_t x : {l, by_column, short_one})
    cublasLtMatrixLayoutDestroy(x);
  cublasLtMatmulDescDestroy(desc);
  cublasLtDestroy(lt);
}

static void test_convolution(cudaStream_t s) {
  enum { N = 2, C = 4, H = 5, W = 6, K = 6, G = 2, OH = 3, OW = 3 };
  cudnnHandle_t h;
  cudnnTensorDescriptor_t tx, ty;
  cudnnFilterDescriptor_t tw;
  cudnnConvolutionDescriptor_t tc;
  CHECK(!cudnnCreate(&h) && !cudnnSetStream(h, s) && !cudnnCreateTensorDescriptor(&tx));
  CHECK(!cudnnCreateTensorDescriptor(&ty) && !cudnnCreateFilterDescriptor(&tw));
  CHECK(!cudnnCreateConvolutionDescriptor(&tc));
  CHECK(!cudnnSetTensor4dDescriptor(tx, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, N, C, H, W));
  CHECK(!cudnnSetTensor4dDescriptor(ty, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, N, K, OH, OW));
  CHECK(!cudnnSetFilter4dDescriptor(tw, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, K, C / G, 3, 3));
  CHECK(!cudnnSetConvolution2dDescriptor(tc, 1, 1, 2, 2, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
  CHECK(!cudnnSetConvolutionGroupCount(tc, G) && !cudnnSetConvolutionMathType(tc, CUDNN_FMA_MATH));
  size_t bytes;
  CHECK(!cudnnGetConvolutionForwardWorkspaceSize(h, tx, tw, tc, ty, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, &bytes));
  Array x(N * H * W * C, s), w(K * 9 * C / G, s), y(N * OH * OW * K, s), g(y.n, s), dx(x.n, s), dw(w.n, s),
      room(bytes / 4, s);
  std::vector<float> vx = numbers(x.n, 3), vw = numbers(w.n, 4), vg = numbers(g.n, 5);
  x.set(vx);
  w.set(vw);
  g.set(vg);
  float one = 1, zero = 0;
  CHECK(!cudnnConvolutionForward(h, &one, tx, x.p, tw, w.p, tc, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, room.p, bytes,
                                 &zero, ty, y.p));
  CHECK(!cudnnConvolutionBackwardData(h, &one, tw, w.p, ty, g.p, tc, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, room.p, bytes,
                                      &zero, tx, dx.p));
  CHECK(!cudnnConvolutionBackwardFilter(h, &one, tx, x.p, ty, g.p, tc, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, room.p,
                                        bytes, &zero, tw, dw.p));
  std::vector<float> vy = y.get(), vdx = dx.get(), vdw = dw.get(), ry(y.n), rdx(x.n), rdw(w.n);
  for (int n = 0; n < N; n++)
    for (int oy = 0; oy < OH; oy++)
      for (int ox = 0; ox < OW; ox++)
        for (int k = 0; k < K; k++)
          for (int r = 0; r < 3; r++)
            for (int q = 0; q < 3; q++)
              for (int c = 0; c < C / G; c++) {
                int iy = oy * 2 - 1 + r, ix = ox * 2 - 1 + q;
                if (iy < 0 || iy >= H || ix < 0 || ix >= W)
                  continue;
                int px = ((n * H + iy) * W + ix) * C + k / (K / G) * (C / G) + c;
                int pw = ((k * 3 + r) * 3 + q) * (C / G) + c, py = ((n * OH + oy) * OW + ox) * K + k;
                ry[py] += vx[px] * vw[pw];
                rdx[px] += vg[py] * vw[pw];
                rdw[pw] += vg[py] * vx[px];
              }
  CHECK(vy == ry && vdx == rdx && vdw == rdw);
  cudnnDestroyConvolutionDescriptor(tc);
  cudnnDestroyFilterDescriptor(tw);
  cudnnDestroyTensorDescriptor(ty);
  cudnnDestroyTensorDescriptor(tx);
  cudnnDestroy(h);
}

static void test_sums(cudaStream_t s) {
  Array x(1000, s), y(1, s);
  std::vector<float> v = numbers(1000, 6);
  x.set(v);
  LAUNCH(block_sum, 1, 256, 8 * sizeof(float), s, x.p, y.p, 1000);
  float sum = 0;
  for (float f : v)
    sum += f;
  CHECK(y.get()[0] == sum);
  int *out, host[64];
  CHECK(!cudaMallocAsync(&out, sizeof host, s));
  LAUNCH(warps, 1, 64, 0, s, out);
  CHECK(!cudaMemcpyAsync(host, out, sizeof host, cudaMemcpyDeviceToHost, s) && !cudaStreamSynchronize(s));
  for (int i = 0; i < 64; i++)
    CHECK(host[i] == 1 + 2 + 8 + 16 + 32 + 1000 * (i % 32 * (i % 32 + 1) / 2));
  unsigned long long *wide, many;
  CHECK(!cudaMallocAsync(&wide, 8, s) && !cudaMemsetAsync(wide, 0, 8, s) && !cudaMemsetAsync(out, 0, 12, s));
  LAUNCH(count_up, 5, 96, 0, s, out, wide);
  CHECK(!cudaMemcpyAsync(host, out, 12, cudaMemcpyDeviceToHost, s));
  CHECK(!cudaMemcpyAsync(&many, wide, 8, cudaMemcpyDeviceToHost, s) && !cudaStreamSynchronize(s));
  CHECK(host[0] == 480 && host[1] == 479 && host[2] == (1 << 20) - 1 && many == 480ull << 33);
  cudaFreeAsync(out, s);
  cudaFreeAsync(wide, s);
}

static void test_graph(cudaStream_t s) {
  cudaStream_t side;
  cudaEvent_t fork, join;
  cudaGraph_t g;
  cudaGraphExec_t exec;
  CHECK(!cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
  CHECK(!cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
  CHECK(!cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
  Array x(100, s), y(100, s);
  std::vector<float> v = numbers(100, 7), w = numbers(100, 8);
  x.set(v);
  y.set(w);
  CHECK(!cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  float by = 2;
  LAUNCH(scale, 4, 32, 0, s, x.p, by, 100);
  by = 1000; // frozen when it was captured
  CHECK(!cudaEventRecord(fork, s) && !cudaStreamWaitEvent(side, fork));
  LAUNCH(scale, 4, 32, 0, side, y.p, 0.5f, 100);
  CHECK(!cudaEventRecord(join, side) && !cudaStreamWaitEvent(s, join));
  LAUNCH(add, 4, 32, 0, s, x.p, y.p, 100);
  cudaStreamCaptureStatus status;
  CHECK(!cudaStreamIsCapturing(s, &status) && status == cudaStreamCaptureStatusActive);
  CHECK(!cudaStreamEndCapture(s, &g) && !cudaGraphInstantiate(&exec, g) && !cudaGraphDestroy(g));
  CHECK(x.get() == v); // nothing ran
  for (int i = 0; i < 3; i++)
    CHECK(!cudaGraphLaunch(exec, s));
  std::vector<float> out = x.get();
  for (int i = 0; i < 100; i++) {
    for (int k = 0; k < 3; k++) {
      w[i] *= 0.5f;
      v[i] = v[i] * 2 + w[i];
    }
    CHECK(out[i] == v[i]);
  }
  // a side stream that is not joined, work from outside, a synchronisation: each ends the capture with its error
  CHECK(!cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
  CHECK(!cudaEventRecord(fork, s) && !cudaStreamWaitEvent(side, fork));
  CHECK(cudaStreamEndCapture(s, &g) == cudaErrorStreamCaptureUnjoined);
  CHECK(!cudaEventRecord(fork, side) && !cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  CHECK(cudaStreamWaitEvent(s, fork) == cudaErrorStreamCaptureIsolation);
  CHECK(cudaStreamEndCapture(s, &g) == cudaErrorStreamCaptureInvalidated);
  CHECK(!cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  CHECK(cudaStreamSynchronize(s) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamEndCapture(s, &g) == cudaErrorStreamCaptureInvalidated);
  cudaGetLastError();
  cudaGraphExecDestroy(exec);
  cudaEventDestroy(fork);
  cudaEventDestroy(join);
  cudaStreamDestroy(side);
}

static void test_streams(cudaStream_t s) {
  cudaStream_t other;
  cudaEvent_t start, stop;
  CHECK(!cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) && !cudaEventCreate(&start));
  CHECK(!cudaEventCreate(&stop));
  Array x(64, s);
  float *pinned;
  CHECK(!cudaMallocHost(&pinned, 256));
  for (int i = 0; i < 64; i++)
    pinned[i] = (float)i;
  CHECK(!cudaEventRecord(start, s));
  CHECK(!cudaMemcpyAsync(x.p, pinned, 256, cudaMemcpyHostToDevice, s));
  LAUNCH(scale, 2, 32, 0, s, x.p, 3.0f, 64);
  CHECK(!cudaEventRecord(stop, s) && !cudaStreamWaitEvent(other, stop));
  CHECK(!cudaMemcpyAsync(pinned, x.p, 256, cudaMemcpyDeviceToHost, other) && !cudaStreamSynchronize(other));
  CHECK(pinned[63] == 189);
  float ms;
  CHECK(!cudaEventSynchronize(stop) && !cudaEventElapsedTime(&ms, start, stop) && ms >= 0);
  CHECK(cudaMemcpyAsync(x.p, pinned, 257, cudaMemcpyHostToDevice, s) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(x.p, pinned, 256, cudaMemcpyDeviceToHost, s) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue && cudaGetLastError() == cudaSuccess);
  LAUNCH(scale, 0, 32, 0, s, x.p, 3.0f, 64);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  LAUNCH(scale, 1, 2048, 0, s, x.p, 3.0f, 64);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  LAUNCH(block_sum, 1, 64, 100 << 10, s, x.p, x.p, 0);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(!cudaFuncSetAttribute(block_sum, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 << 10));
  LAUNCH(block_sum, 1, 64, 100 << 10, s, x.p, x.p, 0);
  CHECK(cudaGetLastError() == cudaSuccess && !cudaStreamSynchronize(s));
  cudaFreeHost(pinned);
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  cudaStreamDestroy(other);
}

static void test_memory(cudaStream_t s) {
  cudaMemPool_t pool;
  uint64_t keep = 1 << 20, reserved, used, before;
  size_t free_bytes, total;
  CHECK(!cudaStreamSynchronize(s) && !cudaDeviceGetDefaultMemPool(&pool, 0));
  CHECK(!cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
  CHECK(!cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &before) && before == 0);
  void *p, *q;
  CHECK(!cudaMallocAsync(&p, 2 << 20, s) && !cudaFreeAsync(p, s) && !cudaStreamSynchronize(s));
  CHECK(!cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved) && reserved == keep);
  CHECK(!cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used) && used == 0);
  CHECK(!cudaMemPoolTrimTo(pool, 0) && !cudaMemGetInfo(&free_bytes, &total) && free_bytes == total);
  CHECK(ms_emu_fail("memory", 1 << 20) == 0);
  CHECK(!cudaMallocAsync(&p, 600 << 10, s) && cudaMallocAsync(&q, 600 << 10, s) == cudaErrorMemoryAllocation && !q);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(!cudaFreeAsync(p, s) && !cudaMallocAsync(&q, 600 << 10, s) && !cudaFreeAsync(q, s));
  CHECK(ms_emu_fail("memory", 1 << 30) == 0 && !cudaStreamSynchronize(s));
  CHECK(ms_emu_fail("alloc", 2) == 0 && !cudaMallocAsync(&p, 16, s));
  CHECK(cudaMallocAsync(&q, 16, s) == cudaErrorMemoryAllocation && cudaGetLastError());
  long long a[8], b[8];
  ms_emu_counts(a);
  LAUNCH(scale, 1, 32, 0, s, (float *)p, 2.0f, 4);
  CHECK(!cudaMemsetAsync(p, 0, 16, s) && !cudaStreamSynchronize(s) && !cudaFreeAsync(p, s));
  CHECK(!cudaStreamSynchronize(s));
  ms_emu_counts(b);
  CHECK(b[0] == a[0] + 1 && b[1] == a[1] + 2 && b[4] == a[4] + 1 && b[6] == a[6] + 1 && b[3] == a[3]);
  CHECK(ms_emu_fail("launch", 1) == 0);
  LAUNCH(scale, 1, 32, 0, s, (float *)nullptr, 2.0f, 0);
  CHECK(cudaGetLastError() == cudaErrorLaunchFailure && cudaGetLastError() == cudaSuccess);
  CHECK(ms_emu_fail("launch_sticky", 1) == 0);
  LAUNCH(scale, 1, 32, 0, s, (float *)nullptr, 2.0f, 0);
  CHECK(cudaGetLastError() == cudaErrorLaunchFailure && cudaStreamSynchronize(s) == cudaErrorLaunchFailure);
  CHECK(ms_emu_fail("clear", 0) == 0 && !cudaStreamSynchronize(s) && ms_emu_fail("nonsense", 0) == -1);
}

static void test_devices() {
  int n;
  CHECK(!cudaGetDeviceCount(&n));
  if (n < 2)
    return;
  cudaStream_t s;
  float *p;
  CHECK(!cudaSetDevice(1) && !cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  CHECK(!cudaMallocAsync(&p, 16, s) && !cudaSetDevice(0));
  LAUNCH(scale, 1, 32, 0, s, p, 2.0f, 4);
  CHECK(cudaGetLastError() == cudaErrorInvalidResourceHandle && cudaSetDevice(n) == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK(!cudaFreeAsync(p, s) && !cudaStreamDestroy(s));
}

int main() {
  cudaStream_t s;
  CHECK(!cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  test_products(s);
  test_convolution(s);
  test_sums(s);
  test_graph(s);
  test_streams(s);
  test_memory(s);
  test_devices();
  CHECK(!cudaStreamDestroy(s));
  printf("%016llx\n", (unsigned long long)hash);
}
