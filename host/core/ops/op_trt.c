/* TRT's regulariser (arXiv 2506.19256, Eq. 13 and 14). One pass over the arenas gives the value. Backward leaves a
** pending term on each parameter, which the optimizer takes in; under ms_grad_of it computes the gradient itself. */
#include "../params.h"
#include "nn.h"

/* Parameters of one node; input 0 is the node before, so that any number of parameters has an edge. */
#define PARAMS (MS_NODE_INPUTS - 1)

static const char *const name = "trt";

typedef struct trt_params {
  ms_trt trt; /* 1/T is in lambda */
  int last;   /* the node whose output is the value; a gradient reaches the others through it alone */
} trt_params;

/* scale * dR/dw of a parameter in memory of its own. */
static ms_status gradient(ms_tensor **out, ms_tensor *w, const ms_trt *trt, const ms_tensor *scale, ms_error *err) {
  ms_tensor *g;
  ms_device *d = ms_tensor_device(w);
  ms_status st = ms_tensor_new(&g, d, MS_F32, w->ndim, w->size, err);
  if (st)
    return st;
  ms_range range = {.n = ms_numel(w), .regularised = 1, .reg_scale = ms_reals(scale), .no_grad = 1};
  ms_optim_args a = {.param = ms_reals(w), .grad = ms_reals(g), .ranges = &range, .nranges = 1, .trt = *trt};
  return ms_give(out, g, ms_row(d, d->k->trt_grad(d->stream, &a), name, err));
}

/* The scale outlives this backward: a copy on the device, since whoever gave the gradient may write to it again. */
static ms_status keep_scale(ms_tensor **out, ms_tensor *g, ms_error *err) {
  ms_tensor *scale;
  ms_status st = ms_tensor_new(&scale, ms_tensor_device(g), MS_F32, 0, NULL, err);
  return st ? st : ms_give(out, scale, ms_copy_(scale, g, err));
}

static ms_status trt_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const trt_params *p = n->params;
  ms_scale_total same = {NULL, NULL};
  ms_tensor *scale;
  ms_status st = MS_OK;
  if (!dout[0])
    return MS_OK;
  if (!p->last)
    scale = ms_retain(dout[0]);
  else if ((st = keep_scale(&scale, dout[0], err)))
    return st;
  for (int i = 1; i < n->nin && !st; i++) {
    ms_tensor *w;
    if (!n->in[i].leaf || (st = ms_saved_get(&w, n, i, err)))
      continue;
    if (ms_grad_collecting())
      st = gradient(&din[i], w, &p->trt, scale, err);
    else
      st = ms_pending_set(n->in[i].leaf, &p->trt, scale, &same, err);
  }
  if (!st && ms_wants(n, 0))
    din[0] = ms_retain(scale);
  ms_release(scale);
  ms_release(same.before);
  ms_release(same.total);
  return st;
}

static const ms_op op_trt = {"trt", trt_backward};

/* Records value as a chain of nodes over the parameters that require grad; trt as in trt_params. */
static ms_status record(ms_tensor *value, int n, ms_tensor *const *params, const ms_trt *trt, ms_error *err) {
  ms_tensor *before = NULL;
  ms_status st = MS_OK;
  trt_params p = {.trt = *trt};
  for (int done = 0; done < n && !st;) {
    ms_tensor *in[MS_NODE_INPUTS] = {before}, *link = NULL;
    ms_node *node = NULL;
    int k = 1;
    for (; done < n && k <= PARAMS; done++)
      if (params[done]->requires_grad)
        in[k++] = params[done];
    st = done < n ? ms_tensor_alias(&link, value, 0, NULL, NULL, value->offset, err) : MS_OK;
    if (!st && done == n)
      link = ms_retain(value);
    if (!st)
      st = ms_record(&node, &op_trt, k, in, 1, &link, err);
    p.last = done == n;
    if (!st)
      st = ms_keep(node, &p, sizeof p, err);
    for (int i = 1; i < k && node && !st; i++)
      st = ms_save(node, i, in[i], err);
    ms_release(before);
    before = link;
  }
  ms_release(before);
  return st;
}

