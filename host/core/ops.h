/* Every op of the library. out receives +1 and is written only on success; arguments are borrowed. All dims here are
** 0-based and may be negative (counted from the end); the bindings convert. An op checks, allocates and
** differentiates: its forward and backward stand side by side in host/core/ops/. */
#ifndef MS_OPS_H
#define MS_OPS_H

#include "graph.h"
#include "rng.h"

/* ---- op_create.c ---- */
ms_status ms_full(ms_tensor **out, ms_device *d, ms_dtype dtype, int ndim, const int64_t *size, double value,
                  ms_error *err);
ms_status ms_arange(ms_tensor **out, ms_device *d, ms_dtype dtype, double start, double step, int64_t n, ms_error *err);
ms_status ms_random(ms_tensor **out, ms_device *d, ms_dtype dtype, int ndim, const int64_t *size, ms_random_kind kind,
                    double a, double b, ms_philox_key key, ms_error *err);
ms_status ms_random_(ms_tensor *t, ms_random_kind kind, double a, double b, ms_philox_key key, ms_error *err);
ms_status ms_fill_(ms_tensor *t, double value, ms_error *err);

/* ---- op_view.c: no data moves unless said ---- */
/* one size may be -1; MS_ESHAPE naming reshape where memory does not allow it */
ms_status ms_view(ms_tensor **out, ms_tensor *t, int ndim, const int64_t *size, ms_error *err);
/* copies where needed; logical order */
ms_status ms_reshape(ms_tensor **out, ms_tensor *t, int ndim, const int64_t *size, ms_error *err);
ms_status ms_flatten(ms_tensor **out, ms_tensor *t, int first, int last, ms_error *err);
ms_status ms_select(ms_tensor **out, ms_tensor *t, int dim, int64_t index, ms_error *err);
ms_status ms_narrow(ms_tensor **out, ms_tensor *t, int dim, int64_t start, int64_t length, ms_error *err);
ms_status ms_transpose(ms_tensor **out, ms_tensor *t, int a, int b, ms_error *err);
ms_status ms_permute(ms_tensor **out, ms_tensor *t, const int *order, ms_error *err);
/* -1: as it is; new leading dims allowed. Over a leading T: sets source */
ms_status ms_expand(ms_tensor **out, ms_tensor *t, int ndim, const int64_t *size, ms_error *err);
ms_status ms_squeeze(ms_tensor **out, ms_tensor *t, int dim, ms_error *err);
ms_status ms_unsqueeze(ms_tensor **out, ms_tensor *t, int dim, ms_error *err);
ms_status ms_detach(ms_tensor **out, ms_tensor *t, ms_error *err);
/* dense in the default layout; differentiable */
ms_status ms_contiguous(ms_tensor **out, ms_tensor *t, ms_error *err);
ms_status ms_clone(ms_tensor **out, ms_tensor *t, ms_error *err); /* always a copy; differentiable */
/* d NULL, dtype -1: as it is; t itself (+1) when nothing changes */
ms_status ms_to(ms_tensor **out, ms_tensor *t, ms_device *d, int dtype, ms_error *err);
ms_status ms_cat(ms_tensor **out, int n, ms_tensor *const *in, int dim, ms_error *err);
ms_status ms_stack(ms_tensor **out, int n, ms_tensor *const *in, int dim, ms_error *err);
ms_status ms_copy_(ms_tensor *dst, ms_tensor *src, ms_error *err); /* broadcasts and converts; in place */

