#include "dnn.h"
#include "convolution.h"
#include "counts.h"
#include "fiber.h"
#include <algorithm>
#include <cstdio>

namespace emu {

enum { WORKSPACE = 4096 };

struct Dnn {
  Stream *stream = nullptr;
  int device = 0;
};

struct DnnTensor {
  Images t = {};
};

struct DnnFilter {
  Images t = {};
};

struct DnnConvolution {
  int pad[2] = {}, stride[2] = {1, 1}, dilation[2] = {1, 1}, groups = 1;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
  bool set = false;
};

static bool layout(Images &t, cudnnDataType_t type, cudnnTensorFormat_t format, int n, int c, int h, int w) {
  if ((type != CUDNN_DATA_FLOAT && type != CUDNN_DATA_BFLOAT16) || n < 1 || c < 1 || h < 1 || w < 1)
    return false;
  bool nhwc = format == CUDNN_TENSOR_NHWC;
  t = {nullptr, type == CUDNN_DATA_FLOAT ? CUDA_R_32F : CUDA_R_16BF, {n, c, h, w}, {c * h * w, 0, 0, 0}};
  t.step[1] = nhwc ? 1 : h * w;
  t.step[2] = nhwc ? c * w : w;
  t.step[3] = nhwc ? c : 1;
  return true;
}

static int out_size(const DnnConvolution &d, int axis, int in, int kernel_size) {
  return (in + 2 * d.pad[axis] - d.dilation[axis] * (kernel_size - 1) - 1) / d.stride[axis] + 1;
}

// What the descriptors say together, CUDNN_STATUS_BAD_PARAM where they contradict each other.
static cudnnStatus_t combine(Convolution &c, const DnnTensor *x, const DnnFilter *w, const DnnConvolution *d,
                             const DnnTensor *y) {
  c = {x->t, w->t, y->t, {}, {}, {}, d->groups, false};
  std::copy_n(d->pad, 2, c.pad);
  std::copy_n(d->stride, 2, c.stride);
  std::copy_n(d->dilation, 2, c.dilation);
  // TF32 is what the library takes for floats unless told otherwise
  c.tf32 = d->math != CUDNN_FMA_MATH && c.x.type == CUDA_R_32F && c.w.type == CUDA_R_32F && c.y.type == CUDA_R_32F;
  bool fits = d->set && c.x.size[0] > 0 && c.w.size[0] > 0 && c.y.size[0] > 0 && c.x.size[0] == c.y.size[0] &&
              c.x.size[1] == c.w.size[1] * c.groups && c.w.size[0] % c.groups == 0 && c.y.size[1] == c.w.size[0] &&
              c.y.size[2] == out_size(*d, 0, c.x.size[2], c.w.size[2]) &&
              c.y.size[3] == out_size(*d, 1, c.x.size[3], c.w.size[3]);
  if (!fits) {
    fprintf(stderr, "emu: cuDNN: descriptors that contradict each other\n");
    return CUDNN_STATUS_BAD_PARAM;
  }
  if (c.x.type != c.w.type || c.x.type != c.y.type)
    return CUDNN_STATUS_NOT_SUPPORTED;
  return CUDNN_STATUS_SUCCESS;
}

static void need(const Dnn *h, const Images &t, const char *name) {
  int64_t n = at(t, t.size[0] - 1, t.size[1] - 1, t.size[2] - 1, t.size[3] - 1) + 1;
  const Block *b = block_of(t.p, (size_t)n * (t.type == CUDA_R_32F ? 4 : 2));
  kernel = name;
  if (!b || b->device != h->device || b->leaving)
    die("an operand is not, or not wholly, memory of the handle's device");
  kernel = "";
}

// An algorithm that is not deterministic (loose) gives other bits at every second call.
static cudnnStatus_t run(Dnn *h, const Convolution &c, Pass pass, const void *alpha, const void *beta, void *workspace,
                         size_t bytes, bool loose) {
  static const char *const names[] = {"cudnnConvolutionForward", "cudnnConvolutionBackwardData",
                                      "cudnnConvolutionBackwardFilter"};
  counts[LIBRARY]++;
  if (due(FAIL_LIBRARY))
    return CUDNN_STATUS_EXECUTION_FAILED;
  if (due(FAIL_REFUSE))
    return CUDNN_STATUS_NOT_SUPPORTED_SHAPE;
  if (bytes < WORKSPACE)
    return CUDNN_STATUS_BAD_PARAM;
  need(h, c.x, names[pass]);
  need(h, c.w, names[pass]);
  need(h, c.y, names[pass]);
  spoil(h->stream, workspace, WORKSPACE, names[pass]);
  float a = *(const float *)alpha, b = *(const float *)beta;
  if (loose && counts[LIBRARY] % 2)
    a *= 1 + 0x1p-18f;
  return enqueue(h->stream, [=] { convolve(c, pass, a, b); }) ? CUDNN_STATUS_EXECUTION_FAILED : CUDNN_STATUS_SUCCESS;
}

template <class Algo>
static cudnnStatus_t algorithms(Algo first, cudnnDeterminism_t of_first, Algo second, int wanted, int *found,
                                DnnPerformance<Algo> *out) {
  const Algo both[] = {first, second};
  *found = std::min(wanted, 2);
  for (int i = 0; i < *found; i++) {
    out[i] = {};
    out[i].algo = both[i];
    out[i].memory = WORKSPACE;
    out[i].time = (float)(i + 1);
    out[i].determinism = i == 0 ? of_first : CUDNN_DETERMINISTIC;
  }
  return wanted < 1 ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_SUCCESS;
}

} // namespace emu

