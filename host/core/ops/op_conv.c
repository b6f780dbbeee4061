/* Convolution and linear layers: one engine interface, a linear layer is a 1x1 convolution over one-pixel images. */
#include "../autocast.h"
#include "../engines.h"
#include "../spikes.h"
#include "nn.h"

#include <string.h>

#define PLANS 96

/* ---- plans, kept for each descriptor; the one unused for longest makes room ---- */
static struct {
  ms_device *device;
  ms_conv_desc desc;
  ms_conv_plan *plan;
  uint64_t used;
} plans[PLANS];
static uint64_t plan_clock;

static int same_desc(const ms_conv_desc *a, const ms_conv_desc *b) {
  return a->n == b->n && a->h == b->h && a->w == b->w && a->cin == b->cin && a->cout == b->cout && a->oh == b->oh &&
         a->ow == b->ow && a->kh == b->kh && a->kw == b->kw && a->stride_h == b->stride_h &&
         a->stride_w == b->stride_w && a->pad_h == b->pad_h && a->pad_w == b->pad_w && a->dil_h == b->dil_h &&
         a->dil_w == b->dil_w && a->groups == b->groups && a->x == b->x && a->weight == b->weight;
}

/* out: borrowed, valid until the next call. */
static ms_status find_plan(const ms_conv_plan **out, ms_device *d, const ms_conv_desc *desc, const char *op,
                           ms_error *err) {
  int oldest = 0;
  for (int i = 0; i < PLANS; i++) {
    if (plans[i].plan && plans[i].device == d && same_desc(&plans[i].desc, desc)) {
      plans[i].used = ++plan_clock;
      *out = plans[i].plan;
      return MS_OK;
    }
    if (plans[i].used < plans[oldest].used)
      oldest = i;
  }
  ms_conv_plan *plan = NULL;
  ms_status st = ms_row(d, d->k->conv_plan(d->stream, desc, &plan), op, err);
  if (st)
    return st;
  if (plans[oldest].plan)
    plans[oldest].device->k->conv_plan_destroy(plans[oldest].plan);
  plans[oldest].device = d;
  plans[oldest].desc = *desc;
  plans[oldest].plan = plan;
  plans[oldest].used = ++plan_clock;
  *out = plan;
  return MS_OK;
}

/* The plan, held to the engine of its layer, and a workspace for it. The memory hook of an allocation may run other
** convolutions and choose other engines, so the plan is looked up and asked again. */
static ms_status hold_plan(ms_tensor **workspace, ms_device *d, const ms_conv_desc *desc, ms_conv_pass pass,
                           ms_conv_args *a, const char *layer, const char *op, ms_error *err) {
  for (size_t have = 0;;) {
    ms_status st = find_plan(&a->plan, d, desc, op, err);
    if (st)
      return st;
    ms_engines_hold(d, a, layer);
    size_t bytes = d->k->conv_workspace(a->plan, pass);
    if (bytes <= have)
      return MS_OK;
    ms_engines_end(d, a);
    ms_release(*workspace);
    *workspace = NULL;
    if ((st = ms_scratch(workspace, d, bytes, err)))
      return st;
    have = bytes;
  }
}

/* layer: the name of the weight, "" where it has none. */
static ms_status run_pass(ms_device *d, const ms_conv_desc *desc, ms_conv_pass pass, ms_conv_args *a, const char *layer,
                          const char *op, ms_error *err) {
  ms_tensor *workspace = NULL;
  if (desc->n == 0)
    return MS_OK;
  ms_status st = hold_plan(&workspace, d, desc, pass, a, layer, op, err);
  if (st)
    goto done;
  a->workspace = ms_scratch_ptr(workspace);
  ms_engines_note(d, desc, pass, a, layer);
  switch (pass) {
  case MS_CONV_FORWARD:
    st = d->k->conv_forward(d->stream, a);
    break;
  case MS_CONV_INPUT_GRAD:
    st = d->k->conv_input_grad(d->stream, a);
    break;
  case MS_CONV_WEIGHT_GRAD:
    st = d->k->conv_weight_grad(d->stream, a);
    break;
  }
  ms_engines_end(d, a);
  st = ms_row(d, st, op, err);
done:
  ms_release(workspace);
  return st;
}

/* ---- the op, given its descriptor ---- */
typedef struct conv_params {
  ms_conv_desc desc;
  ms_dtype dx; /* type of the gradient of x */
  double density, mask_density;
  int counts; /* x holds more than zeros and ones */
  int ndim;
  int64_t size[MS_MAX_DIMS]; /* of x */
  char layer[64];
} conv_params;