/* ---- op_math.c: broadcasting, promotion (ms_promote) ---- */
ms_status ms_unary(ms_tensor **out, ms_unary_op op, ms_tensor *x, ms_error *err);
ms_status ms_binary(ms_tensor **out, ms_binary_op op, ms_tensor *a, ms_tensor *b, ms_error *err);
ms_status ms_binary_scalar(ms_tensor **out, ms_binary_op op, ms_tensor *a, double value, int swapped, ms_error *err);
ms_status ms_where(ms_tensor **out, ms_tensor *condition, ms_tensor *a, ms_tensor *b, ms_error *err);
ms_status ms_clamp(ms_tensor **out, ms_tensor *x, double lo, double hi, ms_error *err);
/* in place: x = f(x), x = f(x, y), x = f(x, value); y broadcasts to x. */
ms_status ms_unary_(ms_tensor *x, ms_unary_op op, ms_error *err);
ms_status ms_binary_(ms_tensor *x, ms_binary_op op, ms_tensor *y, ms_error *err);
ms_status ms_binary_scalar_(ms_tensor *x, ms_binary_op op, double value, ms_error *err);
/* x = beta * x + alpha * y */
ms_status ms_axpy_(ms_tensor *x, double beta, double alpha, ms_tensor *y, ms_error *err);
ms_status ms_broadcast_shape(int *ndim, int64_t *size, const ms_tensor *a, const ms_tensor *b, const char *op,
                             ms_error *err);
/* Sums g over what broadcasting repeated, so that it has `like`'s shape (+1). Helper of backward functions. */
ms_status ms_unbroadcast(ms_tensor **out, ms_tensor *g, int ndim, const int64_t *size, ms_error *err);

/* ---- op_reduce.c: dims as a bit mask, 0 = all; keep: reduced dims stay as 1 ---- */
ms_status ms_reduce(ms_tensor **out, ms_reduce_op op, ms_tensor *x, unsigned dims, int keep, ms_error *err);
ms_status ms_mean(ms_tensor **out, ms_tensor *x, unsigned dims, int keep, ms_error *err);
ms_status ms_var(ms_tensor **out, ms_tensor *x, unsigned dims, int keep, int unbiased, ms_error *err);
ms_status ms_std(ms_tensor **out, ms_tensor *x, unsigned dims, int keep, int unbiased, ms_error *err);
ms_status ms_item(double *out, ms_tensor *x, ms_error *err); /* one element; synchronises */

/* ---- op_matmul.c ---- */
/* torch.matmul's rules for 1-D, 2-D and batched operands */
ms_status ms_matmul(ms_tensor **out, ms_tensor *a, ms_tensor *b, ms_error *err);
ms_status ms_log_softmax(ms_tensor **out, ms_tensor *x, int dim, ms_error *err);
ms_status ms_softmax(ms_tensor **out, ms_tensor *x, int dim, ms_error *err);

/* ---- op_index.c: indices are 0-based int64 data ---- */
/* An index out of range is an error on the CPU; elsewhere, where a look would wait for the device, it gives 0. */
ms_status ms_gather(ms_tensor **out, ms_tensor *x, int dim, ms_tensor *index, ms_error *err);
ms_status ms_index_select(ms_tensor **out, ms_tensor *x, int dim, ms_tensor *index, ms_error *err);
ms_status ms_topk(ms_tensor **value, ms_tensor **index, ms_tensor *x, int64_t k, int dim, int largest, ms_error *err);

/* ---- op_conv.c ---- */
typedef struct ms_conv_opts {
  int stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
} ms_conv_opts;
/* x [N, C, H, W] or [T, N, C, H, W], weight [Cout, Cin/groups, kh, kw], bias [Cout] or NULL. A static x (expanded
** over T) is computed once. */
ms_status ms_conv2d(ms_tensor **out, ms_tensor *x, ms_tensor *weight, ms_tensor *bias, ms_conv_opts o, ms_error *err);
/* x [..., in], weight [out, in], bias [out] or NULL. */
ms_status ms_linear(ms_tensor **out, ms_tensor *x, ms_tensor *weight, ms_tensor *bias, ms_error *err);
/* Synaptic operations of a layer on x, int64 [2]: non-zero inputs, and outputs they reach, summed over the whole tensor. */
ms_status ms_conv2d_synops(ms_tensor **out, ms_tensor *x, ms_tensor *weight, ms_conv_opts o, ms_error *err);
ms_status ms_linear_synops(ms_tensor **out, ms_tensor *x, ms_tensor *weight, ms_error *err);

