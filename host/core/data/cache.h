/* Samples of a source, decoded once and kept on disk as one npy file [n, t, h, w, c] of uint8 or float32, in the order of
** the source, which any program with NumPy reads. It is mapped into memory, not loaded. */
#ifndef MS_CACHE_H
#define MS_CACHE_H

#include "source.h"

/* Reads every sample without random choices, with several threads, and writes the file: whole or not at all, so that
** two processes may do it at the same time. progress (may be NULL) is told now and then how many are done. */
ms_status ms_cache_write(const ms_source *s, const char *path, int threads, void (*progress)(void *ud, int64_t done),
                         void *ud, ms_repairs *repairs, ms_error *err);

/* A source of the samples in the file, with the labels given; MS_EFORMAT where it does not hold what `like` would. */
ms_status ms_source_cached(ms_source **out, const char *path, const ms_source *like, ms_error *err);

#endif