/* The places of x whose gradient counts, where nobody but the neuron behind x sees the rest. */
static ms_status set_mask(ms_conv_args *a, ms_node *n, ms_error *err) {
  ms_tensor *mask;
  ms_status st = ms_saved_get(&mask, n, 2, err);
  if (st || !mask || n->in[0].node->observed)
    return st;
  a->mask = ms_memory_of(mask);
  a->mask_density = MS_R(((const conv_params *)n->params)->mask_density);
  return MS_OK;
}

static ms_status conv_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const conv_params *p = n->params;
  ms_tensor *x, *w, *g = NULL, *dx = NULL, *dw = NULL, *db = NULL;
  ms_status st;
  if (!dout[0])
    return MS_OK;
  if ((st = ms_saved_get(&x, n, 0, err)) || (st = ms_saved_get(&w, n, 1, err)) ||
      (st = ms_dense(&g, dout[0], (int)p->desc.weight, err)))
    return st;
  ms_device *d = ms_tensor_device(g);
  if (ms_wants(n, 0)) {
    ms_conv_args a = {.weight = ms_dense_data(w), .y = ms_dense_data(g), .density = -1, .mask_density = -1};
    if ((st = ms_tensor_new(&dx, d, p->dx, p->ndim, p->size, err)))
      goto done;
    a.x = ms_dense_data(dx);
    if ((st = set_mask(&a, n, err)) || (st = run_pass(d, &p->desc, MS_CONV_INPUT_GRAD, &a, p->layer, n->op->name, err)))
      goto done;
  }
  if (ms_wants(n, 1) || ms_wants(n, 2)) {
    ms_conv_args a = {.x = ms_spikes_data(x),
                      .y = ms_dense_data(g),
                      .density = MS_R(p->density),
                      .counts = p->counts,
                      .mask_density = -1};
    int64_t wsize[4] = {p->desc.cout, p->desc.cin / p->desc.groups, p->desc.kh, p->desc.kw};
    if ((st = ms_new_gradient(&dw, n, 1, d, p->ndim >= 4 ? 4 : 2, wsize, p->desc.n, err)))
      goto done;
    if (ms_wants(n, 2) && (st = ms_new_gradient(&db, n, 2, d, 1, &p->desc.cout, p->desc.n, err)))
      goto done;
    a.weight = ms_dense_data(dw);
    a.bias = ms_reals(db);
    if ((st = run_pass(d, &p->desc, MS_CONV_WEIGHT_GRAD, &a, p->layer, n->op->name, err)))
      goto done;
  }
  din[0] = dx;
  din[1] = ms_wants(n, 1) ? dw : NULL;
  din[2] = db;
  if (!din[1])
    ms_release(dw);
  dx = dw = db = NULL;
done:
  ms_release(g);
  ms_release(dx);
  ms_release(dw);
  ms_release(db);
  return st;
}

static const ms_op op_conv2d = {"conv2d", conv_backward};
static const ms_op op_linear = {"linear", conv_backward};

/* A surrogate that is zero at most places makes most of the input gradient void, which an engine may use. */
static int wants_mask(ms_tensor *x, ms_dtype precision) {
  const ms_break_even *table = NULL;
  const ms_device *d = ms_tensor_device(x);
  int use = 0;
  if (precision != MS_F32 || !ms_records(1, &x) || !ms_is_fired(x))
    return 0;
  for (int i = d->k->conv_table(&table) - 1; i >= 0; i--)
    use |= table[i].precision == MS_F32 && table[i].input_grad > 0;
  return use;
}

static ms_status save_mask(ms_node *n, ms_tensor *x, ms_error *err) {
  ms_tensor *mask = ms_is_fired(x) ? ms_spikes_active(x, &((conv_params *)n->params)->mask_density) : NULL;
  return ms_save(n, 2, mask, err);
}

static ms_status record(const ms_op *op, const conv_params *params, ms_tensor *x, ms_tensor *weight, ms_tensor *bias,
                        ms_tensor *xd, ms_tensor *wd, ms_tensor *y, ms_error *err) {
  ms_node *n;
  ms_tensor *in[3] = {x, weight, bias};
  ms_status st = ms_record(&n, op, 3, in, 1, &y, err);
  if (st || !n)
    return st;
  st = ms_keep(n, params, sizeof *params, err);
  /* each pass needs the other operand only: a frozen layer keeps no activations */
  if (!st && (ms_wants(n, 1) || ms_wants(n, 2)))
    st = ms_save_spikes(n, 0, xd, err);
  if (!st && ms_wants(n, 0) && !(st = ms_save(n, 1, wd, err)))
    st = save_mask(n, x, err);
  return st;
}

