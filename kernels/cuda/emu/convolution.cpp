#include "convolution.h"
#include "number.h"
#include <vector>

namespace emu {

// Channels-last copies, so that the inner loops run over neighbours and need no checks.
static std::vector<float> unpack(const Images &t, bool tf32) {
  std::vector<float> out;
  out.reserve((size_t)t.size[0] * (size_t)t.size[1] * (size_t)t.size[2] * (size_t)t.size[3]);
  for (int n = 0; n < t.size[0]; n++)
    for (int h = 0; h < t.size[2]; h++)
      for (int w = 0; w < t.size[3]; w++)
        for (int c = 0; c < t.size[1]; c++) {
          float v = load(t.p, t.type, at(t, n, c, h, w));
          out.push_back(tf32 ? to_tf32(v) : v);
        }
  return out;
}

// t = alpha * sums + beta * t, with sums channels-last.
static void pack(const Images &t, const std::vector<double> &sums, float alpha, float beta) {
  size_t i = 0;
  for (int n = 0; n < t.size[0]; n++)
    for (int h = 0; h < t.size[2]; h++)
      for (int w = 0; w < t.size[3]; w++)
        for (int c = 0; c < t.size[1]; c++) {
          int64_t k = at(t, n, c, h, w);
          double v = alpha * sums[i++];
          store(t.p, t.type, k, (float)(beta != 0 ? v + (double)beta * load(t.p, t.type, k) : v));
        }
}

static void spoil(const Images &t) {
  for (int n = 0; n < t.size[0]; n++)
    for (int h = 0; h < t.size[2]; h++)
      for (int w = 0; w < t.size[3]; w++)
        for (int c = 0; c < t.size[1]; c++)
          store(t.p, t.type, at(t, n, c, h, w), not_a_number());
}

__attribute__((no_sanitize("address", "undefined"))) static void add_scaled(double *out, const float *x, double by,
                                                                            int n) {
  for (int i = 0; i < n; i++)
    out[i] += by * x[i];
}

static size_t count(const Images &t) {
  return (size_t)t.size[0] * (size_t)t.size[1] * (size_t)t.size[2] * (size_t)t.size[3];
}

namespace {

// Operands and sums of one call.
struct Work {
  std::vector<float> x, w, y;
  std::vector<double> sums;
};

} // namespace

// One tap (i, j) of the kernel at one output pixel: o, f and p are the offsets of y, w and x in channels-last order, f
// that of the first filter.
static void tap(Work &work, const Convolution &c, Pass pass, size_t o, size_t f, size_t p) {
  int cin = c.w.size[1], each = c.w.size[0] / c.groups;
  size_t filter = (size_t)(cin * c.w.size[2] * c.w.size[3]);
  for (int k = 0; k < c.w.size[0]; k++) {
    size_t px = p + (size_t)(k / each * cin), pw = f + (size_t)k * filter, py = o + (size_t)k;
    if (pass == FORWARD)
      work.sums[py] += dot(&work.x[px], &work.w[pw], cin);
    else if (pass == INPUT_GRAD)
      add_scaled(&work.sums[px], &work.w[pw], work.y[py], cin);
    else
      add_scaled(&work.sums[pw], &work.x[px], work.y[py], cin);
  }
}

void convolve(const Convolution &c, Pass pass, float alpha, float beta) {
  const Images &out = pass == FORWARD ? c.y : pass == INPUT_GRAD ? c.x : c.w;
  if (beta == 0)
    spoil(out); // an operand that is also the output is seen
  Work work;
  work.sums.assign(count(out), 0.0);
  if (pass != FORWARD)
    work.y = unpack(c.y, c.tf32);
  if (pass != INPUT_GRAD)
    work.x = unpack(c.x, c.tf32);
  if (pass != WEIGHT_GRAD)
    work.w = unpack(c.w, c.tf32);
  int kh = c.w.size[2], kw = c.w.size[3], h = c.x.size[2], w = c.x.size[3], oh = c.y.size[2], ow = c.y.size[3];
  for (int n = 0; n < c.y.size[0]; n++)
    for (int oy = 0; oy < oh; oy++)
      for (int ox = 0; ox < ow; ox++)
        for (int i = 0; i < kh; i++)
          for (int j = 0; j < kw; j++) {
            int iy = oy * c.stride[0] - c.pad[0] + i * c.dilation[0];
            int ix = ox * c.stride[1] - c.pad[1] + j * c.dilation[1];
            if (iy < 0 || iy >= h || ix < 0 || ix >= w)
              continue;
            tap(work, c, pass, (((size_t)n * oh + oy) * ow + ox) * c.y.size[1], (size_t)(i * kw + j) * c.w.size[1],
                (((size_t)n * h + iy) * w + ix) * c.x.size[1]);
          }
  pack(out, work.sums, alpha, beta);
}

void sum_bias(const Images &y, const Images &bias, float alpha, float beta) {
  std::vector<float> values = unpack(y, false);
  std::vector<double> sums((size_t)y.size[1]);
  for (size_t i = 0; i < values.size(); i++)
    sums[i % sums.size()] += values[i];
  pack(bias, sums, alpha, beta);
}

} // namespace emu
