/* Everything that crosses a backend's border. A backend is one ms_backend table: services first, then rows.
**
** Rules of every row.
** - Pointers are device pointers of the stream's device unless a field says host. Rows never allocate: scratch memory
**   comes as an argument, or is the bounded scratch that a backend keeps for each stream or thread. Sizes and strides
**   count elements, in int64_t.
** - A row checks nothing that the caller can check: shapes, types and devices are right when a row is called.
** - A row with nothing to do (any size 0) returns MS_OK and writes nothing. Every output element is written.
** - Results do not depend on the number of threads: work is cut by shape, partial sums are added in a fixed order.
** - A row is asynchronous in its stream; the status tells only what is known at launch.
** - Activations are channels-last: [T][N][H][W][C] in memory, so that a convolution sees T*N images and a neuron row
**   walks t with one stride. */
#ifndef MS_KERNELS_H
#define MS_KERNELS_H

#include "math/augment.h"
#include "math/neuron.h"
#include "math/optim.h"
#include "math/photo.h"
#include "math/real.h"
#include <stddef.h>
#include <stdint.h>

#define MS_ABI 2u
#define MS_MAX_DIMS 8
#define MS_WHY 512

typedef enum ms_status {
#define MS_STATUS(name, text) MS_##name,
#include "status.def"
#undef MS_STATUS
  MS_STATUS_COUNT
} ms_status;

typedef enum ms_dtype {
#define MS_DTYPE(name, text, size) MS_##name,
#include "dtype.def"
#undef MS_DTYPE
  MS_DTYPE_COUNT,
  /* No type of a tensor: a form in which a row takes or writes spikes, one bit an element. Element i is bit i % 8 of
  ** byte i / 8; the bytes of whole 64-bit words may be read, so a buffer has MS_BITS_BYTES(n). Rows that take it say
  ** so; the number of channels is a multiple of 8. */
  MS_BITS = MS_DTYPE_COUNT
} ms_dtype;

#define MS_BITS_BYTES(n) (((size_t)(n) + 511) / 512 * 64)

typedef enum ms_unary_op {
#define MS_UNARY(name, lo, hi) MS_UNARY_##name,
#include "unary.def"
#undef MS_UNARY
  MS_UNARY_COUNT
} ms_unary_op;

typedef enum ms_binary_op {
#define MS_BINARY(name) MS_BINARY_##name,
#define MS_COMPARE(name) MS_BINARY_##name,
#include "binary.def"
  MS_BINARY_COUNT
} ms_binary_op;

typedef enum ms_reduce_op {
#define MS_REDUCE(name) MS_REDUCE_##name,
#include "reduce.def"
#undef MS_REDUCE
  MS_REDUCE_COUNT
} ms_reduce_op;

typedef struct ms_stream ms_stream;
typedef struct ms_event ms_event;
typedef struct ms_graph ms_graph;

/* A typed pointer. A spike element is a byte (or bit) b that stands for the value b * scale; scale is 1 for other
** types. */
typedef struct ms_data {
  void *p;
  ms_dtype dtype;
  ms_real scale;
} ms_data;

/* A strided view; stride 0 repeats. */
typedef struct ms_operand {
  ms_data data;
  int64_t stride[MS_MAX_DIMS];
} ms_operand;

/* An element-wise loop: out[i] = f(in[0][i], in[1][i], ...) for every index i of size[0..ndim). The caller has merged
** and ordered the dimensions so that the innermost (last) one is the fastest in out; a plain contiguous case
** arrives as ndim 1. ndim 0 is one element. */
typedef struct ms_loop {
  int ndim, nin;
  int64_t size[MS_MAX_DIMS];
  ms_operand out, in[3];
} ms_loop;

/* out[kept] = reduce over the reduced dimensions of in[kept, reduced]; reduced dimensions in logical order, last
** fastest. */
typedef struct ms_reduction {
  int nkept, nred;
  int64_t kept[MS_MAX_DIMS], red[MS_MAX_DIMS];
  ms_data in, out;
  int64_t in_kept[MS_MAX_DIMS], in_red[MS_MAX_DIMS]; /* strides of in */
  int64_t out_kept[MS_MAX_DIMS];                     /* strides of out */
  ms_real factor;                                    /* sum only: result is factor * sum (a mean is factor 1/n) */
} ms_reduction;

