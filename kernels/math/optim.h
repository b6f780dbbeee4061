/* Per-element arithmetic of the optimizers and of TRT's regulariser.
**
** TRT (arXiv 2506.19256, Eq. 13 and 14): r(t) = sum_j lambda * w_j^2 / (1 + c_t * (|w_j| + eps)), c_t = e^(delta t) - 1.
** Closed form of the sum over t, with a_t = 1 + c_t * eps and q_t = 1 / (a_t + c_t |w|):
**   R = lambda * w^2 * sum_t q_t,   dR/dw = lambda * w * sum_t q_t * (1 + a_t * q_t)
** which is 2 * lambda * w at c_t = 0 and 0 at w = 0. */
#ifndef MS_OPTIM_H
#define MS_OPTIM_H

#include "real.h"

#define MS_TRT_STEPS 128

typedef struct ms_trt {
  int steps;
  ms_real lambda, eps;
  ms_real c[MS_TRT_STEPS]; /* e^(delta t) - 1 */
} ms_trt;

/* Settings and step count of one parameter; lives in device memory so that captured steps see new values. The step
** count and what follows from it are advanced by the row hyper_advance. */
typedef struct ms_hyper {
  double lr, weight_decay;
  double momentum, dampening; /* SGD */
  double beta1, beta2, eps;   /* Adam */
  double step;                /* steps taken, this one included */
  double correction1, correction2; /* 1 - beta^step */
  int nesterov, decoupled, maximize, first; /* first: the momentum buffer is set, not averaged */
} ms_hyper;

MS_HD ms_real ms_trt_value_at(ms_real w, ms_real c, ms_real lambda, ms_real eps) {
  return lambda * w * w / (1 + c * (MS_FN(fabs)(w) + eps));
}

MS_HD ms_real ms_trt_grad_at(ms_real w, const ms_trt *r) {
  ms_real m = MS_FN(fabs)(w), sum = 0;
  for (int t = 0; t < r->steps; t++) {
    ms_real a = MS_FN(fma)(r->c[t], r->eps, MS_R(1));
    ms_real q = 1 / MS_FN(fma)(r->c[t], m, a);
    sum += q * MS_FN(fma)(a, q, MS_R(1));
  }
  return r->lambda * w * sum;
}

MS_HD void ms_hyper_step(ms_hyper *h) {
  h->step += 1;
  h->first = h->step == 1;
  h->correction1 = 1 - pow(h->beta1, h->step);
  h->correction2 = 1 - pow(h->beta2, h->step);
}

/* PyTorch's SGD: d = g + wd * w; buf = first ? d : momentum * buf + (1 - dampening) * d; step along buf (Nesterov: d + momentum * buf). */
MS_HD ms_real ms_sgd(ms_real w, ms_real g, ms_real *buf, const ms_hyper *h) {
  ms_real d = MS_FN(fma)(MS_R(h->weight_decay), w, h->maximize ? -g : g), momentum = MS_R(h->momentum);
  if (momentum != 0) {
    *buf = h->first ? d : momentum * *buf + MS_R(1 - h->dampening) * d;
    d = h->nesterov ? MS_FN(fma)(momentum, *buf, d) : *buf;
  }
  return w - MS_R(h->lr) * d;
}

/* Kingma & Ba 2015, Algorithm 1, in PyTorch's order of operations; decoupled: Loshchilov & Hutter 2019 (AdamW). */
MS_HD ms_real ms_adam(ms_real w, ms_real g, ms_real *m, ms_real *v, const ms_hyper *h) {
  ms_real b1 = MS_R(h->beta1), b2 = MS_R(h->beta2), wd = MS_R(h->weight_decay);
  if (h->maximize)
    g = -g;
  if (h->decoupled)
    w *= MS_R(1 - h->lr * h->weight_decay);
  else
    g = MS_FN(fma)(wd, w, g);
  *m = MS_FN(fma)(b1, *m, (1 - b1) * g);
  *v = MS_FN(fma)(b2, *v, (1 - b2) * g * g);
  return w - MS_R(h->lr / h->correction1) * *m / (MS_FN(sqrt)(*v) / MS_R(sqrt(h->correction2)) + MS_R(h->eps));
}

#endif
