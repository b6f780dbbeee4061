/* The spiking neuron. Where its input is a normalisation that nobody has read yet, one node takes in normalisation,
** residual and neuron: only the convolution's output is kept, membranes are computed again in backward. The row runs when
** its results are read (spikes.h); an average pooling that comes first is one more output of the same node. */
#include "../spikes.h"
#include "nn.h"

#include <string.h>

enum { IN_X, IN_GAMMA, IN_BETA, IN_R, IN_V0, IN_W, INPUTS };
enum { OUT_SPIKES, OUT_MEMBRANE, OUT_POOLED };
enum { SAVED_Y, SAVED_A, SAVED_B, SAVED_MEAN, SAVED_INVSTD, SAVED_R, SAVED_V0, SAVED_W };

typedef struct neuron_params {
  ms_neuron p;
  ms_callback surrogate; /* call NULL: p.surrogate */
  int64_t steps, n, c, y_step, r_step;
  double norm_gain;
  int norm_training, ndim, v0_ndim;
  int64_t size[MS_MAX_DIMS], v0_size[MS_MAX_DIMS]; /* of x and of v0 as it was given */
} neuron_params;

/* A layer's inputs as the row wants them. */
typedef struct layer {
  neuron_params p;
  ms_tensor *y, *r, *v0, *w; /* dense (+1); r may be bits */
  ms_lazy *lazy;             /* borrowed from x */
  ms_tensor *in[INPUTS];     /* of the node, borrowed */
} layer;

static void layer_free(layer *l) {
  ms_release(l->y);
  ms_release(l->r);
  ms_release(l->v0);
  ms_release(l->w);
}

/* ---- inputs ---- */
static ms_status check(const ms_tensor *x, const ms_tensor *v0, const ms_tensor *w, const ms_neuron *p, ms_error *err) {
  const ms_device *d = ms_tensor_device(x);
  ms_status st;
  if (x->ndim < 1 || x->size[0] < 1)
    return ms_fail(err, MS_ESHAPE, "neuron: x: expected [T, ...] with at least one step, got %s", ms_tensor_text(x).s);
  if ((st = ms_expect_float("neuron", "x", x, err)) || (st = ms_expect_device("neuron", "v0", v0, d, err)) ||
      (st = ms_expect_device("neuron", "w", w, d, err)))
    return st;
  int fits = !v0 || v0->ndim < x->ndim;
  for (int i = 1; v0 && fits && i <= v0->ndim; i++)
    fits = v0->size[v0->ndim - i] == 1 || v0->size[v0->ndim - i] == x->size[x->ndim - i];
  if (!fits || (v0 && !ms_is_float(v0->dtype)))
    return ms_fail(err, MS_ESHAPE, "neuron: v0: expected float32 %s or what broadcasts to it, got %s",
                   ms_shape_text(x->ndim - 1, x->size + 1).s, ms_tensor_text(v0).s);
  if (!w != !p->plif)
    return ms_fail(err, MS_EINVAL, "neuron: w: expected %s",
                   p->plif ? "a tensor of one element for plif" : "nil without plif");
  if (w && (w->dtype != MS_F32 || ms_numel(w) != 1))
    return ms_fail(err, MS_ESHAPE, "neuron: w: expected float32 of one element, got %s", ms_tensor_text(w).s);
  return MS_OK;
}

/* v0 repeated to [1, ...] of x's shape, so that it lies in memory like one step of x. */
static ms_status spread_v0(ms_tensor **out, ms_tensor *v0, const ms_tensor *x, ms_error *err) {
  int64_t size[MS_MAX_DIMS], stride[MS_MAX_DIMS] = {0};
  int lead = x->ndim - v0->ndim;
  ms_tensor *view;
  ms_status st = ms_materialise(v0, err);
  memcpy(size, x->size, sizeof size);
  size[0] = 1;
  for (int i = 0; i < v0->ndim; i++)
    stride[lead + i] = v0->size[i] == 1 ? 0 : v0->stride[i];
  if (st || (st = ms_tensor_alias(&view, v0, x->ndim, size, stride, v0->offset, err)))
    return st;
  st = ms_dense(out, view, MS_F32, err);
  ms_release(view);
  return st;
}