/* ---- op_pool.c: x [N, C, H, W] or [T, N, C, H, W] ---- */
typedef struct ms_pool_opts {
  int kh, kw, stride_h, stride_w, pad_h, pad_w, ceil_mode, count_pad;
} ms_pool_opts;
/* why (may be NULL): static string, "" where the pooling was computed in the neuron's row. */
ms_status ms_avg_pool2d_report(ms_tensor **out, ms_tensor *x, ms_pool_opts o, const char **why, ms_error *err);
ms_status ms_avg_pool2d(ms_tensor **out, ms_tensor *x, ms_pool_opts o, ms_error *err);
ms_status ms_max_pool2d(ms_tensor **out, ms_tensor *x, ms_pool_opts o, ms_error *err);
ms_status ms_adaptive_avg_pool2d(ms_tensor **out, ms_tensor *x, int64_t oh, int64_t ow, ms_error *err);

/* ---- op_norm.c ---- */
typedef struct ms_norm_opts {
  double eps, momentum, gain; /* gain: tdBN's alpha * V_th, else 1 */
  int training;
  ms_tensor *batches; /* int64 of one element that counts batches in training, or NULL */
} ms_norm_opts;
/* Over every dimension but the channel: x [N, C], [N, C, H, W], [T, N, C, H, W], or with steps != 0 [T, N, C].
** Channel is the last of 2-D and 3-D inputs, the third from the end of 4-D and 5-D ones. gamma, beta, running_*
** [C] or NULL. The result is lazy. */
ms_status ms_batch_norm(ms_tensor **out, ms_tensor *x, ms_tensor *gamma, ms_tensor *beta, ms_tensor *running_mean,
                        ms_tensor *running_var, ms_norm_opts o, ms_error *err);
/* How a lazy tensor is computed: a * y + b + r. Used by op_norm.c (materialise), op_math.c (add of a residual) and
** op_neuron.c. */
struct ms_lazy {
  int refs;
  ms_tensor *y;                     /* input of the normalisation, dense; [1, ...] with repeat > 1 */
  ms_tensor *gamma, *beta;          /* may be NULL */
  ms_tensor *a, *b, *mean, *invstd; /* [C] */
  ms_tensor *r;                     /* residual, same logical shape as the result, or NULL */
  int64_t repeat, c;
  double gain;
  int training;
  uint32_t y_version, r_version; /* of their storages: written since means too late to compute */
};
/* t's record, when a fused consumer may read it in place of t; NULL when t is not lazy or was written in place. */
ms_lazy *ms_lazy_of(const ms_tensor *t);
/* The inputs of a lazy tensor are still what they were. */
ms_status ms_lazy_check(const ms_lazy *l, ms_error *err);
/* Gives t its memory (ms_materialise of a lazy tensor); the lazy record stays, for a fused consumer. */
ms_status ms_lazy_materialise(ms_tensor *t, ms_error *err);
ms_lazy *ms_lazy_retain(ms_lazy *l);
void ms_lazy_release(ms_lazy *l);
/* x (lazy, without residual, never materialised) + r, lazy again; *out NULL where it does not apply and the plain
** add must run. */
ms_status ms_lazy_add(ms_tensor **out, ms_tensor *x, ms_tensor *r, ms_error *err);
/* Fusion on (default) or off: off materialises at once. Returns what it was. Forward bits are the same. */
int ms_set_fusion(int on);
int ms_fusion(void);

