/* SHD and SSC, the Heidelberg spiking data sets: HDF5 files with /spikes/times, /spikes/units (a list of numbers for each
** sample) and /labels, in the format of hdf5.h. The file is mapped: what is read of it takes no memory of ours, and it must
** not shrink meanwhile. ms_shd_read may be called from any thread. */
#ifndef MS_SHD_H
#define MS_SHD_H

#include "events.h"

#define MS_SHD_UNITS 700

typedef struct ms_shd ms_shd;

/* Checks the schema and reads the labels. */
ms_status ms_shd_open(ms_shd **out, const char *op, const char *path, ms_error *err);
void ms_shd_close(ms_shd *s); /* NULL is fine */
int64_t ms_shd_count(const ms_shd *s);
const int64_t *ms_shd_labels(const ms_shd *s); /* [count] */

/* Sample i: x = unit, y = 0, p = 1, 700 x 1. t is the time in seconds, widened without loss, rounded to the nearest
** microsecond, ties away from 0. The published times are float16, whose own steps are 0.5 to 1 ms between half a second
** and two: rounding moves a time by half a microsecond at most, and makes equal of two only what lies below 2^-9 s.
** Times need not be in order in the file; here they are, equal ones as they stand, except for MS_ORACLE. MS_LENIENT
** drops spikes of units outside of 0 to 699 (RANGE) and times that are no number or beyond 1e9 s (INVALID). */
ms_status ms_shd_read(ms_events *out, const ms_shd *s, int64_t i, ms_policy policy, ms_repairs *repairs, ms_error *err);

#endif