/* A residual or an input that repeats one image lies in memory once: *step is 0 then, and *edge the tensor behind the
** view. */
static void operand(ms_tensor **edge, int64_t *step, ms_tensor *t, int64_t n) {
  int is_static = t->source && t->size[0] > 1;
  *edge = is_static ? t->source : t;
  *step = is_static ? 0 : n;
}

static ms_status prepare(layer *l, ms_tensor *x, ms_tensor *v0, ms_tensor *w, const ms_neuron_opts *o, ms_error *err) {
  neuron_params *p = &l->p;
  memset(l, 0, sizeof *l);
  ms_status st = check(x, v0, w, &o->p, err);
  if (st)
    return st;
  p->p = o->p;
  p->steps = x->size[0];
  p->n = ms_numel(x) / x->size[0];
  p->c = x->ndim > 1 ? x->size[ms_channel_dim(x->ndim)] : 1;
  p->ndim = x->ndim;
  memcpy(p->size, x->size, sizeof p->size);
  l->in[IN_V0] = v0;
  l->in[IN_W] = w;
  if (v0) {
    p->v0_ndim = v0->ndim;
    memcpy(p->v0_size, v0->size, sizeof p->v0_size);
  }
  if ((l->lazy = ms_lazy_of(x)) && !(st = ms_lazy_check(l->lazy, err))) {
    l->in[IN_GAMMA] = l->lazy->gamma;
    l->in[IN_BETA] = l->lazy->beta;
    l->in[IN_X] = l->lazy->y;
    l->y = ms_retain(l->lazy->y);
    p->y_step = l->lazy->repeat > 1 ? 0 : p->n;
    p->norm_gain = l->lazy->gain;
    p->norm_training = l->lazy->training;
    if (l->lazy->r) {
      operand(&l->in[IN_R], &p->r_step, l->lazy->r, p->n);
      st = ms_spikes_of(&l->r, l->in[IN_R], 0, err);
    }
  } else if (!st) {
    l->lazy = NULL;
    operand(&l->in[IN_X], &p->y_step, x, p->n);
    st = ms_dense(&l->y, l->in[IN_X], -1, err);
  }
  if (!st && v0)
    st = spread_v0(&l->v0, v0, x, err);
  if (!st && w)
    st = ms_dense(&l->w, w, -1, err);
  if (st)
    layer_free(l);
  return st;
}

static ms_neuron_args row_args(const neuron_params *p, const ms_tensor *y, const ms_tensor *a, const ms_tensor *b,
                               const ms_tensor *r, const ms_tensor *v0, const ms_tensor *w) {
  return (ms_neuron_args){.p = p->p,
                          .steps = p->steps,
                          .n = p->n,
                          .c = p->c,
                          .y = ms_dense_data(y),
                          .y_step = p->y_step,
                          .norm = {ms_reals(a), ms_reals(b)},
                          .r = ms_spikes_data(r),
                          .r_step = p->r_step,
                          .w = ms_reals(w),
                          .v0 = ms_reals(v0)};
}

static ms_neuron_args layer_args(const layer *l) {
  return row_args(&l->p, l->y, l->lazy ? l->lazy->a : NULL, l->lazy ? l->lazy->b : NULL, l->r, l->v0, l->w);
}

/* [...] of x's [T, ...], in memory like one step. */
static ms_status new_membrane(ms_tensor **out, ms_device *d, const neuron_params *p, ms_error *err) {
  int64_t size[MS_MAX_DIMS];
  ms_tensor *step;
  memcpy(size, p->size, sizeof size);
  size[0] = 1;
  ms_status st = ms_tensor_new(&step, d, MS_F32, p->ndim, size, err);
  if (st)
    return st;
  st = ms_tensor_alias(out, step, p->ndim - 1, step->size + 1, step->stride + 1, 0, err);
  ms_release(step);
  return st;
}

