/* The small network of the end-to-end tests: conv 2->4, batch norm, LIF, 2x2 average pooling, linear 16->3, over
** T = 3, B = 2, 4x4 images; every value a formula of its flat index, so that any other implementation can be
** compared. */
#ifndef MS_MININET_H
#define MS_MININET_H

#include "nntest.h"

enum { NET_CONV, NET_GAMMA, NET_BETA, NET_LINEAR, NET_BIAS, NET_PARAMS };

typedef struct mininet {
  ms_tensor *p[NET_PARAMS], *mean, *var, *x, *y;
  ms_neuron_opts neuron;
  int64_t spikes[3];
  ms_tensor *logits; /* of the last loss */
  ms_neuron_report report;
} mininet;

static inline double net_x(int64_t i) {
  return 0.5 + 0.5 * sin(0.7 * (double)i);
}
static inline double net_conv(int64_t i) {
  return 0.4 * cos(1.3 * (double)i);
}
static inline double net_gamma(int64_t i) {
  return 1 + 0.1 * (double)i;
}
static inline double net_beta(int64_t i) {
  return 0.2 * (double)i;
}
static inline double net_linear(int64_t i) {
  return 0.3 * sin(0.9 * (double)i + 0.5);
}
static inline double net_bias(int64_t i) {
  return 0.01 * (double)i;
}
static inline double zeros(int64_t i) {
  return 0 * (double)i;
}
static inline double ones(int64_t i) {
  return 1 + 0 * (double)i;
}

static inline __attribute__((unused)) ms_neuron lif(void) {
  return (ms_neuron){.leak = MS_R(0.5), .gain = 1, .threshold = 1, .alpha = 1, .surrogate = MS_SURROGATE_TRIANGLE};
}

static inline __attribute__((unused)) mininet net_new(void) {
  mininet n = {.neuron = {.p = lif()}};
  n.p[NET_CONV] = leaf(net_conv, SIZE(4, 2, 3, 3));
  n.p[NET_GAMMA] = leaf(net_gamma, SIZE(4));
  n.p[NET_BETA] = leaf(net_beta, SIZE(4));
  n.p[NET_LINEAR] = leaf(net_linear, SIZE(3, 16));
  n.p[NET_BIAS] = leaf(net_bias, SIZE(3));
  n.mean = make(zeros, SIZE(4));
  n.var = make(ones, SIZE(4));
  ms_tensor *batch_first = make(net_x, SIZE(2, 3, 2, 4, 4));
  OK(ms_transpose(&n.x, batch_first, 0, 1, &test_err));
  ms_release(batch_first);
  n.y = labels_of(2, (int64_t[]){2, 0});
  return n;
}

static inline __attribute__((unused)) void net_free(mininet *n) {
  for (int i = 0; i < NET_PARAMS; i++)
    ms_release(n->p[i]);
  ms_release(n->mean);
  ms_release(n->var);
  ms_release(n->x);
  ms_release(n->y);
  ms_release(n->logits);
}

/* Logits; the status is returned, so that failures can be provoked. */
static inline __attribute__((unused)) ms_status net_forward(ms_tensor **out, mininet *n, ms_error *err) {
  ms_tensor *a = NULL, *b = NULL, *s = NULL, *q = NULL, *f = NULL, *counts = NULL;
  ms_status st;
  ms_conv_opts conv = {1, 1, 1, 1, 1, 1, 1};
  ms_norm_opts norm = {1e-5, 0.1, 1, 1, NULL};
  ms_pool_opts pool = {2, 2, 2, 2, 0, 0, 0, 1};
  if (!(st = ms_conv2d(&a, n->x, n->p[NET_CONV], NULL, conv, err)) &&
      !(st = ms_batch_norm(&b, a, n->p[NET_GAMMA], n->p[NET_BETA], n->mean, n->var, norm, err)) &&
      !(st = ms_neuron_forward(&s, NULL, &counts, b, NULL, NULL, &n->neuron, &n->report, err)) &&
      !(st = ms_avg_pool2d(&q, s, pool, err)) && !(st = ms_flatten(&f, q, 2, 4, err)))
    st = ms_linear(out, f, n->p[NET_LINEAR], n->p[NET_BIAS], err);
  if (!st)
    st = ms_materialise(counts, err);
  for (int64_t i = 0; !st && i < 12; i++) {
    const int64_t *c = counts->storage->data;
    n->spikes[i / 4] = (i % 4 ? n->spikes[i / 4] : 0) + c[i];
  }
  ms_tensor *held[] = {a, b, s, q, f, counts};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++)
    ms_release(held[i]);
  return st;
}

static const ms_trt_opts net_trt = {1e-3, 0.5, 1e-5, 0, 3};
static const ms_loss_opts net_loss_opts = {MS_LOSS_EACH, 0.95, 0.05, 0, 0, 1};

static inline __attribute__((unused)) ms_status net_loss(ms_tensor **out, mininet *n, ms_error *err) {
  ms_tensor *o = NULL, *r = NULL, *reg[3] = {n->p[NET_CONV], n->p[NET_GAMMA], n->p[NET_LINEAR]};
  ms_loss_parts parts = {NULL, NULL, NULL};
  ms_status st;
  if (!(st = net_forward(&o, n, err)) && !(st = ms_classification_loss(&parts, o, n->y, net_loss_opts, err)) &&
      !(st = ms_trt_regulariser(&r, NULL, 3, reg, net_trt, err)))
    st = ms_binary(out, MS_BINARY_add, parts.value, r, err);
  ms_release(n->logits);
  n->logits = o;
  ms_release(r);
  ms_release(parts.value);
  ms_release(parts.parts);
  ms_release(parts.correct);
  return st;
}

static inline __attribute__((unused)) double net_backward(mininet *n) {
  ms_tensor *l;
  OK(net_loss(&l, n, &test_err));
  OK(ms_backward(l, NULL, 0, &test_err));
  double value = item(l);
  ms_release(l);
  return value;
}

#endif