static ms_status dense_weight(ms_tensor **out, ms_tensor *weight, ms_dtype precision, ms_error *err) {
  ms_tensor *w;
  if (precision == weight->dtype)
    return ms_dense(out, weight, -1, err);
  ms_status st = ms_half(&w, weight, 1, err);
  if (st)
    return st;
  st = ms_dense(out, w, -1, err);
  ms_release(w);
  return st;
}

static ms_status forward(ms_tensor **out, const ms_op *op, ms_tensor *x, ms_tensor *weight, ms_tensor *bias,
                         const ms_conv_desc *desc, int ndim, const int64_t *size, ms_error *err) {
  ms_device *d = ms_tensor_device(x);
  ms_tensor *xd = NULL, *wd = NULL, *bd = NULL, *y = NULL;
  ms_dtype precision = ms_autocast() ? MS_BF16 : weight->dtype;
  conv_params params = {.desc = *desc, .dx = MS_F32, .mask_density = -1, .ndim = x->ndim};
  params.counts = x->dtype == MS_U8 || (x->dtype == MS_SPIKE && x->peak > 1);
  memcpy(params.size, x->size, sizeof params.size);
  memcpy(params.layer, weight->name, sizeof params.layer);
  params.desc.weight = precision;
  if (precision == MS_BF16) {
    params.desc.x = x->dtype == MS_F32 ? MS_BF16 : x->dtype;
    params.dx = x->dtype == MS_F32 ? MS_F32 : MS_BF16;
  }
  ms_status st;
  st = x->dtype == MS_SPIKE ? ms_spikes_of(&xd, x, wants_mask(x, precision), err)
                            : ms_dense(&xd, x, (int)params.desc.x, err);
  if (st || (st = dense_weight(&wd, weight, precision, err)) || (bias && (st = ms_dense(&bd, bias, -1, err))) ||
      (st = ms_tensor_new(&y, d, precision, ndim, size, err)))
    goto done;
  params.density = xd->density;
  params.desc.x = ms_spikes_data(xd).dtype;
  ms_conv_args a = {.x = ms_spikes_data(xd),
                    .weight = ms_dense_data(wd),
                    .y = ms_dense_data(y),
                    .bias = ms_reals(bd),
                    .density = MS_R(params.density),
                    .counts = params.counts,
                    .mask_density = -1};
  if ((st = run_pass(d, &params.desc, MS_CONV_FORWARD, &a, params.layer, op->name, err)) ||
      (st = record(op, &params, x, weight, bias, xd, wd, y, err)))
    goto done;
  *out = y;
  y = NULL;
done:
  ms_release(xd);
  ms_release(wd);
  ms_release(bd);
  ms_release(y);
  return st;
}

/* ---- conv2d ---- */
/* The name of a parameter says which layer of a network is meant. */
static const char *weight_name(const ms_tensor *w) {
  return *w->name ? w->name : "weight";
}

static ms_status check_operands(const char *op, const ms_tensor *x, const ms_tensor *weight, const ms_tensor *bias,
                                ms_error *err) {
  ms_status st = ms_expect_float(op, "x", x, err);
  if (!st && weight->dtype != MS_F32 && weight->dtype != MS_BF16)
    st = ms_fail(err, MS_ETYPE, "%s: weight: expected float32 or bfloat16, got %s", op, ms_dtype_name(weight->dtype));
  if (!st)
    st = ms_expect_device(op, "weight", weight, ms_tensor_device(x), err);
  if (!st)
    st = ms_expect_vector(op, "bias", bias, weight->size[0], ms_tensor_device(x), err);
  return st;
}

