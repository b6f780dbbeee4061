/* npy and npz files as tensors, on the main thread: bool and uint8 become uint8, other integers int64, floats float32.
** Strict: damage is an error. */
#ifndef MS_ARRAYS_H
#define MS_ARRAYS_H

#include "../tensor.h"

ms_status ms_npy_tensor(ms_tensor **out, const char *path, ms_error *err);

typedef struct ms_npz_file ms_npz_file;
/* most: bytes that all members together may unpack to. */
ms_status ms_npz_file_open(ms_npz_file **out, const char *path, uint64_t most, ms_error *err);
void ms_npz_file_close(ms_npz_file *f); /* NULL is fine */
int64_t ms_npz_file_count(const ms_npz_file *f);
/* Member i by name, without .npy; not terminated. */
const char *ms_npz_file_name(const ms_npz_file *f, int64_t i, size_t *bytes);
ms_status ms_npz_file_tensor(ms_tensor **out, ms_npz_file *f, int64_t i, ms_error *err);

/* Stored members, in this order: uint8 |u1, int64 <i8, others <f4. The old file stays whole when anything fails. */
ms_status ms_npz_file_write(const char *path, int n, const char *const *names, ms_tensor *const *tensors,
                            ms_error *err);

#endif
