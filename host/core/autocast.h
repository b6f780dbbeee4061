/* Mixed precision: under "bf16" the products of convolutions, linear layers and matmul take float32 operands as
** bfloat16, sum in float32 and give bfloat16; what must not lose bits (statistics, membranes, losses, sums of many
** terms, optimizers, the weights themselves) stays float32. Backward runs in the precision that forward was recorded
** with. */
#ifndef MS_AUTOCAST_H
#define MS_AUTOCAST_H

#include "tensor.h"

int ms_autocast(void);       /* 1: bf16 */
int ms_set_autocast(int on); /* returns what it was */
/* The type of a result that PyTorch's autocast keeps in float32: t's float type, but float32 under bf16. */
ms_dtype ms_wide_float(const ms_tensor *t);

/* float32 or int64 t in bfloat16 (+1), other types as they are; outside the graph. The copy of a parameter of an arena,
** or of a tensor that is a layer's weight and has its memory for itself, is kept with the memory and made again only
** after a write. */
ms_status ms_half(ms_tensor **out, ms_tensor *t, int weight, ms_error *err);
/* Makes the kept copy of t's memory again where something was written since. */
ms_status ms_half_renew(ms_tensor *t, ms_error *err);
/* s.half has just been written together with s. */
void ms_half_written(ms_storage *s);

#endif
