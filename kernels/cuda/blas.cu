/* cuBLASLt: loading, what a stream keeps of it, the product. An algorithm comes from the library's own estimate, never
** from timing, once for each product that a stream sees. */
#include "blas.h"
#include "memory.h"
#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#ifdef __CUDACC__
#include <cublasLt.h>
#include <dlfcn.h>
#endif

/* ---- the library ---- */

#define LT_FUNCTIONS(F)                                   \
  F(text, cublasLtGetStatusString)                        \
  F(create, cublasLtCreate)                               \
  F(destroy, cublasLtDestroy)                             \
  F(new_product, cublasLtMatmulDescCreate)                \
  F(free_product, cublasLtMatmulDescDestroy)              \
  F(set_product, cublasLtMatmulDescSetAttribute)          \
  F(new_layout, cublasLtMatrixLayoutCreate)               \
  F(free_layout, cublasLtMatrixLayoutDestroy)             \
  F(set_layout, cublasLtMatrixLayoutSetAttribute)         \
  F(new_preference, cublasLtMatmulPreferenceCreate)       \
  F(free_preference, cublasLtMatmulPreferenceDestroy)     \
  F(set_preference, cublasLtMatmulPreferenceSetAttribute) \
  F(algorithms, cublasLtMatmulAlgoGetHeuristic)           \
  F(multiply, cublasLtMatmul)

static struct {
  int opened;
#define DECLARE(to, name) decltype(&name) to;
  LT_FUNCTIONS(DECLARE)
#undef DECLARE
} lt;

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
  static const char soname[] = "libcublasLt.so." NAME(CUBLAS_VER_MAJOR);
  if (lt.opened)
    return NULL;
  void *library = ms_cuda_library(soname);
  if (!library) {
    snprintf(why, sizeof why, "cuBLASLt %d is missing: %s", CUBLAS_VER_MAJOR, dlerror());
    return why;
  }
  const char *missing = NULL;
#define LOAD(to, name)                                  \
  if (!(*(void **)&lt.to = dlsym(library, NAME(name)))) \
    missing = NAME(name);
  LT_FUNCTIONS(LOAD)
  if (missing) {
    snprintf(why, sizeof why, "%s has no function %s", soname, missing);
    return why;
  }
  lt.opened = 1;
  return NULL;
}
#else
void *ms_cuda_library(const char *) {
  return NULL;
}

const char *ms_cuda_blas_open(void) {
#define LOAD(to, name) lt.to = name;
  LT_FUNCTIONS(LOAD)
  lt.opened = 1;
  return NULL;
}
#endif

/* ---- what a stream keeps ---- */

namespace {

/* All that descriptions say and an algorithm depends on; matrices as the library sees them. Compared as bytes. */
typedef struct shape {
  int64_t m, n, k, batch;
  int64_t lda, ldb, ldc, step_a, step_b, step_c; /* from one matrix of a batch to the next */
  int32_t op_a, op_b, type, type_c;
  int32_t how;               /* the library's compute type */
  uint32_t at_a, at_b, at_c; /* alignment in bytes */
} shape;
static_assert(std::has_unique_object_representations<shape>::value, "no padding");

typedef struct choice {
  shape of;
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t a, b, c;
  cublasLtMatmulAlgo_t algorithm;
} choice;

/* Some versions of the library refuse a batch of more than 65535. */
enum { CHOICES = 512, SLOTS = 2 * CHOICES, ALIGNMENT = 256, MOST_BATCH = 1 << 15 };
#ifdef __CUDACC__
enum { WORKSPACE = 32 << 20 };
#else
enum { WORKSPACE = 1 << 13 }; /* blocks cost the emulation time */
#endif

typedef struct handle {
  cublasLtHandle_t id;
  cublasLtMatmulPreference_t preference;
  void *workspace; /* of this stream alone: its products follow each other */
  int n;
  choice all[CHOICES];
  uint16_t slot[SLOTS]; /* from a hash on: 1 + a position in `all`; 0 ends the search */
} handle;

} // namespace

static ms_status report(ms_stream *s, cublasStatus_t e, const char *what) {
  if (e == CUBLAS_STATUS_SUCCESS)
    return MS_OK;
  int ran = e == CUBLAS_STATUS_EXECUTION_FAILED || e == CUBLAS_STATUS_INTERNAL_ERROR;
  snprintf(s->error, sizeof s->error, "cuBLASLt: %s: %s%s", what, lt.text(e), ran ? ms_cuda_state() : "");
  return e == CUBLAS_STATUS_ALLOC_FAILED ? MS_EMEM : MS_EBACKEND;
}