/* Philox4x32-10: element i (row-major in the loop's dimensions) is lane i % 4 of block offset + i / 4 under key; with
** draws (on the device) under ms_philox_draw(key, *draws), so that a row in a graph draws anew in each replay. */
typedef struct ms_philox_key {
  uint64_t key, offset;
  const int64_t *draws; /* NULL: the key as it is */
} ms_philox_key;

typedef enum ms_random_kind {
  MS_RANDOM_UNIFORM,   /* a + (b - a) * u, u in [0, 1) */
  MS_RANDOM_NORMAL,    /* a + b * z */
  MS_RANDOM_BERNOULLI, /* 1 with probability a, else 0, times b */
  MS_RANDOM_BITS       /* int64: a + bits % (b - a), integers in [a, b) */
} ms_random_kind;

/* c[batch, m, n] = alpha * a[batch, m, k] b[batch, k, n] + beta * c. Each matrix has one unit stride (row or column).
** c is row-major with row stride ldc. beta 0 never reads c. */
typedef struct ms_gemm {
  int64_t batch, m, n, k;
  ms_data a, b, c;
  int64_t a_batch, a_row, a_col, b_batch, b_row, b_col, c_batch, ldc;
  ms_real alpha, beta;
} ms_gemm;

/* A convolution over n images (n = T * N), also a linear layer (h = w = kh = kw = 1, stride 1).
** x [n, h, w, cin], weight [cout, kh, kw, cin / groups], y [n, oh, ow, cout], all contiguous.
** weight names the precision: MS_F32, or MS_BF16 for products of bfloat16 operands summed in float32. x is the type
** of the layer's input: real, bfloat16, spike, uint8 or MS_BITS. What is not said here follows from the arguments of
** each pass: y of the forward pass, dL/dy and dL/dx are real or bfloat16, weight as it is read and dL/dweight as it
** is written likewise. */
typedef struct ms_conv_desc {
  int64_t n, h, w, cin, cout, oh, ow;
  int kh, kw, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
  ms_dtype x, weight;
} ms_conv_desc;

typedef enum ms_conv_pass { MS_CONV_FORWARD, MS_CONV_INPUT_GRAD, MS_CONV_WEIGHT_GRAD } ms_conv_pass;

/* What an engine decided for one shape: created once by the service conv_plan, kept by the caller for each shape. */
typedef struct ms_conv_plan ms_conv_plan;

typedef struct ms_conv_args {
  const ms_conv_plan *plan;
  ms_data x, weight, y; /* INPUT_GRAD writes x, WEIGHT_GRAD writes weight (and bias when not NULL); y is then dL/dy */
  ms_real *bias;        /* [cout] or NULL */
  ms_real density;      /* share of non-zero inputs where known, else -1: an engine may choose by it */
  int counts;           /* spike or uint8 inputs may be greater than 1 */
  /* INPUT_GRAD: MS_BITS over x, or NULL. Where a bit is 0 nobody reads dL/dx (the neuron behind x has a zero surrogate
  ** there), so any finite value may be written. mask_density is the share of ones, or -1. */
  const uint8_t *mask;
  ms_real mask_density;
  void *workspace; /* conv_workspace(plan, pass) bytes */
} ms_conv_args;

/* Where events beat the dense engine: the first row whose least values a layer reaches decides for its precision.
** taps = kernel elements / stride elements. Each limit is the share of non-zero inputs (input_grad: of ones in the
** mask) below which the sparse engine runs; 0: never. */
typedef struct ms_break_even {
  int64_t taps, cin, cout;
  ms_dtype precision;                        /* MS_F32, MS_BF16 */
  double forward, weight_grad;               /* inputs 0 and 1 */
  double forward_counts, weight_grad_counts; /* greater ones too */
  double input_grad;
} ms_break_even;

/* Two-dimensional pooling of n images; windows may overlap, hang over the padding, or be of unequal size
** (adaptive). */
typedef struct ms_pool_desc {
  int64_t n, h, w, c, oh, ow;
  int kh, kw, stride_h, stride_w, pad_h, pad_w;
  int count_pad; /* average: divide by kh * kw, not by the elements inside */
  int adaptive;  /* window of output i along an axis of length l: [i * l / o, ceil((i + 1) * l / o)) */
} ms_pool_desc;

