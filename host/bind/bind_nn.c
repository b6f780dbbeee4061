/* core.nn: layers, losses and clipping as functions of tensors. */
#include "bind_private.h"
#include "../core/params.h"

#include <string.h>

/* ---- convolution, linear, pooling ---- */

static ms_conv_opts check_conv(lua_State *L, int index, const char *op) {
  static const char *const keys[] = {"stride", "padding", "dilation", "groups", NULL};
  int stride[2], padding[2], dilation[2];
  ms_check_options(L, index, op, keys);
  ms_option_pair(L, index, op, "stride", 1, stride);
  ms_option_pair(L, index, op, "padding", 0, padding);
  ms_option_pair(L, index, op, "dilation", 1, dilation);
  int64_t groups = ms_option_integer(L, index, op, "groups", 1);
  if (groups < 1 || groups > INT32_MAX)
    ms_raise(L, "%s: groups: expected 1 or more, got %I", op, groups);
  return (ms_conv_opts){stride[0], stride[1], padding[0], padding[1], dilation[0], dilation[1], (int)groups};
}

static int nn_conv2d(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *w = ms_check_tensor(L, 2, "weight"), *b = ms_opt_tensor(L, 3, "bias");
  ms_conv_opts o = check_conv(L, 4, "conv2d");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_conv2d(&out->tensor, x, w, b, o, &err), &err, 1);
}

static int nn_linear(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *w = ms_check_tensor(L, 2, "weight"), *b = ms_opt_tensor(L, 3, "bias");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_linear(&out->tensor, x, w, b, &err), &err, 1);
}

static int nn_conv2d_synops(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *w = ms_check_tensor(L, 2, "weight");
  ms_conv_opts o = check_conv(L, 3, "conv2d_synops");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_conv2d_synops(&out->tensor, x, w, o, &err), &err, 1);
}

static int nn_linear_synops(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *w = ms_check_tensor(L, 2, "weight");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_linear_synops(&out->tensor, x, w, &err), &err, 1);
}

static ms_pool_opts check_pool(lua_State *L, int index, const char *op) {
  static const char *const keys[] = {"kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", NULL};
  int kernel[2], stride[2], padding[2];
  ms_check_options(L, index, op, keys);
  ms_option_pair(L, index, op, "kernel_size", 0, kernel);
  ms_option_pair(L, index, op, "stride", 0, stride);
  ms_option_pair(L, index, op, "padding", 0, padding);
  if (!lua_istable(L, index) || (kernel[0] == 0 && kernel[1] == 0))
    ms_raise(L, "%s: kernel_size: expected an integer or a table of two, got nothing", op);
  lua_getfield(L, index, "stride");
  if (lua_isnil(L, -1))
    memcpy(stride, kernel, sizeof stride);
  lua_pop(L, 1);
  int ceil_mode = ms_option_boolean(L, index, op, "ceil_mode", 0);
  int count_pad = ms_option_boolean(L, index, op, "count_include_pad", 1);
  return (ms_pool_opts){kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[1], ceil_mode, count_pad};
}

static int nn_avg_pool2d(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  ms_pool_opts o = check_pool(L, 2, "avg_pool2d");
  ms_error err;
  const char *why = "";
  ms_handle *out = ms_push_handle(L);
  ms_finish(L, ms_avg_pool2d_report(&out->tensor, x, o, &why, &err), &err, 1);
  lua_pushstring(L, why);
  return 2;
}

static int nn_max_pool2d(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  ms_pool_opts o = check_pool(L, 2, "max_pool2d");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_max_pool2d(&out->tensor, x, o, &err), &err, 1);
}

static int nn_adaptive_avg_pool2d(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  int64_t oh = ms_check_integer(L, 2, "height"), ow = ms_check_integer(L, 3, "width");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_adaptive_avg_pool2d(&out->tensor, x, oh, ow, &err), &err, 1);
}

/* ---- normalisation, dropout ---- */

static int nn_batch_norm(lua_State *L) {
  static const char *const keys[] = {"eps", "momentum", "gain", "training", "batches", NULL};
  ms_tensor *x = ms_check_tensor(L, 1, "x"), *gamma = ms_opt_tensor(L, 2, "gamma"), *beta = ms_opt_tensor(L, 3, "beta");
  ms_tensor *mean = ms_opt_tensor(L, 4, "running_mean"), *var = ms_opt_tensor(L, 5, "running_var");
  ms_norm_opts o = {0};
  ms_check_options(L, 6, "batch_norm", keys);
  o.eps = ms_option_number(L, 6, "batch_norm", "eps", 1e-5);
  o.momentum = ms_option_number(L, 6, "batch_norm", "momentum", 0.1);
  o.gain = ms_option_number(L, 6, "batch_norm", "gain", 1);
  o.training = ms_option_boolean(L, 6, "batch_norm", "training", 1);
  if (!lua_isnoneornil(L, 6) && lua_getfield(L, 6, "batches") != LUA_TNIL)
    o.batches = ms_check_tensor(L, lua_gettop(L), "batches");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_batch_norm(&out->tensor, x, gamma, beta, mean, var, o, &err), &err, 1);
}

