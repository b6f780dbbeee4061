// Programs with one mistake each, to show that the emulation notices it: faults NAME bad, and its healthy twin
// faults NAME good. Exit status 0: everything looked right. faults.sh runs them all.
#include "cuda/gpu.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

enum { N = 100 };

static bool bad; // which twin runs
static cudaStream_t s;

static void must(cudaError_t e, const char *what) {
  if (e == cudaSuccess)
    return;
  printf("%s: %s\n", what, cudaGetErrorName(e));
  exit(1);
}
#define MUST(call) must(call, #call)

static float *device_array(size_t n) {
  float *p;
  MUST(cudaMallocAsync(&p, n * sizeof *p, s));
  return p;
}

static void expect(bool right, const char *what) {
  if (right)
    return;
  printf("wrong result: %s\n", what);
  exit(1);
}

static std::vector<float> fetch(const float *p, size_t n, cudaStream_t from) {
  std::vector<float> v(n);
  MUST(cudaMemcpyAsync(v.data(), p, n * sizeof *p, cudaMemcpyDeviceToHost, from));
  MUST(cudaStreamSynchronize(from));
  return v;
}

__global__ void count_up(float *x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n)
    x[i] = (float)i;
}

__global__ void twice(float *y, const float *x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n)
    y[i] = 2 * x[i];
}

// ---- memory ----

static void global_write() {
  float *x = device_array(N);
  LAUNCH(count_up, 4, 32, 0, s, x, bad ? N + 1 : N);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
}

static void global_read() {
  float *x = device_array(N), *y = device_array(N + 1);
  LAUNCH(count_up, 4, 32, 0, s, x, N);
  LAUNCH(twice, 4, 32, 0, s, y, x, bad ? N + 1 : N);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
  MUST(cudaFreeAsync(y, s));
}

__global__ void reverse(float *x, int shift) {
  SHARED(float, room, [64]);
  int i = threadIdx.x;
  room[i + shift] = x[i];
  __syncthreads();
  x[i] = room[63 - i];
}

static void shared_write() {
  float *x = device_array(64);
  LAUNCH(count_up, 2, 32, 0, s, x, 64);
  LAUNCH(reverse, 1, 64, 0, s, x, bad ? 1 : 0);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
}

__global__ void reverse_dynamic(float *x) {
  SHARED_DYN(float, room);
  int i = threadIdx.x;
  room[i] = x[i];
  __syncthreads();
  x[i] = room[63 - i];
}

static void dynamic_shared() {
  float *x = device_array(64);
  LAUNCH(count_up, 2, 32, 0, s, x, 64);
  LAUNCH(reverse_dynamic, 1, 64, (bad ? 63 : 64) * sizeof(float), s, x);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
}

__global__ void load4(float *y, const float *x) {
  *y = ((const float4 *)x)->w;
}

static void misaligned() {
  float *x = device_array(8);
  LAUNCH(count_up, 1, 32, 0, s, x, 8);
  LAUNCH(load4, 1, 1, 0, s, x, x + (bad ? 1 : 4));
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
}

static void use_after_free() {
  float *x = device_array(N);
  if (bad)
    MUST(cudaFreeAsync(x, s));
  LAUNCH(count_up, 4, 32, 0, s, x, N);
  if (!bad)
    MUST(cudaFreeAsync(x, s));
  MUST(cudaStreamSynchronize(s));
}

struct Pair {
  float *x;
  int n;
};

__global__ void count_pair(Pair p) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < p.n)
    p.x[i] = (float)i;
}

static void use_after_free_in_struct() {
  Pair p = {device_array(N), N};
  if (bad)
    MUST(cudaFreeAsync(p.x, s));
  LAUNCH(count_pair, 4, 32, 0, s, p);
  MUST(cudaStreamSynchronize(s));
  if (!bad)
    MUST(cudaFreeAsync(p.x, s));
}

static void second_free() {
  float *x = device_array(N);
  MUST(cudaFreeAsync(x, s));
  if (bad)
    MUST(cudaFreeAsync(x, s));
}

static void leak() {
  float *x = device_array(N);
  if (!bad)
    MUST(cudaFreeAsync(x, s));
}

static void host_read() {
  float *x = device_array(N);
  LAUNCH(count_up, 4, 32, 0, s, x, N);
  MUST(cudaStreamSynchronize(s));
  float first = bad ? x[1] : fetch(x, 2, s)[1];
  expect(first == 1, "first element");
  MUST(cudaFreeAsync(x, s));
}