/* Batch normalisation over `rows` positions and c channels; x is seen `repeat` times (a static image over T), which
** changes the count in the running variance only. Statistics are two-pass. gain multiplies the normalised value
** (tdBN: alpha * V_th).
**   a = gain * gamma / sqrt(var + eps), b = beta - mean * a, y = a * x + b */
typedef struct ms_norm {
  int64_t rows, c, repeat;
  ms_data x;
  const ms_real *gamma, *beta; /* [c] or NULL: 1 and 0 */
  ms_real gain, eps, momentum;
  /* 0: running statistics are used and nothing but a, b, mean, invstd is written */
  int training;
  ms_real *running_mean, *running_var; /* [c], updated in training (unbiased variance) unless NULL */
  int64_t *batches;                    /* [1], counts one up in training, or NULL */
  ms_real *mean, *invstd, *a, *b;      /* [c] out */
} ms_norm;

/* dgamma, dbeta [c] and dx from g = dL/dy. n = rows * repeat; when repeat > 1, g is [repeat, rows, c] and dx sums
** over repeat. */
typedef struct ms_norm_grad {
  int64_t rows, c, repeat;
  ms_data x, g, dx;                     /* dx.p NULL: not wanted */
  const ms_real *gamma, *mean, *invstd; /* gamma NULL: 1 */
  ms_real gain;
  int training;            /* 0: the statistics are constants */
  ms_real *dgamma, *dbeta; /* out, or NULL */
} ms_norm_grad;

/* The affine map of a normalisation in front of a neuron: x = a * y + b per channel. */
typedef struct ms_affine {
  const ms_real *a, *b; /* [c]; NULL: the input is used as it is */
} ms_affine;

/* One neuron layer over T steps of `n` neurons (n = N*H*W*C, channel fastest).
**   input  I[t, i] = a[c] * y[t, i] + b[c] + r[t, i]       (norm and residual optional), evaluated as fma(a, y, b) +
**   r
**   h = p.leak * v + p.gain * I + p.bias;  s = fire(h - p.threshold);  v = reset(h, s)     (math/neuron.h)
** y and r walk t with their own stride, 0 for a static input. y is real or bfloat16; r may also be spike or MS_BITS.
**
** Pooling behind the neuron: with pool_h > 0 the n neurons are images of pool_h x pool_w pixels (both even), and
** pooled [T, n / 4] receives the sums of 2x2 windows: an average pooling with scale 1/4, channels fastest. */
typedef struct ms_neuron_args {
  ms_neuron p;
  int64_t steps, n, c;
  ms_data y;
  int64_t y_step; /* elements between steps: n, or 0 */
  ms_affine norm;
  ms_data r; /* r.p NULL: none */
  int64_t r_step;
  const ms_real *w;  /* PLIF's scalar on the device, or NULL */
  const ms_real *v0; /* [n] or NULL: p.v_init */
  int64_t pool_h, pool_w;
  /* forward: what is written, each may be NULL */
  ms_data s;       /* [T, n], spike or MS_BITS (real in the smooth test build) */
  ms_data pooled;  /* [T, n / 4], spike (real in the smooth test build: averages) */
  uint8_t *active; /* [T, n] MS_BITS: 1 where the surrogate's derivative is not zero */
  ms_real *v;      /* [n] membrane after the last step */
  ms_real *h;      /* [T, n] membrane before reset */
  int64_t *counts; /* [T, c] spikes of each step and channel */
  /* [2]: ones in active (0 without it), non-zero elements of pooled (0 without it) */
  int64_t *totals;
} ms_neuron_args;

/* Backward of the same layer; membranes are recomputed from y. Formulas: math/neuron.h.
** With norm.a: dgamma, dbeta [c] are written and dy is the gradient of y (through the statistics when norm_training);
** without: dy is the gradient of I. With y_step 0, dy is [n], summed over t. */
typedef struct ms_neuron_grad_args {
  ms_neuron_args fwd;           /* inputs as in forward; outputs ignored */
  const ms_real *mean, *invstd; /* [c], with norm.a */
  ms_real norm_gain;            /* ms_norm.gain: dgamma = norm_gain * sum of g * xhat */
  int norm_training;
  /* [T, n] dL/ds, real or bfloat16; p NULL: zero. With fwd.pool_h: [T, n / 4] dL/dpooled, of which each spike of a
  ** window gets a quarter */
  ms_data gs;
  int64_t gs_step;          /* elements between steps of gs, or 0 */
  const ms_real *gv;        /* [n] dL/dv of the last membrane, or NULL */
  const ms_real *surrogate; /* [T, n] ds/dh given by the caller (surrogate written in Lua), or NULL */
  ms_data dy;               /* [T, n] (or [n]) out, real or bfloat16; p NULL: not wanted */
  ms_data dr;               /* [T, n] gradient of r (dL/dI), out; p NULL: not wanted; r_step 0: [n] */
  ms_real *dv0;             /* [n] out or NULL */
  ms_real *dw;              /* [1] out or NULL */
  ms_real *dgamma, *dbeta;  /* [c] out or NULL */
} ms_neuron_grad_args;