static int nn_dropout(lua_State *L) {
  ms_tensor *x = ms_check_tensor(L, 1, "x");
  double p = ms_check_number(L, 2, "p");
  ms_philox_key key = ms_check_key(L, 3, "key");
  ms_error err;
  ms_handle *out = ms_push_handle(L);
  return ms_finish(L, ms_dropout(&out->tensor, x, p, key, &err), &err, 1);
}

static int nn_set_fusion(lua_State *L) {
  luaL_checktype(L, 1, LUA_TBOOLEAN);
  lua_pushboolean(L, ms_set_fusion(lua_toboolean(L, 1)));
  return 1;
}

/* ---- losses ---- */

static int nn_classification_loss(lua_State *L) {
  static const char *const keys[] = {"over", "ce", "mse", "smooth", "phi", "onehot", NULL};
  static const char *const over[] = {"each", "mean", "last", NULL};
  static const char op[] = "classification_loss";
  ms_tensor *logits = ms_check_tensor(L, 1, "logits"), *labels = ms_check_tensor(L, 2, "labels");
  ms_loss_opts o = {0};
  ms_check_options(L, 3, op, keys);
  o.over = (ms_loss_over)ms_option_enum(L, 3, op, "over", MS_LOSS_EACH, over);
  o.ce = ms_option_number(L, 3, op, "ce", 1);
  o.mse = ms_option_number(L, 3, op, "mse", 0);
  o.smooth = ms_option_number(L, 3, op, "smooth", 0);
  o.phi = ms_option_number(L, 3, op, "phi", 1);
  o.mse_onehot = ms_option_boolean(L, 3, op, "onehot", 0);
  ms_error err;
  ms_handle *value = ms_push_handle(L), *parts = ms_push_handle(L), *correct = ms_push_handle(L);
  ms_loss_parts out = {NULL, NULL, NULL};
  ms_status status = ms_classification_loss(&out, logits, labels, o, &err);
  value->tensor = out.value, parts->tensor = out.parts, correct->tensor = out.correct;
  return ms_finish(L, status, &err, 3);
}

static int nn_trt(lua_State *L) {
  static const char *const keys[] = {"lambda", "delta", "epsilon", "t0", "T", NULL};
  int n;
  lua_settop(L, 2);
  ms_tensor **params = ms_check_tensors(L, 1, "params", &n);
  ms_trt_opts o = {0};
  ms_check_options(L, 2, "trt", keys);
  o.lambda = ms_option_number(L, 2, "trt", "lambda", 1e-5);
  o.delta = ms_option_number(L, 2, "trt", "delta", 0.25);
  o.eps = ms_option_number(L, 2, "trt", "epsilon", 1e-5);
  int64_t t0 = ms_option_integer(L, 2, "trt", "t0", 0), steps = ms_option_integer(L, 2, "trt", "T", 4);
  if (steps < 1 || steps > MS_TRT_STEPS)
    return ms_raise(L, "trt: T: expected 1 to %d, got %I", MS_TRT_STEPS, steps);
  if (t0 != 0 && t0 != 1)
    return ms_raise(L, "trt: t0: expected 0 or 1, got %I", t0);
  o.t0 = (int)t0, o.steps = (int)steps;
  ms_error err;
  ms_handle *value = ms_push_handle(L), *each = ms_push_handle(L);
  return ms_finish(L, ms_trt_regulariser(&value->tensor, &each->tensor, n, params, o, &err), &err, 2);
}

/* ---- clipping ---- */

static int nn_clip_grad_norm(lua_State *L) {
  int n;
  double limit = ms_check_number(L, 2, "max_norm");
  ms_tensor **params = ms_check_tensors(L, 1, "params", &n);
  ms_error err;
  ms_handle *norm = ms_push_handle(L);
  return ms_finish(L, ms_clip_grad_norm(&norm->tensor, n, params, limit, &err), &err, 1);
}

static int nn_clip_grad_value(lua_State *L) {
  int n;
  double limit = ms_check_number(L, 2, "limit");
  ms_tensor **params = ms_check_tensors(L, 1, "params", &n);
  ms_error err;
  return ms_finish(L, ms_clip_grad_value(n, params, limit, &err), &err, 0);
}

