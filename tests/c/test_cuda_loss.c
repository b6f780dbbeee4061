/* The loss row of CUDA beside the CPU's, and beside plain loops in double. */
#include "twin.h"

typedef struct shape {
  int64_t steps, batch, classes;
} shape;

static const shape shapes[] = {{1, 1, 1},   {1, 1, 2},   {3, 5, 10},   {10, 7, 33},
                               {4, 70, 11}, {2, 300, 3}, {9, 2, 1000}, {2, 3, 2500}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Inputs on the host; outputs of the row that ran last. */
typedef struct run {
  ms_loss_args a;
  int64_t n, held; /* elements of dlogits, of logits */
  ms_real value[3], *dlogits;
  int64_t correct, *labels;
  ms_real *shares; /* [batch, classes] or NULL */
  int wrong;       /* some labels are */
} run;

static run run_of(shape z, ms_loss_over over, ms_dtype dtype, int fixed) {
  run k = {.n = z.steps * z.batch * z.classes, .held = z.batch * z.classes * (fixed ? 1 : z.steps)};
  k.labels = malloc((size_t)z.batch * sizeof *k.labels);
  k.dlogits = malloc((size_t)k.n * sizeof *k.dlogits);
  for (int64_t b = 0; b < z.batch; b++)
    k.labels[b] = (int64_t)(row_random() * (double)z.classes);
  k.a = (ms_loss_args){.steps = z.steps,
                       .batch = z.batch,
                       .classes = z.classes,
                       .over = over,
                       .ce = MS_R(.7),
                       .mse = MS_R(.3),
                       .smooth = MS_R(.02),
                       .phi = 1,
                       .mse_onehot = over == MS_LOSS_MEAN,
                       .logits = row_data(dtype, 1, k.held),
                       .logits_step = fixed ? 0 : z.batch * z.classes,
                       .labels = k.labels,
                       .value = k.value,
                       .correct = &k.correct,
                       .dlogits = k.dlogits};
  return k;
}

/* Labels become mixtures of two classes. */
static void mix(run *k) {
  int64_t c = k->a.classes;
  k->shares = calloc((size_t)(k->a.batch * c), sizeof *k->shares);
  for (int64_t b = 0; b < k->a.batch; b++) {
    ms_real part = MS_R(row_random());
    k->shares[b * c + k->labels[b]] += part;
    k->shares[b * c + (k->labels[b] + 1 + b) % c] += 1 - part;
  }
  k->a.targets = k->shares;
}

static size_t scratch_bytes(const run *k) {
  return (size_t)(k->a.batch * (k->a.classes + 4)) * sizeof(ms_real);
}

static void run_cpu(run *k) {
  ms_loss_args a = k->a;
  a.scratch = malloc(scratch_bytes(k));
  a.value = k->value;
  a.correct = &k->correct;
  assert_int_equal(ms_cpu_loss(NULL, &a), MS_OK);
  free(a.scratch);
}

static void run_gpu(run *k) {
  ms_loss_args a = k->a;
  a.logits = data_to_device(a.logits, k->held);
  a.labels = to_device(k->labels, (size_t)a.batch * sizeof *k->labels);
  a.targets = to_device(k->shares, (size_t)(a.batch * a.classes) * sizeof *k->shares);
  a.value = on_device(sizeof k->value);
  a.correct = on_device(sizeof k->correct);
  a.dlogits = a.dlogits ? on_device((size_t)k->n * sizeof *k->dlogits) : NULL;
  a.scratch = on_device(scratch_bytes(k));
  for (int again = 0; again < 2; again++)
    TWIN_OK(gpu->loss(gpu_stream, &a));
  if (k->wrong) {
    assert_int_equal(gpu->synchronize(gpu_stream), MS_ERANGE);
    assert_non_null(strstr(gpu->error_text(gpu_stream),
                           k->shares ? "targets: expected finite shares >= 0" : "labels: expected values in [0, 1]"));
  }
  fetch(k->value, a.value, sizeof k->value);
  fetch(&k->correct, a.correct, sizeof k->correct);
  if (a.dlogits)
    fetch(k->dlogits, a.dlogits, (size_t)k->n * sizeof *k->dlogits);
}

static void done(run *k) {
  free(k->labels);
  free(k->shares);
  free(k->dlogits);
  free(k->a.logits.p);
  twin_release(NULL);
}

/* value[0..2] and the gradient, all in double. */
static void plain(const run *k, double value[3], double *grad) {
  const ms_loss_args *a = &k->a;
  int64_t c = a->classes, row = a->batch * c;
  double rows = a->over == MS_LOSS_EACH ? (double)(a->steps * a->batch) : (double)a->batch, *z = malloc(sizeof *z * c);
  memset(grad, 0, (size_t)k->n * sizeof *grad);
  value[1] = value[2] = 0;
  for (int64_t t = 0; t < a->steps; t++)
    for (int64_t b = 0; b < a->batch; b++) {
      double sum = 0, off = (double)a->smooth / (double)c;
      if ((a->over == MS_LOSS_LAST && t < a->steps - 1) || (a->over == MS_LOSS_MEAN && t > 0))
        continue;
      for (int64_t j = 0; j < c; j++) {
        z[j] = 0;
        if (a->over == MS_LOSS_MEAN)
          for (int64_t u = 0; u < a->steps; u++)
            z[j] += row_get(a->logits, u * a->logits_step + b * c + j) / (double)a->steps;
        else
          z[j] = row_get(a->logits, t * a->logits_step + b * c + j);
        sum += exp(z[j]);
      }
      for (int64_t j = 0; j < c; j++) {
        double share = k->shares ? (double)k->shares[b * c + j] : j == k->labels[b];
        double q = off + (1 - (double)a->smooth) * share, goal = a->mse_onehot ? share : (double)a->phi;
        double dz =
            (double)a->ce * (exp(z[j]) / sum - q) / rows + (double)a->mse * 2 * (z[j] - goal) / (rows * (double)c);
        value[1] -= q * (z[j] - log(sum)) / rows;
        value[2] += (z[j] - goal) * (z[j] - goal) / (rows * (double)c);
        if (a->over == MS_LOSS_MEAN)
          for (int64_t u = 0; u < a->steps; u++)
            grad[u * row + b * c + j] = dz / (double)a->steps;
        else
          grad[t * row + b * c + j] = dz;
      }
    }
  value[0] = (double)a->ce * value[1] + (double)a->mse * value[2];
  free(z);
}

static void close_to(const char *what, double got, double want, double tolerance) {
  if (!(fabs(got - want) <= tolerance))
    fail_msg("%s: got %.9g, expected %.9g", what, got, want);
}

static void test_all(void **state) {
  (void)state;
  TWIN_NEEDED();
  for (int i = 0; i < SHAPES * 12; i++) {
    if (i >= 5 * 12 && i % 4 > 0) /* the large ones take long */
      continue;
    run k = run_of(shapes[i / 12], (ms_loss_over)(i % 3), i / 3 % 2 ? MS_BF16 : MS_F32, i / 6 % 2);
    if (i / 12 % 2)
      mix(&k);
    double want[3], *grad = malloc((size_t)k.n * sizeof *grad), rows = (double)(k.a.batch * k.a.steps);
    plain(&k, want, grad);
    run_cpu(&k);
    int64_t correct = k.correct;
    memset(k.dlogits, 0xff, (size_t)k.n * sizeof *k.dlogits);
    run_gpu(&k);
    for (int j = 0; j < 3; j++)
      close_to("value", (double)k.value[j], want[j], 1e-5 * (1 + fabs(want[j])));
    for (int64_t j = 0; j < k.n; j++)
      close_to("gradient", (double)k.dlogits[j], grad[j], 2e-6 / rows * (double)k.a.steps + 1e-5 * fabs(grad[j]));
    assert_int_equal(k.correct, correct);
    free(grad);
    done(&k);
  }
}

/* Equal means: the first class counts. NaN: as on the CPU. */
static void test_ties(void **state) {
  (void)state;
  TWIN_NEEDED();
  const shape z = {2, 100, 300};
  for (int nan = 0; nan < 2; nan++) {
    run k = run_of(z, MS_LOSS_EACH, MS_F32, 0);
    ms_real *x = k.a.logits.p;
    for (int64_t i = 0; i < k.n; i++)
      x[i] = MS_R((int)(row_random() * 3));
    for (int64_t b = 0; b < z.batch; b++) {
      k.labels[b] = b % 4;
      if (nan)
        x[b * z.classes + b % 3] = MS_R(NAN);
    }
    run_cpu(&k);
    int64_t correct = k.correct;
    run_gpu(&k);
    assert_true(correct > 5);
    assert_int_equal(k.correct, correct);
    assert_int_equal(k.value[0] != k.value[0], nan);
    done(&k);
  }
}

static void test_bad_labels(void **state) {
  (void)state;
  TWIN_NEEDED();
  const int64_t bad[] = {2, 1, -1, INT64_MAX};
  const shape z = {3, 4, 2};
  for (int over = MS_LOSS_EACH; over <= MS_LOSS_LAST; over++) {
    run cpu = run_of(z, (ms_loss_over)over, MS_F32, 0), k = cpu;
    memcpy(cpu.labels, bad, sizeof bad);
    k.wrong = 1;
    run_cpu(&cpu);
    ms_real want[24];
    memcpy(want, cpu.dlogits, sizeof want);
    run_gpu(&k);
    assert_int_equal(k.correct, -1);
    for (int i = 0; i < 3; i++)
      close_to("value", (double)k.value[i], (double)cpu.value[i], 1e-6);
    for (int i = 0; i < 24; i++)
      close_to("gradient", (double)k.dlogits[i], (double)want[i], 1e-6);
    done(&k);
  }
}

/* One-hot targets: the bits of labels. Entries that are no shares: as on the CPU. */
static void test_targets(void **state) {
  (void)state;
  TWIN_NEEDED();
  for (int over = MS_LOSS_EACH; over <= MS_LOSS_LAST; over++) {
    const shape z = {3, 9, 70};
    run k = run_of(z, (ms_loss_over)over, MS_F32, 0), s = k;
    s.dlogits = malloc((size_t)k.n * sizeof *s.dlogits);
    s.a.dlogits = s.dlogits;
    s.shares = calloc((size_t)(z.batch * z.classes), sizeof *s.shares);
    s.a.targets = s.shares;
    for (int64_t b = 0; b < z.batch; b++)
      s.shares[b * z.classes + k.labels[b]] = 1;
    run_gpu(&k);
    run_gpu(&s);
    assert_memory_equal(k.value, s.value, sizeof k.value);
    assert_int_equal(k.correct, s.correct);
    assert_memory_equal(k.dlogits, s.dlogits, (size_t)k.n * sizeof *k.dlogits);
    s.shares[2] = -1;
    s.shares[5 * z.classes + 69] = MS_R(NAN);
    s.wrong = 1;
    run_cpu(&s);
    double want = (double)s.value[0];
    run_gpu(&s);
    assert_int_equal(s.correct, -1);
    close_to("value", (double)s.value[0], want, 1e-5);
    for (int64_t j = 0; j < z.classes; j++)
      assert_true(s.dlogits[j] == 0 && s.dlogits[5 * z.classes + j] == 0);
    free(s.shares);
    free(s.dlogits);
    done(&k);
  }
}

static void test_extremes(void **state) {
  (void)state;
  TWIN_NEEDED();
  const shape z = {1, 2, 3};
  run k = run_of(z, MS_LOSS_EACH, MS_F32, 0);
  const ms_real x[] = {MS_R(3e4), MS_R(-3e4), 0, MS_R(-3e4), MS_R(3e4), 0};
  memcpy(k.a.logits.p, x, sizeof x);
  k.labels[0] = k.labels[1] = 0;
  k.a.ce = 1;
  k.a.mse = k.a.smooth = 0;
  run_gpu(&k);
  close_to("value", (double)k.value[0], 3e4, 1e-2);
  assert_int_equal(k.correct, 1);
  for (int i = 0; i < 6; i++)
    assert_true(isfinite(k.dlogits[i]));
  double was = (double)k.value[0];
  k.a.dlogits = NULL;
  run_gpu(&k);
  assert_true((double)k.value[0] == was);
  k.a.batch = 0;
  k.a.value = NULL;
  TWIN_OK(gpu->loss(gpu_stream, &k.a));
  done(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_all, twin_release),        cmocka_unit_test_teardown(test_ties, twin_release),
      cmocka_unit_test_teardown(test_bad_labels, twin_release), cmocka_unit_test_teardown(test_targets, twin_release),
      cmocka_unit_test_teardown(test_extremes, twin_release),
  };
  return cmocka_run_group_tests_name("cuda loss", tests, twin_setup, twin_teardown);
}
