/* Augmentation of event streams before they become frames. What is drawn depends on (key, sample) alone. */
#ifndef MS_EVENT_AUGMENT_H
#define MS_EVENT_AUGMENT_H

#include "events.h"

typedef enum ms_event_drop {
  MS_DROP_NONE,
  MS_DROP_TIME,   /* an interval that begins anywhere and takes 0.1, 0.2 ... 0.9 of the recording */
  MS_DROP_AREA,   /* a box of 0.05, 0.1 ... 0.25 of each side */
  MS_DROP_RANDOM, /* 0.1, 0.2 ... 0.9 of the events */
  MS_DROP_ANY,    /* one of the four at random: EventDrop (Gu, Sng, Hu, Yu 2021) */
  MS_DROP_COUNT
} ms_event_drop;

typedef struct ms_event_augment {
  ms_event_drop drop;
  int released; /* drops as the authors' code does: a cross for the box, time from 0, survivors in random order */
  double flip_x, flip_polarity, reverse; /* probabilities: mirrored, ON for OFF, backwards in time */
} ms_event_augment;

/* Drops, then mirrors and reverses. A draw that would leave nothing drops nothing. */
ms_status ms_events_augment(ms_events *e, ms_buffer *scratch, const ms_event_augment *a, uint64_t key, uint64_t sample,
                            ms_error *err);

#endif
