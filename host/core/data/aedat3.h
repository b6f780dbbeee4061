/* AEDAT 3.0 and 3.1 (DVS128 Gesture): lines of text up to #!END-HEADER, then packets of events of one type, little-endian.
** Polarity events become events, other packets are passed over; times are 31 bits and the packet's count of overflows. Of
** a window, strict and lenient look neither into packets whose last event lies before it nor behind the first packet that
** reaches its end. The policies:
**   strict   events that are marked invalid are left out; all else that is odd is an error;
**   lenient  a packet that the file cuts off, events off the sensor and times that run backwards are mended;
**   oracle   SpikingJelly: every place of a packet is an event, valid or not, used or not. */
#ifndef MS_AEDAT3_H
#define MS_AEDAT3_H

#include "sink.h"

ms_status ms_aedat3_decode(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err);

#endif
