/* Convolution by the library cuDNN 9, where it is found. Operands of other types are converted into the workspace first.
** Algorithms come from the library's own estimate, never from timing, so that a layer runs the same one everywhere; each
** plan asks once. In float32 the multiplications are plain ones unless TF32 is allowed.
**
** Its bfloat16 results are rounded before they come back: a float32 weight gradient holds bfloat16 values, and layers
** that want float32 outputs of bfloat16 products run on another engine. */
#include "conv.h"
#include "memory.h"
#include <climits>
#include <cstdio>
#include <cstdlib>

#ifdef __CUDACC__
#include <dlfcn.h>
#if __has_include(<cudnn.h>)
#include <cudnn.h>
#endif
#endif

#ifdef CUDNN_MAJOR /* by the library's header, or the emulation */

/* ---- the library ---- */

#define DNN_FUNCTIONS(F)                                              \
  F(text, cudnnGetErrorString)                                        \
  F(create, cudnnCreate)                                              \
  F(destroy, cudnnDestroy)                                            \
  F(set_stream, cudnnSetStream)                                       \
  F(new_tensor, cudnnCreateTensorDescriptor)                          \
  F(free_tensor, cudnnDestroyTensorDescriptor)                        \
  F(set_tensor, cudnnSetTensor4dDescriptor)                           \
  F(new_filter, cudnnCreateFilterDescriptor)                          \
  F(free_filter, cudnnDestroyFilterDescriptor)                        \
  F(set_filter, cudnnSetFilter4dDescriptor)                           \
  F(new_conv, cudnnCreateConvolutionDescriptor)                       \
  F(free_conv, cudnnDestroyConvolutionDescriptor)                     \
  F(set_conv, cudnnSetConvolution2dDescriptor)                        \
  F(set_math, cudnnSetConvolutionMathType)                            \
  F(set_groups, cudnnSetConvolutionGroupCount)                        \
  F(forward_algorithms, cudnnGetConvolutionForwardAlgorithm_v7)       \
  F(data_algorithms, cudnnGetConvolutionBackwardDataAlgorithm_v7)     \
  F(filter_algorithms, cudnnGetConvolutionBackwardFilterAlgorithm_v7) \
  F(forward_room, cudnnGetConvolutionForwardWorkspaceSize)            \
  F(data_room, cudnnGetConvolutionBackwardDataWorkspaceSize)          \
  F(filter_room, cudnnGetConvolutionBackwardFilterWorkspaceSize)      \
  F(forward, cudnnConvolutionForward)                                 \
  F(data, cudnnConvolutionBackwardData)                               \
  F(filter, cudnnConvolutionBackwardFilter)

enum { UNASKED, PRESENT, ABSENT };
/* of cudnnStatus_t: more exact reasons have numbers of their own, 3000 to 3999 are reasons not to support something */
enum { NOT_SUPPORTED = 3, COMPILATION_FAILED = 4001, NO_HOST_MEMORY = 4003, NO_DEVICE_MEMORY = 4004 };

static char missing[MS_WHY] = "cuDNN is not installed";

static struct {
  int state;
#define DECLARE(to, name) decltype(&name) to;
  DNN_FUNCTIONS(DECLARE)
#undef DECLARE
} dnn;

static int load() {
#ifdef __CUDACC__
#define STRING(x) #x
#define NAME(x) STRING(x)
  void *library = ms_cuda_library("libcudnn.so." NAME(CUDNN_MAJOR));
  if (!library)
    return 0;
#define LOAD(to, name)                                   \
  if (!(*(void **)&dnn.to = dlsym(library, NAME(name)))) \
    return 0;
#else
#define LOAD(to, name) dnn.to = name;
#endif
  DNN_FUNCTIONS(LOAD)
  return 1;
}

int ms_cuda_dnn_present(void) {
  if (dnn.state == UNASKED)
    dnn.state = load() ? PRESENT : ABSENT;
  return dnn.state == PRESENT;
}

const char *ms_cuda_dnn_missing(void) {
  return ms_cuda_dnn_present() ? NULL : missing;
}

