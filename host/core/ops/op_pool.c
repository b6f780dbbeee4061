/* Pooling. Spikes stay spikes where their sums fit a byte: the average of k*k counts of at most `peak` is a count of at
** most k*k*peak at scale / (k*k). */
#include "../spikes.h"
#include "nn.h"

#include <string.h>

typedef struct pool_params {
  ms_pool_desc desc;
  int ndim;
  int64_t size[MS_MAX_DIMS]; /* of x */
} pool_params;

/* ---- what both passes need ---- */
static ms_status check_input(const char *op, const ms_tensor *x, ms_error *err) {
  if (x->ndim != 4 && x->ndim != 5)
    return ms_fail(err, MS_ESHAPE, "%s: x: expected [N, C, H, W] or [T, N, C, H, W], got %s", op, ms_tensor_text(x).s);
  return ms_expect_float(op, "x", x, err);
}

static int64_t outputs(int64_t l, int k, int stride, int pad, int ceil_mode) {
  int64_t o = (l + 2 * (int64_t)pad - k + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (o - 1) * stride >= l + pad)
    o--; /* the last window must start inside the input or its left padding */
  return o;
}

static ms_status window_params(pool_params *p, const char *op, const ms_tensor *x, const ms_pool_opts *o,
                               ms_error *err) {
  ms_status st = check_input(op, x, err);
  if (st)
    return st;
  int c = ms_channel_dim(x->ndim);
  int64_t h = x->size[c + 1], w = x->size[c + 2];
  if (o->kh < 1 || o->kw < 1 || o->stride_h < 1 || o->stride_w < 1)
    return ms_fail(err, MS_ERANGE,
                   "%s: expected kernel size and stride of at least 1, got kernel size [%d, %d], stride [%d, %d]", op,
                   o->kh, o->kw, o->stride_h, o->stride_w);
  if (o->pad_h < 0 || o->pad_w < 0 || o->pad_h > o->kh / 2 || o->pad_w > o->kw / 2)
    return ms_fail(err, MS_ERANGE, "%s: padding: expected at most half of the kernel size [%d, %d], got [%d, %d]", op,
                   o->kh, o->kw, o->pad_h, o->pad_w);
  if (h + 2 * (int64_t)o->pad_h < o->kh || w + 2 * (int64_t)o->pad_w < o->kw)
    return ms_fail(err, MS_ESHAPE, "%s: x: expected an image of at least %dx%d with its padding, got %s", op, o->kh,
                   o->kw, ms_tensor_text(x).s);
  p->desc = (ms_pool_desc){.n = x->ndim == 5 ? x->size[0] * x->size[1] : x->size[0],
                           .h = h,
                           .w = w,
                           .c = x->size[c],
                           .oh = outputs(h, o->kh, o->stride_h, o->pad_h, o->ceil_mode),
                           .ow = outputs(w, o->kw, o->stride_w, o->pad_w, o->ceil_mode),
                           .kh = o->kh,
                           .kw = o->kw,
                           .stride_h = o->stride_h,
                           .stride_w = o->stride_w,
                           .pad_h = o->pad_h,
                           .pad_w = o->pad_w,
                           .count_pad = o->count_pad};
  p->ndim = x->ndim;
  memcpy(p->size, x->size, sizeof p->size);
  return MS_OK;
}

static void output_size(int64_t *size, const pool_params *p) {
  int c = ms_channel_dim(p->ndim);
  memcpy(size, p->size, sizeof p->size);
  size[c + 1] = p->desc.oh;
  size[c + 2] = p->desc.ow;
}

/* Every window has all its kh * kw elements. */
static int windows_full(const ms_pool_desc *d) {
  return d->pad_h == 0 && d->pad_w == 0 && (d->oh - 1) * d->stride_h + d->kh <= d->h &&
         (d->ow - 1) * d->stride_w + d->kw <= d->w;
}

static ms_status record(const ms_op *op, const pool_params *p, ms_tensor *x, ms_tensor *y, ms_tensor *index,
                        ms_error *err) {
  ms_node *n;
  ms_status st = ms_record(&n, op, 1, &x, 1, &y, err);
  if (!st)
    st = ms_keep(n, p, sizeof *p, err);
  return st ? st : ms_save(n, 0, index, err);
}