/* Classification losses over logits [T, B, C] with labels [B] (int64, 0-based) or targets [B, C] (each >= 0, of samples
** that are mixtures), one launch for value, gradient, counters.
**   over EACH:  mean over t of  ce * CE(O(t)) + mse * MSE(O(t))     TET, TRT, TET-S
**   over MEAN:  ce * CE(mean_t O) + mse * MSE(mean_t O)             SDT, SMSE
**   over LAST:  the same of O(T)                                    LTS
** CE is a mean over B against (1 - smooth) * target + smooth / C; MSE a mean over B * C against the target or `phi`. The
** target of a label is its one-hot. Where rows run behind the host, labels outside [0, C) and targets that are negative
** or not finite make the next `synchronize` fail with MS_ERANGE. */
typedef enum ms_loss_over { MS_LOSS_EACH, MS_LOSS_MEAN, MS_LOSS_LAST } ms_loss_over;

typedef struct ms_loss_args {
  int64_t steps, batch, classes;
  ms_loss_over over;
  ms_real ce, mse, smooth, phi;
  int mse_onehot;      /* 1: the target, 0: constant phi */
  ms_data logits;      /* contiguous */
  int64_t logits_step; /* batch * classes, or 0 */
  const int64_t *labels;
  const ms_real *targets; /* NULL: labels */
  ms_real *value;         /* [3]: loss, CE part, MSE part (unweighted), out */
  /* [1]: argmax of the mean logits equals the label (the target's first largest), out; labels outside [0, C) and
  ** targets that are negative or not finite set it to -1 */
  int64_t *correct;
  ms_real *dlogits; /* [T, B, C] out or NULL */
  ms_real *scratch; /* batch * (classes + 4) reals */
} ms_loss_args;

/* A batch of samples out of a set that lies in memory: picked, moved, normalised.
**   y[t, i, pixel, k] = value_k(x[index[i], t, source_i(pixel), k]), source_i by programs[i]; value_k(0) where it is none
** value_k of a byte is bytes[k * 256 + byte], of a real v (v - mean[k]) / std[k].
** The CPU's row may run in several threads at once; it starts none for one sample. */
typedef struct ms_augment_args {
  int64_t n, samples, steps, h, w, c; /* of the batch; of the set; h and w below MS_AUGMENT_SIDE */
  ms_data x;                          /* [samples, steps, h, w, c], uint8 or real */
  const int64_t *index; /* [n], in [0, samples): others show zero and set *bad = 1 (device); NULL: 0, 1 ... */
  const ms_augment_program *programs; /* [n] or NULL: samples as they are */
  const ms_real *bytes;               /* [c, 256], uint8 */
  const ms_real *mean, *std;          /* [c], real */
  ms_real *y;                         /* [steps, n, h, w, c] */
  int64_t y_step;                     /* elements between steps of y: n * h * w * c, or more */
  int64_t *bad;
} ms_augment_args;

