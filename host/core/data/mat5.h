/* MAT files of version 5: real numeric arrays by name, compressed or not, of either byte order; and the events of ASL-DVS,
** which lie in four of them. */
#ifndef MS_MAT5_H
#define MS_MAT5_H

#include "sink.h"

typedef struct ms_mat5_array {
  const char *name; /* asked for; borrowed */
  int found;
  int rows, columns; /* column-major; of more dimensions, the product of all but the first */
  int64_t n;
  const uint8_t *p; /* elements, in the file's bytes or in memory */
  int type, big;    /* of an element in the file: mi number, big-endian */
  int64_t byte;     /* in the file, or where its compressed data begin */
  ms_buffer memory;
} ms_mat5_array;

/* Fills the arrays whose names are given; the others of the file are passed over. */
ms_status ms_mat5_find(ms_mat5_array *want, int n, const ms_input *in, ms_error *err);
void ms_mat5_free(ms_mat5_array *want, int n);
/* Elements [from, from + n) by value; an element that is no whole number is damage. */
ms_status ms_mat5_integers(int64_t *out, const ms_mat5_array *a, int64_t from, int64_t n, const ms_input *in,
                           ms_error *err);

/* ts (microseconds), x, y and pol (1: ON; 0 or -1: OFF) of one length, as in ASL-DVS, whose own code then flips the axes.
** Lenient: events off the sensor, other pol and times that run backwards are mended. Oracle, SpikingJelly: neither is looked at, and
** each pol but 0 is ON. */
ms_status ms_mat5_decode(ms_events *out, const ms_input *in, const ms_events_options *opt, ms_error *err);

#endif
