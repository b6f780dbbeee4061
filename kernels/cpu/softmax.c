#include "cpu.h"
#include "parallel.h"

static void log_softmax_row(ms_real *out, const ms_real *x, int64_t n) {
  ms_real most = x[0];
  for (int64_t i = 1; i < n; i++)
    most = x[i] > most ? x[i] : most;
  double sum = 0;
  for (int64_t i = 0; i < n; i++)
    sum += MS_FN(exp)(x[i] - most);
  ms_real log_sum = MS_R(log(sum));
  for (int64_t i = 0; i < n; i++)
    out[i] = x[i] - most - log_sum;
}

ms_status ms_cpu_log_softmax(ms_stream *s, ms_real *out, const ms_real *x, int64_t rows, int64_t n) {
  (void)s;
  if (n == 0)
    return MS_OK;
  ms_parallel_for(r, rows, 16 * n) log_softmax_row(out + r * n, x + r * n, n);
  return MS_OK;
}

/* y = log_softmax(x): dx = g - exp(y) * sum(g) */
static void log_softmax_grad_row(ms_real *dx, const ms_real *g, const ms_real *y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++)
    sum += g[i];
  for (int64_t i = 0; i < n; i++)
    dx[i] = MS_FN(fma)(-MS_FN(exp)(y[i]), MS_R(sum), g[i]);
}

ms_status ms_cpu_log_softmax_grad(ms_stream *s, ms_real *dx, const ms_real *g, const ms_real *out, int64_t rows,
                                  int64_t n) {
  (void)s;
  ms_parallel_for(r, rows, 16 * n) log_softmax_grad_row(dx + r * n, g + r * n, out + r * n, n);
  return MS_OK;
}
