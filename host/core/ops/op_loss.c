/* Classification losses: value, gradient and hits come from one row; backward only scales the gradient. */
#include "../../../kernels/math/loss.h"
#include "nn.h"

static ms_status loss_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  ms_tensor *dlogits;
  ms_status st;
  if (!dout[0])
    return MS_OK;
  if ((st = ms_saved_get(&dlogits, n, 0, err)))
    return st;
  return ms_binary(&din[0], MS_BINARY_mul, dlogits, dout[0], err);
}

static const ms_op op_loss = {"classification_loss", loss_backward};

static ms_status check(const ms_tensor *logits, const ms_tensor *y, const ms_loss_opts *o, ms_error *err) {
  const char *op = "classification_loss";
  if (logits->ndim != 3 || ms_numel(logits) == 0)
    return ms_fail(err, MS_ESHAPE, "%s: logits: expected a non-empty [T, N, classes], got %s", op,
                   ms_tensor_text(logits).s);
  ms_status st = ms_expect_float(op, "logits", logits, err);
  if (st)
    return st;
  long long n = (long long)logits->size[1], classes = (long long)logits->size[2];
  if (y->dtype != MS_I64 && !(y->dtype == MS_F32 && y->ndim == 2))
    return ms_fail(err, MS_ETYPE, "%s: labels: expected int64 [%lld] or float32 [%lld, %lld], got %s%s", op, n, n,
                   classes, ms_tensor_text(y).s, y->ndim == 1 ? "; its method long() makes int64" : "");
  if (y->ndim != (y->dtype == MS_I64 ? 1 : 2) || y->size[0] != n || (y->dtype == MS_F32 && y->size[1] != classes))
    return ms_fail(err, MS_ESHAPE, "%s: labels: expected int64 [%lld] or float32 [%lld, %lld], got %s", op, n, n,
                   classes, ms_tensor_text(y).s);
  if (!(o->smooth >= 0 && o->smooth <= 1))
    return ms_fail(err, MS_ERANGE, "%s: smooth: expected a number in [0, 1], got %g", op, o->smooth);
  return ms_expect_device(op, "labels", y, ms_tensor_device(logits), err);
}

/* On the CPU only; elsewhere the next wait for the device fails. */
static ms_status check_labels(const ms_tensor *labels, const ms_tensor *correct, int64_t classes, ms_error *err) {
  if (!ms_on_cpu(ms_tensor_device(labels)) || *ms_ints(correct) != -1)
    return MS_OK;
  for (int64_t i = 0; labels->dtype == MS_I64 && i < labels->size[0]; i++) {
    int64_t y = ms_ints(labels)[i];
    if (y < 0 || y >= classes)
      return ms_fail(err, MS_ERANGE,
                     "classification_loss: labels: expected values in [0, %lld], got %lld at index %lld",
                     (long long)(classes - 1), (long long)y, (long long)i);
  }
  for (int64_t i = 0; labels->dtype == MS_F32 && i < ms_numel(labels); i++) {
    ms_real p = ms_reals(labels)[i];
    if (!ms_loss_share(p))
      return ms_fail(err, MS_ERANGE, "classification_loss: labels: expected shares >= 0, got %g at index [%lld][%lld]",
                     (double)p, (long long)(i / classes), (long long)(i % classes));
  }
  return MS_OK;
}

ms_status ms_classification_loss(ms_loss_parts *out, ms_tensor *logits, ms_tensor *labels, ms_loss_opts o,
                                 ms_error *err) {
  ms_status st = check(logits, labels, &o, err);
  if (st)
    return st;
  ms_tensor *x = NULL, *y = NULL, *scratch = NULL, *dlogits = NULL, *scalar = NULL;
  ms_loss_parts parts = {NULL, NULL, NULL};
  ms_node *n;
  ms_device *d = ms_tensor_device(logits);
  int64_t one = 1, three = 3, batch = logits->size[1], classes = logits->size[2];
  int was = ms_set_grad_enabled(0), grad = was && logits->requires_grad;
  if ((st = ms_dense(&x, logits, -1, err)) || (st = ms_dense(&y, labels, -1, err)) ||
      (st = ms_tensor_new(&parts.parts, d, MS_F32, 1, &three, err)) ||
      (st = ms_tensor_new(&parts.correct, d, MS_I64, 1, &one, err)) ||
      (st = ms_scratch(&scratch, d, (size_t)(batch * (classes + 4)) * sizeof(ms_real), err)) ||
      (grad && (st = ms_tensor_new(&dlogits, d, MS_F32, 3, logits->size, err))))
    goto done;
  ms_loss_args a = {.steps = logits->size[0],
                    .batch = batch,
                    .classes = classes,
                    .over = o.over,
                    .ce = MS_R(o.ce),
                    .mse = MS_R(o.mse),
                    .smooth = MS_R(o.smooth),
                    .phi = MS_R(o.phi),
                    .mse_onehot = o.mse_onehot,
                    .logits = ms_dense_data(x),
                    .logits_step = batch * classes,
                    .labels = y->dtype == MS_I64 ? ms_ints(y) : NULL,
                    .targets = y->dtype == MS_F32 ? ms_reals(y) : NULL,
                    .value = ms_reals(parts.parts),
                    .correct = ms_ints(parts.correct),
                    .dlogits = ms_reals(dlogits),
                    .scratch = ms_scratch_ptr(scratch)};
  if ((st = ms_row(d, d->k->loss(d->stream, &a), "classification_loss", err)) ||
      (st = check_labels(y, parts.correct, classes, err)) ||
      (st = ms_tensor_alias(&scalar, parts.parts, 0, NULL, NULL, 0, err)) || (st = ms_clone(&parts.value, scalar, err)))
    goto done;
  ms_set_grad_enabled(was);
  if ((st = ms_record(&n, &op_loss, 1, &logits, 1, &parts.value, err)) || (n && (st = ms_save(n, 0, dlogits, err))))
    goto done;
  *out = parts;
  parts = (ms_loss_parts){NULL, NULL, NULL};
done:
  ms_set_grad_enabled(was);
  ms_release(x);
  ms_release(y);
  ms_release(scratch);
  ms_release(dlogits);
  ms_release(scalar);
  ms_release(parts.value);
  ms_release(parts.parts);
  ms_release(parts.correct);
  return st;
}
