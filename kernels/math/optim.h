/* Per-element arithmetic of the optimizers and of TRT's regulariser.
**
** TRT (arXiv 2506.19256, Eq. 13 and 14): r(t) = sum_j lambda * w_j^2 / (1 + c_t * (|w_j| + eps)), c_t = e^(delta
** t) - 1. Closed form of the sum over t, with a_t = 1 + c_t * eps and q_t = 1 / (a_t + c_t |w|):
**   R = lambda * w^2 * sum_t q_t,   dR/dw = lambda * w * sum_t q_t * (1 + a_t * q_t)
** which is 2 * lambda * w at c_t = 0 and 0 at w = 0. */
#ifndef MS_OPTIM_H
#define MS_OPTIM_H

#include "real.h"

#define MS_TRT_STEPS 128

typedef struct ms_trt {
  int steps;
  ms_real lambda, eps;     /* a value that is a mean over t has 1/T in the lambda of its gradient */
  ms_real c[MS_TRT_STEPS]; /* e^(delta t) - 1 */
} ms_trt;

/* Settings and step count of one parameter; lives in device memory so that captured steps see new values. The step
** count and what follows from it are advanced by the row hyper_advance. */
typedef struct ms_hyper {
  double lr, weight_decay;
  double momentum, dampening;               /* SGD */
  double beta1, beta2, eps;                 /* Adam */
  double step;                              /* steps taken, this one included */
  double correction1, correction2;          /* 1 - beta^step */
  int nesterov, decoupled, maximize, first; /* first: the momentum buffer is set, not averaged */
} ms_hyper;

MS_HD ms_real ms_trt_value_at(ms_real w, ms_real c, ms_real lambda, ms_real eps) {
  return lambda * w * w / (1 + c * (MS_FN(fabs)(w) + eps));
}

/* q * (1 + a * q) of one t, m = |w|. */
MS_HD ms_real ms_trt_grad_term(ms_real m, ms_real c, ms_real eps) {
  ms_real a = MS_FN(fma)(c, eps, MS_R(1)), q = 1 / MS_FN(fma)(c, m, a);
  return q * MS_FN(fma)(a, q, MS_R(1));
}

/* Two steps at a time, with one division: 1/x = y / (x y). */
MS_HD ms_real ms_trt_grad_two(ms_real m, ms_real c, ms_real d, ms_real eps) {
  ms_real a = MS_FN(fma)(c, eps, MS_R(1)), b = MS_FN(fma)(d, eps, MS_R(1));
  ms_real x = MS_FN(fma)(c, m, a), y = MS_FN(fma)(d, m, b), both = 1 / (x * y), p = both * y, q = both * x;
  return MS_FN(fma)(p, MS_FN(fma)(a, p, MS_R(1)), q * MS_FN(fma)(b, q, MS_R(1)));
}

MS_HD void ms_trt_value_two(ms_real w, ms_real c, ms_real d, ms_real lambda, ms_real eps, ms_real *first,
                            ms_real *second) {
  ms_real m = MS_FN(fabs)(w) + eps, x = 1 + c * m, y = 1 + d * m, both = lambda * w * w / (x * y);
  *first = both * y;
  *second = both * x;
}

MS_HD ms_real ms_trt_grad_at(ms_real w, const ms_trt *r) {
  ms_real m = MS_FN(fabs)(w), sum = 0;
  for (int t = 0; t < r->steps; t++)
    sum += ms_trt_grad_term(m, r->c[t], r->eps);
  return r->lambda * w * sum;
}

MS_HD void ms_hyper_step(ms_hyper *h) {
  h->step += 1;
  h->first = h->step == 1;
  h->correction1 = 1 - pow(h->beta1, h->step);
  h->correction2 = 1 - pow(h->beta2, h->step);
}

/* PyTorch's SGD: d = g + wd * w; buf = first ? d : momentum * buf + (1 - dampening) * d; step along buf (Nesterov:
** d + momentum * buf). The settings as reals, computed in double once for many elements: */
typedef struct ms_sgd_step {
  ms_real lr, decay, momentum, keep, take; /* buf = keep * buf + take * d */
  int nesterov, maximize;
} ms_sgd_step;

MS_HD ms_sgd_step ms_sgd_step_of(const ms_hyper *h) {
  ms_sgd_step k = {MS_R(h->lr),
                   MS_R(h->weight_decay),
                   MS_R(h->momentum),
                   h->first ? MS_R(0) : MS_R(h->momentum),
                   h->first ? MS_R(1) : MS_R(1 - h->dampening),
                   h->nesterov,
                   h->maximize};
  return k;
}

/* The new w. buf is left alone without momentum. */
MS_HD ms_real ms_sgd(ms_real w, ms_real g, ms_real *buf, const ms_sgd_step *k) {
  ms_real d = MS_FN(fma)(k->decay, w, k->maximize ? -g : g);
  if (k->momentum != 0) {
    *buf = MS_FN(fma)(k->keep, *buf, k->take * d);
    d = k->nesterov ? MS_FN(fma)(k->momentum, *buf, d) : *buf;
  }
  return MS_FN(fma)(-k->lr, d, w);
}

/* Kingma & Ba 2015, Algorithm 1, in PyTorch's order of operations: w - lr / c1 * m / (sqrt(v) / sqrt(c2) + eps);
** decoupled: Loshchilov & Hutter 2019 (AdamW). 1 - beta2 is taken in double: in float it would be off by 1e-5. */
typedef struct ms_adam_step {
  ms_real beta1, take1, beta2, take2;
  ms_real decay, shrink;   /* coupled and decoupled weight decay: at most one acts */
  ms_real rate, root, eps; /* lr / c1, sqrt(c2) */
  int maximize;
} ms_adam_step;

MS_HD ms_adam_step ms_adam_step_of(const ms_hyper *h) {
  ms_adam_step k = {MS_R(h->beta1),
                    MS_R(1 - h->beta1),
                    MS_R(h->beta2),
                    MS_R(1 - h->beta2),
                    h->decoupled ? MS_R(0) : MS_R(h->weight_decay),
                    h->decoupled ? MS_R(1 - h->lr * h->weight_decay) : MS_R(1),
                    MS_R(h->lr / h->correction1),
                    MS_R(sqrt(h->correction2)),
                    MS_R(h->eps),
                    h->maximize};
  return k;
}

/* The new w; m and v are the moments. */
MS_HD ms_real ms_adam(ms_real w, ms_real g, ms_real *m, ms_real *v, const ms_adam_step *k) {
  g = MS_FN(fma)(k->decay, w, k->maximize ? -g : g);
  *m = MS_FN(fma)(k->beta1, *m, k->take1 * g);
  *v = MS_FN(fma)(k->beta2, *v, k->take2 * g * g);
  return k->shrink * w - k->rate * *m / (MS_FN(sqrt)(*v) / k->root + k->eps);
}

#endif
