/* Batch normalisation on CUDA beside the CPU rows, and beside plain double loops. */
#include "twin.h"

#define COUNT(array) ((int64_t)(sizeof(array) / sizeof *(array)))

static ms_data bits_of(int64_t n) {
  ms_data x = {calloc(MS_BITS_BYTES(n), 1), MS_BITS, MS_R(0.5)};
  assert_non_null(x.p);
  for (int64_t i = 0; i < n; i++)
    ((uint8_t *)x.p)[i / 8] |= (uint8_t)((row_random() < .3) << i % 8);
  return x;
}

static double value(ms_data x, int64_t i) {
  return x.dtype == MS_BITS ? (((uint8_t *)x.p)[i / 8] >> i % 8 & 1) * (double)x.scale : row_get(x, i);
}

static ms_data values(ms_dtype t, int64_t n, double shift) {
  ms_data x = t == MS_BITS ? bits_of(n) : row_data(t, t == MS_SPIKE ? MS_R(0.25) : 1, n);
  for (int64_t i = 0; t == MS_F32 && i < n; i++)
    ((ms_real *)x.p)[i] += MS_R(shift);
  return x;
}

static ms_data reals(int64_t c, double lo, double hi) {
  ms_data x = row_data(MS_F32, 1, c);
  for (int64_t i = 0; i < c; i++)
    ((ms_real *)x.p)[i] = MS_R(lo + (hi - lo) * row_random());
  return x;
}

static ms_data none(void) {
  return (ms_data){NULL, MS_F32, 1};
}

/* ---- statistics ---- */

enum { MEAN, INVSTD, A, B, RUN_MEAN, RUN_VAR, FIELDS };

static void check_stats(int64_t rows, int64_t c, ms_dtype t, int64_t repeat, double shift, int on) {
  static const char *names[] = {"mean", "invstd", "a", "b", "running mean", "running variance"};
  ms_data x = values(t, rows * c, shift), gamma = reals(c, .5, 2), beta = reals(c, -1, 1), out[FIELDS], got[FIELDS];
  int training = on & 1, affine = on & 2, running = on & 4 || !training;
  for (int i = 0; i < FIELDS; i++)
    out[i] = i == RUN_MEAN || i == RUN_VAR ? reals(c, .5, 1) : row_output(MS_F32, c);
  ms_norm n = {.rows = rows,
               .c = c,
               .repeat = repeat,
               .gain = MS_R(.7),
               .eps = MS_R(1e-5),
               .momentum = MS_R(.1),
               .training = training},
          m;
  m = n;
  for (int i = 0; i < FIELDS; i++)
    got[i] = data_to_device(out[i], c);
  n.x = x;
  m.x = data_to_device(x, rows * c);
  if (affine) {
    n.gamma = gamma.p;
    n.beta = beta.p;
    m.gamma = data_to_device(gamma, c).p;
    m.beta = data_to_device(beta, c).p;
  }
  ms_real **places[2][FIELDS] = {{&n.mean, &n.invstd, &n.a, &n.b, &n.running_mean, &n.running_var},
                                 {&m.mean, &m.invstd, &m.a, &m.b, &m.running_mean, &m.running_var}};
  for (int i = 0; i < FIELDS; i++) {
    *places[0][i] = i < RUN_MEAN || running ? out[i].p : NULL;
    *places[1][i] = i < RUN_MEAN || running ? got[i].p : NULL;
  }
  double want_mean = rows ? 0 : NAN, want_var = 0;
  for (int64_t i = 0; i < rows; i++)
    want_mean += value(x, i * c) / (double)rows;
  for (int64_t i = 0; i < rows; i++)
    want_var += pow(value(x, i * c) - want_mean, 2) / (double)rows;
  TWIN_OK(gpu->norm_stats(gpu_stream, &m));
  assert_int_equal(ms_cpu_norm_stats(NULL, &n), MS_OK);
  for (int i = 0; i < FIELDS; i++) {
    ms_data g = fetched(got[i], c);
    /* b and mean stand against the size of x; 1 / sqrt(var) against that of var's rounding */
    twin_close(names[i], g, out[i], c, 1, i == B ? 1e-5 + 2e-6 * fabs(shift) : 3e-6);
    if (training && rows > 0 && i == MEAN)
      row_check("mean", g, 0, want_mean, 1 + fabs(shift));
    if (training && rows > 0 && i == INVSTD)
      row_check("invstd", g, 0, 1 / sqrt(want_var + 1e-5), 1 / sqrt(want_var + 1e-5));
    free(g.p);
    free(out[i].p);
  }
  free(x.p);
  free(gamma.p);
  free(beta.p);
}

