/* Batch normalisation. Statistics are taken at once; the result stays lazy until something other than a neuron
** reads it. */
#include "../spikes.h"
#include "nn.h"

static int fusion = 1;

int ms_set_fusion(int on) {
  int was = fusion;
  fusion = on != 0;
  return was;
}

int ms_fusion(void) {
  return fusion;
}

/* ---- the lazy record ---- */
ms_lazy *ms_lazy_retain(ms_lazy *l) {
  l->refs++;
  return l;
}

void ms_lazy_release(ms_lazy *l) {
  if (!l || --l->refs)
    return;
  ms_tensor *held[] = {l->y, l->gamma, l->beta, l->a, l->b, l->mean, l->invstd, l->r};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  ms_free(l);
}

static ms_tensor *retain_or_null(ms_tensor *t) {
  return t ? ms_retain(t) : NULL;
}

/* A residual that is lazy itself has no memory, so nobody can have written it. */
static uint32_t version_of(const ms_tensor *t) {
  return t ? ms_version_of(t) : 0;
}

ms_lazy *ms_lazy_of(const ms_tensor *t) {
  return t->lazy && (!t->storage || t->storage->version == 0) ? t->lazy : NULL;
}

ms_status ms_lazy_check(const ms_lazy *l, ms_error *err) {
  const ms_tensor *bad = version_of(l->y) != l->y_version ? l->y : version_of(l->r) != l->r_version ? l->r : NULL;
  if (!bad)
    return MS_OK;
  return ms_fail(
      err, MS_EGRAPH,
      "batch_norm: %s was written in place by %s before the normalised values were read; read them first, or "
      "write to a clone",
      bad == l->y ? "its input" : "the residual added to its result", ms_writer_of(bad));
}

/* A tensor of this shape without memory; takes l over on success. */
static ms_status lazy_tensor(ms_tensor **out, ms_lazy *l, int ndim, const int64_t *size, ms_error *err) {
  int64_t stride[MS_MAX_DIMS];
  ms_tensor *t;
  ms_default_strides(ndim, size, stride);
  ms_status st = ms_tensor_alias(&t, l->y, ndim, size, stride, 0, err);
  if (st)
    return st;
  ms_storage_release(t->storage);
  t->storage = NULL;
  t->dtype = MS_F32;
  t->scale = 1;
  t->density = -1;
  t->nonleaf_view = 0;
  t->lazy = l;
  *out = t;
  return MS_OK;
}

ms_status ms_lazy_materialise(ms_tensor *t, ms_error *err) {
  ms_lazy *l = t->lazy;
  if (t->storage || !l)
    return MS_OK;
  ms_status st = ms_lazy_check(l, err);
  if (st)
    return st;
  int64_t size[MS_MAX_DIMS], rows = ms_numel(l->y) / (l->c ? l->c : 1), step = rows * l->c;
  int repeated = l->repeat > 1 && !l->r; /* a static result lies in memory once */
  ms_tensor *y = NULL, *r = NULL;
  ms_device *d = ms_tensor_device(l->y);
  for (int i = 0; i < t->ndim; i++)
    size[i] = repeated && i == 0 ? 1 : t->size[i];
  if ((st = ms_tensor_new(&y, d, MS_F32, t->ndim, size, err)))
    return st;
  if (l->r && (st = ms_dense(&r, l->r, -1, err)))
    goto done;
  ms_affine f = {ms_reals(l->a), ms_reals(l->b)};
  int64_t steps = l->r ? l->repeat : 1;
  st = d->k->norm_apply(d->stream, steps, rows, l->c, ms_dense_data(l->y), 0, f, ms_dense_data(r), step,
                        ms_dense_data(y));
  if ((st = ms_row(d, st, "batch_norm", err)))
    goto done;
  if (!t->storage) { /* an allocation may have run Lua finalizers, and those may have read t */
    t->storage = ms_storage_retain(y->storage);
    t->offset = 0;
    for (int i = 0; i < t->ndim; i++)
      t->stride[i] = repeated && i == 0 ? 0 : y->stride[i];
  }
done:
  ms_release(y);
  ms_release(r);
  return st;
}

