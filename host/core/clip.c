/* Clipping of gradients. */
#include "ops.h"
#include "params.h"

/* Adds the squares of g's elements to *sum. */
static ms_status add_squares(ms_tensor **sum, ms_tensor *g, ms_error *err) {
  ms_tensor *square = NULL, *total = NULL;
  ms_status st;
  if (!(st = ms_unary(&square, MS_UNARY_square, g, err)) &&
      !(st = ms_reduce(&total, MS_REDUCE_sum, square, 0, 0, err))) {
    if (*sum)
      st = ms_axpy_(*sum, 1, 1, total, err);
    else
      *sum = ms_retain(total);
  }
  ms_release(square);
  ms_release(total);
  return st;
}

/* params[i] named again, or another tensor over the same memory with the same gradient. */
static int seen_before(int i, ms_tensor *const *params) {
  for (int k = 0; k < i; k++)
    if (params[k] == params[i])
      return 1;
  return 0;
}

/* min(1, max_norm / (norm + 1e-6)) */
static ms_status factor_of(ms_tensor **out, ms_tensor *norm, double max_norm, ms_error *err) {
  ms_tensor *sum = NULL, *ratio = NULL;
  ms_status st = ms_binary_scalar(&sum, MS_BINARY_add, norm, 1e-6, 0, err);
  if (!st)
    st = ms_binary_scalar(&ratio, MS_BINARY_div, sum, max_norm, 1, err);
  if (!st)
    st = ms_clamp(out, ratio, 0, 1, err);
  ms_release(sum);
  ms_release(ratio);
  return st;
}

ms_status ms_clip_grad_norm(ms_tensor **norm, int n, ms_tensor *const *params, double max_norm, ms_error *err) {
  ms_tensor *sum = NULL, *total = NULL, *factor = NULL, *g;
  ms_status st = MS_OK;
  if (!(max_norm >= 0))
    return ms_fail(err, MS_ERANGE, "clip_grad_norm: max_norm: expected a number >= 0, got %g", max_norm);
  int was = ms_set_grad_enabled(0);
  for (int i = 0; i < n && !st; i++)
    if (!(st = ms_grad(&g, params[i], err)) && g && !seen_before(i, params))
      st = add_squares(&sum, g, err);
  if (!st && !sum)
    st = ms_full(&sum, ms_device_current(), MS_F32, 0, NULL, 0, err);
  if (!st && !(st = ms_unary(&total, MS_UNARY_sqrt, sum, err)))
    st = factor_of(&factor, total, max_norm, err);
  for (int i = 0; i < n && !st; i++)
    if (params[i]->grad && !seen_before(i, params))
      st = ms_binary_(params[i]->grad, MS_BINARY_mul, factor, err);
  ms_set_grad_enabled(was);
  ms_release(sum);
  ms_release(factor);
  if (st)
    ms_release(total);
  else
    *norm = total;
  return st;
}

static ms_status clamp_(ms_tensor *g, double limit, ms_error *err) {
  ms_tensor *clamped;
  ms_status st = ms_clamp(&clamped, g, -limit, limit, err);
  if (st)
    return st;
  st = ms_copy_(g, clamped, err);
  ms_release(clamped);
  return st;
}

ms_status ms_clip_grad_value(int n, ms_tensor *const *params, double limit, ms_error *err) {
  ms_tensor *g;
  ms_status st = MS_OK;
  if (!(limit >= 0))
    return ms_fail(err, MS_ERANGE, "clip_grad_value: limit: expected a number >= 0, got %g", limit);
  int was = ms_set_grad_enabled(0);
  for (int i = 0; i < n && !st; i++)
    if (!(st = ms_grad(&g, params[i], err)) && g)
      st = clamp_(g, limit, err);
  ms_set_grad_enabled(was);
  return st;
}