static void test_stats(void **state) {
  TWIN_NEEDED();
  const int64_t rows[] = {0, 1, 7, 33, 700, 5000}, c[] = {1, 3, 8, 12, 64, 600};
  const ms_dtype types[] = {MS_F32, MS_BF16, MS_SPIKE, MS_U8, MS_BITS};
  for (int64_t i = 0; i < COUNT(rows) * COUNT(c) * COUNT(types); i++) {
    int64_t r = rows[i % COUNT(rows)], ch = c[i / COUNT(rows) % COUNT(c)];
    ms_dtype t = types[i / COUNT(rows) / COUNT(c)];
    if (r * ch > 60000 || (t == MS_BITS && ch % 8))
      continue;
    check_stats(r, ch, t, 1 + i % 2 * 3, i % 3 ? 0 : 20, i % 7);
    check_stats(r, ch, t, 1, 0, 7);
    twin_release(state);
  }
}

/* ---- application ---- */

static void check_apply(int64_t steps, int64_t rows, int64_t c, ms_dtype tx, ms_dtype tr, ms_dtype ty, int on) {
  int64_t n = rows * c, x_step = on & 1 ? 0 : n, r_step = on & 2 ? 0 : n;
  ms_data x = values(tx, x_step ? steps * n : n, 0), r = on & 4 ? values(tr, r_step ? steps * n : n, 0) : none();
  ms_data a = reals(c, .5, 2), b = reals(c, -1, 1), y = row_output(ty, steps * n);
  ms_data dx = data_to_device(x, x_step ? steps * n : n), dr = r.p ? data_to_device(r, r_step ? steps * n : n) : r;
  ms_data dy = data_to_device(y, steps * n);
  ms_affine f = {NULL, NULL}, df = {NULL, NULL};
  if (on & 8) {
    f = (ms_affine){a.p, b.p};
    df = (ms_affine){data_to_device(a, c).p, data_to_device(b, c).p};
  }
  assert_int_equal(ms_cpu_norm_apply(NULL, steps, rows, c, x, x_step, f, r, r_step, y), MS_OK);
  TWIN_OK(gpu->norm_apply(gpu_stream, steps, rows, c, dx, x_step, df, dr, r_step, dy));
  ms_data got = fetched(dy, steps * n);
  assert_memory_equal(got.p, y.p, twin_bytes(ty, steps * n));
  ms_data all[] = {x, r, a, b, y, got};
  for (int i = 0; i < 6; i++)
    free(all[i].p);
}

static void test_apply(void **state) {
  TWIN_NEEDED();
  const int64_t rows[] = {0, 1, 7, 33, 300}, c[] = {1, 3, 8, 12, 64};
  const ms_dtype types[] = {MS_F32, MS_BF16, MS_SPIKE, MS_BITS};
  for (int64_t i = 0; i < COUNT(rows) * COUNT(c) * 16; i++) {
    int64_t ch = c[i / COUNT(rows) % COUNT(c)], k = i / COUNT(rows) / COUNT(c);
    ms_dtype tx = types[k % 4], tr = types[k / 4];
    if ((tx == MS_BITS || tr == MS_BITS) && ch % 8)
      continue;
    check_apply(1 + i % 3, rows[i % COUNT(rows)], ch, tx, tr, i % 2 ? MS_BF16 : MS_F32, (int)(i * 7 % 16));
    twin_release(state);
  }
}

