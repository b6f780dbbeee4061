/* Measures up to which share of non-zero inputs events are faster than the dense engine that would run instead, for
** layers of many shapes in both precisions, on one core, and prints a table for kernels/cpu/conv.c. Built by make
** break_even.
**
** usage: break_even amx|plain [seconds of a row] [number of the only layer]
**
** plain: tile registers stay hidden, as on machines without AMX. What is measured, and how, is ms_engines_measure:
** zeros and ones come as bits where channels fill bytes, counts as bytes, the gradient of the inputs with a mask. */
#include "../../host/core/engines.h"
#include "../../kernels/cpu/bf16_tile.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct layer {
  int64_t n, cin, cout, side;
  int k, stride;
} layer;

/* The first row that fits decides, so the most demanding come first: by taps for each output, inputs, outputs. */
static const layer layers[] = {{32, 512, 512, 8, 3, 1},  {16, 256, 256, 16, 3, 1}, {8, 128, 128, 32, 3, 1},
                               {8, 64, 128, 32, 3, 1},   {8, 64, 64, 32, 3, 1},    {8, 32, 64, 14, 3, 1},
                               {8, 32, 32, 28, 3, 1},    {8, 16, 32, 28, 3, 1},    {8, 3, 64, 32, 3, 1},
                               {16, 256, 512, 16, 3, 2}, {8, 128, 256, 32, 3, 2},  {8, 64, 128, 32, 3, 2},
                               {512, 800, 128, 1, 1, 1}, {16, 256, 256, 16, 1, 1}, {8, 64, 128, 32, 1, 1},
                               {16, 256, 512, 16, 1, 2}, {16, 128, 256, 32, 1, 2}};
enum { LAYERS = sizeof layers / sizeof *layers };

static void quit(const char *why) {
  fprintf(stderr, "break_even: %s\n", why);
  exit(1);
}

static void measure(ms_break_even *row, const layer *l, ms_dtype precision, double seconds) {
  int64_t out = (l->side + 2 * (l->k / 2) - l->k) / l->stride + 1;
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
                    .weight = precision};
  ms_error err;
  if (ms_engines_measure(row, ms_device_cpu(), &d, seconds, &err) != MS_OK)
    quit(err.text);
}

/* Rounded down to what a measurement can tell. */
static double limit(double x) {
  return floor(200 * x) / 200;
}

static int pays(const ms_break_even *r) {
  return limit(r->forward) + limit(r->weight_grad) + limit(r->forward_counts) + limit(r->weight_grad_counts) +
             limit(r->input_grad) >
         0;
}

static void print(const ms_break_even *r) {
  printf("{%d, %d, %d, %s, %g, %g, %g, %g, %g}", (int)r->taps, (int)r->cin, (int)r->cout,
         r->precision == MS_BF16 ? "MS_BF16" : "MS_F32", limit(r->forward), limit(r->weight_grad),
         limit(r->forward_counts), limit(r->weight_grad_counts), limit(r->input_grad));
}

/* oneDNN reads its limit from the environment, when it is first used. */
static void hide_tiles(void) {
  setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", 1);
  setenv("DNNL_MAX_CPU_ISA", "AVX512_CORE_BF16", 1);
  if (ms_bf16_kernel_force("avx512_bf16") != MS_OK)
    (void)ms_bf16_kernel_force("base");
}

int main(int argc, char **argv) {
  const char *level = argc > 1 ? argv[1] : "";
  double seconds = argc > 2 ? atof(argv[2]) : 15;
  int first = argc > 3 ? atoi(argv[3]) : 0, last = argc > 3 ? first : LAYERS - 1, n = 0;
  if ((strcmp(level, "amx") != 0 && strcmp(level, "plain") != 0) || first < 0 || first >= LAYERS || seconds <= 0)
    quit("usage: break_even amx|plain [seconds of a row] [number of the only layer]");
  if (*level == 'p')
    hide_tiles();
  else if (ms_bf16_kernel_force("amx") != MS_OK)
    quit("this machine has no AMX");
  ms_threads(1);
  ms_break_even rows[2 * LAYERS];
  for (int bf16 = 0; bf16 < 2; bf16++) {
    for (int i = first; i <= last; i++, n++) {
      measure(&rows[n], &layers[i], bf16 ? MS_BF16 : MS_F32, seconds);
      fprintf(stderr, "%d of %d\n", n + 1, 2 * (last - first + 1));
    }
    while (n > 0 && !pays(&rows[n - 1])) /* no row says the same as zeros in the last */
      n--;
  }
  printf("static const shipped_table %s = {%d,\n{", level, n);
  for (int i = 0; i < n; i++) {
    print(&rows[i]);
    printf(i + 1 < n ? ",\n" : "}};\n");
  }
  return 0;
}