void ms_cuda_dnn_close(ms_stream *s) {
  if (s->dnn)
    dnn.destroy((cudnnHandle_t)s->dnn);
  s->dnn = NULL;
}

static ms_status report(ms_stream *s, cudnnStatus_t e, const char *what) {
  if (e == CUDNN_STATUS_SUCCESS)
    return MS_OK;
  snprintf(s->error, sizeof s->error, "cuDNN: %s: %s%s", what, dnn.text(e),
           (int)e >= CUDNN_STATUS_INTERNAL_ERROR ? ms_cuda_state() : "");
  return MS_EBACKEND;
}

static ms_status handle_of(ms_stream *s, cudnnHandle_t *out) {
  MS_TRY(ms_cuda_enter(s));
  if (!s->dnn && ms_cuda_capturing(s))
    return MS_EBACKEND; /* a start would spoil what is recorded, and fail as if cuDNN did not start here */
  if (!s->dnn) {
    cudnnHandle_t h = NULL;
    cudnnStatus_t e = dnn.create(&h);
    if (e != CUDNN_STATUS_SUCCESS && (int)e != NO_HOST_MEMORY && (int)e != NO_DEVICE_MEMORY) {
      /* asked once: a start takes long, and each layer would try it */
      dnn.state = ABSENT;
      snprintf(missing, sizeof missing, "cuDNN does not start: %s", dnn.text(e));
    }
    MS_TRY(report(s, e, "cudnnCreate"));
    s->dnn = h;
    ms_status status = report(s, dnn.set_stream(h, s->id), "cudnnSetStream");
    if (status != MS_OK) {
      ms_cuda_dnn_close(s);
      return status;
    }
  }
  *out = (cudnnHandle_t)s->dnn;
  return MS_OK;
}

/* ---- what a plan keeps ---- */

namespace {

enum { UNMADE, MADE, REFUSED };

/* The algorithm of one pass. */
typedef struct choice {
  int state, algorithm;
  size_t bytes;
} choice;

typedef struct kept {
  int state; /* of the descriptors */
  int tf32;  /* what the convolution's descriptor says */
  cudnnTensorDescriptor_t x, y;
  cudnnFilterDescriptor_t w;
  cudnnConvolutionDescriptor_t conv;
  choice of[2][2][3]; /* by: TF32 allowed; only deterministic ones; pass */
} kept;

} // namespace

void *ms_cuda_dnn_open(void) {
  return calloc(1, sizeof(kept));
}

static void free_descriptors(kept *k) {
  if (k->x)
    dnn.free_tensor(k->x);
  if (k->y)
    dnn.free_tensor(k->y);
  if (k->w)
    dnn.free_filter(k->w);
  if (k->conv)
    dnn.free_conv(k->conv);
  k->x = k->y = NULL;
  k->w = NULL;
  k->conv = NULL;
}

void ms_cuda_dnn_forget(void *p) {
  if (p)
    free_descriptors((kept *)p);
  free(p);
}

static int64_t reach(int64_t in, int pad, int taps, int dilation, int stride) {
  return (in + 2 * pad - (int64_t)(taps - 1) * dilation - 1) / stride + 1;
}

/* The library counts elements in 32 bits and derives the outputs itself. */
static int fits(const ms_conv_desc *d) {
  int64_t inputs = ms_conv_inputs(d), outputs = ms_conv_rows(d) * d->cout, weights = ms_conv_weights(d);
  return inputs > 0 && outputs > 0 && weights > 0 && inputs <= INT_MAX && outputs <= INT_MAX && weights <= INT_MAX &&
         reach(d->h, d->pad_h, d->kh, d->dil_h, d->stride_h) == d->oh &&
         reach(d->w, d->pad_w, d->kw, d->dil_w, d->stride_w) == d->ow;
}

