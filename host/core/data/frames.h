/* From events to frames [t][h][w][c], by the rules of published code. Counts are integers until the last step. */
#ifndef MS_FRAMES_H
#define MS_FRAMES_H

#include "picture.h"
#include "sink.h"

/* How a recording of n events from t_0 to t_last is cut. */
typedef enum ms_split {
  MS_SPLIT_NUMBER,   /* T blocks of n div T events; the last takes the remainder (SpikingJelly) */
  MS_SPLIT_TIME,     /* T windows of (t_last - t_0) div T us; the last takes the rest (SpikingJelly) */
  MS_SPLIT_DURATION, /* as many windows of duration_us as there are; the last takes what lies on the end (SpikingJelly) */
  MS_SPLIT_SPAN,     /* T equal parts of the time from t_0 to t_last, both included; empty ones are fine */
  MS_SPLIT_TIME_BINS,  /* as TIME, but what lies behind the last window is dropped (tonic) */
  MS_SPLIT_EVENT_BINS, /* as NUMBER, but the remainder is dropped (tonic, TET, TRT) */
  MS_SPLIT_COUNT
} ms_split;

typedef enum ms_polarity {
  MS_POLARITY_BOTH,       /* channels OFF, ON */
  MS_POLARITY_MERGED,     /* one channel */
  MS_POLARITY_DIFFERENCE, /* one channel, ON - OFF */
  MS_POLARITY_DEAD,       /* two channels, all events in the second (TRT's code) */
  MS_POLARITY_COUNT
} ms_polarity;

typedef enum ms_frames_post {
  MS_POST_NONE,
  MS_POST_MAX,  /* divided by the largest of the frame; in bytes 255 times that, cut to an integer */
  MS_POST_CLIP, /* to at most 1 */
  MS_POST_LOG1P,
  MS_POST_COUNT
} ms_frames_post;

typedef struct ms_frames_options {
  ms_split split;
  int64_t T, duration_us; /* duration_us for MS_SPLIT_DURATION, else T; at most MS_FRAMES_MOST frames */
  ms_polarity polarity;
  int occupancy;     /* a pixel counts once in a frame */
  int transpose;     /* rows are x */
  int height, width; /* pixels are counted into so many rows and columns: x * width / sensor's width; 0: the sensor's */
  ms_frames_post post;
  ms_dtype dtype;
  /* STRICT: an empty window of MS_SPLIT_TIME and a count above 255 in bytes are errors. LENIENT: zeros, and 255.
  ** ORACLE: empty windows are errors, counts stop at 255, an empty frame divided by its maximum is NaN, and the times
  ** need no order where SpikingJelly asks for none. */
  ms_policy policy;
  int repair_time; /* ms_repair_time on a copy, for splits by time */
} ms_frames_options;

#define MS_FRAMES_MOST 65536

typedef struct ms_frames_preset {
  const char *name;
  ms_aedat2_layout layout;
  int size, alpha; /* as in frames.def */
  ms_frames_options options;
} ms_frames_preset;

/* By place, from 0; NULL behind the last. */
const ms_frames_preset *ms_frames_preset_at(int i);

/* scratch is kept from one call to the next; out is undefined after a failure. */
ms_status ms_frames_integrate(ms_picture *out, ms_buffer *scratch, const ms_events *e, const ms_frames_options *opt,
                              ms_error *err);

/* As dat2mat.m does: where time runs backwards, what follows up to the next such place is moved by the time before; then
** the first time is taken off, down to 0. */
void ms_repair_time(int64_t *t, int64_t n);

#endif
