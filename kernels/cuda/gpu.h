/* What a .cu file includes instead of a CUDA header: nvcc sees the runtime and three macros, any other C++ compiler the
** emulation (emu/emu.h), which runs the same sources on the CPU for tests.
**
** Rules that keep both alike. A launch is LAUNCH(kernel, grid, block, bytes of dynamic shared memory, stream,
** arguments...), with a template kernel in parentheses. Shared arrays are declared by SHARED(float, tile, [32][33]) and
** SHARED_DYN(float, tile). One barrier a line, reached by every thread of a block; warp operations only as *_sync with
** full masks, blocks in multiples of 32 threads. Atomics on integers only. No device globals, no printf, no recursion,
** no approximate intrinsics. Offsets are 64 bits wide. */
#ifndef MS_GPU_H
#define MS_GPU_H

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define LAUNCH(kernel, grid, block, bytes, stream, ...) (kernel)<<<grid, block, bytes, stream>>>(__VA_ARGS__)
#define SHARED(type, name, dims) __shared__ type name dims
#define SHARED_DYN(type, name)                                \
  extern __shared__ __align__(16) unsigned char name##_raw[]; \
  type *name = (type *)name##_raw
#else
#include "emu/emu.h"
#endif

#endif
