/* What the engines of the CUDA convolution share. conv.cu owns plans and decides which engine runs. */
#ifndef MS_CUDA_CONV_H
#define MS_CUDA_CONV_H

#include "blas.h"
#include "vec.h"

typedef struct ms_conv_engine {
  const char *name;
  int (*supports)(const ms_conv_plan *p, ms_conv_pass pass);
  /* the types of the arguments are not known when a plan is asked for its workspace: room for any */
  size_t (*workspace)(const ms_conv_plan *p, ms_conv_pass pass);
  /* outputs and weights are not empty */
  ms_status (*run[3])(ms_stream *s, const ms_conv_plan *p, const ms_conv_args *a); /* by pass */
} ms_conv_engine;

struct ms_conv_plan {
  ms_conv_desc d;
  ms_stream *stream;
  const ms_conv_engine *forced;
  size_t slab; /* bytes of columns that are multiplied at a time */
  void *dnn;   /* of conv_cudnn.cu */
};

extern const ms_conv_engine ms_conv_blas;      /* any shape: columns and cuBLASLt */
extern const ms_conv_engine ms_conv_depthwise; /* few channels in each of several groups */
extern const ms_conv_engine ms_conv_cudnn;     /* the library cuDNN, where it is present */

/* Whether the library was found; looked for once. */
int ms_cuda_dnn_present(void);
/* Why not; NULL where it was. */
const char *ms_cuda_dnn_missing(void);
/* Types of these arguments fit what the engine can do. */
int ms_cuda_dnn_fits(const ms_conv_plan *p, const ms_conv_args *a, ms_conv_pass pass);
/* What a plan keeps of the library: nothing until it is asked for a pass. NULL: no memory. */
void *ms_cuda_dnn_open(void);
void ms_cuda_dnn_forget(void *kept);

/* ---- sizes ---- */

static inline int64_t ms_conv_rows(const ms_conv_desc *d) {
  return d->n * d->oh * d->ow;
}
static inline int64_t ms_conv_inputs(const ms_conv_desc *d) {
  return d->n * d->h * d->w * d->cin;
}
/* Weights of one output. */
static inline int64_t ms_conv_depth(const ms_conv_desc *d) {
  return (int64_t)d->kh * d->kw * (d->cin / d->groups);
}
static inline int64_t ms_conv_weights(const ms_conv_desc *d) {
  return d->cout * ms_conv_depth(d);
}

/* ---- the workspace, handed out piece by piece ---- */

static inline size_t ms_piece(int64_t n, size_t width) {
  return ((size_t)n * width + 255) / 256 * 256;
}

typedef struct ms_rest {
  char *p;
} ms_rest;

static inline void *ms_take(ms_rest *r, int64_t n, size_t width) {
  void *p = r->p;
  r->p += ms_piece(n, width);
  return p;
}

/* x as operands of the precision `want`: itself, or a copy in `to`. */
ms_status ms_conv_operand(ms_stream *s, ms_data *x, ms_dtype want, void *to, int64_t n);

/* y[row, c] = t[row, c] + bias[c]; bias or t.p NULL: zeros. t may be y. */
ms_status ms_conv_add_bias(ms_stream *s, ms_data y, ms_data t, const float *bias, int64_t rows, int64_t c);

/* bias[c] = sum over rows of y[row, c]; room for ms_conv_bias_room bytes. */
ms_status ms_conv_bias_grad(ms_stream *s, float *bias, ms_data y, int64_t rows, int64_t c, void *room);
size_t ms_conv_bias_room(int64_t rows, int64_t c);

/* Writes out[i] = sum over chunks, in order, of part[chunk][i]. */
ms_status ms_conv_sum(ms_stream *s, ms_data out, const float *part, int64_t chunks, int64_t n);

/* Rows cut into chunks, by shape alone. */
typedef struct ms_chunks {
  int64_t chunks, size;
} ms_chunks;

static inline ms_chunks ms_chunks_of(int64_t rows, int64_t least, int64_t most) {
  int64_t chunks = rows / least;
  chunks = chunks < 1 ? 1 : chunks > most ? most : chunks;
  int64_t size = ms_div_up(rows, chunks) > 1 ? ms_div_up(rows, chunks) : 1;
  return {rows > 0 ? ms_div_up(rows, size) : 1, size};
}

#endif