/* ---- batch_norm ---- */
typedef struct norm_params {
  int64_t rows, c, repeat;
  double gain;
  int training;
} norm_params;

enum { SAVED_Y, SAVED_GAMMA, SAVED_MEAN, SAVED_INVSTD };

static ms_status norm_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const norm_params *p = n->params;
  ms_tensor *y, *gamma, *mean, *invstd, *g = NULL, *dx = NULL, *dgamma = NULL, *dbeta = NULL;
  ms_status st;
  if (!dout[0])
    return MS_OK;
  if ((st = ms_saved_get(&y, n, SAVED_Y, err)) || (st = ms_saved_get(&gamma, n, SAVED_GAMMA, err)) ||
      (st = ms_saved_get(&mean, n, SAVED_MEAN, err)) || (st = ms_saved_get(&invstd, n, SAVED_INVSTD, err)) ||
      (st = ms_dense(&g, dout[0], dout[0]->dtype == MS_BF16 ? MS_BF16 : MS_F32, err)))
    return st;
  ms_device *d = ms_tensor_device(y);
  if ((ms_wants(n, 0) && (st = ms_tensor_new(&dx, d, y->dtype, y->ndim, y->size, err))) ||
      (ms_wants(n, 1) && (st = ms_new_gradient(&dgamma, n, 1, d, 1, &p->c, p->rows, err))) ||
      (ms_wants(n, 2) && (st = ms_new_gradient(&dbeta, n, 2, d, 1, &p->c, p->rows, err))))
    goto done;
  ms_norm_grad a = {.rows = p->rows,
                    .c = p->c,
                    .repeat = p->repeat,
                    .x = ms_dense_data(y),
                    .g = ms_dense_data(g),
                    .dx = ms_dense_data(dx),
                    .gamma = ms_reals(gamma),
                    .mean = ms_reals(mean),
                    .invstd = ms_reals(invstd),
                    .gain = MS_R(p->gain),
                    .training = p->training,
                    .dgamma = ms_reals(dgamma),
                    .dbeta = ms_reals(dbeta)};
  if ((st = ms_row(d, d->k->norm_grad(d->stream, &a), "batch_norm", err)))
    goto done;
  din[0] = dx;
  din[1] = dgamma;
  din[2] = dbeta;
  dx = dgamma = dbeta = NULL;
done:
  ms_release(g);
  ms_release(dx);
  ms_release(dgamma);
  ms_release(dbeta);
  return st;
}

static const ms_op op_batch_norm = {"batch_norm", norm_backward};

static ms_status record(ms_tensor *out, const ms_lazy *l, ms_tensor *gamma, int64_t rows, ms_error *err) {
  ms_node *n;
  ms_tensor *in[3] = {l->y, l->gamma, l->beta};
  ms_status st = ms_record(&n, &op_batch_norm, 3, in, 1, &out, err);
  if (st || !n)
    return st;
  norm_params p = {rows, l->c, l->repeat, l->gain, l->training};
  if ((st = ms_keep(n, &p, sizeof p, err)) || (st = ms_save(n, SAVED_Y, l->y, err)) ||
      (st = ms_save(n, SAVED_GAMMA, gamma, err)) || (st = ms_save(n, SAVED_MEAN, l->mean, err)))
    return st;
  return ms_save(n, SAVED_INVSTD, l->invstd, err);
}