static void forget(choice *c) {
  if (c->product)
    lt.free_product(c->product);
  for (cublasLtMatrixLayout_t l : {c->a, c->b, c->c})
    if (l)
      lt.free_layout(l);
}

static void forget_all(handle *h) {
  while (h->n > 0)
    forget(&h->all[--h->n]);
  memset(h->slot, 0, sizeof h->slot);
}

void ms_cuda_blas_close(ms_stream *s) {
  handle *h = (handle *)s->blas;
  if (!h)
    return;
  forget_all(h);
  if (h->preference)
    lt.free_preference(h->preference);
  if (h->id)
    lt.destroy(h->id);
  ms_cuda_free(s, h->workspace, WORKSPACE);
  free(h);
  s->blas = NULL;
}

template <class T>
static ms_status prefer(ms_stream *s, handle *h, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  return report(s, lt.set_preference(h->preference, attribute, &value, sizeof value),
                "cublasLtMatmulPreferenceSetAttribute");
}

static ms_status set_up(ms_stream *s, handle *h) {
  const char *missing = ms_cuda_blas_open();
  if (missing) {
    snprintf(s->error, sizeof s->error, "%s", missing);
    return MS_EBACKEND;
  }
  MS_TRY(ms_cuda_alloc(s, &h->workspace, WORKSPACE)); /* fails while the stream captures; the next would spoil it */
  MS_TRY(report(s, lt.create(&h->id), "cublasLtCreate"));
  MS_TRY(report(s, lt.new_preference(&h->preference), "cublasLtMatmulPreferenceCreate"));
  MS_TRY(prefer(s, h, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)WORKSPACE));
  /* parts of a sum are added in float32, in a fixed order, or there is one part: no mask can forbid that */
  return prefer(s, h, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, (uint32_t)CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
}

static ms_status handle_of(ms_stream *s, handle **out) {
  MS_TRY(ms_cuda_enter(s));
  if (!s->blas) {
    s->blas = calloc(1, sizeof(handle));
    if (!s->blas)
      return MS_EMEM;
    ms_status status = set_up(s, (handle *)s->blas);
    if (status != MS_OK) {
      ms_cuda_blas_close(s);
      return status;
    }
  }
  *out = (handle *)s->blas;
  return MS_OK;
}

/* ---- choosing ---- */

static unsigned hash_of(const shape *of) {
  uint64_t word[sizeof *of / sizeof(uint64_t)], h = 0;
  memcpy(word, of, sizeof word);
  for (uint64_t w : word) {
    h = (h ^ w) * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
  }
  return (unsigned)h % SLOTS;
}

