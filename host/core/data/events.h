/* Recordings of event cameras, as arrays. Coordinates count from 0 at the top left; p is 0 for OFF, 1 for ON. Usable in any
** thread: memory is the caller's, from malloc, and is kept from one recording to the next. */
#ifndef MS_EVENTS_H
#define MS_EVENTS_H

#include "input.h"

typedef struct ms_events {
  int64_t n, room;
  int64_t *t;      /* microseconds, not decreasing unless the policy is MS_ORACLE */
  uint16_t *x, *y; /* on the sensor unless the policy is MS_ORACLE */
  uint8_t *p;
  int width, height; /* of the sensor */
} ms_events;

/* Room for n events; keeps those that are there. */
ms_status ms_events_reserve(ms_events *e, int64_t n, const char *op, ms_error *err);
void ms_events_free(ms_events *e); /* {0} afterwards */

#endif