static ms_status check(const ms_tensor *x, const ms_tensor *gamma, const ms_tensor *beta, const ms_tensor *rmean,
                       const ms_tensor *rvar, const ms_norm_opts *o, ms_error *err) {
  if (x->ndim < 2 || x->ndim > 5)
    return ms_fail(err, MS_ESHAPE, "batch_norm: x: expected [N, C], [T, N, C], [N, C, H, W] or [T, N, C, H, W], got %s",
                   ms_tensor_text(x).s);
  const ms_device *d = ms_tensor_device(x);
  int64_t c = x->size[ms_channel_dim(x->ndim)], n = ms_numel(x);
  ms_status st;
  if ((st = ms_expect_float("batch_norm", "x", x, err)) ||
      (st = ms_expect_vector("batch_norm", "gamma", gamma, c, d, err)) ||
      (st = ms_expect_vector("batch_norm", "beta", beta, c, d, err)) ||
      (st = ms_expect_vector("batch_norm", "running_mean", rmean, c, d, err)) ||
      (st = ms_expect_vector("batch_norm", "running_var", rvar, c, d, err)))
    return st;
  if (!rmean != !rvar)
    return ms_fail(err, MS_EINVAL, "batch_norm: expected both running_mean and running_var, or neither");
  if ((rmean && !ms_is_default(rmean)) || (rvar && !ms_is_default(rvar)))
    return ms_fail(err, MS_EINVAL, "batch_norm: running statistics: expected contiguous tensors");
  if (o->batches && (o->batches->dtype != MS_I64 || ms_numel(o->batches) != 1 || ms_tensor_device(o->batches) != d))
    return ms_fail(err, MS_ETYPE, "batch_norm: batches: expected one int64 element on %s, got %s", d->name,
                   ms_tensor_text(o->batches).s);
  if (!(o->eps >= 0) || !(o->momentum >= 0 && o->momentum <= 1))
    return ms_fail(err, MS_ERANGE, "batch_norm: expected eps >= 0 and momentum in [0, 1], got %g and %g", o->eps,
                   o->momentum);
  if (o->training && n <= c)
    return ms_fail(err, MS_ESHAPE, "batch_norm: x: expected more than 1 value per channel when training, got %s",
                   ms_tensor_text(x).s);
  return MS_OK;
}

/* y: x (or what x repeats), dense, float32 or bfloat16, still connected to the graph. */
static ms_status normalised_input(ms_tensor **out, ms_tensor *x, ms_error *err) {
  ms_tensor *from = x->source ? x->source : x, *real = NULL;
  ms_status st = ms_to(&real, from, NULL, from->dtype == MS_SPIKE ? MS_F32 : -1, err);
  if (!st)
    st = ms_contiguous(out, real, err);
  ms_release(real);
  return st;
}

static ms_status statistics(ms_lazy *l, ms_tensor *gamma, ms_tensor *beta, ms_tensor *rmean, ms_tensor *rvar,
                            int64_t rows, const ms_norm_opts *o, ms_error *err) {
  ms_device *d = ms_tensor_device(l->y);
  ms_status st;
  if (o->training && rmean &&
      ((st = ms_begin_write(rmean, "batch_norm", err)) || (st = ms_begin_write(rvar, "batch_norm", err))))
    return st;
  if (o->training && o->batches && (st = ms_begin_write(o->batches, "batch_norm", err)))
    return st;
  ms_norm a = {.rows = rows,
               .c = l->c,
               .repeat = l->repeat,
               .x = ms_dense_data(l->y),
               .gamma = ms_reals(gamma),
               .beta = ms_reals(beta),
               .gain = MS_R(o->gain),
               .eps = MS_R(o->eps),
               .momentum = MS_R(o->momentum),
               .training = l->training,
               .running_mean = ms_reals(rmean),
               .running_var = ms_reals(rvar),
               .batches = o->training && o->batches ? ms_memory_of(o->batches) : NULL,
               .mean = ms_reals(l->mean),
               .invstd = ms_reals(l->invstd),
               .a = ms_reals(l->a),
               .b = ms_reals(l->b)};
  return ms_row(d, d->k->norm_stats(d->stream, &a), "batch_norm", err);
}