static ms_status pool_backward(ms_node *n, ms_tensor **din, ms_tensor *const *dout, ms_error *err) {
  const pool_params *p = n->params;
  ms_tensor *index, *g = NULL, *dx = NULL;
  ms_status st;
  if (!dout[0])
    return MS_OK;
  if ((st = ms_saved_get(&index, n, 0, err)) || (st = ms_dense(&g, dout[0], MS_F32, err)))
    return st;
  ms_device *d = ms_tensor_device(g);
  if ((st = ms_tensor_new(&dx, d, MS_F32, p->ndim, p->size, err)))
    goto done;
  if (index)
    st = d->k->max_pool_grad(d->stream, &p->desc, ms_dense_data(g), ms_memory_of(index), ms_dense_data(dx));
  else
    st = d->k->avg_pool_grad(d->stream, &p->desc, ms_dense_data(g), ms_dense_data(dx));
  if (!(st = ms_row(d, st, n->op->name, err))) {
    din[0] = dx;
    dx = NULL;
  }
done:
  ms_release(g);
  ms_release(dx);
  return st;
}

static const ms_op op_avg_pool2d = {"avg_pool2d", pool_backward};
static const ms_op op_adaptive = {"adaptive_avg_pool2d", pool_backward};
static const ms_op op_max_pool2d = {"max_pool2d", pool_backward};

/* ---- average ---- */
/* Share of non-zero elements; a look costs nothing on the CPU only. */
static double density_of(const ms_tensor *y) {
  int64_t n = ms_numel(y), ones = 0;
  if (!n || !ms_on_cpu(ms_tensor_device(y)))
    return -1;
  const uint8_t *p = ms_dense_data(y).p;
  for (int64_t i = 0; i < n; i++)
    ones += p[i] != 0;
  return (double)ones / (double)n;
}

static ms_status average(ms_tensor **out, const ms_op *op, ms_tensor *x, const pool_params *p, int uniform,
                         ms_error *err) {
  const ms_pool_desc *desc = &p->desc;
  int64_t size[MS_MAX_DIMS], area = (int64_t)desc->kh * desc->kw;
  int spikes = x->dtype == MS_SPIKE && uniform && area <= 255 && x->peak * area <= 255;
  ms_tensor *xd = NULL, *y = NULL;
  output_size(size, p);
  ms_status st = ms_spikes_of(&xd, x, 0, err);
  if (st)
    return st;
  ms_device *d = ms_tensor_device(xd);
  if ((st = ms_tensor_new(&y, d, spikes || x->dtype == MS_BF16 ? x->dtype : MS_F32, p->ndim, size, err)))
    goto done;
  if (spikes) {
    y->scale = x->scale / MS_R(area);
    y->peak = x->peak * (int)area;
  }
  if ((st = ms_row(d, d->k->avg_pool(d->stream, desc, ms_spikes_data(xd), ms_dense_data(y)), op->name, err)) ||
      (st = record(op, p, x, y, NULL, err)))
    goto done;
  if (spikes)
    y->density = density_of(y);
  *out = y;
  y = NULL;
done:
  ms_release(xd);
  ms_release(y);
  return st;
}

ms_status ms_avg_pool2d(ms_tensor **out, ms_tensor *x, ms_pool_opts o, ms_error *err) {
  return ms_avg_pool2d_report(out, x, o, NULL, err);
}

static int is_half(const ms_pool_opts *o) {
  return o->kh == 2 && o->kw == 2 && o->stride_h == 2 && o->stride_w == 2 && !o->pad_h && !o->pad_w;
}

