/* Recordings of event cameras as a source: read, augmented, integrated to frames, resized, in the loader's threads. */
#ifndef MS_SOURCE_EVENTS_H
#define MS_SOURCE_EVENTS_H

#include "event_augment.h"
#include "frames.h"
#include "paths.h"
#include "resize.h"
#include "shd.h"
#include "sink.h"
#include "source.h"

typedef struct ms_events_source_config {
  ms_paths paths;             /* of the recordings; taken over, also by a failure */
  const int64_t *labels;      /* borrowed, like the next two */
  const int64_t *start, *end; /* [n] microseconds: a sample is a window of its file; NULL: all of it */
  ms_shd *shd;                /* in place of paths: all samples of the file; taken over */
  int frames_only;            /* the files are npz archives of frames */
  ms_events_options read;
  ms_frames_options frames;
  int64_t
      steps; /* frames of a sample, 0: those of the first. Of MS_SPLIT_DURATION longer ones are cut and shorter ones end
                    in empty frames, of others a sample must have as many */
  ms_event_augment augment; /* {0}: none */
  int resizes;
  ms_resize_options resize;
} ms_events_source_config;

/* The shape of the samples follows from the first recording. */
ms_status ms_source_events(ms_source **out, ms_events_source_config *config, ms_error *err);

/* The events of sample i before any augmentation. */
ms_status ms_source_events_read(const ms_source *s, int64_t i, ms_scratch *scratch, ms_error *err);
int ms_source_has_events(const ms_source *s);

#endif
