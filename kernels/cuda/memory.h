/* What services.cu and memory.cu tell each other. */
#ifndef MS_CUDA_MEMORY_H
#define MS_CUDA_MEMORY_H

#include "launch.h"

#ifdef __cplusplus
extern "C" {
#endif

int ms_cuda_capturing(ms_stream *s);
/* The pool of the stream's device keeps what is freed. */
ms_status ms_cuda_pool_open(ms_stream *s);
void ms_cuda_scratch_free(ms_stream *s);
/* Scratch memory that only graphs used: when none is left. */
void ms_cuda_outgrown_free(ms_stream *s);

#ifdef __cplusplus
}
#endif

#endif