/* ---- gradient ---- */

static void check_grad(int64_t rows, int64_t c, int64_t repeat, ms_dtype tx, ms_dtype tg, ms_dtype td, int on) {
  int64_t n = rows * c, all = n * repeat;
  ms_data x = values(tx, n, 0), g = values(tg, all, 0), gamma = reals(c, .5, 2), mean = reals(c, -.1, .1),
          invstd = reals(c, 1, 2), dx = row_output(td, n), dgamma = row_output(MS_F32, c),
          dbeta = row_output(MS_F32, c);
  ms_norm_grad a = {.rows = rows,
                    .c = c,
                    .repeat = repeat,
                    .x = x,
                    .g = g,
                    .dx = on & 1 ? dx : none(),
                    .gamma = on & 2 ? gamma.p : NULL,
                    .mean = mean.p,
                    .invstd = invstd.p,
                    .gain = MS_R(.7),
                    .training = !!(on & 4),
                    .dgamma = on & 8 ? dgamma.p : NULL,
                    .dbeta = on & 8 ? dbeta.p : NULL},
               b = a;
  ms_data ddx = data_to_device(dx, n), ddg = data_to_device(dgamma, c), ddb = data_to_device(dbeta, c);
  b.x = data_to_device(x, n);
  b.g = data_to_device(g, all);
  b.dx = on & 1 ? ddx : none();
  b.gamma = on & 2 ? data_to_device(gamma, c).p : NULL;
  b.mean = data_to_device(mean, c).p;
  b.invstd = data_to_device(invstd, c).p;
  b.dgamma = on & 8 ? ddg.p : NULL;
  b.dbeta = on & 8 ? ddb.p : NULL;
  double sum_g = 0, sum_gx = 0, size = 0;
  for (int64_t i = 0; i < rows * repeat; i++) {
    double v = value(g, i * c), xhat = (value(x, i % rows * c) - row_get(mean, 0)) * row_get(invstd, 0);
    sum_g += v;
    sum_gx += v * xhat;
    size += fabs(v) + fabs(v * xhat);
  }
  assert_int_equal(ms_cpu_norm_grad(NULL, &a), MS_OK);
  TWIN_OK(gpu->norm_grad(gpu_stream, &b));
  ms_data got[] = {fetched(ddx, n), fetched(ddg, c), fetched(ddb, c)};
  twin_close("dgamma", got[1], dgamma, c, size, 1e-6);
  twin_close("dbeta", got[2], dbeta, c, size, 1e-6);
  twin_close("dx", got[0], dx, n, (double)repeat, td == MS_BF16 ? .01 : 1e-5);
  if (on & 8 && n && repeat) {
    row_check("dgamma", got[1], 0, .7 * sum_gx, size);
    row_check("dbeta", got[2], 0, sum_g, size);
  }
  for (int64_t i = 0; on & 1 && i < rows; i++) {
    double want = 0, count = (double)(rows * repeat), s = .7 * (on & 2 ? row_get(gamma, 0) : 1) * row_get(invstd, 0);
    double xhat = (value(x, i * c) - row_get(mean, 0)) * row_get(invstd, 0);
    for (int64_t t = 0; t < repeat; t++)
      want += s * (value(g, (t * rows + i) * c) - (on & 4 ? sum_g / count + xhat * sum_gx / count : 0));
    row_check("dx", got[0], i * c, want, 10 * (double)repeat);
  }
  ms_data mine[] = {x, g, gamma, mean, invstd, dx, dgamma, dbeta, got[0], got[1], got[2]};
  for (int i = 0; i < 11; i++)
    free(mine[i].p);
}