static void host_argument() {
  std::vector<float> host(N);
  float *x = device_array(N);
  LAUNCH(count_up, 4, 32, 0, s, bad ? host.data() : x, N);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
}

static void host_argument_in_struct() {
  float *host = (float *)malloc(N * sizeof(float)), *x = device_array(N);
  Pair p = {bad ? host : x, N};
  LAUNCH(count_pair, 4, 32, 0, s, p);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
  free(host);
}

static void copy_direction() {
  float host[N], *x = device_array(N);
  LAUNCH(count_up, 4, 32, 0, s, x, N);
  MUST(cudaMemcpyAsync(host, x, sizeof host, bad ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, s));
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
}

static void other_device() {
  float *x, *y = device_array(N);
  cudaStream_t second;
  MUST(cudaSetDevice(1));
  MUST(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
  MUST(cudaMallocAsync(&x, N * sizeof *x, second));
  MUST(cudaStreamSynchronize(second));
  MUST(cudaSetDevice(0));
  LAUNCH(count_up, 4, 32, 0, s, bad ? x : y, N);
  MUST(cudaFreeAsync(x, second));
  MUST(cudaFreeAsync(y, s));
  MUST(cudaStreamSynchronize(s));
  MUST(cudaStreamDestroy(second));
}

// ---- barriers and indices ----

// Sums 256 numbers; without its barrier a thread adds what its neighbour has not written yet.
__global__ void sum256(float *y, const float *x, int barrier) {
  SHARED(float, room, [256]);
  int i = threadIdx.x;
  room[i] = x[i];
  __syncthreads();
  for (int d = 128; d > 0; d /= 2) {
    if (i < d)
      room[i] += room[i + d];
    if (barrier)
      __syncthreads();
  }
  if (i == 0)
    *y = room[0];
}

static void missing_barrier() {
  float *x = device_array(256), *y = device_array(1);
  LAUNCH(count_up, 8, 32, 0, s, x, 256);
  LAUNCH(sum256, 1, 256, 0, s, y, x, !bad);
  expect(fetch(y, 1, s)[0] == 255 * 128, "sum");
  MUST(cudaFreeAsync(x, s));
  MUST(cudaFreeAsync(y, s));
}

__global__ void unwritten(float *y, int all) {
  SHARED(float, room, [33]);
  int i = threadIdx.x;
  room[i] = 1;
  if (all && i == 0)
    room[32] = 1;
  __syncthreads();
  y[i] = room[i + 1];
}

static void unwritten_shared() {
  float *y = device_array(32);
  LAUNCH(unwritten, 1, 32, 0, s, y, !bad);
  expect(fetch(y, 32, s)[31] == 1, "last element");
  MUST(cudaFreeAsync(y, s));
}

__global__ void early_return(float *x, int n, int leave) {
  SHARED(float, room, [64]);
  int i = threadIdx.x;
  if (leave && i >= n)
    return;
  room[i] = i < n ? x[i] : 0;
  __syncthreads();
  if (i < n)
    x[i] = room[n - 1 - i];
}

static void divergent_barrier() {
  float *x = device_array(64);
  LAUNCH(count_up, 2, 32, 0, s, x, 64);
  LAUNCH(early_return, 1, 64, 0, s, x, 50, bad);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
}

__global__ void two_barriers(float *x, int split) {
  if (split && threadIdx.x % 2)
    __syncthreads();
  else
    __syncthreads();
  x[threadIdx.x] = 1;
}

static void different_barriers() {
  float *x = device_array(32);
  if (bad)
    LAUNCH(two_barriers, 1, 32, 0, s, x, 1);
  else
    LAUNCH(two_barriers, 1, 32, 0, s, x, 0);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
}

__global__ void half_warp(float *x, int half) {
  unsigned mask = half ? 0xffffu : 0xffffffffu;
  x[threadIdx.x] = (float)__shfl_xor_sync(mask, (int)threadIdx.x, 1);
}

static void partial_mask() {
  float *x = device_array(32);
  LAUNCH(half_warp, 1, 32, 0, s, x, bad);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
}

__global__ void every_other(float *y, const float *x, int step) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < N)
    y[i * step % N] = x[i];
}

static void wrong_index() {
  float *x = device_array(N), *y = device_array(N);
  LAUNCH(count_up, 4, 32, 0, s, x, N);
  LAUNCH(every_other, 4, 32, 0, s, y, x, bad ? 2 : 1);
  for (float v : fetch(y, N, s))
    expect(v == v, "an element nobody wrote");
  MUST(cudaFreeAsync(x, s));
  MUST(cudaFreeAsync(y, s));
}

