/* What convolution engines of the CPU share. conv.c owns plans and decides which engine runs. */
#ifndef MS_CONV_H
#define MS_CONV_H

#include "../kernels.h"
#include "parallel.h"

typedef struct ms_conv_engine {
  const char *name;
  int deterministic; /* results do not depend on the number of threads */
  int (*supports)(const ms_conv_desc *d, ms_conv_pass pass);
  size_t (*workspace)(const ms_conv_desc *d, ms_conv_pass pass);
  ms_status (*forward)(const ms_conv_desc *d, const ms_conv_args *a);
  ms_status (*input_grad)(const ms_conv_desc *d, const ms_conv_args *a);
  ms_status (*weight_grad)(const ms_conv_desc *d, const ms_conv_args *a);
} ms_conv_engine;

/* An engine that keeps something for each plan: made with the plan, freed with it. ready is asked after supports said
** yes; the types of its arguments are looked at where they are set. room comes in place of workspace. */
typedef struct ms_conv_keeper {
  ms_conv_engine engine;
  void *(*open)(const ms_conv_desc *d); /* NULL: it runs no pass of this plan */
  void (*close)(void *kept);
  int (*ready)(void *kept, const ms_conv_args *a, ms_conv_pass pass);
  size_t (*room)(void *kept, ms_conv_pass pass);
} ms_conv_keeper;

/* What open returned for this plan. */
void *ms_conv_kept(const ms_conv_plan *plan);

#ifdef MS_ONEDNN
extern const ms_conv_keeper ms_conv_onednn; /* the library oneDNN, conv_onednn.c */
#endif
extern const ms_conv_engine ms_conv_gemm;      /* any shape: implicit matrix product, conv_gemm.c */
extern const ms_conv_engine ms_conv_depthwise; /* groups == cin == cout, conv_depthwise.c */
extern const ms_conv_engine ms_conv_event;     /* bytes, mostly zeros: only what is not zero is visited, conv_event.c */

/* One axis of a gather: position o reads source positions start + o * step + t * tap_step, t in [0, taps), those outside
** [0, in) as zeros; t stands for tap first_tap + t * tap_inc of the kernel. */
typedef struct ms_conv_axis {
  int64_t in, out, start, step, tap_step;
  int64_t taps, first_tap, tap_inc;
} ms_conv_axis;

/* The gradient of inputs phase + o * stride, read from the outputs. */
ms_conv_axis ms_conv_phase(int64_t in, int64_t out, int pad, int stride, int dilation, int taps, int64_t phase);

/* Reductions over positions are cut into `chunks` pieces of `size` positions, by shape alone; the last may be short. */
typedef struct ms_chunks {
  int64_t chunks, size;
} ms_chunks;

/* At most 32 chunks of at least `least` of n positions whose partial results, of `width` reals, stay below 4 MiB. */
ms_chunks ms_cut_chunks(int64_t n, int64_t least, int64_t width);

/* bias[c] = sum over rows of y[row, c]; partial holds ms_cut_chunks(rows, 256, cout).chunks * cout reals. */
ms_status ms_bias_grad(ms_real *bias, ms_data y, int64_t rows, int64_t cout, ms_real *partial);
size_t ms_bias_grad_size(int64_t rows, int64_t cout);

#endif
