/* Per-element arithmetic of the classification losses over logits z with a target share p_j for each class: of a label the
** one-hot, else numbers from 0 whose sum is their mass, mostly 1.
**   CE  = sum q_j (lse(z) - z_j),   q = (1 - smooth) p + smooth / C     dCE/dz_j  = (sum q) softmax_j - q_j
**   MSE = sum (z_j - goal_j)^2 / C, goal = p, or phi everywhere         dMSE/dz_j = 2 (z_j - goal_j) / C
** lse is taken after subtracting the row's maximum. Methods: SDT and SMSE over the mean of steps, TET
** (Deng et al. 2022) and TRT (arXiv 2506.19256) over each step, LTS over the last. */
#ifndef MS_LOSS_H
#define MS_LOSS_H

#include "real.h"

typedef struct ms_loss_target {
  ms_real keep, off; /* q = keep * p + off */
  ms_real goal, phi; /* of the mean squared error: goal * p + phi */
} ms_loss_target;

MS_HD ms_loss_target ms_loss_target_of(int64_t classes, ms_real smooth, int onehot, ms_real phi) {
  ms_loss_target t;
  t.off = smooth / MS_R(classes);
  t.keep = 1 - smooth;
  t.goal = MS_R(onehot ? 1 : 0);
  t.phi = onehot ? MS_R(0) : phi;
  return t;
}

/* -q_j * log softmax_j; lse is relative to top, the row's maximum. */
MS_HD ms_real ms_loss_ce_at(const ms_loss_target *t, ms_real p, ms_real z, ms_real top, ms_real lse) {
  ms_real q = t->keep * p + t->off;
  return q != 0 ? q * (lse - (z - top)) : MS_R(0);
}

MS_HD ms_real ms_loss_se_at(const ms_loss_target *t, ms_real p, ms_real z) {
  ms_real d = z - (t->goal * p + t->phi);
  return d * d;
}

/* ce and mse carry the loss's weight and every mean it takes. */
MS_HD ms_real ms_loss_grad_at(const ms_loss_target *t, ms_real p, ms_real mass, ms_real z, ms_real top, ms_real lse,
                              ms_real ce, ms_real mse) {
  ms_real whole = 1 + t->keep * (mass - 1), d = whole * MS_FN(exp)(z - top - lse) - (t->keep * p + t->off);
  return ce * d + mse * 2 * (z - (t->goal * p + t->phi));
}

/* What a target's entry must be. */
MS_HD int ms_loss_share(ms_real p) {
  return p >= 0 && p <= MS_REAL_MAX;
}

#endif
