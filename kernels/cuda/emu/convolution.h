// What the emulated convolutions compute, away from the library's names.
#pragma once
#include "product.h"

#pragma GCC visibility push(hidden)

namespace emu {

// A tensor of images or filters: sizes and steps of (n or k), c, h, w.
struct Images {
  void *p;
  cudaDataType_t type;
  int size[4], step[4];
};

struct Convolution {
  Images x, w, y;
  int pad[2], stride[2], dilation[2], groups;
  bool tf32;
};

enum Pass { FORWARD, INPUT_GRAD, WEIGHT_GRAD };

// out = alpha * pass + beta * out, out being y, x or w.
void convolve(const Convolution &c, Pass pass, float alpha, float beta);
void sum_bias(const Images &y, const Images &bias, float alpha, float beta);

inline int64_t at(const Images &t, int n, int c, int h, int w) {
  return (int64_t)n * t.step[0] + (int64_t)c * t.step[1] + (int64_t)h * t.step[2] + (int64_t)w * t.step[3];
}

} // namespace emu

#pragma GCC visibility pop
