#include "lt.h"
#include "fiber.h"
#include <algorithm>
#include <cstdio>
#include <cstring>

namespace emu {

enum { WORKSPACE = 4096, ALIGNMENT = 256, MOST_BATCH = 65535 };

struct Lt {
  int device;
};

struct LtMatmul {
  int32_t compute, scale, transposed[2] = {CUBLAS_OP_N, CUBLAS_OP_N}, pointers = CUBLAS_POINTER_MODE_HOST;
  int32_t bias_type = -1;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void *bias = nullptr;
};

struct LtLayout {
  uint32_t type;
  int32_t order = CUBLASLT_ORDER_COL, batch = 1;
  uint64_t rows, cols;
  int64_t ld, stride = 0;
};

struct LtPreference {
  uint64_t workspace = 0;
  uint32_t aligned[4] = {ALIGNMENT, ALIGNMENT, ALIGNMENT, ALIGNMENT}; // A, B, C, D
};

// What an algorithm is good for, in the words of cublasLtMatmulAlgo_t.
struct Algorithm {
  uint64_t workspace, sizes;
  uint32_t aligned[4];
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t), "");

static cublasStatus_t set(void *field, size_t size, const void *value, size_t bytes) {
  if (bytes != size) {
    fprintf(stderr, "emu: an attribute of %zu bytes was given %zu\n", size, bytes);
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  memcpy(field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

static Matrix matrix(const void *p, const LtLayout &l, bool transposed) {
  return column_major(p, (cudaDataType_t)l.type, l.ld, l.stride, transposed != (l.order == CUBLASLT_ORDER_ROW));
}

static bool supported(const LtMatmul &d) {
  return d.scale == CUDA_R_32F && d.compute >= CUBLAS_COMPUTE_32F && d.compute <= CUBLAS_COMPUTE_32F_FAST_TF32 &&
         d.pointers == CUBLAS_POINTER_MODE_HOST &&
         (d.epilogue == CUBLASLT_EPILOGUE_DEFAULT || (d.epilogue == CUBLASLT_EPILOGUE_BIAS && d.bias));
}

// The product that descriptions name; false when their sizes disagree.
static bool describe(Product &p, const LtMatmul &d, const LtLayout &a, const LtLayout &b, const LtLayout &c,
                     const LtLayout &out) {
  bool ta = d.transposed[0] != CUBLAS_OP_N, tb = d.transposed[1] != CUBLAS_OP_N;
  p.m = (int64_t)(ta ? a.cols : a.rows);
  p.k = (int64_t)(ta ? a.rows : a.cols);
  p.n = (int64_t)(tb ? b.rows : b.cols);
  p.batch = out.batch;
  p.a = matrix(nullptr, a, ta);
  p.b = matrix(nullptr, b, tb);
  p.c = matrix(nullptr, c, false);
  p.d = matrix(nullptr, out, false);
  p.tf32 = d.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if (d.epilogue == CUBLASLT_EPILOGUE_BIAS) {
    p.bias = d.bias;
    p.bias_type = (cudaDataType_t)(d.bias_type < 0 ? (int32_t)out.type : d.bias_type);
  }
  return (int64_t)(tb ? b.cols : b.rows) == p.k && (int64_t)out.rows == p.m && (int64_t)out.cols == p.n &&
         (int64_t)c.rows == p.m && (int64_t)c.cols == p.n && a.batch == out.batch && b.batch == out.batch &&
         c.batch == out.batch;
}

// Of all that an algorithm may depend on.
static uint64_t sizes_of(const Product &p) {
  uint64_t h = p.tf32 ? 2 : 1;
  for (int64_t x : {p.m, p.n, p.k, p.batch})
    h = (h ^ (uint64_t)x) * 1099511628211u;
  for (const Matrix *x : {&p.a, &p.b, &p.c, &p.d})
    for (int64_t y : {x->row, x->col, x->stride, (int64_t)x->type})
      h = (h ^ (uint64_t)y) * 1099511628211u;
  return h;
}

static bool refuse(const char *why) {
  fprintf(stderr, "emu: cublasLtMatmul: %s\n", why);
  return true;
}

static bool unfit(const Algorithm &x, const Product &p, const void *workspace, size_t bytes) {
  const void *operands[] = {p.a.p, p.b.p, p.c.p, p.d.p};
  if (x.sizes != sizes_of(p))
    return refuse("the algorithm is for another product");
  for (int i = 0; i < 4; i++)
    if ((uintptr_t)operands[i] % x.aligned[i])
      return refuse("an operand is less aligned than the algorithm was told");
  if (bytes < x.workspace || (uintptr_t)workspace % ALIGNMENT)
    return refuse("the workspace is too small, or not aligned to 256 bytes");
  return false;
}

} // namespace emu

using namespace emu;

const char *cublasLtGetStatusString(cublasStatus_t s) {
  switch (s) {
  case CUBLAS_STATUS_SUCCESS:
    return "the operation completed successfully";
  case CUBLAS_STATUS_NOT_INITIALIZED:
    return "the library was not initialized";
  case CUBLAS_STATUS_ALLOC_FAILED:
    return "the resource allocation failed";
  case CUBLAS_STATUS_INVALID_VALUE:
    return "an unsupported value or parameter was passed to the function";
  case CUBLAS_STATUS_EXECUTION_FAILED:
    return "the function failed to launch on the GPU";
  case CUBLAS_STATUS_NOT_SUPPORTED:
    return "the requested functionality is not supported";
  default:
    return "an internal operation failed";
  }
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) {
  Call call;
  if (call.error || device_count() == 0)
    return CUBLAS_STATUS_NOT_INITIALIZED;
  if (not_capturing("cublasLtCreate, which allocates, while a stream captures"))
    return CUBLAS_STATUS_ALLOC_FAILED;
  *h = new Lt{current_device};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) {
  delete h;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale) {
  *d = new LtMatmul;
  (*d)->compute = compute;
  (*d)->scale = scale;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
  delete d;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
  switch (attribute) {
  case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
    return set(&d->compute, sizeof d->compute, value, bytes);
  case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
    return set(&d->scale, sizeof d->scale, value, bytes);
  case CUBLASLT_MATMUL_DESC_POINTER_MODE:
    return set(&d->pointers, sizeof d->pointers, value, bytes);
  case CUBLASLT_MATMUL_DESC_TRANSA:
    return set(&d->transposed[0], sizeof d->transposed[0], value, bytes);
  case CUBLASLT_MATMUL_DESC_TRANSB:
    return set(&d->transposed[1], sizeof d->transposed[1], value, bytes);
  case CUBLASLT_MATMUL_DESC_EPILOGUE:
    return set(&d->epilogue, sizeof d->epilogue, value, bytes);
  case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
    return set(&d->bias, sizeof d->bias, value, bytes);
  case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
    return set(&d->bias_type, sizeof d->bias_type, value, bytes);
  }
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld) {
  *l = new LtLayout;
  (*l)->type = type;
  (*l)->rows = rows;
  (*l)->cols = cols;
  (*l)->ld = ld;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
  delete l;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t bytes) {
  switch (attribute) {
  case CUBLASLT_MATRIX_LAYOUT_TYPE:
    return set(&l->type, sizeof l->type, value, bytes);
  case CUBLASLT_MATRIX_LAYOUT_ORDER:
    return set(&l->order, sizeof l->order, value, bytes);
  case CUBLASLT_MATRIX_LAYOUT_ROWS:
    return set(&l->rows, sizeof l->rows, value, bytes);
  case CUBLASLT_MATRIX_LAYOUT_COLS:
    return set(&l->cols, sizeof l->cols, value, bytes);
  case CUBLASLT_MATRIX_LAYOUT_LD:
    return set(&l->ld, sizeof l->ld, value, bytes);
  case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
    return set(&l->batch, sizeof l->batch, value, bytes);
  case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
    return set(&l->stride, sizeof l->stride, value, bytes);
  }
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
  *p = new LtPreference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
  delete p;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes) {
  uint32_t reduction;
  switch (attribute) {
  case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
    break;
  case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
    return set(&p->workspace, sizeof p->workspace, value, bytes);
  case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
    return set(&reduction, sizeof reduction, value, bytes);
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
    return set(&p->aligned[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], sizeof *p->aligned, value, bytes);
  }
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t out, cublasLtMatmulPreference_t preference,
                                              int wanted, cublasLtMatmulHeuristicResult_t *results, int *found) {
  Product p = {};
  *found = 0;
  if (wanted < 1 || !describe(p, *d, *a, *b, *c, *out))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!supported(*d) || p.batch > MOST_BATCH)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  *found = 1;
  results[0] = {};
  results[0].workspaceSize = preference->workspace < WORKSPACE ? 0 : WORKSPACE;
  Algorithm x = {results[0].workspaceSize, sizes_of(p), {}};
  std::copy(preference->aligned, preference->aligned + 4, x.aligned);
  memcpy(&results[0].algo, &x, sizeof x);
  results[0].wavesCount = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t lc, void *out, cublasLtMatrixLayout_t lout,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  Call call;
  Product p = {};
  if (!describe(p, *d, *la, *lb, *lc, *lout) || stream_of(stream)->device != h->device)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!supported(*d))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  p.alpha = *(const float *)alpha;
  p.beta = *(const float *)beta;
  p.a.p = const_cast<void *>(a);
  p.b.p = const_cast<void *>(b);
  p.c.p = const_cast<void *>(c);
  p.d.p = out;
  if (algo) {
    Algorithm x;
    memcpy(&x, algo, sizeof x);
    if (unfit(x, p, workspace, workspace_bytes))
      return CUBLAS_STATUS_INVALID_VALUE;
    if (x.workspace)
      spoil(stream, workspace, (size_t)x.workspace, "cublasLtMatmul");
  }
  return multiply(stream, p, "cublasLtMatmul");
}