/* What is done to a batch of samples out of a set that lies in memory before they are moved, each frame alike.
**   y[i, t] = op(nops - 1) of ... op(0) of resized(x[index[i], t]), op(k) being ops[i * nops + k] (kernels/math/photo.h)
** resized: box i of the frame is spread over to_h x to_w pixels as Pillow does it (kernels/math/resize.h), bytes across
** first and rounded, then down; reals in the same order.
** The CPU's row may run in several threads at once; it starts none for one sample. */
typedef struct ms_photos_args {
  int64_t n, samples, steps, h, w, c; /* of the batch; of the set. A frame has fewer than 2^30 elements */
  int64_t to_h, to_w;                 /* likewise, also to_w with h */
  ms_data x;                          /* [samples, steps, h, w, c], uint8 or real */
  const int64_t *index;               /* as in ms_augment_args */
  const ms_photo_box *boxes;          /* [n], or NULL: nothing is resized, to_h is h, to_w is w */
  int cubic;                          /* Pillow's BICUBIC, else BILINEAR */
  const ms_photo_op *ops;             /* [n, nops]; only where x is uint8 and c is 1 or 3 */
  int nops;
  uint8_t fill[3]; /* what an op shows where the image does not reach */
  ms_data y;       /* [n, steps, to_h, to_w, c], of the type of x */
  int64_t *bad;
} ms_photos_args;

/* A range of a parameter arena. */
typedef struct ms_range {
  int64_t offset, n;
  int hyper; /* index into the array of ms_hyper: one for each parameter, since each counts its own steps */
  /* the TRT term below is added to this range's gradient, in memory too: who reads it later sees all of it */
  int regularised;
  const ms_real *reg_scale; /* device: dL/d(value of the regulariser), NULL: 1; valid until the row has run */
  int no_grad;              /* the gradient holds nothing yet: treat it as zero (the range has a pending term only) */
} ms_range;

/* Arenas of one optimizer. Layout is the same in each: a parameter has the same offset everywhere. */
typedef struct ms_optim_args {
  ms_real *param, *grad;
  ms_real *m, *v;         /* moments; SGD: m is the momentum buffer, v NULL */
  ms_bf16 *shadow;        /* bfloat16 copy of param, or NULL */
  const ms_range *ranges; /* host */
  int nranges;
  const ms_hyper *hyper; /* device */
  ms_trt trt;            /* host, by value */
} ms_optim_args;

typedef struct ms_device_props {
  char name[128];
  int64_t memory; /* bytes */
  int major, minor, cores, bf16;
} ms_device_props;

typedef struct ms_memory_info {
  int64_t in_use, peak, reserved, free;
} ms_memory_info;

typedef enum ms_copy_kind { MS_COPY_HOST_TO_DEVICE, MS_COPY_DEVICE_TO_HOST, MS_COPY_DEVICE_TO_DEVICE } ms_copy_kind;

