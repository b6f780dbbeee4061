/* cuBLAS: loading, one handle a stream, the product. */
#include "blas.h"
#include <climits>
#include <cstdio>
#ifdef __CUDACC__
#include <cublas_v2.h>
#include <dlfcn.h>
#endif

/* ---- the library ---- */

/* Names may be macros for versions of themselves (cublasCreate_v2): they are expanded before they are made strings. */
#define BLAS_FUNCTIONS(F)              \
  F(create, cublasCreate)              \
  F(destroy, cublasDestroy)            \
  F(set_stream, cublasSetStream)       \
  F(set_math, cublasSetMathMode)       \
  F(set_workspace, cublasSetWorkspace) \
  F(text, cublasGetStatusString)

/* Functions with overloads in C++ have their type written out. */
typedef cublasStatus_t gemm_fn(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void *,
                               const void *, cudaDataType, int, const void *, cudaDataType, int, const void *, void *,
                               cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t);
typedef cublasStatus_t batch_fn(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void *,
                                const void *, cudaDataType, int, long long, const void *, cudaDataType, int, long long,
                                const void *, void *, cudaDataType, int, long long, int, cublasComputeType_t,
                                cublasGemmAlgo_t);

static struct {
  int opened;
#define DECLARE(to, name) decltype(&name) to;
  BLAS_FUNCTIONS(DECLARE)
#undef DECLARE
  gemm_fn *gemm;
  batch_fn *batch;
} blas;

#ifdef __CUDACC__
#define STRING(x) #x
#define NAME(x) STRING(x)