/* ---- op_neuron.c ---- */
typedef struct ms_neuron_opts {
  ms_neuron p;
  /* NULL: p.surrogate. Else call(ud, 1, din, 1, dout): din[0] = g(u) for dout[0] = u [T, ...]; borrowed, retained
  ** by retain/release */
  ms_callback *surrogate;
  void (*surrogate_retain)(void *ud);
} ms_neuron_opts;
typedef struct ms_neuron_report { /* what the last call did, for print(net) and firing rates */
  int fused;                      /* 1: normalisation taken in, 2: and a residual */
  const char *why_not;            /* static string when not fused, "" otherwise */
} ms_neuron_report;
/* x [T, ...], v0 [...] or NULL (p.v_init; broadcasts over N), w [1] PLIF or NULL. spikes [T, ...] (dtype spike), v
** [...] membrane after T, both differentiable; v may be a NULL pointer when not wanted; counts [T, C] int64 or
** NULL pointer. */
ms_status ms_neuron_forward(ms_tensor **spikes, ms_tensor **v, ms_tensor **counts, ms_tensor *x, ms_tensor *v0,
                            ms_tensor *w, const ms_neuron_opts *o, ms_neuron_report *report, ms_error *err);
/* The 2x2 average pooling of x [T, ..., C, H, W], computed in the neuron's row where x is the spikes that nobody has
** read yet: their node gets one more output. *out NULL where it does not apply; *why then says why. */
ms_status ms_neuron_pool(ms_tensor **out, ms_tensor *x, const char **why, ms_error *err);
int ms_is_fired(const ms_tensor *x); /* x is the spikes of a neuron's node */
/* The membrane before reset, [T, ...], for monitors; not differentiable. */
ms_status ms_neuron_membrane(ms_tensor **h, ms_tensor *x, ms_tensor *v0, ms_tensor *w, const ms_neuron_opts *o,
                             ms_error *err);

/* ---- op_loss.c ---- */
typedef struct ms_loss_opts {
  ms_loss_over over;
  double ce, mse, smooth, phi;
  int mse_onehot;
} ms_loss_opts;
typedef struct ms_loss_parts {
  ms_tensor *value;   /* [] differentiable */
  ms_tensor *parts;   /* [3]: loss, CE, MSE */
  ms_tensor *correct; /* [1] int64 */
} ms_loss_parts;
/* logits [T, B, C], labels [B] int64 or float32 [B, C]: the share of each class (no gradient). Each member +1 on
** success. */
ms_status ms_classification_loss(ms_loss_parts *out, ms_tensor *logits, ms_tensor *labels, ms_loss_opts o,
                                 ms_error *err);
/* TRT's regulariser of n parameters: value [] = (1/T) sum_t r(t); backward leaves a pending term on each
** parameter, scaled by dL/dvalue. delta, eps as published; t0: the first t (0 published, 1 the paper's text).
** steps: r(t) each, [T] (may be a NULL pointer). */
typedef struct ms_trt_opts {
  double lambda, delta, eps;
  int t0, steps;
} ms_trt_opts;
ms_status ms_trt_regulariser(ms_tensor **value, ms_tensor **each, int n, ms_tensor *const *params, ms_trt_opts o,
                             ms_error *err);

/* ---- op_augment.c ---- */
typedef struct ms_augment_opts {
  const struct ms_photo_recipe *photo;    /* data/photos.h: what is done to samples first; NULL: nothing */
  const struct ms_augment_recipe *recipe; /* data/augment.h: how they are moved then; NULL: not at all */
  uint64_t key;                           /* of what is drawn; a sample draws by its index */
  double scale;                           /* bytes are divided by it first */
  const ms_real *mean, *std;              /* [C] or NULL: 0 and 1 */
} ms_augment_opts;
/* Samples index [n] of x [s, C, H, W] ([s, H, W]: C is 1) or [s, T, C, H, W], uint8 or float32, on x's device: float32
** [n, C, H, W] or [T, n, C, H, W]; H and W change where photo has a size. An index out of range is an error on the CPU, zeros elsewhere. Not differentiable. */
ms_status ms_augment(ms_tensor **out, ms_tensor *x, ms_tensor *index, const ms_augment_opts *o, ms_error *err);

/* ---- op_dropout.c ---- */
/* inverted: kept values times 1 / (1 - p) */
ms_status ms_dropout(ms_tensor **out, ms_tensor *x, double p, ms_philox_key key, ms_error *err);

#endif