/* ---- backward ---- */
/* g(u) from the caller's function, with the membranes computed once more. */
static ms_status call_surrogate(ms_tensor **out, const neuron_params *p, ms_neuron_args f, ms_device *d,
                                ms_error *err) {
  ms_tensor *h = NULL, *u = NULL, *g = NULL;
  ms_status st = ms_tensor_new(&h, d, MS_F32, p->ndim, p->size, err);
  if (st)
    return st;
  f.h = ms_reals(h);
  if ((st = ms_row(d, d->k->neuron(d->stream, &f), "neuron", err)) ||
      (st = ms_binary_scalar(&u, MS_BINARY_sub, h, (double)p->p.threshold, 0, err)) ||
      (st = p->surrogate.call(p->surrogate.ud, 1, &g, 1, &u, err)))
    goto done;
  if (!g || !ms_same_shape(g, u) || !ms_is_float(g->dtype) || ms_tensor_device(g) != d)
    st = ms_fail(err, MS_ESHAPE, "neuron: surrogate: expected the function to return float32 %s on %s, got %s",
                 ms_shape_text(u->ndim, u->size).s, d->name, g ? ms_tensor_text(g).s : "nothing");
  else
    st = ms_dense(out, g, MS_F32, err);
done:
  ms_release(h);
  ms_release(u);
  ms_release(g);
  return st;
}

/* What a backward call allocates. */
typedef struct gradients {
  ms_tensor *gs, *gv, *surrogate, *dy, *dr, *dv0, *dw, *dgamma, *dbeta;
} gradients;

/* dL/ds or dL/dpooled, kept as one step where the upstream gradient is the same for all (a mean over t). */
static ms_status upstream_spikes(gradients *g, int64_t *gs_step, const neuron_params *p, ms_tensor *all,
                                 ms_error *err) {
  ms_tensor *one = NULL;
  int64_t size[MS_MAX_DIMS];
  ms_status st = MS_OK;
  *gs_step = ms_numel(all) / p->steps;
  if (all->storage && p->steps > 1 && all->stride[0] == 0) {
    memcpy(size, all->size, sizeof size);
    size[0] = 1;
    *gs_step = 0;
    st = ms_tensor_alias(&one, all, p->ndim, size, all->stride, all->offset, err);
    all = one;
  }
  if (!st)
    st = ms_dense(&g->gs, all, all->dtype == MS_BF16 ? MS_BF16 : MS_F32, err);
  ms_release(one);
  return st;
}

static ms_status upstream(gradients *g, ms_neuron_grad_args *a, const neuron_params *p, ms_tensor *const *dout,
                          ms_error *err) {
  ms_tensor *one = NULL, *spikes = dout[OUT_POOLED] ? dout[OUT_POOLED] : dout[OUT_SPIKES];
  int64_t size[MS_MAX_DIMS], stride[MS_MAX_DIMS];
  ms_status st = spikes ? upstream_spikes(g, &a->gs_step, p, spikes, err) : MS_OK;
  if (dout[OUT_POOLED]) {
    a->fwd.pool_h = p->size[p->ndim - 2];
    a->fwd.pool_w = p->size[p->ndim - 1];
  }
  if (st || !dout[1])
    return st;
  if ((st = ms_materialise(dout[1], err)))
    return st;
  memcpy(size, p->size, sizeof size);
  size[0] = 1;
  stride[0] = 0;
  memcpy(stride + 1, dout[1]->stride, sizeof stride - sizeof *stride);
  if ((st = ms_tensor_alias(&one, dout[1], p->ndim, size, stride, dout[1]->offset, err)))
    return st;
  st = ms_dense(&g->gv, one, MS_F32, err);
  ms_release(one);
  return st;
}

/* An operand's gradient: [T, ...], or [1, ...] of a static one. */
static ms_status new_operand(ms_tensor **out, ms_device *d, const neuron_params *p, ms_dtype dtype, int64_t step,
                             ms_error *err) {
  int64_t size[MS_MAX_DIMS];
  memcpy(size, p->size, sizeof size);
  if (step == 0)
    size[0] = 1;
  return ms_tensor_new(out, d, dtype, p->ndim, size, err);
}

