/* Surrogate derivatives g(u) = ds/dh at u = h - threshold, and their primitives (the smooth step whose derivative
** g is; the gradient tests run the network on it).
**   triangle   max(0, a - |u|) / a^2               value 1/a at 0        TRT, TET
**   rectangle  a * [|u| < 1 / (2 a)]               a                     STBP, NDA
**   atan       (a / 2) / (1 + (pi/2 * a * u)^2)    a/2                   SpikingJelly ATan
**   sigmoid    a * sig(a u) * (1 - sig(a u))       a/4                   SpikingJelly Sigmoid
**   qgate      max(0, a - a^2 |u|)                 a                     BrainCog QGateGrad
**   gaussian   exp(-u^2 / (2 a^2)) / (a sqrt(2 pi))                      the mean of LocalZO's draws, a = delta */
#ifndef MS_SURROGATE_H
#define MS_SURROGATE_H

#include "real.h"

enum ms_surrogate {
#define MS_SURROGATE(name, text, alpha) MS_SURROGATE_##name,
#include "../surrogate.def"
#undef MS_SURROGATE
  MS_SURROGATE_COUNT
};

/* exp(x) for x <= 0 to two units in the last place, 0 below -87, as arithmetic that loops over vectors keep. With n =
** round(x / ln 2) it is 2^n * exp(r), |r| <= ln 2 / 2, by Taylor's series. */
MS_HD ms_real ms_exp_down(ms_real x) {
#ifdef MS_REAL64
  return exp(x);
#else
  union {
    float f;
    uint32_t u;
  } n, scale;
  const float round = 12582912; /* 1.5 * 2^23: the sum's last bit is a one */
  n.f = fmaf(x, 1.44269504f, round);
  scale.u = (n.u << 23) + 0x3f800000u;
  float k = n.f - round, r = fmaf(k, 1.904654299e-9f, fmaf(k, -0.693147182464599609375f, x)), e = 1.0f / 5040;
  e = fmaf(e, r, 1.0f / 720);
  e = fmaf(e, r, 1.0f / 120);
  e = fmaf(e, r, 1.0f / 24);
  e = fmaf(e, r, 1.0f / 6);
  e = fmaf(e, r, 0.5f);
  e = fmaf(e, r, 1);
  e = fmaf(e, r, 1);
  return x < -87 ? 0 : e * scale.f;
#endif
}

MS_HD ms_real ms_surrogate_grad(int kind, ms_real u, ms_real a) {
  ms_real m = MS_FN(fabs)(u);
  switch (kind) {
  case MS_SURROGATE_TRIANGLE:
    return (a > m ? a - m : MS_R(0)) * (1 / (a * a));
  case MS_SURROGATE_RECTANGLE:
    return 2 * a * m < 1 ? a : MS_R(0);
  case MS_SURROGATE_ATAN: {
    ms_real x = MS_R(1.5707963267948966) * a * u;
    return a / 2 / (1 + x * x);
  }
  case MS_SURROGATE_SIGMOID: {
    ms_real e = ms_exp_down(-a * m);
    return a * e / ((1 + e) * (1 + e));
  }
  case MS_SURROGATE_QGATE:
    return a * m < 1 ? a - a * a * m : MS_R(0);
  case MS_SURROGATE_GAUSSIAN: {
    ms_real x = m / a;
    return MS_R(0.3989422804014327) / a * ms_exp_down(-x * x / 2);
  }
  default:
    return MS_R(0);
  }
}

MS_HD ms_real ms_surrogate_primitive(int kind, ms_real u, ms_real a) {
  ms_real m = MS_FN(fabs)(u), sign = u < 0 ? MS_R(-1) : MS_R(1);
  switch (kind) {
  case MS_SURROGATE_TRIANGLE: {
    ms_real c = MS_FN(fmin)(m, a);
    return MS_R(0.5) + sign * (a * c - c * c / 2) / (a * a);
  }
  case MS_SURROGATE_RECTANGLE:
    return MS_R(0.5) + sign * MS_FN(fmin)(a * m, MS_R(0.5));
  case MS_SURROGATE_ATAN:
    return MS_R(0.5) + MS_FN(atan)(MS_R(1.5707963267948966) * a * u) / MS_R(3.141592653589793);
  case MS_SURROGATE_SIGMOID:
    return MS_R(1) / (1 + MS_FN(exp)(-a * u));
  case MS_SURROGATE_QGATE: {
    ms_real c = MS_FN(fmin)(m, 1 / a);
    return MS_R(0.5) + sign * (a * c - a * a * c * c / 2);
  }
  case MS_SURROGATE_GAUSSIAN:
    return MS_FN(erfc)(MS_R(-0.7071067811865476) * u / a) / 2;
  default:
    return MS_R(0);
  }
}

#endif
