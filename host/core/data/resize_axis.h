/* The weights of one direction of a resize; for resize.c. */
#ifndef MS_RESIZE_AXIS_H
#define MS_RESIZE_AXIS_H

#include "resize.h"

/* in, out > 0; plain as in the options; from = to = 0: everything. */
ms_status ms_resize_axis_plan(ms_resize_axis *a, ms_filter filter, int plain, int64_t in, int64_t out, int64_t first,
                              int64_t count, double from, double to, const char *op, ms_error *err);

#endif