using namespace emu;

size_t cudnnGetVersion() {
  return 91000;
}

const char *cudnnGetErrorString(cudnnStatus_t s) {
  switch (s) {
  case CUDNN_STATUS_SUCCESS:
    return "CUDNN_STATUS_SUCCESS";
  case CUDNN_STATUS_NOT_INITIALIZED:
    return "CUDNN_STATUS_NOT_INITIALIZED";
  case CUDNN_STATUS_BAD_PARAM:
    return "CUDNN_STATUS_BAD_PARAM";
  case CUDNN_STATUS_NOT_SUPPORTED:
    return "CUDNN_STATUS_NOT_SUPPORTED";
  case CUDNN_STATUS_EXECUTION_FAILED:
    return "CUDNN_STATUS_EXECUTION_FAILED";
  default:
    return "CUDNN_STATUS_INTERNAL_ERROR";
  }
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *h) {
  Call call;
  if (call.error || device_count() == 0)
    return CUDNN_STATUS_NOT_INITIALIZED;
  if (due(FAIL_CREATE))
    return CUDNN_STATUS_NOT_INITIALIZED;
  if (not_capturing("cudnnCreate, which allocates, while a stream captures"))
    return CUDNN_STATUS_ALLOC_FAILED;
  *h = new Dnn;
  (*h)->device = current_device;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t h) {
  delete h;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t s) {
  Call call;
  if (stream_of(s)->device != h->device)
    return CUDNN_STATUS_BAD_PARAM;
  h->stream = s;
  return CUDNN_STATUS_SUCCESS;
}

