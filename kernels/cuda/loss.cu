/* Classification losses: a block for each sample, a warp for each row of logits; the last block adds the samples up in
** their order. */
#include "../math/loss.h"
#include "launch.h"

enum { CE, SE, RIGHT, BAD, PARTS }; /* of a sample: its CE and squared errors over the rows that count, 0 or 1 */

typedef struct loss_plan {
  ms_loss_args a;
  ms_loss_target target;
  ms_real ce, mse;   /* factors of a row's gradient, every mean included */
  ms_real *parts;    /* [batch][PARTS] */
  unsigned *counter; /* blocks that are done; 0 between launches */
  int64_t *wrong;    /* the stream's word for the host: classes where labels are none, -classes where targets are */
} loss_plan;

/* A row of logits: element j is z[at + j]. */
typedef struct row {
  ms_data z;
  int64_t at;
} row;

MS_DEVICE float warp_max(float x) {
  for (int d = MS_WARP / 2; d > 0; d /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
  return x;
}

/* Of one warp: the row's maximum and log-sum-exp; a NaN comes out as a NaN lse. */
MS_DEVICE void row_lse(row r, int64_t classes, float *top, float *lse) {
  float most = -INFINITY, sum = 0;
  for (int64_t j = threadIdx.x % MS_WARP; j < classes; j += MS_WARP)
    most = fmaxf(most, ms_get(r.z, r.at + j));
  most = warp_max(most);
  for (int64_t j = threadIdx.x % MS_WARP; j < classes; j += MS_WARP)
    sum += expf(ms_get(r.z, r.at + j) - most);
  *top = most;
  *lse = logf(ms_warp_sum(sum));
}

/* Of one sample. */
typedef struct goal {
  const ms_real *shares; /* NULL: the label's one-hot */
  int64_t label;
  float mass;
  bool bad;
} goal;

MS_DEVICE float share(const goal &g, int64_t j) {
  return g.shares ? g.shares[j] : (j == g.label ? 1.0f : 0.0f);
}

/* Of one warp: adds the row's errors to part[CE] and part[SE]. */
MS_DEVICE void row_errors(const loss_plan &l, row r, const goal &g, float top, float lse, float *part) {
  float ce = 0, se = 0;
  for (int64_t j = threadIdx.x % MS_WARP; j < l.a.classes; j += MS_WARP) {
    float z = ms_get(r.z, r.at + j), p = share(g, j);
    ce += ms_loss_ce_at(&l.target, p, z, top, lse);
    se += ms_loss_se_at(&l.target, p, z);
  }
  part[CE] += ms_warp_sum(ce);
  part[SE] += ms_warp_sum(se);
}

MS_DEVICE void row_grad(const loss_plan &l, row r, const goal &g, float top, float lse, ms_real *dz) {
  for (int64_t j = threadIdx.x % MS_WARP; j < l.a.classes; j += MS_WARP)
    dz[j] = ms_loss_grad_at(&l.target, share(g, j), g.mass, ms_get(r.z, r.at + j), top, lse, l.ce, l.mse);
}

/* Of a block: in every thread the first place of the largest of all threads' `best`, each at its `where`. */
MS_DEVICE int64_t block_first_max(float best, int64_t where, float *best_of, int64_t *where_of) {
  __syncthreads();
  best_of[threadIdx.x] = best;
  where_of[threadIdx.x] = where;
  for (int n = MS_BLOCK / 2; n > 0; n /= 2) {
    __syncthreads();
    if ((int)threadIdx.x < n) {
      float other = best_of[threadIdx.x + n];
      int64_t there = where_of[threadIdx.x + n];
      if (other > best || (other == best && there < where)) {
        best_of[threadIdx.x] = best = other;
        where_of[threadIdx.x] = where = there;
      }
    }
  }
  __syncthreads();
  return where_of[0];
}

/* Of a block: the mean logits of sample b, in scratch, and in every thread the class of the first maximum. */
MS_DEVICE int64_t block_argmax(const loss_plan &l, int64_t b, float *best_of, int64_t *where_of) {
  const ms_loss_args &a = l.a;
  float best = -INFINITY, inv = 1 / MS_R(a.steps);
  ms_real *mean = a.scratch + b * a.classes;
  int64_t where = a.classes;
  for (int64_t j = threadIdx.x; j < a.classes; j += blockDim.x) {
    float sum = 0;
    for (int64_t t = 0; t < a.steps; t++)
      sum += ms_get(a.logits, t * a.logits_step + b * a.classes + j);
    mean[j] = sum *= inv;
    if (sum > best || where == a.classes) {
      best = sum > best ? sum : best;
      where = j;
    }
  }
  where = block_first_max(best, where, best_of, where_of);
  return mean[0] == mean[0] ? where : 0;
}

/* Of a block. */
MS_DEVICE goal block_goal(const loss_plan &l, int64_t b, float *best_of, int64_t *where_of) {
  const ms_loss_args &a = l.a;
  goal g = {NULL, 0, 1, false};
  if (!a.targets) {
    g.label = a.labels[b];
    g.bad = g.label < 0 || g.label >= a.classes;
    return g;
  }
  float best = -1, mass = 0;
  int64_t where = a.classes;
  g.shares = a.targets + b * a.classes;
  for (int64_t j = threadIdx.x; j < a.classes; j += blockDim.x) {
    float p = g.shares[j];
    g.bad = g.bad || !ms_loss_share(p);
    mass += p;
    if (p > best) {
      best = p;
      where = j;
    }
  }
  g.bad = __syncthreads_or(g.bad);
  g.mass = ms_block_sum(mass, best_of);
  g.label = block_first_max(best, where, best_of, where_of);
  return g;
}

/* Of the block that is done last. */
MS_DEVICE void add_samples(const loss_plan &l, double *room, int64_t *count) {
  const ms_loss_args &a = l.a;
  double ce = 0, se = 0, samples = a.over == MS_LOSS_EACH ? (double)a.batch * (double)a.steps : (double)a.batch;
  int64_t right = 0, bad = 0;
  for (int64_t b = threadIdx.x; b < a.batch; b += blockDim.x) {
    const ms_real *part = l.parts + b * PARTS;
    ce += (double)__ldcg(part + CE);
    se += (double)__ldcg(part + SE);
    right += __ldcg(part + RIGHT) != 0;
    bad += __ldcg(part + BAD) != 0;
  }
  ce = ms_block_sum(ce, room) / samples;
  se = ms_block_sum(se, room) / (samples * (double)a.classes);
  right = ms_block_sum(right, count);
  bad = ms_block_sum(bad, count);
  if (threadIdx.x != 0)
    return;
  a.value[0] = MS_R((double)a.ce * ce + (double)a.mse * se);
  a.value[1] = MS_R(ce);
  a.value[2] = MS_R(se);
  a.correct[0] = bad ? -1 : right;
  if (bad)
    *l.wrong = a.targets ? -a.classes : a.classes;
  *l.counter = 0;
}

__global__ void __launch_bounds__(MS_BLOCK) loss_kernel(const __grid_constant__ loss_plan l) {
  SHARED(float, best_of, [MS_BLOCK]);
  SHARED(int64_t, where_of, [MS_BLOCK]);
  SHARED(float, sums, [MS_BLOCK / MS_WARP][2]);
  SHARED(double, room, [MS_WARP]);
  SHARED(unsigned, arrived, [1]);
  SHARED(float, of_mean, [2]);
  SHARED(goal, aim, [1]);
  const ms_loss_args &a = l.a;
  int lane = threadIdx.x % MS_WARP, warp = threadIdx.x / MS_WARP, warps = MS_BLOCK / MS_WARP;
  int64_t b = blockIdx.x, c = a.classes, first = b * c;
  goal found = block_goal(l, b, best_of, where_of);
  if (threadIdx.x == 0)
    aim[0] = found;
  __syncthreads();
  const goal &g = aim[0]; /* registers are short */
  float part[2] = {0, 0}, top, lse;
  for (int64_t t = warp; t < a.steps; t += warps) {
    row r = {a.logits, t * a.logits_step + first};
    ms_real *dz = a.dlogits ? a.dlogits + t * a.batch * c + first : NULL;
    if (!g.bad && (a.over == MS_LOSS_EACH || (a.over == MS_LOSS_LAST && t == a.steps - 1))) {
      row_lse(r, c, &top, &lse);
      row_errors(l, r, g, top, lse, part);
      if (dz)
        row_grad(l, r, g, top, lse, dz);
    } else if (dz && (g.bad || a.over == MS_LOSS_LAST)) {
      for (int64_t j = lane; j < c; j += MS_WARP)
        dz[j] = 0;
    }
  }
  int64_t best = block_argmax(l, b, best_of, where_of);
  if (a.over == MS_LOSS_MEAN && !g.bad) {
    row r = {{a.scratch + first, MS_F32, 1}, 0};
    if (warp == 0) {
      row_lse(r, c, &top, &lse);
      row_errors(l, r, g, top, lse, part);
      if (lane == 0) {
        of_mean[0] = top;
        of_mean[1] = lse;
      }
    }
    __syncthreads();
    for (int64_t t = warp; a.dlogits && t < a.steps; t += warps)
      row_grad(l, r, g, of_mean[0], of_mean[1], a.dlogits + t * a.batch * c + first);
  }
  if (lane == 0) {
    sums[warp][CE] = part[CE];
    sums[warp][SE] = part[SE];
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    ms_real *out = l.parts + b * PARTS;
    out[CE] = out[SE] = 0;
    for (int i = 0; i < warps; i++) {
      out[CE] += sums[i][CE];
      out[SE] += sums[i][SE];
    }
    out[RIGHT] = MS_R(!g.bad && best == g.label);
    out[BAD] = MS_R(g.bad);
    __threadfence();
    arrived[0] = atomicAdd(l.counter, 1u);
    __threadfence();
  }
  __syncthreads();
  if (arrived[0] == gridDim.x - 1)
    add_samples(l, room, where_of);
}

extern "C" ms_status ms_cuda_loss(ms_stream *s, const ms_loss_args *a) {
  if (a->steps == 0 || a->batch == 0 || a->classes == 0)
    return MS_OK;
  MS_TRY(ms_cuda_enter(s));
  double batch = (double)a->batch, classes = (double)a->classes;
  double rows = a->over == MS_LOSS_LAST ? batch : batch * (double)a->steps; /* MEAN: each step has a share 1 / T */
  loss_plan l = {*a,
                 ms_loss_target_of(a->classes, a->smooth, a->mse_onehot, a->phi),
                 MS_R(a->ce / rows),
                 MS_R(a->mse / (rows * classes)),
                 a->scratch + a->batch * a->classes,
                 s->counter,
                 s->classes};
  LAUNCH(loss_kernel, (unsigned)a->batch, MS_BLOCK, 0, s->id, l);
  return ms_cuda_launched(s, "loss_kernel");
}
