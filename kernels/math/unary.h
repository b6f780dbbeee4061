/* The functions of unary.def and their derivatives at x, each once for both backends. Where a function has no
** derivative, the value is the one PyTorch uses. */
#ifndef MS_UNARY_H
#define MS_UNARY_H

#include "real.h"

/* A backend may bring its own. */
#ifndef MS_SIN
#define MS_SIN MS_FN(sin)
#define MS_COS MS_FN(cos)
#endif

#define MS_DEFINE_UNARY(name, value, slope)   \
  MS_HD ms_real ms_##name(ms_real x) {        \
    return value;                             \
  }                                           \
  MS_HD ms_real ms_##name##_grad(ms_real x) { \
    (void)x;                                  \
    return slope;                             \
  }

MS_HD ms_real ms_sigmoid(ms_real x) {
  ms_real e = MS_FN(exp)(-MS_FN(fabs)(x)), near = 1 / (1 + e);
  return x < 0 ? e * near : near;
}

/* s(x) * s(-x): 1 - s(x) would cancel for large x. */
MS_HD ms_real ms_sigmoid_grad(ms_real x) {
  ms_real e = MS_FN(exp)(-MS_FN(fabs)(x)), near = 1 / (1 + e);
  return e * near * near;
}

MS_DEFINE_UNARY(neg, -x, MS_R(-1))
MS_DEFINE_UNARY(abs, MS_FN(fabs)(x), MS_R(x > 0) - MS_R(x < 0))
MS_DEFINE_UNARY(sign, MS_R(x > 0) - MS_R(x < 0), MS_R(0))
MS_DEFINE_UNARY(square, x *x, 2 * x)
MS_DEFINE_UNARY(sqrt, MS_FN(sqrt)(x), MS_R(0.5) / MS_FN(sqrt)(x))
MS_DEFINE_UNARY(rsqrt, 1 / MS_FN(sqrt)(x), MS_R(-0.5) / (x * MS_FN(sqrt)(x)))
MS_DEFINE_UNARY(reciprocal, 1 / x, -1 / (x * x))
MS_DEFINE_UNARY(exp, MS_FN(exp)(x), MS_FN(exp)(x))
MS_DEFINE_UNARY(expm1, MS_FN(expm1)(x), MS_FN(exp)(x))
MS_DEFINE_UNARY(log, MS_FN(log)(x), 1 / x)
MS_DEFINE_UNARY(log1p, MS_FN(log1p)(x), 1 / (1 + x))
MS_DEFINE_UNARY(sin, MS_SIN(x), MS_COS(x))
MS_DEFINE_UNARY(cos, MS_COS(x), -MS_SIN(x))
MS_DEFINE_UNARY(tanh, MS_FN(tanh)(x), 1 - MS_FN(tanh)(x) * MS_FN(tanh)(x))
MS_DEFINE_UNARY(atan, MS_FN(atan)(x), 1 / (1 + x * x))
MS_DEFINE_UNARY(softplus, MS_FN(log1p)(MS_FN(exp)(-MS_FN(fabs)(x))) + (x < 0 ? 0 : x), ms_sigmoid(x))
MS_DEFINE_UNARY(relu, x <= 0 ? 0 : x, MS_R(x > 0))                                 /* NaN stays */
MS_DEFINE_UNARY(erf, MS_FN(erf)(x), MS_R(1.1283791670955126) * MS_FN(exp)(-x * x)) /* 2 / sqrt(pi) */
MS_DEFINE_UNARY(floor, MS_FN(floor)(x), MS_R(0))
MS_DEFINE_UNARY(ceil, MS_FN(ceil)(x), MS_R(0))
MS_DEFINE_UNARY(round, MS_FN(rint)(x), MS_R(0)) /* halves to even */

#undef MS_DEFINE_UNARY

#endif