void *ms_cuda_library(const char *soname) {
  char path[256];
  void *library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
  snprintf(path, sizeof path, "/usr/local/cuda/lib64/%s", soname);
  return library ? library : dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

const char *ms_cuda_blas_open(void) {
  static char why[MS_WHY];
  static const char soname[] = "libcublas.so." NAME(CUBLAS_VER_MAJOR);
  if (blas.opened)
    return NULL;
  void *library = ms_cuda_library(soname);
  if (!library) {
    snprintf(why, sizeof why, "cuBLAS %d is missing: %s", CUBLAS_VER_MAJOR, dlerror());
    return why;
  }
  const char *missing = NULL;
#define LOAD(to, name)                                    \
  if (!(*(void **)&blas.to = dlsym(library, NAME(name)))) \
    missing = NAME(name);
  BLAS_FUNCTIONS(LOAD)
  LOAD(gemm, cublasGemmEx)
  LOAD(batch, cublasGemmStridedBatchedEx)
  if (missing) {
    snprintf(why, sizeof why, "%s has no function %s", soname, missing);
    return why;
  }
  blas.opened = 1;
  return NULL;
}
#else
void *ms_cuda_library(const char *) {
  return NULL;
}

const char *ms_cuda_blas_open(void) {
#define LOAD(to, name) blas.to = name;
  BLAS_FUNCTIONS(LOAD)
  blas.gemm = cublasGemmEx;
  blas.batch = cublasGemmStridedBatchedEx;
  blas.opened = 1;
  return NULL;
}
#endif

/* ---- a handle for each stream ---- */

namespace {

typedef struct handle {
  cublasHandle_t id;
  void *workspace;
} handle;

} // namespace

static ms_status report(ms_stream *s, cublasStatus_t e, const char *what) {
  if (e == CUBLAS_STATUS_SUCCESS)
    return MS_OK;
  snprintf(s->error, sizeof s->error, "cuBLAS: %s: %s", what, blas.text(e));
  return e == CUBLAS_STATUS_ALLOC_FAILED ? MS_EMEM : MS_EBACKEND;
}

void ms_cuda_blas_close(ms_stream *s) {
  handle *h = (handle *)s->blas;
  if (!h)
    return;
  if (h->id)
    blas.destroy(h->id);
  if (h->workspace)
    cudaFree(h->workspace);
  delete h;
  s->blas = NULL;
}

/* Memory of its own: what cuBLAS would allocate inside a capture would belong to the graph. */
static ms_status give_workspace(ms_stream *s, handle *h) {
#ifdef __CUDACC__
  enum { BYTES = 32 << 20 };
  MS_TRY(ms_cuda_check(s, cudaMalloc(&h->workspace, BYTES), "workspace of cuBLAS"));
  return report(s, blas.set_workspace(h->id, h->workspace, BYTES), "cublasSetWorkspace");
#else
  (void)s;
  (void)h;
  return MS_OK;
#endif
}

static ms_status set_up(ms_stream *s, handle *h) {
  const char *missing = ms_cuda_blas_open();
  if (missing) {
    snprintf(s->error, sizeof s->error, "%s", missing);
    return MS_EBACKEND;
  }
  MS_TRY(report(s, blas.create(&h->id), "cublasCreate"));
  MS_TRY(report(s, blas.set_stream(h->id, s->id), "cublasSetStream"));
  cublasMath_t exact = (cublasMath_t)(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
  MS_TRY(report(s, blas.set_math(h->id, exact), "cublasSetMathMode"));
  return give_workspace(s, h);
}

static ms_status handle_of(ms_stream *s, cublasHandle_t *out) {
  MS_TRY(ms_cuda_enter(s));
  if (!s->blas) {
    s->blas = new handle();
    ms_status status = set_up(s, (handle *)s->blas);
    if (status != MS_OK) {
      ms_cuda_blas_close(s);
      return status;
    }
  }
  *out = ((handle *)s->blas)->id;
  return MS_OK;
}

/* ---- the product ---- */

namespace {

/* A matrix as the library sees it: column by column, which is ours turned round. */
typedef struct turned {
  cublasOperation_t op;
  int64_t ld;
} turned;

} // namespace

/* 0: not readable. */
static int turn(turned *t, int64_t rows, int64_t cols, int64_t row, int64_t col) {
  if ((col == 1 || cols == 1) && (rows == 1 || row >= cols)) {
    t->op = CUBLAS_OP_N;
    t->ld = rows == 1 ? cols : row;
    return 1;
  }
  if ((row == 1 || rows == 1) && (cols == 1 || col >= rows)) {
    t->op = CUBLAS_OP_T;
    t->ld = cols == 1 ? rows : col;
    return 1;
  }
  return 0;
}

int ms_cuda_readable(int64_t rows, int64_t cols, int64_t row, int64_t col, int64_t batch) {
  turned t;
  return batch >= 0 && turn(&t, rows, cols, row, col);
}

static int tf32;

int ms_cuda_tf32(int on) {
  int was = tf32;
  if (on >= 0)
    tf32 = on != 0;
  return was;
}

static cudaDataType type_of(ms_data x) {
  return x.dtype == MS_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

ms_status ms_cuda_product(ms_stream *s, const ms_gemm *g) {
  cublasHandle_t h;
  turned a, b;
  float alpha = g->alpha, beta = g->beta;
  int64_t ldc = g->m == 1 ? g->n : g->ldc;
  if (!turn(&a, g->m, g->k, g->a_row, g->a_col) || !turn(&b, g->k, g->n, g->b_row, g->b_col))
    return MS_EINVAL;
  int64_t sizes[] = {g->m, g->n, g->k, g->batch, a.ld, b.ld, ldc};
  for (int64_t size : sizes)
    if (size > INT_MAX) {
      snprintf(s->error, sizeof s->error, "cuBLAS: a matrix of more than %d rows or columns", INT_MAX);
      return MS_ERANGE;
    }
  MS_TRY(handle_of(s, &h));
  int m = (int)g->m, n = (int)g->n, k = (int)g->k;
  cublasComputeType_t how = tf32 && g->a.dtype == MS_F32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  cublasStatus_t e =
      g->batch == 1 ? blas.gemm(h, b.op, a.op, n, m, k, &alpha, g->b.p, type_of(g->b), (int)b.ld, g->a.p, type_of(g->a),
                                (int)a.ld, &beta, g->c.p, type_of(g->c), (int)ldc, how, CUBLAS_GEMM_DEFAULT)
                    : blas.batch(h, b.op, a.op, n, m, k, &alpha, g->b.p, type_of(g->b), (int)b.ld, g->b_batch, g->a.p,
                                 type_of(g->a), (int)a.ld, g->a_batch, &beta, g->c.p, type_of(g->c), (int)ldc,
                                 g->c_batch, (int)g->batch, how, CUBLAS_GEMM_DEFAULT);
  MS_TRY(report(s, e, "cublasGemmEx"));
  return ms_cuda_launched(s, "cublasGemmEx");
}
