/* The lists of DVS128 Gesture: which stretch of a recording shows which gesture, and which recordings are for training. */
#ifndef MS_GESTURE_H
#define MS_GESTURE_H

#include "input.h"

typedef struct ms_gesture {
  int label;                /* 0 to 10; the file counts from 1 */
  int64_t start_us, end_us; /* start <= t < end */
} ms_gesture;

/* userNN_..._labels.csv, "class,startTime_usec,endTime_usec": rows of ms_gesture. Rows may overlap, as they do in the data
** set; strict: in the order of their starts. */
ms_status ms_gesture_labels(ms_buffer *out, const ms_input *in, ms_error *err);

/* trials_to_train.txt, trials_to_test.txt: names of recordings, one a line, as strings one behind the other, each with its
** final zero. A name that leads out of the folder is damage. */
ms_status ms_gesture_trials(ms_buffer *out, const ms_input *in, ms_error *err);

#endif
