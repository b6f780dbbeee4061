/* Raw memory that grows, for the threads that prepare samples: they must not touch tensors or ms_alloc. */
#ifndef MS_BUFFER_H
#define MS_BUFFER_H

#include "../error.h"

typedef struct ms_buffer {
  uint8_t *p;
  size_t bytes, room; /* in use, allocated; {0} is empty */
} ms_buffer;

/* Keeps the first bytes; what is new is undefined. A failure changes nothing. */
ms_status ms_buffer_resize(ms_buffer *b, size_t bytes, const char *op, ms_error *err);
void ms_buffer_free(ms_buffer *b); /* twice is fine */

#endif
