/* Matrix products by cuBLASLt, which is loaded when it is first wanted: a machine without it can still say so. */
#ifndef MS_BLAS_H
#define MS_BLAS_H

#include "launch.h"

static inline size_t ms_width(ms_dtype t) {
  return t == MS_F32 ? sizeof(float) : t == MS_BF16 ? sizeof(ms_bf16) : 1;
}

/* x from element `at` on; of MS_BITS at is a multiple of 8. */
static inline ms_data ms_from(ms_data x, int64_t at) {
  x.p = (char *)x.p + (x.dtype == MS_BITS ? at / 8 : at * (int64_t)ms_width(x.dtype));
  return x;
}

/* NULL, or the sentence that says what is missing (static). */
extern "C" const char *ms_cuda_blas_open(void);
/* Frees what the stream holds of cuBLASLt and cuDNN: before the stream itself goes. */
void ms_cuda_blas_close(ms_stream *s);
void ms_cuda_dnn_close(ms_stream *s);

/* Behind the text of a library's failure: whether the device can still be used. */
const char *ms_cuda_state(void);
/* The shared library of this name, where the loader or the toolkit's usual folder has it, or NULL. */
void *ms_cuda_library(const char *soname);

/* The product of the row gemm for operands that cuBLASLt reads as they are: a and b both MS_F32, c too; or both MS_BF16,
** c either. k > 0; scales are not looked at. Sums are float32; operands become TF32 only where ms_cuda_tf32 allows it. */
ms_status ms_cuda_product(ms_stream *s, const ms_gemm *g);
/* Whether cuBLASLt can read these strides. */
int ms_cuda_readable(int64_t rows, int64_t cols, int64_t row, int64_t col, int64_t batch);

/* to[i] = value of x[i], as float32 or (rounded) bfloat16; x of any type but int64. Of MS_BITS x.p is where element 0
** begins. */
ms_status ms_cuda_convert(ms_stream *s, ms_data to, ms_data x, int64_t n);

#endif
