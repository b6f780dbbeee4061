/* From tensors to the loops that rows take: broadcasting, merging and ordering of dimensions. */
#ifndef MS_LOOP_H
#define MS_LOOP_H

#include "tensor.h"

typedef enum ms_order {
  MS_ORDER_MEMORY, /* innermost is the fastest in out */
  MS_ORDER_LOGICAL /* row-major over out's dimensions: rows that count positions (arange, random) */
} ms_order;

/* l covers out's shape; every in[i] must broadcast to it. Materialises what is lazy. */
ms_status ms_loop_over(ms_loop *l, ms_tensor *out, int nin, ms_tensor *const *in, ms_order order, ms_error *err);
/* dst = src, broadcast and converted, on one device; no bookkeeping. */
ms_status ms_copy_data(ms_tensor *dst, ms_tensor *src, const char *op, ms_error *err);
/* r reduces the dimensions in mask `dims` of in; out has them as size 1. Positions count in logical order where
** positional. */
ms_status ms_reduction_over(ms_reduction *r, ms_tensor *out, ms_tensor *in, unsigned dims, int positional,
                            ms_error *err);

#endif
