/* Recordings of event cameras as files: one door for all formats. Reading is for any thread; writing, like every ms_file, for
** one. */
#ifndef MS_RECORDING_H
#define MS_RECORDING_H

#include "sink.h"

/* scratch holds the file meanwhile; it and out keep their memory for the next file. A failure leaves out->n = 0. */
ms_status ms_events_read(ms_events *out, ms_buffer *scratch, const char *path, const ms_events_options *opt,
                         ms_repairs *repairs, ms_error *err);
/* The same of bytes in memory, by in->policy. */
ms_status ms_events_decode(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err);

/* AEDAT 2.0, ATIS or npz; the file is there whole or not at all. */
ms_status ms_events_write(const char *path, ms_events_format format, const ms_events *e, ms_error *err);

#endif