// ---- descriptors ----

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *d) {
  *d = new DnnTensor;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d) {
  delete d;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t d, cudnnTensorFormat_t format, cudnnDataType_t type,
                                         int n, int c, int h, int w) {
  return layout(d->t, type, format, n, c, h, w) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnSetTensor4dDescriptorEx(cudnnTensorDescriptor_t d, cudnnDataType_t type, int n, int c, int h, int w,
                                           int step_n, int step_c, int step_h, int step_w) {
  const int steps[] = {step_n, step_c, step_h, step_w};
  if (!layout(d->t, type, CUDNN_TENSOR_NCHW, n, c, h, w))
    return CUDNN_STATUS_BAD_PARAM;
  std::copy_n(steps, 4, d->t.step);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *d) {
  *d = new DnnFilter;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t d) {
  delete d;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type, cudnnTensorFormat_t format,
                                         int k, int c, int h, int w) {
  return layout(d->t, type, format, k, c, h, w) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *d) {
  *d = new DnnConvolution;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t d) {
  delete d;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w, int stride_h,
                                              int stride_w, int dil_h, int dil_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute) {
  if (pad_h < 0 || pad_w < 0 || stride_h < 1 || stride_w < 1 || dil_h < 1 || dil_w < 1)
    return CUDNN_STATUS_BAD_PARAM;
  if (mode != CUDNN_CROSS_CORRELATION || compute != CUDNN_DATA_FLOAT)
    return CUDNN_STATUS_NOT_SUPPORTED;
  const int pad[] = {pad_h, pad_w}, stride[] = {stride_h, stride_w}, dilation[] = {dil_h, dil_w};
  std::copy_n(pad, 2, d->pad);
  std::copy_n(stride, 2, d->stride);
  std::copy_n(dilation, 2, d->dilation);
  d->set = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math) {
  d->math = math;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int groups) {
  if (groups < 1)
    return CUDNN_STATUS_BAD_PARAM;
  d->groups = groups;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolution2dForwardOutputDim(cudnnConvolutionDescriptor_t d, cudnnTensorDescriptor_t x,
                                                    cudnnFilterDescriptor_t w, int *n, int *c, int *h, int *width) {
  *n = x->t.size[0];
  *c = w->t.size[0];
  *h = out_size(*d, 0, x->t.size[2], w->t.size[2]);
  *width = out_size(*d, 1, x->t.size[3], w->t.size[3]);
  return CUDNN_STATUS_SUCCESS;
}

// ---- choice of algorithms ----

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                     cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t d,
                                                     cudnnTensorDescriptor_t y, int wanted, int *found,
                                                     cudnnConvolutionFwdAlgoPerf_t *out) {
  Convolution c;
  if (cudnnStatus_t e = combine(c, x, w, d, y))
    return e;
  return algorithms(CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, CUDNN_DETERMINISTIC,
                    CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, wanted, found, out);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, cudnnFilterDescriptor_t w,
                                                          cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t d,
                                                          cudnnTensorDescriptor_t dx, int wanted, int *found,
                                                          cudnnConvolutionBwdDataAlgoPerf_t *out) {
  Convolution c;
  if (cudnnStatus_t e = combine(c, dx, w, d, dy))
    return e;
  return algorithms(CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, CUDNN_NON_DETERMINISTIC, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
                    wanted, found, out);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                            cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t d,
                                                            cudnnFilterDescriptor_t dw, int wanted, int *found,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t *out) {
  Convolution c;
  if (cudnnStatus_t e = combine(c, x, dw, d, dy))
    return e;
  return algorithms(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, CUDNN_NON_DETERMINISTIC, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
                    wanted, found, out);
}

static cudnnStatus_t workspace_size(const DnnTensor *x, const DnnFilter *w, const DnnConvolution *d, const DnnTensor *y,
                                    size_t *bytes) {
  Convolution c;
  *bytes = WORKSPACE;
  return combine(c, x, w, d, y);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                      cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t d,
                                                      cudnnTensorDescriptor_t y, cudnnConvolutionFwdAlgo_t,
                                                      size_t *bytes) {
  return workspace_size(x, w, d, y, bytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, cudnnFilterDescriptor_t w,
                                                           cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t d,
                                                           cudnnTensorDescriptor_t dx, cudnnConvolutionBwdDataAlgo_t,
                                                           size_t *bytes) {
  return workspace_size(dx, w, d, dy, bytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                             cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t d,
                                                             cudnnFilterDescriptor_t dw,
                                                             cudnnConvolutionBwdFilterAlgo_t, size_t *bytes) {
  return workspace_size(x, dw, d, dy, bytes);
}

// ---- convolutions ----

static cudnnStatus_t start(Call &call, Dnn *h, Pass pass, const void *alpha, DnnTensor *dx, const void *x,
                           DnnFilter *dw, const void *w, DnnConvolution *d, DnnTensor *dy, const void *y,
                           void *workspace, size_t bytes, const void *beta, bool loose) {
  if (call.error)
    return CUDNN_STATUS_EXECUTION_FAILED;
  Convolution c;
  if (cudnnStatus_t e = combine(c, dx, dw, d, dy))
    return e;
  c.x.p = const_cast<void *>(x);
  c.w.p = const_cast<void *>(w);
  c.y.p = const_cast<void *>(y);
  return run(h, c, pass, alpha, beta, workspace, bytes, loose);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t h, const void *alpha, cudnnTensorDescriptor_t x_desc, const void *x,
                                      cudnnFilterDescriptor_t w_desc, const void *w, cudnnConvolutionDescriptor_t d,
                                      cudnnConvolutionFwdAlgo_t, void *workspace, size_t bytes, const void *beta,
                                      cudnnTensorDescriptor_t y_desc, void *y) {
  Call call;
  return start(call, h, FORWARD, alpha, x_desc, x, w_desc, w, d, y_desc, y, workspace, bytes, beta, false);
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t h, const void *alpha, cudnnFilterDescriptor_t w_desc,
                                           const void *w, cudnnTensorDescriptor_t dy_desc, const void *dy,
                                           cudnnConvolutionDescriptor_t d, cudnnConvolutionBwdDataAlgo_t algo,
                                           void *workspace, size_t bytes, const void *beta,
                                           cudnnTensorDescriptor_t dx_desc, void *dx) {
  Call call;
  return start(call, h, INPUT_GRAD, alpha, dx_desc, dx, w_desc, w, d, dy_desc, dy, workspace, bytes, beta,
               algo == CUDNN_CONVOLUTION_BWD_DATA_ALGO_0);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t h, const void *alpha, cudnnTensorDescriptor_t x_desc,
                                             const void *x, cudnnTensorDescriptor_t dy_desc, const void *dy,
                                             cudnnConvolutionDescriptor_t d, cudnnConvolutionBwdFilterAlgo_t algo,
                                             void *workspace, size_t bytes, const void *beta,
                                             cudnnFilterDescriptor_t dw_desc, void *dw) {
  Call call;
  return start(call, h, WEIGHT_GRAD, alpha, x_desc, x, dw_desc, dw, d, dy_desc, dy, workspace, bytes, beta,
               algo == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0);
}

cudnnStatus_t cudnnConvolutionBackwardBias(cudnnHandle_t h, const void *alpha, cudnnTensorDescriptor_t dy_desc,
                                           const void *dy, const void *beta, cudnnTensorDescriptor_t db_desc,
                                           void *db) {
  Call call;
  Images y = dy_desc->t, b = db_desc->t;
  if (call.error)
    return CUDNN_STATUS_EXECUTION_FAILED;
  if (b.size[0] != 1 || b.size[1] != y.size[1] || b.size[2] != 1 || b.size[3] != 1)
    return CUDNN_STATUS_BAD_PARAM;
  y.p = const_cast<void *>(dy);
  b.p = db;
  need(h, y, "cudnnConvolutionBackwardBias");
  need(h, b, "cudnnConvolutionBackwardBias");
  counts[LIBRARY]++;
  float s = *(const float *)alpha, t = *(const float *)beta;
  return enqueue(h->stream, [=] { sum_bias(y, b, s, t); }) ? CUDNN_STATUS_EXECUTION_FAILED : CUDNN_STATUS_SUCCESS;
}