#define CONV "\nopts: stride (1), padding (0), dilation (1), each a number or {height, width}; groups (1)."
#define POOL                                                                                                           \
  "\nx [N, C, H, W] or [T, N, C, H, W]. opts: kernel_size (needed), stride (kernel_size), padding (0), each a number " \
  "or "                                                                                                                \
  "{height, width}; ceil_mode (false); count_include_pad (true; averages only)."

static const ms_reg functions[] = {
    {"conv2d", nn_conv2d,
     "conv2d(x, weight[, bias[, opts]]) -> tensor\n\nx [N, C, H, W] or [T, N, C, H, W], weight [Cout, C / groups, kh, "
     "kw], "
     "bias [Cout] or nil. An x repeated over T by expand is computed once." CONV},
    {"linear", nn_linear,
     "linear(x, weight[, bias]) -> tensor [..., out]\n\nx [..., in], weight [out, in], bias [out] or nil."},
    {"conv2d_synops", nn_conv2d_synops,
     "conv2d_synops(x, weight[, opts]) -> tensor int64 [2]\n\nThe non-zero inputs of a convolution and the outputs they "
     "reach, summed over x." CONV},
    {"linear_synops", nn_linear_synops,
     "linear_synops(x, weight) -> tensor int64 [2]\n\nThe non-zero inputs of a linear layer and the outputs they reach, "
     "summed over x."},
    {"avg_pool2d", nn_avg_pool2d,
     "avg_pool2d(x, opts) -> tensor, why_not\n\nAverages of windows; spikes stay spikes, scaled. why_not: '' where "
     "they were summed as the neuron fired, else the reason." POOL},
    {"max_pool2d", nn_max_pool2d, "max_pool2d(x, opts) -> tensor\n\nLargest elements of windows." POOL},
    {"adaptive_avg_pool2d", nn_adaptive_avg_pool2d,
     "adaptive_avg_pool2d(x, height, width) -> tensor [..., height, width]\n\nAverages of windows that divide x "
     "evenly; x "
     "[N, C, H, W] or [T, N, C, H, W]."},
    {"batch_norm", nn_batch_norm,
     "batch_norm(x[, gamma[, beta[, running_mean[, running_var[, opts]]]]]) -> tensor\n\nNormalises over all but the "
     "channel: "
     "x [N, C], [T, N, C], [N, C, H, W] or [T, N, C, H, W]; gamma, beta and the running statistics [C] or nil. The "
     "result is "
     "computed when something reads it; a neuron takes the normalisation in.\nopts: eps (1e-5), momentum (0.1), gain "
     "(1; "
     "tdBN: alpha * v_threshold), training (true; false uses the running statistics), batches (int64 of one element "
     "that "
     "counts one up in training)."},
    {"dropout", nn_dropout,
     "dropout(x, p[, key]) -> tensor\n\n0 with probability p, else x / (1 - p). Drawn from the default stream, or from "
     "key "
     "(a name or an integer of random.key)."},
    {"set_fusion", nn_set_fusion,
     "set_fusion(on) -> boolean\n\nMay neurons take the normalisation before them in (default true)? The values are "
     "the same "
     "either way. Returns what it was."},
    {"classification_loss", nn_classification_loss,
     "classification_loss(logits, labels[, opts]) -> value, parts, correct\n\nlogits [T, B, C], labels [B] int64, "
     "0-based, or [B, C] float32: the share of each class, >= 0. "
     "value is ce * CE + mse * MSE; parts [3] holds value, CE and MSE; correct [1] counts right predictions of the "
     "mean over "
     "time.\nopts: over \"each\" time step (default), the \"mean\" logits or the \"last\"; ce (1), mse (0), smooth (0) "
     "for "
     "label smoothing, phi (1): constant target of MSE, onehot (false): the one-hot target (the shares) instead."},
    {"trt", nn_trt,
     "trt(params[, opts]) -> value, each\n\nThe temporal regularisation of TRT (arXiv 2506.19256) for a table of "
     "parameters: "
     "value is the mean over t of each [T]; backward adds its gradient to each parameter's.\nopts: lambda (1e-5), "
     "delta "
     "(0.25), epsilon (1e-5), t0 (0 as published in code, 1 as in the text), T (4)."},
    {"clip_grad_norm", nn_clip_grad_norm,
     "clip_grad_norm(params, max_norm) -> tensor []\n\nScales all gradients together where their Euclidean norm is "
     "above max_norm; returns the norm before, on the device: item() reads it, and waits."},
    {"clip_grad_value", nn_clip_grad_value,
     "clip_grad_value(params, limit)\n\nCuts every element of the gradients to [-limit, limit]."},
    {NULL, NULL, NULL}};

int ms_open_nn(lua_State *L) {
  lua_newtable(L);
  ms_register(L, functions);
  ms_register(L, ms_neuron_functions);
  return 1;
}
