/* IDX files (MNIST, Fashion-MNIST, EMNIST), plain or gzip. */
#ifndef MS_IDX_H
#define MS_IDX_H

#include "../tensor.h"
#include "input.h"

/* A CPU tensor of the file's shape: u8 as uint8; i8, i16, i32 as int64; f32, f64 as float32. MS_STRICT: every byte is
** accounted for. MS_LENIENT: bytes behind the data are left out (EXTRA), and a file that ends too early keeps the items of
** its first dimension that are whole (TRUNCATED: the bytes of the others). MS_ORACLE: as torchvision, whose reader allows
** neither, even where it is told not to be strict, and takes 1 to 3 dimensions and no empty file. Damage of the gzip
** around it is an error by every policy. repairs: NULL, or added to. */
ms_status ms_idx_read(ms_tensor **out, const char *path, ms_policy policy, ms_repairs *repairs, ms_error *err);

#endif