ms_status ms_batch_norm(ms_tensor **out, ms_tensor *x, ms_tensor *gamma, ms_tensor *beta, ms_tensor *running_mean,
                        ms_tensor *running_var, ms_norm_opts o, ms_error *err) {
  ms_status st = check(x, gamma, beta, running_mean, running_var, &o, err);
  if (st)
    return st;
  ms_tensor *t = NULL, *gd = NULL, *bd = NULL;
  ms_lazy *l = ms_alloc(sizeof *l);
  if (!l)
    return ms_fail(err, MS_EMEM, "batch_norm: out of memory");
  l->refs = 1;
  l->c = x->size[ms_channel_dim(x->ndim)];
  l->repeat = x->source ? x->size[0] : 1;
  l->gain = o.gain;
  l->training = o.training || !running_mean; /* without running statistics those of the batch are used */
  ms_device *d = ms_tensor_device(x);
  if ((st = normalised_input(&l->y, x, err)) || (gamma && (st = ms_dense(&gd, gamma, -1, err))) ||
      (beta && (st = ms_dense(&bd, beta, -1, err))) || (st = ms_tensor_new(&l->a, d, MS_F32, 1, &l->c, err)) ||
      (st = ms_tensor_new(&l->b, d, MS_F32, 1, &l->c, err)) ||
      (st = ms_tensor_new(&l->mean, d, MS_F32, 1, &l->c, err)) ||
      (st = ms_tensor_new(&l->invstd, d, MS_F32, 1, &l->c, err)))
    goto done;
  int64_t rows = l->c ? ms_numel(l->y) / l->c : 0;
  l->gamma = retain_or_null(gamma);
  l->beta = retain_or_null(beta);
  l->y_version = version_of(l->y);
  if ((st = lazy_tensor(&t, l, x->ndim, x->size, err)))
    goto done;
  ms_lazy_retain(l); /* t has taken the first reference */
  if ((st = record(t, l, gd, rows, err)) || (st = statistics(l, gd, bd, running_mean, running_var, rows, &o, err)))
    goto done;
  if (!fusion) {
    if ((st = ms_lazy_materialise(t, err)))
      goto done;
    t->lazy = NULL;
    ms_lazy_release(l);
  }
  *out = t;
  t = NULL;
done:
  ms_release(t);
  ms_release(gd);
  ms_release(bd);
  ms_lazy_release(l);
  return st;
}

/* ---- the residual add in front of a neuron ---- */
static ms_status add_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  (void)err;
  for (int i = 0; i < 2 && dout[0]; i++)
    din[i] = ms_wants(n, i) ? ms_retain(dout[0]) : NULL;
  return MS_OK;
}

static const ms_op op_add = {"add", add_backward};

ms_status ms_lazy_add(ms_tensor **out, ms_tensor *x, ms_tensor *r, ms_error *err) {
  const ms_lazy *from = x->lazy;
  *out = NULL;
  if (!fusion || !from || x->storage || from->r || x == r || !ms_is_float(r->dtype) || !ms_same_shape(x, r) ||
      ms_tensor_device(x) != ms_tensor_device(r))
    return MS_OK;
  ms_tensor *t = NULL, *in[2] = {x, r};
  ms_lazy *l = ms_alloc(sizeof *l);
  if (!l)
    return ms_fail(err, MS_EMEM, "add: out of memory");
  *l = *from;
  l->refs = 1;
  l->r = r;
  l->r_version = version_of(r);
  ms_tensor *held[] = {l->y, l->gamma, l->beta, l->a, l->b, l->mean, l->invstd, l->r};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    retain_or_null(held[i]);
  ms_status st = lazy_tensor(&t, l, x->ndim, x->size, err);
  if (st) {
    ms_lazy_release(l);
    return st;
  }
  if ((st = ms_record(NULL, &op_add, 2, in, 1, &t, err)))
    ms_release(t);
  else
    *out = t;
  return st;
}
