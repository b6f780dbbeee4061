#include "conv.h"

int ms_cuda_dnn_present(void) {
  return 0;
}

int ms_cuda_dnn_fits(const ms_conv_plan *, const ms_conv_args *, ms_conv_pass) {
  return 0;
}

void ms_cuda_dnn_forget(ms_conv_plan *) {}

void ms_cuda_dnn_close(ms_stream *) {}

static int supports(const ms_conv_plan *, ms_conv_pass) {
  return 0;
}

const ms_conv_engine ms_conv_cudnn = {"cudnn", supports, NULL, {NULL, NULL, NULL}};