/* With CUDNN_DEFAULT_MATH the library rounds floats to TF32. */
static int set_math(kept *k, const ms_conv_desc *d, int tf32) {
  cudnnMathType_t math = d->weight == MS_BF16 ? CUDNN_TENSOR_OP_MATH : tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
  k->tf32 = tf32;
  return dnn.set_math(k->conv, math) == CUDNN_STATUS_SUCCESS;
}

static int describe(kept *k, const ms_conv_desc *d) {
  cudnnDataType_t type = d->weight == MS_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  const cudnnStatus_t ok = CUDNN_STATUS_SUCCESS;
  return dnn.new_tensor(&k->x) == ok && dnn.new_tensor(&k->y) == ok && dnn.new_filter(&k->w) == ok &&
         dnn.new_conv(&k->conv) == ok &&
         dnn.set_tensor(k->x, CUDNN_TENSOR_NHWC, type, (int)d->n, (int)d->cin, (int)d->h, (int)d->w) == ok &&
         dnn.set_tensor(k->y, CUDNN_TENSOR_NHWC, type, (int)d->n, (int)d->cout, (int)d->oh, (int)d->ow) == ok &&
         dnn.set_filter(k->w, type, CUDNN_TENSOR_NHWC, (int)d->cout, (int)(d->cin / d->groups), d->kh, d->kw) == ok &&
         dnn.set_conv(k->conv, d->pad_h, d->pad_w, d->stride_h, d->stride_w, d->dil_h, d->dil_w,
                      CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT) == ok &&
         dnn.set_groups(k->conv, d->groups) == ok && set_math(k, d, 0);
}

enum { ASKED = 8 };
#define MOST_ROOM ((size_t)1 << 30)

/* The first of the library's list, the best first, that may run; -1 for none. */
template <class Performance> static int first_of(const Performance *list, int n, int sure, ms_dtype type) {
  for (int i = 0; i < n; i++) {
    int tensor = list[i].mathType == CUDNN_TENSOR_OP_MATH || list[i].mathType == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION;
    if (list[i].status == CUDNN_STATUS_SUCCESS && (!sure || list[i].determinism == CUDNN_DETERMINISTIC) &&
        list[i].memory <= MOST_ROOM && (type == MS_BF16 || ms_cuda_tf32(-1) || !tensor))
      return (int)list[i].algo;
  }
  return -1;
}

static int pick_forward(cudnnHandle_t h, kept *k, choice *c, int sure, ms_dtype type) {
  cudnnConvolutionFwdAlgoPerf_t list[ASKED];
  int n = 0;
  if (dnn.forward_algorithms(h, k->x, k->w, k->conv, k->y, ASKED, &n, list) != CUDNN_STATUS_SUCCESS)
    return 0;
  c->algorithm = first_of(list, n, sure, type);
  return c->algorithm >= 0 && dnn.forward_room(h, k->x, k->w, k->conv, k->y, (cudnnConvolutionFwdAlgo_t)c->algorithm,
                                               &c->bytes) == CUDNN_STATUS_SUCCESS;
}

static int pick_data(cudnnHandle_t h, kept *k, choice *c, int sure, ms_dtype type) {
  cudnnConvolutionBwdDataAlgoPerf_t list[ASKED];
  int n = 0;
  if (dnn.data_algorithms(h, k->w, k->y, k->conv, k->x, ASKED, &n, list) != CUDNN_STATUS_SUCCESS)
    return 0;
  c->algorithm = first_of(list, n, sure, type);
  return c->algorithm >= 0 && dnn.data_room(h, k->w, k->y, k->conv, k->x, (cudnnConvolutionBwdDataAlgo_t)c->algorithm,
                                            &c->bytes) == CUDNN_STATUS_SUCCESS;
}

static int pick_filter(cudnnHandle_t h, kept *k, choice *c, int sure, ms_dtype type) {
  cudnnConvolutionBwdFilterAlgoPerf_t list[ASKED];
  int n = 0;
  if (dnn.filter_algorithms(h, k->x, k->y, k->conv, k->w, ASKED, &n, list) != CUDNN_STATUS_SUCCESS)
    return 0;
  c->algorithm = first_of(list, n, sure, type);
  return c->algorithm >= 0 &&
         dnn.filter_room(h, k->x, k->y, k->conv, k->w, (cudnnConvolutionBwdFilterAlgo_t)c->algorithm, &c->bytes) ==
             CUDNN_STATUS_SUCCESS;
}

