#include "nn.h"

typedef struct dropout_params {
  double p;
  ms_philox_key key;
} dropout_params;

/* x times the mask of `key`; drawn again in backward, so nothing is saved. */
static ms_status apply(ms_tensor **out, ms_tensor *x, const dropout_params *p, ms_error *err) {
  ms_tensor *mask;
  double keep = 1 - p->p;
  ms_status st = ms_random(&mask, ms_tensor_device(x), MS_F32, x->ndim, x->size, MS_RANDOM_BERNOULLI, keep,
                           keep > 0 ? 1 / keep : 0, p->key, err);
  if (st)
    return st;
  st = ms_binary(out, MS_BINARY_mul, x, mask, err);
  ms_release(mask);
  return st;
}

static ms_status dropout_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  return dout[0] ? apply(&din[0], dout[0], n->params, err) : MS_OK;
}

static const ms_op op_dropout = {"dropout", dropout_backward};

ms_status ms_dropout(ms_tensor **out, ms_tensor *x, double p, ms_philox_key key, ms_error *err) {
  dropout_params params = {p, key};
  ms_tensor *y;
  ms_node *n;
  ms_status st = ms_expect_float("dropout", "x", x, err);
  if (st)
    return st;
  if (!(p >= 0 && p <= 1))
    return ms_fail(err, MS_ERANGE, "dropout: p: expected a probability in [0, 1], got %g", p);
  if (p == 0) {
    *out = ms_retain(x);
    return MS_OK;
  }
  int was = ms_set_grad_enabled(0);
  st = apply(&y, x, &params, err);
  ms_set_grad_enabled(was);
  if (st)
    return st;
  st = ms_record(&n, &op_dropout, 1, &x, 1, &y, err);
  if (!st)
    st = ms_keep(n, &params, sizeof params, err);
  return ms_give(out, y, st);
}
