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

extern const ms_conv_engine ms_conv_gemm;      /* any shape: implicit matrix product, conv_gemm.c */
extern const ms_conv_engine ms_conv_depthwise; /* groups == cin == cout, conv_depthwise.c */
extern const ms_conv_engine ms_conv_event;     /* bytes, mostly zeros: only what is not zero is visited, conv_event.c */

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
