/* Per-element arithmetic of the classification losses over logits z with the class's target q.
**   CE  = lse(z) - sum q_j z_j,     q = (1 - smooth) * onehot + smooth / C     dCE/dz_j  = softmax_j - q_j
**   MSE = sum (z_j - goal_j)^2 / C, goal = onehot, or phi everywhere           dMSE/dz_j = 2 (z_j - goal_j) / C
** lse is taken after subtracting the row's maximum. Methods: SDT and SMSE over the mean of steps, TET
** (Deng et al. 2022) and TRT (arXiv 2506.19256) over each step, LTS over the last. */
#ifndef MS_LOSS_H
#define MS_LOSS_H

#include "real.h"

typedef struct ms_loss_target {
  ms_real on, off;           /* q of the label and of every other class */
  ms_real goal_on, goal_off; /* of the mean squared error */
} ms_loss_target;

MS_HD ms_loss_target ms_loss_target_of(int64_t classes, ms_real smooth, int onehot, ms_real phi) {
  ms_loss_target t;
  t.off = smooth / MS_R(classes);
  t.on = 1 - smooth + t.off;
  t.goal_on = onehot ? MS_R(1) : phi;
  t.goal_off = onehot ? MS_R(0) : phi;
  return t;
}

/* -q_j * log softmax_j; lse is relative to top, the row's maximum. */
MS_HD ms_real ms_loss_ce_at(const ms_loss_target *t, int hit, ms_real z, ms_real top, ms_real lse) {
  ms_real q = hit ? t->on : t->off;
  return q != 0 ? q * (lse - (z - top)) : MS_R(0);
}

MS_HD ms_real ms_loss_se_at(const ms_loss_target *t, int hit, ms_real z) {
  ms_real d = z - (hit ? t->goal_on : t->goal_off);
  return d * d;
}

/* ce and mse carry the loss's weight and every mean it takes. */
MS_HD ms_real ms_loss_grad_at(const ms_loss_target *t, int hit, ms_real z, ms_real top, ms_real lse, ms_real ce,
                              ms_real mse) {
  ms_real p = MS_FN(exp)(z - top - lse) - (hit ? t->on : t->off);
  return ce * p + mse * 2 * (z - (hit ? t->goal_on : t->goal_off));
}

#endif