typedef struct ms_backend {
  uint32_t abi, size; /* MS_ABI, sizeof(ms_backend) */
  const char *name;   /* "cpu", "cuda" */

  /* ---- services ---- */
  ms_status (*open)(char why[MS_WHY]); /* finds the devices; on failure why says in one sentence what is missing */
  int (*device_count)(void);
  ms_status (*properties)(int device, ms_device_props *out);
  /* (optional) host threads that rows use; n > 0 sets them, 0 asks. No result depends on them */
  int (*threads)(int n);
  ms_status (*stream_create)(int device, ms_stream **out);
  void (*stream_destroy)(ms_stream *s);
  ms_status (*synchronize)(ms_stream *s);
  const char *(*error_text)(ms_stream *s); /* detail of the last failure in this stream, "" where there is none */
  ms_status (*alloc)(ms_stream *s, void **out, size_t bytes); /* 64-byte aligned, stream-ordered */
  void (*free)(ms_stream *s, void *p, size_t bytes);
  ms_status (*alloc_host)(void **out, size_t bytes); /* pinned where the device needs it */
  void (*free_host)(void *p, size_t bytes);          /* copies under way may go on using it */
  void (*trim)(ms_stream *s);                        /* gives cached memory back */
  ms_status (*memory)(ms_stream *s, ms_memory_info *out);
  /* From the host: src may be changed as soon as this returns, but memory of alloc_host only when the stream has come by.
  ** To the host: dst is complete after the next synchronize. */
  ms_status (*copy_bytes)(ms_stream *s, void *dst, const void *src, size_t bytes, ms_copy_kind kind);
  ms_status (*event_create)(ms_event **out);
  void (*event_destroy)(ms_event *e);
  ms_status (*event_record)(ms_stream *s, ms_event *e);
  ms_status (*event_wait)(ms_stream *s, ms_event *e);        /* s waits, not the host */
  ms_status (*event_synchronize)(ms_stream *s, ms_event *e); /* the host waits, for an event recorded in s */
  ms_status (*capture_begin)(ms_stream *s);                  /* (optional) NULL: steps run uncaptured */
  ms_status (*capture_end)(ms_stream *s, ms_graph **out);    /* (optional) */
  ms_status (*graph_launch)(ms_stream *s, ms_graph *g);      /* (optional) */
  void (*graph_destroy)(ms_graph *g);                        /* (optional) */
  ms_status (*conv_plan)(ms_stream *s, const ms_conv_desc *d, ms_conv_plan **out);
  void (*conv_plan_destroy)(ms_conv_plan *plan);
  /* For any arguments, with engines forced, flagged, tabled and threaded as they are now: asked again when they change */
  size_t (*conv_workspace)(const ms_conv_plan *plan, ms_conv_pass pass);
  /* The engine that a call with these arguments (plan, density, counts, mask) runs; why says the reason in one clause */
  const char *(*conv_engine)(const ms_conv_args *a, ms_conv_pass pass, char why[MS_WHY]);
  const char *const *(*conv_engines)(void); /* names of all engines that this machine runs, NULL behind the last */
  /* From now on the engine of this name runs wherever it supports the shape, whatever the density. plan NULL: for all
  ** plans, also later ones; name NULL: as usual. MS_EINVAL: no such engine. */
  ms_status (*conv_force)(ms_conv_plan *plan, const char *name);
  /* 1: only engines whose results do not depend on the number of threads. Returns what it was; -1 asks. */
  int (*conv_deterministic)(int on);
  /* (optional) 1: products of float32 operands may round them to TF32, ten bits of mantissa; 0, the default: never.
  ** Returns what it was; -1 asks. */
  int (*tf32)(int on);
  /* 1: the last bits of this engine's results depend on the number of host threads */
  int (*conv_loose)(const char *engine);
  /* The table in use (borrowed); set replaces it (copied; NULL: the shipped one). */
  int (*conv_table)(const ms_break_even **table);
  ms_status (*conv_table_set)(const ms_break_even *table, int rows);

  /* ---- rows ---- */
  ms_status (*unary)(ms_stream *s, ms_unary_op op, const ms_loop *l);      /* out = f(in0) */
  ms_status (*unary_grad)(ms_stream *s, ms_unary_op op, const ms_loop *l); /* out = in1 * f'(in0) */
  /* out = f(in0, in1); exact when out and both inputs are integers */
  ms_status (*binary)(ms_stream *s, ms_binary_op op, const ms_loop *l);
  ms_status (*binary_scalar)(ms_stream *s, ms_binary_op op, const ms_loop *l, double value,
                             int swapped); /* out = f(in0, value), swapped: f(value, in0) */
  /* out = alpha * in0 + beta * in1; out may be in0 or in1 */
  ms_status (*axpby)(ms_stream *s, const ms_loop *l, double alpha, double beta);
  ms_status (*where)(ms_stream *s, const ms_loop *l); /* out = in0 ? in1 : in2 */
  ms_status (*clamp)(ms_stream *s, const ms_loop *l, double lo, double hi);
  /* out = in0, converting types; to spike: round(value / scale), clamped to [0, 255] */
  ms_status (*copy)(ms_stream *s, const ms_loop *l);
  ms_status (*fill)(ms_stream *s, const ms_loop *l, double value);                /* no inputs */
  ms_status (*arange)(ms_stream *s, const ms_loop *l, double start, double step); /* row-major position in the loop */
  ms_status (*random)(ms_stream *s, ms_random_kind kind, const ms_loop *l, ms_philox_key key, double a, double b);
  ms_status (*reduce)(ms_stream *s, ms_reduce_op op, const ms_reduction *r);
  ms_status (*gemm)(ms_stream *s, const ms_gemm *g);
  /* x[rows, n] contiguous real. out may be x. */
  ms_status (*log_softmax)(ms_stream *s, ms_real *out, const ms_real *x, int64_t rows, int64_t n);
  ms_status (*log_softmax_grad)(ms_stream *s, ms_real *dx, const ms_real *g, const ms_real *out, int64_t rows,
                                int64_t n);
  /* Along one dimension of x [outer, n, inner] (contiguous, any type of `width` bytes): out[o, j, i] = x[o,
  ** index[o, j, i], i] with index [outer, m, inner]; scatter_add is its transpose for reals: it adds to what out
  ** holds, in order of j. gather writes 0 and sets *bad = 1 (device) for an index outside [0, n), scatter_add
  ** skips it. */
  ms_status (*gather)(ms_stream *s, void *out, const void *x, const int64_t *index, int64_t outer, int64_t n, int64_t m,
                      int64_t inner, int width, int64_t *bad);
  ms_status (*scatter_add)(ms_stream *s, ms_real *out, const ms_real *g, const int64_t *index, int64_t outer, int64_t n,
                           int64_t m, int64_t inner);
  /* The k largest (or smallest) of each row of x [rows, n], sorted; ties in order of index. index int64. */
  ms_status (*topk)(ms_stream *s, ms_real *value, int64_t *index, const ms_real *x, int64_t rows, int64_t n, int64_t k,
                    int largest);

  ms_status (*photos)(ms_stream *s, const ms_photos_args *a);
  ms_status (*augment)(ms_stream *s, const ms_augment_args *a);

  ms_status (*conv_forward)(ms_stream *s, const ms_conv_args *a);
  ms_status (*conv_input_grad)(ms_stream *s, const ms_conv_args *a);
  ms_status (*conv_weight_grad)(ms_stream *s, const ms_conv_args *a);
  /* out[0] = non-zero inputs, out[1] = sum over non-zero inputs of the outputs each reaches (int64, exact; on the
  ** device). x may be MS_BITS. */
  ms_status (*conv_synops)(ms_stream *s, const ms_conv_desc *d, ms_data x, int64_t out[2]);

  /* Bits in x [n], contiguous: out = x as spike bytes, real or bfloat16 values. */
  ms_status (*unpack_bits)(ms_stream *s, ms_data out, ms_data x, int64_t n);

  /* Pooling takes MS_BITS too. */
  /* spike in, spike out when y is spike: counts are summed and y.scale is x.scale / (kh * kw) */
  ms_status (*avg_pool)(ms_stream *s, const ms_pool_desc *d, ms_data x, ms_data y);
  ms_status (*avg_pool_grad)(ms_stream *s, const ms_pool_desc *d, ms_data g, ms_data dx);
  /* index [n, oh, ow, c]: iy * w + ix of the first maximum */
  ms_status (*max_pool)(ms_stream *s, const ms_pool_desc *d, ms_data x, ms_data y, int32_t *index);
  ms_status (*max_pool_grad)(ms_stream *s, const ms_pool_desc *d, ms_data g, const int32_t *index, ms_data dx);

  ms_status (*norm_stats)(ms_stream *s, const ms_norm *n); /* statistics, running statistics, a, b */
  ms_status (*norm_apply)(ms_stream *s, int64_t steps, int64_t rows, int64_t c, ms_data x, int64_t x_step, ms_affine f,
                          ms_data r, int64_t r_step,
                          ms_data y); /* y[t] = fma(a, x[t], b) + r[t]; rows * c elements a step */
  ms_status (*norm_grad)(ms_stream *s, const ms_norm_grad *n);

  ms_status (*neuron)(ms_stream *s, const ms_neuron_args *a);
  ms_status (*neuron_grad)(ms_stream *s, const ms_neuron_grad_args *a);

  ms_status (*loss)(ms_stream *s, const ms_loss_args *a);

  /* ms_hyper_step on hyper[r.hyper] of each range */
  ms_status (*hyper_advance)(ms_stream *s, ms_hyper *hyper, const ms_range *ranges, int nranges);
  ms_status (*sgd)(ms_stream *s, const ms_optim_args *a);
  ms_status (*adam)(ms_stream *s, const ms_optim_args *a); /* AdamW where hyper.decoupled */
  /* [1 + T]: sum over t and each r(t), over all ranges, not divided by T */
  ms_status (*trt_value)(ms_stream *s, const ms_real *param, const ms_range *ranges, int nranges, ms_trt trt,
                         ms_real *out);
  /* grad += *reg_scale * dR/dw on regularised ranges; no_grad ranges are overwritten */
  ms_status (*trt_grad)(ms_stream *s, const ms_optim_args *a);
} ms_backend;

/* The CPU table, complete; the reference. */
const ms_backend *ms_backend_cpu(void);

/* A plugin exports this one symbol and nothing else. Returns NULL when abi or size is not its own. */
typedef const ms_backend *(*ms_backend_get_fn)(uint32_t abi, uint32_t size, uint32_t *own_abi);

#endif
