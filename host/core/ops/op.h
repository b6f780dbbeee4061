/* What the files of this folder share. */
#ifndef MS_OP_H
#define MS_OP_H

#include "../capture.h"
#include "../internal.h"
#include "../loop.h"
#include "../ops.h"

typedef struct ms_shape {
  int ndim;
  int64_t size[MS_MAX_DIMS];
} ms_shape;

ms_shape ms_shape_of(const ms_tensor *t);
/* The end of an op: hands t over when st is MS_OK, else releases it. */
ms_status ms_give(ms_tensor **out, ms_tensor *t, ms_status st);
/* A copy of `bytes` at p becomes the params of n; nothing to do when n is NULL. */
ms_status ms_keep(ms_node *n, const void *p, size_t bytes, ms_error *err);
/* Brings a dimension that may count from the end into [0, ndim). */
ms_status ms_resolve_dim(int *dim, int ndim, const char *op, ms_error *err);
/* Does a look at a tensor's memory cost nothing? Elsewhere it would wait for the device. */
static inline int ms_on_cpu(const ms_device *d) {
  return d == ms_device_cpu();
}

ms_status ms_same_device(const char *op, int n, ms_tensor *const *in, ms_error *err);
/* float32 > bfloat16 > int64 > uint8; a spike tensor counts as float32. */
ms_dtype ms_promote(ms_dtype a, ms_dtype b);
/* The float type of a result of t: bfloat16 stays, all else is float32. */
ms_dtype ms_float_of(const ms_tensor *t);

/* In-place ops under recording: the result is computed as a fresh tensor r, and x takes over r's memory and place in
** the graph. What was saved of x before keeps the old memory, so no gradient can go wrong. ms_may_take_over comes
** first, ms_take_over (which frees r) last. */
ms_status ms_may_take_over(ms_tensor *x, const char *op, ms_error *err);
void ms_take_over(ms_tensor *x, ms_tensor *r);
/* +1: y itself, or a copy where writing x would change y while it is read. */
ms_status ms_unaliased(ms_tensor **out, ms_tensor *y, const ms_tensor *x, ms_error *err);

#endif
