/* The .bin files of N-MNIST and N-Caltech101: records of 5 bytes, x, y, then one bit of polarity and 23 of microseconds;
** no header. A record with y = 240 is no event but says that the clock overflowed, unless the sensor has such a row. The
** policies:
**   strict   all that is odd is an error, such records too;
**   lenient  they add 8192 us to all that follows, as in the data sets' own reader; an unfinished last record, events off
**            the sensor and times that run backwards are mended;
**   oracle   SpikingJelly: every record is an event, whatever its coordinates and time. */
#ifndef MS_ATIS_H
#define MS_ATIS_H

#include "sink.h"

ms_status ms_atis_decode(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err);
ms_status ms_atis_encode(ms_buffer *out, const ms_events *e, ms_error *err);

/* Undoes the three saccades of N-MNIST, 105 ms each, so that the digit stands still; drops what leaves its 34 x 34
** pixels. In double precision and in the order of tonic's code. */
void ms_atis_stabilize(ms_events *e);

#endif