/* y and r: as they were saved. Behind a bfloat16 y gradients are bfloat16, but for a float32 residual. */
static ms_status allocate(gradients *g, ms_node *n, ms_device *d, const ms_tensor *y, const ms_tensor *r,
                          ms_error *err) {
  const neuron_params *p = n->params;
  ms_dtype dy = y->dtype == MS_BF16 ? MS_BF16 : MS_F32, dr = r && r->dtype == MS_F32 ? MS_F32 : dy;
  int64_t one = 1;
  ms_status st;
  if ((ms_wants(n, IN_X) && (st = new_operand(&g->dy, d, p, dy, p->y_step, err))) ||
      (ms_wants(n, IN_R) && (st = new_operand(&g->dr, d, p, dr, p->r_step, err))) ||
      (ms_wants(n, IN_V0) && (st = new_membrane(&g->dv0, d, p, err))) ||
      (ms_wants(n, IN_W) && (st = ms_new_gradient(&g->dw, n, IN_W, d, 1, &one, p->n, err))) ||
      (ms_wants(n, IN_GAMMA) && (st = ms_new_gradient(&g->dgamma, n, IN_GAMMA, d, 1, &p->c, p->n, err))) ||
      (ms_wants(n, IN_BETA) && (st = ms_new_gradient(&g->dbeta, n, IN_BETA, d, 1, &p->c, p->n, err))))
    return st;
  return MS_OK;
}

/* Brings dv0 and dw to the shape of what they belong to, and hands everything over. */
static ms_status deliver(ms_tensor **din, gradients *g, ms_node *n, const ms_tensor *w, ms_error *err) {
  const neuron_params *p = n->params;
  ms_tensor *v0 = NULL, *dw = NULL;
  ms_status st;
  if ((g->dv0 && (st = ms_unbroadcast(&v0, g->dv0, p->v0_ndim, p->v0_size, err))) ||
      (g->dw && (st = ms_view(&dw, g->dw, w->ndim, w->size, err)))) {
    ms_release(v0);
    return st;
  }
  din[IN_X] = g->dy;
  din[IN_GAMMA] = g->dgamma;
  din[IN_BETA] = g->dbeta;
  din[IN_R] = g->dr;
  din[IN_V0] = v0;
  din[IN_W] = dw;
  g->dy = g->dgamma = g->dbeta = g->dr = NULL;
  return MS_OK;
}

/* The pooled gradient joins that of the spikes. */
static ms_status neuron_fold(ms_node *n, ms_error *err) {
  const neuron_params *p = n->params;
  ms_tensor *pooled = n->dout[OUT_POOLED], *g = NULL, *wide = NULL, *sum = NULL;
  if (!pooled)
    return MS_OK;
  int64_t h = p->size[p->ndim - 2], w = p->size[p->ndim - 1];
  ms_pool_desc desc = {.n = h && w && p->c ? p->steps * p->n / (h * w * p->c) : 0,
                       .h = h,
                       .w = w,
                       .c = p->c,
                       .oh = h / 2,
                       .ow = w / 2,
                       .kh = 2,
                       .kw = 2,
                       .stride_h = 2,
                       .stride_w = 2,
                       .count_pad = 1};
  ms_device *d = ms_tensor_device(pooled);
  ms_status st = ms_dense(&g, pooled, MS_F32, err);
  if (!st)
    st = ms_tensor_new(&wide, d, MS_F32, p->ndim, p->size, err);
  if (!st)
    st = ms_row(d, d->k->avg_pool_grad(d->stream, &desc, ms_dense_data(g), ms_dense_data(wide)), "neuron", err);
  if (!st && n->dout[OUT_SPIKES])
    st = ms_binary(&sum, MS_BINARY_add, n->dout[OUT_SPIKES], wide, err);
  else if (!st)
    sum = ms_retain(wide);
  ms_release(g);
  ms_release(wide);
  if (st)
    return st;
  ms_release(n->dout[OUT_SPIKES]);
  n->dout[OUT_SPIKES] = sum;
  ms_release(pooled);
  n->dout[OUT_POOLED] = NULL;
  return MS_OK;
}

