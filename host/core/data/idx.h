/* IDX files (MNIST, Fashion-MNIST, EMNIST), plain or gzip. */
#ifndef MS_IDX_H
#define MS_IDX_H

#include "../tensor.h"
#include "input.h"

/* Strict: every byte is accounted for. Else bytes behind the data are ignored, and a file that ends too early keeps the
** items of its first dimension that are whole. A CPU tensor of the file's shape: u8 as uint8; i8, i16, i32 as int64; f32, f64 as float32. */
ms_status ms_idx_read(ms_tensor **out, const char *path, ms_policy policy, ms_error *err);

#endif
