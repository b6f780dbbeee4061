/* Samples of a source, decoded once and kept on disk as one npy file [n, t, h, w, c] of uint8 or float32, in the order of
** the source, which any program with NumPy reads. It is mapped into memory, not loaded. */
#ifndef MS_CACHE_H
#define MS_CACHE_H

#include "source.h"

typedef struct ms_cache_writer ms_cache_writer;

/* The file is there whole or not at all, so that two processes may write it at the same time. */
ms_status ms_cache_begin(ms_cache_writer **out, const ms_source *s, const char *path, ms_error *err);
/* Reads and writes the next few samples, without random choices, with several threads. *done: how many are written; all
** of them at the end. */
ms_status ms_cache_step(ms_cache_writer *w, int threads, int64_t *done, ms_error *err);
/* After the last step. Frees w, also by a failure. */
ms_status ms_cache_commit(ms_cache_writer *w, ms_repairs *repairs, ms_error *err);
void ms_cache_abort(ms_cache_writer *w); /* NULL is fine */

/* A source of the samples in the file, with the labels of `like`; MS_EFORMAT where it does not hold what that would. */
ms_status ms_source_cached(ms_source **out, const char *path, const ms_source *like, ms_error *err);

#endif