static choice *choice_of(const ms_conv_plan *p, ms_conv_pass pass) {
  return &((kept *)p->dnn)->of[ms_cuda_tf32(-1)][ms_cuda_conv_deterministic(-1)][pass];
}

static int supports(const ms_conv_plan *p, ms_conv_pass pass) {
  static int (*const picks[3])(cudnnHandle_t, kept *, choice *, int, ms_dtype) = {pick_forward, pick_data, pick_filter};
  kept *k = (kept *)p->dnn;
  const ms_conv_desc *d = &p->d;
  cudnnHandle_t h;
  if (!ms_cuda_dnn_present())
    return 0;
  if (k->state == UNMADE)
    k->state = fits(d) && describe(k, d) ? MADE : REFUSED;
  if (k->state == MADE && k->tf32 != ms_cuda_tf32(-1) && !set_math(k, d, !k->tf32))
    k->state = REFUSED;
  choice *c = choice_of(p, pass);
  if (k->state == MADE && c->state == UNMADE && handle_of(p->stream, &h) == MS_OK)
    c->state = picks[pass](h, k, c, ms_cuda_conv_deterministic(-1), d->weight) ? MADE : REFUSED;
  return k->state == MADE && c->state == MADE;
}

/* Results of another type than the operands' are left to other engines, and gradients that would have to be converted
** as a whole. */
int ms_cuda_dnn_fits(const ms_conv_plan *p, const ms_conv_args *a, ms_conv_pass pass) {
  ms_dtype type = p->d.weight;
  if (a->y.p && a->y.dtype != type)
    return 0;
  return pass != MS_CONV_INPUT_GRAD || !a->x.p || a->x.dtype == type;
}

/* ---- passes ---- */

static size_t room_for(const ms_conv_plan *p, ms_conv_pass pass) {
  const ms_conv_desc *d = &p->d;
  size_t width = ms_width(d->weight), bytes = ms_piece((int64_t)choice_of(p, pass)->bytes, 1);
  if (pass != MS_CONV_INPUT_GRAD && d->x != d->weight)
    bytes += ms_piece(ms_conv_inputs(d), width);
  bytes += ms_piece(ms_conv_weights(d), width);
  return pass == MS_CONV_WEIGHT_GRAD ? bytes + ms_conv_bias_room(ms_conv_rows(d), d->cout) : bytes;
}

namespace {

/* What the three passes have in common. */
typedef struct call {
  cudnnHandle_t h;
  kept *k;
  choice *c;
  void *room;
  ms_data x, w;
} call;

} // namespace

static ms_status start(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a, ms_conv_pass pass, call *c) {
  const ms_conv_desc *d = &p->d;
  ms_rest rest = {(char *)a->workspace};
  size_t width = ms_width(d->weight);
  c->k = (kept *)p->dnn;
  c->c = choice_of(p, pass);
  c->x = a->x;
  c->w = a->weight;
  MS_TRY(handle_of(s, &c->h));
  c->room = ms_take(&rest, (int64_t)c->c->bytes, 1);
  if (a->weight.dtype != d->weight) {
    void *to = ms_take(&rest, ms_conv_weights(d), width);
    if (pass == MS_CONV_WEIGHT_GRAD)
      c->w = {to, d->weight, 1};
    else
      MS_TRY(ms_conv_operand(s, &c->w, d->weight, to, ms_conv_weights(d)));
  }
  if (pass != MS_CONV_INPUT_GRAD && a->x.dtype != d->weight)
    MS_TRY(ms_conv_operand(s, &c->x, d->weight, ms_take(&rest, ms_conv_inputs(d), width), ms_conv_inputs(d)));
  return MS_OK;
}

static int refuses(cudnnStatus_t e) {
  return (int)e / 1000 == NOT_SUPPORTED || (int)e == COMPILATION_FAILED;
}

