/* One convolution of the library oneDNN: its primitive, the memory objects it needs, and the conversion of our weights
** to the order that it wants. Objects are made once; a run allocates nothing of ours. */
#ifndef MS_ONEDNN_H
#define MS_ONEDNN_H

#include "../kernels.h"

/* Channels-last x [n, h, w, cin] and y [n, oh, ow, cout], without gaps. Weights lie anywhere: strides in elements. */
typedef struct ms_dnn_shape {
  int64_t n, h, w, cin, oh, ow, cout, groups;
  int64_t k[2], stride[2], dilation[2], before[2], after[2]; /* vertical, horizontal; before, after: padding */
  int64_t w_group, w_out, w_in, w_y, w_x;                    /* strides of the weights */
  ms_dtype operand, result;                                  /* MS_F32 or MS_BF16 */
  int weight_grad;                                           /* x and dL/dy are operands, weights the result */
  int bias;                                                  /* y gets a bias */
} ms_dnn_shape;

typedef struct ms_dnn ms_dnn;

/* NULL where the library refuses the shape or has no kernel but its reference loops. */
ms_dnn *ms_dnn_open(const ms_dnn_shape *s);
void ms_dnn_close(ms_dnn *u);
size_t ms_dnn_room(const ms_dnn *u);
/* y is written, or with weight_grad weight. room: ms_dnn_room bytes, 64-byte aligned. Runs on as many threads as OpenMP
** gave at the time of ms_dnn_open. */
ms_status ms_dnn_run(ms_dnn *u, void *x, void *weight, const float *bias, void *y, char *room);

/* The library's engine and stream live while somebody holds them. 0: the library refuses. */
int ms_dnn_hold(void);
void ms_dnn_drop(void);

#endif