static ms_status conv2d_desc(ms_conv_desc *desc, const ms_tensor *x, const ms_tensor *w, const ms_tensor *bias,
                             ms_conv_opts o, ms_error *err) {
  if (x->ndim != 4 && x->ndim != 5)
    return ms_fail(err, MS_ESHAPE, "conv2d: x: expected [N, C, H, W] or [T, N, C, H, W], got %s", ms_tensor_text(x).s);
  if (w->ndim != 4 || w->size[0] < 1 || w->size[2] < 1 || w->size[3] < 1)
    return ms_fail(err, MS_ESHAPE, "conv2d: weight: expected [Cout, Cin / groups, kh, kw], got %s",
                   ms_tensor_text(w).s);
  if (o.stride_h < 1 || o.stride_w < 1 || o.dil_h < 1 || o.dil_w < 1 || o.pad_h < 0 || o.pad_w < 0)
    return ms_fail(err, MS_ERANGE,
                   "conv2d: expected stride and dilation of at least 1 and padding of at least 0, got stride [%d, %d], "
                   "dilation [%d, %d], padding [%d, %d]",
                   o.stride_h, o.stride_w, o.dil_h, o.dil_w, o.pad_h, o.pad_w);
  if (w->size[2] > INT32_MAX || w->size[3] > INT32_MAX)
    return ms_fail(err, MS_ERANGE, "conv2d: weight: kernel too large, got %s", ms_tensor_text(w).s);
  int c = ms_channel_dim(x->ndim);
  int64_t cin = x->size[c], h = x->size[c + 1], width = x->size[c + 2];
  if (o.groups < 1 || cin % o.groups || w->size[0] % o.groups)
    return ms_fail(err, MS_ESHAPE,
                   "conv2d: groups: expected a divisor of the %lld input and %lld output channels, got %d",
                   (long long)cin, (long long)w->size[0], o.groups);
  if (cin < 1 || w->size[1] != cin / o.groups)
    return ms_fail(err, MS_ESHAPE, "conv2d: x: expected %lld channels (%s %s, groups %d), got %s",
                   (long long)(w->size[1] * o.groups), weight_name(w), ms_shape_text(w->ndim, w->size).s, o.groups,
                   ms_tensor_text(x).s);
  int64_t span_h = (w->size[2] - 1) * o.dil_h + 1, span_w = (w->size[3] - 1) * o.dil_w + 1;
  if (h + 2 * (int64_t)o.pad_h < span_h || width + 2 * (int64_t)o.pad_w < span_w)
    return ms_fail(err, MS_ESHAPE, "conv2d: x: expected an image of at least %lldx%lld with its padding, got %s",
                   (long long)span_h, (long long)span_w, ms_tensor_text(x).s);
  *desc = (ms_conv_desc){.n = x->ndim == 5 ? x->size[0] * x->size[1] : x->size[0],
                         .h = h,
                         .w = width,
                         .cin = cin,
                         .cout = w->size[0],
                         .oh = (h + 2 * (int64_t)o.pad_h - span_h) / o.stride_h + 1,
                         .ow = (width + 2 * (int64_t)o.pad_w - span_w) / o.stride_w + 1,
                         .kh = (int)w->size[2],
                         .kw = (int)w->size[3],
                         .stride_h = o.stride_h,
                         .stride_w = o.stride_w,
                         .pad_h = o.pad_h,
                         .pad_w = o.pad_w,
                         .dil_h = o.dil_h,
                         .dil_w = o.dil_w,
                         .groups = o.groups,
                         .x = x->dtype,
                         .weight = w->dtype};
  return check_operands("conv2d", x, w, bias, err);
}

ms_status ms_conv2d(ms_tensor **out, ms_tensor *x, ms_tensor *weight, ms_tensor *bias, ms_conv_opts o, ms_error *err) {
  ms_conv_desc desc;
  ms_status st = conv2d_desc(&desc, x, weight, bias, o, err);
  if (st)
    return st;
  if (x->source) {
    ms_tensor *y;
    if ((st = ms_conv2d(&y, x->source, weight, bias, o, err)))
      return st;
    return ms_repeat_static(out, y, x->size[0], err);
  }
  int64_t size[MS_MAX_DIMS];
  int c = ms_channel_dim(x->ndim);
  memcpy(size, x->size, sizeof size);
  size[c] = desc.cout;
  size[c + 1] = desc.oh;
  size[c + 2] = desc.ow;
  return forward(out, &op_conv2d, x, weight, bias, &desc, x->ndim, size, err);
}