/* What the library offers and then refuses runs on cuBLASLt, from now on. */
static ms_status finish(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a, ms_conv_pass pass, const call *c,
                        cudnnStatus_t e, const char *what) {
  if (refuses(e)) {
    c->c->state = REFUSED;
    return ms_conv_blas.run[pass](s, p, a);
  }
  MS_TRY(report(s, e, what));
  return ms_cuda_launched(s, what);
}

static const float one = 1, zero = 0;

static ms_status forward(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a) {
  const ms_conv_desc *d = &p->d;
  call c;
  MS_TRY(start(s, p, a, MS_CONV_FORWARD, &c));
  cudnnStatus_t e = dnn.forward(c.h, &one, c.k->x, c.x.p, c.k->w, c.w.p, c.k->conv,
                                (cudnnConvolutionFwdAlgo_t)c.c->algorithm, c.room, c.c->bytes, &zero, c.k->y, a->y.p);
  MS_TRY(finish(s, p, a, MS_CONV_FORWARD, &c, e, "cudnnConvolutionForward"));
  if (!a->bias || e != CUDNN_STATUS_SUCCESS)
    return MS_OK;
  return ms_conv_add_bias(s, a->y, a->y, a->bias, ms_conv_rows(d), d->cout);
}

static ms_status input_grad(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a) {
  call c;
  MS_TRY(start(s, p, a, MS_CONV_INPUT_GRAD, &c));
  cudnnStatus_t e = dnn.data(c.h, &one, c.k->w, c.w.p, c.k->y, a->y.p, c.k->conv,
                             (cudnnConvolutionBwdDataAlgo_t)c.c->algorithm, c.room, c.c->bytes, &zero, c.k->x, a->x.p);
  return finish(s, p, a, MS_CONV_INPUT_GRAD, &c, e, "cudnnConvolutionBackwardData");
}

static ms_status weight_grad(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a) {
  const ms_conv_desc *d = &p->d;
  call c;
  MS_TRY(start(s, p, a, MS_CONV_WEIGHT_GRAD, &c));
  cudnnStatus_t e =
      dnn.filter(c.h, &one, c.k->x, c.x.p, c.k->y, a->y.p, c.k->conv, (cudnnConvolutionBwdFilterAlgo_t)c.c->algorithm,
                 c.room, c.c->bytes, &zero, c.k->w, c.w.p);
  MS_TRY(finish(s, p, a, MS_CONV_WEIGHT_GRAD, &c, e, "cudnnConvolutionBackwardFilter"));
  if (e != CUDNN_STATUS_SUCCESS)
    return MS_OK;
  if (c.w.p != a->weight.p)
    MS_TRY(ms_cuda_convert(s, a->weight, c.w, ms_conv_weights(d)));
  return a->bias ? ms_conv_bias_grad(s, a->bias, a->y, ms_conv_rows(d), d->cout,
                                     (char *)a->workspace + room_for(p, MS_CONV_WEIGHT_GRAD) -
                                         ms_conv_bias_room(ms_conv_rows(d), d->cout))
                 : MS_OK;
}

const ms_conv_engine ms_conv_cudnn = {"cudnn", supports, room_for, {forward, input_grad, weight_grad}};

#else

int ms_cuda_dnn_present(void) {
  return 0;
}
const char *ms_cuda_dnn_missing(void) {
  return "cuDNN is not in this build: its header was not found";
}
int ms_cuda_dnn_fits(const ms_conv_plan *, const ms_conv_args *, ms_conv_pass) {
  return 0;
}
void *ms_cuda_dnn_open(void) {
  return calloc(1, 1);
}
void ms_cuda_dnn_forget(void *p) {
  free(p);
}
void ms_cuda_dnn_close(ms_stream *) {}

static int supports(const ms_conv_plan *, ms_conv_pass) {
  return 0;
}

const ms_conv_engine ms_conv_cudnn = {"cudnn", supports, NULL, {NULL, NULL, NULL}};

#endif
