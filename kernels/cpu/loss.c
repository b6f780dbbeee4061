/* Classification losses: value, counters and gradient, sample by sample. */
#include "../math/loss.h"
#include "cpu.h"
#include "tile.h"

/* What one sample adds: its CE and squared errors, summed over the rows that count; 1 when right; 1 for a bad target. */
enum { CE, SE, RIGHT, BAD, PARTS };

typedef struct loss_plan {
  const ms_loss_args *a;
  ms_loss_target target;
  ms_real ce, mse; /* factors of a row's gradient, every mean included */
} loss_plan;

/* Of one sample. */
typedef struct goal {
  const ms_real *shares; /* NULL: the label's one-hot */
  int64_t label;
  ms_real mass;
  int bad;
} goal;

static goal goal_of(const ms_loss_args *a, int64_t b) {
  goal g = {.mass = 1};
  if (!a->targets) {
    g.label = a->labels[b];
    g.bad = g.label < 0 || g.label >= a->classes;
    return g;
  }
  g.shares = a->targets + b * a->classes;
  g.mass = 0;
  for (int64_t j = 0; j < a->classes; j++) {
    g.bad |= !ms_loss_share(g.shares[j]);
    g.mass += g.shares[j];
    g.label = g.shares[j] > g.shares[g.label] ? j : g.label;
  }
  return g;
}

static ms_real share(const goal *g, int64_t j) {
  return g->shares ? g->shares[j] : MS_R(j == g->label);
}

/* One row of logits z: adds to part, writes the gradient to dz unless NULL. */
static void loss_row(const loss_plan *l, const goal *g, const ms_real *z, ms_real *part, ms_real *dz) {
  int64_t classes = l->a->classes;
  ms_real top = z[0], sum = 0;
  for (int64_t j = 1; j < classes; j++)
    top = z[j] > top ? z[j] : top;
  for (int64_t j = 0; j < classes; j++)
    sum += MS_FN(exp)(z[j] - top);
  ms_real lse = MS_FN(log)(sum);
  for (int64_t j = 0; j < classes; j++) {
    ms_real p = share(g, j);
    part[CE] += ms_loss_ce_at(&l->target, p, z[j], top, lse);
    part[SE] += ms_loss_se_at(&l->target, p, z[j]);
    if (dz)
      dz[j] = ms_loss_grad_at(&l->target, p, g->mass, z[j], top, lse, l->ce, l->mse);
  }
}

static void mean_logits(const ms_loss_args *a, int64_t b, ms_real *mean) {
  ms_real buf[MS_TILE], inv = 1 / MS_R(a->steps);
  for (int64_t j = 0; j < a->classes; j += MS_TILE) {
    int64_t len = ms_min64(MS_TILE, a->classes - j);
    memset(mean + j, 0, (size_t)len * sizeof *mean);
    for (int64_t t = 0; t < a->steps; t++) {
      const ms_real *z = ms_tile_load(a->logits, t * a->logits_step + b * a->classes + j, len, buf);
      MS_SIMD for (int64_t i = 0; i < len; i++) mean[j + i] += z[i];
    }
    MS_SIMD for (int64_t i = 0; i < len; i++) mean[j + i] *= inv;
  }
}

/* row [classes] is scratch. */
static void loss_sample(const loss_plan *l, int64_t b, ms_real *row, ms_real *part) {
  const ms_loss_args *a = l->a;
  int64_t c = a->classes, best = 0, step = a->batch * c, last = a->steps - 1;
  ms_real *dz = a->dlogits ? a->dlogits + b * c : NULL;
  goal g = goal_of(a, b);
  memset(part, 0, PARTS * sizeof *part);
  part[BAD] = MS_R(g.bad);
  for (int64_t t = 0; t <= last; t++) {
    ms_real *dt = dz ? dz + t * step : NULL;
    if (!g.bad && (a->over == MS_LOSS_EACH || (a->over == MS_LOSS_LAST && t == last)))
      loss_row(l, &g, ms_tile_load(a->logits, t * a->logits_step + b * c, c, row), part, dt);
    else if (dt)
      memset(dt, 0, (size_t)c * sizeof *dt);
  }
  if (g.bad)
    return;
  mean_logits(a, b, row);
  for (int64_t j = 1; j < c; j++)
    best = row[j] > row[best] ? j : best;
  part[RIGHT] = MS_R(best == g.label);
  if (a->over == MS_LOSS_MEAN) {
    loss_row(l, &g, row, part, dz);
    for (int64_t t = 1; dz && t <= last; t++)
      memcpy(dz + t * step, dz, (size_t)c * sizeof *dz);
  }
}

ms_status ms_cpu_loss(ms_stream *s, const ms_loss_args *a) {
  (void)s;
  if (a->steps == 0 || a->batch == 0 || a->classes == 0)
    return MS_OK;
  double batch = (double)a->batch, classes = (double)a->classes, steps = (double)a->steps;
  double rows = a->over == MS_LOSS_LAST ? batch : batch * steps; /* MEAN: each step has a share 1 / T of the mean */
  loss_plan l = {.a = a,
                 .target = ms_loss_target_of(a->classes, a->smooth, a->mse_onehot, a->phi),
                 .ce = MS_R(a->ce / rows),
                 .mse = MS_R(a->mse / (rows * classes))};
  ms_real *parts = a->scratch + a->batch * a->classes;
  ms_parallel_for(b, a->batch, a->classes * a->steps)
      loss_sample(&l, b, a->scratch + b * a->classes, parts + b * PARTS);
  double ce = 0, se = 0;
  int64_t right = 0, bad = 0;
  for (int64_t b = 0; b < a->batch; b++) {
    const ms_real *part = parts + b * PARTS;
    ce += part[CE];
    se += part[SE];
    right += part[RIGHT] != 0;
    bad += part[BAD] != 0;
  }
  double samples = a->over == MS_LOSS_EACH ? batch * steps : batch;
  ce /= samples;
  se /= samples * classes;
  a->value[0] = MS_R(a->ce * ce + a->mse * se);
  a->value[1] = MS_R(ce);
  a->value[2] = MS_R(se);
  a->correct[0] = bad ? -1 : right;
  return MS_OK;
}