static void large_launch() { // of EMU_THREADS=1000
  float *x = device_array(N);
  LAUNCH(count_up, bad ? 40 : 4, 32, 0, s, x, N);
  MUST(cudaFreeAsync(x, s));
}

// ---- streams and captures ----

static void missing_wait() {
  cudaStream_t other;
  cudaEvent_t done;
  MUST(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  MUST(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
  float *x = device_array(N), *y = device_array(N);
  MUST(cudaStreamSynchronize(s));
  LAUNCH(count_up, 4, 32, 0, s, x, N);
  MUST(cudaEventRecord(done, s));
  if (!bad)
    MUST(cudaStreamWaitEvent(other, done, 0));
  LAUNCH(twice, 4, 32, 0, other, y, x, N);
  expect(fetch(y, N, other)[N - 1] == 2 * (N - 1), "last element");
  MUST(cudaFreeAsync(x, other));
  MUST(cudaFreeAsync(y, other));
  MUST(cudaStreamSynchronize(other));
  MUST(cudaStreamDestroy(other));
  MUST(cudaEventDestroy(done));
}

static void missing_sync() {
  float *x = device_array(N), host[N] = {};
  LAUNCH(count_up, 4, 32, 0, s, x, N);
  MUST(cudaMemcpyAsync(host, x, sizeof host, cudaMemcpyDeviceToHost, s));
  if (!bad)
    MUST(cudaStreamSynchronize(s));
  expect(host[N - 1] == N - 1, "last element");
  MUST(cudaFreeAsync(x, s));
}

static void host_freed_early() {
  float *host = (float *)calloc(N, sizeof *host), *x = device_array(N);
  MUST(cudaMemcpyAsync(x, host, N * sizeof *x, cudaMemcpyHostToDevice, s));
  if (bad)
    free(host);
  MUST(cudaStreamSynchronize(s));
  if (!bad)
    free(host);
  MUST(cudaFreeAsync(x, s));
}

static void allocated_elsewhere() {
  cudaStream_t other;
  float *x;
  MUST(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  MUST(cudaMallocAsync(&x, N * sizeof *x, other));
  if (!bad)
    MUST(cudaStreamSynchronize(other));
  LAUNCH(count_up, 4, 32, 0, s, x, N);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, other));
  MUST(cudaStreamDestroy(other));
}

// Captures a kernel; `what` is done while it captures when bad.
template <class F> static void capture(F what) {
  cudaGraph_t g;
  float *x = device_array(N);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  LAUNCH(count_up, 4, 32, 0, s, x, N);
  if (bad)
    what();
  MUST(cudaStreamEndCapture(s, &g));
  MUST(cudaGraphDestroy(g));
  MUST(cudaFreeAsync(x, s));
}

static void free_in_capture() {
  float *y = device_array(N);
  capture([&] { cudaFreeAsync(y, s); });
  MUST(cudaFreeAsync(y, s));
}

static void free_in_another_stream_in_capture() {
  cudaStream_t other;
  MUST(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  float *y = device_array(N);
  capture([&] { cudaFreeAsync(y, other); });
  MUST(cudaFreeAsync(y, s));
  MUST(cudaStreamDestroy(other));
}

static void allocation_in_capture() {
  capture([&] {
    void *p;
    cudaMallocAsync(&p, 16, s);
  });
}

static void sync_in_capture() {
  capture([&] { cudaStreamSynchronize(s); });
}

static void query_in_capture() {
  cudaEvent_t event;
  MUST(cudaEventCreate(&event));
  MUST(cudaEventRecord(event, s));
  capture([&] { cudaEventQuery(event); });
  MUST(cudaEventDestroy(event));
}

static void default_stream_in_capture() {
  float *y = device_array(N);
  MUST(cudaStreamSynchronize(s));
  capture([&] { cudaMemsetAsync(y, 0, 4, nullptr); });
  MUST(cudaFreeAsync(y, s));
}

static void replay_after_free() {
  cudaGraph_t g;
  cudaGraphExec_t exec;
  float *x = device_array(N);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  LAUNCH(count_up, 4, 32, 0, s, x, N);
  MUST(cudaStreamEndCapture(s, &g));
  MUST(cudaGraphInstantiate(&exec, g));
  if (bad)
    MUST(cudaFreeAsync(x, s));
  MUST(cudaGraphLaunch(exec, s));
  MUST(cudaStreamSynchronize(s));
  if (!bad)
    MUST(cudaFreeAsync(x, s));
  MUST(cudaGraphExecDestroy(exec));
  MUST(cudaGraphDestroy(g));
}

// ---- libraries ----

enum { SIDE = 8 };

// y = a x, all of them SIDE by SIDE, by the algorithm that fits operands aligned to so many bytes.
static void product(float *y, const float *a, const float *x, uint32_t aligned) {
  cublasLtHandle_t h;
  cublasLtMatmulDesc_t d;
  cublasLtMatrixLayout_t l;
  cublasLtMatmulPreference_t p;
  cublasLtMatmulHeuristicResult_t found;
  int n = 0;
  float one = 1, zero = 0;
  if (cublasLtCreate(&h) || cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F) ||
      cublasLtMatrixLayoutCreate(&l, CUDA_R_32F, SIDE, SIDE, SIDE) || cublasLtMatmulPreferenceCreate(&p) ||
      cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &aligned, sizeof aligned) ||
      cublasLtMatmulAlgoGetHeuristic(h, d, l, l, l, l, p, 1, &found, &n) || n != 1 ||
      cublasLtMatmul(h, d, &one, a, l, x, l, &zero, y, l, y, l, &found.algo, nullptr, 0, s))
    exit(1);
  cublasLtMatmulPreferenceDestroy(p);
  cublasLtMatrixLayoutDestroy(l);
  cublasLtMatmulDescDestroy(d);
  cublasLtDestroy(h);
}