/* Adds the sums of the parameters that share params[first]'s arena to *sums. */
static ms_status add_arena(ms_tensor **sums, int n, ms_tensor *const *params, int first, char *counted,
                           ms_range *ranges, const ms_trt *trt, ms_error *err) {
  int64_t offset, size = 1 + trt->steps;
  ms_arena *arena = ms_arena_of(params[first], &offset);
  ms_tensor *part;
  ms_real *base;
  int nranges = 0;
  for (int i = first; i < n; i++) {
    if (counted[i] || ms_arena_of(params[i], &offset) != arena)
      continue;
    counted[i] = 1;
    ranges[nranges++] = (ms_range){.offset = offset, .n = ms_numel(params[i])};
  }
  ms_device *d = ms_tensor_device(params[first]);
  ms_status st = ms_arena_base(&base, NULL, arena, err);
  if (st || (st = ms_tensor_new(&part, d, MS_F32, 1, &size, err)))
    return st;
  st = ms_row(d, d->k->trt_value(d->stream, base, ranges, nranges, *trt, ms_reals(part)), name, err);
  if (!st && *sums)
    st = ms_axpy_(*sums, 1, 1, part, err);
  else if (!st)
    *sums = ms_retain(part);
  ms_release(part);
  return st;
}

static ms_status sum_values(ms_tensor **sums, int n, ms_tensor *const *params, const ms_trt *trt, ms_error *err) {
  ms_range *ranges = ms_alloc((size_t)n * sizeof *ranges);
  char *counted = ms_alloc((size_t)n);
  ms_status st = ranges && counted ? MS_OK : ms_fail(err, MS_EMEM, "%s: out of memory", name);
  *sums = NULL;
  for (int i = 0; i < n && !st; i++)
    if (!counted[i])
      st = add_arena(sums, n, params, i, counted, ranges, trt, err);
  ms_free(ranges);
  ms_free(counted);
  return st;
}

/* Memory that several of params[] share counts once. */
static int distinct(ms_tensor **out, int n, ms_tensor *const *params) {
  int count = 0;
  for (int i = 0; i < n; i++) {
    int k = 0;
    while (k < count && out[k]->storage != params[i]->storage)
      k++;
    if (k == count)
      out[count++] = params[i];
  }
  return count;
}

static ms_status settings(ms_trt *trt, int n, ms_tensor *const *params, const ms_trt_opts *o, ms_error *err) {
  if (n < 1)
    return ms_fail(err, MS_EINVAL, "%s: params: expected at least one tensor", name);
  if (o->steps < 1 || o->steps > MS_TRT_STEPS)
    return ms_fail(err, MS_ERANGE, "%s: T: expected 1 to %d steps, got %d", name, MS_TRT_STEPS, o->steps);
  if (!(o->eps >= 0) || !isfinite(o->delta) || !isfinite(o->lambda))
    return ms_fail(err, MS_ERANGE, "%s: expected finite lambda and delta and epsilon >= 0, got %g, %g, %g", name,
                   o->lambda, o->delta, o->eps);
  for (int i = 1; i < n; i++)
    if (ms_tensor_device(params[i]) != ms_tensor_device(params[0]))
      return ms_fail(err, MS_EDEVICE, "%s: params: expected tensors of one device, got %s and %s", name,
                     ms_tensor_device(params[0])->name, ms_tensor_device(params[i])->name);
  *trt = (ms_trt){.steps = o->steps, .lambda = MS_R(o->lambda), .eps = MS_R(o->eps)};
  for (int i = 0; i < o->steps; i++)
    trt->c[i] = MS_R(expm1(o->delta * (o->t0 + i)));
  return MS_OK;
}

ms_status ms_trt_regulariser(ms_tensor **value, ms_tensor **each, int n, ms_tensor *const *params, ms_trt_opts o,
                             ms_error *err) {
  ms_trt trt;
  ms_tensor *sums = NULL, *total = NULL, *result = NULL, *steps = NULL;
  int64_t size = o.steps, stride = 1;
  ms_status st = settings(&trt, n, params, &o, err);
  if (st || (st = ms_gather_params(n, params, err)))
    return st;
  ms_tensor **once = ms_alloc((size_t)n * sizeof *once);
  if (!once)
    return ms_fail(err, MS_EMEM, "%s: out of memory", name);
  n = distinct(once, n, params);
  int was = ms_set_grad_enabled(0);
  if (!(st = sum_values(&sums, n, once, &trt, err)) && !(st = ms_tensor_alias(&total, sums, 0, NULL, NULL, 0, err)) &&
      !(st = ms_binary_scalar(&result, MS_BINARY_div, total, o.steps, 0, err)) && each)
    st = ms_tensor_alias(&steps, sums, 1, &size, &stride, 1, err);
  ms_set_grad_enabled(was);
  trt.lambda = MS_R(o.lambda / o.steps);
  if (!st)
    st = record(result, n, once, &trt, err);
  ms_free(once);
  if (!st) {
    *value = ms_retain(result);
    if (each)
      *each = ms_retain(steps);
  }
  ms_release(sums);
  ms_release(total);
  ms_release(result);
  ms_release(steps);
  return st;
}