static ms_status neuron_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const neuron_params *p = n->params;
  ms_tensor *s[SAVED_W + 1];
  gradients g = {NULL};
  ms_status st = MS_OK;
  if (!dout[OUT_SPIKES] && !dout[OUT_MEMBRANE] && !dout[OUT_POOLED])
    return MS_OK;
  if (dout[OUT_SPIKES] && (st = neuron_fold(n, err)))
    return st;
  for (int i = 0; i <= SAVED_W && !st; i++)
    st = ms_saved_get(&s[i], n, i, err);
  if (st)
    return st;
  ms_device *d = ms_tensor_device(s[SAVED_Y]);
  ms_neuron_grad_args a = {.fwd = row_args(p, s[SAVED_Y], s[SAVED_A], s[SAVED_B], s[SAVED_R], s[SAVED_V0], s[SAVED_W]),
                           .mean = ms_reals(s[SAVED_MEAN]),
                           .invstd = ms_reals(s[SAVED_INVSTD]),
                           .norm_gain = MS_R(p->norm_gain),
                           .norm_training = p->norm_training};
  ms_neuron_args plain = a.fwd;
  if ((st = upstream(&g, &a, p, dout, err)) || (st = allocate(&g, n, d, s[SAVED_Y], s[SAVED_R], err)) ||
      (p->surrogate.call && (st = call_surrogate(&g.surrogate, p, plain, d, err))))
    goto done;
  a.gs = ms_dense_data(g.gs);
  a.gv = ms_reals(g.gv);
  a.surrogate = ms_reals(g.surrogate);
  a.dy = ms_dense_data(g.dy);
  a.dr = ms_dense_data(g.dr);
  a.dv0 = ms_reals(g.dv0);
  a.dw = ms_reals(g.dw);
  a.dgamma = ms_reals(g.dgamma);
  a.dbeta = ms_reals(g.dbeta);
  if (!(st = ms_row(d, d->k->neuron_grad(d->stream, &a), "neuron", err)))
    st = deliver(din, &g, n, s[SAVED_W], err);
done:;
  ms_tensor *held[] = {g.gs, g.gv, g.surrogate, g.dy, g.dr, g.dv0, g.dw, g.dgamma, g.dbeta};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  return st;
}

static const ms_op op_neuron = {"neuron", neuron_backward};

/* ---- forward ---- */
static void params_free(void *params) {
  neuron_params *p = params;
  if (p && p->surrogate.release)
    p->surrogate.release(p->surrogate.ud);
  ms_free(p);
}

static ms_status record(const layer *l, ms_tensor *s, ms_tensor *v, const ms_neuron_opts *o, ms_error *err) {
  ms_node *n;
  ms_tensor *out[2] = {s, v};
  ms_status st = ms_record(&n, &op_neuron, INPUTS, l->in, 2, out, err);
  if (st || !n)
    return st;
  if ((st = ms_keep(n, &l->p, sizeof l->p, err)))
    return st;
  if (o->surrogate) {
    ((neuron_params *)n->params)->surrogate = *o->surrogate;
    n->params_free = params_free;
    if (o->surrogate_retain)
      o->surrogate_retain(o->surrogate->ud);
  }
  if (l->lazy &&
      ((st = ms_save(n, SAVED_A, l->lazy->a, err)) || (st = ms_save(n, SAVED_B, l->lazy->b, err)) ||
       (st = ms_save(n, SAVED_MEAN, l->lazy->mean, err)) || (st = ms_save(n, SAVED_INVSTD, l->lazy->invstd, err))))
    return st;
  if ((st = ms_save(n, SAVED_Y, l->y, err)) || (st = ms_save_spikes(n, SAVED_R, l->r, err)) ||
      (st = ms_save(n, SAVED_V0, l->v0, err)))
    return st;
  return ms_save(n, SAVED_W, l->w, err);
}