static void test_grad(void **state) {
  TWIN_NEEDED();
  const int64_t rows[] = {0, 1, 7, 33, 700}, c[] = {1, 3, 8, 12, 64, 600};
  const ms_dtype types[] = {MS_F32, MS_BF16, MS_SPIKE, MS_BITS};
  for (int64_t i = 0; i < COUNT(rows) * COUNT(c) * 8; i++) {
    int64_t r = rows[i % COUNT(rows)], ch = c[i / COUNT(rows) % COUNT(c)], k = i / COUNT(rows) / COUNT(c);
    if ((types[k % 4] == MS_BITS && ch % 8) || r * ch > 50000)
      continue;
    check_grad(r, ch, 1 + k / 4 * (1 + i % 3), types[k % 4], types[i % 2], types[i / 2 % 2], (int)(i * 5 % 16));
    check_grad(r, ch, 1, types[k % 4], MS_F32, MS_F32, 15);
    twin_release(state);
  }
}

/* ---- launches ---- */

/* Of many blocks, whose sums the last of them adds up; twice, since the counters must be as before. */
static void test_launches(void **state) {
  (void)state;
  TWIN_NEEDED();
  const int64_t rows = 3000, c = 40;
  ms_data x = values(MS_F32, rows * c, 0), g = values(MS_F32, rows * c, 0), dx = row_output(MS_F32, rows * c),
          invstd = reals(c, 1, 2), out = row_output(MS_F32, c);
  ms_norm n = {.rows = rows, .c = c, .repeat = 1, .x = data_to_device(x, rows * c), .gain = 1, .eps = MS_R(1e-5)};
  ms_real **places[] = {&n.mean, &n.invstd, &n.a, &n.b, &n.running_mean, &n.running_var};
  for (int i = 0; i < COUNT(places); i++)
    *places[i] = data_to_device(i < 4 ? out : invstd, c).p;
  ms_norm_grad d = {.rows = rows,
                    .c = c,
                    .repeat = 1,
                    .x = n.x,
                    .g = data_to_device(g, rows * c),
                    .dx = data_to_device(dx, rows * c),
                    .mean = n.mean,
                    .invstd = n.invstd,
                    .gain = 1,
                    .dgamma = data_to_device(out, c).p,
                    .dbeta = data_to_device(out, c).p};
  ms_real *first = malloc((size_t)(6 * c) * sizeof *first), *again = malloc((size_t)(6 * c) * sizeof *first);
  for (int i = 0; i < 4; i++) {
    n.training = d.training = i % 2 == 0;
    int64_t before = twin_launches();
    TWIN_OK(gpu->norm_stats(gpu_stream, &n));
    assert_int_equal(twin_launches() - before, 1);
    before = twin_launches();
    TWIN_OK(gpu->norm_grad(gpu_stream, &d));
    assert_int_equal(twin_launches() - before, 2);
    const ms_real *read[] = {n.mean, n.invstd, n.a, n.b, d.dgamma, d.dbeta};
    for (int j = 0; i % 2 == 0 && j < COUNT(read); j++)
      fetch((i ? again : first) + j * c, read[j], (size_t)c * sizeof *first);
  }
  assert_memory_equal(first, again, (size_t)(6 * c) * sizeof *first);
  ms_data all[] = {x, g, dx, invstd, out, {first, MS_F32, 1}, {again, MS_F32, 1}};
  for (int i = 0; i < COUNT(all); i++)
    free(all[i].p);
}

/* More columns of blocks than the stream has counters. */
static void test_wide(void **state) {
  TWIN_NEEDED();
  check_stats(40, 8500, MS_F32, 1, 0, 7);
  twin_release(state);
  check_grad(40, 8500, 1, MS_F32, MS_F32, MS_F32, 15);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_stats, twin_release), cmocka_unit_test_teardown(test_apply, twin_release),
      cmocka_unit_test_teardown(test_grad, twin_release),  cmocka_unit_test_teardown(test_launches, twin_release),
      cmocka_unit_test_teardown(test_wide, twin_release),
  };
  return cmocka_run_group_tests_name("cuda_norm", tests, twin_setup, twin_teardown);
}
