/* Prints, for layers of many shapes, up to which share of non-zero inputs the event engine is faster than the dense
** engine of this machine: what the table in kernels/cpu/conv.c is made from. Built by make break_even; arguments: bf16
** or f32, number of the first layer.
** Processor time of one thread is measured, so that other programs disturb little. */
#include "../../kernels/cpu/cpu.h"
#include "../../kernels/cpu/parallel.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct layer {
  int64_t n, cin, cout, side;
  int k, stride;
} layer;

static const layer layers[] = {{8, 3, 64, 32, 3, 1},    {8, 16, 32, 28, 3, 1},    {8, 32, 64, 14, 3, 1},
                               {8, 64, 128, 32, 3, 1},  {8, 128, 128, 32, 3, 1},  {16, 256, 256, 16, 3, 1},
                               {32, 512, 512, 8, 3, 1}, {8, 128, 256, 32, 3, 2},  {16, 256, 512, 16, 3, 2},
                               {8, 64, 128, 32, 1, 1},  {16, 128, 256, 32, 1, 2}, {512, 800, 128, 1, 1, 1}};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *bytes(int64_t n) {
  size_t size = ((size_t)n / 512 + 2) * 512;
  void *p = aligned_alloc(64, size);
  if (!p)
    exit(1);
  return memset(p, 0, size);
}

static double once(const char *engine, const ms_conv_args *a, ms_conv_pass pass) {
  ms_cpu_conv_force(NULL, engine);
  double start = now();
  ms_status status = pass == MS_CONV_FORWARD ? ms_cpu_conv_forward(NULL, a) : ms_cpu_conv_weight_grad(NULL, a);
  if (status != MS_OK)
    exit(1);
  return now() - start;
}

static void fill(uint8_t *x, int64_t n, double density, int counts) {
  static uint32_t state = 1;
  for (int64_t i = 0; i < n; i++) {
    state = state * 1664525u + 1013904223u;
    uint32_t r = state >> 8;
    x[i] = (double)r / (1 << 24) < density ? (uint8_t)(counts ? 1 + r % 3 : 1) : 0;
  }
}

/* Time of events over time of dense, the median of five ratios. */
static double ratio(const ms_conv_args *a, ms_conv_pass pass) {
  double r[5];
  once("event", a, pass);
  once(NULL, a, pass);
  for (int i = 0; i < 5; i++) {
    r[i] = once("event", a, pass) / once(NULL, a, pass);
    for (int j = i; j > 0 && r[j] < r[j - 1]; j--) {
      double t = r[j];
      r[j] = r[j - 1];
      r[j - 1] = t;
    }
  }
  return r[2];
}

static double limit(const layer *l, ms_dtype precision, ms_conv_pass pass, int counts) {
  int64_t out = (l->side + 2 * (l->k / 2) - l->k) / l->stride + 1, nx = l->n * l->side * l->side * l->cin;
  int64_t ny = l->n * out * out * l->cout, nw = l->cout * l->k * l->k * l->cin;
  ms_conv_desc d = {.n = l->n,
                    .h = l->side,
                    .w = l->side,
                    .cin = l->cin,
                    .cout = l->cout,
                    .oh = out,
                    .ow = out,
                    .kh = l->k,
                    .kw = l->k,
                    .stride_h = l->stride,
                    .stride_w = l->stride,
                    .pad_h = l->k / 2,
                    .pad_w = l->k / 2,
                    .dil_h = 1,
                    .dil_w = 1,
                    .groups = 1,
                    .x = MS_SPIKE,
                    .weight = precision};
  ms_conv_plan *plan = NULL;
  if (ms_cpu_conv_plan(NULL, &d, &plan) != MS_OK)
    exit(1);
  uint8_t *x = bytes(nx);
  void *w = bytes(nw * 4), *y = bytes(ny * 4), *room = bytes((int64_t)ms_cpu_conv_workspace(plan, pass));
  ms_conv_args a = {.plan = plan, .x = {x, MS_SPIKE, 1}, .density = -1, .counts = counts, .workspace = room};
  a.weight = (ms_data){w, pass == MS_CONV_FORWARD ? precision : MS_F32, 1};
  a.y = (ms_data){y, precision, 1};
  const double at[] = {0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 0.9};
  double best = 0;
  ms_cpu_conv_force(NULL, "event");
  int there = strcmp(ms_cpu_conv_engine(&a, pass, NULL), "event") == 0;
  for (size_t i = 0; there && i < sizeof at / sizeof *at; i++) {
    fill(x, nx, at[i], counts);
    if (ratio(&a, pass) >= 1)
      break;
    best = at[i];
  }
  void *all[] = {x, w, y, room};
  for (int i = 0; i < 4; i++)
    free(all[i]);
  ms_cpu_conv_plan_destroy(plan);
  return best;
}

int main(int argc, char **argv) {
  ms_dtype precision = argc > 1 && strcmp(argv[1], "bf16") == 0 ? MS_BF16 : MS_F32;
  ms_cpu_set_threads(1);
  printf("%4s %4s %4s %4s %2s %2s  forward weight_grad forward_counts weight_grad_counts\n", "n", "cin", "cout", "side",
         "k", "s");
  for (size_t i = argc > 2 ? (size_t)atoi(argv[2]) : 0; i < sizeof layers / sizeof *layers; i++) {
    const layer *l = &layers[i];
    printf("%4d %4d %4d %4d %2d %2d", (int)l->n, (int)l->cin, (int)l->cout, (int)l->side, l->k, l->stride);
    for (int counts = 0; counts < 2; counts++)
      for (ms_conv_pass pass = MS_CONV_FORWARD; pass <= MS_CONV_WEIGHT_GRAD; pass += MS_CONV_WEIGHT_GRAD)
        printf("  %.2f", limit(l, precision, pass, counts));
    puts("");
    fflush(stdout);
  }
  return 0;
}
