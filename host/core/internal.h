/* Shared by the files of core, not part of its interface. */
#ifndef MS_INTERNAL_H
#define MS_INTERNAL_H

#include "tensor.h"

/* ---- storage.c ---- */
ms_live *ms_live_counters(void);
/* Device memory with all that goes with it: the memory hook, one retry, accounting, the failing-allocation counter.
** 0 bytes give NULL. */
ms_status ms_device_alloc(ms_device *d, void **out, size_t bytes, ms_error *err);
void ms_device_free(ms_device *d, void *p, size_t bytes);
ms_status ms_storage_new(ms_storage **out, ms_device *d, size_t bytes, ms_error *err);
/* A second storage over of's memory, which it keeps alive. */
ms_status ms_storage_borrow(ms_storage **out, ms_storage *of, struct ms_lease *lease, ms_error *err);

/* ---- tensor.c ---- */
/* A tensor without storage. */
ms_status ms_tensor_header(ms_tensor **out, ms_dtype dtype, int ndim, const int64_t *size, const int64_t *stride,
                           ms_error *err);
/* Fresh memory under strides of the caller's choice, which must be dense in some order of the dimensions. */
ms_status ms_tensor_new_strided(ms_tensor **out, ms_device *d, ms_dtype dtype, int ndim, const int64_t *size,
                                const int64_t *stride, ms_error *err);
void ms_row_major_strides(int ndim, const int64_t *size, int64_t *stride);
int ms_has_strides(const ms_tensor *t, const int64_t *stride); /* up to dimensions of size 1 */
/* As ms_dense, but row-major whatever the number of dimensions. */
ms_status ms_dense_rows(ms_tensor **out, ms_tensor *t, int dtype, ms_error *err);
/* Same shape and memory, outside the graph (+1). Spikes that are not bytes stay so. */
ms_status ms_detached(ms_tensor **out, ms_tensor *t, ms_error *err);

#endif
