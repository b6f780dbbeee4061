/* One time step of a spiking neuron, forward and backward: the only place where these formulas are written.
**
**   h = leak * v + gain * x + bias            charge
**   s = [h - threshold > 0]  (or >= 0)        fire
**   hard: v' = (1 - s) * h + s * v_reset      reset
**   soft: v' = h - s * threshold
**
** leak, gain and bias express every charge rule of the field, k = 1 / tau:
**   v / tau + x                       leak k,     gain 1, bias 0             TRT, TET (tau 1: integrate and fire)
**   v + (x - (v - v_reset)) / tau     leak 1 - k, gain k, bias k * v_reset   SpikingJelly decay_input
**   v - (v - v_reset) / tau + x       leak 1 - k, gain 1, bias k * v_reset   SpikingJelly without
**   PLIF                              as the two SpikingJelly forms with k = sigmoid(w)
**
** Backward, in reverse time; gs = dL/ds[t], gv = dL/dv'[t], g(u) the surrogate at u = h - threshold:
**   ds = gs + gv * (v_reset - h)   hard      gs - gv * threshold   soft      (gs alone when the reset is detached)
**   dh = g(u) * ds + gv * (1 - s)  hard      g(u) * ds + gv        soft
**   dx = gain * dh,  dL/dv'[t-1] = leak * dh,  PLIF: dw += dh * (dh/dk) * k * (1 - k)
** Source: Neftci et al. 2019 (surrogate gradients); reset variants as in the codes named above. */
#ifndef MS_NEURON_H
#define MS_NEURON_H

#include "real.h"
#include "surrogate.h"

typedef struct ms_neuron {
  ms_real leak, gain, bias;
  ms_real threshold, v_reset, v_init, alpha; /* alpha: the surrogate's width parameter */
  int surrogate;                             /* ms_surrogate */
  int soft, detach, ge;                      /* reset by subtraction; reset without gradient; fire on >= */
  int plif, plif_input;                      /* leak, gain, bias come from w; input scaled by k */
} ms_neuron;

/* Fills leak, gain and bias from PLIF's w; by an exponential that has the same bits everywhere, since spikes hang on
** it. */
MS_HD ms_neuron ms_neuron_plif(ms_neuron p, ms_real w) {
  ms_real e = ms_exp_down(-MS_FN(fabs)(w)), k = (w < 0 ? e : MS_R(1)) / (1 + e);
  p.leak = MS_R(1) - k;
  p.gain = p.plif_input ? k : MS_R(1);
  p.bias = k * p.v_reset * (p.soft ? MS_R(0) : MS_R(1));
  return p;
}

MS_HD ms_real ms_charge(const ms_neuron *p, ms_real v, ms_real x) {
  return MS_FN(fma)(p->leak, v, MS_FN(fma)(p->gain, x, p->bias));
}

/* The switches below choose between values, not between paths: the compiler can turn loops over them into vectors. */
MS_HD ms_real ms_fire(const ms_neuron *p, ms_real h) {
  ms_real u = h - p->threshold;
#ifdef MS_SMOOTH
  return ms_surrogate_primitive(p->surrogate, u, p->alpha);
#else
  return (u > 0) | ((u == 0) & (p->ge != 0)) ? MS_R(1) : MS_R(0);
#endif
}

MS_HD ms_real ms_reset(const ms_neuron *p, ms_real h, ms_real s) {
  ms_real rest = p->soft ? h : (MS_R(1) - s) * h, jump = p->soft ? -p->threshold : p->v_reset;
  return MS_FN(fma)(s, jump, rest);
}

/* dL/dh of one step. `sur` is the surrogate's derivative at h. */
MS_HD ms_real ms_neuron_dh(const ms_neuron *p, ms_real h, ms_real s, ms_real sur, ms_real gs, ms_real gv) {
  ms_real jump = p->soft ? -p->threshold : p->v_reset - h, keep = p->soft ? gv : gv * (MS_R(1) - s);
  return MS_FN(fma)(sur, p->detach ? gs : gs + gv * jump, keep);
}

/* The same formulas with the switches as numbers, which a loop over many neurons computes once: it then chooses by the
** spike alone. The values are those of the functions above wherever these are finite.
**   s = [h > above]
**   v' = s ? soft * h + jump : h
**   dh = g(u) * (gs + gv * (slope * h + back)) + (s ? soft * gv : gv) */
typedef struct ms_switched {
  ms_neuron p;
  ms_real above;       /* the threshold, or with >= the number below it */
  ms_real soft, jump;  /* hard: 0, v_reset; soft: 1, -threshold */
  ms_real slope, back; /* dv/ds = slope * h + back; 0, 0 when detached */
} ms_switched;

MS_HD ms_switched ms_switched_of(ms_neuron p) {
  ms_switched q;
  q.p = p;
  q.above = p.ge ? MS_FN(nextafter)(p.threshold, MS_R(-INFINITY)) : p.threshold;
  q.soft = p.soft ? MS_R(1) : MS_R(0);
  q.jump = p.soft ? -p.threshold : p.v_reset;
  q.slope = p.soft || p.detach ? MS_R(0) : MS_R(-1);
  q.back = p.detach ? MS_R(0) : q.jump;
  return q;
}

/* A smooth spike s is no switch: the smooth build keeps to the functions above. */
MS_HD ms_real ms_switched_reset(const ms_switched *q, ms_real h, ms_real s) {
#ifdef MS_SMOOTH
  return ms_reset(&q->p, h, s);
#else
  (void)s;
  return h > q->above ? MS_FN(fma)(q->soft, h, q->jump) : h;
#endif
}

MS_HD ms_real ms_switched_dh(const ms_switched *q, ms_real h, ms_real sur, ms_real gs, ms_real gv) {
#ifdef MS_SMOOTH
  return ms_neuron_dh(&q->p, h, ms_fire(&q->p, h), sur, gs, gv);
#else
  ms_real keep = h > q->above ? q->soft * gv : gv;
  return MS_FN(fma)(sur, gs + gv * MS_FN(fma)(q->slope, h, q->back), keep);
#endif
}

#endif
