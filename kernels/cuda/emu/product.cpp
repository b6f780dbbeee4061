#include "product.h"
#include "counts.h"
#include "fiber.h"
#include "number.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

namespace emu {

static bool known(cudaDataType_t t) {
  return t == CUDA_R_32F || t == CUDA_R_16BF;
}
static int64_t width(cudaDataType_t t) {
  return t == CUDA_R_32F ? 4 : 2;
}

Matrix column_major(const void *p, cudaDataType_t type, int64_t ld, int64_t stride, bool transposed) {
  return {const_cast<void *>(p), type, transposed ? ld : 1, transposed ? 1 : ld, stride};
}

static bool valid(const Matrix &x, int64_t rows, int64_t cols, int64_t batch) {
  bool by_column = x.row == 1 && x.col >= std::max<int64_t>(1, rows);
  bool by_row = x.col == 1 && x.row >= std::max<int64_t>(1, cols);
  return known(x.type) && (by_column || by_row) && (batch <= 1 || x.stride >= 0);
}

static bool present(Stream *s, const Matrix &x, int64_t rows, int64_t cols, int64_t batch) {
  if (!rows || !cols || !batch)
    return true;
  int64_t n = (batch - 1) * x.stride + (rows - 1) * x.row + (cols - 1) * x.col + 1;
  const Block *b = block_of(x.p, (size_t)(n * width(x.type)));
  return b && b->device == s->device && !b->leaving && (uintptr_t)x.p % (uintptr_t)width(x.type) == 0;
}

static int64_t at(const Matrix &x, int64_t i, int64_t row, int64_t col) {
  return i * x.stride + row * x.row + col * x.col;
}

// x of one batch as [rows][cols], or as [cols][rows].
static void unpack(std::vector<float> &out, const Matrix &x, int64_t i, int64_t rows, int64_t cols, bool by_column,
                   bool tf32) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++) {
      float v = load(x.p, x.type, at(x, i, r, c));
      out[(size_t)(by_column ? c * rows + r : r * cols + c)] = tf32 ? to_tf32(v) : v;
    }
}

static void run(const Product &p) {
  // an operand that is also the output is seen, because the output is overwritten before operands are read
  for (int64_t i = 0; p.beta == 0 && i < p.batch; i++)
    for (int64_t col = 0; col < p.n; col++)
      for (int64_t row = 0; row < p.m; row++)
        store(p.d.p, p.d.type, at(p.d, i, row, col), not_a_number());
  std::vector<float> a((size_t)(p.m * p.k)), b((size_t)(p.k * p.n));
  for (int64_t i = 0; i < p.batch; i++) {
    unpack(a, p.a, i, p.m, p.k, false, p.tf32);
    unpack(b, p.b, i, p.k, p.n, true, p.tf32);
    for (int64_t col = 0; col < p.n; col++)
      for (int64_t row = 0; row < p.m; row++) {
        double v = p.alpha * dot(a.data() + row * p.k, b.data() + col * p.k, p.k);
        if (p.beta != 0)
          v += (double)p.beta * load(p.c.p, p.c.type, at(p.c, i, row, col));
        if (p.bias)
          v += load(p.bias, p.bias_type, row);
        store(p.d.p, p.d.type, at(p.d, i, row, col), (float)v);
      }
  }
}

// Results lie one behind the other, or side by side within each line of a wider matrix.
static bool overlap(const Product &p) {
  bool by_row = p.d.row <= p.d.col;
  int64_t slow = by_row ? p.d.col : p.d.row, line = by_row ? (p.m - 1) * p.d.row + 1 : (p.n - 1) * p.d.col + 1;
  bool behind = p.d.stride >= (p.m - 1) * p.d.row + (p.n - 1) * p.d.col + 1;
  return !behind && (p.d.stride < line || (p.batch - 1) * p.d.stride + line > slow);
}

cublasStatus_t multiply(Stream *s, const Product &p, const char *name) {
  Call call;
  if (call.error)
    return CUBLAS_STATUS_EXECUTION_FAILED;
  counts[LIBRARY]++;
  if (due(FAIL_LIBRARY))
    return CUBLAS_STATUS_EXECUTION_FAILED;
  s = stream_of(s);
  if (p.m < 0 || p.n < 0 || p.k < 0 || p.batch < 0 || !valid(p.a, p.m, p.k, p.batch) ||
      !valid(p.b, p.k, p.n, p.batch) || !valid(p.c, p.m, p.n, p.batch) || !valid(p.d, p.m, p.n, p.batch) ||
      p.a.type != p.b.type || (p.a.type == CUDA_R_32F && p.d.type != CUDA_R_32F)) {
    fprintf(stderr, "emu: %s: sizes, leading dimensions or types\n", name);
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (!p.m || !p.n || !p.batch)
    return CUBLAS_STATUS_SUCCESS;
  kernel = name;
  if (!present(s, p.a, p.m, p.k, p.batch) || !present(s, p.b, p.k, p.n, p.batch) ||
      !present(s, p.d, p.m, p.n, p.batch) || (p.beta != 0 && !present(s, p.c, p.m, p.n, p.batch)))
    die("an operand is not, or not wholly, memory of the stream's device");
  if (p.bias && !present(s, {const_cast<void *>(p.bias), p.bias_type, 1, p.m, 0}, p.m, 1, 1))
    die("the bias is not, or not wholly, memory of the stream's device");
  if (p.batch > 1 && overlap(p))
    die("the results of a batch overlap");
  kernel = "";
  return enqueue(s, [=] { run(p); }) ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

void spoil(Stream *s, void *workspace, size_t bytes, const char *name) {
  const Block *b = block_of(workspace, bytes);
  kernel = name;
  if (!b || b->device != stream_of(s)->device || b->leaving)
    die("the workspace is not, or not wholly, memory of the stream's device");
  kernel = "";
  enqueue(s, [=] { memset(workspace, 0xFF, bytes); });
}

} // namespace emu
