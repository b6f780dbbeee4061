/* One element's step of the optimizers as published, and TRT's gradient, in double. */
#ifndef MS_OPTIMTEST_H
#define MS_OPTIMTEST_H

#include "../../kernels/kernels.h"
#include <math.h>

typedef void (*plain_fn)(double *w, double *m, double *v, const ms_hyper *h, double g, int step);

static inline void plain_adam(double *w, double *m, double *v, const ms_hyper *h, double g, int step) {
  g = h->maximize ? -g : g;
  if (h->decoupled)
    *w -= h->lr * h->weight_decay * *w;
  else
    g += h->weight_decay * *w;
  *m = h->beta1 * *m + (1 - h->beta1) * g;
  *v = h->beta2 * *v + (1 - h->beta2) * g * g;
  double denom = sqrt(*v) / sqrt(1 - pow(h->beta2, step)) + h->eps;
  *w -= h->lr / (1 - pow(h->beta1, step)) * *m / denom;
}

static inline void plain_sgd(double *w, double *m, double *v, const ms_hyper *h, double g, int step) {
  (void)v;
  g = (h->maximize ? -g : g) + h->weight_decay * *w;
  if (h->momentum != 0) {
    *m = step == 1 ? g : h->momentum * *m + (1 - h->dampening) * g;
    g = h->nesterov ? g + h->momentum * *m : *m;
  }
  *w -= h->lr * g;
}

/* Of the sum over t of r(t). */
static inline double plain_trt(double w, int steps, double lambda, double delta, double eps) {
  double g = 0;
  for (int t = 0; t < steps; t++) {
    double c = expm1(delta * t), d = 1 + c * (fabs(w) + eps);
    g += lambda * w * (2 + c * (fabs(w) + 2 * eps)) / (d * d);
  }
  return g;
}

#endif