static ms_neuron_report report_of(const layer *l, const ms_tensor *x) {
  if (l->lazy)
    return (ms_neuron_report){l->r ? 2 : 1, ""};
  return (ms_neuron_report){0, !ms_fusion() ? "fusion is switched off"
                               : x->lazy    ? "the normalised values were written in place"
                                            : "the input is not a normalisation"};
}

/* The surrogate's derivative is zero away from the threshold. */
static int is_narrow(const ms_neuron_opts *o) {
  int kind = o->p.surrogate;
  return !o->surrogate &&
         (kind == MS_SURROGATE_TRIANGLE || kind == MS_SURROGATE_RECTANGLE || kind == MS_SURROGATE_QGATE);
}

ms_status ms_neuron_forward(ms_tensor **spikes, ms_tensor **v, ms_tensor **counts, ms_tensor *x, ms_tensor *v0,
                            ms_tensor *w, const ms_neuron_opts *o, ms_neuron_report *report, ms_error *err) {
  layer l;
  ms_status st = prepare(&l, x, v0, w, o, err);
  if (st)
    return st;
  ms_tensor *s = NULL, *last = NULL, *sums = NULL;
  ms_spikes *r = NULL;
  ms_neuron_args sizes = row_args(&l.p, NULL, NULL, NULL, NULL, NULL, NULL);
  ms_tensor *in[MS_FIRE_INPUTS] = {l.y, l.lazy ? l.lazy->a : NULL, l.lazy ? l.lazy->b : NULL, l.r, l.v0, l.w};
  if ((st = ms_spikes_new(&r, &sizes, in, x->ndim, x->size, is_narrow(o), err)))
    goto done;
  if ((st = ms_spikes_tensor(&s, r, MS_PART_SPIKES, err)) ||
      (v && (st = ms_spikes_tensor(&last, r, MS_PART_MEMBRANE, err))) ||
      (counts && (st = ms_spikes_tensor(&sums, r, MS_PART_COUNTS, err))) ||
      (!ms_fusion() && (st = ms_spikes_compute(r, err))) || (st = record(&l, s, last, o, err)))
    goto done;
  if (report)
    *report = report_of(&l, x);
  *spikes = s;
  if (v)
    *v = last;
  if (counts)
    *counts = sums;
  s = last = sums = NULL;
done:
  if (r)
    ms_spikes_release(r);
  ms_release(s);
  ms_release(last);
  ms_release(sums);
  layer_free(&l);
  return st;
}

ms_status ms_neuron_pool(ms_tensor **out, ms_tensor *x, const char **why, ms_error *err) {
  int records = ms_records(1, &x);
  *out = NULL;
  if (records && (!x->node || x->node->op != &op_neuron || x->output != OUT_SPIKES)) {
    *why = x->spikes ? "the spikes are cut off from their neuron" : "the input is not a neuron's spikes";
    return MS_OK;
  }
  ms_status st = ms_spikes_pool(out, x, why, err);
  if (!st && *out && records) {
    (*out)->node = x->node;
    x->node->refs++;
    x->node->fold = neuron_fold;
    (*out)->output = OUT_POOLED;
    (*out)->requires_grad = 1;
  }
  return st;
}

int ms_is_fired(const ms_tensor *x) {
  return x->node && x->node->op == &op_neuron && x->output == OUT_SPIKES;
}

ms_status ms_neuron_membrane(ms_tensor **h, ms_tensor *x, ms_tensor *v0, ms_tensor *w, const ms_neuron_opts *o,
                             ms_error *err) {
  layer l;
  ms_status st = prepare(&l, x, v0, w, o, err);
  if (st)
    return st;
  ms_tensor *membrane = NULL;
  ms_device *d = ms_tensor_device(x);
  if (!(st = ms_tensor_new(&membrane, d, MS_F32, x->ndim, x->size, err))) {
    ms_neuron_args a = layer_args(&l);
    a.h = ms_reals(membrane);
    st = ms_row(d, d->k->neuron(d->stream, &a), "neuron", err);
  }
  layer_free(&l);
  return ms_give(h, membrane, st);
}