static ms_status describe_matrix(ms_stream *s, cublasLtMatrixLayout_t *l, int32_t type, int64_t rows, int64_t cols,
                                 int64_t ld, int64_t batch, int64_t step) {
  int32_t count = (int32_t)batch;
  MS_TRY(report(s, lt.new_layout(l, (cudaDataType_t)type, (uint64_t)rows, (uint64_t)cols, ld),
                "cublasLtMatrixLayoutCreate"));
  cublasStatus_t e = lt.set_layout(*l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
  if (e == CUBLAS_STATUS_SUCCESS)
    e = lt.set_layout(*l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
  return report(s, e, "cublasLtMatrixLayoutSetAttribute");
}

static ms_status describe(ms_stream *s, choice *c) {
  const shape *of = &c->of;
  int turn_a = of->op_a != CUBLAS_OP_N, turn_b = of->op_b != CUBLAS_OP_N;
  MS_TRY(report(s, lt.new_product(&c->product, (cublasComputeType_t)of->how, CUDA_R_32F), "cublasLtMatmulDescCreate"));
  cublasStatus_t e = lt.set_product(c->product, CUBLASLT_MATMUL_DESC_TRANSA, &of->op_a, sizeof of->op_a);
  if (e == CUBLAS_STATUS_SUCCESS)
    e = lt.set_product(c->product, CUBLASLT_MATMUL_DESC_TRANSB, &of->op_b, sizeof of->op_b);
  MS_TRY(report(s, e, "cublasLtMatmulDescSetAttribute"));
  MS_TRY(describe_matrix(s, &c->a, of->type, turn_a ? of->k : of->m, turn_a ? of->m : of->k, of->lda, of->batch,
                         of->step_a));
  MS_TRY(describe_matrix(s, &c->b, of->type, turn_b ? of->n : of->k, turn_b ? of->k : of->n, of->ldb, of->batch,
                         of->step_b));
  return describe_matrix(s, &c->c, of->type_c, of->m, of->n, of->ldc, of->batch, of->step_c);
}

/* The estimate is arithmetic on the host: it may be asked for while the stream captures. */
static ms_status choose(ms_stream *s, handle *h, choice *c) {
  int found = 0;
  cublasLtMatmulHeuristicResult_t best = {};
  MS_TRY(describe(s, c));
  MS_TRY(prefer(s, h, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, c->of.at_a));
  MS_TRY(prefer(s, h, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, c->of.at_b));
  MS_TRY(prefer(s, h, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c->of.at_c));
  MS_TRY(prefer(s, h, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c->of.at_c));
  cublasStatus_t e = lt.algorithms(h->id, c->product, c->a, c->b, c->c, c->c, h->preference, 1, &best, &found);
  if (e == CUBLAS_STATUS_SUCCESS)
    e = found > 0 ? best.state : CUBLAS_STATUS_NOT_SUPPORTED;
  c->algorithm = best.algo;
  return report(s, e, "cublasLtMatmulAlgoGetHeuristic");
}

/* Where there is no room for another choice all are forgotten. */
static ms_status choice_of(ms_stream *s, handle *h, const shape *of, const choice **out) {
  unsigned start = hash_of(of), i = start;
  for (; h->slot[i]; i = (i + 1) % SLOTS) {
    const choice *c = &h->all[h->slot[i] - 1];
    if (memcmp(&c->of, of, sizeof *of) == 0) {
      *out = c;
      return MS_OK;
    }
  }
  if (h->n == CHOICES) {
    forget_all(h);
    i = start;
  }
  choice *c = &h->all[h->n];
  memset(c, 0, sizeof *c);
  c->of = *of;
  ms_status status = choose(s, h, c);
  if (status != MS_OK) {
    forget(c);
    return status;
  }
  h->slot[i] = (uint16_t)++h->n;
  *out = c;
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

static int32_t type_of(ms_data x) {
  return x.dtype == MS_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* Of every matrix of the batch. */
static uint32_t alignment(ms_data x, int64_t step) {
  uint64_t bits = (uint64_t)(uintptr_t)x.p | (uint64_t)step * ms_width(x.dtype) | ALIGNMENT;
  return (uint32_t)(bits & (~bits + 1));
}

static ms_status multiply(ms_stream *s, const ms_gemm *g) {
  handle *h;
  const choice *c;
  turned a, b;
  float alpha = g->alpha, beta = g->beta;
  if (!turn(&a, g->m, g->k, g->a_row, g->a_col) || !turn(&b, g->k, g->n, g->b_row, g->b_col))
    return MS_EINVAL;
  int64_t ldc = g->m == 1 ? g->n : g->ldc;
  for (int64_t size : {g->m, g->n, g->k, a.ld, b.ld, ldc})
    if (size > INT_MAX) {
      snprintf(s->error, sizeof s->error, "cuBLASLt: a matrix of more than %d rows or columns", INT_MAX);
      return MS_ERANGE;
    }
  shape of = {};
  of.m = g->n;
  of.n = g->m;
  of.k = g->k;
  of.batch = g->batch;
  of.op_a = b.op;
  of.op_b = a.op;
  of.lda = b.ld;
  of.ldb = a.ld;
  of.ldc = ldc;
  if (g->batch > 1) {
    of.step_a = g->b_batch;
    of.step_b = g->a_batch;
    of.step_c = g->c_batch;
  }
  of.type = type_of(g->a);
  of.type_c = type_of(g->c);
  of.how = tf32 && g->a.dtype == MS_F32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  of.at_a = alignment(g->b, of.step_a);
  of.at_b = alignment(g->a, of.step_b);
  of.at_c = alignment(g->c, of.step_c);
  MS_TRY(handle_of(s, &h));
  MS_TRY(choice_of(s, h, &of, &c));
  cublasStatus_t e = lt.multiply(h->id, c->product, &alpha, g->b.p, c->a, g->a.p, c->b, &beta, g->c.p, c->c, g->c.p,
                                 c->c, &c->algorithm, h->workspace, WORKSPACE, s->id);
  MS_TRY(report(s, e, "cublasLtMatmul"));
  return ms_cuda_launched(s, "cublasLtMatmul");
}

ms_status ms_cuda_product(ms_stream *s, const ms_gemm *g) {
  ms_gemm part = *g;
  for (int64_t at = 0; at < g->batch; at += MOST_BATCH) {
    part.batch = std::min<int64_t>(g->batch - at, MOST_BATCH);
    part.a = ms_from(g->a, at * g->a_batch);
    part.b = ms_from(g->b, at * g->b_batch);
    part.c = ms_from(g->c, at * g->c_batch);
    MS_TRY(multiply(s, &part));
  }
  return MS_OK;
}