ms_status ms_avg_pool2d_report(ms_tensor **out, ms_tensor *x, ms_pool_opts o, const char **why, ms_error *err) {
  pool_params p;
  const char *unread;
  ms_tensor *y = NULL;
  ms_status st = window_params(&p, "avg_pool2d", x, &o, err);
  why = why ? why : &unread;
  *why = "the input is not a neuron's spikes";
  if (st)
    return st;
  if (x->source) {
    if ((st = ms_avg_pool2d(&y, x->source, o, err)))
      return st;
    return ms_repeat_static(out, y, x->size[0], err);
  }
  if (!is_half(&o) && x->spikes)
    *why = "only windows of 2x2, stride 2, no padding fit the neuron's row";
  else if (!ms_fusion())
    *why = "fusion is switched off";
  else if ((st = ms_neuron_pool(&y, x, why, err)) || y)
    return ms_give(out, y, st);
  return average(out, &op_avg_pool2d, x, &p, windows_full(&p.desc), err);
}

ms_status ms_adaptive_avg_pool2d(ms_tensor **out, ms_tensor *x, int64_t oh, int64_t ow, ms_error *err) {
  ms_status st = check_input("adaptive_avg_pool2d", x, err);
  if (st)
    return st;
  if (oh < 1 || ow < 1)
    return ms_fail(err, MS_ERANGE, "adaptive_avg_pool2d: expected an output of at least 1x1, got %lldx%lld",
                   (long long)oh, (long long)ow);
  if (x->source) {
    ms_tensor *y;
    if ((st = ms_adaptive_avg_pool2d(&y, x->source, oh, ow, err)))
      return st;
    return ms_repeat_static(out, y, x->size[0], err);
  }
  int c = ms_channel_dim(x->ndim);
  int64_t h = x->size[c + 1], w = x->size[c + 2];
  if (h < 1 || w < 1)
    return ms_fail(err, MS_ESHAPE, "adaptive_avg_pool2d: x: expected an image of at least 1x1, got %s",
                   ms_tensor_text(x).s);
  int uniform = h % oh == 0 && w % ow == 0;
  pool_params p = {.ndim = x->ndim};
  memcpy(p.size, x->size, sizeof p.size);
  p.desc = (ms_pool_desc){.n = x->ndim == 5 ? x->size[0] * x->size[1] : x->size[0],
                          .h = h,
                          .w = w,
                          .c = x->size[c],
                          .oh = oh,
                          .ow = ow,
                          .kh = 1,
                          .kw = 1,
                          .stride_h = 1,
                          .stride_w = 1,
                          .adaptive = 1};
  if (uniform) { /* an ordinary pooling, so that spikes stay spikes */
    p.desc.adaptive = 0;
    p.desc.kh = p.desc.stride_h = (int)(h / oh);
    p.desc.kw = p.desc.stride_w = (int)(w / ow);
  }
  return average(out, &op_adaptive, x, &p, uniform, err);
}

/* ---- maximum ---- */
ms_status ms_max_pool2d(ms_tensor **out, ms_tensor *x, ms_pool_opts o, ms_error *err) {
  pool_params p;
  ms_tensor *xd = NULL, *y = NULL, *index = NULL;
  ms_status st = window_params(&p, "max_pool2d", x, &o, err);
  if (st)
    return st;
  if (x->source) {
    if ((st = ms_max_pool2d(&y, x->source, o, err)))
      return st;
    return ms_repeat_static(out, y, x->size[0], err);
  }
  int64_t size[MS_MAX_DIMS];
  output_size(size, &p);
  if ((st = ms_spikes_of(&xd, x, 0, err)))
    return st;
  ms_device *d = ms_tensor_device(xd);
  if ((st = ms_tensor_new(&y, d, x->dtype, p.ndim, size, err)) ||
      (st = ms_scratch(&index, d, (size_t)ms_numel(y) * sizeof(int32_t), err)))
    goto done;
  if (x->dtype == MS_SPIKE) {
    y->scale = x->scale;
    y->peak = x->peak;
  }
  st = d->k->max_pool(d->stream, &p.desc, ms_spikes_data(xd), ms_dense_data(y), ms_scratch_ptr(index));
  if ((st = ms_row(d, st, "max_pool2d", err)) || (st = record(&op_max_pool2d, &p, x, y, index, err)))
    goto done;
  if (x->dtype == MS_SPIKE)
    y->density = density_of(y);
  *out = y;
  y = NULL;
done:
  ms_release(xd);
  ms_release(y);
  ms_release(index);
  return st;
}
