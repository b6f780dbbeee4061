// Matrix products of the emulated libraries. Sums are in double and rounded once. Status and types have the names and
// values of cuBLAS.
#pragma once
#include "stream.h"

enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_ALLOC_FAILED = 3,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_ARCH_MISMATCH = 8,
  CUBLAS_STATUS_MAPPING_ERROR = 11,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_INTERNAL_ERROR = 14,
  CUBLAS_STATUS_NOT_SUPPORTED = 15
};
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 };
enum cublasPointerMode_t { CUBLAS_POINTER_MODE_HOST = 0, CUBLAS_POINTER_MODE_DEVICE = 1 };
enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_64F = 1, CUDA_R_16F = 2, CUDA_R_16BF = 14 };
typedef cudaDataType_t cudaDataType;
enum cublasComputeType_t {
  CUBLAS_COMPUTE_32F = 68,
  CUBLAS_COMPUTE_32F_PEDANTIC = 69,
  CUBLAS_COMPUTE_32F_FAST_16F = 74,
  CUBLAS_COMPUTE_32F_FAST_16BF = 75,
  CUBLAS_COMPUTE_32F_FAST_TF32 = 77
};

#pragma GCC visibility push(hidden)

namespace emu {

// A matrix, or a batch of them `stride` elements apart; one of the strides of rows and columns is 1.
struct Matrix {
  void *p;
  cudaDataType_t type;
  int64_t row, col, stride;
};

// D = alpha A B + beta C, + bias of each row.
struct Product {
  int64_t m, n, k, batch;
  float alpha, beta;
  Matrix a, b, c, d;
  const void *bias;
  cudaDataType_t bias_type;
  bool tf32; // operands lose all but 10 bits of their mantissas
};

// The matrix that a column-major one of leading dimension ld is, or its transpose.
Matrix column_major(const void *p, cudaDataType_t type, int64_t ld, int64_t stride, bool transposed);
// Checks sizes and memory, and puts the product into the stream.
cublasStatus_t multiply(Stream *s, const Product &p, const char *name);

// Overwrites a library's workspace: what a caller kept there is lost, as with the real library.
void spoil(Stream *s, void *workspace, size_t bytes, const char *name);

} // namespace emu

#pragma GCC visibility pop