static void product_aliases() {
  float *x = device_array(SIDE * SIDE), *y = device_array(SIDE * SIDE);
  LAUNCH(count_up, 2, 32, 0, s, x, SIDE * SIDE);
  product(bad ? x : y, x, x, 256);
  float v = fetch(bad ? x : y, 1, s)[0];
  expect(v == v, "product");
  MUST(cudaFreeAsync(x, s));
  MUST(cudaFreeAsync(y, s));
}

static void product_too_small() {
  float *x = device_array(SIDE * SIDE), *y = device_array(SIDE * SIDE - bad);
  LAUNCH(count_up, 2, 32, 0, s, x, SIDE * SIDE);
  product(y, x, x, 256);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
  MUST(cudaFreeAsync(y, s));
}

static void product_misaligned() {
  float *x = device_array(SIDE * SIDE + 1), *y = device_array(SIDE * SIDE);
  LAUNCH(count_up, 3, 32, 0, s, x, SIDE * SIDE + 1);
  product(y, x + 1, x, bad ? 16 : 4);
  MUST(cudaStreamSynchronize(s));
  MUST(cudaFreeAsync(x, s));
  MUST(cudaFreeAsync(y, s));
}

static const struct {
  const char *name;
  void (*run)();
} programs[] = {
#define PROGRAM(name) \
  { #name, name }
    PROGRAM(global_write),
    PROGRAM(global_read),
    PROGRAM(shared_write),
    PROGRAM(dynamic_shared),
    PROGRAM(misaligned),
    PROGRAM(use_after_free),
    PROGRAM(use_after_free_in_struct),
    PROGRAM(second_free),
    PROGRAM(leak),
    PROGRAM(host_read),
    PROGRAM(host_argument),
    PROGRAM(host_argument_in_struct),
    PROGRAM(copy_direction),
    PROGRAM(other_device),
    PROGRAM(missing_barrier),
    PROGRAM(unwritten_shared),
    PROGRAM(divergent_barrier),
    PROGRAM(different_barriers),
    PROGRAM(partial_mask),
    PROGRAM(wrong_index),
    PROGRAM(large_launch),
    PROGRAM(missing_wait),
    PROGRAM(missing_sync),
    PROGRAM(host_freed_early),
    PROGRAM(allocated_elsewhere),
    PROGRAM(free_in_capture),
    PROGRAM(free_in_another_stream_in_capture),
    PROGRAM(allocation_in_capture),
    PROGRAM(sync_in_capture),
    PROGRAM(query_in_capture),
    PROGRAM(default_stream_in_capture),
    PROGRAM(replay_after_free),
    PROGRAM(product_aliases),
    PROGRAM(product_too_small),
    PROGRAM(product_misaligned),
};

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  bad = strcmp(argv[2], "bad") == 0;
  for (auto &p : programs)
    if (strcmp(argv[1], p.name) == 0) {
      MUST(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
      p.run();
      MUST(cudaGetLastError());
      MUST(cudaStreamDestroy(s));
      return 0;
    }
  return 2;
}