/* ---- linear ---- */
static ms_status linear_desc(ms_conv_desc *desc, const ms_tensor *x, const ms_tensor *w, const ms_tensor *bias,
                             ms_error *err) {
  if (w->ndim != 2 || w->size[0] < 1 || w->size[1] < 1)
    return ms_fail(err, MS_ESHAPE, "linear: weight: expected [out, in], got %s", ms_tensor_text(w).s);
  if (x->ndim < 1 || x->size[x->ndim - 1] != w->size[1])
    return ms_fail(err, MS_ESHAPE, "linear: x: expected [..., %lld] (%s %s), got %s", (long long)w->size[1],
                   weight_name(w), ms_shape_text(w->ndim, w->size).s, ms_tensor_text(x).s);
  *desc = (ms_conv_desc){.n = ms_numel(x) / w->size[1],
                         .h = 1,
                         .w = 1,
                         .cin = w->size[1],
                         .cout = w->size[0],
                         .oh = 1,
                         .ow = 1,
                         .kh = 1,
                         .kw = 1,
                         .stride_h = 1,
                         .stride_w = 1,
                         .dil_h = 1,
                         .dil_w = 1,
                         .groups = 1,
                         .x = x->dtype,
                         .weight = w->dtype};
  return check_operands("linear", x, w, bias, err);
}

/* Four and more dimensions lie channels-last in memory, which is not what a linear layer contracts over: seen as
** [rows, in]. */
static ms_status linear_rows(ms_tensor **out, ms_tensor *x, ms_tensor *weight, ms_tensor *bias, ms_error *err) {
  int64_t size[MS_MAX_DIMS], flat[2] = {ms_numel(x) / weight->size[1], weight->size[1]};
  ms_tensor *rows = NULL, *y = NULL;
  ms_status st;
  memcpy(size, x->size, sizeof size);
  size[x->ndim - 1] = weight->size[0];
  if (!(st = ms_reshape(&rows, x, 2, flat, err)) && !(st = ms_linear(&y, rows, weight, bias, err)))
    st = ms_reshape(out, y, x->ndim, size, err);
  ms_release(rows);
  ms_release(y);
  return st;
}

ms_status ms_linear(ms_tensor **out, ms_tensor *x, ms_tensor *weight, ms_tensor *bias, ms_error *err) {
  ms_conv_desc desc;
  ms_status st = linear_desc(&desc, x, weight, bias, err);
  if (st)
    return st;
  if (x->source && x->ndim > 1) {
    ms_tensor *y;
    if ((st = ms_linear(&y, x->source, weight, bias, err)))
      return st;
    return ms_repeat_static(out, y, x->size[0], err);
  }
  if (x->ndim >= 4)
    return linear_rows(out, x, weight, bias, err);
  int64_t size[MS_MAX_DIMS];
  memcpy(size, x->size, sizeof size);
  size[x->ndim - 1] = desc.cout;
  return forward(out, &op_linear, x, weight, bias, &desc, x->ndim, size, err);
}

/* ---- synaptic operations ---- */
static ms_status synops(ms_tensor **out, ms_tensor *x, ms_conv_desc *desc, const char *op, ms_error *err) {
  ms_tensor *from = x->source && x->ndim > 1 ? x->source : x, *xd = NULL, *sums = NULL;
  int64_t repeat = from == x ? 1 : x->size[0], two = 2;
  ms_status st = ms_spikes_of(&xd, from, 0, err);
  if (st)
    return st;
  ms_device *d = ms_tensor_device(xd);
  desc->x = ms_spikes_data(xd).dtype;
  desc->n /= repeat;
  if (!(st = ms_full(&sums, d, MS_I64, 1, &two, 0, err)) &&
      !(st = ms_row(d, d->k->conv_synops(d->stream, desc, ms_spikes_data(xd), ms_ints(sums)), op, err)) && repeat != 1)
    st = ms_binary_scalar_(sums, MS_BINARY_mul, (double)repeat, err);
  ms_release(xd);
  if (st)
    ms_release(sums);
  else
    *out = sums;
  return st;
}

ms_status ms_conv2d_synops(ms_tensor **out, ms_tensor *x, ms_tensor *weight, ms_conv_opts o, ms_error *err) {
  ms_conv_desc desc;
  ms_status st = conv2d_desc(&desc, x, weight, NULL, o, err);
  return st ? st : synops(out, x, &desc, "conv2d_synops", err);
}

ms_status ms_linear_synops(ms_tensor **out, ms_tensor *x, ms_tensor *weight, ms_error *err) {
  ms_conv_desc desc;
  ms_status st = linear_desc(&desc, x, weight, NULL, err);
  return st ? st : synops(out, x, &desc, "linear_synops", err);
}
