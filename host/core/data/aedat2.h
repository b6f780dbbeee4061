/* AEDAT 2.0 of a DVS128 (CIFAR10-DVS): lines of text that begin with #, then records of 8 bytes, address and time in
** microseconds, both big-endian. Times are a counter of 32 bits, unwrapped. The policies:
**   strict   events that are no pixel's (a sync signal) are left out; all else that is odd is an error;
**   lenient  an unfinished last record, addresses that no DVS128 has and times that run backwards are mended;
**   oracle   SpikingJelly: every record is an event, times are the counter. */
#ifndef MS_AEDAT2_H
#define MS_AEDAT2_H

#include "sink.h"

ms_status ms_aedat2_decode(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err);
/* A whole file, which layout sj reads back. Times must fit: from 0, below 2^32 at first, never backwards. */
ms_status ms_aedat2_encode(ms_buffer *out, const ms_events *e, ms_error *err);

#endif
